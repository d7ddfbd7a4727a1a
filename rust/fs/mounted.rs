// SPDX-License-Identifier: GPL-2.0

//! A mounted filesystem: everything that is known of it, and how an operation changes it.
//!
//! An operation reserves room in the journal, locks the inodes that it changes, works on private copies in a handle, and closes it
//! ([`Mounted::change`]). What is closed is in the running transaction; a crash shows it whole or not at all.
//!
//! Locks: all are listed, with their order, in `docs/locking.md`.

#![forbid(unsafe_code)]

use crate::counters::Counters;
use crate::environment::GroupCell;
use crate::inode::{Locked, Scope, VfsInode};
use crate::journal::workers::Workers;
use crate::journal::Journaling;
use crate::memory::insist;
use crate::metadata::Metadata;
use crate::options::Settings;
use crate::report;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::superblock::{RecoveryReport, Superblock};
use cairnfs_core::handle::{Closed, Environment as _, Handle};
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::reservation::Worst;
use cairnfs_core::journal::ring::{Class, Reservation};
use cairnfs_core::memory::{OrderedMap, Owned};
use cairnfs_core::operation::{index, reservation};
use cairnfs_core::orphans::Orphans;
use cairnfs_core::space::ledger::Ledger;
use cairnfs_core::units::{GroupNo, InodeNo, TransactionId};
use cairnfs_linux::block_device::BlockDevice;
use cairnfs_linux::kobject::Directory;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::error::Result as KernelResult;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::{Arc, Mutex};

/// A mounted filesystem.
#[pin_data]
pub(crate) struct Mounted {
    pub(crate) name: CString,
    pub(crate) uuid: [u8; 16],
    pub(crate) orphan_inode: InodeNo,
    /// The journal was not clean, and was left alone: the mount stays read-only.
    pub(crate) no_recovery: bool,
    /// What this mount's recovery did.
    pub(crate) recovery: RecoveryReport,
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    /// Headers and superblock say that it is being written to.
    pub(crate) writing: AtomicBool,
    /// All threads are to end.
    pub(crate) stopping: AtomicBool,
    /// The orphan thread is to end.
    pub(crate) stopping_orphans: AtomicBool,
    /// The reason of a failure has been printed.
    pub(crate) reported: AtomicBool,
    /// Groups [0, n) are initialised.
    pub(crate) initialised_groups: AtomicU32,
    /// The blocks at home, read and cached.
    #[pin]
    pub(crate) metadata: Metadata,
    #[pin]
    pub(crate) superblock: Mutex<Owned<Superblock>>,
    /// Groups that have been used since the mount.
    #[pin]
    pub(crate) groups: Mutex<OrderedMap<GroupNo, Arc<GroupCell>>>,
    #[pin]
    pub(crate) journaling: Journaling,
    /// Blocks that may be taken.
    #[pin]
    pub(crate) ledger: Mutex<Ledger>,
    #[pin]
    pub(crate) orphans: Mutex<Orphans>,
    /// Held by the one that makes the orphan index longer.
    #[pin]
    pub(crate) orphan_index: Mutex<()>,
    /// Held by the one that checkpoints.
    #[pin]
    pub(crate) checkpointer: Mutex<()>,
    /// Held by the one that has the device flush, until the journal knows how that ended.
    #[pin]
    pub(crate) flusher: Mutex<()>,
    /// Held by the one that removes orphans.
    #[pin]
    pub(crate) orphan_remover: Mutex<()>,
    #[pin]
    pub(crate) workers: Mutex<Workers>,
    /// The directory in sysfs. It owns this, so it has to be taken out before the end.
    #[pin]
    pub(crate) statistics: Mutex<Option<Directory<Mounted>>>,
}

impl Mounted {
    /// The device's name, for messages.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// The device.
    pub(crate) const fn device(&self) -> &BlockDevice {
        self.metadata.device()
    }

    /// Whether commits may end by FUA writes: where the device has them, or has nothing volatile.
    pub(crate) fn has_force_unit_access(&self) -> bool {
        self.device().has_force_unit_access() || !self.device().has_volatile_cache()
    }

    /// The errno of an error, which is reported when it says something about the device.
    pub(crate) fn errno(&self, error: Error) -> kernel::error::Error {
        if matches!(error, Error::Corrupt(_) | Error::Io(_)) && self.settings.shuts_down_on_errors() {
            self.shut_down(error);
        }
        report::errno(&self.name, error)
    }

    /// Fails when nothing can be changed.
    pub(crate) fn check_writable(&self) -> Result {
        self.check_mounted_for_writing()?;
        self.check_journal()
    }

    /// Fails when the journal has failed.
    pub(crate) fn check_journal(&self) -> Result {
        self.journaling.locked(|state| state.journal.check())
    }

    fn check_mounted_for_writing(&self) -> Result {
        if !self.writing.load(Ordering::Acquire) {
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// As [`Mounted::make_durable`], for who answers VFS.
    pub(crate) fn wait_for(&self, transaction: TransactionId, mark: Option<FlushMark>) -> KernelResult {
        self.make_durable(transaction, mark).map_err(|error| self.errno(error))
    }

    /// As [`Mounted::wait_for`], where a change has been made and must not be said to have failed for want of memory.
    pub(crate) fn wait_for_change(&self, transaction: TransactionId) -> KernelResult {
        let durable = insist(&mut || self.make_durable(transaction, None));
        durable.map_err(|error| self.errno(error))
    }

    /// Does `work` in a handle that reserves `worst`, with `inodes` locked until it has closed, and brings their copies up to date.
    /// When there is no space, but a commit may bring some back, it is tried again behind that.
    pub(crate) fn change<T>(
        &self,
        inodes: &[&VfsInode],
        worst: Worst,
        class: Class,
        work: &mut dyn FnMut(&mut Handle<'_>) -> Result<T>,
    ) -> Result<(T, Closed)> {
        self.change_within(Scope::All, inodes, worst, class, work)
    }

    /// As [`Mounted::change`], and says what is changed of the inodes.
    pub(crate) fn change_within<T>(
        &self,
        scope: Scope,
        inodes: &[&VfsInode],
        worst: Worst,
        class: Class,
        work: &mut dyn FnMut(&mut Handle<'_>) -> Result<T>,
    ) -> Result<(T, Closed)> {
        // Whether the journal works is looked at when room is reserved.
        self.check_mounted_for_writing()?;
        // The orphan index is made longer as often as others have taken its last slot.
        let mut attempt = || loop {
            match self.change_once(scope, inodes, worst, class, work) {
                Err(Error::OrphanIndexFull) => self.grow_orphan_index()?,
                outcome => return outcome,
            }
        };
        match attempt() {
            Err(Error::NoSpace | Error::NoInodes) => {
                if class == Class::Normal {
                    // The reserved class is the remover's own. What cannot be removed is no reason not to try the rest.
                    let _ = self.remove_orphans(None);
                }
                self.commit_frees()?;
                attempt()
            }
            outcome => outcome,
        }
    }

    /// Makes the orphan index longer, unless somebody else has done so meanwhile.
    fn grow_orphan_index(&self) -> Result {
        let _only_one = self.orphan_index.lock();
        if !self.has_full_orphan_index() {
            return Ok(());
        }
        let worst = reservation::grow_index(&*self.read_inode(self.orphan_inode)?);
        self.change_once(Scope::All, &[], worst, Class::Reserved, &mut index::grow)?;
        Ok(())
    }

    #[inline(never)] // For the stack, as `in_handle`.
    fn change_once<T>(
        &self,
        scope: Scope,
        inodes: &[&VfsInode],
        worst: Worst,
        class: Class,
        work: &mut dyn FnMut(&mut Handle<'_>) -> Result<T>,
    ) -> Result<(T, Closed)> {
        let outcome = without_filesystem_reclaim(|| {
            let reservation = self.reserve(worst.bytes(), class)?;
            let mut locked = Locked::lock(inodes);
            let (value, mut closed) = self.in_handle(reservation, work)?;
            for block in &closed.stale_blocks {
                self.metadata.forget(*block);
            }
            locked.install(&mut closed, scope);
            Ok((value, closed))
        });
        self.handle_ended();
        self.counters.handles.add(1);
        outcome
    }

    #[inline(never)] // For the stack: a handle is large.
    fn in_handle<T>(
        &self,
        reservation: Reservation,
        work: &mut dyn FnMut(&mut Handle<'_>) -> Result<T>,
    ) -> Result<(T, Closed)> {
        let mut handle = Handle::new(self, reservation);
        let value = work(&mut handle)?;
        Ok((value, handle.close()?))
    }
}
