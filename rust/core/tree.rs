// SPDX-License-Identifier: GPL-2.0

//! Inner nodes: what extent trees and directory trees have in common.
//!
//! A tree maps ranges of 64-bit keys to leaves. Its root stands in the inode's area and grows into a block when the area
//! has no room for another entry; the blocks below are inner nodes down to level 1, whose children are the leaves. What a
//! leaf holds is its tree's own affair.
//!
//! [`Path::seek`] walks down from the root and remembers the way; [`insert`] adds a leaf behind the path's, splitting
//! full nodes upwards; [`remove`] takes the path's leaf out, freeing emptied nodes. Nodes are not merged: an emptied
//! one is freed, a single child of the root is pulled up when it has become small. A level is only added when the
//! uppermost block is full, and a split leaves half of the entries on either side (but at the right edge, where the
//! new node fills up by itself); so each level needs a hundred times the splits of the one below, whatever is removed in
//! between, and [`LEVEL_MAX`] is out of reach.
//!
//! A removal leaves keys as they are, so a node's first key may lie above its lower bound. A key in between is looked for
//! below the first child, and before a leaf takes such a key, [`admit`] lowers the keys on the way to it.
//!
//! Nothing that was read is trusted. `node::verify` looks at a whole node once, when it comes from the device. Every walk
//! checks again, at little cost, what keeps it finite and inside its bytes: levels fall by one; counts fit;
//! a node's keys lie between those of its parent, so that no block can stand in two places of one tree.
//!
//! Locks: the inode's, as for all of its blocks (`blocks`). Changes go to private copies: after an error some of them,
//! and the inode, may be half changed, and the caller drops its handle and its copy of the inode.

mod change;
pub mod node;
mod visit;

#[cfg(test)]
mod tests;

pub use change::{admit, allocate, free, insert, remove, set_root};
pub use visit::{visit, BlockVisitor};

use crate::blocks::ReadBlocks;
use crate::error::{corrupt, Check, Result};
use crate::format::group::Geometry;
use crate::format::tree::{NodeEntry, TreeHeader, HEADER_OFFSET, LEVEL_MAX};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::units::BlockNo;

/// The bound behind all keys; no entry has it.
pub const KEY_END: u64 = u64::MAX;
/// The smallest root. Attributes must leave this much of the area of every inode whose map can be a tree, or the tree
/// would have nowhere to stand.
pub const ROOT_BYTES_MIN: usize = TreeHeader::SIZE + NodeEntry::SIZE;
/// The most blocks that [`insert`] allocates. On each level below the root a node is split; a root that grows adds one
/// block, but stands a level lower then.
pub const INSERT_ALLOCATED_MAX: usize = LEVEL_MAX as usize - 1;
/// The most blocks that [`insert`] changes, new ones included: both halves of each node that is split.
pub const INSERT_CHANGED_MAX: usize = 2 * INSERT_ALLOCATED_MAX;
/// The most blocks that [`admit`] changes; all are among those that an [`insert`] with the same path may change.
pub const ADMIT_CHANGED_MAX: usize = LEVEL_MAX as usize - 1;
/// The most blocks that [`remove`] frees: the nodes above the leaf, and one that is pulled up into the root.
pub const REMOVE_FREED_MAX: usize = LEVEL_MAX as usize;
/// The most blocks that [`remove`] changes and does not free: the one below which others were freed.
pub const REMOVE_CHANGED_MAX: usize = 1;

/// The kinds of a tree's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Inner nodes.
    pub node: BlockKind,
    /// Leaves.
    pub leaf: BlockKind,
}

/// The extent tree of a file.
pub const EXTENTS: Kinds = Kinds { node: BlockKind::ExtentTree, leaf: BlockKind::ExtentTree };
/// The tree of a directory.
pub const DIRECTORY: Kinds = Kinds { node: BlockKind::DirectoryNode, leaf: BlockKind::DirectoryLeaf };

/// One node of a path.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The node's block; unused for the root.
    block: BlockNo,
    /// The entry that was followed.
    index: u16,
    /// Entries of the node.
    count: u16,
}

/// The way from the root to the one leaf in which a key can stand. It is out of date as soon as the tree is changed.
#[derive(Debug)]
pub struct Path {
    key: u64,
    low: u64,
    end: u64,
    /// The keys from here on lead to the leaf, those just below to the one before it; 0 for the first leaf.
    start: u64,
    child: BlockNo,
    root_level: u16,
    /// The step of level n is at n - 1.
    steps: [Step; LEVEL_MAX as usize],
}

impl Path {
    /// A path that leads nowhere, for [`Path::seek`], which fills it in its place: it takes some 200 bytes of the stack, and a
    /// function that returned one would need them twice.
    pub const fn nowhere() -> Self {
        const NOWHERE: Step = Step { block: BlockNo(0), index: 0, count: 0 };
        Self {
            key: 0,
            low: 0,
            end: 0,
            start: 0,
            child: BlockNo(0),
            root_level: 0,
            steps: [NOWHERE; LEVEL_MAX as usize],
        }
    }

    /// The leaf's block.
    pub const fn leaf(&self) -> BlockNo {
        self.child
    }

    /// The key that was looked for.
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// No key in the leaf is less. The key that was looked for may be: then the leaf does not hold it, and must not take
    /// it before [`admit`].
    pub const fn low(&self) -> u64 {
        self.low
    }

    /// All keys in the leaf are less, and so is the key that was looked for; the next leaf begins here.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// A key of the leaf before this one, for [`Path::seek`]; `None` when this is the tree's first leaf. ([`Path::low`] less one would
    /// not do: where leaves were removed, that key may still lead to this leaf.)
    pub const fn previous(&self) -> Option<u64> {
        self.start.checked_sub(1)
    }

    /// Whether it is the tree's last leaf.
    pub const fn is_last(&self) -> bool {
        self.end == KEY_END
    }

    /// The root's height above the leaves; 1 when its children are leaves.
    pub const fn root_level(&self) -> u16 {
        self.root_level
    }

    /// Becomes the way to the leaf in which `key` can stand. `key` must be less than [`KEY_END`], and the root an inner node.
    /// After an error it leads nowhere.
    #[inline(never)] // For the stack: who seeks goes on to read and change blocks, deep below.
    pub fn seek(&mut self, blocks: &dyn ReadBlocks, kinds: Kinds, inode: &Inode, key: u64) -> Result {
        let geometry = blocks.geometry();
        let at = place_of(geometry, inode);
        let root_level = node::check_root(inode.map(), at)?;
        (self.key, self.low, self.end, self.start) = (key, 0, KEY_END, 0);
        (self.child, self.root_level) = (BlockNo(0), root_level);
        self.follow(inode.map(), root_level, at, geometry)?;
        for level in (1..root_level).rev() {
            let block = self.child;
            let bytes = blocks.read(kinds.node, inode.number(), block)?;
            self.follow(bytes.get(HEADER_OFFSET..).unwrap_or(&[]), level, block, geometry)?;
        }
        Ok(())
    }

    fn step(&self, level: u16) -> Option<&Step> {
        self.steps.get(usize::from(level.checked_sub(1)?))
    }

    fn step_mut(&mut self, level: u16) -> Option<&mut Step> {
        self.steps.get_mut(usize::from(level.checked_sub(1)?))
    }

    /// Follows the key through one node. `at` is where the node was read from.
    #[inline(never)] // For the stack: `seek` needs it twice.
    fn follow(&mut self, node: &[u8], level: u16, at: BlockNo, geometry: &Geometry) -> Result {
        let count = node::count(node, level, at)?;
        let first = node::entry(node, 0)?.key;
        if first < self.low || first >= self.end {
            return corrupt(Check::Key, at, self.low, first);
        }
        let index = node::search(node, count, self.key);
        let entry = node::entry(node, index)?;
        if entry.key < self.low {
            return corrupt(Check::Order, at, self.low, entry.key);
        }
        let next = index.saturating_add(1);
        let end = if next < count { node::entry(node, next)?.key } else { self.end };
        if end <= entry.key || end <= self.key || end > self.end {
            return corrupt(Check::Order, at, self.end, end);
        }
        if !geometry.is_data_run(entry.child, 1) {
            return corrupt(Check::BlockRange, at, geometry.device_blocks, entry.child.0);
        }
        let step = Step { block: self.child, index: index as u16, count: count as u16 };
        if let Some(place) = self.step_mut(level) {
            *place = step;
        }
        (self.low, self.end, self.child) = (entry.key, end, entry.child);
        if index > 0 {
            self.start = entry.key;
        }
        Ok(())
    }
}

/// Where an inode stands, which is what messages name for what is wrong with its root.
pub fn place_of(geometry: &Geometry, inode: &Inode) -> BlockNo {
    geometry.locate_inode(inode.number()).map_or(BlockNo(0), |place| place.block)
}

/// The header of a root, with inner nodes' entries behind it (level 1 and higher) or, in an extent tree, extents (level 0).
pub fn root(inode: &Inode) -> Result<TreeHeader> {
    TreeHeader::decode(inode.map(), 0)
}

/// A path that [`Path::seek`] has found.
#[cfg(test)]
pub(crate) fn find(blocks: &dyn ReadBlocks, kinds: Kinds, inode: &Inode, key: u64) -> Result<Path> {
    let mut path = Path::nowhere();
    path.seek(blocks, kinds, inode, key)?;
    Ok(path)
}
