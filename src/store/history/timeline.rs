//! The time zones that an account has had, and which periods an instant lies in under them. Pure: knows no file.

use jiff::tz::TimeZone;

use crate::clock::SECOND;
use crate::rules::windows::Periods;
use crate::usage::history::{Span, Starts};

/// Another zone from some time on: the periods that ran then go on under other starts.
#[derive(Debug, Clone)]
struct Rename {
    at: i64,
    was: Starts,
    is: Starts,
    before: TimeZone,
}

/// An account's zones, the first one first.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    zone: TimeZone,
    renames: Vec<Rename>,
    /// The two hours last asked for: the running one, and one in which calls began that end now.
    recent: [Periods; 2],
}

/// The start of a span; the total has none and is 0.
pub(super) fn start_in(starts: &Starts, span: Span) -> i64 {
    match span {
        Span::Total => 0,
        Span::Hour => starts.hour,
        Span::Day => starts.day,
        Span::Month => starts.month,
    }
}

fn starts_of(periods: &Periods) -> Starts {
    Starts { hour: periods.hour, day: periods.day, month: periods.month }
}

/// The starts of the periods in which the wall time (nanoseconds) lies.
pub(super) fn starts_at(zone: &TimeZone, wall: i64) -> Starts {
    starts_of(&Periods::of(zone, wall))
}

impl Timeline {
    /// An account that has had this zone alone.
    pub(super) fn new(first: TimeZone) -> Self {
        Self { zone: first, renames: Vec::new(), recent: [Periods::default(); 2] }
    }

    /// The zone it has now.
    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Takes another zone from `at` on.
    pub(super) fn rename(&mut self, at: i64, was: Starts, is: Starts, zone: TimeZone) {
        let before = std::mem::replace(&mut self.zone, zone);
        self.renames.push(Rename { at, was, is, before });
        self.recent = [Periods::default(); 2];
    }

    /// The starts under the zone of now.
    pub(super) fn now(&mut self, wall: i64) -> Starts {
        let seconds = wall.div_euclid(SECOND);
        if !self.recent[0].contains(seconds) {
            self.recent.swap(0, 1);
            if !self.recent[0].contains(seconds) {
                self.recent[0] = Periods::of(&self.zone, wall);
            }
        }
        starts_of(&self.recent[0])
    }

    /// The starts for a hold of that time: those of the zone of then, under the names that they have been given since.
    ///
    /// Where a clock was set back between the hold and another zone, or the other way round, the hold counts in the hour, day
    /// and month that its time has in the other of the two zones. Its total is right all the same.
    pub(super) fn granted(&mut self, wall: i64) -> Starts {
        let Some(next) = self.renames.iter().position(|rename| wall < rename.at) else { return self.now(wall) };
        let later = self.renames.get(next..).unwrap_or_default();
        let mut starts = later.first().map_or_else(Starts::default, |rename| starts_at(&rename.before, wall));
        for Rename { was, is, .. } in later {
            for (start, was, is) in [
                (&mut starts.hour, was.hour, is.hour),
                (&mut starts.day, was.day, is.day),
                (&mut starts.month, was.month, is.month),
            ] {
                if *start == was {
                    *start = is;
                }
            }
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::time_zone;

    const HOUR: i64 = 3_600 * SECOND;

    #[test]
    fn a_hold_of_the_running_day_goes_on_in_the_day_that_it_became() {
        let (utc, new_york) = (TimeZone::UTC, time_zone("zone", "America/New_York").unwrap());
        let noon = 1_767_355_200 * SECOND; // 2026-01-02T12:00:00Z
        let mut timeline = Timeline::new(utc.clone());
        let (was, is) = (starts_at(&utc, noon), starts_at(&new_york, noon));
        timeline.rename(noon, was, is, new_york.clone());
        // At 01:00Z it is still yesterday in New York; the hold was granted today, and today goes on.
        let early = timeline.granted(noon - 11 * HOUR);
        assert_eq!((early.day, early.month), (is.day, is.month));
        assert_eq!(early.hour, starts_at(&utc, noon - 11 * HOUR).hour);
        // Yesterday keeps the name that it had.
        assert_eq!(timeline.granted(noon - 13 * HOUR).day, was.day - 86_400);
        assert_eq!(timeline.granted(noon), starts_at(&new_york, noon));
    }

    #[test]
    fn two_hours_by_turns_are_those_of_the_calendar() {
        let mut timeline = Timeline::new(time_zone("zone", "Asia/Kathmandu").unwrap());
        for step in 0..50 {
            let wall = 1_767_355_200 * SECOND + (step % 3) * HOUR + step * HOUR / 7;
            assert_eq!(timeline.now(wall), starts_at(&timeline.zone().clone(), wall));
        }
    }
}
