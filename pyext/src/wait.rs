//! Waiting for a turn: polls a ticket of the engine's queue, sleeps between, and gives up at a deadline.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use llmquota::waiting::{Priority, Ticket, Turn};
use llmquota::wire::Decision;
use llmquota::{Code, Error, Hold};
use pyo3::prelude::*;
use tokio::sync::Notify;

use crate::errors::{self, OrRaise};
use crate::hold;
use crate::opened::Opened;
use crate::runtime::Here;

/// The least time between two looks of one ticket, so that those who wake each other do not keep a core busy.
const LEAST_NAP: Duration = Duration::from_millis(1);
/// How often a thread that waits looks for signals.
pub(crate) const SIGNALS: Duration = Duration::from_millis(100);

/// The priority of that word.
///
/// # Errors
/// [`Code::InvalidChoice`] for any other word.
pub(crate) fn priority(word: &str) -> Result<Priority, Error> {
    match word {
        "high" => Ok(Priority::High),
        "normal" => Ok(Priority::Normal),
        "low" => Ok(Priority::Low),
        _ => Err(Error::invalid(Code::InvalidChoice, "priority", word, "'high', 'normal' or 'low'")),
    }
}

/// Wakes one waiter.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

impl Bell {
    /// Until it is rung.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// How a wait ended.
pub(crate) enum Outcome {
    /// With a hold.
    Granted(hold::Hold),
    /// With a no, as of the last look.
    Refused(Decision, String),
    /// With a failure of the store.
    Failed(Error),
}

impl<'py> IntoPyObject<'py> for Outcome {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Outcome::Granted(hold) => Ok(Bound::new(py, hold)?.into_any()),
            Outcome::Refused(decision, workspace) => Err(errors::exceeded(py, &decision, &workspace)),
            Outcome::Failed(error) => Err(errors::raised(py, &error)),
        }
    }
}

/// A place in the queue, and until when it is worth waiting.
pub(crate) struct Place {
    opened: Arc<Opened>,
    ticket: Ticket,
    workspace: String,
    deadline: Option<Deadline>,
}

/// Passed when either clock says so: the manager's, which a test moves by hand, or the machine's, so that a test whose
/// clock stands still does not hang.
struct Deadline {
    mono: i64,
    machine: Option<Instant>,
}

impl Deadline {
    fn left(&self, now: i64) -> Duration {
        let left = Duration::from_nanos(u64::try_from(self.mono.saturating_sub(now)).unwrap_or(0));
        let machine = self.machine.map(|at| at.saturating_duration_since(Instant::now()));
        machine.map_or(left, |machine| machine.min(left))
    }
}

impl Place {
    pub(crate) fn new(opened: Arc<Opened>, ticket: Ticket, workspace: &str, timeout: Option<Duration>) -> Self {
        let deadline = timeout.map(|timeout| Deadline {
            mono: opened.clock.exact().mono.saturating_add(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX)),
            machine: Instant::now().checked_add(timeout),
        });
        Self { opened, ticket, workspace: workspace.to_owned(), deadline }
    }

    /// Waits for the turn. Whoever drops this leaves the queue, and lets go of a hold that nobody took.
    pub(crate) async fn turn(self) -> Outcome {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let moved = self.opened.moved.clone().unwrap_or_default();
        loop {
            // From before the look: a clock that moves during it must wake.
            let mut tick = std::pin::pin!(moved.notified());
            tick.as_mut().enable();
            let looked = tokio::time::Instant::now();
            let (sleep, decision) = match self.ticket.poll(&waker) {
                Ok(Turn::Granted(granted)) => return Outcome::Granted(self.hold(granted)),
                Ok(Turn::Never(decision)) => return Outcome::Refused(decision, self.workspace),
                Ok(Turn::Wait { sleep, decision }) => (sleep, decision),
                Err(error) => return Outcome::Failed(error),
            };
            let now = self.opened.clock.exact().mono;
            let left = self.deadline.as_ref().map_or(sleep, |deadline| deadline.left(now));
            if left.is_zero() {
                return Outcome::Refused(self.when(decision), self.workspace);
            }
            tokio::select! {
                () = bell.rung() => {}
                () = tick => {}
                () = tokio::time::sleep(sleep.min(left)) => {}
            }
            tokio::time::sleep_until(looked + LEAST_NAP).await;
        }
    }

    /// Says of somebody behind others when it would have gone.
    fn when(&self, decision: Decision) -> Decision {
        if decision.queued_ahead == 0 {
            return decision;
        }
        self.ticket.explain().ok().filter(|explained| !explained.allowed).unwrap_or(decision)
    }

    fn hold(&self, granted: Hold) -> hold::Hold {
        hold::Hold::new(Arc::clone(&self.opened), granted)
    }

    /// Waits on this thread, without the GIL.
    pub(crate) fn turn_here(self, py: Python<'_>) -> PyResult<Outcome> {
        let here = Here::new().or_raise(py)?;
        let mut turn = Box::pin(self.turn());
        loop {
            if let Some(outcome) = py.detach(|| here.run(&mut turn, SIGNALS)) {
                return Ok(outcome);
            }
            py.check_signals()?;
        }
    }
}
