// SPDX-License-Identifier: GPL-2.0

//! The journal of a mounted filesystem: core's state machine behind one sleeping mutex, and who waits for what.
//!
//! *Room.* A handle is let in when the ring has room for its worst case ([`Mounted::reserve`]). Who finds none asks for a commit and
//! a checkpoint and waits, first come first served; the tail moves, or a handle closes, and the first in the queue looks again.
//! Handles of I/O end and of orphans have a part of the ring to themselves and do not queue: others wait for what they do.
//!
//! *Durability.* Who must wait leads a commit himself, or waits for the one who does ([`commit`]). The tail is moved by the
//! checkpointer ([`checkpoint`]). Both have a thread as well ([`workers`]), which exists from the mount on and so needs no memory to
//! be started when there is none.
//!
//! Locks: `state` is the journal mutex: behind all inode and group locks, before nothing but leaves. It is only taken in a memory
//! scope, since who frees caches may wait for a page whose I/O end wants it.

#![forbid(unsafe_code)]

use crate::mounted::Mounted;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::journal::flush::FlushMark;
use cairnfs_core::journal::ring::{Class, Reservation};
use cairnfs_core::journal::Journal;
use cairnfs_core::memory::{OrderedMap, Owned};
use cairnfs_linux::event::Event;
use cairnfs_linux::memory_scope::without_filesystem_reclaim;
use core::sync::atomic::Ordering;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod headers;
pub(crate) mod orphans;
pub(crate) mod workers;

use commit::Gathering;

/// What the journal mutex guards.
pub(crate) struct State {
    pub(crate) journal: Owned<Journal>,
    /// Who waits for room in turn, by the order of coming.
    queue: OrderedMap<u64, ()>,
    /// How many wait for room, out of turn ones included.
    waiting: u64,
    next_ticket: u64,
    /// Somebody is committing or flushing.
    pub(crate) leading: bool,
    pub(crate) gathering: Gathering,
    /// When the newest write of any file's contents completed.
    pub(crate) newest_data: Option<FlushMark>,
}

/// The journal, and the events of those who wait for it.
#[pin_data]
pub(crate) struct Journaling {
    #[pin]
    state: Mutex<State>,
    /// The tail has moved, a handle has closed, or the journal has failed.
    #[pin]
    pub(crate) room: Event,
    /// A commit or flush has ended.
    #[pin]
    pub(crate) committed: Event,
    /// Somebody has come who waits for the next commit.
    #[pin]
    pub(crate) arrived: Event,
    /// The commit thread has something to do.
    #[pin]
    pub(crate) commit_wanted: Event,
    /// The checkpoint thread has something to do.
    #[pin]
    pub(crate) checkpoint_wanted: Event,
    /// The orphan thread has something to do.
    #[pin]
    pub(crate) orphans_wanted: Event,
}

impl Journaling {
    /// A journal that nobody waits for.
    pub(crate) fn new(journal: Owned<Journal>) -> impl PinInit<Self> {
        let state = State {
            journal,
            queue: OrderedMap::new(),
            waiting: 0,
            next_ticket: 0,
            leading: false,
            gathering: Gathering::default(),
            newest_data: None,
        };
        pin_init!(Self {
            state <- new_mutex!(state, "Journaling::state"),
            room <- Event::new(),
            committed <- Event::new(),
            arrived <- Event::new(),
            commit_wanted <- Event::new(),
            checkpoint_wanted <- Event::new(),
            orphans_wanted <- Event::new(),
        })
    }

    /// Works under the journal mutex.
    pub(crate) fn locked<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        without_filesystem_reclaim(|| action(&mut self.state.lock()))
    }
}

impl State {
    /// Whether the caller, who may have a ticket, is the first in the queue.
    fn is_first(&self, ticket: Option<u64>) -> bool {
        match (self.queue.first(), ticket) {
            (None, _) => true,
            (Some((first, ())), Some(ticket)) => first == ticket,
            (Some(_), None) => false,
        }
    }

    /// Room, if the caller is the first and there is some; [`Error::JournalFull`], and a ticket for the queue, if not.
    fn try_reserve(&mut self, bytes: u64, class: Class, ticket: &mut Option<u64>) -> Result<Reservation> {
        // The reserved class never queues: those in the queue may be waiting for what it does.
        if class == Class::Reserved {
            return self.journal.reserve(bytes, class);
        }
        self.journal.check()?;
        let reserved =
            if self.is_first(*ticket) { self.journal.reserve(bytes, class) } else { Err(Error::JournalFull) };
        if reserved == Err(Error::JournalFull) && ticket.is_none() {
            *ticket = Some(self.enqueue()?);
        }
        reserved
    }

    /// A place at the end of the queue.
    fn enqueue(&mut self) -> Result<u64> {
        let ticket = self.next_ticket;
        self.queue.insert(ticket, ())?;
        self.next_ticket = ticket.saturating_add(1);
        Ok(ticket)
    }
}

impl Mounted {
    /// Room for a handle that needs `bytes` at worst. Waits until there is some; a fatal signal ends the wait with
    /// [`Error::Interrupted`], since nothing has been changed yet.
    pub(crate) fn reserve(&self, bytes: u64, class: Class) -> Result<Reservation> {
        let mut ticket = None;
        let outcome = loop {
            // Before the look, and counted within it: whatever changes afterwards ends the wait.
            let seen = self.journaling.room.now();
            let outcome = self.journaling.locked(|state| {
                let outcome = state.try_reserve(bytes, class, &mut ticket);
                if outcome == Err(Error::JournalFull) {
                    state.waiting = state.waiting.saturating_add(1);
                }
                outcome
            });
            if outcome != Err(Error::JournalFull) {
                break outcome;
            }
            self.counters.room_waits.add(1);
            self.make_room();
            let waited = match class {
                Class::Normal => self.journaling.room.wait_killable(seen),
                Class::Reserved => {
                    self.journaling.room.wait(seen);
                    Ok(())
                }
            };
            self.journaling.locked(|state| state.waiting = state.waiting.saturating_sub(1));
            if waited.is_err() {
                break Err(Error::Interrupted);
            }
        };
        if let Some(ticket) = ticket {
            self.journaling.locked(|state| state.queue.remove(ticket));
            // The next one in the queue is first now.
            self.journaling.room.signal();
        }
        outcome
    }

    /// Asks for what makes room: a commit, so that what is closed may go home, and a checkpoint, which moves the tail.
    fn make_room(&self) {
        self.journaling.commit_wanted.signal();
        self.journaling.checkpoint_wanted.signal();
    }

    /// A handle has closed, or was dropped: what it had reserved and not used is free.
    pub(crate) fn handle_ended(&self) {
        let high_water_pct = self.settings.journal_high_water_pct();
        let (is_awaited, wants_commit, wants_checkpoint) = self.journaling.locked(|state| {
            let journal = &state.journal;
            (state.waiting > 0, journal.wants_commit(), journal.wants_checkpoint(high_water_pct))
        });
        if is_awaited {
            self.journaling.room.signal();
        }
        if wants_commit {
            self.journaling.commit_wanted.signal();
        }
        if wants_checkpoint {
            self.journaling.checkpoint_wanted.signal();
        }
    }

    /// Latches `error`: nothing is written any more, and everybody who waits learns it. The first reason is printed.
    pub(crate) fn shut_down(&self, error: Error) {
        let first = self.journaling.locked(|state| {
            state.journal.fail(error);
            state.journal.error().unwrap_or(error)
        });
        if !self.reported.swap(true, Ordering::AcqRel) {
            pr_err!("{}: shut down, nothing is written any more: {first}\n", self.name());
        }
        self.journaling.room.signal();
        self.journaling.committed.signal();
    }
}
