// SPDX-License-Identifier: GPL-2.0

//! Making files, directories, symbolic links, devices, pipes and sockets.

use super::{add_link, check_name, take_directory, touch_content};
use crate::directory;
use crate::error::{Error, Result};
use crate::format::inode::{self, MODE_DIRECTORY, MODE_SYMLINK, MODE_TYPE};
use crate::format::item::Operation;
use crate::handle::Handle;
use crate::inode::{Inode, NewInode};
use crate::symlink;
use crate::tree;
use crate::units::{InodeGeneration, InodeNo};

/// Makes an inode and gives it its first name. `target` is a symbolic link's. Returns its number.
pub fn create(
    handle: &mut Handle<'_>,
    parent: InodeNo,
    name: &[u8],
    new: &NewInode,
    target: Option<&[u8]>,
) -> Result<InodeNo> {
    check_name(name)?;
    let file_type = inode::file_type(new.mode).ok_or(Error::InvalidArgument)?;
    let is_directory = new.mode & MODE_TYPE == MODE_DIRECTORY;
    let mut directory = take_directory(handle, parent)?;
    let (number, generation) = handle.allocate_inode(parent, is_directory)?;
    let mut inode = Inode::new(number, InodeGeneration(generation), new)?;
    let hash_key = *handle.environment().hash_key();
    directory::insert(handle, &hash_key, &mut directory, name, number, file_type)?;
    add_link(&mut inode)?;
    if is_directory {
        // Its own `.`, and the parent's share of its `..`.
        add_link(&mut inode)?;
        add_link(&mut directory)?;
        inode.core.parent = parent;
    }
    let operation = match (new.mode & MODE_TYPE, target) {
        (MODE_SYMLINK, Some(target)) => {
            let goal = tree::place_of(handle.environment().geometry(), &inode);
            symlink::set_target(handle, &mut inode, target, goal)?;
            Operation::Symlink
        }
        (MODE_SYMLINK, None) | (_, Some(_)) => return Err(Error::InvalidArgument),
        (MODE_DIRECTORY, None) => Operation::MakeDirectory,
        (_, None) => Operation::Create,
    };
    let now_ns = handle.now_ns();
    touch_content(&mut directory, now_ns);
    handle.put_inode(inode)?;
    handle.put_inode(directory)?;
    handle.set_note(operation, number, parent, InodeNo(0), (name, &[]))?;
    Ok(number)
}
