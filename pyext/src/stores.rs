//! The names of stores: `memory:`, `shared:/path`, each with `?size=512MB`.

use std::path::Path;
use std::time::Duration;

use llmquota::store::history::Retention;
use llmquota::store::region::DEFAULT_BYTES;
use llmquota::store::shared::SharedOptions;
use llmquota::{Code, Error};

const DAY: u64 = 86_400;

/// What a store's name says.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) bytes: usize,
    pub(crate) shared: Option<SharedOptions>,
}

impl Spec {
    /// Reads a store's name. `history_days` says how long a shared one keeps the rows of history, 0 for ever; who `observes`
    /// publishes no limits.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for a store that this version has not, or a size that is none.
    pub(crate) fn read(store: &str, history_days: Option<u32>, observes: bool) -> Result<Self, Error> {
        let expected =
            "'memory:', 'memory:?size=512MB' or 'shared:/absolute/path'; stores on other hosts are not there yet";
        // A URL may hold a password: the scheme alone is repeated.
        let scheme = store.split(':').next().unwrap_or_default();
        let invalid = || Error::invalid(Code::InvalidConfig, "store", format!("{scheme}:..."), expected);
        let (scheme, rest) = store.split_once(':').ok_or_else(invalid)?;
        if !matches!(scheme, "memory" | "shared") {
            return Err(invalid());
        }
        let (path, bytes) = match rest.split_once('?') {
            Some((path, options)) => {
                let expected = "a bound such as ?size=64MB, ?size=512MiB or ?size=2GB";
                let invalid = || Error::invalid(Code::InvalidConfig, "store", options, expected);
                (path, options.strip_prefix("size=").and_then(size_of).ok_or_else(invalid)?)
            }
            None => (rest, DEFAULT_BYTES),
        };
        match scheme {
            "memory" if path.is_empty() => Ok(Self { bytes, shared: None }),
            "shared" if Path::new(path).is_absolute() => {
                let mut shared = SharedOptions { observes, ..SharedOptions::at(path) };
                if let Some(days) = history_days {
                    shared.retention = retention(days);
                }
                Ok(Self { bytes, shared: Some(shared) })
            }
            "shared" => {
                let expected = "an absolute path, such as shared:/var/lib/llmquota";
                Err(Error::invalid(Code::InvalidConfig, "store", store, expected))
            }
            _ => Err(invalid()),
        }
    }
}

/// Rows and hours for so many days, days for at least 400; all of them for ever where it is 0.
fn retention(days: u32) -> Retention {
    if days == 0 {
        return Retention { rows: Duration::MAX, hours: Duration::MAX, days: Duration::MAX };
    }
    let rows = Duration::from_secs(u64::from(days) * DAY);
    Retention { rows, hours: rows, days: rows.max(Retention::default().days) }
}

fn size_of(text: &str) -> Option<usize> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}
