// SPDX-License-Identifier: GPL-2.0

//! Scopes that change how allocations get their memory (include/linux/sched/mm.h).
//!
//! An allocation may free caches to get memory, among them this filesystem's own. Who holds a lock that this takes, or
//! a locked folio, allocates in such a scope.

use cairnfs_bindings as bindings;

/// Runs `action`; what it allocates, by whatever flags, does not call back into a filesystem.
pub fn without_filesystem_reclaim<R>(action: impl FnOnce() -> R) -> R {
    // SAFETY: Changes flags of the running task only.
    let before = unsafe { bindings::cairnfs_helper_memalloc_nofs_save() };
    let result = action();
    // SAFETY: `before` is from the call above, in the same task, and scopes are left in the order they nest: `action` is
    // between the two.
    unsafe { bindings::cairnfs_helper_memalloc_nofs_restore(before) };
    result
}

/// Runs `action`; what it allocates waits for nobody, and may use what the kernel keeps for those who are about to free memory. It may
/// fail: when even that is used up. For a little memory that is given back soon.
pub fn with_memory_reserves<R>(action: impl FnOnce() -> R) -> R {
    // SAFETY: Changes flags of the running task only.
    let before = unsafe { bindings::cairnfs_helper_memalloc_noreclaim_save() };
    let result = action();
    // SAFETY: `before` is from the call above, in the same task, and scopes are left in the order they nest: `action` is
    // between the two.
    unsafe { bindings::cairnfs_helper_memalloc_noreclaim_restore(before) };
    result
}
