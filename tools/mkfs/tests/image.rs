// SPDX-License-Identifier: GPL-2.0

//! What core's `make` writes, read back part by part on a device in memory: every block of metadata verifies, and
//! nothing lies where nothing should.

use cairnfs_core::bitmap;
use cairnfs_core::device::Device;
use cairnfs_core::error::Result;
use cairnfs_core::format::block_header::{self, BlockKind, Stamp};
use cairnfs_core::format::extent::Extent;
use cairnfs_core::format::group::{
    BitmapEntry, BitmapKind, Geometry, GroupHeader, BITMAP_BITS, HEADER_END, HEADER_OFFSET,
};
use cairnfs_core::format::inode::{
    self, FIRST_FREE, INODE_BYTES, MODE_DIRECTORY, MODE_REGULAR, ORPHAN_INDEX, ROOT,
};
use cairnfs_core::format::journal::{JournalHeader, HEADER_CLEAN};
use cairnfs_core::format::orphan::SLOTS_OFFSET;
use cairnfs_core::format::superblock::{PRIMARY, SECONDARY};
use cairnfs_core::format::tree::TreeHeader;
use cairnfs_core::format::Superblock;
use cairnfs_core::inode::Inode;
use cairnfs_core::journal::replay;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::units::{BlockNo, BlockRun, FileBlock, GroupNo, InodeNo, BLOCK_BYTES};
use cairnfs_device::{find_copy, load_superblock, MemoryDevice, StdPlatform};
use std::cell::Cell;
use std::collections::BTreeSet;

const MIB: u64 = 1 << 20;
const PLATFORM: StdPlatform = StdPlatform::new();

fn request(bytes: u64) -> Request {
    Request {
        available_blocks: bytes / BLOCK_BYTES as u64,
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: None,
    }
}

fn identity() -> Identity {
    let mut label = [0; 64];
    label[..4].copy_from_slice(b"test");
    Identity { uuid: [0x11; 16], label, hash_key: [0x22; 16], created_ns: 1_700_000_000_000_000_000 }
}

struct Made {
    device: MemoryDevice,
    plan: Plan,
    geometry: Geometry,
    superblock: Superblock,
}

fn make_on(device: MemoryDevice, request: &Request, identity: &Identity) -> Made {
    let plan = Plan::new(request).unwrap();
    let progress = Cell::new(0);
    make::write(&device, &PLATFORM, &plan, identity, &mut |blocks| progress.set(progress.get() + blocks))
        .unwrap();
    assert_eq!(progress.get(), make::blocks_to_write(&plan), "what was announced was done");
    let superblock = load_superblock(&device, &PLATFORM).unwrap().superblock;
    let geometry = Geometry::new(&superblock, device.blocks()).unwrap();
    Made { device, plan, geometry, superblock }
}

fn make_new(request: &Request) -> Made {
    make_on(MemoryDevice::new(request.available_blocks), request, &identity())
}

impl Made {
    fn block(&self, block: BlockNo) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK_BYTES];
        self.device.read(block, &mut bytes).unwrap();
        bytes
    }

    fn verified(&self, kind: BlockKind, block: BlockNo, owner: u64) -> Vec<u8> {
        let bytes = self.block(block);
        let stamp = Stamp { kind, block, owner, filesystem_id: self.geometry.filesystem_id };
        block_header::verify(&PLATFORM, &stamp, &bytes).unwrap();
        bytes
    }

    /// The bits of a group's bitmap, those that stand for something.
    fn bits(&self, group: GroupNo, kind: BitmapKind) -> Vec<bool> {
        let bitmaps = match kind {
            BitmapKind::Blocks => self.geometry.block_bitmaps(),
            BitmapKind::Inodes => self.geometry.inode_bitmaps(),
        };
        let header =
            self.verified(BlockKind::GroupHeader, self.geometry.header_of(group), u64::from(group.0));
        let mut all = Vec::new();
        for index in 0..bitmaps {
            let bytes = self.block(self.geometry.bitmap_of(group, kind, index));
            bitmap::verify(&bytes, &self.geometry, group, kind, index).unwrap();
            let bits: Vec<bool> =
                (0..BITMAP_BITS as usize).map(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1).collect();
            let (real, beyond) = bits.split_at(self.geometry.bits_of(group, kind, index) as usize);
            assert!(beyond.iter().all(|bit| *bit), "bits that stand for nothing are set");
            let entry = BitmapEntry::decode(&header, kind.entry_offset(index)).unwrap();
            assert_eq!(entry.free as usize, real.iter().filter(|bit| !**bit).count());
            assert_eq!(entry.crc, cairnfs_core::platform::crc32c_bitwise(0, &bytes));
            all.extend_from_slice(real);
        }
        all
    }

    fn inode(&self, number: InodeNo) -> Result<(inode::InodeCore, Vec<u8>)> {
        let place = self.geometry.locate_inode(number)?;
        let bytes = self.block(place.block);
        let slot = &bytes[place.offset..place.offset + INODE_BYTES];
        let core = inode::verify(&PLATFORM, slot, number, place.block)?;
        Ok((core, slot.to_vec()))
    }
}

const SHAPES: [u64; 7] = [5 * MIB, 32 * MIB, 200 * MIB, 1000 * MIB, 10240 * MIB, 70 * 1024 * MIB, 1 << 40];

#[test]
fn totals_bitmaps_and_headers_agree() {
    for bytes in SHAPES {
        let made = make_new(&request(bytes));
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for group in (0..made.geometry.group_count).map(GroupNo) {
            if group.0 >= made.superblock.initialised_groups {
                free_blocks += u64::from(made.geometry.blocks_of(group) - made.geometry.metadata_blocks());
                free_inodes += u64::from(made.geometry.inodes_per_group);
                continue;
            }
            let header =
                made.verified(BlockKind::GroupHeader, made.geometry.header_of(group), u64::from(group.0));
            assert!(header[HEADER_END..].iter().all(|byte| *byte == 0));
            let header = GroupHeader::decode(&header, HEADER_OFFSET).unwrap();
            let is_first = group.0 == 0;
            assert_eq!(header.table_mark, if is_first { FIRST_FREE.0 as u32 } else { 0 });
            assert_eq!((header.group, header.blocks), (group, made.geometry.blocks_of(group)));
            let blocks = made.bits(group, BitmapKind::Blocks);
            let used = made.geometry.metadata_blocks() + if is_first { made.plan.orphan_blocks } else { 0 };
            assert!(
                blocks.iter().enumerate().all(|(bit, is_used)| *is_used == (bit < used as usize)),
                "{bytes}"
            );
            let inodes = made.bits(group, BitmapKind::Inodes);
            let used = if is_first { FIRST_FREE.0 as usize } else { 0 };
            assert!(inodes.iter().enumerate().all(|(bit, is_used)| *is_used == (bit < used)), "{bytes}");
            free_blocks += blocks.iter().filter(|bit| !**bit).count() as u64;
            free_inodes += inodes.iter().filter(|bit| !**bit).count() as u64;
        }
        assert_eq!(
            (made.superblock.free_blocks, made.superblock.free_inodes),
            (free_blocks, free_inodes),
            "{bytes}"
        );
    }
}

#[test]
fn the_reserved_inodes_are_what_they_should_be() {
    for bytes in SHAPES {
        let made = make_new(&request(bytes));
        let (root, slot) = made.inode(ROOT).unwrap();
        assert_eq!(
            (root.mode, root.links, root.parent, root.size_bytes),
            (MODE_DIRECTORY | 0o755, 2, ROOT, 0)
        );
        assert_eq!((root.map_kind, root.map_bytes), (inode::MapKind::InlineDirectory as u8, 0));
        assert!(slot[inode::InodeCore::SIZE..].iter().all(|byte| *byte == 0));
        let (index, slot) = made.inode(ORPHAN_INDEX).unwrap();
        let blocks = u64::from(made.plan.orphan_blocks);
        assert_eq!((index.mode, index.links, index.blocks), (MODE_REGULAR | 0o600, 1, blocks));
        assert_eq!(index.size_bytes, blocks * BLOCK_BYTES as u64);
        let inode = Inode::decode(&slot).unwrap();
        assert_eq!(
            TreeHeader::decode(inode.map(), 0).unwrap(),
            TreeHeader { level: 0, count: 1, reserved: 0 }
        );
        let extent = Extent::decode(inode.map(), TreeHeader::SIZE).unwrap();
        extent.check(&made.geometry, BlockNo(0)).unwrap();
        assert_eq!((extent.file_block, extent.run()), (FileBlock(0), made.plan.orphan_run()));
        for block in (extent.block.0..extent.run().end().0).map(BlockNo) {
            let slots = made.verified(BlockKind::OrphanIndex, block, ORPHAN_INDEX.0);
            assert!(slots[SLOTS_OFFSET..].iter().all(|byte| *byte == 0));
        }
        for number in (3..FIRST_FREE.0).map(InodeNo) {
            let place = made.geometry.locate_inode(number).unwrap();
            let slot = &made.block(place.block)[place.offset..place.offset + INODE_BYTES];
            assert!(slot.iter().all(|byte| *byte == 0), "{number} was never used");
        }
    }
}

#[test]
fn the_journal_is_clean_and_empty() {
    for bytes in SHAPES {
        let made = make_new(&request(bytes));
        let start = made.geometry.journal_start;
        let headers = [start, start.next()].map(|at| {
            JournalHeader::read(&PLATFORM, &made.block(at), made.geometry.filesystem_id, at).unwrap()
        });
        assert_eq!(headers[0], headers[1]);
        // What a mount begins from.
        assert_eq!(
            replay::read_header(&made.device, &PLATFORM, &made.superblock, &made.geometry).unwrap(),
            headers[0]
        );
        let header = headers[0];
        assert_eq!((header.flags, header.uuid), (HEADER_CLEAN, made.superblock.uuid));
        assert_eq!(header.ring_bytes, (made.geometry.journal_blocks - 2) * BLOCK_BYTES as u64);
        let totals = header.totals;
        assert_eq!(
            (totals.free_blocks, totals.free_inodes, totals.initialised_groups, totals.orphans),
            (made.superblock.free_blocks, made.superblock.free_inodes, made.superblock.initialised_groups, 0)
        );
    }
}

/// Whatever lay in the ring, on a disk full of it, is gone; and a write lands nowhere but where the layout has a place for it.
#[test]
fn old_contents_do_not_survive_where_they_could_be_read() {
    let request = request(300 * MIB);
    let device = MemoryDevice::new(request.available_blocks);
    let junk = vec![0xA5; BLOCK_BYTES];
    for block in 0..request.available_blocks {
        device.write(BlockNo(block), &junk).unwrap();
    }
    let on_junk = make_on(device, &request, &identity());
    let on_zeros = make_new(&request);
    let ring_start = on_junk.geometry.journal_start.0 + 2;
    let ring_end = on_junk.geometry.journal_start.0 + on_junk.geometry.journal_blocks;
    let contents = on_junk.device.contents();
    assert!((ring_start..ring_end).all(|block| !contents.contains_key(&block)), "the ring is zero");
    let written: BTreeSet<u64> = on_zeros.device.contents().into_keys().collect();
    for (block, content) in contents {
        if content[..] != junk[..] {
            assert!(written.contains(&block), "block {block} was changed and belongs to nothing");
            assert_eq!(content, on_zeros.device.contents()[&block]);
        }
    }
}

#[test]
fn copies_of_the_superblock_stand_in_their_groups_and_can_be_found() {
    let made = make_new(&request(1 << 40));
    let expected = [0, 1, 3, 9, 27, 81, 243, 729].map(GroupNo);
    for group in expected {
        let at = made.geometry.start_of(group);
        let copy = Superblock::read_copy(&PLATFORM, &made.block(at), at).unwrap();
        assert_eq!(copy, made.superblock);
    }
    let contents = made.device.contents();
    let is_copy = |block: &u64| Superblock::read_copy(&PLATFORM, &contents[block], BlockNo(*block)).is_ok();
    assert_eq!(contents.keys().filter(|block| is_copy(block)).count(), expected.len() + 2);
    for bytes in SHAPES {
        let made = make_new(&request(bytes));
        made.device.zero(BlockRun { start: PRIMARY, blocks: 2 }).unwrap();
        let rejected = load_superblock(&made.device, &PLATFORM).unwrap_err();
        assert_eq!(rejected.len(), 2);
        let (block, copy) = find_copy(&made.device, &PLATFORM).unwrap();
        assert_eq!((block, copy), (made.geometry.first_group_block, made.superblock));
    }
}

#[test]
fn wiping_leaves_no_copy_of_a_superblock() {
    let made = make_new(&request(40 * 128 * MIB));
    make::wipe(&made.device, &PLATFORM).unwrap();
    for (block, content) in made.device.contents() {
        assert!(Superblock::read_copy(&PLATFORM, &content, BlockNo(block)).is_err(), "block {block}");
    }
    make::wipe(&MemoryDevice::new(2), &PLATFORM).unwrap();
}

#[test]
fn the_same_identity_gives_the_same_bytes_and_another_one_another_filesystem() {
    let request = request(64 * MIB);
    let first = make_new(&request);
    assert_eq!(first.device.contents(), make_new(&request).device.contents());
    let others = [
        Identity { uuid: [0x12; 16], ..identity() },
        Identity { hash_key: [0x23; 16], ..identity() },
        Identity { created_ns: identity().created_ns + 1, ..identity() },
    ];
    for other in others {
        let made = make_on(MemoryDevice::new(request.available_blocks), &request, &other);
        assert_ne!(made.geometry.filesystem_id, first.geometry.filesystem_id);
    }
}

/// A device that fails from a given write on: what a crash leaves that loses nothing that was written before.
struct Failing<'a> {
    device: &'a MemoryDevice,
    writes_left: Cell<u64>,
}

impl Failing<'_> {
    fn count(&self, block: BlockNo) -> Result {
        let left = self.writes_left.get().checked_sub(1).ok_or(cairnfs_core::error::Error::Io(block))?;
        self.writes_left.set(left);
        Ok(())
    }
}

impl Device for Failing<'_> {
    fn blocks(&self) -> u64 {
        self.device.blocks()
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        self.device.read(start, out)
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.count(start)?;
        self.device.write(start, bytes)
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.write(start, bytes)
    }

    fn flush(&self) -> Result {
        Ok(())
    }

    fn zero(&self, run: BlockRun) -> Result {
        self.count(run.start)?;
        self.device.zero(run)
    }
}

#[test]
fn an_interrupted_run_leaves_the_old_filesystem_or_none_or_all_of_the_new_one() {
    let request = request(32 * MIB);
    let old = make_new(&request);
    let plan = Plan::new(&request).unwrap();
    let new_identity = Identity { uuid: [0x77; 16], ..identity() };
    let complete = make_on(old.device.clone(), &request, &new_identity);
    let (mut none, mut new) = (0, 0);
    for writes in 0.. {
        let device = old.device.clone();
        let failing = Failing { device: &device, writes_left: Cell::new(writes) };
        let finished = make::write(&failing, &PLATFORM, &plan, &new_identity, &mut |_| ()).is_ok();
        match load_superblock(&device, &PLATFORM) {
            Ok(loaded) if loaded.superblock.uuid == [0x11; 16] => {
                assert_eq!(device.contents(), old.device.contents());
            }
            Ok(_) => {
                new += 1;
                let (mut got, mut wanted) = (device.contents(), complete.device.contents());
                got.remove(&SECONDARY.0);
                wanted.remove(&SECONDARY.0);
                assert_eq!(got, wanted, "after {writes} writes");
            }
            Err(_) => none += 1,
        }
        if finished {
            break;
        }
    }
    assert!(none > 10 && new == 2, "{none} states without a filesystem, {new} with the new one");
}
