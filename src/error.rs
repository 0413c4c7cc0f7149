//! One error table. Every failure of the engine is a value with a stable code; nothing panics.

use std::fmt;

/// What went wrong, as a stable word for machines. The binding maps each code to one Python exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// An id is empty, too long, or holds control characters.
    InvalidId,
    /// A number is negative, not finite, or out of range.
    InvalidNumber,
    /// A limit has an unknown name or a value that is none.
    InvalidLimit,
    /// A time zone is not in the IANA database.
    InvalidTimeZone,
    /// A limits file cannot be read as one; the message names the line.
    InvalidConfig,
    /// A word is not one of those the field knows.
    InvalidChoice,
    /// The model has no price and the policy is `block`.
    UnknownModel,
    /// A table of the store has reached its bound; the message names the setting.
    StoreFull,
    /// The store's lock was not had within the bound.
    StoreBusy,
    /// The store's memory is not what this version wrote.
    StoreDamaged,
    /// The hold's id was never given out by this store, or so long ago that it is forgotten.
    UnknownHold,
}

impl Code {
    /// Every code, in the order of the table.
    pub const ALL: [Code; 11] = [
        Code::InvalidId,
        Code::InvalidNumber,
        Code::InvalidLimit,
        Code::InvalidTimeZone,
        Code::InvalidConfig,
        Code::InvalidChoice,
        Code::UnknownModel,
        Code::StoreFull,
        Code::StoreBusy,
        Code::StoreDamaged,
        Code::UnknownHold,
    ];

    /// The code as it stands on the wire, in logs and in `QuotaError.code`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::InvalidId => "invalid_id",
            Code::InvalidNumber => "invalid_number",
            Code::InvalidLimit => "invalid_limit",
            Code::InvalidTimeZone => "invalid_time_zone",
            Code::InvalidConfig => "invalid_config",
            Code::InvalidChoice => "invalid_choice",
            Code::UnknownModel => "unknown_model",
            Code::StoreFull => "store_full",
            Code::StoreBusy => "store_busy",
            Code::StoreDamaged => "store_damaged",
            Code::UnknownHold => "unknown_hold",
        }
    }

    /// True where the caller's input was wrong, false where the store could not serve it.
    #[must_use]
    pub const fn is_input(self) -> bool {
        !matches!(self, Code::StoreFull | Code::StoreBusy | Code::StoreDamaged)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure: its code, the field it is about, the value as given (shortened), and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: Code,
    field: String,
    message: String,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest excerpt of a bad value that an error repeats, in characters.
const EXCERPT_CHARS: usize = 60;

impl Error {
    /// An error about `field`, whose `value` is not what `expected` describes.
    pub fn invalid(code: Code, field: impl Into<String>, value: impl fmt::Display, expected: &str) -> Self {
        let field = field.into();
        let message = format!("{field}: {} is not valid; expected {expected}", excerpt(&value.to_string()));
        Self { code, field, message }
    }

    /// An error of the store or of a file, where the message says all.
    pub fn new(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, field: field.into(), message: message.into() }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The field, setting or table that the error is about.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// One sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// `value` in quotes, control characters escaped, cut after [`EXCERPT_CHARS`] characters with its full length told.
fn excerpt(value: &str) -> String {
    let mut shown: String = value.chars().take(EXCERPT_CHARS).flat_map(char::escape_debug).collect();
    if value.chars().nth(EXCERPT_CHARS).is_some() {
        shown.push_str(&format!("... ({} bytes)", value.len()));
    }
    format!("'{shown}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }

    #[test]
    fn a_huge_value_is_shortened_and_measured() {
        let error = Error::invalid(Code::InvalidId, "workspace_id", "x".repeat(10_000_000), "1 to 256 bytes");
        assert!(error.message().len() < 200, "{}", error.message());
        assert!(error.message().contains("10000000 bytes"));
    }
}
