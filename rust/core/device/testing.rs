// SPDX-License-Identifier: GPL-2.0

//! A device in a plain map, for tests: what was never written is zero, and single blocks can be made unreadable.

use super::{check_run, run_of, Device};
use crate::error::{Error, Result};
use crate::units::{BlockNo, BlockRun, BLOCK_BYTES};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The map.
pub(crate) struct MapDevice {
    device_blocks: u64,
    blocks: RefCell<BTreeMap<u64, Vec<u8>>>,
    /// Blocks that fail to be read.
    pub(crate) unreadable: RefCell<BTreeSet<u64>>,
}

impl MapDevice {
    /// A device that is all zero.
    pub(crate) fn new(device_blocks: u64) -> Self {
        Self { device_blocks, blocks: RefCell::default(), unreadable: RefCell::default() }
    }
}

impl Device for MapDevice {
    fn blocks(&self) -> u64 {
        self.device_blocks
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        let run = run_of(start, out.len(), self.device_blocks)?;
        for (block, place) in (run.start.0..run.end().0).zip(out.chunks_mut(BLOCK_BYTES)) {
            if self.unreadable.borrow().contains(&block) {
                return Err(Error::Io(start));
            }
            match self.blocks.borrow().get(&block) {
                Some(bytes) => place.copy_from_slice(bytes),
                None => place.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let run = run_of(start, bytes.len(), self.device_blocks)?;
        for (block, content) in (run.start.0..run.end().0).zip(bytes.chunks(BLOCK_BYTES)) {
            self.blocks.borrow_mut().insert(block, content.to_vec());
        }
        Ok(())
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.write(start, bytes)
    }

    fn flush(&self) -> Result {
        Ok(())
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.device_blocks)?;
        self.blocks.borrow_mut().retain(|block, _| !run.contains(BlockNo(*block)));
        Ok(())
    }
}
