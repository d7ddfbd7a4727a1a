// SPDX-License-Identifier: GPL-2.0

//! The ends of writeback's I/O (`struct iomap_ioend`), from interrupts to threads that may wait (include/linux/workqueue.h).
//!
//! Each inode has a list of the I/O that has ended, and a work; each mount has a queue for the works. The end of an I/O is
//! pushed onto the list, and who finds it empty queues the work; the work takes the whole list, sorts it, and
//! tells the filesystem, neighbours together. So a run of the work comes of each time that the list was empty, and finds
//! it filled: neither is there an end without a run to come, nor a run without an end.
//!
//! *The inode stays.* An I/O's folios are under writeback until [`iomap_finish_ioends`](bindings::iomap_finish_ioends) has been
//! called for it, and eviction waits for that. Before, the list has an I/O or the work has taken it; after the last one the
//! work does not look at the inode any more, and, since runs and non-empty lists go together, none is queued. A work
//! may be freed while its function returns.
//!
//! The queue has a thread to itself when there is no memory for others (`WQ_MEM_RECLAIM`): what it does makes pages clean. One
//! a mount, since the device of one filesystem may be a file of another.

use crate::inode::Inode;
use crate::inode_cache;
use crate::iomap::Operations;
use crate::memory_scope::without_filesystem_reclaim;
use cairnfs_bindings as bindings;
use core::mem::{offset_of, MaybeUninit};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::error::code::ENOMEM;
use kernel::error::{to_result, Result};
use kernel::str::CStr;

/// A mount's queue: `struct workqueue_struct`.
///
/// # Invariants
///
/// The pointer is to a queue that is this value's.
pub(crate) struct Queue(NonNull<bindings::workqueue_struct>);

// SAFETY: A queue may be used, and destroyed, by any thread.
unsafe impl Send for Queue {}
// SAFETY: As above; interrupts too may queue.
unsafe impl Sync for Queue {}

impl Queue {
    /// A queue; both names are shown with its threads.
    pub(crate) fn new(file_system: &CStr, device: &CStr) -> Result<Self> {
        // SAFETY: The names end with a NUL, and are copied.
        let queue = unsafe {
            bindings::cairnfs_helper_alloc_workqueue(file_system.as_char_ptr(), device.as_char_ptr())
        };
        // INVARIANT: Just made.
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is this value's. Who drops it has evicted all inodes, so nothing is queued; this waits
        // for functions that are returning.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// An inode's I/O that has ended, and the work that it makes.
///
/// # Invariants
///
/// The list goes from its newest element by `io_list.next` to null. Once it is initialised the work's function is
/// [`work_callback`], of the filesystem whose inode this belongs to.
pub(crate) struct List {
    newest: AtomicPtr<bindings::iomap_ioend>,
    work: MaybeUninit<bindings::work_struct>,
}

impl List {
    /// # Safety
    ///
    /// `list` must be that of a new inode of `T`, used by nobody else.
    pub(crate) unsafe fn init<T: Operations>(list: *mut Self) {
        // SAFETY: As the caller vouches.
        unsafe {
            (&raw mut (*list).newest).write(AtomicPtr::new(ptr::null_mut()));
            // INVARIANT: The function is this one.
            bindings::cairnfs_helper_init_work((&raw mut (*list).work).cast(), Some(work_callback::<T>));
        }
    }

    /// Adds an I/O, and queues the work when it is the first.
    ///
    /// # Safety
    ///
    /// The list must be initialised; the I/O has ended and is the caller's, of the list's inode, which is still there because of
    /// it. The caller gives both up.
    unsafe fn push(list: *mut Self, ioend: *mut bindings::iomap_ioend, queue: &Queue) {
        // SAFETY: As the caller vouches, up to the exchange. What was pushed onto another is not this function's any more, nor is
        // the inode. One that was first stays until the work has run, which nobody else queues, and so does the inode.
        unsafe {
            let mut before = (*list).newest.load(Ordering::Relaxed);
            loop {
                (*ioend).io_list.next = before.cast();
                let pushed = (*list).newest.compare_exchange_weak(
                    before,
                    ioend,
                    // Who takes the list sees what is in it.
                    Ordering::Release,
                    Ordering::Relaxed,
                );
                match pushed {
                    Ok(_) => break,
                    Err(newest) => before = newest,
                }
            }
            if before.is_null() {
                bindings::cairnfs_helper_queue_work(queue.0.as_ptr(), (&raw mut (*list).work).cast());
            }
        }
    }
}

/// # Safety
///
/// Called once, by the block layer or by iomap, in any context, with the bio of an I/O of writeback of a file of `T`.
pub(crate) unsafe extern "C" fn end_io_callback<T: Operations>(bio: *mut bindings::bio) {
    // SAFETY: The bio stands in such an I/O, which has its inode, and that its super block: its folios are under writeback.
    // Regular files have a list that is initialised.
    unsafe {
        let ioend: *mut bindings::iomap_ioend =
            bio.byte_sub(offset_of!(bindings::iomap_ioend, io_bio)).cast();
        let inode = (*ioend).io_inode;
        let queue = Inode::<T>::from_raw(inode).super_block().io_ends();
        List::push(inode_cache::io_ends::<T::InodeData>(inode), ioend, queue);
    }
}

/// # Safety
///
/// Called by the workqueue only, with the work of a list of an inode of `T`.
unsafe extern "C" fn work_callback<T: Operations>(work: *mut bindings::work_struct) {
    let mut ended = MaybeUninit::<bindings::list_head>::uninit();
    let ended = ended.as_mut_ptr();
    // SAFETY: The work stands in a list. There is I/O in it, so the inode stays until the last of it is finished, behind which
    // nothing is looked at but the head here.
    unsafe {
        let list: *mut List = work.byte_sub(offset_of!(List, work)).cast();
        let newest = (*list).newest.swap(ptr::null_mut(), Ordering::Acquire);
        collect(newest, ended);
        bindings::iomap_sort_ioends(ended);
        loop {
            let node = (*ended).next;
            if node == ended {
                break;
            }
            bindings::cairnfs_helper_list_del_init(node);
            let ioend: *mut bindings::iomap_ioend =
                node.byte_sub(offset_of!(bindings::iomap_ioend, io_list)).cast();
            bindings::iomap_ioend_try_merge(ioend, ended);
            finish::<T>(ioend);
            bindings::cairnfs_helper_cond_resched();
        }
    }
}

/// Makes a list of the kernel's of one of ours, the oldest first.
///
/// # Safety
///
/// `newest` must be a list that was taken, `head` writable; both are the caller's.
unsafe fn collect(newest: *mut bindings::iomap_ioend, head: *mut bindings::list_head) {
    let mut next = newest;
    // SAFETY: As the caller vouches; by the type invariants the list ends.
    unsafe {
        bindings::cairnfs_helper_init_list_head(head);
        while !next.is_null() {
            let ioend = next;
            next = (*ioend).io_list.next.cast();
            bindings::cairnfs_helper_list_add(&raw mut (*ioend).io_list, head);
        }
    }
}

/// Tells the filesystem, and ends the writeback of the folios.
///
/// # Safety
///
/// `ioend` must be the caller's, of a file of `T`, with those that were merged into it. They are given up, and so is the inode.
unsafe fn finish<T: Operations>(ioend: *mut bindings::iomap_ioend) {
    // SAFETY: Its folios are under writeback, so its inode is there. Its status is that of all that were merged into it.
    let (inode, start, bytes, is_new, outcome) = unsafe {
        (
            Inode::<T>::from_raw((*ioend).io_inode),
            (*ioend).io_offset as u64,
            (*ioend).io_size as u64,
            u32::from((*ioend).io_type) == bindings::IOMAP_UNWRITTEN,
            to_result(bindings::blk_status_to_errno((*ioend).io_bio.bi_status)),
        )
    };
    without_filesystem_reclaim(|| {
        let ended = T::io_end(inode, start, bytes, is_new, outcome).and(outcome);
        let error = ended.map_or_else(kernel::error::Error::to_errno, |()| 0);
        // SAFETY: The I/O is this function's, and is not looked at again.
        unsafe { bindings::iomap_finish_ioends(ioend, error) };
    });
}
