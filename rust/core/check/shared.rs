// SPDX-License-Identifier: GPL-2.0

//! Who claims the blocks that more than one claims: a second walk over all inodes, when there are any.
//!
//! The first claimant of each block is remembered, and each further one is a finding that names both. On an image with more of
//! that than anybody would want to read, one last finding stands for the rest.

use super::claims::{each_run, GroupState};
use super::{Checker, Finding, Phase, Severity, Subject};
use crate::bitmap;
use crate::error::{Check, Error, Result};
use crate::memory::{List, OrderedMap};
use crate::units::{BlockNo, BlockRun, GroupNo, InodeNo};
use crate::verify;

/// Contested blocks whose first claimant is remembered.
const BLOCKS_MAX: usize = 1 << 16;
/// Contested blocks that are looked at, again for each claimant.
const LOOKS_MAX: u64 = 1 << 22;

/// What the second walk knows.
struct Sharers {
    first: OrderedMap<BlockNo, InodeNo>,
    looks: u64,
    /// The first block that was passed over.
    untold: Option<BlockNo>,
}

impl Sharers {
    /// Notes that `owner` claims `block`; who did before.
    fn note(&mut self, block: BlockNo, owner: InodeNo) -> Result<Option<InodeNo>> {
        self.looks = self.looks.saturating_add(1);
        if let Some(first) = self.first.get(block) {
            return Ok(Some(*first));
        }
        if self.first.len() >= BLOCKS_MAX {
            self.untold = self.untold.or(Some(block));
        } else {
            self.first.insert(block, owner)?;
        }
        Ok(None)
    }
}

impl Checker<'_> {
    /// Names everybody who claims a block that another claims.
    pub(super) fn find_sharers(&mut self) -> Result {
        if !self.has_shared {
            return Ok(());
        }
        let mut sharers = Sharers { first: OrderedMap::new(), looks: 0, untold: None };
        self.each_inode(Phase::Shared, &mut |checker, number, block| {
            let Subject { platform, geometry, .. } = checker.subject;
            match verify::inode(platform, geometry, block, number) {
                Ok(inode) if !inode.core.is_free() => {
                    let mut found = List::new();
                    let reader = checker.reader;
                    let outcome = each_run(reader, &inode, &mut |run, _| {
                        checker.contest(run, number, &mut sharers, &mut found)
                    });
                    for finding in &found {
                        checker.emit(finding)?;
                    }
                    match outcome {
                        // Was reported on the first walk.
                        Err(Error::Corrupt(_)) => Ok(()),
                        outcome => outcome,
                    }
                }
                _ => Ok(()),
            }
        })?;
        match sharers.untold {
            Some(block) => {
                let (check, severity, inode) = (Check::Shared, Severity::Damage, InodeNo(0));
                self.emit(&Finding { check, severity, inode, block, expected: 1, found: 2 })
            }
            None => Ok(()),
        }
    }

    /// One run's part in that: a finding for each stretch whose first claimant is the same.
    fn contest(
        &self,
        run: BlockRun,
        owner: InodeNo,
        sharers: &mut Sharers,
        found: &mut List<Finding>,
    ) -> Result {
        let Some((group, start)) = self.subject.geometry.locate_block(run.start) else {
            return Ok(());
        };
        let Some(contested) = self.groups.get(group).and_then(|state: &GroupState| state.contested.as_ref())
        else {
            return Ok(());
        };
        let end = start.saturating_add(run.blocks as u32);
        let mut previous = None;
        let mut next = bitmap::next_set(contested, start);
        while let Some(bit) = next.filter(|bit| *bit < end) {
            let block = self.block_at(group, bit);
            if sharers.looks >= LOOKS_MAX {
                sharers.untold = sharers.untold.or(Some(block));
                return Ok(());
            }
            let first = sharers.note(block, owner)?;
            if let Some(first) = first.filter(|first| previous != Some(*first)) {
                let (check, severity, inode) = (Check::Shared, Severity::Damage, owner);
                found.push(Finding { check, severity, inode, block, expected: first.0, found: owner.0 })?;
            }
            previous = first;
            next = bitmap::next_set(contested, bit.saturating_add(1));
        }
        Ok(())
    }

    /// Block `bit` of a group.
    pub(super) fn block_at(&self, group: GroupNo, bit: u32) -> BlockNo {
        BlockNo(self.subject.geometry.start_of(group).0.saturating_add(u64::from(bit)))
    }
}
