//! Forks: a child has a store of its own, whole and unlocked, in which its parent's calls are not open.

#![cfg(unix)]
#![allow(unsafe_code, reason = "there is no other way to fork")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use llmquota::reservation::{Hold, HoldState, Verdict};
use llmquota::waiting::Priority;
use llmquota::{Call, Manager};
use world::{World, asking, used};

/// How long a child may take before it counts as hung.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is wrong in a child: its exit code, since it must not touch the test harness.
type Check = Result<(), i32>;

fn ensure(right: bool, code: i32) -> Check {
    if right { Ok(()) } else { Err(code) }
}

/// Forks; the child runs `check` and exits with what is wrong, 0 for nothing.
fn fork(check: impl FnOnce() -> Check) -> libc::pid_t {
    // SAFETY: the child runs `check` and leaves by `_exit`: no destructor of the parent's, no test harness. What `check` needs
    // of the C library (memory, threads) works in a forked child of the systems that this test runs on.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no fork");
    if child == 0 {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        let code = checked.map_or(99, |checked| checked.err().unwrap_or(0));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }
    child
}

/// Waits for a child, which is killed past the deadline.
fn exit_code(child: libc::pid_t) -> i32 {
    let began = Instant::now();
    let mut status = 0;
    loop {
        // SAFETY: `status` is a place for an integer, `child` a child of this process that nobody else waits for.
        let done = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        assert!(done >= 0, "the child is not ours");
        if done == child {
            return if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        }
        if began.elapsed() > DEADLINE {
            // SAFETY: as above.
            unsafe { libc::kill(child, libc::SIGKILL) };
            return -1;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn acme() -> Call<'static> {
    Call::new("acme").goal("g")
}

/// Records 3 tokens a request, so that a copy in which a record is half done shows.
fn keep_recording(manager: &Manager, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        manager.record(&acme(), &used(3)).unwrap();
        if let Verdict::Granted(mut hold) = manager.reserve(&acme(), &asking(50), Duration::from_secs(600)).unwrap() {
            hold.settle(&used(3), None).unwrap();
        }
    }
}

/// Takes places in the queue of a full limit and leaves them.
fn keep_waiting(manager: &Manager, stop: &AtomicBool) {
    let full = Call::new("full");
    while !stop.load(Ordering::Relaxed) {
        let ticket = manager.queue_up(&full, &asking(1), Duration::from_secs(60), Priority::Normal).unwrap();
        let _turn = ticket.poll(Waker::noop()).unwrap();
    }
}

const FULL: &str = "[workspaces.full]\ntokens_per_minute = 1\n[workspaces.acme]\nmax_concurrent = 100\n[workspaces.other]\nmax_concurrent = 2";

/// Whether the child's copy is whole: no call is open, and the sums of all accounts and periods agree.
fn whole(manager: &Manager) -> Check {
    let snapshot = manager.snapshot("acme").map_err(|_| 10)?;
    ensure(snapshot.holds.open == 0, 11)?;
    ensure(snapshot.limits.iter().all(|line| world::count(line.held) == 0), 12)?;
    let goal = manager.usage(&acme()).map_err(|_| 13)?;
    ensure(goal.total == snapshot.usage.total && goal.day == snapshot.usage.day, 14)?;
    ensure(goal.total.tokens == 3 * goal.total.requests, 15)?;
    ensure(goal.total.requests > 0, 16)
}

/// Whether the child can work: all of its own limit is free, and what it does counts.
fn works(manager: &Manager) -> Check {
    let other = Call::new("other");
    let ask = || manager.reserve(&other, &asking(1), Duration::from_secs(60));
    let (Ok(Verdict::Granted(first)), Ok(Verdict::Granted(mut second))) = (ask(), ask()) else { return Err(20) };
    ensure(matches!(ask(), Ok(Verdict::Refused(_))), 21)?;
    second.settle(&used(1), None).map_err(|_| 22)?;
    drop(first);
    let total = manager.usage(&other).map_err(|_| 23)?.total;
    ensure((total.requests, total.tokens) == (1, 1), 24)
}

#[test]
fn two_hundred_children_of_a_busy_parent_are_whole_and_none_hangs() {
    let world = World::with(FULL);
    let manager = &world.manager;
    world.record(&Call::new("full"), 1);
    world.record(&acme(), 3);
    let mut holds: Vec<Hold> = (0..20).map(|_| world.granted(&acme(), asking(7))).collect();
    holds.extend((0..2).map(|_| world.granted(&Call::new("other"), asking(7))));
    holds[0].start().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_recording(manager, &stop));
        scope.spawn(|| keep_waiting(manager, &stop));
        let failed = (0..200).map(|round| (round, a_child(manager, &mut holds))).find(|(_, code)| *code != 0);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, None, "(round, exit code); -1 is a child that hung");
    });
    assert_eq!(manager.snapshot("other").unwrap().holds.open, 2, "the parent's calls are still open");
    let snapshot = manager.snapshot("acme").unwrap();
    assert_eq!(snapshot.holds.open, 20);
    assert_eq!(snapshot.usage.total.tokens, 3 * snapshot.usage.total.requests);
}

fn a_child(manager: &Manager, holds: &mut [Hold]) -> i32 {
    exit_code(fork(|| {
        whole(manager)?;
        // The parent's calls are the parent's: here their end changes nothing.
        for hold in holds {
            let ended = hold.abandon().map_err(|_| 30)?;
            ensure(ended.was == HoldState::Released && !ended.changed, 31)?;
        }
        works(manager)
    }))
}

#[test]
fn a_child_whose_first_calls_come_from_four_threads_is_whole() {
    let world = World::with(FULL);
    let manager = &world.manager;
    world.record(&acme(), 3);
    let _open: Vec<Hold> = (0..50).map(|_| world.granted(&acme(), asking(7))).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_recording(manager, &stop));
        let failed =
            (0..60).map(|round| (round, exit_code(fork(|| from_four_threads(manager))))).find(|(_, code)| *code != 0);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, None, "(round, exit code); -1 is a child that hung");
    });
}

fn from_four_threads(manager: &Manager) -> Check {
    let before = 500;
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        let run = || -> Check {
            barrier.wait();
            for _ in 0..before {
                manager.record(&Call::new("child"), &used(2)).map_err(|_| 40)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| 41)?)
    })?;
    let total = manager.usage(&Call::new("child")).map_err(|_| 42)?.total;
    ensure((total.requests, total.tokens) == (4 * before, 8 * before), 43)?;
    whole(manager)
}

/// Whether the child can make a store and fork again.
fn makes_another() -> Check {
    let world = World::with(FULL);
    ensure(exit_code(fork(|| works(&world.manager))) == 0, 70)?;
    works(&world.manager)
}

#[test]
fn threads_that_fork_at_once_do_not_hang_each_other() {
    let world = World::with(FULL);
    let manager = &world.manager;
    world.record(&acme(), 3);
    std::thread::scope(|scope| {
        let forks = || {
            (0..100).map(|_| exit_code(fork(|| whole(manager).and_then(|()| makes_another())))).find(|code| *code != 0)
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(forks)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), None, "-1 is a child that hung");
        }
    });
}

#[test]
fn a_grandchild_is_whole_too() {
    let world = World::with(FULL);
    world.record(&acme(), 3);
    let _open = [world.granted(&Call::new("other"), asking(7)), world.granted(&Call::new("other"), asking(7))];
    let manager = &world.manager;
    let code = exit_code(fork(|| {
        ensure(manager.can_make_request("other").map_err(|_| 51)?, 52)?;
        works(manager)?;
        let open = manager.reserve(&acme(), &asking(7), Duration::from_secs(60)).map_err(|_| 50)?;
        let code = exit_code(fork(|| whole(manager)));
        drop(open);
        if code == 0 { Ok(()) } else { Err(60 + code) }
    }));
    assert_eq!(code, 0);
}
