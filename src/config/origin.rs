//! What a limits file was read from, kept so that another process can read the same.

use std::sync::Arc;

use serde_json::Value;

use super::file::LimitsFile;
use crate::error::Result;
use crate::usage::money::NanoUsd;

/// The text or the mapping of a limits file. A clone is cheap.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    /// Its name in errors: its path, for a file.
    pub(super) name: Arc<str>,
    /// When it was last changed (nanoseconds since the Unix epoch); 0 where nobody knows.
    pub(super) changed_wall_nanos: i64,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// The text of a file.
    Toml(Arc<str>),
    /// A mapping without doubles.
    Mapping(Arc<Value>),
}

impl Origin {
    pub(super) fn of_text(text: &str, name: &str) -> Self {
        Self { name: Arc::from(name), changed_wall_nanos: 0, content: Content::Toml(Arc::from(text)) }
    }

    /// `value` has been read, so that each double in it is an amount of money.
    pub(super) fn of_mapping(value: &Value, name: &str) -> Self {
        let content = Content::Mapping(Arc::new(without_doubles(value)));
        Self { name: Arc::from(name), changed_wall_nanos: 0, content }
    }

    /// Reads it again.
    ///
    /// # Errors
    /// Those of [`LimitsFile::parse`]; none where this version has read it before.
    pub(super) fn read(&self) -> Result<LimitsFile> {
        let file = match &self.content {
            Content::Toml(text) => LimitsFile::parse(text, &self.name)?,
            Content::Mapping(value) => LimitsFile::from_json(value, &self.name)?,
        };
        Ok(file.changed_at(self.changed_wall_nanos))
    }
}

/// The same mapping with each double as the decimal text of its amount: a reader of JSON may take a double for its
/// neighbour.
fn without_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let amount = number.as_f64().and_then(|usd| NanoUsd::from_usd_f64("", usd).ok());
            amount.map_or_else(|| value.clone(), |amount| Value::String(amount.to_string()))
        }
        Value::Array(items) => Value::Array(items.iter().map(without_doubles).collect()),
        Value::Object(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), without_doubles(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
