// SPDX-License-Identifier: GPL-2.0

//! What core asks of the machine it runs on: checksums, the clock, random bytes.
//!
//! The module answers with the kernel's `crc32c()`, clock and entropy; the tools with the crc32c crate and the
//! standard library; tests with a bitwise CRC, which is the oracle of both, a clock that they set, and seeded bytes.

/// The machine.
pub trait Platform {
    /// Continues a CRC-32C (Castagnoli, reflected, initial value and final complement applied: the CRC of
    /// "123456789" is 0xE306_9283). `crc` is 0 to begin, or what an earlier call returned.
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32;

    /// Nanoseconds since 1970-01-01 00:00 UTC.
    fn now_ns(&self) -> u64;

    /// Fills `out` with random bytes.
    fn random(&self, out: &mut [u8]);
}

/// CRC-32C by the definition, bit by bit: slow, obviously right, the oracle of the fast ones.
pub fn crc32c_bitwise(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REFLECTED: u32 = 0x82F6_3B78;
    let mut state = !crc;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = state & 1;
            state >>= 1;
            if carry != 0 {
                state ^= POLYNOMIAL_REFLECTED;
            }
        }
    }
    !state
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_polynomial() {
        assert_eq!(crc32c_bitwise(0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn continues_where_it_stopped() {
        let whole = crc32c_bitwise(0, b"a circular journal");
        assert_eq!(crc32c_bitwise(crc32c_bitwise(0, b"a circ"), b"ular journal"), whole);
    }
}
