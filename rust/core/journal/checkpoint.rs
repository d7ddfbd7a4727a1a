// SPDX-License-Identifier: GPL-2.0

//! Checkpoint: objects go home, and the tail moves.
//!
//! A *unit* is what goes home together: a metadata block, a block of an inode table with the images of its inodes, a block of
//! the orphan index, or a group: its changed bitmaps and the header that vouches for them. The checkpointer asks for the next
//! unit in the order of blocks ([`Journal::next_home`]), has it copied and sealed under the journal mutex
//! ([`Journal::begin_home`]), writes the copy without, reports ([`Journal::end_home`]), and when a flush that started after that
//! has completed, settles the unit ([`Journal::settle_home`]). Then [`Journal::header`] gives the new tail.
//!
//! What has a change that is not stable stays where it is (I1): a unit that is one object stays as a whole; of a table block or a
//! group, that inode or bitmap does, and keeps at home what it has there. Otherwise whoever is changed all the time would hold
//! those beside him, and by them the tail. One home write per block at a time. A unit whose write fails takes its set back, and
//! the error is latched: the tail never passes it.
//!
//! Every copy is verified, as if it had just been read, before the caller gets it for writing (I10): what memory or a mistake of
//! ours has spoilt since it was read must not reach the device. It fails before anything of the unit is in flight, by the name
//! of the check, and is latched.
//!
//! A crash leaves a unit torn or whole, old or new; its union is in the log until the header moves the tail, which comes after
//! the flush. Nothing here waits, allocates or reads: [`HomeWrite`] brings the memory, and the caller the table block's base.

use crate::bitmap;
use crate::error::{Error, Result};
use crate::format::block_header::{self, BlockKind, Stamp};
use crate::format::group::{
    self, BitmapEntry, BitmapKind, Geometry, GroupHeader, BITMAPS_MAX, INODES_PER_BLOCK,
};
use crate::format::inode::{self, INODE_BYTES};
use crate::format::layout::{copy_to, put};
use crate::inode::{Inode, NewInode};
use crate::journal::object::{BitmapKey, ObjectKey};
use crate::journal::transaction::Freed;
use crate::journal::words::WordSet;
use crate::journal::Journal;
use crate::memory::{Buffer, OrderedMap, Owned, Shared};
use crate::platform::Platform;
use crate::space::load;
use crate::units::{BlockNo, GroupNo, InodeGeneration, InodeNo, TransactionId, BLOCK_BYTES};
use crate::verify;

/// What goes home together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HomeUnit {
    /// A metadata block.
    Block(BlockNo),
    /// A block of an inode table.
    Table(BlockNo),
    /// A block of the orphan index.
    Orphans(BlockNo),
    /// A group's bitmaps and header.
    Group(GroupNo),
}

/// The most blocks of a unit: a group's bitmaps and header.
pub const UNIT_BLOCKS_MAX: usize = 2 * BITMAPS_MAX + 1;

/// A sealed copy of a block and where it goes.
struct HomeBlock {
    block: BlockNo,
    bytes: Buffer,
}

/// The memory of a unit's copies: made once, used again and again.
pub struct HomeWrite {
    blocks: OrderedMap<usize, Owned<HomeBlock>>,
    used: usize,
    /// For the inode that is being verified.
    inode: Owned<Inode>,
}

impl HomeWrite {
    /// Memory for any unit.
    pub fn try_new() -> Result<Self> {
        let mut blocks = OrderedMap::new();
        for index in 0..UNIT_BLOCKS_MAX {
            let block = HomeBlock { block: BlockNo(0), bytes: Buffer::zeroed(BLOCK_BYTES)? };
            blocks.insert(index, Owned::try_new(block)?)?;
        }
        let (number, generation) = (InodeNo(0), InodeGeneration(0));
        let inode = NewInode { mode: 0, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 0 };
        Ok(Self { blocks, used: 0, inode: Inode::new(number, generation, &inode)? })
    }

    /// The copies: where each goes, and its bytes.
    pub fn blocks(&self) -> impl Iterator<Item = (BlockNo, &Buffer)> {
        self.blocks.iter().take(self.used).map(|(_, slot)| (slot.block, &slot.bytes))
    }

    /// Verifies what a table block has of inodes that are not in the log: they go home as they are, beside those that are. A slot that
    /// was never used is right, too.
    pub fn verify_base(
        &mut self,
        platform: &dyn Platform,
        geometry: &Geometry,
        block: BlockNo,
        base: &[u8],
    ) -> Result {
        let (first, end) = inodes_in(geometry, block).ok_or(Error::InvalidArgument)?;
        // There is no inode 0; its slot is never used.
        (first.0.max(1)..end.0).map(InodeNo).try_for_each(|number| {
            match verify::inode_over(platform, geometry, base, number, &mut self.inode) {
                Err(Error::Stale) => Ok(()),
                verified => verified,
            }
        })
    }

    fn push(&mut self, block: BlockNo) -> Result<&mut Buffer> {
        let slot = self.blocks.get_mut(self.used).ok_or(Error::ShutDown)?;
        self.used = self.used.saturating_add(1);
        slot.block = block;
        Ok(&mut slot.bytes)
    }

    fn push_copy(&mut self, block: BlockNo, bytes: &[u8]) -> Result<&mut Buffer> {
        let place = self.push(block)?;
        copy_to(place, bytes)?;
        Ok(place)
    }
}

/// The inodes that a block of an inode table holds: the first one, and the one behind the last.
fn inodes_in(geometry: &Geometry, table_block: BlockNo) -> Option<(InodeNo, InodeNo)> {
    let (group, _) = geometry.locate_block(table_block)?;
    let index = table_block.0.checked_sub(geometry.table_of(group).0)?;
    let first = u32::try_from(index).ok()?.checked_mul(INODES_PER_BLOCK)?;
    let first = geometry.inode_at(group, first);
    Some((first, InodeNo(first.0.saturating_add(u64::from(INODES_PER_BLOCK)))))
}

impl Journal {
    /// The unit that may go home next, behind `after` in the order of blocks; `None`: no more.
    pub fn next_home(&mut self, after: BlockNo) -> Option<HomeUnit> {
        let stable = self.stable_transaction;
        let searches =
            [Self::next_block_home, Self::next_table_home, Self::next_orphan_home, Self::next_group_home];
        let mut first: Option<(BlockNo, HomeUnit)> = None;
        for search in searches {
            let found = search(self, after, stable);
            first = found.filter(|found| first.is_none_or(|first| found.0 < first.0)).or(first);
        }
        first.map(|(_, unit)| unit)
    }

    /// The first block of a unit: its place in the order.
    pub const fn home_of(&self, unit: HomeUnit) -> BlockNo {
        match unit {
            HomeUnit::Block(block) | HomeUnit::Table(block) | HomeUnit::Orphans(block) => block,
            HomeUnit::Group(group) => self.geometry.header_of(group),
        }
    }

    fn next_block_home(&mut self, after: BlockNo, stable: TransactionId) -> Option<(BlockNo, HomeUnit)> {
        let mut at = after;
        loop {
            let (block, object) = self.blocks.next_after(at)?;
            if object.freed_by.is_none() && object.log.may_go_home(stable) && !object.changed.is_empty() {
                return Some((block, HomeUnit::Block(block)));
            }
            at = block;
        }
    }

    fn next_orphan_home(&mut self, after: BlockNo, stable: TransactionId) -> Option<(BlockNo, HomeUnit)> {
        let mut at = after;
        loop {
            let (block, object) = self.orphans.next_after(at)?;
            if object.log.may_go_home(stable) && !object.changed.is_empty() {
                return Some((block, HomeUnit::Orphans(block)));
            }
            at = block;
        }
    }

    fn next_group_home(&mut self, after: BlockNo, stable: TransactionId) -> Option<(BlockNo, HomeUnit)> {
        let mut next = self.groups.first().map(|(group, _)| group);
        while let Some(group) = next {
            let header = self.geometry.header_of(group);
            if header > after && self.group_may_go_home(group, stable) {
                return Some((header, HomeUnit::Group(group)));
            }
            next = self.groups.next_after(group).map(|(later, _)| later);
        }
        None
    }

    fn bitmap_keys(&self, group: GroupNo) -> impl Iterator<Item = BitmapKey> {
        let (blocks, inodes) = (self.geometry.block_bitmaps(), self.geometry.inode_bitmaps());
        let of = move |kind, count| (0..count).map(move |index| BitmapKey { group, kind, index });
        of(BitmapKind::Blocks, blocks).chain(of(BitmapKind::Inodes, inodes))
    }

    /// A group goes home when one of its bitmaps has a change and none that is not stable. Before all of it has been home once, it
    /// goes as a whole: the header vouches for every bitmap.
    fn group_may_go_home(&self, group: GroupNo, stable: TransactionId) -> bool {
        let Some(header) = self.groups.get(group).filter(|header| !header.log.home_in_flight) else {
            return false;
        };
        let mut is_whole = header.log.may_go_home(stable);
        let (mut changed, mut fresh) = (is_whole && header.log.pinned.is_some(), false);
        for key in self.bitmap_keys(group) {
            let Some(object) = self.bitmaps.get(key).filter(|object| !object.log.home_in_flight) else {
                return false;
            };
            is_whole &= object.log.may_go_home(stable);
            changed |= object.log.goes_home(stable);
            fresh |= object.fresh;
        }
        changed && (is_whole || !fresh)
    }

    fn next_table_home(&mut self, after: BlockNo, stable: TransactionId) -> Option<(BlockNo, HomeUnit)> {
        let mut at = after;
        loop {
            let block = self.next_table_block(at)?;
            if self.table_may_go_home(block, stable) {
                return Some((block, HomeUnit::Table(block)));
            }
            at = block;
        }
    }

    /// The next block of an inode table with anything in the log, behind `after`.
    fn next_table_block(&mut self, after: BlockNo) -> Option<BlockNo> {
        let new = self.tables.next_after(after).map(|(block, _)| block);
        let first_inode = self.first_inode_behind(after);
        let of_inode = self.inodes.lower_bound(first_inode).map(|(number, _)| number);
        let of_inode =
            of_inode.and_then(|number| self.geometry.locate_inode(number).ok()).map(|place| place.block);
        match (new, of_inode) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The first inode whose table block lies behind `block`.
    fn first_inode_behind(&self, block: BlockNo) -> InodeNo {
        let Some((group, _)) = self.geometry.locate_block(block) else {
            return InodeNo(0);
        };
        let table = self.geometry.table_of(group).0;
        let blocks = block.0.checked_sub(table).map_or(0, |index| index.saturating_add(1));
        let index =
            blocks.saturating_mul(u64::from(INODES_PER_BLOCK)).min(u64::from(self.geometry.inodes_per_group));
        InodeNo(self.geometry.inode_at(group, 0).0.saturating_add(index))
    }

    fn table_may_go_home(&mut self, block: BlockNo, stable: TransactionId) -> bool {
        if self.tables.get(block).is_some_and(|object| !object.log.may_go_home(stable)) {
            return false;
        }
        let Some((first, end)) = inodes_in(&self.geometry, block) else {
            return false;
        };
        let mut changed = self.tables.contains_key(block);
        let mut next = self.inodes.lower_bound(first).map(|(number, _)| number);
        while let Some(number) = next.filter(|number| *number < end) {
            match self.inodes.get(number) {
                Some(object) if object.log.home_in_flight => return false,
                Some(object) => changed |= object.changed && object.log.may_go_home(stable),
                None => {}
            }
            next = self.inodes.next_after(number).map(|(later, _)| later);
        }
        changed
    }

    /// Whether the caller must bring the table block's content from cache or device to [`Journal::begin_home`].
    pub fn home_needs_base(&self, unit: HomeUnit) -> Option<BlockNo> {
        match unit {
            HomeUnit::Table(block) if !self.tables.contains_key(block) => Some(block),
            _ => None,
        }
    }

    /// Copies a unit, as `next_home` gave it, into `write`, and seals the copies: ready for the device. `base` is the table
    /// block's present content, verified ([`HomeWrite::verify_base`]). The unit's sets are in flight from now on.
    /// [`Error::WouldBlock`]: the unit has been changed, freed or begun by another since `next_home` named it, and must not
    /// go home now (I1). Any other error: a copy did not verify; the journal has failed.
    pub fn begin_home(
        &mut self,
        platform: &dyn Platform,
        unit: HomeUnit,
        base: Option<&[u8]>,
        write: &mut HomeWrite,
    ) -> Result {
        self.check()?;
        if !self.may_begin(unit) {
            return Err(Error::WouldBlock);
        }
        write.used = 0;
        let begun = match unit {
            HomeUnit::Block(block) => self.begin_block(platform, block, write),
            HomeUnit::Orphans(block) => self.begin_orphans(platform, block, write),
            HomeUnit::Table(block) => self.begin_table(platform, block, base, write),
            HomeUnit::Group(group) => self.begin_group(platform, group, write),
        };
        begun.inspect_err(|error| self.fail(*error))
    }

    /// Whether the unit may still go home: between `next_home` and now the mutex may have been given up.
    fn may_begin(&mut self, unit: HomeUnit) -> bool {
        let stable = self.stable_transaction;
        match unit {
            HomeUnit::Block(block) => self.blocks.get(block).is_some_and(|object| {
                object.freed_by.is_none() && object.log.may_go_home(stable) && !object.changed.is_empty()
            }),
            HomeUnit::Orphans(block) => self
                .orphans
                .get(block)
                .is_some_and(|object| object.log.may_go_home(stable) && !object.changed.is_empty()),
            HomeUnit::Table(block) => self.table_may_go_home(block, stable),
            HomeUnit::Group(group) => self.group_may_go_home(group, stable),
        }
    }

    fn begin_block(&mut self, platform: &dyn Platform, block: BlockNo, write: &mut HomeWrite) -> Result {
        let sequence = self.stable_sequence;
        let object = self.blocks.get_mut(block).ok_or(Error::ShutDown)?;
        let (kind, owner) = (object.kind, object.owner.0);
        let stamp = Stamp { kind, block, owner, filesystem_id: self.geometry.filesystem_id };
        let bytes = write.push_copy(block, &object.content)?;
        block_header::seal(platform, bytes, sequence)?;
        verify::block(platform, &self.geometry, &stamp, bytes)?;
        object.in_flight = core::mem::replace(&mut object.changed, WordSet::EMPTY);
        object.log.home_begins();
        Ok(())
    }

    fn begin_orphans(&mut self, platform: &dyn Platform, block: BlockNo, write: &mut HomeWrite) -> Result {
        let sequence = self.stable_sequence;
        let object = self.orphans.get_mut(block).ok_or(Error::ShutDown)?;
        let (kind, owner) = (BlockKind::OrphanIndex, inode::ORPHAN_INDEX.0);
        let stamp = Stamp { kind, block, owner, filesystem_id: self.geometry.filesystem_id };
        let bytes = write.push_copy(block, &object.content)?;
        block_header::seal(platform, bytes, sequence)?;
        verify::block(platform, &self.geometry, &stamp, bytes)?;
        object.in_flight = core::mem::replace(&mut object.changed, WordSet::EMPTY);
        object.log.home_begins();
        Ok(())
    }

    fn begin_table(
        &mut self,
        platform: &dyn Platform,
        block: BlockNo,
        base: Option<&[u8]>,
        write: &mut HomeWrite,
    ) -> Result {
        let (first, end) = inodes_in(&self.geometry, block).ok_or(Error::ShutDown)?;
        match (self.tables.contains_key(block), base) {
            (true, _) => write.push(block)?.fill(0),
            (false, Some(base)) => {
                write.push_copy(block, base)?;
            }
            (false, None) => return Err(Error::ShutDown),
        }
        let stable = self.stable_transaction;
        // Slots that the log has nothing of, or nothing that is stable, are as they were read.
        for number in (first.0..end.0).map(InodeNo) {
            let Some(object) = self.inodes.get(number).filter(|object| object.log.may_go_home(stable)) else {
                continue;
            };
            let HomeWrite { blocks, inode: scratch, .. } = &mut *write;
            let bytes = &mut blocks.get_mut(0).ok_or(Error::ShutDown)?.bytes;
            let offset = (number.0.saturating_sub(first.0) as usize).saturating_mul(INODE_BYTES);
            let slot = bytes.get_mut(offset..offset.saturating_add(INODE_BYTES)).ok_or(Error::ShutDown)?;
            copy_to(slot, &object.image)?;
            inode::seal(platform, slot)?;
            verify::inode_over(platform, &self.geometry, bytes, number, scratch)?;
        }
        if let Some(object) = self.tables.get_mut(block) {
            object.log.home_begins();
        }
        for number in (first.0..end.0).map(InodeNo) {
            if let Some(object) = self.inodes.get_mut(number).filter(|object| object.log.may_go_home(stable))
            {
                object.changed = false;
                object.log.home_begins();
            }
        }
        Ok(())
    }

    fn begin_group(&mut self, platform: &dyn Platform, group: GroupNo, write: &mut HomeWrite) -> Result {
        let (sequence, stable) = (self.stable_sequence, self.stable_transaction);
        for key in self.bitmap_keys(group) {
            let object = self.bitmaps.get(key).ok_or(Error::ShutDown)?;
            if !object.log.goes_home(stable) {
                continue;
            }
            let home = self.geometry.bitmap_of(group, key.kind, key.index);
            let bytes = write.push_copy(home, &object.bits)?;
            let free = bitmap::verify(bytes, &self.geometry, group, key.kind, key.index)?;
            let entry = BitmapEntry { crc: platform.crc32c(0, bytes), free, sequence };
            *self.groups.get_mut(group).ok_or(Error::ShutDown)?.entry_mut(key.kind, key.index)? = entry;
        }
        let object = self.groups.get_mut(group).ok_or(Error::ShutDown)?;
        let bytes = write.push(self.geometry.header_of(group))?;
        bytes.fill(0);
        let stamp = Stamp {
            kind: BlockKind::GroupHeader,
            block: self.geometry.header_of(group),
            owner: u64::from(group.0),
            filesystem_id: self.geometry.filesystem_id,
        };
        stamp.begin(bytes)?;
        let is_stable = object.log.may_go_home(stable);
        let table_mark = if is_stable { object.table_mark } else { object.home_mark };
        let header = GroupHeader {
            group,
            flags: 0,
            blocks: self.geometry.blocks_of(group),
            table_mark,
            reserved: [0; 16],
        };
        header.encode(bytes, group::HEADER_OFFSET)?;
        for index in 0..BITMAPS_MAX as u32 {
            let (blocks, inodes) =
                (BitmapKind::Blocks.entry_offset(index), BitmapKind::Inodes.entry_offset(index));
            put(bytes, blocks, *object.entry_mut(BitmapKind::Blocks, index)?)?;
            put(bytes, inodes, *object.entry_mut(BitmapKind::Inodes, index)?)?;
        }
        block_header::seal(platform, bytes, sequence)?;
        load::verify_header(platform, &self.geometry, group, bytes)?;
        object.home_mark = table_mark;
        object.log.home_begins();
        if !is_stable {
            // Its mark has not gone: the record of that is still needed.
            object.log.home_from = None;
        }
        self.bitmaps_are_in_flight(group);
        Ok(())
    }

    fn bitmaps_are_in_flight(&mut self, group: GroupNo) {
        let stable = self.stable_transaction;
        for key in self.bitmap_keys(group) {
            let Some(object) = self.bitmaps.get_mut(key).filter(|object| object.log.goes_home(stable)) else {
                continue;
            };
            object.log.home_begins();
            object.fresh_in_flight = object.fresh;
            if let Some(masks) = &mut object.masks {
                masks.home_write_begins();
            }
        }
    }

    /// The unit's writes have ended, though perhaps only in the device's cache. After an error the unit is as before, and the
    /// journal has failed.
    pub fn end_home(&mut self, unit: HomeUnit, outcome: Result) -> Result {
        if let Err(error) = outcome {
            self.for_each_in_flight(unit, Self::home_failed);
            self.fail(error);
        }
        outcome
    }

    /// A flush that started after the unit's writes had ended has completed: what was in flight need not be logged any
    /// more, and what has nothing left to log leaves the log.
    ///
    /// A metadata block that leaves the log is given to `keep`, the cache, while the journal is still the caller's: who does not
    /// find the block in the log any more must find this content there. Told later, the cache could get it when the block has
    /// been changed again, and would show it as the present one once that change has left the log as well.
    ///
    /// What is returned is a block that was freed meanwhile, whose free is stable: it goes back to its group.
    pub fn settle_home(
        &mut self,
        unit: HomeUnit,
        keep: &mut dyn FnMut(BlockNo, &Shared<Buffer>),
    ) -> Option<Freed> {
        self.for_each_in_flight(unit, Self::settle);
        match unit {
            HomeUnit::Block(block) => self.forget_clean_block(block, keep),
            _ => None,
        }
    }

    fn for_each_in_flight(&mut self, unit: HomeUnit, visit: fn(&mut Self, ObjectKey)) {
        match unit {
            HomeUnit::Block(block) => self.visit_in_flight(ObjectKey::Block(block), visit),
            HomeUnit::Orphans(block) => self.visit_in_flight(ObjectKey::Orphans(block), visit),
            HomeUnit::Table(block) => {
                self.visit_in_flight(ObjectKey::Table(block), visit);
                let Some((first, end)) = inodes_in(&self.geometry, block) else {
                    return;
                };
                for number in first.0..end.0 {
                    self.visit_in_flight(ObjectKey::Inode(InodeNo(number)), visit);
                }
            }
            HomeUnit::Group(group) => {
                for key in self.bitmap_keys(group) {
                    self.visit_in_flight(ObjectKey::Bitmap(key), visit);
                }
                self.visit_in_flight(ObjectKey::Group(group), visit);
            }
        }
    }

    fn visit_in_flight(&mut self, key: ObjectKey, visit: fn(&mut Self, ObjectKey)) {
        if self.log_state(key).is_some_and(|log| log.home_in_flight) {
            visit(self, key);
        }
    }

    fn home_failed(&mut self, key: ObjectKey) {
        match key {
            ObjectKey::Block(block) => {
                if let Some(object) = self.blocks.get_mut(block) {
                    object.changed = object.logged();
                    object.in_flight = WordSet::EMPTY;
                }
            }
            ObjectKey::Orphans(block) => {
                if let Some(object) = self.orphans.get_mut(block) {
                    object.changed = object.logged();
                    object.in_flight = WordSet::EMPTY;
                }
            }
            ObjectKey::Inode(number) => {
                if let Some(object) = self.inodes.get_mut(number) {
                    object.changed = true;
                }
            }
            ObjectKey::Bitmap(bitmap) => {
                if let Some(masks) = self.bitmaps.get_mut(bitmap).and_then(|object| object.masks.as_mut()) {
                    masks.home_write_failed();
                }
            }
            ObjectKey::Table(_) | ObjectKey::Group(_) => {}
        }
        if let Some(log) = self.log_state(key) {
            log.home_in_flight = false;
        }
    }

    fn settle(&mut self, key: ObjectKey) {
        let stable = self.stable_transaction;
        let no_handles = self.promised.handles == 0;
        let Some(log) = self.log_state(key) else {
            return;
        };
        log.home_in_flight = false;
        // Committed again meanwhile: the newer record has what the home write has not.
        let needless = if log.pinned == log.home_from { log.pinned.take() } else { None };
        let settled = log.pinned.is_none() && !log.is_unstable(stable);
        self.unpin(needless);
        match key {
            ObjectKey::Block(block) => {
                if let Some(object) = self.blocks.get_mut(block) {
                    object.in_flight = WordSet::EMPTY;
                    object.fresh = false;
                }
            }
            ObjectKey::Orphans(block) => {
                if let Some(object) = self.orphans.get_mut(block) {
                    object.in_flight = WordSet::EMPTY;
                    object.fresh = false;
                }
            }
            ObjectKey::Inode(number) => {
                if settled {
                    self.inodes.remove(number);
                }
            }
            ObjectKey::Table(block) => {
                self.tables.remove(block);
            }
            ObjectKey::Bitmap(bitmap) => {
                if let Some(object) = self.bitmaps.get_mut(bitmap) {
                    object.fresh &= !object.fresh_in_flight;
                    object.fresh_in_flight = false;
                    if let Some(masks) = &mut object.masks {
                        masks.home_write_ends();
                    }
                    // An open handle may have seen that there are masks, and count on them.
                    if settled && no_handles {
                        object.masks = None;
                    }
                }
            }
            ObjectKey::Group(_) => {}
        }
    }

    fn forget_clean_block(
        &mut self,
        block: BlockNo,
        keep: &mut dyn FnMut(BlockNo, &Shared<Buffer>),
    ) -> Option<Freed> {
        let stable = self.stable_transaction;
        let object = self.blocks.get_mut(block)?;
        if object.freed_by.is_some() {
            let release = object.release.take();
            let pinned = object.log.pinned;
            if release.is_some() {
                self.blocks.remove(block);
                // It was committed again while the home write was under way.
                self.unpin(pinned);
            }
            return release;
        }
        if object.log.pinned.is_none() && !object.log.is_unstable(stable) {
            if let Some(object) = self.blocks.remove(block) {
                keep(block, &object.content);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
