//! Events as Python has them: taken where they are there, waited for on a thread without the GIL, or on an event loop.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use llmquota::manager::{Filter, Look, Subscription as Engine};
use pyo3::prelude::*;

use crate::calls::{self, Given};
use crate::errors::OrRaise;
use crate::manager::Manager;
use crate::opened::Opened;
use crate::runtime::{self, Waiting};
use crate::wait::{Bell, SIGNALS};

/// What happens in a manager's store, in this process and in the others of it, from when this is made on, of one workspace or
/// of all. `next` waits for an event, `take` does not; an event is a new dict.
///
/// Threads may share it; each event goes to one of them. In a forked child an inherited one is closed.
#[pyclass(subclass, frozen, weakref, module = "llmquota._native")]
pub(crate) struct Subscription {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    opened: Arc<Opened>,
}

impl Inner {
    /// What a look finds. Another store in the place of this one ends it.
    fn look(&self, waker: &Waker) -> Result<Look, llmquota::Error> {
        if self.opened.is_replaced() {
            self.engine.close();
        }
        self.engine.look(waker)
    }

    /// Until there is something to take, or never will be.
    async fn ready(&self) -> Result<(), llmquota::Error> {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let moved = self.opened.moved.clone().unwrap_or_default();
        loop {
            // From before the look: a clock that moves during it must wake.
            let mut tick = std::pin::pin!(moved.notified());
            tick.as_mut().enable();
            let Look::Sleep(sleep) = self.look(&waker)? else { return Ok(()) };
            tokio::select! {
                () = bell.rung() => {}
                () = tick => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}

/// How a wait ended.
struct Ready(Result<(), llmquota::Error>);

impl<'py> IntoPyObject<'py> for Ready {
    type Target = pyo3::types::PyNone;
    type Output = Borrowed<'py, 'py, Self::Target>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        self.0.or_raise(py)?;
        Ok(pyo3::types::PyNone::get(py))
    }
}

#[pymethods]
impl Subscription {
    #[new]
    #[pyo3(signature = (manager, workspace_id = None))]
    fn new(py: Python<'_>, manager: &Bound<'_, Manager>, workspace_id: Option<String>) -> PyResult<Self> {
        let opened = Manager::ready(manager)?;
        let filter = Filter { workspace: workspace_id };
        let engine = py.detach(|| opened.engine.subscribe(&filter)).or_raise(py)?;
        Ok(Self { inner: Arc::new(Inner { engine, opened }) })
    }

    /// The workspace that it is about; `None` for all.
    #[getter]
    fn workspace_id(&self) -> Option<&str> {
        self.inner.engine.workspace()
    }

    /// Whether nothing comes any more.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| self.inner.engine.is_closed())
    }

    /// Ends it. Whoever waits for an event is woken.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.engine.close());
    }

    /// The next event, where one is there. Never waits for one.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = py.detach(|| self.inner.engine.take()).or_raise(py)?;
        event.map(|event| crate::convert(py, &event)).transpose()
    }

    /// Waits for the next event, without the GIL: `None` when `timeout` has passed (seconds; `None` waits for ever), or when it
    /// is closed.
    #[pyo3(signature = (timeout = None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Given<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let timeout = calls::timeout("timeout", timeout)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let slice = left.map_or(SIGNALS, |left| left.min(SIGNALS));
            let waited = py.detach(|| self.wait(slice)).or_raise(py)?;
            if let Waited::Event(event) = waited {
                return crate::convert(py, &event).map(Some);
            }
            py.check_signals()?;
            if matches!(waited, Waited::Closed) || left.is_some_and(|left| left <= SIGNALS) {
                return Ok(None);
            }
        }
    }

    /// A future of the running loop, done when there is something to take, or never will be.
    fn ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        runtime::ready(py)?;
        let locals = pyo3_async_runtimes::TaskLocals::with_running_loop(py)?;
        let inner = Arc::clone(&self.inner);
        pyo3_async_runtimes::generic::future_into_py_with_locals::<Waiting, _, Ready>(py, locals, async move {
            Ok(Ready(inner.ready().await))
        })
    }
}

/// What a wait on a thread came to.
enum Waited {
    Event(Box<llmquota::wire::Event>),
    Nothing,
    Closed,
}

impl Subscription {
    fn wait(&self, slice: Duration) -> Result<Waited, llmquota::Error> {
        if self.inner.opened.is_replaced() {
            self.inner.engine.close();
        }
        Ok(match self.inner.engine.next(Some(slice))? {
            Some(event) => Waited::Event(Box::new(event)),
            None if self.inner.engine.is_closed() => Waited::Closed,
            None => Waited::Nothing,
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A future that still waits has a share of it.
        self.inner.engine.close();
    }
}
