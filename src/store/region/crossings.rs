//! Crossings: which limits came near, were critical or full, so that each is told once a period, however often the counters fall
//! and rise, and so that who missed the telling still learns of it.
//!
//! A period of an hour, day or month is a calendar one. A window that slides (a minute, a second, what is open at once) has none:
//! there a level is told again once no batch has met it for a whole minute. Another cap is another limit, and a reset begins
//! anew. A level that was jumped over is not told.

use super::held::{Held, View};
use super::keys::mix;
use super::layout::{crossing, event, row};
use crate::clock::SECOND;
use crate::rules::decisions::{Moment, resets};
use crate::rules::limits::{LimitKind, Mode, Window};
use crate::rules::status::Fill;
use crate::rules::windows::MINUTE_BUCKETS;

/// A limit has so many neighbouring places, which it shares with others.
const PLACES: usize = 8;
/// Near, critical and full.
pub(super) const LEVELS: usize = 3;
/// Marks a level that was jumped over.
pub(super) const JUMPED: u64 = 1 << 63;

/// The place of a level among those that are told.
const fn place_of(fill: Fill) -> Option<usize> {
    match fill {
        Fill::Low => None,
        Fill::Near => Some(0),
        Fill::Critical => Some(1),
        Fill::Full => Some(2),
    }
}

impl View<'_> {
    fn places_for(&self, hash: u64, kind: LimitKind) -> impl Iterator<Item = usize> + '_ {
        let table = self.map().crossings;
        let first = mix(hash, kind as u64 + 1) as usize % table.count();
        (0..PLACES).map(move |step| table.at((first + step) % table.count()))
    }

    fn crossing_of(&self, hash: u64, kind: LimitKind) -> Option<usize> {
        self.places_for(hash, kind)
            .find(|at| self.load(at + crossing::HASH) == hash && self.load(at + crossing::LIMIT) & 0xff == kind as u64)
    }

    /// Start and end of the running period of a limit (Unix seconds); for a window that slides 0, and when it is forgotten.
    fn period(&self, base: usize, kind: LimitKind) -> (i64, i64) {
        let periods = self.periods(base);
        match kind.window() {
            Window::Hour => (periods.hour, periods.hour_end),
            Window::Day => (periods.day, periods.day_end),
            Window::Month => (periods.month, periods.month_end),
            Window::Second | Window::Minute | Window::Open => {
                (0, self.now.wall.div_euclid(SECOND).saturating_add(MINUTE_BUCKETS))
            }
        }
    }
}

impl Held<'_> {
    /// Tells which limits of an account, as it stands now, were crossed for the first time in their period.
    pub(super) fn tell_crossings_of(&self, workspace: u32, account: u32) {
        let base = self.row(account);
        if !self.has_limits(base) {
            return;
        }
        let (limits, thresholds) = self.limits_of(base);
        for (kind, limit) in limits.iter().filter(|(_, limit)| limit.cap != 0) {
            let fill = Fill::of(self.counts(base, kind).sum(), limit.cap, thresholds);
            if let Some(level) = place_of(fill) {
                self.meet(workspace, account, kind, (limit.cap, limit.mode), level);
            }
        }
    }

    fn meet(&self, workspace: u32, account: u32, kind: LimitKind, (cap, mode): (u64, Mode), level: usize) {
        let base = self.row(account);
        let hash = self.load(base + row::HASH);
        let (period, until) = self.period(base, kind);
        let slides = period == 0;
        let known = self.crossing_of(hash, kind);
        let goes_on = known
            .filter(|at| self.load(at + crossing::PERIOD) as i64 == period && self.load(at + crossing::CAP) == cap);
        let second = self.now.second();
        let mut told = [0_u64; LEVELS];
        if let Some(at) = goes_on {
            for (step, told) in told.iter_mut().enumerate() {
                let met = self.load(at + crossing::MET + step) as i64;
                let lives = !slides || second.saturating_sub(met) < MINUTE_BUCKETS;
                *told = if lives { self.load(at + crossing::TOLD + step) } else { 0 };
            }
            if slides {
                // A hint: that a level goes on.
                for step in 0..=level {
                    self.store(at + crossing::MET + step, second as u64);
                }
                self.store(at + crossing::UNTIL, until as u64);
            }
        }
        if told.get(level).is_some_and(|told| *told != 0) {
            return;
        }
        let mut words = self.event_of_crossing(workspace, account, kind, cap);
        words[event::HEAD] |= (level as u64) << 8 | (mode as u64) << 24;
        let at = known.unwrap_or_else(|| self.place_for_crossing(hash, kind));
        let mut writes = self.writes();
        let sequence = self.write_event(&mut writes, words);
        for (step, told) in told.iter_mut().enumerate().take(level + 1) {
            if *told == 0 {
                *told = if step == level { sequence + 1 } else { JUMPED };
            }
        }
        let fixed = [
            (crossing::HASH, hash),
            (crossing::LIMIT, u64::from(account) << 32 | kind as u64),
            (crossing::WORKSPACE, self.load(self.row(workspace) + row::HASH)),
            (crossing::WORKSPACE_ROW, u64::from(workspace)),
            (crossing::PERIOD, period as u64),
            (crossing::CAP, cap),
            (crossing::AT, self.now.wall as u64),
            (crossing::UNTIL, until as u64),
        ];
        for (word, value) in fixed {
            writes.put(at + word, value);
        }
        for (step, told) in told.into_iter().enumerate() {
            writes.put(at + crossing::TOLD + step, told);
            if goes_on.is_none() {
                writes.put(at + crossing::MET + step, second as u64);
            }
        }
        // Some fifteen words always fit the log.
        let _done = writes.commit();
    }

    /// The words of a crossing's event, but for its level.
    fn event_of_crossing(&self, workspace: u32, account: u32, kind: LimitKind, cap: u64) -> [u64; event::LEN] {
        let base = self.row(account);
        let counts = self.counts(base, kind);
        let buckets = self.buckets(base);
        let expiries = if kind == LimitKind::MaxConcurrent { self.expiries(account) } else { Vec::new() };
        let moment = Moment { now: self.now, periods: self.periods(base), buckets: &buckets, expiries: &expiries };
        let mut words = [0; event::LEN];
        let whose = self.row(workspace);
        words[event::HEAD] = super::What::Crossing as u64 | (kind as u64) << 16 | 2 << 32;
        words[event::ROWS] = u64::from(workspace) | u64::from(account) << 32;
        words[event::WORKSPACE] = self.load(whose + row::HASH);
        words[event::VERSION] = self.load(whose + row::VERSION);
        words[event::ACCOUNT] = self.load(base + row::HASH);
        words[event::USED] = counts.used;
        words[event::HELD] = counts.held;
        words[event::CAP] = cap;
        words[event::RESETS] = resets(kind, &moment).unwrap_or(0) as u64;
        words
    }

    /// A free place, or the one that may be forgotten first: its limit may then be told of twice in its period.
    fn place_for_crossing(&self, hash: u64, kind: LimitKind) -> usize {
        let until = |at: &usize| match self.load(at + crossing::HASH) {
            0 => i64::MIN,
            _ => self.load(at + crossing::UNTIL) as i64,
        };
        self.places_for(hash, kind).min_by_key(until).unwrap_or(self.map().crossings.at(0))
    }

    /// What an account's limits came to is told again.
    pub(super) fn forget_crossings(&self, hash: u64) {
        for at in LimitKind::ALL.into_iter().filter_map(|kind| self.crossing_of(hash, kind)) {
            let mut writes = self.writes();
            writes.put(at + crossing::HASH, 0);
            // One word always fits the log.
            let _done = writes.commit();
        }
    }
}
