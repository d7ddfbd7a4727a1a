// SPDX-License-Identifier: GPL-2.0

//! Directories against a plain map of names, in all forms, with hashes that collide and with real ones.

mod damage;
mod failures;

use super::*;
use crate::blocks::testing::MapBlocks;
use crate::format::directory::{HASH_LAST, KEY_FIRST, KEY_WINDOW, LEAF_HEADER_OFFSET};
use crate::format::inode::{AREA_BYTES, TYPE_DIRECTORY};
use crate::inode::NewInode;
use crate::memory::Owned;
use crate::units::{InodeGeneration, BLOCK_BYTES};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const HASH_KEY: HashKey = HashKey(*b"sixteen secrets!");
const TYPE_REGULAR: u8 = 8;

/// How names get their first keys.
#[derive(Clone, Copy, Debug)]
enum Hashing {
    Real,
    /// Few places, nearer to each other than a window is wide.
    Crowded,
    /// One place: its window can be filled.
    One(u64),
}

impl Hashing {
    fn hash(self, name: &[u8]) -> DirectoryKey {
        let real = hash(&HASH_KEY, name);
        match self {
            Self::Real => real,
            Self::Crowded => DirectoryKey(KEY_FIRST.0 + real.0 % 40 * 25),
            Self::One(key) => DirectoryKey(key),
        }
    }
}

/// A directory, and what must be in it.
struct Fixture {
    blocks: MapBlocks,
    directory: Owned<Inode>,
    hashing: Hashing,
    model: BTreeMap<u64, (Vec<u8>, Entry)>,
}

fn directory_inode(attribute_bytes: usize) -> Owned<Inode> {
    let new = NewInode { mode: 0o040_755, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 0 };
    let mut directory = Inode::new(InodeNo(100), InodeGeneration(1), &new).unwrap();
    directory.resize_attributes(attribute_bytes).unwrap();
    directory.attributes_mut().fill(0xA5);
    directory
}

/// A name for each number; some are long, most are not.
fn name_of(number: usize) -> Vec<u8> {
    let mut name = format!("{number:x}").into_bytes();
    let length = match number % 7 {
        0 => 255,
        1 => 100,
        other => name.len() + other * 4,
    };
    name.resize(length.max(name.len()), b'-');
    name
}

impl Fixture {
    fn new(hashing: Hashing, attribute_bytes: usize) -> Self {
        let directory = directory_inode(attribute_bytes);
        Self { blocks: MapBlocks::new(), directory, hashing, model: BTreeMap::new() }
    }

    fn key_of(&self, name: &[u8]) -> Option<u64> {
        self.model.iter().find(|(_, (present, _))| present == name).map(|(key, _)| *key)
    }

    fn insert(&mut self, name: &[u8], inode: u64) -> Result<DirectoryKey> {
        let start = self.hashing.hash(name);
        let expected = match (start.0..start.0 + KEY_WINDOW).find(|key| !self.model.contains_key(key)) {
            _ if self.key_of(name).is_some() => Err(Error::Exists),
            None => Err(Error::NoSpace),
            Some(key) => Ok(DirectoryKey(key)),
        };
        let limits = insert_limits(&self.directory);
        let before = self.blocks.blocks.len();
        let (inode, file_type) =
            (InodeNo(inode), if inode.is_multiple_of(2) { TYPE_REGULAR } else { TYPE_DIRECTORY });
        let key = insert_at(&mut self.blocks, start, &mut self.directory, name, inode, file_type);
        assert_eq!(key, expected);
        assert!(self.blocks.blocks.len() - before <= limits.allocated);
        if let Ok(key) = key {
            self.model.insert(key.0, (name.to_vec(), Entry { key, inode, file_type }));
        }
        key
    }

    fn remove(&mut self, name: &[u8]) -> Result<Entry> {
        let limits = remove_limits(&self.directory);
        let before = self.blocks.blocks.len();
        let removed = remove_at(&mut self.blocks, self.hashing.hash(name), &mut self.directory, name);
        match self.key_of(name) {
            Some(key) => assert_eq!(removed, Ok(self.model.remove(&key).unwrap().1)),
            None => assert_eq!(removed, Err(Error::NotFound)),
        }
        assert!(before - self.blocks.blocks.len() <= limits.freed);
        removed
    }

    fn replace(&mut self, name: &[u8], inode: u64) {
        let hash = self.hashing.hash(name);
        let inode = InodeNo(inode);
        let replaced = replace_at(&mut self.blocks, hash, &mut self.directory, name, inode, TYPE_REGULAR);
        let Some(key) = self.key_of(name) else { return assert_eq!(replaced, Err(Error::NotFound)) };
        let (_, entry) = self.model.get_mut(&key).unwrap();
        assert_eq!(replaced, Ok(*entry));
        *entry = Entry { inode, file_type: TYPE_REGULAR, ..*entry };
    }

    fn lookup(&self, name: &[u8]) {
        let found = lookup_at(&self.blocks, self.hashing.hash(name), &self.directory, name).unwrap();
        assert_eq!(found, self.key_of(name).map(|key| self.model[&key].1));
    }

    /// All entries from `key` on, `count` at the most.
    fn read(&self, key: u64, count: usize) -> Vec<(Vec<u8>, Entry)> {
        let mut entries = Vec::new();
        read_from(&self.blocks, &self.directory, DirectoryKey(key), &mut |key, inode, file_type, name| {
            entries.push((name.to_vec(), Entry { key, inode, file_type }));
            Ok(entries.len() < count)
        })
        .unwrap();
        entries
    }

    /// The directory holds the model, passes every check, and owns every block there is.
    fn check(&self) {
        let geometry = self.blocks.geometry();
        verify_map(geometry, &self.directory).unwrap();
        assert!(self.read(0, usize::MAX).iter().eq(self.model.values()));
        assert_eq!(is_empty(&self.directory), Ok(self.model.is_empty()));
        let (mut seen, mut leaves) = (BTreeSet::new(), 0);
        visit_blocks(&self.blocks, &self.directory, &mut |kind, block, level| {
            assert!(seen.insert(block));
            assert_eq!(kind == BlockKind::DirectoryLeaf, level == 0);
            leaves += usize::from(level == 0);
            verify(kind, &self.blocks.blocks[&block], block, geometry)
        })
        .unwrap();
        assert!(self.blocks.blocks.keys().eq(seen.iter()), "a block belongs to nothing");
        assert_eq!(self.directory.core.blocks, seen.len() as u64);
        let size = match self.directory.map_kind() {
            MapKind::InlineDirectory => self.directory.map().len(),
            _ => leaves * BLOCK_BYTES,
        };
        assert_eq!(self.directory.core.size_bytes, size as u64);
        assert!(!self.model.is_empty() || self.blocks.blocks.is_empty(), "an empty directory has blocks");
        assert!(self.directory.attributes().iter().all(|byte| *byte == 0xA5));
        self.directory.core.check(BlockNo(1)).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize),
    Remove(usize),
    Replace(usize),
    Lookup(usize),
    Read(u64, usize),
    RemoveAll,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..300_usize;
    prop_oneof![
        60 => name.clone().prop_map(Step::Insert),
        50 => name.clone().prop_map(Step::Remove),
        10 => name.clone().prop_map(Step::Replace),
        20 => name.prop_map(Step::Lookup),
        10 => (0..1100_u64, 1..30_usize).prop_map(|(key, count)| Step::Read(key, count)),
        1 => Just(Step::RemoveAll),
    ]
}

fn hashing() -> impl Strategy<Value = Hashing> {
    prop_oneof![Just(Hashing::Real), Just(Hashing::Crowded), Just(Hashing::One(HASH_LAST.0))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_directory_is_a_map(
        hashing in hashing(),
        attribute_bytes in prop_oneof![Just(0), 0..=AREA_BYTES - tree::ROOT_BYTES_MIN],
        filled in 0..250_usize,
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut fixture = Fixture::new(hashing, attribute_bytes);
        for number in 0..filled {
            let _ = fixture.insert(&name_of(number), 1000 + number as u64);
        }
        fixture.check();
        for (number, step) in steps.iter().enumerate() {
            let inode = 5000 + number as u64;
            match step {
                Step::Insert(name) => drop(fixture.insert(&name_of(*name), inode)),
                Step::Remove(name) => drop(fixture.remove(&name_of(*name))),
                Step::Replace(name) => fixture.replace(&name_of(*name), inode),
                Step::Lookup(name) => fixture.lookup(&name_of(*name)),
                Step::Read(key, count) => {
                    let expected = fixture.model.range(key..).take(*count).map(|(_, entry)| entry);
                    prop_assert!(fixture.read(*key, *count).iter().eq(expected));
                }
                Step::RemoveAll => {
                    for name in fixture.model.values().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                        fixture.remove(&name).unwrap();
                    }
                    fixture.check();
                }
            }
        }
        fixture.check();
    }

    /// Whoever reads in pieces sees each entry that stays once, and none that never was, although the directory changes
    /// between the pieces, and its form with it.
    #[test]
    fn reading_goes_on_where_it_stopped(
        hashing in hashing(),
        filled in 0..120_usize,
        pieces in prop::collection::vec((1..12_usize, prop::collection::vec((any::<bool>(), 0..200_usize), 0..30)), 1..20),
    ) {
        let mut fixture = Fixture::new(hashing, 40);
        for number in 0..filled {
            let _ = fixture.insert(&name_of(number), 1000);
        }
        let mut staying = fixture.model.clone();
        let mut ever: BTreeSet<(u64, Vec<u8>)> = BTreeSet::new();
        let note = |model: &BTreeMap<u64, (Vec<u8>, Entry)>, ever: &mut BTreeSet<_>| {
            ever.extend(model.iter().map(|(key, (name, _))| (*key, name.clone())));
        };
        note(&fixture.model, &mut ever);
        let (mut position, mut seen) = (0, Vec::new());
        let endless = (usize::MAX, Vec::new());
        for (count, changes) in pieces.iter().chain([&endless]) {
            for (name, entry) in fixture.read(position, *count) {
                prop_assert!(entry.key.0 >= position);
                position = entry.key.0 + 1;
                prop_assert!(ever.contains(&(entry.key.0, name.clone())));
                seen.push(name);
            }
            for (removes, number) in changes {
                if *removes {
                    let _ = fixture.remove(&name_of(*number));
                } else {
                    let _ = fixture.insert(&name_of(*number), 2000);
                }
                note(&fixture.model, &mut ever);
                staying.retain(|key, (name, _)| fixture.model.get(key).is_some_and(|(present, _)| present == name));
            }
        }
        for (name, _) in staying.values() {
            prop_assert_eq!(seen.iter().filter(|other| *other == name).count(), 1);
        }
    }
}

#[test]
fn a_full_window_refuses_and_only_its_own_names() {
    let mut fixture = Fixture::new(Hashing::One(1000), 0);
    for number in 0..KEY_WINDOW as usize {
        assert_eq!(fixture.insert(&name_of(number), 50), Ok(DirectoryKey(1000 + number as u64)));
    }
    assert_eq!(fixture.insert(b"one too many", 50), Err(Error::NoSpace));
    fixture.lookup(b"one too many");
    fixture.hashing = Hashing::One(1001);
    assert_eq!(fixture.insert(b"neighbour", 50), Ok(DirectoryKey(1064)));
    fixture.hashing = Hashing::One(1000);
    fixture.remove(&name_of(40)).unwrap();
    assert_eq!(fixture.insert(b"one too many", 50), Ok(DirectoryKey(1040)));
    fixture.check();
}

#[test]
fn arguments_that_no_entry_can_have_are_refused() {
    let mut fixture = Fixture::new(Hashing::Real, 0);
    let (blocks, directory) = (&mut fixture.blocks, &mut *fixture.directory);
    let mut refused = |name: &[u8], inode: u64, file_type: u8| {
        let inserted = insert(blocks, &HASH_KEY, directory, name, InodeNo(inode), file_type);
        let replaced = replace(blocks, &HASH_KEY, directory, name, InodeNo(inode), file_type);
        assert_eq!(inserted.map(|_| ()), replaced.map(|_| ()));
        inserted.unwrap_err()
    };
    for name in [b"".as_slice(), b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(refused(name, 50, TYPE_REGULAR), Error::InvalidArgument, "{name:?}");
    }
    assert_eq!(refused(&[b'a'; 256], 50, TYPE_REGULAR), Error::NameTooLong);
    for inode in [0, 1, 2, u64::MAX] {
        assert_eq!(refused(b"a", inode, TYPE_REGULAR), Error::InvalidArgument, "inode {inode}");
    }
    for file_type in [0, 3, 15, 16, 24, 255] {
        assert_eq!(refused(b"a", 50, file_type), Error::InvalidArgument, "type {file_type}");
    }
    assert_eq!(lookup(blocks, &HASH_KEY, directory, &[b'a'; 256]), Err(Error::NameTooLong));
    assert_eq!(remove(blocks, &HASH_KEY, directory, &[b'a'; 256]), Err(Error::NameTooLong));
    assert_eq!(remove(blocks, &HASH_KEY, directory, b""), Err(Error::NotFound));
    assert_eq!(lookup(blocks, &HASH_KEY, directory, b".."), Ok(None));
    insert(blocks, &HASH_KEY, directory, &[b'a'; 255], InodeNo(50), TYPE_REGULAR).unwrap();
    directory.core.map_kind = MapKind::Extents as u8;
    assert_eq!(lookup(blocks, &HASH_KEY, directory, b"a"), Err(Error::NotADirectory));
    assert_eq!(is_empty(directory), Err(Error::NotADirectory));
}

#[test]
fn positions_behind_the_last_key_are_the_end() {
    let mut fixture = Fixture::new(Hashing::One(HASH_LAST.0), 0);
    for number in 0..KEY_WINDOW as usize {
        fixture.insert(&name_of(number), 50).unwrap();
        assert_eq!(fixture.read(KEY_LAST.0 + 1, 9), []);
        assert_eq!(fixture.read(u64::MAX, 9), []);
    }
    assert_eq!(fixture.read(KEY_LAST.0, 9).len(), 1);
}

#[test]
fn a_change_touches_few_bytes() {
    let mut fixture = Fixture::new(Hashing::Real, 0);
    let (mut insertions, mut most, mut sum) = (0_usize, 0, 0);
    for number in 0..4000 {
        let name = format!("file-{number:05}").into_bytes();
        let before = fixture.blocks.blocks.clone();
        fixture.insert(&name, 1000 + number).unwrap();
        if fixture.blocks.blocks.len() != before.len() {
            continue;
        }
        let changed = changed_bytes(&before, &fixture.blocks);
        // The entry, the header's three numbers, and the slots that moved.
        let slots = BLOCK_BYTES / (name.len() + 18 + 2);
        assert!(changed <= name.len() + 18 + 6 + 2 * slots, "insertion {number} changed {changed} bytes");
        (insertions, most, sum) = (insertions + 1, most.max(changed), sum + changed);
    }
    assert!(insertions > 3900 && sum / insertions < 150, "{sum} bytes in {insertions}");
    for number in 0..4000 {
        let name = format!("file-{number:05}").into_bytes();
        let before = fixture.blocks.blocks.clone();
        fixture.remove(&name).unwrap();
        let changed = changed_bytes(&before, &fixture.blocks);
        assert!(changed <= most.max(400), "removal {number} changed {changed} bytes");
    }
    fixture.check();
}

/// Bytes of blocks that were there before and still are, which differ.
fn changed_bytes(before: &BTreeMap<BlockNo, Vec<u8>>, after: &MapBlocks) -> usize {
    let pairs = after.blocks.iter().filter_map(|(block, bytes)| Some((before.get(block)?, bytes)));
    pairs.map(|(old, new)| old.iter().zip(new).filter(|(old, new)| old != new).count()).sum()
}

#[test]
fn removed_names_leave_no_trace() {
    let mut fixture = Fixture::new(Hashing::Real, 0);
    for number in 0..40 {
        fixture.insert(format!("secret{number}").as_bytes(), 50).unwrap();
        fixture.insert(format!("kept{number}").as_bytes(), 51).unwrap();
    }
    for (name, _) in fixture.model.clone().into_values().filter(|(name, _)| name.starts_with(b"secret")) {
        fixture.remove(&name).unwrap();
    }
    for bytes in fixture.blocks.blocks.values() {
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        let entries: usize = fixture.model.values().map(|(name, _)| 18 + name.len()).sum();
        assert!(
            bytes[LEAF_HEADER_OFFSET + 8..].iter().filter(|byte| **byte != 0).count() <= entries + 2 * 40
        );
    }
}

/// Fills a directory with `count` names, looks each up, reads it in pieces, empties it; returns its height when full.
fn fill_and_empty(count: u64) -> u16 {
    let (mut blocks, mut directory) = (MapBlocks::new(), directory_inode(40));
    let name = |number: u64| format!("entry-{number}").into_bytes();
    for number in 0..count {
        let inode = InodeNo(1000 + number);
        insert(&mut blocks, &HASH_KEY, &mut directory, &name(number), inode, TYPE_REGULAR).unwrap();
    }
    for number in (0..count).step_by(7) {
        let found = lookup(&blocks, &HASH_KEY, &directory, &name(number)).unwrap().unwrap();
        assert_eq!(found.inode, InodeNo(1000 + number));
        assert!(hash::is_in_window(&HASH_KEY, &name(number), found.key));
        assert_eq!(lookup(&blocks, &HASH_KEY, &directory, &name(number + count)), Ok(None));
    }
    let (mut position, mut seen) = (DirectoryKey(0), 0);
    loop {
        let mut piece = 0;
        read_from(&blocks, &directory, position, &mut |key, _, _, _| {
            assert!(key >= position);
            (position, piece) = (key.next(), piece + 1);
            Ok(piece < 500)
        })
        .unwrap();
        seen += piece;
        if piece == 0 {
            break;
        }
    }
    assert_eq!(seen, count);
    visit_blocks(&blocks, &directory, &mut |_, _, _| Ok(())).unwrap();
    let height = tree::root(&directory).unwrap().level;
    for number in 0..count {
        remove(&mut blocks, &HASH_KEY, &mut directory, &name(number * 7919 % count)).unwrap();
    }
    assert_eq!(is_empty(&directory), Ok(true));
    assert_eq!((blocks.blocks.len(), directory.core.blocks, directory.core.size_bytes), (0, 0, 0));
    height
}

#[test]
fn a_hundred_thousand_entries() {
    assert_eq!(fill_and_empty(100_003), 2);
}

#[test]
fn a_million_entries() {
    assert_eq!(fill_and_empty(1_000_003), 3);
}

#[test]
fn a_name_may_come_before_all_leaves() {
    let mut fixture = Fixture::new(Hashing::Real, 0);
    for number in 0..300 {
        fixture.insert(&name_of(number), 50).unwrap();
    }
    let first =
        |fixture: &Fixture| tree::find(&fixture.blocks, tree::DIRECTORY, &fixture.directory, 0).unwrap();
    let gone = first(&fixture).leaf();
    while fixture.blocks.blocks.contains_key(&gone) {
        let name = fixture.model.values().next().unwrap().0.clone();
        fixture.remove(&name).unwrap();
    }
    assert!(first(&fixture).low() > KEY_FIRST.0);
    fixture.hashing = Hashing::One(KEY_FIRST.0);
    fixture.insert(b"lowest", 51).unwrap();
    fixture.lookup(b"lowest");
    assert_eq!(first(&fixture).low(), 0);
    fixture.check();
}
