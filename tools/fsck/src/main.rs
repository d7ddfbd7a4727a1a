// SPDX-License-Identifier: GPL-2.0

//! fsck.cairnfs: checks a filesystem, and changes nothing.
//!
//! The device is opened for reading only. A dirty journal is replayed in memory, on an overlay, so that what is checked is
//! what a mount would see. Who asks for a repair, as boot scripts do, is done at once with a filesystem that is marked clean,
//! as with e2fsck; who only wants to know (-n) gets all of it checked.
//!
//! Exit codes are those of fsck(8): 0, no errors; 4, errors were left uncorrected; 8, the check could not be done, or repair
//! was asked for, which there is none of yet; 16, wrong usage.

mod arguments;
mod overlay;
mod report;

use crate::arguments::Arguments;
use crate::overlay::Overlay;
use crate::report::{FindingInfo, ReplayInfo, Report};
use anyhow::{anyhow, bail};
use cairnfs_core::check::{self, Finding, Options, Phase, Severity, Subject, Summary};
use cairnfs_core::device::Device;
use cairnfs_core::error::{Corruption, Error};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::journal::{JournalHeader, HEADER_CLEAN};
use cairnfs_core::format::superblock::{STATE_CHECK_WANTED, STATE_ERRORS, STATE_MOUNTED};
use cairnfs_core::format::Superblock;
use cairnfs_core::journal::replay;
use cairnfs_core::units::InodeNo;
use cairnfs_device::{
    exit, find_copy, load_superblock, print_json, users_of, Access, FileDevice, Progress, Rejected,
    StdPlatform,
};
use clap::Parser;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Any of these asks for a check.
const STATE_SUSPECT: u32 = STATE_ERRORS | STATE_CHECK_WANTED | STATE_MOUNTED;

fn main() -> ExitCode {
    // Who stops reading (`| head`) ends the program, as everywhere, and not by a panic.
    sigpipe::reset();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Where even this cannot be printed, the exit code is all there is left to say.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let Some(path) = arguments.device.as_deref().filter(|_| !arguments.version) else {
        println!("fsck.cairnfs {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::from(exit::OK);
    };
    match run(&arguments, path) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("fsck.cairnfs: {error:#}");
            ExitCode::from(exit::OPERATIONAL)
        }
    }
}

fn run(arguments: &Arguments, path: &Path) -> anyhow::Result<u8> {
    if !arguments.no_changes && !arguments.repairs() {
        bail!("no repair yet; use -n");
    }
    for user in users_of(path) {
        if !arguments.no_changes {
            bail!("{} {user}", path.display());
        }
        eprintln!("fsck.cairnfs: warning: {} {user}; what is being changed may look wrong", path.display());
    }
    let device = FileDevice::open(path, Access::Read)?;
    let platform = StdPlatform::new();
    let (superblock, pair_is_whole) = superblock(&device, &platform)?;
    superblock.check_features(false).map_err(|error| anyhow!(device.explain(error)))?;
    let geometry = match Geometry::new(&superblock, device.blocks()) {
        Ok(geometry) => geometry,
        Err(Error::Corrupt(corruption)) => {
            eprintln!("fsck.cairnfs: {}: {corruption}", path.display());
            return Ok(exit::UNCORRECTED);
        }
        Err(error) => bail!(device.explain(error)),
    };
    let mut run = Run {
        arguments,
        device: &device,
        platform: &platform,
        superblock: &superblock,
        geometry: &geometry,
        report: Report::new(path.display().to_string(), &geometry),
    };
    run.check(pair_is_whole)
}

/// The superblock that counts, or a copy when the pair is lost; and whether both of the pair are whole.
fn superblock(device: &FileDevice, platform: &StdPlatform) -> anyhow::Result<(Superblock, bool)> {
    let path = device.path().display();
    match load_superblock(device, platform) {
        Ok(loaded) => Ok((loaded.superblock, loaded.rejected.is_empty())),
        Err(rejected) => {
            for Rejected { error, .. } in &rejected {
                eprintln!("fsck.cairnfs: {path}: {error}");
            }
            let Some((block, superblock)) = find_copy(device, platform) else {
                bail!("{path}: no superblock of cairnfs was found");
            };
            eprintln!("fsck.cairnfs: {path}: the superblock is lost; the copy in block {block} is used");
            Ok((superblock, false))
        }
    }
}

struct Run<'a> {
    arguments: &'a Arguments,
    device: &'a FileDevice,
    platform: &'a StdPlatform,
    superblock: &'a Superblock,
    geometry: &'a Geometry,
    report: Report,
}

impl Run<'_> {
    fn check(&mut self, pair_is_whole: bool) -> anyhow::Result<u8> {
        let header = replay::read_header(self.device, self.platform, self.superblock, self.geometry);
        let (is_clean, is_dirty) = match &header {
            Ok(header) => (header.flags & HEADER_CLEAN != 0, header.flags & HEADER_CLEAN == 0),
            // The check says what is wrong with it.
            Err(Error::Corrupt(_)) => (false, false),
            Err(error) => bail!(self.device.explain(*error)),
        };
        let is_unsuspicious = pair_is_whole && self.superblock.state & STATE_SUSPECT == 0;
        if let (true, true, Ok(header)) = (is_unsuspicious, self.arguments.believes(), &header) {
            if is_clean {
                return self.end_clean(header);
            }
        }
        if self.arguments.repairs() {
            bail!("{}: no repair yet; use -n", self.report.device);
        }
        if !is_dirty {
            return self.check_on(self.device, Options { after_crash: false });
        }
        let overlay = Overlay::new(self.device);
        match replay::recover(&overlay, self.platform, self.superblock, self.geometry) {
            Ok(recovered) => {
                let replayed = ReplayInfo::from(&recovered.report);
                if !self.arguments.json {
                    let (device, transactions) = (&self.report.device, replayed.transactions);
                    println!(
                        "{device}: the journal is dirty; {transactions} transactions were replayed in memory"
                    );
                }
                self.report.replayed = Some(replayed);
                self.check_on(&overlay, Options { after_crash: true })
            }
            Err(Error::Corrupt(corruption)) => self.end_damaged(&corruption),
            Err(error) => bail!(self.device.explain(error)),
        }
    }

    /// Marked clean, which is believed.
    fn end_clean(&mut self, header: &JournalHeader) -> anyhow::Result<u8> {
        self.report.state = "clean";
        (self.report.free_inodes, self.report.free_blocks) =
            (header.totals.free_inodes, header.totals.free_blocks);
        self.print()?;
        Ok(exit::OK)
    }

    /// The journal cannot be replayed: what it holds is missing from everything else.
    fn end_damaged(&mut self, corruption: &Corruption) -> anyhow::Result<u8> {
        let Corruption { check, block, expected, found } = *corruption;
        let finding =
            Finding { check, severity: Severity::Damage, inode: InodeNo(0), block, expected, found };
        if !self.arguments.json {
            println!("{finding}");
        }
        self.report.state = "not-checked";
        self.report.findings.push(FindingInfo::from(&finding));
        self.print()?;
        Ok(exit::UNCORRECTED)
    }

    fn check_on(&mut self, device: &dyn Device, options: Options) -> anyhow::Result<u8> {
        let subject =
            Subject { device, platform: self.platform, superblock: self.superblock, geometry: self.geometry };
        let summary = self.check_subject(&subject, options)?;
        (self.report.free_inodes, self.report.free_blocks) = (summary.free_inodes, summary.free_blocks);
        self.report.summary = Some((&summary).into());
        self.print()?;
        Ok(if summary.findings() == 0 { exit::OK } else { exit::UNCORRECTED })
    }

    fn check_subject(&mut self, subject: &Subject<'_>, options: Options) -> anyhow::Result<Summary> {
        let is_json = self.arguments.json;
        let findings = &mut self.report.findings;
        let mut printed = Ok(());
        let mut sink = |finding: &Finding| {
            findings.push(finding.into());
            if !is_json && printed.is_ok() {
                printed = writeln!(io::stdout().lock(), "{finding}");
            }
            Ok(())
        };
        let mut bars = Bars { is_wanted: self.arguments.progress, shown: None };
        let summary =
            check::run(subject, options, &mut sink, &mut |phase, done, total| bars.show(phase, done, total))
                .map_err(|error| anyhow!(self.device.explain(error)))?;
        printed?;
        Ok(summary)
    }

    fn print(&self) -> anyhow::Result<()> {
        if self.arguments.json {
            print_json(&self.report)?;
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if let Some(summary) = &self.report.summary {
            if self.arguments.verbose {
                write!(out, "{summary}")?;
            }
            if !summary.is_complete {
                writeln!(out, "What follows from the parts that cannot be read was left out.")?;
            }
        }
        writeln!(out, "{}", self.report)?;
        Ok(())
    }
}

/// A bar for each phase, one after the other.
struct Bars {
    is_wanted: bool,
    shown: Option<(Phase, u64, Progress)>,
}

impl Bars {
    fn show(&mut self, phase: Phase, done: u64, total: u64) {
        let (_, before, bar) = match self.shown.take_if(|(shown, ..)| *shown == phase) {
            Some(same) => same,
            None => {
                // The old bar goes before the new one comes.
                self.shown = None;
                (phase, 0, Progress::begin(phase.name(), total, !self.is_wanted))
            }
        };
        bar.advance(done.saturating_sub(before));
        self.shown = Some((phase, done, bar));
    }
}
