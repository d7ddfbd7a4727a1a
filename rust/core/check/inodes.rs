// SPDX-License-Identifier: GPL-2.0

//! Every inode below the marks: verified, its map walked, its blocks claimed.

use super::claims::{each_run, Slot};
use super::directories::Directory;
use super::{Checker, Phase, Severity};
use crate::attributes;
use crate::error::{Check, Error, Result};
use crate::format::extent::Extent;
use crate::format::group::INODES_PER_BLOCK;
use crate::format::inode::{
    file_type, MapKind, FIRST_FREE, INODE_BYTES, MODE_DIRECTORY, MODE_REGULAR, MODE_SYMLINK, MODE_TYPE,
    ORPHAN_INDEX, ROOT, TYPE_DIRECTORY,
};
use crate::inode::Inode;
use crate::memory::{Buffer, Owned};
use crate::symlink;
use crate::units::{blocks_for_bytes, BlockNo, GroupNo, InodeNo, BLOCK_BYTES};
use crate::verify;

/// Blocks of an inode table that are read together.
const TABLE_READ_BLOCKS: u32 = 64;

/// What a walk over a file's runs has seen.
#[derive(Default)]
struct Walk {
    blocks: u64,
    extents: u64,
    /// The extent before.
    previous: Option<Extent>,
    /// Two extents that are one.
    unjoined: Option<Extent>,
}

impl Checker<'_> {
    /// Every inode below the groups' marks.
    pub(super) fn check_inodes(&mut self) -> Result {
        self.each_inode(Phase::Inodes, &mut |checker, number, block| {
            let geometry = checker.subject.geometry;
            match verify::inode(checker.subject.platform, geometry, block, number) {
                Ok(inode) if inode.core.is_free() => Ok(()),
                Ok(inode) => checker.check_inode(&inode),
                Err(Error::Stale) => Ok(()),
                Err(error) => {
                    checker.note(error, Severity::Damage, number)?;
                    checker.set_slot(number, 0, Slot::BROKEN);
                    (checker.blocks_complete, checker.names_complete) = (false, false);
                    Ok(())
                }
            }
        })?;
        self.check_reserved()
    }

    /// Shows every slot below the marks that is not all zero, with its block of the table.
    pub(super) fn each_inode(
        &mut self,
        phase: Phase,
        visit: &mut dyn FnMut(&mut Self, InodeNo, &[u8]) -> Result,
    ) -> Result {
        let total =
            self.groups.iter().fold(0_u64, |sum, (_, state)| sum.saturating_add(state.slots.len() as u64));
        let mut done = 0_u64;
        for group in (0..self.initialised_groups).map(GroupNo) {
            let marks = self.groups.get(group).map_or(0, |state| state.slots.len());
            let blocks = (marks as u32).div_ceil(INODES_PER_BLOCK);
            let mut first = 0;
            while first < blocks {
                let count = blocks.saturating_sub(first).min(TABLE_READ_BLOCKS);
                self.each_in_table(group, first, count, visit)?;
                first = first.saturating_add(count);
                done = done.saturating_add(u64::from(count.saturating_mul(INODES_PER_BLOCK)));
                self.advance(phase, done.min(total), total);
            }
        }
        Ok(())
    }

    fn each_in_table(
        &mut self,
        group: GroupNo,
        first: u32,
        count: u32,
        visit: &mut dyn FnMut(&mut Self, InodeNo, &[u8]) -> Result,
    ) -> Result {
        let geometry = self.subject.geometry;
        let mut table = Buffer::zeroed((count as usize).saturating_mul(BLOCK_BYTES))?;
        let start = BlockNo(geometry.table_of(group).0.saturating_add(u64::from(first)));
        self.subject.device.read(start, &mut table)?;
        for (index, block) in (first..first.saturating_add(count)).zip(table.chunks_exact(BLOCK_BYTES)) {
            let before = index.saturating_mul(INODES_PER_BLOCK);
            let slots = before..before.saturating_add(INODES_PER_BLOCK);
            for (slot, bytes) in slots.zip(block.chunks_exact(INODE_BYTES)) {
                if bytes.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let number = geometry.inode_at(group, slot);
                if number.0 == 0 {
                    // The number names none, so the slot is never used.
                    self.report(Check::InodeRange, Severity::Wrong, number, 0, 1)?;
                    continue;
                }
                visit(self, number, block)?;
            }
        }
        Ok(())
    }

    /// An inode by its number, from its table: [`Error::Stale`] when it is free or above the mark.
    pub(super) fn load_inode(&mut self, number: InodeNo) -> Result<Owned<Inode>> {
        let place = self.subject.geometry.locate_inode(number)?;
        let marks = self.groups.get(place.group).map_or(0, |state| state.slots.len());
        if place.index as usize >= marks {
            return Err(Error::Stale);
        }
        if self.table.as_ref().is_none_or(|(block, _)| *block != place.block) {
            self.table = Some((place.block, self.reader.read_raw(place.block)?));
        }
        let bytes = self.table.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        verify::inode(self.subject.platform, self.subject.geometry, bytes, number)
    }

    fn set_slot(&mut self, number: InodeNo, declared: u32, file_type: u8) {
        if let Some(slot) = self.slot_mut(number) {
            *slot = Slot { declared, names: 0, file_type };
        }
    }

    fn check_inode(&mut self, inode: &Inode) -> Result {
        let (number, core) = (inode.number(), &inode.core);
        self.set_slot(number, core.links, file_type(core.mode).unwrap_or(Slot::BROKEN));
        let count = match core.mode & MODE_TYPE {
            MODE_REGULAR => &mut self.summary.files,
            MODE_DIRECTORY => &mut self.summary.directories,
            MODE_SYMLINK => &mut self.summary.symlinks,
            _ => &mut self.summary.special_files,
        };
        // The orphan index is nobody's file.
        *count = count.saturating_add(u64::from(number != ORPHAN_INDEX));
        if number < FIRST_FREE && number != ROOT && number != ORPHAN_INDEX {
            self.report(Check::InodeRange, Severity::Wrong, number, FIRST_FREE.0, number.0)?;
        }
        let is_readable = self.check_map(inode)?;
        if core.is_directory() {
            self.directories.push(Directory::new(number, core.parent, is_readable))?;
            self.names_complete &= is_readable;
        }
        if let Err(error) = attributes::check(self.reader, inode) {
            self.note(error, Severity::Damage, number)?;
        }
        if matches!(inode.map_kind(), MapKind::Symlink | MapKind::SymlinkBlock) {
            self.check_target(inode)?;
        }
        Ok(())
    }

    /// Walks the map and claims its blocks; whether all of it could be walked.
    fn check_map(&mut self, inode: &Inode) -> Result<bool> {
        let reader = self.reader;
        let mut walk = Walk::default();
        self.stray = None;
        let outcome = each_run(reader, inode, &mut |run, extent| {
            walk.blocks = walk.blocks.saturating_add(run.blocks);
            if let Some(extent) = extent {
                walk.extents = walk.extents.saturating_add(1);
                if walk.previous.is_some_and(|previous| previous.continues_with(extent)) {
                    walk.unjoined = walk.unjoined.or(Some(*extent));
                }
                walk.previous = Some(*extent);
            }
            self.claim(run)
        });
        self.summary.extents = self.summary.extents.saturating_add(walk.extents);
        let number = inode.number();
        if let Some(block) = self.stray {
            self.report(
                Check::BlockRange,
                Severity::Damage,
                number,
                u64::from(self.initialised_groups),
                block.0,
            )?;
        }
        if let Err(error) = outcome {
            // The size of a directory is looked at when all of its blocks were good.
            let is_readable = matches!(error, Error::Corrupt(corruption) if corruption.check == Check::Size);
            let severity = if is_readable { Severity::Wrong } else { Severity::Damage };
            self.note(error, severity, number)?;
            self.blocks_complete &= is_readable;
            return Ok(is_readable);
        }
        self.check_walk(inode, &walk)?;
        Ok(true)
    }

    fn check_walk(&mut self, inode: &Inode, walk: &Walk) -> Result {
        let (number, core) = (inode.number(), &inode.core);
        if walk.blocks != core.blocks {
            self.report(Check::BlockCount, Severity::Wrong, number, walk.blocks, core.blocks)?;
        }
        if let Some(extent) = walk.unjoined {
            self.report(Check::Order, Severity::Wrong, number, 0, extent.file_block.0)?;
        }
        let end = walk.previous.map_or(0, |last| last.end().0);
        let size_blocks = blocks_for_bytes(core.size_bytes);
        // Orphans are cut from behind, step by step, after their size was set.
        if end > size_blocks && self.orphans.get(number).is_none() {
            self.report(Check::Size, Severity::Wrong, number, size_blocks, end)?;
        }
        Ok(())
    }

    /// A symbolic link's target can be read, and holds no zero byte.
    fn check_target(&mut self, inode: &Inode) -> Result {
        let reader = self.reader;
        let mut has_zero = false;
        let outcome = symlink::target(reader, inode, &mut |piece| {
            has_zero |= piece.contains(&0);
            Ok(())
        });
        match outcome {
            Ok(()) if has_zero => self.report(Check::Name, Severity::Wrong, inode.number(), 0, 1),
            Ok(()) => Ok(()),
            Err(error) => self.note(error, Severity::Damage, inode.number()),
        }
    }

    /// Without root and orphan index there is no filesystem.
    fn check_reserved(&mut self) -> Result {
        const TYPE_REGULAR: u8 = (MODE_REGULAR >> 12) as u8;
        for (number, wanted) in [(ORPHAN_INDEX, TYPE_REGULAR), (ROOT, TYPE_DIRECTORY)] {
            let slot = self.slot(number).unwrap_or(Slot::FREE);
            if slot.file_type != wanted && !slot.is_broken() {
                let found = u64::from(slot.file_type);
                self.report(Check::FileType, Severity::Damage, number, u64::from(wanted), found)?;
                self.names_complete &= number != ROOT;
            }
        }
        Ok(())
    }
}
