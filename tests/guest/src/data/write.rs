//! Writes at every alignment, appends, vectors, and what writes refuse.

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use anyhow::{ensure, Result};
use rustix::fs::{open, seek, Mode, OFlags};
use rustix::io::{pread, preadv, pwritev, readv, writev, Errno};

use super::helper::Helper;
use super::pattern::{bytes, file_holds, same, Model};
use crate::cases::{equal, refused, share, Case, Scene};
use crate::filesystem::drop_caches;
use crate::status::status_of;

pub(super) const CASES: &[Case] = &[
    Case::new("one file, written at every alignment", every_alignment),
    Case::new("new files, each written once at an alignment", new_files),
    Case::new("overwrites of what is on the disk", overwrites),
    Case::new("O_APPEND", append),
    Case::new("four processes append to one file", four_processes),
    Case::new("readv, writev and their kin", vectors),
    Case::new("16 MiB in one call", one_call),
    Case::new("byte by byte", byte_by_byte),
    Case::new("ends of files", ends),
    Case::new("eight threads write their parts of one file", parts_of_one_file),
];

/// Around sectors, blocks, and what a large folio may hold.
const OFFSETS: [usize; 13] = [0, 1, 511, 512, 513, 4095, 4096, 4097, 8191, 8192, 65_535, 65_536, 131_073];
const LENGTHS: [usize; 10] = [1, 2, 511, 512, 513, 4095, 4096, 4097, 8193, 65_537];

fn every_alignment(scene: &Scene<'_>) -> Result<()> {
    let mut model = Model::create(&scene.path("file"), 1)?;
    for (round, length) in LENGTHS.into_iter().enumerate() {
        for offset in OFFSETS {
            model.write(offset, length)?;
            model.compare(&format!("{length} bytes at {offset}"))?;
        }
        // Every other round goes on with what comes from the disk.
        if round % 2 == 1 {
            drop_caches()?;
            model.compare(&format!("from the disk, after {length} bytes"))?;
        }
    }
    Ok(())
}

fn new_files(scene: &Scene<'_>) -> Result<()> {
    let mut models = Vec::new();
    for length in LENGTHS {
        for offset in OFFSETS {
            let mut model = Model::create(&scene.path(format!("{offset}-{length}")), offset as u64)?;
            model.write(offset, length)?;
            models.push((offset, length, model));
        }
    }
    for round in ["from memory", "from the disk"] {
        for (offset, length, model) in &models {
            model.compare(&format!("{round}: {length} bytes at {offset}"))?;
        }
        drop_caches()?;
    }
    Ok(())
}

fn overwrites(scene: &Scene<'_>) -> Result<()> {
    let mut model = Model::create(&scene.path("file"), 7)?;
    model.write(0, 300_000)?;
    for round in 0..40 {
        drop_caches()?;
        // The first touch of a cold page is a write of a part of it.
        model.write(round * 7_001, 1 + round * 97)?;
        model.write(round * 5_003 + 100_000, 3)?;
        model.compare(&format!("round {round}"))?;
    }
    drop_caches()?;
    model.compare("from the disk")
}

fn append(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "0")?;
    let mut file = File::options().append(true).read(true).open(&path)?;
    let mut wanted = b"0".to_vec();
    for length in [1, 10, 500, 4_000, 4_096, 9_999] {
        let piece = bytes(length as u64, 0, length);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&piece)?;
        wanted.extend(&piece);
        equal("position behind an append", file.stream_position()?, wanted.len() as u64)?;
    }
    // On Linux even pwrite appends where O_APPEND is set.
    file.write_at(b"end", 5)?;
    wanted.extend(b"end");
    file_holds("after all", &path, &wanted)?;
    drop_caches()?;
    file_holds("from the disk", &path, &wanted)
}

const APPENDERS: u32 = 4;

/// No divisor of a block: records lie across its edges.
pub(super) const RECORD_BYTES: usize = 52;

fn four_processes(scene: &Scene<'_>) -> Result<()> {
    let records = share(2_000_u32);
    let path = scene.path("file");
    File::create(&path)?;
    let helpers: Vec<Helper> = (0..APPENDERS)
        .map(|number| Helper::start("append", &path, &[number.to_string(), records.to_string()]))
        .collect::<Result<_>>()?;
    helpers.into_iter().try_for_each(Helper::must_succeed)?;
    for round in ["from memory", "from the disk"] {
        let content = fs::read(&path)?;
        equal(round, content.len(), RECORD_BYTES * (APPENDERS * records) as usize)?;
        let mut next = [0; APPENDERS as usize];
        for record in content.chunks_exact(RECORD_BYTES) {
            let text = String::from_utf8_lossy(record);
            let words: Vec<&str> = text.split_whitespace().collect();
            let [number, sequence, _] = words[..] else { anyhow::bail!("{round}: a torn record: {text:?}") };
            let number: usize = number.parse()?;
            ensure!(
                number < next.len() && sequence.parse() == Ok(next[number]),
                "{round}: out of order: {text:?}"
            );
            next[number] += 1;
        }
        equal(round, next, [records; APPENDERS as usize])?;
        drop_caches()?;
    }
    Ok(())
}

fn vectors(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let parts: Vec<Vec<u8>> = [1, 4_095, 0, 5_000, 3].iter().map(|length| bytes(9, 77, *length)).collect();
    let whole: Vec<u8> = parts.concat();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    equal("writev", writev(&file, &slices)?, whole.len())?;
    equal("pwritev", pwritev(&file, &slices, 20_001)?, whole.len())?;
    let mut wanted = whole.clone();
    wanted.resize(20_001, 0);
    wanted.extend(&whole);
    file_holds("after both", &path, &wanted)?;
    drop_caches()?;
    let (mut first, mut second, mut third) = (vec![0; 10], vec![0; 9_000], vec![0; 20_100]);
    let length = {
        let mut slices = [&mut first, &mut second, &mut third].map(|part| IoSliceMut::new(part));
        preadv(&file, &mut slices, 0)?
    };
    equal("preadv", length, wanted.len())?;
    same("preadv", &[first.clone(), second.clone(), third.clone()].concat()[..length], &wanted)?;
    seek(&file, rustix::fs::SeekFrom::Start(20_000))?;
    let length = readv(&file, &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)])?;
    equal("readv", length, 10 + 9_000)?;
    same("readv", &[first, second].concat(), &wanted[20_000..29_010])
}

fn one_call(scene: &Scene<'_>) -> Result<()> {
    const BYTES: usize = 16 << 20;
    let content = bytes(3, 0, BYTES);
    let mut file = File::options().read(true).write(true).create_new(true).open(scene.path("file"))?;
    equal("written", file.write(&content)?, BYTES)?;
    for round in ["from memory", "from the disk"] {
        let mut found = vec![0; BYTES + 1];
        file.seek(SeekFrom::Start(0))?;
        let length = file.read(&mut found)?;
        equal(round, length, BYTES)?;
        same(round, &found[..length], &content)?;
        drop_caches()?;
    }
    Ok(())
}

fn byte_by_byte(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let content = bytes(4, 0, share(10_000));
    let mut file = File::create(&path)?;
    for byte in &content {
        file.write_all(&[*byte])?;
    }
    drop_caches()?;
    let mut file = File::open(&path)?;
    let mut byte = [0];
    for wanted in &content {
        file.read_exact(&mut byte)?;
        equal("byte", byte[0], *wanted)?;
    }
    equal("behind the end", file.read(&mut byte)?, 0)
}

fn ends(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, bytes(5, 0, 5_000))?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut buffer = vec![0xFF; 9_000];
    equal("across the end", file.read_at(&mut buffer, 4_000)?, 1_000)?;
    ensure!(buffer[1_000..].iter().all(|byte| *byte == 0xFF), "bytes behind the end were set");
    equal("at the end", file.read_at(&mut buffer, 5_000)?, 0)?;
    equal("behind the end", file.read_at(&mut buffer, 1 << 40)?, 0)?;
    equal("a write of nothing", file.write_at(&[], 9_000)?, 0)?;
    equal("size", status_of(&path)?.size, 5_000)?;
    refused("before the beginning", Errno::INVAL, pread(&file, &mut buffer[..], u64::MAX))?;
    let reader = open(&path, OFlags::RDONLY, Mode::empty())?;
    refused("write without the right", Errno::BADF, rustix::io::write(&reader, b"x"))?;
    let writer = open(&path, OFlags::WRONLY, Mode::empty())?;
    refused("read without the right", Errno::BADF, rustix::io::read(&writer, &mut buffer[..]))?;
    let folder = open(&scene.folder, OFlags::RDONLY, Mode::empty())?;
    refused("read of a directory", Errno::ISDIR, rustix::io::read(&folder, &mut buffer[..]))
}

fn parts_of_one_file(scene: &Scene<'_>) -> Result<()> {
    const THREADS: usize = 8;
    const PIECE: usize = 1_777;
    const PIECES: usize = 400;
    let path = scene.path("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    // Neighbours within a block belong to different threads.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let file = &file;
                scope.spawn(move || {
                    (thread..PIECES).step_by(THREADS).try_for_each(|piece| {
                        let offset = (piece * PIECE) as u64;
                        file.write_all_at(&bytes(6, offset, PIECE), offset)
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => Ok(outcome?),
            Err(_) => anyhow::bail!("a thread ended early"),
        })
    })?;
    let wanted = bytes(6, 0, PIECE * PIECES);
    file_holds("from memory", &path, &wanted)?;
    drop_caches()?;
    file_holds("from the disk", &path, &wanted)
}
