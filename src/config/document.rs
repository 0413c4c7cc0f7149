//! One view on a TOML text and on a mapping, and where in them a value stands.

use std::fmt;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::error::{Code, Error, Result};

/// A value and, in a text, the byte at which it begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    /// Of a TOML text.
    Toml(&'a DeValue<'a>, usize),
    /// Of a mapping.
    Json(&'a Value),
}

/// One `key = value` of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    /// The byte at which the key begins; `None` in a mapping.
    pub(super) key_at: Option<usize>,
    pub(super) item: Item<'a>,
}

/// What kind of value an item is.
#[derive(Debug)]
pub(super) enum View<'a> {
    /// A table; the entries in the order of the text.
    Table(Vec<Entry<'a>>),
    /// A whole number; `None` where it is negative or larger than any count.
    Integer(Option<u64>),
    /// A number with a fraction or an exponent, as it was written.
    Decimal(&'a str),
    /// A number with a fraction that came as a double.
    Double(f64),
    /// A string.
    Text(&'a str),
    /// A list, a date, a truth value, or nothing.
    Other,
}

impl<'a> Item<'a> {
    pub(super) fn view(self) -> View<'a> {
        match self {
            Item::Toml(value, _) => match value {
                DeValue::Table(table) => View::Table(toml_entries(table)),
                DeValue::Integer(number) => {
                    let digits = number.as_str();
                    View::Integer(u64::from_str_radix(digits, number.radix()).ok())
                }
                DeValue::Float(number) => View::Decimal(number.as_str()),
                DeValue::String(text) => View::Text(text),
                DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) => View::Other,
            },
            Item::Json(value) => match value {
                Value::Object(map) => View::Table(
                    map.iter().map(|(key, value)| Entry { key, key_at: None, item: Item::Json(value) }).collect(),
                ),
                Value::Number(number) if number.is_f64() => number.as_f64().map_or(View::Other, View::Double),
                Value::Number(number) => View::Integer(number.as_u64()),
                Value::String(text) => View::Text(text),
                Value::Null | Value::Bool(_) | Value::Array(_) => View::Other,
            },
        }
    }

    /// The byte at which the value begins; `None` in a mapping.
    pub(super) fn at(self) -> Option<usize> {
        match self {
            Item::Toml(_, at) => Some(at),
            Item::Json(_) => None,
        }
    }
}

/// The value for an error message.
impl fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Toml(DeValue::Table(_), _) | Item::Json(Value::Object(_)) => f.write_str("{...}"),
            Item::Toml(DeValue::Array(_), _) | Item::Json(Value::Array(_)) => f.write_str("[...]"),
            Item::Toml(DeValue::String(text), _) => f.write_str(text),
            Item::Toml(DeValue::Integer(number), _) => number.fmt(f),
            Item::Toml(DeValue::Float(number), _) => number.fmt(f),
            Item::Toml(DeValue::Boolean(value), _) => value.fmt(f),
            Item::Toml(DeValue::Datetime(value), _) => value.fmt(f),
            Item::Json(Value::String(text)) => f.write_str(text),
            Item::Json(value) => value.fmt(f),
        }
    }
}

fn toml_entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref(),
            key_at: Some(key.span().start),
            item: Item::Toml(value.get_ref(), value.span().start),
        })
        .collect();
    // The parser sorts by key. A reader of errors expects the first one of the text.
    entries.sort_by_key(|entry| entry.key_at);
    entries
}

/// The keys that lead to a value, from the inside out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    outer: Option<&'a Path<'a>>,
    key: &'a str,
}

impl Path<'_> {
    /// The whole document.
    pub(super) const ROOT: Path<'static> = Path { outer: None, key: "" };
}

impl<'a> Path<'a> {
    pub(super) fn join<'b>(&'b self, key: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path { outer: Some(self), key }
    }
}

/// Longest part of a key that a path shows, in characters.
const KEY_CHARS: usize = 60;

/// As it would stand in a TOML header: `workspaces.acme.models."gpt-4.1"`.
impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(outer) = self.outer else { return Ok(()) };
        if outer.outer.is_some() {
            write!(f, "{outer}.")?;
        }
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !self.key.is_empty() && self.key.len() <= KEY_CHARS && self.key.bytes().all(bare) {
            return f.write_str(self.key);
        }
        let shown: String = self.key.chars().take(KEY_CHARS).flat_map(char::escape_debug).collect();
        let cut = if self.key.chars().nth(KEY_CHARS).is_some() { "..." } else { "" };
        write!(f, "\"{shown}{cut}\"")
    }
}

/// Says in errors where they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    name: &'a str,
    text: Option<&'a str>,
}

impl<'a> Reader<'a> {
    pub(super) fn of_text(name: &'a str, text: &'a str) -> Self {
        Self { name, text: Some(text) }
    }

    pub(super) fn of_mapping(name: &'a str) -> Self {
        Self { name, text: None }
    }

    /// Parses the text.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] names the line on which it stops being TOML.
    pub(super) fn toml(&self) -> Result<DeValue<'a>> {
        let text = self.text.unwrap_or_default();
        match DeTable::parse(text) {
            Ok(table) => Ok(DeValue::Table(table.into_inner())),
            Err(error) => {
                let at = error.span().map_or(text.len(), |span| span.start);
                let message = format!("not valid TOML: {}", error.message().replace('\n', " "));
                Err(self.place(Some(at), Error::new(Code::InvalidConfig, self.name, message)))
            }
        }
    }

    /// A value that is not what was expected.
    pub(super) fn invalid(&self, code: Code, path: &Path<'_>, item: Item<'_>, expected: &str) -> Error {
        if path.outer.is_none() {
            return Error::invalid(code, self.name, item, expected);
        }
        self.place(item.at(), Error::invalid(code, path.to_string(), item, expected))
    }

    /// `error` about a part of what `path` names.
    pub(super) fn within(&self, at: Option<usize>, path: &Path<'_>, error: &Error) -> Error {
        let message = format!("{path}: {}", error.message());
        self.place(at, Error::new(error.code(), path.to_string(), message))
    }

    /// `error`, with the place at which it is.
    pub(super) fn place(&self, at: Option<usize>, error: Error) -> Error {
        let message = match (self.text, at) {
            (Some(text), Some(at)) => {
                let (line, column) = line_and_column(text, at);
                format!("{}, line {line}, column {column}: {}", self.name, error.message())
            }
            _ => format!("{}: {}", self.name, error.message()),
        };
        Error::new(error.code(), error.field(), message)
    }
}

/// The line and the column (in characters) of the byte `at`, both from 1.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before.get(start..).map_or(0, |part| part.chars().count()) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let text = "a = 1\r\nb\u{e8}=2\n";
        for (at, place) in
            [(0, (1, 1)), (4, (1, 5)), (7, (2, 1)), (10, (2, 3)), (13, (3, 1)), (9, (3, 1)), (99, (3, 1))]
        {
            assert_eq!(line_and_column(text, at), place, "{at}");
        }
    }

    #[test]
    fn a_path_is_written_as_in_a_header_and_stays_short() {
        let root = Path::ROOT;
        let table = root.join("models");
        assert_eq!(table.join("gpt-4o").to_string(), "models.gpt-4o");
        assert_eq!(table.join("gpt-4.1").to_string(), "models.\"gpt-4.1\"");
        assert_eq!(table.join("a\"\n").to_string(), "models.\"a\\\"\\n\"");
        assert_eq!(table.join("").to_string(), "models.\"\"");
        assert!(table.join(&"x".repeat(10_000_000)).to_string().len() < 100);
    }
}
