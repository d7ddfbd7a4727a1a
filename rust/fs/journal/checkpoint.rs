// SPDX-License-Identifier: GPL-2.0

//! Checkpoint: what is committed goes home, one flush makes it durable, and a header moves the tail.
//!
//! Everything that is running is committed first, so that what holds the tail may go. Then each unit is copied under the journal
//! mutex and written without it, in the order of blocks.
//!
//! A crash leaves units old, new or torn: their unions are in the log until the header has moved the tail, which comes behind
//! the flush. A write that fails is latched, and the tail never passes it.
//!
//! Who writes pages back to free memory may be waiting for room in the journal, and so for this. Its own memory is little, and comes
//! from the kernel's reserves where there is no other (as xfsaild's does in XFS).
//!
//! Locks: `checkpointer`, held by the one who checkpoints, before group locks and the journal mutex. Nothing here waits for a
//! handle, an inode or a page of user data.

#![forbid(unsafe_code)]

use crate::mounted::Mounted;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::journal::checkpoint::{HomeUnit, HomeWrite};
use cairnfs_core::memory::{Buffer, List, Shared};
use cairnfs_core::space::choose;
use cairnfs_core::units::BlockNo;
use cairnfs_linux::memory_scope::{with_memory_reserves, without_filesystem_reclaim};
use cairnfs_linux::platform::Kernel;

/// Units that are written before a flush makes them durable: bounds the memory that remembers them.
const UNITS_MAX: usize = 4096;

impl Mounted {
    /// Commits, and writes everything home, but for what others change meanwhile.
    pub(crate) fn checkpoint(&self) -> Result {
        let outcome = without_filesystem_reclaim(|| {
            let _only_one = self.checkpointer.lock();
            self.commit()?;
            with_memory_reserves(|| self.write_all_home())
        });
        self.counters.checkpoints.add(1);
        self.journaling.room.signal();
        outcome
    }

    fn write_all_home(&self) -> Result {
        let mut units = List::with_capacity(UNITS_MAX)?;
        loop {
            units.clear();
            let written = self.write_home(&mut units);
            if !units.is_empty() {
                self.settle_home(&units)?;
            }
            written?;
            // Also when nothing had to go home: what was freed may have held the tail.
            if !self.journaling.locked(|state| state.journal.tail_is_durable()) {
                self.write_header(false)?;
            }
            if units.len() < UNITS_MAX {
                return Ok(());
            }
        }
    }

    /// Writes units home, without a flush: they are in the device's cache. `units` has those that were written, also when
    /// another one could not be.
    fn write_home(&self, units: &mut List<HomeUnit>) -> Result {
        let mut write = HomeWrite::try_new()?;
        let mut after = BlockNo(0);
        while units.len() < UNITS_MAX {
            let Some(unit) = self.journaling.locked(|state| state.journal.next_home(after)) else {
                break;
            };
            if self.write_unit(unit, &mut write)? {
                units.push_within_capacity(unit)?;
            }
            after = self.journaling.locked(|state| state.journal.home_of(unit));
        }
        Ok(())
    }

    /// Writes one unit; `false` when it may not go home any more.
    fn write_unit(&self, unit: HomeUnit, write: &mut HomeWrite) -> Result<bool> {
        let base = self.journaling.locked(|state| state.journal.home_needs_base(unit));
        let base = match base.map(|block| self.table_base(block, write)) {
            Some(Err(error)) => {
                // Without memory the next checkpoint tries again.
                if error != Error::OutOfMemory {
                    self.shut_down(error);
                }
                return Err(error);
            }
            Some(Ok(content)) => Some(content),
            None => None,
        };
        let base = base.as_ref().map(|content| &content[..]);
        match self.journaling.locked(|state| state.journal.begin_home(&Kernel, unit, base, write)) {
            Ok(()) => {}
            // It was changed, freed or begun in between.
            Err(Error::WouldBlock) => return Ok(false),
            Err(error) => {
                self.shut_down(error);
                return Err(error);
            }
        }
        let outcome = write.blocks().try_for_each(|(block, bytes)| self.device().write(block, bytes));
        self.counters.home_blocks.add(write.blocks().count() as u64);
        if let HomeUnit::Table(block) = unit {
            // What is not cached does not come into it here: the memory may be the last.
            let content = write.blocks().next().filter(|_| self.metadata.is_cached(block));
            let content = content.and_then(|(_, bytes)| bytes.try_clone().ok());
            let content = content.and_then(|bytes| Shared::try_new(bytes).ok());
            self.metadata.note_home_write(block, content.as_ref());
        }
        if let Err(error) = self.journaling.locked(|state| state.journal.end_home(unit, outcome)) {
            self.shut_down(error);
            return Err(error);
        }
        Ok(true)
    }

    /// A table block's present content. Inodes that are not in the log go home with it, so they are verified; what has been spoilt in
    /// memory or on its way is read once more. What is as bad then is so at home, and stays so: whoever asks for it is told.
    fn table_base(&self, block: BlockNo, write: &mut HomeWrite) -> Result<Shared<Buffer>> {
        let found = self.metadata.read_once(block)?;
        let mut is_sound =
            |bytes: &[u8]| write.verify_base(&Kernel, self.metadata.layout(), block, bytes).is_ok();
        if is_sound(&found) {
            return Ok(found);
        }
        self.metadata.forget(block);
        let (first, second) = (self.metadata.read_once(block)?, self.metadata.read_once(block)?);
        if first[..] == second[..] || is_sound(&second) {
            return Ok(second);
        }
        Err(Error::Io(block))
    }

    /// Flushes, and settles the units: the log forgets what is durably home.
    fn settle_home(&self, units: &List<HomeUnit>) -> Result {
        self.flush()?;
        let mut outcome = Ok(());
        for unit in units {
            let mut keep = |block: BlockNo, content: &Shared<Buffer>| {
                self.metadata.note_home_write(block, Some(content));
            };
            let freed = self.journaling.locked(|state| state.journal.settle_home(*unit, &mut keep));
            if let (HomeUnit::Block(block), Some(freed)) = (unit, freed) {
                outcome = outcome.and(choose::release_run(self, *block, freed));
            }
        }
        outcome
    }
}
