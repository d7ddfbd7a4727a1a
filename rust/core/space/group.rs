// SPDX-License-Identifier: GPL-2.0

//! What may be allocated in one group; `space.rs` has the round that a block goes.
//!
//! A group is loaded before any bit of its bitmaps changes: then nothing is in flight and nothing pending, and
//! the index is just the clear bits. From then on whoever takes, maps and frees blocks keeps it.
//!
//! Blocks in flight are kept run by run as they were taken, without merging, each together with the memory that its
//! way back into the index needs at worst. So an operation that fails can always undo what it took, and a
//! closing handle, which must not fail, first has [`Group::isolate`] cut the runs to the pieces that it is going to map.
//!
//! Locks: the group's lock guards all of it. A crash forgets all of it.

use super::free_extents::{FreeExtents, InsertReservation};
use super::inodes::FreeInodes;
use super::{GroupRun, Request};
use crate::bitmap;
use crate::blocks::BlockGuard;
use crate::error::{corrupt, Check, Result};
use crate::format::group::{BitmapKind, Geometry, BITMAP_BITS};
use crate::memory::{Buffer, OrderedMap, Reservation};
use crate::units::{GroupNo, BLOCK_BYTES};

/// Gives the logged state of a bitmap block of the group at hand: its kind, and its index in the group.
pub type ReadBitmap<'f, 'a> = dyn FnMut(BitmapKind, u32) -> Result<BlockGuard<'a>> + 'f;

/// A taken run, by its start.
struct InFlight {
    blocks: u32,
    /// For its way back into the index.
    nodes: InsertReservation,
}

/// What may be allocated in a group.
pub struct Group {
    geometry: Geometry,
    number: GroupNo,
    free: FreeExtents,
    in_flight: OrderedMap<u32, InFlight>,
    in_flight_blocks: u32,
    inodes: FreeInodes,
}

impl Group {
    /// Builds the index of an initialised group from its bitmaps, which are verified. `table_mark` is the logged one.
    pub fn load(
        geometry: &Geometry,
        number: GroupNo,
        table_mark: u32,
        read: &mut ReadBitmap<'_, '_>,
    ) -> Result<Self> {
        let mut free = FreeExtents::new(geometry.start_of(number));
        for index in 0..geometry.block_bitmaps() {
            let block = read(BitmapKind::Blocks, index)?;
            bitmap::verify(&block, geometry, number, BitmapKind::Blocks, index)?;
            let before = index.saturating_mul(BITMAP_BITS);
            for (start, blocks) in bitmap::clear_runs(&block) {
                free.insert(GroupRun { start: before.saturating_add(start), blocks })?;
            }
        }
        let bits = gather(geometry, number, BitmapKind::Inodes, read)?;
        Ok(Self::new(geometry, number, free, FreeInodes::new(bits, geometry.inodes_per_group, table_mark)))
    }

    /// A group that is just being initialised: as [`Group::load`] from the implied bitmaps.
    pub fn fresh(geometry: &Geometry, number: GroupNo) -> Result<Self> {
        let mut free = FreeExtents::new(geometry.start_of(number));
        let data = data_area(geometry, number);
        if data.blocks > 0 {
            free.insert(data)?;
        }
        let blocks = geometry.inode_bitmaps();
        let mut bits = zeroed_blocks(blocks)?;
        for (index, block) in (0..blocks).zip(bits.chunks_mut(BLOCK_BYTES)) {
            bitmap::implied(block, geometry, number, BitmapKind::Inodes, index);
        }
        Ok(Self::new(geometry, number, free, FreeInodes::new(bits, geometry.inodes_per_group, 0)))
    }

    fn new(geometry: &Geometry, number: GroupNo, free: FreeExtents, inodes: FreeInodes) -> Self {
        Self { geometry: *geometry, number, free, in_flight: OrderedMap::new(), in_flight_blocks: 0, inodes }
    }

    /// Its number.
    pub const fn number(&self) -> GroupNo {
        self.number
    }

    /// Blocks that may be taken.
    pub fn free_blocks(&self) -> u32 {
        self.free.total_blocks()
    }

    /// Blocks that were taken, and are neither mapped nor given back yet.
    pub const fn in_flight_blocks(&self) -> u32 {
        self.in_flight_blocks
    }

    /// The length of the longest run that may be taken.
    pub fn largest_free_blocks(&mut self) -> u32 {
        self.free.largest().map_or(0, |extent| extent.blocks)
    }

    /// The free extents, for reports and FITRIM, in the order of their places.
    pub fn free_extents(&self) -> &FreeExtents {
        &self.free
    }

    /// Takes the run that fits `request` best; `None` when there is none. The caller brings the run to
    /// [`Group::settle_blocks`] or [`Group::give_back_blocks`], whole or in pieces.
    pub fn take_blocks(&mut self, request: &Request) -> Result<Option<GroupRun>> {
        request.check()?;
        let Some(run) = self.free.find(request) else { return Ok(None) };
        let (node, nodes) = reserve_flight()?;
        self.free.take(run)?;
        self.in_flight.insert_reserved(node, run.start, InFlight { blocks: run.blocks, nodes });
        self.in_flight_blocks = self.in_flight_blocks.saturating_add(run.blocks);
        Ok(Some(run))
    }

    /// Makes `run` a run of its own, or several, among those in flight, so that settling or giving back just it cannot fail
    /// for want of memory. Fails when a block of it is not in flight; no block changes its state.
    pub fn isolate(&mut self, run: GroupRun) -> Result {
        self.check_in_flight(run)?;
        self.cut_in_flight(run.start)?;
        self.cut_in_flight(run.end())
    }

    /// The bits of `run` have been set by a closing handle: it is in flight no longer. Needs memory only if it is a part of
    /// what was taken and has not been isolated.
    pub fn settle_blocks(&mut self, run: GroupRun) -> Result {
        self.isolate(run)?;
        while self.end_flight(run).is_some() {}
        Ok(())
    }

    /// Nobody needs `run` after all: it may be taken again. Needs memory only if it is a part of what was taken and has not
    /// been isolated.
    pub fn give_back_blocks(&mut self, run: GroupRun) -> Result {
        self.isolate(run)?;
        while let Some((piece, nodes)) = self.end_flight(run) {
            self.free.insert_reserved(piece, nodes)?;
        }
        Ok(())
    }

    /// Takes the memory for one [`Group::release_blocks`], of whichever group: to be had before a block is freed.
    pub fn reserve_release() -> Result<InsertReservation> {
        FreeExtents::reserve_insert()
    }

    /// The transaction that freed `run` is durable: it may be taken again. Fails only where the run cannot have been in use.
    pub fn release_blocks(&mut self, run: GroupRun, reservation: InsertReservation) -> Result {
        if !data_area(&self.geometry, self.number).covers(run) {
            return self.wrong(Check::BlockRange, run);
        }
        let last_before_end = self.in_flight.prev_before(run.end());
        if last_before_end.is_some_and(|(start, taken)| start.saturating_add(taken.blocks) > run.start) {
            return self.wrong(Check::Shared, run);
        }
        self.free.insert_reserved(run, reservation)
    }

    /// Inodes that may be taken.
    pub fn free_inodes(&self) -> u32 {
        self.inodes.free()
    }

    /// Inodes that were taken by handles that are still open.
    pub fn in_flight_inodes(&self) -> u32 {
        self.inodes.in_flight()
    }

    /// Slots of the inode table below this are initialised.
    pub fn table_mark(&self) -> u32 {
        self.inodes.table_mark()
    }

    /// A closing handle has logged a higher mark.
    pub fn raise_table_mark(&mut self, table_mark: u32) {
        self.inodes.raise_table_mark(table_mark);
    }

    /// Takes an inode: the lowest free one from `from` on, else from the start on, below the table mark if there is one.
    /// The caller brings it to [`Group::settle_inode`] or [`Group::give_back_inode`].
    pub fn take_inode(&mut self, from: u32) -> Option<u32> {
        self.inodes.take(from)
    }

    /// The bit of a taken inode has been set by a closing handle.
    pub fn settle_inode(&mut self, index: u32) -> Result {
        if bitmap::test(self.inodes.bits(), index) && self.inodes.end_flight() {
            return Ok(());
        }
        self.wrong_inode(index)
    }

    /// Nobody needs a taken inode after all.
    pub fn give_back_inode(&mut self, index: u32) -> Result {
        if self.inodes.in_flight() > 0 && self.inodes.clear(index) && self.inodes.end_flight() {
            return Ok(());
        }
        self.wrong_inode(index)
    }

    /// The handle that freed inode `index` has closed: the number may be given out again.
    pub fn release_inode(&mut self, index: u32) -> Result {
        if self.inodes.clear(index) {
            return Ok(());
        }
        self.wrong_inode(index)
    }

    /// Fails unless each block of `run` is in flight.
    fn check_in_flight(&mut self, run: GroupRun) -> Result {
        let Some((start, first)) = self.in_flight.at_or_before(run.start) else {
            return self.wrong(Check::Bitmap, run);
        };
        let mut covered = GroupRun { start, blocks: first.blocks };
        if covered.end() <= run.start || run.blocks == 0 || run.start.checked_add(run.blocks).is_none() {
            return self.wrong(Check::Bitmap, run);
        }
        while covered.end() < run.end() {
            let Some(next) = self.in_flight.get(covered.end()) else {
                return self.wrong(Check::Bitmap, run);
            };
            covered.blocks = covered.blocks.saturating_add(next.blocks);
        }
        Ok(())
    }

    /// Cuts the run in flight that has block `at` in it, so that a run begins there.
    fn cut_in_flight(&mut self, at: u32) -> Result {
        let Some((start, whole)) = self.in_flight.prev_before(at) else { return Ok(()) };
        let Some(behind) = start.saturating_add(whole.blocks).checked_sub(at).filter(|behind| *behind > 0)
        else {
            return Ok(());
        };
        let (node, nodes) = reserve_flight()?;
        if let Some(whole) = self.in_flight.get_mut(start) {
            whole.blocks = whole.blocks.saturating_sub(behind);
        }
        self.in_flight.insert_reserved(node, at, InFlight { blocks: behind, nodes });
        Ok(())
    }

    /// Removes the first piece in flight that lies in `run`, which has been isolated.
    fn end_flight(&mut self, run: GroupRun) -> Option<(GroupRun, InsertReservation)> {
        let (start, _) = self.in_flight.lower_bound(run.start).filter(|(start, _)| *start < run.end())?;
        let taken = self.in_flight.remove(start)?;
        self.in_flight_blocks = self.in_flight_blocks.saturating_sub(taken.blocks);
        Some((GroupRun { start, blocks: taken.blocks }, taken.nodes))
    }

    /// Checks the index and what is in flight against the logged state: each free bit of the block bitmap is in exactly one
    /// of index, in flight and `pending`; the free bits of the inode bitmap are what may be taken and what is in flight.
    /// Holds whenever no handle is between its close and its calls here, which the caller sees to.
    pub fn check(
        &self,
        read: &mut ReadBitmap<'_, '_>,
        pending: &mut dyn Iterator<Item = GroupRun>,
    ) -> Result {
        self.free.check()?;
        let mut bits = gather(&self.geometry, self.number, BitmapKind::Blocks, read)?;
        let taken = self.in_flight.iter().map(|(start, taken)| GroupRun { start, blocks: taken.blocks });
        for run in self.free.iter().chain(taken).chain(pending) {
            if bitmap::set_range(&mut bits, run.start, run.blocks) != 0 {
                return self.wrong(Check::Bitmap, run);
            }
        }
        if let Some(start) = bitmap::next_clear(&bits, 0) {
            return self.wrong(Check::Bitmap, GroupRun { start, blocks: 1 });
        }
        let bits = gather(&self.geometry, self.number, BitmapKind::Inodes, read)?;
        let logged_free =
            bitmap::len_bits(&bits).saturating_sub(bitmap::count_ones(&bits, 0, bitmap::len_bits(&bits)));
        for (start, inodes) in bitmap::clear_runs(self.inodes.bits()) {
            if !bitmap::all_clear(&bits, start, inodes) {
                return self.wrong_inode(start);
            }
        }
        let known = self.free_inodes().saturating_add(self.in_flight_inodes());
        if known != logged_free {
            let at = self.geometry.bitmap_of(self.number, BitmapKind::Inodes, 0);
            return corrupt(Check::FreeCount, at, u64::from(logged_free), u64::from(known));
        }
        Ok(())
    }

    /// A run that is not in the state which the caller thinks it has.
    fn wrong<T>(&self, check: Check, run: GroupRun) -> Result<T> {
        let run = run.on_device(&self.geometry, self.number);
        corrupt(check, run.start, run.blocks, 0)
    }

    fn wrong_inode<T>(&self, index: u32) -> Result<T> {
        let at = self.geometry.bitmap_of(self.number, BitmapKind::Inodes, index / BITMAP_BITS);
        corrupt(Check::Bitmap, at, 0, self.geometry.inode_at(self.number, index).0)
    }
}

/// The blocks of a group that are not its own metadata.
pub fn data_area(geometry: &Geometry, number: GroupNo) -> GroupRun {
    let start = geometry.metadata_blocks();
    GroupRun { start, blocks: geometry.blocks_of(number).saturating_sub(start) }
}

/// Memory for one run in flight, and for its way back.
fn reserve_flight() -> Result<(Reservation<u32, InFlight>, InsertReservation)> {
    Ok((OrderedMap::reserve()?, FreeExtents::reserve_insert()?))
}

fn zeroed_blocks(blocks: u32) -> Result<Buffer> {
    Ok(Buffer::zeroed((blocks as usize).saturating_mul(BLOCK_BYTES))?)
}

/// The group's bitmap blocks of one kind, verified, one behind the other.
fn gather(
    geometry: &Geometry,
    number: GroupNo,
    kind: BitmapKind,
    read: &mut ReadBitmap<'_, '_>,
) -> Result<Buffer> {
    let blocks = match kind {
        BitmapKind::Blocks => geometry.block_bitmaps(),
        BitmapKind::Inodes => geometry.inode_bitmaps(),
    };
    let mut bits = zeroed_blocks(blocks)?;
    for (index, place) in (0..blocks).zip(bits.chunks_mut(BLOCK_BYTES)) {
        let block = read(kind, index)?;
        bitmap::verify(&block, geometry, number, kind, index)?;
        for (to, from) in place.iter_mut().zip(block.iter()) {
            *to = *from;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests;
