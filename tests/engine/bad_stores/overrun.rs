//! More calls than history can be written at, for as long as it lasts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use llmquota::error::Code;
use rusqlite::{Connection, OpenFlags};

use crate::scene::{Door, assert_clean, assert_says, record, total, until};

const WORKSPACES: [&str; 3] = ["acme", "bolt", "cove"];

/// Tokens of the rows that make up for what the journal had no room for.
fn made_up(place: &std::path::Path) -> i64 {
    let history = Connection::open_with_flags(place.join("history.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let tokens = "SELECT coalesce(sum(tokens), 0) FROM history WHERE kind = 8";
    history.query_row(tokens, [], |row| row.get(0)).unwrap()
}

/// Ends whoever looks at it, on a failure too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_the_journal_had_no_room_for_is_in_history_while_the_calls_go_on() {
    let place = tempfile::tempdir().unwrap();
    // A journal of two transactions: while one is written another comes, so that it is never empty.
    let manager = Door { bytes: 64 << 20, ..Door::default() }.open(place.path()).unwrap();
    let (is_over, used) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for workspace in WORKSPACES {
                    record(&manager, workspace, 1);
                    used.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let _over = Over(&is_over);
        let mut before = 0;
        for times in 1..=2 {
            until(&format!("what had no room is written for the time {times}"), || made_up(place.path()) > before);
            before = made_up(place.path());
        }
        // History and counters are not set right by each other at once.
        if let Err(error) = manager.verify(true) {
            assert_says(&error, Code::StoreBusy, &["still being written", "repair"]);
        }
    });
    let counted: u64 = WORKSPACES.iter().map(|workspace| total(&manager, workspace)).sum();
    assert_eq!(counted, used.into_inner());
    assert_clean(&manager);
}
