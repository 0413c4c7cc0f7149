//! What is kept no longer. Rows go from the oldest on, and what they had added stays in their accounts and periods; hours and
//! days go once no row is left that counts in them. Months and totals stay for ever.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::accumulate::Ledger;
use super::batch::next_row;
use super::book::{AsOf, LineWriter, Tables};
use super::fault::Fault;
use super::rows::{column, replay};
use super::{Retention, postings};
use crate::clock::SECOND;
use crate::usage::history::Span;

/// Deletes at most `most` rows, hours and days each; answers how many rows.
pub(super) fn retain(connection: &Connection, policy: &Retention, now: i64, most: usize) -> Result<usize, Fault> {
    let deleted = delete_rows(connection, before(now, policy.rows), now, most)?;
    // An hour has at most an hour, a day at most 25.
    for (span, kept, length) in [(Span::Hour, policy.hours, 3_600), (Span::Day, policy.days, 25 * 3_600)] {
        let until = before(now, kept).div_euclid(SECOND).saturating_sub(length);
        delete_periods(connection, span, until, most)?;
    }
    Ok(deleted)
}

fn before(now: i64, kept: std::time::Duration) -> i64 {
    now.saturating_sub(i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX))
}

fn delete_rows(connection: &Connection, cutoff: i64, now: i64, most: usize) -> Result<usize, Fault> {
    let first = first_row(connection)?;
    let Some((last, rows)) = oldest(connection, cutoff, now, most)? else { return Ok(0) };
    let mut book = Tables::new(connection, AsOf::Row(first))?;
    let (mut ledger, mut workspaces) = (Ledger::default(), BTreeSet::new());
    replay(connection, first, last, |told| {
        let slots = told.slots(&mut ledger, &mut book, |_| true)?;
        ledger.take(&told.entry, told.start, &slots, &mut book)?;
        workspaces.extend(told.places.workspace());
        Ok(())
    })?;
    let mut writer = LineWriter::new(connection, "a_")?;
    for line in ledger.into_lines() {
        writer.write(&line)?;
    }
    for workspace in workspaces {
        postings::forget(connection, workspace, last)?;
    }
    connection.prepare_cached("DELETE FROM history WHERE id <= ?")?.execute([last])?;
    connection.prepare_cached("DELETE FROM hours WHERE last_row <= ?")?.execute([last])?;
    Ok(rows)
}

/// The number of the oldest row that is left; where there is none, of the next one.
pub(super) fn first_row(connection: &Connection) -> Result<i64, Fault> {
    let mut first = connection.prepare_cached("SELECT min(id) FROM history")?;
    match first.query_row([], |row| row.get::<_, Option<i64>>(0))? {
        Some(first) => Ok(first),
        None => next_row(connection),
    }
}

/// The last of the oldest rows that may go, and how many they are.
///
/// Rows go in their order, so that what is left can still be added up in it. A row from before the time ends the search only
/// where a later one is not from before it: one that is stamped ahead of now was written by a clock that was wrong, and goes
/// with the old ones around it.
fn oldest(connection: &Connection, cutoff: i64, now: i64, most: usize) -> Result<Option<(i64, usize)>, Fault> {
    let mut rows = connection.prepare_cached("SELECT id, at FROM history ORDER BY id")?;
    let mut rows = rows.query([])?;
    let (mut seen, mut last, mut found) = (0, 0, None);
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(1)?;
        if at >= cutoff && at <= now {
            break;
        }
        if seen < most {
            (seen, last) = (seen + 1, row.get(0)?);
        }
        if at < cutoff && seen > 0 {
            found = Some((last, seen));
            if seen == most {
                break;
            }
        }
    }
    Ok(found)
}

/// Deletes periods that began until then, if all that they count is of rows that are deleted: the same sum comes out without
/// them. Another zone that is still a row moves what its periods count, so they stay.
fn delete_periods(connection: &Connection, span: Span, until: i64, most: usize) -> Result<(), Fault> {
    let first = first_row(connection)?;
    let mut delete = connection.prepare_cached(
        "DELETE FROM periods WHERE (account, span, start) IN ( \
           SELECT account, span, start FROM periods AS old WHERE span = ? AND start <= ? \
           AND n_requests = a_requests AND n_errors = a_errors AND n_tokens = a_tokens AND n_input = a_input \
           AND n_output = a_output AND n_cached = a_cached AND n_cost = a_cost \
           AND NOT EXISTS (SELECT 1 FROM rezones WHERE rezones.account = old.account AND row >= ?) \
           LIMIT ?)",
    )?;
    delete.execute(params![span as u8, until, first, column(most as u64)])?;
    Ok(())
}
