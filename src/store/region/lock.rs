//! The region's one lock: an owner word, `generation << 8 | slot`, taken by compare-and-swap. Slot 0 is nobody.
//!
//! The generation rises with each taking, so the word also tells a reader that took no lock whether anybody came between.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};

const SLOT_BITS: u32 = 8;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// How often a taker looks again before it yields its processor, and then before it sleeps.
const SPINS: u32 = 64;
const YIELDS: u32 = 256;
const LONGEST_NAP: Duration = Duration::from_micros(500);

/// The lock, held by this process until dropped.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    word: &'a AtomicU64,
    mine: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.word.store(self.mine & !SLOT_MASK, Ordering::Release);
    }
}

/// True where nobody holds it.
pub(super) fn is_free(word: &AtomicU64) -> bool {
    word.load(Ordering::Relaxed) & SLOT_MASK == 0
}

/// Takes the lock if it is free.
pub(super) fn try_take(word: &AtomicU64, slot: u8) -> Option<Guard<'_>> {
    let seen = word.load(Ordering::Relaxed);
    if seen & SLOT_MASK != 0 {
        return None;
    }
    let mine = (seen | u64::from(slot)).wrapping_add(1 << SLOT_BITS);
    word.compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed).ok()?;
    // Orders the taking before the first write, for readers that take no lock.
    fence(Ordering::Release);
    Some(Guard { word, mine })
}

/// Takes the lock, waiting at most `bound`.
pub(super) fn take(word: &AtomicU64, slot: u8, bound: Duration) -> Result<Guard<'_>> {
    if let Some(guard) = try_take(word, slot) {
        return Ok(guard);
    }
    let began = Instant::now();
    let mut tries = 0_u32;
    let mut nap = Duration::from_micros(5);
    loop {
        if let Some(guard) = try_take(word, slot) {
            return Ok(guard);
        }
        tries = tries.saturating_add(1);
        if tries < SPINS {
            std::hint::spin_loop();
        } else if tries < SPINS + YIELDS {
            std::thread::yield_now();
        } else if began.elapsed() > bound {
            let message = format!("the store's lock was not free within {} ms", bound.as_millis());
            return Err(Error::new(Code::StoreBusy, "store", message));
        } else {
            std::thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}

/// Frees it for a holder that has given its guard away: the thread that forks, or one that does not exist in this child.
pub(super) fn free(word: &AtomicU64) {
    let seen = word.load(Ordering::Relaxed);
    word.store((seen & !SLOT_MASK).wrapping_add(1 << SLOT_BITS), Ordering::Release);
}

/// Runs `read` without the lock; `None` where somebody held it or came between.
pub(super) fn optimistic<R>(word: &AtomicU64, read: impl FnOnce() -> R) -> Option<R> {
    let before = word.load(Ordering::Acquire);
    if before & SLOT_MASK != 0 {
        return None;
    }
    let result = read();
    fence(Ordering::Acquire);
    (word.load(Ordering::Relaxed) == before).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_refuses_until_its_bound_and_generations_rise() {
        let word = AtomicU64::new(0);
        let guard = take(&word, 1, Duration::ZERO).unwrap();
        assert!(try_take(&word, 2).is_none());
        assert!(optimistic(&word, || ()).is_none());
        let error = take(&word, 2, Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.code(), Code::StoreBusy);
        drop(guard);
        assert_eq!(word.load(Ordering::Relaxed), 1 << SLOT_BITS);
        drop(take(&word, 2, Duration::ZERO).unwrap());
        assert_eq!(word.load(Ordering::Relaxed), 2 << SLOT_BITS);
    }

    #[test]
    fn a_reader_is_told_when_somebody_came_between() {
        let word = AtomicU64::new(0);
        assert_eq!(optimistic(&word, || 7), Some(7));
        let between = optimistic(&word, || drop(try_take(&word, 1).unwrap()));
        assert!(between.is_none());
    }

    #[test]
    fn threads_exclude_each_other() {
        let word = AtomicU64::new(0);
        let counter = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let _guard = take(&word, 1, Duration::from_secs(30)).unwrap();
                        let seen = counter.load(Ordering::Relaxed);
                        counter.store(seen + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.load(Ordering::Relaxed), 80_000);
    }
}
