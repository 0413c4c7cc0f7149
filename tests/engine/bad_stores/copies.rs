//! Stores that were copied, put back from a backup, or of which a part was deleted.

use std::path::Path;

use llmquota::error::Code;
use llmquota::rules::limits::{LimitKind, LimitSet};

use crate::actor::Actor;
use crate::scene::{
    Door, assert_clean, assert_says, close, granted, open, record, refusal, total, until, warnings, workspace,
};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn with_ten(directory: &Path) -> llmquota::Manager {
    let manager = open(directory);
    record(&manager, "acme", 10);
    manager.flush().unwrap();
    manager
}

#[test]
fn a_store_of_another_host_is_made_anew_from_its_history() {
    let place = tempfile::tempdir().unwrap();
    let (there, here) = (place.path().join("there"), place.path().join("here"));
    let manager = Door { boot: Some(77), ..Door::default() }.open(&there).unwrap();
    record(&manager, "acme", 10);
    let mut hold = granted(&manager, "acme", 5);
    hold.start().unwrap();
    manager.flush().unwrap();
    copy(&there, &here);
    hold.settle(&crate::scene::used(1), None).unwrap();
    let manager = open(&here);
    // The open call is not known to end here: it is charged as it was held.
    assert_eq!((total(&manager, "acme"), manager.snapshot("acme").unwrap().holds.open), (15, 0));
    assert!(warnings(&manager).contains("made anew"), "{}", warnings(&manager));
    assert_clean(&manager);
}

#[test]
fn a_copy_on_the_same_host_is_a_store_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let manager = with_ten(&first);
    copy(&first, &second);
    let copied = open(&second);
    assert!(warnings(&copied).contains("copy of another store"), "{}", warnings(&copied));
    record(&copied, "acme", 1);
    record(&manager, "acme", 2);
    assert_eq!((total(&copied, "acme"), total(&manager, "acme")), (11, 12));
    assert_clean(&copied);
    assert_clean(&manager);
}

#[test]
fn a_region_that_is_older_than_history_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    close(with_ten(place.path()), place.path());
    let old = std::fs::read(place.path().join("region")).unwrap();
    let manager = open(place.path());
    for _ in 0..10 {
        record(&manager, "acme", 10);
    }
    manager.flush().unwrap();
    close(manager, place.path());
    // In place: the inode is the same.
    std::fs::write(place.path().join("region"), old).unwrap();
    let manager = open(place.path());
    assert_eq!(total(&manager, "acme"), 110);
    assert!(warnings(&manager).contains("older"), "{}", warnings(&manager));
    record(&manager, "acme", 1);
    assert_eq!(crate::scene::in_history(&manager, "acme"), 111);
    assert_clean(&manager);
}

#[test]
fn a_history_that_is_older_than_the_region_is_told_what_it_lacks() {
    for stale in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let door = Door { boot: Some(1), ..Door::default() };
        let manager = door.open(place.path()).unwrap();
        record(&manager, "acme", 10);
        manager.flush().unwrap();
        close(manager, place.path());
        let old = std::fs::read(place.path().join("history.db")).unwrap();
        let manager = door.open(place.path()).unwrap();
        for _ in 0..10 {
            record(&manager, "acme", 10);
        }
        manager.flush().unwrap();
        close(manager, place.path());
        for file in ["history.db", "history.db-wal", "history.db-shm"] {
            let _gone = std::fs::remove_file(place.path().join(file));
        }
        std::fs::write(place.path().join("history.db"), old).unwrap();
        let boot = Some(if stale { 2 } else { 1 });
        let manager = Door { boot, ..Door::default() }.open(place.path()).unwrap();
        // The region knows all of it; after another boot the journal, which lasts for as long as it goes back.
        assert_eq!(total(&manager, "acme"), 110, "stale: {stale}");
        record(&manager, "acme", 1);
        assert_eq!(total(&manager, "acme"), 111);
        assert_clean(&manager);
    }
}

#[test]
fn a_history_that_is_deleted_begins_anew_with_what_the_region_has() {
    for in_use in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let mut manager = Some(with_ten(place.path()));
        if !in_use {
            manager = None;
        }
        for file in ["history.db", "history.db-wal", "history.db-shm"] {
            let _gone = std::fs::remove_file(place.path().join(file));
        }
        let manager = manager.unwrap_or_else(|| open(place.path()));
        if in_use {
            until("another is made", || place.path().join("history.db").exists());
        }
        record(&manager, "acme", 5);
        assert_eq!(total(&manager, "acme"), 15);
        until("it has what the region has", || manager.verify(false).is_ok_and(|findings| findings.is_empty()));
        // One row makes up for what was lost, and the other is the record's.
        let rows = manager.history(&llmquota::store::history::Query::default()).unwrap();
        let found: Vec<_> = rows.iter().map(|row| row.kind).collect();
        assert!(found.contains(&"overflow") && found.contains(&"record"), "{found:?}");
        close(manager, place.path());
        assert_eq!(total(&Door { boot: Some(3), ..Door::default() }.open(place.path()).unwrap(), "acme"), 15);
    }
}

#[test]
fn limits_that_are_deleted_are_published_anew_and_those_set_by_hand_are_gone() {
    let place = tempfile::tempdir().unwrap();
    let door = Door { limits: "[workspaces.acme]\ntokens_per_day = 20".to_owned(), ..Door::default() };
    let manager = door.open(place.path()).unwrap();
    manager.set_override(workspace("other"), LimitSet::NONE.with(LimitKind::TokensPerDay, 20), None).unwrap();
    std::fs::remove_file(place.path().join("limits.json")).unwrap();
    let refused = |manager: &llmquota::Manager, name: &str| {
        matches!(crate::scene::ask(manager, name, 30).unwrap(), llmquota::Verdict::Refused(_))
    };
    assert!(refused(&manager, "acme") && refused(&manager, "other"), "this process goes on with what it has");
    let second = open(place.path());
    until("the file's limits are published again", || refused(&second, "acme"));
    assert!(place.path().join("limits.json").exists());
    assert!(refused(&manager, "acme"));
}

#[test]
fn limits_that_are_damaged_are_named_and_those_who_have_them_go_on() {
    let place = tempfile::tempdir().unwrap();
    let door = Door { limits: "[workspaces.acme]\ntokens_per_day = 20".to_owned(), ..Door::default() };
    let manager = door.open(place.path()).unwrap();
    std::fs::write(place.path().join("limits.json"), "{ \"format\": 1").unwrap();
    assert_says(&refusal(place.path()), Code::StoreDamaged, &["limits.json", "move it away"]);
    assert!(matches!(crate::scene::ask(&manager, "acme", 30).unwrap(), llmquota::Verdict::Refused(_)));
    record(&manager, "acme", 5);
    std::fs::remove_file(place.path().join("limits.json")).unwrap();
    assert_eq!(total(&open(place.path()), "acme"), 5);
}

#[test]
fn a_lock_file_that_is_deleted_lets_nobody_in_who_would_not_know_who_lives() {
    let place = tempfile::tempdir().unwrap();
    let mut actor = Actor::on(place.path());
    assert_eq!(actor.ask("record acme 5"), "ok");
    std::fs::remove_file(place.path().join("lock")).unwrap();
    let error = refusal(place.path());
    assert_says(&error, Code::StoreDamaged, &[&actor.pid().to_string(), "lock file", "stop all processes"]);
    // Those who have it count on, and say what has happened.
    assert_eq!(actor.ask("record acme 5"), "ok");
    assert!(actor.ask("warnings").contains("lock file was deleted"));
    assert_eq!(actor.ask("flush"), "ok");
    // A child of theirs could not know who lives either.
    assert!(actor.ask("fork-and-record acme").starts_with("store_damaged"), "a forked child");
    actor.kill();
    let manager = open(place.path());
    assert_eq!(total(&manager, "acme"), 10);
    assert!(warnings(&manager).contains("lock file"), "{}", warnings(&manager));
    assert_clean(&manager);
}

#[test]
fn a_whole_directory_that_is_deleted_in_use_is_told() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("store");
    let manager = with_ten(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
    until("it is told", || {
        let told = warnings(&manager);
        told.contains("region file was deleted") && told.contains("lock file was deleted")
    });
    record(&manager, "acme", 5);
    assert_eq!(total(&manager, "acme"), 15);
}
