// SPDX-License-Identifier: GPL-2.0

//! `struct dentry`: a name that was looked up (include/linux/dcache.h).

use crate::file_system_type::FileSystem;
use crate::inode::{Inode, Operations};
use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::{ptr, slice};
use kernel::error::Error;
use kernel::ffi;

/// A dentry whose parent is locked, so that nobody else gives it another name or inode.
///
/// # Invariants
///
/// References point to a valid `struct dentry` of the filesystem `T`, held by the caller of a callback who has its parent locked
/// for writing, or both parents of a rename. Its inode, if it has one, is initialised.
#[repr(transparent)]
pub struct Dentry<T: FileSystem>(UnsafeCell<bindings::dentry>, PhantomData<T>);

impl<T: FileSystem> Dentry<T> {
    /// # Safety
    ///
    /// `dentry` must be what the type's invariants say, for all of `'a`.
    pub(crate) unsafe fn from_raw<'a>(dentry: *mut bindings::dentry) -> &'a Self {
        // INVARIANT: This function's requirements are the type's invariants.
        // SAFETY: The caller vouches for the pointer, and the type is a transparent wrapper.
        unsafe { &*dentry.cast() }
    }

    pub(crate) const fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.get()
    }

    /// Its name. The lock of the parent keeps it.
    pub fn name(&self) -> &[u8] {
        // SAFETY: By the type invariants the parent is locked, so the name does not change.
        unsafe { name(self.as_ptr()) }
    }

    /// What it stands for, if anything. The lock of the parent keeps it from changing, and the dentry has a reference to the
    /// inode.
    pub fn inode(&self) -> Option<&Inode<T>> {
        // SAFETY: By the type invariants the dentry is valid, and its inode, if it has one, is one of `T`'s, and stays.
        unsafe {
            let inode = (&raw const (*self.as_ptr()).d_inode).read_volatile();
            (!inode.is_null()).then(|| Inode::from_raw(inode))
        }
    }
}

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
