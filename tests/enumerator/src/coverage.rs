// SPDX-License-Identifier: GPL-2.0

//! What the enumeration has met: actions, kinds of items, branches of replay, wraps, fragments.

use crate::disk::Event;
use crate::judge::Seen;
use crate::run::{self, Record};
use crate::workload::{self, Kind, Workload};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::item::{BITMAP_FRESH, BITMAP_WHOLE, BLOCK_FRESH};
use cairnfs_core::format::journal::{RecordHeader, RECORD_MAGIC, RECORD_WRAP};
use cairnfs_core::journal::replay::items::{Item, Items};
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use std::collections::{BTreeMap, BTreeSet};

/// The table.
#[derive(Default)]
pub struct Coverage {
    /// States that were built.
    pub states: u64,
    /// Workloads.
    pub workloads: u64,
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
    /// What judging met.
    pub seen: Seen,
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
        let items = ITEMS.iter().filter(|name| !self.items.contains_key(*name)).map(ToString::to_string);
        actions.chain(items).collect()
    }

    /// The table, for people.
    pub fn print(&self, distinct: usize) {
        println!("actions:");
        for (kind, count) in &self.done {
            println!("  {:<24}{count:>10}", format!("{kind:?}"));
        }
        println!("items in {} records:", self.records);
        for (name, count) in &self.items {
            println!("  {name:<24}{count:>10}");
        }
        println!("replay:");
        for (stop, count) in &self.seen.stops {
            println!("  {:<24}{count:>10}", format!("chain ended: {stop}"));
        }
        let rows = [
            ("with transactions", self.seen.replaying),
            ("with records discarded", self.seen.discarding),
            ("with orphans", self.seen.orphans),
            ("cut and repeated", self.seen.recovery_cuts),
            ("worked on afterwards", self.seen.gone_on),
            ("transactions in fragments", self.fragmented),
            ("fragments at most", self.fragments_max.into()),
            ("places of wrap records", self.wrap_bytes.len() as u64),
            ("records ending the ring", self.exact_ends),
            ("first records' places", self.heads.len() as u64),
            ("workloads", self.workloads),
            ("states", self.states),
            ("distinct states", distinct as u64),
        ];
        for (name, count) in rows {
            println!("  {name:<24}{count:>10}");
        }
    }
}
