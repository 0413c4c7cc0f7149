//! The words in which these tests speak, and the way into a mount of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmquota::account::AccountId;
use llmquota::config::{Config, LimitsFile};
use llmquota::error::{Code, Error, Result};
use llmquota::reservation::Hold;
use llmquota::store::history::Query;
use llmquota::store::shared::SharedOptions;
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::{Ask, Call, Clock, Manager, Options, Report, Scope, SystemClock, Verdict};

/// The smallest stores that these tests need are made fast.
pub(crate) const SMALL: usize = 4 << 20;
/// How long anything may take that is only waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How a store is opened; what is not set is as it is on most days.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) bytes: usize,
    pub(crate) boot: Option<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: String,
}

impl Default for Door {
    fn default() -> Self {
        Self { bytes: SMALL, boot: None, clock: Arc::new(SystemClock), limits: String::new() }
    }
}

impl Door {
    pub(crate) fn open(&self, directory: &Path) -> Result<Manager> {
        let config = match self.limits.as_str() {
            "" => Config::unlimited(),
            limits => Config::unlimited().with_file(LimitsFile::parse(limits, "limits.toml")?),
        };
        let shared = Some(SharedOptions { boot: self.boot, ..SharedOptions::at(directory) });
        Manager::new(Options { bytes: self.bytes, clock: Arc::clone(&self.clock), config, shared })
    }
}

pub(crate) fn open(directory: &Path) -> Manager {
    Door::default().open(directory).unwrap()
}

/// The same after it was closed a moment ago: its keeper may still be at it.
pub(crate) fn reopen(directory: &Path) -> Manager {
    let mut opened = None;
    until("it can be opened again", || {
        opened = Door::default().open(directory).ok();
        opened.is_some()
    });
    opened.unwrap()
}

/// Closes it, and waits until all that history has lies in its one file.
pub(crate) fn close(manager: Manager, directory: &Path) {
    drop(manager);
    until("the log of history is gone", || !directory.join("history.db-wal").exists());
}

/// Why a store is not opened.
pub(crate) fn refusal(directory: &Path) -> Error {
    Door::default().open(directory).err().unwrap()
}

pub(crate) fn used(tokens: u64) -> Report<'static> {
    Report { cost: Some(NanoUsd::from_nanos(3)), ..Report::success(TokenUsage::unsplit(tokens)) }
}

pub(crate) fn record(manager: &Manager, workspace: &str, tokens: u64) {
    manager.record(&Call::new(workspace), &used(tokens)).unwrap();
}

pub(crate) fn ask(manager: &Manager, workspace: &str, tokens: u64) -> Result<Verdict> {
    let ask = Ask { requests: 1, tokens, cost: Some(NanoUsd::from_nanos(3)) };
    manager.reserve(&Call::new(workspace), &ask, Duration::from_secs(600))
}

pub(crate) fn granted(manager: &Manager, workspace: &str, tokens: u64) -> Hold {
    match ask(manager, workspace, tokens).unwrap() {
        Verdict::Granted(hold) => hold,
        Verdict::Refused(decision) => panic!("refused: {decision:?}"),
    }
}

pub(crate) fn total(manager: &Manager, workspace: &str) -> u64 {
    manager.snapshot(workspace).unwrap().usage.total.tokens
}

/// What the rows of a workspace add up to.
pub(crate) fn in_history(manager: &Manager, workspace: &str) -> i64 {
    let query = Query { workspace: Some(workspace.to_owned()), ..Query::default() };
    manager.history_sums(&query).unwrap().tokens
}

pub(crate) fn workspace(name: &str) -> AccountId<'_> {
    AccountId { scope: Scope::Workspace, owner: "", name }
}

/// History and the region agree.
#[track_caller]
pub(crate) fn assert_clean(manager: &Manager) {
    let findings = manager.verify(false).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[track_caller]
pub(crate) fn assert_says(error: &Error, code: Code, words: &[&str]) {
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.message().contains(word), "no '{word}' in: {error}");
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every warning of a store's report, as one text.
pub(crate) fn warnings(manager: &Manager) -> String {
    manager.report().unwrap().warnings.join("\n")
}

const MOUNTED: &str = "LLMQUOTA_TEST_MOUNTED";

/// Runs the test of this name once more, inside a mount that nobody else sees: `script` is what the shell does first, with `$AT`
/// as the place. Inside, the place; outside, `None`, after the test has passed there.
///
/// Needs mount namespaces, as root or as a user who may have a namespace; where the machine gives neither, the test says so.
pub(crate) fn inside(test: &str, script: &str) -> Option<PathBuf> {
    if let Some(place) = std::env::var_os(MOUNTED) {
        return Some(PathBuf::from(place));
    }
    let able = Command::new("unshare").args(["-r", "-m", "true"]).output().is_ok_and(|output| output.status.success());
    if !able {
        eprintln!("{test}: not run, for this machine gives no mount namespace");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let script = format!("set -e; AT=\"${MOUNTED}\"; {script}; exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["-r", "-m", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MOUNTED, place.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    None
}
