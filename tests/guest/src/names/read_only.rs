//! Remounting: read-only, where every call that would change something is refused, and back.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use anyhow::Result;
use rustix::fs::{
    access, chmod, chown, mknodat, renameat_with, utimensat, Access, AtFlags, FileType, Mode, RenameFlags,
    Timespec, Timestamps, Uid, CWD, UTIME_NOW,
};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::cases::{equal, needs_a_disk, refused, Case, Scene};
use crate::filesystem::truncate;
use crate::status::{status_of, Snapshot};

pub(super) const CASES: &[Case] = &[
    Case::new("a file open for writing: EBUSY", busy),
    Case::new("read-only: every change is refused, all can be read", read_only),
    Case::new("and back: writing goes on", and_back),
    Case::new("a mount that is read-only from the beginning", mounted_read_only),
];

fn busy(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    let file = File::create(&path)?;
    refused("open for writing", Errno::BUSY, scene.filesystem.remount(MountFlags::RDONLY))?;
    drop(file);
    let file = File::open(&path)?;
    fs::remove_file(&path)?;
    refused("open and unlinked", Errno::BUSY, scene.filesystem.remount(MountFlags::RDONLY))?;
    drop(file);
    fs::write(&path, "still writable")?;
    Ok(())
}

/// A folder with something of everything.
fn prepare(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "content")?;
    fs::create_dir_all(scene.path("folder/inner"))?;
    symlink("file", scene.path("link"))?;
    Ok(())
}

fn changes_are_refused(scene: &Scene<'_>) -> Result<()> {
    let path = |name: &str| scene.path(name);
    let mode = Mode::from_raw_mode(0o600);
    let no = Errno::ROFS;
    refused("create", no, File::create(path("new")))?;
    refused("open for writing", no, File::options().append(true).open(path("file")))?;
    refused("open with O_TRUNC", no, File::create(path("file")))?;
    refused("mkdir", no, fs::create_dir(path("new")))?;
    refused("unlink", no, fs::remove_file(path("file")))?;
    refused("rmdir", no, fs::remove_dir(path("folder/inner")))?;
    refused("rename", no, fs::rename(path("file"), path("new")))?;
    refused(
        "rename with a flag",
        no,
        renameat_with(CWD, path("file"), CWD, path("new"), RenameFlags::NOREPLACE),
    )?;
    refused("link", no, fs::hard_link(path("file"), path("new")))?;
    refused("symlink", no, symlink("x", path("new")))?;
    refused("mknod", no, mknodat(CWD, path("new"), FileType::Fifo, mode, 0))?;
    refused("chmod", no, chmod(path("file"), mode))?;
    refused("chown", no, chown(path("file"), Some(Uid::from_raw(1)), None))?;
    refused("truncate", no, truncate(path("file"), 1))?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    refused("utimensat", no, utimensat(CWD, path("file"), &times, AtFlags::empty()))?;
    let set = rustix::fs::setxattr(path("file"), "user.new", b"1", rustix::fs::XattrFlags::empty());
    refused("setxattr", no, set)?;
    refused("access", no, access(path("file"), Access::WRITE_OK))
}

fn read_only(scene: &Scene<'_>) -> Result<()> {
    prepare(scene)?;
    rustix::fs::sync();
    let before = Snapshot::take(&scene.folder)?;
    scene.filesystem.remount(MountFlags::RDONLY)?;
    let outcome = changes_are_refused(scene).and_then(|()| {
        equal("content", fs::read(scene.path("link"))?, b"content".to_vec())?;
        before.compare(&Snapshot::take(&scene.folder)?)
    });
    scene.filesystem.remount(MountFlags::empty())?;
    outcome
}

fn and_back(scene: &Scene<'_>) -> Result<()> {
    prepare(scene)?;
    for round in 0..10 {
        scene.filesystem.remount(MountFlags::RDONLY)?;
        let refusal = refused("create", Errno::ROFS, File::create(scene.path("new")));
        scene.filesystem.remount(MountFlags::empty())?;
        refusal?;
        fs::write(scene.path(round.to_string()), vec![round; 5000])?;
        fs::rename(scene.path("file"), scene.path("other"))?;
        fs::rename(scene.path("other"), scene.path("file"))?;
    }
    equal("links", status_of(&scene.folder)?.links, 3)?;
    for round in 0..10 {
        equal("content", fs::read(scene.path(round.to_string()))?, vec![round; 5000])?;
    }
    Ok(())
}

fn mounted_read_only(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    prepare(scene)?;
    rustix::fs::sync();
    let before = Snapshot::take(&scene.folder)?;
    let filesystem = scene.filesystem;
    filesystem.unmount()?;
    filesystem.mount_with(MountFlags::RDONLY, "")?;
    let outcome = changes_are_refused(scene).and_then(|()| before.compare(&Snapshot::take(&scene.folder)?));
    filesystem.remount(MountFlags::empty())?;
    outcome?;
    fs::write(scene.path("new"), "")?;
    filesystem.check_and_mount_again()
}
