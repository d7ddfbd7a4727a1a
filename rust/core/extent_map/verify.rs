// SPDX-License-Identifier: GPL-2.0

//! What an extent map must be.
//!
//! [`verify_root`] and [`verify`] take the root and a block when they come from the device: each in the time of one walk over its
//! entries, and with nothing but its own bytes. [`check`], for the checker, walks the whole map.

use super::leaf;
use super::locate::area_count;
use super::{visit, visit_blocks};
use crate::blocks::ReadBlocks;
use crate::error::{corrupt, Check, Result};
use crate::format::extent::Extent;
use crate::format::group::Geometry;
use crate::format::tree::{TreeHeader, HEADER_OFFSET};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::tree::{node, place_of};
use crate::units::BlockNo;

/// Verifies what stands behind the header of a block of an extent tree, node or leaf.
pub fn verify(bytes: &[u8], block: BlockNo, geometry: &Geometry) -> Result {
    match TreeHeader::decode(bytes, HEADER_OFFSET) {
        Ok(TreeHeader { level: 0, .. }) => {
            leaf::check(bytes.get(HEADER_OFFSET..).unwrap_or(&[]), block, geometry)
        }
        _ => node::verify(bytes, block, geometry),
    }
}

/// Verifies the root in the area of an inode whose map is one of extents.
pub fn verify_root(inode: &Inode, geometry: &Geometry) -> Result {
    let (map, at) = (inode.map(), place_of(geometry, inode));
    if map.is_empty() {
        return Ok(());
    }
    let Ok(header) = TreeHeader::decode(map, 0) else {
        return corrupt(Check::Bounds, at, TreeHeader::SIZE as u64, map.len() as u64);
    };
    if header.level == 0 {
        area_count(inode, at)?;
        return leaf::check(map, at, geometry);
    }
    node::verify_root(map, at, geometry)
}

/// Checks the whole map: root, every block, extents in order across leaves and none that continues the one
/// before it, and that the inode counts as many blocks as it has, its block of attributes included.
pub fn check(blocks: &dyn ReadBlocks, inode: &Inode) -> Result {
    let geometry = blocks.geometry();
    let at = place_of(geometry, inode);
    verify_root(inode, geometry)?;
    let mut found = u64::from(inode.core.attribute_block != BlockNo(0));
    visit_blocks(blocks, inode, &mut |block, _| {
        found = found.saturating_add(1);
        verify(&blocks.read(BlockKind::ExtentTree, inode.number(), block)?, block, geometry)
    })?;
    let mut previous: Option<Extent> = None;
    visit(blocks, inode, &mut |extent| {
        if let Some(previous) = previous.filter(|previous| previous.continues_with(extent)) {
            return corrupt(Check::Order, at, previous.file_block.0, extent.file_block.0);
        }
        previous = Some(*extent);
        found = found.saturating_add(u64::from(extent.blocks));
        Ok(())
    })?;
    if found != inode.core.blocks {
        return corrupt(Check::BlockCount, at, found, inode.core.blocks);
    }
    Ok(())
}
