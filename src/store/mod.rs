//! WHERE IT IS KEPT: counters, holds and breakers behind one verb, [`Store::apply`].
//!
//! Answers what happened to a batch: granted, refused, recorded, ended, read. Each batch is one atomic step over the whole
//! chain of accounts. Never prices, never speaks, never waits for I/O. Called by the manager alone; every store passes the
//! one list of [`conformance`].

#[doc(hidden)]
pub mod conformance;
pub mod history;
mod queued;
pub mod region;
pub mod shared;

use std::time::Duration;

pub use queued::{PATIENCE, PATIENCE_BEHIND, Queued, Standing};

use crate::account::{AccountId, Chain, Hints, Scope};
use crate::clock::Now;
use crate::error::Result;
use crate::rules::breaker::{Breaker, Failure};
use crate::rules::decisions::{Ask, Bucket, Counts, Frees, Reading};
use crate::rules::left::Left;
use crate::rules::limits::{Limit, LimitKind, LimitSet, Thresholds};
use crate::rules::turns::Priority;
use crate::rules::windows::Periods;

/// Names a hold for ever: no store gives the same number out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldId(pub u64);

impl std::fmt::Display for HoldId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hold-{:016x}", self.0)
    }
}

/// What a call tells of itself beside its numbers, for history. Longer texts are cut: the request's id at 96 bytes, the method
/// at 48.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details<'a> {
    /// How long the call took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// The provider's name for the request; `""` where none is known.
    pub request_id: &'a str,
    /// The provider's method, such as `chat.completions.create`; `""` where none is known.
    pub method: &'a str,
}

/// What has happened, in plain numbers: it always lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fact<'a> {
    /// Requests; 0 where no bytes left (a refused connection).
    pub requests: u32,
    /// All tokens.
    pub tokens: u64,
    /// Tokens sent.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
    /// Of those sent, the cached ones.
    pub cached: u64,
    /// Of those made, the hidden reasoning.
    pub reasoning: u64,
    /// Nano-dollars.
    pub cost: u64,
    /// The cost or the tokens are an estimate.
    pub estimated: bool,
    /// How it failed, where it did.
    pub failure: Option<Failure>,
    /// What history keeps beside.
    pub details: Option<&'a Details<'a>>,
}

impl Fact<'_> {
    /// The same without what only history keeps.
    #[must_use]
    pub const fn without_details(&self) -> Fact<'static> {
        let Self { requests, tokens, input, output, cached, reasoning, cost, estimated, failure, details: _ } = *self;
        Fact { requests, tokens, input, output, cached, reasoning, cost, estimated, failure, details: None }
    }
}

/// The periods that counters are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The last 60 seconds.
    Minute,
    /// Today.
    Day,
    /// This month.
    Month,
    /// Since the store began.
    Total,
}

/// The counters that an adjustment may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Requests.
    Requests,
    /// Failed requests.
    Errors,
    /// Tokens.
    Tokens,
    /// Nano-dollars.
    Cost,
}

/// A change by hand of what is remembered. Open holds are never touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjust {
    /// Sets one counter; other periods stay.
    Set(Period, Counter, u64),
    /// Zeroes every counter of the account and, for a workspace, of all accounts inside it; closes their breakers.
    Reset,
    /// Closes the account's own breaker.
    CloseBreaker,
    /// Sets or clears the time of the last error (wall nanoseconds).
    LastError(Option<i64>),
}

/// One atomic step.
#[derive(Debug, Clone, Copy)]
pub enum Batch<'a> {
    /// Take every limit of the chain, or nothing; nothing where those of other processes wait who go first.
    Reserve {
        /// The accounts.
        chain: &'a Chain<'a>,
        /// What is asked of each.
        ask: Ask,
        /// How long the hold lives before it is ended for its owner.
        ttl: Duration,
        /// Who waited for it. A grant ends the waiting; a refusal notes what it waits for, and that it still does.
        queued: Option<Queued>,
    },
    /// What a reserve would answer now, or a waiter when; changes nothing.
    Explain {
        /// The accounts.
        chain: &'a Chain<'a>,
        /// What would be asked.
        ask: Ask,
        /// By whom.
        standing: Standing,
    },
    /// Take a place among those who wait. Until its first try it waits for every account of its chain.
    Queue {
        /// The accounts.
        chain: &'a Chain<'a>,
        /// What it waits for.
        ask: Ask,
        /// How urgent it is.
        priority: Priority,
        /// The share of its workspace.
        weight: u16,
        /// Where the last place of its workspace ends that waits in this process; 0 for none.
        after: u64,
    },
    /// Somebody still waits, behind others of the same process.
    Stay {
        /// Who.
        queued: Queued,
        /// The accounts that those wait for, by their places in its chain.
        behind: &'a [usize],
    },
    /// Somebody waits no longer.
    Leave(Queued),
    /// Bytes are about to leave for this hold.
    Start(HoldId),
    /// The call of a hold ended so. Idempotent by id.
    Settle {
        /// Which.
        hold: HoldId,
        /// Its accounts again, for a settle that comes so late that one of them has left the store's memory meanwhile.
        chain: Option<&'a Chain<'a>>,
        /// What happened.
        fact: &'a Fact<'a>,
    },
    /// What this hold was settled with was somebody else's call, who is charged for it elsewhere: it is as if it had been
    /// released. Changes nothing but a hold that was settled. `fact` is what it was settled with.
    TakeBack {
        /// Which.
        hold: HoldId,
        /// Its accounts again.
        chain: &'a Chain<'a>,
        /// What is taken back.
        fact: &'a Fact<'a>,
    },
    /// Nothing was sent for this hold.
    Release(HoldId),
    /// Its owner let go of it without a word: released if reserved, charged as held if started.
    Abandon(HoldId),
    /// A call that nobody reserved ended so.
    Record {
        /// The accounts.
        chain: &'a Chain<'a>,
        /// What happened.
        fact: &'a Fact<'a>,
    },
    /// A provider's failure told by hand: a fact without a call.
    Learn {
        /// The accounts whose breakers learn of it.
        chain: &'a Chain<'a>,
        /// The failure.
        failure: Failure,
    },
    /// What an answer says is left of the provider's own limits: no failure, and counts nothing.
    Hear {
        /// The accounts; that of the provider's model, or else of the credential, takes it.
        chain: &'a Chain<'a>,
        /// What is left.
        left: Left,
        /// When the call began that was answered (monotonic nanoseconds).
        began: i64,
        /// It was answered well, and not with a failure.
        well: bool,
    },
    /// Change what is remembered of the chain's last account.
    Adjust {
        /// The account.
        chain: &'a Chain<'a>,
        /// The change.
        adjust: Adjust,
    },
    /// Read every account of the chain. Creates none.
    Read(&'a Chain<'a>),
    /// List the accounts of a scope inside an owner (`""` for the outermost).
    List {
        /// What to list.
        scope: Scope,
        /// Inside which workspace.
        owner: &'a str,
    },
    /// List the provider breakers that are not closed.
    Breakers,
}

impl<'a> Batch<'a> {
    /// The accounts that it is about.
    #[must_use]
    pub fn chain(&self) -> Option<&'a Chain<'a>> {
        match *self {
            Batch::Reserve { chain, .. }
            | Batch::Explain { chain, .. }
            | Batch::Queue { chain, .. }
            | Batch::Record { chain, .. }
            | Batch::Learn { chain, .. }
            | Batch::TakeBack { chain, .. }
            | Batch::Hear { chain, .. }
            | Batch::Adjust { chain, .. }
            | Batch::Read(chain) => Some(chain),
            Batch::Settle { chain, .. } => chain,
            Batch::Start(_)
            | Batch::Release(_)
            | Batch::Abandon(_)
            | Batch::Stay { .. }
            | Batch::Leave(_)
            | Batch::List { .. }
            | Batch::Breakers => None,
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Receipt {
    /// The hold was written.
    Granted(Grant),
    /// Something is in the way; nothing was written.
    Refused(Box<Refusal>),
    /// A place among those who wait.
    Queued(Queued),
    /// What was said of somebody who waits is noted.
    Noted,
    /// The fact landed.
    Recorded(Landed),
    /// The hold is ended.
    Ended(Ended),
    /// The accounts of the chain, in its order.
    Read(Now, Vec<AccountReading>),
    /// The accounts asked for.
    Listed(Vec<Listed>),
    /// The breakers asked for.
    Breakers(Now, Vec<(String, Breaker)>),
}

/// A hold that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub hold: HoldId,
    /// When it was given.
    pub at: Now,
    /// It is the probe of a half-open breaker.
    pub probe: bool,
}

/// Where a fact landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landed {
    /// An id did not fit the store's bound and was counted in its workspace's `other`.
    pub folded: bool,
}

/// How a hold stands, or stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HoldState {
    /// Granted; nothing has left.
    Reserved = 1,
    /// Bytes have left, or may have.
    Started = 2,
    /// The caller said what was used.
    Settled = 3,
    /// Nothing was used.
    Released = 4,
    /// Nobody said what was used: charged as held, `estimated`; a later settle replaces it.
    Charged = 5,
}

impl HoldState {
    /// The state of a stored number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Reserved),
            2 => Some(Self::Started),
            3 => Some(Self::Settled),
            4 => Some(Self::Released),
            5 => Some(Self::Charged),
            _ => None,
        }
    }

    /// The state as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Started => "started",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Charged => "charged",
        }
    }

    /// True while the call may still be going on.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Reserved | Self::Started)
    }
}

/// What an end did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The state before.
    pub was: HoldState,
    /// The state now.
    pub is: HoldState,
    /// True where this very batch changed something.
    pub changed: bool,
}

/// Why a reserve was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// When it was decided.
    pub at: Now,
    /// So many others go first. A reserve then says no more; what explains says what else is in the way, they included.
    pub ahead: u32,
    /// The accounts that those wait for, by their places in the chain.
    pub behind: Vec<usize>,
    /// Every enforced limit in the way.
    pub limits: Vec<Blocking>,
    /// Every breaker in the way, each with the place of its account in the chain.
    pub breakers: Vec<(usize, Breaker)>,
}

impl Refusal {
    /// With nothing in the way yet.
    pub(crate) const fn at(at: Now) -> Self {
        Self { at, ahead: 0, behind: Vec::new(), limits: Vec::new(), breakers: Vec::new() }
    }

    /// The accounts in the way, by their places in the chain; none where the store itself is.
    pub(crate) fn in_the_way(&self) -> impl Iterator<Item = usize> {
        let limits = self.limits.iter().map(|blocking| blocking.place);
        let breakers = self.breakers.iter().map(|(place, _)| *place);
        self.behind.iter().copied().chain(limits).chain(breakers)
    }
}

/// One limit in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// The place of the account in the chain.
    pub place: usize,
    /// The kind.
    pub kind: LimitKind,
    /// The limit.
    pub limit: Limit,
    /// What is used and held.
    pub counts: Counts,
    /// What was asked.
    pub asked: u64,
    /// When it would fit.
    pub frees: Frees,
    /// When its window gives something back (wall nanoseconds).
    pub resets: Option<i64>,
    /// The account's thresholds.
    pub thresholds: Thresholds,
}

/// Usage of one period, in plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests, failed ones too.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// All tokens.
    pub tokens: u64,
    /// Tokens sent.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
    /// Cached tokens of those sent.
    pub cached: u64,
    /// Nano-dollars.
    pub cost: u64,
}

/// All that is known of one account.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountReading {
    /// False where the store has never heard of it: all counts are 0, the limits are those it would have.
    pub known: bool,
    /// Its limits.
    pub limits: LimitSet,
    /// Its thresholds.
    pub thresholds: Thresholds,
    /// What they count.
    pub reading: Reading,
    /// The last 60 seconds.
    pub minute: Tally,
    /// Today.
    pub day: Tally,
    /// This month.
    pub month: Tally,
    /// Since the store began.
    pub total: Tally,
    /// Its calendar periods.
    pub periods: Periods,
    /// The live buckets of the minute.
    pub buckets: Vec<Bucket>,
    /// When its open holds expire, soonest first; only where it has a concurrency limit.
    pub expiries: Vec<i64>,
    /// Open holds.
    pub open: u64,
    /// Its own breaker.
    pub breaker: Breaker,
    /// The provider's breaker that a call of this workspace moved last.
    pub met: Breaker,
    /// When an error was last recorded (wall nanoseconds).
    pub last_error: Option<i64>,
    /// Rises with each change.
    pub version: u64,
}

/// One account of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name; [`region::OTHER`] for what was folded.
    pub name: String,
    /// Since the store began.
    pub total: Tally,
    /// Today.
    pub day: Tally,
    /// When it was last touched (wall nanoseconds, to the second).
    pub seen: i64,
}

/// A keeper of counters.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Applies one batch as one atomic step.
    ///
    /// # Errors
    /// [`crate::Code::StoreBusy`] where the lock was not had within its bound, [`crate::Code::StoreFull`] where a table is
    /// full, [`crate::Code::UnknownHold`] for a hold never given.
    fn apply(&self, batch: &Batch<'_>) -> Result<Receipt>;

    /// [`Batch::Record`], the batch that everything else is measured by, without its wrapping.
    ///
    /// # Errors
    /// As [`Store::apply`].
    fn record(&self, chain: &Chain<'_>, fact: &Fact<'_>) -> Result<Landed>;

    /// True where [`Store::apply`] would not have to wait just now: the binding then keeps the GIL.
    fn is_free(&self) -> bool;

    /// Whether the account has room for the least of calls, from a reading that takes no lock; `None` where it takes one.
    fn peek(&self, account: &AccountId<'_>, hints: Option<&Hints>) -> Option<bool>;

    /// Takes the limits of another configuration; usage and holds stay.
    fn configure(&self, config: std::sync::Arc<crate::config::Config>);
}
