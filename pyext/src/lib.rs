//! The Python binding: converts, releases the GIL, maps errors. It takes no decision about quotas.

use pyo3::prelude::*;

/// The compiled half of the `llmquota` package.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
