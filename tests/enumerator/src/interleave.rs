// SPDX-License-Identifier: GPL-2.0

//! Interleavings: every order, up to a depth, of the steps of a few handles, commits and checkpoints, with a power cut at
//! each.
//!
//! A workload runs one operation at a time, and its commits and checkpoints nearly so. Here the journal, a state machine
//! without I/O, is driven step by step ([`machine`]): handles open and close, a commit is swapped out, submitted, completes
//! in any order of its segments, flushes before and behind; units go home under each other's and the commit's feet; headers are
//! written meanwhile. A depth-first search ([`search`]) takes all orders of steps that the locks and core itself allow.
//! A state that was met before, by a hash of disk and journal, is not gone on from again: what follows has been seen. States
//! cannot be copied, so each order is executed from its beginning.
//!
//! Whenever writes are put under way, or something is promised, the power is cut: each subset of what is not durable, and
//! torn writes, are recovered and judged as those of a workload are.

mod checkpoint;
mod commit;
mod machine;
mod medium;
mod prepared;
mod scripts;
mod search;
mod step;
mod threads;

use crate::states::Choice;
use cairnfs_core::platform::Platform;
use cairnfs_device::StdPlatform;
use std::time::{Duration, Instant};

pub use medium::Request;
pub use scripts::{Begun, Operation, Script, SCRIPTS};
pub use step::Step;

use medium::Flusher;
use prepared::Prepared;
use search::Search;

/// A machine on which no time passes, so that the order of steps shows in nothing but what they do.
pub(crate) struct StillPlatform;

impl Platform for StillPlatform {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        StdPlatform::new().crc32c(crc, bytes)
    }

    fn now_ns(&self) -> u64 {
        1_000_000_000
    }

    fn random(&self, out: &mut [u8]) {
        out.fill(0x35);
    }
}

/// An order of steps of a script, and perhaps a cut behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Which of [`SCRIPTS`].
    pub script: usize,
    /// Whether the disk has FUA.
    pub force_unit_access: bool,
    /// The steps.
    pub steps: Vec<Step>,
    /// What the cut leaves.
    pub cut: Option<Choice>,
}

/// A schedule with which something is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The schedule.
    pub schedule: Schedule,
    /// What is wrong.
    pub what: String,
}

/// What a search has met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Orders that were executed to their end, to the depth, or to a state that was met before.
    pub schedules: u64,
    /// Distinct states of journal and disk.
    pub states: u64,
    /// Distinct crash states, with what had been promised.
    pub crash_states: u64,
    /// Orders that ended because nothing was left to do.
    pub ended: u64,
    /// The steps of the longest order, without those that every one begins with.
    pub longest: usize,
}

/// What became of one script.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Which of [`SCRIPTS`].
    pub script: usize,
    /// Whether the disk has FUA.
    pub force_unit_access: bool,
    /// What was met.
    pub counts: Counts,
    /// Whether all orders were tried.
    pub is_whole: bool,
    /// What was wrong first.
    pub violation: Option<Violation>,
}

/// Explores all scripts, with and without FUA, up to `depth` steps.
pub fn explore(depth: usize, deadline: Instant, explored: &mut dyn FnMut(&Explored)) {
    for (script, what) in SCRIPTS.iter().enumerate() {
        for force_unit_access in [false, true] {
            let mut search = Search::new(depth + what.deeper, deadline);
            let found = Prepared::new(what, force_unit_access)
                .map_err(|what| (Vec::new(), None, what))
                .and_then(|prepared| search.explore(&prepared));
            let (is_whole, violation) = match found {
                Ok(is_whole) => (is_whole, None),
                Err((steps, cut, what)) => {
                    let schedule = Schedule { script, force_unit_access, steps, cut };
                    (false, Some(Violation { schedule, what }))
                }
            };
            let counts = search.counts();
            explored(&Explored { script, force_unit_access, counts, is_whole, violation });
        }
    }
}

/// Executes one schedule again, and judges its cut.
pub fn judge_again(schedule: &Schedule) -> Result<(), String> {
    let prepared = prepare(schedule)?;
    Search::new(schedule.steps.len(), Instant::now()).replay(
        &prepared,
        &schedule.steps,
        schedule.cut.as_ref(),
    )
}

/// Leaves out steps while something stays wrong.
pub fn shrink(violation: &Violation, time: Duration) -> Violation {
    let deadline = Instant::now() + time;
    let mut small = violation.clone();
    let Ok(prepared) = prepare(&small.schedule) else { return small };
    let mut at = small.schedule.steps.len();
    while at > 0 && Instant::now() < deadline {
        at -= 1;
        let mut steps = small.schedule.steps.clone();
        if at >= steps.len() {
            continue;
        }
        steps.remove(at);
        let mut search = Search::new(steps.len(), deadline);
        if let Err((steps, cut, what)) = search.judge_all(&prepared, &steps) {
            small = Violation { schedule: Schedule { steps, cut, ..small.schedule }, what };
            at = small.schedule.steps.len();
        }
    }
    small
}

fn prepare(schedule: &Schedule) -> Result<Prepared, String> {
    let script = SCRIPTS.get(schedule.script).ok_or("there is no such script")?;
    Prepared::new(script, schedule.force_unit_access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_orders_of_a_few_steps_are_right() {
        let mut schedules = 0;
        let deadline = Instant::now() + Duration::from_secs(600);
        explore(6, deadline, &mut |explored| {
            assert!(explored.violation.is_none(), "{explored:?}");
            assert!(explored.is_whole);
            schedules += explored.counts.schedules;
        });
        assert!(schedules > 1000, "{schedules}");
    }

    #[test]
    fn steps_have_numbers() {
        for number in 0..=u8::MAX {
            if let Some(step) = Step::decode(number) {
                assert_eq!(step.encode(), number);
            }
        }
    }
}
