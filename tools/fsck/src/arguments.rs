// SPDX-License-Identifier: GPL-2.0

//! The command line: e2fsck's letters.

use clap::Parser;
use std::path::PathBuf;

/// Checks a cairnfs filesystem on a block device or in an image file.
#[derive(Debug, Parser)]
#[command(name = "fsck.cairnfs", disable_version_flag = true)]
#[expect(clippy::struct_excessive_bools, reason = "a command line is a set of switches")]
pub(crate) struct Arguments {
    /// Check everything, and only that: open the device for reading and answer "no" to everything
    #[arg(short = 'n', conflicts_with_all = ["preen", "auto", "yes"])]
    pub(crate) no_changes: bool,

    /// Check even if the filesystem is marked clean, as -n always does
    #[arg(short = 'f', long)]
    pub(crate) force: bool,

    /// Repair what can be repaired without asking (there is no repair yet)
    #[arg(short = 'p')]
    pub(crate) preen: bool,

    /// The same as -p
    #[arg(short = 'a')]
    pub(crate) auto: bool,

    /// Repair everything (there is no repair yet)
    #[arg(short = 'y', conflicts_with_all = ["preen", "auto"])]
    pub(crate) yes: bool,

    /// Say more of what was found
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,

    /// Show progress on the terminal
    #[arg(short = 'C', long)]
    pub(crate) progress: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the version
    #[arg(short = 'V', long)]
    pub(crate) version: bool,

    /// Block device or image file
    #[arg(required_unless_present = "version")]
    pub(crate) device: Option<PathBuf>,
}

impl Arguments {
    /// Whether somebody, most likely a boot script, wants what is wrong to be repaired without asking.
    pub(crate) const fn repairs(&self) -> bool {
        self.preen || self.auto || self.yes
    }

    /// Whether the mark of a clean filesystem is enough.
    pub(crate) const fn believes(&self) -> bool {
        self.repairs() && !self.force
    }
}
