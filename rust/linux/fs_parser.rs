// SPDX-License-Identifier: GPL-2.0

//! `struct fs_parameter_spec`: the table of a filesystem's mount options (include/linux/fs_parser.h).
//!
//! The kernel looks names up in the table; what is not in it, VFS knows, or says so and refuses the mount.

use cairnfs_bindings as bindings;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::error::Result;
use kernel::ffi;
use kernel::str::CStr;

/// One option.
///
/// # Invariants
///
/// The name is static, and so is the table of values, if there is one; that has an end.
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

    /// An option whose value is a number, in any base that C knows.
    pub const fn u32(name: &'static CStr, number: u8) -> Self {
        // INVARIANT: The name is static.
        Self(bindings::fs_parameter_spec {
            name: name.as_char_ptr(),
            type_: Some(bindings::fs_param_is_u32),
            opt: number,
            flags: 0,
            data: ptr::null(),
        })
    }

    /// An option whose value is one of a table of words, which ends with [`EnumValue::end`]; building fails when it does not.
    #[inline(always)]
    pub const fn enumeration(name: &'static CStr, number: u8, values: &'static [EnumValue]) -> Self {
        match values {
            [.., last] if last.0.name.is_null() => {}
            _ => panic!("the table of values has no end"),
        }
        // INVARIANT: The name is static, and so are the values, which have an end.
        Self(bindings::fs_parameter_spec {
            name: name.as_char_ptr(),
            type_: Some(bindings::fs_param_is_enum),
            opt: number,
            flags: 0,
            data: values.as_ptr().cast(),
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

/// A word that an option may have as its value: `struct constant_table`.
///
/// # Invariants
///
/// The name is static.
#[repr(transparent)]
pub struct EnumValue(bindings::constant_table);

// SAFETY: Never changed after construction; what it points to is static and never changed.
unsafe impl Sync for EnumValue {}

impl EnumValue {
    /// A word, and the number that the parser gives for it.
    pub const fn new(name: &'static CStr, value: u32) -> Self {
        // INVARIANT: The name is static.
        Self(bindings::constant_table { name: name.as_char_ptr(), value: value as ffi::c_int })
    }

    /// The end of a table.
    pub const fn end() -> Self {
        Self(bindings::constant_table { name: ptr::null(), value: 0 })
    }
}

/// An option that was given.
#[derive(Clone, Copy)]
pub struct Value {
    /// The number of its [`Parameter`].
    pub number: u8,
    /// Its value: the number, or that of the word. Of an option without a value, 1.
    pub value: u64,
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

    /// Looks an option up, with its value. ENOPARAM when the table does not have it, EINVAL when it does not have such a value.
    ///
    /// # Safety
    ///
    /// `context` and `parameter` must be those of a running `parse_param` callback.
    pub(crate) unsafe fn parse(
        &self,
        context: *mut bindings::fs_context,
        parameter: *mut bindings::fs_parameter,
    ) -> Result<Value> {
        let mut result = MaybeUninit::<bindings::fs_parse_result>::zeroed();
        // SAFETY: The caller vouches for context and parameter; by the type invariants the table has an end; the result is
        // writable.
        let number = unsafe {
            bindings::__fs_parse(&raw mut (*context).log, self.as_ptr(), parameter, result.as_mut_ptr())
        };
        kernel::error::to_result(number)?;
        // SAFETY: The parser has zeroed all of the result, and then set what the option's type has; a flag is a bool of 1.
        let value = unsafe { result.assume_init().__bindgen_anon_1.uint_32 };
        // The numbers in the table are 8 bits wide.
        Ok(Value { number: number as u8, value: value.into() })
    }
}
