// SPDX-License-Identifier: GPL-2.0

//! iomap: reading file contents by extents (include/linux/iomap.h).

use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use crate::memory_scope::without_filesystem_reclaim;
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::{from_result, Result};
use kernel::ffi;

/// What a range of a file is.
pub enum Kind {
    /// On the device, from this byte on.
    Mapped {
        /// The byte of the device.
        device_bytes: u64,
    },
    /// On the device, but never written: reads as zero.
    Unwritten {
        /// The byte of the device.
        device_bytes: u64,
    },
    /// Nowhere: reads as zero.
    Hole,
}

/// A range of a file.
pub struct Mapping {
    /// Where it begins, in bytes of the file: at or before what was asked for.
    pub start_bytes: u64,
    /// Its length in bytes: it ends behind what was asked for.
    pub length_bytes: u64,
    /// What it is.
    pub kind: Kind,
}

/// The operations of `struct iomap_ops`.
pub trait Operations: FileSystem {
    /// The range around byte `position` of a file. Called with folios of the file locked, in a
    /// [`memory_scope`](crate::memory_scope).
    fn iomap_begin(inode: &Inode<Self>, position: u64) -> Result<Mapping>;
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const TABLE: &'static bindings::iomap_ops =
        &bindings::iomap_ops { iomap_begin: Some(Self::iomap_begin_callback), iomap_end: None };

    /// What the page cache of a regular file calls.
    pub(crate) const ADDRESS_SPACE: &'static bindings::address_space_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::address_space_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.read_folio = Some(Self::read_folio_callback);
        table.readahead = Some(Self::readahead_callback);
        table.is_partially_uptodate = Some(bindings::iomap_is_partially_uptodate);
        table.release_folio = Some(bindings::iomap_release_folio);
        table.invalidate_folio = Some(bindings::iomap_invalidate_folio);
        table.migrate_folio = Some(bindings::filemap_migrate_folio);
        table.error_remove_folio = Some(bindings::generic_error_remove_folio);
        table
    };

    /// # Safety
    ///
    /// Called by the page cache only, with a locked folio of a file of `T`.
    unsafe extern "C" fn read_folio_callback(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> ffi::c_int {
        // SAFETY: The folio is locked, and its file is one of `T`'s.
        unsafe { bindings::iomap_read_folio(folio, Self::TABLE) }
    }

    /// # Safety
    ///
    /// Called by the page cache only, for a file of `T`.
    unsafe extern "C" fn readahead_callback(control: *mut bindings::readahead_control) {
        // SAFETY: The control is the caller's, and its file is one of `T`'s.
        unsafe { bindings::iomap_readahead(control, Self::TABLE) };
    }

    /// # Safety
    ///
    /// Called by iomap only, with a regular file of `T`.
    unsafe extern "C" fn iomap_begin_callback(
        inode: *mut bindings::inode,
        position: bindings::loff_t,
        _length: bindings::loff_t,
        _flags: ffi::c_uint,
        iomap: *mut bindings::iomap,
        _source: *mut bindings::iomap,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The inode is one of `T`'s, and stays while iomap works on it.
            let inode = unsafe { Inode::<T>::from_raw(inode) };
            // VFS lets no negative position through.
            let mapping = without_filesystem_reclaim(|| T::iomap_begin(inode, position as u64))?;
            let (kind, address) = match mapping.kind {
                Kind::Mapped { device_bytes } => (bindings::IOMAP_MAPPED, device_bytes),
                Kind::Unwritten { device_bytes } => (bindings::IOMAP_UNWRITTEN, device_bytes),
                Kind::Hole => (bindings::IOMAP_HOLE, u64::MAX),
            };
            // SAFETY: iomap waits for this to be filled in. The super block of a mounted filesystem has its device.
            unsafe {
                (*iomap).offset = mapping.start_bytes as bindings::loff_t;
                (*iomap).length = mapping.length_bytes;
                (*iomap).type_ = kind as u16;
                (*iomap).addr = address;
                (*iomap).bdev = (*inode.super_block().as_ptr()).s_bdev;
            }
            Ok(0)
        })
    }
}
