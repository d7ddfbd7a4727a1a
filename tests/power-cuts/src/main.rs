//! `cairnfs-power-cuts`: runs in a guest and finds out what a filesystem keeps when the project's disk loses power.
//!
//! `load` runs rounds: mount, a seeded load with marks on the disk, until the disk loses power; the state that is left is
//! kept. `verify` mounts each kept state, or crash states of a recording, judges them by the marks before the cut, and
//! goes on working in them. `figures` counts what calls cost.
//!
//! `operation`, `tree` and `content` are the model; `plan` draws operations, `execute` does them, `marks` says on the disk
//! how far they are, `survey` and `judge` are the oracle.

mod attachment;
mod content;
mod execute;
mod figures;
mod judge;
mod load;
mod marks;
mod operation;
mod plan;
mod survey;
mod tree;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::attachment::{Attachment, AttachmentArguments};
use crate::figures::FiguresArguments;
use crate::load::LoadArguments;
use crate::verify::VerifyArguments;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    attachment: AttachmentArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run a load into power cuts, or record one.
    Load(LoadArguments),
    /// Check what is left.
    Verify(VerifyArguments),
    /// Count what calls cost.
    Figures(FiguresArguments),
    /// Store the standard input into a mapping of a file.
    #[command(hide = true)]
    Store {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: usize,
    },
}

fn main() -> ExitCode {
    let Arguments { attachment, action } = Arguments::parse();
    match run(attachment, action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairnfs-power-cuts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(disk: AttachmentArguments, action: Action) -> Result<()> {
    match action {
        Action::Load(arguments) => with(disk, |disk| load::run(disk, &arguments)),
        Action::Verify(arguments) => with(disk, |disk| verify::run(disk, &arguments)),
        Action::Figures(arguments) => with(disk, |disk| figures::run(disk, &arguments)),
        Action::Store { path, offset } => execute::store(&path, offset),
    }
}

fn with(disk: AttachmentArguments, run: impl FnOnce(&mut Attachment) -> Result<()>) -> Result<()> {
    let mut attachment = disk.open()?;
    run(&mut attachment)?;
    attachment.close()
}
