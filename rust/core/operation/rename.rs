// SPDX-License-Identifier: GPL-2.0

//! Moving names: replace, no-replace, exchange, and leaving a whiteout behind.
//!
//! Up to five inodes: two directories, what is moved, what is replaced, the whiteout. A directory's parent, and with it the
//! link counts of both parents, change only when it moves from one to the other.

use super::link::{lose_directory, lose_name};
use super::{add_link, check_name, drop_link, take_directory, touch, touch_content};
use crate::directory::{self, Entry};
use crate::error::{Error, Result};
use crate::format::inode::{self, MODE_CHARACTER_DEVICE};
use crate::format::item::Operation;
use crate::format::orphan::Cause;
use crate::handle::Handle;
use crate::inode::{Inode, NewInode};
use crate::memory::Owned;
use crate::units::{InodeGeneration, InodeNo};

/// What a rename does with a name that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Replace it.
    Replace,
    /// Fail.
    NoReplace,
    /// Give it the old name.
    Exchange,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The directory.
    pub parent: InodeNo,
    /// The name.
    pub name: &'a [u8],
}

/// Both directories; one, when they are the same.
struct Parents {
    old: Owned<Inode>,
    new: Option<Owned<Inode>>,
}

impl Parents {
    fn new_mut(&mut self) -> &mut Inode {
        self.new.as_mut().unwrap_or(&mut self.old)
    }
}

/// Moves a name. With `whiteout`, a character device 0:0 with these attributes takes the old name (not for exchanges).
/// Returns what was replaced, if anything was.
pub fn rename(
    handle: &mut Handle<'_>,
    from: Place<'_>,
    to: Place<'_>,
    mode: Mode,
    whiteout: Option<&NewInode>,
) -> Result<Option<InodeNo>> {
    check_name(from.name)?;
    check_name(to.name)?;
    let old = take_directory(handle, from.parent)?;
    let new = if from.parent == to.parent { None } else { Some(take_directory(handle, to.parent)?) };
    let mut parents = Parents { old, new };
    let hash_key = *handle.environment().hash_key();
    let source = directory::lookup(handle, &hash_key, &parents.old, from.name)?.ok_or(Error::NotFound)?;
    let target = directory::lookup(handle, &hash_key, parents.new_mut(), to.name)?;
    let replaced = match (mode, target) {
        (Mode::NoReplace, Some(_)) => return Err(Error::Exists),
        (Mode::Exchange, None) => return Err(Error::NotFound),
        (_, Some(target)) if target.inode == source.inode => {
            // Two names of one inode: POSIX has rename do nothing at all.
            handle.put_inode(parents.old)?;
            if let Some(new) = parents.new {
                handle.put_inode(new)?;
            }
            return Ok(None);
        }
        (Mode::Exchange, Some(target)) => {
            if whiteout.is_some() {
                return Err(Error::InvalidArgument);
            }
            exchange(handle, &mut parents, (from.name, source), (to.name, target))?;
            None
        }
        (_, target) => {
            move_name(handle, &mut parents, (from.name, source), (to.name, target))?;
            leave(handle, &mut parents, from.name, whiteout)?;
            target.map(|entry| entry.inode)
        }
    };
    let now_ns = handle.now_ns();
    touch_content(&mut parents.old, now_ns);
    handle.put_inode(parents.old)?;
    if let Some(mut new) = parents.new {
        touch_content(&mut new, now_ns);
        handle.put_inode(new)?;
    }
    let other = replaced.unwrap_or(to.parent);
    handle.set_note(Operation::Rename, source.inode, from.parent, other, (from.name, to.name))?;
    Ok(replaced)
}

/// The old name is gone from its directory: removed, or a whiteout's.
fn leave(handle: &mut Handle<'_>, parents: &mut Parents, name: &[u8], whiteout: Option<&NewInode>) -> Result {
    let hash_key = *handle.environment().hash_key();
    let Some(new) = whiteout else {
        directory::remove(handle, &hash_key, &mut parents.old, name)?;
        return Ok(());
    };
    if new.mode & inode::MODE_TYPE != MODE_CHARACTER_DEVICE || new.device != 0 {
        return Err(Error::InvalidArgument);
    }
    let (number, generation) = handle.allocate_inode(parents.old.number(), false)?;
    let mut whiteout = Inode::new(number, InodeGeneration(generation), new)?;
    add_link(&mut whiteout)?;
    let file_type = inode::file_type(new.mode).ok_or(Error::InvalidArgument)?;
    directory::replace(handle, &hash_key, &mut parents.old, name, number, file_type)?;
    handle.put_inode(whiteout)
}

fn move_name(
    handle: &mut Handle<'_>,
    parents: &mut Parents,
    (_, source): (&[u8], Entry),
    (new_name, target): (&[u8], Option<Entry>),
) -> Result {
    let hash_key = *handle.environment().hash_key();
    let now_ns = handle.now_ns();
    let mut moved = handle.take_used_inode(source.inode)?;
    if let Some(target) = target {
        let mut victim = handle.take_used_inode(target.inode)?;
        match (moved.core.is_directory(), victim.core.is_directory()) {
            (true, false) => return Err(Error::NotADirectory),
            (false, true) => return Err(Error::IsADirectory),
            (true, true) => lose_directory(handle, &mut victim, parents.new_mut(), Cause::Replace)?,
            (false, false) => lose_name(handle, &mut victim, Cause::Replace)?,
        }
        touch(&mut victim, now_ns);
        handle.put_inode(victim)?;
        directory::replace(handle, &hash_key, parents.new_mut(), new_name, source.inode, source.file_type)?;
    } else {
        directory::insert(handle, &hash_key, parents.new_mut(), new_name, source.inode, source.file_type)?;
    }
    adopt(&mut moved, parents)?;
    touch(&mut moved, now_ns);
    handle.put_inode(moved)
}

/// A directory that has moved to another one has a new parent.
fn adopt(moved: &mut Inode, parents: &mut Parents) -> Result {
    let Some(new) = parents.new.as_mut().filter(|_| moved.core.is_directory()) else {
        return Ok(());
    };
    add_link(new)?;
    drop_link(&mut parents.old);
    moved.core.parent = new.number();
    Ok(())
}

fn exchange(
    handle: &mut Handle<'_>,
    parents: &mut Parents,
    (old_name, source): (&[u8], Entry),
    (new_name, target): (&[u8], Entry),
) -> Result {
    let hash_key = *handle.environment().hash_key();
    let now_ns = handle.now_ns();
    directory::replace(handle, &hash_key, &mut parents.old, old_name, target.inode, target.file_type)?;
    directory::replace(handle, &hash_key, parents.new_mut(), new_name, source.inode, source.file_type)?;
    let mut first = handle.take_used_inode(source.inode)?;
    let mut second = handle.take_used_inode(target.inode)?;
    if let Some(new) = parents.new.as_mut() {
        if first.core.is_directory() {
            add_link(new)?;
            drop_link(&mut parents.old);
            first.core.parent = new.number();
        }
        if second.core.is_directory() {
            add_link(&mut parents.old)?;
            drop_link(new);
            second.core.parent = parents.old.number();
        }
    }
    touch(&mut first, now_ns);
    touch(&mut second, now_ns);
    handle.put_inode(first)?;
    handle.put_inode(second)
}
