//! Random histories of all that can happen, against the reference of `model.rs`: after each step every counter that the
//! engine shows, and at each reserve the decision, the limits it lists and the time it tells.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod model;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use llmquota::account::AccountId;
use llmquota::config::{Config, LimitsFile};
use llmquota::reservation::{Hold, Report, Verdict};
use llmquota::rules::breaker::Failure;
use llmquota::rules::limits::{Limit, LimitKind, LimitSet, Mode, Resource};
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::wire::{Decision, LimitLine, Quantity, UsageLine};
use llmquota::{Ask, Call, Clock, Manager, ManualClock, Now, Options, Scope};
use model::{Account, Amounts, Block, Model, SECOND, ZONES, accounts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Ten minutes before midnight in Rome, the last of January.
const START: &str = "2026-01-31T22:50:00Z";

#[derive(Debug, Clone)]
enum Step {
    Record(Call<'static>, Amounts),
    Reserve(Call<'static>, Amounts, i64),
    Start(usize),
    Settle(usize, Amounts),
    Release(usize),
    Abandon(usize),
    Advance(i64),
    /// To so many milliseconds from an hour, a day or a month's end of a zone.
    SetWall(usize, usize, i64),
    Limits(Call<'static>, LimitSet),
    Reset(usize),
}

fn call() -> impl Strategy<Value = Call<'static>> {
    let maybe =
        |names: [&'static str; 2]| prop_oneof![2 => Just(None), 1 => Just(Some(names[0])), 1 => Just(Some(names[1]))];
    (
        0..ZONES.len(),
        maybe(["goal-1", "goal-2"]),
        maybe(["task-1", "task-1"]),
        maybe(["gpt-4o", "gpt-4o-mini"]),
        maybe(["ada", "ada"]),
        maybe(["openai/k1", "openai/k1"]),
    )
        .prop_map(|(workspace, goal, task, model, user, credential)| Call {
            workspace: Some(ZONES[workspace].0),
            goal,
            task,
            model,
            user,
            credential,
        })
}

fn used() -> impl Strategy<Value = Amounts> {
    let tokens = (0..60_u64, 0..60_u64, 0..40_u64);
    (0..=1_u64, any::<bool>(), tokens, 0..400_u64).prop_map(|(requests, failed, (input, output, other), cost)| {
        Amounts {
            requests,
            errors: u64::from(failed),
            tokens: input + output + other,
            input,
            output,
            cached: input / 2,
            cost,
        }
    })
}

fn asked() -> impl Strategy<Value = Amounts> {
    (0..=2_u64, 0..120_u64, 0..500_u64).prop_map(|(requests, tokens, cost)| Amounts {
        requests,
        tokens,
        cost,
        ..Amounts::default()
    })
}

fn limits() -> impl Strategy<Value = LimitSet> {
    vec((0..10_u8, 0..=20_u64), 9).prop_map(|choices| {
        let mut set = LimitSet::NONE;
        for (kind, (choice, cap)) in LimitKind::ALL.into_iter().zip(choices) {
            let mode = if choice < 3 { Mode::Observe } else { Mode::Enforce };
            let scale = match kind.resource() {
                Resource::Requests => 1,
                Resource::Tokens => 40,
                Resource::Money => 150,
                Resource::Concurrency => 1,
            };
            if choice < 7 {
                set.set(kind, Some(Limit { cap: cap * scale, mode }));
            }
        }
        set
    })
}

fn step() -> impl Strategy<Value = Step> {
    let some_time = prop_oneof![
        3 => 0..2_500_i64,
        2 => 55_000..64_000_i64,
        1 => 0..1_200_000_i64,
        1 => Just(3_600_000),
        1 => Just(86_400_000),
    ];
    let ttl = prop_oneof![Just(0), 1..5_000_i64, 30_000..90_000_i64, Just(600_000), Just(90_000_000)];
    prop_oneof![
        4 => (call(), used()).prop_map(|(call, used)| Step::Record(call, used)),
        8 => (call(), asked(), ttl).prop_map(|(call, asked, ttl)| Step::Reserve(call, asked, ttl * 1_000_000)),
        3 => any::<usize>().prop_map(Step::Start),
        4 => (any::<usize>(), used()).prop_map(|(hold, used)| Step::Settle(hold, used)),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Abandon),
        4 => some_time.prop_map(|ms| Step::Advance(ms * 1_000_000)),
        2 => (0..ZONES.len(), 0..3_usize, -2_000..2_000_i64).prop_map(|(zone, edge, ms)| Step::SetWall(zone, edge, ms)),
        1 => (call(), limits()).prop_map(|(call, set)| Step::Limits(call, set)),
        1 => (0..ZONES.len()).prop_map(Step::Reset),
    ]
}

struct World {
    manager: Manager,
    clock: ManualClock,
    model: Model,
    /// Engine's holds, in the order of the model's.
    holds: Vec<Hold>,
    /// The wall time at which the history began.
    start: i64,
}

impl World {
    fn new(every: LimitSet) -> Self {
        let start = START.parse::<Timestamp>().unwrap().as_second() * SECOND;
        let clock = ManualClock::at(start);
        let mut file = String::new();
        for (workspace, zone) in ZONES {
            file.push_str(&format!("[workspaces.{workspace}]\ntimezone = \"{zone}\"\n"));
        }
        let config = Config::unlimited().with_file(LimitsFile::parse(&file, "limits.toml").unwrap());
        let options = Options { bytes: 4 << 20, clock: Arc::new(clock.clone()), config, shared: None };
        let mut world =
            Self { manager: Manager::new(options).unwrap(), clock, model: Model::default(), holds: Vec::new(), start };
        for (workspace, _) in ZONES {
            world.limit(AccountId { scope: Scope::Workspace, owner: "", name: workspace }, every);
        }
        world
    }

    fn now(&self) -> Now {
        self.clock.exact()
    }

    fn limit(&mut self, account: Account, set: LimitSet) {
        let config = self.manager.config().with_override(account, set, None);
        self.manager.configure(config).unwrap();
        self.model.limits.insert(account, set);
    }

    fn take(&mut self, step: &Step) {
        let now = self.now();
        match step {
            Step::Record(call, used) => {
                self.manager.record(call, &report(used)).unwrap();
                self.model.record(&accounts(call), *used, now);
            }
            Step::Reserve(call, asked, ttl) => self.reserve(call, asked, *ttl),
            Step::Limits(call, set) => {
                let account = *accounts(call).last().unwrap();
                self.limit(account, *set);
            }
            Step::Reset(workspace) => {
                self.manager.reset(ZONES[*workspace].0).unwrap();
                self.model.reset(ZONES[*workspace].0);
            }
            Step::Advance(nanos) => self.clock.advance(*nanos),
            Step::SetWall(zone, edge, ms) => {
                let edges = Model::edges(ZONES[*zone].1, self.start);
                self.clock.set_wall(edges[*edge] + ms * 1_000_000);
            }
            Step::Start(place) => self.end(*place, Model::start, |hold| hold.start()),
            Step::Release(place) => self.end(*place, Model::release, Hold::release),
            Step::Abandon(place) => self.end(*place, Model::abandon, Hold::abandon),
            Step::Settle(place, used) => {
                let settle = |model: &mut Model, hold| model.settle(hold, *used, now);
                self.end(*place, settle, |hold| Ok(hold.settle(&report(used), None)?.0));
            }
        }
        self.model.expire(self.now());
    }

    fn end(
        &mut self,
        place: usize,
        in_model: impl FnOnce(&mut Model, usize),
        in_engine: impl FnOnce(&mut Hold) -> llmquota::Result<llmquota::reservation::Ended>,
    ) {
        if self.holds.is_empty() {
            return;
        }
        let place = place % self.holds.len();
        let before = self.model.holds[place].state;
        in_model(&mut self.model, place);
        let after = self.model.holds[place].state;
        let ended = in_engine(&mut self.holds[place]).unwrap();
        assert_eq!((ended.was, ended.is, ended.changed), (before, after, before != after));
    }

    fn reserve(&mut self, call: &Call<'static>, asked: &Amounts, ttl: i64) {
        let now = self.now();
        let chain = accounts(call);
        let ask = Ask {
            requests: u32::try_from(asked.requests).unwrap(),
            tokens: asked.tokens,
            cost: Some(NanoUsd::from_nanos(i64::try_from(asked.cost).unwrap())),
        };
        let blocks = self.model.blocks(&chain, asked, now);
        let explained = self.manager.explain(call, &ask).unwrap();
        match self.manager.reserve(call, &ask, Duration::from_nanos(ttl.unsigned_abs())).unwrap() {
            Verdict::Granted(hold) => {
                assert_eq!(blocks, [], "granted past these");
                assert!(explained.allowed);
                self.holds.push(hold);
                self.model.grant(chain.clone(), *asked, now, ttl.min(86_400 * SECOND));
                self.model.assert_within_limits(&chain, now);
            }
            Verdict::Refused(decision) => {
                assert_eq!(explained, decision);
                let listed = decision.limits.iter().map(|line| block(&chain, line));
                let mut listed: Vec<Block> = listed.collect();
                listed.sort();
                assert_eq!(listed, blocks);
                self.check_time(&chain, asked, &decision, &blocks);
            }
        }
    }

    fn check_time(&self, chain: &[Account], asked: &Amounts, decision: &Decision, blocks: &[Block]) {
        let never = blocks.iter().any(|block| block.cap == 0 || block.asked > block.cap);
        assert_eq!(decision.never_fits, never);
        let told = decision.retry_at.as_ref().map(|at| at.parse::<Timestamp>().unwrap().as_nanosecond() as i64);
        let now = self.now();
        // Set back, the clock may come to a day that was already used: then nobody can tell by the limits of today alone.
        if never {
            assert_eq!(told, None);
        } else if !self.model.knows_the_future(now) {
            assert_eq!(told, self.model.fits_at(chain, asked, now), "now {now:?}, {blocks:?}");
        }
    }

    /// Every counter of every account, as the engine shows it.
    fn compare(&self) {
        let now = self.now();
        for (workspace, _) in ZONES {
            let snapshot = self.manager.snapshot(workspace).unwrap();
            let account = AccountId { scope: Scope::Workspace, owner: "", name: workspace };
            assert_eq!(snapshot.holds.open, self.model.open(&account));
            assert_eq!(snapshot.holds.tokens, self.model.count(&account, LimitKind::TokensPerMinute, now).1);
            self.compare_lines(&[account], &snapshot.limits);
            let call = Call::new(workspace);
            self.compare_one(&call);
            for name in ["goal-1", "goal-2"] {
                self.compare_one(&call.goal(name));
            }
            self.compare_one(&call.task("task-1"));
            self.compare_one(&call.user("ada"));
            for name in ["gpt-4o", "gpt-4o-mini"] {
                self.compare_one(&call.model(name));
            }
        }
        let credential = Call::new("utc").credential("openai/k1");
        self.compare_one(&credential);
        for name in ["gpt-4o", "gpt-4o-mini"] {
            self.compare_one(&credential.model(name));
        }
    }

    fn compare_one(&self, call: &Call<'static>) {
        let account = *accounts(call).last().unwrap();
        let usage = self.manager.usage(call).unwrap();
        let expected = self.model.usage(&account, self.now()).map(|amounts| usage_line(&amounts));
        assert_eq!([usage.minute, usage.day, usage.month, usage.total], expected, "{account:?}");
        let lines = self.manager.limits(call).unwrap().into_iter();
        let own = |line: &LimitLine| line.scope == account.scope && line.account == account.name;
        self.compare_lines(&[account], &lines.filter(own).collect::<Vec<_>>());
    }

    fn compare_lines(&self, chain: &[Account], lines: &[LimitLine]) {
        let mut expected = Vec::new();
        for account in chain {
            for (kind, limit) in self.model.limits.get(account).copied().unwrap_or_default().iter() {
                let (used, held) = self.model.count(account, kind, self.now());
                expected.push(Block { account: *account, kind, cap: limit.cap, used, held, asked: 0 });
            }
        }
        assert_eq!(lines.len(), expected.len());
        for (line, expected) in lines.iter().zip(expected) {
            assert_eq!(block(chain, line), expected);
        }
    }
}

fn block(chain: &[Account], line: &LimitLine) -> Block {
    let account = *chain.iter().find(|account| account.scope == line.scope && account.name == line.account).unwrap();
    let number = |quantity: Quantity| match quantity {
        Quantity::Count(count) => count,
        Quantity::Usd(usd) => NanoUsd::from_usd_f64("", usd).unwrap().nanos().unsigned_abs(),
    };
    Block {
        account,
        kind: line.limit,
        cap: number(line.cap),
        used: number(line.used),
        held: number(line.held),
        asked: number(line.asked),
    }
}

fn report(used: &Amounts) -> Report<'static> {
    Report {
        requests: u32::try_from(used.requests).unwrap(),
        usage: TokenUsage {
            input: used.input,
            output: used.output,
            cached_input: used.cached,
            unsplit: used.tokens - used.input - used.output,
            ..TokenUsage::default()
        },
        cost: Some(NanoUsd::from_nanos(i64::try_from(used.cost).unwrap())),
        // A failure that moves no breaker: breakers have their own tests.
        failure: (used.errors > 0).then_some(Failure::UNKNOWN),
        ..Report::success(TokenUsage::default())
    }
}

fn usage_line(amounts: &Amounts) -> UsageLine {
    UsageLine {
        requests: amounts.requests,
        tokens: amounts.tokens,
        input_tokens: amounts.input,
        output_tokens: amounts.output,
        cached_tokens: amounts.cached,
        cost_usd: NanoUsd::from_nanos(i64::try_from(amounts.cost).unwrap()).as_usd_f64(),
        errors: amounts.errors,
    }
}

/// What a history begins with: the limits of every workspace.
struct Every(LimitSet);

impl std::fmt::Debug for Every {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(kind, limit)| write!(f, "{kind:?} {:?} {}, ", limit.mode, limit.cap))
    }
}

/// Steps that print one a line.
struct History(Vec<Step>);

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Limits(call, set) => write!(f, "\n    Limits({call:?}, {:?})", Every(*set)),
            step => write!(f, "\n    {step:?}"),
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_history_counts_as_the_plain_list_does(every in limits().prop_map(Every), history in vec(step(), 1..60).prop_map(History)) {
        let mut world = World::new(every.0);
        for step in &history.0 {
            world.take(step);
            world.compare();
        }
    }
}
