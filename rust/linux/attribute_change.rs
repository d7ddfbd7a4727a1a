// SPDX-License-Identifier: GPL-2.0

//! `struct iattr`: attributes that a `setattr` is to change (include/linux/fs.h).

use crate::file_system_type::FileSystem;
use crate::idmap::Idmap;
use crate::inode::Inode;
use crate::time::Time;
use cairnfs_bindings as bindings;
use kernel::error::{to_result, Result};

/// A change of attributes.
///
/// # Invariants
///
/// The change is that of a running `setattr` callback for the inode of `dentry`; nobody else uses it.
pub struct AttributeChange<'a> {
    change: &'a mut bindings::iattr,
    dentry: *mut bindings::dentry,
}

/// What a change makes of attributes; nothing of those that it does not name, for others may be changing them.
#[derive(Clone, Copy)]
pub struct Attributes {
    /// Type and permissions.
    pub mode: Option<u16>,
    /// Owner, as it is written to the device.
    pub uid: Option<u32>,
    /// Group, as it is written to the device.
    pub gid: Option<u32>,
    /// Last access.
    pub accessed: Option<Time>,
    /// Last change of content.
    pub modified: Option<Time>,
    /// Last change of anything.
    pub changed: Option<Time>,
}

impl<'a> AttributeChange<'a> {
    /// # Safety
    ///
    /// They must be what the type's invariants say, for all of `'a`.
    pub(crate) unsafe fn from_raw(change: *mut bindings::iattr, dentry: *mut bindings::dentry) -> Self {
        // INVARIANT: As the caller vouches.
        // SAFETY: As the caller vouches.
        Self { change: unsafe { &mut *change }, dentry }
    }

    /// Whether the caller may do this: the first thing that a `setattr` does. May take bits out of the mode.
    pub fn prepare(&mut self, idmap: &Idmap) -> Result {
        // SAFETY: By the type invariants the dentry is valid and has an inode, which the caller of the callback has locked.
        to_result(unsafe { bindings::setattr_prepare(idmap.as_ptr(), self.dentry, self.change) })
    }

    const fn has(&self, flag: u32) -> bool {
        self.change.ia_valid & flag != 0
    }

    /// The new size, if it is to change.
    pub const fn size(&self) -> Option<u64> {
        if self.has(bindings::ATTR_SIZE) {
            // `setattr_prepare` lets no negative size through.
            Some(self.change.ia_size as u64)
        } else {
            None
        }
    }

    /// What the change makes of the inode's attributes, as the kernel's `setattr_copy` would: for a filesystem that writes a change
    /// down before it shows it. The same as long as the inode is locked for writing, as it is in a `setattr`.
    pub fn outcome<T: FileSystem>(&self, idmap: &Idmap, inode: &Inode<T>) -> Attributes {
        let (idmap, inode_raw, change) = (idmap.as_ptr(), inode.as_ptr(), &raw const *self.change);
        // SAFETY: Idmap, change and inode are valid, by the invariants of their types.
        let (uid, gid, keeps_setgid) = unsafe {
            (
                bindings::cairnfs_helper_iattr_uid(idmap, change, inode_raw),
                bindings::cairnfs_helper_iattr_gid(idmap, change, inode_raw),
                bindings::cairnfs_helper_iattr_keeps_setgid(idmap, change, inode_raw),
            )
        };
        let taken_away = if keeps_setgid { 0 } else { bindings::S_ISGID as u16 };
        let time = |flag, new| self.has(flag).then(|| Time::from_timespec(new));
        Attributes {
            mode: self.has(bindings::ATTR_MODE).then_some(self.change.ia_mode & !taken_away),
            uid: self.has(bindings::ATTR_UID).then_some(uid),
            gid: self.has(bindings::ATTR_GID).then_some(gid),
            accessed: time(bindings::ATTR_ATIME, self.change.ia_atime),
            modified: time(bindings::ATTR_MTIME, self.change.ia_mtime),
            changed: time(bindings::ATTR_CTIME, self.change.ia_ctime),
        }
    }
}
