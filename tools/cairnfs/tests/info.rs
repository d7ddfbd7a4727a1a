// SPDX-License-Identifier: GPL-2.0

//! `cairnfs info` on sound and on damaged filesystems.

use cairnfs_core::device::Device;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use cairnfs_device::{Access, FileDevice, StdPlatform};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PLATFORM: StdPlatform = StdPlatform::new();

/// An image file of 300 MiB: journal of 1200 blocks, three groups from block 1280 on.
fn image(directory: &Path) -> PathBuf {
    let path = directory.join("image");
    let device = FileDevice::create(&path, 300 << 20).unwrap();
    let request = Request {
        available_blocks: device.blocks(),
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: None,
    };
    let mut label = [0; 64];
    label[..4].copy_from_slice(b"data");
    let identity =
        Identity { uuid: [0x4F; 16], label, hash_key: [1; 16], created_ns: 1_700_000_000_000_000_000 };
    make::write(&device, &PLATFORM, &Plan::new(&request).unwrap(), &identity, &mut |_| ()).unwrap();
    path
}

fn spoil(path: &Path, blocks: &[u64]) {
    let device = FileDevice::open(path, Access::Exclusive).unwrap();
    for block in blocks {
        let mut bytes = vec![0; BLOCK_BYTES];
        device.read(BlockNo(*block), &mut bytes).unwrap();
        bytes[60] ^= 1;
        device.write(BlockNo(*block), &bytes).unwrap();
    }
}

fn info(path: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairnfs")).arg("info").args(options).arg(path).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_sound_filesystem_as_text_and_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path());
    let output = info(&path, &["-g"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "label                   \"data\"\n",
        "uuid                    4f4f4f4f-4f4f-4f4f-4f4f-4f4f4f4f4f4f\n",
        "size                    76800 blocks, 300 MiB\n",
        "created                 2023-11-14T22:13:20Z\n",
        "journal state           clean\n",
        "superblock copies       1280 34048\n",
        "       2        66816     9984         7932        16384          0\n",
    ];
    for line in expected {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let output = info(&path, &["--json", "--groups"]);
    let json = json(&output);
    assert_eq!(json["superblock"]["group_count"], 3);
    assert_eq!(json["journal"]["clean"], true);
    assert_eq!(json["groups"]["free_blocks"], json["superblock"]["free_blocks"]);
    assert_eq!(json["groups"]["free_inodes"], json["journal"]["free_inodes"]);
    assert_eq!(json["groups"]["list"][0]["table_mark"], 16);
    assert_eq!(json["damage"], serde_json::json!([]));
}

#[test]
fn one_of_the_pair_is_enough_and_the_other_is_named() {
    for (spoilt, used) in [(0, 1), (1, 0)] {
        let directory = tempfile::tempdir().unwrap();
        let path = image(directory.path());
        spoil(&path, &[spoilt]);
        let output = info(&path, &["--json"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said(&output).contains(&format!("superblock in block {spoilt}: corrupt: crc: block {spoilt}")),
            "{}",
            said(&output)
        );
        assert_eq!(json(&output)["superblock_block"], used);
    }
}

#[test]
fn without_the_pair_the_copy_behind_the_journal_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path());
    spoil(&path, &[0, 1]);
    let output = info(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["superblock_block"], 1280);
    // Copies can be named, and wrong names are refused.
    let output = info(&path, &["-b", "34048", "--json"]);
    assert_eq!((output.status.code(), json(&output)["superblock_block"].as_u64()), (Some(0), Some(34048)));
    let output = info(&path, &["-b", "7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("superblock in block 7: corrupt: magic: block 7"), "{}", said(&output));
}

#[test]
fn damage_beyond_the_superblock_is_named_and_the_rest_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path());
    spoil(&path, &[2, 34049]);
    let output = info(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json = json(&output);
    assert_eq!(json["journal"]["header_block"], 3);
    let damage: Vec<_> =
        json["damage"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(damage[0].starts_with("journal header in block 2: corrupt: crc: block 2:"), "{damage:?}");
    assert!(damage[1].starts_with("header of group 1: corrupt: crc: block 34049:"), "{damage:?}");
}

#[test]
fn what_is_no_filesystem_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeros");
    drop(FileDevice::create(&path, 16 << 20).unwrap());
    let output = info(&path, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("no superblock:") && said(&output).contains("magic: block 0"),
        "{}",
        said(&output)
    );
    assert!(output.stdout.is_empty());
    let output = info(&directory.path().join("absent"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot open"), "{}", said(&output));
}

/// An image cut short: the filesystem says more blocks than there are.
#[test]
fn a_filesystem_larger_than_its_device_is_shown_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path());
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(200 << 20).unwrap();
    let output = info(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("layout: corrupt: device-size: block 0"), "{}", said(&output));
    assert_eq!(json(&output)["superblock"]["label"], "data");
}

#[test]
fn who_stops_reading_ends_it_without_a_panic() {
    use std::os::unix::process::ExitStatusExt as _;

    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_cairnfs"))
        .arg("info")
        .arg(image(directory.path()))
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(
        output.status.signal(),
        Some(13),
        "SIGPIPE; it said: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stderr.is_empty());
}
