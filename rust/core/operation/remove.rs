// SPDX-License-Identifier: GPL-2.0

//! Freeing what nothing names any more: by number, from the orphan index, without a VFS inode.
//!
//! In steps, each a handle of its own: contents first, as many extents as a transaction may free; in the last step attributes,
//! directory or symlink blocks, the inode's number and the orphan's slot together. A crash between steps leaves a shorter
//! orphan.

use super::data::{cut, Progress};
use super::touch;
use crate::attributes;
use crate::directory;
use crate::error::{corrupt, Check, Error, Result};
use crate::extent_map::Limit;
use crate::format::inode::MapKind;
use crate::format::item::Operation;
use crate::format::orphan::OrphanKind;
use crate::handle::Handle;
use crate::inode::Inode;
use crate::symlink;
use crate::units::{BlockNo, InodeNo};

/// Frees an orphaned inode, or as much of it as `limit` allows.
pub fn remove_step(handle: &mut Handle<'_>, number: InodeNo, limit: Limit) -> Result<Progress> {
    handle.use_reserve();
    let mut inode = handle.take_used_inode(number)?;
    if inode.core.links != 0 {
        return Err(Error::InvalidArgument);
    }
    if inode.map_kind() == MapKind::Extents {
        inode.core.size_bytes = 0;
        if cut(handle, &mut inode, limit)? == Progress::More {
            touch(&mut inode, handle.now_ns());
            handle.put_inode(inode)?;
            handle.set_note(Operation::RemoveOrphan, number, InodeNo(0), InodeNo(0), (&[], &[]))?;
            return Ok(Progress::More);
        }
    }
    match inode.map_kind() {
        MapKind::InlineDirectory | MapKind::DirectoryTree => free_directory(&mut inode)?,
        MapKind::Symlink | MapKind::SymlinkBlock => symlink::free_target(handle, &mut inode)?,
        _ => {}
    }
    attributes::free_all(handle, &mut inode)?;
    handle.remove_orphan(number, OrphanKind::Inode)?;
    match handle.remove_orphan(number, OrphanKind::Truncate) {
        // It was being truncated when its last name went.
        Ok(()) | Err(Error::NotFound) => {}
        Err(error) => return Err(error),
    }
    handle.free_inode(inode)?;
    handle.set_note(Operation::RemoveOrphan, number, InodeNo(0), InodeNo(0), (&[], &[]))?;
    Ok(Progress::Done)
}

/// A directory loses its last name only when it is empty, and then has no blocks.
fn free_directory(inode: &mut Inode) -> Result {
    if !directory::is_empty(inode)? {
        return corrupt(Check::Reachable, BlockNo(0), 0, inode.number().0);
    }
    inode.resize_map(0)
}
