// SPDX-License-Identifier: GPL-2.0

//! Reading a group's header and bitmaps from the device, or making those that an uninitialised group implies.
//!
//! While a filesystem is in use, a bitmap that disagrees with its group's header is corruption: recovery has made both true
//! before. Nothing is changed here; the caller hands the result to the journal, which keeps the logged state, and to
//! [`super::group::Group`].

use crate::bitmap;
use crate::device::Device;
use crate::error::{corrupt, Check, Result};
use crate::format::block_header::{self, BlockKind, Stamp};
use crate::format::group::{self, BitmapKind, Geometry, GroupHeader, INODES_PER_BLOCK};
use crate::format::layout::get;
use crate::journal::object::{BitmapKey, GroupObject};
use crate::memory::{Buffer, OrderedMap};
use crate::platform::Platform;
use crate::units::{GroupNo, BLOCK_BYTES};

/// A group, as the journal keeps it.
pub struct LoadedGroup {
    /// Its header.
    pub header: GroupObject,
    /// Its bitmaps.
    pub bitmaps: OrderedMap<BitmapKey, Buffer>,
    /// Whether the log has to begin from the implied bitmaps.
    pub fresh: bool,
}

/// The bitmap blocks of a group.
pub fn bitmap_keys(geometry: &Geometry, group: GroupNo) -> impl Iterator<Item = BitmapKey> {
    let (blocks, inodes) = (geometry.block_bitmaps(), geometry.inode_bitmaps());
    let of = move |kind, count| (0..count).map(move |index| BitmapKey { group, kind, index });
    of(BitmapKind::Blocks, blocks).chain(of(BitmapKind::Inodes, inodes))
}

/// The stamp of a group's header.
pub fn header_stamp(geometry: &Geometry, group: GroupNo) -> Stamp {
    Stamp {
        kind: BlockKind::GroupHeader,
        block: geometry.header_of(group),
        owner: u64::from(group.0),
        filesystem_id: geometry.filesystem_id,
    }
}

/// Verifies a group's header.
pub fn verify_header(
    platform: &dyn Platform,
    geometry: &Geometry,
    group: GroupNo,
    bytes: &[u8],
) -> Result<GroupHeader> {
    let at = geometry.header_of(group);
    block_header::verify(platform, &header_stamp(geometry, group), bytes)?;
    let header = GroupHeader::decode(bytes, group::HEADER_OFFSET)?;
    if header.group != group {
        return corrupt(Check::Owner, at, u64::from(group.0), u64::from(header.group.0));
    }
    if header.blocks != geometry.blocks_of(group) {
        return corrupt(Check::Geometry, at, u64::from(geometry.blocks_of(group)), u64::from(header.blocks));
    }
    if header.table_mark > geometry.inodes_per_group || !header.table_mark.is_multiple_of(INODES_PER_BLOCK) {
        return corrupt(
            Check::TableMark,
            at,
            u64::from(geometry.inodes_per_group),
            u64::from(header.table_mark),
        );
    }
    if header.flags != 0 || header.reserved != [0; 16] {
        return corrupt(Check::Reserved, at, 0, u64::from(header.flags));
    }
    Ok(header)
}

/// Verifies a group's header and decodes it.
pub fn decode_header(
    platform: &dyn Platform,
    geometry: &Geometry,
    group: GroupNo,
    bytes: &[u8],
) -> Result<GroupObject> {
    let header = verify_header(platform, geometry, group, bytes)?;
    let mut object = GroupObject::try_new(header.table_mark)?;
    for key in bitmap_keys(geometry, group) {
        *object.entry_mut(key.kind, key.index)? = get(bytes, key.kind.entry_offset(key.index))?;
    }
    Ok(object)
}

/// Reads and verifies a group.
pub fn load(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    group: GroupNo,
) -> Result<LoadedGroup> {
    let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
    device.read(geometry.header_of(group), &mut bytes)?;
    let mut header = decode_header(platform, geometry, group, &bytes)?;
    let mut bitmaps = OrderedMap::new();
    for key in bitmap_keys(geometry, group) {
        let at = geometry.bitmap_of(group, key.kind, key.index);
        let mut bits = Buffer::zeroed(BLOCK_BYTES)?;
        device.read(at, &mut bits)?;
        let entry = *header.entry_mut(key.kind, key.index)?;
        let crc = platform.crc32c(0, &bits);
        if crc != entry.crc {
            return corrupt(Check::Crc, at, u64::from(entry.crc), u64::from(crc));
        }
        let free = bitmap::verify(&bits, geometry, group, key.kind, key.index)?;
        if free != entry.free {
            return corrupt(Check::FreeCount, at, u64::from(free), u64::from(entry.free));
        }
        bitmaps.insert(key, bits)?;
    }
    Ok(LoadedGroup { header, bitmaps, fresh: false })
}

/// The group as it is implied when it is not initialised.
pub fn implied(geometry: &Geometry, group: GroupNo) -> Result<LoadedGroup> {
    let header = GroupObject::try_new(0)?;
    let mut bitmaps = OrderedMap::new();
    for key in bitmap_keys(geometry, group) {
        let mut bits = Buffer::zeroed(BLOCK_BYTES)?;
        bitmap::implied(&mut bits, geometry, group, key.kind, key.index);
        bitmaps.insert(key, bits)?;
    }
    Ok(LoadedGroup { header, bitmaps, fresh: true })
}
