// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of an inode: read, listed, set, removed.
//!
//! An entry stands in the inode's area or in one block of attributes (`format::attribute`). The area comes first: it costs
//! no read and no block. But it is shared with the map, and a map must always be able to leave it: pushed down into a
//! block, a root needs its header and one entry. Hence **the rule of the area: attributes take at most
//! [`INLINE_BYTES_MAX`] bytes of it**, and only bytes that the map does not use at the moment. An attribute never moves for
//! the sake of the map; a map that cannot grow beside the attributes goes into a block.
//!
//! A new value goes where there is room: area, else block. Where neither has room for it alone, the entries of both are
//! divided anew (`repack`), so that [`Error::NoAttributeSpace`] means that no division holds them. When all entries fit
//! the area again, they move there and the block is freed: a block never stands for nothing.
//!
//! A call changes at most one metadata block besides the inode ([`BLOCKS_CHANGED_MAX`]). It works on the copies of the
//! caller's handle: after an error, inode and block may be half-changed, and the caller drops both. A crash
//! leaves what the last durable transaction had.
//!
//! Locks: the inode's metadata lock, for writing where `blocks` is [`ChangeBlocks`].

use crate::blocks::{BlockGuard, ChangeBlocks, ReadBlocks};
use crate::error::{corrupt, Check, Error, Result};
use crate::format::attribute::{
    AttributesHeader, Namespace, BLOCK_ENTRY_BYTES, ENTRIES_OFFSET, HEADER_OFFSET,
};
use crate::format::inode::AREA_BYTES;
use crate::format::layout::copy_to;
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::memory::Buffer;
use crate::tree::{self, place_of, ROOT_BYTES_MIN};
use crate::units::BlockNo;

mod entry;
mod repack;
mod verify;

#[cfg(test)]
mod tests;

use entry::{check_name, entries, Attribute, Place};
pub use verify::{check, verify_block, verify_inline};

/// The most bytes of the area that attributes take. What is left holds nine extents, or a root of 13 children.
pub const INLINE_BYTES_MAX: usize = 160;

const _: () = assert!(
    INLINE_BYTES_MAX + ROOT_BYTES_MIN <= AREA_BYTES,
    "attributes must leave room for the smallest root of a tree"
);

/// Metadata blocks that a call here changes at most, be it that it changes, allocates or frees one: there is only the
/// block of attributes, and no call both allocates and frees it.
pub const BLOCKS_CHANGED_MAX: u32 = 1;

/// What [`set`] does with a name that exists, or does not: the flags of setxattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// The name must be new (`XATTR_CREATE`).
    Create,
    /// The name must exist (`XATTR_REPLACE`).
    Replace,
    /// Either.
    Either,
}

/// Where an entry was found; places count from the first entry of area or block.
#[derive(Clone, Copy)]
enum Found {
    Inline(Place),
    Block(Place),
}

impl Found {
    /// Bytes that the entry takes in the area, and in the block.
    const fn bytes(found: Option<Self>) -> (usize, usize) {
        match found {
            Some(Self::Inline(place)) => (place.bytes, 0),
            Some(Self::Block(place)) => (0, place.bytes),
            None => (0, 0),
        }
    }
}

/// Gives the value of an attribute to `out`, and returns its length in bytes.
pub fn get(
    blocks: &dyn ReadBlocks,
    inode: &Inode,
    namespace: Namespace,
    name: &[u8],
    out: &mut dyn FnMut(&[u8]) -> Result,
) -> Result<usize> {
    check_name(namespace, name)?;
    let at = place_of(blocks.geometry(), inode);
    for entry in entries(inode.attributes(), at) {
        let entry = entry?;
        if entry.is_named(namespace, name) {
            out(entry.value)?;
            return Ok(entry.value.len());
        }
    }
    let Some(guard) = read_block(blocks, inode)? else {
        return Err(Error::NoAttribute);
    };
    let at = inode.core.attribute_block;
    for entry in entries(block_entries(&guard, at)?, at) {
        let entry = entry?;
        if entry.is_named(namespace, name) {
            out(entry.value)?;
            return Ok(entry.value.len());
        }
    }
    Err(Error::NoAttribute)
}

/// Visits every attribute: namespace, name without the namespace's prefix, length of the value in bytes.
pub fn list(
    blocks: &dyn ReadBlocks,
    inode: &Inode,
    visit: &mut dyn FnMut(Namespace, &[u8], usize) -> Result,
) -> Result {
    for entry in entries(inode.attributes(), place_of(blocks.geometry(), inode)) {
        let entry = entry?;
        visit(entry.namespace, entry.name, entry.value.len())?;
    }
    let Some(guard) = read_block(blocks, inode)? else {
        return Ok(());
    };
    let at = inode.core.attribute_block;
    for entry in entries(block_entries(&guard, at)?, at) {
        let entry = entry?;
        visit(entry.namespace, entry.name, entry.value.len())?;
    }
    Ok(())
}

/// Sets an attribute. [`Error::Exists`] and [`Error::NoAttribute`] as `mode` wants; [`Error::NoAttributeSpace`] when the
/// attributes do not fit area and block together.
pub fn set(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    namespace: Namespace,
    name: &[u8],
    value: &[u8],
    mode: SetMode,
) -> Result {
    check_name(namespace, name)?;
    let new = Attribute { namespace, name, value };
    let new_bytes = new.entry_bytes();
    if new_bytes > BLOCK_ENTRY_BYTES {
        return Err(Error::NoAttributeSpace);
    }
    let found = locate(blocks, inode, namespace, name)?;
    match (mode, found) {
        (SetMode::Create, Some(_)) => return Err(Error::Exists),
        (SetMode::Replace, None) => return Err(Error::NoAttribute),
        _ => {}
    }
    let (old_inline, old_in_block) = Found::bytes(found);
    if old_inline.max(old_in_block) == new_bytes {
        return overwrite(blocks, inode, found, &new);
    }
    let kept_inline = inode.attributes().len().saturating_sub(old_inline);
    let kept_in_block = block_used(blocks, inode)?.saturating_sub(old_in_block);
    if new_bytes <= inline_limit(inode).saturating_sub(kept_inline) {
        cut(blocks, inode, found)?;
        append_inline(inode, &new)?;
    } else if new_bytes <= BLOCK_ENTRY_BYTES.saturating_sub(kept_in_block) {
        cut(blocks, inode, found)?;
        append_to_block(blocks, inode, &new)?;
    } else {
        return repack::repack(blocks, inode, found, &new);
    }
    settle(blocks, inode)
}

/// Removes an attribute; [`Error::NoAttribute`] when there is none of that name.
pub fn remove(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, namespace: Namespace, name: &[u8]) -> Result {
    check_name(namespace, name)?;
    let found = locate(blocks, inode, namespace, name)?;
    if found.is_none() {
        return Err(Error::NoAttribute);
    }
    cut(blocks, inode, found)?;
    settle(blocks, inode)
}

/// Removes all attributes, without looking at them: for an inode that is freed.
pub fn free_all(blocks: &mut dyn ChangeBlocks, inode: &mut Inode) -> Result {
    inode.resize_attributes(0)?;
    free_block(blocks, inode)
}

/// Bytes of the area that attributes may take in all, as long as the map is what it is.
fn inline_limit(inode: &Inode) -> usize {
    INLINE_BYTES_MAX.min(inode.spare_bytes().saturating_add(inode.attributes().len()))
}

fn read_block<'a>(blocks: &'a dyn ReadBlocks, inode: &Inode) -> Result<Option<BlockGuard<'a>>> {
    match inode.core.attribute_block {
        BlockNo(0) => Ok(None),
        block => blocks.read(BlockKind::Attributes, inode.number(), block).map(Some),
    }
}

fn change_block<'a>(blocks: &'a mut dyn ChangeBlocks, inode: &Inode) -> Result<&'a mut [u8]> {
    blocks.change(BlockKind::Attributes, inode.number(), inode.core.attribute_block)
}

/// The entries of a block's bytes.
fn block_entries(bytes: &[u8], at: BlockNo) -> Result<&[u8]> {
    let used_bytes = AttributesHeader::decode(bytes, HEADER_OFFSET)?.used_bytes;
    match bytes.get(ENTRIES_OFFSET..).and_then(|area| area.get(..usize::from(used_bytes))) {
        Some(entries) => Ok(entries),
        None => corrupt(Check::Bounds, at, BLOCK_ENTRY_BYTES as u64, u64::from(used_bytes)),
    }
}

/// Bytes of the entries in the block; 0 when there is no block.
fn block_used(blocks: &dyn ReadBlocks, inode: &Inode) -> Result<usize> {
    match read_block(blocks, inode)? {
        Some(guard) => Ok(block_entries(&guard, inode.core.attribute_block)?.len()),
        None => Ok(0),
    }
}

fn locate(
    blocks: &dyn ReadBlocks,
    inode: &Inode,
    namespace: Namespace,
    name: &[u8],
) -> Result<Option<Found>> {
    for entry in entries(inode.attributes(), place_of(blocks.geometry(), inode)) {
        let entry = entry?;
        if entry.is_named(namespace, name) {
            return Ok(Some(Found::Inline(entry.place)));
        }
    }
    let Some(guard) = read_block(blocks, inode)? else {
        return Ok(None);
    };
    let at = inode.core.attribute_block;
    for entry in entries(block_entries(&guard, at)?, at) {
        let entry = entry?;
        if entry.is_named(namespace, name) {
            return Ok(Some(Found::Block(entry.place)));
        }
    }
    Ok(None)
}

/// Writes an entry of the same length over the one that was found.
fn overwrite(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    found: Option<Found>,
    new: &Attribute<'_>,
) -> Result {
    match found {
        Some(Found::Inline(place)) => new.encode(place.of_mut(inode.attributes_mut())?),
        Some(Found::Block(place)) => {
            let bytes = change_block(blocks, inode)?;
            new.encode(place.of_mut(bytes.get_mut(ENTRIES_OFFSET..).ok_or(Error::InvalidArgument)?)?)
        }
        None => Ok(()),
    }
}

/// Takes an entry out of area or block. The block may be left without entries: [`settle`] frees it.
fn cut(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, found: Option<Found>) -> Result {
    match found {
        Some(Found::Inline(place)) => {
            let bytes = inode.attributes_mut();
            let left = bytes.len().saturating_sub(place.bytes);
            place.cut_from(bytes)?;
            inode.resize_attributes(left)
        }
        Some(Found::Block(place)) => {
            let at = inode.core.attribute_block;
            let bytes = change_block(blocks, inode)?;
            let header = AttributesHeader::decode(bytes, HEADER_OFFSET)?;
            let used = block_entries(bytes, at)?.len();
            let left = used.saturating_sub(place.bytes);
            let entries = bytes.get_mut(ENTRIES_OFFSET..).and_then(|area| area.get_mut(..used));
            place.cut_from(entries.ok_or(Error::InvalidArgument)?)?;
            put_header(bytes, header.count.saturating_sub(1), left)
        }
        None => Ok(()),
    }
}

fn append_inline(inode: &mut Inode, new: &Attribute<'_>) -> Result {
    let old = inode.attributes().len();
    inode.resize_attributes(old.saturating_add(new.entry_bytes()))?;
    new.encode(inode.attributes_mut().get_mut(old..).ok_or(Error::InvalidArgument)?)
}

/// Appends to the block, which is allocated when there is none.
fn append_to_block(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, new: &Attribute<'_>) -> Result {
    if inode.core.attribute_block == BlockNo(0) {
        let goal = place_of(blocks.geometry(), inode);
        inode.core.attribute_block = tree::allocate(blocks, inode, BlockKind::Attributes, goal)?;
    }
    let at = inode.core.attribute_block;
    let bytes = change_block(blocks, inode)?;
    let count = AttributesHeader::decode(bytes, HEADER_OFFSET)?.count;
    let used = block_entries(bytes, at)?.len();
    let end = used.saturating_add(new.entry_bytes());
    let place = bytes.get_mut(ENTRIES_OFFSET..).and_then(|area| area.get_mut(used..end));
    new.encode(place.ok_or(Error::NoAttributeSpace)?)?;
    put_header(bytes, count.saturating_add(1), end)
}

fn put_header(bytes: &mut [u8], count: u16, used_bytes: usize) -> Result {
    let used_bytes = u16::try_from(used_bytes).map_err(|_| Error::InvalidArgument)?;
    AttributesHeader { count, used_bytes, reserved: 0 }.encode(bytes, HEADER_OFFSET)
}

/// Moves the block's entries to the area when all of them fit, and frees the block.
fn settle(blocks: &mut dyn ChangeBlocks, inode: &mut Inode) -> Result {
    let used = block_used(blocks, inode)?;
    let inline = inode.attributes().len();
    if inode.core.attribute_block == BlockNo(0) || used > inline_limit(inode).saturating_sub(inline) {
        return Ok(());
    }
    let moved = match read_block(blocks, inode)? {
        Some(guard) => Buffer::copy_of(block_entries(&guard, inode.core.attribute_block)?)?,
        None => return Ok(()),
    };
    inode.resize_attributes(inline.saturating_add(moved.len()))?;
    copy_to(inode.attributes_mut().get_mut(inline..).ok_or(Error::InvalidArgument)?, &moved)?;
    free_block(blocks, inode)
}

fn free_block(blocks: &mut dyn ChangeBlocks, inode: &mut Inode) -> Result {
    let block = inode.core.attribute_block;
    if block == BlockNo(0) {
        return Ok(());
    }
    tree::free(blocks, inode, BlockKind::Attributes, block)?;
    inode.core.attribute_block = BlockNo(0);
    Ok(())
}
