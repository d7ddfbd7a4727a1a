// SPDX-License-Identifier: GPL-2.0

//! What fs may name: this one has to compile, or the fences beside it prove nothing.

use cairnfs_core::platform::Platform;
use cairnfs_linux::platform::Kernel;

/// Uses both layers below.
pub fn now_ns() -> u64 {
    Kernel.now_ns()
}
