// SPDX-License-Identifier: GPL-2.0

//! The machine for core: a clock that ticks at each look, and seeded bytes, so that a run can be repeated exactly.

use cairnfs_core::platform::Platform;
use cairnfs_device::StdPlatform;
use std::cell::Cell;

/// The machine.
pub struct RepeatablePlatform {
    machine: StdPlatform,
    now_ns: Cell<u64>,
    random: Cell<u64>,
}

impl RepeatablePlatform {
    /// A machine that begins at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { machine: StdPlatform::new(), now_ns: Cell::new(1_000_000_000), random: Cell::new(seed) }
    }
}

impl Platform for RepeatablePlatform {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        self.machine.crc32c(crc, bytes)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.set(self.now_ns.get() + 1000);
        self.now_ns.get()
    }

    fn random(&self, out: &mut [u8]) {
        for byte in out {
            // Knuth's linear congruential generator: any bytes will do.
            let next = self
                .random
                .get()
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            self.random.set(next);
            *byte = (next >> 56) as u8;
        }
    }
}
