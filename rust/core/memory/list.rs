// SPDX-License-Identifier: GPL-2.0

//! A growable array of plain values.
//!
//! The kernel crate's vector can grow but not shrink, so the list keeps a length of its own: the slots from
//! there to the end of the vector hold values that were removed, and are written again before the vector grows.

use super::backend::Array;
use super::OutOfMemory;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A growable array of plain values.
///
/// It dereferences to a slice, so that searching and walking are the slice's own methods.
///
/// # Invariants
///
/// `len <= slots.len()`.
pub struct List<T: Copy> {
    slots: Array<T>,
    len: usize,
}

impl<T: Copy> List<T> {
    /// An empty list. Allocates nothing.
    pub const fn new() -> Self {
        Self { slots: Array::new(), len: 0 }
    }

    /// An empty list with room for `capacity` values.
    pub fn with_capacity(capacity: usize) -> Result<Self, OutOfMemory> {
        let mut list = Self::new();
        list.reserve(capacity)?;
        Ok(list)
    }

    /// A list of `len` times `value`.
    pub fn filled(len: usize, value: T) -> Result<Self, OutOfMemory> {
        let mut list = Self::new();
        list.resize(len, value)?;
        Ok(list)
    }

    /// A list of the values of `values`.
    pub fn copy_of(values: &[T]) -> Result<Self, OutOfMemory> {
        let mut list = Self::new();
        list.extend_from_slice(values)?;
        Ok(list)
    }

    /// A copy of this list.
    pub fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Self::copy_of(self)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of values that fit without another allocation.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The values, in order.
    pub fn as_slice(&self) -> &[T] {
        self.slots.get(..self.len).unwrap_or_default()
    }

    /// The values, in order, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.slots.get_mut(..self.len).unwrap_or_default()
    }

    /// Makes room for `additional` more values, so that as many pushes cannot fail.
    pub fn reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
        let wanted = self.len.checked_add(additional).ok_or(OutOfMemory)?;
        match wanted.checked_sub(self.slots.len()) {
            None | Some(0) => Ok(()),
            Some(beyond_slots) => self.slots.reserve(beyond_slots),
        }
    }

    /// Appends a value, with an allocation if there is no room.
    pub fn push(&mut self, value: T) -> Result<(), OutOfMemory> {
        match self.slots.get_mut(self.len) {
            Some(slot) => *slot = value,
            None => self.slots.push(value)?,
        }
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Appends a value without ever allocating: fails if no room was reserved.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), OutOfMemory> {
        if self.len >= self.capacity() {
            return Err(OutOfMemory);
        }
        self.push(value)
    }

    /// Appends all values, or none of them.
    pub fn extend_from_slice(&mut self, values: &[T]) -> Result<(), OutOfMemory> {
        self.reserve(values.len())?;
        let stale = self.slots.get_mut(self.len..).unwrap_or_default();
        let (over_stale, beyond) = match values.split_at_checked(stale.len()) {
            Some(parts) => parts,
            None => (values, [].as_slice()),
        };
        for (slot, value) in stale.iter_mut().zip(over_stale) {
            *slot = *value;
        }
        self.slots.extend_from_slice(beyond)?;
        self.len = self.len.saturating_add(values.len());
        Ok(())
    }

    /// Cuts the list to `len` values, or fills it up to `len` with `value`.
    pub fn resize(&mut self, len: usize, value: T) -> Result<(), OutOfMemory> {
        if let Some(additional) = len.checked_sub(self.len) {
            self.reserve(additional)?;
            for _ in 0..additional {
                self.push(value)?;
            }
        }
        self.truncate(len);
        Ok(())
    }

    /// Puts `value` before the value at `index`; an index beyond the end appends it.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), OutOfMemory> {
        self.push(value)?;
        let moved = self.as_mut_slice().get_mut(index..).unwrap_or_default();
        if let Some(count) = moved.len().checked_sub(1) {
            moved.copy_within(..count, 1);
        }
        if let Some(slot) = moved.first_mut() {
            *slot = value;
        }
        Ok(())
    }

    /// Removes and returns the value at `index`, and moves those behind it forward.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        let moved = self.as_mut_slice().get_mut(index..)?;
        let removed = *moved.first()?;
        moved.copy_within(1.., 0);
        self.len = self.len.saturating_sub(1);
        Some(removed)
    }

    /// Removes and returns the value at `index`, and puts the last one in its place.
    pub fn swap_remove(&mut self, index: usize) -> Option<T> {
        let last = *self.last()?;
        let removed = core::mem::replace(self.get_mut(index)?, last);
        self.len = self.len.saturating_sub(1);
        Some(removed)
    }

    /// Exchanges the values at `a` and `b`; `None`, and nothing done, if one of them does not exist.
    pub fn swap(&mut self, a: usize, b: usize) -> Option<()> {
        let value_at_a = *self.get(a)?;
        let value_at_b = core::mem::replace(self.get_mut(b)?, value_at_a);
        *self.get_mut(a)? = value_at_b;
        Some(())
    }

    /// Removes and returns the last value.
    pub fn pop(&mut self) -> Option<T> {
        let last = *self.last()?;
        self.len = self.len.saturating_sub(1);
        Some(last)
    }

    /// Keeps the first `len` values; no effect if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Removes all values and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Removes the values for which `keep` returns false; the others keep their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0_usize;
        for index in 0..self.len {
            let Some(value) = self.get(index).copied() else { break };
            if keep(&value) {
                if let Some(slot) = self.get_mut(kept) {
                    *slot = value;
                }
                kept = kept.saturating_add(1);
            }
        }
        self.truncate(kept);
    }
}

impl<T: Copy> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Copy> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<'a, T: Copy> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl<'a, T: Copy> IntoIterator for &'a mut List<T> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_mut_slice().iter_mut()
    }
}

impl<T: Copy + PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Copy + Eq> Eq for List<T> {}

impl<T: Copy + fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(formatter)
    }
}
