// SPDX-License-Identifier: GPL-2.0

//! Running a workload on core and on the model side by side.
//!
//! After each handle the whole filesystem is walked, checked and compared with the model; its digest is kept, with the model's
//! state and with how much had reached the disk. What was promised, and when, is kept too. Crash states are judged by that.

use crate::disk::{Event, Image, SimulatedDisk};
use crate::model::{Content, History, Mapped, Node, Tree, ROOT};
use crate::platform::RepeatablePlatform;
use crate::survey::Survey;
use crate::workload::{Action, Kind, Workload};
use cairnfs_core::attributes::SetMode;
use cairnfs_core::error::{Error, Result as CoreResult};
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::journal::JournalHeader;
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::checkpoint::HomeUnit;
use cairnfs_core::journal::replay;
use cairnfs_core::make::{self, Identity, Plan};
use cairnfs_core::operation::attributes::Changes;
use cairnfs_core::operation::data::Progress;
use cairnfs_core::operation::rename::{Mode, Place};
use cairnfs_core::units::{BlockNo, FileBlock, InodeNo, Position, BLOCK_BYTES};
use cairnfs_volume::{CommitInProgress, DataWrite, Volume};
use std::collections::BTreeMap;
use std::sync::Arc;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Blocks of a file in which actions write.
const FILE_BLOCKS: u64 = 24;

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

/// A new filesystem for a workload.
pub fn make_image(workload: &Workload) -> Image {
    let first_group_block = BlockNo(2 + 1024);
    let device_blocks = if workload.tiny {
        // Header, bitmaps, table, orphan index; and some 150 blocks for use.
        first_group_block.0 + 6 + u64::from(workload.inodes_per_group / 8) + 150
    } else {
        first_group_block.0 + u64::from(workload.groups) * 32_768 - 31_000
    };
    let plan = Plan {
        device_blocks,
        physical_block_bytes: workload.physical_block_bytes,
        journal_start: BlockNo(2),
        journal_blocks: 1024,
        first_group_block,
        group_blocks: 32_768,
        group_count: workload.groups,
        inodes_per_group: workload.inodes_per_group,
        initialised_groups: 1,
        orphan_blocks: 2,
        reserve_blocks: 8,
    };
    let disk = SimulatedDisk::new(Image::new(device_blocks), false, true);
    let platform = RepeatablePlatform::new(1);
    let identity = Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1 };
    make::write(&disk, &platform, &plan, &identity, &mut |_| {}).expect("a new filesystem");
    if workload.head_before_end > 0 {
        move_head(&disk, &platform, &plan, &identity, workload);
    }
    disk.image()
}

/// Lets the journal begin elsewhere in the ring: a clean header may name any place.
fn move_head(
    disk: &SimulatedDisk,
    platform: &RepeatablePlatform,
    plan: &Plan,
    identity: &Identity,
    workload: &Workload,
) {
    let superblock = cairnfs_volume::read_superblock(disk, platform).expect("a superblock");
    let geometry = plan.geometry(identity.filesystem_id(platform));
    let header = replay::read_header(disk, platform, &superblock, &geometry).expect("a header");
    let bytes = u64::from(workload.physical_block_bytes);
    let position = header.ring_bytes - workload.head_before_end * bytes;
    let mut moved = JournalHeader { counter: header.counter + 1, ..header };
    moved.tail.position = Position(position);
    let block = JournalHeader::next_block(geometry.journal_start, moved.counter);
    let mut content = vec![0; BLOCK_BYTES];
    moved.write(platform, &mut content, geometry.filesystem_id, block).expect("a header");
    let written = cairnfs_core::device::Device::write_durably(disk, block, &content);
    written.expect("a write");
}

/// Where everything is on a workload's filesystem.
pub fn geometry(workload: &Workload) -> Geometry {
    let disk = SimulatedDisk::new(make_image(workload), false, true);
    let superblock =
        cairnfs_volume::read_superblock(&disk, &RepeatablePlatform::new(1)).expect("a superblock");
    Geometry::new(&superblock, superblock.device_blocks).expect("a geometry")
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

fn content_of(identity: u64, block: u64) -> Content {
    let mut content = [0; BLOCK_BYTES];
    for (word, place) in content.chunks_exact_mut(8).enumerate() {
        // File, version and block, spread over all bits; never zero.
        let value = (identity << 24) ^ (block << 12) ^ (word as u64);
        place.copy_from_slice(&(value.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).to_le_bytes());
    }
    Arc::new(content)
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

fn fill_name(number: u32) -> Vec<u8> {
    let mut name = format!("fill{number}").into_bytes();
    name.resize(230, b'f');
    name
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
        self.tree.compare(&survey)?;
        self.steps.push(Step { digest: survey.digest, tree: self.tree.clone(), action: self.action });
        Ok(())
    }

    fn count(&mut self, kind: Kind) {
        *self.done.entry(kind).or_default() += 1;
    }

    fn promise(&mut self, data: Vec<(u64, u64, usize)>) {
        let step = self.steps.len() - 1;
        self.promise_step(step, data);
    }

    fn promise_step(&mut self, step: usize, data: Vec<(u64, u64, usize)>) {
        self.promises.push(Promise { events: self.disk.events(), step, data });
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
            Kind::StartWrite => self.start_write(a, u64::from(b) % FILE_BLOCKS, c)?,
            Kind::FinishWrite => self.finish_write(a)?,
            Kind::Overwrite => self.overwrite(a, b, c)?,
            Kind::SmallAttribute => self.set_attribute(a, b, 1 + c as usize % 60)?,
            Kind::LargeAttribute => self.set_attribute(a, b, 300 + c as usize % 1200)?,
            Kind::RemoveAttribute => self.remove_attribute(a, b)?,
            Kind::SetAttributes => self.set_attributes(a, b)?,
            Kind::FillDirectory => self.fill_directory(a, b, 20 + c % 120)?,
            Kind::EmptyDirectory => self.empty_directory(a)?,
            Kind::Fragment => self.fragment(a, 10 + c % 30)?,
            Kind::Fsync => self.fsync(a)?,
            Kind::Sync => self.sync()?,
            Kind::LazyCommit => self.lazy_commit()?,
            Kind::BeginCommit => self.begin_commit()?,
            Kind::EndCommit => self.end_commit()?,
            Kind::Checkpoint => self.checkpoint()?,
            Kind::WriteHome => self.write_home(1 + a as usize % 6)?,
            Kind::Settle => self.settle()?,
            Kind::WriteHeader => {
                told(self.volume.write_header(false))?;
                true
            }
            Kind::RemoveOrphan => self.remove_orphan()?,
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

    fn directory(&self, choice: u32) -> Option<u64> {
        pick(&self.tree.select(Node::is_directory), choice)
    }

    fn create(&mut self, parent: u32, name_choice: u32, mode: u16, target: Option<Vec<u8>>) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(parent) = self.directory(parent) else { return Ok(false) };
        let name = name(name_choice);
        let exists = self.tree.node(parent).is_some_and(|node| node.entries.contains_key(&name));
        let result = self.volume.create(InodeNo(parent), &name, &new_inode(mode), target.as_deref());
        let Some((number, _)) = self.expect(result, exists.then_some(Error::Exists))? else {
            return Ok(true);
        };
        let mut node = Node::new(self.history.identity(), mode, parent);
        if let Some(target) = target {
            node.size_bytes = target.len() as u64;
            node.target = target;
        }
        let is_directory = node.is_directory();
        if self.tree.nodes.insert(number.0, Arc::new(node)).is_some() {
            return Err(format!("inode {number} is in use already"));
        }
        let directory = self.tree.node_mut(parent);
        directory.entries.insert(name, number.0);
        directory.links += u32::from(is_directory);
        self.step()?;
        Ok(true)
    }

    fn link(&mut self, file: u32, parent: u32, name: &[u8]) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let file = pick(&self.tree.select(|node| !node.is_directory()), file);
        let (Some(file), Some(parent)) = (file, self.directory(parent)) else { return Ok(false) };
        let exists = self.tree.node(parent).is_some_and(|node| node.entries.contains_key(name));
        let result = self.volume.link(InodeNo(file), InodeNo(parent), name);
        if self.expect(result, exists.then_some(Error::Exists))?.is_some() {
            self.tree.node_mut(file).links += 1;
            self.tree.node_mut(parent).entries.insert(name.to_vec(), file);
            self.step()?;
        }
        Ok(true)
    }

    fn unlink(&mut self, choice: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some((parent, name, number)) = pick(&self.tree.names(|_| true), choice) else { return Ok(false) };
        let is_directory = self.tree.node(number).is_some_and(Node::is_directory);
        let result = self.volume.unlink(InodeNo(parent), &name);
        if self.expect(result, is_directory.then_some(Error::IsADirectory))?.is_some() {
            self.tree.node_mut(parent).entries.remove(&name);
            self.tree.drop_name(number);
            self.step()?;
        }
        Ok(true)
    }

    fn remove_directory(&mut self, choice: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let names = self.tree.names(Node::is_directory);
        let Some((parent, name, number)) = pick(&names, choice) else { return Ok(false) };
        let is_full = self.tree.node(number).is_some_and(|node| !node.entries.is_empty());
        let result = self.volume.remove_directory(InodeNo(parent), &name);
        if self.expect(result, is_full.then_some(Error::NotEmpty))?.is_some() {
            let directory = self.tree.node_mut(parent);
            directory.entries.remove(&name);
            directory.links -= 1;
            self.tree.drop_name(number);
            self.step()?;
        }
        Ok(true)
    }

    fn rename(&mut self, source: u32, to: u32, name_choice: u32, mode: Mode, whiteout: bool) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let from = pick(&self.tree.names(|_| true), source);
        let (Some((old, old_name, number)), Some(new)) = (from, self.directory(to)) else { return Ok(false) };
        let new_name = name(name_choice);
        // The VFS lets nothing be moved below itself, nor over a directory above it.
        let target = self.tree.node(new).and_then(|node| node.entries.get(&new_name)).copied();
        if self.tree.is_below(new, number) || target.is_some_and(|target| self.tree.is_below(old, target)) {
            return Ok(false);
        }
        let moved_is_directory = self.tree.node(number).is_some_and(Node::is_directory);
        let victim = target.filter(|target| *target != number).and_then(|target| self.tree.node(target));
        let expected = match (mode, target, victim) {
            (Mode::NoReplace, Some(_), _) => Some(Error::Exists),
            (_, _, Some(victim)) => match (moved_is_directory, victim.is_directory()) {
                (true, false) => Some(Error::NotADirectory),
                (false, true) => Some(Error::IsADirectory),
                (true, true) if !victim.entries.is_empty() => Some(Error::NotEmpty),
                _ => None,
            },
            _ => None,
        };
        let left = new_inode(0o020_000);
        let result = self.volume.rename(
            Place { parent: InodeNo(old), name: &old_name },
            Place { parent: InodeNo(new), name: &new_name },
            mode,
            whiteout.then_some(&left),
        );
        if self.expect(result, expected)?.is_none() {
            return Ok(true);
        }
        if target == Some(number) {
            // Two names of one file: nothing happens, though times of the directories may be logged.
            self.step()?;
            return Ok(true);
        }
        if let Some(target) = target {
            let is_directory = self.tree.node(target).is_some_and(Node::is_directory);
            self.tree.node_mut(new).links -= u32::from(is_directory);
            self.tree.drop_name(target);
        }
        self.tree.node_mut(old).entries.remove(&old_name);
        self.tree.node_mut(new).entries.insert(new_name, number);
        if moved_is_directory {
            self.tree.node_mut(old).links -= 1;
            self.tree.node_mut(new).links += 1;
            self.tree.node_mut(number).parent = new;
        }
        if whiteout {
            self.find_whiteout(old, old_name)?;
        }
        self.step()?;
        Ok(true)
    }

    fn find_whiteout(&mut self, parent: u64, name: Vec<u8>) -> Told {
        let entry = told(self.volume.lookup(InodeNo(parent), &name))?.ok_or("no whiteout")?;
        let node = Node::new(self.history.identity(), 0o020_000, parent);
        if self.tree.nodes.insert(entry.inode.0, Arc::new(node)).is_some() {
            return Err(format!("inode {} is in use already", entry.inode));
        }
        self.tree.node_mut(parent).entries.insert(name, entry.inode.0);
        Ok(())
    }

    fn exchange(&mut self, first: u32, second: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let names = self.tree.names(|_| true);
        let (Some((old, old_name, one)), Some((new, new_name, other))) =
            (pick(&names, first), pick(&names, second))
        else {
            return Ok(false);
        };
        if one == other || self.tree.is_below(new, one) || self.tree.is_below(old, other) {
            return Ok(false);
        }
        let result = self.volume.rename(
            Place { parent: InodeNo(old), name: &old_name },
            Place { parent: InodeNo(new), name: &new_name },
            Mode::Exchange,
            None,
        );
        self.expect(result, None)?;
        self.tree.node_mut(old).entries.insert(old_name, other);
        self.tree.node_mut(new).entries.insert(new_name, one);
        for (number, from, to) in [(one, old, new), (other, new, old)] {
            if self.tree.node(number).is_some_and(Node::is_directory) {
                self.tree.node_mut(from).links -= 1;
                self.tree.node_mut(to).links += 1;
                self.tree.node_mut(number).parent = to;
            }
        }
        self.step()?;
        Ok(true)
    }

    /// A regular file with no contents on their way: truncation waits for those.
    fn quiet_file(&self, choice: u32) -> Option<u64> {
        let files = self.tree.select(Node::is_regular);
        let quiet: Vec<u64> = files
            .into_iter()
            .filter(|number| !self.in_flight.iter().any(|write| write.number == *number))
            .collect();
        pick(&quiet, choice)
    }

    /// The block that an end cuts is zeroed behind it: a new version, which the new state depends on.
    fn zero_tail(&mut self, number: u64, cut: u64, event: usize) {
        let block = cut / BLOCK;
        let Some(mapped) = self.tree.node(number).and_then(|node| node.blocks.get(&block)).copied() else {
            return;
        };
        if cut.is_multiple_of(BLOCK) {
            return;
        }
        let versions = self.history.of(mapped.mapping, block);
        let Some((_, latest)) = versions.last() else { return };
        let mut content = **latest;
        content[(cut % BLOCK) as usize..].fill(0);
        let floor = versions.len();
        self.history.wrote(mapped.mapping, block, event, Arc::new(content));
        self.tree.node_mut(number).blocks.insert(block, Mapped { floor, ..mapped });
    }

    fn set_size(&mut self, number: u64, size_bytes: u64) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let old = self.tree.node(number).map_or(0, |node| node.size_bytes);
        let event = self.disk.events();
        let before = self.tree.clone();
        let outcome = self.volume.start_truncate(InodeNo(number), size_bytes);
        self.zero_tail(number, size_bytes.min(old), event);
        let Ok((mut progress, _)) = outcome else {
            self.tree = before;
            told(outcome)?;
            return Ok(false);
        };
        let node = self.tree.node_mut(number);
        node.size_bytes = size_bytes;
        node.blocks.retain(|block, _| block * BLOCK < size_bytes);
        self.step()?;
        while progress == Progress::More {
            (progress, _) = told(self.volume.truncate_step(InodeNo(number)))?;
            self.step()?;
        }
        Ok(true)
    }

    fn shrink(&mut self, choice: u32, size: u32) -> Told<bool> {
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        let old = self.tree.node(number).map_or(0, |node| node.size_bytes);
        let wanted = if size.is_multiple_of(3) { u64::from(size) * BLOCK } else { u64::from(size) };
        self.set_size(number, wanted % (old + 1))
    }

    fn grow(&mut self, choice: u32, more: u32) -> Told<bool> {
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        let old = self.tree.node(number).map_or(0, |node| node.size_bytes);
        self.set_size(number, old + u64::from(more) % (5 * BLOCK))
    }

    fn start_write(&mut self, choice: u32, start: u64, length: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(Node::is_regular), choice) else { return Ok(false) };
        self.start_write_of(number, start, u64::from(length) % 6 + 1, u64::from(length / 6) % 5 * 700)
    }

    fn start_write_of(&mut self, number: u64, start: u64, blocks: u64, short_bytes: u64) -> Told<bool> {
        let node = self.tree.node(number).ok_or("no file")?;
        let is_free = |block: u64| {
            let on_its_way = self.in_flight.iter().any(|write| {
                let extent = &write.write.extent;
                write.number == number
                    && (extent.file_block.0..extent.file_block.0 + u64::from(extent.blocks)).contains(&block)
            });
            !node.blocks.contains_key(&block) && !on_its_way
        };
        let blocks = (start..start + blocks).take_while(|block| is_free(*block)).count() as u64;
        if blocks == 0 {
            return Ok(false);
        }
        let mapping = self.history.identity();
        let contents: Vec<Content> =
            (start..start + blocks).map(|block| content_of(mapping, block)).collect();
        let mut bytes: Vec<u8> = contents.iter().flat_map(|content| content.iter().copied()).collect();
        bytes.truncate(bytes.len() - short_bytes as usize);
        let event = self.disk.events();
        let write = match self.volume.start_write(InodeNo(number), FileBlock(start), &bytes) {
            Ok(write) => write,
            Err(Error::NoSpace) => return Ok(false),
            Err(error) => return Err(format!("{error:?}")),
        };
        bytes.resize(contents.len() * BLOCK_BYTES, 0);
        for (index, content) in bytes.chunks_exact(BLOCK_BYTES).take(write.extent.blocks as usize).enumerate()
        {
            let content: [u8; BLOCK_BYTES] = content.try_into().map_err(|_| "a block")?;
            self.history.wrote(mapping, start + index as u64, event, Arc::new(content));
        }
        self.in_flight.push(InFlight { write, number, mapping });
        Ok(true)
    }

    fn finish_write(&mut self, choice: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        if self.in_flight.is_empty() {
            return Ok(false);
        }
        let InFlight { write, number, mapping } =
            self.in_flight.swap_remove(choice as usize % self.in_flight.len());
        match self.volume.finish_write(&write) {
            Ok(_) => {}
            Err(Error::NoSpace) if self.is_nearly_full() => return Ok(true),
            Err(error) => return Err(format!("{error:?}")),
        }
        let node = self.tree.node_mut(number);
        for index in 0..u64::from(write.extent.blocks) {
            node.blocks.insert(write.extent.file_block.0 + index, Mapped { mapping, floor: 0 });
        }
        node.size_bytes = node.size_bytes.max(write.end_bytes);
        self.step()?;
        Ok(true)
    }

    fn overwrite(&mut self, choice: u32, block: u32, length: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        let node = self.tree.node(number).ok_or("no file")?;
        let blocks: Vec<u64> = node.blocks.keys().copied().collect();
        let Some(block) = pick(&blocks, block) else { return Ok(false) };
        let mapped = node.blocks[&block];
        let in_file = (node.size_bytes - block * BLOCK).min(BLOCK);
        let length = match length % 4 {
            0 => BLOCK,
            1 => 1 + u64::from(length / 4) % in_file,
            _ => in_file,
        };
        let versions = self.history.of(mapped.mapping, block);
        let mut content = **versions.last().map(|(_, content)| content).ok_or("no version")?;
        let version = versions.len();
        let identity = self.history.identity();
        content[..length as usize].copy_from_slice(&content_of(identity, block)[..length as usize]);
        let event = self.disk.events();
        told(self.volume.write_at(InodeNo(number), block * BLOCK, &content[..length as usize]))?;
        self.history.wrote(mapped.mapping, block, event, Arc::new(content));
        if length > in_file {
            let node = self.tree.node_mut(number);
            node.size_bytes = block * BLOCK + length;
            node.blocks.insert(block, Mapped { floor: version, ..mapped });
            self.step()?;
        }
        Ok(true)
    }

    fn set_attribute(&mut self, choice: u32, name: u32, length: usize) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(|_| true), choice) else { return Ok(false) };
        let name = format!("attribute{}", name % 4).into_bytes();
        let value = vec![b'v'; length];
        let set = self.volume.set_extended(
            InodeNo(number),
            (Namespace::User, &name),
            Some(&value),
            SetMode::Either,
        );
        match set {
            Ok(_) => {
                self.tree.node_mut(number).attributes.insert(name, value);
                self.step()?;
            }
            Err(Error::NoAttributeSpace) => {}
            Err(Error::NoSpace) if self.is_nearly_full() => {}
            Err(error) => return Err(format!("{error:?}")),
        }
        Ok(true)
    }

    fn remove_attribute(&mut self, choice: u32, name: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(|node| !node.attributes.is_empty()), choice) else {
            return Ok(false);
        };
        let name = format!("attribute{}", name % 4).into_bytes();
        let is_there = self.tree.node(number).is_some_and(|node| node.attributes.contains_key(&name));
        let removed =
            self.volume.set_extended(InodeNo(number), (Namespace::User, &name), None, SetMode::Either);
        if self.expect(removed, (!is_there).then_some(Error::NoAttribute))?.is_some() {
            self.tree.node_mut(number).attributes.remove(&name);
            self.step()?;
        }
        Ok(true)
    }

    fn set_attributes(&mut self, choice: u32, permissions: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(|_| true), choice) else { return Ok(false) };
        let permissions = (permissions & 0o777) as u16;
        let changes = Changes { permissions: Some(permissions), ..Changes::default() };
        told(self.volume.set_attributes(InodeNo(number), &changes))?;
        let node = self.tree.node_mut(number);
        node.mode = node.mode & 0o170_000 | permissions;
        self.step()?;
        Ok(true)
    }

    fn fill_directory(&mut self, file: u32, parent: u32, names: u32) -> Told<bool> {
        let mut acted = false;
        for number in 0..names {
            let name = fill_name(number);
            let known = self.directory(parent).and_then(|parent| self.tree.node(parent));
            if known.is_none_or(|node| node.entries.contains_key(&name)) {
                continue;
            }
            acted |= self.link(file, parent, &name)?;
        }
        Ok(acted)
    }

    fn empty_directory(&mut self, choice: u32) -> Told<bool> {
        let Some(parent) = pick(&self.tree.select(|node| node.entries.len() > 12), choice) else {
            return Ok(false);
        };
        let names: Vec<(Vec<u8>, u64)> =
            self.tree.node(parent).into_iter().flat_map(|node| node.entries.clone()).collect();
        for (name, number) in names {
            if self.tree.node(number).is_some_and(Node::is_directory) {
                continue;
            }
            self.end_commit_if_crowded()?;
            told(self.volume.unlink(InodeNo(parent), &name))?;
            self.tree.node_mut(parent).entries.remove(&name);
            self.tree.drop_name(number);
            self.step()?;
        }
        Ok(true)
    }

    /// Writes every second block of a file.
    fn fragment(&mut self, choice: u32, extents: u32) -> Told<bool> {
        let Some(number) = self.quiet_file(choice) else { return Ok(false) };
        for index in 0..u64::from(extents) {
            self.end_commit_if_crowded()?;
            if self.start_write_of(number, index * 2, 1, 0)? {
                let last = self.in_flight.len() - 1;
                self.finish_write(last as u32)?;
            }
        }
        Ok(true)
    }

    fn fsync(&mut self, choice: u32) -> Told<bool> {
        self.end_commit()?;
        let Some(number) = pick(&self.tree.select(|_| true), choice) else { return Ok(false) };
        told(self.volume.fsync(InodeNo(number)))?;
        let node = self.tree.node(number).ok_or("no node")?;
        let newest = |(block, mapped): (&u64, &Mapped)| {
            (mapped.mapping, *block, self.history.of(mapped.mapping, *block).len().saturating_sub(1))
        };
        let data = node.blocks.iter().map(newest).collect();
        self.promise(data);
        Ok(true)
    }

    fn sync(&mut self) -> Told<bool> {
        self.end_commit()?;
        told(self.volume.commit())?;
        self.promise(Vec::new());
        Ok(true)
    }

    fn lazy_commit(&mut self) -> Told<bool> {
        self.end_commit()?;
        let Some(commit) = told(self.volume.begin_commit(false))? else { return Ok(false) };
        told(self.volume.write_commit(&commit))?;
        told(self.volume.end_commit(commit, Ok(())))?;
        Ok(true)
    }

    fn begin_commit(&mut self) -> Told<bool> {
        self.end_commit()?;
        let step = self.steps.len() - 1;
        let Some(commit) = told(self.volume.begin_commit(true))? else { return Ok(false) };
        self.commit = Some((commit, step));
        Ok(true)
    }

    fn end_commit(&mut self) -> Told<bool> {
        let Some((commit, step)) = self.commit.take() else { return Ok(false) };
        told(self.volume.write_commit(&commit))?;
        told(self.volume.end_commit(commit, Ok(())))?;
        self.promise_step(step, Vec::new());
        Ok(true)
    }

    fn checkpoint(&mut self) -> Told<bool> {
        self.end_commit()?;
        told(self.volume.checkpoint())?;
        self.promise(Vec::new());
        Ok(true)
    }

    fn write_home(&mut self, limit: usize) -> Told<bool> {
        let units = told(self.volume.write_home(limit))?;
        let acted = !units.is_empty();
        self.homes.extend(units);
        Ok(acted)
    }

    fn settle(&mut self) -> Told<bool> {
        let units = std::mem::take(&mut self.homes);
        told(self.volume.settle_home(&units))?;
        Ok(!units.is_empty())
    }

    fn remove_orphan(&mut self) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let is_gone = |number: u64| self.tree.node(number).is_none_or(|node| node.links == 0);
        if self.in_flight.iter().any(|write| is_gone(write.number)) {
            // Whoever writes has it open.
            return Ok(false);
        }
        if !told(self.volume.remove_orphan_step())? {
            return Ok(false);
        }
        let survey = Survey::take(&self.volume)?;
        let left = &survey.orphans;
        self.tree.nodes.retain(|number, node| {
            node.links > 0 || *number == ROOT || left.iter().any(|(_, orphan)| orphan == number)
        });
        self.step()?;
        Ok(true)
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
