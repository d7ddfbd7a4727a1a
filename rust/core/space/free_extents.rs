// SPDX-License-Identifier: GPL-2.0

//! The free extents of a group, by place and by size.
//!
//! Searching a bitmap bit by bit is too slow when a group is nearly full; so each maximal run of blocks that may be
//! given out has an entry in two ordered maps: start -> length, which finds neighbours and what is near a goal, and
//! (length, start), which finds the best fit and the longest run. Extents never touch one another: an insertion merges
//! them.
//!
//! Memory: every entry is one node in each map. Merging frees nodes, and an entry that changes keeps its own, so at worst an
//! insertion needs one pair (an [`InsertReservation`], which can be had beforehand), and so does taking blocks out of the
//! middle. Such a pair is allocated before anything changes.

use super::{Fit, GroupRun, Request};
use crate::error::{corrupt, Check, Error, Result};
use crate::memory::{OrderedMap, Reservation};
use crate::units::BlockNo;

/// How many extents a first fit looks at before it asks the index by size: bounds the time in a group of crumbs.
const FIRST_FIT_LOOKS: u32 = 64;

/// The index.
///
/// # Invariants
///
/// `by_start` and `by_size` have the same extents, none is empty, no two touch or overlap, and `total_blocks` is the
/// sum of their lengths.
pub struct FreeExtents {
    /// The group's first block, for alignment and for reports.
    origin: BlockNo,
    by_start: OrderedMap<u32, u32>,
    by_size: OrderedMap<(u32, u32), ()>,
    total_blocks: u32,
}

/// Memory for one extent: an insertion with it cannot run out.
pub struct InsertReservation {
    start: Reservation<u32, u32>,
    size: Reservation<(u32, u32), ()>,
}

/// The extents that end where a run begins and begin where it ends.
struct Neighbours {
    before: Option<GroupRun>,
    after: Option<GroupRun>,
}

/// The part of `extent` from block `from` on whose start is aligned as a number of the device; `None` if nothing is left.
pub(super) fn aligned_part(
    origin: BlockNo,
    extent: GroupRun,
    from: u32,
    alignment_blocks: u32,
) -> Option<GroupRun> {
    let start = origin.0.checked_add(u64::from(extent.start.max(from)))?;
    let aligned = start.checked_next_multiple_of(u64::from(alignment_blocks))?;
    let start = u32::try_from(aligned.checked_sub(origin.0)?).ok()?;
    let blocks = extent.end().checked_sub(start).filter(|blocks| *blocks > 0)?;
    Some(GroupRun { start, blocks })
}

impl FreeExtents {
    /// An index without extents, of the group whose first block is `origin`.
    pub fn new(origin: BlockNo) -> Self {
        Self { origin, by_start: OrderedMap::new(), by_size: OrderedMap::new(), total_blocks: 0 }
    }

    /// Blocks in all extents.
    pub fn total_blocks(&self) -> u32 {
        self.total_blocks
    }

    /// The number of extents.
    pub fn extents(&self) -> usize {
        self.by_start.len()
    }

    /// The longest extent; of several the last one.
    pub fn largest(&mut self) -> Option<GroupRun> {
        self.by_size.last().map(|((blocks, start), ())| GroupRun { start, blocks })
    }

    /// All extents in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = GroupRun> + '_ {
        self.by_start.iter().map(|(start, blocks)| GroupRun { start, blocks: *blocks })
    }

    /// Takes memory for one insertion, into whichever group's index.
    pub fn reserve_insert() -> Result<InsertReservation> {
        Ok(InsertReservation { start: OrderedMap::reserve()?, size: OrderedMap::reserve()? })
    }

    /// Adds `run` and merges it with its neighbours. Fails and changes nothing when there is no memory, or when a block of the
    /// run is free already.
    pub fn insert(&mut self, run: GroupRun) -> Result {
        let near = self.neighbours(run)?;
        let nodes = match near {
            Neighbours { before: None, after: None } => Some(Self::reserve_insert()?),
            _ => None,
        };
        self.join(run, &near, nodes);
        Ok(())
    }

    /// Adds `run` and merges it with its neighbours. Fails and changes nothing when a block of the run is free already.
    pub fn insert_reserved(&mut self, run: GroupRun, reservation: InsertReservation) -> Result {
        let near = self.neighbours(run)?;
        self.join(run, &near, Some(reservation));
        Ok(())
    }

    /// Takes exactly `run` out of the one extent that covers it. Fails and changes nothing when there is no memory for the
    /// second of two remaining parts, or when not all of the run is free.
    pub fn take(&mut self, run: GroupRun) -> Result {
        let Some(whole) = self.at_or_before(run.start).filter(|extent| run.blocks > 0 && extent.covers(run))
        else {
            return self.wrong(Check::Shared, run);
        };
        let left = GroupRun { start: whole.start, blocks: run.start.saturating_sub(whole.start) };
        let right = GroupRun { start: run.end(), blocks: whole.end().saturating_sub(run.end()) };
        let extra = if left.blocks > 0 && right.blocks > 0 { Some(Self::reserve_insert()?) } else { None };
        let mut nodes = self.remove(whole).into_iter().chain(extra);
        for part in [left, right] {
            if part.blocks > 0 {
                if let Some(nodes) = nodes.next() {
                    self.add(part, nodes);
                }
            }
        }
        Ok(())
    }

    /// The run that fits `request` best, or `None` when there is none; see [`Fit`]. Takes nothing.
    pub fn find(&mut self, request: &Request) -> Option<GroupRun> {
        if self.largest()?.blocks < request.min_blocks {
            return None;
        }
        let found = match request.fit {
            Fit::AtGoal => self.find_at_goal(request),
            Fit::Best => self.find_best(request),
            Fit::First => match self.find_at_goal(request) {
                None => match self.find_behind_goal(request) {
                    None => self.find_best(request),
                    found => found,
                },
                found => found,
            },
        }?;
        Some(GroupRun { start: found.start, blocks: found.blocks.min(request.max_blocks) })
    }

    /// What is free from the goal on, when it is enough: growing an extent costs its file nothing, so even a run that is not
    /// all that is wanted is taken.
    fn find_at_goal(&mut self, request: &Request) -> Option<GroupRun> {
        let extent = self.at_or_before(request.goal).filter(|extent| extent.end() > request.goal)?;
        aligned_part(self.origin, extent, request.goal, request.alignment_blocks)
            .filter(|part| part.start == request.goal && part.blocks >= request.min_blocks)
    }

    /// The first run from the goal on with all that is wanted, among a bounded number of extents.
    fn find_behind_goal(&mut self, request: &Request) -> Option<GroupRun> {
        if self.largest()?.blocks < request.max_blocks {
            return None;
        }
        let mut from = request.goal;
        let around = self.at_or_before(from).filter(|extent| extent.end() > from);
        let mut next = if around.is_some() { around } else { self.at_or_after(from) };
        for _ in 0..FIRST_FIT_LOOKS {
            let extent = match next {
                Some(extent) => extent,
                None => {
                    from = 0;
                    self.at_or_after(0)?
                }
            };
            let part = aligned_part(self.origin, extent, from, request.alignment_blocks);
            if let Some(part) = part.filter(|part| part.blocks >= request.max_blocks) {
                return Some(part);
            }
            next = self.at_or_after(extent.end());
        }
        None
    }

    /// The smallest extent with all that is wanted, else the one with most of it. Alignment may make an extent useless that
    /// is long enough; the walks end where no length can change the answer any more.
    fn find_best(&mut self, request: &Request) -> Option<GroupRun> {
        let alignment = request.alignment_blocks;
        let mut size = self.by_size.lower_bound((request.max_blocks, 0)).map(|(size, ())| size);
        while let Some((blocks, start)) = size {
            let part = aligned_part(self.origin, GroupRun { start, blocks }, start, alignment);
            if let Some(part) = part.filter(|part| part.blocks >= request.max_blocks) {
                return Some(part);
            }
            size = self.by_size.next_after((blocks, start)).map(|(size, ())| size);
        }
        let mut best: Option<GroupRun> = None;
        let mut size = self
            .by_size
            .prev_before((request.max_blocks.saturating_add(alignment), 0))
            .map(|(size, ())| size);
        while let Some((blocks, start)) = size {
            if blocks < request.min_blocks || best.is_some_and(|best| best.blocks >= blocks) {
                break;
            }
            let part = aligned_part(self.origin, GroupRun { start, blocks }, start, alignment);
            best = match (best, part) {
                (Some(best), Some(part)) if part.blocks <= best.blocks => Some(best),
                (best, part) => part.or(best),
            };
            size = self.by_size.prev_before((blocks, start)).map(|(size, ())| size);
        }
        best.filter(|best| best.blocks >= request.min_blocks)
    }

    fn at_or_before(&mut self, block: u32) -> Option<GroupRun> {
        self.by_start.at_or_before(block).map(|(start, blocks)| GroupRun { start, blocks: *blocks })
    }

    fn at_or_after(&mut self, block: u32) -> Option<GroupRun> {
        self.by_start.lower_bound(block).map(|(start, blocks)| GroupRun { start, blocks: *blocks })
    }

    /// The extents that `run` touches, if it overlaps none.
    fn neighbours(&mut self, run: GroupRun) -> Result<Neighbours> {
        let Some(end) = run.start.checked_add(run.blocks).filter(|end| *end > run.start) else {
            return Err(Error::InvalidArgument);
        };
        let before = self.at_or_before(run.start);
        let after = self.at_or_after(run.start);
        if before.is_some_and(|extent| extent.end() > run.start)
            || after.is_some_and(|extent| extent.start < end)
        {
            return self.wrong(Check::Bitmap, run);
        }
        Ok(Neighbours {
            before: before.filter(|extent| extent.end() == run.start),
            after: after.filter(|extent| extent.start == end),
        })
    }

    /// Adds `run` merged with its neighbours, whose nodes serve before `nodes` do.
    fn join(&mut self, run: GroupRun, near: &Neighbours, nodes: Option<InsertReservation>) {
        let (mut merged, mut nodes) = (run, nodes);
        for extent in [near.before, near.after].into_iter().flatten() {
            nodes = self.remove(extent).or(nodes);
            merged.start = merged.start.min(extent.start);
            merged.blocks = merged.blocks.saturating_add(extent.blocks);
        }
        if let Some(nodes) = nodes {
            self.add(merged, nodes);
        }
    }

    fn add(&mut self, extent: GroupRun, nodes: InsertReservation) {
        self.by_start.insert_reserved(nodes.start, extent.start, extent.blocks);
        self.by_size.insert_reserved(nodes.size, (extent.blocks, extent.start), ());
        self.total_blocks = self.total_blocks.saturating_add(extent.blocks);
    }

    fn remove(&mut self, extent: GroupRun) -> Option<InsertReservation> {
        let (_, start) = self.by_start.remove_reserving(extent.start)?;
        let ((), size) = self.by_size.remove_reserving((extent.blocks, extent.start))?;
        self.total_blocks = self.total_blocks.saturating_sub(extent.blocks);
        Some(InsertReservation { start, size })
    }

    fn wrong<T>(&self, check: Check, run: GroupRun) -> Result<T> {
        let at = BlockNo(self.origin.0.saturating_add(u64::from(run.start)));
        corrupt(check, at, u64::from(run.blocks), 0)
    }

    /// Checks the type's invariants.
    pub fn check(&self) -> Result {
        let mut total = 0_u32;
        let mut previous_end = None;
        for extent in self.iter() {
            let apart = previous_end.is_none_or(|end| extent.start > end);
            let in_both = self.by_size.contains_key((extent.blocks, extent.start));
            if extent.blocks == 0 || !apart || !in_both {
                return self.wrong(Check::Bitmap, extent);
            }
            previous_end = Some(extent.end());
            total = total.saturating_add(extent.blocks);
        }
        if total != self.total_blocks || self.by_size.len() != self.by_start.len() {
            return corrupt(Check::FreeCount, self.origin, u64::from(total), u64::from(self.total_blocks));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
