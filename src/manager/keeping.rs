//! What a manager tells of what is kept: history, whether the counters are its, and how the store is.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Inner, Manager};
use crate::account::AccountId;
use crate::clock::SECOND;
use crate::error::{Code, Error, Result};
use crate::store::history::{Amounts, Difference, Drained, Keeper, Query, Rollup, Row, recent};
use crate::store::region::{Counted, Fill, Region};
use crate::store::shared::{Estate, FLUSH_BOUND, SharedStore};
use crate::usage::history::{Named, Span, Sums};

/// How often a counter that differs from history is looked at again before it is told: what is on its way differs for a moment.
const LOOKS: usize = 5;
/// How long a look at what is on its way waits.
const NAP: Duration = Duration::from_millis(5);

/// Seconds of an hour and, where clocks go back, of a day.
const HOUR: i64 = 3_600;
const LONGEST_DAY: i64 = 25 * HOUR;

/// How a store is.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReport {
    /// `memory` or `shared`.
    pub store: &'static str,
    /// A shared store's directory.
    pub directory: Option<String>,
    /// Accounts that have a row, and the most there can be.
    pub accounts: u64,
    /// The most there can be.
    pub accounts_bound: u64,
    /// Calls and accounts that were counted in their workspace's `other`, for want of room.
    pub folded: u64,
    /// Open holds.
    pub open_holds: u64,
    /// Records that wait to be written to history.
    pub journal_waiting: u64,
    /// How many can wait.
    pub journal_bound: u64,
    /// Processes that listen to events.
    pub listeners: u64,
    /// How many events were ever written, since the store's region was made.
    pub events: u64,
    /// The processes that have it open.
    pub processes: Vec<ProcessLine>,
    /// What its operator should know, each in a sentence.
    pub warnings: Vec<String>,
}

/// A process that has the store open.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessLine {
    /// Its id.
    pub pid: u32,
    /// Its version of llmquota.
    pub version: String,
    /// It is the one that asks.
    pub is_self: bool,
}

impl Manager {
    /// The rows of history that a question asks for, with all that happened before it. On private memory history is the journal:
    /// the last entries, as many as fit.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] where more than 100,000 rows are asked for; those of the store.
    pub fn history(&self, query: &Query) -> Result<Vec<Row>> {
        match &self.0.shared {
            Some(shared) => {
                self.flush()?;
                shared.archive.read(|reader| reader.history(query))
            }
            None => recent::rows(&self.recent()?, query),
        }
    }

    /// The sums of hours, days, months, or of all time, of the one account that a question names.
    ///
    /// # Errors
    /// [`Code::InvalidChoice`] where it names two accounts inside a workspace; on private memory, which keeps no past periods,
    /// for every span; those of the store.
    pub fn rollups(&self, query: &Query, span: Span) -> Result<Vec<Rollup>> {
        let Some(shared) = &self.0.shared else {
            let expected = "a store that keeps history: LLMQUOTA_STORE=shared:/path";
            return Err(Error::invalid(Code::InvalidChoice, "period", span.as_str(), expected));
        };
        self.flush()?;
        shared.archive.read(|reader| reader.rollups(query, span))
    }

    /// What rows of history add up to, each use once.
    ///
    /// # Errors
    /// As [`Manager::history`].
    pub fn history_sums(&self, query: &Query) -> Result<Amounts> {
        match &self.0.shared {
            Some(shared) => {
                self.flush()?;
                shared.archive.read(|reader| reader.sums(query)).map(Amounts::from)
            }
            None => Ok(recent::sums(&self.recent()?, query).into()),
        }
    }

    fn recent(&self) -> Result<Drained> {
        let found = self.0.region.recent()?;
        Ok(Drained { accounts: found.accounts, entries: found.entries })
    }

    /// Waits until history has all that happened before.
    ///
    /// # Errors
    /// [`Code::StoreBusy`] where nobody writes it within five seconds; what waits stays where it is.
    pub fn flush(&self) -> Result<()> {
        let Some(shared) = &self.0.shared else { return Ok(()) };
        let region = &self.0.region;
        let until = region.want_drained()?;
        let overflows = region.overflows().0;
        let began = Instant::now();
        while region.journal_ends().0 < until {
            if began.elapsed() > FLUSH_BOUND {
                let why = shared.archive.caretaker().and_then(|caretaker| caretaker.last_error());
                let why = why.map_or_else(|| "see `llmquota doctor`".to_owned(), |error| error.message().to_owned());
                let message = format!("history was not written within {} s: {why}", FLUSH_BOUND.as_secs());
                return Err(Error::new(Code::StoreBusy, "history", message));
            }
            std::thread::sleep(NAP);
        }
        // What the journal had no room for is made up for soon, also while more comes; of very many accounts not at once.
        while region.overflows().1 < overflows && began.elapsed() < FLUSH_BOUND {
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Adds up all of history again and says which counters differ, history's own sums first and then the region's; with `repair`,
    /// sets them to what the rows say. On private memory there is nothing to compare.
    ///
    /// # Errors
    /// Those of the store; [`Code::StoreBusy`] for a repair while the journal is full.
    pub fn verify(&self, repair: bool) -> Result<Vec<Finding>> {
        let Some(shared) = &self.0.shared else { return Ok(Vec::new()) };
        self.flush()?;
        let (overflows, written) = self.0.region.overflows();
        if repair && written < overflows {
            // Whoever writes history is about to set it right by the counters: it must not be mended the other way at the same time.
            let message =
                "what the journal had no room for is still being written to history; repair when fewer calls come";
            return Err(Error::new(Code::StoreBusy, "history", message));
        }
        let differences = if repair {
            Keeper::open(&shared.history)?.repair()?
        } else {
            shared.archive.read(|reader| reader.verify())?
        };
        let in_history = |difference| Finding { counter: "history", difference };
        let mut findings: Vec<Finding> = differences.into_iter().map(in_history).collect();
        let mut accounts = Vec::new();
        self.0.region.all_counted(|counted| accounts.push(counted))?;
        for counted in accounts {
            let found = self.compare(shared, counted, repair)?;
            findings.extend(found.into_iter().map(|difference| Finding { counter: "region", difference }));
        }
        Ok(findings)
    }

    /// Whether an account's counters in the region are those of history.
    fn compare(&self, shared: &SharedStore, mut counted: Counted, repair: bool) -> Result<Vec<Difference>> {
        let region = &self.0.region;
        let mut last = Vec::new();
        for _ in 0..LOOKS {
            let saved = in_history(shared, &counted)?;
            let found = differences(&counted, &saved);
            if found.is_empty() {
                return Ok(found);
            }
            if found == last {
                if repair {
                    region.mend(&saved)?;
                }
                return Ok(found);
            }
            // It may be on its way.
            last = found;
            self.flush()?;
            match region.counted(&counted.account)? {
                Some(again) => counted = again,
                None => return Ok(Vec::new()),
            }
        }
        // It changes faster than history follows, and each time by another amount: that is traffic.
        Ok(Vec::new())
    }

    /// How the store is.
    ///
    /// # Errors
    /// Those of the store.
    pub fn report(&self) -> Result<StoreReport> {
        let region = &self.0.region;
        let Fill { accounts, accounts_bound, folded } = region.fill();
        let (drained, tail) = region.journal_ends();
        let mut report = StoreReport {
            store: "memory",
            directory: None,
            accounts,
            accounts_bound,
            folded,
            open_holds: region.open_hold_count(),
            journal_waiting: 0,
            journal_bound: region.journal_bound(),
            listeners: region.listeners(),
            events: region.events_told(),
            processes: vec![ProcessLine {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                is_self: true,
            }],
            warnings: Vec::new(),
        };
        let Some(shared) = &self.0.shared else { return Ok(report) };
        report.store = "shared";
        report.directory = Some(shared.directory.display().to_string());
        report.journal_waiting = tail.saturating_sub(drained);
        report.warnings.clone_from(&shared.notes);
        match region.processes() {
            Ok(processes) => {
                report.processes = processes
                    .into_iter()
                    .map(|process| ProcessLine { pid: process.pid, version: process.package, is_self: process.is_self })
                    .collect();
            }
            Err(error) => report.warnings.push(error.message().to_owned()),
        }
        let mine = env!("CARGO_PKG_VERSION");
        for other in report.processes.iter().filter(|process| process.version != mine) {
            let line = format!("process {} runs llmquota {}, this one {mine}", other.pid, other.version);
            report.warnings.push(line);
        }
        match self.0.differences() {
            Ok(notes) => report.warnings.extend(notes),
            Err(error) => report.warnings.push(error.message().to_owned()),
        }
        match region.check().and_then(|()| region.look_at_names()) {
            Ok(told) => report.warnings.extend(told),
            Err(error) => report.warnings.push(error.message().to_owned()),
        }
        if let Some(error) = shared.archive.caretaker().and_then(|caretaker| caretaker.last_error()) {
            report.warnings.push(format!("history is not written: {}", error.message()));
        }
        Ok(report)
    }
}

impl Estate for Inner {
    fn region(&self) -> &Region {
        &self.region
    }

    fn config_changed(&self) -> Result<()> {
        self.follow_published()
    }
}

/// The same account as history has it, for the periods that the region keeps of it and history has not let go.
fn in_history(shared: &SharedStore, counted: &Counted) -> Result<Counted> {
    let Named { scope, owner, name, .. } = &counted.account;
    let account = [AccountId { scope: *scope, owner, name }];
    let at = |wall: i64| {
        let saved = shared.archive.read(|reader| reader.saved(&account, wall))?;
        Ok::<_, Error>(saved.into_iter().next().flatten())
    };
    let total = at(0)?.map_or_else(Sums::default, |saved| saved.total);
    let mut periods = Vec::new();
    for (span, start, kept) in &counted.periods {
        let saved = at(start.saturating_mul(SECOND))?;
        let sums = saved.and_then(|saved| match span {
            Span::Hour if saved.starts.hour == *start => {
                Some(Sums { requests: saved.hour.requests, ..Sums::default() })
            }
            Span::Day if saved.starts.day == *start => Some(saved.day),
            Span::Month if saved.starts.month == *start => Some(saved.month),
            _ => None,
        });
        let sums = sums.unwrap_or_default();
        if sums == Sums::default() && *kept != sums && is_let_go(shared, *span, *start)? {
            continue;
        }
        periods.push((*span, *start, sums));
    }
    Ok(Counted { account: counted.account.clone(), total, periods })
}

/// True where history may have let a period go: hours and days go once no row is left that could count in them, while an account
/// that is idle keeps its last ones in the region.
fn is_let_go(shared: &SharedStore, span: Span, start: i64) -> Result<bool> {
    let end = match span {
        Span::Hour => start.saturating_add(HOUR),
        Span::Day => start.saturating_add(LONGEST_DAY),
        Span::Month | Span::Total => return Ok(false),
    };
    let of_then = Query { until: Some(end.saturating_mul(SECOND)), limit: 1, ..Query::default() };
    Ok(shared.archive.read(|reader| reader.history(&of_then))?.is_empty())
}

/// Every field in which two accounts of the same account differ.
fn differences(region: &Counted, history: &Counted) -> Vec<Difference> {
    const FIELDS: [&str; 7] = ["requests", "errors", "tokens", "input", "output", "cached", "cost"];
    let total = [(Span::Total, 0, region.total, history.total)];
    let periods = history.periods.iter().filter_map(|(span, start, recomputed)| {
        let kept = region.periods.iter().find(|(kept, began, _)| kept == span && began == start);
        kept.map(|(.., kept)| (*span, *start, *kept, *recomputed))
    });
    let mut found = Vec::new();
    for (span, start, kept, recomputed) in total.into_iter().chain(periods) {
        let fields = FIELDS.into_iter().zip(kept.fields()).zip(recomputed.fields());
        for ((field, kept), recomputed) in fields.filter(|((_, kept), recomputed)| kept != recomputed) {
            let Named { scope, owner, name, .. } = region.account.clone();
            found.push(Difference { scope, owner, name, span: span.as_str(), start, field, kept, recomputed });
        }
    }
    found
}

/// A counter that is not what the rows of history add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose: `history` for its own sums, `region` for what calls are decided by.
    pub counter: &'static str,
    /// By how much.
    #[serde(flatten)]
    pub difference: Difference,
}
