//! What happens at the store's bounds: memory stays as large as it was, facts land and say where, limits hold.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use llmquota::account::AccountId;
use llmquota::error::Code;
use llmquota::reservation::{Hold, Verdict};
use llmquota::rules::limits::LimitKind::{BudgetUsdPerMonth, MaxConcurrent, RequestsPerDay, TokensPerMinute};
use llmquota::rules::limits::LimitSet;
use llmquota::store::{Adjust, Counter, Period};
use llmquota::usage::NanoUsd;
use llmquota::wire::{Attribution, Reason};
use llmquota::{Ask, Call, Report, Scope};
use world::{MINUTE, NOON, SECOND, World, asking, told, used, workspace};

const MIB: usize = 1 << 20;

/// Counts what each thread has allocated and not given back.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local of no destructor alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size().cast_signed());
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size().cast_signed());
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn small() -> World {
    World::sized(MIB, NOON, "")
}

fn acme() -> Call<'static> {
    Call::new("acme")
}

fn sum(listed: &[Attribution], of: impl Fn(&Attribution) -> u64) -> u64 {
    listed.iter().map(of).sum()
}

#[test]
fn a_hundred_thousand_goals_take_no_more_room_and_their_workspace_stays_exact() {
    for (seconds_apart, goals) in [(0, 20_000), (1, 100_000)] {
        let world = small();
        world.record(&acme(), 0);
        let (mut folded, before) = (0, LIVE.get());
        for step in 0..goals {
            if step % 10 == 0 {
                world.pass(seconds_apart * SECOND);
            }
            let goal = format!("goal-{step}");
            let call = acme().goal(&goal).user(if step % 2 == 0 { "ada" } else { "bob" });
            folded += u64::from(world.manager.record(&call, &used(3)).unwrap().folded);
        }
        assert!(LIVE.get() - before < 64 << 10, "{} bytes more", LIVE.get() - before);
        let fill = world.manager.fill();
        assert!(fill.accounts <= fill.accounts_bound && fill.accounts_bound < 2_000, "{fill:?}");
        let total = world.usage(&acme()).total;
        assert_eq!((total.requests, total.tokens), (goals + 1, 3 * goals));
        for user in ["ada", "bob"] {
            assert_eq!(world.usage(&acme().user(user)).total.tokens, 3 * goals / 2, "a busy user keeps a row");
        }
        let listed = world.manager.attribution("acme", Scope::Goal, usize::MAX).unwrap();
        assert_eq!(sum(&listed, |goal| goal.total.tokens), 3 * goals, "nothing is lost, or counted twice");
        assert_eq!(sum(&listed, |goal| goal.total.requests), goals);
        assert_eq!(sum(&listed, |goal| goal.day.tokens), 3 * goals);
        let other = listed.iter().find(|goal| goal.id == "other").unwrap();
        assert!(other.total.requests >= goals - 2_000, "{other:?}");
        assert!(fill.folded >= goals - 2_000, "{fill:?}");
        if seconds_apart == 0 {
            assert_eq!(folded, other.total.requests, "each receipt says so");
        } else {
            assert_eq!(world.usage(&acme().goal("goal-99999")).total.tokens, 3, "the newest pushed out the idle");
        }
    }
}

#[test]
fn what_is_folded_stays_inside_its_workspace() {
    let world = small();
    for step in 0..4_000 {
        let id = format!("id-{step}");
        for (name, tokens) in [("acme", 1), ("bolt", 100)] {
            world.record(&Call::new(name).goal(&id).task(&id), tokens);
        }
    }
    for (name, tokens) in [("acme", 4_000), ("bolt", 400_000)] {
        for scope in [Scope::Goal, Scope::Task] {
            let listed = world.manager.attribution(name, scope, usize::MAX).unwrap();
            assert_eq!(sum(&listed, |entry| entry.total.tokens), tokens, "{name} {scope:?}");
            assert!(listed.iter().any(|entry| entry.id == "other"));
        }
        assert_eq!(world.usage(&Call::new(name)).total.tokens, tokens);
    }
}

#[test]
fn a_goal_called_other_is_not_the_other() {
    let world = small();
    world.record(&acme().goal("other"), 7);
    for step in 0..3_000 {
        world.record(&acme().goal(&format!("goal-{step}")), 1);
    }
    assert_eq!(world.usage(&acme().goal("other")).total.tokens, 7);
}

#[test]
fn a_fact_of_a_workspace_without_room_lands_in_the_global_one_and_says_so() {
    let world = small();
    let name = |step: u64| format!("workspace-{step}");
    let mut folded = 0;
    for step in 0..5_000 {
        folded += u64::from(world.manager.record(&Call::new(&name(step)), &used(1)).unwrap().folded);
    }
    let known = world.manager.workspaces().unwrap().len() as u64 - 1;
    assert_eq!(known + folded, 5_000);
    assert_eq!(known + 1, world.manager.fill().accounts_bound);
    assert_eq!(world.usage(&Call::new("global")).total.tokens, folded);
    // A reserve without a place to count it in is refused, and the others go on.
    let decision = world.refused(&Call::new("one-more"), asking(1));
    assert_eq!(decision.reason, Some(Reason::StoreFull));
    assert!(decision.detail.is_some());
    let first = name(0);
    world.granted(&Call::new(&first), asking(1)).settle(&used(1), None).unwrap();
    assert_eq!(world.usage(&Call::new(&first)).total.tokens, 2);
}

#[test]
fn a_fact_lands_on_every_account_that_has_room_even_if_another_has_none() {
    let world = small();
    let shared = acme().credential("openai/k");
    world.record(&shared, 1);
    for step in 0..3_000 {
        world.record(&Call::new(&format!("workspace-{step}")), 1);
    }
    let call = acme().goal("new").task("new").user("new").model("new").credential("openai/k");
    let receipt = world.manager.record(&call, &used(10)).unwrap();
    assert!(receipt.folded);
    assert_eq!(world.usage(&acme()).total.tokens, 11, "its own workspace has a place");
    assert_eq!(world.usage(&shared).total.tokens, 11, "so has its credential");
    assert_eq!(world.refused(&call, asking(1)).reason, Some(Reason::StoreFull));
}

#[test]
fn an_idle_goal_with_a_limit_keeps_its_place_whatever_was_configured_since() {
    let world = World::sized(MIB, NOON, "[workspaces.rome]\ntimezone = \"Europe/Rome\"");
    let cap = LimitSet::NONE.with(BudgetUsdPerMonth, 1_000);
    world.limit(AccountId { scope: Scope::Goal, owner: "acme", name: "dear" }, cap);
    let dear = acme().goal("dear");
    let cost = Some(NanoUsd::from_nanos(1_000));
    world.manager.record(&dear, &Report { cost, ..used(1) }).unwrap();
    // Another configuration, of which the goal has not heard when its place is wanted.
    world.limit(workspace("bolt"), LimitSet::NONE);
    world.record(&Call::new("bolt"), 1);
    world.record(&Call::new("rome"), 1);
    for step in 0..6_000 {
        if step % 50 == 0 {
            world.pass(10 * SECOND);
        }
        world.record(&acme().goal(&format!("goal-{step}")), 1);
    }
    assert!(world.manager.fill().folded > 0);
    let decision = world.refused(&dear, Ask { cost: Some(NanoUsd::from_nanos(1)), ..asking(1) });
    assert_eq!((decision.limits.len(), decision.limits[0].limit), (1, BudgetUsdPerMonth));
}

#[test]
fn a_goal_with_a_limit_is_never_let_through_without_a_place_to_count_it() {
    let world = small();
    for step in 0..3_000 {
        world.record(&acme().goal(&format!("goal-{step}")), 1);
    }
    for step in 0..3_000 {
        world.record(&Call::new(&format!("workspace-{step}")), 1);
    }
    let cap = LimitSet::NONE.with(RequestsPerDay, 2);
    world.limit(AccountId { scope: Scope::Goal, owner: "acme", name: "capped" }, cap);
    let capped = acme().goal("capped");
    let granted = (0..10).filter(|_| matches!(world.ask(&capped, asking(1)), Verdict::Granted(_))).count();
    assert_eq!(granted, 0, "refused for want of room");
    assert_eq!(world.refused(&capped, asking(1)).reason, Some(Reason::StoreFull));
    let free = world.granted(&acme().goal("uncapped"), asking(1));
    drop(free);
}

#[test]
fn open_calls_past_the_table_are_refused_until_one_ends() {
    let world = World::sized(16 * MIB, NOON, "[workspaces.acme]\nmax_concurrent = 1_000_000");
    let mut open: Vec<Hold> = Vec::new();
    let decision = loop {
        match world.ask(&acme().goal("g"), asking(1)) {
            Verdict::Granted(hold) => open.push(hold),
            Verdict::Refused(decision) => break decision,
        }
    };
    assert!(open.len() > 2_000, "{}", open.len());
    assert_eq!(decision.reason, Some(Reason::StoreFull));
    assert_eq!(world.counts(&acme(), MaxConcurrent), (0, open.len() as u64));
    assert_eq!(world.refused(&Call::new("bolt"), asking(1)).reason, Some(Reason::StoreFull));
    world.record(&acme(), 5);
    assert_eq!(world.usage(&acme()).total.tokens, 5, "facts need no place of their own");
    drop(open.swap_remove(1_000));
    let _again = world.granted(&Call::new("bolt"), asking(1));
    world.refused(&acme(), asking(1));
    let ended = open.len() as u64;
    for hold in &mut open {
        hold.settle(&used(2), None).unwrap();
    }
    assert_eq!(world.counts(&acme(), MaxConcurrent), (0, 0));
    assert_eq!(world.usage(&acme()).total.tokens, 5 + 2 * ended);
    let many: Vec<Hold> = (0..2_000).map(|_| world.granted(&acme(), asking(1))).collect();
    assert_eq!(world.counts(&acme(), MaxConcurrent), (0, many.len() as u64));
}

#[test]
fn a_settle_lands_once_even_if_the_store_has_forgotten_the_hold() {
    let world = small();
    let brief = || world::granted(world.manager.reserve(&acme(), &asking(5), Duration::from_secs(1)).unwrap());
    let [mut released, mut charged, mut settled, mut given_back] = [(); 4].map(|()| brief());
    charged.start().unwrap();
    settled.settle(&used(100), None).unwrap();
    given_back.start().unwrap();
    given_back.release().unwrap();
    world.pass(2 * SECOND);
    for _ in 0..2_000 {
        drop(world.granted(&Call::new("bolt"), asking(1)));
    }
    assert_eq!(world.usage(&acme()).total.tokens, 105);
    for (hold, tokens) in [(&mut released, 10), (&mut charged, 0), (&mut settled, 0), (&mut given_back, 10)] {
        let before = world.usage(&acme()).total.tokens;
        for _ in 0..2 {
            hold.settle(&used(10), None).unwrap();
            assert_eq!(world.usage(&acme()).total.tokens, before + tokens);
        }
    }
}

/// Records so many tokens a second as the second's number, and compares the minute after each.
fn fill_minutes(world: &World, names: &[String], seconds: u64) {
    let mut recorded: Vec<u64> = Vec::new();
    for second in 0..seconds {
        recorded.push(second % 13 + 1);
        for name in names {
            world.record(&Call::new(name), second % 13 + 1);
            let minute: u64 = recorded.iter().rev().take(61).sum();
            assert_eq!(world.usage(&Call::new(name)).minute.tokens, minute, "{name} in second {second}");
        }
        world.pass(SECOND);
    }
}

#[test]
fn a_minute_grows_from_one_bucket_to_sixty_four_and_gives_them_back() {
    let world = small();
    world.limit(workspace("w-0"), LimitSet::NONE.with(TokensPerMinute, 1_000_000));
    // Each round's minutes would fill the store three times over, were those of the round before not given back.
    for round in 0..6 {
        let names: Vec<String> = (0..30).map(|step| format!("w-{}", round * 30 + step)).collect();
        fill_minutes(&world, &names, 130);
        world.pass(2 * MINUTE);
    }
    // And what gave them back serves small minutes as well as large ones.
    let names: Vec<String> = (0..800).map(|step| format!("small-{step}")).collect();
    for name in &names {
        world.record(&Call::new(name), 1);
    }
    for name in &names {
        assert_eq!(world.usage(&Call::new(name)).minute.tokens, 1, "{name}");
        world.granted(&Call::new(name), asking(1));
    }
}

#[test]
fn a_minute_without_room_counts_longer_and_never_less() {
    let world = small();
    let names: Vec<String> = (0..400).map(|step| format!("w-{step}")).collect();
    for _ in 0..61 {
        for name in &names {
            world.record(&Call::new(name), 1);
        }
        world.pass(SECOND);
    }
    for name in &names {
        let minute = world.usage(&Call::new(name)).minute;
        assert!(minute.tokens >= 60, "{name}: {minute:?}");
        world.limit(workspace(name), LimitSet::NONE.with(TokensPerMinute, 60));
        world.refused(&Call::new(name), asking(1));
    }
}

#[test]
fn names_of_one_to_256_bytes_are_told_apart_by_every_byte() {
    let world = World::sized(8 * MIB, NOON, "");
    let prefix = "a".repeat(40);
    let mut names: Vec<String> = (1..=256).map(|len| "x".repeat(len)).collect();
    names.extend((0..=215).map(|len| format!("{prefix}{}b", "c".repeat(len))));
    // Multi-byte, cut by the 40th byte and by the last.
    names.extend((0..20).map(|step| format!("{}{}", "é".repeat(19), char::from_u32(0x65e5 + step).unwrap())));
    names.extend((0..20).map(|step| format!("{}{}", "日".repeat(84), char::from_u32(0x65e5 + step).unwrap())));
    names.extend((0..64).map(|step| format!("{}y{}", "z".repeat(step), "z".repeat(63 - step))));
    names.extend(["é", "e\u{301}", "\u{1f600}", " ", "  ", "a b", "A"].map(String::from));
    for (tokens, name) in names.iter().enumerate() {
        let call = Call::new("acme").goal(name).task(name).user(name).model(name);
        world.record(&call, tokens as u64 + 1);
        world.record(&Call::new(name), tokens as u64 + 1);
    }
    for (tokens, name) in names.iter().enumerate() {
        for call in [acme().goal(name), acme().task(name), acme().user(name), acme().model(name), Call::new(name)] {
            assert_eq!(world.usage(&call).total.tokens, tokens as u64 + 1, "{call:?}");
        }
    }
    let listed = world.manager.attribution("acme", Scope::Goal, usize::MAX).unwrap();
    let mut found: Vec<String> = listed.into_iter().map(|goal| goal.id).collect();
    found.sort();
    names.sort();
    assert_eq!(found, names, "and they are told as they were given");
}

#[test]
fn a_refusal_by_concurrency_costs_no_more_for_the_calls_that_have_ended() {
    let refusals = |ended: u32| {
        let world = World::sized(256 * MIB, NOON, "[workspaces.acme]\nmax_concurrent = 1");
        for _ in 0..ended {
            drop(world.granted(&Call::new("bolt"), asking(1)));
        }
        let _open = world.granted(&acme(), asking(1));
        let refuse = || {
            let began = Instant::now();
            (0..20).for_each(|_| drop(world.refused(&acme(), asking(1))));
            began.elapsed()
        };
        (0..10).map(|_| refuse()).min().unwrap()
    };
    let (few, many) = (refusals(1), refusals(50_000));
    assert!(many < few * 20, "{few:?} and {many:?}");
}

/// Goals of another workspace, which take all the room that there is for minutes and keep it.
fn crowd(world: &World) {
    for step in 0..1_400 {
        world.record(&Call::new("bolt").goal(&format!("goal-{step}")), 1);
    }
}

#[test]
fn a_minute_without_room_forgets_soon_after_its_time_however_often_it_is_added_to() {
    // Buckets that the minute has when the room is taken, and the seconds that the oldest of them may count too long.
    for (seconds, longer) in [(2, 29), (5, 4)] {
        let world = World::sized(MIB, NOON, "[workspaces.acme]\nrequests_per_minute = 1_000");
        for second in 0..400 {
            if second >= seconds && second % 20 < 4 {
                crowd(&world);
            }
            world.granted(&acme(), asking(1)).settle(&used(1), None).unwrap();
            let minute = world.usage(&acme()).minute.requests;
            let due = 61.min(second + 1);
            assert!((due..=due + longer).contains(&minute), "{minute} in second {second}, {seconds} buckets");
            world.pass(SECOND);
        }
    }
}

#[test]
fn asking_again_and_again_does_not_make_a_minute_without_room_last_longer() {
    let world = World::sized(MIB, NOON, "[workspaces.acme]\nrequests_per_minute = 100\nmax_burst = 100");
    world.record(&acme(), 1);
    for _ in 0..4 {
        crowd(&world);
        world.pass(SECOND);
    }
    let mut granted = 0;
    while let Verdict::Granted(mut hold) = world.ask(&acme(), asking(1)) {
        hold.settle(&used(1), None).unwrap();
        world.pass(SECOND / 2);
        granted += 1;
    }
    assert_eq!(granted, 99);
    let until = told(&world.refused(&acme(), asking(1)));
    while world.manager.now().wall < until {
        crowd(&world);
        assert_eq!(told(&world.refused(&acme(), asking(1))), until);
        world.pass(SECOND / 2);
    }
    world.granted(&acme(), asking(1));
}

#[test]
fn what_is_changed_by_hand_is_the_account_that_was_named_or_nothing() {
    let world = small();
    for step in 0..3_000 {
        world.record(&acme().goal(&format!("goal-{step}")), 1);
    }
    let other = || {
        world.manager.attribution("acme", Scope::Goal, usize::MAX).unwrap().into_iter().find(|goal| goal.id == "other")
    };
    let before = (world.usage(&acme()), other());
    for call in [acme().goal("new"), acme().model("new")] {
        if call.model.is_some() {
            (0..3_000).for_each(|step| world.record(&Call::new(&format!("workspace-{step}")), 1));
        }
        for adjust in [Adjust::Reset, Adjust::Set(Period::Day, Counter::Tokens, 7)] {
            let error = world.manager.adjust_account(&call, adjust).unwrap_err();
            assert_eq!(error.code(), Code::StoreFull, "{call:?} {adjust:?}");
        }
    }
    assert_eq!((world.usage(&acme()), other()), before);
}
