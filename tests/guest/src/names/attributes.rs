//! chmod, chown, utimensat, and the flags of chattr.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt as _};
use std::path::Path;

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{
    chmod, chown, chownat, ioctl_getflags, ioctl_setflags, utimensat, AtFlags, Gid, IFlags, Mode, Timespec,
    Timestamps, Uid, CWD, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;

use super::permissions::as_user;
use crate::cases::{equal, refused, Case, Scene, Skip};
use crate::filesystem::{drop_caches, Kind};
use crate::status::{status_of, Time};

pub(super) const CASES: &[Case] = &[
    Case::new("chmod sets every bit", chmod_sets_bits),
    Case::new("chmod by a stranger to the group clears setgid", chmod_clears_setgid),
    Case::new("chown sets owner and group", chown_sets_owner),
    Case::new("chown clears setuid and setgid", chown_clears),
    Case::new("a write by a stranger clears setuid and setgid", write_clears),
    Case::new("utimensat: any time, to the nanosecond", any_time),
    Case::new("utimensat: UTIME_NOW and UTIME_OMIT", now_and_omit),
    Case::new("all of it is read back", read_back),
    Case::new("immutable and append-only files", chattr),
];

fn permissions(path: &Path) -> Result<u32> {
    Ok(status_of(path)?.permissions())
}

fn set_mode(path: &Path, mode: u32) -> rustix::io::Result<()> {
    chmod(path, Mode::from_raw_mode(mode))
}

fn set_owner(path: &Path, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
    chown(path, uid.map(Uid::from_raw), gid.map(Gid::from_raw))
}

fn chmod_sets_bits(scene: &Scene<'_>) -> Result<()> {
    let (file, folder) = (scene.path("file"), scene.path("folder"));
    fs::write(&file, "x")?;
    fs::create_dir(&folder)?;
    for mode in (0..12).map(|bit| 1 << bit).chain([0, 0o7777, 0o644]) {
        for path in [&file, &folder] {
            let kind = status_of(path)?.mode & 0o170_000;
            set_mode(path, mode)?;
            equal("mode", status_of(path)?.mode, kind | mode)?;
        }
    }
    refused("of nothing", Errno::NOENT, set_mode(&scene.path("none"), 0o644))?;
    equal("content", fs::read(&file)?, b"x".to_vec())
}

fn chmod_clears_setgid(scene: &Scene<'_>) -> Result<()> {
    let file = scene.path("file");
    fs::write(&file, "")?;
    set_owner(&file, Some(1000), Some(5000))?;
    as_user(1000, &[1000], || set_mode(&file, 0o2755).map_err(Into::into))?;
    equal("not of the group", permissions(&file)?, 0o755)?;
    as_user(1000, &[1000, 5000], || set_mode(&file, 0o2755).map_err(Into::into))?;
    equal("of the group", permissions(&file)?, 0o2755)?;
    set_owner(&file, Some(1000), Some(5000))?;
    set_mode(&file, 0o2755)?;
    equal("root", permissions(&file)?, 0o2755)
}

fn chown_sets_owner(scene: &Scene<'_>) -> Result<()> {
    let (file, link) = (scene.path("file"), scene.path("link"));
    fs::write(&file, "")?;
    symlink("file", &link)?;
    let owner = |path: &Path| -> Result<(u32, u32)> { status_of(path).map(|found| (found.uid, found.gid)) };
    for (uid, gid) in [(1, 2), (65_535, 65_536), (4_294_967_294, 4_294_967_294), (0, 0)] {
        set_owner(&file, Some(uid), Some(gid))?;
        equal("owner", owner(&file)?, (uid, gid))?;
    }
    set_owner(&file, Some(7), None)?;
    set_owner(&file, None, Some(8))?;
    equal("each alone", owner(&file)?, (7, 8))?;
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    chownat(CWD, &link, Some(Uid::from_raw(9)), Some(Gid::from_raw(10)), no_follow)?;
    equal("the link itself", (owner(&link)?, owner(&file)?), ((9, 10), (7, 8)))?;
    set_owner(&link, Some(11), Some(12))?;
    equal("through the link", (owner(&link)?, owner(&file)?), ((9, 10), (11, 12)))
}

fn chown_clears(scene: &Scene<'_>) -> Result<()> {
    let (file, folder) = (scene.path("file"), scene.path("folder"));
    fs::write(&file, "")?;
    fs::create_dir(&folder)?;
    for (before, after) in [(0o6755, 0o755), (0o4644, 0o644), (0o6777, 0o777), (0o1755, 0o1755)] {
        set_mode(&file, before)?;
        set_owner(&file, Some(3), Some(4))?;
        equal("of a file", permissions(&file)?, after)?;
    }
    // Without the group's right to execute setgid meant mandatory locks; root may keep it.
    set_mode(&file, 0o2644)?;
    set_owner(&file, Some(5), Some(6))?;
    equal("setgid without execution", permissions(&file)?, 0o2644)?;
    set_mode(&folder, 0o6755)?;
    set_owner(&folder, Some(3), Some(4))?;
    equal("of a directory they stay", permissions(&folder)?, 0o6755)
}

fn write_clears(scene: &Scene<'_>) -> Result<()> {
    let file = scene.path("file");
    let open = || File::options().write(true).open(&file);
    fs::write(&file, "0123456789")?;
    set_mode(&file, 0o6777)?;
    open()?.write_all_at(b"x", 0)?;
    equal("written by root", permissions(&file)?, 0o6777)?;
    as_user(1000, &[1000], || Ok(open()?.write_all_at(b"y", 0)?))?;
    equal("written by another", permissions(&file)?, 0o777)?;
    set_mode(&file, 0o6777)?;
    as_user(1000, &[1000], || Ok(open()?.set_len(3)?))?;
    equal("truncated by another", permissions(&file)?, 0o777)?;
    equal("content", fs::read(&file)?, b"y12".to_vec())
}

const fn at(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

fn set_times(path: &Path, last_access: Timespec, last_modification: Timespec) -> rustix::io::Result<()> {
    utimensat(CWD, path, &Timestamps { last_access, last_modification }, AtFlags::SYMLINK_NOFOLLOW)
}

fn time(seconds: i64, nanoseconds: u32) -> Time {
    Time { seconds, nanoseconds }
}

fn any_time(scene: &Scene<'_>) -> Result<()> {
    // All within what both ext4 (1901 to 2446) and cairnfs (64 bits of nanoseconds, 1677 to 2262) can keep.
    const TIMES: [(i64, u32); 9] = [
        (0, 0),
        (0, 1),
        (-1, 999_999_999),
        (-86_400 * 365, 5),
        (-2_147_483_648, 0),
        (1_500_000_000, 123_456_789),
        (2_147_483_647, 999_999_999),
        (2_147_483_648, 0),
        (9_223_372_034, 999_999_999),
    ];
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("folder"))?;
    symlink("file", scene.path("link"))?;
    for name in ["file", "folder", "link"] {
        let path = scene.path(name);
        for (seconds, nanoseconds) in TIMES {
            let before = status_of(&path)?;
            set_times(&path, at(seconds, nanoseconds.into()), at(-seconds, 7))?;
            let found = status_of(&path)?;
            equal("atime", found.atime, time(seconds, nanoseconds))?;
            // The other end of the range is one second shorter.
            if seconds < 2_147_483_648 && seconds > -2_147_483_648 {
                equal("mtime", found.mtime, time(-seconds, 7))?;
            }
            ensure!(found.ctime >= before.ctime, "the time of the change went back");
            equal("birth", found.btime, before.btime)?;
        }
    }
    // What is later is not kept as something else, but as the latest that there is.
    let latest = match scene.filesystem.kind {
        Kind::Cairnfs => i64::MAX / 1_000_000_000 - 1,
        Kind::Ext4 => (1 << 34) - 1 - (1 << 31),
        Kind::Tmpfs => 1 << 40,
    };
    let path = scene.path("file");
    set_times(&path, at(1 << 40, 0), at(0, 0))?;
    equal("a time too late to be kept", status_of(&path)?.atime, time(latest, 0))?;
    drop_caches()?;
    equal("from the disk", status_of(&path)?.atime, time(latest, 0))?;
    refused("1,000,000,000 ns", Errno::INVAL, set_times(&scene.path("file"), at(0, 1_000_000_000), at(0, 0)))
}

fn now_and_omit(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "")?;
    set_times(&path, at(10, 11), at(20, 21))?;
    set_times(&path, at(0, UTIME_OMIT), at(30, 31))?;
    let found = status_of(&path)?;
    equal("atime omitted", (found.atime, found.mtime), (time(10, 11), time(30, 31)))?;
    set_times(&path, at(40, 41), at(0, UTIME_OMIT))?;
    let found = status_of(&path)?;
    equal("mtime omitted", (found.atime, found.mtime), (time(40, 41), time(30, 31)))?;
    let before = found;
    std::thread::sleep(std::time::Duration::from_millis(20));
    set_times(&path, at(0, UTIME_OMIT), at(0, UTIME_OMIT))?;
    equal("both omitted", status_of(&path)?, before.clone())?;
    set_times(&path, at(0, UTIME_NOW), at(0, UTIME_OMIT))?;
    let found = status_of(&path)?;
    ensure!(found.atime.seconds > 1_000_000_000 && found.mtime == before.mtime, "{found:?}");
    equal("atime and ctime of now", found.atime, found.ctime)?;
    set_times(&path, at(0, UTIME_NOW), at(0, UTIME_NOW))?;
    let found = status_of(&path)?;
    equal("all of now", (found.atime, found.mtime), (found.ctime, found.ctime))
}

fn read_back(scene: &Scene<'_>) -> Result<()> {
    let mut wanted = Vec::new();
    for number in 0..64_u32 {
        let path = scene.path(number.to_string());
        fs::write(&path, "")?;
        set_owner(&path, Some(number * 70_000), Some(number))?;
        set_mode(&path, 0o4000 | (number * 8))?;
        set_times(&path, at(-i64::from(number), 1), at(i64::from(number) << 26, i64::from(number)))?;
        wanted.push((path.clone(), status_of(&path)?));
    }
    drop_caches()?;
    for (path, wanted) in wanted {
        equal("status", status_of(&path)?, wanted)?;
    }
    Ok(())
}

fn chattr(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "kept")?;
    let file = File::open(&path)?;
    match ioctl_getflags(&file) {
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => {
            return Err(Skip("the flags of chattr cannot be read yet").into())
        }
        flags => flags.context("FS_IOC_GETFLAGS")?,
    };
    match ioctl_setflags(&file, IFlags::IMMUTABLE) {
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => {
            return Err(Skip("the flags of chattr cannot be set yet").into())
        }
        outcome => outcome.context("FS_IOC_SETFLAGS")?,
    }
    let append = || File::options().append(true).open(&path);
    let outcome = || -> Result<()> {
        refused("write to an immutable file", Errno::PERM, append())?;
        refused("unlink of an immutable file", Errno::PERM, fs::remove_file(&path))?;
        refused("chmod of an immutable file", Errno::PERM, set_mode(&path, 0o600))?;
        refused("link to an immutable file", Errno::PERM, fs::hard_link(&path, scene.path("other")))?;
        ioctl_setflags(&file, IFlags::APPEND)?;
        refused("write within an append-only file", Errno::PERM, File::options().write(true).open(&path))?;
        refused("truncation of an append-only file", Errno::PERM, File::create(&path))?;
        std::io::Write::write_all(&mut append()?, b" and more")?;
        equal("content", fs::read(&path)?, b"kept and more".to_vec())
    }();
    ioctl_setflags(&file, IFlags::empty())?;
    outcome
}
