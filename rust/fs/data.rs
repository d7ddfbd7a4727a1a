// SPDX-License-Identifier: GPL-2.0

//! File contents: delayed allocation, writeback to blocks that nobody maps yet, the mapping when that I/O has ended.
//!
//! A buffered write promises blocks ([`iomap_begin`](iomap::Operations::iomap_begin)); writeback takes them from what is free and
//! writes ([`map_blocks`](iomap::Operations::map_blocks)); when the I/O has ended, one handle maps the extent and moves the size
//! ([`io_end`](iomap::Operations::io_end)). So no crash shows blocks whose contents had not been written, and a file
//! that lives shortly never touches a bitmap. What is mapped is overwritten in place, and logs nothing.
//!
//! Contents are noted with the flush that had started when they completed: a commit that maps them, and an fsync that only
//! overwrote, know by that whether a flush is needed.
//!
//! Locks: an inode's state, for the look at its tree and for the promise; group locks inside. With a folio locked no handle is
//! opened, and nothing waits but for reads of metadata and for a commit: when nothing but freed blocks is left, or when a block is to
//! be overwritten that a truncation has cut into.

#![forbid(unsafe_code)]

use crate::inode::{State, VfsInode};
use crate::memory::insist;
use crate::module::Cairnfs;
use crate::mounted::Mounted;
use cairnfs_core::error::{Error, Result as CoreResult};
use cairnfs_core::extent_map;
use cairnfs_core::format::extent::{Extent, EXTENT_UNWRITTEN};
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::{data, reservation};
use cairnfs_core::pending::{Found, Pending, Split};
use cairnfs_core::space;
use cairnfs_core::space::choose::{self, Wanted};
use cairnfs_core::tree;
use cairnfs_core::units::{
    blocks_for_bytes, BlockNo, BlockRun, FileBlock, InodeNo, BLOCK_BYTES, BLOCK_SHIFT,
};
use cairnfs_linux::iomap::{self, Kind, Mapping, Purpose};
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use kernel::prelude::*;

/// The most blocks that one write promises, or one run of writeback takes, at once: 8 MiB.
const RUN_BLOCKS_MAX: u64 = 2048;

/// Bytes of `blocks` blocks; numbers that were verified do not come near the limit.
const fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}

/// What a file has at a block.
enum Place {
    /// An extent.
    Extent(Extent),
    /// A promise, which begins here and has so many blocks.
    Delayed(FileBlock, u64),
    /// Blocks of the device that no extent maps yet, for the file's from here on.
    InFlight(FileBlock, BlockRun),
    /// Nothing, up to this block.
    Hole(FileBlock),
}

impl Place {
    /// As iomap wants it.
    fn mapping(&self, at: FileBlock, sequence: u64) -> Mapping {
        let (start, blocks, kind) = match *self {
            Self::Extent(extent) => {
                let device_bytes = bytes(extent.block.0);
                let kind = match extent.flags & EXTENT_UNWRITTEN {
                    0 => Kind::Mapped { device_bytes },
                    _ => Kind::Unwritten { device_bytes },
                };
                (extent.file_block, u64::from(extent.blocks), kind)
            }
            Self::Delayed(start, blocks) => (start, blocks, Kind::Delayed),
            Self::InFlight(start, run) => {
                (start, run.blocks, Kind::Unwritten { device_bytes: bytes(run.start.0) })
            }
            Self::Hole(end) => (at, end.0.saturating_sub(at.0), Kind::Hole),
        };
        Mapping {
            start_bytes: bytes(start.0),
            length_bytes: bytes(blocks),
            kind,
            is_new: false,
            is_dirty: false,
            sequence,
        }
    }
}

/// What the extents of a file say; pending runs stand in holes.
fn mapped(mounted: &Mounted, state: &State, at: FileBlock) -> CoreResult<Place> {
    Ok(match extent_map::find(mounted, &state.inode, at)? {
        extent_map::Mapping::Extent(extent) => Place::Extent(extent),
        extent_map::Mapping::Hole { start, blocks } => Place::Hole(FileBlock(start.0.saturating_add(blocks))),
    })
}

/// What a file has at `at`, pending runs included.
fn look(mounted: &Mounted, state: &mut State, at: FileBlock) -> CoreResult<Place> {
    let place = mapped(mounted, state, at)?;
    let Place::Hole(end) = place else {
        return Ok(place);
    };
    Ok(match state.pending.find(at) {
        Found::Nothing { end: pending } => Place::Hole(end.min(pending)),
        Found::Delayed { start, blocks } => Place::Delayed(start, blocks),
        Found::InFlight { start, place } => Place::InFlight(start, place),
    })
}

/// For a write: whatever is there, or else a promise of blocks.
fn begin_write(mounted: &Mounted, inode: &VfsInode, position: u64, length: u64) -> CoreResult<Mapping> {
    let at = FileBlock(position >> BLOCK_SHIFT);
    let wanted = blocks_for_bytes(position.saturating_add(length)).saturating_sub(at.0);
    let mut state = inode.data().state.write();
    let place = look(mounted, &mut state, at)?;
    let sequence = inode.data().sequence();
    match place {
        Place::Extent(extent) if extent.flags & EXTENT_UNWRITTEN != 0 => Err(Error::InvalidArgument),
        Place::Hole(end) => {
            let blocks = wanted.min(end.0.saturating_sub(at.0)).min(RUN_BLOCKS_MAX);
            let promised = match mounted.promise(&mut state.pending, at, blocks) {
                Err(Error::NoSpace) if blocks > 1 => mounted.promise(&mut state.pending, at, 1).map(|()| 1),
                outcome => outcome.map(|()| blocks),
            }?;
            Ok(Mapping { is_new: true, ..Place::Delayed(at, promised).mapping(at, sequence) })
        }
        place => Ok(place.mapping(at, sequence)),
    }
}

/// For a read or a look: a file without anything pending is only read.
fn begin_read(mounted: &Mounted, inode: &VfsInode, position: u64) -> CoreResult<Mapping> {
    let at = FileBlock(position >> BLOCK_SHIFT);
    let sequence = inode.data().sequence();
    {
        let state = inode.data().state.read();
        if state.pending.is_empty() {
            return Ok(mapped(mounted, &state, at)?.mapping(at, sequence));
        }
    }
    let mut state = inode.data().state.write();
    Ok(look(mounted, &mut state, at)?.mapping(at, sequence))
}

impl iomap::Operations for Cairnfs {
    fn iomap_begin(inode: &VfsInode, position: u64, length: u64, purpose: Purpose) -> Result<Mapping> {
        let mounted = inode.super_block().data();
        let begun = match purpose {
            Purpose::Write | Purpose::Fault => {
                mounted.check_writable().and_then(|()| begin_write(mounted, inode, position, length))
            }
            Purpose::Read | Purpose::Zero | Purpose::Report => begin_read(mounted, inode, position),
        };
        begun.map_err(|error| mounted.errno(error))
    }

    fn is_valid(inode: &VfsInode, sequence: u64) -> bool {
        inode.data().sequence() == sequence
    }

    fn release_delayed(inode: &VfsInode, start_byte: u64, end_byte: u64) {
        let from = FileBlock(start_byte >> BLOCK_SHIFT);
        release_promises(inode, from, FileBlock(blocks_for_bytes(end_byte)));
    }

    fn stale_tail(inode: &VfsInode) -> Option<u64> {
        inode.data().stale_tail().map(|block| bytes(block.0))
    }

    fn map_blocks(inode: &VfsInode, position: u64, _length: u64) -> Result<Mapping> {
        let mounted = inode.super_block().data();
        // Without a place the page's data would be gone.
        let mapped =
            without_filesystem_reclaim(|| insist(&mut || place_for_writeback(mounted, inode, position)));
        mapped.map_err(|error| mounted.errno(error))
    }

    fn io_end(inode: &VfsInode, start_byte: u64, length_bytes: u64, is_new: bool, outcome: Result) -> Result {
        // What was in flight stays so: who writes the page again uses the same blocks, and truncation gives them back.
        outcome?;
        let mounted = inode.super_block().data();
        let ended = end_write(mounted, inode, start_byte, length_bytes, is_new);
        ended.map_err(|error| mounted.errno(error))
    }
}

/// Where writeback puts a dirty block.
fn place_for_writeback(mounted: &Mounted, inode: &VfsInode, position: u64) -> CoreResult<Mapping> {
    let at = FileBlock(position >> BLOCK_SHIFT);
    let data = inode.data();
    mounted.check_journal()?;
    // Before the look for a cut block: a truncation that is noted behind that look voids what is found.
    let sequence = data.sequence();
    let cut_block = data.cut_block();
    if cut_block == Some(at) {
        mounted.make_durable(data.cut_in(), None)?;
    }
    let mut state = data.state.write();
    match look(mounted, &mut state, at)? {
        Place::Delayed(start, blocks) => {
            let rest = blocks.saturating_sub(at.0.saturating_sub(start.0));
            let goal = goal(mounted, &mut state, at)?;
            let run = mounted.take_blocks(goal, rest.min(RUN_BLOCKS_MAX) as u32)?;
            let taken_off = mounted.with_pending(&mut state.pending, |pending| pending.take_off(at, run));
            if let Err(error) = taken_off {
                mounted.give_back_in_flight(run);
                return Err(error);
            }
            let sequence = data.raise_sequence();
            Ok(Place::InFlight(at, run).mapping(at, sequence))
        }
        // A page is never dirty without a promise: to drop its data silently would be worse than to say so.
        Place::Hole(_) => Err(Error::Io(BlockNo(0))),
        place => {
            let mut mapping = place.mapping(at, sequence);
            if let Some(cut_block) = cut_block.filter(|cut_block| *cut_block > at) {
                // So that writeback asks again before it comes to that one.
                let length_bytes = bytes(cut_block.0).saturating_sub(mapping.start_bytes);
                mapping.length_bytes = mapping.length_bytes.min(length_bytes);
            }
            Ok(mapping)
        }
    }
}

/// Behind the block before, or near the inode.
fn goal(mounted: &Mounted, state: &mut State, at: FileBlock) -> CoreResult<BlockNo> {
    let Some(before) = at.0.checked_sub(1) else {
        return Ok(tree::place_of(mounted.metadata.layout(), &state.inode));
    };
    let behind =
        |start: BlockNo, first: FileBlock| BlockNo(start.0.saturating_add(at.0.saturating_sub(first.0)));
    Ok(match look(mounted, state, FileBlock(before))? {
        Place::Extent(extent) => behind(extent.block, extent.file_block),
        Place::InFlight(start, run) => behind(run.start, start),
        _ => tree::place_of(mounted.metadata.layout(), &state.inode),
    })
}

/// A write has ended well: its blocks become the file's, and its size grows to what was written.
fn end_write(
    mounted: &Mounted,
    inode: &VfsInode,
    start_byte: u64,
    length_bytes: u64,
    is_new: bool,
) -> CoreResult {
    let mark = mounted.journaling.locked(|state| {
        let mark = state.journal.clock().mark();
        state.newest_data = state.newest_data.max(Some(mark));
        mark
    });
    inode.data().note_data(mark);
    let mut at = FileBlock(start_byte >> BLOCK_SHIFT);
    let written_end_bytes = start_byte.saturating_add(length_bytes);
    inode.data().end_stale_tail(at..FileBlock(blocks_for_bytes(written_end_bytes)));
    let number = InodeNo(inode.number());
    // A truncation that has begun has moved the size already. What it cuts off stays in flight until the truncation gives it
    // back: mapped, it would be durable behind the end of the file if a commit came before the truncation's handle.
    let size_bytes = u64::try_from(inode.size()).unwrap_or(0);
    let end_bytes = written_end_bytes.min(size_bytes);
    let end = FileBlock(blocks_for_bytes(end_bytes));
    if !is_new {
        if end_bytes <= inode.data().state.read().inode.core.size_bytes {
            return Ok(());
        }
        let worst = reservation::set_attributes();
        insist(&mut || {
            mounted.change(&[inode], worst, Class::Reserved, &mut |handle| {
                data::grow_written(handle, number, end_bytes, mark)
            })
        })?;
        return Ok(());
    }
    while at < end {
        let extent = in_flight_at(inode, at, end)?;
        let piece_end_bytes = bytes(extent.end().0).min(end_bytes);
        let split = insist(&mut Split::reserve)?;
        let worst = reservation::map_written(mounted.metadata.layout(), &inode.data().state.read().inode);
        insist(&mut || {
            mounted.change(&[inode], worst, Class::Reserved, &mut |handle| {
                data::map_written(handle, number, &extent, piece_end_bytes, mark)
            })
        })?;
        // Nobody can have looked in between: the pages are under writeback until this has returned.
        let data = inode.data();
        let mut state = data.state.write();
        mounted.with_pending(&mut state.pending, |pending| {
            pending.remove(at, extent.end(), split, &mut |_| {});
        });
        data.raise_sequence();
        drop(state);
        at = extent.end();
    }
    Ok(())
}

/// The blocks in flight from `at` on, up to `end`.
fn in_flight_at(inode: &VfsInode, at: FileBlock, end: FileBlock) -> CoreResult<Extent> {
    let found = inode.data().state.write().pending.find(at);
    let Found::InFlight { start, place } = found else {
        return Err(Error::Io(BlockNo(0)));
    };
    let before = at.0.saturating_sub(start.0);
    let blocks = place.blocks.saturating_sub(before).min(end.0.saturating_sub(at.0));
    Ok(Extent {
        file_block: at,
        block: BlockNo(place.start.0.saturating_add(before)),
        blocks: u32::try_from(blocks).map_err(|_| Error::TooLarge)?,
        flags: 0,
    })
}

/// Promises from `from` up to `to` are void: nothing was written there after all. What is in flight stays so: its pages may be under
/// writeback.
fn release_promises(inode: &VfsInode, from: FileBlock, to: FileBlock) {
    let mounted = inode.super_block().data();
    without_filesystem_reclaim(|| {
        let data = inode.data();
        let mut state = data.state.write();
        if state.pending.is_empty() {
            return;
        }
        let Ok(split) = Split::reserve() else {
            // They stay: the next write there finds them, and they go with the inode at the latest.
            return;
        };
        mounted.with_pending(&mut state.pending, |pending| pending.remove_delayed(from, to, split));
        data.raise_sequence();
    });
}

/// Whatever is pending from `from` on is void. Nobody writes there: the pages are gone.
pub(crate) fn release_from(inode: &VfsInode, from: FileBlock) {
    let mounted = inode.super_block().data();
    without_filesystem_reclaim(|| {
        let data = inode.data();
        let mut state = data.state.write();
        mounted.with_pending(&mut state.pending, |pending| {
            pending.remove_from(from, &mut |run| mounted.give_back_in_flight(run));
        });
        data.raise_sequence();
    });
}

impl Mounted {
    /// Promises blocks to a file; [`Error::NoSpace`] when what is free has been promised to others.
    fn promise(&self, pending: &mut Pending, start: FileBlock, blocks: u64) -> CoreResult {
        let more = pending.charge_for(start, blocks);
        self.ledger.lock().promise(more)?;
        let delayed = pending.delay(start, blocks);
        if delayed.is_err() {
            self.ledger.lock().end_promise(more);
        }
        delayed
    }

    /// Changes what is pending; what that makes needless of the promise is others'.
    fn with_pending<R>(&self, pending: &mut Pending, action: impl FnOnce(&mut Pending) -> R) -> R {
        let before = pending.charge();
        let result = action(pending);
        let less = before.saturating_sub(pending.charge());
        self.ledger.lock().end_promise(less);
        result
    }

    /// Takes up to `blocks` blocks, at least one, near `goal`. What was promised is there, but perhaps only behind a commit, which
    /// makes the blocks usable that have been freed.
    fn take_blocks(&self, goal: BlockNo, blocks: u32) -> CoreResult<BlockRun> {
        let wanted = Wanted::near(goal, blocks).of_class(space::Class::Reserved);
        match choose::allocate_run(self, &wanted) {
            Err(Error::NoSpace) => {
                self.commit_frees()?;
                choose::allocate_run(self, &wanted)
            }
            taken => taken,
        }
    }

    /// Blocks that nobody has mapped, nor will, are free again.
    fn give_back_in_flight(&self, run: BlockRun) {
        // Their group was loaded when they were taken from it; what may fail is memory, for a run of which only a part was taken
        // back.
        let _ = insist(&mut || choose::give_back_run(self, run));
    }
}
