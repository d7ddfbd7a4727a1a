//! What another user may not do.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{anyhow, Result};
use rustix::fs::{
    access, chmod, chown, makedev, mknodat, utimensat, Access, AtFlags, FileType, Gid, Mode, Timespec,
    Timestamps, Uid, CWD, UTIME_NOW,
};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::cases::{equal, refused, Case, Scene};
use crate::status::status_of;

pub(super) const CASES: &[Case] = &[
    Case::new("owner, group and others", classes),
    Case::new("what a directory's permissions forbid", directories),
    Case::new("a sticky directory", sticky),
    Case::new("what only an owner may", owners_only),
    Case::new("what only root may", root_only),
    Case::new("another user's own files", own_files),
];

/// Runs `work` as another user: credentials are a thread's, so the thread ends with them.
///
/// # Errors
/// Those of `work`, and where the thread cannot change its user.
pub(super) fn as_user<T: Send>(
    uid: u32,
    groups: &[u32],
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let change = || -> Result<()> {
        set_thread_groups(&groups)?;
        let group = *groups.first().ok_or_else(|| anyhow!("no group"))?;
        set_thread_res_gid(group, group, group)?;
        let user = Uid::from_raw(uid);
        Ok(set_thread_res_uid(user, user, user)?)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| change().and_then(|()| work()));
        thread.join().map_err(|_| anyhow!("the user's thread ended early"))?
    })
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(chmod(path, Mode::from_raw_mode(mode))?)
}

fn set_owner(path: &Path, uid: u32, gid: u32) -> Result<()> {
    Ok(chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

fn classes(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "x")?;
    set_owner(&path, 1000, 2000)?;
    // The first class that fits decides, even where a later one would allow more.
    for (mode, owner, group, other) in [
        (0o400, true, false, false),
        (0o040, false, true, false),
        (0o004, false, false, true),
        (0o440, true, true, false),
        (0o000, false, false, false),
    ] {
        set_mode(&path, mode)?;
        for (uid, gid, may) in [(1000, 3000, owner), (1001, 2000, group), (1001, 3000, other)] {
            let outcome = as_user(uid, &[gid], || Ok(File::open(&path).map(drop)))?;
            let found = outcome.as_ref().err().and_then(std::io::Error::raw_os_error);
            let wanted = (!may).then_some(Errno::ACCESS.raw_os_error());
            equal(&format!("mode {mode:o}, user {uid}, group {gid}"), found, wanted)?;
        }
        File::open(&path)?;
    }
    set_mode(&path, 0o640)?;
    as_user(1001, &[3000, 2000], || {
        File::open(&path)?;
        refused("write by the group", Errno::ACCESS, File::options().write(true).open(&path))?;
        refused("access", Errno::ACCESS, access(&path, Access::WRITE_OK))
    })
}

fn directories(scene: &Scene<'_>) -> Result<()> {
    let folder = scene.path("folder");
    fs::create_dir(&folder)?;
    for name in ["file", "other"] {
        fs::write(folder.join(name), "")?;
        set_mode(&folder.join(name), 0o666)?;
    }
    fs::create_dir(folder.join("inner"))?;
    set_mode(&folder, 0o755)?;
    as_user(1000, &[1000], || {
        File::options().write(true).open(folder.join("file"))?;
        refused("create", Errno::ACCESS, File::create(folder.join("new")))?;
        refused("mkdir", Errno::ACCESS, fs::create_dir(folder.join("new")))?;
        refused("symlink", Errno::ACCESS, symlink("x", folder.join("new")))?;
        refused("link", Errno::ACCESS, fs::hard_link(folder.join("file"), folder.join("new")))?;
        refused("unlink", Errno::ACCESS, fs::remove_file(folder.join("file")))?;
        refused("rmdir", Errno::ACCESS, fs::remove_dir(folder.join("inner")))?;
        refused("rename", Errno::ACCESS, fs::rename(folder.join("file"), folder.join("new")))?;
        let node = mknodat(CWD, folder.join("new"), FileType::Fifo, Mode::from_raw_mode(0o600), 0);
        refused("mknod", Errno::ACCESS, node)
    })?;
    set_mode(&folder, 0o744)?;
    as_user(1000, &[1000], || {
        equal("names that may be listed", fs::read_dir(&folder)?.count(), 3)?;
        refused("a way through it", Errno::ACCESS, File::open(folder.join("file")))?;
        refused("stat behind it", Errno::ACCESS, fs::metadata(folder.join("none")))
    })?;
    set_mode(&folder, 0o711)?;
    as_user(1000, &[1000], || {
        File::open(folder.join("file"))?;
        refused("a list", Errno::ACCESS, fs::read_dir(&folder))
    })
}

fn sticky(scene: &Scene<'_>) -> Result<()> {
    let folder = scene.path("shared");
    fs::create_dir(&folder)?;
    set_mode(&folder, 0o1777)?;
    let mine = |name: &str| folder.join(name);
    as_user(1000, &[1000], || {
        fs::write(mine("file"), "")?;
        fs::create_dir(mine("inner"))?;
        Ok(())
    })?;
    as_user(1001, &[1001], || {
        fs::write(mine("other"), "")?;
        refused("unlink", Errno::PERM, fs::remove_file(mine("file")))?;
        refused("rmdir", Errno::PERM, fs::remove_dir(mine("inner")))?;
        refused("rename", Errno::PERM, fs::rename(mine("file"), mine("new")))?;
        refused("rename over it", Errno::PERM, fs::rename(mine("other"), mine("file")))
    })?;
    as_user(1000, &[1000], || {
        fs::rename(mine("file"), mine("renamed"))?;
        fs::remove_file(mine("renamed"))?;
        fs::remove_dir(mine("inner"))?;
        Ok(())
    })?;
    // The owner of the directory may what the owners of the names may.
    set_owner(&folder, 1002, 1002)?;
    as_user(1002, &[1002], || Ok(fs::remove_file(mine("other"))?))
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
const THEN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

fn set_times(path: &Path, time: Timespec) -> rustix::io::Result<()> {
    utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty())
}

fn owners_only(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "")?;
    set_owner(&path, 1000, 1000)?;
    set_mode(&path, 0o666)?;
    as_user(1001, &[1000], || {
        refused("chmod", Errno::PERM, chmod(&path, Mode::from_raw_mode(0o777)))?;
        refused("chown", Errno::PERM, chown(&path, Some(Uid::from_raw(1001)), None))?;
        refused("chown of the group", Errno::PERM, chown(&path, None, Some(Gid::from_raw(1000))))?;
        refused("a time of its own choice", Errno::PERM, set_times(&path, THEN))?;
        Ok(set_times(&path, NOW)?)
    })?;
    set_mode(&path, 0o644)?;
    as_user(1001, &[1001], || refused("the present time", Errno::ACCESS, set_times(&path, NOW)))?;
    as_user(1000, &[1000, 1001], || {
        chmod(&path, Mode::from_raw_mode(0o600))?;
        set_times(&path, THEN)?;
        chown(&path, None, Some(Gid::from_raw(1001)))?;
        refused("a group of others", Errno::PERM, chown(&path, None, Some(Gid::from_raw(1002))))?;
        refused("a gift", Errno::PERM, chown(&path, Some(Uid::from_raw(1001)), None))
    })?;
    let found = status_of(&path)?;
    equal("owner", (found.uid, found.gid, found.permissions()), (1000, 1001, 0o600))
}

fn root_only(scene: &Scene<'_>) -> Result<()> {
    set_mode(&scene.folder, 0o777)?;
    as_user(1000, &[1000], || {
        let mode = Mode::from_raw_mode(0o600);
        for kind in [FileType::CharacterDevice, FileType::BlockDevice] {
            // Not 0:0, which is no device but the mark of a whiteout, and free for all.
            refused("a device", Errno::PERM, mknodat(CWD, scene.path("new"), kind, mode, makedev(1, 3)))?;
        }
        mknodat(CWD, scene.path("fifo"), FileType::Fifo, mode, 0)?;
        Ok(mknodat(CWD, scene.path("socket"), FileType::Socket, mode, 0)?)
    })
}

fn own_files(scene: &Scene<'_>) -> Result<()> {
    set_mode(&scene.folder, 0o777)?;
    as_user(1000, &[2000], || {
        fs::write(scene.path("file"), "own")?;
        fs::create_dir(scene.path("folder"))?;
        symlink("file", scene.path("link"))?;
        fs::write(scene.path("folder/file"), "")?;
        fs::rename(scene.path("folder/file"), scene.path("folder/other"))?;
        fs::remove_file(scene.path("folder/other"))?;
        Ok(())
    })?;
    for name in ["file", "folder", "link"] {
        let found = status_of(&scene.path(name))?;
        equal(name, (found.uid, found.gid), (1000, 2000))?;
    }
    // In a setgid directory a stranger to the group gets no setgid program.
    let shared = scene.path("shared");
    fs::create_dir(&shared)?;
    set_owner(&shared, 0, 5000)?;
    set_mode(&shared, 0o2777)?;
    as_user(1000, &[2000], || {
        let mode = Mode::from_raw_mode(0o2755);
        Ok(mknodat(CWD, shared.join("program"), FileType::RegularFile, mode, 0)?)
    })?;
    let found = status_of(&shared.join("program"))?;
    equal("group and permissions", (found.gid, found.permissions()), (5000, 0o755))
}
