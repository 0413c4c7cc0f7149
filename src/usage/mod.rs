//! WHAT WAS USED: this room says how many tokens a call took, what that costs, and what a call will take at most.
//!
//! It never decides whether a call is allowed (`rules`), never keeps a count (`store`) and never reads a clock or a
//! setting: the instant, the price table and the tariff are arguments. The manager calls it before a call, to know how
//! much to reserve, and after it, to turn the provider's numbers into what is settled.

pub mod answer;
pub mod estimates;
pub mod history;
pub mod learning;
pub mod money;
pub mod pricing;
pub mod request;
pub mod tokens;
pub mod units;

pub use money::NanoUsd;
pub use tokens::TokenUsage;
pub use units::Units;
