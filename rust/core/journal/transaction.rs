// SPDX-License-Identifier: GPL-2.0

//! Transactions: the running one, which collects what handles close, and those that have been swapped out of it.
//!
//! A transaction passes through: running; *logged*, its records being written or written but perhaps lost by a power cut; *stable*,
//! known durable. It is needed until every object in it has gone home, or is in a newer stable transaction, or was freed.

use crate::format::journal::Totals;
use crate::journal::flush::FlushMark;
use crate::journal::object::ObjectKey;
use crate::journal::ring::Place;
use crate::memory::{Buffer, OrderedMap};
use crate::space::free_extents::InsertReservation;
use crate::units::{BlockNo, Sequence, TransactionId};

/// Blocks freed by a transaction: not to be handed out before it is stable (I3).
pub struct Freed {
    /// How many blocks.
    pub blocks: u64,
    /// Whether it was a metadata block: then it is one block, and revoked.
    pub metadata: bool,
    /// The memory with which the group's index takes the blocks back.
    pub release: InsertReservation,
}

/// The transaction that handles close into.
pub struct Running {
    /// Its number.
    pub id: TransactionId,
    /// The objects that it changes, with the bytes counted for each.
    pub objects: OrderedMap<ObjectKey, u64>,
    /// Metadata blocks that it frees.
    pub revokes: OrderedMap<BlockNo, ()>,
    /// All blocks that it frees, by their first.
    pub freed: OrderedMap<BlockNo, Freed>,
    /// What was done, by order of closing.
    pub notes: OrderedMap<u64, Buffer>,
    /// Bytes counted for all items.
    pub bytes: u64,
    /// The newest mark of file contents that its mappings need (the flush rule for transactions).
    pub data_mark: Option<FlushMark>,
    /// Handles that have closed into it.
    pub handles: u64,
}

impl Running {
    /// An empty one.
    pub fn new(id: TransactionId) -> Self {
        Self {
            id,
            objects: OrderedMap::new(),
            revokes: OrderedMap::new(),
            freed: OrderedMap::new(),
            notes: OrderedMap::new(),
            bytes: 0,
            data_mark: None,
            handles: 0,
        }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.handles == 0
    }
}

/// A transaction whose records have been made.
pub struct Logged {
    /// Where its first record stands, wrap records before it included.
    pub first: Place,
    /// Its last record.
    pub last_sequence: Sequence,
    /// Its objects, until it is stable.
    pub objects: OrderedMap<ObjectKey, u64>,
    /// The blocks that it freed, until it is stable.
    pub freed: OrderedMap<BlockNo, Freed>,
    /// The totals that its records state.
    pub totals: Totals,
    /// Objects that need it, once it is stable.
    pub pins: u64,
}
