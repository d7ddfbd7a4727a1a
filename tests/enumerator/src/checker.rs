// SPDX-License-Identifier: GPL-2.0

//! Core's own checker, beside the [`crate::survey`]: what `fsck` would find after recovery and before anything else.
//!
//! The survey reads through the mounted filesystem, journal and caches included; the checker reads what recovery left on the
//! medium, and looks at what no mount reads: copies of the superblock, headers, padding, the clean journal header's totals.

use crate::disk::{Image, SimulatedDisk};
use crate::platform::RepeatablePlatform;
use crate::survey::Finding;
use cairnfs_core::check::{self, Options, Subject};
use cairnfs_core::device::Device as _;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::journal::replay;

/// Recovers the state, and checks it.
pub fn check(image: &Image) -> Result<(), Finding> {
    let told = |what: &str, error: cairnfs_core::error::Error| format!("checker: {what}: {error:?}");
    let disk = SimulatedDisk::new(image.clone(), false, true);
    let platform = RepeatablePlatform::new(97);
    let superblock =
        cairnfs_volume::read_superblock(&disk, &platform).map_err(|error| told("superblock", error))?;
    let geometry = Geometry::new(&superblock, disk.blocks()).map_err(|error| told("geometry", error))?;
    replay::recover(&disk, &platform, &superblock, &geometry).map_err(|error| told("recovery", error))?;
    let subject =
        Subject { device: &disk, platform: &platform, superblock: &superblock, geometry: &geometry };
    let mut first = None;
    let options = Options { after_crash: true };
    let mut sink = |finding: &check::Finding| {
        first.get_or_insert_with(|| format!("checker: {finding:?}"));
        Ok(())
    };
    let summary =
        check::run(&subject, options, &mut sink, &mut |_, _, _| {}).map_err(|error| told("check", error))?;
    match first {
        Some(what) => Err(format!("{what}; findings: {}", summary.findings())),
        None if !summary.is_complete => Err("checker: not everything could be read".into()),
        None => Ok(()),
    }
}
