// SPDX-License-Identifier: GPL-2.0

//! `struct super_block`: a mounted filesystem (include/linux/fs.h).

use crate::block_device::BlockDevice;
use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use crate::inode_cache;
use crate::seq_file::SeqFile;
use crate::statfs::Statistics;
use crate::time::Time;
use crate::{inode, xattr};
use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::pin::Pin;
use kernel::alloc::KBox;
use kernel::error::code::{EINVAL, ENOMEM};
use kernel::error::{from_result, Result};
use kernel::ffi;
use kernel::str::CStr;
use kernel::types::{ARef, ForeignOwnable};

/// The operations of `struct super_operations`, and how one comes to be.
pub trait Operations: FileSystem {
    /// Reads what a device holds, and says what the filesystem on it is like.
    fn load(new: &mut New, options: &Self::Options) -> Result<(Parameters, Pin<KBox<Self::Data>>)>;

    /// The root directory.
    fn root(super_block: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// Sizes and counts.
    fn statfs(super_block: &SuperBlock<Self>) -> Result<Statistics>;

    /// Shows the options that were given, each behind a comma.
    fn show_options(super_block: &SuperBlock<Self>, text: &mut SeqFile<'_>);

    /// How many things the filesystem's own cache could let go of. Does not wait for memory.
    fn nr_cached_objects(super_block: &SuperBlock<Self>) -> usize;

    /// Lets go of about `wanted` of them; returns how many. Called while somebody waits for memory, never by one who is in a
    /// [`memory_scope`](crate::memory_scope).
    fn free_cached_objects(super_block: &SuperBlock<Self>, wanted: usize) -> usize;
}

/// What VFS wants to know of a filesystem.
pub struct Parameters {
    /// The magic number.
    pub magic: u32,
    /// The UUID.
    pub uuid: [u8; 16],
    /// The largest offset in a file.
    pub max_file_bytes: i64,
    /// The most links of an inode.
    pub max_links: u32,
}

/// A super block that has its device, and nothing else yet.
///
/// # Invariants
///
/// The pointer is valid, and nobody else uses the super block.
pub struct New(*mut bindings::super_block);

impl New {
    /// The device's name, for messages.
    pub fn name(&self) -> &CStr {
        // SAFETY: By the type invariants the pointer is valid; the name is an array that ends with a NUL.
        unsafe { CStr::from_char_ptr((*self.0).s_id.as_ptr()) }
    }

    /// The device.
    pub fn device(&self) -> BlockDevice {
        // SAFETY: By the type invariants the super block is valid and has its device.
        unsafe { BlockDevice::from_super_block(self.0) }
    }

    /// Sets the size in which the device is read and written. EINVAL when it cannot be: larger than a page, or smaller than
    /// the device's own.
    pub fn set_block_size(&mut self, bytes: u32) -> Result {
        let bytes = ffi::c_int::try_from(bytes).map_err(|_| EINVAL)?;
        // SAFETY: By the type invariants the super block is valid and nobody uses it or, through it, its device.
        match unsafe { bindings::sb_set_blocksize(self.0, bytes) } {
            0 => Err(EINVAL),
            _ => Ok(()),
        }
    }
}

/// Completes a new super block.
///
/// # Safety
///
/// `super_block` must be new, of the filesystem `T`, with its device, and used by nobody else.
pub(crate) unsafe fn fill<T: crate::file_system_type::Operations>(
    super_block: *mut bindings::super_block,
    options: &T::Options,
) -> Result {
    // INVARIANT: As the caller vouches.
    let (parameters, data) = T::load(&mut New(super_block), options)?;
    // SAFETY: The super block is the caller's alone; all tables are static and fit `T`. `kill_sb` takes the data back, be
    // the super block complete or not.
    unsafe {
        (*super_block).s_fs_info = data.into_foreign().cast_mut();
        (*super_block).s_op = Table::<T>::TABLE;
        (*super_block).s_xattr = xattr::Table::<T>::HANDLERS.as_ptr().cast();
        (*super_block).s_magic = parameters.magic as ffi::c_ulong;
        (*super_block).s_maxbytes = parameters.max_file_bytes;
        (*super_block).s_max_links = parameters.max_links;
        (*super_block).s_time_gran = 1;
        (*super_block).s_time_min = Time::MIN_SECONDS;
        (*super_block).s_time_max = Time::MAX_SECONDS;
        bindings::cairnfs_helper_super_set_uuid(super_block, parameters.uuid.as_ptr());
    }
    // SAFETY: It has its data and its tables now.
    let complete = unsafe { SuperBlock::<T>::from_raw(super_block) };
    let root = ManuallyDrop::new(T::root(complete)?);
    // SAFETY: The inode is valid; d_make_root takes the reference, also when it fails.
    let root = unsafe { bindings::d_make_root(root.as_ptr()) };
    if root.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: The super block is the caller's alone.
    unsafe { (*super_block).s_root = root };
    Ok(())
}

/// A mounted filesystem.
///
/// # Invariants
///
/// References point to a valid `struct super_block` of the filesystem `T`, with the data and the tables that [`fill`] has set.
#[repr(transparent)]
pub struct SuperBlock<T: FileSystem>(UnsafeCell<bindings::super_block>, PhantomData<T>);

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `super_block` must be what the type's invariants say, for all of `'a`.
    pub(crate) unsafe fn from_raw<'a>(super_block: *mut bindings::super_block) -> &'a Self {
        // INVARIANT: This function's requirements are the type's invariants.
        // SAFETY: The caller vouches for the pointer, and the type is a transparent wrapper.
        unsafe { &*super_block.cast() }
    }

    pub(crate) const fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// What the filesystem keeps of the mount.
    pub fn data(&self) -> &T::Data {
        // SAFETY: By the type invariants the data is there, and it goes behind the last use of the super block.
        let data = unsafe { Pin::<KBox<T::Data>>::borrow((*self.as_ptr()).s_fs_info) };
        data.get_ref()
    }

    /// The inode with this number: from memory, or a new one that the caller reads.
    pub fn get_or_create_inode(&self, number: u64) -> Result<inode::Found<T>> {
        // SAFETY: By the type invariants the super block is valid; this context may sleep, as all of VFS' operations.
        unsafe { inode::Found::from_locked(bindings::iget_locked(self.as_ptr(), number as ffi::c_ulong)) }
    }
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    pub(crate) const TABLE: &'static bindings::super_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::super_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.alloc_inode = Some(inode_cache::alloc_inode_callback::<T>);
        table.free_inode = Some(inode_cache::free_inode_callback::<T>);
        table.statfs = Some(Self::statfs_callback);
        table.show_options = Some(Self::show_options_callback);
        table.nr_cached_objects = Some(Self::nr_cached_objects_callback);
        table.free_cached_objects = Some(Self::free_cached_objects_callback);
        table
    };

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem.
    unsafe extern "C" fn statfs_callback(
        dentry: *mut bindings::dentry,
        out: *mut bindings::kstatfs,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The dentry is valid and so, for this call, is its super block, which is mounted.
            let super_block = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
            let statistics = T::statfs(super_block)?;
            // SAFETY: The caller waits for this to be filled in, and has zeroed it.
            statistics.store(unsafe { &mut *out });
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem.
    unsafe extern "C" fn show_options_callback(
        text: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> ffi::c_int {
        // SAFETY: The root is valid and so, for this call, is its super block, which is mounted.
        let super_block = unsafe { SuperBlock::<T>::from_raw((*root).d_sb) };
        // SAFETY: The file is this call's.
        T::show_options(super_block, &mut unsafe { SeqFile::from_raw(text) });
        0
    }

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem.
    unsafe extern "C" fn nr_cached_objects_callback(
        super_block: *mut bindings::super_block,
        _control: *mut bindings::shrink_control,
    ) -> ffi::c_long {
        // SAFETY: The shrinker of a super block works from its first mount to its last unmount, before kill_sb.
        let count = T::nr_cached_objects(unsafe { SuperBlock::<T>::from_raw(super_block) });
        ffi::c_long::try_from(count).unwrap_or(ffi::c_long::MAX)
    }

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem, with `s_umount` held and in a context that may enter filesystems.
    unsafe extern "C" fn free_cached_objects_callback(
        super_block: *mut bindings::super_block,
        control: *mut bindings::shrink_control,
    ) -> ffi::c_long {
        // SAFETY: The control is this call's.
        let wanted = unsafe { (*control).nr_to_scan };
        // SAFETY: The filesystem is mounted.
        let freed = T::free_cached_objects(unsafe { SuperBlock::<T>::from_raw(super_block) }, wanted);
        ffi::c_long::try_from(freed).unwrap_or(ffi::c_long::MAX)
    }
}
