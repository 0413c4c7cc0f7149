//! The front door: validates, prices, asks the store, and says it in wire shapes.

mod admission;
mod answers;
mod keeping;
mod listening;
mod publishing;
mod snapshot;
mod subscription;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::account::{AccountId, Call, Chain, GLOBAL, Hints, Scope, canonical_workspace};
use crate::clock::{Clock, Now, SystemClock};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::reservation::{Ask, Ended, HoldId, HoldState, Receipt, Report};
use crate::rules::breaker::{Breaker, Cause, Failure};
use crate::rules::decisions::{self, in_the_way};
use crate::rules::left::Left;
use crate::rules::limits::MAX_COUNT;
use crate::signal::telemetry::Telemetry;
use crate::store::region::{DEFAULT_BYTES, Fill, Region};
use crate::store::shared::{self, SharedOptions, SharedStore};
use crate::store::{Adjust, Batch, Fact, Landed, Receipt as Stored, Store};
use crate::tracker::Tracker;
use crate::usage::learning::{Learning, Observation};
use crate::usage::pricing::{Certainty, PriceQuery, Prices, Processing, Tariff, UnknownModel};
use crate::usage::{NanoUsd, TokenUsage, Units};
use crate::waiting::Queue;
use listening::Listeners;

pub(crate) use answers::queued;
pub use keeping::{Finding, ProcessLine, StoreReport};
pub(crate) use listening::Listener;
pub use subscription::{Filter, Look, Subscription};

/// How long a hold lives that nobody ends, unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(600);
/// The longest life of a hold: a day.
pub const MAX_TTL: Duration = Duration::from_secs(86_400);
/// The most requests that one call can ask for.
const MOST_REQUESTS: u32 = 0xff_ffff;
/// How often a fact asks again while the store's lock is not to be had; each try waits its own bound.
const FACT_TRIES: u32 = 15;

/// How a manager is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bound of the store, in bytes.
    pub bytes: usize,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Whose limits are which.
    pub config: Config,
    /// Where processes share it; `None` for memory of this process alone.
    pub shared: Option<SharedOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self { bytes: DEFAULT_BYTES, clock: Arc::new(SystemClock), config: Config::default(), shared: None }
    }
}

/// Gives every workspace its quota. A clone is the same manager.
#[derive(Debug, Clone)]
pub struct Manager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    region: Region,
    shared: Option<SharedStore>,
    config: arc_swap::ArcSwap<Config>,
    /// The price per 1,000 tokens of no known model, in nano-dollars: what most records by hand need of the configuration.
    per_1k_tokens: AtomicI64,
    clock: Arc<dyn Clock>,
    telemetry: Telemetry,
    queue: Queue,
    listeners: Listeners,
    /// What calls really used. A lock that is not free at once is not waited for.
    learning: Mutex<Learning>,
}

impl Manager {
    /// A manager, on private memory or on a store that processes share.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] for a bound below 1 MiB; [`Code::StoreFull`] where the memory or the disk is not to be had;
    /// [`Code::InvalidConfig`] for a directory that cannot serve; [`Code::StoreDamaged`] for a file that is not ours, or not for
    /// this version.
    pub fn new(options: Options) -> Result<Self> {
        let config = Arc::new(options.config);
        let (region, shared) = match &options.shared {
            None => (Region::private(options.bytes, Arc::clone(&options.clock), Arc::clone(&config))?, None),
            Some(shared) => {
                let opened = shared::open(options.bytes, &options.clock, &config, shared)?;
                (opened.region, Some(opened.store))
            }
        };
        let manager = Self(Arc::new(Inner {
            region,
            shared,
            per_1k_tokens: AtomicI64::new(config.tariff().per_1k_tokens().nanos()),
            config: arc_swap::ArcSwap::new(config),
            clock: options.clock,
            telemetry: Telemetry::default(),
            queue: Queue::default(),
            listeners: Listeners::default(),
            learning: Mutex::default(),
        }));
        if let Some(shared) = &manager.0.shared {
            manager.0.begin_publishing()?;
            let estate: Weak<Inner> = Arc::downgrade(&manager.0);
            shared.take_care(estate);
        }
        // The last resort of facts has its place before anybody can fill the table.
        manager.0.region.have(&Call::new(GLOBAL).chain()?)?;
        Ok(manager)
    }

    /// One workspace's view.
    ///
    /// # Errors
    /// [`Code::InvalidId`] for an id that is none.
    pub fn tracker(&self, workspace: Option<&str>) -> Result<Tracker> {
        Ok(Tracker::new(self.clone(), canonical_workspace(workspace)?.to_owned()))
    }

    /// The store behind it, for the list of cases that every store passes.
    #[doc(hidden)]
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &self.0.region
    }

    /// The time, exactly.
    #[must_use]
    pub fn now(&self) -> Now {
        self.0.clock.exact()
    }

    /// Plain numbers of what this manager did.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// How full the store's tables are.
    #[must_use]
    pub fn fill(&self) -> Fill {
        self.0.region.fill()
    }

    /// True where no call of this manager would have to wait for the store just now.
    #[must_use]
    #[inline]
    pub fn is_free(&self) -> bool {
        self.0.region.is_free()
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.0.queue
    }

    fn apply(&self, batch: &Batch<'_>) -> Result<Stored> {
        self.0.region.apply(batch)
    }

    /// Reports what has happened. It always lands, past any limit.
    ///
    /// # Errors
    /// [`Code::InvalidId`] and [`Code::InvalidNumber`] for input that cannot be, and then nothing is recorded.
    pub fn record(&self, call: &Call<'_>, report: &Report<'_>) -> Result<Receipt> {
        let mut chain = Chain::default();
        call.chain_into(&mut chain)?;
        self.record_chain(call, &chain, report)
    }

    #[inline]
    pub(crate) fn record_chain(&self, call: &Call<'_>, chain: &Chain<'_>, report: &Report<'_>) -> Result<Receipt> {
        let (cost, certainty) = self.cost(call, report, None)?;
        let fact = fact(report, cost, certainty);
        let landed = self.record_lands(chain, &fact)?;
        self.0.telemetry.recorded(report.failure.is_none());
        self.0.queue.freed(chain);
        Ok(Receipt { cost, certainty, folded: landed.folded })
    }

    #[inline]
    fn record_lands(&self, chain: &Chain<'_>, fact: &Fact<'_>) -> Result<Landed> {
        self.0.region.record(chain, fact).or_else(|error| self.record_elsewhere(chain, fact, error))
    }

    /// A fact lands all the same: where the store was busy, on another try; where there is no room for the workspace
    /// itself, on the global one.
    #[cold]
    fn record_elsewhere(&self, chain: &Chain<'_>, fact: &Fact<'_>, error: Error) -> Result<Landed> {
        match insist(Err(error), || self.0.region.record(chain, fact)) {
            Err(error) if error.code() == Code::StoreFull => {
                self.0.region.record(&Call::new(GLOBAL).chain()?, fact).map(|_| Landed { folded: true })
            }
            other => other,
        }
    }

    /// Reports a permit of a legacy limiter: one request on the account `limiter/<name>` alone.
    ///
    /// # Errors
    /// [`Code::InvalidId`] for a name that is none.
    pub fn record_permit(&self, limiter: &str) -> Result<()> {
        let chain = Chain::limiter(limiter)?;
        self.fact_lands(&Batch::Record { chain: &chain, fact: &Fact { requests: 1, ..Fact::default() } })?;
        Ok(())
    }

    fn fact_lands(&self, batch: &Batch<'_>) -> Result<Stored> {
        insist(self.apply(batch), || self.apply(batch))
    }

    pub(crate) fn start(&self, hold: HoldId) -> Result<Ended> {
        self.end(&Batch::Start(hold))
    }

    /// `in_place`: what this hold stood for is counted, should the store have forgotten how it ended.
    pub(crate) fn settle(
        &self,
        hold: HoldId,
        call: &Call<'_>,
        report: &Report<'_>,
        model: Option<&str>,
        in_place: bool,
    ) -> Result<(Ended, Receipt)> {
        let (cost, certainty) = self.cost(call, report, model)?;
        let fact = fact(report, cost, certainty);
        let receipt = Receipt { cost: nanos(fact.cost), certainty, folded: false };
        let chain = call.chain()?;
        let ended = match self.end(&Batch::Settle { hold, chain: Some(&chain), fact: &fact }) {
            Err(error) if error.code() == Code::UnknownHold && in_place => {
                // Forgotten, so it was charged or settled long ago; nothing is counted twice.
                Ended { was: HoldState::Charged, is: HoldState::Settled, changed: false }
            }
            Err(error) if error.code() == Code::UnknownHold => {
                // Forgotten after it was released: what comes now is a fact of now.
                self.record_lands(&chain, &fact)?;
                Ended { was: HoldState::Released, is: HoldState::Settled, changed: true }
            }
            other => other?,
        };
        if ended.changed {
            self.0.telemetry.settled();
            self.tell_waiters(call);
        }
        Ok((ended, receipt))
    }

    /// `fact` is what it was settled with.
    pub(crate) fn take_back(&self, hold: HoldId, call: &Call<'_>, fact: &Fact<'_>) -> Result<Ended> {
        let ended = self.end(&Batch::TakeBack { hold, chain: &call.chain()?, fact })?;
        if ended.changed {
            self.tell_waiters(call);
        }
        Ok(ended)
    }

    pub(crate) fn release(&self, hold: HoldId, call: &Call<'_>) -> Result<Ended> {
        let ended = self.end(&Batch::Release(hold))?;
        if ended.changed {
            self.0.telemetry.released();
            self.tell_waiters(call);
        }
        Ok(ended)
    }

    pub(crate) fn abandon(&self, hold: HoldId, call: &Call<'_>) -> Result<Ended> {
        let ended = self.end(&Batch::Abandon(hold))?;
        if ended.changed {
            if ended.is == HoldState::Charged {
                self.0.telemetry.charged()
            } else {
                self.0.telemetry.released()
            }
            self.tell_waiters(call);
        }
        Ok(ended)
    }

    /// Something of this call ended.
    #[inline]
    fn tell_waiters(&self, call: &Call<'_>) {
        if !self.0.queue.is_empty()
            && let Ok(chain) = call.chain()
        {
            self.0.queue.freed(&chain);
        }
    }

    fn end(&self, batch: &Batch<'_>) -> Result<Ended> {
        match self.fact_lands(batch)? {
            Stored::Ended(ended) => Ok(ended),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the workspace has room for the least of calls: one request, one token, one nano-dollar.
    ///
    /// # Errors
    /// [`Code::InvalidId`]; those of the store.
    pub fn can_make_request(&self, workspace: &str) -> Result<bool> {
        self.has_room(canonical_workspace(Some(workspace))?, None)
    }

    #[inline]
    pub(crate) fn has_room(&self, name: &str, hints: Option<&Hints>) -> Result<bool> {
        if let Some(room) = self.0.region.peek(&AccountId { scope: Scope::Workspace, owner: "", name }, hints) {
            return Ok(room);
        }
        let (now, read) = self.read(&Call::new(name))?;
        let full = in_the_way(&read.limits, &read.reading, &decisions::Ask::LEAST).next().is_some();
        // A provider that fails is no want of room: the workspace is degraded, and what it calls may be another one.
        let shut = |breaker: &Breaker| breaker.cause != Cause::FailureRate && breaker.shuts(now.mono);
        Ok(!full && !shut(&read.breaker) && !shut(&read.met))
    }

    /// A failure that was told by hand, not with a call: it moves the breaker of the workspace, and of the provider where
    /// the call names a credential. Counts no request.
    ///
    /// # Errors
    /// [`Code::InvalidId`]; those of the store.
    pub fn learn(&self, call: &Call<'_>, failure: Failure) -> Result<()> {
        let chain = call.chain()?;
        self.fact_lands(&Batch::Learn { chain: &chain, failure }).map(|_| ())
    }

    /// What an answer says is left of the provider's own limits: until nothing is left no more, calls of its model behind its
    /// credential are refused, of all workspaces. No failure, and counts nothing. `began`: when the call was sent that was
    /// answered (monotonic nanoseconds); `well`: it was answered well.
    ///
    /// # Errors
    /// [`Code::InvalidId`]; those of the store.
    pub fn hear(&self, call: &Call<'_>, left: Left, began: i64, well: bool) -> Result<()> {
        // What nearly every answer says is no news where no breaker ever was.
        if left.is_silent() || left.used_up().is_none() && !self.0.region.has_breakers() {
            return Ok(());
        }
        let chain = call.chain()?;
        self.fact_lands(&Batch::Hear { chain: &chain, left, began, well })?;
        self.0.queue.freed(&chain);
        Ok(())
    }

    /// Changes what is remembered of a workspace. Open holds stay.
    ///
    /// # Errors
    /// [`Code::InvalidId`]; those of the store.
    pub fn adjust(&self, workspace: &str, adjust: Adjust) -> Result<()> {
        self.adjust_account(&Call { workspace: Some(workspace), ..Call::default() }, adjust)
    }

    /// Changes what is remembered of one account inside a workspace: the last of the call's chain.
    ///
    /// # Errors
    /// As [`Manager::adjust`].
    pub fn adjust_account(&self, call: &Call<'_>, adjust: Adjust) -> Result<()> {
        let chain = call.chain()?;
        self.fact_lands(&Batch::Adjust { chain: &chain, adjust })?;
        self.0.queue.wake();
        Ok(())
    }

    /// Forgets what a workspace and all inside it have used, and closes its breaker. Open holds stay.
    ///
    /// # Errors
    /// As [`Manager::adjust`].
    pub fn reset(&self, workspace: &str) -> Result<()> {
        self.adjust(workspace, Adjust::Reset)
    }

    /// What the store is asked for, with the cost reckoned where the caller gave none.
    pub(crate) fn ask(&self, call: &Call<'_>, ask: &Ask) -> Result<decisions::Ask> {
        if ask.tokens > MAX_COUNT {
            return Err(Error::invalid(Code::InvalidNumber, "tokens", ask.tokens, "a count from 0 to 2^53"));
        }
        if ask.requests > MOST_REQUESTS {
            return Err(Error::invalid(Code::InvalidNumber, "requests", ask.requests, "a count from 0 to 16777215"));
        }
        let cost = match ask.cost {
            Some(cost) => cost,
            None => {
                let usage = TokenUsage::unsplit(ask.tokens);
                let query = self.query(call, call.model, &usage, None, Processing::default());
                self.0.config.load().tariff().price(Prices::bundled(), &query)?.cost
            }
        };
        if cost.is_negative() {
            return Err(Error::invalid(Code::InvalidNumber, "cost_usd", cost, "an amount of 0 USD or more"));
        }
        Ok(decisions::Ask { requests: u64::from(ask.requests), tokens: ask.tokens, money: cost.nanos().unsigned_abs() })
    }

    /// Learns from what a call has used, for [`foresee`](Self::foresee). It is known to this process alone.
    pub fn observe(&self, workspace: &str, model: &str, call: &Observation) {
        if let Some(mut learning) = self.0.learning.try_lock() {
            learning.observe(workspace, model, call);
        }
    }

    /// The tokens of a prompt that was guessed to have so many, and of one answer without a maximum of its own, by what
    /// calls of this workspace and model, or else of this model, have used. `None` where nothing is known.
    #[must_use]
    pub fn foresee(&self, workspace: &str, model: &str, guessed_prompt: u64) -> (u64, Option<u64>) {
        match self.0.learning.try_lock() {
            Some(learning) => (learning.prompt(workspace, model, guessed_prompt), learning.output(workspace, model)),
            None => (guessed_prompt, None),
        }
    }

    /// What a report would cost now, and how sure that is: as it is reckoned when it is recorded. `model` is the provider's
    /// word, where it is another than the call's.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] for a usage that cannot be, and a cost out of range.
    pub fn price_of(&self, call: &Call<'_>, report: &Report<'_>, model: Option<&str>) -> Result<(NanoUsd, Certainty)> {
        self.cost(call, report, model)
    }

    /// What a report costs: as told, or by `model` (the provider's word) or the call's. A fact is never refused for want of
    /// a price: it then costs the price per 1,000 tokens, estimated.
    #[inline]
    fn cost(&self, call: &Call<'_>, report: &Report<'_>, model: Option<&str>) -> Result<(NanoUsd, Certainty)> {
        report.usage.validate()?;
        match report.cost {
            None => self.price(call, report, model.or(call.model)),
            Some(cost) if cost.is_negative() => {
                Err(Error::invalid(Code::InvalidNumber, "cost_usd", cost, "an amount of 0 USD or more"))
            }
            Some(cost) => Ok((cost, Certainty::Exact)),
        }
    }

    #[inline]
    fn price(&self, call: &Call<'_>, report: &Report<'_>, model: Option<&str>) -> Result<(NanoUsd, Certainty)> {
        if model.is_none() && report.units.is_none() {
            let per_1k = NanoUsd::from_nanos(self.0.per_1k_tokens.load(Ordering::Relaxed));
            let tariff = Tariff::new(UnknownModel::default(), per_1k)?;
            return Ok((tariff.flat(report.usage.total())?, Certainty::Estimated));
        }
        let config = self.0.config.load();
        let query = self.query(call, model, &report.usage, report.units, report.processing);
        match config.tariff().price(Prices::bundled(), &query) {
            Ok(priced) => Ok((priced.cost, priced.certainty)),
            Err(error) if error.code() == Code::UnknownModel => {
                Ok((config.tariff().guess(&report.usage, &query.units)?, Certainty::Estimated))
            }
            Err(error) => Err(error),
        }
    }

    fn query<'q>(
        &self,
        call: &Call<'q>,
        model: Option<&'q str>,
        usage: &'q TokenUsage,
        units: Option<&Units<'q>>,
        processing: Processing,
    ) -> PriceQuery<'q> {
        let (provider, model) = (provider(call), model.unwrap_or_default());
        PriceQuery { provider, model, usage, units: units.copied().unwrap_or_default(), at: self.stamp(), processing }
    }

    fn stamp(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.0.clock.coarse().wall)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Asks again as long as the store is busy, within bounds.
fn insist<T>(first: Result<T>, again: impl Fn() -> Result<T>) -> Result<T> {
    let mut answer = first;
    for _ in 0..FACT_TRIES {
        match answer {
            Err(error) if error.code() == Code::StoreBusy => answer = again(),
            other => return other,
        }
    }
    answer
}

/// A report and its price in plain numbers, as the store takes them.
#[inline]
pub(crate) fn fact<'a>(report: &'a Report<'_>, cost: NanoUsd, certainty: Certainty) -> Fact<'a> {
    let usage = &report.usage;
    Fact {
        requests: report.requests,
        tokens: usage.total(),
        input: usage.input,
        output: usage.output,
        cached: usage.cached_input,
        reasoning: usage.reasoning,
        cost: cost.nanos().unsigned_abs(),
        estimated: certainty == Certainty::Estimated,
        failure: report.failure,
        details: report.details.as_ref(),
    }
}

/// The provider of a call: what stands before the first slash of its credential.
fn provider<'a>(call: &Call<'a>) -> Option<&'a str> {
    call.credential.and_then(|credential| credential.split('/').next()).filter(|provider| !provider.is_empty())
}

fn nanos(cost: u64) -> NanoUsd {
    NanoUsd::from_nanos(i64::try_from(cost).unwrap_or(i64::MAX))
}

fn unexpected(receipt: &Stored) -> Error {
    Error::new(Code::StoreDamaged, "store", format!("the store answered another question: {receipt:?}"))
}
