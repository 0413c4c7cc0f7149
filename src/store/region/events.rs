//! Events: what batches did while somebody listened, in a ring that all processes of a store read. Where nobody listens a batch
//! asks one word, and writes nothing.
//!
//! An event is written in its batch's own commit: its words lie past the end, where nobody reads, and the end moves with the
//! batch. What the batch's limits came to is looked at after the commit, under the same lock; if its process dies between the
//! two, whoever takes the lock over does it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::accounts::Rows;
use super::attempt::Attempt;
use super::held::Held;
use super::layout::{Map, event, head, row, slot};
use super::log::Writes;
use super::memory::Memory;
use super::{Region, futex};
use crate::account::{MAX_CHAIN, Scope};
use crate::error::Result;
use crate::usage::history::Kind;

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum What {
    /// A call that nobody reserved.
    Record = 1,
    /// A hold was given.
    Grant = 2,
    /// A hold ended with what was used.
    Settle = 3,
    /// A hold ended with nothing used.
    Release = 4,
    /// A started hold was charged as held.
    Orphan = 5,
    /// A change by hand.
    Adjust = 6,
    /// A limit came near, or was met.
    Crossing = 7,
    /// A failure was told by hand.
    Learned = 8,
    /// A breaker moved: of the accounts named, and so of every workspace that met it.
    Breaker = 9,
    /// Other limits hold.
    Config = 10,
    /// Somebody who waited went, or gave up: of interest to those who wait alone.
    Turn = 11,
}

impl What {
    const ALL: [What; 11] = [
        What::Record,
        What::Grant,
        What::Settle,
        What::Release,
        What::Orphan,
        What::Adjust,
        What::Crossing,
        What::Learned,
        What::Breaker,
        What::Config,
        What::Turn,
    ];

    pub(super) fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|what| *what as u8 == number)
    }

    /// Of a batch that the journal tells of; `None` where no counter changes.
    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Record => Some(What::Record),
            Kind::Grant => Some(What::Grant),
            Kind::Settle => Some(What::Settle),
            Kind::Release | Kind::TakenBack => Some(What::Release),
            Kind::Orphan => Some(What::Orphan),
            Kind::Start | Kind::Adjust | Kind::Overflow | Kind::Rezone => None,
        }
    }

    /// True where somebody who waits may now go.
    pub(crate) const fn frees(self) -> bool {
        !matches!(self, What::Record | What::Grant | What::Crossing)
    }
}

/// Rings when it is dropped, if anything was written: after the lock is free, for the kernel's wake is a system call.
#[derive(Debug)]
pub(super) struct Bell<'r> {
    region: &'r Region,
    /// Not 0 where it shall ring. A whole word: what ends in a single byte is moved in pieces that overlap, and the processor
    /// waits for each to be written before it reads the next.
    rings: Cell<u64>,
}

impl<'r> Bell<'r> {
    #[inline(always)]
    pub(super) fn new(region: &'r Region) -> Self {
        Self { region, rings: Cell::new(0) }
    }
}

impl Drop for Bell<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.rings.get() != 0 {
            ring(&self.region.words);
        }
    }
}

/// Wakes whoever sleeps until there are events.
#[cold]
fn ring(words: &[AtomicU64]) {
    let (Some(bell), Some(sleeping)) = (words.get(head::EVENTS_BELL), words.get(head::EVENTS_SLEEPING)) else { return };
    // Either this sees that somebody is about to sleep, or that one sees the end that this has moved.
    fence(Ordering::SeqCst);
    if sleeping.load(Ordering::Relaxed) != 0 && sleeping.swap(0, Ordering::SeqCst) != 0 {
        bell.fetch_add(1, Ordering::SeqCst);
        futex::wake(bell);
    }
}

impl Held<'_> {
    /// Notes what a batch is about to do, where somebody listens.
    #[inline]
    pub(super) fn announce(&self, writes: &mut Writes<'_>, kind: Kind, rows: &Rows) {
        if self.load(head::LISTENERS) != 0
            && let Some(what) = What::of(kind)
        {
            self.write_announcement(writes, what, rows);
        }
    }

    /// The same for what has no batch of its own in the journal, or has it in many.
    pub(super) fn announce_alone(&self, what: What, rows: &Rows) {
        if self.load(head::LISTENERS) != 0 {
            let mut writes = self.writes();
            self.write_announcement(&mut writes, what, rows);
            // One word always fits the log.
            let _done = writes.commit();
            self.look_at_limits(rows);
        }
    }

    #[cold]
    fn write_announcement(&self, writes: &mut Writes<'_>, what: What, rows: &Rows) {
        let mut words = [0; event::LEN];
        for (step, account) in rows.iter() {
            words[event::ROWS + step / 2 % 4] |= u64::from(account) << (step % 2 * 32);
        }
        let first = rows.iter().next().map_or(0, |(_, account)| account);
        if first != 0 {
            let base = self.row(first);
            words[event::WORKSPACE] = self.load(base + row::HASH);
            let version = self.load(base + row::VERSION);
            // The batch's own change is still to come, but for those that are told after theirs.
            let comes = !matches!(what, What::Adjust | What::Learned | What::Breaker);
            words[event::VERSION] = version.wrapping_add(u64::from(comes));
        }
        words[event::HEAD] = what as u64 | (rows.len as u64) << 32;
        self.write_event(writes, words);
    }

    /// Writes an event past the end, and moves the end with the batch.
    pub(super) fn write_event(&self, writes: &mut Writes<'_>, mut words: [u64; event::LEN]) -> u64 {
        let sequence = self.load(head::EVENTS);
        let table = self.map().events;
        let at = table.at(sequence as usize % table.count());
        words[event::SEQUENCE] = sequence;
        words[event::AT] = self.now.wall as u64;
        for (word, value) in words.into_iter().enumerate() {
            self.store(at + word, value);
        }
        writes.put(head::EVENTS, sequence + 1);
        self.bell.rings.set(1);
        sequence
    }

    /// After a batch's commit: what its accounts' limits came to.
    #[inline]
    pub(super) fn look_at_limits(&self, rows: &Rows) {
        if self.bell.rings.get() != 0 {
            self.tell_crossings(rows);
        }
    }

    #[cold]
    fn tell_crossings(&self, rows: &Rows) {
        let first = rows.iter().next().map_or(0, |(_, account)| account);
        for (_, account) in rows.iter().filter(|(_, account)| *account != 0) {
            self.tell_crossings_of(first, account);
        }
        self.store(head::EVENTS_LOOKED, self.load(head::EVENTS));
    }

    /// Whoever told these events died before it looked at their limits.
    #[cold]
    pub(super) fn look_at_what_was_told(&self) {
        let (looked, told) = (self.load(head::EVENTS_LOOKED), self.load(head::EVENTS));
        let table = self.map().events;
        for sequence in looked.max(told.saturating_sub(table.count() as u64))..told {
            let at = table.at(sequence as usize % table.count());
            if What::from_u8(self.load(at + event::HEAD) as u8) != Some(What::Crossing) {
                let rows = self.rows_of_event(at);
                for (_, account) in rows.iter() {
                    self.current(account, false);
                }
                self.attempt.forget_need();
                self.tell_crossings(&rows);
            }
        }
        self.store(head::EVENTS_LOOKED, self.load(head::EVENTS));
        // It may have died before it woke anybody.
        self.bell.rings.set(1);
    }

    /// The rows that an event names.
    pub(super) fn rows_of_event(&self, at: usize) -> Rows {
        let mut rows = Rows { len: (self.load(at + event::HEAD) >> 32 & 0xff) as usize, ..Rows::default() };
        rows.len = rows.len.min(MAX_CHAIN);
        for step in 0..rows.len {
            rows.rows[step] = (self.load(at + event::ROWS + step / 2) >> (step % 2 * 32)) as u32;
        }
        rows
    }

    /// True where an event is about a workspace.
    pub(super) fn is_of_workspace(&self, account: u32) -> bool {
        account != 0 && self.scope_of(self.row(account)) == Some(Scope::Workspace)
    }

    /// A slot's process listens no more: it left, or it is dead.
    pub(super) fn stop_listening(&self, number: u8) {
        self.set_listening(number, false);
    }

    fn set_listening(&self, number: u8, listens: bool) {
        let at = self.map().slots.at(usize::from(number)) + slot::LISTENS;
        let (was, is) = (self.load(at), u64::from(listens));
        if was != is {
            let mut writes = self.writes();
            writes.put(at, is);
            let others = self.load(head::LISTENERS).saturating_sub(was);
            writes.put(head::LISTENERS, others + is);
            // Two words always fit the log.
            let _done = writes.commit();
        }
    }
}

impl Region {
    /// From now on the batches of all processes tell what they do, or not for this process's sake.
    ///
    /// # Errors
    /// Those of the lock.
    pub(crate) fn listen(&self, listens: bool) -> Result<()> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        held.set_listening(self.slot(), listens);
        Ok(())
    }

    /// How many processes listen.
    pub(crate) fn listeners(&self) -> u64 {
        self.load(head::LISTENERS)
    }

    /// How many events were ever written.
    pub(crate) fn events_told(&self) -> u64 {
        self.load(head::EVENTS)
    }

    /// Has a configuration that was just given taken at once, where somebody listens.
    pub(crate) fn tell_of_config(&self) {
        if self.listeners() != 0 {
            // A batch takes it all the same.
            let _taken = self.hold(&Attempt::default()).map(drop);
        }
    }

    /// What a thread listens by, without the region.
    pub(crate) fn ear(&self) -> Ear {
        Ear { words: Arc::clone(&self.words), map: self.map }
    }
}

/// The end of the ring, and its bell.
#[derive(Clone)]
pub(crate) struct Ear {
    words: Arc<Memory>,
    map: Map,
}

impl Ear {
    /// How many events were ever written.
    pub(crate) fn told(&self) -> u64 {
        self.words.get(head::EVENTS).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Sleeps until there are more events than `seen`, at most for `bound`.
    pub(crate) fn sleep(&self, seen: u64, bound: Duration) {
        let (Some(bell), Some(sleeping)) = (self.words.get(head::EVENTS_BELL), self.words.get(head::EVENTS_SLEEPING))
        else {
            return;
        };
        let rung = bell.load(Ordering::SeqCst);
        sleeping.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.told() == seen {
            // Bounded, for whoever takes the mark of the sleepers may die before it wakes them.
            futex::wait(bell, rung, bound);
        }
    }

    /// Wakes the sleepers of every process, who then find out what it is about.
    pub(crate) fn ring(&self) {
        ring(&self.words);
    }

    /// True where something among the events from `seen` to `told` lets somebody go, or they are not there any more.
    pub(crate) fn frees(&self, seen: u64, told: u64) -> bool {
        let table = self.map.events;
        let load = |word: usize| self.words.get(word).map_or(0, |word| word.load(Ordering::Relaxed));
        told.saturating_sub(seen) > table.count() as u64
            || (seen..told).any(|sequence| {
                let at = table.at(sequence as usize % table.count());
                let what = What::from_u8(load(at + event::HEAD) as u8);
                load(at + event::SEQUENCE) != sequence || what.is_none_or(What::frees)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountId, Call};
    use crate::clock::ManualClock;
    use crate::config::Config;
    use crate::rules::limits::{LimitKind, LimitSet};
    use crate::store::region::accounts::Unknown;
    use crate::store::region::layout::cell;
    use crate::store::{Fact, Store};

    fn limited() -> Region {
        let acme = AccountId { scope: Scope::Workspace, owner: "", name: "acme" };
        let limits = LimitSet::NONE.with(LimitKind::TokensPerDay, 100);
        let config = Config::unlimited().with_override(acme, limits, None);
        Region::logged(1 << 20, Arc::new(ManualClock::at(0)), Arc::new(config)).unwrap()
    }

    fn whats(region: &Region) -> Vec<What> {
        region.hear(0, None).unwrap().events.into_iter().map(|heard| heard.what).collect()
    }

    #[test]
    fn what_its_teller_died_over_is_looked_at_by_the_next_holder() {
        let region = limited();
        let call = Call::new("acme");
        let chain = call.chain().unwrap();
        region.listen(true).unwrap();
        region.record(&chain, &Fact { requests: 1, tokens: 50, ..Fact::default() }).unwrap();
        let attempt = Attempt::default();
        let held = region.hold(&attempt).unwrap();
        let rows = held.rows_of(&chain, Unknown::Leave).unwrap();
        let mut writes = held.writes();
        held.announce(&mut writes, Kind::Record, &rows);
        writes.put(held.row(rows.rows[0]) + row::DAY + cell::TOKENS, 96);
        assert!(writes.commit());
        // It dies here: the batch is done, and nobody has looked at its limits.
        drop(held);
        let before = whats(&region);
        let held = region.hold(&attempt).unwrap();
        held.look_at_what_was_told();
        held.look_at_what_was_told();
        drop(held);
        let after = whats(&region);
        assert_eq!(after.get(..before.len()), Some(before.as_slice()));
        assert_eq!(after.get(before.len()..), Some([What::Crossing].as_slice()), "once");
    }

    #[test]
    fn what_was_begun_past_the_end_is_not_heard() {
        let region = limited();
        region.listen(true).unwrap();
        let call = Call::new("acme");
        let chain = call.chain().unwrap();
        region.record(&chain, &Fact { requests: 1, ..Fact::default() }).unwrap();
        let before = whats(&region);
        let attempt = Attempt::default();
        let held = region.hold(&attempt).unwrap();
        let rows = held.rows_of(&chain, Unknown::Leave).unwrap();
        // Its batch never commits.
        held.announce(&mut held.writes(), Kind::Record, &rows);
        drop(held);
        assert_eq!(whats(&region), before);
        region.record(&chain, &Fact { requests: 1, ..Fact::default() }).unwrap();
        assert_eq!(whats(&region).len(), before.len() + 1);
    }
}
