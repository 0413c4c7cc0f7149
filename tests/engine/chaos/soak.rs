//! Ten minutes at four fifths of what history can be written at, with rows that are kept for one: memory, latency and files must
//! stay as they are, and the totals be right.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmquota::reservation::{Report, Verdict};
use llmquota::store::history::Retention;
use llmquota::store::region::inspect::Inspector;
use llmquota::store::shared::SharedOptions;
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::{Ask, Call, Manager, Options, SystemClock};

use crate::histogram::Histogram;
use crate::killer;
use crate::random::Random;
use crate::rows;
use crate::stage::Stage;

const WORKERS: u64 = 2;
/// What is counted on: workspaces, and goals in each.
const WORKSPACES: u64 = 200;
const GOALS: u64 = 10;
/// A part of the measure lasts until so many calls were taken: in the short form a disk that stands still for a third of a second
/// would else be a rate of none.
const LEAST: u64 = 4_096;
/// A worker sleeps between its bursts of calls.
const TICK: Duration = Duration::from_millis(1);

/// How long, and how much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) periods: u32,
    pub(crate) period: Duration,
    pub(crate) rows_kept: Duration,
}

/// What one period was like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Period {
    pub(crate) operations: u64,
    /// Nanoseconds that half, 99 % and 99.9 % of the records took at most, and the longest.
    pub(crate) took: [u64; 4],
    /// Bytes of the largest worker that are its own.
    pub(crate) memory: u64,
    pub(crate) history: u64,
    pub(crate) log: u64,
    pub(crate) region: u64,
    /// Most entries that waited, as it was looked at.
    pub(crate) waiting: u64,
    /// Calls that found the journal full, so that they have one row together.
    pub(crate) folded: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Soaked {
    /// Calls a second that history took when it was brought as many as it could take, as [`measure`] has it.
    pub(crate) drain_rate: u64,
    pub(crate) periods: Vec<Period>,
    pub(crate) rows_left: u64,
    pub(crate) faults: Vec<String>,
}

fn open(root: &Path, plan: &Plan) -> Manager {
    let retention = Retention { rows: plan.rows_kept, ..Retention::default() };
    let shared = Some(SharedOptions { retention, ..SharedOptions::at(root.join("store")) });
    let clock = Arc::new(SystemClock);
    Manager::new(Options { clock, config: llmquota::config::Config::unlimited(), shared, ..Options::default() })
        .unwrap()
}

/// The plan and a rate, for the workers to find.
fn tell(stage: &Stage, plan: &Plan, rate: u64) {
    let Plan { periods, period, rows_kept } = plan;
    let words = [u128::from(*periods), period.as_millis(), rows_kept.as_millis(), u128::from(rate)];
    std::fs::write(stage.root().join("soak"), words.map(|word| word.to_string()).join(" ")).unwrap();
}

fn told(stage: &Stage) -> (Plan, u64) {
    let text = std::fs::read_to_string(stage.root().join("soak")).unwrap();
    let words: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
    let (period, rows_kept) = (Duration::from_millis(words[1]), Duration::from_millis(words[2]));
    (Plan { periods: u32::try_from(words[0]).unwrap(), period, rows_kept }, words[3])
}

/// One call: mostly a record; now and then a hold from its beginning to its end. Answers the tokens that it used.
fn one_call(manager: &Manager, random: &mut Random) -> u64 {
    let workspace = format!("w{}", random.below(WORKSPACES));
    let goal = format!("g{}", random.below(GOALS));
    let call = Call::new(&workspace).goal(&goal);
    let tokens = random.below(1_000);
    let report = Report {
        cost: Some(NanoUsd::from_nanos(tokens.cast_signed())),
        ..Report::success(TokenUsage::unsplit(tokens))
    };
    if random.once_in(20) {
        let ask = Ask { tokens: 500, cost: Some(NanoUsd::ZERO), requests: 1 };
        if let Verdict::Granted(mut hold) = manager.reserve(&call, &ask, Duration::from_secs(60)).unwrap() {
            hold.start().unwrap();
            hold.settle(&report, None).unwrap();
            return tokens;
        }
    }
    manager.record(&call, &report).unwrap();
    tokens
}

/// A worker: as many calls a second as it is told, and a line for each period.
pub(crate) fn work(stage: &Stage, name: &str) {
    let (plan, rate) = told(stage);
    let manager = open(stage.root(), &plan);
    let mut random = Random::new(u64::from(std::process::id()));
    let (mut tokens, mut lines) = (0, String::new());
    let began = Instant::now();
    let mut done = 0;
    for period in 1..=plan.periods {
        let mut histogram = Histogram::default();
        while began.elapsed() < plan.period * period {
            let due = u64::try_from(began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000).unwrap();
            // Whoever was held up catches up within a second, and no faster.
            done = done.max(due.saturating_sub(rate));
            while done < due {
                let call = Instant::now();
                tokens += one_call(&manager, &mut random);
                histogram.add(call.elapsed());
                done += 1;
            }
            std::thread::sleep(TICK);
        }
        let [half, most, nearly, longest] = histogram.took();
        lines.push_str(&format!("{} {half} {most} {nearly} {longest} {}\n", histogram.count(), own_memory()));
    }
    std::fs::write(stage.root().join(name), format!("{tokens}\n{lines}")).unwrap();
}

/// Bytes of this process that no file is behind.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// How many calls a second history takes, brought as many as it can take while as many rows grow too old as come: in the slowest
/// sixth of the time for which rows are kept, since a rate that is only had while the machine is at its best is not one to
/// count on. Answers the tokens that were used, too.
fn measure(manager: &Manager, inspector: &Inspector, plan: &Plan) -> (u64, u64) {
    let mut random = Random::new(1);
    let mut tokens = 0;
    let mut bring = |time: Duration| {
        let (began, mut calls) = (Instant::now(), 0);
        while began.elapsed() < time || calls < LEAST {
            let (waiting, bound) = inspector.journal_waiting();
            if waiting > bound / 2 {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            (0..64).for_each(|_| tokens += one_call(manager, &mut random));
            calls += 64;
        }
        calls * 1_000 / u64::try_from(began.elapsed().as_millis()).unwrap()
    };
    bring(plan.rows_kept);
    let rate = (0..6).map(|_| bring(plan.rows_kept / 6)).min().unwrap();
    manager.flush().unwrap();
    (rate, tokens)
}

pub(crate) fn soak(stage: &Stage, plan: &Plan) -> Soaked {
    let mut soaked = Soaked::default();
    let manager = open(stage.root(), plan);
    let inspector = stage.inspector().unwrap();
    let (drain_rate, mut tokens) = measure(&manager, &inspector, plan);
    soaked.drain_rate = drain_rate;
    drop(manager);
    tell(stage, plan, drain_rate * 4 / 5 / WORKERS);
    let names: Vec<String> = (0..WORKERS).map(|number| format!("soak {number}")).collect();
    let mut workers: Vec<_> = names.iter().map(|name| killer::command(stage, name).spawn().unwrap()).collect();
    let began = Instant::now();
    for number in 1..=plan.periods {
        let mut waiting = 0;
        while began.elapsed() < plan.period * number {
            waiting = inspector.journal_waiting().0.max(waiting);
            std::thread::sleep(Duration::from_millis(5));
        }
        let size = |name: &str| std::fs::metadata(stage.store().join(name)).map_or(0, |meta| meta.len());
        let region = std::fs::metadata(stage.region()).unwrap();
        let region = std::os::unix::fs::MetadataExt::blocks(&region) * 512;
        let (history, log) = (size("history.db"), size("history.db-wal"));
        let before: u64 = soaked.periods.iter().map(|period| period.folded).sum();
        let folded = inspector.overflows() - before;
        soaked.periods.push(Period { waiting, history, log, region, folded, ..Period::default() });
    }
    for worker in &mut workers {
        let status = worker.wait().unwrap();
        if !status.success() {
            soaked.faults.push(format!("a worker ended with {status}"));
        }
    }
    names.iter().for_each(|name| tokens += take_lines(&stage.root().join(name), &mut soaked.periods));
    totals(stage, plan, tokens, &mut soaked);
    soaked
}

/// Takes what a worker wrote down; answers the tokens that it used.
fn take_lines(path: &Path, periods: &mut [Period]) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let tokens = lines.next().unwrap().parse().unwrap();
    for (period, line) in periods.iter_mut().zip(lines) {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        period.operations += numbers[0];
        for (took, number) in period.took.iter_mut().zip(&numbers[1..5]) {
            *took = (*took).max(*number);
        }
        period.memory = period.memory.max(numbers[5]);
    }
    tokens
}

/// What was used is in the counters, and the counters are those of history.
fn totals(stage: &Stage, plan: &Plan, used: u64, soaked: &mut Soaked) {
    let manager = open(stage.root(), plan);
    match manager.verify(false) {
        Ok(findings) => soaked.faults.extend(findings.iter().take(5).map(|finding| format!("verify: {finding:?}"))),
        Err(error) => soaked.faults.push(format!("verify: {error:?}")),
    }
    let workspaces = (0..WORKSPACES).map(|number| format!("w{number}"));
    let counted: u64 = workspaces.map(|name| manager.snapshot(&name).unwrap().usage.total.tokens).sum();
    if counted != used {
        soaked.faults.push(format!("{used} tokens were used and {counted} are counted"));
    }
    let rows = rows::connect(stage).query_row("SELECT count(*) FROM history", [], |row| row.get::<_, i64>(0));
    soaked.rows_left = rows.unwrap().unsigned_abs();
    // A disk that takes nothing for longer than the journal lasts is none of the store's faults; a journal that often is full is.
    let (calls, folded) = soaked
        .periods
        .iter()
        .fold((0, 0), |(calls, folded), period| (calls + period.operations, folded + period.folded));
    if folded > calls / 100 {
        soaked.faults.push(format!("{folded} of {calls} calls found the journal full"));
    }
}

impl Soaked {
    /// What did not stay as it was, from a first period to the last.
    pub(crate) fn drifts(&self, first: usize) -> Vec<String> {
        let mut drifts = Vec::new();
        let later = self.periods.get(first..).unwrap_or_default();
        let third = later.len() / 3;
        let (early, late) = (&later[..third], &later[later.len() - third..]);
        // Of each third the median, so that one busy minute of the machine is none of the store's.
        let median = |periods: &[Period], what: &dyn Fn(&Period) -> u64| {
            let mut all: Vec<u64> = periods.iter().map(what).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or(0)
        };
        let mut compare = |name: &str, what: &dyn Fn(&Period) -> u64, slack: u64| {
            let (was, is) = (median(early, what), median(late, what));
            if is > was + was / 4 + slack {
                drifts.push(format!("{name} was {was} and is {is}"));
            }
        };
        compare("memory", &|period| period.memory, 2 << 20);
        compare("the median", &|period| period.took[0], 1_000);
        compare("the 99th percentile", &|period| period.took[1], 20_000);
        compare("history", &|period| period.history, 8 << 20);
        compare("the log", &|period| period.log, 8 << 20);
        compare("the region", &|period| period.region, 1 << 20);
        drifts
    }
}
