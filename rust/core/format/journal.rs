// SPDX-License-Identifier: GPL-2.0

//! The journal's header pair and the header of its records.
//!
//! The journal is one run of blocks: two headers, then the ring. A header is written with FUA, the older of
//! the two each time, before the space behind the old tail is used again; so one whole header always says where the
//! chain of needed records begins. Records follow one another in the ring, padded to the device's physical block, and
//! never straddle its end: what does not fit there is skipped by a record with [`RECORD_WRAP`].
//!
//! A record's CRC is seeded with the filesystem's UUID and the ring's generation, and each record holds the CRC of the one
//! before it: a stale record of an earlier incarnation never verifies as the next one.

use crate::error::{corrupt, Check, Result};
use crate::format::block_header::{self, BlockHeader, BlockKind, Stamp};
use crate::format::layout::layout;
use crate::platform::Platform;
use crate::units::{round_up, BlockNo, Generation, Position, Sequence, TransactionId, BLOCK_BYTES};

/// Blocks of the header pair.
pub const HEADER_BLOCKS: u64 = 2;
/// The smallest journal, header pair included: 16 times the largest handle (`journal::reservation` computes it).
pub const JOURNAL_BLOCKS_MIN: u64 = 1024;
/// The largest journal: 2 GiB.
pub const JOURNAL_BLOCKS_MAX: u64 = 1 << 19;

layout! {
    /// Counts of the whole filesystem.
    pub struct Totals: 24 {
        /// Clear bits of all block bitmaps.
        0 => free_blocks: u64,
        /// Clear bits of all inode bitmaps.
        8 => free_inodes: u64,
        /// Groups [0, n) are initialised.
        16 => initialised_groups: u32,
        /// Slots of the orphan index in use.
        20 => orphans: u32,
    }
}

layout! {
    /// The record at which recovery begins.
    pub struct Tail: 24 {
        /// Where it begins in the ring.
        0 => position: Position,
        /// Its number.
        8 => sequence: Sequence,
        /// The generation that its CRC is seeded with.
        16 => generation: Generation,
        /// The CRC of the record before it, which it must repeat.
        20 => previous_crc: u32,
    }
}

layout! {
    /// A journal header, behind its [`BlockHeader`].
    pub struct JournalHeader: 128 {
        /// The filesystem's UUID: the seed of the records' CRCs.
        0 => uuid: [u8; 16],
        /// Raised by every write: tells which of the pair is newer.
        16 => counter: u64,
        /// [`HEADER_CLEAN`] or 0.
        24 => flags: u32,
        /// The newest generation in use.
        28 => newest_generation: Generation,
        /// Where recovery begins; when clean, where the next record goes.
        32 => tail: Tail,
        /// The next transaction, as of the tail; the first one is 1.
        56 => next_transaction: TransactionId,
        /// The totals as of the newest record that was durable when this was written.
        64 => totals: Totals,
        /// Bytes of the ring.
        88 => ring_bytes: u64,
        /// All records up to this were durable when this was written: one that is missing is damage.
        96 => stable_sequence: Sequence,
        /// Must be zero.
        104 => reserved: [u8; 24],
    }
}

/// Counters, sequences and transactions stay below this.
pub const COUNT_MAX: u64 = 1 << 62;

/// `flags`: nothing has to be replayed.
pub const HEADER_CLEAN: u32 = 1 << 0;

/// "CRNr".
pub const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"CRNr");
/// The version of record headers and items.
pub const RECORD_VERSION: u16 = 1;

/// `flags` of a record: the last fragment of its transaction.
pub const RECORD_LAST: u16 = 1 << 0;
/// The next record begins at the start of the ring, in the next generation; no payload.
pub const RECORD_WRAP: u16 = 1 << 1;
/// Holds a user's mark only.
pub const RECORD_NOTE: u16 = 1 << 2;
/// Reserved for transactions that were given up.
pub const RECORD_ABORT: u16 = 1 << 3;
/// All bits of `flags` in use.
pub const RECORD_FLAGS_ALL: u16 = RECORD_LAST | RECORD_WRAP | RECORD_NOTE;

layout! {
    /// The header of a record; the payload follows.
    pub struct RecordHeader: 80 {
        /// [`RECORD_MAGIC`].
        0 => magic: u32,
        /// [`RECORD_VERSION`].
        4 => version: u16,
        /// `RECORD_*` bits.
        6 => flags: u16,
        /// Bytes of this header: 80; a newer version may have more.
        8 => header_bytes: u16,
        /// The number of this fragment in its transaction, from 0.
        10 => fragment: u16,
        /// Fragments of the transaction.
        12 => fragments: u16,
        /// Must be zero.
        14 => reserved: u16,
        /// The transaction.
        16 => transaction: TransactionId,
        /// The record's own number: one more than its predecessor's.
        24 => sequence: Sequence,
        /// The ring's generation.
        32 => generation: Generation,
        /// Bytes of the payload.
        36 => payload_bytes: u32,
        /// Where the tail stood when the record was made.
        40 => tail_position: Position,
        /// The tail's record.
        48 => tail_sequence: Sequence,
        /// All records up to this were known durable when the record was made.
        56 => stable_sequence: Sequence,
        /// When the record was made, nanoseconds since 1970.
        64 => timestamp_ns: u64,
        /// The CRC of the record before.
        72 => previous_crc: u32,
        /// CRC-32C over header and payload, with this field as zero, seeded with UUID and generation.
        76 => crc: u32,
    }
}

/// Where the CRC stands in a record header.
pub const RECORD_CRC_OFFSET: usize = 76;

/// The most payload of one record; a transaction with more has several.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Reads the seed of a record's CRC: what the UUID and the generation contribute.
pub fn record_seed(platform: &dyn Platform, uuid: &[u8; 16], generation: Generation) -> u32 {
    platform.crc32c(platform.crc32c(0, uuid), &generation.0.to_le_bytes())
}

/// The CRC of a record: header, its CRC field taken as zero, and payload.
pub fn record_crc(platform: &dyn Platform, seed: u32, record: &[u8]) -> u32 {
    let (before, rest) = record.split_at_checked(RECORD_CRC_OFFSET).unwrap_or((record, &[]));
    let crc = platform.crc32c(seed, before);
    platform.crc32c(platform.crc32c(crc, &[0; 4]), rest.get(4..).unwrap_or(&[]))
}

impl RecordHeader {
    /// Bytes that the record takes in the ring.
    pub const fn padded_bytes(payload_bytes: u64, physical_block_bytes: u32) -> u64 {
        round_up((Self::SIZE as u64).saturating_add(payload_bytes), physical_block_bytes as u64)
    }
}

impl JournalHeader {
    /// The stamp of the header in `block`.
    pub const fn stamp(filesystem_id: u64, block: BlockNo) -> Stamp {
        Stamp { kind: BlockKind::JournalHeader, block, owner: 0, filesystem_id }
    }

    /// Reads and verifies one of the pair.
    pub fn read(platform: &dyn Platform, bytes: &[u8], filesystem_id: u64, block: BlockNo) -> Result<Self> {
        block_header::verify(platform, &Self::stamp(filesystem_id, block), bytes)?;
        let header = Self::decode(bytes, BlockHeader::SIZE)?;
        if header.flags & !HEADER_CLEAN != 0 {
            return corrupt(Check::Flags, block, u64::from(HEADER_CLEAN), u64::from(header.flags));
        }
        if header.ring_bytes == 0 || header.tail.position.0 >= header.ring_bytes {
            return corrupt(Check::JournalHeader, block, header.ring_bytes, header.tail.position.0);
        }
        if header.reserved != [0; 24] {
            return corrupt(Check::Reserved, block, 0, 1);
        }
        // The first transaction has number 1: number 0 is "none", and counts as stable for ever.
        if header.next_transaction.0 == 0 {
            return corrupt(Check::JournalHeader, block, 1, 0);
        }
        // Numbers this large were never counted up to, and could not be counted on from.
        let counts = [header.counter, header.next_transaction.0, header.tail.sequence.0];
        if let Some(large) = counts.into_iter().find(|count| *count > COUNT_MAX) {
            return corrupt(Check::JournalHeader, block, COUNT_MAX, large);
        }
        if header.newest_generation.0 > u32::MAX / 2 {
            return corrupt(
                Check::JournalHeader,
                block,
                u64::from(u32::MAX / 2),
                header.newest_generation.0.into(),
            );
        }
        if header.tail.generation > header.newest_generation || header.tail.sequence.0 == 0 {
            let newest = u64::from(header.newest_generation.0);
            return corrupt(Check::JournalHeader, block, newest, u64::from(header.tail.generation.0));
        }
        Ok(header)
    }

    /// Writes one of the pair into `bytes`, a block, sealed and ready for the device.
    pub fn write(
        &self,
        platform: &dyn Platform,
        bytes: &mut [u8],
        filesystem_id: u64,
        block: BlockNo,
    ) -> Result {
        bytes.fill(0);
        Self::stamp(filesystem_id, block).begin(bytes)?;
        self.encode(bytes, BlockHeader::SIZE)?;
        block_header::seal(platform, bytes, self.tail.sequence)
    }

    /// Which of the pair to write next: the one that holds the older header.
    pub const fn next_block(journal_start: BlockNo, counter: u64) -> BlockNo {
        BlockNo(journal_start.0.saturating_add(counter % HEADER_BLOCKS))
    }
}

const _: () = assert!(RecordHeader::SIZE + 64 <= 512, "a small record must fit the smallest physical block");
const _: () =
    assert!(BlockHeader::SIZE + JournalHeader::SIZE <= 512, "a header must not be torn by a sector");
const _: () = assert!(PAYLOAD_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
