//! The one who writes: takes what the journal drained, sets right what the journal had no room for, and ends what a power
//! cut left open. Each call is one transaction, which is done as a whole or not at all, whatever dies when.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::batch::{self, Batch};
use super::fault::Fault;
use super::gate::Line;
use super::names::Names;
use super::verify::{self, Difference};
use super::{Drained, Retention, SavedBreaker, Standing, breakers, corrections, holds, retention, schema};
use crate::error::Result;

/// The single writer of a store's history. Several processes may have one open, as long as one at a time writes; each call
/// goes on from what it finds in the file. A fork closes its connection, which the next call opens again.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    line: Line,
    names: Names,
}

impl Keeper {
    /// Opens the history in this file, and makes it where there is none.
    ///
    /// # Errors
    /// [`crate::Code::StoreDamaged`] where the file is another program's, a newer version's, damaged, or cannot be opened; it is then
    /// left as it is. [`crate::Code::StoreFull`] and [`crate::Code::StoreBusy`] as in [`Keeper::take`].
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let to_open = path.clone();
        let line = Line::new(move || schema::open_to_write(&to_open).map_err(|fault| fault.told(&to_open)))?;
        Ok(Self { path, line, names: Names::default() })
    }

    /// The first number of the journal that is not taken yet; 1 in a new file.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn next_sequence(&self) -> Result<u64> {
        self.look(batch::next_sequence)
    }

    /// Passes over entries that nobody has any more: the next to be taken is `next`.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn skip_to(&mut self, next: u64) -> Result<()> {
        self.transact(|connection, _| batch::skip_to(connection, next))
    }

    /// Holds up to this number may be given by somebody of whom history never hears.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn skip_holds_to(&mut self, last: u64) -> Result<()> {
        self.transact(|connection, _| batch::skip_holds_to(connection, last))
    }

    /// The largest number of a hold that was ever told of, or passed over; 0 where none was.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn last_hold(&self) -> Result<u64> {
        self.look(batch::last_hold)
    }

    /// The end of the latest hour that anything was counted in (wall nanoseconds); 0 where nothing was.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn counted_until(&self) -> Result<i64> {
        self.look(batch::counted_until)
    }

    /// Takes entries, which are in their order. Those below [`Keeper::next_sequence`] were taken before and are passed over,
    /// so that a batch may come again.
    ///
    /// # Errors
    /// [`crate::Code::StoreFull`] where the disk is full, [`crate::Code::StoreBusy`] where another process writes for longer than ten
    /// seconds, [`crate::Code::StoreDamaged`] where the file or an entry is not what it should be. Nothing is taken then, and the same
    /// entries can be brought again.
    pub fn take(&mut self, drained: &Drained) -> Result<()> {
        if drained.entries.is_empty() {
            return Ok(());
        }
        self.write(|batch| batch.take(&drained.accounts, &drained.entries))
    }

    /// Sets accounts to what the region counts, with an overflow row for each difference, once all of the journal is taken. An
    /// account that has another zone in the region gets that too. Answers how many rows that took.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn correct(&mut self, at: i64, region: &[Standing]) -> Result<usize> {
        self.write(|batch| corrections::correct(batch, at, region))
    }

    /// Forgets the open holds that are not among these; answers how many.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn keep_open_holds(&mut self, open: &[u64]) -> Result<usize> {
        self.transact(|connection, _| holds::keep_only(connection, open))
    }

    /// Ends the open holds of a store whose region is lost: those that had started are charged as held, the others are
    /// released. Answers how many were released, and how many charged.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn end_open_holds(&mut self, at: i64) -> Result<(usize, usize)> {
        self.transact(|connection, names| {
            let open = holds::all(connection)?;
            let mut batch = Batch::begin(connection, names)?;
            let ended = corrections::end_all(&mut batch, at, &open)?;
            batch.finish()?;
            holds::keep_only(connection, &[])?;
            Ok(ended)
        })
    }

    /// Replaces the breakers that are remembered.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn put_breakers(&mut self, breakers: &[SavedBreaker]) -> Result<()> {
        self.transact(|connection, _| breakers::put(connection, breakers))
    }

    /// The breakers that are remembered.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn breakers(&self) -> Result<Vec<SavedBreaker>> {
        self.look(breakers::all)
    }

    /// Deletes what the policy keeps no longer: at most `most` rows, and as many hours and days. Answers how many rows went.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn retain(&mut self, policy: &Retention, now_wall: i64, most: usize) -> Result<usize> {
        self.transact(|connection, _| retention::retain(connection, policy, now_wall, most))
    }

    /// Adds up all rows again and says which sums differ.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn verify(&self) -> Result<Vec<Difference>> {
        self.look(verify::verify)
    }

    /// Sets the sums that differ to what the rows say; answers which did. The rows are what is believed.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn repair(&mut self) -> Result<Vec<Difference>> {
        self.transact(|connection, _| verify::repair(connection))
    }

    fn look<R>(&self, work: impl FnOnce(&Connection) -> Result<R, Fault>) -> Result<R> {
        self.line.with(|connection| work(connection))?.map_err(|fault| fault.told(&self.path))
    }

    fn write<R>(&mut self, work: impl FnOnce(&mut Batch<'_>) -> Result<R, Fault>) -> Result<R> {
        self.transact(|connection, names| {
            let mut batch = Batch::begin(connection, names)?;
            let done = work(&mut batch)?;
            batch.finish()?;
            Ok(done)
        })
    }

    fn transact<R>(&mut self, work: impl FnOnce(&Connection, &mut Names) -> Result<R, Fault>) -> Result<R> {
        let Self { line, names, .. } = self;
        let run = |connection: &mut Connection| -> Result<R, Fault> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction, names)?;
            transaction.commit()?;
            Ok(done)
        };
        line.with(run)?.map_err(|fault| {
            // What was made in it is gone, and may be made again under other numbers.
            self.names.forget();
            fault.told(&self.path)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Scope;
    use crate::error::Code;
    use crate::store::history::rows::blank;
    use crate::usage::history::{Entry, Kind, Named, Sums};

    #[test]
    fn a_full_disk_loses_nothing_and_the_same_entries_can_come_again() {
        let directory = std::env::temp_dir().join(format!("llmquota-full-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("history.db");
        let _ = std::fs::remove_file(&path);
        let mut keeper = Keeper::open(&path).unwrap();
        let (owner, zone) = (String::new(), "Europe/Rome".to_owned());
        let accounts = vec![Named { scope: Scope::Workspace, owner, name: "acme".to_owned(), zone }];
        let sums = Sums { requests: 1, tokens: 7, ..Sums::default() };
        let of = |from: u64, until: u64| Drained {
            accounts: accounts.clone(),
            entries: (from..until)
                .map(|sequence| Entry {
                    sequence,
                    sums,
                    accounts: vec![0],
                    ..blank(Kind::Record, 1_769_899_800_000_000_000)
                })
                .collect(),
        };
        keeper.take(&of(1, 11)).unwrap();
        let pages: i64 = keeper
            .line
            .with(|connection| connection.pragma_query_value(None, "page_count", |row| row.get(0)))
            .unwrap()
            .unwrap();
        let bound = |keeper: &Keeper, pages: i64| {
            let set = |connection: &mut Connection| {
                connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            };
            keeper.line.with(set).unwrap().unwrap();
        };
        bound(&keeper, pages + 1);
        let error = keeper.take(&of(11, 5_000)).unwrap_err();
        assert_eq!(error.code(), Code::StoreFull);
        assert!(error.message().contains("disk") && error.message().contains("history.db"), "{error}");
        assert_eq!((keeper.next_sequence().unwrap(), keeper.verify().unwrap().len()), (11, 0));
        // A smaller batch still fits, and the rest does when there is room.
        keeper.take(&of(11, 20)).unwrap();
        bound(&keeper, 1 << 20);
        keeper.take(&of(11, 5_000)).unwrap();
        assert_eq!((keeper.next_sequence().unwrap(), keeper.verify().unwrap().len()), (5_000, 0));
        let count = |connection: &mut Connection| {
            connection.query_row("SELECT count(*) FROM history", [], |row| row.get::<_, i64>(0))
        };
        let rows = keeper.line.with(count).unwrap().unwrap();
        assert_eq!(rows, 4_999);
        drop(keeper);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
