//! Subscriptions: what happens in a store, as one listener is told it, each in its own time.
//!
//! A subscription keeps no queue of its own that could grow: it reads the store's ring from where it was. Status is derived, so
//! it is read anew after each event of a workspace, and when time alone may have changed it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Manager;
use super::listening::Listener;
use super::snapshot::{Amounts, Standing, line};
use crate::account::{AccountId, canonical_workspace};
use crate::error::{Code, Result};
use crate::rules::windows::rfc3339;
use crate::store::region::{Crossing, Heard, What, fork_generation};
use crate::wire::{Change, Event, EventKind, Status, ThresholdLevel};

/// How long a listener sleeps at most, whatever it was told: the clock of the wall may be set.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// How soon it looks again where the store was busy, and at what time has changed.
const SHORTEST_NAP: Duration = Duration::from_millis(1);
/// From how many events that wait on it reads no further.
const ENOUGH: usize = 256;

/// What a subscription is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One workspace; `None` for all of them. `""` and `"_global"` are the global one.
    pub workspace: Option<String>,
}

/// What a look at a subscription finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// [`Subscription::take`] has something to give.
    Ready,
    /// Not yet. The waker is woken when there may be something; look again after this time all the same.
    Sleep(Duration),
    /// It is closed, or a forked child's copy of its parent's: nothing comes any more.
    Closed,
}

/// Tells what happens, until it is dropped. Threads may share it; each event goes to one of them.
#[derive(Debug)]
pub struct Subscription {
    manager: Manager,
    workspace: Option<String>,
    /// The fork generation of its process: a child must not touch the mutex, which a thread that it does not have may hold.
    generation: u64,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    /// Leaves when this is dropped.
    listener: Listener,
    /// The number of the next event.
    next: u64,
    ready: VecDeque<Event>,
    /// What was told last of each workspace, where it is not `normal` or may change by time alone.
    told: BTreeMap<String, Told>,
    /// Workspaces whose status is to be looked at.
    changed: BTreeSet<String>,
    /// The same, and it is told though it is as before.
    asked: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    status: Status,
    until: Option<i64>,
}

/// Wakes a thread that sleeps.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// One for each thread, so that one that waits again and again is one sleeper.
    static OF_THIS_THREAD: Waker = sleeper();
}

fn sleeper() -> Waker {
    Waker::from(Arc::new(Sleeper(std::thread::current())))
}

impl Manager {
    /// Tells what happens from now on, in this process and in the others of the store.
    ///
    /// # Errors
    /// [`Code::InvalidId`] for a workspace that is none; those of the store.
    pub fn subscribe(&self, filter: &Filter) -> Result<Subscription> {
        let workspace = match &filter.workspace {
            Some(name) => Some(canonical_workspace(Some(name))?.to_owned()),
            None => None,
        };
        let listener = self.listen()?;
        let next = self.0.region.events_told();
        let mut told = BTreeMap::new();
        if let Some(name) = &workspace {
            let Standing { status, until, .. } = self.standing(name)?;
            told.insert(name.clone(), Told { status, until });
        }
        let (ready, changed, asked) = Default::default();
        let open = Open { listener, next, ready, told, changed, asked };
        let open = Mutex::new(Some(open));
        Ok(Subscription { manager: self.clone(), workspace, generation: fork_generation(), open })
    }
}

impl Subscription {
    /// The workspace that it is about; `None` for all.
    #[must_use]
    pub fn workspace(&self) -> Option<&str> {
        self.workspace.as_deref()
    }

    /// True once nothing comes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_inherited() || self.open.lock().is_none()
    }

    fn is_inherited(&self) -> bool {
        self.generation != fork_generation()
    }

    /// Ends it. Whoever waits for it is woken.
    pub fn close(&self) {
        if !self.is_inherited() {
            let open = self.open.lock().take();
            drop(open);
        }
    }

    /// The next event, where one is there. Never waits for one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn take(&self) -> Result<Option<Event>> {
        if self.is_inherited() {
            return Ok(None);
        }
        let mut place = self.open.lock();
        let Some(open) = place.as_mut() else { return Ok(None) };
        if open.ready.is_empty() {
            self.follow(open)?;
        }
        Ok(open.ready.pop_front())
    }

    /// Looks whether there is something to take, and has `waker` woken when there may be.
    ///
    /// # Errors
    /// Those of the store.
    pub fn look(&self, waker: &Waker) -> Result<Look> {
        if self.is_inherited() {
            return Ok(Look::Closed);
        }
        let mut place = self.open.lock();
        let Some(open) = place.as_mut() else { return Ok(Look::Closed) };
        if open.ready.is_empty() {
            // Noted before the look, so that what happens during it wakes.
            open.listener.watch(waker);
            self.follow(open)?;
        }
        Ok(if open.ready.is_empty() { Look::Sleep(self.nap(open)) } else { Look::Ready })
    }

    /// Waits for the next event: `None` when `timeout` has passed, or when it is closed. Without one it waits for ever.
    ///
    /// # Errors
    /// Those of the store.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let waker = OF_THIS_THREAD.try_with(Waker::clone).unwrap_or_else(|_| sleeper());
        loop {
            let sleep = match self.look(&waker)? {
                Look::Ready => match self.take()? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                },
                Look::Sleep(sleep) => sleep,
                Look::Closed => return Ok(None),
            };
            let left = deadline.map_or(sleep, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::park_timeout(sleep.min(left));
        }
    }

    /// How long until time alone may change a status.
    fn nap(&self, open: &Open) -> Duration {
        if !open.changed.is_empty() || !open.asked.is_empty() {
            return SHORTEST_NAP;
        }
        let Some(until) = open.told.values().filter_map(|told| told.until).min() else { return LONGEST_NAP };
        let left = until.saturating_sub(self.manager.now().wall);
        Duration::from_nanos(u64::try_from(left).unwrap_or(0)).clamp(SHORTEST_NAP, LONGEST_NAP)
    }

    /// Reads on, and looks at every status that may be another one.
    fn follow(&self, open: &mut Open) -> Result<()> {
        let done = self.read_on(open).and_then(|()| self.look_at_statuses(open));
        match done {
            // It is asked again before long.
            Err(error) if error.code() == Code::StoreBusy => Ok(()),
            done => done,
        }
    }

    fn read_on(&self, open: &mut Open) -> Result<()> {
        let (region, workspace) = (&self.manager.0.region, self.workspace.as_deref());
        while open.ready.len() < ENOUGH {
            let heard = region.hear(open.next, workspace)?;
            if heard.missed > 0 {
                let resumes = open.next.saturating_add(heard.missed);
                let crossings = region.missed_crossings(open.next, resumes, workspace)?;
                self.tell_lag(open, heard.missed, resumes, crossings);
                open.next = resumes;
            }
            if heard.next == open.next {
                return Ok(());
            }
            open.next = heard.next;
            for heard in heard.events {
                self.tell(open, heard);
            }
        }
        Ok(())
    }

    fn tell_lag(&self, open: &mut Open, count: u64, resumes: u64, crossings: Vec<Heard>) {
        open.ready.push_back(Event {
            workspace_id: self.workspace.clone(),
            sequence: resumes.saturating_sub(1),
            version: 0,
            at: rfc3339(self.manager.now().wall),
            what: EventKind::Lagged { count },
        });
        open.asked.extend(open.told.keys().cloned());
        for crossing in crossings {
            open.asked.insert(crossing.workspace.clone());
            self.tell(open, crossing);
        }
    }

    fn tell(&self, open: &mut Open, heard: Heard) {
        let Heard { sequence, what, at, version, workspace, crossing, concerned } = heard;
        let told = match what {
            What::Config => {
                open.changed.extend(open.told.keys().cloned());
                return;
            }
            What::Breaker => {
                let mine = |name: &String| self.workspace.as_ref().is_none_or(|mine| mine == name);
                let concerned = concerned.into_iter().chain([workspace]);
                open.changed.extend(concerned.filter(|name| !name.is_empty() && mine(name)));
                return;
            }
            // Nobody's usage; it is not heard either.
            What::Turn => return,
            What::Crossing => crossing.and_then(|crossing| threshold(&workspace, &crossing)),
            What::Record => Some(EventKind::Record { change: Change::Record }),
            What::Grant => Some(EventKind::Record { change: Change::Grant }),
            What::Settle => Some(EventKind::Record { change: Change::Settle }),
            What::Release => Some(EventKind::Record { change: Change::Release }),
            What::Orphan => Some(EventKind::Record { change: Change::Orphan }),
            What::Adjust | What::Learned => Some(EventKind::Record { change: Change::Adjust }),
        };
        open.changed.insert(workspace.clone());
        if let Some(what) = told {
            let at = rfc3339(at);
            open.ready.push_back(Event { workspace_id: Some(workspace), sequence, version, at, what });
        }
    }

    fn look_at_statuses(&self, open: &mut Open) -> Result<()> {
        let now = self.manager.now().wall;
        let due = open.told.iter().filter(|(_, told)| told.until.is_some_and(|until| until <= now));
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        open.changed.extend(due);
        loop {
            let asked = open.asked.first().cloned();
            let Some(name) = asked.clone().or_else(|| open.changed.first().cloned()) else { return Ok(()) };
            let Standing { status, until, version } = self.manager.standing(&name)?;
            let before = open.told.get(&name).map_or(Status::Normal, |told| told.status);
            if status != before || asked.is_some() {
                open.ready.push_back(Event {
                    workspace_id: Some(name.clone()),
                    sequence: open.next.saturating_sub(1),
                    version,
                    at: rfc3339(self.manager.now().wall),
                    what: EventKind::Status { old: before, new: status },
                });
            }
            open.changed.remove(&name);
            open.asked.remove(&name);
            if status == Status::Normal && until.is_none() && self.workspace.is_none() {
                open.told.remove(&name);
            } else {
                open.told.insert(name, Told { status, until });
            }
        }
    }
}

fn threshold(workspace: &str, crossing: &Crossing) -> Option<EventKind> {
    let level = match crossing.level {
        0 => ThresholdLevel::Near,
        1 => ThresholdLevel::Critical,
        2 => ThresholdLevel::Full,
        _ => return None,
    };
    let account = AccountId { scope: crossing.scope, owner: workspace, name: &crossing.account };
    let amounts = Amounts { counts: crossing.counts, asked: 0, resets: crossing.resets };
    let limit = line(&account, crossing.kind, crossing.limit, &amounts, crossing.thresholds);
    Some(EventKind::Threshold { level, limit })
}
