//! Which of the languages there are a reader gets, from the value of an `Accept-Language` header (RFC 9110, 12.5.4).

use std::cmp::Reverse;

use fluent_langneg::{NegotiationStrategy, negotiate_languages};
use unic_langid::LanguageIdentifier;

/// Most ranges of a header that are read. Browsers send fewer than ten; the rest of a longer value is not worth the time.
const MAX_RANGES: usize = 64;

/// One range of the header: what it names (`None` for `*`), and its weight in thousandths; 0 is "not this one".
struct Range {
    names: Option<LanguageIdentifier>,
    weight: u16,
}

/// The language of `available` that `accept_language` likes best; `None` where it likes none, or says nothing readable.
///
/// Weights order the ranges, and equal ones keep their order in the header. `*` stands for every language that no other range
/// names; a range of weight 0 excludes what it names. Ranges that are malformed are skipped.
#[must_use]
pub fn negotiate<'a>(accept_language: &str, available: &'a [LanguageIdentifier]) -> Option<&'a LanguageIdentifier> {
    let mut ranges: Vec<Range> = accept_language.split(',').take(MAX_RANGES).filter_map(range).collect();
    ranges.sort_by_key(|range| Reverse(range.weight));
    let named = |weighs: fn(u16) -> bool| -> Vec<&LanguageIdentifier> {
        let ranges = ranges.iter().filter(|range| weighs(range.weight));
        ranges.filter_map(|range| best(range.names.as_ref()?, available)).collect()
    };
    let (liked, refused) = (named(|weight| weight > 0), named(|weight| weight == 0));
    ranges.iter().filter(|range| range.weight > 0).find_map(|range| match &range.names {
        Some(name) => best(name, available),
        None => available.iter().find(|language| !liked.contains(language) && !refused.contains(language)),
    })
}

/// The language of `available` that comes nearest to `wanted`, e.g. `it` for `it-CH`.
#[must_use]
pub fn best<'a>(wanted: &LanguageIdentifier, available: &'a [LanguageIdentifier]) -> Option<&'a LanguageIdentifier> {
    negotiate_languages(std::slice::from_ref(wanted), available, None, NegotiationStrategy::Lookup).into_iter().next()
}

/// Reads `it-IT`, `it;q=0.8` or `*;q=0.1`; `None` where it is none of them.
fn range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let tag = parts.next().filter(|tag| !tag.is_empty())?;
    let weight = match parts.next() {
        None => 1_000,
        Some(parameter) => weight(parameter)?,
    };
    let names = if tag == "*" { None } else { Some(tag.parse().ok()?) };
    Some(Range { names, weight })
}

/// Reads `q=0.875` into thousandths; `None` unless it is a number from 0 to 1.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    let value: f64 = value.trim().parse().ok()?;
    if !name.trim().eq_ignore_ascii_case("q") || !(0.0..=1.0).contains(&value) {
        return None;
    }
    // In 0..=1000 by the test above; ceil, so that a weight too small to tell from 0 does not exclude.
    Some((value * 1_000.0).ceil() as u16)
}
