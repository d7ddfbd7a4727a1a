// SPDX-License-Identifier: GPL-2.0

//! What a file has that no extent maps yet: blocks that are only promised, and blocks that are being written.
//!
//! A buffered write promises a block for each block of the file that it makes dirty where nothing is mapped: the run is *delayed*.
//! Writeback takes blocks of the device for it: the run is *in flight*. When that I/O has ended and a handle has mapped the extent,
//! the run goes. What is truncated, or evicted with nobody left to want it, goes without: promises are void, and blocks in flight
//! are free again. All of it is in memory only; a crash forgets it, and with it nothing that was promised to anybody.
//!
//! A run never overlaps another, nor an extent. [`Pending::charge`] is what the file's runs may still take at worst, blocks of its
//! tree included: so much is promised to it in the filesystem's ledger. Blocks in flight have been taken already.
//!
//! *The tree, at worst.* Each block becomes an extent of its own. Runs that touch one another are an *island*, and what an island
//! maps goes between two neighbours in the tree: into a full leaf, which is split in half, and from then on each half takes half
//! a leaf of extents before it is full again. So an island needs one leaf, and another for each half leaf of blocks, in whatever
//! order they are mapped (XFS counts the worst for each delayed extent too: `xfs_bmap_worst_indlen`). When a part in the
//! middle is mapped first, two islands are left, and each may have a full leaf to split. What filled that leaf anew was half a
//! leaf of this file's own blocks: the leaf that was promised to those is not given back, but goes to an island that has none.
//! So more may be promised for a while than is still needed; others find less space until the rest is mapped. For inner nodes the
//! reserve is enough: each that may have to be split stands for thousands of extents.
//!
//! Locks: guarded by the inode's.

use crate::error::{Error, Result};
use crate::format::extent::BLOCK_EXTENTS;
use crate::format::tree::BLOCK_NODE_ENTRIES;
use crate::memory::{OrderedMap, Reservation};
use crate::units::{BlockNo, BlockRun, FileBlock};

/// A run of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    blocks: u64,
    /// Where it is in flight to; `None`: delayed.
    place: Option<BlockNo>,
}

impl Run {
    /// The part behind the first `blocks`.
    fn behind(&self, blocks: u64) -> Self {
        Self {
            blocks: self.blocks.saturating_sub(blocks),
            place: self.place.map(|place| BlockNo(place.0.saturating_add(blocks))),
        }
    }
}

/// What is pending at a block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, nor in the blocks up to this one.
    Nothing {
        /// The first block with something pending; the end of all files when there is none.
        end: FileBlock,
    },
    /// A promise.
    Delayed {
        /// The first block of the run.
        start: FileBlock,
        /// How many.
        blocks: u64,
    },
    /// Blocks of the device that are, or will be, written.
    InFlight {
        /// The first block of the run.
        start: FileBlock,
        /// Where that is in flight to.
        place: BlockRun,
    },
}

/// Memory for a run that is cut in two.
pub struct Split(Reservation<FileBlock, Run>);

impl Split {
    /// Takes the memory.
    pub fn reserve() -> Result<Self> {
        Ok(Self(OrderedMap::<FileBlock, Run>::reserve()?))
    }
}

/// The pending runs of a file.
pub struct Pending {
    runs: OrderedMap<FileBlock, Run>,
    blocks: u64,
    delayed_blocks: u64,
    /// Pieces that nothing pending touches.
    islands: u64,
    /// Leaves that are promised to islands: one for each, but for those that came of the middle of one and have no full leaf to
    /// split yet; more only until something goes.
    leaves: u64,
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs at which a file's tree may grow at once, at worst: a block of each level.
const TREE_BLOCKS: u64 = 5;
/// Extents that a leaf has at least when it has been split, and entries that an inner node has.
const LEAF_EXTENTS_MIN: u64 = BLOCK_EXTENTS as u64 / 2;
const NODE_ENTRIES_MIN: u64 = BLOCK_NODE_ENTRIES as u64 / 2;

impl Pending {
    /// Nothing.
    pub fn new() -> Self {
        Self { runs: OrderedMap::new(), blocks: 0, delayed_blocks: 0, islands: 0, leaves: 0 }
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Blocks that are pending.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks that may still be taken at worst: those that are delayed, and the tree that maps all of them.
    pub const fn charge(&self) -> u64 {
        Self::charge_of(self.blocks, self.delayed_blocks, self.leaves)
    }

    /// How much the charge grows when the `blocks` blocks from `start` on, of which none is pending, are delayed.
    pub fn charge_for(&mut self, start: FileBlock, blocks: u64) -> u64 {
        let end = FileBlock(start.0.saturating_add(blocks));
        let leaves = self.leaves.saturating_add(u64::from(self.sides_touched(start, end) == 0));
        let delayed_blocks = self.delayed_blocks.saturating_add(blocks);
        let charge = Self::charge_of(self.blocks.saturating_add(blocks), delayed_blocks, leaves);
        charge.saturating_sub(self.charge())
    }

    const fn charge_of(blocks: u64, delayed_blocks: u64, leaves: u64) -> u64 {
        if blocks == 0 {
            return 0;
        }
        let leaves = leaves.saturating_add(blocks / LEAF_EXTENTS_MIN);
        delayed_blocks
            .saturating_add(leaves)
            .saturating_add(leaves / NODE_ENTRIES_MIN)
            .saturating_add(TREE_BLOCKS)
    }

    /// At how many of its two ends something pending touches what is not so from `start` up to `end`.
    fn sides_touched(&mut self, start: FileBlock, end: FileBlock) -> u64 {
        let before = self.runs.at_or_before(start);
        let before = before.is_some_and(|(first, run)| first.0.saturating_add(run.blocks) == start.0);
        u64::from(before).saturating_add(u64::from(self.runs.get(end).is_some()))
    }

    /// What is pending at `at`.
    pub fn find(&mut self, at: FileBlock) -> Found {
        if let Some((start, run)) = self.runs.at_or_before(at) {
            if at.0.saturating_sub(start.0) < run.blocks {
                return match run.place {
                    None => Found::Delayed { start, blocks: run.blocks },
                    Some(place) => {
                        Found::InFlight { start, place: BlockRun { start: place, blocks: run.blocks } }
                    }
                };
            }
        }
        Found::Nothing { end: self.runs.next_after(at).map_or(FileBlock(u64::MAX), |(start, _)| start) }
    }

    /// Promises the `blocks` blocks from `start` on, of which none is pending.
    pub fn delay(&mut self, start: FileBlock, blocks: u64) -> Result {
        let (Found::Nothing { end }, true) = (self.find(start), blocks > 0) else {
            return Err(Error::InvalidArgument);
        };
        let behind = start.0.checked_add(blocks).ok_or(Error::FileTooLarge)?;
        if behind > end.0 {
            return Err(Error::InvalidArgument);
        }
        let touched = self.sides_touched(start, FileBlock(behind));
        let before = self
            .runs
            .at_or_before(start)
            .filter(|(first, run)| run.place.is_none() && first.0.saturating_add(run.blocks) == start.0);
        match before.map(|(first, _)| first) {
            Some(first) => {
                if let Some(run) = self.runs.get_mut(first) {
                    run.blocks = run.blocks.saturating_add(blocks);
                }
            }
            None => {
                self.runs.insert(start, Run { blocks, place: None })?;
            }
        }
        self.blocks = self.blocks.saturating_add(blocks);
        self.delayed_blocks = self.delayed_blocks.saturating_add(blocks);
        self.islands = self.islands.saturating_add(1).saturating_sub(touched);
        self.leaves = self.leaves.saturating_add(u64::from(touched == 0));
        Ok(())
    }

    /// The delayed blocks from `start` on, as many as `place` has, are in flight to it.
    pub fn take_off(&mut self, start: FileBlock, place: BlockRun) -> Result {
        let Found::Delayed { start: first, blocks } = self.find(start) else {
            return Err(Error::InvalidArgument);
        };
        let before = start.0.saturating_sub(first.0);
        let rest = blocks.saturating_sub(before);
        let behind = rest.checked_sub(place.blocks).ok_or(Error::InvalidArgument)?;
        let (middle, end) =
            (OrderedMap::<FileBlock, Run>::reserve()?, OrderedMap::<FileBlock, Run>::reserve()?);
        let in_flight = Run { blocks: place.blocks, place: Some(place.start) };
        if before > 0 {
            if let Some(run) = self.runs.get_mut(first) {
                run.blocks = before;
            }
        }
        self.runs.insert_reserved(middle, start, in_flight);
        self.delayed_blocks = self.delayed_blocks.saturating_sub(place.blocks);
        if behind > 0 {
            let at = FileBlock(start.0.saturating_add(place.blocks));
            self.runs.insert_reserved(end, at, Run { blocks: behind, place: None });
        }
        Ok(())
    }

    /// Whatever is pending from `from` up to `to`, which stays, is so no more. `in_flight` is told each run of the device that was
    /// in flight there.
    pub fn remove(
        &mut self,
        from: FileBlock,
        to: FileBlock,
        split: Split,
        in_flight: &mut dyn FnMut(BlockRun),
    ) {
        self.cut(from, to, Some(split), false, in_flight);
    }

    /// Promises from `from` up to `to` are void; what is in flight there stays so.
    pub fn remove_delayed(&mut self, from: FileBlock, to: FileBlock, split: Split) {
        self.cut(from, to, Some(split), true, &mut |_| {});
    }

    /// As [`Pending::remove`], up to the end of all files: that cuts no run in two.
    pub fn remove_from(&mut self, from: FileBlock, in_flight: &mut dyn FnMut(BlockRun)) {
        self.cut(from, FileBlock(u64::MAX), None, false, in_flight);
    }

    fn cut(
        &mut self,
        from: FileBlock,
        to: FileBlock,
        mut split: Option<Split>,
        only_delayed: bool,
        in_flight: &mut dyn FnMut(BlockRun),
    ) {
        let blocks_before = self.blocks;
        let first = self.runs.at_or_before(from).map(|(start, _)| start);
        let mut next = first.or_else(|| self.runs.next_after(from).map(|(start, _)| start));
        while let Some(start) = next.filter(|start| *start < to) {
            next = self.runs.next_after(start).map(|(later, _)| later);
            let Some(run) = self.runs.get(start).copied() else {
                return;
            };
            let end = FileBlock(start.0.saturating_add(run.blocks));
            if end <= from || (only_delayed && run.place.is_some()) {
                continue;
            }
            let (cut_from, cut_to) = (start.max(from), end.min(to));
            let before = cut_from.0.saturating_sub(start.0);
            let cut = cut_to.0.saturating_sub(cut_from.0);
            match run.behind(before).place {
                Some(place) => in_flight(BlockRun { start: place, blocks: cut }),
                None => self.delayed_blocks = self.delayed_blocks.saturating_sub(cut),
            }
            self.blocks = self.blocks.saturating_sub(cut);
            let rest = run.behind(before.saturating_add(cut));
            let mut node = None;
            if before == 0 {
                node = self.runs.remove_reserving(start).map(|(_, node)| node);
            } else if let Some(kept) = self.runs.get_mut(start) {
                kept.blocks = before;
            }
            if rest.blocks > 0 {
                // Only a run that is cut in its middle needs another node, and only one can be.
                if let Some(node) = node.or_else(|| split.take().map(|split| split.0)) {
                    self.runs.insert_reserved(node, cut_to, rest);
                }
            }
            let touched = self.sides_touched(cut_from, cut_to);
            self.islands = self.islands.saturating_add(touched).saturating_sub(1);
        }
        // What was promised to the blocks that have gone, for as long as islands have no leaf of their own.
        let released = (blocks_before / LEAF_EXTENTS_MIN).saturating_sub(self.blocks / LEAF_EXTENTS_MIN);
        self.leaves = self.leaves.saturating_add(released).min(self.islands);
    }
}

#[cfg(test)]
mod tests;
