// SPDX-License-Identifier: GPL-2.0

//! Which ways replay went: found by following the chain of a state once more, before it is recovered.

use super::name_of;
use crate::disk::{Image, SimulatedDisk};
use crate::platform::RepeatablePlatform;
use cairnfs_core::device::Device;
use cairnfs_core::error::Result;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::journal::{JournalHeader, HEADER_BLOCKS, HEADER_CLEAN};
use cairnfs_core::journal::replay::chain::{Found, Next, Record, RingReader, Stop};
use cairnfs_core::journal::replay::items::{Item, Items};
use cairnfs_core::journal::replay::{self, Scan};
use cairnfs_core::platform::Platform;
use cairnfs_core::units::{BlockNo, Position, TransactionId, BLOCK_BYTES};
use std::collections::{BTreeMap, BTreeSet};

/// Branches that must occur.
pub(super) const BRANCHES: [&str; 13] = [
    CLEAN,
    END,
    TORN,
    FIRST_HEADER,
    SECOND_HEADER,
    NOTHING,
    WRAP,
    EXACT_END,
    FRAGMENTS,
    MANY_FRAGMENTS,
    DISCARDED,
    REVOKED,
    AGAIN,
];
const CLEAN: &str = "the header is clean";
const END: &str = "the chain ends where no record stands";
const TORN: &str = "the chain ends at a torn record";
const FIRST_HEADER: &str = "the first header is newer";
const SECOND_HEADER: &str = "the second header is newer";
const NOTHING: &str = "no whole transaction";
const WRAP: &str = "a wrap record is passed";
const EXACT_END: &str = "a record ends with the ring";
const FRAGMENTS: &str = "two fragments are joined";
const MANY_FRAGMENTS: &str = "more fragments are joined";
const DISCARDED: &str = "fragments without their end are discarded";
const REVOKED: &str = "a revoked block is passed over";
const AGAIN: &str = "an item of a block that was applied before";

/// The branches, and the kinds of items that were applied.
#[derive(Default)]
pub struct Replayed {
    /// States that were looked at.
    pub states: u64,
    /// Of them, how many went each way.
    pub branches: BTreeMap<&'static str, u64>,
    /// Items applied.
    pub items: BTreeMap<&'static str, u64>,
}

struct Chain {
    records: Vec<Record>,
    scan: Scan,
}

impl Replayed {
    /// Looks at a state.
    pub fn add(&mut self, image: &Image) -> Result {
        let disk = SimulatedDisk::new(image.clone(), false, true);
        let platform = RepeatablePlatform::new(96);
        let superblock = cairnfs_volume::read_superblock(&disk, &platform)?;
        let geometry = Geometry::new(&superblock, disk.blocks())?;
        let mut met = BTreeSet::new();
        Self::headers(&disk, &platform, &geometry, &mut met)?;
        let header = replay::read_header(&disk, &platform, &superblock, &geometry)?;
        if header.flags & HEADER_CLEAN != 0 {
            met.insert(CLEAN);
        } else {
            let mut reader = RingReader::try_new(&disk, &platform, &geometry, superblock.uuid)?;
            let mut records = Vec::new();
            let scan = replay::scan(&mut reader, &header, &geometry, &mut |record| {
                records.push(*record);
                Ok(())
            })?;
            let chain = Chain { records, scan };
            Self::chain(&chain, &mut met);
            self.items(&mut reader, &geometry, &Next { tail: header.tail }, &chain, &mut met)?;
        }
        self.states += 1;
        for branch in met {
            *self.branches.entry(branch).or_default() += 1;
        }
        Ok(())
    }

    fn headers(
        disk: &dyn Device,
        platform: &dyn Platform,
        geometry: &Geometry,
        met: &mut BTreeSet<&'static str>,
    ) -> Result {
        let mut bytes = vec![0; BLOCK_BYTES];
        let mut counters = Vec::new();
        for index in 0..HEADER_BLOCKS {
            let block = BlockNo(geometry.journal_start.0 + index);
            disk.read(block, &mut bytes)?;
            let header = JournalHeader::read(platform, &bytes, geometry.filesystem_id, block);
            counters.push(header.ok().map(|header| header.counter));
        }
        met.insert(if counters[0] > counters[1] { FIRST_HEADER } else { SECOND_HEADER });
        Ok(())
    }

    fn chain(chain: &Chain, met: &mut BTreeSet<&'static str>) {
        met.insert(if chain.scan.stop == Stop::Torn { TORN } else { END });
        if chain.scan.transactions == 0 {
            met.insert(NOTHING);
        }
        for (index, record) in chain.records.iter().enumerate() {
            let next = chain
                .records
                .get(index + 1)
                .map_or(chain.scan.stopped_at.tail.position, |next| next.position);
            if record.is_wrap() {
                met.insert(WRAP);
            } else if next == Position(0) {
                met.insert(EXACT_END);
            }
        }
        let is_used = |record: &&Record| record.header.transaction < chain.scan.next_transaction;
        for last in chain.records.iter().filter(|record| record.is_last()).filter(is_used) {
            match last.header.fragments {
                0 | 1 => {}
                2 => _ = met.insert(FRAGMENTS),
                _ => _ = met.insert(MANY_FRAGMENTS),
            }
        }
        if chain.scan.discarded_records > 0 {
            met.insert(DISCARDED);
        }
    }

    /// Reads the items of all whole transactions, as replay does it.
    fn items(
        &mut self,
        reader: &mut RingReader<'_>,
        geometry: &Geometry,
        start: &Next,
        chain: &Chain,
        met: &mut BTreeSet<&'static str>,
    ) -> Result {
        let mut revoked: BTreeMap<u64, TransactionId> = BTreeMap::new();
        let mut seen = Vec::new();
        let mut next = *start;
        while next != chain.scan.end {
            let Found::Record(record) = reader.read(&next)? else { break };
            let mut items = Items::new(reader.payload(&record)?, BlockNo(0));
            while let Some(item) = items.next(geometry)? {
                if let Some(name) = name_of(&item) {
                    *self.items.entry(name).or_default() += 1;
                }
                match item {
                    Item::Revoke(item) => {
                        let blocks = item.start.0..item.start.0 + item.blocks;
                        revoked.extend(blocks.map(|block| (block, record.header.transaction)));
                    }
                    Item::Block { item, .. } => seen.push((item.block.0, record.header.transaction)),
                    _ => {}
                }
            }
            next = reader.next_after(&record);
        }
        let mut applied = BTreeSet::new();
        for (block, transaction) in seen {
            if revoked.get(&block).is_some_and(|freed_by| *freed_by > transaction) {
                met.insert(REVOKED);
            } else if !applied.insert(block) {
                met.insert(AGAIN);
            }
        }
        Ok(())
    }
}
