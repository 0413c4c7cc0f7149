//! The breakers, as they are found again after the region is lost.

use rusqlite::{Connection, params};

use super::SavedBreaker;
use super::fault::Fault;
use crate::account::Scope;
use crate::rules::breaker::Cause;

/// Replaces all of them.
pub(super) fn put(connection: &Connection, breakers: &[SavedBreaker]) -> Result<(), Fault> {
    connection.execute("DELETE FROM breakers", [])?;
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO breakers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    for breaker in breakers {
        insert.execute(params![
            breaker.scope as u8,
            breaker.owner,
            breaker.name,
            breaker.cause as u8,
            breaker.strikes,
            breaker.opened,
            breaker.until,
            breaker.half,
            breaker.calls[0],
            breaker.calls[1],
            breaker.failures[0],
            breaker.failures[1],
        ])?;
    }
    Ok(())
}

/// All of them, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<SavedBreaker>, Fault> {
    let mut rows = connection.prepare_cached("SELECT * FROM breakers ORDER BY scope, owner, name")?;
    let mut rows = rows.query([])?;
    let mut breakers = Vec::new();
    while let Some(row) = rows.next()? {
        let scope = Scope::from_u8(row.get(0)?).ok_or_else(|| Fault::damaged("a breaker is of an unknown scope"))?;
        breakers.push(SavedBreaker {
            scope,
            owner: row.get(1)?,
            name: row.get(2)?,
            cause: Cause::from_u8(row.get(3)?),
            strikes: row.get(4)?,
            opened: row.get(5)?,
            until: row.get(6)?,
            half: row.get(7)?,
            calls: [row.get(8)?, row.get(9)?],
            failures: [row.get(10)?, row.get(11)?],
        });
    }
    Ok(breakers)
}
