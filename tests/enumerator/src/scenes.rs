// SPDX-License-Identifier: GPL-2.0

//! Sequences that chance hardly makes.
//!
//! A *scene* is a few actions on one object, put between random ones. It does not have to work: most of the time something in
//! between spoils it, and that is another case. In a *round* one commit after the other goes once round the ring.

use crate::workload::{Action, Kind, Workload};
use rand::seq::IndexedRandom as _;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

const SCENES: [&[Kind]; 7] = [
    // A block that is under way home is changed, committed, and due to go home again.
    &[
        Kind::LargeAttribute,
        Kind::Sync,
        Kind::WriteHome,
        Kind::LargeAttribute,
        Kind::Sync,
        Kind::WriteHome,
        Kind::Settle,
        Kind::DropCache,
    ],
    // A block that is under way home is freed, and its next user writes contents to it.
    &[
        Kind::LargeAttribute,
        Kind::Sync,
        Kind::WriteHome,
        Kind::WriteHome,
        Kind::RemoveAttribute,
        Kind::Sync,
        Kind::StartWrite,
        Kind::FinishWrite,
        Kind::Settle,
        Kind::Sync,
    ],
    // The same with a block that is only in the log.
    &[
        Kind::LargeAttribute,
        Kind::Sync,
        Kind::RemoveAttribute,
        Kind::Sync,
        Kind::StartWrite,
        Kind::FinishWrite,
        Kind::Sync,
    ],
    // Blocks are freed by a commit that is not durable, and wanted again.
    &[Kind::StartWrite, Kind::FinishWrite, Kind::Sync, Kind::Shrink, Kind::LazyCommit, Kind::StartWrite],
    // A durable commit follows one that is not.
    &[Kind::Create, Kind::LazyCommit, Kind::SetAttributes, Kind::Sync],
    // Contents in place, a durable commit of something else, and somebody waits for the contents.
    &[Kind::Overwrite, Kind::SetAttributes, Kind::Fsync, Kind::Fsync, Kind::Fsync],
    // An inode loses its last name, and is removed while another one is made.
    &[Kind::Unlink, Kind::Overlap],
];

/// A scene.
pub fn scene(random: &mut ChaCha8Rng) -> Vec<Action> {
    let object: [u32; 2] = random.random();
    let kinds = SCENES.choose(random).copied().unwrap_or_default();
    let action = |kind: &Kind| {
        let mut choices: [u32; 3] = random.random();
        // How much goes home, which write has ended, and who waits is another matter.
        if !matches!(kind, Kind::WriteHome | Kind::FinishWrite | Kind::Fsync) {
            choices[..2].copy_from_slice(&object);
        }
        Action { kind: *kind, choices }
    };
    kinds.iter().map(action).collect()
}

/// How many rounds there are.
pub const ROUNDS: u64 = 2;
/// Commits of a round: some 40 KiB each, in a ring of 4 MiB.
const ROUND_COMMITS: u32 = 125;
/// Files beside the root.
const ROUND_FILES: u32 = 9;

/// A few inodes, whose blocks of attributes are changed and committed again and again. Each commit has everything that has changed
/// since they last went home, and makes the one before needless; nothing asks for a header meanwhile.
pub fn round(seed: u64, number: u64) -> Workload {
    let mut workload = Workload {
        seed,
        physical_block_bytes: 512,
        force_unit_access: number.is_multiple_of(2),
        inodes_per_group: 32,
        groups: 1,
        tiny: false,
        head_before_end: 1,
        actions: Vec::new(),
    };
    let mut add = |kind, choices| workload.actions.push(Action { kind, choices });
    for file in 0..ROUND_FILES {
        add(Kind::Create, [0, file, 1]);
    }
    add(Kind::Checkpoint, [0; 3]);
    for inode in 0..=ROUND_FILES {
        // Together they nearly fill the block.
        for (attribute, length) in [(0, 1199), (1, 1198), (2, 400)] {
            add(Kind::LargeAttribute, [inode, attribute, length]);
        }
    }
    add(Kind::Sync, [0; 3]);
    // The group, and nothing else: the blocks are never to go home.
    add(Kind::WriteHome, [0, 1, 0]);
    add(Kind::Settle, [0; 3]);
    for commit in 0..ROUND_COMMITS {
        for inode in 0..=ROUND_FILES {
            add(Kind::LargeAttribute, [inode, 0, 1198 + commit % 2]);
        }
        add(Kind::Sync, [0; 3]);
    }
    workload
}
