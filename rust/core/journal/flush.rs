// SPDX-License-Identifier: GPL-2.0

//! Which device flush covers what (design: the two flush rules).
//!
//! Flushes are numbered in the order of their starts. A flush covers a write only if it *started* after the write had
//! completed. So whoever sees a write complete notes the number of the last flush that had started by then, its
//! *mark*; the write is known durable as soon as a flush with a higher number has completed.
//!
//! A flush is a flush bio, or the pre-flush of a record's bio: started when submitted, completed when the bio is.

use crate::units::FlushNo;

/// The number of the last flush that had started when something completed.
pub type FlushMark = FlushNo;

/// The clock of flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushClock {
    started: FlushNo,
    completed: FlushNo,
}

impl FlushClock {
    /// A flush is about to be submitted: its number.
    pub fn start(&mut self) -> FlushNo {
        self.started = self.started.next();
        self.started
    }

    /// The flush with this number has completed without error.
    pub fn complete(&mut self, flush: FlushNo) {
        self.completed = self.completed.max(flush);
    }

    /// The mark of what completes now.
    pub const fn mark(&self) -> FlushMark {
        self.started
    }

    /// Whether what completed at `mark` is durable.
    pub fn covers(&self, mark: FlushMark) -> bool {
        self.completed > mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_that_was_under_way_covers_nothing_that_completed_meanwhile() {
        let mut clock = FlushClock::default();
        let early = clock.start();
        let mark = clock.mark();
        clock.complete(early);
        assert!(!clock.covers(mark), "the flush had started before the write completed");
        let late = clock.start();
        assert!(!clock.covers(mark), "not before it has completed");
        clock.complete(late);
        assert!(clock.covers(mark));
        clock.complete(early);
        assert!(clock.covers(mark), "a late completion of an early flush takes nothing back");
    }
}
