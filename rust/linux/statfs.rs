// SPDX-License-Identifier: GPL-2.0

//! `struct kstatfs`: what df shows (include/linux/statfs.h).

use cairnfs_bindings as bindings;
use kernel::ffi::c_long;

/// Sizes and counts of a filesystem.
pub struct Statistics {
    /// The magic number by which programs know the filesystem.
    pub magic: u32,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks for data.
    pub blocks: u64,
    /// Free ones.
    pub free_blocks: u64,
    /// Free ones that anybody may have.
    pub available_blocks: u64,
    /// Inodes.
    pub inodes: u64,
    /// Free ones.
    pub free_inodes: u64,
    /// Names this filesystem, among all.
    pub id: u64,
    /// Bytes of the longest name.
    pub name_bytes_max: u32,
}

impl Statistics {
    pub(crate) fn store(&self, out: &mut bindings::kstatfs) {
        out.f_type = self.magic as c_long;
        out.f_bsize = self.block_bytes as c_long;
        out.f_frsize = self.block_bytes as c_long;
        out.f_blocks = self.blocks;
        out.f_bfree = self.free_blocks;
        out.f_bavail = self.available_blocks;
        out.f_files = self.inodes;
        out.f_ffree = self.free_inodes;
        out.f_fsid.val = [self.id as i32, (self.id >> 32) as i32];
        out.f_namelen = self.name_bytes_max as c_long;
    }
}
