//! Refusals as decisions of the wire.

use super::snapshot::{Amounts, line};
use crate::account::Chain;
use crate::clock::Now;
use crate::error::Error;
use crate::rules::breaker::{Breaker, Cause, State};
use crate::rules::decisions::Frees;
use crate::rules::windows::rfc3339;
use crate::store::Refusal;
use crate::wire::{Decision, Reason};

/// It may go.
pub(super) fn allowed() -> Decision {
    Decision {
        allowed: true,
        reason: None,
        breaker: None,
        detail: None,
        retry_at: None,
        retry_after_ms: None,
        never_fits: false,
        queued_ahead: 0,
        limits: Vec::new(),
    }
}

fn refused(reason: Reason) -> Decision {
    Decision { allowed: false, reason: Some(reason), ..allowed() }
}

/// Others wait and were first.
pub(crate) fn queued(ahead: u32) -> Decision {
    Decision { queued_ahead: ahead, ..refused(Reason::Queue) }
}

/// The store could not be asked.
pub(super) fn without_store(reason: Reason, error: &Error) -> Decision {
    Decision { detail: Some(error.message().to_owned()), ..refused(reason) }
}

/// What is in the way, and until when.
pub(super) fn decision(chain: &Chain<'_>, refusal: &Refusal) -> Decision {
    let now = refusal.at;
    let mut frees: Vec<Frees> = refusal.limits.iter().map(|blocking| blocking.frees).collect();
    let mut decision = if refusal.ahead > 0 { queued(refusal.ahead) } else { refused(Reason::Limit) };
    let ends = |breaker: &Breaker| match breaker.state(now.mono) {
        State::Open { until } => Frees::At(now.wall_at(until)),
        State::HalfOpen { .. } | State::Closed => Frees::Unknown,
    };
    frees.extend(refusal.breakers.iter().map(|(_, breaker)| ends(breaker)));
    // The one that is told of is the one that lasts longest; nobody knows how long a probe takes.
    let lasts = |breaker: &Breaker| if ends(breaker) == Frees::Unknown { i64::MAX } else { breaker.until };
    if let Some((place, breaker)) = refusal.breakers.iter().max_by_key(|(_, breaker)| lasts(breaker)) {
        if refusal.ahead == 0 {
            decision.reason = Some(Reason::Breaker);
        }
        decision.breaker = Some(breaker.cause.as_str().to_owned());
        let name = chain.accounts().get(*place).map(|account| account.name);
        decision.detail = name.map(|name| match breaker.cause {
            Cause::NoRequestsLeft => format!("the provider has no requests left for '{name}', by its own limit"),
            Cause::NoTokensLeft => format!("the provider has no tokens left for '{name}', by its own limit"),
            _ => format!("the breaker of '{name}' is open"),
        });
    }
    decision.never_fits = frees.contains(&Frees::Never);
    if let Some(at) = latest(&frees) {
        decision.retry_at = Some(rfc3339_up(at));
        decision.retry_after_ms = Some(wait_ms(at, &now));
    }
    decision.limits = refusal
        .limits
        .iter()
        .filter_map(|blocking| {
            let account = chain.accounts().get(blocking.place)?;
            let amounts = Amounts { counts: blocking.counts, asked: blocking.asked, resets: blocking.resets };
            Some(line(account, blocking.kind, blocking.limit, &amounts, blocking.thresholds))
        })
        .collect();
    decision
}

/// When all of them let the call through; `None` where one never does, or nobody knows.
fn latest(frees: &[Frees]) -> Option<i64> {
    let at = |frees: &Frees| if let Frees::At(at) = frees { Some(*at) } else { None };
    let all: Option<Vec<i64>> = frees.iter().map(at).collect();
    all?.into_iter().max()
}

/// To the millisecond, never before the instant.
fn rfc3339_up(wall: i64) -> String {
    rfc3339(wall.saturating_add(999_999))
}

fn wait_ms(wall: i64, now: &Now) -> u64 {
    let nanos = u64::try_from(wall.saturating_sub(now.wall)).unwrap_or(0);
    nanos.div_ceil(1_000_000)
}
