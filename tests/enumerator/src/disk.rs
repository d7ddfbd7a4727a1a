// SPDX-License-Identifier: GPL-2.0

//! A disk in memory with a volatile cache.
//!
//! An [`Image`] is a medium whose pages are shared until they are written, so that copying one costs little and a crash state
//! costs what it changes. Its hash follows from its pages and is kept up to date, so equal media are known without reading.
//! The [`SimulatedDisk`] answers reads from everything that was written, and logs each write and each flush; what a power cut
//! at any moment may leave is built from that log in [`crate::states`]. Home writes can be held: then they reach the disk as late
//! as they may.

use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES, SECTOR_BYTES};
use cairnfs_volume::RecordDevice;
use std::cell::RefCell;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128_with_seed;

const BLOCK: u64 = BLOCK_BYTES as u64;
const CHUNK_PAGES: usize = 128;

#[derive(Clone)]
struct Page {
    bytes: [u8; BLOCK_BYTES],
    hash: u128,
}

type Chunk = [Option<Arc<Page>>; CHUNK_PAGES];

/// A medium; what was never written is zero.
#[derive(Clone)]
pub struct Image {
    chunks: Vec<Option<Arc<Chunk>>>,
    device_blocks: u64,
    hash: u128,
}

impl Image {
    /// A medium of zeros.
    pub fn new(device_blocks: u64) -> Self {
        let chunks = device_blocks.div_ceil(CHUNK_PAGES as u64) as usize;
        Self { chunks: vec![None; chunks], device_blocks, hash: 0 }
    }

    /// The same for equal contents.
    pub const fn hash(&self) -> u128 {
        self.hash
    }

    fn page(&self, block: u64) -> Option<&Page> {
        let chunk = self.chunks.get(block as usize / CHUNK_PAGES)?.as_ref()?;
        chunk[block as usize % CHUNK_PAGES].as_deref()
    }

    /// Reads whole blocks.
    pub fn read(&self, start: u64, out: &mut [u8]) {
        for (block, place) in (start..).zip(out.chunks_exact_mut(BLOCK_BYTES)) {
            match self.page(block) {
                Some(page) => place.copy_from_slice(&page.bytes),
                None => place.fill(0),
            }
        }
    }

    /// Writes bytes anywhere.
    pub fn write(&mut self, start_byte: u64, bytes: &[u8]) {
        let mut at = start_byte;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = (at % BLOCK) as usize;
            let length = rest.len().min(BLOCK_BYTES - within);
            self.write_page(at / BLOCK, within, &rest[..length]);
            rest = &rest[length..];
            at += length as u64;
        }
    }

    fn write_page(&mut self, block: u64, within: usize, bytes: &[u8]) {
        let slot = &mut self.chunks[block as usize / CHUNK_PAGES];
        let chunk = Arc::make_mut(slot.get_or_insert_with(|| Arc::new([const { None }; CHUNK_PAGES])));
        let place = &mut chunk[block as usize % CHUNK_PAGES];
        let mut page = match place.take() {
            Some(page) => {
                self.hash ^= page.hash;
                page
            }
            None => Arc::new(Page { bytes: [0; BLOCK_BYTES], hash: 0 }),
        };
        let content = Arc::make_mut(&mut page);
        content.bytes[within..within + bytes.len()].copy_from_slice(bytes);
        if content.bytes.iter().any(|byte| *byte != 0) {
            content.hash = xxh3_128_with_seed(&content.bytes, block);
            self.hash ^= content.hash;
            *place = Some(page);
        }
    }
}

/// A write as it was submitted.
#[derive(Clone)]
pub struct Write {
    /// Where.
    pub start_byte: u64,
    /// What.
    pub bytes: Arc<[u8]>,
    /// FUA: durable when it had completed.
    pub durable: bool,
}

impl Write {
    /// Sectors that it writes.
    pub fn sectors(&self) -> usize {
        self.bytes.len() / SECTOR_BYTES
    }
}

/// What reached the disk, in order.
#[derive(Clone)]
pub enum Event {
    /// A write.
    Write(Write),
    /// A flush: everything before it is durable.
    Flush,
}

struct State {
    current: Image,
    log: Option<Vec<Event>>,
    /// Whether writes are held now.
    is_holding: bool,
    /// Writes that are under way: submitted, and not on the disk yet.
    held: Vec<Write>,
}

/// The disk.
pub struct SimulatedDisk {
    device_blocks: u64,
    force_unit_access: bool,
    state: RefCell<State>,
}

impl SimulatedDisk {
    /// A disk that holds `image`. With `logged` it remembers what is written to it; without `force_unit_access` a FUA write is
    /// a write and a flush.
    pub const fn new(image: Image, logged: bool, force_unit_access: bool) -> Self {
        let device_blocks = image.device_blocks;
        let log = if logged { Some(Vec::new()) } else { None };
        let state = State { current: image, log, is_holding: false, held: Vec::new() };
        Self { device_blocks, force_unit_access, state: RefCell::new(state) }
    }

    /// What it holds, as reads see it.
    pub fn image(&self) -> Image {
        self.state.borrow().current.clone()
    }

    /// How many events there were.
    pub fn events(&self) -> usize {
        self.state.borrow().log.as_ref().map_or(0, Vec::len)
    }

    /// What was written and flushed.
    pub fn into_log(self) -> Vec<Event> {
        self.state.into_inner().log.unwrap_or_default()
    }

    /// From now on (or no longer) writes stay under way when they have been submitted: they reach the disk at
    /// [`SimulatedDisk::land`]. Reads see them, no flush covers them.
    pub fn hold(&self, is_holding: bool) {
        self.state.borrow_mut().is_holding = is_holding;
    }

    /// What is under way reaches the disk, over whatever has been written there meanwhile; the last one first, since nothing
    /// orders writes that are under way at once.
    pub fn land(&self) {
        let mut state = self.state.borrow_mut();
        let State { current, log, held, .. } = &mut *state;
        for write in held.drain(..).rev() {
            current.write(write.start_byte, &write.bytes);
            if let Some(log) = log {
                log.push(Event::Write(write));
            }
        }
    }

    fn submit(&self, start_byte: u64, bytes: &[u8], durably: bool) {
        let mut state = self.state.borrow_mut();
        state.current.write(start_byte, bytes);
        let durable = durably && self.force_unit_access;
        let write = Write { start_byte, bytes: bytes.into(), durable };
        if state.is_holding {
            state.held.push(write);
            return;
        }
        if let Some(log) = &mut state.log {
            log.push(Event::Write(write));
            if durably && !durable {
                log.push(Event::Flush);
            }
        }
    }
}

impl Device for SimulatedDisk {
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
        self.submit(run.start.0 * BLOCK, bytes, false);
        Ok(())
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let run = run_of(start, bytes.len(), self.device_blocks)?;
        self.submit(run.start.0 * BLOCK, bytes, true);
        Ok(())
    }

    fn flush(&self) -> Result {
        if let Some(log) = &mut self.state.borrow_mut().log {
            log.push(Event::Flush);
        }
        Ok(())
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.device_blocks)?;
        let zeros = vec![0; BLOCK_BYTES];
        for block in run.start.0..run.end().0 {
            self.submit(block * BLOCK, &zeros, false);
        }
        Ok(())
    }
}

impl RecordDevice for SimulatedDisk {
    fn write_sectors(&self, start_byte: u64, bytes: &[u8], durably: bool) -> Result {
        let end = start_byte + bytes.len() as u64;
        if !start_byte.is_multiple_of(SECTOR_BYTES as u64) || !bytes.len().is_multiple_of(SECTOR_BYTES) {
            return Err(Error::InvalidArgument);
        }
        if end > self.device_blocks * BLOCK {
            return Err(Error::Io(BlockNo(self.device_blocks)));
        }
        self.submit(start_byte, bytes, durably);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_lands_late_and_in_any_order() {
        let disk = SimulatedDisk::new(Image::new(2), true, false);
        disk.hold(true);
        disk.write(BlockNo(1), &[1; BLOCK_BYTES]).unwrap();
        disk.write(BlockNo(1), &[2; BLOCK_BYTES]).unwrap();
        disk.hold(false);
        disk.write(BlockNo(1), &[3; BLOCK_BYTES]).unwrap();
        disk.flush().unwrap();
        assert_eq!(disk.events(), 2, "what is held has not reached the disk");
        disk.land();
        let mut content = [0; BLOCK_BYTES];
        disk.read(BlockNo(1), &mut content).unwrap();
        assert_eq!((content[0], disk.events()), (1, 4));
        disk.land();
        assert_eq!(disk.events(), 4, "it lands once");
    }

    #[test]
    fn equal_contents_have_equal_hashes_whatever_the_way() {
        let mut a = Image::new(300);
        a.write(5 * BLOCK + 512, &[7; 6000]);
        let copy = a.clone();
        let mut b = Image::new(300);
        b.write(5 * BLOCK + 512, &[9; 6000]);
        assert_ne!(a.hash(), b.hash());
        b.write(5 * BLOCK + 512, &[7; 3000]);
        b.write(5 * BLOCK + 3512, &[7; 3000]);
        assert_eq!(a.hash(), b.hash());
        a.write(5 * BLOCK, &[0; 2 * BLOCK_BYTES]);
        assert_eq!(a.hash(), Image::new(300).hash());
        assert_eq!(copy.hash(), b.hash(), "a copy does not change with its origin");
    }
}
