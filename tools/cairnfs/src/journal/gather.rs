// SPDX-License-Identifier: GPL-2.0

//! Headers, ring and records as plain values, whose names are those of the JSON.

use super::items::{self, ItemInfo};
use super::Filesystem;
use anyhow::bail;
use cairnfs_core::device::Device;
use cairnfs_core::error::Result;
use cairnfs_core::format::journal::{
    JournalHeader, RecordHeader, Tail, HEADER_BLOCKS, HEADER_CLEAN, RECORD_LAST, RECORD_NOTE, RECORD_WRAP,
};
use cairnfs_core::journal::replay::chain::{Found, Next, Record, RingReader, Stop};
use cairnfs_core::journal::replay::examine::ListedItems;
use cairnfs_core::journal::Journal;
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use serde::Serialize;

/// One of the header pair.
#[derive(Debug, Serialize)]
pub(super) struct HeaderInfo {
    pub(super) block: u64,
    /// Whether it is the one that counts.
    pub(super) is_newer: bool,
    /// Why it does not verify.
    pub(super) error: Option<String>,
    pub(super) content: Option<HeaderContent>,
}

/// What a header says.
#[derive(Debug, Serialize)]
pub(super) struct HeaderContent {
    pub(super) counter: u64,
    pub(super) clean: bool,
    pub(super) newest_generation: u32,
    pub(super) tail_position: u64,
    pub(super) tail_sequence: u64,
    pub(super) tail_generation: u32,
    pub(super) stable_sequence: u64,
    pub(super) next_transaction: u64,
    pub(super) ring_bytes: u64,
    pub(super) totals: TotalsInfo,
}

/// Counts of the whole filesystem.
#[derive(Debug, Serialize)]
pub(super) struct TotalsInfo {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) initialised_groups: u32,
    pub(super) orphans: u32,
}

/// Where the ring is.
#[derive(Debug, Serialize)]
pub(super) struct RingInfo {
    pub(super) start_block: u64,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    /// What records are padded to.
    pub(super) physical_block_bytes: u32,
}

/// A record.
#[derive(Debug, Serialize)]
pub(super) struct RecordInfo {
    pub(super) position: u64,
    /// The block of the device in which it begins.
    pub(super) block: u64,
    pub(super) sequence: u64,
    pub(super) generation: u32,
    pub(super) transaction: u64,
    /// "whole", "first", "continued" or "last" part of its transaction; "wrap": none.
    pub(super) part: &'static str,
    /// From 0.
    pub(super) fragment: u16,
    pub(super) fragments: u16,
    /// What it takes in the ring, padding included.
    pub(super) bytes: u64,
    pub(super) payload_bytes: u32,
    pub(super) stable_sequence: u64,
    pub(super) tail_position: u64,
    pub(super) tail_sequence: u64,
    pub(super) timestamp_ns: u64,
    pub(super) flags: Vec<&'static str>,
    pub(super) previous_crc: u32,
    pub(super) crc: u32,
    pub(super) items: Vec<ItemInfo>,
    /// Why there are no more items: replay refuses the next one.
    pub(super) item_error: Option<String>,
}

/// Where the records end.
#[derive(Debug, Serialize)]
pub(super) struct EndInfo {
    pub(super) position: u64,
    /// What the next record would have.
    pub(super) sequence: u64,
    pub(super) generation: u32,
    /// "clean", "end" or "torn".
    pub(super) stop: &'static str,
    /// The same in words.
    pub(super) reason: &'static str,
}

/// Both headers as they are.
pub(super) fn headers(filesystem: &Filesystem) -> Vec<HeaderInfo> {
    let start = filesystem.geometry.journal_start.0;
    let mut newest: Option<u64> = None;
    let mut headers: Vec<_> = (start..start + HEADER_BLOCKS)
        .map(|block| match read_header(filesystem, BlockNo(block)) {
            Ok(header) => {
                newest = newest.max(Some(header.counter));
                HeaderInfo { block, is_newer: false, error: None, content: Some(header_content(&header)) }
            }
            Err(error) => {
                HeaderInfo { block, is_newer: false, error: Some(error.to_string()), content: None }
            }
        })
        .collect();
    // Of equal ones the first: that is what a mount takes.
    let counter_of = |header: &HeaderInfo| header.content.as_ref().map(|content| content.counter);
    if let Some(header) = headers.iter_mut().find(|header| newest.is_some() && counter_of(header) == newest) {
        header.is_newer = true;
    }
    headers
}

fn read_header(filesystem: &Filesystem, block: BlockNo) -> Result<JournalHeader> {
    let mut bytes = vec![0; BLOCK_BYTES];
    filesystem.device.read(block, &mut bytes)?;
    JournalHeader::read(&filesystem.platform, &bytes, filesystem.geometry.filesystem_id, block)
}

fn header_content(header: &JournalHeader) -> HeaderContent {
    HeaderContent {
        counter: header.counter,
        clean: header.flags & HEADER_CLEAN != 0,
        newest_generation: header.newest_generation.0,
        tail_position: header.tail.position.0,
        tail_sequence: header.tail.sequence.0,
        tail_generation: header.tail.generation.0,
        stable_sequence: header.stable_sequence.0,
        next_transaction: header.next_transaction.0,
        ring_bytes: header.ring_bytes,
        totals: TotalsInfo::from(&header.totals),
    }
}

/// Where the ring is.
pub(super) fn ring(filesystem: &Filesystem) -> RingInfo {
    let geometry = &filesystem.geometry;
    RingInfo {
        start_block: geometry.journal_start.0 + HEADER_BLOCKS,
        blocks: geometry.journal_blocks - HEADER_BLOCKS,
        bytes: Journal::ring_bytes(geometry),
        physical_block_bytes: geometry.physical_block_bytes,
    }
}

/// What a record takes in the ring.
pub(super) fn padded_bytes(filesystem: &Filesystem, record: &Record) -> u64 {
    let physical_block_bytes = filesystem.geometry.physical_block_bytes;
    RecordHeader::padded_bytes(u64::from(record.header.payload_bytes), physical_block_bytes)
}

/// A record with its items, which `reader` reads again.
pub(super) fn record(
    filesystem: &Filesystem,
    reader: &mut RingReader<'_>,
    record: &Record,
) -> anyhow::Result<RecordInfo> {
    let Record { position, header } = record;
    let place = Next {
        tail: Tail {
            position: *position,
            sequence: header.sequence,
            generation: header.generation,
            previous_crc: header.previous_crc,
        },
    };
    let failure = |error| filesystem.failure(error);
    if reader.read(&place).map_err(failure)? != Found::Record(*record) {
        bail!("record {} has changed while it was read", header.sequence);
    }
    let mut listed = ListedItems::new(reader.payload(record).map_err(failure)?, reader.block_of(*position));
    let mut items = Vec::new();
    let item_error = loop {
        match listed.next(&filesystem.geometry) {
            Ok(Some(item)) => items.push(items::info(&filesystem.geometry, item).map_err(failure)?),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    let flags = [(RECORD_LAST, "last"), (RECORD_WRAP, "wrap"), (RECORD_NOTE, "note")];
    Ok(RecordInfo {
        position: position.0,
        block: reader.block_of(*position).0,
        sequence: header.sequence.0,
        generation: header.generation.0,
        transaction: header.transaction.0,
        part: part(record),
        fragment: header.fragment,
        fragments: header.fragments,
        bytes: padded_bytes(filesystem, record),
        payload_bytes: header.payload_bytes,
        stable_sequence: header.stable_sequence.0,
        tail_position: header.tail_position.0,
        tail_sequence: header.tail_sequence.0,
        timestamp_ns: header.timestamp_ns,
        flags: flags.iter().filter(|(bit, _)| header.flags & bit != 0).map(|(_, name)| *name).collect(),
        previous_crc: header.previous_crc,
        crc: header.crc,
        items,
        item_error,
    })
}

fn part(record: &Record) -> &'static str {
    match (record.is_wrap(), record.is_last(), record.header.fragment) {
        (true, ..) => "wrap",
        (false, true, 0) => "whole",
        (false, true, _) => "last",
        (false, false, 0) => "first",
        (false, false, _) => "continued",
    }
}

/// Where a chain ended.
pub(super) fn end(at: &Tail, stop: Stop) -> EndInfo {
    let (stop, reason) = match stop {
        Stop::Clean => ("clean", "the journal is clean: nothing has to be replayed"),
        Stop::End => ("end", "no such record stands there, or one of an earlier time"),
        Stop::Torn => ("torn", "that record stands there, but its CRC is wrong: torn, or partly written"),
    };
    EndInfo { position: at.position.0, sequence: at.sequence.0, generation: at.generation.0, stop, reason }
}
