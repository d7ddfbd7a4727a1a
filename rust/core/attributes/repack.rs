// SPDX-License-Identifier: GPL-2.0

//! Dividing an inode's entries anew between area and block, when a new one fits neither as they are.
//!
//! The question is which entries fill the area best: then the rest is as small as it can be, and fits the block or cannot
//! fit. Lengths are multiples of 4 and the area takes at most 160 bytes, so the sums that the first n entries can
//! reach are bits of one number. These numbers, one for each n, give the answer and, read backwards, the choice.

use super::entry::{entries, Attribute, Place};
use super::{block_entries, change_block, inline_limit, put_header, read_block, Found, INLINE_BYTES_MAX};
use crate::blocks::{ChangeBlocks, ReadBlocks};
use crate::error::{Error, Result};
use crate::format::attribute::{BLOCK_ENTRY_BYTES, ENTRIES_OFFSET, ENTRY_ALIGNMENT};
use crate::format::layout::copy_to;
use crate::inode::Inode;
use crate::memory::{Buffer, List};
use crate::tree::place_of;
use crate::units::BlockNo;

const _: () = assert!(INLINE_BYTES_MAX / ENTRY_ALIGNMENT < u64::BITS as usize, "a sum is a bit of a u64");

/// All entries, one behind the other, and which of them go to the area.
struct Entries {
    bytes: Buffer,
    used: usize,
    pieces: List<Piece>,
}

#[derive(Clone, Copy)]
struct Piece {
    place: Place,
    inline: bool,
}

impl Entries {
    fn add(&mut self, bytes: usize) -> Result<&mut [u8]> {
        let place = Place { start: self.used, bytes };
        self.pieces.push(Piece { place, inline: false })?;
        self.used = self.used.saturating_add(bytes);
        place.of_mut(&mut self.bytes)
    }

    fn add_all(&mut self, bytes: &[u8], without: Option<Place>, at: BlockNo) -> Result {
        for entry in entries(bytes, at) {
            let place = entry?.place;
            if without != Some(place) {
                let end = place.start.saturating_add(place.bytes);
                let source = bytes.get(place.start..end).ok_or(Error::InvalidArgument)?;
                copy_to(self.add(place.bytes)?, source)?;
            }
        }
        Ok(())
    }

    /// Copies the pieces for the area, or those for the block, to `target`, which has exactly their length.
    fn copy_to(&self, inline: bool, target: &mut [u8]) -> Result {
        let mut rest = target;
        for piece in self.pieces.iter().filter(|piece| piece.inline == inline) {
            let end = piece.place.start.saturating_add(piece.place.bytes);
            let source = self.bytes.get(piece.place.start..end).ok_or(Error::InvalidArgument)?;
            let (place, behind) = rest.split_at_mut_checked(source.len()).ok_or(Error::InvalidArgument)?;
            copy_to(place, source)?;
            rest = behind;
        }
        Ok(())
    }
}

/// Sets `new` in place of what was `found`, dividing all entries anew. The block exists already: an empty one has
/// room for any entry.
pub(super) fn repack(
    blocks: &mut dyn ChangeBlocks,
    inode: &mut Inode,
    found: Option<Found>,
    new: &Attribute<'_>,
) -> Result {
    let mut all = gather(blocks, inode, found, new)?;
    let inline_bytes = divide(&mut all.pieces, inline_limit(inode))?;
    let block_bytes = all.used.saturating_sub(inline_bytes);
    if block_bytes > BLOCK_ENTRY_BYTES {
        return Err(Error::NoAttributeSpace);
    }
    inode.resize_attributes(inline_bytes)?;
    all.copy_to(true, inode.attributes_mut())?;
    let in_block = all.pieces.iter().filter(|piece| !piece.inline);
    let in_block = in_block.fold(0_u16, |count, _| count.saturating_add(1));
    let bytes = change_block(blocks, inode)?;
    let area = bytes.get_mut(ENTRIES_OFFSET..).ok_or(Error::InvalidArgument)?;
    let (used, unused) = area.split_at_mut_checked(block_bytes).ok_or(Error::InvalidArgument)?;
    all.copy_to(false, used)?;
    unused.fill(0);
    put_header(bytes, in_block, block_bytes)
}

fn gather(
    blocks: &dyn ReadBlocks,
    inode: &Inode,
    found: Option<Found>,
    new: &Attribute<'_>,
) -> Result<Entries> {
    let (inline_without, block_without) = match found {
        Some(Found::Inline(place)) => (Some(place), None),
        Some(Found::Block(place)) => (None, Some(place)),
        None => (None, None),
    };
    let most = INLINE_BYTES_MAX.max(inode.attributes().len());
    let most = most.saturating_add(BLOCK_ENTRY_BYTES).saturating_add(new.entry_bytes());
    let mut all = Entries { bytes: Buffer::zeroed(most)?, used: 0, pieces: List::new() };
    all.add_all(inode.attributes(), inline_without, place_of(blocks.geometry(), inode))?;
    if let Some(guard) = read_block(blocks, inode)? {
        let at = inode.core.attribute_block;
        all.add_all(block_entries(&guard, at)?, block_without, at)?;
    }
    new.encode(all.add(new.entry_bytes())?)?;
    Ok(all)
}

/// Marks the pieces that fill `limit_bytes` best, and returns how many bytes they have.
fn divide(pieces: &mut List<Piece>, limit_bytes: usize) -> Result<usize> {
    let limit = limit_bytes / ENTRY_ALIGNMENT;
    let units = |piece: &Piece| u32::try_from(piece.place.bytes / ENTRY_ALIGNMENT).unwrap_or(u32::MAX);
    let with = |sums: u64, piece: &Piece| sums | sums.checked_shl(units(piece)).unwrap_or(0);
    let mut reachable = List::with_capacity(pieces.len())?;
    let mut sums = 1_u64;
    for piece in &*pieces {
        reachable.push(sums)?;
        sums = with(sums, piece);
    }
    let within =
        1_u64.checked_shl(limit.saturating_add(1) as u32).map_or(u64::MAX, |bit| bit.saturating_sub(1));
    let best = (sums & within).checked_ilog2().unwrap_or(0);
    let mut left = best;
    for (piece, without) in pieces.iter_mut().zip(reachable.iter()).rev() {
        piece.inline = without & 1_u64.checked_shl(left).unwrap_or(0) == 0;
        if piece.inline {
            left = left.saturating_sub(units(piece));
        }
    }
    Ok((best as usize).saturating_mul(ENTRY_ALIGNMENT))
}
