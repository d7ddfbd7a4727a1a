//! One disk: a medium, the log of what no flush has covered yet, and everything that is asked of it.
//!
//! A change is logged and put into the cache; the medium itself changes only when a flush settles
//! part of the log, when a power cut decides about it, or when another state is offered. Each of
//! the last two begins a new *life* of the disk: connections of an earlier life get no answer any
//! more, because a running guest must never see the medium change under it.
//!
//! Locking: a disk sits behind one mutex of the server, held while a request is served and its
//! price waited for. That is the disk's one queue.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::counters::{Counters, Counts};
use crate::crash_state::{EpochStates, Examiner, Recording, StateDescription};
use crate::epoch_log::{Change, ChangeKind, Durability, EpochLog, Event};
use crate::extent_map::Content;
use crate::image::Image;
use crate::lies::Lie;
use crate::power_cut::{decide, ArmedCut, CutReport};
use crate::prices::{Prices, Queue};
use crate::survival::is_safe;
use crate::units::{EntryNumber, SectorRange, Seed, StateNumber, SECTOR_BYTES};
use crate::volatile_cache::VolatileCache;

/// What a request or command can fail with.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The request reaches past the end.
    #[error("the request reaches past the end of the disk")]
    OutOfRange,
    /// The export is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host failed.
    #[error("the host: {0}")]
    Host(#[from] io::Error),
    /// There is nothing to examine.
    #[error("no recording: `record on` comes first")]
    NoRecording,
    /// The state or kept image does not exist.
    #[error("there is no {0}")]
    NoSuch(String),
    /// The disk has no pristine image to go back to.
    #[error("only a disk in memory or with `cow` can be reset")]
    NotResettable,
}

/// What a guest asks.
#[derive(Debug)]
pub enum Request {
    /// Read a range.
    Read(SectorRange),
    /// Change a range; forced or not.
    Change {
        /// What kind of change.
        kind: ChangeKind,
        /// Where.
        range: SectorRange,
        /// To what.
        content: Content,
        /// Whether it must be durable when answered.
        forced: bool,
    },
    /// Make durable what has been answered.
    Flush,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is done; these are the bytes.
    Data(Vec<u8>),
    /// The power goes instead of an answer: the server must cut all disks, from this seed.
    PowerGoes(Seed),
}

/// How a disk is set up.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the export says that it knows FUA.
    pub advertises_fua: bool,
    /// Written bytes after which the disk empties its cache unasked.
    pub cache_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { read_only: false, advertises_fua: true, cache_bytes: 1 << 30 }
    }
}

/// A state of the medium that a command set aside.
#[derive(Debug)]
struct KeptState {
    image: Image,
    marks: Vec<Arc<str>>,
}

/// What was there when a recording began.
#[derive(Debug)]
struct RecordingStart {
    base: Image,
    earlier_marks: Vec<Arc<str>>,
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    options: DiskOptions,
    medium: Image,
    pristine: Option<Image>,
    log: EpochLog,
    cache: VolatileCache,
    /// Marks of earlier lives that led to the state of this one.
    earlier_marks: Vec<Arc<str>>,
    life: u64,
    /// From a power cut until the power is back.
    is_dark: bool,
    /// Somebody has to bring the power back; else it comes with the next connection.
    is_power_held: bool,
    recording_start: Option<RecordingStart>,
    examiner: Option<Examiner>,
    kept: Vec<KeptState>,
    counters: Counters,
    prices: Prices,
    queue: Queue,
    lie: Lie,
    lied_to_a_flush: bool,
    armed_cut: Option<ArmedCut>,
    last_cut: Option<CutReport>,
}

impl Disk {
    /// A disk over a medium; `pristine` is what a reset goes back to.
    pub fn new(medium: Image, pristine: Option<Image>, options: DiskOptions) -> Self {
        Self {
            options,
            medium,
            pristine,
            log: EpochLog::default(),
            cache: VolatileCache::default(),
            earlier_marks: Vec::new(),
            life: 0,
            is_dark: false,
            is_power_held: false,
            recording_start: None,
            examiner: None,
            kept: Vec::new(),
            counters: Counters::default(),
            prices: Prices::default(),
            queue: Queue::default(),
            lie: Lie::None,
            lied_to_a_flush: false,
            armed_cut: None,
            last_cut: None,
        }
    }

    /// A disk of zeroes in memory.
    pub fn in_memory(size_bytes: u64, options: DiskOptions) -> Self {
        Self::new(Image::zeroes(size_bytes), Some(Image::zeroes(size_bytes)), options)
    }

    /// The medium's size.
    pub fn size_bytes(&self) -> u64 {
        self.medium.size_bytes()
    }

    /// How it was set up.
    pub fn options(&self) -> DiskOptions {
        self.options
    }

    /// Says from the next connection on that FUA is known, or not.
    pub fn set_advertises_fua(&mut self, advertises_fua: bool) {
        self.options.advertises_fua = advertises_fua;
    }

    /// The current life; a connection belongs to the one in which it began.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Somebody connects: after a cut, the power is back. Returns the current life, or nothing if the power is held.
    pub fn connect(&mut self) -> Option<u64> {
        self.is_dark &= self.is_power_held;
        (!self.is_dark).then_some(self.life)
    }

    /// Whether the power, once gone, stays away until this is called with `false`. Otherwise who reconnects by itself, as
    /// QEMU does at its guest's next request, would go on writing after the cut.
    pub fn hold_power(&mut self, is_held: bool) {
        self.is_power_held = is_held;
        self.is_dark &= is_held;
    }

    /// The number of the next log entry: all before it have been answered.
    pub fn next_entry(&self) -> EntryNumber {
        self.log.next_number()
    }

    /// Serves a request. `answered_before` is what `next_entry` was when the request arrived: a
    /// flush covers entries before it and no others.
    pub fn serve(&mut self, request: Request, answered_before: EntryNumber) -> Result<Outcome, DiskError> {
        match request {
            Request::Read(range) => self.read(range),
            Request::Flush => self.flush(answered_before),
            Request::Change { kind, range, content, forced } => {
                self.check_range(range)?;
                if self.options.read_only {
                    return Err(DiskError::ReadOnly);
                }
                let told = !(forced && self.lie.tells_of_forced_write());
                let durability = if forced && told { Durability::Forced } else { Durability::Volatile };
                let change = Change { range, content, kind, durability, completed: true };
                self.change(change, forced, answered_before)
            }
        }
    }

    fn check_range(&self, range: SectorRange) -> Result<(), DiskError> {
        let sectors = self.size_bytes() / SECTOR_BYTES;
        if range.end() > sectors {
            return Err(DiskError::OutOfRange);
        }
        Ok(())
    }

    fn read(&mut self, range: SectorRange) -> Result<Outcome, DiskError> {
        self.check_range(range)?;
        let mut bytes = vec![0; range.length_bytes() as usize];
        self.cache.read(&self.medium, range, &mut bytes)?;
        let charged_ns = self.prices.read_ns;
        self.counters.add(&Counts {
            reads: 1,
            read_bytes: range.length_bytes(),
            charged_ns,
            ..Counts::default()
        });
        self.queue.charge(charged_ns);
        Ok(Outcome::Data(bytes))
    }

    fn change(
        &mut self,
        mut change: Change,
        forced: bool,
        answered_before: EntryNumber,
    ) -> Result<Outcome, DiskError> {
        let mut counts = self.count_change(&change, forced);
        counts.overlapping_in_flight = u64::from(self.overlaps_unanswered(&change, answered_before));
        self.counters.add(&counts);
        let can_lose = self.can_lose();
        if let Some(cut) = &mut self.armed_cut {
            if cut.is_due_at_change(can_lose) {
                let seed = cut.seed;
                change.completed = false;
                self.log.push(Event::Change(change));
                return Ok(Outcome::PowerGoes(seed));
            }
        }
        self.queue.charge(counts.charged_ns);
        self.cache.put(&change);
        self.log.push(Event::Change(change));
        if self.cache.bytes() > self.options.cache_bytes {
            self.empty_full_cache()?;
        }
        Ok(Outcome::Done)
    }

    fn count_change(&self, change: &Change, forced: bool) -> Counts {
        let bytes = change.range.length_bytes();
        let mut counts = Counts::default();
        match change.kind {
            ChangeKind::Write => {
                (counts.writes, counts.write_bytes) = (1, bytes);
                if forced {
                    (counts.fua_writes, counts.fua_bytes) = (1, bytes);
                }
                counts.charged_ns = self.prices.of_write(bytes, forced);
            }
            ChangeKind::WriteZeroes => {
                (counts.write_zeroes, counts.write_zeroes_bytes) = (1, bytes);
                counts.charged_ns = self.prices.of_write(0, forced);
            }
            ChangeKind::Discard => (counts.discards, counts.discard_bytes) = (1, bytes),
        }
        counts.lied_fua_writes = u64::from(forced && change.is_volatile());
        counts
    }

    /// Whether an older change of some of the sectors was unanswered when this one arrived.
    fn overlaps_unanswered(&self, change: &Change, answered_before: EntryNumber) -> bool {
        let newest_first = self.log.pending().iter().rev();
        newest_first
            .take_while(|entry| entry.number >= answered_before)
            .filter_map(|entry| entry.change())
            .any(|older| older.range.intersection(change.range).is_some())
    }

    fn can_lose(&self) -> bool {
        self.log.pending_changes().any(Change::is_volatile)
    }

    /// A full cache writes itself back, as a real one does: an honest flush that nobody asked for.
    fn empty_full_cache(&mut self) -> Result<(), DiskError> {
        self.counters.add(&Counts { cache_full: 1, ..Counts::default() });
        self.end_epoch(self.log.next_number())
    }

    fn flush(&mut self, answered_before: EntryNumber) -> Result<Outcome, DiskError> {
        let can_lose = self.can_lose();
        let is_lie = self.lie.tells_of_flush(can_lose);
        let charged_ns = self.prices.flush_ns;
        self.counters.add(&Counts {
            flushes: 1,
            lied_flushes: u64::from(is_lie),
            charged_ns,
            ..Counts::default()
        });
        let lied_before = self.lied_to_a_flush;
        if let Some(cut) = &mut self.armed_cut {
            if cut.is_due_at_flush(is_lie, lied_before, can_lose) {
                return Ok(Outcome::PowerGoes(cut.seed));
            }
        }
        self.queue.charge(charged_ns);
        if is_lie {
            self.lied_to_a_flush = true;
            self.log.push(Event::Flush { covers_before: answered_before, honest: false });
        } else {
            self.lied_to_a_flush = false;
            self.end_epoch(answered_before)?;
        }
        Ok(Outcome::Done)
    }

    fn end_epoch(&mut self, covers_before: EntryNumber) -> Result<(), DiskError> {
        self.log.push(Event::Flush { covers_before, honest: true });
        let medium = &mut self.medium;
        let settle = |change: &Change| medium.write(change.range, change.content.clone());
        self.log.settle(covers_before, settle)?;
        self.cache.rebuild(&self.log);
        self.counters.end_epoch();
        Ok(())
    }

    /// Puts a mark into the log. One that comes after a cut and before the power is back is forgotten: a call that
    /// returns then, because it wanted nothing of the disk or did not notice, has promised nothing.
    pub fn mark(&mut self, text: &str) {
        if !self.is_dark {
            self.log.push(Event::Mark(Arc::from(text)));
        }
    }

    /// All marks that led to the present state, those of earlier lives included.
    pub fn marks(&self) -> Vec<Arc<str>> {
        let mut marks = self.earlier_marks.clone();
        marks.extend(self.log.marks());
        marks
    }

    /// Cuts the power. `in_flight` are changes that had arrived and were not served yet.
    pub fn cut(
        &mut self,
        seed: Seed,
        in_flight: impl IntoIterator<Item = Change>,
    ) -> Result<CutReport, DiskError> {
        for change in in_flight {
            if self.check_range(change.range).is_ok() && !self.options.read_only {
                self.log.push(Event::Change(Change { completed: false, ..change }));
            }
        }
        let marks = self.marks();
        let changes: Vec<&Change> = self.log.pending_changes().collect();
        let (fates, report) = decide(seed, &changes);
        for (change, fate) in changes.iter().zip(&fates) {
            for (range, content) in fate.surviving_parts(change) {
                self.medium.write(range, content)?;
            }
        }
        self.close_recording();
        self.begin_life(marks);
        self.is_dark = true;
        self.last_cut = Some(report.clone());
        Ok(report)
    }

    /// Everything volatile is gone; the medium is as the caller left it.
    fn begin_life(&mut self, earlier_marks: Vec<Arc<str>>) {
        self.log.clear();
        self.cache.rebuild(&self.log);
        self.earlier_marks = earlier_marks;
        self.armed_cut = None;
        self.lied_to_a_flush = false;
        self.is_dark = false;
        self.life += 1;
    }

    /// The last power cut of this disk.
    pub fn last_cut(&self) -> Option<&CutReport> {
        self.last_cut.as_ref()
    }

    /// Arms a cut, or disarms the one that waits.
    pub fn arm_cut(&mut self, cut: Option<ArmedCut>) {
        self.armed_cut = cut;
    }

    /// Whether a cut waits for its moment.
    pub fn has_armed_cut(&self) -> bool {
        self.armed_cut.is_some()
    }

    /// Begins to lie, or stops.
    pub fn set_lie(&mut self, lie: Lie) {
        self.lie = lie;
        self.lied_to_a_flush = false;
    }

    /// What it lies about.
    pub fn lie(&self) -> Lie {
        self.lie
    }

    /// The price list.
    pub fn prices_mut(&mut self) -> &mut Prices {
        &mut self.prices
    }

    /// The counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Starts counting again.
    pub fn reset_counters(&mut self) {
        self.counters.reset();
    }

    /// Begins a recording here; an earlier one is forgotten. With one running already this is a
    /// checkpoint: history starts anew.
    pub fn start_recording(&mut self) {
        self.examiner = None;
        self.earlier_marks.extend(self.log.truncate(true));
        let earlier_marks = self.earlier_marks.clone();
        self.recording_start = Some(RecordingStart { base: self.medium.snapshot(), earlier_marks });
    }

    /// Ends the recording; its states stay.
    pub fn close_recording(&mut self) {
        if let Some(RecordingStart { base, earlier_marks }) = self.recording_start.take() {
            let entries = self.log.entries().cloned().collect();
            let recording = Recording { base, earlier_marks, entries };
            self.examiner = Some(Examiner::new(recording, Seed(0)));
            self.earlier_marks.extend(self.log.truncate(false));
        }
    }

    /// Whether a recording is running.
    pub fn is_recording(&self) -> bool {
        self.log.keeps_history()
    }

    /// Takes a recording from elsewhere and serves its base image.
    pub fn load_recording(&mut self, mut recording: Recording) {
        self.recording_start = None;
        self.medium = recording.base.snapshot();
        self.examiner = Some(Examiner::new(recording, Seed(0)));
        self.begin_life(Vec::new());
    }

    fn examiner(&mut self) -> Result<&mut Examiner, DiskError> {
        self.examiner.as_mut().ok_or(DiskError::NoRecording)
    }

    /// The closed recording.
    pub fn recording(&mut self) -> Result<&Recording, DiskError> {
        Ok(self.examiner()?.recording())
    }

    /// How many crash states the closed recording has, and where.
    pub fn crash_states(&mut self) -> Result<(u64, Vec<EpochStates>), DiskError> {
        let examiner = self.examiner()?;
        Ok((examiner.states(), examiner.epochs()))
    }

    /// Serves a crash state from the next connection on, copy on write.
    pub fn offer_state(&mut self, state: StateNumber) -> Result<StateDescription, DiskError> {
        let examiner = self.examiner()?;
        let missing = || DiskError::NoSuch(format!("state {state}"));
        let description = examiner.describe(state).ok_or_else(missing)?;
        let marks = examiner.marks(state);
        let image = examiner.build(state)?.ok_or_else(missing)?;
        self.medium = image;
        self.begin_life(marks);
        Ok(description)
    }

    /// Sets the durable state aside, with the marks that led to it; changes that are volatile are
    /// not part of it.
    pub fn keep(&mut self) -> Result<usize, DiskError> {
        let (image, marks) = (self.durable_image()?, self.marks());
        self.kept.push(KeptState { image, marks });
        Ok(self.kept.len() - 1)
    }

    /// Serves a kept state from the next connection on, copy on write.
    pub fn offer_kept(&mut self, index: usize) -> Result<(), DiskError> {
        let missing = || DiskError::NoSuch(format!("kept state {index}"));
        let kept = self.kept.get_mut(index).ok_or_else(missing)?;
        self.medium = kept.image.snapshot();
        let marks = kept.marks.clone();
        self.close_recording();
        self.begin_life(marks);
        Ok(())
    }

    /// Goes back to the image that the disk began with.
    pub fn reset(&mut self) -> Result<(), DiskError> {
        self.medium = self.pristine.as_mut().ok_or(DiskError::NotResettable)?.snapshot();
        self.close_recording();
        self.begin_life(Vec::new());
        Ok(())
    }

    /// The medium, as flushes have left it.
    pub fn medium(&self) -> &Image {
        &self.medium
    }

    /// What the power's going would certainly leave: the medium with the forced changes since the last flush.
    pub fn durable_image(&mut self) -> Result<Image, DiskError> {
        let mut image = self.medium.snapshot();
        for change in self.log.pending_changes().filter(|change| is_safe(change)) {
            image.write(change.range, change.content.clone())?;
        }
        Ok(image)
    }

    /// An orderly end: what is volatile becomes durable, and the disk's own file gets everything.
    pub fn shut_down(&mut self) -> Result<(), DiskError> {
        self.end_epoch(self.log.next_number())?;
        Ok(self.medium.write_back()?)
    }
}
