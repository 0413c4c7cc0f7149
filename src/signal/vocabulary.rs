//! The words of notices: every id with its level, and the values that a text may show.

use serde::Serialize;

use crate::account::Scope;
use crate::rules::limits::LimitKind;

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Info,
    /// It passes by itself, or may be avoided.
    Warning,
    /// Calls are refused until somebody acts or a day or month ends.
    Error,
}

/// One table of ids: variant, word, level.
macro_rules! notice_ids {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $level:ident;)+) => {
        /// Which notice. The word is stable: it is the id of the message in every language, and stands on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum NoticeId {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl NoticeId {
            /// Every id.
            pub const ALL: &'static [NoticeId] = &[$(NoticeId::$variant),+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(NoticeId::$variant => $word,)+ }
            }

            /// How much it matters.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(NoticeId::$variant => Level::$level,)+ }
            }
        }
    };
}

notice_ids! {
    /// Nothing is near: no title, no text.
    StatusNormal = "status-normal", Info;
    /// A limit is near.
    StatusNear = "status-near", Warning;
    /// A limit is critical.
    StatusCritical = "status-critical", Warning;
    /// A short limit of the workspace is full.
    StatusRateLimited = "status-rate-limited", Warning;
    /// The provider asked to slow down.
    StatusRateLimitedByProvider = "status-rate-limited-by-provider", Warning;
    /// A day, month or budget of the workspace is full.
    StatusQuotaExceeded = "status-quota-exceeded", Error;
    /// The provider's own quota is spent.
    StatusQuotaExceededByProvider = "status-quota-exceeded-by-provider", Error;
    /// The provider fails.
    StatusDegraded = "status-degraded", Warning;
    /// Short text: calls may go.
    CheckNormal = "check-normal", Info;
    /// Short text: a limit is near.
    CheckWarning = "check-warning", Warning;
    /// Short text: wait.
    CheckRateLimited = "check-rate-limited", Warning;
    /// Short text: a day, month or budget is full.
    CheckQuotaExceeded = "check-quota-exceeded", Error;
    /// Short text: the provider fails.
    CheckDegraded = "check-degraded", Warning;
    /// The call may go: no title, no text.
    Allowed = "allowed", Info;
    /// A second, minute, hour or concurrency limit is in the way.
    RefusedRate = "refused-rate", Warning;
    /// A day, month or budget is in the way.
    RefusedQuota = "refused-quota", Error;
    /// The call asks more than a limit's cap.
    RefusedNeverFits = "refused-never-fits", Error;
    /// The provider's own quota is spent.
    RefusedProviderQuota = "refused-provider-quota", Error;
    /// The provider asked to slow down.
    RefusedProviderRate = "refused-provider-rate", Warning;
    /// The provider fails too often.
    RefusedProviderFailing = "refused-provider-failing", Warning;
    /// A breaker is open for another of the provider's codes.
    RefusedProviderOther = "refused-provider-other", Warning;
    /// Others were first.
    RefusedQueue = "refused-queue", Warning;
    /// The store did not answer in time.
    RefusedStoreBusy = "refused-store-busy", Warning;
    /// A table of the store is full.
    RefusedStoreFull = "refused-store-full", Error;
}

/// A value that a text may show or choose by.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Arg {
    /// A name, a code, or a word to choose by.
    Text(String),
    /// Requests, tokens, calls.
    Count(u64),
    /// US dollars.
    Usd(f64),
    /// Percent; 100 is full, more is past it.
    Percent(f64),
    /// An instant, RFC 3339 in UTC.
    Time(String),
    /// A length of time.
    Wait {
        /// Whole seconds, rounded up.
        seconds: u64,
    },
    /// A kind of limit, to choose by.
    Limit(LimitKind),
    /// What an account is, to choose by.
    Scope(Scope),
}
