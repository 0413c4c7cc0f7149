//! What the environment says. Read by others: this engine looks at no environment.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{OnStoreFailure, time_zone, value};
use crate::error::{Code, Error, Result};
use crate::rules::limits::{KINDS, LimitKind, LimitSet, Resource};
use crate::usage::money::NanoUsd;

/// A setting that an environment can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The limit of a kind.
    Limit(LimitKind),
    NearPercent,
    CriticalPercent,
    TimeZone,
    OnStoreFailure,
}

impl Key {
    /// Every setting.
    pub(super) const ALL: [Key; KINDS + 4] = {
        let mut all = [Key::NearPercent; KINDS + 4];
        let mut place = 0;
        while place < KINDS {
            all[place] = Key::Limit(LimitKind::ALL[place]);
            place += 1;
        }
        all[KINDS + 1] = Key::CriticalPercent;
        all[KINDS + 2] = Key::TimeZone;
        all[KINDS + 3] = Key::OnStoreFailure;
        all
    };

    /// The name, as a key of `limits.toml`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Key::Limit(kind) => kind.as_str(),
            Key::NearPercent => "near_percent",
            Key::CriticalPercent => "critical_percent",
            Key::TimeZone => "timezone",
            Key::OnStoreFailure => "on_store_failure",
        }
    }

    /// The setting of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }
}

/// The settings that came from environment variables, or from the arguments of a manager; for workspaces only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EnvLimits {
    pub(super) limits: LimitSet,
    pub(super) near_percent: Option<u8>,
    pub(super) critical_percent: Option<u8>,
    pub(super) timezone: Option<TimeZone>,
    pub(super) on_store_failure: Option<OnStoreFailure>,
    /// The variable, or the argument, that each setting came from.
    fields: BTreeMap<Key, Box<str>>,
}

impl EnvLimits {
    /// Enforces the limit that the variable `field` has: a whole number, or US dollars as decimal text for a budget.
    ///
    /// # Errors
    /// [`Code::InvalidLimit`] names the variable, the value and what would be right; nothing is changed then.
    pub fn set_limit(&mut self, field: &str, kind: LimitKind, text: &str) -> Result<()> {
        self.limits = self.limits.with(kind, value::cap_of_text(field, kind, text)?);
        self.came_from(Key::Limit(kind), field);
        Ok(())
    }

    /// Sets from which percentage on a limit is near.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] unless it is from 1 to 100.
    pub fn set_near_percent(&mut self, field: &str, percent: u64) -> Result<()> {
        self.near_percent = Some(checked_percent(field, percent)?);
        self.came_from(Key::NearPercent, field);
        Ok(())
    }

    /// Sets from which percentage on a limit is critical.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] unless it is from 1 to 100.
    pub fn set_critical_percent(&mut self, field: &str, percent: u64) -> Result<()> {
        self.critical_percent = Some(checked_percent(field, percent)?);
        self.came_from(Key::CriticalPercent, field);
        Ok(())
    }

    /// Sets the time zone of workspaces that the limits file gives none, and of the accounts outside a workspace.
    ///
    /// # Errors
    /// [`Code::InvalidTimeZone`] names the variable, the value and the nearest zone.
    pub fn set_time_zone(&mut self, field: &str, name: &str) -> Result<()> {
        self.timezone = Some(time_zone(field, name.trim())?);
        self.came_from(Key::TimeZone, field);
        Ok(())
    }

    /// Sets what happens to a call while the store cannot be asked.
    pub fn set_on_store_failure(&mut self, policy: OnStoreFailure) {
        self.on_store_failure = Some(policy);
        self.came_from(Key::OnStoreFailure, Key::OnStoreFailure.as_str());
    }

    /// Sets `key` to what [`EnvLimits::text`] gave for it.
    ///
    /// # Errors
    /// Those of its own setter; [`Code::InvalidChoice`] for a policy that is none.
    pub(super) fn set(&mut self, key: Key, field: &str, text: &str) -> Result<()> {
        let percent = || text.parse().map_err(|_| Error::invalid(Code::InvalidNumber, field, text, value::PERCENT));
        match key {
            Key::Limit(kind) => self.set_limit(field, kind, text)?,
            Key::NearPercent => self.set_near_percent(field, percent()?)?,
            Key::CriticalPercent => self.set_critical_percent(field, percent()?)?,
            Key::TimeZone => self.set_time_zone(field, text)?,
            Key::OnStoreFailure => {
                let expected = "'closed' or 'open'";
                let policy = OnStoreFailure::from_name(text);
                self.set_on_store_failure(
                    policy.ok_or_else(|| Error::invalid(Code::InvalidChoice, field, text, expected))?,
                );
            }
        }
        Ok(())
    }

    /// Takes the setting `key` over from `other`.
    pub(super) fn take(&mut self, key: Key, other: &EnvLimits) {
        match key {
            Key::Limit(kind) => self.limits.set(kind, other.limits.get(kind)),
            Key::NearPercent => self.near_percent = other.near_percent,
            Key::CriticalPercent => self.critical_percent = other.critical_percent,
            Key::TimeZone => self.timezone.clone_from(&other.timezone),
            Key::OnStoreFailure => self.on_store_failure = other.on_store_failure,
        }
        match other.fields.get(&key) {
            Some(field) => self.fields.insert(key, field.clone()),
            None => self.fields.remove(&key),
        };
    }

    /// The variable, or the argument, that set `key`; `None` where nothing did.
    pub(super) fn field(&self, key: Key) -> Option<&str> {
        self.fields.get(&key).map(AsRef::as_ref)
    }

    /// The value of `key` as one would write it; `None` where it is not set.
    pub(super) fn text(&self, key: Key) -> Option<String> {
        match key {
            Key::Limit(kind) => self.limits.get(kind).map(|limit| cap_text(kind, limit.cap)),
            Key::NearPercent => self.near_percent.map(|percent| percent.to_string()),
            Key::CriticalPercent => self.critical_percent.map(|percent| percent.to_string()),
            Key::TimeZone => self.timezone.as_ref().map(|zone| zone.iana_name().unwrap_or("UTC").to_owned()),
            Key::OnStoreFailure => self.on_store_failure.map(|policy| policy.as_str().to_owned()),
        }
    }

    fn came_from(&mut self, key: Key, field: &str) {
        self.fields.insert(key, Box::from(field));
    }
}

/// A cap as one would write it: a whole number, or US dollars.
pub(super) fn cap_text(kind: LimitKind, cap: u64) -> String {
    match kind.resource() {
        Resource::Money => NanoUsd::from_nanos(i64::try_from(cap).unwrap_or(i64::MAX)).to_string(),
        _ => cap.to_string(),
    }
}

fn checked_percent(field: &str, percent: u64) -> Result<u8> {
    let valid = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
    valid.ok_or_else(|| Error::invalid(Code::InvalidNumber, field, percent, value::PERCENT))
}
