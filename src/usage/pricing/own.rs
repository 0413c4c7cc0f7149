//! Prices of the operator's own: a contract, a discount, a model that no table knows.

use std::collections::HashMap;

use super::Processing;
use super::rates::Rates;

/// Who serves where the call names nobody.
const DEFAULT_PROVIDER: &str = "openai";

/// What one model costs here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OwnRates {
    /// Whatever the processing.
    pub(crate) every: Rates,
    /// For one processing alone; goes first.
    pub(crate) by_processing: Vec<(Processing, Rates)>,
}

impl OwnRates {
    /// The layers of a processing, the strongest first.
    pub(super) fn layers(&self, processing: Processing) -> impl Iterator<Item = &Rates> {
        let special = self.by_processing.iter().filter(move |(known, _)| *known == processing);
        special.map(|(_, rates)| rates).chain([&self.every])
    }
}

/// The operator's own prices, by provider and model in lower case.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OwnPrices(HashMap<Box<str>, HashMap<Box<str>, OwnRates>>);

impl OwnPrices {
    /// Sets what a model costs at a provider.
    pub(crate) fn set(&mut self, provider: &str, model: &str, rates: OwnRates) {
        self.0.entry(provider.to_lowercase().into()).or_default().insert(model.to_lowercase().into(), rates);
    }

    #[inline]
    pub(super) fn get(&self, provider: Option<&str>, model: &str) -> Option<&OwnRates> {
        if self.0.is_empty() { None } else { self.look_up(provider, model) }
    }

    fn look_up(&self, provider: Option<&str>, model: &str) -> Option<&OwnRates> {
        let models = self.0.get(&*provider.unwrap_or(DEFAULT_PROVIDER).to_lowercase())?;
        models.get(&*model.to_lowercase())
    }
}
