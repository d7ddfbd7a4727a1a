// SPDX-License-Identifier: GPL-2.0

//! Inodes: 512 bytes in the inode table, each with its own magic, number and CRC.
//!
//! The first 128 bytes are fixed fields; the other 384, the *area*, hold up to three parts one behind the other: the map
//! (an inline symlink, a small directory, or the root of a tree), extensions (none so far), and small extended attributes.
//! Their lengths stand in the fixed part; what lies behind them is zero. The journal logs only the used prefix.

use crate::error::{corrupt, Check, Result};
use crate::format::block_header::BlockHeader;
use crate::format::layout::{layout, put};
use crate::platform::Platform;
use crate::units::{BlockNo, InodeGeneration, InodeNo, BLOCK_BYTES};

/// Bytes of an inode in the table.
pub const INODE_BYTES: usize = 512;
/// Bytes of the area behind the fixed fields.
pub const AREA_BYTES: usize = INODE_BYTES - InodeCore::SIZE;
/// "CRNi".
pub const INODE_MAGIC: u32 = u32::from_le_bytes(*b"CRNi");

/// The orphan index: a file whose blocks are slots.
pub const ORPHAN_INDEX: InodeNo = InodeNo(1);
/// The root directory.
pub const ROOT: InodeNo = InodeNo(2);
/// The first number that is given out; those before are reserved.
pub const FIRST_FREE: InodeNo = InodeNo(16);
/// The most links that an inode can have.
pub const LINKS_MAX: u32 = 0x7FFF_FFFF;
/// The longest name of a directory entry, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest target of a symbolic link, in bytes; a target that does not fit the area takes a block.
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Bytes of a target that its block holds, behind the block's header.
pub const SYMLINK_BLOCK_BYTES: usize = BLOCK_BYTES - BlockHeader::SIZE;
/// The largest file: file blocks are 51 bits, so that offsets stay positive 64-bit numbers.
pub const FILE_BYTES_MAX: u64 = (1 << 63) - 1;

/// Mask of the file type in `mode`.
pub const MODE_TYPE: u16 = 0o170_000;
/// Named pipe.
pub const MODE_FIFO: u16 = 0o010_000;
/// Character device.
pub const MODE_CHARACTER_DEVICE: u16 = 0o020_000;
/// Directory.
pub const MODE_DIRECTORY: u16 = 0o040_000;
/// Block device.
pub const MODE_BLOCK_DEVICE: u16 = 0o060_000;
/// Regular file.
pub const MODE_REGULAR: u16 = 0o100_000;
/// Symbolic link.
pub const MODE_SYMLINK: u16 = 0o120_000;
/// Socket.
pub const MODE_SOCKET: u16 = 0o140_000;

layout! {
    /// The fixed fields.
    pub struct InodeCore: 128 {
        /// [`INODE_MAGIC`]; a slot that was never used is all zero.
        0 => magic: u32,
        /// CRC-32C over the 512 bytes, with this field as zero.
        4 => crc: u32,
        /// The inode's own number.
        8 => number: InodeNo,
        /// Random at first use of the number, one more at each reuse.
        16 => generation: InodeGeneration,
        /// Type and permissions; 0: free.
        20 => mode: u16,
        /// A [`MapKind`].
        22 => map_kind: u8,
        /// Must be zero.
        23 => reserved0: u8,
        /// Owner.
        24 => uid: u32,
        /// Group.
        28 => gid: u32,
        /// Names that stand for it; a directory counts `.` and its subdirectories' `..`.
        32 => links: u32,
        /// `FLAG_*` bits.
        36 => flags: u32,
        /// The project that its blocks are charged to.
        40 => project: u32,
        /// Device number of a device node, as `new_encode_dev` has it.
        44 => device: u32,
        /// Size in bytes. For a directory: the bytes of its leaves, or of its inline entries.
        48 => size_bytes: u64,
        /// Blocks of the device that it takes, tree and attribute blocks included.
        56 => blocks: u64,
        /// Raised by every change of content or attributes.
        64 => change_counter: u64,
        /// Last access, nanoseconds since 1970.
        72 => accessed_ns: i64,
        /// Last change of content.
        80 => modified_ns: i64,
        /// Last change of content or attributes.
        88 => changed_ns: i64,
        /// Birth.
        96 => born_ns: i64,
        /// The block of extended attributes; 0: none.
        104 => attribute_block: BlockNo,
        /// A directory's parent; 0 for all else.
        112 => parent: InodeNo,
        /// Bytes of the area that the map takes.
        120 => map_bytes: u16,
        /// Bytes of extensions, behind the map; 0.
        122 => extension_bytes: u16,
        /// Bytes of extended attributes, behind the extensions.
        124 => attribute_bytes: u16,
        /// Must be zero.
        126 => reserved1: u16,
    }
}

/// What the map in an inode's area is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MapKind {
    /// Nothing: devices, pipes, sockets, free inodes.
    None = 0,
    /// The target of a symbolic link.
    Symlink = 1,
    /// Entries of a small directory, in key order.
    InlineDirectory = 2,
    /// The root of a directory's tree.
    DirectoryTree = 3,
    /// The root of an extent tree, at level 0 the extents themselves.
    Extents = 4,
    /// Contents of a small file: reserved, an incompatible feature.
    InlineData = 5,
    /// The target of a long symbolic link: the number of a block (`BlockKind::SymlinkTarget`), then the bytes of the target
    /// that the block does not hold, its first ones.
    SymlinkBlock = 6,
}

impl MapKind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Symlink,
            2 => Self::InlineDirectory,
            3 => Self::DirectoryTree,
            4 => Self::Extents,
            5 => Self::InlineData,
            6 => Self::SymlinkBlock,
            _ => return None,
        })
    }
}

/// Every write is synchronous (`chattr +S`).
pub const FLAG_SYNC: u32 = 1 << 0;
/// Cannot be changed (`chattr +i`).
pub const FLAG_IMMUTABLE: u32 = 1 << 1;
/// Can only be appended to (`chattr +a`).
pub const FLAG_APPEND: u32 = 1 << 2;
/// Not to be dumped (`chattr +d`).
pub const FLAG_NO_DUMP: u32 = 1 << 3;
/// Access times are not kept (`chattr +A`).
pub const FLAG_NO_ATIME: u32 = 1 << 4;
/// Changes of the directory are synchronous (`chattr +D`).
pub const FLAG_DIRECTORY_SYNC: u32 = 1 << 5;
/// All bits of `flags` that exist; two more are reserved (docs/format.md).
pub const FLAGS_ALL: u32 = (1 << 6) - 1;

/// The type of `mode` as directory entries have it (the numbers of `DT_*` in readdir), or `None` for no known type.
pub const fn file_type(mode: u16) -> Option<u8> {
    match mode & MODE_TYPE {
        MODE_FIFO
        | MODE_CHARACTER_DEVICE
        | MODE_DIRECTORY
        | MODE_BLOCK_DEVICE
        | MODE_REGULAR
        | MODE_SYMLINK
        | MODE_SOCKET => Some((mode >> 12) as u8),
        _ => None,
    }
}

/// The entry type of a directory.
pub const TYPE_DIRECTORY: u8 = (MODE_DIRECTORY >> 12) as u8;

const CRC_OFFSET: usize = 4;

/// The CRC of an inode's 512 bytes, its CRC field taken as zero.
pub fn crc_of(platform: &dyn Platform, bytes: &[u8]) -> u32 {
    let (before, rest) = bytes.split_at_checked(CRC_OFFSET).unwrap_or((bytes, &[]));
    let crc = platform.crc32c(0, before);
    platform.crc32c(platform.crc32c(crc, &[0; 4]), rest.get(4..).unwrap_or(&[]))
}

/// Stamps the CRC into an inode's 512 bytes.
pub fn seal(platform: &dyn Platform, bytes: &mut [u8]) -> Result {
    let crc = crc_of(platform, bytes);
    put(bytes, CRC_OFFSET, crc)
}

/// Verifies a used slot that was read from `block`: magic, CRC, own number, and that lengths, kind, mode, flags go together.
pub fn verify(platform: &dyn Platform, bytes: &[u8], number: InodeNo, block: BlockNo) -> Result<InodeCore> {
    let core = InodeCore::decode(bytes, 0)?;
    if core.magic != INODE_MAGIC {
        return corrupt(Check::Magic, block, u64::from(INODE_MAGIC), u64::from(core.magic));
    }
    let crc = crc_of(platform, bytes);
    if crc != core.crc {
        return corrupt(Check::Crc, block, u64::from(crc), u64::from(core.crc));
    }
    if core.number != number {
        return corrupt(Check::InodeNumber, block, number.0, core.number.0);
    }
    core.check(block)?;
    let used = core.used_bytes();
    match bytes.get(used..).and_then(|rest| rest.iter().position(|byte| *byte != 0)) {
        Some(at) => corrupt(Check::Reserved, block, 0, at.saturating_add(used) as u64),
        None => Ok(core),
    }
}

impl InodeCore {
    /// Bytes of the used prefix: what the journal logs.
    pub const fn used_bytes(&self) -> usize {
        Self::SIZE
            .saturating_add(self.map_bytes as usize)
            .saturating_add(self.extension_bytes as usize)
            .saturating_add(self.attribute_bytes as usize)
    }

    /// Whether the slot is free. (A free slot keeps its number and generation.)
    pub const fn is_free(&self) -> bool {
        self.mode == 0
    }

    /// Whether it is a directory.
    pub const fn is_directory(&self) -> bool {
        self.mode & MODE_TYPE == MODE_DIRECTORY
    }

    /// Checks that do not need anything but the fixed fields.
    pub fn check(&self, block: BlockNo) -> Result {
        if self.used_bytes() > INODE_BYTES {
            return corrupt(Check::Bounds, block, INODE_BYTES as u64, self.used_bytes() as u64);
        }
        if self.reserved0 != 0 || self.reserved1 != 0 || self.extension_bytes != 0 {
            return corrupt(Check::Reserved, block, 0, u64::from(self.extension_bytes));
        }
        if self.flags & !FLAGS_ALL != 0 {
            return corrupt(Check::Flags, block, u64::from(FLAGS_ALL), u64::from(self.flags));
        }
        let Some(kind) = MapKind::from_number(self.map_kind) else {
            return corrupt(Check::MapKind, block, MapKind::Extents as u64, u64::from(self.map_kind));
        };
        if self.is_free() {
            return match kind {
                MapKind::None if self.map_bytes == 0 && self.attribute_bytes == 0 => Ok(()),
                _ => corrupt(Check::MapKind, block, 0, u64::from(self.map_kind)),
            };
        }
        if file_type(self.mode).is_none() {
            return corrupt(Check::FileType, block, 0, u64::from(self.mode));
        }
        let fits = match self.mode & MODE_TYPE {
            MODE_REGULAR => matches!(kind, MapKind::Extents),
            MODE_DIRECTORY => matches!(kind, MapKind::InlineDirectory | MapKind::DirectoryTree),
            MODE_SYMLINK => matches!(kind, MapKind::Symlink | MapKind::SymlinkBlock),
            _ => matches!(kind, MapKind::None),
        };
        if !fits {
            return corrupt(Check::MapKind, block, u64::from(self.mode), u64::from(self.map_kind));
        }
        self.check_sizes(block, kind)
    }

    fn check_sizes(&self, block: BlockNo, kind: MapKind) -> Result {
        let map_bytes = u64::from(self.map_bytes);
        let (expected, holds) = match kind {
            MapKind::None => (0, map_bytes == 0),
            MapKind::Symlink => (map_bytes, self.size_bytes == map_bytes && map_bytes > 0),
            MapKind::InlineDirectory => (map_bytes, self.size_bytes == map_bytes),
            MapKind::SymlinkBlock => {
                let in_map = self.size_bytes.saturating_sub(SYMLINK_BLOCK_BYTES as u64).saturating_add(8);
                let fits = self.size_bytes > 0 && self.size_bytes <= SYMLINK_BYTES_MAX as u64;
                (in_map, fits && map_bytes == in_map)
            }
            _ => (FILE_BYTES_MAX, self.size_bytes <= FILE_BYTES_MAX),
        };
        if !holds {
            return corrupt(Check::Size, block, expected, self.size_bytes);
        }
        if self.links > LINKS_MAX {
            return corrupt(Check::Links, block, u64::from(LINKS_MAX), u64::from(self.links));
        }
        if !self.is_directory() && self.parent.0 != 0 {
            return corrupt(Check::Parent, block, 0, self.parent.0);
        }
        Ok(())
    }
}
