// SPDX-License-Identifier: GPL-2.0

//! Property tests: the words against a vector of booleans, bit by bit; and the content of implied bitmaps.

use super::*;
use crate::error::{Corruption, Error};
use crate::units::BlockNo;
use proptest::prelude::*;

/// Bits of the bitmaps in the property tests: several words.
const BITS: u32 = 320;

#[derive(Debug, Clone)]
enum Step {
    Set(u32, u32),
    Clear(u32, u32),
}

/// Ranges that begin and end anywhere, also behind the bitmap's end, and often at the ends of words.
fn range() -> impl Strategy<Value = (u32, u32)> {
    let place = || prop_oneof![0..BITS + 70, (0..7_u32).prop_map(|word| word * 64), Just(u32::MAX)];
    (place(), prop_oneof![0..140_u32, Just(64), Just(BITS), Just(u32::MAX)])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), range()).prop_map(|(set, (start, bits))| {
        if set {
            Step::Set(start, bits)
        } else {
            Step::Clear(start, bits)
        }
    });
    prop::collection::vec(step, 0..12)
}

/// The bits of a range that lie in the bitmap.
fn inside(start: u32, bits: u32) -> std::ops::Range<usize> {
    let end = start.saturating_add(bits).min(BITS);
    start.min(end) as usize..end as usize
}

/// Writes `value` and returns how many bits of the range were not changed by that.
fn write(model: &mut [bool], start: u32, bits: u32, value: bool) -> u32 {
    let mut changed = 0;
    for bit in &mut model[inside(start, bits)] {
        changed += u32::from(*bit != value);
        *bit = value;
    }
    bits - changed
}

fn built(steps: &[Step]) -> (Vec<u8>, Vec<bool>) {
    let (mut bytes, mut model) = (vec![0; BITS as usize / 8], vec![false; BITS as usize]);
    for step in steps {
        match *step {
            Step::Set(start, bits) => {
                assert_eq!(set_range(&mut bytes, start, bits), write(&mut model, start, bits, true));
            }
            Step::Clear(start, bits) => {
                assert_eq!(clear_range(&mut bytes, start, bits), write(&mut model, start, bits, false));
            }
        }
    }
    (bytes, model)
}

fn model_at(model: &[bool], bit: u32) -> bool {
    model.get(bit as usize).copied().unwrap_or(true)
}

fn model_find(model: &[bool], from: u32, value: bool) -> Option<u32> {
    (from..BITS).find(|bit| model_at(model, *bit) == value)
}

proptest! {
    #[test]
    fn words_are_a_vector_of_booleans(
        steps in steps(),
        (start, bits) in range(),
    ) {
        let (bytes, model) = built(&steps);
        for bit in 0..BITS + 130 {
            prop_assert_eq!(test(&bytes, bit), model_at(&model, bit));
        }
        let set_inside = model[inside(start, bits)].iter().filter(|bit| **bit).count() as u32;
        let outside = bits - inside(start, bits).len() as u32;
        prop_assert_eq!(count_ones(&bytes, start, bits), set_inside + outside);
        prop_assert_eq!(all_clear(&bytes, start, bits), set_inside + outside == 0);
        prop_assert_eq!(next_set(&bytes, start), model_find(&model, start, true));
        prop_assert_eq!(next_clear(&bytes, start), model_find(&model, start, false));

        let mut by_runs = vec![true; BITS as usize];
        let mut previous_end = None;
        for (first, length) in clear_runs(&bytes) {
            prop_assert!(length > 0 && previous_end.is_none_or(|end| first > end), "runs touch or are out of order");
            by_runs[first as usize..(first + length) as usize].fill(false);
            previous_end = Some(first + length);
        }
        prop_assert_eq!(by_runs, model);
    }
}

#[test]
fn bits_are_little_endian() {
    let mut bytes = [0; 16];
    assert_eq!(set_range(&mut bytes, 9, 1), 0);
    assert_eq!(set_range(&mut bytes, 127, 1), 0);
    assert_eq!(bytes, [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(clear_range(&mut bytes, 8, 2), 1);
}

/// Three groups, each with more than one bitmap block of either kind, the last one short.
fn geometry() -> Geometry {
    let group_blocks = 2 * BITMAP_BITS;
    Geometry {
        filesystem_id: 1,
        device_blocks: 100 + 2 * u64::from(group_blocks) + 40_000,
        first_group_block: BlockNo(100),
        group_blocks,
        group_count: 3,
        inodes_per_group: 40_000,
        journal_start: BlockNo(2),
        journal_blocks: 98,
        physical_block_bytes: 512,
    }
}

#[test]
fn implied_bitmaps_use_metadata_reserved_inodes_and_what_is_behind_the_end() {
    let geometry = geometry();
    let metadata = geometry.metadata_blocks();
    for group in (0..3).map(GroupNo) {
        for kind in [BitmapKind::Blocks, BitmapKind::Inodes] {
            for index in 0..2 {
                let mut bytes = [0x5A; BLOCK_BYTES];
                let free = implied(&mut bytes, &geometry, group, kind, index);
                let is_free = |bit: u32| {
                    let number = index * BITMAP_BITS + bit;
                    match kind {
                        BitmapKind::Blocks => number >= metadata && number < geometry.blocks_of(group),
                        BitmapKind::Inodes => number < 40_000 && (group.0 > 0 || number >= 16),
                    }
                };
                for bit in 0..BITMAP_BITS {
                    assert_eq!(test(&bytes, bit), !is_free(bit), "{group} {kind:?} {index} {bit}");
                }
                assert_eq!(free, (0..BITMAP_BITS).filter(|bit| is_free(*bit)).count() as u32);
                assert_eq!(verify(&bytes, &geometry, group, kind, index), Ok(free));
            }
        }
    }
}

#[test]
fn verify_names_the_block_in_which_a_bit_is_clear_that_never_is() {
    let geometry = geometry();
    let metadata = geometry.metadata_blocks();
    let cases = [
        (GroupNo(1), BitmapKind::Blocks, 0, 0),
        (GroupNo(1), BitmapKind::Blocks, 0, metadata - 1),
        (GroupNo(2), BitmapKind::Blocks, 1, 40_000 - BITMAP_BITS),
        (GroupNo(2), BitmapKind::Blocks, 1, BITMAP_BITS - 1),
        (GroupNo(0), BitmapKind::Inodes, 0, 15),
        (GroupNo(1), BitmapKind::Inodes, 1, 40_000 - BITMAP_BITS),
    ];
    for (group, kind, index, bit) in cases {
        let mut bytes = [0; BLOCK_BYTES];
        let free = implied(&mut bytes, &geometry, group, kind, index);
        assert_eq!(clear_range(&mut bytes, bit, 1), 0);
        let failure = verify(&bytes, &geometry, group, kind, index);
        let block = geometry.bitmap_of(group, kind, index);
        assert!(
            matches!(failure, Err(Error::Corrupt(Corruption { check: Check::Bitmap, block: at, .. })) if at == block),
            "{group} {kind:?} {index} {bit}: {failure:?}"
        );
        assert_eq!(set_range(&mut bytes, bit, 1), 0);
        assert_eq!(verify(&bytes, &geometry, group, kind, index), Ok(free));
        assert!(verify(&bytes[1..], &geometry, group, kind, index).is_err());
    }
}
