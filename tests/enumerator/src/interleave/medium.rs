// SPDX-License-Identifier: GPL-2.0

//! A disk whose requests are submitted and completed as a schedule says.
//!
//! A request is a write or several; it is seen by reads, and becomes volatile or, with FUA, durable, when it completes. A
//! flush makes durable what had completed when it was submitted. A power cut keeps what is durable, and any part of the rest:
//! what had completed and what was under way alike. Two writes of one sector under way at once have no order that anybody
//! knows, and are a mistake of whoever submitted the second.

use crate::disk::{Image, Write};
use crate::states::Epoch;
use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES, SECTOR_BYTES};
use cairnfs_volume::RecordDevice;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use xxhash_rust::xxh3::Xxh3;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// Contents that a thread writes.
    Data(u8),
    /// A segment of the commit under way.
    Segment(u8),
    /// A unit that goes home.
    Home(u8),
    /// A journal header.
    Header,
}

/// Who waits for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flusher {
    /// The commit, in front of a record.
    Before,
    /// The commit, behind its records.
    Behind,
    /// The checkpoint.
    Home,
    /// A journal header, on a disk without FUA.
    Header,
    /// A thread's `fsync`.
    Thread(u8),
}

struct State {
    /// As reads see it.
    current: Image,
    durable: Image,
    /// Completed since, in that order; FUA writes are marked.
    completed: Vec<Write>,
    submitted: BTreeMap<Request, Vec<Write>>,
    /// Flushes under way: how many of the completed writes each covers.
    flushes: BTreeMap<Flusher, usize>,
    /// Requests of the step at hand.
    new: Vec<Request>,
    /// From here on requests are steps of a schedule.
    is_stepped: bool,
}

/// The disk.
pub(super) struct Medium {
    device_blocks: u64,
    state: RefCell<State>,
}

impl Medium {
    /// A disk that holds `image`; what is written to it is durable at once, until [`Medium::begin`].
    pub(super) fn new(image: &Image, device_blocks: u64) -> Self {
        let state = State {
            current: image.clone(),
            durable: image.clone(),
            completed: Vec::new(),
            submitted: BTreeMap::new(),
            flushes: BTreeMap::new(),
            new: Vec::new(),
            is_stepped: false,
        };
        Self { device_blocks, state: RefCell::new(state) }
    }

    /// The schedule begins.
    pub(super) fn begin(&self) {
        let mut state = self.state.borrow_mut();
        state.durable = state.current.clone();
        state.is_stepped = true;
    }

    /// A step begins.
    pub(super) fn begin_step(&self) {
        self.state.borrow_mut().new.clear();
    }

    /// What was submitted since.
    pub(super) fn newly_submitted(&self) -> Vec<Request> {
        self.state.borrow().new.clone()
    }

    /// Puts writes under way.
    pub(super) fn submit(&self, request: Request, writes: Vec<Write>) -> std::result::Result<(), String> {
        let mut state = self.state.borrow_mut();
        let end = |write: &Write| write.start_byte + write.bytes.len() as u64;
        for (other, under_way) in &state.submitted {
            for (a, b) in under_way.iter().flat_map(|a| writes.iter().map(move |b| (a, b))) {
                if a.start_byte < end(b) && b.start_byte < end(a) {
                    return Err(format!(
                        "{request:?} writes to byte {} while {other:?}, to byte {}, is under way",
                        b.start_byte, a.start_byte
                    ));
                }
            }
        }
        state.new.push(request);
        match state.submitted.insert(request, writes) {
            None => Ok(()),
            Some(_) => Err(format!("{request:?} is under way already")),
        }
    }

    /// What is under way.
    pub(super) fn under_way(&self) -> Vec<Request> {
        self.state.borrow().submitted.keys().copied().collect()
    }

    /// Whether a request is under way.
    pub(super) fn is_under_way(&self, request: Request) -> bool {
        self.state.borrow().submitted.contains_key(&request)
    }

    /// Ends a request.
    pub(super) fn complete(&self, request: Request) {
        let mut state = self.state.borrow_mut();
        for write in state.submitted.remove(&request).unwrap_or_default() {
            state.current.write(write.start_byte, &write.bytes);
            state.completed.push(write);
        }
    }

    /// Submits a flush.
    pub(super) fn start_flush(&self, flusher: Flusher) {
        let mut state = self.state.borrow_mut();
        let covered = state.completed.len();
        state.flushes.insert(flusher, covered);
    }

    /// Ends a flush.
    pub(super) fn end_flush(&self, flusher: Flusher) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let covered = state.flushes.remove(&flusher).unwrap_or(0);
        for write in state.completed.drain(..covered) {
            state.durable.write(write.start_byte, &write.bytes);
        }
        for other in state.flushes.values_mut() {
            *other = other.saturating_sub(covered);
        }
    }

    /// Shows what a cut now may leave: everything durable, the writes of which any may be lost, and for each of these the
    /// request, if it is still under way.
    pub(super) fn at_cut<T>(&self, look: impl FnOnce(&Epoch<'_>, &[Option<Request>]) -> T) -> T {
        let state = self.state.borrow();
        let mut requests = vec![None; state.completed.len()];
        let mut lost = Vec::new();
        for (request, writes) in &state.submitted {
            for write in writes {
                lost.push(Write { durable: false, ..write.clone() });
                requests.push(Some(*request));
            }
        }
        let writes = state.completed.iter().chain(&lost).collect();
        look(&Epoch { base: state.durable.clone(), writes }, &requests)
    }

    /// Adds to a hash what tells this disk from others.
    pub(super) fn add_to(&self, hasher: &mut Xxh3) {
        let state = self.state.borrow();
        let add_write = |hasher: &mut Xxh3, write: &Write| {
            (write.start_byte, write.durable).hash(hasher);
            hasher.write(&write.bytes);
        };
        hasher.write(&state.durable.hash().to_le_bytes());
        hasher.write_usize(state.completed.len());
        for write in &state.completed {
            add_write(hasher, write);
        }
        for (request, writes) in &state.submitted {
            request.hash(hasher);
            for write in writes {
                add_write(hasher, write);
            }
        }
        state.flushes.hash(hasher);
    }

    fn write_now(&self, start_byte: u64, bytes: &[u8]) -> Result {
        let mut state = self.state.borrow_mut();
        if state.is_stepped {
            return Err(Error::InvalidArgument);
        }
        state.current.write(start_byte, bytes);
        Ok(())
    }
}

impl Device for Medium {
    fn blocks(&self) -> u64 {
        self.device_blocks
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        let run = run_of(start, out.len(), self.device_blocks)?;
        self.state.borrow().current.read(run.start.0, out);
        Ok(())
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let run = run_of(start, bytes.len(), self.device_blocks)?;
        self.write_now(run.start.0 * BLOCK, bytes)
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.write(start, bytes)
    }

    fn flush(&self) -> Result {
        if self.state.borrow().is_stepped {
            return Err(Error::InvalidArgument);
        }
        Ok(())
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.device_blocks)?;
        self.write_now(run.start.0 * BLOCK, &vec![0; run.blocks as usize * BLOCK_BYTES])
    }
}

impl RecordDevice for Medium {
    fn write_sectors(&self, start_byte: u64, bytes: &[u8], _durably: bool) -> Result {
        let end = start_byte + bytes.len() as u64;
        if !bytes.len().is_multiple_of(SECTOR_BYTES) || end > self.device_blocks * BLOCK {
            return Err(Error::InvalidArgument);
        }
        self.write_now(start_byte, bytes)
    }
}
