// SPDX-License-Identifier: GPL-2.0

//! Metadata as it is at home: blocks through core's cache, and the table marks in groups' headers.
//!
//! Whatever comes from the device is verified before it is cached. Two readers of one block may both read it; the cache keeps
//! one. What the log has of a block is newer: [`environment`](crate::environment) asks it first.
//!
//! Locks: both mutexes here are leaves. `cache` is also taken by reclaim of filesystems ([`Metadata::shrink`]), so nothing that is
//! allocated under it may start that. Reclaim that is to keep out of filesystems still asks how much there is to be had
//! (`super_cache_count` in fs/super.c): that takes no lock. `header_marks` is held while a group's header is read.

#![forbid(unsafe_code)]

use cairnfs_core::cache::Cache;
use cairnfs_core::device::Device as _;
use cairnfs_core::directory::HashKey;
use cairnfs_core::error::Result;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::memory::{Buffer, OrderedMap, Shared};
use cairnfs_core::space::load;
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo, BLOCK_BYTES};
use cairnfs_linux::block_device::BlockDevice;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::platform::Kernel;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

/// The metadata of a mounted filesystem, as it is at home.
#[pin_data]
pub(crate) struct Metadata {
    device: BlockDevice,
    geometry: Geometry,
    hash_key: HashKey,
    #[pin]
    cache: Mutex<Cache>,
    /// How many blocks are in it.
    cached_blocks: AtomicUsize,
    /// Inode slots below these are initialised, as the headers of groups say that were looked at while nothing was written.
    #[pin]
    header_marks: Mutex<OrderedMap<GroupNo, u32>>,
}

impl Metadata {
    /// Nothing read yet.
    pub(crate) fn new(device: BlockDevice, geometry: Geometry, hash_key: [u8; 16]) -> impl PinInit<Self> {
        pin_init!(Self {
            device,
            geometry,
            hash_key: HashKey(hash_key),
            cache <- new_mutex!(Cache::new(), "Metadata::cache"),
            cached_blocks: AtomicUsize::new(0),
            header_marks <- new_mutex!(OrderedMap::new(), "Metadata::header_marks"),
        })
    }

    /// Where everything is.
    pub(crate) const fn layout(&self) -> &Geometry {
        &self.geometry
    }

    /// The device.
    pub(crate) const fn device(&self) -> &BlockDevice {
        &self.device
    }

    /// The key of the directories' hash.
    pub(crate) const fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// Where an inode stands, for messages.
    pub(crate) fn block_of_inode(&self, number: InodeNo) -> BlockNo {
        self.geometry.locate_inode(number).map_or(BlockNo(0), |place| place.block)
    }

    fn with_cache<R>(&self, action: impl FnOnce(&mut Cache) -> R) -> R {
        without_filesystem_reclaim(|| {
            let mut cache = self.cache.lock();
            let result = action(&mut cache);
            self.cached_blocks.store(cache.len(), Ordering::Relaxed);
            result
        })
    }

    /// Blocks that could be dropped. May be asked in any allocation, this cache's own among them.
    pub(crate) fn cached_blocks(&self) -> usize {
        self.cached_blocks.load(Ordering::Relaxed)
    }

    /// Drops about `wanted` blocks.
    pub(crate) fn shrink(&self, wanted: usize) -> usize {
        self.with_cache(|cache| cache.shrink(wanted))
    }

    /// A block has been changed in the log, or freed: what is cached is stale.
    pub(crate) fn forget(&self, block: BlockNo) {
        self.with_cache(|cache| cache.forget(block));
    }

    /// A block has a new content at home: `content`, if there was memory to keep it.
    pub(crate) fn note_home_write(&self, block: BlockNo, content: Option<&Shared<Buffer>>) {
        self.with_cache(|cache| cache.note_home_write(block, content));
    }

    /// Whether a block is in the cache.
    pub(crate) fn is_cached(&self, block: BlockNo) -> bool {
        self.with_cache(|cache| cache.get(block).is_some())
    }

    /// A block from the cache, or from the device; it is not kept, nor verified.
    pub(crate) fn read_once(&self, block: BlockNo) -> Result<Shared<Buffer>> {
        if let Some(content) = self.with_cache(|cache| cache.get(block)) {
            return Ok(content);
        }
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        self.device.read(block, &mut bytes)?;
        Ok(Shared::try_new(bytes)?)
    }

    /// A block through the cache; `check` verifies it when it comes from the device.
    pub(crate) fn read_cached(
        &self,
        block: BlockNo,
        check: &mut dyn FnMut(&[u8]) -> Result,
    ) -> Result<Shared<Buffer>> {
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
            if self.with_cache(|cache| cache.offer(block, &content, epoch))? {
                return Ok(content);
            }
        }
    }

    /// Inode slots of `group` below this are initialised: as its header says, which is current while nothing is written.
    pub(crate) fn header_mark(&self, group: GroupNo) -> Result<u32> {
        without_filesystem_reclaim(|| {
            let mut marks = self.header_marks.lock();
            if let Some(mark) = marks.get(group) {
                return Ok(*mark);
            }
            let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
            self.device.read(self.geometry.header_of(group), &mut bytes)?;
            let mark = load::decode_header(&Kernel, &self.geometry, group, &bytes)?.table_mark;
            marks.insert(group, mark)?;
            Ok(mark)
        })
    }

    /// Headers are going to change: what they said is not to be believed any more.
    pub(crate) fn forget_header_marks(&self) {
        self.header_marks.lock().clear();
    }
}
