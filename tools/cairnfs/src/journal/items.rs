// SPDX-License-Identifier: GPL-2.0

//! Items of records as plain values, whose names are those of the JSON.

use super::gather::TotalsInfo;
use cairnfs_core::error::Result;
use cairnfs_core::format::group::{BitmapKind, Geometry};
use cairnfs_core::format::inode::InodeCore;
use cairnfs_core::format::item::{
    BitmapItem, Operation, OperationItem, OrphanItem, Who, BITMAP_FRESH, BITMAP_WHOLE, BLOCK_FRESH,
    OPERATION_WHO,
};
use cairnfs_core::format::journal::Totals;
use cairnfs_core::format::orphan::{Cause, OrphanKind};
use cairnfs_core::journal::replay::examine::ListedItem;
use cairnfs_core::journal::replay::items::{runs, Item};
use serde::Serialize;

/// An item.
#[derive(Debug, Serialize)]
pub(super) struct ItemInfo {
    /// Bytes of the body, without padding.
    pub(super) body_bytes: u32,
    #[serde(flatten)]
    pub(super) content: ItemContent,
}

/// What it is about.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ItemContent {
    Block {
        block: u64,
        block_kind: &'static str,
        owner: u64,
        /// The block is zero before the ranges are applied.
        fresh: bool,
        ranges: Vec<RangeInfo>,
    },
    Inode {
        inode: u64,
        generation: u32,
        mode: u16,
        uid: u32,
        gid: u32,
        links: u32,
        size_bytes: u64,
        blocks: u64,
        image_bytes: usize,
    },
    Bitmap {
        group: u32,
        /// Of "blocks" or of "inodes".
        of: &'static str,
        index: u16,
        /// It is as an unused group's before the runs are applied.
        fresh: bool,
        /// All of its bits are there in place of runs.
        whole: bool,
        runs: Vec<RunInfo>,
    },
    Revoke {
        block: u64,
        blocks: u64,
    },
    Orphan {
        slot: u32,
        /// None: the slot is empty.
        inode: Option<u64>,
        kind: Option<&'static str>,
        cause: Option<&'static str>,
    },
    Group {
        group: u32,
        table_mark: u32,
    },
    TableZero {
        group: u32,
        first: u32,
        blocks: u32,
        /// The first of them on the device.
        block: u64,
    },
    Totals(TotalsInfo),
    Operation {
        operation: &'static str,
        inode: u64,
        /// The directory; 0: none.
        parent: u64,
        /// The other directory, or the replaced inode; 0: none.
        other: u64,
        name: String,
        other_name: String,
        who: Option<WhoInfo>,
    },
    Note {
        text: String,
    },
    /// Of a kind that this program does not know, and may skip.
    Unknown {
        kind: u16,
    },
}

/// Bytes of a block.
#[derive(Debug, Serialize)]
pub(super) struct RangeInfo {
    pub(super) offset: usize,
    pub(super) bytes: usize,
}

/// Bits of a bitmap.
#[derive(Debug, Serialize)]
pub(super) struct RunInfo {
    pub(super) start: u32,
    pub(super) bits: u32,
    /// Whether they are in use.
    pub(super) used: bool,
    pub(super) used_before: bool,
}

/// Who did it.
#[derive(Debug, Serialize)]
pub(super) struct WhoInfo {
    pub(super) uid: u32,
    pub(super) pid: u32,
    pub(super) label: String,
}

impl From<&Totals> for TotalsInfo {
    fn from(totals: &Totals) -> Self {
        Self {
            free_blocks: totals.free_blocks,
            free_inodes: totals.free_inodes,
            initialised_groups: totals.initialised_groups,
            orphans: totals.orphans,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An item that replay has checked.
pub(super) fn info(geometry: &Geometry, listed: ListedItem<'_>) -> Result<ItemInfo> {
    let ListedItem { header, item } = listed;
    let content = match item {
        Item::Block { item, kind, ranges } => ItemContent::Block {
            block: item.block.0,
            block_kind: kind.name(),
            owner: item.owner,
            fresh: item.flags & BLOCK_FRESH != 0,
            ranges: ranges.map(|(offset, bytes)| RangeInfo { offset, bytes: bytes.len() }).collect(),
        },
        Item::Inode { image, .. } => inode(image)?,
        Item::Bitmap { item, key, body } => bitmap(&item, key.kind, body),
        Item::Revoke(item) => ItemContent::Revoke { block: item.start.0, blocks: item.blocks },
        Item::Orphan(item) => orphan(&item),
        Item::Group(item) => ItemContent::Group { group: item.group.0, table_mark: item.table_mark },
        Item::TableZero(item) => ItemContent::TableZero {
            group: item.group.0,
            first: item.first,
            blocks: item.blocks,
            block: geometry.table_of(item.group).0 + u64::from(item.first),
        },
        Item::Totals(totals) => ItemContent::Totals(TotalsInfo::from(&totals)),
        Item::Operation { item, rest } => operation(&item, rest),
        Item::Note(bytes) => ItemContent::Note { text: text(bytes) },
        Item::Skipped => ItemContent::Unknown { kind: header.kind },
    };
    Ok(ItemInfo { body_bytes: header.body_bytes, content })
}

/// What `ls -l` would show of an inode.
fn inode(image: &[u8]) -> Result<ItemContent> {
    // Trailing zeros are left out in the log, also within the fixed fields.
    let mut fixed = [0; InodeCore::SIZE];
    let length = image.len().min(fixed.len());
    fixed[..length].copy_from_slice(&image[..length]);
    let core = InodeCore::decode(&fixed, 0)?;
    Ok(ItemContent::Inode {
        inode: core.number.0,
        generation: core.generation.0,
        mode: core.mode,
        uid: core.uid,
        gid: core.gid,
        links: core.links,
        size_bytes: core.size_bytes,
        blocks: core.blocks,
        image_bytes: image.len(),
    })
}

fn bitmap(item: &BitmapItem, kind: BitmapKind, body: &[u8]) -> ItemContent {
    let whole = item.flags & BITMAP_WHOLE != 0;
    ItemContent::Bitmap {
        group: item.group.0,
        of: match kind {
            BitmapKind::Blocks => "blocks",
            BitmapKind::Inodes => "inodes",
        },
        index: item.index,
        fresh: item.flags & BITMAP_FRESH != 0,
        whole,
        runs: runs(if whole { &[] } else { body })
            .map(|run| RunInfo { start: run.start, bits: run.bits, used: run.value, used_before: run.before })
            .collect(),
    }
}

fn orphan(item: &OrphanItem) -> ItemContent {
    let slot = &item.content;
    ItemContent::Orphan {
        slot: item.slot.0,
        inode: (slot.inode.0 != 0).then_some(slot.inode.0),
        kind: OrphanKind::from_number(slot.kind).map(|kind| match kind {
            OrphanKind::Inode => "inode",
            OrphanKind::Truncate => "truncate",
        }),
        cause: Cause::from_number(slot.cause).map(|cause| match cause {
            Cause::Unlink => "unlink",
            Cause::Replace => "replace",
            Cause::Temporary => "temporary",
            Cause::Truncate => "truncate",
            Cause::Check => "check",
        }),
    }
}

/// Replay passes over these, so nothing of them has been checked: what does not fit is not there.
fn operation(item: &OperationItem, rest: &[u8]) -> ItemContent {
    let first_end = usize::from(item.name_bytes);
    let second_end = first_end + usize::from(item.other_name_bytes);
    let who = Who::decode(rest, second_end).ok().filter(|_| item.flags & OPERATION_WHO != 0);
    ItemContent::Operation {
        operation: Operation::from_number(item.operation).map_or("unknown", Operation::name),
        inode: item.inode.0,
        parent: item.parent.0,
        other: item.other.0,
        name: text(rest.get(..first_end).unwrap_or_default()),
        other_name: text(rest.get(first_end..second_end).unwrap_or_default()),
        who: who.map(|who| WhoInfo {
            uid: who.uid,
            pid: who.pid,
            label: text(&who.label).trim_end_matches('\0').to_owned(),
        }),
    }
}
