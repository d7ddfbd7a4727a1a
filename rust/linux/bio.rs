// SPDX-License-Identifier: GPL-2.0

//! `struct bio`: a transfer between memory and a contiguous range of a device (include/linux/bio.h).
//!
//! Allocating one waits, from the kernel's pool for filesystems, and does not fail: a bio that was submitted comes back to it when
//! it has ended, and nothing that it waits for waits for the pool.

use cairnfs_bindings as bindings;
use cairnfs_core::units::{BLOCK_BYTES, SECTOR_BYTES};
use core::ptr::NonNull;

const PAGE_BYTES: usize = 1 << bindings::PAGE_SHIFT;
/// The most pages that a bio can have.
const PAGES_MAX: usize = bindings::BIO_MAX_VECS as usize;
/// Bytes that go in one bio. Memory that begins within a page takes one page more.
pub(crate) const BYTES_MAX: usize = (PAGES_MAX - 1) * PAGE_BYTES;

// So that every bio of a long transfer but the last has whole blocks.
const _: () = assert!(BYTES_MAX.is_multiple_of(BLOCK_BYTES));

/// A bio that was not submitted yet.
///
/// # Invariants
///
/// An allocated bio that is this value's, for a device that is open.
pub(crate) struct Bio(NonNull<bindings::bio>);

impl Bio {
    /// A bio for `bytes` bytes of `memory` and the device's from `start_byte` on; `None` where the memory is none that a device can
    /// reach, not aligned to a sector, empty, or longer than [`BYTES_MAX`]. Writes are charged to the root control group: whoever
    /// happens to do them does them for all.
    ///
    /// # Safety
    ///
    /// `device` must be open as long as the bio exists; `memory` must be readable for `bytes` bytes (and, if the operation reads
    /// from the device, writable, by nobody else), until the bio was dropped or has ended.
    pub(crate) unsafe fn new(
        device: *mut bindings::block_device,
        start_byte: u64,
        memory: *mut u8,
        bytes: usize,
        operation: u32,
    ) -> Option<Self> {
        let is_aligned = memory.addr().is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR_BYTES);
        if !is_aligned || bytes == 0 || bytes > BYTES_MAX {
            return None;
        }
        // One more than whole pages, for memory that begins within one.
        let pages = bytes.div_ceil(PAGE_BYTES).saturating_add(1).min(PAGES_MAX) as u16;
        // SAFETY: The device is open.
        let mut bio = unsafe { Self::allocate(device, pages, operation) }?;
        // SAFETY: The bio is this function's.
        unsafe { (*bio.0.as_ptr()).bi_iter.bi_sector = start_byte / SECTOR_BYTES as u64 };
        // SAFETY: As the caller vouches.
        unsafe { bio.add(memory, bytes) }.then_some(bio)
    }

    /// A flush of the device's cache: a write without memory.
    ///
    /// # Safety
    ///
    /// `device` must be open as long as the bio exists.
    pub(crate) unsafe fn new_flush(device: *mut bindings::block_device) -> Option<Self> {
        // SAFETY: As the caller vouches.
        unsafe { Self::allocate(device, 0, bindings::CAIRNFS_REQ_WRITE | bindings::CAIRNFS_REQ_PREFLUSH) }
    }

    /// A bio with room for `pages` pages.
    ///
    /// # Safety
    ///
    /// `device` must be open as long as the bio exists.
    unsafe fn allocate(device: *mut bindings::block_device, pages: u16, operation: u32) -> Option<Self> {
        // SAFETY: The device is open. The allocation waits, and does not fail.
        let bio = unsafe { bindings::cairnfs_helper_bio_alloc(device, pages, operation) };
        // INVARIANT: Just allocated.
        let bio = Self(NonNull::new(bio)?);
        if operation & bindings::CAIRNFS_REQ_OP_MASK != bindings::CAIRNFS_REQ_OP_READ {
            // SAFETY: The bio is this function's.
            unsafe { bindings::cairnfs_helper_bio_charge_root(bio.0.as_ptr()) };
        }
        Some(bio)
    }

    /// # Safety
    ///
    /// As [`Self::new`] for `memory`.
    unsafe fn add(&mut self, memory: *mut u8, bytes: usize) -> bool {
        let mut done = 0_usize;
        while done < bytes {
            // SAFETY: It lies within the caller's memory.
            let address = unsafe { memory.add(done) };
            let offset = address.addr() % PAGE_BYTES;
            let length = PAGE_BYTES.saturating_sub(offset).min(bytes.saturating_sub(done));
            // SAFETY: Only looks at the address.
            let page = unsafe { bindings::cairnfs_helper_address_to_page(address.cast()) };
            // SAFETY: The page is that of memory which the caller has until the bio has ended.
            let is_added = !page.is_null()
                && unsafe { bindings::bio_add_page(self.0.as_ptr(), page, length as u32, offset as u32) }
                    == length as i32;
            if !is_added {
                return false;
            }
            done = done.saturating_add(length);
        }
        true
    }

    /// Does the transfer and waits for its end; whether it has succeeded.
    pub(crate) fn submit_and_wait(self) -> bool {
        // SAFETY: By the type invariants the bio is this value's; it is complete, and this context may sleep.
        unsafe { bindings::submit_bio_wait(self.0.as_ptr()) == 0 }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the bio is this value's: it was not submitted, or it has ended.
        unsafe { bindings::bio_put(self.0.as_ptr()) };
    }
}
