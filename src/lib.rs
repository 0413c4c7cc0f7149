//! llmquota: an exact LLM quota for every workspace of a backend. This crate is the engine: synchronous Rust that knows no
//! Python, no environment and no sockets.
//!
//! A tour in reading order. [`account`] names whose counters a call touches; [`clock`] brings time in as an argument;
//! [`config`] says which limits an account has; `rules` decides, as pure functions; `usage` prices and estimates; `store`
//! keeps the counters behind one verb; `signal` says it to people; [`manager`] is the front door to all of them and
//! [`reservation`] what it hands out. Errors are values with a stable code ([`error`]); the shapes that leave are in [`wire`].

pub mod account;
pub mod clock;
pub mod config;
pub mod error;
pub mod manager;
pub mod reservation;
pub mod rules;
pub mod signal;
pub mod store;
pub mod tracker;
pub mod usage;
pub mod waiting;
pub mod wire;

pub use account::{Call, Scope};
pub use clock::{Clock, ManualClock, Now, SystemClock};
pub use error::{Code, Error, Result};
pub use manager::{Manager, Options};
pub use reservation::{Ask, Hold, HoldId, Report, Verdict};
pub use tracker::Tracker;
