//! The test's own program as another process: for appends of several processes, for accesses that end a process, and for what the
//! shell has no word for.
//!
//! `guest-data helper WHAT PATH ARGUMENT...`

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{bail, ensure, Context, Result};
use rustix::fs::{fadvise, Advice};
use vmap::MapMut;

use super::write::RECORD_BYTES;

/// A process that was started.
pub(super) struct Helper(Child);

impl Helper {
    pub(super) fn start(what: &str, path: &Path, arguments: &[String]) -> Result<Self> {
        Self::start_program(&std::env::current_exe()?, what, path, arguments)
    }

    /// `program` is a copy of this one.
    pub(super) fn start_program(
        program: &Path,
        what: &str,
        path: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["helper", what]).arg(path).args(arguments).stdin(Stdio::null());
        Ok(Self(command.spawn().with_context(|| program.display().to_string())?))
    }

    pub(super) fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.0.wait()?)
    }

    pub(super) fn must_succeed(self) -> Result<()> {
        let status = self.wait()?;
        ensure!(status.success(), "another process ended with {status}");
        Ok(())
    }

    /// It must be ended by SIGBUS.
    pub(super) fn must_get_sigbus(self) -> Result<()> {
        const SIGBUS: i32 = 7;
        let status = self.wait()?;
        ensure!(status.signal() == Some(SIGBUS), "another process ended with {status}, not by SIGBUS");
        Ok(())
    }
}

/// What the other process does.
///
/// # Errors
/// For words that it does not know, and those of the work.
pub fn run(arguments: &[String]) -> Result<()> {
    let [what, path, rest @ ..] = arguments else { bail!("helper: what, and where?") };
    let path = Path::new(path);
    let numbers: Vec<usize> = rest.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    match (what.as_str(), &numbers[..]) {
        ("append", [number, count]) => append(path, *number, *count),
        ("load-byte", [length, place]) => load_byte(path, *length, *place),
        ("store-byte", [place]) => store_byte(path, *place),
        ("write-back", []) => Ok(fadvise(File::open(path)?, 0, None, Advice::DontNeed)?),
        ("sync", []) => Ok(File::open(path)?.sync_all()?),
        ("nothing", []) => Ok(()),
        _ => bail!("helper: {what} is not known"),
    }
}

fn append(path: &Path, number: usize, count: usize) -> Result<()> {
    let mut file = File::options().append(true).open(path)?;
    for sequence in 0..count {
        let mut record = format!("{number} {sequence} ");
        while record.len() < RECORD_BYTES - 1 {
            record.push('x');
        }
        record.push('\n');
        ensure!(file.write(record.as_bytes())? == RECORD_BYTES, "a short write");
    }
    Ok(())
}

/// Maps the file as it is, makes it `length` bytes long, and looks at one byte of the mapping.
fn load_byte(path: &Path, length: usize, place: usize) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let map = MapMut::with_options().map(&file)?;
    file.set_len(length as u64)?;
    println!("# byte {place} is {}", map[place]);
    Ok(())
}

/// Stores one byte through a shared mapping.
fn store_byte(path: &Path, place: usize) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut map = MapMut::with_options().map(&file)?;
    map[place] = 1;
    println!("# stored a byte at {place}: {}", map[place]);
    Ok(())
}
