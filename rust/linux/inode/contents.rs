// SPDX-License-Identifier: GPL-2.0

//! The contents of a regular file in memory: writing them back, cutting and growing them, keeping page faults out.

use super::Inode;
use crate::file_system_type::FileSystem;
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use kernel::error::{to_result, Result};

/// The inode of a folio's file.
///
/// # Safety
///
/// The folio must be locked, and in the page cache of a file of `T`; the inode stays for all of `'a`.
pub(crate) unsafe fn of_folio<'a, T: FileSystem>(folio: *mut bindings::folio) -> &'a Inode<T> {
    // SAFETY: As the caller vouches: a locked folio keeps its mapping.
    unsafe {
        let mapping = (*folio).__bindgen_anon_1.__bindgen_anon_1.mapping;
        Inode::from_raw((*mapping).host)
    }
}

/// The byte of the file at which a folio begins.
///
/// # Safety
///
/// The caller must have the folio, and it be in a page cache.
pub(crate) unsafe fn folio_start(folio: *mut bindings::folio) -> u64 {
    // SAFETY: As the caller vouches. Positions are not negative.
    unsafe { bindings::cairnfs_helper_folio_pos(folio) as u64 }
}

/// The byte behind a folio's last.
///
/// # Safety
///
/// As [`folio_start`].
pub(crate) unsafe fn folio_end(folio: *mut bindings::folio) -> u64 {
    // SAFETY: As the caller vouches.
    unsafe { folio_start(folio).saturating_add(bindings::cairnfs_helper_folio_size(folio) as u64) }
}

impl<T: FileSystem> Inode<T> {
    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: By the type invariants the inode is valid; it has its mapping, for good.
        unsafe { (*self.as_ptr()).i_mapping }
    }

    /// Writes what is dirty of the file between `start` and `end` (included), and waits; also for what is being written already.
    /// The caller has no folio locked and no handle open; `i_rwsem` and the lock of page faults he may have.
    pub fn write_and_wait(&self, start: i64, end: i64) -> Result {
        // SAFETY: By the type invariants the inode is valid, as in all methods below.
        to_result(unsafe { bindings::filemap_write_and_wait_range(self.mapping(), start, end) })
    }

    /// Begins to write what is dirty of the file. Locks as for [`Self::write_and_wait`].
    pub fn start_writeback(&self) -> Result {
        // SAFETY: As in `write_and_wait`.
        to_result(unsafe { bindings::filemap_flush(self.mapping()) })
    }

    /// Makes the file shorter: its size, and what the page cache has behind that. The caller has `i_rwsem` for writing, has locked
    /// page faults out, and has no handle open.
    ///
    /// A folio that the new end cuts stays, and while it is dirty it cannot be split, so its blocks behind the end would stay dirty.
    /// They would be written when the file grew over them again, with nothing promised for them any more: so that folio is
    /// written before. What fails in that, or has failed before, is told to who asks next, by fsync or [`Self::write_and_wait`].
    pub fn set_size_and_drop_pages(&self, bytes: i64) {
        if let Some((start, end)) = self.folio_across(bytes) {
            // SAFETY: As in `write_and_wait`. Waiting like this leaves the mapping's error bits as they are.
            unsafe {
                bindings::filemap_fdatawrite_range(self.mapping(), start, end);
                bindings::filemap_fdatawait_range_keep_errors(self.mapping(), start, end);
            }
        }
        // SAFETY: As in `write_and_wait`; the caller has the locks.
        unsafe { bindings::truncate_setsize(self.as_ptr(), bytes) };
    }

    /// Where the folio begins and ends (included) that has blocks before and behind a byte, if there is one.
    fn folio_across(&self, byte: i64) -> Option<(i64, i64)> {
        // SAFETY: As in `write_and_wait`. The reference to the folio is given back when it was looked at.
        let (start, end, block_bytes) = unsafe {
            let folio = bindings::cairnfs_helper_filemap_get_folio(self.mapping(), byte);
            if folio.is_null() {
                return None;
            }
            let range = (folio_start(folio) as i64, folio_end(folio) as i64);
            bindings::cairnfs_helper_folio_put(folio);
            (range.0, range.1, (*self.super_block().as_ptr()).s_blocksize as i64)
        };
        (start < byte && end > byte.saturating_add(block_bytes.saturating_sub(1)))
            .then_some((start, end.saturating_sub(1)))
    }

    /// Makes the file longer, from `old` to `new` bytes. The caller has `i_rwsem` for writing.
    pub fn grow_size(&self, old: i64, new: i64) {
        // SAFETY: As in `write_and_wait`; the caller has the lock.
        unsafe {
            bindings::cairnfs_helper_i_size_write(self.as_ptr(), new);
            bindings::pagecache_isize_extended(self.as_ptr(), old, new);
        }
    }

    /// Keeps pages from coming into the page cache, and mapped pages from becoming dirty, until the result is dropped: while the
    /// blocks below them go. Behind `i_rwsem`, before all locks of the filesystem.
    pub fn lock_page_faults(&self) -> PageFaultsLocked<'_, T> {
        // SAFETY: As in `write_and_wait`.
        unsafe { bindings::cairnfs_helper_filemap_invalidate_lock(self.mapping()) };
        // INVARIANT: Just taken.
        PageFaultsLocked { inode: self, _not_send: PhantomData }
    }

    /// Waits for direct I/O that has begun. The caller has `i_rwsem` for writing, so none begins.
    pub fn wait_for_direct_io(&self) {
        // SAFETY: As in `write_and_wait`.
        unsafe { bindings::inode_dio_wait(self.as_ptr()) };
    }
}

/// Page faults are locked out.
///
/// # Invariants
///
/// This task holds the `invalidate_lock` of the inode's mapping for writing.
#[must_use = "page faults go on when this is dropped"]
pub struct PageFaultsLocked<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    /// Who takes a semaphore releases it.
    _not_send: PhantomData<*mut ()>,
}

impl<T: FileSystem> Drop for PageFaultsLocked<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is held.
        unsafe { bindings::cairnfs_helper_filemap_invalidate_unlock(self.inode.mapping()) };
    }
}
