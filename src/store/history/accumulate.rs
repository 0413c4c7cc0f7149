//! What an entry changes: the one reckoning that the keeper, retention and verification share. Pure: a [`Book`] says what
//! stood before, and whoever asked takes the lines when all entries are in.

use std::collections::HashMap;

use arrayvec::ArrayVec;
use jiff::tz::TimeZone;

use super::fault::Fault;
use super::timeline::{Timeline, start_in};
use crate::config::time_zone;
use crate::usage::history::{Entry, Held, Kind, Span, Starts, Sums};

/// Says what stood before the first entry.
pub(super) trait Book {
    /// The zones of an account and its sums since the store began.
    fn account(&mut self, id: i64) -> Result<(Timeline, Sums), Fault>;

    /// The sums of an account in an hour, a day or a month.
    fn period(&mut self, id: i64, span: Span, start: i64) -> Result<Sums, Fault>;
}

/// One change of an account.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// In the total and in the periods that start so.
    Land { starts: Starts, sums: Sums },
    /// In one span alone.
    Correct { span: Span, start: i64, sums: Sums },
    /// The periods that start so go on under other starts.
    Move { was: Starts, is: Starts },
}

/// As many as an entry makes at most: a settle that replaces a charge.
type Changes = ArrayVec<Change, 2>;

/// What an entry changes of one of its accounts, in this order. A correction lands at `start`, or where that is not known
/// in the period of its time.
fn changes(entry: &Entry, start: Option<i64>, timeline: &mut Timeline, zone: Option<&TimeZone>) -> Changes {
    let mut changes = Changes::new();
    if let (Some((was, is, _)), Some(zone)) = (&entry.rezone, zone) {
        timeline.rename(entry.at, *was, *is, zone.clone());
        changes.push(Change::Move { was: *was, is: *is });
    } else if entry.kind.is_correction() {
        // One without a span was of the minute, which history does not sum up.
        if let Some(span) = entry.span {
            let start = start.unwrap_or_else(|| start_in(&timeline.now(entry.at), span));
            changes.push(Change::Correct { span, start, sums: entry.sums });
        }
    } else {
        let held = entry.held.as_ref();
        if let Some(held) = held.filter(|_| entry.replaces) {
            let off = Sums::default().minus(&charge(held));
            changes.push(Change::Land { starts: timeline.granted(held.granted), sums: off });
        }
        if !entry.sums.is_zero() {
            let starts = match held {
                Some(held) if entry.kind.ends_hold() && !entry.lands_now => timeline.granted(held.granted),
                _ => timeline.now(entry.at),
            };
            changes.push(Change::Land { starts, sums: entry.sums });
        }
    }
    changes
}

/// What a hold is charged where nobody says what it used.
pub(super) fn charge(held: &Held) -> Sums {
    let most = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    Sums { requests: most(held.requests), tokens: most(held.tokens), cost: most(held.cost), ..Sums::default() }
}

/// The sums of one account in one period.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// The account's number.
    pub(super) id: i64,
    pub(super) span: Span,
    pub(super) start: i64,
    pub(super) before: Sums,
    pub(super) now: Sums,
}

#[derive(Debug)]
struct Account {
    id: i64,
    timeline: Timeline,
    /// The line last used of each span, which is mostly the next one too.
    recent: [Option<(i64, usize)>; Span::ALL.len()],
}

/// Where an account stands in a ledger.
pub(super) type Slot = usize;

/// Sums that entries change one after the other.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: HashMap<i64, Slot>,
    accounts: Vec<Account>,
    places: HashMap<(Slot, Span, i64), usize>,
    lines: Vec<Line>,
}

impl Ledger {
    /// The place of an account; its zones and its total are read at the first call.
    pub(super) fn slot(&mut self, id: i64, book: &mut impl Book) -> Result<Slot, Fault> {
        if let Some(slot) = self.slots.get(&id) {
            return Ok(*slot);
        }
        let (timeline, total) = book.account(id)?;
        let slot = self.accounts.len();
        let line = self.add_line(slot, Line { id, span: Span::Total, start: 0, before: total, now: total });
        let mut recent = [None; Span::ALL.len()];
        recent[Span::Total as usize] = Some((0, line));
        self.accounts.push(Account { id, timeline, recent });
        self.slots.insert(id, slot);
        Ok(slot)
    }

    /// Takes an entry of these accounts; answers where a correction landed.
    ///
    /// Nothing is taken where a zone is unknown or the book fails; a ledger that failed is of no use any more.
    pub(super) fn take(
        &mut self,
        entry: &Entry,
        start: Option<i64>,
        slots: &[Slot],
        book: &mut impl Book,
    ) -> Result<Option<i64>, Fault> {
        let zone = match &entry.rezone {
            Some((_, _, name)) if entry.kind == Kind::Rezone => Some(time_zone("timezone", name)?),
            _ => None,
        };
        let mut landed = None;
        for slot in slots {
            let Some(account) = self.accounts.get_mut(*slot) else { continue };
            for change in changes(entry, start, &mut account.timeline, zone.as_ref()) {
                match change {
                    Change::Land { starts, sums } => {
                        for span in Span::ALL {
                            self.line(*slot, span, start_in(&starts, span), book)?.add(&sums);
                        }
                    }
                    Change::Correct { span, start, sums } => {
                        landed = Some(start);
                        self.line(*slot, span, start, book)?.add(&sums);
                    }
                    Change::Move { was, is } => {
                        for span in [Span::Hour, Span::Day, Span::Month] {
                            let (from, to) = (start_in(&was, span), start_in(&is, span));
                            if from != to {
                                let moved = std::mem::take(&mut self.line(*slot, span, from, book)?.now);
                                self.line(*slot, span, to, book)?.add(&moved);
                            }
                        }
                    }
                }
            }
        }
        Ok(landed)
    }

    /// The zones of an account.
    pub(super) fn timeline(&mut self, slot: Slot) -> Option<&mut Timeline> {
        self.accounts.get_mut(slot).map(|account| &mut account.timeline)
    }

    /// The line of an account's period.
    pub(super) fn line(
        &mut self,
        slot: Slot,
        span: Span,
        start: i64,
        book: &mut impl Book,
    ) -> Result<&mut Line, Fault> {
        let missing = || Fault::damaged("an entry names an account that nobody looked up");
        let account = self.accounts.get_mut(slot).ok_or_else(missing)?;
        let place = match account.recent[span as usize] {
            Some((recent, line)) if recent == start => line,
            _ => {
                let (id, known) = (account.id, self.places.get(&(slot, span, start)).copied());
                let line = match known {
                    Some(line) => line,
                    None => {
                        let before = book.period(id, span, start)?;
                        self.add_line(slot, Line { id, span, start, before, now: before })
                    }
                };
                if let Some(account) = self.accounts.get_mut(slot) {
                    account.recent[span as usize] = Some((start, line));
                }
                line
            }
        };
        self.lines.get_mut(place).ok_or_else(missing)
    }

    fn add_line(&mut self, slot: Slot, line: Line) -> usize {
        let place = self.lines.len();
        self.places.insert((slot, line.span, line.start), place);
        self.lines.push(line);
        place
    }

    /// All lines, those of an account's periods side by side.
    pub(super) fn into_lines(self) -> Vec<Line> {
        let mut lines = self.lines;
        lines.sort_unstable_by_key(|line| (line.id, line.span, line.start));
        lines
    }
}

impl Line {
    fn add(&mut self, sums: &Sums) {
        self.now = self.now.plus(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;
    use crate::store::history::rows::blank;
    use crate::store::history::timeline::starts_at;

    /// A book of accounts in UTC of which nothing is known.
    struct Blank;

    impl Book for Blank {
        fn account(&mut self, _id: i64) -> Result<(Timeline, Sums), Fault> {
            Ok((Timeline::new(TimeZone::UTC), Sums::default()))
        }

        fn period(&mut self, _id: i64, _span: Span, _start: i64) -> Result<Sums, Fault> {
            Ok(Sums::default())
        }
    }

    const NOON: i64 = 1_767_355_200 * SECOND; // 2026-01-02T12:00:00Z
    const DAY: i64 = 86_400 * SECOND;

    fn entry(kind: Kind, at: i64, sums: Sums) -> Entry {
        Entry { sums, ..blank(kind, at) }
    }

    fn sums(of: &[Entry]) -> HashMap<(Span, i64), Sums> {
        let mut ledger = Ledger::default();
        let slot = ledger.slot(7, &mut Blank).unwrap();
        for entry in of {
            ledger.take(entry, None, &[slot], &mut Blank).unwrap();
        }
        let lines = ledger.into_lines().into_iter();
        lines.filter(|line| !line.now.is_zero()).map(|line| ((line.span, line.start), line.now)).collect()
    }

    #[test]
    fn a_settle_that_replaces_a_charge_takes_it_off_where_it_was_granted() {
        let held = Held { hold: 1, granted: NOON - DAY, requests: 1, tokens: 100, cost: 9 };
        let orphan = Entry { held: Some(held), ..entry(Kind::Orphan, NOON - DAY / 2, charge(&held)) };
        let used = Sums { requests: 1, tokens: 30, input: 20, output: 10, cost: 4, ..Sums::default() };
        let settle = Entry { held: Some(held), replaces: true, ..entry(Kind::Settle, NOON, used) };
        let yesterday = starts_at(&TimeZone::UTC, NOON - DAY);
        let found = sums(&[orphan, settle]);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[&(Span::Day, yesterday.day)], used);
        assert_eq!(found[&(Span::Total, 0)], used);
    }

    #[test]
    fn a_correction_touches_its_own_span_alone() {
        let less = Sums { tokens: -5, ..Sums::default() };
        let found = sums(&[Entry { span: Some(Span::Day), ..entry(Kind::Adjust, NOON, less) }]);
        assert_eq!(found, HashMap::from([((Span::Day, NOON / SECOND - 43_200), less)]));
        assert!(sums(&[entry(Kind::Adjust, NOON, less)]).is_empty());
    }

    #[test]
    fn another_zone_takes_along_what_ran() {
        let one = Sums { requests: 1, ..Sums::default() };
        let zone = time_zone("zone", "Asia/Kathmandu").unwrap();
        let (was, is) = (starts_at(&TimeZone::UTC, NOON), starts_at(&zone, NOON));
        let rezone = Entry {
            rezone: Some((was, is, "Asia/Kathmandu".to_owned())),
            ..entry(Kind::Rezone, NOON, Sums::default())
        };
        let found = sums(&[entry(Kind::Record, NOON, one), rezone, entry(Kind::Record, NOON, one)]);
        let two = Sums { requests: 2, ..Sums::default() };
        let expected = [(Span::Total, 0), (Span::Hour, is.hour), (Span::Day, is.day), (Span::Month, is.month)];
        assert_eq!(found, expected.map(|key| (key, two)).into_iter().collect());
    }
}
