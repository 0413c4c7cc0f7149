//! Sleep until a word changes, across processes: the kernel's futex on the word as it is mapped. Where there is none, whoever
//! waits looks again after a while. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The longest nap of who cannot be woken.
#[cfg(not(target_os = "linux"))]
const LOOK: Duration = Duration::from_millis(50);

/// The half of the word that the kernel compares: the low one, which changes with each step.
#[cfg(target_os = "linux")]
fn low_half(word: &AtomicU64) -> *mut u32 {
    word.as_ptr().cast::<u32>().wrapping_add(usize::from(cfg!(target_endian = "big")))
}

/// Sleeps while the low half of the word is that of `seen`, at most for `bound`. May return early for no reason.
pub(super) fn wait(word: &AtomicU64, seen: u64, bound: Duration) {
    #[cfg(target_os = "linux")]
    {
        let bound = libc::timespec {
            tv_sec: libc::time_t::try_from(bound.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: bound.subsec_nanos().into(),
        };
        // Not the private kind: another process wakes, by its own mapping.
        // SAFETY: the word outlives the call, the kernel reads its half atomically, and the bound is a valid time on this stack.
        unsafe {
            libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAIT, seen as u32, &raw const bound);
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _polled = (word, seen);
        std::thread::sleep(bound.min(LOOK));
    }
}

/// Wakes all that sleep on the word, in any process.
pub(super) fn wake(word: &AtomicU64) {
    #[cfg(target_os = "linux")]
    // SAFETY: waking reads nothing: the kernel takes the address for a name.
    unsafe {
        libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, i32::MAX);
    }
    #[cfg(not(target_os = "linux"))]
    let _polled = word;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_sleeper_is_woken_and_one_that_comes_late_does_not_sleep() {
        let word = AtomicU64::new(7);
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                word.fetch_add(1, Ordering::SeqCst);
                wake(&word);
            });
            while word.load(Ordering::SeqCst) == 7 {
                wait(&word, 7, Duration::from_secs(30));
            }
            wait(&word, 7, Duration::from_secs(30));
        });
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
