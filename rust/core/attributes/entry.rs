// SPDX-License-Identifier: GPL-2.0

//! One entry: its bytes, and walking over a row of them.
//!
//! A walk checks of each entry what keeps it inside its container and gives its fields a meaning, whether or not the
//! container was verified; each step goes forward by at least the fixed part, so it ends.

use crate::error::{corrupt, Check, Error, Result};
use crate::format::attribute::{AttributeHeader, Namespace, ENTRY_ALIGNMENT};
use crate::format::layout::copy_to;
use crate::units::{round_up, BlockNo};

/// The longest name, in bytes, without the prefix of its namespace.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// An attribute to be written.
pub(super) struct Attribute<'a> {
    pub(super) namespace: Namespace,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Attribute<'_> {
    /// Bytes of its entry, padding included.
    pub(super) fn entry_bytes(&self) -> usize {
        entry_bytes(self.name.len(), self.value.len())
    }

    /// Writes the entry, padding included, to `place`, which has exactly its length.
    pub(super) fn encode(&self, place: &mut [u8]) -> Result {
        if place.len() != self.entry_bytes() {
            return Err(Error::InvalidArgument);
        }
        let name_bytes = u8::try_from(self.name.len()).map_err(|_| Error::NameTooLong)?;
        let value_bytes = u32::try_from(self.value.len()).map_err(|_| Error::NoAttributeSpace)?;
        AttributeHeader { namespace: self.namespace as u8, name_bytes, flags: 0, value_bytes }
            .encode(place, 0)?;
        let (_, rest) = place.split_at_mut_checked(AttributeHeader::SIZE).ok_or(Error::InvalidArgument)?;
        let (name, rest) = rest.split_at_mut_checked(self.name.len()).ok_or(Error::InvalidArgument)?;
        let (value, padding) = rest.split_at_mut_checked(self.value.len()).ok_or(Error::InvalidArgument)?;
        copy_to(name, self.name)?;
        copy_to(value, self.value)?;
        padding.fill(0);
        Ok(())
    }
}

/// Bytes of an entry; saturates, and then fits nowhere.
fn entry_bytes(name_bytes: usize, value_bytes: usize) -> usize {
    let used = AttributeHeader::SIZE.saturating_add(name_bytes).saturating_add(value_bytes);
    round_up(used as u64, ENTRY_ALIGNMENT as u64) as usize
}

/// Whether a caller may use this name: its length suits its namespace, it has no zero byte, and it is not another spelling
/// of an ACL's.
pub(super) fn check_name(namespace: Namespace, name: &[u8]) -> Result {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    if is_name(namespace, name) {
        Ok(())
    } else {
        Err(Error::InvalidArgument)
    }
}

fn is_name(namespace: Namespace, name: &[u8]) -> bool {
    match namespace {
        Namespace::AccessAcl | Namespace::DefaultAcl => name.is_empty(),
        Namespace::System if matches!(name, b"posix_acl_access" | b"posix_acl_default") => false,
        _ => !name.is_empty() && !name.contains(&0),
    }
}

/// Where an entry stands among the bytes of all entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) bytes: usize,
}

impl Place {
    /// The entry's bytes.
    pub(super) fn of_mut(self, entries: &mut [u8]) -> Result<&mut [u8]> {
        let end = self.start.saturating_add(self.bytes);
        entries.get_mut(self.start..end).ok_or(Error::InvalidArgument)
    }

    /// Moves what is behind the entry over it, and fills with zeros what that leaves at the end.
    pub(super) fn cut_from(self, entries: &mut [u8]) -> Result {
        let rest = entries.get_mut(self.start..).ok_or(Error::InvalidArgument)?;
        let kept = rest.len().checked_sub(self.bytes).ok_or(Error::InvalidArgument)?;
        rest.copy_within(self.bytes.., 0);
        rest.get_mut(kept..).ok_or(Error::InvalidArgument)?.fill(0);
        Ok(())
    }
}

/// An entry in its container.
pub(super) struct Entry<'a> {
    pub(super) namespace: Namespace,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) padding: &'a [u8],
    pub(super) place: Place,
}

impl Entry<'_> {
    pub(super) fn is_named(&self, namespace: Namespace, name: &[u8]) -> bool {
        self.namespace == namespace && self.name == name
    }
}

/// A walk over the entries in `bytes`; it ends behind the first that is wrong. `at` is the block that complaints name.
pub(super) fn entries(bytes: &[u8], at: BlockNo) -> Entries<'_> {
    Entries { bytes, next: 0, at }
}

/// See [`entries`].
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
    next: usize,
    at: BlockNo,
}

impl<'a> Entries<'a> {
    fn decode(&self, rest: &'a [u8]) -> Result<Entry<'a>> {
        let out_of_bounds = |wanted: usize| {
            corrupt(Check::Bounds, self.at, self.bytes.len() as u64, self.next.saturating_add(wanted) as u64)
        };
        if rest.len() < AttributeHeader::SIZE {
            return out_of_bounds(AttributeHeader::SIZE);
        }
        let header = AttributeHeader::decode(rest, 0)?;
        let Some(namespace) = Namespace::from_number(header.namespace) else {
            return corrupt(
                Check::Attribute,
                self.at,
                Namespace::DefaultAcl as u64,
                u64::from(header.namespace),
            );
        };
        if header.flags != 0 {
            return corrupt(Check::Flags, self.at, 0, u64::from(header.flags));
        }
        let (name_bytes, value_bytes) = (usize::from(header.name_bytes), header.value_bytes as usize);
        let bytes = entry_bytes(name_bytes, value_bytes);
        let parts = rest.get(AttributeHeader::SIZE..bytes).and_then(|parts| {
            let (name, rest) = parts.split_at_checked(name_bytes)?;
            let (value, padding) = rest.split_at_checked(value_bytes)?;
            Some((name, value, padding))
        });
        let Some((name, value, padding)) = parts else {
            return out_of_bounds(bytes);
        };
        if !is_name(namespace, name) {
            return corrupt(Check::Name, self.at, u64::from(header.namespace), name_bytes as u64);
        }
        Ok(Entry { namespace, name, value, padding, place: Place { start: self.next, bytes } })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.next..).filter(|rest| !rest.is_empty())?;
        let entry = self.decode(rest);
        self.next = match &entry {
            Ok(entry) => self.next.saturating_add(entry.place.bytes),
            Err(_) => self.bytes.len(),
        };
        Some(entry)
    }
}
