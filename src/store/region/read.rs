//! Readings: what the region tells of accounts, and the changes by hand of what it remembers.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::Region;
use super::accounts::{LOW, Rows, Unknown};
use super::attempt::{Attempt, not_known_here};
use super::held::{Current, Held, Ring, View};
use super::layout::{head, row, terms};
use super::lock;
use super::terms::unpack;
use super::tickets::Others;
use crate::account::{AccountId, Chain, Hints, Scope};
use crate::clock::{Now, SECOND};
use crate::error::Result;
use crate::rules::breaker::Breaker;
use crate::rules::decisions::{Ask, Moment, Reading, fits, resets};
use crate::rules::limits::{Limit, LimitKind, Mode};
use crate::rules::turns::{Ahead, frees_behind};
use crate::rules::windows::MINUTE_BUCKETS;
use crate::store::{AccountReading, Blocking, Grant, HoldId, Listed, Receipt, Refusal, Tally};
use crate::usage::history::Sums;

/// How many accounts are listed before others may have the lock.
const LIST_STRIDE: usize = 256;

impl Held<'_> {
    pub(super) fn read(self, chain: &Chain<'_>) -> Result<Receipt> {
        // A report tells exact times.
        let exact = self.exactly();
        let rows = exact.rows_of(chain, Unknown::Leave)?;
        let readings = rows
            .iter()
            .zip(chain.accounts())
            .map(|((_, row), account)| match exact.current(row, false) {
                Some(current) => exact.read_account(&current),
                None => exact.read_unknown(account),
            })
            .collect();
        if exact.attempt.is_waiting() {
            return Err(not_known_here());
        }
        Ok(Receipt::Read(exact.now, readings))
    }

    pub(super) fn read_account(&self, current: &Current) -> AccountReading {
        let base = current.base;
        let (limits, thresholds) = self.limits_of(base);
        let concurrent = limits.get(LimitKind::MaxConcurrent).is_some();
        let last_error = self.load(base + row::LAST_ERROR) as i64;
        AccountReading {
            known: true,
            limits,
            thresholds,
            reading: self.reading(base),
            minute: self.minute(base),
            day: self.tally_of_cell(base + row::DAY),
            month: self.tally_of_cell(base + row::MONTH),
            total: self.total(base),
            periods: self.periods(base),
            buckets: self.buckets(base),
            expiries: if concurrent { self.expiries(current.row) } else { Vec::new() },
            open: self.load(base + row::SEEN) & LOW,
            breaker: self.breaker_of(base),
            met: self.breaker_met(base),
            last_error: (last_error != 0).then_some(last_error),
            version: self.load(base + row::VERSION),
        }
    }

    /// An account that nothing was ever counted for, with the limits it would have.
    fn read_unknown(&self, account: &AccountId<'_>) -> AccountReading {
        let packed = self.resolve(account);
        let (limits, thresholds) = unpack(|step| packed.get(step).copied().unwrap_or(0));
        AccountReading {
            known: false,
            limits,
            thresholds,
            reading: Reading::default(),
            minute: Tally::default(),
            day: Tally::default(),
            month: Tally::default(),
            total: Tally::default(),
            periods: self.region.periods(packed[terms::ZONE], self.now.wall),
            buckets: Vec::new(),
            expiries: Vec::new(),
            open: 0,
            breaker: Breaker::default(),
            met: Breaker::default(),
            last_error: None,
            version: 0,
        }
    }

    /// What a reserve would answer where some accounts are not known yet, or others go first.
    ///
    /// # Errors
    /// Where it has to be tried again.
    pub(super) fn explain_by_reading(
        &self,
        chain: &Chain<'_>,
        rows: &Rows,
        ask: &Ask,
        others: &Others,
    ) -> Result<Receipt> {
        let mut refusal = Refusal { ahead: others.count, ..Refusal::at(self.now) };
        for (((place, row), account), ahead) in rows.iter().zip(chain.accounts()).zip(&others.asks) {
            let read = match self.current(row, false) {
                Some(current) => self.read_account(&current),
                None => self.read_unknown(account),
            };
            if read.breaker.shuts(self.now.mono) {
                refusal.breakers.push((place, read.breaker));
            }
            refusal.limits.extend(self.blocking(place, &read, ask, ahead));
        }
        if self.attempt.is_waiting() {
            return Err(not_known_here());
        }
        if refusal.ahead == 0 && refusal.limits.is_empty() && refusal.breakers.is_empty() {
            return Ok(Receipt::Granted(Grant { hold: HoldId(0), at: self.now, probe: false }));
        }
        Ok(Receipt::Refused(Box::new(refusal)))
    }

    /// The limits of an account that are in the way of `ask`, once those have gone who go first, and until when.
    pub(super) fn blocking(&self, place: usize, read: &AccountReading, ask: &Ask, ahead: &Ahead) -> Vec<Blocking> {
        let moment = Moment { now: self.now, periods: read.periods, buckets: &read.buckets, expiries: &read.expiries };
        let enforced = read.limits.iter().filter(|(_, limit)| limit.mode == Mode::Enforce);
        let blocking = |(kind, limit): (LimitKind, Limit)| {
            let (counts, asked, before) = (read.reading.get(kind), ask.of(kind), ahead.of(kind));
            if fits(counts, limit.cap, asked.saturating_add(before)) {
                return None;
            }
            let frees = frees_behind(kind, limit.cap, counts, asked, before, &moment);
            let resets = resets(kind, &moment);
            Some(Blocking { place, kind, limit, counts, asked, frees, resets, thresholds: read.thresholds })
        };
        enforced.filter_map(blocking).collect()
    }
}

impl Region {
    /// Lists the accounts of a scope inside an owner. The lock is let go now and then; an account that comes or goes
    /// meanwhile may be missed.
    pub(super) fn list(&self, scope: Scope, owner: &str) -> Result<Vec<Listed>> {
        let attempt = Attempt::default();
        let mut listed = Vec::new();
        let mut held = self.hold(&attempt)?;
        let inside = if owner.is_empty() { 0 } else { held.find(Scope::Workspace, 0, owner) };
        let is_here = inside != 0 || owner.is_empty();
        let mut account = if is_here { held.first_kin(inside) } else { 0 };
        for step in 1..=self.map.rows.count() {
            if account == 0 {
                break;
            }
            let base = held.row(account);
            if held.load(base + row::HASH) == 0 || held.owner_of(base) != inside {
                break;
            }
            if held.scope_of(base) == Some(scope) && held.current(account, false).is_some() {
                let halved = (held.load(base + row::NEXT_KIN) & LOW) as i64;
                listed.push(Listed {
                    name: held.name_of(base),
                    total: held.total(base),
                    day: held.tally_of_cell(base + row::DAY),
                    seen: halved * 2 * SECOND,
                });
            }
            account = held.next_kin(account);
            if step % LIST_STRIDE == 0 {
                drop(held);
                held = self.hold(&attempt)?;
            }
        }
        let wall = held.now.wall;
        let some_are_elsewhere = held.load(head::EVICTED) > 0;
        drop(held);
        if some_are_elsewhere && let Some(elsewhere) = self.elsewhere() {
            let here: HashSet<String> = listed.iter().map(|account| account.name.clone()).collect();
            let kept = elsewhere.accounts(scope, owner, wall)?;
            let missing = kept.into_iter().filter(|kept| !here.contains(&kept.name));
            listed.extend(missing.map(|kept| Listed {
                name: kept.name,
                total: tally(&kept.total),
                day: tally(&kept.day),
                seen: kept.seen,
            }));
        }
        Ok(listed)
    }

    /// Whether there is room for the least of calls, without the lock: `None` where somebody holds it, or where the account
    /// first has to be brought up to now.
    pub(super) fn peek_room(&self, account: &AccountId<'_>, hints: Option<&Hints>) -> Option<bool> {
        let word = self.lock_word().ok().filter(|_| self.is_sound())?;
        let stands = word.load(Ordering::Acquire);
        if stands != 0
            && hints.is_some_and(|hints| hints.roomy.load(Ordering::Relaxed) == stands)
            && self.is_as_it_was()
        {
            return Some(true);
        }
        let room = |now| lock::optimistic(word, || self.peek_unlocked(account, hints, now))?;
        match room(self.coarse_now()) {
            // The coarse clock lags: before a no, look at the exact one.
            Some(false) => room(self.clock.exact()),
            Some(true) => {
                if let Some(hints) = hints {
                    hints.roomy.store(stands, Ordering::Relaxed);
                }
                Some(true)
            }
            None => None,
        }
    }

    /// Nothing but time has passed since the lock's word was this, and time only makes room: what leaves a window leaves it,
    /// and a hold that expires takes no more than it held. A clock that was set, a new configuration and a fork are more than
    /// time.
    fn is_as_it_was(&self) -> bool {
        let wall = self.clock.coarse_wall();
        self.is_calm(wall) && !self.is_new_in_child() && !self.config_waits(wall) && self.is_up_to_date()
    }

    fn peek_unlocked(&self, account: &AccountId<'_>, hints: Option<&Hints>, now: Now) -> Option<bool> {
        let stands = now.mono >= self.load(head::LATEST) as i64 && (now.mono as u64) < self.load(head::HOLD_EXPIRY);
        if !stands || self.is_new_in_child() || self.config_waits(now.wall) || !self.is_up_to_date() {
            return None;
        }
        let view = View::new(self, now);
        let found = view.find_hinted(account, 0, hints);
        (found != 0).then(|| view.room(view.row(found)))?
    }
}

/// Sums as a tally; none is below 0.
fn tally(sums: &Sums) -> Tally {
    let [requests, errors, tokens, input, output, cached, cost] = sums.fields().map(|sum| sum.max(0).unsigned_abs());
    Tally { requests, errors, tokens, input, output, cached, cost }
}

impl View<'_> {
    /// Whether an account has room for the least of calls; `None` where it must first be brought up to now, or where its
    /// breaker has something to say.
    fn room(&self, base: usize) -> Option<bool> {
        if !self.is_calm()
            || self.load(base + row::TERMS) >> 32 != self.load(head::EPOCH) & LOW
            || self.load(base + row::LINK) & LOW != 0
        {
            return None;
        }
        let ring = Ring::unpack(self.load(base + row::RING));
        if ring.len > 0 && self.second(self.bucket(ring, 0)) + MINUTE_BUCKETS <= self.now.second() {
            return None;
        }
        Some(self.fits_all(base, &Ask::LEAST))
    }
}
