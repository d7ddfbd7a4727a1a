// SPDX-License-Identifier: GPL-2.0

//! A type for every kind of number, so that a block of the device is never taken for a block of a file,
//! nor a position in the ring for a sequence.
//!
//! Each is a transparent wrapper with a public field: the point is that mixing two kinds does not compile, not that
//! the number is hidden. Arithmetic that could overflow on what came from the disk goes through `checked_*`
//! of the inner number, or through the few helpers here.

/// Bytes in one block. The superblock records its logarithm; this version accepts only this size.
pub const BLOCK_BYTES: usize = 4096;
/// Logarithm of [`BLOCK_BYTES`].
pub const BLOCK_SHIFT: u32 = 12;
/// Bytes in a sector: the unit in which a disk tears a write.
pub const SECTOR_BYTES: usize = 512;

const _: () = assert!(1 << BLOCK_SHIFT == BLOCK_BYTES);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number that follows; the largest number follows itself, and so never wraps to a valid one.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// This number plus `count`, or `None` when it does not fit.
            pub fn checked_add(self, count: $inner) -> Option<Self> {
                self.0.checked_add(count).map(Self)
            }

            /// The distance from `start` up to this number, or `None` when `start` lies behind it.
            pub fn checked_distance_from(self, start: Self) -> Option<$inner> {
                self.0.checked_sub(start.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// A block of the device, counted from its start.
    BlockNo(u64)
);
number!(
    /// An allocation group.
    GroupNo(u32)
);
number!(
    /// An inode. 0 names none.
    InodeNo(u64)
);
number!(
    /// A block of a file, counted from the file's start.
    FileBlock(u64)
);
number!(
    /// The number of a journal record.
    Sequence(u64)
);
number!(
    /// The number of a transaction: what is committed together.
    TransactionId(u64)
);
number!(
    /// A byte offset in the journal's ring.
    Position(u64)
);
number!(
    /// An incarnation of the ring: raised at every wrap, mount and recovery.
    Generation(u32)
);
number!(
    /// The generation of an inode: tells a number's users apart.
    InodeGeneration(u32)
);
number!(
    /// A directory entry's key, which is its readdir cookie: 63 bits, ordered.
    DirectoryKey(u64)
);
number!(
    /// A slot of the orphan index, counted over all of its blocks.
    OrphanSlot(u32)
);
number!(
    /// A device flush, numbered in the order of their starts.
    FlushNo(u64)
);

/// A run of blocks of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockRun {
    /// The first block.
    pub start: BlockNo,
    /// How many blocks.
    pub blocks: u64,
}

impl BlockRun {
    /// The block behind the last one; saturates, so a hostile run ends at the end of all numbers.
    pub const fn end(&self) -> BlockNo {
        BlockNo(self.start.0.saturating_add(self.blocks))
    }

    /// Whether `block` lies in the run.
    pub const fn contains(&self, block: BlockNo) -> bool {
        block.0 >= self.start.0 && block.0 < self.end().0
    }

    /// Whether the two runs share a block.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0
    }
}

/// How many blocks `bytes` fill, the last one perhaps in part.
pub const fn blocks_for_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64)
}

/// `bytes` rounded up to a multiple of `unit_bytes`, a power of two; saturates.
pub const fn round_up(bytes: u64, unit_bytes: u64) -> u64 {
    let mask = unit_bytes.saturating_sub(1);
    bytes.saturating_add(mask) & !mask
}
