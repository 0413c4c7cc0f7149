//! Eight threads on overlapping accounts: totals are exact, a limit is met exactly and never passed, no hold leaks.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use llmquota::reservation::Verdict;
use llmquota::rules::limits::LimitKind::{MaxConcurrent, RequestsPerDay, TokensPerDay, TokensPerMinute};
use llmquota::rules::limits::LimitSet;
use llmquota::usage::NanoUsd;
use llmquota::{Call, Report, SystemClock};
use world::{MINUTE, SECOND, World, asking, count, used, workspace};

const THREADS: u64 = 8;

const GOALS: [&str; 3] = ["g0", "g1", "g2"];
const USERS: [&str; 2] = ["u0", "u1"];

fn call(workspace: &'static str, step: u64) -> Call<'static> {
    let goal = GOALS[usize::try_from(step % 3).unwrap()];
    let user = USERS[usize::try_from(step % 2).unwrap()];
    Call::new(workspace).goal(goal).user(user).model("gpt").credential("openai/k")
}

/// Runs the same work in every thread, all at once.
fn hammer<R: Send>(work: impl Fn(u64) -> R + Sync) -> Vec<R> {
    let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
    std::thread::scope(|scope| {
        let run = |thread| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn records_of_eight_threads_add_up_exactly_on_every_account() {
    const EACH: u64 = 3_000;
    let world = World::with("");
    let cost = Some(NanoUsd::from_nanos(11));
    hammer(|thread| {
        let workspace = if thread % 2 == 0 { "acme" } else { "bolt" };
        for step in 0..EACH {
            world.manager.record(&call(workspace, step), &Report { cost, ..used(step % 7) }).unwrap();
        }
    });
    let tokens: u64 = (0..EACH).map(|step| step % 7).sum();
    for workspace in ["acme", "bolt"] {
        let usage = world.usage(&Call::new(workspace));
        for line in [usage.minute, usage.day, usage.month, usage.total] {
            assert_eq!((line.requests, line.tokens, line.errors), (4 * EACH, 4 * tokens, 0));
        }
        let parts = |inside: &dyn Fn(&'static str) -> Call<'static>, names: &[&'static str]| -> u64 {
            names.iter().map(|name| world.usage(&inside(name)).total.requests).sum()
        };
        assert_eq!(parts(&|name| Call::new(workspace).goal(name), &GOALS), 4 * EACH);
        assert_eq!(parts(&|name| Call::new(workspace).user(name), &USERS), 4 * EACH);
    }
    for shared in [Call::new("acme").credential("openai/k"), Call::new("acme").model("gpt").credential("openai/k")] {
        let total = world.usage(&shared).total;
        assert_eq!((total.requests, total.tokens), (8 * EACH, 8 * tokens));
        assert_eq!(total.cost_usd, NanoUsd::from_nanos(i64::try_from(8 * EACH * 11).unwrap()).as_usd_f64());
    }
}

#[test]
fn a_tight_limit_is_met_exactly_and_never_passed() {
    const CAP: u64 = 1_000;
    let world = World::with("");
    world.limit(workspace("acme"), LimitSet::NONE.with(RequestsPerDay, CAP).with(TokensPerDay, 10 * CAP));
    let granted: Vec<u64> = hammer(|thread| {
        let mut granted = 0;
        for step in 0..2_000 {
            let Verdict::Granted(mut hold) = world.ask(&call("acme", step), asking(5)) else { continue };
            match (step + thread) % 5 {
                0 => drop(hold),
                1 => drop(hold.release().unwrap()),
                2 => {
                    hold.start().unwrap();
                    granted += 1;
                }
                _ => {
                    hold.settle(&used(5), None).unwrap();
                    granted += 1;
                }
            }
        }
        granted
    });
    assert_eq!(granted.iter().sum::<u64>(), CAP);
    assert_eq!(world.counts(&Call::new("acme"), RequestsPerDay), (CAP, 0));
    assert_eq!(world.counts(&Call::new("acme"), TokensPerDay), (5 * CAP, 0));
    let snapshot = world.manager.snapshot("acme").unwrap();
    assert_eq!((snapshot.holds.open, snapshot.usage.total.requests), (0, CAP));
    let shared = world.usage(&Call::new("acme").credential("openai/k")).total;
    assert_eq!((shared.requests, shared.tokens), (CAP, 5 * CAP));
}

#[test]
fn no_more_calls_are_open_than_may_be() {
    const OPEN: i64 = 3;
    let manager = world::manager(4 << 20, Arc::new(SystemClock), "[workspaces.acme]\nmax_concurrent = 3");
    let (open, most, granted) = (AtomicI64::new(0), AtomicI64::new(0), AtomicU64::new(0));
    hammer(|_| {
        for _ in 0..2_000 {
            let ttl = Duration::from_secs(60);
            let Verdict::Granted(hold) = manager.reserve(&Call::new("acme"), &asking(1), ttl).unwrap() else {
                continue;
            };
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            open.fetch_sub(1, Ordering::SeqCst);
            granted.fetch_add(1, Ordering::SeqCst);
            drop(hold);
        }
    });
    assert!(granted.load(Ordering::SeqCst) > 0);
    assert!(most.load(Ordering::SeqCst) <= OPEN, "{most:?} were open at once");
    let line = manager.limits(&Call::new("acme")).unwrap().pop().unwrap();
    assert_eq!((line.limit, count(line.held)), (MaxConcurrent, 0));
}

#[test]
fn while_time_passes_and_limits_change_every_minute_stays_within_its_limit() {
    const CAP: u64 = 40;
    let world = World::with("");
    let limits = |cap| LimitSet::NONE.with(TokensPerMinute, cap).observing(RequestsPerDay, 1);
    world.limit(workspace("acme"), limits(CAP));
    let over = AtomicBool::new(false);
    let granted: Vec<u64> = hammer(|thread| {
        let mut granted = 0;
        for step in 0..1_500_u64 {
            if thread == 0 {
                world.limit(workspace("acme"), limits(CAP - step % 3));
                let line = world.line(&Call::new("acme"), TokensPerMinute);
                if count(line.used) + count(line.held) > CAP {
                    over.store(true, Ordering::SeqCst);
                }
                continue;
            }
            let tokens = 1 + step % 4;
            // A life longer than the test's time: a thread that waits long for its turn would settle a hold that had expired,
            // which is a fact of then and may pass the limit.
            let day = Duration::from_secs(86_400);
            let verdict = world.manager.reserve(&call("acme", step), &asking(tokens), day).unwrap();
            if let Verdict::Granted(mut hold) = verdict {
                hold.settle(&used(tokens), None).unwrap();
                granted += tokens;
            } else {
                world.pass(SECOND / 2);
            }
        }
        granted
    });
    assert!(!over.load(Ordering::SeqCst));
    let all: u64 = granted.iter().sum();
    let usage = world.usage(&Call::new("acme"));
    assert_eq!(usage.total.tokens, all);
    assert!(all > 3 * CAP, "several minutes were filled");
    assert_eq!(world.manager.snapshot("acme").unwrap().holds.open, 0);
    world.pass(2 * MINUTE);
    assert_eq!(world.counts(&Call::new("acme"), TokensPerMinute), (0, 0));
}

#[test]
fn what_eight_threads_do_to_one_hold_happens_once() {
    let world = World::with("");
    for round in 0..200 {
        let hold = world.granted(&Call::new("acme"), asking(10));
        hold.start().unwrap();
        // Each has the same call to end: the store knows it by its number alone.
        let settled: usize = {
            let hold = std::sync::Mutex::new(hold);
            let changed = hammer(|_| hold.lock().unwrap().settle(&used(3), None).unwrap().0.changed);
            changed.into_iter().filter(|changed| *changed).count()
        };
        assert_eq!(settled, 1);
        assert_eq!(world.usage(&Call::new("acme")).total.tokens, 3 * (round + 1));
    }
}
