//! A worker: asks, starts, settles, lets go and records on accounts that all workers share, writes down each answer, and forks
//! now and then in the middle of its calls.

use std::time::Duration;

use llmquota::reservation::{Details, Hold, Report, Verdict};
use llmquota::store::region::inspect::Inspector;
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::{Ask, Call, Code, Manager};

use crate::log::{Log, Told};
use crate::random::Random;
use crate::stage::{Stage, WORKSPACES, mono};

/// The most calls that a worker has open at once.
const OPEN: usize = 8;
/// An operation that took longer is written down.
const SLOW: i64 = 250_000_000;
/// Nano-dollars of a token.
const PRICE: u64 = 10_000;
const TTL: Duration = Duration::from_secs(600);

struct Worker {
    stage: Stage,
    name: String,
    manager: Manager,
    inspector: Inspector,
    log: Log,
    random: Random,
    holds: Vec<Hold>,
    children: u32,
    /// It is a forked child itself.
    forked: bool,
}

/// Works until the curtain falls.
pub(crate) fn run(stage: &Stage, name: &str) {
    // SAFETY: no handler is installed: dead children leave nothing behind.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    hire(stage, name).work();
}

/// Takes so many steps, alone and in this process.
pub(crate) fn rehearse(stage: &Stage, name: &str, steps: u64) {
    let mut worker = hire(stage, name);
    worker.forked = true;
    (0..steps).for_each(|_| worker.step());
    worker.finish();
}

fn hire(stage: &Stage, name: &str) -> Worker {
    let manager = open(stage);
    Worker {
        stage: stage.clone(),
        name: name.to_owned(),
        manager,
        inspector: stage.inspector().unwrap(),
        log: Log::begin(stage, name),
        random: Random::new(u64::from(std::process::id()) << 32 | mono().unsigned_abs() & 0xffff_ffff),
        holds: Vec::new(),
        children: 0,
        forked: false,
    }
}

/// Where the lock's holder is stopped nobody can open the store: whoever starts a service starts it again.
fn open(stage: &Stage) -> Manager {
    loop {
        match stage.open(false) {
            Err(error) if error.code() == Code::StoreBusy => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened.unwrap(),
        }
    }
}

fn tokens_of(tokens: u64) -> Option<NanoUsd> {
    Some(NanoUsd::from_nanos((tokens * PRICE).cast_signed()))
}

fn report<'a>(tokens: u64, details: &Details<'a>) -> Report<'a> {
    let usage = TokenUsage::unsplit(tokens);
    Report { cost: tokens_of(tokens), details: Some(*details), ..Report::success(usage) }
}

impl Worker {
    fn work(&mut self) {
        let mut steps = 0_u64;
        while !steps.is_multiple_of(32) || !self.stage.curtain().exists() {
            steps += 1;
            if steps.is_multiple_of(32) {
                self.let_history_follow();
            }
            self.step();
            if !self.stage.rest().is_zero() {
                std::thread::sleep(self.stage.rest());
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        while !self.holds.is_empty() {
            self.end_one();
        }
        self.log.end();
    }

    /// A journal that runs over still adds up, but no longer row by row.
    fn let_history_follow(&self) {
        for _ in 0..1_000 {
            let (waiting, bound) = self.inspector.journal_waiting();
            if waiting < bound / 4 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn step(&mut self) {
        match self.random.below(1_000) {
            0..300 => self.record(),
            300..650 if self.holds.len() < OPEN => self.reserve(),
            650..780 => self.start_one(),
            780..998 => self.end_one(),
            998 if !self.forked && self.children < 2 && self.random.once_in(8) => self.fork(),
            _ => {}
        }
    }

    /// Runs an operation, and writes down that it took long or was not to be had.
    fn timed<T>(&mut self, what: &str, run: impl FnOnce(&mut Self) -> llmquota::Result<T>) -> Option<T> {
        let from = mono();
        let done = run(self);
        let to = mono();
        if to - from > SLOW {
            self.log.slow(what, from, to);
        }
        match done {
            Ok(done) => Some(done),
            Err(error) if error.code() == Code::StoreBusy => {
                self.log.busy(what);
                std::thread::sleep(Duration::from_millis(2));
                None
            }
            Err(error) => panic!("{} {what}: {error:?}", self.name),
        }
    }

    fn record(&mut self) {
        let workspace = if self.random.once_in(8) { *self.random.one_of(&WORKSPACES) } else { "free" };
        let tokens = if workspace == "free" { self.random.below(100) } else { self.random.below(2) };
        let (id, [goal, task, user]) = (self.log.next_id(), self.names());
        let details = Details { request_id: &id, method: "chaos", latency_ms: Some(1) };
        let call = Call::new(workspace).goal(&goal).task(&task).user(&user).model("gpt-4o").credential("openai/ab12");
        let recorded = self.timed("record", |worker| worker.manager.record(&call, &report(tokens, &details)));
        if recorded.is_some() {
            self.log.tell(Told::Recorded { tokens });
        }
    }

    fn names(&mut self) -> [String; 3] {
        // Names that are too long for a row have the rest of them in the arena; some are new each time.
        let tasks = if self.random.once_in(16) { u64::MAX } else { 40 };
        let mut name = |letter: &str, bound| format!("{letter}{}", self.random.below(bound));
        let task = name("task-of-a-name-that-does-not-fit-into-its-row-", tasks);
        [name("g", 3), task, name("u", 4)]
    }

    fn reserve(&mut self) {
        let workspace = *self.random.one_of(&WORKSPACES);
        // Single tokens fill a limit to its last unit.
        let tokens = if self.random.once_in(3) { 1 } else { 1 + self.random.below(60) };
        let [goal, task, user] = self.names();
        let call = Call::new(workspace).goal(&goal).task(&task).user(&user).model("gpt-4o");
        let call = if self.random.once_in(2) { call.credential("openai/ab12") } else { call };
        let ask = Ask { requests: 1, tokens, cost: tokens_of(tokens) };
        if let Some(Verdict::Granted(hold)) = self.timed("reserve", |worker| worker.manager.reserve(&call, &ask, TTL)) {
            self.log.tell(Told::Granted { hold: hold.id().0 });
            self.holds.push(hold);
        }
    }

    fn take_one(&mut self) -> Option<Hold> {
        let count = self.holds.len() as u64;
        (count > 0).then(|| self.holds.swap_remove(self.random.below(count) as usize))
    }

    fn start_one(&mut self) {
        let Some(hold) = self.take_one() else { return };
        if let Some(started) = self.timed("start", |_| hold.start())
            && started.changed
        {
            self.log.tell(Told::Started { hold: hold.id().0 });
        }
        self.holds.push(hold);
    }

    fn end_one(&mut self) {
        let Some(mut hold) = self.take_one() else { return };
        let id = hold.id().0;
        let told = match self.random.below(10) {
            0..6 => {
                let is_free = hold.call().workspace == Some("free");
                let tokens = if is_free { self.random.below(120) } else { self.random.below(20).saturating_sub(18) };
                let request_id = self.log.next_id();
                let details = Details { request_id: &request_id, method: "chaos", latency_ms: Some(2) };
                let settled = self.timed("settle", |_| hold.settle(&report(tokens, &details), None));
                settled.map(|_| Told::Settled { hold: id, tokens })
            }
            6..9 => self.timed("release", |_| hold.release()).map(|_| Told::Released { hold: id }),
            _ => self.timed("drop", |_| hold.abandon()).map(|_| Told::Dropped { hold: id }),
        };
        match told {
            Some(told) => self.log.tell(told),
            // Not acknowledged: still to be ended.
            None => self.holds.push(hold),
        }
    }

    fn fork(&mut self) {
        self.children += 1;
        // SAFETY: the child goes on with plain Rust and the C library's memory, and leaves by `_exit`.
        if unsafe { libc::fork() } != 0 {
            return;
        }
        let name = format!("{}.{}", self.name, self.children);
        let work = || {
            self.log = Log::begin(&self.stage, &name);
            self.name = name;
            self.random = Random::new(u64::from(std::process::id()));
            self.forked = true;
            // They are the parent's: here they are let go of as any forked child does, by its copy's drop.
            self.holds.clear();
            self.work();
        };
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if worked.is_ok() { 0 } else { 101 }) }
    }
}
