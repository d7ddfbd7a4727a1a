// SPDX-License-Identifier: GPL-2.0

//! Property tests: each container against a plain one of `std`, step by step, with allocations that fail.
//!
//! A step that fails must leave the container as it was; the same step is then done again without a failure, so
//! that a sequence goes on behind it.

use super::{failure, Buffer, List, OrderedMap, OutOfMemory, Owned};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Runs `operation` with its first allocation failing, and returns whether that happened. `operation` must not
/// succeed where an allocation failed.
fn fails_cleanly<T>(operation: impl FnOnce() -> Result<T, OutOfMemory>) -> Result<T, OutOfMemory> {
    let armed = failure::fail_after(0);
    let result = operation();
    assert_eq!(
        result.is_err(),
        armed.happened(),
        "an error without a failure, or a failure without an error"
    );
    result
}

#[derive(Debug, Clone)]
enum ListStep {
    Push(u32),
    PushWithinCapacity(u32),
    Reserve(usize),
    Extend(Vec<u32>),
    Resize(usize, u32),
    Insert(usize, u32),
    Remove(usize),
    SwapRemove(usize),
    Swap(usize, usize),
    Pop,
    Truncate(usize),
    Clear,
    RetainMultiplesOf(u32),
    Clone,
}

fn list_step() -> impl Strategy<Value = ListStep> {
    prop_oneof![
        4 => any::<u32>().prop_map(ListStep::Push),
        2 => any::<u32>().prop_map(ListStep::PushWithinCapacity),
        1 => (0..20_usize).prop_map(ListStep::Reserve),
        3 => prop::collection::vec(any::<u32>(), 0..12).prop_map(ListStep::Extend),
        1 => (0..40_usize, any::<u32>()).prop_map(|(len, value)| ListStep::Resize(len, value)),
        4 => (0..40_usize, any::<u32>()).prop_map(|(index, value)| ListStep::Insert(index, value)),
        3 => (0..40_usize).prop_map(ListStep::Remove),
        2 => (0..40_usize).prop_map(ListStep::SwapRemove),
        2 => (0..40_usize, 0..40_usize).prop_map(|(a, b)| ListStep::Swap(a, b)),
        3 => Just(ListStep::Pop),
        1 => (0..40_usize).prop_map(ListStep::Truncate),
        1 => Just(ListStep::Clear),
        1 => (2..4_u32).prop_map(ListStep::RetainMultiplesOf),
        1 => Just(ListStep::Clone),
    ]
}

/// Applies one step to the list. Infallible steps return what they removed.
fn apply_to_list(list: &mut List<u32>, step: &ListStep) -> Result<Option<u32>, OutOfMemory> {
    match step {
        ListStep::Push(value) => list.push(*value).map(|()| None),
        ListStep::PushWithinCapacity(value) => {
            if list.len() < list.capacity() {
                list.push_within_capacity(*value).map(|()| None)
            } else {
                assert_eq!(list.push_within_capacity(*value), Err(OutOfMemory));
                Ok(Some(0))
            }
        }
        ListStep::Reserve(additional) => list.reserve(*additional).map(|()| {
            assert!(list.capacity() >= list.len() + additional);
            None
        }),
        ListStep::Extend(values) => list.extend_from_slice(values).map(|()| None),
        ListStep::Resize(len, value) => list.resize(*len, *value).map(|()| None),
        ListStep::Insert(index, value) => list.insert(*index, *value).map(|()| None),
        ListStep::Remove(index) => Ok(list.remove(*index)),
        ListStep::SwapRemove(index) => Ok(list.swap_remove(*index)),
        ListStep::Swap(a, b) => Ok(list.swap(*a, *b).map(|()| 1)),
        ListStep::Pop => Ok(list.pop()),
        ListStep::Truncate(len) => {
            list.truncate(*len);
            Ok(None)
        }
        ListStep::Clear => {
            list.clear();
            Ok(None)
        }
        ListStep::RetainMultiplesOf(divisor) => {
            list.retain(|value| value % divisor == 0);
            Ok(None)
        }
        ListStep::Clone => {
            *list = list.try_clone()?;
            Ok(None)
        }
    }
}

/// The same step on a `Vec`; `had_room` says whether the list could push without an allocation.
fn apply_to_vec(model: &mut Vec<u32>, step: &ListStep, had_room: bool) -> Option<u32> {
    match step {
        ListStep::Push(value) => model.push(*value),
        ListStep::PushWithinCapacity(value) if had_room => model.push(*value),
        ListStep::PushWithinCapacity(_) => return Some(0),
        ListStep::Reserve(_) | ListStep::Clone => {}
        ListStep::Extend(values) => model.extend_from_slice(values),
        ListStep::Resize(len, value) => model.resize(*len, *value),
        ListStep::Insert(index, value) => model.insert((*index).min(model.len()), *value),
        ListStep::Remove(index) => return (*index < model.len()).then(|| model.remove(*index)),
        ListStep::SwapRemove(index) => return (*index < model.len()).then(|| model.swap_remove(*index)),
        ListStep::Swap(a, b) => {
            return (*a.max(b) < model.len()).then(|| {
                model.swap(*a, *b);
                1
            });
        }
        ListStep::Pop => return model.pop(),
        ListStep::Truncate(len) => model.truncate(*len),
        ListStep::Clear => model.clear(),
        ListStep::RetainMultiplesOf(divisor) => model.retain(|value| value % divisor == 0),
    }
    None
}

#[derive(Debug, Clone)]
enum MapStep {
    Insert(u8, u32),
    InsertReserved(u8, u32),
    Rename(u8, u8),
    Change(u8, u32),
    Remove(u8),
    PopFirst,
    RetainMultiplesOf(u32),
    AddToAll(u32),
    Clear,
}

fn map_step() -> impl Strategy<Value = MapStep> {
    let key = 0..48_u8;
    prop_oneof![
        6 => (key.clone(), any::<u32>()).prop_map(|(key, value)| MapStep::Insert(key, value)),
        4 => (key.clone(), any::<u32>()).prop_map(|(key, value)| MapStep::InsertReserved(key, value)),
        3 => (key.clone(), key.clone()).prop_map(|(from, to)| MapStep::Rename(from, to)),
        2 => (key.clone(), any::<u32>()).prop_map(|(key, value)| MapStep::Change(key, value)),
        4 => key.prop_map(MapStep::Remove),
        2 => Just(MapStep::PopFirst),
        1 => (2..4_u32).prop_map(MapStep::RetainMultiplesOf),
        1 => any::<u32>().prop_map(MapStep::AddToAll),
        1 => Just(MapStep::Clear),
    ]
}

type Map = OrderedMap<u8, u32>;
type Entry = Option<(u8, u32)>;

fn apply_to_map(map: &mut Map, step: &MapStep) -> Result<Entry, OutOfMemory> {
    match step {
        MapStep::Insert(key, value) => Ok(map.insert(*key, *value)?.map(|old| (*key, old))),
        MapStep::InsertReserved(key, value) => {
            let reservation = Map::reserve()?;
            let nothing_left = failure::fail_after(0);
            let old = map.insert_reserved(reservation, *key, *value);
            assert!(!nothing_left.happened(), "an insertion with a reservation has allocated");
            Ok(old.map(|old| (*key, old)))
        }
        MapStep::Rename(from, to) => {
            let nothing_left = failure::fail_after(0);
            let Some((value, reservation)) = map.remove_reserving(*from) else { return Ok(None) };
            let old = map.insert_reserved(reservation, *to, value);
            assert!(!nothing_left.happened(), "an entry was given another key with an allocation");
            Ok(old.map(|old| (*to, old)))
        }
        MapStep::Change(key, value) => {
            Ok(map.get_mut(*key).map(|present| (*key, std::mem::replace(present, *value))))
        }
        MapStep::Remove(key) => Ok(map.remove(*key).map(|old| (*key, old))),
        MapStep::PopFirst => Ok(map.pop_first()),
        MapStep::RetainMultiplesOf(divisor) => {
            let mut previous = None;
            map.retain(|key, value| {
                assert!(previous < Some(key), "retain does not go in key order");
                previous = Some(key);
                *value % divisor == 0
            });
            Ok(None)
        }
        MapStep::AddToAll(addend) => {
            for (_, value) in map.iter_mut() {
                *value = value.wrapping_add(*addend);
            }
            Ok(None)
        }
        MapStep::Clear => {
            map.clear();
            Ok(None)
        }
    }
}

fn apply_to_model(model: &mut BTreeMap<u8, u32>, step: &MapStep) -> Entry {
    match step {
        MapStep::Insert(key, value) | MapStep::InsertReserved(key, value) => {
            model.insert(*key, *value).map(|old| (*key, old))
        }
        MapStep::Rename(from, to) => {
            let value = model.remove(from)?;
            model.insert(*to, value).map(|old| (*to, old))
        }
        MapStep::Change(key, value) => {
            model.get_mut(key).map(|present| (*key, std::mem::replace(present, *value)))
        }
        MapStep::Remove(key) => model.remove(key).map(|old| (*key, old)),
        MapStep::PopFirst => model.pop_first(),
        MapStep::RetainMultiplesOf(divisor) => {
            model.retain(|_, value| *value % divisor == 0);
            None
        }
        MapStep::AddToAll(addend) => {
            for value in model.values_mut() {
                *value = value.wrapping_add(*addend);
            }
            None
        }
        MapStep::Clear => {
            model.clear();
            None
        }
    }
}

/// Compares all that a map can be asked with a linear search in the model.
fn same_map(map: &mut Map, model: &BTreeMap<u8, u32>) {
    let entries: Vec<(u8, u32)> = model.iter().map(|(key, value)| (*key, *value)).collect();
    let owned = |entry: Option<(u8, &u32)>| entry.map(|(key, value)| (key, *value));
    assert_eq!(map.iter().map(|(key, value)| (key, *value)).collect::<Vec<_>>(), entries);
    assert_eq!(map.len(), entries.len());
    assert_eq!(map.is_empty(), entries.is_empty());
    assert_eq!(owned(map.first()), entries.first().copied());
    assert_eq!(owned(map.last()), entries.last().copied());
    for key in 0..=50 {
        let find = |wanted: &dyn Fn(u8) -> bool| entries.iter().copied().find(|(found, _)| wanted(*found));
        let find_back =
            |wanted: &dyn Fn(u8) -> bool| entries.iter().rev().copied().find(|(found, _)| wanted(*found));
        assert_eq!(map.get(key).map(|value| (key, *value)), find(&|found| found == key));
        assert_eq!(map.contains_key(key), model.contains_key(&key));
        assert_eq!(owned(map.lower_bound(key)), find(&|found| found >= key));
        assert_eq!(owned(map.next_after(key)), find(&|found| found > key));
        assert_eq!(owned(map.prev_before(key)), find_back(&|found| found < key));
        assert_eq!(owned(map.at_or_before(key)), find_back(&|found| found <= key));
    }
}

proptest! {
    #[test]
    fn list_is_a_vec(steps in prop::collection::vec((list_step(), any::<bool>()), 1..80)) {
        let mut list = List::new();
        let mut model = Vec::new();
        for (step, with_failure) in steps {
            let had_room = list.len() < list.capacity();
            let failed = with_failure && {
                let result = fails_cleanly(|| apply_to_list(&mut list, &step));
                if let Ok(removed) = result {
                    prop_assert_eq!(removed, apply_to_vec(&mut model, &step, had_room));
                }
                result.is_err()
            };
            prop_assert_eq!(list.as_slice(), model.as_slice(), "after a failure: {}", failed);
            if failed || !with_failure {
                let removed = apply_to_list(&mut list, &step);
                prop_assert_eq!(removed, Ok(apply_to_vec(&mut model, &step, had_room)));
            }
            prop_assert_eq!(list.as_slice(), model.as_slice());
            prop_assert_eq!(list.len(), model.len());
            prop_assert_eq!(list.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn ordered_map_is_a_btree_map(steps in prop::collection::vec((map_step(), any::<bool>()), 1..60)) {
        let mut map = Map::new();
        let mut model = BTreeMap::new();
        for (step, with_failure) in steps {
            let failed = with_failure && {
                let result = fails_cleanly(|| apply_to_map(&mut map, &step));
                if let Ok(removed) = result {
                    prop_assert_eq!(removed, apply_to_model(&mut model, &step));
                }
                result.is_err()
            };
            if failed {
                same_map(&mut map, &model);
            }
            if failed || !with_failure {
                let removed = apply_to_map(&mut map, &step);
                prop_assert_eq!(removed, Ok(apply_to_model(&mut model, &step)));
            }
            same_map(&mut map, &model);
        }
    }

    #[test]
    fn buffer_holds_its_bytes(len_bytes in 0..20_000_usize, at in any::<prop::sample::Index>(), byte in 1..=u8::MAX) {
        let mut buffer = Buffer::zeroed(len_bytes).unwrap();
        prop_assert_eq!(buffer.len(), len_bytes);
        prop_assert!(buffer.iter().all(|byte| *byte == 0));
        if len_bytes > 0 {
            buffer[at.index(len_bytes)] = byte;
        }
        let copy = buffer.try_clone().unwrap();
        prop_assert_eq!(&copy, &buffer);
        prop_assert_eq!(&Buffer::copy_of(&buffer).unwrap(), &buffer);
        if len_bytes > 0 {
            buffer[at.index(len_bytes)] = 0;
            prop_assert_ne!(&copy, &buffer);
        }
    }
}

#[test]
fn reserved_pushes_do_not_allocate() {
    let mut list = List::with_capacity(3).unwrap();
    list.extend_from_slice(&[1, 2]).unwrap();
    list.truncate(1);
    list.reserve(9).unwrap();
    let nothing_left = failure::fail_after(0);
    for value in 0..9 {
        list.push_within_capacity(value).unwrap();
    }
    assert!(!nothing_left.happened());
    assert_eq!(list.as_slice(), [1, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_list_too_long_for_the_address_space_is_out_of_memory() {
    let mut list = List::copy_of(&[7_u64]).unwrap();
    assert_eq!(list.reserve(usize::MAX), Err(OutOfMemory));
    assert_eq!(list.reserve(usize::MAX / 2), Err(OutOfMemory));
    assert_eq!(list.resize(usize::MAX, 0), Err(OutOfMemory));
    assert_eq!(list.as_slice(), [7]);
}

#[test]
fn every_constructor_reports_a_failed_allocation() {
    let bytes = [1_u8; 10];
    assert!(fails_cleanly(|| Buffer::zeroed(1)).is_err());
    assert!(fails_cleanly(|| Buffer::copy_of(&bytes)).is_err());
    assert!(fails_cleanly(|| List::copy_of(&bytes)).is_err());
    assert!(fails_cleanly(|| List::filled(3, 0_u16)).is_err());
    assert!(fails_cleanly(|| List::<u16>::with_capacity(3)).is_err());
    assert!(fails_cleanly(|| Owned::try_new(3)).is_err());
    assert!(fails_cleanly(Map::reserve).is_err());
    assert!(fails_cleanly(|| Buffer::zeroed(0)).is_ok());
}

#[test]
fn a_failure_happens_once_and_ends_with_its_plan() {
    let armed = failure::fail_after(1);
    assert!(Owned::try_new(1).is_ok());
    assert!(!armed.happened());
    assert!(Owned::try_new(2).is_err());
    assert!(armed.happened());
    assert!(Owned::try_new(3).is_ok());
    drop(armed);
    drop(failure::fail_after(0));
    assert!(Owned::try_new(4).is_ok());
}

#[test]
fn a_replaced_or_removed_value_is_dropped_once() {
    use std::rc::Rc;
    let value = Rc::new(());
    let mut map = OrderedMap::new();
    for key in 0..4_u8 {
        map.insert(key, Rc::clone(&value)).unwrap();
    }
    drop(map.insert(0, Rc::clone(&value)).unwrap());
    drop(map.remove(1));
    assert_eq!(Rc::strong_count(&value), 4);
    map.clear();
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn owned_gives_its_value_back() {
    let mut owned = Owned::try_new(String::from("a")).unwrap();
    owned.push('b');
    assert_eq!(owned.len(), 2);
    assert_eq!(owned.into_inner(), "ab");
}
