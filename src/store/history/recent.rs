//! The same rows out of a journal that nobody carries into a file: what private memory still has of history.

use super::Drained;
use super::filter::Query;
use super::query::Row;
use super::timeline::starts_at;
use crate::account::Scope;
use crate::clock::SECOND;
use crate::config::time_zone;
use crate::error::Result;
use crate::rules::windows::rfc3339;
use crate::store::HoldId;
use crate::usage::history::{Entry, Kind, Named, Span, Sums};

/// The rows that a question asks for.
///
/// # Errors
/// As [`super::Reader::history`].
pub(crate) fn rows(recent: &Drained, query: &Query) -> Result<Vec<Row>> {
    query.check()?;
    let mut found: Vec<Row> = asked(recent, query).map(|entry| row(recent, entry)).collect();
    if query.newest_first {
        found.reverse();
    }
    let after = |row: &Row| match query.after {
        Some(after) if query.newest_first => row.id < after,
        Some(after) => row.id > after,
        None => true,
    };
    found.retain(after);
    found.truncate(query.limit);
    Ok(found)
}

/// What rows add up to, each use once.
pub(crate) fn sums(recent: &Drained, query: &Query) -> Sums {
    let replaced = replaced(recent);
    asked(recent, query)
        .filter(|entry| !entry.kind.is_correction())
        .filter(|entry| !(entry.kind == Kind::Orphan && entry.held.is_some_and(|held| replaced.contains(&held.hold))))
        .fold(Sums::default(), |sums, entry| sums.plus(&entry.sums))
}

/// The holds whose charge a later settle replaced.
fn replaced(recent: &Drained) -> Vec<u64> {
    let settles = recent.entries.iter().filter(|entry| entry.replaces);
    settles.filter_map(|entry| entry.held.map(|held| held.hold)).collect()
}

fn asked<'a>(recent: &'a Drained, query: &'a Query) -> impl Iterator<Item = &'a Entry> {
    recent.entries.iter().filter(move |entry| {
        let names = |(scope, _, name): (Scope, &str, &str)| {
            accounts(recent, entry).any(|account| account.scope == scope && account.name == name)
        };
        !matches!(entry.kind, Kind::Grant | Kind::Start)
            && query.named().all(names)
            && query.since.is_none_or(|since| entry.at >= since)
            && query.until.is_none_or(|until| entry.at < until)
            && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
    })
}

fn accounts<'a>(recent: &'a Drained, entry: &'a Entry) -> impl Iterator<Item = &'a Named> {
    entry.accounts.iter().filter_map(|place| recent.accounts.get(*place as usize))
}

fn row(recent: &Drained, entry: &Entry) -> Row {
    let name = |scope: Scope| {
        let named = accounts(recent, entry).find(|account| account.scope == scope);
        // A correction of an account inside a workspace is the workspace's row too.
        let owner = || {
            let inside = accounts(recent, entry).find(|account| !account.owner.is_empty());
            inside.filter(|_| scope == Scope::Workspace).map(|account| account.owner.clone())
        };
        named.map(|account| account.name.clone()).or_else(owner)
    };
    let is_replaced =
        entry.kind == Kind::Orphan && entry.held.is_some_and(|held| replaced(recent).contains(&held.hold));
    let start = entry.span.filter(|span| *span != Span::Total).and_then(|span| {
        let zone = accounts(recent, entry).next().map(|account| account.zone.clone())?;
        let starts = starts_at(&time_zone("timezone", &zone).ok()?, entry.at);
        Some(match span {
            Span::Hour => starts.hour,
            Span::Day => starts.day,
            Span::Month | Span::Total => starts.month,
        })
    });
    Row {
        id: i64::try_from(entry.sequence).unwrap_or(i64::MAX),
        kind: entry.kind.as_str(),
        at: rfc3339(entry.at),
        workspace: name(Scope::Workspace),
        goal: name(Scope::Goal),
        task: name(Scope::Task),
        model: name(Scope::Model).or_else(|| name(Scope::ProviderModel)),
        user: name(Scope::User),
        credential: name(Scope::Credential),
        limiter: name(Scope::Limiter),
        amounts: entry.sums.into(),
        reasoning_tokens: i64::try_from(entry.reasoning).unwrap_or(i64::MAX),
        certainty: if entry.estimated { "estimated" } else { "exact" },
        outcome: entry.failure.map_or("ok", |failure| failure.as_str()),
        method: entry.method.clone(),
        request_id: entry.request_id.clone(),
        latency_ms: entry.latency_ms,
        hold: entry.held.map(|held| HoldId(held.hold).to_string()),
        granted_at: entry.held.map(|held| rfc3339(held.granted)),
        replaced: is_replaced,
        span: entry.span.map(Span::as_str),
        start: start.map(|start| rfc3339(start.saturating_mul(SECOND))),
    }
}
