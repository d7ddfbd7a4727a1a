// SPDX-License-Identifier: GPL-2.0

//! Closing a handle: its private changes become everybody's, at once and whole.
//!
//! First everything that could be wrong is checked (bits that should flip and have the value already, blocks of unknown
//! groups): then nothing has changed, and the handle fails alone. Then all is applied; there is no way to fail any more.
//!
//! A group that the log does not know yet is logged whole the first time one of its bits changes, with every group before
//! it: their bitmaps are *fresh*, and replay begins from the implied ones. In the same way a table block that comes below the
//! mark is logged as zero by whichever handle closes first. So no handle depends on what another open one has not
//! yet logged.

use crate::bitmap;
use crate::error::{corrupt, Check, Result};
use crate::format::group::{BitmapKind, INODES_PER_BLOCK};
use crate::format::orphan::{Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::journal::encode;
use crate::journal::object::{
    BitmapKey, BlockObject, InodeObject, LogState, ObjectKey, OrphanObject, TableObject,
};
use crate::journal::prepared::{
    BitChange, Member, Prepared, PreparedBitmap, PreparedBlock, PreparedInode, SlotChange,
};
use crate::journal::ring::Reservation;
use crate::journal::words::WordSet;
use crate::journal::Journal;
use crate::memory::Owned;
use crate::units::{BlockNo, InodeNo, OrphanSlot, TransactionId, BLOCK_BYTES};

impl Journal {
    /// Closes a handle, and takes back its reservation: its changes are in the running transaction, whose number is returned.
    pub fn close(
        &mut self,
        reservation: &Reservation,
        mut prepared: Owned<Prepared>,
    ) -> Result<TransactionId> {
        let checked = self.check().and_then(|()| self.check_prepared(&prepared));
        let checked = checked.and_then(|()| {
            let (bytes, logged) = (self.closing_bytes(&prepared), self.logged_after(&prepared));
            self.draw_structure(reservation, bytes, logged)
        });
        self.release_reservation(reservation);
        checked?;
        let transaction = self.running.id;
        self.apply_bits(&mut prepared);
        self.apply_tables(&mut prepared);
        self.apply_orphan_blocks(&mut prepared);
        self.apply_slots(&mut prepared);
        while let Some((number, inode)) = prepared.inodes.pop_first() {
            self.apply_inode(number, inode);
        }
        while let Some((block, change)) = prepared.blocks.pop_first() {
            self.apply_block(block, change);
        }
        self.apply_frees(&mut prepared);
        self.running.data_mark = self.running.data_mark.max(prepared.data_mark);
        if let Some(note) = prepared.note.take() {
            let bytes = encode::item_bytes(note.body.len());
            self.running.bytes = self.running.bytes.saturating_add(bytes as u64);
            self.running.notes.insert_reserved(note.node, self.running.handles, note.body);
        }
        self.running.handles = self.running.handles.saturating_add(1);
        Ok(transaction)
    }

    fn check_prepared(&self, prepared: &Prepared) -> Result {
        for change in &prepared.bits {
            let at = self.geometry.bitmap_of(change.key.group, change.key.kind, change.key.index);
            let Some(object) = self.bitmaps.get(change.key) else {
                return corrupt(Check::Bitmap, at, 1, 0);
            };
            let in_range = change.start.saturating_add(change.bits);
            if in_range > self.geometry.bits_of(change.key.group, change.key.kind, change.key.index) {
                return corrupt(Check::Bitmap, at, (BLOCK_BYTES * 8) as u64, u64::from(in_range));
            }
            let ones = bitmap::count_ones(&object.bits, change.start, change.bits);
            let expected = if change.value { 0 } else { change.bits };
            if ones != expected {
                return corrupt(Check::Bitmap, at, u64::from(expected), u64::from(ones));
            }
        }
        for slot in &prepared.slots {
            if !self.orphans.contains_key(slot.block) {
                return corrupt(Check::OrphanSlot, slot.block, 1, u64::from(slot.slot.0));
            }
        }
        Ok(())
    }

    /// Groups [0, n) are known to the log when the handle has closed.
    fn logged_after(&self, prepared: &Prepared) -> u32 {
        let logged = self.totals.initialised_groups;
        prepared.groups.iter().fold(logged, |logged, (group, _)| logged.max(group.0.saturating_add(1)))
    }

    /// Whether a closing handle has to log this bitmap: it changes it, or makes its group known. Others of its bitmaps were made
    /// known meanwhile by somebody else.
    fn joins(&self, key: BitmapKey, bitmap: &PreparedBitmap) -> bool {
        bitmap.changes || key.group.0 >= self.totals.initialised_groups
    }

    /// The most bytes that closing the handle adds to the running transaction.
    fn closing_bytes(&self, prepared: &Prepared) -> u64 {
        let times = |count: usize, bytes: usize| (count as u64).saturating_mul(bytes as u64);
        let bitmaps = prepared.bitmaps.iter().filter(|(key, bitmap)| self.joins(*key, bitmap));
        let bitmaps = bitmaps.fold(0_u64, |sum, (_, bitmap)| {
            let bytes = if bitmap.changes { encode::BITMAP_BYTES_MAX } else { encode::FRESH_BITMAP_BYTES };
            sum.saturating_add(bytes as u64)
        });
        let zeros = prepared.tables.iter().filter(|(block, _)| self.is_above_mark(*block));
        // Not `count()`, which could overflow for all that the compiler knows.
        let zeros = zeros.fold(0_usize, |zeros, _| zeros.saturating_add(1));
        let note = prepared.note.as_ref().map_or(0, |note| encode::item_bytes(note.body.len()));
        [
            times(prepared.blocks.len(), encode::BLOCK_BYTES_MAX),
            times(prepared.inodes.len(), encode::INODE_BYTES_MAX),
            times(prepared.groups.len(), encode::GROUP_BYTES),
            times(prepared.slot_members.len(), encode::SLOTS_BYTES_MAX),
            times(prepared.orphan_blocks.len(), encode::SLOTS_BYTES_MAX),
            times(prepared.revokes.len(), encode::REVOKE_BYTES),
            times(zeros, encode::TABLE_ZERO_BYTES),
            bitmaps,
            note as u64,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Whether a block of an inode table lies above the mark that the log knows.
    fn is_above_mark(&self, block: BlockNo) -> bool {
        let Some((group, _)) = self.geometry.locate_block(block) else {
            return false;
        };
        let first = self.geometry.table_of(group).0;
        let slot = block.0.saturating_sub(first).saturating_mul(u64::from(INODES_PER_BLOCK));
        self.groups.get(group).is_some_and(|object| slot >= u64::from(object.table_mark))
    }

    /// Enters an object into the running transaction, or counts it anew, with `bytes` as the length of its item.
    fn join(&mut self, key: ObjectKey, member: Member, bytes: usize) {
        let bytes = bytes as u64;
        let before = match self.running.objects.get_mut(key) {
            Some(counted) => core::mem::replace(counted, bytes),
            None => {
                self.running.objects.insert_reserved(member, key, bytes);
                0
            }
        };
        self.running.bytes = self.running.bytes.saturating_sub(before).saturating_add(bytes);
        let transaction = self.running.id;
        if let Some(log) = self.log_state(key) {
            log.newest = Some(transaction);
        }
    }

    #[inline(never)] // For the stack: what a map gives or takes passes over it.
    fn apply_bits(&mut self, prepared: &mut Prepared) {
        let logged = self.logged_after(prepared);
        for change in &prepared.bits {
            if let (Some(object), Some(bitmap)) =
                (self.bitmaps.get_mut(change.key), prepared.bitmaps.get_mut(change.key))
            {
                if object.masks.is_none() {
                    object.masks = bitmap.masks.take();
                }
            }
            self.apply_bit_change(change);
        }
        while let Some((key, bitmap)) = prepared.bitmaps.pop_first() {
            let Some(object) = self.bitmaps.get(key).filter(|_| self.joins(key, &bitmap)) else {
                continue;
            };
            let bytes = encode::bitmap_bytes_bound(object);
            self.join(ObjectKey::Bitmap(key), bitmap.member, bytes);
            // A bitmap never goes without its group's header.
            if let Some(member) = prepared.groups.remove(key.group) {
                self.join(ObjectKey::Group(key.group), member, encode::GROUP_BYTES);
            }
        }
        self.totals.initialised_groups = logged;
    }

    fn apply_bit_change(&mut self, change: &BitChange) {
        let Some(object) = self.bitmaps.get_mut(change.key) else {
            return;
        };
        // That every bit has the other value was checked before.
        let flip = if change.value { bitmap::set_range } else { bitmap::clear_range };
        let _ = flip(&mut object.bits, change.start, change.bits);
        if let Some(masks) = &mut object.masks {
            masks.flip(change.start, change.bits);
        }
        let total = match change.key.kind {
            BitmapKind::Blocks => &mut self.totals.free_blocks,
            BitmapKind::Inodes => &mut self.totals.free_inodes,
        };
        let bits = u64::from(change.bits);
        *total = if change.value { total.saturating_sub(bits) } else { total.saturating_add(bits) };
    }

    #[inline(never)] // For the stack: what a map gives or takes passes over it.
    fn apply_tables(&mut self, prepared: &mut Prepared) {
        while let Some((block, table)) = prepared.tables.pop_first() {
            if self.is_above_mark(block) {
                self.tables.insert_reserved(table.node, block, TableObject::default());
                self.join(ObjectKey::Table(block), table.member, encode::TABLE_ZERO_BYTES);
            }
        }
        for needed in &prepared.marks {
            if let Some(object) = self.groups.get_mut(needed.group) {
                object.table_mark = object.table_mark.max(needed.mark);
            }
        }
    }

    /// New blocks of the orphan index follow those that are there.
    #[inline(never)] // For the stack: objects are large.
    fn apply_orphan_blocks(&mut self, prepared: &mut Prepared) {
        while let Some((block, new)) = prepared.orphan_blocks.pop_first() {
            let first_slot = OrphanSlot((self.orphans.len() as u32).saturating_mul(SLOTS_PER_BLOCK));
            let object = OrphanObject {
                log: LogState::default(),
                first_slot,
                changed: WordSet::nonzero(&new.content),
                content: new.content,
                in_flight: WordSet::EMPTY,
                fresh: true,
            };
            let bytes = encode::slots_bytes(&object, &WordSet::EMPTY);
            self.orphans.insert_reserved(new.node, block, object);
            self.join(ObjectKey::Orphans(block), new.member, bytes);
        }
    }

    fn apply_slots(&mut self, prepared: &mut Prepared) {
        for change in &prepared.slots {
            self.apply_slot(change);
        }
        while let Some((block, member)) = prepared.slot_members.pop_first() {
            let Some(object) = self.orphans.get(block) else {
                continue;
            };
            let words = object.logged();
            let bytes = encode::slots_bytes(object, &words);
            self.join(ObjectKey::Orphans(block), member, bytes);
        }
    }

    fn apply_slot(&mut self, change: &SlotChange) {
        let Some(object) = self.orphans.get_mut(change.block) else {
            return;
        };
        let index = (change.slot.0 % SLOTS_PER_BLOCK) as usize;
        let offset = SLOTS_OFFSET.saturating_add(index.saturating_mul(Slot::SIZE));
        let was_used = Slot::decode(&object.content, offset).is_ok_and(|slot| slot.inode.0 != 0);
        // The offset lies in the block: a slot's index is below the number of slots.
        if change.content.encode(&mut object.content, offset).is_ok() {
            object.changed.insert_bytes(offset, Slot::SIZE);
        }
        let is_used = change.content.inode.0 != 0;
        if was_used && !is_used {
            self.totals.orphans = self.totals.orphans.saturating_sub(1);
        } else if is_used && !was_used {
            self.totals.orphans = self.totals.orphans.saturating_add(1);
        }
    }

    #[inline(never)] // For the stack: objects are large.
    fn apply_inode(&mut self, number: InodeNo, change: PreparedInode) {
        match self.inodes.get_mut(number) {
            Some(object) => {
                object.image = change.image;
                object.changed = true;
            }
            None => {
                let object = InodeObject { log: LogState::default(), image: change.image, changed: true };
                self.inodes.insert_reserved(change.node, number, object);
            }
        }
        self.join(ObjectKey::Inode(number), change.member, encode::INODE_BYTES_MAX);
    }

    #[inline(never)] // For the stack: objects are large.
    fn apply_block(&mut self, block: BlockNo, change: PreparedBlock) {
        match self.blocks.get_mut(block) {
            Some(object) => {
                object.content = change.content;
                object.changed = object.changed.union(&change.changed);
                object.kind = change.kind;
                object.owner = change.owner;
            }
            None => {
                let object = BlockObject {
                    log: LogState::default(),
                    content: change.content,
                    kind: change.kind,
                    owner: change.owner,
                    changed: change.changed,
                    in_flight: WordSet::EMPTY,
                    fresh: change.fresh,
                    freed_by: None,
                    release: None,
                };
                self.blocks.insert_reserved(change.node, block, object);
            }
        }
        let bytes = self.blocks.get(block).map_or(0, encode::block_bytes);
        self.join(ObjectKey::Block(block), change.member, bytes);
    }

    #[inline(never)] // For the stack: what a map gives or takes passes over it.
    fn apply_frees(&mut self, prepared: &mut Prepared) {
        let transaction = self.running.id;
        while let Some((block, revoke)) = prepared.revokes.pop_first() {
            // Its item is void from here on; what earlier records hold of it is needed until the free is stable.
            if let Some(counted) = self.running.objects.remove(ObjectKey::Block(block)) {
                self.running.bytes = self.running.bytes.saturating_sub(counted);
            }
            if let Some(object) = self.blocks.get_mut(block) {
                object.freed_by = Some(transaction);
                object.log.newest = Some(transaction);
            }
            self.running.revokes.insert_reserved(revoke, block, ());
            self.running.bytes = self.running.bytes.saturating_add(encode::REVOKE_BYTES as u64);
        }
        while let Some((start, free)) = prepared.freed.pop_first() {
            self.running.freed.insert_reserved(free.node, start, free.freed);
        }
    }
}
