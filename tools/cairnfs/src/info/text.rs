// SPDX-License-Identifier: GPL-2.0

//! The same for people.

use super::gather::{ErrorInfo, GroupsInfo, Info, JournalInfo, SuperblockInfo};
use cairnfs_device::format_bytes;
use std::fmt::{Display, Formatter, Result};
use std::time::{Duration, UNIX_EPOCH};

fn line(f: &mut Formatter<'_>, name: &str, value: impl Display) -> Result {
    writeln!(f, "{name:<24}{value}")
}

fn time(ns: u64) -> String {
    match ns {
        0 => "never".to_owned(),
        _ => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(ns)).to_string(),
    }
}

fn bits(known: &str, word: u64) -> String {
    if word == 0 {
        "none".to_owned()
    } else {
        format!("{word:#x}{known}")
    }
}

fn error(error: Option<&ErrorInfo>) -> String {
    error.map_or("none".to_owned(), |error| {
        let check = error.check.unwrap_or("device");
        format!("{}: {check}: block {}, errno {}", time(error.time_ns), error.block, error.errno)
    })
}

impl Display for Info {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        line(f, "device", &self.device)?;
        self.superblock.print(f, self.superblock_block)?;
        match &self.journal {
            Some(journal) => journal.print(f)?,
            None => line(f, "journal", "no header can be read")?,
        }
        match &self.groups {
            Some(groups) => groups.print(f),
            None => Ok(()),
        }
    }
}

impl SuperblockInfo {
    fn print(&self, f: &mut Formatter<'_>, block: u64) -> Result {
        let size = |blocks: u64| {
            format!("{blocks} blocks, {}", format_bytes(blocks.saturating_mul(self.block_bytes)))
        };
        line(f, "label", format_args!("{:?}", self.label))?;
        line(f, "uuid", &self.uuid)?;
        line(f, "filesystem id", &self.filesystem_id)?;
        line(f, "superblock", format!("block {block}, update {}", self.update_counter))?;
        line(f, "format version", self.format_version)?;
        line(f, "features compat", bits("", self.feature_compat))?;
        line(f, "features ro_compat", bits(" (read-only here)", self.feature_ro_compat))?;
        line(f, "features incompat", bits(" (cannot be mounted here)", self.feature_incompat))?;
        line(f, "size", size(self.device_blocks))?;
        line(f, "physical block", format!("{} bytes", self.physical_block_bytes))?;
        line(f, "groups", format!("{} from block {} on", self.group_count, self.first_group_block))?;
        line(f, "group size", size(u64::from(self.group_blocks)))?;
        line(f, "inodes in a group", self.inodes_per_group)?;
        line(f, "journal", format!("block {}, {}", self.journal_start, size(self.journal_blocks)))?;
        line(f, "reserve", size(self.reserve_blocks))?;
        line(f, "default options", format_args!("{:?}", self.default_options))?;
        line(f, "state", if self.state.is_empty() { "unmounted".to_owned() } else { self.state.join(", ") })?;
        line(f, "free at unmount", format!("{}; {} inodes", size(self.free_blocks), self.free_inodes))?;
        line(f, "created", time(self.created_ns))?;
        line(f, "mounted", time(self.mounted_ns))?;
        line(f, "unmounted", time(self.unmounted_ns))?;
        line(f, "checked", format!("{}, mounts since: {}", time(self.checked_ns), self.mount_count))?;
        line(f, "errors", self.error_count)?;
        line(f, "first error", error(self.first_error.as_ref()))?;
        line(f, "last error", error(self.last_error.as_ref()))?;
        line(f, "recovery attempts", self.recovery_attempts)?;
        match &self.recovery {
            None => line(f, "last recovery", "never"),
            Some(recovery) => line(
                f,
                "last recovery",
                format!(
                    "{}, {} us: {} transactions, {} items, records {} to {}, {} discarded, {} orphans, stop {}",
                    time(recovery.time_ns),
                    recovery.duration_ns / 1000,
                    recovery.transactions,
                    recovery.items,
                    recovery.first_sequence,
                    recovery.end_sequence,
                    recovery.discarded_records,
                    recovery.orphans,
                    recovery.stop
                ),
            ),
        }
    }
}

impl JournalInfo {
    fn print(&self, f: &mut Formatter<'_>) -> Result {
        line(f, "journal header", format!("block {}, update {}", self.header_block, self.counter))?;
        line(f, "journal state", if self.clean { "clean" } else { "must be replayed" })?;
        line(f, "ring", format_bytes(self.ring_bytes))?;
        line(
            f,
            "tail",
            format!(
                "position {}, sequence {}, generation {}",
                self.tail_position, self.tail_sequence, self.tail_generation
            ),
        )?;
        line(f, "newest generation", self.newest_generation)?;
        line(f, "next transaction", self.next_transaction)?;
        line(
            f,
            "totals at the tail",
            format!(
                "{} blocks and {} inodes free, {} orphans",
                self.free_blocks, self.free_inodes, self.orphans
            ),
        )
    }
}

impl GroupsInfo {
    fn print(&self, f: &mut Formatter<'_>) -> Result {
        line(f, "initialised groups", self.initialised)?;
        let copies: Vec<_> = self.superblock_copies.iter().map(ToString::to_string).collect();
        line(f, "superblock copies", copies.join(" "))?;
        line(f, "group metadata", format!("{} blocks in each", self.metadata_blocks_each))?;
        line(
            f,
            "free by group headers",
            format!("{} blocks, {} inodes", self.free_blocks, self.free_inodes),
        )?;
        let Some(list) = &self.list else {
            return Ok(());
        };
        writeln!(
            f,
            "\n{:>8} {:>12} {:>8} {:>12} {:>12} {:>10}",
            "group", "start", "blocks", "free blocks", "free inodes", "table mark"
        )?;
        for group in list {
            writeln!(
                f,
                "{:>8} {:>12} {:>8} {:>12} {:>12} {:>10}",
                group.group,
                group.start,
                group.blocks,
                group.free_blocks,
                group.free_inodes,
                group.table_mark
            )?;
        }
        Ok(())
    }
}
