//! A hold as Python has it: ends once, by a word, by leaving its block, or when nobody has it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use llmquota::reservation::{Details, Ended, HoldState, Receipt, Report};
use llmquota::store::region::fork_generation;
use llmquota::{Error, Hold as Engine};
use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::calls::{self, Beside, Given, Told};
use crate::errors::OrRaise;
use crate::headers;
use crate::opened::Opened;
use crate::ready::Ready;
use crate::usage;

/// Nothing was settled yet.
const NO_COST: i64 = i64::MIN;
/// In nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// What is set aside for one call, until it ends. A block (`with`, `async with`) starts it; leaving the block without a
/// word, or losing the last reference, releases what was only reserved and charges what was started as it was held.
///
/// In a forked child an inherited hold is the parent's: every method leaves it as it is and returns `False`.
#[pyclass(frozen, weakref, module = "llmquota._native")]
pub(crate) struct Hold {
    opened: Arc<Opened>,
    engine: Mutex<Engine>,
    id: String,
    /// The fork generation of the process that it was given to.
    forks: u64,
    /// When it was given, then when it was started, by the clock that nobody can set.
    began: AtomicI64,
    /// As of the last answer of the store.
    state: AtomicU8,
    cost: AtomicI64,
}

impl Hold {
    pub(crate) fn new(opened: Arc<Opened>, engine: Engine) -> Self {
        let began = AtomicI64::new(opened.clock.exact().mono);
        Self {
            opened,
            began,
            id: engine.id().to_string(),
            engine: Mutex::new(engine),
            forks: fork_generation(),
            state: AtomicU8::new(HoldState::Reserved as u8),
            cost: AtomicI64::new(NO_COST),
        }
    }

    /// What history keeps of a call that has ended just now, as far as it tells itself.
    fn details<'a>(&self, request_id: Option<&'a str>) -> Details<'a> {
        let nanos = self.opened.clock.exact().mono.saturating_sub(self.began.load(Ordering::Relaxed));
        let latency_ms = u32::try_from(nanos.max(0) / MILLISECOND).unwrap_or(u32::MAX);
        Details { latency_ms: Some(latency_ms), request_id: request_id.unwrap_or_default(), method: "" }
    }

    fn is_inherited(&self) -> bool {
        self.forks != fork_generation()
    }

    fn state_now(&self) -> HoldState {
        HoldState::from_u8(self.state.load(Ordering::Acquire)).unwrap_or(HoldState::Released)
    }

    fn end(
        &self,
        py: Python<'_>,
        end: impl FnOnce(&mut Engine) -> Result<(Ended, Option<Receipt>), Error> + Send,
    ) -> PyResult<bool> {
        if self.is_inherited() {
            return Ok(false);
        }
        // The guard lives inside of `run`: it is never held while this thread waits for the GIL.
        let (ended, receipt) = self.opened.run(py, || end(&mut self.engine.lock())).or_raise(py)?;
        self.state.store(ended.is as u8, Ordering::Release);
        if let Some(receipt) = receipt.filter(|_| ended.changed) {
            self.cost.store(receipt.cost.nanos(), Ordering::Release);
        }
        Ok(ended.changed)
    }

    fn settle_as(&self, py: Python<'_>, report: &Report<'_>, model: Option<&str>) -> PyResult<bool> {
        self.end(py, |engine| engine.settle(report, model).map(|(ended, receipt)| (ended, Some(receipt))))
    }

    /// Charged as it was held: something was sent, and nobody knows what it used.
    fn charge(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py, |engine| {
            engine.start()?;
            Ok((engine.abandon()?, None))
        })
    }

    fn abandon(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py, |engine| Ok((engine.abandon()?, None)))
    }

    fn leave(&self, py: Python<'_>, exception: Given<'_, '_>) -> PyResult<()> {
        if self.is_inherited() || matches!(self.state_now(), HoldState::Settled | HoldState::Released) {
            return Ok(());
        }
        match exception {
            // Cancelled, closed or interrupted: the provider may be at work all the same.
            Some(exception) if !exception.is_instance_of::<PyException>() => self.abandon(py),
            Some(exception) => {
                let described = py.import("llmquota.errors")?.getattr("describe_failure")?.call1((exception,))?;
                let nothing_left: bool =
                    py.import("llmquota.errors")?.getattr("nothing_was_sent")?.call1((exception,))?.extract()?;
                let item = |place: usize| -> PyResult<Option<Bound<'_, PyAny>>> {
                    Ok(Some(described.get_item(place)?).filter(|item| !item.is_none()))
                };
                let (code, status, retry_after) = (item(0)?, item(1)?, item(2)?);
                let failure = calls::failure(code.as_ref(), status.as_ref(), retry_after.as_ref())?;
                let requests = u32::from(!nothing_left);
                let request_id = py.import("llmquota.errors")?.call_method1("failed_request_id", (exception,))?;
                let request_id: Option<String> = request_id.extract()?;
                let details = Some(self.details(request_id.as_deref()));
                self.settle_as(py, &Report { requests, details, ..Report::failed(failure) }, None)
            }
            None => self.abandon(py),
        }
        .map(|_| ())
    }
}

#[pymethods]
impl Hold {
    /// Its name, for logs and as the provider's request id: `hold-` and 16 hexadecimal digits.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// `reserved`, `started`, `settled`, `released` or `charged`, as of the last method of this object: a hold that
    /// expires meanwhile says so at the next one.
    #[getter]
    fn state(&self) -> &'static str {
        self.state_now().as_str()
    }

    /// What `settle` counted as its cost, in US dollars; `None` before, and where it was charged as held.
    #[getter]
    fn cost_usd(&self) -> Option<f64> {
        let nanos = self.cost.load(Ordering::Acquire);
        (nanos != NO_COST).then(|| llmquota::usage::NanoUsd::from_nanos(nanos).as_usd_f64())
    }

    /// The workspace that it is for.
    #[getter]
    fn workspace_id(&self) -> String {
        self.engine.lock().call().workspace.unwrap_or_default().to_owned()
    }

    /// Marks that bytes are about to leave. True where this call did.
    fn start(&self, py: Python<'_>) -> PyResult<bool> {
        let now = self.opened.clock.exact().mono;
        let started = self.end(py, |engine| Ok((engine.start()?, None)))?;
        if started {
            self.began.store(now, Ordering::Relaxed);
        }
        Ok(started)
    }

    /// Ends it with what was used. True where this call did; the first settle counts.
    ///
    /// `usage` is a provider's response, its usage, a mapping of one, or a number of tokens; the keywords say the same by
    /// hand, and go before it. Where nothing says what a call used that succeeded, it is charged as it was held. `latency_ms` is
    /// the time since it was started where nobody tells it.
    #[pyo3(
        signature = (usage = None, *, tokens = None, input_tokens = None, output_tokens = None, cached_tokens = None,
            reasoning_tokens = None, cost_usd = None, model = None, success = true, error_code = None,
            error_status = None, retry_after = None, requests = None, service_tier = None, request_id = None,
            latency_ms = None, method = None),
        text_signature = "($self, usage=None, *, tokens=None, input_tokens=None, output_tokens=None, \
            cached_tokens=None, reasoning_tokens=None, cost_usd=None, model=None, success=True, error_code=None, \
            error_status=None, retry_after=None, requests=1, service_tier=None, request_id=None, latency_ms=None, \
            method=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn settle<'py>(
        &self,
        py: Python<'py>,
        usage: Given<'_, 'py>,
        tokens: Given<'_, 'py>,
        input_tokens: Given<'_, 'py>,
        output_tokens: Given<'_, 'py>,
        cached_tokens: Given<'_, 'py>,
        reasoning_tokens: Given<'_, 'py>,
        cost_usd: Given<'_, 'py>,
        model: Given<'_, 'py>,
        success: bool,
        error_code: Given<'_, 'py>,
        error_status: Given<'_, 'py>,
        retry_after: Given<'_, 'py>,
        requests: Given<'_, 'py>,
        service_tier: Given<'_, 'py>,
        request_id: Given<'_, 'py>,
        latency_ms: Given<'_, 'py>,
        method: Given<'_, 'py>,
    ) -> PyResult<bool> {
        let told = Told {
            success,
            requests: calls::requests(requests)?,
            tokens_field: "tokens",
            tokens,
            input: input_tokens,
            output: output_tokens,
            cached: cached_tokens,
            reasoning: reasoning_tokens,
            cost: cost_usd,
            code: error_code,
            status: error_status,
            retry_after,
            tier: service_tier,
            beside: Beside { request_id, latency_ms, method },
        };
        let mut report = told.report(py)?;
        let model = model.map(|model| calls::text("model", model)).transpose()?.map(str::to_owned);
        let read = usage.map(|usage| usage::read(usage)).transpose()?.flatten();
        if !told.has_numbers() && read.is_none() && report.failure.is_none() {
            return self.charge(py);
        }
        let mut details = report.details.unwrap_or_default();
        let seen = self.details(read.as_ref().and_then(|read| read.request_id.as_deref()));
        details.latency_ms = details.latency_ms.or(seen.latency_ms);
        if details.request_id.is_empty() {
            details.request_id = seen.request_id;
        }
        report.details = Some(details);
        let mut model_used = model;
        let units = read.as_ref().and_then(usage::Read::units);
        report.units = units.as_ref();
        if let Some(read) = &read {
            if !told.has_tokens() {
                report.usage = read.usage;
            }
            if told.tier.is_none() {
                report.processing = read.processing;
            }
            if requests.is_none() {
                report.requests = read.requests.unwrap_or(report.requests);
            }
            report.cost = report.cost.or(read.cost);
            model_used = model_used.or_else(|| read.model.clone());
        }
        self.settle_as(py, &report, model_used.as_deref())
    }

    /// Takes what the answer's headers (pairs of names and values) say is left of the provider's own limits: until something is left
    /// again, calls of the same model behind the same credential are refused, of all workspaces. `well`: the call went well, as
    /// far as is known. Counts nothing, and may come before the end of the answer. Returns a sentence about each header that
    /// cannot be.
    #[pyo3(signature = (headers, well = true))]
    fn hear(&self, py: Python<'_>, headers: &Bound<'_, PyAny>, well: bool) -> PyResult<Vec<String>> {
        let (left, problems) = headers::read(headers, self.opened.clock.exact().wall)?;
        if !left.is_silent() && !self.is_inherited() {
            let began = self.began.load(Ordering::Relaxed);
            let hear = || self.opened.engine.hear(&self.engine.lock().call(), left, began, well);
            self.opened.run(py, hear).or_raise(py)?;
        }
        Ok(problems)
    }

    /// Ends it with nothing used: the caller knows that nothing was sent. True where this call did.
    fn release(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py, |engine| Ok((engine.release()?, None)))
    }

    /// Takes back what it was settled with: it was the call of somebody else, who is charged by a record of its own. True where
    /// this call did.
    fn take_back(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py, |engine| Ok((engine.take_back()?, None)))
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        slf.get().start(slf.py())?;
        Ok(slf.clone())
    }

    #[pyo3(signature = (exc_type, exc, traceback, /))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: Given<'_, '_>,
        exc: Given<'_, '_>,
        traceback: Given<'_, '_>,
    ) -> PyResult<bool> {
        let _unused = (exc_type, traceback);
        match (slf.get().leave(slf.py(), exc), exc) {
            // The block's own exception goes on; this one is shown, and does not take its place.
            (Err(error), Some(_)) => error.write_unraisable(slf.py(), Some(slf.as_any())),
            (left, _) => left?,
        }
        Ok(false)
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Ready> {
        Ok(Ready::new(Self::__enter__(slf)?.into_any().unbind()))
    }

    #[pyo3(signature = (exc_type, exc, traceback, /))]
    fn __aexit__(
        slf: &Bound<'_, Self>,
        exc_type: Given<'_, '_>,
        exc: Given<'_, '_>,
        traceback: Given<'_, '_>,
    ) -> PyResult<Ready> {
        Self::__exit__(slf, exc_type, exc, traceback)?;
        Ok(Ready::new(pyo3::types::PyBool::new(slf.py(), false).to_owned().into_any().unbind()))
    }

    fn __repr__(&self) -> String {
        format!("<Hold {} {}>", self.id, self.state())
    }
}
