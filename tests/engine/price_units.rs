//! Prices of what is not tokens, and the operator's own.

use llmquota::account::Call;
use llmquota::config::{Config, LimitsFile};
use llmquota::usage::money::NanoUsd;
use llmquota::usage::pricing::{Certainty, Priced, Prices, UnknownModel};
use llmquota::usage::pricing::{PriceQuery, Processing, Tariff};
use llmquota::usage::tokens::TokenUsage;
use llmquota::usage::units::Units;
use llmquota::{Manager, Options, Report};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::{query, tokens};

const NONE: Units<'static> = Units {
    milliseconds: 0,
    characters: 0,
    images: 0,
    image_kind: "",
    web_searches: 0,
    file_searches: 0,
    code_sessions: 0,
    other_tools: 0,
};

fn priced(model: &str, usage: &TokenUsage, units: Units<'_>) -> Priced<'static> {
    let query = PriceQuery { units, ..query(Some("openai"), model, usage) };
    Tariff::default().price(Prices::bundled(), &query).unwrap()
}

#[test]
fn units_cost_what_is_published() {
    for (model, units, usd) in [
        ("whisper-1", Units { milliseconds: 60_000, ..NONE }, "0.006"),
        ("whisper-1", Units { milliseconds: 1, ..NONE }, "0.0000001"),
        ("tts-1", Units { characters: 1_000, ..NONE }, "0.015"),
        ("tts-1-hd", Units { characters: 1, ..NONE }, "0.00003"),
        ("dall-e-3", Units { images: 1, image_kind: "hd 1024x1792", ..NONE }, "0.12"),
        ("dall-e-2", Units { images: 10, image_kind: "standard 256x256", ..NONE }, "0.16"),
        ("gpt-5", Units { web_searches: 2, ..NONE }, "0.02"),
        ("gpt-4o", Units { file_searches: 3, ..NONE }, "0.0075"),
        // The table has no price of it for the model, and one beside all of the provider's.
        ("gpt-4-turbo", Units { web_searches: 1, file_searches: 1, ..NONE }, "0.0125"),
    ] {
        let priced = priced(model, &tokens(0, 0), units);
        assert_eq!(priced.cost, NanoUsd::from_usd_str("usd", usd).unwrap(), "{model} {units:?}");
        assert_eq!(priced.certainty, Certainty::Exact, "{model} {units:?}");
    }
    let both = priced("gpt-4o", &tokens(1_000_000, 1_000_000), Units { web_searches: 1, ..NONE });
    assert_eq!(both.cost.to_string(), "12.51");
}

#[test]
fn what_has_no_price_is_not_free_and_marked() {
    for (model, units, usd) in [
        // A container may have been paid by an earlier call.
        ("gpt-5", Units { code_sessions: 1, ..NONE }, "0.03"),
        // A size that nobody has a price for costs as the dearest.
        ("dall-e-3", Units { images: 1, image_kind: "hd 4096x4096", ..NONE }, "0.12"),
        ("gpt-5", Units { other_tools: 2, ..NONE }, "0.02"),
        ("gpt-5", Units { milliseconds: 60_000, ..NONE }, "0.006"),
        ("nobody-knows", Units { characters: 4_000, ..NONE }, "0.01"),
        ("nobody-knows", Units { images: 1, ..NONE }, "0.01"),
        ("", Units { images: 1, ..NONE }, "0.01"),
    ] {
        let priced = priced(model, &tokens(0, 0), units);
        assert_eq!(priced.cost, NanoUsd::from_usd_str("usd", usd).unwrap(), "{model} {units:?}");
        assert_eq!(priced.certainty, Certainty::Estimated, "{model} {units:?}");
    }
}

#[test]
fn tokens_of_a_model_that_has_another_price_are_guessed_and_never_refused() {
    let usage = tokens(1_000, 0);
    for policy in [UnknownModel::Block, UnknownModel::Family, UnknownModel::Allow] {
        let tariff = Tariff::new(policy, NanoUsd::from_nanos(10_000_000)).unwrap();
        let priced = tariff.price(Prices::bundled(), &query(Some("openai"), "whisper-1", &usage)).unwrap();
        assert_eq!((priced.cost.to_string().as_str(), priced.certainty), ("0.01", Certainty::Estimated), "{policy:?}");
    }
}

#[test]
fn short_sounds_cost_as_the_provider_says() {
    let seconds = |milliseconds| {
        let usage = tokens(0, 0);
        let query =
            PriceQuery { units: Units { milliseconds, ..NONE }, ..query(Some("groq"), "whisper-large-v3", &usage) };
        Prices::bundled().cost(&query).unwrap().unwrap().cost
    };
    assert_eq!(seconds(1), seconds(10_000));
    assert!(seconds(10_001) > seconds(10_000));
    assert_eq!(seconds(0), NanoUsd::ZERO);
}

#[test]
fn pictures_and_long_writes_have_prices_of_their_own() {
    let usd = |provider, model, usage: &TokenUsage| {
        Prices::bundled().cost(&query(Some(provider), model, usage)).unwrap().unwrap().cost.to_string()
    };
    let edit = TokenUsage { image_input: 600_000, ..tokens(1_000_000, 0) };
    assert_eq!(usd("openai", "gpt-image-1", &edit), "8.00");
    let written = TokenUsage { cache_write: 1_000_000, cache_write_long: 400_000, ..tokens(1_000_000, 0) };
    assert_eq!(usd("anthropic", "claude-3-5-sonnet-20241022", &written), "4.65");
}

#[test]
fn the_dearer_of_what_may_have_been_cached_counts() {
    // Pictures at 10 USD fresh and 2.50 cached, words at 5 and 1.25: the dearer reading caches the words.
    let usage = TokenUsage { image_input: 500_000, cached_input: 400_000, ..tokens(1_000_000, 0) };
    let priced = Prices::bundled().cost(&query(Some("openai"), "gpt-image-1", &usage)).unwrap().unwrap();
    assert_eq!((priced.cost.to_string().as_str(), priced.certainty), ("6.00", Certainty::Estimated));
}

fn manager(limits: &str) -> Manager {
    let file = LimitsFile::parse(limits, "limits.toml").unwrap();
    Manager::new(Options { config: Config::default().with_file(file), ..Options::default() }).unwrap()
}

fn costs(manager: &Manager, provider: &str, model: &str, report: &Report<'_>) -> (String, Certainty) {
    let credential = format!("{provider}/key");
    let call = Call { credential: Some(&credential), model: Some(model), ..Call::new("acme") };
    let (cost, certainty) = manager.price_of(&call, report, None).unwrap();
    (cost.to_string(), certainty)
}

#[test]
fn own_prices_go_before_the_table() {
    let manager = manager(
        r#"
        [pricing.openai."GPT-4o"]
        input_mtok = 1.999999999999999999
        batch = { input_mtok = "0.5" }
        [pricing.azure.chat]
        input_mtok = 3
        output_mtok = 4.5
        web_searches_kcount = 20
        [pricing.openai."my-pictures"]
        images = { "hd 512x512" = 0.25 }
        "#,
    );
    let million = Report::success(tokens(1_000_000, 1_000_000));
    let batch = Report { processing: Processing::Batch, ..million };
    // What they leave open is the table's.
    assert_eq!(costs(&manager, "openai", "gpt-4o", &million), ("12.00".into(), Certainty::Exact));
    assert_eq!(costs(&manager, "openai", "gpt-4o", &batch), ("5.50".into(), Certainty::Exact));
    assert_eq!(costs(&manager, "azure", "gpt-4o", &million).0, "12.50");
    let searched = Units { web_searches: 1, ..NONE };
    let search = Report { units: Some(&searched), ..million };
    assert_eq!(costs(&manager, "azure", "Chat", &search), ("7.52".into(), Certainty::Exact));
    let picture = Units { images: 2, image_kind: "hd 512x512", ..NONE };
    let drawn = Report { units: Some(&picture), ..Report::success(tokens(0, 0)) };
    assert_eq!(costs(&manager, "openai", "my-pictures", &drawn), ("0.50".into(), Certainty::Exact));
}

#[test]
fn a_wrong_own_price_is_named_with_what_would_be_right() {
    for (limits, problem) in [
        ("[pricing.openai.x]\ninput_mtok = -1", "line 2, column 14: pricing.openai.x.input_mtok: '-1'"),
        ("[pricing.openai.x]\ninput_mtok = 1e3", "1e3"),
        ("[pricing.openai.x]\ninput_mtok = true", "true"),
        ("[pricing.openai.x]\ninput_tok = 1", "did you mean 'input_mtok'?"),
        ("[pricing.openai.x.batch]\nbatch = {}", "unknown key"),
        ("[pricing.openai.x]\nimages = { a = \"x\" }", "pricing.openai.x.images.a"),
        ("[pricing.openai]\nx = 1", "pricing.openai.x"),
        ("[pricing]\nunknown_models = \"block\"", "did you mean 'unknown_model'?"),
    ] {
        let error = LimitsFile::parse(limits, "limits.toml").unwrap_err();
        assert!(error.message().contains(problem), "{limits}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn more_units_never_cost_less(raw in prop::array::uniform7(0..1_u64 << 30), more in 0..1_u64 << 20, place in 0..7_usize, model in prop::sample::select(&["whisper-1", "tts-1", "dall-e-3", "gpt-5", "unheard-of", ""][..])) {
        let units = |raw: [u64; 7]| {
            let [milliseconds, characters, images, web_searches, file_searches, code_sessions, other_tools] = raw;
            Units { milliseconds, characters, images, image_kind: "", web_searches, file_searches, code_sessions, other_tools }
        };
        let mut larger = raw;
        larger[place] += more;
        let (small, large) = (priced(model, &tokens(7, 7), units(raw)), priced(model, &tokens(7, 7), units(larger)));
        prop_assert!(small.cost <= large.cost);
        prop_assert!(large.cost > NanoUsd::ZERO);
    }
}
