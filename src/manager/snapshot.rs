//! Reports: what an account has, as shapes of the wire.

use std::collections::BTreeMap;

use super::{Manager, unexpected};
use crate::account::{AccountId, Call, Chain, Scope, canonical_workspace};
use crate::clock::Now;
use crate::error::Result;
use crate::rules::breaker::{Breaker, State};
use crate::rules::decisions::{Counts, Moment, resets};
use crate::rules::limits::{Limit, LimitKind, Resource, Thresholds};
use crate::rules::status;
use crate::rules::windows::rfc3339;
use crate::store::region::OTHER;
use crate::store::{AccountReading, Batch, Listed, Receipt as Stored, Tally};
use crate::wire::{Attribution, BreakerLine, Holds, LimitLine, Quantity, Snapshot, Status, Usage, UsageLine};

/// What a limit counts, for its line.
pub(super) struct Amounts {
    pub(super) counts: Counts,
    pub(super) asked: u64,
    pub(super) resets: Option<i64>,
}

/// One limit of one account.
pub(super) fn line(
    account: &AccountId<'_>,
    kind: LimitKind,
    limit: Limit,
    amounts: &Amounts,
    thresholds: Thresholds,
) -> LimitLine {
    let quantity = |amount: u64| match kind.resource() {
        Resource::Money => Quantity::Usd(usd(amount)),
        Resource::Requests | Resource::Tokens | Resource::Concurrency => Quantity::Count(amount),
    };
    let sum = amounts.counts.sum();
    let fill = status::Fill::of(sum, limit.cap, thresholds);
    LimitLine {
        account: display(account.name).to_owned(),
        scope: account.scope,
        limit: kind,
        mode: limit.mode,
        cap: quantity(limit.cap),
        used: quantity(amounts.counts.used),
        held: quantity(amounts.counts.held),
        asked: quantity(amounts.asked),
        percentage: percentage(sum, limit.cap),
        near: fill >= status::Fill::Near,
        critical: fill >= status::Fill::Critical,
        debt: quantity(amounts.counts.used.saturating_sub(limit.cap)),
        resets_at: amounts.resets.map(rfc3339),
    }
}

fn percentage(sum: u64, cap: u64) -> f64 {
    if cap == 0 { 100.0 } else { (sum as f64 / cap as f64 * 100.0 * 100.0).round() / 100.0 }
}

fn usd(nanos: u64) -> f64 {
    super::nanos(nanos).as_usd_f64()
}

fn display(name: &str) -> &str {
    if name == OTHER { "other" } else { name }
}

fn usage_line(tally: &Tally) -> UsageLine {
    UsageLine {
        requests: tally.requests,
        tokens: tally.tokens,
        input_tokens: tally.input,
        output_tokens: tally.output,
        cached_tokens: tally.cached,
        cost_usd: usd(tally.cost),
        errors: tally.errors,
    }
}

fn breaker_line(account: &str, breaker: &Breaker, now: &Now) -> BreakerLine {
    let (state, until) = match breaker.state(now.mono) {
        State::Closed => ("closed", None),
        State::Open { until } => ("open", Some(rfc3339(now.wall_at(until)))),
        State::HalfOpen { .. } => ("half_open", None),
    };
    let cause = (state != "closed").then(|| breaker.cause.as_str().to_owned());
    BreakerLine { account: account.to_owned(), state: state.to_owned(), cause, open_until: until }
}

/// A workspace's status, and from when on it may be another one by time alone (wall nanoseconds).
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) status: Status,
    pub(super) until: Option<i64>,
    pub(super) version: u64,
}

impl Manager {
    /// How a workspace stands.
    pub(super) fn standing(&self, workspace: &str) -> Result<Standing> {
        let (now, read) = self.read(&Call::new(workspace))?;
        let breakers = [read.breaker, read.met];
        let (status, _) = status::of(&read.limits, &read.reading, read.thresholds, &breakers, now.mono);
        let moment = Moment { now, periods: read.periods, buckets: &read.buckets, expiries: &read.expiries };
        let clears = |(kind, limit): (LimitKind, Limit)| {
            let fill = status::Fill::of(read.reading.get(kind).sum(), limit.cap, read.thresholds);
            if fill == status::Fill::Low { None } else { resets(kind, &moment) }
        };
        let opens = |breaker: &Breaker| match breaker.state(now.mono) {
            State::Open { until } => Some(now.wall_at(until)),
            State::Closed | State::HalfOpen { .. } => None,
        };
        let until = read.limits.iter().filter_map(clears).chain(breakers.iter().filter_map(opens)).min();
        Ok(Standing { status, until, version: read.version })
    }

    /// A workspace as it stands. One that was never used has the limits it would have, and zeroes; none is created.
    ///
    /// # Errors
    /// [`crate::Code::InvalidId`]; those of the store.
    pub fn snapshot(&self, workspace: &str) -> Result<Snapshot> {
        let name = canonical_workspace(Some(workspace))?;
        let (now, read) = self.read(&Call::new(name))?;
        let mut provider_state: BTreeMap<String, BreakerLine> = match self.apply(&Batch::Breakers)? {
            Stored::Breakers(now, breakers) => breakers
                .iter()
                .map(|(account, breaker)| (account.clone(), breaker_line(account, breaker, &now)))
                .collect(),
            other => return Err(unexpected(&other)),
        };
        let (status, status_reasons) =
            status::of(&read.limits, &read.reading, read.thresholds, &[read.breaker, read.met], now.mono);
        if read.breaker.state(now.mono) != State::Closed {
            provider_state.insert(name.to_owned(), breaker_line(name, &read.breaker, &now));
        }
        let account = AccountId { scope: Scope::Workspace, owner: "", name };
        let usage = Usage {
            minute: usage_line(&read.minute),
            day: usage_line(&read.day),
            month: usage_line(&read.month),
            total: usage_line(&read.total),
        };
        Ok(Snapshot {
            workspace_id: name.to_owned(),
            status,
            status_reasons,
            limits: lines(&account, &read, now),
            usage,
            holds: Holds { open: read.open, tokens: read.reading.get(LimitKind::TokensPerMinute).held },
            provider_state,
            last_error_at: read.last_error.map(rfc3339),
            version: read.version,
            as_of: rfc3339(now.wall),
        })
    }

    /// The limits of every account that a call would touch, as they stand.
    ///
    /// # Errors
    /// [`crate::Code::InvalidId`]; those of the store.
    pub fn limits(&self, call: &Call<'_>) -> Result<Vec<LimitLine>> {
        self.lines_of(&call.chain()?)
    }

    /// The limits of a legacy limiter, as they stand.
    ///
    /// # Errors
    /// [`crate::Code::InvalidId`] for a name that is none; those of the store.
    pub fn limiter_limits(&self, limiter: &str) -> Result<Vec<LimitLine>> {
        self.lines_of(&Chain::limiter(limiter)?)
    }

    fn lines_of(&self, chain: &Chain<'_>) -> Result<Vec<LimitLine>> {
        match self.apply(&Batch::Read(chain))? {
            Stored::Read(now, readings) => {
                let pairs = chain.accounts().iter().zip(&readings);
                Ok(pairs.flat_map(|(account, read)| lines(account, read, now)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The usage of one goal, task, model or user: the last account of the call's chain.
    ///
    /// # Errors
    /// [`crate::Code::InvalidId`]; those of the store.
    pub fn usage(&self, call: &Call<'_>) -> Result<Usage> {
        let (_, read) = self.read(call)?;
        Ok(Usage {
            minute: usage_line(&read.minute),
            day: usage_line(&read.day),
            month: usage_line(&read.month),
            total: usage_line(&read.total),
        })
    }

    pub(super) fn read(&self, call: &Call<'_>) -> Result<(Now, AccountReading)> {
        let chain = call.chain()?;
        match self.apply(&Batch::Read(&chain))? {
            Stored::Read(now, mut readings) => match readings.pop() {
                Some(read) => Ok((now, read)),
                None => Err(unexpected(&Stored::Read(now, readings))),
            },
            other => Err(unexpected(&other)),
        }
    }

    /// The goals, tasks, models or users of a workspace, most tokens first, `most` of them at the most.
    ///
    /// # Errors
    /// [`crate::Code::InvalidId`]; those of the store.
    pub fn attribution(&self, workspace: &str, scope: Scope, most: usize) -> Result<Vec<Attribution>> {
        let mut listed = self.list(scope, canonical_workspace(Some(workspace))?)?;
        let order = |one: &Listed, other: &Listed| {
            other.total.tokens.cmp(&one.total.tokens).then_with(|| one.name.cmp(&other.name))
        };
        if most > 0 && most < listed.len() {
            listed.select_nth_unstable_by(most - 1, order);
        }
        listed.truncate(most);
        listed.sort_by(order);
        let attribution = |entry: &Listed| Attribution {
            id: display(&entry.name).to_owned(),
            total: usage_line(&entry.total),
            day: usage_line(&entry.day),
        };
        Ok(listed.iter().map(attribution).collect())
    }

    /// The workspaces that anything was ever counted for, by name, with when they were last used (wall nanoseconds).
    ///
    /// # Errors
    /// Those of the store.
    pub fn workspaces(&self) -> Result<Vec<(String, i64)>> {
        let mut names: Vec<_> =
            self.list(Scope::Workspace, "")?.into_iter().map(|entry| (entry.name, entry.seen)).collect();
        names.sort();
        Ok(names)
    }

    fn list(&self, scope: Scope, owner: &str) -> Result<Vec<Listed>> {
        match self.apply(&Batch::List { scope, owner })? {
            Stored::Listed(listed) => Ok(listed),
            other => Err(unexpected(&other)),
        }
    }
}

fn lines(account: &AccountId<'_>, read: &AccountReading, now: Now) -> Vec<LimitLine> {
    let moment = Moment { now, periods: read.periods, buckets: &read.buckets, expiries: &read.expiries };
    read.limits
        .iter()
        .map(|(kind, limit)| {
            let counts = read.reading.get(kind);
            let resets = if counts.sum() == 0 { None } else { resets(kind, &moment) };
            line(account, kind, limit, &Amounts { counts, asked: 0, resets }, read.thresholds)
        })
        .collect()
}
