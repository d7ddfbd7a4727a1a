//! Mounts images that were changed where it hurts: metadata with one field changed and the CRC made right again, so that
//! only the checks behind the CRC stand between the change and the kernel. Each is mounted and walked; whatever it
//! says must be an error number of a filesystem, and the kernel must stay whole (the runner judges its log).
//!
//! `guest-mutated-images DEVICE SCRATCH COUNT SEED`: the image is on DEVICE; SCRATCH, at least as large, is written to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{ensure, Context, Result};
use cairnfs_core::format::block_header::{self, BlockHeader};
use cairnfs_core::format::inode::{self, InodeCore, INODE_BYTES, INODE_MAGIC};
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};
use cairnfs_device::StdPlatform;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::io::Errno;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

const TARGET: &str = "/mnt";
/// What is read of one file at most, from either end: a changed size may be anything.
const READ_BYTES: u64 = 256 << 10;
/// How deep and how far a walk goes: a changed directory may show anything.
const DEPTH_MAX: usize = 12;
const INODES_MAX: usize = 20_000;

/// What may come back. EIO is what the page cache makes of a map that does not verify; the others come from names and types
/// that were changed to something valid.
const EXPECTED: &[Errno] = &[
    Errno::UCLEAN,
    Errno::BADMSG,
    Errno::INVAL,
    Errno::IO,
    Errno::ROFS,
    Errno::LOOP,
    Errno::NOENT,
    Errno::NOTDIR,
    Errno::NODATA,
    Errno::ACCESS,
    Errno::NXIO,
    Errno::NODEV,
    Errno::NAMETOOLONG,
    Errno::OVERFLOW,
    Errno::PERM,
    Errno::ISDIR,
];

/// Where a structure with a CRC of its own is.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    is_inode: bool,
}

fn structures(image: &[u8]) -> cairnfs_core::error::Result<Vec<Place>> {
    let platform = StdPlatform::new();
    let mut places = Vec::new();
    for (block, bytes) in image.chunks_exact(BLOCK_BYTES).enumerate() {
        let offset = block * BLOCK_BYTES;
        if bytes[..4] == block_header::MAGIC.to_le_bytes() {
            places.push(Place { offset, is_inode: false });
            continue;
        }
        for slot in (0..BLOCK_BYTES).step_by(INODE_BYTES) {
            let core = InodeCore::decode(bytes, slot)?;
            if core.magic == INODE_MAGIC
                && inode::verify(&platform, &bytes[slot..slot + INODE_BYTES], core.number, BlockNo(0)).is_ok()
            {
                places.push(Place { offset: offset + slot, is_inode: true });
            }
        }
    }
    Ok(places)
}

/// Changes one to four bytes of a structure behind what names it, and makes its CRC right.
fn mutate(bytes: &mut [u8], place: Place, random: &mut ChaCha8Rng) -> cairnfs_core::error::Result {
    let platform = StdPlatform::new();
    let first = if place.is_inode { 16 } else { BlockHeader::SIZE };
    // Most structures are empty at their end: changes near the beginning say more.
    let reach = if random.random_bool(0.7) { (first + 160).min(bytes.len()) } else { bytes.len() };
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(first..reach);
        bytes[at] = match random.random_range(0..4) {
            0 => 0,
            1 => 0xFF,
            2 => bytes[at] ^ (1 << random.random_range(0..8)),
            _ => random.random(),
        };
    }
    if place.is_inode {
        inode::seal(&platform, bytes)?;
    } else {
        let header = BlockHeader::decode(bytes, 0)?;
        block_header::seal(&platform, bytes, header.sequence)?;
    }
    Ok(())
}

/// What a walk met.
#[derive(Default)]
struct Walk {
    inodes: usize,
    errors: Vec<i32>,
}

impl Walk {
    fn note<T>(&mut self, outcome: std::io::Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.extend(error.raw_os_error());
                None
            }
        }
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        let Some(entries) = self.note(fs::read_dir(folder)) else { return };
        for entry in entries {
            if self.inodes >= INODES_MAX {
                return;
            }
            // An error of readdir comes again and again.
            let Some(entry) = self.note(entry) else { return };
            self.inodes += 1;
            self.one(&entry.path(), depth);
        }
    }

    fn one(&mut self, path: &Path, depth: usize) {
        let Some(metadata) = self.note(fs::symlink_metadata(path)) else { return };
        let mut buffer = vec![0_u8; 65_536];
        if let Some(length) = self.note(rustix::fs::llistxattr(path, &mut buffer[..]).map_err(Into::into)) {
            let names = buffer[..length].to_vec();
            for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                self.note(rustix::fs::lgetxattr(path, name, &mut buffer[..]).map_err(Into::into));
            }
        }
        if metadata.is_symlink() {
            self.note(fs::read_link(path));
        } else if metadata.is_dir() && depth < DEPTH_MAX {
            self.folder(path, depth + 1);
        } else if metadata.is_file() {
            self.file(path, metadata.len());
        }
    }

    fn file(&mut self, path: &Path, bytes: u64) {
        let Some(file) = self.note(File::open(path)) else { return };
        let mut content = Vec::new();
        self.note((&file).take(READ_BYTES).read_to_end(&mut content));
        let mut end = [0; 4096];
        self.note(file.read_at(&mut end, bytes.saturating_sub(4096)));
    }
}

/// Mounts and walks; the errors, the mount's own first.
fn try_image(scratch: &str) -> Result<Vec<i32>> {
    if let Err(error) = mount(scratch, TARGET, "cairnfs", MountFlags::RDONLY, None) {
        return Ok(vec![error.raw_os_error()]);
    }
    let mut walk = Walk::default();
    walk.folder(Path::new(TARGET), 0);
    unmount(TARGET, UnmountFlags::empty()).context("umount")?;
    Ok(walk.errors)
}

fn run(device: &str, scratch: &str, count: usize, seed: u64) -> Result<()> {
    let image = fs::read(device)?;
    let places = structures(&image).map_err(anyhow::Error::msg)?;
    ensure!(
        places.iter().filter(|place| !place.is_inode).count() > 10,
        "the image has too few blocks to change"
    );
    let disk = File::options().read(true).write(true).open(scratch)?;
    disk.write_all_at(&image, 0)?;
    disk.sync_all()?;
    ensure!(try_image(scratch)?.is_empty(), "the image itself has errors");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut seen: BTreeMap<i32, usize> = BTreeMap::new();
    let mut unharmed = 0;
    for number in 0..count {
        // Inodes are most of an image; the other structures must not be drowned by them.
        let wants_inode = random.random_bool(0.4);
        let place = loop {
            let place = places[random.random_range(0..places.len())];
            if place.is_inode == wants_inode {
                break place;
            }
        };
        let length = if place.is_inode { INODE_BYTES } else { BLOCK_BYTES };
        let original = &image[place.offset..place.offset + length];
        let mut changed = original.to_vec();
        mutate(&mut changed, place, &mut random).map_err(anyhow::Error::msg)?;
        disk.write_all_at(&changed, place.offset as u64)?;
        disk.sync_all()?;
        let errors =
            try_image(scratch).with_context(|| format!("image {number}, at byte {}", place.offset))?;
        unharmed += usize::from(errors.is_empty());
        for error in errors {
            let known = EXPECTED.iter().any(|expected| expected.raw_os_error() == error);
            ensure!(known, "image {number}, changed at byte {}: error {error}", place.offset);
            *seen.entry(error).or_default() += 1;
        }
        disk.write_all_at(original, place.offset as u64)?;
    }
    disk.sync_all()?;
    ensure!(try_image(scratch)?.is_empty(), "the image has errors after it was put right");
    println!(
        "{count} images of {} structures, {unharmed} without an error; errors by number: {seen:?}",
        places.len()
    );
    ensure!(seen.contains_key(&Errno::UCLEAN.raw_os_error()), "no change was found out");
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match &arguments[..] {
        [device, scratch, count, seed] => {
            count.parse().ok().zip(seed.parse().ok()).map(|numbers| (device, scratch, numbers))
        }
        _ => None,
    };
    let Some((device, scratch, (count, seed))) = parsed else {
        eprintln!("usage: guest-mutated-images DEVICE SCRATCH COUNT SEED");
        return ExitCode::from(2);
    };
    match run(device, scratch, count, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-mutated-images: {error:#}");
            ExitCode::FAILURE
        }
    }
}
