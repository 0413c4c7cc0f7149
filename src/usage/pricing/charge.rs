//! The arithmetic of one call: its prices, by layers, times what it used, summed exactly and rounded once.

use arrayvec::ArrayVec;

use super::rates::{Key, Price, Rates};
use super::{Certainty, NanoUsd};
use crate::error::{Code, Error, Result};
use crate::usage::money::div_half_even;
use crate::usage::tokens::TokenUsage;
use crate::usage::units::Units;

/// Layers of prices that a call may have: the operator's own, those of its processing, the standard ones, the provider's.
const MOST_LAYERS: usize = 8;

/// Sums are whole multiples of 1e-24/18 USD: a token costs its price a million, a millisecond its price an hour, and the
/// sum of both is exact.
const UNITS_PER_NANO_USD: u128 = 18_000_000_000_000_000;
const PER_MILLION: u128 = 18;
const PER_THOUSAND: u128 = 18_000;
const PER_ONE: u128 = 18_000_000;
/// 18 million through the milliseconds of an hour.
const PER_HOUR_OF_MILLISECONDS: u128 = 5;

/// The prices of one call. A part without its own price costs what its whole costs.
#[derive(Debug)]
pub(super) struct Charge<'r> {
    layers: ArrayVec<&'r Rates, MOST_LAYERS>,
    /// They choose the tier.
    input_tokens: u64,
}

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) money: NanoUsd,
    pub(super) certainty: Certainty,
    /// What has no price, as tokens.
    pub(super) unpriced: u64,
}

/// A part of the input, and what a token of it costs fresh and read from the cache.
#[derive(Clone, Copy)]
struct Part {
    tokens: u64,
    fresh: Price,
    cached: Price,
}

impl<'r> Charge<'r> {
    /// The first of `layers` that has a price decides, price by price.
    pub(super) fn new(layers: impl Iterator<Item = &'r Rates>, input_tokens: u64) -> Self {
        Self { layers: layers.take(MOST_LAYERS).collect(), input_tokens }
    }

    fn price(&self, key: Key) -> Option<Price> {
        self.layers.iter().find_map(|rates| rates.at(key, self.input_tokens))
    }

    /// True where tokens have no price, and something else does.
    pub(super) fn is_without_tokens(&self) -> bool {
        !self.layers.iter().any(|rates| !rates.is_without_tokens())
    }

    /// The cost of one request with `usage`, which must be valid, and `units`.
    pub(super) fn cost(&self, usage: &TokenUsage, units: &Units<'_>) -> Result<Cost> {
        let (sum, is_exact) = self.tokens(usage).unwrap_or((u128::MAX, false));
        let mut cost = Cost { money: NanoUsd::ZERO, certainty: Certainty::Exact, unpriced: 0 };
        let sum = if units.is_empty() {
            Some(sum)
        } else {
            self.units(units, &mut cost).and_then(|more| more.checked_add(sum))
        };
        if !is_exact {
            cost.certainty = Certainty::Estimated;
        }
        match i64::try_from(div_half_even(sum.unwrap_or(u128::MAX), UNITS_PER_NANO_USD)) {
            Ok(nanos) => Ok(Cost { money: NanoUsd::from_nanos(nanos), ..cost }),
            Err(_) => Err(too_dear(usage.total())),
        }
    }

    /// What the tokens cost, and whether that is exact; `None` past `u128`, which is far past any [`NanoUsd`].
    fn tokens(&self, usage: &TokenUsage) -> Option<(u128, bool)> {
        let input = self.price(Key::Input).unwrap_or(0);
        let output = self.price(Key::Output).unwrap_or(0);
        let (mut total, mut is_exact) =
            if usage.cached_input | usage.cache_write | usage.audio_input | usage.image_input == 0 {
                (product(usage.input, input)?, true)
            } else {
                self.input(usage, input)?
            };
        let own_output = usage.reasoning | usage.audio_output | usage.image_output;
        if own_output == 0 {
            total = total.checked_add(product(usage.output, output)?)?;
        } else {
            let plain = usage.output.checked_sub(usage.reasoning)?.checked_sub(usage.audio_output)?;
            for (tokens, price) in [
                (plain.checked_sub(usage.image_output)?, output),
                (usage.reasoning, self.price(Key::Reasoning).unwrap_or(output)),
                (usage.audio_output, self.price(Key::AudioOutput).unwrap_or(output)),
                (usage.image_output, self.price(Key::ImageOutput).unwrap_or(output)),
            ] {
                total = total.checked_add(product(tokens, price)?)?;
            }
        }
        if usage.unsplit > 0 {
            total = total.checked_add(product(usage.unsplit, input.max(output))?)?;
            is_exact = false;
        }
        let request = self.price(Key::Requests).unwrap_or(0);
        total.checked_mul(PER_MILLION)?.checked_add(request.checked_mul(PER_THOUSAND)?).map(|total| (total, is_exact))
    }

    /// How much of the sound and the pictures was read from the cache is not reported. The cost is linear in it, so that
    /// the two ends of what is possible bound it; the dearer counts.
    fn input(&self, usage: &TokenUsage, input: Price) -> Option<(u128, bool)> {
        let cache_read = self.price(Key::CacheRead);
        let part = |tokens, fresh, cached| {
            let fresh = self.price(fresh).unwrap_or(input);
            Part { tokens, fresh, cached: self.price(cached).or(cache_read).unwrap_or(fresh) }
        };
        let text = usage.input.checked_sub(usage.audio_input)?.checked_sub(usage.image_input)?;
        let mut parts = [
            Part { tokens: text, fresh: input, cached: cache_read.unwrap_or(input) },
            part(usage.image_input, Key::ImageInput, Key::ImageCacheRead),
            part(usage.audio_input, Key::AudioInput, Key::AudioCacheRead),
        ];
        // What was written to the cache is text as far as there is any.
        let mut written = usage.cache_write;
        for part in &mut parts {
            let taken = written.min(part.tokens);
            part.tokens -= taken;
            written -= taken;
        }
        let write = self.price(Key::CacheWrite).unwrap_or(input);
        let write_long = self.price(Key::CacheWriteLong).unwrap_or(write);
        let short = usage.cache_write.checked_sub(usage.cache_write_long)?;
        let writes = product(short, write)?.checked_add(product(usage.cache_write_long, write_long)?)?;

        parts.sort_by_key(gain);
        let cheap = read_in_order(&parts, usage.cached_input)?;
        parts.reverse();
        let dear = read_in_order(&parts, usage.cached_input)?;
        Some((dear.checked_add(writes)?, cheap == dear))
    }

    /// What the units cost; those without a price are told in `cost`.
    fn units(&self, units: &Units<'_>, cost: &mut Cost) -> Option<u128> {
        let mut total = 0_u128;
        let mut unpriced = Units { other_tools: units.other_tools, ..Units::default() };
        let mut add = |count: u64, price: Option<Price>, scale: u128, left: &mut u64| {
            match price {
                Some(price) => total = total.checked_add(price.checked_mul(scale)?.checked_mul(u128::from(count))?)?,
                None => *left = count,
            }
            Some(())
        };
        let least = self.layers.iter().map(|rates| rates.least_milliseconds()).max().unwrap_or(0);
        let heard = if units.milliseconds == 0 { 0 } else { units.milliseconds.max(least) };
        let hours = self.price(Key::InputAudioHours).or_else(|| self.price(Key::AudioHours));
        let image = self.layers.iter().find_map(|rates| rates.image(units.image_kind));
        let is_other_image = units.images > 0 && image.is_some_and(|(_, is_own)| !is_own);
        // Code may run in a container that was begun, and paid, before.
        if is_other_image || units.code_sessions > 0 {
            cost.certainty = Certainty::Estimated;
        }
        add(heard, hours, PER_HOUR_OF_MILLISECONDS, &mut unpriced.milliseconds)?;
        add(units.characters, self.price(Key::Characters), PER_MILLION, &mut unpriced.characters)?;
        add(units.images, image.map(|(price, _)| price), PER_ONE, &mut unpriced.images)?;
        add(units.web_searches, self.price(Key::WebSearches), PER_THOUSAND, &mut unpriced.web_searches)?;
        add(units.file_searches, self.price(Key::FileSearches), PER_THOUSAND, &mut unpriced.file_searches)?;
        add(units.code_sessions, self.price(Key::CodeSessions), PER_THOUSAND, &mut unpriced.code_sessions)?;
        if !unpriced.is_empty() {
            cost.certainty = Certainty::Estimated;
            cost.unpriced = unpriced.as_tokens();
        }
        Some(total)
    }
}

/// The cost of the input where the cache served the parts in this order.
fn read_in_order(parts: &[Part], cached: u64) -> Option<u128> {
    let mut left = cached;
    parts.iter().try_fold(0_u128, |total, part| {
        let read = left.min(part.tokens);
        left -= read;
        total.checked_add(product(read, part.cached)?)?.checked_add(product(part.tokens - read, part.fresh)?)
    })
}

/// What reading a token of it from the cache adds to its cost; mostly less than nothing.
fn gain(part: &Part) -> i128 {
    part.cached.cast_signed().saturating_sub(part.fresh.cast_signed())
}

fn product(count: u64, price: Price) -> Option<u128> {
    price.checked_mul(u128::from(count))
}

/// The error of a cost past [`NanoUsd::MAX`].
#[cold]
pub(super) fn too_dear(tokens: u64) -> Error {
    Error::invalid(Code::InvalidNumber, "tokens", tokens, "tokens that cost less than 9223372036 USD")
}
