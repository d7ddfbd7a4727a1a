// SPDX-License-Identifier: GPL-2.0

//! The orphan index: read before the inodes, since an orphan may be what nothing else may; compared with them afterwards.

use super::{Checker, Finding, Severity};
use crate::blocks::ReadBlocks;
use crate::error::{corrupt, Check, Error, Result};
use crate::extent_map;
use crate::format::inode::{MODE_REGULAR, ORPHAN_INDEX};
use crate::format::orphan::{OrphanKind, Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::units::{blocks_for_bytes, BlockNo, FileBlock, InodeNo};

/// What the index says of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    /// It has no links and is to be freed.
    pub(super) is_inode: bool,
    /// What lies behind its size is to be freed.
    pub(super) is_truncate: bool,
    /// The block of the index that says so.
    block: BlockNo,
}

const TYPE_REGULAR: u8 = (MODE_REGULAR >> 12) as u8;

impl Checker<'_> {
    /// Reads the index.
    pub(super) fn read_orphans(&mut self) -> Result {
        let outcome = match self.load_inode(ORPHAN_INDEX) {
            Ok(index) => self.read_index(&index),
            Err(error) => Err(error),
        };
        match outcome {
            // The inode's own fault is found again with all inodes, and reported there.
            Ok(()) | Err(Error::Stale) => Ok(()),
            Err(error) => self.note(error, Severity::Damage, ORPHAN_INDEX),
        }
    }

    fn read_index(&mut self, index: &Inode) -> Result {
        let reader = self.reader;
        let mut next = FileBlock(0);
        while next.0 < blocks_for_bytes(index.core.size_bytes) {
            let extent =
                extent_map::next_from(reader, index, next)?.filter(|extent| extent.file_block <= next);
            let Some(extent) = extent else {
                let at = self.subject.geometry.locate_inode(ORPHAN_INDEX)?.block;
                return corrupt(Check::Size, at, next.0, blocks_for_bytes(index.core.size_bytes));
            };
            let block = BlockNo(extent.block.0.saturating_add(next.0.saturating_sub(extent.file_block.0)));
            self.read_index_block(block)?;
            next = next.next();
        }
        Ok(())
    }

    fn read_index_block(&mut self, block: BlockNo) -> Result {
        let reader = self.reader;
        let bytes = reader.read(BlockKind::OrphanIndex, ORPHAN_INDEX, block)?;
        for index in 0..SLOTS_PER_BLOCK {
            let offset = SLOTS_OFFSET.saturating_add((index as usize).saturating_mul(Slot::SIZE));
            let slot = Slot::decode(&bytes, offset)?;
            if let Some(kind) = OrphanKind::from_number(slot.kind) {
                self.summary.orphans = self.summary.orphans.saturating_add(1);
                self.enter(slot.inode, kind, block)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, inode: InodeNo, kind: OrphanKind, block: BlockNo) -> Result {
        let mut orphan = Orphan { is_inode: false, is_truncate: false, block };
        orphan = self.orphans.get(inode).copied().unwrap_or(orphan);
        let is_there = match kind {
            OrphanKind::Inode => &mut orphan.is_inode,
            OrphanKind::Truncate => &mut orphan.is_truncate,
        };
        let twice = core::mem::replace(is_there, true);
        self.orphans.insert(inode, orphan)?;
        if twice {
            let (check, severity) = (Check::OrphanSlot, Severity::Wrong);
            self.emit(&Finding { check, severity, inode, block, expected: 1, found: 2 })?;
        }
        Ok(())
    }

    /// Whether the index says that an inode is to be freed.
    pub(super) fn is_orphan(&self, inode: InodeNo) -> bool {
        self.orphans.get(inode).is_some_and(|orphan| orphan.is_inode)
    }

    /// Every orphan against its inode.
    pub(super) fn check_orphans(&mut self) -> Result {
        let mut next = self.orphans.first().map(|(inode, orphan)| (inode, *orphan));
        while let Some((inode, orphan)) = next {
            self.check_orphan(inode, &orphan)?;
            next = self.orphans.next_after(inode).map(|(inode, orphan)| (inode, *orphan));
        }
        Ok(())
    }

    fn check_orphan(&mut self, inode: InodeNo, orphan: &Orphan) -> Result {
        let slot = self.slot(inode).filter(|slot| !slot.is_free());
        let (expected, found) = match slot {
            Some(slot) if slot.is_broken() => return Ok(()),
            None => (1, 0),
            Some(slot) if orphan.is_inode && slot.declared != 0 => (0, u64::from(slot.declared)),
            Some(slot) if orphan.is_truncate && slot.file_type != TYPE_REGULAR => {
                (u64::from(TYPE_REGULAR), u64::from(slot.file_type))
            }
            Some(_) => return Ok(()),
        };
        let (check, severity, block) = (Check::OrphanSlot, Severity::Wrong, orphan.block);
        self.emit(&Finding { check, severity, inode, block, expected, found })
    }
}
