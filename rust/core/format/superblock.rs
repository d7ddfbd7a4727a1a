// SPDX-License-Identifier: GPL-2.0

//! The superblock: what the filesystem is, and what it remembers about itself between mounts.
//!
//! It is not journaled. Blocks 0 and 1 hold two copies; an update writes block 0, waits, then writes block 1, so that a
//! power cut that tears one leaves the other whole, and `update_counter` says which of two whole ones is newer.
//! More copies stand in the first block of the groups 0, 1, 3, 9, 27, ...: mkfs, growth and changes of identity
//! write them, everyday updates do not; only their static fields count, and only fsck uses them.

use crate::error::{corrupt, Check, Error, Result, Unsupported};
use crate::format::block_header::{self, BlockHeader, BlockKind, Stamp};
use crate::format::layout::{get, layout};
use crate::platform::Platform;
use crate::units::{BlockNo, InodeNo, Sequence, BLOCK_BYTES, BLOCK_SHIFT};

/// The two copies that every update writes, the first one first.
pub const PRIMARY: BlockNo = BlockNo(0);
/// The second of the two.
pub const SECONDARY: BlockNo = BlockNo(1);

/// The format's version; features are told by the feature words, so this moves only when all else fails.
pub const FORMAT_VERSION: u32 = 1;

/// Features that an implementation may ignore; none so far.
pub const KNOWN_COMPAT: u64 = 0;
/// Features that an implementation must know to write; none so far.
pub const KNOWN_RO_COMPAT: u64 = 0;
/// Features that an implementation must know to read; none so far. Bit 0 is reserved for file contents in the inode.
pub const KNOWN_INCOMPAT: u64 = 0;

/// `state`: an error has been recorded since the last full check.
pub const STATE_ERRORS: u32 = 1 << 0;
/// `state`: a full check has been asked for.
pub const STATE_CHECK_WANTED: u32 = 1 << 1;
/// `state`: mounted for writing, and not unmounted since.
pub const STATE_MOUNTED: u32 = 1 << 2;
/// All bits of `state` that exist.
pub const STATE_ALL: u32 = STATE_ERRORS | STATE_CHECK_WANTED | STATE_MOUNTED;

layout! {
    /// When, where and by which check an error was found.
    pub struct ErrorRecord: 24 {
        /// Nanoseconds since 1970; 0: no error.
        0 => time_ns: u64,
        /// The block.
        8 => block: BlockNo,
        /// A `Check`'s number; 0: the device failed.
        16 => check: u32,
        /// The errno that was returned.
        20 => errno: u32,
    }
}

layout! {
    /// What the last recovery did.
    pub struct RecoveryReport: 64 {
        /// When, in nanoseconds since 1970; 0: never.
        0 => time_ns: u64,
        /// How long it took.
        8 => duration_ns: u64,
        /// The first record that was needed.
        16 => first_sequence: Sequence,
        /// The record behind the last one that was applied.
        24 => end_sequence: Sequence,
        /// Transactions applied.
        32 => transactions: u64,
        /// Items applied.
        40 => items: u64,
        /// Records behind the end that verified but could not be used.
        48 => discarded_records: u64,
        /// Orphans there were then.
        56 => orphans: u32,
        /// Why it stopped: a number of `journal::replay::Stop`.
        60 => stop: u32,
    }
}

layout! {
    /// The superblock behind its [`BlockHeader`].
    pub struct Superblock: 672 {
        /// The filesystem's UUID, as users see it.
        0 => uuid: [u8; 16],
        /// The label, padded with zero bytes.
        16 => label: [u8; 64],
        /// [`FORMAT_VERSION`].
        80 => format_version: u32,
        /// Logarithm of the block size; 12.
        84 => block_shift: u32,
        /// Features to be ignored by who does not know them.
        88 => feature_compat: u64,
        /// Features that forbid writing to who does not know them.
        96 => feature_ro_compat: u64,
        /// Features that forbid mounting to who does not know them.
        104 => feature_incompat: u64,
        /// Names this filesystem in every block header; differs from the UUID, so that the UUID may change.
        112 => filesystem_id: u64,
        /// Blocks of the device that the filesystem uses.
        120 => device_blocks: u64,
        /// Blocks in a group; the last group may be shorter. 32768 << n, n <= 3.
        128 => group_blocks: u32,
        /// Groups.
        132 => group_count: u32,
        /// Inodes in each group, a multiple of 8; the last, shorter group has as many.
        136 => inodes_per_group: u32,
        /// The device's physical block size in bytes when it was made: journal records are padded to it.
        140 => physical_block_bytes: u32,
        /// The first block of group 0.
        144 => first_group_block: BlockNo,
        /// The first of the journal's header pair.
        152 => journal_start: BlockNo,
        /// Blocks of the journal, header pair included.
        160 => journal_blocks: u64,
        /// UUID of an external journal device; zero: the journal is inside.
        168 => journal_device_uuid: [u8; 16],
        /// The root directory; 2.
        184 => root_inode: InodeNo,
        /// The orphan index; 1.
        192 => orphan_inode: InodeNo,
        /// The key of the directories' hash.
        200 => hash_key: [u8; 16],
        /// Blocks that only unlink, truncate, I/O end and orphans may use.
        216 => reserve_blocks: u64,
        /// When it was made.
        224 => created_ns: u64,
        /// Mount options that hold unless the mount says otherwise: text, padded with zero bytes.
        232 => default_options: [u8; 128],
        /// Raised by every update: tells which of the two first copies is newer.
        360 => update_counter: u64,
        /// `STATE_*` bits.
        368 => state: u32,
        /// Mounts for writing since the last full check.
        372 => mount_count: u32,
        /// When it was last mounted for writing.
        376 => mounted_ns: u64,
        /// When it was last unmounted.
        384 => unmounted_ns: u64,
        /// When it was last checked in full.
        392 => checked_ns: u64,
        /// Free blocks, true after a clean unmount.
        400 => free_blocks: u64,
        /// Free inodes, true after a clean unmount.
        408 => free_inodes: u64,
        /// Groups [0, n) are initialised, true after a clean unmount.
        416 => initialised_groups: u32,
        /// Recoveries begun since the last one that ended.
        420 => recovery_attempts: u32,
        /// The first error since the last full check.
        424 => first_error: ErrorRecord,
        /// The latest error.
        448 => last_error: ErrorRecord,
        /// Errors since the last full check.
        472 => error_count: u64,
        /// What the last recovery did.
        480 => recovery: RecoveryReport,
        /// Reserved for quota: the user, group and project quota inodes.
        544 => quota_inodes: [u8; 24],
        /// Reserved for multi-mount protection: block, interval, sequence.
        568 => multi_mount: [u8; 24],
        /// Reserved for growth: the size it is growing to.
        592 => growth_target_blocks: u64,
        /// Reserved for the object store's directory.
        600 => object_directory: InodeNo,
        /// Must be zero.
        608 => reserved: [u8; 64],
    }
}

/// Where the superblock's own fields begin.
pub const OFFSET: usize = BlockHeader::SIZE;
/// Where the filesystem's id stands among them.
const FILESYSTEM_ID_OFFSET: usize = 112;

impl Superblock {
    /// The stamp of the copy in `block`.
    pub const fn stamp(filesystem_id: u64, block: BlockNo) -> Stamp {
        Stamp { kind: BlockKind::Superblock, block, owner: 0, filesystem_id }
    }

    /// Reads and verifies one copy. Who calls does not know the filesystem's id yet, so it is taken from the
    /// superblock itself and compared with the header.
    #[inline(never)] // For the stack: what it returns is large.
    pub fn read_copy(platform: &dyn Platform, bytes: &[u8], block: BlockNo) -> Result<Self> {
        if bytes.len() != BLOCK_BYTES {
            return corrupt(Check::Bounds, block, BLOCK_BYTES as u64, bytes.len() as u64);
        }
        let filesystem_id = get(bytes, OFFSET.saturating_add(FILESYSTEM_ID_OFFSET))?;
        block_header::verify(platform, &Self::stamp(filesystem_id, block), bytes)?;
        Self::decode(bytes, OFFSET)
    }

    /// Writes one copy into `bytes`, a block, sealed and ready for the device.
    pub fn write_copy(&self, platform: &dyn Platform, bytes: &mut [u8], block: BlockNo) -> Result {
        bytes.fill(0);
        Self::stamp(self.filesystem_id, block).begin(bytes)?;
        self.encode(bytes, OFFSET)?;
        block_header::seal(platform, bytes, Sequence(self.update_counter))
    }

    /// The newer of the two first copies, of which one may be torn. When neither can be used, the first one's
    /// failure is returned: it says what the device holds instead.
    pub fn choose(first: Result<Self>, second: Result<Self>) -> Result<Self> {
        match (first, second) {
            (Ok(a), Ok(b)) => Ok(if b.update_counter > a.update_counter { b } else { a }),
            (Ok(a), Err(_)) => Ok(a),
            (Err(_), Ok(b)) => Ok(b),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Whether this implementation may mount the filesystem, and may write to it.
    pub fn check_features(&self, writing: bool) -> Result {
        if self.format_version != FORMAT_VERSION {
            return Err(Error::Unsupported(Unsupported::Version(self.format_version)));
        }
        let incompatible = self.feature_incompat & !KNOWN_INCOMPAT;
        if incompatible != 0 {
            return Err(Error::Unsupported(Unsupported::Incompatible(incompatible)));
        }
        if self.block_shift != BLOCK_SHIFT {
            return Err(Error::Unsupported(Unsupported::BlockSize(self.block_shift)));
        }
        let read_only = self.feature_ro_compat & !KNOWN_RO_COMPAT;
        if writing && read_only != 0 {
            return Err(Error::Unsupported(Unsupported::ReadOnlyCompatible(read_only)));
        }
        Ok(())
    }
}
