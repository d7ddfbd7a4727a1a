//! All that statx says of an inode, and snapshots of whole trees to be compared.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use rustix::fs::{
    open, statx, AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxFlags, StatxTimestamp, CWD,
};
use sha2::{Digest as _, Sha256};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, before it negative.
    pub seconds: i64,
    /// Of the second.
    pub nanoseconds: u32,
}

impl From<StatxTimestamp> for Time {
    fn from(time: StatxTimestamp) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
    }
}

/// An inode as statx shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub inode: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Names that lead to it.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Of 512 bytes.
    pub sectors: u64,
    /// Major and minor number of a device file.
    pub device: (u32, u32),
    /// Last read.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// When it was made; zero where that is not kept.
    pub btime: Time,
}

impl From<Statx> for Status {
    fn from(found: Statx) -> Self {
        Self {
            inode: found.stx_ino,
            mode: u32::from(found.stx_mode),
            links: found.stx_nlink,
            uid: found.stx_uid,
            gid: found.stx_gid,
            size: found.stx_size,
            sectors: found.stx_blocks,
            device: (found.stx_rdev_major, found.stx_rdev_minor),
            atime: found.stx_atime.into(),
            mtime: found.stx_mtime.into(),
            ctime: found.stx_ctime.into(),
            btime: found.stx_btime.into(),
        }
    }
}

impl Status {
    /// The permissions, with setuid, setgid and sticky.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// What it is.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// Of a path; a symbolic link is not followed.
///
/// # Errors
/// Those of statx.
pub fn status_of(path: &Path) -> Result<Status> {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::ALL)
        .with_context(|| format!("statx of {}", path.display()))?;
    Ok(found.into())
}

/// Of what is open.
///
/// # Errors
/// Those of statx.
pub fn status_of_open(file: impl AsFd) -> Result<Status> {
    Ok(statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::ALL).context("statx of an open file")?.into())
}

/// An entry of a directory: name, type as the entry has it, and the position behind it.
pub type Entry = (Vec<u8>, FileType, u64);

/// The entries from `file`'s position on, without `.` and `..`.
///
/// # Errors
/// Those of getdents.
pub fn entries_of_open(file: impl AsFd) -> Result<Vec<Entry>> {
    let mut buffer = Vec::with_capacity(4096);
    let mut reader = RawDir::new(file, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push((name.to_vec(), entry.file_type(), entry.next_entry_cookie()));
        }
    }
    Ok(entries)
}

/// All names of a directory, sorted; one that comes twice is an error.
///
/// # Errors
/// For names that come twice, and those of open and getdents.
pub fn names_in(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let file = open_directory(folder)?;
    let mut names: Vec<_> = entries_of_open(&file)?.into_iter().map(|(name, ..)| name).collect();
    names.sort();
    let double = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(double.is_none(), "{} comes twice", String::from_utf8_lossy(&double.unwrap_or_default()[0]));
    Ok(names)
}

/// Opens a directory to be read.
///
/// # Errors
/// Those of open.
pub fn open_directory(folder: &Path) -> Result<rustix::fd::OwnedFd> {
    open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open of {}", folder.display()))
}

/// SHA-256 of a file's contents; its access time stays.
///
/// # Errors
/// Those of open and read.
pub fn digest_of(path: &Path) -> Result<[u8; 32]> {
    let file = open(path, OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open of {}", path.display()))?;
    let mut file = File::from(file);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).with_context(|| format!("read of {}", path.display()))?;
        if length == 0 {
            return Ok(digest.finalize().into());
        }
        digest.update(&buffer[..length]);
    }
}

/// What there is to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    status: Status,
    target: Option<PathBuf>,
    digest: Option<[u8; 32]>,
}

/// A tree: every name below a folder with all that can be seen of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Content>);

impl Snapshot {
    /// Takes one of `root`. Reading directories and links moves their access times once, so the tree is walked before.
    ///
    /// # Errors
    /// Those of the calls that look.
    pub fn take(root: &Path) -> Result<Self> {
        // The clock of inodes has coarse steps. An access time is moved as long as it is not behind the change times: a walk in the
        // step of the last change would leave them equal, and the next one would move them.
        std::thread::sleep(std::time::Duration::from_millis(20));
        Self::walk(root)?;
        Self::walk(root).map(Self)
    }

    fn walk(root: &Path) -> Result<BTreeMap<PathBuf, Content>> {
        let mut found = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(path) = pending.pop() {
            let content = Self::content(&path)?;
            if content.status.file_type() == FileType::Directory {
                for entry in fs::read_dir(&path)? {
                    pending.push(entry?.path());
                }
            }
            found.insert(path, content);
        }
        Ok(found)
    }

    fn content(path: &Path) -> Result<Content> {
        let status = status_of(path)?;
        let target = (status.file_type() == FileType::Symlink).then(|| fs::read_link(path)).transpose()?;
        let digest = (status.file_type() == FileType::RegularFile).then(|| digest_of(path)).transpose()?;
        Ok(Content { status, target, digest })
    }

    /// How many names there are.
    #[must_use]
    pub fn names(&self) -> usize {
        self.0.len()
    }

    /// `later` must be the same in every respect.
    ///
    /// # Errors
    /// The first differences, and how many there are.
    pub fn compare(&self, later: &Self) -> Result<()> {
        let mut differences = Vec::new();
        for (path, content) in &self.0 {
            match later.0.get(path) {
                None => differences.push(format!("{} is gone", path.display())),
                Some(other) if other != content => {
                    differences.push(format!("{}:\n  {content:?}\n  {other:?}", path.display()));
                }
                Some(_) => {}
            }
        }
        let new = later.0.keys().filter(|path| !self.0.contains_key(*path));
        differences.extend(new.map(|path| format!("{} is new", path.display())));
        let shown = differences.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n");
        ensure!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
        Ok(())
    }
}

/// Number of the inode, of `..` too, by the ordinary call.
///
/// # Errors
/// Those of stat.
pub fn inode_of(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.ino())
}
