// SPDX-License-Identifier: GPL-2.0

//! Applying items to blocks in memory, then verifying all of them, then writing them home.
//!
//! Items are applied in the order of the log and never compared with what stands at home: a union brings every byte that may
//! differ, whether home is older, newer or torn. What replay is sure of is only what it has applied itself; so before-values of
//! bits are checked against that, and a group's header is made anew from its bitmaps.

use crate::bitmap;
use crate::blocks::{BlockGuard, ReadBlocks};
use crate::device::Device;
use crate::error::{corrupt, Check, Error, Result};
use crate::extent_map;
use crate::format::block_header::{self, BlockKind, Stamp};
use crate::format::group::{self, BitmapEntry, Geometry, GroupHeader};
use crate::format::inode::{self, INODE_BYTES};
use crate::format::item::{BITMAP_FRESH, BITMAP_WHOLE, BLOCK_FRESH};
use crate::format::layout::{copy_to, put};
use crate::format::orphan::{Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::journal::object::BitmapKey;
use crate::journal::replay::items::{runs, Item};
use crate::memory::{Buffer, OrderedMap, Shared};
use crate::platform::Platform;
use crate::space::load;
use crate::units::{BlockNo, FileBlock, GroupNo, InodeNo, OrphanSlot, Sequence, TransactionId, BLOCK_BYTES};
use crate::verify;

/// A metadata block under replay.
struct Block {
    bytes: Buffer,
    kind: BlockKind,
    owner: u64,
}

/// A bitmap under replay.
struct Bitmap {
    bits: Buffer,
    /// Bits that replay has given their value.
    known: Buffer,
}

/// All that replay has in memory.
pub struct Targets<'d> {
    device: &'d dyn Device,
    platform: &'d dyn Platform,
    geometry: Geometry,
    /// The newest transaction that freed each block.
    revoked: OrderedMap<BlockNo, TransactionId>,
    blocks: OrderedMap<BlockNo, Block>,
    tables: OrderedMap<BlockNo, Buffer>,
    /// The inodes that items named; the other slots of their blocks are as they were at home.
    inodes: OrderedMap<InodeNo, ()>,
    bitmaps: OrderedMap<BitmapKey, Bitmap>,
    marks: OrderedMap<GroupNo, u32>,
    slots: OrderedMap<OrphanSlot, Slot>,
}

impl<'d> Targets<'d> {
    /// Nothing yet.
    pub fn new(device: &'d dyn Device, platform: &'d dyn Platform, geometry: &Geometry) -> Self {
        Self {
            device,
            platform,
            geometry: *geometry,
            revoked: OrderedMap::new(),
            blocks: OrderedMap::new(),
            tables: OrderedMap::new(),
            inodes: OrderedMap::new(),
            bitmaps: OrderedMap::new(),
            marks: OrderedMap::new(),
            slots: OrderedMap::new(),
        }
    }

    /// Notes that `transaction` freed a block: items of earlier transactions for it are void.
    pub fn revoke(&mut self, block: BlockNo, transaction: TransactionId) -> Result {
        self.revoked.insert(block, transaction)?;
        Ok(())
    }

    fn read_home(&self, block: BlockNo) -> Result<Buffer> {
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        self.device.read(block, &mut bytes)?;
        Ok(bytes)
    }

    /// Applies one item of `transaction`; whether it was an object's.
    pub fn apply(&mut self, item: Item<'_>, transaction: TransactionId) -> Result<bool> {
        match item {
            Item::Block { item, kind, ranges } => {
                if self.revoked.get(item.block).is_some_and(|freed_by| *freed_by > transaction) {
                    return Ok(true);
                }
                let fresh = item.flags & BLOCK_FRESH != 0;
                if fresh || !self.blocks.contains_key(item.block) {
                    let bytes =
                        if fresh { Buffer::zeroed(BLOCK_BYTES)? } else { self.read_home(item.block)? };
                    self.blocks.insert(item.block, Block { bytes, kind, owner: item.owner })?;
                }
                let target = self.blocks.get_mut(item.block).ok_or(Error::ShutDown)?;
                (target.kind, target.owner) = (kind, item.owner);
                for (offset, bytes) in ranges {
                    let end = offset.saturating_add(bytes.len());
                    copy_to(target.bytes.get_mut(offset..end).ok_or(Error::ShutDown)?, bytes)?;
                }
            }
            Item::Inode { number, image } => self.apply_inode(number, image)?,
            Item::Bitmap { item, key, body } => self.apply_bitmap(item.flags, key, body)?,
            Item::Orphan(item) => {
                self.slots.insert(item.slot, item.content)?;
            }
            Item::Group(item) => {
                self.marks.insert(item.group, item.table_mark)?;
            }
            Item::TableZero(item) => {
                for index in item.first..item.first.saturating_add(item.blocks) {
                    let block = self
                        .geometry
                        .table_of(item.group)
                        .checked_add(u64::from(index))
                        .ok_or(Error::ShutDown)?;
                    self.tables.insert(block, Buffer::zeroed(BLOCK_BYTES)?)?;
                }
            }
            Item::Revoke(_) | Item::Totals(_) | Item::Operation { .. } | Item::Note(_) | Item::Skipped => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn apply_inode(&mut self, number: InodeNo, image: &[u8]) -> Result {
        let place = self.geometry.locate_inode(number)?;
        if !self.tables.contains_key(place.block) {
            let bytes = self.read_home(place.block)?;
            self.tables.insert(place.block, bytes)?;
        }
        let table = self.tables.get_mut(place.block).ok_or(Error::ShutDown)?;
        let end = place.offset.saturating_add(INODE_BYTES);
        let slot = table.get_mut(place.offset..end).ok_or(Error::ShutDown)?;
        let (used, rest) = slot.split_at_mut_checked(image.len()).ok_or(Error::ShutDown)?;
        copy_to(used, image)?;
        rest.fill(0);
        inode::seal(self.platform, slot)?;
        self.inodes.insert(number, ())?;
        Ok(())
    }

    fn apply_bitmap(&mut self, flags: u8, key: BitmapKey, body: &[u8]) -> Result {
        let home = self.geometry.bitmap_of(key.group, key.kind, key.index);
        if !self.bitmaps.contains_key(key) {
            let bits = if flags & BITMAP_FRESH == 0 {
                self.read_home(home)?
            } else {
                let mut bits = Buffer::zeroed(BLOCK_BYTES)?;
                bitmap::implied(&mut bits, &self.geometry, key.group, key.kind, key.index);
                bits
            };
            self.bitmaps.insert(key, Bitmap { bits, known: Buffer::zeroed(BLOCK_BYTES)? })?;
        }
        let target = self.bitmaps.get_mut(key).ok_or(Error::ShutDown)?;
        if flags & BITMAP_WHOLE != 0 {
            copy_to(&mut target.bits, body)?;
            target.known.fill(0xFF);
            return Ok(());
        }
        for run in runs(body) {
            for bit in run.start..run.start.saturating_add(run.bits) {
                if bitmap::test(&target.known, bit) && bitmap::test(&target.bits, bit) != run.before {
                    return corrupt(Check::JournalBefore, home, u64::from(!run.before), u64::from(bit));
                }
            }
            // Bits may have their value already: home may be newer than the record.
            let set = if run.value { bitmap::set_range } else { bitmap::clear_range };
            let _ = set(&mut target.bits, run.start, run.bits);
            let _ = bitmap::set_range(&mut target.known, run.start, run.bits);
        }
        Ok(())
    }

    /// Orphan slots are applied last: which block holds a slot stands in the index's inode.
    fn apply_slots(&mut self) -> Result {
        if self.slots.is_empty() {
            return Ok(());
        }
        let table = self.geometry.locate_inode(inode::ORPHAN_INDEX)?.block;
        let index = {
            let view = View { targets: self };
            let bytes = view.table_block(table)?;
            verify::inode(self.platform, &self.geometry, &bytes, inode::ORPHAN_INDEX)?
        };
        while let Some((slot, content)) = self.slots.pop_first() {
            let place = FileBlock(u64::from(slot.0 / SLOTS_PER_BLOCK));
            let found = extent_map::next_from(&View { targets: self }, &index, place)?;
            let Some(extent) = found.filter(|extent| extent.file_block <= place) else {
                return corrupt(Check::OrphanSlot, table, index.core.size_bytes, u64::from(slot.0));
            };
            let block = BlockNo(extent.block.0.saturating_add(place.0.saturating_sub(extent.file_block.0)));
            if !self.blocks.contains_key(block) {
                let bytes = self.read_home(block)?;
                let target = Block { bytes, kind: BlockKind::OrphanIndex, owner: inode::ORPHAN_INDEX.0 };
                self.blocks.insert(block, target)?;
            }
            let target = self.blocks.get_mut(block).ok_or(Error::ShutDown)?;
            let at = (slot.0 % SLOTS_PER_BLOCK) as usize;
            content.encode(&mut target.bytes, SLOTS_OFFSET.saturating_add(at.saturating_mul(Slot::SIZE)))?;
        }
        Ok(())
    }

    /// Stamps and verifies everything; nothing has been written before, and nothing is when this fails.
    pub fn finish(&mut self, sequence: Sequence) -> Result {
        self.apply_slots()?;
        for (number, target) in self.blocks.iter_mut() {
            let stamp = Stamp {
                kind: target.kind,
                block: number,
                owner: target.owner,
                filesystem_id: self.geometry.filesystem_id,
            };
            block_header::seal(self.platform, &mut target.bytes, sequence)?;
            verify::block(self.platform, &self.geometry, &stamp, &target.bytes)?;
        }
        for (number, ()) in self.inodes.iter() {
            let place = self.geometry.locate_inode(number)?;
            let table = self.tables.get(place.block).ok_or(Error::ShutDown)?;
            verify::inode(self.platform, &self.geometry, table, number)?;
        }
        for (key, target) in self.bitmaps.iter() {
            bitmap::verify(&target.bits, &self.geometry, key.group, key.kind, key.index)?;
        }
        Ok(())
    }

    /// Writes everything home. The caller flushes.
    pub fn write_home(&mut self, sequence: Sequence) -> Result {
        for (block, target) in self.blocks.iter() {
            self.device.write(block, &target.bytes)?;
        }
        for (block, bytes) in self.tables.iter() {
            self.device.write(block, bytes)?;
        }
        for (key, target) in self.bitmaps.iter() {
            let home = self.geometry.bitmap_of(key.group, key.kind, key.index);
            self.device.write(home, &target.bits)?;
        }
        while let Some((group, mark)) = self.marks.pop_first() {
            self.write_group_header(group, mark, sequence)?;
        }
        Ok(())
    }

    /// Makes a group's header anew: entries of replayed bitmaps from their bits, the others from the header at home if that is
    /// whole, else from the bitmaps at home.
    fn write_group_header(&mut self, group: GroupNo, table_mark: u32, sequence: Sequence) -> Result {
        let at = self.geometry.header_of(group);
        let mut bytes = self.read_home(at)?;
        let mut old = load::decode_header(self.platform, &self.geometry, group, &bytes).ok();
        bytes.fill(0);
        load::header_stamp(&self.geometry, group).begin(&mut bytes)?;
        let blocks = self.geometry.blocks_of(group);
        let header = GroupHeader { group, flags: 0, blocks, table_mark, reserved: [0; 16] };
        header.encode(&mut bytes, group::HEADER_OFFSET)?;
        for key in load::bitmap_keys(&self.geometry, group) {
            let in_use = self.geometry.bits_of(group, key.kind, key.index);
            let entry_of = |bits: &[u8]| BitmapEntry {
                crc: self.platform.crc32c(0, bits),
                free: in_use.saturating_sub(bitmap::count_ones(bits, 0, in_use)),
                sequence,
            };
            let entry = match (self.bitmaps.get(key), old.as_mut()) {
                (Some(target), _) => entry_of(&target.bits),
                (None, Some(old)) => *old.entry_mut(key.kind, key.index)?,
                (None, None) => {
                    entry_of(&self.read_home(self.geometry.bitmap_of(group, key.kind, key.index))?)
                }
            };
            put(&mut bytes, key.kind.entry_offset(key.index), entry)?;
        }
        block_header::seal(self.platform, &mut bytes, sequence)?;
        self.device.write(at, &bytes)
    }
}

/// Reading blocks as they will be when replay has ended.
struct View<'t, 'd> {
    targets: &'t Targets<'d>,
}

impl View<'_, '_> {
    fn table_block(&self, block: BlockNo) -> Result<Buffer> {
        match self.targets.tables.get(block) {
            Some(bytes) => Ok(bytes.try_clone()?),
            None => self.targets.read_home(block),
        }
    }
}

impl ReadBlocks for View<'_, '_> {
    fn geometry(&self) -> &Geometry {
        &self.targets.geometry
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let filesystem_id = self.targets.geometry.filesystem_id;
        let stamp = Stamp { kind, block, owner: owner.0, filesystem_id };
        let bytes = match self.targets.blocks.get(block) {
            Some(target) => {
                verify::cached(&stamp, &target.bytes)?;
                verify::structure(&self.targets.geometry, &stamp, &target.bytes)?;
                target.bytes.try_clone()?
            }
            None => {
                let bytes = self.targets.read_home(block)?;
                verify::block(self.targets.platform, &self.targets.geometry, &stamp, &bytes)?;
                bytes
            }
        };
        Ok(BlockGuard::Cached(Shared::try_new(bytes)?))
    }
}
