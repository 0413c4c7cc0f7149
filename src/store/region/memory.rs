//! The bytes of the region: words that threads (and later processes) share. One of the two files with `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::error::{Code, Error, Result};

/// Words of a cache line.
const LINE: usize = 8;

/// Zeroed words on private memory, the first of them at the start of a cache line. Pages are committed when first touched.
pub(super) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
    first: NonNull<AtomicU64>,
    len: usize,
}

impl Memory {
    pub(super) fn private(len: usize) -> Result<Self> {
        let full = || Error::new(Code::StoreFull, "size", format!("cannot map {len} words of memory for the store"));
        let layout = Layout::array::<AtomicU64>(len.checked_add(LINE).ok_or_else(full)?).map_err(|_| full())?;
        // SAFETY: the layout is not empty (LINE words at least). The allocator's own alignment is asked for, since only then
        // does it hand out untouched zero pages; the line is found below.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(full)?;
        let skip = base.as_ptr().align_offset(LINE * size_of::<AtomicU64>());
        // SAFETY: `align_offset` of at most 63 bytes stays inside the LINE spare words; zero is a valid AtomicU64.
        let first = unsafe { base.add(skip) }.cast::<AtomicU64>();
        Ok(Self { base, layout, first, len })
    }
}

impl Deref for Memory {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `first` points at `len` initialised atomics that live until drop, and atomics may be shared freely.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this very layout, and nothing borrows from `self` any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

// SAFETY: the words are atomics; the pointers are owned and freed once.
unsafe impl Send for Memory {}
// SAFETY: as above: a shared reference gives out `&[AtomicU64]` alone.
unsafe impl Sync for Memory {}
