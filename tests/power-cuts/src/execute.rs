//! Operations as system calls.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{chown, symlink, DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{fadvise, Advice, OFlags};

use crate::content::{bytes_of, version_of, FileId, UNIT_BYTES};
use crate::operation::{Operation, WriteWay};

/// Does the operations of one thread in its folder.
pub(crate) struct Executor {
    root: PathBuf,
    /// Files without a name.
    unlinked: Vec<File>,
}

impl Executor {
    /// An executor for this folder.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, unlinked: Vec::new() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Does one operation. `file` is whose content is written.
    pub(crate) fn execute(&mut self, number: usize, operation: &Operation, file: FileId) -> io::Result<()> {
        match operation {
            Operation::Create { path, mode } => {
                OpenOptions::new().write(true).create_new(true).mode(*mode).open(self.at(path)).map(drop)
            }
            Operation::MakeDirectory { path, mode } => DirBuilder::new().mode(*mode).create(self.at(path)),
            Operation::MakeSymlink { path, target } => symlink(target, self.at(path)),
            Operation::Link { old, new } => fs::hard_link(self.at(old), self.at(new)),
            Operation::Unlink { path, stays_open } => {
                if *stays_open {
                    self.unlinked.push(File::open(self.at(path))?);
                }
                fs::remove_file(self.at(path))
            }
            Operation::CloseUnlinked => {
                self.unlinked.clear();
                Ok(())
            }
            Operation::RemoveDirectory { path } => fs::remove_dir(self.at(path)),
            Operation::Rename { old, new } => fs::rename(self.at(old), self.at(new)),
            Operation::SetMode { path, mode } => {
                fs::set_permissions(self.at(path), Permissions::from_mode(*mode))
            }
            Operation::SetOwner { path, owner } => chown(self.at(path), Some(*owner), None),
            Operation::SetTime { path, seconds } => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
                File::open(self.at(path))?.set_times(FileTimes::new().set_modified(time))
            }
            Operation::Write { path, units, way } => {
                write(&self.at(path), units, *way, &bytes_of(file, units.clone(), version_of(number)))
            }
            Operation::Truncate { path, units } => {
                let file = OpenOptions::new().write(true).open(self.at(path))?;
                file.set_len(u64::from(*units) * UNIT_BYTES as u64)
            }
            Operation::StartWriteback { path } => {
                Ok(fadvise(File::open(self.at(path))?, 0, None, Advice::DontNeed)?)
            }
            Operation::Fsync { path } => File::open(self.at(path))?.sync_all(),
            Operation::Fdatasync { path } => File::open(self.at(path))?.sync_data(),
            Operation::SyncFilesystem => Ok(rustix::fs::syncfs(File::open(&self.root)?)?),
        }
    }
}

fn write(path: &Path, units: &Range<u32>, way: WriteWay, bytes: &[u8]) -> io::Result<()> {
    let offset = u64::from(units.start) * UNIT_BYTES as u64;
    let flags = match way {
        WriteWay::Buffered => OFlags::empty(),
        WriteWay::DataSynchronous => OFlags::DSYNC,
        WriteWay::Synchronous => OFlags::SYNC,
        WriteWay::Mapped => return write_by_child(path, offset, bytes),
    };
    let file = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)?;
    file.write_all_at(bytes, offset)
}

/// A store into a mapping whose disk has gone kills the process, so another one does it.
fn write_by_child(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("store")
        .arg(path)
        .arg(offset.to_string())
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Its exit status says what went wrong if it reads no more.
        let _ = input.write_all(bytes);
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("storing into a mapping: {status}")))
}

/// Stores what comes from the standard input into a shared mapping of a file.
pub(crate) fn store(path: &Path, offset: usize) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::stdin(), &mut bytes)?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut map: vmap::MapMut = vmap::MapMut::with_options().write().map(&file)?;
    let size = map.len();
    let target = map.get_mut(offset..offset + bytes.len());
    let target = target.ok_or_else(|| anyhow::anyhow!("byte {offset} of a file of {size} bytes"))?;
    target.copy_from_slice(&bytes);
    Ok(())
}
