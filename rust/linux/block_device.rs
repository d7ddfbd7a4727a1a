// SPDX-License-Identifier: GPL-2.0

//! `struct block_device`: the device under a filesystem (include/linux/blkdev.h).
//!
//! This is for metadata, the journal and recovery: from and to memory that the caller has, waited for.
//!
//! Bios come from the pool that all filesystems share, which always has one for who waits; writes and flushes are charged to the
//! root control group.

use crate::bio::{self, Bio};
use cairnfs_bindings as bindings;
use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES, SECTOR_BYTES};
use core::ptr::NonNull;

/// What a write asks of the device besides writing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// Before anything is written, all that was complete is made durable.
    pub pre_flush: bool,
    /// It ends when what it has written is durable. Says nothing of other writes.
    pub force_unit_access: bool,
}

impl WriteFlags {
    pub(crate) const fn operation(self) -> u32 {
        bindings::CAIRNFS_REQ_WRITE
            | (if self.pre_flush { bindings::CAIRNFS_REQ_PREFLUSH } else { 0 })
            | (if self.force_unit_access { bindings::CAIRNFS_REQ_FUA } else { 0 })
    }
}

/// A filesystem's device.
///
/// # Invariants
///
/// A counted reference to an open file of a block device, so the device stays usable while this exists: also behind an unmount,
/// which gives up the filesystem's claim on the device, and its own reference, but cannot close the file before the last one is
/// gone. Until then the device can be opened and claimed by others, so nothing may be written by then.
pub struct BlockDevice(NonNull<bindings::file>);

// SAFETY: The reference may be dropped by any thread, and block I/O be asked for by any, several at a time.
unsafe impl Send for BlockDevice {}
// SAFETY: As above.
unsafe impl Sync for BlockDevice {}

impl BlockDevice {
    /// # Safety
    ///
    /// `super_block` must be valid and have a device.
    pub(crate) unsafe fn from_super_block(super_block: *mut bindings::super_block) -> Self {
        // SAFETY: By this function's requirements there is an open file of the device, and it is not null.
        unsafe {
            let file = (*super_block).s_bdev_file;
            bindings::cairnfs_helper_get_file(file);
            // INVARIANT: The reference was taken just now.
            Self(NonNull::new_unchecked(file))
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariants it is an open file of a block device.
        unsafe { bindings::cairnfs_helper_file_bdev(self.0.as_ptr()) }
    }

    /// Whether the device refuses writes.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_read_only(self.as_ptr()) }
    }

    /// Whether the device writes durably when it is asked to (FUA). Where it does not, the block layer flushes behind such a write.
    pub fn has_force_unit_access(&self) -> bool {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_fua(self.as_ptr()) }
    }

    /// Whether what was written may be lost without a flush.
    pub fn has_volatile_cache(&self) -> bool {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_write_cache(self.as_ptr()) }
    }

    /// The least that it transfers.
    pub fn logical_block_bytes(&self) -> u32 {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_logical_block_size(self.as_ptr()) }
    }

    fn bytes(&self) -> u64 {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_nr_bytes(self.as_ptr()) }
    }

    /// Writes `bytes` from byte `start_byte` of the device on, both in whole sectors, and waits. What is too long for one bio
    /// goes in several, one after the other; the flush comes before the first.
    pub fn write_sectors(&self, start_byte: u64, bytes: &[u8], flags: WriteFlags) -> Result {
        let end = start_byte.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.bytes()) {
            return Err(Error::Io(block_of(start_byte)));
        }
        if !start_byte.is_multiple_of(SECTOR_BYTES as u64) {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: The slice is readable and does not change; writing to the device does not write to memory.
        unsafe { self.transfer(start_byte, bytes.as_ptr().cast_mut(), bytes.len(), flags.operation()) }
    }

    /// Transfers between `memory` and the device.
    ///
    /// # Safety
    ///
    /// `memory` must be readable, for reading from the device also writable, for `bytes` bytes, by nobody else until this returns.
    unsafe fn transfer(&self, start_byte: u64, memory: *mut u8, bytes: usize, operation: u32) -> Result {
        let (mut at, mut done, mut operation) = (start_byte, 0_usize, operation);
        while done < bytes {
            let length = bytes.saturating_sub(done).min(bio::BYTES_MAX);
            // SAFETY: The part lies within the caller's memory, which stays until the bio has ended; the device is open.
            let bio = unsafe { Bio::new(self.as_ptr(), at, memory.add(done), length, operation) };
            if !bio.ok_or(Error::InvalidArgument)?.submit_and_wait() {
                return Err(Error::Io(block_of(at)));
            }
            operation &= !bindings::CAIRNFS_REQ_PREFLUSH;
            done = done.saturating_add(length);
            // The range lies on the device, so this is one of its bytes, or the one behind the last.
            at = at.saturating_add(length as u64);
        }
        Ok(())
    }

    /// Transfers whole blocks between `memory` and the device.
    ///
    /// # Safety
    ///
    /// As [`Self::transfer`].
    unsafe fn transfer_blocks(
        &self,
        start: BlockNo,
        memory: *mut u8,
        bytes: usize,
        operation: u32,
    ) -> Result {
        run_of(start, bytes, self.blocks())?;
        // SAFETY: As the caller vouches.
        unsafe { self.transfer(byte_of(start), memory, bytes, operation) }
    }
}

/// Where a block of the device begins; the device has it, so this is a number.
pub(crate) const fn byte_of(block: BlockNo) -> u64 {
    block.0.saturating_mul(BLOCK_BYTES as u64)
}

const fn block_of(byte: u64) -> BlockNo {
    BlockNo(byte / BLOCK_BYTES as u64)
}

impl Device for BlockDevice {
    fn blocks(&self) -> u64 {
        self.bytes() / BLOCK_BYTES as u64
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        // SAFETY: The slice is writable, and nobody else has it.
        unsafe { self.transfer_blocks(start, out.as_mut_ptr(), out.len(), bindings::CAIRNFS_REQ_READ) }
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let operation = WriteFlags::default().operation();
        // SAFETY: The slice is readable and does not change; writing to the device does not write to memory.
        unsafe { self.transfer_blocks(start, bytes.as_ptr().cast_mut(), bytes.len(), operation) }
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let operation = WriteFlags { force_unit_access: true, pre_flush: false }.operation();
        // SAFETY: As in `write`.
        unsafe { self.transfer_blocks(start, bytes.as_ptr().cast_mut(), bytes.len(), operation) }
    }

    fn flush(&self) -> Result {
        // Not `blkdev_issue_flush`: a limit on the caller's control group would hold up all who wait for the flush.
        // SAFETY: The device is open, and stays so until the bio has ended.
        let bio = unsafe { Bio::new_flush(self.as_ptr()) };
        if !bio.is_some_and(Bio::submit_and_wait) {
            return Err(Error::Io(BlockNo(0)));
        }
        Ok(())
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.blocks())?;
        let sector = byte_of(run.start) / SECTOR_BYTES as u64;
        let sectors = byte_of(BlockNo(run.blocks)) / SECTOR_BYTES as u64;
        // SAFETY: The device is open, and this context may sleep.
        let status = unsafe {
            bindings::blkdev_issue_zeroout(self.as_ptr(), sector, sectors, bindings::CAIRNFS_GFP_NOFS, 0)
        };
        match status {
            0 => Ok(()),
            _ => Err(Error::Io(run.start)),
        }
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this owns a reference.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}
