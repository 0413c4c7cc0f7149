//! The shared store: a region on a file, history in SQLite beside it, and a thread that takes what happened from the one to the
//! other.
//!
//! Answers how a store that processes share is opened, found stale, made anew and kept in order. Never decides about a call, and
//! never holds the region's lock across I/O. Called by the manager, once for each store.

mod archive;
mod breakers;
mod caretaker;
mod open;

pub(crate) use archive::Archive;
pub(crate) use caretaker::{Caretaker, Estate};
pub(crate) use open::{SharedStore, open};

use std::path::PathBuf;
use std::time::Duration;

use crate::store::history::Retention;

/// The file that history lies in, in the store's directory.
pub(crate) const HISTORY: &str = "history.db";

/// A shared store's own settings.
#[derive(Debug, Clone)]
pub struct SharedOptions {
    /// Its directory: absolute, on a local disk.
    pub directory: PathBuf,
    /// How long history keeps what.
    pub retention: Retention,
    /// It only looks: the limits that it was given are published to nobody, and those of the store hold.
    pub observes: bool,
    /// Stands in for the machine's boot, in tests of what a power cut leaves.
    #[doc(hidden)]
    pub boot: Option<u64>,
}

impl SharedOptions {
    /// A store in this directory, with everything else as it is by default.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), retention: Retention::default(), observes: false, boot: None }
    }
}

/// How long a question waits for history to have what happened before it.
pub(crate) const FLUSH_BOUND: Duration = Duration::from_secs(5);
