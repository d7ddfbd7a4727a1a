//! A full disk: every call fails cleanly or succeeds, what was accepted is kept, and space comes back.
//!
//! The filesystem is a small one. Each case leaves it as empty as it found it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{symlink, FileExt as _};
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure, Context as _, Result};
use rustix::fs::{chmod, statvfs, Mode};
use rustix::io::Errno;

use super::helper::Helper;
use super::pattern::{bytes, file_holds, same};
use crate::cases::{equal, share, Case, Scene};
use crate::filesystem::{drop_caches, truncate};
use crate::status::{names_in, status_of};

pub(super) const CASES: &[Case] = &[
    Case::new("one file fills the disk, and what was accepted is kept", one_file),
    Case::new("at 100 %: what must work, works", at_100_percent),
    Case::new("20 times: remove, and write again at once", remove_and_write),
    Case::new("small files until ENOSPC, time after time", small_files),
    Case::new("inodes and names run out: mkdir, symlink, mknod", names_run_out),
    Case::new("four threads fill the disk", threads),
    Case::new("holes cannot be filled", holes),
    Case::new("a store without space: SIGBUS", store_without_space),
    Case::new("holes between many extents: what is accepted can be mapped", crowded_tree),
    Case::new("nothing is lost by a sync that comes late", late_sync),
];

const BLOCK: u64 = 4096;
const PIECE: usize = 100_000;
const SMALL_BYTES: usize = 50_000;
/// Of what is removed, blocks come back soon but not at once.
const SOON: Duration = Duration::from_secs(20);

fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOSPC.raw_os_error())
}

/// Writes from `offset` on until the disk is full; where the bytes end that were accepted.
fn fill_from(file: &File, seed: u64, mut offset: u64) -> Result<u64> {
    loop {
        let piece = bytes(seed, offset, PIECE);
        let mut rest = &piece[..];
        while !rest.is_empty() {
            match file.write_at(rest, offset) {
                Ok(0) => bail!("a write of {} bytes wrote none, without an error", rest.len()),
                Ok(count) => {
                    offset += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if is_full(&error) => return Ok(offset),
                Err(error) => return Err(error).with_context(|| format!("write at {offset}")),
            }
        }
    }
}

fn fill(path: &Path, seed: u64) -> Result<u64> {
    fill_from(&File::options().write(true).create(true).truncate(true).open(path)?, seed, 0)
}

fn free_bytes(scene: &Scene<'_>) -> Result<u64> {
    let found = statvfs(scene.filesystem.root())?;
    Ok(found.f_bavail * found.f_frsize)
}

/// Runs a case; afterwards as much must be free as before, but for a few blocks that directories may have grown by.
fn with_space_back(scene: &Scene<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    const SPARE_BYTES: u64 = 8 * 4096;
    rustix::fs::sync();
    let before = free_bytes(scene)?;
    let outcome = work();
    for entry in fs::read_dir(&scene.folder)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("removal of {}", path.display()))?;
    }
    outcome?;
    let deadline = Instant::now() + SOON;
    loop {
        rustix::fs::sync();
        let after = free_bytes(scene)?;
        if after + SPARE_BYTES >= before {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{after} bytes are free, before they were {before}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn one_file(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        let path = scene.path("file");
        let free = free_bytes(scene)?;
        let accepted = fill(&path, 1)?;
        println!("# {accepted} of {free} free bytes were accepted");
        ensure!(accepted > free / 10 * 9, "the disk was full with {accepted} of {free} bytes");
        let wanted = bytes(1, 0, accepted as usize);
        equal("size", status_of(&path)?.size, accepted)?;
        file_holds("from memory", &path, &wanted)?;
        File::open(&path)?.sync_all()?;
        drop_caches()?;
        file_holds("from the disk", &path, &wanted)?;
        ensure!(free_bytes(scene)? < 1 << 20, "{} bytes are still free", free_bytes(scene)?);
        if scene.filesystem.is_persistent() {
            scene.filesystem.check_and_mount_again()?;
            file_holds("after a remount", &path, &wanted)?;
        }
        Ok(())
    })
}

fn at_100_percent(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        let folder = scene.path("folder");
        fs::create_dir(&folder)?;
        for number in 0..50 {
            fs::write(folder.join(number.to_string()), bytes(number, 0, 9_000))?;
        }
        rustix::fs::sync();
        let path = scene.path("file");
        let mut accepted = fill(&path, 1)?;
        rustix::fs::sync();
        accepted = fill_from(&File::options().write(true).open(&path)?, 1, accepted)?;
        let full = |what: &str, outcome: io::Result<usize>| match outcome {
            Err(error) if is_full(&error) => Ok(()),
            other => Err(anyhow!("{what}: {other:?}")),
        };
        let file = File::options().write(true).open(&path)?;
        full("a block more", file.write_at(&[1; 8_192], accepted + 4_096))?;
        // What takes no block.
        for number in 0..10 {
            fs::rename(folder.join(number.to_string()), folder.join(format!("{number}r")))?;
        }
        chmod(&folder, Mode::from_raw_mode(0o700))?;
        file.write_all_at(b"over", 1_000)?;
        file.sync_all()?;
        File::open(&folder)?.sync_all()?;
        // What gives some back.
        for number in 10..30 {
            truncate(folder.join(number.to_string()), 100)?;
        }
        for number in 30..50 {
            fs::remove_file(folder.join(number.to_string()))?;
        }
        truncate(&path, accepted / 2)?;
        fs::write(scene.path("new"), bytes(9, 0, 100_000))?;
        drop_caches()?;
        file_holds("new", &scene.path("new"), &bytes(9, 0, 100_000))?;
        for number in 10..30 {
            let found = fs::read(folder.join(number.to_string()))?;
            same("cut", &found, &bytes(number, 0, 100))?;
        }
        equal("names", names_in(&folder)?.len(), 30)
    })
}

fn remove_and_write(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        // What is free comes in ever smaller pieces, and the map of a file with many pieces is larger: a little less than
        // was removed is written.
        const BYTES: usize = (3 << 20) - (1 << 17);
        let victim = scene.path("victim");
        fs::write(&victim, bytes(0, 0, 3 << 20))?;
        rustix::fs::sync();
        fill(&scene.path("file"), 1)?;
        for round in 1..=20 {
            // No sync between: the removal is not durable yet when its blocks are wanted.
            fs::remove_file(&victim)?;
            fs::write(&victim, bytes(round, 0, BYTES)).with_context(|| format!("round {round}"))?;
            if round % 5 == 0 {
                drop_caches()?;
                file_holds(&format!("round {round}"), &victim, &bytes(round, 0, BYTES))?;
            }
        }
        Ok(())
    })
}

/// Makes small files until one is refused; how many there are.
fn make_small_files(folder: &Path, seed: u64) -> Result<u64> {
    for number in 0.. {
        let path = folder.join(number.to_string());
        let one = || -> io::Result<()> {
            let mut file = File::options().write(true).create_new(true).open(&path)?;
            file.write_all(&bytes(seed + number, 0, SMALL_BYTES))
        };
        match one() {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                // The name may have been made, with a part of the bytes.
                let _ = fs::remove_file(&path);
                return Ok(number);
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the disk has no end")
}

/// Fills the disk up to the share that a heavy load is to have of one part of its free space in `parts`.
fn leave_a_share(scene: &Scene<'_>, parts: u64) -> Result<()> {
    let free = free_bytes(scene)?;
    let filler = vec![1; usize::try_from(free - share(free / parts))?];
    fs::write(scene.path("filler"), filler)?;
    rustix::fs::sync();
    Ok(())
}

fn small_files(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        leave_a_share(scene, 1)?;
        let mut counts = Vec::new();
        for round in 0..share(3).max(2) {
            let folder = scene.path(round.to_string());
            fs::create_dir(&folder)?;
            let count = make_small_files(&folder, round * 100_000)?;
            drop_caches()?;
            for number in 0..count {
                let wanted = bytes(round * 100_000 + number, 0, SMALL_BYTES);
                file_holds(&format!("file {number}"), &folder.join(number.to_string()), &wanted)?;
            }
            counts.push(count);
            fs::remove_dir_all(&folder)?;
        }
        println!("# {counts:?} files");
        ensure!(
            counts.iter().all(|count| count * 100 >= counts[0] * 97),
            "fewer and fewer files: {counts:?}"
        );
        Ok(())
    })
}

fn names_run_out(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        // More than all names need, on a kernel that is not slow: there it is inodes that run out.
        leave_a_share(scene, 4)?;
        let mut made = 0_u32;
        let mut refused_by = io::Error::other("nothing");
        let (mut refusals, mut all_refusals, mut folders) = (0, 0, 0);
        // In a directory that is removed in the end: one that has grown need not shrink.
        let folder = scene.path("folder");
        fs::create_dir(&folder)?;
        // One call may still find room where another does not: an inode, but no block.
        while refusals < 3 && all_refusals < share(120) {
            let path = folder.join(format!("{made} {}", "n".repeat(100)));
            let outcome = match made % 3 {
                0 => fs::create_dir(&path).inspect(|()| folders += 1),
                1 => symlink("t".repeat(1_000), &path),
                _ => File::create(&path).map(drop),
            };
            made += 1;
            match outcome {
                Ok(()) => refusals = 0,
                Err(error) if is_full(&error) => {
                    refusals += 1;
                    all_refusals += 1;
                    refused_by = error;
                    ensure!(
                        fs::symlink_metadata(&path).is_err(),
                        "a name was made, and refused: {refused_by}"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        println!("# {made} names, then {refused_by}");
        equal("links", status_of(&folder)?.links, 2 + folders)?;
        let names = names_in(&folder)?;
        drop_caches()?;
        ensure!(names_in(&folder)? == names, "other names on the disk");
        Ok(())
    })
}

fn threads(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        let paths: Vec<PathBuf> = (0..4).map(|number| scene.path(number.to_string())).collect();
        let accepted: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0_u64..).zip(&paths).map(|(seed, path)| scope.spawn(move || fill(path, seed))).collect();
            let outcomes = threads.into_iter().map(ScopedJoinHandle::join);
            outcomes
                .map(|outcome| outcome.map_err(|_| anyhow!("a thread ended early"))?)
                .collect::<Result<_>>()
        })?;
        for round in ["from memory", "from the disk"] {
            for ((seed, path), length) in (0_u64..).zip(&paths).zip(&accepted) {
                // A write that was refused may have been accepted in part for another thread's sake: never less.
                let found = fs::read(path)?;
                equal(round, found.len() as u64, *length)?;
                same(round, &found, &bytes(seed, 0, *length as usize))?;
            }
            drop_caches()?;
        }
        println!("# {accepted:?} bytes");
        Ok(())
    })
}

fn holes(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        let path = scene.path("sparse");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.set_len(1 << 30)?;
        let accepted = fill(&scene.path("file"), 1)?;
        rustix::fs::sync();
        // A few blocks are left.
        truncate(scene.path("file"), accepted - 40 * 4096)?;
        rustix::fs::sync();
        let mut written = Vec::new();
        // Each in a block of its own, until there are no blocks.
        let mut refused_at = None;
        for place in (0..1 << 30).step_by(1 << 16) {
            match file.write_at(b"x", place) {
                Ok(_) => written.push(place),
                Err(error) if is_full(&error) => {
                    refused_at = Some(place);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        println!("# {} holes were filled", written.len());
        ensure!(!written.is_empty(), "no hole was filled, although blocks were free");
        let refused_at = refused_at.context("no hole was refused")?;
        drop_caches()?;
        let mut byte = [0];
        for place in written {
            file.read_exact_at(&mut byte, place)?;
            equal("what was written", byte[0], b'x')?;
        }
        file.read_exact_at(&mut byte, refused_at)?;
        equal("what was refused", byte[0], 0)?;
        equal("size", status_of(&path)?.size, 1 << 30)
    })
}

fn store_without_space(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        let path = scene.path("sparse");
        File::create(&path)?.set_len(8 << 20)?;
        // The last blocks are taken one by one.
        fill(&scene.path("file"), 1)?;
        rustix::fs::sync();
        fill(&scene.path("more"), 2)?;
        let small = File::create(scene.path("small"))?;
        let mut place = 0;
        while small.write_at(b"x", place).is_ok() {
            place += 4096;
        }
        rustix::fs::sync();
        let store = |place: usize| Helper::start("store-byte", &path, &[place.to_string()]);
        let mut tried = 0;
        // A few may find the room that the others' reservations gave back.
        loop {
            ensure!(tried < 200, "200 stores into holes found room on a full disk");
            let status = store(tried * 40_000)?.wait()?;
            tried += 1;
            if !status.success() {
                break;
            }
        }
        println!("# {} stores found room", tried - 1);
        store(tried * 40_000)?.must_get_sigbus()?;
        fs::remove_file(scene.path("file"))?;
        rustix::fs::sync();
        store(tried * 40_000)?.must_succeed()?;
        let mut byte = [0];
        drop_caches()?;
        File::open(&path)?.read_exact_at(&mut byte, tried as u64 * 40_000)?;
        equal("what was stored", byte[0], 1)
    })
}

/// Extents that a block of a file's tree has at most (docs/format.md).
const LEAF_EXTENTS: u64 = 168;

/// Each block goes between the extents of another full leaf, so the tree needs as many blocks as the contents do.
fn crowded_tree(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        let leaves = share(40_u64).max(8);
        let at = |block: u64| block * BLOCK;
        let file = File::options().read(true).write(true).create_new(true).open(scene.path("scattered"))?;
        for number in 0..leaves * LEAF_EXTENTS {
            file.write_all_at(&bytes(1, number, BLOCK as usize), at(2 * number))?;
        }
        file.sync_all()?;
        let filler = File::create(scene.path("filler"))?;
        let end = fill_from(&filler, 2, 0)?;
        filler.sync_all()?;
        // Enough for the contents, and not for the tree as well.
        filler.set_len(end - (leaves + 10) * BLOCK)?;
        rustix::fs::sync();
        let mut accepted = 0;
        let hole = |number: u64| 2 * (number * LEAF_EXTENTS + LEAF_EXTENTS / 2) + 1;
        for number in 0..leaves {
            match file.write_all_at(&bytes(3, number, BLOCK as usize), at(hole(number))) {
                Ok(()) => accepted += 1,
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        println!("# {accepted} of {leaves} holes were filled");
        ensure!(accepted > 0, "not one block found room");
        file.sync_all().context("fsync of what was accepted")?;
        drop_caches()?;
        let mut found = vec![0; BLOCK as usize];
        for number in 0..accepted {
            file.read_exact_at(&mut found, at(hole(number)))?;
            same("a hole that was filled", &found, &bytes(3, number, BLOCK as usize))?;
            file.read_exact_at(&mut found, at(hole(number) + 1))?;
            let next = number * LEAF_EXTENTS + LEAF_EXTENTS / 2 + 1;
            same("the block behind it", &found, &bytes(1, next, BLOCK as usize))?;
        }
        Ok(())
    })
}

fn late_sync(scene: &Scene<'_>) -> Result<()> {
    with_space_back(scene, || {
        // Only memory knows of these when the disk fills up: their room must be theirs.
        let content = |number: u64| bytes(number, 0, 3_000 + number as usize * 401);
        let files = share(200);
        for number in 0..files {
            let file = File::create(scene.path(number.to_string()))?;
            // Scattered, so that their maps need blocks too.
            for (piece, part) in content(number).chunks(2_000).enumerate() {
                file.write_all_at(part, piece as u64 * 30_000)?;
            }
        }
        fill(&scene.path("file"), 1)?;
        for number in 0..files {
            File::open(scene.path(number.to_string()))?
                .sync_all()
                .with_context(|| format!("fsync of {number}"))?;
        }
        drop_caches()?;
        for number in 0..files {
            let file = File::open(scene.path(number.to_string()))?;
            for (piece, part) in content(number).chunks(2_000).enumerate() {
                let mut found = vec![0; part.len()];
                file.read_exact_at(&mut found, piece as u64 * 30_000)?;
                same(&format!("file {number}, piece {piece}"), &found, part)?;
            }
        }
        Ok(())
    })
}
