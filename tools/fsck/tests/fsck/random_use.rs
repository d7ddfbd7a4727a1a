// SPDX-License-Identifier: GPL-2.0

//! Whatever is done to a filesystem, it is sound afterwards: random operations, then a clean unmount, or a crash and recovery.

use crate::image::{make, new_inode, DEVICE_BLOCKS, PLATFORM};
use cairnfs_core::attributes::SetMode;
use cairnfs_core::check::{self, Finding, Options, Subject};
use cairnfs_core::error::Error;
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::inode::ROOT;
use cairnfs_core::journal::replay;
use cairnfs_core::operation::rename::{Mode, Place};
use cairnfs_core::units::{InodeNo, BLOCK_BYTES};
use cairnfs_device::{load_superblock, MemoryDevice};
use cairnfs_volume::Volume;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEEDS: u64 = 24;
const STEPS: u32 = 400;
const DIRECTORIES: usize = 4;

/// A name that may or may not be there: few enough that operations meet.
fn name(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let number: u32 = rng.random_range(0..40);
    let padding = if number.is_multiple_of(3) { "x".repeat(100) } else { String::new() };
    format!("{padding}{number}").into_bytes()
}

struct User<'v, 'd> {
    volume: &'v Volume<'d>,
    rng: ChaCha8Rng,
    directories: Vec<InodeNo>,
}

impl User<'_, '_> {
    fn directory(&mut self) -> InodeNo {
        self.directories[self.rng.random_range(0..self.directories.len())]
    }

    /// The inode of a name, if there is one.
    fn some_inode(&mut self) -> Result<InodeNo, Error> {
        let (directory, name) = (self.directory(), name(&mut self.rng));
        Ok(self.volume.lookup(directory, &name)?.ok_or(Error::NotFound)?.inode)
    }

    fn step(&mut self) -> Result<(), Error> {
        let (directory, name_a, name_b) = (self.directory(), name(&mut self.rng), name(&mut self.rng));
        let volume = self.volume;
        match self.rng.random_range(0..100) {
            0..25 => volume.create(directory, &name_a, &new_inode(0o100_644), None).map(drop),
            25..30 => {
                let target = vec![b't'; self.rng.random_range(1..4000)];
                volume.create(directory, &name_a, &new_inode(0o120_777), Some(&target)).map(drop)
            }
            30..34 => {
                let (made, _) = volume.create(directory, &name_a, &new_inode(0o040_755), None)?;
                if self.directories.len() < DIRECTORIES {
                    self.directories.push(made);
                }
                Ok(())
            }
            34..40 => {
                let number = self.some_inode()?;
                volume.link(number, directory, &name_a).map(drop)
            }
            40..52 => volume.unlink(directory, &name_a).map(drop),
            52..55 => {
                let (gone, _) = volume.remove_directory(directory, &name_a)?;
                self.directories.retain(|number| *number != gone);
                Ok(())
            }
            55..63 => {
                let mode = [Mode::Replace, Mode::NoReplace, Mode::Exchange][self.rng.random_range(0..3)];
                // Directories stay where they are: that none becomes its own ancestor is the VFS' affair.
                let is_directory = |parent, name: &[u8]| {
                    let entry = volume.lookup(parent, name)?;
                    Ok::<_, Error>(entry.is_some_and(|entry| entry.file_type == 4))
                };
                let to = self.directory();
                if is_directory(directory, &name_a)? || is_directory(to, &name_b)? {
                    return Ok(());
                }
                let (from, to) =
                    (Place { parent: directory, name: &name_a }, Place { parent: to, name: &name_b });
                volume.rename(from, to, mode, None).map(drop)
            }
            63..78 => {
                let number = self.some_file()?;
                let offset =
                    self.rng.random_range(0..60) * BLOCK_BYTES as u64 + self.rng.random_range(0..2) * 1000;
                let bytes = vec![1; self.rng.random_range(1..5 * BLOCK_BYTES)];
                volume.write_at(number, offset, &bytes)
            }
            78..84 => {
                let number = self.some_file()?;
                volume.truncate(number, self.rng.random_range(0..200_000)).map(drop)
            }
            84..92 => {
                let number = self.some_inode()?;
                let value = vec![2; self.rng.random_range(0..1500)];
                let value = self.rng.random_bool(0.8).then_some(&value[..]);
                volume.set_extended(number, (Namespace::User, &name_b), value, SetMode::Either).map(drop)
            }
            92..96 => volume.remove_orphan_step().map(drop),
            96..98 => volume.commit().map(drop),
            _ => volume.checkpoint().map(drop),
        }
    }

    fn some_file(&mut self) -> Result<InodeNo, Error> {
        let (directory, name) = (self.directory(), name(&mut self.rng));
        let entry = self.volume.lookup(directory, &name)?.ok_or(Error::NotFound)?;
        if entry.file_type == 8 {
            Ok(entry.inode)
        } else {
            Err(Error::InvalidArgument)
        }
    }
}

/// What the world may answer to a random wish.
const fn is_refusal(error: Error) -> bool {
    matches!(
        error,
        Error::Exists
            | Error::NotFound
            | Error::NotADirectory
            | Error::IsADirectory
            | Error::NotEmpty
            | Error::InvalidArgument
            | Error::NoAttribute
            | Error::NoAttributeSpace
            | Error::NotPermitted
    )
}

fn findings(device: &MemoryDevice, options: Options) -> Vec<Finding> {
    let superblock = load_superblock(device, &PLATFORM).unwrap().superblock;
    let geometry = Geometry::new(&superblock, DEVICE_BLOCKS).unwrap();
    if options.after_crash {
        replay::recover(device, &PLATFORM, &superblock, &geometry).unwrap();
    }
    let subject = Subject { device, platform: &PLATFORM, superblock: &superblock, geometry: &geometry };
    let mut findings = Vec::new();
    let mut sink = |finding: &Finding| {
        findings.push(*finding);
        Ok(())
    };
    check::run(&subject, options, &mut sink, &mut |_, _, _| ()).unwrap();
    findings
}

#[test]
fn what_was_used_is_sound() {
    let mut done = 0;
    for seed in 0..SEEDS {
        let device = MemoryDevice::new(DEVICE_BLOCKS);
        make(&device);
        for round in 0..3 {
            let volume = Volume::mount(&device, &PLATFORM).unwrap();
            let rng = ChaCha8Rng::seed_from_u64(seed * 8 + round);
            let mut user = User { volume: &volume, rng, directories: vec![ROOT] };
            for step in 0..STEPS {
                match user.step() {
                    Ok(()) => done += 1,
                    Err(error) if is_refusal(error) => {}
                    Err(error) => panic!("seed {seed}, round {round}, step {step}: {error}"),
                }
            }
            let after_crash = round != 1;
            if after_crash {
                drop(volume);
            } else {
                volume.unmount().unwrap();
            }
            assert_eq!(findings(&device, Options { after_crash }), [], "seed {seed}, round {round}");
        }
    }
    assert!(done > SEEDS * u64::from(STEPS) / 2, "{done} operations were done");
}
