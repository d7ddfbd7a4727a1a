// SPDX-License-Identifier: GPL-2.0

//! The errors of cairnfs: one enum for all layers, and one table from it to errno.
//!
//! What was read from the device and cannot be right becomes [`Corruption`], which names the check that failed, the block,
//! what was expected and what was found, so that one line in the log is enough to go on.

use crate::memory::OutOfMemory;
use crate::units::BlockNo;

/// Result of everything in core.
pub type Result<T = ()> = core::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// What was read from the device contradicts the format.
    Corrupt(Corruption),
    /// The device failed to read or write this block.
    Io(BlockNo),
    /// No memory.
    OutOfMemory,
    /// No free blocks.
    NoSpace,
    /// No free inodes.
    NoInodes,
    /// No free slot in the orphan index: it has to be made longer first.
    OrphanIndexFull,
    /// No such name, attribute or inode.
    NotFound,
    /// The inode has been freed since it was named (NFS handles, orphans).
    Stale,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotADirectory,
    /// A directory was not allowed.
    IsADirectory,
    /// The directory still has entries.
    NotEmpty,
    /// A name longer than the format allows.
    NameTooLong,
    /// A file larger, or an offset beyond, what the format can map.
    FileTooLarge,
    /// More links than the format counts.
    TooManyLinks,
    /// An attribute value longer than the format allows, or more attributes than fit.
    NoAttributeSpace,
    /// No attribute of that name.
    NoAttribute,
    /// An argument outside its range.
    InvalidArgument,
    /// The filesystem, or the device, is read-only.
    ReadOnly,
    /// The journal has failed; nothing can be written any more.
    ShutDown,
    /// A change does not fit into the journal's limit for one handle.
    TooLarge,
    /// The image uses a feature, or a version, that this implementation does not know.
    Unsupported(Unsupported),
    /// Something would have to be waited for, and the caller asked not to.
    WouldBlock,
    /// A handle needs more journal space than there is now; wait until the tail moves.
    JournalFull,
    /// The file may not be changed (immutable, append-only).
    NotPermitted,
    /// A fatal signal ended a wait, before anything was changed.
    Interrupted,
}

/// What an image needs that this implementation does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// A format version.
    Version(u32),
    /// Incompatible features: the image cannot be mounted.
    Incompatible(u64),
    /// Features that allow only reading.
    ReadOnlyCompatible(u64),
    /// A block size, as its logarithm.
    BlockSize(u32),
    /// A journal item without the "may be skipped" flag.
    JournalItem(u16),
}

/// A contradiction found on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The check that failed.
    pub check: Check,
    /// The block in which it failed.
    pub block: BlockNo,
    /// The value that the check wanted, or the bound that it enforces.
    pub expected: u64,
    /// The value on the device.
    pub found: u64,
}

impl Corruption {
    /// A failed `check` in `block`.
    pub const fn new(check: Check, block: BlockNo, expected: u64, found: u64) -> Self {
        Self { check, block, expected, found }
    }
}

impl core::fmt::Display for Corruption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{}: block {}: expected {:#x}, found {:#x}",
            self.check.name(),
            self.block,
            self.expected,
            self.found
        )
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)*) => {
        /// Every check that a block, an inode or a record must pass. The number is what the superblock's error
        /// records keep, so numbers are never used twice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Check {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Check {
            /// The name in messages, sysfs and test expectations.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The check with this number, if there is one.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// Every check.
            pub const ALL: &'static [Check] = &[$(Self::$variant,)*];
        }
    };
}

checks! {
    /// The block's magic number.
    Magic = 1 "magic",
    /// The checksum over the block.
    Crc = 2 "crc",
    /// The kind of block.
    Kind = 3 "kind",
    /// The block's own number.
    OwnBlock = 4 "own-block",
    /// The inode or group that the block belongs to.
    Owner = 5 "owner",
    /// The filesystem that the block belongs to.
    FilesystemId = 6 "filesystem-id",
    /// Bytes that must be zero.
    Reserved = 7 "reserved",
    /// A count larger than its container.
    Count = 8 "count",
    /// Entries out of order, or twice.
    Order = 9 "order",
    /// An offset or length that leaves its container.
    Bounds = 10 "bounds",
    /// A block number outside the device, or in space that is not for data.
    BlockRange = 11 "block-range",
    /// An inode number outside the filesystem.
    InodeRange = 12 "inode-range",
    /// An inode's own number.
    InodeNumber = 13 "inode-number",
    /// A mode of no known file type, or of another type than the directory says.
    FileType = 14 "file-type",
    /// A size that the file's map or type does not allow.
    Size = 15 "size",
    /// A level of a tree that does not match its place, or is too high.
    Level = 16 "level",
    /// A directory entry's name.
    Name = 17 "name",
    /// A directory entry's key.
    Key = 18 "key",
    /// An inode's kind of map.
    MapKind = 19 "map-kind",
    /// An extended attribute.
    Attribute = 20 "attribute",
    /// A number of links.
    Links = 21 "links",
    /// A directory's parent.
    Parent = 22 "parent",
    /// A free or used count.
    FreeCount = 23 "free-count",
    /// Bits of a bitmap against what uses them.
    Bitmap = 24 "bitmap",
    /// The size or place of a group, the journal or the inode table.
    Geometry = 25 "geometry",
    /// The number of blocks that an inode says it has.
    BlockCount = 26 "block-count",
    /// A block that two objects claim.
    Shared = 27 "shared",
    /// An inode that no directory names, or a directory that two name.
    Reachable = 28 "reachable",
    /// A slot of the orphan index.
    OrphanSlot = 29 "orphan-slot",
    /// A used inode slot above the mark up to which the table is initialised.
    TableMark = 30 "table-mark",
    /// A name that stands for an inode that is not there.
    Dangling = 31 "dangling",
    /// The journal's header pair.
    JournalHeader = 32 "journal-header",
    /// A journal record that was known durable and does not verify.
    JournalDamage = 33 "journal-damage",
    /// A journal item whose content contradicts itself or the filesystem.
    JournalItem = 34 "journal-item",
    /// A bitmap range whose before-value is not what replay had applied.
    JournalBefore = 35 "journal-before",
    /// The filesystem is larger than the device.
    DeviceSize = 36 "device-size",
    /// Flags that do not exist, or do not go together.
    Flags = 37 "flags",
    /// A time outside its range.
    Time = 38 "time",
    /// The totals of free blocks and inodes.
    Totals = 39 "totals",
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(corruption)
    }
}

/// A failed check as an error: the form in which verifiers return.
pub const fn corrupt<T>(check: Check, block: BlockNo, expected: u64, found: u64) -> Result<T> {
    Err(Error::Corrupt(Corruption::new(check, block, expected, found)))
}

impl Error {
    /// The errno of this error on Linux (x86 and generic numbers), as a positive number.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotPermitted => 1,
            Self::NotFound => 2,
            Self::Interrupted => 4,
            Self::Io(_) | Self::ShutDown => 5,
            Self::WouldBlock | Self::JournalFull => 11,
            Self::OutOfMemory => 12,
            Self::Exists => 17,
            Self::NotADirectory => 20,
            Self::IsADirectory => 21,
            Self::InvalidArgument | Self::Unsupported(_) => 22,
            Self::FileTooLarge => 27,
            Self::NoSpace | Self::NoInodes | Self::OrphanIndexFull | Self::NoAttributeSpace => 28,
            Self::ReadOnly => 30,
            Self::TooManyLinks => 31,
            Self::NameTooLong => 36,
            Self::NotEmpty => 39,
            Self::NoAttribute => 61,
            Self::Corrupt(Corruption { check: Check::Crc, .. }) => 74,
            Self::TooLarge => 7,
            Self::Stale => 116,
            Self::Corrupt(_) => 117,
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Corrupt(corruption) => write!(f, "corrupt: {corruption}"),
            Self::Io(block) => write!(f, "input/output error at block {block}"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::NoSpace => f.write_str("no space left on device"),
            Self::NoInodes => f.write_str("no free inodes left"),
            Self::OrphanIndexFull => f.write_str("no free slot in the orphan index"),
            Self::NotFound => f.write_str("not found"),
            Self::Stale => f.write_str("stale inode"),
            Self::Exists => f.write_str("exists already"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::IsADirectory => f.write_str("is a directory"),
            Self::NotEmpty => f.write_str("directory not empty"),
            Self::NameTooLong => f.write_str("name too long"),
            Self::FileTooLarge => f.write_str("file too large"),
            Self::TooManyLinks => f.write_str("too many links"),
            Self::NoAttributeSpace => f.write_str("no space for the attribute"),
            Self::NoAttribute => f.write_str("no such attribute"),
            Self::InvalidArgument => f.write_str("invalid argument"),
            Self::ReadOnly => f.write_str("read-only filesystem"),
            Self::ShutDown => f.write_str("the filesystem has been shut down"),
            Self::TooLarge => f.write_str("too large for one transaction"),
            Self::Unsupported(what) => write!(f, "unsupported: {what}"),
            Self::WouldBlock => f.write_str("would have to wait"),
            Self::JournalFull => f.write_str("the journal is full"),
            Self::NotPermitted => f.write_str("operation not permitted"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl core::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "format version {version}"),
            Self::Incompatible(bits) => write!(f, "incompatible features {bits:#x}"),
            Self::ReadOnlyCompatible(bits) => write!(f, "features {bits:#x} allow only reading"),
            Self::BlockSize(shift) => write!(f, "block size 2^{shift}"),
            Self::JournalItem(kind) => write!(f, "journal item of type {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_checks_are_kept() {
        for check in Check::ALL {
            assert_eq!(Check::from_number(*check as u32), Some(*check));
        }
        assert_eq!(Check::from_number(0), None);
    }

    #[test]
    fn bad_crc_is_ebadmsg_and_all_other_corruption_euclean() {
        for check in Check::ALL {
            let errno = Error::Corrupt(Corruption::new(*check, BlockNo(7), 1, 2)).errno();
            assert_eq!(errno, if *check == Check::Crc { 74 } else { 117 }, "{}", check.name());
        }
    }
}
