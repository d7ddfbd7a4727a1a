// SPDX-License-Identifier: GPL-2.0

//! `cairnfs info`: what a filesystem says of itself, damaged ones as far as they can be read.
//!
//! Reads the superblock pair, and where neither can be used, looks for the copy behind the journal; then the journal's
//! headers and the group headers. It never writes and claims nothing, so it may be used on a mounted device, where it shows
//! what has come home so far.

mod gather;
mod text;

use crate::superblock;
use anyhow::bail;
use cairnfs_core::device::Device;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::units::BlockNo;
use cairnfs_device::{print_json, read_copy, Access, FileDevice, LoadedSuperblock, Rejected, StdPlatform};
use std::path::PathBuf;

/// The options of `cairnfs info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Use the copy of the superblock in this block
    #[arg(short, long, value_name = "BLOCK")]
    backup: Option<u64>,

    /// Show each group
    #[arg(short, long)]
    groups: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Block device or image file
    device: PathBuf,
}

/// Prints; `false`: something is damaged.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let device = FileDevice::open(&arguments.device, Access::Read)?;
    let platform = StdPlatform::new();
    let loaded = load(arguments, &device, &platform)?;
    for Rejected { block, error } in &loaded.rejected {
        eprintln!("cairnfs: superblock in block {block}: {error}");
    }
    // A filesystem from the future still says its name; how its parts are laid out is not for us to guess.
    let supported = loaded.superblock.check_features(false);
    let geometry = supported.and_then(|()| Geometry::new(&loaded.superblock, device.blocks()));
    let mut info = gather::superblock_info(&arguments.device, &loaded);
    match geometry {
        Ok(geometry) => gather::add_layout(&mut info, &device, &platform, &geometry, arguments.groups),
        Err(error) => info.damage.push(format!("layout: {error}")),
    }
    for damage in &info.damage {
        eprintln!("cairnfs: {damage}");
    }
    if arguments.json {
        print_json(&info)?;
    } else {
        print!("{info}");
    }
    Ok(info.damage.is_empty() && loaded.rejected.is_empty())
}

fn load(
    arguments: &Arguments,
    device: &FileDevice,
    platform: &StdPlatform,
) -> anyhow::Result<LoadedSuperblock> {
    if let Some(block) = arguments.backup.map(BlockNo) {
        return match read_copy(device, platform, block) {
            Ok(superblock) => Ok(LoadedSuperblock { superblock, block, rejected: Vec::new() }),
            Err(error) => bail!("superblock in block {block}: {error}"),
        };
    }
    superblock::load(device, platform)
}
