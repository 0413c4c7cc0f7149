//! More ids than a store has room for: they leave for history and come back, and where none can leave the error names the setting.

use std::sync::Arc;
use std::time::Instant;

use llmquota::account::MAX_ID_BYTES;
use llmquota::error::Code;
use llmquota::store::history::Query;
use llmquota::{Call, Manager, ManualClock, Scope, Verdict};

use crate::scene::{Door, ask, assert_clean, assert_says, until, used};

const START: i64 = 1_768_478_400_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Records a token on each of these tasks, each in a workspace of its own where `workspaces` is larger than they are.
fn run(manager: &Manager, workspaces: u64, tasks: u64) -> u64 {
    let mut folded = 0;
    for task in 0..tasks {
        let (workspace, task) = (format!("workspace-{}", task % workspaces), format!("task-{task}"));
        folded += u64::from(manager.record(&Call::new(&workspace).task(&task), &used(1)).unwrap().folded);
    }
    folded
}

fn in_all(manager: &Manager) -> i64 {
    manager.history_sums(&Query::default()).unwrap().tokens
}

/// On a clock that stands still nothing is idle: it moves on, and history is written, after each of these many.
fn paced(manager: &Manager, clock: &ManualClock, stride: u64, tasks: u64, mut each: impl FnMut(u64)) {
    for task in 0..tasks {
        each(task);
        if task % stride == stride - 1 {
            clock.advance(SECOND);
            manager.flush().unwrap();
        }
    }
}

#[test]
fn more_ids_than_room_are_all_counted() {
    let place = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let door = Door { bytes: 2 << 20, clock: Arc::new(clock.clone()), ..Door::default() };
    let manager = door.open(place.path()).unwrap();
    let bound = manager.fill().accounts_bound;
    let (workspaces, tasks) = (bound * 3 / 2, bound * 3 / 2 * 2);
    paced(&manager, &clock, bound / 8, tasks, |task| {
        let (workspace, task) = (format!("workspace-{}", task % workspaces), format!("task-{task}"));
        assert!(!manager.record(&Call::new(&workspace).task(&task), &used(1)).unwrap().folded, "{task}");
    });
    assert!(manager.fill().accounts <= bound);
    assert_eq!(in_all(&manager), i64::try_from(tasks).unwrap());
    let usage = |call: &Call<'_>| manager.usage(call).unwrap().total.tokens;
    for nth in (0..workspaces).step_by(101) {
        let (workspace, tasks) = (format!("workspace-{nth}"), [nth, nth + workspaces].map(|nth| format!("task-{nth}")));
        assert_eq!(usage(&Call::new(&workspace)), 2, "{nth}");
        assert!(tasks.iter().all(|task| usage(&Call::new(&workspace).task(task)) == 1), "{nth}");
    }
    assert_clean(&manager);
}

/// Faster than history is written: what finds no room is counted on the workspace, or on the global one, and says so.
#[test]
fn a_burst_of_more_ids_than_room_is_all_counted_somewhere() {
    let place = tempfile::tempdir().unwrap();
    let manager = Door { bytes: 2 << 20, ..Door::default() }.open(place.path()).unwrap();
    let (workspaces, tasks) = (manager.fill().accounts_bound / 2, manager.fill().accounts_bound * 3);
    let folded = run(&manager, workspaces, tasks);
    // One that has left comes back as soon as others can leave.
    let total = |name: &str| {
        until("there is room to look at it", || manager.snapshot(name).is_ok());
        manager.snapshot(name).unwrap().usage.total.tokens
    };
    let elsewhere = total("global");
    let counted: u64 = (0..workspaces).map(|each| total(&format!("workspace-{each}"))).sum();
    assert_eq!(counted + elsewhere, tasks);
    assert!(elsewhere <= folded, "{elsewhere} of {folded}");
    assert_eq!(in_all(&manager), i64::try_from(tasks).unwrap());
    assert_clean(&manager);
}

#[test]
fn the_longest_names_are_told_apart_also_when_they_come_back() {
    let place = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let door = Door { bytes: 2 << 20, clock: Arc::new(clock.clone()), ..Door::default() };
    let manager = door.open(place.path()).unwrap();
    // Characters of one to four bytes: names that differ in their first, middle or last character alone.
    let name = |nth: u64| {
        let (body, end) = ("nøme-名前-🙂-".repeat(9), format!("{nth:05}"));
        let mut name = format!("{body}{end}");
        while name.len() < MAX_ID_BYTES {
            name.insert(0, if nth.is_multiple_of(2) { 'a' } else { 'b' });
        }
        name
    };
    assert_eq!(name(0).len(), MAX_ID_BYTES);
    let count = manager.fill().accounts_bound * 2;
    paced(&manager, &clock, 100, count, |nth| {
        let name = name(nth);
        let landed = manager.record(&Call::new(&name).goal(&name), &used(nth + 1)).unwrap();
        assert!(!landed.folded, "{nth}");
    });
    for nth in (0..count).step_by(37) {
        let name = name(nth);
        assert_eq!(manager.usage(&Call::new(&name).goal(&name)).unwrap().total.tokens, nth + 1, "{nth}");
    }
    assert_clean(&manager);
    let error = manager.record(&Call::new(&"x".repeat(MAX_ID_BYTES + 1)), &used(1)).unwrap_err();
    assert_says(&error, Code::InvalidId, &[]);
}

/// Every account has a limit and an open minute, so that none may leave.
#[test]
fn where_none_can_leave_the_error_names_the_setting() {
    let place = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let limits = "[defaults]\nrequests_per_minute = 1000".to_owned();
    let door = Door { bytes: 1 << 20, clock: Arc::new(clock.clone()), limits, ..Door::default() };
    let manager = door.open(place.path()).unwrap();
    let bound = manager.fill().accounts_bound;
    let error = (0..=bound).find_map(|nth| {
        if nth % 20 == 0 {
            manager.flush().unwrap();
        }
        let name = format!("workspace-{nth}");
        match ask(&manager, &name, 1) {
            Ok(Verdict::Granted(mut hold)) => {
                hold.settle(&used(1), None).unwrap();
                None
            }
            Ok(Verdict::Refused(decision)) => Some(format!("{decision:?}")),
            Err(error) => Some(error.message().to_owned()),
        }
    });
    let told = error.unwrap();
    assert!(told.contains("StoreFull"), "{told}");
    let error = manager.store().apply(&llmquota::store::Batch::Reserve {
        chain: &Call::new("one-more").chain().unwrap(),
        ask: llmquota::rules::decisions::Ask { requests: 1, tokens: 1, money: 0 },
        ttl: std::time::Duration::from_secs(1),
        queued: None,
    });
    assert_says(&error.unwrap_err(), Code::StoreFull, &["accounts are all in use", "LLMQUOTA_STORE", "size="]);
    // Facts land all the same, on the global workspace, and a minute later there is room again.
    assert!(manager.record(&Call::new("one-more"), &used(7)).unwrap().folded);
    manager.flush().unwrap();
    clock.advance(62 * SECOND);
    until("there is room", || matches!(ask(&manager, "one-more", 1).unwrap(), Verdict::Granted(_)));
    assert_clean(&manager);
}

/// By hand, for it takes minutes: `cargo test --release --test bad_stores a_million -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_million_workspaces_and_two_million_tasks_fit_the_default_bound() {
    let place = tempfile::tempdir().unwrap();
    let manager = Door { bytes: llmquota::store::region::DEFAULT_BYTES, ..Door::default() }.open(place.path()).unwrap();
    let began = Instant::now();
    let (workspaces, tasks) = (1_000_000_u64, 2_000_000_u64);
    let mut folded = 0;
    for task in 0..tasks {
        let (workspace, task_name) = (format!("workspace-{}", task % workspaces), format!("task-{task}"));
        let landed = manager.record(&Call::new(&workspace).task(&task_name), &used(1)).unwrap();
        folded += u64::from(landed.folded);
        // No faster than history is written: what a burst does is told by the test above.
        if task % 8_192 == 0 {
            manager.flush().unwrap();
        }
    }
    println!("{tasks} records in {:?}, {folded} folded, {:?}", began.elapsed(), manager.fill());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("Rss"))
        .for_each(|line| println!("{line}"));
    let began = Instant::now();
    assert_eq!(in_all(&manager), i64::try_from(tasks).unwrap());
    println!("history adds up in {:?}", began.elapsed());
    for nth in (0..1_000_000).step_by(9_973) {
        let name = format!("workspace-{nth}");
        assert_eq!(manager.usage(&Call::new(&name)).unwrap().total.tokens, 2, "{nth}");
    }
    let began = Instant::now();
    assert_eq!(manager.attribution("workspace-5", Scope::Task, 10).unwrap().len(), 2);
    println!("the tasks of a workspace in {:?}", began.elapsed());
    for file in ["region", "history.db"] {
        let meta = std::fs::metadata(place.path().join(file)).unwrap();
        let blocks = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        println!("{file}: {} MB long, {} MB on the disk", meta.len() >> 20, blocks >> 20);
    }
    let began = Instant::now();
    assert_clean(&manager);
    println!("verified in {:?}", began.elapsed());
}
