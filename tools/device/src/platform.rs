// SPDX-License-Identifier: GPL-2.0

//! The machine for core: the processor's CRC-32C, the system's clock and random bytes.

use cairnfs_core::platform::Platform;
use rustix::rand::{getrandom, GetRandomFlags};
use std::time::{SystemTime, UNIX_EPOCH};

/// User space on this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdPlatform {
    fixed_now_ns: Option<u64>,
}

/// `SOURCE_DATE_EPOCH` is set and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("SOURCE_DATE_EPOCH is {0:?}: it must be seconds since 1970, a decimal number before the year 2262")]
pub struct EpochError(String);

impl StdPlatform {
    /// With the system's clock.
    pub const fn new() -> Self {
        Self { fixed_now_ns: None }
    }

    /// With the time that the environment's `SOURCE_DATE_EPOCH` gives, if it is set: for results that are to be the same
    /// again (<https://reproducible-builds.org/specs/source-date-epoch/>).
    pub fn with_source_date_epoch() -> Result<Self, EpochError> {
        let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else {
            return Ok(Self::new());
        };
        let text = text.to_string_lossy();
        // Inodes keep times as signed nanoseconds.
        let seconds = text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
        match seconds.filter(|ns| i64::try_from(*ns).is_ok()) {
            Some(now_ns) => Ok(Self { fixed_now_ns: Some(now_ns) }),
            None => Err(EpochError(text.into_owned())),
        }
    }
}

impl StdPlatform {
    /// Whether the environment has fixed the time: then results are to be the same again.
    pub const fn is_fixed(&self) -> bool {
        self.fixed_now_ns.is_some()
    }
}

impl Platform for StdPlatform {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc, bytes)
    }

    fn now_ns(&self) -> u64 {
        self.fixed_now_ns.unwrap_or_else(|| {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
        })
    }

    fn random(&self, out: &mut [u8]) {
        let mut filled = 0;
        while filled < out.len() {
            match getrandom(&mut out[filled..], GetRandomFlags::empty()) {
                Ok(bytes) => filled += bytes,
                Err(rustix::io::Errno::INTR) => (),
                // Every kernel since 3.17 has it. Going on with predictable keys would be worse than stopping.
                Err(error) => panic!("getrandom(2): {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnfs_core::platform::crc32c_bitwise;

    #[test]
    fn crc_equals_the_bitwise_one() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| ((n * n) >> 3) as u8).collect();
        for cut in [0, 1, 7, 8, 4096, 5000] {
            let (first, second) = bytes.split_at(cut);
            let platform = StdPlatform::new();
            assert_eq!(
                platform.crc32c(platform.crc32c(0, first), second),
                crc32c_bitwise(0, &bytes),
                "{cut}"
            );
        }
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0_u8; 300], [0_u8; 300]);
        StdPlatform::new().random(&mut a);
        StdPlatform::new().random(&mut b);
        assert_ne!(a, b);
    }
}
