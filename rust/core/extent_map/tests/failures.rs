// SPDX-License-Identifier: GPL-2.0

//! No memory, no space: reported, and what the handle drops leaves the map as it was.

use super::*;
use crate::memory::failure;

/// Applies one change with each of its allocations failing in turn, undone each time, then with each number of free blocks
/// that is too few.
fn fails_everywhere(file: &mut File, change: &dyn Fn(&mut Counting, &mut Inode) -> Result) -> (u64, usize) {
    let blocks = file.blocks.inner.blocks.clone();
    let freed = file.blocks.inner.freed.clone();
    let inode = file.inode.try_clone().unwrap();
    let restore = |file: &mut File| {
        file.blocks.inner.blocks = blocks.clone();
        file.blocks.inner.freed = freed.clone();
        file.blocks.inner.budget = usize::MAX;
        file.blocks.freed_data.clear();
        file.inode = inode.try_clone().unwrap();
        file.is_like_model();
    };
    let mut successes = 0;
    loop {
        let armed = failure::fail_after(successes);
        let result = change(&mut file.blocks, &mut file.inode);
        let happened = armed.happened();
        drop(armed);
        restore(file);
        if !happened {
            assert_eq!(result, Ok(()));
            break;
        }
        assert_eq!(result, Err(Error::OutOfMemory));
        successes += 1;
    }
    let mut budget = 0;
    loop {
        file.blocks.inner.budget = budget;
        let result = change(&mut file.blocks, &mut file.inode);
        restore(file);
        if result.is_ok() {
            break;
        }
        assert_eq!(result, Err(Error::NoSpace));
        budget += 1;
    }
    (successes, budget)
}

#[test]
fn every_allocation_may_fail() {
    let mut file = File::new(0);
    let (mut memory, mut space) = (0, 0);
    for n in 0..4000_u64 {
        // A middle that moves, so that leaves and nodes are split in all places.
        let offset = if n % 2 == 0 { n } else { 8000 - n };
        let extent = file.extent(offset, 1, false, 0);
        let level = file.level();
        if n < 20 || n % 37 == 0 || n % 168 < 3 || level != file.level() {
            let (a, b) = fails_everywhere(&mut file, &|blocks, inode| insert(blocks, inode, &extent));
            (memory, space) = (memory + a, space + b);
        }
        file.insert(&extent);
    }
    assert!(memory > 0 && space > 0, "no insertion needed memory ({memory}) or space ({space})");
    let mut memory = 0;
    for to in (0..8001).rev().step_by(97) {
        let from = FileBlock(to - to.min(97));
        memory += fails_everywhere(&mut file, &|blocks, inode| {
            remove(blocks, inode, from, FileBlock(to), NO_LIMIT).map(drop)
        })
        .0;
        file.remove(from.0, to, NO_LIMIT);
    }
    assert!(memory > 0, "no removal needed memory");
    file.is_like_model();
    assert!(file.model.is_empty());
}

#[test]
fn cutting_an_extent_in_two_may_need_a_block() {
    let mut file = File::new(0);
    for offset in (0..30).step_by(2) {
        let extent = file.extent(offset * 10, 10, false, 0);
        file.insert(&extent);
    }
    assert_eq!(file.level(), 0);
    let (_, space) = fails_everywhere(&mut file, &|blocks, inode| {
        remove(blocks, inode, FileBlock(103), FileBlock(105), NO_LIMIT).map(drop)
    });
    assert_eq!(space, 1);
    file.remove(103, 105, NO_LIMIT);
    file.is_like_model();
}

#[test]
fn a_full_root_and_a_full_leaf_take_the_worst_case() {
    let mut file = File::new(0);
    // Ascending extents fill 23 leaves and the root.
    let places = (AREA_BYTES - 8) / 16;
    for offset in 0..(places * crate::format::extent::BLOCK_EXTENTS) as u64 {
        let extent = file.extent(offset * 2, 1, false, 0);
        file.insert(&extent);
    }
    assert_eq!(file.level(), 1);
    file.blocks.taken();
    let extent = file.extent(1001, 1, false, 0);
    insert(&mut file.blocks, &mut file.inode, &extent).unwrap();
    // All that an addition may take; the extent before did not change with it.
    let worst = insert_blocks(1);
    let taken = file.blocks.taken();
    assert_eq!((taken.allocated, taken.changed, taken.freed), (worst.allocated, worst.changed - 1, 0));
    assert_eq!(file.level(), 2);
}
