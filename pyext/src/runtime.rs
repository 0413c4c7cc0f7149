//! The tokio runtime of this process, for what waits: built at first use, once a process id, since its threads do not
//! survive a fork.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use llmquota::{Code, Error};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, JoinError, Runtime as Generic};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::errors::OrRaise;

struct Owned {
    process: u32,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

static RUNTIME: ArcSwapOption<Owned> = ArcSwapOption::const_empty();
/// The interpreter ends: nothing is begun any more.
static STOPPED: AtomicBool = AtomicBool::new(false);
static STOPS_AT_EXIT: AtomicBool = AtomicBool::new(false);
/// How long the end of the interpreter waits for an answer that is being handed over.
const PATIENCE: Duration = Duration::from_secs(1);

tokio::task_local! {
    static LOCALS: TaskLocals;
}

fn unavailable(why: impl std::fmt::Display) -> Error {
    Error::new(Code::StoreBusy, "acquire", format!("no thread to wait with is to be had: {why}"))
}

/// The runtime of this process.
///
/// # Errors
/// [`Code::StoreBusy`] where no thread is to be had for it.
fn of_this_process() -> Result<Arc<Owned>, Error> {
    if STOPPED.load(Ordering::Acquire) {
        return Err(unavailable("the interpreter ends"));
    }
    let process = std::process::id();
    let current = RUNTIME.load_full();
    if let Some(owned) = current.as_ref().filter(|owned| owned.process == process) {
        return Ok(Arc::clone(owned));
    }
    // One thread: it only polls tickets and sleeps.
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("llmquota-wait").enable_time().build();
    let runtime = runtime.map_err(unavailable)?;
    let built = Arc::new(Owned { process, handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) });
    let before = RUNTIME.compare_and_swap(&current, Some(Arc::clone(&built)));
    if !same(before.as_ref(), current.as_ref()) {
        // Another thread was faster.
        return of_this_process();
    }
    // The parent's: to drop it would wait for threads that are not here.
    std::mem::forget(current);
    Ok(built)
}

fn same(one: Option<&Arc<Owned>>, other: Option<&Arc<Owned>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Makes sure that there is a runtime, and that it is gone before the interpreter is: a thread of it that hands an answer
/// over while the interpreter ends would abort the process.
pub(crate) fn ready(py: Python<'_>) -> PyResult<()> {
    of_this_process().or_raise(py)?;
    if !STOPS_AT_EXIT.swap(true, Ordering::AcqRel) {
        py.import("atexit")?.call_method1("register", (wrap_pyfunction!(stop, py)?,))?;
    }
    Ok(())
}

/// Stops waiting, for good.
#[pyfunction]
fn stop(py: Python<'_>) {
    STOPPED.store(true, Ordering::Release);
    let mine = RUNTIME.load_full().filter(|owned| owned.process == std::process::id());
    if let Some(runtime) = mine.and_then(|owned| owned.runtime.lock().take()) {
        py.detach(|| runtime.shutdown_timeout(PATIENCE));
    }
}

/// Timers for a thread that waits by itself.
pub(crate) struct Here(Runtime);

impl Here {
    /// # Errors
    /// [`Code::StoreBusy`] where the timers are not to be had.
    pub(crate) fn new() -> Result<Self, Error> {
        Builder::new_current_thread().enable_time().build().map(Self).map_err(unavailable)
    }

    /// Runs `future` on this thread for at most `slice`; `None` where it has not ended by then.
    pub(crate) fn run<F: Future + Unpin>(&self, future: &mut F, slice: Duration) -> Option<F::Output> {
        self.0.block_on(async { tokio::time::timeout(slice, future).await.ok() })
    }
}

/// The runtime as `pyo3-async-runtimes` takes it.
pub(crate) struct Waiting;

/// A task that was spawned, or could not be.
pub(crate) struct Task(Option<tokio::task::JoinHandle<()>>);

/// A task that did not end by itself.
pub(crate) struct Lost(Option<tokio::task::JoinError>);

impl Future for Task {
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(handle) => Pin::new(handle).poll(context).map_err(|error| Lost(Some(error))),
            None => Poll::Ready(Err(Lost(None))),
        }
    }
}

impl JoinError for Lost {
    fn is_panic(&self) -> bool {
        self.0.as_ref().is_some_and(tokio::task::JoinError::is_panic)
    }

    fn into_panic(self) -> Box<dyn std::any::Any + Send + 'static> {
        match self.0 {
            Some(error) if error.is_panic() => error.into_panic(),
            _ => Box::new("the task was not run"),
        }
    }
}

impl Generic for Waiting {
    type JoinError = Lost;
    type JoinHandle = Task;

    fn spawn<F>(future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Task(of_this_process().ok().map(|owned| owned.handle.spawn(future)))
    }

    fn spawn_blocking<F>(work: F) -> Task
    where
        F: FnOnce() + Send + 'static,
    {
        Task(of_this_process().ok().map(|owned| owned.handle.spawn_blocking(work)))
    }
}

impl ContextExt for Waiting {
    fn scope<F, R>(locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(LOCALS.scope(locals, future))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(Clone::clone).ok()
    }
}
