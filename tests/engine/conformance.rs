//! The region passes the list of cases that every store must pass.

#![allow(clippy::unwrap_used, reason = "what fails to unwrap fails its test")]

use std::sync::Arc;

use llmquota::config::Config;
use llmquota::store::Store;
use llmquota::store::conformance::{CASES, START, Trial};
use llmquota::store::region::Region;
use llmquota::{Clock, ManualClock, Now};

struct OnRegion {
    region: Region,
    clock: ManualClock,
}

impl Trial for OnRegion {
    fn store(&self) -> &dyn Store {
        &self.region
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

#[test]
fn the_region_passes_every_case() {
    let make = |config: Config| -> Box<dyn Trial> {
        let clock = ManualClock::at(START);
        let region = Region::private(1 << 20, Arc::new(clock.clone()), Arc::new(config)).unwrap();
        Box::new(OnRegion { region, clock })
    };
    let failed: Vec<_> = CASES.iter().filter_map(|case| Some((case.name, case.run(&make).err()?))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(CASES.len() >= 18);
}
