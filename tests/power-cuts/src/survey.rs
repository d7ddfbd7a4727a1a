//! What is there: a walk through a folder, with attributes and contents.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tree::Kind;

/// What was found under one name.
#[derive(Debug)]
pub(crate) struct FoundEntry {
    pub(crate) inode: u64,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) modified_s: i64,
    pub(crate) links: u64,
    /// Of a regular file.
    pub(crate) bytes: Vec<u8>,
}

/// All that was found, by path below the folder.
pub(crate) type Found = BTreeMap<String, FoundEntry>;

/// Walks through a folder. Whatever cannot be read is an error: a filesystem that was recovered reads everywhere.
pub(crate) fn survey(root: &Path) -> Result<Found> {
    let mut found = Found::new();
    let mut folders = vec![String::new()];
    found.insert(String::new(), entry(root)?);
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let listing = fs::read_dir(&path).with_context(|| path.display().to_string())?;
        for name in listing {
            let name = name.with_context(|| path.display().to_string())?.file_name();
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let entry = entry(&root.join(&below))?;
            if entry.kind == Kind::Directory {
                folders.push(below.clone());
            }
            found.insert(below, entry);
        }
    }
    Ok(found)
}

fn entry(path: &Path) -> Result<FoundEntry> {
    let name = || path.display().to_string();
    let about = fs::symlink_metadata(path).with_context(name)?;
    let (kind, bytes) = if about.is_dir() {
        (Kind::Directory, Vec::new())
    } else if about.is_symlink() {
        let target = fs::read_link(path).with_context(name)?;
        (Kind::Symlink(target.to_string_lossy().into_owned()), Vec::new())
    } else {
        (Kind::File, fs::read(path).with_context(name)?)
    };
    Ok(FoundEntry {
        inode: about.ino(),
        kind,
        mode: about.mode() & 0o7777,
        owner: about.uid(),
        modified_s: about.mtime(),
        links: about.nlink(),
        bytes,
    })
}
