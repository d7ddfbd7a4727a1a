// SPDX-License-Identifier: GPL-2.0

//! Writing what was planned.
//!
//! Only what a reader may look at is written: the ring as zeros (so that no record of an earlier filesystem can follow a new
//! one), both journal headers, and for each initialised group its bitmaps and its header. Of inode tables the blocks
//! below the mark are written, which is two blocks of group 0; what lies above a mark is never read.

use super::plan::Plan;
use crate::bitmap;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::block_header::{self, BlockKind, Stamp};
use crate::format::extent::Extent;
use crate::format::group::{
    BitmapEntry, BitmapKind, Geometry, GroupHeader, BITMAP_BITS, HEADER_OFFSET, INODES_PER_BLOCK,
};
use crate::format::inode::{FIRST_FREE, MODE_DIRECTORY, MODE_REGULAR, ORPHAN_INDEX, ROOT};
use crate::format::journal::{JournalHeader, Tail, Totals, HEADER_BLOCKS, HEADER_CLEAN};
use crate::format::superblock::{
    ErrorRecord, RecoveryReport, Superblock, FORMAT_VERSION, PRIMARY, SECONDARY,
};
use crate::format::tree::TreeHeader;
use crate::inode::{Inode, NewInode};
use crate::memory::{Buffer, Owned};
use crate::platform::Platform;
use crate::units::{
    BlockNo, BlockRun, FileBlock, Generation, GroupNo, InodeGeneration, InodeNo, Position, Sequence,
    TransactionId, BLOCK_BYTES, BLOCK_SHIFT,
};

/// The ring is zeroed in pieces of this many blocks (4 MiB), so that progress can be shown.
const ZERO_PIECE_BLOCKS: u64 = 1024;

/// Inodes in a block of the table.
const PER_TABLE_BLOCK: u64 = INODES_PER_BLOCK as u64;

/// What makes one filesystem differ from another with the same plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The UUID.
    pub uuid: [u8; 16],
    /// The label, padded with zero bytes.
    pub label: [u8; 64],
    /// The key of the directories' hash: random, so that nobody can prepare colliding names.
    pub hash_key: [u8; 16],
    /// Now.
    pub created_ns: u64,
}

impl Identity {
    /// The id that every block header will bear. It follows from the identity, so that a fixed one gives the same bytes again;
    /// UUID in one half, key and time in the other, so that making a filesystem anew under an old UUID makes its old
    /// blocks strangers.
    pub fn filesystem_id(&self, platform: &dyn Platform) -> u64 {
        let by_uuid = platform.crc32c(0, &self.uuid);
        let by_key = platform.crc32c(platform.crc32c(0, &self.hash_key), &self.created_ns.to_le_bytes());
        ((u64::from(by_uuid) << 32) | u64::from(by_key)).max(1)
    }
}

/// Makes what stands on the device unmountable, durably: zeroes the superblock pair, and where that was a filesystem of
/// ours, its other copies, of which some may lie where the new one writes nothing.
pub fn wipe(device: &dyn Device, platform: &dyn Platform) -> Result {
    let old = read_old(device, platform);
    device.zero(BlockRun { start: PRIMARY, blocks: 2.min(device.blocks()) })?;
    if let Ok((superblock, geometry)) = old {
        for group in groups_with_copy(superblock.group_count) {
            device.zero(BlockRun { start: geometry.start_of(group), blocks: 1 })?;
        }
    }
    device.flush()
}

fn read_old(device: &dyn Device, platform: &dyn Platform) -> Result<(Owned<Superblock>, Geometry)> {
    let mut block = Buffer::zeroed(BLOCK_BYTES)?;
    device.read(PRIMARY, &mut block)?;
    let first = Superblock::read_copy(platform, &block, PRIMARY);
    device.read(SECONDARY, &mut block)?;
    let superblock = Superblock::choose(first, Superblock::read_copy(platform, &block, SECONDARY))?;
    let geometry = Geometry::new(&superblock, device.blocks())?;
    Ok((Owned::try_new(superblock)?, geometry))
}

/// The groups whose first block holds a copy of the superblock: group 0 and the powers of 3.
pub fn groups_with_copy(group_count: u32) -> impl Iterator<Item = GroupNo> {
    let powers = core::iter::successors(Some(1_u32), |power| power.checked_mul(3));
    core::iter::once(0).chain(powers).take_while(move |group| *group < group_count).map(GroupNo)
}

/// Writes the filesystem. `progress` hears of blocks done, out of [`blocks_to_write`].
pub fn write(
    device: &dyn Device,
    platform: &dyn Platform,
    plan: &Plan,
    identity: &Identity,
    progress: &mut dyn FnMut(u64),
) -> Result {
    let mut writer = Writer {
        device,
        platform,
        plan,
        identity,
        geometry: plan.geometry(identity.filesystem_id(platform)),
        block: Buffer::zeroed(BLOCK_BYTES)?,
        progress,
    };
    wipe(device, platform)?;
    writer.journal()?;
    for group in 0..plan.initialised_groups {
        writer.group(GroupNo(group))?;
    }
    writer.reserved_inodes()?;
    writer.orphan_index()?;
    let superblock = writer.superblock()?;
    for group in groups_with_copy(plan.group_count) {
        writer.superblock_copy(&superblock, writer.geometry.start_of(group))?;
    }
    device.flush()?;
    for block in [PRIMARY, SECONDARY] {
        writer.superblock_copy(&superblock, block)?;
        device.flush()?;
    }
    Ok(())
}

/// How many blocks [`write()`] zeroes and writes.
pub fn blocks_to_write(plan: &Plan) -> u64 {
    let geometry = plan.geometry(0);
    let a_group = geometry.block_bitmaps().saturating_add(geometry.inode_bitmaps()).saturating_add(1);
    let groups = u64::from(plan.initialised_groups).saturating_mul(u64::from(a_group));
    let copies = groups_with_copy(plan.group_count).count() as u64;
    let table = FIRST_FREE.0 / PER_TABLE_BLOCK;
    [plan.journal_blocks, groups, table, u64::from(plan.orphan_blocks), copies, 2]
        .into_iter()
        .fold(0, u64::saturating_add)
}

struct Writer<'a> {
    device: &'a dyn Device,
    platform: &'a dyn Platform,
    plan: &'a Plan,
    identity: &'a Identity,
    geometry: Geometry,
    /// The block that is being made.
    block: Buffer,
    progress: &'a mut dyn FnMut(u64),
}

impl Writer<'_> {
    fn emit(&mut self, at: BlockNo) -> Result {
        self.device.write(at, &self.block)?;
        (self.progress)(1);
        Ok(())
    }

    fn totals(&self) -> Totals {
        Totals {
            free_blocks: self.plan.free_blocks(),
            free_inodes: self.plan.free_inodes(),
            initialised_groups: self.plan.initialised_groups,
            orphans: 0,
        }
    }

    fn journal(&mut self) -> Result {
        let ring_start = self.plan.journal_start.0.saturating_add(HEADER_BLOCKS);
        let ring_blocks = self.plan.journal_blocks.saturating_sub(HEADER_BLOCKS);
        let mut done = 0;
        while done < ring_blocks {
            let blocks = ring_blocks.saturating_sub(done).min(ZERO_PIECE_BLOCKS);
            self.device.zero(BlockRun { start: BlockNo(ring_start.saturating_add(done)), blocks })?;
            (self.progress)(blocks);
            done = done.saturating_add(blocks);
        }
        let header = JournalHeader {
            uuid: self.identity.uuid,
            // Both have the same counter: they say the same, so either may be written over first.
            counter: 1,
            flags: HEADER_CLEAN,
            newest_generation: Generation(1),
            tail: Tail {
                position: Position(0),
                sequence: Sequence(1),
                generation: Generation(1),
                previous_crc: 0,
            },
            next_transaction: TransactionId(1),
            totals: self.totals(),
            ring_bytes: ring_blocks.saturating_mul(BLOCK_BYTES as u64),
            stable_sequence: Sequence(0),
            reserved: [0; 24],
        };
        for block in [self.plan.journal_start, self.plan.journal_start.next()] {
            header.write(self.platform, &mut self.block, self.geometry.filesystem_id, block)?;
            self.emit(block)?;
        }
        Ok(())
    }

    /// Bitmaps and header of a group.
    fn group(&mut self, group: GroupNo) -> Result {
        let geometry = self.geometry;
        let table_mark = if group.0 == 0 { FIRST_FREE.0 as u32 } else { 0 };
        let mut header = Buffer::zeroed(BLOCK_BYTES)?;
        let at = geometry.header_of(group);
        let filesystem_id = geometry.filesystem_id;
        Stamp { kind: BlockKind::GroupHeader, block: at, owner: u64::from(group.0), filesystem_id }
            .begin(&mut header)?;
        GroupHeader { group, flags: 0, blocks: geometry.blocks_of(group), table_mark, reserved: [0; 16] }
            .encode(&mut header, HEADER_OFFSET)?;
        let kinds =
            [(BitmapKind::Blocks, geometry.block_bitmaps()), (BitmapKind::Inodes, geometry.inode_bitmaps())];
        for (kind, bitmaps) in kinds {
            for index in 0..bitmaps {
                let mut free = bitmap::implied(&mut self.block, &geometry, group, kind, index);
                if kind == BitmapKind::Blocks {
                    free = free.saturating_sub(self.take_orphan_index(group, index));
                }
                let crc = self.platform.crc32c(0, &self.block);
                BitmapEntry { crc, free, sequence: Sequence(0) }
                    .encode(&mut header, kind.entry_offset(index))?;
                self.emit(geometry.bitmap_of(group, kind, index))?;
            }
        }
        block_header::seal(self.platform, &mut header, Sequence(0))?;
        self.block = header;
        self.emit(at)
    }

    /// Sets the bits of the orphan index, as far as they lie in this block of the block bitmap; returns how many those are.
    fn take_orphan_index(&mut self, group: GroupNo, index: u32) -> u32 {
        let run = self.plan.orphan_run();
        let mut taken = 0_u32;
        for block in (run.start.0..run.end().0).map(BlockNo) {
            let place = self.geometry.locate_block(block).filter(|(of, _)| *of == group);
            let before = index.saturating_mul(BITMAP_BITS);
            let Some(bit) =
                place.and_then(|(_, bit)| bit.checked_sub(before)).filter(|bit| *bit < BITMAP_BITS)
            else {
                continue;
            };
            let unchanged = bitmap::set_range(&mut self.block, bit, 1);
            taken = taken.saturating_add(1).saturating_sub(unchanged);
        }
        taken
    }

    /// The table blocks of the reserved inodes: the orphan index, the root directory; the other slots stay zero, as never used.
    fn reserved_inodes(&mut self) -> Result {
        let orphan_index = self.orphan_inode()?;
        let mut root = self.new_inode(ROOT, MODE_DIRECTORY | 0o755)?;
        root.core.links = 2;
        root.core.parent = ROOT;
        for first in (0..FIRST_FREE.0).step_by(INODES_PER_BLOCK as usize) {
            self.block.fill(0);
            for inode in [&orphan_index, &root] {
                let place = self.geometry.locate_inode(inode.number())?;
                if (first..first.saturating_add(PER_TABLE_BLOCK)).contains(&inode.number().0) {
                    let slot = self.block.get_mut(place.offset..).ok_or(Error::InvalidArgument)?;
                    inode.encode(self.platform, slot)?;
                }
            }
            let table = self.geometry.table_of(GroupNo(0));
            self.emit(BlockNo(table.0.saturating_add(first / PER_TABLE_BLOCK)))?;
        }
        Ok(())
    }

    fn orphan_inode(&self) -> Result<Owned<Inode>> {
        let run = self.plan.orphan_run();
        let mut inode = self.new_inode(ORPHAN_INDEX, MODE_REGULAR | 0o600)?;
        inode.core.links = 1;
        inode.core.blocks = run.blocks;
        inode.core.size_bytes = run.blocks.saturating_mul(BLOCK_BYTES as u64);
        inode.resize_map(TreeHeader::SIZE.saturating_add(Extent::SIZE))?;
        TreeHeader { level: 0, count: 1, reserved: 0 }.encode(inode.map_mut(), 0)?;
        Extent { file_block: FileBlock(0), block: run.start, blocks: self.plan.orphan_blocks, flags: 0 }
            .encode(inode.map_mut(), TreeHeader::SIZE)?;
        Ok(inode)
    }

    fn new_inode(&self, number: InodeNo, mode: u16) -> Result<Owned<Inode>> {
        // Random enough, and the same again for the same identity: handles to an earlier filesystem's root are stale.
        let generation = InodeGeneration(self.geometry.filesystem_id as u32);
        let now_ns = i64::try_from(self.identity.created_ns).unwrap_or(i64::MAX);
        Inode::new(
            number,
            generation,
            &NewInode { mode, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns },
        )
    }

    fn orphan_index(&mut self) -> Result {
        let run = self.plan.orphan_run();
        for block in (run.start.0..run.end().0).map(BlockNo) {
            self.block.fill(0);
            let filesystem_id = self.geometry.filesystem_id;
            Stamp { kind: BlockKind::OrphanIndex, block, owner: ORPHAN_INDEX.0, filesystem_id }
                .begin(&mut self.block)?;
            block_header::seal(self.platform, &mut self.block, Sequence(0))?;
            self.emit(block)?;
        }
        Ok(())
    }

    fn superblock_copy(&mut self, superblock: &Superblock, at: BlockNo) -> Result {
        superblock.write_copy(self.platform, &mut self.block, at)?;
        self.emit(at)
    }

    fn superblock(&self) -> Result<Owned<Superblock>> {
        let (plan, identity, totals) = (self.plan, self.identity, self.totals());
        let no_error = ErrorRecord { time_ns: 0, block: BlockNo(0), check: 0, errno: 0 };
        let superblock = Superblock {
            uuid: identity.uuid,
            label: identity.label,
            format_version: FORMAT_VERSION,
            block_shift: BLOCK_SHIFT,
            feature_compat: 0,
            feature_ro_compat: 0,
            feature_incompat: 0,
            filesystem_id: self.geometry.filesystem_id,
            device_blocks: plan.device_blocks,
            group_blocks: plan.group_blocks,
            group_count: plan.group_count,
            inodes_per_group: plan.inodes_per_group,
            physical_block_bytes: plan.physical_block_bytes,
            first_group_block: plan.first_group_block,
            journal_start: plan.journal_start,
            journal_blocks: plan.journal_blocks,
            journal_device_uuid: [0; 16],
            root_inode: ROOT,
            orphan_inode: ORPHAN_INDEX,
            hash_key: identity.hash_key,
            reserve_blocks: plan.reserve_blocks,
            created_ns: identity.created_ns,
            default_options: [0; 128],
            update_counter: 1,
            state: 0,
            mount_count: 0,
            mounted_ns: 0,
            unmounted_ns: 0,
            checked_ns: identity.created_ns,
            free_blocks: totals.free_blocks,
            free_inodes: totals.free_inodes,
            initialised_groups: totals.initialised_groups,
            recovery_attempts: 0,
            first_error: no_error,
            last_error: no_error,
            error_count: 0,
            recovery: no_recovery(),
            quota_inodes: [0; 24],
            multi_mount: [0; 24],
            growth_target_blocks: 0,
            object_directory: InodeNo(0),
            reserved: [0; 64],
        };
        // What was planned must be what a mount accepts.
        Geometry::new(&superblock, self.device.blocks())?;
        Ok(Owned::try_new(superblock)?)
    }
}

const fn no_recovery() -> RecoveryReport {
    RecoveryReport {
        time_ns: 0,
        duration_ns: 0,
        first_sequence: Sequence(0),
        end_sequence: Sequence(0),
        transactions: 0,
        items: 0,
        discarded_records: 0,
        orphans: 0,
        stop: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 and the powers of 3.
    fn group_has_copy(group: &GroupNo) -> bool {
        group.0 == 0 || (0..20).any(|power| 3_u32.pow(power) == group.0)
    }

    #[test]
    fn copies_stand_where_the_format_says() {
        for group_count in [1, 2, 3, 4, 81, 82, 1000] {
            let expected: Vec<_> = (0..group_count).map(GroupNo).filter(group_has_copy).collect();
            assert_eq!(groups_with_copy(group_count).collect::<Vec<_>>(), expected);
        }
    }
}
