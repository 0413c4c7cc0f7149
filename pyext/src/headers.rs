//! What the headers of a provider's answer say is left of the provider's own limits.

use llmquota::SystemClock;
use llmquota::clock::Clock;
use llmquota::rules::left::{Headers, Left};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// Reads pairs of a name and a value, each `bytes` or `str`; what else is among them says nothing. A list of tuples, as `httpx` has
/// it in `headers.raw`, is read in place.
pub(crate) fn read(headers: &Bound<'_, PyAny>, wall: i64) -> PyResult<(Left, Vec<String>)> {
    let mut reader = Headers::at(wall);
    if let Ok(list) = headers.cast::<PyList>() {
        list.iter().for_each(|pair| see(&mut reader, &pair));
    } else {
        for pair in headers.try_iter()? {
            see(&mut reader, &pair?);
        }
    }
    Ok(reader.end())
}

fn see(reader: &mut Headers, pair: &Bound<'_, PyAny>) {
    let Ok(pair) = pair.cast::<PyTuple>() else { return };
    if let (Ok(name), Ok(value)) = (pair.get_borrowed_item(0), pair.get_borrowed_item(1))
        && let (Some(name), Some(value)) = (bytes(&name), bytes(&value))
    {
        reader.see(name, value);
    }
}

fn bytes<'a>(text: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    match text.cast::<PyBytes>() {
        Ok(bytes) => Some(bytes.as_bytes()),
        Err(_) => text.cast::<PyString>().ok()?.to_str().ok().map(str::as_bytes),
    }
}

/// Seconds until something is left again of the provider's own limits, where its answer's headers (pairs of names and values) say
/// that nothing is; `None` where they do not.
#[pyfunction]
pub(crate) fn none_left_for(headers: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let (left, _) = read(headers, SystemClock.exact().wall)?;
    Ok(left.used_up().map(|(_, wait)| wait.get() as f64 / 1e9))
}
