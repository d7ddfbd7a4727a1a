// SPDX-License-Identifier: GPL-2.0

//! The orphan index: reading it at mount, and making it longer when an operation finds all of its slots in use.
//!
//! An operation that needs a slot and finds none fails with [`Error::OrphanIndexFull`] and leaves no trace. Its caller then opens a
//! handle for [`grow`], unless the index is not full any more ([`crate::orphans::Orphans::is_full`]), closes it, and does the
//! operation again.
//! The index never becomes shorter: what was needed once is needed again, and a slot's number says where it stands.
//!
//! The new block is logged fresh with the inode that maps it, so a crash leaves an index with the block or without. Its
//! slots are given out when the handle has closed, so only transactions that hold the block, or later ones, use them.
//!
//! Locks: nobody else changes the index's inode; callers of [`grow`] see to it, with a lock that they hold until the handle has
//! closed, that they come one at a time.

use super::touch_content;
use crate::blocks::{ChangeBlocks as _, ReadBlocks};
use crate::error::{corrupt, Check, Error, Result};
use crate::extent_map;
use crate::format::extent::Extent;
use crate::format::group::Geometry;
use crate::format::inode::ORPHAN_INDEX;
use crate::format::item::Operation;
use crate::format::orphan::{NEW_INDEX_BLOCKS_MAX, SLOTS_PER_BLOCK};
use crate::format::{BlockKind, Stamp};
use crate::handle::{Environment, Handle};
use crate::space::choose::Groups;
use crate::units::{blocks_for_bytes, BlockNo, FileBlock, InodeNo, OrphanSlot, BLOCK_BYTES, BLOCK_SHIFT};

/// Blocks that an index has at the most: two slots for each inode, and what mkfs gives a new one.
fn blocks_max(geometry: &Geometry) -> u64 {
    let slots = geometry.inode_count().saturating_mul(2);
    slots.div_ceil(u64::from(SLOTS_PER_BLOCK)).saturating_add(NEW_INDEX_BLOCKS_MAX)
}

/// Reads the index at mount: its orphans, and its blocks, which the journal keeps. Before the first handle.
///
/// An index that is longer than any use makes it, or has a block twice, is corrupt: a small image must not cost memory without end.
pub fn load<E: Environment + ReadBlocks>(mounted: &E, index: InodeNo) -> Result {
    let geometry = *Groups::geometry(mounted);
    let index = mounted.read_inode(index)?;
    let now_ns = mounted.platform().now_ns();
    let (blocks, most) = (index.core.size_bytes >> BLOCK_SHIFT, blocks_max(&geometry));
    if blocks > most {
        return corrupt(Check::OrphanSlot, BlockNo(0), most, blocks);
    }
    for place in 0..blocks {
        let found = extent_map::next_from(mounted, &index, FileBlock(place))?;
        let extent = found.filter(|extent| extent.file_block.0 <= place).ok_or(Error::NotFound)?;
        let within = place.saturating_sub(extent.file_block.0);
        let block = BlockNo(extent.block.0.saturating_add(within));
        let (owner, filesystem_id) = (index.number().0, geometry.filesystem_id);
        let content =
            mounted.read_block(&Stamp { kind: BlockKind::OrphanIndex, block, owner, filesystem_id })?;
        mounted.with_orphans(&mut |orphans| orphans.add_block(&geometry, block, &content, now_ns))?;
        let first_slot = OrphanSlot((place as u32).saturating_mul(SLOTS_PER_BLOCK));
        mounted
            .with_journal(&mut |journal| journal.add_orphan_block(block, first_slot, content.try_clone()?))?;
    }
    Ok(())
}

/// Adds an empty block to the index. The reserve pays for it: what needs it makes space in the end.
pub fn grow(handle: &mut Handle<'_>) -> Result {
    handle.use_reserve();
    let mut index = handle.take_used_inode(ORPHAN_INDEX)?;
    let last = extent_map::last(handle, &index)?;
    let goal = last.map_or(BlockNo(0), |last| last.run().end());
    let block = handle.allocate(BlockKind::OrphanIndex, ORPHAN_INDEX, goal)?;
    let file_block = FileBlock(blocks_for_bytes(index.core.size_bytes));
    extent_map::insert(handle, &mut index, &Extent { file_block, block, blocks: 1, flags: 0 })?;
    let size_bytes = index.core.size_bytes.checked_add(BLOCK_BYTES as u64);
    index.core.size_bytes = size_bytes.ok_or(Error::FileTooLarge)?;
    touch_content(&mut index, handle.now_ns());
    handle.put_inode(index)?;
    handle.set_note(Operation::Write, ORPHAN_INDEX, InodeNo(0), InodeNo(0), (&[], &[]))
}
