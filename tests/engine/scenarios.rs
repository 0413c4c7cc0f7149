//! The behaviour that `tests/scenarios/*.yaml` describes, through the Rust API. `tests/python/test_scenarios.py` plays the
//! same files through the Python package.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod scenario;

use std::path::{Path, PathBuf};

use scenario::document::Scenario;
use scenario::stage;

/// The scenarios of a folder below `tests/scenarios`, by name.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    files.sort();
    files
}

fn play(text: &str) -> Result<(), String> {
    stage::play(&Scenario::read(text)?)
}

#[test]
fn every_scenario_goes_as_it_is_written() {
    let files = files("");
    assert!(files.len() >= 25, "{files:?}");
    let failed: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            let error = play(&text).err()?;
            Some(format!("{}: {error}", file.file_name().unwrap().to_string_lossy()))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), files.len(), failed.join("\n"));
}

/// A scenario in `wrong/` has one mistake, and its first line says what the failure names: `# fails: WORDS`.
#[test]
fn a_scenario_with_a_mistake_fails_and_the_failure_names_it() {
    let files = files("wrong");
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let named = text.lines().next().and_then(|line| line.strip_prefix("# fails: ")).unwrap();
        let error = play(&text).expect_err(&file.to_string_lossy());
        assert!(error.contains(named), "{}: '{named}' is not in: {error}", file.display());
    }
}
