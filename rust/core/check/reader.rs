// SPDX-License-Identifier: GPL-2.0

//! Reading metadata blocks for the checker: verified when they come from the device, and kept for a while, since walks down a tree
//! come by the same nodes again and again.

use super::Subject;
use crate::blocks::{BlockGuard, ReadBlocks};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::format::group::Geometry;
use crate::format::{BlockKind, Stamp};
use crate::memory::{Buffer, Shared};
use crate::units::{BlockNo, InodeNo, BLOCK_BYTES};
use crate::verify;
use core::cell::RefCell;

/// Blocks that are kept: 8 MiB.
const CACHED_MAX: usize = 2048;

/// The blocks of a filesystem that nobody changes.
pub(super) struct Reader<'a> {
    subject: Subject<'a>,
    cache: RefCell<Cache>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(subject: &Subject<'a>) -> Self {
        Self { subject: *subject, cache: RefCell::new(Cache::new()) }
    }

    /// A block as it is on the device.
    pub(super) fn read_raw(&self, block: BlockNo) -> Result<Buffer> {
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        self.subject.device.read(block, &mut bytes)?;
        Ok(bytes)
    }

    fn cached(&self, block: BlockNo) -> Result<Option<Shared<Buffer>>> {
        Ok(self.cache.try_borrow_mut().map_err(|_| Error::ShutDown)?.get(block))
    }

    fn keep(&self, block: BlockNo, content: &Shared<Buffer>) -> Result {
        let mut cache = self.cache.try_borrow_mut().map_err(|_| Error::ShutDown)?;
        if cache.len() >= CACHED_MAX {
            cache.shrink(CACHED_MAX / 2);
        }
        let epoch = cache.epoch(block);
        cache.offer(block, content, epoch)?;
        Ok(())
    }
}

impl ReadBlocks for Reader<'_> {
    fn geometry(&self) -> &Geometry {
        self.subject.geometry
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let Subject { platform, geometry, .. } = self.subject;
        let stamp = Stamp { kind, block, owner: owner.0, filesystem_id: geometry.filesystem_id };
        if let Some(content) = self.cached(block)? {
            // It was verified as what it says it is, and must be what is looked for.
            verify::cached(&stamp, &content)?;
            return Ok(BlockGuard::Cached(content));
        }
        let bytes = self.read_raw(block)?;
        verify::block(platform, geometry, &stamp, &bytes)?;
        let content = Shared::try_new(bytes)?;
        self.keep(block, &content)?;
        Ok(BlockGuard::Cached(content))
    }
}
