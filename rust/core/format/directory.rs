// SPDX-License-Identifier: GPL-2.0

//! Directory entries: inline in the inode, or in the leaves of a tree by key.
//!
//! An entry is a fixed part and the name. A small directory keeps its entries in the inode's area one behind the other,
//! in key order. A leaf keeps them in a heap that grows upwards from the leaf's header, in order of their making, and an
//! array of 2-byte slots that grows downwards from the end of the block: slot 0 is the last two bytes. Slots are in key
//! order and hold the entries' offsets; so an insertion appends an entry and moves slots only. Removed
//! entries leave holes in the heap until the leaf is packed.

use crate::format::block_header::BlockHeader;
use crate::format::inode::NAME_BYTES_MAX;
use crate::format::layout::layout;
use crate::units::{DirectoryKey, InodeNo, BLOCK_BYTES};

layout! {
    /// An entry's fixed part; the name follows.
    pub struct EntryHeader: 18 {
        /// The key: hash of the name, or one of the next free ones.
        0 => key: DirectoryKey,
        /// The inode.
        8 => inode: InodeNo,
        /// Its type, as in `inode::file_type`.
        16 => file_type: u8,
        /// Bytes of the name, 1 to 255.
        17 => name_bytes: u8,
    }
}

layout! {
    /// The header of a leaf, behind its block header.
    pub struct LeafHeader: 8 {
        /// Entries, and so slots.
        0 => count: u16,
        /// Where the heap ends: the offset in the block of the next entry.
        2 => heap_end: u16,
        /// Bytes of the entries in use; the rest of the heap is holes.
        4 => live_bytes: u16,
        /// Must be zero.
        6 => reserved: u16,
    }
}

/// Where a leaf's header stands in its block.
pub const LEAF_HEADER_OFFSET: usize = BlockHeader::SIZE;
/// Where a leaf's heap begins.
pub const HEAP_OFFSET: usize = LEAF_HEADER_OFFSET + LeafHeader::SIZE;
/// Bytes of a slot.
pub const SLOT_BYTES: usize = 2;
/// Bytes of the longest entry.
pub const ENTRY_BYTES_MAX: usize = EntryHeader::SIZE + NAME_BYTES_MAX;
/// Bytes that the entries and slots of a leaf share.
pub const LEAF_BYTES: usize = BLOCK_BYTES - HEAP_OFFSET;

/// Keys 0, 1 and 2 stand for `.`, `..` and the beginning of all others, as readdir positions.
pub const KEY_FIRST: DirectoryKey = DirectoryKey(3);
/// The largest key; the position behind it is the end of the directory.
pub const KEY_LAST: DirectoryKey = DirectoryKey((1 << 63) - 2);
/// How many keys from its hash on may hold a name: a name is looked for in no others, so a directory in
/// which all are taken refuses the name. With a keyed hash of 63 bits nobody will see that happen.
pub const KEY_WINDOW: u64 = 64;
/// The largest hash, so that the whole window of every name lies within the keys.
pub const HASH_LAST: DirectoryKey = DirectoryKey(KEY_LAST.0 - KEY_WINDOW + 1);

// A leaf must hold at least two of the longest entries, or it could not be split.
const _: () = assert!(2 * (ENTRY_BYTES_MAX + SLOT_BYTES) <= LEAF_BYTES);
