//! What a provider's answer says is left of the provider's own limits, read out of its headers.
//!
//! OpenAI and what speaks like it say `x-ratelimit-remaining-tokens: 0` and `x-ratelimit-reset-tokens: 20m52.666s`, Azure the
//! same in bare seconds; Anthropic says `anthropic-ratelimit-tokens-remaining: 0` and `anthropic-ratelimit-tokens-reset:
//! 2026-01-31T12:00:07Z`. What is malformed says nothing, and is told in a sentence.

use std::num::NonZeroI64;

use jiff::Timestamp;

use super::breaker::{Cause, LONGEST_COOL_DOWN};
use crate::clock::SECOND;

/// The longest that is believed as it is told: no provider has a limit of a longer window. What says more is of another unit,
/// such as seconds since 1970, and is believed for as long as a breaker waits at most; the next answer tells anew.
pub const LONGEST_TOLD: i64 = 86_400 * SECOND;
/// Bytes of a duration at the most, and characters of a header that are shown in a sentence about it.
const LONGEST_TEXT: usize = 48;

/// How much of one limit is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// Something.
    Some,
    /// Nothing for so long, in nanoseconds from the answer on.
    NoneFor(NonZeroI64),
}

/// What is left of a provider's own limits; `None` of what its answer does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Requests.
    pub requests: Option<Stock>,
    /// Tokens, of whichever direction has the least.
    pub tokens: Option<Stock>,
}

impl Left {
    /// True where the answer tells nothing.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }

    /// What is used up for longest, and for how long in nanoseconds.
    #[must_use]
    pub fn used_up(&self) -> Option<(Cause, NonZeroI64)> {
        let nothing = |cause, stock| match stock {
            Some(Stock::NoneFor(wait)) => Some((cause, wait)),
            Some(Stock::Some) | None => None,
        };
        let both = [nothing(Cause::NoRequestsLeft, self.requests), nothing(Cause::NoTokensLeft, self.tokens)];
        both.into_iter().flatten().max_by_key(|(_, wait)| *wait)
    }

    /// What it tells of the limit that a cause is about.
    #[must_use]
    pub const fn of(&self, cause: Cause) -> Option<Stock> {
        match cause {
            Cause::NoRequestsLeft => self.requests,
            Cause::NoTokensLeft => self.tokens,
            Cause::None | Cause::InsufficientQuota | Cause::RateLimit | Cause::FailureRate => None,
        }
    }
}

/// A limit that headers tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

impl Which {
    const ALL: [Which; 4] = [Which::Requests, Which::Tokens, Which::InputTokens, Which::OutputTokens];

    fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|which| name.eq_ignore_ascii_case(which.name().as_bytes()))
    }

    const fn name(self) -> &'static str {
        match self {
            Which::Requests => "requests",
            Which::Tokens => "tokens",
            Which::InputTokens => "input-tokens",
            Which::OutputTokens => "output-tokens",
        }
    }
}

/// What headers say of one limit.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    remaining: Option<u64>,
    /// Nanoseconds from now.
    reset: Option<i64>,
}

impl Line {
    fn stock(self) -> Option<Stock> {
        match self.remaining? {
            0 => self.reset.and_then(|wait| NonZeroI64::new(wait.max(0))).map(Stock::NoneFor),
            _ => Some(Stock::Some),
        }
    }
}

const OPENAI: &[u8] = b"x-ratelimit-";
const ANTHROPIC: &[u8] = b"anthropic-ratelimit-";

/// Reads the headers of one answer, each as it comes; one that tells nothing of limits costs a few nanoseconds.
#[derive(Debug)]
pub struct Headers {
    wall: i64,
    lines: [Line; Which::ALL.len()],
    problems: Vec<String>,
}

impl Headers {
    /// Of an answer that came at this wall time, in nanoseconds.
    #[must_use]
    pub fn at(wall: i64) -> Self {
        Self { wall, lines: Default::default(), problems: Vec::new() }
    }

    /// Takes a header, whose name may be in any case. Of one that comes twice the last counts.
    #[inline]
    pub fn see(&mut self, name: &[u8], value: &[u8]) {
        if let Some(rest) = without(name, OPENAI) {
            // remaining-tokens
            if let Some((what, which)) = parted(rest, rest.iter().position(|byte| *byte == b'-')) {
                self.take(what, which, name, value);
            }
        } else if let Some(rest) = without(name, ANTHROPIC) {
            // input-tokens-remaining
            if let Some((which, what)) = parted(rest, rest.iter().rposition(|byte| *byte == b'-')) {
                self.take(what, which, name, value);
            }
        }
    }

    /// What they said, and a sentence about each that cannot be.
    #[must_use]
    pub fn end(self) -> (Left, Vec<String>) {
        let stock = |which: Which| self.lines[which as usize].stock();
        let of_tokens = [Which::Tokens, Which::InputTokens, Which::OutputTokens];
        let tokens = of_tokens.into_iter().filter_map(stock).max_by_key(|stock| match stock {
            Stock::Some => 0,
            Stock::NoneFor(wait) => wait.get(),
        });
        (Left { requests: stock(Which::Requests), tokens }, self.problems)
    }

    #[cold]
    fn take(&mut self, what: &[u8], which: &[u8], name: &[u8], value: &[u8]) {
        let Some(which) = Which::of(which) else { return };
        let line = &mut self.lines[which as usize];
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        let expected = if what.eq_ignore_ascii_case(b"remaining") {
            line.remaining = count(text);
            line.remaining.is_none().then_some("a count")
        } else if what.eq_ignore_ascii_case(b"reset") {
            let told = duration(text).or_else(|| instant(text, self.wall));
            line.reset = told.map(|wait| if wait > LONGEST_TOLD { LONGEST_COOL_DOWN } else { wait });
            match told {
                None => Some("a time such as 6ms, 20m52.666s, 59 (seconds) or 2026-01-31T12:00:07Z"),
                Some(wait) if wait > LONGEST_TOLD => Some("a time within a day; an hour is believed"),
                Some(_) => None,
            }
        } else {
            None
        };
        if let Some(expected) = expected {
            let shown: String = String::from_utf8_lossy(value).chars().take(LONGEST_TEXT).collect();
            self.problems.push(format!("{}: {shown:?} is not {expected}", String::from_utf8_lossy(name)));
        }
    }
}

fn without<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = name.split_at_checked(prefix.len())?;
    first.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// What stands before the dash at this place, and after it.
fn parted(name: &[u8], dash: Option<usize>) -> Option<(&[u8], &[u8])> {
    let (before, after) = name.split_at_checked(dash?)?;
    Some((before, after.get(1..)?))
}

/// Decimal digits alone.
fn count(text: &str) -> Option<u64> {
    let is_count = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_count.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Nanoseconds of a duration as Go prints one, or of bare seconds; never a negative one.
fn duration(text: &str) -> Option<i64> {
    if text.len() > LONGEST_TEXT {
        return None;
    }
    let (mut rest, mut all) = (text, 0_i128);
    loop {
        let (whole, after) = digits(rest);
        let (part, after) = after.strip_prefix('.').map_or(("", after), digits);
        let unit_ends = after.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let nanos = match unit {
            "" if rest.len() == text.len() && after.is_empty() => SECOND,
            "h" => 3_600 * SECOND,
            "m" => 60 * SECOND,
            "s" => SECOND,
            "ms" => SECOND / 1_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => SECOND / 1_000_000,
            "ns" => 1,
            _ => return None,
        };
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { i128::from(count(whole)?) };
        // What is finer than a nanosecond is cut.
        let part = part.get(..9).unwrap_or(part);
        let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
        let part = if part.is_empty() { 0 } else { i128::from(count(part)?) };
        all += whole * i128::from(nanos) + part * i128::from(nanos) / scale;
        if after.is_empty() {
            return Some(i64::try_from(all).unwrap_or(i64::MAX));
        }
        rest = after;
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len()))
}

/// Nanoseconds from `wall` to an instant of RFC 3339; 0 to one that is over.
fn instant(text: &str, wall: i64) -> Option<i64> {
    let at: Timestamp = text.parse().ok()?;
    let wait = at.as_nanosecond() - i128::from(wall);
    Some(i64::try_from(wait.max(0)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 31 January 2026, noon.
    const NOON: i64 = 1_769_860_800 * SECOND;

    fn read(headers: &[(&str, &str)]) -> (Left, Vec<String>) {
        let mut reader = Headers::at(NOON);
        headers.iter().for_each(|(name, value)| reader.see(name.as_bytes(), value.as_bytes()));
        reader.end()
    }

    fn none_for(nanos: i64) -> Option<Stock> {
        NonZeroI64::new(nanos).map(Stock::NoneFor)
    }

    fn tokens_reset(value: &str) -> Option<Stock> {
        read(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", value)]).0.tokens
    }

    #[test]
    fn times_are_those_of_go_bare_seconds_or_instants() {
        for (value, nanos) in [
            ("6ms", 6_000_000),
            ("1.182s", 1_182_000_000),
            ("20m52.666s", 1_252_666_000_000),
            ("1h0m0s", 3_600 * SECOND),
            ("24h0m0s", 86_400 * SECOND),
            ("1m", 60 * SECOND),
            ("250us", 250_000),
            ("250\u{b5}s", 250_000),
            ("7ns", 7),
            (".5s", SECOND / 2),
            (" 59 ", 59 * SECOND),
            ("0.25", SECOND / 4),
            ("2026-01-31T12:00:07Z", 7 * SECOND),
            ("2026-01-31T13:00:07.5+01:00", 7_500_000_000),
        ] {
            assert_eq!(tokens_reset(value), none_for(nanos), "{value}");
        }
    }

    #[test]
    fn what_is_over_at_once_is_nothing_to_wait_for() {
        for value in ["0", "0s", "0ms", "2026-01-31T11:59:59Z", "0.0000000001s"] {
            let (left, problems) =
                read(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", value)]);
            assert!(left.is_silent() && problems.is_empty(), "{value}: {left:?} {problems:?}");
        }
    }

    #[test]
    fn what_is_malformed_says_nothing_and_is_told() {
        for value in
            ["", "soon", "-1", "-5s", "+5s", "s", ".", ".s", "5 s", "1s2", "1d", "1.2.3s", "NaN", "inf", "1e9", "6ms,"]
        {
            let (left, problems) = read(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", value)]);
            assert!(left.is_silent() && problems.len() == 1, "{value}: {left:?} {problems:?}");
            assert!(problems[0].starts_with(&format!("x-ratelimit-reset-tokens: {value:?} is not ")), "{problems:?}");
        }
        for value in ["", "-1", "none", "0.5", "+0", "0x0", "\u{663}"] {
            let (left, problems) = read(&[("x-ratelimit-remaining-tokens", value), ("x-ratelimit-reset-tokens", "1s")]);
            assert!(left.is_silent() && problems.len() == 1, "{value}: {left:?} {problems:?}");
        }
        let mut bytes = Headers::at(NOON);
        bytes.see(b"x-ratelimit-remaining-tokens", b"\xff\x00");
        assert_eq!(bytes.end().1.len(), 1);
    }

    #[test]
    fn a_day_is_believed_and_more_is_of_another_unit() {
        assert_eq!(tokens_reset("86400"), none_for(LONGEST_TOLD));
        for value in ["86401", "1769860800", "99999999999999999999999999h", "2099-12-31T00:00:00Z"] {
            let (left, problems) = read(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", value)]);
            assert_eq!((left.tokens, problems.len()), (none_for(LONGEST_COOL_DOWN), 1), "{value}");
        }
    }

    #[test]
    fn each_limit_stands_for_itself_and_the_least_of_the_tokens_for_all() {
        let (left, problems) = read(&[
            ("Anthropic-RateLimit-Requests-Limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-01-31T12:00:01Z"),
            ("ANTHROPIC-RATELIMIT-TOKENS-REMAINING", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-31T12:00:07Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-01-31T12:00:03Z"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-remaining-images", "0"),
            ("retry-after", "5"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(left, Left { requests: Some(Stock::Some), tokens: none_for(7 * SECOND) });
        assert_eq!(left.used_up().map(|(cause, wait)| (cause, wait.get())), Some((Cause::NoTokensLeft, 7 * SECOND)));
    }

    #[test]
    fn nothing_left_without_a_time_says_nothing() {
        assert!(read(&[("x-ratelimit-remaining-tokens", "0")]).0.is_silent());
        assert!(read(&[("x-ratelimit-reset-tokens", "7s")]).0.is_silent());
    }

    proptest! {
        #[test]
        fn no_headers_are_too_strange(
            headers in proptest::collection::vec(
                (
                    "(x-ratelimit|anthropic-ratelimit|X-)?-?(remaining|reset|limit|tokens)?-?(input-)?(tokens|requests|reset|-)?",
                    proptest::collection::vec(any::<u8>(), 0..40),
                ),
                0..8,
            ),
            wall in any::<i64>(),
        ) {
            let mut reader = Headers::at(wall);
            headers.iter().for_each(|(name, value)| reader.see(name.as_bytes(), value));
            let (left, _) = reader.end();
            prop_assert!(left.used_up().is_none_or(|(_, wait)| (1..=LONGEST_TOLD).contains(&wait.get())));
        }

        #[test]
        fn what_go_prints_is_read_to_the_nanosecond(hours in 0_i64..24, minutes in 0_i64..60, nanos in 1..60 * SECOND) {
            let text = format!("{hours}h{minutes}m{}.{:09}s", nanos / SECOND, nanos % SECOND);
            prop_assert_eq!(tokens_reset(&text), none_for((hours * 60 + minutes) * 60 * SECOND + nanos));
        }
    }
}
