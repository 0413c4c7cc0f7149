//! Many who open a store at the same instant.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::actor::Actor;
use crate::scene::{Door, assert_clean, open, record, total};

const AT_ONCE: usize = 20;

fn open_at_once(directory: &Path) {
    let mut actors: Vec<Actor> = (0..AT_ONCE).map(|_| Actor::new()).collect();
    for actor in &mut actors {
        assert_eq!(actor.ask(&format!("size {}", crate::scene::SMALL)), "ok");
    }
    for actor in &mut actors {
        actor.tell(&format!("open {}", directory.display()));
    }
    for actor in &mut actors {
        assert_eq!(actor.answer(), "ok");
    }
    for actor in &mut actors {
        actor.tell("record acme 1");
    }
    for actor in &mut actors {
        assert_eq!(actor.answer(), "ok");
    }
    let manager = open(directory);
    assert_eq!(manager.report().unwrap().processes.len(), AT_ONCE + 1);
}

#[test]
fn twenty_processes_make_one_store() {
    let place = tempfile::tempdir().unwrap();
    open_at_once(&place.path().join("fresh"));
    let manager = open(&place.path().join("fresh"));
    assert_eq!(total(&manager, "acme"), AT_ONCE as u64);
    assert_clean(&manager);
}

#[test]
fn twenty_processes_find_a_stale_store_and_one_makes_it_anew() {
    let place = tempfile::tempdir().unwrap();
    let before = Door { boot: Some(7), ..Door::default() }.open(place.path()).unwrap();
    record(&before, "acme", 100);
    before.flush().unwrap();
    drop(before);
    open_at_once(place.path());
    let manager = open(place.path());
    assert_eq!(total(&manager, "acme"), 100 + AT_ONCE as u64);
    assert_clean(&manager);
}

/// One that dies in the middle of the making leaves a file that nobody takes for a store.
#[test]
fn what_a_dead_maker_left_is_no_store() {
    let place = tempfile::tempdir().unwrap();
    let half = place.path().join("region.new");
    let file = std::fs::File::create(&half).unwrap();
    file.write_all_at(&[7; 4_096], 0).unwrap();
    let manager = open(place.path());
    record(&manager, "acme", 5);
    assert!(!half.exists());
    assert_eq!(total(&manager, "acme"), 5);
}

#[test]
fn threads_open_while_their_process_forks() {
    let place = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let mut actor = Actor::new();
        assert_eq!(actor.ask(&format!("fork-and-open 2 {}", place.path().display())), "0 [Ok(()), Ok(())]");
        drop(actor);
        let manager = open(place.path());
        assert_eq!(total(&manager, "acme"), round * 3);
        assert_clean(&manager);
    }
}
