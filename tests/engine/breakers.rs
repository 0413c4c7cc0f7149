//! Breakers: which of a provider's failures stop whose calls, until when, and how one probe finds out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::sync::Barrier;
use std::time::Duration;

use llmquota::reservation::{Hold, HoldState, Report, Verdict};
use llmquota::rules::breaker::{FAILURE_COOL_DOWN, Failure, LEAST_FAILURES, QUOTA_COOL_DOWN, RATE_LIMIT_COOL_DOWN};
use llmquota::rules::left::{Left, Stock};
use llmquota::wire::{Reason, Status};
use llmquota::{Ask, Call};
use world::{MINUTE, NOON, SECOND, World, asking, told, used};

fn spent() -> Failure {
    Failure::classify(Some("insufficient_quota"), Some(429), None)
}

fn rate_limited(wait: Option<i64>) -> Failure {
    Failure::classify(Some("rate_limit_exceeded"), Some(429), wait)
}

fn overloaded() -> Failure {
    Failure::classify(None, Some(529), None)
}

fn call(workspace: &'static str, model: &'static str) -> Call<'static> {
    Call::new(workspace).model(model).credential("openai/k1")
}

fn acme() -> Call<'static> {
    call("acme", "gpt")
}

fn fail(world: &World, call: &Call<'_>, failure: Failure) {
    let mut hold = world.granted(call, asking(1));
    hold.start().unwrap();
    hold.settle(&Report::failed(failure), None).unwrap();
}

fn open_for(world: &World, call: &Call<'_>, cause: &str) -> i64 {
    let decision = world.refused(call, asking(1));
    assert_eq!((decision.reason, decision.breaker.as_deref()), (Some(Reason::Breaker), Some(cause)));
    assert!(!decision.never_fits && decision.limits.is_empty());
    told(&decision) - wall_now(world)
}

fn wall_now(world: &World) -> i64 {
    world.manager.now().wall
}

fn status(world: &World, workspace: &str) -> Status {
    world.manager.snapshot(workspace).unwrap().status
}

#[test]
fn a_spent_quota_opens_the_whole_credential_and_nothing_else() {
    let world = World::with("");
    fail(&world, &acme(), spent());
    for refused in [acme(), call("acme", "other"), call("bolt", "gpt"), Call::new("bolt").credential("openai/k1")] {
        assert_eq!(open_for(&world, &refused, "insufficient_quota"), QUOTA_COOL_DOWN, "{refused:?}");
    }
    for free in [Call::new("acme"), Call::new("bolt").model("gpt"), call("acme", "gpt").credential("openai/k2")] {
        world.granted(&free, asking(1));
    }
    let bolt = world.manager.snapshot("bolt").unwrap();
    assert_eq!(bolt.status, Status::Normal, "another workspace only sees the provider's state");
    assert_eq!(bolt.provider_state["openai/k1"].state, "open");
    assert_eq!(status(&world, "acme"), Status::QuotaExceeded);
    assert!(!world.manager.can_make_request("acme").unwrap(), "it says what the status says");
    assert!(world.manager.can_make_request("bolt").unwrap());
}

#[test]
fn a_rate_limit_opens_the_model_alone_until_the_providers_own_time() {
    let world = World::with("");
    fail(&world, &acme(), rate_limited(Some(7 * SECOND)));
    assert_eq!(open_for(&world, &call("bolt", "gpt"), "rate_limit_exceeded"), 7 * SECOND);
    world.granted(&call("acme", "other"), asking(1));
    world.granted(&Call::new("acme").credential("openai/k1"), asking(1));
    assert_eq!(status(&world, "acme"), Status::RateLimited);
    world.pass(7 * SECOND - 1);
    world.refused(&acme(), asking(1));
    world.pass(1);
    let both = [world.granted(&acme(), asking(1)), world.granted(&acme(), asking(1))];
    assert_eq!(status(&world, "acme"), Status::Normal, "waiting alone closed it");
    assert!(world.manager.snapshot("bolt").unwrap().provider_state.is_empty());
    drop(both);
    fail(&world, &acme(), rate_limited(None));
    assert_eq!(open_for(&world, &acme(), "rate_limit_exceeded"), RATE_LIMIT_COOL_DOWN);
}

#[test]
fn a_failure_told_by_hand_opens_its_own_workspace_only() {
    let world = World::with("");
    world.manager.learn(&Call::new("acme"), spent()).unwrap();
    assert_eq!(open_for(&world, &acme(), "insufficient_quota"), QUOTA_COOL_DOWN);
    assert_eq!(open_for(&world, &Call::new("acme"), "insufficient_quota"), QUOTA_COOL_DOWN);
    assert!(!world.manager.can_make_request("acme").unwrap());
    world.granted(&call("bolt", "gpt"), asking(1));
    assert!(world.manager.snapshot("bolt").unwrap().provider_state.is_empty());
    assert_eq!(status(&world, "acme"), Status::QuotaExceeded);
    assert_eq!(world.usage(&Call::new("acme")).total.requests, 0, "no call, no request");
    world.manager.reset("acme").unwrap();
    world.granted(&acme(), asking(1));
}

#[test]
fn other_errors_never_open_anything() {
    let world = World::with("");
    for (code, http) in
        [(Some("context_length_exceeded"), 400), (Some("invalid_api_key"), 401), (None, 404), (None, 422)]
    {
        for _ in 0..20 {
            fail(&world, &acme(), Failure::classify(code, Some(http), None));
        }
    }
    let total = world.usage(&Call::new("acme")).total;
    assert_eq!((total.requests, total.errors), (80, 80));
    assert_eq!(status(&world, "acme"), Status::Normal);
}

#[test]
fn a_failing_provider_opens_its_model_by_rate_and_degrades() {
    let world = World::with("");
    for _ in 0..LEAST_FAILURES {
        assert_ne!(status(&world, "acme"), Status::Degraded);
        fail(&world, &acme(), overloaded());
    }
    assert_eq!(open_for(&world, &call("bolt", "gpt"), "failure_rate"), FAILURE_COOL_DOWN);
    assert_eq!(status(&world, "acme"), Status::Degraded);
    world.granted(&call("acme", "other"), asking(1));
    world.pass(FAILURE_COOL_DOWN);
    let mut probe = world.granted(&acme(), asking(1));
    world.refused(&acme(), asking(1));
    probe.settle(&used(1), None).unwrap();
    world.granted(&acme(), asking(1));
    world.granted(&acme(), asking(1));
}

/// A credential whose quota was spent a cool-down ago: half open.
fn half_open() -> World {
    let world = World::with("");
    fail(&world, &acme(), spent());
    world.pass(QUOTA_COOL_DOWN);
    world
}

#[test]
fn half_open_admits_exactly_one_probe_under_eight_threads() {
    for _ in 0..20 {
        let world = half_open();
        let barrier = Barrier::new(8);
        let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
            let ask = |workspace| {
                let (world, barrier) = (&world, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    (0..50).map(|_| world.ask(&call(workspace, "gpt"), asking(1))).collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().map(ask).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let probes: Vec<Hold> = verdicts
            .into_iter()
            .filter_map(|verdict| if let Verdict::Granted(hold) = verdict { Some(hold) } else { None })
            .collect();
        assert_eq!(probes.len(), 1);
    }
}

#[test]
fn while_the_probe_is_away_nobody_knows_when() {
    let world = half_open();
    let _probe = world.granted(&acme(), asking(1));
    let decision = world.refused(&acme(), asking(1));
    assert_eq!((decision.reason, decision.retry_at), (Some(Reason::Breaker), None));
    assert_eq!(world.manager.snapshot("bolt").unwrap().provider_state["openai/k1"].state, "half_open");
}

#[test]
fn a_probe_that_succeeds_closes_and_one_that_fails_so_again_opens_for_longer() {
    let world = half_open();
    fail(&world, &acme(), spent());
    assert_eq!(open_for(&world, &acme(), "insufficient_quota"), 2 * QUOTA_COOL_DOWN);
    world.pass(2 * QUOTA_COOL_DOWN);
    world.granted(&acme(), asking(1)).settle(&used(1), None).unwrap();
    world.granted(&acme(), asking(1));
    world.granted(&call("bolt", "gpt"), asking(1));
    assert_eq!(status(&world, "acme"), Status::Normal);
}

#[test]
fn a_probe_that_ends_without_an_answer_lets_another_go() {
    for started in [false, true] {
        let world = half_open();
        let mut released = world.granted(&acme(), asking(1));
        released.release().unwrap();
        let dropped = world.granted(&acme(), asking(1));
        if started {
            dropped.start().unwrap();
        }
        drop(dropped);
        let ttl = Duration::from_secs(5);
        let expired = world::granted(world.manager.reserve(&acme(), &Ask::tokens(1), ttl).unwrap());
        world.pass(5 * SECOND);
        let _next = world.granted(&acme(), asking(1));
        drop(expired);
        world.refused(&acme(), asking(1));
    }
}

#[test]
fn a_probe_that_fails_for_another_reason_lets_another_go() {
    for failure in [Failure::UNKNOWN, overloaded(), rate_limited(Some(SECOND))] {
        let world = half_open();
        fail(&world, &acme(), failure);
        world.pass(SECOND);
        let _next = world.granted(&acme(), asking(1));
        world.refused(&call("acme", "other"), asking(1));
    }
}

#[test]
fn only_the_probe_itself_ends_the_probe() {
    let world = World::with("");
    let call = Call::new("acme").credential("openai/k1");
    let mut earlier = world.granted(&call, asking(1));
    earlier.start().unwrap();
    fail(&world, &call, spent());
    world.pass(QUOTA_COOL_DOWN - SECOND);
    assert_eq!(earlier.settle(&Report::failed(Failure::UNKNOWN), None).unwrap().0.was, HoldState::Started);
    world.pass(SECOND);
    let ttl = Duration::from_secs(5);
    let mut late = world::granted(world.manager.reserve(&call, &Ask::tokens(1), ttl).unwrap());
    late.start().unwrap();
    world.pass(5 * SECOND);
    let mut second = world.granted(&call, asking(1));
    assert_eq!(late.settle(&Report::failed(Failure::UNKNOWN), None).unwrap().0.was, HoldState::Charged);
    world.manager.record(&call, &Report::failed(overloaded())).unwrap();
    world.refused(&call, asking(1));
    second.settle(&Report::failed(Failure::UNKNOWN), None).unwrap();
    world.granted(&call, asking(1));
}

#[test]
fn a_success_that_began_before_the_quota_was_spent_proves_nothing() {
    let world = World::with("");
    let mut earlier = world.granted(&acme(), asking(1));
    world.pass(SECOND);
    fail(&world, &acme(), spent());
    world.pass(SECOND);
    earlier.settle(&used(1), None).unwrap();
    assert_eq!(open_for(&world, &acme(), "insufficient_quota"), QUOTA_COOL_DOWN - SECOND);
}

#[test]
fn a_refusal_by_breaker_names_the_limits_in_the_way_too() {
    let world = World::with("[workspaces.acme]\nrequests_per_minute = 1");
    fail(&world, &acme(), rate_limited(Some(7 * SECOND)));
    let decision = world.refused(&acme(), asking(1));
    assert_eq!((decision.reason, decision.limits.len()), (Some(Reason::Breaker), 1));
    assert_eq!(told(&decision), wall_now(&world) + 61 * SECOND, "the later of the two");
    world.pass(MINUTE + SECOND);
    world.granted(&acme(), asking(1));
}

#[test]
fn a_full_table_of_breakers_gives_up_those_that_have_nothing_to_remember() {
    let world = World::sized(1 << 20, NOON, "");
    let limited = rate_limited(Some(SECOND));
    for name in 0..700 {
        world.manager.learn(&Call::new(&format!("w{name}")), limited).unwrap();
    }
    world.pass(86_400 * SECOND);
    fail(&world, &acme(), spent());
    assert_eq!(open_for(&world, &acme(), "insufficient_quota"), QUOTA_COOL_DOWN);
    // Those that are open stay, however many others ask.
    for name in 0..700 {
        world.manager.learn(&Call::new(&format!("v{name}")), limited).unwrap();
        world.pass(2 * SECOND / 10);
    }
    assert!(open_for(&world, &acme(), "insufficient_quota") > 0);
}

fn no_tokens(wait: i64) -> Left {
    Left { tokens: std::num::NonZeroI64::new(wait).map(Stock::NoneFor), ..Left::default() }
}

fn tokens_left() -> Left {
    Left { tokens: Some(Stock::Some), ..Left::default() }
}

fn hear(world: &World, call: &Call<'_>, left: Left) {
    world.manager.hear(call, left, world.manager.now().mono, true).unwrap();
}

#[test]
fn what_the_provider_has_nothing_left_of_is_refused_to_all_until_then_and_is_no_error() {
    let world = World::with("");
    world.granted(&acme(), asking(1)).settle(&used(1), None).unwrap();
    hear(&world, &acme(), no_tokens(7 * SECOND));
    assert_eq!(open_for(&world, &call("bolt", "gpt"), "no_tokens_left"), 7 * SECOND);
    let detail = world.refused(&acme(), asking(1)).detail.unwrap();
    assert_eq!(detail, "the provider has no tokens left for 'gpt', by its own limit");
    world.granted(&call("acme", "other"), asking(1));
    world.granted(&Call::new("acme").credential("openai/k1"), asking(1));
    let snapshot = world.manager.snapshot("acme").unwrap();
    assert_eq!((snapshot.status, snapshot.last_error_at), (Status::RateLimited, None));
    assert_eq!(snapshot.status_reasons, ["breaker:no_tokens_left"]);
    assert_eq!((snapshot.usage.total.requests, snapshot.usage.total.errors), (1, 0));
    let bolt = world.manager.snapshot("bolt").unwrap();
    assert_eq!(bolt.status, Status::Normal, "another workspace only sees the provider's state");
    assert_eq!(bolt.provider_state["openai/k1/gpt"].cause.as_deref(), Some("no_tokens_left"));
    world.pass(7 * SECOND - 1);
    world.refused(&acme(), asking(1));
    world.pass(1);
    let both = [world.granted(&acme(), asking(1)), world.granted(&acme(), asking(1))];
    assert_eq!(status(&world, "acme"), Status::Normal, "waiting alone closed it");
    drop(both);
    fail(&world, &acme(), overloaded());
    world.granted(&acme(), asking(1));
}

#[test]
fn without_a_model_it_is_the_credentials_and_without_a_credential_nobodys() {
    let world = World::with("");
    hear(&world, &Call::new("acme").model("gpt"), no_tokens(7 * SECOND));
    world.granted(&Call::new("acme").model("gpt"), asking(1));
    hear(&world, &Call::new("acme").credential("openai/k1"), no_tokens(7 * SECOND));
    assert_eq!(open_for(&world, &call("bolt", "gpt"), "no_tokens_left"), 7 * SECOND);
    world.granted(&call("bolt", "gpt").credential("openai/k2"), asking(1));
}

#[test]
fn the_answer_of_a_call_that_began_later_wins() {
    let world = World::with("");
    let began = world.manager.now().mono;
    world.pass(SECOND);
    hear(&world, &acme(), no_tokens(60 * SECOND));
    world.pass(SECOND);
    world.manager.hear(&acme(), tokens_left(), began, true).unwrap();
    assert_eq!(open_for(&world, &acme(), "no_tokens_left"), 59 * SECOND);
    let later = world.manager.now().mono;
    world.pass(SECOND);
    world.manager.hear(&acme(), tokens_left(), later, true).unwrap();
    world.granted(&acme(), asking(1));
    assert!(world.manager.snapshot("bolt").unwrap().provider_state.is_empty());
    world.manager.hear(&acme(), no_tokens(60 * SECOND), began, true).unwrap();
    world.granted(&acme(), asking(1));
}

#[test]
fn what_is_left_where_nothing_ever_was_wrong_makes_nothing() {
    let world = World::with("");
    hear(&world, &acme(), tokens_left());
    hear(&world, &acme(), Left::default());
    assert_eq!(world.manager.fill().accounts, World::with("").manager.fill().accounts);
}
