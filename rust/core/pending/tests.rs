// SPDX-License-Identifier: GPL-2.0

//! Pending runs against a table with one entry for each block.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const BLOCKS: u64 = 64;

/// What a block is: delayed, or in flight to a block of the device.
type Table = BTreeMap<u64, Option<u64>>;

#[derive(Clone, Debug)]
enum Step {
    Delay(u64, u64),
    TakeOff(u64, u64),
    Remove(u64, u64),
    RemoveDelayed(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run = (0..BLOCKS, 1..12_u64);
    let step = prop_oneof![
        run.clone().prop_map(|(start, blocks)| Step::Delay(start, blocks)),
        run.clone().prop_map(|(start, blocks)| Step::TakeOff(start, blocks)),
        run.clone().prop_map(|(start, blocks)| Step::Remove(start, blocks)),
        run.prop_map(|(start, blocks)| Step::RemoveDelayed(start, blocks)),
    ];
    proptest::collection::vec(step, 1..80)
}

fn block_of(pending: &mut Pending, at: u64) -> Option<Option<u64>> {
    match pending.find(FileBlock(at)) {
        Found::Nothing { end } => {
            assert!(end.0 > at);
            None
        }
        Found::Delayed { start, blocks } => {
            assert!((start.0..start.0 + blocks).contains(&at));
            Some(None)
        }
        Found::InFlight { start, place } => {
            assert!((start.0..start.0 + place.blocks).contains(&at));
            Some(Some(place.start.0 + (at - start.0)))
        }
    }
}

fn apply(pending: &mut Pending, table: &mut Table, step: &Step, next_place: &mut u64) {
    match *step {
        Step::Delay(start, blocks) => {
            let is_free = (start..start + blocks).all(|block| !table.contains_key(&block));
            let more = if is_free { pending.charge_for(FileBlock(start), blocks) } else { 0 };
            let charge = pending.charge() + more;
            assert_eq!(pending.delay(FileBlock(start), blocks).is_ok(), is_free);
            assert_eq!(pending.charge(), charge);
            if is_free {
                table.extend((start..start + blocks).map(|block| (block, None)));
            }
        }
        Step::TakeOff(start, blocks) => {
            let place = BlockRun { start: BlockNo(*next_place), blocks };
            let fits = (start..start + blocks).all(|block| table.get(&block) == Some(&None));
            // Delayed runs that touch may be two: then only the first of them can be taken.
            let taken = pending.take_off(FileBlock(start), place).is_ok();
            assert!(fits || !taken);
            if taken {
                table.extend((0..blocks).map(|block| (start + block, Some(*next_place + block))));
                *next_place += blocks + 1;
            }
        }
        Step::Remove(start, blocks) => {
            let mut freed = Vec::new();
            let split = Split::reserve().unwrap();
            pending.remove(FileBlock(start), FileBlock(start + blocks), split, &mut |run| {
                freed.extend(run.start.0..run.end().0);
            });
            let expected: Vec<u64> =
                (start..start + blocks).filter_map(|block| table.remove(&block)).flatten().collect();
            assert_eq!(freed, expected);
        }
        Step::RemoveDelayed(start, blocks) => {
            let split = Split::reserve().unwrap();
            pending.remove_delayed(FileBlock(start), FileBlock(start + blocks), split);
            table.retain(|block, place| !(start..start + blocks).contains(block) || place.is_some());
        }
    }
}

proptest! {
    #[test]
    fn runs_are_what_was_done_to_each_block(steps in steps()) {
        let (mut pending, mut table, mut next_place) = (Pending::new(), Table::new(), 1000);
        for step in &steps {
            let charge = pending.charge();
            apply(&mut pending, &mut table, step, &mut next_place);
            // Only a promise that was paid for makes it grow.
            prop_assert!(matches!(step, Step::Delay(..)) || pending.charge() <= charge);
            let islands = table.keys().filter(|block| **block == 0 || !table.contains_key(&(*block - 1)));
            prop_assert_eq!(pending.islands, islands.count() as u64);
            let has_gone = matches!(step, Step::Remove(..) | Step::RemoveDelayed(..));
            prop_assert!(!has_gone || pending.leaves <= pending.islands);
            prop_assert_eq!(pending.leaves == 0, table.is_empty());
            for at in 0..BLOCKS + 16 {
                prop_assert_eq!(block_of(&mut pending, at), table.get(&at).copied());
            }
            prop_assert_eq!(pending.blocks, table.len() as u64);
            prop_assert_eq!(pending.is_empty(), table.is_empty());
            let delayed = table.values().filter(|place| place.is_none()).count() as u64;
            prop_assert_eq!(pending.delayed_blocks, delayed);
        }
    }
}

#[test]
fn a_file_is_charged_for_its_tree_as_well() {
    let mut pending = Pending::new();
    assert_eq!(pending.charge(), 0);
    pending.delay(FileBlock(7), 1).unwrap();
    assert_eq!(pending.charge(), 1 + 1 + TREE_BLOCKS);
    pending.delay(FileBlock(8), BLOCK_EXTENTS as u64).unwrap();
    assert_eq!(pending.charge(), 1 + BLOCK_EXTENTS as u64 + 3 + TREE_BLOCKS);
    pending.delay(FileBlock(5), 1).unwrap();
    assert_eq!(pending.charge(), 2 + BLOCK_EXTENTS as u64 + 4 + TREE_BLOCKS, "a second island");
    pending.remove_from(FileBlock(8), &mut |_| {});
    assert_eq!(pending.charge(), 2 + 2 + TREE_BLOCKS);
    pending.take_off(FileBlock(7), BlockRun { start: BlockNo(99), blocks: 1 }).unwrap();
    assert_eq!(pending.charge(), 1 + 2 + TREE_BLOCKS, "it has been taken");
    pending.remove_from(FileBlock(0), &mut |_| {});
    assert_eq!(pending.charge(), 0);
}
