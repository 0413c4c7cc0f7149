//! What history takes out of a shared region: the journal's entries in plain values, what accounts counted while it was full,
//! and the breakers.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::Region;
use super::accounts::{LOW, Unknown};
use super::adjust::sums;
use super::attempt::Attempt;
use super::held::{Held, View};
use super::journal::Raw;
use super::keys;
use super::layout::{cell, entry, head, hold, row};
use crate::account::{AccountId, Chain, Scope};
use crate::clock::Now;
use crate::error::Result;
use crate::rules::breaker::Breaker;
use crate::store::Tally;
use crate::usage::history::{Entry, Named, Span, Sums};

/// The entries that private memory keeps for history.
const RECENT: u64 = 10_000;
/// How many accounts without entries are looked at under one hold of the lock.
const MOST_ACCOUNTS: usize = 2_048;

/// Entries in their order, with the accounts that they name by place.
#[derive(Debug, Default)]
pub(crate) struct Undrained {
    pub(crate) accounts: Vec<Named>,
    pub(crate) entries: Vec<Entry>,
    /// The number after the last that was looked at.
    pub(crate) next: u64,
}

/// What one account has counted, as the region has it.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) account: Named,
    pub(crate) total: Sums,
    /// Of each span, its start and its sums.
    pub(crate) periods: Vec<(Span, i64, Sums)>,
}

/// Accounts whose entries had no room, as they stood when the journal ended at `until`: once history has every entry before it,
/// what it lacks is what had no room.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    pub(crate) until: u64,
    pub(crate) counted: Vec<Counted>,
    /// The holds that are open.
    pub(crate) open: Vec<u64>,
    rows: Vec<u32>,
    pub(crate) at: i64,
    /// Batches that had found the journal full by then,
    overflows: u64,
    /// and by when the first of these accounts were looked at.
    at_first: u64,
    /// Where those that follow are marked; `None` where these are the last.
    next: Option<usize>,
}

/// A breaker that is not quiet, by its account; times by the wall.
#[derive(Debug, Clone)]
pub(crate) struct KeptBreaker {
    pub(crate) account: Named,
    pub(crate) breaker: Breaker,
}

impl View<'_> {
    /// An account by name; `None` where its row is free.
    fn named(&self, account: u32, zone: u64) -> Option<Named> {
        let base = self.row(account);
        let scope = self.scope_of(base).filter(|_| self.load(base + row::HASH) != 0)?;
        let owner = self.owner_of(base);
        let owner = if owner == 0 { String::new() } else { self.name_of(self.row(owner)) };
        Some(Named { scope, owner, name: self.name_of(base), zone: self.region.zone_name(zone) })
    }

    /// True where the row of each account of an entry is whole, its owner's too. A row has no checksum, but its hash is that of
    /// its names.
    fn has_its_accounts(&self, raw: &Raw) -> bool {
        raw.accounts().all(|(account, tag, zone)| {
            let hash = self.load(self.row(account) + row::HASH);
            let named = self.named(account, zone).filter(|_| hash & 0xffff == tag);
            named.is_some_and(|named| keys::hash_of(named.scope, &named.owner, &named.name) == hash)
        })
    }
}

impl Region {
    /// The ends of the journal: the first entry that history may not have, and the one after the last.
    pub(crate) fn journal_ends(&self) -> (u64, u64) {
        (self.load(head::JOURNAL_DRAINED), self.load(head::JOURNAL_TAIL))
    }

    /// Every entry before this number is wanted in history soon.
    pub(crate) fn hurry(&self) -> u64 {
        self.load(head::HURRY)
    }

    /// Wants everything up to now in history; the number after the last entry.
    pub(crate) fn want_drained(&self) -> Result<u64> {
        let (tail, _) = self.journal_mark()?;
        if let Some(word) = self.words.get(head::HURRY) {
            word.fetch_max(tail, Ordering::AcqRel);
        }
        Ok(tail)
    }

    /// Batches that found the journal full, and how many of them history makes up for.
    pub(crate) fn overflows(&self) -> (u64, u64) {
        (self.load(head::OVERFLOWS), self.load(head::OVERFLOWS_WRITTEN))
    }

    /// The wall time, cheaply.
    pub(crate) fn wall(&self) -> i64 {
        self.clock.coarse_wall()
    }

    /// Entries that the journal has room for.
    pub(crate) fn journal_bound(&self) -> u64 {
        self.map.journal.count() as u64
    }

    /// The entries from `from` on, at most `most`. Only what is not drained may be asked for: of that nothing is written over,
    /// and no account of it leaves its row.
    pub(crate) fn undrained(&self, from: u64, most: usize) -> Result<Undrained> {
        let (tail, _) = self.journal_mark()?;
        Ok(self.entries(from, tail.min(from.saturating_add(most as u64))))
    }

    /// The end of the journal, and the monotonic second of now: all that was touched before it lies before that end.
    pub(crate) fn journal_mark(&self) -> Result<(u64, i64)> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        Ok((held.load(head::JOURNAL_TAIL), held.now.second()))
    }

    /// The entries of a file that is not to be believed: up to the first that is not whole, or one of whose accounts is not.
    pub(crate) fn salvage(&self, from: u64) -> Undrained {
        let bound = self.map.journal.count() as u64;
        let view = View::new(self, self.coarse_now());
        // Where somebody has put back an older history, the first entries that it lacks may be gone.
        let drained = self.load(head::JOURNAL_DRAINED);
        let mut lacking = drained.saturating_sub(bound).max(from)..drained;
        let from = lacking.find(|entry| view.raw_entry(*entry).is_some()).unwrap_or(drained.max(from));
        // The tail on the disk may be older than the entries.
        let mut tail = from;
        while tail < from.saturating_add(bound) && view.raw_entry(tail).is_some_and(|raw| view.has_its_accounts(&raw)) {
            tail += 1;
        }
        self.entries(from, tail)
    }

    fn entries(&self, from: u64, until: u64) -> Undrained {
        let view = View::new(self, self.coarse_now());
        let mut found = Undrained { next: from.max(until), ..Undrained::default() };
        let mut places: HashMap<(u32, u64), u32> = HashMap::new();
        for sequence in from..until {
            let Some(raw) = view.raw_entry(sequence) else { continue };
            let mut accounts = Vec::with_capacity(4);
            for (account, tag, zone) in raw.accounts() {
                if view.load(view.row(account) + row::HASH) & 0xffff != tag {
                    continue;
                }
                let place = places.entry((account, zone)).or_insert_with(|| {
                    view.named(account, zone).map_or(u32::MAX, |named| {
                        found.accounts.push(named);
                        (found.accounts.len() - 1) as u32
                    })
                });
                if *place != u32::MAX {
                    accounts.push(*place);
                }
            }
            found.entries.push(raw.entry(sequence, accounts, |zone| self.zone_name(zone)));
        }
        found
    }

    /// Notes that history has every entry before `next`, and, where it is known, all that was touched before a second.
    pub(crate) fn set_drained(&self, next: u64, second: Option<i64>) -> Result<()> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        let mut writes = held.writes();
        writes.put(head::JOURNAL_DRAINED, next.max(held.load(head::JOURNAL_DRAINED)));
        // Where nothing waits, all that was touched before this very second is there.
        let all = (next >= held.load(head::JOURNAL_TAIL)).then(|| held.now.second());
        if let Some(second) = all.or(second) {
            writes.put(head::DRAINED_SECOND, second.max(0).unsigned_abs());
        }
        // Two words always fit the log.
        let _done = writes.commit();
        Ok(())
    }

    /// Accounts whose entries had no room, so many as nobody has to wait for long: the first, or those after these. `None` where there
    /// are none.
    pub(crate) fn unwritten(&self, after: Option<&Unwritten>) -> Result<Option<Unwritten>> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        let overflows = held.load(head::OVERFLOWS);
        if overflows == held.load(head::OVERFLOWS_WRITTEN) {
            return Ok(None);
        }
        let (at_first, from) = match after {
            Some(Unwritten { next: None, .. }) => return Ok(None),
            Some(Unwritten { next: Some(next), at_first, .. }) => (*at_first, *next),
            None => (overflows, 0),
        };
        let until = held.load(head::JOURNAL_TAIL);
        let mut found = Unwritten { until, at: held.now.wall, overflows, at_first, ..Unwritten::default() };
        for place in from..self.map.unwritten.count() {
            let marks = held.load(self.map.unwritten.at(place));
            if marks != 0 && found.rows.len() >= MOST_ACCOUNTS {
                found.next = Some(place);
                break;
            }
            for bit in (0..64).filter(|bit| marks >> bit & 1 == 1) {
                let account = (place * 64 + bit + 1) as u32;
                found.rows.push(account);
                if let Some(counted) = held.counted(account) {
                    found.counted.push(counted);
                }
            }
        }
        found.open = held.open_holds().map(|at| held.load(at + hold::ID)).collect();
        Ok(Some(found))
    }

    /// Takes the marks away again, now that history has what these accounts counted.
    pub(crate) fn clear_unwritten(&self, written: &Unwritten) -> Result<()> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        // Where more came meanwhile, the marks stay, and what that told is written next time.
        if held.load(head::OVERFLOWS) == written.overflows {
            for account in &written.rows {
                let (word, bit) = held.mark_of(*account);
                let mut writes = held.writes();
                writes.put(word, held.load(word) & !bit);
                // One word always fits the log.
                let _done = writes.commit();
            }
        }
        if written.next.is_none() {
            let mut writes = held.writes();
            writes.put(head::OVERFLOWS_WRITTEN, written.at_first);
            // One word always fits the log.
            let _done = writes.commit();
        }
        Ok(())
    }

    /// Marks every account: history compares them all with what it has. Where it is stopped in the middle, it has to be done again.
    pub(crate) fn mark_all_unwritten(&self) -> Result<()> {
        let attempt = Attempt::default();
        let mut held = self.hold_now(&attempt)?;
        let mut account = 1;
        while account <= held.load(head::ROWS_USED) as u32 {
            if held.load(held.row(account) + row::HASH) != 0 {
                let (word, bit) = held.mark_of(account);
                let mut writes = held.writes();
                writes.put(word, held.load(word) | bit);
                // One word always fits the log.
                let _done = writes.commit();
            }
            account += 1;
            if (account as usize).is_multiple_of(MOST_ACCOUNTS) {
                drop(held);
                held = self.hold_now(&attempt)?;
            }
        }
        let mut writes = held.writes();
        writes.put(head::OVERFLOWS, held.load(head::OVERFLOWS) + 1);
        // One word always fits the log.
        let _done = writes.commit();
        Ok(())
    }

    /// The breakers that have something to remember.
    pub(crate) fn breakers_to_keep(&self) -> Result<(Now, Vec<KeptBreaker>)> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        let now = held.now;
        let kept = held
            .remembering_breakers()
            .filter_map(|(account, breaker)| {
                let zone = held.zone_of(held.row(account));
                Some(KeptBreaker { account: held.named(account, zone)?, breaker })
            })
            .collect();
        Ok((now, kept))
    }

    /// Of one account that has a row, what it has counted.
    pub(crate) fn counted(&self, account: &Named) -> Result<Option<Counted>> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        let row = held.row_of(account);
        Ok(if row == 0 { None } else { held.counted(row) })
    }

    /// Sets an account's counters of the periods that it still has to these; what is held stays.
    pub(crate) fn mend(&self, right: &Counted) -> Result<()> {
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        let row = held.row_of(&right.account);
        if row != 0 {
            held.mend(row, right);
        }
        Ok(())
    }

    /// Open holds.
    pub(crate) fn open_hold_count(&self) -> u64 {
        self.load(head::HOLDS_OPEN)
    }

    /// What happened last, on private memory.
    pub(crate) fn recent(&self) -> Result<Undrained> {
        let attempt = Attempt::default();
        // Held, for what is written next takes the place of the oldest.
        let held = self.hold_now(&attempt)?;
        let tail = held.load(head::JOURNAL_TAIL);
        let first = tail.saturating_sub(RECENT.min(self.map.journal.count() as u64));
        let found = self.entries(first, tail);
        drop(held);
        Ok(found)
    }

    /// Gives an account the breaker that history kept for it.
    pub(crate) fn restore_breaker(&self, account: &AccountId<'_>, breaker: &Breaker) -> Result<()> {
        let mut chain = Chain::default();
        let outer = match account.scope {
            Scope::Workspace | Scope::Credential | Scope::Limiter => None,
            Scope::Goal | Scope::Task | Scope::Model | Scope::User => Some(Scope::Workspace),
            Scope::ProviderModel => Some(Scope::Credential),
        };
        if let Some(scope) = outer {
            chain.push(AccountId { scope, owner: "", name: account.owner });
        }
        chain.push(*account);
        let attempt = Attempt::default();
        let work = || {
            let held = self.hold_now(&attempt)?;
            let rows = held.rows_of(&chain, Unknown::MakeForHold)?;
            if let Some((_, row)) = rows.iter().last() {
                held.restore_breaker(row, breaker);
            }
            Ok(())
        };
        work().or_else(|error| self.again(&attempt, error, Some(&chain), work))
    }

    /// Notes that history has an account that has no row. Only before anybody else has the region.
    pub(crate) fn mark_stored(&self, scope: Scope, owner: &str, name: &str) {
        let hash = keys::hash_of(scope, owner, name);
        let view = View::new(self, self.coarse_now());
        for (word, bit) in view.stored_bits(hash) {
            if let Some(place) = self.words.get(word) {
                place.fetch_or(bit, Ordering::Relaxed);
            }
        }
        if let Some(word) = self.words.get(head::EVICTED) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Of every account that has a row, what it has counted; in strides, so that others get the lock between.
    pub(crate) fn all_counted(&self, mut each: impl FnMut(Counted)) -> Result<()> {
        let attempt = Attempt::default();
        let mut held = self.hold_now(&attempt)?;
        let mut account = 1;
        while account <= held.load(head::ROWS_USED) as u32 {
            if let Some(counted) = held.counted(account) {
                each(counted);
            }
            account += 1;
            if account % 256 == 0 {
                drop(held);
                held = self.hold_now(&attempt)?;
            }
        }
        Ok(())
    }
}

impl Held<'_> {
    /// The row of an account by its names; 0 where it has none.
    fn row_of(&self, account: &Named) -> u32 {
        let outer = match account.scope {
            Scope::Workspace | Scope::Credential | Scope::Limiter => return self.find(account.scope, 0, &account.name),
            Scope::Goal | Scope::Task | Scope::Model | Scope::User => Scope::Workspace,
            Scope::ProviderModel => Scope::Credential,
        };
        match self.find(outer, 0, &account.owner) {
            0 => 0,
            owner => self.find(account.scope, owner, &account.name),
        }
    }

    fn mend(&self, account: u32, right: &Counted) {
        let base = self.row(account);
        let positive = |value: i64| value.max(0).unsigned_abs();
        let mut writes = self.writes();
        for (step, field) in right.total.fields().into_iter().enumerate() {
            writes.put(base + row::TOTAL + step, positive(field));
        }
        for (span, start, sums) in &right.periods {
            let at = match span {
                Span::Hour if self.load(base + row::HOUR) as i64 == *start => {
                    let held = self.load(base + row::HOUR + 1) & LOW;
                    writes.put(base + row::HOUR + 1, positive(sums.requests).min(LOW) << 32 | held);
                    continue;
                }
                Span::Day => base + row::DAY,
                Span::Month => base + row::MONTH,
                _ => continue,
            };
            if self.load(at + cell::START) as i64 != *start {
                continue;
            }
            writes.put(at + cell::REQUESTS, positive(sums.requests));
            let errors = positive(sums.errors).min(LOW) << 32;
            writes.put(at + cell::ERRORS, errors | self.load(at + cell::ERRORS) & LOW);
            writes.put(at + cell::TOKENS, positive(sums.tokens));
            writes.put(at + cell::INPUT, positive(sums.input));
            writes.put(at + cell::OUTPUT, positive(sums.output));
            writes.put(at + cell::CACHED, positive(sums.cached));
            writes.put(at + cell::COST, positive(sums.cost));
        }
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
        // Some thirty words: they fit the log.
        let _done = writes.commit();
    }

    /// What an account has counted; `None` where the row is free.
    fn counted(&self, account: u32) -> Option<Counted> {
        let base = self.row(account);
        if self.load(base + row::HASH) == 0 {
            return None;
        }
        let named = self.named(account, self.zone_of(base))?;
        let start = |at: usize| self.load(base + at) as i64;
        let hour = Tally { requests: self.load(base + row::HOUR + 1) >> 32, ..Tally::default() };
        let periods = vec![
            (Span::Hour, start(row::HOUR), sums(&hour)),
            (Span::Day, start(row::DAY + cell::START), sums(&self.tally_of_cell(base + row::DAY))),
            (Span::Month, start(row::MONTH + cell::START), sums(&self.tally_of_cell(base + row::MONTH))),
        ];
        Some(Counted { account: named, total: sums(&self.total(base)), periods })
    }
}

const _: () = assert!(entry::REQUEST + entry::REQUEST_WORDS == entry::LEN);
