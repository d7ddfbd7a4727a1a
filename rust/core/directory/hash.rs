// SPDX-License-Identifier: GPL-2.0

//! From names to keys: SipHash-2-4, keyed per filesystem, so that nobody can choose names that collide.
//!
//! The function is Aumasson's and Bernstein's ("SipHash: a fast short-input PRF", 2012). The 64-bit result becomes a
//! key by clearing its top bit; a key below [`KEY_FIRST`] then becomes `KEY_FIRST`, one above [`HASH_LAST`] becomes
//! `HASH_LAST`. This is part of the format.

use crate::format::directory::{HASH_LAST, KEY_FIRST, KEY_WINDOW};
use crate::units::DirectoryKey;

/// The filesystem's secret. Its first eight bytes, little endian, are SipHash's k0, the others k1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("HashKey(secret)")
    }
}

/// The first key of the window in which `name` is looked for.
pub fn hash(hash_key: &HashKey, name: &[u8]) -> DirectoryKey {
    let key = siphash_2_4(hash_key, name) & (u64::MAX >> 1);
    DirectoryKey(key.clamp(KEY_FIRST.0, HASH_LAST.0))
}

/// Whether an entry of this name may have this key. What does not is never found, so that checks ask.
pub fn is_in_window(hash_key: &HashKey, name: &[u8], key: DirectoryKey) -> bool {
    key.checked_distance_from(hash(hash_key, name)).is_some_and(|distance| distance < KEY_WINDOW)
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    fn new(hash_key: &HashKey) -> Self {
        let key = u128::from_le_bytes(hash_key.0);
        let (k0, k1) = (key as u64, (key >> 64) as u64);
        // The constants are "somepseudorandomlygeneratedbytes", as the authors chose them.
        Self {
            v0: k0 ^ u64::from_be_bytes(*b"somepseu"),
            v1: k1 ^ u64::from_be_bytes(*b"dorandom"),
            v2: k0 ^ u64::from_be_bytes(*b"lygenera"),
            v3: k1 ^ u64::from_be_bytes(*b"tedbytes"),
        }
    }

    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32).wrapping_add(self.v3);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }
}

fn siphash_2_4(hash_key: &HashKey, bytes: &[u8]) -> u64 {
    let mut state = State::new(hash_key);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    last[7] = bytes.len() as u8;
    state.absorb(u64::from_le_bytes(last));
    state.v2 ^= 0xFF;
    for _ in 0..4 {
        state.round();
    }
    state.v0 ^ state.v1 ^ state.v2 ^ state.v3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::Hasher;

    /// The authors' test: key 00 01 .. 0f, messages of 0, 1, 2 .. 15 bytes 00 01 ..; the last is the paper's example.
    #[test]
    fn agrees_with_the_published_vectors() {
        const EXPECTED: [u64; 16] = [
            0x726f_db47_dd0e_0e31,
            0x74f8_39c5_93dc_67fd,
            0x0d6c_8009_d9a9_4f5a,
            0x8567_6696_d7fb_7e2d,
            0xcf27_94e0_2771_87b7,
            0x1876_5564_cd99_a68d,
            0xcbc9_466e_58fe_e3ce,
            0xab02_00f5_8b01_d137,
            0x93f5_f579_9a93_2462,
            0x9e00_82df_0ba9_e4b0,
            0x7a5d_bbc5_94dd_b9f3,
            0xf4b3_2f46_226b_ada7,
            0x751e_8fbc_860e_e5fb,
            0x14ea_5627_c084_3d90,
            0xf723_ca90_8e7a_f2ee,
            0xa129_ca61_49be_45e5,
        ];
        let key = HashKey(core::array::from_fn(|index| index as u8));
        let message: [u8; 16] = core::array::from_fn(|index| index as u8);
        for (len, expected) in EXPECTED.iter().enumerate() {
            assert_eq!(siphash_2_4(&key, &message[..len]), *expected, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        #[expect(deprecated, reason = "the standard library's SipHash-2-4 is the oracle here, not a hash in use")]
        fn agrees_with_another_implementation(key: [u8; 16], name in prop::collection::vec(any::<u8>(), 0..256)) {
            let k0 = u64::from_le_bytes(key[..8].try_into().unwrap());
            let k1 = u64::from_le_bytes(key[8..].try_into().unwrap());
            let mut oracle = std::hash::SipHasher::new_with_keys(k0, k1);
            oracle.write(&name);
            prop_assert_eq!(siphash_2_4(&HashKey(key), &name), oracle.finish());
            let start = hash(&HashKey(key), &name);
            prop_assert!(start >= KEY_FIRST && start <= HASH_LAST);
            prop_assert!(is_in_window(&HashKey(key), &name, DirectoryKey(start.0 + KEY_WINDOW - 1)));
            prop_assert!(!is_in_window(&HashKey(key), &name, DirectoryKey(start.0 + KEY_WINDOW)));
            prop_assert!(!is_in_window(&HashKey(key), &name, DirectoryKey(start.0 - 1)));
        }
    }
}
