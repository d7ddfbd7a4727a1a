// SPDX-License-Identifier: GPL-2.0

//! The tables of `struct inode_operations`, and what VFS calls through them.

use super::{Inode, Operations, TimeFlags};
use crate::attribute_change::AttributeChange;
use crate::dentry::{self, Dentry};
use crate::idmap::Idmap;
use crate::{symlink, xattr};
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::slice;
use kernel::error::{from_result, Result};
use kernel::ffi;

pub(super) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    pub(super) const OTHER: &'static bindings::inode_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::inode_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.getattr = Some(Self::getattr_callback);
        table.setattr = Some(Self::setattr_callback);
        table.update_time = Some(Self::update_time_callback);
        table.listxattr = Some(Self::listxattr_callback);
        table
    };
    pub(super) const DIRECTORY: &'static bindings::inode_operations = &bindings::inode_operations {
        lookup: Some(dentry::lookup_callback::<T>),
        create: Some(Self::create_callback),
        mkdir: Some(Self::mkdir_callback),
        mknod: Some(Self::mknod_callback),
        symlink: Some(Self::symlink_callback),
        link: Some(Self::link_callback),
        unlink: Some(Self::unlink_callback),
        rmdir: Some(Self::rmdir_callback),
        rename: Some(Self::rename_callback),
        ..*Self::OTHER
    };
    pub(super) const SHORT_SYMLINK: &'static bindings::inode_operations =
        &bindings::inode_operations { get_link: Some(bindings::simple_get_link), ..*Self::OTHER };
    pub(super) const LONG_SYMLINK: &'static bindings::inode_operations =
        &bindings::inode_operations { get_link: Some(symlink::get_link_callback::<T>), ..*Self::OTHER };

    /// # Safety
    ///
    /// Called by VFS only, for an inode of `T`.
    unsafe extern "C" fn getattr_callback(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        out: *mut bindings::kstat,
        request_mask: u32,
        _query_flags: ffi::c_uint,
    ) -> ffi::c_int {
        // SAFETY: The path is valid; its dentry has an inode, of `T`, as long as the caller holds it.
        let inode = unsafe { Inode::<T>::from_raw((*(*path).dentry).d_inode) };
        let attributes = T::getattr(inode);
        let flags = [
            (attributes.is_immutable, bindings::STATX_ATTR_IMMUTABLE),
            (attributes.is_append_only, bindings::STATX_ATTR_APPEND),
            (attributes.is_no_dump, bindings::STATX_ATTR_NODUMP),
        ];
        // SAFETY: `out` is the caller's, to be filled in.
        unsafe {
            bindings::generic_fillattr(idmap, request_mask, inode.as_ptr(), out);
            (*out).blocks = (*out).blocks.saturating_add(attributes.unmapped_sectors);
            (*out).btime = attributes.born.timespec();
            (*out).result_mask |= bindings::STATX_BTIME;
            for (is_set, flag) in flags {
                (*out).attributes_mask |= u64::from(flag);
                if is_set {
                    (*out).attributes |= u64::from(flag);
                }
            }
        }
        0
    }

    /// # Safety
    ///
    /// Called by VFS only, for an inode of `T`.
    unsafe extern "C" fn listxattr_callback(
        dentry: *mut bindings::dentry,
        buffer: *mut ffi::c_char,
        bytes: usize,
    ) -> isize {
        let mut written = 0;
        let status = from_result(|| {
            // SAFETY: The dentry is valid and has an inode, of `T`, as long as the caller holds it.
            let inode = unsafe { Inode::<T>::from_raw((*dentry).d_inode) };
            // SAFETY: The buffer is the caller's.
            let mut list = unsafe { xattr::NameList::from_raw(buffer.cast(), bytes) };
            T::listxattr(inode, &mut list)?;
            written = list.total_bytes() as isize;
            Ok(0)
        });
        if status < 0 {
            status as isize
        } else {
            written
        }
    }

    /// # Safety
    ///
    /// Called by VFS only, for an inode of `T` that is locked for writing.
    unsafe extern "C" fn setattr_callback(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        change: *mut bindings::iattr,
    ) -> ffi::c_int {
        // SAFETY: The dentry is valid and has an inode, of `T`, as long as the caller holds it. Change and idmap are this call's.
        let (idmap, inode, mut change) = unsafe {
            (
                Idmap::from_raw(idmap),
                Inode::<T>::from_raw((*dentry).d_inode),
                AttributeChange::from_raw(change, dentry),
            )
        };
        status_of(T::setattr(idmap, inode, &mut change))
    }

    /// # Safety
    ///
    /// Called by VFS only, for an inode of `T`.
    unsafe extern "C" fn update_time_callback(inode: *mut bindings::inode, flags: ffi::c_int) -> ffi::c_int {
        // SAFETY: The inode is one of `T`'s, and the caller has a reference.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        status_of(T::update_time(inode, TimeFlags::from_raw(flags)))
    }

    /// The first three arguments of what makes an object.
    ///
    /// # Safety
    ///
    /// They must be those of a running callback, with a directory of `T` that is locked for writing, and a dentry in it.
    unsafe fn makers<'a>(
        idmap: *mut bindings::mnt_idmap,
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> (&'a Idmap, &'a Inode<T>, &'a Dentry<T>) {
        // SAFETY: The caller of the callback holds all three; the parent is locked.
        unsafe { (Idmap::from_raw(idmap), Inode::from_raw(parent), Dentry::from_raw(dentry)) }
    }

    /// # Safety
    ///
    /// Called by VFS only, with a directory of `T` that is locked for writing, and a dentry in it without an inode.
    unsafe extern "C" fn create_callback(
        idmap: *mut bindings::mnt_idmap,
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        exclusive: bool,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        let (idmap, parent, dentry) = unsafe { Self::makers(idmap, parent, dentry) };
        status_of(T::create(idmap, parent, dentry, mode, exclusive))
    }

    /// # Safety
    ///
    /// As [`Self::create_callback`].
    unsafe extern "C" fn mkdir_callback(
        idmap: *mut bindings::mnt_idmap,
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        let (idmap, parent, dentry) = unsafe { Self::makers(idmap, parent, dentry) };
        status_of(T::mkdir(idmap, parent, dentry, mode))
    }

    /// # Safety
    ///
    /// As [`Self::create_callback`].
    unsafe extern "C" fn mknod_callback(
        idmap: *mut bindings::mnt_idmap,
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        device: bindings::dev_t,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        let (idmap, parent, dentry) = unsafe { Self::makers(idmap, parent, dentry) };
        // SAFETY: Only computes.
        let device = unsafe { bindings::cairnfs_helper_new_encode_dev(device) };
        status_of(T::mknod(idmap, parent, dentry, mode, device))
    }

    /// # Safety
    ///
    /// As [`Self::create_callback`]; the target ends with a NUL.
    unsafe extern "C" fn symlink_callback(
        idmap: *mut bindings::mnt_idmap,
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const ffi::c_char,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        let (idmap, parent, dentry) = unsafe { Self::makers(idmap, parent, dentry) };
        // SAFETY: The target is the caller's, and readable up to its NUL.
        let target = unsafe { slice::from_raw_parts(target.cast(), bindings::strlen(target)) };
        status_of(T::symlink(idmap, parent, dentry, target))
    }

    /// # Safety
    ///
    /// Called by VFS only, with a directory of `T` that is locked for writing, a dentry in it without an inode, and a dentry with
    /// an inode of `T` that is no directory and is locked for writing too.
    unsafe extern "C" fn link_callback(
        old_dentry: *mut bindings::dentry,
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> ffi::c_int {
        // SAFETY: The caller holds all three, and has the inodes locked.
        let (inode, parent, new) = unsafe {
            (
                Inode::<T>::from_raw((*old_dentry).d_inode),
                Inode::<T>::from_raw(parent),
                Dentry::<T>::from_raw(dentry),
            )
        };
        from_result(|| {
            T::link(inode, parent, new)?;
            // SAFETY: The dentry has no inode, and its parent is locked, so it gets none but here. It takes the reference.
            unsafe {
                bindings::ihold(inode.as_ptr());
                bindings::d_instantiate(dentry, inode.as_ptr());
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by VFS only, with a directory of `T` that is locked for writing, and a dentry in it with an inode that is
    /// locked for writing too.
    unsafe extern "C" fn unlink_callback(
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> ffi::c_int {
        // SAFETY: The caller holds both, and has the inodes locked.
        let (parent, dentry) = unsafe { (Inode::<T>::from_raw(parent), Dentry::<T>::from_raw(dentry)) };
        status_of(T::unlink(parent, dentry))
    }

    /// # Safety
    ///
    /// As [`Self::unlink_callback`], for a directory.
    unsafe extern "C" fn rmdir_callback(
        parent: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> ffi::c_int {
        // SAFETY: The caller holds both, and has the inodes locked.
        let (parent, dentry) = unsafe { (Inode::<T>::from_raw(parent), Dentry::<T>::from_raw(dentry)) };
        status_of(T::rmdir(parent, dentry))
    }

    /// # Safety
    ///
    /// Called by VFS only, with two directories of `T` (perhaps the same) that are locked for writing, and a dentry in each.
    unsafe extern "C" fn rename_callback(
        idmap: *mut bindings::mnt_idmap,
        old_parent: *mut bindings::inode,
        old_dentry: *mut bindings::dentry,
        new_parent: *mut bindings::inode,
        new_dentry: *mut bindings::dentry,
        flags: ffi::c_uint,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say, and both dentries keep their names until VFS moves them afterwards.
        let (idmap, old_parent, old_dentry) = unsafe { Self::makers(idmap, old_parent, old_dentry) };
        // SAFETY: As above.
        let (new_parent, new_dentry) =
            unsafe { (Inode::<T>::from_raw(new_parent), Dentry::<T>::from_raw(new_dentry)) };
        status_of(T::rename(idmap, old_parent, old_dentry, new_parent, new_dentry, flags))
    }
}

fn status_of(result: Result) -> ffi::c_int {
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
