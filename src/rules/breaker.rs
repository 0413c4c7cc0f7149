//! The circuit breaker: what a provider's failures mean for the calls that follow.
//!
//! A failure is judged by the provider's error *code*, then by its HTTP status; free words never count. A spent quota opens
//! for long and is probed; a rate limit opens until the provider's own retry time and closes by itself; server errors and
//! timeouts open by their rate and are probed; other 4xx never count. So does, without any failure, an answer that says that
//! nothing is left of the provider's own limit until a time.

use std::num::NonZeroI64;

use super::left::Left;
use crate::clock::SECOND;

/// How long a spent quota keeps the breaker open at first; doubles at each failed probe.
pub const QUOTA_COOL_DOWN: i64 = 600 * SECOND;
/// How long a rate limit without a retry time of the provider's own keeps it open.
pub const RATE_LIMIT_COOL_DOWN: i64 = 60 * SECOND;
/// How long a failing provider keeps it open at first; doubles at each failed probe.
pub const FAILURE_COOL_DOWN: i64 = 30 * SECOND;
/// The longest cool-down that doubling reaches, or that a provider can ask for.
pub const LONGEST_COOL_DOWN: i64 = 3_600 * SECOND;
/// How long failures are remembered for their rate, in two halves.
pub const RATE_WINDOW: i64 = 60 * SECOND;
/// How many failures it takes at least.
pub const LEAST_FAILURES: u32 = 5;
/// From which share of the calls, in percent.
pub const FAILURE_PERCENT: u32 = 50;

/// What kind of failure a call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailureKind {
    /// The account's money or plan is spent.
    InsufficientQuota = 0,
    /// Too fast; waiting helps.
    RateLimited = 1,
    /// 5xx, 529 (overloaded).
    Server = 2,
    /// No answer in time, or no connection.
    Timeout = 3,
    /// Anything else: the request was wrong, or nobody said why. Never counts.
    Other = 4,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [FailureKind; 5] = [
        FailureKind::InsufficientQuota,
        FailureKind::RateLimited,
        FailureKind::Server,
        FailureKind::Timeout,
        FailureKind::Other,
    ];

    /// True for what waiting may mend.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, FailureKind::RateLimited | FailureKind::Server | FailureKind::Timeout)
    }

    /// The kind of a stored number; `None` where the number is none of ours.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The word in rows and exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::InsufficientQuota => "insufficient_quota",
            FailureKind::RateLimited => "rate_limited",
            FailureKind::Server => "server",
            FailureKind::Timeout => "timeout",
            FailureKind::Other => "other",
        }
    }
}

/// A failed call, as the provider told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// The provider's own wait, in nanoseconds, where it gave one and it is not over at once.
    pub retry_after: Option<NonZeroI64>,
}

impl Failure {
    /// A failure that nobody explained.
    pub const UNKNOWN: Failure = Failure { kind: FailureKind::Other, retry_after: None };

    /// Judges by error code, then by HTTP status. Unknown codes with a status are judged by the status.
    #[must_use]
    pub fn classify(code: Option<&str>, status: Option<u16>, retry_after: Option<i64>) -> Self {
        let by_code = code.and_then(|code| match code {
            "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active" | "quota_exceeded" => {
                Some(FailureKind::InsufficientQuota)
            }
            "rate_limit_exceeded" | "rate_limit_error" | "requests" | "tokens" => Some(FailureKind::RateLimited),
            "server_error" | "internal_error" | "overloaded_error" | "api_error" | "service_unavailable" => {
                Some(FailureKind::Server)
            }
            "timeout" | "connection_error" => Some(FailureKind::Timeout),
            _ => None,
        });
        let kind = by_code.unwrap_or(match status {
            Some(429) => FailureKind::RateLimited,
            Some(408) => FailureKind::Timeout,
            Some(500..=599) => FailureKind::Server,
            _ => FailureKind::Other,
        });
        Self { kind, retry_after: retry_after.and_then(|wait| NonZeroI64::new(wait.clamp(0, LONGEST_COOL_DOWN))) }
    }
}

/// Why a breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Cause {
    /// It is not.
    #[default]
    None = 0,
    /// The provider's quota is spent.
    InsufficientQuota = 1,
    /// The provider's rate limit was met.
    RateLimit = 2,
    /// Too many server errors and timeouts.
    FailureRate = 3,
    /// By the provider's own count no request is left.
    NoRequestsLeft = 4,
    /// By the provider's own count no token is left.
    NoTokensLeft = 5,
}

impl Cause {
    /// The cause as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::None => "none",
            Cause::InsufficientQuota => "insufficient_quota",
            Cause::RateLimit => "rate_limit_exceeded",
            Cause::FailureRate => "failure_rate",
            Cause::NoRequestsLeft => "no_requests_left",
            Cause::NoTokensLeft => "no_tokens_left",
        }
    }

    /// The cause of a stored number; `None` (the cause) where the number is none of ours.
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            1 => Cause::InsufficientQuota,
            2 => Cause::RateLimit,
            3 => Cause::FailureRate,
            4 => Cause::NoRequestsLeft,
            5 => Cause::NoTokensLeft,
            _ => Cause::None,
        }
    }

    /// True where the provider said that nothing is left, and nothing failed.
    #[must_use]
    pub const fn is_used_up(self) -> bool {
        matches!(self, Cause::NoRequestsLeft | Cause::NoTokensLeft)
    }

    /// True of what waiting alone ends, without a probe: the provider itself said how long.
    #[must_use]
    pub const fn ends_by_itself(self) -> bool {
        matches!(self, Cause::RateLimit) || self.is_used_up()
    }
}

/// The state as of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls go.
    Closed,
    /// Calls are refused until then (monotonic nanoseconds).
    Open {
        /// When it half-opens, or closes.
        until: i64,
    },
    /// One probe may go; `probing` while it does.
    HalfOpen {
        /// A probe is on its way.
        probing: bool,
    },
}

/// One breaker. All times are monotonic nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Why it opened.
    pub cause: Cause,
    /// How often in a row it opened without a success between; doubles the cool-down.
    pub strikes: u8,
    /// When it opened; where nothing is left, when that was last told; where something was left again, when the call began that
    /// was told so.
    pub opened: i64,
    /// Until when it is open.
    pub until: i64,
    /// Until when the probe that went is waited for; 0 where none is.
    pub probe_until: i64,
    /// Start of the current half of the rate window.
    pub half: i64,
    /// Calls in the current half and in the one before.
    pub calls: [u32; 2],
    /// Failures among them.
    pub failures: [u32; 2],
}

impl Breaker {
    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: i64) -> State {
        match self.cause {
            Cause::None => State::Closed,
            _ if now < self.until => State::Open { until: self.until },
            cause if cause.ends_by_itself() => State::Closed,
            _ => State::HalfOpen { probing: now < self.probe_until },
        }
    }

    /// True where it refuses calls at `now`.
    #[must_use]
    pub fn shuts(&self, now: i64) -> bool {
        matches!(self.state(now), State::Open { .. } | State::HalfOpen { probing: true })
    }

    /// True where it has nothing to remember at `now`: it is closed, not half-open, and its rate window is over.
    #[must_use]
    pub fn is_quiet(&self, now: i64) -> bool {
        self.state(now) == State::Closed && now.saturating_sub(self.half) >= RATE_WINDOW
    }

    /// Takes the answer of a call that began at `began`.
    #[must_use]
    pub fn after(mut self, outcome: Result<(), Failure>, began: i64, now: i64) -> Self {
        self.roll(now);
        self.count(outcome.is_err_and(|failure| matches!(failure.kind, FailureKind::Server | FailureKind::Timeout)));
        match outcome {
            Ok(()) => self.succeeded(began, now),
            Err(failure) => self.failed(failure, now),
        }
        self
    }

    /// Takes what an answer says is left of the provider's own limits. Its call began at `began`, and went `well` or failed.
    /// Counts nothing.
    ///
    /// Of two answers the one whose call began after the other was here is the newer; of others nobody knows, and the longer
    /// wait holds.
    #[must_use]
    pub fn heard(mut self, left: &Left, began: i64, well: bool, now: i64) -> Self {
        let is_newer = began >= self.opened;
        let supersedes = is_newer && left.of(self.cause).is_some();
        let Some((cause, wait)) = left.used_up() else {
            if supersedes {
                (self.cause, self.opened, self.until) = (Cause::None, began, 0);
            }
            return self;
        };
        if well && matches!(self.state(now), State::HalfOpen { .. }) {
            // The head of a probe's answer, which may be long in coming to its end.
            self.succeeded(began, now);
        }
        let until = now.saturating_add(wait.get());
        match self.cause {
            // It ends with a probe, whose answer tells anew.
            Cause::InsufficientQuota | Cause::FailureRate => return self,
            Cause::None if !is_newer => return self,
            Cause::None => {}
            _ if supersedes => {}
            _ if until <= self.until => {
                if self.cause.is_used_up() {
                    self.opened = now;
                }
                return self;
            }
            Cause::RateLimit | Cause::NoRequestsLeft | Cause::NoTokensLeft => {}
        }
        (self.cause, self.opened, self.until) = (cause, now, until);
        (self.strikes, self.probe_until) = (0, 0);
        self
    }

    /// Marks that a probe goes, which is waited for until `until`.
    #[must_use]
    pub fn probing(mut self, until: i64) -> Self {
        self.probe_until = until;
        self
    }

    /// The probe ended without an answer of the provider: another may go.
    #[must_use]
    pub fn probe_lost(mut self) -> Self {
        self.probe_until = 0;
        self
    }

    fn roll(&mut self, now: i64) {
        let half = RATE_WINDOW / 2;
        if now.saturating_sub(self.half) >= 2 * half || now < self.half {
            (self.half, self.calls, self.failures) = (now, [0; 2], [0; 2]);
        } else if now.saturating_sub(self.half) >= half {
            self.half += half;
            self.calls = [0, self.calls[0]];
            self.failures = [0, self.failures[0]];
        }
    }

    fn count(&mut self, failed: bool) {
        self.calls[0] = self.calls[0].saturating_add(1);
        self.failures[0] = self.failures[0].saturating_add(u32::from(failed));
    }

    fn succeeded(&mut self, began: i64, now: i64) {
        let proves = match self.cause {
            Cause::None | Cause::RateLimit | Cause::NoRequestsLeft | Cause::NoTokensLeft => false,
            // A call that began before the quota was spent proves nothing about it.
            Cause::InsufficientQuota => began >= self.opened,
            Cause::FailureRate => now >= self.until,
        };
        if proves {
            *self = Self { half: self.half, ..Self::default() };
        }
    }

    fn failed(&mut self, failure: Failure, now: i64) {
        let probed = matches!(self.state(now), State::HalfOpen { .. });
        match failure.kind {
            FailureKind::InsufficientQuota => self.open(Cause::InsufficientQuota, now, QUOTA_COOL_DOWN, None),
            FailureKind::RateLimited => {
                // A rate limit says less than a spent quota, which stays.
                if self.cause != Cause::InsufficientQuota || (self.cause == Cause::InsufficientQuota && probed) {
                    self.open(Cause::RateLimit, now, RATE_LIMIT_COOL_DOWN, failure.retry_after.map(NonZeroI64::get));
                }
            }
            FailureKind::Server | FailureKind::Timeout => {
                let failures = self.failures[0].saturating_add(self.failures[1]);
                let calls = self.calls[0].saturating_add(self.calls[1]);
                let failing = failures >= LEAST_FAILURES
                    && u64::from(failures) * 100 >= u64::from(calls) * u64::from(FAILURE_PERCENT);
                match self.cause {
                    Cause::FailureRate if probed => self.open(Cause::FailureRate, now, FAILURE_COOL_DOWN, None),
                    Cause::None if failing => self.open(Cause::FailureRate, now, FAILURE_COOL_DOWN, None),
                    cause if cause.ends_by_itself() && failing && now >= self.until => {
                        self.open(Cause::FailureRate, now, FAILURE_COOL_DOWN, None);
                    }
                    _ => {}
                }
            }
            FailureKind::Other => {}
        }
    }

    fn open(&mut self, cause: Cause, now: i64, cool_down: i64, told: Option<i64>) {
        let again = self.cause == cause && now >= self.until;
        self.strikes = if again {
            self.strikes.saturating_add(1)
        } else if self.cause == cause {
            self.strikes
        } else {
            0
        };
        let doubled = if cause == Cause::RateLimit {
            cool_down
        } else {
            cool_down.saturating_mul(1 << self.strikes.min(12)).min(LONGEST_COOL_DOWN)
        };
        let until = now.saturating_add(told.unwrap_or(doubled));
        // A shorter wait that comes later does not shorten a longer one of the same cause, or of the same limits.
        let of_the_same = self.cause == cause || cause == Cause::RateLimit && self.cause.is_used_up();
        self.until = if of_the_same { self.until.max(until) } else { until };
        if self.cause != cause || again {
            self.opened = now;
        }
        self.cause = cause;
        self.probe_until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::left::Stock;
    use super::*;

    fn failure(code: &str, status: u16) -> Failure {
        Failure::classify(Some(code), Some(status), None)
    }

    #[test]
    fn failures_are_judged_by_code_then_status() {
        use FailureKind::{InsufficientQuota, Other, RateLimited, Server, Timeout};
        let cases = [
            (Some("insufficient_quota"), Some(429), InsufficientQuota),
            (Some("rate_limit_exceeded"), Some(429), RateLimited),
            (Some("context_length_exceeded"), Some(400), Other),
            (Some("model_not_found"), Some(404), Other),
            (Some("invalid_api_key"), Some(401), Other),
            (None, Some(429), RateLimited),
            (None, Some(500), Server),
            (None, Some(529), Server),
            (None, Some(408), Timeout),
            (Some("timeout"), None, Timeout),
            (Some("the quota was exceeded"), None, Other),
            (None, None, Other),
        ];
        for (code, status, kind) in cases {
            assert_eq!(Failure::classify(code, status, None).kind, kind, "{code:?} {status:?}");
        }
    }

    #[test]
    fn a_spent_quota_survives_silence_lets_one_probe_through_and_ends_with_a_success() {
        let breaker = Breaker::default().after(Err(failure("insufficient_quota", 429)), 0, 0);
        assert_eq!(breaker.state(QUOTA_COOL_DOWN - 1), State::Open { until: QUOTA_COOL_DOWN });
        assert_eq!(breaker.state(QUOTA_COOL_DOWN), State::HalfOpen { probing: false });
        assert_eq!(breaker.state(1_000 * QUOTA_COOL_DOWN), State::HalfOpen { probing: false });
        let probing = breaker.probing(QUOTA_COOL_DOWN + 60 * SECOND);
        assert_eq!(probing.state(QUOTA_COOL_DOWN + SECOND), State::HalfOpen { probing: true });
        let failed = probing.after(Err(failure("insufficient_quota", 429)), QUOTA_COOL_DOWN, QUOTA_COOL_DOWN + SECOND);
        assert_eq!(failed.state(2 * QUOTA_COOL_DOWN + SECOND), State::Open { until: 3 * QUOTA_COOL_DOWN + SECOND });
        let ended = probing.after(Ok(()), QUOTA_COOL_DOWN, QUOTA_COOL_DOWN + SECOND);
        assert_eq!(ended.state(QUOTA_COOL_DOWN + SECOND), State::Closed);
    }

    #[test]
    fn a_success_that_began_earlier_does_not_end_a_spent_quota() {
        let breaker = Breaker::default().after(Err(failure("insufficient_quota", 429)), 0, 10 * SECOND);
        assert!(matches!(breaker.after(Ok(()), 9 * SECOND, 11 * SECOND).state(11 * SECOND), State::Open { .. }));
        assert_eq!(breaker.after(Ok(()), 10 * SECOND, 11 * SECOND).state(11 * SECOND), State::Closed);
    }

    #[test]
    fn a_rate_limit_clears_by_waiting_and_takes_the_providers_time() {
        let told = Failure::classify(Some("rate_limit_exceeded"), Some(429), Some(7 * SECOND));
        let breaker = Breaker::default().after(Err(told), 0, 0);
        assert_eq!(breaker.state(7 * SECOND - 1), State::Open { until: 7 * SECOND });
        assert_eq!(breaker.state(7 * SECOND), State::Closed);
    }

    #[test]
    fn a_failing_provider_opens_by_rate_and_other_errors_never() {
        let mut breaker = Breaker::default();
        for step in 0..20 {
            breaker = breaker.after(Err(failure("context_length_exceeded", 400)), 0, step);
        }
        assert_eq!(breaker.state(20), State::Closed);
        let mut failing = Breaker::default();
        for step in 0..i64::from(LEAST_FAILURES) {
            assert_eq!(failing.state(step), State::Closed);
            failing = failing.after(Err(failure("server_error", 529)), 0, step);
        }
        assert!(matches!(failing.state(10), State::Open { .. }));
        let mut rare = Breaker::default();
        for step in 0..100 {
            let outcome = if step % 3 == 0 { Err(failure("server_error", 500)) } else { Ok(()) };
            rare = rare.after(outcome, 0, step);
        }
        assert_eq!(rare.state(100), State::Closed);
    }

    fn tokens(stock: Stock) -> Left {
        Left { tokens: Some(stock), ..Left::default() }
    }

    fn no_tokens_for(wait: i64) -> Left {
        tokens(NonZeroI64::new(wait).map_or(Stock::Some, Stock::NoneFor))
    }

    #[test]
    fn nothing_left_opens_until_then_and_closes_without_a_probe_or_a_failure() {
        let breaker = Breaker::default().heard(&no_tokens_for(7 * SECOND), 0, true, SECOND);
        assert_eq!((breaker.cause, breaker.state(SECOND)), (Cause::NoTokensLeft, State::Open { until: 8 * SECOND }));
        assert_eq!(breaker.state(8 * SECOND), State::Closed);
        assert_eq!((breaker.calls, breaker.failures, breaker.strikes), ([0; 2], [0; 2], 0));
        assert_eq!(breaker.after(Ok(()), 2 * SECOND, 3 * SECOND).state(3 * SECOND), State::Open { until: 8 * SECOND });
    }

    #[test]
    fn of_two_answers_the_one_whose_call_began_after_the_other_was_here_is_the_newer() {
        let open = Breaker::default().heard(&no_tokens_for(60 * SECOND), 0, true, 10 * SECOND);
        let left = tokens(Stock::Some);
        assert_eq!(open.heard(&left, 9 * SECOND, true, 20 * SECOND), open, "it may have been answered before");
        let closed = open.heard(&left, 10 * SECOND, true, 20 * SECOND);
        assert_eq!(closed.state(20 * SECOND), State::Closed);
        let late = closed.heard(&no_tokens_for(60 * SECOND), 9 * SECOND, true, 21 * SECOND);
        assert_eq!(late.state(21 * SECOND), State::Closed, "the call began before the one that was told otherwise");
        let again = closed.heard(&no_tokens_for(SECOND), 11 * SECOND, true, 21 * SECOND);
        assert_eq!(again.state(21 * SECOND), State::Open { until: 22 * SECOND });
        let shorter = open.heard(&no_tokens_for(SECOND), 10 * SECOND, true, 20 * SECOND);
        assert_eq!(shorter.state(20 * SECOND), State::Open { until: 21 * SECOND });
        let beside = open.heard(&no_tokens_for(SECOND), 9 * SECOND, true, 20 * SECOND);
        assert_eq!(beside.state(20 * SECOND), State::Open { until: 70 * SECOND });
        assert_eq!(beside.heard(&left, 15 * SECOND, true, 30 * SECOND), beside, "it began before that was told");
    }

    #[test]
    fn what_is_left_of_one_limit_says_nothing_of_the_other() {
        let open = Breaker::default().heard(&no_tokens_for(60 * SECOND), 0, true, 10 * SECOND);
        let requests = |stock| Left { requests: Some(stock), ..Left::default() };
        assert_eq!(open.heard(&requests(Stock::Some), 20 * SECOND, true, 30 * SECOND), open);
        let second = NonZeroI64::new(SECOND).map_or(Stock::Some, Stock::NoneFor);
        assert_eq!(
            open.heard(&requests(second), 20 * SECOND, true, 30 * SECOND).state(30 * SECOND),
            open.state(30 * SECOND)
        );
        let both = Left { requests: Some(second), tokens: Some(Stock::Some) };
        let newer = open.heard(&both, 20 * SECOND, true, 30 * SECOND);
        assert_eq!((newer.cause, newer.until), (Cause::NoRequestsLeft, 31 * SECOND));
    }

    #[test]
    fn a_refusal_and_what_is_left_wait_for_the_later_of_the_two() {
        let limited = |wait| Err(Failure::classify(None, Some(429), Some(wait)));
        let refused = Breaker::default().after(limited(5 * SECOND), 0, 0);
        assert_eq!(refused.heard(&no_tokens_for(SECOND), 0, true, 0), refused);
        assert_eq!(refused.heard(&no_tokens_for(9 * SECOND), 0, true, 0).until, 9 * SECOND);
        let used_up = Breaker::default().heard(&no_tokens_for(9 * SECOND), 0, true, 0);
        assert_eq!(used_up.after(limited(5 * SECOND), 0, 0).until, 9 * SECOND);
        assert_eq!(used_up.after(limited(20 * SECOND), 0, 0).until, 20 * SECOND);
        assert_eq!(refused.heard(&tokens(Stock::Some), SECOND, true, SECOND), refused, "it said how long itself");
    }

    #[test]
    fn what_is_probed_stays_until_its_probe_is_answered_well() {
        let spent = Breaker::default().after(Err(failure("insufficient_quota", 429)), 0, SECOND);
        let news = no_tokens_for(7 * SECOND);
        assert_eq!(spent.heard(&news, 0, true, 2 * SECOND), spent);
        let now = QUOTA_COOL_DOWN + 2 * SECOND;
        let probing = spent.probing(now + 60 * SECOND);
        assert_eq!(probing.heard(&news, 0, true, now), probing, "another call, of before");
        assert_eq!(probing.heard(&news, now, false, now), probing, "the probe failed");
        let ended = probing.heard(&news, now, true, now);
        assert_eq!((ended.cause, ended.state(now)), (Cause::NoTokensLeft, State::Open { until: now + 7 * SECOND }));
        assert_eq!(ended.after(Ok(()), now, now + SECOND).until, now + 7 * SECOND);
    }

    #[test]
    fn a_provider_that_fails_after_its_limit_is_free_again_opens_by_rate() {
        let mut breaker = Breaker::default().heard(&no_tokens_for(SECOND), 0, true, 0);
        for step in 0..i64::from(LEAST_FAILURES) {
            breaker = breaker.after(Err(failure("server_error", 500)), SECOND, SECOND + step);
        }
        assert_eq!(breaker.cause, Cause::FailureRate);
    }
}
