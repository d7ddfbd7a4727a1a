// SPDX-License-Identifier: GPL-2.0

//! Mounting: what is on the device is looked at from the outside in, and the first contradiction ends it.
//!
//! The superblock (the newer whole copy of the pair), its features, its numbers against each other and against the
//! device's size, the journal's header, the journal, the root directory. A journal that is not clean is replayed, also for a
//! read-only mount, as long as the device can be written to: only so are the blocks at home consistent. Core's
//! recovery writes nothing before it has read and verified everything, and a crash in it leaves the same work to the
//! next mount.

#![forbid(unsafe_code)]

use crate::counters::Counters;
use crate::journal::workers::Workers;
use crate::journal::Journaling;
use crate::metadata::Metadata;
use crate::mounted::Mounted;
use crate::options::{Options, Settings};
use crate::report;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::{Check, Error};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::journal::HEADER_CLEAN;
use cairnfs_core::format::superblock::{self, RecoveryReport, Superblock};
use cairnfs_core::journal::replay::{self, Recovered};
use cairnfs_core::journal::{Journal, Start};
use cairnfs_core::memory::{Buffer, OrderedMap, Owned};
use cairnfs_core::orphans::Orphans;
use cairnfs_core::space::ledger::Ledger;
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use cairnfs_linux::block_device::BlockDevice;
use cairnfs_linux::platform::{monotonic_ns, Kernel};
use core::sync::atomic::{AtomicBool, AtomicU32};
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::Arc;

/// What the device holds, as far as a mount needs it.
struct Examined {
    superblock: Owned<Superblock>,
    geometry: Geometry,
    journal: Owned<Journal>,
    recovery: RecoveryReport,
}

/// Looks at the device, recovers if need be, and makes what is kept of the mount. Nothing is changed but by recovery.
pub(crate) fn load(name: &CStr, device: BlockDevice, options: &Options) -> Result<Arc<Mounted>> {
    let superblock = read_superblock(&device).map_err(|error| report_superblock(name, error))?;
    let Examined { superblock, geometry, journal, recovery } = examine(name, &device, superblock, options)?;
    let name = CString::try_from(name)?;
    let initialised_groups = journal.totals().initialised_groups;
    let ledger = Ledger::new(journal.totals().free_blocks, superblock.reserve_blocks);
    let (uuid, hash_key) = (superblock.uuid, superblock.hash_key);
    let orphan_inode = superblock.orphan_inode;
    Arc::pin_init(
        pin_init!(Mounted {
            name,
            uuid,
            orphan_inode,
            no_recovery: options.no_recovery,
            recovery,
            settings: Settings::new(options),
            counters: Counters::default(),
            writing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stopping_orphans: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            initialised_groups: AtomicU32::new(initialised_groups),
            metadata <- Metadata::new(device, geometry, hash_key),
            superblock <- new_mutex!(superblock, "Mounted::superblock"),
            groups <- new_mutex!(OrderedMap::new(), "Mounted::groups"),
            journaling <- Journaling::new(journal),
            ledger <- new_mutex!(ledger, "Mounted::ledger"),
            orphans <- new_mutex!(Orphans::new(), "Mounted::orphans"),
            orphan_index <- new_mutex!((), "Mounted::orphan_index"),
            checkpointer <- new_mutex!((), "Mounted::checkpointer"),
            flusher <- new_mutex!((), "Mounted::flusher"),
            orphan_remover <- new_mutex!((), "Mounted::orphan_remover"),
            workers <- new_mutex!(Workers::default(), "Mounted::workers"),
            statistics <- new_mutex!(None, "Mounted::statistics"),
        }),
        GFP_KERNEL,
    )
}

/// A copy of the superblock, if it is whole.
#[inline(never)] // For the stack: a superblock is large, and here is one of them; `on_the_heap` has the other.
fn read_copy(device: &BlockDevice, block: BlockNo) -> cairnfs_core::error::Result<Owned<Superblock>> {
    let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
    device.read(block, &mut bytes)?;
    match &Superblock::read_copy(&Kernel, &bytes, block) {
        Ok(superblock) => on_the_heap(superblock),
        Err(error) => Err(*error),
    }
}

#[inline(never)]
fn on_the_heap(superblock: &Superblock) -> cairnfs_core::error::Result<Owned<Superblock>> {
    Ok(Owned::try_new(*superblock)?)
}

/// The newer of the two copies, of which one may be torn. When neither can be used, the first one's failure counts: it says
/// what the device holds instead.
fn read_superblock(device: &BlockDevice) -> cairnfs_core::error::Result<Owned<Superblock>> {
    match (read_copy(device, superblock::PRIMARY), read_copy(device, superblock::SECONDARY)) {
        (Ok(first), Ok(second)) if second.update_counter > first.update_counter => Ok(second),
        (Ok(first), _) => Ok(first),
        (Err(_), Ok(second)) => Ok(second),
        (Err(error), Err(_)) => Err(error),
    }
}

/// A device without our magic number holds something else: that is no damage, and EINVAL, as for every filesystem.
fn report_superblock(name: &CStr, error: Error) -> kernel::error::Error {
    match error {
        Error::Corrupt(corruption) if corruption.check == Check::Magic => {
            pr_err!("{name}: no cairnfs filesystem: {error}\n");
            EINVAL
        }
        _ => report::errno(name, error),
    }
}

/// Checks the superblock, and recovers.
#[inline(never)] // For the stack: what is examined is large.
fn examine(
    name: &CStr,
    device: &BlockDevice,
    superblock: Owned<Superblock>,
    options: &Options,
) -> Result<Examined> {
    let geometry =
        superblock.check_features(false).and_then(|()| Geometry::new(&superblock, device.blocks()));
    let geometry = geometry.map_err(|error| report::errno(name, error))?;
    let Recovered { start, report } = recover(name, device, &superblock, &geometry, options)?;
    let journal =
        new_journal(geometry, superblock.uuid, &start).map_err(|error| report::errno(name, error))?;
    Ok(Examined { superblock, geometry, journal, recovery: report })
}

#[inline(never)] // For the stack: a journal is large.
fn new_journal(
    geometry: Geometry,
    uuid: [u8; 16],
    start: &Start,
) -> cairnfs_core::error::Result<Owned<Journal>> {
    Ok(Owned::try_new(Journal::new(geometry, uuid, start))?)
}

/// Brings the blocks at home up to the journal, unless it is to be left alone.
#[inline(never)] // For the stack: a header is large.
fn recover(
    name: &CStr,
    device: &BlockDevice,
    superblock: &Superblock,
    geometry: &Geometry,
    options: &Options,
) -> Result<Recovered> {
    let errno = |error| report::errno(name, error);
    let header = replay::read_header(device, &Kernel, superblock, geometry).map_err(errno)?;
    if header.flags & HEADER_CLEAN == 0 {
        if options.no_recovery {
            pr_warn!("{name}: the journal is not clean, and is left as it is: what is read may be old or contradictory\n");
            return Ok(replay::without(&header));
        }
        if device.is_read_only() {
            pr_err!("{name}: the journal is not clean, and the device is read-only: use -o ro,norecovery\n");
            return Err(EROFS);
        }
        superblock.check_features(true).map_err(|error| {
            pr_err!("{name}: the journal is not clean, and the filesystem may not be written to: {error}\n");
            EROFS
        })?;
    }
    let began_ns = monotonic_ns();
    let recovered = replay::recover(device, &Kernel, superblock, geometry).map_err(errno)?;
    if header.flags & HEADER_CLEAN == 0 {
        let report = &recovered.report;
        pr_info!(
            "{name}: recovered {} transactions, {} items, in {} us\n",
            report.transactions,
            report.items,
            monotonic_ns().saturating_sub(began_ns) / 1000
        );
    }
    Ok(recovered)
}
