//! The large directory (`cairnfs_guest::large_directory`), mounted at a folder: `guest-large-directory walk ROOT NAMES`, or
//! `look-up`, `churn`, `walk-changed ROOT NAMES COUNT`. What is wrong is said on standard error, with exit code 1.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, Result};
use cairnfs_guest::large_directory;

const SEED: u64 = 1;

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, root, numbers @ ..] = &arguments[..] else {
        bail!("usage: guest-large-directory walk|look-up|churn|walk-changed ROOT NAMES [COUNT]");
    };
    let root = Path::new(root);
    let numbers: Vec<usize> = numbers.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    match (case.as_str(), &numbers[..]) {
        ("walk", [names]) => large_directory::walk(root, *names),
        ("look-up", [names, count]) => large_directory::look_up(root, *names, *count, SEED),
        ("walk-changed", [names, count]) => large_directory::walk_changed(root, *names, *count),
        ("churn", [names, count]) => large_directory::churn(root, *names, *count),
        _ => bail!("{case} is not known, or has other arguments"),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-large-directory: {error:#}");
            ExitCode::FAILURE
        }
    }
}
