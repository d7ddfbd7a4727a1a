// SPDX-License-Identifier: GPL-2.0

//! Mounting: what is on the device is looked at from the outside in, and the first contradiction ends it.
//!
//! The superblock (the newer whole copy of the pair), its features, its numbers against each other and against the
//! device's size, the journal's header, the journal, the root directory. A journal that is not clean is replayed, also for a
//! read-only mount, as long as the device can be written to: only so are the blocks at home consistent. Core's
//! recovery writes nothing before it has read and verified everything, and a crash in it leaves the same work to the
//! next mount.

#![forbid(unsafe_code)]

use crate::inode;
use crate::metadata::Metadata;
use crate::module::Cairnfs;
use crate::options::Options;
use crate::report;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::{corrupt, Check, Error};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::inode::{FILE_BYTES_MAX, LINKS_MAX, NAME_BYTES_MAX, ROOT};
use cairnfs_core::format::journal::{Totals, HEADER_CLEAN};
use cairnfs_core::format::superblock::{self, Superblock};
use cairnfs_core::journal::replay::{self, Recovered};
use cairnfs_core::memory::Buffer;
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use cairnfs_linux::block_device::BlockDevice;
use cairnfs_linux::inode::Inode;
use cairnfs_linux::platform::Kernel;
use cairnfs_linux::seq_file::SeqFile;
use cairnfs_linux::statfs::Statistics;
use cairnfs_linux::super_block::{self, New, Parameters, SuperBlock};
use kernel::c_str;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::types::ARef;

/// What statfs(2) names the filesystem by: "CRNf".
const STATFS_MAGIC: u32 = u32::from_le_bytes(*b"CRNf");

/// A mounted filesystem.
#[pin_data]
pub(crate) struct Mounted {
    name: CString,
    no_recovery: bool,
    totals: Totals,
    reserve_blocks: u64,
    /// Its metadata, read and cached.
    #[pin]
    pub(crate) metadata: Metadata,
}

impl Mounted {
    /// Whether the journal was left alone.
    pub(crate) const fn no_recovery(&self) -> bool {
        self.no_recovery
    }

    /// The errno of an error, which is reported when it says something about the device.
    pub(crate) fn errno(&self, error: Error) -> kernel::error::Error {
        report::errno(&self.name, error)
    }
}

impl super_block::Operations for Cairnfs {
    fn load(new: &mut New, options: &Options) -> Result<(Parameters, Pin<KBox<Mounted>>)> {
        if let Err(error) = new.set_block_size(BLOCK_BYTES as u32) {
            pr_err!("{}: the device's own blocks are larger than {BLOCK_BYTES} bytes\n", new.name());
            return Err(error);
        }
        let name = CString::try_from(new.name())?;
        let device = new.device();
        let (bytes, block) = read_superblock(&device).map_err(|error| report_superblock(&name, error))?;
        let found = examine(&name, &device, (&bytes, block), options)?;
        let parameters = Parameters {
            magic: STATFS_MAGIC,
            uuid: found.uuid,
            max_file_bytes: FILE_BYTES_MAX as i64,
            max_links: LINKS_MAX,
        };
        let initialised_groups = found.totals.initialised_groups;
        let mounted = KBox::pin_init(
            pin_init!(Mounted {
                name,
                no_recovery: options.no_recovery,
                totals: found.totals,
                reserve_blocks: found.reserve_blocks,
                metadata <- Metadata::new(device, found.geometry, found.hash_key, initialised_groups),
            }),
            GFP_KERNEL,
        )?;
        Ok((parameters, mounted))
    }

    fn root(super_block: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>> {
        let root = inode::get(super_block, ROOT)?;
        let core = &root.data().inode.core;
        if !core.is_directory() {
            let mounted = super_block.data();
            let block = mounted.metadata.block_of_inode(ROOT);
            return corrupt(Check::FileType, block, 0, u64::from(core.mode))
                .map_err(|error| mounted.errno(error));
        }
        pr_info!("{}: mounted read-only\n", &*super_block.data().name);
        Ok(root)
    }

    fn statfs(super_block: &SuperBlock<Self>) -> Result<Statistics> {
        let mounted = super_block.data();
        let geometry = mounted.metadata.layout();
        Ok(Statistics {
            magic: STATFS_MAGIC,
            block_bytes: BLOCK_BYTES as u32,
            blocks: geometry.data_blocks(),
            free_blocks: mounted.totals.free_blocks,
            available_blocks: mounted.totals.free_blocks.saturating_sub(mounted.reserve_blocks),
            inodes: geometry.inode_count(),
            free_inodes: mounted.totals.free_inodes,
            id: geometry.filesystem_id,
            name_bytes_max: NAME_BYTES_MAX as u32,
        })
    }

    fn show_options(super_block: &SuperBlock<Self>, text: &mut SeqFile<'_>) {
        if super_block.data().no_recovery {
            text.puts(c_str!(",norecovery"));
        }
    }

    fn nr_cached_objects(super_block: &SuperBlock<Self>) -> usize {
        super_block.data().metadata.cached_blocks()
    }

    fn free_cached_objects(super_block: &SuperBlock<Self>, wanted: usize) -> usize {
        super_block.data().metadata.shrink(wanted)
    }
}

/// What a mount keeps of the superblock, and the totals behind recovery.
struct Examined {
    geometry: Geometry,
    totals: Totals,
    uuid: [u8; 16],
    hash_key: [u8; 16],
    reserve_blocks: u64,
}

/// A copy of the superblock, if it is whole, and its counter. (A decoded superblock is large for a stack frame, so only two
/// functions here have one.)
#[inline(never)]
fn read_copy(device: &BlockDevice, block: BlockNo) -> cairnfs_core::error::Result<(Buffer, u64)> {
    let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
    device.read(block, &mut bytes)?;
    match &Superblock::read_copy(&Kernel, &bytes, block) {
        Ok(superblock) => Ok((bytes, superblock.update_counter)),
        Err(error) => Err(*error),
    }
}

/// The newer of the two copies, of which one may be torn. When neither can be used, the first one's failure counts: it says
/// what the device holds instead.
fn read_superblock(device: &BlockDevice) -> cairnfs_core::error::Result<(Buffer, BlockNo)> {
    let copies = (read_copy(device, superblock::PRIMARY), read_copy(device, superblock::SECONDARY));
    match copies {
        (Ok((_, first)), Ok((bytes, second))) if second > first => Ok((bytes, superblock::SECONDARY)),
        (Ok((bytes, _)), _) => Ok((bytes, superblock::PRIMARY)),
        (Err(_), Ok((bytes, _))) => Ok((bytes, superblock::SECONDARY)),
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

/// Checks the superblock in `bytes`, which is whole, and recovers.
#[inline(never)]
fn examine(
    name: &CStr,
    device: &BlockDevice,
    (bytes, block): (&[u8], BlockNo),
    options: &Options,
) -> Result<Examined> {
    let decoded = Superblock::read_copy(&Kernel, bytes, block);
    let superblock = decoded.as_ref().map_err(|error| report::errno(name, *error))?;
    let geometry = superblock.check_features(false).and_then(|()| Geometry::new(superblock, device.blocks()));
    let geometry = geometry.map_err(|error| report::errno(name, error))?;
    Ok(Examined {
        totals: recover(name, device, superblock, &geometry, options)?,
        geometry,
        uuid: superblock.uuid,
        hash_key: superblock.hash_key,
        reserve_blocks: superblock.reserve_blocks,
    })
}

/// Brings the blocks at home up to the journal; returns the totals that hold then.
#[inline(never)]
fn recover(
    name: &CStr,
    device: &BlockDevice,
    superblock: &Superblock,
    geometry: &Geometry,
    options: &Options,
) -> Result<Totals> {
    let header = replay::read_header(device, &Kernel, superblock, geometry);
    let header = header.map_err(|error| report::errno(name, error))?;
    if header.flags & HEADER_CLEAN != 0 {
        return Ok(header.totals);
    }
    if options.no_recovery {
        pr_warn!("{name}: the journal is not clean, and is left as it is: what is read may be old or contradictory\n");
        return Ok(header.totals);
    }
    if device.is_read_only() {
        pr_err!("{name}: the journal is not clean, and the device is read-only: use -o ro,norecovery\n");
        return Err(EROFS);
    }
    superblock.check_features(true).map_err(|error| {
        pr_err!("{name}: the journal is not clean, and the filesystem may not be written to: {error}\n");
        EROFS
    })?;
    let recovered = replay::recover(device, &Kernel, superblock, geometry);
    let Recovered { start, report } = recovered.map_err(|error| report::errno(name, error))?;
    pr_info!(
        "{name}: recovered {} transactions, {} items, in {} us\n",
        report.transactions,
        report.items,
        report.duration_ns / 1000
    );
    Ok(start.totals)
}
