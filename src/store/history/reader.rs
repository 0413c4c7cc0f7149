//! Those who only read: accounts that the region gave up or lost, lists, filters, and history for people. Each answer is one
//! look at the file as the last transaction left it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::fault::Fault;
use super::gate::Line;
use super::query::{Rollup, Row};
use super::rows::sums_from;
use super::timeline::starts_at;
use super::verify::{self, Difference};
use super::{Query, book, names, query, schema};
use crate::account::{AccountId, Scope};
use crate::config::time_zone;
use crate::error::Result;
use crate::usage::history::{Span, Starts, Sums};

/// What history has of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The IANA name of its time zone.
    pub zone: String,
    /// Since the store began.
    pub total: Sums,
    /// The starts of the periods, in that zone.
    pub starts: Starts,
    /// The hour.
    pub hour: Sums,
    /// The day.
    pub day: Sums,
    /// The month.
    pub month: Sums,
    /// When an error was last recorded (wall nanoseconds).
    pub last_error: Option<i64>,
    /// When it was last touched (wall nanoseconds); 0 where nothing of it has landed yet.
    pub seen: i64,
}

/// An account of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Since the store began.
    pub total: Sums,
    /// The day.
    pub day: Sums,
    /// When it was last touched (wall nanoseconds); 0 where nothing of it has landed yet.
    pub seen: i64,
}

/// A reader of a store's history, on a connection of its own that cannot write. A fork closes it, and the next question opens it
/// again.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    line: Line,
}

impl Reader {
    /// Opens the history that a [`super::Keeper`] has made.
    ///
    /// # Errors
    /// [`crate::Code::StoreDamaged`] where there is none, or one that this version cannot read.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let to_open = path.clone();
        let line = Line::new(move || schema::open_to_read(&to_open).map_err(|fault| fault.told(&to_open)))?;
        Ok(Self { path, line })
    }

    /// What is saved of each account, with the periods of its zone in which `wall` (nanoseconds) lies.
    ///
    /// # Errors
    /// [`crate::Code::StoreDamaged`] where the file is not what it should be, [`crate::Code::StoreBusy`] where it cannot be read for ten
    /// seconds.
    pub fn saved(&self, accounts: &[AccountId<'_>], wall: i64) -> Result<Vec<Option<Saved>>> {
        self.look(|connection| accounts.iter().map(|account| saved(connection, account, wall)).collect())
    }

    /// The accounts of a scope inside an owner (`""` for the outermost), by name.
    ///
    /// # Errors
    /// As [`Reader::saved`].
    pub fn accounts(&self, scope: Scope, owner: &str, wall: i64) -> Result<Vec<Listed>> {
        self.look(|connection| listed(connection, scope, owner, wall))
    }

    /// Calls `each` with every account.
    ///
    /// # Errors
    /// As [`Reader::saved`].
    pub fn each_account(&self, mut each: impl FnMut(&AccountId<'_>)) -> Result<()> {
        self.look(|connection| {
            let mut rows = connection.prepare(
                "SELECT accounts.scope, owners.name, accounts.name FROM accounts \
                 LEFT JOIN accounts AS owners ON owners.id = accounts.owner ORDER BY accounts.id",
            )?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let scope = Scope::from_u8(row.get(0)?);
                let text = |place| row.get_ref(place)?.as_str_or_null().map_err(rusqlite::Error::from);
                let (owner, name) = (text(1)?.unwrap_or_default(), text(2)?.unwrap_or_default());
                let scope = scope.ok_or_else(|| Fault::damaged(format!("'{name}' is of an unknown scope")))?;
                each(&AccountId { scope, owner, name });
            }
            Ok(())
        })
    }

    /// The rows that a question asks for.
    ///
    /// # Errors
    /// [`crate::Code::InvalidNumber`] where more than [`super::MOST_ROWS`] are asked for; else as [`Reader::saved`].
    pub fn history(&self, query: &Query) -> Result<Vec<Row>> {
        self.look(|connection| query::rows(connection, query))
    }

    /// The sums of hours, days or months that begin in the time asked for, or the total: of the one goal, task, model or user
    /// that is named, else of the workspace, else of every workspace. Kinds and [`Query::after`] do not matter.
    ///
    /// # Errors
    /// [`crate::Code::InvalidChoice`] where two of goal, task, model and user are named; else as [`Reader::history`].
    pub fn rollups(&self, query: &Query, span: Span) -> Result<Vec<Rollup>> {
        self.look(|connection| query::rollups(connection, query, span))
    }

    /// What the rows that are kept add up to, however many they are: calls once, charges that were replaced not at all, and
    /// the corrections of the totals of what is asked for.
    ///
    /// # Errors
    /// As [`Reader::saved`].
    pub fn sums(&self, query: &Query) -> Result<Sums> {
        self.look(|connection| query::sums(connection, query))
    }

    /// Adds up all rows again and says which sums differ.
    ///
    /// # Errors
    /// As [`Reader::saved`].
    pub fn verify(&self) -> Result<Vec<Difference>> {
        self.line.with(|connection| verify::verify(connection))?.map_err(|fault| fault.told(&self.path))
    }

    fn look<R>(&self, work: impl FnOnce(&Connection) -> Result<R, Fault>) -> Result<R> {
        let run = |connection: &mut Connection| -> Result<R, Fault> {
            let transaction: Transaction<'_> = connection.unchecked_transaction()?;
            work(&transaction)
        };
        self.line.with(run)?.map_err(|fault| fault.told(&self.path))
    }
}

fn saved(connection: &Connection, account: &AccountId<'_>, wall: i64) -> Result<Option<Saved>, Fault> {
    let Some(id) = names::find(connection, account)? else { return Ok(None) };
    let mut row = connection.prepare_cached(&format!(
        "SELECT zone, last_error, seen, {} FROM accounts WHERE id = ?",
        book::columns("n_")
    ))?;
    let (zone, last_error, seen, total): (String, _, _, _) =
        row.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, sums_from(row, 3)?)))?;
    let starts = starts_at(&time_zone("timezone", &zone)?, wall);
    let hour = period(connection, id, Span::Hour, starts.hour)?;
    let day = period(connection, id, Span::Day, starts.day)?;
    let month = period(connection, id, Span::Month, starts.month)?;
    Ok(Some(Saved { zone, total, starts, hour, day, month, last_error, seen }))
}

fn period(connection: &Connection, id: i64, span: Span, start: i64) -> Result<Sums, Fault> {
    let mut period = connection.prepare_cached(&format!(
        "SELECT {} FROM periods WHERE account = ? AND span = ? AND start = ?",
        book::columns("n_")
    ))?;
    let found = period.query_row(params![id, span as u8, start], |row| sums_from(row, 0));
    Ok(found.optional()?.unwrap_or_default())
}

fn listed(connection: &Connection, scope: Scope, owner: &str, wall: i64) -> Result<Vec<Listed>, Fault> {
    let owner = match names::owner_scope(scope) {
        Some(scope) => names::find(connection, &AccountId { scope, owner: "", name: owner })?,
        None => Some(0).filter(|_| owner.is_empty()),
    };
    let Some(owner) = owner else { return Ok(Vec::new()) };
    let mut rows = connection.prepare_cached(&format!(
        "SELECT id, name, zone, seen, {} FROM accounts WHERE scope = ? AND owner = ? ORDER BY name",
        book::columns("n_")
    ))?;
    let mut rows = rows.query(params![scope as u8, owner])?;
    let mut found = Vec::new();
    // Those of a list mostly share their zone.
    let mut last: Option<(String, i64)> = None;
    while let Some(row) = rows.next()? {
        let zone = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        if last.as_ref().is_none_or(|(known, _)| known != zone) {
            last = Some((zone.to_owned(), starts_at(&time_zone("timezone", zone)?, wall).day));
        }
        let start = last.as_ref().map_or(0, |(_, start)| *start);
        let day = period(connection, row.get(0)?, Span::Day, start)?;
        found.push(Listed { name: row.get(1)?, total: sums_from(row, 4)?, day, seen: row.get(3)? });
    }
    Ok(found)
}
