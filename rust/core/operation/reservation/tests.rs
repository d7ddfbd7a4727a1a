// SPDX-License-Identifier: GPL-2.0

//! No operation needs more than a handle can get, in any geometry that mkfs accepts.

use super::*;
use crate::format::inode::{MapKind, MODE_DIRECTORY, MODE_REGULAR};
use crate::format::journal::JOURNAL_BLOCKS_MIN;
use crate::format::tree::TreeHeader;
use crate::inode::NewInode;
use crate::make::{Plan, Request};
use crate::memory::Owned;
use crate::tree::set_root;
use crate::units::{BlockNo, InodeGeneration, InodeNo, BLOCK_BYTES};

const MIB: u64 = 1 << 20;

fn inode(mode: u16, level: u16) -> Owned<Inode> {
    let new = NewInode { mode, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 0 };
    let mut inode = Inode::new(InodeNo(20), InodeGeneration(1), &new).unwrap();
    if mode == MODE_DIRECTORY && level > 0 {
        inode.core.map_kind = MapKind::DirectoryTree as u8;
    }
    if level > 0 {
        set_root(&mut inode, level, BlockNo(5000)).unwrap();
    } else if mode == MODE_REGULAR {
        inode.resize_map(TreeHeader::SIZE).unwrap();
    }
    inode
}

/// Every combination of group size, inode ratio and physical block that mkfs accepts, each at the smallest journal that it accepts
/// for it, on a device large enough for as many bitmaps as there can be.
fn smallest_journals() -> Vec<Geometry> {
    let mut all = Vec::new();
    for group_mib in [128, 256, 512, 1024] {
        for bytes_per_inode in [4096, 16384, 64 << 20] {
            for physical_block_bytes in [512, 1024, 2048, 4096] {
                let request = Request {
                    available_blocks: (64 << 30) / BLOCK_BYTES as u64,
                    physical_block_bytes,
                    journal_bytes: Some(JOURNAL_BLOCKS_MIN * BLOCK_BYTES as u64),
                    group_bytes: Some(group_mib * MIB),
                    bytes_per_inode: Some(bytes_per_inode),
                };
                all.push(Plan::new(&request).unwrap().geometry(1));
            }
        }
    }
    all
}

#[test]
fn every_operation_fits_the_smallest_journal_at_every_height() {
    for geometry in smallest_journals() {
        let share = Journal::ring_bytes(&geometry) / HANDLE_SHARE;
        let step = step(&geometry);
        for level in 0..=LEVEL_MAX {
            let (file, directory) = (inode(MODE_REGULAR, level), inode(MODE_DIRECTORY, level));
            assert_eq!(extent_map::level(&file), Ok(level));
            let operations = [
                ("create", create(&directory)),
                ("link", link(&directory)),
                ("unlink", unlink(&directory)),
                ("rename", rename(&directory, &directory)),
                ("set_attributes", set_attributes()),
                ("set_extended", set_extended()),
                ("grow_index", grow_index(&file)),
                ("map_written", map_written(&geometry, &file)),
                ("remove", remove(&geometry, &file, step)),
            ];
            for (name, worst) in operations {
                assert!(worst.bytes() <= share, "{name} at level {level}: {} of {share}", worst.bytes());
            }
        }
    }
}

#[test]
fn a_step_grows_with_the_ring() {
    let of = |journal_mib: u64, group_mib: u64| {
        let request = Request {
            available_blocks: (64 << 30) / BLOCK_BYTES as u64,
            physical_block_bytes: 512,
            journal_bytes: Some(journal_mib * MIB),
            group_bytes: Some(group_mib * MIB),
            bytes_per_inode: None,
        };
        step(&Plan::new(&request).unwrap().geometry(1))
    };
    assert_eq!(of(64, 128), STEP_MAX);
    assert_eq!(of(64, 1024), STEP_MAX);
    let least = of(4, 1024);
    assert!(least.extents < of(4, 128).extents && least.extents >= 1);
    assert!(least.blocks >= extent_map::remove_blocks_min(LEVEL_MAX));
}
