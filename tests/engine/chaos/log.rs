//! What a worker was told: a line of its own file for each answer, written with one system call before the next question, so
//! that it is there whatever becomes of the worker.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::stage::Stage;

/// What was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A record of so many tokens landed.
    Recorded { tokens: u64 },
    /// A hold was given.
    Granted { hold: u64 },
    /// It is marked as started.
    Started { hold: u64 },
    /// It ended with so many tokens used.
    Settled { hold: u64, tokens: u64 },
    /// It ended with nothing used.
    Released { hold: u64 },
    /// It was let go of without a word.
    Dropped { hold: u64 },
}

impl Told {
    /// The hold that it is about.
    pub(crate) fn hold(&self) -> Option<u64> {
        match self {
            Told::Recorded { .. } => None,
            Told::Granted { hold }
            | Told::Started { hold }
            | Told::Settled { hold, .. }
            | Told::Released { hold }
            | Told::Dropped { hold } => Some(*hold),
        }
    }
}

/// An operation that took long, with the monotonic times of its begin and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) what: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// A worker's log, as the worker has it.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    name: String,
    /// Operations acknowledged so far.
    acknowledged: u64,
}

impl Log {
    pub(crate) fn begin(stage: &Stage, name: &str) -> Self {
        let path = stage.logs().join(format!("{name}@{}", std::process::id()));
        let file = File::options().create_new(true).append(true).open(path).unwrap();
        Self { file, name: name.to_owned(), acknowledged: 0 }
    }

    /// How the operation that comes next is named in history.
    pub(crate) fn next_id(&self) -> String {
        request_id(&self.name, self.acknowledged + 1)
    }

    pub(crate) fn tell(&mut self, told: Told) {
        self.acknowledged += 1;
        let line = match told {
            Told::Recorded { tokens } => format!("recorded {tokens}\n"),
            Told::Granted { hold } => format!("granted {hold}\n"),
            Told::Started { hold } => format!("started {hold}\n"),
            Told::Settled { hold, tokens } => format!("settled {hold} {tokens}\n"),
            Told::Released { hold } => format!("released {hold}\n"),
            Told::Dropped { hold } => format!("dropped {hold}\n"),
        };
        self.line(&line);
    }

    pub(crate) fn slow(&mut self, what: &str, from: i64, to: i64) {
        self.line(&format!("slow {what} {from} {to}\n"));
    }

    /// The store could not take something within its bounds, and said so.
    pub(crate) fn busy(&mut self, what: &str) {
        self.line(&format!("busy {what}\n"));
    }

    pub(crate) fn end(&mut self) {
        self.line("end\n");
    }

    fn line(&mut self, line: &str) {
        // One write of a few bytes to a file on a disk is whole or not there.
        self.file.write_all(line.as_bytes()).unwrap();
    }
}

/// The name of an operation.
pub(crate) fn request_id(name: &str, number: u64) -> String {
    format!("{name}/{number}")
}

/// A worker's log, as it was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// By number, from 1 on.
    pub(crate) told: Vec<Told>,
    pub(crate) slow: Vec<Slow>,
    pub(crate) busy: u64,
    /// It came to its end by itself.
    pub(crate) ended: bool,
}

/// The name and the process of a log.
pub(crate) fn whose(path: &Path) -> (String, u32) {
    let name = path.file_name().unwrap().to_string_lossy();
    let (name, pid) = name.split_once('@').unwrap();
    (name.to_owned(), pid.parse().unwrap())
}

/// The paths of all logs.
pub(crate) fn paths(stage: &Stage) -> Vec<PathBuf> {
    std::fs::read_dir(stage.logs()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Every log.
pub(crate) fn read_all(stage: &Stage) -> Vec<Found> {
    paths(stage).iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Found {
    let (name, pid) = whose(path);
    let mut found = Found { name, pid, ..Found::default() };
    let text = std::fs::read_to_string(path).unwrap();
    for line in text.lines() {
        let mut words = line.split(' ');
        let verb = words.next().unwrap();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap();
        match verb {
            "recorded" => found.told.push(Told::Recorded { tokens: number() }),
            "granted" => found.told.push(Told::Granted { hold: number() }),
            "started" => found.told.push(Told::Started { hold: number() }),
            "settled" => found.told.push(Told::Settled { hold: number(), tokens: number() }),
            "released" => found.told.push(Told::Released { hold: number() }),
            "dropped" => found.told.push(Told::Dropped { hold: number() }),
            "slow" => {
                let what = words.next().unwrap().to_owned();
                let mut time = || words.next().and_then(|word| word.parse().ok()).unwrap();
                found.slow.push(Slow { what, from: time(), to: time() });
            }
            "busy" => found.busy += 1,
            "end" => found.ended = true,
            other => panic!("{other} in the log of {}", found.name),
        }
    }
    found
}
