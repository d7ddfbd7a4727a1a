// SPDX-License-Identifier: GPL-2.0

//! A file's map and size: what I/O end, truncation and growth log.
//!
//! Contents are written first, to blocks that are in flight; when that I/O has ended, [`map_written`] maps them and moves the
//! size. So no mapping leads to contents that were not written, and a file that lives shortly never touches a bitmap. Times are those
//! of the write, which whoever wrote has set before: when its I/O happens to end is no change.
//!
//! A truncation sets the size first and removes what lies behind it in bounded steps; while steps are left, the inode is an orphan
//! of kind truncate, so that recovery goes on where a crash interrupted it. Until the last step nothing makes the file longer
//! ([`Error::WouldBlock`]): what has not been removed yet would come back to sight.

use super::{count_change, touch, touch_content};
use crate::error::{Error, Result};
use crate::extent_map::{self, Limit};
use crate::format::extent::{Extent, FILE_BLOCKS_MAX};
use crate::format::inode::FILE_BYTES_MAX;
use crate::format::item::Operation;
use crate::format::orphan::{Cause, OrphanKind};
use crate::handle::Handle;
use crate::inode::Inode;
use crate::journal::flush::FlushMark;
use crate::units::{blocks_for_bytes, FileBlock, InodeNo};

/// Maps an extent whose contents have been written; `mark` is the flush mark of that I/O's completion. `written_end_bytes` is how
/// far into the file it wrote: the size grows to it when it was less. Behind the size nothing is mapped
/// ([`Error::InvalidArgument`]).
pub fn map_written(
    handle: &mut Handle<'_>,
    number: InodeNo,
    extent: &Extent,
    written_end_bytes: u64,
    mark: FlushMark,
) -> Result {
    // The contents are written: the tree that maps them must not fail for want of a block.
    handle.use_reserve();
    let mut inode = handle.take_used_inode(number)?;
    refuse_growth(handle, &inode, written_end_bytes)?;
    handle.map_data(extent.run(), Some(mark))?;
    extent_map::insert(handle, &mut inode, extent)?;
    inode.core.size_bytes = inode.core.size_bytes.max(written_end_bytes);
    if extent.end().0 > blocks_for_bytes(inode.core.size_bytes) {
        // A crash would leave them there, to be seen when the file grows.
        return Err(Error::InvalidArgument);
    }
    count_change(&mut inode);
    handle.put_inode(inode)?;
    handle.set_note(Operation::Write, number, InodeNo(0), InodeNo(0), (&[], &[]))
}

/// Blocks that were mapped already have been written behind the old end of the file: only the size grows.
pub fn grow_written(
    handle: &mut Handle<'_>,
    number: InodeNo,
    written_end_bytes: u64,
    mark: FlushMark,
) -> Result {
    let mut inode = handle.take_used_inode(number)?;
    refuse_growth(handle, &inode, written_end_bytes)?;
    handle.note_data(Some(mark));
    inode.core.size_bytes = inode.core.size_bytes.max(written_end_bytes);
    count_change(&mut inode);
    handle.put_inode(inode)?;
    handle.set_note(Operation::Write, number, InodeNo(0), InodeNo(0), (&[], &[]))
}

/// Fails when the file would become longer while blocks behind its end wait to be removed.
fn refuse_growth(handle: &Handle<'_>, inode: &Inode, size_bytes: u64) -> Result {
    if size_bytes > inode.core.size_bytes && handle.is_orphan(inode.number(), OrphanKind::Truncate)? {
        return Err(Error::WouldBlock);
    }
    Ok(())
}

/// Whether a truncation has been done whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do.
    Done,
    /// More steps are needed, each in a handle of its own.
    More,
}

/// Sets a file's size. `mark`: contents were zeroed in the block that the old or new end cuts, and that write completed then.
/// Growing only moves the size. Shrinking removes what `limit` allows of what lies behind the new end; when that is not
/// all, the inode is a truncation orphan, and [`truncate_step`] goes on.
pub fn set_size(
    handle: &mut Handle<'_>,
    number: InodeNo,
    size_bytes: u64,
    mark: Option<FlushMark>,
    limit: Limit,
) -> Result<Progress> {
    if size_bytes > FILE_BYTES_MAX {
        return Err(Error::FileTooLarge);
    }
    handle.use_reserve();
    let mut inode = handle.take_used_inode(number)?;
    // Also at the same size: should anything be mapped behind the end, it must not be seen when the file grows.
    let cuts = size_bytes <= inode.core.size_bytes;
    refuse_growth(handle, &inode, size_bytes)?;
    inode.core.size_bytes = size_bytes;
    handle.note_data(mark);
    let now_ns = handle.now_ns();
    touch_content(&mut inode, now_ns);
    let progress = if cuts { cut(handle, &mut inode, limit)? } else { Progress::Done };
    if progress == Progress::More {
        match handle.add_orphan(number, OrphanKind::Truncate, Cause::Truncate) {
            // An earlier truncation has not been finished yet; its orphan serves this one too.
            Ok(()) | Err(Error::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    handle.put_inode(inode)?;
    handle.set_note(Operation::Truncate, number, InodeNo(0), InodeNo(0), (&[], &[]))?;
    Ok(progress)
}

/// Goes on with a truncation that needs several steps; the last one removes the orphan.
pub fn truncate_step(handle: &mut Handle<'_>, number: InodeNo, limit: Limit) -> Result<Progress> {
    handle.use_reserve();
    let mut inode = handle.take_used_inode(number)?;
    let progress = cut(handle, &mut inode, limit)?;
    if progress == Progress::Done {
        handle.remove_orphan(number, OrphanKind::Truncate)?;
    }
    touch(&mut inode, handle.now_ns());
    handle.put_inode(inode)?;
    handle.set_note(Operation::Truncate, number, InodeNo(0), InodeNo(0), (&[], &[]))?;
    Ok(progress)
}

/// Removes what lies behind the end of the file, as far as `limit` allows.
pub(super) fn cut(handle: &mut Handle<'_>, inode: &mut Inode, limit: Limit) -> Result<Progress> {
    let from = FileBlock(blocks_for_bytes(inode.core.size_bytes));
    let removed = extent_map::remove(handle, inode, from, FileBlock(FILE_BLOCKS_MAX), limit)?;
    Ok(if removed.down_to <= from { Progress::Done } else { Progress::More })
}
