// SPDX-License-Identifier: GPL-2.0

//! `struct completion`: waiting once for the end of something (include/linux/completion.h).

use cairnfs_bindings as bindings;
use kernel::prelude::{pin_data, pin_init, PinInit};
use kernel::types::Opaque;

/// A completion. Who has waited for it may free it: completing does not touch it after it has woken the waiter.
#[pin_data]
pub(crate) struct Completion {
    #[pin]
    completion: Opaque<bindings::completion>,
}

// SAFETY: The functions that work on it are made to be called by several threads at once, and it may be dropped by any.
unsafe impl Send for Completion {}
// SAFETY: As above.
unsafe impl Sync for Completion {}

impl Completion {
    /// One that is not complete.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot is writable, and pinned as the queue in it has to be.
            completion <- Opaque::ffi_init(|slot| unsafe { bindings::cairnfs_helper_init_completion(slot) }),
        })
    }

    pub(crate) const fn as_ptr(&self) -> *mut bindings::completion {
        self.completion.get()
    }

    /// Completes it, for one waiter. Never waits: any context may call it.
    pub(crate) fn complete(&self) {
        // SAFETY: It was initialised by its constructor.
        unsafe { bindings::complete(self.as_ptr()) };
    }

    /// Waits, and uses the completion up.
    pub(crate) fn wait(&self) {
        // SAFETY: As above; only contexts that may sleep have a reason to call this.
        unsafe { bindings::wait_for_completion(self.as_ptr()) };
    }
}
