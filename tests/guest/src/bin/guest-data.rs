//! What files hold, on a new filesystem: `guest-data DEVICE [TYPE [[-]GROUP]...]`. The type is cairnfs, unless ext4 or tmpfs is
//! named to test the tests; groups are those of `data.rs`, all without.

use std::process::ExitCode;

use cairnfs_guest::{cases, data};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [word, rest @ ..] if word == "helper" => data::run_helper(rest).map(|()| ExitCode::SUCCESS),
        _ => cases::run(data::GROUPS, &arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("guest-data: {error:#}");
        ExitCode::from(2)
    })
}
