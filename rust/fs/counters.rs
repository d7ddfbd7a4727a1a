// SPDX-License-Identifier: GPL-2.0

//! What has been done since the mount, counted.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts `more`.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a mount.
#[derive(Default)]
pub(crate) struct Counters {
    /// Handles, whether they closed or were dropped.
    pub(crate) handles: Counter,
    /// Commits that wrote records.
    pub(crate) commits: Counter,
    /// Bytes of records written.
    pub(crate) journal_bytes: Counter,
    /// Flushes of the device, those of records' bios not counted.
    pub(crate) flushes: Counter,
    /// Checkpoints.
    pub(crate) checkpoints: Counter,
    /// Metadata blocks written home.
    pub(crate) home_blocks: Counter,
    /// Times that a handle had to wait for room in the ring.
    pub(crate) room_waits: Counter,
    /// Steps in the removal of orphans.
    pub(crate) orphan_steps: Counter,
}
