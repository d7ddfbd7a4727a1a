// SPDX-License-Identifier: GPL-2.0

//! Who uses a device or an image file already.
//!
//! The kernel refuses O_EXCL on a block device that is mounted or claimed; this says in words by whom, and also knows of image
//! files behind a loop device, for which O_EXCL means nothing. (`/proc/self/mountinfo`: proc(5); `/sys/block`: the
//! loop driver's attributes.)

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Somebody who uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Mounted there.
    Mount(PathBuf),
    /// The file is behind this loop device.
    Loop(PathBuf),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mount(at) => write!(f, "is mounted on {}", at.display()),
            Self::Loop(device) => write!(f, "is attached to {}", device.display()),
        }
    }
}

/// All users of `path` that can be seen from here.
pub fn users_of(path: &Path) -> Vec<User> {
    let Ok(metadata) = fs::metadata(path) else {
        return Vec::new();
    };
    if metadata.file_type().is_block_device() {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let device = metadata.rdev();
        mounts_of(&table, rustix::fs::major(device), rustix::fs::minor(device), path)
    } else {
        loops_of(path, Path::new("/sys/block"))
    }
}

fn mounts_of(table: &str, major: u32, minor: u32, path: &Path) -> Vec<User> {
    let number = format!("{major}:{minor}");
    let same = |line: &&str| {
        let mut fields = line.split(' ');
        let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
        // A filesystem over several devices has a number of its own and only its source tells.
        fields.nth(2) == Some(&number) || source.is_some_and(|source| Path::new(&unescape(source)) == path)
    };
    let place = |line: &str| line.split(' ').nth(4).map(|at| User::Mount(PathBuf::from(unescape(at))));
    table.lines().filter(same).filter_map(place).collect()
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escape, character);
    }
    text
}

fn loops_of(path: &Path, sys_block: &Path) -> Vec<User> {
    let (Ok(path), Ok(devices)) = (path.canonicalize(), fs::read_dir(sys_block)) else {
        return Vec::new();
    };
    let backed_by_path = |device: &fs::DirEntry| {
        fs::read_to_string(device.path().join("loop/backing_file"))
            .is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == path)
    };
    let device_file = |device: fs::DirEntry| User::Loop(Path::new("/dev").join(device.file_name()));
    devices.filter_map(Result::ok).filter(backed_by_path).map(device_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 253:1 / / rw,relatime - ext4 /dev/vda1 rw
40 22 0:44 / /big\\040disk rw shared:7 - btrfs /dev/sdb rw,space_cache
41 22 7:3 / /mnt rw - cairnfs /dev/loop3 rw
42 22 7:3 /sub /mnt2 rw - cairnfs /dev/loop3 rw
";

    #[test]
    fn mounts_by_number_and_by_source() {
        let at = |path: &str| User::Mount(PathBuf::from(path));
        assert_eq!(mounts_of(TABLE, 7, 3, Path::new("/dev/loop3")), [at("/mnt"), at("/mnt2")]);
        assert_eq!(mounts_of(TABLE, 8, 16, Path::new("/dev/sdb")), [at("/big disk")]);
        assert_eq!(mounts_of(TABLE, 53, 1, Path::new("/dev/sdc")), []);
    }

    #[test]
    fn image_files_behind_loop_devices() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        fs::write(&image, "").unwrap();
        let attributes = directory.path().join("block/loop5/loop");
        fs::create_dir_all(&attributes).unwrap();
        fs::write(attributes.join("backing_file"), format!("{}\n", image.canonicalize().unwrap().display()))
            .unwrap();
        let sys_block = directory.path().join("block");
        assert_eq!(loops_of(&image, &sys_block), [User::Loop(PathBuf::from("/dev/loop5"))]);
        assert_eq!(loops_of(&attributes, &sys_block), []);
    }
}
