//! The table itself, and which of its entries a provider and a model mean.

use std::borrow::Cow;
use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::Processing;
use super::charge::Charge;
use super::clause::Clause;
use super::rates::Rates;
use crate::usage::tokens::TokenUsage;

/// The provider that is assumed where neither the call nor the model's name tells one.
const DEFAULT_PROVIDER: &str = "openai";

/// A gateway that names the real provider before the model: `anthropic/claude-3-haiku`.
const GATEWAY: &str = "litellm";

const SECONDS_PER_DAY: i64 = 86_400;

/// Where a table is from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Source {
    /// The package whose data it is.
    pub package: String,
    /// That package's version.
    pub version: String,
    /// That data's licence.
    pub license: String,
    /// The day it was taken (ISO 8601).
    pub date: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Catalogue {
    pub(super) source: Source,
    providers: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) id: Box<str>,
    /// Other names of this provider.
    provider_match: Option<Clause>,
    /// Models that are this provider's when no provider is named.
    model_match: Option<Clause>,
    /// Providers whose models this one offers at their prices.
    #[serde(default)]
    fallback: Vec<Box<str>>,
    #[serde(default)]
    models: Vec<Model>,
    /// What holds for each of its models that has no price of its own for it: the use of a tool.
    beside: Option<Rates>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) id: Box<str>,
    r#match: Clause,
    /// The last one that is active counts; the first one where none is.
    prices: Vec<PriceSet>,
    /// Overrides for a processing; the first active one counts, price by price.
    #[serde(default)]
    variants: Vec<PriceSet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceSet {
    #[serde(default)]
    processing: Processing,
    /// Active from this day, midnight UTC.
    #[serde(default, deserialize_with = "start_of_day")]
    start_date: Option<Timestamp>,
    /// Active between these seconds of each UTC day, the first included; past midnight where the second is smaller.
    daily_utc_seconds: Option<(i64, i64)>,
    /// `null`: billed by something that is not counted. The attribute makes the key required.
    #[serde(deserialize_with = "Option::deserialize")]
    rates: Option<Rates>,
}

/// An entry, by position: the provider that serves the call, and the model in the list of the one that prices it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Match {
    server: usize,
    pricer: usize,
    model: usize,
}

impl Match {
    /// True where another provider's prices are used: they hold for its list price only.
    pub(super) fn is_borrowed(self) -> bool {
        self.server != self.pricer
    }
}

impl Catalogue {
    /// Adds what `more` has of the same providers: models behind their own, and prices beside the models'.
    pub(super) fn extend(&mut self, more: Catalogue) {
        for provider in more.providers {
            match self.providers.iter_mut().find(|known| known.id == provider.id) {
                Some(known) => {
                    known.models.extend(provider.models);
                    known.beside = provider.beside;
                }
                None => self.providers.push(provider),
            }
        }
    }

    /// The provider and the model of a match.
    pub(super) fn entry(&self, found: Match) -> Option<(&Provider, &Model)> {
        let model = self.providers.get(found.pricer)?.models.get(found.model)?;
        Some((self.providers.get(found.server)?, model))
    }

    /// The entry that a call means. A provider that is named but not known has no prices.
    pub(super) fn find(&self, provider: Option<&str>, model: &str) -> Option<Match> {
        let model = model.to_lowercase();
        let (server, model) = self.server(provider, &model)?;
        self.find_model(server, model).or_else(|| match dashed_dates(model) {
            Cow::Borrowed(_) => None,
            Cow::Owned(dashed) => self.find_model(server, &dashed),
        })
    }

    /// The billed entry whose id shares most leading words with `model`; of several the one with fewest words of its
    /// own, and of these the last by name, which is mostly the newest.
    pub(super) fn nearest(&self, provider: Option<&str>, model: &str) -> Option<Match> {
        let model = model.to_lowercase();
        let (server, model) = self.server(provider, &model).or_else(|| self.server(None, &model))?;
        let candidates = self.pricers(server).flat_map(|pricer| {
            let models = self.providers.get(pricer).map_or(&[][..], |provider| &provider.models);
            models.iter().enumerate().map(move |(index, candidate)| (pricer, index, candidate))
        });
        candidates
            .filter(|(_, _, candidate)| candidate.is_billed())
            .map(|(pricer, index, candidate)| {
                let (shared, words) = shared_words(&candidate.id, model);
                (shared, Reverse(words), &candidate.id, Match { server, pricer, model: index })
            })
            .filter(|(shared, ..)| *shared > 0)
            .max_by_key(|(shared, words, id, _)| (*shared, *words, *id))
            .map(|(.., found)| found)
    }

    /// The provider that serves a call, and the model's name there.
    fn server<'m>(&self, provider: Option<&str>, model: &'m str) -> Option<(usize, &'m str)> {
        let Some(name) = provider.map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()) else {
            return Some((self.server_of_model(model)?, model));
        };
        if name == GATEWAY {
            let told = model.split_once('/').and_then(|(name, model)| Some((self.provider(name)?, model)));
            return told.or_else(|| Some((self.server_of_model(model)?, model)));
        }
        Some((self.provider(&name)?, model))
    }

    fn provider(&self, name: &str) -> Option<usize> {
        let matches = |provider: &Provider| provider.provider_match.as_ref().is_some_and(|clause| clause.matches(name));
        let by_id = self.providers.iter().position(|provider| &*provider.id == name);
        by_id.or_else(|| self.providers.iter().position(matches))
    }

    fn server_of_model(&self, model: &str) -> Option<usize> {
        let owns = |provider: &Provider| provider.model_match.as_ref().is_some_and(|clause| clause.matches(model));
        self.providers.iter().position(owns).or_else(|| self.provider(DEFAULT_PROVIDER))
    }

    /// The server itself, and then those whose models it offers.
    fn pricers(&self, server: usize) -> impl Iterator<Item = usize> {
        let fallback = self.providers.get(server).map_or(&[][..], |provider| &provider.fallback);
        let named = |id: &str| self.providers.iter().position(|provider| &*provider.id == id);
        std::iter::once(server).chain(fallback.iter().filter_map(move |id| named(id)))
    }

    fn find_model(&self, server: usize, name: &str) -> Option<Match> {
        self.pricers(server).find_map(|pricer| {
            let models = &self.providers.get(pricer)?.models;
            let model = models.iter().position(|model| model.r#match.matches(name))?;
            Some(Match { server, pricer, model })
        })
    }
}

impl Model {
    /// The prices of a call and the processing they are for: `processing`, or standard where it has no prices of its
    /// own. `own` prices go before the model's, and those of `provider` follow. `None` where the model is billed by something
    /// that is not counted.
    pub(super) fn rates_at<'r>(
        &'r self,
        provider: &'r Provider,
        own: impl Iterator<Item = &'r Rates>,
        at: Timestamp,
        processing: Processing,
        usage: &TokenUsage,
    ) -> Option<(Charge<'r>, Processing)> {
        let standard = self.prices.iter().rev().find(|set| set.is_active(at)).or(self.prices.first())?;
        let standard = standard.rates.as_ref()?;
        // Most calls are standard: they need not walk the variants for each price.
        let variants = if processing == Processing::Standard { &[][..] } else { &self.variants };
        let overrides = variants
            .iter()
            .filter(move |set| set.processing == processing && set.is_active(at))
            .filter_map(|set| set.rates.as_ref());
        let priced_as = if overrides.clone().next().is_some() { processing } else { Processing::Standard };
        let layers = own.chain(overrides).chain([standard]).chain(&provider.beside);
        Some((Charge::new(layers, tier_tokens(usage)), priced_as))
    }

    fn is_billed(&self) -> bool {
        self.prices.iter().all(|set| set.rates.as_ref().is_some_and(Rates::is_billed))
    }
}

/// The tokens that choose the tier. Those without direction may be input: they count, the dearer assumption.
pub(super) fn tier_tokens(usage: &TokenUsage) -> u64 {
    usage.input.saturating_add(usage.unsplit)
}

impl PriceSet {
    fn is_active(&self, at: Timestamp) -> bool {
        let started = self.start_date.is_none_or(|start| at >= start);
        let second = at.as_second().rem_euclid(SECONDS_PER_DAY);
        let in_hours = self.daily_utc_seconds.is_none_or(|(from, to)| {
            if to < from { second >= from || second < to } else { from <= second && second < to }
        });
        started && in_hours
    }
}

fn start_of_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let date: Date = <&str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
    Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).map(Some).map_err(D::Error::custom)
}

/// How many leading words two names share, and how many `id` has.
fn shared_words(id: &str, name: &str) -> (usize, usize) {
    let shared = id.split('-').zip(name.split('-')).take_while(|(own, asked)| own.eq_ignore_ascii_case(asked)).count();
    (shared, id.split('-').count())
}

/// `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: some gateways write dates without dashes. Anything that is no day of
/// this century stays.
fn dashed_dates(name: &str) -> Cow<'_, str> {
    let mut result = String::new();
    let mut rest = name;
    while let Some((before, date, after)) = compact_date(rest) {
        result.push_str(before);
        result.push_str(&date.to_string());
        rest = after;
    }
    if result.is_empty() {
        return Cow::Borrowed(name);
    }
    result.push_str(rest);
    Cow::Owned(result)
}

/// The first `-YYYYMMDD` before a dash, a colon or the end: what is before the date (dash included), the date, the rest.
fn compact_date(name: &str) -> Option<(&str, Date, &str)> {
    name.match_indices('-').find_map(|(dash, _)| {
        let (digits, after) = name.get(dash + 1..)?.split_at_checked(8)?;
        let ends = after.is_empty() || after.starts_with(['-', ':']);
        if !ends || !digits.starts_with("20") || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i8>().ok();
        let year = digits.get(..4)?.parse().ok()?;
        Some((name.get(..=dash)?, Date::new(year, part(4, 6)?, part(6, 8)?).ok()?, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_dates_are_dashed_where_they_are_dates() {
        for (name, expected) in [
            ("gpt-5.2-20251211", "gpt-5.2-2025-12-11"),
            ("a-20240229-x-20250101:free", "a-2024-02-29-x-2025-01-01:free"),
            ("a-20230229", "a-20230229"),
            ("a-19991231", "a-19991231"),
            ("a-202512110", "a-202512110"),
            ("20251211", "20251211"),
            ("a-2025é211", "a-2025é211"),
        ] {
            assert_eq!(dashed_dates(name), expected);
        }
    }

    #[test]
    fn daily_hours_may_pass_midnight() {
        let set = |from, to| PriceSet {
            processing: Processing::Standard,
            start_date: None,
            daily_utc_seconds: Some((from, to)),
            rates: None,
        };
        let active = |set: &PriceSet, second: i64| set.is_active(Timestamp::from_second(second).unwrap());
        let day = set(3_600, 7_200);
        assert_eq!([3_599, 3_600, 7_199, 7_200].map(|second| active(&day, second)), [false, true, true, false]);
        let night = set(79_200, 3_600);
        assert_eq!(
            [79_199, 79_200, 86_400, 3_599, 3_600, -1].map(|second| active(&night, second)),
            [false, true, true, true, false, true]
        );
    }
}
