// SPDX-License-Identifier: GPL-2.0

//! Directories: names to inodes.
//!
//! An entry's key is the hash of its name, or the lowest key behind it that is free when the name is made; a name is looked for
//! in the [`KEY_WINDOW`](crate::format::directory::KEY_WINDOW) keys from its hash on and in no others. The key stays with the
//! entry until it is removed, whatever form the directory takes: it is the position that readdir and NFS remember,
//! and entries come in its order.
//!
//! A small directory stands in its inode's area (`inline`). When that has no room for another entry, all move to a leaf
//! block, and the area holds the root of a tree (`tree`, `leaves`, `leaf`). An emptied leaf is freed at once, and with the last entry
//! the directory is inline again: so an empty directory has no blocks, and removing it frees none. It does not become
//! inline any sooner, so that creating and removing the same few names does not move it to and fro.
//! Leaves are not merged either; a directory that has lost most of its entries gives blocks back as they become empty.
//!
//! `size_bytes` is the length of the inline entries, or the bytes of all leaves. `.` and `..` have no entries.
//!
//! Nothing that was read is trusted. [`verify`] and [`verify_map`] check a block or an inline map in full, and are called
//! once, when it comes from the device; every use checks again what keeps it inside its bytes and finite.
//!
//! Locks: the directory's, for reading or writing (`blocks`). A crash leaves the directory before or after an
//! operation, since what a handle changes becomes durable as a whole. An operation that returns an error may have changed private
//! copies of blocks, and the inode, in part: the caller drops its handle and its copy of the inode. The errors that say
//! no, [`Error::Exists`], [`Error::NotFound`], [`Error::NameTooLong`] and [`Error::InvalidArgument`], are
//! found out before anything is changed.

mod entry;
pub mod hash;
mod inline;
mod leaf;
mod leaves;

#[cfg(test)]
mod tests;

pub use hash::HashKey;

use crate::blocks::{ChangeBlocks, ReadBlocks};
use crate::error::{Error, Result};
use crate::format::directory::KEY_LAST;
use crate::format::group::Geometry;
use crate::format::inode::MapKind;
use crate::format::tree::LEVEL_MAX;
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::tree::{self, place_of, Path};
use crate::units::{BlockNo, DirectoryKey, InodeNo};
use entry::{check_length, check_new, NamedEntry};
use hash::hash;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the directory.
    pub key: DirectoryKey,
    /// The inode.
    pub inode: InodeNo,
    /// Its type, as in `format::inode::file_type`.
    pub file_type: u8,
}

/// How many blocks an operation can touch at the most: for the journal's reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blocks that it changes, new ones included.
    pub changed: usize,
    /// New blocks among them.
    pub allocated: usize,
    /// Blocks that it frees; they are not counted as changed.
    pub freed: usize,
}

/// The most that [`insert`] touches in any directory: two leaves of a split, and what `tree::insert` does for it.
pub const INSERT_LIMITS_MAX: Limits =
    Limits { changed: 2 + tree::INSERT_CHANGED_MAX, allocated: 1 + tree::INSERT_ALLOCATED_MAX, freed: 0 };
/// The most that [`remove`] touches in any directory: the leaf is changed, or it is freed and `tree::remove` does the rest.
pub const REMOVE_LIMITS_MAX: Limits =
    Limits { changed: tree::REMOVE_CHANGED_MAX, allocated: 0, freed: 1 + tree::REMOVE_FREED_MAX };
/// The most that [`replace`] touches.
pub const REPLACE_LIMITS: Limits = Limits { changed: 1, allocated: 0, freed: 0 };

/// What one [`insert`] can touch in this directory as it is now. A leaf and all nodes above it may be split, and the root may
/// grow, by which the tree becomes a level higher; the inline form may become a leaf.
pub fn insert_limits(directory: &Inode) -> Limits {
    match inner_levels(directory) {
        None => Limits { changed: 1, allocated: 1, freed: 0 },
        Some(levels) => Limits {
            changed: levels.saturating_mul(2).saturating_add(3).min(INSERT_LIMITS_MAX.changed),
            allocated: levels.saturating_add(2).min(INSERT_LIMITS_MAX.allocated),
            freed: 0,
        },
    }
}

/// What one [`remove`] can touch in this directory as it is now: every node above an emptied leaf may be freed, and one more that is
/// pulled up into the root.
pub fn remove_limits(directory: &Inode) -> Limits {
    match inner_levels(directory) {
        None => Limits { changed: 0, allocated: 0, freed: 0 },
        Some(levels) => Limits { changed: 1, allocated: 0, freed: levels.saturating_add(2) },
    }
}

/// Levels of nodes between the root and the leaves; none for the inline form.
fn inner_levels(directory: &Inode) -> Option<usize> {
    match form(directory) {
        Ok(Form::Tree) => {
            let level = tree::root(directory).map_or(LEVEL_MAX, |root| root.level).min(LEVEL_MAX);
            Some(usize::from(level.saturating_sub(1)))
        }
        _ => None,
    }
}

/// Where the entries are.
enum Form {
    Inline,
    Tree,
}

fn form(directory: &Inode) -> Result<Form> {
    match directory.map_kind() {
        MapKind::InlineDirectory => Ok(Form::Inline),
        MapKind::DirectoryTree => Ok(Form::Tree),
        _ => Err(Error::NotADirectory),
    }
}

/// Where an entry stands or shall stand.
enum Place {
    /// At this offset of the map.
    Inline { offset: usize },
    /// In the leaf to which the path leads; `index` is that of an entry that is there.
    Leaf { index: usize },
}

/// What the search for a name has found.
enum Probe {
    /// The name.
    Found { place: Place, entry: Entry },
    /// Not the name, but the lowest key that it could have.
    Free { place: Place, key: DirectoryKey },
    /// Neither.
    Full,
}

/// Looks for a name. In a tree, `path` then leads to the leaf of what was found; it takes some 200 bytes of the stack, so it
/// is the caller's.
fn probe(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    hash: DirectoryKey,
    name: &[u8],
    path: &mut Path,
) -> Result<Probe> {
    match form(directory)? {
        Form::Inline => inline::probe(directory.map(), hash.0, name, place_of(blocks.geometry(), directory)),
        Form::Tree => leaves::probe(blocks, directory, hash.0, name, path),
    }
}

/// Looks a name up.
pub fn lookup(
    blocks: &dyn ReadBlocks,
    hash_key: &HashKey,
    directory: &Inode,
    name: &[u8],
) -> Result<Option<Entry>> {
    check_length(name)?;
    lookup_at(blocks, hash(hash_key, name), directory, name)
}

fn lookup_at(
    blocks: &dyn ReadBlocks,
    hash: DirectoryKey,
    directory: &Inode,
    name: &[u8],
) -> Result<Option<Entry>> {
    match probe(blocks, directory, hash, name, &mut Path::nowhere())? {
        Probe::Found { entry, .. } => Ok(Some(entry)),
        Probe::Free { .. } | Probe::Full => Ok(None),
    }
}

/// Makes a name for an inode; returns its key. [`Error::NoSpace`] when there is no block, or no key, for it.
pub fn insert(
    blocks: &mut dyn ChangeBlocks,
    hash_key: &HashKey,
    directory: &mut Inode,
    name: &[u8],
    inode: InodeNo,
    file_type: u8,
) -> Result<DirectoryKey> {
    check_new(blocks.geometry(), name, inode, file_type)?;
    insert_at(blocks, hash(hash_key, name), directory, name, inode, file_type)
}

fn insert_at(
    blocks: &mut dyn ChangeBlocks,
    hash: DirectoryKey,
    directory: &mut Inode,
    name: &[u8],
    inode: InodeNo,
    file_type: u8,
) -> Result<DirectoryKey> {
    let mut path = Path::nowhere();
    let (place, key) = match probe(blocks, directory, hash, name, &mut path)? {
        Probe::Found { .. } => return Err(Error::Exists),
        Probe::Full => return Err(Error::NoSpace),
        Probe::Free { place, key } => (place, key),
    };
    let new = NamedEntry { entry: Entry { key, inode, file_type }, name };
    match place {
        Place::Leaf { .. } => leaves::insert(blocks, directory, &mut path, &new)?,
        Place::Inline { offset } => {
            if !inline::insert(directory, offset, &new)? {
                leaves::outgrow(blocks, directory, &new)?;
            }
        }
    }
    Ok(key)
}

/// Removes a name; returns what it stood for.
pub fn remove(
    blocks: &mut dyn ChangeBlocks,
    hash_key: &HashKey,
    directory: &mut Inode,
    name: &[u8],
) -> Result<Entry> {
    check_length(name)?;
    remove_at(blocks, hash(hash_key, name), directory, name)
}

fn remove_at(
    blocks: &mut dyn ChangeBlocks,
    hash: DirectoryKey,
    directory: &mut Inode,
    name: &[u8],
) -> Result<Entry> {
    let mut path = Path::nowhere();
    let Probe::Found { place, entry } = probe(blocks, directory, hash, name, &mut path)? else {
        return Err(Error::NotFound);
    };
    match place {
        Place::Inline { offset } => {
            inline::remove(directory, offset, place_of(blocks.geometry(), directory))?;
        }
        Place::Leaf { index } => leaves::remove(blocks, directory, &path, index)?,
    }
    Ok(entry)
}

/// Points a name at another inode; the key stays. Returns what it stood for before.
pub fn replace(
    blocks: &mut dyn ChangeBlocks,
    hash_key: &HashKey,
    directory: &mut Inode,
    name: &[u8],
    inode: InodeNo,
    file_type: u8,
) -> Result<Entry> {
    check_new(blocks.geometry(), name, inode, file_type)?;
    replace_at(blocks, hash(hash_key, name), directory, name, inode, file_type)
}

fn replace_at(
    blocks: &mut dyn ChangeBlocks,
    hash: DirectoryKey,
    directory: &mut Inode,
    name: &[u8],
    inode: InodeNo,
    file_type: u8,
) -> Result<Entry> {
    let mut path = Path::nowhere();
    let Probe::Found { place, entry } = probe(blocks, directory, hash, name, &mut path)? else {
        return Err(Error::NotFound);
    };
    match place {
        Place::Inline { offset } => entry::point(directory.map_mut(), offset, inode, file_type)?,
        Place::Leaf { index } => leaves::replace(blocks, directory, &path, index, inode, file_type)?,
    }
    Ok(entry)
}

/// Whether it has no entries. One that has blocks has some: a directory without is inline.
pub fn is_empty(directory: &Inode) -> Result<bool> {
    match form(directory)? {
        Form::Inline => Ok(directory.map().is_empty()),
        Form::Tree => Ok(false),
    }
}

/// Takes an entry's key, inode, type and name; returns whether it wants the next one.
pub type EntryVisitor<'a> = dyn FnMut(DirectoryKey, InodeNo, u8, &[u8]) -> Result<bool> + 'a;

/// Shows the entries from `key` on, in the order of their keys, until `visit` returns false.
///
/// To go on later, call it with the key behind the last one that was shown. Entries that stay are then shown exactly once, whatever is
/// inserted or removed in between.
pub fn read_from(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    key: DirectoryKey,
    visit: &mut EntryVisitor<'_>,
) -> Result {
    let form = form(directory)?;
    if key > KEY_LAST {
        return Ok(());
    }
    let show = &mut |named: &NamedEntry<'_>| {
        let Entry { key, inode, file_type } = named.entry;
        visit(key, inode, file_type, named.name)
    };
    match form {
        Form::Inline => {
            inline::each_from(directory.map(), key.0, place_of(blocks.geometry(), directory), show)
        }
        Form::Tree => leaves::each_from(blocks, directory, key.0, show),
    }
}

/// Checks the whole directory, and shows each of its blocks with its level, parents first. The first contradiction ends it.
///
/// Whether names have the keys that they hash to, and only once, it does not see: for that, whoever reads all entries asks
/// [`hash::is_in_window`] and whether [`lookup`] finds the same key.
pub fn visit_blocks(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    visit: &mut dyn FnMut(BlockKind, BlockNo, u16) -> Result,
) -> Result {
    match form(directory)? {
        Form::Inline => verify_map(blocks.geometry(), directory),
        Form::Tree => leaves::visit_blocks(blocks, directory, visit),
    }
}

/// Verifies a block of a directory's tree that was just read from the device, behind its block header.
pub fn verify(kind: BlockKind, bytes: &[u8], block: BlockNo, geometry: &Geometry) -> Result {
    match kind {
        BlockKind::DirectoryNode => tree::node::verify(bytes, block, geometry),
        BlockKind::DirectoryLeaf => leaf::verify(bytes, block, geometry),
        _ => Err(Error::InvalidArgument),
    }
}

/// Verifies what stands in a directory's inode, inline entries or root, when the inode was just read.
pub fn verify_map(geometry: &Geometry, directory: &Inode) -> Result {
    let at = place_of(geometry, directory);
    match form(directory)? {
        Form::Inline => inline::verify(directory.map(), at, geometry),
        Form::Tree => tree::node::verify_root(directory.map(), at, geometry),
    }
}
