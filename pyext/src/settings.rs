//! Settings from Python: the environment's limits, a limits file or a mapping of its shape.

use std::collections::BTreeMap;

use llmquota::config::{Config, EnvLimits, LimitTable, LimitsFile, OnStoreFailure};
use llmquota::rules::limits::LimitKind;
use llmquota::{Code, Error};
use pyo3::prelude::*;
use serde_json::Value;

use crate::calls::Given;
use crate::errors::{self, OrRaise};

/// What the environment, or the arguments of a manager, say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// Kinds of limits, `near_percent` and `critical_percent`, with their values as decimal text.
    limits: BTreeMap<String, String>,
    timezone: Option<String>,
    on_store_failure: Option<OnStoreFailure>,
}

impl Environment {
    fn limits(&self) -> Result<EnvLimits, Error> {
        let mut limits = EnvLimits::default();
        for (name, value) in &self.limits {
            match name.as_str() {
                "near_percent" => limits.set_near_percent(name, percent(name, value)?)?,
                "critical_percent" => limits.set_critical_percent(name, percent(name, value)?)?,
                _ => match LimitKind::from_name(name) {
                    Some(kind) => limits.set_limit(name, kind, value)?,
                    None => return Err(Error::invalid(Code::InvalidLimit, "environment", name, &kinds())),
                },
            }
        }
        if let Some(name) = &self.timezone {
            limits.set_time_zone("timezone", name)?;
        }
        if let Some(policy) = self.on_store_failure {
            limits.set_on_store_failure(policy);
        }
        Ok(limits)
    }
}

fn percent(name: &str, value: &str) -> Result<u64, Error> {
    let invalid = |_| Error::invalid(Code::InvalidNumber, name, value, "a whole percentage from 1 to 100");
    value.trim().parse().map_err(invalid)
}

fn kinds() -> String {
    let names: Vec<_> = LimitKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("one of {}, near_percent, critical_percent", names.join(", "))
}

/// What is to be changed; `None` stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    limits: Option<BTreeMap<String, String>>,
    timezone: Option<String>,
    on_store_failure: Option<OnStoreFailure>,
    file: Option<LimitsFile>,
}

/// The arguments that say what is to be changed.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) limits_toml: Option<&'a str>,
    pub(crate) limits_name: &'a str,
    /// When the file was changed last (nanoseconds since the epoch): of two files of one store the newer holds.
    pub(crate) limits_changed: Option<i64>,
    pub(crate) limits: Given<'a, 'py>,
    pub(crate) timezone: Option<&'a str>,
    pub(crate) on_store_failure: Option<&'a str>,
}

impl Settings {
    /// Reads the arguments.
    pub(crate) fn read(py: Python<'_>, arguments: Arguments<'_, '_>) -> PyResult<Self> {
        let file = match (arguments.limits, arguments.limits_toml) {
            (Some(mapping), _) => {
                Some(LimitsFile::from_json(&json("limits", mapping)?, arguments.limits_name).or_raise(py)?)
            }
            (None, Some(text)) => Some(LimitsFile::parse(text, arguments.limits_name).or_raise(py)?),
            (None, None) => None,
        };
        let file = match arguments.limits_changed {
            Some(changed) => file.map(|file| file.changed_at(changed)),
            None => file,
        };
        let on_store_failure = arguments.on_store_failure.map(|word| {
            let invalid = || Error::invalid(Code::InvalidChoice, "on_store_failure", word, "'closed' or 'open'");
            OnStoreFailure::from_name(word).ok_or_else(invalid)
        });
        Ok(Self {
            limits: arguments.environment,
            timezone: arguments.timezone.map(str::to_owned),
            on_store_failure: on_store_failure.transpose().or_raise(py)?,
            file,
        })
    }

    /// `base` and `environment` with the changes.
    ///
    /// # Errors
    /// Those of the values; nothing is changed then.
    pub(crate) fn apply(self, base: &Config, environment: &mut Environment) -> Result<Config, Error> {
        let changed = Environment {
            limits: self.limits.unwrap_or_else(|| environment.limits.clone()),
            timezone: self.timezone.or_else(|| environment.timezone.clone()),
            on_store_failure: self.on_store_failure.or(environment.on_store_failure),
        };
        let mut config = base.with_environment(changed.limits()?);
        if let Some(file) = self.file {
            config = config.with_file(file);
        }
        *environment = changed;
        Ok(config)
    }
}

/// The limits of an override; `None` lifts a limit.
pub(crate) fn limit_table(mapping: &Bound<'_, PyAny>) -> PyResult<LimitTable> {
    let mut value = json("limits", mapping)?;
    if let Value::Object(limits) = &mut value {
        for limit in limits.values_mut().filter(|limit| limit.is_null()) {
            *limit = Value::from("unlimited");
        }
    }
    LimitTable::from_json(&value, "limits").or_raise(mapping.py())
}

fn json(field: &str, mapping: &Bound<'_, PyAny>) -> PyResult<Value> {
    pythonize::depythonize(mapping).map_err(|error| {
        let message = format!("{field}: not a mapping of the shape of limits.toml: {error}");
        errors::raised(mapping.py(), &Error::new(Code::InvalidConfig, field, message))
    })
}
