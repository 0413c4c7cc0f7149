//! The cases. Each makes a store of its own and says in a sentence what it did instead.

use std::num::NonZeroI64;

use super::{
    Make, Outcome, START, acme, apply, asking, counts, end, ended, full_chain, granted, last, limited, read, record,
    refused, reserve, settle, used, workspace,
};
use crate::account::{AccountId, Call, GLOBAL, Scope};
use crate::clock::SECOND;
use crate::config::Config;
use crate::error::Code;
use crate::rules::breaker::{Breaker, Cause, Failure, QUOTA_COOL_DOWN, State};
use crate::rules::decisions::{Ask, Counts, Frees};
use crate::rules::left::{Left, Stock};
use crate::rules::limits::{LimitKind, LimitSet};
use crate::rules::turns::Priority;
use crate::store::{Adjust, Batch, Counter, Fact, HoldId, HoldState, Period, Receipt, Refusal, Standing};

/// Ends the case where two things that should be equal are not.
macro_rules! equal {
    ($found:expr, $expected:expr) => {{
        let (found, expected) = (&$found, &$expected);
        if found != expected {
            return Err(format!("line {}: {found:?} instead of {expected:?}", line!()));
        }
    }};
}

pub(super) fn a_fact_lands_on_every_account_of_its_chain_past_any_limit(make: &Make<'_>) -> Outcome {
    let trial = make(limited(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerMinute, 10)));
    record(&*trial, &full_chain(), &used(25))?;
    let failed = Fact { requests: 1, failure: Some(Failure::UNKNOWN), ..Fact::default() };
    record(&*trial, &full_chain(), &failed)?;
    let readings = read(&*trial, &full_chain())?;
    equal!(readings.len(), 7);
    for reading in &readings {
        for tally in [reading.minute, reading.day, reading.month, reading.total] {
            equal!((tally.requests, tally.errors, tally.tokens, tally.input, tally.cost), (2, 1, 25, 25, 25));
        }
        equal!(reading.last_error, Some(START));
    }
    let refusal = refused(&*trial, &acme(), asking(1))?;
    equal!(refusal.limits.first().map(|blocking| blocking.counts), Some(Counts { used: 25, held: 0 }));
    Ok(())
}

pub(super) fn a_reserve_takes_every_limit_or_nothing(make: &Make<'_>) -> Outcome {
    let goal = AccountId { scope: Scope::Goal, owner: "acme", name: "g" };
    let trial = make(limited(goal, LimitSet::NONE.with(LimitKind::TokensPerDay, 10).with(LimitKind::MaxBurst, 0)));
    let refusal = refused(&*trial, &full_chain(), asking(11))?;
    let listed: Vec<_> =
        refusal.limits.iter().map(|blocking| (blocking.place, blocking.kind, blocking.frees)).collect();
    equal!(listed, [(1, LimitKind::TokensPerDay, Frees::Never), (1, LimitKind::MaxBurst, Frees::Never)]);
    for reading in read(&*trial, &full_chain())? {
        equal!((reading.open, reading.reading.get(LimitKind::TokensPerDay)), (0, Counts::default()));
    }
    Ok(())
}

pub(super) fn a_limit_is_met_exactly_by_four_threads(make: &Make<'_>) -> Outcome {
    let limits = LimitSet::NONE.with(LimitKind::TokensPerDay, 300).with(LimitKind::MaxConcurrent, 1_000);
    let trial = make(limited(workspace("acme"), limits));
    let ask_all = || {
        (0..60).try_fold(0_u64, |all, _| {
            Ok::<_, String>(all + u64::from(reserve(&*trial, &acme(), asking(3), 600)?.is_ok()))
        })
    };
    let granted: Result<Vec<u64>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask_all)).collect();
        let join =
            |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().map_err(|_| "a thread panicked".to_owned())?;
        threads.into_iter().map(join).collect()
    });
    equal!(granted?.iter().sum::<u64>(), 100);
    equal!(counts(&*trial)?, [(0, 300), (0, 300), (0, 100), (0, 100)]);
    Ok(())
}

pub(super) fn a_limit_of_nothing_blocks_and_what_is_observed_does_not(make: &Make<'_>) -> Outcome {
    for kind in LimitKind::ALL {
        let trial = make(limited(workspace("acme"), LimitSet::NONE.with(kind, 0)));
        let refusal = refused(&*trial, &acme(), Ask { requests: 0, tokens: 0, money: 0 })?;
        equal!(refusal.limits.first().map(|blocking| blocking.frees), Some(Frees::Never));
        let trial = make(limited(workspace("acme"), LimitSet::NONE.observing(kind, 0)));
        granted(&*trial, &acme(), asking(5))?;
    }
    Ok(())
}

pub(super) fn a_settle_counts_once_in_place_of_what_was_held(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    let hold = granted(&*trial, &acme(), asking(100))?;
    equal!(counts(&*trial)?, [(0, 100), (0, 100), (0, 1), (0, 1)]);
    equal!(end(&*trial, &Batch::Start(hold))?, ended(HoldState::Reserved, HoldState::Started, true));
    trial.pass(30 * SECOND);
    equal!(end(&*trial, &settle(hold, &used(40)))?, ended(HoldState::Started, HoldState::Settled, true));
    let still = ended(HoldState::Settled, HoldState::Settled, false);
    equal!(end(&*trial, &settle(hold, &used(900)))?, still);
    equal!(end(&*trial, &Batch::Release(hold))?, still);
    equal!(end(&*trial, &Batch::Abandon(hold))?, still);
    equal!(counts(&*trial)?, [(40, 0), (40, 0), (1, 0), (0, 0)]);
    trial.pass(31 * SECOND);
    equal!(counts(&*trial)?, [(0, 0), (40, 0), (0, 0), (0, 0)]);
    Ok(())
}

pub(super) fn what_was_released_counts_nothing_until_it_is_settled(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    let hold = granted(&*trial, &acme(), asking(100))?;
    equal!(end(&*trial, &Batch::Release(hold))?, ended(HoldState::Reserved, HoldState::Released, true));
    equal!(counts(&*trial)?, [(0, 0); 4]);
    trial.pass(45 * SECOND);
    equal!(end(&*trial, &settle(hold, &used(40)))?, ended(HoldState::Released, HoldState::Settled, true));
    trial.pass(45 * SECOND);
    equal!(counts(&*trial)?, [(40, 0), (40, 0), (1, 0), (0, 0)]);
    Ok(())
}

pub(super) fn what_is_taken_back_is_as_if_it_had_never_been(make: &Make<'_>) -> Outcome {
    let trial = make(limited(workspace("acme"), LimitSet::NONE.with(LimitKind::MaxConcurrent, 9)));
    record(&*trial, &full_chain(), &used(5))?;
    let tallies = || {
        let readings = read(&*trial, &full_chain())?;
        Ok::<_, String>(readings.iter().map(|it| [it.minute, it.day, it.month, it.total]).collect::<Vec<_>>())
    };
    let before = tallies()?;
    let call = full_chain();
    let chain = call.chain().map_err(|error| error.to_string())?;
    let failed = Fact { failure: Some(Failure::UNKNOWN), output: 3, cached: 2, ..used(40) };
    for fact in [used(40), failed] {
        let take_back = |hold| end(&*trial, &Batch::TakeBack { hold, chain: &chain, fact: &fact });
        let hold = granted(&*trial, &full_chain(), asking(30))?;
        equal!(take_back(hold)?, ended(HoldState::Reserved, HoldState::Reserved, false));
        equal!(end(&*trial, &settle(hold, &fact))?.changed, true);
        // It leaves the second in which it was given, also later.
        trial.pass(2 * SECOND);
        equal!(take_back(hold)?, ended(HoldState::Settled, HoldState::Released, true));
        equal!(take_back(hold)?, ended(HoldState::Released, HoldState::Released, false));
        equal!(tallies()?, before);
        equal!(last(&*trial, &acme())?.open, 0);
    }
    // Where its minute, its day and its month are over, those that run now are left alone.
    let hold = granted(&*trial, &full_chain(), asking(30))?;
    end(&*trial, &settle(hold, &used(40)))?;
    trial.pass(900 * SECOND);
    record(&*trial, &full_chain(), &used(7))?;
    end(&*trial, &Batch::TakeBack { hold, chain: &chain, fact: &used(40) })?;
    for reading in read(&*trial, &full_chain())? {
        for (tally, tokens) in [(reading.minute, 7), (reading.day, 7), (reading.month, 7), (reading.total, 12)] {
            equal!(tally.tokens, tokens);
        }
    }
    Ok(())
}

pub(super) fn what_was_abandoned_is_released_or_charged_and_a_late_settle_replaces_the_charge(
    make: &Make<'_>,
) -> Outcome {
    let trial = make(Config::unlimited());
    let hold = granted(&*trial, &acme(), asking(100))?;
    equal!(end(&*trial, &Batch::Abandon(hold))?, ended(HoldState::Reserved, HoldState::Released, true));
    equal!(counts(&*trial)?, [(0, 0); 4]);
    let hold = granted(&*trial, &acme(), asking(100))?;
    end(&*trial, &Batch::Start(hold))?;
    equal!(end(&*trial, &Batch::Abandon(hold))?, ended(HoldState::Started, HoldState::Charged, true));
    equal!(counts(&*trial)?, [(100, 0), (100, 0), (1, 0), (0, 0)]);
    equal!(end(&*trial, &Batch::Release(hold))?, ended(HoldState::Charged, HoldState::Charged, false));
    equal!(end(&*trial, &settle(hold, &used(7)))?, ended(HoldState::Charged, HoldState::Settled, true));
    equal!(counts(&*trial)?, [(7, 0), (7, 0), (1, 0), (0, 0)]);
    Ok(())
}

pub(super) fn a_hold_ends_when_its_time_is_over(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    let reserved = reserve(&*trial, &acme(), asking(100), 10)?;
    let started = reserve(&*trial, &acme(), asking(20), 10)?;
    let (Ok(_), Ok(started)) = (reserved, started) else { return Err("nothing was in the way".to_owned()) };
    end(&*trial, &Batch::Start(started))?;
    trial.pass(10 * SECOND - 1);
    equal!(counts(&*trial)?, [(0, 120), (0, 120), (0, 2), (0, 2)]);
    trial.pass(1);
    equal!(counts(&*trial)?, [(20, 0), (20, 0), (1, 0), (0, 0)]);
    Ok(())
}

pub(super) fn an_unknown_hold_is_named_and_numbers_never_come_twice(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    for unknown in [HoldId(0), HoldId(1), HoldId(u64::MAX)] {
        let fact = used(1);
        for batch in [Batch::Start(unknown), settle(unknown, &fact), Batch::Release(unknown), Batch::Abandon(unknown)] {
            equal!(trial.store().apply(&batch).map_err(|error| error.code()), Err(Code::UnknownHold));
        }
    }
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let hold = granted(&*trial, &acme(), asking(1))?;
        end(&*trial, &Batch::Release(hold))?;
        equal!(numbers.insert(hold), true);
    }
    Ok(())
}

pub(super) fn a_refusal_ends_exactly_when_it_says(make: &Make<'_>) -> Outcome {
    for kind in LimitKind::ALL {
        let trial = make(limited(workspace("acme"), LimitSet::NONE.with(kind, 10)));
        for _ in 0..2 {
            let ask = Ask { requests: 5, tokens: 5, money: 5 };
            let rounds = if kind == LimitKind::MaxConcurrent { 5 } else { 1 };
            for _ in 0..rounds {
                let hold = granted(&*trial, &acme(), ask)?;
                end(&*trial, &Batch::Start(hold))?;
            }
            trial.pass(SECOND / 10);
        }
        let ask = Ask { requests: 1, tokens: 1, money: 1 };
        let told = |refusal: &Refusal| match refusal.limits.as_slice() {
            [blocking] => match blocking.frees {
                Frees::At(wall) => Ok(wall),
                other => Err(format!("{kind:?} frees {other:?}")),
            },
            other => Err(format!("{kind:?} is refused by {other:?}")),
        };
        let until = told(&refused(&*trial, &acme(), ask)?)?;
        trial.pass(until - trial.now().wall - 1);
        equal!(told(&refused(&*trial, &acme(), ask)?)?, until);
        trial.pass(1);
        granted(&*trial, &acme(), ask)?;
    }
    Ok(())
}

pub(super) fn a_clock_that_is_set_back_finds_its_day_and_month(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    let day_and_month = || last(&*trial, &acme()).map(|reading| (reading.day.tokens, reading.month.tokens));
    record(&*trial, &acme(), &used(70))?;
    trial.pass(600 * SECOND);
    equal!(day_and_month()?, (0, 0));
    record(&*trial, &acme(), &used(5))?;
    trial.set_wall(START);
    equal!(day_and_month()?, (70, 70));
    trial.pass(600 * SECOND);
    equal!(day_and_month()?, (5, 5));
    equal!(last(&*trial, &acme())?.total.tokens, 75);
    Ok(())
}

pub(super) fn another_configuration_keeps_usage_and_holds(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    record(&*trial, &acme(), &used(30))?;
    granted(&*trial, &acme(), asking(20))?;
    let limits = LimitSet::NONE.with(LimitKind::TokensPerMinute, 60);
    trial.store().configure(std::sync::Arc::new(limited(workspace("acme"), limits)));
    equal!(counts(&*trial)?, [(30, 20), (30, 20), (1, 1), (0, 1)]);
    refused(&*trial, &acme(), asking(11))?;
    granted(&*trial, &acme(), asking(10))?;
    Ok(())
}

pub(super) fn explain_and_read_make_nothing(make: &Make<'_>) -> Outcome {
    let trial = make(limited(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerMinute, 10)));
    let chain = full_chain().chain().map_err(|error| error.to_string())?;
    let explain =
        |tokens| apply(&*trial, &Batch::Explain { chain: &chain, ask: asking(tokens), standing: Standing::Plain });
    equal!(matches!(explain(10)?, Receipt::Granted(_)), true);
    equal!(matches!(explain(11)?, Receipt::Refused(_)), true);
    equal!(read(&*trial, &full_chain())?.iter().any(|reading| reading.known), false);
    let Receipt::Listed(listed) = apply(&*trial, &Batch::List { scope: Scope::Workspace, owner: "" })? else {
        return Err("a list was answered by something else".to_owned());
    };
    // The account of calls that nobody attributed may be there from the start.
    equal!(listed.iter().any(|entry| entry.name != GLOBAL), false);
    granted(&*trial, &full_chain(), asking(10))?;
    equal!(matches!(explain(1)?, Receipt::Refused(_)), true);
    Ok(())
}

pub(super) fn accounts_are_listed_inside_their_owner_alone(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    for (name, goal, tokens) in [("acme", "g", 1), ("acme", "h", 2), ("bolt", "g", 4)] {
        record(&*trial, &Call::new(name).goal(goal).user("u"), &used(tokens))?;
    }
    let listed = |scope, owner| match apply(&*trial, &Batch::List { scope, owner })? {
        Receipt::Listed(listed) => {
            let listed = listed.into_iter().filter(|entry| entry.name != GLOBAL);
            let mut listed: Vec<_> = listed.map(|entry| (entry.name, entry.total.tokens)).collect();
            listed.sort();
            Ok::<_, String>(listed)
        }
        other => Err(format!("a list was answered by {other:?}")),
    };
    let named = |entries: &[(&str, u64)]| -> Vec<(String, u64)> {
        entries.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)).collect()
    };
    equal!(listed(Scope::Workspace, "")?, named(&[("acme", 3), ("bolt", 4)]));
    equal!(listed(Scope::Goal, "acme")?, named(&[("g", 1), ("h", 2)]));
    equal!(listed(Scope::Goal, "bolt")?, named(&[("g", 4)]));
    equal!(listed(Scope::User, "acme")?, named(&[("u", 3)]));
    equal!(listed(Scope::Goal, "nobody")?, named(&[]));
    Ok(())
}

pub(super) fn a_reset_forgets_usage_and_keeps_holds(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    record(&*trial, &full_chain(), &used(70))?;
    let hold = granted(&*trial, &full_chain(), asking(20))?;
    let chain = acme().chain().map_err(|error| error.to_string())?;
    apply(&*trial, &Batch::Adjust { chain: &chain, adjust: Adjust::Reset })?;
    equal!(counts(&*trial)?, [(0, 20), (0, 20), (0, 1), (0, 1)]);
    end(&*trial, &settle(hold, &used(5)))?;
    for (reading, account) in read(&*trial, &full_chain())?.iter().zip(Scope::ALL) {
        let provider = matches!(account, Scope::Credential | Scope::ProviderModel);
        equal!(reading.total.tokens, if provider { 75 } else { 5 });
    }
    Ok(())
}

pub(super) fn a_counter_is_set_by_hand_alone(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    record(&*trial, &acme(), &used(70))?;
    let chain = acme().chain().map_err(|error| error.to_string())?;
    for (period, value) in [(Period::Minute, 1), (Period::Day, 2), (Period::Month, 3), (Period::Total, 4)] {
        apply(&*trial, &Batch::Adjust { chain: &chain, adjust: Adjust::Set(period, Counter::Tokens, value) })?;
    }
    let reading = last(&*trial, &acme())?;
    let tallies = [reading.minute, reading.day, reading.month, reading.total];
    equal!(tallies.map(|tally| (tally.tokens, tally.requests)), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    equal!(reading.reading.get(LimitKind::TokensPerMinute).used, 1);
    Ok(())
}

pub(super) fn a_spent_quota_shuts_its_credential_and_one_probe_goes(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    let spent = Failure::classify(Some("insufficient_quota"), Some(429), None);
    record(&*trial, &full_chain(), &Fact { requests: 1, failure: Some(spent), ..Fact::default() })?;
    let other = Call::new("bolt").model("another").credential("openai/k");
    let until = trial.now().mono + QUOTA_COOL_DOWN;
    let refusal = refused(&*trial, &other, asking(1))?;
    equal!(
        refusal.breakers.iter().map(|(place, breaker)| (*place, breaker.state(trial.now().mono))).collect::<Vec<_>>(),
        [(2, State::Open { until })]
    );
    granted(&*trial, &Call::new("bolt"), asking(1))?;
    trial.pass(QUOTA_COOL_DOWN);
    let probe = granted(&*trial, &other, asking(1))?;
    refused(&*trial, &full_chain(), asking(1))?;
    match apply(&*trial, &Batch::Breakers)? {
        Receipt::Breakers(now, open) => {
            let states: Vec<_> = open.iter().map(|(name, breaker)| (name.as_str(), breaker.state(now.mono))).collect();
            equal!(states, [("openai/k", State::HalfOpen { probing: true })]);
        }
        other => return Err(format!("the breakers were answered by {other:?}")),
    }
    end(&*trial, &settle(probe, &used(1)))?;
    granted(&*trial, &other, asking(1))?;
    equal!(matches!(apply(&*trial, &Batch::Breakers)?, Receipt::Breakers(_, open) if open.is_empty()), true);
    Ok(())
}

pub(super) fn a_provider_that_has_nothing_left_shuts_its_model_until_then(make: &Make<'_>) -> Outcome {
    let trial = make(Config::unlimited());
    let chain = full_chain().chain().map_err(|error| error.to_string())?;
    let hear = |requests, began| {
        let left = Left { requests: Some(requests), ..Left::default() };
        apply(&*trial, &Batch::Hear { chain: &chain, left, began, well: true })
    };
    let wait = NonZeroI64::new(7 * SECOND).ok_or("seven seconds are some")?;
    let before = trial.now().mono;
    trial.pass(SECOND);
    hear(Stock::NoneFor(wait), before)?;
    let until = trial.now().mono + 7 * SECOND;
    let other = Call::new("bolt").model("m").credential("openai/k");
    let shut = || {
        let refusal = refused(&*trial, &other, asking(1))?;
        let named = |(place, breaker): &(usize, Breaker)| (*place, breaker.cause, breaker.state(trial.now().mono));
        Ok::<_, String>(refusal.breakers.iter().map(named).collect::<Vec<_>>())
    };
    equal!(shut()?, [(3, Cause::NoRequestsLeft, State::Open { until })]);
    for reading in read(&*trial, &full_chain())? {
        equal!((reading.total.requests, reading.total.errors, reading.last_error), (0, 0, None));
    }
    granted(&*trial, &Call::new("bolt").model("another").credential("openai/k"), asking(1))?;
    hear(Stock::Some, before)?;
    equal!(shut()?, [(3, Cause::NoRequestsLeft, State::Open { until })]);
    trial.pass(7 * SECOND - 1);
    refused(&*trial, &other, asking(1))?;
    trial.pass(1);
    granted(&*trial, &other, asking(1))?;
    granted(&*trial, &full_chain(), asking(1))?;
    hear(Stock::NoneFor(wait), trial.now().mono)?;
    refused(&*trial, &other, asking(1))?;
    hear(Stock::Some, trial.now().mono)?;
    granted(&*trial, &other, asking(1))?;
    Ok(())
}

pub(super) fn a_peek_says_what_explain_says_or_nothing(make: &Make<'_>) -> Outcome {
    let trial = make(limited(workspace("acme"), LimitSet::NONE.with(LimitKind::RequestsPerMinute, 3)));
    let chain = acme().chain().map_err(|error| error.to_string())?;
    for step in 0..140 {
        if step % 20 < 4 {
            record(&*trial, &acme(), &used(1))?;
        }
        let explained = apply(&*trial, &Batch::Explain { chain: &chain, ask: Ask::LEAST, standing: Standing::Plain })?;
        let peeked = trial.store().peek(&workspace("acme"), None);
        equal!(peeked.unwrap_or(matches!(explained, Receipt::Granted(_))), matches!(explained, Receipt::Granted(_)));
        trial.pass(SECOND);
    }
    Ok(())
}

pub(super) fn those_who_wait_are_told_when_their_turn_comes(make: &Make<'_>) -> Outcome {
    let trial = make(limited(workspace("acme"), LimitSet::NONE.with(LimitKind::TokensPerMinute, 10)));
    record(&*trial, &acme(), &used(10))?;
    let call = acme();
    let chain = call.chain().map_err(|error| error.to_string())?;
    let ask = asking(6);
    let queue =
        |priority, after| match apply(&*trial, &Batch::Queue { chain: &chain, ask, priority, weight: 2, after })? {
            Receipt::Queued(queued) => Ok(queued),
            other => Err(format!("a place was answered by {other:?}")),
        };
    // How many go first, and how many whole minutes after the one that is full it would be.
    let asked = |standing| match apply(&*trial, &Batch::Explain { chain: &chain, ask, standing })? {
        Receipt::Refused(refusal) => {
            let frees = refusal.limits.first().map(|blocking| blocking.frees);
            let Some(Frees::At(at)) = frees else { return Err(format!("{frees:?}")) };
            Ok((refusal.ahead, (at - START) / (60 * SECOND) - 1))
        }
        other => Err(format!("an explanation was answered by {other:?}")),
    };
    equal!(asked(Standing::Newcomer(Priority::Normal))?, (0, 0));
    let first = queue(Priority::Normal, 0)?;
    let second = queue(Priority::Normal, first.end)?;
    equal!(first.place < second.place && second.place.start() == first.end, true);
    equal!(asked(Standing::Newcomer(Priority::Normal))?, (2, 1));
    equal!(asked(Standing::Newcomer(Priority::High))?, (0, 0));
    equal!(asked(Standing::Waiting(first.place))?, (0, 0));
    equal!(asked(Standing::Waiting(second.place))?, (1, 1));
    equal!(apply(&*trial, &Batch::Stay { queued: second, behind: &[0] })?, Receipt::Noted);
    // A grant ends the waiting, and so does giving up, twice too.
    trial.pass(61 * SECOND);
    // It looks again, as whoever waits does now and then: else it stands in nobody's way.
    equal!(apply(&*trial, &Batch::Stay { queued: second, behind: &[0] })?, Receipt::Noted);
    let ttl = std::time::Duration::from_secs(600);
    let reserve = Batch::Reserve { chain: &chain, ask, ttl, queued: Some(first) };
    equal!(matches!(apply(&*trial, &reserve)?, Receipt::Granted(_)), true);
    equal!(asked(Standing::Newcomer(Priority::Low))?.0, 1);
    for _ in 0..2 {
        equal!(apply(&*trial, &Batch::Leave(second))?, Receipt::Noted);
        equal!(asked(Standing::Newcomer(Priority::Low))?.0, 0);
    }
    // The clock went on to what was served: nobody saves up turns by being away.
    let late = queue(Priority::Normal, 0)?;
    equal!(late.place.start() >= first.place.start() && late.place.arrival() > second.place.arrival(), true);
    Ok(())
}
