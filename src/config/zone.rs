//! Time zones by their IANA names.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::nearest::nearest;
use crate::error::{Code, Error, Result};

/// Longest name that is looked up, in bytes. The longest in the database has 32.
const MAX_NAME_BYTES: usize = 64;

/// The time zone of an IANA name, from the machine's database, or from the one that is compiled in where the machine has
/// none or lacks the name. Upper and lower case are the same.
///
/// # Errors
/// [`Code::InvalidTimeZone`] names the field, the value, and the nearest zone there is.
pub fn time_zone(field: &str, name: &str) -> Result<TimeZone> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain) {
        let found = TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name));
        // `Etc/Unknown` is a zone to the library, and "no zone" to its reader.
        if let Some(zone) = found.ok().filter(|zone| !zone.is_unknown()) {
            return Ok(zone);
        }
    }
    let names: Vec<String> = TimeZoneDatabase::bundled().available().map(|known| known.as_str().to_owned()).collect();
    let expected = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("an IANA time zone; did you mean '{near}'?"),
        None => "an IANA time zone such as 'Europe/Rome' or 'UTC'".to_owned(),
    };
    Err(Error::invalid(Code::InvalidTimeZone, field, name, &expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_whatever_their_case() {
        for name in ["UTC", "Europe/Rome", "europe/rome", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            let zone = time_zone("timezone", name).unwrap();
            assert!(zone.iana_name().is_some_and(|known| known.eq_ignore_ascii_case(name)), "{name} {zone:?}");
        }
    }

    #[test]
    fn what_is_no_zone_is_named_with_what_would_be_right() {
        let error = time_zone("LLMQUOTA_TIMEZONE", "Europe/Rom").unwrap_err();
        assert_eq!(error.code(), Code::InvalidTimeZone);
        assert_eq!(
            error.message(),
            "LLMQUOTA_TIMEZONE: 'Europe/Rom' is not valid; expected an IANA time zone; did you mean 'Europe/Rome'?"
        );
        let long = "x".repeat(1_000_000);
        for name in
            ["", "Mars/Olympus", "+02:00", "../../etc/passwd", "Etc/Unknown", "UTC\0", "Europe/R\u{f4}me", &long]
        {
            let error = time_zone("timezone", name).unwrap_err();
            assert_eq!(error.code(), Code::InvalidTimeZone, "{name}");
            assert!(error.message().len() < 250, "{error}");
        }
    }
}
