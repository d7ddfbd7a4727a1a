//! The load: creates, appends, overwrites and renames, with a mark for each promise, until an I/O
//! error says that the power has gone. Everything is drawn from the round's seed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use cairnfs_disk::control_client::ControlClient;
use clap::Args;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{fadvise, Advice};

use crate::attachment::Attachment;
use crate::promises::Fingerprint;

/// A round whose cut does not come within so many operations is broken.
const MAX_OPERATIONS: u32 = 20_000;
const DIRECTORIES: u32 = 4;
const MAX_FILE_BYTES: usize = 48 << 10;
/// The cut comes at one of these changes after the mount.
const CUT_AT_CHANGE: std::ops::Range<u32> = 40..320;

/// What to run.
#[derive(Args)]
pub(crate) struct LoadArguments {
    /// How many rounds.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// The seed of the first; each later one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The filesystem.
    #[arg(long, default_value = "ext4")]
    kind: String,
    /// Mount options.
    #[arg(long, default_value = "errors=remount-ro")]
    options: String,
    /// What the disk shall lie about: the words of its command `lie`. With `one`, the cut comes at
    /// the first honest flush after the lie.
    #[arg(long, default_value = "off")]
    lie: String,
}

/// Runs the rounds; prints a line for each.
pub(crate) fn run(mut attachment: Attachment, arguments: &LoadArguments) -> Result<()> {
    for seed in arguments.seed..arguments.seed + arguments.rounds {
        round(&mut attachment, arguments, seed).with_context(|| format!("round {seed}"))?;
    }
    Ok(())
}

fn round(attachment: &mut Attachment, arguments: &LoadArguments, seed: u64) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    if attachment.is_changeable() {
        attachment.control.command("reset")?;
    }
    attachment.attach()?;
    let mounted = attachment.mount(&arguments.kind, &arguments.options).context("cannot mount")?;
    let moment = match arguments.lie.as_str() {
        "one" => {
            attachment.control.command(&format!("lie one seed={seed} among=40"))?;
            "lied".to_owned()
        }
        lie => {
            attachment.control.command(&format!("lie {lie}"))?;
            format!("change={}", random.random_range(CUT_AT_CHANGE))
        }
    };
    attachment.control.command(&format!("cut seed={seed} {moment}"))?;

    let mut load = Load {
        root: mounted.root(),
        control: &mut attachment.control,
        random,
        files: Vec::new(),
        next_name: 0,
    };
    let error = load.run_until_error()?;
    let status = attachment.control.ask("status")?;
    ensure!(status.contains("\ncut_armed=false\n"), "it ended without a power cut: {error}");
    let cut = |key: &str| -> Result<&str> {
        let prefix = format!("last_cut.{key}=");
        let value = status.lines().find_map(|line| line.strip_prefix(&prefix));
        value.with_context(|| format!("the disk's status has no {prefix}"))
    };
    let report = format!(
        "round seed={seed} volatile={} dropped={} torn={} lost_sectors={} redraws={} in_flight={}",
        cut("completed_volatile")?,
        cut("dropped_writes")?,
        cut("torn_writes")?,
        cut("lost_sectors")?,
        cut("redraws")?,
        cut("in_flight")?,
    );
    println!("{report}");
    if attachment.is_changeable() {
        mounted.unmount()?;
        attachment.detach()?;
        attachment.control.command("keep")?;
        attachment.control.command("lie off")?;
    }
    Ok(())
}

/// Why an operation did not go through.
enum Interruption {
    /// The filesystem or its disk has gone.
    Gone(io::Error),
    /// The control export failed, which it must not.
    Control(io::Error),
}

impl From<io::Error> for Interruption {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// A file of the load.
struct LoadFile {
    name: String,
    content: Vec<u8>,
}

struct Load<'a> {
    root: &'a Path,
    control: &'a mut ControlClient,
    random: ChaCha8Rng,
    files: Vec<LoadFile>,
    next_name: u32,
}

impl Load<'_> {
    /// The error that ended it.
    fn run_until_error(&mut self) -> Result<io::Error> {
        for operation in 0..MAX_OPERATIONS {
            let result = if operation < DIRECTORIES {
                fs::create_dir(self.root.join(format!("d{operation}"))).map_err(Into::into)
            } else {
                self.operation()
            };
            match result {
                Ok(()) => {}
                Err(Interruption::Gone(error)) => return Ok(error),
                Err(Interruption::Control(error)) => return Err(error).context("the control export"),
            }
        }
        bail!("{MAX_OPERATIONS} operations, and the power is still there")
    }

    fn operation(&mut self) -> Result<(), Interruption> {
        match self.random.random_range(0..10) {
            0..4 => self.create(true),
            4 => self.create(false),
            5 | 6 => self.change(Change::Append),
            7 | 8 => self.change(Change::Overwrite),
            _ => self.rename(),
        }
    }

    fn mark(&mut self, text: &str) -> Result<(), Interruption> {
        self.control.command(&format!("mark {text}")).map_err(Interruption::Control)
    }

    fn new_name(&mut self) -> String {
        self.next_name += 1;
        format!("d{}/f{}", self.random.random_range(0..DIRECTORIES), self.next_name)
    }

    fn bytes(&mut self, max_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(1..=max_bytes)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn promise(&mut self, name: &str, content: &[u8]) -> Result<(), Interruption> {
        self.mark(&format!("file {name} {}", Fingerprint::of(content)))
    }

    /// A new file, synced, or as noise whose writeback begins at once: data that no flush covers yet.
    fn create(&mut self, synced: bool) -> Result<(), Interruption> {
        let name = self.new_name();
        let content = self.bytes(MAX_FILE_BYTES);
        let mut file = File::create_new(self.root.join(&name))?;
        file.write_all(&content)?;
        if synced {
            file.sync_all()?;
            self.promise(&name, &content)?;
            self.files.push(LoadFile { name, content });
        } else {
            fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)?;
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), Interruption> {
        if self.files.is_empty() {
            return Ok(());
        }
        let at = self.random.random_range(0..self.files.len());
        let LoadFile { name, mut content } = self.files.swap_remove(at);
        let bytes = self.bytes(MAX_FILE_BYTES / 4);
        let offset = match change {
            Change::Append => content.len(),
            Change::Overwrite => self.random.random_range(0..content.len()),
        };
        self.mark(&format!("change {name}"))?;
        let file = OpenOptions::new().write(true).open(self.root.join(&name))?;
        file.write_all_at(&bytes, offset as u64)?;
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(&bytes);
        match change {
            Change::Append => file.sync_all()?,
            Change::Overwrite => file.sync_data()?,
        }
        self.promise(&name, &content)?;
        self.files.push(LoadFile { name, content });
        Ok(())
    }

    fn rename(&mut self) -> Result<(), Interruption> {
        if self.files.is_empty() {
            return Ok(());
        }
        let at = self.random.random_range(0..self.files.len());
        let old = self.files[at].name.clone();
        let new = self.new_name();
        self.mark(&format!("rename {old} {new}"))?;
        fs::rename(self.root.join(&old), self.root.join(&new))?;
        let directory = new.split('/').next().unwrap_or_default();
        File::open(self.root.join(directory))?.sync_all()?;
        self.mark(&format!("renamed {old} {new}"))?;
        self.files[at].name = new;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Change {
    Append,
    Overwrite,
}
