//! Words of Python that name parts of the engine, and reports that the engine has no wire shape for.

use std::collections::BTreeMap;

use llmquota::account::{AccountId, Scope, validate};
use llmquota::config::Resolved;
use llmquota::rules::limits::{LimitKind, Resource};
use llmquota::signal::i18n::Catalog;
use llmquota::signal::notices::{self, Notice};
use llmquota::store::{Adjust, Counter, Period};
use llmquota::usage::NanoUsd;
use llmquota::wire::{Decision, Quantity, Snapshot};
use llmquota::{Code, Error};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use crate::calls;
use crate::errors::{self, OrRaise};
use crate::opened::Opened;

/// The scope of that word.
pub(crate) fn scope(word: &str) -> Result<Scope, Error> {
    let names: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let known = Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
    known.ok_or_else(|| Error::invalid(Code::InvalidChoice, "scope", word, &format!("one of {}", names.join(", "))))
}

/// The account of those names.
pub(crate) fn account<'a>(word: &str, owner: &'a str, name: &'a str) -> Result<AccountId<'a>, Error> {
    let scope = scope(word)?;
    let has_owner = !matches!(scope, Scope::Workspace | Scope::Credential | Scope::Limiter);
    if has_owner {
        validate("owner", owner)?;
    } else if !owner.is_empty() {
        return Err(Error::invalid(Code::InvalidId, "owner", owner, "'', since this scope lies inside no other"));
    }
    validate("name", name)?;
    Ok(AccountId { scope, owner, name })
}

/// The change of one counter.
pub(crate) fn adjustment(period: &str, counter: &str, value: &Bound<'_, PyAny>) -> PyResult<Adjust> {
    let py = value.py();
    let choice = |field, word, expected| Error::invalid(Code::InvalidChoice, field, word, expected);
    let period = match period {
        "minute" => Ok(Period::Minute),
        "day" => Ok(Period::Day),
        "month" => Ok(Period::Month),
        "total" => Ok(Period::Total),
        _ => Err(choice("period", period, "'minute', 'day', 'month' or 'total'")),
    };
    let counter = match counter {
        "requests" => Ok(Counter::Requests),
        "errors" => Ok(Counter::Errors),
        "tokens" => Ok(Counter::Tokens),
        "cost_usd" => Ok(Counter::Cost),
        _ => Err(choice("counter", counter, "'requests', 'errors', 'tokens' or 'cost_usd'")),
    };
    let (period, counter) = (period.or_raise(py)?, counter.or_raise(py)?);
    let amount = match counter {
        Counter::Cost => calls::money("value", value)?.nanos().unsigned_abs(),
        Counter::Requests | Counter::Errors | Counter::Tokens => calls::count("value", value)?,
    };
    Ok(Adjust::Set(period, counter, amount))
}

/// What is configured for one limit.
#[derive(Debug, Serialize)]
pub(crate) struct Term {
    cap: Quantity,
    mode: llmquota::rules::limits::Mode,
    source: &'static str,
}

/// What is configured for one account.
#[derive(Debug, Serialize)]
pub(crate) struct Terms {
    limits: BTreeMap<&'static str, Term>,
    near_percent: u8,
    critical_percent: u8,
    timezone: String,
    on_store_failure: &'static str,
}

fn cap(kind: LimitKind, cap: u64) -> Quantity {
    match kind.resource() {
        Resource::Money => Quantity::Usd(NanoUsd::from_nanos(i64::try_from(cap).unwrap_or(i64::MAX)).as_usd_f64()),
        Resource::Requests | Resource::Tokens | Resource::Concurrency => Quantity::Count(cap),
    }
}

fn limits(resolved: &Resolved) -> BTreeMap<&'static str, Term> {
    let term = |(kind, limit): (LimitKind, llmquota::rules::limits::Limit)| {
        let source = resolved.source_of(kind).unwrap_or(resolved.source()).as_str();
        (kind.as_str(), Term { cap: cap(kind, limit.cap), mode: limit.mode, source })
    };
    resolved.limits.iter().map(term).collect()
}

fn resolve(opened: &Opened, account: AccountId<'_>) -> Resolved {
    opened.engine.config().resolve(account, opened.clock.exact().wall)
}

/// What is configured for `account`.
pub(crate) fn terms(opened: &Opened, account: AccountId<'_>) -> Terms {
    let resolved = resolve(opened, account);
    Terms {
        limits: limits(&resolved),
        near_percent: resolved.thresholds.near,
        critical_percent: resolved.thresholds.critical,
        timezone: resolved.timezone.iana_name().unwrap_or("UTC").to_owned(),
        on_store_failure: resolved.on_store_failure.as_str(),
    }
}

/// A notice about a workspace, in the reader's language.
pub(crate) fn notice<'py>(
    py: Python<'py>,
    opened: &Opened,
    workspace: &str,
    language: &str,
    of: fn(&Snapshot) -> Notice,
) -> PyResult<Bound<'py, PyAny>> {
    let snapshot = opened.run(py, || opened.engine.snapshot(workspace)).or_raise(py)?;
    rendered(py, &of(&snapshot), language)
}

fn rendered<'py>(py: Python<'py>, notice: &Notice, language: &str) -> PyResult<Bound<'py, PyAny>> {
    // Parsing the texts, the first time, takes milliseconds.
    let rendered = py.detach(|| {
        let catalog = Catalog::bundled();
        catalog.render(notice, &catalog.negotiate(language))
    });
    crate::convert(py, &rendered)
}

/// A decision in the reader's language.
pub(crate) fn refusal_text<'py>(decision: &Bound<'py, PyAny>, language: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = decision.py();
    let decision: Decision = pythonize::depythonize(decision).map_err(|error| {
        let message = format!("decision: not a decision as it stands on the wire: {error}");
        errors::raised(py, &Error::new(Code::InvalidChoice, "decision", message))
    })?;
    rendered(py, &notices::for_decision(&decision), language)
}

/// How full the store is.
pub(crate) fn fill<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Bound<'py, PyAny>> {
    let fill = opened.engine.fill();
    let dict = PyDict::new(py);
    dict.set_item("accounts", fill.accounts)?;
    dict.set_item("accounts_bound", fill.accounts_bound)?;
    dict.set_item("folded", fill.folded)?;
    Ok(dict.into_any())
}
