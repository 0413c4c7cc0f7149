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
    /// What each is called where it comes from, as a variable of the environment is; without one by its own name.
    names: BTreeMap<String, String>,
    timezone: Option<String>,
    on_store_failure: Option<OnStoreFailure>,
}

impl Environment {
    fn name<'a>(&'a self, setting: &'a str) -> &'a str {
        self.names.get(setting).map_or(setting, String::as_str)
    }

    fn limits(&self) -> Result<EnvLimits, Error> {
        let mut limits = EnvLimits::default();
        for (setting, value) in &self.limits {
            let field = self.name(setting);
            match setting.as_str() {
                "near_percent" => limits.set_near_percent(field, percent(field, value)?)?,
                "critical_percent" => limits.set_critical_percent(field, percent(field, value)?)?,
                _ => match LimitKind::from_name(setting) {
                    Some(kind) => limits.set_limit(field, kind, value)?,
                    None => return Err(Error::invalid(Code::InvalidLimit, "environment", setting, &kinds())),
                },
            }
        }
        if let Some(zone) = &self.timezone {
            limits.set_time_zone(self.name("timezone"), zone)?;
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
    names: Option<BTreeMap<String, String>>,
    timezone: Option<String>,
    on_store_failure: Option<OnStoreFailure>,
    file: Option<LimitsFile>,
    /// The name of a file that cannot be read.
    unreadable: Option<String>,
}

/// The arguments that say what is to be changed.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) names: Option<BTreeMap<String, String>>,
    pub(crate) limits_toml: Option<&'a str>,
    pub(crate) limits_name: &'a str,
    /// When the file was changed last (nanoseconds since the epoch): of two files of one store the newer holds.
    pub(crate) limits_changed: Option<i64>,
    /// The file of that name cannot be read: what the processes of a shared store read of it last holds.
    pub(crate) limits_unreadable: bool,
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
            names: arguments.names,
            timezone: arguments.timezone.map(str::to_owned),
            on_store_failure: on_store_failure.transpose().or_raise(py)?,
            file,
            unreadable: arguments.limits_unreadable.then(|| arguments.limits_name.to_owned()),
        })
    }

    /// `base` and `environment` with the changes.
    ///
    /// # Errors
    /// Those of the values; nothing is changed then.
    pub(crate) fn apply(self, base: &Config, environment: &mut Environment) -> Result<Config, Error> {
        let changed = Environment {
            limits: self.limits.unwrap_or_else(|| environment.limits.clone()),
            names: self.names.unwrap_or_else(|| environment.names.clone()),
            timezone: self.timezone.or_else(|| environment.timezone.clone()),
            on_store_failure: self.on_store_failure.or(environment.on_store_failure),
        };
        let mut config = base.with_environment(changed.limits()?);
        if let Some(file) = self.file {
            config = config.with_file(file);
        }
        if let Some(name) = self.unreadable {
            config = config.with_unreadable_file(&name);
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
