//! What holds where nobody configured anything: the numbers of the tracker and the limiter that this engine replaced.

use crate::rules::limits::{LimitKind, LimitSet};

/// The limits of every workspace. Tokens a day and the budget only observe: nobody asked for them, and a backend that
/// never had them must not stop at midnight.
pub(super) fn workspace() -> LimitSet {
    LimitSet::NONE
        .with(LimitKind::RequestsPerMinute, 500)
        .with(LimitKind::RequestsPerDay, 10_000)
        .with(LimitKind::TokensPerMinute, 150_000)
        .observing(LimitKind::TokensPerDay, 2_000_000)
        .observing(LimitKind::BudgetUsdPerMonth, 100_000_000_000)
}

/// The name whose limits an unknown limiter has.
pub(super) const DEFAULT_LIMITER: &str = "default";

/// The limits of the limiter `name`, or `None` where there is none of that name.
pub(super) fn limiter(name: &str) -> Option<LimitSet> {
    let (minute, hour, burst) = match name {
        "openai_gpt4" => (40, 2_000, 10),
        "openai_gpt35" => (60, 3_500, 15),
        "auto_completion" => (5, 100, 2),
        "goal_unblock" => (10, 200, 3),
        DEFAULT_LIMITER => (30, 1_500, 5),
        _ => return None,
    };
    Some(
        LimitSet::NONE
            .with(LimitKind::RequestsPerMinute, minute)
            .with(LimitKind::RequestsPerHour, hour)
            .with(LimitKind::MaxBurst, burst),
    )
}

/// The limits of the limiter `name`, which has those of [`DEFAULT_LIMITER`] where it is unknown.
pub(super) fn limiter_or_default(name: &str) -> LimitSet {
    limiter(name).or_else(|| limiter(DEFAULT_LIMITER)).unwrap_or_default()
}
