// SPDX-License-Identifier: GPL-2.0

//! The shutdown ioctl, as XFS and ext4 have it: for tests, and for who must stop a filesystem at once.
//!
//! Nothing is written afterwards; what is in memory can still be read. The next mount recovers, as after a power cut.

#![forbid(unsafe_code)]

use crate::inode::VfsInode;
use cairnfs_core::error::Error;
use cairnfs_linux::errno::Errno;
use cairnfs_linux::file::{may_administer, UserArgument};
use kernel::prelude::*;

/// `_IOR('X', 125, __u32)`.
const SHUTDOWN: u32 = 0x8004_587D;
/// Everything is written first.
const MODE_DEFAULT: u32 = 0;
/// What is in the journal is made durable first.
const MODE_LOG_FLUSH: u32 = 1;
/// At once.
const MODE_NO_LOG_FLUSH: u32 = 2;

/// The ioctls of an open file or directory.
pub(crate) fn ioctl(inode: &VfsInode, command: u32, argument: UserArgument) -> Result<u32> {
    match command {
        SHUTDOWN => shut_down(inode, argument.read_u32()?),
        _ => Err(Errno::ENOTTY.into()),
    }
}

fn shut_down(inode: &VfsInode, mode: u32) -> Result<u32> {
    if !may_administer() {
        return Err(EPERM);
    }
    let super_block = inode.super_block();
    let mounted = super_block.data();
    match mode {
        MODE_DEFAULT => {
            super_block.freeze_device()?;
            mounted.shut_down(Error::ShutDown);
            super_block.thaw_device()?;
        }
        MODE_LOG_FLUSH => {
            // Without durability nothing is lost that was promised.
            let _ = mounted.commit();
            mounted.shut_down(Error::ShutDown);
        }
        MODE_NO_LOG_FLUSH => mounted.shut_down(Error::ShutDown),
        _ => return Err(EINVAL),
    }
    Ok(0)
}
