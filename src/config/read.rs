//! From a document to a [`LimitsFile`]: which keys a table may have, and what each value has to be.

use std::collections::HashMap;

use super::document::{Entry, Item, Path, Reader, View};
use super::file::{CredentialTable, LimitsFile, ProviderTable, WorkspaceTable};
use super::nearest::nearest;
use super::table::LimitTable;
use super::{OnStoreFailure, prices, time_zone, value};
use crate::account::{Scope, canonical_workspace, validate};
use crate::error::{Code, Error, Result};
use crate::rules::limits::{KINDS, LimitKind, Thresholds};

const FILE_KEYS: [&str; 5] = ["defaults", "workspaces", "providers", "limiters", "pricing"];
const WORKSPACE_KEYS: [&str; 5] = ["timezone", "near_percent", "critical_percent", "on_store_failure", "weight"];

/// The tables inside a workspace, and what they are about.
const INSIDE: [(&str, Scope); 4] =
    [("goals", Scope::Goal), ("tasks", Scope::Task), ("models", Scope::Model), ("users", Scope::User)];

/// The key of a provider's table that holds credentials; a model of this name cannot be configured.
const CREDENTIALS: &str = "credentials";

/// Reads a whole limits file.
pub(super) fn limits_file(reader: &Reader<'_>, root: &Path<'_>, item: Item<'_>) -> Result<LimitsFile> {
    let mut file = LimitsFile::default();
    for entry in table(reader, root, item, "a table with the tables of limits.toml")? {
        let path = root.join(entry.key);
        match entry.key {
            "defaults" => file.defaults = workspace(reader, &path, entry.item, false)?,
            "workspaces" => file.workspaces = workspaces(reader, &path, entry.item)?,
            "providers" => file.providers = providers(reader, &path, entry.item)?,
            "limiters" => file.limiters = limit_tables(reader, &path, entry.item)?,
            "pricing" => file.tariff = prices::tariff(reader, &path, entry.item)?,
            _ => return Err(unknown_key(reader, Code::InvalidConfig, &path, &entry, FILE_KEYS)),
        }
    }
    Ok(file)
}

/// Reads a table that has limits and nothing else.
pub(super) fn limit_table(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<LimitTable> {
    let mut limits = LimitTable::default();
    for entry in table(reader, path, item, "a table of limits")? {
        let path = path.join(entry.key);
        let Some(kind) = LimitKind::from_name(entry.key) else {
            return Err(unknown_key(reader, Code::InvalidLimit, &path, &entry, kinds()));
        };
        limits.set(kind, value::setting(reader, &path, kind, entry.item)?);
    }
    Ok(limits)
}

fn workspaces(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<HashMap<Box<str>, WorkspaceTable>> {
    let mut all = HashMap::new();
    for entry in table(reader, path, item, "a table of workspaces")? {
        let path = path.join(entry.key);
        let name = canonical_workspace(Some(entry.key)).map_err(|error| reader.within(entry.key_at, &path, &error))?;
        let read = workspace(reader, &path, entry.item, true)?;
        if all.insert(Box::from(name), read).is_some() {
            let message = format!("{path}: a second table for the workspace '{name}'; expected one of them");
            return Err(reader.place(entry.key_at, Error::new(Code::InvalidConfig, path.to_string(), message)));
        }
    }
    Ok(all)
}

fn workspace(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>, has_inside: bool) -> Result<WorkspaceTable> {
    let mut read = WorkspaceTable::default();
    let mut percent_at = None;
    for entry in table(reader, path, item, "a table of limits")? {
        let path = path.join(entry.key);
        if let Some(kind) = LimitKind::from_name(entry.key) {
            read.limits.set(kind, value::setting(reader, &path, kind, entry.item)?);
            continue;
        }
        let inside = INSIDE.into_iter().find(|(key, _)| has_inside && *key == entry.key);
        if let Some((_, scope)) = inside {
            read.inside.insert(scope, limit_tables(reader, &path, entry.item)?);
            continue;
        }
        match entry.key {
            "timezone" => {
                let name = value::text(reader, &path, entry.item, Code::InvalidTimeZone, "the name of a time zone")?;
                let zone = time_zone(&path.to_string(), name);
                read.timezone = Some(zone.map_err(|error| reader.place(entry.item.at(), error))?);
            }
            "near_percent" => {
                read.near_percent = Some(value::percent(reader, &path, entry.item)?);
                percent_at = entry.item.at();
            }
            "critical_percent" => {
                read.critical_percent = Some(value::percent(reader, &path, entry.item)?);
                percent_at = entry.item.at();
            }
            "on_store_failure" => {
                let choices = OnStoreFailure::ALL.map(|choice| (choice.as_str(), choice));
                read.on_store_failure = Some(value::choice(reader, &path, entry.item, &choices)?);
            }
            "weight" => read.weight = Some(value::weight(reader, &path, entry.item)?),
            _ => {
                let inside = INSIDE.into_iter().map(|(key, _)| key).filter(|_| has_inside);
                let keys = kinds().into_iter().chain(WORKSPACE_KEYS).chain(inside);
                return Err(unknown_key(reader, Code::InvalidLimit, &path, &entry, keys));
            }
        }
    }
    if let (Some(near), Some(critical)) = (read.near_percent, read.critical_percent) {
        Thresholds::new(near, critical).map_err(|error| reader.within(percent_at, path, &error))?;
    }
    Ok(read)
}

fn providers(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<HashMap<Box<str>, ProviderTable>> {
    let mut all = HashMap::new();
    for entry in table(reader, path, item, "a table of providers")? {
        let path = path.join(entry.key);
        id(reader, &path, &entry, "provider")?;
        if entry.key.contains('/') {
            let error = Error::invalid(Code::InvalidId, "provider", entry.key, "a name without '/'");
            return Err(reader.within(entry.key_at, &path, &error));
        }
        all.insert(Box::from(entry.key), provider(reader, &path, entry.item)?);
    }
    Ok(all)
}

fn provider(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<ProviderTable> {
    let mut read = ProviderTable::default();
    for entry in table(reader, path, item, "a table of limits and models")? {
        if entry.key == CREDENTIALS {
            read.credentials = credentials(reader, &path.join(entry.key), entry.item)?;
        } else {
            limit_or_model(reader, path, &entry, &mut read.every)?;
        }
    }
    Ok(read)
}

fn credentials(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<HashMap<Box<str>, CredentialTable>> {
    let mut all = HashMap::new();
    for entry in table(reader, path, item, "a table of credentials")? {
        let path = path.join(entry.key);
        id(reader, &path, &entry, "credential")?;
        let mut own = CredentialTable::default();
        for entry in table(reader, &path, entry.item, "a table of limits and models")? {
            limit_or_model(reader, &path, &entry, &mut own)?;
        }
        all.insert(Box::from(entry.key), own);
    }
    Ok(all)
}

/// Reads `requests_per_minute = 500` or `[..."gpt-4o"]`. A key with a table is a model, unless it is the name of a limit.
fn limit_or_model(reader: &Reader<'_>, outer: &Path<'_>, entry: &Entry<'_>, into: &mut CredentialTable) -> Result<()> {
    let path = outer.join(entry.key);
    if let Some(kind) = LimitKind::from_name(entry.key) {
        into.limits.set(kind, value::setting(reader, &path, kind, entry.item)?);
    } else if let View::Table(_) = entry.item.view() {
        id(reader, &path, entry, "model")?;
        into.models.insert(Box::from(entry.key), limit_table(reader, &path, entry.item)?);
    } else {
        return Err(unknown_key(reader, Code::InvalidLimit, &path, entry, kinds()));
    }
    Ok(())
}

/// Reads a table of named tables of limits.
fn limit_tables(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<HashMap<Box<str>, LimitTable>> {
    let mut all = HashMap::new();
    for entry in table(reader, path, item, "a table of tables of limits")? {
        let path = path.join(entry.key);
        id(reader, &path, &entry, "id")?;
        all.insert(Box::from(entry.key), limit_table(reader, &path, entry.item)?);
    }
    Ok(all)
}

pub(super) fn table<'a>(
    reader: &Reader<'_>,
    path: &Path<'_>,
    item: Item<'a>,
    expected: &str,
) -> Result<Vec<Entry<'a>>> {
    match item.view() {
        View::Table(entries) => Ok(entries),
        _ => Err(reader.invalid(Code::InvalidConfig, path, item, expected)),
    }
}

/// Checks the key that `path` ends with.
pub(super) fn id(reader: &Reader<'_>, path: &Path<'_>, entry: &Entry<'_>, field: &'static str) -> Result<()> {
    validate(field, entry.key).map_err(|error| reader.within(entry.key_at, path, &error))
}

fn kinds() -> [&'static str; KINDS] {
    LimitKind::ALL.map(LimitKind::as_str)
}

/// `path` is that of the unknown key.
pub(super) fn unknown_key<'k>(
    reader: &Reader<'_>,
    code: Code,
    path: &Path<'_>,
    entry: &Entry<'_>,
    known: impl IntoIterator<Item = &'k str>,
) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let hint = match nearest(entry.key, known.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("expected one of {}", known.join(", ")),
    };
    let message = format!("{path}: unknown key; {hint}");
    reader.place(entry.key_at, Error::new(code, path.to_string(), message))
}
