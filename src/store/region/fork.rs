//! What a fork must not do to a region. It waits for the lock of a private one, so that the child's copy is whole; of a shared
//! one the child lets go at once, so that the kernel still tells of the parent's death. It waits for those who read or write
//! history. The child is told that it is one. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::layout::head;
use super::lock;
#[cfg(target_os = "linux")]
use super::locks::Locks;
use super::memory::Memory;
#[cfg(target_os = "linux")]
use crate::error::Result;
#[cfg(unix)]
use crate::store::history;

/// How long a fork waits for one region. Past it the child is freed of the lock all the same.
const BOUND: Duration = Duration::from_secs(2);

static FORKS: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();
/// Whoever holds this alone may take the two below. Not one of their own kind: its waiters are nobody in a child, to whom an
/// unlock there would hand the mutex on.
static GATE: AtomicU64 = AtomicU64::new(0);
/// The private regions of this process.
static REGIONS: Mutex<Vec<Weak<Memory>>> = Mutex::new(Vec::new());
/// The locks of the shared ones.
#[cfg(target_os = "linux")]
static LOCKS: Mutex<Vec<Weak<Locks>>> = Mutex::new(Vec::new());
/// Those whose lock the fork that is under way has taken.
static TAKEN: Mutex<Vec<Arc<Memory>>> = Mutex::new(Vec::new());

/// How many forks lie between the first process that had a region and this one: what tells a child from its parent without a
/// system call. One relaxed load.
#[inline]
#[must_use]
pub fn generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// From now on a fork of this process waits for this region, and each child counts one more.
pub(super) fn watch_private(memory: &Arc<Memory>) {
    install();
    let _gate = gate();
    let mut regions = REGIONS.lock();
    regions.retain(|region| region.strong_count() > 0);
    regions.push(Arc::downgrade(memory));
}

/// Opens locks. A forked child of this process closes them, however soon after the opening it is forked, and each child counts
/// one more.
///
/// # Errors
/// Those of `open`.
#[cfg(target_os = "linux")]
pub(super) fn open_shared(open: impl FnOnce() -> Result<Locks>) -> Result<Arc<Locks>> {
    install();
    // A child that is forked between the opening and the noting would have them unknown to itself, and keep its parent alive.
    let _gate = gate();
    let locks = Arc::new(open()?);
    let mut all = LOCKS.lock();
    all.retain(|locks| locks.strong_count() > 0);
    all.push(Arc::downgrade(&locks));
    Ok(locks)
}

fn install() {
    INSTALL.call_once(|| {
        #[cfg(unix)]
        {
            // SAFETY: the handlers are plain functions that live as long as the program. Registering fails for want of memory
            // alone; a child then takes itself for its parent.
            let _ = unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
        }
    });
}

fn gate() -> Option<lock::Guard<'static>> {
    // A fork keeps it while it waits for every region, so no bound is short enough: this one never comes.
    lock::take(&GATE, super::PRIVATE_SLOT, Duration::MAX, &lock::Immortal).ok().map(|taken| taken.guard)
}

/// Before a fork, in the thread that forks: no batch is under way, and none begins. The gate stays shut until after.
#[cfg(unix)]
extern "C" fn prepare() {
    std::mem::forget(gate());
    history::gate::before_fork();
    let regions = REGIONS.lock();
    let mut taken = TAKEN.lock();
    for region in regions.iter().filter_map(Weak::upgrade) {
        let word = region.get(head::LOCK);
        let taken_one = word.and_then(|word| lock::take(word, super::PRIVATE_SLOT, BOUND, &lock::Immortal).ok());
        if taken_one.map(|taken| std::mem::forget(taken.guard)).is_some() {
            taken.push(region);
        }
    }
}

#[cfg(unix)]
extern "C" fn in_parent() {
    history::gate::after_fork();
    let_go(false);
}

#[cfg(unix)]
extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    history::gate::in_child();
    #[cfg(target_os = "linux")]
    LOCKS.lock().iter().filter_map(Weak::upgrade).for_each(|locks| locks.close_in_child());
    let_go(true);
}

/// Frees the locks that were taken; in a child all of them, for whoever holds another is a thread that does not exist here, and
/// no thread but this one does yet.
#[cfg(unix)]
fn let_go(all: bool) {
    let mut taken = std::mem::take(&mut *TAKEN.lock());
    if all {
        taken = REGIONS.lock().iter().filter_map(Weak::upgrade).collect();
    }
    for region in taken {
        if let Some(word) = region.get(head::LOCK) {
            lock::free(word);
        }
    }
    lock::free(&GATE);
}
