//! The load: threads that do what their plans say, with marks on the disk, until an I/O error says that the power has
//! gone. Everything is drawn from the round's seed.
//!
//! With `--operations` there is no cut: so many operations of each thread are recorded, from before the mount to after
//! the unmount, and the disk can then offer the crash states of the recording.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{bail, ensure, Context, Result};
use cairnfs_disk::control_client::ControlClient;
use clap::{Args, ValueEnum};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::Mode;

use crate::attachment::{Attachment, FilesystemArguments};
use crate::execute::Executor;
use crate::judge::folder_of;
use crate::marks::Mark;
use crate::plan::{Load, Plan};
use crate::tree::ROOT_MODE;

/// A round whose cut does not come within so many operations of a thread is broken.
const MAX_OPERATIONS: usize = 8_000;
/// The cut comes between the least number of changes after the mount and so many times that.
const CUT_SPAN: u32 = 8;

/// Whether the disk knows forced writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fua {
    On,
    Off,
    /// In every other round.
    Alternate,
}

/// What to run.
#[derive(Args)]
pub(crate) struct LoadArguments {
    /// Which load.
    #[arg(value_enum)]
    load: Load,
    #[command(flatten)]
    filesystem: FilesystemArguments,
    /// How many rounds.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// The seed of the first; each later one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Whether the disk knows forced writes.
    #[arg(long, value_enum, default_value = "on")]
    fua: Fua,
    /// What the disk shall lie about: the words of its command `lie`. With `one`, the cut comes at the first honest
    /// flush after the lie.
    #[arg(long, default_value = "off")]
    lie: String,
    /// The cut comes after so many changes of the disk, or up to eight times as many.
    #[arg(long, default_value_t = 40)]
    least_changes: u32,
    /// No cut: record so many operations of each thread.
    #[arg(long)]
    operations: Option<usize>,
    /// A folder of a filesystem that is mounted already; then it stays mounted.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// Runs the rounds; prints a line for each.
pub(crate) fn run(attachment: &mut Attachment, arguments: &LoadArguments) -> Result<()> {
    rustix::process::umask(Mode::empty());
    for seed in arguments.seed..arguments.seed + arguments.rounds {
        let result = match &arguments.root {
            Some(root) => into_cut(attachment, arguments, seed, root),
            None => round(attachment, arguments, seed),
        };
        result.with_context(|| format!("round {seed}"))?;
    }
    Ok(())
}

fn round(attachment: &mut Attachment, arguments: &LoadArguments, seed: u64) -> Result<()> {
    if attachment.is_changeable() {
        attachment.control.command("reset")?;
        let fua = match arguments.fua {
            Fua::On => true,
            Fua::Off => false,
            Fua::Alternate => seed.is_multiple_of(2),
        };
        attachment.control.command(if fua { "fua on" } else { "fua off" })?;
    }
    if arguments.operations.is_some() {
        attachment.control.command("record on")?;
    }
    attachment.attach()?;
    let mounted = attachment.mount(&arguments.filesystem).context("cannot mount")?;
    match arguments.operations {
        Some(operations) => {
            begin(attachment, arguments, seed, mounted.root())?;
            record(attachment, arguments, seed, mounted.root(), operations)?;
        }
        None => into_cut(attachment, arguments, seed, mounted.root())?,
    }
    if attachment.is_changeable() {
        mounted.unmount()?;
        attachment.detach()?;
        if arguments.operations.is_some() {
            attachment.control.command("record off")?;
        } else {
            attachment.keep()?;
            attachment.control.command("lie off")?;
        }
    }
    Ok(())
}

/// Makes the folders of the threads, durably.
fn begin(attachment: &mut Attachment, arguments: &LoadArguments, seed: u64, root: &Path) -> Result<()> {
    let run = Mark::Run { load: arguments.load, seed, threads: arguments.threads };
    attachment.control.command(&format!("mark {run}"))?;
    for thread in 0..arguments.threads {
        DirBuilder::new().mode(ROOT_MODE).create(root.join(folder_of(thread)))?;
    }
    rustix::fs::syncfs(File::open(root)?)?;
    attachment.control.command(&format!("mark {}", Mark::Ready))?;
    Ok(())
}

fn record(
    attachment: &mut Attachment,
    arguments: &LoadArguments,
    seed: u64,
    root: &Path,
    operations: usize,
) -> Result<()> {
    if let Some(error) = run_threads(attachment, arguments, seed, root, operations)? {
        return Err(error).context("the load failed without a power cut");
    }
    println!("recorded seed={seed} operations={}", operations * arguments.threads);
    Ok(())
}

/// Runs the load until the power goes; prints what the cut did.
fn into_cut(attachment: &mut Attachment, arguments: &LoadArguments, seed: u64, root: &Path) -> Result<()> {
    begin(attachment, arguments, seed, root)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let least = arguments.least_changes.max(1);
    let moment = match arguments.lie.as_str() {
        "one" => {
            attachment.control.command(&format!("lie one seed={seed} among=40"))?;
            "lied".to_owned()
        }
        lie => {
            attachment.control.command(&format!("lie {lie}"))?;
            format!("change={}", random.random_range(least..least * CUT_SPAN))
        }
    };
    attachment.control.command(&format!("cut seed={seed} {moment}"))?;
    let error = run_threads(attachment, arguments, seed, root, MAX_OPERATIONS)?;
    let error =
        error.with_context(|| format!("{MAX_OPERATIONS} operations, and the power is still there"))?;
    let status = attachment.control.ask("status")?;
    ensure!(status.contains("\ncut_armed=false\n"), "it ended without a power cut: {error}");
    let cut = |key: &str| -> Result<&str> {
        let prefix = format!("last_cut.{key}=");
        let value = status.lines().find_map(|line| line.strip_prefix(&prefix));
        value.with_context(|| format!("the disk's status has no {prefix}"))
    };
    println!(
        "round seed={seed} volatile={} dropped={} torn={} lost_sectors={} redraws={} in_flight={}",
        cut("completed_volatile")?,
        cut("dropped_writes")?,
        cut("torn_writes")?,
        cut("lost_sectors")?,
        cut("redraws")?,
        cut("in_flight")?,
    );
    Ok(())
}

/// What the threads share.
struct Shared<'a> {
    control: Mutex<&'a mut ControlClient>,
    /// One of them met an error.
    stop: AtomicBool,
    load: Load,
    seed: u64,
    root: &'a Path,
    operations: usize,
}

/// Runs all threads to the end of their operations, or until one meets an error, which is returned.
fn run_threads(
    attachment: &mut Attachment,
    arguments: &LoadArguments,
    seed: u64,
    root: &Path,
    operations: usize,
) -> Result<Option<io::Error>> {
    let shared = Shared {
        control: Mutex::new(&mut attachment.control),
        stop: AtomicBool::new(false),
        load: arguments.load,
        seed,
        root,
        operations,
    };
    let results: Vec<Result<Option<io::Error>>> = std::thread::scope(|scope| {
        let shared = &shared;
        let threads: Vec<_> =
            (0..arguments.threads).map(|thread| scope.spawn(move || shared.run_thread(thread))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| bail!("a thread of the load panicked"))
        };
        threads.into_iter().map(join).collect()
    });
    let mut first = None;
    for result in results {
        first = first.or(result?);
    }
    Ok(first)
}

impl Shared<'_> {
    fn run_thread(&self, thread: usize) -> Result<Option<io::Error>> {
        let mut plan = Plan::new(self.load, self.seed, thread);
        let mut executor = Executor::new(self.root.join(folder_of(thread)));
        while plan.given() < self.operations && !self.stop.load(Ordering::Relaxed) {
            let number = plan.given();
            let (operation, file) = plan.next_with_file(self.seed, thread);
            self.mark(Mark::Begin { thread, operation: number })?;
            if let Err(error) = executor.execute(number, &operation, file) {
                self.stop.store(true, Ordering::Relaxed);
                return Ok(Some(io::Error::new(error.kind(), format!("{operation:?}: {error}"))));
            }
            if operation.promises() {
                self.mark(Mark::End { thread, operation: number })?;
            }
        }
        Ok(None)
    }

    fn mark(&self, mark: Mark) -> Result<()> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.command(&format!("mark {mark}")).context("the control export")
    }
}
