// SPDX-License-Identifier: GPL-2.0

//! `struct rw_semaphore`: a lock with many readers or one writer, who may sleep (include/linux/rwsem.h).

use cairnfs_bindings as bindings;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use kernel::prelude::{pin_data, pin_init, PinInit};
use kernel::str::CStr;
use kernel::sync::LockClassKey;
use kernel::types::Opaque;

/// The highest level of [`RwSemaphore::write_nested`].
pub const LEVEL_MAX: u32 = 4;

// lockdep knows fewer levels than this, and switches itself off at a higher one.
const _: () = assert!(LEVEL_MAX < bindings::MAX_LOCKDEP_SUBCLASSES);

/// A semaphore and what it guards. Made by [`new_rw_semaphore!`](crate::new_rw_semaphore), which gives it a lock class of its
/// own.
#[pin_data]
pub struct RwSemaphore<T> {
    #[pin]
    semaphore: Opaque<bindings::rw_semaphore>,
    value: UnsafeCell<T>,
}

// SAFETY: Another thread may have it if it may have the value.
unsafe impl<T: Send> Send for RwSemaphore<T> {}
// SAFETY: Readers share the value, writers take it from thread to thread.
unsafe impl<T: Send + Sync> Sync for RwSemaphore<T> {}

impl<T> RwSemaphore<T> {
    /// A semaphore that nobody holds.
    #[allow(clippy::new_ret_no_self, reason = "what is made is pinned in its place")]
    pub fn new(value: T, name: &'static CStr, key: &'static LockClassKey) -> impl PinInit<Self> {
        // The kernel crate's wrapper of the same C structure, transparent over it.
        let key = core::ptr::from_ref(key).cast_mut().cast::<bindings::lock_class_key>();
        pin_init!(Self {
            // SAFETY: The slot is writable, and pinned as the list in it has to be; name and key are static.
            semaphore <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_rwsem(slot, name.as_char_ptr(), key)
            }),
            value: UnsafeCell::new(value),
        })
    }

    /// Takes it for reading. Not twice in one thread: a writer that came in between would wait for the first, and the second
    /// for the writer.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: It was initialised by its constructor, and who takes a semaphore may sleep.
        unsafe { bindings::down_read(self.semaphore.get()) };
        // INVARIANT: Just taken.
        ReadGuard { semaphore: self, _not_send: PhantomData }
    }

    /// Takes it for writing.
    pub fn write(&self) -> WriteGuard<'_, T> {
        self.write_nested(0)
    }

    /// Takes it for writing, by one who may already hold others of its kind, in an order that the caller has: `level` says, to
    /// lockdep alone, how many. Levels above [`LEVEL_MAX`] count as that.
    pub fn write_nested(&self, level: u32) -> WriteGuard<'_, T> {
        let level = level.min(LEVEL_MAX) as i32;
        // SAFETY: As in `read`.
        unsafe { bindings::cairnfs_helper_down_write_nested(self.semaphore.get(), level) };
        // INVARIANT: Just taken.
        WriteGuard { semaphore: self, _not_send: PhantomData }
    }
}

/// The right to read.
///
/// # Invariants
///
/// This thread holds the semaphore for reading.
#[must_use = "the semaphore is released when this is dropped"]
pub struct ReadGuard<'a, T> {
    semaphore: &'a RwSemaphore<T>,
    /// Who takes a semaphore releases it.
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: Sharing the guard shares the value.
unsafe impl<T: Sync> Sync for ReadGuard<'_, T> {}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants nobody writes.
        unsafe { &*self.semaphore.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is held for reading.
        unsafe { bindings::up_read(self.semaphore.semaphore.get()) };
    }
}

/// The right to write.
///
/// # Invariants
///
/// This thread holds the semaphore for writing.
#[must_use = "the semaphore is released when this is dropped"]
pub struct WriteGuard<'a, T> {
    semaphore: &'a RwSemaphore<T>,
    /// Who takes a semaphore releases it.
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: Sharing the guard shares the value.
unsafe impl<T: Sync> Sync for WriteGuard<'_, T> {}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants nobody else has the value.
        unsafe { &*self.semaphore.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants nobody else has the value.
        unsafe { &mut *self.semaphore.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is held for writing.
        unsafe { bindings::up_write(self.semaphore.semaphore.get()) };
    }
}

/// An initialiser of an [`RwSemaphore`](crate::rw_semaphore::RwSemaphore) with a lock class of its own: the value, and the name
/// that lockdep shows.
#[macro_export]
macro_rules! new_rw_semaphore {
    ($value:expr, $name:literal $(,)?) => {
        $crate::rw_semaphore::RwSemaphore::new(
            $value,
            ::kernel::c_str!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
