//! The filesystem under test: made on a scratch disk, mounted, unmounted, checked by its own checker.
//!
//! cairnfs is what is tested; ext4 and tmpfs are there to test the tests. A case that the references fail is wrong, or says
//! why cairnfs is to differ. The programs that make and check a filesystem are those of the host, brought into the guest.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use rustix::mount::{mount, mount_remount, unmount, MountFlags, UnmountFlags};

const TARGET: &str = "/mnt";

/// A type of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is tested.
    Cairnfs,
    /// The reference for all that needs a disk.
    Ext4,
    /// The reference for what the VFS does by itself.
    Tmpfs,
}

impl Kind {
    /// The type that `mount` calls by this name.
    ///
    /// # Errors
    /// For one that the tests do not know.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "cairnfs" => Self::Cairnfs,
            "ext4" => Self::Ext4,
            "tmpfs" => Self::Tmpfs,
            _ => bail!("no filesystem type {name}: cairnfs, ext4 or tmpfs"),
        })
    }

    /// What `mount` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cairnfs => "cairnfs",
            Self::Ext4 => "ext4",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// A filesystem on a disk of its own, with the place where it is mounted.
#[derive(Clone, Debug)]
pub struct Filesystem {
    /// Its type.
    pub kind: Kind,
    /// Its disk.
    pub device: String,
    target: PathBuf,
}

impl Filesystem {
    /// Makes a new filesystem of `size_bytes` (all of the disk without) and mounts it.
    ///
    /// # Errors
    /// When either fails.
    pub fn make(kind: Kind, device: &str, size_bytes: Option<u64>) -> Result<Self> {
        let blocks = size_bytes.map(|bytes| (bytes / 4096).to_string());
        let size: Vec<&str> = blocks.iter().map(String::as_str).collect();
        match kind {
            Kind::Cairnfs => run(&[&["mkfs-cairnfs", "-q", "-f", device], &size[..]].concat())?,
            Kind::Ext4 => {
                // As on a large disk, and with nothing left to be done behind the tests' back.
                let settings = ["-q", "-F", "-b", "4096", "-I", "256"];
                let at_once = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
                run(&[&["mkfs.ext4"], &settings[..], &at_once[..], &[device], &size[..]].concat())?;
            }
            Kind::Tmpfs => {}
        }
        let options = match (kind, size_bytes) {
            (Kind::Tmpfs, Some(bytes)) => format!("size={bytes}"),
            _ => String::new(),
        };
        let filesystem = Self { kind, device: device.to_owned(), target: TARGET.into() };
        filesystem.mount_with(MountFlags::empty(), &options)?;
        Ok(filesystem)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.target
    }

    /// The device that it is on.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether its contents outlive a mount.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.kind != Kind::Tmpfs
    }

    /// Mounts it.
    ///
    /// # Errors
    /// Those of `mount`.
    pub fn mount(&self) -> Result<()> {
        self.mount_with(MountFlags::empty(), "")
    }

    /// Mounts it in a certain way.
    ///
    /// # Errors
    /// Those of `mount`.
    pub fn mount_with(&self, flags: MountFlags, options: &str) -> Result<()> {
        let options = CString::new(options)?;
        mount(&self.device, &self.target, self.kind.name(), flags, options.as_c_str())
            .with_context(|| format!("mount of {} as {}", self.device, self.kind.name()))
    }

    /// Changes the flags of the mount: read-only, or none.
    ///
    /// # Errors
    /// Those of `mount`.
    pub fn remount(&self, flags: MountFlags) -> rustix::io::Result<()> {
        mount_remount(&self.target, flags, "")
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// Those of `umount`: EBUSY where a case left a file open.
    pub fn unmount(&self) -> Result<()> {
        unmount(&self.target, UnmountFlags::empty()).context("umount")
    }

    /// Unmounts and mounts again, with no page, inode or name of it left in memory between.
    ///
    /// # Errors
    /// When either fails.
    pub fn mount_again(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Has its checker look at it, unmounted; any finding is an error.
    ///
    /// # Errors
    /// For findings, and where the checker does not run.
    pub fn check(&self) -> Result<()> {
        match self.kind {
            Kind::Cairnfs => run(&["fsck-cairnfs", "-n", "-f", &self.device]),
            Kind::Ext4 => run(&["e2fsck", "-f", "-n", &self.device]),
            Kind::Tmpfs => Ok(()),
        }
    }

    /// Unmounts, checks, and mounts again.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn check_and_mount_again(&self) -> Result<()> {
        self.unmount()?;
        let checked = self.check();
        self.mount()?;
        checked
    }
}

/// Runs a program that must end with 0; its output is the error otherwise.
///
/// # Errors
/// When it does not start or ends otherwise.
pub fn run(words: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = words else { bail!("no program") };
    let output = Command::new(program).args(arguments).output().with_context(|| (*program).to_owned())?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// An ioctl on the file at `path`, with an argument that is read and written in place. Standard Rust has none that is safe to call,
/// perl is on every Debian.
///
/// # Errors
/// When it fails; the message has the words of the error number.
pub fn ioctl(path: &Path, request: u32, argument: &[u8]) -> Result<()> {
    const SCRIPT: &str = r#"open(my $file, "<", $ARGV[0]) or die "open: $!\n";
my $argument = pack("H*", $ARGV[2]);
defined(ioctl($file, hex($ARGV[1]), $argument)) or die "ioctl: $!\n";"#;
    let argument: String = argument.iter().map(|byte| format!("{byte:02x}")).collect();
    run(&["/bin/perl", "-e", SCRIPT, &path.to_string_lossy(), &format!("{request:x}"), &argument])
}

/// Gives the file at `path` another size.
///
/// # Errors
/// Those of open and ftruncate.
pub fn truncate(path: impl AsRef<Path>, size_bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(File::options().write(true).open(path)?, size_bytes)?)
}

/// Drops clean pages, names and inodes: what is looked at next comes from the disk.
///
/// # Errors
/// Those of the file that does it.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop_caches")
}
