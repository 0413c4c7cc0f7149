//! Folding: on private memory, which has no history to give them to, accounts that nobody uses become one, the `other` of their
//! workspace.

use super::accounts::{LOW, OTHER, REST_CLASS, Rows};
use super::held::Held;
use super::layout::{cell, head, row};
use super::log::Writes;
use crate::account::Scope;

/// How many rows a search for an idle account looks at before it gives up.
const SWEEP: usize = 512;
/// How long an account was not touched before it counts as idle, in seconds.
const IDLE_SECONDS: i64 = 61;

impl Held<'_> {
    /// Finds an idle goal, task or user, adds its counters to its workspace's `other` and frees its row.
    pub(super) fn fold_an_idle_one(&self, keep: &Rows) -> bool {
        let count = self.map().rows.count();
        let mut cursor = self.load(head::SWEEP_ROW) as usize;
        for _ in 0..SWEEP.min(count) {
            cursor = if cursor >= count { 1 } else { cursor + 1 };
            let candidate = cursor as u32;
            if !keep.rows.contains(&candidate) && self.is_idle(candidate) && self.fold(candidate) {
                self.store(head::SWEEP_ROW, cursor as u64);
                return true;
            }
        }
        self.store(head::SWEEP_ROW, cursor as u64);
        false
    }

    fn is_idle(&self, candidate: u32) -> bool {
        let base = self.row(candidate);
        let foldable = matches!(self.scope_of(base), Some(Scope::Goal | Scope::Task | Scope::User));
        let seen = self.load(base + row::SEEN);
        let touched = (seen >> 32) as i64;
        foldable
            && self.load(base + row::HASH) != 0
            && seen & LOW == 0
            && self.load(base + row::LINK) & LOW == 0
            && self.now.second() - touched >= IDLE_SECONDS
            && self.name_of(base) != OTHER
            // Brought up to now, so that its limits are those of this configuration.
            && self.current(candidate, false).is_some_and(|current| !self.has_limits(current.base))
    }

    /// Adds an idle account to its workspace's `other` of the same scope and frees its row.
    fn fold(&self, gone: u32) -> bool {
        let base = self.row(gone);
        let (Some(scope), owner) = (self.scope_of(base), self.owner_of(base)) else { return false };
        let mut other = self.find(scope, owner, OTHER);
        if other == 0 {
            // Its own place in the table becomes the workspace's `other`: the counters are those of one account so far.
            return self.rename_to_other(gone, scope, owner);
        }
        other = self.current(other, true).map_or(0, |current| current.row);
        if other == 0 || !self.drop_ring(base) {
            return false;
        }
        let to = self.row(other);
        let mut writes = self.writes();
        for word in row::TOTAL..row::HOUR {
            writes.put(to + word, self.load(to + word).saturating_add(self.load(base + word)));
        }
        for start in [row::DAY, row::MONTH] {
            if self.load(base + start + cell::START) == self.load(to + start + cell::START) {
                self.add_cell(&mut writes, base + start, to + start);
            }
        }
        writes.put(to + row::VERSION, self.load(to + row::VERSION) + 1);
        self.unlink(&mut writes, gone, base, owner);
        let rest = self.load(base + row::NAME_REST) as u32;
        self.give_lines(&mut writes, rest, REST_CLASS);
        let done = writes.commit();
        if done {
            self.count_folded();
        }
        done
    }

    fn add_cell(&self, writes: &mut Writes<'_>, from: usize, to: usize) {
        for word in [cell::REQUESTS, cell::TOKENS, cell::INPUT, cell::OUTPUT, cell::CACHED, cell::COST] {
            writes.put(to + word, self.load(to + word).saturating_add(self.load(from + word)));
        }
        let errors = (self.load(to + cell::ERRORS) >> 32).saturating_add(self.load(from + cell::ERRORS) >> 32);
        writes.put(to + cell::ERRORS, errors.min(LOW) << 32 | self.load(to + cell::ERRORS) & LOW);
    }

    /// Makes an idle account the `other` of its workspace; the caller then looks for another idle one, which finds it.
    fn rename_to_other(&self, gone: u32, scope: Scope, owner: u32) -> bool {
        let base = self.row(gone);
        let key = self.key(scope, owner, OTHER);
        let mut writes = self.writes();
        let old = self.place(self.load(base + row::HASH));
        let new = self.place(key.hash);
        if old == new || !self.leave_index(&mut writes, gone, base) {
            return false;
        }
        writes.put(base + row::HASH, key.hash);
        writes.put(base + row::KEY, key.packed());
        for (step, word) in key.words.iter().enumerate() {
            writes.put(base + row::NAME + step, *word);
        }
        writes.put(base + row::LINK, self.load(new) << 32);
        writes.put(new, u64::from(gone));
        if writes.commit() {
            self.count_folded();
        }
        // Nothing was freed yet.
        false
    }
}
