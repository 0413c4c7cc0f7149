//! Limits: what an account may use, by kind.

use crate::error::{Code, Error, Result};

/// The kinds of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LimitKind {
    /// Requests in any 60 seconds.
    RequestsPerMinute = 0,
    /// Requests in a clock hour of the account's time zone.
    RequestsPerHour = 1,
    /// Requests in a calendar day of the account's time zone.
    RequestsPerDay = 2,
    /// Tokens in any 60 seconds.
    TokensPerMinute = 3,
    /// Tokens in a calendar day.
    TokensPerDay = 4,
    /// Money in a calendar day, in nano-dollars.
    BudgetUsdPerDay = 5,
    /// Money in a calendar month, in nano-dollars.
    BudgetUsdPerMonth = 6,
    /// Calls that are open at once.
    MaxConcurrent = 7,
    /// Requests in one second.
    MaxBurst = 8,
}

/// How many kinds there are.
pub const KINDS: usize = 9;

/// The most that a limit of tokens or requests can be: 2^53, the largest integer that every JSON reader keeps.
pub const MAX_COUNT: u64 = 1 << 53;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Calls.
    Requests,
    /// Tokens.
    Tokens,
    /// Nano-dollars.
    Money,
    /// Open holds.
    Concurrency,
}

/// Over which window a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The current second.
    Second,
    /// Any 60 seconds.
    Minute,
    /// A clock hour.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
    /// No window: what is open now.
    Open,
}

impl LimitKind {
    /// Every kind, by its number.
    pub const ALL: [LimitKind; KINDS] = [
        LimitKind::RequestsPerMinute,
        LimitKind::RequestsPerHour,
        LimitKind::RequestsPerDay,
        LimitKind::TokensPerMinute,
        LimitKind::TokensPerDay,
        LimitKind::BudgetUsdPerDay,
        LimitKind::BudgetUsdPerMonth,
        LimitKind::MaxConcurrent,
        LimitKind::MaxBurst,
    ];

    /// The name, as in `limits.toml` and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LimitKind::RequestsPerMinute => "requests_per_minute",
            LimitKind::RequestsPerHour => "requests_per_hour",
            LimitKind::RequestsPerDay => "requests_per_day",
            LimitKind::TokensPerMinute => "tokens_per_minute",
            LimitKind::TokensPerDay => "tokens_per_day",
            LimitKind::BudgetUsdPerDay => "budget_usd_per_day",
            LimitKind::BudgetUsdPerMonth => "budget_usd_per_month",
            LimitKind::MaxConcurrent => "max_concurrent",
            LimitKind::MaxBurst => "max_burst",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What it counts.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            LimitKind::TokensPerMinute | LimitKind::TokensPerDay => Resource::Tokens,
            LimitKind::BudgetUsdPerDay | LimitKind::BudgetUsdPerMonth => Resource::Money,
            LimitKind::MaxConcurrent => Resource::Concurrency,
            LimitKind::RequestsPerMinute
            | LimitKind::RequestsPerHour
            | LimitKind::RequestsPerDay
            | LimitKind::MaxBurst => Resource::Requests,
        }
    }

    /// Over which window.
    #[must_use]
    pub const fn window(self) -> Window {
        match self {
            LimitKind::MaxBurst => Window::Second,
            LimitKind::RequestsPerMinute | LimitKind::TokensPerMinute => Window::Minute,
            LimitKind::RequestsPerHour => Window::Hour,
            LimitKind::RequestsPerDay | LimitKind::TokensPerDay | LimitKind::BudgetUsdPerDay => Window::Day,
            LimitKind::BudgetUsdPerMonth => Window::Month,
            LimitKind::MaxConcurrent => Window::Open,
        }
    }
}

/// Whether a limit refuses, or only shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Calls that do not fit are refused.
    #[default]
    Enforce,
    /// The limit is measured and shown; nothing is refused for it.
    Observe,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The most that the window may hold: requests, tokens, open calls, or nano-dollars. 0 blocks.
    pub cap: u64,
    /// Whether it refuses.
    pub mode: Mode,
}

/// From which share of a limit it counts as near and as critical, in whole percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// 80 unless configured.
    pub near: u8,
    /// 95 unless configured.
    pub critical: u8,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { near: 80, critical: 95 }
    }
}

impl Thresholds {
    /// Checks both.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] unless 1 <= near <= critical <= 100.
    pub fn new(near: u8, critical: u8) -> Result<Self> {
        if near == 0 || near > critical || critical > 100 {
            let value = format!("near {near}, critical {critical}");
            return Err(Error::invalid(
                Code::InvalidNumber,
                "thresholds",
                value,
                "percentages with 1 <= near <= critical <= 100",
            ));
        }
        Ok(Self { near, critical })
    }
}

/// The limits of one account. An absent limit is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitSet {
    limits: [Option<Limit>; KINDS],
}

impl LimitSet {
    /// Nothing is limited.
    pub const NONE: LimitSet = LimitSet { limits: [None; KINDS] };

    /// The limit of `kind`, where there is one.
    #[must_use]
    pub fn get(&self, kind: LimitKind) -> Option<Limit> {
        self.limits.get(kind as usize).copied().flatten()
    }

    /// Sets or removes the limit of `kind`.
    pub fn set(&mut self, kind: LimitKind, limit: Option<Limit>) {
        if let Some(place) = self.limits.get_mut(kind as usize) {
            *place = limit;
        }
    }

    /// This set with `kind` enforced at `cap`.
    #[must_use]
    pub fn with(mut self, kind: LimitKind, cap: u64) -> Self {
        self.set(kind, Some(Limit { cap, mode: Mode::Enforce }));
        self
    }

    /// This set with `kind` observed at `cap`.
    #[must_use]
    pub fn observing(mut self, kind: LimitKind, cap: u64) -> Self {
        self.set(kind, Some(Limit { cap, mode: Mode::Observe }));
        self
    }

    /// The limits that are set, in the order of their kinds.
    pub fn iter(&self) -> impl Iterator<Item = (LimitKind, Limit)> + '_ {
        LimitKind::ALL.into_iter().filter_map(|kind| self.get(kind).map(|limit| (kind, limit)))
    }

    /// This set, and where it has no limit of a kind, that of `below`.
    #[must_use]
    pub fn over(mut self, below: &LimitSet) -> Self {
        for (kind, limit) in below.iter() {
            if self.get(kind).is_none() {
                self.set(kind, Some(limit));
            }
        }
        self
    }

    /// True where nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits.iter().all(Option::is_none)
    }
}
