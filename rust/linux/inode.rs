// SPDX-License-Identifier: GPL-2.0

//! `struct inode`: a file, directory or other object in memory (include/linux/fs.h).
//!
//! Inodes are found by number. [`Found`] is one that is in memory, or a [`New`] one, locked, for its finder to read; others who
//! look for it wait. A `New` that is dropped before it is initialised is made bad, and those who waited look again.

use crate::dentry;
use crate::file_system_type::FileSystem;
use crate::inode_cache;
use crate::super_block::SuperBlock;
use crate::symlink::{self, Target};
use crate::time::Time;
use crate::xattr::{self, NameList};
use crate::{address_space, file, iomap};
use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;
use kernel::error::code::ENOMEM;
use kernel::error::{from_result, Result};
use kernel::ffi;
use kernel::types::{ARef, AlwaysRefCounted};

/// The operations of `struct inode_operations`.
pub trait Operations: FileSystem {
    /// The inode that `name` stands for in `parent`; `None`: no such name. The parent is locked, perhaps shared.
    fn lookup(parent: &Inode<Self>, name: &[u8]) -> Result<Option<ARef<Inode<Self>>>>;

    /// The target of a symbolic link that was initialised without it ([`Kind::LongSymlink`]).
    fn get_link(inode: &Inode<Self>) -> Result<Target>;

    /// What statx shows beyond the kernel's own fields.
    fn getattr(inode: &Inode<Self>) -> Attributes;

    /// Adds the names of all extended attributes that the caller may see.
    fn listxattr(inode: &Inode<Self>, list: &mut NameList<'_>) -> Result;
}

/// What statx shows beyond the fields of `struct inode`.
pub struct Attributes {
    /// When it was made.
    pub born: Time,
    /// `chattr +i`.
    pub is_immutable: bool,
    /// `chattr +a`.
    pub is_append_only: bool,
    /// `chattr +d`.
    pub is_no_dump: bool,
}

/// An inode that has been read.
///
/// # Invariants
///
/// References point to a valid `struct inode` of the filesystem `T` that [`New::init`] has initialised.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(UnsafeCell<bindings::inode>, PhantomData<T>);

// SAFETY: Who has a counted reference keeps the inode; it is freed when the last is dropped.
unsafe impl<T: FileSystem> AlwaysRefCounted for Inode<T> {
    fn inc_ref(&self) {
        // SAFETY: There is a reference, so there is a count to raise.
        unsafe { bindings::ihold(self.as_ptr()) };
    }

    unsafe fn dec_ref(object: NonNull<Self>) {
        // SAFETY: The caller gives a counted reference up.
        unsafe { bindings::iput(object.as_ref().as_ptr()) };
    }
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
        // SAFETY: By the type invariants it is one of `T`'s, and initialised: so its data is set, and is not set again.
        unsafe { inode_cache::data(self.as_ptr()).unwrap_unchecked() }
    }
}

/// An inode that was asked for by number.
pub enum Found<T: FileSystem> {
    /// It is in memory.
    Cached(ARef<Inode<T>>),
    /// It has to be read.
    New(New<T>),
}

impl<T: FileSystem> Found<T> {
    /// # Safety
    ///
    /// `inode` must be the result of `iget_locked` for a super block of `T`.
    pub(crate) unsafe fn from_locked(inode: *mut bindings::inode) -> Result<Self> {
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: The inode is valid; the flag does not change any more unless it is the caller's to clear.
        if unsafe { (*inode.as_ptr()).i_state } & bindings::CAIRNFS_I_NEW != 0 {
            // INVARIANT: It is new, so it is the caller's.
            Ok(Self::New(New(inode, PhantomData)))
        } else {
            // SAFETY: `iget_locked` gives a reference to an inode which somebody has initialised.
            Ok(Self::Cached(unsafe { ARef::from_raw(inode.cast()) }))
        }
    }
}

/// A new inode, that nobody else can use before it is initialised.
///
/// # Invariants
///
/// A counted reference to an inode of `T` with `I_NEW`, which is this one's to clear.
pub struct New<T: FileSystem>(NonNull<bindings::inode>, PhantomData<T>);

/// What an inode is, and what only such inodes have.
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link whose target stays in memory.
    ShortSymlink(Target),
    /// A symbolic link whose target is read each time.
    LongSymlink,
    /// A device, by its number as `new_encode_dev` has it; or a pipe or socket.
    Special(u32),
}

/// What an inode is initialised with.
pub struct Parameters<D> {
    /// Type and permissions.
    pub mode: u16,
    /// What it is; must fit the type in `mode`.
    pub kind: Kind,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names.
    pub links: u32,
    /// Tells the users of one number apart.
    pub generation: u32,
    /// Size.
    pub size_bytes: i64,
    /// Space that it takes, in units of 512 bytes.
    pub sectors: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of content.
    pub modified: Time,
    /// Last change of anything.
    pub changed: Time,
    /// `chattr +i`.
    pub is_immutable: bool,
    /// `chattr +a`.
    pub is_append_only: bool,
    /// What the filesystem keeps of it.
    pub data: D,
}

impl<T: crate::file_system_type::Operations> New<T> {
    /// Initialises the inode; from now on all can use it.
    pub fn init(self, parameters: Parameters<T::InodeData>) -> ARef<Inode<T>> {
        let new = ManuallyDrop::new(self);
        let inode = new.0.as_ptr();
        // SAFETY: By the type invariants nobody else uses the inode or its data yet.
        unsafe {
            Self::init_fields(inode, &parameters);
            let table = parameters.kind;
            Self::init_kind(inode, table);
            inode_cache::set_data(inode, parameters.data);
            bindings::unlock_new_inode(inode);
            // INVARIANT: It is initialised. The reference is this value's, which `ManuallyDrop` keeps from dropping.
            ARef::from_raw(new.0.cast())
        }
    }

    /// # Safety
    ///
    /// `inode` must be valid, and used by nobody else.
    unsafe fn init_fields(inode: *mut bindings::inode, parameters: &Parameters<T::InodeData>) {
        let (accessed, modified, changed) = (parameters.accessed, parameters.modified, parameters.changed);
        // SAFETY: As the caller vouches.
        unsafe {
            (*inode).i_mode = parameters.mode;
            (*inode).i_generation = parameters.generation;
            (*inode).i_blocks = parameters.sectors;
            bindings::cairnfs_helper_i_uid_write(inode, parameters.uid);
            bindings::cairnfs_helper_i_gid_write(inode, parameters.gid);
            bindings::set_nlink(inode, parameters.links);
            bindings::cairnfs_helper_i_size_write(inode, parameters.size_bytes);
            bindings::cairnfs_helper_inode_set_atime(inode, accessed.seconds, accessed.nanoseconds);
            bindings::cairnfs_helper_inode_set_mtime(inode, modified.seconds, modified.nanoseconds);
            bindings::cairnfs_helper_inode_set_ctime(inode, changed.seconds, changed.nanoseconds);
            if parameters.is_immutable {
                (*inode).i_flags |= bindings::S_IMMUTABLE;
            }
            if parameters.is_append_only {
                (*inode).i_flags |= bindings::S_APPEND;
            }
        }
    }

    /// # Safety
    ///
    /// `inode` must be valid, and used by nobody else.
    unsafe fn init_kind(inode: *mut bindings::inode, kind: Kind) {
        // SAFETY: As the caller vouches; all tables are static and fit the filesystem.
        unsafe {
            match kind {
                Kind::Directory => {
                    (*inode).i_op = Table::<T>::DIRECTORY;
                    (*inode).__bindgen_anon_3.i_fop = file::Table::<T>::DIRECTORY;
                }
                Kind::Regular => {
                    (*inode).i_op = Table::<T>::OTHER;
                    (*inode).__bindgen_anon_3.i_fop = file::Table::<T>::REGULAR;
                    address_space::init((*inode).i_mapping, iomap::Table::<T>::ADDRESS_SPACE);
                }
                Kind::ShortSymlink(target) => {
                    (*inode).i_op = Table::<T>::SHORT_SYMLINK;
                    // The inode owns it now; it goes when the inode is freed.
                    (*inode).__bindgen_anon_4.i_link = target.into_raw();
                }
                Kind::LongSymlink => (*inode).i_op = Table::<T>::LONG_SYMLINK,
                Kind::Special(device) => {
                    (*inode).i_op = Table::<T>::OTHER;
                    let device = bindings::cairnfs_helper_new_decode_dev(device);
                    bindings::init_special_inode(inode, (*inode).i_mode, device);
                }
            }
        }
    }
}

impl<T: FileSystem> Drop for New<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is this value's, and the inode is new.
        unsafe { bindings::iget_failed(self.0.as_ptr()) };
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const OTHER: &'static bindings::inode_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::inode_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.getattr = Some(Self::getattr_callback);
        table.listxattr = Some(Self::listxattr_callback);
        table
    };
    const DIRECTORY: &'static bindings::inode_operations =
        &bindings::inode_operations { lookup: Some(dentry::lookup_callback::<T>), ..*Self::OTHER };
    const SHORT_SYMLINK: &'static bindings::inode_operations =
        &bindings::inode_operations { get_link: Some(bindings::simple_get_link), ..*Self::OTHER };
    const LONG_SYMLINK: &'static bindings::inode_operations =
        &bindings::inode_operations { get_link: Some(symlink::get_link_callback::<T>), ..*Self::OTHER };

    /// # Safety
    ///
    /// Called by VFS only, for an inode of `T`.
    unsafe extern "C" fn getattr_callback(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        out: *mut bindings::kstat,
        request_mask: u32,
        _query_flags: ffi::c_uint,
    ) -> ffi::c_int {
        // SAFETY: The path is valid; its dentry has an inode, of `T`, as long as the caller holds it.
        let inode = unsafe { Inode::<T>::from_raw((*(*path).dentry).d_inode) };
        let attributes = T::getattr(inode);
        let flags = [
            (attributes.is_immutable, bindings::STATX_ATTR_IMMUTABLE),
            (attributes.is_append_only, bindings::STATX_ATTR_APPEND),
            (attributes.is_no_dump, bindings::STATX_ATTR_NODUMP),
        ];
        // SAFETY: `out` is the caller's, to be filled in.
        unsafe {
            bindings::generic_fillattr(idmap, request_mask, inode.as_ptr(), out);
            (*out).btime = attributes.born.timespec();
            (*out).result_mask |= bindings::STATX_BTIME;
            for (is_set, flag) in flags {
                (*out).attributes_mask |= u64::from(flag);
                if is_set {
                    (*out).attributes |= u64::from(flag);
                }
            }
        }
        0
    }

    /// # Safety
    ///
    /// Called by VFS only, for an inode of `T`.
    unsafe extern "C" fn listxattr_callback(
        dentry: *mut bindings::dentry,
        buffer: *mut ffi::c_char,
        bytes: usize,
    ) -> isize {
        let mut written = 0;
        let status = from_result(|| {
            // SAFETY: The dentry is valid and has an inode, of `T`, as long as the caller holds it.
            let inode = unsafe { Inode::<T>::from_raw((*dentry).d_inode) };
            // SAFETY: The buffer is the caller's.
            let mut list = unsafe { xattr::NameList::from_raw(buffer.cast(), bytes) };
            T::listxattr(inode, &mut list)?;
            written = list.total_bytes() as isize;
            Ok(0)
        });
        if status < 0 {
            status as isize
        } else {
            written
        }
    }
}
