//! A filesystem that is shut down refuses what would change it, can be unmounted, and recovers at the next mount with all
//! that was synced.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{chmod, chown, fsync, mknodat, statvfs, syncfs, FileType, Mode as Permissions, Uid, CWD};
use rustix::io::Errno;

use super::permissions::as_user;
use crate::cases::{equal, needs_a_disk, refused, share, Case, Scene};
use crate::filesystem::{truncate, Kind};
use crate::shutdown::{recover, shut_down, shut_down_and_recover, shut_down_by_number, Mode};
use crate::status::{names_in, open_directory, Snapshot};

pub(super) const CASES: &[Case] = &[
    Case::new("who may, and in which modes", who_may),
    Case::new("mode 0: everything reaches the disk before", everything),
    Case::new("mode 1: the journal reaches the disk before", journal),
    Case::new("mode 2: nothing more than what was synced", nothing),
    Case::new("changes are refused with EIO, what is known can be read", refusals),
    Case::new("unlinked files that were open are freed by the recovery", orphans),
    Case::new("shutdown after shutdown under a load of names", under_load),
];

fn who_may(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    chmod(scene.filesystem.root(), Permissions::from_raw_mode(0o755))?;
    let by_user = as_user(1000, &[1000], || {
        // A program takes over the thread's user.
        shut_down(scene.filesystem.root(), Mode::Nothing)
    });
    let words = format!("{:#}", by_user.err().unwrap_or_else(|| anyhow::anyhow!("it succeeded")));
    ensure!(words.contains("Operation not permitted"), "by another user: {words}");
    let words = shut_down_by_number(scene.filesystem.root(), 3);
    let words = format!("{:#}", words.err().unwrap_or_else(|| anyhow::anyhow!("it succeeded")));
    ensure!(words.contains("Invalid argument"), "in mode 3: {words}");
    fs::write(scene.path("file"), "still writable")?;
    Ok(())
}

/// Names, links, renames, all without a sync.
fn make_names(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("a/b"))?;
    for number in 0..60 {
        fs::write(folder.join(format!("a/{number}")), number.to_string())?;
    }
    for number in 0..20 {
        fs::remove_file(folder.join(format!("a/{number}")))?;
        fs::rename(folder.join(format!("a/{}", number + 20)), folder.join(format!("a/b/{number}")))?;
    }
    symlink("a/b", folder.join("link"))?;
    fs::hard_link(folder.join("a/40"), folder.join("hard"))?;
    chown(folder.join("a/41"), Some(Uid::from_raw(9)), None)?;
    Ok(())
}

fn everything(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    make_names(&scene.folder)?;
    fs::write(scene.path("large"), vec![5; 3 << 20])?;
    let before = Snapshot::take(&scene.folder)?;
    shut_down_and_recover(scene.filesystem, Mode::Everything)?;
    let after = Snapshot::take(&scene.folder)?;
    equal("names", after.names(), before.names())?;
    equal("content", fs::read(scene.path("large"))? == vec![5; 3 << 20], true)?;
    for number in 42..60 {
        equal("content", fs::read_to_string(scene.path(format!("a/{number}")))?, number.to_string())?;
    }
    Ok(())
}

fn journal(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    make_names(&scene.folder)?;
    let names = |folder: &str| names_in(&scene.path(folder));
    let before = (names("")?, names("a")?, names("a/b")?);
    shut_down_and_recover(scene.filesystem, Mode::Journal)?;
    equal("names", (names("")?, names("a")?, names("a/b")?), before)?;
    equal("link", fs::read_link(scene.path("link"))?, "a/b".into())
}

/// What `file` holds is the beginning of `wanted`, or it is not there: never anything else.
fn is_beginning_of(path: &Path, wanted: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(found) => ensure!(wanted.starts_with(&found), "{} has other bytes", path.display()),
        Err(error) => ensure!(error.kind() == std::io::ErrorKind::NotFound, "{}: {error}", path.display()),
    }
    Ok(())
}

fn nothing(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let content = |number: usize| format!("{number} ").repeat(number * 50).into_bytes();
    fs::create_dir(scene.path("removed"))?;
    fs::write(scene.path("removed/file"), "")?;
    rustix::fs::sync();
    fs::remove_file(scene.path("removed/file"))?;
    fs::remove_dir(scene.path("removed"))?;
    for number in 0..90 {
        let path = scene.path(number.to_string());
        fs::write(&path, content(number))?;
        if number % 3 == 0 {
            File::open(&path)?.sync_all()?;
        }
    }
    fs::create_dir(scene.path("folder"))?;
    fs::write(scene.path("folder/old"), "")?;
    fs::rename(scene.path("folder/old"), scene.path("folder/new"))?;
    fsync(open_directory(&scene.path("folder"))?)?;
    fsync(open_directory(&scene.folder)?)?;
    // Behind the last sync.
    fs::write(scene.path("late"), content(5))?;
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    for number in 0..90 {
        let path = scene.path(number.to_string());
        if number % 3 == 0 {
            equal("what was fsynced", fs::read(&path)? == content(number), true)?;
        } else {
            is_beginning_of(&path, &content(number))?;
        }
    }
    is_beginning_of(&scene.path("late"), &content(5))?;
    equal("names of the fsynced directory", names_in(&scene.path("folder"))?, vec![b"new".to_vec()])?;
    ensure!(!scene.path("removed").exists(), "a directory is back whose removal was fsynced");
    Ok(())
}

fn refusals(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    for mode in [Mode::Everything, Mode::Journal, Mode::Nothing] {
        let folder = scene.path(format!("{mode:?}"));
        fs::create_dir(&folder)?;
        refusals_in_mode(scene, &folder, mode)?;
    }
    Ok(())
}

fn refusals_in_mode(scene: &Scene<'_>, folder: &Path, mode: Mode) -> Result<()> {
    let path = |name: &str| folder.join(name);
    fs::write(path("file"), "content")?;
    fs::write(path("cold"), "cold")?;
    fs::create_dir(path("folder"))?;
    symlink("file", path("link"))?;
    rustix::fs::sync();
    let mut writer = File::options().append(true).open(path("file"))?;
    let reader = File::open(path("cold"))?;
    let directory = open_directory(folder)?;
    let before = names_in(folder)?;
    let afterwards = || -> Result<()> {
        let (no, permissions) = (Errno::IO, Permissions::from_raw_mode(0o600));
        refused("create", no, File::create(path("new")))?;
        refused("mkdir", no, fs::create_dir(path("new")))?;
        refused("unlink", no, fs::remove_file(path("file")))?;
        refused("rmdir", no, fs::remove_dir(path("folder")))?;
        refused("rename", no, fs::rename(path("file"), path("new")))?;
        refused("link", no, fs::hard_link(path("file"), path("new")))?;
        refused("symlink", no, symlink("x", path("new")))?;
        refused("mknod", no, mknodat(CWD, path("new"), FileType::Fifo, permissions, 0))?;
        refused("chmod", no, chmod(path("file"), permissions))?;
        refused("chown", no, chown(path("file"), Some(Uid::from_raw(1)), None))?;
        refused("truncate", no, truncate(path("file"), 1))?;
        refused("write", no, writer.write_all(b"more"))?;
        refused("fsync of a file", no, writer.sync_all())?;
        refused("fsync of a directory", no, fsync(&directory))?;
        equal("names", names_in(folder)?, before)?;
        equal("target", fs::read_link(path("link"))?, "file".into())?;
        statvfs(folder)?;
        // ext4 also refuses to open and to read files once it is shut down; cairnfs lets readers go on.
        if scene.filesystem.kind == Kind::Cairnfs {
            equal("content", fs::read_to_string(path("file"))?.as_str(), "content")?;
            equal("content of what was open", std::io::read_to_string(&reader)?.as_str(), "cold")?;
            refused("syncfs", no, syncfs(&directory))?;
        }
        // Once more does no harm.
        shut_down(folder, Mode::Nothing)
    };
    let outcome = shut_down(folder, mode).and_then(|()| afterwards());
    drop((writer, reader, directory));
    recover(scene.filesystem)?;
    outcome?;
    equal("content after the recovery", fs::read_to_string(path("file"))?.as_str(), "content")?;
    fs::write(path("new"), "writable again")?;
    Ok(())
}

fn orphans(scene: &Scene<'_>) -> Result<()> {
    const FILES: usize = 40;
    needs_a_disk(scene)?;
    let root = scene.filesystem.root();
    rustix::fs::sync();
    scene.filesystem.mount_again()?;
    let before = statvfs(root)?;
    let mut files = Vec::new();
    for number in 0..FILES {
        let path = scene.path(number.to_string());
        let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.write_all(&vec![1; 50_000])?;
        file.sync_all()?;
        fs::remove_file(&path)?;
        files.push(file);
    }
    // A directory too, which somebody is in.
    fs::create_dir(scene.path("folder"))?;
    let directory = open_directory(&scene.path("folder"))?;
    fs::remove_dir(scene.path("folder"))?;
    fsync(open_directory(&scene.folder)?)?;
    shut_down(root, Mode::Nothing)?;
    drop((files, directory));
    recover(scene.filesystem)?;
    ensure!(names_in(&scene.folder)?.is_empty(), "names are left");
    let after = statvfs(root)?;
    equal("free inodes", after.f_ffree, before.f_ffree)?;
    // What the directory has grown by may stay.
    ensure!(after.f_bfree + 4 >= before.f_bfree, "{} free blocks, before {}", after.f_bfree, before.f_bfree);
    Ok(())
}

fn under_load(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    // ext4 looks once, at the beginning of an fsync, whether it is shut down: one that is under way then succeeds for a
    // transaction that the stopped journal has thrown away. cairnfs must not: what succeeded is kept.
    let counts_all = scene.filesystem.kind != Kind::Ext4;
    let mut checked = 0;
    for round in 0..share(20_u32) {
        let folder = scene.path(format!("round {round}"));
        fs::create_dir(&folder)?;
        fsync(open_directory(&scene.folder)?)?;
        let stopping = AtomicBool::new(false);
        let synced = std::thread::scope(|scope| -> Result<Vec<String>> {
            let (folder, stopping) = (&folder, &stopping);
            let threads: Vec<_> = (0..4)
                .map(|thread| scope.spawn(move || load(folder, thread, counts_all, stopping)))
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(u64::from(50 + 20 * round)));
            stopping.store(true, Ordering::SeqCst);
            shut_down(folder, if round % 2 == 0 { Mode::Nothing } else { Mode::Journal })?;
            let mut synced = Vec::new();
            for thread in threads {
                synced.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread ended early"))?);
            }
            Ok(synced)
        })?;
        recover(scene.filesystem)?;
        for name in &synced {
            let found = fs::read_to_string(folder.join(name));
            equal(name, found.with_context(|| format!("round {round}, {name}"))?, name.clone())?;
        }
        checked += synced.len();
        fs::write(folder.join("after"), "writable again")?;
    }
    println!("# {checked} synced files");
    ensure!(checked > share(40), "{checked} synced files say little");
    Ok(())
}

/// Makes, renames and removes names until that is refused; those whose fsync succeeded, all of them or those before the
/// shutdown began.
fn load(folder: &Path, thread: u32, counts_all: bool, stopping: &AtomicBool) -> Vec<String> {
    let mut synced = Vec::new();
    for number in 0_u64.. {
        let (temporary, name) = (format!("temporary {thread}"), format!("{thread}-{number}"));
        let one = || -> std::io::Result<()> {
            let mut file = File::create(folder.join(&temporary))?;
            file.write_all(name.as_bytes())?;
            fs::rename(folder.join(&temporary), folder.join(&name))?;
            if number % 2 == 0 {
                file.sync_all()?;
            }
            Ok(())
        };
        if one().is_err() {
            break;
        }
        if number % 2 == 0 {
            if counts_all || !stopping.load(Ordering::SeqCst) {
                synced.push(name);
            }
        } else {
            // May fail when the filesystem is being shut down, as everything may.
            let _ = fs::remove_file(folder.join(&name));
        }
    }
    synced
}
