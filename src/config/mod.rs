//! Which limits an account has, and who said so.
//!
//! Answers what holds for one account, from the overrides of an administrator, the limits file, the environment, and
//! what is built in, in that order and limit by limit. Reads no environment, no clock, and of files only the one in
//! which the processes of a shared store publish what they are configured with ([`Published`]): all else is arguments.
//! Called by the manager, once for each account and version.

mod builtin;
mod document;
mod environment;
mod file;
mod nearest;
mod origin;
mod overrides;
mod prices;
mod published;
mod read;
mod table;
mod value;
mod zone;

use std::sync::Arc;

use jiff::tz::TimeZone;

pub use environment::EnvLimits;
pub use file::LimitsFile;
pub use overrides::Override;
pub use published::{Change, FILE_NAME, Published, Publisher};
pub use table::{LimitTable, Setting};
pub use zone::time_zone;

use crate::account::{AccountId, Scope};
use crate::rules::limits::{KINDS, Limit, LimitKind, LimitSet, Thresholds};
use crate::rules::turns::DEFAULT_WEIGHT;
use crate::usage::pricing::Tariff;
use file::workspace_of;
use overrides::Overrides;

/// What happens to a call while the store cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnStoreFailure {
    /// It is refused.
    #[default]
    Closed,
    /// It passes uncounted.
    Open,
}

impl OnStoreFailure {
    /// Every policy.
    pub const ALL: [OnStoreFailure; 2] = [OnStoreFailure::Closed, OnStoreFailure::Open];

    /// The word in `limits.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OnStoreFailure::Closed => "closed",
            OnStoreFailure::Open => "open",
        }
    }

    /// The policy of that word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
}

/// Who set a limit, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// Nobody: it is built in.
    Builtin = 1,
    /// An environment variable, or an argument of the manager.
    Environment = 2,
    /// The limits file.
    File = 3,
    /// An administrator.
    Override = 4,
}

impl Source {
    /// The word for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Builtin => "builtin",
            Source::Environment => "environment",
            Source::File => "file",
            Source::Override => "override",
        }
    }
}

/// What holds for one account.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Its limits.
    pub limits: LimitSet,
    /// Where its days and months begin. That of its workspace for an account inside one.
    pub timezone: TimeZone,
    /// From when on a limit is near or critical. Those of its workspace for an account inside one.
    pub thresholds: Thresholds,
    /// What happens to a call while the store cannot be asked. That of its workspace for an account inside one.
    pub on_store_failure: OnStoreFailure,
    /// When an override of this account ends, and this answer with it: nanoseconds since the Unix epoch.
    pub expires_wall_nanos: Option<i64>,
    sources: [Option<Source>; KINDS],
}

impl Resolved {
    /// Who set the limit of `kind`, or lifted it; `None` where nobody said anything.
    #[must_use]
    pub fn source_of(&self, kind: LimitKind) -> Option<Source> {
        self.sources.get(kind as usize).copied().flatten()
    }

    /// The strongest of those who set a limit; [`Source::Builtin`] where nobody did.
    #[must_use]
    pub fn source(&self) -> Source {
        self.sources.iter().flatten().copied().max().unwrap_or(Source::Builtin)
    }

    /// Takes `setting` for `kind`, unless something stronger has spoken.
    fn take(&mut self, kind: LimitKind, setting: Setting, source: Source) {
        let limit: Option<Limit> = match setting {
            Setting::Inherit => return,
            Setting::Unlimited => None,
            Setting::Limited(limit) => Some(limit),
        };
        if let Some(place @ None) = self.sources.get_mut(kind as usize) {
            *place = Some(source);
            self.limits.set(kind, limit);
        }
    }

    fn take_table(&mut self, table: &LimitTable, source: Source) {
        for kind in LimitKind::ALL {
            self.take(kind, table.get(kind), source);
        }
    }

    fn take_set(&mut self, set: &LimitSet, source: Source) {
        for (kind, limit) in set.iter() {
            self.take(kind, Setting::Limited(limit), source);
        }
    }
}

/// All that is configured. It never changes: each `with_...` gives a new one, with the next version. A clone is cheap.
///
/// It also remembers what this process itself was configured with: in a store that processes share, another one's
/// settings may hold ([`Published::config`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    version: u32,
    settings: Settings,
    own: Settings,
    /// The name of this process's own limits file, where that cannot be read.
    unreadable: Option<Arc<str>>,
    overrides: Arc<Overrides>,
    next_expiry: Option<i64>,
}

/// What a process is configured with.
#[derive(Debug, Clone, PartialEq)]
struct Settings {
    has_builtins: bool,
    environment: Arc<EnvLimits>,
    file: Arc<LimitsFile>,
}

impl Settings {
    fn new(has_builtins: bool) -> Self {
        Self { has_builtins, environment: Arc::default(), file: Arc::default() }
    }
}

/// What is built in.
impl Default for Config {
    fn default() -> Self {
        Self::new(Settings::new(true))
    }
}

impl Config {
    /// Nothing is limited, not even by what is built in.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(Settings::new(false))
    }

    fn new(settings: Settings) -> Self {
        let own = settings.clone();
        Self { version: 1, settings, own, unreadable: None, overrides: Arc::default(), next_expiry: None }
    }

    /// Differs from that of every configuration it was made from. Wraps around after 2^32 changes.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// With these settings of the environment, instead of those before.
    #[must_use]
    pub fn with_environment(&self, environment: EnvLimits) -> Self {
        let mut next = self.next();
        next.own.environment = Arc::new(environment);
        next.settings.environment = Arc::clone(&next.own.environment);
        next
    }

    /// With this limits file, instead of the one before.
    #[must_use]
    pub fn with_file(&self, file: LimitsFile) -> Self {
        let mut next = self.next();
        next.own.file = Arc::new(file);
        next.settings.file = Arc::clone(&next.own.file);
        next.unreadable = None;
        next
    }

    /// The limits file `name` of this process cannot be read. In a store that processes share, what was last read of it
    /// holds (see [`Published::merge`]); elsewhere nothing changes.
    #[must_use]
    pub fn with_unreadable_file(&self, name: &str) -> Self {
        Self { unreadable: Some(Arc::from(name)), ..self.next() }
    }

    /// With `limits` for `account` above all else, until the wall time `expires_wall_nanos` or until it is taken away.
    /// Takes the place of the override that the account had; a limit that it does not set falls through to the file.
    #[must_use]
    pub fn with_override(
        &self,
        account: AccountId<'_>,
        limits: impl Into<LimitTable>,
        expires_wall_nanos: Option<i64>,
    ) -> Self {
        let mut overrides = (*self.overrides).clone();
        overrides.insert(account, Override { limits: limits.into(), expires_wall_nanos });
        self.with_overrides(overrides)
    }

    /// Without the override of `account`; `None` where it has none.
    #[must_use]
    pub fn without_override(&self, account: AccountId<'_>) -> Option<Self> {
        let mut overrides = (*self.overrides).clone();
        overrides.remove(account).then(|| self.with_overrides(overrides))
    }

    /// Without the overrides that have ended; `None` where none has. To be called when [`Config::next_expiry`] has
    /// come, so that the version tells of it.
    #[must_use]
    pub fn without_expired(&self, now_wall_nanos: i64) -> Option<Self> {
        self.next_expiry.filter(|expiry| *expiry <= now_wall_nanos)?;
        let mut overrides = (*self.overrides).clone();
        overrides.retain_holding(now_wall_nanos);
        Some(self.with_overrides(overrides))
    }

    /// When the next override ends: nanoseconds since the Unix epoch.
    #[must_use]
    pub fn next_expiry(&self) -> Option<i64> {
        self.next_expiry
    }

    /// Every override, in no order, those that have ended and were not yet taken out included.
    pub fn overrides(&self) -> impl Iterator<Item = (AccountId<'_>, &Override)> {
        self.overrides.iter()
    }

    /// What tokens cost where the price table cannot say.
    #[must_use]
    pub fn tariff(&self) -> &Tariff {
        &self.settings.file.tariff
    }

    /// What holds for `account` at this wall time. Goals, tasks, models, users and the accounts of providers have the
    /// limits of the file and of overrides alone.
    #[must_use]
    pub fn resolve(&self, account: AccountId<'_>, now_wall_nanos: i64) -> Resolved {
        let live = self.overrides.get(account, now_wall_nanos);
        let mut resolved = Resolved {
            limits: LimitSet::NONE,
            timezone: self.timezone(account),
            thresholds: self.thresholds(account),
            on_store_failure: self.on_store_failure(account),
            expires_wall_nanos: live.and_then(|entry| entry.expires_wall_nanos),
            sources: [None; KINDS],
        };
        if let Some(entry) = live {
            resolved.take_table(&entry.limits, Source::Override);
        }
        for table in self.settings.file.tables(account).into_iter().flatten() {
            resolved.take_table(table, Source::File);
        }
        if account.scope == Scope::Workspace {
            resolved.take_set(&self.settings.environment.limits, Source::Environment);
        }
        if self.settings.has_builtins {
            match account.scope {
                Scope::Workspace => resolved.take_set(&builtin::workspace(), Source::Builtin),
                Scope::Limiter => resolved.take_set(&builtin::limiter_or_default(account.name), Source::Builtin),
                _ => {}
            }
        }
        resolved
    }

    fn timezone(&self, account: AccountId<'_>) -> TimeZone {
        let of_file = workspace_of(account)
            .and_then(|name| self.settings.file.workspace(name).find_map(|table| table.timezone.as_ref()));
        of_file.or(self.settings.environment.timezone.as_ref()).cloned().unwrap_or(TimeZone::UTC)
    }

    fn thresholds(&self, account: AccountId<'_>) -> Thresholds {
        let workspace = workspace_of(account);
        let of_file = |percent: fn(&file::WorkspaceTable) -> Option<u8>| {
            workspace.and_then(|name| self.settings.file.workspace(name).find_map(percent))
        };
        let known = Thresholds::default();
        let near = of_file(|table| table.near_percent).or(self.settings.environment.near_percent).unwrap_or(known.near);
        let critical = of_file(|table| table.critical_percent).or(self.settings.environment.critical_percent);
        // The two may come from different places. Where they cross, what is critical is at least near.
        Thresholds { near, critical: critical.unwrap_or(known.critical).max(near) }
    }

    fn on_store_failure(&self, account: AccountId<'_>) -> OnStoreFailure {
        workspace_of(account)
            .and_then(|name| self.settings.file.workspace(name).find_map(|table| table.on_store_failure))
            .or(self.settings.environment.on_store_failure)
            .unwrap_or_default()
    }

    /// The share of a workspace's waiters in what all workspaces wait for.
    #[must_use]
    pub fn weight(&self, workspace: &str) -> u16 {
        self.settings.file.workspace(workspace).find_map(|table| table.weight).unwrap_or(DEFAULT_WEIGHT)
    }

    fn next(&self) -> Self {
        Self { version: self.version.wrapping_add(1), ..self.clone() }
    }

    fn with_overrides(&self, overrides: impl Into<Arc<Overrides>>) -> Self {
        let overrides = overrides.into();
        let next_expiry = overrides.iter().filter_map(|(_, entry)| entry.expires_wall_nanos).min();
        Self { overrides, next_expiry, ..self.next() }
    }
}
