//! WHAT HAS HAPPENED, kept for good: history's rows and what they add up to, in one SQLite file beside a shared region.
//!
//! Answers which calls there were, what an account has used in an hour, a day, a month or ever, and whether those sums are
//! the rows'. Never decides, never counts ahead of the region, and is never waited for by a call: the [`Keeper`] takes what the
//! journal drained, in transactions that are whole or not there, and each [`Reader`] looks at what they left. Called by the
//! shared store and by those who ask for history; the file is theirs alone.

mod accumulate;
mod batch;
mod book;
mod breakers;
mod corrections;
mod fault;
mod filter;
pub(crate) mod gate;
mod holds;
mod keeper;
mod names;
mod postings;
mod query;
mod reader;
pub(crate) mod recent;
mod retention;
mod rows;
mod schema;
mod timeline;
mod verify;

use std::time::Duration;

pub use filter::{MOST_ROWS, Query};
pub use keeper::Keeper;
pub use query::{Amounts, Rollup, Row};
pub use reader::{Listed, Reader, Saved};
pub use verify::Difference;

use crate::account::Scope;
use crate::rules::breaker::Cause;
use crate::usage::history::{Entry, Named, Span, Sums};

/// Entries of the journal, in their order, and the accounts that they name by place. An account may come more than once: with
/// each zone that it had when an entry landed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drained {
    /// The accounts.
    pub accounts: Vec<Named>,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// An account as the region counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The account.
    pub account: Named,
    /// Its sums since the store began.
    pub total: Sums,
    /// The periods that the region keeps: the span, its start (Unix seconds), and the sums. Of an hour, requests alone count.
    pub periods: Vec<(Span, i64, Sums)>,
}

/// A breaker as it is kept. All times are wall nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedBreaker {
    /// What its account stands for.
    pub scope: Scope,
    /// What that lies inside.
    pub owner: String,
    /// The account's name.
    pub name: String,
    /// Why it is open.
    pub cause: Cause,
    /// How often in a row it opened.
    pub strikes: u8,
    /// When it opened.
    pub opened: i64,
    /// Until when it is open.
    pub until: i64,
    /// Start of the current half of its rate window.
    pub half: i64,
    /// Calls in that half and in the one before.
    pub calls: [u32; 2],
    /// Failures among them.
    pub failures: [u32; 2],
}

impl Default for Retention {
    /// Rows for 90 days, hours for as long, days for 400.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self { rows: DAY * 90, hours: DAY * 90, days: DAY * 400 }
    }
}

/// How long history is kept; [`Duration::MAX`] is for ever. Months and totals always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows.
    pub rows: Duration,
    /// The sums of hours, which stay at least as long as the rows that count in them.
    pub hours: Duration,
    /// The sums of days, likewise.
    pub days: Duration,
}
