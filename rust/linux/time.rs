// SPDX-License-Identifier: GPL-2.0

//! `struct timespec64`: a point in time (include/linux/time64.h).

use cairnfs_bindings as bindings;
use kernel::ffi::c_long;

const NANOSECONDS: i64 = 1_000_000_000;

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970; negative before.
    pub(crate) seconds: i64,
    /// Nanoseconds on top, less than a second.
    pub(crate) nanoseconds: c_long,
}

impl Time {
    /// The earliest that [`Time::from_ns`] can give, in seconds.
    pub const MIN_SECONDS: i64 = i64::MIN.div_euclid(NANOSECONDS) + 1;
    /// The latest, in seconds.
    pub const MAX_SECONDS: i64 = i64::MAX.div_euclid(NANOSECONDS) - 1;

    /// A time in nanoseconds since 1970.
    pub const fn from_ns(ns: i64) -> Self {
        Self { seconds: ns.div_euclid(NANOSECONDS), nanoseconds: ns.rem_euclid(NANOSECONDS) as c_long }
    }

    /// Nanoseconds since 1970; what does not fit is the nearest that does.
    pub const fn to_ns(self) -> i64 {
        self.seconds.saturating_mul(NANOSECONDS).saturating_add(self.nanoseconds as i64)
    }

    pub(crate) const fn from_timespec(time: bindings::timespec64) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
    }

    pub(crate) const fn timespec(self) -> bindings::timespec64 {
        bindings::timespec64 { tv_sec: self.seconds, tv_nsec: self.nanoseconds }
    }
}
