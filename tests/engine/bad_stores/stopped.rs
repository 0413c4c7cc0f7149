//! Processes that are stopped, or killed, while they have the store's lock.

use std::time::{Duration, Instant};

use llmquota::error::Code;
use llmquota::wire::Reason;
use llmquota::{Call, Manager, Verdict};

use crate::actor::Actor;
use crate::scene::{Door, ask, assert_clean, assert_says, granted, in_history, record, total, until, used};

const LIMITS: &str = "[workspaces.opened]\non_store_failure = \"open\"\n[workspaces.closed]\ntokens_per_day = 1000";

fn door() -> Door {
    Door { bytes: 64 << 20, limits: LIMITS.to_owned(), ..Door::default() }
}

/// A store, and a process that is stopped while it has its lock.
fn with_a_stopped_holder(directory: &std::path::Path) -> (Manager, Actor) {
    let manager = door().open(directory).unwrap();
    let mut actor = Actor::on(directory);
    assert_eq!(actor.ask("hammer busy"), "ok");
    actor.stop_with_the_lock(&manager);
    (manager, actor)
}

fn took(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

#[test]
fn reserve_follows_the_policy_and_facts_land_once_when_it_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let early = door().open(place.path()).unwrap();
    let mut hold = granted(&early, "acme", 50);
    let (manager, mut actor) = with_a_stopped_holder(place.path());
    // The first to wait finds out; nobody else waits for the same stop.
    let first = took(|| record(&early, "acme", 5));
    assert!(first >= Duration::from_millis(400) && first < Duration::from_secs(2), "{first:?}");
    let rest = took(|| {
        hold.start().unwrap();
        hold.settle(&used(7), None).unwrap();
        for _ in 0..20 {
            record(&early, "acme", 5);
        }
        let Verdict::Refused(decision) = ask(&early, "closed", 1).unwrap() else { panic!("granted") };
        assert_eq!(decision.reason, Some(Reason::StoreBusy));
        let Verdict::Granted(mut uncounted) = ask(&early, "opened", 1).unwrap() else { panic!("refused") };
        uncounted.release().unwrap();
    });
    assert!(rest < Duration::from_millis(400), "{rest:?}");
    assert!(manager.snapshot("acme").is_err_and(|error| error.code() == Code::StoreBusy), "a look says so too");
    actor.go_on();
    let hammered: u64 = actor.ask("rest").parse().unwrap();
    assert_eq!((total(&manager, "acme"), total(&manager, "busy")), (5 * 21 + 7, hammered));
    assert_eq!(manager.snapshot("acme").unwrap().holds.open, 0);
    assert_eq!(in_history(&manager, "acme"), 5 * 21 + 7);
    assert_clean(&manager);
}

#[test]
fn when_it_is_killed_instead_the_lock_is_taken_over() {
    let place = tempfile::tempdir().unwrap();
    let (manager, mut actor) = with_a_stopped_holder(place.path());
    for _ in 0..10 {
        record(&manager, "acme", 5);
    }
    actor.kill();
    until("the lock is taken over", || manager.snapshot("acme").is_ok_and(|found| found.usage.total.tokens == 50));
    assert!(matches!(ask(&manager, "closed", 1).unwrap(), Verdict::Granted(_)));
    assert_eq!(in_history(&manager, "busy"), i64::try_from(total(&manager, "busy")).unwrap());
    assert_clean(&manager);
}

#[test]
fn a_full_ring_is_told_and_what_it_took_is_counted() {
    let place = tempfile::tempdir().unwrap();
    let (manager, mut actor) = with_a_stopped_holder(place.path());
    let mut landed = 0;
    let error = loop {
        match manager.record(&Call::new("acme").task("t"), &used(1)) {
            Ok(_) => landed += 1,
            Err(error) => break error,
        }
        assert!(landed < 100_000, "no ring is so large");
    };
    assert!(landed > 10, "{landed}");
    assert_says(&error, Code::StoreBusy, &["no room", "llmquota doctor"]);
    actor.go_on();
    actor.ask("rest");
    assert_eq!(total(&manager, "acme"), landed);
    assert_clean(&manager);
}

#[test]
fn what_a_killed_process_put_aside_is_counted_by_others() {
    let place = tempfile::tempdir().unwrap();
    let (manager, mut holder) = with_a_stopped_holder(place.path());
    let mut teller = Actor::new();
    // It may not be able to join now, and joins when the lock is free.
    holder.go_on();
    assert_eq!(teller.ask(&format!("open {}", place.path().display())), "ok");
    holder.stop_with_the_lock(&manager);
    let mut landed = 0;
    while teller.ask("record acme 1") == "ok" {
        landed += 1;
    }
    assert!(landed > 10, "{landed}");
    teller.kill();
    holder.kill();
    until("what was put aside is counted", || manager.snapshot("acme").is_ok_and(|it| it.usage.total.tokens == landed));
    assert_clean(&manager);
}

#[test]
fn whoever_opens_the_store_meanwhile_is_told_within_a_bound() {
    let place = tempfile::tempdir().unwrap();
    let (_manager, _actor) = with_a_stopped_holder(place.path());
    let began = Instant::now();
    let error = door().open(place.path()).err().unwrap();
    assert_says(&error, Code::StoreBusy, &["lock"]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn one_that_is_stopped_without_the_lock_is_in_nobodys_way() {
    let place = tempfile::tempdir().unwrap();
    let manager = door().open(place.path()).unwrap();
    let actor = Actor::on(place.path());
    actor.stop();
    assert!(took(|| record(&manager, "acme", 5)) < Duration::from_millis(300));
    assert!(matches!(ask(&manager, "closed", 1).unwrap(), Verdict::Granted(_)));
    // It may be the one that keeps history, which then waits for it, and says so.
    match manager.flush() {
        Ok(()) => {}
        Err(error) => assert_says(&error, Code::StoreBusy, &["history was not written"]),
    }
}
