//! Files, directories, and what a name may be.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{symlink, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{ensure, Result};
use rustix::fs::{mkdir, mknodat, rename, FileType, Mode, CWD};
use rustix::io::Errno;

use crate::cases::{equal, refused, Case, Scene};
use crate::status::{inode_of, names_in, status_of};

pub(super) const CASES: &[Case] = &[
    Case::new("open makes a file", open_makes_a_file),
    Case::new("O_EXCL refuses what is there", exclusive),
    Case::new("O_CREAT follows a dangling link", through_a_dangling_link),
    Case::new("O_TRUNC empties a file", truncating_open),
    Case::new("errors of open with O_CREAT", open_errors),
    Case::new("mkdir makes a directory", mkdir_makes_a_directory),
    Case::new("errors of mkdir", mkdir_errors),
    Case::new("a new name takes its directory's group", set_group_directory),
    Case::new("`..` leads to the parent", dot_dot),
    Case::new("names of 255 bytes, and not of 256", long_names),
    Case::new("every byte but / and NUL in a name", every_byte),
    Case::new("names that look like others", similar_names),
    Case::new("a tree 100 levels deep", deep_tree),
];

fn exclusively(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

fn open_makes_a_file(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("new");
    for (mode, wanted) in [(0o666, 0o644), (0o777, 0o755), (0o600, 0o600), (0o000, 0o000), (0o7777, 0o7755)] {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        let found = status_of(&path)?;
        equal("type", found.file_type(), FileType::RegularFile)?;
        equal("permissions after the umask", found.permissions(), wanted)?;
        equal("links, size, sectors", (found.links, found.size, found.sectors), (1, 0, 0))?;
        equal("owner", (found.uid, found.gid), (0, 0))?;
        fs::remove_file(&path)?;
    }
    Ok(())
}

fn exclusive(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("new");
    exclusively(&path)?;
    let inode = inode_of(&path)?;
    refused("O_EXCL over a file", Errno::EXIST, exclusively(&path))?;
    fs::create_dir(scene.path("folder"))?;
    refused("O_EXCL over a directory", Errno::EXIST, exclusively(&scene.path("folder")))?;
    symlink("nowhere", scene.path("dangling"))?;
    refused("O_EXCL over a dangling link", Errno::EXIST, exclusively(&scene.path("dangling")))?;
    ensure!(!scene.path("nowhere").exists(), "the link's target was made");
    File::options().write(true).create(true).truncate(false).open(&path)?;
    equal("O_CREAT opens the file that is there", inode_of(&path)?, inode)
}

fn through_a_dangling_link(scene: &Scene<'_>) -> Result<()> {
    symlink("target", scene.path("link"))?;
    fs::write(scene.path("link"), "through the link")?;
    equal("content of the target", fs::read(scene.path("target"))?, b"through the link".to_vec())?;
    ensure!(status_of(&scene.path("link"))?.file_type() == FileType::Symlink, "the link is no link any more");
    Ok(())
}

fn truncating_open(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, vec![7; 100_000])?;
    let inode = inode_of(&path)?;
    File::create(&path)?;
    equal("size", status_of(&path)?.size, 0)?;
    equal("inode", inode_of(&path)?, inode)
}

fn open_errors(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("folder"))?;
    refused("no such parent", Errno::NOENT, exclusively(&scene.path("none/new")))?;
    refused("the parent is a file", Errno::NOTDIR, exclusively(&scene.path("file/new")))?;
    refused("writing to a directory", Errno::ISDIR, File::create(scene.path("folder")))?;
    refused("a name with a slash behind it", Errno::ISDIR, exclusively(&scene.path("new/")))?;
    symlink("loop", scene.path("loop"))?;
    refused("a link to itself", Errno::LOOP, File::create(scene.path("loop")))?;
    let names = names_in(&scene.folder)?;
    equal("names", names.len(), 3)
}

fn mkdir_makes_a_directory(scene: &Scene<'_>) -> Result<()> {
    let before = status_of(&scene.folder)?;
    mkdir(scene.path("new"), Mode::from_raw_mode(0o777))?;
    mkdir(scene.path("private"), Mode::from_raw_mode(0o1700))?;
    let found = status_of(&scene.path("new"))?;
    equal("type", found.file_type(), FileType::Directory)?;
    equal("permissions after the umask", found.permissions(), 0o755)?;
    equal("permissions with sticky", status_of(&scene.path("private"))?.permissions(), 0o1700)?;
    equal("links of a new directory", found.links, 2)?;
    equal("links of its parent", status_of(&scene.folder)?.links, before.links + 2)?;
    ensure!(names_in(&scene.path("new"))?.is_empty(), "a new directory has names");
    mkdir(scene.path("new/inner"), Mode::from_raw_mode(0o777))?;
    equal("links after a mkdir within", status_of(&scene.path("new"))?.links, 3)
}

fn mkdir_errors(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("folder"))?;
    symlink("nowhere", scene.path("dangling"))?;
    for name in ["file", "folder", "dangling", ".", "folder/.."] {
        refused(&format!("mkdir of {name}"), Errno::EXIST, fs::create_dir(scene.path(name)))?;
    }
    refused("no such parent", Errno::NOENT, fs::create_dir(scene.path("none/new")))?;
    refused("the parent is a file", Errno::NOTDIR, fs::create_dir(scene.path("file/new")))?;
    equal("links of the folder after the refusals", status_of(&scene.folder)?.links, 3)?;
    fs::create_dir(scene.path("slash/"))?;
    Ok(())
}

fn set_group_directory(scene: &Scene<'_>) -> Result<()> {
    let shared = scene.path("shared");
    fs::create_dir(&shared)?;
    rustix::fs::chown(&shared, None, Some(rustix::fs::Gid::from_raw(4321)))?;
    rustix::fs::chmod(&shared, Mode::from_raw_mode(0o2775))?;
    fs::write(shared.join("file"), "")?;
    mkdir(shared.join("folder"), Mode::from_raw_mode(0o755))?;
    symlink("target", shared.join("link"))?;
    mknodat(CWD, shared.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0)?;
    for name in ["file", "folder", "link", "fifo"] {
        equal(name, status_of(&shared.join(name))?.gid, 4321)?;
    }
    equal("setgid of the inner directory", status_of(&shared.join("folder"))?.permissions(), 0o2755)?;
    equal("no setgid of a file", status_of(&shared.join("file"))?.permissions(), 0o644)
}

fn dot_dot(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir_all(scene.path("a/b"))?;
    equal("a/..", inode_of(&scene.path("a/.."))?, inode_of(&scene.folder)?)?;
    equal("a/b/..", inode_of(&scene.path("a/b/.."))?, inode_of(&scene.path("a"))?)?;
    equal("a/b/.", inode_of(&scene.path("a/b/."))?, inode_of(&scene.path("a/b"))?)?;
    let root = scene.filesystem.root();
    equal("`..` of the case's folder", inode_of(&scene.path(".."))?, inode_of(root)?)
}

fn long_names(scene: &Scene<'_>) -> Result<()> {
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    fs::write(scene.path(&longest), "long")?;
    equal("content", fs::read(scene.path(&longest))?, b"long".to_vec())?;
    equal("names", names_in(&scene.folder)?, vec![longest.clone().into_bytes()])?;
    let other = scene.path("m".repeat(255));
    rename(scene.path(&longest), &other)?;
    fs::hard_link(&other, scene.path("l".repeat(255)))?;
    fs::create_dir(scene.path("d".repeat(255)))?;
    symlink("target", scene.path("s".repeat(255)))?;
    let longer = scene.path(longer);
    refused("open", Errno::NAMETOOLONG, exclusively(&longer))?;
    refused("mkdir", Errno::NAMETOOLONG, fs::create_dir(&longer))?;
    refused("symlink", Errno::NAMETOOLONG, symlink("target", &longer))?;
    refused("link", Errno::NAMETOOLONG, fs::hard_link(&other, &longer))?;
    refused("rename", Errno::NAMETOOLONG, rename(&other, &longer))?;
    refused("unlink", Errno::NAMETOOLONG, fs::remove_file(&longer))?;
    refused("rmdir", Errno::NAMETOOLONG, fs::remove_dir(&longer))?;
    refused("stat", Errno::NAMETOOLONG, fs::symlink_metadata(&longer))?;
    let node = mknodat(CWD, &longer, FileType::Fifo, Mode::from_raw_mode(0o644), 0);
    refused("mknod", Errno::NAMETOOLONG, node)?;
    equal("names", names_in(&scene.folder)?.len(), 4)
}

fn every_byte(scene: &Scene<'_>) -> Result<()> {
    let mut wanted: Vec<Vec<u8>> = Vec::new();
    for byte in (1..=u8::MAX).filter(|byte| *byte != b'/') {
        // Alone, unless that is the directory itself, and between others.
        wanted.push(vec![b'x', byte, b'y']);
        if byte != b'.' {
            wanted.push(vec![byte]);
        }
    }
    for name in &wanted {
        fs::write(scene.path(OsStr::from_bytes(name)), name)?;
    }
    wanted.sort();
    equal("names", names_in(&scene.folder)?, wanted.clone())?;
    for name in &wanted {
        equal("content", &fs::read(scene.path(OsStr::from_bytes(name)))?, name)?;
    }
    Ok(())
}

fn similar_names(scene: &Scene<'_>) -> Result<()> {
    let names = [
        "a",
        "A",
        "a ",
        " a",
        "a.",
        ".a",
        "...",
        "..a",
        "a\n",
        "\u{e9}",
        "e\u{301}",
        "a\u{200b}",
        "-rf",
        "*",
    ];
    for (number, name) in names.iter().enumerate() {
        fs::write(scene.path(name), number.to_string())?;
    }
    equal("names", names_in(&scene.folder)?.len(), names.len())?;
    for (number, name) in names.iter().enumerate() {
        equal(name, fs::read_to_string(scene.path(name))?, number.to_string())?;
    }
    Ok(())
}

fn deep_tree(scene: &Scene<'_>) -> Result<()> {
    let mut deepest = scene.folder.clone();
    for level in 0..100 {
        deepest.push(format!("level {level}"));
        fs::create_dir(&deepest)?;
    }
    fs::write(deepest.join("bottom"), "found")?;
    let mut up = deepest.clone();
    up.extend(std::iter::repeat_n("..", 100));
    equal("100 times `..`", inode_of(&up)?, inode_of(&scene.folder)?)?;
    refused("the top is not empty", Errno::NOTEMPTY, fs::remove_dir(scene.path("level 0")))?;
    fs::remove_dir_all(scene.path("level 0"))?;
    equal("links of the folder", status_of(&scene.folder)?.links, 2)
}
