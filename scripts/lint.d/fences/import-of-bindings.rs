// SPDX-License-Identifier: GPL-2.0

//! fs must not reach C by itself.

use cairnfs_bindings::file_system_type;

/// A pointer to a C structure.
pub struct Table(pub *mut file_system_type);
