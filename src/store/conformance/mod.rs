//! What every store must do: one list of cases, which each implementation's tests run. The cases speak to [`Store`] alone, so
//! that a store on another machine passes the same list as the region.

mod cases;

use std::time::Duration;

use super::{AccountReading, Batch, Ended, Fact, HoldId, HoldState, Receipt, Refusal, Store};
use crate::account::{AccountId, Call, Scope};
use crate::clock::Now;
use crate::config::Config;
use crate::rules::decisions::{Ask, Counts};
use crate::rules::limits::{LimitKind, LimitSet};

/// A store that is tried: empty at first, on a clock of its own.
pub trait Trial: Sync {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// What its clock shows.
    fn now(&self) -> Now;

    /// Lets `nanos` nanoseconds pass.
    fn pass(&self, nanos: i64);

    /// Sets the wall clock (nanoseconds since the epoch); no time passes.
    fn set_wall(&self, wall: i64);
}

/// Makes a store to be tried, with a configuration, at the wall time [`START`].
pub type Make<'m> = dyn Fn(Config) -> Box<dyn Trial> + 'm;

/// 31 January 2026, 23:50:00.5 UTC, in nanoseconds since the epoch: ten minutes before a day and a month end.
pub const START: i64 = 1_769_903_400_500_000_000;

/// What went wrong, in a sentence.
pub type Outcome = Result<(), String>;

/// One thing that a store must do.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it must do.
    pub name: &'static str,
    run: fn(&Make<'_>) -> Outcome,
}

impl Case {
    /// Tries it.
    ///
    /// # Errors
    /// What the store did instead.
    pub fn run(&self, make: &Make<'_>) -> Outcome {
        (self.run)(make)
    }
}

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($case), run: cases::$case }),+];
    };
}

cases![
    a_fact_lands_on_every_account_of_its_chain_past_any_limit,
    a_reserve_takes_every_limit_or_nothing,
    a_limit_is_met_exactly_by_four_threads,
    a_limit_of_nothing_blocks_and_what_is_observed_does_not,
    a_settle_counts_once_in_place_of_what_was_held,
    what_was_released_counts_nothing_until_it_is_settled,
    what_is_taken_back_is_as_if_it_had_never_been,
    what_was_abandoned_is_released_or_charged_and_a_late_settle_replaces_the_charge,
    a_hold_ends_when_its_time_is_over,
    an_unknown_hold_is_named_and_numbers_never_come_twice,
    a_refusal_ends_exactly_when_it_says,
    a_clock_that_is_set_back_finds_its_day_and_month,
    another_configuration_keeps_usage_and_holds,
    explain_and_read_make_nothing,
    accounts_are_listed_inside_their_owner_alone,
    a_reset_forgets_usage_and_keeps_holds,
    a_counter_is_set_by_hand_alone,
    a_spent_quota_shuts_its_credential_and_one_probe_goes,
    a_provider_that_has_nothing_left_shuts_its_model_until_then,
    a_peek_says_what_explain_says_or_nothing,
    those_who_wait_are_told_when_their_turn_comes,
];

/// One request of so many tokens and nano-dollars.
const fn asking(tokens: u64) -> Ask {
    Ask { requests: 1, tokens, money: tokens }
}

fn settle<'a>(hold: HoldId, fact: &'a Fact<'a>) -> Batch<'a> {
    Batch::Settle { hold, chain: None, fact }
}

fn used(tokens: u64) -> Fact<'static> {
    Fact { requests: 1, tokens, input: tokens, cost: tokens, ..Fact::default() }
}

fn limited(account: AccountId<'_>, limits: LimitSet) -> Config {
    Config::unlimited().with_override(account, limits, None)
}

const fn workspace(name: &str) -> AccountId<'_> {
    AccountId { scope: Scope::Workspace, owner: "", name }
}

fn acme() -> Call<'static> {
    Call::new("acme")
}

fn full_chain() -> Call<'static> {
    acme().goal("g").task("t").model("m").user("u").credential("openai/k")
}

fn apply(trial: &dyn Trial, batch: &Batch<'_>) -> Result<Receipt, String> {
    trial.store().apply(batch).map_err(|error| error.to_string())
}

fn record(trial: &dyn Trial, call: &Call<'_>, fact: &Fact) -> Outcome {
    let chain = call.chain().map_err(|error| error.to_string())?;
    match apply(trial, &Batch::Record { chain: &chain, fact })? {
        Receipt::Recorded(_) => Ok(()),
        other => Err(format!("a record was answered by {other:?}")),
    }
}

fn reserve(trial: &dyn Trial, call: &Call<'_>, ask: Ask, seconds: u64) -> Result<Result<HoldId, Refusal>, String> {
    let chain = call.chain().map_err(|error| error.to_string())?;
    match apply(trial, &Batch::Reserve { chain: &chain, ask, ttl: Duration::from_secs(seconds), queued: None })? {
        Receipt::Granted(grant) => Ok(Ok(grant.hold)),
        Receipt::Refused(refusal) => Ok(Err(*refusal)),
        other => Err(format!("a reserve was answered by {other:?}")),
    }
}

fn granted(trial: &dyn Trial, call: &Call<'_>, ask: Ask) -> Result<HoldId, String> {
    reserve(trial, call, ask, 600)?.map_err(|refusal| format!("refused: {refusal:?}"))
}

fn refused(trial: &dyn Trial, call: &Call<'_>, ask: Ask) -> Result<Refusal, String> {
    reserve(trial, call, ask, 600)?.err().ok_or_else(|| "granted past what is in the way".to_owned())
}

fn end(trial: &dyn Trial, batch: &Batch<'_>) -> Result<Ended, String> {
    match apply(trial, batch)? {
        Receipt::Ended(ended) => Ok(ended),
        other => Err(format!("an end was answered by {other:?}")),
    }
}

const fn ended(was: HoldState, is: HoldState, changed: bool) -> Ended {
    Ended { was, is, changed }
}

fn read(trial: &dyn Trial, call: &Call<'_>) -> Result<Vec<AccountReading>, String> {
    let chain = call.chain().map_err(|error| error.to_string())?;
    match apply(trial, &Batch::Read(&chain))? {
        Receipt::Read(_, readings) => Ok(readings),
        other => Err(format!("a read was answered by {other:?}")),
    }
}

/// The last account of the call's chain.
fn last(trial: &dyn Trial, call: &Call<'_>) -> Result<AccountReading, String> {
    read(trial, call)?.pop().ok_or_else(|| "a read of nothing".to_owned())
}

/// Used and held: tokens of the minute and of the day, requests of the minute; and the open calls.
fn counts(trial: &dyn Trial) -> Result<[(u64, u64); 4], String> {
    let reading = last(trial, &acme())?.reading;
    let kinds =
        [LimitKind::TokensPerMinute, LimitKind::TokensPerDay, LimitKind::RequestsPerMinute, LimitKind::MaxConcurrent];
    Ok(kinds.map(|kind| {
        let Counts { used, held } = reading.get(kind);
        (used, held)
    }))
}
