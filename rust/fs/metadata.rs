// SPDX-License-Identifier: GPL-2.0

//! Reading metadata: blocks through core's cache, inodes from their tables, the groups' table marks.
//!
//! Whatever comes from the device is verified before it is cached. Two readers of one block may both read it; the cache keeps
//! one.
//!
//! Locks: both mutexes here are leaves. `cache` is also taken by reclaim ([`Metadata::shrink`]), so nothing
//! that is allocated under it may start reclaim of filesystems. `table_marks` is held while a group's header is read.

#![forbid(unsafe_code)]

use cairnfs_core::blocks::{BlockGuard, ReadBlocks};
use cairnfs_core::cache::Cache;
use cairnfs_core::device::Device as _;
use cairnfs_core::directory::HashKey;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::{BlockKind, Stamp};
use cairnfs_core::inode::Inode;
use cairnfs_core::memory::{Buffer, OrderedMap, Owned, Shared};
use cairnfs_core::space::load;
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo, BLOCK_BYTES};
use cairnfs_core::verify;
use cairnfs_linux::block_device::BlockDevice;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::platform::Kernel;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

/// The metadata of a mounted filesystem.
#[pin_data]
pub(crate) struct Metadata {
    device: BlockDevice,
    geometry: Geometry,
    hash_key: HashKey,
    /// Groups [0, n) have a header and bitmaps on the device.
    initialised_groups: u32,
    #[pin]
    cache: Mutex<Cache>,
    /// Inode slots below these are initialised, for groups that were looked at.
    #[pin]
    table_marks: Mutex<OrderedMap<GroupNo, u32>>,
}

impl Metadata {
    /// Nothing read yet.
    pub(crate) fn new(
        device: BlockDevice,
        geometry: Geometry,
        hash_key: [u8; 16],
        initialised_groups: u32,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            device,
            geometry,
            hash_key: HashKey(hash_key),
            initialised_groups,
            cache <- new_mutex!(Cache::new(), "Metadata::cache"),
            table_marks <- new_mutex!(OrderedMap::new(), "Metadata::table_marks"),
        })
    }

    /// Where everything is.
    pub(crate) const fn layout(&self) -> &Geometry {
        &self.geometry
    }

    /// The key of the directories' hash.
    pub(crate) const fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// Where an inode stands, for messages.
    pub(crate) fn block_of_inode(&self, number: InodeNo) -> BlockNo {
        self.geometry.locate_inode(number).map_or(BlockNo(0), |place| place.block)
    }

    /// Blocks that could be dropped.
    pub(crate) fn cached_blocks(&self) -> usize {
        self.cache.lock().len()
    }

    /// Drops about `wanted` blocks.
    pub(crate) fn shrink(&self, wanted: usize) -> usize {
        self.cache.lock().shrink(wanted)
    }

    /// A block through the cache; `check` verifies it when it comes from the device.
    fn read_cached(&self, block: BlockNo, check: &mut dyn FnMut(&[u8]) -> Result) -> Result<Shared<Buffer>> {
        loop {
            let epoch = {
                let mut cache = self.cache.lock();
                if let Some(content) = cache.get(block) {
                    return Ok(content);
                }
                cache.epoch(block)
            };
            let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
            self.device.read(block, &mut bytes)?;
            check(&bytes)?;
            let content = Shared::try_new(bytes)?;
            let taken = without_filesystem_reclaim(|| self.cache.lock().offer(block, &content, epoch))?;
            if taken {
                return Ok(content);
            }
        }
    }

    /// Inode slots of `group` below this are initialised.
    fn table_mark(&self, group: GroupNo) -> Result<u32> {
        if group.0 >= self.initialised_groups {
            return Ok(0);
        }
        let mut marks = self.table_marks.lock();
        if let Some(mark) = marks.get(group) {
            return Ok(*mark);
        }
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        self.device.read(self.geometry.header_of(group), &mut bytes)?;
        let mark = load::decode_header(&Kernel, &self.geometry, group, &bytes)?.table_mark;
        marks.insert(group, mark)?;
        Ok(mark)
    }

    /// An inode as it is in its table, verified; [`Error::Stale`] when its slot was never used.
    pub(crate) fn read_inode(&self, number: InodeNo) -> Result<Owned<Inode>> {
        let place = self.geometry.locate_inode(number)?;
        if place.index >= self.table_mark(place.group)? {
            return Err(Error::Stale);
        }
        // Each inode of the block has a CRC of its own.
        let block = self.read_cached(place.block, &mut |_| Ok(()))?;
        verify::inode(&Kernel, &self.geometry, &block, number)
    }
}

impl ReadBlocks for Metadata {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let stamp = Stamp { kind, block, owner: owner.0, filesystem_id: self.geometry.filesystem_id };
        let content =
            self.read_cached(block, &mut |bytes| verify::block(&Kernel, &self.geometry, &stamp, bytes))?;
        verify::cached(&stamp, &content)?;
        Ok(BlockGuard::Cached(content))
    }
}
