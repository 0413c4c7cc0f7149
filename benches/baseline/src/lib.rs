//! What the benchmarks divide by. It answers what a call costs that does nothing, what a hash map costs, and what the engine
//! costs without Python; it never measures anything else, and `benches/run.py` alone builds and loads it.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use llmquota::config::{Config, LimitsFile};
use llmquota::usage::TokenUsage;
use llmquota::{Manager, Options, Report};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// An argument that may be absent or `None`: as in the binding.
type Given<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// A tracker that does nothing: its methods cost what a call from Python costs.
#[pyclass(subclass, frozen, module = "llmquota_baseline")]
struct Tracker;

#[pymethods]
impl Tracker {
    #[new]
    fn new() -> Self {
        Self
    }

    /// Nothing, with the arguments of the tracker's own; a test compares the two signatures.
    #[pyo3(
        signature = (success = true, tokens_used = None, goal_id = None, task_id = None, workspace_id = None, *,
            model = None, user_id = None, provider = None, credential = None, input_tokens = None,
            output_tokens = None, cached_tokens = None, reasoning_tokens = None, cost_usd = None, error_code = None,
            error_status = None, retry_after = None, service_tier = None, request_id = None, latency_ms = None,
            method = None),
        text_signature = "($self, success=True, tokens_used=0, goal_id=None, task_id=None, workspace_id=None, *, \
            model=None, user_id=None, provider=None, credential=None, input_tokens=None, output_tokens=None, \
            cached_tokens=None, reasoning_tokens=None, cost_usd=None, error_code=None, error_status=None, \
            retry_after=None, service_tier=None, request_id=None, latency_ms=None, method=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn record_request<'py>(
        &self,
        py: Python<'py>,
        success: bool,
        tokens_used: Given<'_, 'py>,
        goal_id: Given<'_, 'py>,
        task_id: Given<'_, 'py>,
        workspace_id: Given<'_, 'py>,
        model: Given<'_, 'py>,
        user_id: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
        input_tokens: Given<'_, 'py>,
        output_tokens: Given<'_, 'py>,
        cached_tokens: Given<'_, 'py>,
        reasoning_tokens: Given<'_, 'py>,
        cost_usd: Given<'_, 'py>,
        error_code: Given<'_, 'py>,
        error_status: Given<'_, 'py>,
        retry_after: Given<'_, 'py>,
        service_tier: Given<'_, 'py>,
        request_id: Given<'_, 'py>,
        latency_ms: Given<'_, 'py>,
        method: Given<'_, 'py>,
    ) -> PyResult<()> {
        let _ = (py, success, tokens_used, goal_id, task_id, workspace_id, model, user_id, provider, credential);
        let _ = (input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd);
        let _ = (error_code, error_status, retry_after, service_tier, request_id, latency_ms, method);
        Ok(())
    }

    /// Nothing, without arguments.
    fn can_make_request(&self) -> bool {
        black_box(true)
    }
}

/// Counts by name in a hash map of the standard library.
#[pyclass(module = "llmquota_baseline")]
struct Counts(HashMap<String, u64>);

#[pymethods]
impl Counts {
    #[new]
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Adds one under `name`.
    fn increment(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(name.to_owned(), 1);
            }
        }
    }

    /// The count of `name`.
    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// The engine alone: records of one workspace and one goal, in a loop of Rust.
#[pyclass(frozen, module = "llmquota_baseline")]
struct Engine(llmquota::Tracker);

#[pymethods]
impl Engine {
    /// An engine with the limits of a `limits.toml`.
    #[new]
    fn new(limits: &str) -> PyResult<Self> {
        let made = LimitsFile::parse(limits, "limits.toml").and_then(|file| {
            let config = Config::unlimited().with_file(file);
            Manager::new(Options { config, ..Options::default() })?.tracker(Some("acme"))
        });
        made.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Records `times` calls and returns how long that took, in seconds.
    fn record(&self, times: usize) -> PyResult<f64> {
        let report = Report::success(TokenUsage::unsplit(100));
        let call = self.0.call().goal("goal-1");
        self.timed(times, || self.0.record_call(black_box(&call), black_box(&report)))
    }

    /// Asks `times` whether there is room, and returns how long that took, in seconds.
    fn can_make_request(&self, times: usize) -> PyResult<f64> {
        self.timed(times, || black_box(&self.0).can_make_request())
    }
}

impl Engine {
    fn timed<T>(&self, times: usize, mut work: impl FnMut() -> llmquota::Result<T>) -> PyResult<f64> {
        let start = Instant::now();
        for _ in 0..times {
            black_box(work()).map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        let took: Duration = start.elapsed();
        Ok(took.as_secs_f64())
    }
}

/// What the benchmarks divide by.
#[pymodule(gil_used = false)]
mod llmquota_baseline {
    #[pymodule_export]
    use super::Counts;
    #[pymodule_export]
    use super::Engine;
    #[pymodule_export]
    use super::Tracker;
}
