// SPDX-License-Identifier: GPL-2.0

//! `cairnfs journal`: what is in the journal of a filesystem, and what a mount would make of it.
//!
//! The device is opened for reading, and nothing is written to it. Records are found, checked and replayed by core's
//! own code, that of a mount, so what is shown is what a mount sees. Exit codes are those of fsck(8): 0, nothing is wrong; 4, the
//! journal is damaged; 8, it could not be read; 16, wrong usage.

mod gather;
mod items;
mod list;
mod text;
mod verify;

use crate::superblock;
use anyhow::anyhow;
use cairnfs_core::device::Device;
use cairnfs_core::error::{Check, Corruption, Error, Result};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::superblock::{Superblock, PRIMARY, SECONDARY};
use cairnfs_core::journal::replay::chain::RingReader;
use cairnfs_device::{users_of, Access, FileDevice, LoadedSuperblock, Rejected, StdPlatform};
use std::path::Path;

const LIST_HELP: &str = "\
In a dirty journal stand the records that a mount would replay: from the tail on,
each behind the one before it, up to the first place where the next one does not
verify. In a clean journal there are none.

Exit status:
   0  nothing is wrong
   4  the journal is damaged; what can be read of it was shown
   8  it cannot be read, or this is no cairnfs filesystem
  16  wrong usage";

const VERIFY_HELP: &str = "\
Does what a mount does before it writes: follows the records, checks all of their
items, looks for records that were acknowledged and are lost, replays in memory,
and verifies every block that comes of it.

Exit status:
   0  the journal is clean, or is dirty and can be replayed
   4  it is damaged: a mount would refuse it, or one of its two headers is broken
   8  it cannot be read, or this is no cairnfs filesystem
  16  wrong usage";

/// The options of `cairnfs journal`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the journal's headers and records
    #[command(after_help = LIST_HELP)]
    List(list::Arguments),
    /// Says whether a mount could replay the journal
    #[command(after_help = VERIFY_HELP)]
    Verify(verify::Arguments),
}

/// Prints; the exit code.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::List(arguments) => list::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    }
}

/// A filesystem whose journal can be found.
struct Filesystem {
    device: FileDevice,
    platform: StdPlatform,
    superblock: Superblock,
    geometry: Geometry,
}

impl Filesystem {
    /// Opens for reading, and says on stderr what may make the result doubtful.
    fn open(path: &Path) -> anyhow::Result<Self> {
        for user in users_of(path) {
            eprintln!("cairnfs: warning: {} {user}; its journal may change while it is read", path.display());
        }
        let device = FileDevice::open(path, Access::Read)?;
        let platform = StdPlatform::new();
        let superblock = load(&device, &platform)?;
        superblock.check_features(false).map_err(|error| anyhow!(device.explain(error)))?;
        let geometry = Geometry::new(&superblock, device.blocks())
            .map_err(|error| anyhow!("{}: where its journal is cannot be said", device.explain(error)))?;
        Ok(Self { device, platform, superblock, geometry })
    }

    /// A reader of the ring.
    fn ring_reader(&self) -> Result<RingReader<'_>> {
        RingReader::try_new(&self.device, &self.platform, &self.geometry, self.superblock.uuid)
    }

    /// An error that is no damage, in words.
    fn failure(&self, error: Error) -> anyhow::Error {
        anyhow!(self.device.explain(error))
    }
}

/// The superblock; what was wrong with others is said on stderr.
fn load(device: &FileDevice, platform: &StdPlatform) -> anyhow::Result<Superblock> {
    let LoadedSuperblock { superblock, block, rejected } = superblock::load(device, platform)?;
    for Rejected { block, error } in &rejected {
        eprintln!("cairnfs: warning: superblock in block {block}: {error}");
    }
    if block != PRIMARY && block != SECONDARY {
        eprintln!("cairnfs: warning: the superblock is lost; the copy in block {block} is used");
    }
    Ok(superblock)
}

/// What a failed check says of the journal, for people.
fn describe(corruption: &Corruption) -> String {
    match corruption.check {
        Check::JournalDamage => format!(
            "record {} is lost, though all records up to {} were known durable ({corruption})",
            corruption.expected, corruption.found
        ),
        _ => corruption.to_string(),
    }
}
