// SPDX-License-Identifier: GPL-2.0

//! Trees of leaves that hold nothing, against a map of their lower bounds.

use super::*;
use crate::blocks::testing::MapBlocks;
use crate::error::Error;
use crate::format::tree::{BLOCK_NODE_ENTRIES, ROOT_NODE_ENTRIES};
use crate::inode::NewInode;
use crate::memory::Owned;
use crate::units::{InodeGeneration, InodeNo};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn regular() -> Owned<Inode> {
    let new = NewInode { mode: 0o100_644, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 0 };
    Inode::new(InodeNo(20), InodeGeneration(1), &new).unwrap()
}

/// A tree of empty leaves, and what must be in it: the key from which on a leaf holds keys.
struct Fixture {
    blocks: MapBlocks,
    inode: Owned<Inode>,
    leaves: BTreeMap<u64, BlockNo>,
}

impl Fixture {
    fn new(attribute_bytes: usize) -> Self {
        let mut fixture = Self { blocks: MapBlocks::new(), inode: regular(), leaves: BTreeMap::new() };
        fixture.inode.resize_attributes(attribute_bytes).unwrap();
        let leaf = allocate(&mut fixture.blocks, &mut fixture.inode, EXTENTS.leaf, BlockNo(0)).unwrap();
        set_root(&mut fixture.inode, 1, leaf).unwrap();
        fixture.leaves.insert(0, leaf);
        fixture
    }

    fn find(&self, key: u64) -> Path {
        find(&self.blocks, EXTENTS, &self.inode, key).unwrap()
    }

    /// What a leaf's split does: a new leaf takes the keys from `key` on.
    fn split_at(&mut self, key: u64) {
        let mut path = self.find(key);
        admit(&mut self.blocks, EXTENTS, &mut self.inode, &mut path).unwrap();
        // What the leaf before a removed one held may now be its successor's.
        let (&bound, _) = self.leaves.iter().find(|(_, leaf)| **leaf == path.leaf()).unwrap();
        assert!(path.low() <= bound && path.low() <= key && key < path.end());
        self.leaves.remove(&bound);
        assert_eq!(self.leaves.insert(path.low(), path.leaf()), None);
        if path.low() == key {
            return;
        }
        let leaf = allocate(&mut self.blocks, &mut self.inode, EXTENTS.leaf, path.leaf()).unwrap();
        insert(&mut self.blocks, EXTENTS, &mut self.inode, &path, key, leaf).unwrap();
        self.leaves.insert(key, leaf);
    }

    fn remove_at(&mut self, key: u64) -> bool {
        let path = self.find(key);
        free(&mut self.blocks, &mut self.inode, EXTENTS.leaf, path.leaf()).unwrap();
        self.leaves.retain(|_, leaf| *leaf != path.leaf());
        remove(&mut self.blocks, EXTENTS, &mut self.inode, &path).unwrap()
    }

    /// Every leaf is found, in order, and every block belongs to the tree.
    fn check(&self) {
        let (mut leaves, mut all) = (Vec::new(), BTreeSet::new());
        visit(&self.blocks, EXTENTS, &self.inode, &mut |_, block, level, path| {
            assert!(all.insert(block), "block {block} was shown twice");
            assert!(path.low() < path.end());
            if level > 0 {
                return node::verify(&self.blocks.blocks[&block], block, self.blocks.geometry());
            }
            leaves.push(block);
            Ok(())
        })
        .unwrap();
        assert_eq!(leaves, self.leaves.values().copied().collect::<Vec<_>>());
        assert!(self.blocks.blocks.keys().eq(all.iter()), "a block is not in the tree");
        assert_eq!(self.inode.core.blocks, all.len() as u64);
        let mut before = None;
        for (key, leaf) in &self.leaves {
            let path = self.find(*key);
            assert_eq!(path.leaf(), *leaf);
            assert_eq!(path.previous().map(|key| self.find(key).leaf()), before);
            before = Some(*leaf);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn trees_find_what_was_put_in(
        steps in prop::collection::vec((any::<bool>(), 0..2000_u64), 1..600),
        attribute_bytes in prop_oneof![Just(0_usize), Just(360), 0..360_usize],
        ascending in any::<bool>(),
    ) {
        let mut fixture = Fixture::new(attribute_bytes);
        for key in 0..700 {
            fixture.split_at(if ascending { key * 3 } else { key * 7919 % 2003 });
        }
        fixture.check();
        for (removes, key) in steps {
            if removes && fixture.leaves.len() > 1 {
                prop_assert!(!fixture.remove_at(key));
            } else {
                fixture.split_at(key);
            }
        }
        fixture.check();
    }
}

#[test]
fn a_tree_grows_and_goes_away_again() {
    let mut fixture = Fixture::new(0);
    for key in 1..ROOT_NODE_ENTRIES as u64 {
        fixture.split_at(key);
    }
    assert_eq!((fixture.find(0).root_level(), fixture.blocks.blocks.len()), (1, ROOT_NODE_ENTRIES));
    fixture.split_at(1000);
    assert_eq!((fixture.find(0).root_level(), fixture.blocks.blocks.len()), (2, ROOT_NODE_ENTRIES + 2));
    for key in 1001..7_000 {
        fixture.split_at(key);
    }
    fixture.check();
    assert_eq!(fixture.find(0).root_level(), 3);
    let nodes = fixture.blocks.blocks.len() - fixture.leaves.len();
    assert!(
        nodes <= fixture.leaves.len().div_ceil(BLOCK_NODE_ENTRIES) + 3,
        "ascending keys leave nodes half empty"
    );
    let mut keys: Vec<u64> = fixture.leaves.keys().copied().collect();
    while keys.len() > 1 {
        let key = keys.swap_remove(keys.len() * 7919 % keys.len().max(2) % keys.len());
        assert!(!fixture.remove_at(key));
        if keys.len().is_multiple_of(1000) {
            fixture.check();
        }
    }
    assert_eq!(fixture.find(0).root_level(), 1);
    assert!(fixture.remove_at(0));
    assert!(fixture.blocks.blocks.is_empty());
    assert_eq!((fixture.inode.core.blocks, fixture.inode.map()), (0, [0; 8].as_slice()));
}

#[test]
fn nodes_that_contradict_themselves_are_refused() {
    let mut fixture = Fixture::new(0);
    for key in 1..2000 {
        fixture.split_at(key * 10);
    }
    let path = fixture.find(5000);
    assert_eq!(path.root_level(), 2);
    let block = path.step(1).unwrap().block;
    let pristine = fixture.blocks.blocks[&block].clone();
    let geometry = *fixture.blocks.geometry();
    let cases: [(usize, u64, Check); 7] = [
        (HEADER_OFFSET, 2, Check::Level),
        (HEADER_OFFSET, 1 | 253 << 16, Check::Count),
        (HEADER_OFFSET, 1, Check::Count),
        (HEADER_OFFSET, 1 | 252 << 16 | 1 << 32, Check::Reserved),
        (HEADER_OFFSET + 8 + 16 * 3, 0, Check::Order),
        (HEADER_OFFSET + 8 + 16 * 3, u64::MAX, Check::Order),
        (HEADER_OFFSET + 16, 1 << 40, Check::BlockRange),
    ];
    for (offset, value, check) in cases {
        let mut bytes = pristine.clone();
        bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        let failed = match node::check(&bytes[HEADER_OFFSET..], 1, block, &geometry) {
            Err(Error::Corrupt(corruption)) => corruption.check,
            other => panic!("{check:?}: {other:?}"),
        };
        assert_eq!(failed, check);
    }
    // A node with a key of its neighbour's: seen by whoever follows the path, not only by the full check.
    let place = fixture.blocks.blocks.get_mut(&block).unwrap();
    place[HEADER_OFFSET + 8..HEADER_OFFSET + 16].copy_from_slice(&15_000_u64.to_le_bytes());
    let found = find(&fixture.blocks, EXTENTS, &fixture.inode, 5000);
    assert!(matches!(found, Err(Error::Corrupt(corruption)) if corruption.check == Check::Key), "{found:?}");
}

/// Blocks that an operation on the fixture changed or allocated, and those that it freed.
fn touched(fixture: &mut Fixture, operation: impl FnOnce(&mut Fixture)) -> (usize, usize) {
    let before = fixture.blocks.blocks.clone();
    operation(fixture);
    let after = &fixture.blocks.blocks;
    let changed = after.iter().filter(|(block, bytes)| before.get(*block) != Some(*bytes)).count();
    (changed, before.keys().filter(|block| !after.contains_key(block)).count())
}

#[test]
fn the_bounds_hold_and_are_reached() {
    // A root of one entry, as beside many attributes, and full nodes below it: all of them split, and the root grows.
    let mut fixture = Fixture::new(360);
    let (mut most_changed, mut key) = (0, 1 << 20);
    while fixture.find(key).root_level() < 3 {
        let root_level = usize::from(fixture.find(key).root_level());
        let full = fixture.leaves.len() % (BLOCK_NODE_ENTRIES / 2) < 2;
        if full {
            let (changed, freed) = touched(&mut fixture, |fixture| fixture.split_at(key));
            // The new leaf, two halves for each node below the root, and the block that a growing root adds.
            assert!(
                changed <= 1 + 2 * (root_level - 1) + 1 && freed == 0,
                "{changed} of a tree of {root_level}"
            );
            most_changed = most_changed.max(changed);
        } else {
            fixture.split_at(key);
        }
        key -= 1;
    }
    assert_eq!(most_changed, 1 + 2 + 1);
    let (mut most_freed, mut keys) = (0, fixture.leaves.keys().copied().collect::<Vec<_>>());
    while let Some(key) = keys.pop() {
        let root_level = usize::from(fixture.find(key).root_level());
        let (changed, freed) = touched(&mut fixture, |fixture| {
            fixture.remove_at(key);
        });
        assert!(freed <= 1 + root_level && changed <= REMOVE_CHANGED_MAX, "{freed} freed, {changed} changed");
        most_freed = most_freed.max(freed);
    }
    assert_eq!(most_freed, 3);
}
