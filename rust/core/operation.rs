// SPDX-License-Identifier: GPL-2.0

//! The operations on names, attributes and maps, each in one handle.
//!
//! Each takes the inodes that it changes out of its handle, works on them, and puts them back; nothing is visible, or logged,
//! before the handle closes. What POSIX asks of the caller (permissions, loops, mount points) has been checked by the VFS; what
//! only the filesystem can know (whether a name is there, a directory is empty, links are too many) is checked here.
//!
//! Every operation logs the inode that it names as well as the directory, so that `fsync` of a file covers its name.
//! A link count that falls to zero makes an orphan in the same transaction; freeing it is an operation of its own
//! ([`remove`]), when nobody has the file open any more.
//!
//! Locks: the caller holds the directories and inodes involved, in the order of `docs/locking.md`, until the handle has closed.

pub mod attributes;
pub mod create;
pub mod data;
pub mod index;
pub mod link;
pub mod remove;
pub mod rename;
pub mod reservation;

use crate::error::{Error, Result};
use crate::format::inode::{LINKS_MAX, NAME_BYTES_MAX};
use crate::handle::Handle;
use crate::inode::Inode;
use crate::memory::Owned;
use crate::units::InodeNo;

/// Takes a directory that is to be changed.
fn take_directory(handle: &mut Handle<'_>, number: InodeNo) -> Result<Owned<Inode>> {
    let directory = handle.take_used_inode(number)?;
    if !directory.core.is_directory() {
        return Err(Error::NotADirectory);
    }
    if directory.core.links == 0 {
        // Removed, but still somebody's working directory.
        return Err(Error::NotFound);
    }
    Ok(directory)
}

fn check_name(name: &[u8]) -> Result {
    match name.len() {
        0 => Err(Error::NotFound),
        1..=NAME_BYTES_MAX => Ok(()),
        _ => Err(Error::NameTooLong),
    }
}

/// Content has changed: times and change counter.
fn touch_content(inode: &mut Inode, now_ns: u64) {
    inode.core.modified_ns = now_ns as i64;
    touch(inode, now_ns);
}

/// Attributes have changed: time and change counter.
fn touch(inode: &mut Inode, now_ns: u64) {
    inode.core.changed_ns = now_ns as i64;
    count_change(inode);
}

/// Something has changed.
fn count_change(inode: &mut Inode) {
    inode.core.change_counter = inode.core.change_counter.wrapping_add(1);
}

fn add_link(inode: &mut Inode) -> Result {
    if inode.core.links >= LINKS_MAX {
        return Err(Error::TooManyLinks);
    }
    inode.core.links = inode.core.links.saturating_add(1);
    Ok(())
}

fn drop_link(inode: &mut Inode) {
    inode.core.links = inode.core.links.saturating_sub(1);
}
