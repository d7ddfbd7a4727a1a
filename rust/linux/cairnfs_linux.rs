// SPDX-License-Identifier: GPL-2.0

//! Linux as the filesystem sees it: one C concept a file, with a safe interface.
//!
//! This crate holds all `unsafe` of the module. Each block says what makes it sound; each type states its
//! invariants. It mirrors the kernel's own operation tables one to one and decides nothing: neither the on-disk
//! format nor a policy is known here.
//!
//! A filesystem is one type, which implements [`file_system_type::FileSystem`] and, for each table of operations, the
//! trait `Operations` of the file that has the table.

pub mod address_space;
pub mod attribute_change;
mod bio;
pub mod block_device;
mod completion;
pub mod dentry;
pub mod errno;
pub mod event;
pub mod file;
pub mod file_system_type;
pub mod fs_context;
pub mod fs_parser;
pub mod idmap;
pub mod inode;
pub mod inode_cache;
mod io_end;
pub mod iomap;
pub mod kobject;
pub mod memory_scope;
pub mod platform;
pub mod rate_limit;
pub mod rw_semaphore;
pub mod seq_file;
pub mod statfs;
pub mod super_block;
pub mod symlink;
mod this_module;
pub mod thread;
pub mod time;
mod vm_operations;
pub mod xattr;

/// What the printing macros of the `kernel` crate put before each line.
const __LOG_PREFIX: &[u8] = b"cairnfs\0";
