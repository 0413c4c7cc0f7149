//! The store that processes share: what is remembered, by whom, and what a restart, another boot, or a full table changes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails to unwrap fails its test")]

use std::path::Path;
use std::sync::Arc;

use llmquota::account::AccountId;
use llmquota::config::Config;
use llmquota::rules::limits::{LimitKind, LimitSet};
use llmquota::store::history::Query;
use llmquota::store::shared::SharedOptions;
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::{Ask, Call, Manager, ManualClock, Options, Report, Scope, Verdict};

fn open_with(directory: &Path, bytes: usize, boot: u64) -> Manager {
    let shared = Some(SharedOptions { boot: Some(boot), ..SharedOptions::at(directory) });
    Manager::new(Options { bytes, config: Config::unlimited(), shared, ..Options::default() }).unwrap()
}

fn open(directory: &Path) -> Manager {
    open_with(directory, 16 << 20, 1)
}

fn used(tokens: u64) -> Report<'static> {
    Report { cost: Some(NanoUsd::from_nanos(7)), ..Report::success(TokenUsage::unsplit(tokens)) }
}

fn acme() -> Call<'static> {
    Call::new("acme").goal("g").task("t").model("gpt-4o").user("u").credential("openai/ab12")
}

fn total(manager: &Manager, workspace: &str) -> u64 {
    manager.snapshot(workspace).unwrap().usage.total.tokens
}

fn assert_clean(manager: &Manager) {
    let findings = manager.verify(false).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn two_managers_of_one_directory_count_together() {
    let directory = tempfile::tempdir().unwrap();
    let (left, right) = (open(directory.path()), open(directory.path()));
    left.record(&acme(), &used(10)).unwrap();
    right.record(&acme(), &used(5)).unwrap();
    assert_eq!((total(&left, "acme"), total(&right, "acme")), (15, 15));
    let account = AccountId { scope: Scope::Workspace, owner: "", name: "acme" };
    left.set_override(account, LimitSet::NONE.with(LimitKind::TokensPerDay, 20), None).unwrap();
    let asked = |manager: &Manager, tokens| {
        manager.reserve(&acme(), &Ask::tokens(tokens), llmquota::manager::DEFAULT_TTL).unwrap()
    };
    let Verdict::Granted(mut hold) = asked(&left, 5) else { panic!("it fits") };
    assert!(matches!(asked(&right, 1), Verdict::Refused(_)), "what the other holds counts here");
    hold.settle(&used(2), None).unwrap();
    assert_eq!(total(&right, "acme"), 17);
    assert_clean(&left);
    assert_clean(&right);
}

#[test]
fn what_happened_is_in_history_row_by_row() {
    let directory = tempfile::tempdir().unwrap();
    let manager = open(directory.path());
    for tokens in 1..=100 {
        manager.record(&acme(), &used(tokens)).unwrap();
    }
    let rows = manager.history(&Query { workspace: Some("acme".to_owned()), ..Query::default() }).unwrap();
    assert_eq!(rows.len(), 100);
    assert_eq!(rows.iter().map(|row| row.amounts.tokens).sum::<i64>(), 5_050);
    assert_eq!(rows[0].goal.as_deref(), Some("g"));
    assert_eq!(rows[0].credential.as_deref(), Some("openai/ab12"));
    assert_clean(&manager);
}

#[test]
fn a_restart_remembers_all_and_another_boot_what_history_has() {
    let directory = tempfile::tempdir().unwrap();
    for (boot, before) in [(1, 0), (1, 10), (2, 20), (2, 30), (3, 40)] {
        let manager = open_with(directory.path(), 16 << 20, boot);
        assert_eq!(total(&manager, "acme"), before, "boot {boot}");
        manager.record(&acme(), &used(10)).unwrap();
        assert_eq!(total(&manager, "acme"), before + 10);
        manager.flush().unwrap();
        assert_clean(&manager);
    }
}

#[test]
fn idle_accounts_leave_for_history_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_769_903_400_500_000_000);
    let shared = Some(SharedOptions::at(directory.path()));
    let config = Config::unlimited();
    let options = Options { bytes: 4 << 20, clock: Arc::new(clock.clone()), config, shared };
    let manager = Manager::new(options).unwrap();
    let bound = manager.fill().accounts_bound;
    let name = |task: u64| format!("task-{task}");
    for round in 0..2 {
        for task in 0..bound * 3 {
            let task = name(task);
            let call = Call::new("acme").task(&task);
            let landed = manager.record(&call, &used(1)).unwrap();
            assert!(!landed.folded, "round {round}, {task}");
            if task.ends_with("000") {
                // What was touched in this second stays; who fills a small table faster has to wait for history.
                clock.advance(1_000_000_000);
                manager.flush().unwrap();
            }
        }
    }
    assert_eq!(total(&manager, "acme"), bound * 6);
    assert!(manager.fill().accounts <= bound);
    assert_clean(&manager);
    let usage = manager.attribution("acme", Scope::Task, usize::MAX).unwrap();
    assert_eq!(usage.len() as u64, bound * 3);
    assert!(usage.iter().all(|task| task.total.tokens == 2));
}

#[test]
fn what_was_taken_back_is_in_history_both_times_and_adds_up_to_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let manager = open(directory.path());
    let ask = Ask::tokens(20);
    let Verdict::Granted(mut hold) = manager.reserve(&acme(), &ask, llmquota::manager::DEFAULT_TTL).unwrap() else {
        panic!("it fits")
    };
    hold.settle(&used(11), None).unwrap();
    manager.record(&Call::new("bolt"), &used(11)).unwrap();
    assert!(hold.take_back().unwrap().changed);
    assert!(!hold.take_back().unwrap().changed);
    assert_eq!((total(&manager, "acme"), total(&manager, "bolt")), (0, 11));
    let of = |workspace: &str| Query { workspace: Some(workspace.to_owned()), ..Query::default() };
    let rows = manager.history(&of("acme")).unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.kind, row.amounts.requests, row.amounts.tokens)).collect();
    assert_eq!(told, [("settle", 1, 11), ("taken_back", -1, -11)]);
    assert_eq!(manager.history_sums(&of("acme")).unwrap().tokens, 0);
    assert_clean(&manager);
    drop((hold, manager));
    // Another boot begins with what history has.
    let again = open_with(directory.path(), 16 << 20, 2);
    assert_eq!((total(&again, "acme"), total(&again, "bolt")), (0, 11));
    assert_clean(&again);
}
