//! The two methods that stand in every request's way, called as CPython calls its own: arguments in a row, keywords known by
//! the address of their interned names. PyO3 compares every keyword with every parameter by its letters, which costs more
//! than the record itself. The one file of the binding with `unsafe`.
//!
//! Only the binding of arguments is done anew here; the work is that of the same Rust methods. Where the arguments do not fit
//! (a keyword that is not known, an argument given twice, a `success` that is no `bool`), PyO3's own binding says so.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple, PyType};

use crate::calls::Names;
use crate::tracker::Tracker;

/// The parameters of `Tracker.record_request`, in its order.
const PARAMETERS: [&str; COUNT] = [
    "success",
    "tokens_used",
    "goal_id",
    "task_id",
    "workspace_id",
    "model",
    "user_id",
    "provider",
    "credential",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_usd",
    "error_code",
    "error_status",
    "retry_after",
    "service_tier",
    "request_id",
    "latency_ms",
    "method",
];
const COUNT: usize = 21;
/// How many of them may be given by place.
const POSITIONAL: usize = 5;
/// Those of a plain record, a bit each: `success`, `tokens_used`, `goal_id`, `task_id`, `model`, `user_id`.
const PLAIN: u32 = 0b110_1111;

/// The arguments of one record, in the order of the parameters.
/// They stay where they are made, and are told apart by bits: read again while they are still being written, moved or compared,
/// they cost a fourth of the call.
struct Arguments<'a, 'py> {
    /// `None` where nothing was given.
    given: [Borrowed<'a, 'py, PyAny>; COUNT],
    /// A bit for each parameter that was given, `None` or not.
    seen: u32,
    /// A bit for each that is not `None`.
    told: u32,
    success: bool,
}

impl<'py> Arguments<'_, 'py> {
    #[inline]
    fn new(py: Python<'py>) -> Self {
        // SAFETY: `None` lives for ever.
        let none = unsafe { Borrowed::from_ptr(py, ffi::Py_None()) };
        Self { given: [none; COUNT], seen: 0, told: 0, success: true }
    }

    /// An argument that is neither absent nor `None`.
    #[inline]
    fn get(&self, place: usize) -> Option<&Bound<'py, PyAny>> {
        if self.told >> place & 1 == 0 { None } else { self.given.get(place).map(|argument| &**argument) }
    }

    /// Records them.
    #[inline]
    fn record(&self, py: Python<'py>, tracker: &Tracker) -> PyResult<()> {
        if self.success && self.told & !PLAIN == 0 && tracker.is_at_ease() {
            let names = Names {
                goal: self.get(2),
                task: self.get(3),
                model: self.get(5),
                user: self.get(6),
                ..Names::default()
            };
            return tracker.record_plain(py, self.get(1), &names);
        }
        self.record_all(py, tracker)
    }

    /// Records them by the method that PyO3 would have called.
    fn record_all(&self, py: Python<'py>, tracker: &Tracker) -> PyResult<()> {
        let [
            _,
            tokens_used,
            goal_id,
            task_id,
            workspace_id,
            model,
            user_id,
            provider,
            credential,
            input_tokens,
            output_tokens,
            cached_tokens,
            reasoning_tokens,
            cost_usd,
            error_code,
            error_status,
            retry_after,
            service_tier,
            request_id,
            latency_ms,
            method,
        ] = std::array::from_fn(|place| self.get(place));
        tracker.record_request(
            py,
            self.success,
            tokens_used,
            goal_id,
            task_id,
            workspace_id,
            model,
            user_id,
            provider,
            credential,
            input_tokens,
            output_tokens,
            cached_tokens,
            reasoning_tokens,
            cost_usd,
            error_code,
            error_status,
            retry_after,
            service_tier,
            request_id,
            latency_ms,
            method,
        )
    }

    /// Takes the arguments by parameter; `None` where PyO3's own binding has something to say.
    ///
    /// # Safety
    /// As of [`record_request`]; the arguments live as long as the call.
    #[inline]
    unsafe fn bind(
        &mut self,
        py: Python<'py>,
        args: *const *mut ffi::PyObject,
        nargs: ffi::Py_ssize_t,
        kwnames: *mut ffi::PyObject,
    ) -> Option<()> {
        let names = &ORDINARY.get(py)?.names;
        let by_place = usize::try_from(nargs).ok().filter(|count| *count <= POSITIONAL)?;
        // SAFETY: `None` lives for ever.
        let none = unsafe { ffi::Py_None() };
        let mut take = |place: usize, step: usize| {
            // SAFETY: the caller's: so many arguments are there, and live.
            let argument = unsafe { Borrowed::from_ptr(py, *args.add(step)) };
            let (slot, bit) = (self.given.get_mut(place)?, 1_u32 << place);
            if self.seen & bit != 0 {
                return None;
            }
            self.seen |= bit;
            if argument.as_ptr() != none {
                self.told |= bit;
                *slot = argument;
            }
            Some(())
        };
        for place in 0..by_place {
            take(place, place)?;
        }
        // SAFETY: the caller's: a tuple or null.
        let by_name = if kwnames.is_null() { 0 } else { unsafe { ffi::PyTuple_Size(kwnames) } };
        let mut place = by_place;
        for step in 0..by_name {
            // SAFETY: the step is inside the tuple; the item is borrowed from it.
            let name = unsafe { ffi::PyTuple_GetItem(kwnames, step) };
            // Most callers keep the order of the signature.
            if names.get(place).is_none_or(|known| known.as_ptr() != name) {
                place = names.iter().position(|known| known.as_ptr() == name)?;
            }
            take(place, by_place + usize::try_from(step).ok()?)?;
            place += 1;
        }
        if self.seen & 1 != 0 {
            self.success = self.given.first()?.cast_exact::<PyBool>().ok()?.is_true();
        }
        Some(())
    }
}

/// The method as PyO3 made it, and the interned names.
struct Ordinary {
    record_request: Py<PyAny>,
    names: [Py<PyString>; COUNT],
}

static ORDINARY: PyOnceLock<Ordinary> = PyOnceLock::new();

/// Puts the fast methods in the place of those that PyO3 made, once.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Tracker>();
    ORDINARY.get_or_try_init(py, || {
        let ordinary = class.getattr("record_request")?;
        let fast = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: record_request };
        put(&class, c"record_request", fast, ffi::METH_FASTCALL | ffi::METH_KEYWORDS)?;
        put(&class, c"can_make_request", ffi::PyMethodDefPointer { PyCFunction: can_make_request }, ffi::METH_NOARGS)?;
        let names = PARAMETERS.map(|name| PyString::intern(py, name).unbind());
        Ok::<_, PyErr>(Ordinary { record_request: ordinary.unbind(), names })
    })?;
    Ok(())
}

/// Replaces a method by one with its signature and documentation.
fn put(class: &Bound<'_, PyType>, name: &'static CStr, method: ffi::PyMethodDefPointer, flags: c_int) -> PyResult<()> {
    let py = class.py();
    let attribute = PyString::new(py, &name.to_string_lossy());
    let ordinary = class.getattr(&attribute)?;
    let text = |of| ordinary.getattr(of)?.extract::<String>();
    let shown = format!("{attribute}{}\n--\n\n{}", text("__text_signature__")?, text("__doc__")?);
    // Lives as long as the type, which is for ever.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: method,
        ml_flags: flags,
        ml_doc: CString::new(shown)?.into_raw(),
    }));
    // SAFETY: the definition, its name and its text are never freed; the function takes what its flags say. The result is a new
    // reference, or null with an exception set.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition)) };
    class.setattr(attribute, made?)
}

/// `Tracker.record_request`.
///
/// # Safety
/// As CPython calls a method of `METH_FASTCALL | METH_KEYWORDS`: attached, `slf` an instance of the type, `args` of `nargs` and
/// as many more as `kwnames` (a tuple of `str`, or null) has.
unsafe extern "C" fn record_request(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as of this function.
    let (py, this) = unsafe { (Python::assume_attached(), tracker(slf)) };
    answered(py, || {
        let mut arguments = Arguments::new(py);
        // SAFETY: as of this function.
        match unsafe { arguments.bind(py, args, nargs, kwnames) } {
            Some(()) => arguments.record(py, this.get()).map(|()| py.None()),
            // SAFETY: as of this function.
            None => unsafe { record_ordinarily(py, slf, args, nargs, kwnames) },
        }
    })
}

/// `Tracker.can_make_request`.
///
/// # Safety
/// As CPython calls a method of `METH_NOARGS`: attached, `slf` an instance of the type.
unsafe extern "C" fn can_make_request(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as of this function.
    let (py, this) = unsafe { (Python::assume_attached(), tracker(slf)) };
    answered(py, || this.get().can_make_request(py).map(|room| PyBool::new(py, room).to_owned().into_any().unbind()))
}

/// The tracker that a method was called on.
///
/// # Safety
/// Attached; `slf` is a `Tracker` that lives as long as the call.
#[inline]
unsafe fn tracker<'a, 'py>(slf: *mut ffi::PyObject) -> Borrowed<'a, 'py, Tracker> {
    // SAFETY: as of this function; a method descriptor has checked the type.
    unsafe { Borrowed::from_ptr(Python::assume_attached(), slf).cast_unchecked() }
}

/// What CPython is given: the object, or null with an exception set.
#[inline]
fn answered(py: Python<'_>, work: impl FnOnce() -> PyResult<Py<PyAny>>) -> *mut ffi::PyObject {
    let answer = || match work() {
        Ok(object) => object.into_ptr(),
        Err(raised) => null_with(py, raised),
    };
    // Unwinding into C would end the process.
    catch_unwind(AssertUnwindSafe(answer))
        .unwrap_or_else(|_| null_with(py, PyRuntimeError::new_err("a defect of llmquota: its engine panicked")))
}

#[cold]
fn null_with(py: Python<'_>, raised: PyErr) -> *mut ffi::PyObject {
    raised.restore(py);
    ptr::null_mut()
}

/// The record by the method that PyO3 made.
///
/// # Safety
/// As of [`record_request`].
#[cold]
unsafe fn record_ordinarily(
    py: Python<'_>,
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> PyResult<Py<PyAny>> {
    let by_place = usize::try_from(nargs).unwrap_or_default();
    // SAFETY: the caller's: so many arguments are there, and live.
    let argument = |step: usize| unsafe { Borrowed::from_ptr(py, *args.add(step)) };
    // SAFETY: the caller's.
    let this = unsafe { Borrowed::<PyAny>::from_ptr(py, slf) };
    let places = std::iter::once(this).chain((0..by_place).map(argument)).collect::<Vec<_>>();
    let names = PyDict::new(py);
    if !kwnames.is_null() {
        // SAFETY: the caller's: a tuple.
        let given = unsafe { Borrowed::from_ptr(py, kwnames) };
        for (step, name) in given.cast::<PyTuple>()?.iter().enumerate() {
            names.set_item(name, argument(by_place + step))?;
        }
    }
    match ORDINARY.get(py) {
        Some(ordinary) => ordinary.record_request.call(py, PyTuple::new(py, places)?, Some(&names)),
        None => Err(PyRuntimeError::new_err("the module is not initialised")),
    }
}
