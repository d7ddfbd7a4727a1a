// SPDX-License-Identifier: GPL-2.0

//! What memory has spoilt does not go home: each sort of unit, spoilt behind the back of the journal after it was committed. And
//! what is stable goes home beside what is not.

use super::*;
use crate::error::Check;
use crate::format::group::Geometry;
use crate::format::journal::{Tail, Totals};
use crate::format::orphan::Slot;
use crate::journal::bits::BitMasks;
use crate::journal::commit::{CommitRequest, CommitSpace};
use crate::journal::prepared::{
    BitChange, Prepared, PreparedBitmap, PreparedBlock, PreparedInode, SlotChange,
};
use crate::journal::ring::Class;
use crate::journal::Start;
use crate::platform::testing::TestPlatform;
use crate::units::{Generation, OrphanSlot, Position, Sequence};

const GEOMETRY: Geometry = Geometry {
    filesystem_id: 0x1234,
    device_blocks: 1280 + 32768,
    first_group_block: BlockNo(1280),
    group_blocks: 32768,
    group_count: 1,
    inodes_per_group: 8192,
    journal_start: BlockNo(2),
    journal_blocks: 1024,
    physical_block_bytes: 512,
};
const BLOCK: BlockNo = BlockNo(20_000);
const ORPHANS: BlockNo = BlockNo(20_001);
const INODE: InodeNo = InodeNo(20);
const GROUP: GroupNo = GroupNo(0);
const BITMAP: BitmapKey = BitmapKey { group: GROUP, kind: BitmapKind::Blocks, index: 0 };
/// Beside `INODE` in its table block.
const NEIGHBOUR: InodeNo = InodeNo(21);
const INODE_BITMAP: BitmapKey = BitmapKey { group: GROUP, kind: BitmapKind::Inodes, index: 0 };

fn begun(kind: BlockKind, block: BlockNo, owner: u64) -> Buffer {
    let mut content = Buffer::zeroed(BLOCK_BYTES).unwrap();
    let filesystem_id = GEOMETRY.filesystem_id;
    Stamp { kind, block, owner, filesystem_id }.begin(&mut content).unwrap();
    content
}

fn member() -> crate::memory::Reservation<ObjectKey, u64> {
    OrderedMap::<ObjectKey, u64>::reserve().unwrap()
}

/// A new inode as it is in a handle: without its CRC.
fn new_inode(number: InodeNo) -> Buffer {
    let new = NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 };
    let mut image = Buffer::zeroed(INODE_BYTES).unwrap();
    Inode::new(number, InodeGeneration(9), &new).unwrap().encode_unsealed(&mut image).unwrap();
    image
}

/// A new inode, and bits of a bitmap of the group.
fn change(prepared: &mut Prepared, number: InodeNo, bits: BitChange) {
    let image = new_inode(number);
    let node = OrderedMap::<_, crate::journal::object::InodeObject>::reserve().unwrap();
    prepared.inodes.insert(number, PreparedInode { image, node, member: member() }).unwrap();
    let masks = Some(BitMasks::try_new().unwrap());
    let bitmap = PreparedBitmap { changes: true, masks, member: member() };
    prepared.bitmaps.insert(bits.key, bitmap).unwrap();
    prepared.bits.push(bits).unwrap();
    prepared.groups.insert(GROUP, member()).unwrap();
}

/// A journal in which one of each has been committed.
fn committed() -> Journal {
    let tail =
        Tail { position: Position(0), sequence: Sequence(1), generation: Generation(1), previous_crc: 0 };
    let totals = Totals { free_blocks: 9000, free_inodes: 8000, initialised_groups: 1, orphans: 0 };
    let start = Start { tail, next_transaction: TransactionId(1), totals, header_counter: 1 };
    let mut journal = Journal::new(GEOMETRY, [1; 16], &start);
    let mut loaded = load::implied(&GEOMETRY, GROUP).unwrap();
    loaded.header = crate::journal::object::GroupObject::try_new(64).unwrap();
    journal.add_group(GROUP, load::LoadedGroup { fresh: false, ..loaded }).unwrap();
    journal.add_orphan_block(ORPHANS, OrphanSlot(0), begun(BlockKind::OrphanIndex, ORPHANS, 1)).unwrap();

    let mut prepared = Prepared::try_new().unwrap();
    let content = begun(BlockKind::SymlinkTarget, BLOCK, INODE.0);
    let block = PreparedBlock {
        changed: WordSet::nonzero(&content),
        content: Shared::try_new(content).unwrap(),
        kind: BlockKind::SymlinkTarget,
        owner: INODE,
        fresh: true,
        node: OrderedMap::<BlockNo, crate::journal::object::BlockObject>::reserve().unwrap(),
        member: member(),
    };
    prepared.blocks.insert(BLOCK, block).unwrap();
    change(&mut prepared, INODE, BitChange { key: BITMAP, start: 30_000, bits: 3, value: true });
    let content = Slot { inode: INODE, kind: 1, cause: 1, reserved: [0; 6] };
    prepared.slots.push(SlotChange { slot: OrphanSlot(3), block: ORPHANS, content }).unwrap();
    prepared.slot_members.insert(ORPHANS, member()).unwrap();

    let reservation = journal.reserve(50_000, Class::Normal).unwrap();
    journal.close(&reservation, prepared).unwrap();
    commit(&mut journal);
    journal
}

fn commit(journal: &mut Journal) {
    let buffer = Buffer::zeroed(journal.commit_bytes_bound() as usize).unwrap();
    let space = CommitSpace { buffer, node: OrderedMap::reserve().unwrap() };
    let request = CommitRequest { durable: true, force_unit_access: false, now_ns: 1 };
    let commit = journal.begin_commit(&request, space).unwrap().ok().expect("a commit");
    journal.end_commit(&commit, Ok(())).unwrap();
}

/// A handle that changes the inode beside `INODE`, and the other bitmap of the group.
fn change_neighbours(journal: &mut Journal) {
    let mut prepared = Prepared::try_new().unwrap();
    change(&mut prepared, NEIGHBOUR, BitChange { key: INODE_BITMAP, start: 100, bits: 1, value: true });
    let reservation = journal.reserve(50_000, Class::Normal).unwrap();
    journal.close(&reservation, prepared).unwrap();
}

/// Sends everything home; the first error.
fn send_home(journal: &mut Journal) -> Result<usize> {
    send_home_with(journal, &mut HomeWrite::try_new().unwrap())
}

fn send_home_with(journal: &mut Journal, write: &mut HomeWrite) -> Result<usize> {
    let (mut after, mut units) = (BlockNo(0), 0);
    while let Some(unit) = journal.next_home(after) {
        let base = journal.home_needs_base(unit).map(|_| [0; BLOCK_BYTES]);
        journal.begin_home(&TestPlatform, unit, base.as_ref().map(|base| &base[..]), write)?;
        journal.end_home(unit, Ok(()))?;
        journal.settle_home(unit, &mut |_, _| {});
        after = journal.home_of(unit);
        units += 1;
    }
    Ok(units)
}

#[test]
fn what_is_whole_goes_home() {
    let mut journal = committed();
    assert_eq!(send_home(&mut journal), Ok(4));
    assert_eq!(journal.tail().absolute, journal.ring().head().absolute);
}

/// Spoils one thing; the check that finds it.
fn spoil(journal: &mut Journal, what: usize) -> Check {
    match what {
        0 => {
            let object = journal.blocks.get_mut(BLOCK).unwrap();
            let mut content = object.content.try_clone().unwrap();
            content[block_header::BlockHeader::SIZE - 16] ^= 1;
            object.content = Shared::try_new(content).unwrap();
            Check::FilesystemId
        }
        1 => {
            journal.inodes.get_mut(INODE).unwrap().image[0] ^= 1;
            Check::Magic
        }
        2 => {
            journal.bitmaps.get_mut(BITMAP).unwrap().bits[0] = 0;
            Check::Bitmap
        }
        3 => {
            journal.groups.get_mut(GROUP).unwrap().table_mark = 65;
            Check::TableMark
        }
        _ => {
            let object = journal.orphans.get_mut(ORPHANS).unwrap();
            object.content[crate::format::orphan::SLOTS_OFFSET + 3 * Slot::SIZE + 8] = 99;
            Check::OrphanSlot
        }
    }
}

#[test]
fn what_is_spoilt_does_not_and_the_tail_never_passes_it() {
    for what in 0..5 {
        let mut journal = committed();
        let check = spoil(&mut journal, what);
        let tail = journal.tail();
        let Err(Error::Corrupt(found)) = send_home(&mut journal) else {
            panic!("unit {what} went home");
        };
        assert_eq!(found.check, check);
        assert_eq!(journal.error(), Some(Error::Corrupt(found)), "it is latched by its name");
        assert_eq!(journal.tail(), tail);
        assert_eq!(send_home(&mut journal), Err(Error::ShutDown), "nothing goes home after it");
        assert!(journal.begin_header(false).is_err());
    }
}

#[test]
fn behind_a_clean_header_there_are_no_handles() {
    let mut journal = committed();
    assert_eq!(journal.begin_header(true).map(drop), Err(Error::WouldBlock), "the log holds something");
    send_home(&mut journal).unwrap();
    let handle = journal.reserve(1000, Class::Normal).unwrap();
    assert_eq!(journal.begin_header(true).map(drop), Err(Error::WouldBlock), "a handle is open");
    journal.release_reservation(&handle);
    let written = journal.begin_header(true).unwrap();
    for class in [Class::Normal, Class::Reserved] {
        assert_eq!(journal.reserve(1000, class).map(drop), Err(Error::ReadOnly), "it is on its way");
    }
    journal.end_header(&written, Ok(())).unwrap();
    assert_eq!(journal.reserve(1000, Class::Normal).map(drop), Err(Error::ReadOnly), "it stands");
    assert_eq!(journal.begin_header(false).map(drop), Err(Error::WouldBlock), "nothing goes over it");
    journal.reopen();
    let written = journal.begin_header(false).unwrap();
    journal.end_header(&written, Ok(())).unwrap();
    journal.reserve(1000, Class::Normal).unwrap();
}

#[test]
fn who_is_changed_all_the_time_holds_nobody_beside_him() {
    let mut journal = committed();
    change_neighbours(&mut journal);
    let mark = journal.groups.get(GROUP).unwrap().table_mark;
    journal.groups.get_mut(GROUP).unwrap().table_mark = mark + 8;
    let mut write = HomeWrite::try_new().unwrap();
    assert_eq!(send_home_with(&mut journal, &mut write), Ok(4));
    let header = write.blocks().find(|(block, _)| *block == GEOMETRY.header_of(GROUP));
    assert!(header.is_none(), "the last unit is the table's");
    assert!(!journal.inodes.contains_key(INODE), "it is home");
    assert!(journal.inodes.contains_key(NEIGHBOUR), "it is not stable");
    assert_eq!(journal.groups.get(GROUP).unwrap().home_mark, mark, "nor is the new mark");
    assert_eq!(journal.bitmaps.get(BITMAP).unwrap().log.pinned, None);

    // What was not stable is, and pinned by its own record: nothing needs the first one any more.
    let second = journal.ring().head().absolute;
    commit(&mut journal);
    assert_eq!(journal.tail().absolute, second);
    // The table block, for the inode that was left; and the group, with its mark.
    assert_eq!(send_home_with(&mut journal, &mut write), Ok(2));
    assert_eq!(journal.groups.get(GROUP).unwrap().home_mark, mark + 8);
    assert_eq!(journal.tail().absolute, journal.ring().head().absolute);
}

#[test]
fn the_other_inodes_of_a_table_block_are_verified() {
    let mut write = HomeWrite::try_new().unwrap();
    let mut verify = |block, base: &[u8]| write.verify_base(&TestPlatform, &GEOMETRY, block, base);
    let place = GEOMETRY.locate_inode(INODE).unwrap();
    let mut inode = new_inode(INODE);
    inode::seal(&TestPlatform, &mut inode).unwrap();
    let mut base = vec![0; BLOCK_BYTES];
    base[place.offset..][..INODE_BYTES].copy_from_slice(&inode);
    assert_eq!(verify(place.block, &base), Ok(()), "one inode, seven never used");
    base[place.offset + 30] ^= 1;
    let Err(Error::Corrupt(found)) = verify(place.block, &base) else {
        panic!("it is spoilt");
    };
    assert_eq!((found.check, found.block), (Check::Crc, place.block));
    assert_eq!(verify(GEOMETRY.table_of(GROUP), &[0; BLOCK_BYTES]), Ok(()), "none is number 0");
}

#[test]
fn nothing_is_durable_by_a_commit_during_which_the_journal_failed() {
    let mut journal = committed();
    let stable = journal.stable_transaction();
    change_neighbours(&mut journal);
    let buffer = Buffer::zeroed(journal.commit_bytes_bound() as usize).unwrap();
    let space = CommitSpace { buffer, node: OrderedMap::reserve().unwrap() };
    let request = CommitRequest { durable: true, force_unit_access: false, now_ns: 1 };
    let commit = journal.begin_commit(&request, space).unwrap().ok().expect("a commit");
    // Somebody else's flush has failed, and with it what the device's cache had of the records.
    journal.fail(Error::Io(BlockNo(0)));
    assert_eq!(journal.end_commit(&commit, Ok(())), Err(Error::ShutDown));
    assert_eq!(journal.stable_transaction(), stable);
}
