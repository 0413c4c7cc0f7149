//! What the operator decides about calls that the table has no price for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rates::too_dear;
use super::{Certainty, PriceQuery, Priced, Prices, Processing};
use crate::error::{Code, Error, Result};
use crate::usage::money::{NanoUsd, div_half_even};
use crate::usage::tokens::TokenUsage;

/// The price of 1,000 tokens whose model nobody told, unless configured: 0.01 USD.
const DEFAULT_PER_1K_TOKENS: NanoUsd = NanoUsd::from_nanos(10_000_000);

/// What to do with a model that has no price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownModel {
    /// Refuse it, with the code `unknown_model`.
    Block,
    /// The price of the nearest model of its family, and where there is none the price per 1,000 tokens.
    #[default]
    Family,
    /// The price per 1,000 tokens.
    Allow,
}

/// The operator's price policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tariff {
    unknown_model: UnknownModel,
    /// Not negative.
    per_1k_tokens: NanoUsd,
}

impl Default for Tariff {
    fn default() -> Self {
        Tariff { unknown_model: UnknownModel::default(), per_1k_tokens: DEFAULT_PER_1K_TOKENS }
    }
}

impl Tariff {
    /// A tariff with a price for 1,000 tokens of no known model.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] where that price is negative.
    pub fn new(unknown_model: UnknownModel, per_1k_tokens: NanoUsd) -> Result<Self> {
        if per_1k_tokens.is_negative() {
            return Err(Error::invalid(
                Code::InvalidNumber,
                "per_1k_tokens",
                per_1k_tokens,
                "a price of 0 USD or more",
            ));
        }
        Ok(Tariff { unknown_model, per_1k_tokens })
    }

    /// What is done with a model that has no price.
    #[must_use]
    pub const fn unknown_model(&self) -> UnknownModel {
        self.unknown_model
    }

    /// The price of 1,000 tokens of no known model.
    #[must_use]
    pub const fn per_1k_tokens(&self) -> NanoUsd {
        self.per_1k_tokens
    }

    /// The price of `tokens` of no known model, rounded half to even. This is on the path of every record without a
    /// model: one multiplication, and one division by a constant.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] where it is past [`NanoUsd::MAX`].
    #[inline]
    pub fn flat(&self, tokens: u64) -> Result<NanoUsd> {
        match tokens.checked_mul(self.per_1k_tokens.nanos().unsigned_abs()) {
            Some(product) => {
                let (nanos, rest) = (product / 1_000, product % 1_000);
                let up = u64::from(rest > 500 || (rest == 500 && nanos % 2 == 1));
                // A quotient of u64 and 1,000 is far below i64::MAX.
                Ok(NanoUsd::from_nanos((nanos + up).cast_signed()))
            }
            None => self.flat_wide(tokens),
        }
    }

    #[cold]
    fn flat_wide(&self, tokens: u64) -> Result<NanoUsd> {
        let product = u128::from(tokens) * u128::from(self.per_1k_tokens.nanos().unsigned_abs());
        let nanos = i64::try_from(div_half_even(product, 1_000)).map_err(|_| too_dear(tokens))?;
        Ok(NanoUsd::from_nanos(nanos))
    }

    /// The cost of a call: by the table where it has a price, and by this policy where it has none. `provider`, `model`,
    /// `at` and `processing` are as in [`PriceQuery`]; an absent or empty model costs [`flat`](Self::flat). A
    /// [`Certainty::Exact`] cost of 0 is that of a model that is published as free; an unknown model never costs 0
    /// where [`per_1k_tokens`](Self::per_1k_tokens) does not make it so.
    ///
    /// # Errors
    /// [`Code::UnknownModel`] under [`UnknownModel::Block`]; [`Code::InvalidNumber`] where [`TokenUsage::validate`]
    /// refuses the usage or the cost is past [`NanoUsd::MAX`].
    #[inline]
    pub fn price<'p>(
        &self,
        prices: &'p Prices,
        provider: Option<&str>,
        model: Option<&str>,
        usage: &TokenUsage,
        at: Timestamp,
        processing: Processing,
    ) -> Result<Priced<'p>> {
        match model.filter(|model| !model.is_empty()) {
            None => {
                usage.validate()?;
                self.flat_priced(usage)
            }
            Some(model) => self.price_model(prices, &PriceQuery { provider, model, usage, at, processing }),
        }
    }

    fn price_model<'p>(&self, prices: &'p Prices, query: &PriceQuery<'_>) -> Result<Priced<'p>> {
        if let Some(priced) = prices.cost(query)? {
            return Ok(priced);
        }
        match self.unknown_model {
            UnknownModel::Block => Err(Error::invalid(
                Code::UnknownModel,
                "model",
                query.model,
                "a model with a known price (unless unknown models are priced by `family` or `allow`)",
            )),
            UnknownModel::Family => match prices.nearest_cost(query)? {
                Some(priced) if priced.cost > NanoUsd::ZERO || query.usage.total() == 0 => Ok(priced),
                _ => self.flat_priced(query.usage),
            },
            UnknownModel::Allow => self.flat_priced(query.usage),
        }
    }

    #[inline]
    fn flat_priced<'p>(&self, usage: &TokenUsage) -> Result<Priced<'p>> {
        let cost = self.flat(usage.total())?;
        Ok(Priced { cost, certainty: Certainty::Estimated, matched_provider: None, matched_model: None })
    }
}
