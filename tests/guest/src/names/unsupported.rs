//! What VFS offers and cairnfs does not do yet: each call is refused by the error number at which programs fall back to something
//! else, and changes nothing. A call that has come is tried elsewhere, and goes from here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{
    fallocate, ioctl_ficlone, ioctl_setflags, open, removexattr, setxattr, FallocateFlags, IFlags, Mode,
    OFlags, XattrFlags,
};
use rustix::io::Errno;

use crate::cases::{equal, refused, Case, Scene, Skip};
use crate::filesystem::{ioctl, Kind};
use crate::status::{names_in, status_of};

pub(super) const CASES: &[Case] = &[
    Case::new("extended attributes and ACLs cannot be set", attributes),
    Case::new("fallocate, clones, direct I/O, files without a name", contents),
    Case::new("ioctls: flags, freeze, maps of extents", ioctls),
];

/// Owner, group and others may read; as setfacl hands it over, in little endian: version 2, then tag, permissions and id of each.
const ACL: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 4, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255,
    255,
];

fn only_cairnfs(scene: &Scene<'_>) -> Result<()> {
    match scene.filesystem.kind {
        Kind::Cairnfs => Ok(()),
        Kind::Ext4 | Kind::Tmpfs => Err(Skip("these have such calls").into()),
    }
}

/// What a refused call must not have touched.
fn unchanged(scene: &Scene<'_>, path: &Path) -> Result<()> {
    equal("names", names_in(&scene.folder)?, vec![b"file".to_vec()])?;
    equal("content", fs::read(path)?, b"kept".to_vec())?;
    equal("sectors", status_of(path)?.sectors, 8)?;
    let mut names = [0; 64];
    equal("bytes of attributes", rustix::fs::listxattr(path, &mut names[..])?, 0)
}

fn new_file(scene: &Scene<'_>) -> Result<(PathBuf, File)> {
    only_cairnfs(scene)?;
    let path = scene.path("file");
    fs::write(&path, "kept")?;
    let file = File::options().read(true).write(true).open(&path)?;
    file.sync_all()?;
    Ok((path, file))
}

fn attributes(scene: &Scene<'_>) -> Result<()> {
    let (path, _file) = new_file(scene)?;
    for name in ["user.name", "trusted.name", "security.name"] {
        let set = setxattr(&path, name, b"value", XattrFlags::empty());
        refused(name, Errno::OPNOTSUPP, set)?;
        refused("its removal", Errno::OPNOTSUPP, removexattr(&path, name))?;
    }
    for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
        refused(acl, Errno::OPNOTSUPP, setxattr(&path, acl, &ACL, XattrFlags::empty()))?;
    }
    unchanged(scene, &path)
}

fn contents(scene: &Scene<'_>) -> Result<()> {
    let (path, file) = new_file(scene)?;
    for flags in [
        FallocateFlags::empty(),
        FallocateFlags::KEEP_SIZE,
        FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
    ] {
        refused(&format!("fallocate {flags:?}"), Errno::OPNOTSUPP, fallocate(&file, flags, 0, 1 << 20))?;
    }
    refused("FICLONE", Errno::OPNOTSUPP, ioctl_ficlone(&file, File::open(&path)?))?;
    refused("O_DIRECT", Errno::INVAL, open(&path, OFlags::RDWR | OFlags::DIRECT, Mode::empty()))?;
    let unnamed = open(&scene.folder, OFlags::RDWR | OFlags::TMPFILE, Mode::RUSR);
    refused("O_TMPFILE", Errno::OPNOTSUPP, unnamed)?;
    unchanged(scene, &path)
}

/// Request, bytes of its argument, error. Numbers as in the kernel's `linux/fs.h`.
const IOCTLS: &[(&str, u32, usize, &str)] = &[
    ("FIFREEZE", 0xC004_5877, 4, "Operation not supported"),
    ("FS_IOC_FIEMAP", 0xC020_660B, 32, "Operation not supported"),
    ("FS_IOC_FSGETXATTR", 0x801C_581F, 28, "Inappropriate ioctl for device"),
    ("FITRIM", 0xC018_5879, 24, "Inappropriate ioctl for device"),
    ("FS_IOC_SETFSLABEL", 0x4100_9432, 256, "Inappropriate ioctl for device"),
];

fn ioctls(scene: &Scene<'_>) -> Result<()> {
    let (path, file) = new_file(scene)?;
    refused("FS_IOC_SETFLAGS", Errno::NOTTY, ioctl_setflags(&file, IFlags::IMMUTABLE))?;
    for (name, request, bytes, words) in IOCTLS {
        let outcome = ioctl(&path, *request, &vec![0; *bytes]);
        let said = format!("{:#}", outcome.err().with_context(|| format!("{name} succeeded"))?);
        ensure!(said.contains(words), "{name}: {said}, wanted was '{words}'");
    }
    unchanged(scene, &path)
}
