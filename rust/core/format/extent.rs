// SPDX-License-Identifier: GPL-2.0

//! Extents: which blocks of the device hold which blocks of a file.
//!
//! Extents of a file are in ascending order and do not overlap; neighbours that continue one another in both
//! spaces and have the same flags are one extent. They stand in the inode's area (level 0), or in leaves.

use crate::error::{corrupt, Check, Result};
use crate::format::group::Geometry;
use crate::format::layout::layout;
use crate::format::tree::ENTRIES_OFFSET;
use crate::units::{BlockNo, BlockRun, FileBlock, BLOCK_BYTES};

layout! {
    /// A run of file blocks on the device.
    pub struct Extent: 24 {
        /// The first block of the file.
        0 => file_block: FileBlock,
        /// The first block of the device.
        8 => block: BlockNo,
        /// How many.
        16 => blocks: u32,
        /// `EXTENT_*` bits.
        20 => flags: u32,
    }
}

/// Allocated, reads as zero: never written.
pub const EXTENT_UNWRITTEN: u32 = 1 << 0;
/// All bits of `flags` that exist.
pub const EXTENT_FLAGS_ALL: u32 = EXTENT_UNWRITTEN;

/// The first file block that no file can have: offsets are less than 2^63 bytes.
pub const FILE_BLOCKS_MAX: u64 = 1 << 51;

/// Extents that a leaf block holds.
pub const BLOCK_EXTENTS: usize = (BLOCK_BYTES - ENTRIES_OFFSET) / Extent::SIZE;

impl Extent {
    /// The file block behind the last one.
    pub const fn end(&self) -> FileBlock {
        FileBlock(self.file_block.0.saturating_add(self.blocks as u64))
    }

    /// The blocks of the device.
    pub const fn run(&self) -> BlockRun {
        BlockRun { start: self.block, blocks: self.blocks as u64 }
    }

    /// Whether `next` continues this extent, so that both are one.
    pub fn continues_with(&self, next: &Self) -> bool {
        self.end() == next.file_block
            && self.run().end() == next.block
            && self.flags == next.flags
            && self.blocks.checked_add(next.blocks).is_some()
    }

    /// Checks one extent by itself; `at` is the block it was read from.
    pub fn check(&self, geometry: &Geometry, at: BlockNo) -> Result {
        if self.blocks == 0 || self.end().0 > FILE_BLOCKS_MAX {
            return corrupt(Check::Bounds, at, FILE_BLOCKS_MAX, self.end().0);
        }
        if self.flags & !EXTENT_FLAGS_ALL != 0 {
            return corrupt(Check::Flags, at, u64::from(EXTENT_FLAGS_ALL), u64::from(self.flags));
        }
        if !geometry.is_data_run(self.block, u64::from(self.blocks)) {
            return corrupt(Check::BlockRange, at, geometry.device_blocks, self.block.0);
        }
        Ok(())
    }
}
