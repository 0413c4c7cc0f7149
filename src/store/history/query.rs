//! Rows and sums for people and exports: numbers as names, times as text, money exact.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Serialize, Serializer};

use super::fault::Fault;
use super::filter::{Filter, Query};
use super::rows::sums_from;
use super::{book, names};
use crate::account::{AccountId, Scope};
use crate::clock::SECOND;
use crate::error::{Code, Error};
use crate::rules::breaker::FailureKind;
use crate::rules::windows::rfc3339;
use crate::store::HoldId;
use crate::usage::NanoUsd;
use crate::usage::history::{Kind, Span, Sums};

/// What was used, or how a correction changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amounts {
    /// Requests, failed ones too.
    pub requests: i64,
    /// Failed requests.
    pub errors: i64,
    /// All tokens.
    pub tokens: i64,
    /// Tokens sent.
    pub input_tokens: i64,
    /// Tokens made.
    pub output_tokens: i64,
    /// Cached tokens of those sent.
    pub cached_tokens: i64,
    /// US dollars; serialised as a text of plain digits, which loses nothing.
    #[serde(serialize_with = "exact")]
    pub cost_usd: NanoUsd,
}

fn exact<S: Serializer>(amount: &NanoUsd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

impl From<Sums> for Amounts {
    fn from(sums: Sums) -> Self {
        Self {
            requests: sums.requests,
            errors: sums.errors,
            tokens: sums.tokens,
            input_tokens: sums.input,
            output_tokens: sums.output,
            cached_tokens: sums.cached,
            cost_usd: NanoUsd::from_nanos(sums.cost),
        }
    }
}

/// One row of history. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its number: rises in the order in which rows landed, and is [`Query::after`] of the next question.
    pub id: i64,
    /// `record`, `settle`, `release`, `orphan`, `adjust`, `overflow` or `rezone`.
    pub kind: &'static str,
    /// When it landed.
    pub at: String,
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
    /// `provider/credential`.
    pub credential: Option<String>,
    /// The limiter, alone in its row.
    pub limiter: Option<String>,
    /// What was used; for a correction the change.
    #[serde(flatten)]
    pub amounts: Amounts,
    /// Tokens made that are hidden reasoning.
    pub reasoning_tokens: i64,
    /// `exact` or `estimated`.
    pub certainty: &'static str,
    /// `ok`, or the word of the failure.
    pub outcome: &'static str,
    /// The provider's method.
    pub method: Option<String>,
    /// The provider's name for the request.
    pub request_id: Option<String>,
    /// How long the call took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// The hold, as it was named to its owner.
    pub hold: Option<String>,
    /// When the hold was given, in whose hour, day and month the row counts.
    pub granted_at: Option<String>,
    /// A later settle took this charge off again.
    pub replaced: bool,
    /// The span of a correction.
    pub span: Option<&'static str>,
    /// The start of a correction's period.
    pub start: Option<String>,
}

/// What an account used in one period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollup {
    /// What the account stands for.
    pub scope: Scope,
    /// What it lies inside.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// `total`, `hour`, `day` or `month`.
    pub span: &'static str,
    /// The start of the period, RFC 3339 in UTC; the total has none.
    pub start: Option<String>,
    /// What was used.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// Rows, in their order.
pub(super) fn rows(connection: &Connection, query: &Query) -> Result<Vec<Row>, Fault> {
    query.check()?;
    let Some(filter) = Filter::of(connection, query)? else { return Ok(Vec::new()) };
    let name = |column: &str| format!("(SELECT name FROM accounts WHERE id = history.{column})");
    let columns = format!(
        "id, kind, at, {}, {}, {}, coalesce({}, {}), {}, {}, {}, \
         requests, errors, tokens, input, output, cached, cost, reasoning, estimated, failure, method, request_id, \
         latency_ms, hold, granted, replaced, span, start",
        name("workspace"),
        name("goal"),
        name("task"),
        name("model"),
        name("provider_model"),
        name("user"),
        name("credential"),
        name("limiter"),
    );
    let mut found = Vec::new();
    filter.each(connection, &columns, (query.newest_first, query.limit), |row| {
        found.push(row_from(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn row_from(row: &rusqlite::Row<'_>) -> Result<Row, Fault> {
    let id = row.get(0)?;
    let kind = Kind::from_u8(row.get(1)?).ok_or_else(|| Fault::damaged(format!("row {id} is of an unknown kind")))?;
    let failure: Option<u8> = row.get(19)?;
    let hold: Option<i64> = row.get(23)?;
    let span = row.get::<_, Option<u8>>(26)?.and_then(Span::from_u8);
    let start: Option<i64> = row.get(27)?;
    Ok(Row {
        id,
        kind: kind.as_str(),
        at: rfc3339(row.get(2)?),
        workspace: row.get(3)?,
        goal: row.get(4)?,
        task: row.get(5)?,
        model: row.get(6)?,
        user: row.get(7)?,
        credential: row.get(8)?,
        limiter: row.get(9)?,
        amounts: sums_from(row, 10)?.into(),
        reasoning_tokens: row.get(17)?,
        certainty: if row.get(18)? { "estimated" } else { "exact" },
        outcome: failure.map_or("ok", |kind| FailureKind::from_u8(kind).unwrap_or(FailureKind::Other).as_str()),
        method: row.get(20)?,
        request_id: row.get(21)?,
        latency_ms: row.get(22)?,
        hold: hold.map(|hold| HoldId(hold.cast_unsigned()).to_string()),
        granted_at: row.get::<_, Option<i64>>(24)?.map(rfc3339),
        replaced: row.get(25)?,
        span: span.map(Span::as_str),
        start: start.filter(|_| span != Some(Span::Total)).map(|start| rfc3339(start.saturating_mul(SECOND))),
    })
}

/// What the rows add up to, each use once.
pub(super) fn sums(connection: &Connection, query: &Query) -> Result<Sums, Fault> {
    let everything = Query { after: None, newest_first: false, ..query.clone() };
    let Some(mut filter) = Filter::of(connection, &everything)? else { return Ok(Sums::default()) };
    filter.each_use_once(query);
    // Not added up in SQL, whose sum fails where it runs over.
    let mut sums = Sums::default();
    let columns = "requests, errors, tokens, input, output, cached, cost";
    filter.each(connection, columns, (false, usize::MAX), |row| {
        sums = sums.plus(&sums_from(row, 0)?);
        Ok(())
    })?;
    Ok(sums)
}

/// The kept sums of the one account that a question names beside its workspace, of the workspace itself, or of every
/// workspace, by their starts.
pub(super) fn rollups(connection: &Connection, query: &Query, span: Span) -> Result<Vec<Rollup>, Fault> {
    query.check()?;
    let mut inside = query.named().filter(|(scope, ..)| *scope != Scope::Workspace);
    let (scope, name) = match (inside.next(), query.workspace.as_deref()) {
        (Some((scope, _, name)), _) => (scope, Some(name)),
        (None, workspace) => (Scope::Workspace, workspace),
    };
    if let Some((_, field, name)) = inside.next() {
        let expected = "one of goal, task, model and user: hours, days and months are summed up for each alone";
        return Err(Error::invalid(Code::InvalidChoice, field, name, expected).into());
    }
    let (mut conditions, mut values) = match (scope, query.workspace.as_deref(), name) {
        (_, None, None) => ("accounts.scope = ?".to_owned(), vec![Value::from(scope as u8)]),
        // In whichever workspace.
        (Scope::Goal | Scope::Task | Scope::Model | Scope::User, None, Some(name)) => {
            let values = vec![Value::from(scope as u8), Value::from(name.to_owned())];
            ("accounts.scope = ? AND accounts.name = ?".to_owned(), values)
        }
        (scope, workspace, name) => {
            let owner = workspace.filter(|_| scope != Scope::Workspace).unwrap_or_default();
            let account = AccountId { scope, owner, name: name.unwrap_or_default() };
            let Some(id) = names::find(connection, &account)? else { return Ok(Vec::new()) };
            ("accounts.id = ?".to_owned(), vec![Value::from(id)])
        }
    };
    let lines = match span {
        Span::Total => "(SELECT id AS account, 0 AS start, * FROM accounts)",
        _ => {
            // The periods that begin in the time, whole.
            let since = query.since.map_or(i64::MIN, |since| since.saturating_add(SECOND - 1).div_euclid(SECOND));
            let until = query.until.map_or(i64::MAX, |until| until.saturating_sub(1).div_euclid(SECOND));
            conditions.push_str(" AND line.span = ? AND line.start BETWEEN ? AND ?");
            values.extend([Value::from(span as u8), Value::from(since), Value::from(until)]);
            "periods"
        }
    };
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT accounts.scope, coalesce(owners.name, ''), accounts.name, line.start, {} \
         FROM accounts JOIN {lines} AS line ON line.account = accounts.id \
         LEFT JOIN accounts AS owners ON owners.id = accounts.owner \
         WHERE {conditions} ORDER BY line.start {order}, accounts.id {order} LIMIT {}",
        book::columns("line.n_"),
        query.limit,
    ))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let start: i64 = row.get(3)?;
        found.push(Rollup {
            scope: Scope::from_u8(row.get(0)?).ok_or_else(|| Fault::damaged("an account is of an unknown scope"))?,
            owner: row.get(1)?,
            name: row.get(2)?,
            span: span.as_str(),
            start: (span != Span::Total).then(|| rfc3339(start.saturating_mul(SECOND))),
            amounts: sums_from(row, 4)?.into(),
        });
    }
    Ok(found)
}
