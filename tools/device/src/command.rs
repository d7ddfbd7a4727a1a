// SPDX-License-Identifier: GPL-2.0

//! How a tool ends, and how it prints for programs.

use std::io::{self, Write};

/// Exit codes: mkfs and `cairnfs` use 0 and 1; a checker uses the bits of fsck(8).
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// mkfs: it failed.
    pub const FAILED: u8 = 1;
    /// fsck(8): errors were found and corrected.
    pub const CORRECTED: u8 = 1;
    /// fsck(8): the system should be restarted.
    pub const REBOOT: u8 = 2;
    /// fsck(8): errors were left uncorrected.
    pub const UNCORRECTED: u8 = 4;
    /// fsck(8): the check itself failed.
    pub const OPERATIONAL: u8 = 8;
    /// fsck(8): wrong options or operands.
    pub const USAGE: u8 = 16;
    /// fsck(8): cancelled by the user.
    pub const CANCELLED: u8 = 32;
}

/// Prints `value` as JSON with a final newline: what every tool does for `--json`.
pub fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}
