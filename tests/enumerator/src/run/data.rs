// SPDX-License-Identifier: GPL-2.0

//! Actions on contents and sizes: what was written, and when, goes into the history by which contents are judged.

use super::{pick, told, InFlight, Run, Told};
use crate::model::{Content, Mapped, Node};
use cairnfs_core::error::Error;
use cairnfs_core::operation::data::Progress;
use cairnfs_core::units::{FileBlock, InodeNo, BLOCK_BYTES};
use std::sync::Arc;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Blocks of a file in which actions write.
const FILE_BLOCKS: u64 = 24;

fn content_of(identity: u64, block: u64) -> Content {
    let mut content = [0; BLOCK_BYTES];
    for (word, place) in content.chunks_exact_mut(8).enumerate() {
        // File, version and block, spread over all bits; never zero.
        let value = (identity << 24) ^ (block << 12) ^ (word as u64);
        place.copy_from_slice(&(value.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).to_le_bytes());
    }
    Arc::new(content)
}

impl Run<'_> {
    /// A regular file with no contents on their way: truncation waits for those.
    pub(super) fn quiet_file(&self, choice: u32) -> Option<u64> {
        let files = self.tree.select(Node::is_regular);
        let quiet: Vec<u64> = files
            .into_iter()
            .filter(|number| !self.in_flight.iter().any(|write| write.number == *number))
            .collect();
        pick(&quiet, choice)
    }

    /// The block that an end cuts is zeroed behind it: a new version, which the new state depends on.
    fn zero_tail(&mut self, number: u64, cut: u64, event: usize) {
        let block = cut / BLOCK;
        let Some(mapped) = self.tree.node(number).and_then(|node| node.blocks.get(&block)).copied() else {
            return;
        };
        if cut.is_multiple_of(BLOCK) {
            return;
        }
        let versions = self.history.of(mapped.mapping, block);
        let Some((_, latest)) = versions.last() else { return };
        let mut content = **latest;
        content[(cut % BLOCK) as usize..].fill(0);
        let floor = versions.len();
        self.history.wrote(mapped.mapping, block, event, Arc::new(content));
        self.tree.node_mut(number).blocks.insert(block, Mapped { floor, ..mapped });
    }

    fn set_size(&mut self, number: u64, size_bytes: u64) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let old = self.tree.node(number).map_or(0, |node| node.size_bytes);
        let event = self.disk.events();
        let before = self.tree.clone();
        let outcome = self.volume.start_truncate(InodeNo(number), size_bytes);
        self.zero_tail(number, size_bytes.min(old), event);
        let Ok((mut progress, transaction)) = outcome else {
            self.tree = before;
            told(outcome)?;
            return Ok(false);
        };
        let step = self.steps.len();
        let node = self.tree.node_mut(number);
        node.contents_changed = (step, transaction);
        node.size_bytes = size_bytes;
        node.blocks.retain(|block, _| block * BLOCK < size_bytes);
        self.step()?;
        while progress == Progress::More {
            (progress, _) = told(self.volume.truncate_step(InodeNo(number)))?;
            self.step()?;
        }
        Ok(true)
    }

    pub(super) fn shrink(&mut self, choice: u32, size: u32) -> Told<bool> {
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        let old = self.tree.node(number).map_or(0, |node| node.size_bytes);
        let wanted = if size.is_multiple_of(3) { u64::from(size) * BLOCK } else { u64::from(size) };
        self.set_size(number, wanted % (old + 1))
    }

    pub(super) fn grow(&mut self, choice: u32, more: u32) -> Told<bool> {
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        let old = self.tree.node(number).map_or(0, |node| node.size_bytes);
        self.set_size(number, old + u64::from(more) % (5 * BLOCK))
    }

    pub(super) fn start_write(&mut self, choice: u32, start: u32, length: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(Node::is_regular), choice) else { return Ok(false) };
        self.start_write_of(
            number,
            u64::from(start) % FILE_BLOCKS,
            u64::from(length) % 6 + 1,
            u64::from(length / 6) % 5 * 700,
        )
    }

    fn start_write_of(&mut self, number: u64, start: u64, blocks: u64, short_bytes: u64) -> Told<bool> {
        let node = self.tree.node(number).ok_or("no file")?;
        let is_free = |block: u64| {
            let on_its_way = self.in_flight.iter().any(|write| {
                let extent = &write.write.extent;
                write.number == number
                    && (extent.file_block.0..extent.file_block.0 + u64::from(extent.blocks)).contains(&block)
            });
            !node.blocks.contains_key(&block) && !on_its_way
        };
        let blocks = (start..start + blocks).take_while(|block| is_free(*block)).count() as u64;
        if blocks == 0 {
            return Ok(false);
        }
        let mapping = self.history.identity();
        let contents: Vec<Content> =
            (start..start + blocks).map(|block| content_of(mapping, block)).collect();
        let mut bytes: Vec<u8> = contents.iter().flat_map(|content| content.iter().copied()).collect();
        bytes.truncate(bytes.len() - short_bytes as usize);
        let event = self.disk.events();
        let write = match self.volume.start_write(InodeNo(number), FileBlock(start), &bytes) {
            Ok(write) => write,
            Err(Error::NoSpace) => return Ok(false),
            Err(error) => return Err(format!("{error:?}")),
        };
        bytes.resize(contents.len() * BLOCK_BYTES, 0);
        for (index, content) in bytes.chunks_exact(BLOCK_BYTES).take(write.extent.blocks as usize).enumerate()
        {
            let content: [u8; BLOCK_BYTES] = content.try_into().map_err(|_| "a block")?;
            self.history.wrote(mapping, start + index as u64, event, Arc::new(content));
        }
        self.in_flight.push(InFlight { write, number, mapping });
        Ok(true)
    }

    pub(super) fn finish_write(&mut self, choice: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        if self.in_flight.is_empty() {
            return Ok(false);
        }
        let InFlight { write, number, mapping } =
            self.in_flight.swap_remove(choice as usize % self.in_flight.len());
        let transaction = match self.volume.finish_write(&write) {
            Ok(transaction) => transaction,
            Err(Error::NoSpace) if self.is_nearly_full() => return Ok(true),
            Err(error) => return Err(format!("{error:?}")),
        };
        let step = self.steps.len();
        let node = self.tree.node_mut(number);
        node.contents_changed = (step, transaction);
        for index in 0..u64::from(write.extent.blocks) {
            node.blocks.insert(write.extent.file_block.0 + index, Mapped { mapping, floor: 0 });
        }
        node.size_bytes = node.size_bytes.max(write.end_bytes);
        self.step()?;
        Ok(true)
    }

    pub(super) fn overwrite(&mut self, choice: u32, block: u32, length: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        let node = self.tree.node(number).ok_or("no file")?;
        let blocks: Vec<u64> = node.blocks.keys().copied().collect();
        let Some(block) = pick(&blocks, block) else { return Ok(false) };
        let mapped = node.blocks[&block];
        let in_file = (node.size_bytes - block * BLOCK).min(BLOCK);
        let length = match length % 4 {
            0 => BLOCK,
            1 => 1 + u64::from(length / 4) % in_file,
            _ => in_file,
        };
        let versions = self.history.of(mapped.mapping, block);
        let mut content = **versions.last().map(|(_, content)| content).ok_or("no version")?;
        let version = versions.len();
        let identity = self.history.identity();
        content[..length as usize].copy_from_slice(&content_of(identity, block)[..length as usize]);
        let event = self.disk.events();
        told(self.volume.write_at(InodeNo(number), block * BLOCK, &content[..length as usize]))?;
        self.history.wrote(mapped.mapping, block, event, Arc::new(content));
        if length > in_file {
            let node = self.tree.node_mut(number);
            node.size_bytes = block * BLOCK + length;
            node.blocks.insert(block, Mapped { floor: version, ..mapped });
            self.step()?;
        }
        Ok(true)
    }

    /// Writes every second block of a file.
    pub(super) fn fragment(&mut self, choice: u32, extents: u32) -> Told<bool> {
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        for index in 0..u64::from(extents) {
            self.end_commit_if_crowded()?;
            if self.start_write_of(number, index * 2, 1, 0)? {
                let last = self.in_flight.len() - 1;
                self.finish_write(last as u32)?;
            }
        }
        Ok(true)
    }

    /// Writes blocks of two files in turn, so that they alternate on the disk; flushed so often that no cut has many
    /// volatile writes to choose from, and synced so rarely that the ring needs no checkpoint.
    pub(super) fn checkerboard(&mut self, choices: [u32; 2], blocks: u32) -> Told<bool> {
        const SYNC_EVERY: u64 = 16;
        for index in 0..u64::from(blocks) {
            for choice in choices {
                let Some(number) = self.quiet_file(choice) else { return Ok(false) };
                if self.start_write_of(number, index, 1, 0)? {
                    let last = self.in_flight.len() - 1;
                    self.finish_write(last as u32)?;
                }
            }
            told(self.volume.flush())?;
            if index % SYNC_EVERY == SYNC_EVERY - 1 {
                self.sync()?;
            }
        }
        Ok(true)
    }
}
