// SPDX-License-Identifier: GPL-2.0

//! `struct file_system_type`: what mount(8) finds by name (include/linux/fs.h).
//!
//! The C structure embeds the lock class keys of all super blocks and inodes of its type, and lockdep takes keys
//! from static objects only: so a filesystem's type is a `static`, made by [`FileSystemType::new`] and registered
//! once while the module is being loaded. An open file or a mount holds the module by `owner`, so the module cannot
//! go away under a filesystem that is in use; what VFS still does afterwards by RCU is waited for at unregistration.

use crate::inode_cache::{self, InodeCache};
use crate::this_module::THIS_MODULE;
use crate::{file, fs_context, inode, iomap, kobject, super_block, xattr};
use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::{to_result, Result};
use kernel::ffi;
use kernel::str::CStr;

/// A filesystem: its types, and its one type object.
pub trait FileSystem: Sized + 'static {
    /// The type's name, as in `mount -t`. It contains no dot: the kernel treats that as a programming error.
    const NAME: &'static CStr;
    /// The name of the inodes' slab cache, as in /proc/slabinfo.
    const INODE_CACHE_NAME: &'static CStr;

    /// The mount options; the default is what holds when none is given.
    type Options: Default + Send;
    /// What the filesystem keeps of a mount; dropped behind the unmount, with its last reference.
    type Data: Send + Sync;
    /// What the filesystem keeps of an inode in memory; dropped when the inode is evicted, where waiting is allowed.
    type InodeData: Send + Sync;

    /// The static in which its type is.
    fn file_system_type() -> &'static FileSystemType<Self>;
}

/// All operations that a filesystem has.
pub trait Operations:
    fs_context::Operations
    + super_block::Operations
    + inode::Operations
    + file::Operations
    + iomap::Operations
    + xattr::Operations
{
}

impl<T> Operations for T where
    T: fs_context::Operations
        + super_block::Operations
        + inode::Operations
        + file::Operations
        + iomap::Operations
        + xattr::Operations
{
}

/// A filesystem's type, to be put into a `static`.
///
/// # Invariants
///
/// All that points into it is as `'static` as the type itself, and the table is changed by VFS only, under its own locks.
#[repr(C)]
pub struct FileSystemType<T: FileSystem> {
    table: UnsafeCell<bindings::file_system_type>,
    inode_cache: InodeCache,
    sysfs: kobject::Root,
    _filesystem: PhantomData<fn() -> T>,
}

// SAFETY: Nothing in Rust reads or writes the table after construction; VFS does so under its own locks. Cache and root are Sync.
unsafe impl<T: FileSystem> Sync for FileSystemType<T> {}

impl<T: FileSystem> FileSystemType<T> {
    pub(crate) const fn inode_cache(&self) -> &InodeCache {
        &self.inode_cache
    }

    pub(crate) const fn sysfs(&self) -> &kobject::Root {
        &self.sysfs
    }
}

impl<T: Operations> FileSystemType<T> {
    /// The type with the operations of `T`, for a block device.
    pub const fn new() -> Self {
        // SAFETY: Null pointers, a null list head, empty lock class keys: all zeros is a valid value.
        let mut table: bindings::file_system_type = unsafe { MaybeUninit::zeroed().assume_init() };
        table.name = T::NAME.as_char_ptr();
        table.fs_flags = (bindings::FS_REQUIRES_DEV | bindings::FS_ALLOW_IDMAP) as ffi::c_int;
        table.init_fs_context = Some(fs_context::Table::<T>::init_fs_context_callback);
        table.parameters = T::PARAMETERS.as_ptr();
        table.kill_sb = Some(Self::kill_sb_callback);
        table.owner = THIS_MODULE;
        // INVARIANT: The name, the functions, the options and the module are static.
        Self {
            table: UnsafeCell::new(table),
            inode_cache: InodeCache::new(),
            sysfs: kobject::Root::new(),
            _filesystem: PhantomData,
        }
    }

    /// # Safety
    ///
    /// Called by VFS only, once, for a super block of this type that nobody has mounted any more, or that was never
    /// completed.
    unsafe extern "C" fn kill_sb_callback(super_block: *mut bindings::super_block) {
        // SAFETY: As this function's requirements say.
        unsafe { super_block::kill::<T>(super_block) };
    }

    /// Makes the type known, and gives it a directory `/sys/fs/<name>`; dropping the result makes it unknown again. EBUSY if the name is taken.
    pub fn register(&'static self) -> Result<Registration<T>> {
        let inode_cache = inode_cache::Registration::new::<T>(&self.inode_cache)?;
        let sysfs = kobject::Registration::new(&self.sysfs, T::NAME)?;
        // SAFETY: The table is static and, by the type invariants, so is all it points to; the kernel itself refuses
        // a table that is registered already.
        to_result(unsafe { bindings::register_filesystem(self.table.get()) })?;
        // INVARIANT: It was registered just now.
        Ok(Registration { file_system_type: self, _sysfs: sysfs, _inode_cache: inode_cache })
    }
}

impl<T: Operations> Default for FileSystemType<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A type that is registered.
///
/// # Invariants
///
/// The type was registered by this value's constructor, and is unregistered by its `drop` alone.
#[must_use = "the type is unregistered when this is dropped"]
pub struct Registration<T: FileSystem> {
    file_system_type: &'static FileSystemType<T>,
    /// Dropped behind this struct's own `drop`, when there is no mount that could have a directory in it.
    _sysfs: kobject::Registration,
    /// Dropped behind this struct's own `drop`, when no inode is left.
    _inode_cache: inode_cache::Registration,
}

impl<T: FileSystem> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the type is registered. The result can say only that it is not.
        unsafe { bindings::unregister_filesystem(self.file_system_type.table.get()) };
        // Inodes are freed after a grace period, by a function of this module.
        // SAFETY: The module is being unloaded, or has failed to load: this context may sleep.
        unsafe { bindings::rcu_barrier() };
    }
}
