// SPDX-License-Identifier: GPL-2.0

//! The bytes of a leaf: a heap of entries that grows upwards, slots in key order that grow downwards to meet it.
//!
//! An insertion appends the entry and moves slots, a removal zeroes the entry and leaves a hole: so little of the block
//! changes, and the journal logs only what does. Holes are used again when an insertion finds no room behind the heap: the
//! leaf is then packed, its entries in key order. Holes and the gap between heap and slots are always zero.
//!
//! Whoever uses a leaf opens it first, which checks its header; every access to a slot or an entry then checks that it lies within the
//! heap. [`verify`] checks all the rest, once, when the block comes from the device.

use super::entry::{point, Ascending, NamedEntry};
use crate::error::{corrupt, Check, Error, Result};
use crate::format::directory::{EntryHeader, LeafHeader, HEAP_OFFSET, LEAF_HEADER_OFFSET, SLOT_BYTES};
use crate::format::group::Geometry;
use crate::format::layout::move_within;
use crate::format::layout::{get, put};
use crate::memory::Buffer;
use crate::units::{BlockNo, InodeNo, BLOCK_BYTES};

/// A leaf to be read.
pub(super) struct Leaf<'a> {
    bytes: &'a [u8],
    block: BlockNo,
    header: LeafHeader,
}

/// Where slot `index` stands; the slots of `index` entries begin one slot behind.
const fn slot_offset(index: usize) -> usize {
    slots_start(index.saturating_add(1))
}

/// Where the slots of `count` entries begin.
const fn slots_start(count: usize) -> usize {
    BLOCK_BYTES.saturating_sub(count.saturating_mul(SLOT_BYTES))
}

impl<'a> Leaf<'a> {
    /// Opens a leaf: its header must be possible.
    pub(super) fn open(bytes: &'a [u8], block: BlockNo) -> Result<Self> {
        if bytes.len() != BLOCK_BYTES {
            return corrupt(Check::Bounds, block, BLOCK_BYTES as u64, bytes.len() as u64);
        }
        let header = LeafHeader::decode(bytes, LEAF_HEADER_OFFSET)?;
        let (count, heap_end) = (usize::from(header.count), usize::from(header.heap_end));
        if heap_end < HEAP_OFFSET || heap_end > slots_start(count) {
            return corrupt(Check::Bounds, block, slots_start(count) as u64, heap_end as u64);
        }
        let heap_bytes = heap_end.saturating_sub(HEAP_OFFSET);
        if usize::from(header.live_bytes) > heap_bytes {
            return corrupt(Check::Count, block, heap_bytes as u64, u64::from(header.live_bytes));
        }
        Ok(Self { bytes, block, header })
    }

    /// Opens a leaf of a tree that can hold keys from `low` to `end`: it has an entry at least, and all keys lie between.
    pub(super) fn open_between(bytes: &'a [u8], block: BlockNo, low: u64, end: u64) -> Result<Self> {
        let leaf = Self::open(bytes, block)?;
        let Some(last) = leaf.count().checked_sub(1) else {
            return corrupt(Check::Count, block, 1, 0);
        };
        for index in [0, last] {
            let key = leaf.key(index)?;
            if key < low || key >= end {
                return corrupt(Check::Key, block, low, key);
            }
        }
        Ok(leaf)
    }

    /// Entries.
    pub(super) fn count(&self) -> usize {
        usize::from(self.header.count)
    }

    /// The offset that slot `index` holds, with the heap up to its end.
    fn slot(&self, index: usize) -> Result<(&'a [u8], usize)> {
        let heap = self.bytes.get(..usize::from(self.header.heap_end)).unwrap_or(&[]);
        let offset = match get::<u16>(self.bytes, slot_offset(index)) {
            Ok(offset) if index < self.count() => usize::from(offset),
            _ => return Err(Error::InvalidArgument),
        };
        if offset < HEAP_OFFSET {
            return corrupt(Check::Bounds, self.block, HEAP_OFFSET as u64, offset as u64);
        }
        Ok((heap, offset))
    }

    fn key(&self, index: usize) -> Result<u64> {
        let (heap, offset) = self.slot(index)?;
        match get(heap, offset) {
            Ok(key) => Ok(key),
            Err(_) => corrupt(Check::Bounds, self.block, heap.len() as u64, offset as u64),
        }
    }

    /// Entry `index`, which must be less than the count.
    pub(super) fn entry(&self, index: usize) -> Result<NamedEntry<'a>> {
        let (heap, offset) = self.slot(index)?;
        NamedEntry::read(heap, offset, self.block)
    }

    /// The first entry with this key or a higher one; the count when there is none.
    pub(super) fn lower_bound(&self, key: u64) -> Result<usize> {
        let (mut low, mut high) = (0_usize, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? < key {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Bytes between heap and slots.
    fn gap_bytes(&self) -> usize {
        slots_start(self.count()).saturating_sub(usize::from(self.header.heap_end))
    }

    /// Bytes of the gap and of all holes.
    fn free_bytes(&self) -> usize {
        let holes = usize::from(self.header.heap_end).saturating_sub(HEAP_OFFSET);
        self.gap_bytes().saturating_add(holes).saturating_sub(usize::from(self.header.live_bytes))
    }

    /// The first entry of the upper half, by bytes; neither half is empty. A leaf that is full has two entries at least.
    pub(super) fn middle(&self) -> Result<usize> {
        let half = usize::from(self.header.live_bytes) / 2;
        let last = self.count().saturating_sub(1);
        let (mut index, mut bytes) = (0_usize, 0_usize);
        while index < last && bytes < half {
            bytes = bytes.saturating_add(self.entry(index)?.size_bytes());
            index = index.saturating_add(1);
        }
        match index {
            0 => corrupt(Check::Count, self.block, 2, self.count() as u64),
            index => Ok(index),
        }
    }
}

/// Makes the block behind its header an empty leaf.
pub(super) fn clear(bytes: &mut [u8]) -> Result {
    bytes.get_mut(LEAF_HEADER_OFFSET..).ok_or(Error::InvalidArgument)?.fill(0);
    LeafHeader { count: 0, heap_end: HEAP_OFFSET as u16, live_bytes: 0, reserved: 0 }
        .encode(bytes, LEAF_HEADER_OFFSET)
}

/// Appends an entry whose key is above all others. There must be room.
pub(super) fn append(bytes: &mut [u8], block: BlockNo, new: &NamedEntry<'_>) -> Result {
    let leaf = Leaf::open(bytes, block)?;
    let (count, header) = (leaf.count(), leaf.header);
    if leaf.gap_bytes() < new.size_bytes().saturating_add(SLOT_BYTES) {
        return corrupt(Check::Count, block, leaf.gap_bytes() as u64, new.size_bytes() as u64);
    }
    place(bytes, &header, count, new)
}

/// Makes the block a packed leaf with the entries from `first` up to `end` of `source`.
pub(super) fn fill(bytes: &mut [u8], block: BlockNo, source: &Leaf<'_>, first: usize, end: usize) -> Result {
    clear(bytes)?;
    for index in first..end {
        append(bytes, block, &source.entry(index)?)?;
    }
    Ok(())
}

/// Inserts an entry whose key is not there. Returns false, and has done nothing, when there is no room even in holes.
pub(super) fn insert(bytes: &mut [u8], block: BlockNo, new: &NamedEntry<'_>) -> Result<bool> {
    let needed = new.size_bytes().saturating_add(SLOT_BYTES);
    let leaf = Leaf::open(bytes, block)?;
    if leaf.free_bytes() < needed {
        return Ok(false);
    }
    let index = leaf.lower_bound(new.key())?;
    if leaf.gap_bytes() < needed {
        let copy = Buffer::copy_of(bytes)?;
        let source = Leaf::open(&copy, block)?;
        fill(bytes, block, &source, 0, source.count())?;
    }
    let leaf = Leaf::open(bytes, block)?;
    if leaf.gap_bytes() < needed {
        // Only live_bytes that were wrong lead here.
        return corrupt(Check::Count, block, needed as u64, leaf.gap_bytes() as u64);
    }
    let header = leaf.header;
    place(bytes, &header, index, new)?;
    Ok(true)
}

/// Writes an entry to the heap's end and its slot to `index`; both fit into the gap.
fn place(bytes: &mut [u8], header: &LeafHeader, index: usize, new: &NamedEntry<'_>) -> Result {
    let (count, size) = (usize::from(header.count), new.size_bytes() as u16);
    new.write(bytes, usize::from(header.heap_end))?;
    move_within(bytes, slots_start(count), slots_start(index), slots_start(count.saturating_add(1)))?;
    put(bytes, slot_offset(index), header.heap_end)?;
    LeafHeader {
        count: header.count.saturating_add(1),
        heap_end: header.heap_end.saturating_add(size),
        live_bytes: header.live_bytes.saturating_add(size),
        reserved: 0,
    }
    .encode(bytes, LEAF_HEADER_OFFSET)
}

/// Removes entry `index` and zeroes its bytes.
pub(super) fn remove(bytes: &mut [u8], block: BlockNo, index: usize) -> Result {
    let leaf = Leaf::open(bytes, block)?;
    let (_, offset) = leaf.slot(index)?;
    let size = leaf.entry(index)?.size_bytes();
    let header = leaf.header;
    let end = offset.saturating_add(size);
    let Some(live_bytes) = header.live_bytes.checked_sub(size as u16) else {
        return corrupt(Check::Count, block, size as u64, u64::from(header.live_bytes));
    };
    bytes.get_mut(offset..end).ok_or(Error::InvalidArgument)?.fill(0);
    let start = slots_start(usize::from(header.count));
    move_within(bytes, start, slot_offset(index), start.saturating_add(SLOT_BYTES))?;
    put(bytes, start, 0_u16)?;
    let heap_end = if end == usize::from(header.heap_end) { offset as u16 } else { header.heap_end };
    LeafHeader { count: header.count.saturating_sub(1), heap_end, live_bytes, reserved: 0 }
        .encode(bytes, LEAF_HEADER_OFFSET)
}

/// Points entry `index` at another inode.
pub(super) fn replace(
    bytes: &mut [u8],
    block: BlockNo,
    index: usize,
    inode: InodeNo,
    file_type: u8,
) -> Result {
    let leaf = Leaf::open(bytes, block)?;
    leaf.entry(index)?;
    let (_, offset) = leaf.slot(index)?;
    point(bytes, offset, inode, file_type)
}

/// Verifies the block of a leaf that was just read, behind its block header.
pub(super) fn verify(bytes: &[u8], block: BlockNo, geometry: &Geometry) -> Result {
    let leaf = Leaf::open(bytes, block)?;
    if leaf.count() == 0 {
        return corrupt(Check::Count, block, 1, 0);
    }
    if leaf.header.reserved != 0 {
        return corrupt(Check::Reserved, block, 0, u64::from(leaf.header.reserved));
    }
    let gap = bytes.get(usize::from(leaf.header.heap_end)..slots_start(leaf.count()));
    if let Some(place) = gap.and_then(|gap| gap.iter().position(|byte| *byte != 0)) {
        return corrupt(Check::Reserved, block, 0, place as u64);
    }
    let mut ascending = Ascending::new(0);
    let mut live_bytes = 0_usize;
    let mut starts = Starts::new();
    for index in 0..leaf.count() {
        let named = leaf.entry(index)?;
        named.check(geometry, block)?;
        ascending.check(named.entry.key, block)?;
        live_bytes = live_bytes.saturating_add(named.size_bytes());
        let (_, offset) = leaf.slot(index)?;
        if !starts.add(offset) {
            return corrupt(Check::Bounds, block, 0, offset as u64);
        }
    }
    if live_bytes != usize::from(leaf.header.live_bytes) {
        return corrupt(Check::Count, block, live_bytes as u64, u64::from(leaf.header.live_bytes));
    }
    for index in 0..leaf.count() {
        let (_, offset) = leaf.slot(index)?;
        let end = offset.saturating_add(leaf.entry(index)?.size_bytes());
        if let Some(other) = starts.first_between(offset.saturating_add(1), end) {
            return corrupt(Check::Bounds, block, end as u64, other as u64);
        }
    }
    Ok(())
}

/// Where entries begin: one place for each [`Starts::UNIT`] bytes of the block. No entry is that short, so two that begin in
/// one place overlap.
struct Starts {
    /// 0: none; else one more than the offset within the place.
    places: [u8; BLOCK_BYTES / Starts::UNIT],
}

impl Starts {
    const UNIT: usize = 16;

    const fn new() -> Self {
        Self { places: [0; BLOCK_BYTES / Starts::UNIT] }
    }

    /// Notes a beginning; false when there is one in the same place.
    fn add(&mut self, offset: usize) -> bool {
        match self.places.get_mut(offset / Self::UNIT) {
            Some(place @ 0) => {
                *place = ((offset % Self::UNIT) as u8).saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// A beginning from `start` up to `end`, if there is one.
    fn first_between(&self, start: usize, end: usize) -> Option<usize> {
        for unit in start / Self::UNIT..end.div_ceil(Self::UNIT) {
            let Some(within) = self.places.get(unit)?.checked_sub(1) else { continue };
            let offset = unit.saturating_mul(Self::UNIT).saturating_add(usize::from(within));
            if offset >= start && offset < end {
                return Some(offset);
            }
        }
        None
    }
}

const _: () = assert!(EntryHeader::SIZE >= Starts::UNIT);
