// SPDX-License-Identifier: GPL-2.0

//! Recovery: bringing the blocks at home up to the newest whole transaction in the ring.
//!
//! 1. Read the header pair; the newer whole one counts. A clean one: nothing to do.
//! 2. Follow the chain from its tail, checking every record and every item, up to the first that does not verify. What
//!    follows the last whole transaction is discarded.
//! 3. If a later record states that the missing one had been durable, that is damage: fail, having written nothing.
//! 4. Collect revokes, then apply all items in order, in memory, without asking the target ([`apply`]).
//! 5. Stamp and verify everything; write it home; flush; write a clean header behind it.
//!
//! A crash at any step leaves the old header, and so the same work to be done again: every step gives the same result whatever
//! part of it had reached the device (I9). Nothing is written before everything has been read and verified.

use crate::device::Device;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::group::Geometry;
use crate::format::item::RevokeItem;
use crate::format::journal::{JournalHeader, Tail, Totals, HEADER_BLOCKS, HEADER_CLEAN};
use crate::format::superblock::{RecoveryReport, Superblock};
use crate::journal::{Journal, Start};
use crate::memory::Buffer;
use crate::platform::Platform;
use crate::units::{BlockNo, Generation, Sequence, TransactionId, BLOCK_BYTES};

pub mod apply;
pub mod chain;
pub mod examine;
pub mod items;

use apply::Targets;
use chain::{Found, Next, Record, RingReader, Stop};
use items::{Item, Items};

/// What recovery leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the mount begins.
    pub start: Start,
    /// What was done; all zero when the journal was clean.
    pub report: RecoveryReport,
}

/// What the chain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Where the first record that was not used would stand: behind the last whole transaction.
    pub end: Next,
    /// Where the chain ended: behind the last record that verified.
    pub stopped_at: Next,
    /// Why.
    pub stop: Stop,
    /// Whole transactions.
    pub transactions: u64,
    /// Items of objects in them.
    pub items: u64,
    /// Records that verified but belong to no whole transaction.
    pub discarded_records: u64,
    /// The transaction behind the last whole one.
    pub next_transaction: TransactionId,
    /// The totals that the last whole one states.
    pub totals: Totals,
}

/// Reads the header pair: the newer of those that are whole.
#[inline(never)] // For the stack: it holds two headers at a time.
pub fn read_header(
    device: &dyn Device,
    platform: &dyn Platform,
    superblock: &Superblock,
    geometry: &Geometry,
) -> Result<JournalHeader> {
    let mut newest: Option<JournalHeader> = None;
    let mut failure = Error::ShutDown;
    for index in 0..HEADER_BLOCKS {
        let block = BlockNo(geometry.journal_start.0.saturating_add(index));
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        let read = device.read(block, &mut bytes);
        match read.and_then(|()| JournalHeader::read(platform, &bytes, geometry.filesystem_id, block)) {
            Ok(header) if newest.is_none_or(|other| header.counter > other.counter) => newest = Some(header),
            Ok(_) => {}
            Err(error) => failure = error,
        }
    }
    let header = newest.ok_or(failure)?;
    let ring_bytes = Journal::ring_bytes(geometry);
    let aligned = header.tail.position.0.is_multiple_of(u64::from(geometry.physical_block_bytes));
    if header.ring_bytes != ring_bytes || !aligned {
        return corrupt(Check::JournalHeader, geometry.journal_start, ring_bytes, header.ring_bytes);
    }
    if header.uuid != superblock.uuid {
        return corrupt(Check::JournalHeader, geometry.journal_start, 0, header.counter);
    }
    if header.totals.initialised_groups == 0 || header.totals.initialised_groups > geometry.group_count {
        let groups = u64::from(header.totals.initialised_groups);
        return corrupt(
            Check::JournalHeader,
            geometry.journal_start,
            u64::from(geometry.group_count),
            groups,
        );
    }
    Ok(header)
}

/// Recovers the filesystem, so that it can be mounted for writing.
pub fn recover(
    device: &dyn Device,
    platform: &dyn Platform,
    superblock: &Superblock,
    geometry: &Geometry,
) -> Result<Recovered> {
    let header = read_header(device, platform, superblock, geometry)?;
    if header.flags & HEADER_CLEAN != 0 {
        let start =
            start_at(&header.tail, header.newest_generation, header.next_transaction, header.totals, &header);
        return Ok(Recovered { start, report: no_report() });
    }
    let mut reader = RingReader::try_new(device, platform, geometry, superblock.uuid)?;
    redo(device, platform, geometry, &header, &mut reader)
}

/// Where a mount begins that leaves a journal alone which is not clean, and so must never write.
pub fn without(header: &JournalHeader) -> Recovered {
    let start =
        start_at(&header.tail, header.newest_generation, header.next_transaction, header.totals, header);
    Recovered { start, report: no_report() }
}

/// Everything that was known durable must be there: by the header's word, and by that of a later record. If not, a mount refuses:
/// [`Check::JournalDamage`], with the first sequence that is missing and the one that was known durable.
pub fn check_damage(reader: &mut RingReader<'_>, header: &JournalHeader, scan: &Scan) -> Result {
    let missing = scan.end.tail.sequence;
    let at = reader.block_of(scan.stopped_at.tail.position);
    if header.stable_sequence >= missing {
        return corrupt(Check::JournalDamage, at, missing.0, header.stable_sequence.0);
    }
    if let Some(stable) = reader.find_damage(&scan.stopped_at, header.tail.position)? {
        return corrupt(Check::JournalDamage, at, scan.stopped_at.tail.sequence.0, stable.0);
    }
    Ok(())
}

/// Recovers from a header that is not clean.
#[inline(never)] // For the stack: it has large values of its own.
fn redo(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    header: &JournalHeader,
    reader: &mut RingReader<'_>,
) -> Result<Recovered> {
    let began_ns = platform.now_ns();
    let scan = scan(reader, header, geometry, &mut |_| Ok(()))?;
    check_damage(reader, header, &scan)?;
    bring_home(device, platform, geometry, header, &scan, reader)?;
    let newest = scan.stopped_at.tail.generation.max(header.newest_generation);
    let start = start_at(&scan.end.tail, newest, scan.next_transaction, scan.totals, header);
    write_clean_header(device, platform, geometry, header, &start)?;
    Ok(Recovered {
        start: Start { header_counter: start.header_counter.saturating_add(1), ..start },
        report: RecoveryReport {
            time_ns: began_ns,
            duration_ns: platform.now_ns().saturating_sub(began_ns),
            first_sequence: header.tail.sequence,
            end_sequence: scan.end.tail.sequence,
            transactions: scan.transactions,
            items: scan.items,
            discarded_records: scan.discarded_records,
            orphans: scan.totals.orphans,
            stop: scan.stop as u32,
        },
    })
}

/// Replays what was scanned, verifies it, and writes it home, durably.
#[inline(never)] // For the stack: the targets are large, and are not needed any more.
fn bring_home(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    header: &JournalHeader,
    scan: &Scan,
    reader: &mut RingReader<'_>,
) -> Result {
    let mut targets = Targets::new(device, platform, geometry);
    let last = replay_and_verify(reader, header, scan, geometry, &mut targets)?;
    targets.write_home(last)?;
    device.flush()
}

/// Replays in memory what was scanned, and verifies what comes of it; the newest record that counts.
fn replay_and_verify(
    reader: &mut RingReader<'_>,
    header: &JournalHeader,
    scan: &Scan,
    geometry: &Geometry,
    targets: &mut Targets<'_>,
) -> Result<Sequence> {
    replay(reader, header, scan, geometry, targets)?;
    let last = Sequence(scan.end.tail.sequence.0.saturating_sub(1));
    targets.finish(last)?;
    Ok(last)
}

/// A mount begins two generations later: a wrap that was lost may have used the next one.
fn start_at(
    tail: &Tail,
    newest: Generation,
    next_transaction: TransactionId,
    totals: Totals,
    header: &JournalHeader,
) -> Start {
    let generation = newest.next().next();
    Start { tail: Tail { generation, ..*tail }, next_transaction, totals, header_counter: header.counter }
}

const fn no_report() -> RecoveryReport {
    RecoveryReport {
        time_ns: 0,
        duration_ns: 0,
        first_sequence: Sequence(0),
        end_sequence: Sequence(0),
        transactions: 0,
        items: 0,
        discarded_records: 0,
        orphans: 0,
        stop: Stop::Clean as u32,
    }
}

#[inline(never)] // For the stack: it makes another header.
fn write_clean_header(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    old: &JournalHeader,
    start: &Start,
) -> Result {
    let header = JournalHeader {
        counter: old.counter.saturating_add(1),
        flags: HEADER_CLEAN,
        newest_generation: start.tail.generation,
        tail: start.tail,
        next_transaction: start.next_transaction,
        totals: start.totals,
        stable_sequence: Sequence(start.tail.sequence.0.saturating_sub(1)),
        ..*old
    };
    let block = JournalHeader::next_block(geometry.journal_start, header.counter);
    let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
    header.write(platform, &mut bytes, geometry.filesystem_id, block)?;
    device.write_durably(block, &bytes)
}

/// Follows the chain from the header's tail, and checks every record and item. `visit` sees each record that verifies; its items
/// are the visitor's to read again.
pub fn scan(
    reader: &mut RingReader<'_>,
    header: &JournalHeader,
    geometry: &Geometry,
    visit: &mut dyn FnMut(&Record) -> Result,
) -> Result<Scan> {
    let start = Next { tail: header.tail };
    let mut scan = Scan {
        end: start,
        stopped_at: start,
        stop: Stop::End,
        transactions: 0,
        items: 0,
        discarded_records: 0,
        next_transaction: header.next_transaction,
        totals: header.totals,
    };
    scan.follow(reader, geometry, visit)?;
    Ok(scan)
}

impl Scan {
    /// Goes on to the end of the chain.
    #[inline(never)] // For the stack: records are large, and so is what is returned in the end.
    fn follow(
        &mut self,
        reader: &mut RingReader<'_>,
        geometry: &Geometry,
        visit: &mut dyn FnMut(&Record) -> Result,
    ) -> Result {
        let mut open = OpenTransaction::default();
        let mut passed = 0_u64;
        loop {
            let record = match reader.read(&self.stopped_at)? {
                Found::Record(record) => record,
                Found::Stop(stop) => {
                    self.stop = stop;
                    return Ok(());
                }
            };
            // A chain longer than its ring would be a ring of records that all follow one another.
            passed = passed.saturating_add(u64::from(geometry.physical_block_bytes));
            if passed > reader.ring_bytes() {
                let at = reader.block_of(record.position);
                return corrupt(Check::JournalItem, at, reader.ring_bytes(), passed);
            }
            visit(&record)?;
            self.add(&record, &mut open, reader, geometry)?;
        }
    }

    /// Takes the next record of the chain, and checks its items.
    #[inline(never)] // For the stack: items are large.
    fn add(
        &mut self,
        record: &Record,
        open: &mut OpenTransaction,
        reader: &RingReader<'_>,
        geometry: &Geometry,
    ) -> Result {
        self.stopped_at = reader.next_after(record);
        self.discarded_records = self.discarded_records.saturating_add(1);
        if record.is_wrap() {
            return Ok(());
        }
        open.add(record, self, reader)?;
        open.count_items(record, reader, geometry)?;
        if record.is_last() {
            open.check_complete(record, reader.block_of(record.position))?;
            self.end = self.stopped_at;
            self.transactions = self.transactions.saturating_add(1);
            self.items = self.items.saturating_add(open.items);
            self.discarded_records = 0;
            self.next_transaction = record.header.transaction.next();
            self.totals = open.totals.unwrap_or(self.totals);
            *open = OpenTransaction::default();
        }
        Ok(())
    }
}

/// The transaction whose fragments are being read.
#[derive(Default)]
struct OpenTransaction {
    transaction: Option<TransactionId>,
    fragments: u16,
    items: u64,
    totals: Option<Totals>,
}

impl OpenTransaction {
    fn add(&mut self, record: &Record, scan: &Scan, reader: &RingReader<'_>) -> Result {
        let at = reader.block_of(record.position);
        let (found, expected) =
            (record.header.transaction, self.transaction.unwrap_or(scan.next_transaction));
        // The tail may lie before what the header counts from, so the first one may have an older number, but no newer one.
        let is_first = scan.transactions == 0 && self.transaction.is_none();
        if found > expected || (found < expected && !is_first) {
            return corrupt(Check::JournalItem, at, expected.0, found.0);
        }
        self.transaction = Some(found);
        if record.header.fragment != self.fragments || record.header.fragment >= record.header.fragments {
            return corrupt(
                Check::JournalItem,
                at,
                u64::from(self.fragments),
                u64::from(record.header.fragment),
            );
        }
        self.fragments = self.fragments.saturating_add(1);
        Ok(())
    }

    /// Checks the record's items and counts those of objects.
    fn count_items(&mut self, record: &Record, reader: &RingReader<'_>, geometry: &Geometry) -> Result {
        let mut items = Items::new(reader.payload(record)?, reader.block_of(record.position));
        while let Some(item) = items.next(geometry)? {
            match item {
                Item::Totals(totals) => self.totals = Some(totals),
                Item::Revoke(_) | Item::Operation { .. } | Item::Note(_) | Item::Skipped => {}
                _ => self.items = self.items.saturating_add(1),
            }
        }
        Ok(())
    }

    fn check_complete(&self, record: &Record, at: BlockNo) -> Result {
        if self.fragments != record.header.fragments || self.totals.is_none() {
            return corrupt(
                Check::JournalItem,
                at,
                u64::from(record.header.fragments),
                u64::from(self.fragments),
            );
        }
        Ok(())
    }
}

/// Applies every whole transaction, in memory: revokes first, then items in order.
pub fn replay(
    reader: &mut RingReader<'_>,
    header: &JournalHeader,
    scan: &Scan,
    geometry: &Geometry,
    targets: &mut Targets<'_>,
) -> Result {
    each_item(reader, header, scan, geometry, &mut |item, transaction| {
        if let Item::Revoke(RevokeItem { start, blocks }) = item {
            for block in start.0..start.0.saturating_add(blocks) {
                targets.revoke(BlockNo(block), transaction)?;
            }
        }
        Ok(())
    })?;
    each_item(reader, header, scan, geometry, &mut |item, transaction| {
        targets.apply(item, transaction)?;
        Ok(())
    })
}

#[inline(never)] // For the stack: records and items are large.
fn each_item(
    reader: &mut RingReader<'_>,
    header: &JournalHeader,
    scan: &Scan,
    geometry: &Geometry,
    visit: &mut dyn FnMut(Item<'_>, TransactionId) -> Result,
) -> Result {
    let mut next = Next { tail: header.tail };
    while next != scan.end {
        let Found::Record(record) = reader.read(&next)? else {
            // It verified a moment ago.
            return Err(Error::Io(reader.block_of(next.tail.position)));
        };
        let mut items = Items::new(reader.payload(&record)?, reader.block_of(record.position));
        while let Some(item) = items.next(geometry)? {
            visit(item, record.header.transaction)?;
        }
        next = reader.next_after(&record);
    }
    Ok(())
}
