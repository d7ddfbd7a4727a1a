// SPDX-License-Identifier: GPL-2.0

//! Following the chain of records in the ring, and telling damage from an ordinary torn end.
//!
//! A record follows another when it stands where that one ended, has the next sequence and the same generation (the next one
//! behind the ring's end), repeats its CRC, and has a right CRC itself, which is seeded with the filesystem's UUID and the
//! generation. Reading costs what is live, and no search.
//!
//! A block of the ring that cannot be read is an error where the chain goes on, for it may hold what was acknowledged. In the
//! rest of the ring, of which most was never needed, it is a place without a record.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::group::Geometry;
use crate::format::journal::{
    record_crc, record_seed, RecordHeader, Tail, HEADER_BLOCKS, PAYLOAD_BYTES_MAX, RECORD_FLAGS_ALL,
    RECORD_LAST, RECORD_MAGIC, RECORD_VERSION, RECORD_WRAP,
};
use crate::journal::Journal;
use crate::memory::Buffer;
use crate::platform::Platform;
use crate::units::{round_up, BlockNo, Generation, Position, Sequence, BLOCK_BYTES};

/// Why a chain ends. The numbers stand in recovery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stop {
    /// The header was clean: there was nothing to follow.
    Clean = 1,
    /// No record stands there, or one of an earlier incarnation.
    End = 2,
    /// A record of this chain stands there, but its CRC is wrong: torn, or partly written.
    Torn = 3,
}

/// Reads the ring.
pub struct RingReader<'d> {
    device: &'d dyn Device,
    platform: &'d dyn Platform,
    uuid: [u8; 16],
    start: BlockNo,
    bytes: u64,
    physical_block_bytes: u32,
    buffer: Buffer,
    /// The part of the ring that the buffer holds.
    window_start: u64,
    window_end: u64,
}

/// A record that has verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// Its header.
    pub header: RecordHeader,
}

/// Where the chain goes on: what the next record must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Position, sequence, generation and CRC of its predecessor.
    pub tail: Tail,
}

/// What stands where the next record should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The next record; its payload can be had from [`RingReader::payload`] until the next read.
    Record(Record),
    /// The chain ends.
    Stop(Stop),
}

/// Bytes that one read brings in at the most.
const BUFFER_BYTES: usize = PAYLOAD_BYTES_MAX + 2 * BLOCK_BYTES;
const BLOCK: u64 = BLOCK_BYTES as u64;

impl<'d> RingReader<'d> {
    /// A reader of a filesystem's ring.
    pub fn try_new(
        device: &'d dyn Device,
        platform: &'d dyn Platform,
        geometry: &Geometry,
        uuid: [u8; 16],
    ) -> Result<Self> {
        Ok(Self {
            device,
            platform,
            uuid,
            start: geometry.journal_start.checked_add(HEADER_BLOCKS).ok_or(Error::InvalidArgument)?,
            bytes: Journal::ring_bytes(geometry),
            physical_block_bytes: geometry.physical_block_bytes,
            buffer: Buffer::zeroed(BUFFER_BYTES)?,
            window_start: 0,
            window_end: 0,
        })
    }

    /// The block of the device in which a position of the ring lies.
    pub fn block_of(&self, position: Position) -> BlockNo {
        BlockNo(self.start.0.saturating_add(position.0 / BLOCK))
    }

    /// Bytes of the ring.
    pub const fn ring_bytes(&self) -> u64 {
        self.bytes
    }

    /// Brings `length` bytes from `position` on into the buffer, unless they are there; returns where in it they begin. Reads
    /// ahead as far as the buffer goes: what is asked for next nearly always follows.
    fn fetch(&mut self, position: Position, length: usize) -> Result<usize> {
        let within = (position.0 % BLOCK) as usize;
        let wanted = round_up(within.saturating_add(length) as u64, BLOCK);
        let first = position.0.saturating_sub(within as u64);
        let end = first.saturating_add(wanted);
        if first < self.window_start || end > self.window_end {
            let ring_end = round_up(self.bytes, BLOCK);
            let ahead = ring_end.saturating_sub(first).min(BUFFER_BYTES as u64).max(wanted);
            match self.load(first, ahead) {
                // What was only read ahead may be what could not be read.
                Err(Error::Io(_)) if ahead > wanted => self.load(first, wanted)?,
                outcome => outcome?,
            }
        }
        Ok(position.0.saturating_sub(self.window_start) as usize)
    }

    /// Reads `bytes` of the ring from `first` on; what a failed read leaves is nothing.
    fn load(&mut self, first: u64, bytes: u64) -> Result {
        (self.window_start, self.window_end) = (0, 0);
        let place = self.buffer.get_mut(..bytes as usize).ok_or(Error::InvalidArgument)?;
        self.device.read(BlockNo(self.start.0.saturating_add(first / BLOCK)), place)?;
        (self.window_start, self.window_end) = (first, first.saturating_add(bytes));
        Ok(())
    }

    /// The header at `position`, if it could be one of a record.
    fn header_at(&mut self, position: Position) -> Result<Option<RecordHeader>> {
        if position.0.saturating_add(RecordHeader::SIZE as u64) > self.bytes {
            return Ok(None);
        }
        let at = self.fetch(position, RecordHeader::SIZE)?;
        let header = RecordHeader::decode(&self.buffer, at)?;
        Ok(self.is_plausible(position, &header).then_some(header))
    }

    /// Whether a header could be one of a record at `position`: magic, version, and lengths that stay in the ring.
    fn is_plausible(&self, position: Position, header: &RecordHeader) -> bool {
        header.magic == RECORD_MAGIC
            && header.version == RECORD_VERSION
            && usize::from(header.header_bytes) == RecordHeader::SIZE
            && header.flags & !RECORD_FLAGS_ALL == 0
            && header.reserved == 0
            && header.payload_bytes as usize <= PAYLOAD_BYTES_MAX
            && (header.flags & RECORD_WRAP == 0 || header.payload_bytes == 0)
            && position.0.saturating_add(self.padded(header)) <= self.bytes
    }

    fn padded(&self, header: &RecordHeader) -> u64 {
        RecordHeader::padded_bytes(u64::from(header.payload_bytes), self.physical_block_bytes)
    }

    /// Whether the record's CRC is right; its bytes are in the buffer afterwards.
    fn verifies(&mut self, position: Position, header: &RecordHeader) -> Result<bool> {
        let length = RecordHeader::SIZE.saturating_add(header.payload_bytes as usize);
        let at = self.fetch(position, length)?;
        let end = at.saturating_add(length);
        let record = self.buffer.get(at..end).ok_or(Error::InvalidArgument)?;
        let seed = record_seed(self.platform, &self.uuid, header.generation);
        Ok(record_crc(self.platform, seed, record) == header.crc)
    }

    /// Reads what stands where the chain goes on.
    pub fn read(&mut self, next: &Next) -> Result<Found> {
        let position = next.tail.position;
        let Some(header) = self.header_at(position)? else {
            return Ok(Found::Stop(Stop::End));
        };
        if header.sequence != next.tail.sequence || header.generation != next.tail.generation {
            return Ok(Found::Stop(Stop::End));
        }
        if !self.verifies(position, &header)? {
            return Ok(Found::Stop(Stop::Torn));
        }
        if header.previous_crc != next.tail.previous_crc {
            return Ok(Found::Stop(Stop::End));
        }
        Ok(Found::Record(Record { position, header }))
    }

    /// The payload of the record that was read last.
    pub fn payload(&self, record: &Record) -> Result<&[u8]> {
        let within = record.position.0.checked_sub(self.window_start).ok_or(Error::InvalidArgument)? as usize;
        let start = within.saturating_add(RecordHeader::SIZE);
        let end = start.saturating_add(record.header.payload_bytes as usize);
        self.buffer.get(start..end).ok_or(Error::InvalidArgument)
    }

    /// What follows a record.
    pub fn next_after(&self, record: &Record) -> Next {
        let header = &record.header;
        let end = record.position.0.saturating_add(self.padded(header));
        let wraps = header.flags & RECORD_WRAP != 0 || end >= self.bytes;
        let generation = if wraps { header.generation.next() } else { header.generation };
        Next {
            tail: Tail {
                position: if wraps { Position(0) } else { Position(end) },
                sequence: header.sequence.next(),
                generation,
                previous_crc: header.crc,
            },
        }
    }

    /// Looks for damage behind the end of a chain: a later record of the same incarnation that states `end.sequence`, or a
    /// later one, to have been durable. Returns that stable sequence. One pass over the rest of the ring: from the end to the
    /// ring's end in this generation, and from its start up to the tail in the next. Only what a record of this ring can say
    /// counts: its sequence is no further from the missing one than the ring has room for records, and what it states
    /// lies before itself.
    pub fn find_damage(&mut self, end: &Next, tail: Position) -> Result<Option<Sequence>> {
        let here = end.tail.position;
        let ahead = if tail > here { tail.0 } else { self.bytes };
        if let Some(found) = self.find_later(here.0, ahead, end, end.tail.generation)? {
            return Ok(Some(found));
        }
        if tail > here {
            return Ok(None);
        }
        self.find_later(0, tail.0, end, end.tail.generation.next())
    }

    fn find_later(
        &mut self,
        from: u64,
        to: u64,
        end: &Next,
        generation: Generation,
    ) -> Result<Option<Sequence>> {
        let physical = u64::from(self.physical_block_bytes);
        let records_max = self.bytes.checked_div(physical).unwrap_or(0);
        let last = Sequence(end.tail.sequence.0.saturating_add(records_max));
        let mut at = from;
        while at < to {
            let position = Position(at);
            // A header is shorter than a physical block, and reading ahead brings many headers at a time.
            let within = match self.fetch(position, RecordHeader::SIZE) {
                Ok(within) => within,
                Err(Error::Io(_)) => {
                    // No record can be told from none in this block.
                    at = at.saturating_sub(at % BLOCK).saturating_add(BLOCK);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let header = RecordHeader::decode(&self.buffer, within)?;
            at = at.saturating_add(physical);
            if !(end.tail.sequence..=last).contains(&header.sequence)
                || header.stable_sequence >= header.sequence
                || header.generation != generation
                || !self.is_plausible(position, &header)
            {
                continue;
            }
            match self.verifies(position, &header) {
                Ok(true) => {
                    if header.stable_sequence >= end.tail.sequence {
                        return Ok(Some(header.stable_sequence));
                    }
                    at = position.0.saturating_add(self.padded(&header));
                }
                // Not all of it can be read: it is no valid record.
                Ok(false) | Err(Error::Io(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Record {
    /// Whether it is a wrap record, which belongs to the transaction that follows but is no fragment of it.
    pub const fn is_wrap(&self) -> bool {
        self.header.flags & RECORD_WRAP != 0
    }

    /// Whether it ends its transaction.
    pub const fn is_last(&self) -> bool {
        self.header.flags & RECORD_LAST != 0
    }
}

#[cfg(test)]
mod tests;
