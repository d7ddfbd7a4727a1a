// SPDX-License-Identifier: GPL-2.0

//! Whether the root leads everywhere, and the link counts.
//!
//! Every directory is named by one other at the most, so going from it to who names it leads to the root, to a directory that
//! nothing names, or round in a circle. Each walk has a number and leaves it behind; it ends where one has been before, so all walks
//! together pass each directory once. A walk that ends on its own number has gone round.

use super::claims::Slot;
use super::{Checker, Phase, Severity};
use crate::error::{Check, Result};
use crate::format::inode::{FIRST_FREE, ROOT, TYPE_DIRECTORY};
use crate::units::{GroupNo, InodeNo};

impl Checker<'_> {
    /// Every inode that is in use.
    pub(super) fn check_links(&mut self) -> Result {
        self.find_circles()?;
        for group in (0..self.initialised_groups).map(GroupNo) {
            let marks = self.groups.get(group).map_or(0, |state| state.slots.len() as u32);
            for index in 0..marks {
                let number = self.subject.geometry.inode_at(group, index);
                if let Some(slot) = self.slot(number).filter(|slot| !slot.is_free() && !slot.is_broken()) {
                    self.check_link_count(number, slot)?;
                }
            }
            self.advance(
                Phase::Links,
                u64::from(group.0).saturating_add(1),
                u64::from(self.initialised_groups),
            );
        }
        Ok(())
    }

    fn find_circles(&mut self) -> Result {
        for index in 0..self.directories.len() {
            let walk = (index as u32).saturating_add(1);
            let mut next = Some(index);
            while let Some(place) = next {
                let Some(directory) = self.directories.get_mut(place) else {
                    break;
                };
                let before = core::mem::replace(&mut directory.visited, walk);
                let (number, named_by) = (directory.number, directory.named_by);
                if before == walk {
                    self.report(Check::Reachable, Severity::Damage, number, 0, named_by.0)?;
                }
                if before != 0 {
                    break;
                }
                next = self.find_directory(named_by);
            }
        }
        Ok(())
    }

    fn check_link_count(&mut self, number: InodeNo, slot: Slot) -> Result {
        if slot.file_type == TYPE_DIRECTORY {
            return self.check_directory_links(number, slot);
        }
        if number < FIRST_FREE {
            // The orphan index has a link and no name.
            return self.check_count(number, 1, slot.declared, true);
        }
        match (slot.names, slot.declared) {
            (0, 0) => self.check_is_orphan(number),
            (0, _) => self.report_unnamed(number),
            (names, declared) => self.check_count(number, names, declared, self.names_complete),
        }
    }

    fn check_directory_links(&mut self, number: InodeNo, slot: Slot) -> Result {
        let Some(directory) =
            self.find_directory(number).and_then(|index| self.directories.get(index).copied())
        else {
            return Ok(());
        };
        if number == ROOT || directory.named_by.0 != 0 {
            let links = directory.subdirectories.saturating_add(2);
            return self.check_count(number, links, slot.declared, directory.is_readable);
        }
        if slot.declared == 0 {
            self.check_is_orphan(number)
        } else {
            self.report_unnamed(number)
        }
    }

    /// `counted` links were found; there may be more where not all names could be read.
    fn check_count(&mut self, number: InodeNo, counted: u32, declared: u32, is_complete: bool) -> Result {
        if declared == counted || (declared > counted && !is_complete) {
            return Ok(());
        }
        // With too few, the inode is freed when it still has names.
        let severity = if declared < counted { Severity::Damage } else { Severity::Wrong };
        self.report(Check::Links, severity, number, u64::from(counted), u64::from(declared))
    }

    fn check_is_orphan(&mut self, number: InodeNo) -> Result {
        if self.is_orphan(number) {
            return Ok(());
        }
        self.report(Check::OrphanSlot, Severity::Leak, number, 1, 0)
    }

    fn report_unnamed(&mut self, number: InodeNo) -> Result {
        // An orphan that says it has links is reported as that.
        if !self.names_complete || self.is_orphan(number) {
            return Ok(());
        }
        self.report(Check::Reachable, Severity::Damage, number, 1, 0)
    }
}
