// SPDX-License-Identifier: GPL-2.0

//! A commit is possible whatever was promised: a journal of the smallest size is driven to its limits by handles that use all that
//! they have reserved, by new groups that others begin, by commits and by home writes at any moment.

use super::*;
use crate::format::block_header::{BlockKind, Stamp};
use crate::format::group::{BitmapKind, Geometry, BITMAP_BITS, INODES_PER_BLOCK};
use crate::format::inode::INODE_BYTES;
use crate::format::journal::{Tail, Totals};
use crate::format::orphan::{Slot, SLOTS_PER_BLOCK};
use crate::inode::{Inode, NewInode};
use crate::journal::bits::BitMasks;
use crate::journal::checkpoint::{HomeUnit, HomeWrite};
use crate::journal::commit::{Commit, CommitRequest, CommitSpace, NoCommit};
use crate::journal::object::{BitmapKey, ObjectKey};
use crate::journal::prepared::{
    BitChange, MarkNeeded, Member, Prepared, PreparedBitmap, PreparedBlock, PreparedFree, PreparedInode,
    PreparedNote, PreparedTable, SlotChange,
};
use crate::journal::transaction::Freed;
use crate::journal::words::WordSet;
use crate::journal::Start;
use crate::memory::{Buffer, OrderedMap, Shared};
use crate::platform::testing::TestPlatform;
use crate::space::group::Group;
use crate::space::load::{self, bitmap_keys};
use crate::units::{
    BlockNo, Generation, GroupNo, InodeGeneration, InodeNo, OrphanSlot, Position, Sequence, TransactionId,
    BLOCK_BYTES,
};
use proptest::prelude::*;

/// Groups that are initialised at the start.
const INITIALISED: u32 = 4;
const ORPHAN_BLOCKS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Opens a handle of some kind, of the reserved class or not.
    Open {
        kind: u8,
        reserved: bool,
    },
    /// Closes one of the open handles, which uses all that it has reserved.
    Close {
        which: usize,
        salt: u64,
    },
    /// Drops one.
    Drop {
        which: usize,
    },
    /// Begins groups.
    BeginGroups {
        groups: u32,
    },
    Commit {
        durable: bool,
    },
    BeginHomes {
        units: usize,
    },
    SettleHomes,
    MoveTail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (any::<u8>(), prop::bool::weighted(0.2)).prop_map(|(kind, reserved)| Step::Open { kind, reserved }),
        10 => (any::<usize>(), any::<u64>()).prop_map(|(which, salt)| Step::Close { which, salt }),
        1 => any::<usize>().prop_map(|which| Step::Drop { which }),
        1 => (1..40_u32).prop_map(|groups| Step::BeginGroups { groups }),
        4 => any::<bool>().prop_map(|durable| Step::Commit { durable }),
        1 => (1..60_usize).prop_map(|units| Step::BeginHomes { units }),
        1 => Just(Step::SettleHomes),
        1 => Just(Step::MoveTail),
    ];
    prop::collection::vec(step, 60..200)
}

fn geometry(shift: u32, physical_shift: u32, inodes_per_group: u32) -> Geometry {
    let group_blocks = BITMAP_BITS << shift;
    Geometry {
        filesystem_id: 0x1234,
        device_blocks: 1280 + u64::from(group_blocks) * 1000,
        first_group_block: BlockNo(1280),
        group_blocks,
        group_count: 1000,
        inodes_per_group,
        journal_start: BlockNo(2),
        journal_blocks: 1024,
        physical_block_bytes: 512 << physical_shift,
    }
}

/// The kinds of handles: what the operations ask for, and some that are hard on one part of the count.
fn worst_of(kind: u8, geometry: &Geometry) -> Worst {
    let none = Worst::default();
    let worst = match kind % 8 {
        0 => Worst { inodes: 1, note_bytes: NOTE_BYTES_MAX, ..none },
        1 => Worst { inodes: 3, blocks: 3, bitmaps: 4, slots: 1, note_bytes: NOTE_BYTES_MAX, ..none },
        2 => Worst { freed_blocks: 12, bitmaps: 12, inodes: 1, slots: 2, note_bytes: NOTE_BYTES_MAX, ..none },
        3 => Worst { slots: 3, ..none },
        4 => Worst { bitmaps: 30, ..none },
        5 => Worst { blocks: 50, inodes: 5, ..none },
        6 => Worst { blocks: 1, ..none },
        _ => Worst { inodes: 2, bitmaps: 2, note_bytes: NOTE_BYTES_MAX, ..none },
    };
    assert!(worst.bytes() <= Journal::ring_bytes(geometry) / HANDLE_SHARE);
    worst
}

struct Open {
    reservation: Reservation,
    worst: Worst,
    /// Its inode numbers, above all marks: taken when it was opened, as by another handle that closes later.
    inodes: Vec<InodeNo>,
}

struct Driver {
    geometry: Geometry,
    journal: Journal,
    open: Vec<Open>,
    written: Option<Commit>,
    homes: Vec<HomeUnit>,
    next_inode: u32,
    next_slot: u32,
    begun_groups: u32,
    /// Commits so far.
    commits: u32,
}

fn member() -> Member {
    OrderedMap::<ObjectKey, u64>::reserve().unwrap()
}

/// A small generator, so that one number from proptest spreads over a handle.
fn next(salt: &mut u64) -> u64 {
    *salt = salt.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *salt >> 20
}

impl Driver {
    fn new(geometry: Geometry, position: u64) -> Self {
        let start = Start {
            tail: Tail {
                position: Position(position),
                sequence: Sequence(1),
                generation: Generation(1),
                previous_crc: 0,
            },
            next_transaction: TransactionId(1),
            totals: Totals {
                free_blocks: 1 << 30,
                free_inodes: 1 << 30,
                initialised_groups: INITIALISED,
                orphans: 0,
            },
            header_counter: 1,
        };
        let mut journal = Journal::new(geometry, [1; 16], &start);
        for group in (0..INITIALISED).map(GroupNo) {
            let loaded = load::implied(&geometry, group).unwrap();
            journal.add_group(group, load::LoadedGroup { fresh: false, ..loaded }).unwrap();
        }
        for index in 0..ORPHAN_BLOCKS {
            let block =
                BlockNo(geometry.start_of(GroupNo(0)).0 + u64::from(geometry.metadata_blocks() + index));
            let mut content = Buffer::zeroed(BLOCK_BYTES).unwrap();
            let stamp = Stamp {
                kind: BlockKind::OrphanIndex,
                block,
                owner: 1,
                filesystem_id: geometry.filesystem_id,
            };
            stamp.begin(&mut content).unwrap();
            journal.add_orphan_block(block, OrphanSlot(index * SLOTS_PER_BLOCK), content).unwrap();
        }
        Self {
            geometry,
            journal,
            open: Vec::new(),
            written: None,
            homes: Vec::new(),
            next_inode: 0,
            next_slot: 0,
            begun_groups: INITIALISED,
            commits: 0,
        }
    }

    /// What the property is about: there is always room for what may come.
    fn check(&self) {
        let needed = self.journal.needed(&self.journal.promised);
        let free = self.journal.ring.free_bytes();
        assert!(needed <= free, "{needed} bytes are needed, {free} are free");
        assert_eq!(self.journal.error(), None);
    }

    fn open(&mut self, kind: u8, class: Class) {
        let worst = worst_of(kind, &self.geometry);
        if let Ok(reservation) = self.journal.reserve(worst.bytes(), class) {
            let inodes = (0..worst.inodes).map(|_| self.take_inode()).collect();
            self.open.push(Open { reservation, worst, inodes });
        }
    }

    /// The next inode of group 1: numbers rise, so that each handle finds those of others below its own.
    fn take_inode(&mut self) -> InodeNo {
        let index = self.next_inode % self.geometry.inodes_per_group;
        self.next_inode += 1;
        self.geometry.inode_at(GroupNo(1), index)
    }

    fn begin_groups(&mut self, groups: u32) {
        for _ in 0..groups {
            let group = GroupNo(self.begun_groups);
            match self.journal.add_group(group, load::implied(&self.geometry, group).unwrap()) {
                Ok(()) => self.begun_groups += 1,
                Err(error) => {
                    assert_eq!(error, Error::JournalFull);
                    return;
                }
            }
        }
    }

    fn close(&mut self, which: usize, mut salt: u64) {
        let open = self.open.swap_remove(which);
        let mut prepared = Prepared::try_new().unwrap();
        self.prepare_blocks(&mut prepared, &open.worst, &mut salt);
        self.prepare_inodes(&mut prepared, &open.inodes);
        self.prepare_bitmaps(&mut prepared, &open.worst, &mut salt);
        self.prepare_slots(&mut prepared, &open.worst);
        if open.worst.note_bytes > 0 {
            let body = Buffer::zeroed(NOTE_BYTES_MAX as usize - 8).unwrap();
            let node = OrderedMap::<u64, Buffer>::reserve().unwrap();
            prepared.note = Some(PreparedNote { body, node });
        }
        match self.journal.close(&open.reservation, prepared) {
            Ok(_) => {}
            // More new table blocks than the budget has room for: the handle fails alone.
            Err(error) => assert_eq!((error, open.inodes.is_empty()), (Error::JournalFull, false)),
        }
    }

    /// Blocks full of changes, some of a few that many handles change, and frees of blocks that the log knows.
    fn prepare_blocks(&self, prepared: &mut Prepared, worst: &Worst, salt: &mut u64) {
        let group = GroupNo(2);
        let first = self.geometry.start_of(group).0 + u64::from(self.geometry.metadata_blocks());
        for _ in 0..worst.blocks {
            let block = BlockNo(first + next(salt) % 300);
            let known = self.journal.blocks.get(block);
            if known.is_some_and(|object| object.freed_by.is_some()) {
                continue;
            }
            let mut content = Buffer::zeroed(BLOCK_BYTES).unwrap();
            content.fill(next(salt) as u8 | 1);
            let stamp = Stamp {
                kind: BlockKind::SymlinkTarget,
                block,
                owner: 77,
                filesystem_id: self.geometry.filesystem_id,
            };
            stamp.begin(&mut content).unwrap();
            let mut changed = WordSet::EMPTY;
            let (stride, shift) = (1 + next(salt) as usize % 3, next(salt) as usize % 3);
            (shift..BLOCK_BYTES / 8).step_by(stride).for_each(|word| changed.insert(word));
            let change = PreparedBlock {
                content: Shared::try_new(content).unwrap(),
                kind: BlockKind::SymlinkTarget,
                owner: InodeNo(77),
                changed,
                fresh: known.is_none(),
                node: OrderedMap::<BlockNo, crate::journal::object::BlockObject>::reserve().unwrap(),
                member: member(),
            };
            prepared.blocks.insert(block, change).unwrap();
        }
        for _ in 0..worst.freed_blocks {
            let block = BlockNo(first + next(salt) % 300);
            let known = self.journal.blocks.get(block);
            if known.is_none_or(|object| object.freed_by.is_some()) || prepared.blocks.contains_key(block) {
                continue;
            }
            prepared.revokes.insert(block, OrderedMap::<BlockNo, ()>::reserve().unwrap()).unwrap();
            let freed = Freed { blocks: 1, metadata: true, release: Group::reserve_release().unwrap() };
            let node = OrderedMap::<BlockNo, Freed>::reserve().unwrap();
            prepared.freed.insert(block, PreparedFree { freed, node }).unwrap();
        }
    }

    fn prepare_inodes(&self, prepared: &mut Prepared, inodes: &[InodeNo]) {
        for number in inodes {
            let new =
                NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 };
            let inode = Inode::new(*number, InodeGeneration(9), &new).unwrap();
            let mut image = Buffer::zeroed(INODE_BYTES).unwrap();
            inode.encode_unsealed(&mut image).unwrap();
            let node = OrderedMap::<_, crate::journal::object::InodeObject>::reserve().unwrap();
            prepared.inodes.insert(*number, PreparedInode { image, node, member: member() }).unwrap();
            let place = self.geometry.locate_inode(*number).unwrap();
            let mark = (place.index / INODES_PER_BLOCK + 1) * INODES_PER_BLOCK;
            let logged = self.journal.table_mark(place.group).unwrap();
            prepared.marks.push(MarkNeeded { group: place.group, mark }).unwrap();
            for table_block in (logged / INODES_PER_BLOCK)..(mark / INODES_PER_BLOCK) {
                let block = BlockNo(self.geometry.table_of(place.group).0 + u64::from(table_block));
                let node = OrderedMap::<BlockNo, crate::journal::object::TableObject>::reserve().unwrap();
                prepared.tables.insert(block, PreparedTable { node, member: member() }).unwrap();
            }
        }
    }

    fn add_bitmap(&self, prepared: &mut Prepared, key: BitmapKey, changes: bool) {
        let known = prepared.bitmaps.get(key).is_some_and(|bitmap| bitmap.changes);
        let masks = if self.journal.has_masks(key) { None } else { Some(BitMasks::try_new().unwrap()) };
        let bitmap = PreparedBitmap { changes: changes || known, masks, member: member() };
        prepared.bitmaps.insert(key, bitmap).unwrap();
        prepared.groups.insert(key.group, member()).unwrap();
    }

    /// Flips bits far apart in as many bitmaps as the handle may change; in the last group that was begun, too, so that all
    /// before it come along.
    fn prepare_bitmaps(&self, prepared: &mut Prepared, worst: &Worst, salt: &mut u64) {
        let keys: Vec<_> = (0..self.begun_groups)
            .rev()
            .flat_map(|group| bitmap_keys(&self.geometry, GroupNo(group)))
            .filter(|key| key.kind == BitmapKind::Blocks)
            .collect();
        for _ in 0..worst.bitmaps {
            let nearest = if next(salt).is_multiple_of(2) { 3 } else { keys.len() };
            let key = keys[next(salt) as usize % nearest];
            if prepared.bitmaps.get(key).is_some_and(|bitmap| bitmap.changes) {
                continue;
            }
            let end = self.geometry.bits_of(key.group, key.kind, key.index);
            let first = self.geometry.metadata_blocks().saturating_sub(key.index * BITMAP_BITS);
            if first >= end {
                continue;
            }
            let bits = self.journal.bitmap(key).unwrap();
            let (mut bit, stride) = (first + next(salt) as u32 % 64, 2 + next(salt) as u32 % 30);
            while bit < end {
                let value = !crate::bitmap::test(bits, bit);
                prepared.bits.push(BitChange { key, start: bit, bits: 1, value }).unwrap();
                bit += stride;
            }
            self.add_bitmap(prepared, key, true);
        }
        let last = prepared.groups.last().map_or(0, |(group, _)| group.0 + 1);
        for group in (self.journal.totals().initialised_groups..last).map(GroupNo) {
            for key in bitmap_keys(&self.geometry, group) {
                if !prepared.bitmaps.contains_key(key) {
                    self.add_bitmap(prepared, key, false);
                }
            }
        }
    }

    fn prepare_slots(&mut self, prepared: &mut Prepared, worst: &Worst) {
        let first = self.geometry.start_of(GroupNo(0)).0 + u64::from(self.geometry.metadata_blocks());
        for _ in 0..worst.slots {
            // One block after the other, so that each handle has as many as it changes slots.
            let number = self.next_slot % (ORPHAN_BLOCKS * SLOTS_PER_BLOCK);
            self.next_slot += 1;
            let index = number % ORPHAN_BLOCKS;
            let slot = OrphanSlot(index * SLOTS_PER_BLOCK + number / ORPHAN_BLOCKS);
            let block = BlockNo(first + u64::from(index));
            let content = Slot { inode: InodeNo(30), kind: 1, cause: 1, reserved: [0; 6] };
            prepared.slots.push(SlotChange { slot, block, content }).unwrap();
            prepared.slot_members.insert(block, member()).unwrap();
        }
    }

    fn commit(&mut self, durable: bool) {
        self.end_commit();
        let running = self.journal.running.bytes;
        let used = self.journal.ring.used_bytes();
        let space = CommitSpace {
            buffer: Buffer::zeroed(self.journal.commit_bytes_bound() as usize).unwrap(),
            node: OrderedMap::reserve().unwrap(),
        };
        let request = CommitRequest { durable, force_unit_access: false, now_ns: 1 };
        match self.journal.begin_commit(&request, space).unwrap() {
            Ok(commit) => {
                let bytes = self.journal.ring.used_bytes() - used;
                let bound = self.journal.records_bytes(running, 1) + self.journal.wrap_bytes();
                assert!(bytes <= bound, "a commit of {bytes} bytes was to have {bound} at the most");
                self.written = Some(commit);
                self.commits += 1;
            }
            Err(NoCommit::Nothing) => {}
            Err(NoCommit::NotDurable(newest)) => self.journal.stable_through(newest),
            Err(NoCommit::MoreSpace(_)) => panic!("the bound does not bound"),
        }
    }

    fn end_commit(&mut self) {
        if let Some(commit) = self.written.take() {
            self.journal.end_commit(&commit, Ok(())).unwrap();
        }
        while self.journal.take_released().is_some() {}
    }

    fn begin_homes(&mut self, units: usize) {
        let mut write = HomeWrite::try_new().unwrap();
        let (mut after, mut begun) = (BlockNo(0), 0);
        while begun < units {
            let Some(unit) = self.journal.next_home(after) else { return };
            let base = self.journal.home_needs_base(unit).map(|_| [0; BLOCK_BYTES]);
            let base = base.as_ref().map(|base| &base[..]);
            self.journal.begin_home(&TestPlatform, unit, base, &mut write).unwrap();
            self.journal.end_home(unit, Ok(())).unwrap();
            self.homes.push(unit);
            after = self.journal.home_of(unit);
            begun += 1;
        }
    }

    fn settle_homes(&mut self) {
        for unit in core::mem::take(&mut self.homes) {
            self.journal.settle_home(unit, &mut |_, _| {});
        }
    }

    fn move_tail(&mut self) {
        let written = self.journal.begin_header(false).unwrap();
        self.journal.end_header(&written, Ok(())).unwrap();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open { kind, reserved } => {
                self.open(kind, if reserved { Class::Reserved } else { Class::Normal });
            }
            Step::Close { which, salt } if !self.open.is_empty() => self.close(which % self.open.len(), salt),
            Step::Drop { which } if !self.open.is_empty() => {
                let open = self.open.swap_remove(which % self.open.len());
                self.journal.release_reservation(&open.reservation);
            }
            Step::Close { .. } | Step::Drop { .. } => {}
            Step::BeginGroups { groups } => self.begin_groups(groups),
            Step::Commit { durable } => self.commit(durable),
            Step::BeginHomes { units } => self.begin_homes(units),
            Step::SettleHomes => self.settle_homes(),
            Step::MoveTail => self.move_tail(),
        }
        self.check();
    }

    /// Opens handles until no more are let in, and lets each end in a commit of its own: the worst that there is.
    fn exhaust(&mut self, seed: u64) {
        let mut salt = seed;
        for round in 0..400 {
            let class = if round < 300 { Class::Normal } else { Class::Reserved };
            self.open(next(&mut salt) as u8, class);
            self.check();
        }
        while !self.open.is_empty() {
            let which = next(&mut salt) as usize % self.open.len();
            self.close(which, next(&mut salt));
            self.check();
            self.commit(true);
            self.check();
        }
    }

    /// Everything goes home.
    fn empty(&mut self) {
        self.settle_homes();
        self.commit(true);
        self.commit(true);
        self.end_commit();
        self.begin_homes(usize::MAX);
        self.settle_homes();
        self.move_tail();
        assert_eq!(self.journal.ring.used_bytes(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn a_commit_is_always_possible(
        shift in 0..4_u32,
        physical_shift in 0..4_u32,
        inodes_shift in 1..6_u32,
        position in 0..8000_u64,
        seed in any::<u64>(),
        steps in steps(),
    ) {
        let geometry = geometry(shift, physical_shift, (BITMAP_BITS << shift) >> inodes_shift);
        let physical = u64::from(geometry.physical_block_bytes);
        let position = position * 512 / physical * physical % Journal::ring_bytes(&geometry);
        let mut driver = Driver::new(geometry, position);
        for step in steps {
            driver.step(step);
        }
        driver.exhaust(seed);
        driver.empty();
        // From empty to full again, from wherever the head stands now.
        driver.exhaust(seed.rotate_left(17));
        prop_assert!(driver.commits > 20, "{} commits", driver.commits);
        driver.empty();
    }
}

/// A handle that has to log more than it said fails alone, and the budget is as before.
#[test]
fn a_handle_beyond_its_reservation_fails_alone() {
    let mut driver = Driver::new(geometry(0, 0, 8192), 0);
    let reservation = driver.journal.reserve(100, Class::Normal).unwrap();
    let mut prepared = Prepared::try_new().unwrap();
    driver.prepare_blocks(&mut prepared, &Worst { blocks: 60, ..Worst::default() }, &mut 5);
    assert_eq!(driver.journal.close(&reservation, prepared).err(), Some(Error::JournalFull));
    assert!(driver.journal.running.is_empty());
    assert_eq!(driver.journal.promised.structure_bytes, driver.journal.structure_bytes_max());
    driver.check();
}

/// Groups that data I/O has begun, and that nobody has logged, never become more than a closing handle can log with its own.
#[test]
fn new_groups_are_begun_only_while_their_items_have_room() {
    let mut driver = Driver::new(geometry(3, 3, 8192 << 4), 0);
    driver.begin_groups(1000);
    let begun = driver.begun_groups;
    assert!(begun > 50 && begun < 1000, "{begun} groups");
    let worst = Worst { bitmaps: 1, ..Worst::default() };
    let reservation = driver.journal.reserve(worst.bytes(), Class::Normal).unwrap();
    let mut prepared = Prepared::try_new().unwrap();
    let key = BitmapKey { group: GroupNo(begun - 1), kind: BitmapKind::Blocks, index: 7 };
    prepared.bits.push(BitChange { key, start: 0, bits: 1, value: true }).unwrap();
    driver.add_bitmap(&mut prepared, key, true);
    driver.prepare_bitmaps(&mut prepared, &Worst::default(), &mut 1);
    driver.journal.close(&reservation, prepared).unwrap();
    driver.check();
    assert_eq!(driver.journal.totals().initialised_groups, begun);
    driver.commit(true);
    driver.check();
    driver.begin_groups(1);
    assert_eq!(driver.begun_groups, begun, "the budget is filled again when a handle is let in");
    let another = driver.journal.reserve(worst.bytes(), Class::Normal).unwrap();
    driver.begin_groups(1);
    assert_eq!(driver.begun_groups, begun + 1);
    driver.journal.release_reservation(&another);
}

#[test]
fn no_set_of_words_needs_more_than_a_whole_block() {
    use crate::format::item::{BlockItem, ByteRange};
    use crate::journal::encode::item_bytes;
    for stride in 1..20 {
        for first in 0..20 {
            let mut words = WordSet::EMPTY;
            (first..BLOCK_BYTES / 8).filter(|word| (word + 1) % stride != 0 || stride == 1).for_each(
                |word| {
                    words.insert(word);
                },
            );
            let (runs, bytes) = words.measure();
            assert!(item_bytes(BlockItem::SIZE + runs * ByteRange::SIZE + bytes) <= BLOCK_BYTES_MAX);
        }
    }
}
