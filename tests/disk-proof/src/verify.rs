//! The verification: mount what a cut left, and look for every promise that was made before it.

use anyhow::{Context, Result};
use clap::Args;

use crate::attachment::Attachment;
use crate::promises::Promises;

/// So many broken promises of a state are printed; the rest is counted.
const PRINTED: usize = 3;

/// What to check.
#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// How many kept states there are; without it the state that is being served is checked.
    #[arg(long)]
    kept: Option<usize>,
    /// The filesystem.
    #[arg(long, default_value = "ext4")]
    kind: String,
    /// Mount options.
    #[arg(long, default_value = "errors=remount-ro")]
    options: String,
}

/// Checks; prints a line for each state, and one for each of the first broken promises.
pub(crate) fn run(mut attachment: Attachment, arguments: &VerifyArguments) -> Result<()> {
    match arguments.kept {
        None => verify(&mut attachment, arguments, 0),
        Some(count) => (0..count).try_for_each(|index| {
            attachment.control.command(&format!("offer kept={index}"))?;
            verify(&mut attachment, arguments, index)
        }),
    }
}

fn verify(attachment: &mut Attachment, arguments: &VerifyArguments, index: usize) -> Result<()> {
    let answer = attachment.control.ask("marks")?;
    let marks = answer.lines().filter_map(|line| line.strip_prefix("mark="));
    let promises = Promises::from_marks(marks)?;
    attachment.attach()?;
    let broken = match attachment.mount(&arguments.kind, &arguments.options) {
        Err(error) => {
            println!("state {index}: cannot mount: {error}");
            promises.len().max(1)
        }
        Ok(mounted) => {
            let broken = promises.broken(mounted.root());
            for fault in broken.iter().take(PRINTED) {
                println!("state {index}: {fault}");
            }
            mounted.unmount().with_context(|| format!("state {index}"))?;
            broken.len()
        }
    };
    attachment.detach()?;
    println!("verified state={index} promises={} broken={broken}", promises.len());
    Ok(())
}
