//! What is said, as ids and arguments: which notice leads a state or a refusal, without a word of prose.
//!
//! The texts are in `locales/<lang>/quota.ftl`, under the same ids; [`super::i18n`] puts the two together.

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

pub use super::vocabulary::{Arg, Level, NoticeId};
use crate::rules::limits::{Mode, Window};
use crate::wire::{Decision, LimitLine, Quantity, Reason, Snapshot, Status};

impl From<Quantity> for Arg {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Count(count) => Arg::Count(count),
            Quantity::Usd(usd) => Arg::Usd(usd),
        }
    }
}

/// Names and values; a name occurs once.
pub type Args = Vec<(&'static str, Arg)>;

/// What is to be said: an id and its arguments. On the wire `args` is an object, each value `{"type", "value"}`.
///
/// A notice about a limit carries `account`, `scope`, `limit`, `mode`, `taken` (used + held), `held`, `cap` and `percent`; a
/// refusal also `asked`, and `more`, the number of further limits in the way. One about a provider carries `cause`. Where calls
/// are refused, `retry` is `at` (then `at` and `wait` are there), `call-ends`, `blocked` (a limit of 0) or `later`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// Which notice.
    pub id: NoticeId,
    /// How much it matters.
    pub level: Level,
    /// What its text may show.
    #[serde(serialize_with = "as_object")]
    pub args: Args,
}

fn as_object<S: Serializer>(args: &Args, serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(args.len()))?;
    for (name, arg) in args {
        object.serialize_entry(name, arg)?;
    }
    object.end()
}

impl Notice {
    fn new(id: NoticeId, args: Args) -> Self {
        Self { id, level: id.level(), args }
    }

    /// The argument of that name.
    #[must_use]
    pub fn arg(&self, name: &str) -> Option<&Arg> {
        self.args.iter().find(|(known, _)| *known == name).map(|(_, arg)| arg)
    }
}

/// The notice that leads a workspace's state: its worst cause, and of several such the one that lasts longest.
#[must_use]
pub fn for_snapshot(snapshot: &Snapshot) -> Notice {
    match snapshot.status {
        Status::Normal => Notice::new(NoticeId::StatusNormal, Args::new()),
        Status::Warning => match leading_warning(snapshot) {
            Some(line) if line.critical => Notice::new(NoticeId::StatusCritical, with_line(line)),
            Some(line) => Notice::new(NoticeId::StatusNear, with_line(line)),
            // Without a line there is nothing more to say than this.
            None => for_check(snapshot),
        },
        Status::RateLimited => {
            full(snapshot, is_short, NoticeId::StatusRateLimited, NoticeId::StatusRateLimitedByProvider)
        }
        Status::QuotaExceeded => {
            full(snapshot, is_long, NoticeId::StatusQuotaExceeded, NoticeId::StatusQuotaExceededByProvider)
        }
        Status::Degraded => by_provider(NoticeId::StatusDegraded, snapshot),
    }
}

/// The short notice of the legacy `/check` route. Where calls must wait, `wait` tells how long if that is known.
#[must_use]
pub fn for_check(snapshot: &Snapshot) -> Notice {
    let id = match snapshot.status {
        Status::Normal => NoticeId::CheckNormal,
        Status::Warning => NoticeId::CheckWarning,
        Status::Degraded => NoticeId::CheckDegraded,
        Status::RateLimited => NoticeId::CheckRateLimited,
        Status::QuotaExceeded => NoticeId::CheckQuotaExceeded,
    };
    let mut args = Args::new();
    if matches!(snapshot.status, Status::RateLimited | Status::QuotaExceeded) {
        args.extend(for_snapshot(snapshot).args.into_iter().filter(|(name, _)| ["retry", "at", "wait"].contains(name)));
    }
    Notice::new(id, args)
}

/// The notice of one answer: why the call was refused, and when it may be tried again.
#[must_use]
pub fn for_decision(decision: &Decision) -> Notice {
    let Some(reason) = decision.reason.filter(|_| !decision.allowed) else {
        return Notice::new(NoticeId::Allowed, Args::new());
    };
    let retry = match (&decision.retry_at, decision.retry_after_ms) {
        (Some(at), Some(wait_ms)) => Retry::At { at: at.clone(), seconds: wait_ms.div_ceil(1_000) },
        _ => Retry::Later,
    };
    match reason {
        Reason::Limit => refused_by_limit(decision, retry),
        Reason::Breaker => {
            let cause = decision.breaker.as_deref().unwrap_or_default();
            let id = match cause {
                "insufficient_quota" => NoticeId::RefusedProviderQuota,
                "rate_limit_exceeded" | "no_requests_left" | "no_tokens_left" => NoticeId::RefusedProviderRate,
                "failure_rate" => NoticeId::RefusedProviderFailing,
                _ => NoticeId::RefusedProviderOther,
            };
            Notice::new(id, with_cause(cause, retry))
        }
        Reason::Queue => {
            let mut args = vec![("ahead", Arg::Count(u64::from(decision.queued_ahead)))];
            retry.push(&mut args);
            Notice::new(NoticeId::RefusedQueue, args)
        }
        Reason::StoreBusy => Notice::new(NoticeId::RefusedStoreBusy, Args::new()),
        Reason::StoreFull => Notice::new(NoticeId::RefusedStoreFull, Args::new()),
    }
}

fn refused_by_limit(decision: &Decision, retry: Retry) -> Notice {
    let never_fits = |line: &&LimitLine| amount(line.asked) > amount(line.cap);
    let line = decision.limits.iter().filter(|line| !decision.never_fits || never_fits(line)).max_by(lasts_longer);
    let Some(line) = line else {
        // A refusal without a line is none that the rules make; said in the least words that are true.
        let mut args = Args::new();
        retry.push(&mut args);
        return Notice::new(NoticeId::CheckRateLimited, args);
    };
    let retry = match (is_blocked(line), retry) {
        (true, _) => Retry::Blocked,
        (false, Retry::Later) if line.limit.window() == Window::Open => Retry::CallEnds,
        (false, retry) => retry,
    };
    let id = match line.limit.window() {
        _ if decision.never_fits && !is_blocked(line) => NoticeId::RefusedNeverFits,
        window if is_short(window) => NoticeId::RefusedRate,
        _ => NoticeId::RefusedQuota,
    };
    let mut args = with_line(line);
    retry.push(&mut args);
    args.push(("asked", line.asked.into()));
    args.push(("more", Arg::Count(decision.limits.len().saturating_sub(1) as u64)));
    Notice::new(id, args)
}

/// The full limit of the workspace, or the provider's word, whichever lasts longer.
fn full(snapshot: &Snapshot, window: fn(Window) -> bool, own: NoticeId, provider: NoticeId) -> Notice {
    let full = named(snapshot, &["full:"]).filter(|line| line.mode == Mode::Enforce && window(line.limit.window()));
    match full.max_by(lasts_longer) {
        Some(line) if breaker(snapshot).is_none_or(|(_, until)| until <= instant(line.resets_at.as_deref())) => {
            let mut args = with_line(line);
            Retry::of(line, snapshot).push(&mut args);
            Notice::new(own, args)
        }
        _ => by_provider(provider, snapshot),
    }
}

fn by_provider(id: NoticeId, snapshot: &Snapshot) -> Notice {
    let (cause, until) = breaker(snapshot).unwrap_or_default();
    Notice::new(id, with_cause(cause, Retry::at(until, snapshot).unwrap_or(Retry::Later)))
}

/// The breaker's cause that makes the snapshot's status, and until when it holds, where that is known.
fn breaker(snapshot: &Snapshot) -> Option<(&str, Option<Timestamp>)> {
    let makes = |cause: &&str| match snapshot.status {
        Status::RateLimited => ["rate_limit_exceeded", "no_requests_left", "no_tokens_left"].contains(cause),
        Status::QuotaExceeded => *cause == "insufficient_quota",
        Status::Degraded => *cause == "failure_rate",
        Status::Normal | Status::Warning => false,
    };
    let cause = snapshot.status_reasons.iter().filter_map(|reason| reason.strip_prefix("breaker:")).find(makes)?;
    let lines = snapshot.provider_state.values().filter(|line| line.cause.as_deref() == Some(cause));
    Some((cause, lines.filter_map(|line| instant(line.open_until.as_deref())).max()))
}

/// The limit to warn of: one that refuses before one that only observes, then the fullest.
fn leading_warning(snapshot: &Snapshot) -> Option<&LimitLine> {
    named(snapshot, &["near:", "critical:", "full:"]).max_by(|a, b| {
        let enforced = |line: &LimitLine| line.mode == Mode::Enforce;
        enforced(a).cmp(&enforced(b)).then(a.percentage.total_cmp(&b.percentage))
    })
}

/// The limits that `status_reasons` names with one of these prefixes.
fn named<'a>(snapshot: &'a Snapshot, prefixes: &'a [&str]) -> impl Iterator<Item = &'a LimitLine> {
    snapshot.limits.iter().filter(|line| {
        let reasons = snapshot.status_reasons.iter();
        let mut kinds = reasons.filter_map(|reason| prefixes.iter().find_map(|prefix| reason.strip_prefix(prefix)));
        kinds.any(|kind| kind == line.limit.as_str())
    })
}

/// Of two limits: a blocked one first, then the one that gives back later, then the fuller one.
fn lasts_longer(a: &&LimitLine, b: &&LimitLine) -> std::cmp::Ordering {
    let key = |line: &LimitLine| (is_blocked(line), instant(line.resets_at.as_deref()));
    key(a).cmp(&key(b)).then(a.percentage.total_cmp(&b.percentage))
}

fn instant(time: Option<&str>) -> Option<Timestamp> {
    time?.parse().ok()
}

fn amount(quantity: Quantity) -> f64 {
    match quantity {
        Quantity::Count(count) => count as f64,
        Quantity::Usd(usd) => usd,
    }
}

fn is_blocked(line: &LimitLine) -> bool {
    amount(line.cap) == 0.0
}

/// Windows that are over while one waits: a full one limits the rate.
fn is_short(window: Window) -> bool {
    matches!(window, Window::Second | Window::Minute | Window::Hour | Window::Open)
}

/// Windows of a quota.
fn is_long(window: Window) -> bool {
    !is_short(window)
}

/// When to try again.
enum Retry {
    At { at: String, seconds: u64 },
    CallEnds,
    Blocked,
    Later,
}

impl Retry {
    fn of(line: &LimitLine, snapshot: &Snapshot) -> Self {
        if is_blocked(line) {
            return Retry::Blocked;
        }
        let otherwise = if line.limit.window() == Window::Open { Retry::CallEnds } else { Retry::Later };
        Retry::at(instant(line.resets_at.as_deref()), snapshot).unwrap_or(otherwise)
    }

    fn at(then: Option<Timestamp>, snapshot: &Snapshot) -> Option<Self> {
        let (now, then) = (instant(Some(&snapshot.as_of))?, then?);
        let nanos = then.as_nanosecond().saturating_sub(now.as_nanosecond());
        let seconds = u64::try_from(nanos).map_or(0, |nanos| nanos.div_ceil(1_000_000_000));
        Some(Retry::At { at: then.to_string(), seconds })
    }

    fn push(self, args: &mut Args) {
        let word = match self {
            Retry::At { at, seconds } => {
                args.push(("at", Arg::Time(at)));
                args.push(("wait", Arg::Wait { seconds }));
                "at"
            }
            Retry::CallEnds => "call-ends",
            Retry::Blocked => "blocked",
            Retry::Later => "later",
        };
        args.push(("retry", Arg::Text(word.to_owned())));
    }
}

fn with_line(line: &LimitLine) -> Args {
    let taken = match (line.used, line.held) {
        (Quantity::Count(used), Quantity::Count(held)) => Arg::Count(used.saturating_add(held)),
        (used, held) => Arg::Usd(amount(used) + amount(held)),
    };
    // Open calls are what this limit counts: none of them is "held" beside them.
    let held = if line.limit.window() == Window::Open { Arg::Count(0) } else { line.held.into() };
    let mode = match line.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    };
    vec![
        ("account", Arg::Text(line.account.clone())),
        ("scope", Arg::Scope(line.scope)),
        ("limit", Arg::Limit(line.limit)),
        ("taken", taken),
        ("held", held),
        ("cap", line.cap.into()),
        ("percent", Arg::Percent(line.percentage)),
        ("mode", Arg::Text(mode.to_owned())),
    ]
}

fn with_cause(cause: &str, retry: Retry) -> Args {
    let cause = if cause.is_empty() { "unknown" } else { cause };
    let mut args = vec![("cause", Arg::Text(cause.to_owned()))];
    retry.push(&mut args);
    args
}
