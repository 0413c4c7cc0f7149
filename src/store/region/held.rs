//! The region while this process holds its lock: words, time, and the counters of an account as they stand now.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Region;
use super::accounts::LOW;
use super::attempt::Attempt;
use super::events::Bell;
use super::evict::cell_words;
use super::layout::{Map, bucket, cell, head, past, row};
use super::lock::Guard;
use super::log::Writes;
use crate::clock::{Now, SECOND};
use crate::rules::windows::{MINUTE_BUCKETS, Periods};

/// Buckets of each size class of ring; the last holds any minute.
pub(super) const RING_SIZES: [usize; 4] = [1, 4, 16, 64];

/// What is read: the words, as of an instant. Whoever has it holds the lock, or checks afterwards that nobody did.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'r> {
    pub(super) region: &'r Region,
    words: &'r [AtomicU64],
    pub(super) now: Now,
}

/// The words of one entry of a table, found once: inside it no bound is checked again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'r, const LEN: usize> {
    pub(super) base: usize,
    words: &'r [AtomicU64; LEN],
}

impl<'r, const LEN: usize> Entry<'r, LEN> {
    #[inline(always)]
    pub(super) fn load(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    /// The entry that begins at a word; `None` outside of the region, which only a damaged one asks for.
    #[inline(always)]
    pub(super) fn of(words: &'r [AtomicU64], base: usize) -> Option<Self> {
        let words = words.get(base..)?.first_chunk()?;
        Some(Self { base, words })
    }

    /// The first word, and the others after it.
    pub(super) fn as_ptr(&self) -> *const AtomicU64 {
        self.words.as_ptr()
    }

    /// Changes a word.
    #[inline(always)]
    pub(super) fn put(&self, word: usize, value: u64) {
        if let Some(place) = self.words.get(word) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Adds to a word; the largest number is the end.
    #[inline(always)]
    pub(super) fn add(&self, word: usize, amount: u64) {
        self.put(word, self.load(word).saturating_add(amount));
    }

    /// Adds to both halves of a packed word.
    #[inline(always)]
    pub(super) fn add_halves(&self, word: usize, high: u64, low: u64) {
        let value = self.load(word);
        let (high, low) = ((value >> 32) + high, (value & LOW) + low);
        self.put(word, high.min(LOW) << 32 | low.min(LOW));
    }
}

/// Proof that the lock is held, and what is read and written through it.
#[derive(Debug)]
pub(super) struct Held<'r> {
    view: View<'r>,
    pub(super) attempt: &'r Attempt,
    /// A word that the next batch changes along with its own; (0, 0) for none.
    pub(super) along: Cell<(usize, u64)>,
    _guard: Guard<'r>,
    /// After the guard: rung when the lock is free.
    pub(super) bell: Bell<'r>,
}

impl<'r> Deref for Held<'r> {
    type Target = View<'r>;

    fn deref(&self) -> &View<'r> {
        &self.view
    }
}

/// An account whose periods and ring stand at now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub(super) row: u32,
    /// First word of the row.
    pub(super) base: usize,
    /// First word of the current bucket; 0 where none was asked for, or the arena is full.
    pub(super) bucket: usize,
}

/// A ring's place and extent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring {
    pub(super) line: u32,
    pub(super) class: usize,
    pub(super) first: usize,
    pub(super) len: usize,
}

impl Ring {
    pub(super) fn unpack(word: u64) -> Self {
        Self {
            line: (word >> 32) as u32,
            class: ((word >> 16) & 3) as usize,
            first: ((word >> 8) & 0xff) as usize,
            len: (word & 0xff) as usize,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.line) << 32 | (self.class as u64) << 16 | (self.first as u64) << 8 | self.len as u64
    }

    fn size(self) -> usize {
        // RING_SIZES, each a power of four.
        1 << (2 * self.class)
    }
}

impl<'r> View<'r> {
    #[inline]
    pub(super) fn new(region: &'r Region, now: Now) -> Self {
        Self { region, words: &region.words, now }
    }

    /// The entry that begins at a word, as [`Entry::of`] has it.
    #[inline(always)]
    pub(super) fn entry<const LEN: usize>(&self, base: usize) -> Option<Entry<'r, LEN>> {
        Entry::of(self.words, base)
    }
}

impl View<'_> {
    pub(super) fn map(&self) -> &Map {
        &self.region.map
    }

    #[inline]
    pub(super) fn load(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    /// The first word of a line of the arena.
    pub(super) fn line(&self, line: u32) -> usize {
        self.map().lines.numbered::<{ bucket::LEN }>(line)
    }

    /// The first word of a ring's bucket, counted from the oldest.
    pub(super) fn bucket(&self, ring: Ring, step: usize) -> usize {
        self.line(ring.line) + ((ring.first + step) & (ring.size() - 1)) * bucket::LEN
    }

    /// The second that a bucket counts.
    pub(super) fn second(&self, at: usize) -> i64 {
        (self.load(at + bucket::SECOND) >> bucket::HELD_BITS) as i64
    }

    /// The requests that a bucket holds.
    pub(super) fn held_in(&self, at: usize) -> u64 {
        self.load(at + bucket::SECOND) & bucket::HELD_MOST
    }

    /// The entry of a period that was put by.
    pub(super) fn past(&self, row: u32, base: usize, which: u64, begins: i64) -> Option<usize> {
        let (hash, key) = (self.load(base + row::HASH), u64::from(row) << 8 | which);
        self.places_for_past(row, which).find(|place| {
            self.load(place + past::HASH) == hash
                && self.load(place + past::KEY) == key
                && self.load(place + past::CELL) as i64 == begins
        })
    }

    /// True where nothing of an account's last minute counts any more.
    pub(super) fn is_out_of_minute(&self, base: usize) -> bool {
        let ring = Ring::unpack(self.load(base + row::RING));
        ring.len == 0 || self.second(self.bucket(ring, ring.len - 1)) + MINUTE_BUCKETS <= self.now.second()
    }

    /// Every entry of an account's periods that were put by.
    pub(super) fn put_by(&self, row: u32, base: usize) -> impl Iterator<Item = usize> + '_ {
        let hash = self.load(base + row::HASH);
        [PAST_HOUR, PAST_DAY, PAST_MONTH].into_iter().flat_map(move |which| {
            let key = u64::from(row) << 8 | which;
            self.places_for_past(row, which)
                .filter(move |place| self.load(place + past::HASH) == hash && self.load(place + past::KEY) == key)
        })
    }

    fn places_for_past(&self, row: u32, which: u64) -> impl Iterator<Item = usize> + '_ {
        let table = self.map().past;
        // Each account has eight neighbouring places of each kind, which it shares with other accounts; no place serves two
        // kinds, so one batch may put all three by.
        let of_kind = table.count() / 3;
        let first = (row as usize).wrapping_mul(PAST_PLACES) % of_kind;
        (0..PAST_PLACES).map(move |step| table.at((first + step) % of_kind * 3 + which as usize))
    }

    /// The bucket of a second that may have passed, while it still counts.
    pub(super) fn living_bucket(&self, base: usize, second: i64) -> Option<usize> {
        let ring = Ring::unpack(self.load(base + row::RING));
        // Buckets lie in the order of their seconds.
        let (mut low, mut high) = (0, ring.len);
        while low < high {
            let middle = low.midpoint(high);
            if self.second(self.bucket(ring, middle)) < second { low = middle + 1 } else { high = middle }
        }
        // A merged bucket carries what its older half counted under the newer second.
        (low < ring.len && second + MINUTE_BUCKETS > self.now.second()).then(|| self.bucket(ring, low))
    }
}

impl<'r> Held<'r> {
    pub(super) fn new(region: &'r Region, attempt: &'r Attempt, guard: Guard<'r>, now: Now) -> Self {
        Self { view: View::new(region, now), attempt, along: Cell::new((0, 0)), _guard: guard, bell: Bell::new(region) }
    }

    /// The same hold of the lock at the exact time, with all that has ended since the coarse one.
    pub(super) fn exactly(self) -> Self {
        let now = self.region.exact_now();
        self.store(head::LATEST, now.mono as u64);
        let exact = Self { view: View { now, ..self.view }, ..self };
        exact.bring_epoch();
        exact.end_expired();
        exact
    }

    /// Changes a word outside of any batch: a hint or a statistic, which may be lost.
    pub(super) fn store(&self, word: usize, value: u64) {
        if let Some(place) = self.words.get(word) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Notes what goes along with this batch.
    #[inline]
    pub(super) fn put_along(&self, writes: &mut Writes<'_>) {
        if self.along.get().0 != 0 {
            let (word, value) = self.along.take();
            writes.put(word, value);
        }
    }

    pub(super) fn writes(&self) -> Writes<'r> {
        Writes::new(self.words, &self.region.map, self.region.durability, self.region.slot())
    }

    /// Brings an account's terms, periods and ring up to now; with `bucket`, makes the bucket of this second.
    #[inline(always)]
    pub(super) fn current(&self, row: u32, bucket: bool) -> Option<Current> {
        if row == 0 {
            return None;
        }
        let base = self.row(row);
        if self.load(base + row::TERMS) >> 32 != self.load(head::EPOCH) & LOW && !self.begin_epoch_for(row, base) {
            return None;
        }
        let bucket = self.bring_ring(base, bucket);
        Some(Current { row, base, bucket })
    }

    /// Brings an account's periods to these. False where history has to be asked for them first.
    pub(super) fn bring_periods(&self, row: u32, base: usize, periods: &Periods) -> bool {
        if self.load(base + row::HOUR) as i64 != periods.hour
            || self.load(base + row::DAY) as i64 != periods.day
            || self.load(base + row::MONTH) as i64 != periods.month
        {
            return self.roll(row, base, periods);
        }
        true
    }

    /// Another hour, day or month began, or the clock was set to another: what counted so far is put by under its start, and
    /// what was put by for this one is taken up again; or what history has of it, where a clock was set and the region has nothing.
    #[cold]
    fn roll(&self, row: u32, base: usize, periods: &Periods) -> bool {
        // Private memory has no history to ask; the year 1969 has periods too, so 0 would not do.
        let counted_until = if self.region.is_shared() { self.load(head::COUNTED_UNTIL) as i64 } else { i64::MIN };
        // An account that was never counted in any period is new, or history would have been asked when it came.
        let is_lacking = |which: u64, start: usize, begins: i64| {
            let is = self.load(base + start) as i64;
            is != begins
                && is != 0
                && begins.saturating_mul(SECOND) < counted_until
                && self.past(row, base, which, begins).is_none()
        };
        let mut saved = None;
        if is_lacking(PAST_HOUR, row::HOUR, periods.hour)
            || is_lacking(PAST_DAY, row::DAY, periods.day)
            || is_lacking(PAST_MONTH, row::MONTH, periods.month)
        {
            match self.saved_lately(self.load(base + row::HASH)) {
                Some(found) => saved = found,
                None => return false,
            }
        }
        let mut writes = self.writes();
        for (which, start, begins, len) in [
            (PAST_HOUR, row::HOUR, periods.hour, HOUR_WORDS),
            (PAST_DAY, row::DAY, periods.day, cell::LEN),
            (PAST_MONTH, row::MONTH, periods.month, cell::LEN),
        ] {
            if self.load(base + start) as i64 == begins {
                continue;
            }
            let again = self.past(row, base, which, begins);
            let mut before = [0; cell::LEN];
            if let Some(place) = again {
                for (word, value) in before.iter_mut().enumerate().take(len) {
                    *value = self.load(place + past::CELL + word);
                }
            } else if let Some(saved) = saved.as_ref().filter(|_| is_lacking(which, start, begins)) {
                let words = match which {
                    PAST_HOUR => cell_words(saved.starts.hour, &saved.hour),
                    PAST_DAY => cell_words(saved.starts.day, &saved.day),
                    _ => cell_words(saved.starts.month, &saved.month),
                };
                if words[cell::START] as i64 == begins {
                    before = words;
                    if which == PAST_HOUR {
                        before[1] = words[cell::REQUESTS].min(LOW) << 32;
                    }
                }
            }
            if (1..len).any(|word| self.load(base + start + word) != 0) {
                let place = again.unwrap_or_else(|| self.place_for_past(row, which));
                writes.put(place + past::HASH, self.load(base + row::HASH));
                writes.put(place + past::KEY, u64::from(row) << 8 | which);
                for word in 0..len {
                    writes.put(place + past::CELL + word, self.load(base + start + word));
                }
            } else if let Some(place) = again {
                writes.put(place + past::HASH, 0);
            }
            writes.put(base + start, begins as u64);
            for (word, value) in before.iter().enumerate().take(len).skip(1) {
                writes.put(base + start + word, *value);
            }
        }
        // Cannot overflow the log: some 70 words.
        let _done = writes.commit();
        true
    }

    /// Puts by a period that has passed with nothing in it, where the end of a hold is going to land there.
    pub(super) fn have_periods(&self, row: u32, base: usize, hour: i64, day: i64, month: i64) {
        for (which, start, begins) in
            [(PAST_HOUR, row::HOUR, hour), (PAST_DAY, row::DAY, day), (PAST_MONTH, row::MONTH, month)]
        {
            if self.load(base + start) as i64 == begins || self.past(row, base, which, begins).is_some() {
                continue;
            }
            let place = self.place_for_past(row, which);
            let mut writes = self.writes();
            writes.put(place + past::HASH, self.load(base + row::HASH));
            writes.put(place + past::KEY, u64::from(row) << 8 | which);
            writes.put(place + past::CELL, begins as u64);
            for word in 1..cell::LEN {
                writes.put(place + past::CELL + word, 0);
            }
            // A dozen words always fit the log.
            let _done = writes.commit();
        }
    }

    /// A free entry, or the one of the period that began first.
    fn place_for_past(&self, row: u32, which: u64) -> usize {
        let age = |place: &usize| match self.load(place + past::HASH) {
            0 => i64::MIN,
            _ => self.load(place + past::CELL) as i64,
        };
        self.places_for_past(row, which).min_by_key(age).unwrap_or(self.map().past.at(0))
    }

    #[inline(always)]
    fn bring_ring(&self, base: usize, want: bool) -> usize {
        let ring = Ring::unpack(self.load(base + row::RING));
        if ring.len > 0 {
            let last = self.bucket(ring, ring.len - 1);
            // A bucket of this second was made with the old ones taken out.
            if self.now.is_until_second(self.second(last).cast_unsigned()) {
                return last;
            }
        } else if !want {
            return 0;
        }
        self.turn_ring(base, ring, want)
    }

    /// Takes out the buckets that count no more and, where wanted, makes the one of this second.
    #[cold]
    fn turn_ring(&self, base: usize, ring: Ring, want: bool) -> usize {
        let second = self.now.second();
        let ring = self.expire(base, ring, second);
        if !want {
            return 0;
        }
        let Some(ring) = self.with_room(base, ring) else {
            return if ring.len == 1 { self.move_only_bucket(ring) } else { 0 };
        };
        let at = self.bucket(ring, ring.len);
        let mut writes = self.writes();
        writes.put(at + bucket::SECOND, (second as u64) << bucket::HELD_BITS);
        for word in 1..bucket::LEN {
            writes.put(at + word, 0);
        }
        writes.put(base + row::RING, Ring { len: ring.len + 1, ..ring }.pack());
        if writes.commit() { at } else { 0 }
    }

    fn expire(&self, base: usize, ring: Ring, second: i64) -> Ring {
        let mut gone = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut kept = ring;
        while kept.len > 0 {
            let at = self.bucket(kept, 0);
            if self.second(at) + MINUTE_BUCKETS > second {
                break;
            }
            gone.0 += self.load(at + bucket::REQUESTS) >> 32;
            gone.1 += self.held_in(at);
            gone.2 = gone.2.saturating_add(self.load(at + bucket::TOKENS));
            gone.3 = gone.3.saturating_add(self.load(at + bucket::HELD_TOKENS));
            kept.first = (kept.first + 1) % kept.size();
            kept.len -= 1;
        }
        if kept.len == ring.len {
            return ring;
        }
        let mut writes = self.writes();
        let requests = self.load(base + row::MINUTE_REQUESTS);
        let left = (requests >> 32).saturating_sub(gone.0) << 32 | (requests & LOW).saturating_sub(gone.1);
        writes.put(base + row::MINUTE_REQUESTS, left);
        writes.put(base + row::MINUTE_TOKENS, self.load(base + row::MINUTE_TOKENS).saturating_sub(gone.2));
        writes.put(base + row::MINUTE_HELD, self.load(base + row::MINUTE_HELD).saturating_sub(gone.3));
        writes.put(base + row::RING, kept.pack());
        if writes.commit() { kept } else { ring }
    }

    /// The ring, with room for one more bucket: as it is, or moved to a larger block, or with two of its buckets made one, which
    /// lets the older count longer, never shorter. `None` where there is no block at all.
    fn with_room(&self, base: usize, ring: Ring) -> Option<Ring> {
        if ring.line != 0 && ring.len < ring.size() {
            return Some(ring);
        }
        let class = if ring.line == 0 { 0 } else { ring.class + 1 };
        if let Some(block) = (class < RING_SIZES.len()).then(|| self.find_block(class)).flatten() {
            let grown = Ring { line: block.line, class, first: 0, len: ring.len };
            let mut writes = self.writes();
            block.take(&mut writes);
            for step in 0..ring.len {
                let (from, to) = (self.bucket(ring, step), self.bucket(grown, step));
                for word in 0..bucket::LEN {
                    writes.put(to + word, self.load(from + word));
                }
            }
            writes.put(base + row::RING, grown.pack());
            self.give_lines(&mut writes, ring.line, ring.class);
            return writes.commit().then_some(grown);
        }
        if ring.len < 2 {
            return None;
        }
        let older = self.merged_step(ring);
        let mut writes = self.writes();
        self.merge_buckets(&mut writes, self.bucket(ring, older), self.bucket(ring, older + 1));
        // Those before it move up by one, the newest of them first.
        for step in (0..older).rev() {
            let (from, to) = (self.bucket(ring, step), self.bucket(ring, step + 1));
            for word in 0..bucket::LEN {
                writes.put(to + word, self.load(from + word));
            }
        }
        let kept = Ring { first: (ring.first + 1) % ring.size(), len: ring.len - 1, ..ring };
        writes.put(base + row::RING, kept.pack());
        writes.commit().then_some(kept)
    }

    /// Which bucket of a full ring becomes one with the next: the oldest that lies in the same span of time as the next. The
    /// spans stand still, so that what is made one leaves at the latest a span after its time, however often it is added to.
    fn merged_step(&self, ring: Ring) -> usize {
        // A minute touches fewer of these spans than the ring has buckets: in a full one two share a span.
        let span = (MINUTE_BUCKETS - 2).unsigned_abs().div_ceil(ring.size().saturating_sub(2).max(1) as u64);
        let span_of = |step| self.second(self.bucket(ring, step)).unsigned_abs() / span;
        (0..ring.len - 1).find(|step| span_of(*step) == span_of(step + 1)).unwrap_or(0)
    }

    /// A ring of one bucket that cannot grow: the bucket moves to this second with what it counts.
    fn move_only_bucket(&self, ring: Ring) -> usize {
        let at = self.bucket(ring, 0);
        let held = self.held_in(at);
        let mut writes = self.writes();
        writes.put(at + bucket::SECOND, (self.now.second() as u64) << bucket::HELD_BITS | held);
        if writes.commit() { at } else { 0 }
    }

    fn merge_buckets(&self, writes: &mut Writes<'_>, older: usize, newer: usize) {
        let held = self.held_in(older) + self.held_in(newer);
        let second = self.load(newer + bucket::SECOND) & !bucket::HELD_MOST;
        writes.put(newer + bucket::SECOND, second | held.min(bucket::HELD_MOST));
        let (left, right) = (self.load(older + bucket::REQUESTS), self.load(newer + bucket::REQUESTS));
        let requests = ((left >> 32) + (right >> 32)).min(LOW);
        let errors = ((left & LOW) + (right & LOW)).min(LOW);
        writes.put(newer + bucket::REQUESTS, requests << 32 | errors);
        for word in bucket::TOKENS..bucket::LEN {
            writes.put(newer + word, self.load(older + word).saturating_add(self.load(newer + word)));
        }
    }

    /// Gives a row's ring back. False in a damaged region.
    pub(super) fn drop_ring(&self, base: usize) -> bool {
        let ring = Ring::unpack(self.load(base + row::RING));
        if ring.line == 0 {
            return true;
        }
        let mut writes = self.writes();
        writes.put(base + row::RING, 0);
        for word in row::MINUTE_REQUESTS..=row::MINUTE_HELD {
            writes.put(base + word, 0);
        }
        self.give_lines(&mut writes, ring.line, ring.class);
        writes.commit()
    }
}

/// Which period a put-by entry is of.
pub(super) const PAST_HOUR: u64 = 0;
pub(super) const PAST_DAY: u64 = 1;
pub(super) const PAST_MONTH: u64 = 2;
const PAST_PLACES: usize = 8;
const HOUR_WORDS: usize = 2;
