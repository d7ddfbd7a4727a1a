//! Prices: how long the disk takes, so that a benchmark can compare filesystems by what they ask
//! of a disk of known speed.
//!
//! The disk has one queue: a request starts when the one before it is done. A forced write costs
//! what a write and a flush cost, because that is what it makes the disk do.

use std::time::{Duration, Instant};

use serde::Serialize;

/// The last stretch of a wait is spent yielding: a sleep ends tens of microseconds late.
const YIELD_BELOW: Duration = Duration::from_micros(120);

/// The price list, in nanoseconds. All zero means: as fast as the host can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Prices {
    /// Each write, write-zeroes or forced write.
    pub write_ns: u64,
    /// Each KiB of data written, started ones counted in proportion.
    pub kib_ns: u64,
    /// Each flush, and each forced write on top of its price as a write.
    pub flush_ns: u64,
    /// Each read.
    pub read_ns: u64,
}

impl Prices {
    /// The price of a write that carries so many bytes.
    pub fn of_write(&self, data_bytes: u64, forced: bool) -> u64 {
        let flush_ns = if forced { self.flush_ns } else { 0 };
        let data_ns = (u128::from(self.kib_ns) * u128::from(data_bytes)) >> 10;
        let data_ns = u64::try_from(data_ns).unwrap_or(u64::MAX);
        self.write_ns.saturating_add(data_ns).saturating_add(flush_ns)
    }
}

/// The one queue of a disk.
#[derive(Debug, Default)]
pub struct Queue {
    free_at: Option<Instant>,
}

impl Queue {
    /// Takes as long as the price says, from now or from the end of the request before.
    pub fn charge(&mut self, price_ns: u64) {
        if price_ns == 0 {
            return;
        }
        let now = Instant::now();
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));
        let end = start + Duration::from_nanos(price_ns);
        self.free_at = Some(end);
        wait_until(end);
    }
}

fn wait_until(end: Instant) {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > YIELD_BELOW {
            std::thread::sleep(left - YIELD_BELOW);
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_write_costs_a_write_and_a_flush() {
        let prices = Prices { write_ns: 100, kib_ns: 8, flush_ns: 5_000, read_ns: 0 };
        assert_eq!(prices.of_write(4096, false), 100 + 4 * 8);
        assert_eq!(prices.of_write(512, true), 100 + 4 + 5_000);
        assert_eq!(Prices { kib_ns: u64::MAX, ..prices }.of_write(1 << 30, true), u64::MAX);
    }

    #[test]
    fn requests_are_charged_one_after_the_other() {
        let mut queue = Queue::default();
        let start = Instant::now();
        for _ in 0..10 {
            queue.charge(2_000_000);
        }
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
