//! Waiting, by all threads, loops and processes of a store in one order ([`crate::rules::turns`]).
//!
//! A ticket is tried in its turn; it may pass another that waits only for what it does not need itself. What another process
//! frees, and that one of its waiters went, is heard of as an event. The engine knows no timers and no loops: a ticket is polled
//! with a [`Waker`] and says how long to sleep at most.

mod queue;

use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use queue::Behind;
pub(crate) use queue::Queue;

pub use crate::rules::turns::Priority;

use crate::account::Call;
use crate::error::Result;
use crate::manager::{Listener, Manager};
use crate::reservation::{Ask, CallNames, Hold, Verdict};
use crate::rules::decisions;
use crate::store::{PATIENCE, PATIENCE_BEHIND, Queued, Standing};
use crate::wire::Decision;

/// How long a ticket sleeps at most before it looks again, whatever else it was told.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// The same while others of its process are before it: it is woken when they are gone.
const LONGEST_NAP_BEHIND: Duration = Duration::from_secs(10);
// Somebody who looks as often as this is never taken for one who does not look any more.
const _: () = assert!(LONGEST_NAP.as_secs() < PATIENCE.as_secs());
const _: () = assert!(LONGEST_NAP_BEHIND.as_secs() < PATIENCE_BEHIND.as_secs());

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
    queued: Queued,
    /// Has the queue woken by other processes, from the first refusal on.
    listener: OnceLock<Listener>,
}

impl Manager {
    /// Takes a place in the queue.
    ///
    /// # Errors
    /// As [`Manager::reserve`].
    pub fn queue_up(&self, call: &Call<'_>, ask: &Ask, ttl: Duration, priority: Priority) -> Result<Ticket> {
        let chain = call.chain()?;
        let ask = self.ask(call, ask)?;
        let queued = self.take_place(&chain, ask, priority);
        self.queue().join(&queued, &chain);
        Ok(Ticket { manager: self.clone(), names: CallNames::of(call), ask, ttl, queued, listener: OnceLock::new() })
    }
}

impl Ticket {
    /// Tries, if it is this ticket's turn. Where the answer is not [`Turn::Wait`], its place is given up.
    ///
    /// # Errors
    /// Those of the store.
    pub fn poll(&self, waker: &Waker) -> Result<Turn> {
        let queue = self.manager.queue();
        // Noted before the try, so that what ends during it wakes this ticket.
        if let Some(Behind { count, accounts }) = queue.look(self.queued.place, waker) {
            self.manager.tell_of_staying(self.queued, &accounts);
            return Ok(Turn::Wait { sleep: LONGEST_NAP_BEHIND, decision: crate::manager::queued(count) });
        }
        let call = self.names.call();
        let chain = call.chain()?;
        let attempt = || self.manager.reserve_in_turn(&call, &chain, self.ask, self.ttl, Some(self.queued));
        let mut tried = attempt()?;
        if matches!(&tried.verdict, Verdict::Refused(decision) if !decision.never_fits) && self.begins_to_listen() {
            // What ended before that was told to nobody.
            tried = attempt()?;
        }
        match tried.verdict {
            Verdict::Granted(hold) => {
                queue.leave(self.queued.place);
                if hold.is_uncounted() {
                    self.manager.tell_of_leaving(self.queued);
                }
                Ok(Turn::Granted(hold))
            }
            Verdict::Refused(decision) if decision.never_fits => {
                self.leave();
                Ok(Turn::Never(decision))
            }
            Verdict::Refused(decision) => {
                queue.refused(self.queued.place, &tried.in_the_way);
                let told = decision.retry_after_ms.map(Duration::from_millis);
                let sleep = told.unwrap_or(LONGEST_NAP).min(LONGEST_NAP).max(Duration::from_millis(1));
                Ok(Turn::Wait { sleep, decision })
            }
        }
    }

    /// When it will go, as [`Manager::explain_waiting`] says it.
    ///
    /// # Errors
    /// Those of the store.
    pub fn explain(&self) -> Result<Decision> {
        let chain = self.names.call().chain()?;
        self.manager.explained(&chain, self.ask, Standing::Waiting(self.queued.place))
    }

    fn leave(&self) {
        if self.manager.queue().leave(self.queued.place) {
            self.manager.tell_of_leaving(self.queued);
        }
    }

    /// True where it did not listen yet. Without a thread to listen with it looks again now and then all the same.
    fn begins_to_listen(&self) -> bool {
        self.manager.has_other_processes()
            && self.listener.get().is_none()
            && self.manager.listen_for_turn().is_ok_and(|listener| self.listener.set(listener).is_ok())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}
