//! The tables, and the way to an open connection: a new file is made, our own is taken or migrated, a newer one and anybody
//! else's are refused and left as they are.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::Fault;
use crate::error::{Code, Error};

/// Marks the file as ours: `llmq`.
const APPLICATION: i32 = 0x6c6c_6d71;

/// What brings a file from the version of its place to the next; the first makes it.
const MIGRATIONS: [&str; 1] = [TABLES];

/// How long a statement waits for another process: a repair, or the recovery after a crash.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pages of the write-ahead log between two checkpoints, each of which syncs the file itself: 32 MiB.
const CHECKPOINT_PAGES: i64 = 8_192;

/// `n_*` are the sums as they stand; `a_*` what rows had added to them that retention has deleted since.
///
/// No row of history is in an index of its own. `workspace_rows` says which numbers the rows of a workspace have, a
/// transaction at a time, `hours` which numbers the rows of a time have, and `accounts` between which numbers an account's rows
/// lie; orphans alone, which a settle may have to find, are indexed by their hold.
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('next_sequence', 1), ('next_row', 1), ('last_hold', 0);

CREATE TABLE accounts (
  id INTEGER PRIMARY KEY, scope INTEGER NOT NULL, owner INTEGER NOT NULL, name TEXT NOT NULL,
  zone_first TEXT NOT NULL, zone TEXT NOT NULL, rezones INTEGER NOT NULL DEFAULT 0,
  seen INTEGER NOT NULL, last_error INTEGER, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL,
  n_requests INTEGER NOT NULL DEFAULT 0, n_errors INTEGER NOT NULL DEFAULT 0, n_tokens INTEGER NOT NULL DEFAULT 0,
  n_input INTEGER NOT NULL DEFAULT 0, n_output INTEGER NOT NULL DEFAULT 0, n_cached INTEGER NOT NULL DEFAULT 0,
  n_cost INTEGER NOT NULL DEFAULT 0,
  a_requests INTEGER NOT NULL DEFAULT 0, a_errors INTEGER NOT NULL DEFAULT 0, a_tokens INTEGER NOT NULL DEFAULT 0,
  a_input INTEGER NOT NULL DEFAULT 0, a_output INTEGER NOT NULL DEFAULT 0, a_cached INTEGER NOT NULL DEFAULT 0,
  a_cost INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX accounts_by_name ON accounts (scope, owner, name);

CREATE TABLE periods (
  account INTEGER NOT NULL, span INTEGER NOT NULL, start INTEGER NOT NULL,
  n_requests INTEGER NOT NULL DEFAULT 0, n_errors INTEGER NOT NULL DEFAULT 0, n_tokens INTEGER NOT NULL DEFAULT 0,
  n_input INTEGER NOT NULL DEFAULT 0, n_output INTEGER NOT NULL DEFAULT 0, n_cached INTEGER NOT NULL DEFAULT 0,
  n_cost INTEGER NOT NULL DEFAULT 0,
  a_requests INTEGER NOT NULL DEFAULT 0, a_errors INTEGER NOT NULL DEFAULT 0, a_tokens INTEGER NOT NULL DEFAULT 0,
  a_input INTEGER NOT NULL DEFAULT 0, a_output INTEGER NOT NULL DEFAULT 0, a_cached INTEGER NOT NULL DEFAULT 0,
  a_cost INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (account, span, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX periods_by_start ON periods (span, start);

CREATE TABLE history (
  id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at INTEGER NOT NULL,
  workspace INTEGER, goal INTEGER, task INTEGER, model INTEGER, user INTEGER, credential INTEGER,
  provider_model INTEGER, limiter INTEGER,
  requests INTEGER NOT NULL, errors INTEGER NOT NULL, tokens INTEGER NOT NULL, input INTEGER NOT NULL,
  output INTEGER NOT NULL, cached INTEGER NOT NULL, cost INTEGER NOT NULL, reasoning INTEGER NOT NULL,
  estimated INTEGER NOT NULL, failure INTEGER, method TEXT, request_id TEXT, latency_ms INTEGER,
  hold INTEGER, granted INTEGER, held_requests INTEGER, held_tokens INTEGER, held_cost INTEGER,
  replaces INTEGER NOT NULL DEFAULT 0, lands_now INTEGER NOT NULL DEFAULT 0, replaced INTEGER NOT NULL DEFAULT 0,
  span INTEGER, start INTEGER
) STRICT;
CREATE INDEX history_orphans ON history (hold) WHERE kind = 6;

CREATE TABLE workspace_rows (
  workspace INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, ranges BLOB,
  PRIMARY KEY (workspace, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE hours (hour INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL) STRICT;

CREATE TABLE rezones (
  row INTEGER PRIMARY KEY, account INTEGER NOT NULL, at INTEGER NOT NULL, zone TEXT NOT NULL,
  was_hour INTEGER NOT NULL, was_day INTEGER NOT NULL, was_month INTEGER NOT NULL,
  is_hour INTEGER NOT NULL, is_day INTEGER NOT NULL, is_month INTEGER NOT NULL
) STRICT;
CREATE INDEX rezones_by_account ON rezones (account);

CREATE TABLE open_holds (
  hold INTEGER PRIMARY KEY, started INTEGER NOT NULL, granted INTEGER NOT NULL,
  requests INTEGER NOT NULL, tokens INTEGER NOT NULL, cost INTEGER NOT NULL,
  workspace INTEGER, goal INTEGER, task INTEGER, model INTEGER, user INTEGER, credential INTEGER,
  provider_model INTEGER, limiter INTEGER
) STRICT;

CREATE TABLE breakers (
  scope INTEGER NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, cause INTEGER NOT NULL, strikes INTEGER NOT NULL,
  opened INTEGER NOT NULL, until INTEGER NOT NULL, half INTEGER NOT NULL,
  calls INTEGER NOT NULL, calls_before INTEGER NOT NULL, failures INTEGER NOT NULL, failures_before INTEGER NOT NULL,
  PRIMARY KEY (scope, owner, name)
) STRICT, WITHOUT ROWID;
";

/// Opens the file for the one who writes it, and makes it where there is none.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    // Until it is known whose file it is, closing it must not tidy it up either.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let from = version_of(&connection, path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let message = format!(
            "{}: the file system under it cannot keep a write-ahead log; put the store on a local disk",
            path.display()
        );
        return Err(Error::new(Code::StoreDamaged, "store", message).into());
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 4_096 * CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    connection.set_prepared_statement_cache_capacity(64);
    if from < MIGRATIONS.len() {
        migrate(&mut connection, path)?;
    }
    Ok(connection)
}

/// Opens a file that is there, for somebody who only reads.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    if version_of(&connection, path)? < MIGRATIONS.len() {
        let message = format!("{}: no history was begun in it yet by this version", path.display());
        return Err(Error::new(Code::StoreDamaged, "store", message).into());
    }
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -8_000)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// What both kinds of connections need.
fn settle(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(PATIENCE)?;
    // Else some statements are planned anew for each value that they are run with.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// How many migrations the file has had; 0 for a new one.
fn version_of(connection: &Connection, path: &Path) -> Result<usize, Fault> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let refused = |why: &str| {
        let message = format!("{}: {why}", path.display());
        Fault::from(Error::new(Code::StoreDamaged, "store", message))
    };
    match (application, version, tables) {
        (0, 0, 0) => Ok(0),
        (APPLICATION, _, _) => match usize::try_from(version) {
            Ok(version) if version > MIGRATIONS.len() => Err(refused("made by a newer llmquota; upgrade the package")),
            Ok(version) => Ok(version),
            Err(_) => Err(refused("its version is none of ours")),
        },
        _ => Err(refused("this is another program's database; it was left as it is, choose another directory")),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been first.
    let from = version_of(&transaction, path)?;
    for migration in MIGRATIONS.iter().skip(from) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(())
}
