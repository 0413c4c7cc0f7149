//! Breakers in the region: a table of those that ever saw a failure, linked from their account's row.

use super::accounts::{LOW, Rows};
use super::held::{Held, View};
use super::layout::{breaker, head, row};
use super::redo::Writes;
use crate::account::Scope;
use crate::rules::breaker::{Breaker, Cause, Failure, FailureKind, State};

impl View<'_> {
    /// The breaker of the account in the row at `base`; a closed one where it never saw a failure.
    #[inline]
    pub(super) fn breaker_of(&self, base: usize) -> Breaker {
        let entry = self.load(base + row::LINK) as u32;
        if entry == 0 { Breaker::default() } else { self.read_breaker(self.breaker_at(entry)) }
    }

    fn breaker_at(&self, entry: u32) -> usize {
        self.map().breakers.at((entry as usize).wrapping_sub(1).min(self.map().breakers.count() - 1))
    }

    fn read_breaker(&self, at: usize) -> Breaker {
        let state = self.load(at + breaker::STATE);
        let (calls, failures) = (self.load(at + breaker::CALLS), self.load(at + breaker::FAILURES));
        Breaker {
            cause: Cause::from_u8(state as u8),
            strikes: (state >> 8) as u8,
            gates: state >> 16 & 1 == 1,
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

impl Held<'_> {
    fn put_breaker(&self, writes: &mut Writes<'_>, at: usize, breaker: &Breaker) {
        let gates = u64::from(breaker.gates) << 16;
        writes.put(at + breaker::STATE, gates | u64::from(breaker.strikes) << 8 | breaker.cause as u64);
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

    /// The entry of a row, made where it has none. `None` where the table is full: the failure is then not remembered.
    fn breaker_entry(&self, account: u32, base: usize) -> Option<usize> {
        let entry = self.load(base + row::LINK) as u32;
        if entry != 0 {
            return Some(self.breaker_at(entry));
        }
        let free = self.load(head::BREAKERS_FREE) as u32;
        let used = self.load(head::BREAKERS_USED);
        let mut writes = self.writes();
        let made = if free != 0 {
            writes.put(head::BREAKERS_FREE, self.load(self.breaker_at(free) + breaker::ROW));
            free
        } else {
            if used as usize >= self.map().breakers.count() {
                return None;
            }
            writes.put(head::BREAKERS_USED, used + 1);
            u32::try_from(used + 1).ok()?
        };
        let at = self.breaker_at(made);
        writes.put(at + breaker::ROW, u64::from(account));
        self.put_breaker(&mut writes, at, &Breaker::default());
        let link = self.load(base + row::LINK);
        writes.put(base + row::LINK, link & !LOW | u64::from(made));
        writes.commit().then_some(at)
    }

    /// Closes the breaker of a row.
    pub(super) fn close_breaker(&self, base: usize) {
        let entry = self.load(base + row::LINK) as u32;
        if entry != 0 {
            let mut writes = self.writes();
            self.put_breaker(&mut writes, self.breaker_at(entry), &Breaker::default());
            // Seven words always fit the log.
            let _done = writes.commit();
        }
    }

    /// What the breakers of a chain learn from a call that began at `began`: the provider's where the chain has one, and then
    /// the workspace's only shows it; else the workspace's own.
    pub(super) fn learn(&self, rows: &Rows, outcome: Result<(), Failure>, began: i64) {
        if outcome.is_err_and(|failure| failure.kind == FailureKind::Other) && !self.any_breaker(rows) {
            return;
        }
        if outcome.is_ok() && !self.any_breaker(rows) {
            return;
        }
        let spent = outcome.is_err_and(|failure| failure.kind == FailureKind::InsufficientQuota);
        let scopes = || rows.iter().map(|(_, row)| (row, self.scope_of(self.row(row))));
        let has = |wanted| scopes().any(|(_, scope)| scope == Some(wanted));
        let (by_credential, by_model) = (has(Scope::Credential), has(Scope::ProviderModel));
        for (account, scope) in scopes() {
            let gates = match scope {
                Some(Scope::Credential) => true,
                Some(Scope::ProviderModel) => true,
                Some(Scope::Workspace | Scope::Limiter) => !by_credential,
                _ => continue,
            };
            // A spent quota is the whole credential's; the rest is the model's, where one is known.
            let concerned = match scope {
                Some(Scope::Credential) => spent || !by_model || outcome.is_ok(),
                Some(Scope::ProviderModel) => !spent,
                _ => true,
            };
            if concerned {
                self.teach(account, outcome, began, gates);
            }
        }
    }

    #[inline]
    pub(super) fn any_breaker(&self, rows: &Rows) -> bool {
        rows.iter().any(|(_, row)| self.load(self.row(row) + row::LINK) & LOW != 0)
    }

    fn teach(&self, account: u32, outcome: Result<(), Failure>, began: i64, gates: bool) {
        let base = self.row(account);
        if outcome.is_ok() && self.load(base + row::LINK) & LOW == 0 {
            return;
        }
        let Some(at) = self.breaker_entry(account, base) else { return };
        let before = self.read_breaker(at);
        let mut after = before.after(outcome, began, self.now.mono);
        if before.cause == Cause::None || after.opened != before.opened {
            after.gates = gates;
        }
        let mut writes = self.writes();
        self.put_breaker(&mut writes, at, &after);
        writes.put(base + row::VERSION, self.load(base + row::VERSION).wrapping_add(1));
        // Eight words always fit the log.
        let _done = writes.commit();
    }
}
