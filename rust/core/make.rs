// SPDX-License-Identifier: GPL-2.0

//! Making a filesystem: what mkfs does, without its command line.
//!
//! First [`Plan::new`] computes every number of the layout from the size of the device and a few wishes; mkfs prints that
//! and, unless it was a dry run, hands it to [`write()`]. The same plan, [`Identity`] and device give the same bytes.
//!
//! Order of the writes: the superblock pair of whatever stood there before is zeroed and flushed first; then come the journal,
//! the initialised groups, the copies of the superblock, a flush, and only then the pair, block 0 before block 1.
//! A crash at any moment leaves the old filesystem untouched (before the first write), nothing that mounts, or all of it.

pub mod plan;
mod write;

pub use plan::{Plan, Refusal, Request};
pub use write::{blocks_to_write, groups_with_copy, wipe, write, Identity};
