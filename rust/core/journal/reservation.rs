// SPDX-License-Identifier: GPL-2.0

//! How much of the ring a handle may need, and who gets it.
//!
//! A handle is let in when the ring has room for the running transaction, for every handle that is open, and for this one, at
//! their worst. So a commit is always possible, whatever has been promised: that is what keeps a full journal from being a
//! deadlock. The worst case counts a whole block for each block that an operation may touch, because items are unions.
//!
//! Handles of I/O end and of orphans ([`Class::Reserved`]) may use a last part of the ring that others may not, so they never
//! wait for those who wait for them.

use crate::error::{Error, Result};
use crate::format::item::{BITMAP_BODY_BYTES_MAX, BLOCK_BODY_BYTES_MAX, INODE_BODY_BYTES_MAX};
use crate::journal::encode::{item_bytes, GROUP_BYTES, REVOKE_BYTES, SLOT_BYTES, TABLE_ZERO_BYTES};
use crate::journal::ring::{Class, Reservation};
use crate::journal::Journal;

/// The share of the ring that one handle may ask for: 1/16.
pub const HANDLE_SHARE: u64 = 16;
/// From this share on the running transaction is to be committed without being asked: 1/8.
pub const COMMIT_SHARE: u64 = 8;
/// Beyond this share no handle is let into the running transaction: 1/4.
pub const TRANSACTION_SHARE: u64 = 4;
/// Handles of [`Class::Reserved`] that always find room.
pub const RESERVED_HANDLES: u64 = 2;

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
    /// Slots of the orphan index.
    pub slots: u64,
    /// Bytes of the note.
    pub note_bytes: u64,
}

/// Bytes of note that any operation may write: two names, the fixed part, who did it.
pub const NOTE_BYTES_MAX: u64 = 640;

impl Worst {
    /// Bytes of the ring for that.
    pub const fn bytes(&self) -> u64 {
        let inodes = self
            .inodes
            .saturating_mul(item_bytes(INODE_BODY_BYTES_MAX).saturating_add(TABLE_ZERO_BYTES) as u64);
        let blocks = self.blocks.saturating_mul(item_bytes(BLOCK_BODY_BYTES_MAX) as u64);
        let freed = self.freed_blocks.saturating_mul(REVOKE_BYTES as u64);
        let bitmaps =
            self.bitmaps.saturating_mul(item_bytes(BITMAP_BODY_BYTES_MAX).saturating_add(GROUP_BYTES) as u64);
        let slots = self.slots.saturating_mul(SLOT_BYTES as u64);
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
    /// promised to a caller behind others of its class.
    pub fn reserve(&mut self, bytes: u64, class: Class) -> Result<Reservation> {
        self.check()?;
        if bytes > self.handle_bytes_max() {
            return Err(Error::TooLarge);
        }
        let promised = self.promised.handles_bytes.saturating_add(bytes);
        let transaction = self.running.bytes.saturating_add(promised);
        // The reserved class may overfill the transaction: its handles are few, and a commit may be waiting for what they do.
        let full = class == Class::Normal && transaction > self.ring.bytes() / TRANSACTION_SHARE;
        let kept = match class {
            Class::Normal => RESERVED_HANDLES.saturating_mul(self.handle_bytes_max()),
            Class::Reserved => 0,
        };
        let needed = Self::bytes_bound(transaction).saturating_add(kept);
        if full || needed > self.ring.free_bytes() {
            return Err(Error::JournalFull);
        }
        self.promised.handles_bytes = promised;
        self.promised.handles = self.promised.handles.saturating_add(1);
        Ok(Reservation { bytes, class })
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
