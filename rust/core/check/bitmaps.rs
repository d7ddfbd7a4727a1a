// SPDX-License-Identifier: GPL-2.0

//! Bitmaps against what uses blocks and inodes, both ways; and the totals against the bitmaps.

use super::claims::unclaimed;
use super::{Checker, Finding, Phase, Severity};
use crate::bitmap;
use crate::error::{Check, Result};
use crate::format::group::{BitmapKind, BITMAP_BITS};
use crate::format::inode::FIRST_FREE;
use crate::format::superblock::{PRIMARY, STATE_MOUNTED};
use crate::journal::object::BitmapKey;
use crate::memory::Buffer;
use crate::space::load;
use crate::units::{BlockNo, GroupNo, InodeNo, BLOCK_BYTES};

const NONE: InodeNo = InodeNo(0);
const WORD_BYTES: usize = size_of::<u64>();

/// A run of bits that two bitmaps differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The first bit.
    pub(super) start: u32,
    /// How many.
    pub(super) bits: u32,
    /// Set in the first bitmap and clear in the second; else the other way round.
    pub(super) is_set: bool,
}

/// Shows the runs of bits in which `left` and `right` differ.
pub(super) fn differences(left: &[u8], right: &[u8], show: &mut dyn FnMut(Difference) -> Result) -> Result {
    let (left, _) = left.as_chunks::<WORD_BYTES>();
    let (right, _) = right.as_chunks::<WORD_BYTES>();
    let mut run: Option<Difference> = None;
    for (word, (left, right)) in (0..left.len() as u32).zip(left.iter().zip(right)) {
        let (left, right) = (u64::from_le_bytes(*left), u64::from_le_bytes(*right));
        let mut differing = left ^ right;
        while differing != 0 {
            let place = differing.trailing_zeros();
            differing &= differing.wrapping_sub(1);
            let bit = word.saturating_mul(u64::BITS).saturating_add(place);
            let is_set = left.wrapping_shr(place) & 1 == 1;
            match &mut run {
                Some(run) if run.is_set == is_set && run.start.saturating_add(run.bits) == bit => {
                    run.bits = run.bits.saturating_add(1);
                }
                other => {
                    if let Some(done) = other.replace(Difference { start: bit, bits: 1, is_set }) {
                        show(done)?;
                    }
                }
            }
        }
    }
    run.map_or(Ok(()), show)
}

impl Checker<'_> {
    /// Every bitmap of the initialised groups.
    pub(super) fn check_bitmaps(&mut self) -> Result {
        for group in (0..self.initialised_groups).map(GroupNo) {
            let claimed = match self.groups.get_mut(group).and_then(|state| state.claimed.take()) {
                Some(claimed) => claimed,
                None => unclaimed(self.subject.geometry, group)?,
            };
            for key in load::bitmap_keys(self.subject.geometry, group) {
                let bits =
                    self.reader.read_raw(self.subject.geometry.bitmap_of(group, key.kind, key.index))?;
                match key.kind {
                    BitmapKind::Blocks => self.check_block_bitmap(key, &bits, &claimed)?,
                    BitmapKind::Inodes => self.check_inode_bitmap(key, &bits)?,
                }
            }
            self.advance(
                Phase::Bitmaps,
                u64::from(group.0).saturating_add(1),
                u64::from(self.initialised_groups),
            );
        }
        Ok(())
    }

    fn check_block_bitmap(&mut self, key: BitmapKey, bits: &Buffer, claimed: &[u8]) -> Result {
        let geometry = self.subject.geometry;
        let start = (key.index as usize).saturating_mul(BLOCK_BYTES);
        let claimed = claimed.get(start..).and_then(|rest| rest.get(..BLOCK_BYTES)).unwrap_or(&[]);
        let before = key.index.saturating_mul(BITMAP_BITS);
        // The bits that are always set were looked at with the group.
        let fixed = geometry.metadata_blocks().saturating_sub(before);
        let in_use = geometry.bits_of(key.group, key.kind, key.index);
        let blocks_complete = self.blocks_complete;
        differences(bits, claimed, &mut |difference| {
            let start = difference.start.max(fixed);
            let end = difference.start.saturating_add(difference.bits).min(in_use);
            let Some(blocks) = end.checked_sub(start).filter(|blocks| *blocks > 0).map(u64::from) else {
                return Ok(());
            };
            let block = self.block_at(key.group, before.saturating_add(start));
            let (severity, expected, found) = match difference.is_set {
                true if !blocks_complete => return Ok(()),
                true => (Severity::Leak, 0, blocks),
                false => (Severity::Damage, blocks, 0),
            };
            self.emit(&Finding { check: Check::Bitmap, severity, inode: NONE, block, expected, found })
        })
    }

    /// Only below the mark: what is marked used above it was found with the group.
    fn check_inode_bitmap(&mut self, key: BitmapKey, bits: &Buffer) -> Result {
        let geometry = self.subject.geometry;
        let before = key.index.saturating_mul(BITMAP_BITS);
        let marks = self.groups.get(key.group).map_or(0, |state| state.slots.len() as u32);
        let end = marks.saturating_sub(before).min(geometry.bits_of(key.group, key.kind, key.index));
        for bit in 0..end {
            let number = geometry.inode_at(key.group, before.saturating_add(bit));
            let Some(slot) = self.slot(number).filter(|slot| number >= FIRST_FREE && !slot.is_broken())
            else {
                continue;
            };
            let (severity, expected, found) = match (bitmap::test(bits, bit), slot.is_free()) {
                (true, true) => (Severity::Leak, 0, 1),
                (false, false) => (Severity::Damage, 1, 0),
                _ => continue,
            };
            let block = geometry.bitmap_of(key.group, key.kind, key.index);
            self.emit(&Finding { check: Check::Bitmap, severity, inode: number, block, expected, found })?;
        }
        Ok(())
    }

    /// What the journal's header says, always; what the superblock does, after a clean unmount.
    pub(super) fn check_totals(&mut self) -> Result {
        let Some(totals) = self.totals else {
            return Ok(());
        };
        let counted = self.summary;
        let journal = self.subject.geometry.journal_start;
        self.check_total(journal, counted.free_blocks, totals.free_blocks)?;
        self.check_total(journal, counted.free_inodes, totals.free_inodes)?;
        self.check_total(journal, u64::from(counted.orphans), u64::from(totals.orphans))?;
        let superblock = self.subject.superblock;
        if self.options.after_crash || !self.pair_agrees || superblock.state & STATE_MOUNTED != 0 {
            return Ok(());
        }
        self.check_total(PRIMARY, counted.free_blocks, superblock.free_blocks)?;
        self.check_total(PRIMARY, counted.free_inodes, superblock.free_inodes)?;
        let groups = u64::from(superblock.initialised_groups);
        self.check_total(PRIMARY, u64::from(totals.initialised_groups), groups)
    }

    fn check_total(&mut self, block: BlockNo, expected: u64, found: u64) -> Result {
        if expected == found {
            return Ok(());
        }
        let (check, severity, inode) = (Check::Totals, Severity::Wrong, NONE);
        self.emit(&Finding { check, severity, inode, block, expected, found })
    }
}
