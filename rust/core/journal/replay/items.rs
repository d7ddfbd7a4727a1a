// SPDX-License-Identifier: GPL-2.0

//! Reading a record's payload: items one behind the other, each checked before anybody sees it.

use crate::error::{corrupt, Check, Error, Result, Unsupported};
use crate::format::group::{BitmapKind, Geometry, BITMAP_BITS, INODES_PER_BLOCK};
use crate::format::inode::{InodeCore, INODE_BYTES, INODE_MAGIC};
use crate::format::item::{
    BitRun, BitmapItem, BlockItem, ByteRange, GroupItem, ItemHeader, ItemKind, OperationItem, OrphanItem,
    RevokeItem, TableZeroItem, BITMAP_FLAGS_ALL, BITMAP_RUNS_MAX, BITMAP_WHOLE, BLOCK_FRESH, ITEM_ALIGNMENT,
    ITEM_OPTIONAL,
};
use crate::format::journal::Totals;
use crate::format::layout::{copy_to, get};
use crate::format::BlockKind;
use crate::journal::object::BitmapKey;
use crate::units::{round_up, BlockNo, InodeNo, BLOCK_BYTES};

/// An item whose numbers have been checked against the filesystem's.
pub enum Item<'p> {
    /// Ranges of bytes of a metadata block.
    Block {
        /// The block.
        item: BlockItem,
        /// What it is.
        kind: BlockKind,
        /// The ranges and their bytes.
        ranges: Ranges<'p>,
    },
    /// An inode's used prefix.
    Inode {
        /// Which inode.
        number: InodeNo,
        /// The bytes.
        image: &'p [u8],
    },
    /// Bits of a bitmap block.
    Bitmap {
        /// The item.
        item: BitmapItem,
        /// Which bitmap block.
        key: BitmapKey,
        /// Runs of four bytes each, or the whole block.
        body: &'p [u8],
    },
    /// Freed blocks.
    Revoke(RevokeItem),
    /// A slot of the orphan index.
    Orphan(OrphanItem),
    /// A group's header.
    Group(GroupItem),
    /// New blocks of an inode table.
    TableZero(TableZeroItem),
    /// The totals.
    Totals(Totals),
    /// What was done, with its names.
    Operation {
        /// The item.
        item: OperationItem,
        /// What follows it.
        rest: &'p [u8],
    },
    /// A user's mark.
    Note(&'p [u8]),
    /// An item of an unknown type that may be skipped.
    Skipped,
}

/// Ranges of a block item: offset and bytes of each.
pub struct Ranges<'p> {
    table: &'p [u8],
    bytes: &'p [u8],
}

impl<'p> Iterator for Ranges<'p> {
    type Item = (usize, &'p [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let range: ByteRange = get(self.table, 0).ok()?;
        self.table = self.table.get(ByteRange::SIZE..)?;
        let (bytes, rest) = self.bytes.split_at_checked(usize::from(range.bytes))?;
        self.bytes = rest;
        Some((usize::from(range.offset), bytes))
    }
}

/// Runs of a bitmap item that has runs.
pub fn runs(body: &[u8]) -> impl Iterator<Item = BitRun> + '_ {
    body.chunks_exact(4).filter_map(|bytes| get::<u32>(bytes, 0).ok().map(BitRun::unpack))
}

/// The items of a payload.
pub struct Items<'p> {
    payload: &'p [u8],
    /// The block of the ring, for messages.
    at: BlockNo,
}

impl<'p> Items<'p> {
    /// The items of `payload`, which stands at `at`.
    pub const fn new(payload: &'p [u8], at: BlockNo) -> Self {
        Self { payload, at }
    }

    /// The next item; `None` at the end.
    pub fn next(&mut self, geometry: &Geometry) -> Result<Option<Item<'p>>> {
        if self.payload.is_empty() {
            return Ok(None);
        }
        if self.payload.len() < ItemHeader::SIZE {
            return self.wrong(ItemHeader::SIZE as u64, self.payload.len() as u64);
        }
        let header = ItemHeader::decode(self.payload, 0)?;
        let length = header.body_bytes as usize;
        let whole = ItemHeader::SIZE.saturating_add(round_up(length as u64, ITEM_ALIGNMENT) as usize);
        let (Some(body), Some(rest)) = (
            self.payload.get(ItemHeader::SIZE..ItemHeader::SIZE.saturating_add(length)),
            self.payload.get(whole..),
        ) else {
            return self.wrong(self.payload.len() as u64, whole as u64);
        };
        self.payload = rest;
        match ItemKind::from_number(header.kind) {
            Some(kind) => self.parse(kind, body, geometry).map(Some),
            None if header.flags & ITEM_OPTIONAL != 0 => Ok(Some(Item::Skipped)),
            None => Err(Error::Unsupported(Unsupported::JournalItem(header.kind))),
        }
    }

    fn wrong<T>(&self, expected: u64, found: u64) -> Result<T> {
        corrupt(Check::JournalItem, self.at, expected, found)
    }

    fn exactly(&self, body: &[u8], size: usize) -> Result {
        if body.len() != size {
            return self.wrong(size as u64, body.len() as u64);
        }
        Ok(())
    }

    fn at_least(&self, body: &[u8], size: usize) -> Result {
        if body.len() < size {
            return self.wrong(size as u64, body.len() as u64);
        }
        Ok(())
    }

    fn parse(&self, kind: ItemKind, body: &'p [u8], geometry: &Geometry) -> Result<Item<'p>> {
        match kind {
            ItemKind::Block => self.block(body, geometry),
            ItemKind::Inode => self.inode(body, geometry),
            ItemKind::Bitmap => self.bitmap(body, geometry),
            ItemKind::Revoke => {
                self.exactly(body, RevokeItem::SIZE)?;
                let item = RevokeItem::decode(body, 0)?;
                // One block an item: what is longer was never written, and would cost more than its bytes.
                if item.blocks != 1 || !geometry.is_data_run(item.start, 1) {
                    return self.wrong(geometry.device_blocks, item.start.0);
                }
                Ok(Item::Revoke(item))
            }
            ItemKind::Orphan => {
                self.exactly(body, OrphanItem::SIZE)?;
                Ok(Item::Orphan(OrphanItem::decode(body, 0)?))
            }
            ItemKind::Group => {
                self.exactly(body, GroupItem::SIZE)?;
                let item = GroupItem::decode(body, 0)?;
                let aligned = item.table_mark.is_multiple_of(INODES_PER_BLOCK);
                if item.group.0 >= geometry.group_count
                    || item.table_mark > geometry.inodes_per_group
                    || !aligned
                {
                    return self.wrong(u64::from(geometry.group_count), u64::from(item.group.0));
                }
                Ok(Item::Group(item))
            }
            ItemKind::TableZero => {
                self.exactly(body, TableZeroItem::SIZE)?;
                let item = TableZeroItem::decode(body, 0)?;
                let end = item.first.saturating_add(item.blocks);
                let one = item.blocks == 1 && item.reserved == 0;
                if item.group.0 >= geometry.group_count || end > geometry.table_blocks() || !one {
                    return self.wrong(u64::from(geometry.table_blocks()), u64::from(end));
                }
                Ok(Item::TableZero(item))
            }
            ItemKind::Totals => {
                self.exactly(body, Totals::SIZE)?;
                let totals = Totals::decode(body, 0)?;
                if totals.initialised_groups == 0 || totals.initialised_groups > geometry.group_count {
                    return self.wrong(u64::from(geometry.group_count), u64::from(totals.initialised_groups));
                }
                Ok(Item::Totals(totals))
            }
            ItemKind::Operation => {
                self.at_least(body, OperationItem::SIZE)?;
                let rest = body.get(OperationItem::SIZE..).unwrap_or(&[]);
                Ok(Item::Operation { item: OperationItem::decode(body, 0)?, rest })
            }
            ItemKind::Note => Ok(Item::Note(body)),
            // Contents and their digests travel in records when the modes that need them do.
            ItemKind::FileData | ItemKind::Digest => {
                Err(Error::Unsupported(Unsupported::JournalItem(kind as u16)))
            }
        }
    }

    fn block(&self, body: &'p [u8], geometry: &Geometry) -> Result<Item<'p>> {
        self.at_least(body, BlockItem::SIZE)?;
        let item = BlockItem::decode(body, 0)?;
        let kind = BlockKind::from_number(item.block_kind).filter(|kind| kind.belongs_to_an_inode());
        let Some(kind) = kind.filter(|_| geometry.is_data_run(item.block, 1)) else {
            return self.wrong(geometry.device_blocks, item.block.0);
        };
        if item.flags & !BLOCK_FRESH != 0 {
            return self.wrong(u64::from(BLOCK_FRESH), u64::from(item.flags));
        }
        let table_end =
            BlockItem::SIZE.saturating_add(usize::from(item.ranges).saturating_mul(ByteRange::SIZE));
        let (Some(table), Some(bytes)) = (body.get(BlockItem::SIZE..table_end), body.get(table_end..)) else {
            return self.wrong(table_end as u64, body.len() as u64);
        };
        let (mut end, mut total) = (0_usize, 0_usize);
        for entry in table.chunks_exact(ByteRange::SIZE) {
            let range: ByteRange = get(entry, 0)?;
            if usize::from(range.offset) < end || range.bytes == 0 {
                return self.wrong(end as u64, u64::from(range.offset));
            }
            end = usize::from(range.offset).saturating_add(usize::from(range.bytes));
            total = total.saturating_add(usize::from(range.bytes));
        }
        if end > BLOCK_BYTES || total != bytes.len() {
            return self.wrong(total as u64, bytes.len() as u64);
        }
        Ok(Item::Block { item, kind, ranges: Ranges { table, bytes } })
    }

    fn inode(&self, body: &'p [u8], geometry: &Geometry) -> Result<Item<'p>> {
        if body.len() > INODE_BYTES {
            return self.wrong(INODE_BYTES as u64, body.len() as u64);
        }
        // Trailing zeros are left out, also within the fixed fields.
        let mut fixed = [0; InodeCore::SIZE];
        let length = body.len().min(InodeCore::SIZE);
        if let (Some(place), Some(bytes)) = (fixed.get_mut(..length), body.get(..length)) {
            copy_to(place, bytes)?;
        }
        let core = InodeCore::decode(&fixed, 0)?;
        if core.magic != INODE_MAGIC || geometry.locate_inode(core.number).is_err() {
            return self.wrong(geometry.inode_count(), core.number.0);
        }
        core.check(self.at)?;
        if body.len() > core.used_bytes() {
            return self.wrong(core.used_bytes() as u64, body.len() as u64);
        }
        Ok(Item::Inode { number: core.number, image: body })
    }

    fn bitmap(&self, body: &'p [u8], geometry: &Geometry) -> Result<Item<'p>> {
        self.at_least(body, BitmapItem::SIZE)?;
        let item = BitmapItem::decode(body, 0)?;
        let rest = body.get(BitmapItem::SIZE..).unwrap_or(&[]);
        let index = u32::from(item.index);
        let kind = BitmapKind::from_number(item.bitmap_kind);
        let count = match kind {
            Some(BitmapKind::Blocks) => geometry.block_bitmaps(),
            Some(BitmapKind::Inodes) => geometry.inode_bitmaps(),
            None => 0,
        };
        let Some(kind) = kind.filter(|_| item.group.0 < geometry.group_count && index < count) else {
            return self.wrong(u64::from(count), u64::from(index));
        };
        if item.flags & !BITMAP_FLAGS_ALL != 0 || item.reserved != 0 {
            return self.wrong(u64::from(BITMAP_FLAGS_ALL), u64::from(item.flags));
        }
        let whole = item.flags & BITMAP_WHOLE != 0;
        let expected = if whole { BLOCK_BYTES } else { (item.runs as usize).saturating_mul(4) };
        if rest.len() != expected || (whole && item.runs != 0) {
            return self.wrong(expected as u64, rest.len() as u64);
        }
        if !whole {
            let bits = geometry.bits_of(item.group, kind, index);
            if item.runs as usize > BITMAP_RUNS_MAX {
                return self.wrong(BITMAP_RUNS_MAX as u64, u64::from(item.runs));
            }
            let mut end = 0;
            for run in runs(rest) {
                if run.start < end || run.start.saturating_add(run.bits) > bits.min(BITMAP_BITS) {
                    return self.wrong(u64::from(end), u64::from(run.start));
                }
                end = run.start.saturating_add(run.bits);
            }
        }
        Ok(Item::Bitmap { item, key: BitmapKey { group: item.group, kind, index }, body: rest })
    }
}
