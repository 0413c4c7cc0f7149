//! Opening: go on with the region that is there, or make one anew out of history.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::breakers;
use super::{Archive, Caretaker, Estate, HISTORY, SharedOptions};
use crate::account::AccountId;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::store::history::{Drained, Keeper, Reader};
use crate::store::region::Region;
use crate::store::region::file::{self, Continued, Found, Parts, Site};

/// A shared store that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) region: Region,
    pub(crate) store: SharedStore,
}

/// What there is of a shared store beside its region.
#[derive(Debug)]
pub(crate) struct SharedStore {
    pub(crate) directory: PathBuf,
    pub(crate) history: PathBuf,
    pub(crate) archive: Arc<Archive>,
    /// It publishes no limits.
    pub(crate) observes: bool,
    /// What whoever opens it should know.
    pub(crate) notes: Vec<String>,
}

impl SharedStore {
    /// Begins to take care of it, in this process and in its forked children.
    pub(crate) fn take_care(&self, estate: Weak<dyn Estate>) {
        if let Some(caretaker) = self.archive.caretaker() {
            caretaker.take(estate);
        }
    }
}

/// Opens the store in `options.directory`, which is made where it is missing.
///
/// # Errors
/// [`Code::InvalidConfig`] for a directory that cannot serve; [`Code::StoreDamaged`] for a file that is not ours or not for this
/// version, which is left as it is; [`Code::StoreFull`] where the disk or the slots are; [`Code::StoreBusy`] where another
/// process takes too long.
pub(crate) fn open(
    bytes: usize,
    clock: &Arc<dyn Clock>,
    config: &Arc<Config>,
    options: &SharedOptions,
) -> Result<Opened> {
    if !options.directory.is_absolute() {
        let path = options.directory.display();
        return Err(Error::invalid(
            Code::InvalidConfig,
            "store",
            path,
            "an absolute path, such as shared:/var/lib/llmquota",
        ));
    }
    let site = Site::enter(&options.directory, options.boot)?;
    let history = options.directory.join(HISTORY);
    let archive = Arc::new(Archive::new(&history));
    let parts =
        Parts { bytes, clock: Arc::clone(clock), config: Arc::clone(config), elsewhere: Arc::clone(&archive) as _ };
    let mut notes = site.warnings.clone();
    let found = site.find()?;
    let is_new = !history.exists();
    if is_new {
        // SQLite would let everybody on the machine read it.
        site.have(HISTORY)?;
    }
    let region = match found {
        Found::Usable(file, _, is_alone) if !is_new && is_older(&file, &history)? => {
            if !is_alone {
                let message = format!(
                    "the region of {} is older than its history, and other processes have it open; stop them first",
                    options.directory.display()
                );
                return Err(Error::new(Code::StoreDamaged, "store", message));
            }
            notes.push("the region was made anew from history, since it was older than that".to_owned());
            anew(&site, None, &history, &parts)?
        }
        Found::Usable(file, size, _) => {
            if size != bytes {
                notes.push(format!("the store keeps the size of {size} bytes that it was made with, not {bytes}"));
            }
            // History must be there before anything asks for it.
            if is_new {
                drop(Keeper::open(&history)?);
            }
            site.attach(file, size, &parts)?
        }
        Found::Nothing => anew(&site, None, &history, &parts)?,
        Found::Stale(file, why) => {
            notes.push(format!("the region was made anew from history, since {why}"));
            anew(&site, file, &history, &parts)?
        }
    };
    archive.employ(Caretaker::new(history.clone(), options.retention));
    let directory = options.directory.clone();
    let store = SharedStore { directory, history, archive, observes: options.observes, notes };
    Ok(Opened { region, store })
}

/// Whether history has entries that the region has not written yet: somebody has put back an older region. What others write
/// meanwhile makes no difference: history is asked first.
fn is_older(region: &File, history: &Path) -> Result<bool> {
    match Keeper::open(history).and_then(|keeper| keeper.next_sequence()) {
        Ok(next) => Ok(next > file::journal_end(region)),
        // The region counts on without it, and history is written when it can be.
        Err(error) if matches!(error.code(), Code::StoreFull | Code::StoreBusy) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a region out of history. Nobody else has the store.
fn anew(site: &Site, stale: Option<(File, usize)>, history: &Path, parts: &Parts) -> Result<Region> {
    let mut keeper = Keeper::open(history)?;
    if let Some((file, size)) = stale {
        let before = site.map(file, size, parts)?;
        // What the power left of the journal: whole entries that history has not yet.
        let next = keeper.next_sequence()?;
        let found = before.salvage(next);
        if let Some(first) = found.entries.first().filter(|first| first.sequence > next) {
            keeper.skip_to(first.sequence)?;
        }
        keeper.take(&Drained { accounts: found.accounts, entries: found.entries })?;
    }
    let now = parts.clock.exact();
    // Whoever had them is dead.
    keeper.end_open_holds(now.wall)?;
    // Kept before the first is given: should this region be lost before history hears of one, the next goes on after it.
    let hold = file::apart(keeper.last_hold()?);
    keeper.skip_holds_to(hold)?;
    let from = Continued { sequence: keeper.next_sequence()?, hold, counted_until: keeper.counted_until()? };
    let region = site.create(&from, parts)?;
    let reader = Reader::open(history)?;
    reader.each_account(|account| region.mark_stored(account.scope, account.owner, account.name))?;
    for saved in keeper.breakers()? {
        let account = AccountId { scope: saved.scope, owner: &saved.owner, name: &saved.name };
        region.restore_breaker(&account, &breakers::restored(&saved, &now))?;
    }
    Ok(region)
}
