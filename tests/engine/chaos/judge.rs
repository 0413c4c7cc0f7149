//! The judge: when nobody works any more, what the workers were told is held against history, history against the limits, and
//! the counters against both.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use llmquota::store::region::inspect::UnderWay;
use llmquota::usage::history::Kind;

use crate::killer::Stop;
use crate::log::{self, Found, Told};
use crate::replay::{self, Replayed};
use crate::rows::{self, Row, Rows};
use crate::stage::{Stage, WORKSPACES};

/// How long an operation may wait for the lock before it is put aside or refused, and what a machine with more processes than
/// processors, or a disk that is asked for an account, may add to that.
const BOUND: Duration = Duration::from_millis(500);
const MARGIN: Duration = Duration::from_millis(1_000);

/// What is known beside the files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witness<'a> {
    pub(crate) killed: &'a HashSet<u32>,
    pub(crate) stops: &'a [Stop],
}

/// What the judge found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judgement {
    /// Each in a sentence; none in a store that keeps its word.
    pub(crate) faults: Vec<String>,
    /// Operations that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Rows of history.
    pub(crate) rows: u64,
    /// Operations under way at a kill that landed all the same.
    pub(crate) under_way: u64,
    /// Times that the store said in time that it is busy.
    pub(crate) busy: u64,
    /// The longest operation, without the time in which its own process was stopped.
    pub(crate) slowest: Duration,
    pub(crate) slowest_what: String,
    /// Holds that were charged since their process died, and charges that a settle replaced.
    pub(crate) orphans: u64,
    pub(crate) replaced: u64,
    pub(crate) grants: u64,
    pub(crate) filled: BTreeMap<&'static str, u64>,
}

impl Judgement {
    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// Takes another store's figures along.
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.rows += other.rows;
        self.under_way += other.under_way;
        self.busy += other.busy;
        self.orphans += other.orphans;
        self.replaced += other.replaced;
        self.grants += other.grants;
        for (kind, times) in &other.filled {
            *self.filled.entry(kind).or_default() += times;
        }
        if other.slowest > self.slowest {
            (self.slowest, self.slowest_what) = (other.slowest, other.slowest_what.clone());
        }
    }
}

/// Judges what there is. Nobody else has the store.
pub(crate) fn judge(stage: &Stage, witness: &Witness<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    let logs = log::read_all(stage);
    let totals = the_store(stage, &mut judgement);
    let rows = rows::read(stage);
    judgement.rows = rows.rows.len() as u64;
    if rows.open_holds > 0 {
        judgement.fault(format!("history has {} open holds", rows.open_holds));
    }
    the_acknowledged(&logs, &rows, witness, &mut judgement);
    let replayed = replay::replay(&rows, &Stage::config(), &stage.clock);
    the_limits(&replayed, &rows, &totals, &mut judgement);
    the_bounds(&logs, witness, &mut judgement);
    judgement
}

/// Opens the store as the next process would, and asks it whether it is in order. Answers the tokens of each workspace.
fn the_store(stage: &Stage, judgement: &mut Judgement) -> HashMap<&'static str, u64> {
    let manager = match stage.open(true) {
        Ok(manager) => manager,
        Err(error) => {
            judgement.fault(format!("the store does not open: {error:?}"));
            return HashMap::new();
        }
    };
    let began = Instant::now();
    while manager.report().is_ok_and(|report| report.open_holds > 0 || report.journal_waiting > 0) {
        if began.elapsed() > Duration::from_secs(10) {
            judgement.fault(format!("holds or records wait for ever: {:?}", manager.report()));
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    match manager.flush().and_then(|()| manager.verify(false)) {
        Ok(findings) => judgement.faults.extend(findings.iter().take(10).map(|finding| format!("verify: {finding:?}"))),
        Err(error) => judgement.fault(format!("verify: {error:?}")),
    }
    let inspector = stage.inspector().unwrap();
    // Slots of the dead are cleared by whoever lives, a few times a second.
    let began = Instant::now();
    while inspector.owners().len() > 1 && began.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let audit = inspector.audit();
    for (what, (taken, there)) in [("rows", audit.rows), ("lines", audit.lines), ("holds", audit.holds)] {
        if taken != there {
            judgement.fault(format!("{taken} {what} were taken and {there} are in use or free"));
        }
    }
    if audit.aside.0 != audit.aside.1 {
        judgement.fault(format!("{:?} words were put aside and read", audit.aside));
    }
    if audit.held != (0, 0) {
        judgement
            .fault(format!("{} open holds are counted, {} accounts set something aside", audit.held.0, audit.held.1));
    }
    if audit.batch != UnderWay::default() || audit.slots != 1 || audit.overflows != 0 {
        judgement.fault(format!("batch, slots, overflows: {audit:?}"));
    }
    let total = |workspace: &&'static str| Some((*workspace, manager.snapshot(workspace).ok()?.usage.total.tokens));
    WORKSPACES.iter().filter_map(total).collect()
}

/// What history has by the name of the operation, and by the hold that it ended.
#[derive(Default)]
struct Index<'a> {
    by_id: HashMap<&'a str, Vec<&'a Row>>,
    ends: HashMap<u64, Vec<&'a Row>>,
}

impl<'a> Index<'a> {
    fn of(rows: &'a Rows) -> Self {
        let mut index = Self::default();
        for row in &rows.rows {
            if let Some(id) = &row.request_id {
                index.by_id.entry(id).or_default().push(row);
            }
            if let Some(held) = row.held {
                index.ends.entry(held.hold).or_default().push(row);
            }
        }
        index
    }
}

/// Every acknowledged operation is there once; what is there beside was under way when its process was killed, and of each
/// process that is one operation at most.
fn the_acknowledged(logs: &[Found], rows: &Rows, witness: &Witness<'_>, judgement: &mut Judgement) {
    let index = Index::of(rows);
    let (mut known, mut told_holds) = (HashSet::new(), HashSet::new());
    let mut all_under_way = 0;
    for log in logs {
        judgement.acknowledged += log.told.len() as u64;
        judgement.busy += log.busy;
        let mut under_way = u64::from(the_numbered(log, &index, &mut known, judgement));
        let holds = holds_of(log);
        for (hold, standing) in &holds {
            if !told_holds.insert(*hold) {
                judgement.fault(format!("hold {hold:x} was given twice"));
            }
            under_way += the_hold(log, *hold, standing, &index, judgement);
        }
        let was_killed = witness.killed.contains(&log.pid);
        if !was_killed && !log.ended {
            judgement.fault(format!("{} died by itself", log.name));
        }
        // The row and the hold of one settle are one operation.
        if under_way > if was_killed { 2 } else { 0 } {
            judgement.fault(format!("{}: {under_way} ends that nobody was told of", log.name));
        }
        all_under_way += u64::from(under_way > 0);
    }
    let strangers = index.by_id.keys().filter(|id| !known.contains(**id)).count();
    if strangers > 0 {
        judgement.fault(format!("{strangers} rows are of operations that nobody can have done"));
    }
    let unknown: Vec<u64> = index.ends.keys().copied().filter(|hold| !told_holds.contains(hold)).collect();
    for hold in &unknown {
        if index.ends[hold].iter().any(|row| row.kind != Kind::Release) {
            judgement.fault(format!("hold {hold:x} was told to nobody and did not end as released"));
        }
    }
    judgement.under_way = all_under_way + unknown.len() as u64;
    if judgement.under_way > witness.killed.len() as u64 {
        let kills = witness.killed.len();
        judgement.fault(format!("{} operations were under way at {kills} kills", judgement.under_way));
    }
    let orphan = |row: &&Row| row.kind == Kind::Orphan;
    judgement.orphans = rows.rows.iter().filter(orphan).count() as u64;
    judgement.replaced = rows.rows.iter().filter(|row| row.replaces).count() as u64;
}

/// The records and settles of one worker. True where the one after the last that was acknowledged is there, too.
fn the_numbered(log: &Found, index: &Index<'_>, known: &mut HashSet<String>, judgement: &mut Judgement) -> bool {
    for (number, told) in (1..).zip(&log.told) {
        let (kind, used) = match told {
            Told::Recorded { tokens } => (Kind::Record, *tokens),
            Told::Settled { tokens, .. } => (Kind::Settle, *tokens),
            _ => continue,
        };
        let id = log::request_id(&log.name, number);
        match index.by_id.get(id.as_str()).map(Vec::as_slice) {
            Some([row]) if row.kind == kind && row.amounts.tokens == used.cast_signed() => {}
            Some([row]) => judgement.fault(format!("{id}: {told:?} became {row:?}")),
            Some(rows) => judgement.fault(format!("{id}: {told:?} is there {} times", rows.len())),
            None => judgement.fault(format!("{id}: {told:?} is missing")),
        }
        known.insert(id);
    }
    let next = log::request_id(&log.name, log.told.len() as u64 + 1);
    let is_there = index.by_id.get(next.as_str());
    if is_there.is_some_and(|rows| rows.len() > 1) {
        judgement.fault(format!("{next} was not acknowledged, and is there twice"));
    }
    known.insert(next);
    is_there.is_some()
}

/// How a hold stood when its worker was last told of it.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    started: bool,
    end: Option<Told>,
}

fn holds_of(log: &Found) -> BTreeMap<u64, Standing> {
    let mut holds: BTreeMap<u64, Standing> = BTreeMap::new();
    for told in &log.told {
        match told {
            Told::Recorded { .. } => {}
            Told::Granted { hold } => _ = holds.insert(*hold, Standing::default()),
            Told::Started { hold } => holds.entry(*hold).or_default().started = true,
            Told::Settled { hold, .. } | Told::Released { hold } | Told::Dropped { hold } => {
                holds.entry(*hold).or_default().end = Some(*told);
            }
        }
    }
    holds
}

/// A hold ended as the hold table says. Answers 1 where it ended as an operation under way would have ended it.
fn the_hold(log: &Found, hold: u64, standing: &Standing, index: &Index<'_>, judgement: &mut Judgement) -> u64 {
    let ends: Vec<Kind> = index.ends.get(&hold).map_or_else(Vec::new, |rows| rows.iter().map(|row| row.kind).collect());
    let let_go = if standing.started { Kind::Orphan } else { Kind::Release };
    let expected = match standing.end {
        Some(Told::Settled { .. }) => Kind::Settle,
        Some(Told::Released { .. }) => Kind::Release,
        _ => let_go,
    };
    match ends.as_slice() {
        [end] if *end == expected => 0,
        // Put aside by a process that died before it was counted.
        [Kind::Orphan, Kind::Settle] if expected == Kind::Settle => 0,
        [_] if standing.end.is_none() && !log.ended => 1,
        _ => {
            judgement.fault(format!("{}: hold {hold:x}, {standing:?}, ended as {ends:?}", log.name));
            0
        }
    }
}

fn the_limits(replayed: &Replayed, rows: &Rows, totals: &HashMap<&str, u64>, judgement: &mut Judgement) {
    judgement.grants = replayed.grants;
    judgement.filled.clone_from(&replayed.filled);
    judgement.faults.extend(replayed.past.iter().take(10).map(|past| format!("a grant past a limit: {past}")));
    judgement.faults.extend(replayed.contradictions.iter().take(10).cloned());
    for (workspace, total) in totals {
        let of = |(_, name): &(&i64, &rows::Name)| name.0 == 1 && name.2 == *workspace;
        let id = rows.accounts.iter().find(of).map(|(id, _)| *id);
        let used = id.and_then(|id| replayed.tokens.get(&id)).copied().unwrap_or(0);
        if used != total.cast_signed() {
            judgement.fault(format!("{workspace} counts {total} tokens and its rows {used}"));
        }
    }
}

fn the_bounds(logs: &[Found], witness: &Witness<'_>, judgement: &mut Judgement) {
    for log in logs {
        for slow in &log.slow {
            let stops = witness.stops.iter().filter(|stop| stop.pid == log.pid);
            let stopped: i64 = stops.map(|stop| (slow.to.min(stop.to) - slow.from.max(stop.from)).max(0)).sum();
            let took = Duration::from_nanos((slow.to - slow.from - stopped).max(0).unsigned_abs());
            if took > judgement.slowest {
                (judgement.slowest, judgement.slowest_what) = (took, slow.what.clone());
            }
            if took > BOUND + MARGIN {
                judgement.fault(format!("{}: a {} took {took:?}", log.name, slow.what));
            }
        }
    }
}
