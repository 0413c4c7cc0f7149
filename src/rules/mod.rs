//! WHAT IS ALLOWED: pure functions of (limits, counts, now).
//!
//! Answers whether a call fits, which limits are in its way and until when, and what state an account is in. Never stores
//! anything, never reads a clock, never tells anybody. Called by the store at each batch and by the manager for reports.

pub mod breaker;
pub mod decisions;
pub mod left;
pub mod limits;
pub mod status;
pub mod turns;
pub mod windows;
