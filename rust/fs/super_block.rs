// SPDX-License-Identifier: GPL-2.0

//! The life of a mount: from its first look at the device to its last write, and between reading and writing.
//!
//! To write, headers and superblock are marked, the orphan index is read, the threads start, and what an earlier mount left half
//! removed is removed. To stop, orphans go, everything goes home, and the headers say so. Whatever ends the mount
//! without that, a failed journal included, leaves a journal that the next one replays.
//!
//! Locks: VFS holds `s_umount` for all of this.

#![forbid(unsafe_code)]

use crate::data;
use crate::inode::{self, VfsInode};
use crate::module::Cairnfs;
use crate::mount;
use crate::mounted::Mounted;
use crate::options::Options;
use crate::statistics;
use cairnfs_core::error::{corrupt, Check, Error};
use cairnfs_core::format::inode::{FILE_BYTES_MAX, LINKS_MAX, NAME_BYTES_MAX, ROOT};
use cairnfs_core::operation::index;
use cairnfs_core::orphans::Orphans;
use cairnfs_core::space::Class;
use cairnfs_core::units::{FileBlock, InodeNo, BLOCK_BYTES};
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::seq_file::SeqFile;
use cairnfs_linux::statfs::Statistics;
use cairnfs_linux::super_block::{self, New, Parameters, SuperBlock};
use core::sync::atomic::Ordering;
use kernel::c_str;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::Arc;
use kernel::types::ARef;

/// What statfs(2) names the filesystem by: "CRNf".
const STATFS_MAGIC: u32 = u32::from_le_bytes(*b"CRNf");

/// The largest file, in whole blocks: the page cache counts to the end of the last one.
const MAX_FILE_BYTES: i64 = FILE_BYTES_MAX as i64 & !(BLOCK_BYTES as i64 - 1);

impl super_block::Operations for Cairnfs {
    fn load(new: &mut New, options: &Options) -> Result<(Parameters, Arc<Mounted>)> {
        if let Err(error) = new.set_block_size(BLOCK_BYTES as u32) {
            pr_err!("{}: the device's own blocks are larger than {BLOCK_BYTES} bytes\n", new.name());
            return Err(error);
        }
        let name = CString::try_from(new.name())?;
        let mounted = mount::load(&name, new.device(), options)?;
        let parameters = Parameters {
            magic: STATFS_MAGIC,
            uuid: mounted.uuid,
            max_file_bytes: MAX_FILE_BYTES,
            max_links: LINKS_MAX,
        };
        Ok((parameters, mounted))
    }

    fn root(super_block: &SuperBlock<Self>) -> Result<ARef<VfsInode>> {
        let mounted = super_block.data_arc();
        if !super_block.is_read_only() {
            Mounted::remount(&mounted, super_block, false)?;
        }
        let root = inode::get(super_block, ROOT)?;
        if !root.is_directory() {
            let block = mounted.metadata.block_of_inode(ROOT);
            return corrupt(Check::FileType, block, 0, u64::from(root.mode()))
                .map_err(|error| mounted.errno(error));
        }
        *mounted.statistics.lock() = Some(statistics::publish(super_block)?);
        let how = if super_block.is_read_only() { "read-only" } else { "for writing" };
        pr_info!("{}: mounted {how}\n", mounted.name());
        Ok(root)
    }

    fn put(super_block: &SuperBlock<Self>) {
        let mounted = super_block.data();
        if mounted.writing.load(Ordering::Acquire) {
            if let Err(error) = mounted.finish_writing() {
                pr_err!("{}: not unmounted cleanly, the next mount recovers: {error}\n", mounted.name());
                // The device is about to be others'.
                mounted.writing.store(false, Ordering::Release);
                mounted.stop_workers();
            }
        }
    }

    fn stop(mounted: &Mounted) {
        mounted.stop_orphan_worker();
    }

    fn end(mounted: &Mounted) {
        mounted.stop_workers();
        let statistics = mounted.statistics.lock().take();
        drop(statistics);
    }

    fn shutdown(super_block: &SuperBlock<Self>) {
        super_block.data().shut_down(Error::ShutDown);
    }

    fn evict(inode: &VfsInode) {
        if inode.is_regular() {
            // Its pages are gone: promises are void, and what a failed write has left in flight goes back.
            data::release_from(inode, FileBlock(0));
        }
        inode.super_block().data().inode_is_gone(InodeNo(inode.number()));
    }

    fn sync_fs(super_block: &SuperBlock<Self>, wait: bool) -> Result {
        let mounted = super_block.data();
        // As in fsync: after a failure nobody is told that all is well.
        mounted.check_journal().map_err(|error| mounted.errno(error))?;
        if !mounted.writing.load(Ordering::Acquire) {
            return Ok(());
        }
        if !wait {
            mounted.journaling.commit_wanted.signal();
            return Ok(());
        }
        // What cannot be removed stays in the index; that is no reason not to sync the rest.
        let _ = mounted.remove_orphans(None);
        let (transaction, mark) =
            mounted.journaling.locked(|state| (state.journal.newest_transaction(), state.newest_data));
        mounted.wait_for(transaction, mark)
    }

    fn statfs(super_block: &SuperBlock<Self>) -> Result<Statistics> {
        let mounted = super_block.data();
        let geometry = mounted.metadata.layout();
        let totals = mounted.journaling.locked(|state| *state.journal.totals());
        let available_blocks = mounted.ledger.lock().available_to(Class::Normal);
        Ok(Statistics {
            magic: STATFS_MAGIC,
            block_bytes: BLOCK_BYTES as u32,
            blocks: geometry.data_blocks(),
            free_blocks: totals.free_blocks,
            available_blocks,
            inodes: geometry.inode_count(),
            free_inodes: totals.free_inodes,
            id: geometry.filesystem_id,
            name_bytes_max: NAME_BYTES_MAX as u32,
        })
    }

    fn show_options(super_block: &SuperBlock<Self>, text: &mut SeqFile<'_>) {
        let mounted = super_block.data();
        if mounted.no_recovery {
            text.puts(c_str!(",norecovery"));
        }
        mounted.settings.show(text);
        if mounted.journaling.locked(|state| state.journal.error().is_some()) {
            text.puts(c_str!(",emergency_ro"));
        }
    }

    fn nr_cached_objects(super_block: &SuperBlock<Self>) -> usize {
        super_block.data().metadata.cached_blocks()
    }

    fn free_cached_objects(super_block: &SuperBlock<Self>, wanted: usize) -> usize {
        super_block.data().metadata.shrink(wanted)
    }
}

impl Mounted {
    /// Begins or ends writing, as a remount asks for it.
    pub(crate) fn remount(this: &Arc<Self>, super_block: &SuperBlock<Cairnfs>, read_only: bool) -> Result {
        match (this.writing.load(Ordering::Acquire), read_only) {
            (true, true) => {
                this.stop_orphan_worker();
                let finished = this.finish_writing();
                if finished.is_err() && this.writing.load(Ordering::Acquire) {
                    // It goes on as before.
                    this.stop_workers();
                    if let Err(error) = Self::start_workers(this) {
                        // Nobody would move the tail: who writes would wait for ever.
                        this.shut_down(Error::ShutDown);
                        return Err(error);
                    }
                }
                finished.map_err(|error| this.errno(error))
            }
            (false, false) => Self::start_writing(this, super_block),
            _ => Ok(()),
        }
    }

    fn start_writing(this: &Arc<Self>, super_block: &SuperBlock<Cairnfs>) -> Result {
        if this.no_recovery {
            pr_err!("{}: the journal was left alone: this mount stays read-only\n", this.name());
            return Err(EROFS);
        }
        if this.device().is_read_only() {
            pr_err!("{}: the device is read-only\n", this.name());
            return Err(EROFS);
        }
        // The image comes from another device: its records end where this one cannot end a write.
        let (record, device) =
            (this.metadata.layout().physical_block_bytes, this.device().logical_block_bytes());
        if record < device {
            let name = this.name();
            pr_err!("{name}: records are padded to {record} bytes, the device writes no less than {device}: read-only\n");
            return Err(EROFS);
        }
        let begun = this
            .check_features_for_writing()
            .and_then(|()| this.check_journal())
            .and_then(|()| this.begin_writing());
        begun.map_err(|error| this.errno(error))?;
        this.metadata.forget_header_marks();
        this.writing.store(true, Ordering::Release);
        let started = this.load_orphans_once().map_err(|error| this.errno(error));
        this.hold_orphans_in_memory(super_block);
        if let Err(error) = started.and_then(|()| Self::start_workers(this)) {
            this.writing.store(false, Ordering::Release);
            return Err(error);
        }
        if let Err(error) = this.remove_orphans(None) {
            pr_warn!("{}: an orphan cannot be removed: {error}\n", this.name());
        }
        Ok(())
    }

    /// An earlier time of writing has left the index in memory, up to date.
    fn load_orphans_once(&self) -> cairnfs_core::error::Result {
        if self.orphans.lock().is_loaded() {
            return Ok(());
        }
        let loaded = without_filesystem_reclaim(|| index::load(self, self.orphan_inode));
        if loaded.is_err() {
            *self.orphans.lock() = Orphans::new();
        }
        loaded
    }

    fn check_features_for_writing(&self) -> cairnfs_core::error::Result {
        self.superblock.lock().check_features(true)
    }

    /// Ends writing: nobody can open a handle any more but what is done here, and the orphan thread has ended. When it fails and
    /// the journal has not, writing may go on.
    fn finish_writing(&self) -> cairnfs_core::error::Result {
        let has_failed = || self.journaling.locked(|state| state.journal.error().is_some());
        let ended = if has_failed() { Ok(()) } else { self.write_everything() };
        if ended.is_ok() || has_failed() {
            self.writing.store(false, Ordering::Release);
            self.stop_workers();
        }
        ended
    }

    fn write_everything(&self) -> cairnfs_core::error::Result {
        if let Err(error) = self.remove_orphans(None) {
            // It stays in the index: a sound filesystem all the same.
            pr_warn!("{}: an orphan cannot be removed: {error}\n", self.name());
        }
        self.end_writing()
    }
}
