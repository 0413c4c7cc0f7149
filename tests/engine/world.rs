//! A manager on a manual clock, and the few words in which the tests of the engine speak.

#![allow(dead_code, reason = "each test file says some of the words")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use llmquota::account::AccountId;
use llmquota::config::{Config, LimitsFile};
use llmquota::reservation::{Hold, Report, Verdict};
use llmquota::rules::limits::{LimitKind, LimitSet};
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::wire::{Decision, LimitLine, Quantity, Usage};
use llmquota::{Ask, Call, Clock, Manager, ManualClock, Options, Scope};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A Saturday noon, the last of January.
pub(crate) const NOON: &str = "2026-01-31T12:00:00Z";

pub(crate) struct World {
    pub(crate) manager: Manager,
    pub(crate) clock: ManualClock,
}

/// The wall time, in nanoseconds since the epoch.
pub(crate) fn wall(text: &str) -> i64 {
    i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
}

pub(crate) fn workspace(name: &str) -> AccountId<'_> {
    AccountId { scope: Scope::Workspace, owner: "", name }
}

/// What used so many tokens, for nothing.
pub(crate) fn used(tokens: u64) -> Report<'static> {
    Report { cost: Some(NanoUsd::ZERO), ..Report::success(TokenUsage::unsplit(tokens)) }
}

/// One request of so many tokens, for nothing.
pub(crate) fn asking(tokens: u64) -> Ask {
    Ask { requests: 1, tokens, cost: Some(NanoUsd::ZERO) }
}

pub(crate) fn count(quantity: Quantity) -> u64 {
    match quantity {
        Quantity::Count(count) => count,
        Quantity::Usd(usd) => NanoUsd::from_usd_f64("", usd).unwrap().nanos().unsigned_abs(),
    }
}

/// The wall time that a refusal tells.
pub(crate) fn told(decision: &Decision) -> i64 {
    wall(decision.retry_at.as_deref().unwrap())
}

impl World {
    /// Nothing is limited but by this limits file.
    pub(crate) fn with(file: &str) -> Self {
        Self::at(NOON, file)
    }

    pub(crate) fn at(instant: &str, file: &str) -> Self {
        Self::sized(8 << 20, instant, file)
    }

    pub(crate) fn sized(bytes: usize, instant: &str, file: &str) -> Self {
        let clock = ManualClock::at(wall(instant));
        let manager = manager(bytes, Arc::new(clock.clone()), file);
        Self { manager, clock }
    }

    pub(crate) fn pass(&self, nanos: i64) {
        self.clock.advance(nanos);
    }

    /// Lets time pass until the wall clock shows this.
    pub(crate) fn pass_until(&self, until: i64) {
        let now = self.clock.exact().wall;
        assert!(until >= now, "time does not go back");
        self.clock.advance(until - now);
    }

    pub(crate) fn limit(&self, account: AccountId<'_>, set: LimitSet) {
        self.manager.set_override(account, set, None).unwrap();
    }

    pub(crate) fn ask(&self, call: &Call<'_>, ask: Ask) -> Verdict {
        self.manager.reserve(call, &ask, Duration::from_secs(600)).unwrap()
    }

    pub(crate) fn granted(&self, call: &Call<'_>, ask: Ask) -> Hold {
        granted(self.ask(call, ask))
    }

    pub(crate) fn refused(&self, call: &Call<'_>, ask: Ask) -> Decision {
        refused(self.ask(call, ask))
    }

    pub(crate) fn record(&self, call: &Call<'_>, tokens: u64) {
        self.manager.record(call, &used(tokens)).unwrap();
    }

    pub(crate) fn usage(&self, call: &Call<'_>) -> Usage {
        self.manager.usage(call).unwrap()
    }

    /// The limit of the call's last account.
    pub(crate) fn line(&self, call: &Call<'_>, kind: LimitKind) -> LimitLine {
        let lines = self.manager.limits(call).unwrap();
        lines.into_iter().rfind(|line| line.limit == kind).unwrap()
    }

    /// Used and held under a limit of the call's last account.
    pub(crate) fn counts(&self, call: &Call<'_>, kind: LimitKind) -> (u64, u64) {
        let line = self.line(call, kind);
        (count(line.used), count(line.held))
    }
}

/// A manager that nothing limits but this limits file.
pub(crate) fn manager(bytes: usize, clock: Arc<dyn Clock>, file: &str) -> Manager {
    let config = Config::unlimited().with_file(LimitsFile::parse(file, "limits.toml").unwrap());
    Manager::new(Options { bytes, clock, config, shared: None }).unwrap()
}

pub(crate) fn granted(verdict: Verdict) -> Hold {
    match verdict {
        Verdict::Granted(hold) => hold,
        Verdict::Refused(decision) => panic!("refused: {decision:?}"),
    }
}

pub(crate) fn refused(verdict: Verdict) -> Decision {
    match verdict {
        Verdict::Refused(decision) => decision,
        Verdict::Granted(hold) => panic!("granted: {hold:?}"),
    }
}
