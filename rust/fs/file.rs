// SPDX-License-Identifier: GPL-2.0

//! Open files: reading directories, fsync, ioctl.
//!
//! A directory's position is the key of the next entry to be shown, so it stays good whatever is added or removed in between.

#![forbid(unsafe_code)]

use crate::inode::VfsInode;
use crate::module::Cairnfs;
use crate::resize;
use crate::shutdown;
use cairnfs_core::directory;
use cairnfs_core::format::directory::KEY_LAST;
use cairnfs_core::units::DirectoryKey;
use cairnfs_linux::file::{self, DirContext, UserArgument};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

impl file::Operations for Cairnfs {
    fn iterate_shared(directory: &VfsInode, context: &mut DirContext<'_>) -> Result {
        let mounted = directory.super_block().data();
        let start = DirectoryKey(context.position());
        // A copy: who reads may fault into a file of this very filesystem, which must not happen under a lock of ours. VFS' own
        // lock keeps the directory as it is.
        let inode = directory.data().copy().map_err(|error| mounted.errno(error))?;
        let mut is_complete = true;
        let read = directory::read_from(mounted, &inode, start, &mut |key, inode, file_type, name| {
            context.set_position(key.0);
            is_complete = context.emit(name, inode.0, file_type);
            if is_complete {
                context.set_position(key.next().0);
            }
            Ok(is_complete)
        });
        read.map_err(|error| mounted.errno(error))?;
        if is_complete {
            context.set_position(KEY_LAST.next().0);
        }
        Ok(())
    }

    fn fsync(inode: &VfsInode, _start: i64, _end: i64, data_only: bool) -> Result {
        inode.super_block().data().sync_inode(inode, data_only)
    }

    fn before_write(inode: &VfsInode, position: u64, bytes: u64) -> Result {
        resize::before_write(inode, position, bytes)
    }

    fn make_room(inode: &VfsInode) {
        let super_block = inode.super_block();
        super_block.write_everything_back();
        // What writeback has not used of its promises, and what was freed: a commit makes it usable. Without one the write fails.
        let _ = super_block.data().remove_orphans(None);
        let _ = super_block.data().commit_frees();
    }

    fn release(inode: &VfsInode, was_writable: bool) {
        // Who empties a file, writes it anew and closes it means the new contents instead of the old ones.
        if was_writable && inode.data().was_emptied.swap(false, Ordering::Relaxed) {
            // What fails in this is reported by fsync.
            let _ = inode.start_writeback();
        }
    }

    fn ioctl(inode: &VfsInode, command: u32, argument: UserArgument) -> Result<u32> {
        shutdown::ioctl(inode, command, argument)
    }
}
