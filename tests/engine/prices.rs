//! Prices against the arithmetic of the package they are from, and the laws of money.

#![allow(clippy::unwrap_used)] // The helpers of the tests, which clippy does not take for tests.

mod price_laws;
mod price_units;

use jiff::Timestamp;
use llmquota::error::Code;
use llmquota::usage::estimates::RequestSize;
use llmquota::usage::money::NanoUsd;
use llmquota::usage::pricing::{Certainty, PriceQuery, Priced, Prices, Processing, Tariff, UnknownModel};
use llmquota::usage::tokens::TokenUsage;
use llmquota::usage::units::Units;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    source: FixtureSource,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct FixtureSource {
    package: String,
    version: String,
}

#[derive(Deserialize, Debug)]
struct Case {
    provider: Option<String>,
    model: String,
    at: String,
    processing: Processing,
    usage: TokenUsage,
    expected: Option<Expected>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Expected {
    provider: String,
    model: String,
    nano_usd: i64,
}

fn at(instant: &str) -> Timestamp {
    instant.parse().unwrap()
}

/// An instant at which every price by processing is in force.
fn late() -> Timestamp {
    at("2026-11-20T12:00:00Z")
}

fn cost<'p>(prices: &'p Prices, provider: Option<&str>, model: &str, usage: &TokenUsage) -> Option<Priced<'p>> {
    prices.cost(&query(provider, model, usage)).unwrap()
}

/// A standard call of tokens alone, late.
fn query<'q>(provider: Option<&'q str>, model: &'q str, usage: &'q TokenUsage) -> PriceQuery<'q> {
    let units = Units::default();
    PriceQuery { provider, model, usage, units, at: late(), processing: Processing::Standard }
}

fn tokens(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input, output, ..TokenUsage::default() }
}

#[test]
fn every_case_costs_what_the_source_of_the_prices_says() {
    let fixture: Fixture = serde_json::from_str(include_str!("price_fixture.json")).unwrap();
    let prices = Prices::bundled();
    assert_eq!(prices.source().package, fixture.source.package);
    assert_eq!(prices.source().version, fixture.source.version, "run data/generate_prices.py --fixture");
    assert!(fixture.cases.len() > 500);

    let fresh = Prices::parse(include_str!("../../data/prices.json")).unwrap();
    for case in &fixture.cases {
        let query = PriceQuery {
            provider: case.provider.as_deref(),
            model: &case.model,
            usage: &case.usage,
            units: Units::default(),
            at: at(&case.at),
            processing: case.processing,
        };
        // The first answer is a match, the second comes from the memo.
        for table in [&fresh, &fresh, prices] {
            let priced = table.cost(&query).unwrap();
            let actual = priced.map(|priced| Expected {
                provider: priced.matched_provider.unwrap().to_owned(),
                model: priced.matched_model.unwrap().to_owned(),
                nano_usd: priced.cost.nanos(),
            });
            assert_eq!(actual, case.expected, "{case:?}");
        }
    }
}

#[test]
fn published_prices_are_met_to_the_nano_dollar() {
    let prices = Prices::bundled();
    let cached = TokenUsage { cached_input: 600_000, ..tokens(1_000_000, 0) };
    let reasoning = TokenUsage { reasoning: 900_000, ..tokens(0, 1_000_000) };
    let claude = TokenUsage { cached_input: 400_000, cache_write: 100_000, ..tokens(1_000_000, 1_000_000) };
    for (model, usage, usd) in [
        ("gpt-4o", tokens(1_000_000, 0), "2.5"),
        ("gpt-4o", tokens(0, 1_000_000), "10"),
        ("gpt-4o", tokens(1, 1), "0.0000125"),
        ("gpt-4o", cached, "1.75"),
        ("gpt-4o-mini", tokens(1_000_000, 1_000_000), "0.75"),
        ("text-embedding-3-small", tokens(1_000_000, 0), "0.02"),
        ("o3", reasoning, "8"),
        ("claude-3-5-sonnet-20241022", claude, "16.995"),
    ] {
        let priced = cost(prices, None, model, &usage).unwrap();
        assert_eq!(priced.cost, NanoUsd::from_usd_str("usd", usd).unwrap(), "{model} {usage:?}");
        assert_eq!(priced.certainty, Certainty::Exact, "{model}");
    }
}

#[test]
fn processing_has_its_own_price_from_its_own_day() {
    let usage = tokens(1_000_000, 1_000_000);
    let usd = |processing, instant| {
        let query = PriceQuery { at: at(instant), processing, ..query(Some("openai"), "gpt-4o", &usage) };
        Prices::bundled().cost(&query).unwrap().unwrap().cost.to_string()
    };
    assert_eq!(usd(Processing::Standard, "2026-11-20T00:00:00Z"), "12.50");
    assert_eq!(usd(Processing::Priority, "2026-10-12T00:00:00Z"), "21.25");
    assert_eq!(usd(Processing::Priority, "2026-10-11T23:59:59Z"), "12.50");
    assert_eq!(usd(Processing::Batch, "2026-11-20T00:00:00Z"), "6.25");
}

#[test]
fn a_processing_without_a_price_costs_the_standard_one_and_is_marked() {
    let usage = tokens(1_000_000, 0);
    // Azure has no gpt-4o of its own: it is OpenAI's list price that is taken, and no other of OpenAI's prices.
    for (provider, model) in [("azure", "gpt-4o"), ("openai", "gpt-4-turbo")] {
        let price = |processing| {
            let query = PriceQuery { processing, ..query(Some(provider), model, &usage) };
            Prices::bundled().cost(&query).unwrap().unwrap()
        };
        assert_eq!(price(Processing::Standard).certainty, Certainty::Exact);
        assert_eq!(price(Processing::Flex).certainty, Certainty::Estimated);
        assert_eq!(price(Processing::Flex).cost, price(Processing::Standard).cost);
    }
}

#[test]
fn a_price_may_change_within_the_day() {
    let usage = tokens(1_000_000, 0);
    let nanos = |instant| {
        let query = PriceQuery { at: at(instant), ..query(Some("deepseek"), "deepseek-v4-pro", &usage) };
        Prices::bundled().cost(&query).unwrap().unwrap().cost
    };
    assert_eq!(nanos("2026-11-20T00:59:59.999Z"), nanos("2026-11-20T04:00:00Z"));
    assert!(nanos("2026-11-20T01:00:00Z") > nanos("2026-11-20T00:59:59.999Z"));
}

#[test]
fn past_a_tier_every_token_costs_more() {
    let usd = |input| cost(Prices::bundled(), Some("openai"), "gpt-5.4", &tokens(input, 1_000_000)).unwrap().cost;
    assert_eq!(usd(272_000).to_string(), "15.68");
    assert_eq!(usd(272_001).to_string(), "23.860005");
}

#[test]
fn what_the_usage_leaves_open_is_the_dearer_reading_and_marked() {
    let prices = Prices::bundled();
    let unsplit = cost(prices, None, "gpt-4o", &TokenUsage::unsplit(1_000_000)).unwrap();
    assert_eq!((unsplit.cost.to_string().as_str(), unsplit.certainty), ("10.00", Certainty::Estimated));
    let embedding = cost(prices, None, "text-embedding-3-small", &TokenUsage::unsplit(1_000_000)).unwrap();
    assert_eq!((embedding.cost.to_string().as_str(), embedding.certainty), ("0.02", Certainty::Estimated));

    // Was the cached part of the input its audio or its text?
    let realtime = |input| TokenUsage { cached_input: 40, audio_input: 50, ..tokens(input, 0) };
    let open = cost(prices, Some("openai"), "gpt-realtime", &realtime(100)).unwrap();
    assert_eq!(open.certainty, Certainty::Estimated);
    let told = cost(prices, Some("openai"), "gpt-realtime", &realtime(50)).unwrap();
    assert_eq!(told.certainty, Certainty::Exact, "all input is audio, so the cached part is too");
}

#[test]
fn models_without_a_price_by_tokens_are_not_free_and_free_ones_are() {
    let prices = Prices::bundled();
    assert_eq!(cost(prices, Some("openai"), "whisper-1", &tokens(100, 0)), None);
    assert_eq!(cost(prices, Some("nowhere"), "gpt-4o", &tokens(100, 0)), None);
    let free = cost(prices, Some("openrouter"), "qwen/qwq-32b:free", &tokens(100, 100)).unwrap();
    assert_eq!((free.cost, free.certainty), (NanoUsd::ZERO, Certainty::Exact));
}

#[test]
fn the_tariff_decides_about_what_the_table_does_not_know() {
    let prices = Prices::bundled();
    let usage = tokens(1_000_000, 0);
    let price = |policy, model| {
        let tariff = Tariff::new(policy, NanoUsd::from_nanos(10_000_000)).unwrap();
        tariff.price(prices, &query(Some("openai"), model, &usage))
    };
    let flat = |model, policy| {
        let priced = price(policy, model).unwrap();
        assert_eq!(priced.cost.to_string(), "10.00", "{model:?} {policy:?}");
        assert_eq!((priced.certainty, priced.matched_model), (Certainty::Estimated, None));
    };
    for policy in [UnknownModel::Block, UnknownModel::Family, UnknownModel::Allow] {
        flat("", policy);
        let known = price(policy, "gpt-4o").unwrap();
        assert_eq!((known.cost.to_string().as_str(), known.certainty), ("2.50", Certainty::Exact));
    }
    flat("gpt-4o-2031-01-01", UnknownModel::Allow);
    flat("frobnicator", UnknownModel::Family);

    let family = price(UnknownModel::Family, "GPT-4o-2031-01-01").unwrap();
    assert_eq!((family.matched_model, family.certainty), (Some("gpt-4o"), Certainty::Estimated));
    assert_eq!(family.cost.to_string(), "2.50");

    let refused = price(UnknownModel::Block, "gpt-4o-2031-01-01").unwrap_err();
    assert_eq!(refused.code(), Code::UnknownModel);
    assert!(refused.message().contains("gpt-4o-2031-01-01"), "{refused}");
}

#[test]
fn a_negative_tariff_and_a_broken_table_are_refused() {
    let error = Tariff::new(UnknownModel::Allow, NanoUsd::from_nanos(-1)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidNumber);
    let source = r#""source":{"package":"x","version":"1","license":"MIT","date":"2026-01-01"}"#;
    let table = |prices: &str| {
        format!(
            r#"{{{source},"providers":[{{"id":"p","models":[{{"id":"m","match":{{"equals":"m"}},"prices":[{prices}]}}]}}]}}"#
        )
    };
    for good in [
        r#"{"rates":{"input_mtok":"1.5"}}"#,
        r#"{"rates":null}"#,
        r#"{"start_date":"2026-01-31","rates":{"input_mtok":{"base":"0","tiers":[[1,"2"]]}}}"#,
    ] {
        assert!(Prices::parse(&table(good)).is_ok(), "{good}");
    }
    for bad in [
        r#"{"rates":{"input_mtok":1.5}}"#,
        r#"{"rates":{"input_mtok":"-1"}}"#,
        r#"{"rates":{"input_mtok":"1e3"}}"#,
        r#"{"rates":{"input_mtok":"NaN"}}"#,
        r#"{"rates":{"input_mtok":"0.1234567890123456789"}}"#,
        r#"{"rates":{"input_mtok":"1234567890123"}}"#,
        r#"{"rates":{"input_tok":"1"}}"#,
        r#"{"rates":{"input_mtok":{"base":"0","tiers":[[2,"2"],[1,"3"]]}}}"#,
        r#"{"start_date":"2026-02-30","rates":{}}"#,
        r#"{}"#,
        "",
    ] {
        let json = if bad.is_empty() { String::new() } else { table(bad) };
        assert_eq!(Prices::parse(&json).unwrap_err().code(), Code::InvalidConfig, "{bad}");
    }
}

#[test]
fn the_most_a_call_may_cost_is_priced_like_any_usage() {
    let size = RequestSize { prompt_chars: 4_000, messages: 0, max_output_tokens: Some(500), choices: 2 };
    let most = size.at_most(0);
    let priced = Tariff::default().price(Prices::bundled(), &query(None, "gpt-4o", &most)).unwrap();
    assert_eq!(priced.cost.to_string(), "0.0125");
}
