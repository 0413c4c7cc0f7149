//! The engine's failures as the exceptions of `llmquota.errors`: one table.

use llmquota::wire::Decision;
use llmquota::{Code, Error};
use pyo3::prelude::*;
use pyo3::types::PyModule;

const MODULE: &str = "llmquota.errors";

/// The exception class of a code.
fn class_of(code: Code) -> &'static str {
    match code {
        Code::InvalidId | Code::InvalidNumber | Code::InvalidChoice | Code::UnknownModel => "QuotaInputError",
        Code::InvalidLimit | Code::InvalidTimeZone | Code::InvalidConfig => "QuotaConfigError",
        Code::StoreFull | Code::StoreBusy | Code::StoreDamaged => "QuotaStoreError",
        // An unknown hold, and what a later engine may add.
        _ => "QuotaError",
    }
}

/// The exception for a failure of the engine: its class by code, with message, code and field.
#[cold]
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let args = (error.message(), error.code().as_str(), error.field());
    made(py, class_of(error.code()), |class| class.call1(args))
}

/// The exception for input that is not valid.
#[cold]
pub(crate) fn input(py: Python<'_>, field: &str, shown: &str, expected: &str) -> PyErr {
    raised(py, &Error::invalid(Code::InvalidNumber, field, shown, expected))
}

/// The exception for a refusal, which Python makes in one place.
#[cold]
pub(crate) fn exceeded(py: Python<'_>, decision: &Decision, workspace: &str) -> PyErr {
    match crate::convert(py, decision) {
        Ok(decision) => made(py, "exceeded", |make| make.call1((decision, workspace))),
        Err(error) => error,
    }
}

fn made<'py>(
    py: Python<'py>,
    name: &str,
    make: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    let module: PyResult<Bound<'py, PyModule>> = py.import(MODULE);
    match module.and_then(|module| module.getattr(name)).and_then(|maker| make(&maker)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Turns the engine's results into Python's.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}
