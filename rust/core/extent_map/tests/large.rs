// SPDX-License-Identifier: GPL-2.0

//! Many extents: how full leaves become, and truncation in steps.

use super::*;
use crate::format::extent::BLOCK_EXTENTS;
use crate::format::tree::{NodeEntry, TreeHeader, HEADER_OFFSET, LEVEL_MAX};
use crate::pending::{Pending, Split};

const EXTENTS_MANY: u64 = 100_000;

/// Inserts extents of one block, none of which continues another, in the given order.
fn filled(order: impl Iterator<Item = u64>) -> (Counting, Owned<Inode>) {
    let (mut blocks, mut inode) = (Counting::new(), new_inode());
    for n in order {
        let extent = Extent { file_block: FileBlock(n), block: scattered(n), blocks: 1, flags: 0 };
        insert(&mut blocks, &mut inode, &extent).unwrap();
    }
    (blocks, inode)
}

/// The share of its places that the average leaf uses, in percent; checks the map on the way.
fn fill_percent(blocks: &Counting, inode: &Inode) -> u64 {
    check(blocks, inode).unwrap();
    let mut expected = 0;
    visit(blocks, inode, &mut |extent| {
        assert_eq!((extent.file_block.0, extent.block), (expected, scattered(expected)));
        expected += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(expected, EXTENTS_MANY);
    let mut leaves = 0;
    visit_blocks(blocks, inode, &mut |_, level| {
        leaves += u64::from(level == 0);
        Ok(())
    })
    .unwrap();
    EXTENTS_MANY * 100 / (leaves * BLOCK_EXTENTS as u64)
}

/// Truncates to nothing in steps of a limit; after each, what is left is whole.
fn truncate(mut blocks: Counting, mut inode: Owned<Inode>, limit: Limit) {
    let mut to = FileBlock(FILE_BLOCKS_MAX);
    let mut step = 0;
    while to.0 > 0 {
        let least = remove_blocks_min(level(&inode).unwrap());
        blocks.taken();
        let done = remove(&mut blocks, &mut inode, FileBlock(0), to, limit).unwrap();
        let taken = blocks.taken();
        assert!(taken.changed + taken.freed <= limit.blocks.max(least));
        assert!(done.down_to < to && done.extents <= limit.extents);
        let freed: u64 = blocks.freed_data.drain(..).map(|run| run.blocks).sum();
        assert_eq!(freed, done.data_blocks);
        to = done.down_to;
        step += 1;
        if step % 64 == 0 {
            check(&blocks, &inode).unwrap();
            let last = last(&blocks, &inode).unwrap().unwrap();
            assert_eq!(last.end(), to);
        }
    }
    assert!(step > 10, "the limit did not cut the truncation");
    assert!(inode.map().is_empty() && blocks.inner.blocks.is_empty());
    assert_eq!(inode.core.blocks, 0);
}

#[test]
fn appended_extents_fill_leaves() {
    let (blocks, inode) = filled(0..EXTENTS_MANY);
    assert!(fill_percent(&blocks, &inode) >= 99);
    truncate(blocks, inode, Limit { extents: 1000, blocks: 64 });
}

#[test]
fn extents_in_reverse_fill_leaves() {
    let (blocks, inode) = filled((0..EXTENTS_MANY).rev());
    assert!(fill_percent(&blocks, &inode) >= 99);
    truncate(blocks, inode, Limit { extents: 40, blocks: 1000 });
}

/// Another order, by a generator of Knuth's.
fn shuffle(order: &mut [u64], seed: u64) {
    let mut state = seed;
    for index in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(index, (state >> 33) as usize % (index + 1));
    }
}

#[test]
fn extents_in_any_order_half_fill_leaves() {
    let mut order: Vec<u64> = (0..EXTENTS_MANY).collect();
    shuffle(&mut order, 1);
    let (blocks, inode) = filled(order.into_iter());
    assert!(fill_percent(&blocks, &inode) >= 50);
    truncate(blocks, inode, Limit { extents: u32::MAX, blocks: 20 });
}

#[test]
fn extents_in_reverse_behind_a_full_leaf_half_fill_leaves() {
    let full = 0..BLOCK_EXTENTS as u64;
    let (blocks, inode) = filled(full.clone().chain((full.end..EXTENTS_MANY).rev()));
    assert!(fill_percent(&blocks, &inode) >= 49);
    truncate(blocks, inode, Limit { extents: u32::MAX, blocks: 20 });
}

/// What is pending has promised the tree enough, wherever leaves are full and in whatever order runs are mapped; at each moment it
/// still promises what the rest will take.
fn maps_within_its_promise(
    mapped: impl Iterator<Item = u64>,
    runs: &[(u64, u64)],
    order: &dyn Fn(&mut Vec<u64>),
) {
    let mut file = File::new(0);
    for offset in mapped {
        let extent = file.extent(offset, 1, false, 0);
        file.insert(&extent);
    }
    let (mut pending, mut wanted) = (Pending::new(), Vec::new());
    for (start, blocks) in runs {
        pending.delay(FileBlock(*start), *blocks).unwrap();
        wanted.extend(*start..*start + *blocks);
    }
    order(&mut wanted);
    let mut delayed = wanted.len() as u64;
    // Blocks of the tree, and of those that are still promised.
    let mut moments = vec![(file.blocks.inner.blocks.len() as u64, pending.charge() - delayed)];
    for offset in wanted {
        let extent = file.extent(offset, 1, false, 0);
        file.insert(&extent);
        let place = BlockRun { start: extent.block, blocks: 1 };
        pending.take_off(FileBlock(offset), place).unwrap();
        pending.remove(FileBlock(offset), FileBlock(offset + 1), Split::reserve().unwrap(), &mut |_| {});
        delayed -= 1;
        moments.push((file.blocks.inner.blocks.len() as u64, pending.charge() - delayed));
    }
    let end = moments[moments.len() - 1].0;
    for (mapped, (now, promised)) in moments.iter().enumerate() {
        let taken = end - now;
        assert!(
            taken <= *promised,
            "behind {mapped} blocks {taken} of the tree follow, {promised} are promised"
        );
    }
}

#[test]
fn a_block_in_each_full_leaf_was_promised() {
    // Ascending extents leave all leaves full but the last one.
    let leaf = 2 * BLOCK_EXTENTS as u64;
    let runs: Vec<_> = (0..100).map(|number| (leaf * number + leaf / 2 + 1, 1)).collect();
    maps_within_its_promise((0..100 * leaf).step_by(2), &runs, &|_| {});
    maps_within_its_promise((0..100 * leaf).step_by(2), &runs, &|blocks| blocks.reverse());
}

#[test]
fn blocks_that_go_to_the_end_backwards_were_promised() {
    let full = BLOCK_EXTENTS as u64;
    let runs: Vec<_> = (full..full + 3_000).map(|number| (2 * number, 1)).collect();
    maps_within_its_promise((0..full).map(|number| 2 * number), &runs, &|blocks| blocks.reverse());
    maps_within_its_promise(0..full, &[(full + 7, 3_000)], &|blocks| blocks.reverse());
}

#[test]
fn what_is_left_between_full_leaves_stays_promised() {
    let leaf = BLOCK_EXTENTS as u64 + 1;
    // All but each last one in their order: each leaf is full, and one block is to go behind it.
    maps_within_its_promise(0..0, &[(0, 40 * leaf)], &|blocks| {
        blocks.sort_by_key(|block| (block % leaf == leaf - 1, *block));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_pending_was_promised(
        mapped in 1..24_u64,
        gap in 2..4_u64,
        runs in prop::collection::btree_map(0..10_000_u64, 1..60_u64, 1..80),
        seed in any::<u64>(),
    ) {
        // Full leaves of extents with gaps; in front, between and behind them runs that do not touch.
        let count = mapped * BLOCK_EXTENTS as u64;
        let taken: BTreeSet<u64> = (0..count).map(|number| 600 + number * gap).collect();
        let mut pending = Vec::new();
        let mut behind = 0;
        for (start, blocks) in runs {
            let free = (start.max(behind)..start + blocks).take_while(|block| !taken.contains(block)).count();
            if free > 0 {
                pending.push((start.max(behind), free as u64));
                behind = start.max(behind) + free as u64 + 1;
            }
        }
        maps_within_its_promise(taken.into_iter(), &pending, &|blocks| shuffle(blocks, seed));
    }
}

/// A file with one extent, at the bottom of a tree as high as can be: what removals may leave of a larger one.
fn tall() -> File {
    let mut file = File::new(0);
    let extent = file.extent(0, 1, false, 0);
    file.insert(&extent);
    let map = file.inode.map().to_vec();
    file.inode.resize_map(0).unwrap();
    let mut child = BlockNo(0);
    for level in 0..LEVEL_MAX {
        let block =
            tree::allocate(&mut file.blocks, &mut file.inode, BlockKind::ExtentTree, BlockNo(0)).unwrap();
        let bytes = file.blocks.change(BlockKind::ExtentTree, InodeNo(20), block).unwrap();
        if level == 0 {
            bytes[HEADER_OFFSET..][..map.len()].copy_from_slice(&map);
        } else {
            TreeHeader { level, count: 1, reserved: 0 }.encode(bytes, HEADER_OFFSET).unwrap();
            NodeEntry { key: 0, child }.encode(bytes, HEADER_OFFSET + TreeHeader::SIZE).unwrap();
        }
        child = block;
    }
    tree::set_root(&mut file.inode, LEVEL_MAX, child).unwrap();
    file.is_like_model();
    file
}

#[test]
fn the_highest_tree_grows_and_shrinks() {
    let mut file = tall();
    file.remove(0, 1, NO_LIMIT);
    file.is_like_model();
    assert!(file.inode.map().is_empty() && file.blocks.inner.blocks.is_empty());

    let mut file = tall();
    for offset in (2..3000).rev().step_by(2) {
        let extent = file.extent(offset, 1, true, 0);
        file.insert(&extent);
    }
    file.is_like_model();
    for offset in (3..2000).step_by(2) {
        let extent = file.extent(offset, 1, true, 0);
        file.insert(&extent);
    }
    file.is_like_model();
    (0..3000).for_each(|offset| file.finds(offset));
    file.remove(0, 3000, Limit { extents: 3, blocks: 0 });
    file.is_like_model();
    assert!(file.inode.map().is_empty() && file.blocks.inner.blocks.is_empty());
}
