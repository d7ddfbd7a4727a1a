// SPDX-License-Identifier: GPL-2.0

//! Bits of bitmap blocks, read and changed a word at a time.
//!
//! Bit n of a bitmap is bit n % 8 of byte n / 8; a set bit stands for something used. The functions take a bitmap as the
//! bytes it consists of: one block, or several of a group's one behind the other. Bits are handled in words of 64, so a
//! bitmap's length is a multiple of 8 bytes; what lies outside of it counts as used and cannot be changed.
//!
//! Nothing here fails. Who sets or clears bits is told how many of them did not change: any is a double allocation or a
//! double free, and the caller, who knows the block, makes a [`crate::error::Corruption`] of it. What a change leaves
//! after a crash is the journal's affair: these are the bytes of copies in memory.

use crate::error::{corrupt, Check, Result};
use crate::format::group::{BitmapKind, Geometry, BITMAP_BITS};
use crate::format::inode;
use crate::units::{GroupNo, BLOCK_BYTES};

/// Bits in a word.
const WORD_BITS: u32 = u64::BITS;
/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u64>();

/// The words that a range of bits touches: each word's number, and a mask of the bits that belong to the range.
struct Words {
    next: u32,
    end: u32,
}

impl Words {
    /// The words of [start, end), cut at the end of `bytes`.
    fn within(bytes: &[u8], start: u32, end: u32) -> Self {
        Self { next: start, end: end.min(len_bits(bytes)) }
    }
}

impl Iterator for Words {
    type Item = (u32, u64);

    fn next(&mut self) -> Option<(u32, u64)> {
        if self.next >= self.end {
            return None;
        }
        let index = self.next / WORD_BITS;
        let word_end = index.saturating_add(1).saturating_mul(WORD_BITS);
        let range_end = self.end.min(word_end);
        let from_start = u64::MAX.wrapping_shl(self.next % WORD_BITS);
        let to_end = u64::MAX.wrapping_shr(word_end.saturating_sub(range_end));
        self.next = range_end;
        Some((index, from_start & to_end))
    }
}

/// Bits in a bitmap of these bytes.
pub const fn len_bits(bytes: &[u8]) -> u32 {
    let words = bytes.len() / WORD_BYTES;
    // Saturates: no bitmap is that long, and the bits behind the largest number could not be named.
    let bits = words.saturating_mul(WORD_BITS as usize);
    if bits > u32::MAX as usize {
        u32::MAX
    } else {
        bits as u32
    }
}

fn word(bytes: &[u8], index: u32) -> u64 {
    let offset = (index as usize).saturating_mul(WORD_BYTES);
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(u64::MAX, |chunk| u64::from_le_bytes(*chunk))
}

fn store_word(bytes: &mut [u8], index: u32, value: u64) {
    let offset = (index as usize).saturating_mul(WORD_BYTES);
    if let Some(chunk) = bytes.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) {
        *chunk = value.to_le_bytes();
    }
}

/// Whether `bit` is set.
pub fn test(bytes: &[u8], bit: u32) -> bool {
    word(bytes, bit / WORD_BITS).wrapping_shr(bit % WORD_BITS) & 1 == 1
}

/// Sets `bits` bits from `start` on; returns how many did not change, because they were set already or lie outside.
#[must_use = "a bit that was set already is a double allocation"]
pub fn set_range(bytes: &mut [u8], start: u32, bits: u32) -> u32 {
    let mut changed = 0_u32;
    for (index, mask) in Words::within(bytes, start, start.saturating_add(bits)) {
        let old = word(bytes, index);
        changed = changed.saturating_add((mask & !old).count_ones());
        store_word(bytes, index, old | mask);
    }
    bits.saturating_sub(changed)
}

/// Clears `bits` bits from `start` on; returns how many did not change, because they were clear already or lie outside.
#[must_use = "a bit that was clear already is a double free"]
pub fn clear_range(bytes: &mut [u8], start: u32, bits: u32) -> u32 {
    let mut changed = 0_u32;
    for (index, mask) in Words::within(bytes, start, start.saturating_add(bits)) {
        let old = word(bytes, index);
        changed = changed.saturating_add((mask & old).count_ones());
        store_word(bytes, index, old & !mask);
    }
    bits.saturating_sub(changed)
}

/// How many of `bits` bits from `start` on are set; those outside are.
pub fn count_ones(bytes: &[u8], start: u32, bits: u32) -> u32 {
    let mut clear = 0_u32;
    for (index, mask) in Words::within(bytes, start, start.saturating_add(bits)) {
        clear = clear.saturating_add((mask & !word(bytes, index)).count_ones());
    }
    bits.saturating_sub(clear)
}

/// Whether `bits` bits from `start` on are all clear; those outside are not.
pub fn all_clear(bytes: &[u8], start: u32, bits: u32) -> bool {
    count_ones(bytes, start, bits) == 0
}

/// The first set bit of the bitmap at or after `from`.
pub fn next_set(bytes: &[u8], from: u32) -> Option<u32> {
    Words::within(bytes, from, u32::MAX).find_map(|(index, mask)| first_bit(index, word(bytes, index) & mask))
}

/// The first clear bit at or after `from`.
pub fn next_clear(bytes: &[u8], from: u32) -> Option<u32> {
    Words::within(bytes, from, u32::MAX)
        .find_map(|(index, mask)| first_bit(index, !word(bytes, index) & mask))
}

/// The number in the bitmap of the lowest bit that is set in `word`, the bitmap's word `index`.
fn first_bit(index: u32, word: u64) -> Option<u32> {
    (word != 0).then(|| index.saturating_mul(WORD_BITS).saturating_add(word.trailing_zeros()))
}

/// The runs of clear bits, each as its first bit and its length, in ascending order.
pub fn clear_runs(bytes: &[u8]) -> ClearRuns<'_> {
    ClearRuns { bytes, next: 0 }
}

/// The iterator of [`clear_runs`].
pub struct ClearRuns<'a> {
    bytes: &'a [u8],
    next: u32,
}

impl Iterator for ClearRuns<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let start = next_clear(self.bytes, self.next)?;
        let end = next_set(self.bytes, start).unwrap_or(len_bits(self.bytes));
        self.next = end;
        Some((start, end.saturating_sub(start)))
    }
}

/// The bits of a bitmap block that are always set: below the first number (a group's own metadata blocks; in group 0 the
/// reserved inodes) and from the second on (behind the group's end). The numbers count from the block's first bit.
fn fixed_bits(geometry: &Geometry, group: GroupNo, kind: BitmapKind, index: u32) -> (u32, u32) {
    let used_first = match kind {
        BitmapKind::Blocks => geometry.metadata_blocks(),
        BitmapKind::Inodes if group.0 == 0 => inode::FIRST_FREE.0 as u32,
        BitmapKind::Inodes => 0,
    };
    let before = index.saturating_mul(BITMAP_BITS);
    let end = geometry.bits_of(group, kind, index);
    (used_first.saturating_sub(before).min(end), end)
}

/// Writes bitmap block `index` of an uninitialised group into `bytes`: the group's own metadata is used, in group 0 the
/// reserved inodes are, the bits behind the group's end are set, and all else is free. Returns the number of free bits.
pub fn implied(bytes: &mut [u8], geometry: &Geometry, group: GroupNo, kind: BitmapKind, index: u32) -> u32 {
    let (used_end, end) = fixed_bits(geometry, group, kind, index);
    bytes.fill(0xFF);
    let free = end.saturating_sub(used_end);
    free.saturating_sub(clear_range(bytes, used_end, free))
}

/// Checks what every content of a bitmap block has in common: its length, and the bits that are always set. Returns the
/// number of free bits, which the group's header states too.
pub fn verify(
    bytes: &[u8],
    geometry: &Geometry,
    group: GroupNo,
    kind: BitmapKind,
    index: u32,
) -> Result<u32> {
    let block = geometry.bitmap_of(group, kind, index);
    if bytes.len() != BLOCK_BYTES {
        return corrupt(Check::Bounds, block, BLOCK_BYTES as u64, bytes.len() as u64);
    }
    let (used_end, end) = fixed_bits(geometry, group, kind, index);
    for (start, bits) in [(0, used_end), (end, BITMAP_BITS.saturating_sub(end))] {
        let set = count_ones(bytes, start, bits);
        if set != bits {
            return corrupt(Check::Bitmap, block, u64::from(bits), u64::from(set));
        }
    }
    Ok(BITMAP_BITS.saturating_sub(count_ones(bytes, 0, BITMAP_BITS)))
}

#[cfg(test)]
mod tests;
