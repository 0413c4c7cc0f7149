//! The log, by which a batch is done wholly or not at all though its process may be killed between any two stores.
//!
//! What a batch changes here and there is noted as it will be, and changed once the batch is decided. An account's counters lie
//! together and are changed at once, after an image was kept of what they were: most of a batch's words, and an image is
//! cheaper than a note a word. One word says how far the batch is: with notes it is decided, and whoever finds it changes what
//! is noted; with images alone it is not, and whoever finds it puts back what was kept.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::accounts::LOW;
use super::held::Entry;
use super::layout::{LOGS, Map, Table, bucket, head, image, row};

/// Whether a batch goes through the log. Private memory dies with its process, and a fork waits for the lock, so nobody ever
/// finds a batch half done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Words change as they are noted.
    Direct,
    /// Words change at the commit, through the log.
    Logged,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Which of the logs it has.
    log: usize,
    /// Images kept.
    pub(super) kept: usize,
    /// Words that are noted, once it is decided.
    pub(super) notes: usize,
}

impl State {
    #[inline(always)]
    const fn word(self) -> u64 {
        (self.log as u64) << 48 | (self.kept as u64) << 32 | self.notes as u64
    }

    pub(super) const fn of(word: u64) -> Self {
        Self { log: (word >> 48) as usize % LOGS, kept: (word >> 32) as u16 as usize, notes: (word & LOW) as usize }
    }
}

/// One batch's writes. Each word at most once, and none that the batch reads later: whether words change when noted or at
/// the commit must make no difference.
#[derive(Debug)]
pub(super) struct Writes<'a> {
    words: &'a [AtomicU64],
    map: &'a Map,
    durability: Durability,
    /// Which of the logs it has.
    log: usize,
    images: Table,
    /// Images kept.
    kept: usize,
    notes: Table,
    /// What is left of the notes' words.
    free: &'a [AtomicU64],
    overflow: bool,
    #[cfg(debug_assertions)]
    _only: only::Only,
}

/// A process has one log: a batch that begins before another is committed writes over what that one has noted.
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

/// The words of the first entries of a table; none in a region that is too short for them.
fn first_of(words: &[AtomicU64], table: Table, count: usize) -> &[AtomicU64] {
    words.get(table.at(0)..table.at(count.min(table.count()))).unwrap_or_default()
}

impl<'a> Writes<'a> {
    /// For the process of `slot`.
    pub(super) fn new(words: &'a [AtomicU64], map: &'a Map, durability: Durability, slot: u8) -> Self {
        let log = usize::from(slot) % LOGS;
        let (images, notes) = (map.images.part(log), map.notes.part(log));
        let free = first_of(words, notes, usize::MAX);
        Self {
            words,
            map,
            durability,
            log,
            images,
            kept: 0,
            notes,
            free,
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

    /// Keeps an image of an account's row, and of a bucket of its minute: from here on the batch changes them in their place.
    /// False, and they must not be changed, where the log has no room.
    #[must_use]
    #[inline(always)]
    pub(super) fn keep(&mut self, row: &Entry<'_, { row::LEN }>, minute: Option<&Entry<'_, { bucket::LEN }>>) -> bool {
        self.durability == Durability::Direct || self.keep_image(row, minute)
    }

    #[inline(always)]
    fn keep_image(&mut self, row: &Entry<'_, { row::LEN }>, minute: Option<&Entry<'_, { bucket::LEN }>>) -> bool {
        let image = self.images.at(self.kept);
        let (Some(names), Some(of_row), Some(of_minute), Some(state)) = (
            Entry::<{ image::ROW_WORDS }>::of(self.words, image),
            Entry::of(self.words, image + image::ROW_WORDS),
            Entry::of(self.words, image + image::BUCKET_WORDS),
            self.words.get(head::BATCH),
        ) else {
            return false;
        };
        if self.overflow || self.kept == self.images.count() {
            self.overflow = true;
            return false;
        }
        names.put(image::ROW, row.base as u64);
        names.put(image::BUCKET, minute.map_or(0, |minute| minute.base as u64));
        copy(row, &of_row);
        if let Some(minute) = minute {
            copy(minute, &of_minute);
        }
        self.kept += 1;
        // No word may change before its image is kept and the log says so.
        state.store(self.state(0).word(), Ordering::Release);
        fence(Ordering::Release);
        true
    }

    /// How many words are noted.
    fn noted(&self) -> usize {
        self.notes.count() - self.free.len() / 2
    }

    /// How far it is, with so many notes decided.
    const fn state(&self, notes: usize) -> State {
        State { log: self.log, kept: self.kept, notes }
    }

    /// Changes what is noted. False, and nothing changed, where the log had no room for it all.
    #[must_use]
    pub(super) fn commit(mut self) -> bool {
        if self.durability == Durability::Direct {
            return true;
        }
        let Some(state) = self.words.get(head::BATCH) else { return false };
        if self.overflow {
            return false;
        }
        let notes = self.noted();
        // The decision: without notes there is nothing more to do.
        self.kept = 0;
        let decided = if notes == 0 { 0 } else { self.state(notes).word() };
        state.store(decided, Ordering::Release);
        if notes != 0 {
            // No word may change before the log says so, nor the log be taken up again before it is done: whoever finds it after
            // a kill between the two would find half of a batch.
            fence(Ordering::Release);
            change(self.words, self.notes, notes);
            state.store(0, Ordering::Release);
        }
        fence(Ordering::Release);
        true
    }
}

/// A cache line's words.
const LINE: usize = 8;

/// Copies an entry of whole lines into an image, in loads and stores as wide as the machine has them: word by word, keeping an
/// image would cost twice as much.
#[inline(always)]
#[allow(unsafe_code)]
fn copy<const LEN: usize>(from: &Entry<'_, LEN>, to: &Entry<'_, LEN>) {
    const { assert!(LEN.is_multiple_of(LINE), "an entry of whole lines") };
    let (from, to) = (from.as_ptr().cast::<[u64; LINE]>(), to.as_ptr().cast_mut().cast::<[u64; LINE]>());
    for line in 0..LEN / LINE {
        // SAFETY: both have LEN words, which are aligned and live, and may be changed through a shared reference. Writes exist under
        // the lock alone, and only its holder writes to rows and buckets, and reads or writes images: no access of another
        // thread or process that is a write, or beside this write, comes at the same time.
        unsafe { to.add(line).write(from.add(line).read()) };
    }
}

/// A batch that was not committed changes nothing.
impl Drop for Writes<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.kept != 0 {
            recover(self.words, self.map);
        }
    }
}

/// Does again what a batch had decided when it was stopped, or takes back what one had begun without deciding it. True where there
/// was something.
#[cold]
pub(super) fn recover(words: &[AtomicU64], map: &Map) -> bool {
    let Some(state) = words.get(head::BATCH) else { return false };
    let State { log, kept, notes } = State::of(state.load(Ordering::Acquire));
    if notes != 0 {
        change(words, map.notes.part(log), notes);
    } else if kept != 0 {
        put_back(words, map.images.part(log), kept);
    } else {
        return false;
    }
    state.store(0, Ordering::Release);
    fence(Ordering::Release);
    true
}

/// Changes the words of the first notes.
#[inline]
fn change(words: &[AtomicU64], notes: Table, count: usize) {
    for note in first_of(words, notes, count).chunks_exact(2) {
        if let [at, to] = note {
            let at = usize::try_from(at.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            if let Some(word) = words.get(at) {
                word.store(to.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

/// Makes rows and buckets what the first images say.
fn put_back(words: &[AtomicU64], images: Table, count: usize) {
    // The last first, as everything that is taken back.
    for kept in first_of(words, images, count).chunks_exact(image::LEN).rev() {
        let part = |base: usize, first: usize, len: usize| {
            let base = kept.get(base).map_or(0, |base| base.load(Ordering::Relaxed));
            let base = usize::try_from(base).unwrap_or(usize::MAX);
            // 0 names none, and is the header, whose words are no account's.
            let places = if base == 0 { &[] } else { words.get(base..).unwrap_or_default() };
            for (place, was) in places.iter().zip(kept.iter().skip(first).take(len)) {
                place.store(was.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        };
        part(image::ROW, image::ROW_WORDS, row::LEN);
        part(image::BUCKET, image::BUCKET_WORDS, bucket::LEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::region::memory::Memory;

    /// Not of the first log.
    const SLOT: u8 = 11;

    fn region() -> (Memory, Map) {
        let map = Map::of(1 << 20).unwrap();
        (Memory::private(map.words).unwrap(), map)
    }

    fn values(memory: &Memory, words: &[usize]) -> Vec<u64> {
        words.iter().map(|word| memory[*word].load(Ordering::Relaxed)).collect()
    }

    fn entry<const LEN: usize>(memory: &Memory, base: usize) -> Entry<'_, LEN> {
        Entry::of(memory, base).unwrap()
    }

    #[test]
    fn nothing_changes_before_the_commit_and_all_after() {
        let (memory, map) = region();
        let targets: Vec<usize> = (0..40).map(|step| map.rows.at(3) + step).collect();
        let mut writes = Writes::new(&memory, &map, Durability::Logged, SLOT);
        for (value, word) in targets.iter().enumerate() {
            writes.put(*word, value as u64 + 1);
        }
        assert!(values(&memory, &targets).iter().all(|value| *value == 0));
        assert!(writes.commit());
        assert_eq!(values(&memory, &targets), (1..=40).collect::<Vec<u64>>());
        assert!(!recover(&memory, &map));
    }

    /// Every word of three accounts' rows and buckets, and some words elsewhere, each at its own number.
    fn of_three(memory: &Memory, map: &Map) -> Vec<usize> {
        let rows = (1..=3).flat_map(|account| (0..row::LEN).map(move |word| (account, word)));
        let buckets = (1..=3).flat_map(|account| (0..bucket::LEN).map(move |word| (account, word)));
        let words: Vec<usize> = rows
            .map(|(account, word)| map.rows.at(account) + word)
            .chain(buckets.map(|(account, word)| map.lines.at(account) + word))
            .chain((0..5).map(|word| map.past.at(2) + word))
            .collect();
        for (number, word) in words.iter().enumerate() {
            memory[*word].store(number as u64, Ordering::Relaxed);
        }
        words
    }

    /// The steps of a batch over them, each ending with what a kill leaves: images and changes in place, notes, the decision, and
    /// each change of what was noted.
    fn batch_until(stop: usize, memory: &Memory, map: &Map) -> usize {
        let mut steps = 0;
        let mut step = || {
            steps += 1;
            steps <= stop
        };
        let mut writes = Writes::new(memory, map, Durability::Logged, SLOT);
        for account in 1..=3 {
            let row = entry::<{ row::LEN }>(memory, map.rows.at(account));
            let minute = entry::<{ bucket::LEN }>(memory, map.lines.at(account));
            if step() {
                assert!(writes.keep(&row, Some(&minute)));
            }
            for word in 0..row::LEN {
                if step() {
                    row.put(word, row.load(word) + 1_000);
                }
            }
            for word in 0..bucket::LEN {
                if step() {
                    minute.put(word, minute.load(word) + 1_000);
                }
            }
        }
        for word in 0..5 {
            if step() {
                let at = map.past.at(2) + word;
                writes.put(at, memory[at].load(Ordering::Relaxed) + 1_000);
            }
        }
        let state = &memory[head::BATCH];
        let decided = State { kept: 0, ..writes.state(writes.noted()) };
        if step() {
            state.store(decided.word(), Ordering::Release);
        }
        for note in 1..=5 {
            if step() {
                change(memory, writes.notes, note);
            }
        }
        if step() {
            state.store(0, Ordering::Release);
        }
        // A killed process drops nothing.
        writes.kept = 0;
        steps
    }

    #[test]
    fn a_batch_that_stops_at_any_step_is_done_wholly_or_not_at_all() {
        let (memory, map) = region();
        let _words = of_three(&memory, &map);
        let steps = batch_until(usize::MAX, &memory, &map);
        let decided = steps - 6;
        for stop in 0..=steps {
            let (memory, map) = region();
            let words = of_three(&memory, &map);
            batch_until(stop, &memory, &map);
            recover(&memory, &map);
            let more = if stop >= decided { 1_000 } else { 0 };
            let expected: Vec<u64> = (0..words.len() as u64).map(|number| number + more).collect();
            assert_eq!(values(&memory, &words), expected, "stopped at {stop} of {steps}");
            assert!(!recover(&memory, &map));
        }
    }

    #[test]
    fn who_recovers_may_stop_at_any_step_too() {
        let (memory, map) = region();
        let words = of_three(&memory, &map);
        batch_until(100, &memory, &map);
        for count in 0..=2 {
            put_back(&memory, map.images.part(usize::from(SLOT) % LOGS), count);
        }
        recover(&memory, &map);
        assert_eq!(values(&memory, &words), (0..words.len() as u64).collect::<Vec<u64>>());
    }

    #[test]
    fn a_batch_larger_than_the_log_changes_nothing() {
        let (memory, map) = region();
        let words = of_three(&memory, &map);
        let mut writes = Writes::new(&memory, &map, Durability::Logged, SLOT);
        let row = entry::<{ row::LEN }>(&memory, map.rows.at(1));
        assert!(writes.keep(&row, None));
        row.put(row::VERSION, 77);
        for step in 0..=map.notes.part(0).count() {
            writes.put(map.rows.at(4) + step, 9);
        }
        assert!(!writes.commit());
        assert_eq!(memory[map.rows.at(4)].load(Ordering::Relaxed), 0);
        assert_eq!(values(&memory, &words), (0..words.len() as u64).collect::<Vec<u64>>());
    }

    #[test]
    fn no_more_accounts_are_changed_than_images_are_kept() {
        let (memory, map) = region();
        let mut writes = Writes::new(&memory, &map, Durability::Logged, SLOT);
        let row = entry::<{ row::LEN }>(&memory, map.rows.at(1));
        for _ in 0..map.images.part(0).count() {
            assert!(writes.keep(&row, None));
        }
        assert!(!writes.keep(&row, None));
        assert!(!writes.commit());
    }

    #[test]
    fn a_batch_that_is_dropped_changes_nothing() {
        let (memory, map) = region();
        let words = of_three(&memory, &map);
        let mut writes = Writes::new(&memory, &map, Durability::Logged, SLOT);
        let (row, minute) = (entry(&memory, map.rows.at(2)), entry(&memory, map.lines.at(2)));
        assert!(writes.keep(&row, Some(&minute)));
        row.put(row::VERSION, 77);
        minute.put(bucket::TOKENS, 77);
        writes.put(map.past.at(2), 77);
        drop(writes);
        assert_eq!(values(&memory, &words), (0..words.len() as u64).collect::<Vec<u64>>());
        assert!(!recover(&memory, &map));
    }
}
