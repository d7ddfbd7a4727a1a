// SPDX-License-Identifier: GPL-2.0

//! The orphan index: what is allocated but not reachable, so that recovery can finish its removal.
//!
//! A reserved inode, whose blocks are arrays of slots. A slot is written in the transaction that makes the orphan
//! (the last link goes, a truncate begins) and cleared in the one that ends it; recovery reads the index and nothing else.

use crate::format::block_header::BlockHeader;
use crate::format::layout::layout;
use crate::units::{InodeNo, BLOCK_BYTES};

layout! {
    /// A slot; all zero: empty.
    pub struct Slot: 16 {
        /// The inode.
        0 => inode: InodeNo,
        /// An [`OrphanKind`].
        8 => kind: u8,
        /// A [`Cause`].
        9 => cause: u8,
        /// Must be zero.
        10 => reserved: [u8; 6],
    }
}

/// Where a block's slots begin.
pub const SLOTS_OFFSET: usize = BlockHeader::SIZE;
/// Slots in a block.
pub const SLOTS_PER_BLOCK: u32 = ((BLOCK_BYTES - SLOTS_OFFSET) / Slot::SIZE) as u32;
/// The most blocks that a new index has.
pub const NEW_INDEX_BLOCKS_MAX: u64 = 16;

/// What has to be done with an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OrphanKind {
    /// An inode without links: free its blocks, then its number.
    Inode = 1,
    /// An inode being shortened: free what lies behind its size.
    Truncate = 2,
}

impl OrphanKind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Inode),
            2 => Some(Self::Truncate),
            _ => None,
        }
    }
}

/// How it became one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cause {
    /// Its last name was removed.
    Unlink = 1,
    /// A rename replaced its last name.
    Replace = 2,
    /// It was made without a name.
    Temporary = 3,
    /// A truncate too large for one transaction.
    Truncate = 4,
    /// A check found it.
    Check = 5,
}

impl Cause {
    /// The cause with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Unlink,
            2 => Self::Replace,
            3 => Self::Temporary,
            4 => Self::Truncate,
            5 => Self::Check,
            _ => return None,
        })
    }
}
