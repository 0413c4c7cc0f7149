//! Law 2, from history alone: every grant is made again in its place, and each limit of its chain must have had room for it.
//!
//! No two batches of the stage's clock share a time, but for what a batch counted first: what others had put aside, and holds
//! whose time was over. So facts of a time come before its grant, and that order is the one in which the store had them. The
//! clock's wall times name its monotonic ones, so the minute is checked to the unit like the day: what the last 61 whole
//! seconds of the monotonic clock have, as the store counts them.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::tz::TimeZone;
use llmquota::account::{AccountId, Scope};
use llmquota::config::Config;
use llmquota::rules::limits::LimitKind;
use llmquota::rules::windows::{MINUTE_BUCKETS, Periods};
use llmquota::usage::history::Kind;

use crate::rows::{Amounts, Held, Row, Rows};
use crate::stage::FastClock;

const SECOND: i64 = 1_000_000_000;

/// What a period has: used, and set aside.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    used: Amounts,
    held: Amounts,
}

fn add(to: &mut Amounts, more: &Amounts, sign: i64) {
    to.requests += sign * more.requests;
    to.tokens += sign * more.tokens;
    to.cost += sign * more.cost;
}

#[derive(Debug, Default)]
struct Account {
    limits: Vec<(LimitKind, i64)>,
    seconds: BTreeMap<i64, Sum>,
    hours: HashMap<i64, Sum>,
    days: HashMap<i64, Sum>,
    months: HashMap<i64, Sum>,
    open: i64,
}

/// The second, hour, day and month of a time.
#[derive(Debug, Clone, Copy)]
struct When {
    second: i64,
    periods: Periods,
}

impl Account {
    fn change(&mut self, when: &When, change: impl Fn(&mut Sum)) {
        change(self.seconds.entry(when.second).or_default());
        change(self.hours.entry(when.periods.hour).or_default());
        change(self.days.entry(when.periods.day).or_default());
        change(self.months.entry(when.periods.month).or_default());
    }

    /// Used and held under a limit.
    fn counts(&self, kind: LimitKind, when: &When) -> i64 {
        let of = |sums: &HashMap<i64, Sum>, start: i64| sums.get(&start).copied().unwrap_or_default();
        let (hour, day) = (of(&self.hours, when.periods.hour), of(&self.days, when.periods.day));
        let month = of(&self.months, when.periods.month);
        let minute = self.seconds.range(when.second - MINUTE_BUCKETS + 1..).map(|(_, sum)| sum);
        match kind {
            LimitKind::RequestsPerMinute => minute.map(|sum| sum.used.requests + sum.held.requests).sum(),
            LimitKind::TokensPerMinute => minute.map(|sum| sum.used.tokens + sum.held.tokens).sum(),
            LimitKind::RequestsPerHour => hour.used.requests + hour.held.requests,
            LimitKind::RequestsPerDay => day.used.requests + day.held.requests,
            LimitKind::TokensPerDay => day.used.tokens + day.held.tokens,
            LimitKind::BudgetUsdPerDay => day.used.cost + day.held.cost,
            LimitKind::BudgetUsdPerMonth => month.used.cost + month.held.cost,
            LimitKind::MaxConcurrent => self.open,
            LimitKind::MaxBurst => {
                self.seconds.get(&when.second).map_or(0, |sum| sum.used.requests + sum.held.requests)
            }
        }
    }
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replayed {
    pub(crate) grants: u64,
    /// Grants past a limit, each in a sentence.
    pub(crate) past: Vec<String>,
    /// Grants that took the last unit of a limit, by kind.
    pub(crate) filled: BTreeMap<&'static str, u64>,
    /// The last hold that took the last unit of a limit of requests, tokens or money.
    pub(crate) filler: Option<u64>,
    /// Rows that tell of one hold in two ways.
    pub(crate) contradictions: Vec<String>,
    /// Tokens that each account used, all together.
    pub(crate) tokens: HashMap<i64, i64>,
}

struct Replay<'a> {
    clock: &'a FastClock,
    accounts: HashMap<i64, Account>,
    hour: Periods,
}

enum Event<'a> {
    Fact(&'a Row, bool),
    Grant(&'a Row, Held),
}

pub(crate) fn replay(rows: &Rows, config: &Config, clock: &FastClock) -> Replayed {
    let mut replayed = Replayed::default();
    let mut grants: HashMap<u64, Held> = HashMap::new();
    let mut ended = HashSet::new();
    let mut events = Vec::with_capacity(rows.rows.len() * 2);
    for row in &rows.rows {
        let is_first_end = row.held.is_some_and(|held| ended.insert(held.hold));
        if let Some(held) = row.held {
            let first = *grants.entry(held.hold).or_insert(held);
            if first.granted != held.granted || first.amounts != held.amounts {
                replayed.contradictions.push(format!("hold {:x} is told of in two ways", held.hold));
            }
            if is_first_end {
                events.push(((held.granted, 1, held.hold), Event::Grant(row, held)));
            }
        }
        events.push(((row.at, 0, events.len() as u64), Event::Fact(row, is_first_end)));
    }
    events.sort_by_key(|(order, _)| *order);
    let limits_of = |id: &i64| {
        let (scope, owner, name) = &rows.accounts[id];
        let account = AccountId { scope: Scope::from_u8(*scope).unwrap(), owner, name };
        let set = config.resolve(account, 0).limits;
        LimitKind::ALL.iter().filter_map(|kind| Some((*kind, set.get(*kind)?.cap.cast_signed()))).collect()
    };
    let accounts = rows.accounts.keys().map(|id| (*id, Account { limits: limits_of(id), ..Account::default() }));
    let mut replay = Replay { clock, accounts: accounts.collect(), hour: Periods::default() };
    for (_, event) in &events {
        match event {
            Event::Grant(row, held) => replay.grant(row, held, rows, &mut replayed),
            Event::Fact(row, is_first_end) => replay.fact(row, *is_first_end, &mut replayed),
        }
    }
    replayed
}

impl Replay<'_> {
    fn when(&mut self, wall: i64) -> When {
        if !self.hour.contains(wall.div_euclid(SECOND)) {
            self.hour = Periods::of(&TimeZone::UTC, wall);
        }
        When { second: self.clock.mono_of(wall).div_euclid(SECOND), periods: self.hour }
    }

    fn grant(&mut self, row: &Row, held: &Held, rows: &Rows, replayed: &mut Replayed) {
        let when = self.when(held.granted);
        replayed.grants += 1;
        for id in &row.accounts {
            let Some(account) = self.accounts.get_mut(id) else { continue };
            for (kind, cap) in &account.limits {
                let asked = match kind {
                    LimitKind::TokensPerMinute | LimitKind::TokensPerDay => held.amounts.tokens,
                    LimitKind::BudgetUsdPerDay | LimitKind::BudgetUsdPerMonth => held.amounts.cost,
                    LimitKind::MaxConcurrent => 1,
                    _ => held.amounts.requests,
                };
                let with = account.counts(*kind, &when) + asked;
                if with > *cap {
                    let (_, owner, name) = &rows.accounts[id];
                    let hold = held.hold;
                    let line = format!("hold {hold:x}: {owner}/{name} {} is {with} of {cap}", kind.as_str());
                    replayed.past.push(line);
                }
                if with == *cap {
                    *replayed.filled.entry(kind.as_str()).or_default() += 1;
                    replayed.filler = Some(held.hold).filter(|_| *kind != LimitKind::MaxConcurrent).or(replayed.filler);
                }
            }
            account.open += 1;
            account.change(&when, |sum| add(&mut sum.held, &held.amounts, 1));
        }
    }

    fn fact(&mut self, row: &Row, is_first_end: bool, replayed: &mut Replayed) {
        let granted = row.held.map(|held| (self.when(held.granted), held));
        let when = match granted {
            Some((granted, _)) if row.kind.ends_hold() && !row.lands_now => granted,
            _ => self.when(row.at),
        };
        for id in &row.accounts {
            let Some(account) = self.accounts.get_mut(id) else { continue };
            if let Some((granted, held)) = granted.filter(|_| is_first_end) {
                account.open -= 1;
                account.change(&granted, |sum| add(&mut sum.held, &held.amounts, -1));
            }
            if let Some((granted, held)) = granted.filter(|_| row.replaces) {
                account.change(&granted, |sum| add(&mut sum.used, &held.amounts, -1));
                *replayed.tokens.entry(*id).or_default() -= held.amounts.tokens;
            }
            if row.kind != Kind::Release {
                account.change(&when, |sum| add(&mut sum.used, &row.amounts, 1));
                *replayed.tokens.entry(*id).or_default() += row.amounts.tokens;
            }
        }
    }
}
