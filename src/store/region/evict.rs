//! Accounts that nobody uses leave the region for history, which has all that they counted, and come back at their next use.

use super::accounts::{LOW, REST_CLASS, Rows};
use super::held::Held;
use super::layout::{cell, head, row};
use super::log::Writes;
use crate::account::{GLOBAL, Scope};
use crate::store::history::Saved;
use crate::usage::history::Sums;

/// How many rows a search looks at before it gives up.
const SWEEP: usize = 4_096;
/// The bits of a row's word of terms that say: of no epoch that there is, but of a zone.
const NO_EPOCH: u64 = 1;
const ZONE_SHIFT: u32 = 20;

impl Held<'_> {
    /// Gives the row of an account to the free list that history has wholly. `keep` are rows of the same chain.
    pub(super) fn evict_an_idle_one(&self, keep: &Rows) -> bool {
        let used = self.load(head::ROWS_USED) as usize;
        let mut cursor = self.load(head::SWEEP_ROW) as usize;
        for _ in 0..SWEEP.min(used) {
            cursor = if cursor >= used { 1 } else { cursor + 1 };
            let candidate = cursor as u32;
            if !keep.rows.contains(&candidate) && self.is_in_history(candidate) && self.evict(candidate) {
                self.store(head::SWEEP_ROW, cursor as u64);
                return true;
            }
        }
        self.store(head::SWEEP_ROW, cursor as u64);
        false
    }

    /// True where nothing would be lost with an account's row: history has what it counted, nothing is open on it or inside
    /// it, and no minute of it is needed.
    fn is_in_history(&self, candidate: u32) -> bool {
        let base = self.row(candidate);
        let seen = self.load(base + row::SEEN);
        let (word, bit) = self.mark_of(candidate);
        let drained = (seen >> 32) < self.load(head::DRAINED_SECOND) && self.load(word) & bit == 0;
        // Accounts of providers are few, and a workspace remembers by its row whose breaker it met.
        let may_go = matches!(
            self.scope_of(base),
            Some(Scope::Workspace | Scope::Goal | Scope::Task | Scope::Model | Scope::User)
        );
        if !may_go || self.load(base + row::HASH) == 0 || !drained || seen & LOW != 0 || self.first_kin(candidate) != 0
        {
            return false;
        }
        let entry = self.load(base + row::LINK) as u32;
        let quiet = entry == 0 || self.breaker_of(base).is_quiet(self.now.mono);
        let name_is_kept = self.scope_of(base) == Some(Scope::Workspace) && self.name_of(base) == GLOBAL;
        quiet && !name_is_kept && (self.is_out_of_minute(base) || !self.has_limits(base))
    }

    fn evict(&self, gone: u32) -> bool {
        let base = self.row(gone);
        let (hash, owner) = (self.load(base + row::HASH), self.owner_of(base));
        let rest = self.load(base + row::NAME_REST) as u32;
        if !self.drop_ring(base) {
            return false;
        }
        let mut writes = self.writes();
        self.unlink(&mut writes, gone, base, owner);
        let [left, right] = self.stored_bits(hash);
        if left.0 == right.0 {
            writes.put(left.0, self.load(left.0) | left.1 | right.1);
        } else {
            writes.put(left.0, self.load(left.0) | left.1);
            writes.put(right.0, self.load(right.0) | right.1);
        }
        let stripe = self.evicted_of(hash);
        writes.put(stripe, self.load(stripe) + 1);
        writes.put(head::EVICTED, self.load(head::EVICTED) + 1);
        self.give_lines(&mut writes, rest, REST_CLASS);
        writes.commit()
    }

    /// Notes in a new row what history has of its account, whose zone has this place.
    pub(super) fn put_saved(&self, writes: &mut Writes<'_>, base: usize, zone: u64, saved: &Saved) {
        writes.put(base + row::TERMS, zone << ZONE_SHIFT | NO_EPOCH);
        writes.put(base + row::LAST_ERROR, saved.last_error.unwrap_or(0) as u64);
        // Rises from one stay in the region to the next.
        writes.put(base + row::VERSION, (self.now.wall as u64) >> 10);
        for (step, field) in saved.total.fields().into_iter().enumerate() {
            writes.put(base + row::TOTAL + step, field.unsigned_abs());
        }
        writes.put(base + row::HOUR, saved.starts.hour as u64);
        writes.put(base + row::HOUR + 1, saved.hour.requests.clamp(0, LOW as i64).unsigned_abs() << 32);
        for (at, start, sums) in
            [(row::DAY, saved.starts.day, &saved.day), (row::MONTH, saved.starts.month, &saved.month)]
        {
            put_cell(writes, base + at, start, sums);
        }
    }
}

fn put_cell(writes: &mut Writes<'_>, at: usize, start: i64, sums: &Sums) {
    for (word, value) in cell_words(start, sums).into_iter().enumerate() {
        writes.put(at + word, value);
    }
}

/// A cell that counts this and holds nothing.
pub(super) fn cell_words(start: i64, sums: &Sums) -> [u64; cell::LEN] {
    let positive = |value: i64| value.max(0).unsigned_abs();
    let mut words = [0; cell::LEN];
    for (word, value) in [
        (cell::START, start as u64),
        (cell::REQUESTS, positive(sums.requests)),
        (cell::ERRORS, positive(sums.errors).min(LOW) << 32),
        (cell::TOKENS, positive(sums.tokens)),
        (cell::INPUT, positive(sums.input)),
        (cell::OUTPUT, positive(sums.output)),
        (cell::CACHED, positive(sums.cached)),
        (cell::COST, positive(sums.cost)),
    ] {
        words[word] = value;
    }
    words
}
