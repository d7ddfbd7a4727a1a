// SPDX-License-Identifier: GPL-2.0

//! Core's checker: a sound filesystem gives no finding, and each way to break one gives exactly its own.

use crate::image::{Image, InodeField, PLATFORM};
use cairnfs_core::check::{self, Finding, Options, Severity, Subject};
use cairnfs_core::error::{Check, Error};
use cairnfs_core::format::extent::Extent;
use cairnfs_core::format::group::{BitmapKind, BITMAP_BITS};
use cairnfs_core::format::inode::{ORPHAN_INDEX, ROOT};
use cairnfs_core::format::layout::{get, put};
use cairnfs_core::format::orphan::Slot;
use cairnfs_core::format::superblock::{PRIMARY, SECONDARY};
use cairnfs_core::memory::failure;
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo, BLOCK_BYTES};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use Severity::{Damage, Leak, Wrong};

const CLEAN: Options = Options { after_crash: false };
const CRASHED: Options = Options { after_crash: true };

/// Offsets in an inode.
const SIZE: InodeField = InodeField::Wide(48);
const BLOCKS: InodeField = InodeField::Wide(56);
const PARENT: InodeField = InodeField::Wide(112);
const MAP: usize = 128;
/// The first extent of a map of level 0, and of a leaf.
const FIRST_EXTENT: usize = MAP + 8;
const LEAF_EXTENT: usize = 48 + 8;
/// Offsets of the superblock's fields, behind the block header.
const SUPERBLOCK: usize = 48;
const LABEL: usize = SUPERBLOCK + 16;
const STATE: usize = SUPERBLOCK + 368;
const FREE_BLOCKS: usize = SUPERBLOCK + 400;
/// Offsets of the journal header's totals.
const JOURNAL_FREE_INODES: usize = 48 + 72;
const JOURNAL_ORPHANS: usize = 48 + 84;

fn sound() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(Image::new)
}

/// Check, severity, inode: what a finding is expected to say.
type Expected = (Check, Severity, InodeNo);
const NONE: InodeNo = InodeNo(0);

/// Breaks a copy of the sound filesystem; returns what must be found, in order.
type Case = fn(&Image) -> Vec<Expected>;

fn run(image: &Image, options: Options, cases: &[(&str, Case)]) {
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let broken = image.clone();
        let expected = case(&broken);
        let (findings, summary) = broken.check(options);
        let found: Vec<Expected> =
            findings.iter().map(|finding| (finding.check, finding.severity, finding.inode)).collect();
        assert_eq!(summary.findings(), findings.len() as u64);
        if found != expected {
            wrong.push(format!("{name}:\n  expected {expected:?}\n  found    {findings:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_sound_filesystem_has_no_findings() {
    let image = sound();
    let (findings, summary) = image.check(CLEAN);
    assert_eq!(findings, []);
    assert_eq!((summary.files, summary.directories, summary.symlinks, summary.special_files), (5, 4, 2, 1));
    assert_eq!((summary.names, summary.orphans, summary.initialised_groups), (3011, 0, 4));
    // The orphan index has 16 blocks in one extent.
    assert_eq!(summary.extents, 1 + 300 + 1);
    assert!(summary.is_complete);
    let superblock = image.superblock();
    assert_eq!((summary.free_blocks, summary.free_inodes), (superblock.free_blocks, superblock.free_inodes));
    let used = image.geometry.data_blocks() - summary.free_blocks;
    assert_eq!(summary.claimed_blocks, used);
}

#[test]
fn what_recovery_leaves_has_no_findings() {
    let (findings, summary) = sound().with_orphans().check(CRASHED);
    assert_eq!(findings, []);
    assert_eq!(summary.orphans, 2);
    assert!(summary.is_complete);
}

#[test]
fn one_of_the_pair_may_be_torn_by_a_crash() {
    let image = sound().with_orphans();
    image.edit_raw(PRIMARY, |bytes| bytes[700] ^= 1);
    assert_eq!(image.check(CRASHED).0, []);
    let image = sound().clone();
    image.edit_raw(PRIMARY, |bytes| bytes[700] ^= 1);
    assert_eq!(image.check(CLEAN).0.len(), 1);
}

#[test]
fn allocations_may_fail() {
    let image = sound();
    let superblock = image.superblock();
    let subject = Subject {
        device: &image.device,
        platform: &PLATFORM,
        superblock: &superblock,
        geometry: &image.geometry,
    };
    let mut failed = 0;
    // Not each of them: there are thousands, and a check for each.
    for successes in (0..400).chain((400..).step_by(41)) {
        let armed = failure::fail_after(successes);
        let mut sink = |finding: &Finding| panic!("{finding}");
        let outcome = check::run(&subject, CLEAN, &mut sink, &mut |_, _, _| ());
        if !armed.happened() {
            assert!(outcome.is_ok());
            break;
        }
        assert_eq!(outcome, Err(Error::OutOfMemory), "after {successes} allocations");
        failed += 1;
    }
    assert!(failed > 100, "{failed} checks met a failure");
}

#[test]
fn the_sink_can_end_the_check() {
    let image = sound().clone();
    image.add_to_inode(image.facts.a, InodeField::Links, 1);
    image.edit_entry_of(image.facts.large, b"name number 77", |entry| entry.inode = InodeNo(4000));
    let superblock = image.superblock();
    let subject = Subject {
        device: &image.device,
        platform: &PLATFORM,
        superblock: &superblock,
        geometry: &image.geometry,
    };
    let mut heard = 0;
    let mut sink = |_: &Finding| {
        heard += 1;
        Err(Error::WouldBlock)
    };
    assert_eq!(check::run(&subject, CLEAN, &mut sink, &mut |_, _, _| ()), Err(Error::WouldBlock));
    assert_eq!(heard, 1);
}

fn journal_header(image: &Image) -> BlockNo {
    let counter = |block| get::<u64>(&image.block(block), 48 + 16).unwrap();
    let (first, second) = (image.geometry.journal_start, image.geometry.journal_start.next());
    if counter(second) > counter(first) {
        second
    } else {
        first
    }
}

/// Both totals, the journal's and the superblock's, disagree with the bitmaps.
const TOTALS: [Expected; 2] = [(Check::Totals, Wrong, NONE), (Check::Totals, Wrong, NONE)];

#[test]
fn headers() {
    const CASES: &[(&str, Case)] = &[
        ("a torn superblock", |image| {
            image.edit_raw(SECONDARY, |bytes| bytes[700] ^= 1);
            vec![(Check::Crc, Wrong, NONE)]
        }),
        ("a label in one copy only", |image| {
            image.edit(image.geometry.start_of(GroupNo(3)), |bytes| bytes[LABEL] = b'x');
            vec![(Check::Geometry, Wrong, NONE)]
        }),
        ("a state that does not exist", |image| {
            for block in [PRIMARY, SECONDARY] {
                image.edit(block, |bytes| put(bytes, STATE, 1_u32 << 20).unwrap());
            }
            vec![(Check::Flags, Wrong, NONE)]
        }),
        ("bytes behind the superblock", |image| {
            image.edit(PRIMARY, |bytes| bytes[4000] = 1);
            vec![(Check::Reserved, Wrong, NONE)]
        }),
        ("the superblock's free blocks", |image| {
            for block in [PRIMARY, SECONDARY] {
                image.edit(block, |bytes| put(bytes, FREE_BLOCKS, 17_u64).unwrap());
            }
            vec![(Check::Totals, Wrong, NONE)]
        }),
        ("both journal headers", |image| {
            image.edit_raw(image.geometry.journal_start, |bytes| bytes[60] ^= 1);
            image.edit_raw(image.geometry.journal_start.next(), |bytes| bytes[60] ^= 1);
            vec![(Check::Crc, Damage, NONE), (Check::Crc, Damage, NONE)]
        }),
        ("a journal header of the pair", |image| {
            let older = image.geometry.journal_start.0 + image.geometry.journal_start.next().0
                - journal_header(image).0;
            image.edit_raw(BlockNo(older), |bytes| bytes[60] ^= 1);
            vec![(Check::Crc, Wrong, NONE)]
        }),
        ("the journal's free inodes", |image| {
            image.edit(journal_header(image), |bytes| put(bytes, JOURNAL_FREE_INODES, 17_u64).unwrap());
            vec![(Check::Totals, Wrong, NONE)]
        }),
        ("the journal's orphans", |image| {
            image.edit(journal_header(image), |bytes| put(bytes, JOURNAL_ORPHANS, 1_u32).unwrap());
            vec![(Check::Totals, Wrong, NONE)]
        }),
        ("a journal that was not replayed", |image| {
            image.edit(journal_header(image), |bytes| put(bytes, 48 + 24, 0_u32).unwrap());
            vec![(Check::JournalHeader, Wrong, NONE)]
        }),
        ("a group's header", |image| {
            image.edit_raw(image.geometry.header_of(GroupNo(0)), |bytes| bytes[200] ^= 1);
            vec![(Check::Crc, Damage, NONE)]
        }),
        ("a group's number", |image| {
            image.edit(image.geometry.header_of(GroupNo(2)), |bytes| put(bytes, 48, 3_u32).unwrap());
            vec![(Check::Owner, Damage, NONE)]
        }),
        ("a group's size", |image| {
            image.edit(image.geometry.header_of(GroupNo(2)), |bytes| put(bytes, 56, 3_u32).unwrap());
            vec![(Check::Geometry, Damage, NONE)]
        }),
        ("a mark within a table block", |image| {
            image.edit(image.geometry.header_of(GroupNo(3)), |bytes| put(bytes, 60, 5_u32).unwrap());
            vec![(Check::TableMark, Damage, NONE)]
        }),
    ];
    run(sound(), CLEAN, CASES);
}

#[test]
fn bitmaps() {
    const CASES: &[(&str, Case)] = &[
        ("a used block that is free", |image| {
            image.set_bit(GroupNo(3), BitmapKind::Blocks, BITMAP_BITS - 7, true);
            [(Check::Bitmap, Leak, NONE)].into_iter().chain(TOTALS).collect()
        }),
        ("a free block that is used", |image| {
            let (group, bit) = image.geometry.locate_block(image.facts.plain_block).unwrap();
            image.set_bit(group, BitmapKind::Blocks, bit, false);
            [(Check::Bitmap, Damage, NONE)].into_iter().chain(TOTALS).collect()
        }),
        ("a free block of the group's own", |image| {
            image.set_bit(GroupNo(1), BitmapKind::Blocks, 1, false);
            [(Check::Bitmap, Wrong, NONE)].into_iter().chain(TOTALS).collect()
        }),
        ("a bitmap's checksum", |image| {
            image.edit_entry(GroupNo(0), BitmapKind::Blocks, 0, |entry| entry.crc ^= 1);
            vec![(Check::Crc, Damage, NONE)]
        }),
        ("a free count", |image| {
            image.edit_entry(GroupNo(1), BitmapKind::Inodes, 0, |entry| entry.free -= 1);
            vec![(Check::FreeCount, Wrong, NONE)]
        }),
        ("a used inode that is free", |image| {
            let place = image.geometry.locate_inode(image.facts.plain).unwrap();
            let used: BTreeSet<u64> = used_inodes(image);
            let free = (image.facts.plain.0..).map(InodeNo).find(|number| !used.contains(&number.0)).unwrap();
            image.set_bit(
                place.group,
                BitmapKind::Inodes,
                image.geometry.locate_inode(free).unwrap().index,
                true,
            );
            [(Check::Bitmap, Leak, free)].into_iter().chain(TOTALS).collect()
        }),
        ("a free inode that is used", |image| {
            let place = image.geometry.locate_inode(image.facts.plain).unwrap();
            image.set_bit(place.group, BitmapKind::Inodes, place.index, false);
            [(Check::Bitmap, Damage, image.facts.plain)].into_iter().chain(TOTALS).collect()
        }),
        ("a used inode above the mark", |image| {
            image.set_bit(GroupNo(3), BitmapKind::Inodes, 100, true);
            let number = image.geometry.inode_at(GroupNo(3), 100);
            [(Check::TableMark, Damage, number)].into_iter().chain(TOTALS).collect()
        }),
    ];
    run(sound(), CLEAN, CASES);
}

/// The inodes whose slots in group 0 are in use, or lie behind the mark.
fn used_inodes(image: &Image) -> BTreeSet<u64> {
    let mark: u32 = get(&image.block(image.geometry.header_of(GroupNo(0))), 60).unwrap();
    let mode = |number: u32| {
        let place = image.geometry.locate_inode(InodeNo(u64::from(number))).unwrap();
        get::<u16>(&image.block(place.block), place.offset + 20).unwrap()
    };
    let used = (16..mark).filter(|number| mode(*number) != 0);
    used.chain(mark..image.geometry.inodes_per_group).map(u64::from).collect()
}

#[test]
fn inodes() {
    const CASES: &[(&str, Case)] = &[
        ("an inode's checksum", |image| {
            let place = image.geometry.locate_inode(image.facts.plain).unwrap();
            image.edit_raw(place.block, |bytes| bytes[place.offset + 80] ^= 1);
            vec![(Check::Crc, Damage, image.facts.plain)]
        }),
        ("an inode's number", |image| {
            image.edit_inode(image.facts.plain, |slot| put(slot, 8, 99_u64).unwrap());
            vec![(Check::InodeNumber, Damage, image.facts.plain)]
        }),
        ("an inode that was freed while it has a name", |image| {
            image.edit_inode(image.facts.c, |slot| slot[12..].fill(0));
            image.edit_inode(image.facts.c, |slot| put(slot, 8, image.facts.c).unwrap());
            vec![(Check::Dangling, Damage, image.facts.b), (Check::Bitmap, Leak, image.facts.c)]
        }),
        ("a flag that does not exist", |image| {
            image.edit_inode(image.facts.plain, |slot| put(slot, 36, 1_u32 << 30).unwrap());
            vec![(Check::Flags, Damage, image.facts.plain)]
        }),
        ("a link too many", |image| {
            image.add_to_inode(image.facts.hard_linked, InodeField::Links, 1);
            vec![(Check::Links, Wrong, image.facts.hard_linked)]
        }),
        ("a link too few", |image| {
            image.add_to_inode(image.facts.hard_linked, InodeField::Links, -1);
            vec![(Check::Links, Damage, image.facts.hard_linked)]
        }),
        ("no links, and a name", |image| {
            image.add_to_inode(image.facts.plain, InodeField::Links, -1);
            vec![(Check::Links, Damage, image.facts.plain)]
        }),
        ("a directory's links", |image| {
            image.add_to_inode(image.facts.a, InodeField::Links, 1);
            vec![(Check::Links, Wrong, image.facts.a)]
        }),
        ("the orphan index's links", |image| {
            image.add_to_inode(ORPHAN_INDEX, InodeField::Links, 1);
            vec![(Check::Links, Wrong, ORPHAN_INDEX)]
        }),
        ("a count of blocks", |image| {
            image.add_to_inode(image.facts.fragmented, BLOCKS, 1);
            vec![(Check::BlockCount, Wrong, image.facts.fragmented)]
        }),
        ("blocks behind the size", |image| {
            image.add_to_inode(image.facts.plain, SIZE, -(BLOCK_BYTES as i64));
            vec![(Check::Size, Wrong, image.facts.plain)]
        }),
        ("a directory's size", |image| {
            image.add_to_inode(image.facts.large, SIZE, BLOCK_BYTES as i64);
            vec![(Check::Size, Wrong, image.facts.large)]
        }),
        ("an attribute's block", |image| {
            image.edit_raw(image.facts.attribute_block, |bytes| bytes[2000] ^= 1);
            vec![(Check::Crc, Damage, image.facts.attributes)]
        }),
        ("an attribute's namespace", |image| {
            image.edit(image.facts.attribute_block, |bytes| bytes[56] = 77);
            vec![(Check::Attribute, Damage, image.facts.attributes)]
        }),
        ("a target's block", |image| {
            image.edit_raw(image.facts.target_block, |bytes| bytes[200] ^= 1);
            vec![(Check::Crc, Damage, image.facts.long_link)]
        }),
        ("a zero byte in a target", |image| {
            image.edit(image.facts.target_block, |bytes| bytes[200] = 0);
            vec![(Check::Name, Wrong, image.facts.long_link)]
        }),
    ];
    run(sound(), CLEAN, CASES);
}

fn edit_extent(bytes: &mut [u8], offset: usize, edit: impl FnOnce(&mut Extent)) {
    let mut extent = Extent::decode(bytes, offset).unwrap();
    edit(&mut extent);
    extent.encode(bytes, offset).unwrap();
}

#[test]
fn extents() {
    const CASES: &[(&str, Case)] = &[
        ("another file's block", |image| {
            let taken = image.facts.plain_block;
            image.edit(image.facts.extent_leaves[0], |bytes| {
                edit_extent(bytes, LEAF_EXTENT, |extent| extent.block = taken);
            });
            vec![(Check::Shared, Damage, image.facts.fragmented), (Check::Bitmap, Leak, NONE)]
        }),
        ("a block of its own twice", |image| {
            image.edit(image.facts.extent_leaves[0], |bytes| {
                let first = Extent::decode(bytes, LEAF_EXTENT).unwrap();
                edit_extent(bytes, LEAF_EXTENT + Extent::SIZE, |extent| extent.block = first.block);
            });
            vec![(Check::Shared, Damage, image.facts.fragmented), (Check::Bitmap, Leak, NONE)]
        }),
        ("a block of a group that is not initialised", |image| {
            let stray =
                BlockNo(image.geometry.start_of(GroupNo(5)).0 + u64::from(image.geometry.metadata_blocks()));
            image.edit(image.facts.extent_leaves[0], |bytes| {
                edit_extent(bytes, LEAF_EXTENT, |extent| extent.block = stray);
            });
            vec![(Check::BlockRange, Damage, image.facts.fragmented), (Check::Bitmap, Leak, NONE)]
        }),
        ("a block of an inode table", |image| {
            let table = image.geometry.table_of(GroupNo(0));
            image.edit_inode(image.facts.plain, |slot| {
                edit_extent(slot, FIRST_EXTENT, |extent| extent.block = table);
            });
            vec![(Check::BlockRange, Damage, image.facts.plain)]
        }),
        ("a leaf's checksum", |image| {
            image.edit_raw(image.facts.extent_leaves[0], |bytes| bytes[100] ^= 1);
            vec![(Check::Crc, Damage, image.facts.fragmented)]
        }),
        ("another owner's leaf", |image| {
            image.edit(image.facts.extent_leaves[0], |bytes| put(bytes, 24, 99_u64).unwrap());
            vec![(Check::Owner, Damage, image.facts.fragmented)]
        }),
        ("extents out of order", |image| {
            image.edit(image.facts.extent_leaves[0], |bytes| {
                let (first, rest) = bytes[LEAF_EXTENT..].split_at_mut(Extent::SIZE);
                first.swap_with_slice(&mut rest[..Extent::SIZE]);
            });
            vec![(Check::Order, Damage, image.facts.fragmented)]
        }),
        ("extents that are one", |image| {
            image.edit_inode(image.facts.plain, |slot| {
                let whole = Extent::decode(slot, FIRST_EXTENT).unwrap();
                edit_extent(slot, FIRST_EXTENT, |extent| extent.blocks = 3);
                let rest = Extent {
                    file_block: whole.file_block.checked_add(3).unwrap(),
                    block: whole.block.checked_add(3).unwrap(),
                    blocks: whole.blocks - 3,
                    flags: 0,
                };
                rest.encode(slot, FIRST_EXTENT + Extent::SIZE).unwrap();
                put(slot, MAP + 2, 2_u16).unwrap();
                put(slot, 120, 56_u16).unwrap();
            });
            vec![(Check::Order, Wrong, image.facts.plain)]
        }),
    ];
    run(sound(), CLEAN, CASES);
}

#[test]
fn directories() {
    const CASES: &[(&str, Case)] = &[
        ("a name that hashes to another key", |image| {
            image.edit(image.facts.large_leaves[3], |bytes| {
                let at = bytes.windows(12).position(|window| window == b"name number ").unwrap();
                bytes[at] = b'N';
            });
            vec![(Check::Key, Damage, image.facts.large)]
        }),
        ("a name without an inode", |image| {
            image.edit_entry_of(image.facts.large, b"name number 77", |entry| entry.inode = InodeNo(4000));
            vec![(Check::Dangling, Damage, image.facts.large), (Check::Links, Wrong, image.facts.hard_linked)]
        }),
        ("a name for another inode", |image| {
            let plain = image.facts.plain;
            image.edit_entry_of(image.facts.large, b"name number 77", |entry| entry.inode = plain);
            vec![(Check::Links, Damage, plain), (Check::Links, Wrong, image.facts.hard_linked)]
        }),
        ("another type", |image| {
            image.edit_entry_of(image.facts.large, b"name number 77", |entry| entry.file_type = 1);
            vec![(Check::FileType, Wrong, image.facts.hard_linked)]
        }),
        ("a leaf's checksum", |image| {
            image.edit_raw(image.facts.large_leaves[3], |bytes| bytes[2000] ^= 1);
            vec![(Check::Crc, Damage, image.facts.large)]
        }),
        ("a leaf's count", |image| {
            image.edit(image.facts.large_leaves[3], |bytes| {
                put(bytes, 48, get::<u16>(bytes, 48).unwrap() - 1).unwrap();
            });
            vec![(Check::Reserved, Damage, image.facts.large)]
        }),
        ("a node that leads to the wrong keys", |image| {
            image.edit(image.facts.large_nodes[0], |bytes| {
                let second = 56 + 16;
                put(bytes, second, get::<u64>(bytes, second).unwrap() + 1).unwrap();
            });
            vec![(Check::Key, Damage, image.facts.large)]
        }),
        ("a parent", |image| {
            image.add_to_inode(image.facts.b, PARENT, 5);
            vec![(Check::Parent, Wrong, image.facts.b)]
        }),
        ("the root's parent", |image| {
            image.add_to_inode(ROOT, PARENT, 20);
            vec![(Check::Parent, Wrong, ROOT)]
        }),
        ("a directory with two names", |image| {
            let large = image.facts.large;
            image.edit_entry_of(image.facts.b, b"c", |entry| (entry.inode, entry.file_type) = (large, 4));
            // Who comes first is the first to name it: the root.
            vec![
                (Check::Reachable, Damage, large),
                (Check::Links, Damage, image.facts.b),
                (Check::Reachable, Damage, image.facts.c),
            ]
        }),
        ("a circle", |image| {
            let (a, plain) = (image.facts.a, image.facts.plain);
            image.edit_entry_of(ROOT, b"a", |entry| (entry.inode, entry.file_type) = (plain, 8));
            image.edit_entry_of(image.facts.b, b"c", |entry| (entry.inode, entry.file_type) = (a, 4));
            vec![
                (Check::Parent, Wrong, a),
                (Check::Reachable, Damage, a),
                (Check::Links, Wrong, ROOT),
                (Check::Links, Damage, plain),
                (Check::Links, Damage, image.facts.b),
                (Check::Reachable, Damage, image.facts.c),
            ]
        }),
    ];
    run(sound(), CLEAN, CASES);
}

fn put_slot(image: &Image, index: usize, slot: Slot) {
    image.edit(image.facts.orphan_block, |bytes| slot.encode(bytes, 48 + index * Slot::SIZE).unwrap());
}

const fn slot(inode: InodeNo, kind: u8) -> Slot {
    Slot { inode, kind, cause: 1, reserved: [0; 6] }
}

#[test]
fn orphans() {
    const CASES: &[(&str, Case)] = &[
        ("an orphan with a name", |image| {
            put_slot(image, 9, slot(image.facts.plain, 1));
            vec![(Check::OrphanSlot, Wrong, image.facts.plain), (Check::Totals, Wrong, NONE)]
        }),
        ("an orphan that is free", |image| {
            put_slot(image, 9, slot(InodeNo(4000), 1));
            vec![(Check::OrphanSlot, Wrong, InodeNo(4000)), (Check::Totals, Wrong, NONE)]
        }),
        ("a directory that is truncated", |image| {
            put_slot(image, 9, slot(image.facts.a, 2));
            vec![(Check::OrphanSlot, Wrong, image.facts.a), (Check::Totals, Wrong, NONE)]
        }),
        ("a kind that does not exist", |image| {
            put_slot(image, 9, slot(image.facts.a, 7));
            vec![(Check::OrphanSlot, Damage, ORPHAN_INDEX)]
        }),
        ("the index's checksum", |image| {
            image.edit_raw(image.facts.orphan_block, |bytes| bytes[900] ^= 1);
            vec![(Check::Crc, Damage, ORPHAN_INDEX)]
        }),
    ];
    run(sound(), CLEAN, CASES);
    const CRASHED_CASES: &[(&str, Case)] = &[
        ("an inode without links outside of the index", |image| {
            put_slot(image, 0, Slot { cause: 0, ..slot(NONE, 0) });
            vec![(Check::OrphanSlot, Leak, image.facts.c), (Check::Totals, Wrong, NONE)]
        }),
        ("a truncation outside of the index", |image| {
            put_slot(image, 1, Slot { cause: 0, ..slot(NONE, 0) });
            vec![(Check::Size, Wrong, image.facts.fragmented), (Check::Totals, Wrong, NONE)]
        }),
        ("an orphan twice", |image| {
            put_slot(image, 5, slot(image.facts.c, 1));
            vec![(Check::OrphanSlot, Wrong, image.facts.c), (Check::Totals, Wrong, NONE)]
        }),
    ];
    run(&sound().with_orphans(), CRASHED, CRASHED_CASES);
}

#[test]
fn findings_say_where_and_what() {
    let image = sound().clone();
    image.add_to_inode(image.facts.hard_linked, InodeField::Links, 1);
    let place = image.geometry.locate_inode(image.facts.hard_linked).unwrap();
    let expected = Finding {
        check: Check::Links,
        severity: Wrong,
        inode: image.facts.hard_linked,
        block: place.block,
        expected: 3001,
        found: 3002,
    };
    assert_eq!(image.check(CLEAN).0, [expected]);
    let image = sound().clone();
    let taken = image.facts.plain_block;
    image.edit(image.facts.extent_leaves[0], |bytes| {
        edit_extent(bytes, LEAF_EXTENT, |extent| extent.block = taken);
    });
    let (findings, _) = image.check(CLEAN);
    let (plain, fragmented) = (image.facts.plain, image.facts.fragmented);
    let (check, severity) = (Check::Shared, Damage);
    let shared =
        Finding { check, severity, inode: fragmented, block: taken, expected: plain.0, found: fragmented.0 };
    assert_eq!(findings[0], shared);
    assert_eq!((findings[1].expected, findings[1].found), (0, 1));
}
