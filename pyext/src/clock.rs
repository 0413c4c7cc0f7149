//! A clock that moves when told to, for tests.

use std::sync::Arc;

use llmquota::{Clock, ManualClock as Hands};
use pyo3::prelude::*;
use tokio::sync::Notify;

use crate::calls;

/// Where a clock that nobody sets stands: 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000_000;

/// A clock that stands still until it is told to move. Managers made with it have no other time; those who wait for one of
/// them are woken when it moves.
#[pyclass(frozen, module = "llmquota._native")]
#[derive(Debug)]
pub(crate) struct ManualClock {
    pub(crate) hands: Hands,
    pub(crate) moved: Arc<Notify>,
}

#[pymethods]
impl ManualClock {
    /// A clock that stands at `start`, seconds since the epoch; 2026-01-01T00:00:00Z without one.
    #[new]
    #[pyo3(signature = (start = None))]
    fn new(start: calls::Given<'_, '_>) -> PyResult<Self> {
        let start = start.map_or(Ok(START), |start| calls::instant("start", start))?;
        Ok(Self { hands: Hands::at(start), moved: Arc::default() })
    }

    /// Lets `seconds` pass, and wakes those who wait.
    fn advance(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        self.hands.advance(calls::nanos("seconds", seconds)?);
        self.moved.notify_waiters();
        Ok(())
    }

    /// Sets the wall clock, forward or back, as an administrator would; no time passes.
    fn set_wall(&self, epoch_seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        self.hands.set_wall(calls::instant("epoch_seconds", epoch_seconds)?);
        self.moved.notify_waiters();
        Ok(())
    }

    /// The wall time, in seconds since the epoch.
    fn time(&self) -> f64 {
        self.hands.exact().wall as f64 / 1e9
    }

    fn __repr__(&self) -> String {
        format!("<ManualClock at {}>", self.time())
    }
}
