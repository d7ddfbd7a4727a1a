// SPDX-License-Identifier: GPL-2.0

//! `struct block_device` and `struct bio`: the device under a filesystem, read and written block by block
//! (include/linux/blkdev.h, include/linux/bio.h).
//!
//! This is for metadata and for recovery: a few blocks, from and to memory that the caller has, waited for.

use cairnfs_bindings as bindings;
use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES, SECTOR_BYTES};
use core::ptr::NonNull;

const BLOCK_SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;
const PAGE_BYTES: usize = 1 << bindings::PAGE_SHIFT;
/// The most pages that a bio can have.
const BIO_PAGES_MAX: usize = bindings::BIO_MAX_VECS as usize;
/// Bytes that go in one bio. Memory that begins within a page takes one page more.
const BIO_BYTES_MAX: usize = (BIO_PAGES_MAX - 1) * PAGE_BYTES;

// So that every bio but the last has whole blocks.
const _: () = assert!(BIO_BYTES_MAX.is_multiple_of(BLOCK_BYTES));

/// A filesystem's device.
///
/// # Invariants
///
/// A counted reference to an open file of a block device, so the device stays usable while this exists.
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

    fn as_ptr(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariants it is an open file of a block device.
        unsafe { bindings::cairnfs_helper_file_bdev(self.0.as_ptr()) }
    }

    /// Whether the device refuses writes.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_read_only(self.as_ptr()) }
    }

    /// Transfers whole blocks between `memory` and the device.
    ///
    /// # Safety
    ///
    /// `memory` must be readable, for reading from the device also writable, for `bytes` bytes, by nobody else until this returns.
    unsafe fn transfer(&self, start: BlockNo, memory: *mut u8, bytes: usize, operation: u32) -> Result {
        run_of(start, bytes, self.blocks())?;
        if !memory.addr().is_multiple_of(SECTOR_BYTES) {
            return Err(Error::InvalidArgument);
        }
        let (mut block, mut done) = (start, 0_usize);
        while done < bytes {
            let length = bytes.saturating_sub(done).min(BIO_BYTES_MAX);
            // SAFETY: The part lies within the caller's memory.
            unsafe { self.transfer_part(block, memory.add(done), length, operation)? };
            done = done.saturating_add(length);
            // The run lies on the device, so this is a number of one of its blocks, or the one behind the last.
            block = BlockNo(block.0.saturating_add((length / BLOCK_BYTES) as u64));
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As [`Self::transfer`]; `memory` is aligned to a sector, and `bytes` at most [`BIO_BYTES_MAX`].
    unsafe fn transfer_part(&self, start: BlockNo, memory: *mut u8, bytes: usize, operation: u32) -> Result {
        // One more than whole pages, for memory that begins within one.
        let pages = bytes.div_ceil(PAGE_BYTES).saturating_add(1).min(BIO_PAGES_MAX) as u16;
        // SAFETY: The device is open. The allocation waits, from a pool, and does not fail.
        let bio = unsafe { bindings::cairnfs_helper_bio_alloc(self.as_ptr(), pages, operation) };
        // SAFETY: The bio is this function's.
        unsafe { (*bio).bi_iter.bi_sector = start.0.saturating_mul(BLOCK_SECTORS) };
        let mut done = 0_usize;
        while done < bytes {
            // SAFETY: It lies within the caller's memory.
            let address = unsafe { memory.add(done) };
            let offset = address.addr() % PAGE_BYTES;
            let length = PAGE_BYTES.saturating_sub(offset).min(bytes.saturating_sub(done));
            // SAFETY: Only looks at the address.
            let page = unsafe { bindings::cairnfs_helper_address_to_page(address.cast()) };
            // SAFETY: The page is that of memory which the caller has until the bio has ended.
            let added = !page.is_null()
                && unsafe { bindings::bio_add_page(bio, page, length as u32, offset as u32) }
                    == length as i32;
            if !added {
                // SAFETY: The bio was not submitted.
                unsafe { bindings::bio_put(bio) };
                return Err(Error::InvalidArgument);
            }
            done = done.saturating_add(length);
        }
        // SAFETY: The bio is complete, and this context may sleep.
        let status = unsafe { bindings::submit_bio_wait(bio) };
        // SAFETY: It has ended.
        unsafe { bindings::bio_put(bio) };
        if status == 0 {
            Ok(())
        } else {
            Err(Error::Io(start))
        }
    }
}

impl Device for BlockDevice {
    fn blocks(&self) -> u64 {
        // SAFETY: By the type invariants the device is open.
        unsafe { bindings::cairnfs_helper_bdev_nr_bytes(self.as_ptr()) / BLOCK_BYTES as u64 }
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        // SAFETY: The slice is writable, and nobody else has it.
        unsafe { self.transfer(start, out.as_mut_ptr(), out.len(), bindings::CAIRNFS_REQ_READ) }
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        // SAFETY: The slice is readable and does not change; writing to the device does not write to memory.
        unsafe { self.transfer(start, bytes.as_ptr().cast_mut(), bytes.len(), bindings::CAIRNFS_REQ_WRITE) }
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        // SAFETY: As in `write`.
        unsafe {
            self.transfer(start, bytes.as_ptr().cast_mut(), bytes.len(), bindings::CAIRNFS_REQ_WRITE_FUA)
        }
    }

    fn flush(&self) -> Result {
        // SAFETY: The device is open, and this context may sleep.
        match unsafe { bindings::blkdev_issue_flush(self.as_ptr()) } {
            0 => Ok(()),
            _ => Err(Error::Io(BlockNo(0))),
        }
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.blocks())?;
        let sector = run.start.0.saturating_mul(BLOCK_SECTORS);
        let sectors = run.blocks.saturating_mul(BLOCK_SECTORS);
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
