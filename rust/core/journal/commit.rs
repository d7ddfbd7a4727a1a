// SPDX-License-Identifier: GPL-2.0

//! Commit: the running transaction becomes records.
//!
//! [`Journal::begin_commit`] swaps the running transaction for an empty one and formats all of its items, in the order of their
//! keys, into the caller's buffer: unions, with the values of this moment, so that operations go on while the records are being
//! written. One commit is under way at a time. Then, without the journal mutex, the leader seals the records
//! ([`Commit::seal`]), writes them, flushes as [`Commit::ending`] says, and reports ([`Journal::end_commit`]).
//!
//! The flush rule for transactions: when a mapping in the transaction leads to contents that no completed flush covers, one bio
//! of the records carries a pre-flush. A transaction is replayed only whole, so one is enough. The commit is durable when all its
//! records have been written with FUA, if every earlier record was known durable before; else when a flush that follows
//! the last of them has completed.
//!
//! A crash leaves some of the records and not others: the transaction ends in a hole or a bad CRC and is discarded whole.
//! Nobody has been told otherwise: waiters wake in `end_commit`.

use crate::error::{Error, Result};
use crate::format::journal::{
    record_crc, record_seed, RecordHeader, Totals, PAYLOAD_BYTES_MAX, RECORD_CRC_OFFSET, RECORD_LAST,
    RECORD_MAGIC, RECORD_VERSION, RECORD_WRAP,
};
use crate::format::layout::put;
use crate::journal::encode::{self, Writer};
use crate::journal::object::ObjectKey;
use crate::journal::ring::{Place, Ring};
use crate::journal::transaction::{Freed, Logged, Running};
use crate::journal::Journal;
use crate::memory::{self, Buffer, OrderedMap};
use crate::platform::Platform;
use crate::units::{round_up, BlockNo, FlushNo, Generation, OrphanSlot, Position, Sequence, TransactionId};

/// How a commit becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every bio carries FUA.
    ForceUnitAccess,
    /// A flush follows the last bio.
    Flush,
    /// Neither: the records are written, but only a later commit makes them durable.
    None,
}

/// What the leader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    /// Whether it has to be durable.
    pub durable: bool,
    /// Whether the device has FUA writes.
    pub force_unit_access: bool,
    /// Now.
    pub now_ns: u64,
}

/// What the leader brings: memory.
pub struct CommitSpace {
    /// For the records: at least [`Journal::commit_bytes_bound`].
    pub buffer: Buffer,
    /// For the transaction's entry.
    pub node: memory::Reservation<TransactionId, Logged>,
}

/// A run of bytes of the buffer and where in the ring it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Where in the ring.
    pub position: Position,
    /// Where in the buffer.
    pub offset: usize,
    /// How many bytes, a multiple of the physical block.
    pub bytes: usize,
}

/// A transaction on its way into the ring.
pub struct Commit {
    /// Its number.
    pub transaction: TransactionId,
    /// Its last record.
    pub last_sequence: Sequence,
    /// The records.
    pub buffer: Buffer,
    /// Where they go: one run, or two when the ring's end came between.
    pub segments: [Segment; 2],
    /// The number of the flush that one bio must carry in front of it.
    pub pre_flush: Option<FlushNo>,
    /// How it becomes durable.
    pub ending: Ending,
    /// Records, wrap records not counted.
    pub records: u16,
    previous_crc: u32,
    physical_block_bytes: u64,
}

/// Why there is no commit now.
pub enum NoCommit {
    /// Nothing has closed since the last one.
    Nothing,
    /// Nothing has closed since the last one, but the records up to this transaction have only been written: flush, then call
    /// [`Journal::stable_through`]. Not before that may anybody be told that he is durable.
    NotDurable(TransactionId),
    /// The buffer is too small by now: bring one of this many bytes.
    MoreSpace(u64),
}

/// The blocks that a stable transaction freed: they go back to their groups.
pub type Released = OrderedMap<BlockNo, Freed>;

impl Journal {
    /// Swaps the running transaction out and makes its records. Fails with [`Error::WouldBlock`] while another commit is
    /// under way.
    pub fn begin_commit(
        &mut self,
        request: &CommitRequest,
        space: CommitSpace,
    ) -> Result<core::result::Result<Commit, NoCommit>> {
        self.check()?;
        if self.writing.is_some() {
            return Err(Error::WouldBlock);
        }
        if self.running.is_empty() {
            let newest = TransactionId(self.running.id.0.saturating_sub(1));
            let is_durable = !request.durable || self.stable_transaction >= newest;
            return Ok(Err(if is_durable { NoCommit::Nothing } else { NoCommit::NotDurable(newest) }));
        }
        let bound = self.commit_bytes_bound();
        if (space.buffer.len() as u64) < bound {
            return Ok(Err(NoCommit::MoreSpace(bound)));
        }
        self.swap_and_format(request, space).map(Ok)
    }

    #[inline(never)] // For the stack, as `format`: transaction and commit are large.
    fn swap_and_format(&mut self, request: &CommitRequest, space: CommitSpace) -> Result<Commit> {
        let next = Running::new(self.running.id.next());
        let running = core::mem::replace(&mut self.running, next);
        let first = self.ring.head();
        let all_stable = self.stable_sequence.next() == first.tail.sequence;
        match self.format(&running, request, space.buffer) {
            Ok(mut commit) => {
                self.choose_flushes(&mut commit, &running, request, all_stable);
                self.bits_are_logged(&running);
                self.writing = Some(running.id);
                let logged = Logged {
                    first,
                    last_sequence: commit.last_sequence,
                    objects: running.objects,
                    freed: running.freed,
                    totals: self.totals,
                    pins: 0,
                };
                self.logged.insert_reserved(space.node, running.id, logged);
                Ok(commit)
            }
            Err(error) => {
                // The buffer was measured, so this is a mistake of ours: nothing has been written, and nothing will be.
                self.fail(error);
                Err(error)
            }
        }
    }

    fn choose_flushes(
        &mut self,
        commit: &mut Commit,
        running: &Running,
        request: &CommitRequest,
        all_stable: bool,
    ) {
        if running.data_mark.is_some_and(|mark| !self.clock.covers(mark)) {
            commit.pre_flush = Some(self.clock.start());
        }
        commit.ending = match (request.durable, request.force_unit_access && all_stable) {
            (false, _) => Ending::None,
            (true, true) => Ending::ForceUnitAccess,
            (true, false) => Ending::Flush,
        };
    }

    fn bits_are_logged(&mut self, running: &Running) {
        for (key, _) in running.objects.iter() {
            if let ObjectKey::Bitmap(bitmap) = key {
                if let Some(masks) = self.bitmaps.get_mut(bitmap).and_then(|object| object.masks.as_mut()) {
                    masks.logged();
                }
            }
        }
    }

    #[inline(never)]
    fn format(&mut self, running: &Running, request: &CommitRequest, buffer: Buffer) -> Result<Commit> {
        let tail = self.tail();
        let previous_crc = self.ring.head().tail.previous_crc;
        let mut formatter = Formatter {
            buffer,
            at: 0,
            record: 0,
            in_record: false,
            records: 0,
            segments: [
                Segment { position: self.ring.head().tail.position, offset: 0, bytes: 0 },
                Segment::default(),
            ],
            segment: 0,
            ring: self.ring,
            header: self.record_header(running, request, &tail),
            physical_block_bytes: u64::from(self.geometry.physical_block_bytes),
        };
        for (key, _) in running.objects.iter() {
            self.format_object(&mut formatter, key)?;
        }
        for (block, ()) in running.revokes.iter() {
            formatter.item(encode::REVOKE_BYTES, |writer| encode::put_revoke(writer, block, 1))?;
        }
        let totals: Totals = self.totals;
        formatter.item(encode::TOTALS_BYTES, |writer| encode::put_totals(writer, &totals))?;
        for (_, note) in running.notes.iter() {
            formatter.item(encode::item_bytes(note.len()), |writer| encode::put_operation(writer, note))?;
        }
        formatter.end_record(RECORD_LAST)?;
        if formatter.ring.used_bytes() > self.ring.bytes() {
            // Reservations keep this from happening; if they ever do not, the old records must survive.
            return Err(Error::JournalFull);
        }
        self.ring = formatter.ring;
        Ok(Commit {
            transaction: running.id,
            last_sequence: Sequence(self.ring.head().tail.sequence.0.saturating_sub(1)),
            buffer: formatter.buffer,
            segments: formatter.segments,
            pre_flush: None,
            ending: Ending::None,
            records: formatter.records,
            previous_crc,
            physical_block_bytes: formatter.physical_block_bytes,
        })
    }

    fn record_header(&self, running: &Running, request: &CommitRequest, tail: &Place) -> RecordHeader {
        RecordHeader {
            magic: RECORD_MAGIC,
            version: RECORD_VERSION,
            flags: 0,
            header_bytes: RecordHeader::SIZE as u16,
            fragment: 0,
            fragments: 0,
            reserved: 0,
            transaction: running.id,
            sequence: Sequence(0),
            generation: Generation(0),
            payload_bytes: 0,
            tail_position: tail.tail.position,
            tail_sequence: tail.tail.sequence,
            stable_sequence: self.stable_sequence,
            timestamp_ns: request.now_ns,
            previous_crc: 0,
            crc: 0,
        }
    }

    #[inline(never)] // For the stack: each sort of item has its own values.
    fn format_object(&self, formatter: &mut Formatter, key: ObjectKey) -> Result {
        let gone = Error::ShutDown;
        match key {
            ObjectKey::Table(block) => {
                let (group, _) = self.geometry.locate_block(block).ok_or(gone)?;
                let first = self.geometry.table_of(group).0;
                let index = block.0.saturating_sub(first) as u32;
                formatter
                    .item(encode::TABLE_ZERO_BYTES, |writer| encode::put_table_zero(writer, group, index))
            }
            ObjectKey::Group(group) => {
                let object = self.groups.get(group).ok_or(gone)?;
                formatter.item(encode::GROUP_BYTES, |writer| encode::put_group(writer, group, object))
            }
            ObjectKey::Bitmap(bitmap) => {
                let object = self.bitmaps.get(bitmap).ok_or(gone)?;
                formatter
                    .item(encode::bitmap_bytes(object), |writer| encode::put_bitmap(writer, bitmap, object))
            }
            ObjectKey::Orphans(block) => self.format_orphans(formatter, block),
            ObjectKey::Inode(number) => {
                let object = self.inodes.get(number).ok_or(gone)?;
                formatter.item(encode::inode_bytes(object), |writer| encode::put_inode(writer, object))
            }
            ObjectKey::Block(block) => {
                let object = self.blocks.get(block).ok_or(gone)?;
                formatter.item(encode::block_bytes(object), |writer| encode::put_block(writer, block, object))
            }
        }
    }

    fn format_orphans(&self, formatter: &mut Formatter, block: BlockNo) -> Result {
        let object = self.orphans.get(block).ok_or(Error::ShutDown)?;
        let words = object.logged();
        if object.fresh {
            let bytes = encode::fresh_slots_bytes(object);
            formatter.item(bytes, |writer| encode::put_fresh_slots(writer, block, object))?;
        }
        for (slot, content) in encode::slots(object, &words) {
            let number = OrphanSlot(object.first_slot.0.saturating_add(slot));
            formatter.item(encode::SLOT_BYTES, |writer| encode::put_slot(writer, number, content))?;
        }
        Ok(())
    }

    /// The commit's I/O has ended. When it is durable, so is everything before it, and objects need its records from now
    /// on; what was freed up to here can be had from [`Journal::take_released`]. Nothing is durable by a commit during which the
    /// journal has failed.
    pub fn end_commit(&mut self, commit: &Commit, outcome: Result) -> Result {
        self.writing = None;
        if let Err(error) = outcome.and_then(|()| self.check()) {
            self.fail(error);
            return Err(error);
        }
        if commit.ending != Ending::None {
            self.stable_through(commit.transaction);
        }
        Ok(())
    }

    /// A flush that started when everything up to `transaction` had been written has completed.
    pub fn stable_through(&mut self, transaction: TransactionId) {
        while self.stable_transaction < transaction {
            let id = self.stable_transaction.next();
            self.stable_transaction = id;
            let Some(logged) = self.logged.get_mut(id) else {
                continue;
            };
            let mut objects = core::mem::take(&mut logged.objects);
            self.stable_sequence = logged.last_sequence;
            self.stable_totals = logged.totals;
            while let Some((key, _)) = objects.pop_first() {
                self.needs_now(key, id);
            }
        }
    }

    fn needs_now(&mut self, key: ObjectKey, transaction: TransactionId) {
        let Some(log) = self.log_state(key) else {
            return;
        };
        let before = log.pinned.replace(transaction);
        self.pin(transaction);
        self.unpin(before);
    }

    /// What a stable transaction freed, to be given back to its groups; again and again until there is no more. A block with
    /// a home write under way stays out: that write would land on new contents.
    pub fn take_released(&mut self) -> Option<Released> {
        let mut id = self.logged.first()?.0;
        while id <= self.stable_transaction {
            let logged = self.logged.get_mut(id)?;
            if !logged.freed.is_empty() {
                let mut freed = core::mem::take(&mut logged.freed);
                self.forget_freed_blocks(&mut freed, id);
                return Some(freed);
            }
            id = self.logged.next_after(id)?.0;
        }
        None
    }

    fn forget_freed_blocks(&mut self, freed: &mut Released, transaction: TransactionId) {
        let mut next = freed.first().map(|(start, _)| start);
        while let Some(start) = next {
            next = freed.next_after(start).map(|(later, _)| later);
            if !freed.get(start).is_some_and(|entry| entry.metadata) {
                continue;
            }
            let Some(object) =
                self.blocks.get_mut(start).filter(|object| object.freed_by == Some(transaction))
            else {
                continue;
            };
            if object.log.home_in_flight {
                object.release = freed.remove(start);
                continue;
            }
            let pinned = object.log.pinned;
            self.blocks.remove(start);
            self.unpin(pinned);
        }
    }

    /// The records have been sealed, the last one with this CRC: the next record repeats it.
    pub fn sealed(&mut self, last_crc: u32) {
        self.ring.set_previous_crc(last_crc);
    }
}

impl Commit {
    /// Numbers the fragments, chains the CRCs, and stamps each record; runs without the journal mutex. Returns the last CRC
    /// for [`Journal::sealed`], which must be told before the next commit begins.
    pub fn seal(&mut self, platform: &dyn Platform, uuid: &[u8; 16]) -> Result<u32> {
        let mut crc = self.previous_crc;
        for segment in self.segments {
            let end = segment.offset.saturating_add(segment.bytes);
            let mut at = segment.offset;
            while at < end {
                let rest = self.buffer.get_mut(at..end).ok_or(Error::ShutDown)?;
                let mut header = RecordHeader::decode(rest, 0)?;
                header.fragments = self.records;
                header.previous_crc = crc;
                let bytes = RecordHeader::SIZE.saturating_add(header.payload_bytes as usize);
                let record = rest.get_mut(..bytes).ok_or(Error::ShutDown)?;
                header.encode(record, 0)?;
                crc = record_crc(platform, record_seed(platform, uuid, header.generation), record);
                put(record, RECORD_CRC_OFFSET, crc)?;
                at = at.saturating_add(round_up(bytes as u64, self.physical_block_bytes) as usize);
            }
        }
        Ok(crc)
    }
}

/// Places items in records, and records in buffer and ring.
struct Formatter {
    buffer: Buffer,
    /// Where the next byte goes.
    at: usize,
    /// Where the record under way begins.
    record: usize,
    in_record: bool,
    /// Records, wrap records not counted.
    records: u16,
    segments: [Segment; 2],
    /// Which segment is being filled.
    segment: usize,
    ring: Ring,
    header: RecordHeader,
    physical_block_bytes: u64,
}

impl Formatter {
    fn padded(&self, bytes: usize) -> u64 {
        round_up(bytes as u64, self.physical_block_bytes)
    }

    /// Whether the record under way can take `bytes` more.
    fn fits(&self, bytes: usize) -> bool {
        let record = self.at.saturating_sub(self.record).saturating_add(bytes);
        record <= PAYLOAD_BYTES_MAX.saturating_add(RecordHeader::SIZE)
            && self.padded(record) <= self.ring.contiguous_bytes()
    }

    fn item(&mut self, bytes: usize, write: impl FnOnce(&mut Writer<'_>) -> Result) -> Result {
        if self.in_record && !self.fits(bytes) {
            self.end_record(0)?;
        }
        if !self.in_record {
            self.begin_record(bytes)?;
        }
        let mut writer = Writer::new(&mut self.buffer, self.at);
        write(&mut writer)?;
        if writer.position() != self.at.saturating_add(bytes) {
            return Err(Error::ShutDown);
        }
        self.at = writer.position();
        Ok(())
    }

    /// Begins a record whose first item has `bytes`; what is left of the ring is passed over when it is too little.
    fn begin_record(&mut self, bytes: usize) -> Result {
        let needed = RecordHeader::SIZE.saturating_add(bytes);
        if self.padded(needed) > self.ring.contiguous_bytes() {
            self.record = self.at;
            self.at = self.at.saturating_add(RecordHeader::SIZE);
            self.write_header(RECORD_WRAP)?;
            self.ring.wrap();
            self.next_segment()?;
        }
        self.record = self.at;
        self.at = self.at.saturating_add(RecordHeader::SIZE);
        self.in_record = true;
        Ok(())
    }

    fn end_record(&mut self, flags: u16) -> Result {
        self.write_header(flags)?;
        self.records = self.records.checked_add(1).ok_or(Error::ShutDown)?;
        self.in_record = false;
        let padded = self.at.saturating_sub(self.record) as u64;
        self.ring.advance(padded);
        if self.ring.head().tail.position == Position(0) {
            self.next_segment()?;
        }
        Ok(())
    }

    /// Writes the header of the record that ends here, and pads the record.
    #[inline(never)] // For the stack: items and their end come from many places.
    fn write_header(&mut self, flags: u16) -> Result {
        let head = self.ring.head().tail;
        let bytes = self.at.saturating_sub(self.record);
        self.header.flags = flags;
        self.header.fragment = self.records;
        self.header.sequence = head.sequence;
        self.header.generation = head.generation;
        self.header.payload_bytes = bytes.saturating_sub(RecordHeader::SIZE) as u32;
        self.header.encode(&mut self.buffer, self.record)?;
        let end = self.record.saturating_add(self.padded(bytes) as usize);
        self.buffer.get_mut(self.at..end).ok_or(Error::ShutDown)?.fill(0);
        self.at = end;
        let segment = self.segments.get_mut(self.segment).ok_or(Error::ShutDown)?;
        segment.bytes = self.at.saturating_sub(segment.offset);
        Ok(())
    }

    /// The next record goes to the start of the ring.
    fn next_segment(&mut self) -> Result {
        self.segment = self.segment.saturating_add(1);
        // A commit is at most a quarter of the ring, so it meets its end once at the most. (It may end there exactly, and then
        // the second segment stays empty.)
        let offset = self.at;
        *self.segments.get_mut(self.segment).ok_or(Error::ShutDown)? =
            Segment { position: Position(0), offset, bytes: 0 };
        Ok(())
    }
}
