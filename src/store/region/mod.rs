//! The region: one engine for private memory and for a mapped file, as nginx's `limit_req_zone` is one zone for its workers.
//! Fixed tables of words under one lock; each batch goes through a log, so that it is done wholly or not at all.
//!
//! Reading order: [`layout`] says where everything lies, [`lock`] and [`log`] how it is changed, [`held`] what stands at now,
//! `accounts`, `arena`, `counters`, `terms`, `holds`, `breakers` and `journal` are the tables, `apply` is the verb. A file has
//! `file` (is it ours?), `process` (who lives?), `attempt` and `evict` (what lies in history alone?) beside.

mod accounts;
mod adjust;
mod apply;
mod arena;
mod attempt;
mod breakers;
mod counters;
mod crossings;
mod drain;
mod events;
mod evict;
#[cfg(target_os = "linux")]
pub(crate) mod file;
mod fold;
mod fork;
mod futex;
mod hearing;
mod held;
mod holds;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod inspect;
mod journal;
mod keys;
mod layout;
mod lock;
mod locks;
mod log;
mod memory;
#[cfg(target_os = "linux")]
mod pending;
mod place;
#[cfg(target_os = "linux")]
mod process;
mod read;
mod terms;
mod tickets;
mod truncated;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use accounts::OTHER;
pub(crate) use attempt::Elsewhere;
pub(crate) use drain::{Counted, KeptBreaker, Unwritten};
pub(crate) use events::{Ear, What};
pub use fork::generation as fork_generation;
pub(crate) use hearing::{Crossing, Heard};

use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use attempt::{Attempt, Growing};
use held::Held;
use layout::{Map, head};
use log::Durability;
use memory::Memory;
use terms::Local;

/// The bound of a region that nobody configured, in bytes of address space; pages are committed when first touched.
pub const DEFAULT_BYTES: usize = 256 << 20;

/// How long a batch waits for the lock of a private region, whose holder is a thread of this process,
const PRIVATE_BOUND: Duration = Duration::from_secs(2);
/// and for that of a shared one, whose holder may be stopped: what must not be lost can then be put aside.
const SHARED_BOUND: Duration = Duration::from_millis(500);

/// The owner of a private region: its one slot, and its one incarnation.
const PRIVATE_OWNER: u64 = 1 << 8 | PRIVATE_SLOT as u64;
/// The slot of a private region.
const PRIVATE_SLOT: u8 = 1;

/// Counters, holds and breakers in bounded, fixed tables.
pub struct Region {
    words: Arc<Memory>,
    map: Map,
    durability: Durability,
    /// Other processes may have the same words.
    shared: bool,
    clock: Arc<dyn Clock>,
    local: Local,
    /// The fork generation that the region's lock and holds belong to.
    forks: AtomicU64,
    /// This process: its slot's incarnation << 8 | its slot.
    owner: AtomicU64,
    /// How this process stands to a shared region.
    #[cfg(target_os = "linux")]
    process: Option<process::Process>,
    /// Tickets of those who wait in this process; changed under the lock alone.
    tickets: AtomicU64,
    /// Who keeps what has no row.
    elsewhere: Option<Arc<dyn Elsewhere>>,
    /// The lock's word when it was waited for in vain.
    stuck: AtomicU64,
    /// The file is not what it was: nothing in it is to be believed.
    damaged: AtomicBool,
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

#[cfg(not(target_os = "linux"))]
impl lock::Owners for Region {
    fn is_dead(&self, _slot: u8) -> bool {
        false
    }
}

impl Region {
    /// A region on private memory of at most `bytes`.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] below 1 MiB, [`Code::StoreFull`] where the address space is not to be had.
    pub fn private(bytes: usize, clock: Arc<dyn Clock>, config: Arc<Config>) -> Result<Self> {
        Self::on_private_memory(bytes, clock, config, Durability::Direct)
    }

    /// A region whose batches go through the log, as those of a shared one do: for tests.
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
        fork::watch_private(&words);
        let region = Self::over(words, map, durability, clock, config);
        let backed = Growing::ALL.map(|table| (table.backed(), table.table(&map).count() as u64));
        region.begin(&backed);
        Ok(region)
    }

    fn over(words: Arc<Memory>, map: Map, durability: Durability, clock: Arc<dyn Clock>, config: Arc<Config>) -> Self {
        Self {
            shared: words.is_shared(),
            words,
            map,
            durability,
            clock,
            local: Local::new(config),
            forks: AtomicU64::new(fork::generation()),
            owner: AtomicU64::new(PRIVATE_OWNER),
            #[cfg(target_os = "linux")]
            process: None,
            tickets: AtomicU64::new(0),
            elsewhere: None,
            stuck: AtomicU64::new(0),
            damaged: AtomicBool::new(false),
        }
    }

    /// Writes the header of an empty region, and `more` of its words; what tells that it is one comes last.
    fn begin(&self, more: &[(usize, u64)]) {
        let first = [
            (head::VERSION, layout::VERSION),
            (head::WORDS, self.map.words as u64),
            (head::HOLD_EXPIRY, i64::MAX as u64),
            (head::EPOCH, 1),
            (head::TERMS_SINCE, 1),
        ];
        // The zone of accounts that nobody has looked up yet.
        let utc = terms::name_words("UTC");
        let utc: Vec<_> = utc.into_iter().enumerate().map(|(step, word)| (self.map.zones.at(0) + step, word)).collect();
        let last = [(head::ZONES_USED, 1), (head::MAGIC, layout::MAGIC)];
        for (word, value) in first.iter().chain(more).chain(&utc).chain(&last) {
            if let Some(place) = self.words.get(*word) {
                place.store(*value, Ordering::Release);
            }
        }
    }

    /// True where other processes may share it.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    fn elsewhere(&self) -> Option<&Arc<dyn Elsewhere>> {
        self.elsewhere.as_ref()
    }

    /// This process, as its holds name it.
    #[inline]
    pub(crate) fn owner(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }

    #[inline]
    fn slot(&self) -> u8 {
        self.owner() as u8
    }

    /// Every table: its name, its entries, and the bytes of one.
    #[must_use]
    pub fn tables(&self) -> [(&'static str, usize, usize); 19] {
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
    fn hold<'r>(&'r self, attempt: &'r Attempt) -> Result<Held<'r>> {
        let held = self.hold_now(attempt)?;
        self.expect_up_to_date(attempt)?;
        Ok(held)
    }

    /// Does something under the lock, as [`Region::hold`] has it. For what is done most: the proof of the lock stays where it
    /// was made, and moving it through results would cost as much as all that is asked here.
    #[inline(always)]
    fn holding<R>(&self, attempt: &Attempt, work: impl FnOnce(&Held<'_>) -> Result<R>) -> Result<R> {
        self.expect_arrived()?;
        let taken = self.take_whole()?;
        let held = Held::new(self, attempt, taken.guard, self.coarse_now());
        self.bring_to_now(&held, taken.took_over);
        self.expect_up_to_date(attempt)?;
        work(&held)
    }

    /// As [`Region::hold`] for who looks up nobody's limits.
    fn hold_now<'r>(&'r self, attempt: &'r Attempt) -> Result<Held<'r>> {
        self.expect_arrived()?;
        self.hold_arrived(attempt)
    }

    /// The same for a process that is known to have arrived.
    fn hold_arrived<'r>(&'r self, attempt: &'r Attempt) -> Result<Held<'r>> {
        let taken = self.take_whole()?;
        let held = Held::new(self, attempt, taken.guard, self.coarse_now());
        self.bring_to_now(&held, taken.took_over);
        Ok(held)
    }

    /// A forked child begins with a slot of its own.
    #[inline(always)]
    fn expect_arrived(&self) -> Result<()> {
        #[cfg(target_os = "linux")]
        if self.process.is_some() && self.is_new_in_child() {
            return self.arrive();
        }
        Ok(())
    }

    /// Nobody's limits are looked up in a configuration that no longer holds.
    #[inline(always)]
    fn expect_up_to_date(&self, attempt: &Attempt) -> Result<()> {
        if self.is_up_to_date() { Ok(()) } else { Err(attempt.must_follow()) }
    }

    /// What comes before any batch.
    #[inline(always)]
    fn bring_to_now(&self, held: &Held<'_>, took_over: bool) {
        if self.is_new_in_child() && !self.is_shared() {
            self.arrive_in_child(held);
        }
        held.bring_epoch();
        if took_over {
            held.look_at_what_was_told();
        }
        #[cfg(target_os = "linux")]
        if held.load(head::RINGS_PUT) != held.load(head::RINGS_TAKEN) {
            held.count_aside();
        }
        held.end_expired();
    }

    /// Takes the lock of a region that is what it was.
    #[inline(always)]
    fn take_whole(&self) -> Result<lock::Taken<'_>> {
        let taken = self.take_lock()?;
        if taken.took_over {
            // Its holder died: what it had decided is done to the end, what it had not is as if it never began.
            log::recover(&self.words, &self.map);
        }
        if self.is_sound() { Ok(taken) } else { Err(self.damage()) }
    }

    /// Waits for the lock, but not twice for the same taking of it: whoever did not go on for so long is stopped, and until it
    /// goes on nobody else waits for it.
    #[inline(always)]
    fn take_lock(&self) -> Result<lock::Taken<'_>> {
        let word = self.lock_word()?;
        let is_stuck = self.stuck.load(Ordering::Relaxed) == word.load(Ordering::Relaxed);
        let bound = match (self.is_shared(), is_stuck) {
            (false, _) => PRIVATE_BOUND,
            (true, false) => SHARED_BOUND,
            (true, true) => Duration::ZERO,
        };
        let taken = lock::take(word, self.slot(), bound, self);
        if taken.is_err() && !is_stuck {
            self.stuck.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        taken
    }

    /// Looks whether the file still is what it was. A system call.
    pub(crate) fn check(&self) -> Result<()> {
        if self.words.is_whole() && self.is_sound() {
            return Ok(());
        }
        self.give_up();
        Err(self.damage())
    }

    /// Nothing in this region is to be believed from now on, in no process, and by nobody who opens it later.
    pub(crate) fn give_up(&self) {
        self.damaged.store(true, Ordering::Relaxed);
        if let Some(magic) = self.words.get(head::MAGIC) {
            magic.store(layout::SPOILT, Ordering::Relaxed);
        }
    }

    /// The journal must not end before this number, which it had reached.
    pub(crate) fn check_journal(&self, reached: u64) -> Result<()> {
        if self.journal_ends().1 < reached {
            self.give_up();
        }
        self.check()
    }

    /// False once the file is known not to be what it was: words were lost, or others stand there.
    #[inline]
    fn is_sound(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed) && !self.words.is_torn() && self.load(head::MAGIC) == layout::MAGIC
    }

    /// Of a batch that is done, whether what it wrote is kept.
    #[inline]
    fn if_sound<R>(&self, done: R) -> Result<R> {
        if self.is_sound() { Ok(done) } else { Err(self.damage()) }
    }

    #[cold]
    fn damage(&self) -> Error {
        let message = "the store's file was truncated, replaced or written over while it was in use, and what it counted since \
                       is not to be believed: restart all services that use it, which then count on from history";
        Error::new(Code::StoreDamaged, "store", message)
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
        log::recover(&self.words, &self.map);
        self.local.arrive_in_child();
        held.stop_listening(self.slot());
        held.release_all_holds();
        held.forget_tickets();
        self.forks.store(fork::generation(), Ordering::Relaxed);
    }
}
