// SPDX-License-Identifier: GPL-2.0

//! The slab cache of inodes (include/linux/slab.h): each has the filesystem's own data in front of the kernel's `struct inode`.
//!
//! The inode part is constructed once, when its slab is made, and stays constructed while it is free, as
//! `inode_init_once()` wants it: somebody may still look at it under RCU.

use crate::file_system_type::FileSystem;
use cairnfs_bindings as bindings;
use core::mem::{offset_of, size_of, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::error::{code::ENOMEM, Result};
use kernel::ffi::c_void;

/// An inode with the data of the filesystem.
#[repr(C)]
pub(crate) struct InodeWithData<D> {
    /// `None` until the inode has been read.
    data: MaybeUninit<Option<D>>,
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
        // INVARIANT: The cache's objects are `T`'s, and there is no other filesystem with this static.
        cache.0.store(created, Ordering::Release);
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
        (*object).data.write(None);
        &raw mut (*object).inode
    }
}

/// # Safety
///
/// Called by VFS only, once, for an inode from [`alloc_inode_callback`] of the same `T` that nobody can see any more. Its super
/// block may be gone.
pub(crate) unsafe extern "C" fn free_inode_callback<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: A link's body belongs to its inode, if it has one: `inode::New::init` has put it there. For other types this
    // field of the union is another.
    unsafe {
        if u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
            bindings::kfree((*inode).__bindgen_anon_4.i_link.cast());
        }
    }
    // SAFETY: The inode comes from `alloc_inode_callback`.
    let object = unsafe { container::<T::InodeData>(inode) };
    // SAFETY: It was written by `alloc_inode_callback`, and this is called once.
    unsafe { (*object).data.assume_init_drop() };
    let cache = T::file_system_type().inode_cache().0.load(Ordering::Acquire);
    // SAFETY: The object is from this cache, which is there until `rcu_barrier` has waited for this call.
    unsafe { bindings::kmem_cache_free(cache, object.cast()) };
}

/// # Safety
///
/// `inode` must be from [`alloc_inode_callback`] of a filesystem whose inode data is `D`.
unsafe fn container<D>(inode: *mut bindings::inode) -> *mut InodeWithData<D> {
    // SAFETY: By this function's requirements the inode stands in such an object.
    unsafe { inode.byte_sub(offset_of!(InodeWithData<D>, inode)).cast() }
}

/// The filesystem's data of an inode; `None` until it has been read.
///
/// # Safety
///
/// As [`container`]; the inode must live for all of `'a`, and nobody may set the data meanwhile.
pub(crate) unsafe fn data<'a, D>(inode: *mut bindings::inode) -> Option<&'a D> {
    // SAFETY: The data was written when the inode was allocated.
    unsafe { (*container::<D>(inode)).data.assume_init_ref().as_ref() }
}

/// Sets the filesystem's data of an inode.
///
/// # Safety
///
/// As [`container`]; nobody else may use the data.
pub(crate) unsafe fn set_data<D>(inode: *mut bindings::inode, data: D) {
    // SAFETY: The data was written when the inode was allocated, and the caller is alone with it.
    unsafe { *(*container::<D>(inode)).data.assume_init_mut() = Some(data) };
}
