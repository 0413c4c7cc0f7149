//! What a caller asks for, reports, and gets: the words of one call.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::account::Call;
use crate::error::Result;
use crate::manager::{Manager, fact};
use crate::rules::breaker::Failure;
use crate::store::region::fork_generation;
use crate::usage::pricing::{Certainty, Processing};
use crate::usage::{NanoUsd, TokenUsage, Units};
use crate::wire::Decision;

use crate::store::Fact;
pub use crate::store::{Details, Ended, HoldId, HoldState};

/// What a call is going to need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Requests; 1 for a call.
    pub requests: u32,
    /// Tokens as the provider counts them against its own limit, the answer included.
    pub tokens: u64,
    /// The most it may cost; `None` prices the tokens.
    pub cost: Option<NanoUsd>,
}

impl Ask {
    /// One request of so many tokens, priced by its model.
    #[must_use]
    pub const fn tokens(tokens: u64) -> Self {
        Self { requests: 1, tokens, cost: None }
    }
}

impl Default for Ask {
    fn default() -> Self {
        Self::tokens(0)
    }
}

/// What a call has used, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// Requests that may have left: 0 for a connection that was refused, else 1.
    pub requests: u32,
    /// Tokens.
    pub usage: TokenUsage,
    /// What was used beside them.
    pub units: Option<&'a Units<'a>>,
    /// What it cost; `None` prices the usage.
    pub cost: Option<NanoUsd>,
    /// How the provider processed it, for its price.
    pub processing: Processing,
    /// How it failed, where it did.
    pub failure: Option<Failure>,
    /// What history keeps beside.
    pub details: Option<Details<'a>>,
}

impl Report<'_> {
    /// A call that succeeded.
    #[must_use]
    pub fn success(usage: TokenUsage) -> Self {
        Self {
            requests: 1,
            usage,
            units: None,
            cost: None,
            processing: Processing::default(),
            failure: None,
            details: None,
        }
    }

    /// A call that failed and used nothing that anybody told.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::success(TokenUsage::default()) }
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// What was counted as its cost.
    pub cost: NanoUsd,
    /// How sure that is.
    pub certainty: Certainty,
    /// An id did not fit the store's bound; it was counted in its workspace's `other`.
    pub folded: bool,
}

/// The answer to a reserve.
#[derive(Debug)]
pub enum Verdict {
    /// It may go.
    Granted(Hold),
    /// It may not, and this is why and until when.
    Refused(Decision),
}

/// The names of a call, kept for its settling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallNames {
    workspace: String,
    goal: Option<String>,
    task: Option<String>,
    model: Option<String>,
    user: Option<String>,
    credential: Option<String>,
}

impl CallNames {
    pub(crate) fn of(call: &Call<'_>) -> Self {
        let own = |name: Option<&str>| name.map(str::to_owned);
        Self {
            workspace: call.workspace.unwrap_or_default().to_owned(),
            goal: own(call.goal),
            task: own(call.task),
            model: own(call.model),
            user: own(call.user),
            credential: own(call.credential),
        }
    }

    /// The call again.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        Call {
            workspace: Some(&self.workspace),
            goal: self.goal.as_deref(),
            task: self.task.as_deref(),
            model: self.model.as_deref(),
            user: self.user.as_deref(),
            credential: self.credential.as_deref(),
        }
    }
}

/// What is set aside for one call, until it ends. Dropped without a word it is released if nothing has left, and charged as
/// held, `estimated`, if something may have.
#[derive(Debug)]
pub struct Hold {
    manager: Manager,
    id: HoldId,
    names: CallNames,
    /// The store has counted something in its place, or will where nobody ends it.
    counted: AtomicBool,
    /// What it was settled with.
    settled: Option<Fact<'static>>,
    /// A pass of an account whose policy is `open` while the store could not be asked: nothing is set aside for it.
    uncounted: bool,
    /// The fork generation of the process that it was given to: a forked child's copy ends nothing by being dropped.
    forks: u64,
}

impl Hold {
    pub(crate) fn new(manager: Manager, id: HoldId, call: &Call<'_>) -> Self {
        Self {
            manager,
            id,
            names: CallNames::of(call),
            counted: AtomicBool::new(false),
            settled: None,
            uncounted: false,
            forks: fork_generation(),
        }
    }

    pub(crate) fn uncounted(manager: Manager, call: &Call<'_>) -> Self {
        let mut hold = Self::new(manager, HoldId(0), call);
        hold.uncounted = true;
        hold
    }

    /// True where nothing is set aside for it.
    pub(crate) fn is_uncounted(&self) -> bool {
        self.uncounted
    }

    /// Its name, for logs and as the provider's request id.
    #[must_use]
    pub fn id(&self) -> HoldId {
        self.id
    }

    /// Whom it is for.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        self.names.call()
    }

    /// Marks that bytes are about to leave.
    ///
    /// # Errors
    /// Those of the store.
    pub fn start(&self) -> Result<Ended> {
        if self.uncounted {
            return Ok(Ended { was: HoldState::Reserved, is: HoldState::Started, changed: true });
        }
        self.counted.store(true, Ordering::Relaxed);
        self.manager.start(self.id)
    }

    /// Ends it with what was used. The first settle counts; `model` is what the provider says it used, where it says so.
    ///
    /// # Errors
    /// [`crate::Code::InvalidNumber`] for usage that cannot be, and then nothing is changed; those of the store.
    pub fn settle(&mut self, report: &Report<'_>, model: Option<&str>) -> Result<(Ended, Receipt)> {
        if self.uncounted {
            let receipt = self.manager.record(&self.names.call(), report)?;
            (self.uncounted, self.counted) = (false, AtomicBool::new(true));
            return Ok((Ended { was: HoldState::Started, is: HoldState::Settled, changed: true }, receipt));
        }
        let in_place = *self.counted.get_mut();
        let (ended, receipt) = self.manager.settle(self.id, &self.names.call(), report, model, in_place)?;
        self.counted = AtomicBool::new(true);
        // What was released before counts as of now, and not of when this was given.
        if ended.changed && ended.was != HoldState::Released {
            self.settled = Some(fact(report, receipt.cost, receipt.certainty).without_details());
        }
        Ok((ended, receipt))
    }

    /// Takes back what it was settled with: it was the call of somebody else, who is charged for it by a record of its own.
    /// Changes nothing where this hold was not settled.
    ///
    /// # Errors
    /// Those of the store.
    pub fn take_back(&mut self) -> Result<Ended> {
        let Some(fact) = self.settled else {
            return Ok(Ended { was: HoldState::Started, is: HoldState::Started, changed: false });
        };
        let ended = self.manager.take_back(self.id, &self.names.call(), &fact)?;
        if ended.changed {
            (self.settled, self.counted) = (None, AtomicBool::new(false));
        }
        Ok(ended)
    }

    /// Ends it with nothing used: the caller knows that nothing was sent.
    ///
    /// # Errors
    /// Those of the store.
    pub fn release(&mut self) -> Result<Ended> {
        if self.uncounted {
            return Ok(Ended { was: HoldState::Reserved, is: HoldState::Released, changed: true });
        }
        let ended = self.manager.release(self.id, &self.names.call())?;
        if ended.is == HoldState::Released {
            self.counted = AtomicBool::new(false);
        }
        Ok(ended)
    }

    /// Lets go without a word, as a drop does.
    ///
    /// # Errors
    /// Those of the store.
    pub fn abandon(&mut self) -> Result<Ended> {
        if self.uncounted {
            return Ok(Ended { was: HoldState::Reserved, is: HoldState::Released, changed: false });
        }
        self.manager.abandon(self.id, &self.names.call())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.uncounted && self.forks == fork_generation() {
            // Ended holds are left as they are; a store that cannot be asked ends this one by its expiry.
            let _ended = self.manager.abandon(self.id, &self.names.call());
        }
    }
}
