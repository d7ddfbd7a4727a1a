// SPDX-License-Identifier: GPL-2.0

//! Committing: the running transaction's records go to the ring, and what it freed goes back to its groups.
//!
//! In one go ([`Volume::commit`]), or in the steps of [`CommitInProgress`], between which a test may do other things.

use crate::{lock, Volume};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::journal::HEADER_BLOCKS;
use cairnfs_core::journal::commit::{Commit, CommitRequest, CommitSpace, Ending, NoCommit};
use cairnfs_core::journal::transaction::Logged;
use cairnfs_core::memory::{Buffer, OrderedMap};
use cairnfs_core::space::choose;
use cairnfs_core::units::{TransactionId, BLOCK_BYTES};
use std::sync::PoisonError;

/// A commit whose records have been made and sealed, but not all written.
pub struct CommitInProgress {
    commit: Commit,
}

impl Volume<'_> {
    /// Commits the running transaction, durably. Without one, everything that was closed is durable already.
    pub fn commit(&self) -> Result {
        let Some(commit) = self.begin_commit(true)? else {
            return Ok(());
        };
        let outcome = self.write_commit(&commit);
        self.end_commit(commit, outcome)
    }

    /// Swaps the running transaction out and seals its records; `None` when there is nothing to commit. Waits for the commit
    /// of another thread to end; one that this thread has begun and not ended is [`Error::WouldBlock`].
    pub fn begin_commit(&self, durable: bool) -> Result<Option<CommitInProgress>> {
        self.take_turn()?;
        let begun = self.swap_and_seal(durable);
        if !matches!(begun, Ok(Some(_))) {
            self.end_turn();
        }
        begun
    }

    fn take_turn(&self) -> Result {
        let this = std::thread::current().id();
        let mut committer = lock(&self.committer);
        while let Some(other) = *committer {
            if other == this {
                return Err(Error::WouldBlock);
            }
            committer = self.commit_ended.wait(committer).unwrap_or_else(PoisonError::into_inner);
        }
        *committer = Some(this);
        Ok(())
    }

    fn end_turn(&self) {
        *lock(&self.committer) = None;
        self.commit_ended.notify_all();
    }

    fn swap_and_seal(&self, durable: bool) -> Result<Option<CommitInProgress>> {
        loop {
            let bound = self.journal().commit_bytes_bound();
            let length = usize::try_from(bound).map_err(|_| Error::TooLarge)?;
            let space = CommitSpace {
                buffer: Buffer::zeroed(length)?,
                node: OrderedMap::<TransactionId, Logged>::reserve()?,
            };
            let request = CommitRequest {
                durable,
                force_unit_access: self.force_unit_access,
                now_ns: self.platform.now_ns(),
            };
            let outcome = self.journal().begin_commit(&request, space)?;
            match outcome {
                Ok(mut commit) => {
                    let crc = commit.seal(self.platform, &self.superblock.uuid)?;
                    self.journal().sealed(crc);
                    return Ok(Some(CommitInProgress { commit }));
                }
                Err(NoCommit::Nothing) => return Ok(None),
                Err(NoCommit::NotDurable(newest)) => {
                    self.flush()?;
                    self.journal().stable_through(newest);
                    self.give_back_released()?;
                    return Ok(None);
                }
                Err(NoCommit::MoreSpace(_)) => {}
            }
        }
    }

    /// Writes the records and makes them durable as the commit wants it.
    pub fn write_commit(&self, in_progress: &CommitInProgress) -> Result {
        let commit = &in_progress.commit;
        if let Some(flush) = commit.pre_flush {
            self.device.flush()?;
            self.journal().clock().complete(flush);
        }
        let ring = (self.geometry.journal_start.0 + HEADER_BLOCKS) * BLOCK_BYTES as u64;
        let durably = commit.ending == Ending::ForceUnitAccess;
        for segment in commit.segments.iter().filter(|segment| segment.bytes > 0) {
            let bytes = &commit.buffer[segment.offset..segment.offset + segment.bytes];
            self.device.write_sectors(ring + segment.position.0, bytes, durably)?;
        }
        if commit.ending == Ending::Flush {
            self.flush()?;
        }
        Ok(())
    }

    /// A flush of the device, counted by the journal's clock.
    pub fn flush(&self) -> Result {
        let number = self.journal().clock().start();
        if let Err(error) = self.device.flush() {
            // What the cache held may be gone, and a second flush would say that all is well.
            self.journal().fail(error);
            return Err(error);
        }
        self.journal().clock().complete(number);
        Ok(())
    }

    /// The commit's I/O has ended: wakes nobody here, but gives back what the transaction freed.
    #[expect(clippy::needless_pass_by_value, reason = "a commit ends once")]
    pub fn end_commit(&self, in_progress: CommitInProgress, outcome: Result) -> Result {
        let ended = self.journal().end_commit(&in_progress.commit, outcome);
        self.end_turn();
        ended?;
        self.give_back_released()
    }

    fn give_back_released(&self) -> Result {
        loop {
            let released = self.journal().take_released();
            let Some(mut released) = released else {
                return Ok(());
            };
            while let Some((start, freed)) = released.pop_first() {
                choose::release_run(self, start, freed)?;
            }
        }
    }

    /// How many metadata blocks the cache of clean ones holds.
    pub fn cached_blocks(&self) -> usize {
        lock(&self.cache).len()
    }

    /// Forgets all clean metadata blocks, so that what is read next comes from the device.
    pub fn drop_cache(&self) {
        let mut cache = lock(&self.cache);
        while !cache.is_empty() {
            cache.shrink(usize::MAX);
        }
    }
}
