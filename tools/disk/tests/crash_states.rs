//! The enumeration of crash states, lies, armed cuts, kept states and recordings as files.

use std::collections::BTreeSet;

use cairnfs_disk::disk::{Disk, DiskError, DiskOptions, Outcome, Request};
use cairnfs_disk::epoch_log::ChangeKind;
use cairnfs_disk::extent_map::Content;
use cairnfs_disk::lies::Lie;
use cairnfs_disk::power_cut::{ArmedCut, CutMoment};
use cairnfs_disk::recording_file;
use cairnfs_disk::units::{SectorRange, Seed, StateNumber};

const SECTORS: u64 = 4096;

fn disk() -> Disk {
    Disk::in_memory(SECTORS * 512, DiskOptions::default())
}

fn write(disk: &mut Disk, start: u64, sectors: u64, fill: u8, forced: bool) -> Outcome {
    let range = SectorRange::new(start, start + sectors).unwrap();
    let content = Content::of_write(vec![fill; (sectors * 512) as usize]);
    let request = Request::Change { kind: ChangeKind::Write, range, content, forced };
    disk.serve(request, disk.next_entry()).unwrap()
}

fn flush(disk: &mut Disk) -> Outcome {
    disk.serve(Request::Flush, disk.next_entry()).unwrap()
}

/// The first byte of each of the first sectors of the medium.
fn fills(disk: &Disk, sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; (sectors * 512) as usize];
    disk.medium().read(SectorRange::new(0, sectors).unwrap(), &mut bytes).unwrap();
    bytes.chunks(512).map(|sector| sector[0]).collect()
}

/// All states of the recording, as the fills of their first sectors. Their order must not matter.
fn all_states(disk: &mut Disk, sectors: u64) -> Vec<Vec<u8>> {
    disk.close_recording();
    let states = disk.crash_states().unwrap().0;
    let mut state = |number| {
        disk.offer_state(StateNumber(number)).unwrap();
        fills(disk, sectors)
    };
    let forwards: Vec<_> = (0..states).map(&mut state).collect();
    let mut backwards: Vec<_> = (0..states).rev().map(&mut state).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    forwards
}

#[test]
fn up_to_ten_writes_all_subsets_are_states() {
    for writes in 0..=10 {
        let mut disk = disk();
        disk.start_recording();
        (0..writes).for_each(|at| drop(write(&mut disk, at, 1, 1, false)));
        let states = all_states(&mut disk, 10);
        assert_eq!(states.len(), 1 << writes);
        assert_eq!(states.iter().collect::<BTreeSet<_>>().len(), 1 << writes);
    }
}

#[test]
fn above_ten_writes_the_named_families_are_states() {
    let writes = 14;
    let mut disk = disk();
    disk.start_recording();
    (0..writes).for_each(|at| drop(write(&mut disk, at, 1, 1, false)));
    let states = all_states(&mut disk, writes);
    let pairs = writes * (writes - 1) / 2;
    assert_eq!(states.len() as u64, writes + pairs + (writes - 1) + (writes - 3) + 200);
    let distinct: BTreeSet<_> = states.iter().cloned().collect();
    let width = writes as usize;
    let omitting = |lost: &[usize]| {
        let mut state = vec![1; width];
        lost.iter().for_each(|&at| state[at] = 0);
        state
    };
    for one in 0..width {
        assert!(distinct.contains(&omitting(&[one])));
        (0..width).for_each(|two| assert!(distinct.contains(&omitting(&[one, two]))));
    }
    for length in 0..=width {
        assert!(distinct.contains(&omitting(&(length..width).collect::<Vec<_>>())));
        assert!(distinct.contains(&omitting(&(0..length).collect::<Vec<_>>())));
    }
    let named = states.len() - 200;
    assert_eq!(states[..named].iter().collect::<BTreeSet<_>>().len(), named, "named ones are distinct");
}

#[test]
fn writes_of_several_sectors_are_torn_within_the_epoch() {
    let mut disk = disk();
    disk.start_recording();
    write(&mut disk, 0, 4, 1, false);
    write(&mut disk, 4, 1, 2, false);
    let states = all_states(&mut disk, 5);
    // Four subsets; four tears, each with the later write lost and kept.
    assert_eq!(states.len(), 4 + 8);
    for torn in [[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 0]] {
        for later in [0, 2] {
            assert!(states.contains(&[&torn[..], &[later]].concat()), "{torn:?} {later}");
        }
    }
}

#[test]
fn a_forced_write_is_the_newest_content_of_its_sectors() {
    let mut disk = disk();
    disk.start_recording();
    write(&mut disk, 0, 2, 1, false);
    write(&mut disk, 0, 1, 2, true);
    write(&mut disk, 1, 1, 3, false);
    let distinct: BTreeSet<_> = all_states(&mut disk, 2).into_iter().collect();
    // Before the forced write is answered sector 0 may hold anything older; afterwards only 2.
    let before = [[0, 0], [1, 1], [1, 0], [0, 1]].map(|state| state.to_vec());
    let after = [[2, 0], [2, 1], [2, 3]].map(|state| state.to_vec());
    assert_eq!(distinct, before.into_iter().chain(after).collect());

    for seed in 0..200 {
        let mut disk = self::disk();
        write(&mut disk, 0, 2, 1, false);
        write(&mut disk, 0, 1, 2, true);
        disk.cut(Seed(seed), None).unwrap();
        assert_eq!(fills(&disk, 1), [2]);
    }
}

#[test]
fn a_discard_may_be_lost_or_kept() {
    let left = |seed| {
        let mut disk = disk();
        write(&mut disk, 0, 2, 1, false);
        flush(&mut disk);
        let range = SectorRange::new(0, 2).unwrap();
        let content = Content::Zeroes;
        let request = Request::Change { kind: ChangeKind::Discard, range, content, forced: false };
        disk.serve(request, disk.next_entry()).unwrap();
        // Something to lose, so that keeping the discard is no reason to draw again.
        write(&mut disk, 8, 1, 1, false);
        disk.cut(Seed(seed), None).unwrap();
        fills(&disk, 2)
    };
    let distinct: BTreeSet<_> = (0..100).map(left).collect();
    assert_eq!(distinct, BTreeSet::from([vec![0, 0], vec![1, 1]]));
}

#[test]
fn a_cut_that_loses_nothing_is_drawn_again() {
    let mut redrawn = 0;
    for seed in 0..200 {
        let mut disk = disk();
        write(&mut disk, 0, 1, 1, false);
        let report = disk.cut(Seed(seed), None).unwrap();
        assert_eq!((report.dropped_writes, report.lost_sectors), (1, 1));
        assert_eq!(fills(&disk, 1), [0]);
        redrawn += u64::from(report.redraws > 0);
    }
    assert!((20..180).contains(&redrawn), "{redrawn} of 200 drawn again");

    let mut disk = disk();
    write(&mut disk, 0, 1, 1, true);
    let report = disk.cut(Seed(1), None).unwrap();
    assert_eq!((report.completed_volatile, report.redraws, report.lost_sectors), (0, 0, 0));
}

#[test]
fn a_lost_write_under_a_surviving_newer_one_is_no_loss() {
    for seed in 0..200 {
        let mut disk = disk();
        write(&mut disk, 0, 1, 1, false);
        write(&mut disk, 0, 1, 2, false);
        disk.cut(Seed(seed), None).unwrap();
        assert_ne!(fills(&disk, 1), [2], "nothing that the guest could see was lost");
    }
}

#[test]
fn lies_lose_what_an_honest_disk_keeps() {
    let is_lost = |lie: Lie, forced: bool, seed| {
        let mut disk = disk();
        disk.set_lie(lie);
        write(&mut disk, 0, 1, 1, forced);
        if !forced {
            flush(&mut disk);
        }
        disk.cut(Seed(seed), None).unwrap();
        fills(&disk, 1) == [0]
    };
    for (lie, flush_lost, forced_lost) in [
        (Lie::None, false, false),
        (Lie::Flush, true, false),
        (Lie::ForcedWrite, false, true),
        (Lie::All, true, true),
        (Lie::OneFlushAfter(0), true, false),
        (Lie::OneFlushAfter(1), false, false),
    ] {
        for seed in 0..20 {
            assert_eq!(is_lost(lie, false, seed), flush_lost, "{lie:?}, flushed");
            assert_eq!(is_lost(lie, true, seed), forced_lost, "{lie:?}, forced");
        }
    }
}

#[test]
fn an_armed_cut_waits_for_its_moment_and_for_something_to_lose() {
    let mut disk = disk();
    disk.arm_cut(Some(ArmedCut::new(Seed(5), CutMoment::AtChange(2))));
    assert!(matches!(write(&mut disk, 0, 1, 1, true), Outcome::Done));
    assert!(matches!(write(&mut disk, 1, 1, 1, true), Outcome::Done), "nothing to lose yet");
    assert!(matches!(write(&mut disk, 2, 1, 1, false), Outcome::Done), "nothing answered to lose");
    assert!(matches!(write(&mut disk, 3, 1, 1, false), Outcome::PowerGoes(Seed(5))));

    let mut disk = self::disk();
    disk.arm_cut(Some(ArmedCut::new(Seed(6), CutMoment::AfterLie)));
    disk.set_lie(Lie::OneFlushAfter(1));
    for expected_to_go in [false, false, true] {
        write(&mut disk, 0, 1, 1, false);
        assert_eq!(matches!(flush(&mut disk), Outcome::PowerGoes(_)), expected_to_go);
    }
}

#[test]
fn a_full_cache_empties_itself_and_says_so() {
    let options = DiskOptions { cache_bytes: 4096, ..DiskOptions::default() };
    let mut disk = Disk::in_memory(SECTORS * 512, options);
    (0..9).for_each(|at| drop(write(&mut disk, at, 1, 1, false)));
    write(&mut disk, 9, 1, 1, false);
    assert_eq!((disk.counters().total().cache_full, disk.counters().total().flushes), (1, 0));
    disk.cut(Seed(1), None).unwrap();
    assert_eq!(fills(&disk, 10), [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn states_and_kept_images_do_not_see_what_is_written_to_others() {
    let mut disk = disk();
    disk.start_recording();
    write(&mut disk, 0, 1, 1, false);
    write(&mut disk, 1, 1, 2, false);
    disk.close_recording();
    disk.offer_state(StateNumber(3)).unwrap();
    write(&mut disk, 0, 2, 9, false);
    flush(&mut disk);
    let kept = disk.keep().unwrap();
    disk.offer_state(StateNumber(3)).unwrap();
    assert_eq!(fills(&disk, 2), [1, 2]);
    disk.offer_state(StateNumber(0)).unwrap();
    write(&mut disk, 0, 2, 8, true);
    flush(&mut disk);
    disk.offer_kept(kept).unwrap();
    assert_eq!(fills(&disk, 2), [9, 9]);
    // What is forced is durable before any flush, what is volatile is not.
    write(&mut disk, 0, 1, 6, true);
    write(&mut disk, 1, 1, 5, false);
    let kept = disk.keep().unwrap();
    disk.offer_kept(kept).unwrap();
    assert_eq!(fills(&disk, 2), [6, 9]);
    disk.reset().unwrap();
    assert_eq!(fills(&disk, 2), [0, 0]);
    assert!(matches!(disk.offer_kept(7), Err(DiskError::NoSuch(_))));
}

#[test]
fn a_recording_in_a_file_has_the_same_states() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let mut disk = disk();
    write(&mut disk, 100, 3, 7, false);
    disk.mark("before");
    flush(&mut disk);
    disk.start_recording();
    write(&mut disk, 0, 3, 1, false);
    write(&mut disk, 3, 2, 2, true);
    disk.mark("forced");
    write(&mut disk, 4, 3, 3, false);
    flush(&mut disk);
    write(&mut disk, 0, 1, 4, false);
    disk.close_recording();
    recording_file::save(disk.recording().unwrap(), &path).unwrap();

    let mut loaded = self::disk();
    loaded.load_recording(recording_file::load(&path).unwrap());
    assert_eq!(loaded.crash_states().unwrap(), disk.crash_states().unwrap());
    let states = disk.crash_states().unwrap().0;
    assert!(states > 20);
    for state in (0..states).map(StateNumber) {
        let description = disk.offer_state(state).unwrap();
        assert_eq!(loaded.offer_state(state).unwrap().choice, description.choice);
        assert_eq!(fills(&loaded, 128), fills(&disk, 128));
        assert_eq!(loaded.marks(), disk.marks());
    }
    std::fs::write(&path, b"cairnfs-record-0").unwrap();
    assert!(recording_file::load(&path).is_err());
}

#[test]
fn a_checkpoint_forgets_history_and_keeps_marks() {
    let mut disk = disk();
    disk.start_recording();
    write(&mut disk, 0, 1, 1, false);
    disk.mark("one");
    flush(&mut disk);
    disk.start_recording();
    write(&mut disk, 1, 1, 2, false);
    disk.mark("two");
    flush(&mut disk);
    assert_eq!(disk.marks().len(), 2);
    assert_eq!(all_states(&mut disk, 2), [[1, 0], [1, 2], [1, 2]]);
    disk.offer_state(StateNumber(2)).unwrap();
    assert_eq!(disk.marks().len(), 2);
}

#[test]
fn a_mark_without_power_is_forgotten() {
    let mut disk = disk();
    disk.mark("before");
    write(&mut disk, 0, 1, 1, false);
    disk.cut(Seed(1), []).unwrap();
    disk.mark("in the dark");
    assert!(disk.connect().is_some());
    disk.mark("after");
    let marks: Vec<String> = disk.marks().iter().map(ToString::to_string).collect();
    assert_eq!(marks, ["before", "after"]);
}
