//! What a response says that a call used. `llmquota.usage` reads it; this takes its numbers.

use llmquota::usage::pricing::Processing;
use llmquota::usage::{NanoUsd, TokenUsage, Units};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyString};

use crate::answer::AnswerUsage;
use crate::calls;
use crate::errors;

/// What was read.
pub(crate) struct Read {
    pub(crate) usage: TokenUsage,
    pub(crate) beside: Option<Beside>,
    pub(crate) cost: Option<NanoUsd>,
    pub(crate) model: Option<String>,
    pub(crate) processing: Processing,
    /// How many requests it is of, where that is told.
    pub(crate) requests: Option<u32>,
    /// The provider's name for the request, or else for its answer.
    pub(crate) request_id: Option<String>,
}

/// What was used beside tokens.
pub(crate) struct Beside {
    units: Units<'static>,
    image_kind: String,
}

impl Read {
    pub(crate) fn units(&self) -> Option<Units<'_>> {
        self.beside.as_ref().map(|beside| Units { image_kind: &beside.image_kind, ..beside.units })
    }
}

/// Reads a response, a usage, a mapping of one or a number of tokens; `None` where it says nothing of usage.
///
/// # Errors
/// `QuotaInputError` for what is none of these.
pub(crate) fn read(given: &Bound<'_, PyAny>) -> PyResult<Option<Read>> {
    let py = given.py();
    if let Ok(usage) = given.cast_exact::<AnswerUsage>() {
        // The instrumentation has it from the answer's bytes.
        return Ok(Some(usage.get().read()));
    }
    if given.hasattr("__index__")? && !given.is_instance_of::<PyBool>() {
        let usage = TokenUsage::unsplit(calls::count("usage", given)?);
        let processing = Processing::default();
        return Ok(Some(Read {
            usage,
            beside: None,
            cost: None,
            model: None,
            processing,
            requests: None,
            request_id: None,
        }));
    }
    let is_plain = given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyFloat>()
        || given.is_instance_of::<PyBool>();
    if is_plain {
        let shown = calls::shown(given);
        return Err(errors::input(
            py,
            "usage",
            &shown,
            "a response, its usage, a mapping of one, or a number of tokens",
        ));
    }
    let module = py.import("llmquota.usage")?;
    if given.get_type().is(&module.getattr("UsageNumbers")?) {
        // Read already.
        return of_numbers(given).map(Some);
    }
    let numbers = module.call_method1("read_usage", (given,))?;
    if numbers.is_none() { Ok(None) } else { of_numbers(&numbers).map(Some) }
}

fn of_numbers(numbers: &Bound<'_, PyAny>) -> PyResult<Read> {
    let attribute = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(numbers.getattr_opt(name)?.filter(|value| !value.is_none()))
    };
    let count = |name: &str| -> PyResult<u64> { attribute(name)?.map_or(Ok(0), |value| calls::count(name, &value)) };
    let (input, output) = (count("input_tokens")?, count("output_tokens")?);
    let usage = TokenUsage {
        input,
        output,
        cached_input: count("cached_tokens")?,
        cache_write: count("cache_write_tokens")?,
        cache_write_long: count("cache_write_1h_tokens")?,
        reasoning: count("reasoning_tokens")?,
        audio_input: count("audio_input_tokens")?,
        audio_output: count("audio_output_tokens")?,
        image_input: count("image_input_tokens")?,
        image_output: count("image_output_tokens")?,
        unsplit: count("tokens")?.saturating_sub(input.saturating_add(output)),
    };
    let units = Units {
        milliseconds: count("milliseconds")?,
        characters: count("characters")?,
        images: count("images")?,
        image_kind: "",
        web_searches: count("web_searches")?,
        file_searches: count("file_searches")?,
        code_sessions: count("code_sessions")?,
        other_tools: count("other_tools")?,
    };
    let word = |name: &str| -> PyResult<Option<String>> { attribute(name)?.map(|word| word.extract()).transpose() };
    let image_kind = word("image_kind")?.unwrap_or_default();
    Ok(Read {
        // A provider's own report has happened, and is counted even if it is odd.
        usage: usage.clamped(),
        beside: (!units.is_empty()).then_some(Beside { units, image_kind }),
        cost: attribute("cost_usd")?.map(|cost| calls::money("cost_usd", &cost)).transpose()?,
        model: word("model")?,
        requests: attribute("requests")?.map(|requests| calls::requests(Some(&requests))).transpose()?,
        request_id: word("request_id")?.or(word("response_id")?),
        processing: word("service_tier")?.map_or_else(Processing::default, |tier| Processing::from_service_tier(&tier)),
    })
}
