// SPDX-License-Identifier: GPL-2.0

//! One entry: reading, writing and checking its bytes, which are the same inline and in a leaf.

use super::Entry;
use crate::error::{corrupt, Check, Error, Result};
use crate::format::directory::{EntryHeader, KEY_FIRST, KEY_LAST};
use crate::format::group::Geometry;
use crate::format::inode::{self, NAME_BYTES_MAX};
use crate::format::layout::copy_to;
use crate::units::{BlockNo, DirectoryKey, InodeNo};

/// An entry and its name, where they are.
#[derive(Clone, Copy)]
pub(super) struct NamedEntry<'a> {
    pub(super) entry: Entry,
    pub(super) name: &'a [u8],
}

impl<'a> NamedEntry<'a> {
    /// Reads the entry at `offset`, which must lie within `bytes`. `at` is the block they came from.
    pub(super) fn read(bytes: &'a [u8], offset: usize, at: BlockNo) -> Result<Self> {
        let Ok(header) = EntryHeader::decode(bytes, offset) else {
            return corrupt(Check::Bounds, at, bytes.len() as u64, offset as u64);
        };
        let name_offset = offset.saturating_add(EntryHeader::SIZE);
        let name_end = name_offset.saturating_add(usize::from(header.name_bytes));
        let Some(name) = bytes.get(name_offset..name_end) else {
            return corrupt(Check::Bounds, at, bytes.len() as u64, name_end as u64);
        };
        if name.is_empty() {
            return corrupt(Check::Name, at, 1, 0);
        }
        let entry = Entry { key: header.key, inode: header.inode, file_type: header.file_type };
        Ok(Self { entry, name })
    }

    /// Writes it to `offset`.
    pub(super) fn write(&self, bytes: &mut [u8], offset: usize) -> Result {
        let Entry { key, inode, file_type } = self.entry;
        let name_bytes = u8::try_from(self.name.len()).map_err(|_| Error::NameTooLong)?;
        EntryHeader { key, inode, file_type, name_bytes }.encode(bytes, offset)?;
        let start = offset.saturating_add(EntryHeader::SIZE);
        let place = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..self.name.len()));
        copy_to(place.ok_or(Error::InvalidArgument)?, self.name)?;
        Ok(())
    }

    /// Bytes it takes, without a slot.
    pub(super) const fn size_bytes(&self) -> usize {
        EntryHeader::SIZE.saturating_add(self.name.len())
    }

    /// Its key as trees have it.
    pub(super) const fn key(&self) -> u64 {
        self.entry.key.0
    }

    /// Checks all that can be seen in the entry itself.
    pub(super) fn check(&self, geometry: &Geometry, at: BlockNo) -> Result {
        let Entry { key, inode, file_type } = self.entry;
        if key < KEY_FIRST || key > KEY_LAST {
            return corrupt(Check::Key, at, KEY_LAST.0, key.0);
        }
        if !is_entry_inode(geometry, inode) {
            return corrupt(Check::InodeRange, at, geometry.inode_count(), inode.0);
        }
        if !is_file_type(file_type) {
            return corrupt(Check::FileType, at, 0, u64::from(file_type));
        }
        if !is_name(self.name) {
            return corrupt(Check::Name, at, 0, self.name.len() as u64);
        }
        Ok(())
    }
}

/// Points the entry at `offset` at another inode.
pub(super) fn point(bytes: &mut [u8], offset: usize, inode: InodeNo, file_type: u8) -> Result {
    let header = EntryHeader::decode(bytes, offset)?;
    EntryHeader { inode, file_type, ..header }.encode(bytes, offset)
}

/// What a new entry must be before it is written; the mistakes are the caller's.
pub(super) fn check_new(geometry: &Geometry, name: &[u8], inode: InodeNo, file_type: u8) -> Result {
    check_length(name)?;
    if !is_name(name) || !is_file_type(file_type) || !is_entry_inode(geometry, inode) {
        return Err(Error::InvalidArgument);
    }
    Ok(())
}

/// Refuses a name that no entry can have for its length.
pub(super) fn check_length(name: &[u8]) -> Result {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    Ok(())
}

/// Whether `name` can be that of an entry: `.` and `..` have none.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

fn is_file_type(file_type: u8) -> bool {
    inode::file_type(u16::from(file_type) << 12) == Some(file_type)
}

/// Whether a name may stand for `inode`: nothing names the root or the orphan index.
fn is_entry_inode(geometry: &Geometry, inode: InodeNo) -> bool {
    inode > inode::ROOT && inode.0 < geometry.inode_count()
}

/// Keys of successive entries, which must rise.
pub(super) struct Ascending {
    lowest: u64,
}

impl Ascending {
    pub(super) const fn new(lowest: u64) -> Self {
        Self { lowest }
    }

    pub(super) fn check(&mut self, key: DirectoryKey, at: BlockNo) -> Result {
        if key.0 < self.lowest {
            return corrupt(Check::Order, at, self.lowest, key.0);
        }
        self.lowest = key.0.saturating_add(1);
        Ok(())
    }
}
