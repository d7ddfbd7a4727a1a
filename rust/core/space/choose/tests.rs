// SPDX-License-Identifier: GPL-2.0

//! Filling small filesystems to the last block and inode, and the rules by which a group is chosen.

use super::*;
use crate::bitmap;
use crate::blocks::BlockGuard;
use crate::format::group::{BitmapKind, BITMAP_BITS};
use crate::memory::failure;
use crate::space::GroupRun;
use crate::units::BLOCK_BYTES;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// What most tests leave out: they fill filesystems to the last block.
const RESERVE_BLOCKS: u64 = 0;

/// Groups in memory. Locking a second one, or initialising one with another locked, is an error of the test.
struct TestGroups {
    geometry: Geometry,
    groups: RefCell<Vec<Group>>,
    ledger: RefCell<Ledger>,
    /// Locking this group fails.
    broken: Cell<Option<GroupNo>>,
}

/// The last group is shorter than the others.
fn geometry(group_count: u32) -> Geometry {
    Geometry {
        filesystem_id: 1,
        device_blocks: 77 + u64::from(group_count - 1) * u64::from(BITMAP_BITS) + 5_000,
        first_group_block: BlockNo(77),
        group_blocks: BITMAP_BITS,
        group_count,
        inodes_per_group: 64,
        journal_start: BlockNo(2),
        journal_blocks: 75,
        physical_block_bytes: 512,
    }
}

impl TestGroups {
    fn new(group_count: u32, initialised: u32) -> Self {
        let groups = Self {
            geometry: geometry(group_count),
            groups: RefCell::new(Vec::new()),
            ledger: RefCell::new(Ledger::new(geometry(group_count).data_blocks(), RESERVE_BLOCKS)),
            broken: Cell::new(None),
        };
        for _ in 0..initialised {
            groups.initialise_next().unwrap();
        }
        groups
    }

    /// Takes all free blocks of a group but `left`, which must be free.
    fn fill(&self, group: u32, left: Option<GroupRun>) {
        self.with_group(GroupNo(group), &mut |group| {
            let all = Request {
                goal: 0,
                min_blocks: 1,
                max_blocks: BITMAP_BITS,
                alignment_blocks: 1,
                fit: Fit::Best,
            };
            while let Some(run) = group.take_blocks(&all)? {
                assert!(run.blocks > 0);
            }
            left.map_or(Ok(()), |left| group.give_back_blocks(left))
        })
        .unwrap();
    }

    fn take_inodes(&self, group: GroupNo, inodes: u32) {
        let mut groups = self.groups.borrow_mut();
        assert!((0..inodes).all(|_| groups[group.0 as usize].take_inode(0).is_some()));
    }

    fn group_of(&self, run: BlockRun) -> u32 {
        GroupRun::locate(&self.geometry, run).unwrap().0 .0
    }

    fn group_of_inode(&self, inode: InodeNo) -> u32 {
        self.geometry.locate_inode(inode).unwrap().group.0
    }

    fn give_back(&self, run: BlockRun) {
        give_back_run(self, run).unwrap();
    }

    /// Checks every initialised group against the bitmaps of a filesystem in which nothing was ever logged, and that
    /// nothing is in flight.
    fn check_unused(&self) {
        for group in self.groups.borrow().iter() {
            let mut blocks = [0; BLOCK_BYTES];
            let mut inodes = [0; BLOCK_BYTES];
            bitmap::implied(&mut blocks, &self.geometry, group.number(), BitmapKind::Blocks, 0);
            bitmap::implied(&mut inodes, &self.geometry, group.number(), BitmapKind::Inodes, 0);
            let mut read = |kind, _| {
                Ok(BlockGuard::Private(match kind {
                    BitmapKind::Blocks => &blocks,
                    BitmapKind::Inodes => &inodes,
                }))
            };
            group.check(&mut read, &mut std::iter::empty()).unwrap();
            assert_eq!((group.in_flight_blocks(), group.in_flight_inodes()), (0, 0));
        }
        assert_eq!(self.ledger.borrow().available_blocks(), self.geometry.data_blocks());
    }
}

impl Groups for TestGroups {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn initialised_groups(&self) -> u32 {
        self.groups.borrow().len() as u32
    }

    fn initialise_next(&self) -> Result {
        let mut groups = self.groups.borrow_mut();
        let number = GroupNo(groups.len() as u32);
        assert!(number.0 < self.geometry.group_count, "no group is left to initialise");
        groups.push(Group::fresh(&self.geometry, number)?);
        Ok(())
    }

    fn with_ledger(&self, action: &mut dyn FnMut(&mut Ledger) -> Result) -> Result {
        action(&mut self.ledger.borrow_mut())
    }

    fn with_group(&self, group: GroupNo, action: &mut dyn FnMut(&mut Group) -> Result) -> Result {
        if self.broken.get() == Some(group) {
            return Err(Error::Io(self.geometry.header_of(group)));
        }
        action(&mut self.groups.borrow_mut()[group.0 as usize])
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let fit = prop_oneof![1 => Just(Fit::AtGoal), 4 => Just(Fit::First), 2 => Just(Fit::Best)];
    let end = geometry(3).device_blocks + 100;
    let goal = prop_oneof![1 => Just(0), 4 => 0..end];
    (goal, 1..40_u32, prop_oneof![0..10_u32, 0..3_000_u32], 0..6_u32, fit).prop_map(
        |(goal, min_blocks, more, shift, fit)| Wanted {
            goal: BlockNo(goal),
            min_blocks,
            max_blocks: min_blocks + more,
            alignment_blocks: 1 << shift,
            fit,
            class: Class::Normal,
        },
    )
}

/// Allocates by `wanted` in turn, the last one until there is no space, and returns the runs.
fn fill_up(groups: &TestGroups, wanted: &[Wanted]) -> Vec<BlockRun> {
    let mut runs = Vec::new();
    for wanted in wanted {
        match allocate_run(groups, wanted) {
            Ok(run) => {
                assert!(
                    run.blocks >= u64::from(wanted.min_blocks) && run.blocks <= u64::from(wanted.max_blocks)
                );
                assert!(run.start.0.is_multiple_of(u64::from(wanted.alignment_blocks)));
                assert!(wanted.fit != Fit::AtGoal || run.start == wanted.goal);
                runs.push(run);
            }
            Err(error) => assert_eq!(error, Error::NoSpace),
        }
    }
    loop {
        match allocate_run(groups, &Wanted::near(BlockNo(0), 700)) {
            Ok(run) => runs.push(run),
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                return runs;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_block_is_given_out_once(initialised in 1..4_u32, wanted in prop::collection::vec(wanted(), 0..120)) {
        let groups = TestGroups::new(3, initialised);
        let runs = fill_up(&groups, &wanted);
        let mut given = vec![false; groups.geometry.device_blocks as usize];
        for run in &runs {
            prop_assert!(groups.geometry.is_data_run(run.start, run.blocks), "{:?} is not for data", run);
            for block in run.start.0..run.end().0 {
                prop_assert!(!std::mem::replace(&mut given[block as usize], true), "block {} given out twice", block);
            }
        }
        let blocks: u64 = runs.iter().map(|run| run.blocks).sum();
        prop_assert_eq!(blocks, groups.geometry.data_blocks());

        let again = fill_up(&TestGroups::new(3, initialised), &wanted);
        prop_assert_eq!(&runs, &again, "the same calls have given another layout");

        for run in runs {
            groups.give_back(run);
        }
        groups.check_unused();
    }
}

#[test]
fn a_long_run_goes_before_a_crumb_at_the_goal() {
    let groups = TestGroups::new(3, 2);
    groups.fill(0, Some(GroupRun { start: 500, blocks: 200 }));
    let goal = GroupRun { start: 510, blocks: 1 }.on_device(&groups.geometry, GroupNo(0)).start;
    let small = allocate_run(&groups, &Wanted::near(goal, 5)).unwrap();
    assert_eq!(small, BlockRun { start: goal, blocks: 5 });
    let large = allocate_run(&groups, &Wanted::near(goal, 1000)).unwrap();
    assert_eq!((groups.group_of(large), large.blocks), (1, 1000));

    // No long run is left near by: the next group is begun; and in the end crumbs will do, the nearest first.
    groups.fill(1, None);
    let large = allocate_run(&groups, &Wanted::near(goal, 1000)).unwrap();
    assert_eq!((groups.group_of(large), large.blocks, groups.initialised_groups()), (2, 1000, 3));
    groups.fill(2, Some(GroupRun { start: 600, blocks: 100 }));
    let behind = BlockNo(goal.0 + 5);
    assert_eq!(
        allocate_run(&groups, &Wanted::near(behind, 1000)),
        Ok(BlockRun { start: behind, blocks: 185 })
    );
    let crumbs = [(); 2].map(|()| allocate_run(&groups, &Wanted::near(goal, 1000)).unwrap());
    assert_eq!(crumbs.map(|run| (groups.group_of(run), run.blocks)), [(0, 10), (2, 100)]);
    assert_eq!(allocate_run(&groups, &Wanted::near(goal, 1)), Err(Error::NoSpace));
}

#[test]
fn only_near_groups_are_asked_for_a_long_run() {
    let groups = TestGroups::new(40, 30);
    for group in 4..20 {
        groups.fill(group, None);
    }
    let goal = groups.geometry.start_of(GroupNo(4));
    let run = allocate_run(&groups, &Wanted::near(goal, 1000)).unwrap();
    assert_eq!((groups.group_of(run), groups.initialised_groups()), (30, 31));
}

#[test]
fn small_files_begin_no_group_while_there_is_room() {
    let groups = TestGroups::new(3, 1);
    let blocks = data_area(&groups.geometry, GroupNo(0)).blocks;
    for _ in 0..blocks {
        allocate_run(&groups, &Wanted::near(BlockNo(0), 1)).unwrap();
    }
    assert_eq!(groups.initialised_groups(), 1);
    // The goal is in a group that is not there yet: the last one that is comes first, then the next one.
    let goal = groups.geometry.start_of(GroupNo(2));
    assert_eq!(allocate_run(&groups, &Wanted::near(goal, 1)).map(|run| groups.group_of(run)), Ok(1));
}

#[test]
fn what_no_group_could_hold_begins_none() {
    let groups = TestGroups::new(3, 1);
    let metadata = groups.geometry.metadata_blocks();
    let whole = Wanted { min_blocks: BITMAP_BITS - metadata, ..Wanted::near(BlockNo(0), BITMAP_BITS) };
    let too_much = Wanted { min_blocks: whole.min_blocks + 1, ..whole };
    assert_eq!(allocate_run(&groups, &too_much), Err(Error::NoSpace));
    let aligned = Wanted { alignment_blocks: 1 << 17, ..Wanted::near(BlockNo(0), 1) };
    assert_eq!(allocate_run(&groups, &aligned), Err(Error::NoSpace));
    assert_eq!(groups.initialised_groups(), 1);
    for group in 0..2 {
        let run = allocate_run(&groups, &whole).unwrap();
        assert_eq!((groups.group_of(run), run.blocks), (group, u64::from(whole.min_blocks)));
    }
    assert_eq!(allocate_run(&groups, &whole), Err(Error::NoSpace));
    assert_eq!(groups.initialised_groups(), 2);
    let taken = Wanted { fit: Fit::AtGoal, ..Wanted::near(groups.geometry.start_of(GroupNo(1)), 1) };
    assert_eq!(allocate_run(&groups, &taken), Err(Error::NoSpace));
    let not_there = Wanted { goal: BlockNo(groups.geometry.device_blocks - 1), ..taken };
    assert_eq!(allocate_run(&groups, &not_there), Err(Error::NoSpace));
    assert_eq!(groups.initialised_groups(), 2);
    let backwards = Wanted { min_blocks: 2, ..Wanted::near(BlockNo(0), 1) };
    assert_eq!(allocate_run(&groups, &backwards), Err(Error::InvalidArgument));
}

#[test]
fn a_group_that_cannot_help_is_begun_for_one_behind_it_that_can() {
    let groups = TestGroups::new(5, 1);
    let wanted = Wanted { alignment_blocks: 1 << 17, ..Wanted::near(BlockNo(0), 1) };
    // Group 3 has the only block with such a number.
    let run = allocate_run(&groups, &wanted).unwrap();
    assert_eq!((run.start, groups.group_of(run), groups.initialised_groups()), (BlockNo(1 << 17), 3, 4));
    assert_eq!(allocate_run(&groups, &wanted), Err(Error::NoSpace));
    assert_eq!(groups.initialised_groups(), 4);
}

#[test]
fn errors_of_a_group_are_not_taken_for_a_full_one() {
    let groups = TestGroups::new(3, 3);
    groups.fill(0, None);
    groups.broken.set(Some(GroupNo(1)));
    let error = Error::Io(groups.geometry.header_of(GroupNo(1)));
    assert_eq!(allocate_run(&groups, &Wanted::near(BlockNo(0), 1)), Err(error));
    assert_eq!(allocate_inode(&groups, InodeNo(2), true), Err(error));
    assert_eq!(allocate_inode(&groups, InodeNo(70), false), Err(error));
}

#[test]
fn a_failed_allocation_of_memory_takes_nothing() {
    for successes in 0.. {
        let groups = TestGroups::new(3, 1);
        groups.fill(0, None);
        let armed = failure::fail_after(successes);
        let result = allocate_run(&groups, &Wanted { alignment_blocks: 8, ..Wanted::near(BlockNo(0), 300) });
        let happened = armed.happened();
        drop(armed);
        if !happened {
            assert!(successes > 0);
            groups.give_back(result.unwrap());
            break;
        }
        assert_eq!(result, Err(Error::OutOfMemory));
        let in_flight = groups.groups.borrow().iter().skip(1).map(Group::in_flight_blocks).sum::<u32>();
        assert_eq!(in_flight, 0);
    }
}

#[test]
fn files_are_numbered_behind_their_directory_until_all_numbers_are_used() {
    let groups = TestGroups::new(3, 1);
    let parent = InodeNo(20);
    // A number behind the directory's counts only below the table mark.
    groups
        .with_group(GroupNo(0), &mut |group| {
            group.raise_table_mark(64);
            Ok(())
        })
        .unwrap();
    let mut given = BTreeSet::new();
    for expected in (21..64).chain(16..21).chain(64..192) {
        let inode = allocate_inode(&groups, parent, false).unwrap();
        assert_eq!(inode, InodeNo(expected));
        given.insert(inode);
    }
    assert_eq!(given.len(), 192 - 16);
    assert_eq!(allocate_inode(&groups, parent, false), Err(Error::NoInodes));
    assert_eq!(allocate_inode(&groups, parent, true), Err(Error::NoInodes));
    for inode in given {
        let place = groups.geometry.locate_inode(inode).unwrap();
        groups.with_group(place.group, &mut |group| group.give_back_inode(place.index)).unwrap();
    }
    groups.check_unused();
    assert!(allocate_inode(&groups, InodeNo(0), false).is_err());
    assert!(allocate_inode(&groups, InodeNo(192), false).is_err());
}

#[test]
fn directories_of_the_root_go_to_the_emptiest_group() {
    let groups = TestGroups::new(4, 3);
    // Group 2 has no blocks, and so is not roomy; group 0 starts with 16 inodes fewer.
    groups.fill(2, None);
    let mut places = Vec::new();
    for _ in 0..22 {
        places.push(groups.group_of_inode(allocate_inode(&groups, ROOT, true).unwrap()));
    }
    assert!(places[..16].iter().all(|group| *group == 1));
    assert_eq!(places[16..], [0, 1, 0, 1, 0, 1]);
    assert_eq!(groups.initialised_groups(), 3);
}

#[test]
fn other_directories_stay_with_their_parent_while_it_is_roomy() {
    let groups = TestGroups::new(3, 3);
    let parent = groups.geometry.inode_at(GroupNo(1), 5);
    let directory = || groups.group_of_inode(allocate_inode(&groups, parent, true).unwrap());
    // Half of the group's 64 inodes; then the nearest of the others, whatever else they have.
    for taken in 0..=32 {
        assert_eq!(directory(), 1, "{taken} inodes of the group are taken");
    }
    assert_eq!(directory(), 0, "the short group is not roomy");
    groups.fill(0, None);
    // That has brought the average down to what the short group has.
    assert_eq!(directory(), 2);
}

#[test]
fn in_a_filesystem_more_than_half_used_directories_stay_with_their_parent_too() {
    let groups = TestGroups::new(3, 3);
    for group in (0..3).map(GroupNo) {
        groups.take_inodes(group, 33);
    }
    let parent = groups.geometry.inode_at(GroupNo(1), 5);
    assert_eq!(allocate_inode(&groups, parent, true).map(|inode| groups.group_of_inode(inode)), Ok(1));
    assert_eq!(allocate_inode(&groups, ROOT, true).map(|inode| groups.group_of_inode(inode)), Ok(1));
    // Group 0, with its reserved inodes, has only 15 left; now that is as many as the other long group has.
    groups.take_inodes(GroupNo(1), 14);
    assert_eq!(allocate_inode(&groups, ROOT, true).map(|inode| groups.group_of_inode(inode)), Ok(0));
}

#[test]
fn where_no_group_is_roomy_inodes_decide() {
    let groups = TestGroups::new(2, 2);
    groups.fill(1, None);
    groups.take_inodes(GroupNo(0), 40);
    assert_eq!(allocate_inode(&groups, ROOT, true).map(|inode| groups.group_of_inode(inode)), Ok(1));
}

#[test]
fn directories_begin_a_group_when_the_best_one_is_half_used() {
    let groups = TestGroups::new(3, 1);
    for _ in 0..17 {
        let inode = allocate_inode(&groups, ROOT, true).unwrap();
        assert_eq!((groups.group_of_inode(inode), groups.initialised_groups()), (0, 1));
    }
    let inode = allocate_inode(&groups, ROOT, true).unwrap();
    assert_eq!((groups.group_of_inode(inode), groups.initialised_groups()), (1, 2));
}

#[test]
fn the_reserve_is_for_those_who_make_space() {
    let groups = TestGroups::new(1, 1);
    let all = groups.geometry.data_blocks();
    *groups.ledger.borrow_mut() = Ledger::new(all, 10);
    let wanted = Wanted::near(BlockNo(0), BITMAP_BITS);
    let normal = allocate_run(&groups, &wanted).unwrap();
    assert_eq!(normal.blocks, all - 10);
    assert_eq!(allocate_run(&groups, &Wanted::near(BlockNo(0), 1)), Err(Error::NoSpace));
    let four = Wanted::near(BlockNo(0), 4).of_class(Class::Reserved);
    assert_eq!(allocate_run(&groups, &four).unwrap().blocks, 4);
    let rest = allocate_run(&groups, &wanted.of_class(Class::Reserved)).unwrap();
    assert_eq!(rest.blocks, 6);
    assert_eq!(allocate_run(&groups, &four), Err(Error::NoSpace));
    groups.give_back(rest);
    assert_eq!(allocate_run(&groups, &Wanted::near(BlockNo(0), 1)), Err(Error::NoSpace));
    assert_eq!(groups.ledger.borrow().available_to(Class::Normal), 0);
    let freed = Freed { blocks: normal.blocks, metadata: false, release: Group::reserve_release().unwrap() };
    let (number, place) = GroupRun::locate(&groups.geometry, normal).unwrap();
    groups.with_group(number, &mut |group| group.settle_blocks(place)).unwrap();
    release_run(&groups, normal.start, freed).unwrap();
    assert_eq!(groups.ledger.borrow().available_to(Class::Normal), all - 14);
}

#[test]
fn what_is_claimed_and_not_found_is_given_back() {
    let groups = TestGroups::new(2, 1);
    let all = groups.geometry.data_blocks();
    let aligned = Wanted { alignment_blocks: 1 << 17, ..Wanted::near(BlockNo(0), 1) };
    assert_eq!(allocate_run(&groups, &aligned), Err(Error::NoSpace));
    assert_eq!(groups.ledger.borrow().available_blocks(), all);
    groups.broken.set(Some(GroupNo(0)));
    assert!(matches!(allocate_run(&groups, &Wanted::near(BlockNo(0), 9)), Err(Error::Io(_))));
    assert_eq!(groups.ledger.borrow().available_blocks(), all);
}
