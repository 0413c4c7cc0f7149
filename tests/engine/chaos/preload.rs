//! A service that opens its store and forks its workers then, in the middle of its own records: what the children inherit of an
//! open SQLite must neither lock them out nor let them write where nobody reads.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llmquota::reservation::Report;
use llmquota::usage::TokenUsage;
use llmquota::{Call, Manager};

use crate::random::Random;
use crate::stage::{Stage, mono};

fn record(manager: &Manager) {
    manager.record(&Call::new("free").goal("g"), &Report::success(TokenUsage::unsplit(1))).unwrap();
}

/// Works, forks a child in the middle of that, and dies; the child goes on alone and writes down what came of it.
pub(crate) fn parent(stage: &Stage, dies: bool) {
    let manager = stage.open(false).unwrap();
    let mut random = Random::new(mono().unsigned_abs());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                (0..50).for_each(|_| record(&manager));
                // Keeps the keeper at its transactions.
                let _asked = manager.flush();
            }
        });
        std::thread::sleep(Duration::from_micros(30_000 + random.below(60_000)));
        // SAFETY: the child goes on with plain Rust and the C library's memory, and leaves by `_exit`.
        if unsafe { libc::fork() } == 0 {
            let went = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| child(&manager)));
            let words = went.unwrap_or_else(|_| "panicked".to_owned());
            std::fs::write(stage.root().join("child.new"), words).unwrap();
            std::fs::rename(stage.root().join("child.new"), stage.root().join("child")).unwrap();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        stop.store(true, Ordering::Relaxed);
    });
    if dies {
        // SAFETY: the end of this very process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// What is wrong; empty where all is well.
fn child(manager: &Manager) -> String {
    // SAFETY: asks for a number.
    let parent = unsafe { libc::getppid() };
    // SAFETY: as above.
    while unsafe { libc::getppid() } == parent {
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = manager.snapshot("free").unwrap().usage.total.tokens;
    for _ in 0..200 {
        record(manager);
    }
    if let Err(error) = manager.flush() {
        return format!("flush: {error:?} {:?}", manager.report());
    }
    let after = manager.snapshot("free").unwrap().usage.total.tokens;
    match manager.verify(false) {
        Ok(findings) if findings.is_empty() && after == before + 200 => String::new(),
        other => format!("{before} {after} {other:?}"),
    }
}

/// What the child wrote down, once it has.
pub(crate) fn child_of(root: &Path) -> Option<String> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(40) {
        if let Ok(words) = std::fs::read_to_string(root.join("child")) {
            return Some(words);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}
