// SPDX-License-Identifier: GPL-2.0

//! What core asks of a mounted filesystem, answered with mutexes and synchronous reads.

use crate::{lock, Volume};
use cairnfs_core::blocks::{BlockGuard, ReadBlocks};
use cairnfs_core::directory::hash::HashKey;
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
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo, BLOCK_BYTES};
use cairnfs_core::verify;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;

impl Volume<'_> {
    /// A block through the cache; `check` verifies it when it comes from the device.
    pub(crate) fn read_cached(
        &self,
        block: BlockNo,
        check: &mut dyn FnMut(&[u8]) -> Result,
    ) -> Result<Shared<Buffer>> {
        loop {
            let epoch = {
                let mut cache = lock(&self.cache);
                if let Some(content) = cache.get(block) {
                    return Ok(content);
                }
                cache.epoch(block)
            };
            let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
            self.device.read(block, &mut bytes)?;
            check(&bytes)?;
            let content = Shared::try_new(bytes)?;
            if lock(&self.cache).offer(block, &content, epoch)? {
                return Ok(content);
            }
        }
    }

    fn inode_from_table(&self, number: InodeNo) -> Result<Owned<Inode>> {
        let place = self.geometry.locate_inode(number)?;
        if place.group.0 >= self.initialised_groups() {
            return Err(Error::Stale);
        }
        self.with_group(place.group, &mut |_| Ok(()))?;
        {
            let journal = self.journal();
            let mark = journal.table_mark(place.group).unwrap_or(0);
            if place.index >= mark || journal.is_new_table_block(place.block) {
                return Err(Error::Stale);
            }
        }
        let block = self.read_cached(place.block, &mut |_| Ok(()))?;
        verify::inode(self.platform, &self.geometry, &block, number)
    }
}

impl Groups for Volume<'_> {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn initialised_groups(&self) -> u32 {
        self.initialised_groups.load(Ordering::Acquire)
    }

    fn initialise_next(&self) -> Result {
        let mut groups = lock(&self.groups);
        let next = GroupNo(self.initialised_groups());
        if next.0 >= self.geometry.group_count {
            return Err(Error::NoSpace);
        }
        let group = Group::fresh(&self.geometry, next)?;
        self.journal().add_group(next, load::implied(&self.geometry, next)?)?;
        groups.insert(next, group);
        self.initialised_groups.store(next.0 + 1, Ordering::Release);
        Ok(())
    }

    fn with_group(&self, group: GroupNo, action: &mut dyn FnMut(&mut Group) -> Result) -> Result {
        if group.0 >= self.initialised_groups() {
            return Err(Error::InvalidArgument);
        }
        let mut groups = lock(&self.groups);
        let loaded = match groups.entry(group) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let from_device = load::load(self.device, self.platform, &self.geometry, group)?;
                let mut journal = self.journal();
                journal.add_group(group, from_device)?;
                let mark = journal.table_mark(group).unwrap_or(0);
                let loaded = Group::load(&self.geometry, group, mark, &mut |kind: BitmapKind, index| {
                    let key = BitmapKey { group, kind, index };
                    journal.bitmap(key).map(|bits| BlockGuard::Private(bits)).ok_or(Error::ShutDown)
                })?;
                entry.insert(loaded)
            }
        };
        action(loaded)
    }

    fn with_ledger(&self, action: &mut dyn FnMut(&mut Ledger) -> Result) -> Result {
        action(&mut lock(&self.ledger))
    }
}

impl Environment for Volume<'_> {
    fn platform(&self) -> &dyn Platform {
        self.platform
    }

    fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    fn read_block(&self, stamp: &Stamp) -> Result<Shared<Buffer>> {
        let logged = self.journal().block(stamp.block).map(|object| object.content.clone());
        let content = match logged {
            Some(content) => content,
            None => self.read_cached(stamp.block, &mut |bytes| {
                verify::block(self.platform, &self.geometry, stamp, bytes)
            })?,
        };
        verify::cached(stamp, &content)?;
        Ok(content)
    }

    fn read_inode(&self, number: InodeNo) -> Result<Owned<Inode>> {
        if let Some(image) = self.journal().inode_image(number) {
            return Inode::decode(image);
        }
        self.inode_from_table(number)
    }

    fn with_journal(&self, action: &mut dyn FnMut(&mut Journal) -> Result) -> Result {
        action(&mut self.journal())
    }

    fn with_orphans(&self, action: &mut dyn FnMut(&mut Orphans) -> Result) -> Result {
        action(&mut lock(&self.orphans))
    }
}

/// Reading outside of handles: what closed handles have left.
impl ReadBlocks for Volume<'_> {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let filesystem_id = self.geometry.filesystem_id;
        Ok(BlockGuard::Cached(self.read_block(&Stamp { kind, block, owner: owner.0, filesystem_id })?))
    }
}
