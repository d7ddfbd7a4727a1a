// SPDX-License-Identifier: GPL-2.0

//! fs must not reach C by asking for the crate either.

extern crate cairnfs_bindings;

/// A pointer to a C structure.
pub struct Table(pub *mut cairnfs_bindings::file_system_type);
