//! The log: every change, flush and mark of one disk, in the order in which they completed.
//!
//! A flush promises what had *completed* when it was received, not what happened to be in the
//! disk's queue. So a flush entry carries the number of the first entry that it does not cover, and
//! a write still unanswered when the flush arrived stays volatile through it. An epoch ends at each
//! completed flush; what that flush did not cover belongs to the next epoch as well.

use std::sync::Arc;

use crate::extent_map::Content;
use crate::units::{EntryNumber, SectorRange};

/// What kind of request a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Data, possibly torn by a power cut.
    Write,
    /// A request to write zeroes; like a write.
    WriteZeroes,
    /// A discard; reads as zeroes once done, and may be lost as a whole.
    Discard,
}

/// When a change is safe from a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once a flush covers it.
    Volatile,
    /// Once it is answered (force unit access).
    Forced,
}

/// A change of some sectors.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which sectors.
    pub range: SectorRange,
    /// What they hold afterwards.
    pub content: Content,
    /// What was asked for.
    pub kind: ChangeKind,
    /// What was promised, and kept: a lie about forced access is volatile here.
    pub durability: Durability,
    /// Whether the guest was told that it is done. Only the last moment before a power cut leaves
    /// changes that it was not told about.
    pub completed: bool,
}

impl Change {
    /// Whether a power cut after its completion may lose it.
    pub fn is_volatile(&self) -> bool {
        self.durability == Durability::Volatile
    }
}

/// One event.
#[derive(Clone, Debug)]
pub enum Event {
    /// Sectors changed.
    Change(Change),
    /// A flush was answered.
    Flush {
        /// The first entry that it does not make durable.
        covers_before: EntryNumber,
        /// False if the disk lied: then it makes nothing durable.
        honest: bool,
    },
    /// The guest has something to remember: a call returned, a phase began.
    Mark(Arc<str>),
}

/// An event and its place.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place; gaps are where history was dropped.
    pub number: EntryNumber,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// The change, if it is one.
    pub fn change(&self) -> Option<&Change> {
        match &self.event {
            Event::Change(change) => Some(change),
            Event::Flush { .. } | Event::Mark(_) => None,
        }
    }
}

/// A log under construction.
///
/// `settled` entries can no longer be lost: they are kept only for a recording, marks always.
/// `pending` ones are at the mercy of the next power cut.
#[derive(Debug, Default)]
pub struct EpochLog {
    settled: Vec<Entry>,
    pending: Vec<Entry>,
    next_number: EntryNumber,
    keeps_history: bool,
}

impl EpochLog {
    /// The number that the next entry gets.
    pub fn next_number(&self) -> EntryNumber {
        self.next_number
    }

    /// Appends an event.
    pub fn push(&mut self, event: Event) -> EntryNumber {
        let number = self.next_number;
        self.pending.push(Entry { number, event });
        self.next_number = number.next();
        number
    }

    /// What a power cut now would decide about, with the marks in between.
    pub fn pending(&self) -> &[Entry] {
        &self.pending
    }

    /// The changes among the pending entries.
    pub fn pending_changes(&self) -> impl Iterator<Item = &Change> {
        self.pending.iter().filter_map(Entry::change)
    }

    /// Settles every pending entry before `covers_before`; `apply` sees the changes among them in
    /// order, on their way to the medium.
    pub fn settle<E>(
        &mut self,
        covers_before: EntryNumber,
        mut apply: impl FnMut(&Change) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut covered = self.pending.partition_point(|entry| entry.number < covers_before);
        // Flushes and marks have nothing to lose: they settle with what is before them.
        covered += self.pending[covered..].iter().take_while(|entry| entry.change().is_none()).count();
        for change in self.pending[..covered].iter().filter_map(Entry::change) {
            apply(change)?;
        }
        let keeps_history = self.keeps_history;
        let is_kept = |entry: &Entry| keeps_history || matches!(entry.event, Event::Mark(_));
        self.settled.extend(self.pending.drain(..covered).filter(is_kept));
        Ok(())
    }

    /// Forgets what is settled, and keeps (or stops keeping) what settles next. Returns the marks
    /// among what it forgot.
    pub fn truncate(&mut self, keeps_history: bool) -> Vec<Arc<str>> {
        self.keeps_history = keeps_history;
        marks_before(&std::mem::take(&mut self.settled), self.next_number)
    }

    /// Forgets everything, pending entries too, but goes on counting.
    pub fn clear(&mut self) {
        self.keeps_history = false;
        self.settled.clear();
        self.pending.clear();
    }

    /// Whether settled changes are kept.
    pub fn keeps_history(&self) -> bool {
        self.keeps_history
    }

    /// All entries that are still known, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.settled.iter().chain(&self.pending)
    }

    /// The marks that are still known, in order.
    pub fn marks(&self) -> Vec<Arc<str>> {
        marks_before(self.entries(), self.next_number)
    }
}

/// The marks that stand before `number`.
pub fn marks_before<'a>(entries: impl IntoIterator<Item = &'a Entry>, number: EntryNumber) -> Vec<Arc<str>> {
    let mark = |entry: &Entry| match &entry.event {
        Event::Mark(text) => Some(Arc::clone(text)),
        Event::Change(_) | Event::Flush { .. } => None,
    };
    entries.into_iter().take_while(|entry| entry.number < number).filter_map(mark).collect()
}
