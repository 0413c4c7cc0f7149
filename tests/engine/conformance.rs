//! Every store passes the list of cases that every store must pass.

#![allow(clippy::unwrap_used, reason = "what fails to unwrap fails its test")]

use std::sync::Arc;

use llmquota::config::Config;
use llmquota::store::Store;
use llmquota::store::conformance::{CASES, START, Trial};
use llmquota::store::shared::SharedOptions;
use llmquota::{Clock, Manager, ManualClock, Now, Options};

struct OnManager {
    manager: Manager,
    clock: ManualClock,
    _directory: Option<tempfile::TempDir>,
}

impl Trial for OnManager {
    fn store(&self) -> &dyn Store {
        self.manager.store()
    }

    fn now(&self) -> Now {
        self.clock.exact()
    }

    fn pass(&self, nanos: i64) {
        self.clock.advance(nanos);
    }

    fn set_wall(&self, wall: i64) {
        self.clock.set_wall(wall);
    }
}

fn run(shared: bool) {
    let make = |config: Config| -> Box<dyn Trial> {
        let clock = ManualClock::at(START);
        let directory = shared.then(|| tempfile::tempdir().unwrap());
        let shared = directory.as_ref().map(|directory| SharedOptions::at(directory.path()));
        let options = Options { bytes: 16 << 20, clock: Arc::new(clock.clone()), config, shared };
        Box::new(OnManager { manager: Manager::new(options).unwrap(), clock, _directory: directory })
    };
    let failed: Vec<_> = CASES.iter().filter_map(|case| Some((case.name, case.run(&make).err()?))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(CASES.len() >= 18);
}

#[test]
fn private_memory_passes_every_case() {
    run(false);
}

#[cfg(target_os = "linux")]
#[test]
fn a_shared_file_passes_every_case() {
    run(true);
}
