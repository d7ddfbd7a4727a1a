// SPDX-License-Identifier: GPL-2.0

//! How much of the ring a handle may need, and who gets it.
//!
//! A handle is let in when the ring has room for the running transaction, for every handle that is open, and for this one, at
//! their worst. So a commit is always possible, whatever has been promised: that is what keeps a full journal from being a
//! deadlock. The worst case counts a whole block for each block that an operation may touch, because items are unions; of an
//! orphan block, all of its slots.
//!
//! # What is needed
//!
//! [`Journal::needed`] is what must be free at any moment: the items of the running transaction, those of all open handles,
//! and the *structure budget*; and the records for them, where each open handle may end in a commit of its own. Its four parts
//! move like this, so that what is needed never grows by more than what is free does, but when a handle is let in, where it
//! is compared:
//!
//! - a handle closes: what it needs moves from the promises to the running transaction, and with it one commit;
//! - a commit: the running transaction moves from what is needed to what is used;
//! - the end of the ring costs a wrap record and a cut one, once: all that is needed fits into the ring, so it meets the end
//!   once at the most, and counts it as long as it lies ahead.
//!
//! The structure budget is for what no handle can know when it is opened: the bitmaps and headers of new groups below its
//! own, which were begun by whoever took blocks there, and zeros for table blocks below its inode's. A group is begun only
//! while the budget has room for its items; a handle that closes draws from it what goes beyond its own reservation, and if
//! it cannot, fails alone. It is filled up again when a handle is let in.
//!
//! Handles of I/O end and of orphans ([`Class::Reserved`]) may use a last part of the ring that others may not, so they never
//! wait for those who wait for them.

use crate::error::{Error, Result};
use crate::format::journal::{RecordHeader, PAYLOAD_BYTES_MAX};
use crate::journal::encode::{
    BITMAP_BYTES_MAX, BLOCK_BYTES_MAX, FRESH_BITMAP_BYTES, GROUP_BYTES, INODE_BYTES_MAX, ITEM_BYTES_MAX,
    REVOKE_BYTES, SLOTS_BYTES_MAX, TABLE_ZERO_BYTES, TOTALS_BYTES,
};
use crate::journal::ring::{Class, Promised, Reservation};
use crate::journal::Journal;

/// The share of the ring that one handle may ask for: 1/16.
pub const HANDLE_SHARE: u64 = 16;
/// From this share on the running transaction is to be committed without being asked: 1/8.
pub const COMMIT_SHARE: u64 = 8;
/// Beyond this share no handle is let into the running transaction: 1/4.
pub const TRANSACTION_SHARE: u64 = 4;
/// Handles of [`Class::Reserved`] that always find room.
pub const RESERVED_HANDLES: u64 = 2;
/// The share of the ring that is the structure budget: 1/64.
pub const STRUCTURE_SHARE: u64 = 64;
/// The part of the structure budget that new groups leave to the zeros of table blocks: 1/4.
const ZEROS_SHARE: u64 = 4;

/// The least payload of a record that is not its transaction's last, and that the end of the ring does not cut: the next item
/// did not fit.
const FRAGMENT_PAYLOAD_MIN: u64 = (PAYLOAD_BYTES_MAX - ITEM_BYTES_MAX) as u64;

/// The objects that an operation may touch, at worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// Inodes.
    pub inodes: u64,
    /// Metadata blocks changed or allocated.
    pub blocks: u64,
    /// Metadata blocks freed.
    pub freed_blocks: u64,
    /// Bitmap blocks, of blocks or inodes.
    pub bitmaps: u64,
    /// Slots of the orphan index, each in a block of its own.
    pub slots: u64,
    /// Bytes of the note.
    pub note_bytes: u64,
}

/// Bytes of note that any operation may write: two names, the fixed part, who did it.
pub const NOTE_BYTES_MAX: u64 = 640;

impl Worst {
    /// Bytes of the ring for that.
    pub const fn bytes(&self) -> u64 {
        let inodes = self.inodes.saturating_mul(INODE_BYTES_MAX.saturating_add(TABLE_ZERO_BYTES) as u64);
        let blocks = self.blocks.saturating_mul(BLOCK_BYTES_MAX as u64);
        let freed = self.freed_blocks.saturating_mul(REVOKE_BYTES as u64);
        let bitmaps = self.bitmaps.saturating_mul(BITMAP_BYTES_MAX.saturating_add(GROUP_BYTES) as u64);
        let slots = self.slots.saturating_mul(SLOTS_BYTES_MAX as u64);
        inodes
            .saturating_add(blocks)
            .saturating_add(freed)
            .saturating_add(bitmaps)
            .saturating_add(slots)
            .saturating_add(self.note_bytes)
    }
}

impl Journal {
    /// The most that one handle may ask for.
    pub fn handle_bytes_max(&self) -> u64 {
        self.ring.bytes() / HANDLE_SHARE
    }

    /// Lets a handle in, or says why not: [`Error::JournalFull`] when it has to wait for the tail or for a commit,
    /// [`Error::TooLarge`] when it never will be. Who waits is queued by the caller, first come first served; nothing is
    /// promised to a caller behind others of its class. [`Error::ReadOnly`]: a clean header stands, or is about to.
    pub fn reserve(&mut self, bytes: u64, class: Class) -> Result<Reservation> {
        self.check()?;
        if self.ended {
            return Err(Error::ReadOnly);
        }
        if bytes > self.handle_bytes_max() {
            return Err(Error::TooLarge);
        }
        let promised = Promised {
            handles_bytes: self.promised.handles_bytes.saturating_add(bytes),
            handles: self.promised.handles.saturating_add(1),
            structure_bytes: self.structure_bytes_max(),
        };
        let transaction = self.running.bytes.saturating_add(promised.handles_bytes);
        // The reserved class may overfill the transaction: its handles are few, and a commit may be waiting for what they do.
        let full = class == Class::Normal && transaction > self.ring.bytes() / TRANSACTION_SHARE;
        let kept = match class {
            Class::Normal => RESERVED_HANDLES,
            Class::Reserved => 0,
        };
        let with_kept = Promised {
            handles_bytes: promised
                .handles_bytes
                .saturating_add(kept.saturating_mul(self.handle_bytes_max())),
            handles: promised.handles.saturating_add(kept),
            ..promised
        };
        if full || self.needed(&with_kept) > self.ring.free_bytes() {
            return Err(Error::JournalFull);
        }
        self.promised = promised;
        Ok(Reservation { bytes, class })
    }

    /// Bytes of the ring for the running transaction, for these promises, and for the records that may come of them.
    fn needed(&self, promised: &Promised) -> u64 {
        let items = self
            .running
            .bytes
            .saturating_add(promised.handles_bytes)
            .saturating_add(promised.structure_bytes);
        let commits = promised.handles.saturating_add(u64::from(!self.running.is_empty()));
        let bytes = self.records_bytes(items, commits);
        if bytes <= self.ring.contiguous_bytes() {
            return bytes;
        }
        bytes.saturating_add(self.wrap_bytes())
    }

    /// The most that a record takes beside its items: header and padding.
    const fn record_overhead_bytes(&self) -> u64 {
        (RecordHeader::SIZE as u64)
            .saturating_add(self.geometry.physical_block_bytes as u64)
            .saturating_sub(1)
    }

    /// The most bytes of the records of `commits` commits with items of `items` bytes in all, the ring's end left aside.
    fn records_bytes(&self, items: u64, commits: u64) -> u64 {
        let payload = items.saturating_add(commits.saturating_mul(TOTALS_BYTES as u64));
        let fragments = commits.saturating_add(payload / FRAGMENT_PAYLOAD_MIN);
        payload.saturating_add(fragments.saturating_mul(self.record_overhead_bytes()))
    }

    /// The most that the ring's end costs: the record that it cuts has a second header and padding, and what is left of the
    /// ring, which a wrap record passes over, has no room for a record with the next item.
    const fn wrap_bytes(&self) -> u64 {
        self.record_overhead_bytes().saturating_mul(2).saturating_add(ITEM_BYTES_MAX as u64)
    }

    /// The most bytes that a commit of the running transaction takes in buffer and ring.
    pub fn commit_bytes_bound(&self) -> u64 {
        self.records_bytes(self.running.bytes, 1).saturating_add(self.wrap_bytes())
    }

    /// The whole structure budget.
    pub(super) const fn structure_bytes_max(&self) -> u64 {
        self.ring.bytes() / STRUCTURE_SHARE
    }

    /// Items of new groups that somebody has begun and nobody logged yet, when the log knows groups [0, `logged`).
    fn unlogged_bytes(&self, logged: u32) -> u64 {
        let bitmaps = self.geometry.block_bitmaps().saturating_add(self.geometry.inode_bitmaps());
        let each = u64::from(bitmaps).saturating_mul(FRESH_BITMAP_BYTES as u64);
        let groups = u64::from(self.begun_groups.saturating_sub(logged));
        groups.saturating_mul(each.saturating_add(GROUP_BYTES as u64))
    }

    /// Begins a new group, if the structure budget has room for its items.
    pub(super) fn note_begun(&mut self, begun_groups: u32) -> Result {
        let before = self.begun_groups;
        self.begun_groups = before.max(begun_groups);
        let zeros = self.structure_bytes_max() / ZEROS_SHARE;
        let wanted = self.unlogged_bytes(self.totals.initialised_groups).saturating_add(zeros);
        if wanted > self.promised.structure_bytes {
            self.begun_groups = before;
            return Err(Error::JournalFull);
        }
        Ok(())
    }

    /// Draws from the structure budget what a handle that closes needs beyond its reservation: `bytes` in all, after which the
    /// log knows groups [0, `logged`). The rest must do for those that it will not know then.
    pub(super) fn draw_structure(&mut self, reservation: &Reservation, bytes: u64, logged: u32) -> Result {
        let beyond = bytes.saturating_sub(reservation.bytes);
        let left = self.promised.structure_bytes.checked_sub(beyond);
        let left = left.filter(|left| *left >= self.unlogged_bytes(logged));
        self.promised.structure_bytes = left.ok_or(Error::JournalFull)?;
        Ok(())
    }

    /// Takes a promise back: its handle has closed, or was dropped.
    pub fn release_reservation(&mut self, reservation: &Reservation) {
        self.promised.handles_bytes = self.promised.handles_bytes.saturating_sub(reservation.bytes);
        self.promised.handles = self.promised.handles.saturating_sub(1);
    }

    /// Whether the running transaction is so large that it should be committed now.
    pub fn wants_commit(&self) -> bool {
        self.running.bytes > self.ring.bytes() / COMMIT_SHARE
    }

    /// Whether the ring is so full that a checkpoint should run: more than `high_water_pct` percent.
    pub fn wants_checkpoint(&self, high_water_pct: u64) -> bool {
        self.ring.used_bytes().saturating_mul(100) > self.ring.bytes().saturating_mul(high_water_pct)
    }
}

#[cfg(test)]
mod tests;
