//! Hard links, symbolic links, and files that are no files: fifos, sockets, devices.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{symlink, FileTypeExt as _};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{linkat, makedev, mknodat, open, readlinkat, AtFlags, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;

use crate::cases::{equal, refused, share, Case, Scene, Skip};
use crate::filesystem::{drop_caches, Kind};
use crate::status::{inode_of, names_in, status_of};

pub(super) const CASES: &[Case] = &[
    Case::new("a link is another name of the same file", hard_link),
    Case::new("errors of link", link_errors),
    Case::new("thousands of names of one file", many_links),
    Case::new("too many links: EMLINK", too_many_links),
    Case::new("symbolic links of every length", symbolic_links),
    Case::new("errors of symlink and readlink", symlink_errors),
    Case::new("walks through symbolic links", walks),
    Case::new("a fifo carries bytes", fifo),
    Case::new("a socket has a name", socket),
    Case::new("devices keep their numbers", devices),
    Case::new("errors of mknod", mknod_errors),
];

/// Of ext4; reached in a minute at most.
const EXT4_LINKS_MAX: u32 = 65_000;

fn hard_link(scene: &Scene<'_>) -> Result<()> {
    let (one, two) = (scene.path("one"), scene.path("two"));
    fs::write(&one, "first")?;
    fs::hard_link(&one, &two)?;
    equal("inodes", inode_of(&two)?, inode_of(&one)?)?;
    equal("links", status_of(&one)?.links, 2)?;
    fs::write(&two, "second")?;
    equal("content by the first name", fs::read(&one)?, b"second".to_vec())?;
    fs::remove_file(&one)?;
    equal("links", status_of(&two)?.links, 1)?;
    // A link to a symbolic link is another name of the link, not of its target.
    symlink("two", scene.path("symbolic"))?;
    fs::hard_link(scene.path("symbolic"), scene.path("same"))?;
    equal("type", status_of(&scene.path("same"))?.file_type(), FileType::Symlink)?;
    equal("links of the symbolic link", status_of(&scene.path("symbolic"))?.links, 2)?;
    linkat(CWD, scene.path("symbolic"), CWD, scene.path("followed"), AtFlags::SYMLINK_FOLLOW)?;
    equal("inode of the link that followed", inode_of(&scene.path("followed"))?, inode_of(&two)?)
}

fn link_errors(scene: &Scene<'_>) -> Result<()> {
    let file = scene.path("file");
    fs::write(&file, "")?;
    fs::create_dir(scene.path("folder"))?;
    let link = |from: &str, to: &str| fs::hard_link(scene.path(from), scene.path(to));
    refused("over a file", Errno::EXIST, link("file", "file"))?;
    refused("over a directory", Errno::EXIST, link("file", "folder"))?;
    refused("of a directory", Errno::PERM, link("folder", "other"))?;
    refused("of nothing", Errno::NOENT, link("none", "other"))?;
    refused("into no directory", Errno::NOENT, link("file", "none/other"))?;
    refused("into a file", Errno::NOTDIR, link("file", "file/other"))?;
    refused("into another filesystem", Errno::XDEV, fs::hard_link(&file, "/tmp/other"))?;
    equal("links after the refusals", status_of(&file)?.links, 1)?;
    // Nothing brings back a file whose last name is gone.
    let open_file = File::open(&file)?;
    fs::remove_file(&file)?;
    let by_number = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open_file));
    let revived = linkat(CWD, by_number, CWD, scene.path("back"), AtFlags::SYMLINK_FOLLOW);
    refused("of an unlinked file", Errno::NOENT, revived)
}

fn many_links(scene: &Scene<'_>) -> Result<()> {
    let many = share(2_000_u32);
    let file = scene.path("file");
    fs::write(&file, "kept")?;
    for number in 1..many {
        fs::hard_link(&file, scene.path(format!("name {number}")))?;
    }
    equal("links", status_of(&file)?.links, many)?;
    drop_caches()?;
    equal("links, read again", status_of(&file)?.links, many)?;
    for number in 1..many {
        fs::remove_file(scene.path(format!("name {number}")))?;
    }
    equal("links", status_of(&file)?.links, 1)?;
    equal("content", fs::read(&file)?, b"kept".to_vec())
}

fn too_many_links(scene: &Scene<'_>) -> Result<()> {
    match scene.filesystem.kind {
        Kind::Cairnfs => return Err(Skip("an inode may have 2,147,483,647 names").into()),
        Kind::Tmpfs => return Err(Skip("this filesystem counts without a limit").into()),
        Kind::Ext4 => {}
    }
    let file = scene.path("file");
    fs::write(&file, "")?;
    for number in 1..EXT4_LINKS_MAX {
        fs::hard_link(&file, scene.path(number.to_string()))?;
    }
    refused("one more", Errno::MLINK, fs::hard_link(&file, scene.path("more")))
}

fn symbolic_links(scene: &Scene<'_>) -> Result<()> {
    // Around where ext4 and cairnfs change from inline to a block, and up to the longest.
    const LENGTHS: [usize; 14] = [1, 2, 59, 60, 61, 159, 160, 161, 255, 256, 1000, 4047, 4048, 4095];
    let target = |length: usize| -> String { "abcdefghi/".chars().cycle().take(length).collect() };
    for length in LENGTHS {
        symlink(target(length), scene.path(format!("link-{length}")))?;
    }
    for round in ["at once", "read again"] {
        for length in LENGTHS {
            let path = scene.path(format!("link-{length}"));
            let found = fs::read_link(&path)?;
            ensure!(found.to_str() == Some(&target(length)), "{round}: another target of {length} bytes");
            let status = status_of(&path)?;
            equal("size", status.size, length as u64)?;
            equal("mode", status.mode, 0o120_777)?;
        }
        drop_caches()?;
    }
    for length in LENGTHS {
        fs::remove_file(scene.path(format!("link-{length}")))?;
    }
    ensure!(names_in(&scene.folder)?.is_empty(), "names are left");
    Ok(())
}

fn symlink_errors(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("folder"))?;
    refused("over a file", Errno::EXIST, symlink("x", scene.path("file")))?;
    refused("over a directory", Errno::EXIST, symlink("x", scene.path("folder")))?;
    refused("without a target", Errno::NOENT, symlink("", scene.path("link")))?;
    refused("4,096 bytes", Errno::NAMETOOLONG, symlink("x".repeat(4096), scene.path("link")))?;
    refused("into no directory", Errno::NOENT, symlink("x", scene.path("none/link")))?;
    refused("into a file", Errno::NOTDIR, symlink("x", scene.path("file/link")))?;
    refused("readlink of a file", Errno::INVAL, fs::read_link(scene.path("file")))?;
    refused("readlink of a directory", Errno::INVAL, fs::read_link(scene.path("folder")))?;
    refused("readlink of nothing", Errno::NOENT, fs::read_link(scene.path("none")))?;
    symlink("file", scene.path("link"))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
    refused("O_NOFOLLOW", Errno::LOOP, open(scene.path("link"), flags, Mode::empty()))?;
    equal("names", names_in(&scene.folder)?.len(), 3)
}

fn walks(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir_all(scene.path("a/b"))?;
    fs::write(scene.path("a/b/file"), "end")?;
    symlink("a/b", scene.path("to-b"))?;
    symlink("../../to-b/file", scene.path("a/b/round"))?;
    symlink(scene.path("to-b"), scene.path("absolute"))?;
    // With a target that is longer than what an inode holds.
    symlink(format!("{}a/b/file", "./".repeat(400)), scene.path("long"))?;
    for name in ["to-b/file", "to-b/round", "absolute/round", "long"] {
        let content = fs::read(scene.path(name)).with_context(|| name.to_owned())?;
        equal(name, content, b"end".to_vec())?;
    }
    symlink("two", scene.path("one"))?;
    symlink("one", scene.path("two"))?;
    refused("a ring of links", Errno::LOOP, File::open(scene.path("one")))?;
    equal("type in the ring", status_of(&scene.path("one"))?.file_type(), FileType::Symlink)?;
    let found = readlinkat(CWD, scene.path("to-b"), Vec::new())?;
    equal("readlink", found.into_bytes(), b"a/b".to_vec())
}

fn node(scene: &Scene<'_>, name: &str, kind: FileType, device: u64) -> rustix::io::Result<()> {
    mknodat(CWD, scene.path(name), kind, Mode::from_raw_mode(0o640), device)
}

fn fifo(scene: &Scene<'_>) -> Result<()> {
    node(scene, "fifo", FileType::Fifo, 0)?;
    let found = status_of(&scene.path("fifo"))?;
    equal("mode", found.mode, 0o010_640)?;
    let path = scene.path("fifo");
    let writer = std::thread::spawn(move || File::options().write(true).open(path)?.write_all(b"through"));
    let mut text = String::new();
    File::open(scene.path("fifo"))?.read_to_string(&mut text)?;
    equal("what came through", text.as_str(), "through")?;
    writer.join().ok().context("the writer ended early")??;
    Ok(())
}

fn socket(scene: &Scene<'_>) -> Result<()> {
    node(scene, "made", FileType::Socket, 0)?;
    equal("mode", status_of(&scene.path("made"))?.mode, 0o140_640)?;
    refused(
        "connect to a socket without a listener",
        Errno::CONNREFUSED,
        UnixStream::connect(scene.path("made")),
    )?;
    let _listener = UnixListener::bind(scene.path("bound"))?;
    ensure!(fs::metadata(scene.path("bound"))?.file_type().is_socket(), "a bound socket is none");
    UnixStream::connect(scene.path("bound"))?;
    refused("bind over a name", Errno::ADDRINUSE, UnixListener::bind(scene.path("bound")))
}

fn devices(scene: &Scene<'_>) -> Result<()> {
    const NUMBERS: [(u32, u32); 6] = [(1, 3), (0, 0), (255, 255), (256, 1), (1, 256), (4095, 0xF_FFFF)];
    for (major, minor) in NUMBERS {
        let device = makedev(major, minor);
        node(scene, &format!("c-{major}-{minor}"), FileType::CharacterDevice, device)?;
        node(scene, &format!("b-{major}-{minor}"), FileType::BlockDevice, device)?;
    }
    for round in ["at once", "read again"] {
        for (major, minor) in NUMBERS {
            for (letter, mode) in [("c", 0o020_640), ("b", 0o060_640)] {
                let found = status_of(&scene.path(format!("{letter}-{major}-{minor}")))?;
                equal(round, (found.mode, found.device), (mode, (major, minor)))?;
            }
        }
        drop_caches()?;
    }
    // 1:3 is what /dev/null is.
    fs::write(scene.path("c-1-3"), "gone")?;
    equal("what is read", fs::read(scene.path("c-1-3"))?, Vec::new())
}

fn mknod_errors(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "")?;
    refused("over a file", Errno::EXIST, node(scene, "file", FileType::Fifo, 0))?;
    refused("into no directory", Errno::NOENT, node(scene, "none/fifo", FileType::Fifo, 0))?;
    refused("into a file", Errno::NOTDIR, node(scene, "file/fifo", FileType::Fifo, 0))?;
    refused("a directory", Errno::PERM, node(scene, "folder", FileType::Directory, 0))?;
    node(scene, "regular", FileType::RegularFile, 0)?;
    equal("mode of a regular file", status_of(&scene.path("regular"))?.mode, 0o100_640)
}
