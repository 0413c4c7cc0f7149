//! What a call costs, from a dated table of the providers' prices and an operator's [`Tariff`] for what is not in it.
//!
//! It never guesses silently (whatever is not the published price of what was used is marked
//! [`Certainty::Estimated`]) and never touches floating point: prices are exact decimals, summed exactly and rounded
//! once a call, half to even. The manager and the estimates call it.
//!
//! In reading order: `catalogue` (the table, and which entry a name means), `clause` (one matching rule), `rates` (what
//! an entry asks for), `memo` (matches already made), `tariff` (the policy).

mod catalogue;
mod clause;
mod memo;
mod rates;
mod tariff;

use std::sync::OnceLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::catalogue::{Catalogue, Match};
use self::memo::Memo;
use super::money::NanoUsd;
use super::tokens::TokenUsage;
use crate::error::{Code, Error, Result};

pub use self::catalogue::Source;
pub use self::tariff::{Tariff, UnknownModel};

/// The table that is built in. `data/README.md` tells where it is from.
const BUNDLED: &str = include_str!("../../../data/prices.json");

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
    /// What was used.
    pub usage: &'q TokenUsage,
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
        TABLE.get_or_init(|| Self::parse(BUNDLED).unwrap_or_else(|_| Self::over(Catalogue::default())))
    }

    /// A table in the format of `data/prices.json`.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the line and column of the first mistake.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map(Self::over)
            .map_err(|error| Error::new(Code::InvalidConfig, "prices", format!("prices: {error}")))
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
    /// bills it by something else than tokens and requests (an hour of audio, a page).
    ///
    /// [`Certainty::Estimated`] where some tokens are `unsplit` (they cost the dearer of input and output), where audio
    /// and cache have prices of their own and the usage leaves open how much of the audio was cached (the dearer
    /// reading counts), and where the table has no price for the processing (the standard one counts).
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] where [`TokenUsage::validate`] refuses the usage or the cost is past [`NanoUsd::MAX`].
    pub fn cost(&self, query: &PriceQuery<'_>) -> Result<Option<Priced<'_>>> {
        query.usage.validate()?;
        let find = || self.catalogue.find(query.provider, query.model);
        match self.found.get_or_find(query.provider, query.model, find) {
            Some(found) => self.priced(found, query),
            None => Ok(None),
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
                let priced = self.priced(found, query)?;
                Ok(priced.map(|priced| Priced { certainty: Certainty::Estimated, ..priced }))
            }
            None => Ok(None),
        }
    }

    fn priced(&self, found: Match, query: &PriceQuery<'_>) -> Result<Option<Priced<'_>>> {
        let Some((provider, model)) = self.catalogue.entry(found) else {
            return Ok(None);
        };
        let own = if found.is_borrowed() { Processing::Standard } else { query.processing };
        let Some((rates, processing)) = model.rates_at(query.at, own, query.usage) else {
            return Ok(None);
        };
        let (cost, certainty) = rates.cost(query.usage)?;
        let certainty = if processing == query.processing { certainty } else { Certainty::Estimated };
        Ok(Some(Priced { cost, certainty, matched_provider: Some(provider), matched_model: Some(&model.id) }))
    }
}
