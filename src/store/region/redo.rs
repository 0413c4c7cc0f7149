//! The redo log: a batch writes down every word that it will change, says "do it" with one store, changes them, and takes
//! the word back. Whoever finds a log that says "do it" does it again; a batch is so done wholly or not at all.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::accounts::LOW;
use super::held::Entry;
use super::layout::{Table, head};

/// Whether a batch goes through the log. Private memory dies with its process, and a fork waits for the lock, so nobody ever
/// finds a batch half done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Words change as they are noted.
    Direct,
    /// Words change at the commit, through the log.
    Logged,
}

/// One batch's writes. Each word at most once, and none that the batch reads later: whether words change when noted or at
/// the commit must make no difference.
#[derive(Debug)]
pub(super) struct Writes<'a> {
    words: &'a [AtomicU64],
    log: Table,
    /// What is left of the log's own words.
    free: &'a [AtomicU64],
    durability: Durability,
    overflow: bool,
    #[cfg(debug_assertions)]
    _only: only::Only,
}

/// Batches share the log: one that begins before another is committed writes over what that one has noted.
#[cfg(debug_assertions)]
mod only {
    use std::cell::Cell;

    thread_local! {
        static NOTING: Cell<bool> = const { Cell::new(false) };
    }

    #[derive(Debug)]
    pub(super) struct Only;

    impl Only {
        pub(super) fn begin() -> Self {
            assert!(!NOTING.replace(true), "a batch begins inside another");
            Self
        }
    }

    impl Drop for Only {
        fn drop(&mut self) {
            NOTING.set(false);
        }
    }
}

/// The log's own words; none in a region that is too short for it.
fn notes_of(words: &[AtomicU64], log: Table) -> &[AtomicU64] {
    words.get(log.at(0)..log.at(log.count())).unwrap_or_default()
}

impl<'a> Writes<'a> {
    pub(super) fn new(words: &'a [AtomicU64], log: Table, durability: Durability) -> Self {
        Self {
            words,
            log,
            free: notes_of(words, log),
            durability,
            overflow: false,
            #[cfg(debug_assertions)]
            _only: only::Only::begin(),
        }
    }

    /// Notes that `word` becomes `value`.
    #[inline(always)]
    pub(super) fn put(&mut self, word: usize, value: u64) {
        if self.durability == Durability::Direct {
            if let Some(place) = self.words.get(word) {
                place.store(value, Ordering::Relaxed);
            }
        } else {
            self.note(word, value);
        }
    }

    /// True where words change as they are noted: a batch that only adds may then use [`Direct`].
    pub(super) fn is_direct(&self) -> bool {
        self.durability == Durability::Direct
    }

    #[inline]
    fn note(&mut self, word: usize, value: u64) {
        if let [at, to, free @ ..] = self.free {
            at.store(word as u64, Ordering::Relaxed);
            to.store(value, Ordering::Relaxed);
            self.free = free;
        } else {
            self.overflow = true;
        }
    }

    /// Changes the words. False, and nothing changed, where the log had no room for them all.
    #[must_use]
    pub(super) fn commit(self) -> bool {
        if self.durability == Durability::Direct {
            return true;
        }
        if self.overflow {
            return false;
        }
        let Some(redo) = self.words.get(head::REDO) else { return false };
        let noted = (notes_of(self.words, self.log).len() - self.free.len()) / 2;
        redo.store(noted as u64, Ordering::Release);
        // No word may change before the log says so, nor the log be taken up again before it is done: whoever finds it after a
        // kill between the two would find half of a batch.
        fence(Ordering::Release);
        apply(self.words, self.log, noted);
        redo.store(0, Ordering::Release);
        fence(Ordering::Release);
        true
    }
}

/// How a batch changes the words of entries: the hot path is compiled once for each way.
pub(super) trait Pen {
    /// Notes that a word of an entry becomes `value`.
    fn put_in<const LEN: usize>(&mut self, entry: &Entry<'_, LEN>, word: usize, value: u64);

    /// Adds to a word of an entry; the largest number is the end.
    #[inline(always)]
    fn add_in<const LEN: usize>(&mut self, entry: &Entry<'_, LEN>, word: usize, amount: u64) {
        self.put_in(entry, word, entry.load(word).saturating_add(amount));
    }

    /// Adds to both halves of a packed word of an entry.
    #[inline(always)]
    fn add_halves_in<const LEN: usize>(&mut self, entry: &Entry<'_, LEN>, word: usize, high: u64, low: u64) {
        let value = entry.load(word);
        let (high, low) = ((value >> 32) + high, (value & LOW) + low);
        self.put_in(entry, word, high.min(LOW) << 32 | low.min(LOW));
    }
}

impl Pen for Writes<'_> {
    fn put_in<const LEN: usize>(&mut self, entry: &Entry<'_, LEN>, word: usize, value: u64) {
        self.put(entry.base + word, value);
    }
}

/// Changes words as they are noted.
#[derive(Debug)]
pub(super) struct Direct;

impl Pen for Direct {
    #[inline(always)]
    fn put_in<const LEN: usize>(&mut self, entry: &Entry<'_, LEN>, word: usize, value: u64) {
        if let Some(place) = entry.place(word) {
            place.store(value, Ordering::Relaxed);
        }
    }
}

/// Does again what a batch had decided when it was stopped. True where there was something.
pub(super) fn recover(words: &[AtomicU64], log: Table) -> bool {
    let Some(redo) = words.get(head::REDO) else { return false };
    let len = usize::try_from(redo.load(Ordering::Acquire)).unwrap_or(usize::MAX).min(log.count());
    if len == 0 {
        return false;
    }
    apply(words, log, len);
    redo.store(0, Ordering::Release);
    fence(Ordering::Release);
    true
}

#[inline]
fn apply(words: &[AtomicU64], log: Table, len: usize) {
    let Some(entries) = words.get(log.at(0)..log.at(len)) else { return };
    for entry in entries.chunks_exact(2) {
        if let [at, to] = entry {
            let at = usize::try_from(at.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            if let Some(word) = words.get(at) {
                word.store(to.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::region::layout::Map;
    use crate::store::region::memory::Memory;

    fn region() -> (Memory, Map) {
        let map = Map::of(1 << 20).unwrap();
        (Memory::private(map.words).unwrap(), map)
    }

    fn values(memory: &Memory, words: &[usize]) -> Vec<u64> {
        words.iter().map(|word| memory[*word].load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn nothing_changes_before_the_commit_and_all_after() {
        let (memory, map) = region();
        let targets: Vec<usize> = (0..40).map(|step| map.rows.at(3) + step).collect();
        let mut writes = Writes::new(&memory, map.redo, Durability::Logged);
        for (value, word) in targets.iter().enumerate() {
            writes.put(*word, value as u64 + 1);
        }
        assert!(values(&memory, &targets).iter().all(|value| *value == 0));
        assert!(writes.commit());
        assert_eq!(values(&memory, &targets), (1..=40).collect::<Vec<u64>>());
        assert!(!recover(&memory, map.redo));
    }

    #[test]
    fn a_batch_that_stops_at_any_step_is_done_wholly_or_not_at_all() {
        let targets = 12;
        // Steps: each note (2 stores), the decision, each change. Stopping is dropping the rest.
        for stop in 0..=targets * 2 + 1 {
            let (memory, map) = region();
            let words: Vec<usize> = (0..targets).map(|step| map.rows.at(1) + step).collect();
            let mut writes = Writes::new(&memory, map.redo, Durability::Logged);
            for (step, word) in words.iter().enumerate() {
                if step < stop {
                    writes.put(*word, 7);
                }
            }
            let decided = stop > targets;
            if decided {
                memory[head::REDO].store(targets as u64, Ordering::Release);
                apply(&memory, map.redo, stop - targets - 1);
            }
            recover(&memory, map.redo);
            let after = values(&memory, &words);
            assert!(after.iter().all(|value| *value == if decided { 7 } else { 0 }), "stopped at {stop}: {after:?}");
        }
    }

    #[test]
    fn a_batch_larger_than_the_log_changes_nothing() {
        let (memory, map) = region();
        let mut writes = Writes::new(&memory, map.redo, Durability::Logged);
        for step in 0..=map.redo.count() {
            writes.put(map.rows.at(0) + step, 9);
        }
        assert!(!writes.commit());
        assert_eq!(memory[map.rows.at(0)].load(Ordering::Relaxed), 0);
    }
}
