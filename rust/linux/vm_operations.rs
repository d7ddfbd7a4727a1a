// SPDX-License-Identifier: GPL-2.0

//! `struct vm_operations_struct`: files that programs have mapped (include/linux/mm.h).
//!
//! A page is mapped read-only at first. The first write to it comes here: the folio is made dirty as a whole, so blocks are
//! promised for all of it before, those behind the end of the file included. Otherwise a file that grew later would have
//! dirty blocks that nobody had promised anything.

use crate::inode;
use crate::inode::Inode;
use crate::iomap::{self, Operations, Purpose};
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::{to_result, Error, Result};
use kernel::ffi;

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const TABLE: &'static bindings::vm_operations_struct = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::vm_operations_struct = unsafe { MaybeUninit::zeroed().assume_init() };
        table.fault = Some(bindings::filemap_fault);
        table.map_pages = Some(bindings::filemap_map_pages);
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

    /// # Safety
    ///
    /// Called by a page fault only, in an area that [`Self::mmap_callback`] has set up.
    unsafe extern "C" fn page_mkwrite_callback(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The fault is this call's. Its area has its file, with an inode of `T`, as long as `mmap_lock` or the area's own
        // lock is held, as it is.
        let (file, inode, page) = unsafe {
            let file = (*(*fault).__bindgen_anon_1.vma).vm_file;
            (file, Inode::<T>::from_raw((*file).f_inode), (*fault).page)
        };
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
