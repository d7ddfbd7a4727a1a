// SPDX-License-Identifier: GPL-2.0

//! Changing attributes: chmod, chown, utimes, and the times that VFS moves by itself.
//!
//! What a change comes to (set-id bits, mapped owners) is the kernel's own business; what it comes to is logged, and VFS' inode
//! becomes it when the handle has closed.
//!
//! Locks: VFS' lock of the inode for `set`, none of VFS' for `update_time`; then a handle and the inode's state.

#![forbid(unsafe_code)]

use crate::inode::{Scope, VfsInode};
use crate::memory::insist;
use crate::resize;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::attributes::{self, Changes, Times};
use cairnfs_core::operation::reservation;
use cairnfs_core::platform::Platform as _;
use cairnfs_core::units::InodeNo;
use cairnfs_linux::attribute_change::AttributeChange;
use cairnfs_linux::idmap::Idmap;
use cairnfs_linux::inode::TimeFlags;
use cairnfs_linux::platform::Kernel;
use cairnfs_linux::time::Time;
use kernel::prelude::*;

/// setattr: the size first, then everything else.
pub(crate) fn set(idmap: &Idmap, inode: &VfsInode, change: &mut AttributeChange<'_>) -> Result {
    change.prepare(idmap)?;
    let size_bytes = change.size();
    if let Some(size_bytes) = size_bytes {
        resize::set_size(inode, size_bytes)?;
    }
    let outcome = change.outcome(idmap, inode);
    let changes = Changes {
        permissions: outcome.mode,
        uid: outcome.uid,
        gid: outcome.gid,
        flags: None,
        accessed_ns: outcome.accessed.map(Time::to_ns),
        modified_ns: outcome.modified.map(Time::to_ns),
        changed_ns: outcome.changed.map(Time::to_ns),
    };
    let mounted = inode.super_block().data();
    let worst = reservation::set_attributes();
    // A size that has been set must not be said to have failed: not for want of memory, nor because its program is killed.
    let class = if size_bytes.is_some() { Class::Reserved } else { Class::Normal };
    let mut set_others = || {
        mounted.change(&[inode], worst, class, &mut |handle| {
            attributes::set_attributes(handle, InodeNo(inode.number()), &changes)
        })
    };
    let changed = if size_bytes.is_some() { insist(&mut set_others) } else { set_others() };
    let ((), closed) = changed.map_err(|error| mounted.errno(error))?;
    if inode.is_sync() {
        mounted.wait_for_change(closed.transaction)?;
    }
    Ok(())
}

/// VFS has seen an access or a change: the times that `flags` name become the present.
pub(crate) fn update_time(inode: &VfsInode, flags: TimeFlags) -> Result {
    let mounted = inode.super_block().data();
    let now_ns = Kernel.now_ns() as i64;
    let times = Times {
        accessed_ns: flags.accessed.then_some(now_ns),
        modified_ns: flags.modified.then_some(now_ns),
        changed_ns: flags.changed.then_some(now_ns),
    };
    let worst = reservation::set_attributes();
    let changed = mounted.change_within(Scope::Times, &[inode], worst, Class::Normal, &mut |handle| {
        attributes::update_times(handle, InodeNo(inode.number()), &times)
    });
    changed.map_err(|error| mounted.errno(error))?;
    Ok(())
}
