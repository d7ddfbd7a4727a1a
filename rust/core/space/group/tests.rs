// SPDX-License-Identifier: GPL-2.0

//! Property tests: a group through random rounds of its blocks and inodes, beside a logged state that is changed as a closing
//! handle changes it. After each step, and after each allocation that failed in it, the group's check against that
//! state must hold, and the counts must be those of the model.

use super::*;
use crate::error::Error;
use crate::memory::failure;
use crate::space::Fit;
use crate::units::BlockNo;
use proptest::prelude::*;
use proptest::sample::Index;

const NUMBER: GroupNo = GroupNo(1);

/// Two groups of two block bitmaps and two inode bitmaps; the second one is short.
fn geometry() -> Geometry {
    let group_blocks = 2 * BITMAP_BITS;
    Geometry {
        filesystem_id: 1,
        device_blocks: 101 + u64::from(group_blocks) + 60_000,
        first_group_block: BlockNo(101),
        group_blocks,
        group_count: 2,
        inodes_per_group: 40_000,
        journal_start: BlockNo(2),
        journal_blocks: 99,
        physical_block_bytes: 512,
    }
}

fn run(start: u32, blocks: u32) -> GroupRun {
    GroupRun { start, blocks }
}

/// The bitmaps as the journal has them.
struct Logged {
    blocks: [Vec<u8>; 2],
    inodes: [Vec<u8>; 2],
}

impl Logged {
    /// As an uninitialised group implies it.
    fn implied(geometry: &Geometry) -> Self {
        let block = |kind, index| {
            let mut bytes = vec![0; BLOCK_BYTES];
            bitmap::implied(&mut bytes, geometry, NUMBER, kind, index);
            bytes
        };
        Self {
            blocks: [block(BitmapKind::Blocks, 0), block(BitmapKind::Blocks, 1)],
            inodes: [block(BitmapKind::Inodes, 0), block(BitmapKind::Inodes, 1)],
        }
    }

    /// With few free blocks and inodes, on both sides of the border between two bitmap blocks.
    fn nearly_full(geometry: &Geometry) -> Self {
        let mut logged = Self::implied(geometry);
        for bytes in logged.blocks.iter_mut().chain(&mut logged.inodes) {
            bytes.fill(0xFF);
        }
        for (start, blocks) in
            [(BITMAP_BITS - 60, 30), (BITMAP_BITS - 20, 50), (BITMAP_BITS + 40, 8), (59_990, 10)]
        {
            logged.write(BitmapKind::Blocks, run(start, blocks), false);
        }
        logged.write(BitmapKind::Inodes, run(BITMAP_BITS - 5, 10), false);
        logged
    }

    /// Sets or clears bits, each of which must change.
    fn write(&mut self, kind: BitmapKind, run: GroupRun, set: bool) {
        let bitmaps = match kind {
            BitmapKind::Blocks => &mut self.blocks,
            BitmapKind::Inodes => &mut self.inodes,
        };
        for bit in run.start..run.end() {
            let (bytes, bit) = (&mut bitmaps[(bit / BITMAP_BITS) as usize], bit % BITMAP_BITS);
            let unchanged =
                if set { bitmap::set_range(bytes, bit, 1) } else { bitmap::clear_range(bytes, bit, 1) };
            assert_eq!(unchanged, 0, "bit {bit} of {kind:?} was {set} already");
        }
    }

    fn read(&self, kind: BitmapKind, index: u32) -> Result<BlockGuard<'_>> {
        let bitmaps = match kind {
            BitmapKind::Blocks => &self.blocks,
            BitmapKind::Inodes => &self.inodes,
        };
        Ok(BlockGuard::Private(&bitmaps[index as usize]))
    }

    fn load(&self, geometry: &Geometry, table_mark: u32) -> Result<Group> {
        Group::load(geometry, NUMBER, table_mark, &mut |kind, index| self.read(kind, index))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Take(Request),
    /// A piece of a run that is in flight: which, and its ends.
    Isolate(Index, Index, Index),
    Settle(Index, Index, Index),
    GiveBack(Index, Index, Index),
    /// A piece of a mapped run.
    Free(Index, Index, Index),
    Release(Index),
    TakeInode(u32),
    SettleInode(Index),
    GiveBackInode(Index),
    FreeInode(Index),
    RaiseMark(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let fit = prop_oneof![Just(Fit::AtGoal), Just(Fit::First), Just(Fit::Best)];
    let goal = BITMAP_BITS - 70..BITMAP_BITS + 60;
    let request =
        (goal, 1..4_u32, 0..20_u32, 0..4_u32, fit).prop_map(|(goal, min_blocks, more, shift, fit)| Request {
            goal,
            min_blocks,
            max_blocks: min_blocks + more,
            alignment_blocks: 1 << shift,
            fit,
        });
    let piece = || any::<(Index, Index, Index)>();
    prop_oneof![
        4 => request.prop_map(Step::Take),
        1 => piece().prop_map(|(which, from, to)| Step::Isolate(which, from, to)),
        3 => piece().prop_map(|(which, from, to)| Step::Settle(which, from, to)),
        3 => piece().prop_map(|(which, from, to)| Step::GiveBack(which, from, to)),
        3 => piece().prop_map(|(which, from, to)| Step::Free(which, from, to)),
        3 => any::<Index>().prop_map(Step::Release),
        3 => (BITMAP_BITS - 10..BITMAP_BITS + 10).prop_map(Step::TakeInode),
        2 => any::<Index>().prop_map(Step::SettleInode),
        1 => any::<Index>().prop_map(Step::GiveBackInode),
        1 => any::<Index>().prop_map(Step::FreeInode),
        1 => (BITMAP_BITS - 10..BITMAP_BITS + 10).prop_map(Step::RaiseMark),
    ]
}

/// The group, and where everything is that it has given out.
struct Rounds {
    group: Group,
    logged: Logged,
    in_flight: Vec<GroupRun>,
    mapped: Vec<GroupRun>,
    pending: Vec<(GroupRun, InsertReservation)>,
    inodes_in_flight: Vec<u32>,
    inodes_used: Vec<u32>,
    table_mark: u32,
}

/// A piece of one of `runs`: which run it is, and the piece.
fn piece_of(runs: &[GroupRun], which: Index, from: Index, to: Index) -> Option<(usize, GroupRun)> {
    let which = if runs.is_empty() { return None } else { which.index(runs.len()) };
    let whole = runs[which];
    let from = from.index(whole.blocks as usize) as u32;
    let blocks = to.index((whole.blocks - from) as usize) as u32 + 1;
    Some((which, run(whole.start + from, blocks)))
}

/// Cuts `piece` out of `runs[which]`.
fn cut(runs: &mut Vec<GroupRun>, which: usize, piece: GroupRun) {
    let whole = runs.swap_remove(which);
    let rest = [run(whole.start, piece.start - whole.start), run(piece.end(), whole.end() - piece.end())];
    runs.extend(rest.into_iter().filter(|rest| rest.blocks > 0));
}

impl Rounds {
    fn new() -> Self {
        let geometry = geometry();
        let logged = Logged::nearly_full(&geometry);
        let table_mark = BITMAP_BITS;
        Self {
            group: logged.load(&geometry, table_mark).unwrap(),
            logged,
            in_flight: Vec::new(),
            mapped: vec![run(BITMAP_BITS - 30, 10)],
            pending: Vec::new(),
            inodes_in_flight: Vec::new(),
            inodes_used: vec![BITMAP_BITS - 8],
            table_mark,
        }
    }

    /// Only an error for want of memory may come of a step: all steps are right.
    fn apply(&mut self, step: &Step) -> Result {
        match *step {
            Step::Take(request) => {
                if let Some(taken) = self.group.take_blocks(&request)? {
                    assert!(taken.blocks >= request.min_blocks && taken.blocks <= request.max_blocks);
                    let on_device = taken.on_device(&geometry(), NUMBER);
                    assert!(on_device.start.0.is_multiple_of(u64::from(request.alignment_blocks)));
                    assert_eq!(GroupRun::locate(&geometry(), on_device), Ok((NUMBER, taken)));
                    self.in_flight.push(taken);
                }
            }
            Step::Isolate(which, from, to) => {
                if let Some((_, piece)) = piece_of(&self.in_flight, which, from, to) {
                    self.group.isolate(piece)?;
                    // From now on the piece's way needs no memory; both are checked by the steps that take it.
                    let nothing_left = failure::fail_after(0);
                    self.group.isolate(piece).unwrap();
                    assert!(!nothing_left.happened());
                }
            }
            Step::Settle(which, from, to) => {
                if let Some((which, piece)) = piece_of(&self.in_flight, which, from, to) {
                    self.group.isolate(piece)?;
                    let nothing_left = failure::fail_after(0);
                    self.logged.write(BitmapKind::Blocks, piece, true);
                    self.group.settle_blocks(piece).unwrap();
                    assert!(!nothing_left.happened());
                    cut(&mut self.in_flight, which, piece);
                    self.mapped.push(piece);
                    assert!(
                        self.group.settle_blocks(piece).is_err()
                            && self.group.give_back_blocks(piece).is_err()
                    );
                }
            }
            Step::GiveBack(which, from, to) => {
                if let Some((which, piece)) = piece_of(&self.in_flight, which, from, to) {
                    self.group.give_back_blocks(piece)?;
                    cut(&mut self.in_flight, which, piece);
                    assert!(
                        self.group.settle_blocks(piece).is_err()
                            && self.group.give_back_blocks(piece).is_err()
                    );
                }
            }
            Step::Free(which, from, to) => {
                if let Some((which, piece)) = piece_of(&self.mapped, which, from, to) {
                    self.pending.push((piece, Group::reserve_release()?));
                    self.logged.write(BitmapKind::Blocks, piece, false);
                    cut(&mut self.mapped, which, piece);
                }
            }
            Step::Release(which) => {
                if !self.pending.is_empty() {
                    let again = Group::reserve_release()?;
                    let (run, reservation) = self.pending.swap_remove(which.index(self.pending.len()));
                    let nothing_left = failure::fail_after(0);
                    self.group.release_blocks(run, reservation).unwrap();
                    assert!(!nothing_left.happened(), "a release has allocated");
                    assert!(self.group.release_blocks(run, again).is_err(), "freed twice");
                }
            }
            Step::TakeInode(from) => {
                let usable = |index: &u32| {
                    let bytes = &self.logged.inodes[(index / BITMAP_BITS) as usize];
                    !bitmap::test(bytes, index % BITMAP_BITS) && !self.inodes_in_flight.contains(index)
                };
                let below = (from..self.table_mark).chain(0..from.min(self.table_mark)).find(usable);
                let expected = below.or_else(|| (self.table_mark..40_000).find(usable));
                assert_eq!(self.group.take_inode(from), expected);
                self.inodes_in_flight.extend(expected);
            }
            Step::SettleInode(which) => {
                if !self.inodes_in_flight.is_empty() {
                    let inode = self.inodes_in_flight.swap_remove(which.index(self.inodes_in_flight.len()));
                    self.logged.write(BitmapKind::Inodes, run(inode, 1), true);
                    self.group.settle_inode(inode)?;
                    self.inodes_used.push(inode);
                }
            }
            Step::GiveBackInode(which) => {
                if !self.inodes_in_flight.is_empty() {
                    let inode = self.inodes_in_flight.swap_remove(which.index(self.inodes_in_flight.len()));
                    self.group.give_back_inode(inode)?;
                    assert!(
                        self.group.give_back_inode(inode).is_err() && self.group.settle_inode(inode).is_err()
                    );
                }
            }
            Step::FreeInode(which) => {
                if !self.inodes_used.is_empty() {
                    let inode = self.inodes_used.swap_remove(which.index(self.inodes_used.len()));
                    self.logged.write(BitmapKind::Inodes, run(inode, 1), false);
                    self.group.release_inode(inode)?;
                    assert!(self.group.release_inode(inode).is_err(), "freed twice");
                }
            }
            Step::RaiseMark(mark) => {
                self.table_mark = self.table_mark.max(mark);
                self.group.raise_table_mark(mark);
            }
        }
        Ok(())
    }

    fn check(&mut self) {
        let pending = self.pending.iter().map(|(run, _)| *run);
        self.group.check(&mut |kind, index| self.logged.read(kind, index), &mut pending.clone()).unwrap();
        let blocks = |runs: &mut dyn Iterator<Item = GroupRun>| runs.map(|run| run.blocks).sum::<u32>();
        let in_flight = blocks(&mut self.in_flight.iter().copied());
        assert_eq!(self.group.in_flight_blocks(), in_flight);
        let logged_free =
            self.logged.blocks.iter().map(|bytes| BITMAP_BITS - bitmap::count_ones(bytes, 0, BITMAP_BITS));
        let free = logged_free.sum::<u32>() - in_flight - blocks(&mut pending.clone());
        assert_eq!(self.group.free_blocks(), free);
        let largest = self.group.free_extents().iter().map(|extent| extent.blocks).max().unwrap_or(0);
        assert_eq!(self.group.largest_free_blocks(), largest);
        assert_eq!(self.group.in_flight_inodes() as usize, self.inodes_in_flight.len());
        assert_eq!(self.group.table_mark(), self.table_mark);
    }
}

proptest! {
    #[test]
    fn every_block_and_inode_is_somewhere(steps in prop::collection::vec(step(), 1..60)) {
        let mut rounds = Rounds::new();
        for step in steps {
            // Each allocation of the step fails in turn, until the step needs none that is left to fail.
            for successes in 0.. {
                let armed = failure::fail_after(successes);
                let result = rounds.apply(&step);
                drop(armed);
                rounds.check();
                if result.is_ok() {
                    break;
                }
                prop_assert_eq!(result, Err(Error::OutOfMemory));
            }
        }
        // Whatever happened, all that was handed out finds its way back.
        while let Some(run) = rounds.in_flight.pop() {
            rounds.group.give_back_blocks(run).unwrap();
        }
        while let Some((run, reservation)) = rounds.pending.pop() {
            rounds.group.release_blocks(run, reservation).unwrap();
        }
        for run in std::mem::take(&mut rounds.mapped) {
            rounds.logged.write(BitmapKind::Blocks, run, false);
            rounds.group.release_blocks(run, Group::reserve_release().unwrap()).unwrap();
        }
        rounds.check();
        prop_assert_eq!(rounds.group.free_blocks(), 30 + 10 + 50 + 8 + 10);
    }
}

/// What tells two groups apart that nobody has taken anything of.
fn view(group: &mut Group) -> (Vec<GroupRun>, Vec<u8>, u32, u32) {
    (group.free.iter().collect(), group.inodes.bits().to_vec(), group.free_blocks(), group.free_inodes())
}

#[test]
fn a_fresh_group_is_what_its_implied_bitmaps_say() {
    let geometry = geometry();
    let mut fresh = Group::fresh(&geometry, NUMBER).unwrap();
    let mut loaded = Logged::implied(&geometry).load(&geometry, 0).unwrap();
    assert_eq!(view(&mut fresh), view(&mut loaded));
    assert_eq!(fresh.free_blocks(), 60_000 - geometry.metadata_blocks());
    assert_eq!(fresh.free_inodes(), 40_000);
    assert_eq!((fresh.number(), fresh.largest_free_blocks()), (NUMBER, fresh.free_blocks()));
    let mut first = Group::fresh(&geometry, GroupNo(0)).unwrap();
    assert_eq!((first.take_inode(0), first.free_inodes()), (Some(16), 40_000 - 17));
}

#[test]
fn loading_reports_each_failed_allocation() {
    let geometry = geometry();
    let logged = Logged::nearly_full(&geometry);
    for successes in 0.. {
        let armed = failure::fail_after(successes);
        let loaded = logged.load(&geometry, 0);
        if !armed.happened() {
            // The inodes' bits, and two nodes for each of four extents, one of which crosses a bitmap's end.
            assert_eq!(successes, 9);
            assert_eq!(loaded.unwrap().free_blocks(), 98);
            break;
        }
        assert_eq!(loaded.err(), Some(Error::OutOfMemory));
    }
}

#[test]
fn damaged_bitmaps_are_not_loaded() {
    let geometry = geometry();
    for (kind, bit) in [(BitmapKind::Blocks, 1), (BitmapKind::Blocks, 60_000), (BitmapKind::Inodes, 40_000)] {
        let mut logged = Logged::implied(&geometry);
        logged.write(kind, run(bit, 1), false);
        let failure = logged.load(&geometry, 0).err();
        assert!(
            matches!(failure, Some(Error::Corrupt(corruption)) if corruption.check == Check::Bitmap),
            "{kind:?} {bit}"
        );
    }
}

#[test]
fn blocks_that_cannot_have_been_in_use_are_not_released() {
    let geometry = geometry();
    let mut group = Group::fresh(&geometry, NUMBER).unwrap();
    let request =
        Request { goal: 50_000, min_blocks: 10, max_blocks: 10, alignment_blocks: 1, fit: Fit::AtGoal };
    assert_eq!(group.take_blocks(&request), Ok(Some(run(50_000, 10))));
    let metadata_end = geometry.metadata_blocks() - 1;
    for wrong in
        [run(50_009, 1), run(50_000, 10), run(49_999, 2), run(60_000, 1), run(metadata_end, 1), run(9, 0)]
    {
        let result = group.release_blocks(wrong, Group::reserve_release().unwrap());
        assert!(result.is_err(), "{wrong:?}");
    }
    assert_eq!(group.take_blocks(&Request { min_blocks: 0, ..request }), Err(Error::InvalidArgument));
    assert_eq!(group.take_blocks(&Request { alignment_blocks: 3, ..request }), Err(Error::InvalidArgument));
    group.give_back_blocks(run(50_000, 10)).unwrap();
    assert_eq!(group.largest_free_blocks(), 60_000 - geometry.metadata_blocks());
}

#[test]
fn the_check_finds_what_is_lost_and_what_is_there_twice() {
    let geometry = geometry();
    let mut logged = Logged::implied(&geometry);
    let group = Group::fresh(&geometry, NUMBER).unwrap();
    let check = |logged: &Logged, pending: &[GroupRun]| {
        group.check(&mut |kind, index| logged.read(kind, index), &mut pending.iter().copied())
    };
    assert_eq!(check(&logged, &[]), Ok(()));
    let lost = run(BITMAP_BITS - 1, 2);
    assert!(check(&logged, &[lost]).is_err(), "pending, and in the index too");
    logged.write(BitmapKind::Blocks, lost, true);
    assert!(check(&logged, &[]).is_err(), "used, and in the index too");
    logged.write(BitmapKind::Blocks, lost, false);
    logged.write(BitmapKind::Inodes, run(9, 1), true);
    assert!(check(&logged, &[]).is_err(), "a used inode that may be taken");
    logged.write(BitmapKind::Inodes, run(9, 1), false);

    let used = Logged::nearly_full(&geometry);
    let group = used.load(&geometry, 0).unwrap();
    let check =
        |logged: &Logged| group.check(&mut |kind, index| logged.read(kind, index), &mut std::iter::empty());
    assert_eq!(check(&used), Ok(()));
    for (kind, bit) in [(BitmapKind::Blocks, BITMAP_BITS - 30), (BitmapKind::Inodes, 9)] {
        let mut logged = Logged::nearly_full(&geometry);
        logged.write(kind, run(bit, 1), false);
        assert!(check(&logged).is_err(), "free, and nobody knows: {kind:?}");
    }
}
