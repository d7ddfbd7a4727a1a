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
    /// Last change of anything; `None`: now.
    pub changed_ns: Option<i64>,
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
    inode.core.changed_ns = changes.changed_ns.unwrap_or(inode.core.changed_ns);
    handle.put_inode(inode)?;
    handle.set_note(Operation::SetAttributes, number, InodeNo(0), InodeNo(0), (&[], &[]))
}

/// Times to be set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Last access.
    pub accessed_ns: Option<i64>,
    /// Last change of content.
    pub modified_ns: Option<i64>,
    /// Last change of anything.
    pub changed_ns: Option<i64>,
}

/// Sets times and nothing else, without a note: they move by themselves. An access is no change.
pub fn update_times(handle: &mut Handle<'_>, number: InodeNo, times: &Times) -> Result {
    let mut inode = handle.take_used_inode(number)?;
    let core = &mut inode.core;
    core.accessed_ns = times.accessed_ns.unwrap_or(core.accessed_ns);
    core.modified_ns = times.modified_ns.unwrap_or(core.modified_ns);
    core.changed_ns = times.changed_ns.unwrap_or(core.changed_ns);
    if times.modified_ns.is_some() || times.changed_ns.is_some() {
        core.change_counter = core.change_counter.wrapping_add(1);
    }
    handle.put_inode(inode)
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
