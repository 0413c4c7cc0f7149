//! The region's one lock: an owner word, `generation << 8 | slot`, taken by compare-and-swap. Slot 0 is nobody; every process of
//! a shared region has another.
//!
//! The generation rises with each taking, so the word also tells a reader that took no lock whether anybody came between. And it
//! makes taking over safe: whoever takes the lock from a dead process swaps the very word of that taking. Were the word the
//! slot alone, a waiter could learn that slot 3 is dead, fall asleep, and then take the lock from the next owner of slot 3.
//!
//! Everything here is generic over its atomics, so that a model checker can stop a holder at any step (`model`).

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};

#[cfg(test)]
mod model;

const SLOT_BITS: u32 = 8;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// How often a taker looks again before it yields its processor, and then before it sleeps: seldom, for a holder of another
/// core is done soon, and each change of hands moves some forty lines of cache. More spins and yields bring four processes no
/// further, and cost a third more of the processors' time; a shorter nap is none, for the kernel rounds it up.
const SPINS: u32 = 8;
const YIELDS: u32 = 1;
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_micros(500);

/// How long a taker sees the very same taking before it asks, each time, whether its owner is dead: longer than any batch of a
/// process that is not stopped.
const QUIET: Duration = Duration::from_millis(1);

/// The atomics that the lock is made of.
pub(super) trait Word: Debug {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn compare_exchange(&self, seen: u64, value: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
    fn fence(order: Ordering);
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline(always)]
    fn compare_exchange(&self, seen: u64, value: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, seen, value, success, failure)
    }

    #[inline(always)]
    fn fence(order: Ordering) {
        fence(order);
    }
}

/// Who can tell whether the process of a slot is dead.
pub(super) trait Owners {
    /// True where no process has this slot any more. Never asked about the asker's own slot. Where it cannot be told, false:
    /// the lock is then not taken over.
    ///
    /// The answer must come from the operating system, whose own lock orders all that the dead process wrote before it.
    fn is_dead(&self, slot: u8) -> bool;
}

/// Owners that are threads of one process: none of them dies before whoever asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Immortal;

impl Owners for Immortal {
    #[inline(always)]
    fn is_dead(&self, _slot: u8) -> bool {
        false
    }
}

/// The lock, held by this process until dropped.
#[derive(Debug)]
pub(super) struct Guard<'a, W: Word = AtomicU64> {
    word: &'a W,
    mine: u64,
}

impl<W: Word> Drop for Guard<'_, W> {
    #[inline(always)]
    fn drop(&mut self) {
        self.word.store(self.mine & !SLOT_MASK, Ordering::Release);
    }
}

/// The lock, and how it was had.
#[derive(Debug)]
pub(super) struct Taken<'a, W: Word = AtomicU64> {
    pub(super) guard: Guard<'a, W>,
    /// True where it was taken from a dead process: what that one had decided must be done to its end before anything else.
    pub(super) took_over: bool,
}

/// The slot that a word names; 0 for nobody.
#[inline(always)]
const fn holder(word: u64) -> u8 {
    (word & SLOT_MASK) as u8
}

/// True where nobody holds it.
pub(super) fn is_free<W: Word>(word: &W) -> bool {
    holder(word.load(Ordering::Relaxed)) == 0
}

/// Takes the lock from whoever `seen` names, if nobody came between.
#[inline(always)]
fn swap<W: Word>(word: &W, seen: u64, slot: u8) -> Option<Guard<'_, W>> {
    let mine = ((seen & !SLOT_MASK) | u64::from(slot)).wrapping_add(1 << SLOT_BITS);
    word.compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed).ok()?;
    // Orders the taking before the first write, for readers that take no lock.
    W::fence(Ordering::Release);
    Some(Guard { word, mine })
}

/// Takes the lock if it is free.
#[inline(always)]
pub(super) fn try_take<W: Word>(word: &W, slot: u8) -> Option<Guard<'_, W>> {
    let seen = word.load(Ordering::Relaxed);
    if holder(seen) != 0 {
        return None;
    }
    swap(word, seen, slot)
}

/// Takes the lock, waiting at most `bound`; from a dead process too, which [`Taken::took_over`] tells. A process that lives but
/// is stopped keeps it, since it may still write.
///
/// # Errors
/// [`Code::StoreBusy`] at the bound.
#[inline(always)]
pub(super) fn take<'a, W: Word>(word: &'a W, slot: u8, bound: Duration, owners: &impl Owners) -> Result<Taken<'a, W>> {
    if let Some(guard) = try_take(word, slot) {
        return Ok(Taken { guard, took_over: false });
    }
    wait_for(word, slot, bound, owners)
}

#[cold]
#[inline(never)]
fn wait_for<'a, W: Word>(word: &'a W, slot: u8, bound: Duration, owners: &impl Owners) -> Result<Taken<'a, W>> {
    wait(word, slot, owners, &mut Naps::new(bound)).ok_or_else(|| {
        let message = format!("the store's lock was not free within {} ms", bound.as_millis());
        Error::new(Code::StoreBusy, "store", message)
    })
}

/// How a taker passes the time between two looks at the word.
trait Pauses {
    /// Lets some time pass; false, at once, where the taker shall give up.
    fn pause(&mut self) -> bool;
    /// The time since the first look.
    fn elapsed(&self) -> Duration;
}

fn wait<'a, W: Word>(word: &'a W, slot: u8, owners: &impl Owners, pauses: &mut impl Pauses) -> Option<Taken<'a, W>> {
    let mut watched = word.load(Ordering::Relaxed);
    let mut since = pauses.elapsed();
    while pauses.pause() {
        let seen = word.load(Ordering::Relaxed);
        let took_over = if holder(seen) == 0 {
            false
        } else if seen != watched {
            (watched, since) = (seen, pauses.elapsed());
            continue;
        } else if holder(seen) == slot || pauses.elapsed().saturating_sub(since) < QUIET {
            continue;
        } else if !owners.is_dead(holder(seen)) {
            since = pauses.elapsed();
            continue;
        } else {
            true
        };
        if let Some(guard) = swap(word, seen, slot) {
            return Some(Taken { guard, took_over });
        }
    }
    // Whoever gives up before the quiet is over asks all the same: the owner may have been waited for in vain before, and have
    // died since.
    let is_foreign = holder(watched) != 0 && holder(watched) != slot;
    let guard = (is_foreign && owners.is_dead(holder(watched))).then(|| swap(word, watched, slot)).flatten()?;
    Some(Taken { guard, took_over: true })
}

/// Spins, then yields, then sleeps, until the bound.
struct Naps {
    began: Instant,
    bound: Duration,
    tries: u32,
    nap: Duration,
}

impl Naps {
    fn new(bound: Duration) -> Self {
        Self { began: Instant::now(), bound, tries: 0, nap: SHORTEST_NAP }
    }
}

impl Pauses for Naps {
    fn pause(&mut self) -> bool {
        self.tries = self.tries.saturating_add(1);
        if self.tries < SPINS {
            std::hint::spin_loop();
        } else if self.tries < SPINS + YIELDS {
            std::thread::yield_now();
        } else if self.elapsed() > self.bound {
            return false;
        } else {
            std::thread::sleep(self.nap);
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        }
        true
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// For the new owner of a slot, before it does anything else with the region: takes the lock where the slot's dead owner still
/// has it, as [`take`] with [`Taken::took_over`] does. From then on the word names no dead process by this slot.
pub(super) fn claim_inherited<W: Word>(word: &W, slot: u8) -> Option<Guard<'_, W>> {
    let seen = word.load(Ordering::Relaxed);
    if holder(seen) != slot {
        return None;
    }
    // Where this fails a waiter has taken it over in between: then it is that one's to recover.
    swap(word, seen, slot)
}

/// Frees it for a holder that has given its guard away: the thread that forks, or one that does not exist in this child.
pub(super) fn free<W: Word>(word: &W) {
    let seen = word.load(Ordering::Relaxed);
    word.store((seen & !SLOT_MASK).wrapping_add(1 << SLOT_BITS), Ordering::Release);
}

/// Runs `read` without the lock; `None` where somebody held it or came between.
#[inline(always)]
pub(super) fn optimistic<W: Word, R>(word: &W, read: impl FnOnce() -> R) -> Option<R> {
    let before = word.load(Ordering::Acquire);
    if holder(before) != 0 {
        return None;
    }
    let result = read();
    W::fence(Ordering::Acquire);
    (word.load(Ordering::Relaxed) == before).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_refuses_until_its_bound_and_generations_rise() {
        let word = AtomicU64::new(0);
        let guard = take(&word, 1, Duration::ZERO, &Immortal).unwrap();
        assert!(try_take(&word, 2).is_none());
        assert!(optimistic(&word, || ()).is_none());
        let error = take(&word, 2, Duration::from_millis(5), &Immortal).unwrap_err();
        assert_eq!(error.code(), Code::StoreBusy);
        drop(guard);
        assert_eq!(word.load(Ordering::Relaxed), 1 << SLOT_BITS);
        drop(take(&word, 2, Duration::ZERO, &Immortal).unwrap());
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
                        let _guard = take(&word, 1, Duration::from_secs(30), &Immortal).unwrap();
                        let seen = counter.load(Ordering::Relaxed);
                        counter.store(seen + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.load(Ordering::Relaxed), 80_000);
    }

    /// The slots that are dead, and how often somebody asked.
    struct Deaths(&'static [u8], AtomicU64);

    impl Owners for Deaths {
        fn is_dead(&self, slot: u8) -> bool {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.contains(&slot)
        }
    }

    #[test]
    fn the_dead_are_taken_over_from_and_that_is_told() {
        let word = AtomicU64::new(7 << SLOT_BITS | 3);
        let deaths = Deaths(&[3], AtomicU64::new(0));
        let began = Instant::now();
        let taken = take(&word, 2, Duration::from_secs(30), &deaths).unwrap();
        assert!(taken.took_over && began.elapsed() >= QUIET && began.elapsed() < Duration::from_secs(5));
        assert_eq!((word.load(Ordering::Relaxed), deaths.1.into_inner()), (8 << SLOT_BITS | 2, 1));
        drop(taken);
        assert!(!take(&word, 2, Duration::ZERO, &Immortal).unwrap().took_over);
    }

    #[test]
    fn the_living_keep_it_though_they_are_stopped_and_are_asked_about_at_most_each_millisecond() {
        let word = AtomicU64::new(7 << SLOT_BITS | 3);
        let deaths = Deaths(&[4], AtomicU64::new(0));
        let error = take(&word, 2, Duration::from_millis(50), &deaths).unwrap_err();
        assert_eq!((error.code(), word.load(Ordering::Relaxed)), (Code::StoreBusy, 7 << SLOT_BITS | 3));
        let asked = deaths.1.into_inner();
        assert!((1..=60).contains(&asked), "asked {asked} times");
    }

    #[test]
    fn who_does_not_wait_at_all_takes_over_from_the_dead_too() {
        let word = AtomicU64::new(7 << SLOT_BITS | 3);
        assert!(take(&word, 2, Duration::ZERO, &Deaths(&[4], AtomicU64::new(0))).is_err());
        assert!(take(&word, 2, Duration::ZERO, &Deaths(&[3], AtomicU64::new(0))).unwrap().took_over);
    }

    #[test]
    fn nobody_asks_about_its_own_slot() {
        let word = AtomicU64::new(7 << SLOT_BITS | 3);
        let deaths = Deaths(&[3], AtomicU64::new(0));
        assert!(take(&word, 3, Duration::from_millis(20), &deaths).is_err());
        assert_eq!(deaths.1.into_inner(), 0);
    }

    #[test]
    fn the_next_owner_of_a_slot_inherits_what_its_dead_owner_holds_and_no_more() {
        let word = AtomicU64::new(7 << SLOT_BITS | 3);
        assert!(claim_inherited(&word, 2).is_none());
        let guard = claim_inherited(&word, 3).unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 8 << SLOT_BITS | 3);
        drop(guard);
        assert!(claim_inherited(&word, 3).is_none() && is_free(&word));
    }
}
