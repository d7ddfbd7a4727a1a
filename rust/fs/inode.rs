// SPDX-License-Identifier: GPL-2.0

//! Inodes: from core's to VFS', names to inodes, targets of symbolic links.

#![forbid(unsafe_code)]

use crate::attributes;
use crate::module::Cairnfs;
use crate::mount::Mounted;
use cairnfs_core::directory;
use cairnfs_core::error::{corrupt, Check, Error};
use cairnfs_core::format::inode::{
    self as format, MapKind, FLAG_APPEND, FLAG_IMMUTABLE, FLAG_NO_DUMP, MODE_DIRECTORY, MODE_REGULAR,
    MODE_SYMLINK, MODE_TYPE,
};
use cairnfs_core::memory::{List, Owned};
use cairnfs_core::symlink;
use cairnfs_core::units::{InodeNo, BLOCK_BYTES, SECTOR_BYTES};
use cairnfs_linux::inode::{self, Attributes, Found, Inode, Kind, Parameters};
use cairnfs_linux::super_block::SuperBlock;
use cairnfs_linux::symlink::Target;
use cairnfs_linux::time::Time;
use cairnfs_linux::xattr::NameList;
use kernel::prelude::*;
use kernel::types::ARef;

const BLOCK_SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

/// What the filesystem keeps of an inode in memory.
pub(crate) struct InodeData {
    /// The inode as it was read. Nothing changes it while the filesystem is mounted read-only.
    pub(crate) inode: Owned<cairnfs_core::inode::Inode>,
}

/// The inode with this number, which something that was read names.
pub(crate) fn get(super_block: &SuperBlock<Cairnfs>, number: InodeNo) -> Result<ARef<Inode<Cairnfs>>> {
    let new = match super_block.get_or_create_inode(number.0)? {
        Found::Cached(inode) => return Ok(inode),
        Found::New(new) => new,
    };
    let mounted = super_block.data();
    let inode = read(mounted, number).map_err(|error| mounted.errno(error))?;
    let kind = kind_of(mounted, &inode)?;
    let core = inode.core;
    Ok(new.init(Parameters {
        mode: core.mode,
        kind,
        uid: core.uid,
        gid: core.gid,
        links: core.links,
        generation: core.generation.0,
        size_bytes: i64::try_from(core.size_bytes).unwrap_or(i64::MAX),
        sectors: core.blocks.saturating_mul(BLOCK_SECTORS),
        accessed: Time::from_ns(core.accessed_ns),
        modified: Time::from_ns(core.modified_ns),
        changed: Time::from_ns(core.changed_ns),
        is_immutable: core.flags & FLAG_IMMUTABLE != 0,
        is_append_only: core.flags & FLAG_APPEND != 0,
        data: InodeData { inode },
    }))
}

/// Reads an inode that is in use: it must be there, and have links.
fn read(
    mounted: &Mounted,
    number: InodeNo,
) -> cairnfs_core::error::Result<Owned<cairnfs_core::inode::Inode>> {
    let block = mounted.metadata.block_of_inode(number);
    let inode = match mounted.metadata.read_inode(number) {
        Err(Error::Stale) => return corrupt(Check::Dangling, block, number.0, 0),
        read => read?,
    };
    if inode.core.is_free() {
        return corrupt(Check::Dangling, block, number.0, 0);
    }
    if inode.core.links == 0 {
        return corrupt(Check::Links, block, 1, 0);
    }
    Ok(inode)
}

fn kind_of(mounted: &Mounted, inode: &cairnfs_core::inode::Inode) -> Result<Kind> {
    Ok(match inode.core.mode & MODE_TYPE {
        MODE_DIRECTORY => Kind::Directory,
        MODE_REGULAR => Kind::Regular,
        MODE_SYMLINK if inode.map_kind() == MapKind::SymlinkBlock => Kind::LongSymlink,
        MODE_SYMLINK => Kind::ShortSymlink(target(mounted, inode)?),
        _ => Kind::Special(inode.core.device),
    })
}

fn target(mounted: &Mounted, inode: &cairnfs_core::inode::Inode) -> Result<Target> {
    let mut text = List::new();
    let read = symlink::target(&mounted.metadata, inode, &mut |piece| Ok(text.extend_from_slice(piece)?));
    let checked = read.and_then(|()| match text.iter().position(|byte| *byte == 0) {
        Some(at) => {
            let block = mounted.metadata.block_of_inode(inode.number());
            corrupt(Check::Name, block, inode.core.size_bytes, at as u64)
        }
        None => Ok(()),
    });
    checked.map_err(|error| mounted.errno(error))?;
    Target::copy_of(&text)
}

impl inode::Operations for Cairnfs {
    fn lookup(parent: &Inode<Self>, name: &[u8]) -> Result<Option<ARef<Inode<Self>>>> {
        let mounted = parent.super_block().data();
        let directory = &parent.data().inode;
        let found = directory::lookup(&mounted.metadata, mounted.metadata.hash_key(), directory, name);
        let Some(entry) = found.map_err(|error| mounted.errno(error))? else {
            return Ok(None);
        };
        let inode = get(parent.super_block(), entry.inode)?;
        let file_type = format::file_type(inode.data().inode.core.mode);
        if file_type != Some(entry.file_type) {
            let block = mounted.metadata.block_of_inode(entry.inode);
            let found = u64::from(file_type.unwrap_or(0));
            return corrupt(Check::FileType, block, u64::from(entry.file_type), found)
                .map_err(|error| mounted.errno(error));
        }
        Ok(Some(inode))
    }

    fn get_link(inode: &Inode<Self>) -> Result<Target> {
        target(inode.super_block().data(), &inode.data().inode)
    }

    fn getattr(inode: &Inode<Self>) -> Attributes {
        let core = &inode.data().inode.core;
        Attributes {
            born: Time::from_ns(core.born_ns),
            is_immutable: core.flags & FLAG_IMMUTABLE != 0,
            is_append_only: core.flags & FLAG_APPEND != 0,
            is_no_dump: core.flags & FLAG_NO_DUMP != 0,
        }
    }

    fn listxattr(inode: &Inode<Self>, list: &mut NameList<'_>) -> Result {
        attributes::list(inode, list)
    }
}
