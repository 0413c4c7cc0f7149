//! One configuration for all processes of a store: what each was configured with, and what of it holds.
//!
//! Every process publishes its own environment and limits file. What holds is reckoned from all of them, and again when
//! one of them ends: for the environment see `environments`, and of the limits files the newest. Overrides belong to
//! the store.

mod document;
mod environments;
mod files;
mod notes;
mod place;

use std::sync::Arc;

use environments::Environment;
use files::PublishedFile;
pub use place::FILE_NAME;

use super::overrides::{Override, Overrides};
use super::table::Setting;
use super::{Config, EnvLimits, Settings};
use crate::account::{AccountId, validate};
use crate::clock::SECOND;
use crate::error::{Code, Error, Result};
use crate::rules::limits::{LimitKind, MAX_COUNT, Resource};

/// How long an override that has ended stays published: a clock that is set forward by mistake must not take it away
/// for good.
const KEPT_NANOS: i64 = 86_400 * SECOND;

/// Who publishes: a process that has the store open. One that has it open twice is two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// Tells it apart from all others of the store, those before it included.
    pub id: u64,
    /// Its number at the operating system, for people.
    pub pid: u32,
}

/// A change of the overrides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The account has this override, instead of the one before.
    Set(AccountId<'a>, Override),
    /// The account has none.
    Remove(AccountId<'a>),
}

/// What the processes of a store have published. It never changes: each change gives another one, or `None` where
/// nothing is to be written. All are pure; see [`Published::read`] and [`Published::write`] for the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    version: u64,
    /// In the order in which they were published first. So with the files.
    environments: Vec<Environment>,
    files: Vec<PublishedFile>,
    overrides: Arc<Overrides>,
}

impl Published {
    /// Nothing is published. `version` is the last one that the processes have heard of, 0 for none: the next change
    /// gets another.
    #[must_use]
    pub fn new(version: u64) -> Self {
        Self { version, environments: Vec::new(), files: Vec::new(), overrides: Arc::default() }
    }

    /// Rises when something else holds than before. A process whose configuration is of another version takes it anew.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// True where `process` has published its settings, and they were not forgotten.
    #[must_use]
    pub fn has(&self, process: Publisher) -> bool {
        self.environments.iter().any(|environment| environment.processes.contains(&process))
    }

    /// With what `process` was itself configured with, instead of what it published before; without the processes that
    /// `is_alive` knows no more.
    ///
    /// A process whose limits file cannot be read ([`Config::with_unreadable_file`]) stands by what was last published
    /// under that name, also where all who published it are gone. The overrides of `config` are not looked at: see
    /// [`Change`].
    #[must_use]
    pub fn merge(&self, process: Publisher, config: &Config, is_alive: impl Fn(Publisher) -> bool) -> Option<Self> {
        let mut next = self.clone();
        environments::join(&mut next.environments, process, config.own.has_builtins, &config.own.environment);
        match &config.unreadable {
            Some(name) => files::join_last_of(&mut next.files, process, name),
            None => files::join(&mut next.files, process, config.own.file.origin.as_ref()),
        }
        next.keep(|other| other == process || is_alive(other));
        self.changed_to(next)
    }

    /// Without what was published by processes that `is_alive` knows no more.
    #[must_use]
    pub fn forget(&self, is_alive: impl Fn(Publisher) -> bool) -> Option<Self> {
        let mut next = self.clone();
        next.keep(is_alive);
        self.changed_to(next)
    }

    /// With a change of the overrides; `None` where they are so already, or where there was none to remove.
    ///
    /// # Errors
    /// [`Code::InvalidId`] for an account that cannot be, [`Code::InvalidLimit`] for a cap that no limits file may
    /// have.
    pub fn apply(&self, change: &Change<'_>) -> Result<Option<Self>> {
        let mut overrides = (*self.overrides).clone();
        match *change {
            Change::Set(account, entry) => {
                check(account, &entry)?;
                overrides.insert(account, entry);
            }
            Change::Remove(account) => {
                overrides.remove(account);
            }
        }
        Ok(self.changed_to(Self { overrides: Arc::new(overrides), ..self.clone() }))
    }

    /// Without the overrides that ended more than a day before this wall time.
    #[must_use]
    pub fn without_ended(&self, now_wall_nanos: i64) -> Option<Self> {
        let mut overrides = (*self.overrides).clone();
        overrides.retain_holding(now_wall_nanos.saturating_sub(KEPT_NANOS));
        self.changed_to(Self { overrides: Arc::new(overrides), ..self.clone() })
    }

    /// What holds, as the next configuration of a process that has `before`. The limits file is read again only where
    /// it is another one than in `before`.
    ///
    /// # Errors
    /// Those of [`LimitsFile::parse`](super::LimitsFile::parse), where another version of this library has published
    /// the file.
    pub fn config(&self, before: &Config) -> Result<Config> {
        let (has_builtins, environment) =
            self.environment().unwrap_or_else(|| (before.own.has_builtins, EnvLimits::clone(&before.own.environment)));
        let file = match files::newest(&self.files) {
            None => Arc::default(),
            Some(newest) => {
                let known = [&before.settings.file, &before.own.file].into_iter();
                match known.into_iter().find(|file| file.origin.as_ref() == Some(&newest.origin)) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(newest.origin.read()?),
                }
            }
        };
        let settings = Settings { has_builtins, environment: Arc::new(environment), file };
        Ok(Config { settings, ..before.with_overrides(Arc::clone(&self.overrides)) })
    }

    /// What `doctor` says about it: a sentence for each setting in which the processes differ, with the values, where
    /// they came from, and which holds.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = environments::notes(&self.environments);
        notes.extend(files::note(&self.files, &self.environments));
        notes
    }

    /// Whether what is built in holds, and the environment that does; `None` where nobody has published any.
    fn environment(&self) -> Option<(bool, EnvLimits)> {
        (!self.environments.is_empty()).then(|| environments::merged(&self.environments))
    }

    fn keep(&mut self, keep: impl Fn(Publisher) -> bool) {
        self.environments.retain_mut(|environment| {
            environment.processes.retain(|process| keep(*process));
            !environment.processes.is_empty()
        });
        self.files.retain_mut(|file| {
            file.processes.retain(|process| keep(*process));
            !file.processes.is_empty()
        });
    }

    /// `next`, with another version where something else holds there.
    fn changed_to(&self, mut next: Self) -> Option<Self> {
        if next == *self {
            return None;
        }
        let file = |published: &Self| files::newest(&published.files).map(|newest| newest.origin.content.clone());
        let same =
            self.environment() == next.environment() && file(self) == file(&next) && self.overrides == next.overrides;
        next.version = if same { self.version } else { self.version.wrapping_add(1) };
        Some(next)
    }
}

/// What is published has to be readable by all.
fn check(account: AccountId<'_>, entry: &Override) -> Result<()> {
    validate("name", account.name)?;
    if !account.owner.is_empty() {
        validate("owner", account.owner)?;
    }
    for kind in LimitKind::ALL {
        let most = if kind.resource() == Resource::Money { i64::MAX.unsigned_abs() } else { MAX_COUNT };
        if let Setting::Limited(limit) = entry.limits.get(kind)
            && limit.cap > most
        {
            return Err(Error::invalid(Code::InvalidLimit, kind.as_str(), limit.cap, &format!("at most {most}")));
        }
    }
    Ok(())
}
