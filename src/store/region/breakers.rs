//! Breakers in the region: a table of those that ever saw a failure, linked from their account's row.

use super::Region;
use super::accounts::{LOW, Rows};
use super::events::What;
use super::held::{Held, View};
use super::layout::{breaker, head, row};
use super::log::Writes;
use crate::account::Scope;
use crate::rules::breaker::{Breaker, Cause, Failure, FailureKind, State};
use crate::rules::left::Left;

/// How many breakers a search for a quiet one looks at.
const SEARCH: usize = 1_024;

impl Region {
    /// True where any account ever had a breaker. Takes no lock.
    pub(crate) fn has_breakers(&self) -> bool {
        self.load(head::BREAKERS_USED) != 0
    }
}

impl View<'_> {
    /// The breaker of the account in the row at `base`; a closed one where it never saw a failure.
    #[inline]
    pub(super) fn breaker_of(&self, base: usize) -> Breaker {
        let entry = self.load(base + row::LINK) as u32;
        if entry == 0 { Breaker::default() } else { self.read_breaker(self.breaker_at(entry)) }
    }

    /// The provider's breaker that a workspace's call moved last; a closed one where there was none.
    pub(super) fn breaker_met(&self, base: usize) -> Breaker {
        let entry = self.load(base + row::LINK) as u32;
        let met = if entry == 0 { 0 } else { (self.load(self.breaker_at(entry) + breaker::ROW) >> 32) as u32 };
        if met == 0 { Breaker::default() } else { self.breaker_of(self.row(met)) }
    }

    fn breaker_at(&self, entry: u32) -> usize {
        self.map().breakers.numbered::<{ breaker::LEN }>(entry)
    }

    fn read_breaker(&self, at: usize) -> Breaker {
        let state = self.load(at + breaker::STATE);
        let (calls, failures) = (self.load(at + breaker::CALLS), self.load(at + breaker::FAILURES));
        Breaker {
            cause: Cause::from_u8(state as u8),
            strikes: (state >> 8) as u8,
            opened: self.load(at + breaker::OPENED) as i64,
            until: self.load(at + breaker::UNTIL) as i64,
            probe_until: self.load(at + breaker::PROBE) as i64,
            half: self.load(at + breaker::HALF) as i64,
            calls: [(calls >> 32) as u32, calls as u32],
            failures: [(failures >> 32) as u32, failures as u32],
        }
    }

    /// Every breaker of providers that is not closed, with its account's name.
    pub(super) fn open_breakers(&self) -> Vec<(String, Breaker)> {
        let used = (self.load(head::BREAKERS_USED) as usize).min(self.map().breakers.count());
        (0..used)
            .filter_map(|entry| {
                let at = self.map().breakers.at(entry);
                let breaker = self.read_breaker(at);
                let account = self.load(at + breaker::ROW) as u32;
                let base = self.row(account);
                let linked = (self.load(base + row::LINK) & LOW) as usize == entry + 1;
                let name = match self.scope_of(base)? {
                    Scope::Credential => self.name_of(base),
                    Scope::ProviderModel => {
                        format!("{}/{}", self.name_of(self.row(self.owner_of(base))), self.name_of(base))
                    }
                    _ => return None,
                };
                (linked && breaker.state(self.now.mono) != State::Closed).then_some((name, breaker))
            })
            .collect()
    }
}

impl View<'_> {
    /// The breakers that have something to remember, each with its account's row.
    pub(super) fn remembering_breakers(&self) -> impl Iterator<Item = (u32, Breaker)> + '_ {
        let used = (self.load(head::BREAKERS_USED) as usize).min(self.map().breakers.count());
        (0..used).filter_map(|entry| {
            let at = self.map().breakers.at(entry);
            let (breaker, account) = (self.read_breaker(at), self.load(at + breaker::ROW) as u32);
            let linked = (self.load(self.row(account) + row::LINK) & LOW) as usize == entry + 1;
            (linked && !breaker.is_quiet(self.now.mono)).then_some((account, breaker))
        })
    }
}

impl Held<'_> {
    /// Gives an account the breaker that history kept for it.
    pub(super) fn restore_breaker(&self, account: u32, breaker: &Breaker) {
        let Some(at) = self.breaker_entry(account, self.row(account)) else { return };
        let mut writes = self.writes();
        self.put_breaker(&mut writes, at, breaker);
        // Eight words always fit the log.
        let _done = writes.commit();
    }

    fn put_breaker(&self, writes: &mut Writes<'_>, at: usize, breaker: &Breaker) {
        writes.put(at + breaker::STATE, u64::from(breaker.strikes) << 8 | breaker.cause as u64);
        writes.put(at + breaker::OPENED, breaker.opened as u64);
        writes.put(at + breaker::UNTIL, breaker.until as u64);
        writes.put(at + breaker::PROBE, breaker.probe_until as u64);
        writes.put(at + breaker::HALF, breaker.half as u64);
        let pair = |[new, old]: [u32; 2]| u64::from(new) << 32 | u64::from(old);
        writes.put(at + breaker::CALLS, pair(breaker.calls));
        writes.put(at + breaker::FAILURES, pair(breaker.failures));
    }

    /// Notes that a probe goes through the breaker of a row, or that it ended without an answer (0).
    pub(super) fn put_probe(&self, writes: &mut Writes<'_>, base: usize, until: i64) {
        let entry = self.load(base + row::LINK) as u32;
        if entry != 0 {
            writes.put(self.breaker_at(entry) + breaker::PROBE, until as u64);
        }
    }

    /// The entry of a row, made where it has none: a new one, or one that has nothing to remember. `None` where every breaker
    /// looked at has: the failure is then not remembered.
    fn breaker_entry(&self, account: u32, base: usize) -> Option<usize> {
        let entry = self.load(base + row::LINK) as u32;
        if entry != 0 {
            return Some(self.breaker_at(entry));
        }
        let used = self.load(head::BREAKERS_USED);
        let mut writes = self.writes();
        let made = if (used as usize) < self.map().breakers.count() {
            writes.put(head::BREAKERS_USED, used + 1);
            u32::try_from(used + 1).ok()?
        } else {
            let quiet = self.quiet_breaker()?;
            let link = self.row(self.load(self.breaker_at(quiet) + breaker::ROW) as u32) + row::LINK;
            if self.load(link) & LOW == u64::from(quiet) {
                writes.put(link, self.load(link) & !LOW);
            }
            quiet
        };
        let at = self.breaker_at(made);
        writes.put(at + breaker::ROW, u64::from(account));
        self.put_breaker(&mut writes, at, &Breaker::default());
        let link = self.load(base + row::LINK);
        writes.put(base + row::LINK, link & !LOW | u64::from(made));
        writes.commit().then_some(at)
    }

    /// A breaker that has nothing to remember: it and the one its workspace met are closed, and no failure is of late.
    fn quiet_breaker(&self) -> Option<u32> {
        let count = self.map().breakers.count();
        let cursor = self.load(head::BREAKERS_CURSOR) as usize;
        for step in 0..count.min(SEARCH) {
            let entry = ((cursor + step) % count) as u32 + 1;
            let at = self.breaker_at(entry);
            let owner = self.row(self.load(at + breaker::ROW) as u32);
            // Its account may have left the region meanwhile.
            let is_free = self.load(owner + row::LINK) as u32 != entry;
            let now = self.now.mono;
            let is_quiet =
                || self.read_breaker(at).is_quiet(now) && self.breaker_met(owner).state(now) == State::Closed;
            if is_free || is_quiet() {
                self.store(head::BREAKERS_CURSOR, u64::from(entry));
                return Some(entry);
            }
        }
        self.store(head::BREAKERS_CURSOR, (cursor + SEARCH) as u64);
        None
    }

    /// Closes the breaker of a row, and forgets the provider's that it met.
    pub(super) fn close_breaker(&self, account: u32, base: usize) {
        let entry = self.load(base + row::LINK) as u32;
        if entry != 0 {
            let at = self.breaker_at(entry);
            let mut writes = self.writes();
            writes.put(at + breaker::ROW, u64::from(account));
            self.put_breaker(&mut writes, at, &Breaker::default());
            // Eight words always fit the log.
            let _done = writes.commit();
        }
    }

    /// What the breakers of a chain learn from a call that began at `began`. A failure is the provider's where the chain has
    /// one, and the workspace remembers whose it met; else it is the workspace's own. A success is everybody's.
    pub(super) fn learn(&self, rows: &Rows, outcome: Result<(), Failure>, began: i64) {
        let counts = outcome.is_err_and(|failure| failure.kind != FailureKind::Other);
        if !counts && !self.any_breaker(rows) {
            return;
        }
        let spent = outcome.is_err_and(|failure| failure.kind == FailureKind::InsufficientQuota);
        let scopes = || rows.iter().map(|(_, row)| (row, self.scope_of(self.row(row))));
        let has = |wanted| scopes().any(|(_, scope)| scope == Some(wanted));
        let (by_credential, by_model) = (has(Scope::Credential), has(Scope::ProviderModel));
        let (mut met, mut moved) = (0, false);
        for (account, scope) in scopes() {
            // A spent quota is the whole credential's; the rest is the model's, where one is known.
            let concerned = match scope {
                Some(Scope::Workspace | Scope::Limiter) => !by_credential || outcome.is_ok(),
                Some(Scope::Credential) => spent || !by_model || outcome.is_ok(),
                Some(Scope::ProviderModel) => !spent,
                _ => false,
            };
            if concerned {
                moved |= self.teach(account, outcome, began);
                if matches!(scope, Some(Scope::Credential | Scope::ProviderModel)) {
                    met = account;
                }
            }
        }
        if counts && met != 0 {
            self.remember_met(rows, met);
        }
        if moved {
            self.announce_alone(What::Breaker, rows);
        }
    }

    /// Notes on the chain's workspace whose breaker its call moved: its status is derived from there.
    fn remember_met(&self, rows: &Rows, met: u32) {
        let Some((_, workspace)) = rows.iter().next() else { return };
        let base = self.row(workspace);
        if self.scope_of(base) != Some(Scope::Workspace) {
            return;
        }
        let Some(at) = self.breaker_entry(workspace, base) else { return };
        let mut writes = self.writes();
        writes.put(at + breaker::ROW, u64::from(met) << 32 | u64::from(workspace));
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
        // Two words always fit the log.
        let _done = writes.commit();
    }

    #[inline]
    pub(super) fn any_breaker(&self, rows: &Rows) -> bool {
        rows.iter().any(|(_, row)| self.load(self.row(row) + row::LINK) & LOW != 0)
    }

    fn teach(&self, account: u32, outcome: Result<(), Failure>, began: i64) -> bool {
        self.change_breaker(account, outcome.is_err(), |breaker| breaker.after(outcome, began, self.now.mono))
    }

    /// Takes what an answer says is left of the provider's own limits. Where nothing is, the workspace remembers whose it met, as
    /// after a refusal of the provider.
    pub(super) fn hear_left(&self, rows: &Rows, left: &Left, began: i64, well: bool) {
        let of = |wanted| rows.iter().map(|(_, row)| row).find(|row| self.scope_of(self.row(*row)) == Some(wanted));
        let Some(account) = of(Scope::ProviderModel).or_else(|| of(Scope::Credential)) else { return };
        let is_used_up = left.used_up().is_some();
        if self.change_breaker(account, is_used_up, |breaker| breaker.heard(left, began, well, self.now.mono)) {
            if is_used_up {
                self.remember_met(rows, account);
            }
            self.announce_alone(What::Breaker, rows);
        }
    }

    /// Changes the breaker of an account; one that has none is given one where it `opens`. True where it opened, closed, or is
    /// open for another time.
    fn change_breaker(&self, account: u32, opens: bool, change: impl FnOnce(Breaker) -> Breaker) -> bool {
        let base = self.row(account);
        if !opens && self.load(base + row::LINK) & LOW == 0 {
            return false;
        }
        let Some(at) = self.breaker_entry(account, base) else { return false };
        let before = self.read_breaker(at);
        let after = change(before);
        let mut writes = self.writes();
        self.put_breaker(&mut writes, at, &after);
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
        // Eight words always fit the log.
        let _done = writes.commit();
        (before.cause, before.until) != (after.cause, after.until)
    }

    /// The workspaces that remember a breaker of these accounts as the one that their call moved last.
    pub(super) fn those_that_met(&self, accounts: &[u32]) -> Vec<u32> {
        let used = (self.load(head::BREAKERS_USED) as usize).min(self.map().breakers.count());
        let word = |entry| self.load(self.map().breakers.at(entry) + breaker::ROW);
        let met = (0..used).map(word).filter(|word| *word >> 32 != 0 && accounts.contains(&((word >> 32) as u32)));
        met.map(|word| word as u32).collect()
    }
}
