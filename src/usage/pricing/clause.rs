//! One rule of the table that says whether a name is meant.

use regex_lite::Regex;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// A rule over a lower-cased name. Texts in the table are lower case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Clause {
    Equals(Box<str>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// Found anywhere in the name, unless anchored.
    #[serde(deserialize_with = "pattern")]
    Regex(Regex),
    Not(Box<Clause>),
    Or(Vec<Clause>),
    And(Vec<Clause>),
}

impl Clause {
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Clause::Equals(text) => name == &**text,
            Clause::StartsWith(text) => name.starts_with(&**text),
            Clause::EndsWith(text) => name.ends_with(&**text),
            Clause::Contains(text) => name.contains(&**text),
            Clause::Regex(pattern) => pattern.is_match(name),
            Clause::Not(clause) => !clause.matches(name),
            Clause::Or(clauses) => clauses.iter().any(|clause| clause.matches(name)),
            Clause::And(clauses) => clauses.iter().all(|clause| clause.matches(name)),
        }
    }
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Regex, D::Error> {
    Regex::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_clause_matches_what_it_says() {
        let cases: [(&str, &[&str], &[&str]); 8] = [
            (r#"{"equals":"gpt-4o"}"#, &["gpt-4o"], &["gpt-4o-mini", "gpt-4", ""]),
            (r#"{"starts_with":"gpt-"}"#, &["gpt-", "gpt-4"], &["a-gpt-4", "gpt"]),
            (r#"{"ends_with":"-tts"}"#, &["x-tts"], &["x-tts-1"]),
            (r#"{"contains":"4o"}"#, &["gpt-4o", "4o"], &["gpt-4"]),
            (r#"{"regex":"^o[134]$"}"#, &["o1", "o4"], &["o2", "xo1", "o11"]),
            (r#"{"not":{"contains":"mini"}}"#, &["gpt-4o"], &["gpt-4o-mini"]),
            (r#"{"or":[{"equals":"a"},{"equals":"b"}]}"#, &["a", "b"], &["ab"]),
            (r#"{"and":[{"contains":"a"},{"contains":"b"}]}"#, &["ab", "ba"], &["a", "b"]),
        ];
        for (json, matched, refused) in cases {
            let clause: Clause = serde_json::from_str(json).unwrap();
            for name in matched {
                assert!(clause.matches(name), "{json} {name}");
            }
            for name in refused {
                assert!(!clause.matches(name), "{json} {name}");
            }
        }
    }

    #[test]
    fn an_unknown_clause_and_a_broken_pattern_are_errors() {
        for json in [r#"{"like":"x"}"#, r#"{"regex":"("}"#, r#"{"regex":"^(?!x)"}"#, r#""equals""#] {
            assert!(serde_json::from_str::<Clause>(json).is_err(), "{json}");
        }
    }
}
