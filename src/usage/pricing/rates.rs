//! What an entry of the table asks for, and the arithmetic.
//!
//! Prices are US dollars for a million tokens, held as whole multiples of 1e-18 USD, which every price of the table is.
//! A token then costs `price * 1e-24` USD, and sums of such products are exact.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};

use super::{Certainty, NanoUsd};
use crate::error::{Code, Error, Result};
use crate::usage::money::div_half_even;
use crate::usage::tokens::TokenUsage;

/// Decimals of a price.
const PRICE_DECIMALS: usize = 18;

/// 1e-24 USD in one nano-dollar.
const UNITS_PER_NANO_USD: u128 = 1_000_000_000_000_000;

/// A price for a million, in 1e-18 USD; a million tokens of 1,000 billion USD is the bound of what is read.
type Price = u128;

/// A price, by the size of the input: past the start of a tier, every token of the call costs that tier's price.
#[derive(Debug)]
pub(super) struct Rate {
    base: Price,
    /// (tokens of input that must be exceeded, price), ascending.
    tiers: Box<[(u64, Price)]>,
}

impl Rate {
    fn at(&self, input_tokens: u64) -> Price {
        self.tiers.iter().rev().find(|(start, _)| input_tokens > *start).map_or(self.base, |(_, price)| *price)
    }

    fn is_positive(&self) -> bool {
        self.base > 0 || self.tiers.iter().any(|(_, price)| *price > 0)
    }
}

/// The prices of one entry. A part without its own price costs what its whole costs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rates {
    input_mtok: Option<Rate>,
    cache_read_mtok: Option<Rate>,
    cache_write_mtok: Option<Rate>,
    input_audio_mtok: Option<Rate>,
    cache_audio_read_mtok: Option<Rate>,
    output_mtok: Option<Rate>,
    output_reasoning_mtok: Option<Rate>,
    output_audio_mtok: Option<Rate>,
    /// For 1,000 requests.
    requests_kcount: Option<Rate>,
}

impl Rates {
    /// True where input or output costs something.
    pub(super) fn is_billed(&self) -> bool {
        [&self.input_mtok, &self.output_mtok].into_iter().flatten().any(Rate::is_positive)
    }
}

/// The prices of one call, resolved by date, processing and size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolved {
    input: Price,
    cache_read: Price,
    cache_write: Price,
    audio_input: Price,
    audio_cache_read: Price,
    output: Price,
    reasoning: Price,
    audio_output: Price,
    /// For 1,000 requests.
    requests: Price,
}

impl Resolved {
    /// The first of `layers` that has a price decides, price by price. `input_tokens` chooses the tier.
    pub(super) fn new<'r>(layers: impl Iterator<Item = &'r Rates> + Clone, input_tokens: u64) -> Self {
        let price = |pick: fn(&Rates) -> &Option<Rate>| {
            layers.clone().find_map(|rates| pick(rates).as_ref()).map(|rate| rate.at(input_tokens))
        };
        let input = price(|rates| &rates.input_mtok).unwrap_or(0);
        let output = price(|rates| &rates.output_mtok).unwrap_or(0);
        let cache_read = price(|rates| &rates.cache_read_mtok);
        let audio_input = price(|rates| &rates.input_audio_mtok).unwrap_or(input);
        Resolved {
            input,
            cache_read: cache_read.unwrap_or(input),
            cache_write: price(|rates| &rates.cache_write_mtok).unwrap_or(input),
            audio_input,
            audio_cache_read: price(|rates| &rates.cache_audio_read_mtok).or(cache_read).unwrap_or(audio_input),
            output,
            reasoning: price(|rates| &rates.output_reasoning_mtok).unwrap_or(output),
            audio_output: price(|rates| &rates.output_audio_mtok).unwrap_or(output),
            requests: price(|rates| &rates.requests_kcount).unwrap_or(0),
        }
    }

    /// The cost of one request with `usage`, which must be valid.
    pub(super) fn cost(&self, usage: &TokenUsage) -> Result<(NanoUsd, Certainty)> {
        let (units, certainty) = self.units(usage).unwrap_or((u128::MAX, Certainty::Estimated));
        match i64::try_from(div_half_even(units, UNITS_PER_NANO_USD)) {
            Ok(nanos) => Ok((NanoUsd::from_nanos(nanos), certainty)),
            Err(_) => Err(too_dear(usage.total())),
        }
    }

    /// The cost in 1e-24 USD; `None` past `u128`, which is far past any [`NanoUsd`].
    fn units(&self, usage: &TokenUsage) -> Option<(u128, Certainty)> {
        // How much of the audio was read from the cache is not reported. The cost is linear in it, so that the two
        // ends of what is possible bound it; the dearer counts.
        let most = usage.cached_input.min(usage.audio_input);
        let parts = usage.cached_input.checked_add(usage.cache_write)?.checked_add(usage.audio_input)?;
        let least = parts.saturating_sub(usage.input).min(most);
        let (low, high) = (self.input_units(usage, least)?, self.input_units(usage, most)?);

        let text_output = usage.output.checked_sub(usage.reasoning)?.checked_sub(usage.audio_output)?;
        let total = sum([
            (1_000, self.requests),
            (text_output, self.output),
            (usage.reasoning, self.reasoning),
            (usage.audio_output, self.audio_output),
            (usage.unsplit, self.input.max(self.output)),
        ])?
        .checked_add(low.max(high))?;
        let exact = low == high && usage.unsplit == 0;
        Some((total, if exact { Certainty::Exact } else { Certainty::Estimated }))
    }

    /// The cost of the input where `overlap` of its tokens are both audio and cached.
    fn input_units(&self, usage: &TokenUsage, overlap: u64) -> Option<u128> {
        let uncached = usage.input.checked_sub(usage.cached_input)?.checked_sub(usage.cache_write)?;
        // Audio that fits neither into the overlap nor beside the cache was written to it, at the price of writing.
        let audio = usage.audio_input.checked_sub(overlap)?.min(uncached);
        sum([
            (usage.cached_input.checked_sub(overlap)?, self.cache_read),
            (overlap, self.audio_cache_read),
            (usage.cache_write, self.cache_write),
            (audio, self.audio_input),
            (uncached.checked_sub(audio)?, self.input),
        ])
    }
}

/// The error of a cost past [`NanoUsd::MAX`].
#[cold]
pub(super) fn too_dear(tokens: u64) -> Error {
    Error::invalid(Code::InvalidNumber, "tokens", tokens, "tokens that cost less than 9223372036 USD")
}

fn sum<const N: usize>(products: [(u64, Price); N]) -> Option<u128> {
    products
        .into_iter()
        .try_fold(0_u128, |total, (tokens, price)| total.checked_add(price.checked_mul(u128::from(tokens))?))
}

/// A decimal of at most 12 digits before and 18 after the point.
fn parse_price(text: &str) -> Option<Price> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    if whole.is_empty()
        || whole.len() > 12
        || fraction.len() > PRICE_DECIMALS
        || !digits.clone().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let padding = std::iter::repeat_n(b'0', PRICE_DECIMALS - fraction.len());
    Some(digits.chain(padding).fold(0, |price, digit| price * 10 + u128::from(digit - b'0')))
}

/// `"2.5"`, or `{"base": "1.25", "tiers": [[200000, "2.5"]]}`.
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Tiered<'t> {
            base: &'t str,
            #[serde(borrow)]
            tiers: Vec<(u64, &'t str)>,
        }

        struct RateVisitor;

        impl<'de> Visitor<'de> for RateVisitor {
            type Value = Rate;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a decimal in quotes, or a base and tiers")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rate, E> {
                Ok(Rate { base: price(text)?, tiers: Box::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rate, A::Error> {
                let raw = Tiered::deserialize(MapAccessDeserializer::new(map))?;
                let tiers = raw.tiers.into_iter().map(|(start, text)| Ok((start, price(text)?)));
                let rate = Rate { base: price(raw.base)?, tiers: tiers.collect::<Result<_, A::Error>>()? };
                if !rate.tiers.is_sorted_by_key(|(start, _)| start) {
                    return Err(A::Error::custom("tiers are not in ascending order"));
                }
                Ok(rate)
            }
        }

        fn price<E: serde::de::Error>(text: &str) -> Result<Price, E> {
            parse_price(text).ok_or_else(|| E::custom(format_args!("not a price: {text:?}")))
        }

        deserializer.deserialize_any(RateVisitor)
    }
}
