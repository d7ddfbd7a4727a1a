// SPDX-License-Identifier: GPL-2.0

//! Allocation groups: where their parts stand, and the header that vouches for the bitmaps.
//!
//! A group begins with a block for a copy of the superblock (used in few groups, reserved in all, so that every group
//! looks alike), then its header, the block bitmap (one block for each 32768 blocks), the inode bitmap (one block for
//! each 32768 inodes), the inode table, and data. Groups [0, initialised) have a header and bitmaps on the device;
//! the others are implied: all of their own metadata used, all else free.
//!
//! A bitmap block is all bits, so its CRC, free count and sequence stand in the header: bitmap and header reach home as
//! two writes and may disagree after a crash, until replay has applied the live items and recomputed the entry.

use crate::error::{corrupt, Check, Error, Result};
use crate::format::block_header::BlockHeader;
use crate::format::inode;
use crate::format::journal::{JOURNAL_BLOCKS_MAX, JOURNAL_BLOCKS_MIN};
use crate::format::layout::layout;
use crate::format::superblock::Superblock;
use crate::units::{BlockNo, GroupNo, InodeNo, Sequence, BLOCK_BYTES};

/// Bits in a bitmap block.
pub const BITMAP_BITS: u32 = (BLOCK_BYTES * 8) as u32;
/// Bitmap blocks of one sort that a group can have.
pub const BITMAPS_MAX: usize = 8;
/// Inodes in a block of the inode table.
pub const INODES_PER_BLOCK: u32 = (BLOCK_BYTES / inode::INODE_BYTES) as u32;
/// Blocks before a group's first bitmap: the superblock's copy and the header.
pub const BITMAP_OFFSET: u32 = 2;
/// The last group is left out when it has fewer blocks for data than this.
pub const DATA_BLOCKS_MIN: u32 = 64;
/// The largest number of blocks of a group: 1 GiB.
pub const GROUP_BLOCKS_MAX: u32 = BITMAP_BITS * BITMAPS_MAX as u32;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(inode::INODE_BYTES));

layout! {
    /// What a group's header says of one bitmap block.
    pub struct BitmapEntry: 16 {
        /// CRC-32C of the bitmap block as it is at home.
        0 => crc: u32,
        /// Clear bits in it that stand for something.
        4 => free: u32,
        /// The journal record up to which the block at home is current.
        8 => sequence: Sequence,
    }
}

layout! {
    /// A group's header, behind its [`BlockHeader`]; the entries of the block bitmaps follow, then those of the inode
    /// bitmaps, [`BITMAPS_MAX`] each, unused ones zero.
    pub struct GroupHeader: 32 {
        /// The group's number.
        0 => group: GroupNo,
        /// Must be zero.
        4 => flags: u32,
        /// Blocks in the group.
        8 => blocks: u32,
        /// Inode slots below this are initialised; those above read as zero. A multiple of 8.
        12 => table_mark: u32,
        /// Must be zero.
        16 => reserved: [u8; 16],
    }
}

/// Where the header's own fields begin.
pub const HEADER_OFFSET: usize = BlockHeader::SIZE;
/// Where the entries of the block bitmaps begin.
pub const BLOCK_ENTRIES_OFFSET: usize = HEADER_OFFSET + GroupHeader::SIZE;
/// Where the entries of the inode bitmaps begin.
pub const INODE_ENTRIES_OFFSET: usize = BLOCK_ENTRIES_OFFSET + BITMAPS_MAX * BitmapEntry::SIZE;
/// The first unused byte of a group header block; all from here on are zero.
pub const HEADER_END: usize = INODE_ENTRIES_OFFSET + BITMAPS_MAX * BitmapEntry::SIZE;

const _: () = assert!(HEADER_END <= BLOCK_BYTES);

/// Which of a group's two bitmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BitmapKind {
    /// Of blocks: bit n stands for the group's block n.
    Blocks = 0,
    /// Of inodes: bit n stands for the group's inode n.
    Inodes = 1,
}

impl BitmapKind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Blocks),
            1 => Some(Self::Inodes),
            _ => None,
        }
    }

    /// Where the entry of bitmap block `index` stands in the group's header block; the index must be below
    /// [`BITMAPS_MAX`].
    pub const fn entry_offset(self, index: u32) -> usize {
        let base = match self {
            Self::Blocks => BLOCK_ENTRIES_OFFSET,
            Self::Inodes => INODE_ENTRIES_OFFSET,
        };
        base.saturating_add((index as usize).saturating_mul(BitmapEntry::SIZE))
    }
}

/// Where everything is: computed once from a superblock whose numbers were checked, so that later arithmetic
/// on numbers within its bounds cannot overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// In every block header.
    pub filesystem_id: u64,
    /// Blocks of the device in use.
    pub device_blocks: u64,
    /// The first block of group 0.
    pub first_group_block: BlockNo,
    /// Blocks in each group but the last.
    pub group_blocks: u32,
    /// Groups.
    pub group_count: u32,
    /// Inodes in each group.
    pub inodes_per_group: u32,
    /// The journal's header pair begins here.
    pub journal_start: BlockNo,
    /// Blocks of the journal, header pair included.
    pub journal_blocks: u64,
    /// Records are padded to this.
    pub physical_block_bytes: u32,
}

/// Where an inode stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodePlace {
    /// Its group.
    pub group: GroupNo,
    /// Its number within the group.
    pub index: u32,
    /// The block of the inode table.
    pub block: BlockNo,
    /// Its byte offset in that block.
    pub offset: usize,
}

impl Geometry {
    /// Checks the superblock's numbers against each other and against the device's size.
    pub fn new(superblock: &Superblock, available_blocks: u64) -> Result<Self> {
        let geometry = Self {
            filesystem_id: superblock.filesystem_id,
            device_blocks: superblock.device_blocks,
            first_group_block: superblock.first_group_block,
            group_blocks: superblock.group_blocks,
            group_count: superblock.group_count,
            inodes_per_group: superblock.inodes_per_group,
            journal_start: superblock.journal_start,
            journal_blocks: superblock.journal_blocks,
            physical_block_bytes: superblock.physical_block_bytes,
        };
        geometry.check(superblock, available_blocks)?;
        Ok(geometry)
    }

    fn check(&self, superblock: &Superblock, available_blocks: u64) -> Result {
        let at = crate::format::superblock::PRIMARY;
        let wrong = |expected: u64, found: u64| corrupt(Check::Geometry, at, expected, found);
        if self.device_blocks > available_blocks {
            return corrupt(Check::DeviceSize, at, available_blocks, self.device_blocks);
        }
        if self.device_blocks > u64::MAX >> 13 {
            return wrong(u64::MAX >> 13, self.device_blocks);
        }
        let bitmaps = self.group_blocks / BITMAP_BITS;
        if !self.group_blocks.is_multiple_of(BITMAP_BITS) || !matches!(bitmaps, 1 | 2 | 4 | 8) {
            return wrong(u64::from(BITMAP_BITS), u64::from(self.group_blocks));
        }
        let inodes_max = BITMAP_BITS.saturating_mul(BITMAPS_MAX as u32);
        if self.inodes_per_group < 16
            || !self.inodes_per_group.is_multiple_of(INODES_PER_BLOCK)
            || self.inodes_per_group > inodes_max
        {
            return wrong(u64::from(inodes_max), u64::from(self.inodes_per_group));
        }
        if !matches!(self.physical_block_bytes, 512 | 1024 | 2048 | 4096) {
            return wrong(4096, u64::from(self.physical_block_bytes));
        }
        if !(JOURNAL_BLOCKS_MIN..=JOURNAL_BLOCKS_MAX).contains(&self.journal_blocks) {
            return wrong(JOURNAL_BLOCKS_MIN, self.journal_blocks);
        }
        let journal_end = self.journal_start.0.saturating_add(self.journal_blocks);
        if self.journal_start.0 < 2 || journal_end > self.first_group_block.0 {
            return wrong(self.first_group_block.0, journal_end);
        }
        let in_groups = self.device_blocks.saturating_sub(self.first_group_block.0);
        let full = u64::from(self.group_count.saturating_sub(1)).saturating_mul(u64::from(self.group_blocks));
        let last = in_groups.saturating_sub(full);
        let last_min = u64::from(self.metadata_blocks().saturating_add(DATA_BLOCKS_MIN));
        if self.group_count == 0 || in_groups < full || last < last_min || last > u64::from(self.group_blocks)
        {
            return wrong(u64::from(self.group_count), in_groups);
        }
        if superblock.root_inode != inode::ROOT || superblock.orphan_inode != inode::ORPHAN_INDEX {
            return wrong(inode::ROOT.0, superblock.root_inode.0);
        }
        if superblock.initialised_groups == 0 || superblock.initialised_groups > self.group_count {
            return wrong(u64::from(self.group_count), u64::from(superblock.initialised_groups));
        }
        Ok(())
    }

    /// Blocks of the block bitmap in each group; the last, shorter group has as many.
    pub const fn block_bitmaps(&self) -> u32 {
        self.group_blocks / BITMAP_BITS
    }

    /// Blocks of the inode bitmap in each group.
    pub const fn inode_bitmaps(&self) -> u32 {
        self.inodes_per_group.div_ceil(BITMAP_BITS)
    }

    /// Blocks of the inode table in each group.
    pub const fn table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    /// Blocks of a group's own metadata: everything before its first data block.
    pub const fn metadata_blocks(&self) -> u32 {
        BITMAP_OFFSET
            .saturating_add(self.block_bitmaps())
            .saturating_add(self.inode_bitmaps())
            .saturating_add(self.table_blocks())
    }

    /// Blocks of `group`.
    pub const fn blocks_of(&self, group: GroupNo) -> u32 {
        if group.0.saturating_add(1) < self.group_count {
            self.group_blocks
        } else {
            let start = self.start_of(group).0;
            let left = self.device_blocks.saturating_sub(start);
            if left > self.group_blocks as u64 {
                self.group_blocks
            } else {
                left as u32
            }
        }
    }

    /// The first block of `group`, where a copy of the superblock may stand.
    pub const fn start_of(&self, group: GroupNo) -> BlockNo {
        let offset = (group.0 as u64).saturating_mul(self.group_blocks as u64);
        BlockNo(self.first_group_block.0.saturating_add(offset))
    }

    /// The block of `group`'s header.
    pub const fn header_of(&self, group: GroupNo) -> BlockNo {
        BlockNo(self.start_of(group).0.saturating_add(1))
    }

    /// Bitmap block `index` of `kind` in `group`.
    pub const fn bitmap_of(&self, group: GroupNo, kind: BitmapKind, index: u32) -> BlockNo {
        let before = match kind {
            BitmapKind::Blocks => 0,
            BitmapKind::Inodes => self.block_bitmaps(),
        };
        let offset = BITMAP_OFFSET.saturating_add(before).saturating_add(index);
        BlockNo(self.start_of(group).0.saturating_add(offset as u64))
    }

    /// The first block of `group`'s inode table.
    pub const fn table_of(&self, group: GroupNo) -> BlockNo {
        self.bitmap_of(group, BitmapKind::Inodes, self.inode_bitmaps())
    }

    /// Bits of bitmap block `index` of `kind` that stand for something in `group`; the rest of the block is set.
    pub const fn bits_of(&self, group: GroupNo, kind: BitmapKind, index: u32) -> u32 {
        let all = match kind {
            BitmapKind::Blocks => self.blocks_of(group),
            BitmapKind::Inodes => self.inodes_per_group,
        };
        let before = index.saturating_mul(BITMAP_BITS);
        let left = all.saturating_sub(before);
        if left > BITMAP_BITS {
            BITMAP_BITS
        } else {
            left
        }
    }

    /// The group of `block` and the block's number in it; `None` outside of all groups.
    pub fn locate_block(&self, block: BlockNo) -> Option<(GroupNo, u32)> {
        if block.0 >= self.device_blocks {
            return None;
        }
        let offset = block.0.checked_sub(self.first_group_block.0)?;
        let blocks = u64::from(self.group_blocks);
        let group = u32::try_from(offset.checked_div(blocks)?).ok()?;
        let index = u32::try_from(offset.checked_rem(blocks)?).ok()?;
        (group < self.group_count).then_some((GroupNo(group), index))
    }

    /// Whether `run` lies in one group's data area: the only place where an extent or a tree block may be.
    pub fn is_data_run(&self, start: BlockNo, blocks: u64) -> bool {
        let Some((group, index)) = self.locate_block(start) else {
            return false;
        };
        let end = u64::from(index).saturating_add(blocks);
        blocks > 0 && index >= self.metadata_blocks() && end <= u64::from(self.blocks_of(group))
    }

    /// The number of all inodes.
    pub const fn inode_count(&self) -> u64 {
        (self.group_count as u64).saturating_mul(self.inodes_per_group as u64)
    }

    /// Where inode `number` stands; an error for 0 and for numbers behind the last group.
    pub fn locate_inode(&self, number: InodeNo) -> Result<InodePlace> {
        if number.0 == 0 || number.0 >= self.inode_count() {
            return corrupt(Check::InodeRange, BlockNo(0), self.inode_count(), number.0);
        }
        let per_group = u64::from(self.inodes_per_group);
        let split = (number.0.checked_div(per_group), number.0.checked_rem(per_group));
        let (Some(group), Some(index)) = split else {
            return Err(Error::InvalidArgument);
        };
        // Both fit: the number is below inode_count, whose factors are 32 bits wide.
        let (group, index) = (GroupNo(group as u32), index as u32);
        let (table_block, slot) = (index / INODES_PER_BLOCK, index % INODES_PER_BLOCK);
        Ok(InodePlace {
            group,
            index,
            block: BlockNo(self.table_of(group).0.saturating_add(u64::from(table_block))),
            offset: (slot as usize).saturating_mul(inode::INODE_BYTES),
        })
    }

    /// The inode with number `index` in `group`.
    pub const fn inode_at(&self, group: GroupNo, index: u32) -> InodeNo {
        let before = (group.0 as u64).saturating_mul(self.inodes_per_group as u64);
        InodeNo(before.saturating_add(index as u64))
    }

    /// The blocks of a group that its own metadata takes, as a share of all groups: what is never free.
    pub fn data_blocks(&self) -> u64 {
        let metadata = u64::from(self.metadata_blocks()).saturating_mul(u64::from(self.group_count));
        self.device_blocks.saturating_sub(self.first_group_block.0).saturating_sub(metadata)
    }
}
