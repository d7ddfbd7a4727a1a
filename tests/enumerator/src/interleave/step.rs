// SPDX-License-Identifier: GPL-2.0

//! The steps of a schedule, and their numbers in ids.

use super::medium::Request;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A thread goes on: opens a handle and does its work, closes it, submits contents, or returns from `fsync`.
    Thread(u8),
    /// A request completes.
    Complete(Request),
    /// A durable commit begins: the running transaction is swapped out.
    Swap,
    /// The same, and nobody waits for it.
    SwapLazily,
    /// Its records are submitted; with a flush in front of the first, if the commit wants that.
    Submit,
    /// The flush in front has ended, and its record is under way.
    EndPreFlush,
    /// All records have completed: the flush behind them is submitted.
    StartFlush,
    /// It has ended.
    EndFlush,
    /// The commit is over: waiters wake, what was freed goes back.
    EndCommit,
    /// The checkpoint submits the next unit.
    StartHome,
    /// It submits a flush for the units that have completed.
    StartHomeFlush,
    /// That has ended: the units are settled.
    EndHomeFlush,
    /// A header is submitted.
    StartHeader,
    /// Clean blocks are forgotten.
    Evict,
}

/// Threads, segments and units that a number can tell apart.
const SLOTS: u8 = 16;

impl Step {
    /// The step's number.
    pub const fn encode(self) -> u8 {
        match self {
            Self::Swap => 0,
            Self::SwapLazily => 1,
            Self::Submit => 2,
            Self::EndPreFlush => 3,
            Self::StartFlush => 4,
            Self::EndFlush => 5,
            Self::EndCommit => 6,
            Self::StartHome => 7,
            Self::StartHomeFlush => 8,
            Self::EndHomeFlush => 9,
            Self::StartHeader => 10,
            Self::Evict => 11,
            Self::Complete(Request::Header) => 12,
            Self::Thread(thread) => SLOTS + thread % SLOTS,
            Self::Complete(Request::Data(thread)) => 2 * SLOTS + thread % SLOTS,
            Self::Complete(Request::Segment(segment)) => 3 * SLOTS + segment % SLOTS,
            Self::Complete(Request::Home(unit)) => 4 * SLOTS + unit % SLOTS,
        }
    }

    /// The step with this number.
    pub const fn decode(number: u8) -> Option<Self> {
        let slot = number % SLOTS;
        Some(match (number / SLOTS, number) {
            (_, 0) => Self::Swap,
            (_, 1) => Self::SwapLazily,
            (_, 2) => Self::Submit,
            (_, 3) => Self::EndPreFlush,
            (_, 4) => Self::StartFlush,
            (_, 5) => Self::EndFlush,
            (_, 6) => Self::EndCommit,
            (_, 7) => Self::StartHome,
            (_, 8) => Self::StartHomeFlush,
            (_, 9) => Self::EndHomeFlush,
            (_, 10) => Self::StartHeader,
            (_, 11) => Self::Evict,
            (_, 12) => Self::Complete(Request::Header),
            (1, _) => Self::Thread(slot),
            (2, _) => Self::Complete(Request::Data(slot)),
            (3, _) => Self::Complete(Request::Segment(slot)),
            (4, _) => Self::Complete(Request::Home(slot)),
            _ => return None,
        })
    }
}
