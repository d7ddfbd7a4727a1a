//! Truncation both ways: what was cut off never comes back.

use std::fs::{self, File};

use anyhow::{ensure, Result};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{ftruncate, open, Mode, OFlags};
use rustix::io::Errno;

use super::pattern::{bytes, file_holds, Model};
use crate::cases::{equal, refused, share, Case, Scene};
use crate::filesystem::{drop_caches, truncate};
use crate::status::status_of;

pub(super) const CASES: &[Case] = &[
    Case::new("4096, 100, 8192 shows zeros", cut_and_grown),
    Case::new("every pair of sizes around edges", pairs),
    Case::new("random truncations and writes", random),
    Case::new("what is not written back yet has blocks", blocks_before_writeback),
    Case::new("truncation gives blocks back", blocks_come_back),
    Case::new("a large file, cut down step by step", steps),
    Case::new("truncation while it is written back", while_written),
    Case::new("errors of truncate", errors),
];

fn cut_and_grown(scene: &Scene<'_>) -> Result<()> {
    // With every combination of the old bytes, the cut and the growth having reached the disk.
    for combination in 0..8_u32 {
        let path = scene.path(combination.to_string());
        let mut model = Model::create(&path, u64::from(combination))?;
        let maybe_sync = |bit: u32, file: &File| -> Result<()> {
            if combination & bit != 0 {
                file.sync_all()?;
                drop_caches()?;
            }
            Ok(())
        };
        model.write(0, 4096)?;
        maybe_sync(1, &model.file)?;
        model.truncate(100)?;
        maybe_sync(2, &model.file)?;
        model.truncate(8192)?;
        maybe_sync(4, &model.file)?;
        model.compare(&format!("combination {combination}"))?;
        drop_caches()?;
        model.compare(&format!("combination {combination} from the disk"))?;
    }
    Ok(())
}

fn pairs(scene: &Scene<'_>) -> Result<()> {
    const SIZES: [usize; 12] = [0, 1, 100, 511, 4095, 4096, 4097, 8191, 8192, 12_289, 65_536, 70_000];
    for (number, first) in SIZES.into_iter().enumerate() {
        let mut model = Model::create(&scene.path(number.to_string()), number as u64)?;
        for second in SIZES {
            model.write(0, 70_000)?;
            if second % 2 == 1 {
                model.file.sync_all()?;
            }
            model.truncate(first)?;
            model.truncate(second)?;
            model.write(70_000, 10)?;
            model.compare(&format!("{first}, then {second}"))?;
        }
        drop_caches()?;
        model.compare(&format!("{first}, from the disk"))?;
    }
    Ok(())
}

fn random(scene: &Scene<'_>) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut model = Model::create(&scene.path("file"), 11)?;
    for step in 0..share(1_000) {
        match random.random_range(0..10) {
            0..4 => model.truncate(random.random_range(0..200_000))?,
            4..9 => model.write(random.random_range(0..190_000), random.random_range(1..20_000))?,
            _ => model.file.sync_all()?,
        }
        if step % 10 == 0 {
            model.compare(&format!("step {step}"))?;
        }
        if step % 100 == 0 {
            drop_caches()?;
        }
    }
    drop_caches()?;
    model.compare("at the end")
}

fn blocks_before_writeback(scene: &Scene<'_>) -> Result<()> {
    // Archivers take a file without blocks for one hole (tar -S, and rsync).
    let path = scene.path("file");
    for round in 1..=3 {
        fs::write(&path, bytes(2, 0, round * 100_000))?;
        let found = status_of(&path)?;
        ensure!(found.sectors * 512 >= found.size, "{} sectors for {} bytes", found.sectors, found.size);
        rustix::fs::sync();
        let synced = status_of(&path)?.sectors;
        ensure!((found.size.div_ceil(4096) * 8..).contains(&synced), "{synced} sectors are synced");
        fs::remove_file(&path)?;
    }
    Ok(())
}

fn blocks_come_back(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, bytes(1, 0, 4 << 20))?;
    let sectors = || -> Result<u64> {
        rustix::fs::sync();
        Ok(status_of(&path)?.sectors)
    };
    let full = sectors()?;
    ensure!((8_192..8_192 + 64).contains(&full), "4 MiB in {full} sectors");
    truncate(&path, 1 << 20)?;
    let quarter = sectors()?;
    ensure!((2_048..2_048 + 64).contains(&quarter), "1 MiB in {quarter} sectors");
    truncate(&path, 4 << 20)?;
    equal("sectors after growth", sectors()?, quarter)?;
    truncate(&path, 1)?;
    let one = sectors()?;
    ensure!((1..=16).contains(&one), "a byte in {one} sectors");
    truncate(&path, 0)?;
    equal("sectors of nothing", sectors()?, 0)
}

fn steps(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let content = bytes(2, 0, 3_000_000);
    fs::write(&path, &content)?;
    let mut length = content.len();
    let mut step = 0;
    while length > 0 {
        length = length.saturating_sub(97_003);
        truncate(&path, length as u64)?;
        if step % 8 == 0 {
            drop_caches()?;
            file_holds("what is left", &path, &content[..length])?;
        }
        step += 1;
    }
    equal("size", status_of(&path)?.size, 0)
}

fn while_written(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::thread::scope(|scope| {
        let syncs = scope.spawn(|| -> std::io::Result<()> { (0..150).try_for_each(|_| file.sync_all()) });
        let mut outcome = Ok(());
        let mut round = 0_u64;
        while outcome.is_ok() && !syncs.is_finished() {
            let length = (round as usize * 77_777) % 900_000 + 1;
            outcome = || -> Result<()> {
                let content = bytes(round, 0, length);
                std::os::unix::fs::FileExt::write_all_at(&file, &content, 0)?;
                file.set_len(length as u64 / 3)?;
                file.set_len(length as u64)?;
                let mut wanted = content[..length / 3].to_vec();
                wanted.resize(length, 0);
                file_holds(&format!("round {round}"), &path, &wanted)
            }();
            round += 1;
        }
        println!("# {round} rounds beside 150 calls of fsync");
        match syncs.join() {
            Ok(synced) => outcome.and(Ok(synced?)),
            Err(_) => anyhow::bail!("the thread that syncs ended early"),
        }
    })
}

fn errors(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "content")?;
    fs::create_dir(scene.path("folder"))?;
    refused("a directory", Errno::ISDIR, truncate(scene.path("folder"), 0))?;
    refused("nothing", Errno::NOENT, truncate(scene.path("none"), 0))?;
    refused("a negative size", Errno::INVAL, truncate(scene.path("file"), u64::MAX))?;
    let reader = open(scene.path("file"), OFlags::RDONLY, Mode::empty())?;
    refused("without the right to write", Errno::INVAL, ftruncate(&reader, 0))?;
    file_holds("after the refusals", &scene.path("file"), b"content")
}
