//! One configuration for the processes of a store: which settings hold, and that all read the same.

#![allow(clippy::unwrap_used, reason = "what fails to unwrap fails its test")]

#[path = "published/cases.rs"]
mod cases;
#[path = "published/file.rs"]
mod file;
#[path = "published/laws.rs"]
mod laws;
#[path = "published/notes.rs"]
mod notes;

use llmquota::account::{AccountId, Scope};
use llmquota::config::{Config, EnvLimits, LimitsFile, OnStoreFailure, Published, Publisher};
use llmquota::rules::limits::{LimitKind, Mode};

const NOW: i64 = 1_769_817_600_000_000_000;

const RPM: LimitKind = LimitKind::RequestsPerMinute;
const BUDGET: LimitKind = LimitKind::BudgetUsdPerMonth;

const fn publisher(pid: u32) -> Publisher {
    Publisher { id: (pid as u64) << 8 | 1, pid }
}

const fn workspace(name: &str) -> AccountId<'_> {
    AccountId { scope: Scope::Workspace, owner: "", name }
}

/// What an environment with these variables says.
fn environment(variables: &[(&str, &str)]) -> EnvLimits {
    let mut limits = EnvLimits::default();
    for (name, value) in variables {
        match *name {
            "OPENAI_RATE_LIMIT_PER_MINUTE" => limits.set_limit(name, RPM, value).unwrap(),
            "OPENAI_MONTHLY_BUDGET_USD" => limits.set_limit(name, BUDGET, value).unwrap(),
            "OPENAI_DAILY_TOKEN_LIMIT" => limits.set_limit(name, LimitKind::TokensPerDay, value).unwrap(),
            "MAX_CONCURRENT" => limits.set_limit(name, LimitKind::MaxConcurrent, value).unwrap(),
            "OPENAI_WARNING_THRESHOLD_PERCENT" => limits.set_near_percent(name, value.parse().unwrap()).unwrap(),
            "OPENAI_CRITICAL_THRESHOLD_PERCENT" => limits.set_critical_percent(name, value.parse().unwrap()).unwrap(),
            "LLMQUOTA_TIMEZONE" => limits.set_time_zone(name, value).unwrap(),
            "on_store_failure" => limits.set_on_store_failure(OnStoreFailure::from_name(value).unwrap()),
            _ => unreachable!("{name}"),
        }
    }
    limits
}

fn with_variables(variables: &[(&str, &str)]) -> Config {
    Config::default().with_environment(environment(variables))
}

fn with_file(name: &str, text: &str, changed: i64) -> Config {
    Config::default().with_file(LimitsFile::parse(text, name).unwrap().changed_at(changed))
}

/// Publishes these configurations one after the other, as of the processes 1, 2, ...; all live.
fn published<'a>(configs: impl IntoIterator<Item = &'a Config>) -> Published {
    (1..).zip(configs).fold(Published::new(0), |published, (pid, config)| joined(&published, pid, config))
}

fn joined(published: &Published, pid: u32, config: &Config) -> Published {
    published.merge(publisher(pid), config, |_| true).unwrap_or_else(|| published.clone())
}

/// What holds for all of them.
fn held(published: &Published) -> Config {
    published.config(&Config::default()).unwrap()
}

fn cap(config: &Config, kind: LimitKind) -> Option<(u64, Mode)> {
    config.resolve(workspace("acme"), NOW).limits.get(kind).map(|limit| (limit.cap, limit.mode))
}

/// The cap where it refuses calls.
fn enforced(config: &Config, kind: LimitKind) -> Option<u64> {
    cap(config, kind).filter(|(_, mode)| *mode == Mode::Enforce).map(|(cap, _)| cap)
}
