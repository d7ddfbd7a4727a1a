// SPDX-License-Identifier: GPL-2.0

//! Verifying what was read from the device, once, before anybody sees it (invariants I10, I11).
//!
//! One place that knows which checks each kind of block and inode has: whoever fills a cache calls it, in the kernel, in the
//! tools and in the enumerator alike. What it lets through may still be wrong in what only a walk over the whole filesystem
//! can tell (`check` does that), but every access to it is within bounds and ends.

use crate::attributes;
use crate::directory;
use crate::error::{corrupt, Check, Error, Result};
use crate::extent_map;
use crate::format::block_header::{self, BlockHeader, BlockKind, Stamp};
use crate::format::group::Geometry;
use crate::format::inode::{self, MapKind, INODE_BYTES};
use crate::format::orphan::{Cause, OrphanKind, Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::inode::Inode;
use crate::memory::Owned;
use crate::platform::Platform;
use crate::units::{BlockNo, InodeNo};

/// Verifies a block that belongs to an inode: header, CRC, and the structure behind the header.
pub fn block(platform: &dyn Platform, geometry: &Geometry, stamp: &Stamp, bytes: &[u8]) -> Result {
    block_header::verify(platform, stamp, bytes)?;
    structure(geometry, stamp, bytes)
}

/// Verifies the structure of a block whose header and CRC are right.
pub fn structure(geometry: &Geometry, stamp: &Stamp, bytes: &[u8]) -> Result {
    match stamp.kind {
        BlockKind::ExtentTree => extent_map::verify(bytes, stamp.block, geometry),
        BlockKind::DirectoryNode | BlockKind::DirectoryLeaf => {
            directory::verify(stamp.kind, bytes, stamp.block, geometry)
        }
        BlockKind::Attributes => attributes::verify_block(bytes, stamp.block),
        BlockKind::OrphanIndex => orphan_block(bytes, stamp.block, geometry),
        BlockKind::SymlinkTarget => Ok(()),
        _ => Err(Error::InvalidArgument),
    }
}

/// A cached block must still be what the reader takes it for: two owners of one block are found out here.
pub fn cached(stamp: &Stamp, bytes: &[u8]) -> Result {
    stamp.check(&BlockHeader::decode(bytes, 0)?)
}

fn orphan_block(bytes: &[u8], at: BlockNo, geometry: &Geometry) -> Result {
    for index in 0..SLOTS_PER_BLOCK {
        let offset = SLOTS_OFFSET.saturating_add((index as usize).saturating_mul(Slot::SIZE));
        let slot = Slot::decode(bytes, offset)?;
        let is_empty = slot.inode.0 == 0 && slot.kind == 0 && slot.cause == 0;
        let known = OrphanKind::from_number(slot.kind).is_some() && Cause::from_number(slot.cause).is_some();
        if slot.reserved != [0; 6] || !(is_empty || (known && slot.inode.0 != 0)) {
            return corrupt(Check::OrphanSlot, at, 0, u64::from(index));
        }
        if !is_empty && geometry.locate_inode(slot.inode).is_err() {
            return corrupt(Check::InodeRange, at, geometry.inode_count(), slot.inode.0);
        }
    }
    Ok(())
}

/// The inode in a slot of the inode table's block `table_block`, verified; free ones too. A slot that is all zero was never
/// used: [`Error::Stale`].
pub fn inode(
    platform: &dyn Platform,
    geometry: &Geometry,
    table_block: &[u8],
    number: InodeNo,
) -> Result<Owned<Inode>> {
    let (bytes, block) = slot(platform, geometry, table_block, number)?;
    let inode = Inode::decode(bytes)?;
    parts(geometry, &inode, block)?;
    Ok(inode)
}

/// The same, with `inode` as its memory: for who must not ask for any.
pub fn inode_over(
    platform: &dyn Platform,
    geometry: &Geometry,
    table_block: &[u8],
    number: InodeNo,
    inode: &mut Inode,
) -> Result {
    let (bytes, block) = slot(platform, geometry, table_block, number)?;
    inode.decode_over(bytes)?;
    parts(geometry, inode, block)
}

/// An inode's slot in its table block, and that block's number.
fn slot<'b>(
    platform: &dyn Platform,
    geometry: &Geometry,
    table_block: &'b [u8],
    number: InodeNo,
) -> Result<(&'b [u8], BlockNo)> {
    let place = geometry.locate_inode(number)?;
    let end = place.offset.saturating_add(INODE_BYTES);
    let bytes = table_block.get(place.offset..end).ok_or(Error::InvalidArgument)?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Error::Stale);
    }
    inode::verify(platform, bytes, number, place.block)?;
    Ok((bytes, place.block))
}

/// Verifies what stands in an inode's area.
pub fn parts(geometry: &Geometry, inode: &Inode, at: BlockNo) -> Result {
    match inode.map_kind() {
        MapKind::InlineDirectory | MapKind::DirectoryTree => directory::verify_map(geometry, inode)?,
        MapKind::Extents => extent_map::verify_root(inode, geometry)?,
        MapKind::SymlinkBlock => {
            let block = crate::symlink::target_block(inode)?.unwrap_or_default();
            if !geometry.is_data_run(block, 1) {
                return corrupt(Check::BlockRange, at, geometry.device_blocks, block.0);
            }
        }
        MapKind::InlineData => return corrupt(Check::MapKind, at, 0, MapKind::InlineData as u64),
        MapKind::None | MapKind::Symlink => {}
    }
    let block = inode.core.attribute_block;
    if block.0 != 0 && !geometry.is_data_run(block, 1) {
        return corrupt(Check::BlockRange, at, geometry.device_blocks, block.0);
    }
    attributes::verify_inline(inode, at)
}
