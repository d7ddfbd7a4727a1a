// SPDX-License-Identifier: GPL-2.0

//! Sets of the 8-byte words of a block: how the log remembers which parts of a block have changed.
//!
//! 512 words, so 64 bytes whatever has changed: adding to a set, uniting two and taking one back cannot fail for want
//! of memory, which is what makes closing a handle infallible. Logging a few bytes more than have changed is
//! harmless: they are logged with their present values.

use crate::units::BLOCK_BYTES;

/// Bytes of a word.
pub const WORD_BYTES: usize = 8;
/// Words in a block.
pub const WORDS: usize = BLOCK_BYTES / WORD_BYTES;

/// A set of words of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordSet([u64; WORDS / 64]);

impl WordSet {
    /// No word.
    pub const EMPTY: Self = Self([0; WORDS / 64]);

    /// The words in which two blocks differ.
    pub fn difference(a: &[u8], b: &[u8]) -> Self {
        let mut set = Self::EMPTY;
        for (word, (left, right)) in (0..WORDS).zip(a.chunks(WORD_BYTES).zip(b.chunks(WORD_BYTES))) {
            if left != right {
                set.insert(word);
            }
        }
        set
    }

    /// The words of a block that are not all zero.
    pub fn nonzero(bytes: &[u8]) -> Self {
        let mut set = Self::EMPTY;
        for (word, content) in (0..WORDS).zip(bytes.chunks(WORD_BYTES)) {
            if content.iter().any(|byte| *byte != 0) {
                set.insert(word);
            }
        }
        set
    }

    /// Adds a word; a word that no block has is ignored.
    pub fn insert(&mut self, word: usize) {
        if let Some(bits) = self.0.get_mut(word / 64) {
            *bits |= 1 << (word % 64);
        }
    }

    /// Adds the words that hold bytes `offset` to `offset + bytes`.
    pub fn insert_bytes(&mut self, offset: usize, bytes: usize) {
        let end = offset.saturating_add(bytes).div_ceil(WORD_BYTES);
        for word in (offset / WORD_BYTES)..end.min(WORDS) {
            self.insert(word);
        }
    }

    /// Whether the word is in the set.
    pub fn contains(&self, word: usize) -> bool {
        self.0.get(word / 64).is_some_and(|bits| bits & (1 << (word % 64)) != 0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }

    /// Both sets.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = *self;
        for (bits, more) in all.0.iter_mut().zip(other.0) {
            *bits |= more;
        }
        all
    }

    /// The set without `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = *self;
        for (bits, less) in rest.0.iter_mut().zip(other.0) {
            *bits &= !less;
        }
        rest
    }

    /// Runs of neighbouring words, in ascending order, as (first byte, bytes).
    pub fn byte_runs(&self) -> ByteRuns<'_> {
        ByteRuns { set: self, word: 0 }
    }

    /// How many runs there are, and the bytes in all of them.
    pub fn measure(&self) -> (usize, usize) {
        self.byte_runs()
            .fold((0, 0), |(runs, total), (_, bytes)| (runs.saturating_add(1), total.saturating_add(bytes)))
    }
}

/// Iterator over [`WordSet::byte_runs`].
pub struct ByteRuns<'a> {
    set: &'a WordSet,
    word: usize,
}

impl Iterator for ByteRuns<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let start = (self.word..WORDS).find(|word| self.set.contains(*word))?;
        let end = (start..WORDS).find(|word| !self.set.contains(*word)).unwrap_or(WORDS);
        self.word = end;
        Some((start.saturating_mul(WORD_BYTES), end.saturating_sub(start).saturating_mul(WORD_BYTES)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(a in prop::collection::btree_set(0..WORDS, 0..40), b in prop::collection::btree_set(0..WORDS, 0..40)) {
            let of = |words: &BTreeSet<usize>| {
                let mut set = WordSet::EMPTY;
                words.iter().for_each(|word| set.insert(*word));
                set
            };
            let listed = |set: WordSet| (0..WORDS).filter(|word| set.contains(*word)).collect::<BTreeSet<_>>();
            prop_assert_eq!(listed(of(&a).union(&of(&b))), &a | &b);
            prop_assert_eq!(listed(of(&a).without(&of(&b))), &a - &b);
            let mut from_runs = BTreeSet::new();
            let mut previous_end = None;
            for (offset, bytes) in of(&a).byte_runs() {
                prop_assert!(previous_end.is_none_or(|end| offset > end), "runs touch");
                previous_end = Some(offset + bytes);
                from_runs.extend(offset / WORD_BYTES..(offset + bytes) / WORD_BYTES);
            }
            prop_assert_eq!(from_runs, a.clone());
        }

        #[test]
        fn difference_finds_each_changed_byte(at in prop::collection::btree_set(0..BLOCK_BYTES, 0..20)) {
            let old = vec![7u8; BLOCK_BYTES];
            let mut new = old.clone();
            at.iter().for_each(|byte| new[*byte] ^= 1);
            let words: BTreeSet<_> = at.iter().map(|byte| byte / WORD_BYTES).collect();
            let set = WordSet::difference(&old, &new);
            prop_assert_eq!((0..WORDS).filter(|word| set.contains(*word)).collect::<BTreeSet<_>>(), words);
        }
    }
}
