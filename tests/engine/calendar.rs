//! Calendar periods: days of 23 and 25 hours, months, and a clock that is set back and forward over their edges.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use llmquota::Call;
use llmquota::rules::limits::LimitKind::{BudgetUsdPerMonth, RequestsPerHour, TokensPerDay};
use llmquota::rules::limits::LimitSet;
use llmquota::usage::NanoUsd;
use llmquota::{Ask, Report};
use world::{HOUR, MINUTE, SECOND, World, asking, told, used, wall, workspace};

fn acme() -> Call<'static> {
    Call::new("acme")
}

fn in_zone(zone: &str, instant: &str) -> World {
    World::at(instant, &format!("[workspaces.acme]\ntimezone = \"{zone}\"\ntokens_per_day = 100"))
}

#[test]
fn a_day_lasts_from_midnight_to_midnight_even_if_that_is_23_or_25_hours() {
    // Zone, the first instant of the day, and how many hours it has.
    let days = [
        ("Europe/Rome", "2026-03-28T23:00:00Z", 23),
        ("Europe/Rome", "2026-10-24T22:00:00Z", 25),
        ("Europe/Rome", "2026-07-01T22:00:00Z", 24),
        ("America/New_York", "2026-03-08T05:00:00Z", 23),
        ("America/New_York", "2026-11-01T04:00:00Z", 25),
        ("America/New_York", "2026-12-01T05:00:00Z", 24),
    ];
    for (zone, begin, hours) in days {
        let world = in_zone(zone, begin);
        let begin = wall(begin);
        world.clock.set_wall(begin - 1);
        world.record(&acme(), 100);
        world.refused(&acme(), asking(1));
        world.pass(1);
        assert_eq!(world.usage(&acme()).day.tokens, 0, "{zone}: the day before is over");
        world.record(&acme(), 100);
        let decision = world.refused(&acme(), asking(1));
        assert_eq!(told(&decision), begin + hours * HOUR, "{zone}");
        assert_eq!(decision.retry_after_ms, Some(hours.unsigned_abs() * 3_600_000));
        world.pass(hours * HOUR - 1);
        assert_eq!(world.usage(&acme()).day.tokens, 100, "{zone}: to its last instant");
        world.refused(&acme(), asking(1));
        world.pass(1);
        world.granted(&acme(), asking(100));
    }
}

#[test]
fn the_hour_that_comes_twice_is_two_hours_of_one_day() {
    let file = "[workspaces.acme]\ntimezone = \"Europe/Rome\"\nrequests_per_hour = 1\nrequests_per_day = 2";
    let world = World::at("2026-10-25T00:30:00Z", file);
    let hour = |world: &World| world.counts(&acme(), RequestsPerHour).0;
    world.record(&acme(), 1);
    assert_eq!(told(&world.refused(&acme(), asking(1))), wall("2026-10-25T01:00:00Z"));
    world.pass(HOUR);
    assert_eq!(hour(&world), 0, "again it is half past two");
    world.record(&acme(), 1);
    let decision = world.refused(&acme(), asking(1));
    assert_eq!(told(&decision), wall("2026-10-25T23:00:00Z"), "the hour frees at three, the day at midnight");
}

#[test]
fn workspaces_keep_their_own_midnights() {
    let file = "[defaults]\ntokens_per_day = 100\n[workspaces.rome]\ntimezone = \"Europe/Rome\"\n[workspaces.york]\ntimezone = \"America/New_York\"";
    let world = World::at("2026-01-31T22:30:00Z", file);
    let day = |name| world.usage(&Call::new(name)).day.tokens;
    for name in ["rome", "york", "elsewhere"] {
        world.record(&Call::new(name).goal("g"), 50);
    }
    world.pass(HOUR);
    assert_eq!([day("rome"), day("york"), day("elsewhere")], [0, 50, 50]);
    assert_eq!(world.usage(&Call::new("rome").goal("g")).day.tokens, 0, "a goal has its workspace's midnight");
    world.pass(HOUR);
    assert_eq!([day("rome"), day("york"), day("elsewhere")], [0, 50, 0]);
}

#[test]
fn a_budget_ends_with_the_month() {
    let world =
        World::at("2026-02-27T12:00:00Z", "[workspaces.acme]\nbudget_usd_per_month = 1\ntimezone = \"Europe/Rome\"");
    let dollar = Some(NanoUsd::from_nanos(1_000_000_000));
    world.manager.record(&acme(), &Report { cost: dollar, ..used(1) }).unwrap();
    let cent = Ask { cost: Some(NanoUsd::from_nanos(10_000_000)), ..asking(1) };
    let decision = world.refused(&acme(), cent);
    assert_eq!(told(&decision), wall("2026-02-28T23:00:00Z"));
    world.pass_until(told(&decision) - 1);
    world.refused(&acme(), cent);
    world.pass(1);
    world.granted(&acme(), cent);
}

/// Day and month, of tokens.
fn day_and_month(world: &World) -> (u64, u64) {
    let usage = world.usage(&acme());
    (usage.day.tokens, usage.month.tokens)
}

#[test]
fn a_clock_set_back_over_midnight_and_a_months_end_finds_its_periods_and_forward_again() {
    for zone in ["UTC", "Europe/Rome", "America/New_York"] {
        let offset = match zone {
            "Europe/Rome" => HOUR,
            "America/New_York" => -5 * HOUR,
            _ => 0,
        };
        let midnight = wall("2026-02-01T00:00:00Z") - offset;
        let world = in_zone(zone, "2026-01-15T12:00:00Z");
        world.limit(workspace("acme"), LimitSet::NONE.with(TokensPerDay, 100).with(RequestsPerHour, 50));
        world.clock.set_wall(midnight - MINUTE);
        world.record(&acme(), 70);
        assert_eq!(day_and_month(&world), (70, 70));
        world.pass(2 * MINUTE);
        assert_eq!(day_and_month(&world), (0, 0));
        world.record(&acme(), 20);
        let mut hold = world.granted(&acme(), asking(80));
        world.refused(&acme(), asking(1));

        world.clock.set_wall(midnight - SECOND);
        assert_eq!(day_and_month(&world), (70, 70), "{zone}");
        assert_eq!(world.counts(&acme(), RequestsPerHour), (1, 0));
        world.refused(&acme(), asking(31));
        let mut early = world.granted(&acme(), asking(30));
        assert_eq!(world.counts(&acme(), TokensPerDay), (70, 30));

        world.pass(SECOND);
        assert_eq!(world.counts(&acme(), TokensPerDay), (20, 80), "{zone}: the day that had begun goes on");
        world.refused(&acme(), asking(1));
        hold.settle(&used(5), None).unwrap();
        early.settle(&used(10), None).unwrap();
        assert_eq!(day_and_month(&world), (25, 25));

        world.clock.set_wall(midnight - HOUR);
        assert_eq!(day_and_month(&world), (80, 80), "{zone}");
        world.clock.set_wall(midnight + HOUR);
        assert_eq!(day_and_month(&world), (25, 25));
        assert_eq!(world.usage(&acme()).total.tokens, 105);
    }
}

#[test]
fn a_clock_that_jumps_back_an_hour_neither_frees_a_minute_nor_blocks_for_ever() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 100\nrequests_per_hour = 5");
    world.record(&acme(), 100);
    world.clock.set_wall(wall(world::NOON) - HOUR);
    let decision = world.refused(&acme(), asking(1));
    assert_eq!(decision.retry_after_ms, Some(61_000));
    assert_eq!(told(&decision), wall(world::NOON) - HOUR + 61 * SECOND);
    world.pass(61 * SECOND);
    world.granted(&acme(), asking(100)).settle(&used(100), None).unwrap();
    world.clock.set_wall(wall(world::NOON) + 30 * 24 * HOUR);
    world.refused(&acme(), asking(1));
    world.pass(61 * SECOND);
    world.granted(&acme(), asking(100));
}

#[test]
fn a_month_is_found_again_after_a_day_of_other_hours() {
    let world = World::at("2026-01-31T23:50:00Z", "[workspaces.acme]\nbudget_usd_per_month = 1");
    let half = Some(NanoUsd::from_nanos(500_000_000));
    let spend = |world: &World| world.manager.record(&acme(), &Report { cost: half, ..used(1) }).unwrap();
    spend(&world);
    for _ in 0..30 {
        world.pass(HOUR);
        world.record(&acme(), 1);
    }
    spend(&world);
    let month = |world: &World| world.counts(&acme(), BudgetUsdPerMonth).0;
    assert_eq!(month(&world), 500_000_000);
    world.clock.set_wall(wall("2026-01-31T20:00:00Z"));
    assert_eq!(month(&world), 500_000_000);
    spend(&world);
    assert_eq!(month(&world), 1_000_000_000);
    world.clock.set_wall(wall("2026-02-02T08:00:00Z"));
    assert_eq!(month(&world), 500_000_000);
}
