// SPDX-License-Identifier: GPL-2.0

//! What is shown, gathered into plain values whose names are those of the JSON.

use cairnfs_core::device::Device;
use cairnfs_core::error::Check;
use cairnfs_core::error::Result;
use cairnfs_core::format::block_header::{self, BlockKind, Stamp};
use cairnfs_core::format::group::{BitmapEntry, BitmapKind, Geometry, GroupHeader, HEADER_OFFSET};
use cairnfs_core::format::journal::{JournalHeader, HEADER_CLEAN};
use cairnfs_core::format::superblock::{ErrorRecord, STATE_CHECK_WANTED, STATE_ERRORS, STATE_MOUNTED};
use cairnfs_core::make::groups_with_copy;
use cairnfs_core::platform::Platform;
use cairnfs_core::units::{GroupNo, BLOCK_BYTES};
use cairnfs_device::LoadedSuperblock;
use serde::Serialize;
use std::path::Path;
use uuid::Uuid;

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    pub(crate) device: String,
    /// The block that the superblock was read from.
    pub(crate) superblock_block: u64,
    pub(crate) superblock: SuperblockInfo,
    pub(crate) journal: Option<JournalInfo>,
    pub(crate) groups: Option<GroupsInfo>,
    /// What is wrong, one line each.
    pub(crate) damage: Vec<String>,
}

/// The superblock's fields.
#[derive(Debug, Serialize)]
pub(crate) struct SuperblockInfo {
    pub(crate) label: String,
    pub(crate) uuid: String,
    pub(crate) filesystem_id: String,
    pub(crate) format_version: u32,
    pub(crate) block_bytes: u64,
    pub(crate) feature_compat: u64,
    pub(crate) feature_ro_compat: u64,
    pub(crate) feature_incompat: u64,
    pub(crate) device_blocks: u64,
    pub(crate) physical_block_bytes: u32,
    pub(crate) first_group_block: u64,
    pub(crate) group_blocks: u32,
    pub(crate) group_count: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) journal_start: u64,
    pub(crate) journal_blocks: u64,
    pub(crate) reserve_blocks: u64,
    pub(crate) default_options: String,
    pub(crate) created_ns: u64,
    pub(crate) mounted_ns: u64,
    pub(crate) unmounted_ns: u64,
    pub(crate) checked_ns: u64,
    pub(crate) update_counter: u64,
    pub(crate) mount_count: u32,
    pub(crate) state: Vec<&'static str>,
    pub(crate) free_blocks: u64,
    pub(crate) free_inodes: u64,
    pub(crate) initialised_groups: u32,
    pub(crate) recovery_attempts: u32,
    pub(crate) error_count: u64,
    pub(crate) first_error: Option<ErrorInfo>,
    pub(crate) last_error: Option<ErrorInfo>,
    pub(crate) recovery: Option<RecoveryInfo>,
}

/// A recorded error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorInfo {
    pub(crate) time_ns: u64,
    pub(crate) block: u64,
    /// The check that failed; none: the device did.
    pub(crate) check: Option<&'static str>,
    pub(crate) errno: u32,
}

/// The last recovery.
#[derive(Debug, Serialize)]
pub(crate) struct RecoveryInfo {
    pub(crate) time_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) first_sequence: u64,
    pub(crate) end_sequence: u64,
    pub(crate) transactions: u64,
    pub(crate) items: u64,
    pub(crate) discarded_records: u64,
    pub(crate) orphans: u32,
    pub(crate) stop: u32,
}

/// The journal by its newer whole header.
#[derive(Debug, Serialize)]
pub(crate) struct JournalInfo {
    pub(crate) header_block: u64,
    pub(crate) counter: u64,
    pub(crate) clean: bool,
    pub(crate) ring_bytes: u64,
    pub(crate) newest_generation: u32,
    pub(crate) tail_position: u64,
    pub(crate) tail_sequence: u64,
    pub(crate) tail_generation: u32,
    pub(crate) next_transaction: u64,
    pub(crate) free_blocks: u64,
    pub(crate) free_inodes: u64,
    pub(crate) initialised_groups: u32,
    pub(crate) orphans: u32,
}

/// The groups by their headers.
#[derive(Debug, Serialize)]
pub(crate) struct GroupsInfo {
    pub(crate) initialised: u32,
    pub(crate) superblock_copies: Vec<u64>,
    pub(crate) metadata_blocks_each: u32,
    pub(crate) free_blocks: u64,
    pub(crate) free_inodes: u64,
    /// Each initialised group, where asked for.
    pub(crate) list: Option<Vec<GroupInfo>>,
}

/// A group.
#[derive(Debug, Serialize)]
pub(crate) struct GroupInfo {
    pub(crate) group: u32,
    pub(crate) start: u64,
    pub(crate) blocks: u32,
    pub(crate) free_blocks: u64,
    pub(crate) free_inodes: u64,
    pub(crate) table_mark: u32,
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn error_info(record: &ErrorRecord) -> Option<ErrorInfo> {
    (record.time_ns != 0).then(|| ErrorInfo {
        time_ns: record.time_ns,
        block: record.block.0,
        check: Check::from_number(record.check).map(Check::name),
        errno: record.errno,
    })
}

/// What the superblock says.
pub(crate) fn superblock_info(path: &Path, loaded: &LoadedSuperblock) -> Info {
    let superblock = &loaded.superblock;
    let states = [(STATE_ERRORS, "errors"), (STATE_CHECK_WANTED, "check-wanted"), (STATE_MOUNTED, "mounted")];
    let recovery = superblock.recovery;
    let superblock = SuperblockInfo {
        label: text(&superblock.label),
        uuid: Uuid::from_bytes(superblock.uuid).to_string(),
        filesystem_id: format!("{:016x}", superblock.filesystem_id),
        format_version: superblock.format_version,
        block_bytes: 1_u64.checked_shl(superblock.block_shift).unwrap_or(0),
        feature_compat: superblock.feature_compat,
        feature_ro_compat: superblock.feature_ro_compat,
        feature_incompat: superblock.feature_incompat,
        device_blocks: superblock.device_blocks,
        physical_block_bytes: superblock.physical_block_bytes,
        first_group_block: superblock.first_group_block.0,
        group_blocks: superblock.group_blocks,
        group_count: superblock.group_count,
        inodes_per_group: superblock.inodes_per_group,
        journal_start: superblock.journal_start.0,
        journal_blocks: superblock.journal_blocks,
        reserve_blocks: superblock.reserve_blocks,
        default_options: text(&superblock.default_options),
        created_ns: superblock.created_ns,
        mounted_ns: superblock.mounted_ns,
        unmounted_ns: superblock.unmounted_ns,
        checked_ns: superblock.checked_ns,
        update_counter: superblock.update_counter,
        mount_count: superblock.mount_count,
        state: states.iter().filter(|(bit, _)| superblock.state & bit != 0).map(|(_, name)| *name).collect(),
        free_blocks: superblock.free_blocks,
        free_inodes: superblock.free_inodes,
        initialised_groups: superblock.initialised_groups,
        recovery_attempts: superblock.recovery_attempts,
        error_count: superblock.error_count,
        first_error: error_info(&superblock.first_error),
        last_error: error_info(&superblock.last_error),
        recovery: (recovery.time_ns != 0).then_some(RecoveryInfo {
            time_ns: recovery.time_ns,
            duration_ns: recovery.duration_ns,
            first_sequence: recovery.first_sequence.0,
            end_sequence: recovery.end_sequence.0,
            transactions: recovery.transactions,
            items: recovery.items,
            discarded_records: recovery.discarded_records,
            orphans: recovery.orphans,
            stop: recovery.stop,
        }),
    };
    Info {
        device: path.display().to_string(),
        superblock_block: loaded.block.0,
        superblock,
        journal: None,
        groups: None,
        damage: Vec::new(),
    }
}

/// What the journal's headers and the group headers say; `list`: of each group too.
pub(crate) fn add_layout(
    info: &mut Info,
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    list: bool,
) {
    info.journal = journal_info(device, platform, geometry, &mut info.damage);
    // In use or after a crash the superblock's number may be old; the journal's is as new as its tail.
    let by_journal = info.journal.as_ref().map_or(0, |journal| journal.initialised_groups);
    let initialised = info.superblock.initialised_groups.max(by_journal).min(geometry.group_count);
    let mut groups = GroupsInfo {
        initialised,
        superblock_copies: groups_with_copy(geometry.group_count)
            .map(|group| geometry.start_of(group).0)
            .collect(),
        metadata_blocks_each: geometry.metadata_blocks(),
        free_blocks: 0,
        free_inodes: 0,
        list: list.then(Vec::new),
    };
    for group in (0..initialised).map(GroupNo) {
        match group_info(device, platform, geometry, group) {
            Ok(one) => {
                groups.free_blocks += one.free_blocks;
                groups.free_inodes += one.free_inodes;
                if let Some(list) = &mut groups.list {
                    list.push(one);
                }
            }
            Err(error) => info.damage.push(format!("header of group {group}: {error}")),
        }
    }
    for group in (initialised..geometry.group_count).map(GroupNo) {
        groups.free_blocks += u64::from(geometry.blocks_of(group).saturating_sub(geometry.metadata_blocks()));
        groups.free_inodes += u64::from(geometry.inodes_per_group);
    }
    info.groups = Some(groups);
}

fn journal_info(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    damage: &mut Vec<String>,
) -> Option<JournalInfo> {
    let mut newest: Option<JournalInfo> = None;
    for block in [geometry.journal_start, geometry.journal_start.next()] {
        let mut bytes = vec![0; BLOCK_BYTES];
        let read = device.read(block, &mut bytes);
        match read.and_then(|()| JournalHeader::read(platform, &bytes, geometry.filesystem_id, block)) {
            Ok(header) if newest.as_ref().is_none_or(|other| header.counter > other.counter) => {
                newest = Some(JournalInfo {
                    header_block: block.0,
                    counter: header.counter,
                    clean: header.flags & HEADER_CLEAN != 0,
                    ring_bytes: header.ring_bytes,
                    newest_generation: header.newest_generation.0,
                    tail_position: header.tail.position.0,
                    tail_sequence: header.tail.sequence.0,
                    tail_generation: header.tail.generation.0,
                    next_transaction: header.next_transaction.0,
                    free_blocks: header.totals.free_blocks,
                    free_inodes: header.totals.free_inodes,
                    initialised_groups: header.totals.initialised_groups,
                    orphans: header.totals.orphans,
                });
            }
            Ok(_) => (),
            Err(error) => damage.push(format!("journal header in block {block}: {error}")),
        }
    }
    newest
}

fn group_info(
    device: &dyn Device,
    platform: &dyn Platform,
    geometry: &Geometry,
    group: GroupNo,
) -> Result<GroupInfo> {
    let block = geometry.header_of(group);
    let mut bytes = vec![0; BLOCK_BYTES];
    device.read(block, &mut bytes)?;
    let filesystem_id = geometry.filesystem_id;
    let stamp = Stamp { kind: BlockKind::GroupHeader, block, owner: u64::from(group.0), filesystem_id };
    block_header::verify(platform, &stamp, &bytes)?;
    let header = GroupHeader::decode(&bytes, HEADER_OFFSET)?;
    let free = |kind: BitmapKind, bitmaps: u32| -> Result<u64> {
        let mut free = 0;
        for index in 0..bitmaps {
            free += u64::from(BitmapEntry::decode(&bytes, kind.entry_offset(index))?.free);
        }
        Ok(free)
    };
    Ok(GroupInfo {
        group: group.0,
        start: geometry.start_of(group).0,
        blocks: header.blocks,
        free_blocks: free(BitmapKind::Blocks, geometry.block_bitmaps())?,
        free_inodes: free(BitmapKind::Inodes, geometry.inode_bitmaps())?,
        table_mark: header.table_mark,
    })
}
