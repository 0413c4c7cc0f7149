//! A region's file looked at from outside, without a slot, a lock or a word written: what tests ask that kill and stop the
//! processes which use it. The numbers of a running store are of no one moment.

use std::fs::File;
use std::path::Path;

use super::accounts::{LOW, REST_CLASS};
use super::held::{RING_SIZES, Ring};
use super::layout::{Map, SLOTS, cell, head, hold, row, slot};
use super::log::State;
use super::memory::Memory;
use crate::account::Scope;
use crate::error::{Code, Error, Result};
use crate::store::HoldState;

/// A process as its slot names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its slot's incarnation << 8 | its slot, as its holds have it.
    pub owner: u64,
    /// Its id.
    pub pid: u32,
}

/// Whether everything that was taken is in use or free again. In a store that nobody uses each pair is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Rows ever taken, and those that are an account's or free.
    pub rows: (u64, u64),
    /// Lines of the arena ever taken, and those in rings, in names and in free blocks.
    pub lines: (u64, u64),
    /// Open holds as they are counted, and as they are found.
    pub holds: (u64, u64),
    /// Words in the rings of processes: written, and read again.
    pub aside: (u64, u64),
    /// Open holds that accounts count, and accounts that still have something set aside.
    pub held: (u64, u64),
    /// How far a batch is that is not done.
    pub batch: UnderWay,
    /// Slots that name a process.
    pub slots: u64,
    /// Batches that found the journal full.
    pub overflows: u64,
}

/// A batch that is not done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Accounts that it is changing and has not decided to.
    pub begun: u64,
    /// Words that it has decided to change and may not all have changed yet.
    pub decided: u64,
}

/// The file of a region.
pub struct Inspector {
    words: Memory,
    map: Map,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("words", &self.map.words).finish_non_exhaustive()
    }
}

impl Inspector {
    /// Looks at this file.
    ///
    /// # Errors
    /// [`Code::StoreDamaged`] where it cannot be opened or is no whole region.
    pub fn open(path: &Path) -> Result<Self> {
        let damaged = |why: String| Error::new(Code::StoreDamaged, "store", format!("{}: {why}", path.display()));
        let open = || File::options().read(true).write(true).open(path);
        let file = open().map_err(|error| damaged(error.to_string()))?;
        let mut header = [0; head::LEN * 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut header, 0).map_err(|error| damaged(error.to_string()))?;
        let word = |word: usize| {
            let bytes = header.get(word * 8..word * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let map = Map::of(word(head::BYTES) as usize)?;
        if word(head::WORDS) != map.words as u64 {
            return Err(damaged("it is no region of this version".to_owned()));
        }
        Ok(Self { words: Memory::mapped(file, map.words)?, map })
    }

    fn load(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |place| place.load(std::sync::atomic::Ordering::Acquire))
    }

    /// Who has the lock: its word, and the process of the slot that it names.
    #[must_use]
    pub fn holder(&self) -> Option<(u64, u32)> {
        let word = self.load(head::LOCK);
        let number = usize::from(word as u8);
        (number != 0).then(|| (word, self.load(self.map.slots.at(number) + slot::PID) as u32))
    }

    /// How far a batch is that is not done.
    #[must_use]
    pub fn batch(&self) -> UnderWay {
        let state = State::of(self.load(head::BATCH));
        UnderWay { begun: state.kept as u64, decided: state.notes as u64 }
    }

    /// Every slot that names a process, dead or alive.
    #[must_use]
    pub fn owners(&self) -> Vec<Owner> {
        let owner = |number: usize| {
            let at = self.map.slots.at(number);
            let owner = self.load(at + slot::INCARNATION) << 8 | number as u64;
            Owner { owner, pid: self.load(at + slot::PID) as u32 }
        };
        (1..SLOTS).map(owner).filter(|owner| owner.pid != 0).collect()
    }

    /// Open holds of a process.
    #[must_use]
    pub fn open_holds_of(&self, owner: u64) -> usize {
        self.open_holds().filter(|at| self.load(at + hold::OWNER) == owner).count()
    }

    fn open_holds(&self) -> impl Iterator<Item = usize> + '_ {
        let is_open =
            |at: &usize| HoldState::from_u8(self.load(at + hold::STATE) as u8).is_some_and(HoldState::is_open);
        (0..self.map.holds.count()).map(|slot| self.map.holds.at(slot)).filter(is_open)
    }

    /// Entries of the journal that history has not yet, and how many there can be.
    #[must_use]
    pub fn journal_waiting(&self) -> (u64, u64) {
        let waiting = self.load(head::JOURNAL_TAIL).saturating_sub(self.load(head::JOURNAL_DRAINED));
        (waiting, self.map.journal.count() as u64)
    }

    /// Batches that found the journal full.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.load(head::OVERFLOWS)
    }

    /// Adds everything up.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let (rows_used, lines_used) = (self.load(head::ROWS_USED), self.load(head::LINES_USED));
        let mut audit = Audit {
            rows: (
                rows_used,
                self.chain_len(self.load(head::ROWS_FREE), |row| self.load(self.row(row) + row::LINK) >> 32),
            ),
            lines: (lines_used, self.free_lines()),
            holds: (self.load(head::HOLDS_OPEN), self.open_holds().count() as u64),
            batch: self.batch(),
            slots: self.owners().len() as u64,
            overflows: self.overflows(),
            ..Audit::default()
        };
        for base in (1..=rows_used).map(|row| self.row(row)).filter(|base| self.load(base + row::HASH) != 0) {
            audit.rows.1 += 1;
            let ring = Ring::unpack(self.load(base + row::RING));
            let size = |class: usize| RING_SIZES.get(class).map_or(0, |size| *size as u64);
            audit.lines.1 += if ring.line == 0 { 0 } else { size(ring.class) };
            audit.lines.1 += if self.load(base + row::NAME_REST) == 0 { 0 } else { size(REST_CLASS) };
            let open = self.load(base + row::SEEN) & LOW;
            audit.held.0 += open;
            audit.held.1 += u64::from(open != 0 || self.sets_aside(base));
        }
        for number in 1..SLOTS {
            let at = self.map.slots.at(number);
            audit.aside.0 += self.load(at + slot::WRITTEN);
            audit.aside.1 += self.load(at + slot::READ);
        }
        audit
    }

    fn row(&self, row: u64) -> usize {
        self.map.rows.at((row as usize).saturating_sub(1).min(self.map.rows.count() - 1))
    }

    /// True where a period of an account sets something aside.
    fn sets_aside(&self, base: usize) -> bool {
        let low = [row::MINUTE_REQUESTS, row::HOUR + 1, row::DAY + cell::ERRORS, row::MONTH + cell::ERRORS];
        let whole = [row::MINUTE_HELD, row::DAY + cell::HELD_TOKENS, row::DAY + cell::HELD_COST];
        let month = [row::MONTH + cell::HELD_TOKENS, row::MONTH + cell::HELD_COST];
        low.into_iter().any(|word| self.load(base + word) & LOW != 0)
            || whole.into_iter().chain(month).any(|word| self.load(base + word) != 0)
    }

    fn free_lines(&self) -> u64 {
        let next =
            |line: u64| self.load(self.map.lines.at((line as usize).saturating_sub(1).min(self.map.lines.count() - 1)));
        let blocks = RING_SIZES.iter().enumerate();
        blocks.map(|(class, size)| self.chain_len(self.load(head::LINES_FREE + class), next) * *size as u64).sum()
    }

    /// How many entries a list has; far too many where it runs in a circle.
    fn chain_len(&self, first: u64, next: impl Fn(u64) -> u64) -> u64 {
        let most = self.map.words;
        std::iter::successors(Some(first), |at| Some(next(*at))).take_while(|at| *at != 0).take(most).count() as u64
    }

    /// Where the counters of an account inside no other lie in the file (bytes): its day's tokens. For tests that falsify them.
    #[must_use]
    pub fn tokens_today(&self, scope: Scope, name: &str) -> Option<u64> {
        let names = |base: &usize| {
            let key = self.load(base + row::KEY);
            let words = (0..row::NAME_WORDS).flat_map(|step| self.load(base + row::NAME + step).to_le_bytes());
            self.load(base + row::HASH) != 0 && key as u8 == scope as u8 && words.take(name.len()).eq(name.bytes())
        };
        let base = (1..=self.load(head::ROWS_USED)).map(|row| self.row(row)).find(names)?;
        Some(((base + row::DAY + cell::TOKENS) * size_of::<u64>()) as u64)
    }
}
