// SPDX-License-Identifier: GPL-2.0

//! The ring: where the next record goes, what may be overwritten, and who gets space.
//!
//! Offsets are kept as bytes ever written (*absolute*), so that a full ring and an empty one differ; the position in the ring is
//! the remainder. Space is used from the tail that a durable header states, not from the one in memory (I4): recovery begins
//! at the header's tail, so what lies behind it must still be there. Beside what is used, space is promised: to open
//! handles, to the running transaction, and a fixed part to the handles of I/O end and of orphans, who must never queue behind
//! tasks that wait for them.
//!
//! A record that ends exactly at the end of the ring, or a wrap record, moves the head to position 0 and raises the
//! generation by one.

use crate::format::journal::Tail;
use crate::units::{Generation, Position, Sequence};

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    bytes: u64,
    head: u64,
    sequence: Sequence,
    generation: Generation,
    previous_crc: u32,
    durable_tail: u64,
}

/// A place in the ring with all that identifies the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes ever written up to here.
    pub absolute: u64,
    /// How recovery would find it.
    pub tail: Tail,
}

impl Ring {
    /// A ring of `bytes` in which the next record goes to `start` and nothing is needed any more.
    pub const fn new(bytes: u64, start: &Tail) -> Self {
        Self {
            bytes,
            head: start.position.0,
            sequence: start.sequence,
            generation: start.generation,
            previous_crc: start.previous_crc,
            durable_tail: start.position.0,
        }
    }

    /// The tail that a durable header states, as bytes ever written.
    pub const fn durable_tail(&self) -> u64 {
        self.durable_tail
    }

    /// Bytes of the ring.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the next record goes.
    pub fn head(&self) -> Place {
        Place {
            absolute: self.head,
            tail: Tail {
                position: Position(self.head.checked_rem(self.bytes).unwrap_or(0)),
                sequence: self.sequence,
                generation: self.generation,
                previous_crc: self.previous_crc,
            },
        }
    }

    /// Bytes from the head to the end of the ring.
    pub fn contiguous_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.head().tail.position.0)
    }

    /// Bytes between the tail that a durable header states and the head.
    pub const fn used_bytes(&self) -> u64 {
        self.head.saturating_sub(self.durable_tail)
    }

    /// Bytes that may be written.
    pub const fn free_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.used_bytes())
    }

    /// The generation in use.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// A record of `padded_bytes` has been placed at the head.
    pub fn advance(&mut self, padded_bytes: u64) {
        self.head = self.head.saturating_add(padded_bytes);
        self.sequence = self.sequence.next();
        if self.head.checked_rem(self.bytes) == Some(0) {
            self.generation = self.generation.next();
        }
    }

    /// A wrap record has been placed at the head: the rest of the ring is passed over.
    pub fn wrap(&mut self) {
        self.advance(self.contiguous_bytes());
    }

    /// The CRC of the newest record.
    pub fn set_previous_crc(&mut self, crc: u32) {
        self.previous_crc = crc;
    }

    /// A durable header states this tail.
    pub fn header_is_durable(&mut self, tail: u64) {
        self.durable_tail = self.durable_tail.max(tail);
    }
}

/// Who asks for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// System calls.
    Normal,
    /// I/O end, orphans, eviction: others may wait for them, so they wait for nobody but the tail.
    Reserved,
}

/// Space promised to one handle.
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Bytes promised.
    pub bytes: u64,
    /// To whom.
    pub class: Class,
}

/// Promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promised {
    /// To open handles.
    pub handles_bytes: u64,
    /// How many handles are open.
    pub handles: u64,
    /// What is left of the structure budget.
    pub structure_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(position: u64) -> Tail {
        Tail {
            position: Position(position),
            sequence: Sequence(7),
            generation: Generation(3),
            previous_crc: 9,
        }
    }

    #[test]
    fn full_and_empty_differ() {
        let mut ring = Ring::new(4096, &start(1024));
        assert_eq!((ring.used_bytes(), ring.free_bytes()), (0, 4096));
        ring.advance(3072);
        assert_eq!(ring.head().tail.position, Position(0));
        assert_eq!(ring.generation(), Generation(4), "the end of the ring begins a generation");
        ring.advance(1024);
        assert_eq!((ring.used_bytes(), ring.free_bytes()), (4096, 0));
        assert_eq!(ring.head().tail.sequence, Sequence(9));
        ring.header_is_durable(1024 + 3072);
        assert_eq!(ring.free_bytes(), 3072);
        ring.header_is_durable(1024);
        assert_eq!(ring.free_bytes(), 3072, "the tail never moves back");
    }

    #[test]
    fn wrapping_passes_over_the_rest() {
        let mut ring = Ring::new(4096, &start(3584));
        assert_eq!(ring.contiguous_bytes(), 512);
        ring.wrap();
        assert_eq!(ring.head().tail.position, Position(0));
        assert_eq!((ring.generation(), ring.used_bytes()), (Generation(4), 512));
    }
}
