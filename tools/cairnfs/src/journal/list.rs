// SPDX-License-Identifier: GPL-2.0

//! `cairnfs journal list`: headers, ring, and every record that a mount would find, from the tail on.

use super::gather::{self, EndInfo, HeaderInfo, RecordInfo, RingInfo};
use super::text::{write_record, RECORD_COLUMNS};
use super::{describe, Filesystem};
use cairnfs_core::error::Error;
use cairnfs_core::format::journal::{JournalHeader, HEADER_CLEAN};
use cairnfs_core::journal::replay::chain::{RingReader, Stop};

use cairnfs_core::journal::replay::{self, Scan};
use cairnfs_device::{exit, print_json};
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// The options of `cairnfs journal list`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show the items of each record
    #[arg(short, long)]
    verbose: bool,

    /// Print JSON, with everything
    #[arg(long)]
    json: bool,

    /// Block device or image file
    device: PathBuf,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    pub(super) device: String,
    pub(super) headers: Vec<HeaderInfo>,
    pub(super) ring: RingInfo,
    pub(super) records: Vec<RecordInfo>,
    /// None where the records could not be followed to their end.
    pub(super) end: Option<EndInfo>,
    /// Whole transactions, the items of objects in them, and the records behind the last one.
    pub(super) transactions: u64,
    pub(super) items: u64,
    pub(super) discarded_records: u64,
    /// What is wrong, one line each.
    pub(super) damage: Vec<String>,
    /// Why not everything could be read.
    pub(super) failure: Option<String>,
}

/// Prints; the exit code.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let filesystem = Filesystem::open(&arguments.device)?;
    let mut listing = Listing::new(&filesystem);
    if arguments.json {
        let mut records = Vec::new();
        listing.follow(&filesystem, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        listing.records = records;
        print_json(&listing)?;
    } else {
        // Records are printed as they are found, and not kept: there may be many.
        let mut out = BufWriter::new(io::stdout().lock());
        listing.write_heading(&mut out)?;
        let mut is_first = true;
        listing.follow(&filesystem, &mut |record| {
            if std::mem::take(&mut is_first) {
                writeln!(out, "\n{RECORD_COLUMNS}")?;
            }
            Ok(write_record(&mut out, &record, arguments.verbose)?)
        })?;
        if !is_first {
            writeln!(out)?;
        }
        listing.write_end(&mut out)?;
        out.flush()?;
    }
    for line in listing.damage.iter().chain(&listing.failure) {
        eprintln!("cairnfs: {line}");
    }
    Ok(match (&listing.failure, listing.damage.is_empty()) {
        (Some(_), _) => exit::OPERATIONAL,
        (None, false) => exit::UNCORRECTED,
        (None, true) => exit::OK,
    })
}

impl Listing {
    /// All but the records.
    fn new(filesystem: &Filesystem) -> Self {
        let headers = gather::headers(filesystem);
        Self {
            device: filesystem.device.path().display().to_string(),
            damage: headers.iter().filter_map(HeaderInfo::damage).collect(),
            headers,
            ring: gather::ring(filesystem),
            records: Vec::new(),
            end: None,
            transactions: 0,
            items: 0,
            discarded_records: 0,
            failure: None,
        }
    }

    /// Follows the records from the tail on, and hands each to `sink`; notes where they end, and what is wrong. An error is the
    /// sink's.
    fn follow(
        &mut self,
        filesystem: &Filesystem,
        sink: &mut dyn FnMut(RecordInfo) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Filesystem { device, platform, superblock, geometry } = filesystem;
        match replay::read_header(device, platform, superblock, geometry) {
            Ok(header) if header.flags & HEADER_CLEAN != 0 => {
                self.end = Some(gather::end(&header.tail, Stop::Clean));
            }
            Ok(header) => self.follow_from(filesystem, &header, sink)?,
            // Each of them has been said already.
            Err(Error::Corrupt(_)) if self.headers.iter().all(|header| header.error.is_some()) => {}
            Err(error) => self.note(filesystem, error),
        }
        Ok(())
    }

    fn follow_from(
        &mut self,
        filesystem: &Filesystem,
        header: &JournalHeader,
        sink: &mut dyn FnMut(RecordInfo) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut reader = filesystem.ring_reader().map_err(|error| filesystem.failure(error))?;
        let mut again = filesystem.ring_reader().map_err(|error| filesystem.failure(error))?;
        let mut stopped = None;
        let scan = replay::scan(&mut reader, header, &filesystem.geometry, &mut |record| {
            let shown = gather::record(filesystem, &mut again, record).and_then(&mut *sink);
            shown.map_err(|error| {
                stopped = Some(error);
                Error::Interrupted
            })
        });
        if let Some(error) = stopped {
            return Err(error);
        }
        match scan {
            Ok(scan) => self.take_scan(filesystem, header, &scan, &mut reader),
            Err(error) => self.note(filesystem, error),
        }
        Ok(())
    }

    fn take_scan(
        &mut self,
        filesystem: &Filesystem,
        header: &JournalHeader,
        scan: &Scan,
        reader: &mut RingReader<'_>,
    ) {
        self.end = Some(gather::end(&scan.stopped_at.tail, scan.stop));
        (self.transactions, self.items) = (scan.transactions, scan.items);
        self.discarded_records = scan.discarded_records;
        if let Err(error) = replay::check_damage(reader, header, scan) {
            self.note(filesystem, error);
        }
    }

    fn note(&mut self, filesystem: &Filesystem, error: Error) {
        match error {
            Error::Corrupt(corruption) => self.damage.push(describe(&corruption)),
            error => self.failure = Some(filesystem.device.explain(error)),
        }
    }
}
