// SPDX-License-Identifier: GPL-2.0

//! cairnfs: one command for looking into filesystems, a subcommand for each question.
//!
//! Exit codes: 0, all is well; 1, what was asked for was found damaged, or could not be done. `cairnfs journal` has those of
//! fsck(8), since what it says of a journal is what a check says.

mod info;
mod journal;
mod superblock;

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
    /// Shows what is in a filesystem's journal, and whether it can be replayed
    Journal(journal::Arguments),
}

fn main() -> ExitCode {
    // Who stops reading (`| head`) ends the program, as everywhere, and not by a panic.
    sigpipe::reset();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Where even this cannot be printed, the exit code is all there is left to say.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { wrong_usage() } else { exit::OK });
        }
    };
    let (done, failed) = match &arguments.command {
        Command::Info(arguments) => {
            let done = info::run(arguments).map(|is_sound| if is_sound { exit::OK } else { exit::FAILED });
            (done, exit::FAILED)
        }
        Command::Journal(arguments) => (journal::run(arguments), exit::OPERATIONAL),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("cairnfs: {error:#}");
        failed
    }))
}

/// The exit code of a command line that cannot be read; it depends on the subcommand, which is its first word.
fn wrong_usage() -> u8 {
    let is_journal = std::env::args_os().nth(1).is_some_and(|word| word == "journal");
    if is_journal {
        exit::USAGE
    } else {
        exit::FAILED
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
