// SPDX-License-Identifier: GPL-2.0

//! The bytes of an inner node, from its [`TreeHeader`] on: an inode's whole map, or a block behind its header.
//!
//! Entries are in ascending order of their keys, without gaps; what lies behind them is zero.

use crate::error::{corrupt, Check, Error, Result};
use crate::format::group::Geometry;
use crate::format::layout::{copy_to, get, move_within, put};
use crate::format::tree::{NodeEntry, TreeHeader, HEADER_OFFSET, LEVEL_MAX};
use crate::units::BlockNo;

const COUNT_OFFSET: usize = 2;

/// Where entry `index` begins.
const fn offset_of(index: usize) -> usize {
    TreeHeader::SIZE.saturating_add(index.saturating_mul(NodeEntry::SIZE))
}

/// The bytes of a node with `count` entries.
pub const fn bytes_of(count: usize) -> usize {
    offset_of(count)
}

/// Entry `index`, which must be less than the node's count.
pub fn entry(node: &[u8], index: usize) -> Result<NodeEntry> {
    NodeEntry::decode(node, offset_of(index))
}

/// The number of entries, when the header is that of a node at `level` and they lie within the node. No inner node is empty.
pub fn count(node: &[u8], level: u16, at: BlockNo) -> Result<usize> {
    let Ok(header) = TreeHeader::decode(node, 0) else {
        return corrupt(Check::Bounds, at, TreeHeader::SIZE as u64, node.len() as u64);
    };
    if header.level != level {
        return corrupt(Check::Level, at, u64::from(level), u64::from(header.level));
    }
    if header.count == 0 || offset_of(usize::from(header.count)) > node.len() {
        return corrupt(Check::Count, at, node.len() as u64, u64::from(header.count));
    }
    Ok(usize::from(header.count))
}

/// Checks the level of a root and that its entries fill the map; returns the level.
pub fn check_root(map: &[u8], at: BlockNo) -> Result<u16> {
    let Ok(header) = TreeHeader::decode(map, 0) else {
        return corrupt(Check::Bounds, at, TreeHeader::SIZE as u64, map.len() as u64);
    };
    if header.level == 0 || header.level > LEVEL_MAX {
        return corrupt(Check::Level, at, u64::from(LEVEL_MAX), u64::from(header.level));
    }
    if offset_of(usize::from(header.count)) != map.len() {
        return corrupt(Check::Count, at, map.len() as u64, u64::from(header.count));
    }
    Ok(header.level)
}

/// The last of `count` entries whose key is not above `key`; 0 when all are.
pub fn search(node: &[u8], count: usize, key: u64) -> usize {
    let (mut low, mut high) = (0_usize, count);
    while low < high {
        let middle = low.midpoint(high);
        match get::<u64>(node, offset_of(middle)) {
            Ok(found) if found <= key => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    low.saturating_sub(1)
}

/// Checks everything about a node that can be seen in its own bytes: order, children, reserved bytes.
pub fn check(node: &[u8], level: u16, at: BlockNo, geometry: &Geometry) -> Result {
    let count = count(node, level, at)?;
    let reserved = TreeHeader::decode(node, 0)?.reserved;
    if reserved != 0 {
        return corrupt(Check::Reserved, at, 0, u64::from(reserved));
    }
    let mut lowest = 0;
    for index in 0..count {
        let entry = entry(node, index)?;
        if entry.key < lowest || entry.key == super::KEY_END {
            return corrupt(Check::Order, at, lowest, entry.key);
        }
        if !geometry.is_data_run(entry.child, 1) {
            return corrupt(Check::BlockRange, at, geometry.device_blocks, entry.child.0);
        }
        lowest = entry.key.saturating_add(1);
    }
    match node.get(offset_of(count)..).and_then(|rest| rest.iter().position(|byte| *byte != 0)) {
        Some(place) => corrupt(Check::Reserved, at, 0, place as u64),
        None => Ok(()),
    }
}

/// Verifies the block of an inner node that was just read, behind its header.
pub fn verify(bytes: &[u8], block: BlockNo, geometry: &Geometry) -> Result {
    let node = bytes.get(HEADER_OFFSET..).unwrap_or(&[]);
    let Ok(header) = TreeHeader::decode(node, 0) else {
        return corrupt(Check::Bounds, block, HEADER_OFFSET as u64, bytes.len() as u64);
    };
    // The root stands in the inode, so no block reaches the highest level.
    if header.level == 0 || header.level >= LEVEL_MAX {
        return corrupt(Check::Level, block, u64::from(LEVEL_MAX), u64::from(header.level));
    }
    check(node, header.level, block, geometry)
}

/// Verifies the root of an inode that was just read.
pub fn verify_root(map: &[u8], at: BlockNo, geometry: &Geometry) -> Result {
    check(map, check_root(map, at)?, at, geometry)
}

/// Puts `entries`, which are those of another node, into a node with nothing in it.
pub(super) fn fill(node: &mut [u8], level: u16, entries: &[u8]) -> Result {
    let count = u16::try_from(entries.len() / NodeEntry::SIZE).map_err(|_| Error::InvalidArgument)?;
    TreeHeader { level, count, reserved: 0 }.encode(node, 0)?;
    let place = node.get_mut(TreeHeader::SIZE..).and_then(|rest| rest.get_mut(..entries.len()));
    copy_to(place.ok_or(Error::InvalidArgument)?, entries)
}

/// The bytes of the entries from `first` up to `count`.
pub(super) fn entries(node: &[u8], first: usize, count: usize) -> Result<&[u8]> {
    node.get(offset_of(first)..offset_of(count)).ok_or(Error::InvalidArgument)
}

/// Cuts a node to `kept` entries.
pub(super) fn truncate(node: &mut [u8], kept: usize, count: usize) -> Result {
    node.get_mut(offset_of(kept)..offset_of(count)).ok_or(Error::InvalidArgument)?.fill(0);
    put(node, COUNT_OFFSET, kept as u16)
}

/// Puts `new` before entry `index`. The node must have room.
pub(super) fn insert(node: &mut [u8], index: usize, new: &NodeEntry) -> Result {
    let count = usize::from(TreeHeader::decode(node, 0)?.count);
    let (start, end) = (offset_of(index), offset_of(count));
    move_within(node, start, end, offset_of(index.saturating_add(1)))?;
    new.encode(node, start)?;
    put(node, COUNT_OFFSET, count.saturating_add(1) as u16)
}

/// Takes entry `index` out.
pub(super) fn remove(node: &mut [u8], index: usize) -> Result {
    let count = usize::from(TreeHeader::decode(node, 0)?.count);
    move_within(node, offset_of(index.saturating_add(1)), offset_of(count), offset_of(index))?;
    truncate(node, count.saturating_sub(1), count)
}

/// Changes the key of entry `index`.
pub(super) fn set_key(node: &mut [u8], index: usize, key: u64) -> Result {
    put(node, offset_of(index), key)
}
