// SPDX-License-Identifier: GPL-2.0

//! Finding a superblock that can be used, and saying what is wrong with those that cannot.

use cairnfs_core::device::Device;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::journal::JOURNAL_BLOCKS_MAX;
use cairnfs_core::format::superblock::{PRIMARY, SECONDARY};
use cairnfs_core::format::Superblock;
use cairnfs_core::platform::Platform;
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};

/// A copy that was looked at and cannot be used.
#[derive(Clone, Copy, Debug)]
pub struct Rejected {
    /// Where it should stand.
    pub block: BlockNo,
    /// What is wrong with it.
    pub error: Error,
}

/// A superblock, and how it was come by.
#[derive(Clone, Debug)]
pub struct LoadedSuperblock {
    /// The superblock.
    pub superblock: Superblock,
    /// The block that it was read from.
    pub block: BlockNo,
    /// The copies that were looked at and cannot be used.
    pub rejected: Vec<Rejected>,
}

/// Reads the newer one of the superblock pair.
pub fn load_superblock(
    device: &dyn Device,
    platform: &dyn Platform,
) -> std::result::Result<LoadedSuperblock, Vec<Rejected>> {
    let (mut good, mut rejected) = (Vec::new(), Vec::new());
    for block in [PRIMARY, SECONDARY] {
        match read_copy(device, platform, block) {
            Ok(superblock) => good.push((block, superblock)),
            Err(error) => rejected.push(Rejected { block, error }),
        }
    }
    // Of equal ones the first: that is what a mount takes.
    match good.into_iter().rev().max_by_key(|(_, superblock)| superblock.update_counter) {
        Some((block, superblock)) => Ok(LoadedSuperblock { superblock, block, rejected }),
        None => Err(rejected),
    }
}

/// Reads and verifies the copy in `block`.
pub fn read_copy(device: &dyn Device, platform: &dyn Platform, block: BlockNo) -> Result<Superblock> {
    let mut bytes = vec![0; BLOCK_BYTES];
    device.read(block, &mut bytes)?;
    Superblock::read_copy(platform, &bytes, block)
}

/// Looks for the copy at the start of group 0, which stands right behind the journal, wherever that ends: the first
/// block behind the pair that is a whole superblock.
pub fn find_copy(device: &dyn Device, platform: &dyn Platform) -> Option<(BlockNo, Superblock)> {
    const PIECE_BLOCKS: u64 = 256;
    let end = device.blocks().min(JOURNAL_BLOCKS_MAX + 2 * PIECE_BLOCKS);
    for start in (SECONDARY.0 + 1..end).step_by(PIECE_BLOCKS as usize) {
        let mut bytes = vec![0; PIECE_BLOCKS.min(end - start) as usize * BLOCK_BYTES];
        // What cannot be read holds no copy; the next piece may.
        if device.read(BlockNo(start), &mut bytes).is_err() {
            continue;
        }
        for (block, content) in (start..).map(BlockNo).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            if let Ok(superblock) = Superblock::read_copy(platform, content, block) {
                return Some((block, superblock));
            }
        }
    }
    None
}
