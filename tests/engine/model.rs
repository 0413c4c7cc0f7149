//! The reference: a plain list of what happened, and every question answered by going through the whole list.
//!
//! It shares no code with the engine beside the names of things: no buckets (but for the rule that what fell into second `s`
//! counts until `s + 61`), no periods that roll, no sums that are kept. The calendar is asked of `jiff` directly.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};
use llmquota::account::AccountId;
use llmquota::reservation::HoldState;
use llmquota::rules::limits::{LimitKind, LimitSet, Mode};
use llmquota::{Call, Now, Scope};

pub(crate) const SECOND: i64 = 1_000_000_000;

/// The time zones of the workspaces; every other account's is UTC.
pub(crate) const ZONES: [(&str, &str); 3] = [("rome", "Europe/Rome"), ("york", "America/New_York"), ("utc", "UTC")];

pub(crate) type Account = AccountId<'static>;

/// What a fact, or a hold, is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amounts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) tokens: u64,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached: u64,
    pub(crate) cost: u64,
}

impl Amounts {
    fn add(&mut self, other: &Amounts) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.tokens += other.tokens;
        self.input += other.input;
        self.output += other.output;
        self.cached += other.cached;
        self.cost += other.cost;
    }

    fn of(&self, kind: LimitKind) -> u64 {
        use LimitKind::{BudgetUsdPerDay, BudgetUsdPerMonth, MaxConcurrent, TokensPerDay, TokensPerMinute};
        match kind {
            TokensPerMinute | TokensPerDay => self.tokens,
            BudgetUsdPerDay | BudgetUsdPerMonth => self.cost,
            MaxConcurrent => 0,
            _ => self.requests,
        }
    }
}

#[derive(Debug)]
struct Fact {
    at: Now,
    accounts: BTreeSet<Account>,
    amounts: Amounts,
}

#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) accounts: Vec<Account>,
    pub(crate) granted: Now,
    pub(crate) expiry: i64,
    pub(crate) asked: Amounts,
    pub(crate) state: HoldState,
    /// The fact that it was charged as.
    charge: Option<usize>,
}

/// A limit in the way of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block {
    pub(crate) account: Account,
    pub(crate) kind: LimitKind,
    pub(crate) cap: u64,
    pub(crate) used: u64,
    pub(crate) held: u64,
    pub(crate) asked: u64,
}

/// The calendar place of an instant: what has the same place lies in the same period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Calendar {
    month: (i16, i8),
    day: i8,
    hour: i8,
    offset: i32,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    facts: Vec<Fact>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) limits: BTreeMap<Account, LimitSet>,
    calendars: RefCell<HashMap<(&'static str, i64), Calendar>>,
}

/// The accounts of a call, workspace first.
pub(crate) fn accounts(call: &Call<'static>) -> Vec<Account> {
    let workspace = call.workspace.unwrap();
    let account = |scope, owner, name| Account { scope, owner, name };
    let mut accounts = vec![account(Scope::Workspace, "", workspace)];
    let inside =
        [(Scope::Goal, call.goal), (Scope::Task, call.task), (Scope::Model, call.model), (Scope::User, call.user)];
    accounts.extend(inside.into_iter().filter_map(|(scope, name)| Some(account(scope, workspace, name?))));
    if let Some(credential) = call.credential {
        accounts.push(account(Scope::Credential, "", credential));
        accounts.extend(call.model.map(|model| account(Scope::ProviderModel, credential, model)));
    }
    accounts
}

fn zone_of(account: &Account) -> &'static str {
    let workspace = if account.scope == Scope::Workspace { account.name } else { account.owner };
    ZONES.iter().find(|(name, _)| *name == workspace).map_or("UTC", |(_, zone)| zone)
}

fn zoned(zone: &str, wall: i64) -> ZonedDateTime {
    let stamp = Timestamp::from_nanosecond(i128::from(wall)).unwrap();
    stamp.to_zoned_datetime(TimeZone::get(zone).unwrap())
}

impl Model {
    fn calendar(&self, zone: &'static str, wall: i64) -> Calendar {
        *self.calendars.borrow_mut().entry((zone, wall.div_euclid(SECOND))).or_insert_with(|| {
            let at = zoned(zone, wall);
            let offset = at.offset().seconds();
            Calendar { month: (at.year(), at.month()), day: at.day(), hour: at.hour(), offset }
        })
    }

    /// Whether what happened at `at` counts in the window of `kind` as of `now`.
    fn counts(&self, account: &Account, kind: LimitKind, at: Now, now: Now) -> bool {
        use LimitKind::{
            BudgetUsdPerMonth, MaxBurst, MaxConcurrent, RequestsPerHour, RequestsPerMinute, TokensPerMinute,
        };
        match kind {
            MaxConcurrent => true,
            MaxBurst => at.second() == now.second(),
            RequestsPerMinute | TokensPerMinute => now.second() < at.second() + 61,
            RequestsPerHour => self.calendar(zone_of(account), at.wall) == self.calendar(zone_of(account), now.wall),
            BudgetUsdPerMonth => self.same(account, at, now).0,
            _ => self.same(account, at, now).1,
        }
    }

    /// Whether two instants share the account's month, and its day.
    fn same(&self, account: &Account, at: Now, now: Now) -> (bool, bool) {
        let (one, other) = (self.calendar(zone_of(account), at.wall), self.calendar(zone_of(account), now.wall));
        (one.month == other.month, one.month == other.month && one.day == other.day)
    }

    /// Used and held of an account over the window of `kind`.
    pub(crate) fn count(&self, account: &Account, kind: LimitKind, now: Now) -> (u64, u64) {
        // Asked in this order because it is cheaper.
        let facts = self.facts.iter().filter(|fact| fact.amounts.of(kind) > 0 && fact.accounts.contains(account));
        let used =
            facts.filter(|fact| self.counts(account, kind, fact.at, now)).map(|fact| fact.amounts.of(kind)).sum();
        let open = self.holds.iter().filter(|hold| hold.state.is_open() && hold.accounts.contains(account));
        let held = open
            .filter(|hold| self.counts(account, kind, hold.granted, now))
            .map(|hold| if kind == LimitKind::MaxConcurrent { 1 } else { hold.asked.of(kind) })
            .sum();
        (used, held)
    }

    /// The account's last minute, day, month, and all.
    pub(crate) fn usage(&self, account: &Account, now: Now) -> [Amounts; 4] {
        let mut usage = [Amounts::default(); 4];
        for fact in self.facts.iter().filter(|fact| fact.accounts.contains(account)) {
            let (month, day) = self.same(account, fact.at, now);
            let counts = [now.second() < fact.at.second() + 61, day, month, true];
            for (sum, counts) in usage.iter_mut().zip(counts) {
                if counts {
                    sum.add(&fact.amounts);
                }
            }
        }
        usage
    }

    /// How many calls are open on an account.
    pub(crate) fn open(&self, account: &Account) -> u64 {
        self.holds.iter().filter(|hold| hold.state.is_open() && hold.accounts.contains(account)).count() as u64
    }

    /// Every enforced limit that `asked` does not fit into.
    pub(crate) fn blocks(&self, accounts: &[Account], asked: &Amounts, now: Now) -> Vec<Block> {
        let mut blocks = Vec::new();
        for account in accounts {
            let limits = self.limits.get(account).copied().unwrap_or_default();
            for (kind, limit) in limits.iter().filter(|(_, limit)| limit.mode == Mode::Enforce) {
                let asked = if kind == LimitKind::MaxConcurrent { 1 } else { asked.of(kind) };
                let (used, held) = self.count(account, kind, now);
                if limit.cap == 0 || used + held + asked > limit.cap {
                    blocks.push(Block { account: *account, kind, cap: limit.cap, used, held, asked });
                }
            }
        }
        blocks.sort();
        blocks
    }

    /// Law 2, from the list alone: no enforced limit of these accounts holds more than its cap.
    pub(crate) fn assert_within_limits(&self, accounts: &[Account], now: Now) {
        for account in accounts {
            for (kind, limit) in self.limits.get(account).copied().unwrap_or_default().iter() {
                let (used, held) = self.count(account, kind, now);
                assert!(
                    limit.mode == Mode::Observe || used + held <= limit.cap,
                    "law 2: {account:?} {kind:?} has {used} + {held} of {}",
                    limit.cap
                );
            }
        }
    }

    /// True where the clock was set back behind something that still stands in the list.
    pub(crate) fn knows_the_future(&self, now: Now) -> bool {
        let facts = self.facts.iter().map(|fact| fact.at);
        facts.chain(self.holds.iter().map(|hold| hold.granted)).any(|at| at.wall > now.wall)
    }

    /// The first wall time at which the call fits, if nobody else comes and open holds end as held: every instant at which
    /// anything can change is tried. `None` where it fits at no time.
    pub(crate) fn fits_at(&self, accounts: &[Account], asked: &Amounts, now: Now) -> Option<i64> {
        let mut instants = BTreeSet::from([(now.second() + 1) * SECOND]);
        let seconds = self.facts.iter().map(|fact| fact.at).chain(self.holds.iter().map(|hold| hold.granted));
        instants.extend(seconds.map(|at| (at.second() + 61) * SECOND));
        instants.extend(self.holds.iter().map(|hold| hold.expiry));
        for account in accounts {
            let at = zoned(zone_of(account), now.wall);
            let midnight = |date: jiff::civil::Date| date.to_zoned_datetime(at.time_zone().clone()).unwrap();
            let quarters = (1..=8).map(|quarter: i64| {
                let seconds = at.timestamp().as_second().div_euclid(900) * 900 + quarter * 900;
                seconds * SECOND
            });
            let ends =
                [midnight(at.date().tomorrow().unwrap()), midnight(at.date().last_of_month().tomorrow().unwrap())];
            let ends = ends.iter().map(|end| end.timestamp().as_second() * SECOND);
            instants.extend(ends.chain(quarters).map(|wall| now.mono + (wall - now.wall)));
        }
        let later = |mono: i64| Now { mono, wall: now.wall + (mono - now.mono) };
        // What fits now goes on fitting while nobody comes, so only what blocks is asked again; at the end, all is.
        let blocking: Vec<(Account, LimitKind)> =
            self.blocks(accounts, asked, now).iter().map(|block| (block.account, block.kind)).collect();
        let mut instants = instants.range(now.mono..).map(|mono| later(*mono));
        let fits =
            instants.find(|at| blocking.iter().all(|(account, kind)| self.would_fit(account, *kind, asked, *at)))?;
        let rest = accounts.iter().flat_map(|account| LimitKind::ALL.map(|kind| (account, kind)));
        assert!(rest.into_iter().all(|(account, kind)| self.would_fit(account, kind, asked, fits)));
        Some(fits.wall)
    }

    fn would_fit(&self, account: &Account, kind: LimitKind, asked: &Amounts, at: Now) -> bool {
        let limit = self.limits.get(account).and_then(|set| set.get(kind)).filter(|limit| limit.mode == Mode::Enforce);
        let Some(limit) = limit else { return true };
        let (used, held) = self.count(account, kind, at);
        if kind != LimitKind::MaxConcurrent {
            return limit.cap > 0 && used + held + asked.of(kind) <= limit.cap;
        }
        // The list was counted as of now: of the open calls, those whose time is over by then have ended.
        let over = self
            .holds
            .iter()
            .filter(|hold| hold.state.is_open() && hold.accounts.contains(account) && hold.expiry <= at.mono);
        held - (over.count() as u64) < limit.cap
    }

    pub(crate) fn record(&mut self, accounts: &[Account], amounts: Amounts, now: Now) -> usize {
        self.facts.push(Fact { at: now, accounts: accounts.iter().copied().collect(), amounts });
        self.facts.len() - 1
    }

    pub(crate) fn grant(&mut self, accounts: Vec<Account>, asked: Amounts, now: Now, ttl: i64) {
        let state = HoldState::Reserved;
        self.holds.push(Hold { accounts, granted: now, expiry: now.mono + ttl, asked, state, charge: None });
    }

    pub(crate) fn start(&mut self, hold: usize) {
        if self.holds[hold].state == HoldState::Reserved {
            self.holds[hold].state = HoldState::Started;
        }
    }

    pub(crate) fn settle(&mut self, hold: usize, amounts: Amounts, now: Now) {
        let Hold { granted, state, charge, .. } = self.holds[hold];
        let accounts = self.holds[hold].accounts.clone();
        match state {
            HoldState::Settled => return,
            HoldState::Charged => self.facts[charge.unwrap()].amounts = amounts,
            HoldState::Released => drop(self.record(&accounts, amounts, now)),
            HoldState::Reserved | HoldState::Started => drop(self.record(&accounts, amounts, granted)),
        }
        self.holds[hold].state = HoldState::Settled;
    }

    pub(crate) fn release(&mut self, hold: usize) {
        if self.holds[hold].state.is_open() {
            self.holds[hold].state = HoldState::Released;
        }
    }

    pub(crate) fn abandon(&mut self, hold: usize) {
        match self.holds[hold].state {
            HoldState::Reserved => self.holds[hold].state = HoldState::Released,
            HoldState::Started => {
                let (accounts, asked, granted) =
                    (self.holds[hold].accounts.clone(), self.holds[hold].asked, self.holds[hold].granted);
                self.holds[hold].charge = Some(self.record(&accounts, asked, granted));
                self.holds[hold].state = HoldState::Charged;
            }
            _ => {}
        }
    }

    /// Time has passed: holds whose time is over end as if abandoned.
    pub(crate) fn expire(&mut self, now: Now) {
        for hold in 0..self.holds.len() {
            if self.holds[hold].expiry <= now.mono {
                self.abandon(hold);
            }
        }
    }

    /// What the workspace and all inside it have used is forgotten.
    pub(crate) fn reset(&mut self, workspace: &str) {
        for fact in &mut self.facts {
            fact.accounts.retain(|account| {
                !(account.scope == Scope::Workspace && account.name == workspace
                    || account.scope < Scope::Credential && account.owner == workspace)
            });
        }
    }

    /// The next calendar edges of a zone after `wall`, for histories that step over them.
    pub(crate) fn edges(zone: &str, wall: i64) -> [i64; 3] {
        let at = zoned(zone, wall);
        let hour = at.checked_add(1.hour()).unwrap().round(jiff::Unit::Hour).unwrap();
        let midnight = |date: jiff::civil::Date| date.to_zoned_datetime(at.time_zone().clone()).unwrap();
        let (day, month) =
            (midnight(at.date().tomorrow().unwrap()), midnight(at.date().last_of_month().tomorrow().unwrap()));
        [hour, day, month].map(|edge| edge.timestamp().as_second() * SECOND)
    }
}
