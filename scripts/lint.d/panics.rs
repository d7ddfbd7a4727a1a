// SPDX-License-Identifier: GPL-2.0

//! One function for each way to panic that core and fs could fall into, and one too large for the stack.
//!
//! Not part of anything: the linter compiles it with the flags of core and fails unless it reports every `panic_by_*`
//! function as one that can panic, none of the `returns_*` ones, and the frame of `large_frame`.

#![allow(missing_docs, unconditional_panic, arithmetic_overflow)]

use core::cell::RefCell;

#[no_mangle]
pub fn panic_by_index(values: &[u32], index: usize) -> u32 {
    values[index]
}

#[no_mangle]
pub fn panic_by_slice_range(values: &[u8], start: usize, end: usize) -> &[u8] {
    &values[start..end]
}

#[no_mangle]
pub fn panic_by_slice_end(values: &[u8], end: usize) -> &[u8] {
    &values[..end]
}

#[no_mangle]
pub fn panic_by_text_boundary(text: &str, start: usize) -> &str {
    &text[start..]
}

#[no_mangle]
pub fn panic_by_option_unwrap(value: Option<u32>) -> u32 {
    value.unwrap()
}

#[no_mangle]
pub fn panic_by_option_expect(value: Option<u32>) -> u32 {
    value.expect("a value")
}

#[no_mangle]
pub fn panic_by_result_unwrap(value: Result<u32, u8>) -> u32 {
    value.unwrap()
}

#[no_mangle]
pub fn panic_by_result_expect(value: Result<u32, u8>) -> u32 {
    value.expect("a value")
}

#[no_mangle]
pub fn panic_by_add_overflow(a: u64, b: u64) -> u64 {
    a + b
}

#[no_mangle]
pub fn panic_by_subtract_overflow(a: u64, b: u64) -> u64 {
    a - b
}

#[no_mangle]
pub fn panic_by_multiply_overflow(a: u64, b: u64) -> u64 {
    a * b
}

#[no_mangle]
pub fn panic_by_negate_overflow(a: i64) -> i64 {
    -a
}

#[no_mangle]
pub fn panic_by_shift_left_overflow(a: u64, bits: u32) -> u64 {
    a << bits
}

#[no_mangle]
pub fn panic_by_shift_right_overflow(a: u64, bits: u32) -> u64 {
    a >> bits
}

#[no_mangle]
pub fn panic_by_division_by_zero(a: u64, b: u64) -> u64 {
    a / b
}

#[no_mangle]
pub fn panic_by_remainder_by_zero(a: u64, b: u64) -> u64 {
    a % b
}

#[no_mangle]
pub fn panic_by_division_overflow(a: i64) -> i64 {
    i64::MIN / a
}

#[no_mangle]
pub fn panic_by_power_overflow(a: u64, exponent: u32) -> u64 {
    a.pow(exponent)
}

#[no_mangle]
pub fn panic_by_logarithm_of_zero(a: u64) -> u32 {
    a.ilog2()
}

#[no_mangle]
pub fn panic_by_multiple_of_zero(a: u64, b: u64) -> u64 {
    a.next_multiple_of(b)
}

#[no_mangle]
pub fn panic_by_shared_borrow(cell: &RefCell<u32>) -> u32 {
    *cell.borrow()
}

#[no_mangle]
pub fn panic_by_mutable_borrow(cell: &RefCell<u32>) {
    *cell.borrow_mut() = 1;
}

#[no_mangle]
pub fn panic_by_copy_of_other_length(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
}

#[no_mangle]
pub fn panic_by_copy_within(bytes: &mut [u8], to: usize) {
    bytes.copy_within(4.., to);
}

#[no_mangle]
pub fn panic_by_split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at)
}

#[no_mangle]
pub fn panic_by_swap(values: &mut [u32], a: usize, b: usize) {
    values.swap(a, b);
}

#[no_mangle]
pub fn panic_by_rotation(values: &mut [u32], by: usize) {
    values.rotate_left(by);
}

#[no_mangle]
pub fn panic_by_chunks_of_zero(bytes: &[u8], chunk_bytes: usize) -> usize {
    bytes.chunks(chunk_bytes).count()
}

#[no_mangle]
pub fn panic_by_array_of_other_length(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().unwrap()
}

#[no_mangle]
pub fn panic_by_step_of_zero(end: usize, step: usize) -> usize {
    (0..end).step_by(step).count()
}

#[no_mangle]
pub fn panic_by_clamp_to_nothing(value: u32, least: u32, most: u32) -> u32 {
    value.clamp(least, most)
}

#[no_mangle]
pub fn panic_by_sort(values: &mut [u64]) {
    values.sort_unstable();
}

#[no_mangle]
pub fn panic_by_assertion(value: u32) {
    assert!(value > 1);
}

#[no_mangle]
pub fn panic_by_assertion_with_words(value: u32) {
    assert!(value > 1, "value is {value}");
}

#[no_mangle]
pub fn panic_by_assertion_of_equality(a: u32, b: u32) {
    assert_eq!(a, b);
}

#[no_mangle]
pub fn panic_by_unreachable(value: u32) -> u32 {
    match value {
        0 => 1,
        _ => unreachable!(),
    }
}

#[no_mangle]
pub fn panic_by_unreachable_with_words(value: u32) -> u32 {
    match value {
        0 => 1,
        _ => unreachable!("value is {value}"),
    }
}

#[no_mangle]
pub fn panic_by_panic(value: u32) {
    if value > 1 {
        panic!();
    }
}

#[no_mangle]
pub fn panic_by_panic_with_words(value: u32) {
    if value > 1 {
        panic!("value is {value}");
    }
}

#[no_mangle]
pub fn returns_checked_sum(a: u64, b: u64) -> Option<u64> {
    a.checked_add(b)
}

#[no_mangle]
pub fn returns_checked_slice(values: &[u8], start: usize, end: usize) -> Option<&[u8]> {
    values.get(start..end)
}

#[no_mangle]
pub fn returns_sum_that_cannot_overflow(a: u32, b: u32) -> u64 {
    u64::from(a) + u64::from(b)
}

#[no_mangle]
pub fn large_frame(seed: u8, fill: fn(&mut [u8; 2048])) -> u8 {
    let mut bytes = [seed; 2048];
    fill(&mut bytes);
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}
