// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: read; and those that give privileges removed, when what they were given to changes.
//!
//! Locks: the inode's state; for a removal VFS' lock of the inode, and a handle.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use cairnfs_core::attributes::{self, SetMode};
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::{attributes as operation, reservation};
use cairnfs_core::units::InodeNo;
use cairnfs_linux::inode::Inode;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use cairnfs_linux::xattr::{self, may_see_trusted, NameList, Prefix, Value};
use kernel::prelude::*;

impl xattr::Operations for Cairnfs {
    fn get(inode: &Inode<Self>, prefix: Prefix, name: &[u8], value: &mut Value<'_>) -> Result {
        let mounted = inode.super_block().data();
        let namespace = match prefix {
            Prefix::User => Namespace::User,
            Prefix::Trusted => Namespace::Trusted,
            Prefix::Security => Namespace::Security,
        };
        let mut put = Ok(());
        let got = without_filesystem_reclaim(|| {
            let state = inode.data().state.read();
            attributes::get(mounted, &state.inode, namespace, name, &mut |bytes| {
                put = value.put(bytes);
                Ok(())
            })
        });
        got.map_err(|error| mounted.errno(error))?;
        put
    }

    fn remove_capability(inode: &Inode<Self>) -> Result {
        let mounted = inode.super_block().data();
        let (number, name) = (InodeNo(inode.number()), (Namespace::Security, xattr::CAPABILITY));
        let worst = reservation::set_extended();
        let removed = mounted.change(&[inode], worst, Class::Normal, &mut |handle| {
            operation::set_extended(handle, number, name, None, SetMode::Replace)
        });
        removed.map_err(|error| mounted.errno(error))?;
        Ok(())
    }
}

/// Adds the names that VFS can read. ACLs are not among them yet, nor are `trusted.` ones for who may not see them.
pub(crate) fn list(inode: &Inode<Cairnfs>, list: &mut NameList<'_>) -> Result {
    let mounted = inode.super_block().data();
    let shows_trusted = may_see_trusted();
    let mut added = Ok(());
    let mut add = |namespace, name: &[u8]| {
        let is_shown = match namespace {
            Namespace::User | Namespace::Security => true,
            Namespace::Trusted => shows_trusted,
            Namespace::System | Namespace::AccessAcl | Namespace::DefaultAcl => false,
        };
        if is_shown && added.is_ok() {
            added = list.add(namespace.prefix().as_bytes(), name);
        }
    };
    let walked = without_filesystem_reclaim(|| {
        let state = inode.data().state.read();
        attributes::list(mounted, &state.inode, &mut |namespace, name, _| {
            add(namespace, name);
            Ok(())
        })
    });
    walked.map_err(|error| mounted.errno(error))?;
    added
}
