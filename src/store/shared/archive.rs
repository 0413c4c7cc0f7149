//! History as the region asks it: what is kept of accounts that have no row. Each process reads through a connection of its own,
//! a forked child too: its parent's mutex may be held by a thread that the child does not have.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::caretaker::{Caretaker, FileId, file_of};
use crate::account::{AccountId, Scope};
use crate::error::Result;
use crate::store::history::{Listed, Reader, Saved};
use crate::store::region::{Elsewhere, fork_generation};

/// The connection of one process.
#[derive(Debug, Default)]
struct Own {
    generation: u64,
    reader: Mutex<Option<(Reader, FileId)>>,
}

/// The history of one store, to be read.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    own: ArcSwap<Own>,
    caretaker: OnceLock<Caretaker>,
}

impl Archive {
    pub(crate) fn new(path: &Path) -> Self {
        let own = Own { generation: fork_generation(), reader: Mutex::new(None) };
        Self { path: path.to_owned(), own: ArcSwap::from_pointee(own), caretaker: OnceLock::new() }
    }

    /// Who carries what happened into this history.
    pub(crate) fn caretaker(&self) -> Option<&Caretaker> {
        self.caretaker.get()
    }

    pub(crate) fn employ(&self, caretaker: Caretaker) {
        // There is one for each store, set when it is opened.
        let _first = self.caretaker.set(caretaker);
    }

    fn own(&self) -> Arc<Own> {
        let generation = fork_generation();
        let found = self.own.load_full();
        if found.generation == generation {
            return found;
        }
        let fresh = Arc::new(Own { generation, reader: Mutex::new(None) });
        self.own.compare_and_swap(&found, fresh);
        self.own.load_full()
    }

    /// Asks, through this process's connection.
    ///
    /// # Errors
    /// Those of the reader. A connection that failed is opened anew for the next question.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        let own = self.own();
        let mut place = own.reader.lock();
        let file = file_of(&self.path);
        let reader = match place.take() {
            // One of that name may have been deleted since, or put back.
            Some((reader, of)) if of == file => reader,
            _ => Reader::open(&self.path)?,
        };
        let answer = ask(&reader);
        if answer.is_ok() {
            *place = Some((reader, file));
        }
        answer
    }
}

impl Elsewhere for Archive {
    fn saved(&self, accounts: &[AccountId<'_>], wall: i64) -> Result<Vec<Option<Saved>>> {
        self.read(|reader| reader.saved(accounts, wall))
    }

    fn accounts(&self, scope: Scope, owner: &str, wall: i64) -> Result<Vec<Listed>> {
        self.read(|reader| reader.accounts(scope, owner, wall))
    }

    fn follow(&self) -> Result<()> {
        self.caretaker.get().map_or(Ok(()), Caretaker::follow)
    }

    fn arrived(&self) {
        if let Some(caretaker) = self.caretaker.get() {
            caretaker.begin();
        }
    }
}
