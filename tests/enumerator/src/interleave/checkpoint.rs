// SPDX-License-Identifier: GPL-2.0

//! A checkpoint in its steps: units go home one by one, with others under way; a flush settles those that had completed; a
//! header moves the tail.

use super::machine::{told, Machine, Told};
use super::medium::Request;
use super::step::Step;
use super::Flusher;
use crate::disk::Write;
use cairnfs_core::device::Device as _;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::journal::checkpoint::{HomeUnit, HomeWrite};
use cairnfs_core::journal::HeaderWrite;
use cairnfs_core::units::{BlockNo, FlushNo, TransactionId, BLOCK_BYTES};
use std::collections::BTreeMap;
use std::hash::Hash;
use xxhash_rust::xxh3::Xxh3;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Units under way at once.
const UNITS_MAX: u8 = 2;

/// How far a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Progress {
    UnderWay,
    Completed,
    /// Completed before the flush that is under way was submitted.
    Covered,
}

/// The checkpoint.
pub(super) struct Checkpoint {
    memory: HomeWrite,
    /// Units that are not settled, by the number of their request.
    units: BTreeMap<u8, (HomeUnit, Progress)>,
    flush: Option<FlushNo>,
    header: Option<HeaderWrite>,
    /// A header would say something new.
    wants_header: bool,
    /// For each unit, what its last home write has seen: handles closed, and the stable transaction.
    seen: BTreeMap<HomeUnit, (usize, TransactionId)>,
}

const fn order(unit: HomeUnit) -> (u8, u64) {
    match unit {
        HomeUnit::Block(block) => (0, block.0),
        HomeUnit::Table(block) => (1, block.0),
        HomeUnit::Orphans(block) => (2, block.0),
        HomeUnit::Group(group) => (3, group.0 as u64),
    }
}

impl Checkpoint {
    /// Nothing is on its way home.
    pub(super) fn new() -> Told<Self> {
        Ok(Self {
            memory: told(HomeWrite::try_new())?,
            units: BTreeMap::new(),
            flush: None,
            header: None,
            wants_header: false,
            seen: BTreeMap::new(),
        })
    }

    /// The tail, or what is stable, has moved.
    pub(super) const fn header_is_due(&mut self) {
        self.wants_header = true;
    }

    /// Adds to a hash what tells this checkpoint from others, but for the clock of flushes.
    pub(super) fn add_to(&self, hasher: &mut Xxh3) {
        for (slot, (unit, progress)) in &self.units {
            (slot, order(*unit), progress).hash(hasher);
        }
        for (unit, seen) in &self.seen {
            (order(*unit), seen).hash(hasher);
        }
        (self.flush.is_some(), self.header.is_some(), self.wants_header).hash(hasher);
    }

    /// The flush that it waits for.
    pub(super) const fn flush(&self) -> Option<FlushNo> {
        self.flush
    }
}

impl Machine<'_> {
    pub(super) fn add_checkpoint_steps(&mut self, steps: &mut Vec<Step>) {
        let is_room = self.free_slot().is_some();
        if is_room && self.volume.journal().next_home(BlockNo(0)).is_some() {
            steps.push(Step::StartHome);
        }
        let mut progress = self.checkpoint.units.values().map(|(_, progress)| *progress);
        if self.checkpoint.flush.is_some() {
            steps.push(Step::EndHomeFlush);
        } else if progress.any(|progress| progress == Progress::Completed) {
            steps.push(Step::StartHomeFlush);
        }
        if self.checkpoint.wants_header && self.checkpoint.header.is_none() {
            steps.push(Step::StartHeader);
        }
    }

    fn free_slot(&self) -> Option<u8> {
        (0..UNITS_MAX).find(|slot| !self.checkpoint.units.contains_key(slot))
    }

    pub(super) fn start_home(&mut self) -> Told {
        let slot = self.free_slot().ok_or("too many units are under way")?;
        let next = self.volume.journal().next_home(BlockNo(0));
        let unit = next.ok_or("nothing may go home")?;
        let base = self.volume.journal().home_needs_base(unit);
        let base = base
            .map(|block| {
                let mut bytes = vec![0; BLOCK_BYTES];
                self.medium.read(block, &mut bytes).map(|()| bytes)
            })
            .transpose();
        let base = told(base)?;
        let platform = self.volume.platform();
        let memory = &mut self.checkpoint.memory;
        told(self.volume.journal().begin_home(platform, unit, base.as_deref(), memory))?;
        let writes = memory
            .blocks()
            .map(|(block, bytes)| Write {
                start_byte: block.0 * BLOCK,
                bytes: bytes[..].into(),
                durable: false,
            })
            .collect();
        self.medium.submit(Request::Home(slot), writes)?;
        let stable = self.volume.journal().stable_transaction();
        self.checkpoint.seen.insert(unit, (self.closed.len(), stable));
        self.checkpoint.units.insert(slot, (unit, Progress::UnderWay));
        Ok(())
    }

    pub(super) fn home_completed(&mut self, slot: u8) -> Told {
        let (unit, progress) = self.checkpoint.units.get_mut(&slot).ok_or("no such unit")?;
        *progress = Progress::Completed;
        let unit = *unit;
        // What was read before is not what is home now.
        self.volume.drop_cache();
        told(self.volume.journal().end_home(unit, Ok(())))
    }

    pub(super) fn start_home_flush(&mut self) -> Told {
        let flush = self.volume.journal().clock().start();
        self.medium.start_flush(Flusher::Home);
        self.checkpoint.flush = Some(flush);
        for (_, progress) in self.checkpoint.units.values_mut() {
            if *progress == Progress::Completed {
                *progress = Progress::Covered;
            }
        }
        Ok(())
    }

    pub(super) fn end_home_flush(&mut self) -> Told {
        let flush = self.checkpoint.flush.take().ok_or("no flush is under way")?;
        self.medium.end_flush(Flusher::Home);
        self.volume.journal().clock().complete(flush);
        let units = std::mem::take(&mut self.checkpoint.units);
        for (slot, (unit, progress)) in units {
            if progress != Progress::Covered {
                self.checkpoint.units.insert(slot, (unit, progress));
                continue;
            }
            let freed = self.volume.journal().settle_home(unit, &mut |_, _| {});
            if let (HomeUnit::Block(block), Some(freed)) = (unit, freed) {
                self.give_back(block, freed)?;
            }
        }
        self.checkpoint.wants_header = true;
        Ok(())
    }

    pub(super) fn start_header(&mut self) -> Told {
        let written = told(self.volume.journal().begin_header(false))?;
        let mut bytes = vec![0; BLOCK_BYTES];
        let filesystem_id = self.volume.layout().filesystem_id;
        told(written.header.write(self.volume.platform(), &mut bytes, filesystem_id, written.block))?;
        let write = Write { start_byte: written.block.0 * BLOCK, bytes: bytes.into(), durable: true };
        self.medium.submit(Request::Header, vec![write])?;
        self.checkpoint.wants_header = false;
        self.checkpoint.header = Some(written);
        Ok(())
    }

    /// A header is written durably: without FUA a flush follows, and nobody goes on before that.
    pub(super) fn header_completed(&mut self) -> Told {
        let written = self.checkpoint.header.take().ok_or("no header is under way")?;
        if !self.prepared.force_unit_access {
            self.medium.start_flush(Flusher::Header);
            self.medium.end_flush(Flusher::Header);
        }
        told(self.volume.journal().end_header(&written, Ok(())))
    }
}
