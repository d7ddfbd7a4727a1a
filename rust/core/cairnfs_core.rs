// SPDX-License-Identifier: GPL-2.0

//! The filesystem without an operating system.
//!
//! Formats, verifiers and operations of cairnfs, over byte slices and small traits. The same files are compiled
//! into the kernel module (where Kbuild sets `cfg(CONFIG_RUST)`) and into the user-space tools, so that what the
//! tools' tests prove holds for the module.
//!
//! Core never waits, takes no lock, logs nothing, does not panic, and trusts nothing that it read from a device.
//! The compiler and the linter hold it to that: no `unsafe`, no indexing that may panic, no unchecked arithmetic,
//! and no panic symbol in the object that goes into the module.

#![cfg_attr(not(any(CONFIG_RUST, test)), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

pub mod attributes;
pub mod bitmap;
pub mod blocks;
pub mod cache;
pub mod check;
pub mod device;
pub mod directory;
pub mod error;
pub mod extent_map;
pub mod format;
pub mod handle;
pub mod inode;
pub mod journal;
#[cfg(not(CONFIG_RUST))]
pub mod make;
pub mod memory;
pub mod operation;
pub mod orphans;
pub mod pending;
pub mod platform;
pub mod space;
pub mod symlink;
pub mod tree;
pub mod units;
pub mod verify;
