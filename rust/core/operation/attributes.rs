// SPDX-License-Identifier: GPL-2.0

//! Changing what an inode says of itself, and its extended attributes.

use super::touch;
use crate::attributes::{self, SetMode};
use crate::error::{Error, Result};
use crate::format::attribute::Namespace;
use crate::format::inode::MODE_TYPE;
use crate::format::item::Operation;
use crate::handle::Handle;
use crate::units::InodeNo;

/// What is to be changed; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Permissions; the type stays.
    pub permissions: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// `inode::FLAG_*` bits.
    pub flags: Option<u32>,
    /// Last access.
    pub accessed_ns: Option<i64>,
    /// Last change of content.
    pub modified_ns: Option<i64>,
}

/// Changes attributes.
pub fn set_attributes(handle: &mut Handle<'_>, number: InodeNo, changes: &Changes) -> Result {
    let mut inode = handle.take_used_inode(number)?;
    let core = &mut inode.core;
    if let Some(permissions) = changes.permissions {
        core.mode = (core.mode & MODE_TYPE) | (permissions & !MODE_TYPE);
    }
    core.uid = changes.uid.unwrap_or(core.uid);
    core.gid = changes.gid.unwrap_or(core.gid);
    core.flags = changes.flags.unwrap_or(core.flags);
    core.accessed_ns = changes.accessed_ns.unwrap_or(core.accessed_ns);
    core.modified_ns = changes.modified_ns.unwrap_or(core.modified_ns);
    touch(&mut inode, handle.now_ns());
    handle.put_inode(inode)?;
    handle.set_note(Operation::SetAttributes, number, InodeNo(0), InodeNo(0), (&[], &[]))
}

/// Sets an extended attribute, or removes it when there is no value.
pub fn set_extended(
    handle: &mut Handle<'_>,
    number: InodeNo,
    (namespace, name): (Namespace, &[u8]),
    value: Option<&[u8]>,
    mode: SetMode,
) -> Result {
    let mut inode = handle.take_used_inode(number)?;
    match value {
        Some(value) => attributes::set(handle, &mut inode, namespace, name, value, mode)?,
        None if mode == SetMode::Create => return Err(Error::InvalidArgument),
        None => attributes::remove(handle, &mut inode, namespace, name)?,
    }
    touch(&mut inode, handle.now_ns());
    handle.put_inode(inode)?;
    handle.set_note(Operation::SetExtended, number, InodeNo(0), InodeNo(0), (name, &[]))
}
