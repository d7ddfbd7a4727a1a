// SPDX-License-Identifier: GPL-2.0

//! What extent trees and directory trees share: the header of a node and the entries of inner nodes.
//!
//! A root stands in the inode's area and has no block header; all other nodes are blocks with one. An inner node
//! holds (key, child) pairs in ascending order: all keys below child n are at least key n and less than
//! key n + 1. (The first key of a level's leftmost node is a lower bound and need not occur.)

use crate::format::block_header::BlockHeader;
use crate::format::inode::AREA_BYTES;
use crate::format::layout::layout;
use crate::units::{BlockNo, BLOCK_BYTES};

layout! {
    /// The header of a node, in front of its entries.
    pub struct TreeHeader: 8 {
        /// Height above the leaves, which are level 0.
        0 => level: u16,
        /// Entries.
        2 => count: u16,
        /// Must be zero.
        4 => reserved: u32,
    }
}

layout! {
    /// An entry of an inner node.
    pub struct NodeEntry: 16 {
        /// The lowest key below the child.
        0 => key: u64,
        /// The child's block.
        8 => child: BlockNo,
    }
}

/// No tree is higher: 2^51 file blocks in leaves of one extent each, 252 children a node, end below level 8.
pub const LEVEL_MAX: u16 = 7;

/// Where a node's header stands in its block.
pub const HEADER_OFFSET: usize = BlockHeader::SIZE;
/// Where a node's entries begin in its block.
pub const ENTRIES_OFFSET: usize = HEADER_OFFSET + TreeHeader::SIZE;
/// Inner entries that a block holds.
pub const BLOCK_NODE_ENTRIES: usize = (BLOCK_BYTES - ENTRIES_OFFSET) / NodeEntry::SIZE;
/// Inner entries that an inode's whole area holds.
pub const ROOT_NODE_ENTRIES: usize = (AREA_BYTES - TreeHeader::SIZE) / NodeEntry::SIZE;
