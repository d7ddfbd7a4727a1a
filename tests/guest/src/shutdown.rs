//! The shutdown ioctl, the same for ext4, XFS and cairnfs: a filesystem stops at once, as if its disk were gone.

use std::path::Path;

use anyhow::Result;

use crate::filesystem::{ioctl, Filesystem};

/// How much reaches the disk before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of it: data and journal.
    Everything = 0,
    /// What the journal knows already.
    Journal = 1,
    /// Nothing more.
    Nothing = 2,
}

/// `_IOR('X', 125, __u32)`.
const SHUTDOWN: u32 = 0x8004_587D;

/// Shuts the filesystem down that `path` is in; the mode as a number, so that a wrong one can be tried.
///
/// # Errors
/// When the ioctl fails; its message has the words of the error number.
pub fn shut_down_by_number(path: &Path, mode: u32) -> Result<()> {
    ioctl(path, SHUTDOWN, &mode.to_ne_bytes())
}

/// Shuts the filesystem down that `path` is in.
///
/// # Errors
/// When the ioctl fails.
pub fn shut_down(path: &Path, mode: Mode) -> Result<()> {
    shut_down_by_number(path, mode as u32)
}

/// Mounts a filesystem that was shut down, so that it recovers; then has it checked, and mounts it again.
///
/// # Errors
/// When one of them fails.
pub fn recover(filesystem: &Filesystem) -> Result<()> {
    filesystem.mount_again()?;
    filesystem.check_and_mount_again()
}

/// Shuts the filesystem down, mounts it so that it recovers, and has it checked.
///
/// # Errors
/// When one of them fails.
pub fn shut_down_and_recover(filesystem: &Filesystem, mode: Mode) -> Result<()> {
    shut_down(filesystem.root(), mode)?;
    recover(filesystem)
}
