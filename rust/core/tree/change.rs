// SPDX-License-Identifier: GPL-2.0

//! Changing inner nodes: see [`super`].
//!
//! Only one block can be borrowed for change at a time, so what moves between two passes through a buffer.

use super::{node, Kinds, Path, ROOT_BYTES_MIN};
use crate::blocks::ChangeBlocks;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::tree::{NodeEntry, TreeHeader, BLOCK_NODE_ENTRIES, HEADER_OFFSET, LEVEL_MAX};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::memory::Buffer;
use crate::units::BlockNo;

/// Allocates a block of the inode's near `goal`, and counts it.
pub fn allocate(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    kind: BlockKind,
    goal: BlockNo,
) -> Result<BlockNo> {
    let block = blocks.allocate(kind, inode.number(), goal)?;
    inode.core.blocks = inode.core.blocks.saturating_add(1);
    Ok(block)
}

/// Frees a block of the inode's, and no longer counts it.
pub fn free(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, kind: BlockKind, block: BlockNo) -> Result {
    let Some(left) = inode.core.blocks.checked_sub(1) else {
        return corrupt(Check::BlockCount, super::place_of(blocks.geometry(), inode), 1, 0);
    };
    blocks.free(kind, inode.number(), block)?;
    inode.core.blocks = left;
    Ok(())
}

/// Makes the map a root at `level` with one child, which holds all keys. What the map held is gone.
pub fn set_root(inode: &mut Inode, level: u16, child: BlockNo) -> Result {
    inode.resize_map(ROOT_BYTES_MIN)?;
    let root = inode.map_mut();
    TreeHeader { level, count: 1, reserved: 0 }.encode(root, 0)?;
    NodeEntry { key: 0, child }.encode(root, TreeHeader::SIZE)
}

/// Lowers the keys on the path so that its leaf may take the path's key, and the path with them.
pub fn admit(blocks: &mut dyn ChangeBlocks, kinds: Kinds, inode: &mut Inode, path: &mut Path) -> Result {
    if path.key >= path.low {
        return Ok(());
    }
    let mut low = 0;
    for level in (1..=path.root_level).rev() {
        let step = path.step(level).ok_or(Error::InvalidArgument)?;
        let index = usize::from(step.index);
        let is_root = level == path.root_level;
        let key = if is_root {
            node::entry(inode.map(), index)?.key
        } else {
            let bytes = blocks.read(kinds.node, inode.number(), step.block)?;
            node::entry(bytes.get(HEADER_OFFSET..).unwrap_or(&[]), index)?.key
        };
        if key <= path.key {
            low = key;
        } else if is_root {
            node::set_key(inode.map_mut(), index, low)?;
        } else {
            node::set_key(change(blocks, kinds, inode, step.block)?, index, low)?;
        }
    }
    path.low = low;
    Ok(())
}

/// Puts the leaf `child`, for keys from `key` on, behind the path's leaf. `key` must lie within the path's leaf.
pub fn insert(
    blocks: &mut dyn ChangeBlocks,
    kinds: Kinds,
    inode: &mut Inode,
    path: &Path,
    key: u64,
    child: BlockNo,
) -> Result {
    if key <= path.low || key >= path.end {
        return Err(Error::InvalidArgument);
    }
    let mut new = NodeEntry { key, child };
    for level in 1..path.root_level {
        let step = path.step(level).ok_or(Error::InvalidArgument)?;
        if usize::from(step.count) < BLOCK_NODE_ENTRIES {
            let node = change(blocks, kinds, inode, step.block)?;
            return node::insert(node, usize::from(step.index).saturating_add(1), &new);
        }
        new = split(blocks, kinds, inode, path, level, &new)?;
    }
    let step = path.step(path.root_level).ok_or(Error::InvalidArgument)?;
    let index = usize::from(step.index).saturating_add(1);
    match inode.resize_map(node::bytes_of(usize::from(step.count).saturating_add(1))) {
        Ok(()) => node::insert(inode.map_mut(), index, &new),
        Err(Error::NoSpace) => {
            let block = grow(blocks, kinds, inode, path)?;
            node::insert(change(blocks, kinds, inode, block)?, index, &new)
        }
        Err(error) => Err(error),
    }
}

/// Splits the full node of `level`, of which `new` becomes a part; returns the entry of the new node.
fn split(
    blocks: &mut dyn ChangeBlocks,
    kinds: Kinds,
    inode: &mut Inode,
    path: &Path,
    level: u16,
    new: &NodeEntry,
) -> Result<NodeEntry> {
    let step = path.step(level).ok_or(Error::InvalidArgument)?;
    let count = usize::from(step.count);
    let index = usize::from(step.index).saturating_add(1);
    // Keys that only ascend would leave half-full nodes behind them.
    let kept = if path.is_last() { count } else { count / 2 };
    let block = allocate(blocks, inode, kinds.node, step.block)?;
    let old = change(blocks, kinds, inode, step.block)?;
    let moved = Buffer::copy_of(node::entries(old, kept, count)?)?;
    node::truncate(old, kept, count)?;
    // An entry at the very seam goes to the old node, unless the new one would stay empty.
    let into_old = index <= kept && kept < count;
    if into_old {
        node::insert(old, index, new)?;
    }
    let behind = change(blocks, kinds, inode, block)?;
    node::fill(behind, level, &moved)?;
    if !into_old {
        node::insert(behind, index.saturating_sub(kept), new)?;
    }
    Ok(NodeEntry { key: node::entry(behind, 0)?.key, child: block })
}

/// Moves the root's entries into a block, whose parent it becomes; returns the block.
fn grow(blocks: &mut dyn ChangeBlocks, kinds: Kinds, inode: &mut Inode, path: &Path) -> Result<BlockNo> {
    if path.root_level >= LEVEL_MAX {
        return Err(Error::NoSpace);
    }
    let step = path.step(path.root_level).ok_or(Error::InvalidArgument)?;
    let block = allocate(blocks, inode, kinds.node, path.child)?;
    let entries = node::entries(inode.map(), 0, usize::from(step.count))?;
    let node = blocks.change(kinds.node, inode.number(), block)?;
    node::fill(node.get_mut(HEADER_OFFSET..).unwrap_or(&mut []), path.root_level, entries)?;
    let first = node::entry(inode.map(), 0)?;
    inode.resize_map(ROOT_BYTES_MIN)?;
    let root = inode.map_mut();
    TreeHeader { level: path.root_level.saturating_add(1), count: 1, reserved: 0 }.encode(root, 0)?;
    NodeEntry { key: first.key, child: block }.encode(root, TreeHeader::SIZE)?;
    Ok(block)
}

/// Takes the path's leaf, which the caller frees, out of the tree. Returns whether it was the last one: the map then is a header at
/// level 0 without entries.
pub fn remove(blocks: &mut dyn ChangeBlocks, kinds: Kinds, inode: &mut Inode, path: &Path) -> Result<bool> {
    for level in 1..path.root_level {
        let step = path.step(level).ok_or(Error::InvalidArgument)?;
        if step.count > 1 {
            node::remove(change(blocks, kinds, inode, step.block)?, usize::from(step.index))?;
            pull_up(blocks, kinds, inode)?;
            return Ok(false);
        }
        free(blocks, inode, kinds.node, step.block)?;
    }
    let step = path.step(path.root_level).ok_or(Error::InvalidArgument)?;
    node::remove(inode.map_mut(), usize::from(step.index))?;
    let left = usize::from(step.count).saturating_sub(1);
    inode.resize_map(node::bytes_of(left))?;
    if left == 0 {
        TreeHeader { level: 0, count: 0, reserved: 0 }.encode(inode.map_mut(), 0)?;
        return Ok(true);
    }
    pull_up(blocks, kinds, inode)?;
    Ok(false)
}

/// Makes the entries of the root's only child the root's, when they would fill no more than half of what the area has for
/// them: were it all, one more leaf would grow the root again. One level a removal keeps a removal's reservation small.
fn pull_up(blocks: &mut dyn ChangeBlocks, kinds: Kinds, inode: &mut Inode) -> Result {
    let root = super::root(inode)?;
    if root.level < 2 || root.count != 1 {
        return Ok(());
    }
    let level = root.level.saturating_sub(1);
    let block = node::entry(inode.map(), 0)?.child;
    let entries = {
        let bytes = blocks.read(kinds.node, inode.number(), block)?;
        let child = bytes.get(HEADER_OFFSET..).unwrap_or(&[]);
        let count = node::count(child, level, block)?;
        let room = inode.spare_bytes().saturating_add(inode.map().len());
        if node::bytes_of(count) > room / 2 {
            return Ok(());
        }
        Buffer::copy_of(node::entries(child, 0, count)?)?
    };
    inode.resize_map(TreeHeader::SIZE.saturating_add(entries.len()))?;
    node::fill(inode.map_mut(), level, &entries)?;
    free(blocks, inode, kinds.node, block)
}

/// The private copy of an inner node, behind the block's header.
fn change<'a>(
    blocks: &'a mut dyn ChangeBlocks,
    kinds: Kinds,
    inode: &Inode,
    block: BlockNo,
) -> Result<&'a mut [u8]> {
    let bytes = blocks.change(kinds.node, inode.number(), block)?;
    bytes.get_mut(HEADER_OFFSET..).ok_or(Error::InvalidArgument)
}
