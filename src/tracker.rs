//! One workspace's view of the manager.

use std::sync::Arc;
use std::time::Duration;

use crate::account::{Call, Chain, Hints};
use crate::error::Result;
use crate::manager::{DEFAULT_TTL, Manager};
use crate::reservation::{Ask, Receipt, Report, Verdict};
use crate::wire::{Decision, Snapshot};

/// A workspace's own door: what it records and reserves is its own. It keeps nothing, so it never goes stale.
#[derive(Debug, Clone)]
pub struct Tracker {
    manager: Manager,
    workspace: String,
    /// Where the store found this workspace's accounts the last time; it checks.
    hints: Arc<Hints>,
}

impl Tracker {
    pub(crate) fn new(manager: Manager, workspace: String) -> Self {
        Self { manager, workspace, hints: Arc::default() }
    }

    /// Whose it is.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// The manager behind it.
    #[must_use]
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// A call of this workspace, to be given a goal, a task, a model.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        Call::new(&self.workspace)
    }

    /// Reports what has happened; see [`Manager::record`].
    ///
    /// # Errors
    /// As there.
    pub fn record(&self, report: &Report<'_>) -> Result<Receipt> {
        self.record_call(&self.call(), report)
    }

    /// The same for a goal, a task, a model: `call`'s own workspace is not looked at.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn record_call(&self, call: &Call<'_>, report: &Report<'_>) -> Result<Receipt> {
        let mut chain = Chain::default();
        call.chain_hinted(&self.workspace, &self.hints, &mut chain)?;
        self.manager.record_chain(call, &chain, report)
    }

    /// Asks for a hold that lives ten minutes; see [`Manager::reserve`].
    ///
    /// # Errors
    /// As there.
    pub fn reserve(&self, ask: &Ask) -> Result<Verdict> {
        self.reserve_for(ask, DEFAULT_TTL)
    }

    /// Asks for a hold of another life.
    ///
    /// # Errors
    /// As [`Manager::reserve`].
    pub fn reserve_for(&self, ask: &Ask, ttl: Duration) -> Result<Verdict> {
        self.manager.reserve(&self.call(), ask, ttl)
    }

    /// What a reserve would answer.
    ///
    /// # Errors
    /// As [`Manager::explain`].
    pub fn explain(&self, ask: &Ask) -> Result<Decision> {
        self.manager.explain(&self.call(), ask)
    }

    /// Whether there is room for the least of calls.
    ///
    /// # Errors
    /// As [`Manager::can_make_request`].
    pub fn can_make_request(&self) -> Result<bool> {
        self.manager.has_room(&self.workspace, Some(&self.hints))
    }

    /// The workspace as it stands.
    ///
    /// # Errors
    /// As [`Manager::snapshot`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.manager.snapshot(&self.workspace)
    }

    /// Forgets what was used; see [`Manager::reset`].
    ///
    /// # Errors
    /// As there.
    pub fn reset(&self) -> Result<()> {
        self.manager.reset(&self.workspace)
    }
}
