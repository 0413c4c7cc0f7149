//! What the operator decides about prices: their own, and what is done with calls that nobody has a price for.

use serde::{Deserialize, Serialize};

use super::charge::too_dear;
use super::own::OwnPrices;
use super::{Certainty, PriceQuery, Priced, Prices};
use crate::error::{Code, Error, Result};
use crate::usage::money::{NanoUsd, div_half_even};
use crate::usage::tokens::TokenUsage;
use crate::usage::units::Units;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Tariff {
    unknown_model: UnknownModel,
    /// Not negative.
    per_1k_tokens: NanoUsd,
    own: OwnPrices,
}

impl Default for Tariff {
    fn default() -> Self {
        Tariff {
            unknown_model: UnknownModel::default(),
            per_1k_tokens: DEFAULT_PER_1K_TOKENS,
            own: OwnPrices::default(),
        }
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
        Ok(Tariff { unknown_model, per_1k_tokens, own: OwnPrices::default() })
    }

    /// The same, with prices that go before any table's.
    #[must_use]
    pub(crate) fn with_own(self, own: OwnPrices) -> Self {
        Tariff { own, ..self }
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

    /// The cost of a call: by the operator's own prices and the table where they have one, and by this policy where they
    /// have none. An empty model costs [`guess`](Self::guess). A [`Certainty::Exact`] cost of 0 is that of a model that is
    /// published as free; what has no price never costs 0 where [`per_1k_tokens`](Self::per_1k_tokens) does not make it so.
    ///
    /// # Errors
    /// [`Code::UnknownModel`] under [`UnknownModel::Block`]; [`Code::InvalidNumber`] where [`TokenUsage::validate`]
    /// refuses the usage or the cost is past [`NanoUsd::MAX`].
    pub fn price<'p>(&self, prices: &'p Prices, query: &PriceQuery<'_>) -> Result<Priced<'p>> {
        if query.model.is_empty() {
            query.usage.validate()?;
            return self.guessed(query);
        }
        if let Some(priced) = prices.cost_with(query, self.own.get(query.provider, query.model))? {
            return self.completed(priced);
        }
        match self.unknown_model {
            UnknownModel::Block if !prices.knows(query) => Err(Error::invalid(
                Code::UnknownModel,
                "model",
                query.model,
                "a model with a known price (unless unknown models are priced by `family` or `allow`)",
            )),
            UnknownModel::Family => match prices.nearest_cost(query)? {
                Some(priced) if priced.cost > NanoUsd::ZERO || query.usage.total() == 0 => self.completed(priced),
                _ => self.guessed(query),
            },
            UnknownModel::Block | UnknownModel::Allow => self.guessed(query),
        }
    }

    /// The price of what nobody has a price for.
    ///
    /// # Errors
    /// As [`flat`](Self::flat).
    #[inline]
    pub fn guess(&self, usage: &TokenUsage, units: &Units<'_>) -> Result<NanoUsd> {
        self.flat(usage.total().saturating_add(units.as_tokens()))
    }

    fn guessed<'p>(&self, query: &PriceQuery<'_>) -> Result<Priced<'p>> {
        let cost = self.guess(query.usage, &query.units)?;
        let certainty = Certainty::Estimated;
        Ok(Priced { cost, certainty, unpriced: 0, matched_provider: None, matched_model: None })
    }

    /// With what the table has no price for.
    fn completed<'p>(&self, priced: Priced<'p>) -> Result<Priced<'p>> {
        if priced.unpriced == 0 {
            return Ok(priced);
        }
        let cost = priced.cost.saturating_add(self.flat(priced.unpriced)?);
        Ok(Priced { cost, unpriced: 0, ..priced })
    }
}
