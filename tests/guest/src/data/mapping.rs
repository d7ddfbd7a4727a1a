//! Files in memory: shared and private mappings beside read and write, and what lies behind the end of a file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{ensure, Result};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use vmap::{Flush, Map, MapMut};

use super::helper::Helper;
use super::pattern::{bytes, file_holds, same};
use crate::cases::{equal, needs_a_disk, share, Case, Scene, Skip};
use crate::filesystem::{drop_caches, Kind};
use crate::shutdown::{shut_down_and_recover, Mode};
use crate::status::status_of;

pub(super) const CASES: &[Case] = &[
    Case::new("a mapping shows what is written, and the file what is stored", coherence),
    Case::new("stores reach the disk", stores_reach_the_disk),
    Case::new("stores into holes", stores_into_holes),
    Case::new("a private mapping changes nothing", private),
    Case::new("a store moves mtime and ctime", times),
    Case::new("behind the end of the file: SIGBUS", behind_the_end),
    Case::new("stores behind the end of the file are not kept", stores_behind_the_end),
    Case::new("a mapping beyond 4 GiB", far_out),
    Case::new("random stores, writes and reads", random),
    Case::new("four threads store into one file", threads),
    Case::new("msync makes stores durable", durable_stores),
    Case::new("a program runs from the filesystem", program),
];

fn open(path: &Path) -> Result<File> {
    Ok(File::options().read(true).write(true).create(true).truncate(false).open(path)?)
}

fn shared(file: &File) -> Result<MapMut> {
    Ok(MapMut::with_options().map(file)?)
}

fn coherence(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, bytes(1, 0, 40_000))?;
    let file = open(&path)?;
    let mut map = shared(&file)?;
    let read_only = Map::with_options().map(&file)?;
    same("as it was written", &map, &bytes(1, 0, 40_000))?;
    file.write_all_at(b"by write", 4_090)?;
    same("mapping", &map[4_090..4_098], b"by write")?;
    map[8_190..8_198].copy_from_slice(b"by store");
    let mut found = [0; 8];
    file.read_exact_at(&mut found, 8_190)?;
    same("read", &found, b"by store")?;
    same("another mapping", &read_only[8_190..8_198], b"by store")?;
    drop_caches()?;
    same("all of it", &read_only, &fs::read(&path)?)
}

fn stores_reach_the_disk(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = open(&path)?;
    file.set_len(100_001)?;
    let mut map = shared(&file)?;
    let content = bytes(2, 0, 100_001);
    map.copy_from_slice(&content);
    map.flush(&file, Flush::Sync)?;
    drop(map);
    drop_caches()?;
    file_holds("after msync", &path, &content)?;
    // Without msync: who unmaps or syncs need not say more.
    let mut map = shared(&file)?;
    map[50_000..60_000].fill(9);
    drop(map);
    drop_caches()?;
    let mut wanted = content;
    wanted[50_000..60_000].fill(9);
    file_holds("after sync", &path, &wanted)?;
    drop(file);
    if scene.filesystem.is_persistent() {
        scene.filesystem.mount_again()?;
        file_holds("after a remount", &path, &wanted)?;
    }
    Ok(())
}

fn stores_into_holes(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = open(&path)?;
    file.set_len(2 << 20)?;
    let mut map = shared(&file)?;
    let mut wanted = vec![0; 2 << 20];
    same("a hole", &map, &wanted)?;
    for place in (0..2 << 20).step_by(70_001) {
        map[place] = 7;
        wanted[place] = 7;
    }
    file_holds("from memory", &path, &wanted)?;
    drop(map);
    drop_caches()?;
    file_holds("from the disk", &path, &wanted)?;
    let sectors = status_of(&path)?.sectors;
    // A store makes the folio dirty that it hits, which for cairnfs may be a large one, read from the hole as zeros.
    let most = if scene.filesystem.kind == Kind::Cairnfs { 4096 + 64 } else { 30 * 8 + 64 };
    ensure!((30 * 8..=most).contains(&sectors), "30 blocks in {sectors} sectors");
    Ok(())
}

fn private(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let content = bytes(3, 0, 20_000);
    fs::write(&path, &content)?;
    let file = open(&path)?;
    let mut map = MapMut::with_options().copy().map(&file)?;
    map.fill(0xEE);
    ensure!(map.iter().all(|byte| *byte == 0xEE), "a private store is lost");
    file_holds("the file", &path, &content)?;
    drop(map);
    drop_caches()?;
    file_holds("the file on the disk", &path, &content)
}

fn times(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, vec![1; 4096])?;
    rustix::fs::sync();
    let file = open(&path)?;
    let mut map = shared(&file)?;
    let before = status_of(&path)?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    map[9] = 2;
    map.flush(&file, Flush::Sync)?;
    let after = status_of(&path)?;
    ensure!(after.mtime > before.mtime && after.ctime > before.ctime, "{before:?} {after:?}");
    equal("size", after.size, before.size)
}

fn behind_the_end(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    // The rest of the last page can be touched, the next page cannot.
    for (place, may) in [(99, true), (100, true), (4_095, true), (4_096, false), (8_191, false)] {
        fs::write(&path, bytes(4, 0, 8_192))?;
        let helper = Helper::start("load-byte", &path, &["100".to_owned(), place.to_string()])?;
        if may {
            helper.must_succeed()?;
        } else {
            helper.must_get_sigbus()?;
        }
    }
    Ok(())
}

fn stores_behind_the_end(scene: &Scene<'_>) -> Result<()> {
    if scene.filesystem.kind != Kind::Cairnfs {
        // cairnfs zeroes the rest of a block before a file grows beyond it.
        return Err(Skip("Linux 6.12's ext4 and tmpfs show such stores when the file grows").into());
    }
    let path = scene.path("file");
    let mut wanted = bytes(5, 0, 100);
    fs::write(&path, &wanted)?;
    let file = open(&path)?;
    file.set_len(4096)?;
    let mut map = shared(&file)?;
    file.set_len(100)?;
    map[100..4096].fill(0xEE);
    file.set_len(9_000)?;
    wanted.resize(9_000, 0);
    file_holds("grown", &path, &wanted)?;
    file.set_len(100)?;
    map[200] = 0xEE;
    file.write_all_at(b"far", 20_000)?;
    wanted.resize(100, 0);
    wanted.resize(20_000, 0);
    wanted.extend(b"far");
    file_holds("written behind the end", &path, &wanted)?;
    drop(map);
    drop_caches()?;
    file_holds("from the disk", &path, &wanted)
}

fn far_out(scene: &Scene<'_>) -> Result<()> {
    const OFFSET: usize = (5 << 30) + 4096;
    let path = scene.path("file");
    let file = open(&path)?;
    file.set_len(OFFSET as u64 + 10_000)?;
    let mut map = MapMut::with_options().offset(OFFSET).len(10_000).map(&file)?;
    let content = bytes(6, 0, 10_000);
    map.copy_from_slice(&content);
    drop(map);
    drop_caches()?;
    let mut found = vec![0; 10_000];
    file.read_exact_at(&mut found, OFFSET as u64)?;
    same("from the disk", &found, &content)
}

fn random(scene: &Scene<'_>) -> Result<()> {
    const BYTES: usize = 300_000;
    let path = scene.path("file");
    let file = open(&path)?;
    file.set_len(BYTES as u64)?;
    let mut map = shared(&file)?;
    let mut model = vec![0; BYTES];
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for step in 0..share(3_000_u64) {
        let length = random.random_range(1..9_000);
        let place = random.random_range(0..BYTES - length);
        let new = bytes(step, 0, length);
        match random.random_range(0..4) {
            0 => map[place..place + length].copy_from_slice(&new),
            1 => file.write_all_at(&new, place as u64)?,
            2 => {
                same("mapping", &map[place..place + length], &model[place..place + length])?;
                continue;
            }
            _ => {
                let mut found = vec![0; length];
                file.read_exact_at(&mut found, place as u64)?;
                same("read", &found, &model[place..place + length])?;
                continue;
            }
        }
        model[place..place + length].copy_from_slice(&new);
        if step % 500 == 0 {
            drop_caches()?;
        }
    }
    drop(map);
    drop_caches()?;
    file_holds("from the disk", &path, &model)
}

fn threads(scene: &Scene<'_>) -> Result<()> {
    const PART: usize = 100_003;
    let path = scene.path("file");
    let file = open(&path)?;
    file.set_len(4 * PART as u64)?;
    let mut map = shared(&file)?;
    std::thread::scope(|scope| {
        for (number, part) in map.chunks_mut(PART).enumerate() {
            scope.spawn(move || {
                for (place, byte) in part.iter_mut().enumerate() {
                    *byte = (place * (number + 3)) as u8;
                }
            });
        }
        // Write-back makes the pages read-only again and again while they are stored to.
        for _ in 0..20 {
            file.sync_all()?;
        }
        anyhow::Ok(())
    })?;
    drop(map);
    drop_caches()?;
    let wanted: Vec<u8> =
        (0..4).flat_map(|number| (0..PART).map(move |place| (place * (number + 3)) as u8)).collect();
    file_holds("from the disk", &path, &wanted)
}

fn durable_stores(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let path = scene.path("file");
    let file = open(&path)?;
    file.set_len(50_000)?;
    file.sync_all()?;
    File::open(&scene.folder)?.sync_all()?;
    let mut map = shared(&file)?;
    let content = bytes(8, 0, 50_000);
    map.copy_from_slice(&content);
    map.flush(&file, Flush::Sync)?;
    drop((map, file));
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    file_holds("after the recovery", &path, &content)
}

fn program(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("program");
    fs::copy(std::env::current_exe()?, &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    drop_caches()?;
    Helper::start_program(&path, "nothing", &path, &[])?.must_succeed()
}
