//! Which rows are a workspace's: for each transaction and workspace the ranges of their numbers. An index of SQLite would put
//! each row in its own place, which takes half as long again as the row itself; this takes one place for all of them.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;

/// Rows of others between two rows of a workspace that are read over, rather than begin another range.
const READ_OVER: i64 = 16;

/// Bytes of ranges from which on another posting begins.
const LONGEST: usize = 4_096;

/// The rows of workspaces in one transaction.
#[derive(Debug, Default)]
pub(super) struct Postings {
    open: HashMap<i64, Posting>,
    full: Vec<(i64, Posting)>,
}

/// Rows of one workspace, all between two numbers.
#[derive(Debug)]
struct Posting {
    first: i64,
    last: i64,
    /// Of the last range, which is open.
    begins: i64,
    /// Where the last closed range ended.
    closed: i64,
    /// The closed ranges: for each, how far after the one before it begins, and how far it goes.
    ranges: Vec<u8>,
}

impl Posting {
    fn new(row: i64) -> Self {
        Self { first: row, last: row, begins: row, closed: row, ranges: Vec::new() }
    }

    fn close(&mut self) {
        put_number(&mut self.ranges, self.begins.abs_diff(self.closed));
        put_number(&mut self.ranges, self.last.abs_diff(self.begins));
        self.closed = self.last;
    }
}

impl Postings {
    /// Notes a row; numbers rise.
    pub(super) fn note(&mut self, workspace: i64, row: i64) {
        let posting = self.open.entry(workspace).or_insert_with(|| Posting::new(row));
        if row.saturating_sub(posting.last) > READ_OVER {
            posting.close();
            posting.begins = row;
        }
        if posting.ranges.len() > LONGEST {
            let mut full = std::mem::replace(posting, Posting::new(row));
            full.last = full.closed;
            self.full.push((workspace, full));
        }
        posting.last = row;
    }

    /// Writes what was noted.
    pub(super) fn finish(self, connection: &Connection) -> Result<(), Fault> {
        let mut insert = connection.prepare_cached("INSERT INTO workspace_rows VALUES (?, ?, ?, ?)")?;
        for (workspace, posting) in self.full {
            insert.execute(params![workspace, posting.first, posting.last, posting.ranges])?;
        }
        let mut open: Vec<_> = self.open.into_iter().collect();
        open.sort_unstable_by_key(|(workspace, _)| *workspace);
        for (workspace, mut posting) in open {
            if !posting.ranges.is_empty() {
                posting.close();
            }
            // A single range is what the two numbers say.
            let ranges = Some(posting.ranges).filter(|ranges| !ranges.is_empty());
            insert.execute(params![workspace, posting.first, posting.last, ranges])?;
        }
        Ok(())
    }
}

/// Calls `each` with ranges of numbers that hold all rows of a workspace from `first` to `last`, and some of others, in the
/// order asked for, as long as it answers true.
pub(super) fn ranges(
    connection: &Connection,
    workspace: i64,
    (first, last): (i64, i64),
    newest_first: bool,
    mut each: impl FnMut(i64, i64) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    // The posting that begins before the first number may still reach it.
    let mut begin = connection.prepare_cached(
        "SELECT first FROM workspace_rows WHERE workspace = ? AND first <= ? ORDER BY first DESC LIMIT 1",
    )?;
    let begin = begin.query_row([workspace, first], |row| row.get(0)).optional()?.unwrap_or(first);
    let order = if newest_first { "DESC" } else { "ASC" };
    let mut postings = connection.prepare_cached(&format!(
        "SELECT first, last, ranges FROM workspace_rows WHERE workspace = ? AND first BETWEEN ? AND ? \
         ORDER BY first {order}"
    ))?;
    let mut postings = postings.query([workspace, begin, last])?;
    while let Some(posting) = postings.next()? {
        let ranges = posting.get_ref(2)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let mut ranges = match ranges {
            Some(ranges) => read_ranges(posting.get(0)?, ranges)?,
            None => vec![(posting.get(0)?, posting.get(1)?)],
        };
        if newest_first {
            ranges.reverse();
        }
        for (from, to) in ranges {
            let (from, to) = (from.max(first), to.min(last));
            if from <= to && !each(from, to)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Forgets the postings of a workspace that end before a row.
pub(super) fn forget(connection: &Connection, workspace: i64, until: i64) -> Result<(), Fault> {
    let mut delete =
        connection.prepare_cached("DELETE FROM workspace_rows WHERE workspace = ? AND first <= ? AND last <= ?")?;
    delete.execute([workspace, until, until])?;
    Ok(())
}

fn read_ranges(first: i64, mut bytes: &[u8]) -> Result<Vec<(i64, i64)>, Fault> {
    let damaged = || Fault::damaged("the rows of a workspace are not listed as they should be");
    let (mut ranges, mut end) = (Vec::new(), first);
    while !bytes.is_empty() {
        let mut next = || take_number(&mut bytes).and_then(|number| i64::try_from(number).ok());
        let (gap, length) = next().zip(next()).ok_or_else(damaged)?;
        let from = end.checked_add(gap).ok_or_else(damaged)?;
        end = from.checked_add(length).ok_or_else(damaged)?;
        ranges.push((from, end));
    }
    Ok(ranges)
}

/// Seven bits a byte, the low ones first; the high bit says that more follow.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for number in [0, 1, 127, 128, 300, 1 << 21, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert_eq!((take_number(&mut rest), rest.len()), (Some(number), 0));
        }
        assert_eq!(take_number(&mut [0x80_u8].as_slice()), None);
    }

    #[test]
    fn ranges_hold_every_row_of_a_workspace_and_few_others() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE workspace_rows (workspace, first, last, ranges, PRIMARY KEY (workspace, first))",
            )
            .unwrap();
        let mut rows = Vec::new();
        let mut postings = Postings::default();
        let mut row = 1;
        for step in 0_i64..20_000 {
            row += 1 + (step * step) % 40;
            rows.push(row);
            postings.note(7, row);
            if step % 9_000 == 8_999 {
                std::mem::take(&mut postings).finish(&connection).unwrap();
            }
        }
        postings.finish(&connection).unwrap();
        let listed = |first, last, newest_first| {
            let mut listed = Vec::new();
            ranges(&connection, 7, (first, last), newest_first, |from, to| {
                listed.push((from, to));
                Ok(true)
            })
            .unwrap();
            listed
        };
        for (first, last) in [(i64::MIN, i64::MAX), (rows[5], rows[19_000]), (rows[17] + 1, rows[17] + 1), (row, row)] {
            let found = listed(first, last, false);
            let wanted = rows.iter().filter(|row| (first..=last).contains(*row));
            let mut missing = wanted.filter(|row| !found.iter().any(|(from, to)| (from..=to).contains(row)));
            assert_eq!(missing.next(), None);
            let read: i64 = found.iter().map(|(from, to)| to - from + 1).sum();
            assert!(read <= rows.len() as i64 * (READ_OVER + 1), "{read}");
            assert!(found.is_sorted());
            let mut reversed = listed(first, last, true);
            reversed.reverse();
            assert_eq!(reversed, found);
        }
    }
}
