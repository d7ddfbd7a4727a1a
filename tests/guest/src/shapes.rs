//! A filesystem with every shape that core makes: directories and extent trees of each height, filled to the brim and thinned out,
//! attributes of each namespace and size, inodes of each type with values that are rare.
//!
//! [`fill`] runs on the host (`make-test-image`), by the tools' own binding of core. In a guest (`guest-read-only`) [`compare`]
//! looks at the mount; both know from the same tables what there is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{ensure, Context as _, Result};
use cairnfs_core::attributes::SetMode;
use cairnfs_core::error::Error;
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::inode::ROOT;
use cairnfs_core::inode::NewInode;
use cairnfs_core::units::{InodeNo, BLOCK_BYTES};
use cairnfs_volume::Volume;
use rustix::fs::{makedev, FileType};

use crate::cases::equal;
use crate::status::{entries_of_open, open_directory, status_of, Time};

const BLOCK: u64 = BLOCK_BYTES as u64;
const COMMIT_EVERY: u64 = 500;

// Directories -----------------------------------------------------------------------------------------------------------

/// A directory of links to one file.
struct Directory {
    names: u64,
    /// How long each name is at least.
    name_bytes: usize,
    /// Of so many names one is left, when all have been made.
    leaves_one_of: u64,
}

const fn directory(names: u64, name_bytes: usize, leaves_one_of: u64) -> Directory {
    Directory { names, name_bytes, leaves_one_of }
}

/// In the inode, in a leaf, in two and more, under nodes of nodes; short and long names; leaves with one name each, and none.
const DIRECTORIES: &[Directory] = &[
    directory(0, 1, 1),
    directory(1, 255, 1),
    directory(2, 1, 1),
    directory(9, 1, 1),
    directory(40, 1, 1),
    directory(15, 255, 1),
    directory(30, 255, 1),
    directory(300, 100, 1),
    directory(6_000, 20, 1),
    directory(3_000, 255, 1),
    directory(3_000, 200, 60),
    directory(400, 60, 401),
];

impl Directory {
    fn name(&self, number: u64) -> String {
        format!("{number:_<width$}", width = self.name_bytes)
    }

    /// Number 0 would be one of the others' too: who leaves one of more than there are leaves none.
    fn is_left(&self, number: u64) -> bool {
        (number + 1).is_multiple_of(self.leaves_one_of)
    }

    fn names_left(&self) -> Vec<Vec<u8>> {
        let left = (0..self.names).filter(|number| self.is_left(*number));
        let mut names: Vec<_> = left.map(|number| self.name(number).into_bytes()).collect();
        names.sort();
        names
    }
}

// Contents --------------------------------------------------------------------------------------------------------------

/// In which order a file's pieces, each of a block with a hole behind it, were written.
#[derive(Clone, Copy)]
enum Order {
    Up,
    Down,
    /// Each second one first, and then those between, and so on.
    Halves,
}

/// How many pieces a file has: in the inode, in a leaf, in several, under nodes of nodes.
const FILES: &[(u64, Order)] = &[
    (0, Order::Up),
    (1, Order::Up),
    (5, Order::Down),
    (40, Order::Halves),
    (200, Order::Up),
    (1_200, Order::Halves),
    (3_000, Order::Down),
];
/// Where the last piece of each file is, as well: far behind all others.
const FAR_BYTE: u64 = 1 << 44;

impl Order {
    fn of(self, pieces: u64) -> Vec<u64> {
        match self {
            Self::Up => (0..pieces).collect(),
            Self::Down => (0..pieces).rev().collect(),
            Self::Halves => {
                let bits = u64::BITS - pieces.leading_zeros();
                let mixed = (0..1 << bits).map(|number: u64| number.reverse_bits() >> (u64::BITS - bits));
                mixed.filter(|piece| *piece < pieces).collect()
            }
        }
    }
}

fn piece(file: usize, number: u64) -> Vec<u8> {
    (0..BLOCK).map(|place| (place + number * 7 + file as u64) as u8 | 1).collect()
}

// Attributes ------------------------------------------------------------------------------------------------------------

/// Of each file: namespace, number of attributes, bytes of a name behind the namespace, bytes of a value.
const ATTRIBUTES: &[&[(Namespace, usize, usize, usize)]] = &[
    &[(Namespace::User, 1, 1, 0)],
    &[(Namespace::User, 1, 1, 60), (Namespace::Trusted, 1, 2, 20)],
    &[(Namespace::User, 1, 200, 1), (Namespace::Security, 1, 1, 1)],
    &[(Namespace::User, 30, 10, 40), (Namespace::Trusted, 10, 20, 5), (Namespace::Security, 10, 5, 0)],
    &[(Namespace::Trusted, 1, 1, 3_900)],
    &[(Namespace::User, 10, 100, 250)],
];

fn attribute_name(number: usize, bytes: usize) -> String {
    format!("{number:a>bytes$}")
}

fn attribute_value(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place + number) as u8).collect()
}

// Inodes ----------------------------------------------------------------------------------------------------------------

/// An inode that is nothing but its attributes: permissions with type, owners, device, all its times.
struct Special {
    name: &'static str,
    mode: u16,
    uid: u32,
    gid: u32,
    device: (u32, u32),
    time_ns: i64,
}

const SECOND_NS: i64 = 1_000_000_000;
const SPECIALS: &[Special] = &[
    Special { name: "pipe", mode: 0o010_600, uid: 70_000, gid: 80_000, device: (0, 0), time_ns: 1 },
    Special { name: "socket", mode: 0o140_777, uid: 0, gid: 1, device: (0, 0), time_ns: -SECOND_NS },
    Special { name: "null", mode: 0o020_666, uid: 0, gid: 0, device: (1, 3), time_ns: -5 * SECOND_NS + 7 },
    Special {
        name: "disk",
        mode: 0o060_640,
        uid: u32::MAX - 1,
        gid: u32::MAX - 1,
        device: (4_000, 1_000_000),
        time_ns: 9_000_000_000 * SECOND_NS + 999_999_999,
    },
    Special { name: "set-id", mode: 0o106_755, uid: 1, gid: 2, device: (0, 0), time_ns: 0 },
    Special { name: "sticky", mode: 0o041_777, uid: 3, gid: 4, device: (0, 0), time_ns: SECOND_NS - 1 },
];

// On the host -----------------------------------------------------------------------------------------------------------

struct Work<'v, 'd> {
    volume: &'v Volume<'d>,
    done: u64,
}

impl Work<'_, '_> {
    fn create(&self, parent: InodeNo, name: &str, mode: u16) -> Result<InodeNo, Error> {
        let new = NewInode { mode, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 1 };
        Ok(self.volume.create(parent, name.as_bytes(), &new, None)?.0)
    }

    fn step(&mut self) -> Result<(), Error> {
        self.done += 1;
        if self.done.is_multiple_of(COMMIT_EVERY) {
            self.volume.commit()?;
        }
        Ok(())
    }

    fn directories(&mut self) -> Result<(), Error> {
        let file = self.create(ROOT, "linked", 0o100_644)?;
        for (index, shape) in DIRECTORIES.iter().enumerate() {
            let parent = self.create(ROOT, &format!("directory {index}"), 0o040_755)?;
            for number in 0..shape.names {
                self.volume.link(file, parent, shape.name(number).as_bytes())?;
                self.step()?;
            }
            for number in (0..shape.names).filter(|number| !shape.is_left(*number)) {
                self.volume.unlink(parent, shape.name(number).as_bytes())?;
                self.step()?;
            }
        }
        Ok(())
    }

    fn files(&mut self) -> Result<(), Error> {
        for (index, (pieces, order)) in FILES.iter().enumerate() {
            let file = self.create(ROOT, &format!("file {index}"), 0o100_644)?;
            self.volume.write_at(file, FAR_BYTE, &piece(index, *pieces))?;
            for number in order.of(*pieces) {
                self.volume.write_at(file, 2 * number * BLOCK, &piece(index, number))?;
                self.step()?;
            }
        }
        Ok(())
    }

    fn attributes(&mut self) -> Result<(), Error> {
        for (index, groups) in ATTRIBUTES.iter().enumerate() {
            let file = self.create(ROOT, &format!("attributes {index}"), 0o100_644)?;
            for (namespace, count, name_bytes, value_bytes) in *groups {
                for number in 0..*count {
                    let name = attribute_name(number, *name_bytes);
                    let value = attribute_value(number, *value_bytes);
                    let key = (*namespace, name.as_bytes());
                    self.volume.set_extended(file, key, Some(&value), SetMode::Create)?;
                    self.step()?;
                }
            }
        }
        Ok(())
    }

    fn specials(&self) -> Result<(), Error> {
        for special in SPECIALS {
            let new = NewInode {
                mode: special.mode,
                uid: special.uid,
                gid: special.gid,
                // As the kernel has it in memory (new_encode_dev).
                device: special.device.1 & 0xFF | special.device.0 << 8 | (special.device.1 & !0xFF) << 12,
                flags: 0,
                project: 0,
                now_ns: special.time_ns,
            };
            self.volume.create(ROOT, special.name.as_bytes(), &new, None)?;
        }
        Ok(())
    }
}

/// Fills a new filesystem.
///
/// # Errors
/// Those of the operations.
pub fn fill(volume: &Volume<'_>) -> Result<(), Error> {
    let mut work = Work { volume, done: 0 };
    work.directories()?;
    work.files()?;
    work.attributes()?;
    work.specials()
}

// In a guest ------------------------------------------------------------------------------------------------------------

fn compare_directories(root: &Path) -> Result<()> {
    let linked = status_of(&root.join("linked"))?;
    let mut links = 1;
    for (index, shape) in DIRECTORIES.iter().enumerate() {
        let folder = root.join(format!("directory {index}"));
        let entries = entries_of_open(open_directory(&folder)?)?;
        ensure!(
            entries.iter().all(|(_, kind, _)| *kind == FileType::RegularFile),
            "an entry has another type"
        );
        let mut names: Vec<_> = entries.into_iter().map(|(name, ..)| name).collect();
        names.sort();
        ensure!(names == shape.names_left(), "directory {index}: {} other names", names.len());
        for number in 0..shape.names {
            let path = folder.join(shape.name(number));
            let found = path.symlink_metadata().is_ok();
            ensure!(
                found == shape.is_left(number),
                "directory {index}: {} is there: {found}",
                path.display()
            );
        }
        if let Some(number) = (0..shape.names).find(|number| shape.is_left(*number)) {
            equal("a link's inode", status_of(&folder.join(shape.name(number)))?.inode, linked.inode)?;
        }
        equal("links of a directory", status_of(&folder)?.links, 2)?;
        links += names.len() as u32;
    }
    equal("links of the file that all names lead to", linked.links, links)
}

fn compare_files(root: &Path) -> Result<()> {
    for (index, (pieces, _)) in FILES.iter().enumerate() {
        let path = root.join(format!("file {index}"));
        let status = status_of(&path)?;
        equal("bytes", status.size, FAR_BYTE + BLOCK)?;
        let file = File::open(&path)?;
        let mut found = vec![0; (2 * pieces * BLOCK) as usize];
        file.read_exact_at(&mut found, 0)?;
        for (number, both) in (0..*pieces).zip(found.chunks(2 * BLOCK_BYTES)) {
            let (data, hole) = both.split_at(BLOCK_BYTES);
            ensure!(data == piece(index, number), "file {index}: piece {number} has other bytes");
            ensure!(hole.iter().all(|byte| *byte == 0), "file {index}: behind piece {number} is no hole");
        }
        let mut last = vec![0; BLOCK_BYTES];
        file.read_exact_at(&mut last, FAR_BYTE)?;
        ensure!(last == piece(index, *pieces), "file {index}: the last piece has other bytes");
        let least = (pieces + 1) * BLOCK / 512;
        ensure!(
            (least..least + 30 * 8).contains(&status.sectors),
            "file {index}: {} sectors",
            status.sectors
        );
    }
    Ok(())
}

fn compare_attributes(root: &Path) -> Result<()> {
    for (index, groups) in ATTRIBUTES.iter().enumerate() {
        let path = root.join(format!("attributes {index}"));
        let mut wanted = BTreeMap::new();
        for (namespace, count, name_bytes, value_bytes) in *groups {
            for number in 0..*count {
                let name = format!("{}{}", namespace.prefix(), attribute_name(number, *name_bytes));
                wanted.insert(name, attribute_value(number, *value_bytes));
            }
        }
        let mut buffer = vec![0; 65_536];
        let length = rustix::fs::listxattr(&path, &mut buffer[..])?;
        let listed = String::from_utf8(buffer[..length].to_vec())?;
        let mut names: Vec<_> = listed.split_terminator('\0').map(str::to_owned).collect();
        names.sort();
        equal("names of attributes", names, wanted.keys().cloned().collect())?;
        for (name, value) in wanted {
            let length = rustix::fs::getxattr(&path, &name, &mut buffer[..]).with_context(|| name.clone())?;
            ensure!(buffer[..length] == value, "{name} has another value, of {length} bytes");
        }
    }
    Ok(())
}

fn compare_specials(root: &Path) -> Result<()> {
    for special in SPECIALS {
        let found = status_of(&root.join(special.name))?;
        let seconds = special.time_ns.div_euclid(SECOND_NS);
        let time = Time { seconds, nanoseconds: special.time_ns.rem_euclid(SECOND_NS) as u32 };
        equal(
            special.name,
            (found.mode, found.uid, found.gid),
            (special.mode.into(), special.uid, special.gid),
        )?;
        let device = makedev(found.device.0, found.device.1);
        equal("device", device, makedev(special.device.0, special.device.1))?;
        equal("times", [found.atime, found.mtime, found.ctime, found.btime], [time; 4])?;
    }
    Ok(())
}

/// What is mounted at `root` must be what [`fill`] has made, and nothing else.
///
/// # Errors
/// The first difference; and those of the calls that look.
pub fn compare(root: &Path) -> Result<()> {
    let names = fs::read_dir(root)?.count();
    let wanted = 1 + DIRECTORIES.len() + FILES.len() + ATTRIBUTES.len() + SPECIALS.len();
    equal("names in the root", names, wanted)?;
    compare_directories(root)?;
    compare_files(root)?;
    compare_attributes(root)?;
    compare_specials(root)
}
