//! Which settings hold, case by case.

use llmquota::config::{Change, Config, LimitTable, LimitsFile, OnStoreFailure, Override, Published, Source};
use llmquota::error::Code;
use llmquota::rules::limits::{LimitKind, LimitSet, Mode, Thresholds};
use serde_json::json;

use super::{
    BUDGET, NOW, RPM, cap, enforced, environment, held, joined, published, publisher, with_file, with_variables,
    workspace,
};

const DAY: i64 = 86_400_000_000_000;

fn set(cap: u64, expires: Option<i64>) -> Override {
    Override { limits: LimitSet::NONE.with(RPM, cap).into(), expires_wall_nanos: expires }
}

#[test]
fn of_two_environments_the_lower_limit_holds() {
    let low = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "100"), ("OPENAI_MONTHLY_BUDGET_USD", "80")]);
    let high = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "200"), ("OPENAI_MONTHLY_BUDGET_USD", "20.50")]);
    for order in [[&low, &high], [&high, &low]] {
        let held = held(&published(order));
        assert_eq!(cap(&held, RPM), Some((100, Mode::Enforce)));
        assert_eq!(cap(&held, BUDGET), Some((20_500_000_000, Mode::Enforce)));
        assert_eq!(held.resolve(workspace("acme"), NOW).source_of(RPM), Some(Source::Environment));
    }
}

#[test]
fn where_a_process_sets_nothing_what_is_built_in_stands_for_it() {
    let silent = Config::default();
    let raised = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "1000"), ("MAX_CONCURRENT", "7")]);
    let both = held(&published([&raised, &silent]));
    assert_eq!(cap(&both, RPM), Some((500, Mode::Enforce)));
    assert_eq!(both.resolve(workspace("acme"), NOW).source_of(RPM), Some(Source::Builtin));
    assert_eq!(cap(&both, LimitKind::MaxConcurrent), Some((7, Mode::Enforce)), "nothing is built in here");
    // Without what is built in, silence is no limit.
    assert_eq!(cap(&held(&published([&raised, &Config::unlimited()])), RPM), Some((1000, Mode::Enforce)));
    // What is built in holds for all where one process has it, limiters included.
    let limited = held(&published([&Config::unlimited(), &silent]));
    assert_eq!(cap(&limited, RPM), Some((500, Mode::Enforce)));
}

#[test]
fn a_limit_that_enforces_is_lower_than_one_that_observes() {
    let asked = with_variables(&[("OPENAI_DAILY_TOKEN_LIMIT", "9000000"), ("OPENAI_MONTHLY_BUDGET_USD", "5000")]);
    let held = held(&published([&Config::default(), &asked]));
    assert_eq!(cap(&held, LimitKind::TokensPerDay), Some((9_000_000, Mode::Enforce)));
    assert_eq!(cap(&held, BUDGET), Some((5_000_000_000_000, Mode::Enforce)));
}

#[test]
fn the_lower_percentages_hold_and_the_first_zone_and_policy() {
    let first = with_variables(&[
        ("OPENAI_WARNING_THRESHOLD_PERCENT", "70"),
        ("OPENAI_CRITICAL_THRESHOLD_PERCENT", "99"),
        ("LLMQUOTA_TIMEZONE", "europe/rome"),
    ]);
    let second = with_variables(&[
        ("OPENAI_WARNING_THRESHOLD_PERCENT", "75"),
        ("OPENAI_CRITICAL_THRESHOLD_PERCENT", "90"),
        ("LLMQUOTA_TIMEZONE", "Asia/Tokyo"),
        ("on_store_failure", "open"),
    ]);
    // One that sets no zone does not count, though it came first.
    let all = published([&Config::default(), &first, &second]);
    let resolved = held(&all).resolve(workspace("acme"), NOW);
    assert_eq!(resolved.thresholds, Thresholds { near: 70, critical: 90 });
    assert_eq!(resolved.timezone.iana_name(), Some("Europe/Rome"));
    assert_eq!(resolved.on_store_failure, OnStoreFailure::Open);
    // The first zone holds as long as any process has it, and then the next.
    let more = joined(&all, 4, &first);
    let later = more.forget(|process| process.pid != 2).unwrap();
    assert_eq!(held(&later).resolve(workspace("acme"), NOW).timezone.iana_name(), Some("Europe/Rome"));
    let last = later.forget(|process| process.pid != 4).unwrap();
    assert_eq!(held(&last).resolve(workspace("acme"), NOW).timezone.iana_name(), Some("Asia/Tokyo"));
}

#[test]
fn what_a_process_brought_ends_with_it() {
    let low = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "100")]);
    let high = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "400")]);
    let both = published([&low, &high]);
    let left = both.forget(|process| process.pid == 2).unwrap();
    assert_eq!(cap(&held(&left), RPM), Some((400, Mode::Enforce)));
    assert!(left.version() > both.version() && left.has(publisher(2)) && !left.has(publisher(1)));
    // The dead are also forgotten by the next that joins.
    let next = both.merge(publisher(3), &high, |process| process.pid != 1).unwrap();
    assert_eq!(cap(&held(&next), RPM), Some((400, Mode::Enforce)));
    // A process of the same number that came later is another one.
    let reborn = llmquota::config::Publisher { id: 77, pid: 2 };
    assert!(!left.has(reborn));
}

#[test]
fn the_version_rises_only_when_something_else_holds() {
    let config = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "100")]);
    let one = published([&config]);
    assert_eq!(one.version(), 1);
    assert_eq!(one.merge(publisher(1), &config, |_| true), None, "nothing is to be written");
    // Another process with the same settings, or with a higher limit: to be written, but nothing is to be taken.
    let two = one.merge(publisher(2), &config, |_| true).unwrap();
    let three = two.merge(publisher(3), &with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "300")]), |_| true).unwrap();
    assert_eq!((two.version(), three.version()), (1, 1));
    let four = three.merge(publisher(4), &with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "50")]), |_| true).unwrap();
    assert_eq!(four.version(), 2);
    assert_eq!(four.forget(|_| true), None);
    // The first that is published after a loss gets a version that nobody has.
    let again = Published::new(four.version()).merge(publisher(1), &config, |_| true).unwrap();
    assert_eq!(again.version(), 3);
}

#[test]
fn of_two_limits_files_the_newer_holds() {
    let old = with_file("/a/limits.toml", "[defaults]\nrequests_per_minute = 10\n", NOW);
    let new = with_file("/b/limits.toml", "[defaults]\nrequests_per_minute = 900\n", NOW + 1);
    for order in [[&old, &new], [&new, &old]] {
        let held = held(&published(order));
        assert_eq!(enforced(&held, RPM), Some(900));
        assert_eq!(held.resolve(workspace("acme"), NOW).source_of(RPM), Some(Source::File));
    }
    // A process that names none follows, and a mapping is older than any file.
    let mapping = LimitsFile::from_json(&json!({"defaults": {"requests_per_minute": 1}}), "limits").unwrap();
    let mapping = Config::default().with_file(mapping);
    assert_eq!(enforced(&held(&published([&old, &Config::default(), &mapping])), RPM), Some(10));
    // Whoever read the file anew after an older copy was put back holds it until the others have looked too.
    let both = published([&new, &new]);
    let one = joined(&both, 1, &old);
    assert_eq!(enforced(&held(&one), RPM), Some(900));
    assert_eq!(enforced(&held(&joined(&one, 2, &old)), RPM), Some(10));
}

#[test]
fn of_two_files_as_old_the_one_that_came_last_holds_and_stays() {
    let first = with_file("limits.toml", "defaults.requests_per_minute = 10", NOW);
    let second = with_file("limits.toml", "defaults.requests_per_minute = 20", NOW);
    let both = published([&first, &second]);
    assert_eq!(enforced(&held(&both), RPM), Some(20));
    // Another process with the first, or the same once more, is no later change.
    let third = joined(&joined(&both, 3, &first), 1, &first);
    assert_eq!(enforced(&held(&third), RPM), Some(20));
    assert_eq!(third.version(), both.version());
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_last_good_one_in_force() {
    let good = with_file("/etc/limits.toml", "defaults.requests_per_minute = 10", NOW);
    let broken = Config::default().with_unreadable_file("/etc/limits.toml");
    let before = published([&good]);
    // Every process that has read it is gone.
    let after = before.merge(publisher(9), &broken, |_| false).unwrap();
    assert_eq!(enforced(&held(&after), RPM), Some(10));
    assert_eq!(after.version(), before.version());
    let other = before.merge(publisher(9), &Config::default().with_unreadable_file("/b"), |_| false).unwrap();
    assert_eq!(enforced(&held(&other), RPM), Some(500));
    // Mended, it is read again.
    let mended = broken.with_file(LimitsFile::parse("defaults.requests_per_minute = 11", "/etc/limits.toml").unwrap());
    assert_eq!(enforced(&held(&after.merge(publisher(9), &mended, |_| true).unwrap()), RPM), Some(11));
    assert_eq!(enforced(&broken, RPM), Some(500), "alone, nothing changes");
}

#[test]
fn overrides_belong_to_the_store() {
    let acme = workspace("acme");
    let start = published([&Config::default(), &Config::default()]);
    let one = start.apply(&Change::Set(acme, set(5, None))).unwrap().unwrap();
    let two = one.apply(&Change::Set(acme, set(7, Some(NOW + 10)))).unwrap().unwrap();
    assert_eq!(enforced(&held(&two), RPM), Some(7), "the later change holds");
    assert_eq!(held(&two).next_expiry(), Some(NOW + 10));
    assert_eq!(two.apply(&Change::Set(acme, set(7, Some(NOW + 10)))).unwrap(), None);
    // Whoever joins with an override of its own changes none, and those who set them may go.
    let joined =
        two.merge(publisher(3), &Config::default().with_override(acme, LimitSet::NONE.with(RPM, 1), None), |_| false);
    assert_eq!(enforced(&held(&joined.unwrap()), RPM), Some(7));
    let removed = two.apply(&Change::Remove(acme)).unwrap().unwrap();
    assert_eq!(enforced(&held(&removed), RPM), Some(500));
    assert_eq!(removed.apply(&Change::Remove(acme)).unwrap(), None, "there was none");
    let versions = [&start, &one, &two, &removed].map(Published::version);
    assert_eq!(versions, [1, 2, 3, 4]);
}

#[test]
fn an_override_that_has_ended_is_kept_for_a_day() {
    let start = published([&Config::default()]);
    let ending = start.apply(&Change::Set(workspace("acme"), set(5, Some(NOW)))).unwrap().unwrap();
    assert_eq!(ending.without_ended(NOW + DAY - 1), None);
    let without = ending.without_ended(NOW + DAY).unwrap();
    assert_eq!(held(&without).overrides().count(), 0);
    let lasting = start.apply(&Change::Set(workspace("acme"), set(5, None))).unwrap().unwrap();
    assert_eq!(lasting.without_ended(i64::MAX), None);
}

#[test]
fn what_no_other_process_could_read_is_refused() {
    let start = Published::new(0);
    for (kind, most) in [(RPM, 1 << 53), (BUDGET, i64::MAX.unsigned_abs())] {
        let entry = |cap| Override { limits: LimitSet::NONE.with(kind, cap).into(), expires_wall_nanos: None };
        assert!(start.apply(&Change::Set(workspace("acme"), entry(most))).unwrap().is_some());
        let error = start.apply(&Change::Set(workspace("acme"), entry(most + 1))).unwrap_err();
        assert_eq!((error.code(), error.field()), (Code::InvalidLimit, kind.as_str()));
    }
    let error = start.apply(&Change::Set(workspace("a\nb"), set(1, None))).unwrap_err();
    assert_eq!(error.code(), Code::InvalidId);
}

#[test]
fn a_process_keeps_what_it_was_itself_configured_with() {
    let mine = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "400")])
        .with_file(LimitsFile::parse("defaults.max_burst = 9", "/a").unwrap().changed_at(NOW));
    let other = with_file("/b", "defaults.max_burst = 3", NOW + 5);
    let all = published([&mine, &other, &with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "100")])]);
    let taken = all.config(&mine).unwrap();
    assert_eq!((enforced(&taken, RPM), enforced(&taken, LimitKind::MaxBurst)), (Some(100), Some(3)));
    assert_ne!(taken.version(), mine.version());
    // It publishes its own again, and not what it has taken from others; also after a change of one of them.
    assert_eq!(all.merge(publisher(1), &taken, |_| true), None);
    let changed = taken.with_environment(environment(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "300")]));
    let alone = all.merge(publisher(1), &changed, |process| process.pid == 1).unwrap();
    let alone = held(&alone);
    assert_eq!((enforced(&alone, RPM), enforced(&alone, LimitKind::MaxBurst)), (Some(300), Some(9)));
}

#[test]
fn a_table_of_limits_is_read_back_from_its_own_mapping() {
    let mapping = json!({
        "requests_per_minute": 5,
        "tokens_per_day": {"cap": 7, "mode": "observe"},
        "tokens_per_minute": "unlimited",
        "budget_usd_per_day": "0.000000001",
        "budget_usd_per_month": {"cap": "12.50", "mode": "observe"},
    });
    let table = LimitTable::from_json(&mapping, "limits").unwrap();
    assert_eq!(table.to_json(), mapping);
}
