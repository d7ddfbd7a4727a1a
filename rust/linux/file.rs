// SPDX-License-Identifier: GPL-2.0

//! `struct file_operations`: what an open file can do (include/linux/fs.h).

use crate::errno::Errno;
use crate::file_system_type::FileSystem;
use crate::inode::Inode;
use crate::this_module::THIS_MODULE;
use crate::{iomap, vm_operations};
use cairnfs_bindings as bindings;
use core::marker::PhantomData;
use core::mem::{size_of, MaybeUninit};
use core::ptr;
use kernel::error::code::ENOSPC;
use kernel::error::{from_result, to_result, Error, Result};
use kernel::ffi;
use kernel::uaccess::UserSlice;

/// The operations of `struct file_operations`, as far as they are the filesystem's own.
pub trait Operations: FileSystem {
    /// Shows the entries of a directory from the context's position on; `.` and `..`, at the positions 0 and 1, have been shown.
    /// The directory is locked, perhaps shared.
    fn iterate_shared(directory: &Inode<Self>, context: &mut DirContext<'_>) -> Result;

    /// Returns when the file or directory is durable; with `data_only`, when its content is. The pages of a regular file between
    /// `start` and `end` (included) have been written back. Without any lock.
    fn fsync(inode: &Inode<Self>, start: i64, end: i64, data_only: bool) -> Result;

    /// A write of `bytes` bytes at `position` is about to begin; what it is not to happen for. What lies between the end of the file
    /// and a position behind it is to read as zero then. With `i_rwsem` held for writing, and write access to the mount.
    fn before_write(inode: &Inode<Self>, position: u64, bytes: u64) -> Result;

    /// A write has found no space, or no quota; it is tried again behind this, once. With write access to the mount, and no lock.
    fn make_room(inode: &Inode<Self>);

    /// An opened regular file is closed for the last time; `was_writable` as it was opened. Without any lock.
    fn release(inode: &Inode<Self>, was_writable: bool);

    /// Does what `command` stands for; [`Errno::ENOTTY`](crate::errno::Errno::ENOTTY) for one that is not known. Of files and
    /// directories, also of those that were opened for reading only: who may do it is the filesystem's to check. 32-bit
    /// programs come here too, so what an argument points to must be laid out alike for them. The result is the system call's, at
    /// most `i32::MAX`.
    fn ioctl(inode: &Inode<Self>, command: u32, argument: UserArgument) -> Result<u32>;
}

/// Whether the running task may administer the system (`CAP_SYS_ADMIN`).
pub fn may_administer() -> bool {
    // SAFETY: Looks at the running task's credentials only.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as ffi::c_int) }
}

/// The argument of an ioctl: a number, or an address of the calling program.
pub struct UserArgument(usize);

impl UserArgument {
    /// Reads the number that the argument points to; EFAULT when the program has none there.
    pub fn read_u32(&self) -> Result<u32> {
        UserSlice::new(self.0, size_of::<u32>()).reader().read()
    }
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

/// A number of bytes, or a negative error number.
fn checked(bytes: isize) -> Result<isize> {
    match bytes {
        0.. => Ok(bytes),
        error => Err(Error::from_errno(error as ffi::c_int)),
    }
}

pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations + iomap::Operations> Table<T> {
    /// Of directories. Positions are the filesystem's, up to the largest positive number.
    pub(crate) const DIRECTORY: &'static bindings::file_operations = &{
        let mut table = Self::empty();
        table.llseek = Some(Self::directory_llseek_callback);
        table.read = Some(bindings::generic_read_dir);
        table.iterate_shared = Some(Self::iterate_shared_callback);
        table.fsync = Some(Self::fsync_callback);
        table.unlocked_ioctl = Some(Self::ioctl_callback);
        table.compat_ioctl = Some(bindings::cairnfs_helper_compat_ptr_ioctl);
        table
    };

    /// Of regular files, by the page cache. They are opened neither for direct I/O nor for I/O that does not wait
    /// (`FMODE_CAN_ODIRECT`, `FMODE_NOWAIT`), so VFS refuses both.
    pub(crate) const REGULAR: &'static bindings::file_operations = &{
        let mut table = Self::empty();
        table.llseek = Some(Self::regular_llseek_callback);
        table.open = Some(bindings::generic_file_open);
        table.release = Some(Self::release_callback);
        table.read_iter = Some(bindings::generic_file_read_iter);
        table.write_iter = Some(Self::write_iter_callback);
        table.mmap = Some(vm_operations::Table::<T>::mmap_callback);
        table.get_unmapped_area = Some(bindings::cairnfs_helper_get_unmapped_area);
        table.splice_read = Some(bindings::filemap_splice_read);
        table.splice_write = Some(bindings::iter_file_splice_write);
        table.fsync = Some(Self::regular_fsync_callback);
        table.unlocked_ioctl = Some(Self::ioctl_callback);
        table.compat_ioctl = Some(bindings::cairnfs_helper_compat_ptr_ioctl);
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

    /// # Safety
    ///
    /// Called by VFS only, with an open file or directory of `T`.
    unsafe extern "C" fn fsync_callback(
        file: *mut bindings::file,
        start: bindings::loff_t,
        end: bindings::loff_t,
        data_only: ffi::c_int,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: An open file has its inode, which is one of `T`'s.
            let inode = unsafe { Inode::<T>::from_raw((*file).f_inode) };
            T::fsync(inode, start, end, data_only != 0)?;
            Ok(0)
        })
    }

    /// The file's own pages first. An error of writing them back is told once to each open file; one that came while the
    /// filesystem did its part is told by this call already.
    ///
    /// # Safety
    ///
    /// Called by VFS only, with an open regular file of `T`.
    unsafe extern "C" fn regular_fsync_callback(
        file: *mut bindings::file,
        start: bindings::loff_t,
        end: bindings::loff_t,
        data_only: ffi::c_int,
    ) -> ffi::c_int {
        // SAFETY: The file is the caller's.
        let written = unsafe { bindings::file_write_and_wait_range(file, start, end) };
        if written != 0 {
            return written;
        }
        // SAFETY: As this function's requirements say.
        let status = unsafe { Self::fsync_callback(file, start, end, data_only) };
        // SAFETY: The file is the caller's.
        let error = unsafe { bindings::file_check_and_advance_wb_err(file) };
        if status != 0 {
            status
        } else {
            error
        }
    }

    /// # Safety
    ///
    /// Called by VFS only, with an open regular file of `T`.
    unsafe extern "C" fn regular_llseek_callback(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: ffi::c_int,
    ) -> bindings::loff_t {
        let table = iomap::Table::<T>::READ;
        // SAFETY: The file is the caller's, and has its inode, of `T`. What has been found is looked at no more, so the lock, which
        // keeps the size from changing, is not needed to set the position.
        unsafe {
            let inode = (*file).f_inode;
            let find = match whence as u32 {
                bindings::SEEK_DATA => bindings::iomap_seek_data,
                bindings::SEEK_HOLE => bindings::iomap_seek_hole,
                _ => return bindings::generic_file_llseek(file, offset, whence),
            };
            bindings::cairnfs_helper_inode_lock_shared(inode);
            let found = find(inode, offset, table);
            bindings::cairnfs_helper_inode_unlock_shared(inode);
            if found < 0 {
                return found;
            }
            bindings::vfs_setpos(file, found, (*(*inode).i_sb).s_maxbytes)
        }
    }

    /// # Safety
    ///
    /// Called by VFS only, once, with an open regular file of `T`.
    unsafe extern "C" fn release_callback(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        // SAFETY: An open file keeps its inode, which is one of `T`'s.
        let (inode, mode) = unsafe { (Inode::<T>::from_raw(inode), (*file).f_mode) };
        T::release(inode, mode & bindings::CAIRNFS_FMODE_WRITE != 0);
        0
    }

    /// # Safety
    ///
    /// Called by VFS only, with write access to the mount, for a regular file of `T` that was opened for writing.
    unsafe extern "C" fn write_iter_callback(
        control: *mut bindings::kiocb,
        from: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: As this function's requirements say.
        let mut outcome = unsafe { Self::write_locked(control, from) };
        let has_no_space = |error: &Error| {
            [ENOSPC, Errno::EDQUOT.into()].iter().any(|code| code.to_errno() == error.to_errno())
        };
        if outcome.as_ref().is_err_and(has_no_space) {
            // SAFETY: An open file keeps its inode, which is one of `T`'s.
            T::make_room(unsafe { Inode::<T>::from_raw((*(*control).ki_filp).f_inode) });
            // SAFETY: As above; nothing was written, so both arguments are as they were, or as the checks have cut them.
            outcome = unsafe { Self::write_locked(control, from) };
        }
        match outcome {
            // SAFETY: So much has just been written.
            Ok(written) if written > 0 => unsafe {
                bindings::cairnfs_helper_generic_write_sync(control, written)
            },
            Ok(written) => written,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// A write to the page cache, by a task that has no lock.
    ///
    /// # Safety
    ///
    /// As [`Self::write_iter_callback`].
    unsafe fn write_locked(control: *mut bindings::kiocb, from: *mut bindings::iov_iter) -> Result<isize> {
        // SAFETY: An open file keeps its inode, which is one of `T`'s. The lock is released below.
        let inode = unsafe {
            let inode = Inode::<T>::from_raw((*(*control).ki_filp).f_inode);
            bindings::cairnfs_helper_inode_lock(inode.as_ptr());
            inode
        };
        // SAFETY: As this function's requirements say, and the lock is held.
        let outcome = unsafe { Self::write(inode, control, from) };
        // SAFETY: It was taken above.
        unsafe { bindings::cairnfs_helper_inode_unlock(inode.as_ptr()) };
        outcome
    }

    /// # Safety
    ///
    /// As [`Self::write_iter_callback`], with `i_rwsem` of the file's inode held for writing.
    unsafe fn write(
        inode: &Inode<T>,
        control: *mut bindings::kiocb,
        from: *mut bindings::iov_iter,
    ) -> Result<isize> {
        // SAFETY: As the caller vouches.
        let bytes = checked(unsafe { bindings::generic_write_checks(control, from) })?;
        if bytes == 0 {
            return Ok(0);
        }
        // SAFETY: As above. The checks have let nothing negative through.
        T::before_write(inode, unsafe { (*control).ki_pos } as u64, bytes as u64)?;
        // SAFETY: As above.
        to_result(unsafe { bindings::kiocb_modified(control) })?;
        let table = iomap::Table::<T>::WRITE;
        // SAFETY: As above; the table is that of the file's filesystem.
        checked(unsafe { bindings::iomap_file_buffered_write(control, from, table, ptr::null_mut()) })
    }

    /// # Safety
    ///
    /// Called by VFS only, with an open file or directory of `T`.
    unsafe extern "C" fn ioctl_callback(
        file: *mut bindings::file,
        command: ffi::c_uint,
        argument: ffi::c_ulong,
    ) -> ffi::c_long {
        // SAFETY: An open file has its inode, which is one of `T`'s.
        let inode = unsafe { Inode::<T>::from_raw((*file).f_inode) };
        match T::ioctl(inode, command, UserArgument(argument)) {
            Ok(value) => value as ffi::c_long,
            Err(error) => error.to_errno() as ffi::c_long,
        }
    }
}
