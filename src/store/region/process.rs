//! The processes of a shared region: each owns a slot, and a lock of the operating system on that slot's byte, so that the
//! kernel tells of its death. Whoever finds a dead one ends its holds, as the hold table says.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::attempt::Attempt;
use super::held::Held;
use super::keys::words_of;
use super::layout::{Map, SLOTS, head, hold, slot};
use super::locks::Locks;
use super::{Region, fork, lock, log, place};
use crate::error::{Code, Error, Result};
use crate::store::HoldId;

/// The byte that whoever opens the store, or changes what all share, has locked.
pub(super) const OPENING: u64 = 0;
/// The byte of whoever keeps history.
const KEEPING: u64 = SLOTS as u64;
/// The byte of whoever changes the published configuration.
const CONFIGURING: u64 = KEEPING + 1;
/// The bits of an incarnation, which stands before a slot's number in a word.
const INCARNATIONS: u64 = u64::MAX >> 8;
/// How long somebody else may take to open the store.
const OPENING_BOUND: Duration = Duration::from_secs(20);
/// The name of the file whose bytes are locked.
const LOCK_FILE: &str = "lock";

/// Whoever comes then cannot know who lives.
const LOCK_IS_GONE: &str = "the store's lock file was deleted or replaced while it was in use: its processes count on, but no other \
                            can join them; restart them all";

/// A process that has a shared store open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessInfo {
    /// Its slot.
    pub(crate) slot: u8,
    /// Its id.
    pub(crate) pid: u32,
    /// The version of the package that it runs.
    pub(crate) package: String,
    /// It is the one that asks.
    pub(crate) is_self: bool,
}

/// What one process has of a shared region; a forked child makes its own.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) locks: Arc<Locks>,
    /// Of two threads that want more of the disk, one asks for it.
    pub(super) growing: Mutex<()>,
    /// One thread at a time writes to the process's ring.
    pub(super) ring: Mutex<()>,
    /// One thread at a time changes the published configuration.
    configuring: Mutex<()>,
}

impl Own {
    fn new(locks: Arc<Locks>) -> Self {
        Self { locks, growing: Mutex::default(), ring: Mutex::default(), configuring: Mutex::default() }
    }
}

/// How this process stands to a shared region.
#[derive(Debug)]
pub(super) struct Process {
    directory: PathBuf,
    own: ArcSwapOption<Own>,
    /// The fork generation that has arrived << 1 | one is arriving.
    arriving: AtomicU64,
}

impl Process {
    pub(super) fn new(directory: &Path) -> Self {
        let arriving = AtomicU64::new(fork::generation() << 1);
        Self { directory: directory.to_owned(), own: ArcSwapOption::empty(), arriving }
    }

    /// This process's own part.
    ///
    /// # Errors
    /// [`Code::StoreBusy`] before it has claimed a slot.
    pub(super) fn own(&self) -> Result<Arc<Own>> {
        self.own.load_full().ok_or_else(|| Error::new(Code::StoreBusy, "store", "this process has no slot yet"))
    }

    /// Opens the lock file. Nothing is claimed yet.
    ///
    /// # Errors
    /// As [`Locks::open`].
    pub(super) fn open_locks(directory: &Path) -> Result<Arc<Locks>> {
        fork::open_shared(|| Locks::open(&directory.join(LOCK_FILE)))
    }

    /// Waits for its turn to open the store.
    ///
    /// # Errors
    /// [`Code::StoreBusy`] where another process takes too long.
    pub(super) fn lock_opening(locks: &Locks) -> Result<()> {
        if locks.lock_for(OPENING, OPENING_BOUND)? {
            return Ok(());
        }
        let message = format!("another process has been opening this store for {} s", OPENING_BOUND.as_secs());
        Err(Error::new(Code::StoreBusy, "store", message))
    }

    /// A process that has the region of this header open, by its own word: it is there still, and began when it said so. Where
    /// the file of locks is another one than it has, the kernel does not tell of it.
    pub(super) fn still_there(word: impl Fn(usize) -> u64, map: &Map) -> Option<u32> {
        (1..SLOTS).find_map(|number| {
            let at = map.slots.at(number);
            let pid = u32::try_from(word(at + slot::PID)).ok().filter(|pid| *pid != 0 && *pid != std::process::id())?;
            (place::process_start(pid) == Some(word(at + slot::STARTED))).then_some(pid)
        })
    }

    /// True where some process has a slot.
    pub(super) fn anybody_lives(locks: &Locks) -> Result<bool> {
        for slot in 1..SLOTS as u64 {
            if locks.is_locked_by_another(slot)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl lock::Owners for Region {
    fn is_dead(&self, slot: u8) -> bool {
        let Some(process) = &self.process else { return false };
        // Where nobody can tell, everybody lives: a wait then ends at its bound.
        let dead = |own: &Own| own.locks.is_locked_by_another(u64::from(slot)).is_ok_and(|locked| !locked);
        slot != self.slot() && process.own().is_ok_and(|own| dead(&own))
    }
}

impl Region {
    /// Claims a slot for this process. The opening byte is locked, or the process is a child of one that had it.
    pub(super) fn claim(&self, locks: Arc<Locks>) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        if locks.identity()? != (self.load(head::LOCK_DEVICE), self.load(head::LOCK_INODE)) {
            return Err(Error::new(Code::StoreDamaged, "store", LOCK_IS_GONE));
        }
        for slot in 1..SLOTS as u64 {
            if !locks.try_lock(slot)? {
                continue;
            }
            let number = slot as u8;
            let at = self.map.slots.at(slot as usize);
            let incarnation = self.load(at + slot::INCARNATION).wrapping_add(1) & INCARNATIONS;
            // From here on nobody asks the kernel for the one that had the slot before.
            self.owner.store(incarnation << 8 | u64::from(number), Ordering::Release);
            process.own.store(Some(Arc::new(Own::new(locks))));
            let guard = lock::claim_inherited(self.lock_word()?, number);
            if guard.is_some() {
                log::recover(&self.words, &self.map);
            }
            drop(guard);
            let attempt = Attempt::default();
            let held = self.hold_arrived(&attempt)?;
            held.end_holds_of(number, incarnation);
            held.end_tickets_of(number, incarnation);
            held.stop_listening(number);
            held.look_at_what_was_told();
            let mut writes = held.writes();
            writes.put(at + slot::PID, u64::from(std::process::id()));
            writes.put(at + slot::STARTED, place::process_start(std::process::id()).unwrap_or(0));
            writes.put(at + slot::INCARNATION, incarnation);
            let package: [u64; PACKAGE_WORDS] = words_of(env!("CARGO_PKG_VERSION").as_bytes());
            for (step, word) in package.into_iter().enumerate() {
                writes.put(at + slot::PACKAGE + step, word);
            }
            // Seven words always fit the log.
            let _done = writes.commit();
            return Ok(());
        }
        let message = format!(
            "{} processes use this store, the most there is room for; stop some, or give groups of them stores of their own",
            SLOTS - 1
        );
        Err(Error::new(Code::StoreFull, "processes", message))
    }

    /// The first use in a forked child: it has closed its parent's locks, and claims a slot of its own.
    #[cold]
    pub(super) fn arrive(&self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let generation = fork::generation();
        let (arrived, arriving) = (generation << 1, generation << 1 | 1);
        loop {
            let seen = process.arriving.load(Ordering::Acquire);
            if seen == arrived {
                return Ok(());
            }
            if seen == arriving {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            // Whatever the parent was doing, this generation begins anew.
            let mine = process.arriving.compare_exchange(seen, arriving, Ordering::AcqRel, Ordering::Relaxed);
            if mine.is_ok() {
                break;
            }
        }
        // The parent's part is left as it is: its mutexes may be held by threads that do not exist here.
        std::mem::forget(process.own.swap(None));
        self.local.arrive_in_child();
        self.tickets.store(0, Ordering::Release);
        let claimed = Process::open_locks(&process.directory).and_then(|locks| self.claim(locks));
        if claimed.is_ok() {
            self.forks.store(generation, Ordering::Release);
        } else {
            // The slot goes back with its lock, or each try would keep another one.
            process.own.store(None);
        }
        process.arriving.store(if claimed.is_ok() { arrived } else { u64::MAX - 1 }, Ordering::Release);
        if claimed.is_ok()
            && let Some(elsewhere) = self.elsewhere()
        {
            elsewhere.arrived();
        }
        claimed
    }

    /// Ends the holds of processes that have died. True where there was one.
    ///
    /// # Errors
    /// Those of the locks.
    pub(crate) fn reap(&self) -> Result<bool> {
        let Some(process) = &self.process else { return Ok(false) };
        let own = process.own()?;
        let mut reaped = false;
        for slot in 1..SLOTS as u64 {
            let at = self.map.slots.at(slot as usize);
            let used = self.load(at + slot::PID) != 0;
            if !used || slot == u64::from(self.slot()) || own.locks.is_locked_by_another(slot)? {
                continue;
            }
            // The slot is taken for as long as it is cleared, so that nobody is claiming it meanwhile.
            if own.locks.try_lock(slot)? {
                let cleared = self.clear_slot(slot as u8, at);
                own.locks.unlock(slot)?;
                reaped |= cleared?;
            }
        }
        Ok(reaped)
    }

    fn clear_slot(&self, number: u8, at: usize) -> Result<bool> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        if held.load(at + slot::PID) == 0 {
            return Ok(false);
        }
        // No incarnation to spare: whoever had the slot is dead.
        held.end_holds_of(number, 0);
        held.end_tickets_of(number, 0);
        held.stop_listening(number);
        let mut writes = held.writes();
        writes.put(at + slot::PID, 0);
        // One word always fits the log.
        let _done = writes.commit();
        Ok(true)
    }

    /// What has happened to the names of the store's files while it was in use, a sentence each. Some system calls.
    ///
    /// # Errors
    /// [`Code::StoreDamaged`] where others count in another region by now.
    pub(crate) fn look_at_names(&self) -> Result<Vec<String>> {
        let mut told = Vec::new();
        let Some(process) = &self.process else { return Ok(told) };
        let named = |name: &str| {
            let meta = std::fs::symlink_metadata(process.directory.join(name)).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        if named(LOCK_FILE) != Some((self.load(head::LOCK_DEVICE), self.load(head::LOCK_INODE))) {
            told.push(LOCK_IS_GONE.to_owned());
        }
        match named(super::file::FILE) {
            Some(region) if region == (self.load(head::DEVICE), self.load(head::INODE)) => {}
            Some(_) => {
                self.give_up();
                return Err(self.damage());
            }
            None => told.push(
                "the store's region file was deleted while it was in use: its processes count on, but no other can join \
                 them; restart them all, which then count on from history"
                    .to_owned(),
            ),
        }
        Ok(told)
    }

    /// Tries to be the one that keeps history; true where it is.
    ///
    /// # Errors
    /// Those of the locks.
    pub(crate) fn may_keep(&self) -> Result<bool> {
        match &self.process {
            Some(process) => process.own()?.locks.try_lock(KEEPING),
            None => Ok(false),
        }
    }

    /// Leaves keeping history to another process.
    pub(crate) fn keep_no_longer(&self) {
        if let Some(process) = &self.process
            && let Ok(own) = process.own()
        {
            // Where the kernel takes no locks back it gives none either.
            let _unlocked = own.locks.unlock(KEEPING);
        }
    }

    /// Runs `work` while no other process changes the published configuration.
    ///
    /// # Errors
    /// Those of the locks, and of `work`.
    pub(crate) fn configuring<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let Some(process) = &self.process else {
            return Err(Error::new(Code::InvalidConfig, "store", "this store is no shared one"));
        };
        let own = process.own()?;
        let busy = || Error::new(Code::StoreBusy, "store", "another process does not end changing the limits");
        let _mine = own.configuring.try_lock_for(OPENING_BOUND).ok_or_else(busy)?;
        if !own.locks.lock_for(CONFIGURING, OPENING_BOUND)? {
            return Err(busy());
        }
        let done = work(&process.directory);
        own.locks.unlock(CONFIGURING)?;
        done
    }

    /// True while the process lives whose holds name this owner.
    pub(crate) fn owner_lives(&self, owner: u64) -> bool {
        let slot = owner as u8;
        let incarnation = self.load(self.map.slots.at(usize::from(slot)) + slot::INCARNATION);
        if owner == self.owner() || incarnation != owner >> 8 {
            return owner == self.owner();
        }
        let own = self.process.as_ref().and_then(|process| process.own().ok());
        own.is_none_or(|own| own.locks.is_locked_by_another(u64::from(slot)).unwrap_or(true))
    }

    /// Every process that has this store open, by slot.
    ///
    /// # Errors
    /// Those of the locks.
    pub(crate) fn processes(&self) -> Result<Vec<ProcessInfo>> {
        let Some(process) = &self.process else { return Ok(Vec::new()) };
        let own = process.own()?;
        let mut found = Vec::new();
        for number in 1..SLOTS as u64 {
            let at = self.map.slots.at(number as usize);
            let pid = self.load(at + slot::PID) as u32;
            let is_self = number == u64::from(self.slot());
            if pid != 0 && (is_self || own.locks.is_locked_by_another(number)?) {
                let bytes = (0..PACKAGE_WORDS).flat_map(|word| self.load(at + slot::PACKAGE + word).to_le_bytes());
                let package: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
                let package = String::from_utf8_lossy(&package).into_owned();
                found.push(ProcessInfo { slot: number as u8, pid, package, is_self });
            }
        }
        Ok(found)
    }
}

const PACKAGE_WORDS: usize = slot::LEN - slot::PACKAGE;

impl Held<'_> {
    /// Ends the open holds of a slot that are not those of `incarnation`: released if nothing had left, charged if something
    /// may have.
    pub(super) fn end_holds_of(&self, number: u8, incarnation: u64) {
        let open = self.load(head::HOLDS_OPEN);
        if open == 0 {
            return;
        }
        let orphans: Vec<u64> = self
            .open_holds()
            .filter(|at| {
                let owner = self.load(at + hold::OWNER);
                owner as u8 == number && owner >> 8 != incarnation
            })
            .map(|at| self.load(at + hold::ID))
            .collect();
        for id in orphans {
            // Only a damaged region fails here, and then the hold ends by its time.
            let _ended = self.abandon(HoldId(id));
        }
    }
}
