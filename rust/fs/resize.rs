// SPDX-License-Identifier: GPL-2.0

//! Changing a file's size, and what has to be written before that.
//!
//! *Tail zeroing.* Bytes behind the end of a file, in its last block, may be anything on the device. Whoever moves the end beyond a
//! partial block zeroes them, and that write ends before the handle that moves the size opens; its flush mark goes with the
//! handle. That may be a write that fills the block as well: of its pages the later ones may go out first, and would move the size
//! over a block that is still as it was ([`InodeData::stale_tail`](crate::inode::InodeData::stale_tail)). Whoever cuts into a block zeroes its tail in the page cache when the handle has closed; writeback of that block then
//! waits for the handle's transaction ([`InodeData::cut_in`](crate::inode::InodeData::cut_in)), for a crash that forgot the truncation
//! must not show its zeros. So neither a reader nor a crash shows what was cut off, nor a mixture.
//!
//! *Truncation* takes a handle for each bounded step; in between the inode is an orphan, so a crash goes on where it was. What is
//! left half done by an error is finished before the file grows again.
//!
//! Locks: VFS' lock of the inode throughout; page faults are kept out while pages go.

#![forbid(unsafe_code)]

use crate::data;
use crate::inode::VfsInode;
use crate::memory::{insist, insist_against};
use crate::mounted::Mounted;
use cairnfs_core::error::Result as CoreResult;
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::data::{self as operation, Progress};
use cairnfs_core::operation::reservation;
use cairnfs_core::units::{blocks_for_bytes, FileBlock, InodeNo, TransactionId, BLOCK_BYTES};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// From the first byte of a block to its last.
const BLOCK_END: i64 = BLOCK_BYTES as i64 - 1;

/// Sets the size of a regular file.
pub(crate) fn set_size(inode: &VfsInode, size_bytes: u64) -> Result {
    let old_bytes = u64::try_from(inode.size()).map_err(|_| EINVAL)?;
    let new_size = i64::try_from(size_bytes).map_err(|_| EFBIG)?;
    if size_bytes == old_bytes {
        return Ok(());
    }
    let mounted = inode.super_block().data();
    mounted.check_writable().map_err(|error| mounted.errno(error))?;
    inode.wait_for_direct_io();
    let finished = finish_truncation(mounted, inode);
    finished.map_err(|error| mounted.errno(error))?;
    let _no_faults = inode.lock_page_faults();
    write_behind_disk_size(inode, old_bytes.min(size_bytes))?;
    if size_bytes > old_bytes {
        let mark = zero_tail(mounted, inode, old_bytes)?;
        let resized = resize(mounted, inode, Class::Normal, size_bytes, mark);
        resized.map_err(|error| mounted.errno(error))?;
        inode.grow_size(inode.size(), new_size);
    } else {
        cut(mounted, inode, size_bytes, new_size)?;
    }
    Ok(())
}

/// Makes a file shorter.
fn cut(mounted: &Mounted, inode: &VfsInode, size_bytes: u64, new_size: i64) -> Result {
    let (last, within) = (FileBlock(size_bytes / BLOCK), size_bytes % BLOCK);
    if let Some(block) = inode.data().cut_block().filter(|block| *block < last) {
        // Only one such block is remembered.
        write_block(inode, block)?;
    }
    if within != 0 {
        // Were the block dirty, its writeback would find the new end, and zero what is behind that, before the handle has closed.
        write_block(inode, last)?;
    }
    inode.set_size_and_drop_pages(new_size);
    data::release_from(inode, FileBlock(blocks_for_bytes(size_bytes)));
    if size_bytes == 0 {
        inode.data().was_emptied.store(true, Ordering::Relaxed);
    }
    // Not to be killed, nor to fail for memory: the pages are gone.
    let resized = insist(&mut || resize(mounted, inode, Class::Reserved, size_bytes, None));
    let transaction = resized.map_err(|error| {
        if inode.data().state.read().inode.core.size_bytes != size_bytes {
            // What was cut off would be there again when the file grows.
            mounted.shut_down(error);
        }
        mounted.errno(error)
    })?;
    // Before the rest is removed: what fails in that is finished later, and the end is where it is.
    let zeroed = zero_cut_block(inode, last, within, transaction);
    let finished = insist(&mut || finish_truncation(mounted, inode));
    finished.map_err(|error| mounted.errno(error))?;
    zeroed
}

/// The file has been cut by `transaction`, so that it ends `within` bytes behind the beginning of block `last`.
fn zero_cut_block(inode: &VfsInode, last: FileBlock, within: u64, transaction: TransactionId) -> Result {
    if within == 0 {
        inode.data().end_stale_tail(last..);
        return Ok(());
    }
    inode.data().note_cut(last, transaction);
    // A mapping that writeback has looked up before says nothing of it.
    inode.data().raise_sequence();
    let (end, rest) = (last.0.saturating_mul(BLOCK).saturating_add(within), BLOCK.saturating_sub(within));
    // It has been cut: not to be said to have failed.
    insist_against(ENOMEM, &mut || inode.zero_range(end, rest)).map(drop)
}

/// Before `length_bytes` bytes are written at `position`: what lies between the end of the file and there reads as zero, also when
/// the write's last pages are all of it that a crash leaves.
pub(crate) fn before_write(inode: &VfsInode, position: u64, length_bytes: u64) -> Result {
    let mounted = inode.super_block().data();
    mounted.check_writable().map_err(|error| mounted.errno(error))?;
    finish_truncation(mounted, inode).map_err(|error| mounted.errno(error))?;
    let size_bytes = u64::try_from(inode.size()).map_err(|_| EINVAL)?;
    let end = FileBlock(blocks_for_bytes(position.saturating_add(length_bytes)));
    let stale = inode.data().stale_tail().filter(|block| end.0 > block.0.saturating_add(1));
    if position > size_bytes || stale.is_some() {
        let _no_faults = inode.lock_page_faults();
        zero_tail(mounted, inode, size_bytes)?;
        if let Some(block) = stale {
            // Where the file ends there no more: with what has been written to it since.
            write_block(inode, block)?;
            inode.data().end_stale_tail(block..=block);
        }
    }
    Ok(())
}

/// Writes what is dirty between the size on disk and `end_bytes`: the size is about to move over it, and a crash would show zeros.
fn write_behind_disk_size(inode: &VfsInode, end_bytes: u64) -> Result {
    let disk_bytes = inode.data().state.read().inode.core.size_bytes;
    if disk_bytes >= end_bytes {
        return Ok(());
    }
    let range = |bytes: u64| i64::try_from(bytes).map_err(|_| EFBIG);
    inode.write_and_wait(range(disk_bytes)?, range(end_bytes.saturating_sub(1))?)
}

/// Zeroes what lies behind `end_bytes` in its block, and writes that. The flush mark of that write, if there was something to be
/// written.
fn zero_tail(mounted: &Mounted, inode: &VfsInode, end_bytes: u64) -> Result<Option<FlushMark>> {
    let (block, within) = (FileBlock(end_bytes / BLOCK), end_bytes % BLOCK);
    if within == 0 {
        return Ok(None);
    }
    if !inode.zero_range(end_bytes, BLOCK.saturating_sub(within))? {
        // A hole.
        inode.data().end_stale_tail(block..=block);
        return Ok(None);
    }
    write_block(inode, block)?;
    Ok(Some(mounted.journaling.locked(|state| state.journal.clock().mark())))
}

/// Writes a block, if it is dirty, and waits for that.
fn write_block(inode: &VfsInode, block: FileBlock) -> Result {
    let start = i64::try_from(block.0.saturating_mul(BLOCK)).map_err(|_| EFBIG)?;
    inode.write_and_wait(start, start.saturating_add(BLOCK_END))
}

/// Moves the size, and frees what lies behind it as far as one handle goes; [`finish_truncation`] does the rest. Returns the
/// transaction.
fn resize(
    mounted: &Mounted,
    inode: &VfsInode,
    class: Class,
    size_bytes: u64,
    mark: Option<FlushMark>,
) -> CoreResult<TransactionId> {
    let limit = reservation::step(mounted.metadata.layout());
    let number = InodeNo(inode.number());
    let worst = reservation::remove(mounted.metadata.layout(), &inode.data().state.read().inode, limit);
    let ((), closed) = mounted.change(&[inode], worst, class, &mut |handle| {
        let progress = operation::set_size(handle, number, size_bytes, mark, limit)?;
        if progress == Progress::More {
            mounted.hold_orphan(number);
        }
        Ok(())
    })?;
    inode.data().raise_sequence();
    Ok(closed.transaction)
}

/// Ends a truncation that has begun, here or before a crash.
fn finish_truncation(mounted: &Mounted, inode: &VfsInode) -> CoreResult {
    let number = InodeNo(inode.number());
    while mounted.has_unfinished_truncation(number) {
        let limit = reservation::step(mounted.metadata.layout());
        let worst = reservation::remove(mounted.metadata.layout(), &inode.data().state.read().inode, limit);
        mounted.change(&[inode], worst, Class::Reserved, &mut |handle| {
            operation::truncate_step(handle, number, limit)
        })?;
        inode.data().raise_sequence();
    }
    Ok(())
}
