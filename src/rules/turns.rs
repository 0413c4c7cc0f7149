//! Whose turn it is: the order of those who wait.
//!
//! By priority, then by a fair share for each workspace, then by arrival. Fair is start-time fair queueing (Goyal, Vin and
//! Cheng, 1996), inside each priority: a clock stands at the latest start that was served; each place starts at the clock or
//! where the workspace's place before it ends, whichever is later, and ends further on by what it asks, divided by the
//! workspace's weight. So a workspace with a thousand places in the queue is served in turn with one that has a single one, as
//! both have weight 1.

use super::decisions::{Ask, Counts, Frees, Moment, fits, frees};
use super::limits::{LimitKind, Resource, Window};
use super::windows::MINUTE_BUCKETS;
use crate::clock::SECOND;

/// Which waiters come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Before all others.
    High = 0,
    /// In its turn.
    #[default]
    Normal = 1,
    /// After all others.
    Low = 2,
}

impl Priority {
    /// Every priority, the first to go first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
}

/// The share of a workspace that nobody gave another one.
pub const DEFAULT_WEIGHT: u16 = 1;
/// The largest share.
pub const MAX_WEIGHT: u16 = 1_000;

/// The least that a call is reckoned to take, in tokens: one that asks for none takes a request all the same.
const LEAST_TOKENS: u64 = 1_000;
/// The most, so that no single call moves the clock out of reach.
const MOST_TOKENS: u64 = 1 << 40;
/// The clock counts thousandths of a token, so that weights divide without a rest that shows.
const TICKS: u64 = 1_000;
/// Where the clock ends: a place leaves two bits of its word to the priority.
const LAST_TICK: u64 = u64::MAX >> 2;

/// A place in the order. The smallest goes first; no two are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    priority: Priority,
    start: u64,
    arrival: u64,
}

impl Place {
    /// After all that there are.
    pub const LAST: Place = Place { priority: Priority::Low, start: LAST_TICK, arrival: u64::MAX };

    /// The place of the workspace whose last place that still waits ends at `end`, as of this clock. `arrival` is a number that
    /// no other place has and that rises.
    #[must_use]
    pub fn new(priority: Priority, clock: u64, end: u64, arrival: u64) -> Self {
        Self { priority, start: clock.max(end).min(LAST_TICK), arrival }
    }

    /// The last place of a priority, of somebody whom no store could place: it has no share, and the clock learns nothing of it.
    #[must_use]
    pub const fn behind_all(priority: Priority, arrival: u64) -> Self {
        Self { priority, start: LAST_TICK, arrival }
    }

    /// Inside which it stands: each has a clock and shares of its own.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// Its number.
    #[must_use]
    pub const fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Where it starts: the clock of its priority stands there, at least, once it was served.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Where the clock of its priority stands once it was served.
    #[must_use]
    pub const fn clock_after(&self, clock: u64) -> u64 {
        if self.start > clock && self.start < LAST_TICK { self.start } else { clock }
    }

    /// Where it ends, for a call of so many tokens in a workspace of this weight.
    #[must_use]
    pub fn end(&self, tokens: u64, weight: u16) -> u64 {
        let ticks = tokens.clamp(LEAST_TOKENS, MOST_TOKENS) * TICKS / u64::from(weight.max(1));
        self.start.saturating_add(ticks).min(LAST_TICK)
    }

    /// Priority and start in a word; the order of places is that of these words, then that of arrivals.
    #[must_use]
    pub const fn packed(&self) -> u64 {
        (self.priority as u64) << 62 | self.start
    }

    /// The place of a packed word and an arrival; `None` for a priority that there is not.
    #[must_use]
    pub fn unpacked(word: u64, arrival: u64) -> Option<Self> {
        let priority = Priority::ALL.get((word >> 62) as usize).copied()?;
        Some(Self { priority, start: word & LAST_TICK, arrival })
    }
}

/// What those ask together who go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    /// How many.
    calls: u64,
    /// What they ask, added up.
    ask: Ask,
}

impl Ahead {
    /// One more goes first.
    pub const fn add(&mut self, ask: &Ask) {
        self.calls += 1;
        self.ask.requests = self.ask.requests.saturating_add(ask.requests);
        self.ask.tokens = self.ask.tokens.saturating_add(ask.tokens);
        self.ask.money = self.ask.money.saturating_add(ask.money);
    }

    /// What they ask of a limit of `kind`.
    #[must_use]
    pub const fn of(&self, kind: LimitKind) -> u64 {
        match kind.resource() {
            Resource::Concurrency => self.calls,
            Resource::Requests | Resource::Tokens | Resource::Money => self.ask.of(kind),
        }
    }
}

/// When the limit `kind` with `cap` would let `asked` through after `ahead` at the earliest, if all of them take what they ask
/// and nobody else comes: calls that do not fill a window side by side take longer. Months and days are reckoned as 30 days and 24 hours where several have to pass.
#[must_use]
pub fn frees_behind(kind: LimitKind, cap: u64, counts: Counts, asked: u64, ahead: u64, moment: &Moment<'_>) -> Frees {
    if cap == 0 || asked > cap {
        return Frees::Never;
    }
    let all = ahead.saturating_add(asked);
    let length = match kind.window() {
        Window::Second => 1,
        Window::Minute => MINUTE_BUCKETS,
        Window::Hour => 3_600,
        Window::Day => 86_400,
        Window::Month => 30 * 86_400,
        // One goes for each that ends, and of those who begin only now nobody knows when.
        Window::Open if all > cap => return Frees::Unknown,
        Window::Open => 0,
    };
    // The first take what is left of this window, then each window gives a whole cap.
    let windows = (all.max(1) - 1) / cap;
    let rest = all - windows * cap;
    let first = if fits(counts, cap, rest) {
        match (windows, kind.window()) {
            (0, _) | (_, Window::Minute | Window::Open) => Frees::At(moment.now.wall),
            // The window that runs is the first of them.
            _ => return later(frees(kind, cap, counts, rest, moment), windows - 1, length),
        }
    } else {
        frees(kind, cap, counts, rest, moment)
    };
    later(first, windows, length)
}

/// So many windows of `seconds` after.
fn later(frees: Frees, windows: u64, seconds: i64) -> Frees {
    match frees {
        Frees::At(at) => {
            let windows = i64::try_from(windows).unwrap_or(i64::MAX);
            Frees::At(at.saturating_add(windows.saturating_mul(seconds * SECOND)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Now;
    use crate::rules::windows::Periods;

    /// Serves everybody of a queue in which each workspace has so many places of so many tokens from the beginning, and says
    /// whose turns they were.
    fn served(workspaces: &[(u16, usize, u64)]) -> Vec<usize> {
        let mut places = Vec::new();
        let mut ends = vec![0; workspaces.len()];
        let longest = workspaces.iter().map(|(_, places, _)| *places).max().unwrap_or(0);
        for step in 0..longest {
            for (whose, (weight, count, tokens)) in workspaces.iter().enumerate() {
                if step < *count {
                    let place = Place::new(Priority::Normal, 0, ends[whose], places.len() as u64);
                    ends[whose] = place.end(*tokens, *weight);
                    places.push((place, whose));
                }
            }
        }
        places.sort();
        places.into_iter().map(|(_, whose)| whose).collect()
    }

    #[test]
    fn a_noisy_workspace_is_served_in_turn_with_a_quiet_one() {
        let turns = served(&[(1, 1_000, 1_000), (1, 3, 1_000)]);
        let quiet: Vec<usize> = (0..turns.len()).filter(|turn| turns[*turn] == 1).collect();
        assert_eq!(quiet, [1, 3, 5]);
    }

    #[test]
    fn who_comes_late_does_not_wait_for_what_others_have_queued() {
        let first = Place::new(Priority::Normal, 0, 0, 1);
        let second = Place::new(Priority::Normal, 0, first.end(1_000, 1), 2);
        // The first was served, and the clock stands at its start.
        let newcomer = Place::new(Priority::Normal, first.start(), 0, 3);
        assert!(newcomer < second && first < newcomer);
        // A workspace that was away has saved nothing up.
        let clock = 50_000_000;
        assert_eq!(Place::new(Priority::Normal, clock, 7, 4).start(), clock);
    }

    #[test]
    fn priorities_come_before_shares_and_arrivals_last() {
        let urgent = Place::new(Priority::High, 9_000, 0, 9);
        let early = Place::new(Priority::Normal, 0, 0, 1);
        let late = Place::new(Priority::Normal, 0, 0, 2);
        let low = Place::new(Priority::Low, 0, 0, 0);
        assert!(urgent < early && early < late && late < low && low < Place::LAST);
    }

    proptest! {
        /// Over any stretch in which two workspaces both wait, what each was served differs from its share by less than one call
        /// of each: that is the theorem of start-time fair queueing.
        #[test]
        fn shares_are_as_the_weights(weights in prop::array::uniform2(1_u16..20), tokens in prop::array::uniform2(1_000_u64..50_000)) {
            let turns = served(&[(weights[0], 400, tokens[0]), (weights[1], 400, tokens[1])]);
            let mut taken = [0_u64; 2];
            let mut calls = [0; 2];
            for whose in turns {
                taken[whose] += tokens[whose];
                calls[whose] += 1;
                if calls[whose] == 400 {
                    break;
                }
                let share = |whose: usize| taken[whose] as f64 / f64::from(weights[whose]);
                let bound = tokens[0] as f64 / f64::from(weights[0]) + tokens[1] as f64 / f64::from(weights[1]);
                prop_assert!((share(0) - share(1)).abs() <= bound + 1.0, "{taken:?} of {weights:?}");
            }
        }

        #[test]
        fn a_packed_place_is_found_again_and_ordered_alike(
            one in (0_usize..3, 0..=LAST_TICK, any::<u64>()), other in (0_usize..3, 0..=LAST_TICK, any::<u64>()),
        ) {
            let [one, other] = [one, other].map(|(priority, start, arrival)| Place { priority: Priority::ALL[priority], start, arrival });
            prop_assert_eq!(Place::unpacked(one.packed(), one.arrival), Some(one));
            prop_assert_eq!(one.cmp(&other), (one.packed(), one.arrival).cmp(&(other.packed(), other.arrival)));
        }

        /// Behind nobody it is when the limit lets it through; behind more it is never sooner.
        #[test]
        fn more_ahead_is_never_sooner(cap in 1_u64..100, used in 0_u64..200, asked in 1_u64..100, ahead in 0_u64..500, more in 0_u64..500) {
            let now = Now { mono: 5 * SECOND, wall: 1_769_903_400 * SECOND };
            let periods = Periods::of(&jiff::tz::TimeZone::UTC, now.wall);
            let moment = Moment { now, periods, buckets: &[], expiries: &[] };
            let counts = Counts { used, held: 0 };
            for kind in LimitKind::ALL {
                let at = |ahead| match frees_behind(kind, cap, counts, asked, ahead, &moment) {
                    Frees::At(at) => at,
                    Frees::Unknown | Frees::Never => i64::MAX,
                };
                prop_assert!(at(ahead) <= at(ahead + more), "{kind:?}");
                if asked <= cap && !fits(counts, cap, asked) {
                    prop_assert_eq!(frees_behind(kind, cap, counts, asked, 0, &moment), frees(kind, cap, counts, asked, &moment));
                }
            }
        }
    }
}
