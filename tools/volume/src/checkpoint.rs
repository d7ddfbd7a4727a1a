// SPDX-License-Identifier: GPL-2.0

//! Checkpoint: everything that is committed goes home, one flush makes it durable, and a header moves the tail.

use crate::{lock, Volume};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::journal::checkpoint::{HomeUnit, HomeWrite};
use cairnfs_core::memory::{Buffer, Shared};
use cairnfs_core::space::choose;
use cairnfs_core::units::BlockNo;

impl Volume<'_> {
    /// Commits, and writes everything home, until the log holds nothing (but for what others change meanwhile).
    pub fn checkpoint(&self) -> Result {
        let _only_one = lock(&self.checkpointer);
        self.commit()?;
        let units = self.write_home(usize::MAX)?;
        self.settle_home(&units)?;
        self.write_header(false)
    }

    /// Writes up to `limit` units home, without a flush: they are in the device's cache. For one thread at a time.
    pub fn write_home(&self, limit: usize) -> Result<Vec<HomeUnit>> {
        let mut write = HomeWrite::try_new()?;
        let mut units = Vec::new();
        let mut after = BlockNo(0);
        while units.len() < limit {
            let Some(unit) = self.journal().next_home(after) else {
                break;
            };
            let base = self.journal().home_needs_base(unit);
            let base = base.map(|block| self.read_cached(block, &mut |_| Ok(()))).transpose();
            // What is in flight already would never settle, and the tail never pass it.
            let base = base.inspect_err(|error| self.journal().fail(*error))?;
            after = self.journal().home_of(unit);
            let base = base.as_ref().map(|content| &content[..]);
            if let (HomeUnit::Table(block), Some(base)) = (unit, base) {
                let verified = write.verify_base(self.platform, &self.geometry, block, base);
                verified.inspect_err(|error| self.journal().fail(*error))?;
            }
            let begun = self.journal().begin_home(self.platform, unit, base, &mut write);
            match begun {
                Ok(()) => {}
                // Another thread was faster, or has changed it.
                Err(Error::WouldBlock) => continue,
                Err(error) => {
                    self.journal().fail(error);
                    return Err(error);
                }
            }
            let outcome = write.blocks().try_for_each(|(block, bytes)| self.device.write(block, bytes));
            if let HomeUnit::Table(block) = unit {
                let content = write.blocks().next().and_then(|(_, bytes)| bytes.try_clone().ok());
                let content = content.and_then(|bytes| Shared::try_new(bytes).ok());
                lock(&self.cache).note_home_write(block, content.as_ref());
            }
            self.journal().end_home(unit, outcome)?;
            units.push(unit);
        }
        Ok(units)
    }

    /// Flushes, and settles the units: the log forgets what is durably home.
    pub fn settle_home(&self, units: &[HomeUnit]) -> Result {
        if units.is_empty() {
            return Ok(());
        }
        self.flush()?;
        for unit in units {
            let mut keep = |block: BlockNo, content: &Shared<Buffer>| {
                lock(&self.cache).note_home_write(block, Some(content));
            };
            let freed = self.journal().settle_home(*unit, &mut keep);
            if let (HomeUnit::Block(block), Some(freed)) = (unit, freed) {
                choose::release_run(self, *block, freed)?;
            }
        }
        Ok(())
    }
}
