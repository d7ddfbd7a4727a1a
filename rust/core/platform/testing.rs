// SPDX-License-Identifier: GPL-2.0

//! A machine for tests: no randomness, no clock, and a checksum that is fast where the true one would be slow.

use super::Platform;

/// The machine.
pub(crate) struct TestPlatform;

impl Platform for TestPlatform {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(!crc, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    fn now_ns(&self) -> u64 {
        1
    }

    fn random(&self, out: &mut [u8]) {
        out.fill(7);
    }
}
