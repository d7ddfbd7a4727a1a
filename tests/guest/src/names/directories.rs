//! Large directories, read while they change: positions, types, nothing missed, nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{mknodat, seek, FileType, Mode, RawDir, SeekFrom, CWD};
use rustix::io::Errno;

use crate::cases::{equal, needs_a_disk, refused, share, Case, Scene};
use crate::filesystem::drop_caches;
use crate::status::{entries_of_open, names_in, open_directory, status_of, Entry};

pub(super) const CASES: &[Case] = &[
    Case::new("thousands of entries are found, listed, removed", many_entries),
    Case::new("entries come with their types", types),
    Case::new("going on at any position", positions),
    Case::new("positions outlive removals and a remount", stable_positions),
    Case::new("a directory that changes while it is read", changing),
    Case::new("a directory emptied while it is read", emptied),
    Case::new("rewinding shows what is new", rewinding),
    Case::new("names of all lengths come and go", mixed_lengths),
];

fn entries() -> usize {
    share(5_000)
}

fn name_of(number: usize) -> String {
    format!("entry {number} {}", "n".repeat(number % 60))
}

fn fill(folder: &Path, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
    for number in numbers {
        fs::write(folder.join(name_of(number)), "").with_context(|| format!("entry {number}"))?;
    }
    Ok(())
}

fn many_entries(scene: &Scene<'_>) -> Result<()> {
    fill(&scene.folder, 0..entries())?;
    let mut wanted: Vec<Vec<u8>> = (0..entries()).map(|number| name_of(number).into_bytes()).collect();
    wanted.sort();
    equal("names", names_in(&scene.folder)? == wanted, true)?;
    drop_caches()?;
    equal("names from the disk", names_in(&scene.folder)? == wanted, true)?;
    for number in 0..entries() {
        ensure!(scene.path(name_of(number)).exists(), "entry {number} is not found");
        ensure!(!scene.path(format!("{} ", name_of(number))).exists(), "a name that nobody made is found");
    }
    for number in (0..entries()).filter(|number| number % 10 != 0) {
        fs::remove_file(scene.path(name_of(number)))?;
    }
    drop_caches()?;
    equal("names that are left", names_in(&scene.folder)?.len(), entries() / 10)?;
    fill(&scene.folder, 1..100)?;
    for number in (0..entries()).filter(|number| number % 10 == 0 || *number < 100) {
        fs::remove_file(scene.path(name_of(number))).with_context(|| format!("entry {number}"))?;
    }
    ensure!(names_in(&scene.folder)?.is_empty(), "names are left");
    Ok(())
}

fn types(scene: &Scene<'_>) -> Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("folder"))?;
    symlink("x", scene.path("link"))?;
    let nodes = [
        ("fifo", FileType::Fifo),
        ("socket", FileType::Socket),
        ("character", FileType::CharacterDevice),
        ("block", FileType::BlockDevice),
    ];
    for (name, kind) in nodes {
        mknodat(CWD, scene.path(name), kind, mode, 0x0103)?;
    }
    let plain =
        [("file", FileType::RegularFile), ("folder", FileType::Directory), ("link", FileType::Symlink)];
    let wanted: BTreeMap<Vec<u8>, FileType> =
        nodes.into_iter().chain(plain).map(|(name, kind)| (name.into(), kind)).collect();
    let found = entries_of_open(open_directory(&scene.folder)?)?;
    equal("types", found.into_iter().map(|(name, kind, _)| (name, kind)).collect(), wanted)?;
    // `.` and `..`, which the others do not show.
    let file = open_directory(&scene.path("folder"))?;
    let mut buffer = Vec::with_capacity(4096);
    let mut reader = RawDir::new(&file, buffer.spare_capacity_mut());
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        equal("type", entry.file_type(), FileType::Directory)?;
        found.insert(entry.file_name().to_bytes().to_vec(), entry.ino());
    }
    let (own, parent) = (status_of(&scene.path("folder"))?.inode, status_of(&scene.folder)?.inode);
    equal("`.` and `..`", found, [(b".".to_vec(), own), (b"..".to_vec(), parent)].into())
}

fn from_position(folder: &Path, position: u64) -> Result<Vec<Entry>> {
    let file = open_directory(folder)?;
    seek(&file, SeekFrom::Start(position))?;
    entries_of_open(&file)
}

fn positions(scene: &Scene<'_>) -> Result<()> {
    fill(&scene.folder, 0..1_000)?;
    let all = from_position(&scene.folder, 0)?;
    equal("entries", all.len(), 1_000)?;
    let positions: BTreeSet<u64> = all.iter().map(|(.., position)| *position).collect();
    equal("different positions", positions.len(), 1_000)?;
    for index in (0..1_000).step_by(37).chain([999]) {
        let rest = from_position(&scene.folder, all[index].2)?;
        ensure!(rest == all[index + 1..], "from behind entry {index}: {} entries", rest.len());
    }
    let file = open_directory(&scene.folder)?;
    refused("a position before the beginning", Errno::INVAL, seek(&file, SeekFrom::Current(-1)))?;
    // Back and forth with one open directory, as telldir and seekdir do.
    for index in [500, 3, 998, 0, 640] {
        seek(&file, SeekFrom::Start(all[index].2))?;
        let rest = entries_of_open(&file)?;
        ensure!(rest == all[index + 1..], "back and forth to entry {index}: {} entries", rest.len());
    }
    Ok(())
}

fn stable_positions(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let count = 600;
    fill(&scene.folder, 0..count)?;
    let all = from_position(&scene.folder, 0)?;
    ensure!(all.windows(2).all(|pair| pair[0].2 < pair[1].2), "positions do not rise");
    // Positions of entries that are gone are positions still.
    let stays = |index: usize| !index.is_multiple_of(3);
    for (_, (name, ..)) in all.iter().enumerate().filter(|(index, _)| !stays(*index)) {
        fs::remove_file(scene.path(OsStr::from_bytes(name)))?;
    }
    let compare = |what: &str| -> Result<()> {
        for index in (0..count).step_by(20) {
            let rest = all.iter().enumerate().skip(index + 1);
            let wanted: Vec<&[u8]> =
                rest.filter(|(index, _)| stays(*index)).map(|(_, entry)| &entry.0[..]).collect();
            let found = from_position(&scene.folder, all[index].2)?;
            let found: Vec<&[u8]> = found.iter().map(|entry| &entry.0[..]).collect();
            ensure!(found == wanted, "{what}, entry {index}: {} names, wanted {}", found.len(), wanted.len());
        }
        Ok(())
    };
    compare("after removals")?;
    drop_caches()?;
    compare("from the disk")?;
    scene.filesystem.mount_again()?;
    compare("after a remount")
}

fn changing(scene: &Scene<'_>) -> Result<()> {
    fill(&scene.folder, 0..entries())?;
    let file = open_directory(&scene.folder)?;
    let mut buffer = Vec::with_capacity(2048);
    let mut reader = RawDir::new(&file, buffer.spare_capacity_mut());
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut step = 0;
    // While it is read: entries with a number that 3 divides go, seen already or not; as many others come.
    while let Some(entry) = reader.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        *seen.entry(name).or_default() += 1;
        if step < entries() / 3 {
            let gone = (step * 1_009) % (entries() / 3) * 3;
            fs::remove_file(scene.path(name_of(gone))).with_context(|| format!("entry {gone}"))?;
            fs::write(scene.path(format!("new {step}")), "")?;
            step += 1;
        }
    }
    equal("changes made", step, entries() / 3)?;
    let twice = seen.iter().find(|(_, count)| **count > 1);
    ensure!(twice.is_none(), "{:?} came twice", twice.map(|(name, _)| String::from_utf8_lossy(name)));
    let stayed = |number: &usize| !number.is_multiple_of(3) || *number >= entries() / 3 * 3;
    let missed: Vec<_> = (0..entries())
        .filter(stayed)
        .filter(|number| !seen.contains_key(name_of(*number).as_bytes()))
        .collect();
    ensure!(missed.is_empty(), "{} entries that stayed were missed: {missed:?}", missed.len());
    equal("names at the end", names_in(&scene.folder)?.len(), entries())
}

fn emptied(scene: &Scene<'_>) -> Result<()> {
    // As `rm -r` does it: what has been read is removed before more is read.
    fs::create_dir(scene.path("folder"))?;
    let entries = share(2_000);
    fill(&scene.path("folder"), 0..entries)?;
    let file = open_directory(&scene.path("folder"))?;
    let mut buffer = Vec::with_capacity(1024);
    let mut reader = RawDir::new(&file, buffer.spare_capacity_mut());
    let mut removed = 0;
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            fs::remove_file(scene.path("folder").join(OsStr::from_bytes(name)))?;
            removed += 1;
        }
    }
    equal("removed", removed, entries)?;
    fs::remove_dir(scene.path("folder"))?;
    Ok(())
}

fn rewinding(scene: &Scene<'_>) -> Result<()> {
    let file = open_directory(&scene.folder)?;
    for count in 1..=40 {
        fs::write(scene.path(format!("{count} {}", "x".repeat(count * 5))), "")?;
        seek(&file, SeekFrom::Start(0))?;
        equal("entries", entries_of_open(&file)?.len(), count)?;
        equal("entries behind the end", entries_of_open(&file)?.len(), 0)?;
    }
    Ok(())
}

fn mixed_lengths(scene: &Scene<'_>) -> Result<()> {
    // Entries of very different lengths in the places of removed ones.
    let name = |round: usize, number: usize| {
        let length = (number * 37 + round * 91) % 240 + 8;
        format!("{round:02}{number:04}{}", "z".repeat(length - 6))
    };
    let mut present: BTreeSet<String> = BTreeSet::new();
    for round in 0..6 {
        for number in 0..share(300) {
            let new = name(round, number);
            fs::write(scene.path(&new), "")?;
            present.insert(new);
        }
        let going: Vec<String> = present.iter().skip(round).step_by(2).cloned().collect();
        for old in going {
            fs::remove_file(scene.path(&old))?;
            present.remove(&old);
        }
    }
    drop_caches()?;
    let wanted: Vec<Vec<u8>> = present.into_iter().map(String::into_bytes).collect();
    equal("names", names_in(&scene.folder)? == wanted, true)
}
