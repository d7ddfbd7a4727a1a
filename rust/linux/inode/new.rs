// SPDX-License-Identifier: GPL-2.0

//! How an inode comes to be: read from the device ([`New`]), or made together with its first name ([`Unborn`]).
//!
//! Both end in the same initialisation, and both can be dropped at any point before: what the inode was given is taken back,
//! and the filesystem is not asked when it is evicted.

use super::{callbacks, set_times, Inode};
use crate::dentry::Dentry;
use crate::file_system_type::{self, FileSystem};
use crate::idmap::Idmap;
use crate::symlink::Target;
use crate::time::Time;
use crate::{address_space, file, inode_cache, io_end, iomap};
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use kernel::error::code::{EEXIST, EINVAL, ENOMEM};
use kernel::error::{to_result, Error, Result};
use kernel::ffi;
use kernel::prelude::PinInit;
use kernel::types::ARef;

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

impl Kind {
    /// Whether inodes of this kind have a mode of this type: whoever frees an inode goes by its mode.
    fn fits(&self, mode: u16) -> bool {
        match u32::from(mode) & bindings::S_IFMT {
            bindings::S_IFDIR => matches!(self, Self::Directory),
            bindings::S_IFREG => matches!(self, Self::Regular),
            bindings::S_IFLNK => matches!(self, Self::ShortSymlink(_) | Self::LongSymlink),
            _ => matches!(self, Self::Special(_)),
        }
    }
}

/// What `chattr` can set and VFS heeds by itself (`S_*`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags(u32);

impl Flags {
    /// Every write is synchronous (`+S`).
    pub const SYNC: Self = Self(bindings::S_SYNC);
    /// Nothing can be changed (`+i`).
    pub const IMMUTABLE: Self = Self(bindings::S_IMMUTABLE);
    /// Can only be appended to (`+a`).
    pub const APPEND: Self = Self(bindings::S_APPEND);
    /// Access times are not kept (`+A`).
    pub const NO_ACCESS_TIMES: Self = Self(bindings::S_NOATIME);
    /// Changes of the directory are synchronous (`+D`).
    pub const DIRECTORY_SYNC: Self = Self(bindings::S_DIRSYNC);

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What an inode is initialised with.
pub struct Parameters {
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
    /// What `chattr` has set.
    pub flags: Flags,
}

/// A new inode, that nobody else can use before it is initialised.
///
/// # Invariants
///
/// A counted reference to an inode of `T` with `I_NEW`, which is this one's to clear.
pub struct New<T: FileSystem>(NonNull<bindings::inode>, PhantomData<T>);

impl<T: file_system_type::Operations> New<T> {
    /// Initialises the inode; from now on all can use it. Fails as `data` does, or with EINVAL when kind and mode do not fit each
    /// other, and then the inode goes.
    pub fn init(
        self,
        parameters: Parameters,
        data: impl PinInit<T::InodeData, Error>,
    ) -> Result<ARef<Inode<T>>> {
        self.set(parameters, data)?;
        let new = ManuallyDrop::new(self);
        // SAFETY: By the type invariants the flag is this value's to clear. The reference is too, and `ManuallyDrop` keeps it
        // from dropping; the inode is initialised.
        unsafe {
            bindings::unlock_new_inode(new.0.as_ptr());
            Ok(ARef::from_raw(new.0.cast()))
        }
    }

    /// Gives the inode all that it shall have; on failure, nothing.
    fn set(&self, parameters: Parameters, data: impl PinInit<T::InodeData, Error>) -> Result {
        if !parameters.kind.fits(parameters.mode) {
            return Err(EINVAL);
        }
        let inode = self.0.as_ptr();
        // SAFETY: By the type invariants nobody else uses the inode or its data yet.
        unsafe {
            inode_cache::init_data(inode, data)?;
            init_fields(inode, &parameters);
            init_kind::<T>(inode, parameters.kind);
        }
        Ok(())
    }
}

impl<T: FileSystem> Drop for New<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is this value's, and the inode is new, so nobody else uses it. Those who wait
        // for it find it out of the hash, and look again.
        unsafe {
            inode_cache::discard::<T::InodeData>(self.0.as_ptr());
            bindings::iget_failed(self.0.as_ptr());
        }
    }
}

/// # Safety
///
/// `inode` must be valid, and used by nobody else.
unsafe fn init_fields(inode: *mut bindings::inode, parameters: &Parameters) {
    // SAFETY: As the caller vouches.
    unsafe {
        (*inode).i_mode = parameters.mode;
        (*inode).i_generation = parameters.generation;
        (*inode).i_blocks = parameters.sectors;
        bindings::cairnfs_helper_i_uid_write(inode, parameters.uid);
        bindings::cairnfs_helper_i_gid_write(inode, parameters.gid);
        bindings::set_nlink(inode, parameters.links);
        bindings::cairnfs_helper_i_size_write(inode, parameters.size_bytes);
        set_times(inode, parameters.accessed, parameters.modified, parameters.changed);
        (*inode).i_flags |= parameters.flags.0;
    }
}

/// # Safety
///
/// `inode` must be valid, of `T`, and used by nobody else; its mode is set.
unsafe fn init_kind<T: file_system_type::Operations>(inode: *mut bindings::inode, kind: Kind) {
    // SAFETY: As the caller vouches; all tables are static and fit the filesystem.
    unsafe {
        match kind {
            Kind::Directory => {
                (*inode).i_op = callbacks::Table::<T>::DIRECTORY;
                (*inode).__bindgen_anon_3.i_fop = file::Table::<T>::DIRECTORY;
            }
            Kind::Regular => {
                (*inode).i_op = callbacks::Table::<T>::OTHER;
                (*inode).__bindgen_anon_3.i_fop = file::Table::<T>::REGULAR;
                address_space::init((*inode).i_mapping, iomap::Table::<T>::ADDRESS_SPACE);
                io_end::List::init::<T>(inode_cache::io_ends::<T::InodeData>(inode));
            }
            Kind::ShortSymlink(target) => {
                (*inode).i_op = callbacks::Table::<T>::SHORT_SYMLINK;
                // The inode owns it now; it goes when the inode is freed.
                (*inode).__bindgen_anon_4.i_link = target.into_raw();
            }
            Kind::LongSymlink => (*inode).i_op = callbacks::Table::<T>::LONG_SYMLINK,
            Kind::Special(device) => {
                (*inode).i_op = callbacks::Table::<T>::OTHER;
                let device = bindings::cairnfs_helper_new_decode_dev(device);
                bindings::init_special_inode(inode, (*inode).i_mode, device);
            }
        }
    }
}

/// An inode for an object that is being made: nobody can find it, and it has no number yet.
///
/// # Invariants
///
/// A counted reference, the only one, to an inode of `T` that is not hashed and not initialised.
pub struct Unborn<T: FileSystem>(NonNull<bindings::inode>, PhantomData<T>);

impl<T: FileSystem> Unborn<T> {
    /// # Safety
    ///
    /// `inode` must be the result of `new_inode` for a super block of `T`.
    pub(crate) unsafe fn from_new(inode: *mut bindings::inode) -> Result<Self> {
        // INVARIANT: `new_inode` gives such a one, or null.
        Ok(Self(NonNull::new(inode).ok_or(ENOMEM)?, PhantomData))
    }

    /// Sets owner, group and mode as those of a new object in `parent` have to be: by the caller's ids, by the parent's group where
    /// the parent has the set-group-id bit. `mode` has the type too.
    pub fn init_owner(&mut self, idmap: &Idmap, parent: &Inode<T>, mode: u16) {
        // SAFETY: By the type invariants the inode is valid and nobody else uses it; the others are, by theirs.
        unsafe { bindings::inode_init_owner(idmap.as_ptr(), self.0.as_ptr(), parent.as_ptr(), mode) };
    }

    /// Type and permissions.
    pub fn mode(&self) -> u16 {
        // SAFETY: By the type invariants the inode is valid and nobody else uses it.
        unsafe { (*self.0.as_ptr()).i_mode }
    }

    /// Owner, as it is written to the device.
    pub fn uid(&self) -> u32 {
        // SAFETY: As in `mode`.
        unsafe { bindings::cairnfs_helper_i_uid_read(self.0.as_ptr()) }
    }

    /// Group, as it is written to the device.
    pub fn gid(&self) -> u32 {
        // SAFETY: As in `mode`.
        unsafe { bindings::cairnfs_helper_i_gid_read(self.0.as_ptr()) }
    }
}

impl<T: file_system_type::Operations> Unborn<T> {
    /// Does all of a birth that can fail: gives the inode its number and enters it into the hash, locked, and initialises it. EBUSY
    /// when an inode with this number is in memory and not being evicted, which a sound filesystem does not see. EEXIST when the
    /// dentry has an inode.
    pub fn insert<'a>(
        self,
        dentry: &'a Dentry<T>,
        number: u64,
        parameters: Parameters,
        data: impl PinInit<T::InodeData, Error>,
    ) -> Result<Inserted<'a, T>> {
        if dentry.inode().is_some() {
            return Err(EEXIST);
        }
        // SAFETY: By the type invariants the inode is valid, not hashed, and nobody else uses it.
        unsafe {
            (*self.0.as_ptr()).i_ino = number as ffi::c_ulong;
            to_result(bindings::insert_inode_locked(self.0.as_ptr()))?;
        }
        // INVARIANT: It is new since then; the reference goes over.
        let new = New(ManuallyDrop::new(self).0, PhantomData);
        new.set(parameters, data)?;
        Ok(Inserted { new, dentry })
    }

    /// [`Self::insert`] and [`Inserted::instantiate`].
    pub fn instantiate(
        self,
        dentry: &Dentry<T>,
        number: u64,
        parameters: Parameters,
        data: impl PinInit<T::InodeData, Error>,
    ) -> Result {
        self.insert(dentry, number, parameters, data)?.instantiate();
        Ok(())
    }
}

impl<T: FileSystem> Drop for Unborn<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is this value's. The inode is not hashed, so it is evicted at once.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// An inode that lacks nothing but its name in the dentry cache. Who looks for its number waits; dropping it takes all back.
#[must_use = "an object without its dentry cannot be found"]
pub struct Inserted<'a, T: FileSystem> {
    new: New<T>,
    dentry: &'a Dentry<T>,
}

impl<T: FileSystem> Inserted<'_, T> {
    /// The inode becomes what its dentry stands for, and all can use both.
    pub fn instantiate(self) {
        if self.dentry.inode().is_some() {
            // Another one was instantiated in between, with the parent locked: by the same operation. The first one stays.
            return;
        }
        let new = ManuallyDrop::new(self.new);
        // SAFETY: The dentry has no inode, and cannot get one while its parent is locked, as it is for as long as there are
        // references to a `Dentry`. The inode is new, by the type invariants of `New`, and its reference goes over.
        unsafe { bindings::d_instantiate_new(self.dentry.as_ptr(), new.0.as_ptr()) };
    }
}
