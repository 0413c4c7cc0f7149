//! Laws of prices and money, over generated numbers and names.

use jiff::Timestamp;
use llmquota::error::Code;
use llmquota::usage::money::NanoUsd;
use llmquota::usage::pricing::{Certainty, PriceQuery, Prices, Processing, Tariff, UnknownModel};
use llmquota::usage::tokens::{MAX_TOKENS, TokenUsage};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::{cost, query, tokens};

/// `numerator / denominator` half to even, by schoolbook long division on decimal digits: slow, and a stranger to the
/// code under test.
fn reference_division(numerator: &str, zeros: usize) -> String {
    let padded = format!("{numerator:0>width$}", width = zeros + 1);
    let (whole, rest) = padded.split_at(padded.len() - zeros);
    let half = format!("5{}", "0".repeat(zeros - 1));
    let odd = whole.ends_with(['1', '3', '5', '7', '9']);
    let up = rest > half.as_str() || (rest == half && odd);
    let mut digits: Vec<u8> = whole.bytes().collect();
    if up {
        let mut place = digits.len();
        loop {
            if place == 0 {
                digits.insert(0, b'1');
                break;
            }
            place -= 1;
            if digits[place] == b'9' {
                digits[place] = b'0';
            } else {
                digits[place] += 1;
                break;
            }
        }
    }
    let text = String::from_utf8(digits).unwrap();
    let trimmed = text.trim_start_matches('0');
    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
}

prop_compose! {
    fn valid_usage(most: u64)(raw in prop::array::uniform11(0..=most)) -> TokenUsage {
        usage_of(raw).clamped()
    }
}

fn usage_of(raw: [u64; 11]) -> TokenUsage {
    let [input, output, cached_input, cache_write, reasoning, audio_input, audio_output, rest @ ..] = raw;
    let [image_input, image_output, cache_write_long, unsplit] = rest;
    TokenUsage {
        input,
        output,
        cached_input,
        cache_write,
        cache_write_long,
        reasoning,
        audio_input,
        audio_output,
        image_input,
        image_output,
        unsplit,
    }
}

/// Models of each shape of price: plain, tiered, with audio, by the request, with a price of reasoning, free, unknown.
const SHAPES: [(&str, &str); 10] = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5.4"),
    ("openai", "gpt-realtime"),
    ("google", "gemini-2.5-flash"),
    ("perplexity", "sonar-pro"),
    ("perplexity", "sonar-deep-research"),
    ("openrouter", "qwen/qwen3-coder-flash"),
    ("anthropic", "claude-opus-4-8"),
    ("openai", "gpt-image-1"),
    ("openai", "gpt-unheard-of"),
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_flat_price_is_rounded_half_to_even(tokens in any::<u64>(), shift in 0_u32..64, nanos in 0..=i64::MAX, less in 0_u32..63) {
        let (tokens, nanos) = (tokens >> shift, nanos >> less);
        let tariff = Tariff::new(UnknownModel::Allow, NanoUsd::from_nanos(nanos)).unwrap();
        let product = u128::from(tokens) * u128::try_from(nanos).unwrap();
        let expected = reference_division(&product.to_string(), 3);
        match tariff.flat(tokens) {
            Ok(cost) => prop_assert_eq!(cost.nanos().to_string(), expected),
            Err(error) => {
                prop_assert_eq!(error.code(), Code::InvalidNumber);
                prop_assert!(expected.parse::<i64>().is_err());
            }
        }
    }

    #[test]
    fn a_cost_is_summed_exactly_and_rounded_once(input in 0..10_u64.pow(12), cached in 0..10_u64.pow(12), output in 0..10_u64.pow(12)) {
        // Prices of 18 decimals, as few bits of which as possible would survive a double.
        let json = r#"{"source":{"package":"x","version":"1","license":"MIT","date":"2026-01-01"},"providers":[{"id":"openai",
            "models":[{"id":"m","match":{"equals":"m"},"prices":[{"rates":{"input_mtok":"0.099999999999999999",
            "cache_read_mtok":"0.000500000000000001","output_mtok":"0.4995"}}]}]}]}"#;
        let usage = TokenUsage { cached_input: cached.min(input), ..tokens(input, output) };
        let plain = u128::from(usage.input - usage.cached_input) * 99_999_999_999_999_999;
        let numerator = plain + u128::from(usage.cached_input) * 500_000_000_000_001 + u128::from(output) * 499_500_000_000_000_000;
        let prices = Prices::parse(json).unwrap();
        let priced = cost(&prices, None, "m", &usage).unwrap();
        prop_assert_eq!(priced.cost.nanos().to_string(), reference_division(&numerator.to_string(), 15));
    }

    #[test]
    fn money_in_text_is_rounded_half_to_even(negative in any::<bool>(), whole in 0_u64..9_000_000_000, fraction in "[0-9]{0,3}[05]{0,20}") {
        let digits = format!("{whole}{fraction:0<10}");
        let zeros = digits.len() - whole.to_string().len() - 9;
        let magnitude: i64 = reference_division(&digits, zeros).parse().unwrap();
        let text = format!("{}{whole}.{fraction}", if negative { "-" } else { "" });
        let money = NanoUsd::from_usd_str("usd", &text).unwrap();
        prop_assert_eq!(money.nanos(), if negative { -magnitude } else { magnitude });
        prop_assert_eq!(NanoUsd::from_usd_str("usd", &money.to_string()).unwrap(), money);
    }

    #[test]
    fn a_double_is_the_nearest_amount(bits in any::<u64>(), usd in -9.3e9_f64..9.3e9) {
        for usd in [f64::from_bits(bits), usd] {
            let Ok(money) = NanoUsd::from_usd_f64("usd", usd) else {
                prop_assert!(usd.is_nan() || usd.abs() > 9_223_372_036.0, "{usd}");
                continue;
            };
            // 1,100 decimals write any double exactly, so that text and double must agree.
            prop_assert_eq!(NanoUsd::from_usd_str("usd", &format!("{usd:.1100}")).unwrap(), money);
            prop_assert!((money.as_usd_f64() - usd).abs() <= 2e-6);
        }
    }

    #[test]
    fn more_tokens_never_cost_less(usage in valid_usage(1 << 40), more in 0..1_u64 << 40, place in 0..3, shape in 0..SHAPES.len()) {
        let (provider, model) = SHAPES[shape];
        let mut larger = usage;
        match place {
            0 => larger.input += more,
            1 => larger.output += more,
            _ => larger.unsplit += more,
        }
        let price = |usage: &TokenUsage| {
            Tariff::default().price(Prices::bundled(), &query(Some(provider), model, usage))
        };
        let (small, large) = (price(&usage).unwrap(), price(&larger).unwrap());
        prop_assert!(!small.cost.is_negative());
        prop_assert!(small.cost <= large.cost, "{usage:?} {larger:?}");
        prop_assert!(large.cost > NanoUsd::ZERO || larger.total() == 0);
    }

    #[test]
    fn any_numbers_end_in_a_cost_or_an_error(raw in prop::array::uniform11(any::<u64>()), shift in prop::array::uniform11(0_u32..64), shape in 0..SHAPES.len(), second in -377_705_023_201..=253_402_207_200_i64, nanos in 0..=i64::MAX) {
        let (provider, model) = SHAPES[shape];
        let mut shifted = raw;
        for (number, by) in shifted.iter_mut().zip(shift) {
            *number >>= by;
        }
        let at = Timestamp::from_second(second).unwrap();
        let tariff = Tariff::new(UnknownModel::Family, NanoUsd::from_nanos(nanos)).unwrap();
        for raw in [raw, shifted] {
            let usage = usage_of(raw);
            for (model, usage) in [("", usage), (model, usage), (model, usage.clamped())] {
                let query = PriceQuery { at, processing: Processing::Batch, ..query(Some(provider), model, &usage) };
                match tariff.price(Prices::bundled(), &query) {
                    Ok(priced) => prop_assert!(!priced.cost.is_negative() && usage.total() <= MAX_TOKENS),
                    Err(error) => prop_assert_eq!(error.code(), Code::InvalidNumber),
                }
            }
        }
    }

    #[test]
    fn any_names_end_in_a_cost_or_in_none(provider in prop::option::of("\\PC{0,12}|openai|azure|litellm"), model in "\\PC{0,24}|(gpt|claude|o)-?[0-9a-zé-]{0,12}(-20[0-9]{6})?") {
        let usage = tokens(1_000, 1_000);
        let query = PriceQuery { processing: Processing::Flex, ..query(provider.as_deref(), &model, &usage) };
        let prices = Prices::bundled();
        let first = prices.cost(&query).unwrap();
        prop_assert_eq!(first, prices.cost(&query).unwrap());
        if let Some(nearest) = prices.nearest_cost(&query).unwrap() {
            prop_assert_eq!(nearest.certainty, Certainty::Estimated);
            prop_assert!(nearest.cost > NanoUsd::ZERO);
        }
    }
}
