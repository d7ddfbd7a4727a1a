// SPDX-License-Identifier: GPL-2.0

//! `THIS_MODULE`, for the `owner` fields of operation tables.
//!
//! `module!` gives the filesystem a reference, but only when the module is already being loaded; a table that is a
//! `static` needs the address at compile time.

use cairnfs_bindings as bindings;

#[allow(
    improper_ctypes,
    reason = "only the address is taken: that Rust sees less of the structure than C does no harm"
)]
extern "C" {
    static mut __this_module: bindings::module;
}

/// The address of this module's `struct module`, which the module loader fills in.
pub(crate) const THIS_MODULE: *mut bindings::module = &raw mut __this_module;
