// SPDX-License-Identifier: GPL-2.0

//! fsck.cairnfs as its users call it: what it says, how it exits, and that it changes nothing.

use crate::image::{fill, leave_orphans, make, Facts, DEVICE_BLOCKS, PLATFORM};
use cairnfs_core::device::Device;
use cairnfs_core::format::layout::{get, put};
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use cairnfs_device::{Access, FileDevice};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
    facts: Facts,
}

/// The filesystem of `image` in a file.
fn file() -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let device = FileDevice::create(&path, DEVICE_BLOCKS * BLOCK_BYTES as u64).unwrap();
    make(&device);
    let facts = fill(&device);
    File { _directory: directory, path, facts }
}

impl File {
    fn device(&self) -> FileDevice {
        FileDevice::open(&self.path, Access::Exclusive).unwrap()
    }

    fn edit(&self, block: BlockNo, edit: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0; BLOCK_BYTES];
        let device = self.device();
        device.read(block, &mut bytes).unwrap();
        edit(&mut bytes);
        device.write(block, &bytes).unwrap();
    }

    fn digest(&self) -> Vec<u8> {
        let mut file = std::fs::File::open(&self.path).unwrap();
        let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut piece).unwrap() {
                0 => return hash.finalize().to_vec(),
                length => hash.update(&piece[..length]),
            }
        }
    }
}

fn fsck(options: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fsck-cairnfs")).args(options).arg(path).output().unwrap()
}

/// Exit code, standard output, standard error.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn sound_filesystems() {
    let file = file();
    let path = file.path.display();
    let before = file.digest();
    let (code, out, err) = said(&fsck(&["-p"], &file.path));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(&format!("{path}: clean, ")), "{out}");
    let (code, clean, err) = said(&fsck(&["-n"], &file.path));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(clean.starts_with(&format!("{path}: no errors, ")), "{clean}");
    assert_eq!(clean.split_once(", ").unwrap().1, out.split_once(", ").unwrap().1, "the totals are true");
    let (code, out, err) = said(&fsck(&["-nfvC"], &file.path));
    assert_eq!((code, err.as_str()), (0, ""), "no bar is drawn where there is no terminal");
    assert!(out.contains("           5 regular files\n") && out.contains("        3011 names\n"), "{out}");
    let (code, out, _) = said(&fsck(&["-nf", "--json"], &file.path));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["state"], &json["replayed"]), (0, &Value::from("checked"), &Value::Null));
    assert_eq!(
        (&json["summary"]["directories"], json["findings"].as_array().unwrap().len()),
        (&Value::from(4), 0)
    );
    assert_eq!(file.digest(), before);
}

#[test]
fn broken_filesystems() {
    let file = file();
    file.edit(file.facts.large_leaves[3], |bytes| bytes[2000] ^= 1);
    let before = file.digest();
    let (code, out, err) = said(&fsck(&["-n"], &file.path));
    assert_eq!((code, err.as_str()), (4, ""));
    let (large, leaf) = (file.facts.large, file.facts.large_leaves[3]);
    assert!(out.starts_with(&format!("inode {large}: block {leaf}: crc: the checksum is 0x")), "{out}");
    assert!(out.contains("What follows from the parts that cannot be read was left out.\n"), "{out}");
    assert!(out.contains(": 1 errors (damage 1, wrong 0, leaks 0) left uncorrected, "), "{out}");
    let (code, out, _) = said(&fsck(&["-nf", "--json"], &file.path));
    let json: Value = serde_json::from_str(&out).unwrap();
    let finding = &json["findings"][0];
    assert_eq!(
        (code, &finding["check"], &finding["severity"]),
        (4, &Value::from("crc"), &Value::from("damage"))
    );
    assert_eq!((&finding["inode"], &finding["block"]), (&Value::from(large.0), &Value::from(leaf.0)));
    assert_eq!(json["summary"]["is_complete"], false);
    // It is marked clean, which is believed where a boot script asks.
    assert_eq!(said(&fsck(&["-p"], &file.path)).0, 0);
    assert_eq!(file.digest(), before);
}

#[test]
fn a_dirty_journal_is_replayed_in_memory() {
    let file = file();
    leave_orphans(&file.device(), &file.facts);
    let before = file.digest();
    let (code, out, err) = said(&fsck(&["-n"], &file.path));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains(": the journal is dirty; 1 transactions were replayed in memory\n"), "{out}");
    assert!(out.contains(": no errors, "), "{out}");
    let (_, out, _) = said(&fsck(&["-n", "--json"], &file.path));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&json["replayed"]["transactions"], &json["replayed"]["orphans"]),
        (&Value::from(1), &Value::from(2))
    );
    assert_eq!(json["summary"]["orphans"], 2);
    assert_eq!(file.digest(), before);
}

#[test]
fn a_damaged_journal_is_reported_as_that() {
    let file = file();
    {
        // Two transactions; the second states that the first one was durable.
        let device = file.device();
        leave_orphans(&device, &file.facts);
    }
    let device = file.device();
    let superblock = cairnfs_device::load_superblock(&device, &PLATFORM).unwrap().superblock;
    let ring = BlockNo(superblock.journal_start.0 + 2);
    let first = first_record(&device, ring, superblock.journal_blocks - 2);
    // A copy of the record, later in the ring, states that the spoiled one was stable; its CRC is right for its bytes.
    let mut bytes = vec![0; BLOCK_BYTES];
    device.read(first.0, &mut bytes).unwrap();
    let header = first.1;
    let sequence: u64 = get(&bytes, header + 24).unwrap();
    let note = later_record(&bytes[header..header + 80], sequence, &superblock.uuid);
    let mut later = vec![0; BLOCK_BYTES];
    later[..80].copy_from_slice(&note);
    device.write(BlockNo(first.0 .0 + 100), &later).unwrap();
    bytes[header + 70] ^= 1;
    device.write(first.0, &bytes).unwrap();
    drop(device);
    let before = file.digest();
    let (code, out, err) = said(&fsck(&["-n"], &file.path));
    assert_eq!((code, err.as_str()), (4, ""), "{out}");
    assert!(
        out.contains("journal-damage: ") && out.contains("not checked, since the journal is damaged"),
        "{out}"
    );
    assert_eq!(file.digest(), before);
}

/// The block of the record with the highest sequence, and where in the block it begins.
fn first_record(device: &FileDevice, ring: BlockNo, blocks: u64) -> (BlockNo, usize) {
    let mut newest = (0, (ring, 0));
    for block in (ring.0..ring.0 + blocks).map(BlockNo) {
        let mut bytes = vec![0; BLOCK_BYTES];
        device.read(block, &mut bytes).unwrap();
        for at in (0..BLOCK_BYTES).step_by(512).filter(|at| bytes[*at..*at + 4] == *b"CRNr") {
            let sequence: u64 = get(&bytes, at + 24).unwrap();
            if sequence > newest.0 {
                newest = (sequence, (block, at));
            }
        }
    }
    newest.1
}

/// A record without payload, of the same generation, two sequences later.
fn later_record(header: &[u8], sequence: u64, uuid: &[u8; 16]) -> Vec<u8> {
    use cairnfs_core::format::journal::{record_crc, record_seed};
    use cairnfs_core::units::Generation;
    let mut record = header.to_vec();
    put(&mut record, 24, sequence + 2).unwrap();
    put(&mut record, 36, 0_u32).unwrap();
    put(&mut record, 56, sequence + 1).unwrap();
    let generation = Generation(get(&record, 32).unwrap());
    let crc = record_crc(&PLATFORM, record_seed(&PLATFORM, uuid, generation), &record);
    put(&mut record, 76, crc).unwrap();
    record
}

#[test]
fn a_lost_superblock_is_made_up_for_by_a_copy() {
    let file = file();
    for block in [0, 1] {
        file.edit(BlockNo(block), |bytes| bytes.fill(0));
    }
    let (code, out, err) = said(&fsck(&["-n"], &file.path));
    assert_eq!(code, 4, "{out}{err}");
    assert!(
        err.contains("the superblock is lost; the copy in block ") && out.contains("block 0: magic: "),
        "{err}{out}"
    );
    std::fs::write(&file.path, vec![0; 1 << 20]).unwrap();
    let (code, _, err) = said(&fsck(&["-n"], &file.path));
    assert_eq!(code, 8);
    assert!(err.contains("no superblock of cairnfs was found"), "{err}");
}

#[test]
fn usage_and_what_there_is_not_yet() {
    let file = file();
    let no_repair = "no repair yet; use -n";
    for (options, code) in
        [(&[][..], 8), (&["-f"], 8), (&["-fy"], 8), (&["-p"], 0), (&["-a"], 0), (&["-y"], 0)]
    {
        let (found, out, err) = said(&fsck(options, &file.path));
        assert_eq!(found, code, "{options:?}: {out}{err}");
        assert_eq!(err.contains(no_repair), code == 8, "{options:?}: {err}");
    }
    leave_orphans(&file.device(), &file.facts);
    let (code, _, err) = said(&fsck(&["-p"], &file.path));
    assert_eq!(code, 8);
    assert!(err.contains(no_repair), "{err}");
    assert_eq!(said(&fsck(&["-n", "-y"], &file.path)).0, 16);
    assert_eq!(said(&fsck(&["-n", "--no-such-option"], &file.path)).0, 16);
    assert_eq!(said(&fsck(&["-n"], Path::new("/no/such/device"))).0, 8);
    let version = Command::new(env!("CARGO_BIN_EXE_fsck-cairnfs")).arg("-V").output().unwrap();
    assert_eq!(said(&version).1, format!("fsck.cairnfs {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_large_sparse_filesystem_costs_what_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    make(&FileDevice::create(&path, 1 << 40).unwrap());
    let began = Instant::now();
    let (code, out, err) = said(&fsck(&["-nf"], &path));
    let took = began.elapsed();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    println!("1 TiB: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(10), "{took:?}");
}
