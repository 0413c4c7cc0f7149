//! The Python binding: converts, releases the GIL, maps errors. It takes no decision about quotas.
//!
//! Reading order: [`manager`] and [`tracker`] are what Python calls, [`calls`] reads its arguments, [`opened`] is what they
//! call, [`errors`] how that fails; [`hold`], [`wait`] and [`runtime`] are a call's life; [`events`] tells
//! of all of them; [`request`] reads what goes to a provider, [`answer`] and [`headers`] what comes back.

mod answer;
mod calls;
mod claims;
mod clock;
mod errors;
mod events;
mod fastcall;
mod headers;
mod hold;
mod kept;
mod manager;
mod opened;
mod ready;
mod reports;
mod request;
mod runtime;
mod settings;
mod stores;
mod tracker;
mod usage;
mod wait;

use pyo3::prelude::*;

/// A wire shape as Python objects.
fn convert<'py, T: serde::Serialize>(py: Python<'py>, shape: &T) -> PyResult<Bound<'py, PyAny>> {
    Ok(pythonize::pythonize(py, shape)?)
}

/// The compiled half of the `llmquota` package.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::answer::AnswerReader;
    #[pymodule_export]
    use super::answer::AnswerUsage;
    #[pymodule_export]
    use super::calls::is_transient;
    #[pymodule_export]
    use super::claims::open_claims;
    #[pymodule_export]
    use super::clock::ManualClock;
    #[pymodule_export]
    use super::events::Subscription;
    #[pymodule_export]
    use super::headers::none_left_for;
    #[pymodule_export]
    use super::hold::Hold;
    #[pymodule_export]
    use super::manager::Manager;
    #[pymodule_export]
    use super::request::read_request;
    #[pymodule_export]
    use super::tracker::Tracker;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::fastcall::install(module.py())
    }
}
