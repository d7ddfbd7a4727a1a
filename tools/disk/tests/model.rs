//! Random histories against a naive model of what a power cut may leave.
//!
//! The model knows one sector at a time: what it can hold is the newest change that was forced or
//! covered by a flush, or any change after that. The disk's states must stay within that, reads must
//! show the newest change, and the same seed must give the same state.

use std::collections::BTreeSet;

use cairnfs_disk::counters::Counts;
use cairnfs_disk::disk::{Disk, DiskOptions, Outcome, Request};
use cairnfs_disk::epoch_log::ChangeKind;
use cairnfs_disk::extent_map::Content;
use cairnfs_disk::units::{EntryNumber, SectorRange, Seed, StateNumber};
use proptest::prelude::*;

const SECTORS: u64 = 32;

/// One step of a history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Change {
        kind: ChangeKind,
        start: u64,
        sectors: u64,
        forced: bool,
    },
    /// A flush; `lag` entries before it were still unanswered when it arrived.
    Flush {
        lag: u64,
    },
    Mark,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(ChangeKind::Write),
        1 => Just(ChangeKind::WriteZeroes),
        1 => Just(ChangeKind::Discard),
    ];
    let change =
        (kind, 0..SECTORS, 1_u64..6, prop::bool::weighted(0.2)).prop_map(|(kind, start, sectors, forced)| {
            Step::Change { kind, start, sectors: sectors.min(SECTORS - start), forced }
        });
    prop_oneof![
        8 => change,
        1 => (0_u64..4).prop_map(|lag| Step::Flush { lag }),
        1 => Just(Step::Mark),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

/// What a sector holds: the number of the change that wrote it, or zero.
type Value = u64;

/// A change as the model sees it; its place is its number in the log.
#[derive(Clone, Copy, Debug)]
struct ModelChange {
    number: u64,
    range: SectorRange,
    value: Value,
    forced: bool,
}

#[derive(Debug, Default)]
struct Model {
    changes: Vec<ModelChange>,
    /// Number of a flush, and the first change that it does not cover.
    flushes: Vec<(u64, u64)>,
    marks: Vec<u64>,
}

impl Model {
    /// What a sector may hold after a cut before entry `cut`.
    fn possible(&self, sector: u64, cut: u64) -> BTreeSet<Value> {
        let covered = self.flushes.iter().filter(|(at, _)| *at < cut).map(|(_, before)| *before);
        let covered = covered.max().unwrap_or(0);
        let mut possible = BTreeSet::from([0]);
        let of_sector =
            self.changes.iter().filter(|change| (change.range.start()..change.range.end()).contains(&sector));
        for change in of_sector {
            // The entry at the cut itself is in flight: it may be there, and promises nothing.
            if change.number > cut {
                break;
            }
            if change.number < cut && (change.forced || change.number < covered) {
                possible.clear();
            }
            possible.insert(change.value);
        }
        possible
    }

    fn newest(&self, sector: u64) -> Value {
        let of_sector = self
            .changes
            .iter()
            .rev()
            .find(|change| (change.range.start()..change.range.end()).contains(&sector));
        of_sector.map_or(0, |change| change.value)
    }
}

fn whole() -> SectorRange {
    SectorRange::new(0, SECTORS).unwrap()
}

fn values(bytes: &[u8]) -> Vec<Value> {
    let value = |sector: &[u8]| {
        assert!(sector.chunks(8).all(|chunk| chunk == &sector[..8]), "a sector is torn inside");
        u64::from_le_bytes(sector[..8].try_into().unwrap())
    };
    bytes.chunks(512).map(value).collect()
}

fn medium_values(disk: &Disk) -> Vec<Value> {
    let mut bytes = vec![0; (SECTORS * 512) as usize];
    disk.medium().read(whole(), &mut bytes).unwrap();
    values(&bytes)
}

fn read_values(disk: &mut Disk) -> Vec<Value> {
    match disk.serve(Request::Read(whole()), disk.next_entry()) {
        Ok(Outcome::Data(bytes)) => values(&bytes),
        other => panic!("a read gave {other:?}"),
    }
}

/// Runs a history on a fresh disk.
fn run(history: &[Step], records: bool) -> (Disk, Model) {
    let mut disk = Disk::in_memory(SECTORS * 512, DiskOptions::default());
    if records {
        disk.start_recording();
    }
    let mut model = Model::default();
    for step in history {
        let number = disk.next_entry();
        match *step {
            Step::Mark => {
                disk.mark("mark");
                model.marks.push(number.0);
            }
            Step::Flush { lag } => {
                let covers_before = EntryNumber(number.0.saturating_sub(lag));
                disk.serve(Request::Flush, covers_before).unwrap();
                model.flushes.push((number.0, covers_before.0));
            }
            Step::Change { kind, start, sectors, forced } => {
                let range = SectorRange::new(start, start + sectors).unwrap();
                let (value, content) = match kind {
                    ChangeKind::Write => {
                        let value = number.0 + 1;
                        let bytes = value.to_le_bytes().repeat((sectors * 64) as usize);
                        (value, Content::of_write(bytes))
                    }
                    ChangeKind::WriteZeroes | ChangeKind::Discard => (0, Content::Zeroes),
                };
                disk.serve(Request::Change { kind, range, content, forced }, number).unwrap();
                model.changes.push(ModelChange { number: number.0, range, value, forced });
            }
        }
    }
    (disk, model)
}

proptest! {
    #[test]
    fn reads_show_the_newest_change(history in history()) {
        let (mut disk, model) = run(&history, false);
        let newest: Vec<Value> = (0..SECTORS).map(|sector| model.newest(sector)).collect();
        prop_assert_eq!(read_values(&mut disk), newest);
    }

    #[test]
    fn a_cut_leaves_what_the_rules_allow(history in history(), seed: u64, records: bool) {
        let (mut disk, model) = run(&history, records);
        let cut_at = disk.next_entry().0;
        let report = disk.cut(Seed(seed), None).unwrap();
        let left = medium_values(&disk);
        let mut lost = 0;
        for (sector, value) in left.iter().enumerate() {
            let possible = model.possible(sector as u64, cut_at);
            prop_assert!(possible.contains(value), "sector {sector} holds {value}, not in {possible:?}");
            lost += u64::from(*value != model.newest(sector as u64));
        }
        // Zeroes written over zeroes are lost without a trace.
        prop_assert!(lost <= report.lost_sectors);
        let is_volatile = |sector| model.possible(sector, cut_at).len() > 1;
        prop_assert!(report.lost_sectors > 0 || !(0..SECTORS).any(is_volatile));
        prop_assert_eq!(&read_values(&mut disk), &left);
        prop_assert_eq!(disk.marks().len(), model.marks.len());

        let (mut again, _) = run(&history, !records);
        prop_assert_eq!(again.cut(Seed(seed), None).unwrap(), report);
        prop_assert_eq!(medium_values(&again), left);
    }

    #[test]
    fn every_crash_state_is_one_that_a_cut_could_leave(history in history()) {
        let (mut disk, model) = run(&history, true);
        disk.close_recording();
        let (states, epochs) = disk.crash_states().unwrap();
        prop_assert_eq!(epochs.iter().map(|epoch| epoch.states).sum::<u64>(), states);
        let honest_flushes = history.iter().filter(|step| matches!(step, Step::Flush { .. })).count();
        prop_assert_eq!(epochs.len(), honest_flushes + 1);
        // All of a few, a sample of many.
        for state in (0..states).step_by((states / 200 + 1) as usize) {
            let description = disk.offer_state(StateNumber(state)).unwrap();
            for (sector, value) in medium_values(&disk).iter().enumerate() {
                let possible = model.possible(sector as u64, description.cut_before);
                prop_assert!(
                    possible.contains(value),
                    "state {state} ({description:?}): sector {sector} holds {value}, not in {possible:?}"
                );
            }
            let marks = model.marks.iter().filter(|at| **at < description.cut_before).count();
            prop_assert_eq!(disk.marks().len(), marks);
        }
        prop_assert!(disk.offer_state(StateNumber(states)).is_err());
    }

    #[test]
    fn counters_are_exact(history in history()) {
        let (disk, _) = run(&history, false);
        let mut naive = vec![Counts::default()];
        for step in &history {
            let Some(epoch) = naive.last_mut() else { unreachable!() };
            match *step {
                Step::Mark => {}
                Step::Flush { .. } => {
                    epoch.flushes += 1;
                    naive.push(Counts::default());
                }
                Step::Change { kind, sectors, forced, .. } => {
                    let bytes = sectors * 512;
                    match kind {
                        ChangeKind::Write => {
                            epoch.writes += 1;
                            epoch.write_bytes += bytes;
                            epoch.fua_writes += u64::from(forced);
                            epoch.fua_bytes += if forced { bytes } else { 0 };
                        }
                        ChangeKind::WriteZeroes => {
                            epoch.write_zeroes += 1;
                            epoch.write_zeroes_bytes += bytes;
                        }
                        ChangeKind::Discard => {
                            epoch.discards += 1;
                            epoch.discard_bytes += bytes;
                        }
                    }
                }
            }
        }
        let (first, epochs) = disk.counters().epochs();
        prop_assert_eq!(first, 0);
        let mut counted: Vec<Counts> = epochs.copied().collect();
        // An overlap is judged by what was unanswered, which this history does not vary.
        counted.iter().for_each(|counts| assert_eq!(counts.overlapping_in_flight, 0));
        counted.resize(naive.len(), Counts::default());
        prop_assert_eq!(&counted, &naive);
        let total = disk.counters().total();
        let sum = |field: fn(&Counts) -> u64| naive.iter().map(field).sum::<u64>();
        prop_assert_eq!(total.writes, sum(|counts| counts.writes));
        prop_assert_eq!(total.write_bytes, sum(|counts| counts.write_bytes));
        prop_assert_eq!(total.fua_bytes, sum(|counts| counts.fua_bytes));
        prop_assert_eq!(total.flushes, sum(|counts| counts.flushes));
    }
}
