//! The table `[pricing]` of a limits file: the policy for unknown models, and prices of the operator's own.

use super::document::{Item, Path, Reader, View};
use super::read::{id, table, unknown_key};
use super::value;
use crate::error::{Code, Result};
use crate::usage::pricing::{OwnPrices, OwnRates, Processing, Rates, Tariff, UnknownModel};

const POLICY_KEYS: [&str; 2] = ["usd_per_1000_tokens", "unknown_model"];

const UNKNOWN_MODEL: [(&str, UnknownModel); 3] =
    [("block", UnknownModel::Block), ("family", UnknownModel::Family), ("allow", UnknownModel::Allow)];

/// The tables inside a model's, for one processing alone.
const PROCESSING: [(&str, Processing); 4] = [
    ("batch", Processing::Batch),
    ("flex", Processing::Flex),
    ("priority", Processing::Priority),
    ("fast", Processing::Fast),
];

/// The table of prices of pictures, by quality and size.
const IMAGES: &str = "images";

const PRICE: &str = "US dollars of 0 or more, such as 2.50, written without exponent, with at most 18 decimals";

/// Reads `[pricing]`. A key with a table is a provider, with a table for each of its models.
pub(super) fn tariff(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<Tariff> {
    let (mut unknown_model, mut per_1k_tokens) = (UnknownModel::default(), Tariff::default().per_1k_tokens());
    let mut own = OwnPrices::default();
    for entry in table(reader, path, item, "a table of prices")? {
        let path = path.join(entry.key);
        match (entry.key, entry.item.view()) {
            ("usd_per_1000_tokens", _) => {
                per_1k_tokens = value::money(reader, &path, entry.item, Code::InvalidNumber)?;
            }
            ("unknown_model", _) => unknown_model = value::choice(reader, &path, entry.item, &UNKNOWN_MODEL)?,
            (provider, View::Table(models)) => {
                id(reader, &path, &entry, "provider")?;
                for model in models {
                    let path = path.join(model.key);
                    id(reader, &path, &model, "model")?;
                    own.set(provider, model.key, own_rates(reader, &path, model.item)?);
                }
            }
            _ => return Err(unknown_key(reader, Code::InvalidConfig, &path, &entry, POLICY_KEYS)),
        }
    }
    Ok(Tariff::new(unknown_model, per_1k_tokens)?.with_own(own))
}

fn own_rates(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<OwnRates> {
    let mut own = OwnRates { every: rates(reader, path, item, true)?, by_processing: Vec::new() };
    for entry in table(reader, path, item, "a table of prices")? {
        if let Some((_, processing)) = PROCESSING.into_iter().find(|(name, _)| *name == entry.key) {
            let special = rates(reader, &path.join(entry.key), entry.item, false)?;
            own.by_processing.push((processing, special));
        }
    }
    Ok(own)
}

/// `is_whole`: the table of a model, which may have tables for its processings.
fn rates(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>, is_whole: bool) -> Result<Rates> {
    let mut rates = Rates::default();
    for entry in table(reader, path, item, "a table of prices")? {
        let path = path.join(entry.key);
        if is_whole && PROCESSING.into_iter().any(|(name, _)| name == entry.key) {
            continue;
        }
        if entry.key == IMAGES {
            for image in table(reader, &path, entry.item, "a table of prices of pictures, by quality and size")? {
                let text = price_text(image.item).and_then(|text| rates.set_image(image.key, &text));
                text.ok_or_else(|| reader.invalid(Code::InvalidNumber, &path.join(image.key), image.item, PRICE))?;
            }
        } else if Rates::keys().any(|key| key == entry.key) {
            let set = price_text(entry.item).and_then(|text| rates.set(entry.key, &text));
            set.ok_or_else(|| reader.invalid(Code::InvalidNumber, &path, entry.item, PRICE))?;
        } else {
            let inside = PROCESSING.into_iter().map(|(name, _)| name).filter(|_| is_whole);
            let known = Rates::keys().chain([IMAGES]).chain(inside);
            return Err(unknown_key(reader, Code::InvalidConfig, &path, &entry, known));
        }
    }
    Ok(rates)
}

/// A price as it was written, or as a double is written shortest.
fn price_text(item: Item<'_>) -> Option<String> {
    match item.view() {
        View::Integer(Some(usd)) => Some(usd.to_string()),
        View::Decimal(text) | View::Text(text) => Some(text.to_owned()),
        View::Double(usd) => Some(usd.to_string()),
        View::Integer(None) | View::Table(_) | View::Other => None,
    }
}
