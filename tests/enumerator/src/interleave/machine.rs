// SPDX-License-Identifier: GPL-2.0

//! One execution of a script, step by step: core's journal, its handles and a disk, with everything that a binding would do
//! at once or wait for taken apart.
//!
//! What `rust/fs` is to be, and `tools/volume` is: it calls core in the order that core asks for, and lets the schedule
//! choose whatever core leaves open. Locks of inodes are kept as the VFS and the filesystem keep them.

use super::checkpoint::Checkpoint;
use super::commit::CommitWork;
use super::medium::{Medium, Request};
use super::prepared::Prepared;
use super::step::Step;
use super::threads::Thread;
use crate::model::Tree;
use crate::run::{Promise, Record, Step as State};
use crate::survey::Survey;
use cairnfs_core::error::{Error, Result as CoreResult};
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::transaction::Freed;
use cairnfs_core::space::choose::{self, Groups as _};
use cairnfs_core::units::{BlockNo, GroupNo, TransactionId};
use cairnfs_volume::Volume;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use xxhash_rust::xxh3::Xxh3;

/// What is wrong, in words.
pub(super) type Told<T = ()> = Result<T, String>;

/// Digests of states, by the steps that led there: the same steps are taken again and again.
pub(super) type Digests = HashMap<Vec<Step>, u128>;

pub(super) fn told<T>(result: CoreResult<T>) -> Told<T> {
    result.map_err(|error| format!("{error:?}"))
}

/// A script under way.
pub(super) struct Machine<'v> {
    pub(super) prepared: &'v Prepared,
    pub(super) volume: &'v Volume<'v>,
    pub(super) medium: &'v Medium,
    pub(super) threads: Vec<Thread<'v>>,
    pub(super) commit: CommitWork,
    pub(super) checkpoint: Checkpoint,
    pub(super) tree: Tree,
    /// What the oracle judges by; events are steps here.
    pub(super) record: Record,
    /// Handles in the order in which they closed: thread, and transaction.
    pub(super) closed: Vec<(u8, TransactionId)>,
    /// Steps taken.
    pub(super) taken: Vec<Step>,
    /// When contents of each file completed last.
    pub(super) data_marks: BTreeMap<&'static str, FlushMark>,
    /// When all contents that were written completed, in that order.
    pub(super) marks: Vec<FlushMark>,
    /// The newest version of each block, by mapping and block, whose write has completed.
    pub(super) completed: BTreeMap<(u64, u64), usize>,
    /// The transaction of each file's last change.
    pub(super) changed_by: BTreeMap<&'static str, TransactionId>,
    digests: &'v mut Digests,
}

impl<'v> Machine<'v> {
    /// The script before its first step.
    pub(super) fn new(
        prepared: &'v Prepared,
        volume: &'v Volume<'v>,
        medium: &'v Medium,
        digests: &'v mut Digests,
    ) -> Told<Self> {
        let first = State { digest: prepared.digest, tree: prepared.tree.clone(), action: 0 };
        let record = Record {
            base: prepared.image.clone(),
            log: Vec::new(),
            steps: vec![first],
            promises: vec![Promise { events: 0, step: 0, data: Vec::new() }],
            history: prepared.history(),
            done: BTreeMap::new(),
        };
        // So that whether it is in memory does not depend on what was looked at.
        told(volume.with_group(GroupNo(0), &mut |_| Ok(())))?;
        Ok(Self {
            prepared,
            volume,
            medium,
            threads: prepared.script.threads.iter().map(|operations| Thread::new(operations)).collect(),
            commit: CommitWork::default(),
            checkpoint: Checkpoint::new()?,
            tree: prepared.tree.clone(),
            record,
            closed: Vec::new(),
            taken: Vec::new(),
            data_marks: BTreeMap::new(),
            marks: Vec::new(),
            completed: BTreeMap::new(),
            changed_by: BTreeMap::new(),
            digests,
        })
    }

    /// What may happen next.
    pub(super) fn enabled(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for thread in 0..self.threads.len() as u8 {
            if self.thread_may_go_on(thread) {
                steps.push(Step::Thread(thread));
            }
        }
        // Only threads read through the cache, so it is enough to evict right before one of them goes on.
        if self.taken.last() == Some(&Step::Evict) {
            return steps;
        }
        self.add_commit_steps(&mut steps);
        self.add_checkpoint_steps(&mut steps);
        steps.extend(self.medium.under_way().into_iter().map(Step::Complete));
        if self.volume.cached_blocks() > 0 && steps.iter().any(|step| matches!(step, Step::Thread(_))) {
            steps.push(Step::Evict);
        }
        steps
    }

    /// Takes a step that is enabled.
    pub(super) fn take(&mut self, step: Step) -> Told {
        let taken = match step {
            Step::Thread(thread) => self.thread_goes_on(thread),
            Step::Complete(request) => self.complete(request),
            Step::Swap => self.swap(true),
            Step::SwapLazily => self.swap(false),
            Step::Submit => self.submit_records(),
            Step::EndPreFlush => self.end_pre_flush(),
            Step::StartFlush => self.start_flush(),
            Step::EndFlush => self.end_flush(),
            Step::EndCommit => self.end_commit(),
            Step::StartHome => self.start_home(),
            Step::StartHomeFlush => self.start_home_flush(),
            Step::EndHomeFlush => self.end_home_flush(),
            Step::StartHeader => self.start_header(),
            Step::Evict => {
                self.volume.drop_cache();
                Ok(())
            }
        };
        self.taken.push(step);
        taken.map_err(|what| format!("{step:?}: {what}"))
    }

    fn complete(&mut self, request: Request) -> Told {
        self.medium.complete(request);
        match request {
            Request::Data(thread) => self.data_completed(thread),
            Request::Segment(segment) => self.segment_completed(segment),
            Request::Home(slot) => self.home_completed(slot),
            Request::Header => self.header_completed(),
        }
    }

    /// A handle has closed: the state that it leaves is one that a cut may leave.
    pub(super) fn closed(&mut self, thread: u8, transaction: TransactionId, has_stale_blocks: bool) -> Told {
        self.closed.push((thread, transaction));
        if has_stale_blocks {
            self.volume.drop_cache();
        }
        let mut steps = self.taken.clone();
        steps.push(Step::Thread(thread));
        let digest = match self.digests.get(&steps) {
            Some(digest) => *digest,
            None => {
                let survey = Survey::take(self.volume)?;
                self.tree.compare(&survey)?;
                self.digests.insert(steps, survey.digest);
                survey.digest
            }
        };
        // Looking reads blocks, and the same steps must do the same whether somebody looks or not.
        self.volume.drop_cache();
        self.record.steps.push(State { digest, tree: self.tree.clone(), action: self.taken.len() });
        Ok(())
    }

    /// Everything that is stable now has been promised; and these versions of blocks.
    pub(super) fn promise_stable(&mut self, data: Vec<(u64, u64, usize)>) {
        let stable = self.volume.journal().stable_transaction();
        let step = self.closed.iter().filter(|(_, transaction)| *transaction <= stable).count();
        // What has been promised holds at a cut behind this step.
        self.record.promises.push(Promise { events: self.taken.len() + 1, step, data });
    }

    /// Blocks whose free is durable go back to their group.
    pub(super) fn give_back(&self, start: BlockNo, freed: Freed) -> Told {
        told(choose::release_run(self.volume, start, freed))
    }

    /// Whether an error only says that there is no room now.
    pub(super) const fn is_shortage(error: Error) -> bool {
        matches!(error, Error::NoSpace | Error::NoInodes | Error::JournalFull)
    }

    /// Tells this state from others: two executions with one key go on alike.
    pub(super) fn key(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.medium.add_to(&mut hasher);
        for thread in &self.threads {
            thread.add_to(&mut hasher);
        }
        self.closed.hash(&mut hasher);
        self.commit.add_to(&mut hasher);
        self.checkpoint.add_to(&mut hasher);
        self.completed.hash(&mut hasher);
        (self.volume.cached_blocks(), self.taken.last() == Some(&Step::Evict)).hash(&mut hasher);
        let mut journal = self.volume.journal();
        let (head, tail) = (journal.ring().head(), journal.tail());
        (head.absolute, head.tail.sequence, tail.absolute, journal.ring().used_bytes()).hash(&mut hasher);
        (journal.running_transaction(), journal.stable_transaction()).hash(&mut hasher);
        let mark = journal.clock().mark();
        drop(journal);
        self.add_clock_to(mark, &mut hasher);
        hasher.write(&self.promised().to_le_bytes());
        hasher.digest128()
    }

    /// Adds the clock of flushes: of all marks and flushes in play only the order counts, and what is covered.
    fn add_clock_to(&self, now: FlushMark, hasher: &mut Xxh3) {
        let files = self.data_marks.values().copied();
        let threads = self.threads.iter().map(Thread::flush_or_mark);
        let work = [Some(now), self.commit.flush(), self.checkpoint.flush()];
        let in_play: Vec<Option<FlushMark>> =
            files.chain(self.marks.iter().copied()).map(Some).chain(threads).chain(work).collect();
        let mut numbers: Vec<FlushMark> = in_play.iter().flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in in_play {
            number.map(|number| numbers.binary_search(&number)).hash(hasher);
            number.map(|number| self.volume.journal().clock().covers(number)).hash(hasher);
        }
    }

    /// What the oracle holds a cut now to, as a hash.
    pub(super) fn promised(&self) -> u64 {
        let mut hasher = Xxh3::new();
        let step = self.record.promises.iter().map(|promise| promise.step).max().unwrap_or(0);
        for state in &self.record.steps[..=step] {
            state.digest.hash(&mut hasher);
        }
        for promise in &self.record.promises {
            promise.data.hash(&mut hasher);
        }
        hasher.finish()
    }
}
