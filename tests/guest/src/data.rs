//! The cases of `guest-data`: what files hold, by every way in and out, in memory, after the caches were dropped, after a
//! remount, after a shutdown, and where the disk fails, the disk is full or memory is wanting.

mod copy;
mod durable;
mod faults;
mod full;
mod helper;
mod load;
mod mapping;
mod memory;
mod pattern;
mod privileges;
mod sparse;
mod truncate;
mod write;

use crate::cases::{Case, Group};

pub use helper::run as run_helper;

const fn group(name: &'static str, cases: &'static [Case]) -> Group {
    Group { name, size_bytes: None, cases }
}

/// All of them.
pub const GROUPS: &[Group] = &[
    group("write", write::CASES),
    group("truncate", truncate::CASES),
    group("sparse", sparse::CASES),
    group("mapping", mapping::CASES),
    group("copy", copy::CASES),
    group("load", load::CASES),
    group("durable", durable::CASES),
    group("privileges", privileges::CASES),
    group("faults", faults::CASES),
    group("memory", memory::CASES),
    // Small enough to be filled in no time, and with a journal of the smallest size.
    Group { name: "full", size_bytes: Some(48 << 20), cases: full::CASES },
];
