// SPDX-License-Identifier: GPL-2.0

//! The journal: delayed logging with group commit, as a state machine that does no I/O.
//!
//! Handles change private copies; closing one moves them, under the journal mutex, into the objects here and into the running
//! transaction ([`close`]). A commit swaps the running transaction for an empty one, formats its records into a
//! buffer and says what to write, what to flush and in which order ([`commit`]). A checkpoint copies objects whose changes are
//! stable and says where home is; after a flush the tail moves and a header says so ([`checkpoint`]). Replay after a crash is
//! in [`replay`].
//!
//! A crash at the worst moment: between the bios of a commit it leaves a torn end, which replay discards whole; between home
//! writes, or within one, it leaves blocks of mixed age, over which the unions in the log are right again; between home writes
//! and header it leaves a tail that lies too far back, which costs time only.
//!
//! Locks: the filesystem keeps this value behind its one sleeping journal mutex; every method here runs under it, takes no
//! other and waits for nothing. What may need memory is prepared before.

use crate::error::{corrupt, Check, Error, Result};
use crate::format::group::Geometry;
use crate::format::journal::{JournalHeader, Tail, Totals, HEADER_CLEAN};
use crate::memory::{Buffer, OrderedMap, Shared};
use crate::space::load::LoadedGroup;
use crate::units::{BlockNo, GroupNo, InodeNo, OrphanSlot, Sequence, TransactionId};

pub mod bits;
pub mod checkpoint;
pub mod close;
pub mod commit;
pub mod encode;
pub mod flush;
pub mod object;
pub mod prepared;
pub mod replay;
pub mod reservation;
pub mod ring;
pub mod transaction;
pub mod words;

use flush::FlushClock;
use object::{
    BitmapKey, BitmapObject, BlockObject, GroupObject, InodeObject, LogState, ObjectKey, OrphanObject,
    TableObject,
};
use ring::{Place, Promised, Ring};
use transaction::{Logged, Running};

/// Where a mount begins: from a clean header, or from what replay left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where the first record goes.
    pub tail: Tail,
    /// The number of the first transaction.
    pub next_transaction: TransactionId,
    /// The totals.
    pub totals: Totals,
    /// The counter of the newest header.
    pub header_counter: u64,
}

/// A journal header on its way to the device.
pub struct HeaderWrite {
    /// What it says.
    pub header: JournalHeader,
    /// Which of the pair it replaces: the older one.
    pub block: BlockNo,
    /// Its tail.
    place: Place,
}

/// The journal of a mounted filesystem.
pub struct Journal {
    geometry: Geometry,
    uuid: [u8; 16],
    ring: Ring,
    promised: Promised,
    clock: FlushClock,
    running: Running,
    writing: Option<TransactionId>,
    logged: OrderedMap<TransactionId, Logged>,
    stable_transaction: TransactionId,
    stable_sequence: Sequence,
    totals: Totals,
    stable_totals: Totals,
    header_counter: u64,
    header_in_flight: bool,
    /// Groups [0, n) have been begun by somebody; the log need not know all of them yet.
    begun_groups: u32,
    /// A clean header stands, or is on its way: no handle is let in.
    ended: bool,
    error: Option<Error>,
    blocks: OrderedMap<BlockNo, BlockObject>,
    inodes: OrderedMap<InodeNo, InodeObject>,
    tables: OrderedMap<BlockNo, TableObject>,
    bitmaps: OrderedMap<BitmapKey, BitmapObject>,
    groups: OrderedMap<GroupNo, GroupObject>,
    orphans: OrderedMap<BlockNo, OrphanObject>,
}

impl Journal {
    /// The journal of `geometry` from `start` on. `uuid` seeds the records' CRCs.
    pub fn new(geometry: Geometry, uuid: [u8; 16], start: &Start) -> Self {
        let before_first = |number: u64| number.saturating_sub(1);
        let ring = Ring::new(Self::ring_bytes(&geometry), &start.tail);
        let structure_bytes = ring.bytes() / reservation::STRUCTURE_SHARE;
        Self {
            geometry,
            uuid,
            ring,
            promised: Promised { structure_bytes, ..Promised::default() },
            clock: FlushClock::default(),
            running: Running::new(start.next_transaction),
            writing: None,
            logged: OrderedMap::new(),
            stable_transaction: TransactionId(before_first(start.next_transaction.0)),
            stable_sequence: Sequence(before_first(start.tail.sequence.0)),
            totals: start.totals,
            stable_totals: start.totals,
            header_counter: start.header_counter,
            header_in_flight: false,
            begun_groups: start.totals.initialised_groups,
            ended: false,
            error: None,
            blocks: OrderedMap::new(),
            inodes: OrderedMap::new(),
            tables: OrderedMap::new(),
            bitmaps: OrderedMap::new(),
            groups: OrderedMap::new(),
            orphans: OrderedMap::new(),
        }
    }

    /// Bytes of the ring of a filesystem.
    pub const fn ring_bytes(geometry: &Geometry) -> u64 {
        let blocks = geometry.journal_blocks.saturating_sub(crate::format::journal::HEADER_BLOCKS);
        blocks.saturating_mul(crate::units::BLOCK_BYTES as u64)
    }

    /// The clock of flushes.
    pub fn clock(&mut self) -> &mut FlushClock {
        &mut self.clock
    }

    /// The transaction that a handle closing now goes into.
    pub const fn running_transaction(&self) -> TransactionId {
        self.running.id
    }

    /// The newest transaction that holds any change: who waits for it waits for everything that has closed.
    pub fn newest_transaction(&self) -> TransactionId {
        let running = self.running.id;
        if self.running.is_empty() {
            return TransactionId(running.0.saturating_sub(1));
        }
        running
    }

    /// All transactions up to this are durable.
    pub const fn stable_transaction(&self) -> TransactionId {
        self.stable_transaction
    }

    /// All records up to this are durable.
    pub const fn stable_sequence(&self) -> Sequence {
        self.stable_sequence
    }

    /// Free blocks and inodes, as closed handles left them.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The first error, after which nothing is written any more (I12).
    pub const fn error(&self) -> Option<Error> {
        self.error
    }

    /// Remembers the first error; later ones are only reported by who met them.
    pub fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Fails when the journal has failed.
    pub fn check(&self) -> Result {
        if self.error.is_some() {
            return Err(Error::ShutDown);
        }
        Ok(())
    }

    /// The present content of a metadata block, when the log has something of it; else the device, or a cache of it, is
    /// current.
    pub fn block(&self, block: BlockNo) -> Option<&BlockObject> {
        self.blocks.get(block).filter(|object| object.freed_by.is_none())
    }

    /// A copy of the present content of an orphan block.
    pub fn orphan_block(&self, block: BlockNo) -> Option<Result<Shared<Buffer>>> {
        let object = self.orphans.get(block)?;
        Some(object.content.try_clone().and_then(Shared::try_new).map_err(Error::from))
    }

    /// The image of an inode, when the log has it; else its table block is current.
    pub fn inode_image(&self, number: InodeNo) -> Option<&Buffer> {
        self.inodes.get(number).map(|object| &object.image)
    }

    /// The newest transaction with a change of an inode whose image the log has.
    pub fn newest_change(&self, number: InodeNo) -> Option<TransactionId> {
        self.inodes.get(number)?.log.newest
    }

    /// Whether `block`, of an inode table, has come below the mark and not been home yet: it reads as zero.
    pub fn is_new_table_block(&self, block: BlockNo) -> bool {
        self.tables.contains_key(block)
    }

    /// The mark of a loaded group's inode table: slots at or above it read as zero.
    pub fn table_mark(&self, group: GroupNo) -> Option<u32> {
        self.groups.get(group).map(|object| object.table_mark)
    }

    /// The bits of a loaded group's bitmap block.
    pub fn bitmap(&self, key: BitmapKey) -> Option<&Buffer> {
        self.bitmaps.get(key).map(|object| &object.bits)
    }

    /// Whether the bitmap block has masks; it keeps them as long as a handle is open.
    pub fn has_masks(&self, key: BitmapKey) -> bool {
        self.bitmaps.get(key).is_some_and(|object| object.masks.is_some())
    }

    /// Whether the group has been loaded.
    pub fn has_group(&self, group: GroupNo) -> bool {
        self.groups.contains_key(group)
    }

    /// Adds a group that was read from the device or is implied, unless it is there already. After an error it may be there in
    /// part, and adding it again completes it. [`Error::JournalFull`]: so many have been begun which the log does not know yet
    /// that this one has to wait until some of their handles have closed.
    pub fn add_group(&mut self, group: GroupNo, mut loaded: LoadedGroup) -> Result {
        if self.has_group(group) {
            return Ok(());
        }
        if loaded.fresh {
            self.note_begun(group.0.saturating_add(1))?;
        }
        while let Some((key, bits)) = loaded.bitmaps.pop_first() {
            let (log, fresh) = (LogState::default(), loaded.fresh);
            self.bitmaps
                .insert(key, BitmapObject { log, bits, masks: None, fresh, fresh_in_flight: false })?;
        }
        self.groups.insert(group, loaded.header)?;
        Ok(())
    }

    /// Adds a block of the orphan index, at mount.
    pub fn add_orphan_block(&mut self, block: BlockNo, first_slot: OrphanSlot, content: Buffer) -> Result {
        use words::WordSet;
        let (changed, in_flight) = (WordSet::EMPTY, WordSet::EMPTY);
        let object =
            OrphanObject { log: LogState::default(), first_slot, content, changed, in_flight, fresh: false };
        // A remount that has failed half-way has left the same block in the same place.
        if self.orphans.insert(block, object)?.is_some_and(|old| old.first_slot != first_slot) {
            return corrupt(Check::OrphanSlot, block, 0, u64::from(first_slot.0));
        }
        Ok(())
    }

    fn log_state(&mut self, key: ObjectKey) -> Option<&mut LogState> {
        Some(match key {
            ObjectKey::Table(block) => &mut self.tables.get_mut(block)?.log,
            ObjectKey::Group(group) => &mut self.groups.get_mut(group)?.log,
            ObjectKey::Bitmap(bitmap) => &mut self.bitmaps.get_mut(bitmap)?.log,
            ObjectKey::Orphans(block) => &mut self.orphans.get_mut(block)?.log,
            ObjectKey::Inode(number) => &mut self.inodes.get_mut(number)?.log,
            ObjectKey::Block(block) => &mut self.blocks.get_mut(block)?.log,
        })
    }

    fn pin(&mut self, transaction: TransactionId) {
        if let Some(logged) = self.logged.get_mut(transaction) {
            logged.pins = logged.pins.saturating_add(1);
        }
    }

    fn unpin(&mut self, transaction: Option<TransactionId>) {
        if let Some(logged) = transaction.and_then(|id| self.logged.get_mut(id)) {
            logged.pins = logged.pins.saturating_sub(1);
        }
    }

    /// The oldest record that is still needed, or the place of the next one. Forgets transactions that nothing needs.
    pub fn tail(&mut self) -> Place {
        let stable = self.stable_transaction;
        while let Some((id, logged)) = self.logged.first() {
            if logged.pins > 0 || id > stable || !logged.freed.is_empty() {
                break;
            }
            self.logged.remove(id);
        }
        let needed = self.logged.iter().find(|(id, logged)| logged.pins > 0 || *id > stable);
        needed.map_or_else(|| self.ring.head(), |(_, logged)| logged.first)
    }

    /// The header to be written now, and to which block. One is written at a time: until [`Journal::end_header`] there is no other
    /// ([`Error::WouldBlock`]), for the next one would go where the only whole one stands.
    ///
    /// A clean one says that nothing needs to be replayed. It is refused ([`Error::WouldBlock`]) while the log holds anything or
    /// a handle is open; from then on no handle is let in, and no other header goes over it, until [`Journal::reopen`], for replay would
    /// not look at the records.
    pub fn begin_header(&mut self, clean: bool) -> Result<HeaderWrite> {
        self.check()?;
        let is_early = clean && (!self.is_clean() || self.promised.handles > 0);
        if self.header_in_flight || self.ended || is_early {
            return Err(Error::WouldBlock);
        }
        self.header_in_flight = true;
        self.ended = clean;
        let place = self.tail();
        let header = JournalHeader {
            uuid: self.uuid,
            counter: self.header_counter.saturating_add(1),
            flags: if clean { HEADER_CLEAN } else { 0 },
            newest_generation: self.ring.generation(),
            tail: place.tail,
            next_transaction: self.stable_transaction.next(),
            totals: self.stable_totals,
            ring_bytes: self.ring.bytes(),
            stable_sequence: self.stable_sequence,
            reserved: [0; 24],
        };
        let block = JournalHeader::next_block(self.geometry.journal_start, header.counter);
        Ok(HeaderWrite { header, block, place })
    }

    /// Writing begins again. Until a header that is not clean is durable, the caller opens no handle.
    pub fn reopen(&mut self) {
        self.ended = false;
    }

    /// The header has been written, durably: what lies behind its tail may be overwritten. After an error the block that it went
    /// to may be torn; so no other is ever written, and the journal has failed.
    pub fn end_header(&mut self, written: &HeaderWrite, outcome: Result) -> Result {
        self.header_in_flight = false;
        if let Err(error) = outcome {
            self.fail(error);
            return Err(error);
        }
        self.header_counter = written.header.counter;
        self.ring.header_is_durable(written.place.absolute);
        Ok(())
    }

    /// Whether a durable header states the tail already: another one would say nothing new.
    pub fn tail_is_durable(&mut self) -> bool {
        self.tail().absolute == self.ring.durable_tail()
    }

    /// Whether the log holds nothing that is not home, and nothing is running: a clean header may be written.
    pub fn is_clean(&mut self) -> bool {
        self.running.is_empty() && self.tail().absolute == self.ring.head().absolute
    }

    /// The ring, for statistics.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }
}
