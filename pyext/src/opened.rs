//! A manager of the engine that is open: its store, its clock, its settings, and when its limits are to be read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use llmquota::clock::SECOND;
use llmquota::config::Config;
use llmquota::{Clock, Code, Error, Manager, Options, SystemClock};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::Notify;

use crate::clock::ManualClock;
use crate::settings::{Environment, Settings};
use crate::stores::Spec;

/// Nobody watches a limits file.
const NEVER: i64 = i64::MAX;
/// How long a change of settings waits for another one.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) engine: Manager,
    pub(crate) clock: Arc<dyn Clock>,
    /// Rings when a manual clock moves.
    pub(crate) moved: Option<Arc<Notify>>,
    environment: Mutex<Environment>,
    /// The monotonic instant from which on a call looks up from its work: to read the limits again, or because another
    /// store has taken the place of this one. One relaxed load tells the fast path that there is nothing.
    attention_at: AtomicI64,
    reload_every: AtomicI64,
    replaced: AtomicBool,
}

impl Opened {
    pub(crate) fn new(
        spec: Spec,
        clock: Option<&ManualClock>,
        builtins: bool,
        settings: Settings,
    ) -> Result<Self, Error> {
        let mut environment = Environment::default();
        let base = if builtins { Config::default() } else { Config::unlimited() };
        let config = settings.apply(&base, &mut environment)?;
        let moved = clock.map(|clock| Arc::clone(&clock.moved));
        let clock: Arc<dyn Clock> = match clock {
            Some(clock) => Arc::new(clock.hands.clone()),
            None => Arc::new(SystemClock),
        };
        let Spec { bytes, shared } = spec;
        let engine = Manager::new(Options { bytes, clock: Arc::clone(&clock), config, shared })?;
        Ok(Self {
            engine,
            clock,
            moved,
            environment: Mutex::new(environment),
            attention_at: AtomicI64::new(NEVER),
            reload_every: AtomicI64::new(NEVER),
            replaced: AtomicBool::new(false),
        })
    }

    /// Changes the settings; what they do not name stays.
    pub(crate) fn configure(&self, settings: Settings) -> Result<(), Error> {
        self.reconfigure(|config, environment| Ok((settings.apply(config, environment)?, ())))
    }

    /// Changes the configuration, one change after the other.
    pub(crate) fn reconfigure<T>(
        &self,
        change: impl FnOnce(&Config, &mut Environment) -> Result<(Config, T), Error>,
    ) -> Result<T, Error> {
        // Bounded: a child forked in the middle of another thread's change would wait for ever.
        let Some(mut environment) = self.environment.try_lock_for(PATIENCE) else {
            return Err(Error::new(Code::StoreBusy, "configure", "another change of the settings does not end"));
        };
        let (config, answer) = change(&self.engine.config(), &mut environment)?;
        self.engine.configure(config)?;
        Ok(answer)
    }

    /// Asks for `reload_limits` every so often, in nanoseconds; `None` for never again.
    pub(crate) fn reload_every(&self, every: Option<i64>) {
        let now = self.clock.coarse().mono;
        self.reload_every.store(every.unwrap_or(NEVER), Ordering::Relaxed);
        self.attention_at.store(every.map_or(NEVER, |every| now.saturating_add(every)), Ordering::Relaxed);
    }

    /// Another store takes the place of this one.
    pub(crate) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
        self.attention_at.store(i64::MIN, Ordering::Release);
    }

    /// True where another store has taken the place of this one.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// False where there is nothing to look up for; else [`Opened::is_replaced`] and [`Opened::reload_due`] tell.
    #[inline]
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention_at.load(Ordering::Relaxed) != NEVER
    }

    /// The time in seconds where it is this call's turn to read the limits again.
    pub(crate) fn reload_due(&self) -> Option<f64> {
        let at = self.attention_at.load(Ordering::Relaxed);
        let now = self.clock.coarse().mono;
        if now < at {
            return None;
        }
        let next = now.saturating_add(self.reload_every.load(Ordering::Relaxed));
        // Of several calls one wins; the others go on.
        self.attention_at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(now as f64 / SECOND as f64)
    }

    /// Runs `work` with the GIL held where it will not have to wait, else without.
    #[inline]
    pub(crate) fn run<T: Send>(&self, py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
        if self.engine.is_free() { work() } else { py.detach(work) }
    }
}
