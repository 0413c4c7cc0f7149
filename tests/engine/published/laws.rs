//! What is true of any processes with any settings.

use llmquota::account::{AccountId, Scope};
use llmquota::config::{Change, Config, LimitTable, LimitsFile, Override, Published, Setting};
use llmquota::rules::limits::{Limit, LimitKind, MAX_COUNT, Mode, Resource};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{NOW, enforced, environment, held, joined, published, workspace};

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), variables(), prop::option::of(limits_file())).prop_map(|(builtins, variables, file)| {
        let base = if builtins { Config::default() } else { Config::unlimited() };
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let config = base.with_environment(environment(&variables));
        file.map_or(config.clone(), |file| config.with_file(file))
    })
}

fn variables() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let count = || prop_oneof![0..2_000_u64, 0..=MAX_COUNT].prop_map(|cap| cap.to_string());
    let percent = || (1..=100_u8).prop_map(|percent| percent.to_string());
    let word = |words: &'static [&str]| prop::sample::select(words).prop_map(str::to_owned);
    let variable = prop_oneof![
        (Just("OPENAI_RATE_LIMIT_PER_MINUTE"), count()),
        (Just("OPENAI_DAILY_TOKEN_LIMIT"), count()),
        (Just("MAX_CONCURRENT"), count()),
        (Just("OPENAI_MONTHLY_BUDGET_USD"), "[0-9]{1,9}(\\.[0-9]{1,12})?"),
        (Just("OPENAI_WARNING_THRESHOLD_PERCENT"), percent()),
        (Just("OPENAI_CRITICAL_THRESHOLD_PERCENT"), percent()),
        (Just("LLMQUOTA_TIMEZONE"), word(&["UTC", "Europe/Rome", "america/new_york"])),
        (Just("on_store_failure"), word(&["closed", "open"])),
    ];
    prop::collection::vec(variable, 0..6)
}

/// Texts with comments and any names, and mappings with doubles.
fn limits_file() -> impl Strategy<Value = LimitsFile> {
    let text = (0..1_000_u64, "\\PC{0,20}", "[a-z]{1,8}").prop_map(|(cap, comment, name)| {
        format!("# {comment}\r\n[defaults]\nmax_burst = {cap}\n[workspaces.{name}]\ntimezone = 'Asia/Tokyo'\n")
    });
    let text = text.prop_map(|text| LimitsFile::parse(&text, "/etc/\"limits\".toml").unwrap());
    let mapping = (0.0..9e9_f64, 0.0..1e-3_f64).prop_map(|(budget, price)| {
        let value = json!({"defaults": {"budget_usd_per_day": budget}, "pricing": {"usd_per_1000_tokens": price}});
        LimitsFile::from_json(&value, "limits").unwrap()
    });
    (prop_oneof![text, mapping], prop::sample::select(&[0, NOW, NOW + 1, i64::MAX][..]))
        .prop_map(|(file, changed)| file.changed_at(changed))
}

fn table() -> impl Strategy<Value = LimitTable> {
    let setting = prop_oneof![
        Just(Setting::Inherit),
        Just(Setting::Unlimited),
        (any::<u64>(), any::<bool>()).prop_map(|(cap, observes)| {
            Setting::Limited(Limit { cap, mode: if observes { Mode::Observe } else { Mode::Enforce } })
        }),
    ];
    prop::collection::vec(setting, LimitKind::ALL.len()).prop_map(|settings| {
        let mut table = LimitTable::default();
        for (kind, mut setting) in LimitKind::ALL.into_iter().zip(settings) {
            if let Setting::Limited(limit) = &mut setting {
                let money = kind.resource() == Resource::Money;
                limit.cap %= if money { i64::MAX.unsigned_abs() } else { MAX_COUNT } + 1;
            }
            table.set(kind, setting);
        }
        table
    })
}

/// An override of any account.
fn overridden() -> impl Strategy<Value = (Scope, String, String, Override)> {
    let id = || "[^\\p{Cc}]{1,20}";
    (
        prop::sample::select(&Scope::ALL[..]),
        prop_oneof![Just(String::new()), id().prop_map(String::from)],
        id(),
        table(),
    )
        .prop_flat_map(|(scope, owner, name, limits)| {
            let end = prop::option::of(any::<i64>());
            end.prop_map(move |end| (scope, owner.clone(), name.clone(), Override { limits, expires_wall_nanos: end }))
        })
}

proptest! {
    #[test]
    fn what_is_published_is_read_back(
        configs in prop::collection::vec(config(), 1..5),
        overrides in prop::collection::vec(overridden(), 0..5),
    ) {
        let mut all = published(&configs);
        for (scope, owner, name, entry) in &overrides {
            let account = AccountId { scope: *scope, owner, name };
            all = all.apply(&Change::Set(account, *entry)).unwrap().unwrap_or(all);
        }
        let text = all.to_json().unwrap();
        let back = Published::from_json(&text).unwrap();
        prop_assert_eq!(&back, &all);
        prop_assert_eq!(back.to_json().unwrap(), text);
        for config in &configs {
            prop_assert_eq!(back.config(config).unwrap(), all.config(config).unwrap());
        }
        // One alone has what it was configured with, to the last word.
        let alone = Published::from_json(&published(&configs[..1]).to_json().unwrap()).unwrap();
        let mine = alone.config(&configs[0]).unwrap();
        let base = alone.config(&Config::default()).unwrap();
        prop_assert_eq!(alone.merge(super::publisher(1), &mine, |_| true), None);
        for account in [workspace("acme"), AccountId { scope: Scope::Limiter, owner: "", name: "default" }] {
            prop_assert_eq!(mine.resolve(account, NOW), configs[0].resolve(account, NOW));
            prop_assert_eq!(base.resolve(account, NOW), configs[0].resolve(account, NOW));
        }
        prop_assert_eq!((mine.tariff(), base.tariff()), (configs[0].tariff(), configs[0].tariff()));
    }

    #[test]
    fn without_files_no_process_admits_more_than_it_would_alone(
        builtins in prop::collection::vec(any::<bool>(), 1..5),
        variables in prop::collection::vec(variables(), 5),
    ) {
        let configs: Vec<Config> = builtins.iter().zip(&variables).map(|(builtins, variables)| {
            let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let base = if *builtins { Config::default() } else { Config::unlimited() };
            base.with_environment(environment(&variables))
        }).collect();
        let all = held(&published(&configs));
        for kind in LimitKind::ALL {
            let lowest = configs.iter().filter_map(|config| enforced(config, kind)).min();
            prop_assert_eq!(enforced(&all, kind), lowest, "{:?}", kind);
            // One that only observes is seen where nobody enforces.
            let observed = configs.iter().filter_map(|config| super::cap(config, kind)).map(|(cap, _)| cap).min();
            prop_assert!(lowest.is_some() || super::cap(&all, kind).map(|(cap, _)| cap) == observed);
        }
    }

    #[test]
    fn neither_order_nor_repetition_changes_the_limits(configs in prop::collection::vec(config(), 2..5)) {
        let all = published(&configs);
        let backward = published(configs.iter().rev());
        for kind in LimitKind::ALL {
            let of = |published: &Published| {
                let config = held(&published.forget(|_| true).unwrap_or_else(|| published.clone()));
                config.with_file(LimitsFile::default()).resolve(workspace("acme"), NOW).limits.get(kind)
            };
            prop_assert_eq!(of(&all), of(&backward));
        }
        // Whoever publishes the same again changes nothing.
        for (pid, config) in (1..).zip(&configs) {
            prop_assert_eq!(&joined(&all, pid, config), &all);
        }
        // The last to go leaves nothing behind, whatever was published.
        let last = all.forget(|process| process.pid == 2).unwrap();
        prop_assert_eq!(held(&last).resolve(workspace("acme"), NOW), configs[1].resolve(workspace("acme"), NOW));
        let nobody = last.forget(|_| false).unwrap();
        prop_assert_eq!(nobody.to_json().unwrap(), Published::new(nobody.version()).to_json().unwrap());
    }

    #[test]
    fn no_text_panics(
        text in "(?s).{0,200}",
        cut in any::<prop::sample::Index>(),
        configs in prop::collection::vec(config(), 1..3),
    ) {
        prop_assert!(Published::from_json(&text).is_err());
        // Cut short anywhere, it is never read as something else.
        let whole = published(&configs).to_json().unwrap();
        let mut end = cut.index(whole.len());
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        prop_assert!(Published::from_json(&whole[..end]).is_err());
    }
}

#[test]
fn a_double_is_published_as_the_amount_that_was_read() {
    // The digits of this double have a neighbour that a fast reader of JSON takes for it.
    let price = 8_123_456_789.123_457_f64;
    let value = json!({"defaults": {"budget_usd_per_day": price}});
    let config = Config::unlimited().with_file(LimitsFile::from_json(&value, "limits").unwrap());
    let text = published([&config]).to_json().unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let published_as = &document["files"][0]["content"]["mapping"]["defaults"]["budget_usd_per_day"];
    assert_eq!(published_as, "8123456789.123456955");
    let back = held(&Published::from_json(&text).unwrap());
    assert_eq!(enforced(&back, LimitKind::BudgetUsdPerDay), Some(8_123_456_789_123_456_955));
}
