//! Runs on the host: fills an image that `mkfs.cairnfs` has made, with what takes too long in a guest or cannot be made there.
//!
//! * `dirty IMAGE`: a tree whose journal is not clean (`cairnfs_guest::dirty`); prints where records begin, and how many orphans
//!   there are.
//! * `recover IMAGE`: mounts it in user space, and unmounts it.
//! * `shapes IMAGE`: every shape of directory, extent tree and attribute (`cairnfs_guest::shapes`).
//! * `flags IMAGE`: an empty file, or a directory, with each flag that `chattr` would set, and one of each without.
//! * `directory IMAGE NAMES`: a directory of that many names (`cairnfs_guest::large_directory`).

use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, bail, Result};
use cairnfs_core::error::Error;
use cairnfs_core::format::inode::{
    FLAG_APPEND, FLAG_DIRECTORY_SYNC, FLAG_IMMUTABLE, FLAG_NO_ATIME, FLAG_SYNC, ROOT,
};
use cairnfs_core::format::journal::HEADER_BLOCKS;
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::Journal;
use cairnfs_core::units::BLOCK_BYTES;
use cairnfs_device::{Access, FileDevice, StdPlatform};
use cairnfs_guest::{dirty, large_directory, shapes};
use cairnfs_volume::Volume;

const FILE_MODE: u16 = 0o100_644;
const FOLDER_MODE: u16 = 0o040_755;

fn dirty_image(device: &FileDevice, volume: &Volume<'_>) -> Result<()> {
    let positions = dirty::fill(volume).map_err(|error| anyhow!(device.explain(error)))?;
    let layout = volume.layout();
    let ring = (layout.journal_start.0 + HEADER_BLOCKS) * BLOCK_BYTES as u64;
    let end = volume.journal().ring().head().tail.position.0;
    if end <= positions.last || end > Journal::ring_bytes(layout) {
        bail!("the ring has wrapped: its head is at {end}");
    }
    let orphans = volume.journal().totals().orphans;
    if orphans != dirty::ORPHANS {
        bail!("{orphans} orphans are left, not {}", dirty::ORPHANS);
    }
    let (first, last) = (ring + positions.first, ring + positions.last);
    println!("first_record_byte={first} last_record_byte={last} orphans={orphans}");
    Ok(())
}

fn fill_with_flags(volume: &Volume<'_>) -> Result<(), Error> {
    let files = [
        ("plain", FILE_MODE, 0),
        ("synchronous", FILE_MODE, FLAG_SYNC),
        ("immutable", FILE_MODE, FLAG_IMMUTABLE),
        ("append-only", FILE_MODE, FLAG_APPEND),
        ("access-times-not-kept", FILE_MODE, FLAG_NO_ATIME),
        ("plain-folder", FOLDER_MODE, 0),
        ("synchronous-folder", FOLDER_MODE, FLAG_DIRECTORY_SYNC),
    ];
    for (name, mode, flags) in files {
        let new = NewInode { mode, uid: 0, gid: 0, device: 0, flags, project: 0, now_ns: 1 };
        volume.create(ROOT, name.as_bytes(), &new, None)?;
    }
    Ok(())
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, image, rest @ ..] = &arguments[..] else {
        bail!("usage: make-test-image dirty|recover|shapes|flags|directory IMAGE [NAMES]");
    };
    let platform = StdPlatform::new();
    let device = FileDevice::open(Path::new(image), Access::Exclusive)?;
    let explain = |error| anyhow!(device.explain(error));
    let volume = Volume::mount(&device, &platform).map_err(explain)?;
    match (what.as_str(), rest) {
        // Without an unmount.
        ("dirty", []) => return dirty_image(&device, &volume),
        ("recover", []) => {}
        ("shapes", []) => shapes::fill(&volume).map_err(explain)?,
        ("flags", []) => fill_with_flags(&volume).map_err(explain)?,
        ("directory", [names]) => large_directory::fill(&volume, names.parse()?).map_err(explain)?,
        _ => bail!("{what} is not known, or has other arguments"),
    }
    volume.unmount().map_err(explain)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make-test-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
