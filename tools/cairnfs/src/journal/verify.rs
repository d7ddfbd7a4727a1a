// SPDX-License-Identifier: GPL-2.0

//! `cairnfs journal verify`: what a mount would say of the journal, found by doing what a mount does before it writes.

use super::gather::{self, EndInfo, HeaderInfo};
use super::{describe, Filesystem};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::journal::{JournalHeader, HEADER_CLEAN};
use cairnfs_core::journal::replay;
use cairnfs_core::journal::replay::chain::Stop;
use cairnfs_core::journal::replay::examine::rehearse;
use cairnfs_device::{exit, print_json};
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// The options of `cairnfs journal verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Block device or image file
    device: PathBuf,
}

/// What would become of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// It is clean.
    NothingToReplay,
    /// A mount would replay it.
    Replays,
    /// A mount would refuse it.
    Refused,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) device: String,
    pub(super) outcome: Outcome,
    /// Where the first record stands, and its number.
    pub(super) tail_position: Option<u64>,
    pub(super) tail_sequence: Option<u64>,
    /// Records that verify, wrap records included, and what they take in the ring.
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Whole transactions, the items of objects in them, and the records behind the last one.
    pub(super) transactions: u64,
    pub(super) items: u64,
    pub(super) discarded_records: u64,
    /// None where the records could not be followed to their end.
    pub(super) end: Option<EndInfo>,
    /// What is wrong, one line each.
    pub(super) damage: Vec<String>,
}

/// Prints; the exit code.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let filesystem = Filesystem::open(&arguments.device)?;
    let mut report = Report::new(&filesystem);
    match report.verify(&filesystem) {
        Ok(()) => {}
        Err(Error::Corrupt(corruption)) => {
            report.outcome = Outcome::Refused;
            // Of lost headers each has been said already.
            if report.tail_position.is_some() || report.damage.len() < 2 {
                report.damage.push(describe(&corruption));
            }
        }
        Err(error) => return Err(filesystem.failure(error)),
    }
    if arguments.json {
        print_json(&report)?;
    } else {
        write!(io::stdout().lock(), "{report}")?;
    }
    Ok(if report.damage.is_empty() { exit::OK } else { exit::UNCORRECTED })
}

impl Report {
    fn new(filesystem: &Filesystem) -> Self {
        Self {
            device: filesystem.device.path().display().to_string(),
            outcome: Outcome::NothingToReplay,
            tail_position: None,
            tail_sequence: None,
            records: 0,
            bytes: 0,
            transactions: 0,
            items: 0,
            discarded_records: 0,
            end: None,
            damage: gather::headers(filesystem).iter().filter_map(HeaderInfo::damage).collect(),
        }
    }

    /// The steps of a mount; an error is what it would end with.
    fn verify(&mut self, filesystem: &Filesystem) -> Result {
        let Filesystem { device, platform, superblock, geometry } = filesystem;
        let header = replay::read_header(device, platform, superblock, geometry)?;
        (self.tail_position, self.tail_sequence) =
            (Some(header.tail.position.0), Some(header.tail.sequence.0));
        if header.flags & HEADER_CLEAN != 0 {
            self.end = Some(gather::end(&header.tail, Stop::Clean));
            return Ok(());
        }
        self.follow(filesystem, &header)?;
        self.outcome = Outcome::Replays;
        Ok(())
    }

    fn follow(&mut self, filesystem: &Filesystem, header: &JournalHeader) -> Result {
        let Filesystem { device, platform, geometry, .. } = filesystem;
        let mut reader = filesystem.ring_reader()?;
        let scan = replay::scan(&mut reader, header, geometry, &mut |record| {
            self.records += 1;
            self.bytes += gather::padded_bytes(filesystem, record);
            Ok(())
        })?;
        self.end = Some(gather::end(&scan.stopped_at.tail, scan.stop));
        (self.transactions, self.items) = (scan.transactions, scan.items);
        self.discarded_records = scan.discarded_records;
        replay::check_damage(&mut reader, header, &scan)?;
        rehearse(device, platform, geometry, header, &scan, &mut reader)
    }
}
