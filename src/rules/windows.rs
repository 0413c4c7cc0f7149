//! Windows: which period an instant lies in, and when it ends.
//!
//! A minute is any 60 seconds, kept as 61 one-second buckets of the monotonic clock: the bucket of second `s` counts from
//! `s` until `s + 61`, so that no 60 seconds escape, wherever they begin. Hours, days and months are calendar periods of a
//! time zone, named by the instant of their start, so that a clock set back finds its period again.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};

use crate::clock::SECOND;

/// How many seconds after its own beginning a bucket of the minute stops counting.
pub const MINUTE_BUCKETS: i64 = 61;

/// The calendar periods of one instant: Unix seconds of each start and of the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Periods {
    /// Start of the clock hour.
    pub hour: i64,
    /// Start of the next hour.
    pub hour_end: i64,
    /// Start of the day.
    pub day: i64,
    /// Start of the next day.
    pub day_end: i64,
    /// Start of the month.
    pub month: i64,
    /// Start of the next month.
    pub month_end: i64,
}

impl Periods {
    /// The periods of `zone` in which the wall time (nanoseconds since the epoch) lies.
    ///
    /// Instants outside the years -9999 to 9999 are taken as the nearest instant inside.
    #[must_use]
    pub fn of(zone: &TimeZone, wall: i64) -> Self {
        let seconds = wall.div_euclid(SECOND);
        let stamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        let zoned = stamp.to_zoned_datetime(zone.clone());
        let (hour, hour_end) = clock_hour(zone, stamp);
        Self::calendar(&zoned, hour, hour_end).unwrap_or_else(|| Self::without_calendar(seconds, hour, hour_end))
    }

    fn calendar(zoned: &ZonedDateTime, hour: i64, hour_end: i64) -> Option<Self> {
        let day = zoned.start_of_day().ok()?;
        let day_end = zoned.tomorrow().ok()?.start_of_day().ok()?;
        let first = zoned.first_of_month().ok()?.start_of_day().ok()?;
        let month_end = first.checked_add(1.month()).ok()?.start_of_day().ok()?;
        Some(Self {
            hour,
            hour_end,
            day: day.timestamp().as_second(),
            day_end: day_end.timestamp().as_second(),
            month: first.timestamp().as_second(),
            month_end: month_end.timestamp().as_second(),
        })
    }

    /// At the two ends of the calendar, where a neighbour period does not exist: plain 24-hour days and 30-day months.
    fn without_calendar(seconds: i64, hour: i64, hour_end: i64) -> Self {
        let (day, month) = (86_400, 30 * 86_400);
        let start = |length: i64| seconds - seconds.rem_euclid(length);
        Self {
            hour,
            hour_end,
            day: start(day),
            day_end: start(day).saturating_add(day),
            month: start(month),
            month_end: start(month).saturating_add(month),
        }
    }

    /// True where the instant (Unix seconds) lies in this hour, and so in this day and month.
    #[must_use]
    pub fn contains(&self, seconds: i64) -> bool {
        self.hour <= seconds && seconds < self.hour_end
    }
}

/// The clock hour around `stamp`: cut short by a change of the offset, which begins another.
fn clock_hour(zone: &TimeZone, stamp: Timestamp) -> (i64, i64) {
    let seconds = stamp.as_second();
    let offset = i64::from(zone.to_offset(stamp).seconds());
    let start = seconds - (seconds + offset).rem_euclid(3_600);
    // `preceding` leaves out a change at the very instant asked for, so the question is put a second later.
    let later = stamp.checked_add(1.second()).unwrap_or(stamp);
    let changed = zone.preceding(later).next().map(|change| change.timestamp().as_second());
    let changes = zone.following(stamp).next().map(|change| change.timestamp().as_second());
    let begin = match changed {
        Some(change) if change > start => change,
        _ => start,
    };
    let end = start + 3_600;
    match changes {
        Some(change) if change < end => (begin, change),
        _ => (begin, end),
    }
}

/// The wall time (nanoseconds) as RFC 3339 in UTC, to the millisecond where it has any.
#[must_use]
pub fn rfc3339(wall: i64) -> String {
    let millis = wall.div_euclid(1_000_000);
    let stamp = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    stamp.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second() * SECOND
    }

    #[test]
    fn days_of_23_and_25_hours() {
        let rome = zone("Europe/Rome");
        let spring = Periods::of(&rome, at("2026-03-29T12:00:00Z"));
        assert_eq!((spring.day_end - spring.day) / 3_600, 23);
        let autumn = Periods::of(&rome, at("2026-10-25T12:00:00Z"));
        assert_eq!((autumn.day_end - autumn.day) / 3_600, 25);
        assert_eq!(autumn.day, at("2026-10-24T22:00:00Z") / SECOND);
    }

    #[test]
    fn the_repeated_hour_is_two_hours() {
        let rome = zone("Europe/Rome");
        let first = Periods::of(&rome, at("2026-10-25T00:30:00Z"));
        let second = Periods::of(&rome, at("2026-10-25T01:30:00Z"));
        assert_eq!(first.hour_end, second.hour);
        assert_eq!(first.day, second.day);
    }

    #[test]
    fn an_offset_that_changes_by_half_an_hour_cuts_the_hour() {
        let howe = zone("Australia/Lord_Howe");
        // On 5 April 2026 at 02:00 (+11) the clock goes back to 01:30 (+10:30): 15:00 UTC on the 4th.
        let change = at("2026-04-04T15:00:00Z");
        let before = Periods::of(&howe, change - SECOND);
        let after = Periods::of(&howe, change);
        assert_eq!(before.hour_end, change / SECOND);
        assert_eq!(after.hour, change / SECOND);
        assert_eq!(after.hour_end - after.hour, 1_800);
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        for name in ["UTC", "Europe/Rome", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia"] {
            let zone = zone(name);
            let mut wall = at("2024-01-15T00:00:00Z");
            for _ in 0..30 {
                let periods = Periods::of(&zone, wall);
                assert!(periods.contains(wall / SECOND) && periods.day <= periods.hour && periods.month <= periods.day);
                let next = Periods::of(&zone, periods.month_end * SECOND);
                assert_eq!(next.month, periods.month_end, "{name}");
                wall = periods.month_end * SECOND;
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        for wall in [i64::MIN, i64::MAX, 0, -1] {
            let periods = Periods::of(&TimeZone::UTC, wall);
            assert!(
                periods.hour < periods.hour_end && periods.day < periods.day_end && periods.month < periods.month_end
            );
            assert!(!rfc3339(wall).is_empty());
        }
    }
}
