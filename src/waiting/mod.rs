//! Waiting: first come, first served, within one process; what another process frees is heard of as an event.
//!
//! A ticket is tried in its turn; it may pass another that waits only for what it does not need itself. The engine knows no
//! timers and no loops: a ticket is polled with a [`Waker`] and says how long to sleep at most.

mod queue;

use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

pub(crate) use queue::Queue;

use crate::account::Call;
use crate::error::Result;
use crate::manager::{Listener, Manager};
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
/// The same while others are before it: it is woken when they are gone.
const LONGEST_NAP_BEHIND: Duration = Duration::from_secs(10);

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
    place: queue::Place,
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
        let place = self.queue().join(priority, &chain);
        Ok(Ticket { manager: self.clone(), names: CallNames::of(call), ask, ttl, place, listener: OnceLock::new() })
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
        let ahead = queue.look(self.place, waker);
        if ahead > 0 {
            return Ok(Turn::Wait { sleep: LONGEST_NAP_BEHIND, decision: crate::manager::queued(ahead) });
        }
        let call = self.names.call();
        let mut tried = self.manager.reserve_past_queue(&call, &call.chain()?, self.ask, self.ttl)?;
        if matches!(&tried.verdict, Verdict::Refused(decision) if !decision.never_fits) && self.begins_to_listen() {
            // What ended before that was told to nobody.
            tried = self.manager.reserve_past_queue(&call, &call.chain()?, self.ask, self.ttl)?;
        }
        match tried.verdict {
            Verdict::Granted(hold) => {
                queue.leave(self.place);
                Ok(Turn::Granted(hold))
            }
            Verdict::Refused(decision) if decision.never_fits => {
                queue.leave(self.place);
                Ok(Turn::Never(decision))
            }
            Verdict::Refused(decision) => {
                queue.refused(self.place, &tried.in_the_way);
                let told = decision.retry_after_ms.map(Duration::from_millis);
                let sleep = told.unwrap_or(LONGEST_NAP).min(LONGEST_NAP).max(Duration::from_millis(1));
                Ok(Turn::Wait { sleep, decision })
            }
        }
    }
}

impl Ticket {
    /// True where it did not listen yet. Without a thread to listen with it looks again now and then all the same.
    fn begins_to_listen(&self) -> bool {
        self.manager.has_other_processes()
            && self.listener.get().is_none()
            && self.manager.listen_for_turn().is_ok_and(|listener| self.listener.set(listener).is_ok())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.manager.queue().leave(self.place);
    }
}
