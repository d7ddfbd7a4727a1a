//! The volatile cache: what the guest reads back although no flush has made it durable.
//!
//! It is a view, not a store of its own: the pending entries of the log decide what a power cut
//! can lose, and this map only answers reads with the newest of them.

use std::io;

use crate::epoch_log::{Change, EpochLog};
use crate::extent_map::{Content, ExtentMap};
use crate::image::Image;
use crate::units::SectorRange;

/// The newest pending content of each sector.
#[derive(Debug, Default)]
pub struct VolatileCache {
    newest: ExtentMap<Content>,
    bytes: u64,
}

impl VolatileCache {
    /// Takes a change in.
    pub fn put(&mut self, change: &Change) {
        if matches!(change.content, Content::Bytes { .. }) {
            self.bytes += change.range.length_bytes();
        }
        self.newest.insert(change.range, change.content.clone());
    }

    /// Bytes written since the cache was last empty, overwritten ones included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rebuilds the view after a flush or a cut from what the log still holds as pending.
    pub fn rebuild(&mut self, log: &EpochLog) {
        *self = Self::default();
        for change in log.pending_changes() {
            self.put(change);
        }
    }

    /// Reads as the guest does: the cache first, the medium below it.
    pub fn read(&self, medium: &Image, range: SectorRange, buffer: &mut [u8]) -> io::Result<()> {
        medium.read_under(&self.newest, range, buffer)
    }
}
