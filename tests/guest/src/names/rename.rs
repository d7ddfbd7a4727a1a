//! rename, with all that it may meet at its destination.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use anyhow::{ensure, Result};
use rustix::fs::{mknodat, renameat_with, FileType, Mode, RenameFlags, CWD};
use rustix::io::Errno;

use crate::cases::{equal, refused, share, Case, Scene, Skip};
use crate::filesystem::drop_caches;
use crate::status::{inode_of, names_in, status_of, status_of_open};

pub(super) const CASES: &[Case] = &[
    Case::new("another name for every type", every_type),
    Case::new("a file takes a file's place", file_over_file),
    Case::new("a directory takes an empty directory's place", directory_over_directory),
    Case::new("what may not take what's place", refusals),
    Case::new("a directory cannot go into itself", into_itself),
    Case::new("two names of the same file: nothing happens", same_file),
    Case::new("a directory moves: `..` and links", directory_moves),
    Case::new("RENAME_NOREPLACE", no_replace),
    Case::new("flags that nobody has: EINVAL", unknown_flags),
    Case::new("exchange is refused or works", exchange),
    Case::new("a chain of renames", chain),
];

fn rename(scene: &Scene<'_>, from: &str, to: &str) -> std::io::Result<()> {
    fs::rename(scene.path(from), scene.path(to))
}

fn every_type(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir(scene.path("other"))?;
    fs::write(scene.path("file"), "content")?;
    fs::create_dir_all(scene.path("folder/inner"))?;
    symlink("target", scene.path("link"))?;
    mknodat(CWD, scene.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    for name in ["file", "folder", "link", "fifo"] {
        let before = status_of(&scene.path(name))?;
        for (from, to) in [(name, "within"), ("within", "other/across"), ("other/across", "back")] {
            rename(scene, from, to)?;
            refused("the old name", Errno::NOENT, fs::symlink_metadata(scene.path(from)))?;
            let after = status_of(&scene.path(to))?;
            equal(
                "inode, mode, size",
                (after.inode, after.mode, after.size),
                (before.inode, before.mode, before.size),
            )?;
            equal("links", after.links, before.links)?;
            equal("contents changed", after.mtime, before.mtime)?;
        }
        fs::rename(scene.path("back"), scene.path(format!("{name}-new")))?;
    }
    drop_caches()?;
    equal("content", fs::read(scene.path("file-new"))?, b"content".to_vec())?;
    equal("names", names_in(&scene.folder)?.len(), 5)
}

fn file_over_file(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("new"), "new")?;
    fs::write(scene.path("old"), "old")?;
    fs::hard_link(scene.path("old"), scene.path("old-too"))?;
    let victim = File::open(scene.path("old"))?;
    let inode = inode_of(&scene.path("new"))?;
    rename(scene, "new", "old")?;
    equal("inode", inode_of(&scene.path("old"))?, inode)?;
    equal("content", fs::read(scene.path("old"))?, b"new".to_vec())?;
    equal("links of what was there", status_of_open(&victim)?.links, 1)?;
    equal("content by its other name", fs::read(scene.path("old-too"))?, b"old".to_vec())?;
    // The last name is replaced while the file is open.
    rename(scene, "old", "old-too")?;
    equal("links of what was there", status_of_open(&victim)?.links, 0)?;
    equal("its content", std::io::read_to_string(&victim)?.as_str(), "old")?;
    // Types other than directories replace each other freely.
    symlink("target", scene.path("link"))?;
    rename(scene, "link", "old-too")?;
    equal("type", status_of(&scene.path("old-too"))?.file_type(), FileType::Symlink)?;
    equal("names", names_in(&scene.folder)?, vec![b"old-too".to_vec()])
}

fn directory_over_directory(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir_all(scene.path("from/inner"))?;
    fs::create_dir_all(scene.path("other/to"))?;
    fs::write(scene.path("from/file"), "kept")?;
    rename(scene, "from", "other/to")?;
    equal("content", fs::read(scene.path("other/to/file"))?, b"kept".to_vec())?;
    equal("links of the parent that lost one", status_of(&scene.folder)?.links, 3)?;
    equal("links of the parent that lost and got one", status_of(&scene.path("other"))?.links, 3)?;
    equal("links of what moved", status_of(&scene.path("other/to"))?.links, 3)?;
    equal("`..`", inode_of(&scene.path("other/to/.."))?, inode_of(&scene.path("other"))?)?;
    // Within one directory the parent loses one.
    fs::create_dir(scene.path("empty"))?;
    rename(scene, "other", "empty")?;
    equal("links of the parent", status_of(&scene.folder)?.links, 3)?;
    equal("content", fs::read(scene.path("empty/to/file"))?, b"kept".to_vec())
}

fn refusals(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "")?;
    fs::create_dir(scene.path("empty"))?;
    fs::create_dir_all(scene.path("full/inner"))?;
    let before = names_in(&scene.folder)?;
    refused("directory over a full one", Errno::NOTEMPTY, rename(scene, "empty", "full"))?;
    refused("file over a directory", Errno::ISDIR, rename(scene, "file", "empty"))?;
    refused("directory over a file", Errno::NOTDIR, rename(scene, "empty", "file"))?;
    refused("nothing", Errno::NOENT, rename(scene, "none", "other"))?;
    refused("into no directory", Errno::NOENT, rename(scene, "file", "none/other"))?;
    refused("into a file", Errno::NOTDIR, rename(scene, "empty", "file/other"))?;
    refused("file to a name with a slash", Errno::NOTDIR, rename(scene, "file", "other/"))?;
    refused("onto `.`", Errno::BUSY, rename(scene, "empty", "full/."))?;
    refused("from `..`", Errno::BUSY, rename(scene, "full/inner/..", "other"))?;
    refused("to another filesystem", Errno::XDEV, fs::rename(scene.path("file"), "/tmp/other"))?;
    equal("names after the refusals", names_in(&scene.folder)?, before)?;
    equal("links after the refusals", status_of(&scene.folder)?.links, 4)
}

fn into_itself(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir_all(scene.path("a/b/c"))?;
    refused("into its child", Errno::INVAL, rename(scene, "a", "a/new"))?;
    refused("into its grandchild", Errno::INVAL, rename(scene, "a", "a/b/c/new"))?;
    refused("over its child's child", Errno::INVAL, rename(scene, "a", "a/b/c"))?;
    refused("a child over its parent", Errno::NOTEMPTY, rename(scene, "a/b", "a"))?;
    rename(scene, "a/b/c", "c")?;
    rename(scene, "a", "c/a")?;
    equal("`..` of the moved one", inode_of(&scene.path("c/a/.."))?, inode_of(&scene.path("c"))?)
}

fn same_file(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("one"), "x")?;
    fs::create_dir(scene.path("folder"))?;
    fs::hard_link(scene.path("one"), scene.path("folder/two"))?;
    rename(scene, "one", "folder/two")?;
    rename(scene, "one", "one")?;
    equal("links", status_of(&scene.path("one"))?.links, 2)?;
    rename(scene, "folder", "folder")?;
    equal("names", names_in(&scene.folder)?.len(), 2)?;
    equal("names", names_in(&scene.path("folder"))?, vec![b"two".to_vec()])
}

fn directory_moves(scene: &Scene<'_>) -> Result<()> {
    fs::create_dir_all(scene.path("left/moving/inner"))?;
    fs::create_dir(scene.path("right"))?;
    let links = |name: &str| -> Result<u32> { Ok(status_of(&scene.path(name))?.links) };
    equal("links before", (links("left")?, links("right")?), (3, 2))?;
    for _ in 0..20 {
        rename(scene, "left/moving", "right/moved")?;
        equal("links there", (links("left")?, links("right")?, links("right/moved")?), (2, 3, 3))?;
        equal("`..`", inode_of(&scene.path("right/moved/.."))?, inode_of(&scene.path("right"))?)?;
        rename(scene, "right/moved", "left/moving")?;
        equal("links back", (links("left")?, links("right")?, links("left/moving")?), (3, 2, 3))?;
    }
    rename(scene, "left/moving", "right/moved")?;
    drop_caches()?;
    // `..` as it is on the disk, not as the names in memory have it.
    equal("`..`", inode_of(&scene.path("right/moved/.."))?, inode_of(&scene.path("right"))?)?;
    fs::remove_dir(scene.path("left"))?;
    fs::remove_dir_all(scene.path("right"))?;
    equal("links of the parent", links(".")?, 2)
}

fn with_flags(scene: &Scene<'_>, from: &str, to: &str, flags: RenameFlags) -> rustix::io::Result<()> {
    renameat_with(CWD, scene.path(from), CWD, scene.path(to), flags)
}

fn no_replace(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("one"), "one")?;
    fs::write(scene.path("two"), "two")?;
    fs::create_dir(scene.path("folder"))?;
    for to in ["two", "folder", "one"] {
        refused(to, Errno::EXIST, with_flags(scene, "one", to, RenameFlags::NOREPLACE))?;
    }
    with_flags(scene, "one", "three", RenameFlags::NOREPLACE)?;
    with_flags(scene, "folder", "moved", RenameFlags::NOREPLACE)?;
    with_flags(scene, "three", "moved/three", RenameFlags::NOREPLACE)?;
    equal("content", fs::read(scene.path("moved/three"))?, b"one".to_vec())?;
    equal("content of what was kept", fs::read(scene.path("two"))?, b"two".to_vec())
}

fn unknown_flags(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("one"), "one")?;
    let unknown = RenameFlags::from_bits_retain(1 << 7);
    refused("flag 128", Errno::INVAL, with_flags(scene, "one", "two", unknown))?;
    let both = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    refused("NOREPLACE and EXCHANGE", Errno::INVAL, with_flags(scene, "one", "two", both))?;
    equal("names", names_in(&scene.folder)?, vec![b"one".to_vec()])
}

fn exchange(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("file"), "x")?;
    fs::create_dir_all(scene.path("folder/inner"))?;
    let (file, inner) = (inode_of(&scene.path("file"))?, inode_of(&scene.path("folder/inner"))?);
    let outcome = with_flags(scene, "file", "folder/inner", RenameFlags::EXCHANGE);
    if outcome == Err(Errno::INVAL) {
        // A flag that is refused changes nothing.
        equal(
            "inodes",
            (inode_of(&scene.path("file"))?, inode_of(&scene.path("folder/inner"))?),
            (file, inner),
        )?;
        return Err(Skip("RENAME_EXCHANGE is not there yet; it was refused with EINVAL").into());
    }
    outcome?;
    equal("inodes", (inode_of(&scene.path("file"))?, inode_of(&scene.path("folder/inner"))?), (inner, file))?;
    equal("links of the folder", status_of(&scene.path("folder"))?.links, 2)?;
    equal("`..`", inode_of(&scene.path("file/.."))?, inode_of(&scene.folder)?)
}

fn chain(scene: &Scene<'_>) -> Result<()> {
    fs::write(scene.path("0"), "kept")?;
    let inode = inode_of(&scene.path("0"))?;
    let last = share(1000);
    for number in 0..last {
        fs::rename(scene.path(number.to_string()), scene.path((number + 1).to_string()))?;
    }
    let last = last.to_string();
    equal("names", names_in(&scene.folder)?, vec![last.clone().into_bytes()])?;
    equal("inode", inode_of(&scene.path(&last))?, inode)?;
    ensure!(fs::read(scene.path(&last))? == b"kept", "another content");
    Ok(())
}
