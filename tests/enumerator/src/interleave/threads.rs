// SPDX-License-Identifier: GPL-2.0

//! The threads of a script: operations in parts, with the locks that the VFS and the filesystem hold meanwhile, and the
//! model beside them.
//!
//! A handle is opened, and the operation done in its private copies, in one step; it closes in another. Inodes that it
//! changes are locked from one to the other. A file's contents are locked from the submission of a write to the handle that
//! maps it, and against truncation and removal.

use super::machine::{told, Machine, Told};
use super::medium::Request;
use super::prepared::{content, find, long_target, new_inode, parent_of};
use super::scripts::{Name, Operation};
use super::Flusher;
use crate::disk::Write;
use crate::model::{Mapped, Node};
use cairnfs_core::error::{Error, Result as CoreResult};
use cairnfs_core::extent_map::{self, Mapping};
use cairnfs_core::format::extent::Extent;
use cairnfs_core::handle::{Environment as _, Handle};
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::reservation::Worst;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::{create, data, link, remove, reservation};
use cairnfs_core::space::choose::{self, Wanted};
use cairnfs_core::tree;
use cairnfs_core::units::{BlockNo, FileBlock, FlushNo, InodeNo, BLOCK_BYTES};
use std::hash::Hash;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What a handle changes in the model when it closes.
#[derive(Clone, Debug, Hash)]
enum Effect {
    Created { parent: u64, name: Name, number: u64, mode: u16 },
    Unlinked { parent: u64, name: Name },
    Removed { number: u64 },
    Mapped { file: Name, number: u64, extent: Run },
    Truncated { file: Name, number: u64, blocks: u64 },
}

/// Contents on their way to new blocks.
#[derive(Clone, Copy, Debug, Hash)]
struct Run {
    start: u64,
    home: u64,
    blocks: u32,
    mapping: u64,
}

/// Where a thread stands in its operation.
enum Phase<'v> {
    Idle,
    /// Contents are under way; `true`: to new blocks.
    Writing(Run, bool),
    /// They have completed, and are to be mapped.
    Written(Run, FlushMark),
    /// A handle is open: how many had closed before, and what it will have done.
    Open {
        handle: Box<Handle<'v>>,
        after: usize,
        effect: Effect,
    },
    /// `fsync` waits for its own flush.
    Flushing(FlushNo),
}

/// A thread.
pub(super) struct Thread<'v> {
    operations: &'static [Operation],
    next: usize,
    phase: Phase<'v>,
}

/// What is locked: an inode, or a file's contents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    Inode(Option<Name>),
    Contents(Name),
    /// Whatever has no name: there is one thread that frees.
    Orphan,
}

impl Thread<'_> {
    /// A thread before its first operation.
    pub(super) const fn new(operations: &'static [Operation]) -> Self {
        Self { operations, next: 0, phase: Phase::Idle }
    }

    fn operation(&self) -> Option<Operation> {
        self.operations.get(self.next).copied()
    }

    fn held(&self) -> Vec<Lock> {
        match (self.operation(), &self.phase) {
            (None, _) | (_, Phase::Idle | Phase::Flushing(_)) => Vec::new(),
            (Some(operation), Phase::Writing(..) | Phase::Written(..)) => match operation {
                Operation::Write(file, ..) | Operation::Overwrite(file, _) => vec![Lock::Contents(file)],
                _ => Vec::new(),
            },
            (Some(operation), Phase::Open { .. }) => wanted(operation, true),
        }
    }

    /// The flush that it waits for, or when its contents completed.
    pub(super) const fn flush_or_mark(&self) -> Option<FlushMark> {
        match &self.phase {
            Phase::Written(_, number) | Phase::Flushing(number) => Some(*number),
            _ => None,
        }
    }

    /// Adds to a hash what tells this thread from others, but for the clock of flushes.
    pub(super) fn add_to(&self, hasher: &mut Xxh3) {
        self.next.hash(hasher);
        match &self.phase {
            Phase::Idle => 0.hash(hasher),
            Phase::Writing(run, is_new) => (1, run, is_new).hash(hasher),
            Phase::Written(run, _) => (2, run).hash(hasher),
            Phase::Open { after, effect, .. } => (3, after, effect).hash(hasher),
            Phase::Flushing(_) => 4.hash(hasher),
        }
    }
}

/// The locks of an operation's first step, or with `maps` of its handle.
fn wanted(operation: Operation, maps: bool) -> Vec<Lock> {
    match operation {
        Operation::Create(parent, _) => vec![Lock::Inode(parent)],
        Operation::MakeDirectory(_) | Operation::LongSymlink(_) => vec![Lock::Inode(None)],
        Operation::Unlink(parent, name) => vec![Lock::Inode(parent), Lock::Inode(Some(name))],
        Operation::RemoveOrphan => vec![Lock::Orphan],
        Operation::Write(file, ..) if maps => vec![Lock::Contents(file), Lock::Inode(Some(file))],
        Operation::Write(file, ..) | Operation::Overwrite(file, _) => vec![Lock::Contents(file)],
        Operation::Truncate(file, _) => vec![Lock::Contents(file), Lock::Inode(Some(file))],
        Operation::Fsync(_) => Vec::new(),
    }
}

impl<'v> Machine<'v> {
    fn is_free(&self, thread: u8, locks: &[Lock]) -> bool {
        let others = self.threads.iter().enumerate().filter(|(index, _)| *index != usize::from(thread));
        !others.flat_map(|(_, other)| other.held()).any(|held| locks.contains(&held))
    }

    fn orphan(&self) -> Option<u64> {
        self.tree.nodes.iter().find(|(_, node)| node.links == 0).map(|(number, _)| *number)
    }

    pub(super) fn thread_may_go_on(&mut self, number: u8) -> bool {
        let thread = &self.threads[usize::from(number)];
        let Some(operation) = thread.operation() else { return false };
        match &thread.phase {
            Phase::Writing(..) => false,
            Phase::Open { .. } | Phase::Flushing(_) => true,
            Phase::Written(..) => self.is_free(number, &wanted(operation, true)),
            Phase::Idle => match operation {
                Operation::RemoveOrphan => self.orphan().is_some() && self.is_free(number, &[Lock::Orphan]),
                Operation::Fsync(file) => {
                    let stable = self.volume.journal().stable_transaction();
                    self.changed_by.get(file).is_none_or(|transaction| *transaction <= stable)
                }
                _ => self.is_free(number, &wanted(operation, false)),
            },
        }
    }

    pub(super) fn thread_goes_on(&mut self, number: u8) -> Told {
        let thread = &mut self.threads[usize::from(number)];
        let operation = thread.operation().ok_or("the thread has ended")?;
        match std::mem::replace(&mut thread.phase, Phase::Idle) {
            Phase::Open { handle, effect, .. } => self.close(number, *handle, &effect),
            Phase::Flushing(flush) => {
                self.medium.end_flush(Flusher::Thread(number));
                self.volume.journal().clock().complete(flush);
                Ok(())
            }
            Phase::Written(run, mark) => self.open_map(number, operation, run, mark),
            Phase::Writing(..) => Err("its contents are under way".into()),
            Phase::Idle => match operation {
                Operation::Write(file, start, blocks) => self.start_write(number, file, start, blocks),
                Operation::Overwrite(file, block) => self.start_overwrite(number, file, block),
                Operation::Fsync(file) => self.fsync(number, file),
                _ => self.open(number, operation),
            },
        }
    }

    fn advance(&mut self, number: u8) {
        self.threads[usize::from(number)].next += 1;
    }

    /// Reserves room and opens a handle; does `work` in it. A shortage leaves everything as it was.
    fn open_with(
        &mut self,
        number: u8,
        worst: Worst,
        class: Class,
        work: impl FnOnce(&mut Handle<'v>) -> CoreResult<Effect>,
    ) -> Told {
        let reserved = self.volume.journal().reserve(worst.bytes(), class);
        let reservation = match reserved {
            Ok(reservation) => reservation,
            Err(error) if Self::is_shortage(error) => return Ok(()),
            Err(error) => return Err(format!("{error:?}")),
        };
        let mut handle = Box::new(Handle::new(self.volume, reservation));
        match work(&mut handle) {
            Ok(effect) => {
                let after = self.closed.len();
                self.threads[usize::from(number)].phase = Phase::Open { handle, after, effect };
                Ok(())
            }
            Err(error) if Self::is_shortage(error) => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn open(&mut self, number: u8, operation: Operation) -> Told {
        let volume = self.volume;
        match operation {
            Operation::Create(parent, name) => {
                let parent = parent_of(volume, parent)?;
                self.open_create(number, parent, name, 0o100_644)
            }
            Operation::MakeDirectory(name) => {
                self.open_create(number, InodeNo(crate::model::ROOT), name, 0o040_755)
            }
            Operation::LongSymlink(name) => {
                self.open_create(number, InodeNo(crate::model::ROOT), name, 0o120_777)
            }
            Operation::Unlink(parent, name) => {
                let parent = parent_of(volume, parent)?;
                if told(volume.lookup(parent, name.as_bytes()))?.is_none() {
                    let node = self.tree.node(parent.0).ok_or("the model has no such directory")?;
                    if node.entries.contains_key(name.as_bytes()) {
                        return Err(format!("{name} is not found"));
                    }
                    self.advance(number);
                    return Ok(());
                }
                let worst = reservation::unlink(&*told(volume.read_inode(parent))?);
                self.open_with(number, worst, Class::Normal, |handle| {
                    link::unlink(handle, parent, name.as_bytes())?;
                    Ok(Effect::Unlinked { parent: parent.0, name })
                })
            }
            Operation::RemoveOrphan => {
                let step = reservation::step(volume.layout());
                let orphan = InodeNo(self.orphan().ok_or("there is no orphan")?);
                let worst = reservation::remove(volume.layout(), &*told(volume.read_inode(orphan))?, step);
                self.open_with(number, worst, Class::Reserved, |handle| {
                    expect_done(remove::remove_step(handle, orphan, step)?)?;
                    Ok(Effect::Removed { number: orphan.0 })
                })
            }
            Operation::Truncate(file, blocks) => {
                let step = reservation::step(volume.layout());
                let inode = find(volume, file)?;
                let worst = reservation::remove(volume.layout(), &*told(volume.read_inode(inode))?, step);
                self.open_with(number, worst, Class::Normal, |handle| {
                    expect_done(data::set_size(handle, inode, blocks * BLOCK, None, step)?)?;
                    Ok(Effect::Truncated { file, number: inode.0, blocks })
                })
            }
            Operation::Write(..) | Operation::Overwrite(..) | Operation::Fsync(_) => {
                Err("it begins without a handle".into())
            }
        }
    }

    fn open_create(&mut self, number: u8, parent: InodeNo, name: Name, mode: u16) -> Told {
        let worst = reservation::create(&*told(self.volume.read_inode(parent))?);
        let target = (mode & 0o170_000 == 0o120_000).then(long_target);
        self.open_with(number, worst, Class::Normal, |handle| {
            let new = new_inode(mode);
            let inode = create::create(handle, parent, name.as_bytes(), &new, target.as_deref())?;
            Ok(Effect::Created { parent: parent.0, name, number: inode.0, mode })
        })
    }

    fn open_map(&mut self, number: u8, operation: Operation, run: Run, mark: FlushMark) -> Told {
        let Operation::Write(file, ..) = operation else { return Err("it is no write".into()) };
        let volume = self.volume;
        let inode = find(volume, file)?;
        let worst = reservation::map_written(volume.layout(), &*told(volume.read_inode(inode))?);
        let extent = Extent {
            file_block: FileBlock(run.start),
            block: BlockNo(run.home),
            blocks: run.blocks,
            flags: 0,
        };
        let end_bytes = (run.start + u64::from(run.blocks)) * BLOCK;
        self.threads[usize::from(number)].phase = Phase::Written(run, mark);
        self.open_with(number, worst, Class::Reserved, |handle| {
            data::map_written(handle, inode, &extent, end_bytes, mark)?;
            Ok(Effect::Mapped { file, number: inode.0, extent: run })
        })
    }

    fn close(&mut self, number: u8, handle: Handle<'v>, effect: &Effect) -> Told {
        let closed = told(handle.close())?;
        self.advance(number);
        self.follow(effect, closed.transaction);
        self.closed(number, closed.transaction, !closed.stale_blocks.is_empty())
    }

    /// The model does what the handle has done.
    fn follow(&mut self, effect: &Effect, transaction: cairnfs_core::units::TransactionId) {
        match effect {
            Effect::Created { parent, name, number, mode } => {
                let mut node = Node::new(self.record.history.identity(), *mode, *parent);
                let is_directory = node.is_directory();
                if *mode & 0o170_000 == 0o120_000 {
                    node.target = long_target();
                    node.size_bytes = node.target.len() as u64;
                }
                self.tree.nodes.insert(*number, Arc::new(node));
                let directory = self.tree.node_mut(*parent);
                directory.entries.insert(name.as_bytes().to_vec(), *number);
                directory.links += u32::from(is_directory);
            }
            Effect::Unlinked { parent, name } => {
                if let Some(number) = self.tree.node_mut(*parent).entries.remove(name.as_bytes()) {
                    self.tree.drop_name(number);
                }
            }
            Effect::Removed { number } => _ = self.tree.nodes.remove(number),
            Effect::Mapped { file, number, extent } => {
                let node = self.tree.node_mut(*number);
                let end = extent.start + u64::from(extent.blocks);
                let mapped = Mapped { mapping: extent.mapping, floor: 0 };
                node.blocks.extend((extent.start..end).map(|block| (block, mapped)));
                node.size_bytes = node.size_bytes.max(end * BLOCK);
                self.changed_by.insert(file, transaction);
            }
            Effect::Truncated { file, number, blocks } => {
                let node = self.tree.node_mut(*number);
                node.size_bytes = blocks * BLOCK;
                node.blocks.retain(|block, _| block < blocks);
                self.changed_by.insert(file, transaction);
            }
        }
    }

    /// Takes free blocks, and submits contents to them.
    fn start_write(&mut self, number: u8, file: Name, start: u64, blocks: u64) -> Told {
        let volume = self.volume;
        let inode = told(volume.read_inode(find(volume, file)?))?;
        let goal = tree::place_of(volume.layout(), &inode);
        let run = match choose::allocate_run(volume, &Wanted::near(goal, blocks as u32)) {
            Ok(run) => run,
            Err(error) if Self::is_shortage(error) => return Ok(()),
            Err(error) => return Err(format!("{error:?}")),
        };
        let mapping = self.record.history.identity();
        let run = Run { start, home: run.start.0, blocks: run.blocks as u32, mapping };
        self.submit(number, run, true)
    }

    /// Writes a block in place.
    fn start_overwrite(&mut self, number: u8, file: Name, block: u64) -> Told {
        let volume = self.volume;
        let inode = told(volume.read_inode(find(volume, file)?))?;
        let Mapping::Extent(extent) = told(extent_map::find(volume, &inode, FileBlock(block)))? else {
            self.advance(number);
            return Ok(());
        };
        let node = self.tree.node(inode.number().0).ok_or("the model has no such file")?;
        let mapping = node.blocks.get(&block).ok_or("the model has no such block")?.mapping;
        let home = extent.block.0 + (block - extent.file_block.0);
        self.submit(number, Run { start: block, home, blocks: 1, mapping }, false)
    }

    fn submit(&mut self, number: u8, run: Run, is_new: bool) -> Told {
        let mut bytes = Vec::new();
        for block in run.start..run.start + u64::from(run.blocks) {
            let version = self.record.history.of(run.mapping, block).len() as u64;
            let content = content(16 + u64::from(number) * 16 + version, block);
            self.record.history.wrote(run.mapping, block, self.taken.len(), Arc::new(content));
            bytes.extend_from_slice(&content);
        }
        let write = Write { start_byte: run.home * BLOCK, bytes: bytes.into(), durable: false };
        self.medium.submit(Request::Data(number), vec![write])?;
        self.threads[usize::from(number)].phase = Phase::Writing(run, is_new);
        Ok(())
    }

    pub(super) fn data_completed(&mut self, number: u8) -> Told {
        let mark = self.volume.journal().clock().mark();
        let thread = &mut self.threads[usize::from(number)];
        let (Some(Operation::Write(file, ..) | Operation::Overwrite(file, _)), Phase::Writing(run, is_new)) =
            (thread.operation(), &thread.phase)
        else {
            return Err("no contents were under way".into());
        };
        let (run, is_new) = (*run, *is_new);
        thread.phase = if is_new { Phase::Written(run, mark) } else { Phase::Idle };
        self.data_marks.insert(file, mark);
        self.marks.push(mark);
        for block in run.start..run.start + u64::from(run.blocks) {
            let newest = self.record.history.of(run.mapping, block).len() - 1;
            self.completed.insert((run.mapping, block), newest);
        }
        if !is_new {
            self.advance(number);
        }
        Ok(())
    }

    /// Everything of the file is stable; its contents may still need a flush.
    fn fsync(&mut self, number: u8, file: Name) -> Told {
        let mark = self.data_marks.get(file).copied();
        let is_covered = mark.is_none_or(|mark| self.volume.journal().clock().covers(mark));
        if !is_covered {
            let flush = self.volume.journal().clock().start();
            self.medium.start_flush(Flusher::Thread(number));
            self.threads[usize::from(number)].phase = Phase::Flushing(flush);
            return Ok(());
        }
        let inode = find(self.volume, file)?;
        let node = self.tree.node(inode.0).ok_or("the model has no such file")?;
        let newest = |(block, mapped): (&u64, &Mapped)| {
            let key = (mapped.mapping, *block);
            (key.0, key.1, self.completed.get(&key).copied().unwrap_or(0))
        };
        let data = node.blocks.iter().map(newest).collect();
        self.promise_stable(data);
        self.advance(number);
        Ok(())
    }
}

/// The scripts' files are so small that one step is enough.
fn expect_done(progress: data::Progress) -> CoreResult {
    match progress {
        data::Progress::Done => Ok(()),
        data::Progress::More => Err(Error::TooLarge),
    }
}
