//! fsync of files and directories, sync, syncfs; and all that there is, before an unmount and after the next mount.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use rustix::fs::{
    chmod, chown, fdatasync, fsync, makedev, mknodat, syncfs, utimensat, AtFlags, FileType, Gid, Mode,
    Timespec, Timestamps, Uid, CWD,
};
use rustix::io::Errno;

use crate::cases::{equal, needs_a_disk, refused, share, Case, Scene};
use crate::status::{names_in, open_directory, Snapshot};

pub(super) const CASES: &[Case] = &[
    Case::new("fsync of everything that can be opened", fsync_of_everything),
    Case::new("fsync by eight threads", fsync_by_threads),
    Case::new("sync and syncfs with a load beside them", sync_under_load),
    Case::new("everything is as before after a remount", remount),
    Case::new("mount after mount, each with its changes", many_mounts),
    Case::new("an unmount while a file is open: EBUSY", busy_unmount),
];

fn fsync_of_everything(scene: &Scene<'_>) -> Result<()> {
    for number in 0..20 {
        let path = scene.path(number.to_string());
        fs::write(&path, vec![1; number * 700])?;
        let file = File::open(&path)?;
        fsync(&file)?;
        fdatasync(&file)?;
        fs::rename(&path, scene.path(format!("renamed {number}")))?;
        fsync(&file)?;
        fsync(open_directory(&scene.folder)?)?;
        fdatasync(open_directory(&scene.folder)?)?;
        fs::remove_file(scene.path(format!("renamed {number}")))?;
        fsync(&file)?;
    }
    // Again and again without a change between.
    let folder = open_directory(&scene.folder)?;
    (0..20).try_for_each(|_| fsync(&folder))?;
    fsync(open_directory(scene.filesystem.root())?)?;
    equal("names", names_in(&scene.folder)?.len(), 0)
}

fn fsync_by_threads(scene: &Scene<'_>) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                scope.spawn(move || -> std::io::Result<()> {
                    for number in 0..25 {
                        let path = scene.path(format!("{thread} {number}"));
                        fs::write(&path, "x")?;
                        File::open(&path)?.sync_all()?;
                    }
                    File::open(&scene.folder)?.sync_all()
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => Ok(outcome?),
            Err(_) => anyhow::bail!("a thread ended early"),
        })
    })?;
    equal("names", names_in(&scene.folder)?.len(), 200)
}

fn sync_under_load(scene: &Scene<'_>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| -> std::io::Result<u32> {
            let mut number = 0;
            while Instant::now() < end {
                fs::write(scene.path(number.to_string()), number.to_string())?;
                if number % 3 == 2 {
                    fs::rename(scene.path(number.to_string()), scene.path((number - 1).to_string()))?;
                    fs::remove_file(scene.path((number - 2).to_string()))?;
                }
                number += 1;
            }
            Ok(number)
        });
        let mut rounds = 0;
        while Instant::now() < end {
            rustix::fs::sync();
            syncfs(open_directory(scene.filesystem.root())?)?;
            rounds += 1;
        }
        let made = match load.join() {
            Ok(outcome) => outcome?,
            Err(_) => anyhow::bail!("the load ended early"),
        };
        println!("# {rounds} times sync and syncfs, {made} files");
        // Of three files one is left, of what came last each.
        equal("names", names_in(&scene.folder)?.len(), (made / 3 + made % 3) as usize)
    })
}

/// One of everything, with every attribute set to something that is not the default.
fn make_everything(scene: &Scene<'_>) -> Result<()> {
    let mode = Mode::from_raw_mode(0o640);
    for number in 0..share(300_usize) {
        let folder = scene.path(format!("folder {}/{}", number % 7, number % 3));
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("file {number}"));
        fs::write(&path, vec![number as u8; number * 97])?;
        if number % 5 == 0 {
            fs::hard_link(&path, scene.path(format!("hard {number}")))?;
        }
        if number % 4 == 0 {
            symlink("t".repeat(number * 13 % 4000 + 1), scene.path(format!("link {number}")))?;
        }
        if number % 11 == 0 {
            let kind = [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice]
                [number % 4];
            let device = makedev(number as u32 + 1, number as u32 * 3000);
            mknodat(CWD, scene.path(format!("node {number}")), kind, mode, device)?;
        }
        let nanoseconds = (number as i64 * 7_777_777) % 1_000_000_000;
        let last_access = Timespec { tv_sec: 1_000_000 * number as i64, tv_nsec: nanoseconds };
        let last_modification =
            Timespec { tv_sec: -1000 * number as i64, tv_nsec: 999_999_999 - nanoseconds };
        utimensat(CWD, &path, &Timestamps { last_access, last_modification }, AtFlags::empty())?;
        chown(&path, Some(Uid::from_raw(number as u32 * 100_000)), Some(Gid::from_raw(number as u32)))?;
        chmod(&path, Mode::from_raw_mode((number as u32 * 37) & 0o7777))?;
    }
    fs::create_dir(scene.path("many"))?;
    let many = share(1_500);
    for number in 0..many {
        fs::write(scene.path(format!("many/{number:x} {}", "n".repeat(number % 100))), "")?;
    }
    for number in (0..many).step_by(2) {
        fs::remove_file(scene.path(format!("many/{number:x} {}", "n".repeat(number % 100))))?;
    }
    File::create(scene.path("sparse"))?.set_len((1 << 20) + 1)?;
    Ok(())
}

fn remount(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    make_everything(scene)?;
    // Blocks of what is not written yet are a guess.
    rustix::fs::sync();
    let before = Snapshot::take(&scene.folder)?;
    ensure!(before.names() > share(1_200), "{} names are too few", before.names());
    scene.filesystem.check_and_mount_again()?;
    before.compare(&Snapshot::take(&scene.folder)?)?;
    // A mount that changed nothing leaves everything.
    scene.filesystem.check_and_mount_again()?;
    before.compare(&Snapshot::take(&scene.folder)?)
}

fn many_mounts(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let rounds = share(50_usize);
    for round in 0..rounds {
        fs::write(scene.path(format!("file {round}")), round.to_string())?;
        if round % 3 == 0 {
            fs::create_dir(scene.path(format!("folder {round}")))?;
        }
        if round > 0 {
            let old = scene.path(format!("file {}", round - 1));
            equal("content", fs::read_to_string(&old)?, (round - 1).to_string())?;
            fs::rename(&old, scene.path("last"))?;
        }
        scene.filesystem.mount_again()?;
    }
    // The files of the last round and of the one before, and a folder of every third.
    equal("names", names_in(&scene.folder)?.len(), 2 + rounds.div_ceil(3))?;
    equal("content", fs::read_to_string(scene.path("last"))?, (rounds - 2).to_string())?;
    scene.filesystem.check_and_mount_again()
}

fn busy_unmount(scene: &Scene<'_>) -> Result<()> {
    let file = File::create(scene.path("file"))?;
    let unmounted = rustix::mount::unmount(scene.filesystem.root(), rustix::mount::UnmountFlags::empty());
    refused("umount", Errno::BUSY, unmounted)?;
    file.sync_all()?;
    Ok(())
}
