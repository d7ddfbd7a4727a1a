// SPDX-License-Identifier: GPL-2.0

//! Kernel threads (include/linux/kthread.h), each owned by whoever has its [`Thread`].
//!
//! A thread ends when its body returns; nobody stops it from outside. The owner tells it to by a flag and an
//! [`Event`](crate::event::Event):
//!
//! - the owner sets the flag, signals the event, and drops the thread;
//! - the body, in a loop: reads the event's count, looks at the flag and for work, and waits for the count to be another.
//!
//! No wake-up is lost: a flag that was set before the body looked at it is seen; one that was set after that came with a
//! signal after the body had read the count, so the wait ends at once. (`kthread_stop` would wake the thread from any wait and
//! leave it with a pending signal, which every interruptible wait in it would see.)

use crate::completion::Completion;
use crate::memory_scope::without_filesystem_reclaim;
use cairnfs_bindings as bindings;
use core::pin::Pin;
use kernel::alloc::{flags::GFP_KERNEL, KBox};
use kernel::error::{from_err_ptr, Result};
use kernel::ffi;
use kernel::prelude::InPlaceInit;
use kernel::str::CStr;

/// Lets the running task sleep, signals or not (include/linux/delay.h).
pub fn sleep_ms(ms: u32) {
    // SAFETY: Only contexts that may sleep have a reason to call this.
    unsafe { bindings::msleep(ms) };
}

/// A running thread. Dropping it waits until its body has returned and all that the body owned is dropped.
#[must_use = "dropping a thread waits for its end"]
pub struct Thread {
    /// Completed by the thread as the last thing it does here.
    ended: Pin<KBox<Completion>>,
}

/// What a thread begins with.
struct Start<F> {
    body: KBox<F>,
    /// Its owner's; stays until it is completed.
    ended: *mut bindings::completion,
}

impl Thread {
    /// Starts a thread, which is shown by `name`. It may be frozen while it waits in
    /// [`Event::wait_ms`](crate::event::Event::wait_ms), and nothing that it allocates enters filesystems. EINTR when the caller
    /// is being killed.
    pub fn run<F: FnOnce() + Send + 'static>(name: &CStr, body: KBox<F>) -> Result<Self> {
        let ended = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
        let start = KBox::into_raw(KBox::new(Start { body, ended: ended.as_ptr() }, GFP_KERNEL)?);
        // SAFETY: The function takes over what it is given, and that is its own type; the name ends with a NUL, and is copied.
        // The module stays until the thread has ended: its owner is part of the module, and waits for it.
        let task = unsafe {
            bindings::cairnfs_helper_kthread_run(Some(main::<F>), start.cast(), name.as_char_ptr())
        };
        if let Err(error) = from_err_ptr(task) {
            // SAFETY: There is no thread that could have taken it.
            drop(unsafe { KBox::from_raw(start) });
            return Err(error);
        }
        // A thread that was made and woken runs its function: only `kthread_stop` could keep it from that.
        Ok(Self { ended })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.ended.wait();
    }
}

/// # Safety
///
/// Called by a new thread only, with a box of `Start<F>`, which it takes.
unsafe extern "C" fn main<F: FnOnce()>(start: *mut ffi::c_void) -> ffi::c_int {
    // SAFETY: As this function's requirements say.
    let Start { body, ended } = KBox::into_inner(unsafe { KBox::<Start<F>>::from_raw(start.cast()) });
    // SAFETY: Changes flags of the running thread only.
    unsafe { bindings::cairnfs_helper_set_freezable() };
    without_filesystem_reclaim(KBox::into_inner(body));
    // SAFETY: The owner keeps the completion until it is completed. What follows is not code of this module, so the owner
    // may let go of the module at once.
    unsafe { bindings::kthread_complete_and_exit(ended, 0) }
}
