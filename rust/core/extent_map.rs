// SPDX-License-Identifier: GPL-2.0

//! The map of a file: which blocks of the device hold which blocks of the file.
//!
//! Extents stand in the inode's area while they fit beside its attributes, else in the leaves of a tree (`tree`) whose
//! root stands there. A leaf holds the extents that *begin* in its range of file blocks; the last of them may reach beyond
//! it, where leaves were emptied behind it. So whoever looks for the extent of a block looks at the last one that begins at or before
//! it, in the leaf to which the block leads or at the end of the leaf before.
//!
//! [`insert`] joins an extent with what it continues on either side, wherever that stands, so a map has only one form of
//! neighbours. [`remove`] works from the end of its range backwards and stops at a limit. Leaves are not merged: an
//! emptied one is freed, and a single small one goes back into the area.
//!
//! Nothing that was read is trusted: [`verify`] looks at a whole block once, when it comes from the device; every walk checks again,
//! at little cost, levels, counts, and that a leaf's extents begin in its range, so it ends and reads nothing that is not
//! there. An extent that overlaps one of another leaf is found by [`visit`] and [`check`] only; until then either may answer.
//!
//! Locks: the inode's metadata lock, for writing where `blocks` is [`ChangeBlocks`]. Changes go to the handle's private copies: after an
//! error they, and the inode, may be half-changed, and the caller drops its handle and its copy of the inode. A crash leaves the
//! map of the last durable transaction; between two calls of [`remove`], that of a file cut less far.
//!
//! # Blocks for a reservation
//!
//! A map whose root is at level n has n - 1 levels of nodes in blocks, and leaves. One insertion, or one extent cut by a
//! removal, takes at worst an extent out of one leaf and adds one to another. The first changes a leaf; or it frees
//! the leaf and the n - 1 nodes above it but one, which it changes, and a node that is pulled up into the root. (Where
//! an extent stays and is cut or lengthened instead, that is one change, too.) The second splits the leaf and n - 1
//! nodes, and moves the root's entries into a block. Hence 1 + 2 + 2 (n - 1) + 1 blocks changed, n + 1 of them new, and
//! n + 1 freed ([`insert_blocks`]). A removal may then free the leaf that it moves into the area ([`remove_blocks_min`]).

use crate::blocks::ReadBlocks;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::extent::{Extent, FILE_BLOCKS_MAX};
use crate::inode::Inode;
use crate::tree::{self, Path, EXTENTS};
use crate::units::{BlockNo, FileBlock};

mod change;
mod leaf;
mod locate;
mod remove;
mod verify;

#[cfg(test)]
mod tests;

pub use change::insert;
pub use locate::level;
pub use remove::{remove, Limit, Removed};
pub use verify::{check, verify, verify_root};

/// What a file block is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The extent that contains it.
    Extent(Extent),
    /// Nothing, nor the blocks behind it up to the next extent or the last block that a file can have.
    Hole {
        /// The block that was asked for.
        start: FileBlock,
        /// The blocks from there on that are not mapped.
        blocks: u64,
    },
}

/// Metadata blocks that an operation touches at worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// Changed, new ones included.
    pub changed: u32,
    /// Allocated.
    pub allocated: u32,
    /// Freed.
    pub freed: u32,
}

/// What [`insert`] touches at worst when the root is at [`level`] before. While the inode is not locked, another may raise that:
/// then `format::tree::LEVEL_MAX`.
pub const fn insert_blocks(level: u16) -> Worst {
    let level = level as u32;
    Worst {
        // One before the addition; both halves of a leaf and of nodes that are split; what the root moves into.
        changed: level.saturating_mul(2).saturating_add(2),
        allocated: level.saturating_add(1),
        freed: level.saturating_add(1),
    }
}

/// The least that [`Limit::blocks`] means when the root is at [`level`] before: one extent's worth.
pub const fn remove_blocks_min(level: u16) -> u32 {
    let one = insert_blocks(level);
    one.changed.saturating_add(one.freed).saturating_add(1)
}

/// The extent that contains a block, or the hole around it.
pub fn find(blocks: &dyn ReadBlocks, inode: &Inode, at: FileBlock) -> Result<Mapping> {
    if at.0 >= FILE_BLOCKS_MAX {
        return Err(Error::FileTooLarge);
    }
    let before = locate::at_or_before(blocks, inode, at)?;
    if let Some(before) = before.filter(|before| before.extent.end() > at) {
        return Ok(Mapping::Extent(before.extent));
    }
    let behind = locate::after(blocks, inode, at)?;
    let end = behind.map_or(FILE_BLOCKS_MAX, |behind| behind.extent.file_block.0);
    Ok(Mapping::Hole { start: at, blocks: end.saturating_sub(at.0) })
}

/// The extent that contains a block, or else the first behind it.
pub fn next_from(blocks: &dyn ReadBlocks, inode: &Inode, at: FileBlock) -> Result<Option<Extent>> {
    if at.0 >= FILE_BLOCKS_MAX {
        return Ok(None);
    }
    let before = locate::at_or_before(blocks, inode, at)?;
    match before.filter(|before| before.extent.end() > at) {
        Some(before) => Ok(Some(before.extent)),
        None => Ok(locate::after(blocks, inode, at)?.map(|behind| behind.extent)),
    }
}

/// The last extent.
pub fn last(blocks: &dyn ReadBlocks, inode: &Inode) -> Result<Option<Extent>> {
    let end = FileBlock(FILE_BLOCKS_MAX.saturating_sub(1));
    Ok(locate::at_or_before(blocks, inode, end)?.map(|found| found.extent))
}

/// Visits all extents in ascending order; one that overlaps the one before it ends the walk.
pub fn visit(blocks: &dyn ReadBlocks, inode: &Inode, visit: &mut dyn FnMut(&Extent) -> Result) -> Result {
    let mut free_from = FileBlock(0);
    let mut next = |extent: &Extent, at: BlockNo| {
        if extent.file_block < free_from {
            return corrupt(Check::Order, at, free_from.0, extent.file_block.0);
        }
        free_from = extent.end();
        visit(extent)
    };
    if level(inode)? == 0 {
        let at = tree::place_of(blocks.geometry(), inode);
        for index in 0..locate::area_count(inode, at)? {
            next(&leaf::extent(inode.map(), index)?, at)?;
        }
        return Ok(());
    }
    let mut path = Path::nowhere();
    path.seek(blocks, EXTENTS, inode, 0)?;
    loop {
        let (row, count) = locate::read_leaf(blocks, inode, &path)?;
        for index in 0..count {
            next(&leaf::extent(&row, index)?, path.leaf())?;
        }
        if path.is_last() {
            return Ok(());
        }
        path.seek(blocks, EXTENTS, inode, path.end())?;
    }
}

/// Visits all blocks of the tree, with their levels, parents before their children. Nodes have then been verified; leaves,
/// which are level 0, have not.
pub fn visit_blocks(
    blocks: &dyn ReadBlocks,
    inode: &Inode,
    visit: &mut dyn FnMut(BlockNo, u16) -> Result,
) -> Result {
    match level(inode)? {
        0 => Ok(()),
        _ => tree::visit(blocks, EXTENTS, inode, &mut |_, block, level, _| visit(block, level)),
    }
}
