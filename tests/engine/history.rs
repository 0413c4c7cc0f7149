//! History against a reference that counts as the region does: whatever happens, in whichever transactions it is taken, and
//! wherever the keeper dies, the sums are right and `verify` finds nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod naive;
mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use llmquota::Scope;
use llmquota::account::AccountId;
use llmquota::store::history::{Keeper, Query, Reader, Retention};
use llmquota::usage::history::{Span, Sums};
use naive::{ACCOUNTS, HOUR, Naive, SECOND};
use place::Place;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Debug, Clone)]
enum Step {
    Record(usize, i64),
    Lose(usize, i64),
    Grant(usize, u64),
    Start(usize),
    Settle(usize, i64),
    Release(usize),
    Orphan(usize),
    Adjust(usize, usize, i64),
    Rezone(usize, usize, bool),
    Pass(i64),
    SetBack,
    /// The keeper takes what there is; or dies after it, and is brought the same again with what has come since.
    Take(bool),
    PowerCut,
    /// Rows, hours and days that are older than so many hours go, so many at a time.
    Retain(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let amount = 0..10_000_i64;
    prop_oneof![
        8 => (0..5_usize, amount.clone()).prop_map(|(chain, amount)| Step::Record(chain, amount)),
        1 => (0..5_usize, amount.clone()).prop_map(|(chain, amount)| Step::Lose(chain, amount)),
        6 => (0..5_usize, 0..5_000_u64).prop_map(|(chain, tokens)| Step::Grant(chain, tokens)),
        4 => (0..100_usize).prop_map(Step::Start),
        6 => (0..100_usize, amount).prop_map(|(call, amount)| Step::Settle(call, amount)),
        1 => (0..100_usize).prop_map(Step::Release),
        2 => (0..100_usize).prop_map(Step::Orphan),
        1 => (0..8_usize, 0..4_usize, -500..500_i64).prop_map(|(account, span, by)| Step::Adjust(account, span, by)),
        2 => (0..8_usize, 0..4_usize, any::<bool>()).prop_map(|(account, zone, lost)| Step::Rezone(account, zone, lost)),
        4 => (1..40 * HOUR).prop_map(Step::Pass),
        3 => (1..10 * 60 * SECOND).prop_map(Step::Pass),
        1 => Just(Step::SetBack),
        5 => any::<bool>().prop_map(Step::Take),
        1 => Just(Step::PowerCut),
        2 => (0..200_u64, 1..20_usize).prop_map(|(hours, most)| Step::Retain(hours, most)),
    ]
}

struct Kept {
    file: PathBuf,
    keeper: Option<Keeper>,
    taken: usize,
    /// The journal had no room since.
    unwritten: bool,
}

impl Kept {
    fn take(&mut self, naive: &Naive, dies: bool) {
        let until = naive.len();
        let keeper = self.keeper.as_mut().unwrap();
        keeper.take(&naive.drained(self.taken, until)).unwrap();
        if dies {
            self.keeper = None;
            let mut next = Keeper::open(&self.file).unwrap();
            assert_eq!(next.next_sequence().unwrap(), until as u64 + 1);
            next.take(&naive.drained(self.taken / 2, until)).unwrap();
            self.keeper = Some(next);
        }
        self.taken = until;
        if std::mem::take(&mut self.unwritten) {
            let keeper = self.keeper.as_mut().unwrap();
            keeper.correct(naive.now, &naive.standing()).unwrap();
            assert_eq!(keeper.correct(naive.now, &naive.standing()).unwrap(), 0, "what is set right is right");
        }
    }

    fn compare(&self, naive: &Naive) {
        assert_eq!(self.keeper.as_ref().unwrap().verify().unwrap(), []);
        let reader = Reader::open(&self.file).unwrap();
        let accounts = ACCOUNTS.map(|(scope, owner, name)| AccountId { scope, owner, name });
        let saved = reader.saved(&accounts, naive.now).unwrap();
        for ((account, saved), standing) in saved.into_iter().enumerate().zip(naive.standing()) {
            let Some(saved) = saved else {
                assert_eq!(standing.total, Sums::default(), "{account}");
                continue;
            };
            let expected = [(0, saved.total), (saved.starts.day, saved.day), (saved.starts.month, saved.month)];
            let told = [(0, standing.total), (standing.periods[1].1, standing.periods[1].2)];
            assert_eq!(expected[..2], told, "account {account}");
            assert_eq!(expected[2], (standing.periods[2].1, standing.periods[2].2), "account {account}");
            assert_eq!(saved.hour.requests, standing.periods[0].2.requests, "account {account}");
        }
    }

    /// Every period that is kept.
    fn compare_periods(&self, naive: &Naive) {
        let reader = Reader::open(&self.file).unwrap();
        for (account, (scope, owner, name)) in ACCOUNTS.into_iter().enumerate().take(6) {
            let named = Some(name.to_owned());
            let workspace = if scope == Scope::Workspace { named.clone() } else { Some(owner.to_owned()) };
            let of = |wanted| named.clone().filter(|_| scope == wanted);
            let query = Query {
                workspace,
                goal: of(Scope::Goal),
                task: of(Scope::Task),
                model: of(Scope::Model),
                ..Query::default()
            };
            for span in [Span::Hour, Span::Day, Span::Month] {
                let kept: BTreeMap<String, i64> = reader
                    .rollups(&query, span)
                    .unwrap()
                    .into_iter()
                    .filter(|line| line.amounts.requests != 0)
                    .map(|line| (line.start.unwrap(), line.amounts.requests))
                    .collect();
                let lines = naive
                    .sums
                    .iter()
                    .filter(|((of, kind, _), sums)| (*of, *kind) == (account, span) && sums.requests != 0);
                let told =
                    lines.map(|((.., start), sums)| (llmquota::rules::windows::rfc3339(start * SECOND), sums.requests));
                assert_eq!(kept, told.collect(), "{name} {span:?}");
            }
        }
    }
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(3_600 * hours)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn sums_are_right_whatever_happens(steps in vec(step(), 1..120)) {
        let place = Place::new("laws");
        let mut naive = Naive::new();
        let keeper = Some(Keeper::open(&place.file()).unwrap());
        let mut kept = Kept { file: place.file(), keeper, taken: 0, unwritten: false };
        let mut retained = false;
        for step in steps {
            match step {
                Step::Record(chain, amount) => naive.record(chain, amount, false),
                Step::Lose(chain, amount) => {
                    naive.record(chain, amount, true);
                    kept.unwritten = true;
                    // What was lost is told as long as its hour runs.
                    kept.take(&naive, false);
                }
                Step::Grant(chain, tokens) => naive.grant(chain, tokens),
                Step::Start(call) => naive.start(call),
                Step::Settle(call, amount) => naive.settle(call, amount),
                Step::Release(call) => naive.release(call),
                Step::Orphan(call) => naive.orphan(call),
                Step::Adjust(account, span, by) => naive.adjust(account, span, by),
                Step::Rezone(account, zone, lost) => {
                    naive.rezone(account, zone, lost);
                    if lost {
                        kept.unwritten = true;
                        kept.take(&naive, false);
                    }
                }
                Step::Pass(time) => naive.pass(time),
                Step::SetBack => naive.set_back(),
                Step::Take(dies) => {
                    kept.take(&naive, dies);
                    kept.compare(&naive);
                }
                Step::PowerCut => {
                    kept.take(&naive, true);
                    let ended = kept.keeper.as_mut().unwrap().end_open_holds(naive.now).unwrap();
                    assert_eq!(ended, naive.power_cut());
                    kept.compare(&naive);
                }
                Step::Retain(older, most) => {
                    retained = true;
                    // A day that the clock may find again is kept.
                    let policy =
                        Retention { rows: hours(older), hours: hours(older + 72), days: hours(2 * older + 72) };
                    while kept.keeper.as_mut().unwrap().retain(&policy, naive.now, most).unwrap() == most {
                        assert_eq!(kept.keeper.as_ref().unwrap().verify().unwrap(), []);
                    }
                    assert_eq!(kept.keeper.as_ref().unwrap().verify().unwrap(), []);
                }
            }
        }
        kept.take(&naive, true);
        kept.compare(&naive);
        if !retained {
            kept.compare_periods(&naive);
        }
        let repaired = kept.keeper.as_mut().unwrap().repair().unwrap();
        prop_assert!(repaired.is_empty());
    }
}
