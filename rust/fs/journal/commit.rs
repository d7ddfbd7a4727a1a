// SPDX-License-Identifier: GPL-2.0

//! Committing: whoever has to wait for durability first does the work, and whoever comes meanwhile makes up the next batch.
//!
//! The leader swaps the running transaction out, seals its records, writes them as one run (two where the ring's end comes between),
//! makes them durable, and wakes everybody. Operations go on all the while. A waiter is content when its transaction is stable
//! and a flush covers its file's newest contents; else the next leader is one of those who are not.
//!
//! *Gathering* (jbd2's idea): a leader expects as many as the last commit served and left waiting, and gives them a moment to come:
//! no longer than a commit takes on average, and no longer than `group_delay_us`. Did he expect those only that it served, one half
//! would wait for the other half's commits for ever. Who is alone expects himself, and never waits.
//!
//! A crash leaves the records of a commit in any part; nobody has been told of it.
//!
//! Locks: `State::leading` is the commit mutex. The journal mutex is held for swap and end only, never during I/O.

#![forbid(unsafe_code)]

use crate::journal::State;
use crate::mounted::Mounted;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::journal::HEADER_BLOCKS;
use cairnfs_core::journal::commit::{Commit, CommitRequest, CommitSpace, Ending, NoCommit};
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::transaction::Logged;
use cairnfs_core::memory::{Buffer, OrderedMap};
use cairnfs_core::platform::Platform as _;
use cairnfs_core::space::choose;
use cairnfs_core::units::{TransactionId, BLOCK_BYTES};
use cairnfs_linux::block_device::WriteFlags;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::platform::{monotonic_ns, Kernel};

/// How long commits take, and how many they serve.
#[derive(Default)]
pub(crate) struct Gathering {
    /// How long a commit takes, averaged over the last few.
    average_ns: u64,
    /// Who has come since the last swap for a commit.
    came: u64,
    /// Who had come at the last swap.
    came_last: u64,
    /// Who had come behind that swap, when its commit ended.
    left: u64,
}

/// What a caller who wants something durable finds.
enum Turn {
    /// It is.
    Done,
    /// He commits.
    Commit,
    /// His transaction is stable, but his data is not: he flushes.
    Flush,
    /// Somebody else is at it.
    Wait,
}

impl State {
    /// What is left to be done for `transaction` and contents that completed at `mark`; whoever is to do it leads from here on.
    fn turn(
        &mut self,
        transaction: TransactionId,
        mark: Option<FlushMark>,
        is_counted: &mut bool,
    ) -> Result<Turn> {
        // First: behind a failure nobody is told any more that something is durable.
        self.journal.check()?;
        let is_stable = self.journal.stable_transaction() >= transaction;
        let is_covered = mark.is_none_or(|mark| self.journal.clock().covers(mark));
        if is_stable && is_covered {
            return Ok(Turn::Done);
        }
        if !is_stable && !*is_counted {
            self.gathering.came = self.gathering.came.saturating_add(1);
            *is_counted = true;
        }
        if self.leading {
            return Ok(Turn::Wait);
        }
        self.leading = true;
        Ok(if is_stable { Turn::Flush } else { Turn::Commit })
    }
}

impl Mounted {
    /// Returns when `transaction`, and contents that completed at `mark`, are durable.
    pub(crate) fn make_durable(&self, transaction: TransactionId, mark: Option<FlushMark>) -> Result {
        let mut is_counted = false;
        loop {
            let seen = self.journaling.committed.now();
            let turn = self.journaling.locked(|state| state.turn(transaction, mark, &mut is_counted))?;
            let outcome = match turn {
                Turn::Done => return Ok(()),
                Turn::Wait => {
                    self.journaling.arrived.signal();
                    self.journaling.committed.wait(seen);
                    continue;
                }
                Turn::Flush => self.flush(),
                Turn::Commit => {
                    self.gather();
                    self.lead_commit()
                }
            };
            self.journaling.locked(|state| state.leading = false);
            self.journaling.committed.signal();
            self.journaling.room.signal();
            outcome?;
        }
    }

    /// Commits what is running, and returns when it and everything before it is durable.
    pub(crate) fn commit(&self) -> Result {
        let transaction = self.journaling.locked(|state| state.journal.newest_transaction());
        self.make_durable(transaction, None)
    }

    /// As [`Mounted::commit`], and what has been freed until then may be taken. It may be durable by the commit of somebody who has
    /// not yet given it back: he does that before he ends. (What is going home just then comes back when that has ended.)
    pub(crate) fn commit_frees(&self) -> Result {
        self.commit()?;
        let seen = self.journaling.committed.now();
        if self.journaling.locked(|state| state.leading) {
            self.journaling.committed.wait(seen);
        }
        Ok(())
    }

    /// Gives others the time to join, where that has been worth it.
    fn gather(&self) {
        let limit_us = self.settings.group_delay_us();
        let (wait_us, expected) = self.journaling.locked(|state| {
            let gathering = &state.gathering;
            let wait_us = limit_us.min(gathering.average_ns / 1000);
            let expected = gathering.came_last.saturating_add(gathering.left);
            (wait_us, expected.min(self.settings.group_max_ops()))
        });
        if wait_us == 0 {
            return;
        }
        let end_ns = monotonic_ns().saturating_add(wait_us.saturating_mul(1000));
        loop {
            let seen = self.journaling.arrived.now();
            let came = self.journaling.locked(|state| state.gathering.came);
            let rest_us = end_ns.saturating_sub(monotonic_ns()) / 1000;
            if came >= expected || rest_us == 0 {
                return;
            }
            self.journaling.arrived.wait_us(seen, rest_us);
        }
    }

    /// One commit. The caller is the leader.
    fn lead_commit(&self) -> Result {
        let began_ns = monotonic_ns();
        let outcome = without_filesystem_reclaim(|| {
            let Some(commit) = self.begin_commit()? else {
                return Ok(());
            };
            let written = self.write_commit(&commit);
            let ended = self.journaling.locked(|state| state.journal.end_commit(&commit, written));
            ended?;
            self.counters.commits.add(1);
            self.give_back_released()
        });
        let took_ns = monotonic_ns().saturating_sub(began_ns);
        self.journaling.locked(|state| {
            let gathering = &mut state.gathering;
            gathering.average_ns = (gathering.average_ns.saturating_mul(3).saturating_add(took_ns)) / 4;
            gathering.left = gathering.came;
        });
        // Without memory the next commit tries again; whatever else went wrong has been latched.
        if let Some(error) = self.journaling.locked(|state| state.journal.error()) {
            self.shut_down(error);
        }
        outcome
    }

    /// Swaps the running transaction out and seals its records; `None` when there is nothing to be written.
    fn begin_commit(&self) -> Result<Option<Commit>> {
        loop {
            let bound = self.journaling.locked(|state| state.journal.commit_bytes_bound());
            let length = usize::try_from(bound).map_err(|_| Error::TooLarge)?;
            let space = CommitSpace {
                buffer: Buffer::zeroed(length)?,
                node: OrderedMap::<TransactionId, Logged>::reserve()?,
            };
            let request = CommitRequest {
                durable: true,
                force_unit_access: self.has_force_unit_access(),
                now_ns: Kernel.now_ns(),
            };
            let begun = self.journaling.locked(|state| {
                let begun = state.journal.begin_commit(&request, space);
                if !matches!(begun, Ok(Err(NoCommit::MoreSpace(_)))) {
                    state.gathering.came_last = core::mem::take(&mut state.gathering.came);
                }
                begun
            })?;
            match begun {
                Ok(mut commit) => {
                    let crc = commit.seal(&Kernel, &self.uuid)?;
                    self.journaling.locked(|state| state.journal.sealed(crc));
                    return Ok(Some(commit));
                }
                Err(NoCommit::Nothing) => return Ok(None),
                Err(NoCommit::NotDurable(newest)) => {
                    self.flush()?;
                    self.journaling.locked(|state| state.journal.stable_through(newest));
                    self.give_back_released()?;
                    return Ok(None);
                }
                Err(NoCommit::MoreSpace(_)) => {}
            }
        }
    }

    /// Writes the records and makes them durable as the commit wants it.
    fn write_commit(&self, commit: &Commit) -> Result {
        let ring = self.ring_start_byte();
        let mut pre_flush = commit.pre_flush;
        let force_unit_access = commit.ending == Ending::ForceUnitAccess;
        for segment in commit.segments.iter().filter(|segment| segment.bytes > 0) {
            let end = segment.offset.saturating_add(segment.bytes);
            let bytes = commit.buffer.get(segment.offset..end).ok_or(Error::ShutDown)?;
            let start_byte = ring.saturating_add(segment.position.0);
            let flags = WriteFlags { pre_flush: pre_flush.is_some(), force_unit_access };
            let write = || self.device().write_sectors(start_byte, bytes, flags);
            match pre_flush.take() {
                None => write()?,
                Some(flush) => self.flushing(|| {
                    write()?;
                    self.journaling.locked(|state| state.journal.clock().complete(flush));
                    Ok(())
                })?,
            }
            self.counters.journal_bytes.add(segment.bytes as u64);
        }
        if commit.ending == Ending::Flush {
            self.flush()?;
        }
        Ok(())
    }

    /// Where the ring begins on the device.
    const fn ring_start_byte(&self) -> u64 {
        let first = self.metadata.layout().journal_start.0.saturating_add(HEADER_BLOCKS);
        first.saturating_mul(BLOCK_BYTES as u64)
    }

    /// A flush of the device, counted by the journal's clock.
    pub(crate) fn flush(&self) -> Result {
        self.flushing(|| {
            let number = self.journaling.locked(|state| state.journal.clock().start());
            self.counters.flushes.add(1);
            self.device().flush()?;
            self.journaling.locked(|state| state.journal.clock().complete(number));
            Ok(())
        })
    }

    /// Does what makes the device flush, one at a time. A failure is latched before the next one may begin: what the cache held may be
    /// gone, and a later flush would say that all is well. (The device takes one after the other anyway.)
    pub(crate) fn flushing(&self, issue: impl FnOnce() -> Result) -> Result {
        let _only_one = self.flusher.lock();
        self.journaling.locked(|state| state.journal.check())?;
        issue().inspect_err(|error| self.shut_down(*error))
    }

    /// Blocks whose free has become durable go back to their groups.
    fn give_back_released(&self) -> Result {
        while let Some(mut released) = self.journaling.locked(|state| state.journal.take_released()) {
            while let Some((start, freed)) = released.pop_first() {
                choose::release_run(self, start, freed)?;
            }
        }
        Ok(())
    }
}
