// SPDX-License-Identifier: GPL-2.0

//! The operations on names: create, mkdir, mknod, symlink, link, unlink, rmdir, rename, and the changes of attributes.
//!
//! VFS has checked permissions, locked the directories and the inodes that lose or gain a name, and seen to it that no directory
//! moves below itself. Each operation is one handle; none of them waits for I/O of the journal, but for a full one, and where
//! `dirsync` or `sync` ask for it. What a crash leaves is the whole operation or nothing of it.
//!
//! Locks: see `docs/locking.md`, path "names".

#![forbid(unsafe_code)]

use crate::attributes;
use crate::inode::{self, InodeData, VfsInode};
use crate::module::Cairnfs;
use crate::mounted::Mounted;
use cairnfs_core::error::{corrupt, Check};
use cairnfs_core::format::inode::{MODE_DIRECTORY, MODE_REGULAR, MODE_SYMLINK, MODE_TYPE};
use cairnfs_core::handle::Closed;
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::rename::{self, Mode, Place};
use cairnfs_core::operation::{create, link, reservation};
use cairnfs_core::platform::Platform as _;
use cairnfs_core::units::{BlockNo, InodeNo};
use cairnfs_linux::dentry::Dentry;
use cairnfs_linux::idmap::Idmap;
use cairnfs_linux::inode::{self as vfs, AttributeChange, Attributes, TimeFlags, RENAME_NOREPLACE};
use cairnfs_linux::platform::Kernel;
use cairnfs_linux::symlink::Target;
use cairnfs_linux::xattr::NameList;
use kernel::prelude::*;
use kernel::types::ARef;

const fn number(inode: &VfsInode) -> InodeNo {
    InodeNo(inode.number())
}

/// The inode that a dentry must have, since VFS has found it.
fn found<'a>(dentry: &'a Dentry<Cairnfs>) -> Result<&'a VfsInode> {
    dentry.inode().ok_or(ENOENT)
}

/// Waits for durability where the mount or the directory asks for that.
fn finish(directory: &VfsInode, closed: &Closed) -> Result {
    if !directory.is_dirsync() {
        return Ok(());
    }
    let mounted = directory.super_block().data();
    mounted.wait_for_change(closed.transaction)
}

/// Makes an inode with a name.
fn make(
    idmap: &Idmap,
    parent: &VfsInode,
    dentry: &Dentry<Cairnfs>,
    mode: u16,
    device: u32,
    target: Option<&[u8]>,
) -> Result {
    let super_block = parent.super_block();
    let mounted = super_block.data();
    let errno = |error| mounted.errno(error);
    // VFS' inode first, and what it is to say of a link: behind the handle nothing may fail for want of memory.
    let mut unborn = super_block.new_inode()?;
    let copied = target.map(Target::copy_of).transpose()?;
    unborn.init_owner(idmap, parent, mode);
    let new = NewInode {
        mode: unborn.mode(),
        uid: unborn.uid(),
        gid: unborn.gid(),
        device,
        flags: 0,
        project: 0,
        now_ns: Kernel.now_ns() as i64,
    };
    let worst = reservation::create(&parent.data().state.read().inode);
    let made = mounted.change(&[parent], worst, Class::Normal, &mut |handle| {
        create::create(handle, number(parent), dentry.name(), &new, target)
    });
    let (made, mut closed) = made.map_err(errno)?;
    let Some(inode) = closed.inodes.remove(made) else {
        return corrupt(Check::Dangling, BlockNo(0), made.0, 0).map_err(errno);
    };
    let parameters = inode::parameters_with(&inode, copied);
    let data = InodeData::new(inode, closed.transaction, None);
    unborn.instantiate(dentry, made.0, parameters, data)?;
    finish(parent, &closed)
}

/// Takes a name away. `is_directory`: it is a directory's.
fn take_name(parent: &VfsInode, dentry: &Dentry<Cairnfs>, is_directory: bool) -> Result {
    let mounted = parent.super_block().data();
    let child = found(dentry)?;
    let worst = reservation::unlink(&parent.data().state.read().inode);
    let taken = mounted.change(&[parent, child], worst, Class::Normal, &mut |handle| {
        let taken = if is_directory {
            link::remove_directory(handle, number(parent), dentry.name())?
        } else {
            link::unlink(handle, number(parent), dentry.name())?
        };
        mounted.hold_orphan(taken);
        Ok(())
    });
    let ((), closed) = taken.map_err(|error| mounted.errno(error))?;
    finish(parent, &closed)
}

impl vfs::Operations for Cairnfs {
    fn lookup(parent: &VfsInode, name: &[u8]) -> Result<Option<ARef<VfsInode>>> {
        inode::lookup(parent, name)
    }

    fn get_link(inode: &VfsInode) -> Result<Target> {
        inode::get_link(inode)
    }

    fn getattr(inode: &VfsInode) -> Attributes {
        inode::getattr(inode)
    }

    fn listxattr(inode: &VfsInode, list: &mut NameList<'_>) -> Result {
        inode::listxattr(inode, list)
    }

    fn create(
        idmap: &Idmap,
        parent: &VfsInode,
        dentry: &Dentry<Self>,
        mode: u16,
        _exclusive: bool,
    ) -> Result {
        make(idmap, parent, dentry, (mode & !MODE_TYPE) | MODE_REGULAR, 0, None)
    }

    fn mkdir(idmap: &Idmap, parent: &VfsInode, dentry: &Dentry<Self>, mode: u16) -> Result {
        make(idmap, parent, dentry, (mode & !MODE_TYPE) | MODE_DIRECTORY, 0, None)
    }

    fn mknod(idmap: &Idmap, parent: &VfsInode, dentry: &Dentry<Self>, mode: u16, device: u32) -> Result {
        make(idmap, parent, dentry, mode, device, None)
    }

    fn symlink(idmap: &Idmap, parent: &VfsInode, dentry: &Dentry<Self>, target: &[u8]) -> Result {
        make(idmap, parent, dentry, MODE_SYMLINK | 0o777, 0, Some(target))
    }

    fn link(inode: &VfsInode, parent: &VfsInode, dentry: &Dentry<Self>) -> Result {
        let mounted = parent.super_block().data();
        let worst = reservation::link(&parent.data().state.read().inode);
        let linked = mounted.change(&[parent, inode], worst, Class::Normal, &mut |handle| {
            link::link(handle, number(inode), number(parent), dentry.name())
        });
        let ((), closed) = linked.map_err(|error| mounted.errno(error))?;
        finish(parent, &closed)
    }

    fn unlink(parent: &VfsInode, dentry: &Dentry<Self>) -> Result {
        take_name(parent, dentry, false)
    }

    fn rmdir(parent: &VfsInode, dentry: &Dentry<Self>) -> Result {
        take_name(parent, dentry, true)
    }

    fn rename(
        _idmap: &Idmap,
        old_parent: &VfsInode,
        old_dentry: &Dentry<Self>,
        new_parent: &VfsInode,
        new_dentry: &Dentry<Self>,
        flags: u32,
    ) -> Result {
        let mode = match flags {
            0 => Mode::Replace,
            RENAME_NOREPLACE => Mode::NoReplace,
            _ => return Err(EINVAL),
        };
        let mounted = old_parent.super_block().data();
        let moved = found(old_dentry)?;
        // Without one that is replaced, the moved one is named twice, and locked once.
        let replaced = new_dentry.inode().unwrap_or(moved);
        if new_dentry.inode().is_some() && moved.is_regular() {
            // Who replaces a file by renaming another over it means its contents: they are durable no later than the name.
            moved.write_and_wait(0, i64::MAX)?;
        }
        // A copy: two locks of this kind are only taken in a handle, in the order of numbers.
        let old_copy = old_parent.data().copy().map_err(|error| mounted.errno(error))?;
        let worst = reservation::rename(&old_copy, &new_parent.data().state.read().inode);
        drop(old_copy);
        let renamed =
            mounted.change(&[old_parent, new_parent, moved, replaced], worst, Class::Normal, &mut |handle| {
                let from = Place { parent: number(old_parent), name: old_dentry.name() };
                let to = Place { parent: number(new_parent), name: new_dentry.name() };
                if let Some(replaced) = rename::rename(handle, from, to, mode, None)? {
                    mounted.hold_orphan(replaced);
                    // Contents that were overwritten in place are not logged, but must not come behind the name.
                    handle.note_data(moved.data().data_mark());
                }
                Ok(())
            });
        let ((), closed) = renamed.map_err(|error| mounted.errno(error))?;
        finish(old_parent, &closed)?;
        finish(new_parent, &closed)
    }

    fn setattr(idmap: &Idmap, inode: &VfsInode, change: &mut AttributeChange<'_>) -> Result {
        attributes::set(idmap, inode, change)
    }

    fn update_time(inode: &VfsInode, flags: TimeFlags) -> Result {
        attributes::update_time(inode, flags)
    }
}

impl Mounted {
    /// Makes an inode's changes durable: what fsync promises.
    pub(crate) fn sync_inode(&self, inode: &VfsInode, data_only: bool) -> Result {
        let data = inode.data();
        // After a failure nobody is told that all is well, not even where all was durable before.
        self.check_journal().map_err(|error| self.errno(error))?;
        self.wait_for(data.newest_change(data_only), data.data_mark())
    }
}
