// SPDX-License-Identifier: GPL-2.0

//! Blocks in a plain map, for tests of the trees: allocates from a counter, remembers what was freed.

use super::{BlockGuard, ChangeBlocks, ReadBlocks};
use crate::error::{corrupt, Check, Error, Result};
use crate::format::block_header::BlockHeader;
use crate::format::group::Geometry;
use crate::format::{BlockKind, Stamp};
use crate::units::{BlockNo, BlockRun, InodeNo, BLOCK_BYTES};
use std::collections::{BTreeMap, BTreeSet};

/// A device of 1 TiB with 1 GiB groups that holds nothing but what a test puts there.
pub(crate) fn geometry() -> Geometry {
    Geometry {
        filesystem_id: 0x1234,
        device_blocks: 1 << 28,
        first_group_block: BlockNo(4096),
        group_blocks: 1 << 18,
        group_count: 1023,
        inodes_per_group: 65536,
        journal_start: BlockNo(2),
        journal_blocks: 4000,
        physical_block_bytes: 512,
    }
}

/// The map.
pub(crate) struct MapBlocks {
    geometry: Geometry,
    /// Present content by number.
    pub(crate) blocks: BTreeMap<BlockNo, Vec<u8>>,
    /// Metadata blocks that were freed.
    pub(crate) freed: BTreeSet<BlockNo>,
    /// Data runs that were freed.
    pub(crate) freed_data: Vec<BlockRun>,
    /// Blocks that may still be allocated.
    pub(crate) budget: usize,
    next: BlockNo,
}

impl MapBlocks {
    pub(crate) fn new() -> Self {
        let geometry = geometry();
        let next = BlockNo(geometry.first_group_block.0 + u64::from(geometry.metadata_blocks()));
        Self {
            geometry,
            blocks: BTreeMap::new(),
            freed: BTreeSet::new(),
            freed_data: Vec::new(),
            budget: usize::MAX,
            next,
        }
    }

    fn stamp(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Stamp {
        Stamp { kind, block, owner: owner.0, filesystem_id: self.geometry.filesystem_id }
    }
}

impl ReadBlocks for MapBlocks {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        let Some(bytes) = self.blocks.get(&block) else {
            return corrupt(Check::Magic, block, 1, 0);
        };
        self.stamp(kind, owner, block).check(&BlockHeader::decode(bytes, 0)?)?;
        Ok(BlockGuard::Private(bytes))
    }
}

impl ChangeBlocks for MapBlocks {
    fn change(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<&mut [u8]> {
        self.read(kind, owner, block)?;
        self.blocks.get_mut(&block).map(Vec::as_mut_slice).ok_or(Error::InvalidArgument)
    }

    fn allocate(&mut self, kind: BlockKind, owner: InodeNo, _goal: BlockNo) -> Result<BlockNo> {
        self.budget = self.budget.checked_sub(1).ok_or(Error::NoSpace)?;
        let block = self.next;
        self.next = block.next();
        let mut bytes = vec![0; BLOCK_BYTES];
        self.stamp(kind, owner, block).begin(&mut bytes)?;
        self.blocks.insert(block, bytes);
        Ok(block)
    }

    fn free(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result {
        self.read(kind, owner, block)?;
        self.blocks.remove(&block);
        assert!(self.freed.insert(block), "block {block} freed twice");
        Ok(())
    }

    fn free_data(&mut self, run: BlockRun) -> Result {
        assert!(self.freed_data.iter().all(|freed| !freed.overlaps(&run)), "{run:?} freed twice");
        self.freed_data.push(run);
        Ok(())
    }
}
