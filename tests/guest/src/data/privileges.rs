//! What gives a program privileges goes when somebody changes it: capabilities of files. (Set-id bits are among the names' cases.)
//!
//! Attributes cannot be set through a mount yet; the files come from a tree that mkfs copies.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{ensure, Result};
use rustix::fs::{chmod, chown, getxattr, setxattr, Mode, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

use crate::cases::{equal, Case, Scene, Skip};
use crate::filesystem::{run, truncate, Kind};

pub(super) const CASES: &[Case] =
    &[Case::new("capabilities of a file go when it is written, cut or given away", capabilities)];

const NAME: &str = "security.capability";
const NAMES: [&str; 4] = ["written", "cut", "given", "left alone"];
/// `struct vfs_cap_data` (include/uapi/linux/capability.h) of version 2, effective: CAP_SETUID is permitted.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 1 << 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A filesystem with files that have the capability, in place of the scene's.
fn make_files(scene: &Scene<'_>) -> Result<()> {
    let tree = Path::new("/privileged");
    fs::create_dir_all(tree)?;
    mount("privileged", tree, "tmpfs", MountFlags::empty(), None)?;
    for name in NAMES {
        let path = tree.join(name);
        fs::write(&path, "program")?;
        chmod(&path, Mode::from_raw_mode(0o777))?;
        setxattr(&path, NAME, &CAPABILITY, XattrFlags::empty())?;
    }
    scene.filesystem.unmount()?;
    let made = run(&["mkfs-cairnfs", "-q", "-f", "-d", "/privileged", scene.filesystem.device()]);
    unmount(tree, UnmountFlags::empty())?;
    scene.filesystem.mount()?;
    made
}

fn has_capability(path: &Path) -> Result<bool> {
    let mut value = [0; 64];
    match getxattr(path, NAME, &mut value[..]) {
        Ok(length) => {
            equal("the capability", &value[..length], &CAPABILITY[..])?;
            Ok(true)
        }
        Err(Errno::NODATA) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn capabilities(scene: &Scene<'_>) -> Result<()> {
    if scene.filesystem.kind != Kind::Cairnfs {
        return Err(Skip("the tree is copied by mkfs.cairnfs").into());
    }
    make_files(scene)?;
    let path = |name: &str| scene.filesystem.root().join(name);
    for name in NAMES {
        ensure!(has_capability(&path(name))?, "{name}: mkfs has not copied it");
    }
    File::options().append(true).open(path("written"))?.write_all(b", changed")?;
    truncate(path("cut"), 3)?;
    chown(path("given"), Some(Uid::from_raw(1000)), None)?;
    for round in ["at once", "after a remount"] {
        for name in NAMES {
            equal(&format!("{name}, {round}"), has_capability(&path(name))?, name == "left alone")?;
        }
        scene.filesystem.check_and_mount_again()?;
    }
    Ok(())
}
