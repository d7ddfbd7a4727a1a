//! Every call that changes names or attributes, on a new filesystem: `guest-names DEVICE [TYPE [GROUP]...]`. The type is
//! cairnfs, unless ext4 or tmpfs is named to test the tests; groups are those of `names.rs`, all without.

use std::process::ExitCode;

use cairnfs_guest::{cases, names};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    cases::run(names::GROUPS, &arguments).unwrap_or_else(|error| {
        eprintln!("guest-names: {error:#}");
        ExitCode::from(2)
    })
}
