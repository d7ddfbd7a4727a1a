// SPDX-License-Identifier: GPL-2.0

//! `struct mnt_idmap`: how a mount maps user and group ids (include/linux/mnt_idmapping.h).

use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;

/// The mapping of the mount through which an operation came.
///
/// # Invariants
///
/// References point to a valid `struct mnt_idmap`.
#[repr(transparent)]
pub struct Idmap(UnsafeCell<bindings::mnt_idmap>);

impl Idmap {
    /// # Safety
    ///
    /// `idmap` must be valid for all of `'a`.
    pub(crate) unsafe fn from_raw<'a>(idmap: *mut bindings::mnt_idmap) -> &'a Self {
        // INVARIANT: This function's requirements are the type's invariants.
        // SAFETY: The caller vouches for the pointer, and the type is a transparent wrapper.
        unsafe { &*idmap.cast() }
    }

    pub(crate) const fn as_ptr(&self) -> *mut bindings::mnt_idmap {
        self.0.get()
    }
}
