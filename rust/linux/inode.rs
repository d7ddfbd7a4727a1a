// SPDX-License-Identifier: GPL-2.0

//! `struct inode`: a file, directory or other object in memory (include/linux/fs.h).
//!
//! Inodes are found by number. [`Found`] is one that is in memory, or a [`New`] one, locked, for its finder to read; others who
//! look for it wait. A `New` that is dropped before it is initialised is made bad, and those who waited look again.
//! [`Unborn`] is an inode for an object that is only being made.
//!
//! The fields that VFS shows belong to `struct inode` and not to the filesystem, and are changed through `&self`: `i_rwsem`,
//! which VFS has taken around most operations, keeps writers apart; readers look at them without a lock, field by field.

use crate::dentry::Dentry;
use crate::file_system_type::FileSystem;
use crate::idmap::Idmap;
use crate::inode_cache;
use crate::super_block::SuperBlock;
use crate::symlink::Target;
use crate::time::Time;
use crate::xattr::NameList;
use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::error::Result;
use kernel::ffi;
use kernel::types::{ARef, AlwaysRefCounted};

mod callbacks;
mod contents;
mod new;

pub use crate::attribute_change::AttributeChange;
pub use contents::PageFaultsLocked;
pub(crate) use contents::{folio_end, folio_start, of_folio};
pub use new::{Flags, Found, Inserted, Kind, New, Parameters, Unborn};

/// `rename`: fail when the new name is taken. VFS has looked already.
pub const RENAME_NOREPLACE: u32 = bindings::RENAME_NOREPLACE;
/// `rename`: exchange the two.
pub const RENAME_EXCHANGE: u32 = bindings::RENAME_EXCHANGE;
/// `rename`: leave a whiteout behind.
pub const RENAME_WHITEOUT: u32 = bindings::RENAME_WHITEOUT;

/// The operations of `struct inode_operations`.
///
/// Those that change a directory are called with it locked for writing, and with write access to the mount. VFS has checked
/// permissions, that names are not too long, and that a name which is to be made is free, a name to be removed there.
pub trait Operations: FileSystem {
    /// The inode that `name` stands for in `parent`; `None`: no such name. The parent is locked, perhaps shared.
    fn lookup(parent: &Inode<Self>, name: &[u8]) -> Result<Option<ARef<Inode<Self>>>>;

    /// The target of a symbolic link that was initialised without it ([`Kind::LongSymlink`]).
    fn get_link(inode: &Inode<Self>) -> Result<Target>;

    /// What statx shows beyond the kernel's own fields.
    fn getattr(inode: &Inode<Self>) -> Attributes;

    /// Adds the names of all extended attributes that the caller may see.
    fn listxattr(inode: &Inode<Self>, list: &mut NameList<'_>) -> Result;

    /// Makes a regular file, and instantiates the dentry with it ([`Unborn`]). `mode` has the type and what is left of the
    /// permissions by the caller's umask. `exclusive`: it was asked for with `O_EXCL`.
    fn create(
        idmap: &Idmap,
        parent: &Inode<Self>,
        dentry: &Dentry<Self>,
        mode: u16,
        exclusive: bool,
    ) -> Result;

    /// Makes a directory. `mode` has permissions only, not the type.
    fn mkdir(idmap: &Idmap, parent: &Inode<Self>, dentry: &Dentry<Self>, mode: u16) -> Result;

    /// Makes a device, pipe or socket, as the type in `mode` says; `device` as `new_encode_dev` has it.
    fn mknod(idmap: &Idmap, parent: &Inode<Self>, dentry: &Dentry<Self>, mode: u16, device: u32) -> Result;

    /// Makes a symbolic link.
    fn symlink(idmap: &Idmap, parent: &Inode<Self>, dentry: &Dentry<Self>, target: &[u8]) -> Result;

    /// Makes another name for `inode`, which is locked for writing too; it has less than the most links. After a success the caller
    /// of this instantiates the dentry with the inode.
    fn link(inode: &Inode<Self>, parent: &Inode<Self>, dentry: &Dentry<Self>) -> Result;

    /// Removes a name of what is not a directory. The dentry has its inode, which is locked for writing too.
    fn unlink(parent: &Inode<Self>, dentry: &Dentry<Self>) -> Result;

    /// Removes a directory, if it is empty. The dentry has its inode, which is locked for writing too.
    fn rmdir(parent: &Inode<Self>, dentry: &Dentry<Self>) -> Result;

    /// Renames; both parents are locked for writing, the inode that a rename replaces too, and those that get another `..`.
    /// `flags` are `RENAME_*`, of which the filesystem refuses with EINVAL those that it does not know. After a success VFS
    /// changes the dentries.
    fn rename(
        idmap: &Idmap,
        old_parent: &Inode<Self>,
        old_dentry: &Dentry<Self>,
        new_parent: &Inode<Self>,
        new_dentry: &Dentry<Self>,
        flags: u32,
    ) -> Result;

    /// Changes attributes of an inode that is locked for writing. Names may change meanwhile, so there is no dentry here.
    fn setattr(idmap: &Idmap, inode: &Inode<Self>, change: &mut AttributeChange<'_>) -> Result;

    /// Updates the times that `flags` name to [`Inode::current_time`]. Called with write access to the mount; for `accessed`
    /// alone without any lock of the inode, perhaps by many at once.
    fn update_time(inode: &Inode<Self>, flags: TimeFlags) -> Result;
}

/// Which times are to be updated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimeFlags {
    /// Last access.
    pub accessed: bool,
    /// Last change of content.
    pub modified: bool,
    /// Last change of anything.
    pub changed: bool,
    /// The change counter.
    pub version: bool,
}

/// What statx shows beyond the fields of `struct inode`.
pub struct Attributes {
    /// When it was made.
    pub born: Time,
    /// Sectors that the file will take beside those that `struct inode` counts: what is in memory only must not pass for a hole.
    pub unmapped_sectors: u64,
    /// `chattr +i`.
    pub is_immutable: bool,
    /// `chattr +a`.
    pub is_append_only: bool,
    /// `chattr +d`.
    pub is_no_dump: bool,
}

/// An inode that has been read or made.
///
/// # Invariants
///
/// References point to a valid `struct inode` of the filesystem `T` that was initialised, with the filesystem's data. For as long
/// somebody has a counted reference; or the inode is being evicted, has `I_CLEAR`, and VFS keeps it; or pages of it are under
/// writeback, for which its eviction waits.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(UnsafeCell<bindings::inode>, PhantomData<T>);

// SAFETY: VFS itself uses an inode from all threads. What is read and written here are single fields that VFS reads without
// a lock too; the filesystem's data is `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for Inode<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

// SAFETY: Who has a counted reference keeps the inode; it is freed when the last is dropped.
unsafe impl<T: FileSystem> AlwaysRefCounted for Inode<T> {
    fn inc_ref(&self) {
        // SAFETY: By the type invariants the inode is valid. Where there is a reference there is a count to raise; where there is
        // none, this does not return.
        unsafe { bindings::cairnfs_helper_inode_hold(self.as_ptr()) };
    }

    unsafe fn dec_ref(object: NonNull<Self>) {
        // SAFETY: The caller gives a counted reference up.
        unsafe { bindings::iput(object.as_ref().as_ptr()) };
    }
}

/// A field of an inode, which others may be changing.
macro_rules! read_field {
    ($inode:expr, $($field:ident).+) => {{
        let inode: *mut bindings::inode = $inode;
        // SAFETY: The inode is valid, by the invariants of its type. Volatile, since writers do not wait for readers.
        unsafe { (&raw const (*inode).$($field).+).read_volatile() }
    }};
}

/// Changes a field of an inode, which others may be reading.
macro_rules! write_field {
    ($inode:expr, $field:ident, $value:expr) => {{
        let (inode, value): (*mut bindings::inode, _) = ($inode, $value);
        // SAFETY: The inode is valid, by the invariants of its type. Volatile, since readers do not wait for writers.
        unsafe { (&raw mut (*inode).$field).write_volatile(value) }
    }};
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `inode` must be what the type's invariants say, for all of `'a`.
    pub(crate) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // INVARIANT: This function's requirements are the type's invariants.
        // SAFETY: The caller vouches for the pointer, and the type is a transparent wrapper.
        unsafe { &*inode.cast() }
    }

    pub(crate) const fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// The filesystem that it belongs to.
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariants the inode is one of `T`'s, and its super block outlives it.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// What the filesystem keeps of the inode.
    pub fn data(&self) -> &T::InodeData {
        // SAFETY: By the type invariants it is one of `T`'s, and has its data as long as there is a reference.
        unsafe { inode_cache::data(self.as_ptr()) }
    }

    /// Its number.
    pub const fn number(&self) -> u64 {
        // SAFETY: By the type invariants the inode is valid; it got its number before anybody saw it, for good.
        unsafe { (*self.as_ptr()).i_ino as u64 }
    }

    /// Type and permissions.
    pub fn mode(&self) -> u16 {
        read_field!(self.as_ptr(), i_mode)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        u32::from(self.mode()) & bindings::S_IFMT == bindings::S_IFDIR
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        u32::from(self.mode()) & bindings::S_IFMT == bindings::S_IFREG
    }

    /// Whether changes of it are to be durable before the call returns: the mount's `sync`, or the `S` flag.
    pub fn is_sync(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid.
        unsafe { bindings::cairnfs_helper_is_sync(self.as_ptr()) }
    }

    /// The same for the names of a directory: also the mount's `dirsync`, or the `D` flag.
    pub fn is_dirsync(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid.
        unsafe { bindings::cairnfs_helper_is_dirsync(self.as_ptr()) }
    }

    /// Owner, as it is written to the device.
    pub fn uid(&self) -> u32 {
        // SAFETY: The inode is valid, by the type invariants; as in all methods below.
        unsafe { bindings::cairnfs_helper_i_uid_read(self.as_ptr()) }
    }

    /// Group, as it is written to the device.
    pub fn gid(&self) -> u32 {
        // SAFETY: As in `uid`.
        unsafe { bindings::cairnfs_helper_i_gid_read(self.as_ptr()) }
    }

    /// Names.
    pub fn links(&self) -> u32 {
        read_field!(self.as_ptr(), __bindgen_anon_1.i_nlink)
    }

    /// Size in bytes.
    pub fn size(&self) -> i64 {
        // SAFETY: As in `uid`.
        unsafe { bindings::cairnfs_helper_i_size_read(self.as_ptr()) }
    }

    /// Last access.
    pub fn accessed(&self) -> Time {
        // SAFETY: As in `uid`.
        Time::from_timespec(unsafe { bindings::cairnfs_helper_inode_get_atime(self.as_ptr()) })
    }

    /// Last change of content.
    pub fn modified(&self) -> Time {
        // SAFETY: As in `uid`.
        Time::from_timespec(unsafe { bindings::cairnfs_helper_inode_get_mtime(self.as_ptr()) })
    }

    /// Last change of anything.
    pub fn changed(&self) -> Time {
        // SAFETY: As in `uid`.
        Time::from_timespec(unsafe { bindings::cairnfs_helper_inode_get_ctime(self.as_ptr()) })
    }

    /// The time that VFS would give it now: that of the last clock tick, so that looking at it costs nothing.
    pub fn current_time(&self) -> Time {
        // SAFETY: As in `uid`.
        Time::from_timespec(unsafe { bindings::current_time(self.as_ptr()) })
    }

    /// Sets the number of names. The caller has `i_rwsem` for writing. At 0 the last reference evicts the inode, and until then
    /// the filesystem cannot be remounted read-only.
    pub fn set_links(&self, links: u32) {
        // SAFETY: As in `uid`.
        unsafe { bindings::set_nlink(self.as_ptr(), links) };
    }

    /// Sets the size. The caller has `i_rwsem` for writing.
    pub fn set_size(&self, bytes: i64) {
        // SAFETY: As in `uid`.
        unsafe { bindings::cairnfs_helper_i_size_write(self.as_ptr(), bytes) };
    }

    /// Sets the space that it takes, in units of 512 bytes. The caller has a lock of the filesystem under which alone this is called.
    pub fn set_sectors(&self, sectors: u64) {
        write_field!(self.as_ptr(), i_blocks, sectors);
    }

    /// Sets the permissions; the type stays what it is. The caller has `i_rwsem` for writing.
    pub fn set_mode(&self, mode: u16) {
        let kind = bindings::S_IFMT as u16;
        write_field!(self.as_ptr(), i_mode, (self.mode() & kind) | (mode & !kind));
    }

    /// Sets owner and group, as they are written to the device. The caller has `i_rwsem` for writing.
    pub fn set_owner(&self, uid: u32, gid: u32) {
        // SAFETY: As in `uid`.
        unsafe {
            bindings::cairnfs_helper_i_uid_write(self.as_ptr(), uid);
            bindings::cairnfs_helper_i_gid_write(self.as_ptr(), gid);
        }
    }

    /// Sets the three times. The caller has a lock of the filesystem under which alone this is called; `i_rwsem` will not do, since
    /// accesses are noted without it.
    pub fn set_times(&self, accessed: Time, modified: Time, changed: Time) {
        // SAFETY: As in `uid`.
        unsafe { set_times(self.as_ptr(), accessed, modified, changed) };
    }
}

/// # Safety
///
/// `inode` must be valid.
unsafe fn set_times(inode: *mut bindings::inode, accessed: Time, modified: Time, changed: Time) {
    // SAFETY: As the caller vouches.
    unsafe {
        bindings::cairnfs_helper_inode_set_atime(inode, accessed.seconds, accessed.nanoseconds);
        bindings::cairnfs_helper_inode_set_mtime(inode, modified.seconds, modified.nanoseconds);
        bindings::cairnfs_helper_inode_set_ctime(inode, changed.seconds, changed.nanoseconds);
    }
}

/// `->evict_inode`: what every inode has is taken apart here, then the filesystem is asked, if it knows the inode.
///
/// An inode without names leaves the hash first. Its number may be free, and given to a new object, as soon as the filesystem has
/// been asked, and the new one's inode must be able to enter the hash; and a worker that frees objects by number, and
/// passes over those that are still in the hash, would pass over this one and not be told again. An inode *with* names
/// stays in the hash until this has returned: who looks for it waits, and then reads what the filesystem has made of it.
///
/// # Safety
///
/// Called by VFS only, once, for an inode of `T` without references.
pub(crate) unsafe extern "C" fn evict_callback<T: crate::super_block::Operations>(
    inode: *mut bindings::inode,
) {
    // SAFETY: The inode is this call's. It has no references, so nobody adds pages to it or sets data.
    let is_known = unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        bindings::clear_inode(inode);
        inode_cache::has_data::<T::InodeData>(inode)
    };
    if !is_known {
        // It was never read, or never made: for the filesystem there was no such inode.
        return;
    }
    // SAFETY: It was initialised, has its data, and VFS keeps it while this runs; it is clear, so no reference can be taken that
    // would outlive this.
    let inode = unsafe { Inode::<T>::from_raw(inode) };
    if inode.links() == 0 {
        // SAFETY: The inode is this call's. VFS does the same later, and finds it done.
        unsafe { bindings::cairnfs_helper_remove_inode_hash(inode.as_ptr()) };
    }
    T::evict(inode);
}

/// How VFS writes `TimeFlags`.
impl TimeFlags {
    const fn from_raw(flags: ffi::c_int) -> Self {
        let flags = flags as bindings::file_time_flags;
        Self {
            accessed: flags & bindings::file_time_flags_S_ATIME != 0,
            modified: flags & bindings::file_time_flags_S_MTIME != 0,
            changed: flags & bindings::file_time_flags_S_CTIME != 0,
            version: flags & bindings::file_time_flags_S_VERSION != 0,
        }
    }
}
