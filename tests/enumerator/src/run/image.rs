// SPDX-License-Identifier: GPL-2.0

//! The filesystem on which a workload begins: made by core's own mkfs, its journal anywhere in the ring.

use crate::disk::{Image, SimulatedDisk};
use crate::platform::RepeatablePlatform;
use crate::workload::Workload;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::journal::JournalHeader;
use cairnfs_core::journal::replay;
use cairnfs_core::make::{self, Identity, Plan};
use cairnfs_core::units::{BlockNo, Position, BLOCK_BYTES};

/// A new filesystem for a workload.
pub fn make_image(workload: &Workload) -> Image {
    let first_group_block = BlockNo(2 + 1024);
    let device_blocks = if workload.tiny {
        // Header, bitmaps, table, orphan index; and some 150 blocks for use.
        first_group_block.0 + 6 + u64::from(workload.inodes_per_group / 8) + 150
    } else {
        first_group_block.0 + u64::from(workload.groups) * 32_768 - 31_000
    };
    let plan = Plan {
        device_blocks,
        physical_block_bytes: workload.physical_block_bytes,
        journal_start: BlockNo(2),
        journal_blocks: 1024,
        first_group_block,
        group_blocks: 32_768,
        group_count: workload.groups,
        inodes_per_group: workload.inodes_per_group,
        initialised_groups: 1,
        orphan_blocks: 2,
        reserve_blocks: 8,
    };
    let disk = SimulatedDisk::new(Image::new(device_blocks), false, true);
    let platform = RepeatablePlatform::new(1);
    let identity = Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1 };
    make::write(&disk, &platform, &plan, &identity, &mut |_| {}).expect("a new filesystem");
    if workload.head_before_end > 0 {
        move_head(&disk, workload.head_before_end * u64::from(workload.physical_block_bytes));
    }
    disk.image()
}

/// Lets the journal begin so many bytes before the end of the ring: a clean header may name any place.
pub(crate) fn move_head(disk: &SimulatedDisk, bytes_before_end: u64) {
    let platform = &RepeatablePlatform::new(1);
    let superblock = cairnfs_volume::read_superblock(disk, platform).expect("a superblock");
    let geometry = Geometry::new(&superblock, superblock.device_blocks).expect("a geometry");
    let header = replay::read_header(disk, platform, &superblock, &geometry).expect("a header");
    let position = header.ring_bytes - bytes_before_end;
    let mut moved = JournalHeader { counter: header.counter + 1, ..header };
    moved.tail.position = Position(position);
    let block = JournalHeader::next_block(geometry.journal_start, moved.counter);
    let mut content = vec![0; BLOCK_BYTES];
    moved.write(platform, &mut content, geometry.filesystem_id, block).expect("a header");
    let written = cairnfs_core::device::Device::write_durably(disk, block, &content);
    written.expect("a write");
}

/// Where everything is on a workload's filesystem.
pub fn geometry(workload: &Workload) -> Geometry {
    let disk = SimulatedDisk::new(make_image(workload), false, true);
    let superblock =
        cairnfs_volume::read_superblock(&disk, &RepeatablePlatform::new(1)).expect("a superblock");
    Geometry::new(&superblock, superblock.device_blocks).expect("a geometry")
}
