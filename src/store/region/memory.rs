//! The bytes of the region: words that threads share, and processes where they lie in a file. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::error::{Code, Error, Result};

/// Words of a cache line.
const LINE: usize = 8;

/// Words that begin at the start of a cache line. Pages are committed when first touched.
pub(super) struct Memory {
    first: NonNull<AtomicU64>,
    len: usize,
    origin: Origin,
}

enum Origin {
    Private {
        base: NonNull<u8>,
        layout: Layout,
    },
    #[cfg(target_os = "linux")]
    Mapped(mapped::Mapping),
}

impl Memory {
    /// Zeroed words of this process alone.
    ///
    /// # Errors
    /// [`Code::StoreFull`] where the address space is not to be had.
    pub(super) fn private(len: usize) -> Result<Self> {
        let full = || Error::new(Code::StoreFull, "size", format!("cannot map {len} words of memory for the store"));
        let layout = Layout::array::<AtomicU64>(len.checked_add(LINE).ok_or_else(full)?).map_err(|_| full())?;
        // SAFETY: the layout is not empty (LINE words at least). The allocator's own alignment is asked for, since only then
        // does it hand out untouched zero pages; the line is found below.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(full)?;
        let skip = base.as_ptr().align_offset(LINE * size_of::<AtomicU64>());
        // SAFETY: `align_offset` of at most 63 bytes stays inside the LINE spare words; zero is a valid AtomicU64.
        let first = unsafe { base.add(skip) }.cast::<AtomicU64>();
        Ok(Self { first, len, origin: Origin::Private { base, layout } })
    }

    /// The first `len` words of `file`, which every process that maps it shares. The file has that length already and stays
    /// sparse: see [`Memory::back`].
    ///
    /// # Errors
    /// [`Code::StoreDamaged`] where the file is shorter, [`Code::StoreFull`] where the address space is not to be had,
    /// [`Code::InvalidConfig`] on a system other than Linux.
    #[cfg(target_os = "linux")]
    pub(super) fn mapped(file: File, len: usize) -> Result<Self> {
        let mapping = mapped::Mapping::of(file, len)?;
        Ok(Self { first: mapping.first(), len, origin: Origin::Mapped(mapping) })
    }

    /// Not on this system.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn mapped(_file: File, _len: usize) -> Result<Self> {
        Err(Error::new(Code::InvalidConfig, "store", "shared: stores need Linux; use memory: or redis://"))
    }

    /// True where other processes may have the same words.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.origin, Origin::Private { .. })
    }

    /// Sees to it that these words have room on the disk, so that a full one is an error here and not a signal at the first
    /// write to them. Whole pages are backed; those that are already keep what they hold.
    ///
    /// Nobody may write to words that are not backed yet, so whoever backs some holds the region's lock, or is the only one to
    /// know of them.
    ///
    /// # Errors
    /// [`Code::StoreFull`] where the disk or a quota of it is full; the memory stays usable and the call may be repeated.
    /// [`Code::StoreDamaged`] where it is not whole any more, [`Code::InvalidConfig`] where its file system cannot promise
    /// room.
    #[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "private memory has no disk"))]
    pub(super) fn back(&self, words: Range<usize>) -> Result<()> {
        match &self.origin {
            Origin::Private { .. } => Ok(()),
            #[cfg(target_os = "linux")]
            Origin::Mapped(mapping) => mapping.back(words),
        }
    }

    /// True once an access found nothing under it, because the file was truncated or its disk failed, and was given zeros
    /// instead ([`super::truncated`]). One relaxed load.
    #[inline]
    pub(super) fn is_torn(&self) -> bool {
        match &self.origin {
            Origin::Private { .. } => false,
            #[cfg(target_os = "linux")]
            Origin::Mapped(mapping) => mapping.is_torn(),
        }
    }

    /// False once it is torn, or the file is shorter than the mapping: words are gone. A system call.
    pub(super) fn is_whole(&self) -> bool {
        match &self.origin {
            Origin::Private { .. } => true,
            #[cfg(target_os = "linux")]
            Origin::Mapped(mapping) => !self.is_torn() && mapping.has_its_length(),
        }
    }
}

impl Deref for Memory {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `first` points at `len` initialised atomics that live until drop, and atomics may be shared freely, also with
        // other processes: nothing but atomic operations ever touches them.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &self.origin {
            // SAFETY: `base` came from `alloc_zeroed` with this very layout, and nothing borrows from `self` any more.
            Origin::Private { base, layout } => unsafe { dealloc(base.as_ptr(), *layout) },
            #[cfg(target_os = "linux")]
            Origin::Mapped(_) => {}
        }
    }
}

// SAFETY: the words are atomics; the pointers are owned and freed once.
unsafe impl Send for Memory {}
// SAFETY: as above: a shared reference gives out `&[AtomicU64]` alone, and the mapping's own methods are system calls on it.
unsafe impl Sync for Memory {}

#[cfg(target_os = "linux")]
mod mapped {
    use std::fs::File;
    use std::ops::Range;
    use std::os::fd::{AsFd, AsRawFd};
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicU64;

    use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstat, seek};
    use rustix::io::{Errno, pwrite, retry_on_intr};
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    use rustix::param::page_size;

    use super::super::truncated::{self, Watched};
    use crate::error::{Code, Error, Result};

    /// The most that is allocated at a time: a file system may begin anew after each signal, and must get to an end between two.
    const STEP: u64 = 4 << 20;
    const ZEROS: [u8; 4096] = [0; 4096];

    /// A file in memory, unmapped when dropped.
    pub(super) struct Mapping {
        file: File,
        base: NonNull<std::ffi::c_void>,
        bytes: usize,
        /// Until the file is unmapped.
        watched: Option<Watched>,
    }

    impl Mapping {
        pub(super) fn of(file: File, words: usize) -> Result<Self> {
            let full = |why: &str| {
                let message = format!("cannot map {words} words of {}: {why}", name(&file));
                Error::new(Code::StoreFull, "size", message)
            };
            let bytes = words.checked_mul(size_of::<AtomicU64>()).ok_or_else(|| full("too many"))?;
            if size(&file)? < bytes as u64 {
                return Err(shortened(&file, bytes));
            }
            // SAFETY: without MAP_FIXED the kernel chooses a free place, so nothing that exists is touched. The pages are only
            // ever accessed as atomics, so that writes of other processes to the file are no data race.
            let base = unsafe {
                mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
            }
            .map_err(|error| full(&error.to_string()))?;
            let base = NonNull::new(base).ok_or_else(|| full("no address"))?;
            let mapping = Self { file, base, bytes, watched: Watched::new(base.as_ptr(), bytes) };
            if mapping.watched.is_none() {
                let why = format!("a process has at most {} stores open, of at most 1 TiB", truncated::MOST);
                return Err(Error::new(Code::StoreFull, "store", format!("{}: {why}", name(&mapping.file))));
            }
            Ok(mapping)
        }

        /// The first word. Page aligned, and so at the start of a cache line; any bytes are valid words.
        pub(super) fn first(&self) -> NonNull<AtomicU64> {
            self.base.cast()
        }

        pub(super) fn is_torn(&self) -> bool {
            self.watched.as_ref().is_some_and(Watched::is_torn)
        }

        pub(super) fn has_its_length(&self) -> bool {
            size(&self.file).is_ok_and(|size| size >= self.bytes as u64)
        }

        #[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "private memory has no disk"))]
        pub(super) fn back(&self, words: Range<usize>) -> Result<()> {
            let page = page_size();
            let bytes = |word: usize| word.saturating_mul(size_of::<AtomicU64>());
            // Whole pages: where a block is smaller than a page, the kernel asks for all blocks of the page at its first write.
            let start = bytes(words.start) / page * page;
            let end = bytes(words.end).min(self.bytes).next_multiple_of(page);
            if start >= end {
                return Ok(());
            }
            if self.is_torn() {
                return Err(torn(&self.file));
            }
            if !self.has_its_length() {
                return Err(shortened(&self.file, self.bytes));
            }
            let range = start as u64..end as u64;
            allocate(&self.file, range.clone()).map_err(|error| self.refused(error, &range))
        }

        fn refused(&self, error: Errno, range: &Range<u64>) -> Error {
            let file = name(&self.file);
            let bytes = range.end - range.start;
            match error {
                Errno::NOSPC => Error::new(
                    Code::StoreFull,
                    "store",
                    format!("{file} needs {bytes} bytes more and its disk is full; free disk space"),
                ),
                Errno::DQUOT => Error::new(
                    Code::StoreFull,
                    "store",
                    format!("{file} needs {bytes} bytes more than the disk quota of its user allows; free disk space"),
                ),
                Errno::OPNOTSUPP | Errno::INVAL => Error::new(
                    Code::InvalidConfig,
                    "store",
                    format!(
                        "the file system of {file} can neither allocate room nor tell where it has none; set \
                         LLMQUOTA_STORE to a directory on another, such as ext4, xfs or tmpfs"
                    ),
                ),
                error => Error::new(
                    Code::StoreFull,
                    "store",
                    format!("{file} needs {bytes} bytes more and did not get them ({error}); free disk space"),
                ),
            }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            self.watched = None;
            // SAFETY: these pages were mapped by `of`, are unmapped once, and the words borrow from the owner of `self`.
            let _ = unsafe { munmap(self.base.as_ptr(), self.bytes) };
        }
    }

    /// Gives this extent of the file room, without a change of its length: an allocation must not hide that it was truncated.
    ///
    /// Not `posix_fallocate`: where the file system cannot allocate, that of glibc reads a byte of each block and writes it
    /// back if it is zero, which undoes what another process wrote in between.
    pub(super) fn allocate(file: &File, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(STEP);
            match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, at, len)) {
                Ok(()) => at += len,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return fill_holes(file, at..range.end),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes zeros where the file has no data, for file systems that cannot allocate. A hole was never written to, and nobody
    /// writes to words that are not backed, so nothing is overwritten. A file system that cannot tell its holes calls all of
    /// a sparse file data, and is refused.
    pub(super) fn fill_holes(file: &File, range: Range<u64>) -> Result<(), Errno> {
        let stat = fstat(file)?;
        // Past the end of the file there is nothing to back: the mapping ends inside the last page.
        let end = range.end.min(u64::try_from(stat.st_size).unwrap_or(0));
        let is_sparse = stat.st_blocks.saturating_mul(512) < stat.st_size;
        if is_sparse && seek(file.as_fd(), SeekFrom::Hole(0))? >= u64::try_from(stat.st_size).unwrap_or(0) {
            return Err(Errno::OPNOTSUPP);
        }
        let mut at = range.start;
        while at < end {
            let hole = seek(file.as_fd(), SeekFrom::Hole(at))?;
            let data = match seek(file.as_fd(), SeekFrom::Data(hole)) {
                Ok(data) => data,
                // There is no data after this hole.
                Err(Errno::NXIO) => end,
                Err(error) => return Err(error),
            };
            at = hole.max(at);
            while at < data.min(end) {
                let len = usize::try_from(data.min(end) - at).unwrap_or(usize::MAX).min(ZEROS.len());
                let written = retry_on_intr(|| pwrite(file, ZEROS.get(..len).unwrap_or_default(), at))?;
                at += written.max(1) as u64;
            }
            at = at.max(data);
        }
        Ok(())
    }

    fn size(file: &File) -> Result<u64> {
        let stat = retry_on_intr(|| fstat(file)).map_err(|error| {
            Error::new(Code::StoreDamaged, "store", format!("{} tells nothing of itself: {error}", name(file)))
        })?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn shortened(file: &File, bytes: usize) -> Error {
        let has = size(file).unwrap_or(0);
        let message = format!("{} is truncated: it has {has} of {bytes} bytes", name(file));
        Error::new(Code::StoreDamaged, "store", message)
    }

    fn torn(file: &File) -> Error {
        let message = format!("{} has lost a page: it was truncated, or its disk was full or failed", name(file));
        Error::new(Code::StoreDamaged, "store", message)
    }

    /// The file's path for messages, as the kernel knows it.
    fn name(file: &File) -> String {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .map_or_else(|_| "the store's file".to_owned(), |path| path.display().to_string())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
