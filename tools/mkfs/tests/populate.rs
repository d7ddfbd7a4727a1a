// SPDX-License-Identifier: GPL-2.0

//! `mkfs.cairnfs -d`: what was copied reads back bit for bit through core, and with a fixed identity twice the same image.

use cairnfs_core::format::inode::ROOT;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::units::InodeNo;
use cairnfs_device::{Access, FileDevice, StdPlatform};
use cairnfs_volume::Volume;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

const BLOCK: u64 = 4096;

/// A tree with `files` small files in nested directories, and one of everything else.
fn make_source(root: &Path, files: usize) {
    for number in 0..files {
        let directory = root.join(format!("d{}", number % 37)).join(format!("e{}", number % 5));
        fs::create_dir_all(&directory).unwrap();
        let content: Vec<u8> = (0..number % 9000).map(|at| (at * 7 + number) as u8).collect();
        fs::write(directory.join(format!("file {number}")), content).unwrap();
    }
    // Every other block is a hole: each mapped block is an extent of its own.
    let sparse = File::create(root.join("sparse")).unwrap();
    for block in 0..3000_u64 {
        sparse.write_at(&[(block % 251) as u8 + 1; BLOCK as usize], block * 2 * BLOCK).unwrap();
    }
    sparse.set_len(6100 * BLOCK + 17).unwrap();
    symlink("sparse", root.join("short link")).unwrap();
    symlink("x".repeat(4000), root.join("long link")).unwrap();
    fs::hard_link(root.join("sparse"), root.join("second name")).unwrap();
    fs::set_permissions(root.join("sparse"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
}

fn make_image(source: &Path, image: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_mkfs-cairnfs"))
        .args(["-q", "-U", "11111111-2222-3333-4444-555555555555"])
        .args(["--hash-key", "000102030405060708090a0b0c0d0e0f", "-d"])
        .arg(source)
        .arg(image)
        .arg("400M")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Compares a directory with its copy; returns the number of entries.
fn compare(volume: &Volume<'_>, number: InodeNo, path: &Path) -> usize {
    let mut copies = volume.entries(number).unwrap();
    copies.sort();
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(copies.len(), names.len(), "{}", path.display());
    let mut entries = names.len();
    for ((copy, inode, _), name) in copies.iter().zip(&names) {
        assert_eq!(copy, name.as_encoded_bytes());
        let path = path.join(name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let core = volume.read_inode(*inode).unwrap().core;
        assert_eq!(u32::from(core.mode), metadata.mode(), "{}", path.display());
        assert_eq!((core.uid, core.gid), (metadata.uid(), metadata.gid()));
        assert_eq!(u64::from(core.links), metadata.nlink(), "{}", path.display());
        assert_eq!(core.modified_ns, metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
        if metadata.is_dir() {
            entries += compare(volume, *inode, &path);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            assert_eq!(volume.read_link(*inode).unwrap(), target.as_os_str().as_encoded_bytes());
        } else {
            assert_eq!(core.size_bytes, metadata.len());
            assert!(volume.read_all(*inode).unwrap() == fs::read(&path).unwrap(), "{}", path.display());
        }
    }
    entries
}

#[test]
fn ten_thousand_files_and_thousands_of_extents_read_back() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    make_source(&source, 10_000);
    let image = scratch.path().join("image");
    make_image(&source, &image);
    let device = FileDevice::open(&image, Access::Exclusive).unwrap();
    let platform = StdPlatform::new();
    let volume = Volume::mount(&device, &platform).unwrap();
    let entries = compare(&volume, ROOT, &source);
    assert!(entries > 10_000, "{entries}");
    let sparse = volume.lookup(ROOT, b"sparse").unwrap().unwrap().inode;
    let inode = volume.read_inode(sparse).unwrap();
    let mut extents = 0;
    cairnfs_core::extent_map::visit(&volume, &inode, &mut |_| {
        extents += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(extents, 3000, "holes stay holes");
    volume.unmount().unwrap();
}

#[test]
fn the_same_source_and_identity_give_the_same_image() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    make_source(&source, 200);
    let sums: Vec<_> = ["one", "two"]
        .iter()
        .map(|name| {
            let image = scratch.path().join(name);
            make_image(&source, &image);
            Sha256::digest(fs::read(&image).unwrap())
        })
        .collect();
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn a_source_that_does_not_fit_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("large"), vec![1; 20 << 20]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mkfs-cairnfs"))
        .arg("-q")
        .arg("-d")
        .arg(&source)
        .arg(scratch.path().join("image"))
        .arg("16M")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("large") && message.contains("no space left"), "{message}");
}
