// SPDX-License-Identifier: GPL-2.0

//! A commit in its steps: swap, submission, completion of each segment, the flushes in front and behind, and the end.

use super::machine::{told, Machine, Told};
use super::medium::Request;
use super::step::Step;
use super::Flusher;
use crate::disk::Write;
use cairnfs_core::format::journal::HEADER_BLOCKS;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::journal::commit::{Commit, CommitRequest, CommitSpace, Ending, NoCommit};
use cairnfs_core::journal::transaction::Logged;
use cairnfs_core::memory::{Buffer, OrderedMap};
use cairnfs_core::units::{FlushNo, TransactionId, BLOCK_BYTES};
use std::hash::Hash;
use xxhash_rust::xxh3::Xxh3;

/// How far the commit is.
#[derive(Default)]
enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// Its records are made and sealed.
    Swapped(Commit),
    /// The flush in front of its first record is under way.
    PreFlushing(Commit),
    /// Its records are, or have completed.
    Writing(Commit),
    /// The flush behind them is under way.
    Flushing(Commit, FlushNo),
    /// It has ended.
    Flushed(Commit),
    /// Nothing was to be committed, but earlier records have only been written: a flush makes them stable.
    Catching(TransactionId, FlushNo),
}

/// The commit under way, if there is one.
#[derive(Default)]
pub(super) struct CommitWork {
    phase: Phase,
    /// Handles that had closed at each swap, and whether somebody waits for it.
    swaps: Vec<(usize, bool)>,
    /// Commits that have ended.
    ended: usize,
}

impl CommitWork {
    /// Adds to a hash what tells this commit from others, but for the clock of flushes.
    pub(super) fn add_to(&self, hasher: &mut Xxh3) {
        let number = match &self.phase {
            Phase::Idle => 0,
            Phase::Swapped(_) => 1,
            Phase::PreFlushing(_) => 2,
            Phase::Writing(_) => 3,
            Phase::Flushing(..) => 4,
            Phase::Flushed(_) => 5,
            Phase::Catching(..) => 6,
        };
        (number, &self.swaps, self.ended).hash(hasher);
    }

    /// The flush that it waits for.
    pub(super) const fn flush(&self) -> Option<FlushNo> {
        match &self.phase {
            Phase::Swapped(commit) | Phase::PreFlushing(commit) | Phase::Writing(commit) => commit.pre_flush,
            Phase::Flushing(_, flush) | Phase::Catching(_, flush) => Some(*flush),
            Phase::Idle | Phase::Flushed(_) => None,
        }
    }

    fn swapped(&self) -> usize {
        self.swaps.last().map_or(0, |(closed, _)| *closed)
    }
}

impl Machine<'_> {
    pub(super) fn add_commit_steps(&mut self, steps: &mut Vec<Step>) {
        match &self.commit.phase {
            Phase::Idle => {
                let is_running = self.closed.len() > self.commit.swapped();
                let stable = self.volume.journal().stable_transaction();
                let is_behind = self.closed.last().is_some_and(|(_, newest)| *newest > stable);
                if is_running || is_behind {
                    steps.push(Step::Swap);
                }
                // One is enough to have a transaction that is written and not stable.
                if is_running && self.commit.swaps.iter().all(|(_, durable)| *durable) {
                    steps.push(Step::SwapLazily);
                }
            }
            Phase::Swapped(_) => steps.push(Step::Submit),
            Phase::PreFlushing(_) => steps.push(Step::EndPreFlush),
            Phase::Writing(commit) => {
                let segments = (0..2).map(Request::Segment);
                if !segments.into_iter().any(|segment| self.medium.is_under_way(segment)) {
                    let flushes = commit.ending == Ending::Flush;
                    steps.push(if flushes { Step::StartFlush } else { Step::EndCommit });
                }
            }
            Phase::Flushing(..) | Phase::Catching(..) => steps.push(Step::EndFlush),
            Phase::Flushed(_) => steps.push(Step::EndCommit),
        }
    }

    /// How the commit under way goes on, when nothing else happens.
    pub(super) fn next_of_commit(&mut self) -> Option<Step> {
        if matches!(self.commit.phase, Phase::Idle) {
            return None;
        }
        let mut steps = Vec::new();
        self.add_commit_steps(&mut steps);
        let segments = (0..2).map(Request::Segment).filter(|segment| self.medium.is_under_way(*segment));
        steps.extend(segments.map(Step::Complete));
        steps.first().copied()
    }

    pub(super) fn swap(&mut self, durable: bool) -> Told {
        let bound = self.volume.journal().commit_bytes_bound();
        let space = CommitSpace {
            buffer: told(Buffer::zeroed(bound as usize).map_err(Into::into))?,
            node: told(OrderedMap::<TransactionId, Logged>::reserve().map_err(Into::into))?,
        };
        let request =
            CommitRequest { durable, force_unit_access: self.prepared.force_unit_access, now_ns: 5 };
        let begun = told(self.volume.journal().begin_commit(&request, space))?;
        self.commit.phase = match begun {
            Ok(mut commit) => {
                let crc = told(commit.seal(self.volume.platform(), &self.volume.superblock().uuid))?;
                self.volume.journal().sealed(crc);
                self.commit.swaps.push((self.closed.len(), durable));
                Phase::Swapped(commit)
            }
            Err(NoCommit::NotDurable(newest)) => {
                let flush = self.volume.journal().clock().start();
                self.medium.start_flush(Flusher::Behind);
                Phase::Catching(newest, flush)
            }
            Err(NoCommit::Nothing | NoCommit::MoreSpace(_)) => {
                return Err("there is nothing to commit, or it does not fit its bound".into())
            }
        };
        Ok(())
    }

    fn take_commit(&mut self) -> Phase {
        std::mem::take(&mut self.commit.phase)
    }

    pub(super) fn submit_records(&mut self) -> Told {
        let Phase::Swapped(commit) = self.take_commit() else { return Err("nothing was swapped".into()) };
        self.submit_segment(&commit, 1)?;
        if commit.pre_flush.is_some() {
            self.medium.start_flush(Flusher::Before);
            self.commit.phase = Phase::PreFlushing(commit);
        } else {
            self.submit_segment(&commit, 0)?;
            self.commit.phase = Phase::Writing(commit);
        }
        Ok(())
    }

    fn submit_segment(&self, commit: &Commit, index: u8) -> Told {
        let segment = commit.segments[usize::from(index)];
        if segment.bytes == 0 {
            return Ok(());
        }
        let ring = (self.volume.layout().journal_start.0 + HEADER_BLOCKS) * BLOCK_BYTES as u64;
        let write = Write {
            start_byte: ring + segment.position.0,
            bytes: commit.buffer[segment.offset..segment.offset + segment.bytes].into(),
            durable: commit.ending == Ending::ForceUnitAccess,
        };
        self.medium.submit(Request::Segment(index), vec![write])
    }

    pub(super) fn end_pre_flush(&mut self) -> Told {
        let Phase::PreFlushing(commit) = self.take_commit() else {
            return Err("no flush was in front".into());
        };
        self.medium.end_flush(Flusher::Before);
        self.submit_segment(&commit, 0)?;
        self.commit.phase = Phase::Writing(commit);
        Ok(())
    }

    /// The flush in front is part of the first segment's bio, and is known to have completed when that has.
    pub(super) fn segment_completed(&mut self, index: u8) -> Told {
        if let (0, Phase::Writing(commit)) = (index, &self.commit.phase) {
            if let Some(flush) = commit.pre_flush {
                self.volume.journal().clock().complete(flush);
            }
        }
        Ok(())
    }

    pub(super) fn start_flush(&mut self) -> Told {
        let Phase::Writing(commit) = self.take_commit() else { return Err("no records were written".into()) };
        let flush = self.volume.journal().clock().start();
        self.medium.start_flush(Flusher::Behind);
        self.commit.phase = Phase::Flushing(commit, flush);
        Ok(())
    }

    pub(super) fn end_flush(&mut self) -> Told {
        self.medium.end_flush(Flusher::Behind);
        match self.take_commit() {
            Phase::Flushing(commit, flush) => {
                self.volume.journal().clock().complete(flush);
                self.commit.phase = Phase::Flushed(commit);
                Ok(())
            }
            Phase::Catching(newest, flush) => {
                let mut journal = self.volume.journal();
                journal.clock().complete(flush);
                journal.stable_through(newest);
                drop(journal);
                self.stable_has_moved()
            }
            _ => Err("no flush was behind".into()),
        }
    }

    pub(super) fn end_commit(&mut self) -> Told {
        let (Phase::Writing(commit) | Phase::Flushed(commit)) = self.take_commit() else {
            return Err("no commit was under way".into());
        };
        told(self.volume.journal().end_commit(&commit, Ok(())))?;
        self.commit.ended += 1;
        if commit.ending == Ending::None {
            return Ok(());
        }
        self.stable_has_moved()
    }

    /// Waiters wake, and what has been freed durably goes back.
    fn stable_has_moved(&mut self) -> Told {
        self.checkpoint.header_is_due();
        loop {
            let released = self.volume.journal().take_released();
            let Some(mut released) = released else { break };
            while let Some((start, freed)) = released.pop_first() {
                self.give_back(start, freed)?;
            }
        }
        self.promise_stable(Vec::new());
        Ok(())
    }
}
