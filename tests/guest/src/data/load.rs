//! What a parallel load wrote, by its SHA-256: at once, from the disk, and after a remount.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure, Context as _, Result};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};

use super::pattern::bytes;
use crate::cases::{needs_a_disk, share, Case, Scene};
use crate::filesystem::drop_caches;
use crate::status::digest_of;

pub(super) const CASES: &[Case] = &[
    Case::new("four threads write files in every way", parallel_load),
    Case::new("short-lived files beside lasting ones", short_lived),
];

const THREADS: u64 = 4;

fn files() -> u64 {
    share(50)
}

/// A file and the digest of what it must hold.
type Written = (PathBuf, [u8; 32]);

/// Writes a file in one of several ways; the bytes depend on `seed` alone.
fn write_file(path: &Path, seed: u64) -> Result<[u8; 32]> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let length = match seed % 5 {
        0 => random.random_range(0..100),
        1 => random.random_range(100..20_000),
        2 | 3 => random.random_range(20_000..300_000),
        _ => random.random_range(300_000..900_000),
    };
    let content = bytes(seed, 0, length);
    let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
    let piece = random.random_range(1_000..70_000);
    let mut places: Vec<usize> = (0..length).step_by(piece).collect();
    match seed % 4 {
        // At once; piece by piece; in any order; over older bytes that were longer.
        0 => file.write_all(&content)?,
        1 => {
            for place in places {
                file.write_all(&content[place..(place + piece).min(length)])?;
            }
        }
        2 => {
            places.shuffle(&mut random);
            for place in places {
                file.write_all_at(&content[place..(place + piece).min(length)], place as u64)?;
            }
        }
        _ => {
            file.write_all(&bytes(seed + 1, 0, length + 10_000))?;
            if seed % 8 == 3 {
                file.sync_data()?;
            }
            file.set_len(length as u64)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&content)?;
        }
    }
    if seed % 10 == 7 {
        file.sync_all()?;
    }
    Ok(Sha256::digest(&content).into())
}

fn compare(written: &[Written], when: &str) -> Result<()> {
    for (path, wanted) in written {
        ensure!(digest_of(path)? == *wanted, "{when}: {} has another digest", path.display());
    }
    Ok(())
}

fn compare_everywhere(scene: &Scene<'_>, written: &[Written]) -> Result<()> {
    compare(written, "from memory")?;
    drop_caches()?;
    compare(written, "from the disk")?;
    if scene.filesystem.is_persistent() {
        scene.filesystem.check_and_mount_again()?;
        compare(written, "after a remount")?;
    }
    Ok(())
}

fn in_threads(work: impl Fn(u64) -> Result<Vec<Written>> + Sync) -> Result<Vec<Written>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || work(number))).collect();
        let mut written = Vec::new();
        for thread in threads {
            written.extend(thread.join().map_err(|_| anyhow!("a thread ended early"))??);
        }
        Ok(written)
    })
}

fn parallel_load(scene: &Scene<'_>) -> Result<()> {
    let written = in_threads(|thread| {
        let folder = scene.path(thread.to_string());
        fs::create_dir(&folder)?;
        let file = |number: u64| -> Result<Written> {
            let path = folder.join(number.to_string());
            let digest =
                write_file(&path, thread * 1_000 + number).with_context(|| path.display().to_string())?;
            Ok((path, digest))
        };
        (0..files()).map(file).collect()
    })?;
    ensure!(written.len() as u64 == THREADS * files(), "{} files", written.len());
    compare_everywhere(scene, &written)
}

fn short_lived(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let written = in_threads(|thread| {
        let mut kept = Vec::new();
        for number in 0..2 * files() {
            let seed = 50_000 + thread * 1_000 + number;
            let path = scene.path(format!("{thread}-{number}"));
            let digest = write_file(&path, seed)?;
            match number % 4 {
                0 => kept.push((path, digest)),
                1 => fs::remove_file(&path)?,
                2 => fs::rename(&path, scene.path(format!("{thread}-last")))?,
                _ => File::create(&path).map(drop)?,
            }
        }
        Ok(kept)
    })?;
    compare_everywhere(scene, &written)
}
