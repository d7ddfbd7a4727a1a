// SPDX-License-Identifier: GPL-2.0

//! Which bits of a bitmap block must be logged, and what they were.
//!
//! Three masks of a block's size: bits changed since the last home write began, bits changed before the home write under way, and
//! bits that differ from what the last commit logged. A commit logs the first two with present values, and with the third says
//! what they were before: for the reader, and for replay, which compares it with what it has applied itself.

use crate::error::Result;
use crate::format::item::{BitRun, BITMAP_RUNS_MAX};
use crate::memory::{Buffer, Owned};
use crate::units::BLOCK_BYTES;

/// The masks of one bitmap block.
#[derive(Debug)]
pub struct BitMasks {
    changed: Buffer,
    in_flight: Buffer,
    flipped: Buffer,
    runs_bound: usize,
}

const BITS: usize = BLOCK_BYTES * 8;

fn mask_of(from: usize, to: usize, byte: usize) -> u8 {
    let first = byte.saturating_mul(8);
    let low = from.saturating_sub(first).min(8);
    let high = to.saturating_sub(first).min(8);
    // Bits low..high of this byte: both at most 8, so the shifts stay in 16 bits.
    let below = |bits: usize| (1u16 << bits).wrapping_sub(1) as u8;
    below(high) & !below(low)
}

impl BitMasks {
    /// No bit.
    pub fn try_new() -> Result<Owned<Self>> {
        let (changed, in_flight) = (Buffer::zeroed(BLOCK_BYTES)?, Buffer::zeroed(BLOCK_BYTES)?);
        let flipped = Buffer::zeroed(BLOCK_BYTES)?;
        Ok(Owned::try_new(Self { changed, in_flight, flipped, runs_bound: 0 })?)
    }

    /// Bits `start..start + bits`, which all had one value, have all got the other.
    pub fn flip(&mut self, start: u32, bits: u32) {
        let (from, to) = (start as usize, (start as usize).saturating_add(bits as usize).min(BITS));
        // The range may cut a run in two and is one itself.
        self.runs_bound = self.runs_bound.saturating_add(2);
        for byte in (from / 8)..to.div_ceil(8) {
            let mask = mask_of(from, to, byte);
            if let (Some(changed), Some(flipped)) = (self.changed.get_mut(byte), self.flipped.get_mut(byte)) {
                *changed |= mask;
                *flipped ^= mask;
            }
        }
    }

    /// The most runs that there can be, found without looking: what accounting uses when a handle closes.
    pub const fn runs_bound(&self) -> usize {
        self.runs_bound
    }

    /// Whether nothing has to be logged.
    pub fn is_empty(&self) -> bool {
        self.changed.iter().chain(self.in_flight.iter()).all(|byte| *byte == 0)
    }

    /// Whether nothing has changed since the home write began.
    pub fn nothing_changed(&self) -> bool {
        self.changed.iter().all(|byte| *byte == 0)
    }

    /// A home write begins: what has changed is in flight.
    pub fn home_write_begins(&mut self) {
        core::mem::swap(&mut self.changed, &mut self.in_flight);
        self.changed.fill(0);
    }

    /// The home write is durable: what was in flight need not be logged any more.
    pub fn home_write_ends(&mut self) {
        self.in_flight.fill(0);
        if self.nothing_changed() {
            self.runs_bound = 0;
        }
    }

    /// The home write failed: what was in flight is as if it had just changed.
    pub fn home_write_failed(&mut self) {
        for (changed, in_flight) in self.changed.iter_mut().zip(self.in_flight.iter_mut()) {
            *changed |= *in_flight;
            *in_flight = 0;
        }
    }

    /// The commit has logged it: from now on "before" means now.
    pub fn logged(&mut self) {
        self.flipped.fill(0);
    }

    fn triple(&self, bits: &[u8], bit: usize) -> Option<(bool, bool)> {
        let (byte, mask) = (bit / 8, 1u8 << (bit % 8));
        let logged = self.changed.get(byte)? | self.in_flight.get(byte)?;
        if logged & mask == 0 {
            return None;
        }
        let value = bits.get(byte)? & mask != 0;
        let flipped = self.flipped.get(byte)? & mask != 0;
        Some((value, value != flipped))
    }

    /// The runs to be logged, in ascending order.
    pub fn runs<'a>(&'a self, bits: &'a [u8]) -> Runs<'a> {
        Runs { masks: self, bits, next: 0 }
    }

    /// How many runs there are, as far as it matters: no more than one above the largest number that is logged as runs.
    pub fn count_runs(&self, bits: &[u8]) -> usize {
        self.runs(bits).take(BITMAP_RUNS_MAX.saturating_add(1)).count()
    }
}

/// Iterator over [`BitMasks::runs`].
pub struct Runs<'a> {
    masks: &'a BitMasks,
    bits: &'a [u8],
    next: usize,
}

impl Runs<'_> {
    /// The first bit at or behind `from` that has to be logged: skips bytes without any.
    fn next_logged(&self, from: usize) -> Option<usize> {
        let mut bit = from;
        while bit < BITS {
            let byte = bit / 8;
            let logged = self.masks.changed.get(byte)? | self.masks.in_flight.get(byte)?;
            if logged >> (bit % 8) == 0 {
                bit = byte.saturating_add(1).saturating_mul(8);
            } else if logged & (1 << (bit % 8)) != 0 {
                return Some(bit);
            } else {
                bit = bit.saturating_add(1);
            }
        }
        None
    }
}

impl Iterator for Runs<'_> {
    type Item = BitRun;

    fn next(&mut self) -> Option<BitRun> {
        let start = self.next_logged(self.next)?;
        let (value, before) = self.masks.triple(self.bits, start)?;
        let mut end = start.saturating_add(1);
        while end < BITS && self.masks.triple(self.bits, end) == Some((value, before)) {
            end = end.saturating_add(1);
        }
        self.next = end;
        Some(BitRun { start: start as u32, bits: end.saturating_sub(start) as u32, value, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Flip(u32, u32),
        Commit,
        Begin,
        End,
        Fail,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0u32..400, 1u32..40).prop_map(|(start, bits)| Step::Flip(start, bits)),
            2 => Just(Step::Commit),
            1 => Just(Step::Begin),
            1 => Just(Step::End),
            1 => Just(Step::Fail),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn runs_say_what_changed_and_what_it_was(steps in steps()) {
            let mut masks = BitMasks::try_new().unwrap();
            let mut bits = vec![0u8; BLOCK_BYTES];
            let (mut changed, mut in_flight) = (vec![false; BITS], vec![false; BITS]);
            let mut at_commit = vec![false; BITS];
            let mut now = vec![false; BITS];
            for step in steps {
                match step {
                    Step::Flip(start, count) => {
                        let range = start as usize..(start + count) as usize;
                        if now[range.clone()].iter().any(|bit| *bit != now[range.start]) {
                            continue;
                        }
                        masks.flip(start, count);
                        for bit in start as usize..(start + count) as usize {
                            now[bit] = !now[bit];
                            changed[bit] = true;
                            bits[bit / 8] ^= 1 << (bit % 8);
                        }
                    }
                    Step::Commit => {
                        masks.logged();
                        at_commit.clone_from(&now);
                    }
                    Step::Begin => {
                        if in_flight.iter().any(|bit| *bit) {
                            continue;
                        }
                        masks.home_write_begins();
                        in_flight = core::mem::replace(&mut changed, vec![false; BITS]);
                    }
                    Step::End => {
                        masks.home_write_ends();
                        in_flight.fill(false);
                    }
                    Step::Fail => {
                        masks.home_write_failed();
                        for (bit, was) in in_flight.iter_mut().enumerate() {
                            changed[bit] |= *was;
                            *was = false;
                        }
                    }
                }
                let mut covered = vec![false; BITS];
                prop_assert!(masks.runs(&bits).count() <= masks.runs_bound());
                for run in masks.runs(&bits) {
                    for bit in run.start as usize..(run.start + run.bits) as usize {
                        prop_assert!(!covered[bit]);
                        covered[bit] = true;
                        prop_assert_eq!(run.value, now[bit]);
                        prop_assert_eq!(run.before, at_commit[bit]);
                    }
                }
                for bit in 0..BITS {
                    prop_assert_eq!(covered[bit], changed[bit] || in_flight[bit], "bit {}", bit);
                }
            }
        }
    }
}
