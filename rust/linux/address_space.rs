// SPDX-License-Identifier: GPL-2.0

//! `struct address_space`: the pages of a file that are in memory (include/linux/fs.h, include/linux/pagemap.h).

use cairnfs_bindings as bindings;

/// Sets up the page cache of a new regular file: its operations, large folios, and allocations that do not enter
/// filesystems, because a folio is read with its lock held.
///
/// # Safety
///
/// `mapping` must be that of a new inode, used by nobody else; the operations must fit the inode.
pub(crate) unsafe fn init(
    mapping: *mut bindings::address_space,
    operations: &'static bindings::address_space_operations,
) {
    // SAFETY: As the caller vouches.
    unsafe {
        (*mapping).a_ops = operations;
        bindings::cairnfs_helper_mapping_clear_gfp_fs(mapping);
        bindings::cairnfs_helper_mapping_set_large_folios(mapping);
    }
}
