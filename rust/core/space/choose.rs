// SPDX-License-Identifier: GPL-2.0

//! Which group blocks and inodes come from.
//!
//! *Blocks.* First the goal's group and a few behind it are asked for a long run; then the next uninitialised group; only
//! then is a shorter run taken, wherever there is one, the goal's group first. So a fragment near the goal never splits
//! what fits in one piece a little further away, and a group is initialised when its neighbourhood is worn out,
//! not when the whole device is full. A run that counts as long is all that is wanted, or [`LONG_RUN_BLOCKS`] of it.
//!
//! *Inodes.* A file goes near its directory: into its group, to the next free number. Directories are what spreads a tree
//! over the device (after Orlov's idea for BSD's FFS): among the groups near its parent a new directory goes to
//! a roomy one, that is, one whose free inodes and blocks are not below their average by more than a quarter of a group; a
//! child of the root to the emptiest of them, any other to the first, which is its parent's own group if that qualifies.
//! Groups that are less than half used come first, then the next uninitialised one, then the others. All of this depends
//! on nothing but the groups' state, so the same calls give the same layout.
//!
//! Locks: takes the ledger's lock or that of one group at a time, and keeps none.

use super::free_extents::aligned_part;
use super::group::{data_area, Group};
use super::ledger::Ledger;
use super::{Class, Fit, GroupRun, Request};
use crate::error::{Error, Result};
use crate::format::group::Geometry;
use crate::format::inode::ROOT;
use crate::journal::transaction::Freed;
use crate::units::{BlockNo, BlockRun, GroupNo, InodeNo};

/// A run of this length, 1 MiB, is long enough that the next one may be anywhere.
pub const LONG_RUN_BLOCKS: u32 = 256;
/// Groups that are asked for a long run before a new group is begun.
const NEAR_GROUPS: u32 = 16;
/// Groups among which a new directory's is chosen.
const DIRECTORY_GROUPS: u32 = 8;

/// The filesystem's groups.
pub trait Groups {
    /// Where everything is.
    fn geometry(&self) -> &Geometry;

    /// Groups [0, n) are initialised, n at least 1.
    fn initialised_groups(&self) -> u32;

    /// Initialises the group with the number [`Groups::initialised_groups`], if nobody else has done so meanwhile.
    /// [`Error::JournalFull`]: the journal takes no more of them now.
    fn initialise_next(&self) -> Result;

    /// Locks an initialised group, loads it if need be, and calls `action` once.
    fn with_group(&self, group: GroupNo, action: &mut dyn FnMut(&mut Group) -> Result) -> Result;

    /// Locks the ledger and calls `action` once.
    fn with_ledger(&self, action: &mut dyn FnMut(&mut Ledger) -> Result) -> Result;
}

/// A run that somebody needs.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Where the run should begin; [`BlockNo`] 0: anywhere.
    pub goal: BlockNo,
    /// A shorter run is of no use; at least 1.
    pub min_blocks: u32,
    /// A longer run is not needed.
    pub max_blocks: u32,
    /// The run begins at a multiple of this, a power of two.
    pub alignment_blocks: u32,
    /// How to look in each group.
    pub fit: Fit,
    /// For whom.
    pub class: Class,
}

impl Wanted {
    /// At most `max_blocks` and at least one, the first fit from `goal` on, for [`Class::Normal`].
    pub const fn near(goal: BlockNo, max_blocks: u32) -> Self {
        let class = Class::Normal;
        Self { goal, min_blocks: 1, max_blocks, alignment_blocks: 1, fit: Fit::First, class }
    }

    /// The same for another class.
    #[must_use]
    pub const fn of_class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

/// The groups [0, groups), from `first` on and round to it again.
fn ring(first: u32, groups: u32) -> impl Iterator<Item = GroupNo> {
    (first..groups).chain(0..first.min(groups)).map(GroupNo)
}

/// Takes a run of blocks: they are in flight in their group ([`Group::take_blocks`]). [`Error::NoSpace`] when no
/// group has `min_blocks` in one piece, or when only the reserve has, which is not for this class.
pub fn allocate_run(groups: &dyn Groups, wanted: &Wanted) -> Result<BlockRun> {
    let request = Request {
        goal: 0,
        min_blocks: wanted.min_blocks,
        max_blocks: wanted.max_blocks,
        alignment_blocks: wanted.alignment_blocks,
        fit: wanted.fit,
    };
    request.check()?;
    let mut claimed = 0;
    groups.with_ledger(&mut |ledger| {
        claimed = ledger.claim(wanted.min_blocks, wanted.max_blocks, wanted.class)?;
        Ok(())
    })?;
    let run = find_run(groups, &Wanted { max_blocks: claimed, ..*wanted });
    let taken = run.map_or(0, |run| run.blocks);
    credit(groups, u64::from(claimed).saturating_sub(taken))?;
    run
}

fn credit(groups: &dyn Groups, blocks: u64) -> Result {
    groups.with_ledger(&mut |ledger| {
        ledger.give_back(blocks);
        Ok(())
    })
}

/// Nobody needs a run that was taken, or this part of one: it may be taken again ([`Group::give_back_blocks`]).
pub fn give_back_run(groups: &dyn Groups, run: BlockRun) -> Result {
    let (number, place) = GroupRun::locate(groups.geometry(), run)?;
    groups.with_group(number, &mut |group| group.give_back_blocks(place))?;
    credit(groups, run.blocks)
}

/// The transaction that freed a run is durable: it may be taken again ([`Group::release_blocks`]).
pub fn release_run(groups: &dyn Groups, start: BlockNo, freed: Freed) -> Result {
    let run = BlockRun { start, blocks: freed.blocks };
    let (number, place) = GroupRun::locate(groups.geometry(), run)?;
    let mut reservation = Some(freed.release);
    groups.with_group(number, &mut |group| match reservation.take() {
        Some(reservation) => group.release_blocks(place, reservation),
        None => Ok(()),
    })?;
    credit(groups, run.blocks)
}

fn find_run(groups: &dyn Groups, wanted: &Wanted) -> Result<BlockRun> {
    let geometry = groups.geometry();
    let (goal_group, goal) = geometry.locate_block(wanted.goal).unwrap_or((GroupNo(0), 0));
    let long = Request {
        goal,
        min_blocks: wanted.max_blocks.min(wanted.min_blocks.max(LONG_RUN_BLOCKS)),
        max_blocks: wanted.max_blocks,
        alignment_blocks: wanted.alignment_blocks,
        fit: wanted.fit,
    };
    let any = Request { min_blocks: wanted.min_blocks, ..long };

    let initialised = groups.initialised_groups();
    let first = goal_group.0.min(initialised.saturating_sub(1));
    let take = |group: GroupNo, request: &Request| {
        let goal = if group == goal_group { goal } else { 0 };
        take_run(groups, group, &Request { goal, ..*request })
    };
    if wanted.fit == Fit::AtGoal {
        let run = if goal_group.0 < initialised { take(goal_group, &any)? } else { None };
        return run.ok_or(Error::NoSpace);
    }
    for group in ring(first, initialised).take(NEAR_GROUPS as usize) {
        if let Some(run) = take(group, &long)? {
            return Ok(run);
        }
    }
    if let Some(group) = begin_group(groups, initialised, |group| has_room(geometry, group, &long))? {
        if let Some(run) = take(group, &long)? {
            return Ok(run);
        }
    }
    let initialised = groups.initialised_groups();
    for group in ring(first, initialised) {
        if let Some(run) = take(group, &any)? {
            return Ok(run);
        }
    }
    // Groups are begun in their order, so one is worth it also for the sake of those behind it.
    let worth = |group: GroupNo| {
        (group.0..geometry.group_count).any(|later| has_room(geometry, GroupNo(later), &any))
    };
    let mut next = initialised;
    while let Some(group) = begin_group(groups, next, worth)? {
        if let Some(run) = take(group, &any)? {
            return Ok(run);
        }
        next = next.saturating_add(1);
    }
    Err(Error::NoSpace)
}

fn take_run(groups: &dyn Groups, group: GroupNo, request: &Request) -> Result<Option<BlockRun>> {
    let mut taken = None;
    groups.with_group(group, &mut |group| {
        taken = group.take_blocks(request)?;
        Ok(())
    })?;
    Ok(taken.map(|run| run.on_device(groups.geometry(), group)))
}

/// Group number `next`, initialised by this call or by somebody else meanwhile; `None` when there is none, or when it is not
/// worth it.
fn begin_group(groups: &dyn Groups, next: u32, worth: impl Fn(GroupNo) -> bool) -> Result<Option<GroupNo>> {
    let group = GroupNo(next);
    if next >= groups.geometry().group_count || !worth(group) {
        return Ok(None);
    }
    if groups.initialised_groups() <= next {
        match groups.initialise_next() {
            Ok(()) => {}
            // The journal takes no more of them now; there are others to choose from.
            Err(Error::JournalFull) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(group))
}

/// Whether a fresh group could answer `request`.
fn has_room(geometry: &Geometry, group: GroupNo, request: &Request) -> bool {
    let data = data_area(geometry, group);
    aligned_part(geometry.start_of(group), data, data.start, request.alignment_blocks)
        .is_some_and(|part| part.blocks >= request.min_blocks)
}

/// Takes an inode for a new file or directory in `parent`: its bit is in flight in its group ([`Group::take_inode`]).
/// [`Error::NoInodes`] when no group has one.
pub fn allocate_inode(groups: &dyn Groups, parent: InodeNo, directory: bool) -> Result<InodeNo> {
    let geometry = groups.geometry();
    let place = geometry.locate_inode(parent)?;
    let home = place.group.0.min(groups.initialised_groups().saturating_sub(1));
    let first = if directory { directory_group(groups, home, parent == ROOT)?.0 } else { home };
    let take = |group: GroupNo| {
        let from = if group == place.group { place.index.saturating_add(1) } else { 0 };
        let mut taken = None;
        groups.with_group(group, &mut |group| {
            taken = group.take_inode(from);
            Ok(())
        })?;
        Ok::<_, Error>(taken.map(|index| geometry.inode_at(group, index)))
    };
    let initialised = groups.initialised_groups();
    for group in ring(first, initialised) {
        if let Some(inode) = take(group)? {
            return Ok(inode);
        }
    }
    let mut next = initialised;
    while let Some(group) = begin_group(groups, next, |_| true)? {
        if let Some(inode) = take(group)? {
            return Ok(inode);
        }
        next = next.saturating_add(1);
    }
    Err(Error::NoInodes)
}

/// What is free in a group.
#[derive(Clone, Copy, Default)]
struct Candidate {
    group: GroupNo,
    inodes: u64,
    blocks: u64,
}

/// The group for a new directory whose parent is in group `home`.
fn directory_group(groups: &dyn Groups, home: u32, in_root: bool) -> Result<GroupNo> {
    let geometry = groups.geometry();
    let initialised = groups.initialised_groups();
    let mut candidates = [Candidate::default(); DIRECTORY_GROUPS as usize];
    let (mut count, mut inodes, mut blocks) = (0_u64, 0_u64, 0_u64);
    for (candidate, group) in candidates.iter_mut().zip(ring(home, initialised)) {
        groups.with_group(group, &mut |state| {
            *candidate = Candidate {
                group,
                inodes: u64::from(state.free_inodes()),
                blocks: u64::from(state.free_blocks()),
            };
            Ok(())
        })?;
        count = count.saturating_add(1);
        inodes = inodes.saturating_add(candidate.inodes);
        blocks = blocks.saturating_add(candidate.blocks);
    }
    let known = candidates.get(..count as usize).unwrap_or(&[]);
    let least =
        |sum: u64, of_group: u32| sum.checked_div(count).unwrap_or(0).saturating_sub(u64::from(of_group / 4));
    let least_inodes = least(inodes, geometry.inodes_per_group);
    let least_blocks = least(blocks, geometry.group_blocks);
    let roomy = |candidate: &Candidate| candidate.inodes >= least_inodes && candidate.blocks >= least_blocks;
    let half_free = |candidate: &Candidate| {
        candidate.inodes >= u64::from(geometry.inodes_per_group / 2)
            && candidate.blocks >= u64::from(data_area(geometry, candidate.group).blocks / 2)
    };
    if let Some(group) = pick(known, in_root, |candidate| roomy(candidate) && half_free(candidate)) {
        return Ok(group);
    }
    if let Some(begun) = begin_group(groups, initialised, |_| true)? {
        return Ok(begun);
    }
    // Where no group is roomy, inodes decide: without one there is no directory.
    let group = pick(known, in_root, roomy).or_else(|| pick(known, true, |_| true));
    Ok(group.unwrap_or(GroupNo(home)))
}

/// The first of the `eligible` candidates, or the one with the most free inodes.
fn pick(candidates: &[Candidate], emptiest: bool, eligible: impl Fn(&Candidate) -> bool) -> Option<GroupNo> {
    let mut eligible = candidates.iter().filter(|candidate| eligible(candidate));
    let chosen = if emptiest {
        // Of several with as many, the last maximum is the nearest: the walk goes backwards.
        eligible.rev().max_by_key(|candidate| candidate.inodes)
    } else {
        eligible.next()
    };
    chosen.map(|candidate| candidate.group)
}

#[cfg(test)]
mod tests;
