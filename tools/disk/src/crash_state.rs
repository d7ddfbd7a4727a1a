//! Crash states: every image that a power cut during a recording could have left.
//!
//! A recording is a base image and a log. A cut happens at some moment of some epoch, and the rules
//! of `survival` say what it can leave. All there is to enumerate are the moments and the fates:
//!
//! * Moments: the end of the epoch (its flush is not answered yet), and just before each forced
//!   write is answered. Any other moment leaves a subset of one of these, with fewer marks before
//!   it, so promises less.
//! * Fates of the k changes that are volatile at that moment: all 2^k subsets for k up to ten.
//!   Above that all of them, none, every omission of one and of two, every prefix and suffix, and
//!   200 seeded draws. The forced write in flight is lost in all of these: that it survived is a
//!   state of a later moment.
//! * Tears: each volatile write of two sectors or more, and the forced one in flight, torn in up to
//!   four ways, once with the later changes lost and once with all others kept.
//!
//! States are numbered epoch by epoch and computed from the number, so that a list of millions of
//! them costs nothing.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::epoch_log::{marks_before, Change, Durability, Entry, Event};
use crate::image::Image;
use crate::survival::{can_tear, draw, is_safe, Survival, Tear};
use crate::units::{EntryNumber, Seed, StateNumber};

/// Up to so many volatile changes, all subsets are states.
const ALL_SUBSETS_UP_TO: usize = 10;
/// Seeded draws of a moment with more volatile changes than that.
const RANDOM_SUBSETS: u64 = 200;
/// Each tear comes with the later changes lost, and with all others kept.
const TEAR_CONTEXTS: u64 = 2;

/// A base image and what happened to it.
#[derive(Debug)]
pub struct Recording {
    /// The medium before the first entry.
    pub base: Image,
    /// Marks that led to the base image.
    pub earlier_marks: Vec<Arc<str>>,
    /// The log.
    pub entries: Vec<Entry>,
}

/// A moment at which the power can go.
#[derive(Clone, Debug)]
struct Moment {
    epoch: u64,
    /// Changes before this number are on the medium for good.
    durable_before: EntryNumber,
    /// The first event that has not happened.
    cut_before: EntryNumber,
    /// The changes that the cut decides about: a range of `Examiner::volatile`.
    volatile: std::ops::Range<usize>,
    /// Index of the forced write that is not answered yet.
    in_flight: Option<usize>,
    first_state: u64,
}

/// One way in which the changes of a moment can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Subset { mask: u64 },
    OmitOne(usize),
    OmitTwo(usize, usize),
    Prefix(usize),
    Suffix(usize),
    Drawn(Seed),
    Torn { index: usize, tear: Tear, keeps_later: bool },
    TornInFlight { tear: Tear, keeps_others: bool },
}

/// What a state is, in words and numbers.
#[derive(Clone, Debug, Serialize)]
pub struct StateDescription {
    /// The epoch in which the power went.
    pub epoch: u64,
    /// The first log entry that had not happened.
    pub cut_before: u64,
    /// How many changes the cut decided about.
    pub volatile: usize,
    /// What it decided.
    pub choice: String,
}

/// An epoch and how many states it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EpochStates {
    /// Its number.
    pub epoch: u64,
    /// Volatile changes at its end.
    pub volatile: usize,
    /// The number of its first state.
    pub first_state: u64,
    /// How many states follow.
    pub states: u64,
}

/// Builds the crash states of a recording.
#[derive(Debug)]
pub struct Examiner {
    recording: Recording,
    /// Indices of the changes that some cut can lose, in order.
    volatile: Vec<usize>,
    /// Tears of the volatile changes before each index of `volatile`, for finding one by number.
    tears_before: Vec<u64>,
    moments: Vec<Moment>,
    states: u64,
    seed: Seed,
    /// The image at the start of the epoch that was used last.
    epoch_start: Option<(EntryNumber, Image)>,
}

impl Examiner {
    /// Lays out the enumeration; the seed is for the random subsets and tears.
    pub fn new(recording: Recording, seed: Seed) -> Self {
        let mut volatile = Vec::new();
        let mut tears_before = vec![0];
        for (index, change) in changes(&recording.entries) {
            if !is_safe(change) {
                volatile.push(index);
                let tears = TEAR_CONTEXTS * tears_of(change, seed).len() as u64;
                tears_before.push(tears_before.last().copied().unwrap_or(0) + tears);
            }
        }
        let mut examiner = Self {
            recording,
            volatile,
            tears_before,
            moments: Vec::new(),
            states: 0,
            seed,
            epoch_start: None,
        };
        examiner.lay_out();
        examiner
    }

    fn lay_out(&mut self) {
        let mut epoch = 0;
        let mut durable_before = EntryNumber::default();
        let mut moments = Vec::new();
        for (index, entry) in self.recording.entries.iter().enumerate() {
            match &entry.event {
                Event::Flush { covers_before, honest: true } => {
                    moments.push((epoch, durable_before, entry.number, None));
                    durable_before = durable_before.max(*covers_before);
                    epoch += 1;
                }
                Event::Change(change) if is_forced_and_answered(change) => {
                    moments.push((epoch, durable_before, entry.number, Some(index)));
                }
                Event::Change(_) | Event::Flush { .. } | Event::Mark(_) => {}
            }
        }
        let end = self.recording.entries.last().map_or(durable_before, |last| last.number.next());
        moments.push((epoch, durable_before, end, None));
        for (epoch, durable_before, cut_before, in_flight) in moments {
            let first_at = |number: EntryNumber| {
                self.volatile.partition_point(|&at| self.recording.entries[at].number < number)
            };
            let moment = Moment {
                epoch,
                durable_before,
                cut_before,
                volatile: first_at(durable_before)..first_at(cut_before),
                in_flight,
                first_state: self.states,
            };
            self.states += self.states_of(&moment);
            self.moments.push(moment);
        }
    }

    /// How many states there are.
    pub fn states(&self) -> u64 {
        self.states
    }

    /// The epochs in order.
    pub fn epochs(&self) -> Vec<EpochStates> {
        let mut epochs: Vec<EpochStates> = Vec::new();
        for moment in &self.moments {
            let states = self.states_of(moment);
            match epochs.last_mut() {
                Some(last) if last.epoch == moment.epoch => {
                    last.states += states;
                    last.volatile = moment.volatile.len();
                }
                _ => epochs.push(EpochStates {
                    epoch: moment.epoch,
                    volatile: moment.volatile.len(),
                    first_state: moment.first_state,
                    states,
                }),
            }
        }
        epochs
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    fn states_of(&self, moment: &Moment) -> u64 {
        subsets_of(moment.volatile.len() as u64)
            + self.tears_in(moment)
            + TEAR_CONTEXTS * self.in_flight_tears(moment).len() as u64
    }

    fn tears_in(&self, moment: &Moment) -> u64 {
        self.tears_before[moment.volatile.end] - self.tears_before[moment.volatile.start]
    }

    fn in_flight_tears(&self, moment: &Moment) -> Vec<Tear> {
        let change = moment.in_flight.and_then(|at| self.recording.entries[at].change());
        change.map_or_else(Vec::new, |change| tears_of(change, self.seed.derive(moment.first_state)))
    }

    fn find(&self, state: StateNumber) -> Option<(&Moment, Choice)> {
        if state.0 >= self.states {
            return None;
        }
        let after = self.moments.partition_point(|moment| moment.first_state <= state.0);
        let moment = self.moments.get(after.checked_sub(1)?)?;
        let index = state.0 - moment.first_state;
        Some((moment, self.choice(moment, index)))
    }

    /// The choice with this index among the states of a moment.
    fn choice(&self, moment: &Moment, index: u64) -> Choice {
        let volatile = moment.volatile.len();
        let subsets = subsets_of(volatile as u64);
        if index < subsets {
            return subset_choice(volatile, index, self.seed.derive(moment.first_state));
        }
        let tear = index - subsets;
        let tears = self.tears_in(moment);
        if tear < tears {
            let tear = tear + self.tears_before[moment.volatile.start];
            let at = self.tears_before.partition_point(|&before| before <= tear) - 1;
            let (nth, keeps_later) = split_context(tear - self.tears_before[at]);
            let shapes = self.volatile_change(at).map(|change| tears_of(change, self.seed));
            let tear = shapes.and_then(|shapes| shapes.get(nth).copied());
            let index = at - moment.volatile.start;
            return tear.map_or(Choice::OmitOne(index), |tear| Choice::Torn { index, tear, keeps_later });
        }
        let (nth, keeps_others) = split_context(tear - tears);
        let tear = self.in_flight_tears(moment)[nth];
        Choice::TornInFlight { tear, keeps_others }
    }

    fn volatile_change(&self, at: usize) -> Option<&Change> {
        self.recording.entries[*self.volatile.get(at)?].change()
    }

    /// What a state is; `None` past the last one.
    pub fn describe(&self, state: StateNumber) -> Option<StateDescription> {
        let (moment, choice) = self.find(state)?;
        Some(StateDescription {
            epoch: moment.epoch,
            cut_before: moment.cut_before.0,
            volatile: moment.volatile.len(),
            choice: choice.to_string(),
        })
    }

    /// The marks that the guest had set before the power went: what had been promised by then.
    pub fn marks(&self, state: StateNumber) -> Vec<Arc<str>> {
        let mut marks = self.recording.earlier_marks.clone();
        if let Some((moment, _)) = self.find(state) {
            marks.extend(marks_before(&self.recording.entries, moment.cut_before));
        }
        marks
    }

    /// Builds a state; `None` past the last one.
    pub fn build(&mut self, state: StateNumber) -> io::Result<Option<Image>> {
        let Some((moment, choice)) = self.find(state) else { return Ok(None) };
        let moment = moment.clone();
        let mut image = self.epoch_start(moment.durable_before)?;
        let fates = self.fates(&moment, choice);
        let mut fates = fates.iter();
        let entries = &self.recording.entries;
        let from = entries.partition_point(|entry| entry.number < moment.durable_before);
        let decided = entries[from..].iter().take_while(|entry| entry.number < moment.cut_before);
        for change in decided.filter_map(Entry::change) {
            let fate =
                if is_safe(change) { &Survival::Whole } else { fates.next().unwrap_or(&Survival::Lost) };
            apply(&mut image, change, fate)?;
        }
        if let (Choice::TornInFlight { tear, .. }, Some(at)) = (choice, moment.in_flight) {
            if let Some(change) = entries[at].change() {
                apply(&mut image, change, &tear.apply(change.range.sectors()))?;
            }
        }
        Ok(Some(image))
    }

    /// The image with all that is durable at the start of an epoch; walks on from the last one.
    fn epoch_start(&mut self, durable_before: EntryNumber) -> io::Result<Image> {
        let (from, mut image) = match self.epoch_start.take() {
            Some((at, image)) if at <= durable_before => (at, image),
            _ => (EntryNumber::default(), self.recording.base.snapshot()),
        };
        let entries = &self.recording.entries;
        let first = entries.partition_point(|entry| entry.number < from);
        let new = entries[first..].iter().take_while(|entry| entry.number < durable_before);
        for change in new.filter_map(Entry::change) {
            apply(&mut image, change, &Survival::Whole)?;
        }
        let start = image.snapshot();
        self.epoch_start = Some((durable_before, image));
        Ok(start)
    }

    /// The fate of each volatile change of a moment.
    fn fates(&self, moment: &Moment, choice: Choice) -> Vec<Survival> {
        let count = moment.volatile.len();
        let kept = |keeps: &dyn Fn(usize) -> bool| {
            let fate = |at| if keeps(at) { Survival::Whole } else { Survival::Lost };
            (0..count).map(fate).collect()
        };
        match choice {
            Choice::Subset { mask } => kept(&|at| mask >> at & 1 == 1),
            Choice::OmitOne(one) => kept(&|at| at != one),
            Choice::OmitTwo(one, two) => kept(&|at| at != one && at != two),
            Choice::Prefix(length) => kept(&|at| at < length),
            Choice::Suffix(length) => kept(&|at| at + length >= count),
            Choice::Drawn(seed) => {
                let changes: Vec<&Change> =
                    moment.volatile.clone().filter_map(|at| self.volatile_change(at)).collect();
                draw(seed, &changes)
            }
            Choice::Torn { index, tear, keeps_later } => {
                let mut fates: Vec<Survival> = kept(&|at| at < index || keeps_later);
                if let Some(change) = self.volatile_change(moment.volatile.start + index) {
                    fates[index] = tear.apply(change.range.sectors());
                }
                fates
            }
            Choice::TornInFlight { keeps_others, .. } => kept(&|_| keeps_others),
        }
    }
}

fn changes(entries: &[Entry]) -> impl Iterator<Item = (usize, &Change)> {
    entries.iter().enumerate().filter_map(|(at, entry)| entry.change().map(|change| (at, change)))
}

fn is_forced_and_answered(change: &Change) -> bool {
    change.completed && change.durability == Durability::Forced
}

fn apply(image: &mut Image, change: &Change, fate: &Survival) -> io::Result<()> {
    for (range, content) in fate.surviving_parts(change) {
        image.write(range, content)?;
    }
    Ok(())
}

/// The tears of one change.
fn tears_of(change: &Change, seed: Seed) -> Vec<Tear> {
    let scattered = Tear::Scattered(seed.derive(change.range.start()));
    match (can_tear(change), change.range.sectors()) {
        (false, _) => Vec::new(),
        (true, 2) => vec![Tear::FirstSectorOnly, Tear::AllButFirst],
        (true, _) => vec![Tear::FirstSectorOnly, Tear::AllButFirst, Tear::AllButLast, scattered],
    }
}

/// Which tear, and in which of its two contexts.
fn split_context(index: u64) -> (usize, bool) {
    ((index / TEAR_CONTEXTS) as usize, index % TEAR_CONTEXTS == 1)
}

/// How many states, tears aside, a moment with so many volatile changes has.
fn subsets_of(volatile: u64) -> u64 {
    if volatile <= ALL_SUBSETS_UP_TO as u64 {
        return 1 << volatile;
    }
    let pairs = volatile * (volatile - 1) / 2;
    let prefixes = volatile - 1;
    let suffixes = volatile - 3;
    volatile + pairs + prefixes + suffixes + RANDOM_SUBSETS
}

/// The subset with this index. Prefixes and suffixes that lack no more than two changes are
/// omissions already; the whole is the longest prefix.
fn subset_choice(volatile: usize, index: u64, seed: Seed) -> Choice {
    if volatile <= ALL_SUBSETS_UP_TO {
        return Choice::Subset { mask: index };
    }
    let mut at = index as usize;
    if at < volatile - 1 {
        return Choice::Prefix(if at == volatile - 2 { volatile } else { at });
    }
    at -= volatile - 1;
    if at < volatile - 3 {
        return Choice::Suffix(at + 1);
    }
    at -= volatile - 3;
    if at < volatile {
        return Choice::OmitOne(at);
    }
    at -= volatile;
    for one in 0..volatile - 1 {
        let pairs = volatile - 1 - one;
        if at < pairs {
            return Choice::OmitTwo(one, one + 1 + at);
        }
        at -= pairs;
    }
    Choice::Drawn(seed.derive(at as u64))
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Subset { mask } => write!(f, "subset {mask:#b}"),
            Self::OmitOne(one) => write!(f, "all but {one}"),
            Self::OmitTwo(one, two) => write!(f, "all but {one} and {two}"),
            Self::Prefix(length) => write!(f, "first {length}"),
            Self::Suffix(length) => write!(f, "last {length}"),
            Self::Drawn(seed) => write!(f, "drawn from seed {seed}"),
            Self::Torn { index, tear, keeps_later } => {
                let later = if keeps_later { "all others kept" } else { "later ones lost" };
                write!(f, "{index} torn ({tear}), {later}")
            }
            Self::TornInFlight { tear, keeps_others } => {
                let others = if keeps_others { "kept" } else { "lost" };
                write!(f, "forced write in flight torn ({tear}), volatile ones {others}")
            }
        }
    }
}

impl fmt::Display for Tear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstSectorOnly => f.write_str("first sector only"),
            Self::AllButFirst => f.write_str("all but the first sector"),
            Self::AllButLast => f.write_str("all but the last sector"),
            Self::Scattered(seed) => write!(f, "sectors from seed {seed}"),
        }
    }
}
