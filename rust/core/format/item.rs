// SPDX-License-Identifier: GPL-2.0

//! The items of a record's payload: what the log knows of one object each.
//!
//! An item is a header {type, flags, length of the body} and a body, padded with zero bytes to 8. Items of objects are
//! *unions*: all that changed since the last home write that is known durable, with present values, so that the newest
//! record of an object is all that recovery needs of it.

use crate::format::inode::INODE_BYTES;
use crate::format::layout::layout;
use crate::format::orphan::Slot;
use crate::units::{BlockNo, FileBlock, GroupNo, InodeGeneration, InodeNo, OrphanSlot, BLOCK_BYTES};

layout! {
    /// In front of every item.
    pub struct ItemHeader: 8 {
        /// An [`ItemKind`].
        0 => kind: u16,
        /// [`ITEM_OPTIONAL`] or 0.
        2 => flags: u16,
        /// Bytes of the body, without padding.
        4 => body_bytes: u32,
    }
}

/// Items begin at multiples of this in the payload.
pub const ITEM_ALIGNMENT: u64 = 8;
/// A reader that does not know the item's type may skip it; else it must not replay the journal.
pub const ITEM_OPTIONAL: u16 = 1 << 0;

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum ItemKind {
    /// Physical redo of a metadata block that belongs to an inode: [`BlockItem`].
    Block = 1,
    /// An inode: the used prefix of its 512 bytes, trailing zeros left out.
    Inode = 2,
    /// Bits of a bitmap block: [`BitmapItem`].
    Bitmap = 3,
    /// Blocks that were freed: [`RevokeItem`].
    Revoke = 4,
    /// Contents of a file: [`FileDataItem`].
    FileData = 5,
    /// Checksum of contents that go home beside the record: [`DigestItem`].
    Digest = 6,
    /// A slot of the orphan index: [`OrphanItem`].
    Orphan = 7,
    /// A group's header: [`GroupItem`].
    Group = 8,
    /// Blocks of an inode table that are zero before the images of this and later records: [`TableZeroItem`].
    TableZero = 9,
    /// The filesystem's totals, once in each transaction: `journal::Totals`.
    Totals = 10,
    /// What somebody did: [`OperationItem`], for people.
    Operation = 11,
    /// A user's mark: text.
    Note = 12,
}

impl ItemKind {
    /// The kind with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Block,
            2 => Self::Inode,
            3 => Self::Bitmap,
            4 => Self::Revoke,
            5 => Self::FileData,
            6 => Self::Digest,
            7 => Self::Orphan,
            8 => Self::Group,
            9 => Self::TableZero,
            10 => Self::Totals,
            11 => Self::Operation,
            12 => Self::Note,
            _ => return None,
        })
    }

    /// The name in the journal tool's output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Inode => "inode",
            Self::Bitmap => "bitmap",
            Self::Revoke => "revoke",
            Self::FileData => "file-data",
            Self::Digest => "digest",
            Self::Orphan => "orphan",
            Self::Group => "group",
            Self::TableZero => "table-zero",
            Self::Totals => "totals",
            Self::Operation => "operation",
            Self::Note => "note",
        }
    }
}

layout! {
    /// Physical redo; the ranges follow, then their bytes, in ascending order and without overlap.
    pub struct BlockItem: 24 {
        /// The block.
        0 => block: BlockNo,
        /// Its owner, for the stamp.
        8 => owner: u64,
        /// A `BlockKind` that belongs to an inode.
        16 => block_kind: u16,
        /// Ranges.
        18 => ranges: u16,
        /// [`BLOCK_FRESH`] or 0.
        20 => flags: u32,
    }
}

/// The block is new: it is zero before the ranges are applied, whatever stands at home.
pub const BLOCK_FRESH: u32 = 1 << 0;

layout! {
    /// A range of bytes in a block.
    pub struct ByteRange: 4 {
        /// Where it begins.
        0 => offset: u16,
        /// How long it is.
        2 => bytes: u16,
    }
}

layout! {
    /// Bits of a bitmap block; runs ([`bit_run`]) follow, or, with [`BITMAP_WHOLE`], all of its bytes.
    pub struct BitmapItem: 16 {
        /// The group.
        0 => group: GroupNo,
        /// A `group::BitmapKind`.
        4 => bitmap_kind: u8,
        /// `BITMAP_*` bits.
        5 => flags: u8,
        /// Which of the group's bitmap blocks of that kind.
        6 => index: u16,
        /// Runs that follow.
        8 => runs: u32,
        /// Must be zero.
        12 => reserved: u32,
    }
}

/// The bitmap block is new: it is as an uninitialised group implies it before the runs are applied.
pub const BITMAP_FRESH: u8 = 1 << 0;
/// All bytes of the block follow in place of runs.
pub const BITMAP_WHOLE: u8 = 1 << 1;
/// All bits of a bitmap item's flags.
pub const BITMAP_FLAGS_ALL: u8 = BITMAP_FRESH | BITMAP_WHOLE;
/// With more runs than this, all bytes of the block are shorter.
pub const BITMAP_RUNS_MAX: usize = BLOCK_BYTES / 4 - 1;

/// A run of bits, as four bytes: the first bit (15 bits), how many less one (15 bits), what they are now (bit 30), what they
/// were before this transaction (bit 31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitRun {
    /// The first bit of the block.
    pub start: u32,
    /// How many, at least one.
    pub bits: u32,
    /// What they are.
    pub value: bool,
    /// What they were.
    pub before: bool,
}

impl BitRun {
    /// The four bytes.
    pub const fn pack(&self) -> u32 {
        (self.start & 0x7FFF)
            | ((self.bits.saturating_sub(1) & 0x7FFF) << 15)
            | ((self.value as u32) << 30)
            | ((self.before as u32) << 31)
    }

    /// The run that four bytes stand for; the caller checks that it stays in the block.
    pub const fn unpack(packed: u32) -> Self {
        Self {
            start: packed & 0x7FFF,
            bits: ((packed >> 15) & 0x7FFF).saturating_add(1),
            value: packed & (1 << 30) != 0,
            before: packed & (1 << 31) != 0,
        }
    }
}

layout! {
    /// Freed blocks: items of earlier transactions for them are void.
    pub struct RevokeItem: 16 {
        /// The first block.
        0 => start: BlockNo,
        /// How many.
        8 => blocks: u64,
    }
}

layout! {
    /// Contents of a file; the bytes follow. Replay writes them to `block` and fills that block up with zeros.
    pub struct FileDataItem: 32 {
        /// The file.
        0 => inode: InodeNo,
        /// The inode's generation.
        8 => generation: InodeGeneration,
        /// Bytes that follow: at most a block.
        12 => bytes: u32,
        /// Which block of the file.
        16 => file_block: FileBlock,
        /// Which block of the device.
        24 => block: BlockNo,
    }
}

layout! {
    /// Checksum of contents that are written home while the record is.
    pub struct DigestItem: 40 {
        /// The file.
        0 => inode: InodeNo,
        /// The inode's generation.
        8 => generation: InodeGeneration,
        /// How many blocks.
        12 => blocks: u32,
        /// The first block of the file.
        16 => file_block: FileBlock,
        /// The first block of the device.
        24 => block: BlockNo,
        /// CRC-32C over the blocks.
        32 => crc: u32,
        /// Must be zero.
        36 => reserved: u32,
    }
}

layout! {
    /// A slot of the orphan index as it is now.
    pub struct OrphanItem: 24 {
        /// Which slot.
        0 => slot: OrphanSlot,
        /// Must be zero.
        4 => reserved: u32,
        /// Its content; all zero: empty.
        8 => content: Slot,
    }
}

layout! {
    /// A group's header, as far as it is not derived from the bitmaps. Stands in every transaction with one of the
    /// group's bitmaps, so that replay needs nothing of the header at home.
    pub struct GroupItem: 16 {
        /// The group.
        0 => group: GroupNo,
        /// Inode slots below this are initialised.
        4 => table_mark: u32,
        /// Must be zero.
        8 => reserved: u64,
    }
}

layout! {
    /// Blocks of an inode table that have just come below the mark.
    pub struct TableZeroItem: 16 {
        /// The group.
        0 => group: GroupNo,
        /// The first of the blocks, counted from the table's start.
        4 => first: u32,
        /// How many.
        8 => blocks: u32,
        /// Must be zero.
        12 => reserved: u32,
    }
}

layout! {
    /// What was done; the names follow one behind the other, then, with [`OPERATION_WHO`], a [`Who`].
    pub struct OperationItem: 32 {
        /// An [`Operation`].
        0 => operation: u16,
        /// [`OPERATION_WHO`] or 0.
        2 => flags: u16,
        /// Bytes of the first name.
        4 => name_bytes: u16,
        /// Bytes of the second name.
        6 => other_name_bytes: u16,
        /// The inode that it was done to.
        8 => inode: InodeNo,
        /// The directory.
        16 => parent: InodeNo,
        /// The other directory of a rename, or the replaced inode; else 0.
        24 => other: InodeNo,
    }
}

/// A [`Who`] follows the names.
pub const OPERATION_WHO: u16 = 1 << 0;

layout! {
    /// Who did it.
    pub struct Who: 40 {
        /// User.
        0 => uid: u32,
        /// Process.
        4 => pid: u32,
        /// A label, padded with zero bytes.
        8 => label: [u8; 32],
    }
}

/// What an [`OperationItem`] says was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Operation {
    /// A file, device, pipe or socket was made.
    Create = 1,
    /// A directory was made.
    MakeDirectory = 2,
    /// A name was added.
    Link = 3,
    /// A symbolic link was made.
    Symlink = 4,
    /// A name was removed.
    Unlink = 5,
    /// A directory was removed.
    RemoveDirectory = 6,
    /// A name was moved.
    Rename = 7,
    /// Written blocks were mapped.
    Write = 8,
    /// Attributes were changed.
    SetAttributes = 9,
    /// An extended attribute was set or removed.
    SetExtended = 10,
    /// A file was shortened or lengthened.
    Truncate = 11,
    /// The filesystem was mounted.
    Mount = 12,
    /// The filesystem was unmounted.
    Unmount = 13,
    /// An orphan was removed.
    RemoveOrphan = 14,
}

impl Operation {
    /// The operation with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Create,
            2 => Self::MakeDirectory,
            3 => Self::Link,
            4 => Self::Symlink,
            5 => Self::Unlink,
            6 => Self::RemoveDirectory,
            7 => Self::Rename,
            8 => Self::Write,
            9 => Self::SetAttributes,
            10 => Self::SetExtended,
            11 => Self::Truncate,
            12 => Self::Mount,
            13 => Self::Unmount,
            14 => Self::RemoveOrphan,
            _ => return None,
        })
    }

    /// The name in the journal tool's output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::MakeDirectory => "mkdir",
            Self::Link => "link",
            Self::Symlink => "symlink",
            Self::Unlink => "unlink",
            Self::RemoveDirectory => "rmdir",
            Self::Rename => "rename",
            Self::Write => "write",
            Self::SetAttributes => "setattr",
            Self::SetExtended => "xattr",
            Self::Truncate => "truncate",
            Self::Mount => "mount",
            Self::Unmount => "unmount",
            Self::RemoveOrphan => "remove-orphan",
        }
    }
}

/// An inode's longest body: what reservations count.
pub const INODE_BODY_BYTES_MAX: usize = INODE_BYTES;
/// A bitmap's longest body.
pub const BITMAP_BODY_BYTES_MAX: usize = BitmapItem::SIZE + BLOCK_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_runs_survive_packing_at_their_bounds() {
        for run in [
            BitRun { start: 0, bits: 32768, value: true, before: false },
            BitRun { start: 32767, bits: 1, value: false, before: true },
            BitRun { start: 77, bits: 9, value: true, before: true },
        ] {
            assert_eq!(BitRun::unpack(run.pack()), run);
        }
    }
}
