//! What a limits file may say, and what each mistake in it is answered with.

#![allow(clippy::unwrap_used, reason = "what fails to unwrap fails its test")]

use jiff::tz::TimeZone;
use llmquota::account::{AccountId, Scope};
use llmquota::config::{Config, LimitsFile, OnStoreFailure, Source};
use llmquota::error::Code;
use llmquota::rules::limits::{Limit, LimitKind, MAX_COUNT, Mode, Thresholds};
use llmquota::usage::pricing::UnknownModel;
use proptest::prelude::*;
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

const EXAMPLE: &str = r#"
[defaults]                      # any workspace that has no table of its own
requests_per_minute = 500
budget_usd_per_month = 100
[workspaces.acme]
tokens_per_minute = 400_000
timezone = "Europe/Rome"
near_percent = 70
on_store_failure = "open"
[workspaces.acme.goals."goal-1"]
budget_usd_per_month = 20
[workspaces.acme.models."gpt-4o"]
tokens_per_day = 1_000_000
[workspaces.acme.users."u@example.org"]
max_concurrent = 2
[workspaces.acme.tasks.nightly]
budget_usd_per_day = "0.125"
[providers.openai]
max_concurrent = 50
[providers.openai."gpt-4o"]     # shared by all workspaces; learned from headers where absent
requests_per_minute = 10_000
[providers.openai.credentials.ab12]
max_concurrent = 5
[providers.openai.credentials.ab12."gpt-4o"]
tokens_per_minute = { cap = 30_000, mode = "observe" }
[limiters.default]
requests_per_minute = 7
[limiters.goal_unblock]
max_burst = 1
[pricing]
usd_per_1000_tokens = 0.02
unknown_model = "block"
"#;

#[test]
fn a_file_speaks_for_every_kind_of_account() {
    let config = Config::unlimited().with_file(file(EXAMPLE));
    for (account, kind, cap) in [
        (workspace("acme"), LimitKind::TokensPerMinute, 400_000),
        (workspace("acme"), LimitKind::RequestsPerMinute, 500),
        (workspace("other"), LimitKind::BudgetUsdPerMonth, 100_000_000_000),
        (account(Scope::Goal, "acme", "goal-1"), LimitKind::BudgetUsdPerMonth, 20_000_000_000),
        (account(Scope::Model, "acme", "gpt-4o"), LimitKind::TokensPerDay, 1_000_000),
        (account(Scope::User, "acme", "u@example.org"), LimitKind::MaxConcurrent, 2),
        (account(Scope::Task, "acme", "nightly"), LimitKind::BudgetUsdPerDay, 125_000_000),
        (account(Scope::Credential, "", "openai/ab12"), LimitKind::MaxConcurrent, 5),
        (account(Scope::Credential, "", "openai/cd34"), LimitKind::MaxConcurrent, 50),
        (account(Scope::ProviderModel, "openai/ab12", "gpt-4o"), LimitKind::RequestsPerMinute, 10_000),
        (account(Scope::ProviderModel, "openai/cd34", "gpt-4o"), LimitKind::RequestsPerMinute, 10_000),
        (account(Scope::Limiter, "", "stranger"), LimitKind::RequestsPerMinute, 7),
        (account(Scope::Limiter, "", "goal_unblock"), LimitKind::MaxBurst, 1),
    ] {
        assert_eq!(enforced(&config, account, kind), Some(cap), "{account:?}");
        assert_eq!(config.resolve(account, NOW).source_of(kind), Some(Source::File), "{account:?}");
    }
    for stranger in [
        account(Scope::Goal, "other", "goal-1"),
        account(Scope::Task, "acme", "goal-1"),
        account(Scope::Credential, "", "azure/ab12"),
        account(Scope::ProviderModel, "openai/ab12", "gpt-5"),
        account(Scope::ProviderModel, "azure/ab12", "gpt-4o"),
    ] {
        let resolved = config.resolve(stranger, NOW);
        assert!(resolved.limits.is_empty(), "{stranger:?}");
        assert_eq!(resolved.source(), Source::Builtin);
    }
    let observed = config.resolve(account(Scope::ProviderModel, "openai/ab12", "gpt-4o"), NOW).limits;
    assert_eq!(observed.get(LimitKind::TokensPerMinute), Some(Limit { cap: 30_000, mode: Mode::Observe }));
    assert_eq!(config.tariff().per_1k_tokens().nanos(), 20_000_000);
    assert_eq!(config.tariff().unknown_model(), UnknownModel::Block);
}

#[test]
fn what_lies_inside_a_workspace_has_its_zone_thresholds_and_policy() {
    let config = Config::default().with_file(file(EXAMPLE));
    for inside in [workspace("acme"), account(Scope::Goal, "acme", "any")] {
        let resolved = config.resolve(inside, NOW);
        assert_eq!(resolved.timezone.iana_name(), Some("Europe/Rome"));
        assert_eq!(resolved.thresholds, Thresholds { near: 70, critical: 95 });
        assert_eq!(resolved.on_store_failure, OnStoreFailure::Open);
    }
    for outside in [workspace("other"), account(Scope::Credential, "", "acme/x"), account(Scope::Limiter, "", "acme")] {
        let resolved = config.resolve(outside, NOW);
        assert_eq!(resolved.timezone, TimeZone::UTC);
        assert_eq!(resolved.thresholds, Thresholds::default());
        assert_eq!(resolved.on_store_failure, OnStoreFailure::Closed);
    }
}

#[test]
fn a_mapping_says_what_a_text_says() {
    let value = json!({
        "defaults": {"requests_per_minute": 500, "budget_usd_per_month": 100},
        "workspaces": {"acme": {
            "tokens_per_minute": 400_000, "timezone": "Europe/Rome", "near_percent": 70, "on_store_failure": "open",
            "goals": {"goal-1": {"budget_usd_per_month": 20.0}},
            "models": {"gpt-4o": {"tokens_per_day": 1_000_000}},
            "users": {"u@example.org": {"max_concurrent": 2}},
            "tasks": {"nightly": {"budget_usd_per_day": 0.125}},
        }},
        "providers": {"openai": {
            "max_concurrent": 50,
            "gpt-4o": {"requests_per_minute": 10_000},
            "credentials": {"ab12": {
                "max_concurrent": 5,
                "gpt-4o": {"tokens_per_minute": {"cap": 30_000, "mode": "observe"}},
            }},
        }},
        "limiters": {"default": {"requests_per_minute": 7}, "goal_unblock": {"max_burst": 1}},
        "pricing": {"usd_per_1000_tokens": "0.02", "unknown_model": "block"},
    });
    assert_eq!(LimitsFile::from_json(&value, "limits").unwrap(), file(EXAMPLE));
    assert_eq!(LimitsFile::from_json(&json!({}), "limits").unwrap(), file(""));
}

#[test]
fn the_documented_file_and_its_documented_mistake_are_real() {
    let page = include_str!("../../docs/settings.md");
    let block = |fence: &str| page.split_once(fence).and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let config = Config::default().with_file(file(block("```toml\n")));
    let acme = config.resolve(workspace("acme"), NOW);
    assert_eq!(acme.limits.get(LimitKind::TokensPerDay), Some(Limit { cap: 5_000_000, mode: Mode::Observe }));
    assert_eq!(acme.limits.get(LimitKind::RequestsPerDay), None);

    let text = "[workspaces.acme]\n\nrequest_per_minute = 1\n";
    let error = LimitsFile::parse(text, "limits.toml").unwrap_err();
    assert_eq!(block("```text\n").trim_end(), error.to_string());
}

#[test]
fn the_names_of_no_workspace_are_one_workspace() {
    let config = Config::unlimited().with_file(file("[workspaces._global]\nrequests_per_minute = 3\n"));
    assert_eq!(enforced(&config, workspace("global"), LimitKind::RequestsPerMinute), Some(3));
}

#[test]
fn money_is_read_from_its_digits() {
    for (written, nanos) in [
        ("0", 0),
        ("12", 12_000_000_000),
        ("1_000", 1_000_000_000_000),
        ("0.1", 100_000_000),
        ("\"0.0000000005\"", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("1_0.000_000_000_5", 10_000_000_000),
        ("9007199.254740993", 9_007_199_254_740_993),
        ("\"9223372036.854775807\"", i64::MAX.unsigned_abs()),
    ] {
        let config = Config::unlimited().with_file(file(&format!("defaults.budget_usd_per_day = {written}")));
        assert_eq!(enforced(&config, workspace("w"), LimitKind::BudgetUsdPerDay), Some(nanos), "{written}");
    }
}

#[test]
fn each_mistake_is_answered_with_its_place_and_what_would_be_right() {
    const COUNT: &str =
        "a whole number from 0 (which blocks) to 9007199254740992, written without fraction or exponent";
    const MONEY: &str = "US dollars from 0 (which blocks) to 9223372036, such as 12.50, written without exponent";
    let count = |value: &str| {
        format!("line 2, column 23: defaults.requests_per_minute: '{value}' is not valid; expected {COUNT}")
    };
    let money = |value: &str| {
        format!("line 2, column 22: defaults.budget_usd_per_day: '{value}' is not valid; expected {MONEY}")
    };
    for (value, shown) in [
        ("\"abc\"", "abc"),
        ("\"500\"", "500"),
        ("-5", "-5"),
        ("1e3", "1e3"),
        ("1.0", "1.0"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("true", "true"),
        ("[1]", "[...]"),
        ("9_007_199_254_740_993", "9007199254740993"),
        ("99999999999999999999999", "99999999999999999999999"),
        ("2026-01-31", "2026-01-31"),
    ] {
        let text = format!("[defaults]\nrequests_per_minute = {value}\n");
        let error = LimitsFile::parse(&text, "limits.toml").unwrap_err();
        assert_eq!(error.to_string(), format!("limits.toml, {}", count(shown)));
        assert_eq!((error.code(), error.field()), (Code::InvalidLimit, "defaults.requests_per_minute"));
    }
    for (value, shown) in [
        ("\"abc\"", "abc"),
        ("-0.01", "-0.01"),
        ("-0.0", "-0.0"),
        ("1e3", "1e3"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("9223372037", "9223372037"),
        ("false", "false"),
    ] {
        let text = format!("[defaults]\nbudget_usd_per_day = {value}\n");
        let error = LimitsFile::parse(&text, "limits.toml").unwrap_err();
        assert_eq!(error.to_string(), format!("limits.toml, {}", money(shown)));
        assert_eq!(error.code(), Code::InvalidLimit);
    }
    let long = "k".repeat(300);
    let id = "is not valid; expected 1 to 256 bytes of UTF-8 without control characters";
    let kinds = LimitKind::ALL.map(LimitKind::as_str).join(", ");
    for (text, code, message) in [
        ("[default]\n", Code::InvalidConfig, "line 1, column 2: default: unknown key; did you mean 'defaults'?".to_owned()),
        ("x = 1\n", Code::InvalidConfig, "line 1, column 1: x: unknown key; expected one of defaults, workspaces, providers, limiters, pricing".to_owned()),
        ("defaults = 1\n", Code::InvalidConfig, "line 1, column 12: defaults: '1' is not valid; expected a table of limits".to_owned()),
        ("[workspaces]\nacme = 5\n", Code::InvalidConfig, "line 2, column 8: workspaces.acme: '5' is not valid; expected a table of limits".to_owned()),
        ("[workspaces.acme]\n\n  request_per_minute = 1\n", Code::InvalidLimit, "line 3, column 3: workspaces.acme.request_per_minute: unknown key; did you mean 'requests_per_minute'?".to_owned()),
        ("[workspaces.acme.models.\"gpt-4.1\"]\ntimezone = 'UTC'\n", Code::InvalidLimit, format!("line 2, column 1: workspaces.acme.models.\"gpt-4.1\".timezone: unknown key; expected one of {kinds}")),
        ("[defaults.goals.g]\n", Code::InvalidLimit, format!("line 1, column 11: defaults.goals: unknown key; expected one of {kinds}, timezone, near_percent, critical_percent, on_store_failure, weight")),
        ("[defaults]\ntimezone = 'Europe/Rom'\n", Code::InvalidTimeZone, "line 2, column 12: defaults.timezone: 'Europe/Rom' is not valid; expected an IANA time zone; did you mean 'Europe/Rome'?".to_owned()),
        ("[defaults]\ntimezone = 3\n", Code::InvalidTimeZone, "line 2, column 12: defaults.timezone: '3' is not valid; expected the name of a time zone".to_owned()),
        ("[workspaces.a]\nweight = 0\n", Code::InvalidNumber, "line 2, column 10: workspaces.a.weight: '0' is not valid; expected a whole number from 1 to 1000".to_owned()),
        ("[defaults]\nweight = 1.5\n", Code::InvalidNumber, "line 2, column 10: defaults.weight: '1.5' is not valid; expected a whole number from 1 to 1000".to_owned()),
        ("[defaults]\nnear_percent = 0\n", Code::InvalidNumber, "line 2, column 16: defaults.near_percent: '0' is not valid; expected a whole percentage from 1 to 100".to_owned()),
        ("[defaults]\nnear_percent = 90\ncritical_percent = 80\n", Code::InvalidNumber, "line 3, column 20: defaults: thresholds: 'near 90, critical 80' is not valid; expected percentages with 1 <= near <= critical <= 100".to_owned()),
        ("[defaults]\non_store_failure = 'close'\n", Code::InvalidChoice, "line 2, column 20: defaults.on_store_failure: 'close' is not valid; expected one of closed, open; did you mean 'closed'?".to_owned()),
        ("[defaults]\nmax_burst = { cap = 5, mode = 'watch' }\n", Code::InvalidChoice, "line 2, column 31: defaults.max_burst.mode: 'watch' is not valid; expected one of enforce, observe".to_owned()),
        ("[defaults]\nmax_burst = { mode = 'observe' }\n", Code::InvalidLimit, "line 2, column 13: defaults.max_burst: '{...}' is not valid; expected a cap, as in { cap = 100, mode = \"observe\" }".to_owned()),
        ("[defaults]\nmax_burst = { cap = 5, moode = 'observe' }\n", Code::InvalidLimit, "line 2, column 24: defaults.max_burst.moode: unknown key; did you mean 'mode'?".to_owned()),
        ("[defaults]\nmax_burst = { cap = 'abc' }\n", Code::InvalidLimit, format!("line 2, column 21: defaults.max_burst.cap: 'abc' is not valid; expected {COUNT}")),
        ("[providers.openai]\ngpt-4o = 5\n", Code::InvalidLimit, format!("line 2, column 1: providers.openai.gpt-4o: unknown key; expected one of {kinds}")),
        ("[providers.'a/b']\n", Code::InvalidId, "line 1, column 12: providers.\"a/b\": provider: 'a/b' is not valid; expected a name without '/'".to_owned()),
        ("[workspaces.\"a\\u0000\"]\n", Code::InvalidId, format!("line 1, column 13: workspaces.\"a\\0\": workspace_id: 'a\\0' {id}")),
        (&format!("[workspaces.w.users.{long}]\n"), Code::InvalidId, format!("line 1, column 21: workspaces.w.users.\"{0}...\": id: '{0}... (300 bytes)' {id}", "k".repeat(60))),
        ("[workspaces.global]\n[workspaces._global]\n", Code::InvalidConfig, "line 2, column 13: workspaces._global: a second table for the workspace 'global'; expected one of them".to_owned()),
        ("[pricing]\nusd_per_1000_tokens = -1\n", Code::InvalidNumber, format!("line 2, column 23: pricing.usd_per_1000_tokens: '-1' is not valid; expected {MONEY}")),
        ("[pricing]\nunknown_models = 'block'\n", Code::InvalidConfig, "line 2, column 1: pricing.unknown_models: unknown key; did you mean 'unknown_model'?".to_owned()),
    ] {
        let error = LimitsFile::parse(text, "limits.toml").expect_err(text);
        assert_eq!(error.to_string(), format!("limits.toml, {message}"), "{text}");
        assert_eq!(error.code(), code, "{text}");
    }
}

#[test]
fn the_first_mistake_of_a_table_is_the_one_that_is_told() {
    let error = LimitsFile::parse("[defaults]\ntokens_per_day = -1\nmax_burst = -1\n", "limits.toml").unwrap_err();
    assert_eq!(error.field(), "defaults.tokens_per_day");
}

#[test]
fn a_file_that_is_cut_off_or_is_no_toml_names_the_line() {
    for (text, place) in [
        ("[defaults]\nrequests_per_minute = 500\n[workspaces.ac", "line 3"),
        ("[defaults]\nrequests_per_minute = ", "line 2"),
        ("[defaults]\nrequests_per_minute", "line 2"),
        ("[defaults]\ntimezone = \"Europe/Ro", "line 2"),
        ("[defaults]\nmax_burst = { cap = 5,", "line 2"),
        ("[defaults]\n[defaults]\n", "line 2"),
        ("[defaults]\nmax_burst = 1\nmax_burst = 2\n", "line 3"),
        ("[defaults]\n\u{7}\n", "line 2"),
        ("{\"defaults\": {}}", "line 1"),
    ] {
        let error = LimitsFile::parse(text, "limits.toml").expect_err(text);
        assert_eq!(error.code(), Code::InvalidConfig, "{text}");
        assert!(error.to_string().starts_with(&format!("limits.toml, {place}, column ")), "{error}");
        assert!(error.to_string().contains("not valid TOML: "), "{error}");
    }
    let nested = format!("x = {}", "[".repeat(100_000));
    assert_eq!(LimitsFile::parse(&nested, "limits.toml").unwrap_err().code(), Code::InvalidConfig);
}

#[test]
fn a_mapping_names_the_path_and_no_line() {
    for (value, message) in [
        (json!([]), "limits: '[...]' is not valid; expected a table with the tables of limits.toml"),
        (
            json!({"workspaces": {"acme": {"near_percent": 101}}}),
            "limits: workspaces.acme.near_percent: '101' is not valid; expected a whole percentage from 1 to 100",
        ),
        (
            json!({"workspaces": {"acme": null}}),
            "limits: workspaces.acme: 'null' is not valid; expected a table of limits",
        ),
        (
            json!({"defaults": {"budget_usd_per_day": -0.5}}),
            "limits: defaults.budget_usd_per_day: '-0.5' is not valid; expected US dollars from 0 (which blocks) to 9223372036, such as 12.50, written without exponent",
        ),
    ] {
        assert_eq!(LimitsFile::from_json(&value, "limits").unwrap_err().to_string(), message);
    }
    // Doubles that are no number arrive as null.
    let error = LimitsFile::from_json(&json!({"defaults": {"budget_usd_per_day": f64::NAN}}), "limits").unwrap_err();
    assert_eq!(error.code(), Code::InvalidLimit);
}

/// Pieces of limits files, right and wrong, so that random texts get past the parser.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[defaults]\n".to_owned()),
        Just("[workspaces.acme]\n".to_owned()),
        Just("[workspaces.acme.goals.g]\n".to_owned()),
        Just("[providers.openai.credentials.c]\n".to_owned()),
        Just("[limiters.x]\n".to_owned()),
        Just("[pricing]\n".to_owned()),
        (select_key(), "-?[0-9_.e]{1,24}|\"[a-z0-9.]{0,9}\"|true|nan|\\{ cap = [0-9]{1,3} \\}")
            .prop_map(|(key, value)| format!("{key} = {value}\n")),
        "\\PC{0,12}\n",
    ]
}

fn select_key() -> impl Strategy<Value = String> {
    let known = LimitKind::ALL.map(|kind| kind.as_str().to_owned());
    prop_oneof![4 => proptest::sample::select(known.to_vec()), 1 => "[a-z_]{1,16}|timezone|near_percent|critical_percent"]
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = LimitsFile::parse(&text, "limits.toml");
    }

    #[test]
    fn text_that_looks_like_a_file_is_read_or_answered_with_a_place(pieces in prop::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        match LimitsFile::parse(&text, "limits.toml") {
            Ok(file) => {
                let resolved = Config::default().with_file(file).resolve(workspace("acme"), NOW);
                prop_assert!(resolved.thresholds.near <= resolved.thresholds.critical);
                prop_assert!(resolved.limits.iter().all(|(_, limit)| limit.cap <= i64::MAX.unsigned_abs()));
            }
            Err(error) => {
                let lines = text.lines().count() + 1;
                let message = error.to_string();
                let line = message.strip_prefix("limits.toml, line ").and_then(|rest| rest.split_once(',')).map(|(line, _)| line);
                prop_assert!(line.and_then(|line| line.parse().ok()).is_some_and(|line: usize| (1..=lines).contains(&line)), "{message}");
            }
        }
    }

    #[test]
    fn a_whole_number_that_fits_is_its_own_cap(cap in 0..=MAX_COUNT) {
        let config = Config::unlimited().with_file(file(&format!("defaults.tokens_per_day = {cap}")));
        prop_assert_eq!(enforced(&config, workspace("w"), LimitKind::TokensPerDay), Some(cap));
    }
}
