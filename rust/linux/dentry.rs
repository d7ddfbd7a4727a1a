// SPDX-License-Identifier: GPL-2.0

//! `struct dentry`: a name that was looked up (include/linux/dcache.h).

use crate::inode::{Inode, Operations};
use cairnfs_bindings as bindings;
use core::mem::ManuallyDrop;
use core::{ptr, slice};
use kernel::error::Error;
use kernel::ffi;

/// The name of a dentry.
///
/// # Safety
///
/// `dentry` must be valid, and its name must not change, for all of `'a`: its parent is locked, or nobody else can find it.
unsafe fn name<'a>(dentry: *mut bindings::dentry) -> &'a [u8] {
    // SAFETY: The caller vouches for the dentry; a name is readable for its length.
    unsafe {
        let name = &raw const (*dentry).d_name;
        slice::from_raw_parts((*name).name, (*name).__bindgen_anon_1.__bindgen_anon_1.len as usize)
    }
}

fn error_pointer(error: Error) -> *mut bindings::dentry {
    ptr::without_provenance_mut(error.to_errno() as isize as usize)
}

/// # Safety
///
/// Called by VFS only, with a directory of `T` that is locked at least shared, and a dentry that is being looked up.
pub(crate) unsafe extern "C" fn lookup_callback<T: Operations>(
    parent: *mut bindings::inode,
    dentry: *mut bindings::dentry,
    _flags: ffi::c_uint,
) -> *mut bindings::dentry {
    // SAFETY: The parent is a directory of `T`, and stays while the caller has it locked.
    let parent = unsafe { Inode::<T>::from_raw(parent) };
    // SAFETY: The parent is locked, so a dentry that is being looked up keeps its name.
    match T::lookup(parent, unsafe { name(dentry) }) {
        Ok(found) => {
            let inode = found.map_or(ptr::null_mut(), |inode| ManuallyDrop::new(inode).as_ptr());
            // SAFETY: The dentry is not hashed. The inode's reference goes with it; null makes it negative.
            unsafe { bindings::d_splice_alias(inode, dentry) }
        }
        Err(error) => error_pointer(error),
    }
}
