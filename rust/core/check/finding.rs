// SPDX-License-Identifier: GPL-2.0

//! What the checker says: a value for programs and tests, and a sentence for people.

use crate::error::Check;
use crate::units::{BlockNo, InodeNo};
use core::fmt::{Display, Formatter, Result};

/// What a finding means for who uses the filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Space is lost, and nothing else.
    Leak,
    /// Something is not what it should be; no contents are at risk for it.
    Wrong,
    /// Contents or names are lost, or will be when the filesystem is written to.
    Damage,
}

impl Severity {
    /// The name in messages and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Wrong => "wrong",
            Self::Damage => "damage",
        }
    }
}

/// A contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check that failed.
    pub check: Check,
    /// What that means.
    pub severity: Severity,
    /// The inode that it is about; 0: none.
    pub inode: InodeNo,
    /// The block in which it shows.
    pub block: BlockNo,
    /// The value that the check wanted.
    pub expected: u64,
    /// The value that was there.
    pub found: u64,
}

impl Finding {
    /// The last block of a run of `blocks` that begins at the finding's.
    const fn run_end(&self, blocks: u64) -> u64 {
        self.block.0.saturating_add(blocks.saturating_sub(1))
    }

    fn explain_bitmap(&self, f: &mut Formatter<'_>) -> Result {
        let (block, expected, found) = (self.block, self.expected, self.found);
        match (self.inode.0 != 0, self.severity) {
            (true, Severity::Leak) => f.write_str("marked used, but the inode is free"),
            (true, _) => f.write_str("marked free, but the inode is in use"),
            (false, Severity::Leak) => {
                write!(f, "blocks {block} to {} are marked used, but nothing uses them", self.run_end(found))
            }
            (false, Severity::Damage) => {
                write!(f, "blocks {block} to {} are in use, but marked free", self.run_end(expected))
            }
            (false, Severity::Wrong) => {
                write!(f, "{found} of {expected} bits are set that must always be")
            }
        }
    }

    fn explain_reachable(&self, f: &mut Formatter<'_>) -> Result {
        match (self.expected, self.found) {
            (_, 0) => f.write_str("in use, but no directory names it"),
            (0, parent) => write!(f, "the directory is its own ancestor, through directory {parent}"),
            (first, second) => write!(f, "directories {first} and {second} both name this directory"),
        }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (inode, block, expected, found) = (self.inode, self.block, self.expected, self.found);
        if inode.0 != 0 {
            write!(f, "inode {inode}: ")?;
        }
        write!(f, "block {block}: {}: ", self.check.name())?;
        match self.check {
            Check::Bitmap => self.explain_bitmap(f),
            Check::Reachable => self.explain_reachable(f),
            Check::Shared if expected == found => f.write_str("the inode claims the block twice"),
            Check::Shared => write!(f, "inode {expected} claims the block too"),
            Check::Links => write!(f, "the link count is {found}, and should be {expected}"),
            Check::Parent => write!(f, "the parent is said to be {found}, and should be {expected}"),
            Check::Dangling => write!(f, "a name stands for inode {found}, which is not in use"),
            Check::BlockCount => write!(f, "the inode has {expected} blocks, and says {found}"),
            Check::FreeCount | Check::Totals => write!(f, "counted {expected}, and it says {found}"),
            Check::TableMark => write!(f, "slot {found} is marked used, above the table's mark {expected}"),
            Check::Crc => write!(f, "the checksum is {found:#010x}, and should be {expected:#010x}"),
            _ => write!(f, "expected {expected:#x}, found {found:#x}"),
        }
    }
}
