//! Arguments as a text takes them: the raw value to choose by, and `<name>-text`, laid out in the language of the text.

use fluent_bundle::{FluentArgs, FluentValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::i18n::{Bundle, value};
use super::notices::Arg;

/// The arguments for Fluent. `None` where the bundle lacks a message that lays out one of them.
///
/// | argument | `$name` | `$name-text` |
/// |---|---|---|
/// | text | the text | - |
/// | count, dollars, percent | a number for plurals | the digits, with the language's marks |
/// | time | the instant, RFC 3339 | the date and time in UTC |
/// | wait | seconds, a number | the one or two largest units in words |
/// | limit, scope | its word on the wire | - |
pub(super) fn fluent(bundle: &Bundle, args: &[(&'static str, Arg)]) -> Option<FluentArgs<'static>> {
    let mut fluent = FluentArgs::with_capacity(args.len() * 2);
    for (name, arg) in args {
        let (raw, text): (FluentValue<'static>, _) = match arg {
            Arg::Text(text) => (text.clone().into(), None),
            Arg::Limit(kind) => (kind.as_str().into(), None),
            Arg::Scope(scope) => (scope.as_str().into(), None),
            Arg::Count(count) => ((*count).into(), Some(integer(bundle, *count)?)),
            Arg::Usd(usd) => {
                // Parts of a cent are shown where there is nothing else to show.
                let number = decimal(bundle, *usd, if usd.abs() >= 0.01 { 2 } else { 6 }, 2)?;
                ((*usd).into(), Some(with_sign(bundle, "number-usd", &number)?))
            }
            Arg::Percent(percent) => {
                // Rounded down: "100%" is said only of what is full. The summand is for tenths that binary cannot write.
                let number = decimal(bundle, (percent * 10.0 + 1e-9).floor() / 10.0, 1, 0)?;
                ((*percent).into(), Some(with_sign(bundle, "number-percent", &number)?))
            }
            Arg::Time(time) => (time.clone().into(), Some(date_and_time(bundle, time)?)),
            Arg::Wait { seconds } => ((*seconds).into(), Some(duration(bundle, *seconds)?)),
        };
        fluent.set(*name, raw);
        if let Some(text) = text {
            fluent.set(format!("{name}-text"), text);
        }
    }
    Some(fluent)
}

fn integer(bundle: &Bundle, count: u64) -> Option<String> {
    Some(grouped(&count.to_string(), &mark(bundle, "number-group")?))
}

/// `number` with `most` digits after the decimal mark, of which zeros past the first `least` are cut.
fn decimal(bundle: &Bundle, number: f64, most: usize, least: usize) -> Option<String> {
    if !number.is_finite() {
        return mark(bundle, "number-none");
    }
    let written = format!("{:.most$}", number.abs());
    let (whole, digits) = written.split_once('.').unwrap_or((&written, ""));
    let significant = digits.trim_end_matches('0').len().max(least).min(digits.len());
    let digits = digits.get(..significant)?;
    let mut text = grouped(whole, &mark(bundle, "number-group")?);
    if !digits.is_empty() {
        text.push_str(&mark(bundle, "number-decimal")?);
        text.push_str(digits);
    }
    let is_zero = written.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    Some(if number < 0.0 && !is_zero { format!("-{text}") } else { text })
}

/// ASCII digits, with `mark` between groups of three.
fn grouped(digits: &str, mark: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push_str(mark);
        }
        text.push(digit);
    }
    text
}

/// The instant in UTC, rounded up to a second, so that nobody comes too early. What is no instant stays as it is.
fn date_and_time(bundle: &Bundle, time: &str) -> Option<String> {
    let Ok(instant) = time.parse::<Timestamp>() else { return Some(time.to_owned()) };
    let up = i64::from(instant.subsec_nanosecond() > 0);
    let instant = Timestamp::from_second(instant.as_second().saturating_add(up)).unwrap_or(instant);
    let utc = TimeZone::UTC.to_datetime(instant);
    let mut args = FluentArgs::with_capacity(4);
    args.set("day", utc.day().to_string());
    args.set("month", i64::from(utc.month()));
    args.set("year", utc.year().to_string());
    args.set("clock", format!("{:02}:{:02}:{:02}", utc.hour(), utc.minute(), utc.second()));
    value(bundle, "time", None, &args)
}

/// The one or two largest units that it spans; the smaller one is rounded up.
fn duration(bundle: &Bundle, seconds: u64) -> Option<String> {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let rounded = |unit: u64| seconds.div_ceil(unit).saturating_mul(unit);
    let (large, small) = if seconds < MINUTE {
        ((seconds, "seconds"), None)
    } else if seconds < HOUR {
        ((seconds / MINUTE, "minutes"), Some((seconds % MINUTE, "seconds")))
    } else if rounded(MINUTE) < DAY {
        ((rounded(MINUTE) / HOUR, "hours"), Some((rounded(MINUTE) % HOUR / MINUTE, "minutes")))
    } else {
        ((rounded(HOUR) / DAY, "days"), Some((rounded(HOUR) % DAY / HOUR, "hours")))
    };
    let words = |(count, unit): (u64, &'static str)| {
        let mut args = FluentArgs::with_capacity(2);
        args.set("count", count);
        args.set("count-text", integer(bundle, count)?);
        value(bundle, unit, None, &args)
    };
    let first = words(large)?;
    let Some(small) = small.filter(|(count, _)| *count > 0) else { return Some(first) };
    let mut args = FluentArgs::with_capacity(2);
    args.set("first", first);
    args.set("second", words(small)?);
    value(bundle, "two-units", None, &args)
}

fn mark(bundle: &Bundle, id: &str) -> Option<String> {
    value(bundle, id, None, &FluentArgs::new())
}

/// `number` with its unit; a minus goes before both.
fn with_sign(bundle: &Bundle, id: &str, number: &str) -> Option<String> {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let mut args = FluentArgs::with_capacity(1);
    args.set("number", digits);
    Some(format!("{sign}{}", value(bundle, id, None, &args)?))
}
