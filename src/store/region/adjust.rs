//! Changes by hand of what is remembered: one counter, or all of them. Open holds stay as they are.

use super::accounts::{LOW, Unknown};
use super::counters::signed;
use super::events::What;
use super::held::{Current, Held, PAST_HOUR, Ring};
use super::layout::{bucket, cell, past, row, total};
use super::log::Writes;
use crate::account::Chain;
use crate::error::{Code, Error, Result};
use crate::rules::limits::MAX_COUNT;
use crate::store::{Adjust, Counter, Landed, Period, Tally};
use crate::usage::history::{Span, Sums};

/// The most that a counter can be set to.
const MOST: u64 = MAX_COUNT * 1_000;

impl Held<'_> {
    /// Changes the chain's last account.
    pub(super) fn adjust(&self, chain: &Chain<'_>, adjust: &Adjust) -> Result<Landed> {
        let rows = self.rows_of(chain, Unknown::MakeForHold)?;
        if rows.folded {
            // It would be the account of many, of which nobody spoke.
            let message = "the account has no room of its own in the store, so nothing of it can be changed";
            return Err(Error::new(Code::StoreFull, "size", message));
        }
        let brought = self.bring(&rows, true)?;
        let landed = Landed { folded: false };
        let Some(current) = brought.iter().last() else { return Ok(landed) };
        match adjust {
            Adjust::Set(period, counter, value) => self.set_counter(current, *period, *counter, (*value).min(MOST)),
            Adjust::CloseBreaker => self.close_breaker(current.row, current.base),
            Adjust::LastError(at) => {
                let mut writes = self.writes();
                writes.put(current.base + row::LAST_ERROR, at.unwrap_or(0) as u64);
                // One word always fits the log.
                let _done = writes.commit();
            }
            Adjust::Reset => self.reset_with_kin(current.row),
        }
        self.announce_alone(What::Adjust, &rows);
        Ok(landed)
    }

    fn reset_with_kin(&self, account: u32) {
        self.reset_account(account);
        let mut child = self.first_kin(account);
        // Bounded, for a damaged region could have a ring of kin.
        for _ in 0..self.map().rows.count() {
            if child == 0 {
                break;
            }
            if self.current(child, false).is_some() {
                self.reset_account(child);
            }
            child = self.next_kin(child);
        }
        self.forget_ended(account);
    }

    fn set_counter(&self, current: &Current, period: Period, counter: Counter, value: u64) {
        let base = current.base;
        let (span, before) = match period {
            Period::Minute => (None, self.minute(base)),
            Period::Day => (Some(Span::Day), self.tally_of_cell(base + row::DAY)),
            Period::Month => (Some(Span::Month), self.tally_of_cell(base + row::MONTH)),
            Period::Total => (Some(Span::Total), self.total(base)),
        };
        if period == Period::Minute {
            self.clear_buckets(base, counter);
        }
        let mut writes = self.writes();
        self.tell_adjust(&mut writes, current.row, &[(span, change(&before, counter, value))]);
        let high = |word: usize| value.min(LOW) << 32 | self.load(word) & LOW;
        match (period, counter) {
            (Period::Total, Counter::Requests) => writes.put(base + row::TOTAL + total::REQUESTS, value),
            (Period::Total, Counter::Errors) => writes.put(base + row::TOTAL + total::ERRORS, value),
            (Period::Total, Counter::Tokens) => writes.put(base + row::TOTAL + total::TOKENS, value),
            (Period::Total, Counter::Cost) => writes.put(base + row::TOTAL + total::COST, value),
            (Period::Day | Period::Month, _) => {
                let at = base + if period == Period::Day { row::DAY } else { row::MONTH };
                match counter {
                    Counter::Requests => writes.put(at + cell::REQUESTS, value),
                    Counter::Errors => writes.put(at + cell::ERRORS, high(at + cell::ERRORS)),
                    Counter::Tokens => writes.put(at + cell::TOKENS, value),
                    Counter::Cost => writes.put(at + cell::COST, value),
                }
            }
            (Period::Minute, _) if current.bucket == 0 => {}
            (Period::Minute, Counter::Requests) => {
                writes.put(current.bucket + bucket::REQUESTS, high(current.bucket + bucket::REQUESTS));
                writes.put(base + row::MINUTE_REQUESTS, high(base + row::MINUTE_REQUESTS));
            }
            (Period::Minute, Counter::Errors) => {
                let at = current.bucket + bucket::REQUESTS;
                writes.put(at, self.load(at) & !LOW | value.min(LOW));
            }
            (Period::Minute, Counter::Tokens) => {
                writes.put(current.bucket + bucket::TOKENS, value);
                writes.put(base + row::MINUTE_TOKENS, value);
            }
            (Period::Minute, Counter::Cost) => writes.put(current.bucket + bucket::COST, value),
        }
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
        // A handful of words always fits the log.
        let _done = writes.commit();
    }

    /// Takes what the minute counts of a kind out of every bucket and of the sums; what is held stays.
    pub(super) fn clear_buckets(&self, base: usize, counter: Counter) {
        let ring = Ring::unpack(self.load(base + row::RING));
        let mut writes = self.writes();
        for step in 0..ring.len {
            let at = self.bucket(ring, step);
            let requests = self.load(at + bucket::REQUESTS);
            match counter {
                Counter::Requests => writes.put(at + bucket::REQUESTS, requests & LOW),
                Counter::Errors => writes.put(at + bucket::REQUESTS, requests & !LOW),
                Counter::Tokens => writes.put(at + bucket::TOKENS, 0),
                Counter::Cost => writes.put(at + bucket::COST, 0),
            }
        }
        match counter {
            Counter::Requests => {
                writes.put(base + row::MINUTE_REQUESTS, self.load(base + row::MINUTE_REQUESTS) & LOW);
            }
            Counter::Tokens => writes.put(base + row::MINUTE_TOKENS, 0),
            Counter::Errors | Counter::Cost => {}
        }
        // At most 65 words: they fit the log.
        let _done = writes.commit();
    }

    /// Zeroes what an account has used; what is held stays, and its breaker closes.
    pub(super) fn reset_account(&self, account: u32) {
        let base = self.row(account);
        self.forget_crossings(self.load(base + row::HASH));
        for counter in [Counter::Requests, Counter::Errors, Counter::Tokens, Counter::Cost] {
            self.clear_buckets(base, counter);
        }
        let ring = Ring::unpack(self.load(base + row::RING));
        let mut writes = self.writes();
        for step in 0..ring.len {
            let at = self.bucket(ring, step);
            for word in [bucket::INPUT, bucket::OUTPUT, bucket::CACHED] {
                writes.put(at + word, 0);
            }
        }
        let hour = Tally { requests: self.load(base + row::HOUR + 1) >> 32, ..Tally::default() };
        let taken = [
            (Some(Span::Total), self.total(base)),
            (Some(Span::Hour), hour),
            (Some(Span::Day), self.tally_of_cell(base + row::DAY)),
            (Some(Span::Month), self.tally_of_cell(base + row::MONTH)),
        ];
        let taken = taken.map(|(span, tally)| (span, Sums::default().minus(&sums(&tally))));
        self.tell_adjust(&mut writes, account, &taken);
        for word in row::TOTAL..row::HOUR {
            writes.put(base + word, 0);
        }
        writes.put(base + row::HOUR + 1, self.load(base + row::HOUR + 1) & LOW);
        for start in [row::DAY, row::MONTH] {
            self.zero_cell(&mut writes, base + start);
        }
        // A clock that is set back finds its periods again, and they too were reset.
        for place in self.put_by(account, base) {
            let which = self.load(place + past::KEY) & 0xff;
            let at = place + past::CELL;
            if which == PAST_HOUR {
                writes.put(at + 1, self.load(at + 1) & LOW);
            } else {
                self.zero_cell(&mut writes, at);
            }
        }
        writes.put(base + row::LAST_ERROR, 0);
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
        // Some 400 words at most: they fit the log.
        let _done = writes.commit();
        self.close_breaker(account, base);
    }

    /// Zeroes what a day or a month has used.
    fn zero_cell(&self, writes: &mut Writes<'_>, at: usize) {
        for word in cell::REQUESTS..cell::HELD_TOKENS {
            let kept = if word == cell::ERRORS { self.load(at + word) & LOW } else { 0 };
            writes.put(at + word, kept);
        }
    }
}

/// A tally as signed sums.
pub(super) fn sums(tally: &Tally) -> Sums {
    Sums {
        requests: signed(tally.requests),
        errors: signed(tally.errors),
        tokens: signed(tally.tokens),
        input: signed(tally.input),
        output: signed(tally.output),
        cached: signed(tally.cached),
        cost: signed(tally.cost),
    }
}

/// By how much one counter changes that is set to a value.
fn change(before: &Tally, counter: Counter, value: u64) -> Sums {
    let by = |before: u64| signed(value).saturating_sub(signed(before));
    match counter {
        Counter::Requests => Sums { requests: by(before.requests), ..Sums::default() },
        Counter::Errors => Sums { errors: by(before.errors), ..Sums::default() },
        Counter::Tokens => Sums { tokens: by(before.tokens), ..Sums::default() },
        Counter::Cost => Sums { cost: by(before.cost), ..Sums::default() },
    }
}
