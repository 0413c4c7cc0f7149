//! What a single value of a limits file has to be.

use super::document::{Item, Path, Reader, View};
use super::nearest::nearest;
use super::read::unknown_key;
use super::table::Setting;
use crate::error::{Code, Error, Result};
use crate::rules::limits::{Limit, LimitKind, MAX_COUNT, Mode, Resource};
use crate::rules::turns::MAX_WEIGHT;
use crate::usage::money::NanoUsd;

const COUNT: &str = "a whole number from 0 (which blocks) to 9007199254740992, written without fraction or exponent";
const MONEY: &str = "US dollars from 0 (which blocks) to 9223372036, such as 12.50, written without exponent";
pub(super) const PERCENT: &str = "a whole percentage from 1 to 100";

/// Lifts a limit that a table below sets.
pub(super) const UNLIMITED: &str = "unlimited";

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];

/// The value of a limit: its cap, `{ cap = 100, mode = "observe" }`, or `"unlimited"`.
pub(super) fn setting(reader: &Reader<'_>, path: &Path<'_>, kind: LimitKind, item: Item<'_>) -> Result<Setting> {
    match item.view() {
        View::Text(UNLIMITED) => Ok(Setting::Unlimited),
        View::Table(entries) => {
            let (mut cap_given, mut mode) = (None, Mode::Enforce);
            for entry in entries {
                let path = path.join(entry.key);
                match entry.key {
                    "cap" => cap_given = Some(cap(reader, &path, kind, entry.item)?),
                    "mode" => mode = choice(reader, &path, entry.item, &MODES)?,
                    _ => return Err(unknown_key(reader, Code::InvalidLimit, &path, &entry, ["cap", "mode"])),
                }
            }
            let cap = cap_given.ok_or_else(|| {
                reader.invalid(Code::InvalidLimit, path, item, "a cap, as in { cap = 100, mode = \"observe\" }")
            })?;
            Ok(Setting::Limited(Limit { cap, mode }))
        }
        _ => Ok(Setting::Limited(Limit { cap: cap(reader, path, kind, item)?, mode: Mode::Enforce })),
    }
}

fn cap(reader: &Reader<'_>, path: &Path<'_>, kind: LimitKind, item: Item<'_>) -> Result<u64> {
    match (kind.resource(), item.view()) {
        (Resource::Money, _) => money(reader, path, item, Code::InvalidLimit).map(cap_of_money),
        (_, View::Integer(Some(count))) if count <= MAX_COUNT => Ok(count),
        _ => Err(reader.invalid(Code::InvalidLimit, path, item, COUNT)),
    }
}

/// An amount of 0 or more.
pub(super) fn money(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>, code: Code) -> Result<NanoUsd> {
    match item.view() {
        View::Integer(Some(usd)) => NanoUsd::from_usd_str("", &usd.to_string()).ok(),
        View::Decimal(text) | View::Text(text) => amount(text),
        View::Double(usd) => NanoUsd::from_usd_f64("", usd).ok().filter(|_| usd >= 0.0),
        View::Integer(None) | View::Table(_) | View::Other => None,
    }
    .ok_or_else(|| reader.invalid(code, path, item, MONEY))
}

/// The cap of `kind` that `text`, the value of the environment variable `field`, stands for. White space around it counts for
/// nothing.
///
/// # Errors
/// [`Code::InvalidLimit`] where it is none.
pub(super) fn cap_of_text(field: &str, kind: LimitKind, text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let (cap, expected) = match kind.resource() {
        Resource::Money => (amount(trimmed).map(cap_of_money), MONEY),
        // Not `parse` alone, which takes a sign.
        _ if trimmed.bytes().all(|byte| byte.is_ascii_digit()) => {
            (trimmed.parse().ok().filter(|count| *count <= MAX_COUNT), COUNT)
        }
        _ => (None, COUNT),
    };
    cap.ok_or_else(|| Error::invalid(Code::InvalidLimit, field, text, expected))
}

/// The amount that `text` is, where it is one of 0 or more.
fn amount(text: &str) -> Option<NanoUsd> {
    // By the sign: "-0.0" and "-1e-20" would be 0, and are as much of a mistake as "-1".
    NanoUsd::from_usd_str("", text).ok().filter(|_| !text.starts_with('-'))
}

/// The cap of a budget of `amount`, which is not negative, in nano-dollars.
fn cap_of_money(amount: NanoUsd) -> u64 {
    amount.nanos().unsigned_abs()
}

/// A whole percentage from 1 to 100.
pub(super) fn percent(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<u8> {
    match item.view() {
        View::Integer(Some(percent @ 1..=100)) => u8::try_from(percent).ok(),
        _ => None,
    }
    .ok_or_else(|| reader.invalid(Code::InvalidNumber, path, item, PERCENT))
}

/// A workspace's share.
pub(super) fn weight(reader: &Reader<'_>, path: &Path<'_>, item: Item<'_>) -> Result<u16> {
    match item.view() {
        View::Integer(Some(weight)) => u16::try_from(weight).ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight)),
        _ => None,
    }
    .ok_or_else(|| reader.invalid(Code::InvalidNumber, path, item, &format!("a whole number from 1 to {MAX_WEIGHT}")))
}

/// A string.
pub(super) fn text<'a>(
    reader: &Reader<'_>,
    path: &Path<'_>,
    item: Item<'a>,
    code: Code,
    expected: &str,
) -> Result<&'a str> {
    match item.view() {
        View::Text(text) => Ok(text),
        _ => Err(reader.invalid(code, path, item, expected)),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    reader: &Reader<'_>,
    path: &Path<'_>,
    item: Item<'_>,
    choices: &[(&str, T)],
) -> Result<T> {
    let word = match item.view() {
        View::Text(word) => word,
        _ => "",
    };
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
        return Ok(*choice);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let expected = match nearest(word, names.iter().copied()) {
        Some(near) => format!("one of {}; did you mean '{near}'?", names.join(", ")),
        None => format!("one of {}", names.join(", ")),
    };
    Err(reader.invalid(Code::InvalidChoice, path, item, &expected))
}
