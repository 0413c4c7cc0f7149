//! Plain numbers of this process: what the engine did since it began, for an exporter to read.
//!
//! The numbers are for monitors. No decision reads them, and they are not the accounts' counters, which lie in the store.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::wire::Reason;

/// Counters of one process. Each only rises; each is exact; two of them are not read at the same instant.
#[derive(Debug, Default)]
pub struct Telemetry {
    grants: AtomicU64,
    refused_limit: AtomicU64,
    refused_breaker: AtomicU64,
    refused_store_full: AtomicU64,
    refused_store_busy: AtomicU64,
    refused_queue: AtomicU64,
    never_fits: AtomicU64,
    records: AtomicU64,
    errors: AtomicU64,
    settles: AtomicU64,
    releases: AtomicU64,
    charges: AtomicU64,
}

/// A reading of [`Telemetry`]; every number counts from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reading {
    /// Calls that were admitted.
    pub grants: u64,
    /// Calls that were refused, by reason.
    pub refusals: Refusals,
    /// Calls reported after the fact, failed ones too.
    pub records: u64,
    /// Calls reported as failed.
    pub errors: u64,
    /// Holds ended with real amounts.
    pub settles: u64,
    /// Holds ended with nothing used.
    pub releases: u64,
    /// Holds charged as held, because nobody ended them.
    pub charges: u64,
}

/// Refused calls by reason; `never_fits` is a part of `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refusals {
    /// For a limit.
    pub limit: u64,
    /// For an open breaker.
    pub breaker: u64,
    /// For a full table of the store.
    pub store_full: u64,
    /// For a store that did not answer in time.
    pub store_busy: u64,
    /// For those who waited first.
    pub queue: u64,
    /// For a limit that is smaller than the call.
    pub never_fits: u64,
}

fn rise(counter: &AtomicU64) {
    // Relaxed: each number stands for itself, and nothing is published through it.
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Telemetry {
    /// Counts an admitted call.
    pub fn granted(&self) {
        rise(&self.grants);
    }

    /// Counts a refused call.
    pub fn refused(&self, reason: Reason, never_fits: bool) {
        rise(match reason {
            Reason::Limit => &self.refused_limit,
            Reason::Breaker => &self.refused_breaker,
            Reason::StoreFull => &self.refused_store_full,
            Reason::StoreBusy => &self.refused_store_busy,
            Reason::Queue => &self.refused_queue,
        });
        if never_fits {
            rise(&self.never_fits);
        }
    }

    /// Counts a call that was reported after the fact.
    pub fn recorded(&self, success: bool) {
        rise(&self.records);
        if !success {
            rise(&self.errors);
        }
    }

    /// Counts a hold that ended with real amounts.
    pub fn settled(&self) {
        rise(&self.settles);
    }

    /// Counts a hold that ended with nothing used.
    pub fn released(&self) {
        rise(&self.releases);
    }

    /// Counts a hold that was charged as held.
    pub fn charged(&self) {
        rise(&self.charges);
    }

    /// The numbers as they stand.
    #[must_use]
    pub fn snapshot(&self) -> Reading {
        Reading {
            grants: read(&self.grants),
            refusals: Refusals {
                limit: read(&self.refused_limit),
                breaker: read(&self.refused_breaker),
                store_full: read(&self.refused_store_full),
                store_busy: read(&self.refused_store_busy),
                queue: read(&self.refused_queue),
                never_fits: read(&self.never_fits),
            },
            records: read(&self.records),
            errors: read(&self.errors),
            settles: read(&self.settles),
            releases: read(&self.releases),
            charges: read(&self.charges),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_raises_its_own_number() {
        let telemetry = Telemetry::default();
        telemetry.granted();
        telemetry.recorded(true);
        telemetry.recorded(false);
        telemetry.settled();
        telemetry.released();
        telemetry.charged();
        telemetry.refused(Reason::Limit, true);
        telemetry.refused(Reason::Limit, false);
        for reason in [Reason::Breaker, Reason::StoreFull, Reason::StoreBusy, Reason::Queue] {
            telemetry.refused(reason, false);
        }
        let refusals = Refusals { limit: 2, breaker: 1, store_full: 1, store_busy: 1, queue: 1, never_fits: 1 };
        let expected = Reading { grants: 1, refusals, records: 2, errors: 1, settles: 1, releases: 1, charges: 1 };
        assert_eq!(telemetry.snapshot(), expected);
    }

    #[test]
    fn threads_lose_nothing() {
        let telemetry = Telemetry::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| telemetry.granted()));
            }
        });
        assert_eq!(telemetry.snapshot().grants, 40_000);
    }
}
