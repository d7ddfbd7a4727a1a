// SPDX-License-Identifier: GPL-2.0

//! A value with several owners: the last one to go frees it.

use super::{backend, OutOfMemory};
use core::fmt;
use core::ops::Deref;

/// A value on the heap that is never changed while it is shared, so that everybody may read it without a lock.
pub struct Shared<T>(backend::Counted<T>);

impl<T> Shared<T> {
    /// Puts `value` on the heap, with one owner. Keep `value` small: it passes over the stack.
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        backend::counted(value).map(Self)
    }

    /// Whether both are the same value in memory.
    pub fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq::<T>(&*self.0, &*other.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}
