// SPDX-License-Identifier: GPL-2.0

//! Freeing what nobody can reach any more: by number, from the tree of orphans, without a VFS inode.
//!
//! An orphan that VFS still has in memory is *held*: it was unlinked while open, or is being truncated by its user. Evicting the
//! inode lets it go ([`Mounted::inode_is_gone`]), which needs no memory and no handle, and so may happen anywhere, reclaim
//! included. What is not held is removed in bounded steps, each a handle of its own; a crash between them leaves a shorter
//! orphan, and the next mount goes on.
//!
//! Locks: `orphan_remover`, held by the one who removes, before handles.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use crate::mounted::Mounted;
use cairnfs_core::error::Result;
use cairnfs_core::format::orphan::OrphanKind;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::{data, remove, reservation};
use cairnfs_core::orphans::{OrphanKey, Orphans};
use cairnfs_core::units::InodeNo;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::super_block::SuperBlock;
use core::sync::atomic::{AtomicBool, Ordering};

impl Mounted {
    /// Works on whatever orphans the inode is.
    fn with_orphans_of(&self, number: InodeNo, mut action: impl FnMut(&mut Orphans, OrphanKey)) {
        without_filesystem_reclaim(|| {
            let mut orphans = self.orphans.lock();
            for kind in [OrphanKind::Inode, OrphanKind::Truncate] {
                if let Ok(key) = OrphanKey::of(self.metadata.layout(), kind, number) {
                    action(&mut orphans, key);
                }
            }
        });
    }

    /// The inode is in memory: whatever it is an orphan for, nobody else does it. Inside the handle that makes it one.
    pub(crate) fn hold_orphan(&self, number: InodeNo) {
        self.with_orphans_of(number, |orphans, key| orphans.hold(key));
    }

    /// As [`Mounted::hold_orphan`], for an inode that comes into memory: when its orphan is being removed, behind that.
    pub(crate) fn hold_found_orphan(&self, number: InodeNo) {
        let mut is_free = false;
        self.with_orphans_of(number, |orphans, key| {
            is_free |= orphans.get(key).is_some_and(|orphan| !orphan.held);
        });
        if is_free {
            let _nobody_removes = self.orphan_remover.lock();
            self.hold_orphan(number);
        }
    }

    /// Holds the orphans whose inodes are in memory: they were read while nothing was written.
    pub(crate) fn hold_orphans_in_memory(&self, super_block: &SuperBlock<Cairnfs>) {
        let mut after = None;
        while let Some(key) = self.next_orphan(after) {
            after = Some(key);
            if super_block.is_hashed(key.inode.0) {
                self.hold_orphan(key.inode);
            }
        }
    }

    /// VFS has let go of the inode.
    pub(crate) fn inode_is_gone(&self, number: InodeNo) {
        let mut is_orphan = false;
        self.with_orphans_of(number, |orphans, key| is_orphan |= orphans.let_go(key));
        if is_orphan {
            self.journaling.orphans_wanted.signal();
        }
    }

    /// Whether the inode has a truncation that was not finished.
    pub(crate) fn has_unfinished_truncation(&self, number: InodeNo) -> bool {
        OrphanKey::of(self.metadata.layout(), OrphanKind::Truncate, number)
            .is_ok_and(|key| without_filesystem_reclaim(|| self.orphans.lock().get(key).is_some()))
    }

    /// Whether every slot of the index is in use.
    pub(crate) fn has_full_orphan_index(&self) -> bool {
        without_filesystem_reclaim(|| self.orphans.lock().is_full())
    }

    /// Removes all orphans that nobody holds, once in the order of their keys: who unlinks meanwhile, perhaps faster, does not keep
    /// the caller. One that cannot be removed stays, for the checker, and does not keep the others; the first such failure is
    /// returned in the end. Setting `until` ends it sooner.
    pub(crate) fn remove_orphans(&self, until: Option<&AtomicBool>) -> Result {
        let _only_one = self.orphan_remover.lock();
        let mut next = self.next_orphan(None);
        let mut outcome = Ok(());
        while let Some(key) = next {
            if until.is_some_and(|until| until.load(Ordering::Acquire)) {
                break;
            }
            let step = self.remove_orphan_step(key);
            let has_more = step.is_ok() && self.is_free_orphan(key);
            match step {
                Ok(()) => self.counters.orphan_steps.add(1),
                Err(error) => {
                    outcome = outcome.and(Err(error));
                    without_filesystem_reclaim(|| self.orphans.lock().count_attempt(key));
                }
            }
            next = if has_more { next } else { self.next_orphan(next) };
        }
        outcome
    }

    fn is_free_orphan(&self, key: OrphanKey) -> bool {
        without_filesystem_reclaim(|| {
            self.orphans.lock().get(key).is_some_and(|orphan| !orphan.open && !orphan.held)
        })
    }

    fn next_orphan(&self, after: Option<OrphanKey>) -> Option<OrphanKey> {
        without_filesystem_reclaim(|| self.orphans.lock().next(after).map(|(key, _)| key))
    }

    fn remove_orphan_step(&self, key: OrphanKey) -> Result {
        let limit = reservation::step(self.metadata.layout());
        let inode = without_filesystem_reclaim(|| self.read_inode(key.inode))?;
        let worst = reservation::remove(self.metadata.layout(), &inode, limit);
        drop(inode);
        self.change(&[], worst, Class::Reserved, &mut |handle| match key.kind {
            OrphanKind::Inode => remove::remove_step(handle, key.inode, limit),
            OrphanKind::Truncate => data::truncate_step(handle, key.inode, limit),
        })?;
        Ok(())
    }
}
