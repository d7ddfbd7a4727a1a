//! The cases of `guest-names`: every call that changes names or attributes, with its errors, its effect on times and link
//! counts, and what is left of it after a remount and after a shutdown.

mod attributes;
mod create;
mod directories;
mod durable;
mod parallel;
mod permissions;
mod read_only;
mod remove;
mod rename;
mod shutdown;
mod special;
mod times;
mod unsupported;

use crate::cases::{Case, Group};

const fn group(name: &'static str, cases: &'static [Case]) -> Group {
    Group { name, size_bytes: None, cases }
}

/// All of them.
pub const GROUPS: &[Group] = &[
    group("create", create::CASES),
    group("special", special::CASES),
    group("remove", remove::CASES),
    group("rename", rename::CASES),
    group("attributes", attributes::CASES),
    group("times", times::CASES),
    group("permissions", permissions::CASES),
    group("directories", directories::CASES),
    group("parallel", parallel::CASES),
    group("durable", durable::CASES),
    group("read-only", read_only::CASES),
    group("shutdown", shutdown::CASES),
    group("unsupported", unsupported::CASES),
];
