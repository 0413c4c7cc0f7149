//! Which limits an account has: who wins, limit by limit, and when an override ends.

#![allow(clippy::unwrap_used, reason = "what fails to unwrap fails its test")]

use llmquota::account::{AccountId, Scope};
use llmquota::config::{Config, EnvLimits, LimitTable, LimitsFile, OnStoreFailure, Setting, Source};
use llmquota::error::Code;
use llmquota::rules::limits::{Limit, LimitKind, LimitSet, MAX_COUNT, Mode, Thresholds};
use serde_json::json;

const NOW: i64 = 1_769_817_600_000_000_000;

const fn account<'a>(scope: Scope, owner: &'a str, name: &'a str) -> AccountId<'a> {
    AccountId { scope, owner, name }
}

const fn workspace(name: &str) -> AccountId<'_> {
    account(Scope::Workspace, "", name)
}

fn file(text: &str) -> LimitsFile {
    LimitsFile::parse(text, "limits.toml").unwrap()
}

fn enforced(config: &Config, account: AccountId<'_>, kind: LimitKind) -> Option<u64> {
    config.resolve(account, NOW).limits.get(kind).filter(|limit| limit.mode == Mode::Enforce).map(|limit| limit.cap)
}

#[test]
fn what_is_built_in_enforces_rates_and_observes_the_day_and_the_budget() {
    let resolved = Config::default().resolve(workspace("acme"), NOW);
    let expected = [
        (LimitKind::RequestsPerMinute, 500, Mode::Enforce),
        (LimitKind::RequestsPerDay, 10_000, Mode::Enforce),
        (LimitKind::TokensPerMinute, 150_000, Mode::Enforce),
        (LimitKind::TokensPerDay, 2_000_000, Mode::Observe),
        (LimitKind::BudgetUsdPerMonth, 100_000_000_000, Mode::Observe),
    ];
    let found: Vec<_> = resolved.limits.iter().map(|(kind, limit)| (kind, limit.cap, limit.mode)).collect();
    assert_eq!(found, expected);
    assert_eq!(resolved.source(), Source::Builtin);
    for scope in [Scope::Goal, Scope::Task, Scope::Model, Scope::User, Scope::Credential, Scope::ProviderModel] {
        assert!(Config::default().resolve(account(scope, "acme", "x"), NOW).limits.is_empty(), "{scope:?}");
    }
    assert!(Config::unlimited().resolve(workspace("acme"), NOW).limits.is_empty());
}

#[test]
fn a_limiter_has_the_numbers_it_always_had() {
    for (name, minute, hour, burst) in [
        ("openai_gpt4", 40, 2_000, 10),
        ("openai_gpt35", 60, 3_500, 15),
        ("auto_completion", 5, 100, 2),
        ("goal_unblock", 10, 200, 3),
        ("default", 30, 1_500, 5),
        ("anything else", 30, 1_500, 5),
    ] {
        let expected = LimitSet::NONE
            .with(LimitKind::RequestsPerMinute, minute)
            .with(LimitKind::RequestsPerHour, hour)
            .with(LimitKind::MaxBurst, burst);
        assert_eq!(Config::default().resolve(account(Scope::Limiter, "", name), NOW).limits, expected, "{name}");
    }
    // A file that speaks of one limit of a limiter leaves its others, and those of the other limiters.
    let text = "[limiters.default]\nrequests_per_minute = 7\n[limiters.goal_unblock]\nmax_burst = 1\n";
    let config = Config::default().with_file(file(text));
    let known = config.resolve(account(Scope::Limiter, "", "goal_unblock"), NOW).limits;
    assert_eq!(known.get(LimitKind::RequestsPerMinute).map(|limit| limit.cap), Some(10));
    assert_eq!(known.get(LimitKind::MaxBurst).map(|limit| limit.cap), Some(1));
    let stranger = config.resolve(account(Scope::Limiter, "", "stranger"), NOW).limits;
    assert_eq!(stranger.get(LimitKind::RequestsPerMinute).map(|limit| limit.cap), Some(7));
    assert_eq!(stranger.get(LimitKind::RequestsPerHour).map(|limit| limit.cap), Some(1_500));
}

#[test]
fn the_stronger_source_wins_limit_by_limit() {
    let kind = LimitKind::RequestsPerMinute;
    let acme = workspace("acme");
    let mut environment = EnvLimits::default();
    environment.set_limit("OPENAI_RATE_LIMIT_PER_MINUTE", kind, " 400 ").unwrap();
    environment.set_limit("OPENAI_DAILY_TOKEN_LIMIT", LimitKind::TokensPerDay, "7").unwrap();

    let builtin = Config::default();
    let environment = builtin.with_environment(environment);
    let defaults = environment.with_file(file("[defaults]\nrequests_per_minute = 300\n"));
    let table = environment
        .with_file(file("[defaults]\nrequests_per_minute = 300\n[workspaces.acme]\nrequests_per_minute = 200\n"));
    let overridden = table.with_override(acme, LimitSet::NONE.with(kind, 100), None);
    for (config, cap, source) in [
        (&builtin, 500, Source::Builtin),
        (&environment, 400, Source::Environment),
        (&defaults, 300, Source::File),
        (&table, 200, Source::File),
        (&overridden, 100, Source::Override),
    ] {
        let resolved = config.resolve(acme, NOW);
        assert_eq!(resolved.limits.get(kind), Some(Limit { cap, mode: Mode::Enforce }));
        assert_eq!((resolved.source_of(kind), resolved.source()), (Some(source), source));
        assert_eq!(resolved.source_of(LimitKind::RequestsPerDay), Some(Source::Builtin), "the others stay");
        assert_eq!(resolved.source_of(LimitKind::MaxBurst), None);
    }
    // Set in the environment, a limit that only observed enforces.
    assert_eq!(enforced(&builtin, acme, LimitKind::TokensPerDay), None);
    assert_eq!(enforced(&overridden, acme, LimitKind::TokensPerDay), Some(7));
    assert_eq!(enforced(&table, workspace("other"), kind), Some(300));
    assert_eq!(enforced(&environment, account(Scope::Goal, "acme", "g"), kind), None);
    let versions = [&builtin, &environment, &defaults, &table, &overridden].map(Config::version);
    assert_eq!(versions, [1, 2, 3, 3, 4]);
}

#[test]
fn a_limit_can_be_lifted_and_the_reason_is_still_told() {
    let config = Config::default().with_file(file("[workspaces.acme]\nrequests_per_minute = \"unlimited\"\n"));
    let resolved = config.resolve(workspace("acme"), NOW);
    assert_eq!(resolved.limits.get(LimitKind::RequestsPerMinute), None);
    assert_eq!(resolved.source_of(LimitKind::RequestsPerMinute), Some(Source::File));
    assert_eq!(enforced(&config, workspace("other"), LimitKind::RequestsPerMinute), Some(500));
}

#[test]
fn thresholds_and_zones_come_from_the_nearest_source() {
    let mut environment = EnvLimits::default();
    environment.set_near_percent("OPENAI_WARNING_THRESHOLD_PERCENT", 60).unwrap();
    environment.set_critical_percent("OPENAI_CRITICAL_THRESHOLD_PERCENT", 90).unwrap();
    environment.set_time_zone("LLMQUOTA_TIMEZONE", " America/New_York ").unwrap();
    environment.set_on_store_failure(OnStoreFailure::Open);
    let text = "[defaults]\ntimezone = 'Asia/Tokyo'\ncritical_percent = 80\n[workspaces.acme]\nnear_percent = 85\n";
    let below = Config::default().with_environment(environment);
    let config = below.with_file(file(text));

    let acme = config.resolve(workspace("acme"), NOW);
    assert_eq!(acme.thresholds, Thresholds { near: 85, critical: 85 }, "critical is never below near");
    assert_eq!(acme.timezone.iana_name(), Some("Asia/Tokyo"));
    assert_eq!(acme.on_store_failure, OnStoreFailure::Open);
    assert_eq!(config.resolve(workspace("other"), NOW).thresholds, Thresholds { near: 60, critical: 80 });
    // [defaults] is about workspaces; a limiter has the zone of the environment.
    let limiter = config.resolve(account(Scope::Limiter, "", "default"), NOW);
    assert_eq!(limiter.timezone.iana_name(), Some("America/New_York"));
    assert_eq!(below.resolve(workspace("acme"), NOW).thresholds, Thresholds { near: 60, critical: 90 });
}

#[test]
fn the_environment_refuses_what_is_no_number_and_keeps_what_was() {
    let mut environment = EnvLimits::default();
    environment.set_limit("X", LimitKind::RequestsPerMinute, "0").unwrap();
    environment.set_limit("X", LimitKind::BudgetUsdPerMonth, "12.50").unwrap();
    let before = environment.clone();
    let past = (MAX_COUNT + 1).to_string();
    for text in
        ["", " ", "abc", "1e3", "-5", "+5", "1.5", "nan", "inf", "0x10", "5 0", &past, "99999999999999999999999"]
    {
        let error =
            environment.set_limit("OPENAI_RATE_LIMIT_PER_MINUTE", LimitKind::RequestsPerMinute, text).unwrap_err();
        assert_eq!(error.code(), Code::InvalidLimit, "{text}");
        assert_eq!(error.field(), "OPENAI_RATE_LIMIT_PER_MINUTE");
    }
    for text in ["", "abc", "1e3", "-5", "-0.0", "nan", "1,5", "9223372037"] {
        let error = environment.set_limit("OPENAI_MONTHLY_BUDGET_USD", LimitKind::BudgetUsdPerMonth, text).unwrap_err();
        assert_eq!(error.code(), Code::InvalidLimit, "{text}");
    }
    assert_eq!(environment.set_near_percent("N", 0).unwrap_err().code(), Code::InvalidNumber);
    assert_eq!(environment.set_critical_percent("C", 101).unwrap_err().code(), Code::InvalidNumber);
    assert_eq!(environment.set_time_zone("Z", "Mars/Olympus").unwrap_err().code(), Code::InvalidTimeZone);
    assert_eq!(environment, before);
    let config = Config::unlimited().with_environment(environment);
    assert_eq!(enforced(&config, workspace("acme"), LimitKind::RequestsPerMinute), Some(0));
    assert_eq!(enforced(&config, workspace("acme"), LimitKind::BudgetUsdPerMonth), Some(12_500_000_000));
}

#[test]
fn an_override_ends_at_its_wall_time() {
    let kind = LimitKind::RequestsPerMinute;
    let (acme, goal) = (workspace("acme"), account(Scope::Goal, "acme", "g"));
    let set = |cap| LimitSet::NONE.with(kind, cap);
    let config = Config::default()
        .with_override(acme, set(1), Some(NOW + 20))
        .with_override(goal, set(2), Some(NOW + 10))
        .with_override(workspace("other"), set(3), None);
    assert_eq!(config.next_expiry(), Some(NOW + 10));
    assert_eq!(config.resolve(acme, NOW).expires_wall_nanos, Some(NOW + 20));
    assert_eq!(config.without_expired(NOW + 9), None);

    let cap = |config: &Config, account, now| config.resolve(account, now).limits.get(kind).map(|limit| limit.cap);
    assert_eq!(cap(&config, goal, NOW + 9), Some(2));
    assert_eq!(cap(&config, goal, NOW + 10), None, "ended to the nanosecond");
    assert_eq!(cap(&config, acme, NOW + 20), Some(500));

    let later = config.without_expired(NOW + 10).unwrap();
    assert_eq!((later.version(), later.next_expiry()), (config.version() + 1, Some(NOW + 20)));
    assert_eq!(later.overrides().count(), 2);
    let last = later.without_expired(i64::MAX).unwrap();
    assert_eq!((last.next_expiry(), cap(&last, workspace("other"), i64::MAX)), (None, Some(3)));
    assert_eq!(last.without_expired(i64::MAX), None);

    // The earlier configuration is untouched, an override can be replaced, and taken away once.
    assert_eq!(cap(&config, goal, NOW), Some(2));
    assert_eq!(cap(&config.with_override(goal, set(9), None), goal, NOW), Some(9));
    let without = config.without_override(goal).unwrap();
    assert_eq!((cap(&without, goal, NOW), without.next_expiry()), (None, Some(NOW + 20)));
    assert_eq!(without.without_override(goal), None);
}

#[test]
fn an_override_can_come_as_a_mapping() {
    let table = LimitTable::from_json(&json!({"requests_per_minute": 5, "tokens_per_minute": "unlimited"}), "override")
        .unwrap();
    let config = Config::default().with_override(workspace("acme"), table, None);
    let resolved = config.resolve(workspace("acme"), NOW);
    assert_eq!(resolved.limits.get(LimitKind::RequestsPerMinute).map(|limit| limit.cap), Some(5));
    assert_eq!(resolved.limits.get(LimitKind::TokensPerMinute), None);
    assert_eq!(table.get(LimitKind::MaxBurst), Setting::Inherit);
    let error = LimitTable::from_json(&json!({"request_per_minute": 5}), "override").unwrap_err();
    assert_eq!(error.to_string(), "override: request_per_minute: unknown key; did you mean 'requests_per_minute'?");
}
