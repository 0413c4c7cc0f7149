//! Breakers on their way into history and back: there by the wall, which outlives the machine's boot, here by the clock that
//! nobody can set.

use crate::clock::Now;
use crate::rules::breaker::Breaker;
use crate::store::history::SavedBreaker;
use crate::store::region::KeptBreaker;

/// As history keeps it.
pub(super) fn saved(kept: &KeptBreaker, now: &Now) -> SavedBreaker {
    let KeptBreaker { account, breaker } = kept;
    SavedBreaker {
        scope: account.scope,
        owner: account.owner.clone(),
        name: account.name.clone(),
        cause: breaker.cause,
        strikes: breaker.strikes,
        opened: now.wall_at(breaker.opened),
        until: now.wall_at(breaker.until),
        half: now.wall_at(breaker.half),
        calls: breaker.calls,
        failures: breaker.failures,
    }
}

/// As it was; a probe that was on its way is lost.
pub(super) fn restored(saved: &SavedBreaker, now: &Now) -> Breaker {
    let mono = |wall: i64| now.mono.saturating_add(wall.saturating_sub(now.wall));
    Breaker {
        cause: saved.cause,
        strikes: saved.strikes,
        opened: mono(saved.opened),
        until: mono(saved.until),
        probe_until: 0,
        half: mono(saved.half),
        calls: saved.calls,
        failures: saved.failures,
    }
}
