// SPDX-License-Identifier: GPL-2.0

//! Which blocks and inodes may be given out.
//!
//! There are two views of a group. The bitmap blocks are the logged state: they belong to the journal, and only a closing
//! handle changes them. The other view, here, is what may be allocated: the free bits of the bitmap, minus what is *in
//! flight* (taken by a handle or by data I/O, not mapped yet), minus *pending frees* (freed, but the transaction
//! that freed them is not durable yet, so a crash could bring their old owner back; invariant I3). In a formula that tests
//! and the scrubber check: bitmap free = index + in flight + pending.
//!
//! A group's blocks go round like this; the calls are [`group::Group`]'s:
//!
//! ```text
//!                take_blocks                 settle_blocks (their bits have been set)
//!     index ------------------> in flight ---------------------------------------------> used
//!       ^                          |                                                       |
//!       |        give_back         |                                                       | their bits are cleared
//!       +<-------------------------+                                                       v
//!       +<----------------------------------------------------------------------------- pending
//!                                      release (the free is durable)
//! ```
//!
//! How many blocks are in the indices of all groups together is kept beside them ([`ledger`]), and with it a reserve that not
//! everybody may use.
//!
//! All of it is memory only. A crash forgets what was in flight, and the bitmaps, which recovery has made true, say
//! what is free at the next mount.
//!
//! Locks: a `Group` is guarded by its group's lock, and at most one of these is held at a time.

pub mod choose;
pub mod free_extents;
pub mod group;
mod inodes;
pub mod ledger;
pub mod load;

use crate::error::{corrupt, Check, Error, Result};
use crate::format::group::Geometry;
use crate::units::{BlockRun, GroupNo};

/// A run of blocks of one group, counted from the group's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupRun {
    /// The first block.
    pub start: u32,
    /// How many blocks.
    pub blocks: u32,
}

impl GroupRun {
    /// The block behind the last one; saturates.
    pub const fn end(self) -> u32 {
        self.start.saturating_add(self.blocks)
    }

    /// Whether all of `other` lies in this run.
    pub const fn covers(self, other: Self) -> bool {
        other.start >= self.start && other.end() <= self.end()
    }

    /// Where the run is on the device.
    pub const fn on_device(self, geometry: &Geometry, group: GroupNo) -> BlockRun {
        let start = geometry.start_of(group).0.saturating_add(self.start as u64);
        BlockRun { start: crate::units::BlockNo(start), blocks: self.blocks as u64 }
    }

    /// The group of a run of the device, and its place there. It must lie in one group's data area.
    pub fn locate(geometry: &Geometry, run: BlockRun) -> Result<(GroupNo, Self)> {
        let place = geometry.locate_block(run.start).filter(|_| geometry.is_data_run(run.start, run.blocks));
        match (place, u32::try_from(run.blocks)) {
            (Some((group, start)), Ok(blocks)) => Ok((group, Self { start, blocks })),
            _ => corrupt(Check::BlockRange, run.start, geometry.device_blocks, run.end().0),
        }
    }
}

/// Who takes blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Everybody else: may not take the last blocks of the filesystem, the reserve.
    Normal,
    /// Unlinking, truncation, I/O end, orphans: makes space, or has been promised it.
    Reserved,
}

/// How blocks are looked for in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// At the goal or not at all.
    AtGoal,
    /// At the goal; else the first place behind it that has all that is wanted (the search goes round at the group's
    /// end); else as [`Fit::Best`].
    First,
    /// Where all that is wanted leaves the smallest rest; else where most of it fits.
    Best,
}

/// What is looked for in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the run should begin; a number of the group.
    pub goal: u32,
    /// A shorter run is of no use; at least 1.
    pub min_blocks: u32,
    /// A longer run is not needed.
    pub max_blocks: u32,
    /// The run's first block, as a number of the device, is a multiple of this, a power of two.
    pub alignment_blocks: u32,
    /// How to look.
    pub fit: Fit,
}

impl Request {
    /// Whether the numbers make sense.
    pub const fn check(&self) -> Result {
        if self.min_blocks == 0
            || self.max_blocks < self.min_blocks
            || !self.alignment_blocks.is_power_of_two()
        {
            return Err(Error::InvalidArgument);
        }
        Ok(())
    }
}
