//! Accounts by their names: the number of each, made where there is none.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use crate::account::{AccountId, Scope};
use crate::usage::history::Named;

/// How many numbers are remembered between batches; the rest is looked up.
const REMEMBERED: usize = 1 << 16;

/// The numbers of accounts, as far as they are remembered. A number is for ever, but a batch that fails takes back those it
/// gave: then all have to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Vec<u8>, Numbers>,
    key: Vec<u8>,
}

/// The number of an account and of the one it lies inside, 0 where that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) id: i64,
    pub(super) owner: i64,
}

/// Which scope the owner of an account has; `None` for the outermost.
pub(super) fn owner_scope(scope: Scope) -> Option<Scope> {
    match scope {
        Scope::Goal | Scope::Task | Scope::Model | Scope::User => Some(Scope::Workspace),
        Scope::ProviderModel => Some(Scope::Credential),
        Scope::Workspace | Scope::Credential | Scope::Limiter => None,
    }
}

/// The number of an account that may be saved.
pub(super) fn find(connection: &Connection, account: &AccountId<'_>) -> Result<Option<i64>, Fault> {
    let owner = match owner_scope(account.scope) {
        None if account.owner.is_empty() => Some(0),
        None => None,
        Some(scope) => find_in(connection, scope, 0, account.owner)?,
    };
    owner.map_or(Ok(None), |owner| find_in(connection, account.scope, owner, account.name))
}

fn find_in(connection: &Connection, scope: Scope, owner: i64, name: &str) -> Result<Option<i64>, Fault> {
    let mut find = connection.prepare_cached("SELECT id FROM accounts WHERE scope = ? AND owner = ? AND name = ?")?;
    Ok(find.query_row(params![scope as u8, owner, name], |row| row.get(0)).optional()?)
}

impl Names {
    /// The numbers of an account, which is made where there is none, and so is its owner.
    pub(super) fn numbers(&mut self, connection: &Connection, named: &Named, row: i64) -> Result<Numbers, Fault> {
        self.key.clear();
        self.key.push(named.scope as u8);
        self.key.extend_from_slice(named.owner.as_bytes());
        // No id has a control character.
        self.key.push(0);
        self.key.extend_from_slice(named.name.as_bytes());
        if let Some(numbers) = self.known.get(&self.key) {
            return Ok(*numbers);
        }
        let key = self.key.clone();
        let owner = match owner_scope(named.scope) {
            Some(scope) => {
                let (name, zone) = (named.owner.clone(), named.zone.clone());
                self.numbers(connection, &Named { scope, owner: String::new(), name, zone }, row)?.id
            }
            None if named.owner.is_empty() => 0,
            None => {
                return Err(Fault::damaged(format!(
                    "'{}' lies inside an account, which none of its scope does",
                    named.name
                )));
            }
        };
        let id = match find_in(connection, named.scope, owner, &named.name)? {
            Some(id) => id,
            None => insert(connection, named, owner, row)?,
        };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let numbers = Numbers { id, owner };
        self.known.insert(key, numbers);
        Ok(numbers)
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

fn insert(connection: &Connection, named: &Named, owner: i64, row: i64) -> Result<i64, Fault> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO accounts (scope, owner, name, zone_first, zone, seen, first_row, last_row) \
         VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
    )?;
    Ok(insert.insert(params![named.scope as u8, owner, named.name, named.zone, named.zone, row, row])?)
}
