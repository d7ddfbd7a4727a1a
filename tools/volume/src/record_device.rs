// SPDX-License-Identifier: GPL-2.0

//! Writing journal records, which are padded to the device's physical block and not to the filesystem's.

use cairnfs_core::device::Device;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::{BlockNo, BLOCK_BYTES, SECTOR_BYTES};
use cairnfs_device::{FileDevice, MemoryDevice};

/// A device that can also write parts of blocks.
pub trait RecordDevice: Device {
    /// Writes whole sectors from `start_byte` on; with `durably`, by FUA.
    fn write_sectors(&self, start_byte: u64, bytes: &[u8], durably: bool) -> Result;
}

fn check_sectors(start_byte: u64, bytes: &[u8]) -> Result {
    if !start_byte.is_multiple_of(SECTOR_BYTES as u64) || !bytes.len().is_multiple_of(SECTOR_BYTES) {
        return Err(Error::InvalidArgument);
    }
    Ok(())
}

/// Reads the blocks around, and writes them back with the sectors changed: for devices without anything better.
fn read_modify_write(device: &dyn Device, start_byte: u64, bytes: &[u8]) -> Result {
    check_sectors(start_byte, bytes)?;
    let first = start_byte / BLOCK_BYTES as u64;
    let end = (start_byte + bytes.len() as u64).div_ceil(BLOCK_BYTES as u64);
    let mut blocks = vec![0; (end - first) as usize * BLOCK_BYTES];
    device.read(BlockNo(first), &mut blocks)?;
    let offset = (start_byte - first * BLOCK_BYTES as u64) as usize;
    blocks[offset..offset + bytes.len()].copy_from_slice(bytes);
    device.write(BlockNo(first), &blocks)
}

impl RecordDevice for MemoryDevice {
    fn write_sectors(&self, start_byte: u64, bytes: &[u8], _durably: bool) -> Result {
        read_modify_write(self, start_byte, bytes)
    }
}

impl RecordDevice for FileDevice {
    fn write_sectors(&self, start_byte: u64, bytes: &[u8], durably: bool) -> Result {
        read_modify_write(self, start_byte, bytes)?;
        if durably {
            self.flush()?;
        }
        Ok(())
    }
}
