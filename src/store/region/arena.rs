//! The arena: blocks of 1, 4, 16 or 64 lines, for rings and for the rest of long names.

use super::attempt::Growing;
use super::held::{Held, RING_SIZES};
use super::layout::{bucket, head, row};
use crate::rules::windows::MINUTE_BUCKETS;

use super::held::Ring;

/// How many rows a search for expired rings looks at.
const SWEEP: usize = 256;

impl Held<'_> {
    /// A block of a size class; `None` where the arena is full and no idle account has a ring to give back.
    pub(super) fn take_lines(&self, class: usize) -> Option<u32> {
        if let Some(line) = self.pop_or_extend(class) {
            return Some(line);
        }
        self.give_back_expired_rings();
        self.pop_or_extend(class).or_else(|| self.split(class))
    }

    /// A block cut from a larger free one, whose other parts go to the free lists. Parts are never made one again: a ring that
    /// finds no large block makes its oldest buckets one instead.
    fn split(&self, class: usize) -> Option<u32> {
        let free = |class: usize| self.load(head::LINES_FREE + class);
        let larger = (class + 1..RING_SIZES.len()).find(|larger| free(*larger) != 0)?;
        let taken = free(larger) as u32;
        let mut writes = self.writes();
        writes.put(head::LINES_FREE + larger, self.load(self.line(taken)));
        for (smaller, size) in RING_SIZES.into_iter().enumerate().take(larger).skip(class) {
            // Each size is a quarter of the next: three quarters are left.
            let mut first = free(smaller);
            for part in 1..=3 {
                let at = taken + u32::try_from(part * size).ok()?;
                writes.put(self.line(at), first);
                first = u64::from(at);
            }
            writes.put(head::LINES_FREE + smaller, first);
        }
        writes.commit().then_some(taken)
    }

    fn pop_or_extend(&self, class: usize) -> Option<u32> {
        let size = *RING_SIZES.get(class)?;
        let mut writes = self.writes();
        let first = self.load(head::LINES_FREE + class) as u32;
        let taken = if first != 0 {
            writes.put(head::LINES_FREE + class, self.load(self.line(first)));
            first
        } else {
            let used = self.load(head::LINES_USED) as usize;
            if used + size > self.map().lines.count() || !self.is_backed(Growing::Lines, (used + size - 1) as u64) {
                return None;
            }
            writes.put(head::LINES_USED, (used + size) as u64);
            u32::try_from(used + 1).ok()?
        };
        writes.commit().then_some(taken)
    }

    /// Puts a block on the free list of its class; 0 is no block.
    pub(super) fn give_lines(&self, line: u32, class: usize) {
        if line == 0 || class >= RING_SIZES.len() {
            return;
        }
        let mut writes = self.writes();
        writes.put(self.line(line), self.load(head::LINES_FREE + class));
        writes.put(head::LINES_FREE + class, u64::from(line));
        // Two words always fit the log.
        let _done = writes.commit();
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
