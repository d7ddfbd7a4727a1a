// SPDX-License-Identifier: GPL-2.0

//! `-d DIR`: copies a directory tree into the new filesystem.
//!
//! By the filesystem's own operations, so a populated image is one that was mounted, filled and unmounted. Directories are
//! read in the order of their names; hard links stay hard links; holes stay holes; times of last access become those of last
//! change, because reading the tree moves the former. With `SOURCE_DATE_EPOCH` nothing of the image depends on when or where it
//! was made: inode generations come from the identity then.

use anyhow::{anyhow, bail, Context};
use cairnfs_core::attributes::SetMode;
use cairnfs_core::error::Error;
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::inode::ROOT;
use cairnfs_core::inode::NewInode;
use cairnfs_core::make::Identity;
use cairnfs_core::operation::attributes::Changes;
use cairnfs_core::platform::Platform;
use cairnfs_core::units::InodeNo;
use cairnfs_device::{FileDevice, Progress};
use cairnfs_volume::Volume;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Contents are copied in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Work is committed and goes home after so many files, so that neither journal nor memory fills up.
const FILES_PER_CHECKPOINT: u64 = 2000;

/// A platform whose random bytes follow from the filesystem's identity.
pub(crate) struct Reproducible<'p> {
    inner: &'p dyn Platform,
    seed: u32,
    calls: AtomicU32,
}

impl<'p> Reproducible<'p> {
    /// Clock and checksums of `inner`; random bytes from `identity`.
    pub(crate) fn new(inner: &'p dyn Platform, identity: &Identity) -> Self {
        let seed = inner.crc32c(inner.crc32c(0, &identity.uuid), &identity.hash_key);
        Self { inner, seed, calls: AtomicU32::new(0) }
    }
}

impl Platform for Reproducible<'_> {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        self.inner.crc32c(crc, bytes)
    }

    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }

    fn random(&self, out: &mut [u8]) {
        for piece in out.chunks_mut(4) {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let word = self.inner.crc32c(self.seed, &call.to_le_bytes()).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Copied {
    /// Files of any type but directories, each once however many names it has.
    pub(crate) files: u64,
    /// Directories, the root excluded.
    pub(crate) directories: u64,
    /// Bytes of contents.
    pub(crate) bytes: u64,
}

struct Population<'v, 'd> {
    volume: &'v Volume<'d>,
    platform: &'v dyn Platform,
    /// What has several names: device and inode there, inode here.
    linked: HashMap<(u64, u64), InodeNo>,
    copied: Copied,
    progress: Progress,
}

/// Copies everything below `source` into the filesystem on `device`.
pub(crate) fn populate(
    device: &FileDevice,
    platform: &dyn Platform,
    source: &Path,
    quiet: bool,
) -> anyhow::Result<Copied> {
    let explain = |error: Error| anyhow!(device.explain(error));
    let volume = Volume::mount(device, platform).map_err(explain)?;
    let metadata = fs::metadata(source).with_context(|| source.display().to_string())?;
    if !metadata.is_dir() {
        bail!("{} is not a directory", source.display());
    }
    let mut population = Population {
        volume: &volume,
        platform,
        linked: HashMap::new(),
        copied: Copied::default(),
        progress: Progress::begin("copying", count(source)?, quiet),
    };
    population.copy_tree(source)?;
    population.set_attributes(ROOT, source, &metadata)?;
    let copied = population.copied;
    drop(population);
    volume.unmount().map_err(explain)?;
    Ok(copied)
}

/// How many entries there are below a directory.
fn count(source: &Path) -> anyhow::Result<u64> {
    let mut pending = vec![source.to_path_buf()];
    let mut entries = 0;
    while let Some(directory) = pending.pop() {
        for path in sorted_entries(&directory)? {
            entries += 1;
            if fs::symlink_metadata(&path).with_context(|| path.display().to_string())?.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(entries)
}

fn sorted_entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| directory.display().to_string())?;
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().map_or(&[], OsStr::as_bytes)
}

impl Population<'_, '_> {
    fn copy_tree(&mut self, source: &Path) -> anyhow::Result<()> {
        let mut pending = vec![(source.to_path_buf(), ROOT)];
        let mut entries = 0;
        while let Some((directory, parent)) = pending.pop() {
            for path in sorted_entries(&directory)? {
                let failed = || format!("copying {}", path.display());
                let metadata = fs::symlink_metadata(&path).with_context(failed)?;
                let inode = self.copy_entry(&path, &metadata, parent).with_context(failed)?;
                if metadata.is_dir() {
                    pending.push((path, inode));
                }
                entries += 1;
                self.progress.advance(entries);
                if entries % FILES_PER_CHECKPOINT == 0 {
                    self.volume.checkpoint().map_err(|error| anyhow!("{error}"))?;
                }
            }
            // Adding its entries has moved the directory's own times.
            if parent != ROOT {
                let metadata = fs::metadata(&directory)?;
                self.set_attributes(parent, &directory, &metadata)?;
            }
        }
        Ok(())
    }

    /// Copies one entry, without what a directory holds; returns its inode.
    fn copy_entry(&mut self, path: &Path, metadata: &Metadata, parent: InodeNo) -> anyhow::Result<InodeNo> {
        let key = (metadata.dev(), metadata.ino());
        let has_links = !metadata.is_dir() && metadata.nlink() > 1;
        if let Some(known) = self.linked.get(&key).filter(|_| has_links) {
            self.volume.link(*known, parent, name_of(path)).map_err(|error| anyhow!("{error}"))?;
            return Ok(*known);
        }
        let device = rustix::fs::major(metadata.rdev()) << 8
            | (rustix::fs::minor(metadata.rdev()) & 0xFF)
            | (rustix::fs::minor(metadata.rdev()) & !0xFF) << 12;
        let new = NewInode {
            mode: metadata.mode() as u16,
            uid: metadata.uid(),
            gid: metadata.gid(),
            device,
            flags: 0,
            project: 0,
            now_ns: self.platform.now_ns() as i64,
        };
        let target = if metadata.is_symlink() { Some(fs::read_link(path)?) } else { None };
        let target = target.as_ref().map(|target| target.as_os_str().as_bytes());
        let (inode, _) =
            self.volume.create(parent, name_of(path), &new, target).map_err(|error| anyhow!("{error}"))?;
        if metadata.is_file() {
            self.copy_contents(path, inode)?;
        }
        if metadata.is_dir() {
            self.copied.directories += 1;
        } else {
            self.copied.files += 1;
            self.set_attributes(inode, path, metadata)?;
        }
        if has_links {
            self.linked.insert(key, inode);
        }
        Ok(inode)
    }

    fn copy_contents(&mut self, path: &Path, inode: InodeNo) -> anyhow::Result<()> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < size {
            // A filesystem that cannot tell holes says that all is data.
            let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) else {
                break;
            };
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(size);
            at = start;
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
                let read = file.read_at(&mut piece[..wanted], at)?;
                if read == 0 {
                    bail!("{} became shorter while it was copied", path.display());
                }
                self.volume.write_at(inode, at, &piece[..read]).map_err(|error| anyhow!("{error}"))?;
                at += read as u64;
                self.copied.bytes += read as u64;
            }
        }
        // A hole at the end was not written.
        self.volume.truncate(inode, size).map_err(|error| anyhow!("{error}"))?;
        Ok(())
    }

    fn set_attributes(&self, inode: InodeNo, path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
        self.copy_extended(inode, path)?;
        let modified_ns =
            metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        let changes = Changes {
            permissions: Some(metadata.mode() as u16),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
            flags: None,
            accessed_ns: Some(modified_ns),
            modified_ns: Some(modified_ns),
            changed_ns: None,
        };
        self.volume.set_attributes(inode, &changes).map_err(|error| anyhow!("{error}"))?;
        Ok(())
    }

    fn copy_extended(&self, inode: InodeNo, path: &Path) -> anyhow::Result<()> {
        let mut names = vec![0_u8; 64 << 10];
        let length = match rustix::fs::llistxattr(path, &mut names[..]) {
            // The source's filesystem has no attributes at all.
            Err(Errno::OPNOTSUPP) => return Ok(()),
            listed => listed.with_context(|| format!("the extended attributes of {}", path.display()))?,
        };
        let mut value = vec![0_u8; 64 << 10];
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let Some((namespace, rest)) = destination_of(name, path)? else {
                continue;
            };
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
            self.volume
                .set_extended(inode, (namespace, rest), Some(&value[..length]), SetMode::Create)
                .map_err(|error| anyhow!("{}: {error}", String::from_utf8_lossy(name)))?;
        }
        Ok(())
    }
}

/// The namespace of an attribute's full name, and what follows its prefix; `None` for attributes that only their own
/// filesystem understands. An ACL is refused: the mode that goes with one grants more than it does, and nothing enforces
/// it yet.
fn destination_of<'n>(name: &'n [u8], path: &Path) -> anyhow::Result<Option<(Namespace, &'n [u8])>> {
    let acls = [Namespace::AccessAcl, Namespace::DefaultAcl];
    let prefixes = [Namespace::User, Namespace::Trusted, Namespace::Security, Namespace::System];
    if acls.iter().any(|acl| acl.prefix().as_bytes() == name) {
        bail!("{} has an ACL, which cairnfs cannot enforce yet: setfacl -b removes it", path.display());
    }
    let strip =
        |namespace: Namespace| name.strip_prefix(namespace.prefix().as_bytes()).map(|rest| (namespace, rest));
    Ok(prefixes.into_iter().find_map(strip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_go_to_their_namespaces_and_acls_nowhere() {
        let destination = |name: &'static str| destination_of(name.as_bytes(), Path::new("/a/file"));
        assert_eq!(destination("user.a.b").unwrap(), Some((Namespace::User, &b"a.b"[..])));
        assert_eq!(
            destination("security.capability").unwrap(),
            Some((Namespace::Security, &b"capability"[..]))
        );
        assert_eq!(destination("btrfs.compression").unwrap(), None);
        for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
            let error = destination(acl).unwrap_err().to_string();
            assert!(error.contains("/a/file has an ACL"), "{error}");
        }
    }
}
