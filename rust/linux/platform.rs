// SPDX-License-Identifier: GPL-2.0

//! The kernel's checksum, clock and random numbers, as core asks for them.

use cairnfs_bindings as bindings;
use cairnfs_core::platform::Platform;

/// The running kernel.
pub struct Kernel;

/// A clock for measuring, in nanoseconds since some time before.
pub fn monotonic_ns() -> u64 {
    // SAFETY: Reads the clock; there is nothing to uphold.
    unsafe { bindings::cairnfs_helper_ktime_get_ns() }
}

/// `crc32c()` takes its length as an unsigned int, so longer slices go in pieces.
const LONGEST_CRC_PIECE_BYTES: usize = 1 << 30;

impl Platform for Kernel {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        // The kernel's function leaves initial value and final complement to its caller.
        let mut state = !crc;
        for piece in bytes.chunks(LONGEST_CRC_PIECE_BYTES) {
            // SAFETY: The piece is readable for its length, which fits the argument.
            state = unsafe { bindings::crc32c(state, piece.as_ptr().cast(), piece.len() as u32) };
        }
        !state
    }

    /// The clock of VFS' own timestamps, which goes by ticks: with a finer one an inode's times could go back.
    fn now_ns(&self) -> u64 {
        // SAFETY: Reads the clock; there is nothing to uphold.
        unsafe { bindings::cairnfs_helper_ktime_get_coarse_real_ns() }
    }

    fn random(&self, out: &mut [u8]) {
        // SAFETY: The slice is writable for its length.
        unsafe { bindings::get_random_bytes(out.as_mut_ptr().cast(), out.len()) };
    }
}
