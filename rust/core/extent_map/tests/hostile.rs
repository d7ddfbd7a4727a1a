// SPDX-License-Identifier: GPL-2.0

//! Bytes that lie: whatever they say, every call returns.

use super::*;
use crate::format::tree::{ENTRIES_OFFSET, HEADER_OFFSET};
use crate::units::BLOCK_BYTES;

/// A lie about a block of the tree, or about the root.
#[derive(Clone, Debug)]
enum Lie {
    /// One byte of a block.
    Byte { block: usize, at: usize, byte: u8 },
    /// One byte of the inode's area.
    RootByte { at: usize, byte: u8 },
    /// Eight bytes of a block, copied from another: keys, children, counts that are plausible elsewhere.
    Copy { from: usize, to: usize, from_at: usize, to_at: usize },
    /// All of a block but its header.
    Twin { from: usize, to: usize },
    /// Another length of the map.
    Resize(usize),
}

fn lie() -> impl Strategy<Value = Lie> {
    // Most lies are told near the start of a block, where there are levels, counts and the first keys.
    let at = || prop_oneof![3 => HEADER_OFFSET..HEADER_OFFSET + 64, 1 => HEADER_OFFSET..BLOCK_BYTES];
    let place = || (0..30_usize, any::<bool>());
    let offset = |(index, aligned): (usize, bool)| ENTRIES_OFFSET + index * if aligned { 16 } else { 8 };
    prop_oneof![
        (0..64_usize, at(), any::<u8>()).prop_map(|(block, at, byte)| Lie::Byte { block, at, byte }),
        (0..400_usize, any::<u8>()).prop_map(|(at, byte)| Lie::RootByte { at, byte }),
        (0..16_usize, any::<u8>()).prop_map(|(at, byte)| Lie::RootByte { at, byte: byte % 8 }),
        (0..64_usize, 0..64_usize, place(), place()).prop_map(move |(from, to, from_at, to_at)| Lie::Copy {
            from,
            to,
            from_at: offset(from_at),
            to_at: offset(to_at)
        }),
        (0..64_usize, 0..64_usize).prop_map(|(from, to)| Lie::Twin { from, to }),
        (0..=AREA_BYTES).prop_map(Lie::Resize),
    ]
}

fn tell(file: &mut File, lie: &Lie) {
    let blocks = &mut file.blocks.inner.blocks;
    let numbers: Vec<BlockNo> = blocks.keys().copied().collect();
    let number = |index: usize| numbers[index % numbers.len()];
    match *lie {
        Lie::RootByte { at, byte } => {
            let map = file.inode.map_mut();
            if !map.is_empty() {
                let at = at % map.len();
                map[at] = byte;
            }
        }
        Lie::Resize(bytes) => drop(file.inode.resize_map(bytes)),
        _ if numbers.is_empty() => {}
        Lie::Byte { block, at, byte } => blocks.get_mut(&number(block)).unwrap()[at] = byte,
        Lie::Copy { from, to, from_at, to_at } => {
            let source = blocks[&number(from)][from_at..from_at + 8].to_vec();
            blocks.get_mut(&number(to)).unwrap()[to_at..to_at + 8].copy_from_slice(&source);
        }
        Lie::Twin { from, to } => {
            let source = blocks[&number(from)][HEADER_OFFSET..].to_vec();
            blocks.get_mut(&number(to)).unwrap()[HEADER_OFFSET..].copy_from_slice(&source);
        }
    }
}

/// A tree with a root at level 0, 1 or 2.
fn built(size: usize, scattered_extents: bool) -> File {
    let mut file = File::new(0);
    let count = [12, 900, 3500][size];
    for n in 0..count {
        let offset = if n % 2 == 0 { 2 * n } else { 2 * (count - n) - 1 };
        let extent = file.extent(offset, 1, !scattered_extents, 0);
        file.insert(&extent);
    }
    file
}

/// Calls everything; only that it returns, and how often it calls back, is checked.
fn ask_everything(file: &mut File, offsets: &[u64]) {
    let most = file.blocks.inner.blocks.len();
    let mut seen = 0;
    let blocks = visit_blocks(&file.blocks, &file.inode, &mut |_, _| {
        seen += 1;
        Ok(())
    });
    assert!(seen <= most, "a block was visited twice");
    let mut extents = 0;
    let visited = visit(&file.blocks, &file.inode, &mut |_| {
        extents += 1;
        Ok(())
    });
    assert!(extents <= (most + 1) * BLOCK_BYTES / Extent::SIZE);
    if check(&file.blocks, &file.inode).is_ok() {
        assert!(blocks.is_ok() && visited.is_ok());
    }
    for (number, bytes) in &file.blocks.inner.blocks {
        let _ = verify(bytes, *number, file.blocks.geometry());
    }
    let _ = verify_root(&file.inode, file.blocks.geometry());
    let _ = last(&file.blocks, &file.inode);
    for offset in offsets {
        let at = FileBlock(*offset);
        let _ = find(&file.blocks, &file.inode, at);
        let _ = next_from(&file.blocks, &file.inode, at);
        let extent = file.extent(*offset, 3, offset % 2 == 0, 0);
        let _ = insert(&mut file.blocks, &mut file.inode, &extent);
        let limit = Limit { extents: 30, blocks: 100 };
        let _ = remove(&mut file.blocks, &mut file.inode, at, FileBlock(offset + 50), limit);
    }
    let mut to = FileBlock(FILE_BLOCKS_MAX);
    for _ in 0..20_000 {
        let limit = Limit { extents: 100, blocks: 100 };
        match remove(&mut file.blocks, &mut file.inode, FileBlock(0), to, limit) {
            Ok(done) if done.down_to.0 > 0 => {
                assert!(done.down_to < to, "a removal in steps goes nowhere");
                to = done.down_to;
            }
            _ => return,
        }
    }
    panic!("a removal in steps does not end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn lies_neither_panic_nor_hang(
        size in 0..3_usize,
        scattered_extents in any::<bool>(),
        lies in prop::collection::vec(lie(), 1..6),
        offsets in prop::collection::vec(0..8000_u64, 1..6),
    ) {
        let mut file = built(size, scattered_extents);
        for lie in &lies {
            tell(&mut file, lie);
        }
        ask_everything(&mut file, &offsets);
    }
}

fn check_of(result: Result) -> Check {
    match result {
        Err(Error::Corrupt(corruption)) => corruption.check,
        other => panic!("{other:?}"),
    }
}

#[test]
fn verifiers_name_what_is_wrong() {
    let file = built(1, true);
    let (number, good) = file.blocks.inner.blocks.iter().next().unwrap();
    verify(good, *number, &geometry()).unwrap();
    let second = ENTRIES_OFFSET + Extent::SIZE;
    let lies = [
        (HEADER_OFFSET, 9, Check::Level),
        (HEADER_OFFSET + 2, 0, Check::Count),
        (HEADER_OFFSET + 2, 1, Check::Reserved),
        (HEADER_OFFSET + 3, 1, Check::Count),
        (HEADER_OFFSET + 4, 1, Check::Reserved),
        (ENTRIES_OFFSET + 1, 0x7F, Check::Order),
        (ENTRIES_OFFSET + 7, 0x7F, Check::Bounds),
        (ENTRIES_OFFSET + 15, 0x7F, Check::BlockRange),
        (ENTRIES_OFFSET + 16, 0, Check::Bounds),
        (ENTRIES_OFFSET + 18, 0x7F, Check::BlockRange),
        (ENTRIES_OFFSET + 20, 2, Check::Flags),
        (second + 20, 2, Check::Flags),
        (BLOCK_BYTES - 1, 1, Check::Reserved),
    ];
    for (at, byte, wanted) in lies {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(check_of(verify(&bad, *number, &geometry())), wanted, "byte {at}");
    }
}

#[test]
fn a_root_that_lies_is_named() {
    let mut file = built(0, true);
    verify_root(&file.inode, &geometry()).unwrap();
    file.inode.map_mut()[2] -= 1;
    assert_eq!(check_of(verify_root(&file.inode, &geometry())), Check::Count);
    assert_eq!(check_of(find(&file.blocks, &file.inode, FileBlock(0)).map(drop)), Check::Count);
    let mut file = built(1, true);
    verify_root(&file.inode, &geometry()).unwrap();
    file.inode.map_mut()[0] = 8;
    assert_eq!(check_of(verify_root(&file.inode, &geometry())), Check::Level);
    file.inode.map_mut()[0] = 2;
    assert_eq!(check_of(find(&file.blocks, &file.inode, FileBlock(0)).map(drop)), Check::Level);
}

#[test]
fn the_checker_finds_what_no_block_shows_alone() {
    let mut file = built(1, true);
    check(&file.blocks, &file.inode).unwrap();
    file.inode.core.blocks += 1;
    assert_eq!(check_of(check(&file.blocks, &file.inode)), Check::BlockCount);
    file.inode.core.blocks -= 1;
    // Two extents that ought to be one.
    let mut twins = built(0, true);
    let first = leaf::extent(twins.inode.map(), 0).unwrap();
    let second = Extent { file_block: first.end(), block: first.run().end(), ..first };
    leaf::set(twins.inode.map_mut(), 1, &second).unwrap();
    assert_eq!(check_of(check(&twins.blocks, &twins.inode)), Check::Order);
    // The last extent of the first leaf reaches into the second.
    let mut leaves = Vec::new();
    visit_blocks(&file.blocks, &file.inode, &mut |block, _| {
        leaves.push(block);
        Ok(())
    })
    .unwrap();
    let row = file.blocks.inner.blocks.get_mut(&leaves[0]).unwrap();
    let count = usize::from(row[HEADER_OFFSET + 2]);
    row[ENTRIES_OFFSET + (count - 1) * Extent::SIZE + 16] = 200;
    assert_eq!(check_of(check(&file.blocks, &file.inode)), Check::Order);
}

#[test]
fn a_leaf_stands_in_one_place_only() {
    let good = built(1, true);
    let first = tree::find(&good.blocks, EXTENTS, &good.inode, 0).unwrap();
    let second = tree::find(&good.blocks, EXTENTS, &good.inode, first.end()).unwrap();
    let child_offset = |index: usize| 8 + index * 16 + 8;
    for (index, child, asked) in [(0, second.leaf(), 0), (1, first.leaf(), second.low())] {
        let mut inode = good.inode.try_clone().unwrap();
        inode.map_mut()[child_offset(index)..][..8].copy_from_slice(&child.0.to_le_bytes());
        let found = find(&good.blocks, &inode, FileBlock(asked)).map(drop);
        assert_eq!(check_of(found), Check::Key);
        assert_eq!(check_of(visit(&good.blocks, &inode, &mut |_| Ok(()))), Check::Key);
    }
}
