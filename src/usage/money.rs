//! Money: whole nano-dollars, so that sums are exact and the same in every process.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Nano-dollars in one US dollar.
const NANOS_PER_USD: i64 = 1_000_000_000;

/// What an amount must look like, for error messages.
const EXPECTED: &str = "a finite number of US dollars between -9223372036.854775808 and 9223372036.854775807";

/// An amount of money in nano-dollars (1e-9 USD). The largest is `i64::MAX` of them, about 9.2 billion USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(i64);

impl NanoUsd {
    /// No money.
    pub const ZERO: NanoUsd = NanoUsd(0);
    /// The largest amount, 9,223,372,036.854775807 USD.
    pub const MAX: NanoUsd = NanoUsd(i64::MAX);
    /// The largest debt, -9,223,372,036.854775808 USD.
    pub const MIN: NanoUsd = NanoUsd(i64::MIN);

    /// The amount of `nanos` nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        NanoUsd(nanos)
    }

    /// The amount in nano-dollars.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// True below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum, or `None` where it is out of range.
    #[must_use]
    pub const fn checked_add(self, other: NanoUsd) -> Option<NanoUsd> {
        match self.0.checked_add(other.0) {
            Some(nanos) => Some(NanoUsd(nanos)),
            None => None,
        }
    }

    /// The difference, or `None` where it is out of range.
    #[must_use]
    pub const fn checked_sub(self, other: NanoUsd) -> Option<NanoUsd> {
        match self.0.checked_sub(other.0) {
            Some(nanos) => Some(NanoUsd(nanos)),
            None => None,
        }
    }

    /// The amount `times` over, or `None` where it is out of range.
    #[must_use]
    pub const fn checked_mul(self, times: i64) -> Option<NanoUsd> {
        match self.0.checked_mul(times) {
            Some(nanos) => Some(NanoUsd(nanos)),
            None => None,
        }
    }

    /// The sum, held at [`NanoUsd::MIN`] or [`NanoUsd::MAX`] where it is out of range: for totals that must not wrap.
    #[must_use]
    pub const fn saturating_add(self, other: NanoUsd) -> NanoUsd {
        NanoUsd(self.0.saturating_add(other.0))
    }

    /// An amount written in dollars: an optional sign, digits, and an optional fraction (`12`, `-0.005`, `.5`).
    /// Digits past the ninth of the fraction are rounded, half to even.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] on any other text (an exponent, separators, `NaN`) and out of range. `field` names the
    /// setting or argument in the message.
    pub fn from_usd_str(field: &str, text: &str) -> Result<Self> {
        parse_decimal(text).map(NanoUsd).ok_or_else(|| Error::invalid(Code::InvalidNumber, field, text, EXPECTED))
    }

    /// The exact value of `usd`, rounded once, half to even.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`] where `usd` is NaN, infinite or out of range. `field` names the setting or argument in
    /// the message.
    pub fn from_usd_f64(field: &str, usd: f64) -> Result<Self> {
        round_f64(usd).map(NanoUsd).ok_or_else(|| Error::invalid(Code::InvalidNumber, field, usd, EXPECTED))
    }

    /// The amount in dollars, for display and JSON. Exact to about 15 digits; never compute with it.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_usd_f64(self) -> f64 {
        // Two exact halves and one rounding addition: better than one division of a number past 2^53.
        let (whole, fraction) = (self.0 / NANOS_PER_USD, self.0 % NANOS_PER_USD);
        whole as f64 + fraction as f64 / NANOS_PER_USD as f64
    }
}

/// Plain dollars with at least two and at most nine decimals: `0.01`, `-12.50`, `0.000000001`. No currency sign;
/// [`NanoUsd::from_usd_str`] reads it back unchanged.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_usd = NANOS_PER_USD.unsigned_abs();
        let magnitude = self.0.unsigned_abs();
        let digits = format!("{:09}", magnitude % per_usd);
        let kept = digits.trim_end_matches('0').len().max(2);
        let fraction = digits.get(..kept).unwrap_or(&digits);
        f.pad_integral(!self.is_negative(), "", &format!("{}.{fraction}", magnitude / per_usd))
    }
}

/// `numerator / denominator` to the nearest whole number, half to even. `denominator` is positive.
pub(crate) const fn div_half_even(numerator: u128, denominator: u128) -> u128 {
    let quotient = numerator / denominator;
    // Not `%`, which would be a second 128-bit division.
    let rest = numerator - quotient * denominator;
    // rest against denominator - rest, since twice the rest may not fit.
    let above = denominator - rest;
    if rest > above || (rest == above && quotient % 2 == 1) { quotient + 1 } else { quotient }
}

fn parse_decimal(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let kept = fraction.get(..9).unwrap_or(fraction);
    let dropped = fraction.get(9..).unwrap_or("");
    let mut nanos: u128 = 0;
    for digit in whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', 9 - kept.len())) {
        nanos = nanos.checked_mul(10)?.checked_add(u128::from(digit - b'0'))?;
    }
    let (first, rest) = dropped.split_at_checked(1).unwrap_or(("", ""));
    let up = match first.bytes().next().unwrap_or(b'0') {
        b'0'..=b'4' => false,
        b'5' => nanos % 2 == 1 || rest.bytes().any(|b| b != b'0'),
        _ => true,
    };
    signed(negative, nanos.checked_add(u128::from(up))?)
}

fn round_f64(usd: f64) -> Option<i64> {
    if !usd.is_finite() {
        return None;
    }
    // |usd| = mantissa * 2^exponent exactly, so the product with 1e9 (below 2^83) is exact as well.
    let bits = usd.to_bits();
    let biased = i32::try_from((bits >> 52) & 0x7ff).ok()?;
    let fraction = u128::from(bits & ((1 << 52) - 1));
    let (mantissa, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | (1 << 52), biased - 1075) };
    let scaled = mantissa * u128::from(NANOS_PER_USD.unsigned_abs());
    let nanos = match exponent {
        0.. => scaled.checked_mul(1_u128.checked_shl(exponent.unsigned_abs()).filter(|_| exponent < 64)?)?,
        -126..0 => div_half_even(scaled, 1 << exponent.unsigned_abs()),
        // Below 2^83 * 2^-127: far less than half a nano-dollar.
        _ => 0,
    };
    signed(usd.is_sign_negative(), nanos)
}

fn signed(negative: bool, magnitude: u128) -> Option<i64> {
    let magnitude = i128::try_from(magnitude).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<i64> {
        NanoUsd::from_usd_str("price", value).ok().map(NanoUsd::nanos)
    }

    fn double(value: f64) -> Option<i64> {
        NanoUsd::from_usd_f64("price", value).ok().map(NanoUsd::nanos)
    }

    #[test]
    fn text_is_rounded_half_to_even() {
        assert_eq!(text("0.01"), Some(10_000_000));
        assert_eq!(text("-1.5"), Some(-1_500_000_000));
        assert_eq!(text(".5"), Some(500_000_000));
        assert_eq!(text("7."), Some(7_000_000_000));
        assert_eq!(text("0.0000000005"), Some(0));
        assert_eq!(text("0.0000000015"), Some(2));
        assert_eq!(text("0.0000000025"), Some(2));
        assert_eq!(text("0.00000000250001"), Some(3));
        assert_eq!(text("-0.0000000015"), Some(-2));
        assert_eq!(text("0.9999999996"), Some(1_000_000_000));
    }

    #[test]
    fn text_has_bounds_and_one_form() {
        assert_eq!(text("9223372036.854775807"), Some(i64::MAX));
        assert_eq!(text("-9223372036.854775808"), Some(i64::MIN));
        for bad in ["9223372036.854775808", "9223372036.8547758075", &"9".repeat(400)] {
            assert_eq!(text(bad), None, "{bad}");
        }
        for bad in ["", ".", "-", "+-1", "1e3", "NaN", "inf", "1,000", " 1", "1 ", "0x1", "1.2.3", "١", "1\u{0}"] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn doubles_keep_their_exact_value() {
        assert_eq!(double(0.1), Some(100_000_000));
        assert_eq!(double(-0.01), Some(-10_000_000));
        // 2^-10 USD is 976562.5 nano-dollars exactly, and 3 * 2^-10 is 2929687.5: both halves go to the even side.
        assert_eq!(double(2.0_f64.powi(-10)), Some(976_562));
        assert_eq!(double(3.0 * 2.0_f64.powi(-10)), Some(2_929_688));
        assert_eq!(double(f64::MIN_POSITIVE), Some(0));
        assert_eq!(double(5e-324), Some(0));
        assert_eq!(double(-0.0), Some(0));
        assert_eq!(double(9_223_372_036.0), Some(9_223_372_036_000_000_000));
    }

    #[test]
    fn doubles_that_are_no_amount_are_refused_with_a_reason() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9_223_372_037.0, 1e300, f64::MAX, f64::MIN] {
            let error = NanoUsd::from_usd_f64("cost_usd", bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidNumber);
            assert!(error.message().contains("cost_usd"), "{error}");
        }
    }

    #[test]
    fn display_reads_back() {
        for (nanos, shown) in [
            (0, "0.00"),
            (1, "0.000000001"),
            (10_000_000, "0.01"),
            (-12_500_000_000, "-12.50"),
            (i64::MAX, "9223372036.854775807"),
            (i64::MIN, "-9223372036.854775808"),
        ] {
            assert_eq!(NanoUsd(nanos).to_string(), shown);
            assert_eq!(text(shown), Some(nanos));
        }
    }

    #[test]
    fn arithmetic_never_wraps() {
        let one = NanoUsd(1);
        assert_eq!(NanoUsd::MAX.checked_add(one), None);
        assert_eq!(NanoUsd::MIN.checked_sub(one), None);
        assert_eq!(NanoUsd::MAX.checked_mul(2), None);
        assert_eq!(NanoUsd::MAX.saturating_add(one), NanoUsd::MAX);
        assert_eq!(NanoUsd(2).checked_add(NanoUsd(3)), Some(NanoUsd(5)));
        assert_eq!(NanoUsd(2).checked_sub(NanoUsd(3)), Some(NanoUsd(-1)));
        assert_eq!(NanoUsd(2).checked_mul(-3), Some(NanoUsd(-6)));
    }

    #[test]
    fn division_rounds_half_to_even() {
        for (numerator, denominator, expected) in
            [(0, 7, 0), (1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (5, 3, 2), (4, 3, 1), (u128::MAX, 1, u128::MAX)]
        {
            assert_eq!(div_half_even(numerator, denominator), expected, "{numerator}/{denominator}");
        }
        assert_eq!(div_half_even(u128::MAX, u128::MAX - 1), 1);
    }
}
