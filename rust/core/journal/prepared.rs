// SPDX-License-Identifier: GPL-2.0

//! A handle that is ready to close: all that its changes need, memory included.
//!
//! Everything that can fail or wait has been done when one of these exists: blocks are compared, inodes encoded, nodes of
//! every map reserved. What remains happens under the journal mutex, and cannot fail for want of memory.

use crate::error::Result;
use crate::format::block_header::BlockKind;
use crate::format::orphan::Slot;
use crate::journal::bits::BitMasks;
use crate::journal::flush::FlushMark;
use crate::journal::object::{BitmapKey, BlockObject, InodeObject, ObjectKey, OrphanObject, TableObject};
use crate::journal::transaction::Freed;
use crate::journal::words::WordSet;
use crate::memory::{self, Buffer, List, OrderedMap, Owned, Shared};
use crate::units::{BlockNo, GroupNo, InodeNo, OrphanSlot};

/// Memory for a place in the running transaction.
pub type Member = memory::Reservation<ObjectKey, u64>;

/// A changed or new metadata block.
pub struct PreparedBlock {
    /// Its new content.
    pub content: Shared<Buffer>,
    /// What it is.
    pub kind: BlockKind,
    /// Whose it is.
    pub owner: InodeNo,
    /// The words in which it differs from what it was.
    pub changed: WordSet,
    /// Whether the handle allocated it.
    pub fresh: bool,
    /// Memory for the object.
    pub node: memory::Reservation<BlockNo, BlockObject>,
    /// Memory for its place in the transaction.
    pub member: Member,
}

/// A new block of the orphan index.
pub struct PreparedOrphanBlock {
    /// Its content: a header, and slots that are all empty.
    pub content: Buffer,
    /// Memory for the object.
    pub node: memory::Reservation<BlockNo, OrphanObject>,
    /// Memory for its place in the transaction.
    pub member: Member,
}

/// A changed inode.
pub struct PreparedInode {
    /// The 512 bytes.
    pub image: Buffer,
    /// Memory for the object.
    pub node: memory::Reservation<InodeNo, InodeObject>,
    /// Memory for its place in the transaction.
    pub member: Member,
}

/// A bitmap block in which bits change.
pub struct PreparedBitmap {
    /// Whether the handle changes bits of it; else it is there because it makes its group known to the log.
    pub changes: bool,
    /// Masks, in case the bitmap has none when the handle closes.
    pub masks: Option<Owned<BitMasks>>,
    /// Memory for its place in the transaction.
    pub member: Member,
}

/// A block of an inode table that comes below the mark.
pub struct PreparedTable {
    /// Memory for the object.
    pub node: memory::Reservation<BlockNo, TableObject>,
    /// Memory for its place in the transaction.
    pub member: Member,
}

/// A run of freed blocks, by its first.
pub struct PreparedFree {
    /// What the transaction keeps until it is stable.
    pub freed: Freed,
    /// Memory for that.
    pub node: memory::Reservation<BlockNo, Freed>,
}

/// What was done, for the journal's readers.
pub struct PreparedNote {
    /// An operation's body.
    pub body: Buffer,
    /// Memory for its place in the transaction.
    pub node: memory::Reservation<u64, Buffer>,
}

/// Bits that change their value, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitChange {
    /// In which bitmap block.
    pub key: BitmapKey,
    /// The first bit.
    pub start: u32,
    /// How many.
    pub bits: u32,
    /// What they become.
    pub value: bool,
}

/// The least mark of an inode table that a handle's inodes need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkNeeded {
    /// The group.
    pub group: GroupNo,
    /// The mark, a multiple of the inodes in a block.
    pub mark: u32,
}

/// A slot of the orphan index and what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotChange {
    /// The slot.
    pub slot: OrphanSlot,
    /// The block of the index that holds it.
    pub block: BlockNo,
    /// Its content.
    pub content: Slot,
}

/// The handle.
pub struct Prepared {
    /// Changed and new blocks.
    pub blocks: OrderedMap<BlockNo, PreparedBlock>,
    /// New blocks of the orphan index.
    pub orphan_blocks: OrderedMap<BlockNo, PreparedOrphanBlock>,
    /// Changed inodes.
    pub inodes: OrderedMap<InodeNo, PreparedInode>,
    /// Changed bits.
    pub bits: List<BitChange>,
    /// The bitmap blocks of those, and all bitmap blocks of groups that the log does not know yet.
    pub bitmaps: OrderedMap<BitmapKey, PreparedBitmap>,
    /// The groups of those.
    pub groups: OrderedMap<GroupNo, Member>,
    /// How far inode tables must be initialised.
    pub marks: List<MarkNeeded>,
    /// The table blocks that this may bring below the mark.
    pub tables: OrderedMap<BlockNo, PreparedTable>,
    /// Changed slots of the orphan index.
    pub slots: List<SlotChange>,
    /// Memory for the places of their blocks in the transaction.
    pub slot_members: OrderedMap<BlockNo, Member>,
    /// Freed metadata blocks, with memory for the revoke of each.
    pub revokes: OrderedMap<BlockNo, memory::Reservation<BlockNo, ()>>,
    /// All freed runs.
    pub freed: OrderedMap<BlockNo, PreparedFree>,
    /// What was done.
    pub note: Option<PreparedNote>,
    /// The mark of file contents that its mappings need.
    pub data_mark: Option<FlushMark>,
}

impl Prepared {
    /// A handle that has changed nothing. It is large, so it lives on the heap.
    #[inline(never)] // For the stack: it passes over it on its way there.
    pub fn try_new() -> Result<Owned<Self>> {
        Ok(Owned::try_new(Self {
            blocks: OrderedMap::new(),
            orphan_blocks: OrderedMap::new(),
            inodes: OrderedMap::new(),
            bits: List::new(),
            bitmaps: OrderedMap::new(),
            groups: OrderedMap::new(),
            marks: List::new(),
            tables: OrderedMap::new(),
            slots: List::new(),
            slot_members: OrderedMap::new(),
            revokes: OrderedMap::new(),
            freed: OrderedMap::new(),
            note: None,
            data_mark: None,
        })?)
    }
}
