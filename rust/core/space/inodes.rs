// SPDX-License-Identifier: GPL-2.0

//! Which inodes of a group may be given out: a copy of its inode bitmap in which what open handles have taken is set too.
//!
//! Slots below the table mark are taken first, so that the table grows only when all of it is in use. A number that a
//! handle has freed stays taken until that handle has closed, and is given out again at once then: unlike a block, its slot is
//! only ever written through the journal.

use crate::bitmap;
use crate::memory::Buffer;

/// The copy.
pub(super) struct FreeInodes {
    bits: Buffer,
    /// Inodes of the group.
    inodes: u32,
    /// Clear bits.
    free: u32,
    /// Taken by handles that are still open.
    in_flight: u32,
    /// Slots below this are initialised.
    table_mark: u32,
}

impl FreeInodes {
    /// The state of a group nobody has taken anything of: `bits` are its bitmap blocks one behind the other.
    pub(super) fn new(bits: Buffer, inodes: u32, table_mark: u32) -> Self {
        let free = inodes.saturating_sub(bitmap::count_ones(&bits, 0, inodes));
        Self { bits, inodes, free, in_flight: 0, table_mark }
    }

    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) fn table_mark(&self) -> u32 {
        self.table_mark
    }

    pub(super) fn raise_table_mark(&mut self, table_mark: u32) {
        self.table_mark = self.table_mark.max(table_mark).min(self.inodes);
    }

    /// Takes the lowest free inode from `from` on, else from the start on, as long as one lies below the table mark; else the
    /// lowest above it.
    pub(super) fn take(&mut self, from: u32) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let below = |index: &u32| *index < self.table_mark;
        let index = bitmap::next_clear(&self.bits, from)
            .filter(below)
            .or_else(|| bitmap::next_clear(&self.bits, 0))
            .filter(|index| *index < self.inodes)?;
        if bitmap::set_range(&mut self.bits, index, 1) != 0 {
            return None;
        }
        self.free = self.free.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_add(1);
        Some(index)
    }

    /// Makes `index` free again; returns whether it was taken.
    pub(super) fn clear(&mut self, index: u32) -> bool {
        if index >= self.inodes || bitmap::clear_range(&mut self.bits, index, 1) != 0 {
            return false;
        }
        self.free = self.free.saturating_add(1);
        true
    }

    /// One taken inode is so no longer; returns whether there was one.
    pub(super) fn end_flight(&mut self) -> bool {
        match self.in_flight.checked_sub(1) {
            Some(left) => {
                self.in_flight = left;
                true
            }
            None => false,
        }
    }
}
