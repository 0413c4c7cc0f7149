//! A limits file as it was read: which table speaks for an account.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::document::{Item, Path, Reader};
use super::origin::Origin;
use super::table::LimitTable;
use super::{OnStoreFailure, builtin, read};
use crate::account::{AccountId, GLOBAL, Scope};
use crate::error::Result;
use crate::usage::pricing::Tariff;

/// What one workspace's table (or `[defaults]`) says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct WorkspaceTable {
    pub(super) limits: LimitTable,
    pub(super) timezone: Option<TimeZone>,
    pub(super) near_percent: Option<u8>,
    pub(super) critical_percent: Option<u8>,
    pub(super) on_store_failure: Option<OnStoreFailure>,
    pub(super) weight: Option<u16>,
    /// The tables of goals, tasks, models and users.
    pub(super) inside: HashMap<Scope, HashMap<Box<str>, LimitTable>>,
}

/// The limits of a credential, and of the models behind it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct CredentialTable {
    pub(super) limits: LimitTable,
    pub(super) models: HashMap<Box<str>, LimitTable>,
}

/// What one provider's table says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ProviderTable {
    /// Each credential, where it has no table of its own.
    pub(super) every: CredentialTable,
    pub(super) credentials: HashMap<Box<str>, CredentialTable>,
}

/// A limits file, or a mapping of the same shape. An empty one says nothing, so that everything below it holds. Two are
/// equal where they say the same, whatever they were read from.
#[derive(Debug, Clone, Default)]
pub struct LimitsFile {
    pub(super) defaults: WorkspaceTable,
    pub(super) workspaces: HashMap<Box<str>, WorkspaceTable>,
    pub(super) providers: HashMap<Box<str>, ProviderTable>,
    pub(super) limiters: HashMap<Box<str>, LimitTable>,
    pub(super) tariff: Tariff,
    /// What it was read from; `None` where there is no limits file.
    pub(super) origin: Option<Origin>,
}

impl PartialEq for LimitsFile {
    fn eq(&self, other: &Self) -> bool {
        let Self { defaults, workspaces, providers, limiters, tariff, origin: _ } = self;
        *defaults == other.defaults
            && *workspaces == other.workspaces
            && *providers == other.providers
            && *limiters == other.limiters
            && *tariff == other.tariff
    }
}

impl LimitsFile {
    /// Reads the text of a `limits.toml`; `name` is its name in errors.
    ///
    /// # Errors
    /// The first thing that is wrong, with the file's name, line and column, the key, the value, and what would be
    /// right: [`Code::InvalidConfig`](crate::error::Code::InvalidConfig) where the text is not TOML or has an unknown
    /// table, `InvalidLimit` for an unknown key or a value that is no limit, `InvalidNumber` for percentages and
    /// prices, and `InvalidTimeZone`, `InvalidChoice`, `InvalidId`.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let reader = Reader::of_text(name, text);
        let document = reader.toml()?;
        let file = read::limits_file(&reader, &Path::ROOT, Item::Toml(&document, 0))?;
        Ok(Self { origin: Some(Origin::of_text(text, name)), ..file })
    }

    /// Reads a mapping of the shape of `limits.toml`; `name` says in errors where it came from.
    ///
    /// # Errors
    /// Those of [`LimitsFile::parse`], with the path of the key instead of a line.
    pub fn from_json(value: &Value, name: &str) -> Result<Self> {
        let file = read::limits_file(&Reader::of_mapping(name), &Path::ROOT, Item::Json(value))?;
        Ok(Self { origin: Some(Origin::of_mapping(value, name)), ..file })
    }

    /// The file as of the time of its last change, in nanoseconds since the Unix epoch. Of several files that the
    /// processes of a store name, the newest holds; a mapping and a text without a time are older than any file.
    #[must_use]
    pub fn changed_at(mut self, wall_nanos: i64) -> Self {
        if let Some(origin) = &mut self.origin {
            origin.changed_wall_nanos = wall_nanos;
        }
        self
    }

    /// The tables that speak for the workspace `name`, the strongest first.
    pub(super) fn workspace(&self, name: &str) -> impl Iterator<Item = &WorkspaceTable> {
        self.workspaces.get(name).into_iter().chain([&self.defaults])
    }

    /// The tables of limits that speak for `account`, the strongest first.
    pub(super) fn tables<'a>(&'a self, account: AccountId<'_>) -> [Option<&'a LimitTable>; 2] {
        match account.scope {
            Scope::Workspace => {
                [self.workspaces.get(account.name).map(|table| &table.limits), Some(&self.defaults.limits)]
            }
            Scope::Goal | Scope::Task | Scope::Model | Scope::User => {
                let inside = self.workspaces.get(account.owner).and_then(|table| table.inside.get(&account.scope));
                [inside.and_then(|tables| tables.get(account.name)), None]
            }
            Scope::Credential => self.credential(account.name).map(|table| table.map(|table| &table.limits)),
            Scope::ProviderModel => {
                self.credential(account.owner).map(|table| table.and_then(|table| table.models.get(account.name)))
            }
            Scope::Limiter => {
                // A limiter that the built-in table knows has numbers of its own; only a stranger falls back.
                let stranger = builtin::limiter(account.name).is_none() && !self.limiters.contains_key(account.name);
                let name = if stranger { builtin::DEFAULT_LIMITER } else { account.name };
                [self.limiters.get(name), None]
            }
        }
    }

    /// The tables that speak for a `provider/credential`: its own, and that of each of the provider's credentials.
    fn credential(&self, name: &str) -> [Option<&CredentialTable>; 2] {
        let (provider, credential) = name.split_once('/').unwrap_or((name, ""));
        match self.providers.get(provider) {
            Some(table) => [table.credentials.get(credential), Some(&table.every)],
            None => [None, None],
        }
    }
}

/// The workspace that `account` lies inside, or that it is.
pub(super) fn workspace_of<'a>(account: AccountId<'a>) -> Option<&'a str> {
    match account.scope {
        Scope::Workspace => Some(account.name),
        Scope::Goal | Scope::Task | Scope::Model | Scope::User => Some(account.owner),
        Scope::Credential | Scope::ProviderModel | Scope::Limiter => None,
    }
    .map(|name| if name.is_empty() { GLOBAL } else { name })
}
