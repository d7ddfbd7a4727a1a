// SPDX-License-Identifier: GPL-2.0

//! `struct fs_parameter_spec`: the table of a filesystem's mount options (include/linux/fs_parser.h).
//!
//! The kernel looks names up in the table; what is not in it, VFS knows, or says so and refuses the mount.

use cairnfs_bindings as bindings;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::error::Result;
use kernel::str::CStr;

/// One option.
///
/// # Invariants
///
/// The name is static.
#[repr(transparent)]
pub struct Parameter(bindings::fs_parameter_spec);

// SAFETY: Never changed after construction; what it points to is static and never changed.
unsafe impl Sync for Parameter {}

impl Parameter {
    /// An option without a value; `number` is what the parser answers.
    pub const fn flag(name: &'static CStr, number: u8) -> Self {
        // INVARIANT: The name is static.
        Self(bindings::fs_parameter_spec {
            name: name.as_char_ptr(),
            type_: None,
            opt: number,
            flags: 0,
            data: ptr::null(),
        })
    }

    /// The end of a table.
    pub const fn end() -> Self {
        Self(bindings::fs_parameter_spec {
            name: ptr::null(),
            type_: None,
            opt: 0,
            flags: 0,
            data: ptr::null(),
        })
    }
}

/// A table of options, which ends with [`Parameter::end`].
///
/// # Invariants
///
/// The last one is the end, so that the kernel's walk stays inside.
pub struct Parameters(&'static [Parameter]);

impl Parameters {
    /// The table; building fails when it has no end.
    #[inline(always)]
    pub const fn new(table: &'static [Parameter]) -> Self {
        match table {
            // INVARIANT: Just looked at.
            [.., last] if last.0.name.is_null() => Self(table),
            _ => panic!("the table has no end"),
        }
    }

    pub(crate) const fn as_ptr(&self) -> *const bindings::fs_parameter_spec {
        self.0.as_ptr().cast()
    }

    /// Looks an option up: its number, or ENOPARAM when the table does not have it.
    ///
    /// # Safety
    ///
    /// `context` and `parameter` must be those of a running `parse_param` callback.
    pub(crate) unsafe fn parse(
        &self,
        context: *mut bindings::fs_context,
        parameter: *mut bindings::fs_parameter,
    ) -> Result<u8> {
        let mut result = MaybeUninit::<bindings::fs_parse_result>::zeroed();
        // SAFETY: The caller vouches for context and parameter; by the type invariants the table has an end; the result is
        // writable.
        let number = unsafe {
            bindings::__fs_parse(&raw mut (*context).log, self.as_ptr(), parameter, result.as_mut_ptr())
        };
        kernel::error::to_result(number)?;
        // The numbers in the table are 8 bits wide.
        Ok(number as u8)
    }
}
