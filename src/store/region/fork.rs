//! Tells a region that it finds itself in a forked child. The other file with `unsafe`.
#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();

/// How many forks lie between the first process and this one. One relaxed load.
pub(super) fn generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// From now on each child of this process counts one more.
pub(super) fn watch() {
    INSTALL.call_once(|| {
        #[cfg(unix)]
        {
            extern "C" fn in_child() {
                FORKS.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: the handler only touches an atomic, which is async-signal-safe, and lives as long as the program.
            // Where registering fails (no memory), children of raw `fork` are found by the binding's own at-fork hook.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        }
    });
}
