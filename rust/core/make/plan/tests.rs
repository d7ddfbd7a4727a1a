// SPDX-License-Identifier: GPL-2.0

//! The rules for the numbers, by a table of devices, and the limits of each wish.

use super::*;
use crate::units::GroupNo;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn request(bytes: u64) -> Request {
    Request {
        available_blocks: bytes / BLOCK_BYTES as u64,
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: None,
    }
}

#[test]
fn sizes_and_what_becomes_of_them() {
    // bytes, journal blocks, first group block, MiB of a group, groups, inodes in each, orphan blocks, reserve
    let table = [
        (5 * MIB, 1024, 1026, 128, 1, 128, 1, 8),
        (32 * MIB, 1024, 1026, 128, 1, 3584, 8, 8),
        (64 * MIB, 1024, 1280, 128, 1, 7552, 16, 16),
        (256 * MIB, 1024, 1280, 128, 2, 16384, 16, 65),
        (512 * MIB, 2048, 2304, 128, 4, 8192, 16, 131),
        (GIB, 4096, 4352, 128, 8, 8192, 16, 262),
        (10 * GIB, 16384, 16640, 128, 80, 8192, 16, 2621),
        (64 * GIB, 16384, 16640, 128, 512, 8192, 16, 16777),
        (65 * GIB, 16384, 16640, 256, 260, 16384, 16, 17039),
        (200 * GIB, 16384, 16640, 512, 400, 32768, 16, 52428),
        (1024 * GIB, 16384, 16640, 1024, 1024, 65536, 16, 268435),
        (1024 * 1024 * GIB, 16384, 16640, 1024, 1 << 20, 65536, 16, 274877906),
    ];
    for (bytes, journal, first, group_mib, groups, inodes, orphans, reserve) in table {
        let plan = Plan::new(&request(bytes)).unwrap();
        let got = (
            plan.journal_blocks,
            plan.first_group_block.0,
            u64::from(plan.group_blocks) * 4096 / MIB,
            plan.group_count,
            plan.inodes_per_group,
            plan.orphan_blocks,
            plan.reserve_blocks,
        );
        assert_eq!(got, (journal, first, group_mib, groups, inodes, orphans, reserve), "{} MiB", bytes / MIB);
        assert_eq!(plan.initialised_groups, groups.min(4), "{} MiB", bytes / MIB);
        assert_eq!(plan.device_blocks, bytes / 4096, "{} MiB", bytes / MIB);
    }
}

#[test]
fn the_smallest_device_works_and_one_block_less_does_not() {
    for bytes_per_inode in [None, Some(BYTES_PER_INODE_MIN), Some(BYTES_PER_INODE_MAX)] {
        let wanted = Request { bytes_per_inode, ..request(0) };
        let Err(Refusal::DeviceTooSmall { smallest_bytes }) = Plan::new(&wanted) else {
            panic!("an empty device was accepted");
        };
        let smallest = Request { available_blocks: smallest_bytes / 4096, ..wanted };
        let plan = Plan::new(&smallest).unwrap();
        assert!(plan.free_blocks() > plan.reserve_blocks);
        let smaller = Request { available_blocks: smallest.available_blocks - 1, ..wanted };
        assert_eq!(Plan::new(&smaller), Err(Refusal::DeviceTooSmall { smallest_bytes }));
    }
}

/// Walks every block count through the end of a group: a tail is used as soon as it holds 64 blocks for data.
#[test]
fn a_last_group_too_short_is_left_out() {
    let base = Plan::new(&request(GIB)).unwrap();
    let geometry = base.geometry(0);
    let full_end = geometry.start_of(GroupNo(7)).0;
    let shortest = u64::from(geometry.metadata_blocks() + DATA_BLOCKS_MIN);
    for blocks in full_end..full_end + shortest + 8 {
        let plan =
            Plan::new(&Request { journal_bytes: Some(base.journal_blocks * 4096), ..request(blocks * 4096) })
                .unwrap();
        let tail = blocks - full_end;
        let expected = if tail < shortest { (7, full_end) } else { (8, blocks) };
        assert_eq!((plan.group_count, plan.device_blocks), expected, "{tail}");
    }
}

#[test]
fn journal_sizes_at_and_behind_their_limits() {
    let with = |journal_bytes| Plan::new(&Request { journal_bytes: Some(journal_bytes), ..request(GIB) });
    let refused = Err(Refusal::JournalSize { smallest_bytes: 4 * MIB, largest_bytes: 512 * MIB });
    assert_eq!(with(4 * MIB).unwrap().journal_blocks, 1024);
    assert_eq!(with(512 * MIB).unwrap().journal_blocks, 131072);
    assert_eq!(with(4 * MIB - 4096), refused);
    assert_eq!(with(512 * MIB + 4096), refused);
    assert_eq!(with(8 * MIB + 512), Err(Refusal::JournalAlignment));
    let large = Plan::new(&Request { journal_bytes: Some(2 * GIB + 4096), ..request(100 * GIB) });
    assert_eq!(large, Err(Refusal::JournalSize { smallest_bytes: 4 * MIB, largest_bytes: 2 * GIB }));
    let tiny = Plan::new(&Request { journal_bytes: Some(4 * MIB), ..request(5 * MIB) });
    assert_eq!(tiny.unwrap().journal_blocks, 1024);
}

#[test]
fn wishes_outside_their_limits_are_refused() {
    for group_bytes in [0, 64 * MIB, 129 * MIB, 384 * MIB, 2 * GIB] {
        let plan = Plan::new(&Request { group_bytes: Some(group_bytes), ..request(8 * GIB) });
        assert_eq!(plan, Err(Refusal::GroupSize), "{group_bytes}");
    }
    for bytes in [0, BYTES_PER_INODE_MIN - 1, BYTES_PER_INODE_MAX + 1] {
        let plan = Plan::new(&Request { bytes_per_inode: Some(bytes), ..request(GIB) });
        assert_eq!(plan, Err(Refusal::InodeRatio), "{bytes}");
    }
    for physical_block_bytes in [0, 256, 768, 8192] {
        let plan = Plan::new(&Request { physical_block_bytes, ..request(GIB) });
        assert_eq!(plan, Err(Refusal::PhysicalBlock), "{physical_block_bytes}");
    }
    let endless = Plan::new(&Request { available_blocks: u64::MAX / 2, ..request(0) });
    assert_eq!(endless, Err(Refusal::DeviceTooLarge { largest_blocks: u64::from(u32::MAX) << 18 }));
}

#[test]
fn every_group_size_and_ratio_gives_a_layout_within_its_bounds() {
    for bytes in [5 * MIB, 40 * MIB, 300 * MIB, 5 * GIB, 5000 * GIB] {
        for shift in 0..4 {
            for ratio in [BYTES_PER_INODE_MIN, 10_000, 1 << 20, BYTES_PER_INODE_MAX] {
                let wanted = Request {
                    group_bytes: Some((128 * MIB) << shift),
                    bytes_per_inode: Some(ratio),
                    ..request(bytes)
                };
                let plan = Plan::new(&wanted).unwrap();
                let geometry = plan.geometry(0);
                let last = GroupNo(plan.group_count - 1);
                assert_eq!(u64::from(plan.group_blocks) * 4096, (128 * MIB) << shift);
                assert!(plan.inodes_per_group.is_multiple_of(INODES_PER_BLOCK));
                assert!(plan.inodes_per_group <= INODES_PER_GROUP_MAX);
                assert!(geometry.blocks_of(last) >= geometry.metadata_blocks() + DATA_BLOCKS_MIN);
                assert!(geometry.is_data_run(plan.orphan_run().start, plan.orphan_run().blocks));
                assert!(plan.device_blocks <= wanted.available_blocks);
            }
        }
    }
}
