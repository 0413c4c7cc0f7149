//! What the environment says. Read by others: this engine looks at no environment.

use jiff::tz::TimeZone;

use super::{OnStoreFailure, time_zone, value};
use crate::error::{Code, Error, Result};
use crate::rules::limits::{LimitKind, LimitSet};

/// The settings that came from environment variables, or from the arguments of a manager; for workspaces only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EnvLimits {
    pub(super) limits: LimitSet,
    pub(super) near_percent: Option<u8>,
    pub(super) critical_percent: Option<u8>,
    pub(super) timezone: Option<TimeZone>,
    pub(super) on_store_failure: Option<OnStoreFailure>,
}

impl EnvLimits {
    /// Enforces the limit that the variable `field` has: a whole number, or US dollars as decimal text for a budget.
    ///
    /// # Errors
    /// [`Code::InvalidLimit`] names the variable, the value and what would be right; nothing is changed then.
    pub fn set_limit(&mut self, field: &str, kind: LimitKind, text: &str) -> Result<()> {
        self.limits = self.limits.with(kind, value::cap_of_text(field, kind, text)?);
        Ok(())
    }

    /// Sets from which percentage on a limit is near.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] unless it is from 1 to 100.
    pub fn set_near_percent(&mut self, field: &str, percent: u64) -> Result<()> {
        self.near_percent = Some(checked_percent(field, percent)?);
        Ok(())
    }

    /// Sets from which percentage on a limit is critical.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] unless it is from 1 to 100.
    pub fn set_critical_percent(&mut self, field: &str, percent: u64) -> Result<()> {
        self.critical_percent = Some(checked_percent(field, percent)?);
        Ok(())
    }

    /// Sets the time zone of workspaces that the limits file gives none, and of the accounts outside a workspace.
    ///
    /// # Errors
    /// [`Code::InvalidTimeZone`] names the variable, the value and the nearest zone.
    pub fn set_time_zone(&mut self, field: &str, name: &str) -> Result<()> {
        self.timezone = Some(time_zone(field, name.trim())?);
        Ok(())
    }

    /// Sets what happens to a call while the store cannot be asked.
    pub fn set_on_store_failure(&mut self, policy: OnStoreFailure) {
        self.on_store_failure = Some(policy);
    }
}

fn checked_percent(field: &str, percent: u64) -> Result<u8> {
    let valid = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
    valid.ok_or_else(|| Error::invalid(Code::InvalidNumber, field, percent, value::PERCENT))
}
