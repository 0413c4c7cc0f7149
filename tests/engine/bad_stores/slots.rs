//! More processes than a store has room for.

use llmquota::error::Code;

use crate::actor::Actor;
use crate::scene::{Door, assert_clean, assert_says, open, record, refusal, total, until};

/// As many as the layout has slots for.
const MOST: usize = 255;

#[test]
fn one_process_too_many_is_told_so_and_takes_the_place_of_whoever_leaves() {
    let place = tempfile::tempdir().unwrap();
    let mut dying = Actor::on(place.path());
    assert_eq!(dying.ask("record acme 1"), "ok");
    assert_eq!(dying.ask("reserve a acme 10"), "ok");
    assert_eq!(dying.ask("start a"), "ok");
    let manager = open(place.path());
    // Each opening is a process of its own, as far as the store knows.
    let mut crowd = Actor::new();
    assert_eq!(crowd.ask(&format!("crowd {} {}", MOST - 2, place.path().display())), "ok");
    assert_eq!(manager.report().unwrap().processes.len(), MOST);
    assert_says(&refusal(place.path()), Code::StoreFull, &["255 processes", "stop some"]);
    record(&manager, "acme", 1);
    dying.kill();
    let mut heir = None;
    // Whoever clears up after the dead one has its place for a moment.
    until("the place is free", || {
        heir = Door::default().open(place.path()).ok();
        heir.is_some()
    });
    let heir = heir.unwrap();
    assert_says(&refusal(place.path()), Code::StoreFull, &["255 processes"]);
    // What the dead one had started is charged, once, whoever finds it.
    assert_eq!(total(&heir, "acme"), 12);
    crowd.kill();
    for _ in 0..3 {
        record(&open(place.path()), "acme", 1);
    }
    assert_eq!(total(&heir, "acme"), 15);
    assert_clean(&heir);
}
