//! Waiting for a turn across processes: two managers of one store stand for two of them, each with a slot of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use llmquota::config::{Config, LimitsFile};
use llmquota::reservation::{Hold, Verdict};
use llmquota::store::shared::SharedOptions;
use llmquota::waiting::{Priority, Ticket, Turn};
use llmquota::wire::{Decision, Reason};
use llmquota::{Ask, Call, Manager, ManualClock, Options};
use proptest::prelude::*;
use world::{SECOND, asking, told, wall};

const LIFE: Duration = Duration::from_secs(600);

/// So many processes of one store.
struct Host {
    managers: Vec<Manager>,
    clock: ManualClock,
    _directory: tempfile::TempDir,
}

impl Host {
    fn sized(bytes: usize, processes: usize, file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(wall(world::NOON));
        let managers = (0..processes)
            .map(|_| {
                let file = LimitsFile::parse(file, "limits.toml").unwrap();
                let shared = Some(SharedOptions { boot: Some(1), ..SharedOptions::at(directory.path()) });
                let config = Config::unlimited().with_file(file);
                Manager::new(Options { bytes, config, shared, clock: Arc::new(clock.clone()) }).unwrap()
            })
            .collect();
        Self { managers, clock, _directory: directory }
    }

    fn with(file: &str) -> Self {
        Self::sized(16 << 20, 2, file)
    }

    fn ticket(&self, process: usize, call: &Call<'_>, ask: Ask, priority: Priority) -> Ticket {
        self.managers[process].queue_up(call, &ask, LIFE, priority).unwrap()
    }

    fn waiting(&self, process: usize, call: &Call<'_>) -> Ticket {
        let ticket = self.ticket(process, call, asking(1), Priority::Normal);
        waits(&ticket);
        ticket
    }

    fn reserve(&self, process: usize, call: &Call<'_>) -> Result<Hold, Decision> {
        match self.managers[process].reserve(call, &asking(1), LIFE).unwrap() {
            Verdict::Granted(hold) => Ok(hold),
            Verdict::Refused(decision) => Err(decision),
        }
    }
}

fn look(ticket: &Ticket) -> Turn {
    ticket.poll(Waker::noop()).unwrap()
}

fn waits(ticket: &Ticket) -> Decision {
    match look(ticket) {
        Turn::Wait { decision, .. } => decision,
        other => panic!("{other:?}"),
    }
}

fn goes(ticket: &Ticket) -> Hold {
    match look(ticket) {
        Turn::Granted(hold) => hold,
        other => panic!("{other:?}"),
    }
}

/// Lets whoever may go, in any order of looking, and says who it was.
fn next(waiting: &mut Vec<(&'static str, Ticket)>) -> (&'static str, Hold) {
    let mut gone = Vec::new();
    for (place, (_, ticket)) in waiting.iter().enumerate() {
        if let Turn::Granted(hold) = look(ticket) {
            gone.push((place, hold));
        }
    }
    assert_eq!(gone.len(), 1, "one place was free");
    let (place, hold) = gone.remove(0);
    (waiting.remove(place).0, hold)
}

fn acme() -> Call<'static> {
    Call::new("acme")
}

const ONE_AT_A_TIME: &str = "[workspaces.acme]\nmax_concurrent = 1";
const ONE_FOR_ALL: &str = "[providers.openai]\nmax_concurrent = 1";

#[test]
fn first_come_first_served_whichever_process_they_wait_in() {
    let host = Host::with(ONE_AT_A_TIME);
    let mut open = host.reserve(0, &acme()).unwrap();
    let names = ["left 1", "right 1", "right 2", "left 2", "left 3"];
    let mut waiting: Vec<_> =
        names.map(|name| (name, host.waiting(usize::from(name.starts_with("right")), &acme()))).into();
    assert_eq!(waits(&waiting[1].1).queued_ahead, 1);
    for name in names {
        drop(open);
        let (went, hold) = next(&mut waiting);
        assert_eq!(went, name);
        open = hold;
    }
}

#[test]
fn a_plain_reserve_of_another_process_passes_nobody_and_is_told_when() {
    let host = Host::with("[workspaces.acme]\ntokens_per_minute = 10\n[workspaces.bolt]\ntokens_per_minute = 10");
    let world = |tokens| host.managers[0].record(&acme(), &world::used(tokens)).unwrap();
    world(10);
    let ticket = host.ticket(0, &acme(), asking(8), Priority::Low);
    waits(&ticket);
    let refused = host.reserve(1, &acme()).unwrap_err();
    assert_eq!((refused.reason, refused.queued_ahead), (Some(Reason::Queue), 1));
    // What was used leaves the minute at 12:01:01, and the 9 tokens of both then fit.
    assert_eq!(told(&refused), wall("2026-01-31T12:01:01Z"));
    drop(host.reserve(1, &Call::new("bolt")).unwrap());
    host.clock.advance(59 * SECOND);
    waits(&ticket);
    host.clock.advance(2 * SECOND);
    assert_eq!(host.reserve(1, &acme()).unwrap_err().queued_ahead, 1, "there is room, and it was first");
    let mut hold = goes(&ticket);
    hold.settle(&world::used(8), None).unwrap();
    host.reserve(1, &acme()).unwrap();
}

#[test]
fn who_is_urgent_goes_first_in_another_process_too() {
    let host = Host::with(ONE_AT_A_TIME);
    let open = host.reserve(0, &acme()).unwrap();
    let [low, normal, high] =
        [(0, Priority::Low), (1, Priority::Normal), (0, Priority::High)].map(|(process, priority)| {
            let ticket = host.ticket(process, &acme(), asking(1), priority);
            waits(&ticket);
            ticket
        });
    drop(open);
    assert_eq!(waits(&normal).reason, Some(Reason::Queue));
    waits(&low);
    drop(goes(&high));
    waits(&low);
    drop(goes(&normal));
    drop(goes(&low));
}

#[test]
fn a_noisy_workspace_in_every_process_does_not_starve_a_quiet_one() {
    let host = Host::with(ONE_FOR_ALL);
    let [noisy, quiet] = ["noisy", "quiet"].map(|name| Call::new(name).credential("openai/k"));
    let mut open = host.reserve(0, &noisy).unwrap();
    let mut waiting: Vec<_> = (0..40).map(|step| ("noisy", host.waiting(step % 2, &noisy))).collect();
    waiting.extend((0..3).map(|_| ("quiet", host.waiting(1, &quiet))));
    let mut turns = Vec::new();
    for _ in 0..7 {
        drop(open);
        let (name, hold) = next(&mut waiting);
        turns.push(name);
        open = hold;
    }
    assert_eq!(turns, ["noisy", "quiet", "noisy", "quiet", "noisy", "quiet", "noisy"]);
}

#[test]
fn shares_are_as_limits_toml_weighs_them() {
    let host = Host::with(&format!("{ONE_FOR_ALL}\n[workspaces.heavy]\nweight = 3"));
    let [heavy, light] = ["heavy", "light"].map(|name| Call::new(name).credential("openai/k"));
    let mut open = host.reserve(0, &light).unwrap();
    let mut waiting: Vec<_> = (0..24)
        .map(|step| if step % 2 == 0 { ("heavy", host.waiting(0, &heavy)) } else { ("light", host.waiting(1, &light)) })
        .collect();
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..12 {
        drop(open);
        let (name, hold) = next(&mut waiting);
        *turns.entry(name).or_default() += 1;
        open = hold;
    }
    assert_eq!(turns, BTreeMap::from([("heavy", 9), ("light", 3)]));
}

#[test]
fn whoever_looks_no_more_stands_in_nobodys_way_and_keeps_its_place() {
    let host = Host::with(ONE_AT_A_TIME);
    let open = host.reserve(0, &acme()).unwrap();
    let hangs = host.waiting(0, &acme());
    let behind = host.waiting(1, &acme());
    drop(open);
    assert_eq!(waits(&behind).queued_ahead, 1, "it may be on its way");
    host.clock.advance(4 * SECOND);
    let open = goes(&behind);
    waits(&hangs);
    let late = host.waiting(1, &acme());
    drop(open);
    assert_eq!(waits(&late).queued_ahead, 1);
    goes(&hangs);
}

#[test]
fn who_gives_up_in_one_process_lets_those_of_another_go() {
    let host = Host::with(ONE_AT_A_TIME);
    let open = host.reserve(0, &acme()).unwrap();
    let first = host.waiting(0, &acme());
    let second = host.waiting(1, &acme());
    drop(first);
    drop(open);
    goes(&second);
}

#[test]
fn a_process_that_ends_takes_its_waiters_along() {
    let mut host = Host::with(ONE_AT_A_TIME);
    let open = host.reserve(0, &acme()).unwrap();
    // Never dropped, as those of a process that was killed.
    std::mem::forget(host.waiting(1, &acme()));
    let late = host.waiting(0, &acme());
    drop(open);
    assert_eq!(waits(&late).queued_ahead, 1);
    host.managers.truncate(1);
    host.clock.advance(4 * SECOND);
    goes(&late);
}

#[test]
fn a_newcomer_is_told_when_it_would_go() {
    let host = Host::with("[workspaces.acme]\ntokens_per_minute = 100\nmax_concurrent = 50");
    let eta = |process: usize, tokens, priority| {
        host.managers[process].explain_waiting(&acme(), &asking(tokens), priority).unwrap()
    };
    assert!(eta(0, 60, Priority::Normal).allowed);
    host.managers[0].record(&acme(), &world::used(100)).unwrap();
    let tickets: Vec<Ticket> =
        (0..4).map(|step| host.ticket(step % 2, &acme(), asking(60), Priority::Normal)).collect();
    // 240 tokens wait; with 60 more that is three whole minutes after the one that is full.
    for process in 0..2 {
        let decision = eta(process, 60, Priority::Normal);
        assert_eq!((decision.queued_ahead, decision.reason), (4, Some(Reason::Queue)));
        assert_eq!(told(&decision), wall("2026-01-31T12:03:03Z"));
        let urgent = eta(process, 60, Priority::High);
        assert_eq!((urgent.queued_ahead, told(&urgent)), (0, wall("2026-01-31T12:01:01Z")));
    }
    waits(&tickets[1]);
    let second = tickets[1].explain().unwrap();
    assert_eq!((second.queued_ahead, told(&second)), (1, wall("2026-01-31T12:02:02Z")));
    assert!(eta(0, 101, Priority::Normal).never_fits);
}

#[test]
fn more_waiters_than_the_store_has_tickets_for_are_all_served() {
    let host = Host::sized(1 << 20, 2, ONE_AT_A_TIME);
    let mut open = host.reserve(0, &acme()).unwrap();
    let waiting: Vec<_> = (0..300).map(|step| host.ticket(step % 2, &acme(), asking(1), Priority::Normal)).collect();
    let mut left: Vec<&Ticket> = waiting.iter().collect();
    while !left.is_empty() {
        drop(open);
        let mut holds: Vec<Hold> = Vec::new();
        left.retain(|ticket| match look(ticket) {
            Turn::Granted(hold) => {
                holds.push(hold);
                false
            }
            _ => true,
        });
        assert_eq!(holds.len(), 1, "{} wait", left.len());
        open = holds.remove(0);
    }
    drop(waiting);
    drop(open);
    assert_eq!(host.reserve(1, &acme()).map(drop), Ok(()), "nobody is left in the way");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Come(usize, Priority),
    GiveUp(usize),
    End,
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority = prop::sample::select(&Priority::ALL[..]);
    let step = prop_oneof![
        3 => (0_usize..3, priority).prop_map(|(process, priority)| Step::Come(process, priority)),
        1 => (0_usize..20).prop_map(Step::GiveUp),
        3 => Just(Step::End),
        6 => (0_usize..20).prop_map(Step::Look),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Of one workspace, whoever goes is the first of all who wait by priority and arrival; whoever looks in vain is not, or
    /// there is no room; and in the end everybody has gone.
    #[test]
    fn whoever_goes_was_first(steps in steps()) {
        let host = Host::sized(2 << 20, 3, "[workspaces.acme]\nmax_concurrent = 2");
        let mut open = Vec::new();
        let mut waiting: Vec<(Priority, usize, Ticket)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Come(process, priority) => {
                    waiting.push((priority, number, host.ticket(process, &acme(), asking(1), priority)));
                }
                Step::GiveUp(who) if who < waiting.len() => drop(waiting.swap_remove(who)),
                Step::End => drop(open.pop()),
                Step::Look(who) if who < waiting.len() => {
                    let first = waiting.iter().map(|(priority, number, _)| (*priority, *number)).min().unwrap();
                    let (priority, number, ticket) = &waiting[who];
                    let is_first = (*priority, *number) == first;
                    match look(ticket) {
                        Turn::Granted(hold) => {
                            prop_assert!(is_first && open.len() < 2);
                            open.push(hold);
                            waiting.swap_remove(who);
                        }
                        Turn::Wait { .. } => prop_assert!(!is_first || open.len() == 2),
                        Turn::Never(decision) => panic!("{decision:?}"),
                    }
                }
                Step::GiveUp(_) | Step::Look(_) => {}
            }
        }
        waiting.sort_by_key(|(priority, number, _)| (*priority, *number));
        for (_, _, ticket) in &waiting {
            open.clear();
            goes(ticket);
        }
    }
}

/// Wakes a thread.
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits as a thread does: asleep for as long as it is told, or until it is woken.
fn turn(ticket: &Ticket) -> Hold {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match ticket.poll(&waker).unwrap() {
            Turn::Granted(hold) => return hold,
            Turn::Wait { sleep, .. } => std::thread::park_timeout(sleep),
            Turn::Never(decision) => panic!("{decision:?}"),
        }
    }
}

#[test]
fn many_threads_of_three_processes_share_one_place_until_all_have_gone() {
    const TURNS: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let file = LimitsFile::parse(ONE_AT_A_TIME, "limits.toml").unwrap();
        let shared = Some(SharedOptions { boot: Some(1), ..SharedOptions::at(directory.path()) });
        Manager::new(Options {
            bytes: 2 << 20,
            config: Config::unlimited().with_file(file),
            shared,
            ..Options::default()
        })
        .unwrap()
    };
    let managers: Vec<Manager> = (0..3).map(|_| open()).collect();
    let (done, inside) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for step in 0..12 {
            let (manager, done, inside) = (&managers[step % 3], &done, &inside);
            scope.spawn(move || {
                for _ in 0..TURNS {
                    let ticket = manager.queue_up(&acme(), &asking(1), LIFE, Priority::Normal).unwrap();
                    let mut hold = turn(&ticket);
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two had the one place");
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    hold.settle(&world::used(1), None).unwrap();
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 12 * TURNS);
}

/// Of two that wait for a goal's last place, neither stands in the way of another goal: not where they wait in one process, and
/// not where they wait in two.
#[test]
fn who_waits_behind_others_keeps_back_those_alone_whom_they_keep_back() {
    for second in 0..2 {
        let host =
            Host::with("[workspaces.acme]\nmax_concurrent = 10\n[workspaces.acme.goals.one]\nmax_concurrent = 1");
        let [one, two] = ["one", "two"].map(|goal| acme().goal(goal));
        let open = host.reserve(0, &one).unwrap();
        let first = host.waiting(0, &one);
        let behind = host.waiting(second, &one);
        for process in 0..2 {
            goes(&host.ticket(process, &two, asking(1), Priority::Normal));
            host.reserve(process, &two).unwrap();
        }
        drop(open);
        drop(goes(&first));
        goes(&behind);
    }
}

#[test]
fn what_is_urgent_takes_nothing_of_the_share_of_what_is_not() {
    let host = Host::with(ONE_FOR_ALL);
    let [busy, late] = ["busy", "late"].map(|name| Call::new(name).credential("openai/k"));
    let mut open = host.reserve(0, &busy).unwrap();
    let come = |name, call: &Call<'_>, priority| {
        let ticket = host.ticket(1, call, asking(1), priority);
        waits(&ticket);
        (name, ticket)
    };
    let mut waiting: Vec<_> = (0..10).map(|_| come("busy", &busy, Priority::Normal)).collect();
    waiting.extend((0..10).map(|_| come("urgent", &late, Priority::High)));
    for _ in 0..10 {
        drop(open);
        let (name, hold) = next(&mut waiting);
        assert_eq!(name, "urgent");
        open = hold;
    }
    waiting.push(come("late", &late, Priority::Normal));
    let mut turns = Vec::new();
    for _ in 0..3 {
        drop(open);
        let (name, hold) = next(&mut waiting);
        turns.push(name);
        open = hold;
    }
    assert!(turns.contains(&"late"), "{turns:?}");
}

/// A process that could not ask the store places its waiters itself; the fair shares of all others outlast that.
#[test]
fn whom_the_store_could_not_place_moves_no_clock() {
    use llmquota::rules::turns::Place;
    let unplaced = Place::behind_all(Priority::Normal, 1);
    assert_eq!(unplaced.clock_after(7), 7);
    assert_eq!(Place::new(Priority::Normal, 9, 0, 2).clock_after(7), 9);
}
