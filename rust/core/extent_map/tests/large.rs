// SPDX-License-Identifier: GPL-2.0

//! Many extents: how full leaves become, and truncation in steps.

use super::*;
use crate::format::extent::BLOCK_EXTENTS;
use crate::format::tree::{NodeEntry, TreeHeader, HEADER_OFFSET, LEVEL_MAX};

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

#[test]
fn extents_in_any_order_half_fill_leaves() {
    let mut order: Vec<u64> = (0..EXTENTS_MANY).collect();
    let mut state = 1_u64;
    for index in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(index, (state >> 33) as usize % (index + 1));
    }
    let (blocks, inode) = filled(order.into_iter());
    assert!(fill_percent(&blocks, &inode) >= 50);
    truncate(blocks, inode, Limit { extents: u32::MAX, blocks: 20 });
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
