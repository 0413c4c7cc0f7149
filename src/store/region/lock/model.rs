//! The lock under a model checker: every order of the steps of two or three processes, each of which may stop for ever at any
//! step. What they do under the lock is what the region's log does (`log`), with one word that is changed at once after an image of it was
//! kept, and one that is noted and changed when the batch is decided.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use loom::model::Builder;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use super::{Owners, Pauses, QUIET, Taken, Word, claim_inherited, optimistic, wait};

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    fn compare_exchange(&self, seen: u64, value: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, seen, value, success, failure)
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// A lock word without generations: the slot alone.
#[derive(Debug)]
struct Bare(AtomicU64);

const SLOT: u64 = super::SLOT_MASK;

impl Word for Bare {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value & SLOT, order);
    }

    fn compare_exchange(&self, seen: u64, value: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(seen & SLOT, value & SLOT, success, failure)
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// What processes share: a pair of words, equal after each batch, and the log through which it changes.
struct Region<W> {
    lock: W,
    /// How far the batch is: [`KEPT`], [`NOTED`], or done.
    batch: AtomicU64,
    image: AtomicU64,
    note: AtomicU64,
    pair: [AtomicU64; 2],
    kernel: Kernel,
    seen: Seen,
}

/// An image is kept.
const KEPT: u64 = 1 << 32;
/// A note is to be done.
const NOTED: u64 = 1;

/// What the test knows of all processes. The checker does not know of these words, so they cost no orders.
#[derive(Default)]
struct Seen {
    /// The slot of whoever has the lock and lives.
    inside: AtomicU8,
    /// Batches that were decided.
    decided: AtomicU8,
    /// Processes that stopped with the lock.
    stopped: AtomicU8,
    /// Processes that took the lock from one of them.
    overs: AtomicU8,
}

impl Seen {
    fn count(counter: &AtomicU8) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn overs(&self) -> u8 {
        self.overs.load(Ordering::Relaxed)
    }
}

/// Which slots have a process that lives. The kernel asks and answers under a lock of its own, which also orders all that a
/// process did before it died.
struct Kernel(Mutex<u8>);

impl Kernel {
    fn is_alive(&self, slot: u8) -> bool {
        *self.0.lock().unwrap() & 1 << slot != 0
    }

    fn end(&self, slot: u8) {
        *self.0.lock().unwrap() &= !(1 << slot);
    }

    fn begin(&self, slot: u8) {
        *self.0.lock().unwrap() |= 1 << slot;
    }
}

impl Owners for Kernel {
    fn is_dead(&self, slot: u8) -> bool {
        !self.is_alive(slot)
    }
}

/// How many steps a process has left. It stops right after what it does when it has none.
struct Life(usize);

/// The process has no more steps.
#[derive(Debug)]
struct Stopped;

impl Life {
    const fn endless() -> Self {
        Life(usize::MAX)
    }

    fn step(&mut self) -> Result<(), Stopped> {
        self.0 = self.0.checked_sub(1).ok_or(Stopped)?;
        Ok(())
    }
}

/// The steps of a whole batch: before the lock, with it, an image and the word that says so, the change in place, the note, the
/// decision, the change that was noted, the end.
const STEPS: usize = 9;
/// Those of a process that recovers, and stops when its own batch is decided.
const RECOVERY_STEPS: usize = 8;
/// With so many the batch is decided, and what is noted is not done yet.
const DECIDED: usize = 6;

/// Asks about an owner that is seen a second time, and gives up after [`LOOKS`], since endless waits have endless orders. It
/// does not yield: the checker lets nobody run who has yielded before all others have, and so leaves orders out.
struct Looks(u32);

const LOOKS: u32 = 2;

impl Pauses for Looks {
    fn pause(&mut self) -> bool {
        self.0 += 1;
        self.0 <= LOOKS
    }

    fn elapsed(&self) -> Duration {
        QUIET * self.0
    }
}

impl<W: Word> Region<W> {
    fn new(lock: W, alive: &[u8]) -> Self {
        Self {
            lock,
            batch: AtomicU64::new(0),
            image: AtomicU64::new(0),
            note: AtomicU64::new(0),
            pair: [AtomicU64::new(0), AtomicU64::new(0)],
            kernel: Kernel(Mutex::new(alive.iter().fold(0, |all, slot| all | 1 << slot))),
            seen: Seen::default(),
        }
    }

    /// As the process of slot 1 leaves it that dies when its batch is decided and not done.
    fn half_done(word: fn(u64) -> W, alive: &[u8]) -> Self {
        let region = Self::half_begun(word, alive);
        region.note.store(1, Ordering::Relaxed);
        region.batch.store(NOTED, Ordering::Relaxed);
        Seen::count(&region.seen.decided);
        region
    }

    /// The same when a word is changed and the batch is not decided.
    fn half_begun(word: fn(u64) -> W, alive: &[u8]) -> Self {
        let region = Self::new(word(5 << 8 | 1), alive);
        region.batch.store(KEPT, Ordering::Relaxed);
        region.pair[0].store(1, Ordering::Relaxed);
        Seen::count(&region.seen.stopped);
        region
    }

    fn recover(&self, life: &mut Life) -> Result<(), Stopped> {
        let [at_once, noted] = &self.pair;
        match self.batch.load(Ordering::Acquire) {
            0 => return Ok(()),
            NOTED => noted.store(self.note.load(Ordering::Relaxed), Ordering::Relaxed),
            _ => at_once.store(self.image.load(Ordering::Relaxed), Ordering::Relaxed),
        }
        life.step()?;
        self.batch.store(0, Ordering::Release);
        life.step()
    }

    /// Adds one to both words.
    fn change(&self, life: &mut Life) -> Result<(), Stopped> {
        let [at_once, noted] = &self.pair;
        let was = at_once.load(Ordering::Relaxed);
        self.image.store(was, Ordering::Relaxed);
        life.step()?;
        self.batch.store(KEPT, Ordering::Release);
        fence(Ordering::Release);
        life.step()?;
        at_once.store(was + 1, Ordering::Relaxed);
        life.step()?;
        self.note.store(noted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        life.step()?;
        self.batch.store(NOTED, Ordering::Release);
        Seen::count(&self.seen.decided);
        life.step()?;
        self.recover(life)
    }

    /// Holds the lock while `work` runs; for ever where it stops.
    fn with(&self, taken: Taken<'_, W>, slot: u8, work: impl FnOnce() -> Result<(), Stopped>) -> Result<(), Stopped> {
        let guard = ManuallyDrop::new(taken.guard);
        let other = self.seen.inside.swap(slot, Ordering::Relaxed);
        assert_eq!(other, 0, "two at once: {other} and {slot}");
        if taken.took_over {
            Seen::count(&self.seen.overs);
        }
        let done = work();
        self.seen.inside.store(0, Ordering::Relaxed);
        match done {
            Ok(()) => drop(ManuallyDrop::into_inner(guard)),
            Err(Stopped) => Seen::count(&self.seen.stopped),
        }
        done
    }

    /// One process's batch; false where it stopped or gave up.
    fn batch(&self, slot: u8, mut life: Life) -> bool {
        if life.step().is_err() {
            return false;
        }
        let Some(taken) = wait(&self.lock, slot, &self.kernel, &mut Looks(0)) else { return false };
        let took_over = taken.took_over;
        let work = || {
            life.step()?;
            if took_over {
                self.recover(&mut life)?;
            }
            self.change(&mut life)
        };
        self.with(taken, slot, work).is_ok()
    }

    /// A batch of a process that dies where it stops, and at its end.
    fn last_batch(&self, slot: u8, life: Life) {
        self.batch(slot, life);
        self.kernel.end(slot);
    }

    /// A new process claims a slot.
    fn claim(&self, slot: u8) {
        self.kernel.begin(slot);
        if let Some(guard) = claim_inherited(&self.lock, slot) {
            let taken = Taken { guard, took_over: true };
            self.with(taken, slot, || self.recover(&mut Life::endless())).unwrap();
        }
    }

    /// Both words.
    fn pair(&self) -> [u64; 2] {
        self.pair.each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    /// After everybody else: one more process gets in, every decided batch is done and no other, and each that stopped with the
    /// lock was taken over from once.
    fn finish(&self) {
        assert!(self.batch(7, Life::endless()), "the lock is lost");
        let (overs, stopped) = (self.seen.overs(), self.seen.stopped.load(Ordering::Relaxed));
        assert_eq!(overs, stopped, "{overs} have taken over from {stopped}");
        let decided = self.seen.decided.load(Ordering::Relaxed);
        assert_eq!(self.pair(), [u64::from(decided); 2]);
    }
}

/// Runs `check` in every order with at most so many interruptions of a process that could have gone on.
fn explore(interruptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(check);
}

fn spawn<W, R>(region: &Arc<Region<W>>, act: impl FnOnce(&Region<W>) -> R + 'static) -> thread::JoinHandle<R>
where
    W: Word + 'static,
    R: 'static,
{
    let region = Arc::clone(region);
    thread::spawn(move || act(&region))
}

#[test]
fn one_at_a_time_and_no_change_is_lost() {
    explore(2, || {
        let region = Arc::new(Region::new(AtomicU64::new(0), &[1, 2, 3]));
        let others = [2, 3].map(|slot| spawn(&region, move |region| region.batch(slot, Life::endless())));
        region.batch(1, Life::endless());
        others.into_iter().for_each(|other| assert!(other.join().is_ok()));
        region.finish();
    });
}

#[test]
fn whoever_dies_at_any_step_is_taken_over_from_once_and_what_it_had_decided_is_done() {
    for steps in 0..=STEPS {
        explore(2, move || {
            let region = Arc::new(Region::new(AtomicU64::new(0), &[1, 2, 3]));
            let dying = spawn(&region, move |region| region.last_batch(1, Life(steps)));
            let waiter = spawn(&region, |region| region.batch(2, Life::endless()));
            region.batch(3, Life::endless());
            dying.join().unwrap();
            waiter.join().unwrap();
            region.finish();
        });
    }
}

/// The one that recovers dies at any of its steps.
fn die_recovering(left: impl Fn() -> Region<AtomicU64> + Copy + Send + Sync + 'static) {
    for steps in 0..=RECOVERY_STEPS {
        explore(2, move || {
            let region = Arc::new(left());
            let dying = spawn(&region, move |region| region.last_batch(2, Life(steps)));
            let waiter = spawn(&region, |region| region.batch(3, Life::endless()));
            region.batch(4, Life::endless());
            dying.join().unwrap();
            waiter.join().unwrap();
            region.finish();
        });
    }
}

#[test]
fn whoever_dies_while_it_ends_what_was_decided_leaves_it_to_the_next() {
    die_recovering(|| Region::half_done(AtomicU64::new, &[2, 3, 4]));
}

#[test]
fn whoever_dies_while_it_takes_back_what_was_not_leaves_it_to_the_next() {
    die_recovering(|| Region::half_begun(AtomicU64::new, &[2, 3, 4]));
}

#[test]
fn whoever_is_stopped_but_alive_keeps_the_lock() {
    for steps in 1..STEPS {
        explore(3, move || {
            let region = Arc::new(Region::new(AtomicU64::new(0), &[1, 2, 3]));
            region.batch(1, Life(steps));
            let waiter = spawn(&region, |region| region.batch(2, Life::endless()));
            region.batch(3, Life::endless());
            waiter.join().unwrap();
            assert_eq!((region.lock.load(Ordering::Relaxed), region.seen.overs()), (1 << 8 | 1, 0));
        });
    }
}

/// A dead process's slot is claimed anew while two others look at its lock.
fn reuse<W: Word + Send + Sync + 'static>(word: fn(u64) -> W, waiters: usize, interruptions: usize) {
    explore(interruptions, move || {
        let region = Arc::new(Region::half_done(word, &[2, 3]));
        let waiters = [2, 3].into_iter().take(waiters);
        let waiters: Vec<_> =
            waiters.map(|slot| spawn(&region, move |region| region.batch(slot, Life::endless()))).collect();
        region.claim(1);
        region.batch(1, Life::endless());
        waiters.into_iter().for_each(|waiter| assert!(waiter.join().is_ok()));
        region.finish();
    });
}

#[test]
fn a_slot_that_is_claimed_anew_is_no_dead_one() {
    reuse(AtomicU64::new, 1, 9);
    reuse(AtomicU64::new, 2, 1);
}

/// Why the word has a generation, and that these models can fail.
#[test]
#[should_panic(expected = "2 have taken over from 1")]
fn without_generations_the_next_owner_of_a_slot_is_taken_over_from() {
    reuse(|word| Bare(AtomicU64::new(word & SLOT)), 1, 9);
}

#[test]
fn readers_without_the_lock_see_no_torn_pair() {
    for steps in [DECIDED, DECIDED + 1, STEPS] {
        explore(2, move || {
            let region = Arc::new(Region::new(AtomicU64::new(0), &[1, 2]));
            let waiter = spawn(&region, |region| region.batch(2, Life::endless()));
            // The checker sees what a reader may read of those that ran before it: so it is no reader that runs first.
            let reader = spawn(&region, move |region| {
                if let Some([one, other]) = optimistic(&region.lock, || region.pair()) {
                    assert_eq!(one, other, "a torn pair after {steps} steps");
                }
            });
            region.last_batch(1, Life(steps));
            waiter.join().unwrap();
            reader.join().unwrap();
            region.finish();
        });
    }
}
