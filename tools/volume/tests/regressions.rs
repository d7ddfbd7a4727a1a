// SPDX-License-Identifier: GPL-2.0

//! What the crash enumerator and reviews found, one small test for each.

use cairnfs_core::device::Device;
use cairnfs_core::error::{Check, Corruption, Error, Result};
use cairnfs_core::format::journal::JournalHeader;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::NewInode;
use cairnfs_core::make::{self, Identity, Plan, Request};
use cairnfs_core::operation::data::Progress;
use cairnfs_core::space::choose::Groups;
use cairnfs_core::units::{BlockNo, BlockRun, InodeNo, BLOCK_BYTES};
use cairnfs_device::{MemoryDevice, StdPlatform};
use cairnfs_volume::{RecordDevice, Volume};

const ROOT: InodeNo = InodeNo(2);

fn made(platform: &StdPlatform) -> MemoryDevice {
    let device = MemoryDevice::new(16_384);
    let request = Request {
        available_blocks: 16_384,
        physical_block_bytes: 512,
        journal_bytes: None,
        group_bytes: None,
        bytes_per_inode: None,
    };
    let plan = Plan::new(&request).expect("a plan");
    let identity = Identity { uuid: [7; 16], label: [0; 64], hash_key: [3; 16], created_ns: 1 };
    make::write(&device, platform, &plan, &identity, &mut |_| {}).expect("written");
    device
}

fn file() -> NewInode {
    NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 }
}

/// A commit with nothing new to write returned at once although earlier records had been written only, not flushed: `sync`
/// promised what a power cut could take.
#[test]
fn a_commit_makes_durable_what_an_earlier_one_has_only_written() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    volume.create(ROOT, b"file", &file(), None).unwrap();
    let lazy = volume.begin_commit(false).unwrap().expect("a commit");
    volume.write_commit(&lazy).unwrap();
    volume.end_commit(lazy, Ok(())).unwrap();
    let journal = volume.journal();
    assert!(journal.stable_transaction().next() < journal.running_transaction());
    drop(journal);
    volume.commit().unwrap();
    let journal = volume.journal();
    assert_eq!(journal.stable_transaction().next(), journal.running_transaction());
}

/// A file was made over another one whose bit in the bitmap of inodes was clear.
#[test]
fn a_used_inode_whose_bit_is_clear_is_not_given_out() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    let (number, _) = volume.create(ROOT, b"file", &file(), None).unwrap();
    let place = Groups::geometry(&volume).locate_inode(number).unwrap();
    volume.with_group(place.group, &mut |group| group.release_inode(place.index)).unwrap();
    let wrong = Error::Corrupt(Corruption::new(Check::Bitmap, place.block, 0, 0o100_644));
    assert_eq!(volume.create(ROOT, b"other", &file(), None).map(drop), Err(wrong));
    assert!(volume.lookup(ROOT, b"other").unwrap().is_none());
    assert_eq!(volume.read_inode(number).unwrap().core.mode, 0o100_644);
}

/// A block that was changed, committed and then freed while a home write of it was under way kept its last record needed for
/// ever: the tail never moved again, and unmount failed.
#[test]
fn a_block_freed_under_a_home_write_lets_go_of_its_record() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    let name = |number: usize| format!("{number:0>200}").into_bytes();
    let (number, _) = volume.create(ROOT, b"file", &file(), None).unwrap();
    for link in 0..40 {
        volume.link(number, ROOT, &name(link)).unwrap();
    }
    volume.commit().unwrap();
    let homes = volume.write_home(usize::MAX).unwrap();
    for link in 40..60 {
        volume.link(number, ROOT, &name(link)).unwrap();
    }
    volume.commit().unwrap();
    for link in 0..60 {
        volume.unlink(ROOT, &name(link)).unwrap();
    }
    volume.commit().unwrap();
    volume.settle_home(&homes).unwrap();
    volume.unmount().unwrap();
}

/// After mount one header copy still said "clean": had the other one been damaged, a journal full of acknowledged records would
/// have passed for an empty one.
#[test]
fn no_header_copy_says_clean_while_mounted() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    volume.create(ROOT, b"file", &file(), None).unwrap();
    volume.commit().unwrap();
    let geometry = *volume.layout();
    drop(volume);
    let mut bytes = vec![0; BLOCK_BYTES];
    let mut newest = (0, BlockNo(0));
    for block in [geometry.journal_start, geometry.journal_start.next()] {
        device.read(block, &mut bytes).unwrap();
        let header = JournalHeader::read(&platform, &bytes, geometry.filesystem_id, block).unwrap();
        newest = newest.max((header.counter, block));
    }
    device.write(newest.1, &[0xFF; BLOCK_BYTES]).unwrap();
    let volume = Volume::mount(&device, &platform).unwrap();
    assert!(volume.lookup(ROOT, b"file").unwrap().is_some());
}

/// A file that grows again while a truncation of it is unfinished must not show what was cut off.
#[test]
fn growing_over_an_unfinished_truncation_shows_zeros() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    let (first, _) = volume.create(ROOT, b"first", &file(), None).unwrap();
    for block in 0..40_u64 {
        volume.write_at(first, block * 2 * 4096, &[7; 4096]).unwrap();
    }
    let (progress, _) = volume.start_truncate(first, 0).unwrap();
    assert_eq!(progress, Progress::More, "the test needs a truncation of several steps");
    volume.truncate(first, 400_000).unwrap();
    assert!(volume.read_all(first).unwrap().iter().all(|byte| *byte == 0));

    let (second, _) = volume.create(ROOT, b"second", &file(), None).unwrap();
    for block in 0..40_u64 {
        volume.write_at(second, block * 2 * 4096, &[7; 4096]).unwrap();
    }
    let (progress, _) = volume.start_truncate(second, 0).unwrap();
    assert_eq!(progress, Progress::More);
    volume.commit().unwrap();
    drop(volume);
    let volume = Volume::mount(&device, &platform).unwrap();
    volume.write_at(second, 300_000, b"x").unwrap();
    let content = volume.read_all(second).unwrap();
    assert!(content[..300_000].iter().all(|byte| *byte == 0), "the crash came between two steps");
    volume.unmount().unwrap();
}

/// A device whose flushes fail.
struct NoFlush<'d>(&'d MemoryDevice);

impl Device for NoFlush<'_> {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        self.0.read(start, out)
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.0.write(start, bytes)
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.0.write_durably(start, bytes)
    }

    fn flush(&self) -> Result {
        Err(Error::Io(BlockNo(9)))
    }

    fn zero(&self, run: BlockRun) -> Result {
        self.0.zero(run)
    }
}

impl RecordDevice for NoFlush<'_> {
    fn write_sectors(&self, start_byte: u64, bytes: &[u8], durably: bool) -> Result {
        self.0.write_sectors(start_byte, bytes, durably)
    }
}

/// An operation that had been done was reported as failed when the commit behind it failed: its caller would have done it twice.
#[test]
fn an_operation_is_not_blamed_for_the_commit_behind_it() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let device = NoFlush(&device);
    let volume = Volume::mount(&device, &platform).unwrap();
    let mut done = 0;
    while volume.journal().error().is_none() {
        volume.create(ROOT, format!("file {done}").as_bytes(), &file(), None).unwrap();
        done += 1;
    }
    assert!(done > 100, "the commit came after {done} operations");
    assert_eq!(volume.create(ROOT, b"another", &file(), None), Err(Error::ShutDown));
    assert_eq!(volume.commit(), Err(Error::ShutDown), "who waits for a commit hears of it");
    assert_eq!(volume.entries(ROOT).unwrap().len(), done);
}

/// A thread that has begun a commit and not ended it would wait for itself.
#[test]
fn a_commit_that_this_thread_has_begun_is_not_waited_for() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    volume.create(ROOT, b"first", &file(), None).unwrap();
    let first = volume.begin_commit(true).unwrap().expect("a commit");
    volume.create(ROOT, b"second", &file(), None).unwrap();
    assert_eq!(volume.commit(), Err(Error::WouldBlock));
    volume.write_commit(&first).unwrap();
    volume.end_commit(first, Ok(())).unwrap();
    volume.commit().unwrap();
    volume.unmount().unwrap();
}

/// Each block of the orphan index is kept in memory, and looked at by a mount: an index that says to be long must not cost more than
/// the longest that any use makes.
#[test]
fn the_orphan_index_is_no_longer_than_any_use_makes_it() {
    let platform = StdPlatform::new();
    let device = made(&platform);
    let volume = Volume::mount(&device, &platform).unwrap();
    volume.truncate(InodeNo(1), 1 << 50).unwrap();
    volume.unmount().unwrap();
    let outcome = Volume::mount(&device, &platform).map(drop);
    let refused = matches!(outcome, Err(Error::Corrupt(Corruption { check: Check::OrphanSlot, .. })));
    assert!(refused, "{outcome:?}");
}
