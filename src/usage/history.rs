//! History: what happened, entry by entry, in plain values. A store writes them to its journal and keeps them as rows; whoever
//! adds up the entries of an account, in their order, gets its counters.

use crate::account::Scope;
use crate::rules::breaker::FailureKind;

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A call that nobody reserved.
    Record = 1,
    /// A hold was given; what it sets aside. Becomes no row: its end tells the same again.
    Grant = 2,
    /// Bytes were about to leave for a hold. Becomes no row.
    Start = 3,
    /// A hold ended with what was used.
    Settle = 4,
    /// A hold ended with nothing used.
    Release = 5,
    /// Nobody said what a started hold used: charged as held, estimated.
    Orphan = 6,
    /// A change by hand of one account's counters in one period.
    Adjust = 7,
    /// What one account counted in one period while the journal was full: the calls' own entries are missing.
    Overflow = 8,
    /// Another time zone: the account's running hour, day and month go on under other starts.
    Rezone = 9,
    /// What a settled hold used was somebody else's call, and is taken back; its numbers are negative.
    TakenBack = 10,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = [
        Kind::Record,
        Kind::Grant,
        Kind::Start,
        Kind::Settle,
        Kind::Release,
        Kind::Orphan,
        Kind::Adjust,
        Kind::Overflow,
        Kind::Rezone,
        Kind::TakenBack,
    ];

    /// The kind of a stored number; `None` where the number is none of ours.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The word in rows and exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Record => "record",
            Kind::Grant => "grant",
            Kind::Start => "start",
            Kind::Settle => "settle",
            Kind::Release => "release",
            Kind::Orphan => "orphan",
            Kind::Adjust => "adjust",
            Kind::Overflow => "overflow",
            Kind::Rezone => "rezone",
            Kind::TakenBack => "taken_back",
        }
    }

    /// True for the ways in which a hold ends, and for what changes its end: what they count was used when it was given.
    #[must_use]
    pub const fn ends_hold(self) -> bool {
        matches!(self, Kind::Settle | Kind::Release | Kind::Orphan | Kind::TakenBack)
    }

    /// True for changes of one account in one period, which are no calls.
    #[must_use]
    pub const fn is_correction(self) -> bool {
        matches!(self, Kind::Adjust | Kind::Overflow)
    }
}

/// The periods that history sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Span {
    /// Since the store began.
    Total = 0,
    /// A calendar hour.
    Hour = 1,
    /// A calendar day.
    Day = 2,
    /// A calendar month.
    Month = 3,
}

impl Span {
    /// Every span.
    pub const ALL: [Span; 4] = [Span::Total, Span::Hour, Span::Day, Span::Month];

    /// The span of a stored number; `None` where the number is none of ours.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|span| *span as u8 == number)
    }

    /// The word in rows and exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Span::Total => "total",
            Span::Hour => "hour",
            Span::Day => "day",
            Span::Month => "month",
        }
    }
}

/// Sums, or a change of them; negative numbers take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Requests, failed ones too.
    pub requests: i64,
    /// Failed requests.
    pub errors: i64,
    /// All tokens.
    pub tokens: i64,
    /// Tokens sent.
    pub input: i64,
    /// Tokens made.
    pub output: i64,
    /// Cached tokens of those sent.
    pub cached: i64,
    /// Nano-dollars.
    pub cost: i64,
}

impl Sums {
    /// The fields, in the order of their columns.
    #[must_use]
    pub const fn fields(&self) -> [i64; 7] {
        [self.requests, self.errors, self.tokens, self.input, self.output, self.cached, self.cost]
    }

    /// The sums of those fields.
    #[must_use]
    pub const fn of_fields([requests, errors, tokens, input, output, cached, cost]: [i64; 7]) -> Self {
        Self { requests, errors, tokens, input, output, cached, cost }
    }

    /// True where nothing is counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Both together; the largest number is the end.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut fields = self.fields();
        for (field, more) in fields.iter_mut().zip(other.fields()) {
            *field = field.saturating_add(more);
        }
        Self::of_fields(fields)
    }

    /// What is left without `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut fields = self.fields();
        for (field, less) in fields.iter_mut().zip(other.fields()) {
            *field = field.saturating_sub(less);
        }
        Self::of_fields(fields)
    }
}

/// What a hold sets aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The hold's number.
    pub hold: u64,
    /// When it was given (wall nanoseconds).
    pub granted: i64,
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
    /// Nano-dollars.
    pub cost: u64,
}

/// The starts of an account's hour, day and month (Unix seconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Starts {
    /// Of the hour.
    pub hour: i64,
    /// Of the day.
    pub day: i64,
    /// Of the month.
    pub month: i64,
}

/// An account that entries name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// What it stands for.
    pub scope: Scope,
    /// What it lies inside; `""` for the outermost.
    pub owner: String,
    /// Its own name.
    pub name: String,
    /// The IANA name of its time zone.
    pub zone: String,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the order of all.
    pub sequence: u64,
    /// What it tells of.
    pub kind: Kind,
    /// When it landed (wall nanoseconds).
    pub at: i64,
    /// Its accounts, as places in the list that comes with it; one alone for a correction.
    pub accounts: Vec<u32>,
    /// What was used: requests, errors, tokens, cost. For a correction the change.
    pub sums: Sums,
    /// Tokens made that are hidden reasoning.
    pub reasoning: u64,
    /// The cost or the tokens are an estimate.
    pub estimated: bool,
    /// How the call failed, where it did.
    pub failure: Option<FailureKind>,
    /// The hold, for entries that tell of one.
    pub held: Option<Held>,
    /// It replaces the charge of the orphaned hold: what was held comes off again, in the periods of the grant.
    pub replaces: bool,
    /// A settle that lands in the periods of `at` and not in those of the grant, since the hold was released before.
    pub lands_now: bool,
    /// The span of a correction.
    pub span: Option<Span>,
    /// The starts before and after another time zone, and its name.
    pub rezone: Option<(Starts, Starts, String)>,
    /// How long the call took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// The provider's name for the request.
    pub request_id: Option<String>,
    /// The provider's method, such as `chat.completions.create`.
    pub method: Option<String>,
}

impl Entry {
    /// The wall time (nanoseconds) whose hour, day and month it is counted in.
    #[must_use]
    pub fn lands_at(&self) -> i64 {
        match self.held {
            Some(held) if self.kind.ends_hold() && !self.lands_now => held.granted,
            _ => self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_name_one_kind_each() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_u8(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_u8(0), None);
        let words: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
    }

    #[test]
    fn sums_add_up_and_come_off_again() {
        let some = Sums::of_fields([1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(some.plus(&some).minus(&some), some);
        assert!(some.minus(&some).is_zero());
        assert_eq!(Sums::of_fields([i64::MAX; 7]).plus(&some), Sums::of_fields([i64::MAX; 7]));
    }
}
