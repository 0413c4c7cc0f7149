//! An answer that is there at once, for the methods that Python awaits.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// An awaitable that gives its value without a turn of the loop.
#[pyclass(frozen, module = "llmquota._native")]
pub(crate) struct Ready(Py<PyAny>);

impl Ready {
    pub(crate) fn new(value: Py<PyAny>) -> Self {
        Self(value)
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        // In a tuple of its own, as a value that is a tuple would be taken apart.
        let args = PyTuple::new(py, [&self.0])?;
        Err(PyErr::from_type(py.get_type::<PyStopIteration>(), args.unbind()))
    }
}
