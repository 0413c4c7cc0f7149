//! Status: a pure function of counters, breaker and clock. Waiting alone clears what waiting should clear.

use super::breaker::{Breaker, Cause, State};
use super::decisions::Reading;
use super::limits::{LimitKind, LimitSet, Mode, Thresholds, Window};
use crate::wire::Status;

/// How full one limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// Below near.
    Low,
    /// At or past the near threshold.
    Near,
    /// At or past the critical threshold.
    Critical,
    /// Nothing fits any more.
    Full,
}

impl Fill {
    /// How full `sum` of `cap` is. A cap of 0 is full.
    #[must_use]
    pub fn of(sum: u64, cap: u64, thresholds: Thresholds) -> Self {
        let reached = |percent: u8| u128::from(sum) * 100 >= u128::from(cap) * u128::from(percent);
        if sum >= cap {
            Fill::Full
        } else if reached(thresholds.critical) {
            Fill::Critical
        } else if reached(thresholds.near) {
            Fill::Near
        } else {
            Fill::Low
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Fill::Low => "low",
            Fill::Near => "near",
            Fill::Critical => "critical",
            Fill::Full => "full",
        }
    }
}

/// The status that a limit of `kind` at this fill causes. An observed limit warns and no more.
#[must_use]
pub fn of_limit(kind: LimitKind, mode: Mode, fill: Fill) -> Status {
    match (fill, mode, kind.window()) {
        (Fill::Low, _, _) => Status::Normal,
        (Fill::Near | Fill::Critical, _, _) | (Fill::Full, Mode::Observe, _) => Status::Warning,
        (Fill::Full, Mode::Enforce, Window::Day | Window::Month) => Status::QuotaExceeded,
        (Fill::Full, Mode::Enforce, _) => Status::RateLimited,
    }
}

/// The status that a breaker causes at `now` (monotonic nanoseconds).
///
/// A spent quota holds until a call succeeds; all others hold only while the breaker is open.
#[must_use]
pub fn of_breaker(breaker: &Breaker, now: i64) -> Status {
    match (breaker.cause, breaker.state(now)) {
        (Cause::None, _) | (_, State::Closed) => Status::Normal,
        (Cause::InsufficientQuota, _) => Status::QuotaExceeded,
        (Cause::RateLimit | Cause::NoRequestsLeft | Cause::NoTokensLeft, State::Open { .. }) => Status::RateLimited,
        (Cause::FailureRate, State::Open { .. }) => Status::Degraded,
        (_, State::HalfOpen { .. }) => Status::Normal,
    }
}

/// The worst status of an account by its limits and by these breakers, and every cause, as `full:tokens_per_minute` or `breaker:insufficient_quota`.
#[must_use]
pub fn of(
    limits: &LimitSet,
    reading: &Reading,
    thresholds: Thresholds,
    breakers: &[Breaker],
    now: i64,
) -> (Status, Vec<String>) {
    let mut worst = Status::Normal;
    let mut reasons = Vec::new();
    for breaker in breakers {
        let status = of_breaker(breaker, now);
        let reason = format!("breaker:{}", breaker.cause.as_str());
        if status != Status::Normal && !reasons.contains(&reason) {
            worst = worst.max(status);
            reasons.push(reason);
        }
    }
    for (kind, limit) in limits.iter() {
        let fill = Fill::of(reading.get(kind).sum(), limit.cap, thresholds);
        let status = of_limit(kind, limit.mode, fill);
        if status != Status::Normal {
            worst = worst.max(status);
            reasons.push(format!("{}:{}", fill.word(), kind.as_str()));
        }
    }
    (worst, reasons)
}
