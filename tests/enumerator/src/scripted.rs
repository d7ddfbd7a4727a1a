// SPDX-License-Identifier: GPL-2.0

//! Workloads that are written down and not drawn: what seeds hardly ever meet.
//!
//! - A union of a bitmap with more runs than an item names: blocks of two files alternate, and one file goes.
//! - A commit of more than two fragments: more long targets than a record holds, and the end of the ring among them.
//! - Actions that need more than one thing to be there before, and so are rare.
//! - A file that is overwritten in place and renamed over another, and a commit behind it that has no other reason to flush.
//! - A commit that meets the end of the ring, with every length that can be left there: as the first one of a mount, whose
//!   place is set.

use crate::workload::{Action, Kind, Workload};

/// Seeds from here on are of this file.
pub const SCRIPTED: u64 = 1 << 33;
const BITMAP: u64 = SCRIPTED;
const FRAGMENTS: u64 = SCRIPTED + 1;
const RARE: u64 = SCRIPTED + 2;
// Even, as the device of an even seed has FUA: a commit there flushes only when something asks for it.
const REPLACED: u64 = SCRIPTED + 4;
/// How many sizes of physical blocks meet the end.
pub const END_SIZES: usize = 2;
/// The first seed of those that meet the end, for each size of physical block: seed, bytes, places.
const ENDS: [(u64, u32, u64); END_SIZES] = [(SCRIPTED + 0x1000, 512, 32), (SCRIPTED + 0x2000, 4096, 6)];

/// All seeds of this file.
pub fn seeds() -> impl Iterator<Item = u64> {
    let ends = ENDS.iter().flat_map(|(first, _, places)| *first..first + places);
    [BITMAP, FRAGMENTS, RARE, REPLACED].into_iter().chain(ends)
}

/// Whether the seed's first commit is meant to meet the end of the ring.
pub fn meets_end(seed: u64) -> bool {
    seed >= ENDS[0].0
}

fn action(kind: Kind, choices: [u32; 3]) -> Action {
    Action { kind, choices }
}

/// The workload of a seed.
pub fn workload(seed: u64) -> Workload {
    let mut workload = Workload {
        seed,
        physical_block_bytes: 512,
        force_unit_access: seed.is_multiple_of(2),
        inodes_per_group: 256,
        groups: 2,
        tiny: false,
        head_before_end: 0,
        actions: Vec::new(),
    };
    match seed {
        BITMAP => workload.actions = bitmap(),
        FRAGMENTS => {
            // 100 KiB before the end: the first record does not fit, the second is a full one, the rest goes into a third.
            workload.head_before_end = 200;
            workload.actions = fragments();
        }
        RARE => workload.actions = rare(),
        REPLACED => workload.actions = replaced(),
        _ => {
            let ends = ENDS.iter().rev().find(|(first, _, _)| seed >= *first).unwrap_or(&ENDS[0]);
            workload.physical_block_bytes = ends.1;
            workload.head_before_end = (seed - ends.0) % ends.2 + 1;
            (workload.groups, workload.inodes_per_group) = (1, 32);
            workload.actions = end();
        }
    }
    workload
}

/// Two files whose blocks alternate, in a bitmap that does not go home; then one of them goes.
fn bitmap() -> Vec<Action> {
    let mut actions = vec![
        action(Kind::Create, [0, 0, 1]),
        action(Kind::Create, [0, 1, 1]),
        action(Kind::Create, [0, 2, 1]),
        action(Kind::Checkerboard, [0, 1, 520]),
        action(Kind::Shrink, [0, 0, 0]),
        action(Kind::Sync, [0; 3]),
    ];
    // Enough to choose from behind it that a fair share of the states has the item.
    actions.extend((0..10).map(|block| action(Kind::StartWrite, [2, 2 * block, 0])));
    for name in [3, 4, 6, 7] {
        actions.extend([action(Kind::Create, [0, name, 1]), action(Kind::LazyCommit, [0; 3])]);
    }
    actions.extend([
        action(Kind::Sync, [0; 3]),
        action(Kind::WriteHome, [5, 0, 0]),
        action(Kind::Settle, [0; 3]),
        action(Kind::FinishWrite, [0; 3]),
        action(Kind::Fsync, [2, 0, 0]),
    ]);
    actions
}

/// Directories, and a long symbolic link under each name in each of them.
fn fragments() -> Vec<Action> {
    const NAMES: u32 = 9;
    const DIRECTORIES: u32 = 9;
    let mut actions: Vec<Action> =
        (0..DIRECTORIES).map(|name| action(Kind::MakeDirectory, [0, name, 0])).collect();
    for directory in 1..=DIRECTORIES {
        actions.extend((0..NAMES).map(|name| action(Kind::LongSymlink, [directory, name, 2999])));
    }
    actions.extend([
        action(Kind::Sync, [0; 3]),
        action(Kind::Unlink, [20, 0, 0]),
        action(Kind::RemoveOrphan, [0; 3]),
        action(Kind::Sync, [0; 3]),
        action(Kind::Checkpoint, [0; 3]),
    ]);
    actions
}

/// A directory that grows and becomes empty again, names that change places, a file in many pieces.
fn rare() -> Vec<Action> {
    vec![
        action(Kind::Create, [0, 0, 1]),
        action(Kind::MakeDirectory, [0, 1, 0]),
        action(Kind::MakeDirectory, [0, 3, 0]),
        action(Kind::FillDirectory, [0, 1, 0]),
        action(Kind::Sync, [0; 3]),
        action(Kind::EmptyDirectory, [0; 3]),
        action(Kind::Create, [0, 4, 1]),
        action(Kind::RenameExchange, [0, 1, 0]),
        action(Kind::Fsync, [0; 3]),
        action(Kind::Fragment, [0, 0, 0]),
        action(Kind::Overwrite, [0; 3]),
        action(Kind::RemoveDirectory, [0; 3]),
        action(Kind::Sync, [0; 3]),
    ]
}

/// One file's contents under another's name.
fn replaced() -> Vec<Action> {
    vec![
        action(Kind::Create, [0, 0, 1]),
        action(Kind::Create, [0, 1, 1]),
        action(Kind::StartWrite, [0, 0, 1]),
        action(Kind::FinishWrite, [0; 3]),
        action(Kind::Sync, [0; 3]),
        action(Kind::Overwrite, [0, 0, 0]),
        action(Kind::Overwrite, [0, 1, 0]),
        action(Kind::Rename, [0, 0, 1]),
        action(Kind::LazyCommit, [0; 3]),
        action(Kind::Overwrite, [0, 0, 0]),
        action(Kind::Create, [0, 2, 1]),
        action(Kind::Sync, [0; 3]),
    ]
}

/// A first commit of several kinds of items, then a few small ones behind the end.
fn end() -> Vec<Action> {
    vec![
        action(Kind::Create, [0, 0, 1]),
        action(Kind::LongSymlink, [0, 1, 2000]),
        action(Kind::LongSymlink, [0, 5, 1000]),
        action(Kind::LongSymlink, [0, 8, 1500]),
        action(Kind::MakeDirectory, [0, 3, 0]),
        action(Kind::StartWrite, [0, 0, 1]),
        action(Kind::FinishWrite, [0; 3]),
        action(Kind::Sync, [0; 3]),
        action(Kind::Create, [0, 2, 1]),
        action(Kind::Unlink, [0; 3]),
        action(Kind::Fsync, [0; 3]),
        action(Kind::WriteHome, [2, 0, 0]),
        action(Kind::RemoveOrphan, [0; 3]),
        action(Kind::Sync, [0; 3]),
        action(Kind::Settle, [0; 3]),
        action(Kind::WriteHeader, [0; 3]),
        action(Kind::Create, [0, 4, 1]),
        action(Kind::Sync, [0; 3]),
    ]
}
