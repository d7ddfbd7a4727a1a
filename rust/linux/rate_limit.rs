// SPDX-License-Identifier: GPL-2.0

//! Limiting how many messages reach the log (include/linux/ratelimit.h).

use cairnfs_bindings as bindings;

/// Whether another message about damage may be printed now: ten in five seconds, over all mounts.
pub fn may_print() -> bool {
    // SAFETY: There is nothing to uphold.
    unsafe { bindings::cairnfs_helper_ratelimit() }
}
