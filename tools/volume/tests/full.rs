// SPDX-License-Identifier: GPL-2.0

//! A full filesystem: the reserve, what still works with it, and an orphan index that grows.

use cairnfs_core::check::{self, Options, Subject};
use cairnfs_core::device::Device as _;
use cairnfs_core::error::Error;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::orphan::SLOTS_PER_BLOCK;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::NewInode;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::units::{FileBlock, InodeNo};
use cairnfs_device::{MemoryDevice, StdPlatform};
use cairnfs_volume::{read_superblock, Volume};

const ROOT: InodeNo = InodeNo(2);
const BLOCK: u64 = 4096;

/// A small device, whose orphan index has one block and whose reserve eight.
fn made(platform: &StdPlatform) -> MemoryDevice {
    let device = MemoryDevice::new(1500);
    let request = Request {
        available_blocks: 1500,
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: Some(4096),
    };
    let plan = Plan::new(&request).expect("a plan");
    assert_eq!((plan.orphan_blocks, plan.reserve_blocks), (1, 8));
    let identity = Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1 };
    make::write(&device, platform, &plan, &identity, &mut |_| {}).expect("written");
    device
}

fn file() -> NewInode {
    NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 }
}

/// Writes a file until there is no space for another block, and returns its number.
fn fill(volume: &Volume<'_>) -> InodeNo {
    let (number, _) = volume.create(ROOT, b"filler", &file(), None).unwrap();
    let mut block = 0;
    for blocks in [64, 8, 1] {
        let bytes = vec![1; blocks as usize * BLOCK as usize];
        loop {
            match volume.write_at(number, block * BLOCK, &bytes) {
                Ok(()) => block += blocks,
                Err(error) => {
                    assert_eq!(error, Error::NoSpace);
                    break;
                }
            }
        }
        block = volume.read_inode(number).unwrap().core.size_bytes.div_ceil(BLOCK);
    }
    assert_eq!(volume.free_blocks(), (8, 0), "the reserve is left");
    number
}

/// As many names as there are slots in the index and in half of another block of it.
fn names() -> Vec<Vec<u8>> {
    (0..SLOTS_PER_BLOCK * 3 / 2).map(|number| format!("file {number}").into_bytes()).collect()
}

/// An unmounted filesystem has nothing wrong.
fn check(device: &MemoryDevice, platform: &StdPlatform) {
    let superblock = read_superblock(device, platform).unwrap();
    let geometry = Geometry::new(&superblock, device.blocks()).unwrap();
    let subject = Subject { device, platform, superblock: &superblock, geometry: &geometry };
    let mut sink = |finding: &check::Finding| panic!("{finding:?}");
    check::run(&subject, Options { after_crash: false }, &mut sink, &mut |_, _, _| ()).unwrap();
}

fn orphans(volume: &Volume<'_>) -> usize {
    let mut count = 0;
    volume
        .with_orphans(&mut |orphans| {
            count = orphans.len();
            Ok(())
        })
        .unwrap();
    count
}

#[test]
fn a_full_filesystem_can_be_emptied() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    for name in names() {
        volume.create(ROOT, &name, &file(), None).unwrap();
    }
    // Its extents fill the inode: the next one needs a leaf.
    let (scattered, _) = volume.create(ROOT, b"scattered", &file(), None).unwrap();
    for block in 0..15 {
        volume.write_at(scattered, block * 2 * BLOCK, b"x").unwrap();
    }
    assert_eq!(volume.read_inode(scattered).unwrap().core.blocks, 15, "no leaf yet");
    let write = volume.start_write(scattered, FileBlock(30), b"y").unwrap();
    let (newest, _) = volume.create(ROOT, b"newest", &file(), None).unwrap();
    let filler = fill(&volume);
    assert_eq!(volume.write_at(newest, 0, b"z"), Err(Error::NoSpace));

    volume.finish_write(&write).unwrap();
    assert_eq!(volume.free_blocks(), (7, 0), "a leaf of the tree has come out of the reserve");
    for name in names() {
        volume.unlink(ROOT, &name).unwrap();
    }
    assert_eq!(orphans(&volume), names().len());
    volume.truncate(filler, 100 * BLOCK).unwrap();
    volume.truncate(scattered, 0).unwrap();
    volume.commit().unwrap();
    volume.write_at(newest, 0, &[5; 50 * BLOCK as usize]).unwrap();
    volume.unlink(ROOT, b"filler").unwrap();
    volume.remove_orphans().unwrap();
    volume.commit().unwrap();
    assert_eq!(orphans(&volume), 0);
    assert_eq!(volume.free_blocks().0, volume.journal().totals().free_blocks);
    volume.write_at(newest, 0, &[6; 150 * BLOCK as usize]).unwrap();
    volume.unmount().unwrap();
    check(&device, &platform);
}

/// The index grows by a block when its last slot is taken; a crash leaves all orphans, and recovery removes them.
#[test]
fn the_orphan_index_grows() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    for at_home in [false, true] {
        let volume = Volume::mount(&device, &platform).unwrap();
        for name in names() {
            volume.create(ROOT, &name, &file(), None).unwrap();
        }
        volume.checkpoint().unwrap();
        for name in names() {
            volume.unlink(ROOT, &name).unwrap();
        }
        assert_eq!(volume.read_inode(InodeNo(1)).unwrap().core.size_bytes, 2 * BLOCK);
        volume.commit().unwrap();
        if at_home {
            volume.checkpoint().unwrap();
        }
        drop(volume);
        let volume = Volume::mount(&device, &platform).unwrap();
        assert_eq!(orphans(&volume), names().len());
        volume.remove_orphans().unwrap();
        assert_eq!(orphans(&volume), 0);
        volume.unmount().unwrap();
        check(&device, &platform);
    }
}
