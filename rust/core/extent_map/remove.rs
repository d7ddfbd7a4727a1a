// SPDX-License-Identifier: GPL-2.0

//! Unmapping a range, from its end backwards and in bounded steps.

use super::change::{add, collapse, restart, set, take};
use super::locate::{at_or_before, level, Located};
use super::remove_blocks_min;
use crate::blocks::{BlockGuard, ChangeBlocks, ReadBlocks};
use crate::error::{corrupt, Check, Error, Result};
use crate::format::extent::{Extent, FILE_BLOCKS_MAX};
use crate::format::group::Geometry;
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::tree;
use crate::units::{BlockNo, BlockRun, FileBlock, InodeNo};

/// How much one call of [`remove`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Extents that are removed, in part or whole: each is a run of blocks to be freed. At least one is.
    pub extents: u32,
    /// Metadata blocks that are changed, allocated or freed; less than [`remove_blocks_min`] counts as that.
    pub blocks: u32,
}

/// What one call of [`remove`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// From here to the range's end nothing is mapped. The start of the range when all is done; else the next call goes on
    /// from here.
    pub down_to: FileBlock,
    /// Extents that were removed, in part or whole.
    pub extents: u32,
    /// Blocks of contents that were freed.
    pub data_blocks: u64,
}

/// Unmaps the file blocks from `from` up to `to`, which stays, and frees their blocks of the device. Extents
/// that reach beyond the range are cut; the tree shrinks with what it maps, back into the inode at last.
///
/// Stops when the next extent might exceed the limit. The range's end goes first, so that after each call the map is that
/// of a file cut a little less far: a truncation can go on in another transaction, or never.
pub fn remove(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    from: FileBlock,
    to: FileBlock,
    limit: Limit,
) -> Result<Removed> {
    let step_blocks = remove_blocks_min(level(inode)?);
    let mut meter = Meter { blocks, touched: 0, recent: [BlockNo(0); 8] };
    let down_to = FileBlock(to.0.min(FILE_BLOCKS_MAX)).max(from);
    let mut done = Removed { down_to, extents: 0, data_blocks: 0 };
    while let Some(key) = done.down_to.0.checked_sub(1).filter(|key| *key >= from.0) {
        let found = at_or_before(&meter, inode, FileBlock(key))?;
        let Some(found) = found.filter(|found| found.extent.end() > from) else {
            done.down_to = from;
            break;
        };
        let stop = found.extent.end().min(done.down_to);
        done.down_to = stop;
        let touched_next = meter.touched.saturating_add(step_blocks);
        if done.extents >= 1 && (done.extents >= limit.extents || touched_next > limit.blocks) {
            break;
        }
        let start = found.extent.file_block.max(from);
        done.data_blocks = done.data_blocks.saturating_add(cut(&mut meter, inode, &found, start, stop)?);
        done.extents = done.extents.saturating_add(1);
        done.down_to = start;
    }
    collapse(&mut meter, inode)?;
    Ok(done)
}

/// Unmaps the part of one extent from `start` up to `stop`; returns its length.
fn cut(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    found: &Located,
    start: FileBlock,
    stop: FileBlock,
) -> Result<u64> {
    let whole = &found.extent;
    let part = part_of(whole, start, stop)?;
    let Some(left) = inode.core.blocks.checked_sub(u64::from(part.blocks)) else {
        let at = tree::place_of(blocks.geometry(), inode);
        return corrupt(Check::BlockCount, at, u64::from(part.blocks), inode.core.blocks);
    };
    inode.core.blocks = left;
    match (start > whole.file_block, stop < whole.end()) {
        (false, false) => take(blocks, inode, whole)?,
        (false, true) => restart(blocks, inode, found, &part_of(whole, stop, whole.end())?)?,
        (true, false) => set(blocks, inode, found, &part_of(whole, whole.file_block, start)?)?,
        (true, true) => {
            set(blocks, inode, found, &part_of(whole, whole.file_block, start)?)?;
            add(blocks, inode, &part_of(whole, stop, whole.end())?)?;
        }
    }
    blocks.free_data(part.run())?;
    Ok(u64::from(part.blocks))
}

/// The part of `whole` from `start` up to `stop`, both within it.
fn part_of(whole: &Extent, start: FileBlock, stop: FileBlock) -> Result<Extent> {
    let part = start.checked_distance_from(whole.file_block).zip(stop.checked_distance_from(start));
    let (before, blocks) = part.ok_or(Error::InvalidArgument)?;
    Ok(Extent {
        file_block: start,
        block: whole.block.checked_add(before).ok_or(Error::InvalidArgument)?,
        blocks: u32::try_from(blocks).map_err(|_| Error::InvalidArgument)?,
        flags: whole.flags,
    })
}

/// Counts the blocks that pass through it to be changed, allocated or freed. One that comes again after eight others is
/// counted again, so the count is never too low.
struct Meter<'a> {
    blocks: &'a mut dyn ChangeBlocks,
    touched: u32,
    /// The newest comes first.
    recent: [BlockNo; 8],
}

impl Meter<'_> {
    fn touch(&mut self, block: BlockNo) {
        if self.recent.contains(&block) {
            return;
        }
        self.touched = self.touched.saturating_add(1);
        let mut moved = block;
        for place in &mut self.recent {
            moved = core::mem::replace(place, moved);
        }
    }
}

impl ReadBlocks for Meter<'_> {
    fn geometry(&self) -> &Geometry {
        self.blocks.geometry()
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        self.blocks.read(kind, owner, block)
    }
}

impl ChangeBlocks for Meter<'_> {
    fn change(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<&mut [u8]> {
        self.touch(block);
        self.blocks.change(kind, owner, block)
    }

    fn allocate(&mut self, kind: BlockKind, owner: InodeNo, goal: BlockNo) -> Result<BlockNo> {
        let block = self.blocks.allocate(kind, owner, goal)?;
        self.touch(block);
        Ok(block)
    }

    fn free(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result {
        self.touch(block);
        self.blocks.free(kind, owner, block)
    }

    fn free_data(&mut self, run: BlockRun) -> Result {
        self.blocks.free_data(run)
    }
}
