//! Where it happens: a directory with the store and the workers' logs, the clock that all of them read, and their limits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llmquota::config::{Config, LimitsFile};
use llmquota::store::history::Retention;
use llmquota::store::region::inspect::Inspector;
use llmquota::store::shared::SharedOptions;
use llmquota::{Clock, Manager, Now, Options, SystemClock};

/// The bound of a store: a journal of some ten thousand entries, and room for thirty records in each process's ring.
pub(crate) const USUAL: usize = 64 << 20;
/// One whose files are copied often.
pub(crate) const SMALL: usize = 8 << 20;

/// Small, so that calls that are open together fill them, and what is used fills them slowly.
const LIMITS: &str = r#"
[workspaces.daily]
tokens_per_day = 400
requests_per_day = 900
[workspaces.hourly]
requests_per_hour = 60
max_burst = 30
[workspaces.minutely]
requests_per_minute = 600
tokens_per_minute = 600
[workspaces.minutely.goals.g1]
tokens_per_minute = 250
[workspaces.narrow]
max_concurrent = 5
[workspaces.narrow.users.u0]
max_concurrent = 2
[workspaces.paid]
budget_usd_per_day = "0.01"
budget_usd_per_month = "0.03"
[providers.openai]
max_concurrent = 14
[providers.openai."gpt-4o"]
tokens_per_minute = 2_000
"#;

/// The workspaces with limits, and one without.
pub(crate) const WORKSPACES: [&str; 6] = ["daily", "hourly", "minutely", "narrow", "paid", "free"];

/// A clock whose calendar runs: a day passes in seconds, so that hours, days and months end under open holds. Both readings are
/// exact and rise together, so that no two batches share a time, and each wall time names its monotonic one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FastClock {
    mono: i64,
    wall: i64,
    pace: i64,
}

impl FastClock {
    /// Shows `wall` now.
    pub(crate) fn at(wall: i64, pace: i64) -> Self {
        Self { mono: SystemClock.exact().mono, wall, pace }
    }

    /// The monotonic time at which it showed this.
    pub(crate) fn mono_of(&self, wall: i64) -> i64 {
        self.mono + (wall - self.wall) / self.pace
    }
}

impl Clock for FastClock {
    fn coarse(&self) -> Now {
        self.exact()
    }

    fn exact(&self) -> Now {
        let mono = SystemClock.exact().mono;
        Now { wall: self.wall + (mono - self.mono) * self.pace, mono }
    }
}

/// The monotonic time (nanoseconds), the same in every process.
pub(crate) fn mono() -> i64 {
    SystemClock.exact().mono
}

#[derive(Debug, Clone)]
pub(crate) struct Stage {
    root: PathBuf,
    bytes: usize,
    pub(crate) clock: FastClock,
}

impl Stage {
    /// Sets one up in an empty directory.
    pub(crate) fn set_up(root: &Path, clock: FastClock, bytes: usize) -> Self {
        std::fs::create_dir(root.join("logs")).unwrap();
        let FastClock { mono, wall, pace } = clock;
        std::fs::write(root.join("settings"), format!("{bytes} {mono} {wall} {pace}")).unwrap();
        Self { root: root.to_owned(), bytes, clock }
    }

    /// The one that another process has set up.
    pub(crate) fn find(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("settings")).unwrap();
        let (bytes, times) = text.split_once(' ').unwrap();
        let mut times = times.split(' ').map(|time| time.parse().unwrap());
        let mut next = || times.next().unwrap();
        let clock = FastClock { mono: next(), wall: next(), pace: next() };
        Self { root: root.to_owned(), bytes: bytes.parse().unwrap(), clock }
    }

    /// How long a worker rests after each step: a store that is copied often is not to grow fast.
    pub(crate) fn rest(&self) -> Duration {
        if self.bytes == SMALL { Duration::from_micros(300) } else { Duration::ZERO }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.store().join("history.db")
    }

    pub(crate) fn region(&self) -> PathBuf {
        self.store().join("region")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Where this file is, everybody comes to an end.
    pub(crate) fn curtain(&self) -> PathBuf {
        self.root.join("curtain")
    }

    pub(crate) fn config() -> Config {
        Config::unlimited().with_file(LimitsFile::parse(LIMITS, "limits.toml").unwrap())
    }

    /// Opens the store, as a worker or as one who only looks.
    pub(crate) fn open(&self, observes: bool) -> llmquota::Result<Manager> {
        self.open_with(SharedOptions { observes, ..SharedOptions::at(self.store()) })
    }

    /// Opens it on a machine that was started anew.
    pub(crate) fn open_in_boot(&self, boot: u64) -> llmquota::Result<Manager> {
        self.open_with(SharedOptions { boot: Some(boot), ..SharedOptions::at(self.store()) })
    }

    fn open_with(&self, options: SharedOptions) -> llmquota::Result<Manager> {
        let retention = Retention { rows: Duration::MAX, ..Retention::default() };
        let shared = Some(SharedOptions { retention, ..options });
        let (clock, config) = (Arc::new(self.clock), Self::config());
        Manager::new(Options { bytes: self.bytes, clock, config, shared })
    }

    pub(crate) fn inspector(&self) -> Option<Inspector> {
        Inspector::open(&self.region()).ok()
    }
}
