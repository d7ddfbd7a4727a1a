// SPDX-License-Identifier: GPL-2.0

//! Reading directories. A position is the key of the next entry to be shown, so it stays good whatever is added or
//! removed in between.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use cairnfs_core::directory;
use cairnfs_core::format::directory::KEY_LAST;
use cairnfs_core::units::DirectoryKey;
use cairnfs_linux::file::{self, DirContext};
use cairnfs_linux::inode::Inode;
use kernel::prelude::*;

impl file::Operations for Cairnfs {
    fn iterate_shared(directory: &Inode<Self>, context: &mut DirContext<'_>) -> Result {
        let mounted = directory.super_block().data();
        let start = DirectoryKey(context.position());
        let mut is_complete = true;
        let read = directory::read_from(
            &mounted.metadata,
            &directory.data().inode,
            start,
            &mut |key, inode, file_type, name| {
                context.set_position(key.0);
                is_complete = context.emit(name, inode.0, file_type);
                if is_complete {
                    context.set_position(key.next().0);
                }
                Ok(is_complete)
            },
        );
        read.map_err(|error| mounted.errno(error))?;
        if is_complete {
            context.set_position(KEY_LAST.next().0);
        }
        Ok(())
    }
}
