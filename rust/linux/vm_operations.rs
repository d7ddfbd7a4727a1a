// SPDX-License-Identifier: GPL-2.0

//! `struct vm_operations_struct`: files that programs have mapped (include/linux/mm.h).
//!
//! A page is mapped read-only at first. The first write to it comes here: the folio is made dirty as a whole, so blocks are
//! promised for all of it before, those behind the end of the file included. Otherwise a file that grew later would have
//! dirty blocks that nobody had promised anything.
//!
//! What a program sees behind the end of the file, in its last page, is zero. The device may have anything there
//! ([`Operations::stale_tail`]), so it is zeroed whenever such a page is to be mapped; and it is never mapped unasked, together
//! with its neighbours.

use crate::inode;
use crate::inode::Inode;
use crate::iomap::{self, Operations, Purpose};
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::{to_result, Error, Result};
use kernel::ffi;
use kernel::page::PAGE_SHIFT;

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const TABLE: &'static bindings::vm_operations_struct = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::vm_operations_struct = unsafe { MaybeUninit::zeroed().assume_init() };
        table.fault = Some(Self::fault_callback);
        table.map_pages = Some(Self::map_pages_callback);
        table.page_mkwrite = Some(Self::page_mkwrite_callback);
        table
    };

    /// # Safety
    ///
    /// Called by mmap only, with an open regular file of `T`.
    pub(crate) unsafe extern "C" fn mmap_callback(
        file: *mut bindings::file,
        area: *mut bindings::vm_area_struct,
    ) -> ffi::c_int {
        // SAFETY: The area is new, and this call's; the file is the caller's.
        unsafe {
            bindings::cairnfs_helper_file_accessed(file);
            (*area).vm_ops = Self::TABLE;
        }
        0
    }

    /// The inode of the file that a fault is in.
    ///
    /// # Safety
    ///
    /// `fault` is that of the caller's callback, which a page fault has called in an area that [`Self::mmap_callback`] has set up.
    unsafe fn inode_of<'a>(fault: *mut bindings::vm_fault) -> &'a Inode<T> {
        // SAFETY: The area has its file, with an inode of `T`, as long as `mmap_lock` or the area's own lock is held, as it is.
        unsafe { Inode::<T>::from_raw((*(*(*fault).__bindgen_anon_1.vma).vm_file).f_inode) }
    }

    /// # Safety
    ///
    /// Called by a page fault only, in an area that [`Self::mmap_callback`] has set up.
    unsafe extern "C" fn fault_callback(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The fault is this call's.
        let outcome = unsafe { bindings::filemap_fault(fault) };
        if outcome & bindings::CAIRNFS_VM_FAULT_LOCKED == 0 {
            return outcome;
        }
        // SAFETY: As above; with the page come its folio's lock and a reference to it. Neither is left behind when the fault has
        // mapped nothing. The lock of page faults is one that a fault may wait for.
        unsafe {
            let (inode, folio) = (Self::inode_of(fault), bindings::cairnfs_helper_page_folio((*fault).page));
            if Self::zero_tail(inode, folio) {
                return outcome;
            }
            bindings::cairnfs_helper_folio_unlock(folio);
            bindings::cairnfs_helper_folio_put(folio);
            let mapping = (*inode.as_ptr()).i_mapping;
            bindings::cairnfs_helper_filemap_invalidate_lock_shared(mapping);
            bindings::cairnfs_helper_filemap_invalidate_unlock_shared(mapping);
        }
        // The access is tried again, and faults again.
        bindings::CAIRNFS_VM_FAULT_NOPAGE
    }

    /// Zeroes what lies behind the end of the file, if the folio has that block and it is not known to be zero. `false`: the size is
    /// being changed, so where the end is cannot be said.
    ///
    /// # Safety
    ///
    /// The folio is the inode's, locked, and up to date.
    unsafe fn zero_tail(inode: &Inode<T>, folio: *mut bindings::folio) -> bool {
        // SAFETY: The folio is valid, as the caller vouches.
        let (start, end) = unsafe { (inode::folio_start(folio), inode::folio_end(folio)) };
        let stale_tail = || T::stale_tail(inode).filter(|block| (start..end).contains(block));
        if stale_tail().is_none() {
            return true;
        }
        // SAFETY: The inode is valid, and so is its mapping. Nothing waits here, so there is no order with the folio's lock to keep.
        // With both locks held the end is not moved out of this block: who does that has seen to the tail before, with page faults
        // locked out, or writes to this very folio.
        unsafe {
            let mapping = (*inode.as_ptr()).i_mapping;
            if !bindings::cairnfs_helper_filemap_invalidate_trylock_shared(mapping) {
                return false;
            }
            if let Some(block) = stale_tail() {
                let size = u64::try_from(inode.size()).unwrap_or(0);
                let block_end = block.saturating_add((*inode.super_block().as_ptr()).s_blocksize as u64);
                if (block..block_end).contains(&size) {
                    let within = |byte: u64| byte.saturating_sub(start) as usize;
                    bindings::cairnfs_helper_folio_zero_segment(folio, within(size), within(block_end));
                }
            }
            bindings::cairnfs_helper_filemap_invalidate_unlock_shared(mapping);
        }
        true
    }

    /// Maps the pages around one that a program reads, as far as they are in the page cache.
    ///
    /// # Safety
    ///
    /// As [`Self::fault_callback`].
    unsafe extern "C" fn map_pages_callback(
        fault: *mut bindings::vm_fault,
        first: ffi::c_ulong,
        last: ffi::c_ulong,
    ) -> bindings::vm_fault_t {
        // SAFETY: The fault is this call's.
        let inode = unsafe { Self::inode_of(fault) };
        let tail = T::stale_tail(inode).map(|block| (block >> PAGE_SHIFT) as ffi::c_ulong);
        let last = match tail {
            // A folio that ends with it might be mapped whole.
            Some(page) if Self::may_be_mapped_at_once(first, page) => return 0,
            Some(page) if (first..=last).contains(&page) => page.saturating_sub(1),
            _ => last,
        };
        // SAFETY: As above; the range is a part of the one that was asked for.
        unsafe { bindings::filemap_map_pages(fault, first, last) }
    }

    /// Whether one entry of a page table above the lowest may map both pages, and `page` is the last one that it maps. (A folio of
    /// that size that does not end there ends where the file does not.)
    fn may_be_mapped_at_once(other: ffi::c_ulong, page: ffi::c_ulong) -> bool {
        let pages = bindings::CAIRNFS_PTRS_PER_PTE;
        page % pages == pages.saturating_sub(1) && page / pages == other / pages || page == other
    }

    /// # Safety
    ///
    /// Called by a page fault only, in an area that [`Self::mmap_callback`] has set up.
    unsafe extern "C" fn page_mkwrite_callback(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The fault is this call's; its area has its file as long as this call goes on.
        let (file, inode, page) =
            unsafe { ((*(*fault).__bindgen_anon_1.vma).vm_file, Self::inode_of(fault), (*fault).page) };
        let super_block = inode.super_block().as_ptr();
        // SAFETY: All are valid, as above; the fault has a reference to its page. Locks are released in their order.
        let outcome = unsafe {
            bindings::cairnfs_helper_sb_start_pagefault(super_block);
            let outcome = to_result(bindings::file_update_time(file)).and_then(|()| {
                let mapping = (*inode.as_ptr()).i_mapping;
                bindings::cairnfs_helper_filemap_invalidate_lock_shared(mapping);
                let outcome = Self::make_dirty(inode, bindings::cairnfs_helper_page_folio(page));
                bindings::cairnfs_helper_filemap_invalidate_unlock_shared(mapping);
                outcome
            });
            bindings::cairnfs_helper_sb_end_pagefault(super_block);
            outcome
        };
        match outcome {
            Ok(()) => bindings::CAIRNFS_VM_FAULT_LOCKED,
            // SAFETY: Translates a number.
            Err(error) => unsafe { bindings::cairnfs_helper_vmf_fs_error(error.to_errno()) },
        }
    }

    /// Makes a folio dirty, and leaves it locked; on failure neither.
    ///
    /// # Safety
    ///
    /// The caller has a reference to the folio, and the lock of page faults, so no file is made shorter meanwhile.
    unsafe fn make_dirty(inode: &Inode<T>, folio: *mut bindings::folio) -> Result {
        // SAFETY: As the caller vouches.
        let promised = unsafe {
            bindings::cairnfs_helper_folio_lock(folio);
            Self::promise(inode, folio)
        };
        // SAFETY: The folio is locked. Who is to be told that it may be written to waits until it is not being written, where the
        // device cannot stand that.
        unsafe {
            match promised {
                Ok(()) => {
                    bindings::folio_mark_dirty(folio);
                    bindings::folio_wait_stable(folio);
                }
                Err(_) => bindings::cairnfs_helper_folio_unlock(folio),
            }
        }
        promised
    }

    /// Has blocks promised for all of a folio. On failure a clean folio's promises are void: what a write has just been promised
    /// there it asks for again, since the mapping that it has is not valid any more.
    ///
    /// # Safety
    ///
    /// As [`Self::make_dirty`], with the folio locked.
    unsafe fn promise(inode: &Inode<T>, folio: *mut bindings::folio) -> Result {
        // SAFETY: The folio is locked.
        let within = unsafe { bindings::cairnfs_helper_folio_mkwrite_check_truncate(folio, inode.as_ptr()) };
        if within < 0 {
            // It went while nobody had it locked: the fault looks for another.
            return Err(Error::from_errno(within as i32));
        }
        // SAFETY: As above; it is the file's.
        let (start, end) = unsafe { (inode::folio_start(folio), inode::folio_end(folio)) };
        let mut at = start;
        while at < end {
            let begun = iomap::begin(inode, at, end.saturating_sub(at), Purpose::Fault);
            match begun.map(|mapping| mapping.start_bytes.saturating_add(mapping.length_bytes)) {
                Ok(next) if next > at => at = next,
                outcome => {
                    // SAFETY: As above.
                    if !unsafe { bindings::cairnfs_helper_folio_is_dirty(folio) } {
                        T::release_delayed(inode, start, end);
                    }
                    return outcome.and(Err(kernel::error::code::EIO));
                }
            }
        }
        Ok(())
    }
}
