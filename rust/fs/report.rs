// SPDX-License-Identifier: GPL-2.0

//! From core's errors to errno, with a line in the log for those that say something about the device.

#![forbid(unsafe_code)]

use cairnfs_core::error::Error;
use cairnfs_linux::rate_limit;
use kernel::prelude::*;

/// The errno of `error`. What the device holds, or fails to give, is also reported: `name` is the device's.
pub(crate) fn errno(name: &CStr, error: Error) -> kernel::error::Error {
    if matches!(error, Error::Corrupt(_) | Error::Io(_) | Error::Unsupported(_)) && rate_limit::may_print() {
        pr_err!("{name}: {error}\n");
    }
    kernel::error::Error::from_errno(error.errno().saturating_neg())
}
