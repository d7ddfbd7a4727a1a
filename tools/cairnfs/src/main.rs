// SPDX-License-Identifier: GPL-2.0

//! cairnfs: one command for looking into filesystems, a subcommand for each question.
//!
//! Exit codes: 0, all is well; 1, what was asked for was found damaged, or could not be done.

mod info;

use cairnfs_device::exit;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Looks into cairnfs filesystems.
#[derive(Debug, Parser)]
#[command(name = "cairnfs", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a filesystem says of itself
    Info(info::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Where even this cannot be printed, the exit code is all there is left to say.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { exit::FAILED } else { exit::OK });
        }
    };
    let done = match &arguments.command {
        Command::Info(arguments) => info::run(arguments),
    };
    match done {
        Ok(is_sound) => ExitCode::from(if is_sound { exit::OK } else { exit::FAILED }),
        Err(error) => {
            eprintln!("cairnfs: {error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}
