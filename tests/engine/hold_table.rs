//! Every row of the hold table: how a hold can end, and what is counted then.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::time::Duration;

use llmquota::error::Code;
use llmquota::reservation::{Ended, Hold, HoldState, Report};
use llmquota::rules::breaker::Failure;
use llmquota::rules::limits::LimitKind::{MaxConcurrent, RequestsPerMinute, TokensPerDay, TokensPerMinute};
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::{Ask, Call};
use world::{MINUTE, SECOND, World, asking, granted, used};

const FILE: &str = "
[workspaces.acme]
requests_per_minute = 10
tokens_per_minute = 1_000
tokens_per_day = 5_000
max_concurrent = 5
";

fn acme() -> Call<'static> {
    Call::new("acme")
}

fn world() -> World {
    World::with(FILE)
}

/// Used and held: tokens of the minute, tokens of the day, requests of the minute; and the open calls.
fn counts(world: &World) -> [(u64, u64); 4] {
    [TokensPerMinute, TokensPerDay, RequestsPerMinute, MaxConcurrent].map(|kind| world.counts(&acme(), kind))
}

const NOTHING: [(u64, u64); 4] = [(0, 0); 4];

fn short(world: &World, ttl: i64) -> Hold {
    let ttl = Duration::from_nanos(ttl.unsigned_abs());
    granted(world.manager.reserve(&acme(), &asking(100), ttl).unwrap())
}

fn ended(was: HoldState, is: HoldState) -> Ended {
    Ended { was, is, changed: was != is }
}

#[test]
fn what_is_held_is_shown_apart_and_leaves_with_its_minute_while_the_call_is_open() {
    let world = world();
    let hold = world.granted(&acme(), asking(100));
    assert_eq!(counts(&world), [(0, 100), (0, 100), (0, 1), (0, 1)]);
    world.pass(61 * SECOND - 1);
    assert_eq!(counts(&world), [(0, 100), (0, 100), (0, 1), (0, 1)]);
    world.pass(1);
    assert_eq!(counts(&world), [(0, 0), (0, 100), (0, 0), (0, 1)]);
    drop(hold);
    assert_eq!(counts(&world), NOTHING);
}

#[test]
fn settle_of_a_reserved_hold_counts_the_real_amounts() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    let (end, receipt) = hold.settle(&Report { cost: Some(NanoUsd::from_nanos(7)), ..used(40) }, None).unwrap();
    assert_eq!(end, ended(HoldState::Reserved, HoldState::Settled));
    assert_eq!(receipt.cost, NanoUsd::from_nanos(7));
    assert_eq!(counts(&world), [(40, 0), (40, 0), (1, 0), (0, 0)]);
}

#[test]
fn settle_of_a_started_hold_lands_in_the_bucket_of_its_grant_while_that_lives() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    assert_eq!(hold.start().unwrap(), ended(HoldState::Reserved, HoldState::Started));
    world.pass(30 * SECOND);
    let (end, _) = hold.settle(&used(250), None).unwrap();
    assert_eq!(end, ended(HoldState::Started, HoldState::Settled));
    assert_eq!(counts(&world), [(250, 0), (250, 0), (1, 0), (0, 0)]);
    world.pass(31 * SECOND);
    assert_eq!(counts(&world), [(0, 0), (250, 0), (0, 0), (0, 0)], "the bucket of the grant is over");
}

#[test]
fn settle_after_the_minute_lands_in_the_day_alone() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    hold.start().unwrap();
    world.pass(2 * MINUTE);
    hold.settle(&used(40), None).unwrap();
    assert_eq!(counts(&world), [(0, 0), (40, 0), (0, 0), (0, 0)]);
    assert_eq!(world.usage(&acme()).total.tokens, 40);
}

#[test]
fn settle_after_midnight_lands_in_the_day_of_the_grant() {
    let world = World::at("2026-01-31T23:59:00Z", FILE);
    let mut hold = world.granted(&acme(), asking(100));
    hold.start().unwrap();
    world.pass(2 * MINUTE);
    assert_eq!(world.counts(&acme(), TokensPerDay), (0, 0));
    hold.settle(&used(40), None).unwrap();
    let usage = world.usage(&acme());
    assert_eq!((usage.day.tokens, usage.month.tokens, usage.total.tokens), (0, 0, 40));
    world.clock.set_wall(world::wall("2026-01-31T23:59:30Z"));
    let usage = world.usage(&acme());
    assert_eq!((usage.day.tokens, usage.month.tokens, usage.total.tokens), (40, 40, 40));
}

#[test]
fn a_hold_of_a_day_before_1970_is_taken_back_too() {
    let file = "[workspaces.acme]\ntokens_per_day = 100\ntimezone = \"America/New_York\"";
    for instant in ["1969-06-01T12:00:00Z", "1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z"] {
        let world = World::at(instant, file);
        drop(world.granted(&acme(), asking(100)));
        assert_eq!(world.counts(&acme(), TokensPerDay), (0, 0), "{instant}");
        world.granted(&acme(), asking(100)).settle(&used(60), None).unwrap();
        assert_eq!(world.counts(&acme(), TokensPerDay), (60, 0), "{instant}");
    }
}

#[test]
fn release_of_a_reserved_or_a_started_hold_counts_nothing() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    assert_eq!(hold.release().unwrap(), ended(HoldState::Reserved, HoldState::Released));
    let mut hold = world.granted(&acme(), asking(100));
    hold.start().unwrap();
    assert_eq!(hold.release().unwrap(), ended(HoldState::Started, HoldState::Released));
    assert_eq!(counts(&world), NOTHING);
    assert_eq!(world.usage(&acme()), llmquota::wire::Usage::default());
}

#[test]
fn a_reserved_hold_that_is_dropped_is_released() {
    let world = world();
    drop(world.granted(&acme(), asking(100)));
    assert_eq!(counts(&world), NOTHING);
    assert_eq!(world.usage(&acme()).total.requests, 0);
}

#[test]
fn a_started_hold_that_is_dropped_is_charged_as_held() {
    let world = world();
    let ask = Ask { cost: Some(NanoUsd::from_nanos(1_000)), ..asking(100) };
    let hold = world.granted(&acme(), ask);
    hold.start().unwrap();
    drop(hold);
    assert_eq!(counts(&world), [(100, 0), (100, 0), (1, 0), (0, 0)]);
    let total = world.usage(&acme()).total;
    assert_eq!((total.requests, total.errors, total.tokens, total.cost_usd), (1, 0, 100, 0.000_001));
}

#[test]
fn an_expired_reserved_hold_is_released_and_an_expired_started_one_is_charged_once() {
    let world = world();
    let (_reserved, mut started) = (short(&world, 10 * SECOND), short(&world, 10 * SECOND));
    started.start().unwrap();
    world.pass(10 * SECOND - 1);
    assert_eq!(counts(&world), [(0, 200), (0, 200), (0, 2), (0, 2)]);
    world.pass(1);
    assert_eq!(counts(&world), [(100, 0), (100, 0), (1, 0), (0, 0)]);
    assert_eq!(started.abandon().unwrap(), ended(HoldState::Charged, HoldState::Charged));
    assert_eq!(started.release().unwrap(), ended(HoldState::Charged, HoldState::Charged));
    assert_eq!(counts(&world), [(100, 0), (100, 0), (1, 0), (0, 0)]);
}

#[test]
fn a_late_settle_replaces_what_was_charged() {
    for real in [0, 40, 100, 700] {
        let world = world();
        let mut hold = short(&world, 10 * SECOND);
        hold.start().unwrap();
        world.pass(20 * SECOND);
        world.record(&acme(), 5);
        assert_eq!(counts(&world), [(105, 0), (105, 0), (2, 0), (0, 0)]);
        assert_eq!(hold.settle(&used(real), None).unwrap().0, ended(HoldState::Charged, HoldState::Settled));
        assert_eq!(counts(&world), [(real + 5, 0), (real + 5, 0), (2, 0), (0, 0)]);
        assert_eq!(world.usage(&acme()).total.tokens, real + 5);
    }
}

#[test]
fn a_late_settle_after_a_reset_takes_nothing_from_others() {
    let world = world();
    let goal = acme().goal("g");
    let hold = granted(world.manager.reserve(&goal, &asking(100), Duration::from_secs(1)).unwrap());
    let mut hold = hold;
    hold.start().unwrap();
    world.pass(2 * SECOND);
    world.manager.reset("acme").unwrap();
    world.record(&goal, 500);
    hold.settle(&used(10), None).unwrap();
    assert_eq!(world.usage(&acme()).total.tokens, 500);
    assert_eq!(world.usage(&goal).day.tokens, 500);
}

#[test]
fn only_the_first_settle_counts() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    hold.settle(&used(40), None).unwrap();
    assert_eq!(hold.settle(&used(900), None).unwrap().0, ended(HoldState::Settled, HoldState::Settled));
    assert_eq!(counts(&world), [(40, 0), (40, 0), (1, 0), (0, 0)]);
}

#[test]
fn nothing_moves_a_settled_hold() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    hold.settle(&used(40), None).unwrap();
    let still = ended(HoldState::Settled, HoldState::Settled);
    assert_eq!([hold.start().unwrap(), hold.release().unwrap(), hold.abandon().unwrap()], [still; 3]);
    drop(hold);
    assert_eq!(counts(&world), [(40, 0), (40, 0), (1, 0), (0, 0)]);
}

#[test]
fn a_settle_after_a_release_lands_as_a_fact_of_now() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    hold.release().unwrap();
    world.pass(45 * SECOND);
    assert_eq!(hold.settle(&used(40), None).unwrap().0, ended(HoldState::Released, HoldState::Settled));
    world.pass(60 * SECOND);
    assert_eq!(counts(&world), [(40, 0), (40, 0), (1, 0), (0, 0)], "it counts from the settle on");
    world.pass(SECOND);
    assert_eq!(counts(&world), [(0, 0), (40, 0), (0, 0), (0, 0)]);
}

#[test]
fn a_settle_above_its_hold_goes_past_the_limit_and_is_a_debt() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(1_000));
    hold.settle(&used(1_600), None).unwrap();
    let line = world.line(&acme(), TokensPerMinute);
    assert_eq!((world::count(line.used), world::count(line.debt)), (1_600, 600));
    world.refused(&acme(), asking(1));
}

#[test]
fn a_connection_that_was_refused_is_an_error_without_a_request() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    hold.start().unwrap();
    hold.settle(&Report { requests: 0, ..Report::failed(Failure::UNKNOWN) }, None).unwrap();
    let total = world.usage(&acme()).total;
    assert_eq!((total.requests, total.errors, total.tokens), (0, 1, 0));
    assert_eq!(counts(&world), NOTHING);
}

#[test]
fn a_settle_with_usage_that_cannot_be_changes_nothing() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(100));
    let nonsense = Report::success(TokenUsage { cached_input: 5, ..TokenUsage::default() });
    assert_eq!(hold.settle(&nonsense, None).unwrap_err().code(), Code::InvalidNumber);
    let refund = Report { cost: Some(NanoUsd::from_nanos(-1)), ..used(1) };
    assert_eq!(hold.settle(&refund, None).unwrap_err().code(), Code::InvalidNumber);
    assert_eq!(counts(&world), [(0, 100), (0, 100), (0, 1), (0, 1)]);
    hold.settle(&used(40), None).unwrap();
    assert_eq!(counts(&world), [(40, 0), (40, 0), (1, 0), (0, 0)]);
}

#[test]
fn the_end_of_a_hold_lands_on_every_account_of_its_chain() {
    let world = world();
    let call = acme().goal("g").task("t").model("gpt-4o").user("u").credential("openai/k");
    world.granted(&call, asking(100)).settle(&used(40), None).unwrap();
    let accounts = [
        acme(),
        acme().goal("g"),
        acme().task("t"),
        acme().model("gpt-4o"),
        acme().user("u"),
        acme().credential("openai/k"),
        acme().model("gpt-4o").credential("openai/k"),
    ];
    for account in accounts {
        let usage = world.usage(&account);
        for line in [usage.minute, usage.day, usage.month, usage.total] {
            assert_eq!((line.requests, line.tokens), (1, 40), "{account:?}");
        }
    }
}

#[test]
fn a_hold_of_a_lifetime_of_nothing_ends_at_once() {
    let world = world();
    let hold = short(&world, 0);
    assert_eq!(counts(&world), NOTHING);
    assert_eq!(hold.start().unwrap(), ended(HoldState::Released, HoldState::Released));
}

#[test]
fn what_was_reset_is_not_taken_back_from_what_came_after() {
    let world = world();
    let mut hold = world.granted(&acme(), asking(40));
    hold.settle(&used(40), None).unwrap();
    world.manager.reset("acme").unwrap();
    world.record(&acme(), 100);
    assert!(hold.take_back().unwrap().changed);
    assert_eq!(world.usage(&acme()).total.tokens, 100);
}
