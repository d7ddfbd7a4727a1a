// SPDX-License-Identifier: GPL-2.0

//! What is known of each group's blocks and inodes while the check goes on, and which blocks an inode claims.

use super::Checker;
use crate::bitmap;
use crate::blocks::ReadBlocks;
use crate::directory;
use crate::error::{Error, Result};
use crate::extent_map;
use crate::format::extent::Extent;
use crate::format::group::{BitmapKind, Geometry};
use crate::format::inode::MapKind;
use crate::inode::Inode;
use crate::memory::{Buffer, List};
use crate::symlink;
use crate::units::{BlockNo, BlockRun, GroupNo, InodeNo, BLOCK_BYTES};

/// What is known of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The links that it says it has.
    pub(super) declared: u32,
    /// The names that were found for it; of no use for directories.
    pub(super) names: u32,
    /// Its type, as in `format::inode::file_type`; [`Slot::FREE_TYPE`] or [`Slot::BROKEN`].
    pub(super) file_type: u8,
}

impl Slot {
    /// Nothing is there.
    pub(super) const FREE_TYPE: u8 = 0;
    /// Something is there that did not verify: no more is known.
    pub(super) const BROKEN: u8 = u8::MAX;
    /// A free slot.
    pub(super) const FREE: Self = Self { declared: 0, names: 0, file_type: Self::FREE_TYPE };

    pub(super) const fn is_free(&self) -> bool {
        self.file_type == Self::FREE_TYPE
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.file_type == Self::BROKEN
    }
}

/// What is known of an initialised group.
pub(super) struct GroupState {
    /// The inodes below the table's mark.
    pub(super) slots: List<Slot>,
    /// The group's block bitmap as the claims have it; none as long as there is no claim.
    pub(super) claimed: Option<Buffer>,
    /// Bits of blocks that were claimed more than once.
    pub(super) contested: Option<Buffer>,
}

impl GroupState {
    pub(super) fn new(table_mark: u32) -> Result<Self> {
        let slots = List::filled(table_mark as usize, Slot::FREE)?;
        Ok(Self { slots, claimed: None, contested: None })
    }
}

/// The block bitmap of a group in which nothing is claimed.
pub(super) fn unclaimed(geometry: &Geometry, group: GroupNo) -> Result<Buffer> {
    let bitmaps = geometry.block_bitmaps();
    let mut bits = Buffer::zeroed((bitmaps as usize).saturating_mul(BLOCK_BYTES))?;
    for (index, block) in (0..bitmaps).zip(bits.chunks_exact_mut(BLOCK_BYTES)) {
        bitmap::implied(block, geometry, group, BitmapKind::Blocks, index);
    }
    Ok(bits)
}

/// Takes each run of blocks that an inode claims, and the extent if it is one.
pub(super) type RunVisitor<'a> = dyn FnMut(BlockRun, Option<&Extent>) -> Result + 'a;

/// Shows every run of blocks that an inode claims. A contradiction does not end it: what can still be reached is shown, and the first
/// one is returned.
pub(super) fn each_run(blocks: &dyn ReadBlocks, inode: &Inode, visit: &mut RunVisitor<'_>) -> Result {
    let one = |start: BlockNo| BlockRun { start, blocks: 1 };
    let attributes = inode.core.attribute_block;
    if attributes.0 != 0 {
        visit(one(attributes), None)?;
    }
    match inode.map_kind() {
        MapKind::Extents => {
            let nodes = extent_map::visit_blocks(blocks, inode, &mut |block, _| visit(one(block), None));
            go_on(nodes)?;
            let extents = extent_map::visit(blocks, inode, &mut |extent| visit(extent.run(), Some(extent)));
            nodes.and(extents)
        }
        MapKind::DirectoryTree => {
            directory::visit_blocks(blocks, inode, &mut |_, block, _| visit(one(block), None))
        }
        MapKind::SymlinkBlock => match symlink::target_block(inode)? {
            Some(block) => visit(one(block), None),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether to go on after `outcome`: it is good, or a contradiction.
fn go_on(outcome: Result) -> Result {
    match outcome {
        Ok(()) | Err(Error::Corrupt(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Checker<'_> {
    /// Notes a claim. Blocks that are claimed already become contested.
    pub(super) fn claim(&mut self, run: BlockRun) -> Result {
        let geometry = self.subject.geometry;
        let Some((group, start)) =
            geometry.locate_block(run.start).filter(|_| geometry.is_data_run(run.start, run.blocks))
        else {
            return Ok(());
        };
        let Some(state) = self.groups.get_mut(group) else {
            self.stray = self.stray.or(Some(run.start));
            return Ok(());
        };
        let claimed = match &mut state.claimed {
            Some(claimed) => claimed,
            none => none.insert(unclaimed(geometry, group)?),
        };
        let blocks = run.blocks as u32;
        let before = bitmap::count_ones(claimed, start, blocks);
        if before > 0 {
            self.has_shared = true;
            let contested = match &mut state.contested {
                Some(contested) => contested,
                none => none.insert(Buffer::zeroed(claimed.len())?),
            };
            mark_common(claimed, contested, start, blocks);
        }
        let unchanged = bitmap::set_range(claimed, start, blocks);
        let new = u64::from(blocks.saturating_sub(unchanged));
        self.summary.claimed_blocks = self.summary.claimed_blocks.saturating_add(new);
        Ok(())
    }

    /// What is known of an inode; none above the marks.
    pub(super) fn slot(&self, number: InodeNo) -> Option<Slot> {
        let place = self.subject.geometry.locate_inode(number).ok()?;
        self.groups.get(place.group)?.slots.get(place.index as usize).copied()
    }

    /// The same, to be changed.
    pub(super) fn slot_mut(&mut self, number: InodeNo) -> Option<&mut Slot> {
        let place = self.subject.geometry.locate_inode(number).ok()?;
        self.groups.get_mut(place.group)?.slots.get_mut(place.index as usize)
    }
}

/// Sets in `contested` the bits of the range that are set in `claimed`.
fn mark_common(claimed: &[u8], contested: &mut [u8], start: u32, bits: u32) {
    let end = start.saturating_add(bits);
    let mut next = start;
    while let Some(first) = bitmap::next_set(claimed, next).filter(|first| *first < end) {
        let behind = bitmap::next_clear(claimed, first).unwrap_or(end).min(end);
        let _ = bitmap::set_range(contested, first, behind.saturating_sub(first));
        next = behind;
    }
}
