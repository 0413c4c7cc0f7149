//! Claims: a layer above (a guard, a context) that counts the calls inside it. While none is open anywhere in the process,
//! a record pays one relaxed load for them.

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::calls::{Names, Told};
use crate::manager::Manager;

static OPEN: AtomicI64 = AtomicI64::new(0);

/// True where a claim is open somewhere in this process.
#[inline]
pub(crate) fn are_open() -> bool {
    OPEN.load(Ordering::Relaxed) > 0
}

/// Counts claims that open (+1) or close (-1); returns how many are open.
#[pyfunction]
pub(crate) fn open_claims(change: i64) -> i64 {
    OPEN.fetch_add(change, Ordering::Relaxed).saturating_add(change)
}

/// Offers a record to the claim of the current context: `llmquota.context.amend_claim(workspace_id, told, manager)`, where `told` has
/// the arguments that were given. True where the claim took it, and counts it itself.
#[cold]
pub(crate) fn take(
    manager: &Bound<'_, Manager>,
    workspace: &str,
    names: &Names<'_, '_>,
    told: &Told<'_, '_>,
) -> PyResult<bool> {
    let py = manager.py();
    let given = PyDict::new(py);
    given.set_item("success", told.success)?;
    for (name, value) in [
        (told.tokens_field, told.tokens),
        ("goal_id", names.goal),
        ("task_id", names.task),
        ("model", names.model),
        ("user_id", names.user),
        ("provider", names.provider),
        ("credential", names.credential),
        ("input_tokens", told.input),
        ("output_tokens", told.output),
        ("cached_tokens", told.cached),
        ("reasoning_tokens", told.reasoning),
        ("cost_usd", told.cost),
        ("error_code", told.code),
        ("error_status", told.status),
        ("retry_after", told.retry_after),
        ("service_tier", told.tier),
        ("request_id", told.beside.request_id),
        ("latency_ms", told.beside.latency_ms),
        ("method", told.beside.method),
    ] {
        if let Some(value) = value {
            given.set_item(name, value)?;
        }
    }
    py.import("llmquota.context")?.call_method1("amend_claim", (workspace, given, manager))?.extract()
}
