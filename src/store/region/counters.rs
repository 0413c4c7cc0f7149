//! Counters: one change of an account's minute, hour, day, month and lifetime, and what its limits read of them.

use super::accounts::{LOW, Rows};
use super::held::{Current, Entry, Held, PAST_DAY, PAST_HOUR, PAST_MONTH, Ring, View};
use super::layout::{bucket, cell, head, past, row, terms, total};
use super::log::Writes;
use arrayvec::ArrayVec;

use crate::account::MAX_CHAIN;
use crate::clock::SECOND;
use crate::error::{Code, Error, Result};
use crate::rules::decisions::{Ask, Bucket, Counts, Reading, fits};
use crate::rules::limits::LimitKind;
use crate::store::{Fact, Tally};

/// A change of counters; negative numbers take back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delta {
    pub(super) requests: i64,
    pub(super) errors: i64,
    pub(super) tokens: i64,
    pub(super) input: i64,
    pub(super) output: i64,
    pub(super) cached: i64,
    pub(super) cost: i64,
    pub(super) held_requests: i64,
    pub(super) held_tokens: i64,
    pub(super) held_cost: i64,
}

#[cold]
fn no_row() -> Error {
    Error::new(Code::StoreDamaged, "store", "an account of the batch has no row")
}

/// As a signed number; a larger one is the largest.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A wall time as a second, halved.
pub(super) fn halved(wall: i64) -> u64 {
    wall.div_euclid(2 * SECOND).clamp(0, LOW as i64) as u64
}

impl Delta {
    /// What a fact adds.
    pub(super) fn of(fact: &Fact<'_>) -> Self {
        Self {
            requests: i64::from(fact.requests),
            errors: i64::from(fact.failure.is_some()),
            tokens: signed(fact.tokens),
            input: signed(fact.input),
            output: signed(fact.output),
            cached: signed(fact.cached),
            cost: signed(fact.cost),
            ..Self::default()
        }
    }

    /// What takes it back.
    pub(super) fn negated(self) -> Self {
        Self {
            requests: -self.requests,
            errors: -self.errors,
            tokens: -self.tokens,
            input: -self.input,
            output: -self.output,
            cached: -self.cached,
            cost: -self.cost,
            held_requests: -self.held_requests,
            held_tokens: -self.held_tokens,
            held_cost: -self.held_cost,
        }
    }
}

/// Where a change lands: periods that may have passed, named by their starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// First word of the bucket; 0 where it counts no more.
    pub(super) bucket: usize,
    pub(super) hour: i64,
    pub(super) day: i64,
    pub(super) month: i64,
}

/// The first words of the counters of a place; 0 for one that is kept no more.
#[derive(Debug, Clone, Copy)]
struct Cells {
    bucket: usize,
    hour: usize,
    day: usize,
    month: usize,
}

/// The accounts of a batch as they stand now, in the order of its chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Brought {
    accounts: ArrayVec<Current, MAX_CHAIN>,
    /// Some account has a breaker.
    pub(super) breakers: bool,
}

impl Brought {
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Current> {
        self.accounts.iter()
    }
}

impl View<'_> {
    /// What the limits of an account count, as it stands now.
    pub(super) fn reading(&self, base: usize) -> Reading {
        let mut reading = Reading::default();
        for kind in LimitKind::ALL {
            let Counts { used, held } = self.counts(base, kind);
            reading.set(kind, used, held);
        }
        reading
    }

    /// What a limit of `kind` counts, as the account stands now.
    #[inline]
    pub(super) fn counts(&self, base: usize, kind: LimitKind) -> Counts {
        let (day, month) = (base + row::DAY, base + row::MONTH);
        let halves = |word: usize| {
            let value = self.load(word);
            Counts { used: value >> 32, held: value & LOW }
        };
        let words = |used: usize, held: usize| Counts { used: self.load(used), held: self.load(held) };
        match kind {
            LimitKind::RequestsPerMinute => halves(base + row::MINUTE_REQUESTS),
            LimitKind::TokensPerMinute => words(base + row::MINUTE_TOKENS, base + row::MINUTE_HELD),
            LimitKind::RequestsPerHour => halves(base + row::HOUR + 1),
            LimitKind::RequestsPerDay => {
                Counts { used: self.load(day + cell::REQUESTS), held: self.load(day + cell::ERRORS) & LOW }
            }
            LimitKind::TokensPerDay => words(day + cell::TOKENS, day + cell::HELD_TOKENS),
            LimitKind::BudgetUsdPerDay => words(day + cell::COST, day + cell::HELD_COST),
            LimitKind::BudgetUsdPerMonth => words(month + cell::COST, month + cell::HELD_COST),
            LimitKind::MaxConcurrent => Counts { used: 0, held: self.load(base + row::SEEN) & LOW },
            LimitKind::MaxBurst => self.burst(base),
        }
    }

    fn burst(&self, base: usize) -> Counts {
        let ring = Ring::unpack(self.load(base + row::RING));
        if ring.len == 0 {
            return Counts::default();
        }
        let last = self.bucket(ring, ring.len - 1);
        if self.second(last) != self.now.second() {
            return Counts::default();
        }
        Counts { used: self.load(last + bucket::REQUESTS) >> 32, held: self.held_in(last) }
    }

    /// True where every enforced limit of the account lets `ask` through.
    #[inline]
    pub(super) fn fits_all(&self, base: usize, ask: &Ask) -> bool {
        let terms = self.terms_at(base);
        let flags = self.load(terms + terms::FLAGS);
        let mut enforced = flags & !(flags >> 16) & 0x1ff;
        while enforced != 0 {
            let place = enforced.trailing_zeros() as usize;
            enforced &= enforced - 1;
            let Some(kind) = LimitKind::ALL.get(place).copied() else { break };
            if !fits(self.counts(base, kind), self.load(terms + terms::CAPS + place), ask.of(kind)) {
                return false;
            }
        }
        true
    }

    /// Whether so many requests more can be held without running over what the words of an account can count.
    pub(super) fn can_hold(&self, current: &Current, requests: u64) -> bool {
        let base = current.base;
        let in_bucket = self.held_in(current.bucket);
        let elsewhere = [base + row::MINUTE_REQUESTS, base + row::HOUR + 1, base + row::DAY + cell::ERRORS];
        in_bucket.saturating_add(requests) <= bucket::HELD_MOST
            && elsewhere.into_iter().all(|word| (self.load(word) & LOW).saturating_add(requests) <= LOW)
    }

    /// The live buckets of the minute, oldest first.
    pub(super) fn buckets(&self, base: usize) -> Vec<Bucket> {
        let ring = Ring::unpack(self.load(base + row::RING));
        (0..ring.len)
            .map(|step| {
                let at = self.bucket(ring, step);
                Bucket {
                    second: self.second(at),
                    requests: (self.load(at + bucket::REQUESTS) >> 32) + self.held_in(at),
                    tokens: self.load(at + bucket::TOKENS).saturating_add(self.load(at + bucket::HELD_TOKENS)),
                }
            })
            .collect()
    }

    /// The sum of the live buckets.
    pub(super) fn minute(&self, base: usize) -> Tally {
        let ring = Ring::unpack(self.load(base + row::RING));
        let mut tally = Tally::default();
        for step in 0..ring.len {
            let at = self.bucket(ring, step);
            let requests = self.load(at + bucket::REQUESTS);
            tally.requests += requests >> 32;
            tally.errors += requests & LOW;
            for (sum, word) in [
                (&mut tally.tokens, bucket::TOKENS),
                (&mut tally.input, bucket::INPUT),
                (&mut tally.output, bucket::OUTPUT),
                (&mut tally.cached, bucket::CACHED),
                (&mut tally.cost, bucket::COST),
            ] {
                *sum = sum.saturating_add(self.load(at + word));
            }
        }
        tally
    }

    /// What a cell counts.
    pub(super) fn tally_of_cell(&self, at: usize) -> Tally {
        Tally {
            requests: self.load(at + cell::REQUESTS),
            errors: self.load(at + cell::ERRORS) >> 32,
            tokens: self.load(at + cell::TOKENS),
            input: self.load(at + cell::INPUT),
            output: self.load(at + cell::OUTPUT),
            cached: self.load(at + cell::CACHED),
            cost: self.load(at + cell::COST),
        }
    }

    /// What a row counts in all.
    pub(super) fn total(&self, base: usize) -> Tally {
        let at = base + row::TOTAL;
        Tally {
            requests: self.load(at + total::REQUESTS),
            errors: self.load(at + total::ERRORS),
            tokens: self.load(at + total::TOKENS),
            input: self.load(at + total::INPUT),
            output: self.load(at + total::OUTPUT),
            cached: self.load(at + total::CACHED),
            cost: self.load(at + total::COST),
        }
    }

    /// The first word of the cell of a period: the row's own, or one put by; 0 where it is kept no more.
    #[inline]
    fn cell(&self, account: u32, base: usize, start: usize, which: u64, begins: i64) -> usize {
        if self.load(base + start) as i64 == begins {
            return base + start;
        }
        self.past(account, base, which, begins).map_or(0, |place| place + past::CELL)
    }
}

impl Held<'_> {
    /// Brings every account of a chain up to now; with `bucket`, makes the bucket of this second in each. Whoever only asks makes
    /// none: a refusal takes no room, and merges no buckets.
    pub(super) fn bring(&self, rows: &Rows, bucket: bool) -> Result<Brought> {
        let mut brought = Brought::default();
        self.bring_into(rows, bucket, &mut brought)?;
        Ok(brought)
    }

    /// The same into a place of the caller's, which spares the hot path a copy.
    #[inline(always)]
    pub(super) fn bring_into(&self, rows: &Rows, bucket: bool, brought: &mut Brought) -> Result<()> {
        loop {
            let epoch = self.load(head::EPOCH);
            brought.accounts.clear();
            let mut breakers = 0;
            for (_, row) in rows.iter() {
                let current = self.current(row, bucket).ok_or_else(|| self.attempt.why_not(no_row))?;
                breakers |= self.load(current.base + row::LINK) & LOW;
                // There are as many places as rows.
                let _fits = brought.accounts.try_push(current);
            }
            brought.breakers = breakers != 0;
            // A full table of terms began a new epoch in the middle: those before took theirs of the old one.
            if self.load(head::EPOCH) == epoch || self.map().terms.count() < MAX_CHAIN {
                return Ok(());
            }
        }
    }

    /// Counts what has happened on an account, now. The hot path: as [`Held::post_now`] without anything taken back.
    #[inline]
    pub(super) fn post_fact(&self, writes: &mut Writes<'_>, current: &Current, fact: &Fact<'_>) {
        // Only a damaged region has no such row.
        let Some(row) = self.entry::<{ row::LEN }>(current.base) else { return };
        let (requests, errors) = (u64::from(fact.requests), u64::from(fact.failure.is_some()));
        let parts = [fact.input, fact.output, fact.cached];
        let split = fact.input | fact.output | fact.cached != 0;
        let minute = if current.bucket == 0 { None } else { self.entry::<{ bucket::LEN }>(current.bucket) };
        if !writes.keep(&row, minute.as_ref()) {
            return;
        }
        if let Some(minute) = minute {
            minute.add_halves(bucket::REQUESTS, requests, errors);
            minute.add(bucket::TOKENS, fact.tokens);
            minute.add(bucket::COST, fact.cost);
            if split {
                for (step, amount) in parts.into_iter().enumerate() {
                    minute.add(bucket::INPUT + step, amount);
                }
            }
            row.add_halves(row::MINUTE_REQUESTS, requests, 0);
            row.add(row::MINUTE_TOKENS, fact.tokens);
        }
        row.add_halves(row::HOUR + 1, requests, 0);
        for at in [row::DAY, row::MONTH] {
            row.add(at + cell::REQUESTS, requests);
            row.add(at + cell::TOKENS, fact.tokens);
            row.add(at + cell::COST, fact.cost);
            if split {
                for (step, amount) in parts.into_iter().enumerate() {
                    row.add(at + cell::INPUT + step, amount);
                }
            }
        }
        row.add(row::TOTAL + total::REQUESTS, requests);
        row.add(row::TOTAL + total::TOKENS, fact.tokens);
        row.add(row::TOTAL + total::COST, fact.cost);
        if split {
            for (step, amount) in parts.into_iter().enumerate() {
                row.add(row::TOTAL + total::INPUT + step, amount);
            }
        }
        if errors != 0 {
            row.add(row::TOTAL + total::ERRORS, errors);
            row.add_halves(row::DAY + cell::ERRORS, errors, 0);
            row.add_halves(row::MONTH + cell::ERRORS, errors, 0);
            row.put(row::LAST_ERROR, self.now.wall as u64);
        }
        row.add(row::VERSION, 1);
        let seen = row.load(row::SEEN);
        if !self.now.is_in_second(seen >> 32) {
            self.first_of_second(&row, seen);
        }
    }

    #[cold]
    fn first_of_second(&self, row: &Entry<'_, { row::LEN }>, seen: u64) {
        row.put(row::SEEN, (self.now.second() as u64) << 32 | seen & LOW);
        row.put(row::NEXT_KIN, row.load(row::NEXT_KIN) & !LOW | self.wall_halved());
    }

    /// Notes a change of an account that lands now; `open` changes its open holds.
    #[inline]
    pub(super) fn post_now(&self, writes: &mut Writes<'_>, current: &Current, delta: &Delta, open: i64) {
        let base = current.base;
        let cells =
            Cells { bucket: current.bucket, hour: base + row::HOUR, day: base + row::DAY, month: base + row::MONTH };
        self.post(writes, base, delta, &cells, open);
    }

    /// Notes a change of an account that lands in a place that may have passed.
    pub(super) fn post_at(&self, writes: &mut Writes<'_>, account: u32, delta: &Delta, place: &Place, open: i64) {
        let base = self.row(account);
        let cells = Cells {
            bucket: place.bucket,
            hour: self.cell(account, base, row::HOUR, PAST_HOUR, place.hour),
            day: self.cell(account, base, row::DAY, PAST_DAY, place.day),
            month: self.cell(account, base, row::MONTH, PAST_MONTH, place.month),
        };
        self.post(writes, base, delta, &cells, open);
    }

    #[inline]
    fn post(&self, writes: &mut Writes<'_>, base: usize, delta: &Delta, cells: &Cells, open: i64) {
        if cells.bucket != 0 {
            self.post_bucket(writes, base, delta, cells.bucket);
        }
        if cells.hour != 0 {
            self.add_halves(writes, cells.hour + 1, delta.requests, delta.held_requests);
        }
        self.post_cell(writes, cells.day, delta);
        self.post_cell(writes, cells.month, delta);
        self.post_total(writes, base, delta);
        let seen = self.load(base + row::SEEN);
        let touched = (self.now.second() as u64) << 32 | (seen & LOW).saturating_add_signed(open).min(LOW);
        if touched != seen {
            writes.put(base + row::SEEN, touched);
            self.touch(writes, base);
        }
        if delta.errors > 0 {
            writes.put(base + row::LAST_ERROR, self.now.wall as u64);
        }
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
    }

    /// Notes when, by the wall, an account was last used.
    fn touch(&self, writes: &mut Writes<'_>, base: usize) {
        writes.put(base + row::NEXT_KIN, self.load(base + row::NEXT_KIN) & !LOW | self.wall_halved());
    }

    /// The wall second, halved so that it fits half a word until the year 2242.
    pub(super) fn wall_halved(&self) -> u64 {
        halved(self.now.wall)
    }

    #[inline]
    fn add(&self, writes: &mut Writes<'_>, word: usize, delta: i64) {
        if delta != 0 {
            writes.put(word, self.load(word).saturating_add_signed(delta));
        }
    }

    /// Changes both halves of a packed word.
    #[inline]
    fn add_halves(&self, writes: &mut Writes<'_>, word: usize, high: i64, low: i64) {
        if high != 0 || low != 0 {
            let value = self.load(word);
            let high = (value >> 32).saturating_add_signed(high).min(LOW);
            let low = (value & LOW).saturating_add_signed(low).min(LOW);
            writes.put(word, high << 32 | low);
        }
    }

    #[inline]
    fn post_bucket(&self, writes: &mut Writes<'_>, base: usize, delta: &Delta, at: usize) {
        if delta.held_requests != 0 {
            let word = self.load(at + bucket::SECOND);
            let held = (word & bucket::HELD_MOST).saturating_add_signed(delta.held_requests).min(bucket::HELD_MOST);
            writes.put(at + bucket::SECOND, word & !bucket::HELD_MOST | held);
        }
        self.add_halves(writes, at + bucket::REQUESTS, delta.requests, delta.errors);
        self.add(writes, at + bucket::TOKENS, delta.tokens);
        self.add(writes, at + bucket::INPUT, delta.input);
        self.add(writes, at + bucket::OUTPUT, delta.output);
        self.add(writes, at + bucket::CACHED, delta.cached);
        self.add(writes, at + bucket::COST, delta.cost);
        self.add(writes, at + bucket::HELD_TOKENS, delta.held_tokens);
        self.add_halves(writes, base + row::MINUTE_REQUESTS, delta.requests, delta.held_requests);
        self.add(writes, base + row::MINUTE_TOKENS, delta.tokens);
        self.add(writes, base + row::MINUTE_HELD, delta.held_tokens);
    }

    #[inline]
    fn post_cell(&self, writes: &mut Writes<'_>, at: usize, delta: &Delta) {
        if at == 0 {
            return;
        }
        self.add(writes, at + cell::REQUESTS, delta.requests);
        self.add_halves(writes, at + cell::ERRORS, delta.errors, delta.held_requests);
        self.add(writes, at + cell::TOKENS, delta.tokens);
        self.add(writes, at + cell::INPUT, delta.input);
        self.add(writes, at + cell::OUTPUT, delta.output);
        self.add(writes, at + cell::CACHED, delta.cached);
        self.add(writes, at + cell::COST, delta.cost);
        self.add(writes, at + cell::HELD_TOKENS, delta.held_tokens);
        self.add(writes, at + cell::HELD_COST, delta.held_cost);
    }

    #[inline]
    fn post_total(&self, writes: &mut Writes<'_>, base: usize, delta: &Delta) {
        let fields = [delta.requests, delta.errors, delta.tokens, delta.input, delta.output, delta.cached, delta.cost];
        for (step, field) in fields.into_iter().enumerate() {
            self.add(writes, base + row::TOTAL + step, field);
        }
    }
}
