//! Who listens in this process: one thread, as long as somebody does, sleeps until the store has events and wakes them all.
//!
//! A forked child has neither its parent's listeners nor the thread, and must not take the parent's mutex.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Inner, Manager};
use crate::error::{Code, Error, Result};
use crate::store::region::{Ear, fork_generation};

/// How long the thread sleeps at most: a process that dies between an event and its waking costs no more.
const LONGEST_NAP: Duration = Duration::from_millis(200);
/// How long it gathers events after it has woken everybody, so that a busy store does not make a system call for each.
const GATHER: Duration = Duration::from_millis(1);

/// From so many sleepers of one subscription on they are woken and look again: some of them gave up long ago.
const MOST_SLEEPERS: usize = 8;

/// The listeners of a manager.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    own: ArcSwap<Own>,
}

/// Those of one process.
#[derive(Debug, Default)]
struct Own {
    generation: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Each with whom to wake, once.
    subscriptions: BTreeMap<u64, Vec<Waker>>,
    /// Those who wait for their turn.
    waiters: usize,
    /// The store knows that this process listens.
    listens: bool,
    /// The thread is there.
    runs: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.waiters == 0
    }
}

/// What a listener listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Subscription(u64),
    Waiter,
}

/// A listener, until dropped. In a forked child it is nobody's.
#[derive(Debug)]
pub(crate) struct Listener {
    manager: Manager,
    own: Arc<Own>,
    role: Role,
}

impl Listeners {
    fn own(&self) -> Arc<Own> {
        let generation = fork_generation();
        let found = self.own.load_full();
        if found.generation == generation {
            return found;
        }
        self.own.compare_and_swap(&found, Arc::new(Own { generation, state: Mutex::default() }));
        // The parent's: whom its wakers would free is not here.
        std::mem::forget(found);
        self.own.load_full()
    }
}

impl Manager {
    /// Listens for everything.
    ///
    /// # Errors
    /// Those of the store; [`Code::StoreBusy`] where no thread is to be had.
    pub(super) fn listen(&self) -> Result<Listener> {
        self.join(|state| {
            state.next += 1;
            state.subscriptions.insert(state.next, Vec::new());
            Role::Subscription(state.next)
        })
    }

    /// Has the queue woken when another process lets somebody go.
    ///
    /// # Errors
    /// As [`Manager::listen`].
    pub(crate) fn listen_for_turn(&self) -> Result<Listener> {
        self.join(|state| {
            state.waiters += 1;
            Role::Waiter
        })
    }

    /// True where other processes may let somebody go.
    pub(crate) fn has_other_processes(&self) -> bool {
        self.0.shared.is_some()
    }

    fn join(&self, enter: impl FnOnce(&mut State) -> Role) -> Result<Listener> {
        let own = self.0.listeners.own();
        let mut state = own.state.lock();
        if !state.listens {
            self.0.region.listen(true)?;
            state.listens = true;
        }
        if !state.runs {
            let ear = self.0.region.ear();
            let (whose, estate) = (Arc::clone(&own), Arc::downgrade(&self.0));
            let seen = ear.told();
            let thread = std::thread::Builder::new().name("llmquota-events".to_owned());
            thread.spawn(move || run(&whose, &ear, &estate, seen)).map_err(|error| {
                let message = format!("no thread is to be had that listens to events: {error}");
                Error::new(Code::StoreBusy, "subscribe", message)
            })?;
            state.runs = true;
        }
        let role = enter(&mut state);
        drop(state);
        Ok(Listener { manager: self.clone(), own, role })
    }
}

impl Listener {
    /// True in a child that was forked since.
    fn is_inherited(&self) -> bool {
        self.own.generation != fork_generation()
    }

    /// Has `waker` woken at the next event, once.
    pub(super) fn watch(&self, waker: &Waker) {
        if let Role::Subscription(number) = self.role
            && !self.is_inherited()
        {
            let mut state = self.own.state.lock();
            let Some(sleepers) = state.subscriptions.get_mut(&number) else { return };
            if sleepers.iter().any(|sleeper| sleeper.will_wake(waker)) {
                return;
            }
            let crowd = if sleepers.len() >= MOST_SLEEPERS { std::mem::take(sleepers) } else { Vec::new() };
            sleepers.push(waker.clone());
            drop(state);
            // Outside of the lock, here and below: a waker may run anything.
            crowd.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_inherited() {
            return;
        }
        let mut state = self.own.state.lock();
        let sleepers = match self.role {
            Role::Subscription(number) => state.subscriptions.remove(&number).unwrap_or_default(),
            Role::Waiter => {
                state.waiters = state.waiters.saturating_sub(1);
                Vec::new()
            }
        };
        if state.is_empty() {
            // Where the lock is not to be had now, the thread does it before it ends.
            state.listens = self.manager.0.region.listen(false).is_err();
            self.manager.0.region.ear().ring();
        }
        drop(state);
        sleepers.into_iter().for_each(Waker::wake);
    }
}

fn run(own: &Own, ear: &Ear, estate: &Weak<Inner>, mut seen: u64) {
    loop {
        ear.sleep(seen, LONGEST_NAP);
        let (before, told) = (seen, ear.told());
        let is_new = told != before;
        seen = told;
        let mut state = own.state.lock();
        if state.is_empty() {
            if let Some(estate) = estate.upgrade().filter(|_| state.listens) {
                state.listens = estate.region.listen(false).is_err();
            }
            if !state.listens || estate.strong_count() == 0 {
                state.runs = false;
                return;
            }
        }
        let waiters = state.waiters > 0 && is_new;
        let sleepers: Vec<Waker> =
            if is_new { state.subscriptions.values_mut().flat_map(std::mem::take).collect() } else { Vec::new() };
        drop(state);
        sleepers.into_iter().for_each(Waker::wake);
        if waiters
            && ear.frees(before, told)
            && let Some(estate) = estate.upgrade()
        {
            estate.queue.wake();
        }
        if is_new {
            std::thread::sleep(GATHER);
        }
    }
}
