//! The arena: blocks of 1, 4, 16 or 64 lines, for rings and for the rest of long names.

use super::attempt::Growing;
use super::held::{Held, RING_SIZES};
use super::layout::{bucket, head, row};
use super::log::Writes;
use crate::rules::windows::MINUTE_BUCKETS;

use super::held::Ring;

/// How many rows a search for expired rings looks at.
const SWEEP: usize = 256;

/// A free block. The batch that uses it takes it in the same commit, so that no block is ever nobody's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Its first line.
    pub(super) line: u32,
    /// The word that says it is free, and what that becomes.
    taken: (usize, u64),
}

impl Block {
    /// Notes that it is in use.
    pub(super) fn take(&self, writes: &mut Writes<'_>) {
        writes.put(self.taken.0, self.taken.1);
    }
}

impl Held<'_> {
    /// A free block of a size class; `None` where the arena is full and no idle account has a ring to give back.
    pub(super) fn find_block(&self, class: usize) -> Option<Block> {
        if let Some(block) = self.free_block(class) {
            return Some(block);
        }
        self.give_back_expired_rings();
        self.free_block(class).or_else(|| self.split(class))
    }

    /// A block cut from a larger free one, whose parts go to the free lists. Parts are never made one again: a ring that
    /// finds no large block makes its oldest buckets one instead.
    fn split(&self, class: usize) -> Option<Block> {
        let free = |class: usize| self.load(head::LINES_FREE + class);
        let larger = (class + 1..RING_SIZES.len()).find(|larger| free(*larger) != 0)?;
        let cut = free(larger) as u32;
        let mut writes = self.writes();
        writes.put(head::LINES_FREE + larger, self.load(self.line(cut)));
        for (smaller, size) in RING_SIZES.into_iter().enumerate().take(larger).skip(class) {
            // Each size is a quarter of the next: three quarters are left, and the fourth is cut on.
            let mut first = free(smaller);
            for part in 1..=3 {
                // Only a damaged region's list leads past the end.
                let at = cut.checked_add(u32::try_from(part * size).ok()?)?;
                writes.put(self.line(at), first);
                first = u64::from(at);
            }
            if smaller == class {
                writes.put(self.line(cut), first);
                first = u64::from(cut);
            }
            writes.put(head::LINES_FREE + smaller, first);
        }
        if writes.commit() { self.free_block(class) } else { None }
    }

    fn free_block(&self, class: usize) -> Option<Block> {
        let size = *RING_SIZES.get(class)?;
        let first = self.load(head::LINES_FREE + class) as u32;
        if first != 0 {
            let next = self.load(self.line(first));
            return Some(Block { line: first, taken: (head::LINES_FREE + class, next) });
        }
        let used = self.load(head::LINES_USED) as usize;
        let fits = used + size <= self.map().lines.count() && self.is_backed(Growing::Lines, (used + size - 1) as u64);
        let line = u32::try_from(used + 1).ok().filter(|_| fits)?;
        Some(Block { line, taken: (head::LINES_USED, (used + size) as u64) })
    }

    /// Notes that a block is free again; 0 is no block.
    pub(super) fn give_lines(&self, writes: &mut Writes<'_>, line: u32, class: usize) {
        if line != 0 && class < RING_SIZES.len() {
            writes.put(self.line(line), self.load(head::LINES_FREE + class));
            writes.put(head::LINES_FREE + class, u64::from(line));
        }
    }

    fn give_back_expired_rings(&self) {
        let used = self.load(head::ROWS_USED) as usize;
        let mut cursor = self.load(head::SWEEP_ROW) as usize;
        for _ in 0..SWEEP.min(used) {
            cursor = if cursor >= used { 1 } else { cursor + 1 };
            let base = self.row(cursor as u32);
            let ring = Ring::unpack(self.load(base + row::RING));
            if ring.line == 0 || self.load(base + row::HASH) == 0 {
                continue;
            }
            let expired = ring.len == 0
                || (self.load(self.bucket(ring, ring.len - 1) + bucket::SECOND) >> 24) as i64 + MINUTE_BUCKETS
                    <= self.now.second();
            if expired {
                let _done = self.drop_ring(base);
            }
        }
        self.store(head::SWEEP_ROW, cursor as u64);
    }
}
