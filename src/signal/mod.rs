//! WHO IS TOLD: what people and monitors learn about a quota.
//!
//! Answers "what should be said about this state or this refusal, and how is it said in the reader's language?", and counts
//! what the process did. Never decides whether a call may go, never changes a counter of an account, never sends anything:
//! whoever asks gets a value back. Called by the manager and the binding, after the store has answered.
//!
//! - [`notices`]: a state or a refusal becomes an id and arguments, without prose.
//! - [`i18n`]: an id and arguments become a text, from `locales/<lang>/quota.ftl`.
//! - [`languages`]: an `Accept-Language` value becomes one of the languages there are.
//! - [`telemetry`]: plain numbers of this process, for an exporter to read.

pub mod i18n;
pub mod languages;
pub mod notices;
mod phrases;
pub mod telemetry;
mod vocabulary;
