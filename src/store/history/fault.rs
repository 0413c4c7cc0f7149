//! What can go wrong below, and how it is told: SQLite's result codes as errors of the engine that name the file.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use crate::error::{Code, Error};

/// A failure of SQLite, which does not know yet in which file, or one that says all.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    Told(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Told(error)
    }
}

impl Fault {
    /// Something in the file is not what we wrote.
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Fault::Told(Error::new(Code::StoreDamaged, "store", what))
    }

    /// The error to hand out.
    pub(super) fn told(self, path: &Path) -> Error {
        match self {
            Fault::Told(error) => error,
            Fault::Sql(error) => {
                let (code, why) = judged(&error);
                Error::new(code, "store", format!("{}: {why}", path.display()))
            }
        }
    }
}

fn judged(error: &rusqlite::Error) -> (Code, String) {
    let full = "the disk that holds it is full; nothing is lost as long as the journal has room, but make room soon";
    let Some(failed) = error.sqlite_error() else {
        return (Code::StoreDamaged, format!("it holds what this version cannot read ({error})"));
    };
    match failed.code {
        ErrorCode::DiskFull => (Code::StoreFull, full.to_owned()),
        // On a memory file system the index of the log is what meets the bound first.
        ErrorCode::SystemIoFailure if failed.extended_code == SQLITE_IOERR_SHMSIZE => {
            (Code::StoreFull, full.to_owned())
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            (Code::StoreBusy, "another process has been writing it for too long".to_owned())
        }
        ErrorCode::NotADatabase => (Code::StoreDamaged, "this is no SQLite database; it was left as it is".to_owned()),
        ErrorCode::DatabaseCorrupt => (Code::StoreDamaged, format!("it is damaged ({error}); restore a copy of it")),
        ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            let why = format!("it cannot be opened ({error}); look at its owner, its permissions and its directory");
            (Code::StoreDamaged, why)
        }
        ErrorCode::SystemIoFailure => (Code::StoreDamaged, format!("the disk that holds it fails ({error})")),
        _ => (Code::StoreDamaged, format!("SQLite refused ({error})")),
    }
}
