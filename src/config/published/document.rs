//! What is published, as a JSON document.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environments::Environment;
use super::files::PublishedFile;
use super::{Published, Publisher, check};
use crate::account::{AccountId, Scope};
use crate::config::environment::{EnvLimits, Key};
use crate::config::origin::{Content, Origin};
use crate::config::overrides::{Override, Overrides};
use crate::config::table::LimitTable;
use crate::error::{Code, Error, Result};

/// The format of the document. Rises with every change of it, also with a new key: who does not know a key would lose
/// it.
const FORMAT: u32 = 1;

/// All that any format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    format: u32,
    version: u64,
    environments: Vec<EnvironmentEntry<'a>>,
    files: Vec<FileEntry<'a>>,
    overrides: Vec<OverrideEntry<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentEntry<'a> {
    processes: Cow<'a, [Publisher]>,
    builtins: bool,
    settings: BTreeMap<Cow<'a, str>, SettingEntry<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingEntry<'a> {
    variable: Cow<'a, str>,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry<'a> {
    processes: Cow<'a, [Publisher]>,
    name: Cow<'a, str>,
    changed_wall_nanos: i64,
    content: ContentEntry<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ContentEntry<'a> {
    Toml(Cow<'a, str>),
    Mapping(Cow<'a, Value>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideEntry<'a> {
    scope: Scope,
    owner: Cow<'a, str>,
    name: Cow<'a, str>,
    limits: Value,
    expires_wall_nanos: Option<i64>,
}

impl Published {
    /// The document that [`Published::from_json`] reads back. The same for equal ones.
    ///
    /// # Errors
    /// [`Code::StoreDamaged`] where it cannot be written as JSON, which no value of this type is known to cause.
    pub fn to_json(&self) -> Result<String> {
        let mut overrides: Vec<_> = self.overrides.iter().collect();
        overrides.sort_unstable_by_key(|(account, _)| *account);
        let document = Document {
            format: FORMAT,
            version: self.version,
            environments: self.environments.iter().map(environment_entry).collect(),
            files: self.files.iter().map(file_entry).collect(),
            overrides: overrides.into_iter().map(|(account, entry)| override_entry(account, entry)).collect(),
        };
        serde_json::to_string_pretty(&document).map_err(|error| {
            Error::new(Code::StoreDamaged, "store", format!("the limits cannot be published: {error}"))
        })
    }

    /// Reads what [`Published::to_json`] wrote.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for a document of a newer format, [`Code::StoreDamaged`] for one that is none; the
    /// message is a part of a sentence, for one that names the file.
    pub fn from_json(text: &str) -> Result<Self> {
        let damaged = |detail: String| Error::new(Code::StoreDamaged, "store", detail);
        let Head { format } = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT {
            let detail = format!("it is of format {format}, and this version of llmquota reads formats up to {FORMAT}");
            return Err(Error::new(Code::InvalidConfig, "store", detail));
        }
        let document: Document<'_> = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        Self::from_document(document).map_err(|error| damaged(error.message().to_owned()))
    }

    fn from_document(document: Document<'_>) -> Result<Self> {
        let mut overrides = Overrides::default();
        for OverrideEntry { scope, owner, name, limits, expires_wall_nanos } in document.overrides {
            let account = AccountId { scope, owner: &owner, name: &name };
            let entry = Override { limits: LimitTable::from_json(&limits, "overrides")?, expires_wall_nanos };
            check(account, &entry)?;
            overrides.insert(account, entry);
        }
        Ok(Self {
            version: document.version,
            environments: document.environments.into_iter().map(environment_of).collect::<Result<_>>()?,
            files: document.files.into_iter().map(file_of).collect(),
            overrides: Arc::new(overrides),
        })
    }
}

fn environment_entry(environment: &Environment) -> EnvironmentEntry<'_> {
    let settings = Key::ALL.into_iter().filter_map(|key| {
        let (field, value) = (environment.limits.field(key)?, environment.limits.text(key)?);
        Some((Cow::Borrowed(key.as_str()), SettingEntry { variable: Cow::Borrowed(field), value }))
    });
    EnvironmentEntry {
        processes: Cow::Borrowed(&environment.processes),
        builtins: environment.has_builtins,
        settings: settings.collect(),
    }
}

fn environment_of(entry: EnvironmentEntry<'_>) -> Result<Environment> {
    let mut limits = EnvLimits::default();
    for (name, SettingEntry { variable, value }) in &entry.settings {
        let key = Key::from_name(name).ok_or_else(|| {
            Error::invalid(Code::InvalidConfig, "environments", name, "the name of a setting of this version")
        })?;
        limits.set(key, variable, value)?;
    }
    let processes = entry.processes.into_owned();
    Ok(Environment { processes, has_builtins: entry.builtins, limits: Arc::new(limits) })
}

fn file_entry(file: &PublishedFile) -> FileEntry<'_> {
    FileEntry {
        processes: Cow::Borrowed(&file.processes),
        name: Cow::Borrowed(&file.origin.name),
        changed_wall_nanos: file.origin.changed_wall_nanos,
        content: match &file.origin.content {
            Content::Toml(text) => ContentEntry::Toml(Cow::Borrowed(text)),
            Content::Mapping(value) => ContentEntry::Mapping(Cow::Borrowed(value)),
        },
    }
}

fn file_of(entry: FileEntry<'_>) -> PublishedFile {
    let content = match entry.content {
        ContentEntry::Toml(text) => Content::Toml(Arc::from(text)),
        ContentEntry::Mapping(value) => Content::Mapping(Arc::new(value.into_owned())),
    };
    let origin = Origin { name: Arc::from(entry.name), changed_wall_nanos: entry.changed_wall_nanos, content };
    PublishedFile { processes: entry.processes.into_owned(), origin }
}

fn override_entry<'a>(account: AccountId<'a>, entry: &Override) -> OverrideEntry<'a> {
    OverrideEntry {
        scope: account.scope,
        owner: Cow::Borrowed(account.owner),
        name: Cow::Borrowed(account.name),
        limits: entry.limits.to_json(),
        expires_wall_nanos: entry.expires_wall_nanos,
    }
}
