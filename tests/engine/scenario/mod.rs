//! Scenarios: `document` reads one, `stage` plays it, `expectation` compares what came with what was written.

pub(crate) mod document;
pub(crate) mod expectation;
pub(crate) mod stage;
