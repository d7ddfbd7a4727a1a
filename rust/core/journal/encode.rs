// SPDX-License-Identifier: GPL-2.0

//! Objects as items: how long each is, and its bytes.
//!
//! Two functions for each kind, side by side so that they stay of one mind: one measures, before anything is promised; the
//! other writes. A payload is written front to back into a buffer that was measured first, so running out of it is a
//! mistake of ours and becomes an error that shuts the journal down, never a short record.

use crate::error::{Error, Result};
use crate::format::block_header::{BlockHeader, BlockKind};
use crate::format::group::BitmapKind;
use crate::format::inode::ORPHAN_INDEX;
use crate::format::item::{
    BitmapItem, BlockItem, ByteRange, GroupItem, ItemHeader, ItemKind, OrphanItem, RevokeItem, TableZeroItem,
    BITMAP_BODY_BYTES_MAX, BITMAP_FRESH, BITMAP_RUNS_MAX, BITMAP_WHOLE, BLOCK_FRESH, INODE_BODY_BYTES_MAX,
    ITEM_ALIGNMENT, ITEM_OPTIONAL,
};
use crate::format::journal::Totals;
use crate::format::layout::{copy_to, Field};
use crate::format::orphan::{Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::journal::object::{BitmapKey, BitmapObject, BlockObject, GroupObject, InodeObject, OrphanObject};
use crate::journal::words::WordSet;
use crate::units::{round_up, BlockNo, GroupNo, OrphanSlot, BLOCK_BYTES};

/// Bytes of an item with a body of `body_bytes`, header and padding included.
pub const fn item_bytes(body_bytes: usize) -> usize {
    ItemHeader::SIZE.saturating_add(round_up(body_bytes as u64, ITEM_ALIGNMENT) as usize)
}

/// Writes items front to back.
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer that begins at `at`.
    pub fn new(bytes: &'a mut [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next byte goes.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Writes bytes.
    pub fn put_bytes(&mut self, bytes: &[u8]) -> Result {
        let end = self.at.saturating_add(bytes.len());
        copy_to(self.bytes.get_mut(self.at..end).ok_or(Error::ShutDown)?, bytes)?;
        self.at = end;
        Ok(())
    }

    /// Writes a field or structure.
    pub fn put<F: Field>(&mut self, field: &F) -> Result {
        let place = self.bytes.get_mut(self.at..).ok_or(Error::ShutDown)?;
        field.store(place).ok_or(Error::ShutDown)?;
        self.at = self.at.saturating_add(F::BYTES);
        Ok(())
    }

    /// Writes zeros up to the next multiple of `alignment_bytes`, a power of two.
    pub fn pad(&mut self, alignment_bytes: u64) -> Result {
        let end = round_up(self.at as u64, alignment_bytes) as usize;
        self.bytes.get_mut(self.at..end).ok_or(Error::ShutDown)?.fill(0);
        self.at = end;
        Ok(())
    }

    fn item(&mut self, kind: ItemKind, body_bytes: usize) -> Result {
        let flags = match kind {
            ItemKind::Operation | ItemKind::Note => ITEM_OPTIONAL,
            _ => 0,
        };
        self.put(&ItemHeader { kind: kind as u16, flags, body_bytes: body_bytes as u32 })
    }

    fn end_item(&mut self) -> Result {
        self.pad(ITEM_ALIGNMENT)
    }
}

/// The most bytes of a block's item: one run of all words. Leaving a word out of a run saves its eight bytes and adds a range of
/// four at the most, so no other set of words needs more.
pub const BLOCK_BYTES_MAX: usize =
    item_bytes(BlockItem::SIZE.saturating_add(ByteRange::SIZE).saturating_add(BLOCK_BYTES));

fn block_body_bytes(words: &WordSet) -> usize {
    let (runs, bytes) = words.measure();
    BlockItem::SIZE.saturating_add(runs.saturating_mul(ByteRange::SIZE)).saturating_add(bytes)
}

/// Bytes of a block's item.
pub fn block_bytes(object: &BlockObject) -> usize {
    item_bytes(block_body_bytes(&object.logged()))
}

/// Writes a block's item.
pub fn put_block(writer: &mut Writer<'_>, block: BlockNo, object: &BlockObject) -> Result {
    let item = BlockItem {
        block,
        owner: object.owner.0,
        block_kind: object.kind as u16,
        ranges: 0,
        flags: if object.fresh { BLOCK_FRESH } else { 0 },
    };
    put_words(writer, &item, &object.logged(), &object.content)
}

/// Writes a block's item with these words of its content.
fn put_words(writer: &mut Writer<'_>, item: &BlockItem, words: &WordSet, content: &[u8]) -> Result {
    writer.item(ItemKind::Block, block_body_bytes(words))?;
    writer.put(&BlockItem { ranges: words.measure().0 as u16, ..*item })?;
    for (offset, bytes) in words.byte_runs() {
        writer.put(&ByteRange { offset: offset as u16, bytes: bytes as u16 })?;
    }
    for (offset, bytes) in words.byte_runs() {
        let range = offset..offset.saturating_add(bytes);
        writer.put_bytes(content.get(range).ok_or(Error::ShutDown)?)?;
    }
    writer.end_item()
}

/// The most bytes of an inode's item.
pub const INODE_BYTES_MAX: usize = item_bytes(INODE_BODY_BYTES_MAX);

/// Bytes of an inode's item.
pub fn inode_bytes(object: &InodeObject) -> usize {
    item_bytes(object.used_bytes())
}

/// Writes an inode's item.
pub fn put_inode(writer: &mut Writer<'_>, object: &InodeObject) -> Result {
    let used = object.used_bytes();
    writer.item(ItemKind::Inode, used)?;
    writer.put_bytes(object.image.get(..used).ok_or(Error::ShutDown)?)?;
    writer.end_item()
}

fn bitmap_body_bytes(object: &BitmapObject) -> usize {
    let runs = object.masks.as_ref().map_or(0, |masks| masks.count_runs(&object.bits));
    let bytes = if runs > BITMAP_RUNS_MAX { object.bits.len() } else { runs.saturating_mul(4) };
    BitmapItem::SIZE.saturating_add(bytes)
}

/// The most bytes of a bitmap's item.
pub const BITMAP_BYTES_MAX: usize = item_bytes(BITMAP_BODY_BYTES_MAX);

/// Bytes of the item of a fresh bitmap in which nothing has changed.
pub const FRESH_BITMAP_BYTES: usize = item_bytes(BitmapItem::SIZE);

/// Bytes of a bitmap's item as it is written now.
pub fn bitmap_bytes(object: &BitmapObject) -> usize {
    item_bytes(bitmap_body_bytes(object))
}

/// The most bytes that a bitmap's item can have, found without counting its runs.
pub fn bitmap_bytes_bound(object: &BitmapObject) -> usize {
    let runs = object.masks.as_ref().map_or(0, |masks| masks.runs_bound());
    let bytes = runs.saturating_mul(4).min(object.bits.len());
    item_bytes(BitmapItem::SIZE.saturating_add(bytes))
}

/// Writes a bitmap's item.
pub fn put_bitmap(writer: &mut Writer<'_>, key: BitmapKey, object: &BitmapObject) -> Result {
    let runs = object.masks.as_ref().map_or(0, |masks| masks.count_runs(&object.bits));
    let whole = runs > BITMAP_RUNS_MAX;
    writer.item(ItemKind::Bitmap, bitmap_body_bytes(object))?;
    let fresh = if object.fresh { BITMAP_FRESH } else { 0 };
    writer.put(&BitmapItem {
        group: key.group,
        bitmap_kind: match key.kind {
            BitmapKind::Blocks => 0,
            BitmapKind::Inodes => 1,
        },
        flags: if whole { fresh | BITMAP_WHOLE } else { fresh },
        index: key.index as u16,
        runs: if whole { 0 } else { runs as u32 },
        reserved: 0,
    })?;
    if whole {
        writer.put_bytes(&object.bits)?;
    } else if let Some(masks) = &object.masks {
        for run in masks.runs(&object.bits) {
            writer.put(&run.pack())?;
        }
    }
    writer.end_item()
}

/// Bytes of a group's item.
pub const GROUP_BYTES: usize = item_bytes(GroupItem::SIZE);

/// Writes a group's item.
pub fn put_group(writer: &mut Writer<'_>, group: GroupNo, object: &GroupObject) -> Result {
    writer.item(ItemKind::Group, GroupItem::SIZE)?;
    writer.put(&GroupItem { group, table_mark: object.table_mark, reserved: 0 })?;
    writer.end_item()
}

/// Bytes of a new table block's item.
pub const TABLE_ZERO_BYTES: usize = item_bytes(TableZeroItem::SIZE);

/// Writes a new table block's item.
pub fn put_table_zero(writer: &mut Writer<'_>, group: GroupNo, table_block: u32) -> Result {
    writer.item(ItemKind::TableZero, TableZeroItem::SIZE)?;
    writer.put(&TableZeroItem { group, first: table_block, blocks: 1, reserved: 0 })?;
    writer.end_item()
}

/// The slots of an orphan block that hold words of a set, as (slot in the block, content).
pub fn slots<'a>(object: &'a OrphanObject, words: &'a WordSet) -> impl Iterator<Item = (u32, Slot)> + 'a {
    (0..SLOTS_PER_BLOCK).filter_map(move |slot| {
        let offset = SLOTS_OFFSET.saturating_add((slot as usize).saturating_mul(Slot::SIZE));
        let word = offset / crate::journal::words::WORD_BYTES;
        if !words.contains(word) && !words.contains(word.saturating_add(1)) {
            return None;
        }
        Slot::decode(&object.content, offset).ok().map(|content| (slot, content))
    })
}

/// Bytes of one slot's item.
pub const SLOT_BYTES: usize = item_bytes(OrphanItem::SIZE);

/// The most bytes of the item that begins a fresh orphan block: its header, of which every second word may be zero.
const FRESH_SLOTS_BYTES_MAX: usize = item_bytes(
    BlockItem::SIZE.saturating_add(BlockHeader::SIZE).saturating_add(ByteRange::SIZE.saturating_mul(3)),
);

/// The most bytes of the items of an orphan block: all of its slots, for the union may have grown to that, and its beginning.
pub const SLOTS_BYTES_MAX: usize =
    SLOT_BYTES.saturating_mul(SLOTS_PER_BLOCK as usize).saturating_add(FRESH_SLOTS_BYTES_MAX);

const _: () = assert!(SLOTS_OFFSET == BlockHeader::SIZE);

/// The longest item that a record must have room for.
pub const ITEM_BYTES_MAX: usize = BLOCK_BYTES_MAX;

const _: () = assert!(BITMAP_BYTES_MAX <= ITEM_BYTES_MAX && INODE_BYTES_MAX <= ITEM_BYTES_MAX);

/// Bytes of the items of an orphan block: of all slots that hold words of a set, and of its beginning if it is fresh.
pub fn slots_bytes(object: &OrphanObject, words: &WordSet) -> usize {
    let fresh = if object.fresh { fresh_slots_bytes(object) } else { 0 };
    slots(object, words).fold(fresh, |bytes, _| bytes.saturating_add(SLOT_BYTES))
}

/// The words of an orphan block's header that are not zero.
fn header_words(object: &OrphanObject) -> WordSet {
    WordSet::nonzero(object.content.get(..SLOTS_OFFSET).unwrap_or(&[]))
}

/// Bytes of the item that begins a fresh orphan block.
pub fn fresh_slots_bytes(object: &OrphanObject) -> usize {
    item_bytes(block_body_bytes(&header_words(object)))
}

/// Writes the item that begins a fresh orphan block: its header, over zeros. Its slots have items of their own.
pub fn put_fresh_slots(writer: &mut Writer<'_>, block: BlockNo, object: &OrphanObject) -> Result {
    let item = BlockItem {
        block,
        owner: ORPHAN_INDEX.0,
        block_kind: BlockKind::OrphanIndex as u16,
        ranges: 0,
        flags: BLOCK_FRESH,
    };
    put_words(writer, &item, &header_words(object), &object.content)
}

/// Writes the item of one slot, `number` counted over the whole index.
pub fn put_slot(writer: &mut Writer<'_>, number: OrphanSlot, content: Slot) -> Result {
    writer.item(ItemKind::Orphan, OrphanItem::SIZE)?;
    writer.put(&OrphanItem { slot: number, reserved: 0, content })?;
    writer.end_item()
}

/// Bytes of a revoke.
pub const REVOKE_BYTES: usize = item_bytes(RevokeItem::SIZE);

/// Writes a revoke.
pub fn put_revoke(writer: &mut Writer<'_>, start: BlockNo, blocks: u64) -> Result {
    writer.item(ItemKind::Revoke, RevokeItem::SIZE)?;
    writer.put(&RevokeItem { start, blocks })?;
    writer.end_item()
}

/// Bytes of the totals.
pub const TOTALS_BYTES: usize = item_bytes(Totals::SIZE);

/// Writes the totals.
pub fn put_totals(writer: &mut Writer<'_>, totals: &Totals) -> Result {
    writer.item(ItemKind::Totals, Totals::SIZE)?;
    writer.put(totals)?;
    writer.end_item()
}

/// Writes an operation's note; `body` is an `OperationItem`, names, and perhaps a `Who`.
pub fn put_operation(writer: &mut Writer<'_>, body: &[u8]) -> Result {
    writer.item(ItemKind::Operation, body.len())?;
    writer.put_bytes(body)?;
    writer.end_item()
}
