//! Whether the sums are those of the rows: all rows are added up again, a part of the accounts at a time so that memory stays
//! small however many there are, and compared with what is kept.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;

use super::accumulate::{Ledger, Line};
use super::book::{AsOf, LineWriter, Tables, columns};
use super::fault::Fault;
use super::retention::first_row;
use super::rows::{replay, sums_from};
use crate::account::Scope;
use crate::usage::history::{Span, Sums};

/// About how many lines are added up at a time, some 200 bytes each.
const LINES_AT_ONCE: i64 = 1 << 18;

/// A sum that is not that of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What the account stands for.
    pub scope: Scope,
    /// What it lies inside.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// `total`, `hour`, `day` or `month`.
    pub span: &'static str,
    /// The start of the period (Unix seconds); 0 for the total.
    pub start: i64,
    /// `requests`, `errors`, `tokens`, `input`, `output`, `cached` or `cost`.
    pub field: &'static str,
    /// What is kept.
    pub kept: i64,
    /// What the rows add up to.
    pub recomputed: i64,
}

/// Every difference, by account and period.
pub(super) fn verify(connection: &Connection) -> Result<Vec<Difference>, Fault> {
    verify_in_parts(connection, LINES_AT_ONCE)
}

fn verify_in_parts(connection: &Connection, lines: i64) -> Result<Vec<Difference>, Fault> {
    // One look at all of it, whoever writes meanwhile.
    let transaction = connection.unchecked_transaction()?;
    let mut differences = Vec::new();
    for part in parts(&transaction, lines)? {
        for line in differing(&transaction, part)? {
            tell(&transaction, &line, &mut differences)?;
        }
    }
    Ok(differences)
}

/// Sets what differs to what the rows say; answers what differed. Inside an open transaction.
pub(super) fn repair(connection: &Connection) -> Result<Vec<Difference>, Fault> {
    let mut writer = LineWriter::new(connection, "n_")?;
    let mut differences = Vec::new();
    for part in parts(connection, LINES_AT_ONCE)? {
        for line in differing(connection, part)? {
            tell(connection, &line, &mut differences)?;
            writer.write(&line)?;
        }
    }
    Ok(differences)
}

/// Accounts that are looked at together.
#[derive(Debug, Clone, Copy)]
struct Part {
    accounts: (i64, i64),
    /// The rows that can name them.
    rows: (i64, i64),
}

/// All accounts, in parts of about so many lines each.
fn parts(connection: &Connection, most: i64) -> Result<Vec<Part>, Fault> {
    let mut counts = connection.prepare(
        "SELECT id, first_row, last_row, (SELECT count(*) FROM periods WHERE account = accounts.id) \
         FROM accounts ORDER BY id",
    )?;
    let mut accounts = counts.query([])?;
    let (mut parts, mut part, mut lines) = (Vec::new(), None, 0);
    while let Some(account) = accounts.next()? {
        let (id, first, last) = (account.get(0)?, account.get(1)?, account.get(2)?);
        let part_of = part.get_or_insert(Part { accounts: (id, id), rows: (first, last) });
        part_of.accounts.1 = id;
        part_of.rows = (part_of.rows.0.min(first), part_of.rows.1.max(last));
        lines += 1 + account.get::<_, i64>(3)?;
        if lines >= most {
            parts.extend(part.take());
            lines = 0;
        }
    }
    parts.extend(part);
    if let [all] = parts.as_mut_slice() {
        // Then it costs nothing to look at rows, too, that the accounts do not know of.
        all.rows = (i64::MIN, i64::MAX);
    }
    Ok(parts)
}

/// The lines of a part that differ: `before` is what is kept, `now` what the rows add up to.
fn differing(connection: &Connection, part: Part) -> Result<Vec<Line>, Fault> {
    let mut book = Tables::new(connection, AsOf::Row(first_row(connection)?))?;
    let mut ledger = Ledger::default();
    let (first, last) = part.accounts;
    replay(connection, part.rows.0, part.rows.1, |told| {
        let slots = told.slots(&mut ledger, &mut book, |id| (first..=last).contains(&id))?;
        ledger.take(&told.entry, told.start, &slots, &mut book)?;
        Ok(())
    })?;
    let mut added: BTreeMap<(i64, Span, i64), Sums> =
        ledger.into_lines().into_iter().map(|line| ((line.id, line.span, line.start), line.now)).collect();
    let mut differing = Vec::new();
    let (kept, without_rows) = (columns("n_"), columns("a_"));
    let mut lines = connection.prepare(&format!(
        "SELECT id, 0, 0, {kept}, {without_rows} FROM accounts WHERE id BETWEEN ?1 AND ?2 UNION ALL \
         SELECT account, span, start, {kept}, {without_rows} FROM periods WHERE account BETWEEN ?1 AND ?2"
    ))?;
    let mut rows = lines.query([first, last])?;
    while let Some(row) = rows.next()? {
        let span = Span::from_u8(row.get(1)?).ok_or_else(|| Fault::damaged("a period is of an unknown span"))?;
        let (id, start, before) = (row.get(0)?, row.get(2)?, sums_from(row, 3)?);
        let now = added.remove(&(id, span, start)).map_or_else(|| sums_from(row, 10), Ok)?;
        if before != now {
            differing.push(Line { id, span, start, before, now });
        }
    }
    // A period that is kept no longer counted nothing beside rows that are deleted.
    let lost = added.into_iter().filter(|(_, now)| !now.is_zero());
    differing.extend(lost.map(|((id, span, start), now)| Line { id, span, start, before: Sums::default(), now }));
    differing.sort_unstable_by_key(|line| (line.id, line.span, line.start));
    Ok(differing)
}

/// The fields of a line that differ, with the account's names.
fn tell(connection: &Connection, line: &Line, differences: &mut Vec<Difference>) -> Result<(), Fault> {
    let mut names = connection.prepare_cached(
        "SELECT scope, coalesce((SELECT name FROM accounts AS outer WHERE outer.id = inner.owner), ''), name \
         FROM accounts AS inner WHERE id = ?",
    )?;
    let (scope, owner, name): (u8, String, String) =
        names.query_row([line.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let scope = Scope::from_u8(scope).ok_or_else(|| Fault::damaged(format!("'{name}' is of an unknown scope")))?;
    let fields = ["requests", "errors", "tokens", "input", "output", "cached", "cost"];
    let values = line.before.fields().into_iter().zip(line.now.fields());
    for (field, (kept, recomputed)) in fields.into_iter().zip(values).filter(|(_, (kept, now))| kept != now) {
        let (owner, name) = (owner.clone(), name.clone());
        let span = line.span.as_str();
        differences.push(Difference { scope, owner, name, span, start: line.start, field, kept, recomputed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::history::batch::Batch;
    use crate::store::history::names::Names;
    use crate::store::history::rows::blank;
    use crate::store::history::schema;
    use crate::usage::history::{Entry, Kind, Named};

    #[test]
    fn parts_find_what_the_whole_does() {
        let path = std::env::temp_dir().join(format!("llmquota-parts-{}.db", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let connection = schema::open_to_write(&path).unwrap();
        let named = |scope, owner: &str, name: &str| Named {
            scope,
            owner: owner.to_owned(),
            name: name.to_owned(),
            zone: "UTC".to_owned(),
        };
        let mut accounts = vec![named(Scope::Workspace, "", "acme")];
        accounts.extend((0..20).map(|task| named(Scope::Task, "acme", &format!("task-{task}"))));
        let sums = Sums { requests: 1, tokens: 10, ..Sums::default() };
        let entries: Vec<Entry> = (0..200)
            .map(|step| Entry {
                sequence: 1 + step,
                accounts: vec![0, 1 + (step / 10) as u32],
                sums,
                ..blank(Kind::Record, 1_769_899_800_000_000_000 + step as i64 * 60_000_000_000)
            })
            .collect();
        let mut names = Names::default();
        let mut batch = Batch::begin(&connection, &mut names).unwrap();
        batch.take(&accounts, &entries).unwrap();
        batch.finish().unwrap();
        assert!(parts(&connection, 7).unwrap().len() > 5);
        assert_eq!(verify_in_parts(&connection, 7).unwrap(), []);
        connection
            .execute_batch(
                "UPDATE accounts SET n_tokens = 3 WHERE name IN ('acme', 'task-0', 'task-19');
                 DELETE FROM periods WHERE account = 5 AND span = 2",
            )
            .unwrap();
        let whole = verify(&connection).unwrap();
        assert_eq!(whole.len(), 5, "{whole:?}");
        assert_eq!(verify_in_parts(&connection, 7).unwrap(), whole);
        drop(connection);
        std::fs::remove_file(&path).unwrap();
    }
}
