// SPDX-License-Identifier: GPL-2.0

//! Mutated journals: bytes of the ring and of the header pair replaced, some with the CRCs made right afterwards; records where
//! they do not belong.
//!
//! - Outside of the records that recovery needs: nothing may change.
//! - In a record, its CRC left wrong, or another whole record in its place: it is not applied, nor is anything behind it, and all
//!   whole transactions before it are; when the header or a later record states that it was durable, the mount fails and says so.
//!   What is mounted is what a journal has that ends before that transaction.
//! - Behind the last record one that does not follow it: an older one once more, one of another generation, one whose sequence is
//!   not the next, each with a right CRC. Nothing may change.
//! - With right CRCs, and in headers: any answer will do, but there is one, without a panic, and soon.
//!
//! Each place has to get each of its usual answers: a run in which nothing was found, or nothing refused, has not tried.

use crate::disk::{Image, SimulatedDisk};
use crate::id;
use crate::platform::RepeatablePlatform;
use crate::run::{self, Record};
use crate::states;
use crate::survey::{Finding, Survey};
use crate::workload::Workload;
use cairnfs_core::error::{Check, Corruption, Error};
use cairnfs_core::format::block_header;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::format::journal::{
    record_crc, record_seed, JournalHeader, RecordHeader, RECORD_CRC_OFFSET,
};
use cairnfs_core::journal::replay::chain::{Record as RingRecord, RingReader};
use cairnfs_core::journal::replay::{self, Scan};
use cairnfs_core::units::{Sequence, BLOCK_BYTES};
use cairnfs_volume::Volume;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

/// Mutations of one workload.
const MUTATIONS_OF_A_WORKLOAD: u64 = 100;
/// Mutations of the journal as it stood at one moment.
const MUTATIONS_OF_A_SUBJECT: u64 = 10;
/// A mount that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the mount says of damage in each place, among others.
const USUAL: &[&str] = &[
    "Outside: mounted",
    "Record: mounted",
    "Record: journal-damage",
    "Swapped: mounted",
    "Swapped: journal-damage",
    "Behind: mounted",
    "Forged: mounted",
    "Forged: journal-damage",
    "Forged: journal-item",
    "Header: mounted",
    "ForgedHeader: mounted",
    "ForgedHeader: journal-header",
];

/// What came of mutations.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Mutated journals.
    pub journals: u64,
    /// By what was done, and what the mount said.
    pub answers: BTreeMap<String, u64>,
    /// What should not have been, with the id of each.
    pub violations: Vec<String>,
}

impl Outcome {
    /// Answers that a run of some thousand journals must have had and did not.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> + '_ {
        USUAL.iter().copied().filter(|answer| !self.answers.contains_key(*answer))
    }
}

/// A journal with records in it.
struct Subject {
    image: Image,
    geometry: Geometry,
    uuid: [u8; 16],
    header: JournalHeader,
    chain: Vec<RingRecord>,
    scan: Scan,
    digest: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    Record,
    Swapped,
    Behind,
    Forged,
    Header,
    ForgedHeader,
}

/// What became of one mutation: what the mount answered, or what is wrong.
type Judged = Result<String, String>;

/// Mutates `journals` journals, from `seed` on.
pub fn mutate(seed: u64, journals: u64, deadline: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut workload_seed = seed;
    while outcome.journals < journals && Instant::now() < deadline {
        mutate_workload(workload_seed, &mut |number, judged| {
            match judged {
                Ok(answer) => *outcome.answers.entry(answer).or_default() += 1,
                Err(what) => {
                    let id = id::encode_mutation(workload_seed, number);
                    outcome.violations.push(format!("{what}\n  enumerate replay {id}"));
                }
            }
            outcome.journals += 1;
            outcome.journals < journals
        });
        workload_seed += 1;
    }
    outcome
}

/// Makes one mutation again, and all before it of the same workload.
pub fn judge_again(seed: u64, wanted: u64) -> Judged {
    let mut found = Err(format!("the workload {seed} has no mutation {wanted}"));
    mutate_workload(seed, &mut |number, judged| {
        if number == wanted {
            found = judged;
        }
        number < wanted
    });
    found
}

/// Shows `visit` what becomes of a workload's mutations, with their numbers, as long as it says so.
fn mutate_workload(seed: u64, visit: &mut dyn FnMut(u64, Judged) -> bool) {
    let workload = Workload::from_seed(seed);
    let record = match run::run(&workload) {
        Ok(record) => record,
        Err(found) => {
            visit(0, Err(format!("not yet mutated: {}", found.what)));
            return;
        }
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut number = 0;
    while let Some(subject) = subject_of(&workload, &record, &mut random) {
        for _ in 0..MUTATIONS_OF_A_SUBJECT {
            let judged = match catch_unwind(AssertUnwindSafe(|| mutate_one(&subject, &mut random))) {
                // Nothing was changed: not a case.
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(answer))) => Ok(answer),
                Ok(Err(what)) => Err(what),
                Err(_) => Err("a panic".to_owned()),
            };
            if !visit(number, judged) || number + 1 == MUTATIONS_OF_A_WORKLOAD {
                return;
            }
            number += 1;
        }
    }
}

/// The journal as it stood at a random moment, with at least one record to replay.
fn subject_of(workload: &Workload, record: &Record, random: &mut ChaCha8Rng) -> Option<Subject> {
    for _ in 0..20 {
        let events = random.random_range(1..=record.log.len());
        let epoch = states::epoch_at(&record.base, &record.log, events);
        let mut image = epoch.base;
        for write in epoch.writes {
            image.write(write.start_byte, &write.bytes);
        }
        let geometry = run::geometry(workload);
        let disk = SimulatedDisk::new(image.clone(), false, true);
        let platform = RepeatablePlatform::new(1);
        let superblock = cairnfs_volume::read_superblock(&disk, &platform).ok()?;
        let header = replay::read_header(&disk, &platform, &superblock, &geometry).ok()?;
        if header.flags != 0 {
            continue;
        }
        let mut reader = RingReader::try_new(&disk, &platform, &geometry, superblock.uuid).ok()?;
        let mut chain = Vec::new();
        let scan = replay::scan(&mut reader, &header, &geometry, &mut |record| {
            chain.push(*record);
            Ok(())
        });
        let scan = scan.ok()?;
        if chain.is_empty() {
            continue;
        }
        let volume = Volume::mount(&disk, &platform).ok()?;
        let digest = Survey::take(&volume).ok()?.digest;
        return Some(Subject { image, geometry, uuid: superblock.uuid, header, chain, scan, digest });
    }
    None
}

impl Subject {
    fn ring_byte(&self, position: u64) -> u64 {
        (self.geometry.journal_start.0 + 2) * BLOCK_BYTES as u64 + position
    }

    fn length(&self, record: &RingRecord) -> u64 {
        RecordHeader::SIZE as u64 + u64::from(record.header.payload_bytes)
    }

    fn record_bytes(&self, record: &RingRecord) -> Vec<u8> {
        let start = self.ring_byte(record.position.0);
        let first = start / BLOCK_BYTES as u64;
        let within = (start % BLOCK_BYTES as u64) as usize;
        let length = self.length(record) as usize;
        let mut blocks = vec![0; (within + length).div_ceil(BLOCK_BYTES) * BLOCK_BYTES];
        self.image.read(first, &mut blocks);
        blocks[within..within + length].to_vec()
    }

    /// Behind the last transaction that is whole without record `index`.
    fn end_before(&self, index: usize) -> Sequence {
        let whole = self.chain[..index].iter().rfind(|record| record.is_last());
        whole.map_or(self.chain[0].header.sequence, |record| Sequence(record.header.sequence.0 + 1))
    }

    /// What the filesystem is when the journal has nothing from record `index` on: its digest, or what is wrong. For what nobody
    /// states to be durable may have been so all the same, and be home in part.
    fn without(&self, index: usize) -> Result<u128, String> {
        let mut image = self.image.clone();
        for record in &self.chain[index..] {
            image.write(self.ring_byte(record.position.0), &vec![0; self.length(record) as usize]);
        }
        let disk = SimulatedDisk::new(image, false, true);
        let platform = RepeatablePlatform::new(1);
        let volume = Volume::mount(&disk, &platform).map_err(|error| error.to_string())?;
        digest_of(&Survey::take(&volume))
    }

    fn is_live(&self, position: u64) -> bool {
        let (tail, end) = (self.header.tail.position.0, self.scan.stopped_at.tail.position.0);
        if tail < end {
            (tail..end).contains(&position)
        } else {
            position >= tail || position < end
        }
    }
}

fn digest_of(survey: &Result<Survey, Finding>) -> Result<u128, String> {
    survey.as_ref().map(|survey| survey.digest).map_err(Clone::clone)
}

fn change(bytes: &mut [u8], at: usize, random: &mut ChaCha8Rng) {
    let mask: u8 =
        if random.random() { 1 << random.random_range(0..8) } else { random.random_range(1..=255) };
    bytes[at] ^= mask;
}

/// Changes something and judges it; `None` when there was nothing to change.
fn mutate_one(subject: &Subject, random: &mut ChaCha8Rng) -> Result<Option<String>, String> {
    let mut image = subject.image.clone();
    let place = [
        Place::Outside,
        Place::Record,
        Place::Record,
        Place::Swapped,
        Place::Behind,
        Place::Forged,
        Place::Forged,
        Place::Header,
        Place::ForgedHeader,
    ][random.random_range(0..9)];
    let mut damaged = None;
    match place {
        Place::Outside => {
            let position = random.random_range(0..subject.header.ring_bytes);
            if subject.is_live(position) {
                return Ok(None);
            }
            let mut byte = [0];
            random.fill(&mut byte);
            image.write(subject.ring_byte(position), &byte);
        }
        Place::Record => {
            let index = random.random_range(0..subject.chain.len());
            let record = &subject.chain[index];
            let mut bytes = subject.record_bytes(record);
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                change(&mut bytes, at, random);
            }
            if bytes == subject.record_bytes(record) {
                return Ok(None);
            }
            image.write(subject.ring_byte(record.position.0), &bytes);
            damaged = Some(index);
        }
        Place::Swapped => {
            let index = random.random_range(0..subject.chain.len());
            let other = random.random_range(0..subject.chain.len());
            let (record, bytes) = (&subject.chain[index], subject.record_bytes(&subject.chain[other]));
            // It must fit, so that no other is damaged.
            if other == index || bytes.len() as u64 > subject.length(record) {
                return Ok(None);
            }
            image.write(subject.ring_byte(record.position.0), &bytes);
            damaged = Some(index);
        }
        Place::Behind => {
            let Some(bytes) = stray(subject, random) else { return Ok(None) };
            image.write(subject.ring_byte(subject.scan.stopped_at.tail.position.0), &bytes);
        }
        Place::Forged => forge(subject, &mut image, random),
        Place::Header | Place::ForgedHeader => {
            let block = subject.geometry.journal_start.0 + random.random_range(0..2);
            let mut bytes = vec![0; BLOCK_BYTES];
            image.read(block, &mut bytes);
            let at = random.random_range(0..200);
            change(&mut bytes, at, random);
            if place == Place::ForgedHeader {
                let platform = RepeatablePlatform::new(1);
                let _ = block_header::seal(&platform, &mut bytes, Sequence(0));
            }
            image.write(block * BLOCK_BYTES as u64, &bytes);
        }
    }
    judge(subject, &image, place, damaged).map(Some)
}

/// A record that does not follow the last one, for the place behind it; `None` when there is no room.
fn stray(subject: &Subject, random: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let platform = RepeatablePlatform::new(1);
    let next = subject.scan.stopped_at.tail;
    let record = &subject.chain[random.random_range(0..subject.chain.len())];
    let mut bytes = subject.record_bytes(record);
    let end = next.position.0 + bytes.len() as u64;
    let overwrites = (next.position.0..end).step_by(512).any(|position| subject.is_live(position));
    if end > subject.header.ring_bytes || overwrites {
        return None;
    }
    let mut header = record.header;
    let kind = random.random_range(0..4);
    if kind > 0 {
        // As the next one would be, but for one thing.
        header.sequence = next.sequence;
        header.generation = next.generation;
        header.previous_crc = next.previous_crc;
    }
    match kind {
        1 => header.generation.0 = header.generation.0.checked_sub(1)?,
        2 => header.sequence.0 += random.random_range(1..4),
        3 => header.previous_crc ^= 1 << random.random_range(0..32),
        _ => {}
    }
    if kind > 0 {
        header.encode(&mut bytes, 0).ok()?;
        let seed = record_seed(&platform, &subject.uuid, header.generation);
        let crc = record_crc(&platform, seed, &bytes);
        bytes[RECORD_CRC_OFFSET..RECORD_CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
    }
    Some(bytes)
}

/// Changes items of a record, and makes its CRC right and those of all that follow it.
fn forge(subject: &Subject, image: &mut Image, random: &mut ChaCha8Rng) {
    let index = random.random_range(0..subject.chain.len());
    reseal(subject, image, index, &mut |number, bytes| {
        if number != index {
            return;
        }
        for _ in 0..random.random_range(1..4) {
            // Rarely in the header, whose position and sequence would only end the chain.
            let from =
                if random.random_range(0..8) == 0 { 0 } else { RecordHeader::SIZE.min(bytes.len() - 1) };
            let at = random.random_range(from..bytes.len());
            change(bytes, at, random);
        }
    });
}

/// Has `alter` change the records from `index` on, and makes their chain and their CRCs right.
fn reseal(subject: &Subject, image: &mut Image, index: usize, alter: &mut dyn FnMut(usize, &mut [u8])) {
    let platform = RepeatablePlatform::new(1);
    let mut previous_crc = subject.chain[index].header.previous_crc;
    for (number, record) in subject.chain.iter().enumerate().skip(index) {
        let mut bytes = subject.record_bytes(record);
        alter(number, &mut bytes);
        let Ok(mut header) = RecordHeader::decode(&bytes, 0) else { return };
        header.previous_crc = previous_crc;
        if header.encode(&mut bytes, 0).is_err() {
            return;
        }
        let crc = record_crc(&platform, record_seed(&platform, &subject.uuid, header.generation), &bytes);
        bytes[RECORD_CRC_OFFSET..RECORD_CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
        image.write(subject.ring_byte(record.position.0), &bytes);
        previous_crc = crc;
    }
}

fn judge(subject: &Subject, image: &Image, place: Place, damaged: Option<usize>) -> Result<String, String> {
    let disk = SimulatedDisk::new(image.clone(), true, true);
    let platform = RepeatablePlatform::new(1);
    let began = Instant::now();
    let mounted = Volume::mount(&disk, &platform);
    if began.elapsed() > PATIENCE {
        return Err(format!("{place:?}: the mount took {:?}", began.elapsed()));
    }
    let answer = match &mounted {
        Ok(_) => "mounted".to_owned(),
        Err(Error::Corrupt(Corruption { check, .. })) => check.name().to_owned(),
        Err(error) => format!("{error:?}").split('(').next().unwrap_or_default().to_owned(),
    };
    if answer.starts_with("journal") && disk.events() > 0 {
        return Err(format!("{place:?}: {answer}, but something had been written"));
    }
    if let Some(index) = damaged {
        let sequence = subject.chain[index].header.sequence;
        let later = subject.chain[index + 1..].iter().map(|later| later.header.stable_sequence);
        let was_durable = later.chain([subject.header.stable_sequence]).any(|stable| stable >= sequence);
        let is_damage =
            matches!(mounted, Err(Error::Corrupt(Corruption { check: Check::JournalDamage, .. })));
        if is_damage != was_durable {
            return Err(format!(
                "record {index} of {}: damaged, durable {was_durable}, answer {answer}",
                subject.chain.len()
            ));
        }
        if let Ok(volume) = &mounted {
            let end = volume.recovery().end_sequence;
            if end > sequence {
                return Err(format!("record {index}: damaged, and applied"));
            }
            if end < subject.end_before(index) {
                return Err(format!("record {index}: damaged, and replay ended before it, at {}", end.0));
            }
        }
    }
    let survey = mounted.as_ref().ok().map(Survey::take);
    if let (Some(index), Some(survey)) = (damaged, &survey) {
        let (found, wanted) = (digest_of(survey), subject.without(index));
        if found != wanted {
            return Err(format!("record {index}: damaged, and then {found:x?}; without it {wanted:x?}"));
        }
    }
    if matches!(place, Place::Outside | Place::Behind | Place::Header) {
        match survey {
            Some(Ok(survey)) if survey.digest == subject.digest => {}
            // The other header may name a tail behind which records have been overwritten.
            None if place == Place::Header && answer == Check::JournalDamage.name() => {}
            Some(Err(what)) => return Err(format!("{place:?}: {what}")),
            _ => return Err(format!("{place:?}: {answer}, and the filesystem has changed")),
        }
    }
    Ok(format!("{place:?}: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnfs_core::error::Unsupported;
    use cairnfs_core::format::item::ItemKind;

    fn subject() -> Subject {
        let workload = Workload::from_seed(1);
        let record = run::run(&workload).unwrap_or_else(|found| panic!("{}", found.what));
        subject_of(&workload, &record, &mut ChaCha8Rng::seed_from_u64(1)).expect("a journal with records")
    }

    /// What a mount says when every record has been altered.
    fn mount(subject: &Subject, alter: &dyn Fn(&mut [u8])) -> Result<(), Error> {
        let mut image = subject.image.clone();
        reseal(subject, &mut image, 0, &mut |_, bytes| alter(bytes));
        let disk = SimulatedDisk::new(image, false, true);
        Volume::mount(&disk, &RepeatablePlatform::new(1)).map(drop)
    }

    /// Number 0 is "no transaction": it is stable for ever, so nothing in it would ever be committed.
    #[test]
    fn the_next_transaction_has_a_number() {
        let subject = subject();
        let platform = RepeatablePlatform::new(1);
        let mut image = subject.image.clone();
        for block in [subject.geometry.journal_start.0, subject.geometry.journal_start.0 + 1] {
            let mut bytes = vec![0; BLOCK_BYTES];
            image.read(block, &mut bytes);
            let mut header = JournalHeader::decode(&bytes, block_header::BlockHeader::SIZE).unwrap();
            header.next_transaction.0 = 0;
            header.encode(&mut bytes, block_header::BlockHeader::SIZE).unwrap();
            block_header::seal(&platform, &mut bytes, Sequence(0)).unwrap();
            image.write(block * BLOCK_BYTES as u64, &bytes);
        }
        let outcome = Volume::mount(&SimulatedDisk::new(image, false, true), &platform).map(drop);
        let refused = matches!(outcome, Err(Error::Corrupt(Corruption { check: Check::JournalHeader, .. })));
        assert!(refused, "{outcome:?}");
    }

    /// A transaction number beyond what the header counts from would end the count of transactions: nothing would ever be
    /// committed again, and every fsync would find its transaction stable.
    #[test]
    fn the_first_transaction_is_not_newer_than_the_header() {
        let subject = subject();
        assert_eq!(mount(&subject, &|_| {}), Ok(()));
        for add in [1 << 40, u64::MAX >> 1] {
            let outcome = mount(&subject, &|bytes| {
                let mut header = RecordHeader::decode(bytes, 0).unwrap();
                header.transaction.0 += add;
                header.encode(bytes, 0).unwrap();
            });
            let refused =
                matches!(outcome, Err(Error::Corrupt(Corruption { check: Check::JournalItem, .. })));
            assert!(refused, "{add} more: {outcome:?}");
        }
    }

    #[test]
    fn a_mutation_can_be_made_again() {
        let mut judged = Vec::new();
        mutate_workload(1, &mut |number, outcome| {
            judged.push(outcome);
            number < 24
        });
        for number in [0, 11, 24] {
            assert_eq!(judge_again(1, number), judged[number as usize], "mutation {number}");
        }
        assert!(judge_again(1, MUTATIONS_OF_A_WORKLOAD).is_err());
    }

    #[test]
    fn items_of_modes_that_are_not_there_are_refused() {
        let subject = subject();
        for kind in [ItemKind::FileData, ItemKind::Digest] {
            let number = kind as u16;
            let outcome = mount(&subject, &|bytes| {
                bytes[RecordHeader::SIZE..RecordHeader::SIZE + 2].copy_from_slice(&number.to_le_bytes());
            });
            assert_eq!(outcome, Err(Error::Unsupported(Unsupported::JournalItem(number))));
        }
    }
}
