// SPDX-License-Identifier: GPL-2.0

//! Objects as items: how long each is, and its bytes.
//!
//! Two functions for each kind, side by side so that they stay of one mind: one measures, before anything is promised; the
//! other writes. A payload is written front to back into a buffer that was measured first, so running out of it is a
//! mistake of ours and becomes an error that shuts the journal down, never a short record.

use crate::error::{Error, Result};
use crate::format::group::BitmapKind;
use crate::format::item::{
    BitmapItem, BlockItem, ByteRange, GroupItem, ItemHeader, ItemKind, OrphanItem, RevokeItem, TableZeroItem,
    BITMAP_FRESH, BITMAP_RUNS_MAX, BITMAP_WHOLE, BLOCK_FRESH, ITEM_ALIGNMENT, ITEM_OPTIONAL,
};
use crate::format::journal::Totals;
use crate::format::layout::{copy_to, Field};
use crate::format::orphan::{Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::journal::object::{BitmapKey, BitmapObject, BlockObject, GroupObject, InodeObject, OrphanObject};
use crate::journal::words::WordSet;
use crate::units::{round_up, BlockNo, GroupNo, OrphanSlot};

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
    let words = object.logged();
    writer.item(ItemKind::Block, block_body_bytes(&words))?;
    writer.put(&BlockItem {
        block,
        owner: object.owner.0,
        block_kind: object.kind as u16,
        ranges: words.measure().0 as u16,
        flags: if object.fresh { BLOCK_FRESH } else { 0 },
    })?;
    for (offset, bytes) in words.byte_runs() {
        writer.put(&ByteRange { offset: offset as u16, bytes: bytes as u16 })?;
    }
    for (offset, bytes) in words.byte_runs() {
        let range = offset..offset.saturating_add(bytes);
        writer.put_bytes(object.content.get(range).ok_or(Error::ShutDown)?)?;
    }
    writer.end_item()
}

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

/// Bytes of the items of all slots that hold words of a set.
pub fn slots_bytes(object: &OrphanObject, words: &WordSet) -> usize {
    slots(object, words).fold(0, |bytes, _| bytes.saturating_add(SLOT_BYTES))
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
