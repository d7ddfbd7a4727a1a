//! What a call costs, by the disk's exact counters: writes, bytes and flushes from before the first of many calls until
//! the last has returned.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use clap::Args;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::attachment::{Attachment, FilesystemArguments};

const BLOCK_BYTES: usize = 4096;
/// The disk is quiet when it was asked for nothing for so long.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_LOOKS: u32 = 60;

/// What to measure.
#[derive(Args)]
pub(crate) struct FiguresArguments {
    #[command(flatten)]
    filesystem: FilesystemArguments,
    /// How many calls of each kind.
    #[arg(long, default_value_t = 500)]
    calls: u32,
}

/// Measures on a disk without and with FUA; prints a line for each figure.
pub(crate) fn run(attachment: &mut Attachment, arguments: &FiguresArguments) -> Result<()> {
    for fua in [false, true] {
        attachment.control.command("reset")?;
        attachment.control.command(if fua { "fua on" } else { "fua off" })?;
        attachment.attach()?;
        let mounted = attachment.mount(&arguments.filesystem).context("cannot mount")?;
        measure_all(attachment, arguments.calls, fua, mounted.root())?;
        mounted.unmount()?;
        attachment.detach()?;
    }
    Ok(())
}

fn measure_all(attachment: &mut Attachment, calls: u32, fua: bool, root: &Path) -> Result<()> {
    let folder = root.join("folder");
    fs::create_dir(&folder)?;
    let block = vec![0x5a; BLOCK_BYTES];
    measure(attachment, "create", calls, fua, root, |call| {
        let mut file = File::create_new(folder.join(format!("file-{call}")))?;
        file.write_all(&block)?;
        file.sync_all()
    })?;

    let appended = root.join("appended");
    fs::write(&appended, &block)?;
    let mut file = OpenOptions::new().append(true).open(&appended)?;
    measure(attachment, "append", calls, fua, root, |_| {
        file.write_all(&block)?;
        file.sync_data()
    })?;

    let overwritten = root.join("overwritten");
    fs::write(&overwritten, vec![0; BLOCK_BYTES * calls as usize])?;
    let file = OpenOptions::new().write(true).open(&overwritten)?;
    let mut order: Vec<u64> = (0..u64::from(calls)).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
    measure(attachment, "overwrite", calls, fua, root, |call| {
        file.write_all_at(&block, order[call as usize] * BLOCK_BYTES as u64)?;
        file.sync_data()
    })
}

fn measure(
    attachment: &mut Attachment,
    name: &str,
    calls: u32,
    fua: bool,
    root: &Path,
    mut call: impl FnMut(u32) -> std::io::Result<()>,
) -> Result<()> {
    rustix::fs::syncfs(File::open(root)?)?;
    wait_until_quiet(attachment)?;
    attachment.control.command("counters reset")?;
    for number in 0..calls {
        call(number).with_context(|| format!("{name}, call {number}"))?;
    }
    let counters = attachment.control.ask("counters")?;
    let words: Vec<&str> = counters.lines().filter(|line| line.contains('=')).collect();
    println!("figure name={name} fua={} calls={calls} {}", u8::from(fua), words.join(" "));
    Ok(())
}

/// What was done before the calls is not theirs.
fn wait_until_quiet(attachment: &mut Attachment) -> Result<()> {
    let mut before = attachment.control.ask("counters")?;
    for _ in 0..QUIET_LOOKS {
        std::thread::sleep(QUIET);
        let now = attachment.control.ask("counters")?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
    ensure!(false, "the disk does not come to rest");
    Ok(())
}
