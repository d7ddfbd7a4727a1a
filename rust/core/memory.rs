// SPDX-License-Identifier: GPL-2.0

//! Memory that may run out: the containers core is built from.
//!
//! In the kernel every allocation can fail, and a failure must leave the filesystem as it was. So core uses
//! neither `alloc` nor `std` but the five types below, which have one interface in both worlds: a growable
//! [`List`], a byte [`Buffer`], an [`Owned`] and a [`Shared`] value and an [`OrderedMap`]. Whatever can fail returns
//! [`OutOfMemory`] and then has changed nothing; memory can be reserved beforehand where a later step must not
//! fail.
//!
//! This file alone names the allocators of the two worlds, in its private `backend` modules: kvmalloc and the
//! red-black tree of the `kernel` crate in the module, `std` in user space. Everything above `backend` is the
//! same code in both. In the module allocations use `GFP_KERNEL`; a caller that must not enter the filesystem
//! again sets the task's NOFS scope before it calls core.
//!
//! In user space, [`failure`] makes a chosen allocation of the calling thread fail, for tests of the paths that
//! a healthy machine never takes.

mod buffer;
mod list;
mod ordered_map;
mod owned;
mod shared;

#[cfg(test)]
mod tests;

pub use buffer::Buffer;
pub use list::List;
pub use ordered_map::{OrderedMap, Reservation};
pub use owned::Owned;
pub use shared::Shared;

/// An allocation failed; the operation that needed it has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl core::fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("out of memory")
    }
}

impl core::error::Error for OutOfMemory {}

/// The kernel's allocators.
#[cfg(CONFIG_RUST)]
mod backend {
    use super::OutOfMemory;
    use core::ops::{Deref, DerefMut};
    use kernel::alloc::flags::GFP_KERNEL;
    use kernel::alloc::{KBox, KVVec};
    use kernel::rbtree::{Entry, RBTree, RBTreeNodeReservation};
    use kernel::sync::Arc;

    /// An array that grows at its end and never shrinks. The elements beyond a page or two come from vmalloc.
    pub(super) struct Array<T>(KVVec<T>);

    impl<T: Copy> Array<T> {
        pub(super) const fn new() -> Self {
            Self(KVVec::new())
        }

        pub(super) fn capacity(&self) -> usize {
            self.0.capacity()
        }

        pub(super) fn reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
            self.0.reserve(additional, GFP_KERNEL).map_err(|_| OutOfMemory)
        }

        pub(super) fn push(&mut self, value: T) -> Result<(), OutOfMemory> {
            self.0.push(value, GFP_KERNEL).map_err(|_| OutOfMemory)
        }

        pub(super) fn extend_from_slice(&mut self, values: &[T]) -> Result<(), OutOfMemory> {
            self.0.extend_from_slice(values, GFP_KERNEL).map_err(|_| OutOfMemory)
        }
    }

    impl<T> Deref for Array<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> DerefMut for Array<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0
        }
    }

    pub(super) type Boxed<T> = KBox<T>;

    pub(super) fn boxed<T>(value: T) -> Result<Boxed<T>, OutOfMemory> {
        KBox::new(value, GFP_KERNEL).map_err(|_| OutOfMemory)
    }

    pub(super) fn unboxed<T>(boxed: Boxed<T>) -> T {
        KBox::into_inner(boxed)
    }

    pub(super) type Counted<T> = Arc<T>;

    pub(super) fn counted<T>(value: T) -> Result<Counted<T>, OutOfMemory> {
        Arc::new(value, GFP_KERNEL).map_err(|_| OutOfMemory)
    }

    /// The memory of one node.
    pub(super) struct Node<K, V>(RBTreeNodeReservation<K, V>);

    impl<K, V> Node<K, V> {
        pub(super) fn allocate() -> Result<Self, OutOfMemory> {
            RBTreeNodeReservation::new(GFP_KERNEL).map(Self).map_err(|_| OutOfMemory)
        }
    }

    /// A search tree. The kernel crate finds neighbours by cursors, which need `&mut`; so they are given as keys.
    pub(super) struct Tree<K, V>(RBTree<K, V>);

    impl<K: Ord + Copy, V> Tree<K, V> {
        pub(super) fn new() -> Self {
            Self(RBTree::new())
        }

        pub(super) fn get(&self, key: &K) -> Option<&V> {
            self.0.get(key)
        }

        pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
            self.0.get_mut(key)
        }

        pub(super) fn insert(&mut self, node: Node<K, V>, key: K, value: V) -> Option<V> {
            match self.0.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value, node.0);
                    None
                }
                Entry::Occupied(mut entry) => Some(core::mem::replace(entry.get_mut(), value)),
            }
        }

        pub(super) fn remove(&mut self, key: &K) -> Option<V> {
            self.0.remove(key)
        }

        pub(super) fn remove_keeping_node(&mut self, key: &K) -> Option<(V, Node<K, V>)>
        where
            V: Copy,
        {
            let entry = self.0.find_mut(key)?;
            let value = *entry.get();
            Some((value, Node(entry.remove_node().into_reservation())))
        }

        pub(super) fn last_key(&mut self) -> Option<K> {
            self.0.cursor_back().map(|cursor| *cursor.current().0)
        }

        pub(super) fn key_at_or_after(&mut self, key: &K) -> Option<K> {
            self.0.cursor_lower_bound(key).map(|cursor| *cursor.current().0)
        }

        pub(super) fn key_after(&mut self, key: &K) -> Option<K> {
            let cursor = self.0.cursor_lower_bound(key)?;
            let found = *cursor.current().0;
            if found > *key {
                return Some(found);
            }
            cursor.peek_next().map(|(next, _)| *next)
        }

        pub(super) fn key_before(&mut self, key: &K) -> Option<K> {
            if let Some(cursor) = self.0.cursor_lower_bound(key) {
                return cursor.peek_prev().map(|(previous, _)| *previous);
            }
            self.last_key()
        }

        pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
            self.0.iter()
        }

        pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
            self.0.iter_mut()
        }
    }
}

/// The allocators of `std`, made to fail on request.
#[cfg(not(CONFIG_RUST))]
mod backend {
    extern crate std;

    use super::{failure, OutOfMemory};
    use core::ops::Bound::{Excluded, Unbounded};
    use core::ops::{Deref, DerefMut};
    use std::boxed::Box;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::vec::Vec;

    /// An array that grows at its end and never shrinks.
    pub(super) struct Array<T>(Vec<T>);

    impl<T: Copy> Array<T> {
        pub(super) const fn new() -> Self {
            Self(Vec::new())
        }

        pub(super) fn capacity(&self) -> usize {
            self.0.capacity()
        }

        pub(super) fn reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
            if additional <= self.0.capacity().saturating_sub(self.0.len()) {
                return Ok(());
            }
            failure::allocate()?;
            self.0.try_reserve(additional).map_err(|_| OutOfMemory)
        }

        pub(super) fn push(&mut self, value: T) -> Result<(), OutOfMemory> {
            self.reserve(1)?;
            self.0.push(value);
            Ok(())
        }

        pub(super) fn extend_from_slice(&mut self, values: &[T]) -> Result<(), OutOfMemory> {
            self.reserve(values.len())?;
            self.0.extend_from_slice(values);
            Ok(())
        }
    }

    impl<T> Deref for Array<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> DerefMut for Array<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0
        }
    }

    pub(super) type Boxed<T> = Box<T>;

    pub(super) fn boxed<T>(value: T) -> Result<Boxed<T>, OutOfMemory> {
        failure::allocate()?;
        Ok(Box::new(value))
    }

    #[expect(clippy::boxed_local, reason = "the other backend's box has no such dereference")]
    pub(super) fn unboxed<T>(boxed: Boxed<T>) -> T {
        *boxed
    }

    pub(super) type Counted<T> = Arc<T>;

    pub(super) fn counted<T>(value: T) -> Result<Counted<T>, OutOfMemory> {
        failure::allocate()?;
        Ok(Arc::new(value))
    }

    /// Stands for the memory of one node, which `BTreeMap` takes for itself.
    pub(super) struct Node<K, V>(core::marker::PhantomData<fn(K, V)>);

    impl<K, V> Node<K, V> {
        pub(super) fn allocate() -> Result<Self, OutOfMemory> {
            failure::allocate()?;
            Ok(Self(core::marker::PhantomData))
        }
    }

    /// A search tree, with the interface that the kernel's red-black tree can offer.
    pub(super) struct Tree<K, V>(BTreeMap<K, V>);

    impl<K: Ord + Copy, V> Tree<K, V> {
        pub(super) fn new() -> Self {
            Self(BTreeMap::new())
        }

        pub(super) fn get(&self, key: &K) -> Option<&V> {
            self.0.get(key)
        }

        pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
            self.0.get_mut(key)
        }

        pub(super) fn insert(&mut self, _node: Node<K, V>, key: K, value: V) -> Option<V> {
            self.0.insert(key, value)
        }

        pub(super) fn remove(&mut self, key: &K) -> Option<V> {
            self.0.remove(key)
        }

        pub(super) fn remove_keeping_node(&mut self, key: &K) -> Option<(V, Node<K, V>)>
        where
            V: Copy,
        {
            Some((self.0.remove(key)?, Node(core::marker::PhantomData)))
        }

        pub(super) fn last_key(&mut self) -> Option<K> {
            self.0.last_key_value().map(|(key, _)| *key)
        }

        pub(super) fn key_at_or_after(&mut self, key: &K) -> Option<K> {
            self.0.range(*key..).next().map(|(found, _)| *found)
        }

        pub(super) fn key_after(&mut self, key: &K) -> Option<K> {
            self.0.range((Excluded(*key), Unbounded)).next().map(|(found, _)| *found)
        }

        pub(super) fn key_before(&mut self, key: &K) -> Option<K> {
            self.0.range(..*key).next_back().map(|(found, _)| *found)
        }

        pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
            self.0.iter()
        }

        pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
            self.0.iter_mut()
        }
    }
}

/// Allocation failures on request, for tests in user space.
///
/// A test runs an operation again and again, with the first allocation failing, then the second, and so on,
/// until a run needs no allocation that is left to fail:
///
/// ```
/// use cairnfs_core::memory::{failure, List};
///
/// for successes in 0.. {
///     let mut list = List::new();
///     let armed = failure::fail_after(successes);
///     let result = list.extend_from_slice(&[1, 2, 3]);
///     if !armed.happened() {
///         assert_eq!(result, Ok(()));
///         break;
///     }
///     assert!(result.is_err() && list.is_empty());
/// }
/// ```
#[cfg(not(CONFIG_RUST))]
pub mod failure {
    extern crate std;

    use super::OutOfMemory;
    use core::cell::Cell;

    /// What the next allocation of this thread meets.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Plan {
        /// Every allocation succeeds.
        None,
        /// So many allocations succeed, the one after them fails.
        After(u64),
        /// The failure has happened; all that follow succeed.
        Happened,
    }

    std::thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::None) };
    }

    /// A planned failure; dropping it cancels the plan.
    #[must_use = "the plan is cancelled when this is dropped"]
    pub struct Armed(core::marker::PhantomData<*const ()>);

    impl Armed {
        /// Whether an allocation has been made to fail.
        pub fn happened(&self) -> bool {
            PLAN.get() == Plan::Happened
        }
    }

    impl Drop for Armed {
        fn drop(&mut self) {
            PLAN.set(Plan::None);
        }
    }

    /// Lets `successes` more allocations of the calling thread succeed and the next one fail, once.
    ///
    /// A second call replaces the first one's plan.
    pub fn fail_after(successes: u64) -> Armed {
        PLAN.set(Plan::After(successes));
        Armed(core::marker::PhantomData)
    }

    /// Counts one allocation, and fails if it is the chosen one.
    pub(super) fn allocate() -> Result<(), OutOfMemory> {
        match PLAN.get() {
            Plan::None | Plan::Happened => Ok(()),
            Plan::After(0) => {
                PLAN.set(Plan::Happened);
                Err(OutOfMemory)
            }
            Plan::After(left) => {
                PLAN.set(Plan::After(left.saturating_sub(1)));
                Ok(())
            }
        }
    }
}
