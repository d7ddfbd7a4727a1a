// SPDX-License-Identifier: GPL-2.0

//! `struct seq_file`: a text that user space is reading (include/linux/seq_file.h).

use cairnfs_bindings as bindings;
use core::fmt;
use kernel::ffi;
use kernel::str::CStr;

/// A text being shown.
///
/// # Invariants
///
/// The pointer is valid for the lifetime, and nobody else writes to the text meanwhile.
pub struct SeqFile<'a>(&'a mut bindings::seq_file);

impl<'a> SeqFile<'a> {
    /// # Safety
    ///
    /// `file` must be valid, and used by nobody else, for all of `'a`.
    pub(crate) unsafe fn from_raw(file: *mut bindings::seq_file) -> Self {
        // INVARIANT: As the caller vouches.
        // SAFETY: As the caller vouches.
        Self(unsafe { &mut *file })
    }

    /// Appends a text. What does not fit is asked for again by the caller of the callback, with more room.
    pub fn puts(&mut self, text: &CStr) {
        // SAFETY: By the type invariants the file is valid; the text is readable for its length.
        unsafe { bindings::seq_write(self.0, text.as_char_ptr().cast(), text.as_bytes().len()) };
    }

    /// Appends formatted text, likewise.
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        // SAFETY: By the type invariants the file is valid; `%pA` takes a pointer to arguments, which live long enough.
        unsafe {
            bindings::seq_printf(self.0, c"%pA".as_ptr().cast(), (&raw const text).cast::<ffi::c_void>())
        };
    }
}
