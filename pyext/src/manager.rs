//! The door to the engine: opens a store, takes settings, and hands each question on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use llmquota::rules::breaker::Failure;
use llmquota::signal::notices;
use llmquota::store::Adjust;
use llmquota::usage::learning::Observation;
use llmquota::usage::pricing::{Certainty, Processing};
use llmquota::{Code, Error, Report};
use pyo3::prelude::*;

use crate::calls::{self, Beside, Given, Names, Told};
use crate::clock::ManualClock;
use crate::errors::{self, OrRaise};
use crate::hold::Hold;
use crate::kept::{self, Asked};
use crate::opened::Opened;
use crate::settings::{self, Arguments, Settings};
use crate::stores::Spec;
use crate::tracker::{self, Wanted};
use crate::{reports, usage, wait};

/// Gives every workspace its quota.
///
/// A subclass that passes `store=None` opens later: the first use calls its `_open()`, which has to call `open`.
#[pyclass(subclass, frozen, module = "llmquota._native")]
pub(crate) struct Manager {
    opened: ArcSwapOption<Opened>,
}

impl Manager {
    /// The store to use: opened where it is not yet, and its limits read again where that is due.
    pub(crate) fn ready(this: &Bound<'_, Self>) -> PyResult<Arc<Opened>> {
        let opened = match this.get().opened.load_full() {
            Some(opened) => opened,
            None => {
                this.call_method0("_open")?;
                this.get().opened.load_full().ok_or_else(|| {
                    errors::raised(this.py(), &Error::new(Code::InvalidConfig, "store", "the manager is not open"))
                })?
            }
        };
        if opened.wants_attention() {
            Self::reload_if_due(this, &opened);
        }
        Ok(opened)
    }

    /// Calls `_reload(now)` where that is due. What it raises is shown, and stops no call.
    pub(crate) fn reload_if_due(this: &Bound<'_, Self>, opened: &Opened) {
        if let Some(now) = opened.reload_due()
            && let Err(error) = this.call_method1("_reload", (now,))
        {
            error.write_unraisable(this.py(), Some(this.as_any()));
        }
    }
}

#[pymethods]
impl Manager {
    #[new]
    #[pyo3(
        signature = (store = Some("memory:"), *, clock = None, builtins = true),
        text_signature = "(store='memory:', *, clock=None, builtins=True)"
    )]
    fn new(
        py: Python<'_>,
        store: Option<&str>,
        clock: Option<&Bound<'_, ManualClock>>,
        builtins: bool,
    ) -> PyResult<Self> {
        let opened = match store {
            None => None,
            Some(store) => {
                let spec = Spec::read(store, None, false).or_raise(py)?;
                let clock = clock.map(Bound::get);
                let open = || Opened::new(spec, clock, builtins, Settings::default());
                Some(Arc::new(py.detach(open).or_raise(py)?))
            }
        };
        Ok(Self { opened: ArcSwapOption::new(opened) })
    }

    /// Opens the store with its settings, in place of one that is open. Trackers go on with the new one.
    ///
    /// `names` says what a setting is called where it comes from; `limits_changed` when the limits file was changed (nanoseconds
    /// since the epoch), and `limits_unreadable` that it cannot be read. Of a shared store: `history_days` is how long it keeps
    /// rows, and one that is opened with `observe` publishes no limits.
    #[pyo3(signature = (store = "memory:", *, clock = None, builtins = true, environment = None, names = None,
        limits_toml = None, limits_name = "limits.toml", limits_changed = None, limits_unreadable = false, limits = None,
        timezone = None, on_store_failure = None, history_days = None, observe = false))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        &self,
        py: Python<'_>,
        store: &str,
        clock: Option<&Bound<'_, ManualClock>>,
        builtins: bool,
        environment: Option<BTreeMap<String, String>>,
        names: Option<BTreeMap<String, String>>,
        limits_toml: Option<&str>,
        limits_name: &str,
        limits_changed: Option<i64>,
        limits_unreadable: bool,
        limits: Given<'_, '_>,
        timezone: Option<&str>,
        on_store_failure: Option<&str>,
        history_days: Option<u32>,
        observe: bool,
    ) -> PyResult<()> {
        let arguments = Arguments {
            environment,
            names,
            limits_toml,
            limits_name,
            limits_changed,
            limits_unreadable,
            limits,
            timezone,
            on_store_failure,
        };
        let settings = Settings::read(py, arguments)?;
        let spec = Spec::read(store, history_days, observe).or_raise(py)?;
        let clock = clock.map(Bound::get);
        let opened = py.detach(|| Opened::new(spec, clock, builtins, settings)).or_raise(py)?;
        if let Some(before) = self.opened.swap(Some(Arc::new(opened))) {
            before.replace();
        }
        Ok(())
    }

    /// Forgets the store. The next use opens another one, also for trackers that are there.
    fn close(&self) {
        if let Some(before) = self.opened.swap(None) {
            before.replace();
        }
    }

    /// Whether a store is open.
    #[getter]
    fn is_open(&self) -> bool {
        self.opened.load().is_some()
    }

    /// Changes settings; what is not given stays. Usage and holds stay, limits apply to the next grant.
    #[pyo3(signature = (*, environment = None, names = None, limits_toml = None, limits_name = "limits.toml",
        limits_changed = None, limits_unreadable = false, limits = None, timezone = None, on_store_failure = None))]
    #[allow(clippy::too_many_arguments)]
    fn configure(
        slf: &Bound<'_, Self>,
        environment: Option<BTreeMap<String, String>>,
        names: Option<BTreeMap<String, String>>,
        limits_toml: Option<&str>,
        limits_name: &str,
        limits_changed: Option<i64>,
        limits_unreadable: bool,
        limits: Given<'_, '_>,
        timezone: Option<&str>,
        on_store_failure: Option<&str>,
    ) -> PyResult<()> {
        let py = slf.py();
        let arguments = Arguments {
            environment,
            names,
            limits_toml,
            limits_name,
            limits_changed,
            limits_unreadable,
            limits,
            timezone,
            on_store_failure,
        };
        let settings = Settings::read(py, arguments)?;
        let opened = Self::ready(slf)?;
        py.detach(|| opened.configure(settings)).or_raise(py)
    }

    /// Calls `_reload(now)` of this object at most once in `seconds`, on the calls that pass; `None` for never again.
    #[pyo3(signature = (seconds))]
    fn reload_every(slf: &Bound<'_, Self>, seconds: Given<'_, '_>) -> PyResult<()> {
        let every = seconds.map(|seconds| calls::nanos("seconds", seconds)).transpose()?;
        Self::ready(slf)?.reload_every(every);
        Ok(())
    }

    /// Sets limits by hand for one account, above all others, until `expires_at` (seconds since the epoch) or until taken
    /// away. A limit of `None` is lifted; what is not named falls through.
    #[pyo3(signature = (scope, owner, name, limits, expires_at = None))]
    fn set_override(
        slf: &Bound<'_, Self>,
        scope: &str,
        owner: &str,
        name: &str,
        limits: &Bound<'_, PyAny>,
        expires_at: Given<'_, '_>,
    ) -> PyResult<()> {
        let py = slf.py();
        let account = reports::account(scope, owner, name).or_raise(py)?;
        let table = settings::limit_table(limits)?;
        let expires = expires_at.map(|at| calls::instant("expires_at", at)).transpose()?;
        let opened = Self::ready(slf)?;
        py.detach(|| opened.engine.set_override(account, table, expires)).or_raise(py)
    }

    /// Takes an override away. True where there was one.
    fn remove_override(slf: &Bound<'_, Self>, scope: &str, owner: &str, name: &str) -> PyResult<bool> {
        let py = slf.py();
        let account = reports::account(scope, owner, name).or_raise(py)?;
        let opened = Self::ready(slf)?;
        py.detach(|| opened.engine.remove_override(account)).or_raise(py)
    }

    /// Reports a call of `workspace` that has happened; see `Tracker.record_request`.
    #[pyo3(
        signature = (workspace, success = true, tokens_used = None, goal_id = None, task_id = None, *,
            model = None, user_id = None, provider = None, credential = None, input_tokens = None,
            output_tokens = None, cached_tokens = None, reasoning_tokens = None, cost_usd = None, error_code = None,
            error_status = None, retry_after = None, service_tier = None, request_id = None, latency_ms = None,
            method = None),
        text_signature = "($self, workspace, success=True, tokens_used=0, goal_id=None, task_id=None, *, \
            model=None, user_id=None, provider=None, credential=None, input_tokens=None, output_tokens=None, \
            cached_tokens=None, reasoning_tokens=None, cost_usd=None, error_code=None, error_status=None, \
            retry_after=None, service_tier=None, request_id=None, latency_ms=None, method=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn record<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
        success: bool,
        tokens_used: Given<'_, 'py>,
        goal_id: Given<'_, 'py>,
        task_id: Given<'_, 'py>,
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
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
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
        let workspace = calls::workspace(workspace)?;
        let opened = Self::ready(slf)?;
        tracker::record(slf, &opened, None, workspace, &names, &told)
    }

    /// Takes every limit of the call's accounts, or nothing; see `Tracker.reserve`.
    #[pyo3(
        signature = (workspace, tokens = None, *, model = None, goal_id = None, task_id = None, user_id = None,
            provider = None, credential = None, cost_usd = None, ttl = None, priority = "normal"),
        text_signature = "($self, workspace, tokens=0, *, model=None, goal_id=None, task_id=None, user_id=None, \
            provider=None, credential=None, cost_usd=None, ttl=600.0, priority='normal')"
    )]
    #[allow(clippy::too_many_arguments)]
    fn reserve<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
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
        let py = slf.py();
        wait::priority(priority).or_raise(py)?;
        let names = Names { goal: goal_id, task: task_id, model, user: user_id, provider, credential };
        let wanted = Wanted { tokens, cost_usd, ttl };
        tracker::reserve(py, &Self::ready(slf)?, calls::workspace(workspace)?, &names, &wanted)
    }

    /// What a reserve would answer now: a decision. With a `priority`, what whoever came to wait now would be told. Changes
    /// nothing.
    #[pyo3(
        signature = (workspace, tokens = None, *, model = None, goal_id = None, task_id = None, user_id = None,
            provider = None, credential = None, cost_usd = None, priority = None),
        text_signature = "($self, workspace, tokens=0, *, model=None, goal_id=None, task_id=None, user_id=None, \
            provider=None, credential=None, cost_usd=None, priority=None)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn explain<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
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
        let workspace = calls::workspace(workspace)?;
        let opened = Self::ready(slf)?;
        tracker::explain(slf.py(), &opened, workspace, &names, (tokens, cost_usd), priority)
    }

    /// Whether the workspace has room for the least of calls.
    fn can_make_request(slf: &Bound<'_, Self>, workspace: Given<'_, '_>) -> PyResult<bool> {
        let (py, opened, name) = (slf.py(), Self::ready(slf)?, calls::workspace(workspace)?);
        opened.run(py, || opened.engine.can_make_request(name)).or_raise(py)
    }

    /// The workspace as it stands: a new dict.
    fn snapshot<'py>(slf: &Bound<'py, Self>, workspace: Given<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened, name) = (slf.py(), Self::ready(slf)?, calls::workspace(workspace)?);
        let snapshot = opened.run(py, || opened.engine.snapshot(name)).or_raise(py)?;
        crate::convert(py, &snapshot)
    }

    /// The usage of one account inside a workspace, the innermost that is named: `minute`, `day`, `month` and `total`.
    #[pyo3(signature = (workspace, *, goal = None, task = None, model = None, user = None, provider = None,
        credential = None))]
    #[allow(clippy::too_many_arguments)]
    fn usage<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
        goal: Given<'_, 'py>,
        task: Given<'_, 'py>,
        model: Given<'_, 'py>,
        user: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let names = Names { goal, task, model, user, provider, credential };
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let account = names.account()?;
        let call = names.call(calls::workspace(workspace)?, account.as_deref())?;
        let usage = opened.run(py, || opened.engine.usage(&call)).or_raise(py)?;
        crate::convert(py, &usage)
    }

    /// The limits of every account that a call would touch, as they stand.
    #[pyo3(signature = (workspace, *, goal = None, task = None, model = None, user = None, provider = None,
        credential = None))]
    #[allow(clippy::too_many_arguments)]
    fn limits<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
        goal: Given<'_, 'py>,
        task: Given<'_, 'py>,
        model: Given<'_, 'py>,
        user: Given<'_, 'py>,
        provider: Given<'_, 'py>,
        credential: Given<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let names = Names { goal, task, model, user, provider, credential };
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let account = names.account()?;
        let call = names.call(calls::workspace(workspace)?, account.as_deref())?;
        let lines = opened.run(py, || opened.engine.limits(&call)).or_raise(py)?;
        crate::convert(py, &lines)
    }

    /// What is configured for a workspace, whoever said so: its limits with cap, mode and source, thresholds, time zone.
    fn terms<'py>(slf: &Bound<'py, Self>, workspace: Given<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened, name) = (slf.py(), Self::ready(slf)?, calls::workspace(workspace)?);
        let account = reports::account("workspace", "", name).or_raise(py)?;
        crate::convert(py, &reports::terms(&opened, account))
    }

    /// The limits of a legacy limiter, as they stand.
    fn limiter_limits<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let lines = opened.run(py, || opened.engine.limiter_limits(name)).or_raise(py)?;
        crate::convert(py, &lines)
    }

    /// The goals, tasks, models or users of a workspace, most tokens first, `limit` of them at the most: `id`, `total`,
    /// `day`.
    #[pyo3(signature = (workspace, scope, limit = None))]
    fn attribution<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
        scope: &str,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened, name) = (slf.py(), Self::ready(slf)?, calls::workspace(workspace)?);
        let scope = reports::scope(scope).or_raise(py)?;
        let most = limit.unwrap_or(usize::MAX);
        let listed = opened.run(py, || opened.engine.attribution(name, scope, most)).or_raise(py)?;
        crate::convert(py, &listed)
    }

    /// The workspaces that anything was ever counted for, by name, each with when it was last used (seconds since the
    /// epoch).
    fn workspaces(slf: &Bound<'_, Self>) -> PyResult<Vec<(String, f64)>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let listed = opened.run(py, || opened.engine.workspaces()).or_raise(py)?;
        Ok(listed.into_iter().map(|(name, seen)| (name, seen as f64 / 1e9)).collect())
    }

    /// Tells of a failure by hand, not with a call: it moves the breaker of the workspace and, where a credential is
    /// named, the provider's. Counts no request.
    #[pyo3(signature = (workspace, *, credential = None, model = None, code = None, status = None, retry_after = None))]
    fn learn(
        slf: &Bound<'_, Self>,
        workspace: Given<'_, '_>,
        credential: Given<'_, '_>,
        model: Given<'_, '_>,
        code: Given<'_, '_>,
        status: Given<'_, '_>,
        retry_after: Given<'_, '_>,
    ) -> PyResult<()> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let names = Names { credential, model, ..Names::default() };
        let account = names.account()?;
        let call = names.call(calls::workspace(workspace)?, account.as_deref())?;
        let failure: Failure = calls::failure(code, status, retry_after)?;
        opened.run(py, || opened.engine.learn(&call, failure)).or_raise(py)
    }

    /// Takes what an answer's headers (pairs of names and values) say is left of the provider's own limits; see `Hold.hear`. Its call
    /// began `elapsed` seconds ago.
    #[pyo3(signature = (workspace, headers, well = true, *, provider = None, credential = None, model = None, elapsed = None))]
    #[allow(clippy::too_many_arguments)]
    fn hear(
        slf: &Bound<'_, Self>,
        workspace: Given<'_, '_>,
        headers: &Bound<'_, PyAny>,
        well: bool,
        provider: Given<'_, '_>,
        credential: Given<'_, '_>,
        model: Given<'_, '_>,
        elapsed: Given<'_, '_>,
    ) -> PyResult<Vec<String>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let names = Names { provider, credential, model, ..Names::default() };
        let account = names.account()?;
        let call = names.call(calls::workspace(workspace)?, account.as_deref())?;
        let elapsed = elapsed.map_or(Ok(0), |elapsed| calls::nanos("elapsed", elapsed))?;
        let now = opened.clock.exact();
        let (left, problems) = crate::headers::read(headers, now.wall)?;
        opened.run(py, || opened.engine.hear(&call, left, now.mono.saturating_sub(elapsed), well)).or_raise(py)?;
        Ok(problems)
    }

    /// Sets one counter of a workspace: `period` is `minute`, `day`, `month` or `total`; `counter` is `requests`,
    /// `errors`, `tokens` or `cost_usd`. Other periods stay, and so do open holds. With a goal or a task it is that
    /// account's counter, and the workspace's stays.
    #[pyo3(signature = (workspace, period, counter, value, *, goal = None, task = None))]
    fn adjust(
        slf: &Bound<'_, Self>,
        workspace: Given<'_, '_>,
        period: &str,
        counter: &str,
        value: &Bound<'_, PyAny>,
        goal: Given<'_, '_>,
        task: Given<'_, '_>,
    ) -> PyResult<()> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let change = reports::adjustment(period, counter, value)?;
        let names = Names { goal, task, ..Names::default() };
        let call = names.call(calls::workspace(workspace)?, None)?;
        opened.run(py, || opened.engine.adjust_account(&call, change)).or_raise(py)
    }

    /// What a call would cost now: whole nano-dollars, and whether that is an estimate. `usage` is as of `Hold.settle`.
    #[pyo3(signature = (usage, *, model = None, provider = None, service_tier = None))]
    fn price(
        slf: &Bound<'_, Self>,
        usage: &Bound<'_, PyAny>,
        model: Given<'_, '_>,
        provider: Given<'_, '_>,
        service_tier: Given<'_, '_>,
    ) -> PyResult<(i64, bool)> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let read =
            usage::read(usage)?.ok_or_else(|| errors::input(py, "usage", "nothing", "something that was used"))?;
        let names = Names { model, provider, ..Names::default() };
        let account = names.account()?;
        let call = names.call("global", account.as_deref())?;
        let units = read.units();
        let processing = match service_tier {
            Some(tier) => Processing::from_service_tier(calls::text("service_tier", tier)?),
            None => read.processing,
        };
        let report = Report { units: units.as_ref(), cost: read.cost, processing, ..Report::success(read.usage) };
        let model = read.model.as_deref().filter(|_| model.is_none());
        let (cost, certainty) = opened.run(py, || opened.engine.price_of(&call, &report, model)).or_raise(py)?;
        Ok((cost.nanos(), certainty == Certainty::Estimated))
    }

    /// The tokens of a prompt that was guessed to have so many, and of one answer without a maximum of its own (`None` where
    /// nothing is known), by what calls of this workspace and model, or else of this model, have used in this process.
    fn foresee(
        slf: &Bound<'_, Self>,
        workspace: &str,
        model: &str,
        guessed_prompt: u64,
    ) -> PyResult<(u64, Option<u64>)> {
        Ok(Self::ready(slf)?.engine.foresee(workspace, model, guessed_prompt))
    }

    /// Learns from what a call has used: `guessed_prompt` is what `foresee` was asked for, `open_choices` how many answers
    /// without a maximum of their own were asked for together.
    fn observe(
        slf: &Bound<'_, Self>,
        workspace: &str,
        model: &str,
        guessed_prompt: u64,
        input_tokens: u64,
        open_choices: u64,
        output_tokens: u64,
    ) -> PyResult<()> {
        let call = Observation { guessed_prompt, input: input_tokens, open_choices, output: output_tokens };
        Self::ready(slf)?.engine.observe(workspace, model, &call);
        Ok(())
    }

    /// Closes the breaker of a workspace.
    fn close_breaker(slf: &Bound<'_, Self>, workspace: Given<'_, '_>) -> PyResult<()> {
        Self::change(slf, workspace, Adjust::CloseBreaker)
    }

    /// Sets when an error was last recorded (seconds since the epoch), or clears it.
    fn set_last_error(slf: &Bound<'_, Self>, workspace: Given<'_, '_>, at: Given<'_, '_>) -> PyResult<()> {
        let at = at.map(|at| calls::instant("at", at)).transpose()?;
        Self::change(slf, workspace, Adjust::LastError(at))
    }

    /// Forgets what a workspace and all inside it have used, and closes its breaker. Open holds stay.
    fn reset(slf: &Bound<'_, Self>, workspace: Given<'_, '_>) -> PyResult<()> {
        Self::change(slf, workspace, Adjust::Reset)
    }

    /// Asks for a permit of a legacy limiter: `None` where it was granted and recorded, else the decision.
    fn permit<'py>(slf: &Bound<'py, Self>, limiter: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let refused = opened.run(py, || opened.engine.permit(limiter)).or_raise(py)?;
        refused.map(|decision| crate::convert(py, &decision)).transpose()
    }

    /// Records a permit of a legacy limiter that was taken without asking.
    fn record_permit(slf: &Bound<'_, Self>, limiter: &str) -> PyResult<()> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        opened.run(py, || opened.engine.record_permit(limiter)).or_raise(py)
    }

    /// The notice that leads a workspace's state: `id`, `level`, `language`, `title`, `message`, `actions`.
    #[pyo3(signature = (workspace, language = "en"))]
    fn notice<'py>(slf: &Bound<'py, Self>, workspace: Given<'_, 'py>, language: &str) -> PyResult<Bound<'py, PyAny>> {
        let opened = Self::ready(slf)?;
        reports::notice(slf.py(), &opened, calls::workspace(workspace)?, language, notices::for_snapshot)
    }

    /// The short notice of the legacy `/check` route.
    #[pyo3(signature = (workspace, language = "en"))]
    fn check_notice<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
        language: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let opened = Self::ready(slf)?;
        reports::notice(slf.py(), &opened, calls::workspace(workspace)?, language, notices::for_check)
    }

    /// A decision in the reader's language; see `notice`.
    #[staticmethod]
    #[pyo3(signature = (decision, language = "en"))]
    fn refusal_text<'py>(decision: &Bound<'py, PyAny>, language: &str) -> PyResult<Bound<'py, PyAny>> {
        reports::refusal_text(decision, language)
    }

    /// What the engine of this manager did since it was opened, in plain numbers.
    fn telemetry<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        crate::convert(slf.py(), &Self::ready(slf)?.engine.telemetry().snapshot())
    }

    /// The rows of history that match, with all that happened before the question: each a dict. Times are seconds since the
    /// epoch; a page goes on after the `id` of the last row of the one before.
    #[pyo3(
        signature = (*, workspace = None, goal = None, task = None, model = None, user = None, since = None,
            until = None, kinds = Vec::new(), after = None, limit = None, newest_first = false),
        text_signature = "($self, *, workspace=None, goal=None, task=None, model=None, user=None, since=None, \
            until=None, kinds=(), after=None, limit=1000, newest_first=False)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn history_rows<'py>(
        slf: &Bound<'py, Self>,
        workspace: Given<'_, 'py>,
        goal: Given<'_, 'py>,
        task: Given<'_, 'py>,
        model: Given<'_, 'py>,
        user: Given<'_, 'py>,
        since: Given<'_, 'py>,
        until: Given<'_, 'py>,
        kinds: Vec<String>,
        after: Given<'_, 'py>,
        limit: Given<'_, 'py>,
        newest_first: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let asked = Asked { workspace, goal, task, model, user, since, until, kinds, after, limit, newest_first };
        let query = asked.query(py)?;
        crate::convert(py, &py.detach(|| opened.engine.history(&query)).or_raise(py)?)
    }

    /// The sums of hours, days or months that begin in the time asked for, or of all time (`period` is `hour`, `day`, `month`
    /// or `total`), of the one account that is named, else of every workspace.
    #[pyo3(
        signature = (period, *, workspace = None, goal = None, task = None, model = None, user = None, since = None,
            until = None, limit = None, newest_first = false),
        text_signature = "($self, period, *, workspace=None, goal=None, task=None, model=None, user=None, \
            since=None, until=None, limit=1000, newest_first=False)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn history_sums<'py>(
        slf: &Bound<'py, Self>,
        period: &str,
        workspace: Given<'_, 'py>,
        goal: Given<'_, 'py>,
        task: Given<'_, 'py>,
        model: Given<'_, 'py>,
        user: Given<'_, 'py>,
        since: Given<'_, 'py>,
        until: Given<'_, 'py>,
        limit: Given<'_, 'py>,
        newest_first: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        let span = kept::span(period).or_raise(py)?;
        let (kinds, after) = (Vec::new(), None);
        let asked = Asked { workspace, goal, task, model, user, since, until, kinds, after, limit, newest_first };
        let query = asked.query(py)?;
        crate::convert(py, &py.detach(|| opened.engine.rollups(&query, span)).or_raise(py)?)
    }

    /// Which counters are not what the rows of history add up to; with `repair`, they are set to that.
    #[pyo3(signature = (repair = false))]
    fn verify<'py>(slf: &Bound<'py, Self>, repair: bool) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        crate::convert(py, &py.detach(|| opened.engine.verify(repair)).or_raise(py)?)
    }

    /// Waits until history has all that happened before.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        py.detach(|| opened.engine.flush()).or_raise(py)
    }

    /// How the store is: which one, its processes, what waits, and what its operator should know.
    fn report<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, opened) = (slf.py(), Self::ready(slf)?);
        crate::convert(py, &py.detach(|| opened.engine.report()).or_raise(py)?)
    }

    /// How full the store's tables are: `accounts`, `accounts_bound`, `folded`.
    fn fill<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let opened = Self::ready(slf)?;
        reports::fill(slf.py(), &opened)
    }

    /// The wall time of the manager's clock, in seconds since the epoch.
    fn now(slf: &Bound<'_, Self>) -> PyResult<f64> {
        Ok(Self::ready(slf)?.clock.exact().wall as f64 / 1e9)
    }
}

impl Manager {
    fn change(this: &Bound<'_, Self>, workspace: Given<'_, '_>, change: Adjust) -> PyResult<()> {
        let (py, opened, name) = (this.py(), Self::ready(this)?, calls::workspace(workspace)?);
        opened.run(py, || opened.engine.adjust(name, change)).or_raise(py)
    }
}
