//! What a provider's answer says that it used, from its bytes as they pass.

use llmquota::usage::answer::{Answer, Used};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Above this the GIL is released while it is read: for less, that costs more than the reading.
const WORTH_RELEASING: usize = 64 << 10;

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

    /// What it says, a dictionary: `characters` that were made, as far as they passed, and `is_whole`; where it tells them, `usage` (the
    /// fields of `llmquota.usage.UsageNumbers`), `response_id`, `milliseconds`, `images`, `tools` and `problems`; and where it
    /// says that the call failed `error`, its code and its type. `None` when it was finished before.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let answer = self.answer.lock().take();
        answer.map(|answer| told(py, answer.finish())).transpose()
    }
}

fn told(py: Python<'_>, used: Used) -> PyResult<Bound<'_, PyDict>> {
    let fields = PyDict::new(py);
    if let Some(tokens) = used.tokens {
        let usage = PyDict::new(py);
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
        // A total alone has no parts.
        if tokens.input | tokens.output != 0 || tokens.unsplit == 0 {
            for (name, count) in parts {
                usage.set_item(name, count)?;
            }
        }
        usage.set_item("total_tokens", tokens.total())?;
        for (name, word) in
            [("model", &used.model), ("service_tier", &used.service_tier), ("response_id", &used.response_id)]
        {
            if let Some(word) = word {
                usage.set_item(name, word)?;
            }
        }
        fields.set_item("usage", usage)?;
    }
    if let Some(name) = used.response_id {
        fields.set_item("response_id", name)?;
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
