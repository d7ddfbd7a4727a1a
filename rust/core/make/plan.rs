// SPDX-License-Identifier: GPL-2.0

//! The numbers of a new filesystem.
//!
//! Blocks 0 and 1 are the superblock pair. The journal follows: the header pair, then the ring. Then come the groups, from
//! a multiple of 1 MiB on where the device is large enough for that to cost nothing worth mentioning. A last group too
//! short to be useful is left out, so the filesystem may be a little smaller than its device.
//!
//! Every rule for a number that was not asked for stands here, and in `docs/format.md`.

use crate::format::group::{
    Geometry, BITMAPS_MAX, BITMAP_BITS, DATA_BLOCKS_MIN, GROUP_BLOCKS_MAX, INODES_PER_BLOCK,
};
use crate::format::inode::FIRST_FREE;
use crate::format::journal::{JOURNAL_BLOCKS_MAX, JOURNAL_BLOCKS_MIN};
use crate::format::orphan::NEW_INDEX_BLOCKS_MAX;
use crate::format::superblock::SECONDARY;
use crate::units::{BlockNo, BlockRun, BLOCK_BYTES};

/// The densest inodes: one for each block, which fills the inode bitmaps of the largest group.
pub const BYTES_PER_INODE_MIN: u64 = BLOCK_BYTES as u64;
/// The sparsest inodes that may be asked for.
pub const BYTES_PER_INODE_MAX: u64 = 64 << 20;
/// What is asked for when nobody asks: a device of [`SMALL_DEVICE_BLOCKS`] or more.
pub const BYTES_PER_INODE: u64 = 16384;
/// The same for a smaller one, whose files tend to be smaller.
pub const BYTES_PER_INODE_SMALL: u64 = 8192;
/// 512 MiB.
pub const SMALL_DEVICE_BLOCKS: u64 = 1 << 17;
/// The fewest inodes of a group: those that are reserved, and as many that can be used.
pub const INODES_PER_GROUP_MIN: u32 = 2 * FIRST_FREE.0 as u32;
/// The most inodes of a group.
pub const INODES_PER_GROUP_MAX: u32 = BITMAP_BITS * BITMAPS_MAX as u32;
/// The journal takes this part of the device unless its size was asked for, ...
pub const JOURNAL_SHARE: u64 = 64;
/// ... and no more than 64 MiB.
pub const JOURNAL_BLOCKS_DEFAULT_MAX: u64 = 1 << 14;
/// Groups are as small as they can be without becoming more than these.
pub const GROUPS_WANTED_MAX: u64 = 512;
/// The groups begin at a multiple of this, ...
pub const ALIGNMENT_BLOCKS: u64 = 256;
/// ... if the device has as many blocks as these (64 MiB).
pub const ALIGNED_DEVICE_BLOCKS: u64 = 1 << 14;
/// Groups that mkfs initialises, if there are as many: the first files find them ready, and it costs a dozen blocks.
pub const INITIALISED_GROUPS: u32 = 4;
/// A smaller device has one block of the orphan index for each of these.
pub const BLOCKS_PER_ORPHAN_BLOCK: u64 = 1024;
/// The least reserve, ...
pub const RESERVE_BLOCKS_MIN: u64 = 8;
/// ... which else is this part of the device.
pub const RESERVE_SHARE: u64 = 1000;

const BLOCK: u64 = BLOCK_BYTES as u64;

const _: () = assert!(NEW_INDEX_BLOCKS_MAX + RESERVE_BLOCKS_MIN < DATA_BLOCKS_MIN as u64);
const _: () = assert!(INODES_PER_GROUP_MIN.is_multiple_of(INODES_PER_BLOCK));
const _: () = assert!(
    (GROUP_BLOCKS_MAX as u64) * BLOCK / BYTES_PER_INODE_MIN <= INODES_PER_GROUP_MAX as u64,
    "the densest inodes must fit the bitmaps of the largest group"
);

/// What is asked for. `None`: by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whole blocks of the device.
    pub available_blocks: u64,
    /// The device's physical block size: 512, 1024, 2048 or 4096.
    pub physical_block_bytes: u32,
    /// Bytes of the journal, header pair included.
    pub journal_bytes: Option<u64>,
    /// Bytes of a group.
    pub group_bytes: Option<u64>,
    /// Bytes of the device for each inode.
    pub bytes_per_inode: Option<u64>,
}

/// Why a request cannot be met. Sizes are in bytes, ready for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Less than the smallest device.
    DeviceTooSmall {
        /// The smallest that works with this request.
        smallest_bytes: u64,
    },
    /// More groups than can be numbered.
    DeviceTooLarge {
        /// The most blocks with groups of this size.
        largest_blocks: u64,
    },
    /// A physical block size that no disk has, or larger than a block.
    PhysicalBlock,
    /// A journal size that is not a multiple of the block size.
    JournalAlignment,
    /// A journal outside its limits on this device.
    JournalSize {
        /// The least.
        smallest_bytes: u64,
        /// The most: half of the device, and never more than 2 GiB.
        largest_bytes: u64,
    },
    /// Not 128, 256, 512 or 1024 MiB.
    GroupSize,
    /// An inode ratio outside its limits.
    InodeRatio,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const KIB: u64 = 1024;
        match self {
            Self::DeviceTooSmall { smallest_bytes } => {
                write!(f, "the device is too small: at least {} KiB are needed", smallest_bytes / KIB)
            }
            Self::DeviceTooLarge { largest_blocks } => {
                write!(
                    f,
                    "the device is too large: groups of this size number at most {largest_blocks} blocks"
                )
            }
            Self::PhysicalBlock => {
                f.write_str("the physical block size must be 512, 1024, 2048 or 4096 bytes")
            }
            Self::JournalAlignment => write!(f, "the journal size must be a multiple of {BLOCK_BYTES} bytes"),
            Self::JournalSize { smallest_bytes, largest_bytes } => write!(
                f,
                "the journal must have at least {} KiB and, on this device, at most {} KiB",
                smallest_bytes / KIB,
                largest_bytes / KIB
            ),
            Self::GroupSize => f.write_str("the group size must be 128M, 256M, 512M or 1G"),
            Self::InodeRatio => {
                write!(
                    f,
                    "the bytes for each inode must be from {BYTES_PER_INODE_MIN} to {BYTES_PER_INODE_MAX}"
                )
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// The numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Blocks that the filesystem uses: all of the device, but for a last group that was left out.
    pub device_blocks: u64,
    /// Journal records are padded to this.
    pub physical_block_bytes: u32,
    /// The first of the journal's header pair.
    pub journal_start: BlockNo,
    /// Blocks of the journal, header pair included.
    pub journal_blocks: u64,
    /// The first block of group 0.
    pub first_group_block: BlockNo,
    /// Blocks in each group but the last.
    pub group_blocks: u32,
    /// Groups.
    pub group_count: u32,
    /// Inodes in each group.
    pub inodes_per_group: u32,
    /// Groups [0, n) are initialised.
    pub initialised_groups: u32,
    /// Blocks of the orphan index, the first data blocks of group 0.
    pub orphan_blocks: u32,
    /// Blocks that only unlink, truncate, I/O end and orphans may use.
    pub reserve_blocks: u64,
}

impl Plan {
    /// The layout for a request.
    pub fn new(request: &Request) -> Result<Self, Refusal> {
        check_wishes(request)?;
        let journal_blocks = journal_blocks(request)?;
        let group_blocks = group_blocks(request);
        let largest_blocks = u64::from(u32::MAX).saturating_mul(u64::from(group_blocks));
        if request.available_blocks > largest_blocks {
            return Err(Refusal::DeviceTooLarge { largest_blocks });
        }
        Self::lay_out(request, journal_blocks, group_blocks).ok_or_else(|| Refusal::DeviceTooSmall {
            smallest_bytes: smallest_blocks(request).saturating_mul(BLOCK),
        })
    }

    /// Puts the parts one behind the other; `None` when not even one group is left.
    fn lay_out(request: &Request, journal_blocks: u64, group_blocks: u32) -> Option<Self> {
        let journal_start = SECONDARY.next();
        let behind_journal = journal_start.checked_add(journal_blocks)?;
        let first_group_block = if request.available_blocks >= ALIGNED_DEVICE_BLOCKS {
            BlockNo(behind_journal.0.checked_next_multiple_of(ALIGNMENT_BLOCKS)?)
        } else {
            behind_journal
        };
        let in_groups = request.available_blocks.checked_sub(first_group_block.0)?;
        let full_groups = u32::try_from(in_groups.checked_div(u64::from(group_blocks))?).ok()?;
        let mut plan = Self {
            device_blocks: request.available_blocks,
            physical_block_bytes: request.physical_block_bytes,
            journal_start,
            journal_blocks,
            first_group_block,
            group_blocks,
            group_count: full_groups,
            inodes_per_group: inodes_per_group(request, in_groups.min(u64::from(group_blocks))),
            initialised_groups: 0,
            orphan_blocks: request
                .available_blocks
                .checked_div(BLOCKS_PER_ORPHAN_BLOCK)?
                .clamp(1, NEW_INDEX_BLOCKS_MAX) as u32,
            reserve_blocks: request.available_blocks.checked_div(RESERVE_SHARE)?.max(RESERVE_BLOCKS_MIN),
        };
        let last_blocks = in_groups.checked_rem(u64::from(group_blocks))?;
        let last_min = u64::from(plan.geometry(0).metadata_blocks().checked_add(DATA_BLOCKS_MIN)?);
        if last_blocks >= last_min {
            plan.group_count = full_groups.checked_add(1)?;
        } else {
            plan.device_blocks = request.available_blocks.checked_sub(last_blocks)?;
        }
        plan.initialised_groups = plan.group_count.min(INITIALISED_GROUPS);
        (plan.group_count > 0).then_some(plan)
    }

    /// Where everything will be.
    pub const fn geometry(&self, filesystem_id: u64) -> Geometry {
        Geometry {
            filesystem_id,
            device_blocks: self.device_blocks,
            first_group_block: self.first_group_block,
            group_blocks: self.group_blocks,
            group_count: self.group_count,
            inodes_per_group: self.inodes_per_group,
            journal_start: self.journal_start,
            journal_blocks: self.journal_blocks,
            physical_block_bytes: self.physical_block_bytes,
        }
    }

    /// Where the orphan index stands.
    pub const fn orphan_run(&self) -> BlockRun {
        let metadata_blocks = self.geometry(0).metadata_blocks() as u64;
        BlockRun {
            start: BlockNo(self.first_group_block.0.saturating_add(metadata_blocks)),
            blocks: self.orphan_blocks as u64,
        }
    }

    /// Blocks that will be free.
    pub fn free_blocks(&self) -> u64 {
        self.geometry(0).data_blocks().saturating_sub(u64::from(self.orphan_blocks))
    }

    /// Inodes that will be free: all but the reserved ones.
    pub const fn free_inodes(&self) -> u64 {
        self.geometry(0).inode_count().saturating_sub(FIRST_FREE.0)
    }
}

fn check_wishes(request: &Request) -> Result<(), Refusal> {
    if !matches!(request.physical_block_bytes, 512 | 1024 | 2048 | 4096) {
        return Err(Refusal::PhysicalBlock);
    }
    if let Some(bytes) = request.group_bytes {
        let group_bytes_max = u64::from(GROUP_BLOCKS_MAX).saturating_mul(BLOCK);
        let group_bytes_min = u64::from(BITMAP_BITS).saturating_mul(BLOCK);
        if !bytes.is_power_of_two() || bytes < group_bytes_min || bytes > group_bytes_max {
            return Err(Refusal::GroupSize);
        }
    }
    match request.bytes_per_inode {
        Some(bytes) if !(BYTES_PER_INODE_MIN..=BYTES_PER_INODE_MAX).contains(&bytes) => {
            Err(Refusal::InodeRatio)
        }
        _ => Ok(()),
    }
}

fn journal_blocks(request: &Request) -> Result<u64, Refusal> {
    let Some(bytes) = request.journal_bytes else {
        let share = request.available_blocks / JOURNAL_SHARE;
        return Ok(share.clamp(JOURNAL_BLOCKS_MIN, JOURNAL_BLOCKS_DEFAULT_MAX));
    };
    if !bytes.is_multiple_of(BLOCK) {
        return Err(Refusal::JournalAlignment);
    }
    let blocks = bytes / BLOCK;
    let largest = (request.available_blocks / 2).clamp(JOURNAL_BLOCKS_MIN, JOURNAL_BLOCKS_MAX);
    if (JOURNAL_BLOCKS_MIN..=largest).contains(&blocks) {
        Ok(blocks)
    } else {
        Err(Refusal::JournalSize {
            smallest_bytes: JOURNAL_BLOCKS_MIN.saturating_mul(BLOCK),
            largest_bytes: largest.saturating_mul(BLOCK),
        })
    }
}

fn group_blocks(request: &Request) -> u32 {
    if let Some(bytes) = request.group_bytes {
        return (bytes / BLOCK) as u32;
    }
    let mut blocks = BITMAP_BITS;
    while blocks < GROUP_BLOCKS_MAX
        && request.available_blocks > u64::from(blocks).saturating_mul(GROUPS_WANTED_MAX)
    {
        blocks = blocks.saturating_mul(2);
    }
    blocks
}

fn inodes_per_group(request: &Request, first_group_blocks: u64) -> u32 {
    let by_rule =
        if request.available_blocks < SMALL_DEVICE_BLOCKS { BYTES_PER_INODE_SMALL } else { BYTES_PER_INODE };
    let ratio = request.bytes_per_inode.unwrap_or(by_rule);
    let wanted = first_group_blocks.saturating_mul(BLOCK).checked_div(ratio).unwrap_or(0);
    let rounded = wanted.checked_next_multiple_of(u64::from(INODES_PER_BLOCK)).unwrap_or(wanted);
    rounded.clamp(u64::from(INODES_PER_GROUP_MIN), u64::from(INODES_PER_GROUP_MAX)) as u32
}

/// The fewest blocks that the rest of the request works with. Only devices of hardly more than the smallest journal are too
/// small, so trying one size after another ends soon.
fn smallest_blocks(request: &Request) -> u64 {
    let group_blocks = group_blocks(request);
    let works = |available_blocks: &u64| {
        let candidate = Request { available_blocks: *available_blocks, ..*request };
        Plan::lay_out(&candidate, JOURNAL_BLOCKS_MIN, group_blocks).is_some()
    };
    let largest = JOURNAL_BLOCKS_MIN.saturating_add(u64::from(GROUP_BLOCKS_MAX));
    (JOURNAL_BLOCKS_MIN..largest).find(works).unwrap_or(largest)
}

#[cfg(test)]
mod tests;
