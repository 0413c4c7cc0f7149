//! What a request that is about to leave says of itself.

use llmquota::usage::request;
use pyo3::prelude::*;

use crate::answer::WORTH_RELEASING;

/// The model that a request's JSON names, the tokens of its prompt and those that it asks for at most, and
/// the answers that it asks for without a maximum. `None` where there is no
/// object in it, and where `json` and `llmquota.estimates` have to say.
#[pyfunction]
pub(crate) fn read_request(py: Python<'_>, body: &[u8]) -> Option<(Option<String>, u64, u64, u64)> {
    let read = || request::read(body);
    let read = if body.len() < WORTH_RELEASING { read() } else { py.detach(read) }?;
    let choices = read.size.choices.max(1);
    let (answer, open) = read.size.max_output_tokens.map_or((0, choices), |most| (most.saturating_mul(choices), 0));
    Some((read.model, read.size.prompt_tokens(), answer, open))
}
