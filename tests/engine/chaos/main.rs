//! Chaos: processes use one store while others are killed at any instant and inside its critical section, stopped and
//! continued, forked in the middle of their calls, and started anew. After each round a judge holds what they were told against
//! history, history against the limits, and the counters against both.
//!
//! `cargo test --test chaos` runs the short form; `make chaos` the full one, which is this file's ignored test.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "processes are forked and sent signals")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod histogram;
mod judge;
mod killer;
mod log;
mod power;
mod preload;
mod random;
mod replay;
mod report;
mod rows;
mod soak;
mod stage;
mod tampering;
mod worker;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use judge::{Judgement, Witness};
use killer::{Killer, Plan, Tally};
use stage::{FastClock, SMALL, Stage, USUAL};

/// How much faster the calendar runs: a day passes in 17 seconds.
const PACE: i64 = 5_000;
/// Some minutes before a month ends: 2026-01-31T22:00:00Z.
const EVE: i64 = 1_769_896_800_000_000_000;

/// A worker process, which the killer starts with the name of the stage.
#[test]
#[ignore = "started by the tests beside it"]
fn worker() {
    let (Ok(stage), Ok(name)) = (std::env::var(killer::STAGE), std::env::var(killer::NAME)) else { return };
    let stage = Stage::find(Path::new(&stage));
    match name.as_str() {
        "dying parent" => preload::parent(&stage, true),
        "leaving parent" => preload::parent(&stage, false),
        name if name.starts_with("soak") => soak::work(&stage, name),
        name => worker::run(&stage, name),
    }
}

/// Rounds on one store; answers what was done and what the judge found last.
fn play(plans: &[Plan], seed: u64) -> (Tally, Judgement) {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set_up(directory.path(), FastClock::at(EVE, PACE), USUAL);
    let mut killer = Killer::new(&stage, seed);
    let mut last = Judgement::default();
    for plan in plans {
        killer.round(plan);
        let witness = Witness { killed: &killer.killed, stops: &killer.stops };
        last = judge::judge(&stage, &witness);
        last.faults.append(&mut killer.faults);
        if !last.faults.is_empty() {
            break;
        }
    }
    if !last.faults.is_empty() {
        let kept = directory.keep();
        last.faults.push(format!("what it was found in is kept in {}", kept.display()));
    }
    (killer.tally.clone(), last)
}

/// Times are measured: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assert_in_order(judgement: &Judgement) {
    assert!(judgement.faults.is_empty(), "{:#?}", judgement.faults);
}

#[test]
fn a_short_storm_leaves_everything_in_order() {
    let _alone = alone();
    let plan = Plan { workers: 4, kills: 11, lasts: Duration::from_secs(4), all_die: false };
    let seed = stage::mono().unsigned_abs();
    let (tally, judgement) = play(&[plan, Plan { all_die: true, ..plan }, plan], seed);
    println!("seed {seed}: {tally:?}\n{judgement:#?}");
    assert_in_order(&judgement);
    assert!(tally.kills >= 30 && tally.inside >= 5, "{tally:?}");
    assert!(tally.stops_inside >= 1 && judgement.acknowledged > 1_000, "{tally:?}");
    assert!(judgement.filled.len() >= 3, "limits were met: {:?}", judgement.filled);
}

#[test]
fn children_of_a_service_that_forks_in_the_middle_of_its_records_keep_history_alone() {
    let _alone = alone();
    for round in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let stage = Stage::set_up(directory.path(), FastClock::at(EVE, PACE), USUAL);
        let name = if round % 2 == 0 { "dying parent" } else { "leaving parent" };
        let mut parent = killer::command(&stage, name).spawn().unwrap();
        let _status = parent.wait().unwrap();
        let went = preload::child_of(directory.path());
        assert_eq!(went.as_deref(), Some(""), "round {round}, {name}");
        let judgement = judge::judge(&stage, &Witness { killed: &Default::default(), stops: &[] });
        assert_in_order(&judgement);
    }
}

/// One thing that happens to a store, and what is then left of it.
fn scene(act: impl FnOnce(&mut Killer<'_>)) -> Tally {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set_up(directory.path(), FastClock::at(EVE, PACE), USUAL);
    let mut killer = Killer::new(&stage, stage::mono().unsigned_abs());
    act(&mut killer);
    assert_eq!(killer.faults, [""; 0]);
    assert_in_order(&judge::judge(&stage, &Witness { killed: &killer.killed, stops: &killer.stops }));
    killer.tally.clone()
}

#[test]
fn the_dead_are_seen_to_while_whoever_keeps_history_is_stopped() {
    assert!(scene(|killer| killer.kill_beside_the_stopped()).kills >= 3);
}

#[test]
fn whoever_was_stopped_with_the_lock_and_then_dies_is_taken_over_from() {
    assert!(scene(|killer| killer.kill_whom_all_gave_up()).kills >= 3);
}

#[test]
fn a_hundred_and_twenty_power_cuts_cost_a_second_each_at_most() {
    let _alone = alone();
    for seed in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let stage = Stage::set_up(directory.path(), FastClock::at(EVE, PACE), SMALL);
        assert_eq!(power::cut_often(&stage, 30, seed), [""; 0]);
    }
}

/// A number of the environment.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[test]
#[ignore = "takes a quarter of an hour: make chaos"]
fn the_full_storm() {
    let _alone = alone();
    let (kills, operations) = (setting("KILLS", 1_000), setting("OPERATIONS", 10_000_000));
    let seed = setting("SEED", stage::mono().unsigned_abs());
    let began = std::time::Instant::now();
    let (mut tally, mut sum) = (Tally::default(), Judgement::default());
    let mut stages = 0;
    while tally.kills < kills || sum.acknowledged < operations {
        let plan = Plan { workers: 4, kills: 16, lasts: Duration::from_secs(8), all_die: false };
        let plans = [plan, Plan { all_die: true, ..plan }, Plan { workers: 6, ..plan }, plan];
        let (done, judgement) = play(&plans, seed + stages);
        assert_in_order(&judgement);
        tally.add(&done);
        sum.add(&judgement);
        stages += 1;
        println!("{:?}: {} kills, {} operations", began.elapsed(), tally.kills, sum.acknowledged);
    }
    let lines = figures(&tally, &sum, stages);
    report::write("chaos", &format!("make chaos KILLS={kills} OPERATIONS={operations} SEED={seed}"), "", &lines);
}

fn figures(tally: &Tally, sum: &Judgement, stages: u64) -> Vec<Vec<String>> {
    let count = report::count;
    let milliseconds = |time: Duration| format!("{} ms", count(u64::try_from(time.as_millis()).unwrap()));
    let filled: Vec<String> = sum.filled.iter().map(|(kind, times)| format!("{kind} {}", count(*times))).collect();
    let lines = [
        ("faults found", "0".to_owned()),
        ("rounds, each judged", count(stages * 4)),
        ("operations acknowledged", count(sum.acknowledged)),
        ("rows of history", count(sum.rows)),
        ("grants, each replayed", count(sum.grants)),
        ("grants that took the last unit of a limit", filled.join(", ")),
        ("processes started", count(tally.workers)),
        ("killed with SIGKILL", count(tally.kills)),
        ("of those with the lock in hand", count(tally.inside)),
        ("of those with accounts changed by a batch that was not decided", count(tally.begun)),
        ("of those with a batch decided and not done", count(tally.decided)),
        ("of those while they started", count(tally.starting)),
        ("of those while a forked child of theirs went on", count(tally.parents)),
        ("operations under way at a kill that landed", count(sum.under_way)),
        (
            "stopped for 100 ms to 1 s, and of those with the lock in hand",
            format!("{}, {}", tally.stops, tally.stops_inside),
        ),
        ("of those in which others put something aside", count(tally.put_aside.0)),
        ("calls answered with \"busy\" within their bound", count(sum.busy)),
        ("the slowest operation", format!("{} ({})", milliseconds(sum.slowest), sum.slowest_what)),
        ("holds of dead processes charged as held", count(sum.orphans)),
        ("the longest that a dead process's hold stayed open", milliseconds(tally.orphans_open)),
    ];
    let head = [("what", "figure".to_owned())];
    head.into_iter().chain(lines).map(|(what, figure)| vec![what.to_owned(), figure]).collect()
}

fn soaked(plan: &soak::Plan) -> soak::Soaked {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    soak::soak(&Stage::set_up(directory.path(), FastClock::at(EVE, 1), USUAL), plan)
}

#[test]
fn a_store_that_is_soaked_for_a_dozen_seconds_stays_as_it_is() {
    let period = Duration::from_secs(1);
    let soaked = soaked(&soak::Plan { periods: 12, period, rows_kept: period * 2 });
    assert_eq!(soaked.faults, [""; 0], "{soaked:#?}");
    let memory = |period: usize| soaked.periods[period].memory;
    assert!(memory(11) < memory(3) + (16 << 20), "{soaked:#?}");
    let operations: u64 = soaked.periods.iter().map(|period| period.operations).sum();
    assert!(soaked.rows_left < operations / 2, "{} rows are left of {operations}", soaked.rows_left);
}

#[test]
#[ignore = "takes ten minutes: make soak"]
fn the_full_soak() {
    let minutes = setting("MINUTES", 10);
    let period = Duration::from_secs(60);
    let plan = soak::Plan { periods: u32::try_from(minutes).unwrap(), period, rows_kept: period };
    let mut soaked = soaked(&plan);
    // The rows of the first minute are all kept until the second ends: from then on as many go as come.
    let drifts = soaked.drifts(2);
    soaked.faults.extend(drifts);
    let head = [
        "minute",
        "operations",
        "median",
        "99 %",
        "99.9 %",
        "longest",
        "memory of a worker",
        "history",
        "its log",
        "region",
        "most waiting",
        "calls that share a row",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let (micros, mib) = (
        |nanos: u64| format!("{:.1} us", nanos as f64 / 1e3),
        |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    );
    for (number, period) in (1..).zip(&soaked.periods) {
        let mut cells = vec![format!("{number}"), report::count(period.operations)];
        cells.extend(period.took.map(micros));
        cells.extend([period.memory, period.history, period.log, period.region].map(mib));
        cells.extend([period.waiting, period.folded].map(report::count));
        lines.push(cells);
    }
    println!("{lines:#?}");
    assert_eq!(soaked.faults, [""; 0], "{soaked:#?}");
    let rate = report::count(soaked.drain_rate);
    let note = format!(" (80 % of {rate} operations a second)");
    report::write("soak", &format!("make soak MINUTES={minutes}"), &note, &lines);
}
