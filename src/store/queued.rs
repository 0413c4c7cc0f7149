//! Those who wait, as a store knows them: so that all its processes serve them in one order.

use std::time::Duration;

use crate::rules::turns::{Place, Priority};

/// How long somebody who was told what is in the way stands in the way of others without looking again. A process that was
/// stopped, or an event loop that hangs, keeps nobody back for longer.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// The same for somebody who was told that others of the same process go first, and who looks more rarely.
pub const PATIENCE_BEHIND: Duration = Duration::from_secs(30);

/// Somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Its place in the order.
    pub place: Place,
    /// Where its workspace's next place begins, as long as it waits.
    pub end: u64,
    /// Where the store keeps its ticket; 0 where it had no room for one, and other processes cannot see that it waits.
    pub ticket: u32,
}

/// From where in the queue a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// As a plain reserve, which does not wait and passes nobody who does.
    #[default]
    Plain,
    /// As somebody who came to wait just now.
    Newcomer(Priority),
    /// As somebody who waits already.
    Waiting(Place),
}
