//! SQLite and forks. What it knows of its files, and the locks that it has on them, belong to all connections of a process: a child
//! believes to have what the kernel gave to its parent alone, and ruins the file; and where another thread is inside at the
//! fork, the child waits for ever for one that it does not have. So a fork waits until nobody is inside and closes every
//! connection, and parent and child each open theirs again when they next need them. Where somebody is inside for too long, the
//! child leaves history to other processes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::{Code, Error, Result};

/// A fork waits for those who are inside; nobody enters.
const FORKING: u64 = 1 << 63;
/// This process was forked while somebody was inside.
const LEFT: u64 = 1 << 62;
/// Whether a fork waits, whether this process must stay outside, and how many are inside.
static STATE: AtomicU64 = AtomicU64::new(0);
/// Every connection of this process. This mutex and theirs are only taken inside, or by a fork while nobody is.
static LINES: Mutex<Vec<Weak<Place>>> = Mutex::new(Vec::new());

/// How long a fork waits.
const BOUND: Duration = Duration::from_secs(2);
const NAP: Duration = Duration::from_micros(100);

/// A connection, while it is open.
type Place = Mutex<Option<Connection>>;

/// Leave to be inside SQLite, until dropped. Whoever has one must not ask for another.
#[derive(Debug)]
struct Pass(());

/// Goes inside, after a fork that is under way.
fn enter() -> Result<Pass> {
    loop {
        let state = STATE.load(Ordering::Relaxed);
        if state & LEFT != 0 {
            let message = "this process was forked in the middle of a long look at history, which it cannot use; other \
                           processes of the store write it";
            return Err(Error::new(Code::StoreBusy, "history", message));
        }
        if state & FORKING != 0 {
            std::thread::sleep(NAP);
        } else if STATE.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Ok(Pass(()));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        STATE.fetch_sub(1, Ordering::Release);
    }
}

/// A way to a file: a connection that a fork closes and the next use opens again.
pub(super) struct Line {
    place: Arc<Place>,
    open: Box<dyn Fn() -> Result<Connection> + Send + Sync>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    /// Opens one.
    ///
    /// # Errors
    /// Those of `open`; [`Code::StoreBusy`] in a process that was forked while its parent could not leave.
    pub(super) fn new(open: impl Fn() -> Result<Connection> + Send + Sync + 'static) -> Result<Self> {
        let line = Self { place: Arc::default(), open: Box::new(open) };
        line.with(|_| ())?;
        Ok(line)
    }

    /// Works with the connection. `work` must not ask for another one.
    ///
    /// # Errors
    /// As [`Line::new`], where it has to be opened again.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Connection) -> R) -> Result<R> {
        let _pass = enter()?;
        let mut place = self.place.lock();
        let connection = match &mut *place {
            Some(connection) => connection,
            closed => {
                let opened = (self.open)()?;
                let mut lines = LINES.lock();
                lines.retain(|line| line.strong_count() > 0);
                lines.push(Arc::downgrade(&self.place));
                closed.insert(opened)
            }
        };
        Ok(work(connection))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        match enter() {
            Ok(_pass) => drop(self.place.lock().take()),
            // It is the parent's, and stays open here.
            Err(_) => std::mem::forget(Arc::clone(&self.place)),
        }
    }
}

/// Before a fork, of which there is one at a time: waits until nobody is inside, and closes all connections.
pub(crate) fn before_fork() {
    STATE.fetch_or(FORKING, Ordering::Acquire);
    let began = Instant::now();
    while !is_empty(STATE.load(Ordering::Acquire)) {
        if began.elapsed() > BOUND {
            return;
        }
        std::thread::sleep(NAP);
    }
    let lines = std::mem::take(&mut *LINES.lock());
    for connection in lines.iter().filter_map(Weak::upgrade).filter_map(|place| place.lock().take()) {
        // Nobody waits for a fork longer than he must: what is in the log stays there.
        let _as_it_is = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        drop(connection);
    }
}

fn is_empty(state: u64) -> bool {
    state & !(FORKING | LEFT) == 0
}

/// After it, in the parent.
pub(crate) fn after_fork() {
    STATE.fetch_and(!FORKING, Ordering::Release);
}

/// After it, in the child, in which nobody is inside: where there was somebody, nobody ever can be.
pub(crate) fn in_child() {
    let state = STATE.load(Ordering::Acquire);
    let left = if is_empty(state) { state & LEFT } else { LEFT };
    STATE.store(left, Ordering::Release);
}
