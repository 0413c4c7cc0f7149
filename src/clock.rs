//! Time is an argument. A clock gives two readings: the wall, for calendar periods and for people, and a monotonic one,
//! for "any 60 seconds", which nobody can set back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// One reading of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the Unix epoch; may step either way when somebody sets the clock.
    pub wall: i64,
    /// Nanoseconds of a clock that never goes back (since boot for [`SystemClock`]).
    pub mono: i64,
}

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;

impl Now {
    /// The whole monotonic second, which names a bucket of the minute.
    #[must_use]
    pub fn second(&self) -> i64 {
        self.mono.div_euclid(SECOND)
    }

    /// True where [`Now::second`] is this one: one multiplication, where that divides.
    #[inline]
    #[must_use]
    pub fn is_in_second(&self, second: u64) -> bool {
        self.mono.cast_unsigned().wrapping_sub(second.wrapping_mul(SECOND.unsigned_abs())) < SECOND.unsigned_abs()
    }

    /// True where [`Now::second`] is this one or an earlier one.
    #[inline]
    #[must_use]
    pub fn is_until_second(&self, second: u64) -> bool {
        self.mono.cast_unsigned() < second.wrapping_add(1).wrapping_mul(SECOND.unsigned_abs())
    }

    /// The wall time of the monotonic instant `mono`, as the two clocks stand at this reading.
    #[must_use]
    pub fn wall_at(&self, mono: i64) -> i64 {
        self.wall.saturating_add(mono.saturating_sub(self.mono))
    }
}

/// A source of time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// A cheap reading, which may lag a few milliseconds behind [`Clock::exact`] and never runs ahead of it.
    fn coarse(&self) -> Now;

    /// The wall half of [`Clock::coarse`].
    fn coarse_wall(&self) -> i64 {
        self.coarse().wall
    }

    /// The exact reading, for decisions that say "not yet".
    fn exact(&self) -> Now;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[cfg(target_os = "linux")]
mod system {
    use super::{Now, SECOND};
    use rustix::time::{ClockId, clock_gettime};

    fn read(id: ClockId) -> i64 {
        let time = clock_gettime(id);
        time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
    }

    pub(super) fn coarse() -> Now {
        Now { wall: read(ClockId::RealtimeCoarse), mono: read(ClockId::MonotonicCoarse) }
    }

    pub(super) fn coarse_wall() -> i64 {
        read(ClockId::RealtimeCoarse)
    }

    pub(super) fn exact() -> Now {
        Now { wall: read(ClockId::Realtime), mono: read(ClockId::Monotonic) }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Now;
    use std::sync::OnceLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    pub(super) fn coarse() -> Now {
        exact()
    }

    pub(super) fn exact() -> Now {
        static START: OnceLock<Instant> = OnceLock::new();
        let mono = START.get_or_init(Instant::now).elapsed().as_nanos();
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Now { wall, mono: i64::try_from(mono).unwrap_or(i64::MAX) }
    }
}

impl Clock for SystemClock {
    fn coarse(&self) -> Now {
        system::coarse()
    }

    #[cfg(target_os = "linux")]
    fn coarse_wall(&self) -> i64 {
        system::coarse_wall()
    }

    fn exact(&self) -> Now {
        system::exact()
    }
}

/// A clock that moves when told to, for tests. Clones share one time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    wall: AtomicI64,
    mono: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `wall` nanoseconds since the epoch, on both readings.
    #[must_use]
    pub fn at(wall: i64) -> Self {
        Self(Arc::new(Hands { wall: AtomicI64::new(wall), mono: AtomicI64::new(wall.max(0)) }))
    }

    /// Lets `nanos` pass: both readings move. Time that passes cannot be negative; a negative value counts as 0, and
    /// the last instant is never passed.
    pub fn advance(&self, nanos: i64) {
        let nanos = nanos.max(0);
        for hand in [&self.0.mono, &self.0.wall] {
            let later = |time: i64| Some(time.saturating_add(nanos));
            // Always an update: there is a later time, or the last.
            let _before = hand.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
        }
    }

    /// Sets the wall clock, forward or back, as an administrator would; no time passes.
    pub fn set_wall(&self, wall: i64) {
        self.0.wall.store(wall, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn coarse(&self) -> Now {
        self.exact()
    }

    fn exact(&self) -> Now {
        Now { wall: self.0.wall.load(Ordering::SeqCst), mono: self.0.mono.load(Ordering::SeqCst) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_reading_never_runs_ahead() {
        for _ in 0..1_000 {
            let coarse = SystemClock.coarse();
            let exact = SystemClock.exact();
            assert!(coarse.mono <= exact.mono, "{coarse:?} {exact:?}");
        }
    }

    #[test]
    fn setting_the_wall_passes_no_time() {
        let clock = ManualClock::at(100 * SECOND);
        clock.set_wall(10 * SECOND);
        assert_eq!(clock.exact(), Now { wall: 10 * SECOND, mono: 100 * SECOND });
        clock.advance(SECOND);
        assert_eq!(clock.exact(), Now { wall: 11 * SECOND, mono: 101 * SECOND });
        assert_eq!(clock.exact().wall_at(161 * SECOND), 71 * SECOND);
    }
}
