//! The tables of a region: how many entries of each fit a bound, and where each begins, the same on private memory and in a file.

use super::{breaker, bucket, crossing, entry, event, head, hold, image, past, row, slot, terms, ticket};
use crate::account::MAX_CHAIN;
use crate::error::{Code, Error, Result};

/// A table: where it begins, how many entries it has, and how wide they are.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::region) struct Table {
    start: usize,
    count: usize,
    width: usize,
}

impl Table {
    /// One of [`LOGS`] equal parts of it.
    #[inline(always)]
    pub(in crate::store::region) const fn part(&self, number: usize) -> Self {
        let count = self.count / LOGS;
        Self { start: self.start + number * count * self.width, count, width: self.width }
    }

    /// The first word of an entry.
    pub(in crate::store::region) const fn at(&self, entry: usize) -> usize {
        self.start + entry * self.width
    }

    /// The first word of the entry of a number that counts from 1; of the last, past the end, which only a damaged region asks
    /// for. The width is known, so that a constant multiplies.
    #[inline]
    pub(in crate::store::region) fn numbered<const WIDTH: usize>(&self, number: u32) -> usize {
        debug_assert!(self.width == WIDTH, "another table's width");
        self.start + (number as usize).wrapping_sub(1).min(self.count - 1) * WIDTH
    }

    /// How many entries.
    pub(in crate::store::region) const fn count(&self) -> usize {
        self.count
    }
}

/// The tables of a region of one size.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::region) struct Map {
    /// What a batch will change, noted as it will be: a part for each of [`LOGS`].
    pub(in crate::store::region) notes: Table,
    /// What it changes at once, kept as it was: a part for each, too.
    pub(in crate::store::region) images: Table,
    pub(in crate::store::region) terms: Table,
    pub(in crate::store::region) index: Table,
    pub(in crate::store::region) rows: Table,
    pub(in crate::store::region) lines: Table,
    pub(in crate::store::region) holds: Table,
    pub(in crate::store::region) breakers: Table,
    pub(in crate::store::region) past: Table,
    /// What happened and is not in history yet; on private memory, what happened last.
    pub(in crate::store::region) journal: Table,
    /// Those who wait.
    pub(in crate::store::region) tickets: Table,
    /// The names of time zones, each a length and seven words.
    pub(in crate::store::region) zones: Table,
    /// Processes.
    pub(in crate::store::region) slots: Table,
    /// What a process tells while it cannot have the lock: a ring of words each.
    pub(in crate::store::region) rings: Table,
    /// A bit for each row whose entries the journal had no room for.
    pub(in crate::store::region) unwritten: Table,
    /// Bits that tell whether history may have an account that has no row.
    pub(in crate::store::region) stored: Table,
    /// How many accounts of these hashes were evicted: tells a reader of history that what it read may be old.
    pub(in crate::store::region) evicted: Table,
    /// What happened while somebody listened, the last of it.
    pub(in crate::store::region) events: Table,
    /// Which limits were near, critical or full in their period.
    pub(in crate::store::region) crossings: Table,
    pub(in crate::store::region) words: usize,
}

/// The smallest bound, in bytes.
pub(in crate::store::region) const LEAST_BYTES: usize = 1 << 20;

/// Pairs of (word, value) that one batch may write: seven accounts of some 32 words, and the hold.
const NOTES: usize = 512;
/// Accounts that one batch may change in their place.
const IMAGES: usize = MAX_CHAIN;
/// Logs, of which each process has one by its slot. One batch at a time is under way, and one log would do; but what a processor
/// writes another must fetch before it writes there too.
pub(in crate::store::region) const LOGS: usize = 8;

impl Map {
    /// What no word of the header of a sound region is above.
    pub(in crate::store::region) fn header_bounds(&self) -> [(usize, u64); 26] {
        let entries = |table: Table| table.count as u64;
        /// What only rises rises by one, and never so far.
        const FAR: u64 = 1 << 48;
        [
            (head::ROWS_USED, entries(self.rows)),
            (head::ROWS_FREE, entries(self.rows)),
            (head::ROWS_BACKED, entries(self.rows)),
            (head::OUTERMOST, entries(self.rows)),
            (head::LINES_USED, entries(self.lines)),
            (head::LINES_BACKED, entries(self.lines)),
            (head::HOLDS_OPEN, entries(self.holds)),
            (head::HOLDS_BACKED, entries(self.holds)),
            (head::HOLD_CURSOR, entries(self.holds)),
            (head::BREAKERS_USED, entries(self.breakers)),
            (head::TERMS_USED, entries(self.terms)),
            (head::ZONES_USED, ZONES as u64),
            (head::HOLD_SEQUENCE, FAR >> HOLD_SLOT_BITS << 8),
            (head::JOURNAL_TAIL, FAR),
            (head::JOURNAL_DRAINED, FAR),
            (head::EPOCH, FAR),
            (head::FOLDED, FAR),
            (head::OVERFLOWS, FAR),
            (head::EVICTED, FAR),
            (head::RINGS_PUT, FAR),
            (head::EVENTS, FAR),
            (head::CONFIG_VERSION, FAR),
            (head::TICKETS_OPEN, entries(self.tickets)),
            (head::TICKETS_USED, entries(self.tickets)),
            (head::TICKETS_FREE, entries(self.tickets)),
            (head::ARRIVALS, FAR),
        ]
    }

    /// Every table by name, with its entries and the bytes of one: what an operator may ask for.
    pub(in crate::store::region) fn tables(&self) -> [(&'static str, usize, usize); 19] {
        [
            ("notes", self.notes),
            ("images", self.images),
            ("terms", self.terms),
            ("index", self.index),
            ("accounts", self.rows),
            ("lines", self.lines),
            ("holds", self.holds),
            ("breakers", self.breakers),
            ("past", self.past),
            ("journal", self.journal),
            ("tickets", self.tickets),
            ("zones", self.zones),
            ("slots", self.slots),
            ("rings", self.rings),
            ("unwritten", self.unwritten),
            ("stored", self.stored),
            ("evicted", self.evicted),
            ("events", self.events),
            ("crossings", self.crossings),
        ]
        .map(|(name, table)| (name, table.count, table.width * size_of::<u64>()))
    }

    /// The tables that fit into `bytes`.
    pub(in crate::store::region) fn of(bytes: usize) -> Result<Self> {
        if bytes < LEAST_BYTES {
            return Err(Error::invalid(Code::InvalidNumber, "size", bytes, "at least 1 MiB (1048576 bytes)"));
        }
        let words = bytes / size_of::<u64>();
        let share = |percent: usize| words / 100 * percent;
        let mut next = head::LEN;
        let mut table = |count: usize, width: usize| {
            let start = next.next_multiple_of(8);
            next = start + count * width;
            Table { start, count, width }
        };
        let rows = (share(56) / row::LEN).clamp(64, 1 << 30);
        // A power of two, so that a hash is reduced by a mask; at most one row a place on average.
        let places = (rows.next_power_of_two()).max(64);
        let map = Self {
            notes: table(LOGS * NOTES, 2),
            images: table(LOGS * IMAGES, image::LEN),
            terms: table((rows / 32).clamp(256, 1 << 20), terms::LEN),
            index: table(places, 1),
            rows: table(rows, row::LEN),
            lines: table(share(20) / bucket::LEN, bucket::LEN),
            holds: table((share(5) / hold::LEN).clamp(64, HOLD_SLOTS), hold::LEN),
            breakers: table((share(1) / breaker::LEN).clamp(64, 1 << 16), breaker::LEN),
            past: table((share(2) / past::LEN).max(64), past::LEN),
            // A power of two too: an entry's place is its number by a mask.
            journal: table(1 << (share(8) / entry::LEN).clamp(64, 1 << 20).ilog2(), entry::LEN),
            tickets: table((share(1) / ticket::LEN).min(4_096), ticket::LEN),
            zones: table(ZONES, ZONE_WORDS),
            slots: table(SLOTS, slot::LEN),
            rings: table(SLOTS, (share(3) / SLOTS).clamp(64, 4_096)),
            unwritten: table(rows.div_ceil(64), 1),
            stored: table((share(1) / 2).next_power_of_two(), 1),
            evicted: table(EVICTED_STRIPES, 1),
            events: table((share(1) / event::LEN).clamp(64, 8_192), event::LEN),
            crossings: table((share(1) / crossing::LEN).clamp(64, 1 << 16), crossing::LEN),
            words: 0,
        };
        Ok(Self { words: next, ..map })
    }
}

/// Processes that one store has room for, and one slot that is nobody's.
pub(in crate::store::region) const SLOTS: usize = 256;
/// Most time zones in use at once; the IANA database has some 600.
pub(in crate::store::region) const ZONES: usize = 1_024;
/// Words of a zone's name and its length.
pub(in crate::store::region) const ZONE_WORDS: usize = 8;
/// Counters of evictions, by hash.
pub(in crate::store::region) const EVICTED_STRIPES: usize = 256;

/// Most slots of the table of holds: a hold's number carries its slot in the low bits.
pub(in crate::store::region) const HOLD_SLOTS: usize = 1 << HOLD_SLOT_BITS;
/// Bits of the slot in a hold's number.
pub(in crate::store::region) const HOLD_SLOT_BITS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::super::cell;
    use super::*;

    #[test]
    fn tables_follow_each_other_and_fit_the_bound() {
        for bytes in [LEAST_BYTES, 8 << 20, 256 << 20, 1 << 30] {
            let map = Map::of(bytes).unwrap();
            let tables = [
                map.notes,
                map.images,
                map.terms,
                map.index,
                map.rows,
                map.lines,
                map.holds,
                map.breakers,
                map.past,
                map.journal,
                map.tickets,
                map.zones,
                map.slots,
                map.rings,
                map.unwritten,
                map.stored,
                map.evicted,
                map.events,
                map.crossings,
            ];
            let mut end = head::LEN;
            for table in tables {
                assert!(table.start >= end && table.count > 0 && table.start % 8 == 0, "{map:?}");
                end = table.at(table.count);
            }
            assert_eq!(end, map.words);
            assert!(map.words * 8 <= bytes + bytes / 8 + (1 << 18), "{} words of {bytes} bytes", map.words);
        }
    }

    #[test]
    fn a_row_has_a_place_for_each_word() {
        assert_eq!(row::NAME + row::NAME_WORDS, row::NAME_REST);
        assert_eq!(row::DAY + cell::LEN, row::MONTH);
        assert_eq!(row::MONTH + cell::LEN, row::NEXT_KIN);
        assert_eq!(row::LEN * 8 % 64, 0);
    }

    #[test]
    fn too_small_a_bound_is_named() {
        assert_eq!(Map::of(1000).unwrap_err().field(), "size");
    }
}
