//! The thread that every process of a shared store has. One of them at a time, whoever has the keeper's lock, carries the
//! journal into history, ends what the dead have left, and keeps history short; the others wait to take its place.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::breakers;
use crate::error::{Code, Error, Result};
use crate::store::history::{Drained, Keeper, Retention, SavedBreaker, Standing};
use crate::store::region::{Counted, Region, Unwritten, fork_generation};

/// How often the keeper looks at the journal, and how long it lets a little of it wait: a transaction costs a write to the disk.
const LOOK: Duration = Duration::from_millis(20);
const GATHER: Duration = Duration::from_millis(200);
/// How often others look whether there is a keeper.
const STAND_BY: Duration = Duration::from_millis(200);
/// How often the dead are looked for.
const REAP: Duration = Duration::from_millis(200);
/// How often breakers are kept and the file is looked at.
const KEEP: Duration = Duration::from_secs(1);
/// How often rows that are too old are looked for, and how many are taken away at once. Where there are more, some go at each
/// look, so that the journal waits for none of them for long.
const RETAIN: Duration = Duration::from_secs(1);
const RETAIN_ROWS: usize = 10_000;
/// How often, at most, what had no room is made up for while ever more has none.
const MAKE_UP: Duration = Duration::from_secs(1);
/// Entries of one transaction.
const MOST_ENTRIES: usize = 8_192;

/// Whoever has the region that is taken care of.
pub(crate) trait Estate: Send + Sync {
    /// The region.
    fn region(&self) -> &Region;

    /// Looks whether another configuration is published, and takes it.
    ///
    /// # Errors
    /// Where it cannot be read; it is asked for again.
    fn config_changed(&self) -> Result<()>;
}

/// What all hands of one caretaker know.
#[derive(Debug)]
struct Known {
    history: PathBuf,
    retention: Retention,
    /// Why history was not written lately. No mutex, which a thread that a forked child does not have might hold there.
    last_error: ArcSwapOption<Error>,
}

/// The hand that starts the thread, in each process anew.
#[derive(Clone)]
pub(crate) struct Caretaker {
    known: Arc<Known>,
    estate: Arc<OnceLock<Weak<dyn Estate>>>,
}

impl std::fmt::Debug for Caretaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caretaker").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Caretaker {
    pub(crate) fn new(history: PathBuf, retention: Retention) -> Self {
        let known = Known { history, retention, last_error: ArcSwapOption::empty() };
        Self { known: Arc::new(known), estate: Arc::default() }
    }

    /// Takes care of this from now on.
    pub(crate) fn take(&self, estate: Weak<dyn Estate>) {
        // There is one for each caretaker.
        let _first = self.estate.set(estate);
        self.begin();
    }

    /// Starts the thread of this process.
    pub(crate) fn begin(&self) {
        let Some(estate) = self.estate.get().map(Weak::clone) else { return };
        let known = Arc::clone(&self.known);
        let work = move || Work::new(known, estate).run();
        let thread = std::thread::Builder::new().name("llmquota-keeper".to_owned()).spawn(work);
        if let Err(error) = thread {
            let message = format!("no thread is to be had that writes history: {error}; another process may do it");
            self.known.last_error.store(Some(Arc::new(Error::new(Code::StoreBusy, "store", message))));
        }
    }

    /// Takes the configuration that was published last, at once.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn follow(&self) -> Result<()> {
        self.estate.get().and_then(Weak::upgrade).map_or(Ok(()), |estate| estate.config_changed())
    }

    /// Why history was not written lately, as far as this process knows.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.known.last_error.load_full().map(|error| Error::clone(&error))
    }
}

/// The thread's own.
struct Work {
    known: Arc<Known>,
    estate: Weak<dyn Estate>,
    generation: u64,
    keeper: Option<Keeper>,
    /// History's file, as the keeper has it open.
    file: FileId,
    /// The end of the journal that was reached.
    reached: u64,
    /// An end of the journal, and the second before which all that was touched lies before it.
    mark: Option<(u64, i64)>,
    /// Accounts whose entries had no room, until history has what came before.
    unwritten: Option<Unwritten>,
    made_up: Instant,
    drained: Instant,
    looked: Instant,
    reaped: Instant,
    kept: Instant,
    retained: Instant,
    /// More rows are too old than went at the last look.
    has_old_rows: bool,
    breakers: Vec<SavedBreaker>,
}

impl Work {
    fn new(known: Arc<Known>, estate: Weak<dyn Estate>) -> Self {
        let now = Instant::now();
        Self {
            known,
            estate,
            generation: fork_generation(),
            keeper: None,
            file: None,
            reached: 0,
            mark: None,
            unwritten: None,
            made_up: now,
            drained: now,
            looked: now,
            reaped: now,
            kept: now,
            retained: now,
            has_old_rows: false,
            breakers: Vec::new(),
        }
    }

    /// As long as somebody has the region.
    fn run(mut self) {
        while let Some(estate) = self.estate.upgrade().filter(|_| self.generation == fork_generation()) {
            let region = estate.region();
            let nap = match self.look(region) {
                Ok(nap) => {
                    self.known.last_error.store(None);
                    nap
                }
                Err(error) => {
                    // A keeper that failed lets go of its connection and of its place: another process may do better.
                    self.keeper = None;
                    region.keep_no_longer();
                    self.known.last_error.store(Some(Arc::new(error)));
                    STAND_BY
                }
            };
            if let Err(error) = estate.config_changed() {
                self.known.last_error.store(Some(Arc::new(error)));
            }
            drop(estate);
            std::thread::sleep(nap);
        }
    }

    fn look(&mut self, region: &Region) -> Result<Duration> {
        region.check_journal(self.reached)?;
        if due(&mut self.looked, REAP) {
            // What it tells beside damage is for reports, which ask for themselves.
            let _told = region.look_at_names()?;
            if self.file != file_of(&self.known.history) {
                self.keeper = None;
            }
        }
        self.reached = self.reached.max(region.journal_ends().1);
        // Whoever lives sees to the dead: the keeper may be stopped, or wait for its disk.
        if due(&mut self.reaped, REAP) {
            region.reap()?;
            region.count_pending()?;
        }
        if self.keeper.is_none() {
            if !region.may_keep()? {
                return Ok(STAND_BY);
            }
            let mut keeper = Keeper::open(&self.known.history)?;
            join(region, &mut keeper)?;
            self.file = file_of(&self.known.history);
            self.keeper = Some(keeper);
            // Somebody else may have seen to them meanwhile.
            self.unwritten = None;
        }
        let is_done = self.drain(region)?;
        if due(&mut self.kept, KEEP) {
            self.keep_breakers(region)?;
        }
        if self.has_old_rows || due(&mut self.retained, RETAIN) {
            self.retain(region)?;
        }
        Ok(if is_done && !self.has_old_rows { LOOK } else { Duration::ZERO })
    }

    /// Writes what waits, where it is much, or has waited long enough, or is asked for. False where more comes than can be
    /// written, and what else there is to do has waited long enough.
    fn drain(&mut self, region: &Region) -> Result<bool> {
        let Some(keeper) = &mut self.keeper else { return Ok(true) };
        let much = region.journal_bound() / 4;
        let began = Instant::now();
        loop {
            let (drained, tail) = region.journal_ends();
            let waiting = tail.saturating_sub(drained);
            if self.unwritten.is_none() {
                // While entries still have no room, there is soon more to make up for: it is not done for each of them.
                let (overflows, written) = region.overflows();
                if overflows > written && (waiting < much || self.made_up.elapsed() >= MAKE_UP) {
                    self.unwritten = region.unwritten(None)?;
                }
            }
            if let Some(unwritten) = self.unwritten.take_if(|unwritten| unwritten.until <= drained) {
                self.unwritten = make_up(region, keeper, &unwritten)?;
                self.made_up = Instant::now();
            } else if waiting == 0 {
                break;
            }
            if began.elapsed() >= REAP {
                return Ok(false);
            }
            let until = self.unwritten.as_ref().map_or(tail, |unwritten| unwritten.until);
            if until <= drained {
                continue;
            }
            let hurried = region.hurry() > drained;
            if waiting < much && !hurried && self.drained.elapsed() < GATHER {
                return Ok(true);
            }
            let mark = match self.mark {
                Some(mark) => mark,
                None => region.journal_mark()?,
            };
            let most = usize::try_from(until - drained).unwrap_or(usize::MAX).min(MOST_ENTRIES);
            let found = region.undrained(drained, most)?;
            keeper.take(&Drained { accounts: found.accounts, entries: found.entries })?;
            let reached = found.next >= mark.0;
            region.set_drained(found.next, reached.then_some(mark.1))?;
            self.mark = (!reached).then_some(mark);
            if tail.saturating_sub(found.next) < much {
                self.drained = Instant::now();
            }
        }
        // Nothing waits: all that was touched before this second is in history, however long nothing comes.
        let (tail, second) = region.journal_mark()?;
        if region.journal_ends().0 == tail {
            region.set_drained(tail, Some(second))?;
        }
        Ok(true)
    }

    fn keep_breakers(&mut self, region: &Region) -> Result<()> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        let (now, found) = region.breakers_to_keep()?;
        let breakers: Vec<SavedBreaker> = found.iter().map(|kept| breakers::saved(kept, &now)).collect();
        if breakers != self.breakers {
            keeper.put_breakers(&breakers)?;
            self.breakers = breakers;
        }
        Ok(())
    }

    fn retain(&mut self, region: &Region) -> Result<()> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        let (drained, tail) = region.journal_ends();
        // Rows can wait for longer than what has no room yet.
        if tail.saturating_sub(drained) <= region.journal_bound() / 4 * 3 {
            let gone = keeper.retain(&self.known.retention, region.wall(), RETAIN_ROWS)?;
            self.has_old_rows = gone == RETAIN_ROWS;
        }
        Ok(())
    }
}

/// Writes what the journal had no room for, now that history has what came before; answers what is next.
fn make_up(region: &Region, keeper: &mut Keeper, unwritten: &Unwritten) -> Result<Option<Unwritten>> {
    let standing: Vec<Standing> = unwritten.counted.iter().map(standing).collect();
    keeper.correct(unwritten.at, &standing)?;
    keeper.keep_open_holds(&unwritten.open)?;
    region.clear_unwritten(unwritten)?;
    region.unwritten(Some(unwritten))
}

fn standing(counted: &Counted) -> Standing {
    Standing { account: counted.account.clone(), total: counted.total, periods: counted.periods.clone() }
}

/// Device and inode of a file; `None` where there is none.
pub(super) type FileId = Option<(u64, u64)>;

/// The file that has this name now.
pub(super) fn file_of(path: &Path) -> FileId {
    path.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

/// True where `every` has passed since `last`, which is now then.
fn due(last: &mut Instant, every: Duration) -> bool {
    let is_due = last.elapsed() >= every;
    if is_due {
        *last = Instant::now();
    }
    is_due
}

/// Brings region and history together, where the one that kept history before died between the two, or where somebody has taken
/// history away.
fn join(region: &Region, keeper: &mut Keeper) -> Result<()> {
    let (drained, _) = region.journal_ends();
    let next = keeper.next_sequence()?;
    if next > drained {
        return region.set_drained(next, None);
    }
    if next < drained {
        // What the missing entries told is not known any more, but what they added up to is.
        // Whoever dies between the two leaves it to the next keeper to do both.
        region.mark_all_unwritten()?;
        return keeper.skip_to(drained);
    }
    Ok(())
}
