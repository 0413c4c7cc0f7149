//! Two versions of the package on one store.

use std::os::unix::fs::FileExt;
use std::path::Path;

use llmquota::error::Code;

use crate::actor::Actor;
use crate::scene::{assert_clean, assert_says, open, record, refusal, total, warnings};

/// Words that stay where they are in every version of the layout.
const VERSION: u64 = 1;
const JOURNAL_TAIL: u64 = 32;

fn region(directory: &Path) -> std::fs::File {
    std::fs::File::options().read(true).write(true).open(directory.join("region")).unwrap()
}

fn word(directory: &Path, word: u64) -> u64 {
    let mut bytes = [0; 8];
    region(directory).read_exact_at(&mut bytes, word * 8).unwrap();
    u64::from_le_bytes(bytes)
}

fn set_word(directory: &Path, word: u64, value: u64) {
    region(directory).write_all_at(&value.to_le_bytes(), word * 8).unwrap();
}

fn with_ten(directory: &Path) {
    let manager = open(directory);
    record(&manager, "acme", 10);
    manager.flush().unwrap();
}

#[test]
fn a_newer_layout_is_refused_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    with_ten(place.path());
    let version = word(place.path(), VERSION);
    set_word(place.path(), VERSION, version + 1);
    let before = std::fs::read(place.path().join("region")).unwrap();
    assert_says(&refusal(place.path()), Code::StoreDamaged, &["layout", "upgrade the package"]);
    assert!(std::fs::read(place.path().join("region")).unwrap() == before);
    set_word(place.path(), VERSION, version);
    assert_eq!(total(&open(place.path()), "acme"), 10);
}

#[test]
fn an_older_layout_is_made_anew_once_history_has_all_of_it() {
    let place = tempfile::tempdir().unwrap();
    with_ten(place.path());
    let (version, tail) = (word(place.path(), VERSION), word(place.path(), JOURNAL_TAIL));
    set_word(place.path(), VERSION, version - 1);
    set_word(place.path(), JOURNAL_TAIL, tail + 3);
    let before = std::fs::read(place.path().join("region")).unwrap();
    let error = refusal(place.path());
    assert_says(
        &error,
        Code::StoreDamaged,
        &["older layout", "3 records", "stop every process", "then start this one"],
    );
    assert!(std::fs::read(place.path().join("region")).unwrap() == before);
    set_word(place.path(), JOURNAL_TAIL, tail);
    let manager = open(place.path());
    assert_eq!(total(&manager, "acme"), 10);
    assert!(warnings(&manager).contains("older layout"), "{}", warnings(&manager));
    assert_eq!(word(place.path(), VERSION), version);
    assert_clean(&manager);
}

#[test]
fn an_older_layout_that_is_in_use_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut actor = Actor::on(place.path());
    assert_eq!((actor.ask("record acme 10"), actor.ask("flush")), ("ok".to_owned(), "ok".to_owned()));
    let version = word(place.path(), VERSION);
    set_word(place.path(), VERSION, version - 1);
    assert_says(&refusal(place.path()), Code::StoreDamaged, &["older layout", "stop every process"]);
    actor.kill();
    assert_eq!(total(&open(place.path()), "acme"), 10);
}

#[test]
fn a_newer_history_is_refused_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    with_ten(place.path());
    let at = place.path().join("history.db");
    let set = |version: i64| {
        let connection = rusqlite::Connection::open(&at).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
    };
    let version: i64 = {
        let connection = rusqlite::Connection::open(&at).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    set(version + 1);
    let before = std::fs::read(&at).unwrap();
    assert_says(&refusal(place.path()), Code::StoreDamaged, &["history.db", "newer"]);
    assert!(std::fs::read(&at).unwrap() == before);
    set(version);
    let manager = open(place.path());
    assert_eq!(total(&manager, "acme"), 10);
    assert_clean(&manager);
}

/// The layout is one, and the packages are not.
#[test]
fn a_process_of_another_package_is_warned_of() {
    let place = tempfile::tempdir().unwrap();
    let manager = open(place.path());
    let actor = Actor::on(place.path());
    let mine = env!("CARGO_PKG_VERSION");
    assert!(!warnings(&manager).contains("runs llmquota"));
    // Its slot says which package it runs, as text.
    let bytes = std::fs::read(place.path().join("region")).unwrap();
    let mut text = [0_u8; 8];
    text[..mine.len()].copy_from_slice(mine.as_bytes());
    let pid = u64::from(actor.pid().unsigned_abs()).to_le_bytes();
    let words: Vec<&[u8]> = bytes.chunks_exact(8).collect();
    let slot =
        words.chunks_exact(8).position(|slot| slot[0] == pid && slot[1..].contains(&text.as_slice())).unwrap() * 8;
    let package = slot + words[slot..].iter().position(|word| *word == text).unwrap();
    set_word(place.path(), package as u64, u64::from_le_bytes(*b"9.8.7\0\0\0"));
    let told = warnings(&manager);
    assert!(told.contains(&format!("process {} runs llmquota 9.8.7, this one {mine}", actor.pid())), "{told}");
}
