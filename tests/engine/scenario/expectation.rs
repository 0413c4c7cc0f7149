//! Compares what is written with what came. Every key that is written must be there; what is not written may be anything.

use serde_json::Value;

/// The first difference, with its place.
pub(crate) fn matches(path: &str, written: &Value, found: &Value) -> Result<(), String> {
    match (written, found) {
        (Value::Object(written), Value::Object(found)) => {
            if written.is_empty() && !found.is_empty() {
                let keys: Vec<_> = found.keys().collect();
                return Err(format!("{path}: expected nothing, found {keys:?}"));
            }
            for (key, value) in written {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let known = || format!("{path}: there is no such thing beside {:?}", found.keys().collect::<Vec<_>>());
                matches(&path, value, found.get(key).ok_or_else(known)?)?;
            }
            Ok(())
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => Ok(()),
        _ if written == found => Ok(()),
        _ => Err(format!("{path}: expected {written}, found {found}")),
    }
}
