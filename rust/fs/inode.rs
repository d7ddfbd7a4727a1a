// SPDX-License-Identifier: GPL-2.0

//! Inodes: from core's to VFS', names to inodes, targets of symbolic links; and the lock that guards core's copy.
//!
//! VFS' inode has what VFS looks at; core's copy has the rest: the roots of the trees, attributes, birth. Closing a handle renews
//! both. VFS may let go of an inode whose change is not at home yet: the journal keeps its image, and [`get`] finds it there.
//!
//! Locks: `InodeData::state`, in the order of the inodes' numbers where several are needed, inside an open handle; readers hold it
//! while they follow a tree. For a directory, VFS' own lock comes before.

#![forbid(unsafe_code)]

use crate::extended_attributes;
use crate::module::Cairnfs;
use crate::mounted::Mounted;
use cairnfs_core::directory;
use cairnfs_core::error::{corrupt, Check, Error};
use cairnfs_core::format::inode::{
    self as format, MapKind, FLAG_APPEND, FLAG_DIRECTORY_SYNC, FLAG_IMMUTABLE, FLAG_NO_ATIME, FLAG_NO_DUMP,
    FLAG_SYNC, MODE_DIRECTORY, MODE_REGULAR, MODE_SYMLINK, MODE_TYPE,
};
use cairnfs_core::handle::{Closed, Environment as _};
use cairnfs_core::inode::Inode as CoreInode;
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::memory::{List, Owned};
use cairnfs_core::pending::Pending;
use cairnfs_core::symlink;
use cairnfs_core::units::{
    blocks_for_bytes, FileBlock, FlushNo, InodeNo, TransactionId, BLOCK_BYTES, SECTOR_BYTES,
};
use cairnfs_linux::inode::{Attributes, Flags, Found, Inode, Kind, Parameters};
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::new_rw_semaphore;
use cairnfs_linux::rw_semaphore::{RwSemaphore, WriteGuard};
use cairnfs_linux::super_block::SuperBlock;
use cairnfs_linux::symlink::Target;
use cairnfs_linux::time::Time;
use cairnfs_linux::xattr::NameList;
use core::ops::RangeBounds;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::types::ARef;

const BLOCK_SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

/// VFS' inode of this filesystem.
pub(crate) type VfsInode = Inode<Cairnfs>;

/// What an inode's lock guards.
pub(crate) struct State {
    /// The inode as closed handles left it.
    pub(crate) inode: Owned<CoreInode>,
    /// A regular file's blocks that no extent maps yet.
    pub(crate) pending: Pending,
}

/// What the filesystem keeps of an inode in memory.
#[pin_data]
pub(crate) struct InodeData {
    #[pin]
    pub(crate) state: RwSemaphore<State>,
    /// Raised whenever a block of the file is somewhere else than before: a mapping that was given out is void then.
    sequence: AtomicU64,
    /// The block, plus one, that the newest truncation cut into, and the transaction with it. 0: none.
    cut_block: AtomicU64,
    cut_in: AtomicU64,
    /// The block, plus one, in which bytes behind the end of the file may be anything on the device: that of the newest truncation, or
    /// of the end that was found there. Whoever moves the end beyond that block has it written before. 0: none.
    stale_tail: AtomicU64,
    /// The file was cut to nothing: what replaces its contents goes out when it is closed.
    pub(crate) was_emptied: AtomicBool,
    /// The transaction with its newest change: what fsync waits for. 0: everything is durable.
    changed_in: AtomicU64,
    /// The same, changes of times excepted: what fdatasync waits for.
    contents_changed_in: AtomicU64,
    /// The flush mark of its newest contents, plus one. 0: they were durable before the mount.
    data_mark: AtomicU64,
}

impl InodeData {
    /// An inode that was last changed by `changed_in`, with contents that completed at `mark`.
    pub(crate) fn new(
        inode: Owned<CoreInode>,
        changed_in: TransactionId,
        mark: Option<FlushMark>,
    ) -> impl PinInit<Self, kernel::error::Error> {
        let core = &inode.core;
        let has_tail =
            core.mode & MODE_TYPE == MODE_REGULAR && !core.size_bytes.is_multiple_of(BLOCK_BYTES as u64);
        let stale_tail = if has_tail { blocks_for_bytes(core.size_bytes) } else { 0 };
        let state = State { inode, pending: Pending::new() };
        let (transaction, mark) = (changed_in.0, mark.map_or(0, |mark| mark.0.saturating_add(1)));
        try_pin_init!(Self {
            state <- new_rw_semaphore!(state, "InodeData::state"),
            sequence: AtomicU64::new(0),
            cut_block: AtomicU64::new(0),
            cut_in: AtomicU64::new(0),
            stale_tail: AtomicU64::new(stale_tail),
            was_emptied: AtomicBool::new(false),
            changed_in: AtomicU64::new(transaction),
            contents_changed_in: AtomicU64::new(transaction),
            data_mark: AtomicU64::new(mark),
        })
    }

    /// A copy of the inode.
    pub(crate) fn copy(&self) -> cairnfs_core::error::Result<Owned<CoreInode>> {
        without_filesystem_reclaim(|| self.state.read().inode.try_clone())
    }

    /// The present sequence of its mapping.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Mappings that were given out are void.
    pub(crate) fn raise_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }

    /// What fsync waits for; with `data_only`, fdatasync.
    pub(crate) fn newest_change(&self, data_only: bool) -> TransactionId {
        let number = if data_only { &self.contents_changed_in } else { &self.changed_in };
        TransactionId(number.load(Ordering::Acquire))
    }

    /// A truncation that `transaction` holds has cut into `block`. (Of two, the earlier one's block was written, or is gone.)
    pub(crate) fn note_cut(&self, block: FileBlock, transaction: TransactionId) {
        self.cut_in.store(transaction.0, Ordering::Release);
        self.cut_block.store(block.0.saturating_add(1), Ordering::Release);
        self.stale_tail.store(block.0.saturating_add(1), Ordering::Release);
    }

    /// The block with the end of the file, if bytes behind that may be anything on the device.
    pub(crate) fn stale_tail(&self) -> Option<FileBlock> {
        self.stale_tail.load(Ordering::Acquire).checked_sub(1).map(FileBlock)
    }

    /// These blocks have been written, and what lies behind the end with them; or they have been cut off.
    pub(crate) fn end_stale_tail(&self, blocks: impl RangeBounds<FileBlock>) {
        if let Some(tail) = self.stale_tail().filter(|tail| blocks.contains(tail)) {
            let stale = tail.0.saturating_add(1);
            // Where a later truncation has named another block, that one stays.
            let _ = self.stale_tail.compare_exchange(stale, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// The block that the newest truncation cut into.
    pub(crate) fn cut_block(&self) -> Option<FileBlock> {
        self.cut_block.load(Ordering::Acquire).checked_sub(1).map(FileBlock)
    }

    /// The transaction that must be durable before that block is overwritten.
    pub(crate) fn cut_in(&self) -> TransactionId {
        TransactionId(self.cut_in.load(Ordering::Acquire))
    }

    /// When its newest contents completed.
    pub(crate) fn data_mark(&self) -> Option<FlushMark> {
        self.data_mark.load(Ordering::Acquire).checked_sub(1).map(FlushNo)
    }

    /// Contents have been written, and completed at `mark`.
    pub(crate) fn note_data(&self, mark: FlushMark) {
        self.data_mark.fetch_max(mark.0.saturating_add(1), Ordering::AcqRel);
    }
}

/// What a handle changes of inodes that VFS has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Anything.
    All,
    /// Times only: fdatasync need not wait for it.
    Times,
}

/// The most inodes that an operation locks: two directories, what moves, what it replaces.
const LOCKED_MAX: usize = 4;

/// Inodes that a handle is going to change.
pub(crate) struct Locked<'a> {
    inodes: [Option<(&'a VfsInode, WriteGuard<'a, State>)>; LOCKED_MAX],
}

impl<'a> Locked<'a> {
    /// Locks them, in the order of their numbers; one that is named twice is locked once.
    pub(crate) fn lock(inodes: &[&'a VfsInode]) -> Self {
        let mut locked = Self { inodes: [const { None }; LOCKED_MAX] };
        let mut before = 0;
        for (level, place) in (0..).zip(&mut locked.inodes) {
            let next = inodes.iter().filter(|inode| inode.number() > before);
            let Some(inode) = next.min_by_key(|inode| inode.number()) else {
                break;
            };
            before = inode.number();
            *place = Some((*inode, inode.data().state.write_nested(level)));
        }
        locked
    }

    /// The handle has closed: the copies, here and in VFS' inodes, become what it left.
    pub(crate) fn install(&mut self, closed: &mut Closed, scope: Scope) {
        let transaction = closed.transaction.0;
        for (vfs, state) in self.inodes.iter_mut().flatten() {
            let Some(new) = closed.inodes.remove(InodeNo(vfs.number())) else {
                continue;
            };
            refresh(vfs, &new);
            let data = vfs.data();
            data.changed_in.fetch_max(transaction, Ordering::AcqRel);
            if scope == Scope::All {
                data.contents_changed_in.fetch_max(transaction, Ordering::AcqRel);
            }
            state.inode = new;
        }
    }
}

/// Brings VFS' copy up to date. A regular file's size is VFS' own business: it is ahead of ours while data is under way.
pub(crate) fn refresh(vfs: &VfsInode, inode: &CoreInode) {
    let core = &inode.core;
    vfs.set_mode(core.mode);
    vfs.set_owner(core.uid, core.gid);
    vfs.set_links(core.links);
    vfs.set_times(
        Time::from_ns(core.accessed_ns),
        Time::from_ns(core.modified_ns),
        Time::from_ns(core.changed_ns),
    );
    vfs.set_sectors(core.blocks.saturating_mul(BLOCK_SECTORS));
    if core.is_directory() {
        vfs.set_size(i64::try_from(core.size_bytes).unwrap_or(i64::MAX));
    }
}

/// The inode with this number, which something that was read names.
pub(crate) fn get(super_block: &SuperBlock<Cairnfs>, number: InodeNo) -> Result<ARef<VfsInode>> {
    let new = match super_block.get_or_create_inode(number.0)? {
        Found::Cached(inode) => return Ok(inode),
        Found::New(new) => new,
    };
    let mounted = super_block.data();
    // A truncation that an error has interrupted is now its user's to finish.
    mounted.hold_found_orphan(number);
    let found = read(mounted, number).map_err(|error| mounted.errno(error));
    let found = found.and_then(|inode| Ok((parameters(mounted, &inode)?, inode)));
    // It does not come into memory then, and nobody would let go of it.
    let (parameters, inode) = found.inspect_err(|_| mounted.inode_is_gone(number))?;
    // It may have been changed, and written to, before VFS let go of it the last time.
    let (changed_in, mark) = mounted
        .journaling
        .locked(|state| (state.journal.newest_change(number).unwrap_or(TransactionId(0)), state.newest_data));
    new.init(parameters, InodeData::new(inode, changed_in, mark))
}

/// What VFS wants to know of an inode.
fn parameters(mounted: &Mounted, inode: &CoreInode) -> Result<Parameters> {
    let is_short_link =
        inode.core.mode & MODE_TYPE == MODE_SYMLINK && inode.map_kind() != MapKind::SymlinkBlock;
    let target = is_short_link.then(|| target(mounted, inode)).transpose()?;
    Ok(parameters_with(inode, target))
}

/// The same where a symbolic link's target is known, as of an inode that has just been made: without anything that may fail. That of
/// a link with a block is not needed.
pub(crate) fn parameters_with(inode: &CoreInode, target: Option<Target>) -> Parameters {
    let core = inode.core;
    Parameters {
        mode: core.mode,
        kind: kind_of(inode, target),
        uid: core.uid,
        gid: core.gid,
        links: core.links,
        generation: core.generation.0,
        size_bytes: i64::try_from(core.size_bytes).unwrap_or(i64::MAX),
        sectors: core.blocks.saturating_mul(BLOCK_SECTORS),
        accessed: Time::from_ns(core.accessed_ns),
        modified: Time::from_ns(core.modified_ns),
        changed: Time::from_ns(core.changed_ns),
        flags: vfs_flags(core.flags),
    }
}

/// What VFS heeds of the flags that an inode has.
fn vfs_flags(flags: u32) -> Flags {
    let all = [
        (FLAG_SYNC, Flags::SYNC),
        (FLAG_IMMUTABLE, Flags::IMMUTABLE),
        (FLAG_APPEND, Flags::APPEND),
        (FLAG_NO_ATIME, Flags::NO_ACCESS_TIMES),
        (FLAG_DIRECTORY_SYNC, Flags::DIRECTORY_SYNC),
    ];
    let set = all.iter().filter(|(flag, _)| flags & flag != 0);
    set.fold(Flags::default(), |found, (_, flag)| found.with(*flag))
}

/// Reads an inode that is in use: it must be there, and have links.
fn read(mounted: &Mounted, number: InodeNo) -> cairnfs_core::error::Result<Owned<CoreInode>> {
    let block = mounted.metadata.block_of_inode(number);
    let inode = match mounted.read_inode(number) {
        Err(Error::Stale) => return corrupt(Check::Dangling, block, number.0, 0),
        read => read?,
    };
    if inode.core.is_free() {
        return corrupt(Check::Dangling, block, number.0, 0);
    }
    if inode.core.links == 0 {
        return corrupt(Check::Links, block, 1, 0);
    }
    Ok(inode)
}

fn kind_of(inode: &CoreInode, target: Option<Target>) -> Kind {
    match (inode.core.mode & MODE_TYPE, target) {
        (MODE_DIRECTORY, _) => Kind::Directory,
        (MODE_REGULAR, _) => Kind::Regular,
        (MODE_SYMLINK, Some(target)) if inode.map_kind() != MapKind::SymlinkBlock => {
            Kind::ShortSymlink(target)
        }
        (MODE_SYMLINK, _) => Kind::LongSymlink,
        _ => Kind::Special(inode.core.device),
    }
}

fn target(mounted: &Mounted, inode: &CoreInode) -> Result<Target> {
    let mut text = List::new();
    let read = symlink::target(mounted, inode, &mut |piece| Ok(text.extend_from_slice(piece)?));
    let checked = read.and_then(|()| match text.iter().position(|byte| *byte == 0) {
        Some(at) => {
            let block = mounted.metadata.block_of_inode(inode.number());
            corrupt(Check::Name, block, inode.core.size_bytes, at as u64)
        }
        None => Ok(()),
    });
    checked.map_err(|error| mounted.errno(error))?;
    Target::copy_of(&text)
}

/// Looks a name up in a directory that VFS has locked.
pub(crate) fn lookup(parent: &VfsInode, name: &[u8]) -> Result<Option<ARef<VfsInode>>> {
    let mounted = parent.super_block().data();
    let found = without_filesystem_reclaim(|| {
        let directory = parent.data().state.read();
        directory::lookup(mounted, mounted.metadata.hash_key(), &directory.inode, name)
    });
    let Some(entry) = found.map_err(|error| mounted.errno(error))? else {
        return Ok(None);
    };
    let inode = get(parent.super_block(), entry.inode)?;
    let file_type = format::file_type(inode.mode());
    if file_type != Some(entry.file_type) {
        let block = mounted.metadata.block_of_inode(entry.inode);
        let found = u64::from(file_type.unwrap_or(0));
        return corrupt(Check::FileType, block, u64::from(entry.file_type), found)
            .map_err(|error| mounted.errno(error));
    }
    Ok(Some(inode))
}

/// The target of a symbolic link.
pub(crate) fn get_link(inode: &VfsInode) -> Result<Target> {
    without_filesystem_reclaim(|| target(inode.super_block().data(), &inode.data().state.read().inode))
}

/// What statx shows beyond VFS' own fields.
pub(crate) fn getattr(inode: &VfsInode) -> Attributes {
    let (core, pending_blocks) = {
        let state = inode.data().state.read();
        (state.inode.core, state.pending.blocks())
    };
    Attributes {
        born: Time::from_ns(core.born_ns),
        unmapped_sectors: pending_blocks.saturating_mul(BLOCK_SECTORS),
        is_immutable: core.flags & FLAG_IMMUTABLE != 0,
        is_append_only: core.flags & FLAG_APPEND != 0,
        is_no_dump: core.flags & FLAG_NO_DUMP != 0,
    }
}

/// The names of extended attributes.
pub(crate) fn listxattr(inode: &VfsInode, list: &mut NameList<'_>) -> Result {
    extended_attributes::list(inode, list)
}
