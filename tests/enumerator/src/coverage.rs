// SPDX-License-Identifier: GPL-2.0

//! What the enumeration has met: actions, kinds of items, branches of replay, wraps, fragments. What must occur and has not
//! is a failure of the tier: an enumeration that has quietly lost a case proves nothing of it.

use crate::checker;
use crate::disk::{Event, Image};
use crate::judge::Seen;
use crate::run::{self, Record};
use crate::scripted;
use crate::survey::Finding;
use crate::workload::{self, Kind, Workload};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::item::{BITMAP_FRESH, BITMAP_WHOLE, BLOCK_FRESH};
use cairnfs_core::format::journal::{RecordHeader, JOURNAL_BLOCKS_MIN, RECORD_MAGIC, RECORD_WRAP};
use cairnfs_core::journal::replay::items::{Item, Items};
use cairnfs_core::units::{BlockNo, TransactionId, BLOCK_BYTES};
use std::collections::{BTreeMap, BTreeSet};

mod replayed;

use replayed::{Replayed, BRANCHES};

/// One state in so many, by its hash, has its chain followed once more, to see which ways replay goes.
const FOLLOW_ONE_IN: u128 = 2;

/// The table.
#[derive(Default)]
pub struct Coverage {
    /// States that were built.
    pub states: u64,
    /// Workloads.
    pub workloads: u64,
    /// Moments of a cut, each with one state at least.
    pub cuts: u64,
    /// Actions that did something.
    pub done: BTreeMap<Kind, u64>,
    /// Items of records that were written.
    pub items: BTreeMap<&'static str, u64>,
    /// Records.
    pub records: u64,
    /// The most fragments of a transaction.
    pub fragments_max: u16,
    /// Transactions of more than one.
    pub fragmented: u64,
    /// Bytes that were left of the ring where a wrap record stood.
    pub wrap_bytes: BTreeSet<u64>,
    /// Records that ended exactly with the ring.
    pub exact_ends: u64,
    /// Where first records stood, in sectors.
    pub heads: BTreeSet<u64>,
    /// Workloads in the smallest journal that there is.
    pub smallest_journals: u64,
    /// Where first commits met the end of the ring.
    pub ends: Ends,
    /// States that core's checker has seen.
    pub checked: u64,
    /// Ways of replay.
    pub replayed: Replayed,
    /// What judging met.
    pub seen: Seen,
}

/// How much of the ring was left where a workload's first commit began, in physical blocks of each size. To be complete is to
/// have met the end with every length from one block to the commit's own.
#[derive(Default)]
pub struct Ends {
    met: BTreeMap<u32, BTreeSet<u64>>,
    /// The longest such commit that ended before the end, in blocks.
    commit_blocks: BTreeMap<u32, u64>,
}

impl Ends {
    fn add(&mut self, physical_block_bytes: u32, left_bytes: u64, commit_bytes: u64, has_met: bool) {
        let block_bytes = u64::from(physical_block_bytes);
        if has_met {
            self.met.entry(physical_block_bytes).or_default().insert(left_bytes / block_bytes);
        } else {
            let longest = self.commit_blocks.entry(physical_block_bytes).or_default();
            *longest = (*longest).max(commit_bytes / block_bytes);
        }
    }

    /// Offsets that were met, of how many.
    pub fn count(&self) -> (u64, u64) {
        let of = |size: &u32, longest: u64| {
            self.met.get(size).map_or(0, |met| met.range(1..=longest).count() as u64)
        };
        let met = self.commit_blocks.iter().map(|(size, longest)| of(size, *longest)).sum();
        (met, self.commit_blocks.values().sum())
    }

    fn is_complete(&self) -> bool {
        let (met, all) = self.count();
        met == all && self.commit_blocks.len() == scripted::END_SIZES
    }
}

/// Kinds of items that must occur.
pub const ITEMS: [&str; 13] = [
    "block",
    "block, fresh",
    "inode",
    "bitmap of blocks",
    "bitmap of inodes",
    "bitmap, fresh",
    "revoke",
    "orphan",
    "group",
    "table zero",
    "totals",
    "operation",
    "bitmap, whole",
];

fn name_of(item: &Item<'_>) -> Option<&'static str> {
    Some(match item {
        Item::Block { item, .. } if item.flags & BLOCK_FRESH != 0 => "block, fresh",
        Item::Block { .. } => "block",
        Item::Inode { .. } => "inode",
        Item::Bitmap { item, .. } if item.flags & BITMAP_WHOLE != 0 => "bitmap, whole",
        Item::Bitmap { item, .. } if item.flags & BITMAP_FRESH != 0 => "bitmap, fresh",
        Item::Bitmap { item, .. } if item.bitmap_kind == 0 => "bitmap of blocks",
        Item::Bitmap { .. } => "bitmap of inodes",
        Item::Revoke(_) => "revoke",
        Item::Orphan(_) => "orphan",
        Item::Group(_) => "group",
        Item::TableZero(_) => "table zero",
        Item::Totals(_) => "totals",
        Item::Operation { .. } => "operation",
        Item::Note(_) | Item::Skipped => return None,
    })
}

impl Coverage {
    /// Adds what a run did and wrote.
    pub fn record(&mut self, workload: &Workload, record: &Record) {
        self.workloads += 1;
        self.smallest_journals += u64::from(run::geometry(workload).journal_blocks == JOURNAL_BLOCKS_MIN);
        self.heads.insert(workload.head_before_end * u64::from(workload.physical_block_bytes) / 512);
        for (kind, count) in &record.done {
            *self.done.entry(*kind).or_default() += count;
        }
        let geometry = run::geometry(workload);
        let start = (geometry.journal_start.0 + 2) * BLOCK_BYTES as u64;
        let end = (geometry.journal_start.0 + geometry.journal_blocks) * BLOCK_BYTES as u64;
        for event in &record.log {
            if let Event::Write(write) = event {
                if (start..end).contains(&write.start_byte) {
                    self.records_of(&geometry, &write.bytes, end - write.start_byte);
                }
            }
        }
        if scripted::meets_end(workload.seed) {
            self.first_commit(&geometry, record, start, end);
        }
    }

    /// Notes how the first commit lies to the end of the ring, which goes from byte `start` to `end` of the device.
    fn first_commit(&mut self, geometry: &Geometry, record: &Record, start: u64, end: u64) {
        let mut first: Option<(TransactionId, u64)> = None;
        let (mut bytes, mut has_met) = (0, false);
        for event in &record.log {
            let Event::Write(write) = event else { continue };
            if !(start..end).contains(&write.start_byte) {
                continue;
            }
            let Ok(header) = RecordHeader::decode(&write.bytes, 0) else { continue };
            let (transaction, began) = *first.get_or_insert((header.transaction, write.start_byte));
            if header.transaction == transaction {
                let length = write.bytes.len() as u64;
                bytes += length;
                has_met |= write.start_byte < began || write.start_byte + length == end;
            }
        }
        if let Some((_, began)) = first {
            self.ends.add(geometry.physical_block_bytes, end - began, bytes, has_met);
        }
    }

    /// Gives a state to core's checker; and of a share of states, looks which way their replay goes.
    pub fn examine(&mut self, image: &Image) -> Result<(), Finding> {
        if image.hash().is_multiple_of(FOLLOW_ONE_IN) {
            self.replayed.add(image).map_err(|error| format!("following the chain: {error:?}"))?;
        }
        self.checked += 1;
        checker::check(image)
    }

    fn records_of(&mut self, geometry: &Geometry, bytes: &[u8], to_end: u64) {
        let mut at = 0;
        while let Ok(header) = RecordHeader::decode(&bytes[at..], 0) {
            if header.magic != RECORD_MAGIC {
                return;
            }
            self.records += 1;
            let payload = &bytes[at + RecordHeader::SIZE..][..header.payload_bytes as usize];
            let mut items = Items::new(payload, BlockNo(0));
            while let Ok(Some(item)) = items.next(geometry) {
                if let Some(name) = name_of(&item) {
                    *self.items.entry(name).or_default() += 1;
                }
            }
            self.fragments_max = self.fragments_max.max(header.fragments);
            self.fragmented += u64::from(header.fragments > 1 && header.fragment == 0);
            let padded =
                RecordHeader::padded_bytes(header.payload_bytes.into(), geometry.physical_block_bytes);
            if header.flags & RECORD_WRAP != 0 {
                self.wrap_bytes.insert(to_end - at as u64);
            } else if at as u64 + padded == to_end {
                self.exact_ends += 1;
            }
            at += padded as usize;
            if at >= bytes.len() {
                return;
            }
        }
    }

    /// What should have occurred and has not.
    pub fn missing(&self) -> Vec<String> {
        let actions =
            workload::kinds().filter(|kind| !self.done.contains_key(kind)).map(|kind| format!("{kind:?}"));
        let written = ITEMS.iter().filter(|name| !self.items.contains_key(*name));
        let written = written.map(|name| format!("item {name} written"));
        let applied = ITEMS.iter().filter(|name| !self.replayed.items.contains_key(*name));
        let applied = applied.map(|name| format!("item {name} replayed"));
        let branches = BRANCHES.iter().filter(|name| !self.replayed.branches.contains_key(*name));
        let branches = branches.map(|name| format!("replay: {name}"));
        let (met, all) = self.ends.count();
        let facts = [
            ("replay: cut and repeated", self.seen.recovery_cuts > 0),
            ("replay: orphans are left", self.seen.orphans > 0),
            ("replay: worked on afterwards", self.seen.gone_on > 0),
            ("the smallest journal", self.smallest_journals > 0),
            ("a state for core's checker", self.checked > 0),
        ];
        let facts =
            facts.iter().filter(|(_, has_occurred)| !has_occurred).map(|(name, _)| (*name).to_owned());
        let ends = (!self.ends.is_complete()).then(|| format!("wraps: only {met} offsets of {all}"));
        actions.chain(written).chain(applied).chain(branches).chain(facts).chain(ends).collect()
    }

    /// The table, for people.
    pub fn print(&self, distinct: usize) {
        println!("actions:");
        for (kind, count) in &self.done {
            println!("  {:<44}{count:>10}", format!("{kind:?}"));
        }
        println!("items in {} records: {:>35}{:>10}", self.records, "written", "replayed");
        for (name, count) in &self.items {
            let replayed = self.replayed.items.get(name).unwrap_or(&0);
            println!("  {name:<44}{count:>10}{replayed:>10}");
        }
        println!("  not written by any mode yet: file data and digest, which replay refuses, and note, which it passes over");
        println!("replay, of one state in {FOLLOW_ONE_IN}:");
        for (branch, count) in &self.replayed.branches {
            println!("  {branch:<44}{count:>10}");
        }
        println!("replay, of all states:");
        for (stop, count) in &self.seen.stops {
            println!("  {:<44}{count:>10}", format!("chain ended: {stop}"));
        }
        let rows = [
            ("with transactions", self.seen.replaying),
            ("with records discarded", self.seen.discarding),
            ("with orphans", self.seen.orphans),
            ("cut and repeated", self.seen.recovery_cuts),
            ("worked on afterwards", self.seen.gone_on),
            ("given to core's checker", self.checked),
            ("transactions in fragments", self.fragmented),
            ("fragments at most", self.fragments_max.into()),
            ("places of wrap records", self.wrap_bytes.len() as u64),
            ("records ending the ring", self.exact_ends),
            ("first records' places", self.heads.len() as u64),
            ("workloads in the smallest journal", self.smallest_journals),
            ("workloads", self.workloads),
            ("cuts, one at each write", self.cuts),
            ("states", self.states),
            ("distinct states", distinct as u64),
        ];
        for (name, count) in rows {
            println!("  {name:<44}{count:>10}");
        }
        let (met, all) = self.ends.count();
        println!("wraps: {met} offsets of {all}");
    }
}
