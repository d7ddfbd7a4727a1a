// SPDX-License-Identifier: GPL-2.0

//! The targets of symbolic links, as path walk wants them (include/linux/fs.h, `get_link`).

use crate::inode::{Inode, Operations};
use cairnfs_bindings as bindings;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use kernel::error::code::{ECHILD, ENOMEM};
use kernel::error::Result;
use kernel::ffi;

/// A target, with a NUL behind it.
///
/// # Invariants
///
/// Owned memory of the slab allocator, whose text ends with a NUL.
pub struct Target(NonNull<ffi::c_char>);

impl Target {
    /// Copies a target; a NUL in it ends it.
    pub fn copy_of(text: &[u8]) -> Result<Self> {
        // SAFETY: The text is readable for its length.
        let copy =
            unsafe { bindings::kmemdup_nul(text.as_ptr().cast(), text.len(), bindings::CAIRNFS_GFP_KERNEL) };
        // INVARIANT: The copy has a NUL.
        NonNull::new(copy).map(Self).ok_or(ENOMEM)
    }

    /// Gives the memory away.
    pub(crate) fn into_raw(self) -> *mut ffi::c_char {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the memory is this value's.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

fn error_pointer(errno: ffi::c_int) -> *const ffi::c_char {
    ptr::without_provenance(errno as isize as usize)
}

/// # Safety
///
/// Called by VFS only, with a symbolic link of `T`.
pub(crate) unsafe extern "C" fn get_link_callback<T: Operations>(
    dentry: *mut bindings::dentry,
    inode: *mut bindings::inode,
    call: *mut bindings::delayed_call,
) -> *const ffi::c_char {
    if dentry.is_null() {
        // The walk is under RCU and must not sleep: it comes again.
        return error_pointer(ECHILD.to_errno());
    }
    // SAFETY: The link is one of `T`'s, and stays while the caller has it.
    match T::get_link(unsafe { Inode::<T>::from_raw(inode) }) {
        Ok(target) => {
            let target = target.into_raw();
            // SAFETY: The call is the caller's, who frees the memory by it when the walk is behind the link.
            unsafe { bindings::cairnfs_helper_set_delayed_kfree(call, target.cast()) };
            target
        }
        Err(error) => error_pointer(error.to_errno()),
    }
}
