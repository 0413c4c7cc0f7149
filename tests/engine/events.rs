//! Events: what a listener is told, by this process or by another, once each, and that nobody writes where nobody listens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

#[path = "world.rs"]
mod world;

use std::time::{Duration, Instant};

use llmquota::manager::{Filter, Subscription};
use llmquota::rules::breaker::{Failure, FailureKind};
use llmquota::rules::left::{Left, Stock};
use llmquota::rules::limits::{LimitKind, LimitSet};
use llmquota::store::region::Region;
use llmquota::store::{Adjust, Counter, Period};
use llmquota::wire::{Change, Event, EventKind, Status, ThresholdLevel};
use llmquota::{Call, Manager, Report, Scope};
use world::{DAY, HOUR, MINUTE, SECOND, World, asking, count, used, workspace};

const ACME: Call<'static> =
    Call { workspace: Some("acme"), goal: None, task: None, model: None, user: None, credential: None };

fn world() -> World {
    World::with("")
}

fn of(name: &str) -> Filter {
    Filter { workspace: Some(name.to_owned()) }
}

fn all_of(subscription: &Subscription) -> Vec<Event> {
    std::iter::from_fn(|| subscription.take().unwrap()).collect()
}

fn kinds(subscription: &Subscription) -> Vec<EventKind> {
    all_of(subscription).into_iter().map(|event| event.what).collect()
}

fn levels(events: &[EventKind]) -> Vec<(LimitKind, ThresholdLevel)> {
    let level = |event: &EventKind| match event {
        EventKind::Threshold { level, limit } => Some((limit.limit, *level)),
        _ => None,
    };
    events.iter().filter_map(level).collect()
}

fn statuses(events: &[EventKind]) -> Vec<(Status, Status)> {
    let status = |event: &EventKind| match event {
        EventKind::Status { old, new } => Some((*old, *new)),
        _ => None,
    };
    events.iter().filter_map(status).collect()
}

fn changes(events: &[EventKind]) -> Vec<Change> {
    let change = |event: &EventKind| match event {
        EventKind::Record { change } => Some(*change),
        _ => None,
    };
    events.iter().filter_map(change).collect()
}

fn told(manager: &Manager) -> (u64, u64) {
    let report = manager.report().unwrap();
    (report.listeners, report.events)
}

#[test]
fn nothing_is_written_while_nobody_listens() {
    let world = world();
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 10));
    world.record(&ACME, 10);
    world.manager.reset("acme").unwrap();
    assert_eq!(told(&world.manager), (0, 0));
    let subscriptions = [(); 2].map(|()| world.manager.subscribe(&Filter::default()).unwrap());
    assert_eq!(told(&world.manager), (1, 0), "a process listens once");
    world.record(&ACME, 1);
    let [first, second] = subscriptions;
    drop(first);
    assert_eq!(told(&world.manager).0, 1);
    let before = told(&world.manager).1;
    assert!(before > 0);
    second.close();
    assert!(second.is_closed() && second.take().unwrap().is_none());
    world.record(&ACME, 1);
    assert_eq!(told(&world.manager), (0, before));
}

#[test]
fn each_change_is_told_in_its_order() {
    let world = world();
    let subscription = world.manager.subscribe(&of("acme")).unwrap();
    let everything = world.manager.subscribe(&Filter::default()).unwrap();
    world.record(&ACME, 5);
    world.record(&Call::new("other"), 5);
    let mut hold = world.granted(&ACME, asking(3));
    hold.settle(&used(2), None).unwrap();
    drop(world.granted(&ACME, asking(3)));
    let hold = world.granted(&ACME, asking(3));
    hold.start().unwrap();
    drop(hold);
    world.manager.adjust("acme", Adjust::Set(Period::Day, Counter::Tokens, 9)).unwrap();
    let events = all_of(&subscription);
    assert!(events.iter().all(|event| event.workspace_id.as_deref() == Some("acme")));
    assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence && pair[0].version < pair[1].version));
    assert_eq!(events.last().unwrap().version, world.manager.snapshot("acme").unwrap().version);
    let told: Vec<EventKind> = events.into_iter().map(|event| event.what).collect();
    use Change::{Adjust as Adjusted, Grant, Orphan, Record, Release, Settle};
    assert_eq!(changes(&told), [Record, Grant, Settle, Grant, Release, Grant, Orphan, Adjusted]);
    assert_eq!(told.len(), 8);
    let names: Vec<String> = all_of(&everything).into_iter().filter_map(|event| event.workspace_id).collect();
    assert_eq!((names.len(), names.iter().filter(|name| *name == "other").count()), (9, 1));
}

#[test]
fn a_crossing_is_told_once_a_period_to_each() {
    let world = world();
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 100));
    let listeners = [(); 3].map(|()| world.manager.subscribe(&of("acme")).unwrap());
    let day = LimitKind::TokensPerDay;
    world.record(&ACME, 79);
    world.record(&ACME, 1);
    world.record(&ACME, 1);
    for _ in 0..5 {
        let hold = world.granted(&ACME, asking(15));
        drop(hold);
    }
    world.manager.adjust("acme", Adjust::Set(Period::Day, Counter::Tokens, 0)).unwrap();
    world.record(&ACME, 100);
    world.record(&ACME, 100);
    let expected = [(day, ThresholdLevel::Near), (day, ThresholdLevel::Critical), (day, ThresholdLevel::Full)];
    for listener in &listeners {
        assert_eq!(levels(&kinds(listener)), expected);
    }
    world.pass(DAY);
    world.record(&ACME, 120);
    world.record(&ACME, 1);
    let [first, ..] = &listeners;
    // What was jumped over is not told.
    assert_eq!(levels(&kinds(first)), [(day, ThresholdLevel::Full)]);
    world.manager.reset("acme").unwrap();
    world.record(&ACME, 85);
    assert_eq!(levels(&kinds(first)), [(day, ThresholdLevel::Near)]);
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 1_000));
    world.record(&ACME, 800);
    assert_eq!(levels(&kinds(first)), [(day, ThresholdLevel::Near)], "another cap is another limit");
}

#[test]
fn a_crossing_carries_the_limit_as_it_stood() {
    let world = world();
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 100));
    let subscription = world.manager.subscribe(&of("acme")).unwrap();
    world.record(&ACME, 60);
    let hold = world.granted(&ACME, asking(25));
    drop(hold);
    let event = all_of(&subscription).into_iter().find(|event| matches!(event.what, EventKind::Threshold { .. }));
    let EventKind::Threshold { limit, .. } = event.unwrap().what else { unreachable!() };
    assert_eq!((limit.account.as_str(), limit.scope), ("acme", Scope::Workspace));
    assert_eq!((count(limit.used), count(limit.held), count(limit.cap)), (60, 25, 100));
    assert_eq!((limit.near, limit.critical, limit.percentage), (true, false, 85.0));
    assert_eq!(limit.resets_at.as_deref(), Some("2026-02-01T00:00:00Z"));
}

#[test]
fn goals_and_providers_have_crossings_too() {
    let world = World::with(
        "[workspaces.acme.goals.\"g\"]\ntokens_per_day = 100\n[providers.openai.\"gpt-4o\"]\nrequests_per_minute = 1\n",
    );
    let subscription = world.manager.subscribe(&Filter::default()).unwrap();
    let call = Call::new("acme").goal("g").model("gpt-4o").credential("openai/ab12");
    world.record(&call, 96);
    let told = kinds(&subscription);
    let of_account = |event: &EventKind| match event {
        EventKind::Threshold { level, limit } => Some((limit.scope, limit.account.clone(), *level)),
        _ => None,
    };
    let found: Vec<_> = told.iter().filter_map(of_account).collect();
    let expected = [
        (Scope::Goal, "g".to_owned(), ThresholdLevel::Critical),
        (Scope::ProviderModel, "gpt-4o".to_owned(), ThresholdLevel::Full),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_minute_is_told_again_once_nobody_has_met_it_for_a_minute() {
    let world = world();
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerMinute, 100));
    let subscription = world.manager.subscribe(&of("acme")).unwrap();
    let minute = LimitKind::TokensPerMinute;
    let mut told = 0;
    for _ in 0..180 {
        world.record(&ACME, 5);
        world.pass(SECOND);
        told += levels(&kinds(&subscription)).len();
    }
    assert_eq!(told, 3, "near, critical and full, for as long as it goes on");
    world.pass(2 * MINUTE);
    world.record(&ACME, 100);
    assert_eq!(levels(&kinds(&subscription)), [(minute, ThresholdLevel::Full)]);
    world.pass(30 * SECOND);
    world.manager.adjust("acme", Adjust::Set(Period::Minute, Counter::Tokens, 0)).unwrap();
    world.record(&ACME, 100);
    assert_eq!(levels(&kinds(&subscription)), [], "the same minute");
}

#[test]
fn status_is_told_when_it_changes_by_use_and_by_time_alone() {
    use Status::{Normal, RateLimited, Warning};
    let world = world();
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerMinute, 100));
    let subscription = world.manager.subscribe(&of("acme")).unwrap();
    let everything = world.manager.subscribe(&Filter::default()).unwrap();
    world.record(&ACME, 85);
    assert_eq!(statuses(&kinds(&subscription)), [(Normal, Warning)]);
    world.pass(10 * SECOND);
    world.record(&ACME, 15);
    assert_eq!(statuses(&kinds(&subscription)), [(Warning, RateLimited)]);
    assert_eq!(statuses(&kinds(&everything)), [(Normal, RateLimited)], "one look, one change");
    world.pass(52 * SECOND);
    let told = subscription.next(Some(Duration::from_secs(5))).unwrap().unwrap();
    assert_eq!(told.what, EventKind::Status { old: RateLimited, new: Normal });
    assert_eq!(statuses(&kinds(&everything)), [(RateLimited, Normal)]);
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 100));
    assert_eq!(statuses(&kinds(&subscription)), [(Normal, Status::QuotaExceeded)], "other limits");
}

#[test]
fn a_breaker_is_told_to_all_who_met_it() {
    use Status::{Normal, QuotaExceeded};
    let world = world();
    let failed =
        Report { failure: Some(Failure { kind: FailureKind::InsufficientQuota, retry_after: None }), ..used(1) };
    let call = |name| Call::new(name).model("gpt-4o").credential("openai/ab12");
    let limited = Failure { kind: FailureKind::RateLimited, retry_after: std::num::NonZeroI64::new(SECOND) };
    world.manager.record(&call("other"), &Report { failure: Some(limited), ..used(1) }).unwrap();
    world.manager.record(&call("other"), &failed).unwrap();
    world.pass(HOUR);
    let other = world.manager.subscribe(&of("other")).unwrap();
    let everything = world.manager.subscribe(&Filter::default()).unwrap();
    world.manager.record(&call("acme"), &used(1)).unwrap();
    assert_eq!(kinds(&other), [EventKind::Status { old: QuotaExceeded, new: Normal }], "by a call of acme");
    world.manager.record(&call("acme"), &failed).unwrap();
    assert_eq!(kinds(&other), [EventKind::Status { old: Normal, new: QuotaExceeded }]);
    let told = all_of(&everything);
    let named = |name: &str| told.iter().filter(|event| event.workspace_id.as_deref() == Some(name)).count();
    assert_eq!((named("other"), named("acme")), (1, 3));
    world.manager.learn(&Call::new("third"), limited).unwrap();
    let told = kinds(&everything);
    assert_eq!(changes(&told), [Change::Adjust]);
    assert_eq!(statuses(&told), [(Normal, Status::RateLimited)]);
}

#[test]
fn what_a_provider_has_nothing_left_of_is_told_until_it_has() {
    use Status::{Normal, RateLimited};
    let world = world();
    let call = Call::new("acme").model("gpt-4o").credential("openai/ab12");
    let (acme, other) = (world.manager.subscribe(&of("acme")).unwrap(), world.manager.subscribe(&of("other")).unwrap());
    let hear = |stock| {
        let left = Left { tokens: Some(stock), ..Left::default() };
        world.manager.hear(&call, left, world.manager.now().mono, true).unwrap();
    };
    let minute = Stock::NoneFor(std::num::NonZeroI64::new(60 * SECOND).unwrap());
    hear(minute);
    assert_eq!(kinds(&acme), [EventKind::Status { old: Normal, new: RateLimited }], "and nothing was counted");
    hear(minute);
    assert_eq!(kinds(&acme), [], "no news");
    hear(Stock::Some);
    assert_eq!(kinds(&acme), [EventKind::Status { old: RateLimited, new: Normal }]);
    hear(minute);
    world.pass(60 * SECOND);
    assert_eq!(kinds(&other), []);
}

#[test]
fn who_is_too_slow_learns_of_crossings_and_status_all_the_same() {
    let world = world();
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 100));
    world.limit(workspace("other"), LimitSet::NONE.with(LimitKind::TokensPerDay, 100));
    let slow = world.manager.subscribe(&of("acme")).unwrap();
    let everything = world.manager.subscribe(&Filter::default()).unwrap();
    let clock = std::sync::Arc::new(world.clock.clone());
    let region = Region::private(8 << 20, clock, std::sync::Arc::default()).unwrap();
    let ring = region.tables().into_iter().find(|(name, ..)| *name == "events").unwrap().1 as u64;
    for tokens in [80, 15, 5] {
        world.record(&ACME, tokens);
    }
    world.record(&Call::new("other"), 96);
    for _ in 0..ring * 2 {
        world.record(&Call::new("third"), 1);
    }
    world.record(&ACME, 1);
    let events = all_of(&slow);
    let EventKind::Lagged { count } = events[0].what else { panic!("{events:?}") };
    let total = told(&world.manager).1;
    assert!(count > ring && count < total, "{count} of {total}");
    let rest: Vec<EventKind> = events.into_iter().skip(1).map(|event| event.what).collect();
    let levels_told: Vec<ThresholdLevel> = levels(&rest).into_iter().map(|(_, level)| level).collect();
    assert_eq!(levels_told, [ThresholdLevel::Near, ThresholdLevel::Critical, ThresholdLevel::Full]);
    assert_eq!(statuses(&rest), [(Status::Normal, Status::QuotaExceeded)]);
    assert_eq!(changes(&rest), [Change::Record], "the last is not gone");
    let told = kinds(&everything);
    assert_eq!(levels(&told).len(), 4);
    assert!(statuses(&told).contains(&(Status::Normal, Status::Warning)));
    assert!(kinds(&slow).is_empty() && kinds(&everything).is_empty());
}

#[test]
fn a_listener_that_sleeps_is_woken() {
    let manager = world::manager(8 << 20, std::sync::Arc::new(llmquota::SystemClock), "");
    let subscription = manager.subscribe(&of("acme")).unwrap();
    std::thread::scope(|scope| {
        let closes =
            scope.spawn(|| subscription.next(None).unwrap().is_some() && subscription.next(None).unwrap().is_none());
        std::thread::sleep(Duration::from_millis(50));
        manager.record(&ACME, &used(1)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        subscription.close();
        assert!(closes.join().unwrap());
    });
    let began = Instant::now();
    assert!(subscription.next(Some(Duration::from_secs(30))).unwrap().is_none() && began.elapsed().as_secs() < 5);
}

#[test]
fn of_many_threads_that_sleep_on_one_subscription_none_is_forgotten() {
    let manager = world::manager(8 << 20, std::sync::Arc::new(llmquota::SystemClock), "");
    let subscription = manager.subscribe(&of("acme")).unwrap();
    let threads = 12;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| assert!(subscription.next(Some(Duration::from_secs(30))).unwrap().is_some()));
        }
        std::thread::sleep(Duration::from_millis(50));
        // Who gave up is not woken in the place of who did not.
        assert!(subscription.next(Some(Duration::from_millis(20))).unwrap().is_none());
        for _ in 0..threads {
            manager.record(&ACME, &used(1)).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[cfg(target_os = "linux")]
mod shared {
    use std::path::Path;

    use llmquota::config::Config;
    use llmquota::store::shared::SharedOptions;
    use llmquota::waiting::{Priority, Turn};
    use llmquota::{Options, Verdict};

    use super::*;

    fn open(directory: &Path) -> Manager {
        let shared = Some(SharedOptions::at(directory));
        Manager::new(Options { bytes: 16 << 20, config: Config::unlimited(), shared, ..Options::default() }).unwrap()
    }

    #[test]
    fn what_one_process_does_another_is_told_within_a_moment() {
        let directory = tempfile::tempdir().unwrap();
        let (left, right) = (open(directory.path()), open(directory.path()));
        let set = LimitSet::NONE.with(LimitKind::RequestsPerDay, 500);
        left.set_override(workspace("acme"), set, None).unwrap();
        let subscription = right.subscribe(&of("acme")).unwrap();
        assert_eq!((told(&left).0, told(&right).0), (1, 1));
        let mut waits = Vec::new();
        let mut crossings = Vec::new();
        for _ in 0..500 {
            let began = Instant::now();
            left.record(&ACME, &used(1)).unwrap();
            loop {
                let event = subscription.next(Some(Duration::from_secs(10))).unwrap().unwrap();
                match event.what {
                    EventKind::Record { .. } => break,
                    EventKind::Threshold { level, .. } => crossings.push(level),
                    _ => {}
                }
            }
            waits.push(began.elapsed());
        }
        let rest = levels(&kinds(&subscription));
        crossings.extend(rest.into_iter().map(|(_, level)| level));
        assert_eq!(crossings, [ThresholdLevel::Near, ThresholdLevel::Critical, ThresholdLevel::Full]);
        waits.sort_unstable();
        assert!(waits[495] < Duration::from_millis(250), "{:?}", waits[495]);
        drop(subscription);
        assert_eq!(told(&left).0, 0);
    }

    #[test]
    fn a_waiter_is_woken_by_what_another_process_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let (left, right) = (open(directory.path()), open(directory.path()));
        let set = LimitSet::NONE.with(LimitKind::MaxConcurrent, 1);
        left.set_override(workspace("acme"), set, None).unwrap();
        let ttl = Duration::from_secs(60);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let Verdict::Granted(hold) = left.reserve(&ACME, &asking(1), ttl).unwrap() else { panic!("it fits") };
            let waiter = right.clone();
            let waits_for_it = std::thread::spawn(move || {
                let ticket = waiter.queue_up(&ACME, &asking(1), ttl, Priority::Normal).unwrap();
                let waker = std::task::Waker::from(std::sync::Arc::new(Sleeper(std::thread::current())));
                loop {
                    match ticket.poll(&waker).unwrap() {
                        Turn::Granted(hold) => {
                            drop(hold);
                            return Instant::now();
                        }
                        Turn::Wait { sleep, .. } => std::thread::park_timeout(sleep),
                        Turn::Never(decision) => panic!("{decision:?}"),
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(30));
            let began = Instant::now();
            drop(hold);
            waits.push(waits_for_it.join().unwrap().saturating_duration_since(began));
        }
        waits.sort_unstable();
        assert!(waits[5] < Duration::from_millis(250), "{waits:?}");
        assert_eq!(told(&left).0, 0, "who has got its turn listens no more");
    }

    struct Sleeper(std::thread::Thread);

    impl std::task::Wake for Sleeper {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
}
