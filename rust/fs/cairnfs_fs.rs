// SPDX-License-Identifier: GPL-2.0

//! The filesystem: core's decisions bound to the events of VFS.
//!
//! This crate has the locks, the transactions' lifetimes and the workers; formats and operations are core's, and
//! all contact with C is the linux crate's.

#![recursion_limit = "512"] // `pin_init!` goes a level deeper with every field.
#![deny(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]

use kernel::prelude::*;

mod attributes;
mod counters;
mod data;
mod environment;
mod extended_attributes;
mod file;
mod inode;
mod journal;
mod memory;
mod metadata;
mod module;
mod mount;
mod mounted;
mod names;
mod options;
mod report;
mod resize;
mod shutdown;
mod statistics;
mod super_block;

module! {
    type: Module,
    name: "cairnfs",
    author: "The cairnfs authors",
    description: "cairnfs, a journaling filesystem",
    license: "GPL v2",
    alias: ["fs-cairnfs"],
}

use module::Module;
