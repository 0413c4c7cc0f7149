//! History as it lies in its file, read without the engine.

use std::collections::HashMap;

use llmquota::usage::history::Kind;
use rusqlite::{Connection, OpenFlags};

use crate::stage::Stage;

/// What an account is called: its scope, the name of what it lies inside, and its own.
pub(crate) type Name = (u8, String, String);

/// Amounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) requests: i64,
    pub(crate) tokens: i64,
    pub(crate) cost: i64,
}

/// A hold, as the row of its end tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) hold: u64,
    /// When it was granted (wall nanoseconds).
    pub(crate) granted: i64,
    pub(crate) amounts: Amounts,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// When it landed (wall nanoseconds).
    pub(crate) at: i64,
    /// Its accounts, by number.
    pub(crate) accounts: Vec<i64>,
    pub(crate) amounts: Amounts,
    pub(crate) request_id: Option<String>,
    pub(crate) held: Option<Held>,
    pub(crate) replaces: bool,
    pub(crate) lands_now: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    pub(crate) accounts: HashMap<i64, Name>,
    pub(crate) open_holds: u64,
}

pub(crate) fn connect(stage: &Stage) -> Connection {
    let connection = Connection::open_with_flags(stage.history(), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    connection
}

pub(crate) fn read(stage: &Stage) -> Rows {
    let connection = connect(stage);
    let mut found = Rows::default();
    let names =
        "SELECT a.id, a.scope, coalesce(o.name, ''), a.name FROM accounts a LEFT JOIN accounts o ON o.id = a.owner";
    let mut statement = connection.prepare(names).unwrap();
    let accounts = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))).unwrap();
    found.accounts = accounts.map(Result::unwrap).collect();
    let open = connection.query_row("SELECT count(*) FROM open_holds", [], |row| row.get::<_, i64>(0));
    found.open_holds = open.unwrap().unsigned_abs();
    let columns = "SELECT kind, at, requests, tokens, cost, request_id, hold, granted, held_requests, held_tokens, held_cost, \
                   replaces, lands_now, workspace, goal, task, model, user, credential, provider_model FROM history ORDER BY id";
    let mut statement = connection.prepare(columns).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let number = |column: usize| row.get::<_, i64>(column).unwrap();
        let amounts = |at: usize| Amounts { requests: number(at), tokens: number(at + 1), cost: number(at + 2) };
        let hold: Option<i64> = row.get(6).unwrap();
        found.rows.push(Row {
            kind: Kind::from_u8(row.get(0).unwrap()).unwrap(),
            at: number(1),
            accounts: (13..20).filter_map(|column| row.get::<_, Option<i64>>(column).unwrap()).collect(),
            amounts: amounts(2),
            request_id: row.get(5).unwrap(),
            held: hold.map(|hold| Held { hold: hold.cast_unsigned(), granted: number(7), amounts: amounts(8) }),
            replaces: row.get(11).unwrap(),
            lands_now: row.get(12).unwrap(),
        });
    }
    found
}
