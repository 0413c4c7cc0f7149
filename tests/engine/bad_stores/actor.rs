//! Another process: this very program, started once more, which does what it is told line by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};

use llmquota::error::{Error, Result};
use llmquota::reservation::Hold;
use llmquota::{Call, Manager, ManualClock, Verdict};

use crate::scene::{self, Door, PATIENCE, used};

const ACTOR: &str = "LLMQUOTA_TEST_ACTOR";
/// What an answer begins with, among whatever else the test harness prints.
const ANSWER: &str = "answer: ";

/// A process that is killed when dropped.
pub(crate) struct Actor {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Actor {
    pub(crate) fn new() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "actor::acts_as_another_process", "--nocapture", "--test-threads=1"])
            .env(ACTOR, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                if let Some((_, answer)) = line.split_once(ANSWER)
                    && tell.send(answer.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, input, answers }
    }

    /// One that has the store open.
    pub(crate) fn on(directory: &Path) -> Self {
        let mut actor = Self::new();
        assert_eq!(actor.ask(&format!("open {}", directory.display())), "ok");
        actor
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: a process that this one has started and not waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Stops it, and waits until no thread of it runs.
    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
        scene::until("the process is stopped", || {
            std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
            })
        });
    }

    pub(crate) fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Stops it at an instant at which it has the lock of this store.
    pub(crate) fn stop_with_the_lock(&self, store: &Manager) {
        scene::until("the process is stopped with the lock", || {
            self.stop();
            if store.is_free() {
                self.go_on();
                return false;
            }
            true
        });
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// What an actor has.
#[derive(Default)]
struct Stage {
    manager: Option<Manager>,
    crowd: Vec<Manager>,
    holds: BTreeMap<String, Hold>,
    door: Door,
    clock: Option<ManualClock>,
    hammers: Vec<std::thread::JoinHandle<()>>,
    rest: Arc<AtomicBool>,
    recorded: Arc<AtomicU64>,
}

/// The process that an actor is; among the tests it has nothing to do.
#[test]
fn acts_as_another_process() {
    if std::env::var_os(ACTOR).is_none() {
        return;
    }
    let mut stage = Stage::default();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer =
            stage.act(&words).unwrap_or_else(|error| format!("{}: {}", error.code().as_str(), error.message()));
        println!("\n{ANSWER}{}", answer.replace('\n', " "));
    }
}

impl Stage {
    fn manager(&self) -> &Manager {
        self.manager.as_ref().unwrap()
    }

    fn act(&mut self, words: &[&str]) -> Result<String> {
        let number = |word: &str| word.parse::<u64>().unwrap();
        match *words {
            ["size", bytes] => self.door.bytes = bytes.parse().unwrap(),
            ["clock", wall] => {
                let clock = ManualClock::at(wall.parse().unwrap());
                self.door.clock = Arc::new(clock.clone());
                self.clock = Some(clock);
            }
            ["wall", wall] => self.clock.as_ref().unwrap().set_wall(wall.parse().unwrap()),
            ["limits", path] => self.door.limits = std::fs::read_to_string(path).unwrap(),
            ["open", path] => self.manager = Some(self.door.open(&PathBuf::from(path))?),
            ["crowd", count, path] => {
                for _ in 0..number(count) {
                    self.crowd.push(self.door.open(&PathBuf::from(path))?);
                }
            }
            ["close"] => self.manager = None,
            ["record", workspace, tokens] => {
                self.manager().record(&Call::new(workspace), &used(number(tokens)))?;
            }
            ["reserve", name, workspace, tokens] => {
                match scene::ask(self.manager(), workspace, number(tokens))? {
                    Verdict::Granted(hold) => {
                        self.holds.insert(name.to_owned(), hold);
                    }
                    Verdict::Refused(decision) => return Ok(format!("refused {:?}", decision.reason)),
                };
            }
            ["start", name] => {
                self.holds[name].start()?;
            }
            ["settle", name, tokens] => {
                self.holds.get_mut(name).unwrap().settle(&used(number(tokens)), None)?;
            }
            ["total", workspace] => {
                return self.manager().snapshot(workspace).map(|snapshot| snapshot.usage.total.tokens.to_string());
            }
            ["day", workspace] => {
                return self.manager().snapshot(workspace).map(|snapshot| snapshot.usage.day.tokens.to_string());
            }
            ["verify"] => return self.manager().verify(false).map(|findings| format!("{findings:?}")),
            ["hammer", workspace] => self.hammer(workspace),
            ["rest"] => return Ok(self.rest().to_string()),
            ["warnings"] => return Ok(scene::warnings(self.manager())),
            ["flush"] => self.manager().flush()?,
            ["fork-and-record", workspace] => return Ok(self.fork_and_record(workspace)),
            ["fork-and-open", threads, path] => return Ok(self.fork_and_open(number(threads) as usize, path)),
            ref other => panic!("unknown: {other:?}"),
        }
        Ok("ok".to_owned())
    }

    /// Records one token after the other from now on.
    fn hammer(&mut self, workspace: &str) {
        let (manager, workspace) = (self.manager().clone(), workspace.to_owned());
        let (rest, recorded) = (Arc::clone(&self.rest), Arc::clone(&self.recorded));
        self.hammers.push(std::thread::spawn(move || {
            while !rest.load(Ordering::Relaxed) {
                if manager.record(&Call::new(&workspace), &used(1)).is_ok() {
                    recorded.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }

    /// How many tokens were recorded by hammering.
    fn rest(&mut self) -> u64 {
        self.rest.store(true, Ordering::Relaxed);
        self.hammers.drain(..).for_each(|thread| thread.join().unwrap());
        self.rest.store(false, Ordering::Relaxed);
        self.recorded.swap(0, Ordering::Relaxed)
    }

    /// What a forked child of this process is answered when it records a token.
    fn fork_and_record(&self, workspace: &str) -> String {
        let (mut hears, mut tells) = std::io::pipe().unwrap();
        // SAFETY: the child records, which works in a forked child of Linux, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let told = match self.manager().record(&Call::new(workspace), &used(1)) {
                Ok(_) => "ok".to_owned(),
                Err(error) => format!("{}: {}", error.code().as_str(), error.message()),
            };
            let _told = tells.write_all(told.as_bytes());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        drop(tells);
        let mut told = String::new();
        std::io::Read::read_to_string(&mut hears, &mut told).unwrap();
        // SAFETY: a child of this process that nobody else waits for.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        told
    }

    /// Opens the store in several threads while this process forks, and records one token in each, and one in the child.
    fn fork_and_open(&mut self, threads: usize, path: &str) -> String {
        // A process looks after its forks from its first store on.
        let _first = Manager::new(llmquota::Options { bytes: 1 << 20, ..Default::default() });
        let barrier = Barrier::new(threads + 1);
        let one = |path: &str| -> Result<(), Error> {
            let manager = self.door.open(&PathBuf::from(path))?;
            manager.record(&Call::new("acme"), &used(1))?;
            manager.flush()
        };
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        one(path)
                    })
                })
                .collect();
            barrier.wait();
            // SAFETY: the child opens the store, which works in a forked child of Linux, and leaves by `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let code = i32::from(one(path).is_err());
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(code) }
            }
            let mut status = -1;
            // SAFETY: a child of this process that nobody else waits for.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            let opened: Vec<_> = opened.into_iter().map(|thread| thread.join().unwrap()).collect();
            format!("{status} {opened:?}")
        })
    }
}
