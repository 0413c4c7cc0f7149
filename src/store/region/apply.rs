//! The verb: one batch, one atomic step.

use std::sync::Arc;
use std::time::Duration;

use super::Region;
use super::accounts::{Rows, Unknown};
use super::attempt::Attempt;
use super::counters::Brought;
use super::events::What;
use super::held::Held;
use super::journal::Note;
use super::lock;
use crate::account::{AccountId, Chain, Hints};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::rules::breaker::State;
use crate::rules::decisions::Ask;
use crate::rules::turns::Ahead;
use crate::store::{
    Batch, Fact, Grant, HoldId, Landed, PATIENCE, PATIENCE_BEHIND, Queued, Receipt, Refusal, Standing, Store,
};
use crate::usage::history::Kind;

impl Store for Region {
    fn apply(&self, batch: &Batch<'_>) -> Result<Receipt> {
        let attempt = Attempt::default();
        let work = || self.apply_once(&attempt, batch);
        work()
            .or_else(|error| self.again(&attempt, error, batch.chain(), work))
            .and_then(|done| self.if_sound(done))
            .or_else(|error| self.aside_if_busy(batch, error))
    }

    fn record(&self, chain: &Chain<'_>, fact: &Fact<'_>) -> Result<Landed> {
        let attempt = Attempt::default();
        let work = || self.holding(&attempt, |held| held.record(chain, fact));
        work()
            .or_else(|error| self.again(&attempt, error, Some(chain), work))
            .and_then(|done| self.if_sound(done))
            .or_else(|error| {
                self.aside_if_busy(&Batch::Record { chain, fact }, error).map(|_| Landed { folded: false })
            })
    }

    fn is_free(&self) -> bool {
        self.lock_word().is_ok_and(lock::is_free)
    }

    fn peek(&self, account: &AccountId<'_>, hints: Option<&Hints>) -> Option<bool> {
        self.peek_room(account, hints)
    }

    fn configure(&self, config: Arc<Config>) {
        self.set_config(config);
    }
}

impl Region {
    /// Makes the accounts of a chain, where there are none yet.
    pub(crate) fn have(&self, chain: &Chain<'_>) -> Result<()> {
        let attempt = Attempt::default();
        let work = || self.hold(&attempt)?.rows_of(chain, Unknown::MakeForHold).map(drop);
        work().or_else(|error| self.again(&attempt, error, Some(chain), work))
    }

    /// What must not be lost is put aside where the lock was not to be had.
    #[cold]
    fn aside_if_busy(&self, batch: &Batch<'_>, error: Error) -> Result<Receipt> {
        #[cfg(target_os = "linux")]
        if error.code() == Code::StoreBusy && self.is_shared() {
            return self.put_aside(batch, error);
        }
        let _private = batch;
        Err(error)
    }

    fn apply_once(&self, attempt: &Attempt, batch: &Batch<'_>) -> Result<Receipt> {
        let held = self.hold(attempt)?;
        match batch {
            Batch::Record { chain, fact } => held.record(chain, fact).map(Receipt::Recorded),
            Batch::Reserve { chain, ask, ttl, queued } => held.reserve_in_turn(chain, ask, *ttl, queued.as_ref()),
            Batch::Explain { chain, ask, standing } => held.explain(chain, ask, *standing),
            Batch::Queue { chain, ask, priority, weight, after } => {
                Ok(Receipt::Queued(held.queue(chain, ask, *priority, *weight, *after)))
            }
            Batch::Stay { queued, behind } => {
                held.stay(queued, behind.iter().copied(), PATIENCE_BEHIND);
                Ok(Receipt::Noted)
            }
            Batch::Leave(queued) => {
                held.leave(queued);
                Ok(Receipt::Noted)
            }
            Batch::Start(id) => held.start(*id).map(Receipt::Ended),
            Batch::Settle { hold, chain, fact } => held.settle(*hold, *chain, fact).map(Receipt::Ended),
            Batch::TakeBack { hold, chain, fact } => held.take_back(*hold, chain, fact).map(Receipt::Ended),
            Batch::Release(id) => held.release(*id).map(Receipt::Ended),
            Batch::Abandon(id) => held.abandon(*id).map(Receipt::Ended),
            Batch::Learn { chain, failure } => {
                let rows = held.rows_of(chain, Unknown::MakeForFact)?;
                held.learn(&rows, Err(*failure), held.now.mono);
                held.announce_alone(What::Learned, &rows);
                Ok(Receipt::Recorded(Landed { folded: rows.folded }))
            }
            Batch::Hear { chain, left, began, well } => {
                let rows = held.rows_of(chain, Unknown::MakeForFact)?;
                held.hear_left(&rows, left, *began, *well);
                Ok(Receipt::Recorded(Landed { folded: rows.folded }))
            }
            Batch::Adjust { chain, adjust } => held.adjust(chain, adjust).map(Receipt::Recorded),
            Batch::Read(chain) => held.read(chain),
            Batch::List { scope, owner } => {
                drop(held);
                self.list(*scope, owner).map(Receipt::Listed)
            }
            Batch::Breakers => Ok(Receipt::Breakers(held.now, held.open_breakers())),
        }
    }
}

impl Held<'_> {
    pub(super) fn record(&self, chain: &Chain<'_>, fact: &Fact<'_>) -> Result<Landed> {
        let mut rows = Rows::default();
        self.fill_rows(chain, Unknown::MakeForFact, &mut rows)?;
        let mut brought = Brought::default();
        self.bring_into(&rows, true, &mut brought)?;
        let mut writes = self.writes();
        self.put_along(&mut writes);
        self.tell(&mut writes, &Note { kind: Kind::Record, flags: 0, rows: &rows, fact, held: None });
        brought.iter().for_each(|current| self.post_fact(&mut writes, current, fact));
        if !writes.commit() {
            return Err(Error::new(Code::StoreDamaged, "store", "a record does not fit the log"));
        }
        self.look_at_limits(&rows);
        if fact.failure.is_some() || brought.breakers {
            self.learn(&rows, fact.failure.map_or(Ok(()), Err), self.now.mono);
        }
        Ok(Landed { folded: rows.folded })
    }

    /// Grants, unless somebody else goes first; what it means for who waited for it is noted in the same step.
    fn reserve_in_turn(self, chain: &Chain<'_>, ask: &Ask, ttl: Duration, queued: Option<&Queued>) -> Result<Receipt> {
        let (ahead, behind) = self.others_before(chain, queued);
        if ahead > 0 {
            let refusal = Refusal { ahead, behind, ..Refusal::at(self.now) };
            return Ok(self.refuse_in_turn(refusal, queued));
        }
        let rows = self.rows_of(chain, Unknown::MakeForHold)?;
        if let Ok(probes) = self.verdict(&self.bring(&rows, false)?, ask) {
            return self.grant_in_turn(&rows, ask, ttl, probes, queued);
        }
        // The coarse clock lags: before a no, look at the exact one.
        let exact = self.exactly();
        match exact.verdict(&exact.bring(&rows, false)?, ask) {
            Ok(probes) => exact.grant_in_turn(&rows, ask, ttl, probes, queued),
            Err(refusal) => Ok(exact.refuse_in_turn(refusal, queued)),
        }
    }

    fn refuse_in_turn(&self, refusal: Refusal, queued: Option<&Queued>) -> Receipt {
        if let Some(queued) = queued {
            self.stay(queued, refusal.in_the_way(), PATIENCE);
        }
        Receipt::Refused(Box::new(refusal))
    }

    fn grant_in_turn(
        &self,
        rows: &Rows,
        ask: &Ask,
        ttl: Duration,
        probes: u8,
        queued: Option<&Queued>,
    ) -> Result<Receipt> {
        let granted = self.grant_now(rows, ask, ttl, probes)?;
        if let Some(queued) = queued {
            self.served(queued);
        }
        Ok(granted)
    }

    fn grant_now(&self, rows: &Rows, ask: &Ask, ttl: Duration, probes: u8) -> Result<Receipt> {
        let brought = self.bring(rows, true)?;
        // Without a bucket the minute would forget the hold: the arena is full.
        if brought.iter().any(|current| current.bucket == 0) {
            let message = "the store has no room for another minute of usage; raise its size (memory:?size=512MB)";
            return Err(Error::new(Code::StoreFull, "size", message));
        }
        if !self.has_room_for_hold() {
            let message = "the journal waits to be written to history; it goes on as soon as that is done";
            return Err(Error::new(Code::StoreFull, "journal", message));
        }
        // One request a call always fits; there are fewer holds than a bucket can count.
        if ask.requests > 1 && brought.iter().any(|current| !self.can_hold(current, ask.requests)) {
            let message = "more requests are held at once than this store can count";
            return Err(Error::new(Code::StoreFull, "requests", message));
        }
        let ttl = i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX);
        let hold = self.grant(rows, &brought, ask, ttl, probes)?;
        Ok(Receipt::Granted(Grant { hold, at: self.now, probe: probes != 0 }))
    }

    /// The breakers to probe (a bit each), where the call may go; else all that is in its way.
    fn verdict(&self, brought: &Brought, ask: &Ask) -> Result<u8, Refusal> {
        let (mut probes, mut breakers) = (0, Vec::new());
        if brought.breakers {
            for (place, current) in brought.iter().enumerate() {
                let breaker = self.breaker_of(current.base);
                match breaker.state(self.now.mono) {
                    State::Closed => {}
                    State::HalfOpen { probing: false } => probes |= 1 << place,
                    State::Open { .. } | State::HalfOpen { probing: true } => breakers.push((place, breaker)),
                }
            }
        }
        let mut limits = Vec::new();
        for (place, current) in brought.iter().enumerate() {
            if !self.fits_all(current.base, ask) {
                limits.extend(self.blocking(place, &self.read_account(current), ask, &Ahead::default()));
            }
        }
        if limits.is_empty() && breakers.is_empty() {
            return Ok(probes);
        }
        Err(Refusal { limits, breakers, ..Refusal::at(self.now) })
    }

    /// What a reserve would answer. Accounts that are not known are judged by the limits they would have.
    fn explain(self, chain: &Chain<'_>, ask: &Ask, standing: Standing) -> Result<Receipt> {
        let exact = self.exactly();
        let rows = exact.rows_of(chain, Unknown::Leave)?;
        let others = exact.all_before(chain, standing);
        if others.count == 0 && rows.iter().all(|(_, row)| row != 0) {
            let brought = exact.bring(&rows, false)?;
            return Ok(match exact.verdict(&brought, ask) {
                Ok(probes) => Receipt::Granted(Grant { hold: HoldId(0), at: exact.now, probe: probes != 0 }),
                Err(refusal) => Receipt::Refused(Box::new(refusal)),
            });
        }
        exact.explain_by_reading(chain, &rows, ask, &others)
    }
}
