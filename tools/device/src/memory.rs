// SPDX-License-Identifier: GPL-2.0

//! A device in memory that takes no more of it than was written: for tests, and for changes that must not reach a disk.

use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::Result;
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Blocks by number; those that are not there are zero, and those that are zero are not there, so that equal contents are
/// equal maps.
#[derive(Debug)]
pub struct MemoryDevice {
    device_blocks: u64,
    blocks: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl MemoryDevice {
    /// A device of zeros.
    pub const fn new(device_blocks: u64) -> Self {
        Self { device_blocks, blocks: Mutex::new(BTreeMap::new()) }
    }

    /// The blocks that are not zero, in order.
    pub fn contents(&self) -> BTreeMap<u64, Box<[u8]>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        // No code under the lock leaves the map half-changed.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for MemoryDevice {
    fn clone(&self) -> Self {
        Self { device_blocks: self.device_blocks, blocks: Mutex::new(self.contents()) }
    }
}

impl Device for MemoryDevice {
    fn blocks(&self) -> u64 {
        self.device_blocks
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        let run = run_of(start, out.len(), self.device_blocks)?;
        let blocks = self.lock();
        for (number, place) in (run.start.0..).zip(out.chunks_exact_mut(BLOCK_BYTES)) {
            match blocks.get(&number) {
                Some(content) => place.copy_from_slice(content),
                None => place.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        let run = run_of(start, bytes.len(), self.device_blocks)?;
        let mut blocks = self.lock();
        for (number, content) in (run.start.0..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            if content.iter().all(|byte| *byte == 0) {
                blocks.remove(&number);
            } else {
                blocks.insert(number, content.into());
            }
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
        let mut blocks = self.lock();
        let behind = blocks.split_off(&run.start.0).split_off(&run.end().0);
        blocks.extend(behind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnfs_core::error::Error;

    #[test]
    fn holds_what_was_written_and_nothing_else() {
        let device = MemoryDevice::new(1 << 40);
        let mut bytes = vec![7; 3 * BLOCK_BYTES];
        bytes[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
        device.write(BlockNo(1 << 39), &bytes).unwrap();
        assert_eq!(device.contents().len(), 2);
        let mut read = vec![1; 5 * BLOCK_BYTES];
        device.read(BlockNo((1 << 39) - 1), &mut read).unwrap();
        assert!(read[..BLOCK_BYTES].iter().all(|byte| *byte == 0));
        assert_eq!(read[BLOCK_BYTES..4 * BLOCK_BYTES], bytes);
        device.zero(BlockRun { start: BlockNo(1 << 39), blocks: 1 }).unwrap();
        assert_eq!(device.contents().keys().copied().collect::<Vec<_>>(), [(1 << 39) + 2]);
        assert_eq!(device.read(BlockNo((1 << 40) - 4), &mut read), Err(Error::Io(BlockNo(1 << 40))));
    }
}
