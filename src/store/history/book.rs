//! The tables of sums: what they say stood before, as of now for the keeper, or as of the oldest row that is left for a replay;
//! and what is written back.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::accumulate::{Book, Line};
use super::fault::Fault;
use super::rows::sums_from;
use super::timeline::Timeline;
use crate::config::time_zone;
use crate::usage::history::{Span, Starts, Sums};

/// Which sums of a line, by the prefix of their columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AsOf {
    /// As they stand.
    Now,
    /// Before the row of this number, the oldest that is left.
    Row(i64),
}

/// The tables as a [`Book`].
pub(super) struct Tables<'c> {
    connection: &'c Connection,
    as_of: AsOf,
    /// Accounts from this number on are new: nothing stood before.
    new_from: i64,
    account: CachedStatement<'c>,
    period: CachedStatement<'c>,
}

/// The seven columns of sums, with a prefix.
pub(super) fn columns(prefix: &str) -> String {
    ["requests", "errors", "tokens", "input", "output", "cached", "cost"].map(|sum| format!("{prefix}{sum}")).join(", ")
}

impl<'c> Tables<'c> {
    pub(super) fn new(connection: &'c Connection, as_of: AsOf) -> Result<Self, Fault> {
        let sums = columns(if as_of == AsOf::Now { "n_" } else { "a_" });
        let newest: Option<i64> = connection.query_row("SELECT max(id) FROM accounts", [], |row| row.get(0))?;
        Ok(Self {
            connection,
            as_of,
            new_from: if as_of == AsOf::Now { newest.unwrap_or(0).saturating_add(1) } else { i64::MAX },
            account: connection
                .prepare_cached(&format!("SELECT zone_first, rezones, {sums} FROM accounts WHERE id = ?"))?,
            period: connection
                .prepare_cached(&format!("SELECT {sums} FROM periods WHERE account = ? AND span = ? AND start = ?"))?,
        })
    }

    /// The zones that an account has had after its first one.
    fn renames(&self, id: i64, timeline: &mut Timeline) -> Result<(), Fault> {
        let until = match self.as_of {
            AsOf::Now => i64::MAX,
            AsOf::Row(row) => row,
        };
        let mut renames = self.connection.prepare_cached(
            "SELECT at, zone, was_hour, was_day, was_month, is_hour, is_day, is_month FROM rezones \
             WHERE account = ? AND row < ? ORDER BY row",
        )?;
        let mut rows = renames.query([id, until])?;
        while let Some(row) = rows.next()? {
            let zone = time_zone("timezone", &row.get::<_, String>(1)?)?;
            let was = Starts { hour: row.get(2)?, day: row.get(3)?, month: row.get(4)? };
            let is = Starts { hour: row.get(5)?, day: row.get(6)?, month: row.get(7)? };
            timeline.rename(row.get(0)?, was, is, zone);
        }
        Ok(())
    }
}

impl Book for Tables<'_> {
    fn account(&mut self, id: i64) -> Result<(Timeline, Sums), Fault> {
        let found = self
            .account
            .query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, sums_from(row, 2)?)));
        let Some((zone, rezones, total)) = found.optional()? else {
            return Err(Fault::damaged(format!("a row names account {id}, which there is not")));
        };
        let mut timeline = Timeline::new(time_zone("timezone", &zone)?);
        if rezones > 0 {
            self.renames(id, &mut timeline)?;
        }
        Ok((timeline, total))
    }

    fn period(&mut self, id: i64, span: Span, start: i64) -> Result<Sums, Fault> {
        if id >= self.new_from {
            return Ok(Sums::default());
        }
        let found = self.period.query_row(params![id, span as u8, start], |row| sums_from(row, 0));
        Ok(found.optional()?.unwrap_or_default())
    }
}

/// Writes lines as `n_*` or `a_*`.
pub(super) struct LineWriter<'c> {
    total: CachedStatement<'c>,
    period: CachedStatement<'c>,
}

impl<'c> LineWriter<'c> {
    pub(super) fn new(connection: &'c Connection, prefix: &str) -> Result<Self, Fault> {
        let names = columns(prefix);
        let sets: Vec<String> = names.split(", ").map(|name| format!("{name} = ?")).collect();
        let updates: Vec<String> = names.split(", ").map(|name| format!("{name} = excluded.{name}")).collect();
        Ok(Self {
            total: connection.prepare_cached(&format!("UPDATE accounts SET {} WHERE id = ?", sets.join(", ")))?,
            period: connection.prepare_cached(&format!(
                "INSERT INTO periods (account, span, start, {names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (account, span, start) DO UPDATE SET {}",
                updates.join(", ")
            ))?,
        })
    }

    /// Writes a line that changed.
    pub(super) fn write(&mut self, line: &Line) -> Result<(), Fault> {
        let Sums { requests, errors, tokens, input, output, cached, cost } = line.now;
        if line.now == line.before {
            return Ok(());
        }
        if line.span == Span::Total {
            self.total.execute(params![requests, errors, tokens, input, output, cached, cost, line.id])?;
        } else {
            let (id, span, start) = (line.id, line.span as u8, line.start);
            self.period.execute(params![id, span, start, requests, errors, tokens, input, output, cached, cost])?;
        }
        Ok(())
    }
}
