// SPDX-License-Identifier: GPL-2.0

//! What is allocated but not reachable: the red-black tree of orphans, and the free slots of the index on the device.
//!
//! An orphan is entered when the handle that makes it takes a slot, and is *open* until that handle has closed; it leaves when
//! the handle that ends it has closed. So a slot is never given out twice, and a worker that looks for work passes over what is
//! still open. The index on the device is what recovery reads; this tree is the same in memory, with when and how each was
//! found and how often its removal was tried.
//!
//! Locks: guarded by a lock of its own, a leaf.

use crate::error::{corrupt, Check, Error, Result};
use crate::format::group::Geometry;
use crate::format::orphan::{Cause, OrphanKind, Slot, SLOTS_OFFSET, SLOTS_PER_BLOCK};
use crate::memory::{self, Buffer, OrderedMap};
use crate::units::{BlockNo, GroupNo, InodeNo, OrphanSlot};

/// The order of the tree: kind, then group, then number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrphanKey {
    /// What has to be done.
    pub kind: OrphanKind,
    /// The inode's group.
    pub group: GroupNo,
    /// The inode.
    pub inode: InodeNo,
}

impl OrphanKey {
    /// The key of an inode that `kind` has to be done to.
    pub fn of(geometry: &Geometry, kind: OrphanKind, inode: InodeNo) -> Result<Self> {
        Ok(Self { kind, group: geometry.locate_inode(inode)?.group, inode })
    }
}

/// An orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its slot in the index.
    pub slot: OrphanSlot,
    /// How it became one.
    pub cause: Cause,
    /// When it was found to be one.
    pub since_ns: u64,
    /// How often its removal has failed.
    pub attempts: u32,
    /// The handle that makes it has not closed yet.
    pub open: bool,
    /// Somebody still uses the inode: an unlinked file is open, a truncation is going on.
    pub held: bool,
}

/// A block of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IndexBlock {
    block: BlockNo,
}

/// Memory for another block of the index.
pub struct BlockReservation {
    node: memory::Reservation<u32, IndexBlock>,
}

/// The tree.
#[derive(Default)]
pub struct Orphans {
    entries: OrderedMap<OrphanKey, Orphan>,
    /// Used slots, by number.
    used: OrderedMap<OrphanSlot, OrphanKey>,
    /// The index's blocks, by their place in it.
    blocks: OrderedMap<u32, IndexBlock>,
    /// Slots below this are in use.
    lowest_free: u32,
}

impl Orphans {
    /// No orphan, and no index yet.
    pub fn new() -> Self {
        Self {
            entries: OrderedMap::new(),
            used: OrderedMap::new(),
            blocks: OrderedMap::new(),
            lowest_free: 0,
        }
    }

    /// Adds the next block of the index, whose content was verified when it was read, with the orphans in it. Two slots for one
    /// orphan are corruption.
    pub fn add_block(
        &mut self,
        geometry: &Geometry,
        block: BlockNo,
        content: &Buffer,
        now_ns: u64,
    ) -> Result {
        let place = self.blocks.len() as u32;
        for index in 0..SLOTS_PER_BLOCK {
            let offset = SLOTS_OFFSET.saturating_add((index as usize).saturating_mul(Slot::SIZE));
            let slot = Slot::decode(content, offset)?;
            if slot.inode.0 == 0 {
                continue;
            }
            let (Some(kind), Some(cause)) =
                (OrphanKind::from_number(slot.kind), Cause::from_number(slot.cause))
            else {
                return corrupt(Check::OrphanSlot, block, 0, u64::from(slot.kind));
            };
            let key = OrphanKey::of(geometry, kind, slot.inode)?;
            if self.entries.contains_key(key) {
                return corrupt(Check::OrphanSlot, block, u64::from(index), slot.inode.0);
            }
            let number = OrphanSlot(place.saturating_mul(SLOTS_PER_BLOCK).saturating_add(index));
            self.entries.insert(
                key,
                Orphan { slot: number, cause, since_ns: now_ns, attempts: 0, open: false, held: false },
            )?;
            self.used.insert(number, key)?;
        }
        self.blocks.insert(place, IndexBlock { block })?;
        Ok(())
    }

    /// Memory for [`Orphans::append_block`].
    pub fn reserve_block() -> Result<BlockReservation> {
        Ok(BlockReservation { node: OrderedMap::reserve()? })
    }

    /// The handle that made the index longer has closed: the next block of it, without a slot in use.
    pub fn append_block(&mut self, reservation: BlockReservation, block: BlockNo) {
        let place = self.blocks.len() as u32;
        self.blocks.insert_reserved(reservation.node, place, IndexBlock { block });
    }

    /// Whether every slot of the index is in use: another orphan needs another block first (`operation::index`).
    pub fn is_full(&mut self) -> bool {
        let slot = self.free_slot();
        self.block_of(slot).is_none()
    }

    /// Enters an orphan, open, and gives it the lowest free slot: its number and block. [`Error::OrphanIndexFull`] when
    /// there is none, [`Error::Exists`] when it is one already.
    pub fn take(&mut self, key: OrphanKey, cause: Cause, now_ns: u64) -> Result<(OrphanSlot, BlockNo)> {
        if self.entries.contains_key(key) {
            return Err(Error::Exists);
        }
        let slot = self.free_slot();
        let block = self.block_of(slot).ok_or(Error::OrphanIndexFull)?;
        let entry = OrderedMap::<OrphanKey, Orphan>::reserve()?;
        self.used.insert(slot, key)?;
        let orphan = Orphan { slot, cause, since_ns: now_ns, attempts: 0, open: true, held: false };
        self.entries.insert_reserved(entry, key, orphan);
        self.lowest_free = slot.0.saturating_add(1);
        Ok((slot, block))
    }

    fn free_slot(&mut self) -> OrphanSlot {
        let mut slot = OrphanSlot(self.lowest_free);
        while self.used.contains_key(slot) {
            slot = slot.next();
        }
        slot
    }

    /// The block of the index that holds a slot.
    pub fn block_of(&self, slot: OrphanSlot) -> Option<BlockNo> {
        self.blocks.get(slot.0 / SLOTS_PER_BLOCK).map(|index| index.block)
    }

    /// The handle that makes the orphan has closed.
    pub fn settle(&mut self, key: OrphanKey) {
        if let Some(orphan) = self.entries.get_mut(key) {
            orphan.open = false;
        }
    }

    /// Somebody uses the inode: nothing is done to it before he lets go.
    pub fn hold(&mut self, key: OrphanKey) {
        if let Some(orphan) = self.entries.get_mut(key) {
            orphan.held = true;
        }
    }

    /// Nobody uses the inode any more; whether it is an orphan.
    pub fn let_go(&mut self, key: OrphanKey) -> bool {
        let orphan = self.entries.get_mut(key);
        orphan.is_some_and(|orphan| {
            orphan.held = false;
            true
        })
    }

    /// It is no orphan any more, or never became one: its slot may be given out again.
    pub fn remove(&mut self, key: OrphanKey) -> Option<Orphan> {
        let orphan = self.entries.remove(key)?;
        self.used.remove(orphan.slot);
        self.lowest_free = self.lowest_free.min(orphan.slot.0);
        Some(orphan)
    }

    /// An orphan.
    pub fn get(&self, key: OrphanKey) -> Option<&Orphan> {
        self.entries.get(key)
    }

    /// An attempt to remove it has failed.
    pub fn count_attempt(&mut self, key: OrphanKey) {
        if let Some(orphan) = self.entries.get_mut(key) {
            orphan.attempts = orphan.attempts.saturating_add(1);
        }
    }

    /// The next orphan that is neither open nor held, behind `after`; `None` as `after`: the first.
    pub fn next(&mut self, after: Option<OrphanKey>) -> Option<(OrphanKey, Orphan)> {
        let mut at = match after {
            Some(key) => self.entries.next_after(key).map(|(key, orphan)| (key, *orphan)),
            None => self.entries.first().map(|(key, orphan)| (key, *orphan)),
        };
        while let Some((key, orphan)) = at {
            if !orphan.open && !orphan.held {
                return Some((key, orphan));
            }
            at = self.entries.next_after(key).map(|(key, orphan)| (key, *orphan));
        }
        None
    }

    /// Whether the index has been read.
    pub fn is_loaded(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// How many there are, open ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
