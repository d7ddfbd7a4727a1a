// SPDX-License-Identifier: GPL-2.0

//! What the tools of cairnfs share: core's `Device` and `Platform` for user space, and the habits of a command line
//! that its users know from e2fsprogs and xfsprogs.

mod command;
mod file;
mod in_use;
mod locate;
mod memory;
mod platform;
mod progress;
mod signature;
mod size;

pub use command::{exit, print_json};
pub use file::{Access, FileDevice, OpenError};
pub use in_use::{users_of, User};
pub use locate::{find_copy, load_superblock, read_copy, LoadedSuperblock, Rejected};
pub use memory::MemoryDevice;
pub use platform::{EpochError, StdPlatform};
pub use progress::Progress;
pub use signature::{probe, Signature};
pub use size::{format_bytes, parse_size, SizeError};
