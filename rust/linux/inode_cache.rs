// SPDX-License-Identifier: GPL-2.0

//! The slab cache of inodes (include/linux/slab.h): each has the filesystem's own data in front of the kernel's `struct inode`.
//!
//! The inode part is constructed once, when its slab is made, and stays constructed while it is free, as
//! `inode_init_once()` wants it: somebody may still look at it under RCU.
//!
//! The data is initialised in place when the inode has been read or made, so it may hold locks. It goes before the inode
//! does: by `->destroy_inode`, in the context of whoever evicts the inode, so its drop may wait, and all of it is gone when
//! the last inode is evicted. Under RCU nobody looks at it; what path walk reads without a reference, a link's
//! target, goes with the memory, by `->free_inode` after a grace period.

use crate::file_system_type::FileSystem;
use crate::io_end;
use cairnfs_bindings as bindings;
use core::mem::{offset_of, size_of, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::error::code::{EBUSY, ENOMEM};
use kernel::error::{Error, Result};
use kernel::ffi::c_void;
use kernel::prelude::PinInit;

/// An inode with the data of the filesystem.
///
/// # Invariants
///
/// The data is initialised if `has_data` says so. Both change only while one task alone has the inode: it is new, or being
/// destroyed.
#[repr(C)]
pub(crate) struct InodeWithData<D> {
    data: MaybeUninit<D>,
    has_data: bool,
    /// Initialised for regular files, when they are.
    io_ends: MaybeUninit<io_end::List>,
    inode: bindings::inode,
}

/// The cache, in a static.
///
/// # Invariants
///
/// Null, or a cache of `InodeWithData` of the one filesystem that has this static.
pub(crate) struct InodeCache(AtomicPtr<bindings::kmem_cache>);

impl InodeCache {
    pub(crate) const fn new() -> Self {
        // INVARIANT: It is null.
        Self(AtomicPtr::new(ptr::null_mut()))
    }
}

/// A cache that exists.
///
/// # Invariants
///
/// The cache is there until this is dropped.
pub(crate) struct Registration(&'static InodeCache);

impl Registration {
    /// EBUSY when there is one already.
    pub(crate) fn new<T: FileSystem>(cache: &'static InodeCache) -> Result<Self> {
        let bytes = size_of::<InodeWithData<T::InodeData>>() as u32;
        // SAFETY: The name is static; the constructor fits objects of this size.
        let created = unsafe {
            bindings::cairnfs_helper_inode_cache_create(
                T::INODE_CACHE_NAME.as_char_ptr(),
                bytes,
                Some(construct_callback::<T::InodeData>),
            )
        };
        if created.is_null() {
            return Err(ENOMEM);
        }
        if cache.0.compare_exchange(ptr::null_mut(), created, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: It was made just now, and nobody has seen it.
            unsafe { bindings::kmem_cache_destroy(created) };
            return Err(EBUSY);
        }
        // INVARIANT: The cache's objects are `T`'s, and there is no other registration with this static.
        Ok(Self(cache))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let cache = self.0 .0.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the invariants it is a cache. The filesystem's type is not registered (any more), so there are no inodes,
        // and `rcu_barrier` has waited for those on their way.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}

/// # Safety
///
/// Called by the slab allocator only, with new memory for an `InodeWithData<D>`.
unsafe extern "C" fn construct_callback<D>(memory: *mut c_void) {
    let object = memory.cast::<InodeWithData<D>>();
    // SAFETY: The memory is writable for the whole object.
    unsafe { bindings::inode_init_once(&raw mut (*object).inode) };
}

/// # Safety
///
/// Called by VFS only, while `T` is mounted or being mounted on `super_block`.
pub(crate) unsafe extern "C" fn alloc_inode_callback<T: FileSystem>(
    super_block: *mut bindings::super_block,
) -> *mut bindings::inode {
    let cache = T::file_system_type().inode_cache().0.load(Ordering::Acquire);
    // SAFETY: The cache is there while the type is registered, and it is while there are super blocks of it.
    let memory = unsafe { bindings::cairnfs_helper_alloc_inode_sb(super_block, cache) };
    let object = memory.cast::<InodeWithData<T::InodeData>>();
    if object.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: By the cache's invariants this is memory for such an object, and nobody else has it. Its inode part is
    // constructed.
    unsafe {
        // INVARIANT: There is no data.
        (&raw mut (*object).has_data).write(false);
        &raw mut (*object).inode
    }
}

/// # Safety
///
/// Called by VFS only, once, for an inode from [`alloc_inode_callback`] of the same `T` that nobody has a reference to any more.
pub(crate) unsafe extern "C" fn destroy_inode_callback<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: The inode is this call's alone, but for path walks under RCU, which do not look at the data.
    unsafe { drop_data::<T::InodeData>(inode) };
}

/// # Safety
///
/// Called by VFS only, once, for an inode from [`alloc_inode_callback`] of the same `T` that was destroyed and that nobody can
/// see any more. Its super block may be gone.
pub(crate) unsafe extern "C" fn free_inode_callback<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: Nobody can see it.
    unsafe { free_link(inode) };
    // SAFETY: The inode comes from `alloc_inode_callback`.
    let object = unsafe { container::<T::InodeData>(inode) };
    let cache = T::file_system_type().inode_cache().0.load(Ordering::Acquire);
    // SAFETY: The object is from this cache, which is there until `rcu_barrier` has waited for this call.
    unsafe { bindings::kmem_cache_free(cache, object.cast()) };
}

/// Frees a link's target, if there is one in memory.
///
/// # Safety
///
/// `inode` must be of the filesystem, and no path walk may see it any more.
unsafe fn free_link(inode: *mut bindings::inode) {
    // SAFETY: A link's target belongs to its inode, if it has one: `inode::New` has put it there. For other types this field
    // of the union is another.
    unsafe {
        if u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
            bindings::kfree((*inode).__bindgen_anon_4.i_link.cast());
            (*inode).__bindgen_anon_4.i_link = ptr::null_mut();
        }
    }
}

/// # Safety
///
/// `inode` must be from [`alloc_inode_callback`] of a filesystem whose inode data is `D`.
unsafe fn container<D>(inode: *mut bindings::inode) -> *mut InodeWithData<D> {
    // SAFETY: By this function's requirements the inode stands in such an object.
    unsafe { inode.byte_sub(offset_of!(InodeWithData<D>, inode)).cast() }
}

/// Whether the inode has the filesystem's data.
///
/// # Safety
///
/// As [`container`]; nobody may set or drop the data meanwhile.
pub(crate) unsafe fn has_data<D>(inode: *mut bindings::inode) -> bool {
    // SAFETY: It was written when the inode was allocated.
    unsafe { (*container::<D>(inode)).has_data }
}

/// The filesystem's data of an inode.
///
/// # Safety
///
/// As [`container`]; the inode has data, and keeps it for all of `'a`.
pub(crate) unsafe fn data<'a, D>(inode: *mut bindings::inode) -> &'a D {
    // SAFETY: By this function's requirements the data is initialised.
    unsafe { (*container::<D>(inode)).data.assume_init_ref() }
}

/// An inode's list of I/O that has ended.
///
/// # Safety
///
/// As [`container`].
pub(crate) unsafe fn io_ends<D>(inode: *mut bindings::inode) -> *mut io_end::List {
    // SAFETY: By this function's requirements the inode stands in such an object.
    unsafe { (&raw mut (*container::<D>(inode)).io_ends).cast() }
}

/// Initialises the filesystem's data of an inode, in place.
///
/// # Safety
///
/// As [`container`]; the inode has no data, and is the caller's alone.
pub(crate) unsafe fn init_data<D>(inode: *mut bindings::inode, data: impl PinInit<D, Error>) -> Result {
    // SAFETY: The memory is the caller's alone; what is initialised in it stays there until it is dropped there.
    unsafe {
        let object = container::<D>(inode);
        data.__pinned_init((&raw mut (*object).data).cast())?;
        // INVARIANT: Just initialised.
        (*object).has_data = true;
    }
    Ok(())
}

/// # Safety
///
/// As [`container`]; nobody else may use the data.
unsafe fn drop_data<D>(inode: *mut bindings::inode) {
    // SAFETY: By the type invariants the data is initialised when `has_data` is set; by this function's requirements there is no
    // reference to it.
    unsafe {
        let object = container::<D>(inode);
        if (*object).has_data {
            // INVARIANT: From here on it is not.
            (*object).has_data = false;
            (*object).data.assume_init_drop();
        }
    }
}

/// Takes back all that an inode was given that nobody has seen yet.
///
/// # Safety
///
/// As [`container`]; the inode must be new, and the caller's alone.
pub(crate) unsafe fn discard<D>(inode: *mut bindings::inode) {
    // SAFETY: As the caller vouches.
    unsafe {
        free_link(inode);
        drop_data::<D>(inode);
    }
}
