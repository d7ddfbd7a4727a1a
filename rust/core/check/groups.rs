// SPDX-License-Identifier: GPL-2.0

//! Headers and bitmaps of the initialised groups, each by itself; what they are against is `bitmaps`.
//!
//! The header's mark says how much of the inode table can be looked at. When the header is broken, the inode bitmap tells how much that
//! must be at least.

use super::claims::GroupState;
use super::{Checker, Finding, Phase, Severity};
use crate::bitmap;
use crate::error::{Check, Result};
use crate::format::group::{BitmapKind, BITMAP_BITS};
use crate::journal::object::{BitmapKey, GroupObject};
use crate::space::load;
use crate::units::{GroupNo, InodeNo};

const NONE: InodeNo = InodeNo(0);
const BYTE_BITS: u32 = u8::BITS;

impl Checker<'_> {
    /// Every initialised group.
    pub(super) fn check_groups(&mut self) -> Result {
        self.summary.initialised_groups = self.initialised_groups;
        for group in 0..self.initialised_groups {
            self.check_group(GroupNo(group))?;
            self.advance(
                Phase::Groups,
                u64::from(group).saturating_add(1),
                u64::from(self.initialised_groups),
            );
        }
        self.count_implied();
        Ok(())
    }

    fn check_group(&mut self, group: GroupNo) -> Result {
        let geometry = self.subject.geometry;
        let bytes = self.reader.read_raw(geometry.header_of(group))?;
        let mut header = match load::decode_header(self.subject.platform, geometry, group, &bytes) {
            Ok(header) => Some(header),
            Err(error) => {
                self.note(error, Severity::Damage, NONE)?;
                None
            }
        };
        let mut last_used = 0;
        for key in load::bitmap_keys(geometry, group) {
            last_used = self.check_bitmap_block(key, header.as_mut())?.max(last_used);
        }
        let table_mark = header.as_ref().map_or(last_used, |header| header.table_mark);
        self.groups.insert(group, GroupState::new(table_mark)?)?;
        Ok(())
    }

    /// One bitmap block; of an inode bitmap returns the slots up to the last one that is marked used, in whole table blocks.
    fn check_bitmap_block(&mut self, key: BitmapKey, header: Option<&mut GroupObject>) -> Result<u32> {
        let geometry = self.subject.geometry;
        let block = geometry.bitmap_of(key.group, key.kind, key.index);
        let bits = self.reader.read_raw(block)?;
        let in_use = geometry.bits_of(key.group, key.kind, key.index);
        let free = in_use.saturating_sub(bitmap::count_ones(&bits, 0, in_use));
        let total = match key.kind {
            BitmapKind::Blocks => &mut self.summary.free_blocks,
            BitmapKind::Inodes => &mut self.summary.free_inodes,
        };
        *total = total.saturating_add(u64::from(free));
        if let Err(error) = bitmap::verify(&bits, geometry, key.group, key.kind, key.index) {
            self.note(error, Severity::Wrong, NONE)?;
        }
        let mut mark = None;
        if let Some(header) = header {
            let entry = *header.entry_mut(key.kind, key.index)?;
            mark = Some(header.table_mark);
            let crc = self.subject.platform.crc32c(0, &bits);
            if crc != entry.crc {
                let (check, severity, inode) = (Check::Crc, Severity::Damage, NONE);
                let (expected, found) = (u64::from(entry.crc), u64::from(crc));
                self.emit(&Finding { check, severity, inode, block, expected, found })?;
            }
            if free != entry.free {
                let (check, severity, inode) = (Check::FreeCount, Severity::Wrong, NONE);
                let (expected, found) = (u64::from(free), u64::from(entry.free));
                let block = geometry.header_of(key.group);
                self.emit(&Finding { check, severity, inode, block, expected, found })?;
            }
        }
        if key.kind == BitmapKind::Blocks {
            return Ok(0);
        }
        if let Some(mark) = mark {
            self.check_above_mark(key, &bits, in_use, mark)?;
        }
        let bytes = bits.get(..(in_use / BYTE_BITS) as usize).unwrap_or(&[]);
        let last = bytes.iter().rposition(|byte| *byte != 0);
        let before = key.index.saturating_mul(BITMAP_BITS);
        Ok(last.map_or(0, |last| {
            before.saturating_add((last as u32).saturating_add(1).saturating_mul(BYTE_BITS))
        }))
    }

    /// Slots above the mark were never written: none may be marked used.
    fn check_above_mark(&mut self, key: BitmapKey, bits: &[u8], in_use: u32, mark: u32) -> Result {
        let before = key.index.saturating_mul(BITMAP_BITS);
        let Some(bit) = bitmap::next_set(bits, mark.saturating_sub(before)).filter(|bit| *bit < in_use)
        else {
            return Ok(());
        };
        let slot = before.saturating_add(bit);
        self.emit(&Finding {
            check: Check::TableMark,
            severity: Severity::Damage,
            inode: self.subject.geometry.inode_at(key.group, slot),
            block: self.subject.geometry.bitmap_of(key.group, key.kind, key.index),
            expected: u64::from(mark),
            found: u64::from(slot),
        })
    }

    /// What is free in the groups that are not initialised.
    fn count_implied(&mut self) {
        let geometry = self.subject.geometry;
        let Some(groups) =
            geometry.group_count.checked_sub(self.initialised_groups).filter(|groups| *groups > 0)
        else {
            return;
        };
        let metadata = geometry.metadata_blocks();
        let last = geometry.blocks_of(GroupNo(geometry.group_count.saturating_sub(1)));
        let full = u64::from(groups.saturating_sub(1))
            .saturating_mul(u64::from(geometry.group_blocks.saturating_sub(metadata)));
        let free = full.saturating_add(u64::from(last.saturating_sub(metadata)));
        let inodes = u64::from(groups).saturating_mul(u64::from(geometry.inodes_per_group));
        self.summary.free_blocks = self.summary.free_blocks.saturating_add(free);
        self.summary.free_inodes = self.summary.free_inodes.saturating_add(inodes);
    }
}
