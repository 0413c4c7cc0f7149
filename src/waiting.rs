//! Waiting: first come, first served, within one process.
//!
//! A ticket is tried in its turn; it may pass another that waits only for what it does not need itself. The engine knows no
//! timers and no loops: a ticket is polled with a [`Waker`] and says how long to sleep at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::account::{Call, Chain, Scope};
use crate::error::Result;
use crate::manager::Manager;
use crate::reservation::{Ask, CallNames, Hold, Verdict};
use crate::rules::decisions;
use crate::wire::Decision;

/// Which waiters come first; within one priority, by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// By arrival.
    #[default]
    Normal,
    /// After all others.
    Low,
}

/// How long a ticket sleeps at most before it looks again, whatever else it was told.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// An account, as waiters compare them.
type Key = (Scope, String, String);

#[derive(Debug)]
struct Waiting {
    number: u64,
    priority: Priority,
    accounts: Vec<Key>,
    /// Those of `accounts` that were in the way at its last try; all of them before the first.
    blocked: Vec<Key>,
    waker: Option<Waker>,
}

/// Who waits, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// How many wait: one relaxed load tells everybody else that there is nobody.
    len: AtomicUsize,
    own: ArcSwap<Own>,
}

/// The waiters of one process. A forked child has none of its parent's, and must not take the parent's mutex either: a thread
/// that it does not have may hold it.
#[derive(Debug, Default)]
struct Own {
    process: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: Vec<Waiting>,
}

fn keys(chain: &Chain<'_>) -> Vec<Key> {
    let key =
        |account: &crate::account::AccountId<'_>| (account.scope, account.owner.to_owned(), account.name.to_owned());
    chain.accounts().iter().map(key).collect()
}

fn share(some: &[Key], others: &[Key]) -> bool {
    some.iter().any(|key| others.contains(key))
}

impl Queue {
    /// How many waiters a plain reserve of this chain may not pass; `None` where it may go.
    pub(crate) fn ahead_of(&self, chain: &Chain<'_>) -> Option<u32> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let keys = keys(chain);
        let own = self.own();
        let state = own.state.lock();
        // In a child the number is still the parent's.
        self.len.store(state.waiting.len(), Ordering::Relaxed);
        let ahead = state.waiting.iter().filter(|waiting| share(&waiting.blocked, &keys)).count();
        (ahead > 0).then(|| u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    /// This process's waiters.
    fn own(&self) -> Arc<Own> {
        let process = std::process::id();
        let found = self.own.load_full();
        if found.process == process {
            return found;
        }
        // The first thread of this process that comes here wins. Its numbers are none of the parent's, whose tickets the child
        // has a copy of.
        let state = State { next: u64::from(process) << 32, ..State::default() };
        self.own.compare_and_swap(&found, Arc::new(Own { process, state: Mutex::new(state) }));
        self.own.load_full()
    }

    fn join(&self, priority: Priority, accounts: Vec<Key>) -> u64 {
        let own = self.own();
        let mut state = own.state.lock();
        state.next += 1;
        let number = state.next;
        let place = state.waiting.partition_point(|waiting| waiting.priority <= priority);
        let blocked = accounts.clone();
        state.waiting.insert(place, Waiting { number, priority, accounts, blocked, waker: None });
        self.len.store(state.waiting.len(), Ordering::Relaxed);
        number
    }

    fn leave(&self, number: u64) {
        let own = self.own();
        let mut state = own.state.lock();
        state.waiting.retain(|waiting| waiting.number != number);
        self.len.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        self.wake_if_waiting();
    }

    /// How many waiters are before this one and in its way.
    fn ahead(&self, number: u64) -> u32 {
        let own = self.own();
        let state = own.state.lock();
        let Some(mine) = state.waiting.iter().find(|waiting| waiting.number == number) else { return 0 };
        let before = state.waiting.iter().take_while(|waiting| waiting.number != number);
        u32::try_from(before.filter(|waiting| share(&waiting.blocked, &mine.accounts)).count()).unwrap_or(u32::MAX)
    }

    fn note(&self, number: u64, blocked: Option<Vec<Key>>, waker: &Waker) {
        let own = self.own();
        let mut state = own.state.lock();
        if let Some(mine) = state.waiting.iter_mut().find(|waiting| waiting.number == number) {
            if let Some(blocked) = blocked {
                mine.blocked = blocked;
            }
            mine.waker = Some(waker.clone());
        }
    }

    /// Wakes those whose turn it may be.
    pub(crate) fn wake(&self) {
        let mut ready = Vec::new();
        let own = self.own();
        let mut state = own.state.lock();
        for place in 0..state.waiting.len() {
            let (before, rest) = state.waiting.split_at_mut(place);
            let Some(mine) = rest.first_mut() else { break };
            if !before.iter().any(|waiting| share(&waiting.blocked, &mine.accounts)) {
                ready.extend(mine.waker.take());
            }
        }
        drop(state);
        // Outside of the lock: a waker may run anything.
        for waker in ready {
            waker.wake();
        }
    }

    #[inline]
    pub(crate) fn wake_if_waiting(&self) {
        if self.len.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }
}

/// What became of a try.
#[derive(Debug)]
pub enum Turn {
    /// It may go.
    Granted(Hold),
    /// It fits at no time: waiting is in vain.
    Never(Decision),
    /// Not yet. The waker is woken when it may be its turn; look again after `sleep` all the same.
    Wait {
        /// How long at most.
        sleep: Duration,
        /// Why, as of this try.
        decision: Decision,
    },
}

/// A place in the queue; left when dropped.
#[derive(Debug)]
pub struct Ticket {
    manager: Manager,
    names: CallNames,
    ask: decisions::Ask,
    ttl: Duration,
    number: u64,
}

impl Manager {
    /// Takes a place in the queue.
    ///
    /// # Errors
    /// As [`Manager::reserve`].
    pub fn queue_up(&self, call: &Call<'_>, ask: &Ask, ttl: Duration, priority: Priority) -> Result<Ticket> {
        let chain = call.chain()?;
        let ask = self.ask(call, ask)?;
        let number = self.queue().join(priority, keys(&chain));
        Ok(Ticket { manager: self.clone(), names: CallNames::of(call), ask, ttl, number })
    }
}

impl Ticket {
    /// Tries, if it is this ticket's turn.
    ///
    /// # Errors
    /// Those of the store.
    pub fn poll(&self, waker: &Waker) -> Result<Turn> {
        let queue = self.manager.queue();
        let ahead = queue.ahead(self.number);
        if ahead > 0 {
            queue.note(self.number, None, waker);
            // Somebody may have left between the two looks.
            if queue.ahead(self.number) > 0 {
                let decision = crate::manager::queued(ahead);
                return Ok(Turn::Wait { sleep: LONGEST_NAP, decision });
            }
        }
        let call = self.names.call();
        let chain = call.chain()?;
        // Noted before the try, so that what is freed during it wakes this ticket.
        queue.note(self.number, None, waker);
        match self.manager.reserve_past_queue(&call, &chain, self.ask, self.ttl)? {
            Verdict::Granted(hold) => {
                queue.leave(self.number);
                Ok(Turn::Granted(hold))
            }
            Verdict::Refused(decision) if decision.never_fits => Ok(Turn::Never(decision)),
            Verdict::Refused(decision) => {
                let blocked = keys(&chain)
                    .into_iter()
                    .filter(|(scope, _, name)| {
                        decision.limits.is_empty()
                            || decision.limits.iter().any(|line| line.scope == *scope && line.account == *name)
                    })
                    .collect();
                queue.note(self.number, Some(blocked), waker);
                // Who waits behind for something else may go now.
                queue.wake();
                queue.note(self.number, None, waker);
                let told = decision.retry_after_ms.map(Duration::from_millis);
                let sleep = told.unwrap_or(LONGEST_NAP).min(LONGEST_NAP).max(Duration::from_millis(1));
                Ok(Turn::Wait { sleep, decision })
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.manager.queue().leave(self.number);
    }
}
