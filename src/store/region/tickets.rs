//! The tickets of those who wait, of all processes: in which order they go, and whom each keeps back meanwhile.
//!
//! A process orders its own waiters itself, with these same places; here is what it has to know of the others'. A ticket that
//! nobody looks after stands in nobody's way after a while, and that of a dead process goes with its holds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::accounts::{LOW, Rows};
use super::events::What;
use super::held::Held;
use super::keys;
use super::layout::{head, ticket};
use super::log::Writes;
use crate::account::{Chain, MAX_CHAIN};
use crate::rules::decisions::Ask;
use crate::rules::turns::{Ahead, Place, Priority};
use crate::store::{PATIENCE_BEHIND, Queued, Standing};

/// The bits of a ticket's requests, after those of its accounts.
const REQUESTS: u32 = 16;
/// A bit for each account of a chain.
const ALL_ACCOUNTS: u64 = (1 << MAX_CHAIN) - 1;

/// The hashes of a chain's accounts, 0 where it has no more.
type Hashes = [u64; MAX_CHAIN];

fn hashes_of(chain: &Chain<'_>) -> Hashes {
    let mut hashes = [0; MAX_CHAIN];
    for (place, hash) in hashes.iter_mut().zip(keys::hashes_of(chain)) {
        *place = hash;
    }
    hashes
}

/// Those who go before somebody.
#[derive(Debug, Default)]
pub(super) struct Others {
    pub(super) count: u32,
    /// For each account of the chain, what those of them ask that need it too.
    pub(super) asks: [Ahead; MAX_CHAIN],
}

impl Held<'_> {
    /// Takes a place.
    pub(super) fn queue(&self, chain: &Chain<'_>, ask: &Ask, priority: Priority, weight: u16, after: u64) -> Queued {
        let hashes = hashes_of(chain);
        let arrival = self.load(head::ARRIVALS) + 1;
        let end = after.max(if self.others_wait() { self.end_of_workspace(&hashes, priority) } else { 0 });
        let place = Place::new(priority, self.load(clock_of(priority)), end, arrival);
        let free = self.free_ticket();
        let mut queued = Queued { place, end: place.end(ask.tokens, weight), ticket: 0 };
        let mut writes = self.writes();
        writes.put(head::ARRIVALS, arrival);
        if let Some(number) = free {
            let at = self.ticket(number);
            queued.ticket = number;
            writes.put(at + ticket::ARRIVAL, arrival);
            writes.put(at + ticket::ORDER, place.packed());
            writes.put(at + ticket::END, queued.end);
            writes.put(at + ticket::OWNER, self.region.owner());
            writes.put(at + ticket::UNTIL, self.until(PATIENCE_BEHIND));
            writes.put(at + ticket::BLOCKED, ask.requests << REQUESTS | ALL_ACCOUNTS);
            writes.put(at + ticket::TOKENS, ask.tokens);
            writes.put(at + ticket::MONEY, ask.money);
            for (step, hash) in hashes.into_iter().enumerate() {
                writes.put(at + ticket::HASHES + step, hash);
            }
            writes.put(head::TICKETS_OPEN, self.load(head::TICKETS_OPEN) + 1);
            writes.put(head::TICKETS_USED, self.load(head::TICKETS_USED).max(u64::from(number)));
            writes.put(head::TICKETS_FREE, 0);
        }
        // Some twenty words always fit the log.
        if writes.commit() && free.is_some() {
            self.region.tickets.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }

    /// Its turn came: the clock of its priority goes on to its start.
    pub(super) fn served(&self, queued: &Queued) {
        let clock = clock_of(queued.place.priority());
        let (was, is) = (self.load(clock), queued.place.clock_after(self.load(clock)));
        if was != is {
            let mut writes = self.writes();
            writes.put(clock, is);
            // One word always fits the log.
            let _done = writes.commit();
        }
        self.leave(queued);
    }

    /// Waits no longer.
    pub(super) fn leave(&self, queued: &Queued) {
        if let Some(at) = self.own_ticket(queued) {
            let mut writes = self.writes();
            self.give_back(&mut writes, at);
            // Four words always fit the log.
            if writes.commit() {
                self.region.tickets.fetch_sub(1, Ordering::Relaxed);
            }
            self.tell_others();
        }
    }

    /// Still waits, for these accounts of its chain; for all of them where the store itself was in the way.
    pub(super) fn stay(&self, queued: &Queued, waits_for: impl Iterator<Item = usize>, patience: Duration) {
        // Where no other process can be, nobody asks.
        if !self.region.is_shared() {
            return;
        }
        let Some(at) = self.own_ticket(queued) else { return };
        let word = self.load(at + ticket::BLOCKED);
        let accounts = match waits_for.fold(0, |bits, place| bits | 1 << place) & ALL_ACCOUNTS {
            0 => ALL_ACCOUNTS,
            bits => bits,
        };
        let now = word & !ALL_ACCOUNTS | accounts;
        let mut writes = self.writes();
        writes.put(at + ticket::UNTIL, self.until(patience));
        writes.put(at + ticket::BLOCKED, now);
        // Two words always fit the log.
        let _done = writes.commit();
        if word & !now & ALL_ACCOUNTS != 0 {
            // Who waited behind it for these may go.
            self.tell_others();
        }
    }

    /// Takes the tickets of a slot away that are not those of `incarnation`.
    pub(super) fn end_tickets_of(&self, number: u8, incarnation: u64) {
        let is_left = |at: &usize| {
            let owner = self.load(at + ticket::OWNER);
            owner as u8 == number && owner >> 8 != incarnation
        };
        let left: Vec<usize> = self.open_tickets().filter(is_left).collect();
        for at in &left {
            let mut writes = self.writes();
            self.give_back(&mut writes, *at);
            // Four words always fit the log.
            let _done = writes.commit();
        }
        if !left.is_empty() {
            self.tell_others();
        }
    }

    /// In a forked child: those who wait are the parent's.
    pub(super) fn forget_tickets(&self) {
        let open: Vec<usize> = self.open_tickets().collect();
        for at in open {
            let mut writes = self.writes();
            self.give_back(&mut writes, at);
            // Four words always fit the log.
            let _done = writes.commit();
        }
        self.region.tickets.store(0, Ordering::Relaxed);
    }

    /// How many of other processes go before a reserve of this chain, by who waited for it or by nobody, and which accounts of
    /// the chain they wait for.
    pub(super) fn others_before(&self, chain: &Chain<'_>, queued: Option<&Queued>) -> (u32, Vec<usize>) {
        if !self.others_wait() {
            return (0, Vec::new());
        }
        let (hashes, place) = (hashes_of(chain), queued.map_or(Place::LAST, |queued| queued.place));
        let mine = self.region.owner();
        let before = self.tickets_before(&hashes, place).filter(|(at, _)| self.load(at + ticket::OWNER) != mine);
        let (count, accounts) = before.fold((0, 0), |(count, all), (_, accounts)| (count + 1, all | accounts));
        (count, (0..MAX_CHAIN).filter(|step| accounts & 1 << step != 0).collect())
    }

    /// All who go before somebody, those of this process included, and what they ask.
    pub(super) fn all_before(&self, chain: &Chain<'_>, standing: Standing) -> Others {
        let mut others = Others::default();
        if self.load(head::TICKETS_OPEN) == 0 {
            return others;
        }
        let hashes = hashes_of(chain);
        let place = match standing {
            Standing::Plain => Place::LAST,
            Standing::Waiting(place) => place,
            Standing::Newcomer(priority) => {
                let end = self.end_of_workspace(&hashes, priority);
                Place::new(priority, self.load(clock_of(priority)), end, u64::MAX)
            }
        };
        for (at, _) in self.tickets_before(&hashes, place) {
            others.count = others.count.saturating_add(1);
            let ask = Ask {
                requests: self.load(at + ticket::BLOCKED) >> REQUESTS,
                tokens: self.load(at + ticket::TOKENS),
                money: self.load(at + ticket::MONEY),
            };
            let its_own: [u64; MAX_CHAIN] = std::array::from_fn(|step| self.load(at + ticket::HASHES + step));
            for (mine, ahead) in hashes.iter().zip(&mut others.asks) {
                if *mine != 0 && its_own.contains(mine) {
                    ahead.add(&ask);
                }
            }
        }
        others
    }

    /// True where somebody of another process waits.
    #[inline(always)]
    pub(super) fn others_wait(&self) -> bool {
        self.load(head::TICKETS_OPEN) > self.region.tickets.load(Ordering::Relaxed)
    }

    /// The tickets before a place that wait for some of these accounts, and are looked after; with a bit for each of those.
    fn tickets_before(&self, hashes: &Hashes, place: Place) -> impl Iterator<Item = (usize, u64)> {
        let (order, arrival) = (place.packed(), place.arrival());
        let is_before = move |at: usize| {
            let (its_order, its_arrival) = (self.load(at + ticket::ORDER), self.load(at + ticket::ARRIVAL));
            (its_order, its_arrival) < (order, arrival)
                // Where no other process can be, nobody looks after them.
                && (self.load(at + ticket::UNTIL) as i64 >= self.now.mono || !self.region.is_shared())
        };
        let waits_for = move |at: usize| {
            let blocked = self.load(at + ticket::BLOCKED);
            let its_own = (0..MAX_CHAIN).filter(|step| blocked & 1 << step != 0);
            let hashes_waited_for = its_own.map(|step| self.load(at + ticket::HASHES + step)).filter(|hash| *hash != 0);
            let mine = hashes_waited_for.filter_map(|hash| hashes.iter().position(|mine| *mine == hash));
            mine.fold(0, |bits, step| bits | 1 << step)
        };
        let before = self.open_tickets().filter(move |at| is_before(*at)).map(move |at| (at, waits_for(at)));
        before.filter(|(_, accounts)| *accounts != 0)
    }

    /// Where the last place of a chain's workspace in a priority ends.
    fn end_of_workspace(&self, hashes: &Hashes, priority: Priority) -> u64 {
        let is_its_priority =
            |at: usize| Place::unpacked(self.load(at + ticket::ORDER), 0).is_some_and(|it| it.priority() == priority);
        let of_workspace = |at: &usize| self.load(at + ticket::HASHES) == hashes[0] && is_its_priority(*at);
        self.open_tickets().filter(of_workspace).map(|at| self.load(at + ticket::END)).max().unwrap_or(0)
    }

    /// Every ticket that somebody has.
    fn open_tickets(&self) -> impl Iterator<Item = usize> {
        let used = if self.load(head::TICKETS_OPEN) == 0 { 0 } else { self.load(head::TICKETS_USED) };
        let used = used.min(self.map().tickets.count() as u64) as u32;
        (1..=used).map(|number| self.ticket(number)).filter(|at| self.load(at + ticket::ARRIVAL) != 0)
    }

    /// The first word of a ticket.
    fn ticket(&self, number: u32) -> usize {
        self.map().tickets.numbered::<{ ticket::LEN }>(number)
    }

    fn free_ticket(&self) -> Option<u32> {
        let (open, used) = (self.load(head::TICKETS_OPEN), self.load(head::TICKETS_USED));
        if open >= used {
            return u32::try_from(used + 1).ok().filter(|number| (*number as usize) <= self.map().tickets.count());
        }
        let is_free = |number: &u32| self.load(self.ticket(*number) + ticket::ARRIVAL) == 0;
        let last = Some(self.load(head::TICKETS_FREE) as u32).filter(|number| *number != 0);
        last.filter(is_free).or_else(|| (1..=used as u32).find(is_free))
    }

    /// The ticket of somebody who waits in this process, while it is still its own.
    fn own_ticket(&self, queued: &Queued) -> Option<usize> {
        let at = (queued.ticket != 0).then(|| self.ticket(queued.ticket))?;
        let is_its_own = self.load(at + ticket::ARRIVAL) == queued.place.arrival()
            && self.load(at + ticket::OWNER) == self.region.owner();
        is_its_own.then_some(at)
    }

    fn give_back(&self, writes: &mut Writes<'_>, at: usize) {
        let open = self.load(head::TICKETS_OPEN).saturating_sub(1);
        writes.put(at + ticket::ARRIVAL, 0);
        writes.put(head::TICKETS_OPEN, open);
        if open == 0 {
            writes.put(head::TICKETS_USED, 0);
            writes.put(head::TICKETS_FREE, 0);
        } else {
            let number = (at - self.ticket(1)) / ticket::LEN + 1;
            writes.put(head::TICKETS_FREE, number as u64 & LOW);
        }
    }

    /// Has those of other processes look again.
    fn tell_others(&self) {
        if self.others_wait() {
            self.announce_alone(What::Turn, &Rows::default());
        }
    }

    fn until(&self, patience: Duration) -> u64 {
        let nanos = i64::try_from(patience.as_nanos()).unwrap_or(i64::MAX);
        self.now.mono.saturating_add(nanos) as u64
    }
}

/// The word of a priority's clock.
const fn clock_of(priority: Priority) -> usize {
    head::TURN_CLOCKS + priority as usize
}
