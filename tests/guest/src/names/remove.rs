//! unlink and rmdir, and what goes on with an inode whose last name is gone while somebody has it open.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{symlink, FileExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use rustix::fs::{
    fchmod, fchown, linkat, mkdirat, mknodat, openat, renameat, statvfs, symlinkat, unlink, AtFlags,
    FileType, Mode, OFlags, CWD,
};
use rustix::io::Errno;

use crate::cases::{equal, refused, share, Case, Scene};
use crate::filesystem::drop_caches;
use crate::status::{entries_of_open, names_in, open_directory, status_of, status_of_open};

pub(super) const CASES: &[Case] = &[
    Case::new("unlink takes a name away", unlink_takes_a_name),
    Case::new("errors of unlink", unlink_errors),
    Case::new("rmdir takes an empty directory away", rmdir_takes_a_directory),
    Case::new("errors of rmdir", rmdir_errors),
    Case::new("an unlinked file lives while it is open", unlinked_file),
    Case::new("hundreds of unlinked files open at once", many_unlinked_files),
    Case::new("the space of an unlinked file comes back", space_comes_back),
    Case::new("nothing is made in a removed directory", removed_directory),
    Case::new("a removed working directory", removed_working_directory),
    Case::new("statfs counts inodes", statfs_counts),
];

/// Inodes and blocks of what has been removed are given back by a worker, soon but not at once.
const SOON: Duration = Duration::from_secs(20);

fn unlink_takes_a_name(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "x")?;
    fs::hard_link(scene.path("file"), scene.path("other"))?;
    symlink("file", scene.path("link"))?;
    mknodat(CWD, scene.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    for name in ["link", "fifo", "file"] {
        fs::remove_file(scene.path(name))?;
        refused(name, Errno::NOENT, fs::symlink_metadata(scene.path(name)))?;
    }
    equal("what the other name leads to", fs::read(scene.path("other"))?, b"x".to_vec())?;
    drop_caches()?;
    equal("names", names_in(&scene.folder)?, vec![b"other".to_vec()])
}

fn unlink_errors(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("folder"))?;
    refused("of nothing", Errno::NOENT, fs::remove_file(scene.path("none")))?;
    refused("of a directory", Errno::ISDIR, fs::remove_file(scene.path("folder")))?;
    refused("within a file", Errno::NOTDIR, fs::remove_file(scene.path("file/inner")))?;
    refused("with a slash behind it", Errno::NOTDIR, unlink(scene.path("file/")))?;
    refused("in no directory", Errno::NOENT, fs::remove_file(scene.path("none/file")))?;
    equal("names", names_in(&scene.folder)?.len(), 2)
}

fn rmdir_takes_a_directory(scene: &Scene<'_>) -> Result<()> {
    for name in ["a", "b", "a/inner"] {
        fs::create_dir(scene.path(name))?;
    }
    equal("links of the parent", status_of(&scene.folder)?.links, 4)?;
    fs::remove_dir(scene.path("a/inner"))?;
    equal("links of a", status_of(&scene.path("a"))?.links, 2)?;
    fs::remove_dir(scene.path("a"))?;
    equal("links of the parent", status_of(&scene.folder)?.links, 3)?;
    refused("stat", Errno::NOENT, fs::symlink_metadata(scene.path("a")))?;
    // A directory that was large and has been emptied is empty.
    let many = share(500);
    for number in 0..many {
        fs::write(scene.path(format!("b/{number}")), "")?;
    }
    refused("many names", Errno::NOTEMPTY, fs::remove_dir(scene.path("b")))?;
    for number in 0..many {
        fs::remove_file(scene.path(format!("b/{number}")))?;
    }
    fs::remove_dir(scene.path("b"))?;
    equal("links of the parent", status_of(&scene.folder)?.links, 2)
}

fn rmdir_errors(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir_all(scene.path("folder/inner"))?;
    fs::write(scene.path("file"), "")?;
    symlink("folder/inner", scene.path("link"))?;
    refused("a directory with a directory", Errno::NOTEMPTY, fs::remove_dir(scene.path("folder")))?;
    refused("a file", Errno::NOTDIR, fs::remove_dir(scene.path("file")))?;
    refused("a link to a directory", Errno::NOTDIR, fs::remove_dir(scene.path("link")))?;
    refused("nothing", Errno::NOENT, fs::remove_dir(scene.path("none")))?;
    refused("`.`", Errno::INVAL, fs::remove_dir(scene.path("folder/inner/.")))?;
    refused("`..`", Errno::NOTEMPTY, fs::remove_dir(scene.path("folder/inner/..")))?;
    refused("the mount point", Errno::BUSY, fs::remove_dir(scene.filesystem.root()))?;
    for name in ["link", "hidden"] {
        let _ = fs::remove_file(scene.path(name));
        symlink("nowhere", scene.path("folder/inner").join(name))?;
        refused(
            "a directory with a dangling link",
            Errno::NOTEMPTY,
            fs::remove_dir(scene.path("folder/inner")),
        )?;
        fs::remove_file(scene.path("folder/inner").join(name))?;
    }
    fs::remove_dir(scene.path("folder/inner"))?;
    Ok(())
}

fn unlinked_file(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    file.write_all(b"before ")?;
    fs::remove_file(&path)?;
    equal("links", status_of_open(&file)?.links, 0)?;
    file.write_all(b"after")?;
    drop_caches()?;
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    equal("content", text.as_str(), "before after")?;
    fchmod(&file, Mode::from_raw_mode(0o600))?;
    fchown(&file, Some(rustix::fs::Uid::from_raw(77)), None)?;
    file.set_len(1_000_000)?;
    file.write_all_at(b"far", 5_000_000)?;
    file.sync_all()?;
    file.set_len(3)?;
    let found = status_of_open(&file)?;
    equal("after all", (found.permissions(), found.uid, found.size, found.links), (0o600, 77, 3, 0))?;
    // The name is free for another file, which is another file.
    fs::write(&path, "new")?;
    ensure!(status_of(&path)?.inode != found.inode, "a number was given out while it was in use");
    let by_number = linkat(&file, "", CWD, scene.path("back"), AtFlags::EMPTY_PATH);
    refused("a name for an unlinked file", Errno::NOENT, by_number)?;
    drop(file);
    equal("names", names_in(&scene.folder)?, vec![b"file".to_vec()])
}

fn many_unlinked_files(scene: &Scene<'_>) -> Result<()> {
    let mut files = Vec::new();
    for number in 0..share(500_u32) {
        let path = scene.path(number.to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.write_all_at(&number.to_le_bytes(), u64::from(number) * 7)?;
        fs::remove_file(&path)?;
        files.push(file);
    }
    drop_caches()?;
    for (number, file) in (0_u32..).zip(&files) {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, u64::from(number) * 7)?;
        equal("content", u32::from_le_bytes(bytes), number)?;
        equal("links", status_of_open(file)?.links, 0)?;
    }
    ensure!(names_in(&scene.folder)?.is_empty(), "names are left");
    Ok(())
}

/// Waits until `value` is at least `wanted`.
fn soon_at_least(what: &str, wanted: u64, value: impl Fn() -> Result<u64>) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let found = value()?;
        if found >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{what}: {found}, wanted {wanted}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Free blocks of the whole filesystem, with nothing pending.
fn free_blocks(root: &Path) -> Result<u64> {
    rustix::fs::sync();
    Ok(statvfs(root)?.f_bfree)
}

fn space_comes_back(scene: &Scene<'_>) -> Result<()> {
    const BYTES: usize = 8 << 20;
    let root = scene.filesystem.root();
    let block_bytes = statvfs(root)?.f_frsize;
    let blocks = BYTES as u64 / block_bytes;
    let before = free_blocks(root)?;
    let path = scene.path("file");
    fs::write(&path, vec![1; BYTES])?;
    let used = before - free_blocks(root)?;
    ensure!((blocks..blocks + 64).contains(&used), "{used} blocks less are free, the file has {blocks}");
    let file = File::open(&path)?;
    fs::remove_file(&path)?;
    let still = before - free_blocks(root)?;
    ensure!(still >= blocks, "an open file has lost its blocks: {still} are in use, it has {blocks}");
    drop(file);
    // What a directory has grown by may stay.
    soon_at_least("free blocks after the last close", before - 4, || free_blocks(root))
}

fn removed_directory(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("folder");
    fs::create_dir(&path)?;
    fs::write(scene.path("file"), "")?;
    let folder = open_directory(&path)?;
    fs::remove_dir(&path)?;
    equal("links", status_of_open(&folder)?.links, 0)?;
    let mode = Mode::from_raw_mode(0o700);
    let create = OFlags::CREATE | OFlags::WRONLY;
    refused("open", Errno::NOENT, openat(&folder, "new", create, mode))?;
    refused("mkdir", Errno::NOENT, mkdirat(&folder, "new", mode))?;
    refused("symlink", Errno::NOENT, symlinkat("target", &folder, "new"))?;
    refused("mknod", Errno::NOENT, mknodat(&folder, "new", FileType::Fifo, mode, 0))?;
    let file = scene.path("file");
    refused("link", Errno::NOENT, linkat(CWD, &file, &folder, "new", AtFlags::empty()))?;
    refused("rename", Errno::NOENT, renameat(CWD, &file, &folder, "new"))?;
    refused("getdents", Errno::NOENT, entries_of_open(&folder).map_err(to_io))?;
    rustix::fs::fsync(&folder)?;
    // Another of the same name is another.
    fs::create_dir(&path)?;
    ensure!(status_of(&path)?.inode != status_of_open(&folder)?.inode, "a number is in use twice");
    Ok(())
}

fn to_io(error: anyhow::Error) -> std::io::Error {
    match error.downcast::<Errno>() {
        Ok(number) => number.into(),
        Err(other) => std::io::Error::other(format!("{other:#}")),
    }
}

fn removed_working_directory(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("folder");
    fs::create_dir(&path)?;
    std::env::set_current_dir(&path)?;
    fs::remove_dir(&path)?;
    let outcome = || -> Result<()> {
        refused("getcwd", Errno::NOENT, std::env::current_dir())?;
        refused("open", Errno::NOENT, File::create("new"))?;
        refused("mkdir", Errno::NOENT, fs::create_dir("new"))?;
        refused("rename into it", Errno::NOENT, fs::rename(scene.folder.join("none"), "new"))?;
        equal("links of `.`", status_of(Path::new("."))?.links, 0)
    }();
    std::env::set_current_dir("/")?;
    outcome
}

fn statfs_counts(scene: &Scene<'_>) -> Result<()> {
    const FILES: u64 = 300;
    let root = scene.filesystem.root();
    // What the cases before have removed is given back by now.
    rustix::fs::sync();
    // What earlier cases have removed may still be on its way.
    rustix::fs::sync();
    let before = statvfs(root)?;
    let blocks = (before.f_bavail, before.f_bfree, before.f_blocks);
    ensure!(blocks.0 <= blocks.1 && blocks.1 < blocks.2, "available, free, all blocks: {blocks:?}");
    ensure!(before.f_ffree < before.f_files, "{} of {} inodes are free", before.f_ffree, before.f_files);
    equal("longest name", before.f_namemax, 255)?;
    for number in 0..FILES {
        fs::write(scene.path(number.to_string()), "")?;
    }
    equal("free inodes", statvfs(root)?.f_ffree, before.f_ffree - FILES)?;
    for number in 0..FILES {
        fs::remove_file(scene.path(number.to_string()))?;
    }
    soon_at_least("free inodes after the removal", before.f_ffree, || Ok(statvfs(root)?.f_ffree))?;
    let after = statvfs(root)?;
    equal("blocks and inodes", (after.f_blocks, after.f_files), (before.f_blocks, before.f_files))
}
