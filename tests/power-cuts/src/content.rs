//! Bytes that say whose they are, and what a file may hold after a power cut.
//!
//! A file is made of units of 64 bytes, so that its size and its writes fall within sectors and blocks; a unit is made
//! of four records {file, place, version, CRC}. A record that belongs to another file or place is foreign, whatever
//! brought it there: blocks handed out too early, a mapping that was durable before its data.
//!
//! A file's history is its writes, truncates and syncs, each with the number of its operation. What may be there after
//! a cut follows from it, from the syncs that had returned, and from how many operations survived:
//!
//! * a unit holds what it held at the last sync, or what was written later (writeback has no order);
//! * a truncate is a change of metadata: it survives if a later one did, and then what it cut off is zero; before
//!   that, only a filesystem that zeroes in place may show zeroes, in the block in which the new size lies;
//! * a unit that was never written is zero;
//! * a file that was renamed over another is, if the rename survived, as if it had been synced before it.

use std::ops::Range;

use clap::ValueEnum;

/// Sizes and offsets of all files are multiples of it.
pub(crate) const UNIT_BYTES: usize = 64;
/// A block's units.
pub(crate) const BLOCK_UNITS: u32 = 4096 / UNIT_BYTES as u32;
const RECORD_BYTES: usize = 16;
const RECORDS: usize = UNIT_BYTES / RECORD_BYTES;

/// Whose bytes: unique over rounds, threads and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u32);

impl FileId {
    /// That of a file of a thread in the run of a seed.
    pub(crate) fn new(seed: u64, thread: usize, node: usize) -> Self {
        Self((seed as u32 & 0xff) << 24 | (thread as u32 & 0xff) << 16 | (node as u32 & 0xffff))
    }
}

/// What a unit holds: zeroes, or what the operation before this number wrote.
type Version = u32;
const ZERO: Version = 0;

/// The version that an operation writes.
pub(crate) fn version_of(operation: usize) -> Version {
    operation as Version + 1
}

fn record(file: FileId, place: u32, version: Version) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&file.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&place.to_le_bytes());
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The bytes of a range of units.
pub(crate) fn bytes_of(file: FileId, units: Range<u32>, version: Version) -> Vec<u8> {
    let records = RECORDS as u32;
    (units.start * records..units.end * records).flat_map(|place| record(file, place, version)).collect()
}

/// Something that happened to a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A write; synchronous or not.
    Write { units: Range<u32>, synchronous: bool },
    /// A truncate.
    Truncate { units: u32 },
    /// fsync or fdatasync.
    Sync,
    /// It was renamed over another file.
    RenamedOver,
}

/// What had been promised when the power went, as far as it concerns content.
pub(crate) struct Knowledge<'a> {
    /// Operations before this one had begun.
    pub(crate) begun: usize,
    /// Whether an operation that promises had returned.
    pub(crate) returned: &'a dyn Fn(usize) -> bool,
    /// Syncs of the whole filesystem that had returned: all operations before these had returned before them.
    pub(crate) whole_syncs: &'a [usize],
    /// So many operations survived, as far as they changed metadata.
    pub(crate) survived: usize,
    /// What a truncate does to the block in which the new size lies.
    pub(crate) zeroing: Zeroing,
}

/// How a filesystem zeroes what a truncate cuts off of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Zeroing {
    /// So that it becomes durable with the new size or after it.
    WithSize,
    /// Through the page cache, before the new size is durable: after a cut there may be zeroes at the old size (ext4's
    /// ext4_block_truncate_page dirties the page and has it written before the transaction that holds the size).
    InPlace,
}

/// All that happened to a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<(usize, Event)>);

impl History {
    /// Appends what operation number `operation` did.
    pub(crate) fn push(&mut self, operation: usize, event: Event) {
        self.0.push((operation, event));
    }

    /// What the file may hold.
    fn allowed(&self, knowledge: &Knowledge<'_>) -> Allowed {
        let mut allowed = Allowed::default();
        let mut whole_syncs = knowledge.whole_syncs.iter().copied().peekable();
        for (operation, event) in self.0.iter().take_while(|(at, _)| *at < knowledge.begun) {
            while whole_syncs.next_if(|before| before <= operation).is_some() {
                allowed.settle();
            }
            let returned = (knowledge.returned)(*operation);
            let survived = *operation < knowledge.survived;
            match event {
                Event::Write { units, synchronous } => {
                    allowed.write(units.clone(), version_of(*operation));
                    if *synchronous && returned {
                        allowed.settle_range(units.clone());
                    }
                }
                Event::Truncate { units } => allowed.truncate(*units, survived, knowledge.zeroing),
                Event::Sync if returned => allowed.settle(),
                Event::RenamedOver if survived => allowed.settle(),
                Event::Sync | Event::RenamedOver => {}
            }
        }
        if whole_syncs.next().is_some() {
            allowed.settle();
        }
        allowed
    }

    /// The first thing that is wrong with a file's bytes, if anything.
    pub(crate) fn fault(&self, file: FileId, bytes: &[u8], knowledge: &Knowledge<'_>) -> Option<String> {
        let allowed = self.allowed(knowledge);
        allowed.fault_of_size(bytes.len()).or_else(|| allowed.fault_of_units(file, bytes))
    }
}

/// The contents that a file may have, while its history is replayed.
#[derive(Debug, Default)]
struct Allowed {
    /// What each unit holds now.
    now: Vec<Version>,
    /// What each may hold after a cut.
    units: Vec<Vec<Version>>,
    size: u32,
    smallest: u32,
    largest: u32,
}

impl Allowed {
    fn grow(&mut self, units: u32) {
        let units = self.units.len().max(units as usize);
        self.now.resize(units, ZERO);
        self.units.resize(units, vec![ZERO]);
    }

    fn write(&mut self, units: Range<u32>, version: Version) {
        self.grow(units.end);
        for unit in units.start as usize..units.end as usize {
            self.now[unit] = version;
            self.units[unit].push(version);
        }
        self.size = self.size.max(units.end);
        self.largest = self.largest.max(self.size);
    }

    fn truncate(&mut self, size: u32, survived: bool, zeroing: Zeroing) {
        self.grow(size);
        let block_end = size.next_multiple_of(BLOCK_UNITS) as usize;
        for unit in size as usize..self.units.len() {
            self.now[unit] = ZERO;
            // Zeroes at the old size are neither before nor after.
            if survived {
                self.units[unit] = vec![ZERO];
            } else if zeroing == Zeroing::InPlace && unit < block_end {
                self.units[unit].push(ZERO);
            }
        }
        self.size = size;
        if survived {
            (self.smallest, self.largest) = (size, size);
        } else {
            (self.smallest, self.largest) = (self.smallest.min(size), self.largest.max(size));
        }
    }

    fn settle(&mut self) {
        self.settle_range(0..self.units.len() as u32);
        (self.smallest, self.largest) = (self.size, self.size);
    }

    /// A synchronous write makes its own range durable, and the size as far as that reaches.
    fn settle_range(&mut self, units: Range<u32>) {
        for unit in units.start as usize..units.end as usize {
            self.units[unit] = vec![self.now[unit]];
        }
        self.smallest = self.smallest.max(units.end.min(self.size));
    }

    fn fault_of_size(&self, bytes: usize) -> Option<String> {
        let (smallest, largest) = (self.smallest as usize * UNIT_BYTES, self.largest as usize * UNIT_BYTES);
        let fits = bytes.is_multiple_of(UNIT_BYTES) && (smallest..=largest).contains(&bytes);
        (!fits).then(|| format!("its size is {bytes}, which may be {smallest} to {largest}"))
    }

    fn fault_of_units(&self, file: FileId, bytes: &[u8]) -> Option<String> {
        bytes.chunks(UNIT_BYTES).zip(&self.units).enumerate().find_map(|(unit, (bytes, versions))| {
            let place = (unit * RECORDS) as u32;
            (place..).zip(bytes.chunks(RECORD_BYTES)).find_map(|(place, bytes)| {
                let fault = fault_of_record(file, place, bytes, versions)?;
                Some(format!("at byte {} {fault}", place as usize * RECORD_BYTES))
            })
        })
    }
}

fn fault_of_record(file: FileId, place: u32, bytes: &[u8], versions: &[Version]) -> Option<String> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let is_zero = bytes.iter().all(|byte| *byte == 0);
    let version = if is_zero { ZERO } else { word(8) };
    if is_zero || bytes == record(file, place, version) {
        let words = |version: &Version| match version {
            &ZERO => "zeroes".to_owned(),
            version => format!("version {version}"),
        };
        let may: Vec<String> = versions.iter().map(words).collect();
        return (!versions.contains(&version))
            .then(|| format!("are {}, where {} may be", words(&version), may.join(" or ")));
    }
    Some(if word(12) == crc32c::crc32c(&bytes[..12]) {
        let (id, at) = (word(0), word(4) as usize * RECORD_BYTES);
        format!("are foreign bytes: version {version} of byte {at} of file {id:08x}, in file {:08x}", file.0)
    } else {
        format!("are bytes that no file ever held: {bytes:02x?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId(7);

    fn history() -> History {
        let mut history = History::default();
        history.push(1, Event::Write { units: 0..4, synchronous: false });
        history.push(2, Event::Sync);
        history.push(3, Event::Write { units: 2..6, synchronous: false });
        history.push(4, Event::Truncate { units: 3 });
        history
    }

    fn fault(
        history: &History,
        bytes: &[u8],
        begun: usize,
        returned: bool,
        survived: usize,
    ) -> Option<String> {
        fault_if(history, bytes, begun, returned, survived, Zeroing::WithSize)
    }

    fn fault_if(
        history: &History,
        bytes: &[u8],
        begun: usize,
        returned: bool,
        survived: usize,
        zeroing: Zeroing,
    ) -> Option<String> {
        let returned = move |_| returned;
        let knowledge = Knowledge { begun, returned: &returned, whole_syncs: &[], survived, zeroing };
        history.fault(FILE, bytes, &knowledge)
    }

    fn bytes(pieces: &[(Range<u32>, Version)]) -> Vec<u8> {
        let piece = |(units, version): &(Range<u32>, Version)| match version {
            0 => vec![0; units.len() * UNIT_BYTES],
            version => bytes_of(FILE, units.clone(), *version),
        };
        pieces.iter().flat_map(piece).collect()
    }

    #[test]
    fn what_was_synced_must_be_there() {
        let history = history();
        let synced = bytes(&[(0..4, 2)]);
        assert_eq!(fault(&history, &synced, 3, true, 3), None);
        assert!(fault(&history, &[], 3, true, 3).unwrap().contains("size"));
        assert_eq!(fault(&history, &[], 3, false, 3), None);
        let lost = bytes(&[(0..2, 2), (2..4, 0)]);
        assert!(fault(&history, &lost, 3, true, 3).unwrap().contains("zeroes"));
        assert_eq!(fault(&history, &lost, 3, false, 3), None);
    }

    #[test]
    fn later_writes_may_be_there_in_part_and_older_ones_not() {
        let history = history();
        assert_eq!(fault(&history, &bytes(&[(0..3, 2), (3..5, 4)]), 4, true, 3), None);
        assert_eq!(fault(&history, &bytes(&[(0..4, 2), (4..5, 0), (5..6, 4)]), 4, true, 3), None);
        assert!(fault(&history, &bytes(&[(0..1, 4), (1..4, 2)]), 4, true, 3).is_some());
        assert!(fault(&history, &bytes(&[(0..1, 2)]), 4, true, 3).unwrap().contains("size"));
    }

    #[test]
    fn a_truncate_survives_if_a_later_change_did() {
        let history = history();
        let long = bytes(&[(0..4, 2)]);
        assert_eq!(fault(&history, &long, 5, true, 4), None);
        assert!(fault(&history, &long, 5, true, 5).unwrap().contains("size"));
        assert_eq!(fault(&history, &bytes(&[(0..2, 2), (2..3, 4)]), 5, true, 5), None);
        let zeroed = bytes(&[(0..3, 2), (3..4, 0)]);
        assert!(fault(&history, &zeroed, 5, true, 4).unwrap().contains("zeroes"), "at the old size");
    }

    #[test]
    fn zeroes_in_place_reach_no_further_than_the_block() {
        let mut history = History::default();
        let end = 2 * BLOCK_UNITS;
        history.push(1, Event::Write { units: 0..end, synchronous: false });
        history.push(2, Event::Sync);
        history.push(3, Event::Truncate { units: 10 });
        let in_block = bytes(&[(0..10, 2), (10..BLOCK_UNITS, 0), (BLOCK_UNITS..end, 2)]);
        let beyond = bytes(&[(0..10, 2), (10..BLOCK_UNITS + 1, 0), (BLOCK_UNITS + 1..end, 2)]);
        let fault = |bytes: &[u8], zeroing| fault_if(&history, bytes, 4, true, 3, zeroing);
        assert_eq!(fault(&in_block, Zeroing::InPlace), None);
        assert!(fault(&in_block, Zeroing::WithSize).unwrap().contains("zeroes"));
        assert!(fault(&beyond, Zeroing::InPlace).unwrap().contains("zeroes"));
    }

    #[test]
    fn foreign_and_torn_bytes_are_told_apart() {
        let history = history();
        let other = [bytes(&[(0..3, 2)]), bytes_of(FileId(9), 3..4, 2)].concat();
        assert!(fault(&history, &other, 4, true, 3).unwrap().contains("foreign"));
        let moved = [bytes(&[(0..3, 2)]), bytes_of(FILE, 0..1, 2)].concat();
        assert!(fault(&history, &moved, 4, true, 3).unwrap().contains("foreign"));
        let mut torn = bytes(&[(0..4, 2)]);
        torn[100] ^= 1;
        assert!(fault(&history, &torn, 4, true, 3).unwrap().contains("no file ever held"));
    }

    #[test]
    fn a_file_that_replaced_another_is_whole() {
        let mut history = History::default();
        history.push(1, Event::Write { units: 0..2, synchronous: false });
        history.push(2, Event::RenamedOver);
        assert_eq!(fault(&history, &[], 3, true, 2), None);
        assert!(fault(&history, &[], 3, true, 3).is_some());
        assert_eq!(fault(&history, &bytes(&[(0..2, 2)]), 3, true, 3), None);
    }
}
