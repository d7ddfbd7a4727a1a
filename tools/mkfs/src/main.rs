// SPDX-License-Identifier: GPL-2.0

//! mkfs.cairnfs: makes a filesystem on a block device or in an image file.
//!
//! Everything that can be refused is refused before the first write: what is asked for is laid out by core, the device
//! is opened for nobody else, and what it holds already is looked for. Then the old superblock goes first and the new one
//! comes last, so that an interrupted run leaves nothing that mounts. With `-d` the new filesystem is then filled through its
//! own journal: interrupted in that, it is a sound one that holds a part.

mod arguments;
mod populate;
mod report;

use crate::arguments::Arguments;
use crate::populate::{Copied, Reproducible};
use crate::report::Report;
use anyhow::{bail, Context};
use cairnfs_core::device::Device;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::platform::Platform;
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES};
use cairnfs_device::{exit, print_json, probe, Access, FileDevice, Progress, Signature, StdPlatform};
use clap::Parser;
use std::path::Path;
use std::process::ExitCode;

/// Other formats keep what they are known by in the first and the last MiB.
const WIPED_END_BYTES: u64 = 1 << 20;
/// Devices discard in pieces of this many blocks (1 GiB), so that progress can be shown.
const DISCARD_PIECE_BLOCKS: u64 = 1 << 18;
/// The physical block size of an image file that is not there yet.
const NEW_IMAGE_PHYSICAL_BLOCK_BYTES: u32 = BLOCK_BYTES as u32;

fn main() -> ExitCode {
    // Who stops reading (`| head`) ends the program, as everywhere, and not by a panic.
    sigpipe::reset();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Where even this cannot be printed, the exit code is all there is left to say.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { exit::FAILED } else { exit::OK });
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("mkfs.cairnfs: {error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let platform = StdPlatform::with_source_date_epoch()?;
    let device = open(arguments)?;
    let signatures = match &device {
        Some(device) => probe(device).map_err(|error| anyhow::anyhow!(device.explain(error)))?,
        None => Vec::new(),
    };
    let plan = plan(arguments, device.as_ref())?;
    let identity = identity(arguments, &platform);
    let mut copied = None;
    if !arguments.dry_run {
        refuse_foreign(arguments, &signatures)?;
        let device = make(arguments, device, &platform, &plan, &identity, !signatures.is_empty())?;
        if let Some(source) = &arguments.directory {
            copied = Some(fill(arguments, &device, &platform, &identity, source)?);
        }
    }
    let report = Report::new(arguments, &platform, &plan, &identity, signatures, copied);
    if arguments.json {
        print_json(&report)?;
    } else if !arguments.quiet || arguments.dry_run {
        print!("{report}");
    }
    Ok(())
}

/// Opens what is there; `None` stands for an image file that is to be made.
fn open(arguments: &Arguments) -> anyhow::Result<Option<FileDevice>> {
    let path = &arguments.device;
    let exists = path.try_exists().with_context(|| format!("cannot look at {}", path.display()))?;
    if !exists {
        if arguments.size_bytes.is_none() {
            bail!("{} does not exist; with a size behind it an image file is made", path.display());
        }
        return Ok(None);
    }
    let access = if arguments.dry_run { Access::Read } else { Access::Exclusive };
    Ok(Some(FileDevice::open(path, access)?))
}

fn plan(arguments: &Arguments, device: Option<&FileDevice>) -> anyhow::Result<Plan> {
    let device_bytes = device.map_or(0, FileDevice::bytes);
    let bytes = arguments.size_bytes.unwrap_or(device_bytes);
    if device.is_some_and(FileDevice::is_block_device) && bytes > device_bytes {
        bail!("{} has only {} blocks", arguments.device.display(), device_bytes / BLOCK_BYTES as u64);
    }
    let own = device.map_or(NEW_IMAGE_PHYSICAL_BLOCK_BYTES, FileDevice::physical_block_bytes);
    let request = Request {
        available_blocks: bytes / BLOCK_BYTES as u64,
        physical_block_bytes: arguments.physical_block_bytes.unwrap_or(own),
        journal_bytes: arguments.journal_bytes,
        group_bytes: arguments.group_bytes,
        bytes_per_inode: arguments.bytes_per_inode,
    };
    Plan::new(&request).with_context(|| arguments.device.display().to_string())
}

fn identity(arguments: &Arguments, platform: &StdPlatform) -> Identity {
    let hash_key = arguments.hash_key.unwrap_or_else(|| {
        let mut key = [0; 16];
        platform.random(&mut key);
        key
    });
    Identity {
        uuid: arguments.uuid.bytes(platform),
        label: arguments.label,
        hash_key,
        created_ns: platform.now_ns(),
    }
}

fn refuse_foreign(arguments: &Arguments, signatures: &[Signature]) -> anyhow::Result<()> {
    if arguments.force || signatures.is_empty() {
        return Ok(());
    }
    let found: Vec<_> = signatures
        .iter()
        .map(|signature| format!("{} (at byte {})", signature.name, signature.offset))
        .collect();
    bail!("{} contains {}; use -f to overwrite it", arguments.device.display(), found.join(", "));
}

fn make(
    arguments: &Arguments,
    device: Option<FileDevice>,
    platform: &StdPlatform,
    plan: &Plan,
    identity: &Identity,
    is_foreign: bool,
) -> anyhow::Result<FileDevice> {
    let quiet = arguments.quiet || arguments.json;
    let is_new = device.is_none();
    let wanted_bytes = arguments.size_bytes.unwrap_or(0);
    let mut device = match device {
        Some(device) => device,
        None => FileDevice::create(&arguments.device, wanted_bytes)?,
    };
    device.extend(wanted_bytes).with_context(|| format!("cannot extend {}", arguments.device.display()))?;
    let explain = |error| anyhow::anyhow!(device.explain(error));
    make::wipe(&device, platform).map_err(explain)?;
    if is_foreign {
        device
            .zero_ends(WIPED_END_BYTES)
            .with_context(|| format!("cannot wipe {}", arguments.device.display()))?;
        device.flush().map_err(explain)?;
    }
    if !is_new && !arguments.no_discard {
        discard(&device, plan, quiet)?;
    }
    let progress = Progress::begin("writing", make::blocks_to_write(plan), quiet);
    make::write(&device, platform, plan, identity, &mut |blocks| progress.advance(blocks))
        .map_err(explain)?;
    Ok(device)
}

/// Copies a directory into the new filesystem.
fn fill(
    arguments: &Arguments,
    device: &FileDevice,
    platform: &StdPlatform,
    identity: &Identity,
    source: &Path,
) -> anyhow::Result<Copied> {
    let quiet = arguments.quiet || arguments.json;
    if platform.is_fixed() {
        return populate::populate(device, &Reproducible::new(platform, identity), source, quiet);
    }
    populate::populate(device, platform, source, quiet)
}

fn discard(device: &FileDevice, plan: &Plan, quiet: bool) -> anyhow::Result<()> {
    let progress = Progress::begin("discarding", plan.device_blocks, quiet);
    let mut start = 0;
    while start < plan.device_blocks {
        let blocks = (plan.device_blocks - start).min(DISCARD_PIECE_BLOCKS);
        let discarded = device
            .discard(BlockRun { start: BlockNo(start), blocks })
            .with_context(|| format!("cannot discard blocks of {}", device.path().display()))?;
        if !discarded {
            break;
        }
        progress.advance(blocks);
        start += blocks;
    }
    Ok(())
}
