//! The killer: starts workers, ends them with SIGKILL at any instant and in the middle of a batch, stops them and lets them go
//! on, and starts others in their place.

use std::collections::{BTreeMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llmquota::store::region::inspect::Inspector;

use crate::log;
use crate::random::Random;
use crate::stage::{Stage, mono};

/// Names the stage to a worker, and the worker itself.
pub(crate) const STAGE: &str = "LLMQUOTA_CHAOS_STAGE";
pub(crate) const NAME: &str = "LLMQUOTA_CHAOS_NAME";
/// How long the last of them may take to come to an end.
const END: Duration = Duration::from_secs(30);
/// How long a hold of a dead process may stay open.
const ORPHANS: Duration = Duration::from_secs(1);

/// A time in which a process was stopped (monotonic nanoseconds).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) pid: u32,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) kills: u64,
    /// Of those, with the lock in hand,
    pub(crate) inside: u64,
    /// with accounts changed by a batch that was not decided,
    pub(crate) begun: u64,
    /// and with a batch decided and not done.
    pub(crate) decided: u64,
    /// Killed while starting.
    pub(crate) starting: u64,
    /// Killed while a forked child of theirs went on.
    pub(crate) parents: u64,
    /// Stops of 100 ms to 1 s, and those with the lock in hand.
    pub(crate) stops: u64,
    pub(crate) stops_inside: u64,
    /// Stops in which others put something aside, and how many words.
    pub(crate) put_aside: (u64, u64),
    pub(crate) workers: u64,
    /// The longest that a hold of a dead process stayed open, beside a process that could see it.
    pub(crate) orphans_open: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.inside += other.inside;
        self.begun += other.begun;
        self.decided += other.decided;
        self.starting += other.starting;
        self.parents += other.parents;
        self.stops += other.stops;
        self.stops_inside += other.stops_inside;
        self.put_aside.0 += other.put_aside.0;
        self.put_aside.1 += other.put_aside.1;
        self.workers += other.workers;
        self.orphans_open = self.orphans_open.max(other.orphans_open);
    }
}

/// What a round is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Workers at once.
    pub(crate) workers: usize,
    /// Kills at least.
    pub(crate) kills: u64,
    /// How long it goes on at least.
    pub(crate) lasts: Duration,
    /// At its end everybody is killed.
    pub(crate) all_die: bool,
}

pub(crate) struct Killer<'s> {
    stage: &'s Stage,
    random: Random,
    children: BTreeMap<u32, Child>,
    next_name: u64,
    pub(crate) killed: HashSet<u32>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) tally: Tally,
    pub(crate) faults: Vec<String>,
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: a signal to a process that this test has started, directly or by a fork of one that it has.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// The state that the system tells of a task; `None` where it is gone.
fn state_in(path: &std::path::Path) -> Option<char> {
    let text = std::fs::read_to_string(path).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

fn is_gone(pid: u32) -> bool {
    // SAFETY: takes what is left of a forked child that has come to this process; where it is none of ours nothing happens.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::WNOHANG) };
    matches!(state_in(format!("/proc/{pid}/stat").as_ref()), None | Some('Z' | 'X'))
}

/// Stops a process; false where it died.
fn stop(pid: u32) -> bool {
    signal(pid, libc::SIGSTOP);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
        let states: Vec<_> = tasks.flatten().map(|task| state_in(&task.path().join("stat"))).collect();
        if states.iter().any(|state| matches!(state, Some('Z' | 'X'))) {
            return false;
        }
        if states.iter().all(|state| matches!(state, Some('T') | None)) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Starts a process of this test.
pub(crate) fn command(stage: &Stage, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "worker", "--ignored", "--nocapture", "--quiet"]);
    command.env(STAGE, stage.root()).env(NAME, name).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl<'s> Killer<'s> {
    pub(crate) fn new(stage: &'s Stage, seed: u64) -> Self {
        // SAFETY: from now on forked children whose parents die come to this process.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        Self {
            stage,
            random: Random::new(seed),
            children: BTreeMap::new(),
            next_name: 1,
            killed: HashSet::new(),
            stops: Vec::new(),
            tally: Tally::default(),
            faults: Vec::new(),
        }
    }

    /// A round: as many kills as are asked for, in as much time, and then all come to an end.
    pub(crate) fn round(&mut self, plan: &Plan) {
        let _old = std::fs::remove_file(self.stage.curtain());
        let before = self.tally.kills;
        let began = Instant::now();
        self.fill_up(plan.workers);
        let inspector = self.wait_for_store();
        while self.tally.kills - before < plan.kills || began.elapsed() < plan.lasts {
            self.act(&inspector);
            self.fill_up(plan.workers);
            self.pause(10, 120);
        }
        self.end(plan.all_die);
    }

    /// Starts so many workers, and waits until each of them works.
    pub(crate) fn begin(&mut self, workers: usize) {
        self.fill_up(workers);
        while self.living().len() < workers {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets everybody work for some time, and then stops them all.
    pub(crate) fn hold_still(&mut self, after: Duration) {
        std::thread::sleep(after);
        for (name, pid) in self.living() {
            if !stop(pid) {
                self.faults.push(format!("{name} could not be stopped"));
            }
        }
    }

    /// Lets everybody go on.
    pub(crate) fn go_on(&mut self) {
        self.living().into_iter().for_each(|(_, pid)| signal(pid, libc::SIGCONT));
    }

    /// While each of some workers is stopped in turn, one of whom keeps history, another one dies: its holds end all the same.
    pub(crate) fn kill_beside_the_stopped(&mut self) {
        self.fill_up(3);
        let inspector = self.wait_for_store();
        self.pause(300, 301);
        for (_, stopped) in self.living() {
            let victim = self.start();
            self.pause(200, 201);
            // Not with the lock in hand, for then nobody could do anything.
            while stop(stopped) && inspector.holder().is_some_and(|(_, holder)| holder == stopped) {
                signal(stopped, libc::SIGCONT);
                self.pause(0, 3);
            }
            let from = mono();
            self.kill(&inspector, victim);
            signal(stopped, libc::SIGCONT);
            self.stops.push(Stop { pid: stopped, from, to: mono() });
        }
        self.end(false);
    }

    /// Somebody is stopped with the lock in hand until nobody waits for it any more, and then dies.
    pub(crate) fn kill_whom_all_gave_up(&mut self) {
        self.fill_up(3);
        let inspector = self.wait_for_store();
        self.pause(300, 301);
        while self.tally.inside < 3 {
            if let Some(pid) = self.hunt(&inspector) {
                self.tally.inside += 1;
                self.pause(900, 901);
                self.kill(&inspector, pid);
            }
            self.fill_up(3);
        }
        self.end(false);
    }

    fn wait_for_store(&self) -> Inspector {
        loop {
            if let Some(inspector) = self.stage.inspector() {
                return inspector;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills a stopped process that has the lock.
    fn kill_inside(&mut self, inspector: &Inspector, pid: u32) {
        let batch = inspector.batch();
        self.tally.inside += 1;
        self.tally.begun += u64::from(batch.begun != 0);
        self.tally.decided += u64::from(batch.decided != 0);
        self.kill(inspector, pid);
    }

    fn act(&mut self, inspector: &Inspector) {
        match self.random.below(100) {
            0..35 => {
                if let Some((_, pid)) = self.victim() {
                    self.kill(inspector, pid);
                }
            }
            35..65 => {
                if let Some(pid) = self.hunt(inspector) {
                    self.kill_inside(inspector, pid);
                }
            }
            65..80 => {
                if let Some(pid) = self.hunt(inspector) {
                    self.tally.stops_inside += 1;
                    let dies = self.random.once_in(3);
                    self.stay_stopped(inspector, pid);
                    if dies {
                        self.kill_inside(inspector, pid);
                    } else {
                        signal(pid, libc::SIGCONT);
                    }
                }
            }
            80..90 => {
                if let Some((_, pid)) = self.victim().filter(|(_, pid)| stop(*pid)) {
                    self.stay_stopped(inspector, pid);
                    signal(pid, libc::SIGCONT);
                }
            }
            _ => {
                let pid = self.start();
                self.pause(0, 25);
                self.tally.starting += 1;
                self.kill(inspector, pid);
            }
        }
    }

    fn pause(&mut self, least: u64, most: u64) {
        let micros = 1_000 * least + self.random.below(1_000 * (most - least));
        std::thread::sleep(Duration::from_micros(micros));
    }

    /// Every worker and forked child that lives, by name.
    fn living(&mut self) -> Vec<(String, u32)> {
        let mut living: Vec<(String, u32)> =
            log::paths(self.stage).iter().map(|path| log::whose(path)).filter(|(_, pid)| !is_gone(*pid)).collect();
        living.sort();
        living
    }

    fn victim(&mut self) -> Option<(String, u32)> {
        let living = self.living();
        let has_child = |name: &String| living.iter().any(|(other, _)| other.starts_with(&format!("{name}.")));
        let parents: Vec<_> = living.iter().filter(|(name, _)| has_child(name)).collect();
        // Parents whose children live are few, and come first now and then.
        if !parents.is_empty() && self.random.once_in(3) {
            return Some((*self.random.one_of(&parents)).clone());
        }
        if living.is_empty() { None } else { Some(self.random.one_of(&living).clone()) }
    }

    /// Stops one after the other until one is stopped with the lock in hand.
    fn hunt(&mut self, inspector: &Inspector) -> Option<u32> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let (_, pid) = self.victim()?;
            let from = mono();
            if stop(pid) {
                if inspector.holder().is_some_and(|(_, holder)| holder == pid) {
                    return Some(pid);
                }
                signal(pid, libc::SIGCONT);
                self.stops.push(Stop { pid, from, to: mono() });
            }
            std::thread::sleep(Duration::from_micros(self.random.below(800)));
        }
        None
    }

    fn stay_stopped(&mut self, inspector: &Inspector, pid: u32) {
        let aside = inspector.audit().aside.0;
        let from = mono();
        self.pause(100, 1_000);
        self.stops.push(Stop { pid, from, to: mono() });
        let words = inspector.audit().aside.0 - aside;
        self.tally.stops += 1;
        self.tally.put_aside.0 += u64::from(words > 0);
        self.tally.put_aside.1 += words;
    }

    fn kill(&mut self, inspector: &Inspector, pid: u32) {
        let owner = inspector.owners().into_iter().find(|owner| owner.pid == pid);
        let living = self.living();
        if let Some((name, _)) = living.iter().find(|(_, other)| *other == pid) {
            let child = format!("{name}.");
            self.tally.parents += u64::from(living.iter().any(|(other, _)| other.starts_with(&child)));
        }
        signal(pid, libc::SIGKILL);
        while !is_gone(pid) {
            std::thread::yield_now();
        }
        if let Some(mut child) = self.children.remove(&pid) {
            // It is gone; what it came to is known.
            let _status = child.wait();
        }
        self.killed.insert(pid);
        self.tally.kills += 1;
        let witnesses = living.iter().any(|(_, other)| *other != pid);
        if let Some(owner) = owner.filter(|_| witnesses) {
            self.wait_for_orphans(inspector, owner.owner);
        }
    }

    /// The holds of a dead process come to an end while others go on.
    fn wait_for_orphans(&mut self, inspector: &Inspector, owner: u64) {
        let began = Instant::now();
        let mut others = String::new();
        while inspector.open_holds_of(owner) > 0 && began.elapsed() < ORPHANS * 5 {
            if others.is_empty() && began.elapsed() > ORPHANS {
                others = self.what_they_wait_for(inspector);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let open = began.elapsed();
        if open > ORPHANS {
            self.faults.push(format!("holds of dead process {owner:#x} were open for {open:?}; others: {others}"));
        }
        self.tally.orphans_open = self.tally.orphans_open.max(open);
    }

    /// Takes leave of children that are gone; whoever was not killed came to a good end.
    fn reap(&mut self) {
        for child in self.children.values_mut() {
            if let Ok(Some(status)) = child.try_wait()
                && !status.success()
                && !self.killed.contains(&child.id())
            {
                self.faults.push(format!("worker {} ended with {status}", child.id()));
            }
        }
        self.children.retain(|pid, _| !is_gone(*pid));
    }

    /// For whoever has to find out: each thread of each process, its state and where in the system it waits.
    fn what_they_wait_for(&mut self, inspector: &Inspector) -> String {
        let mut words = format!("lock {:x?}, ", inspector.holder());
        for (name, pid) in self.living() {
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let read = |what: &str| std::fs::read_to_string(task.path().join(what)).unwrap_or_default();
                let (thread, wchan) = (read("comm"), read("wchan"));
                let state = state_in(&task.path().join("stat")).unwrap_or('-');
                words.push_str(&format!("{name}@{pid} {} {state} {wchan} {}; ", thread.trim(), read("syscall").trim()));
            }
        }
        words
    }

    fn fill_up(&mut self, workers: usize) {
        self.reap();
        // A worker that has only been started has no log yet.
        let living = self.living();
        let starting = self.children.keys().filter(|pid| living.iter().all(|(_, other)| other != *pid)).count();
        for _ in living.len() + starting..workers {
            self.start();
        }
    }

    fn start(&mut self) -> u32 {
        let name = format!("w{}", self.next_name);
        self.next_name += 1;
        self.tally.workers += 1;
        let worker = command(self.stage, &name).spawn().unwrap();
        let pid = worker.id();
        self.children.insert(pid, worker);
        pid
    }

    /// All come to an end, by themselves or not.
    pub(crate) fn end(&mut self, all_die: bool) {
        let mut pids: HashSet<u32> = self.living().into_iter().map(|(_, pid)| pid).collect();
        pids.extend(self.children.keys());
        if all_die {
            self.tally.kills += pids.len() as u64;
            self.killed.extend(&pids);
            pids.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
        }
        std::fs::write(self.stage.curtain(), "").unwrap();
        let began = Instant::now();
        loop {
            self.reap();
            let left = self.living();
            if left.is_empty() && self.children.is_empty() {
                return;
            }
            if began.elapsed() > END {
                self.faults.push(format!("{left:?} came to no end"));
                for (_, pid) in left {
                    signal(pid, libc::SIGKILL);
                    self.killed.insert(pid);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Killer<'_> {
    fn drop(&mut self) {
        for pid in
            self.living().into_iter().map(|(_, pid)| pid).chain(self.children.keys().copied().collect::<Vec<_>>())
        {
            signal(pid, libc::SIGKILL);
        }
    }
}
