//! Requests of the disk that fail, by the kernel's fault injection (fail_make_request): what the call says, what goes on, and
//! what the next mount finds. The rules are those of docs/crash-contract.md, Errors.
//!
//! Which request fails is chosen by what is done next: the filesystem is mounted so that it writes nothing by itself.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{fsync, syncfs};
use rustix::io::Errno;
use rustix::mount::{mount_remount, MountFlags};

use super::durable::{append_in_two_blocks, is_appended};
use super::pattern::{bytes, file_holds};
use crate::cases::{equal, needs_a_disk, refused, Case, Scene, Skip};
use crate::filesystem::{drop_caches, truncate, Filesystem, Kind};
use crate::shutdown::{recover, shut_down_and_recover, Mode};
use crate::status::{names_in, open_directory};

pub(super) const CASES: &[Case] = &[
    Case::new("an overwrite fails: fsync says so once, and all goes on", overwrite),
    Case::new("an append fails: no old bytes, and the space comes back", append),
    Case::new("contents cannot be written: nothing is renamed over a file", rename_over),
    Case::new("a truncation does not forget that contents could not be written", truncated_before_rename),
    Case::new("metadata cannot be read: EIO for who asked, and all goes on", read_of_metadata),
    Case::new("contents cannot be read: EIO for who asked, and all goes on", read_of_contents),
    Case::new("a truncation cannot go on: what was cut off stays so", truncation),
    Case::new("a record cannot be written: no change any more, readers go on, nothing is lost", record),
    Case::new("a flush fails: the same", flush),
    Case::new("a home write fails: the same", home_write),
];

const BLOCK: usize = 4096;
/// More than are removed in one step.
const PIECES: u64 = 700;
/// For as long what a worker does is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const KNOBS: &str = "/sys/kernel/debug/fail_make_request";

/// Which of the next requests fail.
#[derive(Clone, Copy)]
enum Which {
    First,
    Second,
    All,
}

/// Requests of a disk that are to fail, until it is dropped.
struct Fault {
    switch: PathBuf,
}

impl Fault {
    fn arm(filesystem: &Filesystem, which: Which) -> Result<Self> {
        // With an interval of 2 each second request fails; the kernel goes on counting where it stopped, behind an even number.
        let (interval, times) = match which {
            Which::First => ("1", "1"),
            Which::Second => ("2", "1"),
            Which::All => ("1", "-1"),
        };
        for (knob, value) in
            [("verbose", "0"), ("probability", "100"), ("interval", interval), ("times", times)]
        {
            set(&Path::new(KNOBS).join(knob), value)?;
        }
        let switch = block_folder(filesystem)?.join("make-it-fail");
        set(&switch, "1")?;
        Ok(Self { switch })
    }

    /// Whether the one request has failed.
    fn has_hit(&self) -> Result<bool> {
        Ok(fs::read_to_string(Path::new(KNOBS).join("times"))?.trim() == "0")
    }

    /// Ends it; the one request must have failed.
    fn end(self) -> Result<()> {
        ensure!(self.has_hit()?, "no request failed");
        Ok(())
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // What is left armed would fail every later case.
        set(&self.switch, "0").expect("the switch of the faults");
    }
}

fn set(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("{value} into {}", path.display()))
}

fn block_folder(filesystem: &Filesystem) -> Result<PathBuf> {
    let name = Path::new(filesystem.device()).file_name().context("a device has a name")?;
    Ok(Path::new("/sys/block").join(name))
}

/// How many writes and flushes the disk has had.
fn requests(filesystem: &Filesystem) -> Result<[u64; 2]> {
    let text = fs::read_to_string(block_folder(filesystem)?.join("stat"))?;
    let count = |field: usize| text.split_whitespace().nth(field).and_then(|word| word.parse().ok());
    count(4).zip(count(15)).map(|(writes, flushes)| [writes, flushes]).context("the disk's counters")
}

/// The error that the journal keeps; `none` without.
fn kept_error(filesystem: &Filesystem) -> Result<String> {
    let name = Path::new(filesystem.device()).file_name().context("a device has a name")?;
    let path = Path::new("/sys/fs/cairnfs").join(name).join("error");
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Mounts again, with nothing in memory, so that nothing is written unasked.
fn mount_quietly(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let options = match scene.filesystem.kind {
        Kind::Cairnfs => "commit_interval_s=3600,checkpoint_interval_s=3600",
        _ => "commit=3600",
    };
    scene.filesystem.unmount()?;
    scene.filesystem.mount_with(MountFlags::NOATIME, options)
}

fn needs_cairnfs(scene: &Scene<'_>) -> Result<()> {
    match scene.filesystem.kind {
        Kind::Cairnfs => Ok(()),
        _ => Err(Skip("which request is the next is known of cairnfs only").into()),
    }
}

fn goes_on(scene: &Scene<'_>) -> Result<()> {
    if scene.filesystem.kind == Kind::Cairnfs {
        equal("the error that is kept", kept_error(scene.filesystem)?, "none".to_owned())?;
    }
    fs::write(scene.path("later"), "later")?;
    Ok(File::open(scene.path("later"))?.sync_all()?)
}

fn overwrite(scene: &Scene<'_>) -> Result<()> {
    mount_quietly(scene)?;
    let path = scene.path("file");
    fs::write(&path, bytes(1, 0, 2 * BLOCK))?;
    rustix::fs::sync();
    let file = File::options().write(true).open(&path)?;
    let other = File::open(&path)?;
    file.write_all_at(&bytes(2, 0, BLOCK), 0)?;
    let fault = Fault::arm(scene.filesystem, Which::First)?;
    refused("fsync", Errno::IO, file.sync_all())?;
    fault.end()?;
    refused("fsync of what else is open", Errno::IO, other.sync_all())?;
    file.sync_all().context("the error was told")?;
    file.write_all_at(&bytes(2, 0, BLOCK), 0)?;
    file.sync_all().context("once more")?;
    goes_on(scene)?;
    drop((file, other));
    mount_quietly(scene)?;
    file_holds("the file", &path, &[bytes(2, 0, BLOCK), bytes(1, BLOCK as u64, BLOCK)].concat())
}

fn append(scene: &Scene<'_>) -> Result<()> {
    mount_quietly(scene)?;
    let path = scene.path("file");
    fs::write(&path, bytes(1, 0, BLOCK))?;
    rustix::fs::sync();
    let file = File::options().write(true).open(&path)?;
    file.write_all_at(&bytes(2, 0, BLOCK), BLOCK as u64)?;
    let fault = Fault::arm(scene.filesystem, Which::First)?;
    refused("fdatasync", Errno::IO, file.sync_data())?;
    fault.end()?;
    goes_on(scene)?;
    drop(file);
    mount_quietly(scene)?;
    let found = fs::read(&path)?;
    ensure!(found.starts_with(&bytes(1, 0, BLOCK)), "what was synced has other bytes");
    ensure!(found[BLOCK..].iter().all(|byte| *byte == 0), "what was not written has other bytes than zeroes");
    scene.filesystem.check_and_mount_again()
}

fn rename_over(scene: &Scene<'_>) -> Result<()> {
    needs_cairnfs(scene)?;
    mount_quietly(scene)?;
    fs::write(scene.path("file"), "old")?;
    rustix::fs::sync();
    fs::write(scene.path("temporary"), "new")?;
    let fault = Fault::arm(scene.filesystem, Which::First)?;
    refused("rename", Errno::IO, fs::rename(scene.path("temporary"), scene.path("file")))?;
    fault.end()?;
    equal("names", names_in(&scene.folder)?, vec![b"file".to_vec(), b"temporary".to_vec()])?;
    goes_on(scene)?;
    mount_quietly(scene)?;
    file_holds("the file", &scene.path("file"), b"old")
}

fn truncated_before_rename(scene: &Scene<'_>) -> Result<()> {
    needs_cairnfs(scene)?;
    mount_quietly(scene)?;
    let temporary = scene.path("temporary");
    fs::write(scene.path("file"), "old")?;
    fs::write(&temporary, bytes(1, 0, 16 * BLOCK))?;
    rustix::fs::sync();
    // One folio of 16 blocks, over which the cut will go; nobody asks whether it could be written.
    let file = File::options().write(true).open(&temporary)?;
    file.write_all_at(&bytes(2, 0, 16 * BLOCK), 0)?;
    let fault = Fault::arm(scene.filesystem, Which::First)?;
    rustix::fs::sync();
    fault.end()?;
    truncate(&temporary, 5 * BLOCK as u64)?;
    refused("rename", Errno::IO, fs::rename(&temporary, scene.path("file")))?;
    refused("fsync", Errno::IO, file.sync_all())?;
    drop(file);
    file_holds("the file", &scene.path("file"), b"old")?;
    goes_on(scene)
}

fn read_of_metadata(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    fs::create_dir(scene.path("folder"))?;
    fs::write(scene.path("folder/file"), "content")?;
    // Too many for the inode: they stand in blocks.
    for number in 0..100 {
        fs::write(scene.path(format!("folder/{number}")), "")?;
    }
    mount_quietly(scene)?;
    names_in(&scene.folder)?;
    let fault = Fault::arm(scene.filesystem, Which::All)?;
    refused("open", Errno::IO, File::open(scene.path("folder/file")))?;
    drop(fault);
    file_holds("the file", &scene.path("folder/file"), b"content")?;
    goes_on(scene)
}

fn read_of_contents(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    fs::write(scene.path("file"), bytes(1, 0, 3 * BLOCK))?;
    mount_quietly(scene)?;
    let file = File::open(scene.path("file"))?;
    // So that only the contents are missing.
    let end = &mut [0; 1];
    file.read_exact_at(end, 2 * BLOCK as u64)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    let fault = Fault::arm(scene.filesystem, Which::All)?;
    refused("read", Errno::IO, file.read_at(&mut [0; 100], 0))?;
    drop(fault);
    file_holds("the file", &scene.path("file"), &bytes(1, 0, 3 * BLOCK))?;
    drop(file);
    goes_on(scene)
}

/// Of a file in hundreds of pieces, a truncation takes many steps; the later ones find blocks of its tree that cannot be read. The
/// file ends where it was told to by then, and nothing behind that is ever seen.
fn truncation(scene: &Scene<'_>) -> Result<()> {
    needs_cairnfs(scene)?;
    let path = scene.path("file");
    let file = File::create_new(&path)?;
    for piece in 0..PIECES {
        file.write_all_at(&bytes(7, 0, BLOCK), 2 * piece * BLOCK as u64)?;
    }
    file.sync_all()?;
    drop(file);
    mount_quietly(scene)?;
    // So that the group's bitmaps, the first block and the way to the last are in memory.
    goes_on(scene)?;
    let file = File::options().read(true).write(true).open(&path)?;
    file.read_exact_at(&mut [0; 1], 0)?;
    file.read_exact_at(&mut [0; 1], 2 * (PIECES - 1) * BLOCK as u64)?;
    let fault = Fault::arm(scene.filesystem, Which::All)?;
    refused("ftruncate", Errno::IO, file.set_len(100))?;
    drop(fault);
    equal("bytes of the file", file.metadata()?.len(), 100)?;
    equal("the error that is kept", kept_error(scene.filesystem)?, "none".to_owned())?;
    drop(file);
    append_in_two_blocks(&path)?;
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    is_appended(&path)
}

/// What holds behind the first error of journal, metadata or flush; then the next mount recovers.
fn has_stopped(scene: &Scene<'_>) -> Result<()> {
    let error = kept_error(scene.filesystem)?;
    ensure!(error != "none", "no error is kept");
    let before = requests(scene.filesystem)?;
    let directory = open_directory(&scene.folder)?;
    refused("create", Errno::IO, File::create(scene.path("refused")))?;
    refused("unlink", Errno::IO, fs::remove_file(scene.path("synced")))?;
    refused("write", Errno::IO, fs::write(scene.path("synced"), "other"))?;
    refused("fsync of a directory", Errno::IO, fsync(&directory))?;
    refused("fsync of what was durable", Errno::IO, File::open(scene.path("synced"))?.sync_all())?;
    refused("syncfs", Errno::IO, syncfs(&directory))?;
    drop_caches()?;
    equal("the content", fs::read_to_string(scene.path("synced"))?, "synced".to_owned())?;
    equal("writes and flushes of the disk", requests(scene.filesystem)?, before)?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    ensure!(mounts.contains("emergency_ro"), "/proc/mounts does not say so:\n{mounts}");
    drop(directory);
    recover(scene.filesystem)?;
    equal("the content", fs::read_to_string(scene.path("synced"))?, "synced".to_owned())?;
    goes_on(scene)
}

fn synced_file(scene: &Scene<'_>) -> Result<()> {
    needs_cairnfs(scene)?;
    mount_quietly(scene)?;
    fs::write(scene.path("synced"), "synced")?;
    rustix::fs::sync();
    Ok(())
}

fn record(scene: &Scene<'_>) -> Result<()> {
    synced_file(scene)?;
    let directory = open_directory(&scene.folder)?;
    fs::create_dir(scene.path("folder"))?;
    let fault = Fault::arm(scene.filesystem, Which::First)?;
    refused("fsync of a directory", Errno::IO, fsync(&directory))?;
    fault.end()?;
    drop(directory);
    has_stopped(scene)
}

fn flush(scene: &Scene<'_>) -> Result<()> {
    synced_file(scene)?;
    let file = File::options().write(true).create_new(true).open(scene.path("file"))?;
    file.write_all_at(&bytes(1, 0, BLOCK), 0)?;
    file.sync_all()?;
    // Of a block in place: its write, then the flush.
    file.write_all_at(&bytes(2, 0, BLOCK), 0)?;
    let fault = Fault::arm(scene.filesystem, Which::Second)?;
    refused("fdatasync", Errno::IO, file.sync_data())?;
    fault.end()?;
    drop(file);
    has_stopped(scene)
}

fn home_write(scene: &Scene<'_>) -> Result<()> {
    synced_file(scene)?;
    let fault = Fault::arm(scene.filesystem, Which::First)?;
    mount_remount(scene.filesystem.root(), MountFlags::NOATIME, "checkpoint_interval_s=1")?;
    let began = Instant::now();
    while !fault.has_hit()? || kept_error(scene.filesystem)? == "none" {
        ensure!(began.elapsed() < PATIENCE, "no checkpoint, or it has no error");
        std::thread::sleep(Duration::from_millis(100));
    }
    fault.end()?;
    has_stopped(scene)
}
