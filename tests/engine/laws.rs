//! The laws, each by name: what a caller is promised, and when a refusal ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use llmquota::account::AccountId;
use llmquota::reservation::{Hold, Verdict};
use llmquota::rules::limits::LimitKind::{
    BudgetUsdPerDay, MaxBurst, MaxConcurrent, RequestsPerDay, RequestsPerMinute, TokensPerMinute,
};
use llmquota::rules::limits::{LimitKind, LimitSet, Resource};
use llmquota::usage::NanoUsd;
use llmquota::wire::{Reason, Status};
use llmquota::{Ask, Call, Clock, ManualClock, Now, Scope};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use world::{DAY, MINUTE, SECOND, World, asking, count, refused, told, used, workspace};

fn acme() -> Call<'static> {
    Call::new("acme")
}

// Law 1: the future is gated, the past is forced.

#[test]
fn a_reserve_takes_every_limit_of_its_chain_or_nothing() {
    let world =
        World::with("[workspaces.acme]\ntokens_per_minute = 100\n[workspaces.acme.goals.g]\ntokens_per_day = 10");
    let call = acme().goal("g").user("u").credential("openai/k");
    let decision = world.refused(&call, asking(11));
    let listed: Vec<_> = decision.limits.iter().map(|line| (line.scope, line.account.as_str(), line.limit)).collect();
    assert_eq!(listed, [(Scope::Goal, "g", LimitKind::TokensPerDay)]);
    for account in [acme(), acme().goal("g"), acme().user("u"), acme().credential("openai/k")] {
        assert_eq!(world.usage(&account), llmquota::wire::Usage::default());
    }
    assert_eq!(world.counts(&acme(), TokensPerMinute), (0, 0));
    assert_eq!(world.manager.snapshot("acme").unwrap().holds.open, 0);
}

#[test]
fn every_limit_in_the_way_is_listed_with_what_it_counts() {
    let file = "[workspaces.acme]\nrequests_per_minute = 1\ntokens_per_day = 50\nbudget_usd_per_day = 1\n[providers.openai.gpt]\nrequests_per_minute = 1";
    let world = World::with(file);
    let call = acme().model("gpt").credential("openai/k");
    let _open = world.granted(&call, asking(30));
    let decision = world.refused(&call, asking(21));
    assert_eq!(decision.reason, Some(Reason::Limit));
    let listed = decision
        .limits
        .iter()
        .map(|line| (line.scope, line.limit, count(line.cap), count(line.used), count(line.held), count(line.asked)));
    assert_eq!(
        listed.collect::<Vec<_>>(),
        [
            (Scope::Workspace, RequestsPerMinute, 1, 0, 1, 1),
            (Scope::Workspace, LimitKind::TokensPerDay, 50, 0, 30, 21),
            (Scope::ProviderModel, RequestsPerMinute, 1, 0, 1, 1),
        ]
    );
}

#[test]
fn a_fact_lands_past_the_limit_and_its_debt_blocks_until_the_window_is_over() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 100");
    world.record(&acme(), 1_000);
    let line = world.line(&acme(), TokensPerMinute);
    assert_eq!((count(line.used), count(line.debt)), (1_000, 900));
    assert_eq!(world.usage(&acme()).total.tokens, 1_000);
    let decision = world.refused(&acme(), asking(1));
    assert!(!world.manager.can_make_request("acme").unwrap());
    world.pass_until(told(&decision));
    assert!(world.manager.can_make_request("acme").unwrap());
    world.granted(&acme(), asking(100));
}

// Law 2: no grant past the limit.

#[test]
fn the_limit_is_met_exactly_and_no_more() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 100\nmax_burst = 3");
    world.record(&acme(), 30);
    let _held = world.granted(&acme(), asking(30));
    world.refused(&acme(), asking(41));
    let _rest = world.granted(&acme(), asking(40));
    assert_eq!(world.counts(&acme(), TokensPerMinute), (30, 70));
    let decision = world.refused(&acme(), asking(0));
    assert_eq!(decision.limits.len(), 1, "what asks for no tokens meets the burst alone");
    assert_eq!(decision.limits[0].limit, MaxBurst);
}

#[test]
fn a_minute_is_any_sixty_seconds() {
    let world = World::at("2026-01-31T12:00:59.999Z", "[workspaces.acme]\nrequests_per_minute = 1");
    world.granted(&acme(), asking(0)).settle(&used(0), None).unwrap();
    // However near its end a second was when the request came, the next one is at least sixty seconds later.
    world.pass(MINUTE);
    world.refused(&acme(), asking(0));
    world.pass(SECOND / 1_000);
    world.granted(&acme(), asking(0));
}

#[test]
fn a_changed_limit_keeps_usage_and_holds() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 1_000\nmax_concurrent = 3");
    world.record(&acme(), 100);
    let mut hold = world.granted(&acme(), asking(50));
    world.limit(workspace("acme"), LimitSet::NONE.with(TokensPerMinute, 160));
    assert_eq!(world.counts(&acme(), TokensPerMinute), (100, 50));
    world.refused(&acme(), asking(11));
    world.granted(&acme(), asking(10));
    world.limit(workspace("acme"), LimitSet::NONE.with(TokensPerMinute, 20));
    assert_eq!(count(world.line(&acme(), TokensPerMinute).debt), 80);
    world.refused(&acme(), asking(0));
    hold.settle(&used(5), None).unwrap();
    world.limit(workspace("acme"), LimitSet::NONE.with(TokensPerMinute, 200));
    assert_eq!(world.counts(&acme(), TokensPerMinute), (105, 0));
    world.granted(&acme(), asking(95));
}

#[test]
fn a_limit_that_is_new_counts_what_was_used_before() {
    let world = World::with("");
    world.record(&acme().goal("g"), 100);
    let goal = AccountId { scope: Scope::Goal, owner: "acme", name: "g" };
    world.limit(goal, LimitSet::NONE.with(TokensPerMinute, 100));
    world.refused(&acme().goal("g"), asking(1));
    world.granted(&acme().goal("h"), asking(1));
}

#[test]
fn an_override_that_ends_gives_back_the_limit_below_and_keeps_usage() {
    let world = World::with("[workspaces.acme]\ntokens_per_day = 100");
    let until = world.clock.exact().wall + MINUTE;
    let raised = LimitSet::NONE.with(LimitKind::TokensPerDay, 1_000);
    world.manager.set_override(workspace("acme"), raised, Some(until)).unwrap();
    world.granted(&acme(), asking(150)).settle(&used(150), None).unwrap();
    world.pass(MINUTE - 1);
    world.granted(&acme(), asking(1));
    world.pass(1);
    let decision = world.refused(&acme(), asking(1));
    assert_eq!((count(decision.limits[0].cap), count(decision.limits[0].used)), (100, 150));
}

#[test]
fn what_is_observed_never_refuses_and_is_shown() {
    let mut set = LimitSet::NONE;
    for kind in LimitKind::ALL {
        set = set.observing(kind, 1);
    }
    let world = World::with("");
    world.limit(workspace("acme"), set);
    let ask = Ask { cost: Some(NanoUsd::from_nanos(5)), ..asking(1_000) };
    let _holds: Vec<Hold> = (0..20).map(|_| world.granted(&acme(), ask)).collect();
    assert!(world.manager.explain(&acme(), &ask).unwrap().allowed);
    assert!(world.manager.can_make_request("acme").unwrap());
    let snapshot = world.manager.snapshot("acme").unwrap();
    assert_eq!(snapshot.status, Status::Warning);
    assert!(snapshot.limits.iter().all(|line| count(line.held) >= 20), "{:?}", snapshot.limits);
}

#[test]
fn a_limit_of_nothing_blocks_even_what_asks_for_nothing() {
    for kind in LimitKind::ALL {
        let world = World::with("");
        world.limit(workspace("acme"), LimitSet::NONE.with(kind, 0));
        let nothing = Ask { requests: 0, tokens: 0, cost: Some(NanoUsd::ZERO) };
        let decision = world.refused(&acme(), nothing);
        assert!(decision.never_fits && decision.retry_at.is_none() && decision.retry_after_ms.is_none(), "{kind:?}");
        world.pass(400 * DAY);
        world.refused(&acme(), nothing);
        assert!(!world.manager.can_make_request("acme").unwrap());
    }
}

#[test]
fn what_could_never_fit_is_told_so_even_while_nothing_is_used() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 100\nrequests_per_day = 5");
    let decision = world.refused(&acme(), asking(101));
    assert!(decision.never_fits && decision.retry_at.is_none());
    world.record(&acme(), 100);
    let later = world.refused(&acme(), asking(100));
    assert!(!later.never_fits && later.retry_at.is_some());
}

// Law 4: derived, never remembered.

#[test]
fn waiting_alone_clears_the_status_that_waiting_should_clear() {
    let world = World::at("2026-01-31T23:58:30Z", "[workspaces.acme]\ntokens_per_minute = 100\ntokens_per_day = 100");
    let status = || world.manager.snapshot("acme").unwrap().status;
    assert_eq!(status(), Status::Normal);
    world.record(&acme(), 80);
    assert_eq!(status(), Status::Warning);
    world.record(&acme(), 20);
    assert_eq!(status(), Status::QuotaExceeded);
    world.limit(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerDay, 1_000));
    assert_eq!(status(), Status::RateLimited);
    world.pass(61 * SECOND);
    assert_eq!(status(), Status::Normal);
    world.record(&acme(), 900);
    world.pass(61 * SECOND);
    assert_eq!(status(), Status::Normal, "the day is over");
}

// Isolation, and what is shared.

#[test]
fn a_workspace_never_feels_another_and_a_goal_never_the_same_name_elsewhere() {
    let world = World::with("[defaults]\ntokens_per_minute = 100\nmax_concurrent = 2");
    world.limit(AccountId { scope: Scope::Goal, owner: "acme", name: "g" }, LimitSet::NONE.with(RequestsPerDay, 1));
    world.record(&acme().goal("g").user("u").task("t"), 500);
    for call in [Call::new("bolt").goal("g").user("u").task("t"), Call::new("g").goal("acme"), Call::new("acm")] {
        assert_eq!(world.usage(&call), llmquota::wire::Usage::default());
        world.granted(&call, asking(100));
    }
    // One name in four scopes is four accounts.
    let same = acme().goal("x").task("x").model("x").user("x");
    world.record(&same, 7);
    world.record(&acme().goal("x"), 1);
    assert_eq!(world.usage(&acme().goal("x")).total.tokens, 8);
    assert_eq!(world.usage(&acme().task("x")).total.tokens, 7);
    world.manager.reset("bolt").unwrap();
    assert_eq!(world.usage(&acme()).total.tokens, 508);
}

#[test]
fn a_providers_limits_are_shared_by_all_workspaces_and_its_credentials_are_apart() {
    let world = World::with("[providers.openai.gpt]\nrequests_per_minute = 2");
    let call = |name| Call::new(name).model("gpt").credential("openai/k");
    world.record(&call("acme"), 1);
    let _open = world.granted(&call("bolt"), asking(1));
    let decision = world.refused(&call("corp"), asking(1));
    assert_eq!(decision.limits[0].scope, Scope::ProviderModel);
    world.granted(&Call::new("corp").model("gpt").credential("openai/other"), asking(1));
    world.granted(&Call::new("corp").model("gpt"), asking(1));
    world.manager.reset("acme").unwrap();
    world.refused(&call("acme"), asking(1));
}

// Explain changes nothing; a reset forgets.

#[test]
fn explain_tells_what_reserve_would_and_makes_nothing() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 100");
    let before = world.manager.fill().accounts;
    let call = acme().goal("new").credential("openai/k");
    assert!(world.manager.explain(&call, &asking(100)).unwrap().allowed);
    assert!(world.manager.explain(&call, &asking(101)).unwrap().never_fits);
    assert_eq!(world.manager.fill().accounts, before);
    assert_eq!(world.manager.workspaces().unwrap().len(), 1, "the global one alone");
    world.granted(&call, asking(100));
}

#[test]
fn a_reset_forgets_what_was_used_and_keeps_what_is_open() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 100\nmax_concurrent = 2");
    let goal = acme().goal("g");
    world.record(&goal, 90);
    let mut hold = world.granted(&goal, asking(10));
    world.manager.reset("acme").unwrap();
    assert_eq!(world.counts(&acme(), TokensPerMinute), (0, 10));
    assert_eq!(world.counts(&acme(), MaxConcurrent), (0, 1));
    assert_eq!(world.usage(&goal), llmquota::wire::Usage::default());
    hold.settle(&used(20), None).unwrap();
    assert_eq!(world.usage(&goal).total.tokens, 20);
}

// Refused until exactly the time it tells.

#[test]
fn concurrency_frees_when_as_many_holds_expire_as_are_in_the_way() {
    let world = World::with("[workspaces.acme]\nmax_concurrent = 3");
    let hold = |seconds| world.manager.reserve(&acme(), &asking(0), Duration::from_secs(seconds)).unwrap();
    let open: Vec<Verdict> = [50, 20, 35].into_iter().map(hold).collect();
    let start = world.clock.exact().wall;
    assert_eq!(told(&world.refused(&acme(), asking(0))), start + 20 * SECOND);
    world.limit(workspace("acme"), LimitSet::NONE.with(MaxConcurrent, 1));
    assert_eq!(told(&world.refused(&acme(), asking(0))), start + 50 * SECOND);
    world.limit(workspace("acme"), LimitSet::NONE.with(MaxConcurrent, 2));
    assert_eq!(told(&world.refused(&acme(), asking(0))), start + 35 * SECOND);
    world.pass(35 * SECOND - 1);
    world.refused(&acme(), asking(0));
    world.pass(1);
    let _next = world.granted(&acme(), asking(0));
    drop(open);
}

/// A clock whose cheap reading lags, as that of an operating system does.
#[derive(Debug)]
struct Lagging(ManualClock);

impl Clock for Lagging {
    fn coarse(&self) -> Now {
        let Now { wall, mono } = self.0.exact();
        let lag = 4 * SECOND / 1_000;
        Now { wall: wall - lag, mono: mono - lag }
    }

    fn exact(&self) -> Now {
        self.0.exact()
    }
}

#[test]
fn the_lag_of_the_cheap_clock_never_makes_a_no_last_longer() {
    for kind in LimitKind::ALL {
        let clock = ManualClock::at(world::wall(world::NOON) + SECOND / 2);
        let manager = world::manager(1 << 20, Arc::new(Lagging(clock.clone())), "");
        let limits = LimitSet::NONE.with(kind, 1);
        manager.set_override(workspace("acme"), limits, None).unwrap();
        let ask = Ask { requests: 1, tokens: 1, cost: Some(NanoUsd::from_nanos(1)) };
        let reserve = || manager.reserve(&acme(), &ask, MINUTE_LONG).unwrap();
        let hold = world::granted(reserve());
        hold.start().unwrap();
        let until = told(&refused(reserve()));
        clock.advance(until - clock.exact().wall - 1);
        assert!(!manager.can_make_request("acme").unwrap(), "{kind:?}");
        clock.advance(1);
        assert!(manager.can_make_request("acme").unwrap(), "{kind:?}");
        assert!(manager.explain(&acme(), &ask).unwrap().allowed, "{kind:?}");
        world::granted(reserve());
        drop(hold);
    }
}

#[test]
fn time_does_not_go_back_from_the_exact_clock_to_the_cheap_one() {
    let file = "[workspaces.acme]\nmax_burst = 2\nrequests_per_minute = 100";
    let clock = ManualClock::at(world::wall(world::NOON) + SECOND - 1_000_000);
    let manager = world::manager(1 << 20, Arc::new(Lagging(clock.clone())), file);
    let reserve = || manager.reserve(&acme(), &asking(1), MINUTE_LONG * 10).unwrap();
    let counts = || {
        let lines = manager.limits(&acme()).unwrap();
        let line = lines.iter().find(|line| line.limit == RequestsPerMinute).unwrap();
        (count(line.used), count(line.held))
    };
    let first = [world::granted(reserve()), world::granted(reserve())];
    // The next second has begun; the cheap clock does not know yet.
    clock.advance(2_000_000);
    let _second = world::granted(reserve());
    let mut third = world::granted(reserve());
    refused(reserve());
    assert!(!manager.can_make_request("acme").unwrap());
    third.settle(&used(1), None).unwrap();
    drop(first);
    clock.advance(30 * SECOND);
    let _later = [world::granted(reserve()), world::granted(reserve())];
    assert_eq!(counts(), (1, 3));
    clock.advance(30 * SECOND);
    assert_eq!(counts(), (1, 3), "what the second second counts stays with it");
    clock.advance(SECOND);
    assert_eq!(counts(), (0, 2), "and nothing else leaves with it");
}

const MINUTE_LONG: Duration = Duration::from_secs(60);

fn amount(kind: LimitKind, units: u64) -> u64 {
    match kind.resource() {
        Resource::Requests | Resource::Concurrency => units,
        Resource::Tokens => units * 10,
        Resource::Money => units * 100,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn refused_until_exactly_the_time_it_tells_then_admitted(
        start in 0..400 * 86_400_000_i64,
        zone in prop::sample::select(vec!["UTC", "Europe/Rome", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
        caps in vec(prop::option::weighted(0.4, 1..8_u64), 9),
        calls in vec((0..25_000_i64, 0..4_u64, any::<bool>(), 1..200_u64), 0..12),
        asked in 0..9_u64,
    ) {
        let world = World::at("2026-01-01T00:00:00Z", &format!("[workspaces.acme]\ntimezone = \"{zone}\""));
        world.pass(start * 1_000_000);
        let mut set = LimitSet::NONE;
        for (kind, cap) in LimitKind::ALL.into_iter().zip(caps) {
            if let Some(cap) = cap {
                set = set.with(kind, amount(kind, cap));
            }
        }
        world.limit(workspace("acme"), set);
        let ask = |units: u64| Ask {
            requests: u32::try_from(units).unwrap(),
            tokens: amount(TokensPerMinute, units),
            cost: Some(NanoUsd::from_nanos(i64::try_from(amount(BudgetUsdPerDay, units)).unwrap())),
        };
        let mut open = Vec::new();
        for (wait, units, holds, ttl) in calls {
            world.pass(wait * 1_000_000);
            let Ask { requests, tokens, cost } = ask(units);
            if holds {
                let ttl = Duration::from_secs(ttl);
                if let Verdict::Granted(hold) = world.manager.reserve(&acme(), &ask(units), ttl).unwrap() {
                    hold.start().unwrap();
                    open.push(hold);
                }
            } else {
                let report = llmquota::Report { requests, cost, ..used(tokens) };
                world.manager.record(&acme(), &report).unwrap();
            }
        }
        let ask = ask(asked);
        let fits = set.iter().all(|(kind, limit)| match kind.resource() {
            Resource::Concurrency => true,
            _ => amount(kind, asked) <= limit.cap,
        });
        if let Verdict::Refused(decision) = world.ask(&acme(), ask) {
            prop_assert_eq!(decision.never_fits, !fits);
            if fits {
                let until = told(&decision);
                let now = world.clock.exact().wall;
                prop_assert!(until > now);
                prop_assert_eq!(decision.retry_after_ms, Some((until - now).unsigned_abs() / 1_000_000));
                world.pass_until(until - 1);
                prop_assert_eq!(told(&world.refused(&acme(), ask)), until);
                world.pass(1);
                world.granted(&acme(), ask);
            } else {
                prop_assert_eq!(decision.retry_at, None);
                world.pass(400 * DAY);
                world.refused(&acme(), ask);
            }
        } else {
            prop_assert!(fits);
        }
    }
}
