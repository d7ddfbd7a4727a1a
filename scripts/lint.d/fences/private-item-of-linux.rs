// SPDX-License-Identifier: GPL-2.0

//! The raw pointers inside linux are linux's own.

/// The address of a C structure.
pub fn module() -> *mut () {
    cairnfs_linux::this_module::THIS_MODULE.cast()
}
