// SPDX-License-Identifier: GPL-2.0

//! What the log knows of one object: its present content, what of it must be logged, and which record is needed for it.
//!
//! Items are unions (`docs/design.md`): an object remembers everything that has changed since its last home write that is known
//! durable, in two sets. `changed` is what no home write has copied yet; when a home write starts, the set moves to
//! `in_flight`. A commit logs both. When a flush has made the home write durable, the set in flight is dropped; when the write
//! fails, it goes back. So at every moment the newest record of an object and its home, torn or not, give its content.

use crate::error::{Error, Result};
use crate::format::block_header::BlockKind;
use crate::format::group::{BitmapEntry, BitmapKind, BITMAPS_MAX};
use crate::journal::bits::BitMasks;
use crate::journal::transaction::Freed;
use crate::journal::words::WordSet;
use crate::memory::{Buffer, Owned, Shared};
use crate::units::{BlockNo, GroupNo, InodeNo, OrphanSlot, Sequence, TransactionId};

/// Which object. The order of keys is the order of items in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// A new block of an inode table.
    Table(BlockNo),
    /// A group's header.
    Group(GroupNo),
    /// A bitmap block.
    Bitmap(BitmapKey),
    /// A block of the orphan index.
    Orphans(BlockNo),
    /// An inode.
    Inode(InodeNo),
    /// A metadata block that belongs to an inode.
    Block(BlockNo),
}

/// Which bitmap block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitmapKey {
    /// The group.
    pub group: GroupNo,
    /// Of blocks or of inodes.
    pub kind: BitmapKind,
    /// Which of the group's blocks of that kind.
    pub index: u32,
}

/// Where an object stands between running transaction, log and home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The newest transaction with a change of it.
    pub newest: Option<TransactionId>,
    /// The stable transaction whose records are needed for it: it holds the tail.
    pub pinned: Option<TransactionId>,
    /// Whether a home write is under way.
    pub home_in_flight: bool,
    /// What it was pinned by when that began: when it still is, the home write has made that record needless.
    pub home_from: Option<TransactionId>,
}

impl LogState {
    /// Whether the home write may begin: no change that is not stable (I1), and none under way already.
    pub fn may_go_home(&self, stable: TransactionId) -> bool {
        !self.home_in_flight && self.newest.is_none_or(|newest| newest <= stable)
    }

    /// Whether it is among what a home write of its group takes: it is in the log, and may go.
    pub fn goes_home(&self, stable: TransactionId) -> bool {
        self.pinned.is_some() && self.may_go_home(stable)
    }

    /// A home write begins.
    pub fn home_begins(&mut self) {
        self.home_in_flight = true;
        self.home_from = self.pinned;
    }

    /// Whether the log still has something of it that is not stable.
    pub fn is_unstable(&self, stable: TransactionId) -> bool {
        self.newest.is_some_and(|newest| newest > stable)
    }
}

/// A metadata block that belongs to an inode.
pub struct BlockObject {
    /// Log state.
    pub log: LogState,
    /// The present content: replaced, never changed in place, so readers and home writes need no lock on it.
    pub content: Shared<Buffer>,
    /// What it is.
    pub kind: BlockKind,
    /// Whose it is.
    pub owner: InodeNo,
    /// Changed since the last home write began.
    pub changed: WordSet,
    /// Changed before the home write that is under way.
    pub in_flight: WordSet,
    /// Nothing of it has been durably home yet: the log begins from zeros.
    pub fresh: bool,
    /// Freed by this transaction: it never goes home again; its record is needed until the free is stable.
    pub freed_by: Option<TransactionId>,
    /// The free is stable, but a home write is still under way: the block is handed out when that has ended.
    pub release: Option<Freed>,
}

impl BlockObject {
    /// What a commit has to log.
    pub fn logged(&self) -> WordSet {
        self.changed.union(&self.in_flight)
    }
}

/// An inode.
#[derive(Debug)]
pub struct InodeObject {
    /// Log state.
    pub log: LogState,
    /// The 512 bytes, CRC as zero.
    pub image: Buffer,
    /// Changed since the last home write began.
    pub changed: bool,
}

impl InodeObject {
    /// Bytes of the image up to the last one that is not zero: what is logged.
    pub fn used_bytes(&self) -> usize {
        self.image.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1))
    }
}

/// A block of an inode table that has come below the mark: zero, but for the images in the log.
#[derive(Debug, Default)]
pub struct TableObject {
    /// Log state.
    pub log: LogState,
}

/// A bitmap block.
#[derive(Debug)]
pub struct BitmapObject {
    /// Log state.
    pub log: LogState,
    /// The present bits: exactly what closed handles made them.
    pub bits: Buffer,
    /// What must be logged; none: the block at home is as `bits`.
    pub masks: Option<Owned<BitMasks>>,
    /// The bitmap has never been durably home: the log begins from the implied one.
    pub fresh: bool,
    /// A home write of a fresh bitmap is under way.
    pub fresh_in_flight: bool,
}

/// A group's header.
#[derive(Debug)]
pub struct GroupObject {
    /// Log state.
    pub log: LogState,
    /// Inode slots below this are initialised.
    pub table_mark: u32,
    /// The mark that the header at home has, or in a home write that is under way.
    pub home_mark: u32,
    entries: Owned<Entries>,
}

/// What a group's header at home says of its bitmaps; large, so not on the stack.
#[derive(Debug)]
struct Entries {
    blocks: [BitmapEntry; BITMAPS_MAX],
    inodes: [BitmapEntry; BITMAPS_MAX],
}

impl GroupObject {
    /// A header with a mark, whose entries are all zero.
    #[inline(never)] // For the stack: the entries pass over it on their way to the heap.
    pub fn try_new(table_mark: u32) -> Result<Self> {
        const NONE: BitmapEntry = BitmapEntry { crc: 0, free: 0, sequence: Sequence(0) };
        let entries = Owned::try_new(Entries { blocks: [NONE; BITMAPS_MAX], inodes: [NONE; BITMAPS_MAX] })?;
        Ok(Self { log: LogState::default(), table_mark, home_mark: table_mark, entries })
    }

    /// The entry of a bitmap block.
    pub fn entry_mut(&mut self, kind: BitmapKind, index: u32) -> Result<&mut BitmapEntry> {
        let entries = match kind {
            BitmapKind::Blocks => &mut self.entries.blocks,
            BitmapKind::Inodes => &mut self.entries.inodes,
        };
        entries.get_mut(index as usize).ok_or(Error::InvalidArgument)
    }
}

/// A block of the orphan index; always in memory, changed slot by slot when handles close.
#[derive(Debug)]
pub struct OrphanObject {
    /// Log state.
    pub log: LogState,
    /// The number of its first slot.
    pub first_slot: OrphanSlot,
    /// The present content.
    pub content: Buffer,
    /// Words of slots changed since the last home write began.
    pub changed: WordSet,
    /// Words changed before the home write under way.
    pub in_flight: WordSet,
    /// Nothing of it has been durably home yet: the log begins from zeros.
    pub fresh: bool,
}

impl OrphanObject {
    /// What a commit has to log.
    pub fn logged(&self) -> WordSet {
        self.changed.union(&self.in_flight)
    }
}
