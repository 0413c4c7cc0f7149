//! Python arguments as the engine's words: whom a call is for, what it asks, what it used and how it ended.
//!
//! Strings are borrowed from Python, numbers are read in place: the fast path allocates nothing.

use std::borrow::Cow;
use std::time::Duration;

use llmquota::account::canonical_workspace;
use llmquota::reservation::Details;
use llmquota::rules::breaker::Failure;
use llmquota::usage::pricing::Processing;
use llmquota::usage::tokens::MAX_TOKENS;
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::{Ask, Call, Code, Error, Report};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::errors::{self, OrRaise};

/// An argument that may be absent or `None`.
pub(crate) type Given<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

const COUNT: &str = "a whole number from 0 to 9007199254740992 (2^53)";
const SECONDS: &str = "a number of seconds, 0 or more";

/// The value as an error message shows it; the engine's error shortens it.
#[cold]
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    if let Ok(text) = value.cast::<PyString>() {
        return text.to_string_lossy().into_owned();
    }
    // A whole number of more than 4,300 digits has no repr.
    let repr = value.repr().map(|repr| repr.to_string_lossy().into_owned());
    repr.unwrap_or_else(|_| value.get_type().name().map_or_else(|_| "?".to_owned(), |name| format!("<{name}>")))
}

#[cold]
fn bad(field: &str, value: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    errors::input(value.py(), field, &shown(value), expected)
}

/// Text, borrowed.
#[inline(always)]
pub(crate) fn text<'a>(field: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    // Nearly always a plain `str`, which is told by its type alone.
    if let Ok(Ok(text)) = value.cast_exact::<PyString>().map(PyStringMethods::to_str) {
        return Ok(text);
    }
    match value.cast::<PyString>().map(PyStringMethods::to_str) {
        Ok(Ok(text)) => Ok(text),
        _ => Err(bad_text(field, value)),
    }
}

#[cold]
fn bad_text(field: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let expected = "text: 1 to 256 bytes of UTF-8 without control characters";
    errors::raised(value.py(), &Error::invalid(Code::InvalidId, field, shown(value), expected))
}

/// Text, where there is any.
#[inline(always)]
fn some_text<'a>(field: &str, value: Given<'a, '_>) -> PyResult<Option<&'a str>> {
    value.map(|value| text(field, value)).transpose()
}

/// The workspace that an id names, borrowed: `None`, `""` and `"_global"` are `"global"`.
pub(crate) fn workspace<'a>(value: Given<'a, '_>) -> PyResult<&'a str> {
    match value {
        None => Ok(llmquota::account::GLOBAL),
        Some(value) => canonical_workspace(Some(text("workspace_id", value)?)).or_raise(value.py()),
    }
}

/// A count of tokens or requests: an `int`, or anything else that has `__index__` and is no `bool`.
#[inline(always)]
pub(crate) fn count(field: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    // Nothing inherits from `bool`.
    if !value.is_exact_instance_of::<PyBool>()
        && let Ok(count) = value.extract::<u64>()
        && count <= MAX_TOKENS
    {
        return Ok(count);
    }
    Err(bad(field, value, COUNT))
}

#[inline(always)]
pub(crate) fn some_count(field: &str, value: Given<'_, '_>) -> PyResult<u64> {
    value.map_or(Ok(0), |value| count(field, value))
}

/// How many requests a call was: 1 unless told.
pub(crate) fn requests(value: Given<'_, '_>) -> PyResult<u32> {
    let Some(value) = value else { return Ok(1) };
    let expected = "a whole number of requests: 1, or 0 where nothing was sent";
    u32::try_from(count("requests", value)?).map_err(|_| bad("requests", value, expected))
}

/// US dollars: a `float`, an `int`, or anything else that has `__float__` (`Decimal`).
pub(crate) fn money(field: &str, value: &Bound<'_, PyAny>) -> PyResult<NanoUsd> {
    let expected = "a finite number of US dollars, 0 or more";
    let usd = number(value).filter(|usd| *usd >= 0.0).ok_or_else(|| bad(field, value, expected))?;
    NanoUsd::from_usd_f64(field, usd).or_raise(value.py())
}

/// A finite number; `None` for anything else.
pub(crate) fn number(value: &Bound<'_, PyAny>) -> Option<f64> {
    if value.is_instance_of::<PyBool>() {
        return None;
    }
    value.extract::<f64>().ok().filter(|number| number.is_finite())
}

/// A length of time in nanoseconds, from seconds.
pub(crate) fn nanos(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let seconds = number(value).filter(|seconds| *seconds >= 0.0).ok_or_else(|| bad(field, value, SECONDS))?;
    Ok((seconds * 1e9).round() as i64)
}

/// A length of time in whole milliseconds; a longer one than is kept, which is 49 days, is that.
fn millis(field: &str, value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let expected = "a number of milliseconds, 0 or more";
    let millis = number(value).filter(|millis| *millis >= 0.0).ok_or_else(|| bad(field, value, expected))?;
    Ok(millis.round().min(f64::from(u32::MAX)) as u32)
}

/// A length of time, from seconds; `None` for `None` and for infinity.
pub(crate) fn timeout(field: &str, value: Given<'_, '_>) -> PyResult<Option<Duration>> {
    match value {
        None => Ok(None),
        Some(value) if value.extract::<f64>().is_ok_and(|seconds| seconds == f64::INFINITY) => Ok(None),
        Some(value) => Ok(Some(Duration::from_nanos(nanos(field, value)?.unsigned_abs()))),
    }
}

/// An instant of the wall clock in nanoseconds, from seconds since the epoch.
pub(crate) fn instant(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let expected = "a number of seconds since 1970";
    let seconds = number(value).filter(|seconds| seconds.abs() < 9e9).ok_or_else(|| bad(field, value, expected))?;
    Ok((seconds * 1e9).round() as i64)
}

/// The life of a hold.
pub(crate) fn ttl(value: Given<'_, '_>) -> PyResult<Duration> {
    let Some(value) = value else { return Ok(llmquota::manager::DEFAULT_TTL) };
    match nanos("ttl", value)? {
        0 => Err(bad("ttl", value, "a number of seconds above 0")),
        nanos => Ok(Duration::from_nanos(nanos.unsigned_abs())),
    }
}

/// Whom a call is for, beside its workspace.
#[derive(Clone, Copy, Default)]
pub(crate) struct Names<'a, 'py> {
    pub(crate) goal: Given<'a, 'py>,
    pub(crate) task: Given<'a, 'py>,
    pub(crate) model: Given<'a, 'py>,
    pub(crate) user: Given<'a, 'py>,
    pub(crate) provider: Given<'a, 'py>,
    pub(crate) credential: Given<'a, 'py>,
}

impl<'a> Names<'a, '_> {
    /// `provider/credential`. A provider alone stands for all of its credentials; a credential that has a slash names its
    /// provider itself.
    #[inline]
    pub(crate) fn account(&self) -> PyResult<Option<Cow<'a, str>>> {
        let provider = some_text("provider", self.provider)?;
        let credential = some_text("credential", self.credential)?;
        Ok(match (provider, credential) {
            (None, None) => None,
            (None, Some(name)) | (Some(name), None) => Some(Cow::Borrowed(name)),
            (Some(_), Some(credential)) if credential.contains('/') => Some(Cow::Borrowed(credential)),
            (Some(provider), Some(credential)) => Some(Cow::Owned(format!("{provider}/{credential}"))),
        })
    }

    /// The call; `account` is that of [`Names::account`].
    #[inline(always)]
    pub(crate) fn call(&self, workspace: &'a str, account: Option<&'a str>) -> PyResult<Call<'a>> {
        Ok(Call {
            workspace: Some(workspace),
            goal: some_text("goal_id", self.goal)?,
            task: some_text("task_id", self.task)?,
            model: some_text("model", self.model)?,
            user: some_text("user_id", self.user)?,
            credential: account,
        })
    }
}

/// What a call is going to need.
pub(crate) fn ask(tokens: Given<'_, '_>, cost: Given<'_, '_>) -> PyResult<Ask> {
    let cost = cost.map(|cost| money("cost_usd", cost)).transpose()?;
    Ok(Ask { cost, ..Ask::tokens(some_count("tokens", tokens)?) })
}

/// What a call used and how it ended, as it was told.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a, 'py> {
    pub(crate) success: bool,
    pub(crate) requests: u32,
    /// The name of the argument that has all tokens.
    pub(crate) tokens_field: &'static str,
    pub(crate) tokens: Given<'a, 'py>,
    pub(crate) input: Given<'a, 'py>,
    pub(crate) output: Given<'a, 'py>,
    pub(crate) cached: Given<'a, 'py>,
    pub(crate) reasoning: Given<'a, 'py>,
    pub(crate) cost: Given<'a, 'py>,
    pub(crate) code: Given<'a, 'py>,
    pub(crate) status: Given<'a, 'py>,
    pub(crate) retry_after: Given<'a, 'py>,
    pub(crate) tier: Given<'a, 'py>,
    pub(crate) beside: Beside<'a, 'py>,
}

/// What history keeps of a call beside its numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beside<'a, 'py> {
    pub(crate) request_id: Given<'a, 'py>,
    pub(crate) latency_ms: Given<'a, 'py>,
    pub(crate) method: Given<'a, 'py>,
}

impl<'a> Beside<'a, '_> {
    /// The same as the engine has it; `None` where nothing was told.
    #[inline]
    pub(crate) fn details(&self) -> PyResult<Option<Details<'a>>> {
        if self.request_id.is_none() && self.latency_ms.is_none() && self.method.is_none() {
            return Ok(None);
        }
        Ok(Some(Details {
            latency_ms: self.latency_ms.map(|value| millis("latency_ms", value)).transpose()?,
            request_id: some_text("request_id", self.request_id)?.unwrap_or_default(),
            method: some_text("method", self.method)?.unwrap_or_default(),
        }))
    }
}

impl<'a, 'py> Told<'a, 'py> {
    /// True where any number of tokens was told.
    pub(crate) fn has_tokens(&self) -> bool {
        [self.tokens, self.input, self.output, self.cached, self.reasoning].iter().any(Option::is_some)
    }

    /// True where tokens or money were told.
    pub(crate) fn has_numbers(&self) -> bool {
        self.has_tokens() || self.cost.is_some()
    }

    /// The report. Tokens whose direction nobody told are those that the total has beyond input and output. An error code
    /// or status means failure, whatever `success` says.
    #[inline]
    pub(crate) fn report(&self, py: Python<'py>) -> PyResult<Report<'a>> {
        let mut report = Report::success(self.usage(py)?);
        report.requests = self.requests;
        if let Some(cost) = self.cost {
            report.cost = Some(money("cost_usd", cost)?);
        }
        if let Some(tier) = self.tier {
            report.processing = Processing::from_service_tier(text("service_tier", tier)?);
        }
        if !self.success || self.code.is_some() || self.status.is_some() {
            report.failure = Some(failure(self.code, self.status, self.retry_after)?);
        }
        report.details = self.beside.details()?;
        Ok(report)
    }

    #[inline]
    fn usage(&self, py: Python<'py>) -> PyResult<TokenUsage> {
        let all = some_count(self.tokens_field, self.tokens)?;
        if self.input.is_none() && self.output.is_none() && self.cached.is_none() && self.reasoning.is_none() {
            return Ok(TokenUsage::unsplit(all));
        }
        let input = some_count("input_tokens", self.input)?;
        let output = some_count("output_tokens", self.output)?;
        let cached_input = some_count("cached_tokens", self.cached)?;
        let reasoning = some_count("reasoning_tokens", self.reasoning)?;
        for (field, part, whole, name) in [
            ("cached_tokens", cached_input, input, "input_tokens"),
            ("reasoning_tokens", reasoning, output, "output_tokens"),
        ] {
            if part > whole {
                let expected = format!("no more than {name}, of which it is a part ({whole})");
                return Err(errors::input(py, field, &part.to_string(), &expected));
            }
        }
        let unsplit = all.saturating_sub(input.saturating_add(output));
        Ok(TokenUsage { input, output, cached_input, reasoning, unsplit, ..TokenUsage::default() })
    }
}

/// Whether waiting may mend how a call failed, by the provider's error code and the HTTP status.
#[pyfunction]
pub(crate) fn is_transient(code: Option<&str>, status: Option<u16>) -> bool {
    Failure::classify(code, status, None).kind.is_transient()
}

/// How a call failed, by the provider's own words.
pub(crate) fn failure(code: Given<'_, '_>, status: Given<'_, '_>, retry_after: Given<'_, '_>) -> PyResult<Failure> {
    let code = some_text("error_code", code)?;
    let status = match status {
        None => None,
        Some(value) => {
            let known = count("error_status", value)?;
            let status = u16::try_from(known).ok().filter(|status| (100..=599).contains(status));
            Some(status.ok_or_else(|| bad("error_status", value, "an HTTP status from 100 to 599"))?)
        }
    };
    let retry_after = retry_after.map(|value| nanos("retry_after", value)).transpose()?;
    Ok(Failure::classify(code, status, retry_after))
}
