// SPDX-License-Identifier: GPL-2.0

//! What an inode's attributes must be.
//!
//! [`verify_inline`] and [`verify_block`] take one container when it comes from the device, in the time of one walk over it.
//! [`check`], for the checker, also compares names: within and across both containers.

use super::entry::{entries, Entry};
use super::{block_entries, read_block, INLINE_BYTES_MAX};
use crate::blocks::ReadBlocks;
use crate::error::{corrupt, Check, Result};
use crate::format::attribute::{AttributesHeader, ENTRIES_OFFSET, HEADER_OFFSET};
use crate::inode::Inode;
use crate::tree::place_of;
use crate::units::BlockNo;

/// Verifies the attributes in the area of an inode that was read from `block` of the inode table.
pub fn verify_inline(inode: &Inode, block: BlockNo) -> Result {
    let bytes = inode.attributes();
    if bytes.len() > INLINE_BYTES_MAX {
        return corrupt(Check::Bounds, block, INLINE_BYTES_MAX as u64, bytes.len() as u64);
    }
    verify_entries(bytes, block).map(|_| ())
}

/// Verifies what stands behind the header of a block of attributes.
pub fn verify_block(bytes: &[u8], block: BlockNo) -> Result {
    let header = AttributesHeader::decode(bytes, HEADER_OFFSET)?;
    if header.reserved != 0 {
        return corrupt(Check::Reserved, block, 0, u64::from(header.reserved));
    }
    let count = verify_entries(block_entries(bytes, block)?, block)?;
    if header.count == 0 || count != u64::from(header.count) {
        return corrupt(Check::Count, block, count.max(1), u64::from(header.count));
    }
    let end = ENTRIES_OFFSET.saturating_add(usize::from(header.used_bytes));
    let unused = bytes.get(end..).unwrap_or(&[]);
    match unused.iter().position(|byte| *byte != 0) {
        Some(at) => corrupt(Check::Reserved, block, 0, end.saturating_add(at) as u64),
        None => Ok(()),
    }
}

/// Counts the entries, all of which must be well formed.
fn verify_entries(bytes: &[u8], block: BlockNo) -> Result<u64> {
    let mut count = 0_u64;
    for entry in entries(bytes, block) {
        let entry = entry?;
        if entry.padding.iter().any(|byte| *byte != 0) {
            return corrupt(Check::Reserved, block, 0, entry.place.start as u64);
        }
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// Checks all attributes of an inode, names included: none may occur twice. Compares each name with each, which a
/// block's 4 KiB bound to some 60,000 comparisons.
pub fn check(blocks: &dyn ReadBlocks, inode: &Inode) -> Result {
    let at = place_of(blocks.geometry(), inode);
    verify_inline(inode, at)?;
    check_names(inode.attributes(), &[], at)?;
    if let Some(guard) = read_block(blocks, inode)? {
        let block = inode.core.attribute_block;
        verify_block(&guard, block)?;
        check_names(block_entries(&guard, block)?, inode.attributes(), block)?;
    }
    Ok(())
}

/// No entry of `bytes` may have the name of one before it, nor of one in `others`.
fn check_names(bytes: &[u8], others: &[u8], block: BlockNo) -> Result {
    for entry in entries(bytes, block) {
        let entry = entry?;
        let before = bytes.get(..entry.place.start).unwrap_or(&[]);
        if has(before, &entry, block)? || has(others, &entry, block)? {
            return corrupt(Check::Attribute, block, 1, 2);
        }
    }
    Ok(())
}

fn has(bytes: &[u8], wanted: &Entry<'_>, block: BlockNo) -> Result<bool> {
    for entry in entries(bytes, block) {
        if entry?.is_named(wanted.namespace, wanted.name) {
            return Ok(true);
        }
    }
    Ok(false)
}
