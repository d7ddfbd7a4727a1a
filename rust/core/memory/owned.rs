// SPDX-License-Identifier: GPL-2.0

//! One value on the heap.

use super::backend::{boxed, unboxed, Boxed};
use super::OutOfMemory;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A value on the heap.
///
/// The value passes over the stack on its way there, so it has to be small: blocks and tables belong in a
/// [`Buffer`](super::Buffer) or a [`List`](super::List), which a struct then holds.
pub struct Owned<T>(Boxed<T>);

impl<T> Owned<T> {
    /// Moves `value` to the heap; it is dropped if there is no memory.
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        boxed(value).map(Self)
    }

    /// Moves the value back, and frees the memory.
    pub fn into_inner(self) -> T {
        unboxed(self.0)
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Owned<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}
