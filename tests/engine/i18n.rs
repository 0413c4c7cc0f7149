//! Every notice in every language: nothing missing, nothing mixed, and no argument that breaks a text.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod i18n_completeness;

use std::collections::{BTreeMap, BTreeSet};

use i18n_completeness::defects;
use llmquota::account::Scope;
use llmquota::rules::limits::{LimitKind, Mode};
use llmquota::signal::i18n::{Catalog, Rendered, SOURCES};
use llmquota::signal::notices::{Arg, Level, Notice, NoticeId, for_check, for_decision, for_snapshot};
use llmquota::wire::{BreakerLine, Decision, Holds, LimitLine, Quantity, Reason, Snapshot, Status, Usage};
use proptest::prelude::*;
use unic_langid::LanguageIdentifier;

fn language(tag: &str) -> LanguageIdentifier {
    tag.parse().unwrap()
}

fn say(notice: &Notice, tag: &str) -> Rendered {
    Catalog::bundled().render(notice, &language(tag))
}

/// A limit of which 60 and 30 of 100 are gone (0.6 and 0.3 of 1 dollar).
fn line(scope: Scope, kind: LimitKind) -> LimitLine {
    let money = matches!(kind, LimitKind::BudgetUsdPerDay | LimitKind::BudgetUsdPerMonth);
    let quantity = |percent: u64| if money { Quantity::Usd(percent as f64 / 100.0) } else { Quantity::Count(percent) };
    LimitLine {
        account: "g-1".into(),
        scope,
        limit: kind,
        mode: Mode::Enforce,
        cap: quantity(100),
        used: quantity(60),
        held: quantity(30),
        asked: quantity(20),
        percentage: 90.0,
        near: true,
        critical: false,
        debt: quantity(0),
        resets_at: Some("2026-01-31T12:00:07Z".into()),
    }
}

fn refusal(limits: Vec<LimitLine>) -> Decision {
    Decision {
        allowed: false,
        reason: Some(Reason::Limit),
        breaker: None,
        detail: None,
        retry_at: Some("2026-01-31T12:00:06.12Z".into()),
        retry_after_ms: Some(6_120),
        never_fits: false,
        queued_ahead: 0,
        limits,
    }
}

fn snapshot(status: Status, reasons: &[&str], limits: Vec<LimitLine>) -> Snapshot {
    let breakers = reasons.iter().filter_map(|reason| reason.strip_prefix("breaker:"));
    let breaker = |cause: &str| BreakerLine {
        account: "openai/ab12".into(),
        state: "open".into(),
        cause: Some(cause.into()),
        open_until: Some("2026-01-31T12:10:00Z".into()),
    };
    Snapshot {
        workspace_id: "acme".into(),
        status,
        status_reasons: reasons.iter().map(ToString::to_string).collect(),
        limits,
        usage: Usage::default(),
        holds: Holds::default(),
        provider_state: breakers.map(|cause| (cause.to_owned(), breaker(cause))).collect::<BTreeMap<_, _>>(),
        last_error_at: None,
        version: 1,
        as_of: "2026-01-31T12:00:00Z".into(),
    }
}

/// Notices as the engine makes them: every id, scope, kind and way to retry.
fn notices() -> Vec<Notice> {
    let mut notices = Vec::new();
    let minute = || line(Scope::Workspace, LimitKind::TokensPerMinute);
    for scope in Scope::ALL {
        for kind in LimitKind::ALL {
            let open = LimitLine { resets_at: None, ..line(scope, kind) };
            let blocked = LimitLine { cap: Quantity::Count(0), ..line(scope, kind) };
            let huge = LimitLine { asked: Quantity::Count(1_000), ..line(scope, kind) };
            notices.push(for_decision(&refusal(vec![line(scope, kind)])));
            notices.push(for_decision(&refusal(vec![line(scope, kind), minute()])));
            notices.push(for_decision(&refusal(vec![line(scope, kind), minute(), minute()])));
            notices.push(for_decision(&Decision { retry_at: None, retry_after_ms: None, ..refusal(vec![open]) }));
            notices.push(for_decision(&Decision { never_fits: true, ..refusal(vec![blocked]) }));
            notices.push(for_decision(&Decision { never_fits: true, ..refusal(vec![huge]) }));
        }
    }
    for cause in ["insufficient_quota", "rate_limit_exceeded", "failure_rate", "no_tokens_left", "odd"] {
        let reason = Some(Reason::Breaker);
        notices.push(for_decision(&Decision { reason, breaker: Some(cause.into()), ..refusal(Vec::new()) }));
    }
    for reason in [Reason::Queue, Reason::StoreBusy, Reason::StoreFull, Reason::Limit] {
        notices.push(for_decision(&Decision { reason: Some(reason), queued_ahead: 2, ..refusal(Vec::new()) }));
    }
    notices.push(for_decision(&Decision { allowed: true, reason: None, ..refusal(Vec::new()) }));
    let day = || line(Scope::Workspace, LimitKind::TokensPerDay);
    let states = [
        snapshot(Status::Normal, &[], vec![minute()]),
        snapshot(Status::Warning, &["near:tokens_per_minute"], vec![minute()]),
        snapshot(Status::Warning, &["critical:tokens_per_day"], vec![LimitLine { critical: true, ..day() }]),
        snapshot(Status::Warning, &["full:tokens_per_day"], vec![LimitLine { mode: Mode::Observe, ..day() }]),
        snapshot(Status::RateLimited, &["full:tokens_per_minute"], vec![minute()]),
        snapshot(Status::RateLimited, &["breaker:rate_limit_exceeded"], vec![minute()]),
        snapshot(Status::QuotaExceeded, &["full:tokens_per_day"], vec![day()]),
        snapshot(Status::QuotaExceeded, &["breaker:insufficient_quota"], vec![day()]),
        snapshot(Status::Degraded, &["breaker:failure_rate"], vec![minute()]),
    ];
    for state in &states {
        notices.push(for_snapshot(state));
        notices.push(for_check(state));
    }
    notices
}

#[test]
fn what_a_provider_has_nothing_left_of_is_told_as_its_own_rate_limit() {
    for cause in ["no_requests_left", "no_tokens_left"] {
        let (reason, breaker) = (Some(Reason::Breaker), Some(cause.to_owned()));
        let refusal = for_decision(&Decision { reason, breaker, ..refusal(Vec::new()) });
        assert_eq!(refusal.id, NoticeId::RefusedProviderRate);
        let told = for_snapshot(&snapshot(Status::RateLimited, &[&format!("breaker:{cause}")], vec![]));
        assert!(format!("{told:?}").contains(cause), "{told:?}");
    }
}

#[test]
fn the_bundled_texts_are_complete() {
    let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/locales")).unwrap();
    let folders: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        folders,
        SOURCES.iter().map(|(tag, _)| (*tag).to_owned()).collect(),
        "a folder without its line, or a line without"
    );
    assert_eq!(Catalog::bundled().problems(), [""; 0]);
    let (_, english) = SOURCES[0];
    for (tag, text) in SOURCES {
        assert_eq!(defects(english, text), [""; 0], "{tag}");
    }
}

#[test]
fn the_check_of_completeness_sees_each_kind_of_defect() {
    let english = "part = { $cap-text } { $cap ->\n    [one] call\n   *[other] calls\n}\nsaid = { $account } has { part }\n    .title = Title";
    let cases = [
        (english, None),
        ("part = { $cap-text }\nsaid = { part }: { $account }\n    .title = T", None),
        ("part = { $cap-text }\nsaid = { $account } { part }", Some("said.title is missing")),
        ("said = { $account } { $cap-text }\n    .title = T", Some("part is missing")),
        ("part = { $cap-text }\nsaid = { $account }\n    .title = T", Some("said lacks $cap-text")),
        ("part = { $cap-text }\nsaid = { part }\n    .title = T", Some("said lacks $account")),
        (
            "part = { $cap-text }\nsaid = { $acount } { $account } { part }\n    .title = T",
            Some("said has unknown $acount"),
        ),
        (
            "part = { $cap-text }\nsaid = { $account } { prt } { part }\n    .title = T",
            Some("said refers to unknown prt"),
        ),
        (
            "part = { $cap-text }\nsaid = { $account } { part }\n    .title = T\nsayd = x",
            Some("sayd is not in the reference"),
        ),
        ("part = { $cap-text }\nsaid = { $account { part }", Some("is not valid Fluent")),
    ];
    for (text, defect) in cases {
        let found = defects(english, text);
        match defect {
            None => assert_eq!(found, [""; 0], "{text}"),
            Some(defect) => assert!(found.iter().any(|found| found.contains(defect)), "{text}: {found:?}"),
        }
    }
}

#[test]
fn every_notice_renders_in_every_language() {
    let notices = notices();
    let made: BTreeSet<_> = notices.iter().map(|notice| notice.id.as_str()).collect();
    assert_eq!(
        made,
        NoticeId::ALL.iter().map(|id| id.as_str()).collect(),
        "an id that nothing makes, or no sample makes"
    );
    for notice in &notices {
        for (tag, _) in SOURCES {
            let rendered = say(notice, tag);
            assert_eq!(rendered.language, *tag, "fell back: {notice:?}");
            assert_eq!((rendered.id, rendered.level), (notice.id, notice.level));
            let silent = matches!(notice.id, NoticeId::StatusNormal | NoticeId::Allowed);
            assert_eq!(rendered.message.is_empty(), silent, "{rendered:?}");
            let all = [&rendered.title, &rendered.message].into_iter().chain(&rendered.actions);
            for text in all {
                assert!(!text.contains(['{', '}']) && !text.contains("  ") && text.trim() == text, "{text:?}");
            }
        }
    }
}

#[test]
fn legacy_titles_levels_and_actions_are_kept() {
    let cases = [
        (Status::Normal, "", Level::Info, 0),
        (Status::Warning, "API Quota Warning", Level::Warning, 3),
        (Status::RateLimited, "Rate Limited", Level::Warning, 3),
        (Status::QuotaExceeded, "Quota Exceeded", Level::Error, 3),
        (Status::Degraded, "Degraded Service", Level::Warning, 3),
    ];
    let reasons = ["near:tokens_per_minute", "full:tokens_per_minute", "full:tokens_per_day", "breaker:failure_rate"];
    let limits = [LimitKind::TokensPerMinute, LimitKind::TokensPerDay].map(|kind| line(Scope::Workspace, kind));
    for (status, title, level, actions) in cases {
        let rendered = say(&for_snapshot(&snapshot(status, &reasons, limits.to_vec())), "en");
        let got = (rendered.title.as_str(), rendered.level, rendered.actions.len());
        assert_eq!(got, (title, level, actions), "{status:?}");
    }
}

#[test]
fn messages_name_the_limit_the_amounts_the_account_and_the_time() {
    let goal = LimitLine { account: "goal-1".into(), ..line(Scope::Goal, LimitKind::BudgetUsdPerDay) };
    let tokens = LimitLine {
        cap: Quantity::Count(150_000),
        used: Quantity::Count(149_200),
        held: Quantity::Count(600),
        asked: Quantity::Count(1_200),
        percentage: 99.866_667,
        ..line(Scope::Workspace, LimitKind::TokensPerMinute)
    };
    let one = LimitLine {
        cap: Quantity::Count(1),
        used: Quantity::Count(1),
        held: Quantity::Count(0),
        asked: Quantity::Count(1),
        percentage: 100.0,
        ..line(Scope::Limiter, LimitKind::RequestsPerHour)
    };
    let cases = [
        (
            refusal(vec![tokens.clone()]),
            "This workspace has used 149,800 of 150,000 tokens per minute (99.8%), including 600 set aside for open calls; this call asks for 1,200 tokens. Try again in 7 seconds (31 January 2026, 12:00:07 UTC).",
            "Questo workspace ha usato 149.800 su 150.000 token al minuto (99,8%), di cui 600 in sospeso per chiamate aperte; questa chiamata chiede 1.200 token. Riprova tra 7 secondi (31 gennaio 2026, 12:00:07 UTC).",
        ),
        (
            refusal(vec![goal]),
            "Goal “goal-1” has used $0.90 of $1.00 per day (90%), including $0.30 set aside for open calls; this call asks for $0.20. Try again in 7 seconds (31 January 2026, 12:00:07 UTC).",
            "L’obiettivo «goal-1» ha usato 0,90\u{a0}$ su 1,00\u{a0}$ al giorno (90%), di cui 0,30\u{a0}$ in sospeso per chiamate aperte; questa chiamata chiede 0,20\u{a0}$. Riprova tra 7 secondi (31 gennaio 2026, 12:00:07 UTC).",
        ),
        (
            Decision { retry_at: None, retry_after_ms: None, ..refusal(vec![one.clone(), one]) },
            "Limiter “g-1” has used 1 of 1 request per hour (100%); this call asks for 1 request. Try again later. 1 more limit is in the way.",
            "Il limitatore «g-1» ha usato 1 su 1 richiesta all’ora (100%); questa chiamata chiede 1 richiesta. Riprova più tardi. C’è 1 altro limite d’ostacolo.",
        ),
    ];
    for (decision, english, italian) in cases {
        let notice = for_decision(&decision);
        assert_eq!(say(&notice, "en").message, english);
        assert_eq!(say(&notice, "it").message, italian);
    }
}

#[test]
fn the_limit_that_lasts_longest_leads() {
    let until = |kind, time: &str| LimitLine { resets_at: Some(time.into()), ..line(Scope::Workspace, kind) };
    let minute = until(LimitKind::TokensPerMinute, "2026-01-31T12:00:07Z");
    let hour = until(LimitKind::RequestsPerHour, "2026-01-31T13:00:00Z");
    let day = until(LimitKind::TokensPerDay, "2026-02-01T00:00:00Z");
    let open = LimitLine { resets_at: None, ..line(Scope::Workspace, LimitKind::MaxConcurrent) };
    let leads = |notice: Notice| (notice.id, notice.arg("limit").cloned(), notice.arg("wait").cloned());
    let kind = |kind| Some(Arg::Limit(kind));
    let wait = |seconds| Some(Arg::Wait { seconds });
    let limits = vec![minute.clone(), hour, day, open.clone()];
    let full = ["full:tokens_per_minute", "full:requests_per_hour", "full:max_concurrent"];

    let state = snapshot(Status::RateLimited, &full, limits.clone());
    assert_eq!(
        leads(for_snapshot(&state)),
        (NoticeId::StatusRateLimited, kind(LimitKind::RequestsPerHour), wait(3_600))
    );
    // A day's limit that is full too makes another status, and its own notice.
    let state = snapshot(Status::QuotaExceeded, &["full:tokens_per_day", "full:tokens_per_minute"], limits.clone());
    assert_eq!(
        leads(for_snapshot(&state)),
        (NoticeId::StatusQuotaExceeded, kind(LimitKind::TokensPerDay), wait(43_200))
    );
    // The provider's ten minutes are longer than the minute limit's, and shorter than the hour's.
    let state = snapshot(Status::RateLimited, &[full[0], "breaker:rate_limit_exceeded"], limits.clone());
    assert_eq!(leads(for_snapshot(&state)), (NoticeId::StatusRateLimitedByProvider, None, wait(600)));
    let state = snapshot(Status::RateLimited, &[full[1], "breaker:rate_limit_exceeded"], limits);
    assert_eq!(leads(for_snapshot(&state)).0, NoticeId::StatusRateLimited);
    // Nobody knows when an open call ends.
    let open_calls = snapshot(Status::RateLimited, &["full:max_concurrent"], vec![minute.clone(), open]);
    assert_eq!(for_snapshot(&open_calls).arg("retry"), Some(&Arg::Text("call-ends".into())));
    // The same order holds for a refusal; a limit of 0 comes before all, since no waiting helps.
    let blocked = LimitLine { cap: Quantity::Count(0), ..line(Scope::Workspace, LimitKind::RequestsPerMinute) };
    let refused = refusal(vec![minute.clone(), state.limits[2].clone(), state.limits[1].clone()]);
    assert_eq!(leads(for_decision(&refused)), (NoticeId::RefusedQuota, kind(LimitKind::TokensPerDay), wait(7)));
    let refused = refusal(vec![state.limits[2].clone(), blocked, minute.clone()]);
    assert_eq!(leads(for_decision(&refused)), (NoticeId::RefusedRate, kind(LimitKind::RequestsPerMinute), None));
    // A limit that refuses is more urgent than a fuller one that only observes.
    let observed =
        LimitLine { mode: Mode::Observe, percentage: 150.0, ..line(Scope::Workspace, LimitKind::TokensPerDay) };
    let state = snapshot(Status::Warning, &["near:tokens_per_minute", "full:tokens_per_day"], vec![observed, minute]);
    assert_eq!(leads(for_snapshot(&state)), (NoticeId::StatusNear, kind(LimitKind::TokensPerMinute), None));
}

#[test]
fn a_notice_is_ids_and_arguments_on_the_wire() {
    let notice = for_decision(&Decision { reason: Some(Reason::Queue), queued_ahead: 2, ..refusal(Vec::new()) });
    let expected = serde_json::json!({
        "id": "refused-queue",
        "level": "warning",
        "args": {
            "ahead": {"type": "count", "value": 2},
            "at": {"type": "time", "value": "2026-01-31T12:00:06.12Z"},
            "wait": {"type": "wait", "value": {"seconds": 7}},
            "retry": {"type": "text", "value": "at"},
        },
    });
    assert_eq!(serde_json::to_value(&notice).unwrap(), expected);
    for id in NoticeId::ALL {
        assert_eq!(serde_json::to_value(id).unwrap(), id.as_str());
    }
}

#[test]
fn a_message_or_argument_that_a_language_lacks_falls_back_to_english() {
    let (_, english) = SOURCES[0];
    let near = for_snapshot(&snapshot(
        Status::Warning,
        &["near:tokens_per_minute"],
        vec![line(Scope::Workspace, LimitKind::TokensPerMinute)],
    ));
    let (_, italian) = SOURCES[1];
    let without = |start: &str| italian.lines().filter(|line| !line.starts_with(start)).collect::<Vec<_>>().join("\n");
    let cases = [
        (italian.to_owned(), "it"),
        ("check-normal = Tutto bene.".to_owned(), "en"),
        (without("number-group"), "en"),
        (without("share"), "en"),
        (italian.replace("status-near = { share }", "status-near = { $nobody } { share }"), "en"),
        (italian.replacen("    .action-3", "    .action-4", 1), "en"),
        (without("check-normal"), "it"),
    ];
    for (text, expected) in cases {
        let catalog = Catalog::new(&[("en", english), ("it", &text)]);
        let rendered = catalog.render(&near, &language("it"));
        assert_eq!(rendered.language, expected, "{rendered:?}");
        let only = Catalog::new(&[("en", english)]).render(&near, &language("en"));
        assert!(expected == "it" || rendered == only, "mixed: {rendered:?}");
    }
    let catalog = Catalog::new(&[("en", english), ("it", "days = { $count-text } giorni")]);
    assert_eq!(catalog.text("check-normal", &[], &language("it")), catalog.text("check-normal", &[], &language("en")));
    assert_eq!(catalog.text("no-such-message", &[], &language("it")), "no-such-message");
}

#[test]
fn a_source_that_cannot_be_read_is_named_and_left_out() {
    let catalog =
        Catalog::new(&[("en", "hello = Hello"), ("not a tag", "hello = x"), ("it", "hello = Ciao\nbad = { $x")]);
    assert_eq!(catalog.languages(), [language("en"), language("it")]);
    assert!(catalog.problems().iter().any(|problem| problem.starts_with("not a tag")), "{:?}", catalog.problems());
    assert!(catalog.problems().iter().any(|problem| problem.starts_with("it:")), "{:?}", catalog.problems());
    assert_eq!(catalog.text("hello", &[], &language("it-CH")), "Ciao");
    let nothing = Catalog::new(&[]);
    let rendered =
        nothing.render(&Notice { id: NoticeId::Allowed, level: Level::Info, args: Vec::new() }, &language("en"));
    assert_eq!((rendered.message.as_str(), rendered.language.as_str()), ("allowed", ""));
}

#[test]
fn accept_language_is_negotiated() {
    let long = format!("{}it", "fr;q=0.9,".repeat(1_200));
    let cases = [
        ("it-IT,it;q=0.9,en;q=0.8", "it"),
        ("en-US,en;q=0.9,it;q=0.8", "en"),
        ("it", "it"),
        ("IT-ch", "it"),
        ("en-GB", "en"),
        ("fr", "en"),
        ("fr, it;q=0.2", "it"),
        ("de;q=1,it;q=0.5", "it"),
        ("en;q=0.4,it;q=0.5", "it"),
        ("en;q=0.5,it;q=0.5", "en"),
        ("it;q=0.5,en;q=0.5", "it"),
        ("it ; q = 0.9 , en ; q=0.1", "it"),
        ("*", "en"),
        ("*;q=0.1,it", "it"),
        ("*,it;q=0.5", "en"),
        ("*,en;q=0.5", "it"),
        ("en;q=0,*", "it"),
        ("it;q=0,*", "en"),
        ("it;q=0", "en"),
        ("en;q=0", "en"),
        ("it;q=0.0001,fr", "it"),
        ("it;q=2,en;q=0.1", "en"),
        ("it;q=nan,en;q=0.1", "en"),
        ("it;q=-1", "en"),
        ("it;level=1", "en"),
        ("", "en"),
        (",;,=;q,", "en"),
        ("\u{0}\u{ff}ü;q=ü", "en"),
        ("it_IT", "it"),
        (long.as_str(), "en"),
    ];
    for (header, expected) in cases {
        let got = Catalog::bundled().negotiate(header);
        assert_eq!(got, language(expected), "{:.60}", header);
    }
    assert!(long.len() > 10_000);
}

#[test]
fn numbers_and_lengths_of_time_are_written_as_the_language_writes_them() {
    let source = |text: &str| format!("{text}\nshow = {{ $x-text }}");
    let (english, italian) = (source(SOURCES[0].1), source(SOURCES[1].1));
    let catalog = Catalog::new(&[("en", &english), ("it", &italian)]);
    let cases = [
        (Arg::Count(0), "0", "0"),
        (Arg::Count(999), "999", "999"),
        (Arg::Count(1_234), "1,234", "1.234"),
        (Arg::Count(u64::MAX), "18,446,744,073,709,551,615", "18.446.744.073.709.551.615"),
        (Arg::Usd(0.0), "$0.00", "0,00 $"),
        (Arg::Usd(-0.0), "$0.00", "0,00 $"),
        (Arg::Usd(12.3), "$12.30", "12,30 $"),
        (Arg::Usd(1_234_567.891), "$1,234,567.89", "1.234.567,89 $"),
        (Arg::Usd(0.004_2), "$0.0042", "0,0042 $"),
        (Arg::Usd(-1.5), "-$1.50", "-1,50 $"),
        (Arg::Usd(f64::NAN), "$—", "— $"),
        (Arg::Percent(79.96), "79.9%", "79,9%"),
        (Arg::Percent(64.1), "64.1%", "64,1%"),
        (Arg::Percent(99.999), "99.9%", "99,9%"),
        (Arg::Percent(100.0), "100%", "100%"),
        (
            Arg::Time("2026-12-31T23:59:59.000000001Z".into()),
            "1 January 2027, 00:00:00 UTC",
            "1 gennaio 2027, 00:00:00 UTC",
        ),
        (Arg::Time("2026-08-01T01:02:03+02:00".into()), "31 July 2026, 23:02:03 UTC", "31 luglio 2026, 23:02:03 UTC"),
        (Arg::Time("soon".into()), "soon", "soon"),
        (Arg::Wait { seconds: 0 }, "0 seconds", "0 secondi"),
        (Arg::Wait { seconds: 1 }, "1 second", "1 secondo"),
        (Arg::Wait { seconds: 59 }, "59 seconds", "59 secondi"),
        (Arg::Wait { seconds: 60 }, "1 minute", "1 minuto"),
        (Arg::Wait { seconds: 121 }, "2 minutes and 1 second", "2 minuti e 1 secondo"),
        (Arg::Wait { seconds: 3_600 }, "1 hour", "1 ora"),
        (Arg::Wait { seconds: 3_601 }, "1 hour and 1 minute", "1 ora e 1 minuto"),
        (Arg::Wait { seconds: 86_399 }, "1 day", "1 giorno"),
        (Arg::Wait { seconds: 2 * 86_400 + 7_200 }, "2 days and 2 hours", "2 giorni e 2 ore"),
    ];
    for (arg, english, italian) in cases {
        let args = [("x", arg)];
        assert_eq!(catalog.text("show", &args, &language("en")), english, "{args:?}");
        assert_eq!(catalog.text("show", &args, &language("it")).replace('\u{a0}', " "), italian, "{args:?}");
    }
}

#[test]
fn threads_share_one_catalog() {
    let notices = notices();
    let expected: Vec<_> = notices.iter().map(|notice| say(notice, "it")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let got: Vec<_> = notices.iter().map(|notice| say(notice, "it")).collect();
                assert_eq!(got, expected);
            });
        }
    });
}

/// Any value of the same kind as `arg`; words to choose by may be any text.
fn like(arg: &Arg) -> BoxedStrategy<Arg> {
    match arg {
        Arg::Text(_) => any::<String>().prop_map(Arg::Text).boxed(),
        Arg::Count(_) => any::<u64>().prop_map(Arg::Count).boxed(),
        Arg::Usd(_) => any::<f64>().prop_map(Arg::Usd).boxed(),
        Arg::Percent(_) => any::<f64>().prop_map(Arg::Percent).boxed(),
        Arg::Time(_) => prop_oneof![any::<String>(), "[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:00:59.9Z"]
            .prop_map(Arg::Time)
            .boxed(),
        Arg::Wait { .. } => any::<u64>().prop_map(|seconds| Arg::Wait { seconds }).boxed(),
        Arg::Limit(_) => proptest::sample::select(LimitKind::ALL.to_vec()).prop_map(Arg::Limit).boxed(),
        Arg::Scope(_) => proptest::sample::select(Scope::ALL.to_vec()).prop_map(Arg::Scope).boxed(),
    }
}

fn any_notice() -> impl Strategy<Value = Notice> {
    proptest::sample::select(notices()).prop_flat_map(|notice| {
        let values: Vec<_> = notice.args.iter().map(|(_, arg)| like(arg)).collect();
        values.prop_map(move |values| {
            let names = notice.args.iter().map(|(name, _)| *name);
            Notice { args: names.zip(values).collect(), ..notice.clone() }
        })
    })
}

proptest! {
    #[test]
    fn any_value_of_its_kind_renders_in_the_language_asked(notice in any_notice()) {
        for (tag, _) in SOURCES {
            prop_assert_eq!(say(&notice, tag).language, *tag);
        }
    }

    #[test]
    fn any_number_chooses_a_plural_form(number in any_number()) {
        let marks = SOURCES[1].1.to_owned() + "\nshow = { $x ->\n [one] uno\n *[other] altro\n }";
        let catalog = Catalog::new(&[("it", &marks)]);
        for arg in [Arg::Usd(number), Arg::Percent(number), Arg::Count(number as u64)] {
            let counts = if matches!(arg, Arg::Count(_)) { number as u64 as f64 } else { number };
            let expected = if counts.abs() == 1.0 { "uno" } else { "altro" };
            prop_assert_eq!(catalog.text("show", &[("x", arg)], &language("it")), expected, "{}", number);
        }
    }

    #[test]
    fn no_argument_and_no_language_panics(
        id in proptest::sample::select(NoticeId::ALL.to_vec()),
        args in proptest::collection::vec((proptest::sample::select(vec!["cap", "limit", "retry", "at", "more"]), any_arg()), 0..8),
        header in any::<String>(),
    ) {
        let catalog = Catalog::bundled();
        let language = catalog.negotiate(&header);
        prop_assert!(catalog.languages().contains(&language));
        let rendered = catalog.render(&Notice { id, level: id.level(), args }, &language);
        prop_assert_eq!(rendered.id, id);
    }
}

fn any_number() -> impl Strategy<Value = f64> {
    let special =
        vec![0.0, -0.0, 1.0, -1.0, 1e-300, 0.1 + 0.2, 1e19, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    prop_oneof![proptest::sample::select(special), any::<f64>()]
}

fn any_arg() -> impl Strategy<Value = Arg> {
    let kinds = vec![
        Arg::Text(String::new()),
        Arg::Count(0),
        Arg::Usd(0.0),
        Arg::Percent(0.0),
        Arg::Time(String::new()),
        Arg::Wait { seconds: 0 },
        Arg::Limit(LimitKind::MaxBurst),
        Arg::Scope(Scope::Goal),
    ];
    proptest::sample::select(kinds).prop_flat_map(|kind| like(&kind))
}
