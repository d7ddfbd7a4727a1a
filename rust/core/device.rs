// SPDX-License-Identifier: GPL-2.0

//! A device of blocks, as mkfs, the checker and recovery need it: plain, synchronous reads and writes.
//!
//! These three run alone, before the filesystem is in use, and wait for each step; the journal's own writes while it is in
//! use do not pass here. A write may stay in the device's volatile cache, in no order, until [`Device::flush`] has
//! returned: a crash keeps any of the unflushed writes, in whole or by sectors.
//!
//! Slices are whole blocks: their length is a multiple of [`BLOCK_BYTES`], anything else is
//! [`Error::InvalidArgument`](crate::error::Error::InvalidArgument). A range that leaves the device fails with
//! [`Error::Io`](crate::error::Error::Io) of the first block that it cannot reach. Methods take `&self`: who shares a device
//! between threads keeps writers of one block apart himself.

use crate::error::{Error, Result};
use crate::units::{BlockNo, BlockRun, BLOCK_BYTES};

/// A device, or a file that stands for one.
pub trait Device {
    /// How many whole blocks it has.
    fn blocks(&self) -> u64;

    /// Reads the blocks from `start` on into `out`.
    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result;

    /// Writes `bytes` to the blocks from `start` on.
    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result;

    /// Writes like [`Device::write`], and returns when these bytes are durable: by FUA, or by a flush behind the write.
    /// Says nothing of other writes.
    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result;

    /// Returns when everything whose write had returned before is durable.
    fn flush(&self) -> Result;

    /// Makes the blocks of `run` read as zero, by the cheapest way that the device has for it. Durable as a write is: after a
    /// flush.
    fn zero(&self, run: BlockRun) -> Result;
}

/// The run of blocks that `bytes` bytes from `start` on are, if they are whole blocks of a device of `device_blocks`: what every
/// [`Device`] checks first.
pub fn run_of(start: BlockNo, bytes: usize, device_blocks: u64) -> Result<BlockRun> {
    if !bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(Error::InvalidArgument);
    }
    let run = BlockRun { start, blocks: (bytes / BLOCK_BYTES) as u64 };
    check_run(run, device_blocks)?;
    Ok(run)
}

/// Whether `run` lies on a device of `device_blocks`.
pub fn check_run(run: BlockRun, device_blocks: u64) -> Result {
    match run.start.0.checked_add(run.blocks) {
        Some(end) if end <= device_blocks => Ok(()),
        _ => Err(Error::Io(BlockNo(run.start.0.max(device_blocks)))),
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_whole_blocks_of_the_device() {
        assert_eq!(run_of(BlockNo(3), 2 * BLOCK_BYTES, 5), Ok(BlockRun { start: BlockNo(3), blocks: 2 }));
        assert_eq!(run_of(BlockNo(3), BLOCK_BYTES - 1, 5), Err(Error::InvalidArgument));
        assert_eq!(run_of(BlockNo(4), 2 * BLOCK_BYTES, 5), Err(Error::Io(BlockNo(5))));
        assert_eq!(run_of(BlockNo(9), BLOCK_BYTES, 5), Err(Error::Io(BlockNo(9))));
        let endless = BlockRun { start: BlockNo(u64::MAX), blocks: 2 };
        assert_eq!(check_run(endless, 5), Err(Error::Io(BlockNo(u64::MAX))));
    }
}
