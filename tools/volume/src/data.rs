// SPDX-License-Identifier: GPL-2.0

//! File contents: written to free blocks first, mapped when that write has ended; blocks that are mapped are overwritten in place.

use crate::{lock, Volume};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::extent_map::{self, Mapping};
use cairnfs_core::format::extent::{Extent, EXTENT_UNWRITTEN};
use cairnfs_core::format::orphan::OrphanKind;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::Inode;
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::data::{self, Progress};
use cairnfs_core::operation::reservation;
use cairnfs_core::orphans::OrphanKey;
use cairnfs_core::space::choose::{self, Wanted};
use cairnfs_core::tree;
use cairnfs_core::units::{BlockNo, FileBlock, InodeNo, TransactionId, BLOCK_BYTES};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The most blocks that one write takes in one piece.
const RUN_BLOCKS_MAX: u32 = 1 << 15;

/// Contents that are on their way to blocks which nobody maps yet.
#[derive(Clone, Copy, Debug)]
pub struct DataWrite {
    /// The file.
    pub inode: InodeNo,
    /// Where they will be mapped.
    pub extent: Extent,
    /// How far into the file they go.
    pub end_bytes: u64,
}

impl Volume<'_> {
    /// Takes free blocks for `bytes`, which begin at `start` and end before the next mapped block, and writes to them. May take
    /// fewer blocks than that needs: see the extent.
    pub fn start_write(&self, number: InodeNo, start: FileBlock, bytes: &[u8]) -> Result<DataWrite> {
        let inode = self.read_inode(number)?;
        let blocks = (bytes.len() as u64).div_ceil(BLOCK).min(u64::from(RUN_BLOCKS_MAX)) as u32;
        let goal = self.goal(&inode, start)?;
        let run = choose::allocate_run(self, &Wanted::near(goal, blocks))?;
        let taken_bytes = (run.blocks as usize * BLOCK_BYTES).min(bytes.len());
        let mut padded = bytes[..taken_bytes].to_vec();
        padded.resize(run.blocks as usize * BLOCK_BYTES, 0);
        self.device.write(run.start, &padded)?;
        Ok(DataWrite {
            inode: number,
            extent: Extent { file_block: start, block: run.start, blocks: run.blocks as u32, flags: 0 },
            end_bytes: start.0 * BLOCK + taken_bytes as u64,
        })
    }

    /// Behind the block before, or near the inode.
    fn goal(&self, inode: &Inode, start: FileBlock) -> Result<BlockNo> {
        if let Some(before) = start.0.checked_sub(1) {
            if let Mapping::Extent(extent) = extent_map::find(self, inode, FileBlock(before))? {
                return Ok(BlockNo(extent.block.0 + (start.0 - extent.file_block.0)));
            }
        }
        Ok(tree::place_of(&self.geometry, inode))
    }

    /// The write has ended: its blocks become the file's.
    pub fn finish_write(&self, write: &DataWrite) -> Result<TransactionId> {
        let mark = self.journal().clock().mark();
        self.note_data(write.inode, mark);
        let worst = reservation::map_written(&self.geometry, &*self.read_inode(write.inode)?);
        let mapped = self.run(worst, Class::Reserved, &mut |handle| {
            data::map_written(handle, write.inode, &write.extent, write.end_bytes, mark)
        });
        if mapped.is_err() {
            self.drop_write(write)?;
        }
        mapped.map(|((), transaction)| transaction)
    }

    /// The write has failed, or nobody wants it: its blocks are free again.
    pub fn drop_write(&self, write: &DataWrite) -> Result {
        choose::give_back_run(self, write.extent.run())
    }

    fn note_data(&self, inode: InodeNo, mark: FlushMark) {
        let mut marks = lock(&self.data_marks);
        let newest = marks.entry(inode).or_default();
        *newest = mark.max(*newest);
    }

    /// Writes `bytes` at `offset`: over what is mapped in place, else to new blocks. What a block holds beside the bytes stays.
    pub fn write_at(&self, number: InodeNo, offset: u64, bytes: &[u8]) -> Result {
        self.finish_truncation(number)?;
        let mut done = 0_usize;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = FileBlock(at / BLOCK);
            let rest = &bytes[done..];
            let inode = self.read_inode(number)?;
            done += match extent_map::find(self, &inode, start)? {
                Mapping::Extent(extent) => self.overwrite(&inode, &extent, at, rest)?,
                Mapping::Hole { blocks, .. } => self.fill_hole(&inode, start, blocks, at, rest)?,
            };
        }
        Ok(())
    }

    fn overwrite(&self, inode: &Inode, extent: &Extent, at: u64, bytes: &[u8]) -> Result<usize> {
        let block = BlockNo(extent.block.0 + (at / BLOCK - extent.file_block.0));
        let within = (at % BLOCK) as usize;
        let length = bytes.len().min(BLOCK_BYTES - within);
        let mut content = vec![0; BLOCK_BYTES];
        if extent.flags & EXTENT_UNWRITTEN != 0 {
            return Err(Error::InvalidArgument);
        }
        self.device.read(block, &mut content)?;
        content[within..within + length].copy_from_slice(&bytes[..length]);
        self.device.write(block, &content)?;
        let mark = self.journal().clock().mark();
        self.note_data(inode.number(), mark);
        let end_bytes = at + length as u64;
        if end_bytes > inode.core.size_bytes {
            let worst = reservation::set_attributes();
            self.run(worst, Class::Reserved, &mut |handle| {
                data::grow_written(handle, inode.number(), end_bytes, mark)
            })?;
        }
        Ok(length)
    }

    fn fill_hole(
        &self,
        inode: &Inode,
        start: FileBlock,
        blocks: u64,
        at: u64,
        bytes: &[u8],
    ) -> Result<usize> {
        let within = (at % BLOCK) as usize;
        let room =
            usize::try_from(blocks.min(u64::from(RUN_BLOCKS_MAX)) * BLOCK).map_err(|_| Error::TooLarge)?;
        let length = bytes.len().min(room - within);
        let mut content = vec![0; within];
        content.extend_from_slice(&bytes[..length]);
        let write = self.start_write(inode.number(), start, &content)?;
        self.finish_write(&write)?;
        Ok((write.end_bytes - start.0 * BLOCK) as usize - within)
    }

    /// The contents of a file, holes as zeros, up to its size.
    pub fn read_all(&self, number: InodeNo) -> Result<Vec<u8>> {
        let inode = self.read_inode(number)?;
        let size = usize::try_from(inode.core.size_bytes).map_err(|_| Error::FileTooLarge)?;
        let mut content = vec![0; size];
        extent_map::visit(self, &inode, &mut |extent| {
            let start = extent.file_block.0 as usize * BLOCK_BYTES;
            if extent.flags & EXTENT_UNWRITTEN == 0 && start < size {
                let mut bytes = vec![0; extent.blocks as usize * BLOCK_BYTES];
                self.device.read(extent.block, &mut bytes)?;
                let length = bytes.len().min(size - start);
                content[start..start + length].copy_from_slice(&bytes[..length]);
            }
            Ok(())
        })?;
        Ok(content)
    }

    /// Shortens or lengthens a file, whole.
    pub fn truncate(&self, number: InodeNo, size_bytes: u64) -> Result<TransactionId> {
        self.finish_truncation(number)?;
        let (mut progress, mut transaction) = self.start_truncate(number, size_bytes)?;
        while progress == Progress::More {
            (progress, transaction) = self.truncate_step(number)?;
        }
        Ok(transaction)
    }

    /// Sets a file's size, and frees what one handle may of what lies behind it. The block that the new or the old end cuts is
    /// zeroed behind it first.
    pub fn start_truncate(&self, number: InodeNo, size_bytes: u64) -> Result<(Progress, TransactionId)> {
        let inode = self.read_inode(number)?;
        let cut = size_bytes.min(inode.core.size_bytes);
        let mut mark = None;
        if cut % BLOCK != 0 {
            if let Mapping::Extent(extent) = extent_map::find(self, &inode, FileBlock(cut / BLOCK))? {
                let block = BlockNo(extent.block.0 + (cut / BLOCK - extent.file_block.0));
                let mut content = vec![0; BLOCK_BYTES];
                self.device.read(block, &mut content)?;
                content[(cut % BLOCK) as usize..].fill(0);
                self.device.write(block, &content)?;
                mark = Some(self.journal().clock().mark());
            }
        }
        let step = reservation::step(&self.geometry);
        let worst = reservation::remove(&self.geometry, &inode, step);
        self.run(worst, Class::Normal, &mut |handle| data::set_size(handle, number, size_bytes, mark, step))
    }

    /// Ends a truncation that an error or a crash has interrupted, if there is one.
    fn finish_truncation(&self, number: InodeNo) -> Result {
        let key = OrphanKey::of(&self.geometry, OrphanKind::Truncate, number)?;
        while lock(&self.orphans).get(key).is_some() {
            self.truncate_step(number)?;
        }
        Ok(())
    }

    /// Goes on with a truncation.
    pub fn truncate_step(&self, number: InodeNo) -> Result<(Progress, TransactionId)> {
        let step = reservation::step(&self.geometry);
        let worst = reservation::remove(&self.geometry, &*self.read_inode(number)?, step);
        self.run(worst, Class::Reserved, &mut |handle| data::truncate_step(handle, number, step))
    }

    /// Makes everything that was done to a file, its contents and its name durable.
    pub fn fsync(&self, number: InodeNo) -> Result {
        self.commit()?;
        self.flush_contents(number)
    }

    /// The same of its contents and its size, which last changed in `changed_in`: what was overwritten in place needs no record.
    pub fn fdatasync(&self, number: InodeNo, changed_in: TransactionId) -> Result {
        if self.journal().stable_transaction() < changed_in {
            self.commit()?;
        }
        self.flush_contents(number)
    }

    /// What has to be flushed for what was last written to a file.
    pub(crate) fn data_mark(&self, number: InodeNo) -> Option<FlushMark> {
        lock(&self.data_marks).get(&number).copied()
    }

    fn flush_contents(&self, number: InodeNo) -> Result {
        let covered = self.data_mark(number).is_none_or(|mark| self.journal().clock().covers(mark));
        if covered {
            return Ok(());
        }
        self.flush()
    }
}
