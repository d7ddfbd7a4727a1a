// SPDX-License-Identifier: GPL-2.0

//! What is done to the filesystem: a configuration and a sequence of actions, both from a seed.
//!
//! An action names its objects by numbers that are resolved against the model when its turn comes, so any part of a sequence
//! can be run; that is what lets a failing one shrink.

use crate::scenes;
use crate::scripted;
use rand::seq::IndexedRandom as _;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file, or a pipe.
    Create,
    /// A directory.
    MakeDirectory,
    /// A symbolic link that fits the inode.
    ShortSymlink,
    /// One that has a block.
    LongSymlink,
    /// Another name.
    Link,
    /// A name of something that is no directory.
    Unlink,
    /// A directory's name.
    RemoveDirectory,
    /// A rename that may replace.
    Rename,
    /// One that may not.
    RenameNoReplace,
    /// One that swaps.
    RenameExchange,
    /// One that leaves a whiteout.
    RenameWhiteout,
    /// Shorter.
    Shrink,
    /// Longer.
    Grow,
    /// Contents on their way to new blocks.
    StartWrite,
    /// Their I/O has ended.
    FinishWrite,
    /// Contents in place.
    Overwrite,
    /// A value that fits the inode.
    SmallAttribute,
    /// One that does not.
    LargeAttribute,
    /// One less.
    RemoveAttribute,
    /// Permissions.
    SetAttributes,
    /// Many names in one directory.
    FillDirectory,
    /// Many fewer.
    EmptyDirectory,
    /// Many extents in one file.
    Fragment,
    /// Two files whose blocks alternate; only where it is written down.
    Checkerboard,
    /// A file and all it depends on is durable.
    Fsync,
    /// A file's contents and its size are durable.
    Fdatasync,
    /// Everything is.
    Sync,
    /// A commit that is not made durable.
    LazyCommit,
    /// A commit that goes on while other things happen.
    BeginCommit,
    /// Its end.
    EndCommit,
    /// Everything goes home.
    Checkpoint,
    /// A few units do.
    WriteHome,
    /// A flush settles them.
    Settle,
    /// A header moves the tail.
    WriteHeader,
    /// A step in removing an orphan.
    RemoveOrphan,
    /// One during which a file is made.
    Overlap,
    /// Clean blocks are forgotten.
    DropCache,
}

/// An action.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// What.
    pub kind: Kind,
    /// To whom, and how: resolved when its turn comes.
    pub choices: [u32; 3],
}

/// Frequencies of actions.
const WEIGHTS: [(Kind, u32); 37] = [
    (Kind::Create, 12),
    (Kind::MakeDirectory, 5),
    (Kind::ShortSymlink, 2),
    (Kind::LongSymlink, 2),
    (Kind::Link, 4),
    (Kind::Unlink, 7),
    (Kind::RemoveDirectory, 3),
    (Kind::Rename, 6),
    (Kind::RenameNoReplace, 2),
    (Kind::RenameExchange, 3),
    (Kind::RenameWhiteout, 2),
    (Kind::Shrink, 4),
    (Kind::Grow, 2),
    (Kind::StartWrite, 12),
    (Kind::FinishWrite, 12),
    (Kind::Overwrite, 7),
    (Kind::SmallAttribute, 3),
    (Kind::LargeAttribute, 3),
    (Kind::RemoveAttribute, 2),
    (Kind::SetAttributes, 2),
    (Kind::FillDirectory, 1),
    (Kind::EmptyDirectory, 1),
    (Kind::Fragment, 1),
    (Kind::Checkerboard, 0),
    (Kind::Fsync, 7),
    (Kind::Fdatasync, 4),
    (Kind::Sync, 4),
    (Kind::LazyCommit, 3),
    (Kind::BeginCommit, 4),
    (Kind::EndCommit, 4),
    (Kind::Checkpoint, 2),
    (Kind::WriteHome, 5),
    (Kind::Settle, 4),
    (Kind::WriteHeader, 3),
    (Kind::RemoveOrphan, 7),
    (Kind::Overlap, 2),
    (Kind::DropCache, 2),
];

/// One of so many steps is a scene.
const SCENE_EVERY: u32 = 12;

/// All kinds.
pub fn kinds() -> impl Iterator<Item = Kind> {
    WEIGHTS.iter().map(|(kind, _)| *kind)
}

/// A filesystem and what is done to it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Where it comes from.
    pub seed: u64,
    /// Records are padded to this.
    pub physical_block_bytes: u32,
    /// Whether the disk has FUA, and commits use it.
    pub force_unit_access: bool,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Groups; one is initialised.
    pub groups: u32,
    /// Whether there is hardly any space, so that freed blocks are soon used again.
    pub tiny: bool,
    /// Where in the ring the first record goes, counted in physical blocks from its end; 0: at its start.
    pub head_before_end: u64,
    /// The actions.
    pub actions: Vec<Action>,
}

/// Seeds from here on are of the sweep: the first record stands 1, 2, ... physical blocks before the end of the ring; behind those
/// places are the rounds.
pub const SWEEP: u64 = 1 << 32;
/// How many places the sweep has.
pub const SWEEP_PLACES: u64 = SWEEP_ENDS + scenes::ROUNDS;
const SWEEP_ENDS: u64 = 96;
/// Workloads among which the sweep changes, so that records of many lengths meet the end.
const SWEEP_WORKLOADS: u64 = 8;

impl Workload {
    /// The workload of a seed.
    pub fn from_seed(seed: u64) -> Self {
        if seed >= scripted::SCRIPTED {
            return scripted::workload(seed);
        }
        let Some(place) = seed.checked_sub(SWEEP) else { return Self::random(seed) };
        if let Some(number) = place.checked_sub(SWEEP_ENDS) {
            return scenes::round(seed, number);
        }
        let mut workload = Self::random(place % SWEEP_WORKLOADS);
        workload.seed = seed;
        workload.physical_block_bytes = 512;
        workload.head_before_end = place + 1;
        workload.actions.truncate(40);
        workload
    }

    fn random(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let physical_block_bytes = *[512, 512, 4096].choose(&mut random).unwrap_or(&512);
        let ring_blocks = 1022 * 4096 / u64::from(physical_block_bytes);
        let head_before_end = match random.random_range(0..4) {
            0 => random.random_range(0..ring_blocks),
            1 => random.random_range(0..160).min(ring_blocks - 1),
            _ => random.random_range(1..24),
        };
        let length = *[12, 30, 30, 60, 60, 120].choose(&mut random).unwrap_or(&30);
        let mut workload = Self {
            seed,
            physical_block_bytes,
            force_unit_access: random.random(),
            inodes_per_group: *[32, 32, 64, 256].choose(&mut random).unwrap_or(&32),
            groups: random.random_range(1..4),
            tiny: false,
            head_before_end,
            actions: Vec::new(),
        };
        if random.random() {
            (workload.tiny, workload.groups) = (true, 1);
        }
        while workload.actions.len() < length {
            if random.random_range(0..SCENE_EVERY) == 0 {
                workload.actions.extend(scenes::scene(&mut random));
                continue;
            }
            let kind = WEIGHTS
                .choose_weighted(&mut random, |(_, weight)| *weight)
                .map_or(Kind::Create, |(kind, _)| *kind);
            workload.actions.push(Action { kind, choices: random.random() });
        }
        workload
    }
}
