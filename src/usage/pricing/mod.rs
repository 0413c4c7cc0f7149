//! What a call costs, from a dated table of the providers' prices and an operator's [`Tariff`] for what is not in it.
//!
//! It never guesses silently (whatever is not the published price of what was used is marked
//! [`Certainty::Estimated`]) and never touches floating point: prices are exact decimals, summed exactly and rounded
//! once a call, half to even. The manager and the estimates call it.
//!
//! In reading order: `catalogue` (the table, and which entry a name means), `clause` (one matching rule), `rates` (what
//! an entry asks for), `charge` (the arithmetic), `memo` (matches already made), `own` (the operator's prices), `tariff` (the
//! policy).

mod catalogue;
mod charge;
mod clause;
mod memo;
mod own;
mod rates;
mod tariff;

use std::sync::OnceLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::catalogue::{Catalogue, Match, tier_tokens};
use self::charge::Charge;
use self::memo::Memo;
use super::money::NanoUsd;
use super::tokens::TokenUsage;
use super::units::Units;
use crate::error::{Code, Error, Result};

pub use self::catalogue::Source;
pub(crate) use self::own::{OwnPrices, OwnRates};
pub(crate) use self::rates::Rates;
pub use self::tariff::{Tariff, UnknownModel};

/// The table that is built in, and what that does not have. `data/README.md` tells where they are from.
const BUNDLED: &str = include_str!("../../../data/prices.json");
const MORE: &str = include_str!("../../../data/more_prices.json");

/// How sure a cost is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The published price of exactly what was used.
    Exact,
    /// Part of the usage or the price is an assumption.
    Estimated,
}

/// How the provider processes a call; each may have its own price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Processing {
    /// At once, at the list price.
    #[default]
    Standard,
    /// Within hours, through a batch endpoint.
    Batch,
    /// When there is room.
    Flex,
    /// Ahead of others.
    Priority,
    /// At a raised speed.
    Fast,
}

impl Processing {
    /// The processing that a provider's `service_tier` means (`batch`, `flex`, `priority`, `fast`); any other word
    /// (`default`, `auto`, `standard`...) is billed as standard.
    #[must_use]
    pub fn from_service_tier(tier: &str) -> Self {
        match tier {
            "batch" => Processing::Batch,
            "flex" => Processing::Flex,
            "priority" => Processing::Priority,
            "fast" => Processing::Fast,
            _ => Processing::Standard,
        }
    }
}

/// A question to [`Prices::cost`]: who served which model, what it used, and when.
#[derive(Debug, Clone, Copy)]
pub struct PriceQuery<'q> {
    /// The provider's name, in any case (`openai`, `azure`, `google-vertex`). `None`: told from the model's name, and
    /// `openai` where that tells nothing.
    pub provider: Option<&'q str>,
    /// The model as the call names it, in any case.
    pub model: &'q str,
    /// The tokens that were used.
    pub usage: &'q TokenUsage,
    /// What was used beside them.
    pub units: Units<'q>,
    /// When the call was made: prices change by date, and with some providers by time of day.
    pub at: Timestamp,
    /// How the provider processed it.
    pub processing: Processing,
}

/// A cost and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced<'p> {
    /// What the call costs; never negative.
    pub cost: NanoUsd,
    /// How sure that is.
    pub certainty: Certainty,
    /// What has no price and is not in the cost, as tokens of no known model.
    pub unpriced: u64,
    /// The table's id of the provider; `None` where the cost is the tariff's price per 1,000 tokens.
    pub matched_provider: Option<&'p str>,
    /// The table's id of the model; `None` where the cost is the tariff's price per 1,000 tokens.
    pub matched_model: Option<&'p str>,
}

/// A table of prices. Cheap to ask from many threads: no call waits for another.
#[derive(Debug)]
pub struct Prices {
    catalogue: Catalogue,
    found: Memo,
    nearest: Memo,
}

impl Prices {
    /// The built-in table, parsed at first use (a few milliseconds). A process that forks should have called it
    /// before: a child of a fork during that first use would wait for the parent's thread, which it does not have.
    #[must_use]
    pub fn bundled() -> &'static Prices {
        static TABLE: OnceLock<Prices> = OnceLock::new();
        // The built-in text is part of the build and parsed by a test, so that the default (no model known) is never
        // taken.
        TABLE.get_or_init(|| Self::read(&[BUNDLED, MORE]).unwrap_or_else(|_| Self::over(Catalogue::default())))
    }

    /// A table in the format of `data/prices.json`.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the line and column of the first mistake.
    pub fn parse(json: &str) -> Result<Self> {
        Self::read(&[json])
    }

    /// The first of the tables, with what the others have beyond it.
    fn read(tables: &[&str]) -> Result<Self> {
        let mut catalogue = Catalogue::default();
        for (place, json) in tables.iter().enumerate() {
            let table: Catalogue = serde_json::from_str(json)
                .map_err(|error| Error::new(Code::InvalidConfig, "prices", format!("prices: {error}")))?;
            if place == 0 { catalogue = table } else { catalogue.extend(table) }
        }
        Ok(Self::over(catalogue))
    }

    fn over(catalogue: Catalogue) -> Self {
        Prices { catalogue, found: Memo::default(), nearest: Memo::default() }
    }

    /// Where the table is from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.catalogue.source
    }

    /// The cost by the published price, or `None` where the table has none: the model is unknown, or its provider
    /// bills it by something else than what was used (tokens, where it bills an hour of sound).
    ///
    /// [`Certainty::Estimated`] where some tokens are `unsplit` (they cost the dearer of input and output), where sound,
    /// pictures and cache have prices of their own and the usage leaves open how much of them was cached (the dearer
    /// reading counts), where the table has no price for the processing (the standard one counts), for a picture of a
    /// kind that has no price (the dearest counts), for code that was run (a container may have been paid before), and
    /// where some of what was used has no price: that is [`Priced::unpriced`].
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] where [`TokenUsage::validate`] refuses the usage or the cost is past [`NanoUsd::MAX`].
    pub fn cost(&self, query: &PriceQuery<'_>) -> Result<Option<Priced<'_>>> {
        self.cost_with(query, None)
    }

    /// As [`cost`](Self::cost), with the operator's `own` prices before the table's; they need no entry of it.
    pub(crate) fn cost_with(&self, query: &PriceQuery<'_>, own: Option<&OwnRates>) -> Result<Option<Priced<'_>>> {
        query.usage.validate()?;
        let find = || self.catalogue.find(query.provider, query.model);
        match self.found.get_or_find(query.provider, query.model, find) {
            Some(found) => self.priced(found, query, own),
            None => own.map_or(Ok(None), |own| {
                let charge = Charge::new(own.layers(query.processing), tier_tokens(query.usage));
                finished(&charge, query, Certainty::Exact, (None, None))
            }),
        }
    }

    /// The cost at the price of the nearest model of the same family: the one whose id shares most dash-separated
    /// words with `query.model`, counted from the start. Always [`Certainty::Estimated`]; `None` where no billed model
    /// shares the first word. Free models are passed over.
    ///
    /// # Errors
    /// As [`cost`](Self::cost).
    pub fn nearest_cost(&self, query: &PriceQuery<'_>) -> Result<Option<Priced<'_>>> {
        query.usage.validate()?;
        let find = || self.catalogue.nearest(query.provider, query.model);
        match self.nearest.get_or_find(query.provider, query.model, find) {
            Some(found) => {
                let priced = self.priced(found, query, None)?;
                Ok(priced.map(|priced| Priced { certainty: Certainty::Estimated, ..priced }))
            }
            None => Ok(None),
        }
    }

    /// True where the table has a price for the model, be it not for what was used.
    pub(crate) fn knows(&self, query: &PriceQuery<'_>) -> bool {
        let find = || self.catalogue.find(query.provider, query.model);
        let found = self.found.get_or_find(query.provider, query.model, find);
        let entry = found.and_then(|found| self.catalogue.entry(found));
        entry.is_some_and(|(provider, model)| {
            model.rates_at(provider, std::iter::empty(), query.at, query.processing, query.usage).is_some()
        })
    }

    fn priced(&self, found: Match, query: &PriceQuery<'_>, own: Option<&OwnRates>) -> Result<Option<Priced<'_>>> {
        let Some((provider, model)) = self.catalogue.entry(found) else {
            return Ok(None);
        };
        let processing = if found.is_borrowed() { Processing::Standard } else { query.processing };
        let layers = own.into_iter().flat_map(|own| own.layers(query.processing));
        let names = (Some(&*provider.id), Some(&*model.id));
        match model.rates_at(provider, layers, query.at, processing, query.usage) {
            Some((charge, priced_as)) => {
                let is_own = own.is_some() || priced_as == query.processing;
                finished(&charge, query, if is_own { Certainty::Exact } else { Certainty::Estimated }, names)
            }
            None => own.map_or(Ok(None), |own| {
                let charge = Charge::new(own.layers(query.processing), tier_tokens(query.usage));
                finished(&charge, query, Certainty::Exact, names)
            }),
        }
    }
}

/// What a charge comes to; `None` where it is of tokens that have no price.
fn finished<'p>(
    charge: &Charge<'_>,
    query: &PriceQuery<'_>,
    certainty: Certainty,
    (matched_provider, matched_model): (Option<&'p str>, Option<&'p str>),
) -> Result<Option<Priced<'p>>> {
    if query.units.is_empty() && query.usage.total() > 0 && charge.is_without_tokens() {
        return Ok(None);
    }
    let cost = charge.cost(query.usage, &query.units)?;
    let certainty = if certainty == Certainty::Exact { cost.certainty } else { certainty };
    Ok(Some(Priced { cost: cost.money, certainty, unpriced: cost.unpriced, matched_provider, matched_model }))
}
