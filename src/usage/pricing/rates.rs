//! What an entry of a table asks for: a price for each key that it has.
//!
//! Prices are US dollars for so many of a unit as the key's name says, held as whole multiples of 1e-18 USD, which every
//! price of the tables is.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};

/// Decimals of a price.
const PRICE_DECIMALS: usize = 18;

/// A price in 1e-18 USD; 1,000 billion USD is the bound of what is read.
pub(super) type Price = u128;

/// What is priced. The names are those of the table's source, where it has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Input,
    CacheRead,
    CacheWrite,
    CacheWriteLong,
    AudioInput,
    AudioCacheRead,
    ImageInput,
    ImageCacheRead,
    Output,
    Reasoning,
    AudioOutput,
    ImageOutput,
    /// For 1,000 requests.
    Requests,
    /// For an hour of sound, whichever way it goes.
    AudioHours,
    /// For an hour that is heard.
    InputAudioHours,
    /// For a million characters.
    Characters,
    /// For 1,000 searches.
    WebSearches,
    FileSearches,
    /// For 1,000 containers.
    CodeSessions,
}

const KEYS: [(&str, Key); 19] = [
    ("input_mtok", Key::Input),
    ("cache_read_mtok", Key::CacheRead),
    ("cache_write_mtok", Key::CacheWrite),
    ("cache_write_1h_mtok", Key::CacheWriteLong),
    ("input_audio_mtok", Key::AudioInput),
    ("cache_audio_read_mtok", Key::AudioCacheRead),
    ("input_image_mtok", Key::ImageInput),
    ("cache_image_read_mtok", Key::ImageCacheRead),
    ("output_mtok", Key::Output),
    ("output_reasoning_mtok", Key::Reasoning),
    ("output_audio_mtok", Key::AudioOutput),
    ("output_image_mtok", Key::ImageOutput),
    ("requests_kcount", Key::Requests),
    ("audio_hours", Key::AudioHours),
    ("input_audio_hours", Key::InputAudioHours),
    ("input_mchars", Key::Characters),
    ("web_searches_kcount", Key::WebSearches),
    ("storage_searches_kcount", Key::FileSearches),
    ("code_executions_kcount", Key::CodeSessions),
];

impl Key {
    fn of(name: &str) -> Option<Self> {
        KEYS.into_iter().find(|(known, _)| *known == name).map(|(_, key)| key)
    }

    /// Priced by tokens, as far as the answer's or the request's alone say what a call costs.
    fn is_of_tokens(self) -> bool {
        (self as usize) < Key::Requests as usize
    }
}

/// A price, by the size of the input: past the start of a tier, every unit of the call costs that tier's price.
#[derive(Debug, Clone, PartialEq)]
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

/// The prices of one entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rates {
    /// Few of the keys: looked through faster than looked up.
    by_key: Vec<(Key, Rate)>,
    /// For one picture, by its quality and size.
    images: Vec<(Box<str>, Price)>,
    /// Shorter sounds cost as much as one of this length.
    least_milliseconds: u64,
}

impl Rates {
    /// The names of the keys that have a price a unit, for who reads such prices from elsewhere.
    pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
        KEYS.into_iter().map(|(name, _)| name)
    }

    /// Sets the price of the key of this name; `None` where there is no such key, or the text is no price.
    pub(crate) fn set(&mut self, name: &str, price: &str) -> Option<()> {
        let (key, base) = (Key::of(name)?, parse_price(price)?);
        self.by_key.retain(|(known, _)| *known != key);
        self.by_key.push((key, Rate { base, tiers: Box::default() }));
        Some(())
    }

    /// Sets the price of a picture of this quality and size, `hd 1024x1792`; `None` where the text is no price.
    pub(crate) fn set_image(&mut self, kind: &str, price: &str) -> Option<()> {
        self.images.push((kind.to_lowercase().into(), parse_price(price)?));
        Some(())
    }

    pub(super) fn at(&self, key: Key, input_tokens: u64) -> Option<Price> {
        self.by_key.iter().find(|(known, _)| *known == key).map(|(_, rate)| rate.at(input_tokens))
    }

    /// The price of a picture, and whether it is that of its own kind; the dearest where that has none.
    pub(super) fn image(&self, kind: &str) -> Option<(Price, bool)> {
        let own = self.images.iter().find(|(known, _)| &**known == kind).map(|(_, price)| (*price, true));
        own.or_else(|| self.images.iter().map(|(_, price)| (*price, false)).max())
    }

    pub(super) fn least_milliseconds(&self) -> u64 {
        self.least_milliseconds
    }

    /// True where input or output costs something.
    pub(super) fn is_billed(&self) -> bool {
        self.by_key.iter().any(|(key, rate)| matches!(key, Key::Input | Key::Output) && rate.is_positive())
    }

    /// True where tokens have no price, and something else does.
    pub(super) fn is_without_tokens(&self) -> bool {
        let has_others =
            !self.images.is_empty() || self.by_key.iter().any(|(key, _)| *key as usize > Key::Requests as usize);
        has_others && !self.by_key.iter().any(|(key, _)| key.is_of_tokens())
    }
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

fn price<E: serde::de::Error>(text: &str) -> Result<Price, E> {
    parse_price(text).ok_or_else(|| E::custom(format_args!("not a price: {text:?}")))
}

/// `{"input_mtok": "2.5", "images": {"hd 1024x1024": "0.08"}}`.
impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RatesVisitor;

        impl<'de> Visitor<'de> for RatesVisitor {
            type Value = Rates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of prices")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rates, A::Error> {
                let mut rates = Rates::default();
                while let Some(name) = map.next_key::<&str>()? {
                    match name {
                        "images" => {
                            for (kind, text) in map.next_value::<std::collections::BTreeMap<&str, &str>>()? {
                                rates.images.push((kind.into(), price(text)?));
                            }
                        }
                        "least_milliseconds" => rates.least_milliseconds = map.next_value()?,
                        _ => {
                            let key = Key::of(name);
                            let key =
                                key.ok_or_else(|| A::Error::custom(format_args!("no key of prices: {name:?}")))?;
                            rates.by_key.push((key, map.next_value()?));
                        }
                    }
                }
                rates.by_key.shrink_to_fit();
                Ok(rates)
            }
        }

        deserializer.deserialize_map(RatesVisitor)
    }
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

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

        deserializer.deserialize_any(RateVisitor)
    }
}
