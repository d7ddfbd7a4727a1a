// SPDX-License-Identifier: GPL-2.0

//! How many blocks may still be taken, and by whom.
//!
//! One number for the whole filesystem, beside the groups' indices: free in the bitmaps, minus in flight, minus pending. Who
//! takes blocks claims them here first, and gives back what it did not get; so two that take blocks at the same time never
//! share the last ones. The reserve, which mkfs has put into the superblock, is left to those who make space or must not
//! fail for want of it ([`Class::Reserved`]): a full filesystem can always be emptied.
//!
//! Blocks are also *promised*: to what has been written to files and not been given a place yet. Promises are kept by claims
//! of [`Class::Reserved`]; nobody else is given blocks that are promised.
//!
//! Locks: guarded by a lock of its own, a leaf. A crash forgets it: a mount begins with the free blocks that recovery found.

use super::Class;
use crate::error::{Error, Result};

/// The number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    available_blocks: u64,
    reserve_blocks: u64,
    promised_blocks: u64,
}

impl Ledger {
    /// Of a filesystem with so many free blocks, of which nothing is in flight and nothing pending.
    pub const fn new(free_blocks: u64, reserve_blocks: u64) -> Self {
        Self { available_blocks: free_blocks, reserve_blocks, promised_blocks: 0 }
    }

    /// Blocks that may be taken by somebody.
    pub const fn available_blocks(&self) -> u64 {
        self.available_blocks
    }

    /// Blocks that `class` may take: what statfs(2) says is available is [`Class::Normal`]'s.
    pub const fn available_to(&self, class: Class) -> u64 {
        match class {
            Class::Normal => {
                let kept = self.reserve_blocks.saturating_add(self.promised_blocks);
                self.available_blocks.saturating_sub(kept)
            }
            Class::Reserved => self.available_blocks,
        }
    }

    /// Claims as many blocks as there are, at least `min_blocks` and at most `max_blocks`.
    pub fn claim(&mut self, min_blocks: u32, max_blocks: u32, class: Class) -> Result<u32> {
        let blocks = self.available_to(class).min(u64::from(max_blocks));
        if blocks < u64::from(min_blocks) {
            return Err(Error::NoSpace);
        }
        self.available_blocks = self.available_blocks.saturating_sub(blocks);
        Ok(blocks as u32)
    }

    /// Promises blocks: they are there when they are claimed.
    pub fn promise(&mut self, blocks: u64) -> Result {
        if blocks > self.available_to(Class::Normal) {
            return Err(Error::NoSpace);
        }
        self.promised_blocks = self.promised_blocks.saturating_add(blocks);
        Ok(())
    }

    /// A promise has been kept, or is void.
    pub fn end_promise(&mut self, blocks: u64) {
        self.promised_blocks = self.promised_blocks.saturating_sub(blocks);
    }

    /// Blocks that are promised.
    pub const fn promised_blocks(&self) -> u64 {
        self.promised_blocks
    }

    /// Blocks may be taken again: claimed and not got, given back, or freed durably.
    pub fn give_back(&mut self, blocks: u64) {
        self.available_blocks = self.available_blocks.saturating_add(blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_blocks_are_kept_for_those_who_make_space() {
        let mut ledger = Ledger::new(20, 8);
        assert_eq!(ledger.claim(1, 10, Class::Normal), Ok(10));
        assert_eq!((ledger.available_to(Class::Normal), ledger.available_to(Class::Reserved)), (2, 10));
        assert_eq!(ledger.claim(3, 5, Class::Normal), Err(Error::NoSpace));
        assert_eq!(ledger.claim(1, 5, Class::Normal), Ok(2));
        assert_eq!(ledger.claim(1, 1, Class::Normal), Err(Error::NoSpace));
        assert_eq!(ledger.claim(1, 6, Class::Reserved), Ok(6));
        assert_eq!(ledger.available_to(Class::Normal), 0, "the reserve has been used");
        ledger.give_back(7);
        assert_eq!(ledger.claim(1, 9, Class::Normal), Ok(1));
        assert_eq!(ledger.claim(1, 9, Class::Reserved), Ok(8));
        assert_eq!(ledger.claim(1, 1, Class::Reserved), Err(Error::NoSpace));
    }

    #[test]
    fn what_is_promised_is_nobody_elses() {
        let mut ledger = Ledger::new(20, 8);
        assert_eq!(ledger.promise(13), Err(Error::NoSpace));
        assert_eq!(ledger.promise(10), Ok(()));
        assert_eq!(ledger.available_to(Class::Normal), 2);
        assert_eq!(ledger.claim(3, 3, Class::Normal), Err(Error::NoSpace));
        assert_eq!(ledger.claim(1, 4, Class::Reserved), Ok(4));
        ledger.end_promise(4);
        assert_eq!((ledger.promised_blocks(), ledger.available_to(Class::Normal)), (6, 2));
        ledger.end_promise(6);
        assert_eq!(ledger.available_to(Class::Normal), 8);
    }
}
