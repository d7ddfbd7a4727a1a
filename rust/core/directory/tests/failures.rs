// SPDX-License-Identifier: GPL-2.0

//! Every allocation of memory or of a block fails once. The caller then drops what the operation has changed; the
//! same operation must succeed afterwards.

use super::*;
use crate::memory::failure;

/// What a handle's private copies are dropped back to.
struct Snapshot {
    blocks: BTreeMap<BlockNo, Vec<u8>>,
    freed: BTreeSet<BlockNo>,
    directory: Owned<Inode>,
}

impl Fixture {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            blocks: self.blocks.blocks.clone(),
            freed: self.blocks.freed.clone(),
            directory: self.directory.try_clone().unwrap(),
        }
    }

    fn drop_back(&mut self, snapshot: &Snapshot) {
        self.blocks.blocks.clone_from(&snapshot.blocks);
        self.blocks.freed.clone_from(&snapshot.freed);
        self.directory = snapshot.directory.try_clone().unwrap();
    }

    /// Inserts or removes, failing at each allocation in turn before; returns how many failures there were.
    fn with_failures(&mut self, kind: Failure, inserts: bool, name: &[u8]) -> u64 {
        let snapshot = self.snapshot();
        let hash = self.hashing.hash(name);
        for successes in 0.. {
            let armed = (kind == Failure::Memory).then(|| failure::fail_after(successes));
            if kind == Failure::Blocks {
                self.blocks.budget = successes as usize;
            }
            let (blocks, directory) = (&mut self.blocks, &mut self.directory);
            let result = if inserts {
                insert_at(blocks, hash, directory, name, InodeNo(77), TYPE_REGULAR).map(|_| ())
            } else {
                remove_at(blocks, hash, directory, name).map(|_| ())
            };
            drop(armed);
            self.blocks.budget = usize::MAX;
            self.drop_back(&snapshot);
            match (result, kind) {
                (Ok(()), _) => {
                    if inserts {
                        self.insert(name, 77).unwrap();
                    } else {
                        self.remove(name).unwrap();
                    }
                    return successes;
                }
                (Err(Error::OutOfMemory), Failure::Memory) | (Err(Error::NoSpace), Failure::Blocks) => {}
                (Err(error), _) => panic!("{error} for a failure of {kind:?}"),
            }
        }
        0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Memory,
    Blocks,
}

/// Names of one length, whose hashes are as a test wants them: so many a leaf, and so the shape of the tree is known.
fn grow_and_shrink(kind: Failure) -> (u64, u64) {
    let mut fixture = Fixture::new(Hashing::Real, 300);
    let name = |number: usize| format!("{number:0200}").into_bytes();
    let (mut inserting, mut removing) = (0, 0);
    for number in 0..700 {
        inserting += fixture.with_failures(kind, true, &name(number));
    }
    fixture.check();
    assert_eq!(tree::root(&fixture.directory).unwrap().level, 2);
    for number in 0..700 {
        removing += fixture.with_failures(kind, false, &name(number * 389 % 700));
    }
    fixture.check();
    assert_eq!(fixture.blocks.blocks.len(), 0);
    (inserting, removing)
}

#[test]
fn running_out_of_memory_changes_nothing_that_stays() {
    let (inserting, removing) = grow_and_shrink(Failure::Memory);
    // Splits and packed leaves need a buffer, and so does a node that is pulled up into the root.
    assert!(inserting > 50 && removing > 0, "{inserting} and {removing} failures");
}

#[test]
fn running_out_of_blocks_changes_nothing_that_stays() {
    let (inserting, removing) = grow_and_shrink(Failure::Blocks);
    assert!(inserting > 50, "{inserting} failures");
    assert_eq!(removing, 0, "a removal needs no blocks");
}

#[test]
fn attributes_that_leave_no_room_for_a_root_are_no_space() {
    let mut fixture = Fixture::new(Hashing::Real, AREA_BYTES - tree::ROOT_BYTES_MIN + 1);
    let snapshot = fixture.snapshot();
    let directory = &mut fixture.directory;
    let result = insert(&mut fixture.blocks, &HASH_KEY, directory, b"a name", InodeNo(50), TYPE_REGULAR);
    assert_eq!(result, Err(Error::NoSpace));
    fixture.drop_back(&snapshot);
    fixture.insert(b"name", 50).unwrap();
    fixture.check();
}

/// Blocks that differ from those before, and those that are gone.
fn touched(before: &BTreeMap<BlockNo, Vec<u8>>, after: &BTreeMap<BlockNo, Vec<u8>>) -> (usize, usize) {
    let changed = after.iter().filter(|(block, bytes)| before.get(*block) != Some(*bytes)).count();
    (changed, before.keys().filter(|block| !after.contains_key(block)).count())
}

#[test]
fn the_limits_hold_and_are_those_of_the_operations() {
    let mut fixture = Fixture::new(Hashing::Real, 360);
    let name = |number: usize| format!("{number:0250}").into_bytes();
    let (mut most_changed, mut most_freed) = (0, 0);
    for number in 0..4000 {
        let (before, limits) = (fixture.snapshot(), insert_limits(&fixture.directory));
        fixture.blocks.budget = limits.allocated;
        let start = hash(&HASH_KEY, &name(number));
        insert_at(
            &mut fixture.blocks,
            start,
            &mut fixture.directory,
            &name(number),
            InodeNo(50),
            TYPE_REGULAR,
        )
        .unwrap();
        let (changed, freed) = touched(&before.blocks, &fixture.blocks.blocks);
        assert!(changed <= limits.changed && freed == 0, "{changed} of {limits:?}");
        most_changed = most_changed.max(changed);
    }
    // Two leaves, a node with its new half, and a root that was full: it holds one entry beside these attributes.
    assert_eq!((tree::root(&fixture.directory).unwrap().level, most_changed), (3, 5));
    for number in 0..4000 {
        let (before, limits) = (fixture.snapshot(), remove_limits(&fixture.directory));
        remove(&mut fixture.blocks, &HASH_KEY, &mut fixture.directory, &name(number)).unwrap();
        let (changed, freed) = touched(&before.blocks, &fixture.blocks.blocks);
        assert!(changed <= limits.changed && freed <= limits.freed, "{changed} and {freed} of {limits:?}");
        most_freed = most_freed.max(freed);
    }
    assert!(most_freed >= 3, "{most_freed}");
    let directory = directory_inode(0);
    assert_eq!(insert_limits(&directory).changed, 1);
    let most = (INSERT_LIMITS_MAX.changed, INSERT_LIMITS_MAX.allocated, REMOVE_LIMITS_MAX.freed);
    assert_eq!(most, (14, 7, 8));
}
