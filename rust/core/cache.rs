// SPDX-License-Identifier: GPL-2.0

//! Clean metadata blocks, kept until memory is wanted.
//!
//! What the log has something of is in the journal, not here; so everything here is as it is at home, and may be dropped at any
//! time. Contents are shared and never changed in place: a reader keeps what it has although the cache lets go of it. Blocks are
//! dropped in the order of their numbers, round and round, those that were read since the last round excepted (a clock).
//!
//! A read from the device can race with a home write of the same block: the reader asks for the [`Cache::epoch`] before it reads
//! and offers what it has read with it; when a home write has been noted in between, the offer is refused and the reader reads
//! again. Epochs are counted for 16 buckets of blocks, so that who is busy elsewhere does not keep a reader reading.
//!
//! Locks: guarded by a lock of its own, a leaf.

use crate::error::Result;
use crate::memory::{Buffer, OrderedMap, Shared};
use crate::units::BlockNo;

/// Buckets of blocks, by the low bits of their numbers.
const BUCKETS: u64 = 16;

const fn bucket_of(block: BlockNo) -> usize {
    (block.0 % BUCKETS) as usize
}

struct Entry {
    content: Shared<Buffer>,
    used: bool,
}

/// The cache.
pub struct Cache {
    blocks: OrderedMap<BlockNo, Entry>,
    hand: BlockNo,
    epochs: [u64; BUCKETS as usize],
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    /// An empty cache.
    pub fn new() -> Self {
        Self { blocks: OrderedMap::new(), hand: BlockNo(0), epochs: [0; BUCKETS as usize] }
    }

    /// A block, if it is here.
    pub fn get(&mut self, block: BlockNo) -> Option<Shared<Buffer>> {
        let entry = self.blocks.get_mut(block)?;
        entry.used = true;
        Some(entry.content.clone())
    }

    /// The number of home writes noted so far in the block's bucket.
    pub fn epoch(&self, block: BlockNo) -> u64 {
        self.epochs.get(bucket_of(block)).copied().unwrap_or(0)
    }

    fn next_epoch(&mut self, block: BlockNo) {
        if let Some(epoch) = self.epochs.get_mut(bucket_of(block)) {
            *epoch = epoch.wrapping_add(1);
        }
    }

    /// A block that was read and verified after `epoch` was asked for. `Ok(false)`: a home write came between; read again.
    pub fn offer(&mut self, block: BlockNo, content: &Shared<Buffer>, epoch: u64) -> Result<bool> {
        if epoch != self.epoch(block) {
            return Ok(false);
        }
        self.blocks.insert(block, Entry { content: content.clone(), used: true })?;
        Ok(true)
    }

    /// A block has a new content at home, or soon will: `content`, if there was memory to keep it. What was read before is void.
    pub fn note_home_write(&mut self, block: BlockNo, content: Option<&Shared<Buffer>>) {
        self.next_epoch(block);
        self.blocks.remove(block);
        if let Some(content) = content {
            // Without memory the block is simply not cached.
            let _ = self.blocks.insert(block, Entry { content: content.clone(), used: true });
        }
    }

    /// A block has been changed in the log, or freed: what is here is stale.
    pub fn forget(&mut self, block: BlockNo) {
        self.next_epoch(block);
        self.blocks.remove(block);
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Drops up to `wanted` blocks that were not read since the hand last passed; returns how many.
    pub fn shrink(&mut self, wanted: usize) -> usize {
        let mut dropped = 0_usize;
        let mut looked = 0_usize;
        let limit = self.blocks.len().saturating_mul(2);
        while dropped < wanted && looked < limit && !self.blocks.is_empty() {
            looked = looked.saturating_add(1);
            let at = self.blocks.lower_bound(self.hand).map(|(block, _)| block);
            let Some(block) = at.or_else(|| self.blocks.first().map(|(block, _)| block)) else {
                break;
            };
            self.hand = block.next();
            match self.blocks.get_mut(block) {
                Some(entry) if entry.used => entry.used = false,
                _ => {
                    self.blocks.remove(block);
                    dropped = dropped.saturating_add(1);
                }
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(byte: u8) -> Shared<Buffer> {
        Shared::try_new(Buffer::copy_of(&[byte]).unwrap()).unwrap()
    }

    #[test]
    fn a_read_that_raced_with_a_home_write_is_refused() {
        let mut cache = Cache::new();
        let epoch = cache.epoch(BlockNo(5));
        cache.note_home_write(BlockNo(5), Some(&content(2)));
        assert!(!cache.offer(BlockNo(5), &content(1), epoch).unwrap());
        assert_eq!(cache.get(BlockNo(5)).unwrap()[0], 2);
        let epoch = cache.epoch(BlockNo(6));
        assert!(cache.offer(BlockNo(6), &content(3), epoch).unwrap());
        cache.forget(BlockNo(6));
        assert!(cache.get(BlockNo(6)).is_none());
        assert!(!cache.offer(BlockNo(6), &content(3), epoch).unwrap());
    }

    #[test]
    fn shrinking_spares_what_is_in_use() {
        let mut cache = Cache::new();
        for block in 0..10 {
            let epoch = cache.epoch(BlockNo(block));
            cache.offer(BlockNo(block), &content(0), epoch).unwrap();
        }
        assert_eq!(cache.shrink(3), 3, "when all are in use, the second round drops");
        assert_eq!(cache.len(), 7);
        for block in [8, 9] {
            cache.get(BlockNo(block));
        }
        assert_eq!(cache.shrink(5), 5);
        assert!(cache.get(BlockNo(8)).is_some() && cache.get(BlockNo(9)).is_some());
        assert_eq!(cache.shrink(100), 2);
        assert!(cache.is_empty());
    }
}
