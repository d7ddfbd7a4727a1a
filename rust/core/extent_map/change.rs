// SPDX-License-Identifier: GPL-2.0

//! Inserting extents, and the steps from which every change of a map is made: [`set`], [`take`] and [`add`].
//!
//! A [`Path`] takes some 200 bytes of the stack. The functions that have one are never inlined, so that no frame has two.

use super::leaf;
use super::locate::{after, area_count, at_or_before, level, read_leaf, Located, AREA};
use crate::blocks::ChangeBlocks;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::extent::{Extent, BLOCK_EXTENTS, EXTENT_FLAGS_ALL, FILE_BLOCKS_MAX};
use crate::format::tree::{TreeHeader, HEADER_OFFSET};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::memory::Buffer;
use crate::tree::{self, Path, EXTENTS};
use crate::units::BlockNo;

/// Maps a range that is a hole. The extent becomes one with those before and behind it that it continues. The inode counts its
/// blocks; that they are taken is the caller's to see to.
///
/// [`Error::InvalidArgument`] when the range is mapped already, in part or whole, or when the extent is none: the caller's
/// mistake, since it found the hole under the lock that it still holds. [`Error::FileTooLarge`] behind the last file block.
pub fn insert(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, extent: &Extent) -> Result {
    if extent.end().0 > FILE_BLOCKS_MAX {
        return Err(Error::FileTooLarge);
    }
    let in_data = blocks.geometry().is_data_run(extent.block, u64::from(extent.blocks));
    if extent.flags & !EXTENT_FLAGS_ALL != 0 || !in_data {
        return Err(Error::InvalidArgument);
    }
    let before = at_or_before(blocks, inode, extent.file_block)?;
    let behind = after(blocks, inode, extent.file_block)?;
    if before.is_some_and(|before| before.extent.end() > extent.file_block)
        || behind.is_some_and(|behind| behind.extent.file_block < extent.end())
    {
        return Err(Error::InvalidArgument);
    }
    let counted = inode.core.blocks.checked_add(u64::from(extent.blocks));
    inode.core.blocks = counted.ok_or(Error::FileTooLarge)?;
    let mut merged = *extent;
    let behind = behind.filter(|behind| join(&mut merged, &behind.extent));
    match (before.filter(|before| before.extent.continues_with(&merged)), behind) {
        (None, None) => add(blocks, inode, &merged),
        (None, Some(behind)) => restart(blocks, inode, &behind, &merged),
        (Some(before), behind) => {
            let mut whole = before.extent;
            join(&mut whole, &merged);
            set(blocks, inode, &before, &whole)?;
            match behind {
                Some(behind) => take(blocks, inode, &behind.extent),
                None => Ok(()),
            }
        }
    }
}

/// Lengthens `extent` by `next` when that continues it.
fn join(extent: &mut Extent, next: &Extent) -> bool {
    let joins = extent.continues_with(next);
    if joins {
        extent.blocks = extent.blocks.saturating_add(next.blocks);
    }
    joins
}

/// Writes `extent`, which begins where the located one does, over that.
pub(super) fn set(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    old: &Located,
    extent: &Extent,
) -> Result {
    leaf::set(change(blocks, inode, old.leaf)?, old.index, extent)
}

/// Puts `extent` in the place of the located one, although it begins elsewhere: it overlaps it, and no other lies between.
pub(super) fn restart(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    old: &Located,
    extent: &Extent,
) -> Result {
    if extent.file_block.0 >= old.low && extent.file_block.0 < old.end {
        return set(blocks, inode, old, extent);
    }
    take(blocks, inode, &old.extent)?;
    add(blocks, inode, extent)
}

/// Takes an extent that is there out of the map, with its leaf when that has no other. Its blocks stay taken.
#[inline(never)]
pub(super) fn take(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, extent: &Extent) -> Result {
    if level(inode)? == 0 {
        let at = tree::place_of(blocks.geometry(), inode);
        let count = area_count(inode, at)?;
        let index = index_of(inode.map(), count, extent, at)?;
        leaf::remove(inode.map_mut(), index)?;
        return inode.resize_map(if count > 1 { leaf::bytes_of(count.saturating_sub(1)) } else { 0 });
    }
    let mut path = Path::nowhere();
    path.seek(blocks, EXTENTS, inode, extent.file_block.0)?;
    let (index, count) = {
        let (row, count) = read_leaf(blocks, inode, &path)?;
        (index_of(&row, count, extent, path.leaf())?, count)
    };
    if count > 1 {
        return leaf::remove(change(blocks, inode, path.leaf())?, index);
    }
    tree::free(blocks, inode, BlockKind::ExtentTree, path.leaf())?;
    if tree::remove(blocks, EXTENTS, inode, &path)? {
        inode.resize_map(0)?;
    }
    Ok(())
}

/// Where an extent stands in a row.
fn index_of(row: &[u8], count: usize, extent: &Extent, at: BlockNo) -> Result<usize> {
    let index = leaf::search(row, count, extent.file_block).saturating_sub(1);
    let found = leaf::extent(row, index)?;
    if found != *extent {
        return corrupt(Check::Key, at, extent.file_block.0, found.file_block.0);
    }
    Ok(index)
}

/// Adds an extent as it is: it neither overlaps nor continues another.
#[inline(never)]
pub(super) fn add(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, extent: &Extent) -> Result {
    if level(inode)? == 0 {
        let count = area_count(inode, tree::place_of(blocks.geometry(), inode))?;
        match inode.resize_map(leaf::bytes_of(count.saturating_add(1))) {
            Ok(()) => {
                let index = leaf::search(inode.map(), count, extent.file_block);
                return leaf::insert(inode.map_mut(), index, extent);
            }
            Err(Error::NoSpace) if count > 0 => push_down(blocks, inode, count, extent.block)?,
            Err(error) => return Err(error),
        }
    }
    let mut path = Path::nowhere();
    path.seek(blocks, EXTENTS, inode, extent.file_block.0)?;
    let (index, count) = {
        let (row, count) = read_leaf(blocks, inode, &path)?;
        (leaf::search(&row, count, extent.file_block), count)
    };
    tree::admit(blocks, EXTENTS, inode, &mut path)?;
    if count < BLOCK_EXTENTS {
        return leaf::insert(change(blocks, inode, path.leaf())?, index, extent);
    }
    split(blocks, inode, &path, (index, count), extent)
}

/// Moves the extents of the area, which has no room for another, into a leaf. The root that stays needs less room than
/// one extent did; and while there is none, there is room for one, because attributes leave it (`attributes`).
fn push_down(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, count: usize, goal: BlockNo) -> Result {
    let block = tree::allocate(blocks, inode, BlockKind::ExtentTree, goal)?;
    let bytes = blocks.change(BlockKind::ExtentTree, inode.number(), block)?;
    let row = bytes.get_mut(HEADER_OFFSET..).ok_or(Error::InvalidArgument)?;
    leaf::fill(row, leaf::extents(inode.map(), 0, count)?)?;
    tree::set_root(inode, 1, block)
}

/// Splits a full leaf, of which the extent becomes a part at index `place.0` of `place.1`.
///
/// Extents that arrive in ascending order at the end of the file, or in descending order at its start, fill leaves to the brim: at
/// either end of the map the new extent gets a leaf for itself. Elsewhere both leaves get half, also where the extent stands at an
/// end of its leaf: those that follow it may go the other way, each to an end of the full leaf again.
#[inline(never)]
fn split(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    path: &Path,
    (index, count): (usize, usize),
    extent: &Extent,
) -> Result {
    let at_end = (index == 0 && path.previous().is_none()) || (index == count && path.is_last());
    let kept = if at_end { index } else { count / 2 };
    let block = tree::allocate(blocks, inode, BlockKind::ExtentTree, path.leaf())?;
    let old = change(blocks, inode, path.leaf())?;
    let moved = Buffer::copy_of(leaf::extents(old, kept, count)?)?;
    leaf::truncate(old, kept, count)?;
    let into_old = index <= kept && kept < count;
    if into_old {
        leaf::insert(old, index, extent)?;
    }
    let new = change(blocks, inode, block)?;
    leaf::fill(new, &moved)?;
    if !into_old {
        leaf::insert(new, index.saturating_sub(kept), extent)?;
    }
    let key = leaf::extent(new, 0)?.file_block.0;
    tree::insert(blocks, EXTENTS, inode, path, key, block)
}

/// Moves the extents of a single leaf back into the area when they fill no more than half of what the map can have: were it
/// all, the next extent would move them out again.
#[inline(never)]
pub(super) fn collapse(blocks: &mut dyn ChangeBlocks, inode: &mut Inode) -> Result {
    if level(inode)? != 1 || tree::root(inode)?.count != 1 {
        return Ok(());
    }
    let mut path = Path::nowhere();
    path.seek(blocks, EXTENTS, inode, 0)?;
    let extents = {
        let (row, count) = read_leaf(blocks, inode, &path)?;
        let room = inode.spare_bytes().saturating_add(inode.map().len());
        if leaf::bytes_of(count) > room / 2 {
            return Ok(());
        }
        Buffer::copy_of(leaf::extents(&row, 0, count)?)?
    };
    inode.resize_map(TreeHeader::SIZE.saturating_add(extents.len()))?;
    leaf::fill(inode.map_mut(), &extents)?;
    tree::free(blocks, inode, BlockKind::ExtentTree, path.leaf())
}

/// A row to be changed: the area's, or a leaf's private copy behind its block header.
fn change<'a>(blocks: &'a mut dyn ChangeBlocks, inode: &'a mut Inode, leaf: BlockNo) -> Result<&'a mut [u8]> {
    if leaf == AREA {
        return Ok(inode.map_mut());
    }
    let bytes = blocks.change(BlockKind::ExtentTree, inode.number(), leaf)?;
    bytes.get_mut(HEADER_OFFSET..).ok_or(Error::InvalidArgument)
}
