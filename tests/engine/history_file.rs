//! The file of history: what is asked for is answered, what was tampered with is found, whose file it is not is left alone, and
//! who reads is never in the way of who writes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod naive;
mod place;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use llmquota::account::AccountId;
use llmquota::rules::breaker::Cause;
use llmquota::store::history::{Drained, Keeper, MOST_ROWS, Query, Reader, Retention, Row, SavedBreaker};
use llmquota::usage::NanoUsd;
use llmquota::usage::history::{Entry, Held, Kind, Named, Span, Sums};
use llmquota::{Code, Scope};
use naive::{DAY, HOUR, Naive, SECOND, START, entry, used};
use place::Place;
use rusqlite::Connection;

const ACME: AccountId<'_> = AccountId { scope: Scope::Workspace, owner: "", name: "acme" };

/// Calls of all kinds over two days, with the clock set back by one in their middle. Those of the second workspace are rare.
fn eventful() -> Naive {
    let mut naive = Naive::new();
    for step in 0..3_000 {
        let (amount, chain) = (10 + step % 90, if step % 40 < 9 { 3 + step as usize % 2 } else { step as usize % 3 });
        match step % 11 {
            0 => naive.grant(chain, 500),
            1 => naive.start(step as usize),
            2 => naive.settle(step as usize, amount),
            3 if step % 4 == 0 => naive.orphan(step as usize),
            4 if step % 8 == 0 => naive.release(step as usize),
            5 if step % 3 == 0 => naive.adjust(step as usize, 3 - step as usize / 11 % 4, amount - 50),
            _ => naive.record(chain, amount, false),
        }
        naive.pass(HOUR / 60);
        if step == 1_500 {
            naive.set_back();
        }
    }
    naive
}

fn kept(place: &Place, naive: &Naive, batch: usize) -> Keeper {
    let mut keeper = Keeper::open(&place.file()).unwrap();
    for from in (0..naive.len()).step_by(batch) {
        keeper.take(&naive.drained(from, (from + batch).min(naive.len()))).unwrap();
    }
    keeper
}

#[test]
fn what_is_asked_for_is_answered() {
    let (place, naive) = (Place::new("asked"), eventful());
    let _keeper = kept(&place, &naive, 700);
    let reader = Reader::open(&place.file()).unwrap();
    let all = reader.history(&Query { limit: MOST_ROWS, ..Query::default() }).unwrap();
    let told = naive.drained(0, naive.len()).entries;
    let rows = told.iter().filter(|entry| !matches!(entry.kind, Kind::Grant | Kind::Start));
    assert_eq!(all.len(), rows.count());
    let some = |name: &str| Some(name.to_owned());
    let midday = START + 14 * HOUR;
    let questions = [
        Query { workspace: some("acme"), ..Query::default() },
        Query { workspace: some("acme"), goal: some("goal-1"), ..Query::default() },
        Query { workspace: some("bolt"), model: some("gpt-4o"), kinds: vec![Kind::Settle], ..Query::default() },
        Query { goal: some("goal-1"), ..Query::default() },
        Query { task: some("task-1"), since: Some(midday), ..Query::default() },
        Query { workspace: some("acme"), since: Some(midday), until: Some(midday + 3 * HOUR), ..Query::default() },
        Query { until: Some(START + HOUR), ..Query::default() },
        Query { since: Some(midday), until: Some(midday), ..Query::default() },
        Query { workspace: some("nobody"), ..Query::default() },
        Query { workspace: some("acme"), user: some("nobody"), ..Query::default() },
        Query { kinds: vec![Kind::Orphan, Kind::Adjust], ..Query::default() },
    ];
    for (place, query) in questions.into_iter().enumerate() {
        let mut expected: Vec<&Row> = all.iter().filter(|row| answers(row, &query)).collect();
        let (empty, limit) = (expected.is_empty(), 37);
        assert_eq!(empty, matches!(place, 7..=9), "question {place}");
        for newest_first in [false, true] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = reader.history(&Query { after, limit, newest_first, ..query.clone() }).unwrap();
                assert!(page.len() <= limit);
                after = page.last().map(|row| row.id);
                found.extend(page);
                if found.len() % limit != 0 || after.is_none() {
                    break;
                }
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "question {place}");
            expected.reverse();
        }
    }
    let error = reader.history(&Query { limit: MOST_ROWS + 1, ..Query::default() }).unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::InvalidNumber, "limit"));
}

fn answers(row: &Row, query: &Query) -> bool {
    let is = |asked: &Option<String>, told: &Option<String>| asked.is_none() || asked == told;
    let (since, until) = (query.since.unwrap_or(i64::MIN), query.until.unwrap_or(i64::MAX));
    let at = row.at.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
    is(&query.workspace, &row.workspace)
        && is(&query.goal, &row.goal)
        && is(&query.task, &row.task)
        && is(&query.model, &row.model)
        && is(&query.user, &row.user)
        && (since..until).contains(&at)
        && (query.kinds.is_empty() || query.kinds.iter().any(|kind| kind.as_str() == row.kind))
}

#[test]
fn rows_add_up_to_what_the_account_has_used() {
    let (place, naive) = (Place::new("sums"), eventful());
    let mut keeper = kept(&place, &naive, 10_000);
    // What the journal had no room for is told by rows, too.
    let mut standing = naive.standing();
    standing[0].total.tokens += 1_000;
    standing[1].total.tokens += 1_000;
    assert_eq!(keeper.correct(naive.now, &standing).unwrap(), 2);
    let reader = Reader::open(&place.file()).unwrap();
    let acme = Query { workspace: Some("acme".to_owned()), ..Query::default() };
    let goal = Query { goal: Some("goal-1".to_owned()), ..acme.clone() };
    assert_eq!(reader.sums(&acme).unwrap(), standing[0].total);
    assert_eq!(reader.sums(&goal).unwrap(), standing[1].total);
    assert_eq!(reader.sums(&Query::default()).unwrap(), standing[0].total.plus(&standing[3].total));
    let total = reader.rollups(&goal, Span::Total).unwrap();
    assert_eq!((total.len(), total[0].amounts.tokens), (1, standing[1].total.tokens));
    let days = reader.rollups(&Query::default(), Span::Day).unwrap();
    let requests = days.iter().map(|day| day.amounts.requests).sum::<i64>();
    assert_eq!(requests, standing[0].total.requests + standing[3].total.requests);
    assert!(days.iter().all(|day| day.scope == Scope::Workspace));
    let two = Query { model: Some("gpt-4o".to_owned()), ..goal };
    assert_eq!(reader.rollups(&two, Span::Day).unwrap_err().code(), Code::InvalidChoice);
    let listed = reader.accounts(Scope::Goal, "acme", naive.now).unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].total), (1, "goal-1", standing[1].total));
    let mut named = Vec::new();
    reader.each_account(|account| named.push(format!("{}/{}", account.owner, account.name))).unwrap();
    named.sort_unstable();
    let accounts = naive::ACCOUNTS.map(|(_, owner, name)| format!("{owner}/{name}"));
    assert_eq!(named.len(), accounts.len());
    assert!(accounts.iter().all(|account| named.contains(account)), "{named:?}");
}

#[test]
fn a_row_says_all_that_is_known_of_a_call() {
    let place = Place::new("row");
    let mut keeper = Keeper::open(&place.file()).unwrap();
    let held = Held { hold: 0xabc, granted: START, requests: 1, tokens: 900, cost: 12_345_678_901 };
    let mut settle = entry(Kind::Settle, START + SECOND);
    settle.sequence = 1;
    settle.accounts = vec![0];
    settle.held = Some(held);
    settle.sums = Sums { requests: 1, tokens: 700, input: 500, output: 200, cost: 1_000_000_001, ..Sums::default() };
    settle.reasoning = 50;
    settle.latency_ms = Some(1_234);
    settle.request_id = Some("req_1".to_owned());
    settle.method = Some("chat.completions.create".to_owned());
    let accounts = naive_acme();
    keeper.take(&Drained { accounts, entries: vec![settle] }).unwrap();
    let rows = Reader::open(&place.file()).unwrap().history(&Query::default()).unwrap();
    assert_eq!(rows[0].amounts.cost_usd, NanoUsd::from_nanos(1_000_000_001));
    let told = serde_json::to_value(&rows[0]).unwrap();
    let expected = serde_json::json!({
        "id": 1, "kind": "settle", "at": "2026-01-31T22:50:01Z", "workspace": "acme", "goal": null, "task": null,
        "model": null, "user": null, "credential": null, "limiter": null, "requests": 1, "errors": 0, "tokens": 700,
        "input_tokens": 500, "output_tokens": 200, "cached_tokens": 0, "cost_usd": "1.000000001",
        "reasoning_tokens": 50, "certainty": "exact", "outcome": "ok", "method": "chat.completions.create",
        "request_id": "req_1", "latency_ms": 1234, "hold": "hold-0000000000000abc",
        "granted_at": "2026-01-31T22:50:00Z", "replaced": false, "span": null, "start": null,
    });
    assert_eq!(told, expected);
}

fn naive_acme() -> Vec<Named> {
    let zone = "UTC".to_owned();
    vec![Named { scope: Scope::Workspace, owner: String::new(), name: "acme".to_owned(), zone }]
}

#[test]
fn what_was_tampered_with_is_found_and_mended_exactly() {
    let (place, naive) = (Place::new("tampered"), eventful());
    let mut keeper = kept(&place, &naive, 900);
    let policy = Retention { rows: Duration::from_secs(12 * 3_600), hours: Duration::MAX, days: Duration::MAX };
    assert!(keeper.retain(&policy, naive.now, 500).unwrap() > 0);
    assert_eq!(keeper.verify().unwrap(), []);
    let hand = Connection::open(place.file()).unwrap();
    let acme = "(SELECT id FROM accounts WHERE scope = 1 AND name = 'acme')";
    let day: (i64, i64) = hand
        .query_row(
            &format!("SELECT start, n_cost FROM periods WHERE account = {acme} AND span = 2 ORDER BY start LIMIT 1"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    hand.execute_batch(&format!(
        "UPDATE accounts SET n_tokens = n_tokens + 17 WHERE id = {acme};
         UPDATE periods SET n_cost = 3 WHERE account = {acme} AND span = 2 AND start = {};
         DELETE FROM periods WHERE account = {acme} AND span = 3",
        day.0
    ))
    .unwrap();
    let found = keeper.verify().unwrap();
    let total = naive.standing()[0].total;
    assert!(
        found.iter().all(|one| (one.scope, one.owner.as_str(), one.name.as_str()) == (Scope::Workspace, "", "acme"))
    );
    let one = |span, field| {
        let mut of = found.iter().filter(|one| (one.span, one.field) == (span, field));
        of.next().map(|one| (one.start, one.kept, one.recomputed))
    };
    assert_eq!(one("total", "tokens"), Some((0, total.tokens + 17, total.tokens)));
    assert_eq!(one("day", "cost"), Some((day.0, 3, day.1)));
    assert_eq!(found.iter().filter(|one| one.span != "month").count(), 2, "{found:?}");
    assert!(found.iter().filter(|one| one.span == "month").all(|one| one.kept == 0 && one.recomputed != 0));
    assert_eq!(Reader::open(&place.file()).unwrap().verify().unwrap(), found);
    assert_eq!(keeper.repair().unwrap(), found);
    // Of the month that was deleted, what retention had put aside is gone for good; the rest is as the rows say.
    assert_eq!(keeper.verify().unwrap(), []);
    let saved = Reader::open(&place.file()).unwrap().saved(&[ACME], naive.now).unwrap().remove(0).unwrap();
    assert_eq!((saved.total, saved.day), (total, naive.standing()[0].periods[1].2));
}

#[test]
fn an_hour_that_another_zone_still_takes_along_is_kept() {
    let place = Place::new("rezoned");
    let mut keeper = Keeper::open(&place.file()).unwrap();
    let rezone = |at: i64, was: usize, is: usize| Entry {
        rezone: Some((naive::starts(was, at), naive::starts(is, at), naive::ZONES[is].to_owned())),
        ..entry(Kind::Rezone, at)
    };
    // From UTC to Kathmandu, where hours begin at a quarter past; back an hour later; and the clock finds the hour again.
    let record = Entry { sums: used(5), ..entry(Kind::Record, START) };
    let entries = [record.clone(), rezone(START + SECOND, 0, 3), rezone(START + 2 * HOUR, 3, 0), record];
    let entries = (1..).zip(entries).map(|(sequence, told)| Entry { sequence, accounts: vec![0], ..told });
    keeper.take(&Drained { accounts: naive_acme(), entries: entries.collect() }).unwrap();
    // Then the hour has as much as the row that is deleted had added to it, though it is another's.
    let policy = Retention { rows: Duration::ZERO, hours: Duration::ZERO, days: Duration::MAX };
    for rows_left in [3, 2, 1, 0] {
        assert_eq!(keeper.retain(&policy, START + 3 * DAY, 1).unwrap(), 1);
        assert_eq!(keeper.verify().unwrap(), [], "{rows_left}");
    }
    keeper.retain(&policy, START + 3 * DAY, 10).unwrap();
    let reader = Reader::open(&place.file()).unwrap();
    assert_eq!(reader.rollups(&Query::default(), Span::Hour).unwrap(), []);
    assert_eq!(reader.saved(&[ACME], START).unwrap()[0].as_ref().unwrap().total, used(5).plus(&used(5)));
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let place = Place::new("foreign");
    let foreign = Connection::open(place.file()).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    drop(foreign);
    let text = place.0.join("text");
    std::fs::write(&text, "workspace,tokens\nacme,1\n".repeat(100)).unwrap();
    for file in [place.file(), text] {
        let before = std::fs::read(&file).unwrap();
        for error in [Keeper::open(&file).unwrap_err(), Reader::open(&file).unwrap_err()] {
            assert_eq!(error.code(), Code::StoreDamaged);
            assert!(error.message().contains(&*file.to_string_lossy()), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    let newer = place.0.join("newer.db");
    drop(Keeper::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for error in [Keeper::open(&newer).unwrap_err(), Reader::open(&newer).unwrap_err()] {
        assert!(error.message().ends_with("made by a newer llmquota; upgrade the package"), "{error}");
    }
    let missing = place.0.join("no/history.db");
    for error in [Keeper::open(&missing).unwrap_err(), Reader::open(&missing).unwrap_err()] {
        assert_eq!(error.code(), Code::StoreDamaged);
        assert!(error.message().contains("cannot be opened"), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_told_and_panics_nowhere() {
    let (place, naive) = (Place::new("cut"), eventful());
    drop(kept(&place, &naive, 500));
    let whole = std::fs::read(place.file()).unwrap();
    for share in [1, 2, 3] {
        std::fs::write(place.file(), &whole[..whole.len() * share / 4]).unwrap();
        let told = Keeper::open(&place.file()).and_then(|mut keeper| {
            keeper.verify()?;
            keeper.take(&naive.drained(0, 10))
        });
        assert_eq!(told.unwrap_err().code(), Code::StoreDamaged);
    }
}

#[test]
fn an_entry_that_is_not_whole_is_told_and_takes_nothing_along() {
    let place = Place::new("entry");
    let mut keeper = Keeper::open(&place.file()).unwrap();
    let mut entries = vec![entry(Kind::Record, START), entry(Kind::Record, START)];
    for (place, entry) in entries.iter_mut().enumerate() {
        (entry.sequence, entry.accounts, entry.sums) = (place as u64 + 1, vec![place as u32], used(5));
    }
    let error = keeper.take(&Drained { accounts: naive_acme(), entries }).unwrap_err();
    assert_eq!(error.code(), Code::StoreDamaged);
    assert_eq!(keeper.next_sequence().unwrap(), 1);
    let reader = Reader::open(&place.file()).unwrap();
    assert_eq!(reader.saved(&[ACME], START).unwrap(), [None]);
    // The number that the account had for that while is free again, and given anew.
    let entries = vec![entry(Kind::Record, START)];
    let entries = entries.into_iter().map(|one| Entry { sequence: 1, accounts: vec![0], sums: used(5), ..one });
    keeper.take(&Drained { accounts: naive_acme(), entries: entries.collect() }).unwrap();
    assert_eq!(reader.saved(&[ACME], START).unwrap()[0].as_ref().unwrap().total, used(5));
}

#[test]
fn sums_that_run_over_stop_at_the_end_and_are_still_verified() {
    let place = Place::new("over");
    let mut keeper = Keeper::open(&place.file()).unwrap();
    let entries = (1..=4).map(|sequence| {
        let mut record = entry(Kind::Record, START);
        record.sums = Sums { requests: 1, cost: if sequence == 3 { -5 } else { i64::MAX - 1 }, ..Sums::default() };
        (record.sequence, record.accounts) = (sequence, vec![0]);
        record
    });
    keeper.take(&Drained { accounts: naive_acme(), entries: entries.collect() }).unwrap();
    let reader = Reader::open(&place.file()).unwrap();
    assert_eq!(reader.saved(&[ACME], START).unwrap()[0].as_ref().unwrap().total.cost, i64::MAX);
    assert_eq!(reader.sums(&Query::default()).unwrap().cost, i64::MAX);
    assert_eq!(keeper.verify().unwrap(), []);
}

#[test]
fn two_readers_see_whole_transactions_while_one_writes() {
    let place = Place::new("readers");
    let mut keeper = Keeper::open(&place.file()).unwrap();
    let mut naive = Naive::new();
    (0..40 * 25).for_each(|_| naive.record(1, 8, false));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            scope.spawn(|| {
                let reader = Reader::open(&place.file()).unwrap();
                let goal = AccountId { scope: Scope::Goal, owner: "acme", name: "goal-1" };
                let (mut looks, mut last) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    let mut saved = reader.saved(&[ACME, goal], START).unwrap();
                    let total = |saved: Option<llmquota::store::history::Saved>| saved.map(|saved| saved.total);
                    let (goal, acme) = (total(saved.remove(1)), total(saved.remove(0)));
                    assert_eq!(acme, goal, "both or neither");
                    let requests = acme.unwrap_or_default().requests;
                    assert!(requests % 25 == 0 && requests >= last, "{requests} after {last}");
                    assert_eq!(reader.verify().unwrap(), []);
                    (looks, last) = (looks + 1, requests);
                }
                looks
            })
        });
        for from in (0..naive.len()).step_by(25) {
            keeper.take(&naive.drained(from, from + 25)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
}

#[test]
fn breakers_and_open_holds_are_found_again() {
    let place = Place::new("breakers");
    let mut keeper = Keeper::open(&place.file()).unwrap();
    let breaker = SavedBreaker {
        scope: Scope::ProviderModel,
        owner: "openai/k1".to_owned(),
        name: "gpt-4o".to_owned(),
        cause: Cause::FailureRate,
        strikes: 2,
        opened: START,
        until: START + SECOND,
        half: START - SECOND,
        calls: [7, 3],
        failures: [5, 1],
    };
    let other = SavedBreaker { name: "gpt-4o-mini".to_owned(), ..breaker.clone() };
    keeper.put_breakers(&[other, breaker.clone()]).unwrap();
    keeper.put_breakers(std::slice::from_ref(&breaker)).unwrap();
    let mut naive = Naive::new();
    (0..3).for_each(|chain| naive.grant(chain, 100));
    naive.start(1);
    keeper.take(&naive.drained(0, naive.len())).unwrap();
    drop(keeper);
    let mut keeper = Keeper::open(&place.file()).unwrap();
    assert_eq!(keeper.breakers().unwrap(), [breaker]);
    assert_eq!(keeper.keep_open_holds(&[2, 3, 99]).unwrap(), 1);
    assert_eq!(keeper.end_open_holds(START).unwrap(), (1, 1));
    assert_eq!(keeper.end_open_holds(START).unwrap(), (0, 0));
    let rows = Reader::open(&place.file()).unwrap().history(&Query::default()).unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.kind, row.certainty, row.hold.as_deref().unwrap())).collect();
    let (orphan, release) = ("hold-0000000000000002", "hold-0000000000000003");
    assert_eq!(told, [("orphan", "estimated", orphan), ("release", "exact", release)]);
}
