// SPDX-License-Identifier: GPL-2.0

//! Adding a name to an inode, and taking one away.

use super::{add_link, check_name, drop_link, take_directory, touch, touch_content};
use crate::directory;
use crate::error::{Error, Result};
use crate::format::inode;
use crate::format::item::Operation;
use crate::format::orphan::{Cause, OrphanKind};
use crate::handle::Handle;
use crate::inode::Inode;
use crate::units::InodeNo;

/// Gives `number` another name.
pub fn link(handle: &mut Handle<'_>, number: InodeNo, parent: InodeNo, name: &[u8]) -> Result {
    check_name(name)?;
    let mut directory = take_directory(handle, parent)?;
    let mut inode = handle.take_used_inode(number)?;
    if inode.core.is_directory() {
        return Err(Error::NotPermitted);
    }
    if inode.core.links == 0 {
        return Err(Error::NotFound);
    }
    let file_type = inode::file_type(inode.core.mode).ok_or(Error::InvalidArgument)?;
    let hash_key = *handle.environment().hash_key();
    directory::insert(handle, &hash_key, &mut directory, name, number, file_type)?;
    add_link(&mut inode)?;
    let now_ns = handle.now_ns();
    touch(&mut inode, now_ns);
    touch_content(&mut directory, now_ns);
    handle.put_inode(inode)?;
    handle.put_inode(directory)?;
    handle.set_note(Operation::Link, number, parent, InodeNo(0), (name, &[]))
}

/// Takes the name of something that is not a directory away. Returns the inode's number.
pub fn unlink(handle: &mut Handle<'_>, parent: InodeNo, name: &[u8]) -> Result<InodeNo> {
    check_name(name)?;
    handle.use_reserve();
    let mut directory = take_directory(handle, parent)?;
    let hash_key = *handle.environment().hash_key();
    let entry = directory::remove(handle, &hash_key, &mut directory, name)?;
    let mut inode = handle.take_used_inode(entry.inode)?;
    if inode.core.is_directory() {
        return Err(Error::IsADirectory);
    }
    let now_ns = handle.now_ns();
    lose_name(handle, &mut inode, Cause::Unlink)?;
    touch(&mut inode, now_ns);
    touch_content(&mut directory, now_ns);
    handle.put_inode(inode)?;
    handle.put_inode(directory)?;
    handle.set_note(Operation::Unlink, entry.inode, parent, InodeNo(0), (name, &[]))?;
    Ok(entry.inode)
}

/// Takes an empty directory's name away. Returns the inode's number.
pub fn remove_directory(handle: &mut Handle<'_>, parent: InodeNo, name: &[u8]) -> Result<InodeNo> {
    check_name(name)?;
    handle.use_reserve();
    let mut directory = take_directory(handle, parent)?;
    let hash_key = *handle.environment().hash_key();
    let entry = directory::remove(handle, &hash_key, &mut directory, name)?;
    let mut inode = handle.take_used_inode(entry.inode)?;
    let now_ns = handle.now_ns();
    lose_directory(handle, &mut inode, &mut directory, Cause::Unlink)?;
    touch(&mut inode, now_ns);
    touch_content(&mut directory, now_ns);
    handle.put_inode(inode)?;
    handle.put_inode(directory)?;
    handle.set_note(Operation::RemoveDirectory, entry.inode, parent, InodeNo(0), (name, &[]))?;
    Ok(entry.inode)
}

/// One name less; without any it is an orphan.
pub(super) fn lose_name(handle: &mut Handle<'_>, inode: &mut Inode, cause: Cause) -> Result {
    drop_link(inode);
    if inode.core.links == 0 {
        handle.add_orphan(inode.number(), OrphanKind::Inode, cause)?;
    }
    Ok(())
}

/// An empty directory loses its only name: it is an orphan, and its parent has one `..` less.
pub(super) fn lose_directory(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    parent: &mut Inode,
    cause: Cause,
) -> Result {
    if !inode.core.is_directory() {
        return Err(Error::NotADirectory);
    }
    if !directory::is_empty(inode)? {
        return Err(Error::NotEmpty);
    }
    inode.core.links = 0;
    drop_link(parent);
    handle.add_orphan(inode.number(), OrphanKind::Inode, cause)
}
