//! The verification: mount what a cut left, judge it by the marks that stood before the cut, and go on working in it.
//!
//! Of each state that it mounts the disk keeps two images, as it was before and as it is after the unmount, for the
//! host to check with the filesystem's own checker.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use clap::Args;

use crate::attachment::{Attachment, FilesystemArguments};
use crate::content::Zeroing;
use crate::judge::{folder_of, judge, Verdict};
use crate::marks::Record;

/// So many faults of a state are printed; the rest is counted.
const PRINTED: usize = 4;
/// What is written to a recovered filesystem.
const NEW_FOLDER: &str = "new";
const NEW_FILES: u8 = 4;
const NEW_FILE_BYTES: usize = 40_000;

/// What to check. Without a list the state that is being served is checked.
#[derive(Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    filesystem: FilesystemArguments,
    /// Kept states, from 0.
    #[arg(long, conflicts_with = "states")]
    kept: Option<usize>,
    /// Crash states of the recording.
    #[arg(long, value_delimiter = ',')]
    states: Vec<u64>,
    /// How the filesystem zeroes what a truncate cuts off of a block.
    #[arg(long, value_enum, default_value_t = Zeroing::WithSize)]
    zeroing: Zeroing,
    /// A folder of a filesystem that is mounted already; it is only judged.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// Checks; prints a line for each state, and one for each of the first faults.
pub(crate) fn run(attachment: &mut Attachment, arguments: &VerifyArguments) -> Result<()> {
    if let Some(root) = &arguments.root {
        let verdict = match marks(attachment)? {
            Some(record) => judge(root, &record, arguments.zeroing)?,
            None => Verdict::default(),
        };
        print(0, &verdict, None);
        return Ok(());
    }
    let offers: Vec<(u64, Option<String>)> = match (arguments.kept, &arguments.states[..]) {
        (Some(count), _) => (0..count as u64).map(|at| (at, Some(format!("offer kept={at}")))).collect(),
        (None, []) => vec![(0, None)],
        (None, states) => states.iter().map(|at| (*at, Some(format!("offer state={at}")))).collect(),
    };
    for (state, offer) in offers {
        if let Some(offer) = offer {
            attachment.control.command(&offer)?;
        }
        verify(attachment, arguments, state).with_context(|| format!("state {state}"))?;
    }
    Ok(())
}

fn marks(attachment: &mut Attachment) -> Result<Option<Record>> {
    let answer = attachment.control.ask("marks")?;
    Record::from_marks(answer.lines().filter_map(|line| line.strip_prefix("mark=")))
}

fn verify(attachment: &mut Attachment, arguments: &VerifyArguments, state: u64) -> Result<()> {
    let record = marks(attachment)?;
    let before = if attachment.is_changeable() { Some(attachment.keep()?) } else { None };
    attachment.attach()?;
    let mut verdict = match attachment.mount(&arguments.filesystem) {
        Err(error) => fault(record.as_ref(), format!("cannot mount: {error}")),
        Ok(mounted) => {
            let judge = |known| judge(mounted.root(), known, arguments.zeroing);
            let judged = record.as_ref().map_or_else(|| Ok(Verdict::default()), judge);
            let mut verdict = judged.unwrap_or_else(|error| fault(record.as_ref(), format!("{error:#}")));
            if let Err(error) = work(mounted.root()) {
                verdict.faults.push(format!("it cannot be worked in: {error:#}"));
            }
            mounted.unmount()?;
            verdict
        }
    };
    if verdict.faults.is_empty() {
        // Another mount, of what was unmounted cleanly.
        match attachment.mount(&arguments.filesystem) {
            Err(error) => verdict.faults.push(format!("cannot mount again: {error}")),
            Ok(mounted) => {
                if let Err(error) = look_again(mounted.root()) {
                    verdict.faults.push(format!("after another mount: {error:#}"));
                }
                mounted.unmount()?;
            }
        }
    }
    attachment.detach()?;
    let after = if attachment.is_changeable() { Some(attachment.keep()?) } else { None };
    print(state, &verdict, before.zip(after));
    Ok(())
}

fn fault(record: Option<&Record>, text: String) -> Verdict {
    let promises = record.map_or(0, Record::promises);
    Verdict { promises, faults: vec![text], ..Verdict::default() }
}

fn print(state: u64, verdict: &Verdict, kept: Option<(usize, usize)>) {
    for fault in verdict.faults.iter().take(PRINTED) {
        println!("state {state}: {fault}");
    }
    let kept = kept.map_or_else(String::new, |(before, after)| format!(" before={before} after={after}"));
    println!(
        "verified state={state} promises={} begun={} survived={} broken={}{kept}",
        verdict.promises,
        verdict.begun,
        verdict.survived,
        verdict.faults.len()
    );
}

fn new_bytes(file: u8) -> Vec<u8> {
    (0..NEW_FILE_BYTES).map(|at| file.wrapping_mul(31) ^ (at / 7) as u8).collect()
}

/// Takes blocks and inodes, and gives back those of the first thread.
fn work(root: &Path) -> Result<()> {
    let folder = root.join(NEW_FOLDER);
    fs::create_dir(&folder)?;
    for number in 0..NEW_FILES {
        let file = File::create_new(folder.join(number.to_string()))?;
        file.write_all_at(&new_bytes(number), 0)?;
        file.sync_all()?;
    }
    fs::rename(folder.join("0"), folder.join("1"))?;
    let first = root.join(folder_of(0));
    if first.exists() {
        fs::remove_dir_all(first)?;
    }
    File::open(&folder)?.sync_all()?;
    Ok(())
}

fn look_again(root: &Path) -> Result<()> {
    ensure!(!root.join(folder_of(0)).exists(), "what was removed is there");
    ensure!(!root.join(NEW_FOLDER).join("0").exists(), "what was renamed has its old name");
    for number in 1..NEW_FILES {
        let content = if number == 1 { 0 } else { number };
        let bytes = fs::read(root.join(NEW_FOLDER).join(number.to_string()))?;
        ensure!(bytes == new_bytes(content), "file {number} of {NEW_FILES} holds something else");
    }
    Ok(())
}
