//! History's rows: how an entry is written as one, and how it is read back to be added up again.

use rusqlite::{CachedStatement, Connection, Row};

use super::accumulate::{Ledger, Slot};
use super::fault::Fault;
use crate::account::Scope;
use crate::usage::history::{Entry, Held, Kind, Span, Starts, Sums};

/// The accounts of a row, by scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places([Option<i64>; Scope::ALL.len()]);

impl Places {
    /// Puts an account; false where there is one of that scope.
    pub(super) fn put(&mut self, scope: Scope, id: i64) -> bool {
        let place = &mut self.0[scope as usize - 1];
        place.replace(id).is_none()
    }

    /// The workspace.
    pub(super) fn workspace(&self) -> Option<i64> {
        self.0[Scope::Workspace as usize - 1]
    }

    /// Its accounts.
    pub(super) fn all(&self) -> impl Iterator<Item = i64> {
        self.0.into_iter().flatten()
    }

    /// The accounts that an entry changes: of a correction and of another zone the innermost alone, which the others lead to.
    pub(super) fn changed(&self, kind: Kind) -> impl Iterator<Item = i64> {
        let innermost = kind.is_correction() || kind == Kind::Rezone;
        let last = self.0.iter().rposition(Option::is_some).unwrap_or(0);
        let first = if innermost { last } else { 0 };
        self.0.into_iter().skip(first).flatten()
    }

    /// From the eight columns that begin at `first`.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let mut places = Self::default();
        for (step, place) in places.0.iter_mut().enumerate() {
            *place = row.get(first + step)?;
        }
        Ok(places)
    }

    pub(super) fn columns(&self) -> &[Option<i64>; Scope::ALL.len()] {
        &self.0
    }
}

/// The sums in seven columns from `first`.
pub(super) fn sums_from(row: &Row<'_>, first: usize) -> rusqlite::Result<Sums> {
    let mut fields = [0; 7];
    for (step, field) in fields.iter_mut().enumerate() {
        *field = row.get(first + step)?;
    }
    Ok(Sums::of_fields(fields))
}

/// As a column; a larger number than it takes is the largest.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The columns that are numbers, in the order in which [`Inserts`] binds them; two of text come after.
const NUMBERS: usize = 31;

/// Inserts rows. What a row shares with the one before it, which is most of it, is not bound again.
pub(super) struct Inserts<'c> {
    statement: CachedStatement<'c>,
    bound: [Option<i64>; NUMBERS],
    has_text: bool,
}

impl<'c> Inserts<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, Fault> {
        let statement = connection.prepare_cached(
            "INSERT INTO history (id, kind, at, \
             workspace, goal, task, model, user, credential, provider_model, limiter, \
             requests, errors, tokens, input, output, cached, cost, reasoning, estimated, failure, latency_ms, \
             hold, granted, held_requests, held_tokens, held_cost, replaces, lands_now, span, start, method, request_id) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        Ok(Self { statement, bound: [None; NUMBERS], has_text: false })
    }

    /// Inserts the row of an entry.
    pub(super) fn put(&mut self, id: i64, entry: &Entry, places: &Places, start: Option<i64>) -> rusqlite::Result<()> {
        let [workspace, goal, task, model, user, credential, provider_model, limiter] = places.0;
        let [requests, errors, tokens, input, output, cached, cost] = entry.sums.fields().map(Some);
        let held = entry.held.as_ref();
        let row: [Option<i64>; NUMBERS] = [
            Some(id),
            Some(entry.kind as i64),
            Some(entry.at),
            workspace,
            goal,
            task,
            model,
            user,
            credential,
            provider_model,
            limiter,
            requests,
            errors,
            tokens,
            input,
            output,
            cached,
            cost,
            Some(column(entry.reasoning)),
            Some(i64::from(entry.estimated)),
            entry.failure.map(|failure| failure as i64),
            entry.latency_ms.map(i64::from),
            held.map(|held| held.hold.cast_signed()),
            held.map(|held| held.granted),
            held.map(|held| column(held.requests)),
            held.map(|held| column(held.tokens)),
            held.map(|held| column(held.cost)),
            Some(i64::from(entry.replaces)),
            Some(i64::from(entry.lands_now)),
            entry.span.map(|span| span as i64),
            start,
        ];
        for (place, (value, bound)) in row.into_iter().zip(&mut self.bound).enumerate() {
            if value != *bound {
                self.statement.raw_bind_parameter(place + 1, value)?;
                *bound = value;
            }
        }
        let has_text = entry.method.is_some() || entry.request_id.is_some();
        if has_text || self.has_text {
            self.statement.raw_bind_parameter(NUMBERS + 1, &entry.method)?;
            self.statement.raw_bind_parameter(NUMBERS + 2, &entry.request_id)?;
            self.has_text = has_text;
        }
        self.statement.raw_execute()?;
        Ok(())
    }
}

/// A row, with what its sums depend on.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) id: i64,
    pub(super) entry: Entry,
    pub(super) places: Places,
    /// The period of a correction.
    pub(super) start: Option<i64>,
}

impl Told {
    /// The places in a ledger of those accounts that it changes and that are wanted.
    pub(super) fn slots(
        &self,
        ledger: &mut Ledger,
        book: &mut impl super::accumulate::Book,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<arrayvec::ArrayVec<Slot, 8>, Fault> {
        let ids = self.places.changed(self.entry.kind).filter(|id| wanted(*id));
        ids.map(|id| ledger.slot(id, book)).collect()
    }
}

/// Calls `each` with the rows of these numbers, oldest first.
pub(super) fn replay(
    connection: &Connection,
    first: i64,
    last: i64,
    mut each: impl FnMut(&Told) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut rows = connection.prepare_cached(
        "SELECT id, kind, at, workspace, goal, task, model, user, credential, provider_model, limiter, \
         requests, errors, tokens, input, output, cached, cost, \
         hold, granted, held_requests, held_tokens, held_cost, replaces, lands_now, span, start \
         FROM history WHERE id BETWEEN ? AND ? ORDER BY id",
    )?;
    let mut rows = rows.query([first, last])?;
    while let Some(row) = rows.next()? {
        let mut told = read(row)?;
        if told.entry.kind == Kind::Rezone {
            told.entry.rezone = Some(rezone(connection, told.id)?);
        }
        each(&told)?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Told, Fault> {
    let id = row.get(0)?;
    let kind = Kind::from_u8(row.get(1)?).ok_or_else(|| Fault::damaged(format!("row {id} is of an unknown kind")))?;
    let hold: Option<i64> = row.get(18)?;
    let amount = |place: usize| row.get::<_, Option<i64>>(place).map(|amount| amount.unwrap_or(0).unsigned_abs());
    let held = match hold {
        Some(hold) => Some(Held {
            hold: hold.cast_unsigned(),
            granted: row.get::<_, Option<i64>>(19)?.unwrap_or(0),
            requests: amount(20)?,
            tokens: amount(21)?,
            cost: amount(22)?,
        }),
        None => None,
    };
    let entry = Entry { sums: sums_from(row, 11)?, held, ..blank(kind, row.get(2)?) };
    let entry = Entry {
        replaces: row.get(23)?,
        lands_now: row.get(24)?,
        span: row.get::<_, Option<u8>>(25)?.and_then(Span::from_u8),
        ..entry
    };
    Ok(Told { id, entry, places: Places::read(row, 3)?, start: row.get(26)? })
}

/// An entry that tells of nothing yet.
pub(super) fn blank(kind: Kind, at: i64) -> Entry {
    Entry {
        sequence: 0,
        kind,
        at,
        accounts: Vec::new(),
        sums: Sums::default(),
        reasoning: 0,
        estimated: false,
        failure: None,
        held: None,
        replaces: false,
        lands_now: false,
        span: None,
        rezone: None,
        latency_ms: None,
        request_id: None,
        method: None,
    }
}

fn rezone(connection: &Connection, row: i64) -> Result<(Starts, Starts, String), Fault> {
    let mut found = connection.prepare_cached(
        "SELECT was_hour, was_day, was_month, is_hour, is_day, is_month, zone FROM rezones WHERE row = ?",
    )?;
    Ok(found.query_row([row], |row| {
        let was = Starts { hour: row.get(0)?, day: row.get(1)?, month: row.get(2)? };
        let is = Starts { hour: row.get(3)?, day: row.get(4)?, month: row.get(5)? };
        Ok((was, is, row.get(6)?))
    })?)
}
