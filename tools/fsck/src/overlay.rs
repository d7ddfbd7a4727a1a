// SPDX-License-Identifier: GPL-2.0

//! A device over another one that is only read: what is written stays in memory. Recovery runs on it, so that a dirty journal can be
//! replayed without a byte of the real device changing.

use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::Result;
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The blocks that were written, over those that were there.
pub(crate) struct Overlay<'d> {
    below: &'d dyn Device,
    written: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl<'d> Overlay<'d> {
    /// Nothing is written yet.
    pub(crate) fn new(below: &'d dyn Device) -> Self {
        Self { below, written: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        // No code under the lock leaves the map half-changed.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Overlay<'_> {
    fn blocks(&self) -> u64 {
        self.below.blocks()
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        let run = run_of(start, out.len(), self.blocks())?;
        self.below.read(start, out)?;
        for (number, content) in self.lock().range(run.start.0..run.end().0) {
            let at = (number - run.start.0) as usize * BLOCK_BYTES;
            out[at..at + BLOCK_BYTES].copy_from_slice(content);
        }
        Ok(())
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let run = run_of(start, bytes.len(), self.blocks())?;
        let blocks = (run.start.0..).zip(bytes.chunks_exact(BLOCK_BYTES));
        self.lock().extend(blocks.map(|(number, content)| (number, content.into())));
        Ok(())
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.write(start, bytes)
    }

    fn flush(&self) -> Result {
        Ok(())
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.blocks())?;
        let zeros = (run.start.0..run.end().0).map(|number| (number, vec![0; BLOCK_BYTES].into()));
        self.lock().extend(zeros);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnfs_device::MemoryDevice;

    #[test]
    fn writes_stay_above() {
        let below = MemoryDevice::new(8);
        below.write(BlockNo(2), &[1; 2 * BLOCK_BYTES]).unwrap();
        let before = below.contents();
        let overlay = Overlay::new(&below);
        overlay.write(BlockNo(3), &[2; 2 * BLOCK_BYTES]).unwrap();
        overlay.zero(BlockRun { start: BlockNo(2), blocks: 1 }).unwrap();
        let mut read = vec![9; 4 * BLOCK_BYTES];
        overlay.read(BlockNo(1), &mut read).unwrap();
        let firsts: Vec<_> = read.chunks_exact(BLOCK_BYTES).map(|block| block[0]).collect();
        assert_eq!(firsts, [0, 0, 2, 2]);
        assert_eq!(below.contents(), before);
        assert!(overlay.write(BlockNo(7), &[2; 2 * BLOCK_BYTES]).is_err());
    }
}
