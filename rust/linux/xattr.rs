// SPDX-License-Identifier: GPL-2.0

//! Extended attributes (include/linux/xattr.h).
//!
//! VFS finds a handler by the name's prefix, and gives it the rest of the name. There is one handler for each [`Prefix`];
//! ACLs go another way in VFS, and have none.

use crate::errno::Errno;
use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::{ptr, slice};
use kernel::error::{from_result, Result};
use kernel::ffi;

/// What names begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// `user.`
    User,
    /// `trusted.`
    Trusted,
    /// `security.`
    Security,
}

/// The operations of `struct xattr_handler`.
pub trait Operations: FileSystem {
    /// Gives the value of an attribute to `value`; `name` is without its prefix.
    fn get(inode: &Inode<Self>, prefix: Prefix, name: &[u8], value: &mut Value<'_>) -> Result;

    /// Removes `security.capability`, which gives privileges to a program: what it was given to is about to change. ENODATA where
    /// there is none. VFS has locked the inode.
    fn remove_capability(inode: &Inode<Self>) -> Result;
}

/// The attribute that gives privileges to a program, behind its prefix.
pub const CAPABILITY: &[u8] = b"capability";

/// Whether the running task may see `trusted.` attributes.
pub fn may_see_trusted() -> bool {
    // SAFETY: Looks at the running task's credentials only.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as ffi::c_int) }
}

/// Where a value goes.
///
/// # Invariants
///
/// `buffer` is null, or writable for `bytes` bytes, by nobody else; `length` of them are written at most.
pub struct Value<'a> {
    buffer: *mut u8,
    bytes: usize,
    length: usize,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl Value<'_> {
    /// Hands the value out. ERANGE when the reader's buffer is too small; a reader without one wants the length only.
    pub fn put(&mut self, value: &[u8]) -> Result {
        self.length = value.len();
        if self.buffer.is_null() {
            return Ok(());
        }
        if value.len() > self.bytes {
            return Err(Errno::ERANGE.into());
        }
        // SAFETY: By the type invariants the buffer is writable, and it is long enough.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), self.buffer, value.len()) };
        Ok(())
    }
}

/// Where a list of names goes.
///
/// # Invariants
///
/// `buffer` is null or `bytes` 0, or it is writable for `bytes` bytes, by nobody else; the first `length` are written.
pub struct NameList<'a> {
    buffer: *mut u8,
    bytes: usize,
    length: usize,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl NameList<'_> {
    /// # Safety
    ///
    /// The buffer must be what the type's invariants say.
    pub(crate) unsafe fn from_raw(buffer: *mut u8, bytes: usize) -> Self {
        // INVARIANT: As the caller vouches.
        Self { buffer, bytes, length: 0, _buffer: PhantomData }
    }

    /// How many bytes all names take.
    pub(crate) const fn total_bytes(&self) -> usize {
        self.length
    }

    /// Adds a name. ERANGE when the reader's buffer is too small; a reader without one wants the length only.
    pub fn add(&mut self, prefix: &[u8], name: &[u8]) -> Result {
        self.append(prefix)?;
        self.append(name)?;
        self.append(&[0])
    }

    fn append(&mut self, text: &[u8]) -> Result {
        let start = self.length;
        self.length = start.checked_add(text.len()).ok_or(Errno::ERANGE)?;
        if self.buffer.is_null() || self.bytes == 0 {
            return Ok(());
        }
        if self.length > self.bytes {
            return Err(Errno::ERANGE.into());
        }
        // SAFETY: By the type invariants the buffer is writable, and `length` says that it is long enough.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), self.buffer.add(start), text.len()) };
        Ok(())
    }
}

/// A list of handlers, which ends with null.
#[repr(transparent)]
pub(crate) struct Handlers([*const bindings::xattr_handler; 4]);

// SAFETY: Never changed; what it points to is static and never changed.
unsafe impl Sync for Handlers {}

impl Handlers {
    pub(crate) const fn as_ptr(&self) -> *const *const bindings::xattr_handler {
        self.0.as_ptr()
    }
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const USER: bindings::xattr_handler = Self::handler(c"user.", Self::get_user_callback, set_callback);
    const TRUSTED: bindings::xattr_handler =
        Self::handler(c"trusted.", Self::get_trusted_callback, set_callback);
    const SECURITY: bindings::xattr_handler =
        Self::handler(c"security.", Self::get_security_callback, Self::set_security_callback);

    /// The handlers of `T`.
    pub(crate) const HANDLERS: &'static Handlers =
        &Handlers([&Self::USER, &Self::TRUSTED, &Self::SECURITY, ptr::null()]);

    const fn handler(
        prefix: &'static core::ffi::CStr,
        get: GetCallback,
        set: SetCallback,
    ) -> bindings::xattr_handler {
        // SAFETY: A handler without names and functions is valid as a value.
        let mut handler: bindings::xattr_handler = unsafe { MaybeUninit::zeroed().assume_init() };
        handler.prefix = prefix.as_ptr().cast();
        handler.get = Some(get);
        handler.set = Some(set);
        handler
    }

    /// # Safety
    ///
    /// Called by VFS only, with an inode of `T`.
    unsafe extern "C" fn get_user_callback(
        _handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const ffi::c_char,
        buffer: *mut ffi::c_void,
        bytes: usize,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        unsafe { Self::get(Prefix::User, inode, name, buffer, bytes) }
    }

    /// # Safety
    ///
    /// Called by VFS only, with an inode of `T`.
    unsafe extern "C" fn get_trusted_callback(
        _handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const ffi::c_char,
        buffer: *mut ffi::c_void,
        bytes: usize,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        unsafe { Self::get(Prefix::Trusted, inode, name, buffer, bytes) }
    }

    /// # Safety
    ///
    /// Called by VFS only, with an inode of `T`.
    unsafe extern "C" fn get_security_callback(
        _handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const ffi::c_char,
        buffer: *mut ffi::c_void,
        bytes: usize,
    ) -> ffi::c_int {
        // SAFETY: As this function's requirements say.
        unsafe { Self::get(Prefix::Security, inode, name, buffer, bytes) }
    }

    /// Attributes are not set yet, but privileges have to go when VFS wants them gone: with no value.
    ///
    /// # Safety
    ///
    /// Called by VFS only, with an inode of `T` that is locked for writing.
    unsafe extern "C" fn set_security_callback(
        _handler: *const bindings::xattr_handler,
        _idmap: *mut bindings::mnt_idmap,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const ffi::c_char,
        value: *const ffi::c_void,
        _bytes: usize,
        _flags: ffi::c_int,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The name is the caller's, and ends with a NUL.
            let name: &[u8] = unsafe { slice::from_raw_parts(name.cast(), bindings::strlen(name)) };
            if !value.is_null() || name != CAPABILITY {
                return Err(Errno::EOPNOTSUPP.into());
            }
            // SAFETY: The inode is one of `T`'s, and stays while the caller has it.
            T::remove_capability(unsafe { Inode::<T>::from_raw(inode) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The arguments must be those of a handler's `get`, with an inode of `T`.
    unsafe fn get(
        prefix: Prefix,
        inode: *mut bindings::inode,
        name: *const ffi::c_char,
        buffer: *mut ffi::c_void,
        bytes: usize,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The inode is one of `T`'s, and stays while the caller has it.
            let inode = unsafe { Inode::<T>::from_raw(inode) };
            // SAFETY: The name is the caller's, and ends with a NUL.
            let name = unsafe { slice::from_raw_parts(name.cast(), bindings::strlen(name)) };
            // INVARIANT: The buffer is the caller's, and of that length.
            let mut value = Value { buffer: buffer.cast(), bytes, length: 0, _buffer: PhantomData };
            T::get(inode, prefix, name, &mut value)?;
            Ok(value.length as ffi::c_int)
        })
    }
}

type GetCallback = unsafe extern "C" fn(
    *const bindings::xattr_handler,
    *mut bindings::dentry,
    *mut bindings::inode,
    *const ffi::c_char,
    *mut ffi::c_void,
    usize,
) -> ffi::c_int;

type SetCallback = unsafe extern "C" fn(
    *const bindings::xattr_handler,
    *mut bindings::mnt_idmap,
    *mut bindings::dentry,
    *mut bindings::inode,
    *const ffi::c_char,
    *const ffi::c_void,
    usize,
    ffi::c_int,
) -> ffi::c_int;

/// VFS calls it without looking whether it is there. EROFS comes first where the mount is read-only.
///
/// # Safety
///
/// None.
unsafe extern "C" fn set_callback(
    _handler: *const bindings::xattr_handler,
    _idmap: *mut bindings::mnt_idmap,
    _dentry: *mut bindings::dentry,
    _inode: *mut bindings::inode,
    _name: *const ffi::c_char,
    _value: *const ffi::c_void,
    _bytes: usize,
    _flags: ffi::c_int,
) -> ffi::c_int {
    kernel::error::Error::from(Errno::EOPNOTSUPP).to_errno()
}
