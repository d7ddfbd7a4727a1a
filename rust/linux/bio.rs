// SPDX-License-Identifier: GPL-2.0

//! `struct bio`: a transfer between memory and a contiguous range of a device (include/linux/bio.h).
//!
//! Allocating one waits, from a pool, and does not fail: a bio that was submitted comes back to its pool when it has
//! ended, and nothing that it waits for waits for the pool.

use cairnfs_bindings as bindings;
use cairnfs_core::units::{BLOCK_BYTES, SECTOR_BYTES};
use core::pin::Pin;
use core::ptr::{self, NonNull};
use kernel::error::{to_result, Error};
use kernel::ffi;
use kernel::init::pin_init_from_closure;
use kernel::prelude::{pin_data, pinned_drop, try_pin_init, PinInit};
use kernel::types::Opaque;

const PAGE_BYTES: usize = 1 << bindings::PAGE_SHIFT;
/// The most pages that a bio can have.
const PAGES_MAX: usize = bindings::BIO_MAX_VECS as usize;
/// Bytes that go in one bio. Memory that begins within a page takes one page more.
pub(crate) const BYTES_MAX: usize = (PAGES_MAX - 1) * PAGE_BYTES;

// So that every bio of a long transfer but the last has whole blocks.
const _: () = assert!(BYTES_MAX.is_multiple_of(BLOCK_BYTES));

/// How many bios of a pool can always be had, whatever the state of memory.
const RESERVED: u32 = 2;

/// A pool of bios of one's own: `struct bio_set`.
#[pin_data(PinnedDrop)]
pub(crate) struct Pool {
    #[pin]
    pool: Opaque<bindings::bio_set>,
}

// SAFETY: Bios may be taken from a pool and come back to it in any context.
unsafe impl Send for Pool {}
// SAFETY: As above.
unsafe impl Sync for Pool {}

impl Pool {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let init = |slot: *mut Opaque<bindings::bio_set>| {
            let pool = Opaque::raw_get(slot);
            let flags = bindings::BIOSET_NEED_BVECS as ffi::c_int;
            // SAFETY: The slot is writable, and pinned as the work item in it has to be. What `bioset_init` does not get to is
            // zero, as its own way out of a failure needs it.
            to_result(unsafe {
                ptr::write_bytes(pool, 0, 1);
                bindings::bioset_init(pool, RESERVED, 0, flags)
            })
        };
        try_pin_init!(Self {
            // SAFETY: The closure initialises the slot, or leaves nothing behind.
            pool <- unsafe { pin_init_from_closure(init) },
        }? Error)
    }
}

#[pinned_drop]
impl PinnedDrop for Pool {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It was initialised, and who has the pool has waited for all bios that came from it.
        unsafe { bindings::bioset_exit(self.pool.get()) };
    }
}

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
    /// from the device, writable, by nobody else), until the bio was dropped or has ended. The pool, if one is given, outlives
    /// the bio.
    pub(crate) unsafe fn new(
        device: *mut bindings::block_device,
        start_byte: u64,
        memory: *mut u8,
        bytes: usize,
        operation: u32,
        pool: Option<&Pool>,
    ) -> Option<Self> {
        let is_aligned = memory.addr().is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR_BYTES);
        if !is_aligned || bytes == 0 || bytes > BYTES_MAX {
            return None;
        }
        // One more than whole pages, for memory that begins within one.
        let pages = bytes.div_ceil(PAGE_BYTES).saturating_add(1).min(PAGES_MAX) as u16;
        let pool = pool.map_or(ptr::null_mut(), |pool| pool.pool.get());
        // SAFETY: The device is open, the pool initialised. The allocation waits, and does not fail.
        let bio = unsafe { bindings::cairnfs_helper_bio_alloc(device, pages, operation, pool) };
        // INVARIANT: Just allocated.
        let mut bio = Self(NonNull::new(bio)?);
        // SAFETY: The bio is this function's.
        unsafe {
            (*bio.0.as_ptr()).bi_iter.bi_sector = start_byte / SECTOR_BYTES as u64;
            if operation & bindings::CAIRNFS_REQ_OP_MASK != bindings::CAIRNFS_REQ_OP_READ {
                bindings::cairnfs_helper_bio_charge_root(bio.0.as_ptr());
            }
        }
        // SAFETY: As the caller vouches.
        unsafe { bio.add(memory, bytes) }.then_some(bio)
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

    /// Begins the transfer. At its end `end` is called, in any context, with the bio, which is then its to put; `private` is in the
    /// bio.
    ///
    /// # Safety
    ///
    /// `end` may rely on `private`: it has to be what that function wants, until it has been called.
    pub(crate) unsafe fn submit(
        self,
        end: unsafe extern "C" fn(*mut bindings::bio),
        private: *const ffi::c_void,
    ) {
        let bio = core::mem::ManuallyDrop::new(self).0.as_ptr();
        // SAFETY: By the type invariants the bio was this value's; it is complete.
        unsafe {
            (*bio).bi_end_io = Some(end);
            (*bio).bi_private = private.cast_mut();
            bindings::submit_bio(bio);
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the bio is this value's: it was not submitted, or it has ended.
        unsafe { bindings::bio_put(self.0.as_ptr()) };
    }
}
