//! What a batch may have to be tried again for: an account that only history has, or a table that needs more bytes of the
//! disk. Both take I/O, which nobody does under the lock: the batch ends with nothing changed, says what it wants, and is
//! tried again when that is there.

use std::cell::{Cell, RefCell};

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::Region;
use super::held::{Held, View};
use super::keys;
use super::layout::{EVICTED_STRIPES, Table, head};
use crate::account::{AccountId, Chain, MAX_CHAIN, Scope};
use crate::error::{Code, Error, Result};
use crate::store::history::{Listed, Saved};

/// How often a batch is tried again before its last error is told.
const TRIES: usize = 64;
/// How long a batch waits for history, where a clock was set.
const HISTORY_BOUND: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_millis(5);
/// Bytes of an extent.
const EXTENT_BYTES: usize = 1 << 20;

/// Whoever keeps accounts that have no row.
pub(crate) trait Elsewhere: Send + Sync + std::fmt::Debug {
    /// What is kept of each account, with the periods that contain `wall`; `None` where nothing is.
    ///
    /// # Errors
    /// Those of the keeper.
    fn saved(&self, accounts: &[AccountId<'_>], wall: i64) -> Result<Vec<Option<Saved>>>;

    /// Every account of a scope inside an owner that is kept.
    ///
    /// # Errors
    /// Those of the keeper.
    fn accounts(&self, scope: Scope, owner: &str, wall: i64) -> Result<Vec<Listed>>;

    /// Takes the configuration that was published last.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn follow(&self) -> Result<()>;

    /// This process has become another one's child, and now has a slot of its own.
    fn arrived(&self);
}

#[cold]
pub(super) fn not_known_here() -> Error {
    Error::new(Code::StoreBusy, "store", "an account has to be read back from history first")
}

/// What a batch needs before it can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// What history has of the chain's accounts.
    Saved,
    /// The same, once it has all that has happened.
    SavedLately,
    /// The configuration that was published last.
    Config,
    /// More entries of a table.
    Extent(Growing),
}

/// The tables whose bytes are taken from the disk as they fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growing {
    Rows,
    Lines,
    Holds,
}

impl Growing {
    pub(super) const ALL: [Growing; 3] = [Growing::Rows, Growing::Lines, Growing::Holds];

    /// The word that says how many entries have bytes.
    pub(super) const fn backed(self) -> usize {
        match self {
            Growing::Rows => head::ROWS_BACKED,
            Growing::Lines => head::LINES_BACKED,
            Growing::Holds => head::HOLDS_BACKED,
        }
    }

    pub(super) const fn table(self, map: &super::layout::Map) -> Table {
        match self {
            Growing::Rows => map.rows,
            Growing::Lines => map.lines,
            Growing::Holds => map.holds,
        }
    }
}

/// An account that was looked up in history.
#[derive(Debug)]
struct Looked {
    hash: u64,
    /// What the count of evictions was before the look.
    evicted: u64,
    /// History had all that had happened.
    lately: bool,
    saved: Option<Saved>,
}

/// One batch, from its first try to its last.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    need: Cell<Option<Need>>,
    looked: RefCell<ArrayVec<Looked, MAX_CHAIN>>,
    /// Why the disk gives no more.
    no_extent: RefCell<Option<Error>>,
}

impl Attempt {
    pub(super) fn wants(&self, need: Need) {
        self.need.set(Some(need));
    }

    /// What was wanted was for somebody else.
    pub(super) fn forget_need(&self) {
        self.need.set(None);
    }

    /// Why a batch cannot go on: another configuration was published.
    #[cold]
    pub(super) fn must_follow(&self) -> Error {
        self.wants(Need::Config);
        Error::new(Code::StoreBusy, "store", "another configuration has to be read first")
    }

    /// Why a batch cannot go on: it has to be tried again, or else `otherwise`.
    #[cold]
    pub(super) fn why_not(&self, otherwise: impl FnOnce() -> Error) -> Error {
        if self.is_waiting() { not_known_here() } else { otherwise() }
    }

    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.need.get().is_some()
    }
}

impl View<'_> {
    /// True where history may have an account of this hash.
    pub(super) fn may_be_stored(&self, hash: u64) -> bool {
        let [left, right] = self.stored_bits(hash);
        self.load(left.0) & left.1 != 0 && self.load(right.0) & right.1 != 0
    }

    /// The two bits of a hash, as words and masks.
    pub(super) fn stored_bits(&self, hash: u64) -> [(usize, u64); 2] {
        let table = self.map().stored;
        [hash.rotate_left(20), hash.rotate_left(47)].map(|hash| {
            let word = (hash >> 6) as usize & (table.count() - 1);
            (table.at(word), 1 << (hash & 63))
        })
    }

    /// The word that counts the evictions of hashes like this.
    pub(super) fn evicted_of(&self, hash: u64) -> usize {
        self.map().evicted.at((hash >> 32) as usize & (EVICTED_STRIPES - 1))
    }
}

impl Held<'_> {
    /// What history has of an account that has no row; wants to be told where nobody has looked yet.
    ///
    /// # Errors
    /// Where the batch has to be tried again.
    pub(super) fn saved(&self, hash: u64) -> Result<Option<Saved>> {
        if !self.may_be_stored(hash) {
            return Ok(None);
        }
        let evicted = self.load(self.evicted_of(hash));
        let looked = self.attempt.looked.borrow();
        match looked.iter().find(|looked| looked.hash == hash && looked.evicted == evicted) {
            Some(looked) => Ok(looked.saved.clone()),
            None => {
                self.attempt.wants(Need::Saved);
                Err(not_known_here())
            }
        }
    }

    /// What history has of an account that is here, with all that has happened; `None` where nobody has looked yet, which is then
    /// wanted.
    pub(super) fn saved_lately(&self, hash: u64) -> Option<Option<Saved>> {
        let looked = self.attempt.looked.borrow();
        let found =
            looked.iter().find(|looked| looked.hash == hash && looked.lately).map(|looked| looked.saved.clone());
        if found.is_none() {
            self.attempt.wants(Need::SavedLately);
        }
        found
    }

    /// True where an entry of a growing table has its bytes; else more are wanted, or are not to be had.
    pub(super) fn is_backed(&self, table: Growing, entry: u64) -> bool {
        if entry < self.load(table.backed()) {
            return true;
        }
        if self.attempt.no_extent.borrow().is_none() {
            self.attempt.wants(Need::Extent(table));
        }
        false
    }
}

impl Region {
    /// Tries a batch again and again, as long as what it needs can be had.
    #[cold]
    pub(super) fn again<R>(
        &self,
        attempt: &Attempt,
        first: Error,
        chain: Option<&Chain<'_>>,
        work: impl Fn() -> Result<R>,
    ) -> Result<R> {
        let mut last = first;
        for _ in 0..TRIES {
            match attempt.need.take() {
                None => return Err(attempt.no_extent.take().unwrap_or(last)),
                Some(Need::Saved) => self.look(attempt, chain)?,
                Some(Need::SavedLately) => {
                    self.wait_for_history()?;
                    self.look_at(attempt, chain, true)?;
                }
                Some(Need::Config) => self.elsewhere().map_or(Ok(()), |elsewhere| elsewhere.follow())?,
                Some(Need::Extent(table)) => {
                    if let Err(error) = self.grow(table) {
                        attempt.no_extent.replace(Some(error));
                    }
                }
            }
            match work() {
                Ok(done) => return Ok(done),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads what history has of a chain's accounts.
    pub(super) fn look(&self, attempt: &Attempt, chain: Option<&Chain<'_>>) -> Result<()> {
        let (drained, tail) = self.journal_ends();
        self.look_at(attempt, chain, drained == tail)
    }

    /// The same; `lately` where history has all that had happened by now.
    fn look_at(&self, attempt: &Attempt, chain: Option<&Chain<'_>>, lately: bool) -> Result<()> {
        let (Some(elsewhere), Some(chain)) = (self.elsewhere(), chain) else { return Ok(()) };
        let accounts = chain.accounts();
        let view = View::new(self, self.coarse_now());
        let mut looked: ArrayVec<Looked, MAX_CHAIN> = keys::hashes_of(chain)
            .map(|hash| Looked { hash, evicted: self.load(view.evicted_of(hash)), lately, saved: None })
            .collect();
        // The counts are read before history is: what is evicted from here on shows.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let found = elsewhere.saved(accounts, view.now.wall)?;
        for (looked, saved) in looked.iter_mut().zip(found) {
            looked.saved = saved;
        }
        attempt.looked.replace(looked);
        Ok(())
    }

    /// Waits until history has all that has happened before.
    fn wait_for_history(&self) -> Result<()> {
        let until = self.want_drained()?;
        let began = Instant::now();
        while self.journal_ends().0 < until {
            if began.elapsed() > HISTORY_BOUND {
                let message = "the clock was set, and what had been counted in this period has to be read from history, which is \
                               not written: see `llmquota doctor`";
                return Err(Error::new(Code::StoreBusy, "history", message));
            }
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Gives a table more bytes of the disk.
    fn grow(&self, growing: Growing) -> Result<()> {
        let table = growing.table(&self.map);
        #[cfg(target_os = "linux")]
        let own = self.process.as_ref().map(super::process::Process::own).transpose()?;
        #[cfg(target_os = "linux")]
        let _mine = own.as_ref().map(|own| own.growing.lock());
        let backed = self.load(growing.backed()) as usize;
        let more = (EXTENT_BYTES / 8 / (table.at(1) - table.at(0))).max(1);
        let until = (backed + more).min(table.count());
        if until == backed {
            return Ok(());
        }
        self.words.back(table.at(backed)..table.at(until))?;
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        if (held.load(growing.backed()) as usize) < until {
            let mut writes = held.writes();
            writes.put(growing.backed(), until as u64);
            // One word always fits the log.
            let _done = writes.commit();
        }
        Ok(())
    }
}
