// SPDX-License-Identifier: GPL-2.0

//! A handle: one operation's right to change metadata.
//!
//! A handle works on private copies: of blocks, of inodes, of what it takes and frees. Nobody sees them before it closes, and when
//! it is dropped instead, nothing has happened: what it took goes back. Closing is done in two steps: everything that can
//! fail or wait is prepared ([`prepare`]), then the journal takes the changes whole ([`crate::journal::close`]).
//!
//! An operation takes an inode out of its handle, works on it, and puts it back. Which locks protect it is the filesystem's
//! business: every inode, directory and tree that a handle changes stays locked until it has closed.
//!
//! Locks: a group's lock, the ledger's, the orphans' and the journal mutex, one at a time, each inside a call of the environment.

use crate::blocks::{BlockGuard, ChangeBlocks, ReadBlocks};
use crate::directory::hash::HashKey;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::block_header::{BlockHeader, BlockKind, Stamp};
use crate::format::group::Geometry;
use crate::format::item::{Operation, OperationItem};
use crate::format::orphan::{Cause, OrphanKind, Slot};
use crate::inode::Inode;
use crate::journal::flush::FlushMark;
use crate::journal::prepared::SlotChange;
use crate::journal::ring::Reservation;
use crate::journal::Journal;
use crate::memory::{Buffer, List, OrderedMap, Owned, Shared};
use crate::orphans::{BlockReservation, OrphanKey, Orphans};
use crate::platform::Platform;
use crate::space::choose::{self, Groups, Wanted};
use crate::space::{Class, GroupRun};
use crate::units::{BlockNo, BlockRun, GroupNo, InodeNo, TransactionId};

mod prepare;

/// The mounted filesystem, as handles see it. Each method that takes a closure locks, calls it once, and unlocks.
pub trait Environment: Groups {
    /// The machine.
    fn platform(&self) -> &dyn Platform;

    /// The key of the directories' hash.
    fn hash_key(&self) -> &HashKey;

    /// The present content of a metadata block: what the journal has of it, else what the cache or the device has, whose
    /// header and structure were verified against `stamp` when it was read.
    fn read_block(&self, stamp: &Stamp) -> Result<Shared<Buffer>>;

    /// A copy of an inode as closed handles left it, free or not: what the journal has of it, else its verified slot in the
    /// inode table. A slot that was never used is [`Error::Stale`].
    fn read_inode(&self, number: InodeNo) -> Result<Owned<Inode>>;

    /// Works on the journal, under the journal mutex.
    fn with_journal(&self, action: &mut dyn FnMut(&mut Journal) -> Result) -> Result;

    /// Works on the orphans.
    fn with_orphans(&self, action: &mut dyn FnMut(&mut Orphans) -> Result) -> Result;
}

/// A block's private copy.
struct PrivateBlock {
    kind: BlockKind,
    owner: InodeNo,
    /// What it was; `None`: the handle has allocated it.
    original: Option<Shared<Buffer>>,
    bytes: Buffer,
}

/// A handle.
pub struct Handle<'e> {
    environment: &'e dyn Environment,
    reservation: Option<Reservation>,
    blocks: OrderedMap<BlockNo, PrivateBlock>,
    inodes: OrderedMap<InodeNo, Owned<Inode>>,
    /// Metadata blocks taken by this handle.
    taken: List<BlockNo>,
    /// Runs of file contents that were in flight and are mapped by this handle.
    mapped: List<BlockRun>,
    /// Metadata blocks freed, with their bits set at the moment.
    freed_blocks: List<BlockNo>,
    /// Runs of file contents freed.
    freed_data: List<BlockRun>,
    taken_inodes: List<InodeNo>,
    freed_inodes: List<InodeNo>,
    slots: List<SlotChange>,
    new_orphans: List<OrphanKey>,
    ended_orphans: List<OrphanKey>,
    /// A block by which the handle makes the orphan index longer.
    new_index_block: Option<(BlockReservation, BlockNo)>,
    note: List<u8>,
    data_mark: Option<FlushMark>,
    now_ns: u64,
    /// Whether it may take blocks of the reserve.
    space: Class,
}

/// What a closed handle leaves.
pub struct Closed {
    /// The transaction that holds its changes: what `fsync` waits for.
    pub transaction: TransactionId,
    /// The inodes that it changed, as they are now.
    pub inodes: OrderedMap<InodeNo, Owned<Inode>>,
    /// Metadata blocks that it changed or freed: a cache of clean blocks must not keep them.
    pub stale_blocks: List<BlockNo>,
}

impl<'e> Handle<'e> {
    /// A handle with `reservation`.
    pub fn new(environment: &'e dyn Environment, reservation: Reservation) -> Self {
        Self {
            environment,
            reservation: Some(reservation),
            blocks: OrderedMap::new(),
            inodes: OrderedMap::new(),
            taken: List::new(),
            mapped: List::new(),
            freed_blocks: List::new(),
            freed_data: List::new(),
            taken_inodes: List::new(),
            freed_inodes: List::new(),
            slots: List::new(),
            new_orphans: List::new(),
            ended_orphans: List::new(),
            new_index_block: None,
            note: List::new(),
            data_mark: None,
            now_ns: environment.platform().now_ns(),
            space: Class::Normal,
        }
    }

    /// The mounted filesystem.
    pub const fn environment(&self) -> &'e dyn Environment {
        self.environment
    }

    /// When the handle was opened: the time of everything that it does.
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// What the handle does makes space, or has been promised it: it may take blocks of the reserve.
    pub fn use_reserve(&mut self) {
        self.space = Class::Reserved;
    }

    /// Takes an inode out, to be changed: what this handle has made of it already, else a copy. It goes back with
    /// [`Handle::put_inode`].
    pub fn take_inode(&mut self, number: InodeNo) -> Result<Owned<Inode>> {
        match self.inodes.remove(number) {
            Some(inode) => Ok(inode),
            None => self.environment.read_inode(number),
        }
    }

    /// As [`Handle::take_inode`], but a free inode is [`Error::Stale`].
    pub fn take_used_inode(&mut self, number: InodeNo) -> Result<Owned<Inode>> {
        let inode = self.take_inode(number)?;
        if inode.core.is_free() {
            return Err(Error::Stale);
        }
        Ok(inode)
    }

    /// Puts a changed inode back: it will be logged.
    pub fn put_inode(&mut self, inode: Owned<Inode>) -> Result {
        self.inodes.insert(inode.number(), inode)?;
        Ok(())
    }

    /// Takes a free inode number near `parent`. The slot's next generation comes with it.
    pub fn allocate_inode(&mut self, parent: InodeNo, directory: bool) -> Result<(InodeNo, u32)> {
        self.taken_inodes.reserve(1)?;
        let number = choose::allocate_inode(self.environment, parent, directory)?;
        self.taken_inodes.push_within_capacity(number)?;
        Ok((number, self.next_generation(number)?))
    }

    /// The generation for the next user of a slot whose bit was clear. The slot of a file in use is corruption: its next user would
    /// overwrite it.
    fn next_generation(&self, number: InodeNo) -> Result<u32> {
        match self.environment.read_inode(number) {
            Ok(before) if before.core.is_free() => Ok(before.core.generation.0.wrapping_add(1)),
            Ok(used) => {
                let place = self.environment.geometry().locate_inode(number)?;
                corrupt(Check::Bitmap, place.block, 0, u64::from(used.core.mode))
            }
            Err(Error::Stale) => {
                let mut random = [0; 4];
                self.environment.platform().random(&mut random);
                Ok(u32::from_le_bytes(random))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes `inode` a free slot, whose number may be given out when the handle has closed.
    pub fn free_inode(&mut self, mut inode: Owned<Inode>) -> Result {
        self.freed_inodes.push(inode.number())?;
        inode.make_free();
        self.put_inode(inode)
    }

    /// Blocks that data I/O had taken, and has written, become the file's: their bits are set when the handle closes. `mark` is
    /// the flush mark of that I/O's completion. When the handle is dropped, they stay in flight.
    pub fn map_data(&mut self, run: BlockRun, mark: Option<FlushMark>) -> Result {
        self.mapped.push(run)?;
        self.note_data(mark);
        Ok(())
    }

    /// Something that this handle logs leads to file contents that completed at `mark`.
    pub fn note_data(&mut self, mark: Option<FlushMark>) {
        self.data_mark = self.data_mark.max(mark);
    }

    fn orphan_key(&self, inode: InodeNo, kind: OrphanKind) -> Result<OrphanKey> {
        OrphanKey::of(self.environment.geometry(), kind, inode)
    }

    /// Enters an orphan into the index.
    pub fn add_orphan(&mut self, inode: InodeNo, kind: OrphanKind, cause: Cause) -> Result {
        let key = self.orphan_key(inode, kind)?;
        self.slots.reserve(1)?;
        self.new_orphans.reserve(1)?;
        let now_ns = self.now_ns;
        let mut taken = None;
        self.environment.with_orphans(&mut |orphans| {
            taken = Some(orphans.take(key, cause, now_ns)?);
            Ok(())
        })?;
        let (slot, block) = taken.ok_or(Error::ShutDown)?;
        let content = Slot { inode, kind: kind as u8, cause: cause as u8, reserved: [0; 6] };
        self.slots.push_within_capacity(SlotChange { slot, block, content })?;
        self.new_orphans.push_within_capacity(key)?;
        Ok(())
    }

    /// Whether an inode is an orphan of this kind.
    pub fn is_orphan(&self, inode: InodeNo, kind: OrphanKind) -> Result<bool> {
        let key = self.orphan_key(inode, kind)?;
        let mut found = false;
        self.environment.with_orphans(&mut |orphans| {
            found = orphans.get(key).is_some();
            Ok(())
        })?;
        Ok(found)
    }

    /// Takes an orphan out of the index; [`Error::NotFound`] when it is none.
    pub fn remove_orphan(&mut self, inode: InodeNo, kind: OrphanKind) -> Result {
        let key = self.orphan_key(inode, kind)?;
        let mut found = None;
        self.environment.with_orphans(&mut |orphans| {
            let orphan = orphans.get(key).ok_or(Error::NotFound)?;
            found = orphans.block_of(orphan.slot).map(|block| (orphan.slot, block));
            Ok(())
        })?;
        let (slot, block) = found.ok_or(Error::NotFound)?;
        let content = Slot { inode: InodeNo(0), kind: 0, cause: 0, reserved: [0; 6] };
        self.slots.push(SlotChange { slot, block, content })?;
        self.ended_orphans.push(key)?;
        Ok(())
    }

    /// Says what the handle does, for the journal's readers. `other` is the second directory of a rename, or the
    /// replaced inode.
    pub fn set_note(
        &mut self,
        operation: Operation,
        inode: InodeNo,
        parent: InodeNo,
        other: InodeNo,
        names: (&[u8], &[u8]),
    ) -> Result {
        let header = OperationItem {
            operation: operation as u16,
            flags: 0,
            name_bytes: names.0.len() as u16,
            other_name_bytes: names.1.len() as u16,
            inode,
            parent,
            other,
        };
        self.note.clear();
        self.note.resize(OperationItem::SIZE, 0)?;
        header.encode(&mut self.note, 0)?;
        self.note.extend_from_slice(names.0)?;
        self.note.extend_from_slice(names.1)?;
        Ok(())
    }

    fn stamp(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Stamp {
        let filesystem_id = self.environment.geometry().filesystem_id;
        Stamp { kind, block, owner: owner.0, filesystem_id }
    }

    /// Prepares and closes the handle. After an error nothing has happened.
    pub fn close(mut self) -> Result<Closed> {
        let prepared = self.prepare()?;
        let mut stale_blocks =
            List::with_capacity(prepared.blocks.len().saturating_add(prepared.revokes.len()))?;
        for block in prepared
            .blocks
            .iter()
            .map(|(block, _)| block)
            .chain(prepared.revokes.iter().map(|(block, _)| block))
        {
            stale_blocks.push_within_capacity(block)?;
        }
        let mut prepared = Some(prepared);
        let mut transaction = None;
        self.environment.with_journal(&mut |journal| {
            let (Some(reservation), Some(prepared)) = (self.reservation.take(), prepared.take()) else {
                return Err(Error::ShutDown);
            };
            transaction = Some(journal.close(&reservation, prepared)?);
            Ok(())
        })?;
        self.settle();
        Ok(Closed {
            transaction: transaction.ok_or(Error::ShutDown)?,
            inodes: core::mem::take(&mut self.inodes),
            stale_blocks,
        })
    }

    /// The journal has taken the changes: what was in flight is in use, what ended is over.
    fn settle(&mut self) {
        let geometry = *self.environment.geometry();
        let taken = core::mem::take(&mut self.taken);
        for block in &taken {
            let _ = self
                .in_group(BlockRun { start: *block, blocks: 1 }, &mut |group, run| group.settle_blocks(run));
        }
        let mapped = core::mem::take(&mut self.mapped);
        for run in &mapped {
            let _ = self.in_group(*run, &mut |group, run| group.settle_blocks(run));
        }
        // Before the numbers of removed inodes are free: whoever takes one may become an orphan of that number.
        let (new, ended) = (core::mem::take(&mut self.new_orphans), core::mem::take(&mut self.ended_orphans));
        let mut block = self.new_index_block.take();
        let _ = self.environment.with_orphans(&mut |orphans| {
            if let Some((reservation, block)) = block.take() {
                orphans.append_block(reservation, block);
            }
            for key in &new {
                orphans.settle(*key);
            }
            for key in &ended {
                orphans.remove(*key);
            }
            Ok(())
        });
        let taken_inodes = core::mem::take(&mut self.taken_inodes);
        for (number, freed) in taken_inodes
            .iter()
            .map(|number| (*number, false))
            .chain(self.freed_inodes.iter().map(|number| (*number, true)))
        {
            let Ok(place) = geometry.locate_inode(number) else {
                continue;
            };
            let _ = self.environment.with_group(place.group, &mut |group| {
                if freed {
                    return group.release_inode(place.index);
                }
                group.raise_table_mark(prepare::mark_for(place.index));
                group.settle_inode(place.index)
            });
        }
    }

    fn in_group(
        &self,
        run: BlockRun,
        action: &mut dyn FnMut(&mut crate::space::group::Group, GroupRun) -> Result,
    ) -> Result {
        let (number, run) = GroupRun::locate(self.environment.geometry(), run)?;
        self.environment.with_group(number, &mut |group| action(group, run))
    }

    fn load_group(&self, group: GroupNo) -> Result {
        self.environment.with_group(group, &mut |_| Ok(()))
    }
}

impl Drop for Handle<'_> {
    /// A handle that was not closed has changed nothing: what it took goes back. (After `close` there is nothing left to
    /// give back.)
    fn drop(&mut self) {
        for block in &self.taken {
            let _ = choose::give_back_run(self.environment, BlockRun { start: *block, blocks: 1 });
        }
        for number in &self.taken_inodes {
            if let Ok(place) = self.environment.geometry().locate_inode(*number) {
                let _ =
                    self.environment.with_group(place.group, &mut |group| group.give_back_inode(place.index));
            }
        }
        if !self.new_orphans.is_empty() {
            let new = core::mem::take(&mut self.new_orphans);
            let _ = self.environment.with_orphans(&mut |orphans| {
                for key in &new {
                    orphans.remove(*key);
                }
                Ok(())
            });
        }
        if let Some(reservation) = self.reservation.take() {
            let _ = self.environment.with_journal(&mut |journal| {
                journal.release_reservation(&reservation);
                Ok(())
            });
        }
    }
}

impl ReadBlocks for Handle<'_> {
    fn geometry(&self) -> &Geometry {
        self.environment.geometry()
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let stamp = self.stamp(kind, owner, block);
        match self.blocks.get(block) {
            Some(private) => {
                stamp.check(&BlockHeader::decode(&private.bytes, 0)?)?;
                Ok(BlockGuard::Private(&private.bytes))
            }
            None => Ok(BlockGuard::Cached(self.environment.read_block(&stamp)?)),
        }
    }
}

impl ChangeBlocks for Handle<'_> {
    fn change(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<&mut [u8]> {
        if !self.blocks.contains_key(block) {
            let original = self.environment.read_block(&self.stamp(kind, owner, block))?;
            let bytes = original.try_clone()?;
            self.blocks.insert(block, PrivateBlock { kind, owner, original: Some(original), bytes })?;
        }
        let private = self.blocks.get_mut(block).ok_or(Error::ShutDown)?;
        if private.kind != kind || private.owner != owner {
            return corrupt(Check::Shared, block, owner.0, private.owner.0);
        }
        Ok(&mut private.bytes)
    }

    fn allocate(&mut self, kind: BlockKind, owner: InodeNo, goal: BlockNo) -> Result<BlockNo> {
        self.taken.reserve(1)?;
        let mut bytes = Buffer::zeroed(crate::units::BLOCK_BYTES)?;
        let node = OrderedMap::<BlockNo, PrivateBlock>::reserve()?;
        let wanted = Wanted::near(goal, 1).of_class(self.space);
        let block = choose::allocate_run(self.environment, &wanted)?.start;
        self.taken.push_within_capacity(block)?;
        self.stamp(kind, owner, block).begin(&mut bytes)?;
        self.blocks.insert_reserved(node, block, PrivateBlock { kind, owner, original: None, bytes });
        Ok(block)
    }

    fn free(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result {
        self.read(kind, owner, block)?;
        if let Some(at) = self.taken.iter().position(|taken| *taken == block) {
            // Nobody has ever seen it: it goes back at once.
            choose::give_back_run(self.environment, BlockRun { start: block, blocks: 1 })?;
            self.taken.swap_remove(at);
            self.blocks.remove(block);
            return Ok(());
        }
        self.freed_blocks.push(block)?;
        self.blocks.remove(block);
        Ok(())
    }

    fn free_data(&mut self, run: BlockRun) -> Result {
        self.freed_data.push(run)?;
        Ok(())
    }
}
