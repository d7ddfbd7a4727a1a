// SPDX-License-Identifier: GPL-2.0

//! A filesystem made, mounted, filled, unmounted, lost to a power cut and mounted again, all in memory.

use cairnfs_core::attributes::SetMode;
use cairnfs_core::error::Error;
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::NewInode;
use cairnfs_core::make::{Identity, Plan, Request};
use cairnfs_core::operation::rename::{Mode, Place};
use cairnfs_core::platform::Platform;
use cairnfs_core::units::InodeNo;
use cairnfs_device::{MemoryDevice, StdPlatform};
use cairnfs_volume::Volume;

const ROOT: InodeNo = InodeNo(2);

fn made(device_blocks: u64, platform: &dyn Platform) -> MemoryDevice {
    let device = MemoryDevice::new(device_blocks);
    let request = Request {
        available_blocks: device_blocks,
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: None,
    };
    let plan = Plan::new(&request).expect("a plan");
    let identity = Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1 };
    cairnfs_core::make::write(&device, platform, &plan, &identity, &mut |_| {}).expect("written");
    device
}

fn new(mode: u16) -> NewInode {
    NewInode { mode, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 }
}

fn place(parent: InodeNo, name: &[u8]) -> Place<'_> {
    Place { parent, name }
}

/// Makes a tree with something of everything; what it holds is checked by [`check_tree`].
fn fill(volume: &Volume<'_>) {
    let (directory, _) = volume.create(ROOT, b"directory", &new(0o040_755), None).unwrap();
    let (file, _) = volume.create(directory, b"file", &new(0o100_644), None).unwrap();
    volume.write_at(file, 0, b"hello, world").unwrap();
    volume.write_at(file, 12_000, &[9; 20_000]).unwrap();
    volume.create(directory, b"short", &new(0o120_777), Some(b"file")).unwrap();
    volume.create(directory, b"long", &new(0o120_777), Some(&[b'x'; 4095])).unwrap();
    volume.link(file, ROOT, b"second name").unwrap();
    volume.set_extended(file, (Namespace::User, b"small"), Some(b"value"), SetMode::Create).unwrap();
    volume.set_extended(file, (Namespace::User, b"large"), Some(&[4; 2000]), SetMode::Create).unwrap();
    for number in 0..600 {
        let name = format!("entry {number}");
        volume.create(directory, name.as_bytes(), &new(0o100_600), None).unwrap();
    }
    for number in (0..600).step_by(3) {
        let name = format!("entry {number}");
        volume.unlink(directory, name.as_bytes()).unwrap();
    }
    volume.rename(place(directory, b"entry 1"), place(ROOT, b"moved"), Mode::Replace, None).unwrap();
    volume.rename(place(directory, b"entry 2"), place(ROOT, b"moved"), Mode::Replace, None).unwrap();
    volume.remove_orphans().unwrap();
}

fn check_tree(volume: &Volume<'_>) {
    let directory = volume.lookup(ROOT, b"directory").unwrap().expect("directory").inode;
    let file = volume.lookup(directory, b"file").unwrap().expect("file").inode;
    assert_eq!(volume.lookup(ROOT, b"second name").unwrap().expect("link").inode, file);
    let content = volume.read_all(file).unwrap();
    assert_eq!(content.len(), 32_000);
    assert_eq!(&content[..12], b"hello, world");
    assert!(content[12..12_000].iter().all(|byte| *byte == 0));
    assert!(content[12_000..].iter().all(|byte| *byte == 9));
    assert_eq!(volume.extended(file, Namespace::User, b"small").unwrap(), b"value");
    assert_eq!(volume.extended(file, Namespace::User, b"large").unwrap(), [4; 2000]);
    let long = volume.lookup(directory, b"long").unwrap().expect("long").inode;
    assert_eq!(volume.read_link(long).unwrap(), [b'x'; 4095]);
    // 600 made, 200 removed, 2 moved away, and three others.
    assert_eq!(volume.entries(directory).unwrap().len(), 600 - 200 - 2 + 3);
    assert_eq!(volume.entries(ROOT).unwrap().len(), 3);
    let inode = volume.read_inode(file).unwrap();
    assert_eq!((inode.core.links, inode.core.size_bytes), (2, 32_000));
}

#[test]
fn everything_is_there_after_an_unmount() {
    let platform = StdPlatform::new();
    let device = made(16_384, &platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    fill(&volume);
    check_tree(&volume);
    volume.unmount().unwrap();
    let volume = Volume::mount(&device, &platform).unwrap();
    check_tree(&volume);
    volume.unmount().unwrap();
}

#[test]
fn what_was_committed_is_there_without_an_unmount() {
    let platform = StdPlatform::new();
    let device = made(16_384, &platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    fill(&volume);
    volume.commit().unwrap();
    drop(volume);
    let volume = Volume::mount(&device, &platform).unwrap();
    check_tree(&volume);
    volume.checkpoint().unwrap();
    volume.drop_cache();
    check_tree(&volume);
    volume.unmount().unwrap();
}

#[test]
fn a_full_filesystem_can_be_emptied_and_filled_again() {
    let platform = StdPlatform::new();
    let device = made(8_192, &platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    let free = volume.journal().totals().free_blocks;
    for _ in 0..3 {
        let (file, _) = volume.create(ROOT, b"big", &new(0o100_644), None).unwrap();
        let mut offset = 0;
        let error = loop {
            match volume.write_at(file, offset, &[1; 1 << 20]) {
                Ok(()) => offset += 1 << 20,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::NoSpace);
        volume.unlink(ROOT, b"big").unwrap();
        volume.remove_orphans().unwrap();
        volume.commit().unwrap();
        assert_eq!(volume.journal().totals().free_blocks, free);
    }
    volume.unmount().unwrap();
}

#[test]
fn many_inodes_initialise_tables_and_groups() {
    let platform = StdPlatform::new();
    let device = made(300_000, &platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    let mut numbers = Vec::new();
    for number in 0..40 {
        let name = format!("directory {number}");
        let (directory, _) = volume.create(ROOT, name.as_bytes(), &new(0o040_755), None).unwrap();
        for child in 0..40 {
            let name = format!("child {child}");
            let (inode, _) = volume.create(directory, name.as_bytes(), &new(0o100_644), None).unwrap();
            numbers.push(inode);
        }
    }
    volume.commit().unwrap();
    drop(volume);
    let volume = Volume::mount(&device, &platform).unwrap();
    for number in numbers {
        assert_eq!(volume.read_inode(number).unwrap().core.links, 1);
    }
    volume.unmount().unwrap();
}
