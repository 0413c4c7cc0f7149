//! The environments of several processes, and what of them holds.
//!
//! Of a limit the lowest cap holds, and of the thresholds the lowest percentage; a limit that enforces is lower than
//! one that only observes. Where a process sets nothing, what is built in stands for it, so that no process of a shared
//! store admits more than it would alone. The time zone and the policy know no lower: there the first that is published
//! holds, until its processes end, and one that sets nothing does not count.

use std::sync::Arc;

use super::Publisher;
use super::notes::{have, processes};
use crate::config::environment::{EnvLimits, Key, cap_text};
use crate::config::{OnStoreFailure, builtin};
use crate::rules::limits::{Limit, LimitKind, LimitSet, Mode, Thresholds};

/// What some processes were configured with, by variables or arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Environment {
    pub(super) processes: Vec<Publisher>,
    pub(super) has_builtins: bool,
    pub(super) limits: Arc<EnvLimits>,
}

/// Puts `process` where its environment is, and nowhere else.
pub(super) fn join(all: &mut Vec<Environment>, process: Publisher, has_builtins: bool, limits: &Arc<EnvLimits>) {
    let mut found = false;
    for environment in &mut *all {
        if environment.has_builtins == has_builtins && environment.limits == *limits {
            found = true;
            if !environment.processes.contains(&process) {
                environment.processes.push(process);
            }
        } else {
            environment.processes.retain(|other| *other != process);
        }
    }
    if !found {
        all.push(Environment { processes: vec![process], has_builtins, limits: Arc::clone(limits) });
    }
    all.retain(|environment| !environment.processes.is_empty());
}

/// Whether what is built in holds, and the environment that does.
pub(super) fn merged(all: &[Environment]) -> (bool, EnvLimits) {
    let mut limits = EnvLimits::default();
    for key in Key::ALL {
        if let Some(environment) = decisive(key, all) {
            limits.take(key, &environment.limits);
        }
    }
    (all.iter().any(|environment| environment.has_builtins), limits)
}

/// A sentence for each setting in which they differ.
pub(super) fn notes(all: &[Environment]) -> Vec<String> {
    let mut notes: Vec<String> = Key::ALL.into_iter().filter_map(|key| note(key, all)).collect();
    let (with, without): (Vec<_>, Vec<_>) = all.iter().partition(|environment| environment.has_builtins);
    if !with.is_empty() && !without.is_empty() {
        let of = |side: &[&Environment]| processes(side.iter().flat_map(|environment| &environment.processes));
        let (with, without) = (of(&with), of(&without));
        notes.push(format!("what is built in: {without} asked for none of it, {with} did not; it holds for all"));
    }
    notes
}

/// The environment whose setting holds; `None` where what is built in does.
fn decisive(key: Key, all: &[Environment]) -> Option<&Environment> {
    if matches!(key, Key::TimeZone | Key::OnStoreFailure) {
        return all.iter().find(|environment| environment.limits.field(key).is_some());
    }
    let ranked = all.iter().filter_map(|environment| match rank(key, &environment.limits) {
        Some(rank) => Some((rank, Some(environment))),
        None => builtin_rank(key, environment.has_builtins).map(|rank| (rank, None)),
    });
    // The first of equals.
    ranked.min_by_key(|(rank, _)| *rank).and_then(|(_, environment)| environment)
}

/// The lower, the stricter.
type Rank = (u8, u64);

fn rank(key: Key, limits: &EnvLimits) -> Option<Rank> {
    let percent = |percent: Option<u8>| percent.map(|percent| (0, u64::from(percent)));
    match key {
        Key::Limit(kind) => limit_rank(kind, &limits.limits),
        Key::NearPercent => percent(limits.near_percent),
        Key::CriticalPercent => percent(limits.critical_percent),
        Key::TimeZone | Key::OnStoreFailure => None,
    }
}

fn builtin_rank(key: Key, has_builtins: bool) -> Option<Rank> {
    let known = Thresholds::default();
    match key {
        Key::Limit(kind) => limit_rank(kind, &builtin_limits(has_builtins)),
        Key::NearPercent => Some((0, u64::from(known.near))),
        Key::CriticalPercent => Some((0, u64::from(known.critical))),
        Key::TimeZone | Key::OnStoreFailure => None,
    }
}

fn limit_rank(kind: LimitKind, limits: &LimitSet) -> Option<Rank> {
    limits.get(kind).map(|Limit { cap, mode }| (u8::from(mode == Mode::Observe), cap))
}

fn builtin_limits(has_builtins: bool) -> LimitSet {
    if has_builtins { builtin::workspace() } else { LimitSet::NONE }
}

/// What stands for a process that does not set `key`, as one would write it.
fn builtin_text(key: Key, has_builtins: bool) -> Option<String> {
    let known = Thresholds::default();
    match key {
        Key::Limit(kind) => {
            let limit = builtin_limits(has_builtins).get(kind)?;
            let mode = if limit.mode == Mode::Observe { ", only observed" } else { "" };
            Some(format!("{}{mode}", cap_text(kind, limit.cap)))
        }
        Key::NearPercent => Some(known.near.to_string()),
        Key::CriticalPercent => Some(known.critical.to_string()),
        Key::TimeZone => Some("UTC".to_owned()),
        Key::OnStoreFailure => Some(OnStoreFailure::default().as_str().to_owned()),
    }
}

fn note(key: Key, all: &[Environment]) -> Option<String> {
    // What is said and the value it comes to; other words for one value are no difference.
    let mut told: Vec<(String, Option<String>, Vec<Publisher>)> = Vec::new();
    for environment in all {
        let builtin = builtin_text(key, environment.has_builtins);
        let (text, value) = match (environment.limits.field(key), environment.limits.text(key)) {
            (Some(field), Some(value)) => (format!("{field}={value}"), Some(value)),
            _ => match builtin {
                Some(value) => (format!("none set (built in: {value})"), Some(value)),
                None => ("none set".to_owned(), None),
            },
        };
        match told.iter_mut().find(|(known, ..)| *known == text) {
            Some((.., processes)) => processes.extend(&environment.processes),
            None => told.push((text, value, environment.processes.clone())),
        }
    }
    let is_set = all.iter().any(|environment| environment.limits.field(key).is_some());
    let (_, first, _) = told.first()?;
    if !is_set || told.iter().all(|(_, value, _)| value == first) {
        return None;
    }
    let why = if matches!(key, Key::TimeZone | Key::OnStoreFailure) { "published first" } else { "the lowest" };
    let holding = match decisive(key, all) {
        Some(environment) => environment.limits.text(key),
        None => builtin_text(key, all.iter().any(|environment| environment.has_builtins)),
    };
    let told: Vec<String> = told.iter().map(|(text, _, processes)| have(processes, text)).collect();
    Some(format!("{}: {}; {}, {why}, holds for all", key.as_str(), told.join(", "), holding.unwrap_or_default()))
}
