// SPDX-License-Identifier: GPL-2.0

//! The superblock pair, the superblock's copies in the groups, and the journal's header pair.

use super::{Checker, Finding, Severity};
use crate::error::{corrupt, Check, Result};
use crate::format::block_header;
use crate::format::journal::{JournalHeader, HEADER_BLOCKS, HEADER_CLEAN};
use crate::format::layout::get;
use crate::format::superblock::{Superblock, OFFSET, PRIMARY, SECONDARY, STATE_ALL};
use crate::journal::replay;
use crate::memory::Buffer;
use crate::units::{BlockNo, GroupNo, InodeNo};

/// The superblock's fields that only a change of identity or size moves: everything up to the key of the hash.
const STATIC_BYTES: usize = 216;
/// Where the counter of updates stands among the fields.
const COUNTER_OFFSET: usize = 360;

const NONE: InodeNo = InodeNo(0);

impl Checker<'_> {
    /// The pair, and the copies in groups 0, 1, 3, 9, 27, ...
    pub(super) fn check_superblocks(&mut self) -> Result {
        let state = self.subject.superblock.state;
        if state & !STATE_ALL != 0 {
            let (expected, found) = (u64::from(STATE_ALL), u64::from(state));
            let severity = Severity::Wrong;
            self.emit(&Finding {
                check: Check::Flags,
                severity,
                inode: NONE,
                block: PRIMARY,
                expected,
                found,
            })?;
        }
        let mut fields = Buffer::zeroed(Superblock::SIZE)?;
        self.subject.superblock.encode(&mut fields, 0)?;
        let first = self.check_superblock(&fields, PRIMARY, self.options.after_crash)?;
        // A cut tears one of the two at most.
        let may_be_torn = self.options.after_crash && first.is_some();
        let second = self.check_superblock(&fields, SECONDARY, may_be_torn)?;
        self.pair_agrees = first.is_some() && first == second;
        let mut group = 0_u32;
        while group < self.subject.geometry.group_count {
            self.check_superblock(&fields, self.subject.geometry.start_of(GroupNo(group)), false)?;
            group = if group == 0 { 1 } else { group.saturating_mul(3) };
        }
        Ok(())
    }

    /// One copy: its counter when it is whole.
    fn check_superblock(&mut self, fields: &[u8], block: BlockNo, may_be_torn: bool) -> Result<Option<u64>> {
        match self.verify_superblock(fields, block) {
            Ok(counter) => Ok(Some(counter)),
            Err(_) if may_be_torn => Ok(None),
            Err(error) => self.note(error, Severity::Wrong, NONE).map(|()| None),
        }
    }

    fn verify_superblock(&self, fields: &[u8], block: BlockNo) -> Result<u64> {
        let bytes = self.reader.read_raw(block)?;
        let stamp = Superblock::stamp(self.subject.geometry.filesystem_id, block);
        block_header::verify(self.subject.platform, &stamp, &bytes)?;
        let own = bytes.get(OFFSET..).unwrap_or(&[]);
        if let Some(at) = (0..STATIC_BYTES).find(|at| own.get(*at) != fields.get(*at)) {
            return corrupt(Check::Geometry, block, 0, at as u64);
        }
        if let Some(at) = own.get(Superblock::SIZE..).unwrap_or(&[]).iter().position(|byte| *byte != 0) {
            return corrupt(Check::Reserved, block, 0, at as u64);
        }
        get(own, COUNTER_OFFSET)
    }

    /// The journal's header pair. A crash tears none, since a header fits a sector; what may be old is the second one.
    pub(super) fn check_journal_headers(&mut self) -> Result {
        let start = self.subject.geometry.journal_start;
        let mut failures = [None; HEADER_BLOCKS as usize];
        let blocks = start.0..start.0.saturating_add(HEADER_BLOCKS);
        for (block, failure) in blocks.map(BlockNo).zip(failures.iter_mut()) {
            let bytes = self.reader.read_raw(block)?;
            let id = self.subject.geometry.filesystem_id;
            *failure = JournalHeader::read(self.subject.platform, &bytes, id, block).err();
        }
        let is_lost = failures.iter().all(Option::is_some);
        let severity = if is_lost { Severity::Damage } else { Severity::Wrong };
        for error in failures.into_iter().flatten() {
            self.note(error, severity, NONE)?;
        }
        if is_lost {
            return Ok(());
        }
        let subject = self.subject;
        match replay::read_header(subject.device, subject.platform, subject.superblock, subject.geometry) {
            Ok(header) => self.take_journal_header(&header),
            Err(error) => self.note(error, Severity::Damage, NONE),
        }
    }

    fn take_journal_header(&mut self, header: &JournalHeader) -> Result {
        self.initialised_groups = header.totals.initialised_groups;
        if header.flags & HEADER_CLEAN != 0 {
            self.totals = Some(header.totals);
            return Ok(());
        }
        self.emit(&Finding {
            check: Check::JournalHeader,
            severity: Severity::Wrong,
            inode: NONE,
            block: self.subject.geometry.journal_start,
            expected: u64::from(HEADER_CLEAN),
            found: u64::from(header.flags),
        })
    }
}
