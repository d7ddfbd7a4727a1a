// SPDX-License-Identifier: GPL-2.0

//! The header with which every metadata block describes itself (invariant I10), and its verification.
//!
//! Bitmap and inode-table blocks have none: a bitmap's checksum stands in its group's header, and each inode carries its
//! own. All others begin with these 48 bytes. The CRC covers the whole block with the CRC field taken as zero; it and the
//! sequence are stamped into the copy that goes home, never into the cached block, so neither is ever logged.

use crate::error::{corrupt, Check, Result};
use crate::format::layout::{layout, put};
use crate::platform::Platform;
use crate::units::{BlockNo, Sequence, BLOCK_BYTES};

/// The first four bytes of every self-describing block: "CRNF".
pub const MAGIC: u32 = u32::from_le_bytes(*b"CRNF");

layout! {
    /// The common header.
    pub struct BlockHeader: 48 {
        /// [`MAGIC`].
        0 => magic: u32,
        /// CRC-32C over the block, with this field as zero.
        4 => crc: u32,
        /// A [`BlockKind`].
        8 => kind: u16,
        /// Version of this kind's layout; 1.
        10 => version: u16,
        /// Must be zero.
        12 => reserved: u32,
        /// The block's own number on the device.
        16 => block: BlockNo,
        /// The inode (trees, attributes, orphan index) or group (group header) that owns the block; else 0.
        24 => owner: u64,
        /// The superblock's `filesystem_id`.
        32 => filesystem_id: u64,
        /// The journal record up to which this copy is current, as of its home write.
        40 => sequence: Sequence,
    }
}

/// Where the CRC stands in a block.
pub const CRC_OFFSET: usize = 4;
/// Where the sequence stands in a block.
pub const SEQUENCE_OFFSET: usize = 40;
/// The only version of each kind's layout so far.
pub const VERSION: u16 = 1;

/// What a metadata block is. Bitmaps and the inode table have no header; all others carry their kind in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum BlockKind {
    /// The superblock and its copies.
    Superblock = 1,
    /// One of the journal's header pair.
    JournalHeader = 2,
    /// A group's header.
    GroupHeader = 3,
    /// A node or leaf of a file's extent tree.
    ExtentTree = 4,
    /// An inner node of a directory's tree.
    DirectoryNode = 5,
    /// A leaf of a directory's tree.
    DirectoryLeaf = 6,
    /// A block of extended attributes.
    Attributes = 7,
    /// A block of the orphan index.
    OrphanIndex = 8,
    /// A block bitmap: no header.
    BlockBitmap = 9,
    /// An inode bitmap: no header.
    InodeBitmap = 10,
    /// A block of the inode table: no header, eight inodes.
    InodeTable = 11,
    /// The target of a symbolic link that does not fit the inode.
    SymlinkTarget = 12,
}

impl BlockKind {
    /// The kind with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Superblock,
            2 => Self::JournalHeader,
            3 => Self::GroupHeader,
            4 => Self::ExtentTree,
            5 => Self::DirectoryNode,
            6 => Self::DirectoryLeaf,
            7 => Self::Attributes,
            8 => Self::OrphanIndex,
            9 => Self::BlockBitmap,
            10 => Self::InodeBitmap,
            11 => Self::InodeTable,
            12 => Self::SymlinkTarget,
            _ => return None,
        })
    }

    /// Whether blocks of this kind begin with a [`BlockHeader`].
    pub const fn describes_itself(self) -> bool {
        !matches!(self, Self::BlockBitmap | Self::InodeBitmap | Self::InodeTable)
    }

    /// Whether an ordinary handle may allocate, change and free blocks of this kind (and so whether physical redo
    /// items may name them).
    pub const fn belongs_to_an_inode(self) -> bool {
        matches!(
            self,
            Self::ExtentTree
                | Self::DirectoryNode
                | Self::DirectoryLeaf
                | Self::Attributes
                | Self::OrphanIndex
                | Self::SymlinkTarget
        )
    }

    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superblock => "superblock",
            Self::JournalHeader => "journal header",
            Self::GroupHeader => "group header",
            Self::ExtentTree => "extent tree",
            Self::DirectoryNode => "directory node",
            Self::DirectoryLeaf => "directory leaf",
            Self::Attributes => "attributes",
            Self::OrphanIndex => "orphan index",
            Self::BlockBitmap => "block bitmap",
            Self::InodeBitmap => "inode bitmap",
            Self::InodeTable => "inode table",
            Self::SymlinkTarget => "symlink target",
        }
    }
}

/// What a block must say of itself: who asks for it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What it is.
    pub kind: BlockKind,
    /// Its own number.
    pub block: BlockNo,
    /// Its owner.
    pub owner: u64,
    /// The filesystem.
    pub filesystem_id: u64,
}

impl Stamp {
    /// Writes the header of a new block: everything but CRC and sequence, which come with the home write.
    pub fn begin(&self, bytes: &mut [u8]) -> Result {
        BlockHeader {
            magic: MAGIC,
            crc: 0,
            kind: self.kind as u16,
            version: VERSION,
            reserved: 0,
            block: self.block,
            owner: self.owner,
            filesystem_id: self.filesystem_id,
            sequence: Sequence(0),
        }
        .encode(bytes, 0)
    }

    /// Checks the header's fields against what the block must be; the CRC is checked by [`verify`] when a block comes from
    /// the device.
    pub fn check(&self, header: &BlockHeader) -> Result {
        let at = self.block;
        let pairs = [
            (Check::Magic, u64::from(MAGIC), u64::from(header.magic)),
            (Check::Kind, u64::from(self.kind as u16), u64::from(header.kind)),
            (Check::Kind, u64::from(VERSION), u64::from(header.version)),
            (Check::OwnBlock, self.block.0, header.block.0),
            (Check::FilesystemId, self.filesystem_id, header.filesystem_id),
            (Check::Owner, self.owner, header.owner),
            (Check::Reserved, 0, u64::from(header.reserved)),
        ];
        for (check, expected, found) in pairs {
            if expected != found {
                return corrupt(check, at, expected, found);
            }
        }
        Ok(())
    }
}

/// The CRC of a block, its CRC field taken as zero.
pub fn crc_of(platform: &dyn Platform, bytes: &[u8]) -> u32 {
    let (before, rest) = bytes.split_at_checked(CRC_OFFSET).unwrap_or((bytes, &[]));
    let after = rest.get(4..).unwrap_or(&[]);
    let crc = platform.crc32c(0, before);
    platform.crc32c(platform.crc32c(crc, &[0; 4]), after)
}

/// Verifies a block that was just read: magic first (so that a block of something else is called that), then the CRC,
/// then the rest of the header.
#[inline(never)] // For the stack: who has verified a block goes on with it.
pub fn verify(platform: &dyn Platform, stamp: &Stamp, bytes: &[u8]) -> Result<BlockHeader> {
    if bytes.len() != BLOCK_BYTES {
        return corrupt(Check::Bounds, stamp.block, BLOCK_BYTES as u64, bytes.len() as u64);
    }
    let header = BlockHeader::decode(bytes, 0)?;
    if header.magic != MAGIC {
        return corrupt(Check::Magic, stamp.block, u64::from(MAGIC), u64::from(header.magic));
    }
    let crc = crc_of(platform, bytes);
    if crc != header.crc {
        return corrupt(Check::Crc, stamp.block, u64::from(crc), u64::from(header.crc));
    }
    stamp.check(&header)?;
    Ok(header)
}

/// Stamps the copy of a block that is about to go home: sequence, then the CRC over all of it.
pub fn seal(platform: &dyn Platform, bytes: &mut [u8], sequence: Sequence) -> Result {
    put(bytes, SEQUENCE_OFFSET, sequence)?;
    let crc = crc_of(platform, bytes);
    put(bytes, CRC_OFFSET, crc)
}
