// SPDX-License-Identifier: GPL-2.0

//! `struct super_block`: a mounted filesystem (include/linux/fs.h).

use crate::block_device::BlockDevice;
use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use crate::seq_file::SeqFile;
use crate::statfs::Statistics;
use crate::time::Time;
use crate::{inode, inode_cache, io_end, kobject, xattr};
use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr;
use kernel::alloc::{flags::GFP_KERNEL, KBox};
use kernel::error::code::{EINVAL, ENOMEM};
use kernel::error::{from_result, to_result, Result};
use kernel::ffi;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::types::ARef;

/// The operations of `struct super_operations`, and how one comes to be.
pub trait Operations: FileSystem {
    /// Reads what a device holds, and says what the filesystem on it is like. Whatever happens then, [`Self::stop`] is called with
    /// the data.
    fn load(new: &mut New, options: &Self::Options) -> Result<(Parameters, Arc<Self::Data>)>;

    /// The root directory.
    fn root(super_block: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// The filesystem is to be killed: threads that use the super block end here; no work in the background begins any more that
    /// nobody waits for. It is still complete, if it ever was: VFS syncs it next, evicts the inodes, and calls [`Self::put`].
    /// A mount that has failed behind [`Self::load`] comes here too, but to `put` only if it was completed. `s_umount` is held
    /// for writing.
    fn stop(data: &Self::Data);

    /// The super block is dead: whatever else there is of the filesystem's own, threads above all, ends here. Behind
    /// [`Self::stop`], and [`Self::put`] if that was called.
    fn end(data: &Self::Data);

    /// All inodes are gone: the last chance to write. `s_umount` is held for writing.
    fn put(super_block: &SuperBlock<Self>);

    /// Makes durable what has been changed; without `wait`, only begins to. VFS has written the pages of files back. Not called while
    /// the mount is read-only. `s_umount` is held.
    fn sync_fs(super_block: &SuperBlock<Self>, wait: bool) -> Result;

    /// An inode goes out of memory: unused for long, without names, or with the mount. It may be that whoever waits for memory
    /// drops the last reference, in the middle of anything: an eviction that has to wait for other locks than its own, or for
    /// room in the journal, is handed on to somebody else. Its pages are gone, and without names it is out of the hash. An inode
    /// that was never completely read or made does not come here. It must not be counted (`ARef`): that is a bug that halts the
    /// kernel.
    fn evict(inode: &Inode<Self>);

    /// The device is gone, or will fail from now on. VFS has synced before, if it was told in time, and has evicted what it could.
    /// `s_umount` is held for reading.
    fn shutdown(super_block: &SuperBlock<Self>);

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
    // SAFETY: The super block is valid; its name is an array that ends with a NUL.
    let name = unsafe { CStr::from_char_ptr((*super_block).s_id.as_ptr()) };
    let mount = io_end::Queue::new(T::NAME, name)
        .and_then(|io_ends| Ok(KBox::new(Mount::<T> { io_ends, data: data.clone() }, GFP_KERNEL)?));
    let mount = mount.inspect_err(|_| {
        T::stop(&data);
        T::end(&data);
    })?;
    // SAFETY: The super block is the caller's alone; all tables are static and fit `T`. `kill_sb` takes the box back, be
    // the super block complete or not.
    unsafe {
        (*super_block).s_fs_info = KBox::into_raw(mount).cast();
        (*super_block).s_op = Table::<T>::TABLE;
        (*super_block).s_xattr = xattr::Table::<T>::HANDLERS.as_ptr().cast();
        (*super_block).s_magic = parameters.magic as ffi::c_ulong;
        (*super_block).s_maxbytes = parameters.max_file_bytes;
        (*super_block).s_max_links = parameters.max_links;
        // VFS looks for attributes that privileges hang on once for each inode, not at each write.
        (*super_block).s_flags |= bindings::CAIRNFS_SB_NOSEC as ffi::c_ulong;
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

/// What `s_fs_info` points to.
struct Mount<T: FileSystem> {
    /// Where the inodes' ended I/O is worked on. Dropped first, but behind the last inode.
    io_ends: io_end::Queue,
    data: Arc<T::Data>,
}

/// Takes a super block down, as `->kill_sb`.
///
/// # Safety
///
/// `super_block` must be of the filesystem `T` and have a device; it is complete, or [`fill`] has failed, or was not called. VFS
/// alone uses it still.
pub(crate) unsafe fn kill<T: Operations>(super_block: *mut bindings::super_block) {
    // SAFETY: Null, or the box that `fill` has put there, which nobody else takes.
    let mount = unsafe { (*super_block).s_fs_info }.cast::<Mount<T>>();
    // SAFETY: As above; it stays until it is dropped below.
    if let Some(mount) = unsafe { mount.as_ref() } {
        T::stop(&mount.data);
        // SAFETY: The super block is still valid.
        if unsafe { (*super_block).s_root }.is_null() {
            // VFS does not call `put_super` for a super block without a root, and gives up its claim on the device in the next
            // step: nothing may be written by then.
            T::end(&mount.data);
        }
    }
    // SAFETY: As this function's requirements say.
    unsafe { bindings::kill_block_super(super_block) };
    // SAFETY: As above.
    if let Some(mount) = unsafe { mount.as_ref() } {
        T::end(&mount.data);
    }
    if !mount.is_null() {
        // All inodes are evicted, and their freeing, which may still be waiting for a grace period, does not look at this. The
        // device may be referred to by the data: VFS has given up its claim on it and a reference, the last one is dropped here
        // or with the data's last user, and closes it.
        // SAFETY: `fill` has put it there, and nobody is left who could reach it by the super block.
        drop(unsafe { KBox::from_raw(mount) });
    }
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

    fn mount(&self) -> &Mount<T> {
        // SAFETY: By the type invariants the box is there, and it goes behind the last use of the super block.
        unsafe { &*(*self.as_ptr()).s_fs_info.cast() }
    }

    /// What the filesystem keeps of the mount.
    pub fn data(&self) -> &T::Data {
        &self.mount().data
    }

    /// The same, counted. Who keeps it longer than the mount has it without the super block.
    pub fn data_arc(&self) -> Arc<T::Data> {
        self.mount().data.clone()
    }

    pub(crate) fn io_ends(&self) -> &io_end::Queue {
        &self.mount().io_ends
    }

    /// The device's name, for messages.
    pub fn name(&self) -> &CStr {
        // SAFETY: By the type invariants the super block is valid; the name is an array that ends with a NUL, and does not change.
        unsafe { CStr::from_char_ptr((*self.as_ptr()).s_id.as_ptr()) }
    }

    /// Where the filesystem may have a directory in sysfs.
    pub fn sysfs(&self) -> kobject::Parent<'_> {
        // While there is a super block its type is registered.
        T::file_system_type().sysfs().parent()
    }

    /// Whether the mount is read-only. While it is being changed, what it was before.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants the super block is valid, as in all methods below.
        unsafe { bindings::cairnfs_helper_sb_rdonly(self.as_ptr()) }
    }

    /// Freezes the device, and with it, where it is mounted, the filesystem: what was changed is synced, and writers wait.
    /// Freezes nest. Not within a callback that has the mount's `s_umount`, or write access to it.
    pub fn freeze_device(&self) -> Result {
        // SAFETY: As in `is_read_only`; it has its device.
        to_result(unsafe { bindings::bdev_freeze((*self.as_ptr()).s_bdev) })
    }

    /// Takes one freeze of the device back. EINVAL where there is none.
    pub fn thaw_device(&self) -> Result {
        // SAFETY: As in `freeze_device`.
        to_result(unsafe { bindings::bdev_thaw((*self.as_ptr()).s_bdev) })
    }

    /// Writes everything back that is dirty in files, and waits; whether it was done. It is not while `s_umount` cannot be had at
    /// once: somebody syncs, remounts or unmounts. The caller has write access to the mount, no `i_rwsem` and no lock of the
    /// filesystem.
    pub fn write_everything_back(&self) -> bool {
        // SAFETY: As in `is_read_only`; the function takes the lock that it needs.
        unsafe { bindings::cairnfs_helper_sync_inodes_trylock(self.as_ptr()) }
    }

    /// Syncs as VFS does before an unmount: files, then [`Operations::sync_fs`], then the device. The caller has `s_umount` for
    /// writing, as in a remount.
    pub fn sync_for_remount(&self) -> Result {
        // SAFETY: As in `is_read_only`. Without the lock the function warns, no more.
        to_result(unsafe { bindings::sync_filesystem(self.as_ptr()) })
    }

    /// Whether VFS has an inode with this number in its hash: in use or not, being read, or (with names) being evicted. Does not
    /// wait for any of them.
    pub fn is_hashed(&self, number: u64) -> bool {
        let number = number as ffi::c_ulong;
        // SAFETY: As in `is_read_only`. The function takes no reference, and the result is not looked into.
        let found = unsafe {
            bindings::find_inode_nowait(self.as_ptr(), number, Some(match_number_callback), ptr::null_mut())
        };
        !found.is_null()
    }

    /// An inode for an object that is to be made.
    pub fn new_inode(&self) -> Result<inode::Unborn<T>> {
        // SAFETY: As in `is_read_only`; this context may sleep, as all of VFS' operations.
        unsafe { inode::Unborn::from_new(bindings::new_inode(self.as_ptr())) }
    }

    /// The inode with this number: from memory, or a new one that the caller reads.
    pub fn get_or_create_inode(&self, number: u64) -> Result<inode::Found<T>> {
        // SAFETY: By the type invariants the super block is valid; this context may sleep, as all of VFS' operations.
        unsafe { inode::Found::from_locked(bindings::iget_locked(self.as_ptr(), number as ffi::c_ulong)) }
    }
}

/// Whether an inode in the hash is the one that is looked for; 1 ends the walk.
///
/// # Safety
///
/// Called by `find_inode_nowait` only, with an inode in the hash, whose lock keeps it there.
unsafe extern "C" fn match_number_callback(
    inode: *mut bindings::inode,
    number: ffi::c_ulong,
    _data: *mut ffi::c_void,
) -> ffi::c_int {
    // SAFETY: The inode is in the hash, and got its number before it came there.
    (unsafe { (*inode).i_ino } == number).into()
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    pub(crate) const TABLE: &'static bindings::super_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::super_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.alloc_inode = Some(inode_cache::alloc_inode_callback::<T>);
        table.destroy_inode = Some(inode_cache::destroy_inode_callback::<T>);
        table.free_inode = Some(inode_cache::free_inode_callback::<T>);
        table.evict_inode = Some(inode::evict_callback::<T>);
        table.put_super = Some(Self::put_super_callback);
        table.sync_fs = Some(Self::sync_fs_callback);
        table.shutdown = Some(Self::shutdown_callback);
        table.statfs = Some(Self::statfs_callback);
        table.show_options = Some(Self::show_options_callback);
        table.nr_cached_objects = Some(Self::nr_cached_objects_callback);
        table.free_cached_objects = Some(Self::free_cached_objects_callback);
        table
    };

    /// # Safety
    ///
    /// Called by VFS only, for a filesystem that was mounted and whose inodes are gone.
    unsafe extern "C" fn put_super_callback(super_block: *mut bindings::super_block) {
        // SAFETY: `kill` drops the data behind this.
        T::put(unsafe { SuperBlock::<T>::from_raw(super_block) });
    }

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem, or one that is being unmounted.
    unsafe extern "C" fn sync_fs_callback(
        super_block: *mut bindings::super_block,
        wait: ffi::c_int,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: `kill` drops the data behind this.
            T::sync_fs(unsafe { SuperBlock::<T>::from_raw(super_block) }, wait != 0)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem.
    unsafe extern "C" fn shutdown_callback(super_block: *mut bindings::super_block) {
        // SAFETY: `s_umount` is held, so it is not killed meanwhile.
        T::shutdown(unsafe { SuperBlock::<T>::from_raw(super_block) });
    }

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
