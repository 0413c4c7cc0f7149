//! Hearing: events as whoever listens reads them, with the names of their accounts, and what was missed where the ring went
//! round meanwhile.

use super::Region;
use super::attempt::Attempt;
use super::crossings::{JUMPED, LEVELS};
use super::events::What;
use super::held::Held;
use super::keys;
use super::layout::{crossing, event, head, row};
use crate::account::Scope;
use crate::error::Result;
use crate::rules::decisions::Counts;
use crate::rules::limits::{Limit, LimitKind, Mode, Thresholds};

/// How many events are read before others may have the lock.
const MOST: u64 = 128;
/// The same for entries of the table of crossings.
const STRIDE: usize = 1_024;

/// An event.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) sequence: u64,
    pub(crate) what: What,
    /// Wall nanoseconds.
    pub(crate) at: i64,
    pub(crate) version: u64,
    /// The workspace whose batch it was; `""` where it was nobody's.
    pub(crate) workspace: String,
    pub(crate) crossing: Option<Crossing>,
    /// Of a breaker: the workspaces that are concerned too.
    pub(crate) concerned: Vec<String>,
}

/// A limit that came near, or was met.
#[derive(Debug, Clone)]
pub(crate) struct Crossing {
    /// 0 for near, 1 for critical, 2 for full.
    pub(crate) level: usize,
    pub(crate) scope: Scope,
    pub(crate) account: String,
    pub(crate) kind: LimitKind,
    pub(crate) limit: Limit,
    pub(crate) thresholds: Thresholds,
    pub(crate) counts: Counts,
    /// Wall nanoseconds.
    pub(crate) resets: Option<i64>,
}

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// The number of the next event.
    pub(crate) next: u64,
    /// So many events before those were missed.
    pub(crate) missed: u64,
    pub(crate) events: Vec<Heard>,
}

impl Region {
    /// The events from number `from` on, as many as are read at once; with a workspace, those that concern it.
    ///
    /// # Errors
    /// Those of the lock.
    pub(crate) fn hear(&self, from: u64, workspace: Option<&str>) -> Result<Hearing> {
        if self.events_told() <= from {
            return Ok(Hearing { next: from, ..Hearing::default() });
        }
        let only = workspace.map(|name| keys::hash_of(Scope::Workspace, "", name));
        let attempt = Attempt::default();
        let held = self.hold_now(&attempt)?;
        let told = held.load(head::EVENTS);
        let count = held.map().events.count() as u64;
        // An event is gone once another is written to its place, which may have begun.
        let first = from.max((told + 1).saturating_sub(count));
        let next = told.min(first.saturating_add(MOST));
        let events = (first..next).filter_map(|sequence| held.heard(sequence, only, workspace)).collect();
        Ok(Hearing { next, missed: first - from, events })
    }

    /// The crossings that were told by the events from number `from` until before `until`, in their order.
    ///
    /// # Errors
    /// Those of the lock.
    pub(crate) fn missed_crossings(&self, from: u64, until: u64, workspace: Option<&str>) -> Result<Vec<Heard>> {
        let only = workspace.map(|name| keys::hash_of(Scope::Workspace, "", name));
        let mut missed = Vec::new();
        let count = self.map.crossings.count();
        for first in (0..count).step_by(STRIDE) {
            let attempt = Attempt::default();
            let held = self.hold_now(&attempt)?;
            for at in (first..count.min(first + STRIDE)).map(|entry| self.map.crossings.at(entry)) {
                if held.load(at + crossing::HASH) == 0
                    || only.is_some_and(|only| only != held.load(at + crossing::WORKSPACE))
                {
                    continue;
                }
                for level in 0..LEVELS {
                    let told = held.load(at + crossing::TOLD + level);
                    if told != 0 && told & JUMPED == 0 && (from..until).contains(&(told - 1)) {
                        missed.extend(held.missed(at, level, told - 1));
                    }
                }
            }
        }
        missed.sort_by_key(|heard| heard.sequence);
        Ok(missed)
    }
}

impl Held<'_> {
    /// An event, where it concerns the workspace of this hash and its accounts still have their rows.
    fn heard(&self, sequence: u64, only: Option<u64>, name: Option<&str>) -> Option<Heard> {
        let table = self.map().events;
        let at = table.at(sequence as usize % table.count());
        let what = What::from_u8(self.load(at + event::HEAD) as u8).filter(|what| *what != What::Turn)?;
        let hash = self.load(at + event::WORKSPACE);
        let rows = self.rows_of_event(at);
        let is_its_own = only.is_none_or(|only| only == hash);
        if !is_its_own && !matches!(what, What::Breaker | What::Config) {
            return None;
        }
        let first = rows.iter().next().map_or(0, |(_, account)| account);
        let workspace = match name.filter(|_| is_its_own) {
            Some(name) => name.to_owned(),
            None => self.workspace_named(first, hash).unwrap_or_default(),
        };
        if workspace.is_empty() && !matches!(what, What::Breaker | What::Config) {
            return None;
        }
        let crossing = if what == What::Crossing { Some(self.crossing_at(at)?) } else { None };
        let concerned = if what == What::Breaker { self.concerned(&rows.rows) } else { Vec::new() };
        let version = self.load(at + event::VERSION);
        Some(Heard { sequence, what, at: self.load(at + event::AT) as i64, version, workspace, crossing, concerned })
    }

    /// The name of the workspace in a row, where that still is the one of this hash.
    fn workspace_named(&self, account: u32, hash: u64) -> Option<String> {
        let is_there = self.is_of_workspace(account) && self.load(self.row(account) + row::HASH) == hash;
        is_there.then(|| self.name_of(self.row(account)))
    }

    fn concerned(&self, accounts: &[u32]) -> Vec<String> {
        let providers: Vec<u32> = accounts
            .iter()
            .copied()
            .filter(|account| {
                let scope = self.scope_of(self.row(*account));
                *account != 0 && matches!(scope, Some(Scope::Credential | Scope::ProviderModel))
            })
            .collect();
        let those = self.those_that_met(&providers).into_iter();
        those.filter(|row| self.is_of_workspace(*row)).map(|row| self.name_of(self.row(row))).collect()
    }

    fn crossing_at(&self, at: usize) -> Option<Crossing> {
        let head = self.load(at + event::HEAD);
        let kind = LimitKind::ALL.get((head >> 16 & 0xff) as usize).copied()?;
        let base = self.row((self.load(at + event::ROWS) >> 32) as u32);
        if self.load(base + row::HASH) != self.load(at + event::ACCOUNT) {
            return None;
        }
        let mode = if head >> 24 & 0xff == Mode::Observe as u64 { Mode::Observe } else { Mode::Enforce };
        let resets = self.load(at + event::RESETS) as i64;
        Some(Crossing {
            level: (head >> 8 & 0xff) as usize,
            scope: self.scope_of(base)?,
            account: self.name_of(base),
            kind,
            limit: Limit { cap: self.load(at + event::CAP), mode },
            thresholds: self.limits_of(base).1,
            counts: Counts { used: self.load(at + event::USED), held: self.load(at + event::HELD) },
            resets: (resets != 0).then_some(resets),
        })
    }

    /// A crossing whose event is gone, with the limit as it stands now.
    fn missed(&self, at: usize, level: usize, sequence: u64) -> Option<Heard> {
        let word = self.load(at + crossing::LIMIT);
        let kind = LimitKind::ALL.get((word & 0xff) as usize).copied()?;
        let current = self.current((word >> 32) as u32, false);
        self.attempt.forget_need();
        let current = current?;
        let base = current.base;
        if self.load(base + row::HASH) != self.load(at + crossing::HASH) {
            return None;
        }
        let first = self.load(at + crossing::WORKSPACE_ROW) as u32;
        let workspace = self.workspace_named(first, self.load(at + crossing::WORKSPACE))?;
        let (limits, thresholds) = self.limits_of(base);
        let limit = limits.get(kind)?;
        let crossing = Crossing {
            level,
            scope: self.scope_of(base)?,
            account: self.name_of(base),
            kind,
            limit,
            thresholds,
            counts: self.counts(base, kind),
            resets: None,
        };
        Some(Heard {
            sequence,
            what: What::Crossing,
            at: self.load(at + crossing::AT) as i64,
            version: self.load(self.row(first) + row::VERSION),
            workspace,
            crossing: Some(crossing),
            concerned: Vec::new(),
        })
    }
}
