//! One workspace's own door. `record_request` is the fast path: it parses, reads one word, and records.

use std::borrow::Cow;
use std::sync::Arc;

use llmquota::Report;
use llmquota::reservation::Verdict;
use llmquota::signal::notices;
use llmquota::usage::TokenUsage;
use pyo3::PyVisit;
use pyo3::gc::PyTraverseError;
use pyo3::prelude::*;

use crate::calls::{self, Beside, Given, Names, Told};
use crate::claims;
use crate::errors::{self, OrRaise};
use crate::hold::Hold;
use crate::manager::Manager;
use crate::opened::Opened;
use crate::reports;
use crate::runtime::{self, Waiting};
use crate::wait::{self, Outcome, Place};

/// What one workspace records and reserves. It keeps nothing of its own, so it never goes stale.
#[pyclass(subclass, frozen, module = "llmquota._native")]
pub(crate) struct Tracker {
    manager: Py<Manager>,
    opened: Arc<Opened>,
    /// The engine's own tracker on `opened`: it remembers where its accounts lie.
    door: llmquota::Tracker,
}

impl Tracker {
    /// The store to use, after having looked up where there is something to look up for.
    #[inline]
    fn ready(&self, py: Python<'_>) -> PyResult<Cow<'_, Arc<Opened>>> {
        if self.opened.wants_attention() { self.attend(py) } else { Ok(Cow::Borrowed(&self.opened)) }
    }

    #[cold]
    fn attend(&self, py: Python<'_>) -> PyResult<Cow<'_, Arc<Opened>>> {
        let manager = self.manager.bind(py);
        if self.opened.is_replaced() {
            return Manager::ready(manager).map(Cow::Owned);
        }
        Manager::reload_if_due(manager, &self.opened);
        Ok(Cow::Borrowed(&self.opened))
    }

    /// The tracker's own door to `opened`; `None` where another store has taken the place of the one that it was made on.
    #[inline]
    fn door_to(&self, opened: &Arc<Opened>) -> Option<&llmquota::Tracker> {
        Arc::ptr_eq(opened, &self.opened).then_some(&self.door)
    }
}

impl Tracker {
    /// True where a plain record has nothing else to do first.
    #[inline]
    pub(crate) fn is_at_ease(&self) -> bool {
        !self.opened.wants_attention() && !claims::are_open()
    }

    /// The fast path of whoever [is at ease](Self::is_at_ease): a call that succeeded, whose accounts and total are told, and
    /// nothing else.
    #[inline]
    pub(crate) fn record_plain(
        &self,
        py: Python<'_>,
        tokens_used: Given<'_, '_>,
        names: &Names<'_, '_>,
    ) -> PyResult<()> {
        let call = names.call(self.door.workspace(), None)?;
        let report = Report::success(TokenUsage::unsplit(calls::some_count("tokens_used", tokens_used)?));
        self.opened.run(py, || self.door.record_call(&call, &report).map(drop)).or_raise(py)
    }
}

#[pymethods]
impl Tracker {
    /// The tracker of a workspace; `None`, `""` and `"_global"` are `"global"`.
    #[new]
    #[pyo3(signature = (manager, workspace_id = None))]
    fn new(manager: &Bound<'_, Manager>, workspace_id: Given<'_, '_>) -> PyResult<Self> {
        let workspace = calls::workspace(workspace_id)?;
        let opened = Manager::ready(manager)?;
        let door = opened.engine.tracker(Some(workspace)).or_raise(manager.py())?;
        Ok(Self { manager: manager.clone().unbind(), opened, door })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.manager)
    }

    /// Whose it is.
    #[getter]
    fn workspace_id(&self) -> &str {
        self.door.workspace()
    }

    /// The manager behind it.
    #[getter]
    fn manager(&self, py: Python<'_>) -> Py<Manager> {
        self.manager.clone_ref(py)
    }

    /// Reports a call that has happened. It always lands, past any limit.
    ///
    /// `tokens_used` is the total; `None` counts as 0. `workspace_id` records for another workspace than the tracker's
    /// own. An error code or status means failure, whatever `success` says.
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
    pub(crate) fn record_request<'py>(
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
        let rest = [
            workspace_id,
            provider,
            credential,
            input_tokens,
            output_tokens,
            cached_tokens,
            reasoning_tokens,
            cost_usd,
            error_code,
            error_status,
            service_tier,
            request_id,
            latency_ms,
            method,
        ];
        let is_plain = success && rest.iter().all(Option::is_none);
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
        if is_plain && self.is_at_ease() {
            return self.record_plain(py, tokens_used, &names);
        }
        let told = Told {
            success,
            requests: 1,
            tokens_field: "tokens_used",
            tokens: tokens_used,
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
        self.record_told(py, workspace_id, &names, &told)
    }

    /// Whether there is room for the least of calls.
    pub(crate) fn can_make_request(&self, py: Python<'_>) -> PyResult<bool> {
        let opened = self.ready(py)?;
        let can = || match self.door_to(&opened) {
            Some(door) => door.can_make_request(),
            None => opened.engine.can_make_request(self.door.workspace()),
        };
        opened.run(py, can).or_raise(py)
    }

    /// The workspace as it stands: a new dict.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.ready(py)?;
        let snapshot = opened.run(py, || opened.engine.snapshot(self.door.workspace())).or_raise(py)?;
        crate::convert(py, &snapshot)
    }

    /// What a reserve would answer now: a decision. With a `priority`, what whoever came to wait now would be told: `retry_at`
    /// is then when its turn would come. Changes nothing.
    #[pyo3(
        signature = (tokens = None, *, model = None, goal_id = None, task_id = None, user_id = None, provider = None,
            credential = None, cost_usd = None, priority = None),
        text_signature = "($self, tokens=0, *, model=None, goal_id=None, task_id=None, user_id=None, provider=None, \
            credential=None, cost_usd=None, priority=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        tokens: Given<'_, 'py>,
        model: Given<'_, 'py>,
        goal_id: Given<'_, 'py>,
        task_id: Given<'_, 'py>,
        user_id: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
        cost_usd: Given<'_, 'py>,
        priority: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
        let opened = self.ready(py)?;
        explain(py, &opened, self.door.workspace(), &names, (tokens, cost_usd), priority)
    }

    /// Takes every limit of the call's accounts, or nothing: `QuotaExceeded` says which are in the way. `priority` is for
    /// those who wait, and counts for nothing here.
    #[pyo3(
        signature = (tokens = None, *, model = None, goal_id = None, task_id = None, user_id = None, provider = None,
            credential = None, cost_usd = None, ttl = None, priority = "normal"),
        text_signature = "($self, tokens=0, *, model=None, goal_id=None, task_id=None, user_id=None, provider=None, \
            credential=None, cost_usd=None, ttl=600.0, priority='normal')"
    )]
    #[allow(clippy::too_many_arguments)]
    fn reserve<'py>(
        &self,
        py: Python<'py>,
        tokens: Given<'_, 'py>,
        model: Given<'_, 'py>,
        goal_id: Given<'_, 'py>,
        task_id: Given<'_, 'py>,
        user_id: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
        cost_usd: Given<'_, 'py>,
        ttl: Given<'_, 'py>,
        priority: &str,
    ) -> PyResult<Hold> {
        wait::priority(priority).or_raise(py)?;
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
        let opened = self.ready(py)?;
        reserve(py, &opened, self.door.workspace(), &names, &Wanted { tokens, cost_usd, ttl })
    }

    /// The hold, where there is room and nobody waits; else takes a place in the queue: an `asyncio.Future` of the hold, which
    /// needs a running loop. Cancelled, it leaves the queue.
    #[pyo3(
        signature = (tokens = None, *, model = None, goal_id = None, task_id = None, user_id = None, provider = None,
            credential = None, cost_usd = None, ttl = None, priority = "normal", timeout = None),
        text_signature = "($self, tokens=0, *, model=None, goal_id=None, task_id=None, user_id=None, provider=None, \
            credential=None, cost_usd=None, ttl=600.0, priority='normal', timeout=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn queue_up<'py>(
        &self,
        py: Python<'py>,
        tokens: Given<'_, 'py>,
        model: Given<'_, 'py>,
        goal_id: Given<'_, 'py>,
        task_id: Given<'_, 'py>,
        user_id: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
        cost_usd: Given<'_, 'py>,
        ttl: Given<'_, 'py>,
        priority: &str,
        timeout: Given<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
        let wanted = Wanted { tokens, cost_usd, ttl };
        let place = match self.place(py, &names, &wanted, priority, timeout)? {
            Entered::Granted(hold) => return Ok(Bound::new(py, hold)?.into_any()),
            Entered::Waits(place) => place,
        };
        runtime::ready(py)?;
        let locals = pyo3_async_runtimes::TaskLocals::with_running_loop(py)?;
        pyo3_async_runtimes::generic::future_into_py_with_locals::<Waiting, _, Outcome>(py, locals, async move {
            Ok(place.turn().await)
        })
    }

    /// Waits its turn on this thread, without the GIL. `QuotaExceeded` where it fits at no time, or not before `timeout`
    /// (seconds; `None` waits for ever).
    #[pyo3(
        signature = (tokens = None, *, model = None, goal_id = None, task_id = None, user_id = None, provider = None,
            credential = None, cost_usd = None, ttl = None, priority = "normal", timeout = None),
        text_signature = "($self, tokens=0, *, model=None, goal_id=None, task_id=None, user_id=None, provider=None, \
            credential=None, cost_usd=None, ttl=600.0, priority='normal', timeout=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn acquire_sync<'py>(
        &self,
        py: Python<'py>,
        tokens: Given<'_, 'py>,
        model: Given<'_, 'py>,
        goal_id: Given<'_, 'py>,
        task_id: Given<'_, 'py>,
        user_id: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
        cost_usd: Given<'_, 'py>,
        ttl: Given<'_, 'py>,
        priority: &str,
        timeout: Given<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
        let wanted = Wanted { tokens, cost_usd, ttl };
        match self.place(py, &names, &wanted, priority, timeout)? {
            Entered::Granted(hold) => Ok(Bound::new(py, hold)?.into_any()),
            Entered::Waits(place) => place.turn_here(py)?.into_pyobject(py),
        }
    }

    /// The notice that leads the workspace's state, in the reader's language (the value of an `Accept-Language` header).
    #[pyo3(signature = (language = "en"))]
    fn notification<'py>(&self, py: Python<'py>, language: &str) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.ready(py)?;
        reports::notice(py, &opened, self.door.workspace(), language, notices::for_snapshot)
    }

    /// Forgets what the workspace and all inside it have used, and closes its breaker. Open holds stay.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.ready(py)?;
        opened.run(py, || opened.engine.reset(self.door.workspace())).or_raise(py)
    }
}

impl Tracker {
    #[inline(never)]
    fn record_told(
        &self,
        py: Python<'_>,
        workspace_id: Given<'_, '_>,
        names: &Names<'_, '_>,
        told: &Told<'_, '_>,
    ) -> PyResult<()> {
        let opened = self.ready(py)?;
        let (workspace, door) = match workspace_id {
            None => (self.door.workspace(), self.door_to(&opened)),
            Some(_) => (calls::workspace(workspace_id)?, None),
        };
        record(self.manager.bind(py), &opened, door, workspace, names, told)
    }

    fn place(
        &self,
        py: Python<'_>,
        names: &Names<'_, '_>,
        wanted: &Wanted<'_, '_>,
        priority: &str,
        timeout: Given<'_, '_>,
    ) -> PyResult<Entered> {
        let opened = self.ready(py)?;
        let account = names.account()?;
        let call = names.call(self.door.workspace(), account.as_deref())?;
        let (ask, ttl) = (calls::ask(wanted.tokens, wanted.cost_usd)?, calls::ttl(wanted.ttl)?);
        let timeout = calls::timeout("timeout", timeout)?;
        let priority = wait::priority(priority).or_raise(py)?;
        // Most calls have nothing to wait for, and pass nobody by not queueing up: a reserve does not either.
        match opened.run(py, || opened.engine.reserve_or_wait(&call, &ask, ttl)).or_raise(py)? {
            Some(Verdict::Granted(hold)) => return Ok(Entered::Granted(Hold::new(Arc::clone(&opened), hold))),
            Some(Verdict::Refused(decision)) if decision.never_fits => {
                return Err(errors::exceeded(py, &decision, self.door.workspace()));
            }
            Some(Verdict::Refused(_)) | None => {}
        }
        let ticket = opened.run(py, || opened.engine.queue_up(&call, &ask, ttl, priority)).or_raise(py)?;
        Ok(Entered::Waits(Place::new(Arc::clone(&opened), ticket, self.door.workspace(), timeout)))
    }
}

/// What became of somebody who would wait.
enum Entered {
    Granted(Hold),
    Waits(Place),
}

/// What a reserve asks for.
pub(crate) struct Wanted<'a, 'py> {
    pub(crate) tokens: Given<'a, 'py>,
    pub(crate) cost_usd: Given<'a, 'py>,
    pub(crate) ttl: Given<'a, 'py>,
}

/// Records a call as it was told, or amends what a layer above has claimed of it. `door` is the workspace's own, where there
/// is one.
pub(crate) fn record(
    manager: &Bound<'_, Manager>,
    opened: &Opened,
    door: Option<&llmquota::Tracker>,
    workspace: &str,
    names: &Names<'_, '_>,
    told: &Told<'_, '_>,
) -> PyResult<()> {
    let py = manager.py();
    let report = told.report(py)?;
    let account = names.account()?;
    let call = names.call(workspace, account.as_deref())?;
    if claims::are_open() && claims::take(manager, workspace, names, told)? {
        return Ok(());
    }
    let land = || match door {
        Some(door) => door.record_call(&call, &report),
        None => opened.engine.record(&call, &report),
    };
    opened.run(py, land).or_raise(py).map(|_| ())
}

/// Explains, as a decision; with a priority, to somebody who would wait.
pub(crate) fn explain<'py>(
    py: Python<'py>,
    opened: &Opened,
    workspace: &str,
    names: &Names<'_, '_>,
    (tokens, cost_usd): (Given<'_, '_>, Given<'_, '_>),
    priority: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let priority = priority.map(wait::priority).transpose().or_raise(py)?;
    let account = names.account()?;
    let call = names.call(workspace, account.as_deref())?;
    let ask = calls::ask(tokens, cost_usd)?;
    let engine = &opened.engine;
    let explain = || match priority {
        None => engine.explain(&call, &ask),
        Some(priority) => engine.explain_waiting(&call, &ask, priority),
    };
    let decision = opened.run(py, explain).or_raise(py)?;
    crate::convert(py, &decision)
}

/// Reserves, or raises `QuotaExceeded`.
pub(crate) fn reserve(
    py: Python<'_>,
    opened: &Arc<Opened>,
    workspace: &str,
    names: &Names<'_, '_>,
    wanted: &Wanted<'_, '_>,
) -> PyResult<Hold> {
    let account = names.account()?;
    let call = names.call(workspace, account.as_deref())?;
    let (ask, ttl) = (calls::ask(wanted.tokens, wanted.cost_usd)?, calls::ttl(wanted.ttl)?);
    match opened.run(py, || opened.engine.reserve(&call, &ask, ttl)).or_raise(py)? {
        Verdict::Granted(hold) => Ok(Hold::new(Arc::clone(opened), hold)),
        Verdict::Refused(decision) => Err(errors::exceeded(py, &decision, workspace)),
    }
}
