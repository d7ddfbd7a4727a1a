// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: entries in the inode's area first, then in one block of their own.
//!
//! An entry is a fixed part, the name without its namespace's prefix, and the value, padded with zero bytes to
//! 4. Entries of one inode are in no order; a name occurs once, in the area or in the block. The flag
//! [`EXTERNAL`] is reserved for values in an extent of their own (an incompatible feature); it is not in use.

use crate::format::block_header::BlockHeader;
use crate::format::layout::layout;
use crate::units::BLOCK_BYTES;

layout! {
    /// An entry's fixed part; name and value follow.
    pub struct AttributeHeader: 8 {
        /// A [`Namespace`].
        0 => namespace: u8,
        /// Bytes of the name, 1 to 255; 0 for the two ACLs, whose namespace is all their name.
        1 => name_bytes: u8,
        /// [`EXTERNAL`] or 0.
        2 => flags: u16,
        /// Bytes of the value.
        4 => value_bytes: u32,
    }
}

layout! {
    /// The header of a block of attributes, behind its block header.
    pub struct AttributesHeader: 8 {
        /// Entries.
        0 => count: u16,
        /// Bytes of all entries.
        2 => used_bytes: u16,
        /// Must be zero.
        4 => reserved: u32,
    }
}

/// Reserved: the value stands in an extent of its own.
pub const EXTERNAL: u16 = 1 << 0;
/// Entries are padded to this.
pub const ENTRY_ALIGNMENT: usize = 4;
/// Where a block's header stands.
pub const HEADER_OFFSET: usize = BlockHeader::SIZE;
/// Where a block's entries begin.
pub const ENTRIES_OFFSET: usize = HEADER_OFFSET + AttributesHeader::SIZE;
/// Bytes that the entries of a block share.
pub const BLOCK_ENTRY_BYTES: usize = BLOCK_BYTES - ENTRIES_OFFSET;

/// Whose attribute it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Namespace {
    /// `user.`
    User = 1,
    /// `trusted.`
    Trusted = 2,
    /// `security.`
    Security = 3,
    /// `system.`, but for the two below.
    System = 4,
    /// `system.posix_acl_access`
    AccessAcl = 5,
    /// `system.posix_acl_default`
    DefaultAcl = 6,
}

impl Namespace {
    /// The namespace with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::User,
            2 => Self::Trusted,
            3 => Self::Security,
            4 => Self::System,
            5 => Self::AccessAcl,
            6 => Self::DefaultAcl,
            _ => return None,
        })
    }

    /// What stands before the name, or is all of it.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::User => "user.",
            Self::Trusted => "trusted.",
            Self::Security => "security.",
            Self::System => "system.",
            Self::AccessAcl => "system.posix_acl_access",
            Self::DefaultAcl => "system.posix_acl_default",
        }
    }
}
