//! One transaction of the keeper: entries become rows, and what they add up to is written once for each line at the end.

use std::collections::{BTreeMap, HashMap};

use arrayvec::ArrayVec;
use rusqlite::{Connection, params};

use super::accumulate::{Ledger, Slot};
use super::book::{AsOf, LineWriter, Tables};
use super::fault::Fault;
use super::holds::OpenHolds;
use super::names::{Names, owner_scope};
use super::postings::Postings;
use super::rows::{Inserts, Places};
use crate::account::Scope;
use crate::clock::SECOND;
use crate::usage::history::{Entry, Kind, Named, Span, Sums};

/// Which of the kept counts the next one is.
const NEXT_SEQUENCE: &str = "next_sequence";
const NEXT_ROW: &str = "next_row";
const LAST_HOLD: &str = "last_hold";

/// An account in a batch.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: i64,
    slot: Slot,
    scope: Scope,
    owner: Option<(Scope, i64)>,
}

impl Known {
    /// Its columns and its owner's, so that whoever asks for the rows of a workspace gets those of what lies inside it.
    fn alone(&self) -> Places {
        let mut places = Places::default();
        places.put(self.scope, self.id);
        if let Some((scope, owner)) = self.owner {
            places.put(scope, owner);
        }
        places
    }
}

/// What entries left on an account beside its sums.
#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    row: i64,
    seen: Option<i64>,
    failed: Option<i64>,
}

pub(super) struct Batch<'c> {
    connection: &'c Connection,
    names: &'c mut Names,
    book: Tables<'c>,
    pub(super) ledger: Ledger,
    holds: OpenHolds<'c>,
    inserts: Inserts<'c>,
    next_sequence: u64,
    next_row: i64,
    last_hold: u64,
    /// By slot: the account's number, and what is left on it.
    touched: Vec<(i64, Touch)>,
    zones: Vec<(i64, String)>,
    hours: BTreeMap<i64, (i64, i64)>,
    postings: Postings,
}

/// The first number of the journal that is not taken yet.
pub(super) fn next_sequence(connection: &Connection) -> Result<u64, Fault> {
    count(connection, NEXT_SEQUENCE).map(i64::cast_unsigned)
}

/// The next number to be taken is at least this one.
pub(super) fn skip_to(connection: &Connection, next: u64) -> Result<(), Fault> {
    raise(connection, NEXT_SEQUENCE, next)
}

/// No hold that is told of later has a number up to this one.
pub(super) fn skip_holds_to(connection: &Connection, last: u64) -> Result<(), Fault> {
    raise(connection, LAST_HOLD, last)
}

fn raise(connection: &Connection, key: &str, least: u64) -> Result<(), Fault> {
    let mut raise = connection.prepare_cached("UPDATE meta SET value = max(value, ?) WHERE key = ?")?;
    raise.execute(params![least.cast_signed(), key])?;
    Ok(())
}

/// The largest number of a hold that was told of.
pub(super) fn last_hold(connection: &Connection) -> Result<u64, Fault> {
    count(connection, LAST_HOLD).map(i64::cast_unsigned)
}

/// The end of the latest hour that anything was counted in, in wall nanoseconds.
pub(super) fn counted_until(connection: &Connection) -> Result<i64, Fault> {
    let mut latest = connection.prepare_cached("SELECT max(start) FROM periods WHERE span = ?")?;
    let start: Option<i64> = latest.query_row([Span::Hour as u8], |row| row.get(0))?;
    Ok(start.map_or(0, |start| start.saturating_add(3_600).saturating_mul(SECOND)))
}

/// The number that the next row gets.
pub(super) fn next_row(connection: &Connection) -> Result<i64, Fault> {
    count(connection, NEXT_ROW)
}

fn count(connection: &Connection, key: &str) -> Result<i64, Fault> {
    let mut count = connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
    Ok(count.query_row([key], |row| row.get(0))?)
}

impl<'c> Batch<'c> {
    /// Begins inside an open transaction.
    pub(super) fn begin(connection: &'c Connection, names: &'c mut Names) -> Result<Self, Fault> {
        Ok(Self {
            connection,
            names,
            book: Tables::new(connection, AsOf::Now)?,
            ledger: Ledger::default(),
            holds: OpenHolds::new(connection)?,
            inserts: Inserts::new(connection)?,
            next_sequence: next_sequence(connection)?,
            next_row: next_row(connection)?,
            last_hold: last_hold(connection)?,
            touched: Vec::new(),
            zones: Vec::new(),
            hours: BTreeMap::new(),
            postings: Postings::default(),
        })
    }

    /// Takes the entries that are not taken yet.
    pub(super) fn take(&mut self, accounts: &[Named], entries: &[Entry]) -> Result<(), Fault> {
        // An account is looked up at the first entry that names it: the zone it then has is the one it begins with.
        let mut known: Vec<Option<Known>> = vec![None; accounts.len()];
        let mut slots: ArrayVec<Slot, 8> = ArrayVec::new();
        for entry in entries {
            if entry.sequence < self.next_sequence {
                continue;
            }
            self.next_sequence = entry.sequence.saturating_add(1);
            self.last_hold = self.last_hold.max(entry.held.map_or(0, |held| held.hold));
            slots.clear();
            let mut places = Places::default();
            let alone = entry.kind.is_correction() || entry.kind == Kind::Rezone;
            if entry.accounts.len() > slots.capacity() || (alone && entry.accounts.len() > 1) {
                return Err(Fault::damaged(format!("entry {} names too many accounts", entry.sequence)));
            }
            for place in &entry.accounts {
                let known = self.known(accounts, &mut known, *place, entry.sequence)?;
                slots.push(known.slot);
                if alone {
                    places = known.alone();
                } else if !places.put(known.scope, known.id) {
                    return Err(Fault::damaged(format!("entry {} names two accounts of a scope", entry.sequence)));
                }
            }
            self.entry(entry, &places, &slots)?;
        }
        Ok(())
    }

    fn known(
        &mut self,
        accounts: &[Named],
        known: &mut [Option<Known>],
        place: u32,
        sequence: u64,
    ) -> Result<Known, Fault> {
        let place = place as usize;
        let (Some(named), Some(memo)) = (accounts.get(place), known.get_mut(place)) else {
            return Err(Fault::damaged(format!("entry {sequence} names an account that does not come with it")));
        };
        if let Some(known) = memo {
            return Ok(*known);
        }
        let found = self.account(named)?;
        *memo = Some(found);
        Ok(found)
    }

    fn account(&mut self, named: &Named) -> Result<Known, Fault> {
        let numbers = self.names.numbers(self.connection, named, self.next_row)?;
        let slot = self.slot(numbers.id)?;
        let owner = owner_scope(named.scope).map(|scope| (scope, numbers.owner));
        Ok(Known { id: numbers.id, slot, scope: named.scope, owner })
    }

    /// An account on its own, as corrections name it: its place in the ledger, and its columns in a row.
    pub(super) fn alone(&mut self, named: &Named) -> Result<(Slot, Places), Fault> {
        let known = self.account(named)?;
        Ok((known.slot, known.alone()))
    }

    /// The sums of an account's period as they stand now.
    pub(super) fn sums(&mut self, slot: Slot, span: Span, start: i64) -> Result<Sums, Fault> {
        Ok(self.ledger.line(slot, span, start, &mut self.book)?.now)
    }

    /// The place of an account by its number.
    pub(super) fn slot(&mut self, id: i64) -> Result<Slot, Fault> {
        let slot = self.ledger.slot(id, &mut self.book)?;
        if slot >= self.touched.len() {
            self.touched.resize(slot + 1, (id, Touch::default()));
        }
        Ok(slot)
    }

    fn entry(&mut self, entry: &Entry, places: &Places, slots: &[Slot]) -> Result<(), Fault> {
        match (entry.kind, entry.held) {
            (Kind::Grant, Some(held)) => self.holds.grant(held, *places),
            (Kind::Start, Some(held)) => self.holds.start(held.hold)?,
            (Kind::Grant | Kind::Start, None) => {}
            (kind, held) => {
                if let Some(held) = held.filter(|_| kind.ends_hold()) {
                    self.holds.end(held.hold)?;
                }
                self.row(entry, None, places, slots)?;
            }
        }
        Ok(())
    }

    /// Adds a row, and what it changes to the ledger. A correction lands at `start`, or in the period of its time.
    pub(super) fn row(
        &mut self,
        entry: &Entry,
        start: Option<i64>,
        places: &Places,
        slots: &[Slot],
    ) -> Result<(), Fault> {
        let row = self.next_row;
        self.next_row = row.saturating_add(1);
        let start = self.ledger.take(entry, start, slots, &mut self.book)?;
        self.inserts.put(row, entry, places, start)?;
        if let Some(held) = entry.held.filter(|_| entry.replaces) {
            let mut replaced =
                self.connection.prepare_cached("UPDATE history SET replaced = 1 WHERE kind = 6 AND hold = ?")?;
            replaced.execute([held.hold.cast_signed()])?;
        }
        if let Some((was, is, zone)) = entry.rezone.as_ref().filter(|_| entry.kind == Kind::Rezone) {
            for id in places.changed(entry.kind) {
                let mut rename =
                    self.connection.prepare_cached("INSERT INTO rezones VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
                let (from, to) = ((was.hour, was.day, was.month), (is.hour, is.day, is.month));
                rename.execute(params![row, id, entry.at, zone, from.0, from.1, from.2, to.0, to.1, to.2])?;
                self.zones.push((id, zone.clone()));
            }
        }
        let silent = matches!(entry.kind, Kind::Overflow | Kind::Rezone);
        for slot in slots {
            if let Some((_, touch)) = self.touched.get_mut(*slot) {
                touch.row = row;
                if !silent {
                    touch.seen = Some(entry.at);
                }
                if entry.failure.is_some() {
                    touch.failed = Some(entry.at);
                }
            }
        }
        if places.all().count() > slots.len() {
            // The owner of a corrected account has the row, too, though not its sums.
            for id in places.all() {
                let slot = self.slot(id)?;
                if let Some((_, touch)) = self.touched.get_mut(slot) {
                    touch.row = row;
                }
            }
        }
        let hour = entry.at.div_euclid(3_600 * SECOND);
        self.hours.entry(hour).or_insert((row, row)).1 = row;
        if let Some(workspace) = places.workspace() {
            self.postings.note(workspace, row);
        }
        Ok(())
    }

    /// Writes what has been added up, and how far the journal is taken.
    pub(super) fn finish(self) -> Result<(), Fault> {
        let connection = self.connection;
        self.holds.finish()?;
        self.postings.finish(connection)?;
        let mut count = connection.prepare_cached("UPDATE meta SET value = ? WHERE key = ?")?;
        count.execute(params![self.next_sequence.cast_signed(), NEXT_SEQUENCE])?;
        count.execute(params![self.next_row, NEXT_ROW])?;
        count.execute(params![self.last_hold.cast_signed(), LAST_HOLD])?;
        let mut hours = connection.prepare_cached(
            "INSERT INTO hours VALUES (?, ?, ?) ON CONFLICT (hour) DO UPDATE SET last_row = excluded.last_row",
        )?;
        for (hour, (first, last)) in self.hours {
            hours.execute([hour, first, last])?;
        }
        let mut zones =
            connection.prepare_cached("UPDATE accounts SET zone = ?, rezones = rezones + 1 WHERE id = ?")?;
        for (id, zone) in self.zones {
            zones.execute(params![zone, id])?;
        }
        let touched: HashMap<i64, Touch> = self.touched.into_iter().filter(|(_, touch)| touch.row != 0).collect();
        let mut touch_account = connection.prepare_cached(
            "UPDATE accounts SET last_row = ?, seen = coalesce(?, seen), last_error = coalesce(?, last_error), \
             n_requests = ?, n_errors = ?, n_tokens = ?, n_input = ?, n_output = ?, n_cached = ?, n_cost = ? WHERE id = ?",
        )?;
        let mut writer = LineWriter::new(connection, "n_")?;
        for line in self.ledger.into_lines() {
            match touched.get(&line.id).filter(|_| line.span == Span::Total) {
                Some(touch) => {
                    let Sums { requests, errors, tokens, input, output, cached, cost } = line.now;
                    touch_account.execute(params![
                        touch.row,
                        touch.seen,
                        touch.failed,
                        requests,
                        errors,
                        tokens,
                        input,
                        output,
                        cached,
                        cost,
                        line.id
                    ])?;
                }
                None => writer.write(&line)?,
            }
        }
        Ok(())
    }
}
