//! Which rows are asked for, as SQL that reads no more of the file than it must.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::fault::Fault;
use super::rows::column;
use super::{names, postings};
use crate::account::{AccountId, Scope};
use crate::clock::SECOND;
use crate::error::{Code, Error, Result};
use crate::usage::history::Kind;

/// The most rows that one question can ask for.
pub const MOST_ROWS: usize = 100_000;

/// A question to history. What is not set does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The workspace.
    pub workspace: Option<String>,
    /// The goal.
    pub goal: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// From this time on (wall nanoseconds).
    pub since: Option<i64>,
    /// Before this time (wall nanoseconds).
    pub until: Option<i64>,
    /// Of these kinds; of all where there are none.
    pub kinds: Vec<Kind>,
    /// Rows that come after the row of this number, in the order asked for.
    pub after: Option<i64>,
    /// At most so many, and [`MOST_ROWS`] at most.
    pub limit: usize,
    /// The newest first, instead of the oldest.
    pub newest_first: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            workspace: None,
            goal: None,
            task: None,
            model: None,
            user: None,
            since: None,
            until: None,
            kinds: Vec::new(),
            after: None,
            limit: 1_000,
            newest_first: false,
        }
    }
}

impl Query {
    /// # Errors
    /// [`Code::InvalidNumber`] where more than [`MOST_ROWS`] are asked for.
    pub(super) fn check(&self) -> Result<()> {
        if self.limit <= MOST_ROWS {
            return Ok(());
        }
        let expected = format!("at most {MOST_ROWS} rows; ask again with 'after' set to the last row's id");
        Err(Error::invalid(Code::InvalidNumber, "limit", self.limit, &expected))
    }

    /// The accounts that it names, each with its column.
    pub(super) fn named(&self) -> impl Iterator<Item = (Scope, &'static str, &str)> {
        [
            (Scope::Workspace, "workspace", &self.workspace),
            (Scope::Goal, "goal", &self.goal),
            (Scope::Task, "task", &self.task),
            (Scope::Model, "model", &self.model),
            (Scope::User, "user", &self.user),
        ]
        .into_iter()
        .filter_map(|(scope, column, name)| name.as_deref().map(|name| (scope, column, name)))
    }
}

/// Which rows of the table `history`: conditions with their values, between two numbers, and of one workspace alone.
#[derive(Debug, Default)]
pub(super) struct Filter {
    conditions: Vec<String>,
    values: Vec<Value>,
    between: (i64, i64),
    workspace: Option<i64>,
}

impl Filter {
    /// The conditions of a question; `None` where no row can meet them.
    pub(super) fn of(connection: &Connection, query: &Query) -> Result<Option<Self>, Fault> {
        let mut filter = Self::default();
        let (mut first, mut last) = (i64::MIN, i64::MAX);
        for (scope, column, name) in query.named() {
            let owner = match (scope, query.workspace.as_deref()) {
                (Scope::Workspace, _) => "",
                (_, Some(workspace)) => workspace,
                (_, None) => {
                    // In whichever workspace.
                    let in_any = format!("history.{column} IN (SELECT id FROM accounts WHERE scope = ? AND name = ?)");
                    filter.push(in_any, [Value::from(scope as u8), Value::from(name.to_owned())]);
                    continue;
                }
            };
            let Some(id) = names::find(connection, &AccountId { scope, owner, name })? else { return Ok(None) };
            filter.push(format!("history.{column} = ?"), [Value::from(id)]);
            if scope == Scope::Workspace {
                filter.workspace = Some(id);
            }
            let mut rows = connection.prepare_cached("SELECT first_row, last_row FROM accounts WHERE id = ?")?;
            let of: (i64, i64) = rows.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            (first, last) = (first.max(of.0), last.min(of.1));
        }
        if let Some((from, until)) = hours(connection, query)? {
            (first, last) = (first.max(from), last.min(until));
        }
        match query.after {
            Some(after) if query.newest_first => last = last.min(after.saturating_sub(1)),
            Some(after) => first = first.max(after.saturating_add(1)),
            None => {}
        }
        filter.between = (first, last);
        if let Some(since) = query.since {
            filter.push("history.at >= ?".to_owned(), [Value::from(since)]);
        }
        if let Some(until) = query.until {
            filter.push("history.at < ?".to_owned(), [Value::from(until)]);
        }
        if !query.kinds.is_empty() {
            let kinds: Vec<String> = query.kinds.iter().map(|kind| (*kind as u8).to_string()).collect();
            filter.push(format!("history.kind IN ({})", kinds.join(", ")), []);
        }
        Ok((first <= last).then_some(filter))
    }

    fn push<const N: usize>(&mut self, condition: String, values: [Value; N]) {
        self.conditions.push(condition);
        self.values.extend(values);
    }

    /// Leaves out what would count twice beside the calls: charges that a settle replaced, and every correction but those of
    /// the totals of the accounts that are asked for; without any, of workspaces and limiters.
    pub(super) fn each_use_once(&mut self, query: &Query) {
        self.push("history.replaced = 0".to_owned(), []);
        let mut asked: Vec<&str> = query.named().map(|(_, column, _)| column).collect();
        asked.push(if asked.is_empty() { "limiter" } else { "workspace" });
        asked.push("workspace");
        let columns = ["workspace", "goal", "task", "model", "user", "credential", "provider_model", "limiter"];
        let others = columns.into_iter().filter(|column| !asked.contains(column));
        let others: Vec<String> = others.map(|column| format!("history.{column} IS NULL")).collect();
        self.push(format!("(history.kind NOT IN (7, 8) OR (history.span = 0 AND {}))", others.join(" AND ")), []);
    }

    /// Calls `each` with these columns of the rows, in the order asked for, at most `limit` of them.
    pub(super) fn each(
        &self,
        connection: &Connection,
        columns: &str,
        (newest_first, limit): (bool, usize),
        mut each: impl FnMut(&Row<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let conditions: String = self.conditions.iter().map(|condition| format!("{condition} AND ")).collect();
        let order = if newest_first { "DESC" } else { "ASC" };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {columns} FROM history WHERE {conditions} id BETWEEN ? AND ? ORDER BY id {order} LIMIT ?"
        ))?;
        let mut left = column(limit as u64);
        let mut read = |from: i64, to: i64| -> Result<bool, Fault> {
            let values = self.values.iter().cloned().chain([from, to, left].map(Value::from));
            let mut rows = statement.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                left -= 1;
                each(row)?;
            }
            Ok(left > 0)
        };
        match self.workspace {
            Some(workspace) => postings::ranges(connection, workspace, self.between, newest_first, read),
            None => read(self.between.0, self.between.1).map(|_more| ()),
        }
    }
}

/// The first and the last row of the hours in which the time lies; `None` where any time will do.
///
/// Rows are in the order in which they landed. A clock that is set back makes the numbers of an hour reach further, and the
/// times of the rows decide.
fn hours(connection: &Connection, query: &Query) -> Result<Option<(i64, i64)>, Fault> {
    if query.since.is_none() && query.until.is_none() {
        return Ok(None);
    }
    let hour = 3_600 * SECOND;
    let from = query.since.map_or(i64::MIN, |since| since.div_euclid(hour));
    let until = query.until.map_or(i64::MAX, |until| until.saturating_sub(1).div_euclid(hour));
    let mut rows =
        connection.prepare_cached("SELECT min(first_row), max(last_row) FROM hours WHERE hour BETWEEN ? AND ?")?;
    let (first, last) =
        rows.query_row(params![from, until], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    // No row: a range of numbers that is empty.
    Ok(Some((first.unwrap_or(i64::MAX), last.unwrap_or(i64::MIN))))
}
