//! Waiting: who goes first, whom a waiter keeps from going, and whom it concerns that something ended.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use llmquota::reservation::Hold;
use llmquota::rules::breaker::Failure;
use llmquota::waiting::{Priority, Ticket, Turn};
use llmquota::wire::{Decision, Reason};
use llmquota::{Ask, Call};
use world::{World, asking, used};

const LIFE: Duration = Duration::from_secs(600);

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Waiter {
    ticket: Ticket,
    bell: Arc<Bell>,
}

impl Waiter {
    fn new(world: &World, call: &Call<'_>, ask: Ask, priority: Priority) -> Self {
        let ticket = world.manager.queue_up(call, &ask, LIFE, priority).unwrap();
        Self { ticket, bell: Arc::default() }
    }

    fn poll(&self) -> Turn {
        self.ticket.poll(&Waker::from(Arc::clone(&self.bell))).unwrap()
    }

    /// Tries, which must not succeed yet.
    fn waits(&self) -> Decision {
        match self.poll() {
            Turn::Wait { decision, .. } => decision,
            other => panic!("{other:?}"),
        }
    }

    fn goes(&self) -> Hold {
        match self.poll() {
            Turn::Granted(hold) => hold,
            other => panic!("{other:?}"),
        }
    }

    /// How often it was woken since it was asked last.
    fn woken(&self) -> usize {
        self.bell.0.swap(0, Ordering::Relaxed)
    }
}

fn waiting(world: &World, call: &Call<'_>) -> Waiter {
    let waiter = Waiter::new(world, call, asking(1), Priority::Normal);
    waiter.waits();
    waiter
}

fn acme() -> Call<'static> {
    Call::new("acme")
}

fn one_at_a_time() -> World {
    World::with("[defaults]\nmax_concurrent = 1")
}

fn woken(waiters: &[Waiter]) -> Vec<usize> {
    waiters.iter().map(Waiter::woken).collect()
}

#[test]
fn first_come_first_served_and_each_end_wakes_the_next_alone() {
    let world = one_at_a_time();
    let mut open = world.granted(&acme(), asking(1));
    let waiters: Vec<Waiter> = (0..4).map(|_| waiting(&world, &acme())).collect();
    assert_eq!(waiters[3].waits().queued_ahead, 3);
    for (step, waiter) in waiters.iter().enumerate() {
        waiter.waits();
        woken(&waiters);
        drop(open);
        let mut expected = [0; 4];
        expected[step] = 1;
        assert_eq!(woken(&waiters), expected);
        for later in &waiters[step + 1..] {
            assert_eq!(later.waits().reason, Some(Reason::Queue));
        }
        open = waiter.goes();
        // There may be room for another: the next finds out.
        let next = waiters.get(step + 1).map(Waiter::woken);
        assert_eq!(next, (step < 3).then_some(1));
    }
}

#[test]
fn who_is_urgent_goes_before_who_came_earlier() {
    let world = one_at_a_time();
    let open = world.granted(&acme(), asking(1));
    let [low, normal, high] = [Priority::Low, Priority::Normal, Priority::High].map(|priority| {
        let waiter = Waiter::new(&world, &acme(), asking(1), priority);
        waiter.waits();
        waiter
    });
    drop(open);
    assert_eq!((low.waits().queued_ahead, normal.waits().queued_ahead), (2, 1));
    drop(high.goes());
    drop(normal.goes());
    drop(low.goes());
}

#[test]
fn a_waiter_that_gives_up_lets_the_next_go() {
    let world = one_at_a_time();
    let open = world.granted(&acme(), asking(1));
    let [first, second, third] = [(); 3].map(|()| waiting(&world, &acme()));
    drop(second);
    assert_eq!((first.woken(), third.woken()), (0, 0), "it was not their turn");
    drop(open);
    drop(first);
    assert_eq!(third.woken(), 1);
    // A grant that nobody took passes on too.
    let fourth = waiting_behind(&world);
    drop(third.goes());
    assert_eq!(fourth.woken(), 1);
    fourth.goes();
}

fn waiting_behind(world: &World) -> Waiter {
    let waiter = Waiter::new(world, &acme(), asking(1), Priority::Normal);
    assert_eq!(waiter.waits().reason, Some(Reason::Queue));
    waiter
}

#[test]
fn what_never_fits_keeps_nobody() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 10");
    let never = Waiter::new(&world, &acme(), asking(11), Priority::High);
    assert!(matches!(never.poll(), Turn::Never(_)));
    world.granted(&acme(), asking(1));
}

#[test]
fn a_waiter_keeps_back_only_those_who_need_what_it_waits_for() {
    let world = World::with("[workspaces.acme.goals.full]\nmax_concurrent = 1");
    let open = world.granted(&acme().goal("full"), asking(1));
    let waiter = waiting(&world, &acme().goal("full"));
    world.granted(&acme(), asking(1));
    world.granted(&acme().goal("other"), asking(1));
    let passing = Waiter::new(&world, &acme().goal("other"), asking(1), Priority::Low);
    passing.goes();
    assert_eq!(world.refused(&acme().goal("full"), asking(1)).reason, Some(Reason::Queue));
    drop(open);
    assert_eq!(world.refused(&acme().goal("full"), asking(1)).queued_ahead, 1, "it came first");
    waiter.goes();
}

#[test]
fn who_waits_for_a_provider_keeps_back_nobody_who_does_not_use_it() {
    let world = World::with("");
    let spent = Failure::classify(Some("insufficient_quota"), Some(429), None);
    world.manager.learn(&Call::new("bolt").credential("openai/k"), spent).unwrap();
    let waiter = waiting(&world, &acme().credential("openai/k"));
    world.granted(&acme(), asking(1));
    world.granted(&acme().credential("openai/other"), asking(1));
    assert_eq!(world.refused(&Call::new("bolt").credential("openai/k"), asking(1)).reason, Some(Reason::Queue));
    drop(waiter);
}

#[test]
fn a_newcomer_that_waits_for_something_else_wakes_those_it_kept_back() {
    let world = World::with("[workspaces.acme.goals.full]\nmax_concurrent = 1");
    let _open = world.granted(&acme().goal("full"), asking(1));
    // Before its first try a waiter may need anything.
    let urgent = Waiter::new(&world, &acme().goal("full"), asking(1), Priority::High);
    let kept = Waiter::new(&world, &acme(), asking(1), Priority::Normal);
    assert_eq!(kept.waits().reason, Some(Reason::Queue));
    urgent.waits();
    assert_eq!(kept.woken(), 1);
    kept.goes();
    assert_eq!(urgent.woken(), 0, "its own try tells it nothing new");
}

#[test]
fn a_try_wakes_nobody_who_cannot_go() {
    let world = one_at_a_time();
    let calls = [acme(), Call::new("bolt"), Call::new("cord")];
    let _open = calls.map(|call| world.granted(&call, asking(1)));
    let waiters = calls.map(|call| waiting(&world, &call));
    for _ in 0..3 {
        for waiter in &waiters {
            waiter.waits();
        }
    }
    assert_eq!(woken(&waiters), [0, 0, 0]);
    world.record(&Call::new("dune"), 1);
    assert_eq!(woken(&waiters), [0, 0, 0], "nothing of theirs");
}

#[test]
fn ten_thousand_waiters_of_as_many_workspaces_do_not_feel_each_other() {
    let world = World::sized(64 << 20, world::NOON, "[defaults]\nmax_concurrent = 1");
    let names: Vec<String> = (0..10_000).map(|step| format!("w-{step}")).collect();
    let mut open = world.granted(&Call::new("w-7"), asking(1));
    let waiters: Vec<Waiter> =
        names.iter().map(|name| Waiter::new(&world, &Call::new(name), asking(1), Priority::Normal)).collect();
    waiters[7].waits();
    for step in 0..10_000 {
        world.record(&Call::new("elsewhere"), step);
    }
    assert_eq!(waiters[7].woken(), 0);
    open.settle(&used(1), None).unwrap();
    assert_eq!(waiters[7].woken(), 1);
    for waiter in &waiters {
        waiter.goes();
    }
}

#[test]
fn ten_thousand_waiters_for_one_limit_go_one_by_one() {
    let world = one_at_a_time();
    let mut open = world.granted(&acme(), asking(1));
    let waiters: Vec<Waiter> =
        (0..10_000).map(|_| Waiter::new(&world, &acme().goal("g"), asking(1), Priority::Normal)).collect();
    assert_eq!(waiters[9_999].waits().queued_ahead, 9_999);
    for waiter in &waiters {
        drop(open);
        open = waiter.goes();
    }
}
