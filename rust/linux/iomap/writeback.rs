// SPDX-License-Identifier: GPL-2.0

//! Writeback: `struct iomap_writeback_ops`.
//!
//! What iomap has mapped for a block it keeps, and asks again for the next one: while that lies in the same range, and the sequence
//! is valid, the answer stands. The folio is locked, so what the range says of *this* block cannot change but by the end of an
//! earlier write of it, and that has ended: a folio is not written twice at once.

use super::{Kind, Mapping, Operations, Table};
use crate::inode::Inode;
use crate::{inode, io_end};
use cairnfs_bindings as bindings;
use core::mem::MaybeUninit;
use kernel::error::code::EIO;
use kernel::error::{from_result, Result};
use kernel::ffi;

impl<T: Operations> Table<T> {
    const WRITEBACK: &'static bindings::iomap_writeback_ops = &bindings::iomap_writeback_ops {
        map_blocks: Some(map_blocks_callback::<T>),
        prepare_ioend: Some(prepare_ioend_callback::<T>),
        discard_folio: Some(discard_folio_callback::<T>),
    };
}

/// # Safety
///
/// Called by the page cache only, for a file of `T`.
pub(super) unsafe extern "C" fn writepages_callback<T: Operations>(
    mapping: *mut bindings::address_space,
    control: *mut bindings::writeback_control,
) -> ffi::c_int {
    // SAFETY: A context is all zeros at first: no mapping, no I/O.
    let mut context: bindings::iomap_writepage_ctx = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: The arguments are the caller's, and the file is one of `T`'s; the context stays while this runs.
    unsafe { bindings::iomap_writepages(mapping, control, &raw mut context, Table::<T>::WRITEBACK) }
}

/// # Safety
///
/// Called by iomap only, with the context of [`writepages_callback`] and a locked folio of the inode, which is a regular file of `T`.
unsafe extern "C" fn map_blocks_callback<T: Operations>(
    context: *mut bindings::iomap_writepage_ctx,
    inode: *mut bindings::inode,
    position: bindings::loff_t,
    length: ffi::c_uint,
) -> ffi::c_int {
    from_result(|| {
        // A position of a folio: not negative.
        let position = position as u64;
        // SAFETY: As this function's requirements say.
        let (inode, iomap) = unsafe { (Inode::<T>::from_raw(inode), &raw mut (*context).iomap) };
        // SAFETY: The context is this call's; what is in it was stored below, or is zero.
        if unsafe { still_maps(inode, position, iomap) } {
            return Ok(0);
        }
        let mapping = map(inode, position, length.into())?;
        // SAFETY: iomap waits for this to be filled in.
        unsafe { mapping.store(inode, position, iomap)? };
        Ok(0)
    })
}

/// Whether the last answer is one for this position too.
///
/// # Safety
///
/// `iomap` must be readable, and filled in by [`Mapping::store`], or zero.
unsafe fn still_maps<T: Operations>(inode: &Inode<T>, position: u64, iomap: *const bindings::iomap) -> bool {
    // SAFETY: As the caller vouches.
    let (start, length, sequence) =
        unsafe { ((*iomap).offset as u64, (*iomap).length, (*iomap).validity_cookie) };
    let is_inside = position.checked_sub(start).is_some_and(|before| before < length);
    is_inside && T::is_valid(inode, sequence)
}

fn map<T: Operations>(inode: &Inode<T>, position: u64, length: u64) -> Result<Mapping> {
    let mapping = T::map_blocks(inode, position, length)?;
    match mapping.kind {
        Kind::Mapped { .. } | Kind::Unwritten { .. } => Ok(mapping),
        // iomap would drop a hole's data silently, and warn of the other.
        Kind::Hole | Kind::Delayed => Err(EIO),
    }
}

/// # Safety
///
/// Called by iomap only, with an I/O that was not submitted yet, or will not be because of `status`.
unsafe extern "C" fn prepare_ioend_callback<T: Operations>(
    ioend: *mut bindings::iomap_ioend,
    status: ffi::c_int,
) -> ffi::c_int {
    // Also of one that fails: the filesystem wants to know the end of all that it has given a place.
    // SAFETY: The I/O is the caller's.
    unsafe { (*ioend).io_bio.bi_end_io = Some(io_end::end_io_callback::<T>) };
    status
}

/// What could not be mapped is lost with its folio, and so are the promises for it.
///
/// # Safety
///
/// Called by iomap only, with a locked folio of a file of `T`, and the first byte of it that was not mapped.
unsafe extern "C" fn discard_folio_callback<T: Operations>(
    folio: *mut bindings::folio,
    position: bindings::loff_t,
) {
    // SAFETY: A locked folio that is being written has its mapping, and that its inode, one of `T`'s.
    let (inode, end) = unsafe { (inode::of_folio::<T>(folio), inode::folio_end(folio)) };
    // Positions of a folio: not negative.
    T::release_delayed(inode, position as u64, end);
}
