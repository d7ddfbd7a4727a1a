//! Holes: what they read as, where they are, what they cost; and offsets that are far out.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{ensure, Result};
use rustix::fs::{ftruncate, seek, SeekFrom};
use rustix::io::Errno;

use super::pattern::{bytes, same, Model};
use crate::cases::{equal, refused, share, Case, Scene, Skip};
use crate::filesystem::{drop_caches, Kind};
use crate::status::status_of;

pub(super) const CASES: &[Case] = &[
    Case::new("holes read as zeros, and are filled in any order", holes),
    Case::new("SEEK_DATA and SEEK_HOLE", seek_data_and_hole),
    Case::new("what is not on the disk yet is data", unwritten_data),
    Case::new("holes take no blocks", blocks),
    Case::new("many pieces", many_pieces),
    Case::new("beyond 4 GiB", beyond_4_gib),
    Case::new("up to and beyond 16 TiB", beyond_16_tib),
    Case::new("the largest file", largest_file),
];

fn holes(scene: &Scene<'_>) -> Result<()> {
    let mut model = Model::create(&scene.path("file"), 1)?;
    model.truncate(400_000)?;
    model.compare("a hole")?;
    for piece in [50, 10, 90, 11, 49, 9, 0, 97, 51] {
        model.write(piece * 4096 + 17, 1_000)?;
        model.compare(&format!("piece {piece}"))?;
    }
    drop_caches()?;
    model.compare("from the disk")?;
    for piece in (0..97).rev() {
        model.write(piece * 4096, 4096)?;
    }
    drop_caches()?;
    model.compare("filled")
}

fn seek_data_and_hole(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    file.write_all_at(&bytes(1, 0, 4096), 65_536)?;
    file.write_all_at(&bytes(1, 0, 8192), 1 << 20)?;
    file.set_len(2 << 20)?;
    let (data, hole) = (|at| seek(&file, SeekFrom::Data(at)), |at| seek(&file, SeekFrom::Hole(at)));
    drop_caches()?;
    for (at, wanted) in
        [(0, 65_536), (65_536, 65_536), (69_631, 69_631), (69_632, 1 << 20), (1_052_671, 1_052_671)]
    {
        equal(&format!("data from {at}"), data(at)?, wanted)?;
    }
    for (at, wanted) in
        [(0, 0), (65_535, 65_535), (65_536, 69_632), (1 << 20, 1_056_768), ((2 << 20) - 1, (2 << 20) - 1)]
    {
        equal(&format!("a hole from {at}"), hole(at)?, wanted)?;
    }
    refused("data behind the last", Errno::NXIO, data(1_056_768))?;
    refused("data at the end", Errno::NXIO, data(2 << 20))?;
    refused("a hole at the end", Errno::NXIO, hole(2 << 20))?;
    file.write_all_at(b"x", (2 << 20) - 1)?;
    drop_caches()?;
    equal("the hole behind a file that ends with data", hole((2 << 20) - 1)?, 2 << 20)?;
    file.set_len(0)?;
    refused("data of an empty file", Errno::NXIO, data(0))?;
    refused("a hole of an empty file", Errno::NXIO, hole(0))
}

fn unwritten_data(scene: &Scene<'_>) -> Result<()> {
    let file = File::options().read(true).write(true).create_new(true).open(scene.path("file"))?;
    file.set_len(1 << 20)?;
    for piece in (0..250_u64).step_by(3) {
        file.write_all_at(b"x", piece * 4096 + 5)?;
        let found = seek(&file, SeekFrom::Data(piece * 4096 + 5))?;
        equal("data that was just written", found, piece * 4096 + 5)?;
    }
    Ok(())
}

fn blocks(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = File::create(&path)?;
    file.set_len(1 << 30)?;
    equal("sectors of a hole of 1 GiB", status_of(&path)?.sectors, 0)?;
    for offset in [5_000, 500_000_000, (1 << 30) - 1] {
        file.write_all_at(b"x", offset)?;
    }
    file.sync_all()?;
    let sectors = status_of(&path)?.sectors;
    ensure!((24..=64).contains(&sectors), "three blocks in {sectors} sectors");
    drop_caches()?;
    equal("sectors from the disk", status_of(&path)?.sectors, sectors)
}

fn many_pieces(scene: &Scene<'_>) -> Result<()> {
    let mut model = Model::create(&scene.path("file"), 5)?;
    let pieces = share(1_000);
    for piece in 0..pieces {
        // In an order that leaves gaps on both sides for long.
        model.write((piece * 389) % pieces * 12_000, 100)?;
        if piece % 50 == 0 {
            model.file.sync_all()?;
        }
    }
    model.compare("from memory")?;
    drop_caches()?;
    model.compare("from the disk")?;
    model.truncate(pieces * 6_000)?;
    model.truncate(pieces * 12_000)?;
    drop_caches()?;
    model.compare("cut and grown")?;
    Ok(())
}

/// Writes across `offset`, and reads it back from memory and from the disk, with holes around it.
fn write_and_read(file: &File, offset: u64) -> Result<()> {
    let start = offset - 5_000;
    let content = bytes(offset >> 12, start, 10_000);
    file.write_all_at(&content, start)?;
    for round in ["from memory", "from the disk"] {
        let mut found = vec![0xFF; 10_000];
        file.read_exact_at(&mut found, start)?;
        same(&format!("{round}, around {offset:#x}"), &found, &content)?;
        file.read_exact_at(&mut found[..4_096], start - 50_000)?;
        ensure!(found[..4_096].iter().all(|byte| *byte == 0), "{round}: no hole before {offset:#x}");
        drop_caches()?;
    }
    Ok(())
}

fn beyond_4_gib(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    for offset in [1 << 31, 1 << 32, 5 << 30, 1 << 40] {
        write_and_read(&file, offset)?;
    }
    equal("size", status_of(&path)?.size, (1 << 40) + 5_000)?;
    equal("data in between", seek(&file, SeekFrom::Data((5 << 30) + 8_192))?, ((1 << 40) - 5_000) & !4_095)?;
    file.set_len(1 << 32)?;
    let mut found = vec![0; 5_000];
    file.read_exact_at(&mut found, (1 << 32) - 5_000)?;
    same("what a truncation to 4 GiB left", &found, &bytes(1 << 20, (1 << 32) - 5_000, 5_000))
}

fn beyond_16_tib(scene: &Scene<'_>) -> Result<()> {
    if scene.filesystem.kind == Kind::Ext4 {
        return Err(
            Skip("ext4 numbers the blocks of a file with 32 bits, so that its files end at 16 TiB").into()
        );
    }
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    for offset in [1 << 44, (1 << 44) + (1 << 40), 1 << 50, 1 << 60] {
        write_and_read(&file, offset)?;
    }
    equal("size", status_of(&path)?.size, (1 << 60) + 5_000)?;
    file.sync_all()?;
    file.set_len((1 << 44) + 1)?;
    drop_caches()?;
    let mut found = vec![0; 5_001];
    file.read_exact_at(&mut found, (1 << 44) - 5_000)?;
    same("what a truncation to 16 TiB left", &found, &bytes(1 << 32, (1 << 44) - 5_000, 5_001))
}

fn largest_file(scene: &Scene<'_>) -> Result<()> {
    // With 32 bits for the number of a block; without that limit what an off_t can say, in whole blocks on a disk.
    let largest: u64 = match scene.filesystem.kind {
        Kind::Ext4 => 0xFFFF_FFFF << 12,
        Kind::Cairnfs => (i64::MAX as u64) & !4095,
        Kind::Tmpfs => i64::MAX as u64,
    };
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    file.set_len(largest)?;
    equal("size", status_of(&path)?.size, largest)?;
    file.write_all_at(b"end", largest - 3)?;
    let mut found = [0; 3];
    file.read_exact_at(&mut found, largest - 3)?;
    equal("the last bytes", &found, b"end")?;
    let wanted = if largest == i64::MAX as u64 { Errno::INVAL } else { Errno::FBIG };
    refused("one byte more", wanted, ftruncate(&file, largest + 1))?;
    let behind = file.write_at(b"x", largest);
    ensure!(behind.is_err(), "a byte behind the largest file was written");
    drop_caches()?;
    file.read_exact_at(&mut found, largest - 3)?;
    equal("the last bytes from the disk", &found, b"end")?;
    file.set_len(0)?;
    file.sync_all()?;
    equal("sectors", status_of(&path)?.sectors, 0)
}
