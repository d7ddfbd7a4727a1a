// SPDX-License-Identifier: GPL-2.0

//! The checker: reads a whole filesystem and says what contradicts what. It never writes.
//!
//! In this order, since each phase needs what the ones before have found:
//!
//! 1. the superblock pair and the copies in the groups; the journal's header pair (`headers`);
//! 2. headers and bitmaps of the initialised groups, each by itself (`groups`);
//! 3. the orphan index (`orphans`);
//! 4. every inode below the groups' marks: map, attributes, target; what it claims goes into a bitmap of claims (`inodes`,
//!    `claims`). Where two claim one block, a second walk over all inodes finds who they are (`shared`);
//! 5. every name in every directory: key, target, type (`directories`);
//! 6. whether the root leads to every directory, and the link counts; the orphans (`links`);
//! 7. bitmaps against claims and inodes, both ways, and the totals (`bitmaps`).
//!
//! A contradiction is a [`Finding`], given to the caller's sink; the check goes on with what it still can know. What follows only
//! from something that could not be read is not reported: when a file's map is broken, blocks that nobody claims may be its, and
//! when a directory is, what nobody names may be named there ([`Summary::is_complete`]).
//!
//! The journal must have been replayed: `fsck` does that in memory when it is dirty.
//!
//! Memory: a bit for each block of groups in which something is claimed, 12 bytes for each inode below the marks, 32 for each
//! directory. Time: what is in use, and nothing for groups that never were; on an image that somebody made to annoy, bounded by
//! what it holds.

mod bitmaps;
mod claims;
mod directories;
mod finding;
mod groups;
mod headers;
mod inodes;
mod links;
mod orphans;
mod reader;
mod shared;

#[cfg(test)]
mod tests;

pub use finding::{Finding, Severity};

use crate::device::Device;
use crate::directory::HashKey;
use crate::error::{Check, Corruption, Error, Result};
use crate::format::group::Geometry;
use crate::format::journal::Totals;
use crate::format::superblock::Superblock;
use crate::memory::{Buffer, List, OrderedMap};
use crate::platform::Platform;
use crate::units::{BlockNo, GroupNo, InodeNo};
use claims::GroupState;
use directories::Directory;
use orphans::Orphan;
use reader::Reader;

/// What is checked.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Where it is; only read.
    pub device: &'a dyn Device,
    /// Checksums.
    pub platform: &'a dyn Platform,
    /// The superblock that counts.
    pub superblock: &'a Superblock,
    /// What that says, checked.
    pub geometry: &'a Geometry,
}

/// How.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Power was lost since the last clean unmount, and all that has run is recovery: then one of the superblock pair may be torn,
    /// and its totals are old.
    pub after_crash: bool,
}

/// What the checker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Headers and bitmaps; counted in groups.
    Groups,
    /// Inodes and what they claim; counted in slots of the inode tables.
    Inodes,
    /// Blocks claimed twice; the same.
    Shared,
    /// Names; counted in directories.
    Directories,
    /// Link counts; counted in groups.
    Links,
    /// Bitmaps against claims; counted in groups.
    Bitmaps,
}

impl Phase {
    /// The name for a progress bar.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Inodes => "inodes",
            Self::Shared => "shared blocks",
            Self::Directories => "directories",
            Self::Links => "link counts",
            Self::Bitmaps => "bitmaps",
        }
    }
}

/// What was found, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Groups that are initialised.
    pub initialised_groups: u32,
    /// Regular files, the orphan index not counted.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes, sockets.
    pub special_files: u64,
    /// Names in all directories.
    pub names: u64,
    /// Extents of all files.
    pub extents: u64,
    /// Blocks that inodes claim.
    pub claimed_blocks: u64,
    /// Free blocks, as the bitmaps have it.
    pub free_blocks: u64,
    /// Free inodes, as the bitmaps have it.
    pub free_inodes: u64,
    /// Slots of the orphan index in use.
    pub orphans: u32,
    /// Findings of severity [`Severity::Leak`].
    pub leaks: u64,
    /// Findings of severity [`Severity::Wrong`].
    pub wrong: u64,
    /// Findings of severity [`Severity::Damage`].
    pub damaged: u64,
    /// Whether everything could be read, so that nothing had to be left out.
    pub is_complete: bool,
}

impl Summary {
    /// All findings.
    pub const fn findings(&self) -> u64 {
        self.leaks.saturating_add(self.wrong).saturating_add(self.damaged)
    }
}

/// Takes each finding; an error ends the check.
pub type Sink<'a> = dyn FnMut(&Finding) -> Result + 'a;
/// Hears how far the check is: the phase, how much of it is done, and how much there is.
pub type ProgressSink<'a> = dyn FnMut(Phase, u64, u64) + 'a;

/// Checks a filesystem. Fails when the device or memory does, or the sink; contradictions are findings.
pub fn run(
    subject: &Subject<'_>,
    options: Options,
    sink: &mut Sink<'_>,
    progress: &mut ProgressSink<'_>,
) -> Result<Summary> {
    let reader = Reader::new(subject);
    let mut checker = Checker {
        subject: *subject,
        reader: &reader,
        options,
        sink,
        progress,
        hash_key: HashKey(subject.superblock.hash_key),
        initialised_groups: subject.superblock.initialised_groups,
        totals: None,
        pair_agrees: false,
        groups: OrderedMap::new(),
        orphans: OrderedMap::new(),
        directories: List::new(),
        table: None,
        stray: None,
        has_shared: false,
        blocks_complete: true,
        names_complete: true,
        summary: Summary::default(),
    };
    checker.check_all()?;
    Ok(checker.summary)
}

/// What the phases know.
struct Checker<'a> {
    subject: Subject<'a>,
    reader: &'a Reader<'a>,
    options: Options,
    sink: &'a mut Sink<'a>,
    progress: &'a mut ProgressSink<'a>,
    hash_key: HashKey,
    initialised_groups: u32,
    /// What the journal's header says, when it is clean.
    totals: Option<Totals>,
    /// Both of the superblock pair are whole and equally new.
    pair_agrees: bool,
    groups: OrderedMap<GroupNo, GroupState>,
    orphans: OrderedMap<InodeNo, Orphan>,
    /// In the order of their numbers.
    directories: List<Directory>,
    /// The block of an inode table that was read last.
    table: Option<(BlockNo, Buffer)>,
    /// A run that the inode at hand claims in a group that is not initialised.
    stray: Option<BlockNo>,
    has_shared: bool,
    /// Every map could be walked.
    blocks_complete: bool,
    /// Every directory could be read.
    names_complete: bool,
    summary: Summary,
}

impl Checker<'_> {
    #[inline(never)] // Or the phases' frames would stand beside the checker itself.
    fn check_all(&mut self) -> Result {
        self.check_superblocks()?;
        self.check_journal_headers()?;
        self.check_groups()?;
        self.read_orphans()?;
        self.check_inodes()?;
        self.find_sharers()?;
        self.check_directories()?;
        self.check_links()?;
        self.check_orphans()?;
        self.check_bitmaps()?;
        self.check_totals()?;
        self.summary.is_complete = self.blocks_complete && self.names_complete;
        Ok(())
    }

    fn emit(&mut self, finding: &Finding) -> Result {
        let count = match finding.severity {
            Severity::Leak => &mut self.summary.leaks,
            Severity::Wrong => &mut self.summary.wrong,
            Severity::Damage => &mut self.summary.damaged,
        };
        *count = count.saturating_add(1);
        (self.sink)(finding)
    }

    /// Reports a contradiction that a verifier has found; other errors are the caller's to return.
    fn note(&mut self, error: Error, severity: Severity, inode: InodeNo) -> Result {
        match error {
            Error::Corrupt(Corruption { check, block, expected, found }) => {
                self.emit(&Finding { check, severity, inode, block, expected, found })
            }
            other => Err(other),
        }
    }

    /// Reports something about an inode; the block is where that stands.
    fn report(
        &mut self,
        check: Check,
        severity: Severity,
        inode: InodeNo,
        expected: u64,
        found: u64,
    ) -> Result {
        let block = self.subject.geometry.locate_inode(inode).map_or(BlockNo(0), |place| place.block);
        self.emit(&Finding { check, severity, inode, block, expected, found })
    }

    fn advance(&mut self, phase: Phase, done: u64, total: u64) {
        (self.progress)(phase, done, total);
    }
}
