//! A file that is cut off while it is mapped: the kernel then answers an access to what is gone with SIGBUS, of which a process
//! dies. Here the access finds a page of zeros instead, and the mapping is marked: its memory says that it is not whole, and the
//! region that it is damaged, while the backend lives on. The same goes for a page that the disk cannot read, or has no room to
//! write.
//!
//! The handler is installed with the first mapping, and hands on what is not its own to the handler that was there before. One
//! that is installed later comes first, and hands on to this one if it will: that of Python's `faulthandler` does not, but kills
//! the process. Enabled at the start (`PYTHONFAULTHANDLER=1`, `-X faulthandler`) it is the one before, and both do their work.
//!
//! One of the files with `unsafe`.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::param::page_size;

/// The most mappings of one process.
pub(super) const MOST: usize = 256;

/// The mappings of this process. The handler may run at any time, in any thread, and must not wait: so each is one word.
static RANGES: [Range; MOST] = [const { Range::new() }; MOST];

#[derive(Debug)]
struct Range {
    /// Number of the first page << [`COUNT_BITS`] | how many pages; 0 for none. A reader sees all of a range or nothing.
    pages: AtomicU64,
    /// The handler had to put a page of zeros in.
    torn: AtomicBool,
}

const COUNT_BITS: u32 = 28;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl Range {
    const fn new() -> Self {
        Self { pages: AtomicU64::new(0), torn: AtomicBool::new(false) }
    }

    fn has(&self, page: u64) -> bool {
        let pages = self.pages.load(Ordering::Acquire);
        page.checked_sub(pages >> COUNT_BITS).is_some_and(|nth| nth < pages & COUNT_MASK)
    }
}

/// One mapping that the handler knows of, until dropped. Dropped before it is unmapped: its addresses may be anybody's then.
#[derive(Debug)]
pub(super) struct Watched(&'static Range);

impl Watched {
    /// Watches `bytes` from `base`, the start of a page. `None` where [`MOST`] are watched already, or for more bytes than a
    /// range can tell (1 TiB with pages of 4 KiB).
    pub(super) fn new(base: *const c_void, bytes: usize) -> Option<Self> {
        install();
        let page = page_size();
        let (first, count) = ((base.addr() / page) as u64, bytes.div_ceil(page) as u64);
        if count == 0 || count > COUNT_MASK || first >> (u64::BITS - COUNT_BITS) != 0 {
            return None;
        }
        let pages = first << COUNT_BITS | count;
        let take = |range: &Range| range.pages.compare_exchange(0, BEING_TAKEN, Ordering::Acquire, Ordering::Relaxed);
        let range = RANGES.iter().find(|range| take(range).is_ok())?;
        range.torn.store(false, Ordering::Relaxed);
        range.pages.store(pages, Ordering::Release);
        Some(Self(range))
    }

    /// True once an access found nothing under it.
    #[inline]
    pub(super) fn is_torn(&self) -> bool {
        self.0.torn.load(Ordering::Relaxed)
    }
}

/// A range of no pages, which is not free either.
const BEING_TAKEN: u64 = 1 << COUNT_BITS;

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.pages.store(0, Ordering::Release);
    }
}

/// What handled SIGBUS before; set before the handler is there.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
/// Bytes of a page, for the handler.
static PAGE: AtomicUsize = AtomicUsize::new(0);

fn install() {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        PAGE.store(page_size(), Ordering::Relaxed);
        // SAFETY: all zeros is a value of `sigaction`: the default handler, no flags. Both calls read and write what is pointed
        // to alone, and fail for no reason but a wrong pointer or number. The handler is a function of the kind that SA_SIGINFO
        // announces, and does only what a signal handler may (see there).
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before);
            let _ = BEFORE.set(before);
            let mut mine: libc::sigaction = std::mem::zeroed();
            mine.sa_sigaction = handle as *const () as usize;
            // On the alternate stack where the thread has one, as the Rust runtime's own handler: that one tells overflows.
            mine.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&raw mut mine.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const mine, std::ptr::null_mut());
        }
    });
}

/// Runs in the thread that faults, at any instruction of it: no lock, no allocation, and `errno` as it was.
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands over a valid `info`; the address of `errno` is this thread's own.
    let (code, address, errno) = unsafe { ((*info).si_code, (*info).si_addr(), libc::__errno_location()) };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    // Other codes have no address, as one that a process sent, or are mended by no page, as a wrong alignment.
    let is_access = code == libc::BUS_ADRERR || code == libc::BUS_MCEERR_AR;
    if !(is_access && mend(address.addr())) {
        hand_on(signal, code, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = kept };
}

/// Puts a page of zeros where the address lies, if it is one of ours.
fn mend(address: usize) -> bool {
    let size = PAGE.load(Ordering::Relaxed);
    let Some(page) = address.checked_div(size) else { return false };
    let Some(range) = RANGES.iter().find(|range| range.has(page as u64)) else { return false };
    range.torn.store(true, Ordering::Relaxed);
    let start = std::ptr::without_provenance_mut(page * size);
    // SAFETY: the page is one of a mapping of ours, and stays that: the thread that faults has a reference to it, so that it is
    // not unmapped meanwhile. It had no bytes (of the file's end or the disk), so none are lost; two threads that fault at once
    // may lose each other's first write, in a memory that is not to be believed any more. The call is a bare system call, which
    // takes no lock of this process: it may be made from a signal handler.
    let mapped =
        unsafe { mmap_anonymous(start, size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED) };
    mapped.is_ok()
}

fn hand_on(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.get();
    let handler = before.map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    let is_sent = code <= 0;
    match before {
        Some(before) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                type Informed = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                // SAFETY: whoever installed it said by SA_SIGINFO that it is a function of this kind.
                unsafe { std::mem::transmute::<usize, Informed>(handler)(signal, info, context) };
            } else {
                // SAFETY: without SA_SIGINFO it is one of this kind.
                unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal) };
            }
        }
        // An access cannot be ignored: the kernel ends the process then.
        _ if handler == libc::SIG_IGN && is_sent => {}
        _ => {
            // SAFETY: both may be called from a signal handler. The access is made again and ends the process, with a core that
            // shows where; what was sent is sent again, and ends it when the handler returns.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if is_sent {
                    libc::raise(signal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use rustix::fs::{Mode, OFlags};

    use super::super::memory::Memory;
    use super::*;
    use crate::error::Code;

    const INSIDE: &str = "LLMQUOTA_TEST_TRUNCATED";
    const WORDS: usize = 1 << 14;

    /// Runs the test of this name again in a process of its own, whose signals are its own; `None` in that process.
    fn outcome(test: &str) -> Option<ExitStatus> {
        if std::env::var_os(INSIDE).is_some() {
            return None;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("store::region::truncated::tests::{test}"), "--nocapture"])
            .env(INSIDE, test)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains("running 1 test"), "{said}");
        assert!(output.status.success() || !said.contains("panicked"), "{said}");
        Some(output.status)
    }

    fn mapped() -> (File, Memory) {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR).unwrap());
        file.set_len(WORDS as u64 * 8).unwrap();
        let memory = Memory::mapped(file.try_clone().unwrap(), WORDS).unwrap();
        (file, memory)
    }

    /// Touches a file that was cut off and is mapped by nobody who watches it.
    fn touch_what_is_not_ours() {
        let (file, _memory) = mapped();
        let (read, shared) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: the kernel chooses the place; the page is read by one volatile access, which is to fail.
        unsafe {
            let foreign = rustix::mm::mmap(std::ptr::null_mut(), 4096, read, shared, &file, 0).unwrap();
            file.set_len(0).unwrap();
            foreign.cast::<u64>().read_volatile();
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_told_and_nobody_dies() {
        let Some(status) = outcome("a_file_that_is_cut_off_is_told_and_nobody_dies") else {
            let ((file, memory), (_kept, whole)) = (mapped(), mapped());
            memory.iter().for_each(|word| word.store(7, Ordering::Relaxed));
            file.set_len(4096).unwrap();
            assert!(!memory.is_torn() && !memory.is_whole());
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| memory.iter().rev().for_each(|word| _ = word.fetch_add(1, Ordering::Relaxed)));
                }
            });
            let (first, last) = (memory[511].load(Ordering::Relaxed), memory[WORDS - 1].load(Ordering::Relaxed));
            assert!(first == 11 && (1..=4).contains(&last), "{first} and {last}");
            assert!(memory.is_torn() && !whole.is_torn() && whole.is_whole());
            // The place of a mapping that was torn serves another, which is whole.
            drop(memory);
            let (_file, next) = mapped();
            assert!(!next.is_torn() && next.is_whole());
            return;
        };
        assert!(status.success(), "{status}");
    }

    #[test]
    fn an_access_that_is_not_ours_still_kills() {
        let Some(status) = outcome("an_access_that_is_not_ours_still_kills") else { return touch_what_is_not_ours() };
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }

    #[test]
    fn a_signal_that_is_sent_still_kills() {
        let Some(status) = outcome("a_signal_that_is_sent_still_kills") else {
            // SAFETY: without the handler of the Rust runtime, which forgets what is sent once.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
            let _mapped = mapped();
            // SAFETY: ends this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGBUS) };
            std::thread::sleep(std::time::Duration::from_secs(5));
            return;
        };
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }

    extern "C" fn leave(_signal: c_int) {
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(42) }
    }

    #[test]
    fn the_handler_before_ours_gets_what_is_not_ours() {
        let Some(status) = outcome("the_handler_before_ours_gets_what_is_not_ours") else {
            // SAFETY: the handler may be called at any time.
            unsafe { libc::signal(libc::SIGBUS, leave as *const () as usize) };
            return touch_what_is_not_ours();
        };
        assert_eq!(status.code(), Some(42), "{status}");
    }

    #[test]
    fn more_mappings_than_can_be_watched_are_refused() {
        let Some(status) = outcome("more_mappings_than_can_be_watched_are_refused") else {
            let all: Vec<_> = (0..MOST).map(|_| mapped()).collect();
            let file = all[0].0.try_clone().unwrap();
            let error = Memory::mapped(file.try_clone().unwrap(), WORDS).err().unwrap();
            assert_eq!((error.code(), error.field()), (Code::StoreFull, "store"));
            drop(all);
            Memory::mapped(file, WORDS).unwrap();
            return;
        };
        assert!(status.success(), "{status}");
    }

    #[test]
    fn a_range_has_its_pages_alone() {
        let range = Range::new();
        assert!(!range.has(0) && !range.has(1));
        range.pages.store(BEING_TAKEN, Ordering::Relaxed);
        assert!(!range.has(0) && !range.has(1));
        range.pages.store(7 << COUNT_BITS | 2, Ordering::Relaxed);
        assert_eq!([6, 7, 8, 9].map(|page| range.has(page)), [false, true, true, false]);
        assert!(Watched::new(std::ptr::without_provenance(4096), 0).is_none());
        assert!(Watched::new(std::ptr::without_provenance(usize::MAX - 4095), 4096).is_none());
    }
}
