//! Decisions: does a call fit, which limits are in its way, and when would it fit.

use super::limits::{LimitKind, LimitSet, Mode, Resource, Window};
use super::windows::{MINUTE_BUCKETS, Periods};
use crate::clock::{Now, SECOND};

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// Requests: 1 for a call.
    pub requests: u64,
    /// Tokens, as the provider will count them against its own limit.
    pub tokens: u64,
    /// Money in nano-dollars: the most that the call may cost.
    pub money: u64,
}

impl Ask {
    /// One request and the least of everything: what "is there any room?" asks.
    pub const LEAST: Ask = Ask { requests: 1, tokens: 1, money: 1 };

    /// What is asked of a limit of `kind`.
    #[must_use]
    pub const fn of(&self, kind: LimitKind) -> u64 {
        match kind.resource() {
            Resource::Requests => self.requests,
            Resource::Tokens => self.tokens,
            Resource::Money => self.money,
            Resource::Concurrency => 1,
        }
    }
}

/// Used and held over one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// By facts.
    pub used: u64,
    /// By open holds.
    pub held: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.used.saturating_add(self.held)
    }
}

/// All that the limits of one account count, as of one instant, by [`LimitKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    counts: [Counts; super::limits::KINDS],
}

impl Reading {
    /// The counts of a kind.
    #[must_use]
    pub fn get(&self, kind: LimitKind) -> Counts {
        self.counts.get(kind as usize).copied().unwrap_or_default()
    }

    /// Sets the counts of a kind.
    pub fn set(&mut self, kind: LimitKind, used: u64, held: u64) {
        if let Some(place) = self.counts.get_mut(kind as usize) {
            *place = Counts { used, held };
        }
    }
}

/// True where the call fits: used + held + asked <= cap, and the cap is not 0, which blocks those too that ask for nothing.
#[must_use]
pub const fn fits(counts: Counts, cap: u64, asked: u64) -> bool {
    if cap == 0 {
        return false;
    }
    match counts.used.checked_add(counts.held) {
        Some(sum) => match sum.checked_add(asked) {
            Some(sum) => sum <= cap,
            None => false,
        },
        None => false,
    }
}

/// The enforced limits that refuse the call.
pub fn in_the_way<'a>(
    limits: &'a LimitSet,
    reading: &'a Reading,
    ask: &'a Ask,
) -> impl Iterator<Item = LimitKind> + 'a {
    limits
        .iter()
        .filter(|(kind, limit)| limit.mode == Mode::Enforce && !fits(reading.get(*kind), limit.cap, ask.of(*kind)))
        .map(|(kind, _)| kind)
}

/// One live bucket of the minute: its monotonic second and what counts in it, held included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The monotonic second.
    pub second: i64,
    /// Requests, used and held.
    pub requests: u64,
    /// Tokens, used and held.
    pub tokens: u64,
}

/// When a limit would let a call through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frees {
    /// It asks more than the cap, or the cap is 0.
    Never,
    /// At this wall time (nanoseconds), if nobody else comes.
    At(i64),
    /// When something open ends; nobody knows when.
    Unknown,
}

/// What [`frees`] needs to know of the account beside its counts.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The instant of the decision.
    pub now: Now,
    /// The calendar periods of the account's time zone.
    pub periods: Periods,
    /// The live buckets of the minute, oldest first.
    pub buckets: &'a [Bucket],
    /// When the account's open holds expire (monotonic nanoseconds), soonest first.
    pub expiries: &'a [i64],
}

/// When the limit `kind` with `cap` would let `asked` through, given its `counts`.
#[must_use]
pub fn frees(kind: LimitKind, cap: u64, counts: Counts, asked: u64, moment: &Moment<'_>) -> Frees {
    if cap == 0 || asked > cap {
        return Frees::Never;
    }
    let now = &moment.now;
    match kind.window() {
        Window::Second => Frees::At(now.wall_at((now.second() + 1).saturating_mul(SECOND))),
        Window::Minute => minute_frees(kind, cap, counts, asked, moment),
        Window::Hour => Frees::At(moment.periods.hour_end.saturating_mul(SECOND)),
        Window::Day => Frees::At(moment.periods.day_end.saturating_mul(SECOND)),
        Window::Month => Frees::At(moment.periods.month_end.saturating_mul(SECOND)),
        Window::Open => {
            // As many holds must end as are open past cap - asked.
            let surplus = counts.sum().saturating_add(asked).saturating_sub(cap);
            let last = usize::try_from(surplus).ok().and_then(|count| count.checked_sub(1));
            match last.and_then(|last| moment.expiries.get(last)) {
                Some(expiry) => Frees::At(now.wall_at(*expiry)),
                None => Frees::Unknown,
            }
        }
    }
}

fn minute_frees(kind: LimitKind, cap: u64, counts: Counts, asked: u64, moment: &Moment<'_>) -> Frees {
    let mut left = counts.sum();
    for bucket in moment.buckets {
        left = left.saturating_sub(if kind.resource() == Resource::Tokens { bucket.tokens } else { bucket.requests });
        if left.saturating_add(asked) <= cap {
            let end = bucket.second.saturating_add(MINUTE_BUCKETS).saturating_mul(SECOND);
            return Frees::At(moment.now.wall_at(end));
        }
    }
    Frees::At(moment.now.wall_at((moment.now.second() + MINUTE_BUCKETS).saturating_mul(SECOND)))
}

/// When the window of `kind` next gives something back (wall nanoseconds): for a report, not for a refusal.
#[must_use]
pub fn resets(kind: LimitKind, moment: &Moment<'_>) -> Option<i64> {
    let now = &moment.now;
    match kind.window() {
        Window::Second => Some(now.wall_at((now.second() + 1).saturating_mul(SECOND))),
        Window::Minute => moment
            .buckets
            .iter()
            .find(|bucket| if kind.resource() == Resource::Tokens { bucket.tokens > 0 } else { bucket.requests > 0 })
            .map(|bucket| now.wall_at(bucket.second.saturating_add(MINUTE_BUCKETS).saturating_mul(SECOND))),
        Window::Hour => Some(moment.periods.hour_end.saturating_mul(SECOND)),
        Window::Day => Some(moment.periods.day_end.saturating_mul(SECOND)),
        Window::Month => Some(moment.periods.month_end.saturating_mul(SECOND)),
        Window::Open => moment.expiries.first().map(|expiry| now.wall_at(*expiry)),
    }
}
