// SPDX-License-Identifier: GPL-2.0

//! The kernel's C interfaces as bindgen sees them.
//!
//! Generated for each kernel from `bindings_helper.h`, and named by `cairnfs_linux` alone. The `kernel` crate has
//! bindings of its own, of what it wraps itself; theirs and these are different types.

#![allow(
    clippy::all,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::undocumented_unsafe_blocks,
    reason = "bindgen writes C's names and habits; what is called from here is wrapped, with reasons, in cairnfs_linux"
)]

use kernel::ffi;

// What the kernel's own bindings make of these two: Rust's pointer-sized integers.
type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

include!("generated.rs");
