//! What a provider's answer says that it used, from its bytes as they pass.

use llmquota::usage::TokenUsage;
use llmquota::usage::answer::{Answer, Used};
use llmquota::usage::pricing::Processing;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::usage::Read;

/// Above this the GIL is released while it is read: for less, that costs more than the reading.
pub(crate) const WORTH_RELEASING: usize = 64 << 10;

/// Reads one answer: a whole body or a stream, packed or not, in pieces of any size, none of which is kept.
///
/// `content_type` and `content_encoding` are its headers, `""` where there is none.
#[pyclass(frozen, module = "llmquota._native")]
pub(crate) struct AnswerReader {
    /// `None` once it was finished.
    answer: Mutex<Option<Answer>>,
}

#[pymethods]
impl AnswerReader {
    #[new]
    #[pyo3(signature = (content_type = "", content_encoding = ""))]
    fn new(content_type: &str, content_encoding: &str) -> Self {
        Self { answer: Mutex::new(Some(Answer::new(content_type, content_encoding))) }
    }

    /// Reads on. Never fails: what cannot be read is told at the end. After the end it does nothing.
    fn feed(&self, py: Python<'_>, piece: &[u8]) {
        let read = || {
            if let Some(answer) = self.answer.lock().as_mut() {
                answer.feed(piece);
            }
        };
        if piece.len() < WORTH_RELEASING { read() } else { py.detach(read) }
    }

    /// What it says, a dictionary: `characters` that were made, as far as they passed, and `is_whole`; where it tells them, `usage` (an
    /// [`AnswerUsage`], of the provider's `request_id`), `response_id`, `milliseconds`, `images`, `tools` and `problems`; and where it
    /// says that the call failed `error`, its code and its type. `None` when it was finished before.
    #[pyo3(signature = (request_id = None))]
    fn finish<'py>(&self, py: Python<'py>, request_id: Option<&str>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let answer = self.answer.lock().take();
        answer.map(|answer| told(py, answer.finish(), request_id)).transpose()
    }
}

/// What an answer says that its call used: `Hold.settle` takes it as it is.
#[pyclass(frozen, module = "llmquota._native")]
pub(crate) struct AnswerUsage {
    tokens: TokenUsage,
    model: Option<String>,
    service_tier: Option<String>,
    response_id: Option<String>,
    request_id: Option<String>,
}

impl AnswerUsage {
    /// Whether it says more than a total.
    fn has_parts(&self) -> bool {
        self.tokens.input | self.tokens.output != 0 || self.tokens.unsplit == 0
    }

    pub(crate) fn read(&self) -> Read {
        Read {
            // A provider's own report has happened, and is counted even if it is odd.
            usage: self.tokens.clamped(),
            // What is charged beside tokens the request says as well: it is added to the numbers.
            beside: None,
            cost: None,
            model: self.model.clone(),
            processing: self.service_tier.as_deref().map_or_else(Processing::default, Processing::from_service_tier),
            requests: Some(1),
            request_id: self.request_id.clone().or_else(|| self.response_id.clone()),
        }
    }
}

#[pymethods]
impl AnswerUsage {
    /// How many requests it is of.
    #[getter]
    fn requests(&self) -> u32 {
        1
    }

    /// All that was sent; `None` where it says a total alone.
    #[getter]
    fn input_tokens(&self) -> Option<u64> {
        self.has_parts().then_some(self.tokens.input)
    }

    /// All that came back; `None` where it says a total alone.
    #[getter]
    fn output_tokens(&self) -> Option<u64> {
        self.has_parts().then_some(self.tokens.output)
    }

    /// The same as `llmquota.usage.UsageNumbers`.
    fn numbers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Self { tokens, .. } = self;
        let fields = PyDict::new(py);
        let parts = [
            ("input_tokens", tokens.input),
            ("output_tokens", tokens.output),
            ("cached_tokens", tokens.cached_input),
            ("cache_write_tokens", tokens.cache_write),
            ("reasoning_tokens", tokens.reasoning),
            ("audio_input_tokens", tokens.audio_input),
            ("audio_output_tokens", tokens.audio_output),
            ("image_input_tokens", tokens.image_input),
            ("image_output_tokens", tokens.image_output),
            ("cache_write_1h_tokens", tokens.cache_write_long),
        ];
        if self.has_parts() {
            for (name, count) in parts {
                fields.set_item(name, count)?;
            }
        }
        fields.set_item("total_tokens", tokens.total())?;
        fields.set_item("model", &self.model)?;
        fields.set_item("service_tier", &self.service_tier)?;
        fields.set_item("response_id", &self.response_id)?;
        fields.set_item("request_id", &self.request_id)?;
        py.import("llmquota.usage_numbers")?.getattr("UsageNumbers")?.call((), Some(&fields))
    }
}

fn told<'py>(py: Python<'py>, used: Used, request_id: Option<&str>) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    if let Some(name) = &used.response_id {
        fields.set_item("response_id", name)?;
    }
    if let Some(tokens) = used.tokens {
        let usage = AnswerUsage {
            tokens,
            model: used.model,
            service_tier: used.service_tier,
            response_id: used.response_id,
            request_id: request_id.map(str::to_owned),
        };
        fields.set_item("usage", Bound::new(py, usage)?)?;
    }
    if let Some(milliseconds) = used.milliseconds {
        fields.set_item("milliseconds", milliseconds)?;
    }
    if used.images != 0 {
        fields.set_item("images", used.images)?;
    }
    if !used.tools.is_empty() {
        fields.set_item("tools", used.tools.into_iter().collect::<std::collections::BTreeMap<_, _>>())?;
    }
    fields.set_item("characters", used.characters)?;
    fields.set_item("is_whole", used.is_whole)?;
    if let Some(error) = used.error {
        fields.set_item("error", (error.code, error.kind))?;
    }
    if !used.problems.is_empty() {
        fields.set_item("problems", used.problems)?;
    }
    Ok(fields)
}
