// SPDX-License-Identifier: GPL-2.0

//! The bytes of a row of extents, from its [`TreeHeader`] on: an inode's whole map at level 0, or a leaf behind its
//! block header.
//!
//! Extents are in ascending order without gaps in the row; what lies behind them is zero. A map without extents has no
//! bytes at all, and a leaf always has one.

use crate::error::{corrupt, Check, Error, Result};
use crate::format::extent::Extent;
use crate::format::group::Geometry;
use crate::format::layout::{copy_to, get, put};
use crate::format::tree::TreeHeader;
use crate::units::{BlockNo, FileBlock};

const COUNT_OFFSET: usize = 2;

const fn offset_of(index: usize) -> usize {
    TreeHeader::SIZE.saturating_add(index.saturating_mul(Extent::SIZE))
}

/// The bytes of a row of `count` extents.
pub(super) const fn bytes_of(count: usize) -> usize {
    offset_of(count)
}

/// Extent `index`, which must be less than the count.
pub(super) fn extent(row: &[u8], index: usize) -> Result<Extent> {
    Extent::decode(row, offset_of(index))
}

/// The number of extents, when the header is that of a leaf and they lie within the row.
pub(super) fn count(row: &[u8], at: BlockNo) -> Result<usize> {
    let Ok(header) = TreeHeader::decode(row, 0) else {
        return corrupt(Check::Bounds, at, TreeHeader::SIZE as u64, row.len() as u64);
    };
    if header.level != 0 {
        return corrupt(Check::Level, at, 0, u64::from(header.level));
    }
    if header.count == 0 || offset_of(usize::from(header.count)) > row.len() {
        return corrupt(Check::Count, at, row.len() as u64, u64::from(header.count));
    }
    Ok(usize::from(header.count))
}

/// The number of extents that begin at or before `key`.
pub(super) fn search(row: &[u8], count: usize, key: FileBlock) -> usize {
    let (mut low, mut high) = (0_usize, count);
    while low < high {
        let middle = low.midpoint(high);
        match get::<FileBlock>(row, offset_of(middle)) {
            Ok(found) if found <= key => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    low
}

/// Checks everything about a row that can be seen in its own bytes.
pub(super) fn check(row: &[u8], at: BlockNo, geometry: &Geometry) -> Result {
    let count = count(row, at)?;
    let reserved = TreeHeader::decode(row, 0)?.reserved;
    if reserved != 0 {
        return corrupt(Check::Reserved, at, 0, u64::from(reserved));
    }
    let mut free_from = FileBlock(0);
    for index in 0..count {
        let extent = extent(row, index)?;
        extent.check(geometry, at)?;
        if extent.file_block < free_from {
            return corrupt(Check::Order, at, free_from.0, extent.file_block.0);
        }
        free_from = extent.end();
    }
    match row.get(offset_of(count)..).and_then(|rest| rest.iter().position(|byte| *byte != 0)) {
        Some(place) => corrupt(Check::Reserved, at, 0, place as u64),
        None => Ok(()),
    }
}

/// The bytes of the extents from `first` up to `end`.
pub(super) fn extents(row: &[u8], first: usize, end: usize) -> Result<&[u8]> {
    row.get(offset_of(first)..offset_of(end)).ok_or(Error::InvalidArgument)
}

/// Puts `extents`, which are those of another row, into a row with nothing in it.
pub(super) fn fill(row: &mut [u8], extents: &[u8]) -> Result {
    let count = u16::try_from(extents.len() / Extent::SIZE).map_err(|_| Error::InvalidArgument)?;
    TreeHeader { level: 0, count, reserved: 0 }.encode(row, 0)?;
    let place = row.get_mut(TreeHeader::SIZE..).and_then(|rest| rest.get_mut(..extents.len()));
    copy_to(place.ok_or(Error::InvalidArgument)?, extents)
}

/// Cuts a row of `count` to `kept` extents.
pub(super) fn truncate(row: &mut [u8], kept: usize, count: usize) -> Result {
    row.get_mut(offset_of(kept)..offset_of(count)).ok_or(Error::InvalidArgument)?.fill(0);
    put(row, COUNT_OFFSET, kept as u16)
}

/// Puts `new` before extent `index`. The row must have room.
pub(super) fn insert(row: &mut [u8], index: usize, new: &Extent) -> Result {
    let count = usize::from(TreeHeader::decode(row, 0)?.count);
    let more = count.saturating_add(1);
    let behind = row.get_mut(offset_of(index)..offset_of(more)).ok_or(Error::InvalidArgument)?;
    let moved = behind.len().checked_sub(Extent::SIZE).ok_or(Error::InvalidArgument)?;
    behind.copy_within(..moved, Extent::SIZE);
    new.encode(behind, 0)?;
    put(row, COUNT_OFFSET, more as u16)
}

/// Takes extent `index` out.
pub(super) fn remove(row: &mut [u8], index: usize) -> Result {
    let count = usize::from(TreeHeader::decode(row, 0)?.count);
    let rest = row.get_mut(offset_of(index)..offset_of(count)).ok_or(Error::InvalidArgument)?;
    if rest.len() < Extent::SIZE {
        return Err(Error::InvalidArgument);
    }
    rest.copy_within(Extent::SIZE.., 0);
    truncate(row, count.saturating_sub(1), count)
}

/// Writes over extent `index`.
pub(super) fn set(row: &mut [u8], index: usize, extent: &Extent) -> Result {
    extent.encode(row, offset_of(index))
}
