// SPDX-License-Identifier: GPL-2.0

//! Attributes against a map of names, with a naive answer to what fits; bounds; failures; bytes that lie.

use super::*;
use crate::blocks::testing::MapBlocks;
use crate::format::attribute::{AttributeHeader, ENTRY_ALIGNMENT};
use crate::inode::NewInode;
use crate::memory::{failure, Owned};
use crate::units::{InodeGeneration, InodeNo, BLOCK_BYTES};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<(Namespace, Vec<u8>), Vec<u8>>;

fn new_inode() -> Owned<Inode> {
    let new = NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 };
    Inode::new(InodeNo(20), InodeGeneration(3), &new).unwrap()
}

/// An inode with its blocks, which an operation that fails leaves as they were: what dropping a handle does.
struct File {
    blocks: MapBlocks,
    inode: Owned<Inode>,
}

impl File {
    fn new() -> Self {
        Self { blocks: MapBlocks::new(), inode: new_inode() }
    }

    fn try_change(&mut self, change: impl FnOnce(&mut MapBlocks, &mut Inode) -> Result) -> Result {
        let blocks = self.blocks.blocks.clone();
        let freed = self.blocks.freed.clone();
        let inode = self.inode.try_clone().unwrap();
        let result = change(&mut self.blocks, &mut self.inode);
        if result.is_err() {
            self.blocks.blocks = blocks;
            self.blocks.freed = freed;
            self.inode = inode;
        }
        result
    }

    fn value(&self, namespace: Namespace, name: &[u8]) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        let length = get(&self.blocks, &self.inode, namespace, name, &mut |bytes| {
            value.extend_from_slice(bytes);
            Ok(())
        })?;
        assert_eq!(length, value.len());
        Ok(value)
    }

    fn names(&self) -> BTreeMap<(Namespace, Vec<u8>), usize> {
        let mut names = BTreeMap::new();
        list(&self.blocks, &self.inode, &mut |namespace, name, length| {
            assert!(names.insert((namespace, name.to_vec()), length).is_none(), "a name is listed twice");
            Ok(())
        })
        .unwrap();
        names
    }

    /// Whether all is as the model has it, in valid form, with no block lost and none that is not needed.
    fn is_like(&self, model: &Model) {
        check(&self.blocks, &self.inode).unwrap();
        let lengths = model.iter().map(|(name, value)| (name.clone(), value.len())).collect();
        assert_eq!(self.names(), lengths);
        for ((namespace, name), value) in model {
            assert_eq!(&self.value(*namespace, name).unwrap(), value);
        }
        let block = self.inode.core.attribute_block;
        let has_block = block != BlockNo(0);
        assert_eq!(self.inode.core.blocks, u64::from(has_block));
        assert_eq!(
            self.blocks.blocks.keys().copied().collect::<Vec<_>>(),
            Vec::from_iter(has_block.then_some(block))
        );
    }
}

fn naive_entry_bytes(name: &[u8], value: &[u8]) -> usize {
    (8 + name.len() + value.len()).div_ceil(ENTRY_ALIGNMENT) * ENTRY_ALIGNMENT
}

/// Whether the model's attributes can be divided between `inline` bytes and a block, tried sum by sum.
fn fits(model: &Model, inline: usize) -> bool {
    let lengths: Vec<usize> = model.iter().map(|((_, name), value)| naive_entry_bytes(name, value)).collect();
    let total: usize = lengths.iter().sum();
    let mut reachable = vec![false; inline + 1];
    reachable[0] = true;
    for length in lengths {
        for sum in (length..=inline).rev() {
            reachable[sum] |= reachable[sum - length];
        }
    }
    let best = (0..=inline).rev().find(|sum| reachable[*sum]).unwrap();
    total - best <= BLOCK_BYTES - 48 - 8
}

#[derive(Clone, Debug)]
enum Step {
    Set(Namespace, Vec<u8>, Vec<u8>, SetMode),
    Remove(Namespace, Vec<u8>),
    ResizeMap(usize),
    FreeAll,
}

fn name() -> impl Strategy<Value = (Namespace, Vec<u8>)> {
    prop_oneof![
        1 => Just((Namespace::AccessAcl, vec![])),
        1 => Just((Namespace::DefaultAcl, vec![])),
        6 => (0..8_u8).prop_map(|n| (Namespace::User, vec![b'a' + n; usize::from(n) + 1])),
        4 => (0..4_u8).prop_map(|n| (Namespace::Security, vec![b'a' + n; 4])),
        2 => (0..3_u8).prop_map(|n| (Namespace::Trusted, vec![b'a' + n; 253 + usize::from(n)])),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        6 => 0..40_usize,
        3 => 0..200_usize,
        2 => 200..4100_usize,
    ];
    (bytes, any::<u8>()).prop_map(|(bytes, byte)| vec![byte; bytes])
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        Just(SetMode::Create),
        Just(SetMode::Replace),
        Just(SetMode::Either),
        Just(SetMode::Either)
    ];
    prop_oneof![
        10 => (name(), value(), mode).prop_map(|((namespace, name), value, mode)| Step::Set(namespace, name, value, mode)),
        4 => name().prop_map(|(namespace, name)| Step::Remove(namespace, name)),
        2 => (0..=AREA_BYTES).prop_map(Step::ResizeMap),
        1 => Just(Step::FreeAll),
    ]
}

/// Applies a step to the file; what it must return comes from the model, which is changed to match.
fn apply(file: &mut File, model: &mut Model, step: &Step) {
    match step {
        Step::Set(namespace, name, value, mode) => {
            let key = (*namespace, name.clone());
            let result = file.try_change(|blocks, inode| set(blocks, inode, *namespace, name, value, *mode));
            let mut wanted = model.clone();
            wanted.insert(key.clone(), value.clone());
            let room = 160.min(AREA_BYTES - file.inode.map().len());
            // The exact answer needs the entry alone to be possible, which the code asks first.
            let expected = match (mode, model.contains_key(&key)) {
                _ if naive_entry_bytes(name, value) > 4040 => Err(Error::NoAttributeSpace),
                (SetMode::Create, true) => Err(Error::Exists),
                (SetMode::Replace, false) => Err(Error::NoAttribute),
                _ if !fits(&wanted, room) => Err(Error::NoAttributeSpace),
                _ => Ok(()),
            };
            assert_eq!(result, expected);
            if result.is_ok() {
                *model = wanted;
            }
        }
        Step::Remove(namespace, name) => {
            let expected = model.remove(&(*namespace, name.clone())).map(drop).ok_or(Error::NoAttribute);
            assert_eq!(file.try_change(|blocks, inode| remove(blocks, inode, *namespace, name)), expected);
        }
        Step::ResizeMap(bytes) => {
            let fits = bytes + file.inode.attributes().len() <= AREA_BYTES;
            assert_eq!(file.inode.resize_map(*bytes).is_ok(), fits);
        }
        Step::FreeAll => {
            file.try_change(|blocks, inode| free_all(blocks, inode)).unwrap();
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn attributes_are_a_map(steps in prop::collection::vec(step(), 1..60)) {
        let (mut file, mut model) = (File::new(), Model::new());
        for step in &steps {
            apply(&mut file, &mut model, step);
            file.is_like(&model);
        }
    }

    /// Area and block all but full, so that most values fit only when others move.
    #[test]
    fn entries_are_divided_whenever_they_fit(
        filler in 3600..3960_usize,
        steps in prop::collection::vec((0..12_u8, 0..130_usize, any::<u8>()), 1..60),
    ) {
        let (mut file, mut model) = (File::new(), Model::new());
        let filler = Step::Set(Namespace::User, b"filler".to_vec(), vec![1; filler], SetMode::Either);
        apply(&mut file, &mut model, &filler);
        for (name, length, byte) in steps {
            let set = Step::Set(Namespace::User, vec![b'a' + name], vec![byte; length], SetMode::Either);
            apply(&mut file, &mut model, &set);
            file.is_like(&model);
        }
    }

    #[test]
    fn failures_are_reported_and_can_be_tried_again(steps in prop::collection::vec(step(), 1..25)) {
        let (mut file, mut model) = (File::new(), Model::new());
        for step in &steps {
            for successes in 0.. {
                // The copy that stands for the handle is made before allocations begin to fail.
                let result = if let Step::Set(namespace, name, value, mode) = step {
                    file.try_change(|blocks, inode| {
                        let armed = failure::fail_after(successes);
                        let result = set(blocks, inode, *namespace, name, value, *mode);
                        let happened = armed.happened();
                        assert_eq!(happened, result == Err(Error::OutOfMemory));
                        // Undone in any case: the step is applied below.
                        Err(if happened { Error::OutOfMemory } else { Error::WouldBlock })
                    })
                } else {
                    Err(Error::WouldBlock)
                };
                file.is_like(&model);
                if result != Err(Error::OutOfMemory) {
                    break;
                }
            }
            if let Step::Set(namespace, name, value, mode) = step {
                file.blocks.budget = 0;
                let needed = file.try_change(|blocks, inode| {
                    let block = inode.core.attribute_block;
                    let result = set(blocks, inode, *namespace, name, value, *mode);
                    assert!(result != Err(Error::NoSpace) || block == BlockNo(0));
                    result.and(Err(Error::WouldBlock))
                });
                prop_assert!(needed.is_err());
                file.blocks.budget = usize::MAX;
                file.is_like(&model);
            }
            apply(&mut file, &mut model, step);
            file.is_like(&model);
        }
    }

    #[test]
    fn bytes_that_lie_are_found_out_or_harmless(
        steps in prop::collection::vec(step(), 1..20),
        lies in prop::collection::vec((any::<bool>(), 0..BLOCK_BYTES, any::<u8>()), 1..6),
        near_the_start in any::<bool>(),
    ) {
        let (mut file, mut model) = (File::new(), Model::new());
        for step in &steps {
            apply(&mut file, &mut model, step);
        }
        for (inline, at, byte) in lies {
            let at = if near_the_start { at % 80 } else { at };
            let bytes = file.inode.attributes_mut();
            if inline && !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = byte;
            } else if let Some(block) = file.blocks.blocks.values_mut().next() {
                block[(HEADER_OFFSET + at).min(BLOCK_BYTES - 1)] = byte;
            }
        }
        let valid = check(&file.blocks, &file.inode).is_ok();
        let listed = list(&file.blocks, &file.inode, &mut |_, _, _| Ok(()));
        prop_assert!(!valid || listed.is_ok());
        for step in &steps {
            if let Step::Set(namespace, name, value, mode) = step {
                let _ = file.value(*namespace, name);
                let _ = file.try_change(|blocks, inode| set(blocks, inode, *namespace, name, value, *mode));
                let _ = file.try_change(|blocks, inode| remove(blocks, inode, *namespace, name));
            }
        }
    }
}

fn put(file: &mut File, name: &[u8], value: &[u8]) -> Result {
    file.try_change(|blocks, inode| set(blocks, inode, Namespace::User, name, value, SetMode::Either))
}

#[test]
fn the_longest_names_and_values() {
    let mut file = File::new();
    let name = [b'n'; 255];
    let most = BLOCK_ENTRY_BYTES - AttributeHeader::SIZE - name.len();
    assert_eq!(put(&mut file, &name, &vec![1; most + 1]), Err(Error::NoAttributeSpace));
    put(&mut file, &name, &vec![1; most]).unwrap();
    assert_eq!(file.value(Namespace::User, &name).unwrap(), vec![1; most]);
    assert_eq!(put(&mut file, &[b'n'; 256], &[]), Err(Error::NameTooLong));
    assert_eq!(put(&mut file, &[], &[]), Err(Error::InvalidArgument));
    assert_eq!(put(&mut file, b"a\0b", &[]), Err(Error::InvalidArgument));
    assert_eq!(put(&mut file, b"more", &[2; 200]), Err(Error::NoAttributeSpace));
    put(&mut file, b"more", &[2; 100]).unwrap();
    assert_eq!(file.inode.attributes().len(), 8 + 4 + 100);
    let alias = file.try_change(|blocks, inode| {
        set(blocks, inode, Namespace::System, b"posix_acl_access", &[], SetMode::Either)
    });
    assert_eq!(alias, Err(Error::InvalidArgument));
}

#[test]
fn entries_move_between_area_and_block() {
    let mut file = File::new();
    put(&mut file, b"a", &[1; 71]).unwrap();
    put(&mut file, b"b", &[2; 31]).unwrap();
    assert_eq!(file.inode.core.attribute_block, BlockNo(0));
    put(&mut file, b"c", &[3; 3931]).unwrap();
    // 40 bytes are left in the area and 100 in the block: 120 fit only when "a" (80) changes places.
    put(&mut file, b"d", &[4; 111]).unwrap();
    assert_eq!(file.inode.attributes().len(), 160);
    assert_eq!(file.value(Namespace::User, b"a").unwrap(), [1; 71]);
    file.try_change(|blocks, inode| remove(blocks, inode, Namespace::User, b"c")).unwrap();
    file.try_change(|blocks, inode| remove(blocks, inode, Namespace::User, b"d")).unwrap();
    assert_eq!((file.inode.core.attribute_block, file.inode.core.blocks), (BlockNo(0), 0));
    assert_eq!(file.inode.attributes().len(), 120);
    assert_eq!(file.blocks.freed.len(), 1);
}

#[test]
fn a_full_area_sends_attributes_to_the_block() {
    let mut file = File::new();
    file.inode.resize_map(AREA_BYTES).unwrap();
    put(&mut file, b"a", b"value").unwrap();
    assert!(file.inode.attributes().is_empty());
    file.inode.resize_map(24).unwrap();
    put(&mut file, b"b", b"value").unwrap();
    assert_eq!((file.inode.core.attribute_block, file.inode.attributes().len()), (BlockNo(0), 32));
}

#[test]
fn verifiers_name_what_is_wrong() {
    let check_of = |result: Result| match result {
        Err(Error::Corrupt(corruption)) => corruption.check,
        other => panic!("{other:?}"),
    };
    let mut file = File::new();
    put(&mut file, b"abc", &[1; 300]).unwrap();
    let block = file.inode.core.attribute_block;
    let good = file.blocks.blocks[&block].clone();
    verify_block(&good, block).unwrap();
    let lies = [
        (HEADER_OFFSET, 2, Check::Count),
        (HEADER_OFFSET, 0, Check::Count),
        (HEADER_OFFSET + 2, 0, Check::Bounds),
        (HEADER_OFFSET + 3, 0x7F, Check::Bounds),
        (HEADER_OFFSET + 4, 1, Check::Reserved),
        (ENTRIES_OFFSET, 7, Check::Attribute),
        (ENTRIES_OFFSET, 5, Check::Name),
        (ENTRIES_OFFSET + 1, 0, Check::Name),
        (ENTRIES_OFFSET + 2, 1, Check::Flags),
        (ENTRIES_OFFSET + 7, 0x80, Check::Bounds),
        (ENTRIES_OFFSET + 9, 0, Check::Name),
        (ENTRIES_OFFSET + 311, 9, Check::Reserved),
        (BLOCK_BYTES - 1, 9, Check::Reserved),
    ];
    for (at, byte, wanted) in lies {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(check_of(verify_block(&bad, block)), wanted, "byte {at}");
    }
    let mut inode = new_inode();
    inode.resize_attributes(164).unwrap();
    assert_eq!(check_of(verify_inline(&inode, BlockNo(1))), Check::Bounds);
}

#[test]
fn a_name_that_occurs_twice_is_found() {
    let mut file = File::new();
    put(&mut file, b"a", &[1; 300]).unwrap();
    put(&mut file, b"b", &[1; 3]).unwrap();
    check(&file.blocks, &file.inode).unwrap();
    file.inode.attributes_mut()[8] = b'a';
    assert!(
        matches!(check(&file.blocks, &file.inode), Err(Error::Corrupt(c)) if c.check == Check::Attribute)
    );
}
