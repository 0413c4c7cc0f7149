//! Locks of the operating system on single bytes of a file: the kernel frees them when their process dies, however it dies, and
//! so tells who lives. One of the files with `unsafe`.
//!
//! They are "open file description" locks: they belong to what `open` returned, not to the process. Two stores of one process
//! exclude each other, no other code's `close` lets go of them; and a forked child has its parent's until it closes them.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::place;
use crate::error::{Code, Error, Result};

/// The descriptor of one that is closed.
const CLOSED: i32 = -1;
const SHORTEST_NAP: Duration = Duration::from_micros(200);
const LONGEST_NAP: Duration = Duration::from_millis(10);

/// The byte locks of one opening of a file. All are let go of when it is dropped or its process ends.
#[derive(Debug)]
pub(super) struct Locks {
    path: PathBuf,
    descriptor: AtomicI32,
}

impl Locks {
    /// Opens the file, which is made where it is missing ([`place::create`]: with the rights that the directory gives). It is
    /// not handed on to other programs that this process starts.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] where it cannot be opened for writing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = place::create(path).map_err(|error| {
            let message = format!(
                "{} cannot be opened: {error}; let this user write there, or set LLMQUOTA_STORE to another directory",
                path.display()
            );
            Error::new(Code::InvalidConfig, "store", message)
        })?;
        Ok(Self { path: path.to_owned(), descriptor: AtomicI32::new(file.into_raw_fd()) })
    }

    /// Locks this byte if nobody else has; true also where this opening has it already.
    ///
    /// # Errors
    /// [`Code::StoreBusy`] where the kernel gives no locks, or in a child that has closed its parent's.
    pub(super) fn try_lock(&self, byte: u64) -> Result<bool> {
        match self.call(libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Locks this byte, trying for at most `bound`; false where somebody else has kept it.
    ///
    /// # Errors
    /// As [`Locks::try_lock`].
    pub(super) fn lock_for(&self, byte: u64, bound: Duration) -> Result<bool> {
        let began = Instant::now();
        let mut nap = SHORTEST_NAP;
        loop {
            if self.try_lock(byte)? {
                return Ok(true);
            }
            let left = bound.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(nap.min(left));
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }

    /// Lets go of this byte, whether or not it was locked.
    ///
    /// # Errors
    /// As [`Locks::try_lock`].
    pub(super) fn unlock(&self, byte: u64) -> Result<()> {
        self.call(libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(|_| ()).map_err(|error| self.refused(&error))
    }

    /// True while another opening of the file, of this process or of another that lives, has this byte.
    ///
    /// # Errors
    /// As [`Locks::try_lock`].
    pub(super) fn is_locked_by_another(&self, byte: u64) -> Result<bool> {
        let found = self.call(libc::F_OFD_GETLK, libc::F_WRLCK, byte).map_err(|error| self.refused(&error))?;
        Ok(found != libc::F_UNLCK)
    }

    /// What no other file shares with the one that is open, even where its name now leads to another: device and inode.
    ///
    /// # Errors
    /// As [`Locks::try_lock`].
    pub(super) fn identity(&self) -> Result<(u64, u64)> {
        let descriptor = self.descriptor.load(Ordering::Acquire);
        // Through the descriptor itself, which may be closed by a fork at any time: no borrow of it outlives the call.
        let meta = std::fs::metadata(format!("/proc/self/fd/{descriptor}")).map_err(|error| self.refused(&error))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Closes a forked child's copy, so that its parent's locks end with the parent. Every other method then fails.
    ///
    /// Safe in a signal handler and between fork and exec: one swap, one system call.
    pub(super) fn close_in_child(&self) {
        let descriptor = self.descriptor.swap(CLOSED, Ordering::AcqRel);
        if descriptor != CLOSED {
            // SAFETY: the descriptor was this value's own, and the swap has given it to this call alone.
            let _ = unsafe { libc::close(descriptor) };
        }
    }

    /// The type of lock that the kernel answers with.
    fn call(&self, command: i32, kind: i32, byte: u64) -> std::io::Result<i32> {
        let descriptor = self.descriptor.load(Ordering::Acquire);
        if descriptor == CLOSED {
            return Err(std::io::Error::other("this process is a forked child, which must open the store anew"));
        }
        let at = libc::off_t::try_from(byte).map_err(std::io::Error::other)?;
        // SAFETY: `flock` is plain integers, of which all zeros is a value. The kernel wants `l_pid` to be zero.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = at;
        lock.l_len = 1;
        loop {
            // SAFETY: these commands read, and F_OFD_GETLK writes, the one `flock` that is pointed to.
            if unsafe { libc::fcntl(descriptor, command, &raw mut lock) } == 0 {
                return Ok(i32::from(lock.l_type));
            }
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn refused(&self, error: &std::io::Error) -> Error {
        Error::new(Code::StoreBusy, "store", format!("no lock is to be had on {}: {error}", self.path.display()))
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.close_in_child();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read, Write};

    use super::*;

    /// A child that one test forks has the open files of those that run beside it.
    static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    /// A file for locks, gone when dropped.
    struct Place(PathBuf, #[expect(dead_code, reason = "it is held")] parking_lot::MutexGuard<'static, ()>);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("llmquota-locks-{}-{name}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self(path, ONE_AT_A_TIME.lock())
        }

        fn open(&self) -> Locks {
            Locks::open(&self.0).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A forked process that is killed when dropped, whoever's child it is.
    struct Process(libc::pid_t);

    impl Process {
        /// Forks; the child runs `act` and then waits to be killed.
        fn fork(act: impl FnOnce()) -> Self {
            // SAFETY: the child runs `act` and never returns to the test harness. What `act` needs of the C library works in a
            // forked child of Linux.
            let child = unsafe { libc::fork() };
            assert!(child >= 0, "no fork");
            if child == 0 {
                let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
                // SAFETY: `alarm` ends a child that outlives its test, `pause` waits, `_exit` ends the process at once.
                unsafe {
                    if acted.is_ok() {
                        libc::alarm(60);
                        libc::pause();
                    }
                    libc::_exit(1)
                }
            }
            Self(child)
        }

        fn kill(&self) {
            // SAFETY: a process of this test; its status is not asked for.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), 0);
            }
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            self.kill();
        }
    }

    fn tell(mut pipe: &PipeWriter, number: i32) {
        pipe.write_all(&number.to_le_bytes()).unwrap();
    }

    fn hear(mut pipe: &PipeReader) -> i32 {
        let mut number = [0; 4];
        pipe.read_exact(&mut number).unwrap();
        i32::from_le_bytes(number)
    }

    /// Whether nobody has it any more. A moment is given to processes that other tests fork: they have all open files of this
    /// one until they end.
    fn is_free(locks: &Locks, byte: u64) -> bool {
        let free = locks.lock_for(byte, Duration::from_secs(10)).unwrap();
        locks.unlock(byte).unwrap();
        free
    }

    #[test]
    fn each_byte_has_one_owner() {
        let place = Place::new("bytes");
        let (one, other) = (place.open(), place.open());
        assert!(one.try_lock(3).unwrap() && one.try_lock(3).unwrap());
        assert!(!other.try_lock(3).unwrap() && other.try_lock(4).unwrap());
        assert!(other.is_locked_by_another(3).unwrap() && !one.is_locked_by_another(3).unwrap());
        assert!(one.is_locked_by_another(4).unwrap() && !one.is_locked_by_another(5).unwrap());
        one.unlock(3).unwrap();
        assert!(other.try_lock(3).unwrap());
        drop(other);
        assert!(one.try_lock(3).unwrap() && one.try_lock(4).unwrap());
    }

    #[test]
    fn waiting_ends_with_the_lock_or_at_the_bound() {
        let place = Place::new("bound");
        let (one, other) = (place.open(), place.open());
        assert!(one.try_lock(0).unwrap());
        let began = Instant::now();
        assert!(!other.lock_for(0, Duration::from_millis(30)).unwrap());
        assert!(began.elapsed() >= Duration::from_millis(30) && began.elapsed() < Duration::from_secs(5));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| other.lock_for(0, Duration::from_secs(30)).unwrap());
            std::thread::sleep(Duration::from_millis(20));
            one.unlock(0).unwrap();
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn the_kernel_tells_of_a_death() {
        let place = Place::new("death");
        let locks = place.open();
        let (hears, tells) = std::io::pipe().unwrap();
        let owner = Process::fork(|| {
            let locks = std::mem::ManuallyDrop::new(place.open());
            tell(&tells, i32::from(locks.try_lock(7).unwrap()));
        });
        assert_eq!(hear(&hears), 1);
        assert!(locks.is_locked_by_another(7).unwrap() && !locks.try_lock(7).unwrap());
        owner.kill();
        assert!(is_free(&locks, 7) && !locks.is_locked_by_another(7).unwrap());
    }

    /// Forks a parent with byte 9 and its child, which closes the parent's locks or does not, kills the parent, and gives what
    /// `ask` says while the child lives.
    fn after_the_parent(name: &str, closes: bool, ask: impl FnOnce(&Locks) -> bool) -> bool {
        let place = Place::new(name);
        let locks = place.open();
        let (hears, tells) = std::io::pipe().unwrap();
        let parent = Process::fork(|| {
            let locks = std::mem::ManuallyDrop::new(place.open());
            assert!(locks.try_lock(9).unwrap());
            let child = std::mem::ManuallyDrop::new(Process::fork(|| {
                if closes {
                    locks.close_in_child();
                    assert_eq!(locks.try_lock(9).unwrap_err().code(), Code::StoreBusy);
                    assert!(locks.unlock(9).is_err() && locks.is_locked_by_another(9).is_err());
                    locks.close_in_child();
                }
                tell(&tells, 1);
            }));
            tell(&tells, child.0);
        });
        // The child's pid and that it is ready, in either order; no process of a test is number 1.
        let child = Process([hear(&hears), hear(&hears)].into_iter().max().unwrap());
        assert!(locks.is_locked_by_another(9).unwrap());
        parent.kill();
        let answer = ask(&locks);
        // SAFETY: asks whether the child is there.
        assert_eq!(unsafe { libc::kill(child.0, 0) }, 0, "the child has died as well");
        drop(child);
        assert!(is_free(&locks, 9));
        answer
    }

    #[test]
    fn a_child_that_closes_its_copy_does_not_keep_its_parents_lock() {
        assert!(after_the_parent("closed", true, |locks| is_free(locks, 9)));
    }

    /// Why [`Locks::close_in_child`] is there: a slot would look alive as long as any child of its owner lives.
    #[test]
    fn a_child_that_does_not_close_its_copy_keeps_its_parents_lock() {
        assert!(after_the_parent("kept", false, |locks| locks.is_locked_by_another(9).unwrap()));
    }

    #[test]
    fn another_program_does_not_inherit_the_locks() {
        let place = Place::new("exec");
        let (one, other) = (place.open(), place.open());
        assert!(one.try_lock(1).unwrap());
        let mut program = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(one);
        let free = is_free(&other, 1);
        assert!(program.try_wait().unwrap().is_none(), "the program has ended before it was asked about");
        program.kill().unwrap();
        program.wait().unwrap();
        assert!(free);
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_named_with_its_setting() {
        let error = Locks::open(Path::new("/proc/self/status/lock")).unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfig);
        assert!(
            error.message().contains("/proc/self/status/lock") && error.message().contains("LLMQUOTA_STORE"),
            "{error}"
        );
    }
}
