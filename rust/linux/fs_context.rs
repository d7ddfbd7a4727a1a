// SPDX-License-Identifier: GPL-2.0

//! `struct fs_context`: a mount, or a change of one, that is being set up (include/linux/fs_context.h).

use crate::file_system_type::{self, FileSystem};
use crate::fs_parser::Parameters;
use crate::super_block::{self, SuperBlock};
use cairnfs_bindings as bindings;
use core::mem::MaybeUninit;
use kernel::alloc::{flags::GFP_KERNEL, KBox};
use kernel::error::{from_result, Result};
use kernel::ffi;

/// Flags of VFS that a mount is to have, and that mean nothing where the filesystem does nothing for them: VFS itself takes them for
/// every filesystem. By their bits, with their names.
const FOR_THE_FILESYSTEM: [(ffi::c_uint, &str); 3] = [
    (bindings::CAIRNFS_SB_LAZYTIME, "lazytime"),
    (bindings::CAIRNFS_SB_POSIXACL, "acl"),
    (bindings::CAIRNFS_SB_I_VERSION, "iversion"),
];

/// The operations of `struct fs_context_operations`.
pub trait Operations: FileSystem {
    /// The mount options.
    const PARAMETERS: Parameters;

    /// Notes an option of the table, by its number, and its value ([`Value`](crate::fs_parser::Value)).
    fn parse_param(options: &mut Self::Options, number: u8, value: u64) -> Result;

    /// A new mount, or a change of one, asks for a flag that takes the filesystem's help: `lazytime`, `acl` or `iversion`.
    fn check_flag(name: &'static str) -> Result;

    /// Whether a new mount may be tried: before the device is opened.
    fn check_new_mount(options: &Self::Options, read_only: bool) -> Result;

    /// A mounted filesystem is to be mounted with other options: those that were given now, over the defaults. `read_only` says
    /// what it shall be afterwards; [`SuperBlock::is_read_only`] says what it is now.
    ///
    /// `s_umount` is held for writing. Going read-only, VFS has seen that nobody has a file open for writing or an unlinked one
    /// in use, and lets no new writer in; it has *not* synced: what is still to be written, the filesystem writes now. Going
    /// read-write, no writer comes in before this has returned. VFS changes `SB_RDONLY` after a success, and by nothing else; so
    /// during this call it still says the old state. After an error all stays as it was, but for one case: an emergency remount
    /// (sysrq-u) goes on to read-only, with files open for writing, whatever this returns.
    fn reconfigure(super_block: &SuperBlock<Self>, options: &Self::Options, read_only: bool) -> Result;
}

/// The table of `T`'s operations.
pub(crate) struct Table<T>(core::marker::PhantomData<T>);

impl<T: file_system_type::Operations> Table<T> {
    const TABLE: &'static bindings::fs_context_operations = &{
        // SAFETY: A table without functions is valid.
        let mut table: bindings::fs_context_operations = unsafe { MaybeUninit::zeroed().assume_init() };
        table.free = Some(Self::free_callback);
        table.parse_param = Some(Self::parse_param_callback);
        table.get_tree = Some(Self::get_tree_callback);
        table.reconfigure = Some(Self::reconfigure_callback);
        table
    };

    /// What `struct file_system_type` calls to begin a mount or a remount.
    ///
    /// # Safety
    ///
    /// Called by VFS only, with a context that it has just allocated.
    pub(crate) unsafe extern "C" fn init_fs_context_callback(
        context: *mut bindings::fs_context,
    ) -> ffi::c_int {
        from_result(|| {
            let options = KBox::new(T::Options::default(), GFP_KERNEL)?;
            // SAFETY: The context is valid, and nobody else knows of it yet. `free` is called for whatever has
            // `ops`, and takes the box back.
            unsafe {
                (*context).fs_private = KBox::into_raw(options).cast();
                (*context).ops = Self::TABLE;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `context` must be one that `init_fs_context_callback` has set up, in use by the caller's callback alone.
    unsafe fn options<'a>(context: *mut bindings::fs_context) -> &'a mut T::Options {
        // SAFETY: By `init_fs_context_callback` it is a box of options; VFS calls the operations of one context one at a time.
        unsafe { &mut *(*context).fs_private.cast() }
    }

    /// # Safety
    ///
    /// As [`Self::options`].
    unsafe fn is_read_only(context: *mut bindings::fs_context) -> bool {
        // SAFETY: The caller vouches for the context.
        let flags = unsafe { (*context).sb_flags };
        flags & bindings::CAIRNFS_SB_RDONLY != 0
    }

    /// # Safety
    ///
    /// As [`Self::options`].
    unsafe fn check_flags(context: *mut bindings::fs_context) -> Result {
        // SAFETY: The caller vouches for the context.
        let flags = unsafe { (*context).sb_flags };
        FOR_THE_FILESYSTEM
            .iter()
            .filter(|(flag, _)| flags & flag != 0)
            .try_for_each(|(_, name)| T::check_flag(name))
    }

    /// # Safety
    ///
    /// Called by VFS only, once, with a context that `init_fs_context_callback` has set up.
    unsafe extern "C" fn free_callback(context: *mut bindings::fs_context) {
        // SAFETY: The box was made by `init_fs_context_callback`, and nobody uses it any more.
        drop(unsafe { KBox::<T::Options>::from_raw((*context).fs_private.cast()) });
    }

    /// # Safety
    ///
    /// Called by VFS only.
    unsafe extern "C" fn parse_param_callback(
        context: *mut bindings::fs_context,
        parameter: *mut bindings::fs_parameter,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: They are those of this callback.
            let given = unsafe { T::PARAMETERS.parse(context, parameter) }?;
            // SAFETY: The context is this callback's.
            T::parse_param(unsafe { Self::options(context) }, given.number, given.value)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by VFS only.
    unsafe extern "C" fn get_tree_callback(context: *mut bindings::fs_context) -> ffi::c_int {
        // SAFETY: The context is this callback's.
        let check = unsafe {
            Self::check_flags(context)
                .and_then(|()| T::check_new_mount(Self::options(context), Self::is_read_only(context)))
        };
        if let Err(error) = check {
            return error.to_errno();
        }
        // SAFETY: The context is this callback's; the function fits what `get_tree_bdev` gives it.
        unsafe { bindings::get_tree_bdev(context, Some(Self::fill_super_callback)) }
    }

    /// # Safety
    ///
    /// Called by `get_tree_bdev` only, with a new super block that has its device and nothing else.
    unsafe extern "C" fn fill_super_callback(
        super_block: *mut bindings::super_block,
        context: *mut bindings::fs_context,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The context is this callback's, the super block is new.
            unsafe { super_block::fill::<T>(super_block, Self::options(context)) }?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by VFS only, for a mounted filesystem, with `s_umount` held for writing.
    unsafe extern "C" fn reconfigure_callback(context: *mut bindings::fs_context) -> ffi::c_int {
        from_result(|| {
            // SAFETY: At a reconfiguration `root` is the mounted root; its super block is one of `T`'s, complete, and cannot
            // go away while the context holds the root.
            let super_block = unsafe { SuperBlock::<T>::from_raw((*(*context).root).d_sb) };
            // A reconfiguration may be of options alone: then the flag is not among those that are to change.
            // SAFETY: The context is this callback's.
            let read_only = match unsafe { (*context).sb_flags_mask } & bindings::CAIRNFS_SB_RDONLY {
                0 => super_block.is_read_only(),
                // SAFETY: As above.
                _ => unsafe { Self::is_read_only(context) },
            };
            // SAFETY: As above.
            unsafe { Self::check_flags(context) }?;
            // SAFETY: As above.
            T::reconfigure(super_block, unsafe { Self::options(context) }, read_only)?;
            Ok(0)
        })
    }
}
