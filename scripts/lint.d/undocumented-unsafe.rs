// SPDX-License-Identifier: GPL-2.0

//! An unsafe block that does not say what makes it sound: clippy has to refuse it in linux.

/// Reads where the caller says.
pub fn read(address: *const u8) -> u8 {
    unsafe { *address }
}
