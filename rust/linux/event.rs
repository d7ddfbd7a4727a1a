// SPDX-License-Identifier: GPL-2.0

//! Waiting for something to happen (include/linux/wait.h): an event count.
//!
//! The count only grows. Who waits reads it, *then* looks whether there is something to do, and if not waits until the
//! count is another than the one it read. What happens in between raises the count, so the wait does not begin: no
//! signal is lost, and no lock has to be shared with who signals.

use cairnfs_bindings as bindings;
use kernel::error::{code::EINTR, Result};
use kernel::prelude::{pin_data, pin_init, PinInit};
use kernel::types::Opaque;

/// An event count.
#[pin_data]
pub struct Event {
    #[pin]
    event: Opaque<bindings::cairnfs_event>,
}

// SAFETY: The functions that work on it are made to be called by several threads at once, and it may be dropped by any.
unsafe impl Send for Event {}
// SAFETY: As above.
unsafe impl Sync for Event {}

impl Event {
    /// One that was never signalled.
    #[allow(clippy::new_ret_no_self, reason = "what is made is pinned in its place")]
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot is writable, and pinned as the queue in it has to be.
            event <- Opaque::ffi_init(|slot| unsafe { bindings::cairnfs_helper_event_init(slot) }),
        })
    }

    /// The count: what a wait begins with. What was written before a signal is seen by who sees it counted.
    pub fn now(&self) -> u64 {
        // SAFETY: The event was initialised by its constructor, as in all methods below.
        unsafe { bindings::cairnfs_helper_event_now(self.event.get()) }
    }

    /// Raises the count and wakes all who wait. Never waits itself: any context may call it.
    pub fn signal(&self) {
        // SAFETY: As in `now`.
        unsafe { bindings::cairnfs_helper_event_signal(self.event.get()) };
    }

    /// Waits until the count is not `seen`, whatever happens.
    pub fn wait(&self, seen: u64) {
        // SAFETY: As in `now`; only contexts that may sleep have a reason to call this.
        unsafe { bindings::cairnfs_helper_event_wait(self.event.get(), seen) };
    }

    /// Waits until the count is not `seen`; EINTR when the task is being killed.
    pub fn wait_killable(&self, seen: u64) -> Result {
        // SAFETY: As in `wait`.
        match unsafe { bindings::cairnfs_helper_event_wait_killable(self.event.get(), seen) } {
            0 => Ok(()),
            _ => Err(EINTR),
        }
    }

    /// Waits until the count is not `seen`, at most `ms` milliseconds; whether it is not. For a
    /// [`Thread`](crate::thread::Thread) with nothing to do: it does not count to the load, and a suspend may freeze it here,
    /// so it has no lock.
    pub fn wait_ms(&self, seen: u64, ms: u64) -> bool {
        // SAFETY: As in `wait`.
        unsafe { bindings::cairnfs_helper_event_wait_idle(self.event.get(), seen, ms) }
    }

    /// Waits until the count is not `seen`, at most `us` microseconds, by a timer that is exact to the task's slack (50 us where
    /// nobody has changed it); whether it is not.
    pub fn wait_us(&self, seen: u64, us: u64) -> bool {
        // SAFETY: As in `wait`.
        unsafe { bindings::cairnfs_helper_event_wait_us(self.event.get(), seen, us) }
    }
}
