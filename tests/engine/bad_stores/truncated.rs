//! A region's file that is cut off, emptied, replaced or written over while processes use it.

use std::path::Path;
use std::time::{Duration, Instant};

use llmquota::error::Code;
use llmquota::{Call, Manager};

use crate::actor::Actor;
use crate::scene::{ask, assert_clean, assert_says, open, record, reopen, total, until, used, warnings};

fn region(directory: &Path) -> std::path::PathBuf {
    directory.join("region")
}

fn cut(directory: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(region(directory)).unwrap().set_len(bytes).unwrap();
}

/// A store whose history has ten tokens of a workspace.
fn with_ten(directory: &Path) -> Manager {
    let manager = open(directory);
    record(&manager, "acme", 10);
    manager.flush().unwrap();
    manager
}

fn says_so(manager: &Manager) -> bool {
    manager.record(&Call::new("acme"), &used(1)).is_err_and(|error| error.code() == Code::StoreDamaged)
}

#[test]
fn the_next_touch_of_what_is_gone_is_told_and_nothing_is_acknowledged() {
    for bytes in [0, 4_096, 1 << 20] {
        let place = tempfile::tempdir().unwrap();
        let manager = with_ten(place.path());
        cut(place.path(), bytes);
        if bytes < 1 << 20 {
            // The account's own page is gone.
            let error = manager.record(&Call::new("acme"), &used(1)).unwrap_err();
            assert_says(&error, Code::StoreDamaged, &["truncated", "restart", "history"]);
        }
        until("it is told", || says_so(&manager));
        assert_eq!(ask(&manager, "acme", 1).unwrap_err().code(), Code::StoreDamaged);
        assert_eq!(manager.snapshot("acme").unwrap_err().code(), Code::StoreDamaged);
        assert_eq!(manager.can_make_request("acme").unwrap_err().code(), Code::StoreDamaged);
        assert!(warnings(&manager).contains("truncated"));
        // Who opens it now is told to stop those who have it, and the next after them finds what history has.
        let error = crate::scene::refusal(place.path());
        assert_says(&error, Code::StoreDamaged, &["stop them first"]);
        drop(manager);
        let manager = reopen(place.path());
        let total = total(&manager, "acme");
        assert!((10..=12).contains(&total), "{total}");
        assert!(warnings(&manager).contains("made anew from history"), "{}", warnings(&manager));
        assert_clean(&manager);
    }
}

#[test]
fn an_idle_process_knows_within_a_second_and_lives() {
    let place = tempfile::tempdir().unwrap();
    let mut actor = Actor::on(place.path());
    let manager = with_ten(place.path());
    cut(place.path(), 8_192);
    let began = Instant::now();
    until("both tell it", || actor.ask("warnings").contains("truncated") && warnings(&manager).contains("truncated"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(actor.ask("record acme 1").starts_with("store_damaged"));
    assert!(actor.ask("reserve a acme 1").starts_with("store_damaged"));
}

/// The length is right again, and nothing faults: only zeros are there.
#[test]
fn a_file_that_was_emptied_and_grown_again_is_not_believed() {
    let place = tempfile::tempdir().unwrap();
    let manager = with_ten(place.path());
    let bytes = std::fs::metadata(region(place.path())).unwrap().len();
    let mut actor = Actor::on(place.path());
    cut(place.path(), 0);
    cut(place.path(), bytes);
    assert!(says_so(&manager));
    assert!(actor.ask("record acme 1").starts_with("store_damaged"));
}

#[test]
fn a_copy_of_before_that_is_written_over_it_is_not_believed() {
    let place = tempfile::tempdir().unwrap();
    let manager = with_ten(place.path());
    let before = std::fs::read(region(place.path())).unwrap();
    for _ in 0..5 {
        record(&manager, "acme", 10);
    }
    manager.flush().unwrap();
    std::fs::write(region(place.path()), before).unwrap();
    until("it is told", || says_so(&manager));
    drop(manager);
    let manager = reopen(place.path());
    let found = total(&manager, "acme");
    // Some were still acknowledged while nobody had looked.
    assert!((60..90).contains(&found), "{found}");
    assert_clean(&manager);
}

#[test]
fn another_file_in_its_place_is_not_counted_beside() {
    let place = tempfile::tempdir().unwrap();
    let manager = with_ten(place.path());
    std::fs::copy(region(place.path()), place.path().join("copy")).unwrap();
    std::fs::rename(place.path().join("copy"), region(place.path())).unwrap();
    until("it is told", || says_so(&manager));
    drop(manager);
    assert!((10..=12).contains(&total(&reopen(place.path()), "acme")));
}

#[test]
fn a_file_that_is_deleted_serves_its_processes_and_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let manager = with_ten(place.path());
    let mut actor = Actor::on(place.path());
    std::fs::remove_file(region(place.path())).unwrap();
    assert_says(&crate::scene::refusal(place.path()), Code::StoreDamaged, &["was deleted", "stop them first"]);
    record(&manager, "acme", 5);
    assert_eq!(actor.ask("record acme 5"), "ok");
    assert_eq!((total(&manager, "acme"), actor.ask("total acme")), (20, "20".to_owned()));
    assert!(warnings(&manager).contains("region file was deleted"));
    manager.flush().unwrap();
    drop((manager, actor));
    let manager = reopen(place.path());
    assert_eq!(total(&manager, "acme"), 20);
    assert_clean(&manager);
}
