//! The tokio runtime of this process, for what waits: built at first use, once a process id, since its threads do not
//! survive a fork.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use llmquota::{Code, Error};
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, JoinError, Runtime as Generic};
use tokio::runtime::{Builder, Runtime};

struct Owned {
    process: u32,
    runtime: Runtime,
}

static RUNTIME: ArcSwapOption<Owned> = ArcSwapOption::const_empty();

tokio::task_local! {
    static LOCALS: TaskLocals;
}

/// The runtime of this process.
///
/// # Errors
/// [`Code::StoreBusy`] where no thread is to be had for it.
fn of_this_process() -> Result<Arc<Owned>, Error> {
    let process = std::process::id();
    let current = RUNTIME.load_full();
    if let Some(owned) = current.as_ref().filter(|owned| owned.process == process) {
        return Ok(Arc::clone(owned));
    }
    // One thread: it only polls tickets and sleeps.
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("llmquota-wait").enable_time().build();
    let runtime = runtime.map_err(|error| {
        Error::new(Code::StoreBusy, "acquire", format!("no thread to wait with is to be had: {error}"))
    })?;
    let built = Arc::new(Owned { process, runtime });
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

/// Makes sure that there is a runtime.
pub(crate) fn ready() -> Result<(), Error> {
    of_this_process().map(|_| ())
}

/// Runs `future` to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Error> {
    Ok(of_this_process()?.runtime.block_on(future))
}

/// The runtime as `pyo3-async-runtimes` takes it.
pub(crate) struct Waiting;

/// A task that was spawned, or could not be.
pub(crate) struct Handle(Option<tokio::task::JoinHandle<()>>);

/// A task that did not end by itself.
pub(crate) struct Lost(Option<tokio::task::JoinError>);

impl Future for Handle {
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
    type JoinHandle = Handle;

    fn spawn<F>(future: F) -> Handle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Handle(of_this_process().ok().map(|owned| owned.runtime.spawn(future)))
    }

    fn spawn_blocking<F>(work: F) -> Handle
    where
        F: FnOnce() + Send + 'static,
    {
        Handle(of_this_process().ok().map(|owned| owned.runtime.spawn_blocking(work)))
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
