// SPDX-License-Identifier: GPL-2.0

//! The filesystem mounted in user space: core's own operations, journal and checkpoint over a device or an image.
//!
//! What `rust/fs` is for the kernel this crate is for the tools: it binds core's decisions to locks, memory and I/O. mkfs fills
//! new images through it, tests and the crash enumerator run on it. It does its I/O in the calling thread, one commit at a
//! time, for which others wait; several threads may use one volume, and locks of inodes are theirs to hold.
//!
//! Locks, in their order: index grower, checkpointer, the turn to commit, group, journal, then orphans, ledger and cache, which are leaves.

mod checkpoint;
mod commit;
mod data;
mod environment;
mod names;
mod record_device;

use cairnfs_core::cache::Cache;
use cairnfs_core::device::Device;
use cairnfs_core::directory::hash::HashKey;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::superblock::{self, RecoveryReport, Superblock};
use cairnfs_core::handle::{Environment, Handle};
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::replay::{self, Recovered};
use cairnfs_core::journal::reservation::Worst;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::journal::Journal;
use cairnfs_core::memory::Buffer;
use cairnfs_core::operation::{index, reservation};
use cairnfs_core::orphans::Orphans;
use cairnfs_core::platform::Platform;
use cairnfs_core::space::group::Group;
use cairnfs_core::space::ledger::Ledger;
use cairnfs_core::space::Class as SpaceClass;
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo, TransactionId, BLOCK_BYTES};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

pub use commit::CommitInProgress;
pub use data::DataWrite;
pub use record_device::RecordDevice;

/// A mounted filesystem.
pub struct Volume<'d> {
    device: &'d dyn RecordDevice,
    platform: &'d dyn Platform,
    superblock: Superblock,
    geometry: Geometry,
    hash_key: HashKey,
    /// Whether commits may end by FUA writes.
    force_unit_access: bool,
    recovery: RecoveryReport,
    initialised_groups: AtomicU32,
    groups: Mutex<BTreeMap<GroupNo, Group>>,
    journal: Mutex<Journal>,
    orphans: Mutex<Orphans>,
    ledger: Mutex<Ledger>,
    cache: Mutex<Cache>,
    /// Held by the one that checkpoints.
    checkpointer: Mutex<()>,
    /// Held by the one that makes the orphan index longer.
    index_grower: Mutex<()>,
    /// The thread that is committing, from the beginning of a commit to its end.
    committer: Mutex<Option<ThreadId>>,
    /// It has ended.
    commit_ended: Condvar,
    /// When each file's newest contents completed, as the flush clock has it.
    data_marks: Mutex<BTreeMap<InodeNo, FlushMark>>,
}

/// How often an operation that has found no space is tried again: the index may have become full again meanwhile.
const TRIES: u32 = 3;
/// How often room in the journal is made and looked for, some ten seconds.
const ROUNDS: u32 = 10_000;
/// How long others have to close their handles before the next look.
const ROUND_PAUSE: Duration = Duration::from_millis(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the superblock: the newer of the two copies that are whole.
pub fn read_superblock(device: &dyn Device, platform: &dyn Platform) -> Result<Superblock> {
    let copy = |block: BlockNo| {
        let mut bytes = vec![0; BLOCK_BYTES];
        device.read(block, &mut bytes)?;
        Superblock::read_copy(platform, &bytes, block)
    };
    Superblock::choose(copy(superblock::PRIMARY), copy(superblock::SECONDARY))
}

impl<'d> Volume<'d> {
    /// Mounts for writing: recovers if need be, starts a new generation, clears the clean flag, and reads the orphans.
    /// They are removed by [`Volume::remove_orphans`].
    pub fn mount(device: &'d dyn RecordDevice, platform: &'d dyn Platform) -> Result<Self> {
        let superblock = read_superblock(device, platform)?;
        superblock.check_features(true)?;
        let geometry = Geometry::new(&superblock, device.blocks())?;
        let Recovered { start, report } = replay::recover(device, platform, &superblock, &geometry)?;
        let volume = Self {
            device,
            platform,
            superblock,
            geometry,
            hash_key: HashKey(superblock.hash_key),
            force_unit_access: false,
            recovery: report,
            initialised_groups: AtomicU32::new(start.totals.initialised_groups),
            groups: Mutex::new(BTreeMap::new()),
            journal: Mutex::new(Journal::new(geometry, superblock.uuid, &start)),
            orphans: Mutex::new(Orphans::new()),
            ledger: Mutex::new(Ledger::new(start.totals.free_blocks, superblock.reserve_blocks)),
            cache: Mutex::new(Cache::new()),
            checkpointer: Mutex::new(()),
            index_grower: Mutex::new(()),
            committer: Mutex::new(None),
            commit_ended: Condvar::new(),
            data_marks: Mutex::new(BTreeMap::new()),
        };
        // Before the first dirty header: from here on its totals are only true after an unmount.
        volume.write_superblock(&volume.mounted_superblock())?;
        // Both copies: were the other one still clean, damage to the newer would pass for a clean journal.
        volume.write_header(false)?;
        volume.write_header(false)?;
        index::load(&volume, superblock.orphan_inode)?;
        Ok(volume)
    }

    /// Lets commits end by FUA writes in place of a flush.
    #[must_use]
    pub fn with_force_unit_access(mut self) -> Self {
        self.force_unit_access = true;
        self
    }

    /// The superblock as it was at mount.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What recovery did at mount; all zero when the journal was clean.
    pub const fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Where everything is.
    pub const fn layout(&self) -> &Geometry {
        &self.geometry
    }

    /// The journal, for who examines it.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    /// Blocks that may be taken now, and those of them that are left to who is no better than others: what statfs(2) calls free
    /// and available.
    pub fn free_blocks(&self) -> (u64, u64) {
        let ledger = lock(&self.ledger);
        (ledger.available_blocks(), ledger.available_to(SpaceClass::Normal))
    }

    /// Does `work` in a handle that reserves `worst`, and closes it. Makes room in the journal first when it is full, and
    /// tries again when space may come back by a commit, or slots by a longer orphan index. An error says that nothing has
    /// happened; that of a commit which follows is told to who waits for one.
    pub fn run<T>(
        &self,
        worst: Worst,
        class: Class,
        work: &mut dyn FnMut(&mut Handle<'_>) -> Result<T>,
    ) -> Result<(T, TransactionId)> {
        let mut tries = 0;
        loop {
            let outcome = self.run_once(worst, class, work);
            if !matches!(outcome, Err(Error::NoSpace | Error::NoInodes | Error::OrphanIndexFull))
                || tries == TRIES
            {
                return outcome;
            }
            tries += 1;
            self.commit()?;
            self.grow_orphan_index()?;
        }
    }

    /// Makes the orphan index longer when all of its slots are in use. That there is no space for it is no error here: what
    /// wants the slot will say so.
    fn grow_orphan_index(&self) -> Result {
        let _only_one = lock(&self.index_grower);
        let is_full = lock(&self.orphans).is_full();
        if !is_full {
            return Ok(());
        }
        let worst = reservation::grow_index(&*self.read_inode(self.superblock.orphan_inode)?);
        match self.run_once(worst, Class::Reserved, &mut index::grow) {
            Ok(_) | Err(Error::NoSpace) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn run_once<T>(
        &self,
        worst: Worst,
        class: Class,
        work: &mut dyn FnMut(&mut Handle<'_>) -> Result<T>,
    ) -> Result<(T, TransactionId)> {
        let mut rounds = 0;
        let reservation = loop {
            let outcome = self.journal().reserve(worst.bytes(), class);
            match outcome {
                Ok(reservation) => break reservation,
                // One round frees all there is, but for what others' open handles may need: they are waited for.
                Err(Error::JournalFull) if rounds < ROUNDS => {
                    if rounds > 0 {
                        std::thread::sleep(ROUND_PAUSE);
                    }
                    rounds += 1;
                    self.checkpoint()?;
                }
                Err(error) => return Err(error),
            }
        };
        let mut handle = Handle::new(self, reservation);
        let value = work(&mut handle)?;
        let closed = handle.close()?;
        for block in &closed.stale_blocks {
            lock(&self.cache).forget(*block);
        }
        let wants_commit = self.journal().wants_commit();
        if wants_commit {
            // The operation has been done, whatever becomes of this: an error is the journal's, and whoever commits next
            // hears of it; one for want of memory, or because this thread is committing already, is made good then.
            let _ = self.commit();
        }
        Ok((value, closed.transaction))
    }

    /// Writes a journal header; a clean one only when nothing is left to replay.
    pub fn write_header(&self, clean: bool) -> Result {
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        let written = self.journal().begin_header(clean)?;
        let outcome = written
            .header
            .write(self.platform, &mut bytes, self.geometry.filesystem_id, written.block)
            .and_then(|()| self.device.write_durably(written.block, &bytes));
        self.journal().end_header(&written, outcome)
    }

    /// Unmounts: everything goes home, and the header says so. The superblock gets the totals.
    pub fn unmount(self) -> Result {
        // What cannot be removed stays in the index: a sound filesystem all the same.
        let removed = self.remove_orphans();
        if self.journal().error().is_some() {
            return removed;
        }
        self.checkpoint()?;
        let is_clean = self.journal().is_clean();
        if !is_clean {
            return Err(Error::ShutDown);
        }
        self.write_header(true)?;
        let totals = *self.journal().totals();
        let mut superblock = self.mounted_superblock();
        superblock.state &= !superblock::STATE_MOUNTED;
        superblock.free_blocks = totals.free_blocks;
        superblock.free_inodes = totals.free_inodes;
        superblock.initialised_groups = totals.initialised_groups;
        superblock.unmounted_ns = self.platform.now_ns();
        superblock.update_counter += 1;
        self.write_superblock(&superblock)
    }

    /// The superblock while this volume is mounted.
    fn mounted_superblock(&self) -> Superblock {
        let found = self.superblock;
        Superblock {
            state: found.state | superblock::STATE_MOUNTED,
            mount_count: found.mount_count.saturating_add(1),
            update_counter: found.update_counter.saturating_add(1),
            recovery: if self.recovery.time_ns == 0 { found.recovery } else { self.recovery },
            ..found
        }
    }

    /// Writes both copies, one after the other, so that one is always whole.
    fn write_superblock(&self, superblock: &Superblock) -> Result {
        let mut bytes = vec![0; BLOCK_BYTES];
        for block in [superblock::PRIMARY, superblock::SECONDARY] {
            superblock.write_copy(self.platform, &mut bytes, block)?;
            self.device.write_durably(block, &bytes)?;
        }
        Ok(())
    }
}
