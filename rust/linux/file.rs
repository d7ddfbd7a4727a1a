// SPDX-License-Identifier: GPL-2.0

//! `struct file_operations`: what an open file can do (include/linux/fs.h).

use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use crate::this_module::THIS_MODULE;
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::{from_result, Result};
use kernel::ffi;

/// The operations of `struct file_operations`, as far as they are the filesystem's own.
pub trait Operations: FileSystem {
    /// Shows the entries of a directory from the context's position on; `.` and `..`, at the positions 0 and 1, have been shown.
    /// The directory is locked, perhaps shared.
    fn iterate_shared(directory: &Inode<Self>, context: &mut DirContext<'_>) -> Result;
}

/// Who reads a directory, and where.
///
/// # Invariants
///
/// The pointer is valid for the lifetime, and nobody else uses the context meanwhile.
pub struct DirContext<'a>(&'a mut bindings::dir_context);

impl DirContext<'_> {
    /// The position of the next entry to be shown.
    pub fn position(&self) -> u64 {
        // VFS lets no negative position through.
        self.0.pos as u64
    }

    /// Sets the position from which the reader goes on; those beyond the largest positive number are that one.
    pub fn set_position(&mut self, position: u64) {
        self.0.pos = i64::try_from(position).unwrap_or(i64::MAX);
    }

    /// Shows the entry at the context's position; whether the reader has taken it. `file_type` is one of `DT_*`.
    pub fn emit(&mut self, name: &[u8], inode: u64, file_type: u8) -> bool {
        let Some(actor) = self.0.actor else {
            return false;
        };
        let (bytes, position) = (name.len() as ffi::c_int, self.0.pos);
        // SAFETY: By the type invariants the context is valid, and the function is its own; the name is readable.
        unsafe { actor(self.0, name.as_ptr().cast(), bytes, position, inode, file_type.into()) }
    }
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    /// Of directories. Positions are the filesystem's, up to the largest positive number.
    pub(crate) const DIRECTORY: &'static bindings::file_operations = &{
        let mut table = Self::empty();
        table.llseek = Some(Self::directory_llseek_callback);
        table.read = Some(bindings::generic_read_dir);
        table.iterate_shared = Some(Self::iterate_shared_callback);
        table.fsync = Some(bindings::noop_fsync);
        table
    };

    /// Of regular files, by the page cache. A mapping that could be written to is refused.
    pub(crate) const REGULAR: &'static bindings::file_operations = &{
        let mut table = Self::empty();
        table.llseek = Some(bindings::generic_file_llseek);
        table.open = Some(bindings::generic_file_open);
        table.read_iter = Some(bindings::generic_file_read_iter);
        table.mmap = Some(bindings::generic_file_readonly_mmap);
        table.splice_read = Some(bindings::filemap_splice_read);
        table.fsync = Some(bindings::noop_fsync);
        table
    };

    const fn empty() -> bindings::file_operations {
        // SAFETY: A table without functions is valid.
        let mut table: bindings::file_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.owner = THIS_MODULE;
        table
    }

    /// # Safety
    ///
    /// Called by VFS only, with an open directory of `T`.
    unsafe extern "C" fn directory_llseek_callback(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: ffi::c_int,
    ) -> bindings::loff_t {
        // SAFETY: The file is the caller's.
        unsafe { bindings::generic_file_llseek_size(file, offset, whence, i64::MAX, i64::MAX) }
    }

    /// # Safety
    ///
    /// Called by VFS only, with an open directory of `T` that is locked at least shared.
    unsafe extern "C" fn iterate_shared_callback(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> ffi::c_int {
        // SAFETY: File and context are the caller's.
        if !unsafe { bindings::cairnfs_helper_dir_emit_dots(file, context) } {
            return 0;
        }
        from_result(|| {
            // SAFETY: An open file has its inode, which is one of `T`'s.
            let directory = unsafe { Inode::<T>::from_raw((*file).f_inode) };
            // INVARIANT: The context is this call's.
            // SAFETY: The context is this call's.
            T::iterate_shared(directory, &mut DirContext(unsafe { &mut *context }))?;
            Ok(0)
        })
    }
}
