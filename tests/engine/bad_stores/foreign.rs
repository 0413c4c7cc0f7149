//! Files of others in the places of the store's own, and files of its own with other content than it wrote.

use std::path::Path;

use llmquota::Call;
use llmquota::error::Code;
use proptest::prelude::*;

use crate::scene::{ask, assert_says, open, record, refusal, used};

/// Words of the header: those that a test changes by name.
const HEAD_WORDS: usize = 128;

fn made(directory: &Path) {
    let manager = open(directory);
    record(&manager, "acme", 5);
    let _open = crate::scene::granted(&manager, "acme", 7);
    manager.flush().unwrap();
}

#[test]
fn a_foreign_file_is_left_as_it_is_and_named() {
    for (name, code, told) in [
        ("region", Code::StoreDamaged, "is no store of llmquota"),
        ("history.db", Code::StoreDamaged, "no SQLite database"),
        ("limits.json", Code::StoreDamaged, "not as llmquota wrote it"),
    ] {
        for content in ["someone else's notes\n", &"x".repeat(10_000)] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join(name);
            std::fs::write(&path, content).unwrap();
            assert_says(&refusal(place.path()), code, &[told, path.to_str().unwrap()]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "{name}");
            std::fs::remove_file(&path).unwrap();
            record(&open(place.path()), "acme", 5);
        }
    }
}

#[test]
fn a_directory_a_link_or_a_pipe_in_the_place_of_a_file_is_named() {
    for name in ["region", "history.db", "limits.json", "lock"] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let error = refusal(place.path());
        assert!(error.message().contains(path.to_str().unwrap()), "{name}: {error}");
        assert!(path.is_dir());
        std::fs::remove_dir(&path).unwrap();
        let pipe = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a path that ends in a zero.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let error = refusal(place.path());
        assert!(error.message().contains(path.to_str().unwrap()), "{name}: {error}");
        std::fs::remove_file(&path).unwrap();
        record(&open(place.path()), "acme", 5);
    }
    for name in ["region", "lock"] {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = place.path().join("elsewhere");
        std::fs::write(&elsewhere, "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.path().join(name)).unwrap();
        let error = refusal(place.path());
        assert!(error.message().contains(name), "{name}: {error}");
        assert_eq!(std::fs::metadata(&elsewhere).unwrap().len(), 0);
    }
}

#[test]
fn a_lock_file_of_any_content_serves_for_only_its_bytes_are_locked() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("lock"), "notes").unwrap();
    record(&open(place.path()), "acme", 5);
    assert_eq!(std::fs::read_to_string(place.path().join("lock")).unwrap(), "notes");
}

#[test]
fn an_empty_region_file_has_nothing_to_lose_and_a_file_of_zeros_may_have() {
    let place = tempfile::tempdir().unwrap();
    let region = place.path().join("region");
    std::fs::write(&region, "").unwrap();
    record(&open(place.path()), "acme", 5);
    let zeros = tempfile::tempdir().unwrap();
    let region = zeros.path().join("region");
    std::fs::write(&region, [0; 10_000]).unwrap();
    assert_says(&refusal(zeros.path()), Code::StoreDamaged, &["region", "is no store of llmquota", "left as it is"]);
    assert_eq!(std::fs::read(&region).unwrap(), [0; 10_000]);
}

/// Works on the store in every way, whatever comes of it: no panic, no end that does not come.
fn use_all(directory: &Path) {
    let Ok(manager) = crate::scene::Door::default().open(directory) else { return };
    for name in ["acme", "other", &"long".repeat(40)] {
        let call = Call::new(name).goal("g").task("t").model("gpt-4o").user("u").credential("openai/ab12");
        let _landed = manager.record(&call, &used(3));
        if let Ok(llmquota::Verdict::Granted(mut hold)) = ask(&manager, name, 5) {
            let _started = hold.start();
            let _settled = hold.settle(&used(2), None);
        }
        let _seen = manager.snapshot(name);
        let _room = manager.can_make_request(name);
        let _listed = manager.attribution(name, llmquota::Scope::Task, 10);
        let _reset = manager.reset(name);
    }
    let _report = manager.report();
    // Lets the keeper look at it.
    std::thread::sleep(std::time::Duration::from_millis(30));
}

/// Changes words of a store's file, of which nobody has it open.
fn corrupt(directory: &Path, changes: &[(usize, u64)]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(directory.join("region")).unwrap();
    for (word, value) in changes {
        file.write_all_at(&value.to_le_bytes(), *word as u64 * 8).unwrap();
    }
}

fn a_word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), 0_u64..4_096, any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The magic number is right, and other words of the header are anything.
    #[test]
    fn a_header_of_any_content_is_survived(changes in prop::collection::vec((1..HEAD_WORDS, a_word()), 1..6)) {
        let place = tempfile::tempdir().unwrap();
        made(place.path());
        corrupt(place.path(), &changes);
        use_all(place.path());
    }

    /// The header is right, and words of the tables are anything.
    #[test]
    fn tables_of_any_content_are_survived(
        changes in prop::collection::vec((HEAD_WORDS..crate::scene::SMALL / 8, a_word()), 200..2_000)
    ) {
        let place = tempfile::tempdir().unwrap();
        made(place.path());
        corrupt(place.path(), &changes);
        use_all(place.path());
    }
}

/// A list of free lines that leads past the end, in an arena that seems to have no bytes left.
#[test]
fn free_lines_past_the_end_are_survived() {
    const LINES_FREE: usize = 18;
    const LINES_BACKED: usize = 44;
    for class in 1..4 {
        let place = tempfile::tempdir().unwrap();
        made(place.path());
        corrupt(place.path(), &[(LINES_BACKED, 0), (LINES_FREE + class, u64::from(u32::MAX))]);
        use_all(place.path());
    }
}

/// The words that are in use, each in turn: links that lead in circles, counts without end.
#[test]
fn any_word_in_use_may_be_anything() {
    let place = tempfile::tempdir().unwrap();
    made(place.path());
    let whole = std::fs::read(place.path().join("region")).unwrap();
    let used: Vec<usize> = whole
        .chunks_exact(8)
        .enumerate()
        .skip(HEAD_WORDS)
        .filter(|(_, word)| word.iter().any(|byte| *byte != 0))
        .map(|(word, _)| word)
        .collect();
    assert!(used.len() > 100, "{}", used.len());
    for (step, words) in used.chunks(used.len().div_ceil(40)).enumerate() {
        let value = [u64::MAX, 1 << 32 | 1, 2 << 32 | 2, 1 << 63][step % 4];
        corrupt(place.path(), &words.iter().map(|word| (*word, value)).collect::<Vec<_>>());
        use_all(place.path());
    }
}
