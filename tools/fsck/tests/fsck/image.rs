// SPDX-License-Identifier: GPL-2.0

//! A small filesystem with something of everything, and ways to break it: each edit makes checksums right again.

use cairnfs_core::attributes::SetMode;
use cairnfs_core::blocks::ReadBlocks;
use cairnfs_core::check::{self, Finding, Options, Subject, Summary};
use cairnfs_core::device::Device;
use cairnfs_core::extent_map::{self, Limit};
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::block_header::{self, MAGIC};
use cairnfs_core::format::directory::EntryHeader;
use cairnfs_core::format::group::{BitmapEntry, BitmapKind, Geometry, BITMAP_BITS};
use cairnfs_core::format::inode::{self, INODE_BYTES, ORPHAN_INDEX, ROOT};
use cairnfs_core::format::layout::{get, put};
use cairnfs_core::format::{BlockKind, Superblock};
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::replay;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::operation::{data, reservation};
use cairnfs_core::units::{BlockNo, FileBlock, GroupNo, InodeNo, Sequence, BLOCK_BYTES};
use cairnfs_core::{directory, symlink};
use cairnfs_device::{load_superblock, MemoryDevice, StdPlatform};
use cairnfs_volume::{RecordDevice, Volume};

pub(crate) const PLATFORM: StdPlatform = StdPlatform::new();
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Six groups, of which the first four are initialised.
pub(crate) const DEVICE_BLOCKS: u64 = 700 << 8;
/// Names in the large directory: enough for a node between root and leaves.
const NAMES: u32 = 3000;
/// Extents of the fragmented file: more than a leaf holds.
const EXTENTS: u64 = 300;

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) plain: InodeNo,
    pub(crate) fragmented: InodeNo,
    pub(crate) hard_linked: InodeNo,
    pub(crate) long_link: InodeNo,
    pub(crate) attributes: InodeNo,
    pub(crate) large: InodeNo,
    /// Holds `b`, which holds a file `c`.
    pub(crate) a: InodeNo,
    pub(crate) b: InodeNo,
    pub(crate) c: InodeNo,
    pub(crate) large_leaves: Vec<BlockNo>,
    pub(crate) large_nodes: Vec<BlockNo>,
    pub(crate) extent_leaves: Vec<BlockNo>,
    pub(crate) plain_block: BlockNo,
    pub(crate) attribute_block: BlockNo,
    pub(crate) target_block: BlockNo,
    pub(crate) orphan_block: BlockNo,
}

#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) device: MemoryDevice,
    pub(crate) geometry: Geometry,
    pub(crate) facts: Facts,
}

pub(crate) const fn new_inode(mode: u16) -> NewInode {
    NewInode { mode, uid: 1000, gid: 100, device: 0, flags: 0, project: 0, now_ns: 1_700_000_000_000_000_000 }
}

/// mkfs.
pub(crate) fn make(device: &dyn Device) {
    let request = Request {
        available_blocks: device.blocks(),
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: None,
    };
    let identity =
        Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1_700_000_000_000_000_000 };
    make::write(device, &PLATFORM, &Plan::new(&request).unwrap(), &identity, &mut |_| ()).unwrap();
}

/// Fills a filesystem that was just made.
pub(crate) fn fill(device: &dyn RecordDevice) -> Facts {
    let volume = Volume::mount(device, &PLATFORM).unwrap();
    let create = |parent, name: &[u8], mode| volume.create(parent, name, &new_inode(mode), None).unwrap().0;
    let plain = create(ROOT, b"plain", 0o100_644);
    volume.write_at(plain, 0, &vec![1; 8 * BLOCK_BYTES - 100]).unwrap();
    let fragmented = create(ROOT, b"fragmented", 0o100_644);
    for index in 0..EXTENTS {
        volume.write_at(fragmented, 2 * index * BLOCK, &[2; BLOCK_BYTES]).unwrap();
    }
    let hard_linked = create(ROOT, b"hard linked", 0o100_600);
    let large = create(ROOT, b"large", 0o040_755);
    for name in 0..NAMES {
        volume.link(hard_linked, large, format!("name number {name}").as_bytes()).unwrap();
    }
    let a = create(ROOT, b"a", 0o040_755);
    let b = create(a, b"b", 0o040_700);
    let c = create(b, b"c", 0o100_644);
    create(ROOT, b"pipe", 0o010_644);
    volume.create(ROOT, b"short link", &new_inode(0o120_777), Some(b"plain")).unwrap();
    let (long_link, _) = volume.create(a, b"long link", &new_inode(0o120_777), Some(&[b'x'; 3000])).unwrap();
    let attributes = create(a, b"attributes", 0o100_644);
    for (name, length) in [(&b"short"[..], 10), (b"long", 2000)] {
        let value = vec![5; length];
        volume.set_extended(attributes, (Namespace::User, name), Some(&value), SetMode::Either).unwrap();
    }
    let facts = facts(&volume, (plain, fragmented, hard_linked), (large, a, b, c), (long_link, attributes));
    volume.unmount().unwrap();
    facts
}

fn facts(
    volume: &Volume<'_>,
    (plain, fragmented, hard_linked): (InodeNo, InodeNo, InodeNo),
    (large, a, b, c): (InodeNo, InodeNo, InodeNo, InodeNo),
    (long_link, attributes): (InodeNo, InodeNo),
) -> Facts {
    let (mut large_leaves, mut large_nodes, mut extent_leaves) = (Vec::new(), Vec::new(), Vec::new());
    directory::visit_blocks(volume, &volume.read_inode(large).unwrap(), &mut |kind, block, _| {
        if kind == BlockKind::DirectoryLeaf { &mut large_leaves } else { &mut large_nodes }.push(block);
        Ok(())
    })
    .unwrap();
    extent_map::visit_blocks(volume, &volume.read_inode(fragmented).unwrap(), &mut |block, level| {
        if level == 0 {
            extent_leaves.push(block);
        }
        Ok(())
    })
    .unwrap();
    assert!(large_leaves.len() > 20 && !large_nodes.is_empty() && extent_leaves.len() > 1);
    let first_block = |number| {
        let inode = volume.read_inode(number).unwrap();
        extent_map::next_from(volume as &dyn ReadBlocks, &inode, FileBlock(0)).unwrap().unwrap().block
    };
    Facts {
        plain,
        fragmented,
        hard_linked,
        long_link,
        attributes,
        large,
        a,
        b,
        c,
        large_leaves,
        large_nodes,
        extent_leaves,
        plain_block: first_block(plain),
        attribute_block: volume.read_inode(attributes).unwrap().core.attribute_block,
        target_block: symlink::target_block(&volume.read_inode(long_link).unwrap()).unwrap().unwrap(),
        orphan_block: first_block(ORPHAN_INDEX),
    }
}

/// Makes orphans of both kinds, and leaves without unmounting: `c` without a name, `fragmented` while it is being truncated.
pub(crate) fn leave_orphans(device: &dyn RecordDevice, facts: &Facts) {
    let volume = Volume::mount(device, &PLATFORM).unwrap();
    volume.unlink(facts.b, b"c").unwrap();
    let limit = Limit { extents: 8, blocks: 24 };
    let worst = reservation::remove(volume.layout(), &volume.read_inode(facts.fragmented).unwrap(), limit);
    volume
        .run(worst, Class::Normal, &mut |handle| data::set_size(handle, facts.fragmented, 0, None, limit))
        .unwrap();
    volume.commit().unwrap();
}

impl Image {
    /// After a clean unmount.
    pub(crate) fn new() -> Self {
        let device = MemoryDevice::new(DEVICE_BLOCKS);
        make(&device);
        let facts = fill(&device);
        let superblock = load_superblock(&device, &PLATFORM).unwrap().superblock;
        let geometry = Geometry::new(&superblock, DEVICE_BLOCKS).unwrap();
        Self { device, geometry, facts }
    }

    /// The same after a crash with orphans, and recovery.
    pub(crate) fn with_orphans(&self) -> Self {
        let image = self.clone();
        leave_orphans(&image.device, &image.facts);
        let recovered =
            replay::recover(&image.device, &PLATFORM, &image.superblock(), &image.geometry).unwrap();
        assert!(recovered.report.transactions > 0);
        image
    }

    pub(crate) fn superblock(&self) -> Superblock {
        load_superblock(&self.device, &PLATFORM).unwrap().superblock
    }

    /// The findings of a check.
    pub(crate) fn check(&self, options: Options) -> (Vec<Finding>, Summary) {
        let superblock = self.superblock();
        let subject = Subject {
            device: &self.device,
            platform: &PLATFORM,
            superblock: &superblock,
            geometry: &self.geometry,
        };
        let mut findings = Vec::new();
        let mut sink = |finding: &Finding| {
            findings.push(*finding);
            Ok(())
        };
        let summary = check::run(&subject, options, &mut sink, &mut |_, _, _| ()).unwrap();
        (findings, summary)
    }

    pub(crate) fn block(&self, block: BlockNo) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK_BYTES];
        self.device.read(block, &mut bytes).unwrap();
        bytes
    }

    /// Changes a block, checksums and all.
    pub(crate) fn edit_raw(&self, block: BlockNo, edit: impl FnOnce(&mut [u8])) {
        let mut bytes = self.block(block);
        edit(&mut bytes);
        self.device.write(block, &bytes).unwrap();
    }

    /// Changes a block behind its header, and seals it.
    pub(crate) fn edit(&self, block: BlockNo, edit: impl FnOnce(&mut [u8])) {
        self.edit_raw(block, |bytes| {
            assert_eq!(get::<u32>(bytes, 0), Ok(MAGIC));
            edit(bytes);
            let sequence: Sequence = get(bytes, block_header::SEQUENCE_OFFSET).unwrap();
            block_header::seal(&PLATFORM, bytes, sequence).unwrap();
        });
    }

    /// Changes the 512 bytes of an inode, and seals them.
    pub(crate) fn edit_inode(&self, number: InodeNo, edit: impl FnOnce(&mut [u8])) {
        let place = self.geometry.locate_inode(number).unwrap();
        self.edit_raw(place.block, |bytes| {
            let slot = &mut bytes[place.offset..place.offset + INODE_BYTES];
            edit(slot);
            inode::seal(&PLATFORM, slot).unwrap();
        });
    }

    /// Adds `change` to a field of an inode.
    pub(crate) fn add_to_inode(&self, number: InodeNo, field: InodeField, change: i64) {
        self.edit_inode(number, |slot| match field {
            InodeField::Links => {
                put(slot, 32, get::<u32>(slot, 32).unwrap().wrapping_add(change as u32)).unwrap();
            }
            InodeField::Wide(offset) => {
                put(slot, offset, get::<u64>(slot, offset).unwrap().wrapping_add(change as u64)).unwrap();
            }
        });
    }

    /// Sets or clears a bit of a group's bitmap; its header's checksum follows, and its free count.
    pub(crate) fn set_bit(&self, group: GroupNo, kind: BitmapKind, bit: u32, value: bool) {
        let (index, bit) = (bit / BITMAP_BITS, bit % BITMAP_BITS);
        self.edit_raw(self.geometry.bitmap_of(group, kind, index), |bits| {
            let (byte, mask) = (bit as usize / 8, 1 << (bit % 8));
            assert_eq!(bits[byte] & mask != 0, !value, "the bit changes");
            bits[byte] ^= mask;
        });
        self.vouch(group, kind, index);
        self.edit_entry(group, kind, index, |entry| {
            entry.free = if value { entry.free - 1 } else { entry.free + 1 }
        });
    }

    /// Makes the group's header vouch for a bitmap as it is.
    fn vouch(&self, group: GroupNo, kind: BitmapKind, index: u32) {
        let crc = crc(&self.block(self.geometry.bitmap_of(group, kind, index)));
        self.edit_entry(group, kind, index, |entry| entry.crc = crc);
    }

    pub(crate) fn edit_entry(
        &self,
        group: GroupNo,
        kind: BitmapKind,
        index: u32,
        edit: impl FnOnce(&mut BitmapEntry),
    ) {
        self.edit(self.geometry.header_of(group), |bytes| {
            let offset = kind.entry_offset(index);
            let mut entry = BitmapEntry::decode(bytes, offset).unwrap();
            edit(&mut entry);
            entry.encode(bytes, offset).unwrap();
        });
    }

    /// Changes the header of a directory's entry: in the inode, or in the block where it stands.
    pub(crate) fn edit_entry_of(&self, directory: InodeNo, name: &[u8], edit: impl FnOnce(&mut EntryHeader)) {
        let change = |bytes: &mut [u8], from: usize| {
            let offset = find_entry(bytes, from, name).expect("the entry is there");
            let mut header = EntryHeader::decode(bytes, offset).unwrap();
            edit(&mut header);
            header.encode(bytes, offset).unwrap();
        };
        let leaves = self.leaves_of(directory);
        let in_leaf = leaves.into_iter().find(|leaf| find_entry(&self.block(*leaf), 48, name).is_some());
        match in_leaf {
            Some(leaf) => self.edit(leaf, |bytes| change(bytes, 48)),
            None => self.edit_inode(directory, |slot| change(slot, 128)),
        }
    }

    fn leaves_of(&self, directory: InodeNo) -> Vec<BlockNo> {
        let is_leaf = |bytes: &[u8]| {
            get::<u32>(bytes, 0) == Ok(MAGIC)
                && get::<u16>(bytes, 8) == Ok(BlockKind::DirectoryLeaf as u16)
                && get::<u64>(bytes, 24) == Ok(directory.0)
        };
        self.device
            .contents()
            .iter()
            .filter(|(_, bytes)| is_leaf(bytes))
            .map(|(block, _)| BlockNo(*block))
            .collect()
    }

    /// Makes every checksum right that covers a block, whatever it holds.
    pub(crate) fn reseal(&self, block: BlockNo) {
        let Some((group, index)) = self.geometry.locate_block(block) else {
            self.reseal_described(block);
            return;
        };
        let table = self.geometry.metadata_blocks() - self.geometry.table_blocks();
        let block_bitmaps = self.geometry.block_bitmaps();
        match index {
            2.. if index < 2 + block_bitmaps => self.vouch_if_described(group, BitmapKind::Blocks, index - 2),
            2.. if index < table => {
                self.vouch_if_described(group, BitmapKind::Inodes, index - 2 - block_bitmaps);
            }
            _ if index >= table && index < self.geometry.metadata_blocks() => self.edit_raw(block, |bytes| {
                for slot in bytes.chunks_exact_mut(INODE_BYTES) {
                    inode::seal(&PLATFORM, slot).unwrap();
                }
            }),
            _ => self.reseal_described(block),
        }
    }

    fn vouch_if_described(&self, group: GroupNo, kind: BitmapKind, index: u32) {
        if get::<u32>(&self.block(self.geometry.header_of(group)), 0) == Ok(MAGIC) {
            self.vouch(group, kind, index);
        }
    }

    fn reseal_described(&self, block: BlockNo) {
        if get::<u32>(&self.block(block), 0) == Ok(MAGIC) {
            self.edit(block, |_| ());
        }
    }
}

/// A field of an inode.
#[derive(Clone, Copy)]
pub(crate) enum InodeField {
    Links,
    /// One of 8 bytes, at this offset.
    Wide(usize),
}

fn find_entry(bytes: &[u8], from: usize, name: &[u8]) -> Option<usize> {
    (from..bytes.len().checked_sub(EntryHeader::SIZE + name.len())? + 1).find(|offset| {
        let behind = offset + EntryHeader::SIZE;
        usize::from(bytes[behind - 1]) == name.len()
            && bytes[behind..behind + name.len()] == *name
            && EntryHeader::decode(bytes, *offset)
                .is_ok_and(|header| header.inode > ROOT && header.file_type != 0)
    })
}

fn crc(bytes: &[u8]) -> u32 {
    use cairnfs_core::platform::Platform as _;
    PLATFORM.crc32c(0, bytes)
}
