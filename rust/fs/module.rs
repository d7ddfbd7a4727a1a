// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading: the self-test of the checksum, then the filesystem's type.

#![forbid(unsafe_code)]

use crate::inode::InodeData;
use crate::mounted::Mounted;
use crate::options::Options;
use cairnfs_core::platform::{crc32c_bitwise, Platform};
use cairnfs_linux::file_system_type::{FileSystem, FileSystemType, Registration};
use cairnfs_linux::platform::Kernel;
use kernel::c_str;
use kernel::prelude::*;

/// The filesystem; each of its tables of operations is in the file that it is about.
pub(crate) struct Cairnfs;

impl FileSystem for Cairnfs {
    const NAME: &'static CStr = c_str!("cairnfs");
    const INODE_CACHE_NAME: &'static CStr = c_str!("cairnfs_inode");

    type Options = Options;
    type Data = Mounted;
    type InodeData = InodeData;

    fn file_system_type() -> &'static FileSystemType<Self> {
        &CAIRNFS
    }
}

static CAIRNFS: FileSystemType<Cairnfs> = FileSystemType::new();

/// The loaded module.
pub(crate) struct Module {
    _registration: Registration<Cairnfs>,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        check_crc32c(&Kernel)?;
        let registration = CAIRNFS.register()?;
        pr_info!("loaded\n");
        Ok(Self { _registration: registration })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        pr_info!("unloaded\n");
    }
}

/// Compares the kernel's CRC-32C with its definition: a driver for other hardware may compute it, and every block
/// on disk depends on it. Lengths around a word and a cache line take the driver through its ways of doing it.
fn check_crc32c(platform: &dyn Platform) -> Result {
    static BYTES: [u8; 131] = [0xA5; 131];
    for len in [0, 1, 7, 8, 9, 63, 64, 65, 131] {
        let bytes = BYTES.get(..len).unwrap_or_default();
        if platform.crc32c(1, bytes) != crc32c_bitwise(1, bytes) {
            pr_err!("the kernel's crc32c is wrong for {len} bytes\n");
            return Err(EIO);
        }
    }
    Ok(())
}
