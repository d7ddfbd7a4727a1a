// SPDX-License-Identifier: GPL-2.0

//! The inline form: the entries of a small directory stand in the inode's area, one behind the other, in key order.

use super::entry::{Ascending, NamedEntry};
use super::{Place, Probe};
use crate::error::{Error, Result};
use crate::format::directory::KEY_WINDOW;
use crate::format::group::Geometry;
use crate::format::layout::move_within;
use crate::inode::Inode;
use crate::units::{BlockNo, DirectoryKey};

/// Shows the entries from key `from` on, each with its offset, until `visit` returns false. Returns where it stopped: the
/// offset of the entry that was refused, or the end.
fn walk<'a>(
    map: &'a [u8],
    from: u64,
    at: BlockNo,
    visit: &mut dyn FnMut(usize, &NamedEntry<'a>) -> Result<bool>,
) -> Result<usize> {
    let mut ascending = Ascending::new(0);
    let mut offset = 0_usize;
    // Every entry is longer than nothing, so this comes to an end.
    while offset < map.len() {
        let found = NamedEntry::read(map, offset, at)?;
        ascending.check(found.entry.key, at)?;
        if found.key() >= from && !visit(offset, &found)? {
            return Ok(offset);
        }
        offset = offset.saturating_add(found.size_bytes());
    }
    Ok(offset)
}

/// Looks for `name` in the window that begins at `hash`, and for the lowest key that is free there.
pub(super) fn probe(map: &[u8], hash: u64, name: &[u8], at: BlockNo) -> Result<Probe> {
    let mut found = None;
    let mut free = hash;
    // A new entry goes before the first one with a higher key.
    let mut free_offset = None;
    let end = hash.saturating_add(KEY_WINDOW);
    let stopped = walk(map, hash, at, &mut |offset, candidate| {
        if candidate.key() >= end {
            return Ok(false);
        }
        if candidate.name == name {
            found = Some((Place::Inline { offset }, candidate.entry));
            return Ok(false);
        }
        if candidate.key() == free {
            free = free.saturating_add(1);
        } else if free_offset.is_none() {
            free_offset = Some(offset);
        }
        Ok(true)
    })?;
    Ok(match found {
        Some((place, entry)) => Probe::Found { place, entry },
        None if free >= end => Probe::Full,
        None => {
            let place = Place::Inline { offset: free_offset.unwrap_or(stopped) };
            Probe::Free { place, key: DirectoryKey(free) }
        }
    })
}

/// Puts an entry before the one at `offset`. Returns false, and has done nothing, when the area has no room for it.
pub(super) fn insert(directory: &mut Inode, offset: usize, new: &NamedEntry<'_>) -> Result<bool> {
    let size = new.size_bytes();
    let old_end = directory.map().len();
    match directory.resize_map(old_end.saturating_add(size)) {
        Ok(()) => {}
        Err(Error::NoSpace) => return Ok(false),
        Err(error) => return Err(error),
    }
    let map = directory.map_mut();
    move_within(map, offset, old_end, offset.saturating_add(size))?;
    new.write(map, offset)?;
    directory.core.size_bytes = directory.map().len() as u64;
    Ok(true)
}

/// Takes out the entry at `offset`.
pub(super) fn remove(directory: &mut Inode, offset: usize, at: BlockNo) -> Result {
    let size = NamedEntry::read(directory.map(), offset, at)?.size_bytes();
    let map = directory.map_mut();
    let old_end = map.len();
    move_within(map, offset.saturating_add(size), old_end, offset)?;
    let left = old_end.saturating_sub(size);
    directory.resize_map(left)?;
    directory.core.size_bytes = left as u64;
    Ok(())
}

/// Shows the entries from key `from` on until `visit` returns false.
pub(super) fn each_from(
    map: &[u8],
    from: u64,
    at: BlockNo,
    visit: &mut dyn FnMut(&NamedEntry<'_>) -> Result<bool>,
) -> Result {
    walk(map, from, at, &mut |_, entry| visit(entry)).map(|_| ())
}

/// Checks every entry and their order.
pub(super) fn verify(map: &[u8], at: BlockNo, geometry: &Geometry) -> Result {
    walk(map, 0, at, &mut |_, entry| entry.check(geometry, at).map(|()| true)).map(|_| ())
}
