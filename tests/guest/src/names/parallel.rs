//! Eight threads at once, in one directory and in several; what must be there at the end is known.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;

use anyhow::{anyhow, ensure, Context as _, Result};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::io::Errno;

use crate::cases::{equal, share, Case, Scene};
use crate::filesystem::drop_caches;
use crate::status::{inode_of, names_in, status_of};

pub(super) const CASES: &[Case] = &[
    Case::new("creates, renames and unlinks in one directory", one_directory),
    Case::new("files move between eight directories", several_directories),
    Case::new("directories move between eight directories", moving_directories),
    Case::new("O_EXCL: one of eight wins", exclusive),
    Case::new("links to one file come and go", links),
    Case::new("a name that is replaced is always there", always_there),
    Case::new("mkdir, rmdir and walks of one name", one_name),
];

const THREADS: u32 = 8;

/// Of each thread; divisible by 4.
fn operations() -> u32 {
    share(160) / 4 * 4
}

/// Runs `work` in eight threads at once; the first error is that of all.
fn in_threads(work: impl Fn(u32) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || work(number))).collect();
        let outcomes: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        outcomes.into_iter().try_for_each(|outcome| outcome.map_err(|_| anyhow!("a thread ended early"))?)
    })
}

fn one_directory(scene: &Scene<'_>) -> Result<()> {
    in_threads(|thread| {
        for number in 0..operations() {
            let (new, renamed) = (format!("{thread}-{number}-new"), format!("{thread}-{number}"));
            fs::write(scene.path(&new), &renamed)?;
            fs::rename(scene.path(&new), scene.path(&renamed))?;
            if number % 2 == 1 {
                fs::remove_file(scene.path(format!("{thread}-{}", number - 1)))?;
            }
        }
        Ok(())
    })?;
    let mut wanted: Vec<Vec<u8>> = Vec::new();
    for thread in 0..THREADS {
        let odd = (0..operations()).filter(|number| number % 2 == 1);
        wanted.extend(odd.map(|number| format!("{thread}-{number}").into_bytes()));
    }
    wanted.sort();
    for round in ["from memory", "from the disk"] {
        ensure!(names_in(&scene.folder)? == wanted, "{round}: other names");
        for name in &wanted {
            let name = String::from_utf8_lossy(name).into_owned();
            equal(round, fs::read_to_string(scene.path(&name))?, name)?;
        }
        drop_caches()?;
    }
    Ok(())
}

fn folders(scene: &Scene<'_>) -> Result<Vec<PathBuf>> {
    let folders: Vec<PathBuf> = (0..THREADS).map(|number| scene.path(format!("folder {number}"))).collect();
    folders.iter().try_for_each(fs::create_dir)?;
    Ok(folders)
}

fn several_directories(scene: &Scene<'_>) -> Result<()> {
    const FILES: usize = 24;
    let folders = folders(scene)?;
    in_threads(|thread| {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(thread));
        let mut places = Vec::new();
        for number in 0..FILES {
            let place = folders[random.random_range(0..folders.len())].join(format!("{thread}-{number}"));
            fs::write(&place, format!("{thread}-{number}"))?;
            places.push(place);
        }
        for _ in 0..operations() {
            let number = random.random_range(0..FILES);
            let place = folders[random.random_range(0..folders.len())].join(format!("{thread}-{number}"));
            fs::rename(&places[number], &place)?;
            places[number] = place;
        }
        for (number, place) in places.iter().enumerate() {
            equal("content", fs::read_to_string(place)?, format!("{thread}-{number}"))?;
        }
        Ok(())
    })?;
    drop_caches()?;
    let mut names = BTreeSet::new();
    for folder in &folders {
        equal("links", status_of(folder)?.links, 2)?;
        names.extend(names_in(folder)?);
    }
    equal("names in all of them", names.len(), FILES * THREADS as usize)
}

fn moving_directories(scene: &Scene<'_>) -> Result<()> {
    let folders = folders(scene)?;
    in_threads(|thread| {
        let mut random = ChaCha8Rng::seed_from_u64(100 + u64::from(thread));
        let mut place = folders[thread as usize].join(format!("moving {thread}"));
        fs::create_dir(&place)?;
        fs::write(place.join("file"), thread.to_string())?;
        for _ in 0..operations() / 2 {
            let next = folders[random.random_range(0..folders.len())].join(format!("moving {thread}"));
            fs::rename(&place, &next)?;
            place = next;
            let parent = place.parent().context("no parent")?;
            equal("`..`", inode_of(&place.join(".."))?, inode_of(parent)?)?;
        }
        equal("content", fs::read_to_string(place.join("file"))?, thread.to_string())
    })?;
    drop_caches()?;
    let mut inner = 0;
    for folder in &folders {
        let names = names_in(folder)?;
        equal("links", status_of(folder)?.links as usize, 2 + names.len())?;
        for name in &names {
            let path = folder.join(String::from_utf8_lossy(name).into_owned());
            equal("`..` from the disk", inode_of(&path.join(".."))?, inode_of(folder)?)?;
        }
        inner += names.len();
    }
    equal("directories in all of them", inner, THREADS as usize)
}

fn exclusive(scene: &Scene<'_>) -> Result<()> {
    let (files, folders) = (AtomicU32::new(0), AtomicU32::new(0));
    let count = |outcome: std::io::Result<()>, wins: &AtomicU32| match outcome {
        Ok(()) => {
            wins.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
        Err(error) => Err(error),
    };
    in_threads(|_| {
        for number in 0..operations() {
            let (file, folder) = (scene.path(format!("f{number}")), scene.path(format!("d{number}")));
            count(File::options().write(true).create_new(true).open(file).map(drop), &files)?;
            count(fs::create_dir(folder), &folders)?;
        }
        Ok(())
    })?;
    equal("files made", files.into_inner(), operations())?;
    equal("directories made", folders.into_inner(), operations())?;
    equal("links", status_of(&scene.folder)?.links, 2 + operations())?;
    equal("names", names_in(&scene.folder)?.len(), 2 * operations() as usize)
}

fn links(scene: &Scene<'_>) -> Result<()> {
    let file = scene.path("file");
    fs::write(&file, "x")?;
    in_threads(|thread| {
        for number in 0..operations() {
            fs::hard_link(&file, scene.path(format!("{thread}-{number}")))?;
            if number % 4 != 0 {
                fs::remove_file(scene.path(format!("{thread}-{number}")))?;
            }
        }
        Ok(())
    })?;
    let wanted = 1 + THREADS * operations() / 4;
    equal("links", status_of(&file)?.links, wanted)?;
    drop_caches()?;
    equal("links from the disk", status_of(&file)?.links, wanted)?;
    equal("names", names_in(&scene.folder)?.len(), wanted as usize)
}

fn always_there(scene: &Scene<'_>) -> Result<()> {
    let target = scene.path("target");
    fs::write(&target, "0 0")?;
    in_threads(|thread| {
        for number in 0..operations() {
            if thread % 2 == 0 {
                let temporary = scene.path(format!("temporary {thread}"));
                fs::write(&temporary, format!("{thread} {number}"))?;
                fs::rename(&temporary, &target)?;
            } else {
                let text = fs::read_to_string(&target).context("the name was not there")?;
                ensure!(text.split(' ').count() == 2, "a torn content: {text:?}");
            }
        }
        Ok(())
    })?;
    equal("names", names_in(&scene.folder)?, vec![b"target".to_vec()])?;
    equal("links", status_of(&target)?.links, 1)
}

/// Outcomes that are right where all do everything to one name.
fn tolerate(outcome: std::io::Result<()>) -> Result<()> {
    const EXPECTED: [Errno; 4] = [Errno::EXIST, Errno::NOENT, Errno::NOTEMPTY, Errno::NOTDIR];
    match outcome {
        Err(error) if !EXPECTED.iter().any(|number| Some(number.raw_os_error()) == error.raw_os_error()) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

fn one_name(scene: &Scene<'_>) -> Result<()> {
    let (folder, other) = (scene.path("folder"), scene.path("other"));
    let inner = |folder: &Path| folder.join("inner");
    in_threads(|thread| {
        for _ in 0..operations() {
            match thread % 4 {
                0 => {
                    tolerate(fs::create_dir(&folder))?;
                    tolerate(File::create(inner(&folder)).map(drop))?;
                }
                1 => {
                    tolerate(fs::remove_file(inner(&folder)))?;
                    tolerate(fs::remove_dir(&folder))?;
                }
                2 => {
                    tolerate(fs::rename(&folder, &other))?;
                    tolerate(fs::remove_file(inner(&other)))?;
                    tolerate(fs::remove_dir(&other))?;
                }
                _ => {
                    tolerate(fs::metadata(inner(&folder)).map(drop))?;
                    tolerate(fs::read_dir(&folder).map(|entries| entries.for_each(drop)))?;
                }
            }
        }
        Ok(())
    })?;
    for left in [&folder, &other] {
        tolerate(fs::remove_file(inner(left)))?;
        tolerate(fs::remove_dir(left))?;
    }
    ensure!(names_in(&scene.folder)?.is_empty(), "names are left");
    equal("links", status_of(&scene.folder)?.links, 2)
}
