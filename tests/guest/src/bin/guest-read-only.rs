//! One case of the read-only mount, by name: what the shell of busybox cannot look at. The filesystem is mounted at the folder
//! that the second argument names; what is wrong is said on standard error, with exit code 1.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, ensure, Context, Result};
use rustix::fs::{open, seek, statx, AtFlags, Mode, OFlags, RawDir, SeekFrom, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

/// A name, the position behind it, and its inode's number.
type Entry = (Vec<u8>, u64, u64);

/// All entries from `position` on; the buffer is small, so that a directory takes many calls.
fn entries_from(folder: &Path, position: u64) -> Result<Vec<Entry>> {
    let file = open(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    ensure!(seek(&file, SeekFrom::Start(position))? == position, "lseek does not go to {position}");
    let mut buffer = Vec::with_capacity(512);
    let mut reader = RawDir::new(&file, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        entries.push((entry.file_name().to_bytes().to_vec(), entry.next_entry_cookie(), entry.ino()));
    }
    Ok(entries)
}

/// Positions are stable: going back to any of them shows exactly what came behind it, and the last one is the end.
fn positions(root: &Path) -> Result<()> {
    let folder = root.join("many");
    let all = entries_from(&folder, 0)?;
    let names: BTreeSet<_> = all.iter().map(|(name, _, _)| name.clone()).collect();
    ensure!(names.len() == all.len(), "{} names, {} different ones", all.len(), names.len());
    ensure!(all.len() > 1000, "{} entries are too few to say anything", all.len());
    ensure!(all[0].0 == b"." && all[1].0 == b"..", ". and .. do not come first");
    ensure!(all[0].1 == 1, "the position of .. is {}", all[0].1);
    ensure!(all.windows(2).all(|pair| pair[0].1 < pair[1].1), "positions do not rise");
    for index in (0..all.len()).step_by(97).chain([0, 1, all.len() - 1]) {
        let rest = entries_from(&folder, all[index].1)?;
        ensure!(rest == all[index + 1..], "from the position behind entry {index}: {} entries", rest.len());
    }
    let file = open(&folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut buffer = Vec::with_capacity(1 << 20);
    let mut reader = RawDir::new(&file, buffer.spare_capacity_mut());
    while let Some(entry) = reader.next() {
        entry?;
    }
    let end = seek(&file, SeekFrom::Current(0))?;
    ensure!(end == i64::MAX as u64, "the end is at {end:#x}");
    ensure!(entries_from(&folder, end)?.is_empty(), "there are entries behind the end");
    ensure!(seek(&file, SeekFrom::End(0)).is_ok(), "lseek does not go to the end");
    Ok(())
}

/// statx shows when a file was made, and all of an inode.
fn birth_time(root: &Path) -> Result<()> {
    let file = root.join("hello");
    let found = statx(rustix::fs::CWD, &file, AtFlags::empty(), StatxFlags::ALL)?;
    ensure!(found.stx_mask & StatxFlags::BTIME.bits() != 0, "no birth time");
    ensure!(found.stx_btime.tv_sec > 1_600_000_000, "born at {}", found.stx_btime.tv_sec);
    ensure!((found.stx_nlink, found.stx_size, found.stx_mode) == (2, 6, 0o100_640), "{found:?}");
    ensure!(
        found.stx_mtime.tv_sec == 1_500_000_000 && found.stx_mtime.tv_nsec == 123_456_789,
        "{:?}",
        found.stx_mtime
    );
    let other = statx(rustix::fs::CWD, root.join("hard"), AtFlags::empty(), StatxFlags::ALL)?;
    ensure!(found.stx_ino == other.stx_ino, "two names, two inodes");
    Ok(())
}

fn symbolic_links(root: &Path) -> Result<()> {
    for length in [1, 160, 161, 4048, 4095] {
        let target = fs::read_link(root.join(format!("link-{length}")))?;
        let wanted = "x".repeat(length);
        ensure!(
            target.to_str() == Some(&wanted),
            "a target of {length} bytes has {}",
            target.as_os_str().len()
        );
    }
    ensure!(fs::read_to_string(root.join("link-to-hello"))? == "hello\n", "a link does not lead to its file");
    Ok(())
}

fn extended_attributes(root: &Path) -> Result<()> {
    let file = root.join("hello");
    let mut buffer = vec![0; 65_536];
    let length = rustix::fs::listxattr(&file, &mut buffer[..])?;
    let names: BTreeSet<_> = buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let wanted: BTreeSet<_> = [b"user.long".to_vec(), b"user.short".to_vec()].into();
    ensure!(names == wanted, "the names are {names:?}");
    for (name, value) in [("user.short", "blue".to_owned()), ("user.long", "y".repeat(1500))] {
        let length = rustix::fs::getxattr(&file, name, &mut buffer[..])?;
        ensure!(buffer[..length] == *value.as_bytes(), "{name} has another value, of {length} bytes");
    }
    ensure!(
        rustix::fs::getxattr(&file, "user.long", &mut buffer[..9]) == Err(Errno::RANGE),
        "a short buffer: not ERANGE"
    );
    ensure!(
        rustix::fs::getxattr(&file, "user.none", &mut buffer[..]) == Err(Errno::NODATA),
        "no such name: not ENODATA"
    );
    ensure!(rustix::fs::listxattr(&file, &mut buffer[..3]) == Err(Errno::RANGE), "a short list: not ERANGE");
    Ok(())
}

fn nothing_can_be_written(root: &Path) -> Result<()> {
    let wanted = |outcome: std::io::Result<()>, what: &str| {
        let found = outcome.err().and_then(|error| error.raw_os_error());
        ensure!(found == Some(Errno::ROFS.raw_os_error()), "{what}: {found:?}");
        Ok(())
    };
    wanted(fs::File::create(root.join("new")).map(drop), "create")?;
    wanted(fs::File::options().append(true).open(root.join("hello")).map(drop), "open for writing")?;
    wanted(fs::remove_file(root.join("hello")), "unlink")?;
    wanted(fs::create_dir(root.join("new")), "mkdir")?;
    wanted(fs::rename(root.join("hello"), root.join("new")), "rename")?;
    let set = rustix::fs::setxattr(root.join("hello"), "user.new", b"1", rustix::fs::XattrFlags::empty());
    ensure!(set == Err(Errno::ROFS), "setxattr: {set:?}");
    Ok(())
}

/// `device` in place of the folder: mounted and unmounted so many times, with a look inside.
fn many_mounts(device: &Path, times: &str) -> Result<()> {
    let folder = Path::new("/mnt");
    for _ in 0..times.parse()? {
        mount(device, folder, "cairnfs", MountFlags::RDONLY, None)?;
        ensure!(fs::read(folder.join("hello"))? == b"hello\n", "another content");
        unmount(folder, UnmountFlags::empty())?;
    }
    let users = fs::read_to_string("/sys/module/cairnfs/refcnt")?;
    ensure!(users.trim() == "0", "{} users of the module are left", users.trim());
    Ok(())
}

/// Mounts `device`, which must fail; prints the error's number.
fn mount_error(device: &Path, options: Option<&str>) -> Result<()> {
    let options = options.map(std::ffi::CString::new).transpose()?;
    match mount(device, "/mnt", "cairnfs", MountFlags::RDONLY, options.as_deref()) {
        Ok(()) => {
            unmount("/mnt", UnmountFlags::empty())?;
            println!("0");
        }
        Err(error) => println!("{}", error.raw_os_error()),
    }
    Ok(())
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, path, rest @ ..] = &arguments[..] else {
        bail!("usage: guest-read-only CASE PATH [OPTIONS]");
    };
    let path = Path::new(path);
    match case.as_str() {
        "positions" => positions(path),
        "birth-time" => birth_time(path),
        "symbolic-links" => symbolic_links(path),
        "extended-attributes" => extended_attributes(path),
        "nothing-written" => nothing_can_be_written(path),
        "shapes" => cairnfs_guest::shapes::compare(path),
        "many-mounts" => many_mounts(path, rest.first().context("how often?")?),
        "mount-error" => mount_error(path, rest.first().map(String::as_str)),
        _ => bail!("no case {case}"),
    }
    .with_context(|| format!("{case} on {}", path.display()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-read-only: {error:#}");
            ExitCode::FAILURE
        }
    }
}
