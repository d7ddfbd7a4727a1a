//! The operations of one thread of a load, drawn from a seed.
//!
//! The plan depends on nothing but load, seed and thread: whoever verifies what a cut left draws it again and so knows
//! every operation that had been done. It holds the tree that its operations make, so all of them are possible.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use clap::ValueEnum;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::content::{FileId, BLOCK_UNITS, UNIT_BYTES};
use crate::operation::{Operation, WriteWay};
use crate::tree::{parent_of, Kind, Node, Tree};

const FILES_MAX: usize = 40;
const DIRECTORIES_MAX: usize = 10;
const FILE_MAX_UNITS: u32 = (48 << 10) / UNIT_BYTES as u32;
/// How far a sparse write reaches beyond the end.
const HOLE_MAX_UNITS: u32 = (128 << 10) / UNIT_BYTES as u32;
const SPARSE_FILE_MAX_UNITS: u32 = (256 << 10) / UNIT_BYTES as u32;
const MODES: [u32; 6] = [0o600, 0o640, 0o644, 0o700, 0o750, 0o755];
/// Longer than what fits into an inode, shorter than a block.
const LONG_TARGET_BYTES: usize = 700;

/// What a load is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Names and attributes; files stay empty.
    Names,
    /// Contents, and the names that go with them.
    Data,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Data => "data",
        })
    }
}

/// Puts operations into the queue; none if there is nothing to do them to.
type Draw = fn(&mut Plan);

/// What is drawn, and how often.
const NAMES: &[(u32, Draw)] = &[
    (20, Plan::create),
    (8, Plan::make_directory),
    (5, Plan::make_symlink),
    (8, Plan::link),
    (12, Plan::unlink),
    (2, Plan::close_unlinked),
    (4, Plan::remove_directory),
    (9, Plan::rename),
    (6, Plan::rename_over),
    (3, Plan::rename_directory),
    (4, Plan::set_mode),
    (3, Plan::set_owner),
    (4, Plan::set_time),
    (7, Plan::fsync),
    (5, Plan::fsync_directory),
    (1, Plan::sync),
];
const DATA: &[(u32, Draw)] = &[
    (12, Plan::create_with_data),
    (14, Plan::append),
    (14, Plan::overwrite),
    (5, Plan::write_synchronously),
    (3, Plan::write_mapped),
    (4, Plan::write_sparse),
    (4, Plan::truncate_down),
    (3, Plan::truncate_up),
    (8, Plan::save),
    (4, Plan::rename),
    (2, Plan::link),
    (6, Plan::unlink),
    (1, Plan::close_unlinked),
    (1, Plan::make_directory),
    (8, Plan::start_writeback),
    (8, Plan::fsync),
    (6, Plan::fdatasync),
    (3, Plan::fsync_directory),
    (1, Plan::sync),
];

/// The operations in order.
pub(crate) struct Plan {
    draws: &'static [(u32, Draw)],
    random: ChaCha8Rng,
    tree: Tree,
    queue: VecDeque<Operation>,
    next_name: u32,
    given: usize,
}

impl Plan {
    /// The plan of a thread.
    pub(crate) fn new(load: Load, seed: u64, thread: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(thread as u64);
        let draws = match load {
            Load::Names => NAMES,
            Load::Data => DATA,
        };
        Self { draws, random, tree: Tree::new(), queue: VecDeque::new(), next_name: 0, given: 0 }
    }

    /// How many operations it has given.
    pub(crate) fn given(&self) -> usize {
        self.given
    }

    /// The tree that those have made.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The next operation.
    pub(crate) fn take(&mut self) -> Operation {
        let operation = loop {
            match self.queue.pop_front() {
                Some(operation) => break operation,
                None => self.draw(),
            }
        };
        self.tree.apply(self.given, &operation);
        self.given += 1;
        operation
    }

    /// The next operation, and whose content it writes, if it writes any.
    pub(crate) fn next_with_file(&mut self, seed: u64, thread: usize) -> (Operation, FileId) {
        let operation = self.take();
        let node = match &operation {
            Operation::Write { path, .. } => self.tree.number_at(path),
            _ => None,
        };
        (operation, FileId::new(seed, thread, node.unwrap_or(0)))
    }

    /// The tree alone.
    pub(crate) fn into_tree(self) -> Tree {
        self.tree
    }

    fn draw(&mut self) {
        let weights: u32 = self.draws.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.random_range(0..weights);
        for (weight, draw) in self.draws {
            if at < *weight {
                return draw(self);
            }
            at -= weight;
        }
    }

    fn push(&mut self, operation: Operation) {
        self.queue.push_back(operation);
    }

    // What there is to choose from --------------------------------------------------------------------------------

    fn paths(&self, wanted: impl Fn(&str, &Node) -> bool) -> Vec<String> {
        let is_wanted = |path: &&String| self.tree.at(path).is_some_and(|node| wanted(path, node));
        self.tree.names().keys().filter(is_wanted).cloned().collect()
    }

    fn choose(&mut self, wanted: impl Fn(&str, &Node) -> bool) -> Option<String> {
        let paths = self.paths(wanted);
        paths.choose(&mut self.random).cloned()
    }

    fn choose_file(&mut self) -> Option<String> {
        self.choose(|_, node| node.kind == Kind::File)
    }

    fn choose_file_with_data(&mut self) -> Option<(String, u32)> {
        let path = self.choose(|_, node| node.kind == Kind::File && node.units > 0)?;
        let units = self.tree.at(&path)?.units;
        Some((path, units))
    }

    fn choose_directory(&mut self) -> Option<String> {
        self.choose(|_, node| node.kind == Kind::Directory)
    }

    fn new_path(&mut self, prefix: &str) -> Option<String> {
        let directory = self.choose_directory()?;
        self.next_name += 1;
        let separator = if directory.is_empty() { "" } else { "/" };
        Some(format!("{directory}{separator}{prefix}{}", self.next_name))
    }

    fn mode(&mut self) -> u32 {
        MODES.choose(&mut self.random).copied().unwrap_or(MODES[0])
    }

    fn has_room(&self) -> bool {
        self.paths(|_, node| node.kind != Kind::Directory).len() < FILES_MAX
    }

    // Names -------------------------------------------------------------------------------------------------------

    fn create(&mut self) {
        let Some(path) = self.new_path("f").filter(|_| self.has_room()) else { return };
        let mode = self.mode();
        self.push(Operation::Create { path, mode });
    }

    fn make_directory(&mut self) {
        let is_full = self.paths(|_, node| node.kind == Kind::Directory).len() >= DIRECTORIES_MAX;
        let Some(path) = self.new_path("d").filter(|_| !is_full) else { return };
        let mode = self.mode();
        self.push(Operation::MakeDirectory { path, mode });
    }

    fn make_symlink(&mut self) {
        let Some(path) = self.new_path("s").filter(|_| self.has_room()) else { return };
        let length = if self.random.random_bool(0.3) { LONG_TARGET_BYTES } else { 12 };
        let target = format!("target-{path}-{}", "x".repeat(length));
        self.push(Operation::MakeSymlink { path, target });
    }

    fn link(&mut self) {
        if let (true, Some(old), Some(new)) = (self.has_room(), self.choose_file(), self.new_path("l")) {
            self.push(Operation::Link { old, new });
        }
    }

    fn unlink(&mut self) {
        let stays_open = self.random.random_bool(0.3);
        if let Some(path) = self.choose(|_, node| node.kind != Kind::Directory) {
            let is_file = self.tree.at(&path).is_some_and(|node| node.kind == Kind::File);
            self.push(Operation::Unlink { path, stays_open: stays_open && is_file });
        }
    }

    fn close_unlinked(&mut self) {
        self.push(Operation::CloseUnlinked);
    }

    fn remove_directory(&mut self) {
        let mut paths = self.paths(|path, node| node.kind == Kind::Directory && !path.is_empty());
        paths.retain(|path| !self.tree.has_entries(path));
        if let Some(path) = paths.choose(&mut self.random).cloned() {
            self.push(Operation::RemoveDirectory { path });
        }
    }

    fn rename(&mut self) {
        if let (Some(old), Some(new)) =
            (self.choose(|_, node| node.kind != Kind::Directory), self.new_path("r"))
        {
            self.push(Operation::Rename { old, new });
        }
    }

    fn rename_over(&mut self) {
        let Some(old) = self.choose(|_, node| node.kind != Kind::Directory) else { return };
        let source = self.tree.number_at(&old);
        let mut targets = self.paths(|_, node| node.kind != Kind::Directory);
        // Renaming one name of a file over another of it does nothing.
        targets.retain(|path| self.tree.number_at(path) != source);
        if let Some(new) = targets.choose(&mut self.random).cloned() {
            self.push(Operation::Rename { old, new });
        }
    }

    fn rename_directory(&mut self) {
        let Some(old) = self.choose(|path, node| node.kind == Kind::Directory && !path.is_empty()) else {
            return;
        };
        let below = format!("{old}/");
        if let Some(new) = self.new_path("e").filter(|new| !new.starts_with(&below)) {
            self.push(Operation::Rename { old, new });
        }
    }

    fn set_mode(&mut self) {
        let mode = self.mode();
        if let Some(path) = self.choose(|_, node| !matches!(node.kind, Kind::Symlink(_))) {
            self.push(Operation::SetMode { path, mode });
        }
    }

    fn set_owner(&mut self) {
        let owner = self.random.random_range(0..5000);
        if let Some(path) = self.choose(|_, node| !matches!(node.kind, Kind::Symlink(_))) {
            self.push(Operation::SetOwner { path, owner });
        }
    }

    fn set_time(&mut self) {
        let seconds = self.random.random_range(1_000_000_000..1_600_000_000);
        if let Some(path) = self.choose_file() {
            self.push(Operation::SetTime { path, seconds });
        }
    }

    // Promises ----------------------------------------------------------------------------------------------------

    fn fsync(&mut self) {
        if let Some(path) = self.choose_file() {
            self.push(Operation::Fsync { path });
        }
    }

    fn fdatasync(&mut self) {
        if let Some(path) = self.choose_file() {
            self.push(Operation::Fdatasync { path });
        }
    }

    fn fsync_directory(&mut self) {
        if let Some(path) = self.choose_directory() {
            self.push(Operation::Fsync { path });
        }
    }

    fn sync(&mut self) {
        self.push(Operation::SyncFilesystem);
    }

    // Contents ----------------------------------------------------------------------------------------------------

    fn write(&mut self, path: String, units: Range<u32>, way: WriteWay) {
        self.push(Operation::Write { path, units, way });
    }

    /// How long a piece is: often a few bytes or whole blocks.
    fn length(&mut self) -> u32 {
        match self.random.random_range(0..4) {
            0 => self.random.random_range(1..BLOCK_UNITS),
            1 => BLOCK_UNITS * self.random.random_range(1..4),
            _ => self.random.random_range(1..FILE_MAX_UNITS / 3),
        }
    }

    /// Where a piece lies within a file, from a block's beginning or not.
    fn range_within(&mut self, units: u32) -> Range<u32> {
        let mut start = self.random.random_range(0..units);
        if self.random.random_bool(0.5) {
            start -= start % BLOCK_UNITS;
        }
        start..start.saturating_add(self.length()).min(units)
    }

    fn create_with_data(&mut self) {
        let Some(path) = self.new_path("f").filter(|_| self.has_room()) else { return };
        let (mode, length) = (self.mode(), self.length());
        self.push(Operation::Create { path: path.clone(), mode });
        self.write(path.clone(), 0..length, WriteWay::Buffered);
        if self.random.random_bool(0.5) {
            self.push(Operation::Fsync { path });
        }
    }

    fn append(&mut self) {
        let length = self.length();
        if let Some(path) = self.choose(|_, node| node.kind == Kind::File && node.units < FILE_MAX_UNITS) {
            let size = self.tree.at(&path).map_or(0, |node| node.units);
            self.write(path, size..size + length, WriteWay::Buffered);
        }
    }

    fn overwrite(&mut self) {
        if let Some((path, units)) = self.choose_file_with_data() {
            let range = self.range_within(units);
            self.write(path, range, WriteWay::Buffered);
        }
    }

    fn write_synchronously(&mut self) {
        let way = if self.random.random() { WriteWay::Synchronous } else { WriteWay::DataSynchronous };
        if let Some((path, units)) = self.choose_file_with_data() {
            let appends = self.random.random() && units < FILE_MAX_UNITS;
            let range = if appends { units..units + self.length() } else { self.range_within(units) };
            self.write(path, range, way);
        }
    }

    fn write_mapped(&mut self) {
        if let Some((path, units)) = self.choose_file_with_data() {
            let range = self.range_within(units);
            self.write(path, range, WriteWay::Mapped);
        }
    }

    fn write_sparse(&mut self) {
        let (hole, length) = (self.random.random_range(1..HOLE_MAX_UNITS), self.length());
        if let Some((path, units)) = self.choose_file_with_data() {
            if units + hole + length <= SPARSE_FILE_MAX_UNITS {
                self.write(path, units + hole..units + hole + length, WriteWay::Buffered);
            }
        }
    }

    fn truncate_down(&mut self) {
        if let Some((path, units)) = self.choose_file_with_data() {
            let units = self.random.random_range(0..units);
            self.push(Operation::Truncate { path, units });
        }
    }

    fn truncate_up(&mut self) {
        let more = self.random.random_range(1..HOLE_MAX_UNITS);
        if let Some((path, units)) = self.choose_file_with_data() {
            if units + more <= SPARSE_FILE_MAX_UNITS {
                self.push(Operation::Truncate { path, units: units + more });
            }
        }
    }

    /// What an editor does: a temporary file, synced or not, renamed over the file.
    fn save(&mut self) {
        let (Some(target), Some(temporary)) = (self.choose_file(), self.new_path("t")) else { return };
        let (mode, length) = (self.mode(), self.length());
        self.push(Operation::Create { path: temporary.clone(), mode });
        self.write(temporary.clone(), 0..length, WriteWay::Buffered);
        if self.random.random_bool(0.4) {
            self.push(Operation::Fsync { path: temporary.clone() });
        }
        self.push(Operation::Rename { old: temporary, new: target.clone() });
        if self.random.random_bool(0.3) {
            self.push(Operation::Fsync { path: parent_of(&target).to_owned() });
        }
    }

    fn start_writeback(&mut self) {
        if let Some((path, _)) = self.choose_file_with_data() {
            self.push(Operation::StartWriteback { path });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_seed_and_nothing_else() {
        for load in [Load::Names, Load::Data] {
            let operations = |seed, thread| -> Vec<Operation> {
                let mut plan = Plan::new(load, seed, thread);
                (0..500).map(|_| plan.take()).collect()
            };
            assert_eq!(operations(1, 0), operations(1, 0));
            assert_ne!(operations(1, 0), operations(1, 1));
            assert_ne!(operations(1, 0), operations(2, 0));
            assert!(operations(1, 0).iter().any(Operation::promises));
        }
    }

    #[test]
    fn every_kind_of_operation_is_drawn() {
        let kinds = |load| -> std::collections::BTreeSet<String> {
            let mut plan = Plan::new(load, 3, 0);
            let name = |operation: Operation| {
                let text = format!("{operation:?}");
                text.split([' ', '{']).next().unwrap_or_default().to_owned()
            };
            (0..2000).map(|_| name(plan.take())).collect()
        };
        assert_eq!(kinds(Load::Names).union(&kinds(Load::Data)).count(), 17);
    }
}
