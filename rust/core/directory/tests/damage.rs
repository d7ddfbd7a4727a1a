// SPDX-License-Identifier: GPL-2.0

//! Leaves, nodes and inline maps that contradict the format: each is refused by the check that is for it; and nothing that
//! stands on a device makes an operation panic or go on for ever.

use super::*;
use crate::blocks::{ChangeBlocks, ReadBlocks};
use crate::error::Check;
use crate::format::directory::{EntryHeader, LeafHeader, HEAP_OFFSET};
use crate::format::layout::{get, put};

/// A leaf with these names, whose keys are 10, 20, 30 and so on; entries stand in that order.
fn leaf_of(names: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    leaf::clear(&mut bytes).unwrap();
    for (number, name) in names.iter().enumerate() {
        let key = DirectoryKey((number as u64 + 1) * 10);
        let entry = Entry { key, inode: InodeNo(50), file_type: TYPE_REGULAR };
        leaf::append(&mut bytes, BlockNo(70), &NamedEntry { entry, name }).unwrap();
    }
    bytes
}

fn failed_check(result: Result) -> Option<Check> {
    match result {
        Ok(()) => None,
        Err(Error::Corrupt(corruption)) => Some(corruption.check),
        Err(error) => panic!("{error}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a field is a number or a few bytes")]
fn put_at<F: crate::format::layout::Field>(offset: usize, value: F) -> impl Fn(&mut [u8]) {
    let mut stored = vec![0; F::BYTES];
    value.store(&mut stored).unwrap();
    move |bytes| bytes[offset..offset + stored.len()].copy_from_slice(&stored)
}

#[test]
fn each_contradiction_in_a_leaf_has_its_check() {
    type Damage = Box<dyn Fn(&mut [u8])>;
    const HEADER: usize = LEAF_HEADER_OFFSET;
    let second = HEAP_OFFSET + EntryHeader::SIZE + 5;
    let third = second + EntryHeader::SIZE + 5;
    let end = third + EntryHeader::SIZE + 5;
    let slot = |index: usize| BLOCK_BYTES - 2 * (index + 1);
    let name = second + EntryHeader::SIZE;
    let cases: Vec<(&str, Damage, Check)> = vec![
        ("no entry", Box::new(|bytes| leaf::clear(bytes).unwrap()), Check::Count),
        ("more entries than slots", Box::new(put_at(HEADER, 2016_u16)), Check::Bounds),
        ("a slot that does not exist", Box::new(put_at(HEADER, 4_u16)), Check::Bounds),
        ("a slot too few", Box::new(put_at(HEADER, 2_u16)), Check::Reserved),
        (
            "a heap that ends before it begins",
            Box::new(put_at(HEADER + 2, HEAP_OFFSET as u16 - 1)),
            Check::Bounds,
        ),
        ("a heap that runs into the slots", Box::new(put_at(HEADER + 2, slot(2) as u16 + 1)), Check::Bounds),
        ("a heap that ends within an entry", Box::new(put_at(HEADER + 2, end as u16 - 1)), Check::Count),
        ("more live bytes than heap", Box::new(put_at(HEADER + 4, 70_u16)), Check::Count),
        ("other live bytes than entries", Box::new(put_at(HEADER + 4, 68_u16)), Check::Count),
        ("reserved bytes of the header", Box::new(put_at(HEADER + 6, 1_u16)), Check::Reserved),
        ("bytes between heap and slots", Box::new(put_at(2000, 1_u8)), Check::Reserved),
        ("a slot before the heap", Box::new(put_at(slot(1), HEAP_OFFSET as u16 - 1)), Check::Bounds),
        ("a slot behind the heap", Box::new(put_at(slot(1), end as u16)), Check::Bounds),
        ("a slot at the heap's end", Box::new(put_at(slot(1), end as u16 - 18)), Check::Bounds),
        ("two slots for one entry", Box::new(put_at(slot(1), HEAP_OFFSET as u16)), Check::Order),
        ("equal keys", Box::new(put_at(second, 10_u64)), Check::Order),
        ("falling keys", Box::new(put_at(second, 9_u64)), Check::Order),
        ("a reserved key", Box::new(put_at(HEAP_OFFSET, 2_u64)), Check::Key),
        ("a key too large", Box::new(put_at(third, KEY_LAST.0 + 1)), Check::Key),
        ("no inode", Box::new(put_at(second + 8, 0_u64)), Check::InodeRange),
        ("the root's inode", Box::new(put_at(second + 8, 2_u64)), Check::InodeRange),
        ("an inode too large", Box::new(put_at(second + 8, 1_u64 << 40)), Check::InodeRange),
        ("no file type", Box::new(put_at(second + 16, 0_u8)), Check::FileType),
        ("an unknown file type", Box::new(put_at(second + 16, 24_u8)), Check::FileType),
        ("no name", Box::new(put_at(second + 17, 0_u8)), Check::Name),
        ("a name that leaves the heap", Box::new(put_at(third + 17, 6_u8)), Check::Bounds),
        ("a name into the next entry", Box::new(put_at(second + 17, 6_u8)), Check::Count),
        ("a slash", Box::new(put_at(name + 2, b'/')), Check::Name),
        ("a NUL", Box::new(put_at(name + 4, 0_u8)), Check::Name),
    ];
    let pristine = leaf_of(&[b"first", b"other", b"third"]);
    let geometry = *MapBlocks::new().geometry();
    let verify = |bytes: &[u8]| verify(BlockKind::DirectoryLeaf, bytes, BlockNo(70), &geometry);
    assert_eq!(verify(&pristine), Ok(()));
    for (what, damage, check) in &cases {
        let mut bytes = pristine.clone();
        damage(&mut bytes);
        assert_eq!(failed_check(verify(&bytes)), Some(*check), "{what}");
    }
    for name in [b".".as_slice(), b".."] {
        assert_eq!(failed_check(verify(&leaf_of(&[name]))), Some(Check::Name));
    }
    assert_eq!(failed_check(verify(&pristine[..4000])), Some(Check::Bounds));
}

/// The second entry begins within the first one's name: in order, within the heap, each good by itself, and live bytes that
/// agree. (Farther in, the inode's upper bytes, which are NUL, would be part of the name.)
#[test]
fn entries_that_overlap_are_refused() {
    let geometry = *MapBlocks::new().geometry();
    for shift in 0..=11 {
        let mut bytes = leaf_of(&[&[b'a'; 200], b"second"]);
        let offset = HEAP_OFFSET + EntryHeader::SIZE + 200 - shift;
        bytes[offset + shift..offset + shift + EntryHeader::SIZE + 6].fill(0);
        let entry =
            Entry { key: DirectoryKey(0x2020_2020_2020_2020), inode: InodeNo(0x20_2020), file_type: 8 };
        NamedEntry { entry, name: b"second" }.write(&mut bytes, offset).unwrap();
        put(&mut bytes, BLOCK_BYTES - 4, offset as u16).unwrap();
        let expected = (shift > 0).then_some(Check::Bounds);
        assert_eq!(failed_check(leaf::verify(&bytes, BlockNo(70), &geometry)), expected, "{shift} bytes");
    }
}

#[test]
fn keys_of_another_leaf_are_refused() {
    let bytes = leaf_of(&[b"first", b"other", b"third"]);
    let open = |low, end| leaf::Leaf::open_between(&bytes, BlockNo(70), low, end).map(|_| ());
    assert_eq!(open(10, 31), Ok(()));
    assert_eq!(failed_check(open(11, 31)), Some(Check::Key));
    assert_eq!(failed_check(open(10, 30)), Some(Check::Key));
}

#[test]
fn each_contradiction_in_an_inline_map_has_its_check() {
    let mut fixture = Fixture::new(Hashing::One(500), 0);
    for name in [b"first", b"other", b"third"] {
        fixture.insert(name, 50).unwrap();
    }
    let second = EntryHeader::SIZE + 5;
    let cases: [(usize, &[u8], Check); 6] = [
        (second, &500_u64.to_le_bytes(), Check::Order),
        (0, &1_u64.to_le_bytes(), Check::Key),
        (8, &2_u64.to_le_bytes(), Check::InodeRange),
        (16, &[3], Check::FileType),
        (2 * second + 17, &[6], Check::Bounds),
        (2 * second + 17, &[0], Check::Name),
    ];
    for (offset, value, check) in cases {
        let mut damaged = fixture.directory.try_clone().unwrap();
        damaged.map_mut()[offset..offset + value.len()].copy_from_slice(value);
        assert_eq!(failed_check(verify_map(fixture.blocks.geometry(), &damaged)), Some(check));
    }
    let mut cut = fixture.directory.try_clone().unwrap();
    let shorter = cut.map().len() - 1;
    cut.resize_map(shorter).unwrap();
    assert_eq!(failed_check(verify_map(fixture.blocks.geometry(), &cut)), Some(Check::Bounds));
}

/// Nodes with children that lead in a circle, or to one leaf twice.
#[test]
fn circles_and_shared_leaves_are_refused() {
    let mut fixture = Fixture::new(Hashing::Real, 0);
    for number in 0..2500 {
        fixture.insert(format!("{number:0100}").as_bytes(), 50).unwrap();
    }
    assert_eq!(tree::root(&fixture.directory).unwrap().level, 2);
    let mut nodes = Vec::new();
    visit_blocks(&fixture.blocks, &fixture.directory, &mut |_, block, level| {
        nodes.extend((level == 1).then_some(block));
        Ok(())
    })
    .unwrap();
    let children = 56 + 8;
    let pristine = fixture.blocks.blocks[&nodes[0]].clone();
    let second_leaf: BlockNo = get(&pristine, children + 16).unwrap();
    for (child, check) in
        [(nodes[0], Check::Kind), (second_leaf, Check::Key), (BlockNo(9), Check::BlockRange)]
    {
        let bytes = fixture.blocks.change(BlockKind::DirectoryNode, InodeNo(100), nodes[0]).unwrap();
        put(bytes, children, child).unwrap();
        let read =
            read_from(&fixture.blocks, &fixture.directory, DirectoryKey(0), &mut |_, _, _, _| Ok(true));
        assert_eq!(failed_check(read), Some(check));
        let visited = visit_blocks(&fixture.blocks, &fixture.directory, &mut |_, _, _| Ok(()));
        assert_eq!(failed_check(visited), Some(check));
    }
    fixture.blocks.blocks.insert(nodes[0], pristine);
    put(fixture.directory.map_mut(), 16, second_leaf).unwrap();
    let read = read_from(&fixture.blocks, &fixture.directory, DirectoryKey(0), &mut |_, _, _, _| Ok(true));
    assert_eq!(failed_check(read), Some(Check::Kind));
}

/// What is done to a byte.
#[derive(Clone, Copy, Debug)]
enum Flip {
    Set(u8),
    Xor(u8),
    /// The value of another byte of the same block: numbers that look real.
    CopyOf(usize),
}

fn flip() -> impl Strategy<Value = Flip> {
    prop_oneof![
        any::<u8>().prop_map(Flip::Set),
        (0..8_u8).prop_map(|bit| Flip::Xor(1 << bit)),
        (0..BLOCK_BYTES).prop_map(Flip::CopyOf),
    ]
}

/// Offsets that matter more often than not: headers, first entries, slots.
fn offset() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => LEAF_HEADER_OFFSET..HEAP_OFFSET + 60,
        2 => BLOCK_BYTES - 120..BLOCK_BYTES,
        1 => LEAF_HEADER_OFFSET..BLOCK_BYTES,
    ]
}

fn damage(bytes: &mut [u8], offset: usize, flip: Flip) {
    if bytes.is_empty() {
        return;
    }
    let (offset, copied) = (offset % bytes.len(), |from: usize| bytes[from % bytes.len()]);
    bytes[offset] = match flip {
        Flip::Set(value) => value,
        Flip::Xor(mask) => bytes[offset] ^ mask,
        Flip::CopyOf(from) => copied(from),
    };
}

fn template(count: usize, attribute_bytes: usize) -> Fixture {
    let mut fixture = Fixture::new(Hashing::Real, attribute_bytes);
    for number in 0..count {
        let name = format!("{number:080}").into_bytes();
        let inode = InodeNo(1000);
        insert(&mut fixture.blocks, &HASH_KEY, &mut fixture.directory, &name, inode, TYPE_REGULAR).unwrap();
    }
    fixture
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Damage that got past checksum and verifier, as hostile writers can make it: every operation ends, with a
    /// result or an error; and what passes the full check can be read.
    #[test]
    fn damage_never_panics_and_never_hangs(
        count in prop_oneof![Just(3_usize), Just(60), Just(1500)],
        flips in prop::collection::vec((any::<prop::sample::Index>(), offset(), flip()), 1..12),
        root_flips in prop::collection::vec((0..384_usize, flip()), 0..3),
        operations in prop::collection::vec((0..5_u8, 0..3000_usize), 1..60),
    ) {
        let mut fixture = template(count, 300);
        let all: Vec<BlockNo> = fixture.blocks.blocks.keys().copied().collect();
        let nodes: Vec<BlockNo> = all.iter().copied().filter(|block| {
            get::<u16>(&fixture.blocks.blocks[block], 8).unwrap() == BlockKind::DirectoryNode as u16
        }).collect();
        for (number, (index, offset, flip)) in flips.iter().enumerate() {
            // There are few nodes among many leaves: every other flip is for them.
            let among = if number % 2 == 0 && !nodes.is_empty() { &nodes } else { &all };
            if !among.is_empty() {
                let block = among[index.index(among.len())];
                damage(fixture.blocks.blocks.get_mut(&block).unwrap(), *offset, *flip);
            }
        }
        for (offset, flip) in &root_flips {
            damage(fixture.directory.map_mut(), *offset, *flip);
        }
        // A block the device has none of reads as an error; a wrong header too. Both are the cache's, here the map's.
        let shown = |fixture: &Fixture| {
            let (mut shown, mut last) = (0_usize, None);
            let result = read_from(&fixture.blocks, &fixture.directory, DirectoryKey(0), &mut |key, _, _, name| {
                assert!(last < Some(key) && !name.is_empty() && name.len() < 256);
                (shown, last) = (shown + 1, Some(key));
                Ok(true)
            });
            assert!(shown <= (fixture.blocks.blocks.len() + 1) * BLOCK_BYTES / 19);
            result
        };
        let checked = visit_blocks(&fixture.blocks, &fixture.directory, &mut |_, _, _| Ok(()));
        let read = shown(&fixture);
        prop_assert!(checked.is_err() || read.is_ok(), "{read:?} in a directory that passed the check");
        for (operation, number) in operations {
            let name = format!("{number:080}").into_bytes();
            let (blocks, directory) = (&mut fixture.blocks, &mut *fixture.directory);
            let inode = InodeNo(1000);
            match operation {
                0 => drop(insert(blocks, &HASH_KEY, directory, &name, inode, TYPE_REGULAR)),
                1 => drop(remove(blocks, &HASH_KEY, directory, &name)),
                2 => drop(replace(blocks, &HASH_KEY, directory, &name, inode, TYPE_REGULAR)),
                3 => drop(lookup(blocks, &HASH_KEY, directory, &name)),
                _ => drop(shown(&fixture)),
            }
        }
        let _ = visit_blocks(&fixture.blocks, &fixture.directory, &mut |_, _, _| Ok(()));
    }
}

/// A leaf of nothing but noise behind its header, and a header that can be.
#[test]
fn noise_is_refused() {
    let geometry = *MapBlocks::new().geometry();
    let mut random = 0x1234_5678_9ABC_DEF1_u64;
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..BLOCK_BYTES)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        assert!(leaf::verify(&bytes, BlockNo(70), &geometry).is_err());
        let count = (random >> 40) as u16 % 200 + 1;
        let heap_end = (BLOCK_BYTES - 2 * usize::from(count)) as u16;
        LeafHeader { count, heap_end, live_bytes: heap_end / 2, reserved: 0 }
            .encode(&mut bytes, LEAF_HEADER_OFFSET)
            .unwrap();
        assert!(leaf::verify(&bytes, BlockNo(70), &geometry).is_err());
        let entry = Entry { key: DirectoryKey(random >> 1), inode: InodeNo(50), file_type: TYPE_REGULAR };
        let _ = leaf::insert(&mut bytes, BlockNo(70), &NamedEntry { entry, name: b"name" });
        let _ = leaf::remove(&mut bytes, BlockNo(70), usize::from(count) / 2);
    }
}
