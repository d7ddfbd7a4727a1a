// SPDX-License-Identifier: GPL-2.0

//! Finding extents: the last that begins at or before a file block, and the first behind it.

use super::leaf;
use crate::blocks::{BlockGuard, ReadBlocks};
use crate::error::{corrupt, Check, Error, Result};
use crate::format::extent::Extent;
use crate::format::inode::MapKind;
use crate::format::tree::HEADER_OFFSET;
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::tree::{self, Path, EXTENTS, KEY_END};
use crate::units::{BlockNo, FileBlock};
use core::ops::Deref;

/// Stands for the inode's area where a leaf's block is asked for: block 0 is the superblock's.
pub(super) const AREA: BlockNo = BlockNo(0);

/// An extent and where it stands, until the map is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) extent: Extent,
    /// Its leaf, or [`AREA`].
    pub(super) leaf: BlockNo,
    /// Its index there.
    pub(super) index: usize,
    /// Extents that begin from here up to `end` may stand in that leaf.
    pub(super) low: u64,
    pub(super) end: u64,
}

/// The row of a leaf that is being read.
pub(super) struct Row<'a>(BlockGuard<'a>);

impl Deref for Row<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.get(HEADER_OFFSET..).unwrap_or(&[])
    }
}

/// The height of the map above its extents; 0: they stand in the area. Refuses inodes whose map is of another kind.
pub fn level(inode: &Inode) -> Result<u16> {
    if inode.map_kind() != MapKind::Extents {
        return Err(Error::InvalidArgument);
    }
    if inode.map().is_empty() {
        return Ok(0);
    }
    tree::root(inode).map(|root| root.level)
}

/// The number of extents in the area, for a map at level 0. They fill the map.
pub(super) fn area_count(inode: &Inode, at: BlockNo) -> Result<usize> {
    let map = inode.map();
    if map.is_empty() {
        return Ok(0);
    }
    let count = leaf::count(map, at)?;
    if leaf::bytes_of(count) != map.len() {
        return corrupt(Check::Count, at, map.len() as u64, count as u64);
    }
    Ok(count)
}

/// The path's leaf and its count, which is not 0. Its first and last extent begin within the path's bounds, so no leaf can
/// stand in two places of one tree.
pub(super) fn read_leaf<'a>(
    blocks: &'a dyn ReadBlocks,
    inode: &Inode,
    path: &Path,
) -> Result<(Row<'a>, usize)> {
    let at = path.leaf();
    let row = Row(blocks.read(BlockKind::ExtentTree, inode.number(), at)?);
    let count = leaf::count(&row, at)?;
    let first = leaf::extent(&row, 0)?.file_block.0;
    let last = leaf::extent(&row, count.saturating_sub(1))?.file_block.0;
    if first < path.low() {
        return corrupt(Check::Key, at, path.low(), first);
    }
    if last >= path.end() {
        return corrupt(Check::Key, at, path.end(), last);
    }
    Ok((row, count))
}

/// On which side of a key an extent is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The last that begins at the key or before it.
    AtOrBefore,
    /// The first that begins behind it.
    After,
}

/// The last extent that begins at or before `key`. It stands in the leaf to which the key leads, or at the end of the one
/// before that.
pub(super) fn at_or_before(
    blocks: &dyn ReadBlocks,
    inode: &Inode,
    key: FileBlock,
) -> Result<Option<Located>> {
    beside(blocks, inode, key, Side::AtOrBefore)
}

/// The first extent that begins behind `key`. It stands in the leaf to which the key leads, or at the start of the next.
pub(super) fn after(blocks: &dyn ReadBlocks, inode: &Inode, key: FileBlock) -> Result<Option<Located>> {
    beside(blocks, inode, key, Side::After)
}

fn beside(blocks: &dyn ReadBlocks, inode: &Inode, key: FileBlock, side: Side) -> Result<Option<Located>> {
    let at = tree::place_of(blocks.geometry(), inode);
    if level(inode)? == 0 {
        let count = area_count(inode, at)?;
        let Some(index) = index_beside(inode.map(), count, key, side) else {
            return Ok(None);
        };
        let extent = leaf::extent(inode.map(), index)?;
        return Ok(Some(Located { extent, leaf: AREA, index, low: 0, end: KEY_END }));
    }
    let mut path = Path::nowhere();
    path.seek(blocks, EXTENTS, inode, key.0)?;
    for _ in 0..2 {
        let (row, count) = read_leaf(blocks, inode, &path)?;
        if let Some(index) = index_beside(&row, count, key, side) {
            let extent = leaf::extent(&row, index)?;
            let (leaf, low, end) = (path.leaf(), path.low(), path.end());
            return Ok(Some(Located { extent, leaf, index, low, end }));
        }
        let neighbour = match side {
            Side::AtOrBefore => path.previous(),
            Side::After => Some(path.end()).filter(|_| !path.is_last()),
        };
        let Some(neighbour) = neighbour else {
            return Ok(None);
        };
        path.seek(blocks, EXTENTS, inode, neighbour)?;
    }
    corrupt(Check::Order, path.leaf(), key.0, path.low())
}

fn index_beside(row: &[u8], count: usize, key: FileBlock, side: Side) -> Option<usize> {
    let behind = leaf::search(row, count, key);
    match side {
        Side::AtOrBefore => behind.checked_sub(1),
        Side::After => Some(behind).filter(|behind| *behind < count),
    }
}
