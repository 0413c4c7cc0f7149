//! The shapes that leave the engine: each is defined here once, and `schema/` is generated from here.

use serde::{Deserialize, Serialize};

use crate::account::Scope;
use crate::rules::limits::{LimitKind, Mode};

/// An amount of a limit: a count of requests, tokens or calls, or US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Quantity {
    /// Requests, tokens or open calls.
    Count(u64),
    /// US dollars.
    Usd(f64),
}

/// The state of an account, derived from counters, breaker and clock. The worst cause wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Status {
    /// Nothing is near.
    Normal = 0,
    /// A limit is near or critical.
    Warning = 1,
    /// The provider fails; its breaker is open.
    Degraded = 2,
    /// A minute, hour, second or concurrency limit is full, or the provider said so.
    RateLimited = 3,
    /// A day, month or budget is full, or the provider's quota is spent.
    QuotaExceeded = 4,
}

impl Status {
    /// The status as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Normal => "normal",
            Status::Warning => "warning",
            Status::Degraded => "degraded",
            Status::RateLimited => "rate_limited",
            Status::QuotaExceeded => "quota_exceeded",
        }
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A limit is in the way; `limits` lists them all.
    Limit,
    /// A circuit breaker is open: the provider, or this workspace's own.
    Breaker,
    /// A table of the store is full.
    StoreFull,
    /// The store's lock was not had in time and the account's policy is `closed`.
    StoreBusy,
    /// Others wait for the same limit and were first.
    Queue,
}

/// One limit of one account, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitLine {
    /// The account's own name.
    pub account: String,
    /// What the account is.
    pub scope: Scope,
    /// The kind of limit.
    pub limit: LimitKind,
    /// Whether it refuses.
    pub mode: Mode,
    /// The most the window may hold.
    pub cap: Quantity,
    /// What is used, by facts.
    pub used: Quantity,
    /// What open holds have set aside.
    pub held: Quantity,
    /// What this call asks; 0 in a snapshot.
    pub asked: Quantity,
    /// used + held over cap, in percent; may pass 100. 100 where cap is 0.
    pub percentage: f64,
    /// At or past the near threshold.
    pub near: bool,
    /// At or past the critical threshold.
    pub critical: bool,
    /// used past cap: what facts went over, which blocks the next reserve.
    pub debt: Quantity,
    /// When the window next gives something back; RFC 3339 in UTC. `None` where it holds nothing, or has no window.
    pub resets_at: Option<String>,
}

/// The answer to "may this call go?".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// Why not.
    pub reason: Option<Reason>,
    /// The breaker's cause where `reason` is `breaker`: `insufficient_quota`, `rate_limit_exceeded`, `failure_rate`; or
    /// `no_requests_left`, `no_tokens_left`, where nothing failed and the provider's own limit is used up until `retry_at`.
    pub breaker: Option<String>,
    /// One sentence for the operator, where the reason is a breaker or the store.
    pub detail: Option<String>,
    /// The first instant at which the same call would fit if nobody else comes; RFC 3339 in UTC.
    pub retry_at: Option<String>,
    /// The same, as a wait in milliseconds, rounded up.
    pub retry_after_ms: Option<u64>,
    /// The call asks more than a limit's cap: it fits at no time.
    pub never_fits: bool,
    /// Waiters that are before it.
    pub queued_ahead: u32,
    /// Every enforced limit in its way.
    pub limits: Vec<LimitLine>,
}

/// What was used over one window.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageLine {
    /// Calls, failed ones too.
    pub requests: u64,
    /// All tokens.
    pub tokens: u64,
    /// Tokens sent to the provider.
    pub input_tokens: u64,
    /// Tokens the provider made.
    pub output_tokens: u64,
    /// Tokens of the input that the provider had cached.
    pub cached_tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
    /// Calls that failed.
    pub errors: u64,
}

/// Usage by window.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// The last 60 seconds.
    pub minute: UsageLine,
    /// Today, in the account's time zone.
    pub day: UsageLine,
    /// This calendar month.
    pub month: UsageLine,
    /// Since the store began, or the last reset.
    pub total: UsageLine,
}

/// What is set aside for open calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Holds {
    /// Open calls.
    pub open: u64,
    /// Tokens held in the last 60 seconds.
    pub tokens: u64,
}

/// A breaker as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BreakerLine {
    /// The credential, the model behind it, or the workspace.
    pub account: String,
    /// `closed`, `open` or `half_open`.
    pub state: String,
    /// Why it opened: a provider's error code, `failure_rate`, or `no_requests_left` and `no_tokens_left`, where by the provider's
    /// own count nothing is left until then.
    pub cause: Option<String>,
    /// Until when; RFC 3339 in UTC.
    pub open_until: Option<String>,
}

/// One account as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The workspace.
    pub workspace_id: String,
    /// The worst of `status_reasons`, or `normal`.
    pub status: Status,
    /// Each cause: `full:tokens_per_minute`, `near:...`, `critical:...`, `breaker:insufficient_quota`.
    pub status_reasons: Vec<String>,
    /// The workspace's limits.
    pub limits: Vec<LimitLine>,
    /// Its usage.
    pub usage: Usage,
    /// Its open calls.
    pub holds: Holds,
    /// Open breakers that this workspace's calls may meet, by account name.
    pub provider_state: std::collections::BTreeMap<String, BreakerLine>,
    /// When an error was last recorded; RFC 3339 in UTC.
    pub last_error_at: Option<String>,
    /// Rises with each change of the account.
    pub version: u64,
    /// The time of this reading; RFC 3339 in UTC.
    pub as_of: String,
}

/// Usage of one goal, task, model or user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attribution {
    /// The id, or `other` for what was folded past the store's bound.
    pub id: String,
    /// Since the store began, or the last reset.
    pub total: UsageLine,
    /// Today.
    pub day: UsageLine,
}

/// What somebody who listens is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// The workspace that it is about. `None` where events of several were missed.
    pub workspace_id: Option<String>,
    /// The number of the event in its store, of all workspaces; of a status, that of the last event before it. It begins anew
    /// with the machine.
    pub sequence: u64,
    /// The workspace's version then; 0 where it is not known any more.
    pub version: u64,
    /// When; RFC 3339 in UTC.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// Counters changed.
    Record {
        /// By what.
        change: Change,
    },
    /// The status is another one: by what happened, or by time alone.
    Status {
        /// What this listener was told last; `normal` of a workspace that it was told nothing of.
        old: Status,
        /// What it is now.
        new: Status,
    },
    /// A limit came near, or was met, for the first time in its period.
    Threshold {
        /// How far.
        level: ThresholdLevel,
        /// The limit, as it stood then; where the event itself was missed, as it stands now.
        limit: LimitLine,
    },
    /// This listener was too slow: events are gone. The crossings among them and the current status follow.
    Lagged {
        /// How many, of all workspaces of the store.
        count: u64,
    },
}

/// What changes counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A call that nobody reserved.
    Record,
    /// A hold was given.
    Grant,
    /// A hold ended with what was used.
    Settle,
    /// A hold ended with nothing used.
    Release,
    /// A started hold that nobody ended was charged as held.
    Orphan,
    /// A change by hand, or a failure told by hand.
    Adjust,
}

/// How far a limit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ThresholdLevel {
    /// At or past the near threshold.
    Near,
    /// At or past the critical threshold.
    Critical,
    /// Nothing fits any more.
    Full,
}
