// SPDX-License-Identifier: GPL-2.0

//! Filesystems in image files that were left without an unmount, and ways to spoil their journals.

use cairnfs_core::device::Device;
use cairnfs_core::error::Result;
use cairnfs_core::format::journal::{record_crc, record_seed, RecordHeader, RECORD_CRC_OFFSET};
use cairnfs_core::format::layout::put;
use cairnfs_core::format::superblock::RecoveryReport;
use cairnfs_core::inode::NewInode;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::operation::rename::{Mode, Place};
use cairnfs_core::units::{BlockNo, InodeNo, BLOCK_BYTES};
use cairnfs_device::{MemoryDevice, StdPlatform};
use cairnfs_volume::Volume;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) const PLATFORM: StdPlatform = StdPlatform::new();
pub(crate) const ROOT: InodeNo = InodeNo(2);
const DEVICE_BLOCKS: u64 = 8_192;
/// Behind superblock pair and header pair.
const RING_START: u64 = 4 * BLOCK_BYTES as u64;

pub(crate) const fn new_inode(mode: u16) -> NewInode {
    NewInode { mode, uid: 1000, gid: 100, device: 0, flags: 0, project: 0, now_ns: 5 }
}

/// A filesystem in memory, and in a file when the tool is to see it.
pub(crate) struct Image {
    pub(crate) device: MemoryDevice,
    directory: tempfile::TempDir,
}

impl Image {
    /// mkfs.
    pub(crate) fn new(journal_bytes: u64) -> Self {
        let device = MemoryDevice::new(DEVICE_BLOCKS);
        let request = Request {
            available_blocks: DEVICE_BLOCKS,
            physical_block_bytes: 512,
            journal_bytes: Some(journal_bytes),
            group_bytes: None,
            bytes_per_inode: None,
        };
        let identity = Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1 };
        make::write(&device, &PLATFORM, &Plan::new(&request).unwrap(), &identity, &mut |_| ()).unwrap();
        Self { device, directory: tempfile::tempdir().unwrap() }
    }

    /// Uses it, and leaves without unmounting: four transactions of one record each.
    pub(crate) fn dirty() -> Self {
        let image = Self::new(4 << 20);
        let volume = Volume::mount(&image.device, &PLATFORM).unwrap();
        let (directory, _) = volume.create(ROOT, b"directory", &new_inode(0o040_755), None).unwrap();
        volume.commit().unwrap();
        let (file, _) = volume.create(directory, b"old \x1b name", &new_inode(0o100_640), None).unwrap();
        volume.write_at(file, 0, b"hello, world").unwrap();
        volume.commit().unwrap();
        let (from, to) = (place(directory, b"old \x1b name"), place(ROOT, b"new name"));
        volume.rename(from, to, Mode::Replace, None).unwrap();
        volume.commit().unwrap();
        volume.unlink(ROOT, b"new name").unwrap();
        volume.commit().unwrap();
        drop(volume);
        image
    }

    /// A transaction of three records, and nothing else.
    pub(crate) fn with_fragments() -> Self {
        let image = Self::new(8 << 20);
        let volume = Volume::mount(&image.device, &PLATFORM).unwrap();
        let (file, _) = volume.create(ROOT, b"file", &new_inode(0o100_644), None).unwrap();
        for number in 0..3000 {
            let name = format!("name number {number}, long enough to take some room in the journal");
            volume.link(file, ROOT, name.as_bytes()).unwrap();
        }
        volume.commit().unwrap();
        drop(volume);
        image
    }

    /// A journal whose records go on at the start of the ring.
    pub(crate) fn wrapped() -> Self {
        let image = Self::new(4 << 20);
        let volume = Volume::mount(&image.device, &PLATFORM).unwrap();
        let ring_bytes = volume.journal().ring().bytes();
        // Bytes ever written, in a ring that was empty.
        let written = || volume.journal().ring().head().absolute;
        let work = || {
            let name = |number| format!("name {number}");
            for number in 0..40 {
                volume.create(ROOT, name(number).as_bytes(), &new_inode(0o100_644), None).unwrap();
            }
            volume.commit().unwrap();
            for number in 0..40 {
                volume.unlink(ROOT, name(number).as_bytes()).unwrap();
            }
            volume.remove_orphans().unwrap();
            volume.commit().unwrap();
        };
        // Up to a few records before the end, all of it goes home; the rest does not.
        while written() + 100_000 < ring_bytes {
            work();
            volume.checkpoint().unwrap();
        }
        while written() < ring_bytes + 20_000 {
            work();
        }
        drop(volume);
        image
    }

    /// Where the image file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Writes the image file.
    pub(crate) fn save(&self) {
        let file = File::create(self.path()).unwrap();
        file.set_len(DEVICE_BLOCKS * BLOCK_BYTES as u64).unwrap();
        for (block, content) in self.device.contents() {
            file.write_all_at(&content, block * BLOCK_BYTES as u64).unwrap();
        }
    }

    /// Runs `cairnfs journal` on it; the image file is the same afterwards.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.save();
        let before = std::fs::read(self.path()).unwrap();
        let output = run(words, &self.path());
        assert!(std::fs::read(self.path()).unwrap() == before, "the image has changed");
        output
    }

    /// The JSON of a command that must end with `code`.
    pub(crate) fn json(&self, command: &str, code: i32) -> Value {
        let output = self.run(&[command, "--json"]);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The text of a command that must end with `code`.
    pub(crate) fn text(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a mount does.
    pub(crate) fn recovery(&self) -> Result<RecoveryReport> {
        let device = self.device.clone();
        let volume = Volume::mount(&device, &PLATFORM)?;
        Ok(*volume.recovery())
    }

    /// Changes one bit of the device.
    pub(crate) fn flip(&self, byte: u64) {
        let block = BlockNo(byte / BLOCK_BYTES as u64);
        let mut bytes = vec![0; BLOCK_BYTES];
        self.device.read(block, &mut bytes).unwrap();
        bytes[(byte % BLOCK_BYTES as u64) as usize] ^= 1;
        self.device.write(block, &bytes).unwrap();
    }

    /// Changes one bit of a record's payload.
    pub(crate) fn flip_in_record(&self, record: &Value) {
        self.flip(RING_START + record["position"].as_u64().unwrap() + RecordHeader::SIZE as u64 + 20);
    }

    /// Changes the payload of a record, and makes its CRC right again.
    pub(crate) fn forge(&self, record: &Value, change: &mut dyn FnMut(&mut [u8])) {
        let start = RING_START + record["position"].as_u64().unwrap();
        let length = RecordHeader::SIZE + record["payload_bytes"].as_u64().unwrap() as usize;
        let within = (start % BLOCK_BYTES as u64) as usize;
        let block = BlockNo(start / BLOCK_BYTES as u64);
        let mut blocks = vec![0; (within + length).next_multiple_of(BLOCK_BYTES)];
        self.device.read(block, &mut blocks).unwrap();
        let bytes = &mut blocks[within..within + length];
        change(&mut bytes[RecordHeader::SIZE..]);
        let generation = RecordHeader::decode(bytes, 0).unwrap().generation;
        let crc = record_crc(&PLATFORM, record_seed(&PLATFORM, &[7; 16], generation), bytes);
        put(bytes, RECORD_CRC_OFFSET, crc).unwrap();
        self.device.write(block, &blocks).unwrap();
    }
}

const fn place(parent: InodeNo, name: &[u8]) -> Place<'_> {
    Place { parent, name }
}

/// Runs `cairnfs journal`.
pub(crate) fn run(words: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairnfs")).arg("journal").args(words).arg(path).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The records of a listing.
pub(crate) fn records(listing: &Value) -> &[Value] {
    listing["records"].as_array().unwrap()
}
