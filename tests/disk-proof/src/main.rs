//! `cairnfs-disk-proof`: runs in a guest and finds out whether a filesystem keeps its promises on the
//! project's disk.
//!
//! `load` runs rounds: mount, write and fsync and rename with a mark on the disk after each call that
//! promises something, until the disk loses power; the state that is left is kept. `verify`, in a
//! later boot, mounts each kept state and checks every promise that was made before its cut.

mod attachment;
mod load;
mod promises;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::attachment::AttachmentArguments;
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
    /// Run a load into power cuts.
    Load(LoadArguments),
    /// Check what is left.
    Verify(VerifyArguments),
}

fn main() -> ExitCode {
    let Arguments { attachment, action } = Arguments::parse();
    let run = || -> Result<()> {
        let attachment = attachment.open()?;
        match action {
            Action::Load(arguments) => load::run(attachment, &arguments),
            Action::Verify(arguments) => verify::run(attachment, &arguments),
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairnfs-disk-proof: {error:#}");
            ExitCode::FAILURE
        }
    }
}
