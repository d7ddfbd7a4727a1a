// SPDX-License-Identifier: GPL-2.0

//! Want of memory where there is no way back, or where data would be lost.
//!
//! Small allocations fail only for a task that is about to be killed, and for who uses the kernel's reserves; others give some
//! back meanwhile. So it is waited for, through signals.

#![forbid(unsafe_code)]

use cairnfs_core::error::{Error, Result as CoreResult};
use cairnfs_linux::thread::sleep_ms;

const RETRY_MS: u32 = 20;

/// Waits for others to give memory back.
pub(crate) fn pause() {
    sleep_ms(RETRY_MS);
}

/// Does `work` until there is memory for it.
pub(crate) fn insist<T>(work: &mut dyn FnMut() -> CoreResult<T>) -> CoreResult<T> {
    insist_against(Error::OutOfMemory, work)
}

/// Does `work` until it does not fail with `want`, by which it says that there is no memory.
pub(crate) fn insist_against<T, E: PartialEq>(
    want: E,
    work: &mut dyn FnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match work() {
            Err(error) if error == want => pause(),
            outcome => return outcome,
        }
    }
}
