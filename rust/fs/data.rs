// SPDX-License-Identifier: GPL-2.0

//! File contents: which blocks of the device they are in.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use cairnfs_core::extent_map;
use cairnfs_core::format::extent::EXTENT_UNWRITTEN;
use cairnfs_core::units::{FileBlock, BLOCK_BYTES, BLOCK_SHIFT};
use cairnfs_linux::inode::Inode;
use cairnfs_linux::iomap::{self, Kind, Mapping};
use kernel::prelude::*;

/// Bytes of `blocks` blocks; numbers that were verified do not come near the limit.
const fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}

impl iomap::Operations for Cairnfs {
    fn iomap_begin(inode: &Inode<Self>, position: u64) -> Result<Mapping> {
        let mounted = inode.super_block().data();
        let at = FileBlock(position >> BLOCK_SHIFT);
        let found = extent_map::find(&mounted.metadata, &inode.data().inode, at);
        Ok(match found.map_err(|error| mounted.errno(error))? {
            extent_map::Mapping::Hole { start, blocks } => {
                Mapping { start_bytes: bytes(start.0), length_bytes: bytes(blocks), kind: Kind::Hole }
            }
            extent_map::Mapping::Extent(extent) => {
                let device_bytes = bytes(extent.block.0);
                let kind = match extent.flags & EXTENT_UNWRITTEN {
                    0 => Kind::Mapped { device_bytes },
                    _ => Kind::Unwritten { device_bytes },
                };
                Mapping {
                    start_bytes: bytes(extent.file_block.0),
                    length_bytes: bytes(u64::from(extent.blocks)),
                    kind,
                }
            }
        })
    }
}
