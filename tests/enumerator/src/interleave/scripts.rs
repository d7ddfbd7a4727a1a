// SPDX-License-Identifier: GPL-2.0

//! What is interleaved: a filesystem, what has happened to it before, and two or three threads with a few operations each.
//!
//! Operations are small and in each other's way: a name that is made and taken away, a write and the truncation behind it, two
//! handles in one bitmap, a metadata block that is freed and used again.

use super::medium::Request;
use super::step::Step;
use crate::workload::Workload;

/// A file by the name under which the root, or a directory in it, has it.
pub(super) type Name = &'static str;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A regular file in the root or in a directory of it.
    Create(Option<Name>, Name),
    /// A directory in the root.
    MakeDirectory(Name),
    /// A symbolic link in the root that has a block.
    LongSymlink(Name),
    /// A name in the root, or in a directory of it, goes; if it is there.
    Unlink(Option<Name>, Name),
    /// Frees what has no name any more.
    RemoveOrphan,
    /// Contents go to new blocks, from this block of the file on so many: I/O, then a handle that maps them.
    Write(Name, u64, u64),
    /// A block of the file is written in place.
    Overwrite(Name, u64),
    /// The file gets so many blocks.
    Truncate(Name, u64),
    /// Waits until the file is durable.
    Fsync(Name),
}

use Operation::{
    Create, Fsync, LongSymlink, MakeDirectory, Overwrite, RemoveOrphan, Truncate, Unlink, Write,
};

/// How a schedule begins, before there is a choice.
#[derive(Clone, Copy, Debug)]
pub enum Begun {
    /// With this step.
    Step(Step),
    /// With a durable commit, from its swap to its end.
    Commit,
}

/// What is interleaved.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// For people.
    pub name: &'static str,
    /// Done once; then everything is home and the journal clean.
    pub base: &'static [Operation],
    /// Then all blocks that may be taken are, but for so many.
    pub left_blocks: Option<u64>,
    /// Done and committed before the schedule begins: the log holds it, and nothing of it is home.
    pub before: &'static [Operation],
    /// The threads.
    pub threads: &'static [&'static [Operation]],
    /// Steps that every schedule begins with; they do not count as depth.
    pub begun: &'static [Begun],
    /// So many steps are added to the depth: with nothing in the log to begin with, there are few orders at first.
    pub deeper: usize,
    /// Where the journal begins, in sectors before the end of its ring; 0: wherever it stands.
    pub blocks_before_end: u64,
}

/// The scripts.
pub const SCRIPTS: [Script; 11] = [
    Script {
        name: "a name is made and taken away",
        base: &[],
        left_blocks: None,
        before: &[],
        threads: &[&[Create(None, "a")], &[Unlink(None, "a"), RemoveOrphan]],
        begun: &[],
        deeper: 5,
        blocks_before_end: 0,
    },
    Script {
        name: "a name goes home while it is taken away",
        base: &[],
        left_blocks: None,
        before: &[Create(None, "a")],
        threads: &[&[Unlink(None, "a")], &[RemoveOrphan, Create(None, "a")]],
        begun: &[],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "two handles in one bitmap, at the end of the ring",
        base: &[MakeDirectory("d"), MakeDirectory("e")],
        left_blocks: None,
        before: &[],
        threads: &[&[Create(Some("d"), "x")], &[Create(Some("e"), "y")]],
        begun: &[],
        deeper: 5,
        blocks_before_end: 2,
    },
    Script {
        name: "two handles in one bitmap, and its home write",
        base: &[MakeDirectory("d"), MakeDirectory("e"), Create(Some("e"), "y")],
        left_blocks: None,
        before: &[Create(None, "z")],
        threads: &[&[Create(Some("d"), "x")], &[Unlink(Some("e"), "y")]],
        begun: &[],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "a write and a truncation",
        base: &[Create(None, "f")],
        left_blocks: None,
        before: &[Write("f", 0, 3)],
        threads: &[&[Write("f", 3, 1)], &[Truncate("f", 1)]],
        begun: &[],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "a write in place, fsync, and a write",
        base: &[Create(None, "f"), Write("f", 0, 1)],
        left_blocks: None,
        before: &[],
        threads: &[&[Overwrite("f", 0), Fsync("f")], &[Write("f", 1, 1), Fsync("f")]],
        begun: &[],
        deeper: 5,
        blocks_before_end: 0,
    },
    Script {
        name: "a metadata block is freed, and is contents",
        base: &[Create(None, "f")],
        left_blocks: Some(1),
        before: &[LongSymlink("s")],
        threads: &[&[Unlink(None, "s"), RemoveOrphan], &[Write("f", 0, 1)]],
        begun: &[],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "a metadata block is freed, and is metadata again",
        base: &[],
        left_blocks: Some(1),
        before: &[LongSymlink("s"), Unlink(None, "s")],
        threads: &[&[RemoveOrphan], &[LongSymlink("t")]],
        begun: &[],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "a metadata block has been freed, and is contents",
        base: &[Create(None, "f")],
        left_blocks: Some(1),
        before: &[LongSymlink("s"), Unlink(None, "s")],
        threads: &[&[RemoveOrphan], &[Write("f", 0, 1)]],
        begun: &[FREE, FREE, Begun::Commit],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "an inode is freed, and is another's",
        base: &[],
        left_blocks: None,
        before: &[Create(None, "a"), Unlink(None, "a")],
        threads: &[&[RemoveOrphan], &[Create(None, "b")]],
        begun: &[],
        deeper: 0,
        blocks_before_end: 0,
    },
    Script {
        name: "contents that no flush covers, then their mapping",
        base: &[Create(None, "f"), Write("f", 0, 1)],
        left_blocks: None,
        before: &[],
        threads: &[&[Write("f", 1, 1), Fsync("f")], &[Create(None, "a")]],
        begun: &[Begun::Step(Step::Thread(0)), Begun::Step(Step::Complete(Request::Data(0)))],
        deeper: 2,
        blocks_before_end: 0,
    },
];

/// A step of the thread that frees.
const FREE: Begun = Begun::Step(Step::Thread(0));

impl Script {
    /// A filesystem for it.
    pub fn workload(&self, force_unit_access: bool) -> Workload {
        Workload {
            seed: 0,
            physical_block_bytes: 512,
            force_unit_access,
            inodes_per_group: 32,
            groups: 1,
            tiny: true,
            head_before_end: 0,
            actions: Vec::new(),
        }
    }
}
