// SPDX-License-Identifier: GPL-2.0

//! A map in the order of its keys.
//!
//! In the module it is the kernel's red-black tree, in user space `BTreeMap`. The kernel crate reaches a tree's
//! end and its neighbours through cursors that borrow the tree mutably: that is why [`OrderedMap::last`] and the
//! neighbour functions take `&mut self`.

use super::backend::{Node, Tree};
use super::OutOfMemory;
use core::fmt;

/// A map in the order of its keys.
pub struct OrderedMap<K, V> {
    tree: Tree<K, V>,
    len: usize,
}

/// Memory for one entry, taken beforehand: an insertion with it cannot fail.
pub struct Reservation<K, V>(Node<K, V>);

impl<K: Ord + Copy, V> OrderedMap<K, V> {
    /// An empty map. Allocates nothing.
    pub fn new() -> Self {
        Self { tree: Tree::new(), len: 0 }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes memory for one entry, of whichever map of this type.
    pub fn reserve() -> Result<Reservation<K, V>, OutOfMemory> {
        Node::allocate().map(Reservation)
    }

    /// Sets the value of `key` and returns the one it had. Allocates only for a new key.
    #[inline(never)] // For the stack: on its way into the tree a value stands on it more than once.
    pub fn insert(&mut self, key: K, value: V) -> Result<Option<V>, OutOfMemory> {
        if let Some(present) = self.tree.get_mut(&key) {
            return Ok(Some(core::mem::replace(present, value)));
        }
        Ok(self.insert_reserved(Self::reserve()?, key, value))
    }

    /// Sets the value of `key` and returns the one it had; then the reservation was not needed, and is freed.
    pub fn insert_reserved(&mut self, reservation: Reservation<K, V>, key: K, value: V) -> Option<V> {
        let replaced = self.tree.insert(reservation.0, key, value);
        if replaced.is_none() {
            self.len = self.len.saturating_add(1);
        }
        replaced
    }

    /// The value of `key`.
    pub fn get(&self, key: K) -> Option<&V> {
        self.tree.get(&key)
    }

    /// The value of `key`, to be changed in place.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.tree.get_mut(&key)
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    /// Removes `key` and returns its value.
    #[inline(never)] // For the stack, as insertion.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let removed = self.tree.remove(&key)?;
        self.len = self.len.saturating_sub(1);
        Some(removed)
    }

    /// Removes `key` and returns its value together with the entry's memory, so that it can come back under
    /// another key without an allocation.
    pub fn remove_reserving(&mut self, key: K) -> Option<(V, Reservation<K, V>)>
    where
        V: Copy,
    {
        let (removed, node) = self.tree.remove_keeping_node(&key)?;
        self.len = self.len.saturating_sub(1);
        Some((removed, Reservation(node)))
    }

    /// Removes the entry with the smallest key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let (key, _) = self.first()?;
        self.remove(key).map(|value| (key, value))
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Removes the entries for which `keep` returns false, in the order of their keys.
    pub fn retain(&mut self, mut keep: impl FnMut(K, &mut V) -> bool) {
        let mut next = self.first().map(|(key, _)| key);
        while let Some(key) = next {
            if !self.get_mut(key).is_some_and(|value| keep(key, value)) {
                self.remove(key);
            }
            next = self.tree.key_after(&key);
        }
    }

    /// The entry with the smallest key.
    pub fn first(&self) -> Option<(K, &V)> {
        self.iter().next()
    }

    /// The entry with the largest key.
    pub fn last(&mut self) -> Option<(K, &V)> {
        let key = self.tree.last_key()?;
        self.entry(key)
    }

    /// The entry with the smallest key that is `key` or larger.
    pub fn lower_bound(&mut self, key: K) -> Option<(K, &V)> {
        let key = self.tree.key_at_or_after(&key)?;
        self.entry(key)
    }

    /// The entry with the smallest key that is larger than `key`.
    pub fn next_after(&mut self, key: K) -> Option<(K, &V)> {
        let key = self.tree.key_after(&key)?;
        self.entry(key)
    }

    /// The entry with the largest key that is smaller than `key`.
    pub fn prev_before(&mut self, key: K) -> Option<(K, &V)> {
        let key = self.tree.key_before(&key)?;
        self.entry(key)
    }

    /// The entry with the largest key that is `key` or smaller.
    pub fn at_or_before(&mut self, key: K) -> Option<(K, &V)> {
        if self.contains_key(key) {
            return self.entry(key);
        }
        self.prev_before(key)
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.tree.iter().map(|(key, value)| (*key, value))
    }

    /// All entries, in the order of their keys, with values to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.tree.iter_mut().map(|(key, value)| (*key, value))
    }

    fn entry(&self, key: K) -> Option<(K, &V)> {
        self.get(key).map(|value| (key, value))
    }
}

impl<K: Ord + Copy, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Copy + fmt::Debug, V: fmt::Debug> fmt::Debug for OrderedMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}
