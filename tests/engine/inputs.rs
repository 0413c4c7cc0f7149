//! No input panics: every public function of the engine, with the largest, the smallest and the strangest of everything. What
//! cannot be is an error with a code; sums stop at their largest value and never wrap around.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use jiff::tz::TimeZone;
use llmquota::account::{AccountId, Chain, canonical_workspace};
use llmquota::config::{Config, LimitTable, LimitsFile, time_zone};
use llmquota::error::Code;
use llmquota::reservation::{Hold, Report, Verdict};
use llmquota::rules::breaker::{Breaker, Failure};
use llmquota::rules::decisions::{self, Bucket, Counts, Moment, fits, frees, resets};
use llmquota::rules::limits::LimitKind::{BudgetUsdPerMonth, RequestsPerDay, RequestsPerMinute, TokensPerMinute};
use llmquota::rules::limits::{Limit, LimitKind, LimitSet, Mode, Thresholds};
use llmquota::rules::status::Fill;
use llmquota::rules::windows::{Periods, rfc3339};
use llmquota::signal::notices;
use llmquota::store::{Adjust, Counter, Period};
use llmquota::usage::pricing::{Processing, Tariff, UnknownModel};
use llmquota::usage::{NanoUsd, TokenUsage};
use llmquota::waiting::Priority;
use llmquota::{Ask, Call, Clock, Manager, ManualClock, Now, Options, Scope};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use world::{MINUTE, World, asking, count, used, workspace};

fn cases(cases: u32) -> ProptestConfig {
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

fn number() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 2, 0xff_ffff, 1 << 32, (1 << 32) - 1, 1 << 53, (1 << 53) + 1, i64::MAX.unsigned_abs(), u64::MAX];
    prop_oneof![2 => prop::sample::select(edges.to_vec()), 1 => any::<u64>(), 2 => 0..1_000_u64]
}

fn time() -> impl Strategy<Value = i64> {
    let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, 999_999_999, 1_769_860_800_000_000_000, i64::MAX - 1, i64::MAX];
    prop_oneof![2 => prop::sample::select(edges.to_vec()), 1 => any::<i64>()]
}

/// Few, so that calls meet again, and among them what is no id.
fn id() -> impl Strategy<Value = Option<String>> {
    let odd = ["", "_global", "global", "a", "b", "\0", "\u{85}", "\u{1}other", "é\u{301}", "openai/k", "/", "gpt-4o"];
    let odd: Vec<String> =
        odd.into_iter().map(String::from).chain(["x".repeat(256), "x".repeat(257), "日".repeat(86)]).collect();
    prop_oneof![2 => Just(None), 6 => prop::sample::select(odd).prop_map(Some), 1 => any::<String>().prop_map(Some)]
}

fn kind() -> impl Strategy<Value = LimitKind> {
    prop::sample::select(LimitKind::ALL.to_vec())
}

fn failure() -> impl Strategy<Value = Failure> {
    let code = prop::sample::select(vec![
        None,
        Some("insufficient_quota"),
        Some("rate_limit_exceeded"),
        Some("timeout"),
        Some("?"),
    ]);
    (code, prop::option::of(any::<u16>()), prop::option::of(time()))
        .prop_map(|(code, status, wait)| Failure::classify(code, status, wait))
}

fn money() -> impl Strategy<Value = Option<NanoUsd>> {
    prop::option::of(time().prop_map(NanoUsd::from_nanos))
}

fn tokens() -> impl Strategy<Value = TokenUsage> {
    vec(number(), 8).prop_map(|n| TokenUsage {
        input: n[0],
        output: n[1],
        cached_input: n[2].min(n[0]),
        cache_write: n[3] % 3,
        reasoning: n[4] % 3,
        audio_input: n[5] % 3,
        audio_output: n[6] % 3,
        unsplit: n[7],
        ..TokenUsage::default()
    })
}

fn report() -> impl Strategy<Value = Report<'static>> {
    (tokens(), any::<bool>(), number(), money(), prop::option::of(failure())).prop_map(
        |(usage, clamp, requests, cost, failure)| Report {
            requests: u32::try_from(requests).unwrap_or(u32::MAX),
            usage: if clamp { usage.clamped() } else { usage },
            units: None,
            cost,
            processing: Processing::Batch,
            failure,
            details: None,
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    (number(), number(), money()).prop_map(|(requests, tokens, cost)| Ask {
        requests: u32::try_from(requests).unwrap_or(u32::MAX),
        tokens,
        cost,
    })
}

fn limits() -> impl Strategy<Value = LimitSet> {
    vec((kind(), number(), any::<bool>()), 0..6).prop_map(|limits| {
        let mut set = LimitSet::NONE;
        for (kind, cap, enforced) in limits {
            set.set(kind, Some(Limit { cap, mode: if enforced { Mode::Enforce } else { Mode::Observe } }));
        }
        set
    })
}

#[derive(Debug, Clone)]
enum Step {
    Record(Report<'static>),
    Reserve(Ask, Duration),
    Start(usize),
    Settle(usize, Report<'static>, Option<String>),
    Release(usize),
    Drop(usize),
    Explain(Ask),
    Learn(Failure),
    Adjust(Adjust),
    Configure(Scope, LimitSet, Option<i64>),
    Permit,
    Queue(Ask),
    Advance(i64),
    SetWall(i64),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let ttl =
        prop::sample::select(vec![Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(60), Duration::MAX]);
    let period = prop::sample::select(vec![Period::Minute, Period::Day, Period::Month, Period::Total]);
    let counter = prop::sample::select(vec![Counter::Requests, Counter::Errors, Counter::Tokens, Counter::Cost]);
    let adjust = prop_oneof![
        (period, counter, number()).prop_map(|(period, counter, value)| Adjust::Set(period, counter, value)),
        Just(Adjust::Reset),
        Just(Adjust::CloseBreaker),
        prop::option::of(time()).prop_map(Adjust::LastError),
    ];
    let scope = prop::sample::select(Scope::ALL.to_vec());
    prop_oneof![
        4 => report().prop_map(Step::Record),
        4 => (ask(), ttl).prop_map(|(ask, ttl)| Step::Reserve(ask, ttl)),
        1 => any::<usize>().prop_map(Step::Start),
        2 => (any::<usize>(), report(), id()).prop_map(|(hold, report, model)| Step::Settle(hold, report, model)),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => ask().prop_map(Step::Explain),
        1 => failure().prop_map(Step::Learn),
        1 => adjust.prop_map(Step::Adjust),
        2 => (scope, limits(), prop::option::of(time())).prop_map(|(scope, set, until)| Step::Configure(scope, set, until)),
        1 => Just(Step::Permit),
        1 => ask().prop_map(Step::Queue),
        2 => time().prop_map(Step::Advance),
        1 => time().prop_map(Step::SetWall),
        2 => Just(Step::Look),
    ]
}

/// An error of bad input, or of a full store, and nothing else.
fn expected<T>(result: llmquota::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(!matches!(error.code(), Code::StoreDamaged | Code::StoreBusy), "{error}");
            assert!(!error.message().is_empty() && error.message().len() < 1_000);
            None
        }
    }
}

/// The same, where what came of it does not matter.
fn fine<T>(result: llmquota::Result<T>) {
    let _any = expected(result);
}

fn take(manager: &Manager, clock: &ManualClock, holds: &mut Vec<Hold>, names: &[Option<String>], step: &Step) {
    let name = |place: usize| names.get(place).and_then(Option::as_deref);
    let call =
        Call { workspace: name(0), goal: name(1), task: name(2), model: name(3), user: name(4), credential: name(5) };
    let place = |hold: usize, holds: &[Hold]| (!holds.is_empty()).then(|| hold % holds.len());
    match step {
        Step::Record(report) => fine(manager.record(&call, report)),
        Step::Reserve(ask, ttl) => {
            if let Some(Verdict::Granted(hold)) = expected(manager.reserve(&call, ask, *ttl)) {
                holds.push(hold);
            }
        }
        Step::Start(hold) => place(*hold, holds).into_iter().for_each(|at| fine(holds[at].start())),
        Step::Settle(hold, report, model) => {
            place(*hold, holds).into_iter().for_each(|at| fine(holds[at].settle(report, model.as_deref())));
        }
        Step::Release(hold) => place(*hold, holds).into_iter().for_each(|at| fine(holds[at].release())),
        Step::Drop(hold) => drop(place(*hold, holds).map(|at| holds.swap_remove(at))),
        Step::Explain(ask) => fine(manager.explain(&call, ask)),
        Step::Learn(failure) => fine(manager.learn(&call, *failure)),
        Step::Adjust(adjust) => fine(manager.adjust(name(0).unwrap_or_default(), *adjust)),
        Step::Configure(scope, set, until) => {
            let inside = matches!(scope, Scope::Goal | Scope::Task | Scope::Model | Scope::User);
            let owner = if inside { name(0).unwrap_or_default() } else { "" };
            let account = AccountId { scope: *scope, owner, name: name(1).unwrap_or("a") };
            manager.set_override(account, *set, *until).unwrap();
        }
        Step::Permit => {
            let limiter = name(5).unwrap_or_default();
            fine(manager.permit(limiter));
            fine(manager.record_permit(limiter));
        }
        Step::Queue(ask) => {
            if let Some(ticket) = expected(manager.queue_up(&call, ask, Duration::MAX, Priority::High)) {
                fine(ticket.poll(Waker::noop()));
            }
        }
        Step::Advance(nanos) => clock.advance(*nanos),
        Step::SetWall(wall) => clock.set_wall(*wall),
        Step::Look => look(manager, &call),
    }
}

/// Reads all that can be read; numbers are numbers and times are times.
fn look(manager: &Manager, call: &Call<'_>) {
    let name = call.workspace.unwrap_or_default();
    fine(manager.tracker(call.workspace));
    fine(manager.can_make_request(name));
    fine(manager.limits(call));
    fine(manager.usage(call));
    fine(manager.workspaces());
    for scope in Scope::ALL {
        fine(manager.attribution(name, scope, usize::MAX));
    }
    let _fill = (manager.fill(), manager.is_free(), manager.telemetry().snapshot(), format!("{:?}", manager.now()));
    if let Some(snapshot) = expected(manager.snapshot(name)) {
        assert!(snapshot.limits.iter().all(|line| line.percentage.is_finite() && line.percentage >= 0.0));
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(
            serde_json::from_str::<llmquota::wire::Snapshot>(&text).unwrap().workspace_id,
            snapshot.workspace_id
        );
        let _said = (notices::for_snapshot(&snapshot), notices::for_check(&snapshot));
    }
    if let Some(decision) = expected(manager.explain(call, &Ask::tokens(1))) {
        let _said = notices::for_decision(&decision);
    }
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn no_history_of_strange_numbers_panics_or_damages_the_store(
        start in time(),
        every in limits(),
        steps in vec((vec(id(), 6), step()), 1..60),
    ) {
        let clock = ManualClock::at(start);
        let config = Config::unlimited().with_override(workspace("a"), every, None);
        let manager = Manager::new(Options { bytes: 1 << 20, clock: Arc::new(clock.clone()), config, shared: None }).unwrap();
        let mut holds = Vec::new();
        for (names, step) in &steps {
            take(&manager, &clock, &mut holds, names, step);
        }
        for call in [Call::default(), Call::new("a").goal("b").model("gpt-4o").credential("openai/k")] {
            look(&manager, &call);
        }
        drop(holds);
        prop_assert_eq!(manager.snapshot("a").unwrap().holds.open, 0, "no hold is left");
    }
}

fn now() -> impl Strategy<Value = Now> {
    (time(), time()).prop_map(|(wall, mono)| Now { wall, mono })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn no_rule_panics_on_any_number(
        now in now(),
        numbers in vec(number(), 6),
        times in vec(time(), 4),
        zone in prop::sample::select(vec!["UTC", "Europe/Rome", "Pacific/Apia", "Antarctica/Troll"]),
        kind in kind(),
        failure in failure(),
    ) {
        let [used, held, cap, asked, requests, tokens] = numbers[..] else { unreachable!() };
        let counts = Counts { used, held };
        let sum = u128::from(used) + u128::from(held) + u128::from(asked);
        prop_assert_eq!(fits(counts, cap, asked), cap > 0 && sum <= u128::from(cap));
        prop_assert_eq!(u128::from(counts.sum()), (u128::from(used) + u128::from(held)).min(u128::from(u64::MAX)));
        let periods = Periods::of(&TimeZone::get(zone).unwrap(), now.wall);
        prop_assert!(periods.hour < periods.hour_end && periods.day < periods.day_end && periods.month < periods.month_end);
        let buckets = [Bucket { second: times[0], requests, tokens }, Bucket { second: times[1], requests: tokens, tokens: requests }];
        let moment = Moment { now, periods, buckets: &buckets, expiries: &times };
        let _frees = (frees(kind, cap, counts, asked, &moment), resets(kind, &moment), decisions::Ask::LEAST.of(kind));
        let _fill = Fill::of(used, cap, Thresholds::default());
        let _times = (now.second(), now.wall_at(times[0]), rfc3339(times[1]));
        let mut breaker = Breaker::default();
        for at in &times {
            breaker = breaker.after(Err(failure), now.mono, *at);
            breaker = breaker.probing(*at).after(Ok(()), *at, now.mono);
            let _state = breaker.state(*at);
        }
        let strange = Breaker { until: times[0], half: times[1], opened: times[2], strikes: 255, calls: [u32::MAX; 2], failures: [u32::MAX; 2], ..breaker };
        let _after = strange.after(Err(failure), times[3], now.mono).after(Ok(()), now.mono, times[3]);
        let _set = Thresholds::new((used & 0xff) as u8, (held & 0xff) as u8);
        if let Ok(tariff) = Tariff::new(UnknownModel::Block, NanoUsd::from_nanos(times[0])) {
            let _price = tariff.flat(tokens);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), toml in "[a-z\\[\\]\\.=\" 0-9{},\n_-]{0,120}", json in any::<String>()) {
        for text in [&text, &toml] {
            let _file = LimitsFile::parse(text, "limits.toml");
            let _zone = time_zone("timezone", text);
            let _workspace = canonical_workspace(Some(text));
            let _limiter = Chain::limiter(text).map(|chain| chain.accounts().len());
            let _money = NanoUsd::from_usd_str("cost", text);
            let _failure = Failure::classify(Some(text), None, None);
        }
        let value = serde_json::json!({ "requests_per_minute": json, &text: 1 });
        let _table = LimitTable::from_json(&value, "limits");
    }
}

#[test]
fn sums_stop_at_their_largest_value() {
    let world = World::with("[workspaces.acme]\ntokens_per_minute = 9_007_199_254_740_992\nbudget_usd_per_month = 1");
    let acme = Call::new("acme");
    let most = Report { requests: u32::MAX, cost: Some(NanoUsd::MAX), ..used(1 << 53) };
    for _ in 0..2_100 {
        world.manager.record(&acme, &most).unwrap();
    }
    let total = world.usage(&acme).total;
    assert_eq!(total.tokens, u64::MAX);
    assert_eq!(total.cost_usd, NanoUsd::MAX.as_usd_f64());
    assert_eq!(total.requests, 2_100 * u64::from(u32::MAX));
    assert!(world.line(&acme, BudgetUsdPerMonth).percentage.is_finite());
    let decision = world.refused(&acme, asking(1));
    assert_eq!(decision.limits.len(), 2);
    world.pass(2 * MINUTE);
    assert_eq!(world.counts(&acme, TokensPerMinute), (0, 0), "and the minute empties all the same");
}

#[test]
fn holds_of_many_requests_are_counted_whole_and_taken_back_whole() {
    let world = World::with("");
    let limits = LimitSet::NONE.with(RequestsPerDay, 20_000_000).with(RequestsPerMinute, 20_000_000);
    world.limit(workspace("acme"), limits);
    let acme = Call::new("acme");
    let many = |requests| Ask { requests, ..asking(0) };
    let error = world.manager.reserve(&acme, &many(u32::MAX), Duration::ZERO).unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::InvalidNumber, "requests"));
    let first = world.granted(&acme, many(10_000_000));
    // Another of these would run over what one second can count: refused, not counted short.
    assert!(world.refused(&acme, many(10_000_000)).limits.is_empty());
    world.pass(world::SECOND);
    let second = world.granted(&acme, many(10_000_000));
    assert_eq!(world.counts(&acme, RequestsPerDay), (0, 20_000_000));
    assert_eq!(world.refused(&acme, many(1)).limits.len(), 2);
    drop((first, second));
    for kind in [RequestsPerDay, RequestsPerMinute] {
        assert_eq!(count(world.line(&acme, kind).held), 0);
    }
    let _open = world.granted(&acme, many(0xff_ffff));
    world.pass(2 * MINUTE);
    assert_eq!(world.counts(&acme, RequestsPerMinute), (0, 0));
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let world = World::with("");
    let acme = Call::new("acme");
    let code = |call: &Call<'_>, report: &Report<'_>| {
        let error = world.manager.record(call, report).unwrap_err();
        (error.code(), error.field().to_owned())
    };
    let huge = "x".repeat(10_000_000);
    for bad in [&huge, "a\0b", "\u{9f}", "a\u{7f}"] {
        assert_eq!(code(&Call::new(bad), &used(1)), (Code::InvalidId, "workspace_id".into()));
        assert_eq!(code(&acme.goal(bad), &used(1)), (Code::InvalidId, "goal_id".into()));
        assert_eq!(world.manager.reserve(&acme.task(bad), &asking(1), Duration::ZERO).unwrap_err().field(), "task_id");
        assert_eq!(world.manager.snapshot(bad).unwrap_err().code(), Code::InvalidId);
        assert_eq!(world.manager.reset(bad).unwrap_err().code(), Code::InvalidId);
    }
    let cost = |nanos| Report { cost: Some(NanoUsd::from_nanos(nanos)), ..used(1) };
    assert_eq!(code(&acme, &cost(-1)), (Code::InvalidNumber, "cost_usd".into()));
    assert_eq!(code(&acme, &cost(i64::MIN)), (Code::InvalidNumber, "cost_usd".into()));
    assert_eq!(code(&acme, &used((1 << 53) + 1)), (Code::InvalidNumber, "tokens".into()));
    assert_eq!(world.manager.explain(&acme, &asking((1 << 53) + 1)).unwrap_err().field(), "tokens");
    assert_eq!(world.manager.workspaces().unwrap().len(), 1, "none was made");
    for nan in [f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(NanoUsd::from_usd_f64("cost_usd", nan).unwrap_err().code(), Code::InvalidNumber);
    }
    assert_eq!(Manager::new(Options { bytes: 1_000, ..Options::default() }).unwrap_err().field(), "size");
}

#[test]
fn the_ends_of_time_are_times_too() {
    for start in [i64::MIN, -1, 0, i64::MAX - 2 * world::DAY] {
        let clock = ManualClock::at(start);
        let manager =
            world::manager(1 << 20, Arc::new(clock.clone()), "[workspaces.a]\nmax_concurrent = 1\ntokens_per_day = 5");
        let a = Call::new("a");
        let hold = world::granted(manager.reserve(&a, &asking(1), Duration::MAX).unwrap());
        hold.start().unwrap();
        world::refused(manager.reserve(&a, &asking(1), Duration::MAX).unwrap());
        drop(hold);
        for _ in 0..3 {
            clock.advance(i64::MAX);
            manager.record(&a, &used(1)).unwrap();
        }
        assert_eq!(clock.exact().mono, i64::MAX, "time never goes back");
        assert_eq!(manager.usage(&a).unwrap().total.tokens, 4);
    }
}
