//! Holds: what is set aside for open calls, and every way in which that ends.
//!
//! A slot is found by the hold's number and used again only when the search for a free one comes round to it, so that an
//! ended hold still answers "already settled", and a late settle still replaces what was charged for it.

use super::accounts::{LOW, Rows, Unknown};
use super::attempt::{self, Growing};
use super::counters::{Brought, Delta, Place, signed};
use super::held::{Current, Held, View};
use super::journal::{LANDS_NOW, Note, REPLACES};
use super::layout::{HOLD_SLOT_BITS, HOLD_SLOTS, head, hold, row};
use crate::account::{Chain, MAX_CHAIN};
use crate::clock::SECOND;
use crate::error::{Code, Error, Result};
use crate::rules::decisions::Ask;
use crate::rules::windows::Periods;
use crate::store::{Ended, Fact, HoldId, HoldState};
use crate::usage::history::{self, Kind};

/// A hold as its slot has it.
#[derive(Debug, Clone, Copy)]
struct Slot {
    at: usize,
    state: HoldState,
    probes: u8,
    rows: Rows,
    amounts: Ask,
    granted: i64,
    granted_wall: i64,
}

impl Slot {
    /// What it sets aside, for the journal.
    fn held(&self, id: HoldId) -> history::Held {
        let Ask { requests, tokens, money } = self.amounts;
        history::Held { hold: id.0, granted: self.granted_wall, requests, tokens, cost: money }
    }
}

/// How a hold ends.
#[derive(Debug, Clone, Copy)]
enum End<'a> {
    Settle(Fact<'a>),
    Release,
    /// Charged as held: nobody says what was used.
    Charge,
    /// What it was settled with was somebody else's.
    TakeBack(Fact<'a>),
}

/// Where an end lands on one account.
#[derive(Debug, Clone, Copy)]
enum Landing {
    Now(Current),
    At(Place),
}

impl View<'_> {
    fn slot_of(&self, id: HoldId) -> Result<Slot> {
        let slot = (id.0 as usize & (HOLD_SLOTS - 1)).min(self.map().holds.count() - 1);
        let at = self.map().holds.at(slot);
        let word = self.load(at + hold::STATE);
        let state = HoldState::from_u8(word as u8).filter(|_| id.0 != 0 && self.load(at + hold::ID) == id.0);
        let Some(state) = state else {
            let message =
                format!("{id} is not known: it was never granted here, or ended so long ago that it is forgotten");
            return Err(Error::new(Code::UnknownHold, "hold", message));
        };
        let mut rows = Rows { len: (word >> 16 & 0xff) as usize, ..Rows::default() };
        rows.len = rows.len.min(MAX_CHAIN);
        for place in 0..rows.len {
            rows.rows[place] = (self.load(at + hold::ROWS + place) >> 32) as u32;
        }
        Ok(Slot {
            at,
            state,
            probes: (word >> 8) as u8,
            rows,
            amounts: Ask {
                requests: self.load(at + hold::REQUESTS),
                tokens: self.load(at + hold::TOKENS),
                money: self.load(at + hold::MONEY),
            },
            granted: self.load(at + hold::GRANTED) as i64,
            granted_wall: self.load(at + hold::GRANTED_WALL) as i64,
        })
    }

    /// The first words of the open holds, the newest first.
    pub(super) fn open_holds(&self) -> impl Iterator<Item = usize> + '_ {
        let count = self.map().holds.count();
        let cursor = self.load(head::HOLD_CURSOR) as usize % count;
        let newest_first = (0..cursor).rev().chain((cursor..count).rev());
        newest_first
            .map(|slot| self.map().holds.at(slot))
            .filter(|at| HoldState::from_u8(self.load(at + hold::STATE) as u8).is_some_and(HoldState::is_open))
    }

    /// When the open holds of an account expire, soonest first.
    pub(super) fn expiries(&self, account: u32) -> Vec<i64> {
        let open = (self.load(self.row(account) + row::SEEN) & LOW) as usize;
        let concerns = |at: &usize| {
            let accounts = (self.load(at + hold::STATE) >> 16 & 0xff) as usize;
            (0..accounts.min(MAX_CHAIN)).any(|place| self.load(at + hold::ROWS + place) >> 32 == u64::from(account))
        };
        // Calls that are open began lately, most of them: the search ends where the last of them is found.
        let mut expiries: Vec<i64> =
            self.open_holds().filter(concerns).take(open).map(|at| self.load(at + hold::EXPIRY) as i64).collect();
        expiries.sort_unstable();
        expiries
    }
}

impl Held<'_> {
    /// Writes a hold of `ask` on every account. `probes` has a bit for each whose breaker it probes.
    pub(super) fn grant(&self, rows: &Rows, brought: &Brought, ask: &Ask, ttl: i64, probes: u8) -> Result<HoldId> {
        let slot = self.free_slot()?;
        let at = self.map().holds.at(slot);
        let sequence = self.load(head::HOLD_SEQUENCE) + 1;
        let id = sequence << HOLD_SLOT_BITS | slot as u64;
        let expiry = self.now.mono.saturating_add(ttl);
        let mut writes = self.writes();
        writes.put(head::HOLD_SEQUENCE, sequence);
        writes.put(head::HOLD_CURSOR, slot as u64 + 1);
        if (expiry as u64) < self.load(head::HOLD_EXPIRY) {
            writes.put(head::HOLD_EXPIRY, expiry as u64);
        }
        writes.put(at + hold::ID, id);
        writes.put(at + hold::STATE, pack_state(rows.len, probes, HoldState::Reserved));
        writes.put(at + hold::GRANTED, self.now.mono as u64);
        writes.put(at + hold::EXPIRY, expiry as u64);
        writes.put(at + hold::REQUESTS, ask.requests);
        writes.put(at + hold::TOKENS, ask.tokens);
        writes.put(at + hold::MONEY, ask.money);
        writes.put(at + hold::OWNER, self.region.owner());
        writes.put(at + hold::GRANTED_WALL, self.now.wall as u64);
        writes.put(head::HOLDS_OPEN, self.load(head::HOLDS_OPEN) + 1);
        let held = history::Held {
            hold: id,
            granted: self.now.wall,
            requests: ask.requests,
            tokens: ask.tokens,
            cost: ask.money,
        };
        self.tell(&mut writes, &Note { kind: Kind::Grant, flags: 0, rows, fact: &Fact::default(), held: Some(held) });
        let delta = Delta {
            held_requests: signed(ask.requests),
            held_tokens: signed(ask.tokens),
            held_cost: signed(ask.money),
            ..Delta::default()
        };
        for (place, current) in brought.iter().enumerate() {
            let hash = self.load(current.base + row::HASH) & LOW;
            writes.put(at + hold::ROWS + place, u64::from(current.row) << 32 | hash);
            // Brought up to now, the row's own periods are those of now.
            let start = |word: usize| self.load(current.base + word) as i64;
            let (hour, day, month) = (start(row::HOUR), start(row::DAY), start(row::MONTH));
            writes.put(at + hold::PERIODS + place, pack_starts(hour, day, month));
            writes.put(at + hold::HOURS + place, hour as u64);
            self.post_now(&mut writes, current, &delta, 1);
            if probes >> place & 1 == 1 {
                self.put_probe(&mut writes, current.base, expiry);
            }
        }
        if !writes.commit() {
            return Err(Error::new(Code::StoreDamaged, "store", "a hold does not fit the log"));
        }
        self.look_at_limits(rows);
        Ok(HoldId(id))
    }

    fn free_slot(&self) -> Result<usize> {
        let count = self.map().holds.count();
        let cursor = self.load(head::HOLD_CURSOR) as usize;
        // A slot is used again as late as can be: an ended hold then still answers.
        let fresh = cursor < count && !self.is_backed(Growing::Holds, cursor as u64);
        if fresh && self.attempt.is_waiting() {
            return Err(Error::new(Code::StoreBusy, "holds", "the store needs more bytes of the disk first"));
        }
        let count = count.min(self.load(head::HOLDS_BACKED) as usize).max(1);
        (0..count)
            .map(|step| (cursor + step) % count)
            .find(|slot| {
                let state = self.load(self.map().holds.at(*slot) + hold::STATE) as u8;
                !HoldState::from_u8(state).is_some_and(HoldState::is_open)
            })
            .ok_or_else(|| {
                let message = format!("{count} calls are open, the most this store has room for; raise its size");
                Error::new(Code::StoreFull, "holds", message)
            })
    }

    /// Bytes are about to leave.
    pub(super) fn start(&self, id: HoldId) -> Result<Ended> {
        let slot = self.slot_of(id)?;
        let changed = slot.state == HoldState::Reserved;
        if changed {
            let mut writes = self.writes();
            writes.put(slot.at + hold::STATE, pack_state(slot.rows.len, slot.probes, HoldState::Started));
            let held = Some(slot.held(id));
            self.put_along(&mut writes);
            self.tell(
                &mut writes,
                &Note { kind: Kind::Start, flags: 0, rows: &slot.rows, fact: &Fact::default(), held },
            );
            // A handful of words always fits the log.
            let _done = writes.commit();
        }
        let is = if changed { HoldState::Started } else { slot.state };
        Ok(Ended { was: slot.state, is, changed })
    }

    /// The call ended so. Only the first settle counts; one that comes after the hold was charged replaces the charge, one
    /// that comes after it was released is a fact of now.
    pub(super) fn settle(&self, id: HoldId, chain: Option<&Chain<'_>>, fact: &Fact<'_>) -> Result<Ended> {
        let mut slot = self.slot_of(id)?;
        if slot.state == HoldState::Settled {
            return Ok(Ended { was: slot.state, is: slot.state, changed: false });
        }
        if let Some(chain) = chain
            && !slot.state.is_open()
        {
            self.find_again(&mut slot, chain)?;
        }
        self.finish(id, &slot, End::Settle(*fact))?;
        let outcome = fact.failure.map_or(Ok(()), Err);
        self.learn(&slot.rows, outcome, slot.granted);
        Ok(Ended { was: slot.state, is: HoldState::Settled, changed: true })
    }

    /// An account of an ended hold may have left its row: it is looked for by its name, and has the same hash.
    fn find_again(&self, slot: &mut Slot, chain: &Chain<'_>) -> Result<()> {
        let half = |place: usize| self.load(slot.at + hold::ROWS + place) & LOW;
        let is_there = |(place, account): (usize, u32)| self.load(self.row(account) + row::HASH) & LOW == half(place);
        if slot.rows.iter().all(is_there) || !self.region.is_shared() {
            return Ok(());
        }
        let found = self.rows_of(chain, Unknown::Leave)?;
        for ((place, account), row) in found.iter().zip(slot.rows.rows.iter_mut()) {
            if account != 0 && self.load(self.row(account) + row::HASH) & LOW == half(place) {
                *row = account;
            }
        }
        Ok(())
    }

    /// Nothing was sent. Changes only an open hold.
    pub(super) fn release(&self, id: HoldId) -> Result<Ended> {
        let slot = self.slot_of(id)?;
        if !slot.state.is_open() {
            return Ok(Ended { was: slot.state, is: slot.state, changed: false });
        }
        self.finish(id, &slot, End::Release)?;
        Ok(Ended { was: slot.state, is: HoldState::Released, changed: true })
    }

    /// What it was settled with was somebody else's call, who is charged for it.
    pub(super) fn take_back(&self, id: HoldId, chain: &Chain<'_>, fact: &Fact<'_>) -> Result<Ended> {
        let mut slot = self.slot_of(id)?;
        if slot.state != HoldState::Settled {
            return Ok(Ended { was: slot.state, is: slot.state, changed: false });
        }
        self.find_again(&mut slot, chain)?;
        self.finish(id, &slot, End::TakeBack(fact.without_details()))?;
        Ok(Ended { was: slot.state, is: HoldState::Released, changed: true })
    }

    /// Its owner let go without a word.
    pub(super) fn abandon(&self, id: HoldId) -> Result<Ended> {
        let slot = self.slot_of(id)?;
        let (end, is) = match slot.state {
            HoldState::Reserved => (End::Release, HoldState::Released),
            HoldState::Started => (End::Charge, HoldState::Charged),
            ended => return Ok(Ended { was: ended, is: ended, changed: false }),
        };
        self.finish(id, &slot, end)?;
        Ok(Ended { was: slot.state, is, changed: true })
    }

    /// Ends a hold in one batch: on each account what was held is taken back and what was used is put in.
    fn finish(&self, id: HoldId, slot: &Slot, end: End<'_>) -> Result<()> {
        let Ask { requests, tokens, money } = slot.amounts;
        let (fact, is, kind) = match end {
            End::Settle(fact) => (fact, HoldState::Settled, Kind::Settle),
            End::Release => (Fact::default(), HoldState::Released, Kind::Release),
            End::Charge => {
                let requests = u32::try_from(requests).unwrap_or(u32::MAX);
                let charged = Fact { requests, tokens, cost: money, estimated: true, ..Fact::default() };
                (charged, HoldState::Charged, Kind::Orphan)
            }
            End::TakeBack(fact) => (fact, HoldState::Released, Kind::TakenBack),
        };
        let mut delta = Delta::of(&fact);
        if kind == Kind::TakenBack {
            delta = delta.negated();
        }
        let mut open = 0;
        if slot.state.is_open() {
            delta.held_requests = -signed(requests);
            delta.held_tokens = -signed(tokens);
            delta.held_cost = -signed(money);
            open = -1;
        } else if slot.state == HoldState::Charged {
            delta.requests -= signed(requests);
            delta.tokens = delta.tokens.saturating_sub(signed(tokens));
            delta.cost = delta.cost.saturating_sub(signed(money));
        }
        // What was released has no place of its own any more: a fact that follows is one of now.
        let lands_now = slot.state == HoldState::Released;
        let mut landings = [None; MAX_CHAIN];
        for (place, account) in slot.rows.iter() {
            landings[place] = self.landing(slot, place, account, lands_now);
        }
        if self.attempt.is_waiting() {
            return Err(attempt::not_known_here());
        }
        let mut landed = slot.rows;
        for (row, landing) in landed.rows.iter_mut().zip(&landings) {
            *row = if landing.is_some() { *row } else { 0 };
        }
        let mut writes = self.writes();
        self.put_along(&mut writes);
        if slot.state.is_open() {
            writes.put(head::HOLDS_OPEN, self.load(head::HOLDS_OPEN).saturating_sub(1));
        }
        let flags = if slot.state == HoldState::Charged { REPLACES } else { 0 } | if lands_now { LANDS_NOW } else { 0 };
        self.tell(&mut writes, &Note { kind, flags, rows: &landed, fact: &fact, held: Some(slot.held(id)) });
        for (place, account) in slot.rows.iter() {
            match landings[place] {
                Some(Landing::Now(current)) => self.post_now(&mut writes, &current, &delta, open),
                Some(Landing::At(then)) => self.post_at(&mut writes, account, &delta, &then, open),
                None => continue,
            }
            let base = self.row(account);
            if slot.probes >> place & 1 == 1 && slot.state.is_open() {
                // Whatever the answer says, which the breaker learns next, this probe is back.
                self.put_probe(&mut writes, base, 0);
            }
        }
        writes.put(slot.at + hold::STATE, pack_state(slot.rows.len, slot.probes, is));
        if writes.commit() {
            self.look_at_limits(&landed);
            Ok(())
        } else {
            Err(Error::new(Code::StoreDamaged, "store", "the end of a hold does not fit the log"))
        }
    }

    /// Where the end of a hold lands on an account: in the bucket of its grant if that lives, and in its hour, day and
    /// month. `None` where the account's row went to another account meanwhile, which only an ended hold can meet.
    fn landing(&self, slot: &Slot, place: usize, account: u32, lands_now: bool) -> Option<Landing> {
        let base = self.row(account);
        if self.load(base + row::HASH) & LOW != self.load(slot.at + hold::ROWS + place) & LOW {
            return None;
        }
        let current = self.current(account, lands_now);
        if lands_now {
            return current.map(Landing::Now);
        }
        // Where history has to be asked before it is brought up to now, it has its other periods all the same.
        self.attempt.forget_need();
        let periods = self.load(slot.at + hold::PERIODS + place);
        let hour = self.load(slot.at + hold::HOURS + place) as i64;
        let (day, month) = unpack_starts(hour, periods);
        self.have_periods(account, base, hour, day, month);
        let bucket = self.living_bucket(base, slot.granted.div_euclid(SECOND)).unwrap_or(0);
        Some(Landing::At(Place { bucket, hour, day, month }))
    }

    /// The running periods of an account have other starts from now on: its open holds end in them all the same.
    pub(super) fn rename_periods_of_holds(&self, account: u32, was: &Periods, is: &Periods) {
        let renamed = |start: i64, was: i64, is: i64| if start == was { is } else { start };
        for at in self.open_holds() {
            for place in 0..MAX_CHAIN {
                if (self.load(at + hold::ROWS + place) >> 32) as u32 != account {
                    continue;
                }
                let hour = self.load(at + hold::HOURS + place) as i64;
                let (day, month) = unpack_starts(hour, self.load(at + hold::PERIODS + place));
                let hour = renamed(hour, was.hour, is.hour);
                let starts = pack_starts(hour, renamed(day, was.day, is.day), renamed(month, was.month, is.month));
                let mut writes = self.writes();
                writes.put(at + hold::PERIODS + place, starts);
                writes.put(at + hold::HOURS + place, hour as u64);
                // Two words always fit the log.
                let _done = writes.commit();
            }
        }
    }

    /// Ends the holds whose time is over.
    #[inline]
    pub(super) fn end_expired(&self) {
        if self.now.mono as u64 >= self.load(head::HOLD_EXPIRY) {
            self.end_those_expired();
        }
    }

    #[cold]
    fn end_those_expired(&self) {
        let mut next = i64::MAX as u64;
        for at in self.open_holds() {
            let expiry = self.load(at + hold::EXPIRY);
            if expiry <= self.now.mono as u64 {
                // Only a damaged region fails here, and then the hold stays as it is.
                let _ended = self.abandon(HoldId(self.load(at + hold::ID)));
            } else {
                next = next.min(expiry);
            }
        }
        let mut writes = self.writes();
        writes.put(head::HOLD_EXPIRY, next);
        let _done = writes.commit();
    }

    /// What ended holds counted on an account and those inside it is forgotten with the rest of what they used: a settle that
    /// comes late has nothing to replace on them, and nothing is taken back from what they use next.
    pub(super) fn forget_ended(&self, account: u32) {
        for slot in (0..self.map().holds.count()).map(|slot| self.map().holds.at(slot)) {
            let state = self.load(slot + hold::STATE);
            if !matches!(HoldState::from_u8(state as u8), Some(HoldState::Charged | HoldState::Settled)) {
                continue;
            }
            let mut writes = self.writes();
            for place in 0..((state >> 16 & 0xff) as usize).min(MAX_CHAIN) {
                let word = self.load(slot + hold::ROWS + place);
                let row = (word >> 32) as u32;
                if row == account || self.owner_of(self.row(row)) == account {
                    // No row has this half of a hash, but for one of four thousand million.
                    writes.put(slot + hold::ROWS + place, word & !LOW);
                }
            }
            // Seven words always fit the log.
            let _done = writes.commit();
        }
    }

    /// In a forked child: the open holds are the parent's.
    pub(super) fn release_all_holds(&self) {
        for at in self.open_holds() {
            let id = HoldId(self.load(at + hold::ID));
            let _ended = self.slot_of(id).and_then(|slot| self.finish(id, &slot, End::Release));
        }
    }
}

/// The starts of a day and a month as seconds before that of an hour; after it, where a time zone changed meanwhile.
fn pack_starts(hour: i64, day: i64, month: i64) -> u64 {
    let before = |start: i64| u64::from(hour.wrapping_sub(start) as i32 as u32);
    before(day) << 32 | before(month)
}

/// The starts of the day and the month.
fn unpack_starts(hour: i64, packed: u64) -> (i64, i64) {
    let start = |half: u32| hour.saturating_sub(i64::from(half as i32));
    (start((packed >> 32) as u32), start(packed as u32))
}

fn pack_state(accounts: usize, probes: u8, state: HoldState) -> u64 {
    (accounts as u64) << 16 | u64::from(probes) << 8 | state as u64
}
