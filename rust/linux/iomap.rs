// SPDX-License-Identifier: GPL-2.0

//! iomap: file contents by extents (include/linux/iomap.h).
//!
//! iomap has the page cache, the filesystem says where bytes are. Whoever makes pages dirty asks first
//! ([`Operations::iomap_begin`]), and the filesystem promises blocks for what has none; writeback asks where to write
//! ([`Operations::map_blocks`]), and when that I/O has ended the filesystem is told ([`Operations::io_end`]) before the pages
//! are clean to others.
//!
//! A mapping is used for a while after it was given out. It carries a sequence number, and is looked at again
//! ([`Operations::is_valid`]) with each folio locked.

use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use crate::memory_scope::without_filesystem_reclaim;
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::code::{EAGAIN, EFBIG, EIO};
use kernel::error::{from_result, to_result, Result};
use kernel::ffi;

mod writeback;

/// What a range of a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On the device, from this byte on.
    Mapped {
        /// The byte of the device.
        device_bytes: u64,
    },
    /// On the device, but not written yet: reads as zero where no page says otherwise. In a write's end this is what was new.
    Unwritten {
        /// The byte of the device.
        device_bytes: u64,
    },
    /// Promised a place on the device: pages say what it is.
    Delayed,
    /// Nowhere: reads as zero.
    Hole,
}

/// A range of a file.
#[derive(Clone, Copy)]
pub struct Mapping {
    /// Where it begins, in bytes of the file: at or before what was asked for.
    pub start_bytes: u64,
    /// Its length in bytes: it ends behind what was asked for.
    pub length_bytes: u64,
    /// What it is.
    pub kind: Kind,
    /// It was [`Kind::Delayed`] by this very call. What of it no data comes to is taken back.
    pub is_new: bool,
    /// What is not durable yet is needed to find it.
    pub is_dirty: bool,
    /// It holds as long as this is valid.
    pub sequence: u64,
}

/// What a range is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading it into the page cache.
    Read,
    /// Making pages dirty by a write.
    Write,
    /// Making zeros dirty where there is something else on the device; what reads as zero is left.
    Zero,
    /// Making a page dirty that a program has mapped; its folio is locked.
    Fault,
    /// Telling what there is.
    Report,
}

impl Purpose {
    const fn from_flags(flags: u32) -> Self {
        if flags & bindings::IOMAP_FAULT != 0 {
            Self::Fault
        } else if flags & bindings::IOMAP_WRITE != 0 {
            Self::Write
        } else if flags & bindings::IOMAP_ZERO != 0 {
            Self::Zero
        } else if flags & bindings::IOMAP_REPORT != 0 {
            Self::Report
        } else {
            Self::Read
        }
    }

    /// Whether pages become dirty whatever the range is.
    const fn needs_place(self) -> bool {
        matches!(self, Self::Write | Self::Fault)
    }
}

/// The operations of `struct iomap_ops` and `struct iomap_writeback_ops`.
pub trait Operations: FileSystem {
    /// The range around byte `position` of a file, of which up to `length` bytes are wanted. For [`Purpose::Write`] and
    /// [`Purpose::Fault`] it is no hole: without a place it becomes [`Kind::Delayed`], also behind the end of the file. Perhaps
    /// with folios of the file locked; in a [`memory_scope`](crate::memory_scope).
    fn iomap_begin(inode: &Inode<Self>, position: u64, length: u64, purpose: Purpose) -> Result<Mapping>;

    /// Whether what was mapped with this sequence is where it was. With a folio locked; does not wait.
    fn is_valid(inode: &Inode<Self>, sequence: u64) -> bool;

    /// Promises in this range, in whole blocks, are void: no data has come to them, or it is lost. Only promises
    /// ([`Kind::Delayed`]): beside them may lie what is being written. Perhaps with a folio locked.
    fn release_delayed(inode: &Inode<Self>, start_byte: u64, end_byte: u64);

    /// Where the block with the end of the file begins, if the device may have anything behind the end there: a program that
    /// maps its page is to see zeros. With a folio locked; does not wait.
    fn stale_tail(inode: &Inode<Self>) -> Option<u64>;

    /// Where writeback puts the dirty block at `position`: [`Kind::Mapped`], or [`Kind::Unwritten`] when it is new. `length`
    /// bytes from there on are dirty in the folio, which is locked; what else is promised may be mapped with it. An error loses
    /// the data, and is reported by fsync.
    fn map_blocks(inode: &Inode<Self>, position: u64, length: u64) -> Result<Mapping>;

    /// A write of writeback has ended with `outcome`, or was not begun because of it; it was of [`Kind::Unwritten`] if `is_new`.
    /// The bytes end no later than the file did when they were written. Their pages are under writeback until this has returned,
    /// so who waits for writeback waits for this too: it takes no lock under which that is done, `i_rwsem` and the lock of page
    /// faults among them, and no folio. By a thread; not in interrupts. The inode may be about to be evicted, so it must not
    /// be counted (`ARef`). The result is what fsync reports.
    fn io_end(inode: &Inode<Self>, start_byte: u64, bytes: u64, is_new: bool, outcome: Result) -> Result;
}

impl Mapping {
    /// Writes it down for iomap. EIO for what iomap would take for a bug and stop at: a range that does not have the position.
    ///
    /// # Safety
    ///
    /// `iomap` must be writable, by nobody else; the inode's super block has its device.
    unsafe fn store<T: Operations>(
        &self,
        inode: &Inode<T>,
        position: u64,
        iomap: *mut bindings::iomap,
    ) -> Result {
        // The end of all files is behind the last number that iomap has for a position.
        let end = self.start_bytes.saturating_add(self.length_bytes).min(i64::MAX as u64);
        let length = end.saturating_sub(self.start_bytes);
        if self.start_bytes > position || end <= position {
            return Err(EIO);
        }
        let (kind, address) = match self.kind {
            Kind::Mapped { device_bytes } => (bindings::IOMAP_MAPPED, device_bytes),
            Kind::Unwritten { device_bytes } => (bindings::IOMAP_UNWRITTEN, device_bytes),
            Kind::Delayed => (bindings::IOMAP_DELALLOC, u64::MAX),
            Kind::Hole => (bindings::IOMAP_HOLE, u64::MAX),
        };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.is_new, bindings::CAIRNFS_IOMAP_F_NEW)
            | flag(self.is_dirty, bindings::CAIRNFS_IOMAP_F_DIRTY);
        // SAFETY: As the caller vouches; the super block of a mounted filesystem has its device.
        unsafe {
            (*iomap).offset = self.start_bytes as bindings::loff_t;
            (*iomap).length = length;
            (*iomap).type_ = kind as u16;
            (*iomap).flags = flags as u16;
            (*iomap).addr = address;
            (*iomap).bdev = (*inode.super_block().as_ptr()).s_bdev;
            (*iomap).folio_ops = Table::<T>::FOLIO;
            (*iomap).validity_cookie = self.sequence;
        }
        Ok(())
    }
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    /// For what makes nothing dirty, or all of what it asks for.
    pub(crate) const READ: &'static bindings::iomap_ops =
        &bindings::iomap_ops { iomap_begin: Some(Self::iomap_begin_callback), iomap_end: None };

    /// For writes, which may come to less than they asked for.
    pub(crate) const WRITE: &'static bindings::iomap_ops = &bindings::iomap_ops {
        iomap_begin: Some(Self::iomap_begin_callback),
        iomap_end: Some(Self::iomap_end_callback),
    };

    const FOLIO: &'static bindings::iomap_folio_ops = &bindings::iomap_folio_ops {
        get_folio: None,
        put_folio: None,
        iomap_valid: Some(Self::iomap_valid_callback),
    };

    /// What the page cache of a regular file calls.
    pub(crate) const ADDRESS_SPACE: &'static bindings::address_space_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::address_space_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.read_folio = Some(Self::read_folio_callback);
        table.readahead = Some(Self::readahead_callback);
        table.writepages = Some(writeback::writepages_callback::<T>);
        table.dirty_folio = Some(bindings::iomap_dirty_folio);
        table.is_partially_uptodate = Some(bindings::iomap_is_partially_uptodate);
        table.release_folio = Some(bindings::iomap_release_folio);
        table.invalidate_folio = Some(bindings::iomap_invalidate_folio);
        // A kernel without this option has no such function, and moves no pages.
        #[cfg(CONFIG_MIGRATION)]
        {
            table.migrate_folio = Some(bindings::filemap_migrate_folio);
        }
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
        unsafe { bindings::iomap_read_folio(folio, Self::READ) }
    }

    /// # Safety
    ///
    /// Called by the page cache only, for a file of `T`.
    unsafe extern "C" fn readahead_callback(control: *mut bindings::readahead_control) {
        // SAFETY: The control is the caller's, and its file is one of `T`'s.
        unsafe { bindings::iomap_readahead(control, Self::READ) };
    }

    /// # Safety
    ///
    /// Called by iomap only, with a regular file of `T`.
    unsafe extern "C" fn iomap_begin_callback(
        inode: *mut bindings::inode,
        position: bindings::loff_t,
        length: bindings::loff_t,
        flags: ffi::c_uint,
        iomap: *mut bindings::iomap,
        _source: *mut bindings::iomap,
    ) -> ffi::c_int {
        from_result(|| {
            // Files are not opened for it, so nobody asks: a look at a map may have to read it.
            if flags & bindings::IOMAP_NOWAIT != 0 {
                return Err(EAGAIN);
            }
            // SAFETY: The inode is one of `T`'s, and stays while iomap works on it.
            let inode = unsafe { Inode::<T>::from_raw(inode) };
            let purpose = Purpose::from_flags(flags);
            // VFS lets no negative position through, and nothing shorter than a byte.
            let mapping = begin(inode, position as u64, length as u64, purpose)?;
            // SAFETY: iomap waits for this to be filled in.
            unsafe { mapping.store(inode, position as u64, iomap)? };
            Ok(0)
        })
    }

    /// What a write has promised for itself and left without data is released.
    ///
    /// # Safety
    ///
    /// Called by iomap only, with a regular file of `T` and what [`Self::iomap_begin_callback`] has filled in. Without a folio
    /// locked.
    unsafe extern "C" fn iomap_end_callback(
        inode: *mut bindings::inode,
        position: bindings::loff_t,
        length: bindings::loff_t,
        written: isize,
        flags: ffi::c_uint,
        iomap: *mut bindings::iomap,
    ) -> ffi::c_int {
        // SAFETY: The mapping is this call's.
        let (kind, iomap_flags) = unsafe { (u32::from((*iomap).type_), u32::from((*iomap).flags)) };
        if kind != bindings::IOMAP_DELALLOC || iomap_flags & bindings::CAIRNFS_IOMAP_F_NEW == 0 {
            return 0;
        }
        // SAFETY: The inode is valid; its block size is that of the filesystem, for good.
        let block_bytes = 1_i64.checked_shl(unsafe { (*inode).i_blkbits }.into()).unwrap_or(i64::MAX);
        let start = match written {
            0 => round_down(position, block_bytes),
            written => round_up(position.saturating_add(written as i64), block_bytes),
        };
        let end = round_up(position.saturating_add(length), block_bytes);
        if start >= end {
            return 0;
        }
        // SAFETY: As this function's requirements say. Who zeroes has locked page faults out himself (`Inode::zero_range`). The
        // function releases what is not dirty: it holds each folio in the range while it looks.
        unsafe {
            let mapping = (*inode).i_mapping;
            let is_locked = flags & bindings::IOMAP_ZERO != 0;
            if !is_locked {
                bindings::cairnfs_helper_filemap_invalidate_lock(mapping);
            }
            let punch = Some(Self::punch_callback as unsafe extern "C" fn(_, _, _, _));
            bindings::iomap_write_delalloc_release(inode, start, end, flags, iomap, punch);
            if !is_locked {
                bindings::cairnfs_helper_filemap_invalidate_unlock(mapping);
            }
        }
        0
    }

    /// # Safety
    ///
    /// Called by [`Self::iomap_end_callback`] only, through iomap, with its inode.
    unsafe extern "C" fn punch_callback(
        inode: *mut bindings::inode,
        start: bindings::loff_t,
        length: bindings::loff_t,
        _iomap: *mut bindings::iomap,
    ) {
        // SAFETY: As this function's requirements say.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        // A range of a file: nothing here is negative.
        T::release_delayed(inode, start as u64, start.saturating_add(length) as u64);
    }

    /// # Safety
    ///
    /// Called by iomap only, with a regular file of `T` and what [`Self::iomap_begin_callback`] has filled in.
    unsafe extern "C" fn iomap_valid_callback(
        inode: *mut bindings::inode,
        iomap: *const bindings::iomap,
    ) -> bool {
        // SAFETY: The inode is one of `T`'s, and stays while iomap works on it; the mapping is the caller's.
        let (inode, sequence) = unsafe { (Inode::<T>::from_raw(inode), (*iomap).validity_cookie) };
        T::is_valid(inode, sequence)
    }
}

/// Asks the filesystem; EIO for a hole where something is about to become dirty, which would be dropped silently.
pub(crate) fn begin<T: Operations>(
    inode: &Inode<T>,
    position: u64,
    length: u64,
    purpose: Purpose,
) -> Result<Mapping> {
    let mapping = without_filesystem_reclaim(|| T::iomap_begin(inode, position, length, purpose))?;
    if purpose.needs_place() && mapping.kind == Kind::Hole {
        return Err(EIO);
    }
    Ok(mapping)
}

/// `unit_bytes`: a power of two, at least 1.
const fn round_down(byte: i64, unit_bytes: i64) -> i64 {
    byte & unit_bytes.saturating_neg()
}

const fn round_up(byte: i64, unit_bytes: i64) -> i64 {
    round_down(byte.saturating_add(unit_bytes.saturating_sub(1)), unit_bytes)
}

impl<T: Operations> Inode<T> {
    /// Makes `bytes` bytes from `start` on zero in the page cache, where they are not anyway; whether anything was to be done.
    /// What was dirty and reads as zero on the device is written first. The caller has `i_rwsem` for writing and has locked page
    /// faults out ([`Inode::lock_page_faults`]), and has no handle open: this may wait for writeback.
    pub fn zero_range(&self, start: u64, bytes: u64) -> Result<bool> {
        let in_file = |number: u64| bindings::loff_t::try_from(number).map_err(|_| EFBIG);
        let (start, bytes, mut did_zero) = (in_file(start)?, in_file(bytes)?, false);
        let table = Table::<T>::WRITE;
        // SAFETY: By the type invariants the inode is valid; the table is that of its filesystem.
        to_result(unsafe {
            bindings::iomap_zero_range(self.as_ptr(), start, bytes, &raw mut did_zero, table)
        })?;
        Ok(did_zero)
    }
}
