// SPDX-License-Identifier: GPL-2.0

//! What core asks of a mounted filesystem: blocks and inodes as closed handles left them, groups, the journal, the orphans.
//!
//! What the log has of an object is current; else what is at home. A group is loaded, with its bitmaps, when it is first used for
//! writing; while the mount only reads, its header is enough.
//!
//! Locks: the map of groups, then one group, then the journal mutex; orphans and cache are leaves.

#![forbid(unsafe_code)]

use crate::mounted::Mounted;
use cairnfs_core::blocks::{BlockGuard, ReadBlocks};
use cairnfs_core::directory::HashKey;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::group::{BitmapKind, Geometry};
use cairnfs_core::format::{BlockKind, Stamp};
use cairnfs_core::handle::Environment;
use cairnfs_core::inode::Inode;
use cairnfs_core::journal::object::BitmapKey;
use cairnfs_core::journal::Journal;
use cairnfs_core::memory::{Buffer, Owned, Shared};
use cairnfs_core::orphans::Orphans;
use cairnfs_core::platform::Platform;
use cairnfs_core::space::choose::Groups;
use cairnfs_core::space::group::Group;
use cairnfs_core::space::ledger::Ledger;
use cairnfs_core::space::load;
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo};
use cairnfs_core::verify;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::platform::Kernel;
use core::sync::atomic::Ordering;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{Arc, Mutex};

/// A group, and its lock.
#[pin_data]
pub(crate) struct GroupCell {
    /// `None`: not loaded yet.
    #[pin]
    group: Mutex<Option<Owned<Group>>>,
}

impl GroupCell {
    fn try_new() -> Result<Arc<Self>> {
        let cell = pin_init!(Self { group <- new_mutex!(None, "GroupCell::group") });
        Arc::pin_init(cell, GFP_KERNEL).map_err(|_| Error::OutOfMemory)
    }
}

impl Mounted {
    fn group_cell(&self, group: GroupNo) -> Result<Arc<GroupCell>> {
        let mut groups = self.groups.lock();
        if let Some(cell) = groups.get(group) {
            return Ok(cell.clone());
        }
        let cell = GroupCell::try_new()?;
        groups.insert(group, cell.clone())?;
        Ok(cell)
    }

    #[inline(never)] // For the stack: a group passes over it.
    fn load_group(&self, group: GroupNo) -> Result<Owned<Group>> {
        let from_device = load::load(self.device(), &Kernel, self.metadata.layout(), group)?;
        self.journaling.locked(|state| {
            let journal = &mut state.journal;
            journal.add_group(group, from_device)?;
            let mark = journal.table_mark(group).unwrap_or(0);
            let loaded = Group::load(self.metadata.layout(), group, mark, &mut |kind: BitmapKind, index| {
                let key = BitmapKey { group, kind, index };
                journal.bitmap(key).map(|bits| BlockGuard::Private(bits)).ok_or(Error::ShutDown)
            })?;
            Ok(Owned::try_new(loaded)?)
        })
    }

    /// Inode slots of `group` below this are initialised, and whether `block` of its table reads as zero.
    fn table_state(&self, group: GroupNo, block: BlockNo) -> Result<(u32, bool)> {
        let known = |mounted: &Self| {
            mounted.journaling.locked(|state| {
                let journal = &state.journal;
                journal.table_mark(group).map(|mark| (mark, journal.is_new_table_block(block)))
            })
        };
        if let Some(state) = known(self) {
            return Ok(state);
        }
        if !self.writing.load(Ordering::Acquire) {
            return Ok((self.metadata.header_mark(group)?, false));
        }
        self.with_group(group, &mut |_| Ok(()))?;
        known(self).ok_or(Error::ShutDown)
    }

    fn inode_from_table(&self, number: InodeNo) -> Result<Owned<Inode>> {
        let place = self.metadata.layout().locate_inode(number)?;
        if place.group.0 >= self.initialised_groups() {
            return Err(Error::Stale);
        }
        let (mark, reads_as_zero) = self.table_state(place.group, place.block)?;
        if place.index >= mark || reads_as_zero {
            return Err(Error::Stale);
        }
        // Each inode of the block has a CRC of its own.
        let block = self.metadata.read_cached(place.block, &mut |_| Ok(()))?;
        verify::inode(&Kernel, self.metadata.layout(), &block, number)
    }
}

impl Groups for Mounted {
    fn geometry(&self) -> &Geometry {
        self.metadata.layout()
    }

    fn initialised_groups(&self) -> u32 {
        self.initialised_groups.load(Ordering::Acquire)
    }

    #[inline(never)] // For the stack: a group passes over it.
    fn initialise_next(&self) -> Result {
        let geometry = self.metadata.layout();
        let mut groups = self.groups.lock();
        let next = GroupNo(self.initialised_groups());
        if next.0 >= geometry.group_count {
            return Err(Error::NoSpace);
        }
        let group = Owned::try_new(Group::fresh(geometry, next)?)?;
        let implied = load::implied(geometry, next)?;
        let cell = GroupCell::try_new()?;
        *cell.group.lock() = Some(group);
        self.journaling.locked(|state| state.journal.add_group(next, implied))?;
        groups.insert(next, cell)?;
        self.initialised_groups.store(next.0.saturating_add(1), Ordering::Release);
        Ok(())
    }

    fn with_group(&self, group: GroupNo, action: &mut dyn FnMut(&mut Group) -> Result) -> Result {
        if group.0 >= self.initialised_groups() {
            return Err(Error::InvalidArgument);
        }
        without_filesystem_reclaim(|| {
            let cell = self.group_cell(group)?;
            let mut loaded = cell.group.lock();
            if loaded.is_none() {
                *loaded = Some(self.load_group(group)?);
            }
            loaded.as_mut().map_or(Err(Error::ShutDown), |group| action(group))
        })
    }

    fn with_ledger(&self, action: &mut dyn FnMut(&mut Ledger) -> Result) -> Result {
        action(&mut self.ledger.lock())
    }
}

impl Environment for Mounted {
    fn platform(&self) -> &dyn Platform {
        &Kernel
    }

    fn hash_key(&self) -> &HashKey {
        self.metadata.hash_key()
    }

    fn read_block(&self, stamp: &Stamp) -> Result<Shared<Buffer>> {
        let logged = self
            .journaling
            .locked(|state| state.journal.block(stamp.block).map(|object| object.content.clone()));
        let content = match logged {
            Some(content) => content,
            None => self.metadata.read_cached(stamp.block, &mut |bytes| {
                verify::block(&Kernel, self.metadata.layout(), stamp, bytes)
            })?,
        };
        verify::cached(stamp, &content)?;
        Ok(content)
    }

    fn read_inode(&self, number: InodeNo) -> Result<Owned<Inode>> {
        let logged = self
            .journaling
            .locked(|state| state.journal.inode_image(number).map(|image| Inode::decode(image)));
        logged.unwrap_or_else(|| self.inode_from_table(number))
    }

    fn with_journal(&self, action: &mut dyn FnMut(&mut Journal) -> Result) -> Result {
        self.journaling.locked(|state| action(&mut state.journal))
    }

    fn with_orphans(&self, action: &mut dyn FnMut(&mut Orphans) -> Result) -> Result {
        without_filesystem_reclaim(|| action(&mut self.orphans.lock()))
    }
}

/// Reading outside of handles: what closed handles have left.
impl ReadBlocks for Mounted {
    fn geometry(&self) -> &Geometry {
        self.metadata.layout()
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let filesystem_id = self.metadata.layout().filesystem_id;
        Ok(BlockGuard::Cached(self.read_block(&Stamp { kind, block, owner: owner.0, filesystem_id })?))
    }
}
