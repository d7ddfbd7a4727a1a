// SPDX-License-Identifier: GPL-2.0

//! The superblock that says most: one of the pair, else the copy behind the journal.

use anyhow::bail;
use cairnfs_device::{find_copy, load_superblock, FileDevice, LoadedSuperblock, StdPlatform};

/// The newer one of the pair, or the copy when the pair is lost; an error says why there is none.
pub(crate) fn load(device: &FileDevice, platform: &StdPlatform) -> anyhow::Result<LoadedSuperblock> {
    let rejected = match load_superblock(device, platform) {
        Ok(loaded) => return Ok(loaded),
        Err(rejected) => rejected,
    };
    let Some((block, superblock)) = find_copy(device, platform) else {
        let reasons: Vec<_> = rejected.iter().map(|copy| device.explain(copy.error)).collect();
        bail!("no superblock: {}", reasons.join("; "));
    };
    Ok(LoadedSuperblock { superblock, block, rejected })
}
