// SPDX-License-Identifier: GPL-2.0

//! Every name in every directory: that a lookup finds it, and that what it stands for is there.
//!
//! That leaves, nodes and the order of keys are right the walk over the inodes has seen.

use super::claims::Slot;
use super::{Checker, Phase, Severity};
use crate::directory::{self, hash};
use crate::error::{Check, Error, Result};
use crate::format::inode::{ROOT, TYPE_DIRECTORY};
use crate::inode::Inode;
use crate::units::{DirectoryKey, InodeNo};

/// What is known of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Its number.
    pub(super) number: InodeNo,
    /// The parent that it says it has.
    parent: InodeNo,
    /// The directory that names it; 0: none was found.
    pub(super) named_by: InodeNo,
    /// Directories that it names.
    pub(super) subdirectories: u32,
    /// All of it can be read.
    pub(super) is_readable: bool,
    /// For the search for the root: the walk that came by here; 0: none.
    pub(super) visited: u32,
}

impl Directory {
    pub(super) const fn new(number: InodeNo, parent: InodeNo, is_readable: bool) -> Self {
        Self { number, parent, named_by: InodeNo(0), subdirectories: 0, is_readable, visited: 0 }
    }
}

/// A name, as it was found.
#[derive(Clone, Copy)]
struct Found<'a> {
    directory: &'a Inode,
    /// The directory's place in the list.
    index: usize,
    key: DirectoryKey,
    target: InodeNo,
    file_type: u8,
    name: &'a [u8],
}

impl Checker<'_> {
    /// Every directory.
    pub(super) fn check_directories(&mut self) -> Result {
        let count = self.directories.len();
        for index in 0..count {
            let Some(number) = self.directories.get(index).map(|directory| directory.number) else {
                break;
            };
            let directory = self.load_inode(number)?;
            self.check_names(&directory, index)?;
            self.advance(Phase::Directories, (index as u64).saturating_add(1), count as u64);
        }
        self.check_root()
    }

    fn check_names(&mut self, directory: &Inode, index: usize) -> Result {
        let reader = self.reader;
        // What the sink says ends the check; what the directory says was reported when it was walked.
        let mut stopped = Ok(());
        let outcome =
            directory::read_from(reader, directory, DirectoryKey(0), &mut |key, target, file_type, name| {
                stopped = self.check_name(&Found { directory, index, key, target, file_type, name });
                Ok(stopped.is_ok())
            });
        stopped?;
        match outcome {
            Ok(()) | Err(Error::Corrupt(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn check_name(&mut self, found: &Found<'_>) -> Result {
        self.summary.names = self.summary.names.saturating_add(1);
        self.check_key(found)?;
        let number = found.directory.number();
        let slot = self.slot(found.target).unwrap_or(Slot::FREE);
        if slot.is_free() {
            return self.report(Check::Dangling, Severity::Damage, number, 0, found.target.0);
        }
        if let Some(slot) = self.slot_mut(found.target) {
            slot.names = slot.names.saturating_add(1);
        }
        let actual = if slot.is_broken() { found.file_type } else { slot.file_type };
        if actual != found.file_type {
            let (expected, found_type) = (u64::from(actual), u64::from(found.file_type));
            self.report(Check::FileType, Severity::Wrong, found.target, expected, found_type)?;
        }
        if actual != TYPE_DIRECTORY {
            return Ok(());
        }
        if let Some(directory) = self.directories.get_mut(found.index) {
            directory.subdirectories = directory.subdirectories.saturating_add(1);
        }
        if slot.is_broken() {
            return Ok(());
        }
        self.adopt(number, found.target)
    }

    /// The name's key lies in its window, and a lookup finds this entry and not another of the same name.
    fn check_key(&mut self, found: &Found<'_>) -> Result {
        let number = found.directory.number();
        let first = hash::hash(&self.hash_key, found.name);
        if !hash::is_in_window(&self.hash_key, found.name, found.key) {
            return self.report(Check::Key, Severity::Damage, number, first.0, found.key.0);
        }
        // A lookup begins with this key; the walk over the leaves has seen that it leads here.
        if found.key == first {
            return Ok(());
        }
        match directory::lookup(self.reader, &self.hash_key, found.directory, found.name) {
            Ok(Some(entry)) if entry.key == found.key => Ok(()),
            Ok(other) => {
                let other = other.map_or(0, |entry| entry.key.0);
                self.report(Check::Key, Severity::Damage, number, other, found.key.0)
            }
            // Was reported when the directory was walked.
            Err(Error::Corrupt(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Directory `parent` names directory `child`: it is the first to do so, and the child says the same.
    fn adopt(&mut self, parent: InodeNo, child: InodeNo) -> Result {
        let Some(index) = self.find_directory(child) else {
            return Ok(());
        };
        let Some(directory) = self.directories.get_mut(index) else {
            return Ok(());
        };
        let (first, declared) = (directory.named_by, directory.parent);
        if first.0 != 0 {
            return self.report(Check::Reachable, Severity::Damage, child, first.0, parent.0);
        }
        directory.named_by = parent;
        if declared != parent {
            return self.report(Check::Parent, Severity::Wrong, child, parent.0, declared.0);
        }
        Ok(())
    }

    /// The root is its own parent, and nothing names it: no entry can.
    fn check_root(&mut self) -> Result {
        let root = self.find_directory(ROOT).and_then(|index| self.directories.get(index));
        match root.map(|root| root.parent) {
            Some(parent) if parent != ROOT => {
                self.report(Check::Parent, Severity::Wrong, ROOT, ROOT.0, parent.0)
            }
            _ => Ok(()),
        }
    }

    /// A directory's place in the list.
    pub(super) fn find_directory(&self, number: InodeNo) -> Option<usize> {
        self.directories.binary_search_by_key(&number, |directory| directory.number).ok()
    }
}
