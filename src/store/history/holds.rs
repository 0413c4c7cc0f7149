//! Open holds: what a power cut would leave without an end. A hold that is granted and ended between two transactions never
//! gets here.

use std::collections::{HashMap, HashSet};

use rusqlite::{CachedStatement, Connection, params};

use super::fault::Fault;
use super::rows::{Places, column};
use crate::usage::history::Held;

/// A hold without an end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) held: Held,
    pub(super) places: Places,
    pub(super) started: bool,
}

/// The open holds, as one batch changes them.
pub(super) struct OpenHolds<'c> {
    connection: &'c Connection,
    granted: HashMap<u64, Open>,
    mark: CachedStatement<'c>,
    forget: CachedStatement<'c>,
}

impl<'c> OpenHolds<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, Fault> {
        Ok(Self {
            connection,
            granted: HashMap::new(),
            mark: connection.prepare_cached("UPDATE open_holds SET started = 1 WHERE hold = ?")?,
            forget: connection.prepare_cached("DELETE FROM open_holds WHERE hold = ?")?,
        })
    }

    pub(super) fn grant(&mut self, held: Held, places: Places) {
        self.granted.insert(held.hold, Open { held, places, started: false });
    }

    pub(super) fn start(&mut self, hold: u64) -> Result<(), Fault> {
        match self.granted.get_mut(&hold) {
            Some(open) => open.started = true,
            None => {
                self.mark.execute([hold.cast_signed()])?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, hold: u64) -> Result<(), Fault> {
        if self.granted.remove(&hold).is_none() {
            self.forget.execute([hold.cast_signed()])?;
        }
        Ok(())
    }

    /// Writes those that the batch leaves open.
    pub(super) fn finish(self) -> Result<(), Fault> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO open_holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        for Open { held, places, started } in self.granted.into_values() {
            let [workspace, goal, task, model, user, credential, provider_model, limiter] = places.columns();
            insert.execute(params![
                held.hold.cast_signed(),
                started,
                held.granted,
                column(held.requests),
                column(held.tokens),
                column(held.cost),
                workspace,
                goal,
                task,
                model,
                user,
                credential,
                provider_model,
                limiter,
            ])?;
        }
        Ok(())
    }
}

/// Every open hold, the oldest first.
pub(super) fn all(connection: &Connection) -> Result<Vec<Open>, Fault> {
    let mut rows = connection.prepare_cached("SELECT * FROM open_holds ORDER BY granted, hold")?;
    let mut rows = rows.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let held = Held {
            hold: row.get::<_, i64>(0)?.cast_unsigned(),
            granted: row.get(2)?,
            requests: row.get::<_, i64>(3)?.unsigned_abs(),
            tokens: row.get::<_, i64>(4)?.unsigned_abs(),
            cost: row.get::<_, i64>(5)?.unsigned_abs(),
        };
        open.push(Open { held, started: row.get(1)?, places: Places::read(row, 6)? });
    }
    Ok(open)
}

/// Forgets those that are not among `open`; answers how many.
pub(super) fn keep_only(connection: &Connection, open: &[u64]) -> Result<usize, Fault> {
    let open: HashSet<u64> = open.iter().copied().collect();
    let mut rows = connection.prepare_cached("SELECT hold FROM open_holds")?;
    let saved: Vec<i64> = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut forget = connection.prepare_cached("DELETE FROM open_holds WHERE hold = ?")?;
    let mut forgotten = 0;
    for hold in saved.into_iter().filter(|hold| !open.contains(&hold.cast_unsigned())) {
        forgotten += forget.execute([hold])?;
    }
    Ok(forgotten)
}
