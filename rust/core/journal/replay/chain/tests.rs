// SPDX-License-Identifier: GPL-2.0

//! Unreadable places of the ring, and which later records tell of damage.

use super::*;
use crate::blocks::testing::geometry;
use crate::device::testing::MapDevice;
use crate::format::journal::RECORD_CRC_OFFSET;
use crate::format::layout::put;
use crate::platform::testing::TestPlatform;
use crate::units::TransactionId;

const UUID: [u8; 16] = [5; 16];
const RING: u64 = 4;

/// A ring of which the chain holds record 7, at position 0, and ends behind it.
struct Fixture {
    device: MapDevice,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { device: MapDevice::new(8192) };
        fixture.put(0, 7, 6);
        fixture
    }

    /// Writes a valid record with a payload of 4 KiB at the start of a block of the ring.
    fn put(&self, block: u64, sequence: u64, stable_sequence: u64) {
        let header = RecordHeader {
            magic: RECORD_MAGIC,
            version: RECORD_VERSION,
            flags: RECORD_LAST,
            header_bytes: RecordHeader::SIZE as u16,
            fragment: 0,
            fragments: 1,
            reserved: 0,
            transaction: TransactionId(sequence),
            sequence: Sequence(sequence),
            generation: Generation(3),
            payload_bytes: 4096,
            tail_position: Position(0),
            tail_sequence: Sequence(7),
            stable_sequence: Sequence(stable_sequence),
            timestamp_ns: 0,
            previous_crc: 0,
            crc: 0,
        };
        let mut bytes = vec![0; 2 * BLOCK_BYTES];
        header.encode(&mut bytes, 0).unwrap();
        let seed = record_seed(&TestPlatform, &UUID, header.generation);
        let crc = record_crc(&TestPlatform, seed, &bytes[..RecordHeader::SIZE + 4096]);
        put(&mut bytes, RECORD_CRC_OFFSET, crc).unwrap();
        self.device.write(BlockNo(RING + block), &bytes).unwrap();
    }

    fn fail(&self, block: u64) {
        self.device.unreadable.borrow_mut().insert(RING + block);
    }

    /// Follows the chain to its end, and looks for damage behind it.
    fn damage(&self) -> Result<Option<Sequence>> {
        let mut reader = RingReader::try_new(&self.device, &TestPlatform, &geometry(), UUID).unwrap();
        let mut next = Next {
            tail: Tail {
                position: Position(0),
                sequence: Sequence(7),
                generation: Generation(3),
                previous_crc: 0,
            },
        };
        while let Found::Record(record) = reader.read(&next)? {
            next = reader.next_after(&record);
        }
        assert_eq!(next.tail.sequence, Sequence(8));
        reader.find_damage(&next, Position(0))
    }
}

#[test]
fn an_unreadable_place_behind_the_chain_is_one_without_a_record() {
    let fixture = Fixture::new();
    fixture.fail(3);
    fixture.fail(700);
    assert_eq!(fixture.damage(), Ok(None));
}

#[test]
fn the_search_goes_on_behind_an_unreadable_place() {
    let fixture = Fixture::new();
    fixture.fail(4);
    fixture.fail(5);
    fixture.put(9, 12, 8);
    fixture.fail(30);
    assert_eq!(fixture.damage(), Ok(Some(Sequence(8))));
}

#[test]
fn a_later_record_that_cannot_be_read_whole_says_nothing() {
    let fixture = Fixture::new();
    fixture.put(9, 12, 8);
    fixture.fail(10);
    assert_eq!(fixture.damage(), Ok(None));
}

#[test]
fn an_unreadable_place_where_the_chain_goes_on_is_an_error() {
    // The record lies in both; the next one would begin in the second.
    for block in [0, 1] {
        let fixture = Fixture::new();
        fixture.fail(block);
        assert!(matches!(fixture.damage(), Err(Error::Io(_))), "block {block}");
    }
}

#[test]
fn only_what_a_record_of_this_ring_can_say_counts() {
    let geometry = geometry();
    let records = Journal::ring_bytes(&geometry) / u64::from(geometry.physical_block_bytes);
    for (sequence, stable, is_damage) in [
        (9, 8, true),
        (9, 9, false),
        (9, 500, false),
        (9, 7, false),
        (8 + records, 8, true),
        (9 + records, 8, false),
        (u64::MAX, 8, false),
    ] {
        let fixture = Fixture::new();
        fixture.put(20, sequence, stable);
        let expected = is_damage.then_some(Sequence(stable));
        assert_eq!(fixture.damage(), Ok(expected), "record {sequence} states {stable}");
    }
}
