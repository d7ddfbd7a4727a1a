//! Loads that show what a mount option does. The mount's folder in sysfs is where the counts come from.
//!
//! * `sync FOLDER STATISTICS THREADS COUNT`: each thread makes that many files and fsyncs each; prints how many commits and
//!   milliseconds that took.
//! * `fill FOLDER STATISTICS`: fsyncs one new file after the other until a checkpoint writes home; prints, in thousandths, how full
//!   the ring had been when the last one returned before that.

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{anyhow, bail, ensure, Context as _, Result};

/// More than any ring of a test takes.
const FILES_MAX: usize = 20_000;

fn statistic(folder: &Path, name: &str) -> Result<u64> {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().parse()?)
}

fn make_and_sync(path: &Path) -> std::io::Result<()> {
    File::create_new(path)?.sync_all()
}

fn sync(folder: &Path, statistics: &Path, threads: usize, count: usize) -> Result<()> {
    let (before, began) = (statistic(statistics, "journal/commits")?, Instant::now());
    std::thread::scope(|scope| {
        let work = |thread: usize| {
            move || {
                (0..count).try_for_each(|number| make_and_sync(&folder.join(format!("{thread}-{number}"))))
            }
        };
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(work(thread))).collect();
        started
            .into_iter()
            .try_for_each(|thread| Ok(thread.join().map_err(|_| anyhow!("a thread ended early"))??))
    })
    .and_then(|()| {
        let took_ms = began.elapsed().as_millis();
        println!("{} {took_ms}", statistic(statistics, "journal/commits")? - before);
        Ok(())
    })
}

fn fill(folder: &Path, statistics: &Path) -> Result<()> {
    let size = statistic(statistics, "journal/size_bytes")?;
    let home = statistic(statistics, "home_blocks_written")?;
    let mut used = 0;
    for number in 0..FILES_MAX {
        make_and_sync(&folder.join(number.to_string()))?;
        let now = statistic(statistics, "journal/used_bytes")?;
        if statistic(statistics, "home_blocks_written")? != home {
            ensure!(statistic(statistics, "journal/room_waits")? == 0, "the ring was full before");
            println!("{}", used * 1000 / size);
            return Ok(());
        }
        used = now;
    }
    bail!("no checkpoint after {FILES_MAX} files, {used} of {size} bytes are in use")
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["sync", folder, statistics, threads, count] => {
            sync(Path::new(folder), Path::new(statistics), threads.parse()?, count.parse()?)
        }
        ["fill", folder, statistics] => fill(Path::new(folder), Path::new(statistics)),
        _ => bail!("usage: guest-options sync FOLDER STATISTICS THREADS COUNT | fill FOLDER STATISTICS"),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-options: {error:#}");
            ExitCode::FAILURE
        }
    }
}
