// SPDX-License-Identifier: GPL-2.0

//! Preparing a handle to close: everything that can fail or wait.
//!
//! Blocks are compared with what they were, so that exactly what has changed is logged and no change can be forgotten; bits are
//! cut at the ends of bitmap blocks; memory for every place in every map of the journal is taken. What the journal knows of
//! groups (marks, which are initialised) is asked under its mutex and may move on before the handle closes, but only so that
//! less has to be logged than was prepared for.

use super::Handle;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::group::{BitmapKind, BITMAP_BITS, INODES_PER_BLOCK};
use crate::format::inode::INODE_BYTES;
use crate::format::BlockKind;
use crate::journal::bits::BitMasks;
use crate::journal::object::{BitmapKey, ObjectKey, OrphanObject};
use crate::journal::prepared::{
    BitChange, MarkNeeded, Member, Prepared, PreparedBitmap, PreparedBlock, PreparedFree, PreparedInode,
    PreparedNote, PreparedOrphanBlock, PreparedTable,
};
use crate::journal::transaction::Freed;
use crate::journal::words::WordSet;
use crate::memory::{Buffer, OrderedMap, Owned, Shared};
use crate::orphans::Orphans;
use crate::space::group::Group;
use crate::space::GroupRun;
use crate::units::{BlockNo, BlockRun, GroupNo};

/// The mark of an inode table with which the inode `index` of its group is initialised.
pub(super) const fn mark_for(index: u32) -> u32 {
    (index / INODES_PER_BLOCK).saturating_add(1).saturating_mul(INODES_PER_BLOCK)
}

fn member() -> Result<Member> {
    Ok(OrderedMap::<ObjectKey, u64>::reserve()?)
}

impl Handle<'_> {
    /// Everything that closing needs. The handle's blocks are consumed; its inodes stay, for who closes it.
    pub(super) fn prepare(&mut self) -> Result<Owned<Prepared>> {
        let mut prepared = Prepared::try_new()?;
        prepared.data_mark = self.data_mark;
        if !self.note.is_empty() {
            let node = OrderedMap::<u64, Buffer>::reserve()?;
            prepared.note = Some(PreparedNote { body: Buffer::copy_of(&self.note)?, node });
        }
        self.prepare_blocks(&mut prepared)?;
        self.prepare_inodes(&mut prepared)?;
        self.prepare_frees(&mut prepared)?;
        self.prepare_bits(&mut prepared)?;
        self.prepare_groups(&mut prepared)?;
        self.prepare_tables(&mut prepared)?;
        for change in &self.slots {
            prepared.slots.push(*change)?;
            prepared.slot_members.insert(change.block, member()?)?;
        }
        Ok(prepared)
    }

    #[inline(never)] // For the stack, as those that follow: each has large values of its own.
    fn prepare_blocks(&mut self, prepared: &mut Prepared) -> Result {
        while let Some((block, private)) = self.blocks.pop_first() {
            let changed = match &private.original {
                Some(original) => WordSet::difference(original, &private.bytes),
                None => WordSet::nonzero(&private.bytes),
            };
            if changed.is_empty() {
                continue;
            }
            if private.kind == BlockKind::OrphanIndex {
                // Its slots are changed one by one from now on, by many handles; here it can only be new.
                let node = OrderedMap::<BlockNo, OrphanObject>::reserve()?;
                let new = PreparedOrphanBlock { content: private.bytes, node, member: member()? };
                prepared.orphan_blocks.insert(block, new)?;
                self.new_index_block = Some((Orphans::reserve_block()?, block));
                continue;
            }
            let change = PreparedBlock {
                content: Shared::try_new(private.bytes)?,
                kind: private.kind,
                owner: private.owner,
                changed,
                fresh: private.original.is_none(),
                node: OrderedMap::<BlockNo, crate::journal::object::BlockObject>::reserve()?,
                member: member()?,
            };
            prepared.blocks.insert(block, change)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn prepare_inodes(&self, prepared: &mut Prepared) -> Result {
        for (number, inode) in self.inodes.iter() {
            let mut image = Buffer::zeroed(INODE_BYTES)?;
            inode.encode_unsealed(&mut image)?;
            let node = OrderedMap::<_, crate::journal::object::InodeObject>::reserve()?;
            prepared.inodes.insert(number, PreparedInode { image, node, member: member()? })?;
        }
        Ok(())
    }

    #[inline(never)]
    fn prepare_frees(&self, prepared: &mut Prepared) -> Result {
        for block in &self.freed_blocks {
            prepared.revokes.insert(*block, OrderedMap::<BlockNo, ()>::reserve()?)?;
            self.prepare_free(prepared, BlockRun { start: *block, blocks: 1 }, true)?;
        }
        for run in &self.freed_data {
            self.prepare_free(prepared, *run, false)?;
        }
        Ok(())
    }

    fn prepare_free(&self, prepared: &mut Prepared, run: BlockRun, metadata: bool) -> Result {
        let freed = Freed { blocks: run.blocks, metadata, release: Group::reserve_release()? };
        let node = OrderedMap::<BlockNo, Freed>::reserve()?;
        prepared.freed.insert(run.start, PreparedFree { freed, node })?;
        Ok(())
    }

    #[inline(never)]
    fn prepare_bits(&self, prepared: &mut Prepared) -> Result {
        for block in &self.taken {
            self.change_bits(prepared, BlockRun { start: *block, blocks: 1 }, true)?;
        }
        for run in &self.mapped {
            self.in_group(*run, &mut |group, run| group.isolate(run))?;
            self.change_bits(prepared, *run, true)?;
        }
        for block in &self.freed_blocks {
            self.change_bits(prepared, BlockRun { start: *block, blocks: 1 }, false)?;
        }
        for run in &self.freed_data {
            self.change_bits(prepared, *run, false)?;
        }
        let inodes = self.taken_inodes.iter().map(|number| (*number, true));
        for (number, value) in inodes.chain(self.freed_inodes.iter().map(|number| (*number, false))) {
            let place = self.environment.geometry().locate_inode(number)?;
            let key =
                BitmapKey { group: place.group, kind: BitmapKind::Inodes, index: place.index / BITMAP_BITS };
            self.change_bits_of(
                prepared,
                BitChange { key, start: place.index % BITMAP_BITS, bits: 1, value },
            )?;
        }
        Ok(())
    }

    fn change_bits(&self, prepared: &mut Prepared, run: BlockRun, value: bool) -> Result {
        let (group, run) = GroupRun::locate(self.environment.geometry(), run)?;
        let mut start = run.start;
        while start < run.end() {
            let index = start / BITMAP_BITS;
            let end = run.end().min(index.saturating_add(1).saturating_mul(BITMAP_BITS));
            let key = BitmapKey { group, kind: BitmapKind::Blocks, index };
            let bits = end.saturating_sub(start);
            self.change_bits_of(prepared, BitChange { key, start: start % BITMAP_BITS, bits, value })?;
            start = end;
        }
        Ok(())
    }

    fn change_bits_of(&self, prepared: &mut Prepared, change: BitChange) -> Result {
        // A bit that is to change twice belongs to two objects: extents of a damaged or hostile image.
        let end = change.start.saturating_add(change.bits);
        let twice = |other: &&BitChange| {
            other.key == change.key
                && other.start < end
                && change.start < other.start.saturating_add(other.bits)
        };
        if prepared.bits.iter().find(twice).is_some() {
            let geometry = self.environment.geometry();
            let at = geometry.bitmap_of(change.key.group, change.key.kind, change.key.index);
            return corrupt(Check::Shared, at, 1, 2);
        }
        prepared.bits.push(change)?;
        self.prepare_bitmap(prepared, change.key)?;
        if let Some(bitmap) = prepared.bitmaps.get_mut(change.key) {
            bitmap.changes = true;
        }
        Ok(())
    }

    fn prepare_bitmap(&self, prepared: &mut Prepared, key: BitmapKey) -> Result {
        if prepared.bitmaps.contains_key(key) {
            return Ok(());
        }
        self.load_group(key.group)?;
        let mut has_masks = false;
        self.environment.with_journal(&mut |journal| {
            has_masks = journal.has_masks(key);
            Ok(())
        })?;
        let masks = if has_masks { None } else { Some(BitMasks::try_new()?) };
        prepared.bitmaps.insert(key, PreparedBitmap { changes: false, masks, member: member()? })?;
        Ok(())
    }

    /// The groups whose bitmaps change; and, whole, those that the log does not know yet up to the last of them.
    fn prepare_groups(&self, prepared: &mut Prepared) -> Result {
        let mut logged = 0;
        self.environment.with_journal(&mut |journal| {
            logged = journal.totals().initialised_groups;
            Ok(())
        })?;
        let mut last = None;
        for (key, _) in prepared.bitmaps.iter() {
            last = last.max(Some(key.group));
            if !prepared.groups.contains_key(key.group) {
                prepared.groups.insert(key.group, member()?)?;
            }
        }
        let geometry = self.environment.geometry();
        for group in (logged..last.map_or(0, |group: GroupNo| group.0.saturating_add(1))).map(GroupNo) {
            if !prepared.groups.contains_key(group) {
                prepared.groups.insert(group, member()?)?;
            }
            for index in 0..geometry.block_bitmaps() {
                self.prepare_bitmap(prepared, BitmapKey { group, kind: BitmapKind::Blocks, index })?;
            }
            for index in 0..geometry.inode_bitmaps() {
                self.prepare_bitmap(prepared, BitmapKey { group, kind: BitmapKind::Inodes, index })?;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn prepare_tables(&self, prepared: &mut Prepared) -> Result {
        let geometry = *self.environment.geometry();
        for number in &self.taken_inodes {
            let place = geometry.locate_inode(*number)?;
            let mark = mark_for(place.index);
            let mut logged = 0;
            self.environment.with_journal(&mut |journal| {
                logged = journal.table_mark(place.group).ok_or(Error::ShutDown)?;
                Ok(())
            })?;
            prepared.marks.push(MarkNeeded { group: place.group, mark })?;
            for table_block in (logged / INODES_PER_BLOCK)..(mark / INODES_PER_BLOCK) {
                let block = geometry
                    .table_of(place.group)
                    .checked_add(u64::from(table_block))
                    .ok_or(Error::ShutDown)?;
                let node = OrderedMap::<BlockNo, crate::journal::object::TableObject>::reserve()?;
                prepared.tables.insert(block, PreparedTable { node, member: member()? })?;
            }
        }
        Ok(())
    }
}
