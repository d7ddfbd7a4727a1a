// SPDX-License-Identifier: GPL-2.0

//! The tree form: entries in leaves, found through the inner nodes of `tree`.

use super::entry::{Ascending, NamedEntry};
use super::leaf::{self, Leaf};
use super::{inline, Entry, Place, Probe};
use crate::blocks::{ChangeBlocks, ReadBlocks};
use crate::error::{corrupt, Check, Result};
use crate::format::directory::KEY_WINDOW;
use crate::format::inode::MapKind;
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::memory::Buffer;
use crate::tree::{self, place_of, Path, DIRECTORY};
use crate::units::{BlockNo, DirectoryKey, InodeNo, BLOCK_BYTES};

/// Bytes of a leaf, as the directory's size counts them.
const LEAF_SIZE: u64 = BLOCK_BYTES as u64;

/// Looks for `name` in the window that begins at `hash`, and for the lowest key that is free there.
///
/// The window lies in one leaf nearly always; when it does not, it is followed into the next ones.
pub(super) fn probe(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    hash: u64,
    name: &[u8],
    path: &mut Path,
) -> Result<Probe> {
    let end = hash.saturating_add(KEY_WINDOW);
    let mut free = hash;
    path.seek(blocks, DIRECTORY, directory, hash)?;
    loop {
        if let Some((index, entry)) = probe_leaf(blocks, directory, path, end, name, &mut free)? {
            return Ok(Probe::Found { place: Place::Leaf { index }, entry });
        }
        if path.end() >= end {
            break;
        }
        path.seek(blocks, DIRECTORY, directory, path.end())?;
    }
    if free >= end {
        return Ok(Probe::Full);
    }
    if free < path.key() {
        path.seek(blocks, DIRECTORY, directory, free)?;
    }
    Ok(Probe::Free { place: Place::Leaf { index: 0 }, key: DirectoryKey(free) })
}

/// Looks through one leaf's part of the window; moves `free` past the keys that are taken there.
fn probe_leaf(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    path: &Path,
    end: u64,
    name: &[u8],
    free: &mut u64,
) -> Result<Option<(usize, Entry)>> {
    let bytes = blocks.read(DIRECTORY.leaf, directory.number(), path.leaf())?;
    let leaf = Leaf::open_between(&bytes, path.leaf(), path.low(), path.end())?;
    for index in leaf.lower_bound(path.key())?..leaf.count() {
        let candidate = leaf.entry(index)?;
        if candidate.key() >= end {
            break;
        }
        if candidate.name == name {
            return Ok(Some((index, candidate.entry)));
        }
        if candidate.key() == *free {
            *free = free.saturating_add(1);
        }
    }
    Ok(None)
}

/// Shows the entries from key `from` on until `visit` returns false.
pub(super) fn each_from(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    from: u64,
    visit: &mut dyn FnMut(&NamedEntry<'_>) -> Result<bool>,
) -> Result {
    let mut ascending = Ascending::new(from);
    let mut path = Path::nowhere();
    path.seek(blocks, DIRECTORY, directory, from)?;
    loop {
        let bytes = blocks.read(DIRECTORY.leaf, directory.number(), path.leaf())?;
        let leaf = Leaf::open_between(&bytes, path.leaf(), path.low(), path.end())?;
        for index in leaf.lower_bound(path.key())?..leaf.count() {
            let named = leaf.entry(index)?;
            ascending.check(named.entry.key, path.leaf())?;
            if !visit(&named)? {
                return Ok(());
            }
        }
        if path.is_last() {
            return Ok(());
        }
        path.seek(blocks, DIRECTORY, directory, path.end())?;
    }
}

/// Puts a new entry into the leaf of `path`, whose range its key is in.
pub(super) fn insert(
    blocks: &mut dyn ChangeBlocks,
    directory: &mut Inode,
    path: &mut Path,
    new: &NamedEntry<'_>,
) -> Result {
    if new.key() < path.low() {
        tree::admit(blocks, DIRECTORY, directory, path)?;
    }
    let bytes = blocks.change(DIRECTORY.leaf, directory.number(), path.leaf())?;
    if leaf::insert(bytes, path.leaf(), new)? {
        return Ok(());
    }
    split(blocks, directory, path, new)
}

/// Splits a full leaf in the middle and inserts the entry in one of the halves.
fn split(blocks: &mut dyn ChangeBlocks, directory: &mut Inode, path: &Path, new: &NamedEntry<'_>) -> Result {
    let (kind, owner, block) = (DIRECTORY.leaf, directory.number(), path.leaf());
    let copy = Buffer::copy_of(&blocks.read(kind, owner, block)?)?;
    let source = Leaf::open(&copy, block)?;
    let middle = source.middle()?;
    let key = source.entry(middle)?.key();
    if key <= path.low() || key >= path.end() {
        return corrupt(Check::Order, block, path.low(), key);
    }
    let behind = tree::allocate(blocks, directory, kind, block)?;
    leaf::fill(blocks.change(kind, owner, block)?, block, &source, 0, middle)?;
    leaf::fill(blocks.change(kind, owner, behind)?, behind, &source, middle, source.count())?;
    let half = if new.key() < key { block } else { behind };
    if !leaf::insert(blocks.change(kind, owner, half)?, half, new)? {
        return corrupt(Check::Count, block, new.size_bytes() as u64, 0);
    }
    directory.core.size_bytes = directory.core.size_bytes.saturating_add(LEAF_SIZE);
    tree::insert(blocks, DIRECTORY, directory, path, key, behind)
}

/// Takes an entry out of the leaf of `path`. An emptied leaf is freed; with the last one the directory becomes inline again.
pub(super) fn remove(
    blocks: &mut dyn ChangeBlocks,
    directory: &mut Inode,
    path: &Path,
    index: usize,
) -> Result {
    let (kind, owner, block) = (DIRECTORY.leaf, directory.number(), path.leaf());
    if Leaf::open(&blocks.read(kind, owner, block)?, block)?.count() > 1 {
        return leaf::remove(blocks.change(kind, owner, block)?, block, index);
    }
    tree::free(blocks, directory, kind, block)?;
    if tree::remove(blocks, DIRECTORY, directory, path)? {
        directory.resize_map(0)?;
        directory.core.map_kind = MapKind::InlineDirectory as u8;
        directory.core.size_bytes = 0;
        return Ok(());
    }
    let Some(left) = directory.core.size_bytes.checked_sub(LEAF_SIZE) else {
        let at = place_of(blocks.geometry(), directory);
        return corrupt(Check::Size, at, LEAF_SIZE, directory.core.size_bytes);
    };
    directory.core.size_bytes = left;
    Ok(())
}

/// Points an entry of the leaf of `path` at another inode.
pub(super) fn replace(
    blocks: &mut dyn ChangeBlocks,
    directory: &Inode,
    path: &Path,
    index: usize,
    inode: InodeNo,
    file_type: u8,
) -> Result {
    let bytes = blocks.change(DIRECTORY.leaf, directory.number(), path.leaf())?;
    leaf::replace(bytes, path.leaf(), index, inode, file_type)
}

/// Moves the entries of an inline directory to a leaf of their own, and puts a new one there.
#[inline(never)] // Or its path would stand on the stack of every insertion.
pub(super) fn outgrow(blocks: &mut dyn ChangeBlocks, directory: &mut Inode, new: &NamedEntry<'_>) -> Result {
    let at = place_of(blocks.geometry(), directory);
    let block = tree::allocate(blocks, directory, DIRECTORY.leaf, at)?;
    let bytes = blocks.change(DIRECTORY.leaf, directory.number(), block)?;
    leaf::clear(bytes)?;
    inline::each_from(directory.map(), 0, at, &mut |named| leaf::append(bytes, block, named).map(|()| true))?;
    tree::set_root(directory, 1, block)?;
    directory.core.map_kind = MapKind::DirectoryTree as u8;
    directory.core.size_bytes = LEAF_SIZE;
    let mut path = Path::nowhere();
    path.seek(blocks, DIRECTORY, directory, new.key())?;
    insert(blocks, directory, &mut path, new)
}

/// Checks every block of the tree and shows it to `visit`; then checks the directory's size.
pub(super) fn visit_blocks(
    blocks: &dyn ReadBlocks,
    directory: &Inode,
    visit: &mut dyn FnMut(BlockKind, BlockNo, u16) -> Result,
) -> Result {
    let mut size_bytes = 0_u64;
    tree::visit(blocks, DIRECTORY, directory, &mut |kind, block, level, path| {
        if level == 0 {
            let bytes = blocks.read(kind, directory.number(), block)?;
            leaf::verify(&bytes, block, blocks.geometry())?;
            Leaf::open_between(&bytes, block, path.low(), path.end())?;
            size_bytes = size_bytes.saturating_add(LEAF_SIZE);
        }
        visit(kind, block, level)
    })?;
    if size_bytes != directory.core.size_bytes {
        let at = place_of(blocks.geometry(), directory);
        return corrupt(Check::Size, at, size_bytes, directory.core.size_bytes);
    }
    Ok(())
}
