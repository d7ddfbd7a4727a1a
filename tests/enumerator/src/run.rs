// SPDX-License-Identifier: GPL-2.0

//! Running a workload on core and on the model side by side.
//!
//! After each handle the whole filesystem is walked, checked and compared with the model; its digest is kept, with the model's
//! state and with how much had reached the disk. What was promised, and when, is kept too. Crash states are judged by that.
//! The actions themselves are in the parts: on [`names`], on contents ([`data`]), on [`attributes`], of the journal ([`promises`]),
//! with two handles open ([`overlap`]).

use crate::disk::{Event, Image, SimulatedDisk};
use crate::model::{History, Tree};
use crate::platform::RepeatablePlatform;
use crate::survey::Survey;
use crate::workload::{Action, Kind, Workload};
use cairnfs_core::error::{Error, Result as CoreResult};
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::checkpoint::HomeUnit;
use cairnfs_core::operation::rename::Mode;
use cairnfs_volume::{CommitInProgress, DataWrite, Volume};
use std::collections::BTreeMap;

mod attributes;
mod data;
mod image;
mod names;
mod overlap;
mod promises;

pub(crate) use image::move_head;
pub use image::{geometry, make_image};

/// The state after a handle.
pub struct Step {
    /// Of [`Survey`].
    pub digest: u128,
    /// The model's.
    pub tree: Tree,
    /// Which action it belongs to.
    pub action: usize,
}

/// Something that was promised.
pub struct Promise {
    /// When: events that had reached the disk.
    pub events: usize,
    /// This state, or a later one.
    pub step: usize,
    /// These blocks: mapping, file block, and the oldest version that may be seen.
    pub data: Vec<(u64, u64, usize)>,
}

/// What is known of a run.
pub struct Record {
    /// The disk before it.
    pub base: Image,
    /// What reached the disk.
    pub log: Vec<Event>,
    /// The states.
    pub steps: Vec<Step>,
    /// The promises.
    pub promises: Vec<Promise>,
    /// What was written to files.
    pub history: History,
    /// Actions that did something, and how often.
    pub done: BTreeMap<Kind, u64>,
}

/// Core and model disagree without any crash.
#[derive(Debug)]
pub struct Disagreement {
    /// After which action.
    pub action: usize,
    /// What.
    pub what: String,
}

struct InFlight {
    write: DataWrite,
    number: u64,
    mapping: u64,
}

struct Run<'d> {
    volume: Volume<'d>,
    disk: &'d SimulatedDisk,
    tree: Tree,
    history: History,
    steps: Vec<Step>,
    promises: Vec<Promise>,
    in_flight: Vec<InFlight>,
    commit: Option<(CommitInProgress, usize)>,
    homes: Vec<HomeUnit>,
    action: usize,
    done: BTreeMap<Kind, u64>,
}

/// Runs a workload. Its record, or where core and model first disagreed.
pub fn run(workload: &Workload) -> Result<Record, Disagreement> {
    let base = make_image(workload);
    let disk = SimulatedDisk::new(base.clone(), true, workload.force_unit_access);
    let platform = RepeatablePlatform::new(workload.seed);
    let outcome = run_on(workload, &disk, &platform)?;
    let Outcome { history, steps, promises, done } = outcome;
    Ok(Record { base, steps, promises, history, done, log: disk.into_log() })
}

struct Outcome {
    history: History,
    steps: Vec<Step>,
    promises: Vec<Promise>,
    done: BTreeMap<Kind, u64>,
}

fn run_on(
    workload: &Workload,
    disk: &SimulatedDisk,
    platform: &RepeatablePlatform,
) -> Result<Outcome, Disagreement> {
    let failed = |action: usize, what: String| Disagreement { action, what };
    let volume = Volume::mount(disk, platform).map_err(|error| failed(0, format!("mount: {error:?}")))?;
    let volume = if workload.force_unit_access { volume.with_force_unit_access() } else { volume };
    let mut run = Run {
        volume,
        disk,
        tree: Tree::new(),
        history: History::default(),
        steps: Vec::new(),
        promises: Vec::new(),
        in_flight: Vec::new(),
        commit: None,
        homes: Vec::new(),
        action: 0,
        done: BTreeMap::new(),
    };
    run.step().map_err(|what| failed(0, what))?;
    run.promise(Vec::new());
    for (index, action) in workload.actions.iter().enumerate() {
        run.action = index;
        run.act(action).map_err(|what| failed(index, format!("{action:?}: {what}")))?;
    }
    run.finish().map_err(|what| failed(workload.actions.len(), format!("unmount: {what}")))
}

fn name(choice: u32) -> Vec<u8> {
    let number = choice % 9;
    match number % 3 {
        0 | 1 => format!("name{number}").into_bytes(),
        _ => {
            let mut name = format!("long{number}").into_bytes();
            name.resize(200 + number as usize * 6, b'x');
            name
        }
    }
}

fn new_inode(mode: u16) -> NewInode {
    NewInode { mode, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 }
}

fn pick<T: Clone>(items: &[T], choice: u32) -> Option<T> {
    items.get(choice as usize % items.len().max(1)).cloned()
}

type Told<T = ()> = Result<T, String>;

fn told<T>(result: CoreResult<T>) -> Told<T> {
    result.map_err(|error| format!("{error:?}"))
}

impl<'d> Run<'d> {
    /// A handle has closed: walks, compares, remembers.
    fn step(&mut self) -> Told {
        let survey = Survey::take(&self.volume)?;
        self.step_as(&survey)
    }

    /// As [`Run::step`], when the state has been walked already.
    fn step_as(&mut self, survey: &Survey) -> Told {
        self.tree.compare(survey)?;
        self.steps.push(Step { digest: survey.digest, tree: self.tree.clone(), action: self.action });
        Ok(())
    }

    fn count(&mut self, kind: Kind) {
        *self.done.entry(kind).or_default() += 1;
    }

    fn act(&mut self, action: &Action) -> Told {
        let [a, b, c] = action.choices;
        let before = self.steps.len();
        let kind = action.kind;
        let acted = match kind {
            Kind::Create => self.create(a, b, if c % 5 == 0 { 0o010_644 } else { 0o100_644 }, None)?,
            Kind::MakeDirectory => self.create(a, b, 0o040_755, None)?,
            Kind::ShortSymlink => self.create(a, b, 0o120_777, Some(vec![b's'; 1 + c as usize % 90]))?,
            Kind::LongSymlink => self.create(a, b, 0o120_777, Some(vec![b'l'; 1000 + c as usize % 3000]))?,
            Kind::Link => self.link(a, b, &name(c))?,
            Kind::Unlink => self.unlink(a)?,
            Kind::RemoveDirectory => self.remove_directory(a)?,
            Kind::Rename => self.rename(a, b, c, Mode::Replace, false)?,
            Kind::RenameNoReplace => self.rename(a, b, c, Mode::NoReplace, false)?,
            Kind::RenameExchange => self.exchange(a, b)?,
            Kind::RenameWhiteout => self.rename(a, b, c, Mode::Replace, true)?,
            Kind::Shrink => self.shrink(a, b)?,
            Kind::Grow => self.grow(a, b)?,
            Kind::StartWrite => self.start_write(a, b, c)?,
            Kind::FinishWrite => self.finish_write(a)?,
            Kind::Overwrite => self.overwrite(a, b, c)?,
            Kind::SmallAttribute => self.set_attribute(a, b, 1 + c as usize % 60)?,
            Kind::LargeAttribute => self.set_attribute(a, b, 300 + c as usize % 1200)?,
            Kind::RemoveAttribute => self.remove_attribute(a, b)?,
            Kind::SetAttributes => self.set_attributes(a, b)?,
            Kind::FillDirectory => self.fill_directory(a, b, 20 + c % 120)?,
            Kind::EmptyDirectory => self.empty_directory(a)?,
            Kind::Fragment => self.fragment(a, 10 + c % 30)?,
            Kind::Checkerboard => self.checkerboard([a, b], c)?,
            Kind::Fsync => self.fsync(a)?,
            Kind::Fdatasync => self.fdatasync(a)?,
            Kind::Sync => self.sync()?,
            Kind::LazyCommit => self.lazy_commit()?,
            Kind::BeginCommit => self.begin_commit()?,
            Kind::EndCommit => self.end_commit()?,
            Kind::Checkpoint => self.checkpoint()?,
            Kind::WriteHome => self.write_home(1 + a as usize % 6, b % 2 == 0)?,
            Kind::Settle => self.settle()?,
            Kind::WriteHeader => {
                told(self.volume.write_header(false))?;
                true
            }
            Kind::RemoveOrphan => self.remove_orphan()?,
            Kind::Overlap => self.overlap(a, b)?,
            Kind::DropCache => {
                self.volume.drop_cache();
                true
            }
        };
        if acted {
            self.count(kind);
        }
        if self.steps.len() == before && acted {
            // Nothing was to change: look whether nothing has.
            let survey = Survey::take(&self.volume)?;
            self.tree.compare(&survey)?;
            if self.steps.last().is_some_and(|step| step.digest != survey.digest) {
                return Err("the state has changed".into());
            }
        }
        Ok(())
    }

    /// Compares what core says with what the model expects; `true`: the model is to follow.
    fn expect<T>(&self, result: CoreResult<T>, expected: Option<Error>) -> Told<Option<T>> {
        match (result, expected) {
            (Ok(value), None) => Ok(Some(value)),
            (Err(found), Some(wanted)) if found == wanted => Ok(None),
            (Err(Error::NoInodes), _) if self.volume.journal().totals().free_inodes == 0 => Ok(None),
            (Err(Error::NoSpace), _) if self.is_nearly_full() => Ok(None),
            (Ok(_), Some(wanted)) => Err(format!("succeeded, and should be {wanted:?}")),
            (Err(found), wanted) => Err(format!("is {found:?}, and should be {wanted:?}")),
        }
    }

    /// Whether an operation may find no space: what is free may be in flight or freed too lately.
    fn is_nearly_full(&self) -> bool {
        self.volume.journal().totals().free_blocks < 120 && self.volume.layout().group_count == 1
    }

    /// Another commit cannot begin meanwhile, and operations may need one.
    fn end_commit_if_crowded(&mut self) -> Told {
        let (used, bytes, bound) = {
            let journal = self.volume.journal();
            (journal.ring().used_bytes(), journal.ring().bytes(), journal.commit_bytes_bound())
        };
        // An operation that finds no space, or no inode, commits and tries again.
        let is_short = self.is_nearly_full() || self.volume.journal().totals().free_inodes < 3;
        if is_short {
            self.end_commit()?;
        }
        if used > bytes / 3 || bound > bytes / 12 {
            self.end_commit()?;
            self.settle()?;
        }
        if used > bytes / 2 {
            told(self.volume.checkpoint())?;
            self.promise(Vec::new());
        }
        Ok(())
    }

    fn finish(mut self) -> Told<Outcome> {
        self.end_commit()?;
        while !self.in_flight.is_empty() {
            self.finish_write(0)?;
        }
        while self.remove_orphan()? {}
        self.settle()?;
        let step = self.steps.len() - 1;
        told(self.volume.unmount())?;
        self.promises.push(Promise { events: self.disk.events(), step, data: Vec::new() });
        Ok(Outcome { history: self.history, steps: self.steps, promises: self.promises, done: self.done })
    }
}
