// SPDX-License-Identifier: GPL-2.0

//! What is printed: the names in JSON are those of the fields here.

use cairnfs_core::check::{Finding, Summary};
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::superblock::RecoveryReport;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) device: String,
    /// "clean": marked so, and not checked; "checked"; "not-checked": the journal is damaged.
    pub(crate) state: &'static str,
    pub(crate) replayed: Option<ReplayInfo>,
    pub(crate) findings: Vec<FindingInfo>,
    pub(crate) summary: Option<SummaryInfo>,
    pub(crate) total_inodes: u64,
    pub(crate) total_blocks: u64,
    pub(crate) free_inodes: u64,
    pub(crate) free_blocks: u64,
}

/// What the replay in memory did.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayInfo {
    pub(crate) transactions: u64,
    pub(crate) items: u64,
    pub(crate) discarded_records: u64,
    pub(crate) orphans: u32,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(crate) struct FindingInfo {
    pub(crate) check: &'static str,
    pub(crate) severity: &'static str,
    /// None where it is about no inode.
    pub(crate) inode: Option<u64>,
    pub(crate) block: u64,
    pub(crate) expected: u64,
    pub(crate) found: u64,
    pub(crate) message: String,
}

/// What was counted.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryInfo {
    pub(crate) initialised_groups: u32,
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) symlinks: u64,
    pub(crate) special_files: u64,
    pub(crate) names: u64,
    pub(crate) extents: u64,
    pub(crate) claimed_blocks: u64,
    pub(crate) orphans: u32,
    pub(crate) leaks: u64,
    pub(crate) wrong: u64,
    pub(crate) damaged: u64,
    pub(crate) is_complete: bool,
}

impl Report {
    /// A report of nothing yet.
    pub(crate) fn new(device: String, geometry: &Geometry) -> Self {
        Self {
            device,
            state: "checked",
            replayed: None,
            findings: Vec::new(),
            summary: None,
            total_inodes: geometry.inode_count(),
            total_blocks: geometry.device_blocks,
            free_inodes: 0,
            free_blocks: 0,
        }
    }
}

impl From<&RecoveryReport> for ReplayInfo {
    fn from(report: &RecoveryReport) -> Self {
        Self {
            transactions: report.transactions,
            items: report.items,
            discarded_records: report.discarded_records,
            orphans: report.orphans,
        }
    }
}

impl From<&Finding> for FindingInfo {
    fn from(finding: &Finding) -> Self {
        Self {
            check: finding.check.name(),
            severity: finding.severity.name(),
            inode: (finding.inode.0 != 0).then_some(finding.inode.0),
            block: finding.block.0,
            expected: finding.expected,
            found: finding.found,
            message: finding.to_string(),
        }
    }
}

impl From<&Summary> for SummaryInfo {
    fn from(summary: &Summary) -> Self {
        Self {
            initialised_groups: summary.initialised_groups,
            files: summary.files,
            directories: summary.directories,
            symlinks: summary.symlinks,
            special_files: summary.special_files,
            names: summary.names,
            extents: summary.extents,
            claimed_blocks: summary.claimed_blocks,
            orphans: summary.orphans,
            leaks: summary.leaks,
            wrong: summary.wrong,
            damaged: summary.damaged,
            is_complete: summary.is_complete,
        }
    }
}

impl Display for SummaryInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = [
            ("regular files", self.files),
            ("directories", self.directories),
            ("symbolic links", self.symlinks),
            ("special files", self.special_files),
            ("names", self.names),
            ("extents", self.extents),
            ("blocks of files", self.claimed_blocks),
            ("orphans", u64::from(self.orphans)),
            ("initialised groups", u64::from(self.initialised_groups)),
        ];
        rows.iter().try_for_each(|(name, count)| writeln!(f, "{count:>12} {name}"))
    }
}

/// The last line, as e2fsck's: how much is in use.
impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let found = match (self.state, &self.summary) {
            ("clean", _) => "clean".to_owned(),
            (_, Some(summary)) if self.findings.is_empty() && summary.is_complete => "no errors".to_owned(),
            (_, Some(summary)) => format!(
                "{} errors (damage {}, wrong {}, leaks {}) left uncorrected",
                self.findings.len(),
                summary.damaged,
                summary.wrong,
                summary.leaks
            ),
            (_, None) => "not checked, since the journal is damaged".to_owned(),
        };
        write!(f, "{}: {found}", self.device)?;
        if self.state == "not-checked" {
            return Ok(());
        }
        let used = |total: u64, free: u64| total.saturating_sub(free);
        let (inodes, blocks) = (self.total_inodes, self.total_blocks);
        let used_inodes = used(inodes, self.free_inodes);
        write!(f, ", {used_inodes}/{inodes} inodes, {}/{blocks} blocks", used(blocks, self.free_blocks))
    }
}
