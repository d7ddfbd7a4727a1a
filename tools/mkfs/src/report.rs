// SPDX-License-Identifier: GPL-2.0

//! What was made, or would be, for people and for programs.

use crate::arguments::Arguments;
use crate::populate::Copied;
use cairnfs_core::make::{Identity, Plan};
use cairnfs_core::units::BLOCK_SHIFT;
use cairnfs_device::{format_bytes, Signature, StdPlatform};
use serde::Serialize;
use std::fmt;
use uuid::Uuid;

/// The numbers of a filesystem.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    device: String,
    dry_run: bool,
    label: String,
    uuid: String,
    filesystem_id: String,
    created_ns: u64,
    block_bytes: u64,
    device_blocks: u64,
    physical_block_bytes: u32,
    journal_start: u64,
    journal_blocks: u64,
    first_group_block: u64,
    group_blocks: u32,
    group_count: u32,
    initialised_groups: u32,
    inodes_per_group: u32,
    inodes: u64,
    orphan_blocks: u32,
    reserve_blocks: u64,
    free_blocks: u64,
    free_inodes: u64,
    /// What stood on the device before.
    signatures: Vec<Signature>,
    /// What `-d` has copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<Copied>,
}

impl Report {
    pub(crate) fn new(
        arguments: &Arguments,
        platform: &StdPlatform,
        plan: &Plan,
        identity: &Identity,
        signatures: Vec<Signature>,
        copied: Option<Copied>,
    ) -> Self {
        let filesystem_id = identity.filesystem_id(platform);
        Self {
            device: arguments.device.display().to_string(),
            dry_run: arguments.dry_run,
            label: String::from_utf8_lossy(&identity.label).trim_end_matches('\0').to_owned(),
            uuid: Uuid::from_bytes(identity.uuid).to_string(),
            filesystem_id: format!("{filesystem_id:016x}"),
            created_ns: identity.created_ns,
            block_bytes: arguments.block_bytes,
            device_blocks: plan.device_blocks,
            physical_block_bytes: plan.physical_block_bytes,
            journal_start: plan.journal_start.0,
            journal_blocks: plan.journal_blocks,
            first_group_block: plan.first_group_block.0,
            group_blocks: plan.group_blocks,
            group_count: plan.group_count,
            initialised_groups: plan.initialised_groups,
            inodes_per_group: plan.inodes_per_group,
            inodes: plan.geometry(filesystem_id).inode_count(),
            orphan_blocks: plan.orphan_blocks,
            reserve_blocks: plan.reserve_blocks,
            free_blocks: plan.free_blocks(),
            free_inodes: plan.free_inodes(),
            signatures,
            copied,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |blocks: u64| format_bytes(blocks << BLOCK_SHIFT);
        let what = if self.dry_run { "would be made" } else { "cairnfs" };
        for signature in self.signatures.iter().filter(|_| self.dry_run) {
            writeln!(f, "{} contains {} (at byte {})", self.device, signature.name, signature.offset)?;
        }
        writeln!(
            f,
            "{what} on {}: {} blocks of {} bytes, {}",
            self.device,
            self.device_blocks,
            self.block_bytes,
            size(self.device_blocks)
        )?;
        writeln!(f, "label    {:?}", self.label)?;
        writeln!(f, "uuid     {}", self.uuid)?;
        writeln!(
            f,
            "journal  {} blocks at block {}, {}, records padded to {} bytes",
            self.journal_blocks,
            self.journal_start,
            size(self.journal_blocks),
            self.physical_block_bytes
        )?;
        writeln!(
            f,
            "groups   {} of {} from block {} on, {} initialised",
            self.group_count,
            size(u64::from(self.group_blocks)),
            self.first_group_block,
            self.initialised_groups
        )?;
        writeln!(
            f,
            "inodes   {}, {} in each group, {} free",
            self.inodes, self.inodes_per_group, self.free_inodes
        )?;
        writeln!(
            f,
            "free     {} blocks, {}, of which {} in reserve",
            self.free_blocks,
            size(self.free_blocks),
            self.reserve_blocks
        )?;
        if let Some(copied) = &self.copied {
            let Copied { files, directories, bytes } = copied;
            writeln!(f, "copied   {files} files and {directories} directories, {}", format_bytes(*bytes))?;
        }
        Ok(())
    }
}
