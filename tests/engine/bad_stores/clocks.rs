//! Clocks that are set by a day, back and forward, while a store counts: each day and month is found again, wherever it is kept.

use std::path::Path;
use std::sync::Arc;

use llmquota::store::history::Query;
use llmquota::usage::history::Span;
use llmquota::{Call, Manager, ManualClock, Verdict};

use crate::actor::Actor;
use crate::scene::{Door, ask, assert_clean, close, record, used};

/// Noon of the 15th of January 2026, in nanoseconds since the epoch.
const NOON: i64 = 1_768_478_400_000_000_000;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
const LIMITS: &str = "[workspaces.acme]\ntokens_per_day = 12";

struct Stand {
    clock: ManualClock,
    door: Door,
    place: tempfile::TempDir,
}

impl Stand {
    fn new() -> Self {
        let clock = ManualClock::at(NOON);
        let door = Door { bytes: 1 << 20, boot: Some(1), clock: Arc::new(clock.clone()), limits: LIMITS.to_owned() };
        Self { clock, door, place: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Manager {
        self.door.open(self.place.path()).unwrap()
    }

    /// As after a restart of the machine.
    fn open_after_boot(&mut self, manager: Manager) -> Manager {
        manager.flush().unwrap();
        close(manager, self.place.path());
        self.door.boot = self.door.boot.map(|boot| boot + 1);
        self.open()
    }
}

/// Tokens of the day and of the month.
fn counted(manager: &Manager) -> (u64, u64) {
    let usage = manager.snapshot("acme").unwrap().usage;
    (usage.day.tokens, usage.month.tokens)
}

fn days(manager: &Manager) -> Vec<i64> {
    let query = Query { workspace: Some("acme".to_owned()), ..Query::default() };
    manager.rollups(&query, Span::Day).unwrap().iter().map(|day| day.amounts.tokens).collect()
}

fn is_refused(manager: &Manager, tokens: u64) -> bool {
    matches!(ask(manager, "acme", tokens).unwrap(), Verdict::Refused(_))
}

/// Makes an account leave its row, which history then has alone.
fn evict(stand: &Stand, manager: &Manager) {
    let bound = manager.fill().accounts_bound;
    for task in 0..bound * 2 {
        let task = format!("task-{task}");
        manager.record(&Call::new("other").task(&task), &used(1)).unwrap();
        if task.ends_with("00") {
            stand.clock.advance(61 * SECOND);
            manager.flush().unwrap();
        }
    }
}

#[test]
fn a_day_is_found_again_in_the_region() {
    let stand = Stand::new();
    let manager = stand.open();
    record(&manager, "acme", 10);
    stand.clock.set_wall(NOON + DAY);
    assert_eq!(counted(&manager), (0, 10));
    record(&manager, "acme", 5);
    assert_eq!(counted(&manager), (5, 15));
    stand.clock.set_wall(NOON);
    assert_eq!(counted(&manager), (10, 15));
    assert!(is_refused(&manager, 5) && !is_refused(&manager, 2));
    stand.clock.set_wall(NOON - DAY);
    record(&manager, "acme", 1);
    assert_eq!(counted(&manager), (1, 16));
    stand.clock.set_wall(NOON + DAY);
    assert_eq!((counted(&manager), days(&manager)), ((5, 16), vec![1, 10, 5]));
    assert_clean(&manager);
}

#[test]
fn a_month_is_found_again() {
    let stand = Stand::new();
    let manager = stand.open();
    record(&manager, "acme", 10);
    for month in 1..=3 {
        stand.clock.set_wall(NOON + month * 31 * DAY);
        record(&manager, "acme", 1);
        assert_eq!(counted(&manager), (1, 1));
    }
    stand.clock.set_wall(NOON);
    assert_eq!(counted(&manager), (10, 10));
    assert_clean(&manager);
}

#[test]
fn a_day_is_found_again_in_history_after_a_boot() {
    let mut stand = Stand::new();
    let manager = stand.open();
    record(&manager, "acme", 10);
    stand.clock.set_wall(NOON + DAY);
    record(&manager, "acme", 5);
    let manager = stand.open_after_boot(manager);
    assert_eq!(counted(&manager), (5, 15));
    record(&manager, "acme", 1);
    // The region has never counted this day: only history has.
    stand.clock.set_wall(NOON);
    assert_eq!(counted(&manager), (10, 15 + 1));
    assert!(is_refused(&manager, 5) && !is_refused(&manager, 2));
    record(&manager, "acme", 1);
    assert_eq!((counted(&manager), days(&manager)), ((11, 17), vec![11, 6]));
    assert_clean(&manager);
    stand.clock.set_wall(NOON + DAY);
    assert_eq!(counted(&manager), (6, 17));
}

#[test]
fn a_day_is_found_again_in_history_after_the_account_had_left() {
    let stand = Stand::new();
    let manager = stand.open();
    record(&manager, "acme", 10);
    stand.clock.set_wall(NOON + DAY);
    evict(&stand, &manager);
    record(&manager, "acme", 5);
    assert_eq!(counted(&manager), (5, 15));
    stand.clock.set_wall(NOON);
    assert_eq!(counted(&manager), (10, 15));
    assert!(is_refused(&manager, 5));
    record(&manager, "acme", 1);
    assert_eq!(days(&manager), [11, 5]);
    assert_clean(&manager);
}

#[test]
fn a_day_is_found_again_when_the_account_comes_back_after_the_clock_was_set() {
    let mut stand = Stand::new();
    let manager = stand.open();
    record(&manager, "acme", 10);
    stand.clock.set_wall(NOON + DAY);
    record(&manager, "acme", 5);
    let manager = stand.open_after_boot(manager);
    stand.clock.set_wall(NOON);
    record(&manager, "acme", 1);
    assert_eq!((counted(&manager), days(&manager)), ((11, 16), vec![11, 5]));
    assert_clean(&manager);
}

fn on_a_clock(directory: &Path) -> Actor {
    let mut actor = Actor::new();
    for command in [format!("clock {NOON}"), format!("size {}", 1 << 20), format!("open {}", directory.display())] {
        assert_eq!(actor.ask(&command), "ok");
    }
    actor
}

/// Each process reads the clock for itself: for a moment they stand in two days.
#[test]
fn processes_in_two_days_count_both() {
    let place = tempfile::tempdir().unwrap();
    let (mut early, mut late) = (on_a_clock(place.path()), on_a_clock(place.path()));
    assert_eq!(late.ask(&format!("wall {}", NOON + DAY)), "ok");
    for _ in 0..20 {
        assert_eq!((early.ask("record acme 1"), late.ask("record acme 2")), ("ok".to_owned(), "ok".to_owned()));
    }
    assert_eq!((early.ask("day acme"), late.ask("day acme")), ("20".to_owned(), "40".to_owned()));
    assert_eq!(early.ask(&format!("wall {}", NOON + DAY)), "ok");
    assert_eq!((early.ask("day acme"), early.ask("total acme")), ("40".to_owned(), "60".to_owned()));
    assert_eq!(early.ask("verify"), "[]");
}
