//! The region: one engine for private memory now and for a mapped file later, as nginx's `limit_req_zone` is one zone for its
//! workers. Fixed tables of words under one lock; each batch goes through a redo log, so that it is done wholly or not at all.
//!
//! Reading order: [`layout`] says where everything lies, [`lock`] and [`redo`] how it is changed, [`held`] what stands at now,
//! `accounts`, `arena`, `counters`, `terms`, `holds` and `breakers` are the tables, `apply` is the verb.

mod accounts;
mod adjust;
mod apply;
mod arena;
mod breakers;
mod counters;
mod fork;
mod held;
mod holds;
mod layout;
mod lock;
mod locks;
mod memory;
mod place;
mod read;
mod redo;
mod terms;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use accounts::OTHER;
pub use fork::generation as fork_generation;

use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use held::Held;
use layout::{Map, head};
use memory::Memory;
use redo::Durability;
use terms::Local;

/// The bound of a region that nobody configured, in bytes of address space; pages are committed when first touched.
pub const DEFAULT_BYTES: usize = 256 << 20;

/// How long a batch waits for the lock.
const LOCK_BOUND: Duration = Duration::from_secs(2);

/// This process's slot; each process of a shared region will have its own.
const SLOT: u8 = 1;

/// Counters, holds and breakers in bounded, fixed tables.
pub struct Region {
    words: Arc<Memory>,
    map: Map,
    durability: Durability,
    clock: Arc<dyn Clock>,
    local: Local,
    /// The fork generation that the region's lock and holds belong to.
    forks: AtomicU64,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("words", &self.map.words).field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// Figures of the tables, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Accounts that have a row.
    pub accounts: u64,
    /// The most there can be.
    pub accounts_bound: u64,
    /// Accounts and calls that were counted in their workspace's `other`, for want of room.
    pub folded: u64,
}

impl Region {
    /// A region on private memory of at most `bytes`.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] below 1 MiB, [`Code::StoreFull`] where the address space is not to be had.
    pub fn private(bytes: usize, clock: Arc<dyn Clock>, config: Arc<Config>) -> Result<Self> {
        Self::on_private_memory(bytes, clock, config, Durability::Direct)
    }

    /// A region whose batches go through the redo log, as those of a shared one will: for tests.
    ///
    /// # Errors
    /// As [`Region::private`].
    #[doc(hidden)]
    pub fn logged(bytes: usize, clock: Arc<dyn Clock>, config: Arc<Config>) -> Result<Self> {
        Self::on_private_memory(bytes, clock, config, Durability::Logged)
    }

    fn on_private_memory(
        bytes: usize,
        clock: Arc<dyn Clock>,
        config: Arc<Config>,
        durability: Durability,
    ) -> Result<Self> {
        let map = Map::of(bytes)?;
        let words = Arc::new(Memory::private(map.words)?);
        fork::watch(&words);
        let forks = AtomicU64::new(fork::generation());
        let region = Self { words, map, durability, clock, local: Local::new(config), forks };
        for (word, value) in [
            (head::VERSION, layout::VERSION),
            (head::WORDS, map.words as u64),
            (head::HOLD_EXPIRY, i64::MAX as u64),
            (head::EPOCH, 1),
            (head::MAGIC, layout::MAGIC),
        ] {
            if let Some(place) = region.words.get(word) {
                place.store(value, Ordering::Release);
            }
        }
        Ok(region)
    }

    /// Every table: its name, its entries, and the bytes of one.
    #[must_use]
    pub fn tables(&self) -> [(&'static str, usize, usize); 10] {
        self.map.tables()
    }

    /// How full the tables are.
    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill {
            accounts: self.load(head::ROWS_USED),
            accounts_bound: self.map.rows.count() as u64,
            folded: self.load(head::FOLDED),
        }
    }

    /// A word; 0 outside of the region, which only a damaged one asks for.
    #[inline]
    fn load(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    fn lock_word(&self) -> Result<&AtomicU64> {
        self.words.get(head::LOCK).ok_or_else(|| Error::new(Code::StoreDamaged, "store", "the region has no lock word"))
    }

    /// Takes the lock and reads the clock under it, so that batches stand in the order of their times.
    fn hold(&self) -> Result<Held<'_>> {
        let guard = lock::take(self.lock_word()?, SLOT, LOCK_BOUND, &lock::Immortal)?.guard;
        let held = Held::new(self, guard, self.coarse_now());
        if self.is_new_in_child() {
            self.arrive_in_child(&held);
        }
        held.bring_epoch();
        held.end_expired();
        Ok(held)
    }

    /// True in a forked child before its first batch.
    #[inline]
    fn is_new_in_child(&self) -> bool {
        self.forks.load(Ordering::Relaxed) != fork::generation()
    }

    /// The cheap time; the exact one while the cheap one lags behind a time that a batch has already had. Buckets lie in the
    /// order of their seconds, so time must not go back from batch to batch.
    #[inline]
    fn coarse_now(&self) -> Now {
        let coarse = self.clock.coarse();
        if coarse.mono < self.load(head::LATEST) as i64 { self.clock.exact() } else { coarse }
    }

    fn exact_now(&self) -> Now {
        self.clock.exact()
    }

    /// The first batch in a forked child, under the lock, which the fork itself has freed: the memory is a copy, the other
    /// threads of the parent do not exist here. What a thread was in the middle of is done to its end; the open holds are the
    /// parent's, whose copy counts them.
    #[cold]
    fn arrive_in_child(&self, held: &Held<'_>) {
        redo::recover(&self.words, self.map.redo);
        self.local.arrive_in_child();
        held.release_all_holds();
        self.forks.store(fork::generation(), Ordering::Relaxed);
    }
}
