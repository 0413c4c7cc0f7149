//! A reference for history: accounts that count as the region does, one step at a time and without any table, and the entries
//! that its journal would hold of each step.

#![allow(dead_code, reason = "each test file says some of the words")]

use std::collections::HashMap;

use llmquota::Scope;
use llmquota::config::time_zone;
use llmquota::rules::breaker::FailureKind;
use llmquota::rules::windows::Periods;
use llmquota::store::history::{Drained, Standing};
use llmquota::usage::history::{Entry, Held, Kind, Named, Span, Starts, Sums};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;
/// 2026-01-31T22:50:00Z: a day and a month end in ten minutes, or in Rome long have.
pub(crate) const START: i64 = 1_769_899_800 * SECOND;
pub(crate) const ZONES: [&str; 4] = ["UTC", "Europe/Rome", "America/New_York", "Asia/Kathmandu"];

/// The accounts: scope, owner, name. A chain is some of them, the workspace first.
pub(crate) const ACCOUNTS: [(Scope, &str, &str); 8] = [
    (Scope::Workspace, "", "acme"),
    (Scope::Goal, "acme", "goal-1"),
    (Scope::Task, "acme", "task-1"),
    (Scope::Workspace, "", "bolt"),
    (Scope::Goal, "bolt", "goal-1"),
    (Scope::Model, "bolt", "gpt-4o"),
    (Scope::Credential, "", "openai/k1"),
    (Scope::ProviderModel, "openai/k1", "gpt-4o"),
];
pub(crate) const CHAINS: [&[usize]; 5] = [&[0], &[0, 1], &[0, 1, 2, 6], &[3, 4], &[3, 5, 6, 7]];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Ended,
    /// With nothing used.
    Released,
    Charged,
}

#[derive(Debug, Clone)]
struct Call {
    chain: &'static [usize],
    held: Held,
    starts: Vec<Starts>,
    started: bool,
    end: End,
}

/// An entry, and the zone that each of its accounts had.
#[derive(Debug, Clone)]
struct Told {
    entry: Entry,
    accounts: Vec<(usize, usize)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Naive {
    pub(crate) now: i64,
    /// The latest time that the clock has shown.
    latest: i64,
    zones: Vec<usize>,
    /// No clock goes back behind the last change of a zone.
    rezoned: i64,
    pub(crate) sums: HashMap<(usize, Span, i64), Sums>,
    calls: Vec<Call>,
    told: Vec<Told>,
}

pub(crate) fn starts(zone: usize, at: i64) -> Starts {
    let periods = Periods::of(&time_zone("zone", ZONES[zone]).unwrap(), at);
    Starts { hour: periods.hour, day: periods.day, month: periods.month }
}

fn each(starts: &Starts) -> [(Span, i64); 4] {
    [(Span::Total, 0), (Span::Hour, starts.hour), (Span::Day, starts.day), (Span::Month, starts.month)]
}

pub(crate) fn used(amount: i64) -> Sums {
    Sums {
        requests: 1,
        errors: amount % 2,
        tokens: amount,
        input: amount / 3,
        output: amount,
        cached: 0,
        cost: 7 * amount,
    }
}

pub(crate) fn entry(kind: Kind, at: i64) -> Entry {
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

impl Naive {
    pub(crate) fn new() -> Self {
        let zones = vec![0, 0, 0, 1, 1, 1, 0, 0];
        Self {
            now: START,
            latest: START,
            zones,
            rezoned: i64::MIN,
            sums: HashMap::new(),
            calls: Vec::new(),
            told: Vec::new(),
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.told.len()
    }

    /// The entries of these places, as the journal hands them out.
    pub(crate) fn drained(&self, from: usize, until: usize) -> Drained {
        let mut drained = Drained::default();
        let mut places = HashMap::new();
        for told in &self.told[from..until] {
            let place = |(account, zone): &(usize, usize)| {
                *places.entry((*account, *zone)).or_insert_with(|| {
                    drained.accounts.push(named(*account, *zone));
                    u32::try_from(drained.accounts.len() - 1).unwrap()
                })
            };
            let accounts = told.accounts.iter().map(place).collect();
            drained.entries.push(Entry { accounts, ..told.entry.clone() });
        }
        drained
    }

    /// How the accounts stand that these entries could have told of.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        let sums = |account, span, start| self.sums.get(&(account, span, start)).copied().unwrap_or_default();
        (0..ACCOUNTS.len())
            .map(|account| {
                let starts = starts(self.zones[account], self.now);
                let periods = each(&starts).into_iter().skip(1).map(|(span, start)| {
                    let sums = sums(account, span, start);
                    let hour = Sums { requests: sums.requests, ..Sums::default() };
                    (span, start, if span == Span::Hour { hour } else { sums })
                });
                let total = sums(account, Span::Total, 0);
                Standing { account: named(account, self.zones[account]), total, periods: periods.collect() }
            })
            .collect()
    }

    fn tell(&mut self, chain: &[usize], entry: Entry) {
        let sequence = self.told.len() as u64 + 1;
        let accounts = chain.iter().map(|account| (*account, self.zones[*account])).collect();
        self.told.push(Told { entry: Entry { sequence, ..entry }, accounts });
    }

    fn land(&mut self, account: usize, starts: &Starts, sums: &Sums) {
        for (span, start) in each(starts) {
            let line = self.sums.entry((account, span, start)).or_default();
            *line = line.plus(sums);
        }
    }

    /// A call that nobody reserved; `lost` where the journal had no room to tell of it.
    pub(crate) fn record(&mut self, chain: usize, amount: i64, lost: bool) {
        let (chain, sums) = (CHAINS[chain % CHAINS.len()], used(amount));
        for account in chain {
            let starts = starts(self.zones[*account], self.now);
            self.land(*account, &starts, &sums);
        }
        if !lost {
            let failure = (sums.errors > 0).then_some(FailureKind::Server);
            self.tell(chain, Entry { sums, failure, ..entry(Kind::Record, self.now) });
        }
    }

    pub(crate) fn grant(&mut self, chain: usize, tokens: u64) {
        let chain = CHAINS[chain % CHAINS.len()];
        let hold = self.calls.len() as u64 + 1;
        let held = Held { hold, granted: self.now, requests: 1, tokens, cost: 5 * tokens };
        let starts = chain.iter().map(|account| starts(self.zones[*account], self.now)).collect();
        self.calls.push(Call { chain, held, starts, started: false, end: End::Open });
        self.tell(chain, Entry { held: Some(held), ..entry(Kind::Grant, self.now) });
    }

    fn call(&self, of: usize, ends: &[End]) -> Option<usize> {
        let calls = (0..self.calls.len()).filter(|call| ends.contains(&self.calls[*call].end));
        let calls: Vec<usize> = calls.collect();
        (!calls.is_empty()).then(|| calls[of % calls.len()])
    }

    pub(crate) fn start(&mut self, of: usize) {
        if let Some(call) = self.call(of, &[End::Open]) {
            self.calls[call].started = true;
            let Call { chain, held, .. } = self.calls[call];
            self.tell(chain, Entry { held: Some(held), ..entry(Kind::Start, self.now) });
        }
    }

    /// Whatever became of the hold before.
    pub(crate) fn settle(&mut self, of: usize, amount: i64) {
        let Some(place) = self.call(of, &[End::Open, End::Charged, End::Released]) else { return };
        let call = self.calls[place].clone();
        let sums = used(amount);
        for (account, granted) in call.chain.iter().zip(&call.starts) {
            let now = starts(self.zones[*account], self.now);
            self.land(*account, if call.end == End::Released { &now } else { granted }, &sums);
            if call.end == End::Charged {
                self.land(*account, granted, &Sums::default().minus(&charge(&call.held)));
            }
        }
        let (replaces, lands_now) = (call.end == End::Charged, call.end == End::Released);
        self.calls[place].end = End::Ended;
        let held = Some(call.held);
        self.tell(call.chain, Entry { sums, held, replaces, lands_now, ..entry(Kind::Settle, self.now) });
    }

    pub(crate) fn release(&mut self, of: usize) {
        if let Some(place) = self.call(of, &[End::Open]) {
            self.calls[place].end = End::Released;
            let Call { chain, held, .. } = self.calls[place];
            self.tell(chain, Entry { held: Some(held), ..entry(Kind::Release, self.now) });
        }
    }

    pub(crate) fn orphan(&mut self, of: usize) {
        if let Some(place) = self.call(of, &[End::Open]) {
            let told = self.charge(place);
            self.tell(self.calls[place].chain, told);
        }
    }

    fn charge(&mut self, place: usize) -> Entry {
        self.calls[place].end = End::Charged;
        let Call { chain, held, starts, .. } = self.calls[place].clone();
        for (account, granted) in chain.iter().zip(&starts) {
            self.land(*account, granted, &charge(&held));
        }
        Entry { sums: charge(&held), held: Some(held), estimated: true, ..entry(Kind::Orphan, self.now) }
    }

    /// What a power cut leaves open is ended by the keeper, without entries. Answers how many are released and charged.
    pub(crate) fn power_cut(&mut self) -> (usize, usize) {
        let open: Vec<usize> = (0..self.calls.len()).filter(|call| self.calls[*call].end == End::Open).collect();
        let (started, reserved): (Vec<_>, Vec<_>) = open.into_iter().partition(|call| self.calls[*call].started);
        for call in &reserved {
            self.calls[*call].end = End::Released;
        }
        for call in &started {
            self.charge(*call);
        }
        (reserved.len(), started.len())
    }

    pub(crate) fn adjust(&mut self, account: usize, span: usize, change: i64) {
        let account = account % ACCOUNTS.len();
        let (span, start) = each(&starts(self.zones[account], self.now))[span % 4];
        let sums = Sums { tokens: change, ..Sums::default() };
        let line = self.sums.entry((account, span, start)).or_default();
        *line = line.plus(&sums);
        self.tell(&[account], Entry { sums, span: Some(span), ..entry(Kind::Adjust, self.now) });
    }

    /// Another zone of a workspace or a credential, and of all that lies inside; `lost` as for a record. Nothing where the clock
    /// stands before a hold.
    pub(crate) fn rezone(&mut self, account: usize, zone: usize, lost: bool) {
        let (account, zone) = (account % ACCOUNTS.len(), zone % ZONES.len());
        if self.calls.iter().any(|call| call.held.granted > self.now) {
            // By its time alone, a hold of before would be one of after.
            return;
        }
        for (place, (_, owner, _)) in ACCOUNTS.into_iter().enumerate() {
            let inside = place == account || owner == ACCOUNTS[account].2;
            if !inside || self.zones[place] == zone {
                continue;
            }
            let (was, is) = (starts(self.zones[place], self.now), starts(zone, self.now));
            for ((span, from), (_, to)) in each(&was).into_iter().zip(each(&is)) {
                let moved = self.sums.remove(&(place, span, from)).unwrap_or_default();
                let line = self.sums.entry((place, span, to)).or_default();
                *line = line.plus(&moved);
            }
            for call in &mut self.calls {
                for (_, granted) in call.chain.iter().zip(&mut call.starts).filter(|(account, _)| **account == place) {
                    granted.hour = if granted.hour == was.hour { is.hour } else { granted.hour };
                    granted.day = if granted.day == was.day { is.day } else { granted.day };
                    granted.month = if granted.month == was.month { is.month } else { granted.month };
                }
            }
            if !lost {
                let rezone = Some((was, is, ZONES[zone].to_owned()));
                self.tell(&[place], Entry { rezone, ..entry(Kind::Rezone, self.now) });
            }
            self.zones[place] = zone;
            self.rezoned = self.now;
        }
    }

    pub(crate) fn pass(&mut self, time: i64) {
        self.now += time;
        self.latest = self.latest.max(self.now);
    }

    /// A day, but not behind the day before the latest.
    pub(crate) fn set_back(&mut self) {
        self.now = (self.now - DAY).max(self.latest - DAY).max(self.rezoned.saturating_add(1));
    }
}

fn charge(held: &Held) -> Sums {
    let amount = |amount: u64| i64::try_from(amount).unwrap();
    Sums { requests: amount(held.requests), tokens: amount(held.tokens), cost: amount(held.cost), ..Sums::default() }
}

fn named(account: usize, zone: usize) -> Named {
    let (scope, owner, name) = ACCOUNTS[account];
    Named { scope, owner: owner.to_owned(), name: name.to_owned(), zone: ZONES[zone].to_owned() }
}
